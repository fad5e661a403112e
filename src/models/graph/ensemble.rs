//! Ensembles of trees, with onnxruntime's order of sums: leaves in the order of trees, then the base.
//!
//! Source: onnxruntime 1.32, `core/providers/cpu/ml/tree_ensemble_aggregator.h`.

use super::transform::{Second, Transform};
use super::{Kernel, Kind};
use crate::models::Rows;
use crate::models::forest::Precision;
use crate::models::forest::plan::Plan;

/// An ensemble.
#[derive(Debug)]
pub struct Ensemble {
    /// The trees, without a base.
    pub plan: Plan,
    /// Features that it asks whether they equal a number. Behind the others stands each again, with -1 for
    /// what is no whole number, so that a set of categories can hold it.
    pub whole: Vec<usize>,
    /// Number of features.
    pub width: usize,
    /// Number of sums.
    pub outputs: usize,
    /// The precision of sums.
    pub precision: Precision,
    /// By how much sums are divided; 1 for sums.
    pub divisor: f64,
    /// What is added to each sum; none, or as many as its kind of ensemble takes.
    pub base: Vec<f64>,
    /// What is done to the sums.
    pub transform: Transform,
    /// The classes, if it has any.
    pub classes: Option<Classes>,
}

/// The classes of an ensemble.
#[derive(Debug)]
pub struct Classes {
    /// The labels, one for each sum.
    pub labels: Vec<f64>,
    /// Whether a leaf scores the class at all.
    pub is_scored: Vec<bool>,
    /// For two classes of which leaves score one: how that score is meant.
    pub one_score: Option<OneScore>,
}

/// The meaning of a single score of two classes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OneScore {
    /// The share of the second class.
    Share,
    /// Above 0 for the second class.
    Sign,
}

impl Ensemble {
    fn round(&self, value: f64) -> f64 {
        match self.precision {
            Precision::F32 => f64::from(value as f32),
            Precision::F64 => value,
        }
    }

    /// Each row's sums of leaves.
    fn sums(&self, rows: usize, values: &[f64]) -> Vec<f64> {
        let width = self.width + self.whole.len();
        let mut all = Vec::with_capacity(rows * width);
        if self.whole.is_empty() {
            all.extend_from_slice(values);
        } else {
            for row in values.chunks_exact(self.width) {
                all.extend_from_slice(row);
                all.extend(self.whole.iter().map(|feature| match row[*feature] {
                    value if value.is_nan() || (value.fract() == 0.0 && value >= 0.0) => value,
                    _ => -1.0,
                }));
            }
        }
        // The width is at least 1, and there are as many values as it says.
        Rows::new(all, width).map_or_else(Vec::new, |rows| self.plan.margins(&rows))
    }

    /// Adds the base of a regressor and transforms.
    fn numbers(&self, sums: &mut [f64]) {
        for (output, sum) in sums.iter_mut().enumerate() {
            if self.divisor != 1.0 {
                *sum = self.round(*sum / self.divisor);
            }
            if let Some(base) = self.base.get(output) {
                *sum = self.round(*sum + base);
            }
        }
        if sums.len() > 1 {
            self.transform.apply(sums);
        }
    }

    /// Adds the base of a classifier, transforms, and gives the class.
    fn class(&self, classes: &Classes, sums: &mut [f64]) -> usize {
        if sums.len() > 2 {
            for (sum, base) in sums.iter_mut().zip(&self.base) {
                *sum = self.round(*sum + base);
            }
            let is_scored = |class: usize| classes.is_scored[class] || !self.base.is_empty();
            let mut best = None;
            for (class, sum) in sums
                .iter()
                .enumerate()
                .filter(|(class, _)| is_scored(*class))
            {
                if best.is_none_or(|best: usize| *sum > sums[best]) {
                    best = Some(class);
                }
            }
            self.transform.apply(sums);
            return best.unwrap_or(0);
        }
        let [first, second] = sums else {
            return 0;
        };
        let has_second = classes.is_scored[1];
        let mut is_alone = false;
        match (&self.base[..], has_second) {
            ([_, base], true) => {
                *second = self.round(base + *first);
                *first = -*second;
            }
            ([own, other], false) => {
                *second = self.round(*second + other);
                *first = self.round(*first + own);
            }
            ([base], _) => {
                *first = self.round(*first + base);
                is_alone = !has_second;
            }
            _ => is_alone = !has_second,
        }
        // A class without a score counts as 0, whatever its base.
        if !classes.is_scored[0] {
            *first = 0.0;
        }
        if !has_second {
            *second = 0.0;
        }
        let positive = if has_second { *second } else { *first };
        let (is_second, kind) = match classes.one_score {
            Some(OneScore::Share) => (positive > 0.5, Second::Rest),
            Some(OneScore::Sign) | None => (positive > 0.0, Second::Negative),
        };
        match is_alone {
            true => [*first, *second] = self.transform.of_one(*first, kind),
            false => self.transform.apply(sums),
        }
        usize::from(is_second)
    }

    /// The operator: a label for each row if it has classes, and numbers of this kind.
    pub fn kernel(self, kind: Kind) -> Kernel {
        Box::new(move |rows, inputs| {
            let mut sums = self.sums(rows, inputs[0]);
            let rows = sums.chunks_exact_mut(self.outputs);
            let labels: Option<Vec<f64>> = match &self.classes {
                None => {
                    rows.for_each(|row| self.numbers(row));
                    None
                }
                Some(classes) => Some(
                    rows.map(|row| classes.labels[self.class(classes, row)])
                        .collect(),
                ),
            };
            if self.precision == Precision::F64 {
                sums.iter_mut().for_each(|sum| *sum = kind.round(*sum));
            }
            Ok(labels.into_iter().chain([sums]).collect())
        })
    }
}
