//! The steps of a pipeline: what scikit-learn's transformers do to rows when they predict.

use super::encoder::Encoding;
use super::matrix::Matrix;
use super::prepared::Prepared;
use crate::models::RowFault;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Takes these columns.
    Choose(Vec<usize>),
    /// Computes each value with the number of its column.
    Each(Operation, Vec<f64>),
    /// Applies a function to each value.
    Function(Function),
    /// Divides each row by its size; a row of zeros stays.
    Normalize(Norm),
    /// Fills missing values and appends flags.
    Impute(Imputation),
    /// For each column as many as it has targets: 1 at the target, otherwise 0.
    OneHot {
        /// The columns; a target is a place among all outputs, or none.
        columns: Vec<Encoding<Option<u32>>>,
        /// Number of outputs.
        width: usize,
    },
    /// A number for each category.
    Ordinal(Vec<Encoding<f64>>),
    /// For each column the number of inner edges that its value reaches.
    Bins(Vec<Vec<f64>>),
    /// Products of columns: the last factor first, as scikit-learn multiplies.
    Products(Vec<Vec<usize>>),
    /// Sums of columns with weights, minus an offset for each.
    Project {
        /// Number of columns that go in.
        width: usize,
        /// For each output the weights of all columns.
        weights: Vec<f64>,
        /// For each output what is subtracted.
        offsets: Vec<f64>,
    },
    /// 1 above the threshold, otherwise 0.
    Binarize(f64),
    /// Several pipelines side by side.
    Parallel(Vec<Branch>),
    /// For each column what it becomes.
    Prepare(Vec<Prepared>),
}

/// One of several pipelines side by side.
#[derive(Debug, Clone, PartialEq)]
pub struct Branch {
    /// The columns that it takes.
    pub columns: Vec<usize>,
    /// Its steps.
    pub steps: Vec<Step>,
}

/// What is done to each value with the number of its column.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Adds it.
    Add,
    /// Subtracts it.
    Subtract,
    /// Multiplies with it.
    Multiply,
    /// Divides by it.
    Divide,
    /// Raises smaller values to it.
    AtLeast,
    /// Lowers larger values to it.
    AtMost,
}

/// The size of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// The sum of the values without their signs.
    L1,
    /// The root of the sum of squares.
    L2,
    /// The largest value without its sign.
    Max,
}

/// What an imputer does.
#[derive(Debug, Clone, PartialEq)]
pub struct Imputation {
    /// The value that counts as missing; NaN for NaN.
    pub missing: f64,
    /// The columns that are kept, and what is put in for a missing value.
    pub filled: Vec<(usize, f64)>,
    /// The columns for which 1 is appended if they are missing, otherwise 0.
    pub flagged: Vec<usize>,
}

/// Functions of numpy's by their names there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function(usize);

/// A function of one number.
type OfNumber = fn(f64) -> f64;

/// The functions that are known.
#[rustfmt::skip]
pub const FUNCTIONS: [(&str, OfNumber); 27] = [
    ("abs", f64::abs), ("absolute", f64::abs), ("fabs", f64::abs),
    ("negative", |x| -x), ("positive", |x| x), ("square", |x| x * x), ("reciprocal", |x| 1.0 / x),
    ("sqrt", f64::sqrt), ("cbrt", f64::cbrt),
    ("exp", f64::exp), ("exp2", f64::exp2), ("expm1", f64::exp_m1),
    ("log", f64::ln), ("log2", f64::log2), ("log10", f64::log10), ("log1p", f64::ln_1p),
    ("sin", f64::sin), ("cos", f64::cos), ("tan", f64::tan), ("arctan", f64::atan),
    ("sinh", f64::sinh), ("tanh", f64::tanh), ("arcsinh", f64::asinh),
    ("floor", f64::floor), ("ceil", f64::ceil), ("trunc", f64::trunc),
    ("rint", f64::round_ties_even),
];

impl Function {
    /// The function of this name.
    pub fn named(name: &str) -> Option<Function> {
        FUNCTIONS
            .iter()
            .position(|(own, _)| *own == name)
            .map(Function)
    }
}

impl Operation {
    /// Comparisons leave NaN as it is.
    fn apply(self, value: f64, number: f64) -> f64 {
        match self {
            Operation::Add => value + number,
            Operation::Subtract => value - number,
            Operation::Multiply => value * number,
            Operation::Divide => value / number,
            Operation::AtLeast if value < number => number,
            Operation::AtMost if value > number => number,
            Operation::AtLeast | Operation::AtMost => value,
        }
    }
}

impl Norm {
    fn of(self, row: &[f64]) -> f64 {
        match self {
            Norm::L1 => row.iter().map(|value| value.abs()).sum(),
            Norm::L2 => row.iter().map(|value| value * value).sum::<f64>().sqrt(),
            Norm::Max => row.iter().fold(0.0, |most, value| most.max(value.abs())),
        }
    }
}

impl Imputation {
    fn is_missing(&self, value: f64) -> bool {
        value == self.missing || (self.missing.is_nan() && value.is_nan())
    }

    fn apply(&self, input: &Matrix) -> Matrix {
        input.map(self.filled.len() + self.flagged.len(), |row, out| {
            out.extend(self.filled.iter().map(
                |(column, fill)| match self.is_missing(row[*column]) {
                    true => *fill,
                    false => row[*column],
                },
            ));
            let flag = |column: &usize| f64::from(u8::from(self.is_missing(row[*column])));
            out.extend(self.flagged.iter().map(flag));
        })
    }
}

/// Takes a block of rows through steps.
///
/// # Errors
///
/// The first value that a step refuses.
pub(super) fn run(steps: &[Step], input: Matrix) -> Result<Matrix, RowFault> {
    steps
        .iter()
        .try_fold(input, |matrix, step| step.apply(matrix))
}

impl Step {
    /// Number of columns that come out if `width` go in.
    pub(super) fn width(&self, width: usize) -> usize {
        match self {
            Step::Choose(columns) => columns.len(),
            Step::Impute(imputation) => imputation.filled.len() + imputation.flagged.len(),
            Step::OneHot { width, .. } => *width,
            Step::Products(products) => products.len(),
            Step::Project { offsets, .. } => offsets.len(),
            Step::Parallel(branches) => branches
                .iter()
                .map(|branch| {
                    let into = branch.columns.len();
                    branch
                        .steps
                        .iter()
                        .fold(into, |width, step| step.width(width))
                })
                .sum(),
            Step::Prepare(features) => features.iter().map(Prepared::width).sum(),
            Step::Each(..)
            | Step::Function(_)
            | Step::Normalize(_)
            | Step::Ordinal(_)
            | Step::Bins(_)
            | Step::Binarize(_) => width,
        }
    }

    /// Whether it refuses some values, or makes numbers that are not finite of finite ones.
    pub(super) fn may_fail(&self) -> bool {
        match self {
            Step::Function(_) => true,
            Step::OneHot { columns, .. } => columns.iter().any(|one| one.unknown.is_none()),
            Step::Ordinal(columns) => columns.iter().any(|one| one.unknown.is_none()),
            Step::Parallel(branches) => branches
                .iter()
                .any(|branch| branch.steps.iter().any(Step::may_fail)),
            _ => false,
        }
    }

    fn apply(&self, mut input: Matrix) -> Result<Matrix, RowFault> {
        Ok(match self {
            Step::Choose(columns) => input.choose(columns),
            Step::Each(operation, numbers) => {
                for row in input.values.chunks_exact_mut(numbers.len().max(1)) {
                    for (value, number) in row.iter_mut().zip(numbers) {
                        *value = operation.apply(*value, *number);
                    }
                }
                input
            }
            Step::Function(Function(index)) => {
                let (_, function) = FUNCTIONS[*index];
                input
                    .values
                    .iter_mut()
                    .for_each(|value| *value = function(*value));
                input
            }
            Step::Normalize(norm) => {
                for row in input.values.chunks_exact_mut(input.width.max(1)) {
                    let size = norm.of(row);
                    if size != 0.0 {
                        row.iter_mut().for_each(|value| *value /= size);
                    }
                }
                input
            }
            Step::Impute(imputation) => imputation.apply(&input),
            Step::OneHot { columns, width } => one_hot(&input, columns, *width)?,
            Step::Ordinal(columns) => ordinal(input, columns)?,
            Step::Bins(edges) => {
                for row in input.values.chunks_exact_mut(edges.len().max(1)) {
                    for (value, edges) in row.iter_mut().zip(edges) {
                        *value = edges.partition_point(|edge| edge <= value) as f64;
                    }
                }
                input
            }
            Step::Products(products) => input.map(products.len(), |row, out| {
                out.extend(products.iter().map(|factors| {
                    let mut factors = factors.iter().rev().map(|column| row[*column]);
                    let last = factors.next().unwrap_or(1.0);
                    factors.fold(last, |product, factor| product * factor)
                }));
            }),
            Step::Project {
                width,
                weights,
                offsets,
            } => input.map(offsets.len(), |row, out| {
                let outputs = weights.chunks_exact((*width).max(1)).zip(offsets);
                out.extend(outputs.map(|(weights, offset)| dot(row, weights) - offset));
            }),
            Step::Binarize(threshold) => {
                for value in &mut input.values {
                    *value = f64::from(u8::from(*value > *threshold));
                }
                input
            }
            Step::Parallel(branches) => {
                let part = |branch: &Branch| run(&branch.steps, input.choose(&branch.columns));
                let parts: Vec<Matrix> = branches.iter().map(part).collect::<Result<_, _>>()?;
                Matrix::beside(&parts, input.rows)
            }
            Step::Prepare(features) => input.map(self.width(input.width), |row, out| {
                for (value, feature) in row.iter().zip(features) {
                    feature.put(*value, out);
                }
            }),
        })
    }
}

fn one_hot(
    input: &Matrix,
    columns: &[Encoding<Option<u32>>],
    width: usize,
) -> Result<Matrix, RowFault> {
    let mut values = vec![0.0; input.rows * width];
    for row in 0..input.rows {
        let out = &mut values[row * width..][..width];
        for (value, column) in input.row(row).iter().zip(columns) {
            if let Some(place) = column.target(*value).ok_or_else(|| fault(row, column))? {
                out[place as usize] = 1.0;
            }
        }
    }
    Ok(Matrix {
        values,
        width,
        rows: input.rows,
    })
}

fn ordinal(mut input: Matrix, columns: &[Encoding<f64>]) -> Result<Matrix, RowFault> {
    for (row, values) in input
        .values
        .chunks_exact_mut(columns.len().max(1))
        .enumerate()
    {
        for (value, column) in values.iter_mut().zip(columns) {
            *value = column.target(*value).ok_or_else(|| fault(row, column))?;
        }
    }
    Ok(input)
}

fn fault<T: Copy>(row: usize, column: &Encoding<T>) -> RowFault {
    RowFault {
        row,
        feature: column.feature,
        must_be: column.must_be(),
    }
}

/// The sum of products, in four sums that the processor adds side by side.
pub fn dot(one: &[f64], other: &[f64]) -> f64 {
    let mut sums = [0.0; 4];
    let (ones, others) = (one.chunks_exact(4), other.chunks_exact(4));
    let rest = ones.remainder().iter().zip(others.remainder());
    let rest: f64 = rest.map(|(one, other)| one * other).sum();
    for (one, other) in ones.zip(others) {
        for lane in 0..4 {
            sums[lane] += one[lane] * other[lane];
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3]) + rest
}
