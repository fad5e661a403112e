//! Multi-layer perceptrons.

use super::linear::{exponentials, logistic};
use super::step::dot;
use crate::models::forest::model::largest;
use crate::models::{Model, Output, OutputSpec, PredictError, Rows, Signature};

/// A multi-layer perceptron.
#[derive(Debug)]
pub struct NetworkModel {
    /// What it takes and returns.
    pub signature: Signature,
    /// The layers; each takes as many numbers as the one before gives.
    pub layers: Vec<Layer>,
    /// What is done to the numbers of all layers but the last.
    pub hidden: Activation,
    /// What is done to the numbers of the last.
    pub last: Activation,
}

/// A layer: weighted sums.
#[derive(Debug, Clone, PartialEq)]
pub struct Layer {
    /// Number of numbers that go in.
    pub width: usize,
    /// For each output the weights of all inputs.
    pub weights: Vec<f64>,
    /// What is added to each sum.
    pub biases: Vec<f64>,
}

/// What is done to the sums of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// Negative numbers become 0.
    Relu,
    /// The hyperbolic tangent.
    Tanh,
    /// The logistic function.
    Logistic,
    /// The exponential.
    Exponential,
    /// Shares of exponentials.
    Softmax,
}

impl Activation {
    fn apply(self, sums: &mut [f64]) {
        let each: fn(f64) -> f64 = match self {
            Activation::Identity => return,
            Activation::Softmax => {
                exponentials(sums);
                let total: f64 = sums.iter().sum();
                return sums.iter_mut().for_each(|share| *share /= total);
            }
            Activation::Relu => |sum| sum.max(0.0),
            Activation::Tanh => f64::tanh,
            Activation::Logistic => logistic,
            Activation::Exponential => f64::exp,
        };
        sums.iter_mut().for_each(|sum| *sum = each(*sum));
    }
}

impl NetworkModel {
    fn outputs(&self, row: &[f64]) -> Vec<f64> {
        let mut numbers = row.to_vec();
        for (place, layer) in self.layers.iter().enumerate() {
            let outputs = layer.weights.chunks_exact(layer.width).zip(&layer.biases);
            numbers = outputs
                .map(|(weights, bias)| dot(&numbers, weights) + bias)
                .collect();
            match place + 1 == self.layers.len() {
                true => self.last.apply(&mut numbers),
                false => self.hidden.apply(&mut numbers),
            }
        }
        numbers
    }
}

impl Model for NetworkModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let outputs = rows.iter().map(|row| self.outputs(row));
        if let OutputSpec::Numbers { .. } = self.signature.output {
            return Ok(Output::Numbers(outputs.flatten().collect()));
        }
        let mut indices = Vec::with_capacity(rows.len());
        let mut probabilities = Vec::new();
        for shares in outputs {
            match shares[..] {
                [share] => {
                    indices.push(u32::from(share > 0.5));
                    probabilities.extend([1.0 - share, share]);
                }
                _ => {
                    indices.push(largest(&shares));
                    probabilities.extend(shares);
                }
            }
        }
        Ok(Output::Classes {
            indices,
            probabilities: Some(probabilities),
        })
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        let weights = self.layers.iter().map(|layer| layer.weights.len()).sum();
        vec![("layers", self.layers.len()), ("weights", weights)]
    }
}
