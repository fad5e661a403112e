//! What boosting improves: squared errors, or the log loss of classes.

use crate::train::Targets;

/// The loss: what to predict, with weights scaled to a mean of 1.
pub(super) struct LossTask<'a> {
    pub(super) classes: &'a [u32],
    pub(super) numbers: Vec<f64>,
    pub(super) weights: Vec<f64>,
    pub(super) base: Vec<f64>,
    /// Numbers are divided by this power of two, as forust computes in f32.
    pub(super) scale: f64,
}

impl<'a> LossTask<'a> {
    pub(super) fn new(
        targets: &'a Targets,
        weights: Option<&[f64]>,
        train: &[usize],
        rows: usize,
    ) -> Result<Self, String> {
        let mut weights = weights.map_or_else(|| vec![1.0; rows], <[f64]>::to_vec);
        // Dividing by the largest first keeps the sum finite.
        let largest = train
            .iter()
            .fold(0.0, |most: f64, &row| most.max(weights[row]));
        let total: f64 = train.iter().map(|&row| weights[row] / largest).sum();
        let mean = total / train.len() as f64;
        weights
            .iter_mut()
            .for_each(|weight| *weight = *weight / largest / mean);
        let mut task = LossTask {
            classes: &[],
            numbers: Vec::new(),
            weights,
            base: Vec::new(),
            scale: 1.0,
        };
        match targets {
            Targets::Classes { indices, classes } => {
                task.classes = indices;
                task.base = task.class_base(*classes, train)?;
            }
            Targets::Numbers(numbers) => task.set_numbers(numbers, train)?,
        }
        Ok(task)
    }

    fn class_base(&self, classes: usize, train: &[usize]) -> Result<Vec<f64>, String> {
        let mut sums = vec![0.0; classes];
        train
            .iter()
            .for_each(|&row| sums[self.classes[row] as usize] += self.weights[row]);
        if let Some(class) = sums.iter().position(|&sum| sum <= 0.0) {
            return Err(format!("class {class} has no rows to train on"));
        }
        let total: f64 = sums.iter().sum();
        Ok(match sums.as_slice() {
            [first, second] => vec![(second / first).ln()],
            _ => sums.iter().map(|sum| (sum / total).ln()).collect(),
        })
    }

    fn set_numbers(&mut self, numbers: &[f64], train: &[usize]) -> Result<(), String> {
        let largest = train
            .iter()
            .fold(0.0, |most: f64, &row| most.max(numbers[row].abs()));
        let share = 1.0 / train.len() as f64;
        let mean: f64 = train
            .iter()
            .map(|&row| numbers[row] * share * self.weights[row])
            .sum();
        let spread = train
            .iter()
            .fold(0.0, |most: f64, &row| most.max((numbers[row] - mean).abs()));
        if !(mean.is_finite() && spread.is_finite()) {
            return Err("the targets are too large".to_string());
        }
        // A spread within rounding of the mean is a constant, which needs no trees.
        let constant = spread <= largest * 1e-13;
        let power = if constant {
            0.0
        } else {
            spread.log2().round().clamp(-1000.0, 1000.0)
        };
        self.scale = power.exp2();
        let scaled = |y: &f64| {
            if constant {
                0.0
            } else {
                (y - mean) / self.scale
            }
        };
        self.numbers = numbers.iter().map(scaled).collect();
        self.base = vec![mean];
        Ok(())
    }

    /// Where scores start. Numbers are already centred.
    pub(super) fn start(&self, rows: usize) -> Vec<f64> {
        let base = |base: &f64| if self.classes.is_empty() { 0.0 } else { *base };
        self.base
            .iter()
            .flat_map(|b| std::iter::repeat_n(base(b), rows))
            .collect()
    }

    /// Fills the derivatives of the loss; scores and derivatives are output by output.
    pub(super) fn derive(
        &self,
        scores: &[f64],
        train: &[usize],
        grad: &mut [f32],
        hess: &mut [f32],
    ) {
        let (rows, outputs) = (self.weights.len(), self.base.len());
        let mut shares = vec![0.0; outputs];
        for &row in train {
            let weight = self.weights[row];
            if self.classes.is_empty() {
                grad[row] = ((scores[row] - self.numbers[row]) * weight) as f32;
                hess[row] = weight as f32;
                continue;
            }
            self.shares(scores, row, &mut shares);
            for (output, share) in shares.iter().enumerate() {
                // With two classes the one output is the second class.
                let class = if outputs == 1 { 1 } else { output };
                let hit = f64::from(u8::from(self.classes[row] as usize == class));
                grad[output * rows + row] = ((share - hit) * weight) as f32;
                hess[output * rows + row] = (share * (1.0 - share) * weight) as f32;
            }
        }
    }

    /// The probability of the second class, or of each of K classes.
    fn shares(&self, scores: &[f64], row: usize, shares: &mut [f64]) {
        if let [share] = shares {
            *share = 1.0 / (1.0 + (-scores[row]).exp());
            return;
        }
        let score = |output: usize| scores[output * self.weights.len() + row];
        let most = (0..shares.len())
            .map(score)
            .fold(f64::NEG_INFINITY, f64::max);
        let mut total = 0.0;
        for (output, share) in shares.iter_mut().enumerate() {
            *share = (score(output) - most).exp();
            total += *share;
        }
        shares.iter_mut().for_each(|share| *share /= total);
    }

    /// The sum of the losses of some rows.
    pub(super) fn loss(&self, scores: &[f64], held_out: &[usize]) -> f64 {
        let mut shares = vec![0.0; self.base.len()];
        let row_loss = |&row: &usize| {
            if self.classes.is_empty() {
                return self.weights[row] * (scores[row] - self.numbers[row]).powi(2);
            }
            self.shares(scores, row, &mut shares);
            let share = match (shares.as_slice(), self.classes[row] as usize) {
                ([second], 0) => 1.0 - second,
                ([second], _) => *second,
                (all, class) => all[class],
            };
            -self.weights[row] * share.max(1e-15).ln()
        };
        held_out.iter().map(row_loss).sum()
    }
}
