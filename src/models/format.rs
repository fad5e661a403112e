//! The formats of model files: one table, and how a file's format is found.
//!
//! A file is recognized by its content, never by its name. To add a format, write a file with an
//! implementation of [`Format`] and add a line to `FORMATS`.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::converted::Converted;
use super::import::catboost::{CatboostBinary, CatboostJson};
use super::import::lightgbm::LightGbm;
use super::import::mlflow::Directory;
use super::import::onnx::Onnx;
use super::import::sklearn::{SklearnPickle, SklearnSkops};
use super::import::xgboost::{XgboostBinary, XgboostJson, XgboostUbjson};
use super::native::Native;
use super::signature::Unseen;
use super::{
    AnswerSpec, Exactness, Feature, FeatureKind, LoadError, Loaded, ModelError, embedded, golden,
};
use crate::config::ModelRequest;

/// All formats, in the order in which they are tried.
static FORMATS: [&dyn Format; 11] = [
    &Converted,
    &Native,
    &CatboostJson,
    &XgboostJson,
    &XgboostUbjson,
    &LightGbm,
    &SklearnPickle,
    &SklearnSkops,
    &Onnx,
    &XgboostBinary,
    &CatboostBinary,
];

/// How many bytes of a file's beginning are used to recognize it.
const HEAD_BYTES: usize = 4096;

/// Maximum size of a model file, in bytes.
pub(crate) const FILE_BYTES_MAX: u64 = 1 << 30;

/// How many files an error lists.
const NAMES_SHOWN: usize = 5;

/// How many labels of a feature are shown to a person.
const LABELS_SHOWN: usize = 12;

/// The version of a model that is given none. Some clients of Triton take digits only.
pub const DEFAULT_VERSION: &str = "1";

/// What an operator should know of a model without golden rows.
pub const NO_GOLDEN_ROWS: &str =
    "it has no golden rows, so nothing holds its answers to those of the library that trained it";

/// A kind of model file.
pub trait Format: Sync {
    /// Whether a file that begins like this (its first 4 KiB) is of this format.
    fn recognises(&self, head: &[u8]) -> bool;

    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line.
    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError>;

    /// Describes a file for a person and for a program; `None` if there is no more to say than of
    /// any model.
    ///
    /// # Errors
    ///
    /// As [`Format::load`].
    fn details(&self, bytes: &[u8]) -> Result<Option<Details>, ModelError> {
        let _ = bytes;
        Ok(None)
    }
}

/// What a model file holds.
#[derive(Debug)]
pub struct Details {
    /// The model's name.
    pub name: String,
    /// Names and values, one per line; a line without a name continues the one before.
    pub lines: Vec<(&'static str, String)>,
    /// The same for programs.
    pub json: serde_json::Value,
}

/// What a feature takes, if it is more than a number.
fn described(feature: &Feature) -> Option<String> {
    let name = &feature.name;
    match &feature.kind {
        _ if feature.is_unused() => Some(format!("{name} is not used")),
        FeatureKind::Category { labels, unseen } => {
            let shown: Vec<&str> = labels
                .iter()
                .map(String::as_str)
                .take(LABELS_SHOWN)
                .collect();
            let more = match labels.len().saturating_sub(LABELS_SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let others = match unseen {
                Unseen::Refuse | Unseen::Code => "",
                Unseen::Missing => "; others count as missing",
                Unseen::Other => "; others may come",
            };
            Some(format!(
                "{name} is one of {}{more}{others}",
                shown.join(", ")
            ))
        }
        FeatureKind::WholeNumber => Some(format!("{name} is a whole number")),
        FeatureKind::YesNo => Some(format!("{name} is yes or no")),
        FeatureKind::Moment(_) => Some(format!("{name} is a date or time")),
        FeatureKind::Number => None,
    }
}

/// What a feature takes, for programs.
pub(super) fn feature_json(feature: &Feature) -> serde_json::Value {
    let (kind, labels) = match &feature.kind {
        _ if feature.is_unused() => ("unused", None),
        FeatureKind::Number => ("number", None),
        FeatureKind::WholeNumber => ("whole number", None),
        FeatureKind::YesNo => ("yes or no", None),
        FeatureKind::Moment(_) => ("date or time", None),
        FeatureKind::Category { labels, .. } => ("category", Some(&labels[..])),
    };
    json!({
        "name": feature.name,
        "kind": kind,
        "labels": labels,
        "may_be_missing": feature.may_be_missing,
    })
}

impl Details {
    /// The description of any model.
    fn of(loaded: &Loaded) -> Self {
        let signature = loaded.model.signature();
        let features: Vec<&str> = signature.names().collect();
        let labels = signature.output.labels();
        let parts = loaded.model.parts();
        let mut lines = vec![
            ("algorithm", loaded.algorithm.clone()),
            ("features", features.join(", ")),
        ];
        lines.extend(
            signature
                .features
                .iter()
                .filter_map(described)
                .map(|line| ("", line)),
        );
        if !labels.is_empty() {
            lines.push(("classes", labels.join(", ")));
        }
        lines.extend(parts.iter().map(|(what, count)| (*what, count.to_string())));
        lines.extend(
            loaded
                .exactness
                .map(|exactness| ("exactness", exactness.describe().to_owned())),
        );
        lines.push(("golden rows", loaded.golden.len().to_string()));
        lines.extend(loaded.notes.iter().map(|note| ("note", note.clone())));
        Details {
            name: loaded.name.clone(),
            lines,
            json: json!({
                "name": loaded.name,
                "algorithm": loaded.algorithm,
                "features": features,
                "inputs": signature.features.iter().map(feature_json).collect::<Vec<_>>(),
                "classes": labels,
                "parts": parts.into_iter().collect::<BTreeMap<_, _>>(),
                "exactness": loaded.exactness.map(Exactness::describe),
                "golden_rows": loaded.golden.len(),
                "notes": loaded.notes,
            }),
        }
    }
}

/// The signature's columns and the example of a directory of MLflow's.
///
/// # Errors
///
/// Its description cannot be read.
fn use_directory(path: &Path, loaded: &mut Loaded) -> Result<(), ModelError> {
    let Some(directory) = Directory::read(path)? else {
        return Ok(());
    };
    let columns = directory.columns();
    let own = loaded.model.signature();
    let is_unnamed = own
        .names()
        .enumerate()
        .all(|(place, name)| name == format!("f{place}"));
    if is_unnamed && columns.len() == own.width() {
        loaded.model.rename(&columns)?;
    }
    loaded.example = directory.example(loaded.model.signature());
    Ok(())
}

/// Gives the features the names that are asked for.
fn use_features(names: &[String], loaded: &mut Loaded) -> Result<(), ModelError> {
    let width = loaded.model.signature().width();
    if !names.is_empty() && names.len() != width {
        return Err(ModelError(format!(
            "--features must name each of {width} features, but names {}",
            names.len()
        )));
    }
    match names.is_empty() {
        true => Ok(()),
        false => loaded.model.rename(names),
    }
}

/// Loads a model, or the embedded one if no file is named.
///
/// # Errors
///
/// One line: what is wrong, where, and what would be right.
pub fn load(request: &ModelRequest) -> Result<Loaded, LoadError> {
    with_file(request, |format, bytes| {
        let mut loaded = format.load(bytes, request)?;
        if let Some(path) = &request.file {
            use_directory(path, &mut loaded)?;
        }
        use_features(&request.features, &mut loaded)?;
        if let Some(name) = &request.name {
            loaded.name.clone_from(name);
        } else if loaded.name.is_empty() {
            let file = request.file.as_deref().map(model_file).transpose()?;
            let stem = file.as_deref().and_then(Path::file_stem);
            loaded.name = stem.map_or("model".into(), |stem| stem.to_string_lossy().into_owned());
        }
        if let Some(path) = &request.golden {
            let told = |reason: ModelError| {
                ModelError(format!("its golden rows {}: {reason}", path.display()))
            };
            let rows = read_file(path, "--golden must name a readable file").map_err(told)?;
            let is_renamed = !request.classes.is_empty();
            let rows = golden::read(&rows, loaded.model.signature(), is_renamed);
            loaded.golden = rows.map_err(told)?;
            golden::try_model(&loaded).map_err(told)?;
        }
        loaded.version = match &request.version {
            Some(version) => version.clone(),
            None => DEFAULT_VERSION.to_owned(),
        };
        loaded.answer = AnswerSpec::new(request.answer, loaded.model.as_ref(), loaded.answer)?;
        if loaded.golden.is_empty() {
            loaded.notes.push(NO_GOLDEN_ROWS.to_owned());
        }
        Ok(loaded)
    })
}

/// Describes the model file that is asked for, or the embedded one.
///
/// # Errors
///
/// As [`load`].
pub fn details(request: &ModelRequest) -> Result<Details, LoadError> {
    match with_file(request, |format, bytes| format.details(bytes))? {
        Some(details) => Ok(details),
        None => load(request).map(|loaded| Details::of(&loaded)),
    }
}

fn with_file<T>(
    request: &ModelRequest,
    read: impl FnOnce(&dyn Format, &[u8]) -> Result<T, ModelError>,
) -> Result<T, LoadError> {
    let Some(path) = &request.file else {
        return read(&Native, embedded::JSON.as_bytes())
            .map_err(|reason| LoadError(format!("the embedded model is damaged: {reason}")));
    };
    model_file(path)
        .and_then(|file| read_file(&file, "--model must name a readable model file"))
        .and_then(|bytes| read(format_of(&bytes), &bytes))
        .map_err(|reason| {
            LoadError(format!(
                "cannot use the model file {}: {reason}",
                path.display()
            ))
        })
}

/// The file of a model: the path itself, the file that MLflow's description of a directory names, or
/// the one model file of a directory, as platforms mount
/// models. Other files may stand beside it, and hidden ones do not count.
///
/// # Errors
///
/// A directory with no model file, or with several.
pub fn model_file(path: &Path) -> Result<PathBuf, ModelError> {
    if !path.is_dir() {
        return Ok(path.to_owned());
    }
    if let Some(directory) = Directory::read(path)? {
        return directory.file();
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(ModelError::of)? {
        let entry = entry.map_err(ModelError::of)?;
        let is_hidden = entry.file_name().to_string_lossy().starts_with('.');
        // A link counts as what it leads to.
        if !is_hidden && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    if files.len() > 1 {
        files.retain(|file| is_recognised(file));
    }
    match &files[..] {
        [one] => Ok(one.clone()),
        [] => Err(
            "the directory has no model file; --model must name one, or a directory with one"
                .into(),
        ),
        several => {
            let names = several.iter().filter_map(|file| file.file_name());
            let names: Vec<_> = names
                .take(NAMES_SHOWN)
                .map(|name| name.to_string_lossy())
                .collect();
            Err(ModelError(format!(
                "the directory has {} model files ({}); --model must name one of them",
                several.len(),
                names.join(", ")
            )))
        }
    }
}

/// Whether a file begins as a model of a known format does.
fn is_recognised(file: &Path) -> bool {
    let mut head = Vec::new();
    let read =
        File::open(file).and_then(|file| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
    read.is_ok() && FORMATS.iter().any(|format| format.recognises(&head))
}

/// The format of a file. A file that none recognizes is given to our own format, whose error says
/// what a model file is.
fn format_of(bytes: &[u8]) -> &'static dyn Format {
    find(head(bytes)).unwrap_or(&Native)
}

/// What a file is recognized by.
pub(super) fn head(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(HEAD_BYTES)]
}

/// The format that recognizes a file by its head.
pub(super) fn find(head: &[u8]) -> Option<&'static dyn Format> {
    FORMATS.into_iter().find(|format| format.recognises(head))
}

pub(super) fn read_file(path: &Path, remedy: &str) -> Result<Vec<u8>, ModelError> {
    let metadata = fs::metadata(path).map_err(|error| ModelError(format!("{error}; {remedy}")))?;
    if !metadata.is_file() {
        return Err(ModelError("it is not a regular file".to_owned()));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(ModelError(format!(
            "it has {} bytes, but a model file has at most {FILE_BYTES_MAX}",
            metadata.len()
        )));
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(ModelError::of)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_content_and_refused_by_its_path() {
        let directory =
            std::env::temp_dir().join(format!("lanekeeper-format-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let path = directory.join("any.name");
        fs::write(&path, embedded::JSON).unwrap();
        let request = |path: &Path| ModelRequest::of_file(Some(path.to_owned()));
        assert_eq!(load(&request(&path)).unwrap().name, "iris");
        let refused = |path: &Path| load(&request(path)).unwrap_err().0;
        // A directory with one model is that model, whatever else is there.
        assert_eq!(load(&request(&directory)).unwrap().name, "iris");
        fs::write(directory.join("README.md"), "about").unwrap();
        fs::write(directory.join(".hidden"), embedded::JSON).unwrap();
        fs::create_dir_all(directory.join("below")).unwrap();
        let link = directory.join("below").join("link");
        std::os::unix::fs::symlink(&directory, &link).unwrap();
        assert_eq!(load(&request(&link)).unwrap().name, "iris");
        fs::write(directory.join("other"), embedded::JSON).unwrap();
        assert!(refused(&directory).contains("2 model files (any.name, other)"));
        fs::remove_file(&link).unwrap();
        assert!(refused(&directory.join("below")).contains("no model file"));
        fs::remove_dir_all(&directory).unwrap();
        assert!(refused(&path).contains("--model must name a readable model file"));
    }
}
