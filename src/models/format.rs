//! The formats of model files: one table, and how a file's format is found.
//!
//! A file is recognized by its content, never by its name. To add a format, write a file with an
//! implementation of [`Format`] and add a line to `FORMATS`.

use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use serde_json::json;

use super::native::Native;
use super::{LoadError, Loaded, ModelError, embedded};

/// All formats, in the order in which they are tried.
static FORMATS: [&dyn Format; 1] = [&Native];

/// How many bytes of a file's beginning are used to recognize it.
const HEAD_BYTES: usize = 4096;

/// Maximum size of a model file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;

/// A kind of model file.
pub trait Format: Sync {
    /// Whether a file that begins like this (its first 4 KiB) is of this format.
    fn recognises(&self, head: &[u8]) -> bool;

    /// Reads a whole file.
    ///
    /// # Errors
    ///
    /// What is wrong with it, in one line.
    fn load(&self, bytes: &[u8]) -> Result<Loaded, ModelError>;

    /// Describes a file for a person and for a program.
    ///
    /// # Errors
    ///
    /// As [`Format::load`].
    fn details(&self, bytes: &[u8]) -> Result<Details, ModelError> {
        self.load(bytes).map(|loaded| Details::of(&loaded))
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

impl Details {
    /// The description of any model.
    fn of(loaded: &Loaded) -> Self {
        let signature = loaded.model.signature();
        let features: Vec<&str> = signature.names().collect();
        let labels = signature.output.labels();
        Details {
            name: loaded.name.clone(),
            lines: vec![
                ("algorithm", loaded.algorithm.clone()),
                ("features", features.join(", ")),
                ("classes", labels.join(", ")),
                ("golden rows", loaded.golden.len().to_string()),
            ],
            json: json!({
                "name": loaded.name,
                "algorithm": loaded.algorithm,
                "features": features,
                "classes": labels,
                "golden_rows": loaded.golden.len(),
            }),
        }
    }
}

/// Loads the model in the file at `path`, or the embedded one.
///
/// # Errors
///
/// One line: what is wrong, where, and what would be right.
pub fn load(path: Option<&Path>) -> Result<Loaded, LoadError> {
    with_file(path, |format, bytes| format.load(bytes))
}

/// Describes the model file at `path`, or the embedded one.
///
/// # Errors
///
/// As [`load`].
pub fn details(path: Option<&Path>) -> Result<Details, LoadError> {
    with_file(path, |format, bytes| format.details(bytes))
}

fn with_file<T>(
    path: Option<&Path>,
    read: impl FnOnce(&dyn Format, &[u8]) -> Result<T, ModelError>,
) -> Result<T, LoadError> {
    let Some(path) = path else {
        return read(&Native, embedded::JSON.as_bytes())
            .map_err(|reason| LoadError(format!("the embedded model is damaged: {reason}")));
    };
    let bytes = read_file(path);
    bytes
        .and_then(|bytes| read(format_of(&bytes), &bytes))
        .map_err(|reason| {
            LoadError(format!(
                "cannot use the model file {}: {reason}",
                path.display()
            ))
        })
}

/// The format of a file. A file that none recognizes is given to our own format, whose error says
/// what a model file is.
fn format_of(bytes: &[u8]) -> &'static dyn Format {
    let head = &bytes[..bytes.len().min(HEAD_BYTES)];
    let found = FORMATS.into_iter().find(|format| format.recognises(head));
    found.unwrap_or(&Native)
}

fn read_file(path: &Path) -> Result<Vec<u8>, ModelError> {
    let metadata = fs::metadata(path)
        .map_err(|error| ModelError(format!("{error}; --model must name a readable model file")))?;
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
        assert_eq!(load(Some(&path)).unwrap().name, "iris");
        let refused = |path: &Path| load(Some(path)).unwrap_err().0;
        assert!(refused(&directory).contains("not a regular file"));
        fs::remove_dir_all(&directory).unwrap();
        assert!(refused(&path).contains("--model must name a readable model file"));
    }
}
