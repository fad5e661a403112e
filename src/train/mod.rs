//! From a table to a model file: reading, preparing, fitting, scoring.
//!
//! Offline: nothing here runs in a server.

pub mod algorithms;
pub mod boosted;
pub mod columns;
pub mod data;
mod decide;
mod encoding;
pub mod folds;
mod formats;
pub mod linear;
pub mod logistic;
mod matrix;
pub mod model_file;
pub mod parameters;
pub mod prepare;
pub(crate) mod random;
pub mod score;
pub mod source;
pub mod table;
mod tallies;
pub mod trees;
pub mod warnings;
mod western;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use self::algorithms::{Algorithm, Training};
use self::data::TrainingData;
use self::parameters::ParameterValues;
use self::score::Scores;
use self::table::TableError;
use crate::error::StartError;
use crate::models::native::predictor::PredictorDocument;
use crate::models::native::{self, TrainingDocument};
use crate::models::pipeline::PipelineModel;
use crate::models::pipeline::prepared::Prepared;
use crate::models::{Model as _, ModelError, Output, OutputSpec, Rows, Signature, compute};
use crate::platform::panic;
use crate::platform::sys;

/// Address space for the stack of a thread that trains.
const STACK_BYTES: usize = 16 * 1024 * 1024;

/// What a model answers with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// A class of a few.
    Classification,
    /// A number.
    Regression,
}

/// What is to be predicted, row by row.
#[derive(Debug, Clone, PartialEq)]
pub enum Targets {
    /// Class indices below `classes`.
    Classes {
        /// For each row, of which class it is.
        indices: Vec<u32>,
        /// The number of classes.
        classes: usize,
    },
    /// For each row its number.
    Numbers(Vec<f64>),
}

impl Targets {
    /// Number of rows.
    pub fn len(&self) -> usize {
        match self {
            Targets::Classes { indices, .. } => indices.len(),
            Targets::Numbers(numbers) => numbers.len(),
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The targets of these rows.
    pub fn subset(&self, rows: &[usize]) -> Targets {
        match self {
            Targets::Numbers(numbers) => {
                Targets::Numbers(rows.iter().map(|row| numbers[*row]).collect())
            }
            Targets::Classes { indices, classes } => Targets::Classes {
                indices: rows.iter().map(|row| indices[*row]).collect(),
                classes: *classes,
            },
        }
    }
}

/// Why nothing can be trained: one line, with its place in the table if it has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrainError(pub String);

impl TrainError {
    /// What another error says.
    pub fn of(error: impl fmt::Display) -> Self {
        TrainError(error.to_string())
    }
}

impl From<String> for TrainError {
    fn from(text: String) -> Self {
        TrainError(text)
    }
}

impl From<&'static str> for TrainError {
    fn from(text: &'static str) -> Self {
        TrainError(text.to_owned())
    }
}

impl From<TableError> for TrainError {
    fn from(error: TableError) -> Self {
        TrainError(error.0)
    }
}

impl From<ModelError> for TrainError {
    fn from(error: ModelError) -> Self {
        TrainError(error.0)
    }
}

impl fmt::Display for TrainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TrainError {}

/// What is trained, and how.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which algorithm.
    pub algorithm: &'static Algorithm,
    /// Its parameters, as typed.
    pub parameters: Vec<(String, String)>,
    /// Whether all classes count the same, however many rows they have.
    pub is_balanced: bool,
    /// The source of everything random.
    pub seed: u64,
    /// How many threads may train.
    pub threads: usize,
}

/// A trained model, and the parts that its file holds.
pub struct Fitted {
    /// What predicts.
    pub model: PipelineModel,
    /// For each feature what becomes of it.
    pub preparation: Vec<Prepared>,
    /// What predicts from that.
    pub predictor: PredictorDocument,
    /// All parameters, as used.
    pub parameters: ParameterValues,
    /// What the operator should know.
    pub notes: Vec<String>,
}

impl Recipe {
    /// Trains on some rows of the data.
    ///
    /// # Errors
    ///
    /// What the algorithm cannot train on, in one line. A panic is an error too.
    pub fn fit(
        &self,
        data: &TrainingData,
        rows: &Rows,
        targets: &Targets,
    ) -> Result<Fitted, TrainError> {
        let needs = self.algorithm.needs;
        let prepared = prepare::fit(&data.features, rows, targets, needs, self.seed)?;
        let weights = match self.is_balanced {
            true => Some(balanced(targets)),
            false => None,
        };
        let training = Training {
            rows: &prepared.rows,
            targets,
            weights: weights.as_deref(),
            parameters: &self.parameters,
            seed: self.seed,
            threads: self.threads,
        };
        let learned = panic::catch(|| self.algorithm.fit(&training))
            .map_err(|panic| TrainError(format!("{} fails: {panic}", self.algorithm.name)))??;
        let model = native::assemble(
            data.signature(),
            &data.features,
            &prepared.features,
            &learned.predictor,
        )?;
        Ok(Fitted {
            model,
            preparation: prepared.features,
            predictor: learned.predictor,
            parameters: learned.parameters,
            notes: learned.notes,
        })
    }
}

/// What each row counts so that every class counts the same.
fn balanced(targets: &Targets) -> Vec<f64> {
    let Targets::Classes { indices, classes } = targets else {
        return vec![1.0; targets.len()];
    };
    let mut counts = vec![0usize; *classes];
    indices
        .iter()
        .for_each(|class| counts[*class as usize] += 1);
    let present = counts.iter().filter(|count| **count > 0).count();
    let weight = |class: &u32| indices.len() as f64 / (present * counts[*class as usize]) as f64;
    indices.iter().map(weight).collect()
}

impl TrainingData {
    /// What a model of these data takes and gives.
    pub fn signature(&self) -> Signature {
        Signature {
            features: self.features.iter().map(|one| one.feature()).collect(),
            output: match self.classes.is_empty() {
                true => OutputSpec::Numbers { width: 1 },
                false => OutputSpec::Classes {
                    labels: self.classes.clone(),
                    has_probabilities: true,
                },
            },
        }
    }

    /// Describes what a model was trained on, and how well such models do.
    pub fn document(&self, folds: usize, validation: Option<&Validation>) -> TrainingDocument {
        let mut class_counts = vec![0; self.classes.len()];
        if let Targets::Classes { indices, .. } = &self.targets {
            for index in indices {
                class_counts[*index as usize] += 1;
            }
        }
        let scores = |scores: Option<&Scores>| scores.cloned().unwrap_or_default();
        TrainingDocument {
            rows: self.rows.len() as u64,
            class_counts,
            folds: u32::try_from(folds).unwrap_or(u32::MAX),
            score_spread: scores(validation.map(|validation| &validation.spread)),
            baseline: scores(validation.map(|validation| &validation.baseline)),
            importances: validation.and_then(|validation| validation.importances.clone()),
        }
    }

    /// The rows and targets at `places`.
    fn subset(&self, places: &[usize]) -> Result<(Rows, Targets), TrainError> {
        let width = self.rows.width();
        let row = |place: &usize| &self.rows.values()[place * width..(place + 1) * width];
        let values: Vec<f64> = places.iter().flat_map(row).copied().collect();
        let rows = Rows::new(values, width).ok_or("the rows are of different lengths")?;
        Ok((rows, self.targets.subset(places)))
    }
}

/// What a cross-validation gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Validation {
    /// The mean of each score over the folds.
    pub scores: Scores,
    /// Its standard deviation.
    pub spread: Scores,
    /// The mean of each score of a baseline that always answers the most frequent class, or the
    /// mean.
    pub baseline: Scores,
    /// For each feature, by how much the first score falls when its held-out values are shuffled:
    /// the mean over the folds. `None` if that would have taken too long.
    pub importances: Option<Vec<f64>>,
}

/// What one fold gave.
struct Fold {
    scores: Scores,
    baseline: Scores,
    importances: Option<Vec<f64>>,
}

/// Maximum number of predictions for importances, in all folds together.
const IMPORTANCE_PREDICTIONS_MAX: usize = 200_000;

/// Scores a recipe on `folds` folds, each predicted by a model trained without it, on all cores;
/// `progress` is called after each fold.
///
/// # Errors
///
/// Too few rows for so many folds, and the first fold that cannot be trained on.
pub fn cross_validate(
    data: &Arc<TrainingData>,
    recipe: &Recipe,
    folds: usize,
    mut progress: impl FnMut(),
) -> Result<Validation, TrainError> {
    let assigned = Arc::new(folds::assign(&data.targets, folds, recipe.seed)?);
    // The folds share the cores.
    let recipe = &Recipe {
        threads: 1,
        ..recipe.clone()
    };
    let workers = available_parallelism().map_or(1, usize::from).min(folds);
    let next = Arc::new(AtomicUsize::new(0));
    let (sender, receiver) = crossbeam_channel::bounded(folds);
    for worker in 0..workers {
        let (data, recipe, assigned) = (Arc::clone(data), recipe.clone(), Arc::clone(&assigned));
        let (next, sender) = (Arc::clone(&next), sender.clone());
        let started = sys::spawn(&format!("fold-{worker}"), STACK_BYTES, move || {
            loop {
                let fold = next.fetch_add(1, Ordering::Relaxed);
                if fold >= folds {
                    return;
                }
                let scored = panic::catch(|| score_fold(&data, &recipe, &assigned, fold));
                // The channel has room for every fold; after an error nobody listens.
                let scored = scored.unwrap_or_else(|panic| Err(TrainError(panic)));
                let _ = sender.try_send((fold, scored));
            }
        });
        started
            .map_err(|error| StartError::no_threads("", workers + 1, &error))
            .map_err(TrainError::of)?;
    }
    drop(sender);
    let mut scored = Vec::new();
    for (fold, result) in receiver {
        scored.push((fold, result?));
        progress();
    }
    // Sums depend on their order.
    scored.sort_by_key(|(fold, _)| *fold);
    let scored: Vec<Fold> = scored.into_iter().map(|(_, fold)| fold).collect();
    if scored.len() < folds {
        return Err(TrainError("a thread that trained has ended".to_owned()));
    }
    let importances: Option<Vec<Vec<f64>>> =
        scored.iter().map(|fold| fold.importances.clone()).collect();
    let mean = |all: Vec<Vec<f64>>| {
        let sum = |feature: usize| all.iter().map(|fold| fold[feature]).sum::<f64>();
        (0..data.features.len())
            .map(|feature| sum(feature) / folds as f64)
            .collect()
    };
    let all = |of: fn(&Fold) -> &Scores| -> Vec<Scores> {
        scored.iter().map(|fold| of(fold).clone()).collect()
    };
    let scores = all(|fold| &fold.scores);
    Ok(Validation {
        spread: score::spread(&scores),
        scores: score::mean(&scores),
        baseline: score::mean(&all(|fold| &fold.baseline)),
        importances: importances.map(mean),
    })
}

/// Trains on all folds but one and scores on that one, with the baseline's scores.
fn score_fold(
    data: &TrainingData,
    recipe: &Recipe,
    assigned: &[Option<usize>],
    fold: usize,
) -> Result<Fold, TrainError> {
    let (tested, rest): (Vec<usize>, Vec<usize>) =
        (0..assigned.len()).partition(|row| assigned[*row] == Some(fold));
    let (rows, targets) = data.subset(&rest)?;
    let (unseen, truth) = data.subset(&tested)?;
    let fitted = recipe.fit(data, &rows, &targets)?;
    let predicted = predict(&fitted.model, &unseen)?;
    let baseline = score::baseline(&targets, unseen.len());
    let scores = score::score(&truth, &predicted);
    let is_cheap = data.rows.len() * data.features.len() <= IMPORTANCE_PREDICTIONS_MAX;
    let importances = if is_cheap {
        let seed = recipe.seed.wrapping_add(fold as u64);
        Some(importances(&fitted, &unseen, &truth, &scores, seed)?)
    } else {
        None
    };
    Ok(Fold {
        baseline: score::score(&truth, &baseline),
        scores,
        importances,
    })
}

/// Predicts as a server would.
fn predict(model: &PipelineModel, rows: &Rows) -> Result<Output, TrainError> {
    let wrong = |text: String| TrainError(format!("a held-out row cannot be predicted: {text}"));
    compute::check(model, rows)
        .map_err(|fault| wrong(compute::fault_text(model.signature(), rows, &fault)))?;
    compute::predict(model, rows).map_err(|failure| match failure {
        compute::ComputeError::Input(fault) => {
            wrong(compute::fault_text(model.signature(), rows, &fault))
        }
        compute::ComputeError::Model(error) => wrong(error.to_string()),
    })
}

/// Shuffles each feature in turn, and returns by how much the first score falls.
fn importances(
    fitted: &Fitted,
    rows: &Rows,
    truth: &Targets,
    scores: &Scores,
    seed: u64,
) -> Result<Vec<f64>, TrainError> {
    let first = |scores: &Scores| scores.values().next().copied().unwrap_or(0.0);
    let width = rows.width();
    let mut order: Vec<usize> = (0..rows.len()).collect();
    folds::shuffle(&mut order, seed);
    let falls = (0..width).map(|feature| {
        let mut values = rows.values().to_vec();
        for (row, other) in order.iter().enumerate() {
            values[row * width + feature] = rows.values()[other * width + feature];
        }
        let shuffled = Rows::new(values, width).ok_or("the rows are of different lengths")?;
        let predicted = predict(&fitted.model, &shuffled)?;
        Ok(first(scores) - first(&score::score(truth, &predicted)))
    });
    falls.collect()
}

/// Compares validations by the score that counts: the log loss of a classifier, or else its accuracy;
/// the R2 of a regressor. The better one is greater.
pub fn compare(one: Option<&Validation>, other: Option<&Validation>) -> std::cmp::Ordering {
    let score = |validation: Option<&Validation>| {
        let scores = validation.map(|validation| &validation.scores);
        let of = |name: &str| scores.and_then(|scores| scores.get(name)).copied();
        let loss = of("log_loss").map(|loss| -loss);
        loss.or(of("r2"))
            .or(of("accuracy"))
            .unwrap_or(f64::NEG_INFINITY)
    };
    score(one).total_cmp(&score(other))
}

/// Whether a model ranks rows better than its baseline: by AUC or R2.
pub fn beats_baseline(validation: &Validation) -> bool {
    let of = |scores: &Scores| scores.get("auc").or(scores.get("r2")).copied();
    of(&validation.scores) > of(&validation.baseline)
}

#[cfg(test)]
mod extremes;
#[cfg(test)]
mod tests;
