//! XGBoost's and LightGBM's estimators: their own files are inside.

use super::classes::classes;
use super::compiler::{Last, PipelineCompiler, Table};
use super::view::View;
use crate::config::ModelRequest;
use crate::models::import::{lightgbm, xgboost};
use crate::models::pipeline::Takes;
use crate::models::pipeline::step::{Imputation, Step};
use crate::models::{AnswerSpec, Loaded, ModelError, OutputSpec};

/// What XGBoost takes.
const XGBOOST: Takes = Takes {
    nan: true,
    ..Takes::FINITE
};

/// What LightGBM takes.
const LIGHTGBM: Takes = Takes {
    infinite: true,
    ..XGBOOST
};

/// The estimators of XGBoost.
pub(super) fn xgboost(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let booster = view.child("_Booster")?;
    let handle = booster.need("handle")?;
    let bytes = view.objects.bytes(handle);
    let bytes = bytes.ok_or_else(|| booster.wrong("handle", "bytes"))?;
    let request = ModelRequest {
        iterations: compiler.iterations,
        ..ModelRequest::default()
    };
    let loaded = xgboost::load_pickled(bytes, &request)?;
    let width = loaded.model.signature().width();
    let becomes_missing = |missing: f64| {
        Step::Impute(Imputation {
            missing,
            filled: (0..width).map(|column| (column, f64::NAN)).collect(),
            flagged: Vec::new(),
        })
    };
    let mut steps = Vec::new();
    if table.is_sparse {
        // A sparse matrix does not hold zeros, and XGBoost takes what it does not hold for missing.
        steps.push(becomes_missing(0.0));
    }
    // This value counts as missing, and NaN does too.
    let missing = view.number("missing").unwrap_or(f64::NAN);
    if !missing.is_nan() {
        steps.push(becomes_missing(missing));
    }
    let last = booster_of(compiler, view, table, loaded, XGBOOST)?;
    Ok(Last { steps, ..last })
}

/// The estimators of LightGBM.
pub(super) fn lightgbm(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let booster = view.child("_Booster")?;
    let text = match booster.get("_handle") {
        Some(_) => booster.text("_handle")?,
        None => booster.text("handle")?,
    };
    if view.get("_objective").is_some() && view.text_if_any("_objective").is_none() {
        return Err(
            "its objective is a function of its own, and lanekeeper runs nothing from a file"
                .into(),
        );
    }
    let mut request = ModelRequest::default();
    if view.name() == "LGBMClassifier"
        && let OutputSpec::Classes { labels, .. } = classes(view, "_classes")?
    {
        request.classes = labels;
    }
    let best = match compiler.iterations {
        Some(crate::config::Iterations::All) => 0,
        _ => booster.count("best_iteration").unwrap_or(0),
    };
    let iterations = (best > 0).then_some(best);
    let loaded = lightgbm::load_text(text, iterations, &request)?;
    if iterations.is_some() {
        compiler.notes.push(format!(
            "training stopped early and iteration {best} was the best; only those up to it are used, as LightGBM's estimators do; --iterations all uses all"
        ));
    }
    booster_of(compiler, view, table, loaded, LIGHTGBM)
}

/// A booster behind a table.
fn booster_of(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
    loaded: Loaded,
    takes: Takes,
) -> Result<Last, ModelError> {
    let signature = loaded.model.signature();
    let width = signature.width();
    if !table.columns.is_empty() {
        if table.columns.len() != width {
            return Err(ModelError(format!(
                "{} was fitted with {width} columns, but is given {}",
                view.name(),
                table.columns.len()
            )));
        }
        compiler.numbers(view, &table.columns, takes)?;
    }
    compiler.notes.extend(loaded.notes);
    let answer = AnswerSpec::of_labels(&signature.output).in_precision(loaded.model.precision());
    Ok(Last {
        steps: Vec::new(),
        takes,
        has_raw: loaded.model.raw_width() > 0,
        answer: Some(answer),
        features: Some(signature.features.clone()),
        model: loaded.model,
    })
}
