//! Trees and forests of scikit-learn's.
//!
//! Source: scikit-learn 1.3 to 1.9, `tree/_tree.pyx`, `tree/_classes.py`, `ensemble/_forest.py`,
//! `ensemble/_gb.py`.

use super::classes::classes;
use super::compiler::{COLUMNS_MAX, Last, PipelineCompiler, Table};
use super::view::View;
use crate::models::forest::link::Link;
use crate::models::forest::model::{ForestModel, Margins, SumMeaning};
use crate::models::forest::plan::Plan;
use crate::models::forest::{
    FEATURES_MAX, Forest, Missing, Node, NodeKind, OUTPUTS_MAX, Precision, Test, Tree,
};
use crate::models::import::features;
use crate::models::import::python::{ArrayElement, Value, number};
use crate::models::pipeline::Takes;
use crate::models::{ModelError, OutputSpec, Signature};

/// The arrays of a tree.
struct Arrays {
    left: Vec<f64>,
    right: Vec<f64>,
    feature: Vec<f64>,
    threshold: Vec<f64>,
    cover: Vec<f64>,
    impurity: Vec<f64>,
    /// Whether missing values go left; empty before 1.3.
    missing_left: Vec<f64>,
    /// The values of all nodes.
    values: Vec<f64>,
    /// Values of a node.
    width: usize,
}

fn arrays(tree: View<'_>) -> Result<Arrays, ModelError> {
    let nodes = tree.array("nodes")?;
    let field = |name: &str| {
        tree.objects
            .field(nodes, name)
            .ok_or_else(|| ModelError(format!("the nodes of a tree must have {name}")))
    };
    let values = tree.numbers("values")?;
    let left = field("left_child")?;
    check_shape(tree, left.len())?;
    if left.is_empty() || !values.len().is_multiple_of(left.len()) || values.is_empty() {
        return Err("a tree must have values for each of its nodes".into());
    }
    Ok(Arrays {
        right: field("right_child")?,
        feature: field("feature")?,
        threshold: field("threshold")?,
        cover: field("weighted_n_node_samples")?,
        impurity: field("impurity")?,
        missing_left: field("missing_go_to_left").unwrap_or_default(),
        width: values.len() / left.len(),
        values,
        left,
    })
}

/// Checks that a tree's values have the shape that the tree was made with: one for each node, output
/// and class.
fn check_shape(tree: View<'_>, nodes: usize) -> Result<(), ModelError> {
    let object = tree.objects.object(tree.value);
    let arguments = object.and_then(|object| tree.objects.sequence(object.arguments));
    let Some([_, classes, outputs]) = arguments else {
        return Err("a tree must say its numbers of features, classes and outputs".into());
    };
    let classes = tree.numbers_of(*classes)?;
    let most = classes.iter().copied().fold(0.0, f64::max);
    let wanted = [nodes, classes.len(), most as usize];
    let shape = &tree.array("values")?.shape;
    match number(*outputs) == Some(classes.len() as f64) && shape[..] == wanted {
        true => Ok(()),
        false => Err(ModelError(format!(
            "the values of a tree must have the shape {wanted:?}, but have {shape:?}"
        ))),
    }
}

impl Arrays {
    fn is_leaf(&self, node: usize) -> bool {
        self.left[node] < 0.0
    }

    /// The nodes; leaf `n` has the values of node `n`.
    fn nodes(&self) -> Vec<Node> {
        let place = |number: f64| match number >= 0.0 {
            true => number as usize,
            // Beyond every table, so that the forest's check refuses it.
            false => usize::MAX,
        };
        let node = |node: usize| Node {
            cover: self.cover[node] as f32,
            kind: match self.is_leaf(node) {
                true => NodeKind::Leaf(node),
                false => NodeKind::Split {
                    feature: place(self.feature[node]),
                    test: Test::AtMost(self.threshold[node]),
                    missing: Missing::Nan,
                    default_left: self.missing_left.get(node).is_some_and(|left| *left != 0.0),
                    left: place(self.left[node]),
                    right: place(self.right[node]),
                },
            },
        };
        (0..self.left.len()).map(node).collect()
    }
}

/// Makes a tree; `value` maps the values of a node to those of a leaf.
fn tree(arrays: &Arrays, output: usize, value: impl Fn(&[f64], &mut Vec<f64>)) -> Tree {
    let mut values = Vec::with_capacity(arrays.values.len());
    for own in arrays.values.chunks_exact(arrays.width) {
        value(own, &mut values);
    }
    Tree {
        output,
        leaf_width: values.len() / arrays.left.len(),
        nodes: arrays.nodes(),
        values,
        ..Tree::default()
    }
}

/// What is the same of all models of trees.
pub(super) fn forest_model(
    forest: &Forest,
    divisor: f64,
    link: Link,
    meaning: SumMeaning,
    output: OutputSpec,
) -> Result<Box<ForestModel>, ModelError> {
    Ok(Box::new(ForestModel {
        signature: Signature {
            features: features(Vec::new(), forest.width, true)?,
            output,
        },
        margins: Margins::Trees(Plan::new(forest)?),
        precision: Precision::F64,
        adjustment: None,
        divisor,
        link,
        meaning,
    }))
}

/// The width of a table that trees may have.
pub(super) fn width_of(view: View<'_>, table: &Table) -> Result<usize, ModelError> {
    match table.columns.len() {
        width @ 1..=FEATURES_MAX => Ok(width),
        width => Err(ModelError(format!(
            "{} must have 1 to {FEATURES_MAX} columns, but has {width}",
            view.name()
        ))),
    }
}

/// Decision trees, and forests of them.
pub(super) fn forest(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let is_classifier = view.name().ends_with("Classifier");
    let output = match is_classifier {
        true => Some(classes(view, "classes_")?),
        false => None,
    };
    let trees = match view.get("estimators_") {
        Some(_) => {
            let estimators = estimators(view)?;
            let trees = estimators.iter().map(|one| one.child("tree_"));
            trees.collect::<Result<Vec<_>, _>>()?
        }
        None => vec![view.child("tree_")?],
    };
    let mut made = Vec::with_capacity(trees.len());
    let mut outputs = output.as_ref().map_or(0, |output| output.labels().len());
    // Not in sparse matrices.
    let mut takes_missing = takes_missing(view) && !table.is_sparse;
    for (index, own) in trees.iter().enumerate() {
        let arrays = arrays(*own)?;
        takes_missing &= !arrays.missing_left.is_empty();
        if index == 0 && !is_classifier {
            outputs = arrays.width;
        }
        if arrays.width != outputs || outputs > OUTPUTS_MAX {
            return Err(ModelError(format!(
                "tree {index} must have {outputs} values a node, but has {}",
                arrays.width
            )));
        }
        made.push(tree(&arrays, 0, |values, out| {
            let total: f64 = values.iter().sum();
            match is_classifier && !is_share(total) {
                // Counts, as versions before 1.3 have them.
                true => out.extend(values.iter().map(|value| value / total)),
                false => out.extend(values),
            }
        }));
    }
    let takes = Takes {
        nan: takes_missing,
        infinite: false,
        beyond_f32: false,
    };
    compiler.numbers(view, &table.columns, takes)?;
    let divisor = trees.len() as f64;
    let forest = Forest {
        width: width_of(view, &table)?,
        outputs,
        row_precision: Precision::F32,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base: vec![0.0; outputs],
        trees: made,
    };
    let (meaning, output) = match output {
        Some(output) => (SumMeaning::Classes, output),
        None => (SumMeaning::Numbers, OutputSpec::Numbers { width: outputs }),
    };
    Ok(Last {
        steps: Vec::new(),
        model: forest_model(&forest, divisor, Link::Identity, meaning, output)?,
        takes,
        has_raw: false,
        answer: None,
        features: None,
    })
}

/// Whether the values of a node are shares already.
fn is_share(total: f64) -> bool {
    (total - 1.0).abs() < 1e-6
}

/// Whether scikit-learn lets missing values through to trees.
///
/// Source: 1.9, `tree/_classes.py` and `ensemble/_forest.py`, `__sklearn_tags__`.
pub(super) fn takes_missing(view: View<'_>) -> bool {
    let first = view.get("estimators_").and_then(|_| estimators(view).ok());
    let tree = first.and_then(|all| all.first().copied()).unwrap_or(view);
    let version = version(tree).or_else(|| version(view)).unwrap_or((1, 3));
    let is_forest = view.get("estimators_").is_some();
    let is_random = tree.text_if_any("splitter") == Some("random");
    let criterion = tree.text_if_any("criterion").unwrap_or_default();
    if version >= (1, 9) {
        return true;
    }
    let knows_criterion = matches!(
        criterion,
        "gini" | "log_loss" | "entropy" | "squared_error" | "friedman_mse" | "poisson"
    );
    let since = match (is_random, is_forest) {
        (true, _) => (1, 6),
        (false, true) => (1, 4),
        (false, false) => (1, 3),
    };
    knows_criterion && version >= since && tree.get("monotonic_cst").is_none()
}

/// The version of scikit-learn that wrote an estimator.
pub(super) fn version(view: View<'_>) -> Option<(u32, u32)> {
    let text = view.text_if_any("_sklearn_version")?;
    let mut parts = text.split('.').map(|part| part.parse().ok());
    Some((parts.next()??, parts.next()??))
}

/// The estimators of an ensemble: a list, or an array of rows.
fn estimators(view: View<'_>) -> Result<Vec<View<'_>>, ModelError> {
    let value = view.need("estimators_")?;
    let elements = view.elements_of(value)?.into_iter();
    elements
        .map(|element| match element {
            ArrayElement::Value(value @ Value::Object(_)) => view.at(value),
            _ => Err(view.wrong("estimators_", "trees")),
        })
        .collect()
}

/// GradientBoostingClassifier and GradientBoostingRegressor.
pub(super) fn gradient_boosting(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let takes = Takes {
        beyond_f32: false,
        ..Takes::FINITE
    };
    compiler.numbers(view, &table.columns, takes)?;
    let classes = match view.name().ends_with("Classifier") {
        true => Some(classes(view, "classes_")?),
        false => None,
    };
    let outputs = match classes.as_ref().map(|classes| classes.labels().len()) {
        Some(1) => return Err(view.wrong("classes_", "at least two classes")),
        None | Some(2) => 1,
        Some(count) => count,
    };
    let rate = view.number("learning_rate")?;
    let mut trees = Vec::new();
    for (index, own) in estimators(view)?.into_iter().enumerate() {
        let arrays = arrays(own.child("tree_")?)?;
        if arrays.width != 1 {
            return Err(ModelError(format!(
                "tree {index} must have one value a node"
            )));
        }
        trees.push(tree(&arrays, index % outputs, |values, out| {
            out.extend(values.iter().map(|value| rate * value));
        }));
    }
    let loss = view.text("loss")?;
    let forest = Forest {
        width: width_of(view, &table)?,
        outputs,
        row_precision: Precision::F32,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base: initial(view, loss, classes.as_ref(), outputs)?,
        trees,
    };
    let (link, meaning) = match (&classes, loss) {
        (None, _) => (Link::Identity, SumMeaning::Numbers),
        (Some(_), "exponential") => (
            Link::Logistic { scale: 2.0 },
            SumMeaning::SecondClassFromHalf,
        ),
        (Some(_), "log_loss") if outputs == 1 => {
            let meaning = match version(view) < Some((1, 4)) {
                true => SumMeaning::SecondClass,
                false => SumMeaning::SecondClassFromHalf,
            };
            (Link::Logistic { scale: 1.0 }, meaning)
        }
        (Some(_), "log_loss") => (Link::Softmax, SumMeaning::Classes),
        _ => return Err(view.wrong("loss", "log_loss or exponential")),
    };
    let has_raw = classes.is_some();
    let output = classes.unwrap_or(OutputSpec::Numbers { width: 1 });
    Ok(Last {
        steps: Vec::new(),
        model: forest_model(&forest, 1.0, link, meaning, output)?,
        takes,
        has_raw,
        answer: None,
        features: None,
    })
}

/// What the sums of gradient boosting start with: the first estimator's constant answer.
fn initial(
    view: View<'_>,
    loss: &str,
    classes: Option<&OutputSpec>,
    outputs: usize,
) -> Result<Vec<f64>, ModelError> {
    if view.text_if_any("init") == Some("zero") {
        return Ok(vec![0.0; outputs]);
    }
    let first = view.child("init_")?;
    let strategy = first.text_if_any("strategy").unwrap_or_default();
    if classes.is_none() {
        return match (first.name(), strategy) {
            ("DummyRegressor", "mean" | "median" | "quantile" | "constant") => {
                first.numbers_for("constant_", 1)
            }
            _ => Err(view.wrong("init", "None or \"zero\"")),
        };
    }
    if first.name() != "DummyClassifier" || strategy != "prior" {
        return Err(view.wrong("init", "None or \"zero\""));
    }
    let priors = first.numbers("class_prior_")?;
    if priors.len() != classes.map_or(0, |classes| classes.labels().len()) {
        return Err(first.wrong("class_prior_", "one for each class"));
    }
    let version = version(view).unwrap_or((1, 9));
    // Since 1.6 with the precision of 64 bits.
    let least = match version >= (1, 6) {
        true => f64::EPSILON,
        false => f64::from(f32::EPSILON),
    };
    let clipped: Vec<f64> = priors
        .iter()
        .map(|prior| prior.clamp(least, 1.0 - least))
        .collect();
    let is_old = version < (1, 4);
    Ok(match (outputs, loss) {
        (1, "exponential") => vec![0.5 * log_odds(clipped[1], is_old)],
        (1, _) => vec![log_odds(clipped[1], is_old)],
        _ if is_old => clipped.iter().map(|prior| prior.ln()).collect(),
        _ => {
            let logarithms: f64 = clipped.iter().map(|prior| prior.ln()).sum();
            let mean = (logarithms / clipped.len() as f64).exp();
            clipped.iter().map(|prior| (prior / mean).ln()).collect()
        }
    })
}

/// The logarithm of the odds; newer versions use SciPy's `logit`, which is finer around a half.
fn log_odds(share: f64, is_old: bool) -> f64 {
    match is_old || !(0.3..=0.65).contains(&share) {
        true => (share / (1.0 - share)).ln(),
        false => {
            let distance = 2.0 * (share - 0.5);
            distance.ln_1p() - (-distance).ln_1p()
        }
    }
}

/// How much each column matters to a tree or a forest, as scikit-learn computes it from the nodes.
///
/// # Errors
///
/// The estimator has no trees.
pub(super) fn importances(view: View<'_>) -> Result<Vec<f64>, ModelError> {
    let is_boosted = view.name().starts_with("GradientBoosting");
    let trees = match (view.get("estimators_"), view.get("tree_")) {
        (Some(_), _) => estimators(view)?,
        (None, Some(_)) => vec![view],
        (None, None) => {
            return Err(ModelError(format!(
                "SelectFromModel chooses by {}, and lanekeeper knows only linear models, trees and forests there",
                view.name()
            )));
        }
    };
    let width = match view.count("n_features_in_")? {
        width @ 1..=COLUMNS_MAX => width,
        _ => return Err(view.wrong("n_features_in_", &format!("1 to {COLUMNS_MAX}"))),
    };
    view.spend(trees.len().saturating_mul(width))?;
    let mut total = vec![0.0; width];
    let mut count = 0;
    for own in trees {
        let arrays = arrays(own.child("tree_")?)?;
        if arrays.left.len() == 1 && view.get("tree_").is_none() {
            continue;
        }
        count += 1;
        let mut own = vec![0.0; width];
        for node in (0..arrays.left.len()).filter(|node| !arrays.is_leaf(*node)) {
            let part = |node: f64| {
                let node = node as usize;
                Some(arrays.cover.get(node)? * arrays.impurity.get(node)?)
            };
            let gain = part(node as f64)
                .zip(part(arrays.left[node]).zip(part(arrays.right[node])))
                .map(|(whole, (left, right))| whole - left - right);
            let feature = own.get_mut(arrays.feature[node] as usize);
            let (Some(gain), Some(own)) = (gain, feature) else {
                return Err("a tree points outside of itself".into());
            };
            *own += gain;
        }
        own.iter_mut().for_each(|gain| *gain /= arrays.cover[0]);
        let sum: f64 = own.iter().sum();
        // Boosting averages what its trees have, and divides at the end.
        if sum > 0.0 && !is_boosted {
            own.iter_mut().for_each(|gain| *gain /= sum);
        }
        total
            .iter_mut()
            .zip(own)
            .for_each(|(total, own)| *total += own);
    }
    total
        .iter_mut()
        .for_each(|gain| *gain /= f64::from(count.max(1)));
    let sum: f64 = total.iter().sum();
    if view.get("tree_").is_none() && sum > 0.0 {
        total.iter_mut().for_each(|gain| *gain /= sum);
    }
    Ok(total)
}
