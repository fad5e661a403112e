//! Linear models, naive Bayes and multi-layer perceptrons.
//!
//! Source: scikit-learn 1.3 to 1.9, `linear_model/`, `naive_bayes.py`, `neural_network/`.

use super::classes::classes;
use super::compiler::{Last, PipelineCompiler, Table};
use super::view::View;
use crate::models::import::features;
use crate::models::import::python::{ArrayElement, Value};
use crate::models::pipeline::Takes;
use crate::models::pipeline::bayes::{BayesModel, Likelihood, pairwise_sum};
use crate::models::pipeline::linear::{LinearLink, LinearModel};
use crate::models::pipeline::network::{Activation, Layer, NetworkModel};
use crate::models::{Model, ModelError, OutputSpec, Signature};

fn last(model: impl Model + 'static, has_raw: bool) -> Last {
    Last {
        steps: Vec::new(),
        model: Box::new(model),
        takes: Takes::FINITE,
        has_raw,
        answer: None,
        features: None,
    }
}

/// Weights and intercepts, an intercept for each output.
fn weights(view: View<'_>, width: usize) -> Result<(Vec<f64>, Vec<f64>), ModelError> {
    let weights = view.numbers("coef_")?;
    let mut intercepts = view.numbers("intercept_")?;
    if width == 0 || weights.is_empty() || !weights.len().is_multiple_of(width) {
        return Err(view.wrong("coef_", &format!("weights of {width} columns")));
    }
    let outputs = weights.len() / width;
    if intercepts.len() == 1 {
        intercepts = vec![intercepts[0]; outputs];
    }
    match intercepts.len() == outputs {
        true => Ok((weights, intercepts)),
        false => Err(view.wrong("intercept_", &format!("{outputs} numbers"))),
    }
}

fn linear(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: &Table,
    link: LinearLink,
    output: Option<OutputSpec>,
) -> Result<Last, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let width = table.columns.len();
    let (weights, intercepts) = weights(view, width)?;
    let outputs = intercepts.len();
    let output = match output {
        None => OutputSpec::Numbers { width: outputs },
        Some(OutputSpec::Classes { labels, .. }) => {
            if labels.len() != outputs.max(2) {
                return Err(view.wrong("coef_", "those of each class"));
            }
            OutputSpec::Classes {
                labels,
                has_probabilities: link != LinearLink::Classes,
            }
        }
        Some(numbers) => numbers,
    };
    let has_raw = matches!(output, OutputSpec::Classes { .. });
    let features = features(Vec::new(), width, false)?;
    let signature = Signature { features, output };
    let model = LinearModel {
        signature,
        weights,
        intercepts,
        link,
    };
    Ok(last(model, has_raw))
}

/// Models that answer with the weighted sum.
pub(super) fn regressor(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    linear(compiler, view, &table, LinearLink::Numbers, None)
}

/// PoissonRegressor, GammaRegressor and TweedieRegressor.
pub(super) fn generalized(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let is_identity = match (view.name(), view.text_if_any("link")) {
        ("TweedieRegressor", Some("identity")) => true,
        ("TweedieRegressor", Some("auto")) => view.number("power")? <= 0.0,
        _ => false,
    };
    let link = match is_identity {
        true => LinearLink::Numbers,
        false => LinearLink::Exponentials,
    };
    linear(compiler, view, &table, link, None)
}

/// LogisticRegression and LogisticRegressionCV.
pub(super) fn logistic(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let output = classes(view, "classes_")?;
    let is_binary = output.labels().len() <= 2;
    let solver = view.text_if_any("solver").unwrap_or_default();
    // Newer versions have no attribute `multi_class`, and all classes at once.
    let is_each = match view.text_if_any("multi_class") {
        None => is_binary,
        Some("ovr" | "warn") => true,
        Some("auto" | "deprecated") => {
            is_binary || matches!(solver, "liblinear" | "newton-cholesky")
        }
        Some(_) => false,
    };
    let link = match is_each {
        true => LinearLink::Logistic,
        false => LinearLink::Softmax,
    };
    linear(compiler, view, &table, link, Some(output))
}

/// SGDClassifier and Perceptron.
pub(super) fn descent(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let link = match (view.name(), view.text_if_any("loss")) {
        ("SGDClassifier", Some("log_loss")) => LinearLink::Logistic,
        ("SGDClassifier", Some("modified_huber")) => LinearLink::Clipped,
        _ => LinearLink::Classes,
    };
    let output = classes(view, "classes_")?;
    linear(compiler, view, &table, link, Some(output))
}

/// LinearSVC: classes without probabilities.
pub(super) fn classifier(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let output = classes(view, "classes_")?;
    linear(compiler, view, &table, LinearLink::Classes, Some(output))
}

/// RidgeClassifier and RidgeClassifierCV.
pub(super) fn ridge_classifier(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let binarizer = view.child("_label_binarizer")?;
    if binarizer.text("y_type_")?.starts_with("multilabel") {
        return Err("RidgeClassifier answers several questions at once, and lanekeeper serves classifiers with one; train one for each".into());
    }
    let output = classes(binarizer, "classes_")?;
    linear(compiler, view, &table, LinearLink::Classes, Some(output))
}

/// GaussianNB.
pub(super) fn gaussian_bayes(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let width = table.columns.len();
    let output = classes(view, "classes_")?;
    let count = output.labels().len();
    let means = view.numbers_for("theta_", count * width)?;
    let variances = view.numbers_for("var_", count * width)?;
    let priors = view.numbers_for("class_prior_", count)?;
    let constant = |variances: &[f64]| {
        let logarithms = variances
            .iter()
            .map(|variance| (2.0 * std::f64::consts::PI * variance).ln());
        -0.5 * pairwise_sum(&logarithms.collect::<Vec<_>>())
    };
    let likelihood = Likelihood::Gaussian {
        constants: variances.chunks(width.max(1)).map(constant).collect(),
        priors: priors.iter().map(|prior| prior.ln()).collect(),
        means,
        variances,
    };
    bayes(width, output, likelihood)
}

/// MultinomialNB, BernoulliNB and ComplementNB.
pub(super) fn discrete_bayes(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let width = table.columns.len();
    let output = classes(view, "classes_")?;
    let count = output.labels().len();
    let mut weights = view.numbers_for("feature_log_prob_", count * width)?;
    let priors = view.numbers_for("class_log_prior_", count)?;
    let (constants, binarize) = match view.name() {
        "BernoulliNB" => {
            let mut constants = priors;
            for (constant, weights) in constants.iter_mut().zip(weights.chunks_mut(width.max(1))) {
                for weight in weights {
                    let no = (1.0 - weight.exp()).ln();
                    *constant += no;
                    *weight -= no;
                }
            }
            let binarize = match view.get("binarize") {
                Some(_) => Some(view.number("binarize")?),
                None => None,
            };
            (constants, binarize)
        }
        "ComplementNB" if count > 1 => (vec![0.0; count], None),
        _ => (priors, None),
    };
    let likelihood = Likelihood::Linear {
        weights,
        constants,
        binarize,
    };
    bayes(width, output, likelihood)
}

fn bayes(width: usize, output: OutputSpec, likelihood: Likelihood) -> Result<Last, ModelError> {
    if width == 0 {
        return Err("naive Bayes must have at least one column".into());
    }
    let features = features(Vec::new(), width, false)?;
    let signature = Signature { features, output };
    let model = BayesModel {
        signature,
        likelihood,
    };
    Ok(last(model, false))
}

/// MLPClassifier and MLPRegressor.
pub(super) fn network(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let (weights, biases) = (view.list("coefs_")?, view.list("intercepts_")?);
    if weights.is_empty() || weights.len() != biases.len() {
        return Err(view.wrong("coefs_", "those of each layer"));
    }
    let mut width = table.columns.len();
    let mut layers = Vec::with_capacity(weights.len());
    for (weights, biases) in weights.iter().zip(biases) {
        let (weights, biases) = (view.numbers_of(*weights)?, view.numbers_of(*biases)?);
        let outputs = biases.len();
        if width == 0 || outputs == 0 || weights.len() != width * outputs {
            return Err(view.wrong("coefs_", "weights between each two layers"));
        }
        // Stored input by input.
        let turned = (0..outputs).flat_map(|output| weights.iter().skip(output).step_by(outputs));
        layers.push(Layer {
            width,
            weights: turned.copied().collect(),
            biases,
        });
        width = outputs;
    }
    let output = match view.name() {
        "MLPRegressor" => OutputSpec::Numbers { width },
        _ => {
            let binarizer = view.child("_label_binarizer")?;
            if binarizer.text("y_type_")?.starts_with("multilabel") {
                return Err("MLPClassifier answers several questions at once, and lanekeeper serves classifiers with one; train one for each".into());
            }
            classes(binarizer, "classes_")?
        }
    };
    if !output.labels().is_empty() && output.labels().len() != width.max(2) {
        return Err(view.wrong("coefs_", "a number for each class"));
    }
    let features = features(Vec::new(), table.columns.len(), false)?;
    let model = NetworkModel {
        signature: Signature { features, output },
        layers,
        hidden: activation(view, "activation")?,
        last: activation(view, "out_activation_")?,
    };
    Ok(last(model, false))
}

fn activation(view: View<'_>, name: &str) -> Result<Activation, ModelError> {
    Ok(match view.text(name)? {
        "identity" => Activation::Identity,
        "relu" => Activation::Relu,
        "tanh" => Activation::Tanh,
        "logistic" => Activation::Logistic,
        "exp" => Activation::Exponential,
        "softmax" => Activation::Softmax,
        _ => return Err(view.wrong(name, "one of scikit-learn's")),
    })
}

/// FixedThresholdClassifier and TunedThresholdClassifierCV.
pub(super) fn threshold(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    use crate::models::pipeline::threshold::ThresholdModel;
    let inner = match view.get("estimator_") {
        Some(estimator) => view.at(estimator)?,
        None => view.child("estimator")?,
    };
    let last = super::compose::predict(compiler, inner, table)?;
    let OutputSpec::Classes {
        labels,
        has_probabilities,
    } = &last.model.signature().output
    else {
        return Err(view.wrong("estimator_", "a classifier"));
    };
    if labels.len() != 2 {
        return Err(view.wrong("estimator_", "a classifier of two classes"));
    }
    let is_raw = match view.text_if_any("response_method") {
        Some("decision_function") => true,
        Some("predict_proba") => false,
        _ => !has_probabilities,
    };
    let threshold = match (view.get("best_threshold_"), view.text_if_any("threshold")) {
        (Some(_), _) => view.number("best_threshold_")?,
        (None, Some("auto")) => {
            if is_raw {
                0.0
            } else {
                0.5
            }
        }
        (None, _) => view.number("threshold")?,
    };
    let positive = match positive_label(view) {
        None => 1,
        Some(label) => {
            let own = labels.iter().position(|own| *own == label);
            own.ok_or_else(|| view.wrong("pos_label", "one of the classes"))? as u32
        }
    };
    Ok(Last {
        model: Box::new(ThresholdModel {
            inner: last.model,
            threshold,
            is_raw,
            positive,
        }),
        ..last
    })
}

/// The label of the positive class, if it is not the second.
fn positive_label(view: View<'_>) -> Option<String> {
    let own = view.get("pos_label");
    let scorer = view.get("_curve_scorer");
    let from_scorer = scorer.and_then(|scorer| {
        let arguments = view.objects.attribute(scorer, "_kwargs")?;
        view.objects.entry(arguments, "pos_label")
    });
    let value = own.or(from_scorer).filter(|value| *value != Value::None)?;
    let element = match view.objects.text(value) {
        Some(text) => ArrayElement::Text(text.into()),
        None => ArrayElement::Value(value),
    };
    super::classes::label(&element)
}
