//! What a protocol with room for one answer gives of a model: labels, probabilities, raw sums, or what
//! the training library's own `predict` answers.

use std::borrow::Cow;

use super::forest::Precision;
use super::{Model, ModelError, Output, OutputSpec};
use crate::config::AnswerMode;

/// What the training library's own `predict` answers, where that is no label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LibraryAnswer {
    /// The numbers.
    Numbers,
    /// The probability of the second of two classes.
    SecondShare,
    /// The probabilities of all classes.
    Shares,
    /// The class's index, as a number.
    Index,
}

/// The one answer of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerSpec {
    /// What it is made of.
    pub source: AnswerSource,
    /// Numbers in a row; 1 for labels.
    pub width: usize,
    /// The precision of its numbers, and of the probabilities beside it.
    pub precision: Precision,
}

/// What an answer is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerSource {
    /// The class labels.
    Labels,
    /// The model's numbers.
    Numbers,
    /// The probabilities of all classes.
    Shares,
    /// The probability of the second class.
    SecondShare,
    /// The class's index.
    Index,
    /// The sums before the transform.
    Raw,
}

impl AnswerSpec {
    /// The label, or the number of a model without classes.
    pub fn of_labels(output: &OutputSpec) -> Self {
        let (source, width) = match output {
            OutputSpec::Classes { .. } => (AnswerSource::Labels, 1),
            OutputSpec::Numbers { width } => (AnswerSource::Numbers, *width),
        };
        AnswerSpec {
            source,
            width,
            precision: Precision::F64,
        }
    }

    /// The same in another precision.
    pub fn in_precision(self, precision: Precision) -> Self {
        AnswerSpec { precision, ..self }
    }

    /// The answer in this mode. `usual` is what servers for this kind of file give.
    ///
    /// # Errors
    ///
    /// The model has no such answer.
    pub fn new(mode: AnswerMode, model: &dyn Model, usual: AnswerSpec) -> Result<Self, ModelError> {
        let output = &model.signature().output;
        match mode {
            AnswerMode::Auto => Ok(usual),
            AnswerMode::Label => Ok(Self::of_labels(output).in_precision(model.precision())),
            AnswerMode::Probability => match output {
                OutputSpec::Classes {
                    labels,
                    has_probabilities: true,
                } => Ok(AnswerSpec {
                    source: AnswerSource::Shares,
                    width: labels.len(),
                    precision: model.precision(),
                }),
                _ => Err("--answer probability needs a model with probabilities, but this one has none; use --answer label".into()),
            },
            AnswerMode::Raw if model.raw_width() > 0 => Ok(AnswerSpec {
                source: AnswerSource::Raw,
                width: model.raw_width(),
                precision: model.precision(),
            }),
            AnswerMode::Raw => Err("--answer raw needs a model that transforms sums, but this one does not; use --answer label".into()),
        }
    }

    /// What the training library's own `predict` answers.
    pub fn of_library(answer: LibraryAnswer, output: &OutputSpec, precision: Precision) -> Self {
        let (source, width) = match answer {
            LibraryAnswer::Numbers => (AnswerSource::Numbers, output.numbers_per_row()),
            LibraryAnswer::SecondShare => (AnswerSource::SecondShare, 1),
            LibraryAnswer::Shares => (AnswerSource::Shares, output.labels().len()),
            LibraryAnswer::Index => (AnswerSource::Index, 1),
        };
        AnswerSpec {
            source,
            width,
            precision,
        }
    }

    /// Whether the model's sums are needed for it.
    pub fn needs_raw(&self) -> bool {
        self.source == AnswerSource::Raw
    }

    /// Its numbers, row after row; `None` for labels, and if an output of another kind came.
    pub fn numbers<'a>(
        &self,
        output: &'a Output,
        raw: Option<&'a [f64]>,
    ) -> Option<Cow<'a, [f64]>> {
        let shares = match output {
            Output::Classes { probabilities, .. } => probabilities.as_deref(),
            Output::Numbers(_) => None,
        };
        Some(match (self.source, output) {
            (AnswerSource::Numbers, Output::Numbers(numbers)) => Cow::Borrowed(&numbers[..]),
            (AnswerSource::Shares, _) => Cow::Borrowed(shares?),
            (AnswerSource::SecondShare, _) => {
                Cow::Owned(shares?.chunks_exact(2).map(|row| row[1]).collect())
            }
            (AnswerSource::Index, Output::Classes { indices, .. }) => {
                Cow::Owned(indices.iter().map(|index| f64::from(*index)).collect())
            }
            (AnswerSource::Raw, _) => Cow::Borrowed(raw?),
            _ => return None,
        })
    }
}
