//! From a body to an answer: `decode` → the model → `encode`; knows models, not sockets.
//!
//! Prediction workers, the canary and the commands call the same functions. Each dialect has files
//! of its own.

mod blame;
pub mod csv;
mod decode;
mod encode;
mod json;

pub use blame::without_mark;
pub use decode::decode;
pub use encode::{EncodeError, encode};

use crate::error::{Code, RequestError};
use crate::models::{
    Expected, Model, Output, PredictError, RowFault, Rows, ShortNumber, Signature,
};

/// What is further from 0 than this is no measurement: where the answer to it is not finite, that is
/// its client's doing.
const EXTREME: f64 = 1e100;

/// The most rows that a model which failed is asked again, each alone.
const BLAMED_MAX: usize = 8;

/// Why there is no answer to some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComputeError {
    /// A value is so far from 0 that the answer is no finite number: the client's fault.
    Input(RowFault),
    /// The model's own.
    Model(PredictError),
}

/// Bytes that a prediction takes beyond its decoded rows: the model's own copy of them, and of its
/// output an index or a number for each, and the probabilities of all classes.
pub fn working_bytes(signature: &Signature, rows: &Rows) -> usize {
    let output = size_of::<f64>() * (1 + signature.classes.len());
    size_of_val(rows.values()).saturating_add(rows.len().saturating_mul(output))
}

/// Checks what the model needs of its rows beyond width and finite values.
///
/// # Errors
/// 400 with the first value that does not fit, where it stands and what would be right.
pub fn check(model: &dyn Model, rows: &Rows) -> Result<(), RequestError> {
    let checked = model.check(rows);
    checked.map_err(|fault| unfit(model.signature(), rows, &fault))
}

/// The refusal of a value that the model cannot take.
pub fn unfit(signature: &Signature, rows: &Rows, fault: &RowFault) -> RequestError {
    let text = format!(
        "instances[{}]: {}",
        fault.row,
        fault_text(signature, rows, fault)
    );
    RequestError::new(Code::InvalidInput, text)
}

/// Says which feature is wrong, what it must be, and what it is.
pub fn fault_text(signature: &Signature, rows: &Rows, fault: &RowFault) -> String {
    let name = &signature.features[fault.feature];
    let value = ShortNumber(rows.values()[fault.row * rows.width() + fault.feature]);
    let must_be = &fault.must_be;
    format!("the feature {name:?} must be {must_be}, but is {value}")
}

/// Predicts, and checks that the model answered for every row with what its signature knows.
///
/// # Errors
/// A row that is too extreme for a finite answer; the model's own error, or what was wrong with its
/// answer. Other numbers that are not finite are left to whoever writes them. A panic is the caller's
/// to catch.
pub fn predict(model: &dyn Model, rows: &Rows) -> Result<Output, ComputeError> {
    let output = model.predict(rows).map_err(|error| {
        let extreme = (0..rows.len()).filter_map(|row| extreme(rows, row));
        let extreme = extreme.take(BLAMED_MAX);
        let alone = |fault: &RowFault| model.predict(&rows.part(fault.row, 1)).is_err();
        let culprit = extreme.into_iter().find(alone);
        culprit.map_or(ComputeError::Model(error), ComputeError::Input)
    })?;
    let classes = model.signature().classes.len();
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
    if !sound {
        return Err(ComputeError::Model(PredictError(format!(
            "it did not answer with one known class or number for each of {} rows",
            rows.len()
        ))));
    }
    match first_not_finite(&output, classes).and_then(|row| extreme(rows, row)) {
        Some(fault) => Err(ComputeError::Input(fault)),
        None => Ok(output),
    }
}

/// The first row whose answer holds a number that is not finite.
fn first_not_finite(output: &Output, classes: usize) -> Option<usize> {
    let (numbers, width) = match output {
        Output::Numbers(numbers) => (numbers, 1),
        Output::Classes { probabilities, .. } => (probabilities.as_ref()?, classes),
    };
    let place = numbers.iter().position(|number| !number.is_finite())?;
    Some(place / width.max(1))
}

/// The most extreme value of a row, if any is.
fn extreme(rows: &Rows, row: usize) -> Option<RowFault> {
    let from = row * rows.width();
    let values = rows.values()[from..from + rows.width()].iter();
    let sizes = values.map(|value| value.abs()).enumerate();
    let (feature, size) = sizes.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (size > EXTREME).then(|| RowFault {
        row,
        feature,
        must_be: "closer to 0, as the model's answer to it is no finite number".to_owned(),
    })
}

/// Tries the model on its own row.
///
/// # Errors
/// What it answered instead of the expected, or why it could not.
pub fn try_model(model: &dyn Model) -> Result<(), String> {
    let trial = model.trial();
    let rows = Rows::new(trial.row.clone(), model.signature().features.len())
        .filter(|rows| rows.len() == 1)
        .filter(|rows| model.check(rows).is_ok())
        .ok_or("the trial row does not fit the model")?;
    let output = predict(model, &rows).map_err(|failure| match failure {
        ComputeError::Input(fault) => fault_text(model.signature(), &rows, &fault),
        ComputeError::Model(error) => error.to_string(),
    })?;
    match (&output, &trial.expected) {
        (Output::Classes { indices, .. }, Expected::Label(expected)) => {
            let label = &model.signature().classes[indices[0] as usize];
            (label == expected)
                .then_some(())
                .ok_or_else(|| format!("the trial gave {label:?} instead of {expected:?}"))
        }
        (Output::Numbers(numbers), Expected::Number(expected)) => {
            let near =
                (numbers[0] - expected).abs() <= 1e-9 * expected.abs().max(f64::MIN_POSITIVE);
            let (given, expected) = (ShortNumber(numbers[0]), ShortNumber(*expected));
            near.then_some(())
                .ok_or_else(|| format!("the trial gave {given} instead of {expected}"))
        }
        _ => Err(
            "the trial gave a class instead of a number, or a number instead of a class".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests;
