//! The model file that `lanekeeper train` writes: one JSON document that describes itself, with a
//! checksum over the rest.
//!
//! It holds the features, what becomes of each on its way, and what predicts from that. The checksum
//! (SHA-256, by RustCrypto's `sha2`) guards against accidents. Validation guards against malice and
//! runs whatever the checksum says. Files are written atomically.

mod assembly;
mod details;
pub mod features;
pub mod neighbours;
pub mod packed;
pub mod predictor;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub use self::assembly::{COLUMNS_MAX, assemble};
use self::features::FeatureDocument;
use self::predictor::PredictorDocument;
use crate::config::ModelRequest;
use crate::models::format::{Details, Format};
use crate::models::pipeline::PipelineModel;
use crate::models::pipeline::prepared::Prepared;
use crate::models::{
    AnswerSpec, Expected, GoldenRow, Loaded, Model, ModelError, OutputSpec, Rows, Signature,
    compute,
};

/// The value of `format` in every model file.
const FORMAT: &str = "lanekeeper-model";

/// The format version that is read and written.
const FORMAT_VERSION: u32 = 2;

/// By how much a golden row's number may differ, because of another libm than the trainer's.
const TOLERANCE: f64 = 1e-9;

/// Maximum number of features or classes of a model, or of labels of a category.
pub const NAMES_MAX: usize = 10_000;

/// Maximum length of a name, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// A model file's contents.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeDocument {
    /// Always `lanekeeper-model`.
    pub format: String,
    /// Version of the format.
    pub format_version: u32,
    /// The model's name.
    pub name: String,
    /// Kebab-case name of the algorithm.
    pub algorithm: String,
    /// Its training parameters.
    pub parameters: BTreeMap<String, serde_json::Value>,
    /// The features, in order.
    pub features: Vec<FeatureDocument>,
    /// Class labels, in the order of their indices; empty for a regressor.
    pub classes: Vec<String>,
    /// Scores by name (`accuracy`, `r2`, …), measured when the model was trained.
    pub scores: BTreeMap<String, f64>,
    /// What it was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingDocument>,
    /// A row and the model's answer to it.
    pub trial: TrialDocument,
    /// Version of lanekeeper that wrote it.
    pub lanekeeper_version: String,
    /// When it was trained (RFC 3339).
    pub created: String,
    /// For each feature what becomes of it.
    pub preparation: Vec<Prepared>,
    /// What predicts from that.
    pub predictor: PredictorDocument,
    /// SHA-256 over this document with an empty checksum, in hexadecimal.
    pub checksum: String,
}

/// The training data of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingDocument {
    /// Rows.
    pub rows: u64,
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
        let importances = self.importances.as_ref();
        let sound = self.class_counts.len() == classes
            && importances.is_none_or(|all| all.len() == features);
        sound.then_some(()).ok_or_else(|| {
            "what it says of its training must hold a count for each class and an importance for each feature"
                .into()
        })
    }
}

/// The trial row in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrialDocument {
    /// One row; null for what is missing.
    pub row: Vec<Option<f64>>,
    /// A label, or a number.
    pub expected: ExpectedDocument,
}

/// The expected answer in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
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

/// Reads a model file's bytes and everything in them.
fn parse_document(bytes: &[u8]) -> Result<(NativeDocument, PipelineModel), ModelError> {
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
            "its format version is {version}, but this lanekeeper reads version {FORMAT_VERSION}; train it again"
        )));
    }
    let document: NativeDocument = serde_json::from_slice(bytes)
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

impl NativeDocument {
    /// Starts a document; [`NativeDocument::seal`] adds the checksum.
    pub fn new(
        name: String,
        algorithm: &str,
        (features, classes): (Vec<FeatureDocument>, Vec<String>),
        (preparation, predictor): (Vec<Prepared>, PredictorDocument),
        trial: TrialDocument,
        created: &str,
    ) -> Self {
        NativeDocument {
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
            lanekeeper_version: env!("CARGO_PKG_VERSION").to_owned(),
            created: created.to_owned(),
            preparation,
            predictor,
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
        /// The document without its checksum, and without a copy of anything.
        #[derive(Serialize)]
        struct Rest<'a> {
            format: &'a str,
            format_version: u32,
            name: &'a str,
            algorithm: &'a str,
            parameters: &'a BTreeMap<String, serde_json::Value>,
            features: &'a [FeatureDocument],
            classes: &'a [String],
            scores: &'a BTreeMap<String, f64>,
            training: Option<&'a TrainingDocument>,
            trial: &'a TrialDocument,
            lanekeeper_version: &'a str,
            created: &'a str,
            preparation: &'a [Prepared],
            predictor: &'a PredictorDocument,
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
            lanekeeper_version: &self.lanekeeper_version,
            created: &self.created,
            preparation: &self.preparation,
            predictor: &self.predictor,
        };
        let mut hash = Sha256::new();
        serde_json::to_writer(&mut hash, &rest)?;
        let digest = hash.finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Checks everything that serde does not, and makes the model.
    fn model(&self) -> Result<PipelineModel, ModelError> {
        check_name("the model's name", &self.name)?;
        features::check(&self.features)?;
        check_names("class label", self.classes.iter().map(String::as_str))?;
        if let Some(training) = &self.training {
            training.check(self.features.len(), self.classes.len())?;
        }
        let signature = Signature {
            features: self.features.iter().map(FeatureDocument::feature).collect(),
            output: match self.classes.len() {
                0 => OutputSpec::Numbers { width: 1 },
                1 => return Err("a classifier needs at least two classes".into()),
                _ => OutputSpec::Classes {
                    labels: self.classes.clone(),
                    has_probabilities: true,
                },
            },
        };
        let model = assemble(
            signature,
            &self.features,
            &self.preparation,
            &self.predictor,
        )?;
        self.check_trial(&model)?;
        Ok(model)
    }

    fn check_trial(&self, model: &PipelineModel) -> Result<(), ModelError> {
        let width = self.features.len();
        if self.trial.row.len() != width {
            return Err(ModelError(format!(
                "the trial row has {} values, but there are {width} features",
                self.trial.row.len()
            )));
        }
        let row = Rows::new(self.trial_row(), width).ok_or("the trial row has no values")?;
        compute::check(model, &row).map_err(|fault| {
            let text = compute::fault_text(&model.signature, &row, &fault);
            ModelError(format!("the trial row does not fit: {text}"))
        })?;
        self.expected().map(drop)
    }

    fn trial_row(&self) -> Vec<f64> {
        let value = |value: &Option<f64>| value.unwrap_or(f64::NAN);
        self.trial.row.iter().map(value).collect()
    }

    fn expected(&self) -> Result<Expected, ModelError> {
        match (&self.trial.expected, self.classes.is_empty()) {
            (ExpectedDocument::Label(label), false) if self.classes.contains(label) => {
                Ok(Expected::Label(label.clone()))
            }
            (ExpectedDocument::Number(number), true) if number.is_finite() => {
                Ok(Expected::Number(*number))
            }
            _ => Err("the trial's expected answer must be a class label of a classifier, a number of a regressor".into()),
        }
    }

    /// The one golden row of the format.
    fn golden(&self) -> Result<GoldenRow, ModelError> {
        Ok(GoldenRow {
            row: self.trial_row(),
            expected: self.expected()?,
            tolerance: TOLERANCE,
        })
    }
}

fn check_names<'a>(
    what: &str,
    names: impl ExactSizeIterator<Item = &'a str>,
) -> Result<(), ModelError> {
    if names.len() > NAMES_MAX {
        return Err(ModelError(format!(
            "there may be {NAMES_MAX} {what}s, but there are {}",
            names.len()
        )));
    }
    check_unique(what, names)
}

fn check_unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ModelError> {
    let mut seen = HashSet::new();
    for name in names {
        check_name(what, name)?;
        if !seen.insert(name) {
            return Err(ModelError(format!("the {what} {name:?} occurs twice")));
        }
    }
    Ok(())
}

/// Checks a name of anything in a model file.
///
/// # Errors
///
/// It is empty, too long, or has control characters.
pub fn check_name(what: &str, name: &str) -> Result<(), ModelError> {
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
    use super::predictor::{ForestAnswer, ForestDocument, LinearDocument};
    use super::*;
    use crate::models::embedded;
    use crate::models::pipeline::prepared::Scaling;
    use proptest::prelude::*;

    fn edited(edit: impl FnOnce(&mut serde_json::Value)) -> Vec<u8> {
        let mut value: serde_json::Value = serde_json::from_str(embedded::JSON).unwrap();
        edit(&mut value);
        value.to_string().into_bytes()
    }

    /// Gives an edited file a correct checksum, as a hostile author would.
    fn resealed(edit: impl FnOnce(&mut NativeDocument)) -> Vec<u8> {
        let mut document: NativeDocument = serde_json::from_str(embedded::JSON).unwrap();
        edit(&mut document);
        document.seal().unwrap()
    }

    fn forest(document: &mut NativeDocument) -> &mut ForestDocument {
        match &mut document.predictor {
            PredictorDocument::Forest(forest) => forest,
            other => panic!("{other:?}"),
        }
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
                edited(|file| file["format_version"] = 1.into()),
                "format version is 1",
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
        type Edit = fn(&mut NativeDocument);
        let table: &[(&str, Edit, &str)] = &[
            (
                "a cycle in a tree",
                |file| forest(file).children.0[0] = 0,
                "two parents, or is its own ancestor",
            ),
            (
                "a child beyond the tree",
                |file| forest(file).children.0[1] = 1 << 20,
                "is a child",
            ),
            (
                "fewer features than splits use",
                |file| {
                    file.features.truncate(1);
                    file.preparation.truncate(1);
                    file.trial.row.truncate(1);
                    file.training = None;
                },
                "splits on feature",
            ),
            (
                "a leaf more",
                |file| forest(file).leaves.0.extend([0.0, 0.0, 1.0]),
                "do not fit one another",
            ),
            (
                "a tree more",
                |file| forest(file).sizes.0.push(1),
                "each with an output",
            ),
            (
                "a leaf of no width",
                |file| forest(file).leaf_width = 0,
                "each with an output",
            ),
            (
                "a threshold that is no number",
                |file| forest(file).thresholds.0[0] = f64::NAN,
                "threshold must be a number",
            ),
            (
                "another answer",
                |file| forest(file).answer = ForestAnswer::Logistic,
                "does not fit the number of classes",
            ),
            (
                "a preparation less",
                |file| file.preparation.truncate(1),
                "does not fit the feature",
            ),
            (
                "categories of a number",
                |file| {
                    file.preparation[0] = Prepared::Numbers {
                        width: 1,
                        table: vec![0.0; 3],
                    };
                },
                "does not fit the feature",
            ),
            (
                "a division by 0",
                |file| {
                    file.preparation[0] = Prepared::Number(Scaling {
                        scale: 0.0,
                        ..Scaling::NONE
                    });
                },
                "does not fit the feature",
            ),
            (
                "a short trial row",
                |file| file.trial.row.truncate(1),
                "the trial row has 1 values",
            ),
            (
                "a trial row that lacks a value",
                |file| file.trial.row[0] = None,
                "the trial row does not fit",
            ),
            (
                "an unknown expected label",
                |file| file.trial.expected = ExpectedDocument::Label("tulip".to_owned()),
                "expected answer",
            ),
            (
                "two features of one name",
                |file| file.features[1].name = "sepal_length".to_owned(),
                "twice",
            ),
            (
                "a name with a line end",
                |file| file.name = "a\nb".to_owned(),
                "control characters",
            ),
            (
                "an empty label",
                |file| file.classes[0].clear(),
                "1 to 256 bytes",
            ),
            (
                "a range that is none",
                |file| file.features[0].range = Some([2.0, 1.0]),
                "two numbers in order",
            ),
            (
                "no classes",
                |file| {
                    file.classes.clear();
                    file.training = None;
                    file.trial.expected = ExpectedDocument::Number(1.0);
                },
                "each with an output",
            ),
        ];
        for (name, edit, expected) in table {
            let error = parse_document(&resealed(edit)).map(|_| ()).unwrap_err();
            assert!(
                error.0.contains("it is invalid") && error.0.contains(expected),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn weights_that_do_not_fit_are_refused() {
        let linear = |weights: usize, intercepts: usize, first: f64| {
            resealed(|file| {
                let mut weights = vec![0.5; weights];
                weights[0] = first;
                file.predictor = PredictorDocument::Linear(LinearDocument {
                    weights,
                    intercepts: vec![0.0; intercepts],
                });
            })
        };
        assert!(parse_document(&linear(12, 3, 1.0)).is_ok());
        for (weights, intercepts) in [(11, 3), (12, 2), (4, 1)] {
            let error = parse_document(&linear(weights, intercepts, 1.0))
                .map(drop)
                .unwrap_err();
            assert!(error.0.contains("3 finite intercepts"), "{error}");
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
            node in 0usize..400,
            child: u32,
            feature in 0u32..6,
            near in 0u32..12,
            is_near: bool,
        ) {
            let bytes = resealed(|file| {
                let forest = forest(file);
                let place = node % forest.children.0.len();
                forest.children.0[place] = if is_near { near } else { child };
                forest.features.0[node % 7] = if feature == 5 { u32::MAX } else { feature };
            });
            if let Ok((_, model)) = parse_document(&bytes) {
                let rows = Rows::new(vec![5.1, 3.5, 1.4, 0.2, 6.0, 3.0, 4.5, 1.5], 4).unwrap();
                prop_assert!(model.predict(&rows).is_ok());
            }
        }
    }
}
