//! Selectors: transformers that only choose columns.
//!
//! Source: scikit-learn 1.3 to 1.9, `feature_selection/`.

use super::compiler::{Last, PipelineCompiler, Table};
use super::compose::{self, Transformed};
use super::trees;
use super::view::View;
use crate::models::ModelError;
use crate::models::pipeline::Takes;
use crate::models::pipeline::step::Step;

/// Takes the columns for which `mask` is true.
fn choose(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
    mask: Vec<bool>,
    takes: Takes,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, takes)?;
    if mask.len() != table.columns.len() {
        return Err(ModelError(format!(
            "{} must choose among {} columns, but chooses among {}",
            view.name(),
            table.columns.len(),
            mask.len()
        )));
    }
    let places: Vec<usize> = (0..mask.len()).filter(|place| mask[*place]).collect();
    let table = table.choose(&places)?.computed();
    Ok((vec![Step::Choose(places)], table))
}

/// VarianceThreshold.
pub(super) fn variance(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let threshold = view.number("threshold")?;
    let variances = view.numbers("variances_")?.into_iter();
    let mask = variances.map(|variance| variance > threshold).collect();
    let takes = Takes {
        nan: true,
        ..Takes::FINITE
    };
    choose(compiler, view, table, mask, takes)
}

/// RFE, RFECV and SequentialFeatureSelector, which store what they choose.
pub(super) fn stored(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let support = view.numbers("support_")?.into_iter();
    let mask = support.map(|chosen| chosen != 0.0).collect();
    let takes = takes_of(view);
    choose(compiler, view, table, mask, takes)
}

/// RFE and RFECV as what predicts: their estimator sees the columns that they choose.
pub(super) fn eliminating(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let (mut steps, table) = stored(compiler, view, table)?;
    let last = compose::predict(compiler, view.child("estimator_")?, table)?;
    steps.extend(last.steps);
    Ok(Last {
        steps,
        features: None,
        ..last
    })
}

/// What a selector takes: what the estimator takes by which it chooses.
fn takes_of(view: View<'_>) -> Takes {
    let names = ["estimator_", "estimator"];
    let estimator = names.iter().find_map(|name| view.get(name));
    let estimator = estimator.and_then(|estimator| view.at(estimator).ok());
    let has_trees = |one: &View<'_>| one.get("tree_").is_some() || one.get("estimators_").is_some();
    Takes {
        nan: estimator.is_some_and(|one| {
            (has_trees(&one) && trees::takes_missing(one)) || one.get("_predictors").is_some()
        }),
        ..Takes::FINITE
    }
}

/// SelectKBest.
pub(super) fn k_best(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let scores = scores(view)?;
    let kept = match view.text_if_any("k") {
        Some("all") => scores.len(),
        _ => view.count("k")?,
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    // Stable, as scikit-learn's order.
    order.sort_by(|one, other| scores[*one].total_cmp(&scores[*other]));
    let mut mask = vec![false; scores.len()];
    for place in order.iter().rev().take(kept) {
        mask[*place] = true;
    }
    choose(compiler, view, table, mask, Takes::FINITE)
}

/// SelectPercentile.
pub(super) fn percentile(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let scores = scores(view)?;
    let percentile = view.number("percentile")?;
    let mask = if percentile >= 100.0 {
        vec![true; scores.len()]
    } else if percentile <= 0.0 {
        vec![false; scores.len()]
    } else {
        let threshold = quantile(&scores, (100.0 - percentile) / 100.0);
        let mut mask: Vec<bool> = scores.iter().map(|score| *score > threshold).collect();
        let most = (scores.len() as f64 * percentile / 100.0) as usize;
        let mut left = most.saturating_sub(mask.iter().filter(|chosen| **chosen).count());
        for (chosen, score) in mask.iter_mut().zip(&scores) {
            if *score == threshold && left > 0 {
                *chosen = true;
                left -= 1;
            }
        }
        mask
    };
    choose(compiler, view, table, mask, Takes::FINITE)
}

/// SelectFpr and SelectFwe.
pub(super) fn by_p_value(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let p_values = view.numbers("pvalues_")?;
    let mut alpha = view.number("alpha")?;
    if view.name() == "SelectFwe" {
        alpha /= p_values.len().max(1) as f64;
    }
    let mask = p_values.iter().map(|p_value| *p_value < alpha).collect();
    choose(compiler, view, table, mask, Takes::FINITE)
}

/// SelectFromModel.
pub(super) fn from_model(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let estimator = match view.get("estimator_") {
        Some(estimator) => view.at(estimator)?,
        None => view.child("estimator")?,
    };
    let width = table.columns.len();
    let scores = match estimator.get("coef_") {
        Some(_) => {
            let weights = estimator.numbers("coef_")?;
            if width == 0 || !weights.len().is_multiple_of(width) {
                return Err(estimator.wrong("coef_", "weights of each column"));
            }
            let order = view.number("norm_order")?;
            norms(&weights, width, order).ok_or_else(|| view.wrong("norm_order", "1, 2 or inf"))?
        }
        None => trees::importances(estimator)?,
    };
    let threshold = match (view.get("threshold"), view.text_if_any("threshold")) {
        (None, _) => {
            let has_l1 = estimator.text_if_any("penalty") == Some("l1")
                || estimator.name() == "Lasso"
                || estimator.name() == "LassoCV";
            match has_l1 {
                true => 1e-5,
                false => mean(&scores),
            }
        }
        (_, Some(text)) => named_threshold(text, &scores)
            .ok_or_else(|| view.wrong("threshold", "a number, mean or median"))?,
        _ => view.number("threshold")?,
    };
    let mut mask: Vec<bool> = scores.iter().map(|score| *score >= threshold).collect();
    if view.get("max_features").is_some() {
        let most = match view.get("max_features_") {
            Some(_) => view.count("max_features_")?,
            None => view.count("max_features")?,
        };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|one, other| scores[*other].total_cmp(&scores[*one]));
        for place in order.into_iter().skip(most) {
            mask[place] = false;
        }
    }
    let takes = takes_of(view);
    choose(compiler, view, table, mask, takes)
}

/// The size of each column's weights.
fn norms(weights: &[f64], width: usize, order: f64) -> Option<Vec<f64>> {
    let size = |column: usize| {
        let own = weights
            .iter()
            .skip(column)
            .step_by(width)
            .map(|weight| weight.abs());
        match weights.len() == width {
            true => weights.get(column).map(|weight| weight.abs()),
            false if order == 1.0 => Some(own.sum()),
            false if order == 2.0 => Some(own.map(|weight| weight * weight).sum::<f64>().sqrt()),
            false if order == f64::INFINITY => Some(own.fold(0.0, f64::max)),
            false => None,
        }
    };
    (0..width).map(size).collect()
}

/// A threshold such as "1.25*mean".
fn named_threshold(text: &str, scores: &[f64]) -> Option<f64> {
    let (factor, name) = match text.split_once('*') {
        Some((factor, name)) => (factor.trim().parse().ok()?, name.trim()),
        None => (1.0, text),
    };
    match name {
        "mean" => Some(factor * mean(scores)),
        "median" => Some(factor * quantile(scores, 0.5)),
        _ => text.parse().ok(),
    }
}

fn mean(numbers: &[f64]) -> f64 {
    numbers.iter().sum::<f64>() / numbers.len().max(1) as f64
}

/// A quantile with numpy's linear interpolation.
fn quantile(numbers: &[f64], share: f64) -> f64 {
    let mut sorted = numbers.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else {
        return f64::NAN;
    };
    let place = share * last as f64;
    let below = place.floor() as usize;
    let (low, high) = (sorted[below.min(last)], sorted[(below + 1).min(last)]);
    low + (high - low) * (place - below as f64)
}

/// The scores, the worst for those that could not be computed.
fn scores(view: View<'_>) -> Result<Vec<f64>, ModelError> {
    let scores = view.numbers("scores_")?.into_iter();
    Ok(scores
        .map(|score| if score.is_nan() { f64::MIN } else { score })
        .collect())
}
