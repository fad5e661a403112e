//! Nearest neighbours.
//!
//! Stored as the training data and the parameters; smartcore builds its search structure when they
//! are read, from data that were checked.

use serde::{Deserialize, Serialize};
use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::metrics::distance::Distance as SmartDistance;
use smartcore::metrics::distance::euclidian::Euclidian;
use smartcore::metrics::distance::manhattan::Manhattan;
use smartcore::neighbors::KNNWeightFunction;
use smartcore::neighbors::knn_classifier::{KNNClassifier, KNNClassifierParameters};
use smartcore::neighbors::knn_regressor::{KNNRegressor, KNNRegressorParameters};

use super::packed::Packed;
use crate::models::forest::model::largest;
use crate::models::{
    Model, ModelError, Output, OutputSpec, PredictError, RowFault, Rows, Signature,
};
use crate::platform::{panic, sys};

type SmartMatrix = DenseMatrix<f64>;
type SmartClassifier = KNNClassifier<f64, u32, SmartMatrix, Vec<u32>, Metric>;
type SmartRegressor = KNNRegressor<f64, f64, SmartMatrix, Vec<f64>, Metric>;

/// How the distance of two rows is measured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// The root of the sum of squares.
    #[default]
    Euclidean,
    /// The sum of absolute differences.
    Manhattan,
}

/// What each neighbour counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourWeights {
    /// The same.
    #[default]
    Uniform,
    /// By the inverse of its distance.
    Distance,
}

/// Neighbours in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NeighboursDocument {
    /// How many neighbours answer.
    pub n_neighbors: usize,
    /// What each of them counts.
    pub weights: NeighbourWeights,
    /// Which are near.
    pub metric: Metric,
    /// The training rows, prepared, one after another.
    pub values: Packed<f64>,
    /// For each its number, or the index of its class.
    pub targets: Packed<f64>,
}

/// What smartcore searches.
enum Search {
    Classes(SmartClassifier),
    Numbers(SmartRegressor),
}

/// Neighbours that vote, or whose mean is taken.
pub(super) struct Neighbours {
    signature: Signature,
    search: Search,
    surroundings: Surroundings,
    rows: usize,
}

impl SmartDistance<Vec<f64>> for Metric {
    fn distance(&self, a: &Vec<f64>, b: &Vec<f64>) -> f64 {
        match self {
            Metric::Euclidean => Euclidian::<f64>::new().distance(a, b),
            Metric::Manhattan => Manhattan::<f64>::new().distance(a, b),
        }
    }
}

impl NeighboursDocument {
    fn rows(&self, features: usize) -> Result<Rows, ModelError> {
        let is_finite = |all: &Packed<f64>| all.0.iter().all(|value| value.is_finite());
        if !is_finite(&self.values) || !is_finite(&self.targets) {
            return Err("its rows and targets must be finite".into());
        }
        let rows = Rows::new(self.values.0.clone(), features)
            .filter(|rows| rows.len() == self.targets.0.len())
            .ok_or_else(|| {
                ModelError(format!(
                    "it must have a row of {features} values for each target"
                ))
            })?;
        if !distances_are_finite(&rows) {
            // smartcore would build its tree to an infinite depth.
            return Err("its rows lie too far apart: every distance must be finite".into());
        }
        if self.n_neighbors < 1 || self.n_neighbors > rows.len() {
            return Err(ModelError(format!(
                "n_neighbors must be 1 to the number of rows, which is {}, but is {}",
                rows.len(),
                self.n_neighbors
            )));
        }
        Ok(rows)
    }

    /// The classes of the rows.
    fn classes(&self, count: usize) -> Result<Vec<u32>, ModelError> {
        // smartcore numbers classes by their rows: one without any would shift the others.
        let mut seen = vec![false; count];
        let mut classes = Vec::with_capacity(self.targets.0.len());
        for target in &self.targets.0 {
            let class = *target as u32;
            match seen.get_mut(class as usize) {
                Some(seen) if f64::from(class) == *target => *seen = true,
                _ => {
                    return Err(ModelError(format!(
                        "a target is class {target}, but there are {count}"
                    )));
                }
            }
            classes.push(class);
        }
        match seen.iter().position(|seen| !seen) {
            Some(missing) => Err(ModelError(format!("class {missing} has no row"))),
            None => Ok(classes),
        }
    }
}

impl Neighbours {
    pub(super) fn new(
        document: &NeighboursDocument,
        signature: Signature,
    ) -> Result<Self, ModelError> {
        let rows = document.rows(signature.width())?;
        let (k, metric) = (document.n_neighbors, document.metric);
        let weight = match document.weights {
            NeighbourWeights::Uniform => KNNWeightFunction::Uniform,
            NeighbourWeights::Distance => KNNWeightFunction::Distance,
        };
        let x = matrix(&rows).map_err(ModelError::of)?;
        let search = match &signature.output {
            OutputSpec::Classes { labels, .. } => {
                let classes = document.classes(labels.len())?;
                let parameters = KNNClassifierParameters::default()
                    .with_distance(metric)
                    .with_weight(weight)
                    .with_k(k);
                Search::Classes(build(move || {
                    SmartClassifier::fit(&x, &classes, parameters)
                })?)
            }
            OutputSpec::Numbers { .. } => {
                let targets = document.targets.0.clone();
                let parameters = KNNRegressorParameters::default()
                    .with_distance(metric)
                    .with_weight(weight)
                    .with_k(k);
                Search::Numbers(build(move || {
                    SmartRegressor::fit(&x, &targets, parameters)
                })?)
            }
        };
        Ok(Neighbours {
            signature,
            search,
            surroundings: Surroundings::of(&rows, metric),
            rows: rows.len(),
        })
    }
}

impl Model for Neighbours {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.surroundings.check(rows)
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let x = matrix(rows).map_err(|error| PredictError(error.to_string()))?;
        match &self.search {
            // smartcore answers the label with the largest share, the first of equal ones.
            Search::Classes(smartcore) => {
                let shares = smartcore.predict_proba(&x).map_err(failed)?;
                Ok(Output::Classes {
                    indices: shares.iter().map(|shares| largest(shares)).collect(),
                    probabilities: Some(shares.concat()),
                })
            }
            Search::Numbers(smartcore) => {
                Ok(Output::Numbers(smartcore.predict(&x).map_err(failed)?))
            }
        }
    }

    fn parts(&self) -> Vec<(&'static str, usize)> {
        vec![("rows", self.rows)]
    }
}

fn failed(error: Failed) -> PredictError {
    PredictError(error.to_string())
}

fn matrix(rows: &Rows) -> Result<SmartMatrix, PredictError> {
    DenseMatrix::new(rows.len(), rows.width(), rows.values().to_vec(), false).map_err(failed)
}

/// Whether the distance of any two rows is finite, judged by the opposite corners of a box around
/// all rows.
fn distances_are_finite(rows: &Rows) -> bool {
    let extent = |feature: usize| {
        let column = || rows.iter().map(move |row| row[feature]);
        column().fold(f64::MIN, f64::max) - column().fold(f64::MAX, f64::min)
    };
    let squares = (0..rows.width()).map(extent).map(|extent| extent * extent);
    squares.sum::<f64>().is_finite()
}

/// Address space for the stack on which a tree is built. The tree is as deep as distances differ in
/// magnitude, about 5,500 levels at most, and smartcore recurses.
const STACK_BYTES: usize = 64 * 1024 * 1024;

/// Lets smartcore build its search structure, on a stack that is deep enough.
fn build<T: Send + 'static>(
    train: impl FnOnce() -> Result<T, Failed> + Send + 'static,
) -> Result<T, ModelError> {
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let builder = sys::spawn("neighbours", STACK_BYTES, move || {
        // It has room for the one there is.
        let _ = sender.try_send(panic::catch(train));
    });
    builder
        .map_err(|error| ModelError(format!("no thread could be started to build it: {error}")))?;
    let built = receiver
        .recv()
        .map_err(|_| ModelError("the thread that built it has ended".to_owned()))?;
    built.map_err(ModelError)?.map_err(ModelError::of)
}

/// The box around all rows: a row too far from it for a finite distance has no neighbours.
struct Surroundings {
    metric: Metric,
    /// The least and the largest value of each feature.
    ranges: Vec<(f64, f64)>,
}

impl Surroundings {
    fn of(rows: &Rows, metric: Metric) -> Self {
        let range = |feature: usize| {
            let column = || rows.iter().map(move |row| row[feature]);
            let least = column().fold(f64::MAX, f64::min);
            (least, column().fold(f64::MIN, f64::max))
        };
        Surroundings {
            metric,
            ranges: (0..rows.width()).map(range).collect(),
        }
    }

    /// Finds the first row whose distance to another could be infinite.
    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        for (row, values) in rows.iter().enumerate() {
            let part = |(value, (least, most)): (&f64, &(f64, f64))| {
                let extent = (value - least).abs().max((value - most).abs());
                match self.metric {
                    Metric::Euclidean => extent * extent,
                    Metric::Manhattan => extent,
                }
            };
            let parts = || values.iter().zip(&self.ranges).map(part);
            if parts().sum::<f64>().is_finite() {
                continue;
            }
            let sizes = values.iter().map(|value| value.abs()).enumerate();
            let furthest = sizes.max_by(|(_, one), (_, other)| one.total_cmp(other));
            return Err(RowFault {
                row,
                feature: furthest.map_or(0, |(feature, _)| feature),
                must_be: "so close to the training data that its distance is a finite number"
                    .to_owned(),
            });
        }
        Ok(())
    }
}
