//! The file of a trained model.

use bytesize::ByteSize;

use crate::config::ModelRequest;
use crate::models::format::Format as _;
use crate::models::native::features::{FeatureDocument, KindDocument};
use crate::models::native::{ExpectedDocument, Native, NativeDocument, TrialDocument};
use crate::models::{Model as _, Output, Rows};
use crate::train::algorithms::Algorithm;
use crate::train::data::TrainingData;
use crate::train::{Fitted, TrainError, Validation, prepare};

/// Maximum size of a file that a server reads.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Makes the bytes of a model's file, and reads them as a server would. `folds` were scored, with this
/// result; the model has this name and was trained at this time (RFC 3339).
///
/// # Errors
///
/// A model that gives no finite answer, and a file that a server would not read.
pub fn write(
    data: &TrainingData,
    algorithm: &Algorithm,
    fitted: Fitted,
    (folds, validation): (usize, Option<&Validation>),
    (name, created): (&str, &str),
) -> Result<Vec<u8>, TrainError> {
    let row = typical_row(data);
    let rows = Rows::new(row.clone(), row.len()).ok_or("there is no row to try")?;
    let answer = fitted
        .model
        .predict(&rows)
        .map_err(|error| error.to_string())?;
    let expected = expected(&answer, &data.classes)
        .ok_or("the trained model gives no finite answer for a typical row")?;
    let mut document = NativeDocument::new(
        name.to_owned(),
        algorithm.name,
        (data.features.clone(), data.classes.clone()),
        (fitted.preparation, fitted.predictor),
        TrialDocument {
            row: row
                .into_iter()
                .map(|value| (!value.is_nan()).then_some(value))
                .collect(),
            expected,
        },
        created,
    );
    document.parameters = fitted.parameters;
    document.training = Some(data.document(folds, validation));
    if let Some(validation) = validation {
        document.scores = validation.scores.clone();
    }
    let bytes = document.seal().map_err(|error| error.to_string())?;
    if bytes.len() > FILE_BYTES_MAX {
        return Err(TrainError(format!(
            "the model's file would have {}, but a server reads at most {}; choose fewer or smaller trees, or fewer rows of neighbours",
            ByteSize::b(bytes.len() as u64),
            ByteSize::b(FILE_BYTES_MAX as u64)
        )));
    }
    // A server will make the same checks.
    Native
        .load(&bytes, &ModelRequest::default())
        .map_err(|error| format!("the trained model cannot be served: {error}"))?;
    Ok(bytes)
}

/// A row that nobody is in: the middle of each number, the commonest label of each category.
fn typical_row(data: &TrainingData) -> Vec<f64> {
    let value = |(place, feature): (usize, &FeatureDocument)| {
        let values: Vec<f64> = data.rows.iter().map(|row| row[place]).collect();
        match &feature.kind {
            KindDocument::Category { labels, .. } => {
                let mut counts = vec![0usize; labels.len()];
                for code in values.iter().filter(|code| !code.is_nan()) {
                    counts[*code as usize] += 1;
                }
                let most = counts.iter().max().copied().unwrap_or(0);
                counts.iter().position(|count| *count == most).unwrap_or(0) as f64
            }
            KindDocument::YesNo => prepare::median(&values).round(),
            KindDocument::Number | KindDocument::WholeNumber | KindDocument::Moment(_) => {
                prepare::median(&values)
            }
        }
    };
    data.features.iter().enumerate().map(value).collect()
}

/// The answer that a trial must give, from the model's own; `None` if there is none.
fn expected(output: &Output, classes: &[String]) -> Option<ExpectedDocument> {
    match output {
        Output::Numbers(numbers) => numbers
            .first()
            .filter(|number| number.is_finite())
            .map(|number| ExpectedDocument::Number(*number)),
        Output::Classes { indices, .. } => {
            let label = classes.get(*indices.first()? as usize)?;
            Some(ExpectedDocument::Label(label.clone()))
        }
    }
}
