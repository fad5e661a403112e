//! Graphs of operators over tensors, as ONNX has them: a plan that is checked whole, and the model that
//! runs it.
//!
//! An importer makes them. All numbers stand in 64 bits, rounded to the precision of their kind after
//! each operation, which gives the bits of that precision for sums, products, quotients and square
//! roots. Rows go through in blocks, and what becomes of a row depends on it alone.

pub mod broadcast;
pub mod distances;
pub mod ensemble;
pub mod linear;
pub mod moves;
mod plan;
pub mod reduce;
mod shape;
pub mod svm;
#[cfg(test)]
mod tests;
pub mod transform;

use std::collections::HashMap;

use super::forest::Precision;
use super::{Feature, Model, ModelError, Output, PredictError, RowFault, Rows, Signature};

pub use self::plan::{Fault, GraphPlan, GraphStep, Kernel, TensorSource};
pub use self::shape::{Dim, Shape, Size, axis_of};

/// Maximum number of numbers of a block of rows in the widest tensor.
const BLOCK_NUMBERS: usize = 1 << 16;

/// Minimum of the same for forests, which are fastest with whole blocks of rows.
const BLOCK_ROWS_MAX: usize = 4096;

/// What a tensor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Numbers of 32 bits.
    F32,
    /// Numbers of 64 bits.
    F64,
    /// Whole numbers of 32 bits.
    I32,
    /// Whole numbers of 64 bits.
    I64,
    /// 0 or 1.
    Bool,
    /// Codes of texts.
    Text,
}

impl Kind {
    /// Whether it is a fraction.
    pub fn is_float(self) -> bool {
        matches!(self, Kind::F32 | Kind::F64)
    }

    /// Rounds a number to this precision. Whole numbers and texts stay as they are.
    pub fn round(self, value: f64) -> f64 {
        match self {
            Kind::F32 => f64::from(value as f32),
            _ => value,
        }
    }
}

/// The code of a text that the graph does not know.
pub const UNKNOWN_TEXT: f64 = -1.0;

/// The texts of a graph with their codes.
#[derive(Debug, Default)]
pub struct Texts {
    codes: HashMap<String, usize>,
    texts: Vec<String>,
}

impl Texts {
    /// The code of a text; it gets one if it has none.
    pub fn code(&mut self, text: &str) -> f64 {
        if let Some(code) = self.codes.get(text) {
            return *code as f64;
        }
        self.codes.insert(text.to_owned(), self.texts.len());
        self.texts.push(text.to_owned());
        (self.texts.len() - 1) as f64
    }

    /// The text of a code.
    pub fn text(&self, code: f64) -> Option<&str> {
        self.texts.get(code as usize).map(String::as_str)
    }
}

/// An input of the graph: some of the features, row after row.
#[derive(Debug)]
pub struct Input {
    /// The first of its features.
    pub start: usize,
    /// How many they are.
    pub width: usize,
    /// What its numbers are.
    pub kind: Kind,
    /// For texts: for each feature the graph's code for each code of the feature's.
    pub codes: Vec<Vec<f64>>,
}

/// What the graph's outputs mean.
#[derive(Debug)]
pub enum Meaning {
    /// One output is the answer.
    Numbers {
        /// The output.
        output: usize,
    },
    /// One output has the label, and another may have a number for each class.
    Classes {
        /// The output with labels.
        label: usize,
        /// The classes by its values.
        classes: ClassIndex,
        /// The output with probabilities.
        probabilities: Option<usize>,
    },
}

/// A model that is a graph.
pub struct GraphModel {
    /// What it takes and returns.
    pub signature: Signature,
    /// Where the features go.
    pub inputs: Vec<Input>,
    /// What is computed.
    pub plan: GraphPlan,
    /// What comes out.
    pub meaning: Meaning,
    /// An output with sums that mean something to a client, and how many they are for each row.
    pub raw: Option<(usize, usize)>,
    /// The precision of its answers.
    pub precision: Precision,
}

impl GraphModel {
    fn block_rows(&self) -> usize {
        (BLOCK_NUMBERS / self.plan.widest().max(1)).clamp(1, BLOCK_ROWS_MAX)
    }

    /// The values of the graph's inputs for some rows.
    fn inputs(&self, values: &[f64], width: usize) -> Vec<Vec<f64>> {
        let read = |input: &Input| {
            let convert: fn(f64) -> f64 = match input.kind {
                Kind::F32 => |value| f64::from(value as f32),
                Kind::Bool => |value| f64::from(u8::from(value != 0.0)),
                _ => |value| value,
            };
            match (&input.codes[..], input.width) {
                ([], 1) => {
                    let column = values.iter().skip(input.start).step_by(width);
                    column.map(|value| convert(*value)).collect()
                }
                ([], own) if own == width && input.kind == Kind::F32 => values
                    .iter()
                    .map(|value| f64::from(*value as f32))
                    .collect(),
                ([], own) => {
                    let mut all = Vec::with_capacity(values.len() / width * own);
                    for row in values.chunks_exact(width) {
                        let columns = &row[input.start..input.start + own];
                        all.extend(columns.iter().map(|value| convert(*value)));
                    }
                    all
                }
                (codes, own) => {
                    let mut all = Vec::with_capacity(values.len() / width * own);
                    for row in values.chunks_exact(width) {
                        for (codes, value) in codes.iter().zip(&row[input.start..]) {
                            let code = codes.get(*value as usize).copied();
                            all.push(code.unwrap_or(UNKNOWN_TEXT));
                        }
                    }
                    all
                }
            }
        };
        self.inputs.iter().map(read).collect()
    }

    /// Runs the graph for each block of rows and gives its outputs to `use_block`.
    fn each_block(
        &self,
        rows: &Rows,
        mut use_block: impl FnMut(usize, Vec<Vec<f64>>) -> Result<(), Fault>,
    ) -> Result<(), Fault> {
        let width = rows.width();
        let mut start = 0;
        for values in rows.values().chunks(self.block_rows() * width) {
            let count = values.len() / width;
            let outputs = self.plan.run(count, self.inputs(values, width));
            let told = |fault: Fault| Fault {
                row: start + fault.row,
                ..fault
            };
            use_block(count, outputs.map_err(told)?)?;
            start += count;
        }
        Ok(())
    }
}

impl Model for GraphModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn rename(&mut self, names: &[String]) -> Result<(), ModelError> {
        self.signature.rename(names)
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        // What most rows are, at a fraction of the time.
        let most = f64::from(f32::MAX);
        let fits = |value: &f64| value.abs() <= most;
        let is_checked = !self.plan.may_fail() && rows.values().iter().all(fits);
        if is_checked {
            return Ok(());
        }
        let narrow = self.inputs.iter().filter(|input| input.kind == Kind::F32);
        for input in narrow {
            let columns = input.start..input.start + input.width;
            let features = &self.signature.features[columns.clone()];
            if features.iter().all(|feature| feature.may_be_infinite) {
                continue;
            }
            for (row, values) in rows.iter().enumerate() {
                // Where a number may be infinite, one that is in 32 bits may be, too.
                let too_large = |(value, feature): (&f64, &Feature)| {
                    value.is_finite() && (*value as f32).is_infinite() && !feature.may_be_infinite
                };
                let mut pairs = values[columns.clone()].iter().zip(features);
                if let Some(place) = pairs.position(too_large) {
                    return Err(RowFault {
                        row,
                        feature: input.start + place,
                        must_be: format!(
                            "at most {:e} from 0, as the model computes with 32 bits",
                            f32::MAX
                        ),
                    });
                }
            }
        }
        match self.plan.may_fail() {
            false => Ok(()),
            true => self
                .each_block(rows, |_, _| Ok(()))
                .map_err(|fault| RowFault {
                    row: fault.row,
                    feature: 0,
                    must_be: format!("such that the graph has an answer: {}", fault.reason),
                }),
        }
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let mut all = Output::none(&self.signature.output);
        let told = |fault: Fault| PredictError(fault.reason);
        let mut added = Ok(());
        self.each_block(rows, |_, mut outputs| {
            let next = match &self.meaning {
                Meaning::Numbers { output } => {
                    Output::Numbers(std::mem::take(&mut outputs[*output]))
                }
                Meaning::Classes {
                    label,
                    classes,
                    probabilities,
                } => {
                    let index = |value: &f64| classes.find(*value);
                    let indices: Option<Vec<u32>> = outputs[*label].iter().map(index).collect();
                    Output::Classes {
                        indices: indices
                            .ok_or_else(|| Fault::of("its label is none of the known classes"))?,
                        probabilities: probabilities
                            .map(|output| std::mem::take(&mut outputs[output])),
                    }
                }
            };
            if added.is_ok() {
                added = all.append(next);
            }
            Ok(())
        })
        .map_err(told)?;
        added.map(|()| all)
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        self.plan.parts()
    }

    fn raw(&self, rows: &Rows) -> Option<Vec<f64>> {
        let (output, _) = self.raw?;
        let mut all = Vec::new();
        let add = |_, outputs: Vec<Vec<f64>>| {
            all.extend_from_slice(outputs.get(output).map_or(&[], Vec::as_slice));
            Ok(())
        };
        self.each_block(rows, add).ok().map(|()| all)
    }

    fn raw_width(&self) -> usize {
        self.raw.map_or(0, |(_, width)| width)
    }

    fn precision(&self) -> Precision {
        self.precision
    }
}

/// Which class each label is.
#[derive(Debug)]
pub struct ClassIndex {
    /// The first few, which are found fastest one by one.
    few: Vec<f64>,
    all: HashMap<i64, u32>,
}

impl ClassIndex {
    /// For labels in the order of classes; the first of equal ones counts.
    pub fn new(labels: &[f64]) -> Self {
        let mut all = HashMap::with_capacity(labels.len());
        for (label, class) in labels.iter().zip(0..) {
            all.entry(*label as i64).or_insert(class);
        }
        ClassIndex {
            few: labels.iter().copied().take(FEW).collect(),
            all,
        }
    }

    /// The class of a label; `None` if it is unknown.
    pub fn find(&self, label: f64) -> Option<u32> {
        match self.few.iter().position(|own| *own == label) {
            Some(class) => u32::try_from(class).ok(),
            None if self.few.len() < FEW => None,
            None => self.all.get(&(label as i64)).copied(),
        }
    }
}

/// How many labels are compared one by one.
const FEW: usize = 16;
