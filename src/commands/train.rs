//! `lanekeeper train`: from a table to a model file.

use std::io::{IsTerminal as _, stderr};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::model_file::{note_to_stderr, stem, write};
use crate::commands::output;
use crate::config::{ModelRequest, TrainArgs};
use crate::error::StartError;
use crate::models::Rows;
use crate::models::estimator::{ALGORITHMS, Algorithm, EstimatorKind, Probabilities, find};
use crate::models::format::Format;
use crate::models::native::{Document, Native, TrialDocument};
use crate::train::table::TableReader;
use crate::train::{self, Recipe, TrainError, TrainingData, Validation};

/// Trains a model, scores it, and writes its file.
///
/// # Errors
///
/// `Usage` for an unknown algorithm or parameter; `Failed` for a table that cannot be trained on
/// and a file that cannot be written. Nothing is written then.
pub fn run(args: TrainArgs) -> Result<(), StartError> {
    if args.algorithm == "help" {
        return list();
    }
    let algorithm = find(&args.algorithm).map_err(|error| {
        StartError::Usage(format!("{error}; --algorithm help lists their parameters"))
    })?;
    // Not required by clap, because `--algorithm help` needs none of them.
    let (Some(data), Some(target), Some(out)) = (&args.data, &args.target, &args.out) else {
        return Err(StartError::Usage(
            "--data, --target and --out must be given; see lanekeeper train --help".to_owned(),
        ));
    };
    // Before a large table is read.
    algorithm
        .check_parameters(&args.parameters)
        .map_err(|error| StartError::Usage(error.0))?;
    let table =
        TableReader::open(data, args.delimiter).map_err(|error| StartError::Failed(error.0))?;
    let data = TrainingData::read(table, target, args.features.as_deref(), algorithm.task)
        .map_err(|error| StartError::Failed(error.0))?;
    for note in &data.notes {
        note_to_stderr(note);
    }
    let data = Arc::new(data);
    let recipe = Recipe {
        algorithm,
        parameters: args.parameters.clone(),
        seed: args.seed,
    };
    let (bytes, validation) =
        learn(&data, &recipe, &args, out).map_err(|error| StartError::Failed(error.0))?;
    write(out, &bytes)?;
    output::print(&report(
        algorithm,
        &data,
        validation.as_ref(),
        args.folds,
        out,
        bytes.len(),
    ))
}

/// Scores and trains, and returns the model file's bytes.
fn learn(
    data: &Arc<TrainingData>,
    recipe: &Recipe,
    args: &TrainArgs,
    out: &Path,
) -> Result<(Vec<u8>, Option<Validation>), TrainError> {
    let bar = progress_bar(args.folds as u64 + 1);
    let validation = match args.folds {
        0 => None,
        folds => Some(train::cross_validate(data, recipe, folds, || bar.inc(1))?),
    };
    let fitted = recipe.fit(&data.rows, &data.targets)?;
    bar.finish_and_clear();
    let row: Vec<f64> = data
        .rows
        .iter()
        .next()
        .map(<[f64]>::to_vec)
        .unwrap_or_default();
    let first = Rows::new(row.clone(), data.rows.width()).ok_or("there is no row to try")?;
    let answer = fitted
        .estimator
        .predict(&first)
        .map_err(|error| error.to_string())?;
    let expected = train::expected(&answer, &data.classes)
        .ok_or("the trained model gives no answer for its first row")?;
    let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let trial = TrialDocument { row, expected };
    let mut document = Document::new(
        args.name.clone().unwrap_or_else(|| stem(out)),
        recipe.algorithm.name,
        (data.features.clone(), data.classes.clone()),
        fitted.serialised,
        trial,
        &now,
    );
    document.parameters = fitted.parameters;
    document.training = Some(data.document(args.folds, validation.as_ref()));
    if let Some(validation) = &validation {
        document.scores = validation.scores.clone();
    }
    let bytes = document.seal().map_err(|error| error.to_string())?;
    // A server will make the same checks.
    Native
        .load(&bytes, &ModelRequest::default())
        .map_err(|error| format!("the trained model cannot be served: {error}"))?;
    Ok((bytes, validation))
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

fn report(
    algorithm: &Algorithm,
    data: &TrainingData,
    validation: Option<&Validation>,
    folds: usize,
    out: &Path,
    bytes: usize,
) -> String {
    let mut text = format!(
        "{}: {} rows, {} features",
        algorithm.name,
        data.rows.len(),
        data.features.len()
    );
    if !data.classes.is_empty() {
        text.push_str(&format!(", {} classes", data.classes.len()));
    }
    text.push('\n');
    if let Some(validation) = validation {
        text.push_str(&format!(
            "{:<10} {:>18} {:>10}\n",
            format!("{folds} folds"),
            "model",
            "baseline"
        ));
        for (name, mean) in &validation.scores {
            let of = |scores: &train::score::Scores| scores.get(name).copied().unwrap_or(f64::NAN);
            text.push_str(&format!(
                "{name:<10} {:>18} {:>10.3}\n",
                format!("{mean:.3} ± {:.3}", of(&validation.spread)),
                of(&validation.baseline)
            ));
        }
    }
    text.push_str(&format!(
        "wrote {} ({})\n",
        out.display(),
        ByteSize::b(bytes as u64)
    ));
    text
}

/// Lists the algorithms with their parameters.
fn list() -> Result<(), StartError> {
    let mut text = String::new();
    for algorithm in &ALGORITHMS {
        let task = match algorithm.task {
            EstimatorKind::Classification => "classifier",
            EstimatorKind::Regression => "regressor",
        };
        let probabilities = match algorithm.probabilities {
            Probabilities::None => "",
            Probabilities::VoteShares => "; probabilities are shares of votes",
            Probabilities::Logistic => "; probabilities follow from its coefficients",
        };
        text.push_str(&format!(
            "{} ({task}{probabilities})\n  features: {}\n",
            algorithm.name, algorithm.features
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
