//! Linear models: weighted sums, and what is made of them.

use super::step::dot;
use crate::models::forest::model::largest;
use crate::models::{Model, Output, OutputSpec, PredictError, Rows, Signature};

/// Weighted sums of the features, one for each output.
#[derive(Debug)]
pub struct LinearModel {
    /// What it takes and returns.
    pub signature: Signature,
    /// For each output the weights of all features.
    pub weights: Vec<f64>,
    /// What is added to each sum.
    pub intercepts: Vec<f64>,
    /// What is made of the sums.
    pub link: LinearLink,
}

/// What is made of the sums of a linear model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinearLink {
    /// They are the answer.
    Numbers,
    /// Their exponentials are the answer.
    Exponentials,
    /// The class with the largest sum, or the second of two if the one sum is above 0; no
    /// probabilities.
    Classes,
    /// The same, with logistic probabilities, divided by their total if there are several.
    Logistic,
    /// The same, with the shares of exponentials.
    Softmax,
    /// The same, with probabilities that grow linearly between -1 and 1.
    Clipped,
}

impl LinearModel {
    fn sums(&self, rows: &Rows) -> Vec<f64> {
        let width = rows.width();
        let mut sums = Vec::with_capacity(rows.len() * self.intercepts.len());
        for row in rows.iter() {
            let outputs = self.weights.chunks_exact(width).zip(&self.intercepts);
            sums.extend(outputs.map(|(weights, intercept)| dot(row, weights) + intercept));
        }
        sums
    }

    fn shares(&self, sums: &[f64]) -> Option<Vec<f64>> {
        let outputs = self.intercepts.len();
        let each: fn(f64) -> f64 = match self.link {
            LinearLink::Logistic => logistic,
            LinearLink::Clipped => |sum| (sum.clamp(-1.0, 1.0) + 1.0) / 2.0,
            LinearLink::Softmax if outputs == 1 => |sum| logistic(2.0 * sum),
            LinearLink::Softmax => |sum| sum,
            _ => return None,
        };
        if outputs == 1 {
            let pair = |sum: &f64| [1.0 - each(*sum), each(*sum)];
            return Some(sums.iter().flat_map(pair).collect());
        }
        let mut shares: Vec<f64> = sums.iter().copied().map(each).collect();
        for row in shares.chunks_exact_mut(outputs) {
            if self.link == LinearLink::Softmax {
                exponentials(row);
            }
            let total: f64 = row.iter().sum();
            // Classes that are all impossible are equally likely.
            match total == 0.0 {
                true => row.fill(1.0 / outputs as f64),
                false => row.iter_mut().for_each(|share| *share /= total),
            }
        }
        Some(shares)
    }
}

/// The logistic function.
pub(super) fn logistic(sum: f64) -> f64 {
    1.0 / (1.0 + (-sum).exp())
}

/// The exponentials of numbers, scaled so that the largest is 1.
pub(super) fn exponentials(row: &mut [f64]) {
    let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    row.iter_mut().for_each(|sum| *sum = (*sum - most).exp());
}

/// The classes with the largest of `outputs` sums, or the second of two where the one sum is above 0.
pub(super) fn classes_of(sums: &[f64], outputs: usize) -> Vec<u32> {
    match outputs {
        1 => sums.iter().map(|sum| u32::from(*sum > 0.0)).collect(),
        _ => sums.chunks_exact(outputs).map(largest).collect(),
    }
}

impl Model for LinearModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let mut sums = self.sums(rows);
        if self.link == LinearLink::Exponentials {
            sums.iter_mut().for_each(|sum| *sum = sum.exp());
        }
        Ok(match self.signature.output {
            OutputSpec::Numbers { .. } => Output::Numbers(sums),
            OutputSpec::Classes { .. } => Output::Classes {
                indices: classes_of(&sums, self.intercepts.len()),
                probabilities: self.shares(&sums),
            },
        })
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        vec![("weights", self.weights.len())]
    }

    fn raw(&self, rows: &Rows) -> Option<Vec<f64>> {
        Some(self.sums(rows))
    }

    fn raw_width(&self) -> usize {
        self.intercepts.len()
    }
}
