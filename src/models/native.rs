//! The model file: one JSON document that describes itself, with a checksum over the rest.
//!
//! The checksum (SHA-256, by RustCrypto's `sha2`) guards against accidents. Validation guards
//! against malice and runs whatever the checksum says. Files are written atomically.

mod details;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::config::ModelRequest;
use crate::models::estimator::{self, Estimator, Probabilities};
use crate::models::format::{Details, Format};
use crate::models::{
    AnswerSpec, Expected, GoldenRow, Loaded, Model, ModelError, Output, OutputSpec, PredictError,
    RowFault, Rows, Signature,
};

/// The value of `format` in every model file.
const FORMAT: &str = "lanekeeper-model";

/// The format version that is read and written.
const FORMAT_VERSION: u32 = 1;

/// The smartcore version that serializes estimators.
pub const SMARTCORE_VERSION: &str = "0.7.0";

/// By how much a golden row's number may differ, because of another libm than the trainer's.
const TOLERANCE: f64 = 1e-9;

/// Maximum number of features or classes of a model.
pub const NAMES_MAX: usize = 10_000;

/// Maximum length of a name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A model file's contents.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Always `lanekeeper-model`.
    pub format: String,
    /// Version of the format.
    pub format_version: u32,
    /// The model's name.
    pub name: String,
    /// Kebab-case name of the algorithm.
    pub algorithm: String,
    /// Its training parameters, by smartcore's names.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// Names of the features, in order.
    pub features: Vec<String>,
    /// Class labels, in the order of their indices; empty for a regressor.
    pub classes: Vec<String>,
    /// Scores by name (`accuracy`, `r2`, …), measured when the model was trained.
    pub scores: BTreeMap<String, f64>,
    /// What it was trained on; absent in files of the first version of lanekeeper.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingDocument>,
    /// A row and the model's answer to it.
    pub trial: TrialDocument,
    /// Version of smartcore that trained it.
    pub smartcore_version: String,
    /// Version of lanekeeper that wrote it.
    pub lanekeeper_version: String,
    /// When it was trained (RFC 3339).
    pub created: String,
    /// The estimator as smartcore serializes it.
    pub estimator: Box<RawValue>,
    /// SHA-256 over this document with an empty checksum, in hexadecimal.
    pub checksum: String,
}

/// The training data of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingDocument {
    /// Rows.
    pub rows: u64,
    /// The smallest and the largest value of each feature.
    pub feature_ranges: Vec<[f64; 2]>,
    /// Rows of each class; empty for a regressor.
    pub class_counts: Vec<u64>,
    /// Folds of the cross-validation behind the scores; 0 if there was none.
    pub folds: u32,
    /// Standard deviation of each score over the folds.
    pub score_spread: BTreeMap<String, f64>,
    /// The scores of a baseline that always answers the most frequent class, or the mean.
    pub baseline: BTreeMap<String, f64>,
    /// For each feature, by how much the first score falls on held-out rows when the feature's
    /// values are shuffled among them (permutation importance: Breiman, "Random Forests", 2001);
    /// absent if it was not measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importances: Option<Vec<f64>>,
}

impl TrainingDocument {
    fn check(&self, features: usize, classes: usize) -> Result<(), ModelError> {
        let in_order =
            |range: &[f64; 2]| range.iter().all(|end| end.is_finite()) && range[0] <= range[1];
        let sound = self.feature_ranges.len() == features
            && self.class_counts.len() == classes
            && self
                .importances
                .as_ref()
                .is_none_or(|all| all.len() == features)
            && self.feature_ranges.iter().all(in_order);
        sound.then_some(()).ok_or_else(|| {
            ModelError("what it says of its training must hold a range for each feature and a count for each class"
                .to_owned())
        })
    }
}

/// The trial row in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialDocument {
    /// One row.
    pub row: Vec<f64>,
    /// A label, or a number.
    pub expected: ExpectedDocument,
}

/// The expected answer in a file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ExpectedDocument {
    /// A classifier's.
    Label(String),
    /// A regressor's.
    Number(f64),
}

/// Our own format.
#[derive(Debug, Clone, Copy)]
pub struct Native;

impl Format for Native {
    fn recognises(&self, head: &[u8]) -> bool {
        let name = format!("{FORMAT:?}");
        head.windows(name.len()).any(|part| part == name.as_bytes())
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let (document, mut model) = parse_document(bytes)?;
        let mut golden = document.golden()?;
        let output = model
            .signature
            .output
            .clone()
            .with_labels(&request.classes)?;
        if let Expected::Label(label) = &mut golden.expected {
            let class = document.classes.iter().position(|own| own == label);
            if let Some(name) = class.and_then(|class| output.labels().get(class)) {
                label.clone_from(name);
            }
        }
        model.signature.output = output;
        let answer = AnswerSpec::of_labels(&model.signature().output);
        Ok(Loaded {
            answer,
            name: document.name,
            version: String::new(),
            algorithm: document.algorithm,
            model: Box::new(model),
            golden: vec![golden],
            example: None,
            exactness: None,
            notes: Vec::new(),
        })
    }

    fn details(&self, bytes: &[u8]) -> Result<Option<Details>, ModelError> {
        let (document, model) = parse_document(bytes)?;
        Ok(Some(details::of(&document, &model)))
    }
}

/// A model of one of smartcore's estimators.
#[derive(Debug)]
struct EstimatorModel {
    signature: Signature,
    estimator: Estimator,
}

impl Model for EstimatorModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.estimator.check(rows)
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        self.estimator.predict(rows)
    }
}

/// Reads a model file's bytes and everything in them.
fn parse_document(bytes: &[u8]) -> Result<(Document, EstimatorModel), ModelError> {
    #[derive(Deserialize)]
    struct Opening {
        format: Option<String>,
        format_version: Option<u64>,
    }
    if bytes.is_empty() {
        return Err(ModelError("it is empty".to_owned()));
    }
    let opening: Opening = serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            format!("it is truncated ({error})")
        } else {
            format!("it is not a lanekeeper model file ({error})")
        }
    })?;
    if opening.format.as_deref() != Some(FORMAT) {
        return Err(ModelError(format!(
            "it is not a lanekeeper model file (its format must be {FORMAT:?})"
        )));
    }
    if opening.format_version != Some(u64::from(FORMAT_VERSION)) {
        let version = opening
            .format_version
            .map_or_else(|| "missing".to_owned(), |version| version.to_string());
        return Err(ModelError(format!(
            "its format version is {version}, but this lanekeeper reads version {FORMAT_VERSION}"
        )));
    }
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| ModelError(format!("it is damaged ({error})")))?;
    let expected = document.computed_checksum().map_err(ModelError::of)?;
    if document.checksum != expected {
        return Err(ModelError("its checksum does not match its contents: it was altered or damaged after it was written".to_owned()));
    }
    let model = document
        .model()
        .map_err(|reason| ModelError(format!("it is invalid: {reason}")))?;
    Ok((document, model))
}

impl Document {
    /// Starts a document; [`Document::seal`] adds the checksum.
    pub fn new(
        name: String,
        algorithm: &str,
        (features, classes): (Vec<String>, Vec<String>),
        estimator: Box<RawValue>,
        trial: TrialDocument,
        created: &str,
    ) -> Self {
        Document {
            format: FORMAT.to_owned(),
            format_version: FORMAT_VERSION,
            name,
            algorithm: algorithm.to_owned(),
            parameters: BTreeMap::new(),
            features,
            classes,
            scores: BTreeMap::new(),
            training: None,
            trial,
            smartcore_version: SMARTCORE_VERSION.to_owned(),
            lanekeeper_version: env!("CARGO_PKG_VERSION").to_owned(),
            created: created.to_owned(),
            estimator,
            checksum: String::new(),
        }
    }

    /// Adds the checksum and returns the file's bytes.
    ///
    /// # Errors
    ///
    /// A number is not finite, which JSON cannot express.
    pub fn seal(mut self) -> Result<Vec<u8>, serde_json::Error> {
        self.checksum = self.computed_checksum()?;
        let mut bytes = serde_json::to_vec(&self)?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Computes the checksum over everything except itself.
    fn computed_checksum(&self) -> Result<String, serde_json::Error> {
        /// The document with an empty checksum, without copying the estimator.
        #[derive(Serialize)]
        struct Rest<'a> {
            format: &'a str,
            format_version: u32,
            name: &'a str,
            algorithm: &'a str,
            parameters: &'a BTreeMap<String, serde_json::Value>,
            features: &'a [String],
            classes: &'a [String],
            scores: &'a BTreeMap<String, f64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            training: Option<&'a TrainingDocument>,
            trial: &'a TrialDocument,
            smartcore_version: &'a str,
            lanekeeper_version: &'a str,
            created: &'a str,
            estimator: &'a RawValue,
        }
        let rest = Rest {
            format: &self.format,
            format_version: self.format_version,
            name: &self.name,
            algorithm: &self.algorithm,
            parameters: &self.parameters,
            features: &self.features,
            classes: &self.classes,
            scores: &self.scores,
            training: self.training.as_ref(),
            trial: &self.trial,
            smartcore_version: &self.smartcore_version,
            lanekeeper_version: &self.lanekeeper_version,
            created: &self.created,
            estimator: &self.estimator,
        };
        let digest = Sha256::digest(serde_json::to_vec(&rest)?);
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Checks everything that serde does not, and makes the model.
    fn model(&self) -> Result<EstimatorModel, ModelError> {
        check_name("the model's name", &self.name)?;
        check_names("feature", &self.features)?;
        if self.features.is_empty() {
            return Err(ModelError("a model needs at least one feature".to_owned()));
        }
        check_names("class label", &self.classes)?;
        let (row, width) = (&self.trial.row, self.features.len());
        if row.len() != width {
            return Err(ModelError(format!(
                "the trial row has {} values, but there are {width} features",
                row.len()
            )));
        }
        self.expected()?;
        if let Some(training) = &self.training {
            training.check(width, self.classes.len())?;
        }
        let estimator = Estimator::read(
            &self.algorithm,
            self.estimator.get(),
            width,
            self.classes.len(),
        )
        .map_err(ModelError::of)?;
        let trial =
            Rows::new(self.trial.row.clone(), width).ok_or("the trial row has no values")?;
        if !trial.values().iter().all(|value| value.is_finite()) {
            return Err(ModelError("the trial row must be finite".to_owned()));
        }
        estimator.check(&trial).map_err(|fault| {
            ModelError(format!(
                "feature {} of the trial row must be {}",
                fault.feature, fault.must_be
            ))
        })?;
        let output = if self.classes.is_empty() {
            OutputSpec::Numbers { width: 1 }
        } else {
            let algorithm = estimator::find(&self.algorithm).map_err(ModelError::of)?;
            OutputSpec::Classes {
                labels: self.classes.clone(),
                has_probabilities: algorithm.probabilities != Probabilities::None,
            }
        };
        Ok(EstimatorModel {
            signature: Signature::of_numbers(self.features.clone(), output),
            estimator,
        })
    }

    /// What the trial must answer.
    fn expected(&self) -> Result<Expected, ModelError> {
        match (&self.trial.expected, self.classes.is_empty()) {
            (ExpectedDocument::Label(label), false) if self.classes.contains(label) => {
                Ok(Expected::Label(label.clone()))
            }
            (ExpectedDocument::Number(number), true) if number.is_finite() => {
                Ok(Expected::Number(*number))
            }
            _ => Err(ModelError("the trial's expected answer must be a class label of a classifier, a number of a regressor".to_owned())),
        }
    }

    /// The one golden row of the format.
    fn golden(&self) -> Result<GoldenRow, ModelError> {
        Ok(GoldenRow {
            row: self.trial.row.clone(),
            expected: self.expected()?,
            tolerance: TOLERANCE,
        })
    }
}

fn check_names(what: &str, names: &[String]) -> Result<(), ModelError> {
    if names.len() > NAMES_MAX {
        return Err(ModelError(format!(
            "there may be {NAMES_MAX} {what}s, but there are {}",
            names.len()
        )));
    }
    let mut seen = HashSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(ModelError(format!("the {what} {name:?} occurs twice")));
        }
    }
    Ok(())
}

fn check_name(what: &str, name: &str) -> Result<(), ModelError> {
    let sound = (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control);
    if !sound {
        return Err(ModelError(format!(
            "{what} must be 1 to {NAME_BYTES_MAX} bytes without control characters"
        )));
    }
    Ok(())
}

/// Writes a file so that at any moment either the old or the new one exists, complete.
///
/// # Errors
///
/// The file system's own; nothing is left behind then.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = directory.join(name);
    let written = File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let renamed = written.and_then(|()| fs::rename(&part, path));
    if let Err(error) = renamed {
        // The unfinished file is removed; the first error is the one to report.
        let _ = fs::remove_file(&part);
        return Err(error);
    }
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::embedded;
    use proptest::prelude::*;

    fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value: serde_json::Value = serde_json::from_str(embedded::JSON).unwrap();
        edit(&mut value);
        value.to_string().into_bytes()
    }

    /// Gives an edited file a correct checksum, as a hostile author would.
    fn resealed(edit: impl FnOnce(&mut serde_json::Value)) -> Result<Vec<u8>, String> {
        let document: Document =
            serde_json::from_slice(&edited(edit)).map_err(|error| error.to_string())?;
        document.seal().map_err(|error| error.to_string())
    }

    #[test]
    fn the_version_of_smartcore_is_the_one_built_with() {
        let lock = include_str!("../../Cargo.lock");
        assert!(lock.contains(&format!(
            "name = \"smartcore\"\nversion = \"{SMARTCORE_VERSION}\"\n"
        )));
    }

    #[test]
    fn an_unsound_model_file_is_one_line() {
        let whole = embedded::JSON.as_bytes();
        let table: Vec<(&str, Vec<u8>, &str)> = vec![
            ("empty", vec![], "it is empty"),
            (
                "binary",
                vec![0xff, 0x00, 0x80],
                "not a lanekeeper model file",
            ),
            (
                "other JSON",
                b"{\"a\": 1}".to_vec(),
                "not a lanekeeper model file",
            ),
            (
                "an array",
                b"[1, 2]".to_vec(),
                "not a lanekeeper model file",
            ),
            (
                "cut in the middle",
                whole[..whole.len() / 2].to_vec(),
                "truncated",
            ),
            (
                "another version",
                edited(|file| file["format_version"] = 2.into()),
                "format version is 2",
            ),
            (
                "no version",
                edited(|file| file["format_version"] = serde_json::Value::Null),
                "version is missing",
            ),
            (
                "altered",
                edited(|file| file["name"] = "other".into()),
                "checksum does not match",
            ),
            (
                "an unknown field",
                edited(|file| file["extra"] = 1.into()),
                "damaged",
            ),
            (
                "deep nesting",
                "[".repeat(1 << 20).into_bytes(),
                "not a lanekeeper model file",
            ),
        ];
        for (name, bytes, expected) in table {
            let error = parse_document(&bytes).map(|_| ()).unwrap_err();
            assert!(
                error.0.contains(expected) && !error.0.contains('\n'),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_hostile_file_with_a_right_checksum_is_refused() {
        type Edit = fn(&mut serde_json::Value);
        let table: &[(&str, Edit, &str)] = &[
            (
                "a cycle in a tree",
                |f| f["estimator"]["trees"][0]["nodes"][0]["true_child"] = 0.into(),
                "after their parent",
            ),
            (
                "fewer features than splits use",
                |f| {
                    f["features"] = serde_json::json!(["a"]);
                    f["trial"]["row"] = serde_json::json!([1.0])
                },
                "splits on feature",
            ),
            (
                "a short trial row",
                |f| f["trial"]["row"] = serde_json::json!([1.0]),
                "the trial row has 1 values",
            ),
            (
                "an unknown expected label",
                |f| f["trial"]["expected"] = "tulip".into(),
                "expected answer",
            ),
            (
                "two features of one name",
                |f| f["features"][1] = "sepal_length".into(),
                "twice",
            ),
            (
                "a name with a line end",
                |f| f["name"] = "a\nb".into(),
                "control characters",
            ),
            (
                "an empty label",
                |f| f["classes"][0] = "".into(),
                "1 to 256 bytes",
            ),
            (
                "another algorithm",
                |f| f["algorithm"] = "svc".into(),
                "the algorithm svc cannot be served",
            ),
            (
                "no classes",
                |f| {
                    f["classes"] = serde_json::json!([]);
                    f["trial"]["expected"] = 1.0.into()
                },
                "classes",
            ),
        ];
        for (name, edit, expected) in table {
            let error = parse_document(&resealed(edit).unwrap())
                .map(|_| ())
                .unwrap_err();
            assert!(
                error.0.contains("it is invalid") && error.0.contains(expected),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let directory =
            std::env::temp_dir().join(format!("lanekeeper-file-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("model.json");
        write_atomically(&path, b"old").unwrap();
        write_atomically(&path, embedded::JSON.as_bytes()).unwrap();
        assert_eq!(fs::read(&path).unwrap(), embedded::JSON.as_bytes());
        let names = fs::read_dir(&directory).unwrap();
        assert_eq!(names.count(), 1, "nothing else is left");
        fs::remove_dir_all(&directory).unwrap();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn no_change_of_bytes_makes_the_reader_panic(at in 0usize..100_000, byte: u8, cut in 0usize..400_000) {
            let mut bytes = embedded::JSON.as_bytes().to_vec();
            let at = at % bytes.len();
            let changed = bytes[at] != byte;
            bytes[at] = byte;
            bytes.truncate(cut.max(1));
            let whole = bytes.len() == embedded::JSON.len();
            let parsed = parse_document(&bytes);
            // White space outside strings is the only change that a reader may miss.
            let blank = byte.is_ascii_whitespace() || embedded::JSON.as_bytes()[at].is_ascii_whitespace();
            prop_assert!(parsed.is_err() || (whole && (!changed || blank)));
        }

        #[test]
        fn a_node_of_any_numbers_with_a_right_checksum_is_refused_or_predicts(
            tree in 0usize..100,
            child in proptest::option::of(0usize..30),
            other in proptest::option::of(0usize..30),
            feature in 0usize..6,
            output in 0usize..5,
        ) {
            let bytes = resealed(|file| {
                let node = &mut file["estimator"]["trees"][tree]["nodes"][0];
                node["true_child"] = child.into();
                node["false_child"] = other.into();
                node["split_feature"] = feature.into();
                node["output"] = output.into();
            });
            if let Ok((_, model)) = parse_document(&bytes.unwrap()) {
                let rows = Rows::new(vec![5.1, 3.5, 1.4, 0.2, 6.0, 3.0, 4.5, 1.5], 4).unwrap();
                prop_assert!(model.predict(&rows).is_ok());
            }
        }
    }
}
