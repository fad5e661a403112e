//! Nearest neighbours.
//!
//! Stored as the training data and the parameters, and rebuilt when read. smartcore's own form
//! holds a tree of indices too deep for a JSON reader, and rebuilding from checked data is sound.

use serde::{Deserialize, Serialize};
use serde_json::json;
use smartcore::algorithm::neighbour::KNNAlgorithmName;
use smartcore::error::Failed;
use smartcore::metrics::distance::Distance as SmartDistance;
use smartcore::metrics::distance::euclidian::Euclidian;
use smartcore::metrics::distance::manhattan::Manhattan;
use smartcore::neighbors::KNNWeightFunction;
use smartcore::neighbors::knn_classifier::{KNNClassifier, KNNClassifierParameters};
use smartcore::neighbors::knn_regressor::{KNNRegressor, KNNRegressorParameters};

use super::{
    Dimensions, Estimator, Matrix, Parameter, Predictor, Training, Values, caught, failed, matrix,
    parameters, parse, store,
};
use crate::models::{ModelError, Output, PredictError, RowFault, Rows};
use crate::platform::sys;

type SmartClassifier = KNNClassifier<f64, u32, Matrix, Vec<u32>, Distance>;
type SmartRegressor = KNNRegressor<f64, f64, Matrix, Vec<f64>, Distance>;

/// The distances of smartcore's that are supported.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
enum Distance {
    /// The root of the sum of squares.
    #[default]
    Euclidian,
    /// The sum of absolute differences.
    Manhattan,
}

impl SmartDistance<Vec<f64>> for Distance {
    fn distance(&self, a: &Vec<f64>, b: &Vec<f64>) -> f64 {
        match self {
            Distance::Euclidian => Euclidian::<f64>::new().distance(a, b),
            Distance::Manhattan => Manhattan::<f64>::new().distance(a, b),
        }
    }
}

/// smartcore's parameters of both, without those that are types there.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Chosen {
    algorithm: KNNAlgorithmName,
    distance: Distance,
    k: usize,
    weight: KNNWeightFunction,
}

impl Default for Chosen {
    fn default() -> Self {
        Chosen {
            algorithm: KNNAlgorithmName::default(),
            distance: Distance::default(),
            k: 3,
            weight: KNNWeightFunction::default(),
        }
    }
}

/// A model as stored: the data, row by row, and the parameters.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    #[serde(rename = "parameters")]
    chosen: Chosen,
    values: Vec<f64>,
    targets: Vec<T>,
}

impl<T> Stored<T> {
    fn check(self, features: usize) -> Result<(Rows, Chosen, Vec<T>), ModelError> {
        let Stored {
            chosen,
            values,
            targets,
        } = self;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(ModelError("its rows must be finite".to_owned()));
        }
        let rows = Rows::new(values, features)
            .filter(|rows| rows.len() == targets.len())
            .ok_or_else(|| {
                ModelError(format!(
                    "it must have a row of {features} values for each target"
                ))
            })?;
        if !distances_are_finite(&rows) {
            // smartcore would build its tree to an infinite depth.
            return Err(ModelError(
                "its rows lie too far apart: every distance must be finite".to_owned(),
            ));
        }
        if chosen.k < 1 || chosen.k > rows.len() {
            return Err(ModelError(format!(
                "k must be 1 to the number of rows, which is {}, but is {}",
                rows.len(),
                chosen.k
            )));
        }
        Ok((rows, chosen, targets))
    }
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
        let _ = sender.try_send(caught(train));
    });
    builder
        .map_err(|error| ModelError(format!("no thread could be started to build it: {error}")))?;
    let built = receiver
        .recv()
        .map_err(|_| ModelError("the thread that built it has ended".to_owned()))?;
    built?.map_err(ModelError::of)
}

fn known(typed: &[(String, String)]) -> Result<Vec<Parameter>, ModelError> {
    parameters::known(&Chosen::default(), typed)
}

fn fit<T: Serialize>(
    training: Training<'_>,
    targets: Vec<T>,
) -> Result<(String, Values), ModelError> {
    let (chosen, values) = parameters::apply(&Chosen::default(), training.parameters)?;
    let stored = Stored {
        chosen,
        values: training.rows.values().to_vec(),
        targets,
    };
    Ok((store(&stored)?, values))
}

fn shape(rows: &Rows, k: usize) -> Values {
    [("rows", json!(rows.len())), ("k", json!(k))]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// The box around all rows: a row too far from it for a finite distance has no neighbours.
struct Surroundings {
    distance: Distance,
    /// The least and the largest value of each feature.
    ranges: Vec<(f64, f64)>,
}

impl Surroundings {
    fn of(rows: &Rows, distance: Distance) -> Self {
        let range = |feature: usize| {
            let column = || rows.iter().map(move |row| row[feature]);
            let least = column().fold(f64::MAX, f64::min);
            (least, column().fold(f64::MIN, f64::max))
        };
        Surroundings {
            distance,
            ranges: (0..rows.width()).map(range).collect(),
        }
    }

    /// Finds the first row whose distance to another could be infinite.
    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        for (row, values) in rows.iter().enumerate() {
            let part = |(value, (least, most)): (&f64, &(f64, f64))| {
                let extent = (value - least).abs().max((value - most).abs());
                match self.distance {
                    Distance::Euclidian => extent * extent,
                    Distance::Manhattan => extent,
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

/// Neighbours that vote.
pub(super) struct Classifier {
    smartcore: SmartClassifier,
    surroundings: Surroundings,
    shape: Values,
}

impl std::fmt::Debug for Classifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Classifier").finish_non_exhaustive()
    }
}

impl Predictor for Classifier {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        // smartcore answers the label with the largest share, the first of equal ones.
        let shares = self
            .smartcore
            .predict_proba(&matrix(rows)?)
            .map_err(failed)?;
        let first_of_largest = |shares: &Vec<f64>| {
            let mut best = 0;
            for (class, share) in shares.iter().enumerate() {
                if *share > shares[best] {
                    best = class;
                }
            }
            best as u32
        };
        Ok(Output::Classes {
            indices: shares.iter().map(first_of_largest).collect(),
            probabilities: Some(shares.concat()),
        })
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.surroundings.check(rows)
    }

    fn shape(&self) -> Values {
        self.shape.clone()
    }
}

/// Neighbours whose mean is taken.
pub(super) struct Regressor {
    smartcore: SmartRegressor,
    surroundings: Surroundings,
    shape: Values,
}

impl std::fmt::Debug for Regressor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Regressor").finish_non_exhaustive()
    }
}

impl Predictor for Regressor {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let numbers = self.smartcore.predict(&matrix(rows)?).map_err(failed)?;
        Ok(Output::Numbers(numbers))
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.surroundings.check(rows)
    }

    fn shape(&self) -> Values {
        self.shape.clone()
    }
}

pub(super) mod classifier {
    use super::*;

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        super::known(typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        super::fit(training, training.classes())
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let stored: Stored<u32> = parse(serialised)?;
        let (rows, chosen, targets) = stored.check(shape.features)?;
        // smartcore numbers classes by their rows: one without any would shift the others.
        let mut seen = vec![false; shape.classes];
        for class in &targets {
            match seen.get_mut(*class as usize) {
                Some(seen) => *seen = true,
                None => {
                    return Err(ModelError(format!(
                        "a target is class {class}, but there are {}",
                        shape.classes
                    )));
                }
            }
        }
        if let Some(missing) = seen.iter().position(|seen| !seen) {
            return Err(ModelError(format!("class {missing} has no row")));
        }
        let (k, distance) = (chosen.k, chosen.distance);
        let parameters = KNNClassifierParameters::default()
            .with_distance(distance)
            .with_algorithm(chosen.algorithm)
            .with_weight(chosen.weight)
            .with_k(k);
        let x = matrix(&rows).map_err(ModelError::of)?;
        Ok(Estimator::new(Classifier {
            smartcore: build(move || SmartClassifier::fit(&x, &targets, parameters))?,
            surroundings: Surroundings::of(&rows, distance),
            shape: super::shape(&rows, k),
        }))
    }
}

pub(super) mod regressor {
    use super::*;

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        super::known(typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        super::fit(training, training.numbers())
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let stored: Stored<f64> = parse(serialised)?;
        let (rows, chosen, targets) = stored.check(shape.features)?;
        if !targets.iter().all(|target| target.is_finite()) {
            return Err(ModelError("its targets must be finite".to_owned()));
        }
        let (k, distance) = (chosen.k, chosen.distance);
        let parameters = KNNRegressorParameters::default()
            .with_distance(distance)
            .with_algorithm(chosen.algorithm)
            .with_weight(chosen.weight)
            .with_k(k);
        let x = matrix(&rows).map_err(ModelError::of)?;
        Ok(Estimator::new(Regressor {
            smartcore: build(move || SmartRegressor::fit(&x, &targets, parameters))?,
            surroundings: Surroundings::of(&rows, distance),
            shape: super::shape(&rows, k),
        }))
    }
}
