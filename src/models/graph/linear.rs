//! Linear models and products with constant matrices.
//!
//! Sums are in 64 bits and rounded once, which is within the error of any order of sums in 32 bits.

use super::reduce::place_of_extreme;
use super::transform::{Second, Transform};
use super::{Kernel, Kind};

/// A product of rows with a constant matrix, and what is added to it.
#[derive(Debug, Clone)]
pub struct Product {
    /// The matrix by output: the weights of the first output come first.
    pub weights: Vec<f64>,
    /// Numbers of a row.
    pub width: usize,
    /// Numbers of a result.
    pub outputs: usize,
    /// The precision of the result.
    pub kind: Kind,
}

impl Product {
    /// The matrix by input, as most operators have it.
    pub fn of_columns(columns: &[f64], width: usize, outputs: usize, kind: Kind) -> Self {
        let column = |output: usize| (0..width).map(move |input| columns[input * outputs + output]);
        Product {
            weights: (0..outputs).flat_map(column).collect(),
            width,
            outputs,
            kind,
        }
    }

    /// Appends the results for a row, with these numbers added.
    fn add_row(&self, row: &[f64], added: &[f64], out: &mut Vec<f64>) {
        if self.width == 0 {
            out.extend((0..self.outputs).map(|output| added.get(output).copied().unwrap_or(0.0)));
            return;
        }
        for (output, weights) in self.weights.chunks_exact(self.width).enumerate() {
            let sum = dot(row, weights) + added.get(output).copied().unwrap_or(0.0);
            out.push(self.kind.round(sum));
        }
    }

    fn all(&self, values: &[f64], added: &[f64]) -> Vec<f64> {
        let mut out = Vec::new();
        match self.width {
            0 => {}
            width => {
                out.reserve(values.len() / width * self.outputs);
                values
                    .chunks_exact(width)
                    .for_each(|row| self.add_row(row, added, &mut out));
            }
        }
        out
    }

    /// The operator: the products, with `added` (as many as outputs, or none) on top.
    pub fn kernel(self, added: Vec<f64>) -> Kernel {
        Box::new(move |_, inputs| Ok(vec![self.all(inputs[0], &added)]))
    }

    /// The operator of a regressor.
    pub fn regressor(self, added: Vec<f64>, transform: Transform) -> Kernel {
        Box::new(move |_, inputs| {
            let mut out = self.all(inputs[0], &added);
            if self.outputs > 1 {
                out.chunks_exact_mut(self.outputs)
                    .for_each(|row| transform.apply(row));
            }
            Ok(vec![out])
        })
    }

    /// The operator of a classifier: labels and scores. With one score and two labels, the first class has
    /// what is left to 1.
    pub fn classifier(self, added: Vec<f64>, transform: Transform, labels: Vec<f64>) -> Kernel {
        Box::new(move |_, inputs| {
            let mut scores = self.all(inputs[0], &added);
            if self.outputs == 1 {
                let chosen = scores
                    .iter()
                    .map(|score| labels[usize::from(*score > 0.0)])
                    .collect();
                let both = scores
                    .iter()
                    .flat_map(|score| transform.of_one(*score, Second::Rest));
                return Ok(vec![chosen, both.collect()]);
            }
            let rows = scores.chunks_exact_mut(self.outputs);
            let chosen = rows.map(|row| {
                let class = place_of_extreme(row, true, false);
                transform.apply(row);
                labels[class as usize]
            });
            Ok(vec![chosen.collect(), scores])
        })
    }
}

/// The sum of products, in four sums so that they can be computed side by side.
pub(super) fn dot(row: &[f64], weights: &[f64]) -> f64 {
    let (rows, row_rest) = row.as_chunks::<4>();
    let (all, rest) = weights.as_chunks::<4>();
    let mut sums = [0.0; 4];
    for (row, weights) in rows.iter().zip(all) {
        for lane in 0..4 {
            sums[lane] += row[lane] * weights[lane];
        }
    }
    let rest: f64 = row_rest
        .iter()
        .zip(rest)
        .map(|(one, other)| one * other)
        .sum();
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}
