//! Instances as numbers, the model's output for them, and numbers as text.

use std::fmt;

use super::{OutputSpec, PredictError};

/// Instances as one flat row-major matrix: `len` rows of `width` numbers.
///
/// NaN stands for a missing value. The signature says which features may be missing.
#[derive(Debug, Clone, PartialEq)]
pub struct Rows {
    values: Vec<f64>,
    width: usize,
}

impl Rows {
    /// Takes a row-major matrix; `values.len()` is a multiple of `width`, and `width` is at least
    /// 1.
    ///
    /// Returns `None` otherwise.
    pub fn new(values: Vec<f64>, width: usize) -> Option<Self> {
        (width > 0 && values.len().is_multiple_of(width)).then_some(Rows { values, width })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width
    }

    /// Copies the first rows, at most `count`.
    pub fn first(&self, count: usize) -> Self {
        self.part(0, count)
    }

    /// Copies rows from `start` on, at most `count`.
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

/// A number as text: short, however large or small it is.
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

/// A model's output for some rows, in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A classifier's answer.
    Classes {
        /// The index of each row's class in [the output].
        indices: Vec<u32>,
        /// Row-major, rows × classes, each row summing to 1; absent if the algorithm has none.
        probabilities: Option<Vec<f64>>,
    },
    /// A regressor's answer: one number per row.
    Numbers(Vec<f64>),
}

impl Output {
    /// The output for no rows.
    pub fn none(spec: &OutputSpec) -> Self {
        match spec {
            OutputSpec::Numbers { .. } => Output::Numbers(Vec::new()),
            OutputSpec::Classes {
                has_probabilities, ..
            } => Output::Classes {
                indices: Vec::new(),
                probabilities: has_probabilities.then(Vec::new),
            },
        }
    }

    /// Appends the output for the rows that follow.
    ///
    /// # Errors
    ///
    /// It is of another kind than before.
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
