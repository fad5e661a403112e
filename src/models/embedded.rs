//! The embedded model: a forest of 100 trees on Fisher's iris data, and the recipe that made it.
//!
//! The data are smartcore's (UCI Machine Learning Repository, Iris, 1936). They are `f32`; each
//! value becomes `f64` through its decimal text, so that 5.1 is 5.1.

use smartcore::dataset::iris;
use smartcore::ensemble::random_forest_classifier::RandomForestClassifierParameters;
use smartcore::linalg::basic::matrix::DenseMatrix;

use serde_json::value::RawValue;

use crate::models::ModelError;
use crate::models::estimator::ForestClassifier;
use crate::models::native::{Document, ExpectedDocument, TrialDocument};

/// The model file that is embedded in the binary.
pub(crate) const JSON: &str = include_str!("embedded.json");

const TREES: u16 = 100;
const SEED: u64 = 42;
const FEATURES: [&str; 4] = ["sepal_length", "sepal_width", "petal_length", "petal_width"];
const FOLDS: usize = 5;

/// When the recipe was last changed; training it again writes the same bytes.
const CREATED: &str = "2026-11-24T00:00:00Z";

/// The iris data: rows and class indices.
struct IrisData {
    rows: Vec<[f64; 4]>,
    classes: Vec<u32>,
    labels: Vec<String>,
}

fn data() -> IrisData {
    let iris = iris::load_dataset();
    let exact = |value: f32| value.to_string().parse().unwrap_or(f64::from(value));
    let rows = iris
        .data
        .chunks_exact(4)
        .map(|row| [0, 1, 2, 3].map(|column| exact(row[column])));
    IrisData {
        rows: rows.collect(),
        classes: iris.target,
        labels: iris.target_names,
    }
}

fn fit(rows: &[[f64; 4]], classes: &Vec<u32>) -> Result<ForestClassifier, ModelError> {
    let parameters = RandomForestClassifierParameters::default()
        .with_n_trees(TREES)
        .with_seed(SEED);
    ForestClassifier::fit(&matrix(rows)?, classes, parameters).map_err(ModelError::of)
}

fn matrix(rows: &[[f64; 4]]) -> Result<DenseMatrix<f64>, ModelError> {
    DenseMatrix::new(rows.len(), 4, rows.concat(), false).map_err(ModelError::of)
}

/// Accuracy over all rows, each predicted by a forest trained without its fold.
///
/// The data are sorted by class, 50 rows each, so every fifth row makes stratified folds.
fn cross_validated_accuracy(data: &IrisData) -> Result<f64, ModelError> {
    let mut right = 0;
    for fold in 0..FOLDS {
        let split = |tested: bool| {
            let chosen =
                (0..data.rows.len()).filter(move |index| (index % FOLDS == fold) == tested);
            chosen
                .map(|index| (data.rows[index], data.classes[index]))
                .unzip::<_, _, Vec<_>, Vec<_>>()
        };
        let ((rows, classes), (tested, truth)) = (split(false), split(true));
        let predicted = fit(&rows, &classes)?
            .predict(&matrix(&tested)?)
            .map_err(ModelError::of)?;
        right += predicted
            .iter()
            .zip(&truth)
            .filter(|(predicted, truth)| predicted == truth)
            .count();
    }
    Ok(right as f64 / data.rows.len() as f64)
}

/// Trains the default model again and returns its file's bytes, always the same.
///
/// # Errors
///
/// smartcore's own.
pub fn train() -> Result<Vec<u8>, ModelError> {
    let data = data();
    let forest = fit(&data.rows, &data.classes)?;
    let row = data.rows[0];
    let answer = forest.predict(&matrix(&[row])?).map_err(ModelError::of)?[0];
    let trial = TrialDocument {
        row: row.to_vec(),
        expected: ExpectedDocument::Label(data.labels[answer as usize].clone()),
    };
    let serialised = serde_json::to_string(&forest).map_err(ModelError::of)?;
    let estimator = RawValue::from_string(serialised).map_err(ModelError::of)?;
    let names = (FEATURES.map(str::to_owned).to_vec(), data.labels.clone());
    let mut document = Document::new(
        "iris".to_owned(),
        "random-forest-classifier",
        names,
        estimator,
        trial,
        CREATED,
    );
    document.parameters = [("n_trees", TREES.into()), ("seed", SEED.into())]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
    document.scores = [(
        format!("accuracy_{FOLDS}_folds"),
        cross_validated_accuracy(&data)?,
    )]
    .into();
    document.seal().map_err(ModelError::of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::native;

    /// With `LANEKEEPER_BLESS=1` this writes the file again, after a change of the recipe.
    #[test]
    fn the_embedded_model_equals_a_fresh_training() {
        let fresh = train().unwrap();
        if std::env::var_os("LANEKEEPER_BLESS").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/embedded.json");
            native::write_atomically(path.as_ref(), &fresh).unwrap();
        } else {
            assert!(
                fresh == JSON.as_bytes(),
                "run this test with LANEKEEPER_BLESS=1 after a change of the recipe"
            );
        }
    }

    #[test]
    fn the_embedded_data_are_what_fisher_measured() {
        let data = data();
        assert_eq!((data.rows.len(), data.rows[0]), (150, [5.1, 3.5, 1.4, 0.2]));
        assert_eq!(data.labels, ["setosa", "versicolor", "virginica"]);
    }
}
