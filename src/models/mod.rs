//! Models: what they take, what they give, and where they come from.
//!
//! [`Model`] is what the prediction lane and the canary call; [`ModelSource`] is where the server
//! gets one, so that tests and benches can serve a slow, hanging, failing or panicking one. Nothing
//! here knows a socket or a queue.

pub mod embedded;
pub mod estimator;
pub mod native;
pub mod signature;
pub mod slot;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// What a model is called, what it takes and what it can say.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// The model's name, as answers and logs show it (`iris`).
    pub name: String,
    /// The algorithm in kebab-case (`random-forest-classifier`).
    pub algorithm: String,
    /// Names of the features in the order of a row's values.
    pub features: Vec<String>,
    /// Class labels in the order of class indices; empty for a regressor.
    pub classes: Vec<String>,
}

/// The name, and in parentheses what kind of model it is.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}, {} features, {} classes)",
            self.name,
            self.algorithm,
            self.features.len(),
            self.classes.len()
        )
    }
}

/// Instances as one flat row-major matrix: `len` rows of `width` finite numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    values: Vec<f64>,
    width: usize,
}

impl Rows {
    /// Takes a row-major matrix; `values.len()` is a multiple of `width`, and `width` at least 1.
    ///
    /// Returns `None` where that does not hold.
    pub fn new(values: Vec<f64>, width: usize) -> Option<Self> {
        (width > 0 && values.len().is_multiple_of(width)).then_some(Rows { values, width })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Copies the first rows, at most `count` of them.
    pub fn first(&self, count: usize) -> Self {
        self.part(0, count)
    }

    /// Copies rows from `start` on, at most `count` of them.
    pub fn part(&self, start: usize, count: usize) -> Self {
        let all = self.values.len();
        let from = all.min(start.saturating_mul(self.width));
        let end = all.min(from.saturating_add(count.saturating_mul(self.width)));
        Rows {
            values: self.values[from..end].to_vec(),
            width: self.width,
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Number of features in each row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// All values, row after row.
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The rows in order.
    pub fn iter(&self) -> std::slice::ChunksExact<'_, f64> {
        self.values.chunks_exact(self.width)
    }
}

/// A number as texts have it: short, however large or small it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShortNumber(pub f64);

impl fmt::Display for ShortNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = self.0.abs();
        if size != 0.0 && size.is_finite() && !(1e-5..1e16).contains(&size) {
            write!(f, "{:e}", self.0)
        } else {
            self.0.fmt(f)
        }
    }
}

/// What a model says of some rows, in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A classifier's answer.
    Classes {
        /// For each row the index of its class in [`Signature::classes`].
        indices: Vec<u32>,
        /// Row-major, rows × classes, each row summing to 1; absent where the algorithm has none.
        probabilities: Option<Vec<f64>>,
    },
    /// A regressor's answer: one number for each row.
    Numbers(Vec<f64>),
}

impl Output {
    /// Appends what the model said of the rows that follow.
    ///
    /// # Errors
    /// Where it is of another kind than what it said before.
    pub fn append(&mut self, next: Output) -> Result<(), PredictError> {
        match (self, next) {
            (Output::Numbers(all), Output::Numbers(more)) => all.extend(more),
            (
                Output::Classes {
                    indices: all,
                    probabilities,
                },
                Output::Classes {
                    indices: more,
                    probabilities: shares,
                },
            ) if probabilities.is_some() == shares.is_some() => {
                all.extend(more);
                if let (Some(all), Some(more)) = (probabilities, shares) {
                    all.extend(more);
                }
            }
            _ => {
                let text = "it answered with classes for some rows and with numbers, or with probabilities, for others";
                return Err(PredictError(text.to_owned()));
            }
        }
        Ok(())
    }
}

/// The row a model is tried on before it serves, with the answer it must give.
#[derive(Debug, Clone, PartialEq)]
pub struct Trial {
    /// One row, as long as [`Signature::features`].
    pub row: Vec<f64>,
    /// What the model answered when it was made.
    pub expected: Expected,
}

/// The answer a trial must give.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// The class label, compared exactly.
    Label(String),
    /// The number, compared within 1e-9 relative (another libm than the trainer's).
    Number(f64),
}

/// A value that a model cannot take, though it is a finite number.
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
    /// What the model takes and can say.
    fn signature(&self) -> &Signature;

    /// The row it is tried on, with the expected answer.
    fn trial(&self) -> &Trial;

    /// Checks what the model needs of its rows beyond width and finite values.
    ///
    /// # Errors
    /// The first value that does not fit: the client's fault.
    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        let _ = rows;
        Ok(())
    }

    /// Computes one answer for each row; may take long and uses the calling thread alone.
    ///
    /// `rows` has the signature's width and finite values and passes [`Model::check`]: the caller has
    /// checked.
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
    fn load(&self, file: Option<&Path>) -> Result<Arc<dyn Model>, LoadError>;
}

/// A [`Model`] in a file, or the embedded one where no file is named: what the binary serves.
#[derive(Debug, Clone, Copy, Default)]
pub struct Files;

impl ModelSource for Files {
    fn load(&self, file: Option<&Path>) -> Result<Arc<dyn Model>, LoadError> {
        let loaded = match file {
            Some(path) => native::read(path)?,
            None => embedded::load()?,
        };
        Ok(Arc::new(loaded))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_texts_are_short() {
        let table = [
            (0.0, "0"),
            (5.1, "5.1"),
            (-3.0, "-3"),
            (1e15, "1000000000000000"),
            (1e16, "1e16"),
            (-1e308, "-1e308"),
            (f64::MAX, "1.7976931348623157e308"),
            (5e-324, "5e-324"),
            (f64::NEG_INFINITY, "-inf"),
        ];
        for (number, expected) in table {
            assert_eq!(ShortNumber(number).to_string(), expected);
        }
    }
}
