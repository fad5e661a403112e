//! A classifier of two classes with a threshold of its own.

use crate::models::forest::Precision;
use crate::models::{Model, Output, PredictError, RowFault, Rows, Signature};

/// Answers the positive class if the score of the model inside is at least the threshold.
pub struct ThresholdModel {
    /// The classifier, of two classes.
    pub inner: Box<dyn Model>,
    /// The threshold.
    pub threshold: f64,
    /// Whether the score is the model's sum before the transform, and not the probability.
    pub is_raw: bool,
    /// The index of the positive class, 0 or 1.
    pub positive: u32,
}

impl Model for ThresholdModel {
    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.inner.check(rows)
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let output = self.inner.predict(rows)?;
        let Output::Classes { probabilities, .. } = output else {
            return Err(PredictError("it is no classifier".to_owned()));
        };
        let raw = match self.is_raw {
            true => self.inner.raw(rows),
            false => None,
        };
        let scores: Vec<f64> = match (&raw, &probabilities) {
            (Some(sums), _) if self.positive == 1 => sums.clone(),
            (Some(sums), _) => sums.iter().map(|sum| -sum).collect(),
            (None, Some(shares)) if !self.is_raw => {
                let own = shares.iter().skip(self.positive as usize);
                own.step_by(2).copied().collect()
            }
            _ => return Err(PredictError("it has no scores".to_owned())),
        };
        let index = |score: &f64| match *score >= self.threshold {
            true => self.positive,
            false => 1 - self.positive,
        };
        Ok(Output::Classes {
            indices: scores.iter().map(index).collect(),
            probabilities,
        })
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        self.inner.parts()
    }

    fn raw(&self, rows: &Rows) -> Option<Vec<f64>> {
        self.inner.raw(rows)
    }

    fn raw_width(&self) -> usize {
        self.inner.raw_width()
    }

    fn precision(&self) -> Precision {
        self.inner.precision()
    }
}
