//! Pipelines: steps that prepare rows, and a model that predicts from what comes out.
//!
//! An importer makes them. Rows go through the steps in blocks, so that wide encodings take little
//! memory.

pub mod bayes;
pub mod encoder;
pub mod linear;
mod matrix;
pub mod network;
pub mod prepared;
pub mod step;
pub mod threshold;

use self::matrix::Matrix;
use self::step::Step;
use super::forest::Precision;
use super::{Model, ModelError, Output, PredictError, RowFault, Rows, Signature};

/// Numbers in a block of rows, at its widest.
const BLOCK_NUMBERS: usize = 1 << 16;

/// Values further from 0 than this may overflow on their way.
const LARGE: f64 = 1e30;

/// A model behind steps.
pub struct PipelineModel {
    /// What it takes and returns.
    pub signature: Signature,
    /// What is done to rows before.
    pub steps: Vec<Step>,
    /// For each column that comes out of the steps the feature that is blamed for it.
    pub sources: Vec<usize>,
    /// Whether the model takes NaN and infinite numbers.
    pub takes: Takes,
    /// What predicts.
    pub last: Box<dyn Model>,
    /// Whether the model's sums mean something to a client.
    pub has_raw: bool,
}

/// Which unusual numbers a model takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// NaN.
    pub nan: bool,
    /// Infinite numbers.
    pub infinite: bool,
    /// Numbers that are infinite in 32 bits.
    pub beyond_f32: bool,
}

impl Takes {
    /// All numbers that are finite.
    pub const FINITE: Takes = Takes {
        nan: false,
        infinite: false,
        beyond_f32: true,
    };
}

impl PipelineModel {
    /// The rows of a block.
    fn block_rows(&self) -> usize {
        let mut widest = self.signature.width();
        let mut width = widest;
        for step in &self.steps {
            width = step.width(width);
            widest = widest.max(width);
        }
        (BLOCK_NUMBERS / widest.max(1)).max(1)
    }

    /// Calls `use_block` with each block of rows behind the steps, and the place of its first row.
    fn each_block<E>(
        &self,
        rows: &Rows,
        mut use_block: impl FnMut(usize, Result<Rows, RowFault>) -> Result<(), E>,
    ) -> Result<(), E> {
        let block_rows = self.block_rows();
        let mut start = 0;
        for values in rows.values().chunks(block_rows * rows.width()) {
            let count = values.len() / rows.width();
            let input = Matrix {
                values: values.to_vec(),
                width: rows.width(),
                rows: count,
            };
            let block = step::run(&self.steps, input).and_then(|matrix| {
                Rows::new(matrix.values, matrix.width).ok_or_else(|| RowFault {
                    row: 0,
                    feature: 0,
                    must_be: "such that the steps have an output".to_owned(),
                })
            });
            let block = block.map_err(|fault| RowFault {
                row: start + fault.row,
                ..fault
            });
            use_block(start, block)?;
            start += count;
        }
        Ok(())
    }

    /// Checks what comes out of the steps, as scikit-learn does.
    fn check_block(&self, block: &Rows) -> Result<(), RowFault> {
        let is_wrong = |value: &f64| match value.is_nan() {
            true => !self.takes.nan,
            false if value.is_infinite() => !self.takes.infinite,
            false => !self.takes.beyond_f32 && (*value as f32).is_infinite(),
        };
        if let Some(place) = block.values().iter().position(is_wrong) {
            return Err(RowFault {
                row: place / block.width(),
                feature: place % block.width(),
                must_be: match self.takes.beyond_f32 {
                    true => {
                        "such that the steps of the pipeline make a finite number of it".to_owned()
                    }
                    false => format!(
                        "at most {:e} from 0 where it reaches the model, which reads 32 bits",
                        f32::MAX
                    ),
                },
            });
        }
        self.last.check(block)
    }
}

impl Model for PipelineModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn rename(&mut self, names: &[String]) -> Result<(), ModelError> {
        self.signature.rename(names)
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        let is_large = |value: &f64| value.abs() > LARGE;
        if !self.steps.iter().any(Step::may_fail) && !rows.values().iter().any(is_large) {
            return match self.steps.is_empty() {
                true => self.last.check(rows),
                false => Ok(()),
            };
        }
        self.each_block(rows, |start, block| {
            self.check_block(&block?).map_err(|fault| RowFault {
                row: start + fault.row,
                feature: self.sources.get(fault.feature).copied().unwrap_or(0),
                ..fault
            })
        })
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        if self.steps.is_empty() {
            return self.last.predict(rows);
        }
        let mut output = Output::none(&self.signature.output);
        self.each_block(rows, |_, block| {
            let block = block
                .map_err(|fault| PredictError(format!("a value must be {}", fault.must_be)))?;
            output.append(self.last.predict(&block)?)
        })?;
        Ok(output)
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        let mut parts = self.last.parts();
        if !self.steps.is_empty() {
            parts.push(("steps", self.steps.len()));
        }
        parts
    }

    fn raw(&self, rows: &Rows) -> Option<Vec<f64>> {
        if !self.has_raw {
            return None;
        }
        if self.steps.is_empty() {
            return self.last.raw(rows);
        }
        let mut all = Vec::new();
        let add = |_, block: Result<Rows, RowFault>| {
            all.extend(self.last.raw(&block.ok().ok_or(())?).ok_or(())?);
            Ok::<(), ()>(())
        };
        self.each_block(rows, add).ok().map(|()| all)
    }

    fn raw_width(&self) -> usize {
        match self.has_raw {
            true => self.last.raw_width(),
            false => 0,
        }
    }

    fn precision(&self) -> Precision {
        self.last.precision()
    }
}

#[cfg(test)]
mod tests;
