//! `lanekeeper train`: from a table to a model file.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::path::Path;
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::SystemTime;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::model_file::{note_to_stderr, stem, write};
use crate::commands::output;
use crate::config::{ClassWeight, ColumnChoice, ShapeArgs, TrainArgs, TrainTask, UnseenLabels};
use crate::error::StartError;
use crate::train::algorithms::{ALGORITHMS, Algorithm, find};
use crate::train::columns::ColumnKind;
use crate::train::data::{ColumnRole, DataOptions, TrainingData};
use crate::train::score::Scores;
use crate::train::table::{TableReader, TableShape};
use crate::train::{self, Recipe, Task, TrainError, Validation, model_file, warnings};

/// Columns that are shown.
const COLUMNS_SHOWN: usize = 100;

/// Trains a model, scores it, and writes its file.
///
/// # Errors
///
/// `Usage` for an unknown algorithm or parameter; `Failed` for a table that cannot be trained on
/// and a file that cannot be written. Nothing is written then.
pub fn run(args: TrainArgs) -> Result<(), StartError> {
    if args.algorithm.as_deref() == Some("help") {
        return list();
    }
    let algorithm = args.algorithm.as_deref().map(find).transpose();
    let algorithm = algorithm.map_err(|error| {
        StartError::Usage(format!("{error}; --algorithm help lists their parameters"))
    })?;
    // Not required by clap, because `--algorithm help` needs none of them.
    let (Some(data), Some(target)) = (&args.data, &args.target) else {
        return Err(usage(
            "--data and --target must be given; see lanekeeper train --help",
        ));
    };
    if args.out.is_none() && !args.dry_run {
        return Err(usage("--out must be given; see lanekeeper train --help"));
    }
    // Before a large table is read.
    match algorithm {
        Some(algorithm) => check(algorithm, &args)?,
        None if !args.parameters.is_empty() => {
            return Err(usage(
                "--param needs --algorithm, as each has its own parameters",
            ));
        }
        None => {}
    }
    let failed = |error: TrainError| StartError::Failed(error.0);
    let table = TableReader::open(data, &shape(args.shape));
    let table = table.map_err(|error| StartError::Failed(error.0))?;
    let options = options(target, algorithm, &args);
    let data = TrainingData::read(table, &options).map_err(failed)?;
    let is_boosted = algorithm.is_none_or(|algorithm| algorithm.name.starts_with("boosted"));
    let warnings = warnings::of(&data, args.folds, is_boosted);
    for note in data.notes.iter().chain(&warnings) {
        note_to_stderr(note);
    }
    if args.dry_run {
        return output::print(&columns(&data));
    }
    // A closed stderr must not keep a model from being trained.
    let _ = stderr().write_all(columns(&data).as_bytes());
    let data = Arc::new(data);
    let (Some(out), candidates) = (&args.out, candidates(algorithm, &data)) else {
        return Ok(());
    };
    let trained = learn(&data, &candidates, &args, out).map_err(failed)?;
    for note in &trained.notes {
        note_to_stderr(note);
    }
    write(out, &trained.bytes)?;
    output::print(&report(&data, &trained, args.folds, out))
}

fn usage(text: &str) -> StartError {
    StartError::Usage(text.to_owned())
}

fn check(algorithm: &Algorithm, args: &TrainArgs) -> Result<(), StartError> {
    let checked = algorithm.check_parameters(&args.parameters);
    checked.map_err(|error| StartError::Usage(error.0))?;
    if args.class_weight == ClassWeight::Balanced && !algorithm.takes_weights {
        return Err(StartError::Usage(format!(
            "--class-weight balanced: {} cannot count rows differently",
            algorithm.name
        )));
    }
    Ok(())
}

/// The form of a table, as typed.
pub(super) fn shape(args: ShapeArgs) -> TableShape {
    TableShape {
        delimiter: args.delimiter,
        has_header: !args.no_header,
        skipped_lines: args.skip_lines,
    }
}

fn options(target: &str, algorithm: Option<&Algorithm>, args: &TrainArgs) -> DataOptions {
    let kind = |choice: ColumnChoice| match choice {
        ColumnChoice::Number => ColumnKind::Number,
        ColumnChoice::YesNo => ColumnKind::YesNo,
        ColumnChoice::Category => ColumnKind::Category,
        ColumnChoice::Date => ColumnKind::Moment,
        ColumnChoice::Identifier => ColumnKind::Identifier,
    };
    let typed = args.task.map(|task| match task {
        TrainTask::Classification => Task::Classification,
        TrainTask::Regression => Task::Regression,
    });
    let kinds = args
        .kinds
        .iter()
        .map(|(name, choice)| (name.clone(), kind(*choice)));
    DataOptions {
        target: target.to_owned(),
        features: args.features.clone(),
        exclude: args.exclude.iter().chain(&args.id).cloned().collect(),
        kinds: kinds.collect(),
        missing: args.missing.clone(),
        drops_missing: args.drop_missing,
        refuses_unseen: args.unseen == UnseenLabels::Refuse,
        task: algorithm.map(|algorithm| algorithm.task).or(typed),
    }
}

/// The algorithms to choose from: the one that was asked for, or boosted trees and a linear model.
fn candidates(
    algorithm: Option<&'static Algorithm>,
    data: &TrainingData,
) -> Vec<&'static Algorithm> {
    let names = match data.classes.is_empty() {
        true => ["boosted-trees-regressor", "ridge-regression"],
        false => ["boosted-trees-classifier", "logistic-regression"],
    };
    match algorithm {
        Some(algorithm) => vec![algorithm],
        None => names.iter().filter_map(|name| find(name).ok()).collect(),
    }
}

/// A model that was trained, and what is told of it.
struct Trained {
    algorithm: &'static Algorithm,
    bytes: Vec<u8>,
    validation: Option<Validation>,
    /// The scores of the algorithm that was not taken.
    other: Option<(&'static str, Scores)>,
    notes: Vec<String>,
}

/// Scores and trains, and makes the model file's bytes.
fn learn(
    data: &Arc<TrainingData>,
    candidates: &[&'static Algorithm],
    args: &TrainArgs,
    out: &Path,
) -> Result<Trained, TrainError> {
    let recipe = |algorithm: &'static Algorithm| Recipe {
        algorithm,
        parameters: args.parameters.clone(),
        is_balanced: args.class_weight == ClassWeight::Balanced,
        seed: args.seed,
        threads: available_parallelism().map_or(1, usize::from),
    };
    let bar = progress_bar((args.folds * candidates.len()) as u64 + 1);
    let mut scored = Vec::new();
    if args.folds > 0 {
        for algorithm in candidates {
            let validation =
                train::cross_validate(data, &recipe(algorithm), args.folds, || bar.inc(1))?;
            scored.push((*algorithm, Some(validation)));
        }
        scored.sort_by(|(_, one), (_, other)| train::compare(other.as_ref(), one.as_ref()));
    } else {
        scored.extend(candidates.first().map(|algorithm| (*algorithm, None)));
    }
    let mut scored = scored.into_iter();
    let (algorithm, validation) = scored.next().ok_or("there is no algorithm to train")?;
    let other = scored.next().and_then(|(algorithm, validation)| {
        validation.map(|validation| (algorithm.name, validation.scores))
    });
    let name = args.name.clone().unwrap_or_else(|| stem(out));
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let fitted = recipe(algorithm).fit(data, &data.rows, &data.targets)?;
    bar.finish_and_clear();
    let mut notes = fitted.notes.clone();
    if let Some(validation) = &validation
        && !train::beats_baseline(validation)
    {
        notes.push(
            "the model is no better than its baseline: nothing was learned from these columns"
                .to_owned(),
        );
    }
    Ok(Trained {
        algorithm,
        bytes: model_file::write(
            data,
            algorithm,
            fitted,
            (args.folds, validation.as_ref()),
            (&name, &now),
        )?,
        validation,
        other,
        notes,
    })
}

/// A bar on a terminal, and nothing elsewhere.
fn progress_bar(steps: u64) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
    let template = "training {bar:30} {pos} of {len} models, {eta} left";
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.tick();
    bar
}

/// What each column is taken for, as a table.
fn columns(data: &TrainingData) -> String {
    let width = |text: fn(&train::data::ColumnReport) -> usize, least: usize| {
        data.columns.iter().map(text).max().unwrap_or(0).max(least)
    };
    let name = width(|column| column.name.chars().count(), 6);
    let kind = width(|column| column.kind.len(), 4);
    let mut text = format!(
        "{:<name$}  {:<kind$}  {:<8}  {:>7}  why\n",
        "column", "kind", "use", "missing"
    );
    for column in data.columns.iter().take(COLUMNS_SHOWN) {
        let role = match column.role {
            ColumnRole::Feature => "feature",
            ColumnRole::Target => "target",
            ColumnRole::LeftOut => "left out",
        };
        let line = format!(
            "{:<name$}  {:<kind$}  {role:<8}  {:>7}  {}",
            column.name, column.kind, column.missing, column.why
        );
        text.push_str(line.trim_end());
        text.push('\n');
    }
    match data.columns.len().saturating_sub(COLUMNS_SHOWN) {
        0 => {}
        more => text.push_str(&format!("and {more} more\n")),
    }
    text
}

fn report(data: &TrainingData, trained: &Trained, folds: usize, out: &Path) -> String {
    let mut text = format!(
        "{}: {} rows, {} features",
        trained.algorithm.name,
        data.rows.len(),
        data.features.len()
    );
    if !data.classes.is_empty() {
        text.push_str(&format!(", {} classes", data.classes.len()));
    }
    text.push('\n');
    if let Some(validation) = &trained.validation {
        let other = trained.other.as_ref();
        text.push_str(&format!(
            "{:<10} {:>18} {:>10}",
            format!("{folds} folds"),
            "model",
            "baseline"
        ));
        if let Some((name, _)) = other {
            text.push_str(&format!(" {name:>26}"));
        }
        text.push('\n');
        for (name, mean) in &validation.scores {
            let of = |scores: &Scores| scores.get(name).copied().unwrap_or(f64::NAN);
            text.push_str(&format!(
                "{name:<10} {:>18} {:>10.3}",
                format!("{mean:.3} ± {:.3}", of(&validation.spread)),
                of(&validation.baseline)
            ));
            if let Some((_, scores)) = other {
                text.push_str(&format!(" {:>26.3}", of(scores)));
            }
            text.push('\n');
        }
    }
    text.push_str(&format!(
        "wrote {} ({})\n",
        out.display(),
        ByteSize::b(trained.bytes.len() as u64)
    ));
    text
}

/// Lists the algorithms with their parameters.
fn list() -> Result<(), StartError> {
    let mut text = String::new();
    for algorithm in &ALGORITHMS {
        let task = match algorithm.task {
            Task::Classification => "classifier",
            Task::Regression => "regressor",
        };
        text.push_str(&format!(
            "{} ({task}): {}\n",
            algorithm.name, algorithm.beside
        ));
        for parameter in algorithm.parameters() {
            text.push_str(&format!(
                "  {}={}: {}\n",
                parameter.name, parameter.default, parameter.values
            ));
        }
    }
    output::print(&text)
}
