//! Naive Bayes: the logarithm of each class's likelihood, and shares of them.

use super::linear::exponentials;
use super::step::dot;
use crate::models::forest::model::largest;
use crate::models::{Model, Output, PredictError, Rows, Signature};

/// A naive Bayes classifier.
#[derive(Debug)]
pub struct BayesModel {
    /// What it takes and returns.
    pub signature: Signature,
    /// How likely a row is.
    pub likelihood: Likelihood,
}

/// The logarithm of how likely a row is for each class.
#[derive(Debug, Clone, PartialEq)]
pub enum Likelihood {
    /// Each feature is normal in each class.
    Gaussian {
        /// For each class the means of all features.
        means: Vec<f64>,
        /// For each class the variances of all features.
        variances: Vec<f64>,
        /// For each class the constant part.
        constants: Vec<f64>,
    },
    /// A weighted sum of the features.
    Linear {
        /// For each class the weights of all features.
        weights: Vec<f64>,
        /// For each class what is added.
        constants: Vec<f64>,
        /// Features above this count as 1, others as 0; `None` if they are taken as they are.
        binarize: Option<f64>,
    },
}

impl BayesModel {
    /// The logarithms of a row's likelihoods.
    fn logarithms(&self, row: &[f64]) -> Vec<f64> {
        match &self.likelihood {
            Likelihood::Gaussian {
                means,
                variances,
                constants,
            } => {
                let classes = means
                    .chunks_exact(row.len())
                    .zip(variances.chunks_exact(row.len()));
                let logarithm = |((means, variances), constant): ((&[f64], &[f64]), &f64)| {
                    let distances = row.iter().zip(means).zip(variances);
                    let sum: f64 = distances
                        .map(|((value, mean), variance)| (value - mean) * (value - mean) / variance)
                        .sum();
                    constant - 0.5 * sum
                };
                classes.zip(constants).map(logarithm).collect()
            }
            Likelihood::Linear {
                weights,
                constants,
                binarize,
            } => {
                let binary: Vec<f64>;
                let row = match binarize {
                    Some(threshold) => {
                        let flag = |value: &f64| f64::from(u8::from(*value > *threshold));
                        binary = row.iter().map(flag).collect();
                        &binary[..]
                    }
                    None => row,
                };
                let classes = weights.chunks_exact(row.len()).zip(constants);
                classes
                    .map(|(weights, constant)| dot(row, weights) + constant)
                    .collect()
            }
        }
    }
}

impl Model for BayesModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let mut indices = Vec::with_capacity(rows.len());
        let mut probabilities = Vec::new();
        for row in rows.iter() {
            let mut shares = self.logarithms(row);
            indices.push(largest(&shares));
            exponentials(&mut shares);
            let total: f64 = shares.iter().sum();
            probabilities.extend(shares.iter().map(|share| share / total));
        }
        Ok(Output::Classes {
            indices,
            probabilities: Some(probabilities),
        })
    }
}
