//! The algorithms that `lanekeeper train` offers, in one table: names, parameters, what they need.
//!
//! Parameters have scikit-learn's names and meaning; each algorithm is held against scikit-learn.

mod boosting;
mod forests;
mod neighbours;
mod weighted;

use crate::models::Rows;
use crate::models::native::predictor::PredictorDocument;
use crate::train::parameters::{self, Parameter, ParameterValues};
use crate::train::prepare::Needs;
use crate::train::{Targets, Task, TrainError};

/// What an algorithm is given: prepared rows and their targets.
#[derive(Debug, Clone, Copy)]
pub struct Training<'a> {
    /// Rows that were prepared.
    pub rows: &'a Rows,
    /// The target of each.
    pub targets: &'a Targets,
    /// What each row counts; 1 if absent.
    pub weights: Option<&'a [f64]>,
    /// Parameters, as typed.
    pub parameters: &'a [(String, String)],
    /// The source of everything random.
    pub seed: u64,
    /// How many threads it may use.
    pub threads: usize,
}

/// What an algorithm has learned.
#[derive(Debug)]
pub struct Learned {
    /// What predicts.
    pub predictor: PredictorDocument,
    /// All parameters, as used.
    pub parameters: ParameterValues,
    /// What the operator should know.
    pub notes: Vec<String>,
}

type KnownParameters = fn(&[(String, String)]) -> Result<Vec<Parameter>, TrainError>;
type FitFunction = fn(&Training<'_>) -> Result<Learned, TrainError>;

/// One algorithm.
#[derive(Debug)]
pub struct Algorithm {
    /// Its name in kebab-case, on the command line and in model files.
    pub name: &'static str,
    /// What it answers with.
    pub task: Task,
    /// What it needs of its columns.
    pub needs: Needs,
    /// Whether rows may count differently (`--class-weight`).
    pub takes_weights: bool,
    /// How its answers compare with scikit-learn's estimator.
    pub beside: &'static str,
    known: KnownParameters,
    fit: FitFunction,
}

pub(super) const TREES: Needs = Needs {
    is_filled: true,
    is_scaled: false,
    is_one_hot: false,
};
const BOOSTED: Needs = Needs {
    is_filled: false,
    ..TREES
};
const SCALED: Needs = Needs {
    is_filled: true,
    is_scaled: true,
    is_one_hot: true,
};
const UNSCALED: Needs = Needs {
    is_scaled: false,
    ..SCALED
};

macro_rules! algorithm {
    ($name:literal, $task:ident, $needs:ident, $weights:literal, $beside:literal, $parameters:ty, $fit:path) => {
        Algorithm {
            name: $name,
            task: Task::$task,
            needs: $needs,
            takes_weights: $weights,
            beside: $beside,
            known: |typed| parameters::known(&<$parameters>::default(), typed),
            fit: $fit,
        }
    };
}

/// Every algorithm, by name.
#[rustfmt::skip]
pub static ALGORITHMS: [Algorithm; 13] = [
    algorithm!("boosted-trees-classifier", Classification, BOOSTED, true, "scores as HistGradientBoostingClassifier", boosting::Boosting, boosting::boosted_trees),
    algorithm!("boosted-trees-regressor", Regression, BOOSTED, false, "scores as HistGradientBoostingRegressor", boosting::Boosting, boosting::boosted_trees),
    algorithm!("decision-tree-classifier", Classification, TREES, true, "the tree of DecisionTreeClassifier, but for ties and rounding to 32 bits", forests::DecisionTree, forests::decision_tree),
    algorithm!("decision-tree-regressor", Regression, TREES, false, "the tree of DecisionTreeRegressor, but for ties and rounding to 32 bits", forests::DecisionTree, forests::decision_tree),
    algorithm!("elastic-net", Regression, SCALED, false, "the coefficients of ElasticNet within 1e-5", weighted::ElasticNet, weighted::elastic_net),
    algorithm!("knn-classifier", Classification, SCALED, false, "the probabilities of KNeighborsClassifier, but for ties", neighbours::Knn, neighbours::neighbours),
    algorithm!("knn-regressor", Regression, SCALED, false, "the numbers of KNeighborsRegressor, but for ties", neighbours::Knn, neighbours::neighbours),
    algorithm!("lasso", Regression, SCALED, false, "the coefficients of Lasso within 1e-5", weighted::Lasso, weighted::lasso),
    algorithm!("linear-regression", Regression, UNSCALED, false, "the predictions of LinearRegression(tol=1e-12) within 1e-6", weighted::LeastSquares, weighted::linear_regression),
    algorithm!("logistic-regression", Classification, SCALED, true, "the probabilities of LogisticRegression within 1e-5", weighted::Logistic, weighted::logistic_regression),
    algorithm!("random-forest-classifier", Classification, TREES, true, "scores as RandomForestClassifier", forests::ClassifierForest, forests::classifier_forest),
    algorithm!("random-forest-regressor", Regression, TREES, false, "scores as RandomForestRegressor", forests::RegressorForest, forests::regressor_forest),
    algorithm!("ridge-regression", Regression, SCALED, false, "the coefficients of Ridge within 1e-6", weighted::Ridge, weighted::ridge_regression),
];

/// Algorithms that people look for, and why they are not offered.
const NOT_OFFERED: [(&str, &str); 9] = [
    ("svc", SUPPORT_VECTORS),
    ("svr", SUPPORT_VECTORS),
    ("bernoulli-naive-bayes", NAIVE_BAYES),
    ("categorical-naive-bayes", NAIVE_BAYES),
    ("gaussian-naive-bayes", NAIVE_BAYES),
    ("multinomial-naive-bayes", NAIVE_BAYES),
    ("extra-trees-classifier", EXTRA_TREES),
    ("extra-trees-regressor", EXTRA_TREES),
    (
        "xgb-regressor",
        "boosted-trees-regressor takes its place; models that XGBoost has trained are served as they are",
    ),
];
const SUPPORT_VECTORS: &str = "train it with scikit-learn, and serve its ONNX export";
const NAIVE_BAYES: &str = "boosted-trees-classifier and logistic-regression are better on nearly every table; scikit-learn's naive Bayes is served from its pickle";
const EXTRA_TREES: &str =
    "random forests take their place; scikit-learn's extra trees are served from their pickle";

/// Finds an algorithm by its name.
///
/// # Errors
///
/// The list of algorithms, or why this one is not offered, in one line.
pub fn find(name: &str) -> Result<&'static Algorithm, TrainError> {
    if let Some(found) = ALGORITHMS.iter().find(|algorithm| algorithm.name == name) {
        return Ok(found);
    }
    if let Some((_, why)) = NOT_OFFERED.iter().find(|(other, _)| *other == name) {
        return Err(TrainError(format!("{name} is not offered: {why}")));
    }
    let names: Vec<&str> = ALGORITHMS.iter().map(|algorithm| algorithm.name).collect();
    Err(TrainError(format!(
        "the algorithm is {}, but must be one of {}",
        name.escape_debug(),
        names.join(", ")
    )))
}

impl Algorithm {
    /// Its parameters.
    pub fn parameters(&self) -> Vec<Parameter> {
        // Without typed parameters there is nothing to refuse.
        (self.known)(&[]).unwrap_or_default()
    }

    /// Checks names and values of parameters as typed.
    ///
    /// # Errors
    ///
    /// An unknown name or a bad value: one line that lists the valid ones.
    pub fn check_parameters(&self, typed: &[(String, String)]) -> Result<(), TrainError> {
        (self.known)(typed)
            .map(drop)
            .map_err(|error| TrainError(format!("{}: {error}", self.name)))
    }

    /// Trains.
    ///
    /// # Errors
    ///
    /// A bad parameter, targets of the other task, no rows, and whatever it cannot train on.
    pub fn fit(&self, training: &Training<'_>) -> Result<Learned, TrainError> {
        let (task, count) = match training.targets {
            Targets::Classes { indices, .. } => (Task::Classification, indices.len()),
            Targets::Numbers(numbers) => (Task::Regression, numbers.len()),
        };
        if task != self.task || count != training.rows.len() || count == 0 {
            return Err(TrainError(format!(
                "{} needs at least one row and a target of its kind for each",
                self.name
            )));
        }
        (self.fit)(training)
    }
}

impl Training<'_> {
    /// The numbers to learn; the caller has checked that they are some.
    fn numbers(&self) -> &[f64] {
        match self.targets {
            Targets::Numbers(numbers) => numbers,
            Targets::Classes { .. } => &[],
        }
    }
}

/// Refuses a parameter that is out of its range.
fn must(holds: bool, name: &str, what: &str) -> Result<(), TrainError> {
    match holds {
        true => Ok(()),
        false => Err(TrainError(format!("parameter {name} must be {what}"))),
    }
}

fn learned(predictor: PredictorDocument, parameters: ParameterValues) -> Learned {
    Learned {
        predictor,
        parameters,
        notes: Vec::new(),
    }
}
