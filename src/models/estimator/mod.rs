//! The estimators that can be trained and served, and the table of algorithms.
//!
//! smartcore trains them all. Trees predict on the forest engine, with smartcore's bits; the others
//! predict by smartcore. smartcore trusts the indices in a file, so a hostile file could panic or loop
//! for ever: whatever serde does not check is checked here first.

mod bayes;
mod boosted;
mod linear;
mod neighbours;
mod parameters;
mod trees;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use smartcore::error::Failed;
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::models::{ModelError, Output, PredictError, RowFault, Rows};
use crate::platform::panic;

pub use self::parameters::{Parameter, Values};
pub use self::trees::{ForestClassifier, ForestRegressor};

/// smartcore's matrix of instances.
pub type Matrix = DenseMatrix<f64>;

/// What an estimator answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EstimatorKind {
    /// A class of a few.
    Classification,
    /// A number.
    Regression,
}

/// Where a classifier's probabilities come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probabilities {
    /// It has none.
    None,
    /// Shares of votes: of a forest's trees, of a leaf (0 or 1), of neighbours by their weight.
    VoteShares,
    /// The logistic function of its coefficients.
    Logistic,
}

/// What an estimator is trained on: rows and, for each, what is to be predicted.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class indices below `classes`.
    Classes {
        /// For each row, of which class it is.
        indices: Vec<u32>,
        /// The number of classes; each has at least one row.
        classes: usize,
    },
    /// For each row its number.
    Numbers(Vec<f64>),
}

/// An estimator that was trained, and can be stored.
#[derive(Debug)]
pub struct Fitted {
    /// The part that predicts, as read back from a file.
    pub estimator: Estimator,
    /// Its serialised form.
    pub serialised: Box<RawValue>,
    /// All of its parameters, as used.
    pub parameters: Values,
}

/// What an estimator is read for: the numbers of features and of classes (0 for a regressor).
#[derive(Debug, Clone, Copy)]
struct Dimensions {
    features: usize,
    classes: usize,
}

/// What an estimator is trained with.
#[derive(Debug, Clone, Copy)]
struct Training<'a> {
    rows: &'a Rows,
    targets: &'a Targets,
    parameters: &'a [(String, String)],
}

type Known = fn(&[(String, String)]) -> Result<Vec<Parameter>, ModelError>;
type Fit = fn(Training<'_>) -> Result<(String, Values), ModelError>;
type Read = fn(&str, Dimensions) -> Result<Estimator, ModelError>;

/// One algorithm: its name, what it does, and how.
#[derive(Debug)]
pub struct Algorithm {
    /// Its name in kebab-case, on the command line and in model files.
    pub name: &'static str,
    /// What it answers with.
    pub task: EstimatorKind,
    /// Where its probabilities come from.
    pub probabilities: Probabilities,
    /// What its features may be, in words.
    pub features: &'static str,
    known: Known,
    fit: Fit,
    read: Read,
}

/// Finite numbers of any size.
const NUMBERS: &str = "numbers";

macro_rules! algorithm {
    ($name:literal, $task:ident, $probabilities:ident, $features:expr, $($module:ident)::+) => {
        Algorithm {
            name: $name,
            task: EstimatorKind::$task,
            probabilities: Probabilities::$probabilities,
            features: $features,
            known: $($module)::+::known,
            fit: $($module)::+::fit,
            read: $($module)::+::read,
        }
    };
}

/// Every algorithm, by name.
#[rustfmt::skip]
pub const ALGORITHMS: [Algorithm; 17] = [
    algorithm!("bernoulli-naive-bayes", Classification, None, bayes::BERNOULLI_FEATURES, bayes::bernoulli),
    algorithm!("categorical-naive-bayes", Classification, None, bayes::CATEGORICAL_FEATURES, bayes::categorical),
    algorithm!("decision-tree-classifier", Classification, VoteShares, NUMBERS, trees::decision_tree_classifier),
    algorithm!("decision-tree-regressor", Regression, None, NUMBERS, trees::decision_tree_regressor),
    algorithm!("elastic-net", Regression, None, NUMBERS, linear::elastic_net),
    algorithm!("extra-trees-regressor", Regression, None, NUMBERS, trees::extra_trees_regressor),
    algorithm!("gaussian-naive-bayes", Classification, None, NUMBERS, bayes::gaussian),
    algorithm!("knn-classifier", Classification, VoteShares, NUMBERS, neighbours::classifier),
    algorithm!("knn-regressor", Regression, None, NUMBERS, neighbours::regressor),
    algorithm!("lasso", Regression, None, NUMBERS, linear::lasso),
    algorithm!("linear-regression", Regression, None, NUMBERS, linear::linear_regression),
    algorithm!("logistic-regression", Classification, Logistic, NUMBERS, linear::logistic_regression),
    algorithm!("multinomial-naive-bayes", Classification, None, bayes::MULTINOMIAL_FEATURES, bayes::multinomial),
    algorithm!("random-forest-classifier", Classification, VoteShares, NUMBERS, trees::random_forest_classifier),
    algorithm!("random-forest-regressor", Regression, None, NUMBERS, trees::random_forest_regressor),
    algorithm!("ridge-regression", Regression, None, NUMBERS, linear::ridge_regression),
    algorithm!("xgb-regressor", Regression, None, NUMBERS, boosted),
];

/// Algorithms that people look for, and why they are not supported.
const UNSUPPORTED: [(&str, &str); 3] = [
    (
        "svc",
        "smartcore's support vector machines lose their parameters when they are stored, and panic when they predict after it",
    ),
    (
        "svr",
        "smartcore's support vector machines lose their parameters when they are stored, and panic when they predict after it",
    ),
    (
        "extra-trees-classifier",
        "smartcore has extra trees for regression only",
    ),
];

/// Finds an algorithm by its name.
///
/// # Errors
///
/// The list of algorithms, or why this one is not supported, in one line.
pub fn find(name: &str) -> Result<&'static Algorithm, ModelError> {
    static TABLE: [Algorithm; 17] = ALGORITHMS;
    if let Some(found) = TABLE.iter().find(|algorithm| algorithm.name == name) {
        return Ok(found);
    }
    if let Some((_, why)) = UNSUPPORTED
        .iter()
        .find(|(unsupported, _)| *unsupported == name)
    {
        return Err(ModelError(format!(
            "the algorithm {name} cannot be served: {why}"
        )));
    }
    let names: Vec<&str> = TABLE.iter().map(|algorithm| algorithm.name).collect();
    Err(ModelError(format!(
        "the algorithm is {}, but must be one of {}",
        name.escape_debug(),
        names.join(", ")
    )))
}

/// Maximum number of rows that a new estimator is tried on, to see that it can predict.
const TRIED_ROWS_MAX: usize = 100;

impl Algorithm {
    /// Its parameters, by smartcore's names.
    pub fn parameters(&self) -> Vec<Parameter> {
        // Without typed parameters there is nothing to refuse.
        (self.known)(&[]).unwrap_or_default()
    }

    /// Checks names and values of parameters as typed.
    ///
    /// # Errors
    ///
    /// An unknown name or a bad value: one line that lists the valid ones.
    pub fn check_parameters(&self, typed: &[(String, String)]) -> Result<(), ModelError> {
        (self.known)(typed)
            .map(|_| ())
            .map_err(|error| ModelError(format!("{}: {error}", self.name)))
    }

    /// Trains on `rows` with parameters as typed; `seed` is used for a parameter of that name
    /// unless one was typed.
    ///
    /// # Errors
    ///
    /// An unknown parameter or a bad value, targets of the other task, and whatever smartcore
    /// cannot train on, in one line. A panic of smartcore's is an error too.
    pub fn fit(
        &self,
        rows: &Rows,
        targets: &Targets,
        parameters: &[(String, String)],
        seed: Option<u64>,
    ) -> Result<Fitted, ModelError> {
        let (targets_for, classes, count) = match targets {
            Targets::Classes { indices, classes } => {
                (EstimatorKind::Classification, *classes, indices.len())
            }
            Targets::Numbers(numbers) => (EstimatorKind::Regression, 0, numbers.len()),
        };
        if targets_for != self.task || count != rows.len() || rows.is_empty() {
            return Err(ModelError(format!(
                "{} needs at least one row and a target of its kind for each",
                self.name
            )));
        }
        let mut parameters = parameters.to_vec();
        let seeded = |name: &str| parameters.iter().any(|(typed, _)| typed == name);
        if let Some(seed) = seed
            && !seeded("seed")
            && self.parameters().iter().any(|known| known.name == "seed")
        {
            parameters.push(("seed".to_owned(), seed.to_string()));
        }
        let training = Training {
            rows,
            targets,
            parameters: &parameters,
        };
        let (serialised, parameters) = (self.fit)(training)?;
        let estimator = self.read(&serialised, rows.width(), classes)?;
        let some = rows.first(TRIED_ROWS_MAX);
        let answer = panic::catch(|| estimator.predict(&some))
            .map_err(|panic| ModelError(format!("the trained estimator panics: {panic}")))?
            .map_err(|error| {
                ModelError(format!("the trained estimator cannot predict: {error}"))
            })?;
        if let Output::Numbers(numbers) = &answer
            && !numbers.iter().all(|number| number.is_finite())
        {
            return Err(ModelError(
                "the trained estimator predicts numbers that are not finite".to_owned(),
            ));
        }
        let serialised = RawValue::from_string(serialised).map_err(ModelError::of)?;
        Ok(Fitted {
            estimator,
            serialised,
            parameters,
        })
    }

    /// Reads an estimator of this algorithm from its serialized form.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(
        &self,
        serialised: &str,
        features: usize,
        classes: usize,
    ) -> Result<Estimator, ModelError> {
        match self.task {
            EstimatorKind::Classification if classes < 2 => {
                return Err(ModelError(
                    "a classifier needs at least two classes".to_owned(),
                ));
            }
            EstimatorKind::Regression if classes != 0 => {
                return Err(ModelError("a regressor has no classes".to_owned()));
            }
            _ => {}
        }
        (self.read)(serialised, Dimensions { features, classes })
    }
}

/// An estimator that was checked and can predict.
#[derive(Debug)]
pub struct Estimator(Box<dyn Predictor>);

impl Estimator {
    /// Reads the estimator called `algorithm` (kebab-case) from its serialized form.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn read(
        algorithm: &str,
        serialised: &str,
        features: usize,
        classes: usize,
    ) -> Result<Self, ModelError> {
        find(algorithm)?.read(serialised, features, classes)
    }

    fn new(predictor: impl Predictor + 'static) -> Self {
        Estimator(Box::new(predictor))
    }

    /// Predicts for rows of the width the estimator was read with, which pass [`Estimator::check`].
    ///
    /// # Errors
    /// smartcore's own.
    pub fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        self.0.predict(rows)
    }

    /// Checks what the estimator needs of its rows beyond finite numbers.
    ///
    /// # Errors
    ///
    /// The first value that does not fit, and what would.
    pub fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.0.check(rows)
    }

    /// Its parts by name: trees, nodes, neighbours, coefficients, …
    pub fn shape(&self) -> Values {
        self.0.shape()
    }
}

/// What every estimator can do.
trait Predictor: Send + Sync + std::fmt::Debug {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError>;

    fn check(&self, _rows: &Rows) -> Result<(), RowFault> {
        Ok(())
    }

    fn shape(&self) -> Values;
}

fn failed(error: Failed) -> PredictError {
    PredictError(error.to_string())
}

fn matrix(rows: &Rows) -> Result<Matrix, PredictError> {
    DenseMatrix::new(rows.len(), rows.width(), rows.values().to_vec(), false).map_err(failed)
}

fn parse<T: DeserializeOwned>(serialised: &str) -> Result<T, ModelError> {
    serde_json::from_str(serialised)
        .map_err(|error| ModelError(format!("the estimator cannot be read: {error}")))
}

fn store<T: Serialize>(estimator: &T) -> Result<String, ModelError> {
    serde_json::to_string(estimator).map_err(ModelError::of)
}

impl Training<'_> {
    fn matrix(&self) -> Result<Matrix, ModelError> {
        matrix(self.rows).map_err(ModelError::of)
    }

    /// Class indices; the caller has checked that there are some.
    fn classes(&self) -> Vec<u32> {
        match self.targets {
            Targets::Classes { indices, .. } => indices.clone(),
            Targets::Numbers(_) => Vec::new(),
        }
    }

    /// Numbers; the caller has checked that there are some.
    fn numbers(&self) -> Vec<f64> {
        match self.targets {
            Targets::Numbers(numbers) => numbers.clone(),
            Targets::Classes { .. } => Vec::new(),
        }
    }

    /// Trains with `defaults` as changed by the typed parameters, and stores the result.
    fn fit<P, M>(
        &self,
        defaults: &P,
        train: impl FnOnce(P) -> Result<M, Failed>,
    ) -> Result<(String, Values), ModelError>
    where
        P: Serialize + DeserializeOwned,
        M: Serialize,
    {
        let (parameters, values) = parameters::apply(defaults, self.parameters)?;
        let trained = caught(|| train(parameters))?.map_err(ModelError::of)?;
        Ok((store(&trained)?, values))
    }
}

/// smartcore panics on some input that it cannot train on.
fn caught<T>(train: impl FnOnce() -> T) -> Result<T, ModelError> {
    panic::catch(train).map_err(|panic| {
        ModelError(format!(
            "smartcore cannot train on these data with these parameters: {panic}"
        ))
    })
}

#[cfg(test)]
mod tests;
