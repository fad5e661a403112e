//! Models: what they take, what they give, and where they come from.
//!
//! [`Model`] is what the prediction lane and the canary call. [`mod@format`] has the table of file formats
//! that models come from. [`ModelSource`] is where the server gets one, so that tests and benches can
//! serve a slow, hanging, failing or panicking one. Nothing here knows a socket or a queue.

pub mod compute;
pub mod embedded;
pub mod estimator;
pub mod format;
pub mod golden;
pub mod native;
mod rows;
pub mod signature;
pub mod slot;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

pub use self::golden::{Expected, GoldenRow};
pub use self::rows::{Output, Rows, ShortNumber};
pub use self::signature::{Feature, FeatureKind, OutputSpec, Signature};

/// What a model file gave.
pub struct Loaded {
    /// The model's name, as answers and logs show it (`iris`).
    pub name: String,
    /// The algorithm in kebab-case (`random-forest-classifier`).
    pub algorithm: String,
    /// What predicts.
    pub model: Box<dyn Model>,
    /// Rows with the answers that the training library gave; the first one is shown as an example.
    pub golden: Vec<GoldenRow>,
}

/// The name, and in parentheses what kind of model it is.
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
    /// The row it stands in, from 0.
    pub row: usize,
    /// The feature it belongs to, from 0.
    pub feature: usize,
    /// What would be right, as in "must be …".
    pub must_be: String,
}

/// A model's own word that it could not compute an answer; the text goes to log and client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictError(pub String);

impl fmt::Display for PredictError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for PredictError {}

/// What is wrong with a model, or with what it is to be trained on, in one line without its file.
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

/// Why no model could be had: one line that says what, where, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadError(pub String);

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for LoadError {}

/// Something that predicts; shared by all prediction workers and the canary.
pub trait Model: Send + Sync {
    /// What the model takes and gives.
    fn signature(&self) -> &Signature;

    /// Checks what the model needs of its rows beyond what its signature says.
    ///
    /// # Errors
    /// The first value that does not fit: the client's fault.
    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        let _ = rows;
        Ok(())
    }

    /// Computes one answer for each row; may take long and uses the calling thread alone.
    ///
    /// `rows` has passed [`compute::check`]: the caller has checked.
    ///
    /// # Errors
    /// Where the model cannot compute an answer. A panic is caught by the caller.
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError>;
}

/// Where the server gets its model.
pub trait ModelSource: Send + Sync {
    /// Loads the model in `file`, or the default one; runs on a thread of its own.
    ///
    /// # Errors
    /// Where there is no sound model to be had; the text is shown to the operator.
    fn load(&self, file: Option<&Path>) -> Result<Arc<Loaded>, LoadError>;
}

/// A [`Model`] in a file, or the embedded one where no file is named: what the binary serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl ModelSource for Files {
    fn load(&self, file: Option<&Path>) -> Result<Arc<Loaded>, LoadError> {
        format::load(file).map(Arc::new)
    }
}
