//! Computing an answer: rows are checked before the model sees them, and its output is checked
//! after.

use super::{Model, Output, OutputSpec, PredictError, RowFault, Rows, ShortNumber, Signature};

/// Values further from 0 than this are not measurements: if the answer to one is not finite, that
/// is the client's fault.
pub(crate) const EXTREME: f64 = 1e100;

/// After a failure, how many rows the model is asked again, each alone.
const BLAMED_MAX: usize = 8;

/// Why there is no answer to some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ComputeError {
    /// A value is so far from 0 that the answer is not finite: the client's fault.
    Input(RowFault),
    /// The model's own.
    Model(PredictError),
}

/// Checks rows against the signature, and then for what else the model needs.
///
/// # Errors
///
/// The first value that does not fit.
pub fn check(model: &dyn Model, rows: &Rows) -> Result<(), RowFault> {
    model.signature().check(rows)?;
    model.check(rows)
}

/// Says which feature is wrong, what it must be, and what was given.
pub fn fault_text(signature: &Signature, rows: &Rows, fault: &RowFault) -> String {
    let name = &signature.features[fault.feature].name;
    let value = ShortNumber(rows.values()[fault.row * rows.width() + fault.feature]);
    let must_be = &fault.must_be;
    format!("the feature {name:?} must be {must_be}, but is {value}")
}

/// Predicts, and checks that the model answered every row as its signature says.
///
/// # Errors
///
/// A row that is too extreme for a finite answer; the model's own error, or what was wrong with its
/// answer. Other numbers that are not finite are left to the encoder. The caller catches panics.
pub fn predict(model: &dyn Model, rows: &Rows) -> Result<Output, ComputeError> {
    let output = model.predict(rows).map_err(|error| {
        let extreme = (0..rows.len()).filter_map(|row| extreme(rows, row));
        let extreme = extreme.take(BLAMED_MAX);
        let alone = |fault: &RowFault| model.predict(&rows.part(fault.row, 1)).is_err();
        let culprit = extreme.into_iter().find(alone);
        culprit.map_or(ComputeError::Model(error), ComputeError::Input)
    })?;
    let signature = model.signature();
    let sound = match (&output, &signature.output) {
        (
            Output::Classes {
                indices,
                probabilities,
            },
            OutputSpec::Classes {
                labels,
                has_probabilities,
            },
        ) => {
            indices.len() == rows.len()
                && indices.iter().all(|index| (*index as usize) < labels.len())
                && probabilities.is_some() == *has_probabilities
                && probabilities
                    .as_ref()
                    .is_none_or(|shares| shares.len() == rows.len() * labels.len())
        }
        (Output::Numbers(numbers), OutputSpec::Numbers { width }) => {
            numbers.len() == rows.len() * width
        }
        _ => false,
    };
    if !sound {
        return Err(ComputeError::Model(PredictError(format!(
            "it did not answer with one known class or number for each of {} rows",
            rows.len()
        ))));
    }
    match first_not_finite(&output, &signature.output).and_then(|row| extreme(rows, row)) {
        Some(fault) => Err(ComputeError::Input(fault)),
        None => Ok(output),
    }
}

/// The first row whose answer contains a number that is not finite.
pub(crate) fn first_not_finite(output: &Output, spec: &OutputSpec) -> Option<usize> {
    let (numbers, width) = match (output, spec) {
        (Output::Numbers(numbers), OutputSpec::Numbers { width }) => (numbers, *width),
        (Output::Numbers(numbers), OutputSpec::Classes { .. }) => (numbers, 1),
        (Output::Classes { probabilities, .. }, spec) => {
            (probabilities.as_ref()?, spec.labels().len())
        }
    };
    let place = numbers.iter().position(|number| !number.is_finite())?;
    Some(place / width.max(1))
}

/// The most extreme value of a row, if it has any.
fn extreme(rows: &Rows, row: usize) -> Option<RowFault> {
    let from = row * rows.width();
    let values = rows.values()[from..from + rows.width()].iter();
    let sizes = values.map(|value| value.abs()).enumerate();
    let (feature, size) = sizes.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (size > EXTREME).then(|| RowFault {
        row,
        feature,
        must_be: "closer to 0, as the model's answer to it is not finite".to_owned(),
    })
}

#[cfg(test)]
mod tests;
