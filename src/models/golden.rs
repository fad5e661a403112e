//! Golden rows: rows with the training library's answers. A model that answers them differently is
//! not the model that was trained.

use super::compute::{self, ComputeError};
use super::{Loaded, ModelError, Output, Rows, ShortNumber};

/// One row and the answer that it must have.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenRow {
    /// One row, as long as the signature is wide.
    pub row: Vec<f64>,
    /// What the model answered when it was made.
    pub expected: Expected,
    /// By how much a number may differ, as a share of the expected one; 0 demands the same number.
    /// Labels are compared exactly.
    pub tolerance: f64,
}

/// The answer that a golden row must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// The class label.
    Label(String),
    /// The number, or the first of several.
    Number(f64),
}

/// Computes a model's golden rows; without any, its example, which must have an answer.
///
/// # Errors
///
/// The first row whose answer is not as expected, with the answer or the reason why there is none.
pub fn try_model(loaded: &Loaded) -> Result<(), ModelError> {
    if loaded.golden.is_empty() {
        return answer(loaded, loaded.example()).map(drop);
    }
    loaded
        .golden
        .iter()
        .try_for_each(|golden| try_row(loaded, golden))
}

/// Computes one row.
fn answer(loaded: &Loaded, row: Vec<f64>) -> Result<Output, ModelError> {
    let model = loaded.model.as_ref();
    let signature = model.signature();
    let rows = Rows::new(row, signature.width())
        .filter(|rows| rows.len() == 1)
        .filter(|rows| compute::check(model, rows).is_ok())
        .ok_or("the trial row does not fit the model")?;
    compute::predict(model, &rows).map_err(|failure| match failure {
        ComputeError::Input(fault) => compute::fault_text(signature, &rows, &fault).into(),
        ComputeError::Model(error) => ModelError::of(error),
    })
}

fn try_row(loaded: &Loaded, golden: &GoldenRow) -> Result<(), ModelError> {
    let signature = loaded.model.signature();
    let output = answer(loaded, golden.row.clone())?;
    match (&output, &golden.expected) {
        (Output::Classes { indices, .. }, Expected::Label(expected)) => {
            let label = &signature.output.labels()[indices[0] as usize];
            (label == expected).then_some(()).ok_or_else(|| {
                ModelError(format!("the trial gave {label:?} instead of {expected:?}"))
            })
        }
        (Output::Numbers(numbers), Expected::Number(expected)) => {
            let off = (numbers[0] - expected).abs();
            let near = off <= golden.tolerance * expected.abs().max(f64::MIN_POSITIVE);
            let (given, expected) = (ShortNumber(numbers[0]), ShortNumber(*expected));
            near.then_some(())
                .ok_or_else(|| ModelError(format!("the trial gave {given} instead of {expected}")))
        }
        _ => Err(ModelError(
            "the trial gave a class instead of a number, or a number instead of a class".to_owned(),
        )),
    }
}
