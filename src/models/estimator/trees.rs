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
    Dimensions, Estimator, Matrix, Parameter, Predictor, Training, Values, failed, matrix,
    parameters, parse,
};
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

/// A forest that votes.
#[derive(Debug)]
pub struct Forest {
    smartcore: Box<ForestClassifier>,
    /// Its trees, which smartcore keeps private, for their votes.
    votes: Votes,
    size: Size,
}

/// One tree that votes.
#[derive(Debug)]
pub struct TreeClassifier {
    smartcore: Box<SmartTreeClassifier>,
    votes: Votes,
    size: Size,
}

macro_rules! voting {
    ($model:ty) => {
        impl Predictor for $model {
            fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
                Ok(Output::Classes {
                    indices: self.smartcore.predict(&matrix(rows)?).map_err(failed)?,
                    probabilities: Some(self.votes.shares(rows)),
                })
            }

            fn shape(&self) -> Values {
                self.size.values()
            }
        }
    };
}

voting!(Forest);
voting!(TreeClassifier);

macro_rules! regressing {
    ($(#[$doc:meta])* $model:ident, $smartcore:ty) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $model {
            smartcore: Box<$smartcore>,
            size: Size,
        }

        impl Predictor for $model {
            fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
                let numbers = self.smartcore.predict(&matrix(rows)?).map_err(failed)?;
                Ok(Output::Numbers(numbers))
            }

            fn shape(&self) -> Values {
                self.size.values()
            }
        }
    };
}

regressing!(
    /// A forest that averages.
    RegressionForest,
    ForestRegressor
);
regressing!(
    /// One tree.
    TreeRegressor,
    SmartTreeRegressor
);
regressing!(
    /// Trees that split at random.
    ExtraTrees,
    SmartExtraTrees
);

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
        Ok(Estimator::RandomForestClassifier(Forest {
            votes: mirror.check(shape.features, shape.classes)?,
            size: Size::of(&mirror.trees),
            smartcore: Box::new(parse(serialised)?),
        }))
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
        Ok(Estimator::DecisionTreeClassifier(TreeClassifier {
            votes: mirror.check(shape.features, shape.classes)?,
            size: Size::of(&mirror.trees),
            smartcore: Box::new(parse(serialised)?),
        }))
    }
}

macro_rules! regressor {
    ($name:ident, $variant:ident($model:ident), $smartcore:ty, $parameters:ty, $mirror:ty, $trees:expr) => {
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
                Ok(Estimator::$variant($model {
                    size: Size::of(&trees),
                    smartcore: Box::new(parse(serialised)?),
                }))
            }
        }
    };
}

regressor!(
    random_forest_regressor,
    RandomForestRegressor(RegressionForest),
    ForestRegressor,
    RandomForestRegressorParameters,
    RegressorMirror,
    |mirror: RegressorMirror| mirror.forest_regressor.trees
);
regressor!(
    extra_trees_regressor,
    ExtraTreesRegressor(ExtraTrees),
    SmartExtraTrees,
    ExtraTreesRegressorParameters,
    RegressorMirror,
    |mirror: RegressorMirror| mirror.forest_regressor.trees
);
regressor!(
    decision_tree_regressor,
    DecisionTreeRegressor(TreeRegressor),
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
    fn check(&self, features: usize, classes: usize) -> Result<Votes, ModelError> {
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
        Ok(Votes::new(&self.trees, classes))
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

/// A forest's trees as flat arrays, to count their votes.
#[derive(Debug)]
pub(super) struct Votes {
    classes: usize,
    trees: Vec<Vec<FlatNode>>,
}

/// A split; a leaf is a node whose children are itself.
#[derive(Debug, Clone, Copy)]
struct FlatNode {
    feature: usize,
    value: f64,
    children: [usize; 2],
    class: usize,
}

impl Votes {
    fn new(trees: &[ClassifierTree], classes: usize) -> Self {
        let flatten = |(index, node): (usize, &TreeNode<usize>)| FlatNode {
            feature: node.split_feature,
            value: node.split_value.unwrap_or(0.0),
            children: [
                node.true_child.unwrap_or(index),
                node.false_child.unwrap_or(index),
            ],
            class: node.output,
        };
        let trees = trees
            .iter()
            .map(|tree| tree.nodes.iter().enumerate().map(flatten).collect());
        Votes {
            classes,
            trees: trees.collect(),
        }
    }

    /// Returns for each row the share of trees that vote for each class, row-major.
    fn shares(&self, rows: &Rows) -> Vec<f64> {
        let mut shares = vec![0.0; rows.len() * self.classes];
        for (row, shares) in rows.iter().zip(shares.chunks_exact_mut(self.classes)) {
            for tree in &self.trees {
                shares[vote(tree, row)] += 1.0;
            }
            for share in shares {
                *share /= self.trees.len() as f64;
            }
        }
        shares
    }
}

/// Walks one tree. It ends because children come after their parents, as `check_node` has checked.
fn vote(tree: &[FlatNode], row: &[f64]) -> usize {
    let mut index = 0;
    loop {
        let node = &tree[index];
        if node.children[0] == index {
            return node.class;
        }
        index = node.children[usize::from(row[node.feature] > node.value)];
    }
}
