//! A model of a forest, or of a linear booster: sums, their transform, and the answer.

use super::Precision;
use super::link::Link;
use super::plan::Plan;
use crate::models::{
    LibraryAnswer, Model, ModelError, Output, OutputSpec, PredictError, RowFault, Rows, Signature,
};

/// What computes the sums of a row.
#[derive(Debug)]
pub enum Margins {
    /// Trees.
    Trees(Plan),
    /// XGBoost's gblinear: features times weights, in 32 bits.
    Linear {
        /// Feature by feature the weights for each output, and the outputs' biases at the end.
        weights: Vec<f32>,
        /// What is added to each bias.
        base: f32,
        /// Number of outputs.
        outputs: usize,
    },
}

/// What the transformed sums of a row mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SumMeaning {
    /// They are the answer.
    Numbers,
    /// The one of them is the probability of the second of two classes.
    SecondClass,
    /// The same, and the second class wins a tie.
    SecondClassFromHalf,
    /// The one of them is the class, 0 or 1.
    Class,
    /// They are the probabilities of the classes.
    Classes,
}

impl SumMeaning {
    /// What the library's own `predict` answers.
    pub fn library(self) -> LibraryAnswer {
        match self {
            SumMeaning::Numbers => LibraryAnswer::Numbers,
            SumMeaning::SecondClass | SumMeaning::SecondClassFromHalf => LibraryAnswer::SecondShare,
            SumMeaning::Class => LibraryAnswer::Index,
            SumMeaning::Classes => LibraryAnswer::Shares,
        }
    }
}

/// A factor and summands for the sums of trees, as CatBoost has them.
#[derive(Debug)]
pub struct Adjustment {
    /// What each sum is multiplied with.
    pub scale: f64,
    /// What is added to each after that.
    pub bias: Vec<f64>,
}

/// A model read from another library's file.
#[derive(Debug)]
pub struct ForestModel {
    /// What it takes and returns.
    pub signature: Signature,
    /// What computes its sums.
    pub margins: Margins,
    /// The precision of sums and transforms.
    pub precision: Precision,
    /// What is done to the sums of the trees before they are the library's sums; `None` for nothing.
    pub adjustment: Option<Adjustment>,
    /// By how much sums are divided before they are transformed; 1 for most models.
    pub divisor: f64,
    /// The transform.
    pub link: Link,
    /// What its result means.
    pub meaning: SumMeaning,
}

impl ForestModel {
    /// Number of sums of a row.
    pub fn outputs(&self) -> usize {
        match (&self.margins, &self.signature.output) {
            (Margins::Linear { outputs, .. }, _) => *outputs,
            (Margins::Trees(_), OutputSpec::Numbers { width }) => *width,
            (Margins::Trees(_), OutputSpec::Classes { labels, .. }) => match self.meaning {
                SumMeaning::Classes => labels.len(),
                _ => 1,
            },
        }
    }

    /// Computes the sums of each row, row after row, as the library does before it transforms them.
    fn sums(&self, rows: &Rows) -> Vec<f64> {
        match &self.margins {
            Margins::Trees(plan) => self.adjusted(plan.margins(rows)),
            Margins::Linear {
                weights,
                base,
                outputs,
            } => rows
                .iter()
                .flat_map(|row| {
                    (0..*outputs).map(move |output| linear(weights, *base, *outputs, output, row))
                })
                .collect(),
        }
    }

    fn adjusted(&self, mut sums: Vec<f64>) -> Vec<f64> {
        if let Some(Adjustment { scale, bias }) = &self.adjustment {
            for row in sums.chunks_mut(bias.len().max(1)) {
                for (sum, bias) in row.iter_mut().zip(bias) {
                    *sum = *sum * scale + bias;
                }
            }
        }
        sums
    }

    /// Computes what the library's `Booster.predict` answers, row after row.
    pub fn transformed(&self, rows: &Rows) -> Vec<f64> {
        let mut sums = self.sums(rows);
        if self.divisor != 1.0 {
            sums.iter_mut().for_each(|sum| *sum /= self.divisor);
        }
        for row in sums.chunks_mut(self.outputs().max(1)) {
            self.link.apply(self.precision, row);
        }
        sums
    }
}

/// One sum of a linear booster: the bias first, then the features that are not missing, in order.
fn linear(weights: &[f32], base: f32, outputs: usize, output: usize, row: &[f64]) -> f64 {
    let mut sum = weights[row.len() * outputs + output] + base;
    for (feature, value) in row.iter().enumerate() {
        if !value.is_nan() {
            sum += *value as f32 * weights[feature * outputs + output];
        }
    }
    f64::from(sum)
}

impl Model for ForestModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn rename(&mut self, names: &[String]) -> Result<(), ModelError> {
        self.signature.rename(names)
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        if self.precision == Precision::F64 {
            return Ok(());
        }
        let too_large = |value: &f64| value.is_finite() && (*value as f32).is_infinite();
        match rows.values().iter().position(too_large) {
            Some(place) => Err(RowFault {
                row: place / rows.width(),
                feature: place % rows.width(),
                must_be: format!(
                    "at most {:e} from 0, as the model computes with 32 bits",
                    f32::MAX
                ),
            }),
            None => Ok(()),
        }
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        match &self.margins {
            Margins::Trees(plan) => plan.parts(),
            Margins::Linear { weights, .. } => vec![("weights", weights.len())],
        }
    }

    fn raw(&self, rows: &Rows) -> Option<Vec<f64>> {
        Some(self.sums(rows))
    }

    fn raw_width(&self) -> usize {
        self.outputs()
    }

    fn precision(&self) -> Precision {
        self.precision
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let numbers = self.transformed(rows);
        Ok(match self.meaning {
            SumMeaning::Numbers => Output::Numbers(numbers),
            SumMeaning::Class => Output::Classes {
                indices: numbers
                    .iter()
                    .map(|class| u32::from(*class > 0.5))
                    .collect(),
                probabilities: None,
            },
            SumMeaning::SecondClass | SumMeaning::SecondClassFromHalf => {
                let wins = |share: f64| match self.meaning {
                    SumMeaning::SecondClassFromHalf => share >= 0.5,
                    _ => share > 0.5,
                };
                let first = |share: f64| match self.precision {
                    Precision::F32 => f64::from(1.0 - share as f32),
                    Precision::F64 => 1.0 - share,
                };
                Output::Classes {
                    indices: numbers
                        .iter()
                        .map(|share| u32::from(wins(*share)))
                        .collect(),
                    probabilities: Some(
                        numbers
                            .iter()
                            .flat_map(|share| [first(*share), *share])
                            .collect(),
                    ),
                }
            }
            SumMeaning::Classes => Output::Classes {
                indices: numbers.chunks(self.outputs().max(1)).map(largest).collect(),
                probabilities: Some(numbers),
            },
        })
    }
}

/// The place of the largest number, the first of equal ones.
pub fn largest(numbers: &[f64]) -> u32 {
    let mut best = 0;
    for (place, number) in numbers.iter().enumerate() {
        if *number > numbers[best] {
            best = place;
        }
    }
    best as u32
}
