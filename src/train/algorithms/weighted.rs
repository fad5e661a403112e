//! Linear models and logistic regression, as `linear` and `logistic` solve them.

use serde::{Deserialize, Serialize};

use super::{Learned, Training, must};
use crate::models::native::predictor::{LinearDocument, PredictorDocument};
use crate::train::linear::{self, Fit};
use crate::train::parameters::{self, ParameterValues};
use crate::train::{Targets, TrainError, logistic};

#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct LeastSquares {}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ridge {
    alpha: f64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Lasso {
    alpha: f64,
    max_iter: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ElasticNet {
    alpha: f64,
    l1_ratio: f64,
    max_iter: usize,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Logistic {
    #[serde(rename = "C")]
    c: f64,
    max_iter: usize,
}

impl Default for Ridge {
    fn default() -> Self {
        Ridge { alpha: 1.0 }
    }
}

impl Default for Lasso {
    fn default() -> Self {
        Lasso {
            alpha: 1.0,
            max_iter: 10_000,
        }
    }
}

impl Default for ElasticNet {
    fn default() -> Self {
        ElasticNet {
            alpha: 1.0,
            l1_ratio: 0.5,
            max_iter: 10_000,
        }
    }
}

impl Default for Logistic {
    fn default() -> Self {
        Logistic {
            c: 1.0,
            max_iter: 1000,
        }
    }
}

pub(super) fn linear_regression(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (LeastSquares {}, values) =
        parameters::apply(&LeastSquares::default(), training.parameters)?;
    let rows = training.rows;
    let fit = linear::least_squares(
        rows.values(),
        rows.width(),
        training.numbers(),
        training.weights,
    )?;
    Ok(weighted(fit, values, ""))
}

pub(super) fn ridge_regression(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&Ridge::default(), training.parameters)?;
    must(chosen.alpha >= 0.0, "alpha", "at least 0")?;
    let rows = training.rows;
    let fit = linear::ridge(
        rows.values(),
        rows.width(),
        training.numbers(),
        training.weights,
        chosen.alpha,
    )?;
    Ok(weighted(fit, values, ""))
}

pub(super) fn lasso(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&Lasso::default(), training.parameters)?;
    penalised(training, (chosen.alpha, 1.0, chosen.max_iter), values)
}

pub(super) fn elastic_net(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&ElasticNet::default(), training.parameters)?;
    let sound = (0.0..=1.0).contains(&chosen.l1_ratio);
    must(sound, "l1_ratio", "0 to 1")?;
    penalised(
        training,
        (chosen.alpha, chosen.l1_ratio, chosen.max_iter),
        values,
    )
}

fn penalised(
    training: &Training<'_>,
    (alpha, l1_ratio, max_iter): (f64, f64, usize),
    values: ParameterValues,
) -> Result<Learned, TrainError> {
    must(alpha >= 0.0, "alpha", "at least 0")?;
    must(max_iter > 0, "max_iter", "at least 1")?;
    let rows = training.rows;
    let fit = linear::elastic_net(
        rows.values(),
        rows.width(),
        training.numbers(),
        training.weights,
        alpha,
        l1_ratio,
        max_iter,
    )?;
    Ok(weighted(fit, values, "a larger max_iter or alpha"))
}

pub(super) fn logistic_regression(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&Logistic::default(), training.parameters)?;
    must(chosen.c > 0.0, "C", "above 0")?;
    must(chosen.max_iter > 0, "max_iter", "at least 1")?;
    let Targets::Classes { indices, classes } = training.targets else {
        return Err("logistic-regression needs classes".into());
    };
    let rows = training.rows;
    let fit = logistic::logistic(
        rows.values(),
        rows.width(),
        indices,
        *classes,
        training.weights,
        chosen.c,
        chosen.max_iter,
    )?;
    Ok(weighted(fit, values, "a larger max_iter or a smaller C"))
}

fn weighted(fit: Fit, values: ParameterValues, remedy: &str) -> Learned {
    let notes = match fit.converged {
        true => Vec::new(),
        false => vec![format!(
            "it has not converged after {} iterations, so its answers are not the best ones: try {remedy}",
            fit.iterations
        )],
    };
    Learned {
        predictor: PredictorDocument::Linear(LinearDocument {
            weights: fit.weights,
            intercepts: fit.intercepts,
        }),
        parameters: values,
        notes,
    }
}
