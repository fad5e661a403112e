//! From a body to an answer: `decode` → the model → `encode`; knows models, not sockets.
//!
//! Prediction workers, the canary and the commands call the same functions. Each dialect has files
//! of its own.

pub mod csv;
mod decode;
mod encode;

pub use decode::decode;
pub use encode::{EncodeError, encode};

use crate::error::{Code, RequestError};
use crate::model::{Expected, Model, Output, PredictError, RowFault, Rows, Schema};

/// Bytes that a prediction takes beyond its decoded rows: the model's own copy of them, and of its
/// output an index or a number for each, and the probabilities of all classes.
pub fn working_bytes(schema: &Schema, rows: &Rows) -> usize {
    let output = size_of::<f64>() * (1 + schema.classes.len());
    size_of_val(rows.values()).saturating_add(rows.len().saturating_mul(output))
}

/// Checks what the model needs of its rows beyond width and finite values.
///
/// # Errors
/// 400 with the first value that does not fit, where it stands and what would be right.
pub fn check(model: &dyn Model, rows: &Rows) -> Result<(), RequestError> {
    model.check(rows).map_err(|fault| {
        let name = &model.schema().features[fault.feature];
        let value = rows.values()[fault.row * rows.width() + fault.feature];
        let RowFault { row, must_be, .. } = fault;
        let text =
            format!("instances[{row}]: the feature {name:?} must be {must_be}, but is {value}");
        RequestError::new(Code::InvalidInput, text)
    })
}

/// Predicts, and checks that the model answered for every row with what its schema knows.
///
/// # Errors
/// The model's own, or what was wrong with its answer. A panic is the caller's to catch.
pub fn predict(model: &dyn Model, rows: &Rows) -> Result<Output, PredictError> {
    let output = model.predict(rows)?;
    let classes = model.schema().classes.len();
    let sound = match &output {
        Output::Classes {
            indices,
            probabilities,
        } => {
            indices.len() == rows.len()
                && indices.iter().all(|index| (*index as usize) < classes)
                && probabilities
                    .as_ref()
                    .is_none_or(|shares| shares.len() == rows.len() * classes)
        }
        Output::Numbers(numbers) => numbers.len() == rows.len() && classes == 0,
    };
    if sound {
        return Ok(output);
    }
    Err(PredictError(format!(
        "it did not answer with one known class or number for each of {} rows",
        rows.len()
    )))
}

/// Tries the model on its own row.
///
/// # Errors
/// What it answered instead of the expected, or why it could not.
pub fn try_model(model: &dyn Model) -> Result<(), String> {
    let trial = model.trial();
    let rows = Rows::new(trial.row.clone(), model.schema().features.len())
        .filter(|rows| rows.len() == 1)
        .filter(|rows| model.check(rows).is_ok())
        .ok_or("the trial row does not fit the model")?;
    let output = predict(model, &rows).map_err(|error| error.to_string())?;
    match (&output, &trial.expected) {
        (Output::Classes { indices, .. }, Expected::Label(expected)) => {
            let label = &model.schema().classes[indices[0] as usize];
            (label == expected)
                .then_some(())
                .ok_or_else(|| format!("the trial gave {label:?} instead of {expected:?}"))
        }
        (Output::Numbers(numbers), Expected::Number(expected)) => {
            let near =
                (numbers[0] - expected).abs() <= 1e-9 * expected.abs().max(f64::MIN_POSITIVE);
            near.then_some(())
                .ok_or_else(|| format!("the trial gave {} instead of {expected}", numbers[0]))
        }
        _ => Err(
            "the trial gave a class instead of a number, or a number instead of a class".to_owned(),
        ),
    }
}
