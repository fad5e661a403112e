//! Naive Bayes: the logarithm of each class's likelihood, and shares of them.

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
        /// For each class minus half the sum of the logarithms of 2 pi times each variance.
        constants: Vec<f64>,
        /// For each class the logarithm of how frequent it is.
        priors: Vec<f64>,
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

/// Adds numbers in the order in which numpy adds those that lie side by side.
///
/// Source: `pairwise_sum` of numpy's `loops_utils.h.src`: halves of a multiple of eight down to 128
/// numbers, which are added in eight lanes.
pub fn pairwise_sum(numbers: &[f64]) -> f64 {
    if numbers.len() < 8 {
        return numbers.iter().sum();
    }
    if numbers.len() > 128 {
        let half = numbers.len() / 2;
        let (first, second) = numbers.split_at(half - half % 8);
        return pairwise_sum(first) + pairwise_sum(second);
    }
    let (eights, rest) = numbers.as_chunks::<8>();
    let mut sums = eights[0]; // there are at least eight
    for eight in &eights[1..] {
        for (sum, number) in sums.iter_mut().zip(eight) {
            *sum += number;
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let all = ((a + b) + (c + d)) + ((e + f) + (g + h));
    rest.iter().fold(all, |sum, number| sum + number)
}

/// The logarithm of the sum of numbers whose logarithms are given.
///
/// Source: `_logsumexp` of scipy 1.15 to 1.17.
fn logarithm_of_sum(logarithms: &[f64]) -> f64 {
    let most = logarithms.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let others = logarithms.iter().filter(|own| **own != most);
    let rest: Vec<f64> = others.map(|own| (own - most).exp()).collect();
    let count = (logarithms.len() - rest.len()) as f64;
    (pairwise_sum(&rest) / count).ln_1p() + count.ln() + most
}

impl BayesModel {
    /// The logarithms of a row's likelihoods.
    fn logarithms(&self, row: &[f64]) -> Vec<f64> {
        match &self.likelihood {
            Likelihood::Gaussian {
                means,
                variances,
                constants,
                priors,
            } => {
                let classes = means
                    .chunks_exact(row.len())
                    .zip(variances.chunks_exact(row.len()));
                let mut distances = Vec::with_capacity(row.len());
                // In scikit-learn's order: of features that hardly vary the terms are so large that their
                // rounding shows in the shares.
                let mut half = |(means, variances): (&[f64], &[f64])| {
                    distances.clear();
                    let features = row.iter().zip(means).zip(variances);
                    distances.extend(features.map(|((value, mean), variance)| {
                        (value - mean) * (value - mean) / variance
                    }));
                    0.5 * pairwise_sum(&distances)
                };
                let classes = classes.zip(constants).zip(priors);
                classes
                    .map(|((class, constant), prior)| prior + (constant - half(class)))
                    .collect()
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
            let logarithms = self.logarithms(row);
            indices.push(largest(&logarithms));
            // As in scikit-learn, though shares divided by their sum would add up better: the sum's
            // logarithm is rounded to what a large logarithm can tell apart.
            let all = logarithm_of_sum(&logarithms);
            probabilities.extend(logarithms.iter().map(|own| (own - all).exp()));
        }
        Ok(Output::Classes {
            indices,
            probabilities: Some(probabilities),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers whose sum depends on the order in which they are added.
    fn numbers(count: i32) -> Vec<f64> {
        let number = |place: i32| {
            let size = if place % 7 == 0 { 1e9 } else { 1.0 };
            let sign = if place % 3 == 1 { -1.0 } else { 1.0 };
            1.0 / f64::from(1 + (place * 7919) % 1000).powi(3) * size * sign
        };
        (0..count).map(number).collect()
    }

    #[test]
    fn sums_are_those_of_numpy() {
        // numpy.sum of the same numbers.
        let cases = [
            (5, 1000000000.0),
            (20, 999999989.3015171),
            (130, 999973871.5347226),
            (300, 999881076.7982353),
            (1000, 874445181.3610452),
        ];
        for (count, expected) in cases {
            assert_eq!(
                pairwise_sum(&numbers(count)).to_bits(),
                f64::to_bits(expected),
                "{count}"
            );
        }
    }
}
