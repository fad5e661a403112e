//! Support vector machines, as onnxruntime computes them.
//!
//! Source: onnxruntime 1.32, `core/providers/cpu/ml/svm*.cc`; the probabilities are those of libsvm.

use super::Kernel;
use super::linear::dot;
use super::transform::{Second, Transform};

/// What two points are to each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Similarity {
    /// Their product.
    Linear,
    /// A power of it.
    Polynomial,
    /// The exponential of their squared distance.
    Radial,
    /// The hyperbolic tangent of their product.
    Sigmoid,
}

/// The points that a machine compares with.
#[derive(Debug)]
pub struct VectorMachine {
    /// The support vectors, or for a linear machine its weights.
    pub vectors: Vec<f64>,
    /// Numbers of a point.
    pub width: usize,
    /// How points are compared.
    pub similarity: Similarity,
    /// The kernel's factor, summand and power.
    pub parameters: [f64; 3],
}

impl VectorMachine {
    fn compare(&self, row: &[f64], vector: &[f64]) -> f64 {
        let [gamma, summand, power] = self.parameters;
        let value = match self.similarity {
            Similarity::Linear => dot(row, vector),
            Similarity::Polynomial => (gamma * dot(row, vector) + summand).powf(power),
            Similarity::Sigmoid => (gamma * dot(row, vector) + summand).tanh(),
            Similarity::Radial => {
                let pairs = row.iter().zip(vector);
                let distance: f64 = pairs
                    .map(|(one, other)| (one - other) * (one - other))
                    .sum();
                (-gamma * distance).exp()
            }
        };
        f64::from(value as f32)
    }

    fn all(&self, row: &[f64]) -> Vec<f64> {
        let vectors = self.vectors.chunks_exact(self.width.max(1));
        vectors.map(|vector| self.compare(row, vector)).collect()
    }
}

/// A machine that predicts a number; `is_one_class` for its sign.
pub fn regressor(
    machine: VectorMachine,
    coefficients: Vec<f64>,
    rho: f64,
    is_one_class: bool,
) -> Kernel {
    Box::new(move |_, inputs| {
        let rows = inputs[0].chunks_exact(machine.width.max(1));
        let number = |row: &[f64]| {
            let sum = match coefficients.is_empty() {
                true => machine.all(row).first().copied().unwrap_or(0.0) + rho,
                false => dot(&machine.all(row), &coefficients) + rho,
            };
            let sum = f64::from(sum as f32);
            match (is_one_class, sum > 0.0) {
                (false, _) => sum,
                (true, true) => 1.0,
                (true, false) => -1.0,
            }
        };
        Ok(vec![rows.map(number).collect()])
    })
}

/// A machine that predicts a class.
#[derive(Debug)]
pub struct Classifier {
    /// What it compares with.
    pub machine: VectorMachine,
    /// For all classes but one a coefficient for each support vector.
    pub coefficients: Vec<f64>,
    /// Number of support vectors of each class; empty for a linear machine.
    pub per_class: Vec<usize>,
    /// The constant of each pair of classes; the first alone for a linear machine.
    pub rho: Vec<f64>,
    /// The slope and the offset of each pair's probability; empty without probabilities.
    pub slopes: Vec<[f64; 2]>,
    /// What is done to the scores.
    pub transform: Transform,
    /// The labels.
    pub labels: Vec<f64>,
}

impl Classifier {
    /// Number of scores of a row.
    pub fn scores(&self) -> usize {
        let classes = self.labels.len();
        match self.per_class.is_empty() || !self.slopes.is_empty() || classes == 2 {
            true => classes,
            false => classes * (classes - 1) / 2,
        }
    }

    /// The score of each pair of classes, and each class's votes.
    fn pairs(&self, row: &[f64]) -> (Vec<f64>, Vec<usize>) {
        let similarities = self.machine.all(row);
        let classes = self.labels.len();
        let total = similarities.len();
        let mut starts = Vec::with_capacity(classes);
        let mut start = 0;
        for count in &self.per_class {
            starts.push(start..start + count);
            start += count;
        }
        let mut scores = Vec::new();
        let mut votes = vec![0; classes];
        for one in 0..classes {
            for other in one + 1..classes {
                let part = |line: usize, range: &std::ops::Range<usize>| {
                    let from = line * total;
                    dot(
                        &self.coefficients[from + range.start..from + range.end],
                        &similarities[range.clone()],
                    )
                };
                let sum = part(other - 1, &starts[one])
                    + part(one, &starts[other])
                    + self.rho[scores.len()];
                scores.push(f64::from(sum as f32));
                votes[if sum > 0.0 { one } else { other }] += 1;
            }
        }
        (scores, votes)
    }

    fn class(&self, row: &[f64], out: &mut Vec<f64>) -> usize {
        let classes = self.labels.len();
        if self.per_class.is_empty() {
            let mut scores: Vec<f64> = self
                .machine
                .all(row)
                .iter()
                .map(|score| f64::from((score + self.rho[0]) as f32))
                .collect();
            let best = super::reduce::place_of_extreme(&scores, true, false) as usize;
            let most = scores[best];
            self.transform.apply(&mut scores);
            out.extend(scores);
            let positive = self.machine.vectors.iter().all(|weight| *weight >= 0.0);
            return match classes {
                2 if positive && most >= 0.5 => 1,
                2 if !positive && most > 0.0 => 1,
                _ => best,
            };
        }
        let (mut scores, votes) = self.pairs(row);
        let most = votes.iter().copied().max().unwrap_or(0);
        let voted = votes.iter().position(|count| *count == most).unwrap_or(0);
        if !self.slopes.is_empty() {
            let mut shares = shares(classes, &scores, &self.slopes);
            self.transform.apply(&mut shares);
            out.extend(shares);
        } else if classes == 2 {
            let second = match self.transform {
                Transform::None => Second::Negative,
                _ => Second::Rest,
            };
            out.extend(self.transform.of_one(scores[0], second));
        } else {
            self.transform.apply(&mut scores);
            out.extend(scores);
        }
        voted
    }

    /// The operator: labels and scores.
    pub fn kernel(self) -> Kernel {
        Box::new(move |_, inputs| {
            let (mut labels, mut scores) = (Vec::new(), Vec::new());
            for row in inputs[0].chunks_exact(self.machine.width.max(1)) {
                labels.push(self.labels[self.class(row, &mut scores)]);
            }
            Ok(vec![labels, scores])
        })
    }
}

/// The probability of each class from the scores of pairs, in 32 bits: Wu, Lin and Weng's second method.
fn shares(classes: usize, scores: &[f64], slopes: &[[f64; 2]]) -> Vec<f64> {
    const LEAST: f32 = 1e-7;
    const ROUNDS: usize = 100;
    let mut pairwise = vec![0.0_f32; classes * classes];
    let mut pair = 0;
    for one in 0..classes {
        for other in one + 1..classes {
            let [slope, offset] = slopes[pair].map(|number| number as f32);
            let value = scores[pair] as f32 * slope + offset;
            let share = 1.0 / (1.0 + (-value.abs()).exp());
            let share = 1.0 - if value < 0.0 { 1.0 - share } else { share };
            let share = share.clamp(LEAST, 1.0 - LEAST);
            pairwise[one * classes + other] = share;
            pairwise[other * classes + one] = 1.0 - share;
            pair += 1;
        }
    }
    let at = |one: usize, other: usize| one * classes + other;
    let mut matrix = vec![0.0_f32; classes * classes];
    for one in 0..classes {
        for other in (0..classes).filter(|other| *other != one) {
            let reverse = pairwise[at(other, one)];
            matrix[at(one, one)] += reverse * reverse;
            matrix[at(one, other)] = -reverse * pairwise[at(one, other)];
        }
    }
    let mut shares = vec![1.0 / classes as f32; classes];
    let enough = 0.005 / classes as f32;
    for _ in 0..ROUNDS {
        let mut products: Vec<f32> = (0..classes)
            .map(|one| {
                (0..classes)
                    .map(|other| matrix[at(one, other)] * shares[other])
                    .sum()
            })
            .collect();
        let mut whole: f32 = shares
            .iter()
            .zip(&products)
            .map(|(share, product)| share * product)
            .sum();
        let error = products
            .iter()
            .fold(0.0_f32, |most, product| most.max((product - whole).abs()));
        if error < enough {
            break;
        }
        for one in 0..classes {
            let own = matrix[at(one, one)];
            let step = (whole - products[one]) / own;
            shares[one] += step;
            whole =
                (whole + step * (step * own + 2.0 * products[one])) / (1.0 + step) / (1.0 + step);
            for other in 0..classes {
                products[other] = (products[other] + step * matrix[at(one, other)]) / (1.0 + step);
                shares[other] /= 1.0 + step;
            }
        }
    }
    shares.into_iter().map(f64::from).collect()
}
