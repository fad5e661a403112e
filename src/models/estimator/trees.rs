//! Trees and what is made of them: forests, extra trees.

use serde::Deserialize;
use serde_json::json;
use smartcore::ensemble::extra_trees_regressor::{
    ExtraTreesRegressor, ExtraTreesRegressorParameters,
};
use smartcore::ensemble::random_forest_classifier::{
    RandomForestClassifier, RandomForestClassifierParameters,
};
use smartcore::ensemble::random_forest_regressor::{
    RandomForestRegressor, RandomForestRegressorParameters,
};
use smartcore::tree::decision_tree_classifier::{
    DecisionTreeClassifier, DecisionTreeClassifierParameters,
};
use smartcore::tree::decision_tree_regressor::{
    DecisionTreeRegressor, DecisionTreeRegressorParameters,
};

use super::{
    Dimensions, Estimator, Matrix, Parameter, Predictor, Training, Values, parameters, parse,
};
use crate::models::forest::model::largest;
use crate::models::forest::plan::Plan;
use crate::models::forest::{self, Forest, Missing, Node, NodeKind, Precision, Test};
use crate::models::{ModelError, Output, PredictError, Rows};

/// Maximum numbers of trees in a forest and of nodes in a tree.
pub(super) const TREES_MAX: usize = 100_000;
const NODES_MAX: usize = 10_000_000;

/// smartcore's forest classifier, with class indices as its labels.
pub type ForestClassifier = RandomForestClassifier<f64, u32, Matrix, Vec<u32>>;

/// smartcore's forest regressor.
pub type ForestRegressor = RandomForestRegressor<f64, f64, Matrix, Vec<f64>>;

type SmartTreeClassifier = DecisionTreeClassifier<f64, u32, Matrix, Vec<u32>>;
type SmartTreeRegressor = DecisionTreeRegressor<f64, f64, Matrix, Vec<f64>>;
type SmartExtraTrees = ExtraTreesRegressor<f64, f64, Matrix, Vec<f64>>;

/// How large some trees are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) trees: usize,
    pub(super) nodes: usize,
    pub(super) depth: usize,
}

impl Size {
    pub(super) fn values(self) -> Values {
        let Size {
            trees,
            nodes,
            depth,
        } = self;
        [
            ("trees", json!(trees)),
            ("nodes", json!(nodes)),
            ("depth_max", json!(depth)),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    fn of<T: Tree>(trees: &[T]) -> Self {
        Size {
            trees: trees.len(),
            nodes: trees.iter().map(|tree| tree.nodes().len()).sum(),
            depth: trees
                .iter()
                .map(|tree| depth(tree.nodes()))
                .max()
                .unwrap_or(0),
        }
    }
}

/// Counts the splits on the longest path; children come after their parents.
fn depth<T>(nodes: &[TreeNode<T>]) -> usize {
    let mut depths = vec![0usize; nodes.len()];
    for (index, node) in nodes.iter().enumerate() {
        for child in [node.true_child, node.false_child].into_iter().flatten() {
            depths[child] = depths[index] + 1;
        }
    }
    depths.into_iter().max().unwrap_or(0)
}

/// Trees of any of these algorithms, on the forest engine.
///
/// They answer with smartcore's bits: the engine sums leaves in the order of the trees, as smartcore
/// does.
#[derive(Debug)]
pub(super) struct Trees {
    plan: Plan,
    answer: Answer,
    size: Size,
}

/// What the sums over the trees are.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Votes for so many classes.
    Votes { classes: usize },
    /// So many numbers, whose mean is the answer.
    Mean { trees: usize },
    /// The answer.
    Sum,
}

impl Trees {
    /// Lays out trees that were checked; `leaf` tells a node's value and, if trees vote, its class.
    fn new<T: Tree>(
        trees: &[T],
        features: usize,
        answer: Answer,
        leaf: impl Fn(&T::Output) -> (f64, Option<u32>),
    ) -> Result<Self, ModelError> {
        let outputs = match answer {
            Answer::Votes { classes } => classes,
            Answer::Mean { .. } | Answer::Sum => 1,
        };
        let forest = Forest {
            trees: trees
                .iter()
                .map(|tree| laid_out(tree.nodes(), &leaf))
                .collect(),
            ..empty(features, outputs)
        };
        Ok(Trees {
            plan: Plan::new(&forest)?,
            answer,
            size: Size::of(trees),
        })
    }

    /// Lays out trees whose sum is the answer.
    pub(super) fn summed(forest: &Forest, size: Size) -> Result<Self, ModelError> {
        Ok(Trees {
            plan: Plan::new(forest)?,
            answer: Answer::Sum,
            size,
        })
    }
}

/// A forest without trees, which compares and sums as smartcore does.
pub(super) fn empty(features: usize, outputs: usize) -> Forest {
    Forest {
        width: features,
        outputs,
        row_precision: Precision::F64,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base: vec![0.0; outputs],
        trees: Vec::new(),
    }
}

/// A leaf, or a question as smartcore asks it. smartcore does not store how many rows came by.
pub(super) fn node(kind: NodeKind) -> Node {
    Node { kind, cover: 0.0 }
}

/// A split of smartcore's.
pub(super) fn split(feature: usize, value: f64, left: usize, right: usize) -> Node {
    node(NodeKind::Split {
        feature,
        test: Test::AtMost(value),
        missing: Missing::Nothing,
        default_left: false,
        left,
        right,
    })
}

fn laid_out<T>(nodes: &[TreeNode<T>], leaf: impl Fn(&T) -> (f64, Option<u32>)) -> forest::Tree {
    let mut tree = forest::Tree {
        leaf_width: 1,
        ..forest::Tree::default()
    };
    for from in nodes {
        let own = match (from.split_value, from.true_child, from.false_child) {
            (Some(value), Some(left), Some(right)) => split(from.split_feature, value, left, right),
            _ => {
                let (value, class) = leaf(&from.output);
                tree.values.push(value);
                tree.leaf_outputs.extend(class);
                node(NodeKind::Leaf(tree.values.len() - 1))
            }
        };
        tree.nodes.push(own);
    }
    tree
}

impl Predictor for Trees {
    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let mut sums = self.plan.margins(rows);
        Ok(match self.answer {
            Answer::Votes { classes } => {
                let indices = sums.chunks_exact(classes).map(largest).collect();
                let trees = self.size.trees as f64;
                sums.iter_mut().for_each(|votes| *votes /= trees);
                Output::Classes {
                    indices,
                    probabilities: Some(sums),
                }
            }
            Answer::Mean { trees } => {
                sums.iter_mut().for_each(|sum| *sum /= trees as f64);
                Output::Numbers(sums)
            }
            Answer::Sum => Output::Numbers(sums),
        })
    }

    fn shape(&self) -> Values {
        self.size.values()
    }
}

pub(super) mod random_forest_classifier {
    use super::*;

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&RandomForestClassifierParameters::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.matrix()?, training.classes());
        let defaults = RandomForestClassifierParameters::default();
        training.fit(&defaults, |chosen| ForestClassifier::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        let mirror: ClassifierMirror = parse(serialised)?;
        mirror.trees(shape)
    }
}

pub(super) mod decision_tree_classifier {
    use super::*;

    pub(in super::super) fn known(
        typed: &[(String, String)],
    ) -> Result<Vec<Parameter>, ModelError> {
        parameters::known(&DecisionTreeClassifierParameters::default(), typed)
    }

    pub(in super::super) fn fit(training: Training<'_>) -> Result<(String, Values), ModelError> {
        let (x, y) = (training.matrix()?, training.classes());
        let defaults = DecisionTreeClassifierParameters::default();
        training.fit(&defaults, |chosen| SmartTreeClassifier::fit(&x, &y, chosen))
    }

    pub(in super::super) fn read(
        serialised: &str,
        shape: Dimensions,
    ) -> Result<Estimator, ModelError> {
        // As a forest of one.
        let tree: ClassifierTree = parse(serialised)?;
        let mirror = ClassifierMirror {
            classes: tree.classes.clone(),
            trees: vec![tree],
        };
        mirror.trees(shape)
    }
}

macro_rules! regressor {
    ($name:ident, $smartcore:ty, $parameters:ty, $mirror:ty, $trees:expr) => {
        pub(super) mod $name {
            use super::*;

            pub(in super::super) fn known(
                typed: &[(String, String)],
            ) -> Result<Vec<Parameter>, ModelError> {
                parameters::known(&<$parameters>::default(), typed)
            }

            pub(in super::super) fn fit(
                training: Training<'_>,
            ) -> Result<(String, Values), ModelError> {
                let (x, y) = (training.matrix()?, training.numbers());
                let defaults = <$parameters>::default();
                training.fit(&defaults, |chosen| <$smartcore>::fit(&x, &y, chosen))
            }

            pub(in super::super) fn read(
                serialised: &str,
                shape: Dimensions,
            ) -> Result<Estimator, ModelError> {
                let mirror: $mirror = parse(serialised)?;
                let trees: Vec<RegressorTree> = $trees(mirror);
                check_trees(&trees, shape.features)?;
                let answer = Answer::Mean { trees: trees.len() };
                Trees::new(&trees, shape.features, answer, |value| (*value, None))
                    .map(Estimator::new)
            }
        }
    };
}

regressor!(
    random_forest_regressor,
    ForestRegressor,
    RandomForestRegressorParameters,
    RegressorMirror,
    |mirror: RegressorMirror| mirror.forest_regressor.trees
);
regressor!(
    extra_trees_regressor,
    SmartExtraTrees,
    ExtraTreesRegressorParameters,
    RegressorMirror,
    |mirror: RegressorMirror| mirror.forest_regressor.trees
);
regressor!(
    decision_tree_regressor,
    SmartTreeRegressor,
    DecisionTreeRegressorParameters,
    TreeMirror,
    |mirror: TreeMirror| vec![mirror.tree_regressor]
);

/// What must hold of smartcore's serialized regression tree.
#[derive(Deserialize)]
struct TreeMirror {
    tree_regressor: RegressorTree,
}

/// What must hold of smartcore's serialized forest classifier.
#[derive(Deserialize)]
struct ClassifierMirror {
    trees: Vec<ClassifierTree>,
    classes: Vec<u32>,
}

#[derive(Deserialize)]
struct ClassifierTree {
    nodes: Vec<TreeNode<usize>>,
    classes: Vec<u32>,
    num_classes: usize,
}

/// What must hold of smartcore's serialized forest regressor.
#[derive(Deserialize)]
struct RegressorMirror {
    forest_regressor: ForestMirror,
}

#[derive(Deserialize)]
struct ForestMirror {
    trees: Vec<RegressorTree>,
}

#[derive(Deserialize)]
struct RegressorTree {
    nodes: Vec<TreeNode<f64>>,
}

#[derive(Deserialize)]
struct TreeNode<T> {
    output: T,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

trait Tree {
    type Output;
    fn nodes(&self) -> &[TreeNode<Self::Output>];
}

impl Tree for ClassifierTree {
    type Output = usize;
    fn nodes(&self) -> &[TreeNode<usize>] {
        &self.nodes
    }
}

impl Tree for RegressorTree {
    type Output = f64;
    fn nodes(&self) -> &[TreeNode<f64>] {
        &self.nodes
    }
}

impl ClassifierMirror {
    /// Checks the trees and lays them out.
    fn trees(&self, shape: Dimensions) -> Result<Estimator, ModelError> {
        let Dimensions { features, classes } = shape;
        let indices: Vec<u32> = (0..).take(classes).collect();
        if classes < 2 || self.classes != indices {
            return Err(ModelError(format!(
                "the forest's classes must be 0 to {} in order, one for each label",
                classes.max(1) - 1
            )));
        }
        check_trees(&self.trees, features)?;
        for (index, tree) in self.trees.iter().enumerate() {
            let sound = tree.classes == indices
                && tree.num_classes == classes
                && tree.nodes.iter().all(|node| node.output < classes);
            if !sound {
                return Err(ModelError(format!(
                    "tree {index} must have the forest's {classes} classes and vote for one of them"
                )));
            }
        }
        let answer = Answer::Votes { classes };
        // A class is below the number of classes.
        Trees::new(&self.trees, features, answer, |class| {
            (1.0, Some(*class as u32))
        })
        .map(Estimator::new)
    }
}

/// Checks what smartcore takes for granted when it walks a tree.
fn check_trees<T: Tree>(trees: &[T], features: usize) -> Result<(), ModelError> {
    if trees.is_empty() || trees.len() > TREES_MAX {
        return Err(ModelError(format!(
            "a forest must have 1 to {TREES_MAX} trees, but has {}",
            trees.len()
        )));
    }
    for (tree_index, tree) in trees.iter().enumerate() {
        let nodes = tree.nodes();
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            return Err(ModelError(format!(
                "tree {tree_index} must have 1 to {NODES_MAX} nodes, but has {}",
                nodes.len()
            )));
        }
        for (index, node) in nodes.iter().enumerate() {
            check_node(node, index, nodes.len(), features).map_err(|reason| {
                ModelError(format!("node {index} of tree {tree_index}: {reason}"))
            })?;
        }
    }
    Ok(())
}

fn check_node<T>(
    node: &TreeNode<T>,
    index: usize,
    nodes: usize,
    features: usize,
) -> Result<(), ModelError> {
    let (true_child, false_child) = match (node.true_child, node.false_child) {
        (None, None) => return Ok(()),
        (Some(true_child), Some(false_child)) => (true_child, false_child),
        _ => {
            return Err(ModelError(
                "a node must have both children or none".to_owned(),
            ));
        }
    };
    // Children come after their parent, so that a walk always ends.
    if [true_child, false_child]
        .iter()
        .any(|child| *child <= index || *child >= nodes)
    {
        return Err(ModelError(format!(
            "children must lie after their parent and below {nodes}"
        )));
    }
    if node.split_feature >= features {
        return Err(ModelError(format!(
            "it splits on feature {}, but there are {features}",
            node.split_feature
        )));
    }
    if !node.split_value.is_some_and(f64::is_finite) {
        return Err(ModelError("a split needs a finite value".to_owned()));
    }
    Ok(())
}
