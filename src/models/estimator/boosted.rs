//! Boosted trees: each corrects the ones before.

use serde::Deserialize;
use smartcore::xgboost::{XGRegressor, XGRegressorParameters};

use super::trees::{self, Size, TREES_MAX, Trees};
use super::{Dimensions, Estimator, Matrix, Parameter, Training, Values, parameters, parse};
use crate::models::ModelError;
use crate::models::forest::{NodeKind, Tree};

/// The deepest boosted tree: its nodes are nested in a file, and the reader stops at a depth of
/// 127.
const DEPTH_MAX: u16 = 100;

type Smartcore = XGRegressor<f64, f64, Matrix, Vec<f64>>;

pub(super) fn known(typed: &[(String, String)]) -> Result<Vec<Parameter>, ModelError> {
    parameters::known(&XGRegressorParameters::default(), typed)
}

pub(super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
    let (x, y) = (training.matrix()?, training.numbers());
    let defaults = XGRegressorParameters::default();
    let (chosen, _) = parameters::apply(&defaults, training.parameters)?;
    if chosen.max_depth > DEPTH_MAX {
        return Err(ModelError(format!(
            "parameter max_depth must be at most {DEPTH_MAX}, but is {}",
            chosen.max_depth
        )));
    }
    training.fit(&defaults, |chosen| Smartcore::fit(&x, &y, chosen))
}

pub(super) fn read(serialised: &str, shape: Dimensions) -> Result<Estimator, ModelError> {
    let mirror: BoostedMirror = parse(serialised)?;
    if mirror.regressors.is_empty() || mirror.regressors.len() > TREES_MAX {
        return Err(ModelError(format!(
            "there must be 1 to {TREES_MAX} trees, but there are {}",
            mirror.regressors.len()
        )));
    }
    let chosen = &mirror.parameters;
    if !(chosen.learning_rate.is_finite() && chosen.base_score.is_finite()) {
        return Err(ModelError(
            "learning_rate and base_score must be finite".to_owned(),
        ));
    }
    let mut size = Size {
        trees: mirror.regressors.len(),
        nodes: 0,
        depth: 0,
    };
    for (index, tree) in mirror.regressors.iter().enumerate() {
        tree.check(shape.features, 0, &mut size)
            .map_err(|reason| ModelError(format!("tree {index}: {reason}")))?;
    }
    let mut forest = trees::empty(shape.features, 1);
    forest.base = vec![chosen.base_score];
    forest.trees = mirror
        .regressors
        .iter()
        .map(|root| root.laid_out(chosen.learning_rate))
        .collect();
    Trees::summed(&forest, size).map(Estimator::new)
}

/// What must hold of smartcore's serialized boosted trees.
#[derive(Deserialize)]
struct BoostedMirror {
    regressors: Vec<BoostedNode>,
    parameters: BoostedParameters,
}

#[derive(Deserialize)]
struct BoostedParameters {
    learning_rate: f64,
    base_score: f64,
}

#[derive(Deserialize)]
struct BoostedNode {
    left: Option<Box<BoostedNode>>,
    right: Option<Box<BoostedNode>>,
    value: f64,
    threshold: f64,
    split_feature_idx: usize,
}

impl BoostedNode {
    /// Recurses as deep as the file that was read, at most 127.
    fn check(&self, features: usize, depth: usize, size: &mut Size) -> Result<(), ModelError> {
        size.nodes += 1;
        size.depth = size.depth.max(depth);
        let (left, right) = match (&self.left, &self.right) {
            (None, None) if self.value.is_finite() => return Ok(()),
            (None, None) => return Err(ModelError("a leaf needs a finite value".to_owned())),
            (Some(left), Some(right)) => (left, right),
            _ => {
                return Err(ModelError(
                    "a node must have both children or none".to_owned(),
                ));
            }
        };
        if self.split_feature_idx >= features {
            return Err(ModelError(format!(
                "it splits on feature {}, but there are {features}",
                self.split_feature_idx
            )));
        }
        if !self.threshold.is_finite() {
            return Err(ModelError("a split needs a finite value".to_owned()));
        }
        left.check(features, depth + 1, size)?;
        right.check(features, depth + 1, size)
    }
    /// The tree in the engine's form. A leaf is multiplied by the learning rate before it is added, as
    /// smartcore does. Recurses as [`BoostedNode::check`].
    fn laid_out(&self, learning_rate: f64) -> Tree {
        let mut tree = Tree {
            leaf_width: 1,
            ..Tree::default()
        };
        self.append(learning_rate, &mut tree);
        tree
    }

    fn append(&self, learning_rate: f64, tree: &mut Tree) -> usize {
        let place = tree.nodes.len();
        tree.nodes
            .push(trees::node(NodeKind::Leaf(tree.values.len())));
        match (&self.left, &self.right) {
            (Some(left), Some(right)) => {
                let left = left.append(learning_rate, tree);
                let right = right.append(learning_rate, tree);
                tree.nodes[place] =
                    trees::split(self.split_feature_idx, self.threshold, left, right);
            }
            _ => tree.values.push(learning_rate * self.value),
        }
        place
    }
}
