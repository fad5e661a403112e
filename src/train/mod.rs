//! From a table to a model file: reading, scoring, writing.
//!
//! Offline: nothing here runs in a server.

pub mod folds;
pub mod score;
pub mod table;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::available_parallelism;

use csv::StringRecord;

use crate::error::StartError;
use crate::models::estimator::{Algorithm, EstimatorKind, Fitted, Targets};
use crate::models::native::{self, ExpectedDocument, TrainingDocument};
use crate::models::{ModelError, Output, Rows};
use crate::platform::panic;
use crate::platform::sys;
use crate::train::table::{Column, TableError, TableReader};

use self::score::Scores;

/// Address space for the stack of a thread that trains.
const STACK_BYTES: usize = 16 * 1024 * 1024;

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

/// Data to train on.
#[derive(Debug)]
pub struct TrainingData {
    /// Names of the features, in the order of a row's values.
    pub features: Vec<String>,
    /// Rows.
    pub rows: Rows,
    /// The target of each row.
    pub targets: Targets,
    /// Class labels in the order of their indices; empty for regression.
    pub classes: Vec<String>,
    /// Warnings for the operator, one line each.
    pub notes: Vec<String>,
}

impl TrainingData {
    /// Reads a whole table: the column `target`, and `features` or else every other column.
    ///
    /// # Errors
    ///
    /// A missing column, a cell that is not a number, no rows, a single class.
    pub fn read(
        mut table: TableReader<'_>,
        target: &str,
        features: Option<&[String]>,
        task: EstimatorKind,
    ) -> Result<Self, TrainError> {
        let target = table.find(&[target.to_owned()])?.remove(0);
        let columns = match features {
            Some(names) => table.find(names)?,
            None => table.find(&table.others(std::slice::from_ref(&target)))?,
        };
        if columns.is_empty() {
            return Err(TrainError(
                "there are no features: the table has no column but the target".to_owned(),
            ));
        }
        if columns.iter().any(|column| column.index == target.index) {
            return Err(TrainError(format!(
                "the target {:?} cannot be a feature too; leave it out of --features",
                target.name
            )));
        }
        let mut used = columns.clone();
        used.push(target.clone());
        let ignored = table.others(&used);
        let (values, labels, numbers) = read_rows(&mut table, &columns, &target, task)?;
        if values.is_empty() {
            return Err(TrainError("the table has no rows".to_owned()));
        }
        let mut notes = Vec::new();
        if !ignored.is_empty() {
            notes.push(format!("unused columns: {}", ignored.join(", ")));
        }
        let (targets, classes) = match task {
            EstimatorKind::Regression => (Targets::Numbers(numbers), Vec::new()),
            EstimatorKind::Classification => classify(&labels)?,
        };
        // Each row has read every column, of which there is at least one.
        let rows = Rows::new(values, columns.len()).ok_or("the rows are of different lengths")?;
        let data = TrainingData {
            features: columns.into_iter().map(|column| column.name).collect(),
            rows,
            targets,
            classes,
            notes,
        };
        Ok(data.with_notes_on_constants(&target.name))
    }

    fn with_notes_on_constants(mut self, target: &str) -> Self {
        let ranges = self.ranges();
        let constant = |(name, [low, high]): (&String, &[f64; 2])| {
            (low == high).then(|| {
                format!(
                    "the feature {name:?} is {low} in every row: nothing can be learned from it"
                )
            })
        };
        let notes = self.features.iter().zip(&ranges).filter_map(constant);
        self.notes.extend(notes);
        if let Targets::Numbers(numbers) = &self.targets
            && numbers.iter().all(|number| *number == numbers[0])
        {
            let note = format!("the target {target:?} is {} in every row", numbers[0]);
            self.notes.push(note);
        }
        self
    }

    /// The smallest and the largest value of each feature.
    fn ranges(&self) -> Vec<[f64; 2]> {
        let mut ranges = vec![[f64::MAX, f64::MIN]; self.features.len()];
        for row in self.rows.iter() {
            for (range, value) in ranges.iter_mut().zip(row) {
                *range = [range[0].min(*value), range[1].max(*value)];
            }
        }
        ranges
    }

    /// Describes what a model was trained on, and how well such models do.
    pub fn document(&self, folds: usize, validation: Option<&Validation>) -> TrainingDocument {
        let mut class_counts = vec![0; self.classes.len()];
        if let Targets::Classes { indices, .. } = &self.targets {
            for index in indices {
                class_counts[*index as usize] += 1;
            }
        }
        let names = |scores: Option<&Scores>| match scores {
            Some(scores) => scores.clone(),
            None => BTreeMap::new(),
        };
        TrainingDocument {
            rows: self.rows.len() as u64,
            feature_ranges: self.ranges(),
            class_counts,
            folds: u32::try_from(folds).unwrap_or(u32::MAX),
            score_spread: names(validation.map(|validation| &validation.spread)),
            baseline: names(validation.map(|validation| &validation.baseline)),
            importances: validation.and_then(|validation| validation.importances.clone()),
        }
    }

    /// The rows and targets at `indices`.
    fn subset(&self, indices: &[usize]) -> Result<(Rows, Targets), TrainError> {
        let width = self.rows.width();
        let row = |index: &usize| &self.rows.values()[index * width..(index + 1) * width];
        let values: Vec<f64> = indices.iter().flat_map(row).copied().collect();
        let rows = Rows::new(values, width).ok_or("the rows are of different lengths")?;
        let targets = match &self.targets {
            Targets::Numbers(numbers) => {
                Targets::Numbers(indices.iter().map(|index| numbers[*index]).collect())
            }
            Targets::Classes {
                indices: of_all,
                classes,
            } => Targets::Classes {
                indices: indices.iter().map(|index| of_all[*index]).collect(),
                classes: *classes,
            },
        };
        Ok((rows, targets))
    }
}

/// Reads every row: the features' values, and the target as text or as a number.
type Read = (Vec<f64>, Vec<String>, Vec<f64>);

fn read_rows(
    table: &mut TableReader<'_>,
    columns: &[Column],
    target: &Column,
    task: EstimatorKind,
) -> Result<Read, TrainError> {
    let (mut values, mut labels, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    let mut record = StringRecord::new();
    while table.next(&mut record)? {
        for column in columns {
            values.push(table.number(&record, column)?);
        }
        match task {
            EstimatorKind::Classification => labels.push(table.text(&record, target)?.to_owned()),
            EstimatorKind::Regression => numbers.push(table.number(&record, target)?),
        }
    }
    Ok((values, labels, numbers))
}

/// Turns labels into classes: in numeric order if all are numbers, otherwise sorted.
fn classify(labels: &[String]) -> Result<(Targets, Vec<String>), TrainError> {
    let mut classes: Vec<String> = labels.to_vec();
    classes.sort();
    classes.dedup();
    let number = |label: &String| label.parse::<f64>().ok().filter(|number| !number.is_nan());
    if classes.iter().all(|label| number(label).is_some()) {
        // Equal numbers of different spelling are different classes, in the order of their text.
        classes.sort_by(|a, b| {
            number(a)
                .partial_cmp(&number(b))
                .unwrap_or(std::cmp::Ordering::Equal)
        });
    }
    if classes.len() < 2 {
        return Err(TrainError(format!(
            "the target has one class, {:?}, in every row: there is nothing to tell apart",
            classes.first().map_or("", String::as_str)
        )));
    }
    if classes.len() > native::NAMES_MAX {
        return Err(TrainError(format!(
            "the target has {} classes, but a model may have {}; if it is a number, choose a regressor",
            classes.len(),
            native::NAMES_MAX
        )));
    }
    let places: BTreeMap<&str, u32> = (0..)
        .zip(&classes)
        .map(|(index, label)| (label.as_str(), index))
        .collect();
    let indices = labels.iter().map(|label| places[label.as_str()]).collect();
    let targets = Targets::Classes {
        indices,
        classes: classes.len(),
    };
    Ok((targets, classes))
}

/// What is trained, and how.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Which algorithm.
    pub algorithm: &'static Algorithm,
    /// Its parameters, as typed.
    pub parameters: Vec<(String, String)>,
    /// The source of everything random.
    pub seed: u64,
}

impl Recipe {
    /// Trains on some rows.
    ///
    /// # Errors
    ///
    /// As [`Algorithm::fit`].
    pub fn fit(&self, rows: &Rows, targets: &Targets) -> Result<Fitted, TrainError> {
        let fitted = self
            .algorithm
            .fit(rows, targets, &self.parameters, Some(self.seed))?;
        Ok(fitted)
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
                let _ = sender.try_send(scored.unwrap_or_else(|panic| Err(TrainError(panic))));
            }
        });
        started
            .map_err(|error| StartError::no_threads("", workers + 1, &error))
            .map_err(TrainError::of)?;
    }
    drop(sender);
    let mut scored = Vec::new();
    for result in receiver {
        scored.push(result?);
        progress();
    }
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
    assigned: &[usize],
    fold: usize,
) -> Result<Fold, TrainError> {
    let (tested, rest): (Vec<usize>, Vec<usize>) =
        (0..assigned.len()).partition(|row| assigned[*row] == fold);
    let (rows, targets) = data.subset(&rest)?;
    let (unseen, truth) = data.subset(&tested)?;
    let fitted = recipe.fit(&rows, &targets)?;
    let all_fit = fitted.estimator.check(&unseen).is_ok();
    let predicted = predict_what_fits(&fitted, &unseen, data.classes.len())?;
    let baseline = score::baseline(&targets, unseen.len());
    let scores = score::score(&truth, &predicted);
    let is_cheap = data.rows.len() * data.features.len() <= IMPORTANCE_PREDICTIONS_MAX;
    let importances = if is_cheap && all_fit {
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

/// Predicts held-out rows. A row that the model refuses, for a category that the other folds do not
/// have, gets a class that does not exist: a refused prediction is not right.
fn predict_what_fits(fitted: &Fitted, rows: &Rows, classes: usize) -> Result<Output, TrainError> {
    let predict = |rows: &Rows| {
        let predicted = fitted.estimator.predict(rows);
        predicted.map_err(TrainError::of)
    };
    if fitted.estimator.check(rows).is_ok() {
        return predict(rows);
    }
    let mut indices = Vec::with_capacity(rows.len());
    for row in rows.iter() {
        let row = Rows::new(row.to_vec(), rows.width()).ok_or("a row does not fit the model")?;
        let known = fitted.estimator.check(&row).is_ok();
        match known.then(|| predict(&row)).transpose()? {
            Some(Output::Classes { indices: own, .. }) => indices.extend(own),
            Some(Output::Numbers(_)) | None => indices.push(classes as u32),
        }
    }
    Ok(Output::Classes {
        indices,
        probabilities: None,
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
        let predicted = fitted.estimator.predict(&shuffled);
        let predicted = predicted.map_err(TrainError::of)?;
        Ok(first(scores) - first(&score::score(truth, &predicted)))
    });
    falls.collect()
}

/// The answer that a trial must give, from the model's own; `None` if there is none.
pub fn expected(output: &Output, classes: &[String]) -> Option<ExpectedDocument> {
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

#[cfg(test)]
mod tests;
