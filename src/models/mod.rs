//! Models: their input, their output, and where they come from.
//!
//! The prediction lane and the canary call [`Model`]. [`mod@format`] has the table of file formats.
//! [`ModelSource`] is where the server gets a model, so that tests and benches can serve a slow,
//! hanging, failing or panicking one. Nothing here knows a socket or a queue.

pub mod answer;
pub mod cells;
pub mod compute;
pub mod converted;
pub mod embedded;
pub mod exactness;
pub mod forest;
pub mod format;
pub mod golden;
pub mod graph;
pub mod import;
mod json_labels;
mod labels;
pub mod moments;
pub mod native;
pub mod pipeline;
mod rows;
pub mod signature;
pub mod slot;
mod taken;

use std::fmt;
use std::sync::Arc;

use crate::config::ModelRequest;
use crate::models::forest::Precision;

pub use self::answer::{AnswerSource, AnswerSpec, LibraryAnswer};
pub use self::exactness::Exactness;
pub use self::golden::{Expected, GoldenRow};
pub use self::json_labels::{JsonLabels, is_whole};
pub use self::labels::CategoryLabels;
pub use self::rows::{Output, Rows, ShortNumber};
pub use self::signature::{Feature, FeatureKind, OutputSpec, Signature};

/// What a model file gave.
pub struct Loaded {
    /// The model's name in answers and logs (`iris`).
    pub name: String,
    /// Its version, as clients of V2 and V1 call it.
    pub version: String,
    /// The algorithm in kebab-case (`random-forest-classifier`).
    pub algorithm: String,
    /// What predicts.
    pub model: Box<dyn Model>,
    /// Rows with the training library's answers; may be empty.
    pub golden: Vec<GoldenRow>,
    /// What protocols with room for one answer give.
    pub answer: AnswerSpec,
    /// A row that it was shown when it was saved, if it does not come with golden ones.
    pub example: Option<Vec<f64>>,
    /// How close its answers are to those of the library that trained it, if that is not said by its
    /// format alone.
    pub exactness: Option<Exactness>,
    /// What an operator should know, one line each.
    pub notes: Vec<String>,
}

impl Loaded {
    /// A row that the model takes: the first golden one, the example, or one of zeros and first
    /// categories.
    pub fn example(&self) -> Vec<f64> {
        match (self.golden.first(), &self.example) {
            (Some(golden), _) => golden.row.clone(),
            (None, Some(row)) => row.clone(),
            (None, None) => vec![0.0; self.model.signature().width()],
        }
    }
}

/// The name, and in parentheses the kind of model.
impl fmt::Display for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let signature = self.model.signature();
        write!(
            f,
            "{} ({}, {} features, {} classes)",
            self.name,
            self.algorithm,
            signature.features.len(),
            signature.output.labels().len()
        )
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("name", &self.name)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}

/// A value that a model cannot take, though it is a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFault {
    /// Its row, from 0.
    pub row: usize,
    /// Its feature, from 0.
    pub feature: usize,
    /// What would be right, as in "must be …".
    pub must_be: String,
}

/// The model's error; the text goes to log and client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictError(pub String);

impl fmt::Display for PredictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PredictError {}

/// What is wrong with a model, or with its training data, in one line without the file's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelError(pub String);

impl ModelError {
    /// What another error says.
    pub fn of(error: impl fmt::Display) -> Self {
        ModelError(error.to_string())
    }
}

impl From<String> for ModelError {
    fn from(text: String) -> Self {
        ModelError(text)
    }
}

impl From<&'static str> for ModelError {
    fn from(text: &'static str) -> Self {
        ModelError(text.to_owned())
    }
}

impl fmt::Display for ModelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ModelError {}

/// Why a model could not be loaded: one line that says what, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError(pub String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// Something that predicts, shared by all prediction workers and the canary.
pub trait Model: Send + Sync {
    /// Returns the model's input and output.
    fn signature(&self) -> &Signature;

    /// Gives the features other names, as many as there are.
    ///
    /// # Errors
    ///
    /// A name occurs twice, or the model's features cannot be renamed.
    fn rename(&mut self, names: &[String]) -> Result<(), ModelError> {
        let _ = names;
        Err("its features cannot be renamed".into())
    }

    /// Checks what the model needs of its rows beyond its signature.
    ///
    /// # Errors
    ///
    /// The first value that does not fit: the client's fault.
    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        let _ = rows;
        Ok(())
    }

    /// Computes one answer per row; may take long and uses only the calling thread.
    ///
    /// `rows` has passed [`compute::check`].
    ///
    /// # Errors
    ///
    /// The model cannot compute an answer. The caller catches panics.
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError>;

    /// What the model consists of, by name: trees, nodes, bytes of memory.
    fn parts(&self) -> Vec<(&'static str, usize)> {
        Vec::new()
    }

    /// Computes the sums before the transform, row after row, if the model has any.
    ///
    /// `rows` has passed [`compute::check`].
    fn raw(&self, rows: &Rows) -> Option<Vec<f64>> {
        let _ = rows;
        None
    }

    /// Number of sums of a row before the transform; 0 if it has none.
    fn raw_width(&self) -> usize {
        0
    }

    /// The precision in which it computes.
    fn precision(&self) -> Precision {
        Precision::F64
    }
}

/// Where the server gets its model.
pub trait ModelSource: Send + Sync {
    /// Loads a model; runs on its own thread.
    ///
    /// # Errors
    ///
    /// There is no valid model; the text is shown to the operator.
    fn load(&self, request: &ModelRequest) -> Result<Arc<Loaded>, LoadError>;
}

/// A [`Model`] in a file, or the embedded one if no file is given: what the binary serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl ModelSource for Files {
    fn load(&self, request: &ModelRequest) -> Result<Arc<Loaded>, LoadError> {
        format::load(request).map(Arc::new)
    }
}
