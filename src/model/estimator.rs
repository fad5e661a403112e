//! The estimators that can be served, behind one enum: the place to add the next one.
//!
//! Each variant is an estimator of smartcore, which trains it and predicts with it. A variant says
//! how it is read from its serialised form, what of that form must hold beyond what serde checks,
//! and how it predicts. smartcore indexes by what a file says, so a hostile file would panic or loop
//! for ever: every index is checked before smartcore sees one.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use smartcore::ensemble::random_forest_classifier::RandomForestClassifier;
use smartcore::ensemble::random_forest_regressor::RandomForestRegressor;
use smartcore::linalg::basic::matrix::DenseMatrix;

use crate::model::{Output, PredictError, Rows};

/// The most trees of a forest, and nodes of a tree, that are read.
const TREES_MAX: usize = 100_000;
const NODES_MAX: usize = 10_000_000;

/// smartcore's matrix of instances.
pub type Matrix = DenseMatrix<f64>;

/// smartcore's forest classifier, with class indices as its labels.
pub type ForestClassifier = RandomForestClassifier<f64, u32, Matrix, Vec<u32>>;

/// smartcore's forest regressor.
pub type ForestRegressor = RandomForestRegressor<f64, f64, Matrix, Vec<f64>>;

/// An estimator that was checked and can predict.
#[derive(Debug)]
pub enum Estimator {
    /// `random-forest-classifier`: labels are smartcore's, probabilities vote shares over its trees.
    RandomForestClassifier {
        /// What predicts.
        forest: Box<ForestClassifier>,
        /// Its trees, which smartcore keeps private, for their votes.
        votes: Votes,
    },
    /// `random-forest-regressor`.
    RandomForestRegressor {
        /// What predicts.
        forest: Box<ForestRegressor>,
    },
}

impl Estimator {
    /// Reads the estimator called `algorithm` (kebab-case) from its serialised form.
    ///
    /// # Errors
    /// What is wrong with it, whatever it is that was read.
    pub fn read(
        algorithm: &str,
        serialised: &str,
        features: usize,
        classes: usize,
    ) -> Result<Self, String> {
        match algorithm {
            "random-forest-classifier" => {
                let mirror: ClassifierMirror = parse(serialised)?;
                let votes = mirror.check(features, classes)?;
                let forest = Box::new(parse(serialised)?);
                Ok(Estimator::RandomForestClassifier { forest, votes })
            }
            "random-forest-regressor" => {
                let mirror: RegressorMirror = parse(serialised)?;
                check_trees(&mirror.forest_regressor.trees, features)?;
                if classes != 0 {
                    return Err("a regressor has no classes".to_owned());
                }
                let forest = Box::new(parse(serialised)?);
                Ok(Estimator::RandomForestRegressor { forest })
            }
            other => Err(format!(
                "the algorithm is {}, but must be random-forest-classifier or random-forest-regressor",
                other.escape_debug()
            )),
        }
    }

    /// Predicts for rows of the width the estimator was read with.
    ///
    /// # Errors
    /// smartcore's own.
    pub fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let matrix = DenseMatrix::new(rows.len(), rows.width(), rows.values().to_vec(), false)
            .map_err(failed)?;
        match self {
            Estimator::RandomForestClassifier { forest, votes } => Ok(Output::Classes {
                indices: forest.predict(&matrix).map_err(failed)?,
                probabilities: Some(votes.shares(rows)),
            }),
            Estimator::RandomForestRegressor { forest } => {
                Ok(Output::Numbers(forest.predict(&matrix).map_err(failed)?))
            }
        }
    }
}

fn failed(error: smartcore::error::Failed) -> PredictError {
    PredictError(error.to_string())
}

fn parse<T: DeserializeOwned>(serialised: &str) -> Result<T, String> {
    serde_json::from_str(serialised)
        .map_err(|error| format!("the estimator cannot be read: {error}"))
}

/// What of smartcore's serialised forest classifier must hold.
#[derive(Deserialize)]
struct ClassifierMirror {
    trees: Vec<ClassifierTree>,
    classes: Vec<u32>,
}

#[derive(Deserialize)]
struct ClassifierTree {
    nodes: Vec<Node<usize>>,
    classes: Vec<u32>,
    num_classes: usize,
}

/// What of smartcore's serialised forest regressor must hold.
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
    nodes: Vec<Node<f64>>,
}

#[derive(Deserialize)]
struct Node<T> {
    output: T,
    split_feature: usize,
    split_value: Option<f64>,
    true_child: Option<usize>,
    false_child: Option<usize>,
}

trait Tree {
    type Output;
    fn nodes(&self) -> &[Node<Self::Output>];
}

impl Tree for ClassifierTree {
    type Output = usize;
    fn nodes(&self) -> &[Node<usize>] {
        &self.nodes
    }
}

impl Tree for RegressorTree {
    type Output = f64;
    fn nodes(&self) -> &[Node<f64>] {
        &self.nodes
    }
}

impl ClassifierMirror {
    fn check(&self, features: usize, classes: usize) -> Result<Votes, String> {
        let indices: Vec<u32> = (0..).take(classes).collect();
        if classes < 2 || self.classes != indices {
            return Err(format!(
                "the forest's classes must be 0 to {} in order, one for each label",
                classes.max(1) - 1
            ));
        }
        check_trees(&self.trees, features)?;
        for (index, tree) in self.trees.iter().enumerate() {
            let sound = tree.classes == indices
                && tree.num_classes == classes
                && tree.nodes.iter().all(|node| node.output < classes);
            if !sound {
                return Err(format!(
                    "tree {index} must have the forest's {classes} classes and vote for one of them"
                ));
            }
        }
        Ok(Votes::new(&self.trees, classes))
    }
}

/// Checks what smartcore takes for granted when it walks a tree.
fn check_trees<T: Tree>(trees: &[T], features: usize) -> Result<(), String> {
    if trees.is_empty() || trees.len() > TREES_MAX {
        return Err(format!(
            "a forest must have 1 to {TREES_MAX} trees, but has {}",
            trees.len()
        ));
    }
    for (tree_index, tree) in trees.iter().enumerate() {
        let nodes = tree.nodes();
        if nodes.is_empty() || nodes.len() > NODES_MAX {
            return Err(format!(
                "tree {tree_index} must have 1 to {NODES_MAX} nodes, but has {}",
                nodes.len()
            ));
        }
        for (index, node) in nodes.iter().enumerate() {
            check_node(node, index, nodes.len(), features)
                .map_err(|reason| format!("node {index} of tree {tree_index}: {reason}"))?;
        }
    }
    Ok(())
}

fn check_node<T>(
    node: &Node<T>,
    index: usize,
    nodes: usize,
    features: usize,
) -> Result<(), String> {
    let (true_child, false_child) = match (node.true_child, node.false_child) {
        (None, None) => return Ok(()),
        (Some(true_child), Some(false_child)) => (true_child, false_child),
        _ => return Err("a node must have both children or none".to_owned()),
    };
    // Children come after their parent, so that a walk always ends.
    if [true_child, false_child]
        .iter()
        .any(|child| *child <= index || *child >= nodes)
    {
        return Err(format!(
            "children must lie after their parent and below {nodes}"
        ));
    }
    if node.split_feature >= features {
        return Err(format!(
            "it splits on feature {}, but there are {features}",
            node.split_feature
        ));
    }
    if !node.split_value.is_some_and(f64::is_finite) {
        return Err("a split needs a finite value".to_owned());
    }
    Ok(())
}

/// A forest's trees as flat arrays, to count their votes.
#[derive(Debug)]
pub struct Votes {
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
        let flatten = |(index, node): (usize, &Node<usize>)| FlatNode {
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
    pub fn shares(&self, rows: &Rows) -> Vec<f64> {
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

/// Walks one tree. It ends because children lie after their parents, as `check_node` saw to.
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

#[cfg(test)]
mod tests {
    use super::*;
    use smartcore::ensemble::random_forest_classifier::RandomForestClassifierParameters;
    use smartcore::ensemble::random_forest_regressor::RandomForestRegressorParameters;

    fn data() -> (Rows, Matrix, Vec<u32>) {
        // Two overlapping classes and a third, from a small linear congruence.
        let mut seed = 7u64;
        let mut next = || {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 40) as f64 / (1u64 << 24) as f64
        };
        let values: Vec<f64> = (0..400 * 3).map(|_| next() * 10.0 - 5.0).collect();
        let labels = values
            .chunks(3)
            .map(|row| ((row[0] + row[1] * 0.5 > 0.0) as u32) + (row[2] > 4.0) as u32)
            .collect();
        let matrix = DenseMatrix::new(400, 3, values.clone(), false).unwrap();
        (Rows::new(values, 3).unwrap(), matrix, labels)
    }

    fn classifier() -> (Rows, Matrix, ForestClassifier) {
        let (rows, matrix, labels) = data();
        let parameters = RandomForestClassifierParameters::default()
            .with_n_trees(12)
            .with_max_depth(4)
            .with_seed(3);
        let forest = ForestClassifier::fit(&matrix, &labels, parameters).unwrap();
        (rows, matrix, forest)
    }

    #[test]
    fn the_majority_of_votes_is_what_smartcore_predicts() {
        let (rows, matrix, forest) = classifier();
        let serialised = serde_json::to_string(&forest).unwrap();
        let estimator = Estimator::read("random-forest-classifier", &serialised, 3, 3).unwrap();
        let Output::Classes {
            indices,
            probabilities,
        } = estimator.predict(&rows).unwrap()
        else {
            panic!("a classifier gives classes");
        };
        assert_eq!(indices, forest.predict(&matrix).unwrap());
        let shares = probabilities.unwrap();
        for (index, shares) in indices.iter().zip(shares.chunks(3)) {
            // Ties go to the lowest index, in smartcore and here.
            let most = shares.iter().copied().fold(0.0, f64::max);
            assert_eq!(
                shares.iter().position(|share| *share == most),
                Some(*index as usize)
            );
            assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_regressor_predicts_the_same_bits_after_a_round_trip() {
        let (rows, matrix, labels) = data();
        let targets: Vec<f64> = labels
            .iter()
            .zip(rows.iter())
            .map(|(label, row)| f64::from(*label) / 3.0 + row[1])
            .collect();
        let parameters = RandomForestRegressorParameters::default()
            .with_n_trees(7)
            .with_seed(3);
        let forest = ForestRegressor::fit(&matrix, &targets, parameters).unwrap();
        let serialised = serde_json::to_string(&forest).unwrap();
        let estimator = Estimator::read("random-forest-regressor", &serialised, 3, 0).unwrap();
        let Output::Numbers(numbers) = estimator.predict(&rows).unwrap() else {
            panic!("a regressor gives numbers");
        };
        let bits = |numbers: &[f64]| {
            numbers
                .iter()
                .map(|number| number.to_bits())
                .collect::<Vec<_>>()
        };
        assert_eq!(bits(&numbers), bits(&forest.predict(&matrix).unwrap()));
    }

    #[test]
    fn what_smartcore_would_panic_on_or_loop_over_is_refused() {
        let (_, _, forest) = classifier();
        let sound = serde_json::to_value(&forest).unwrap();
        type Edit = fn(&mut serde_json::Value);
        let table: &[(&str, Edit, &str)] = &[
            (
                "no trees",
                |f| f["trees"] = serde_json::json!([]),
                "1 to 100000 trees",
            ),
            (
                "null trees",
                |f| f["trees"] = serde_json::Value::Null,
                "cannot be read",
            ),
            (
                "no nodes",
                |f| f["trees"][0]["nodes"] = serde_json::json!([]),
                "nodes, but has 0",
            ),
            (
                "a cycle",
                |f| f["trees"][0]["nodes"][0]["true_child"] = 0.into(),
                "after their parent",
            ),
            (
                "a child out of range",
                |f| f["trees"][0]["nodes"][0]["false_child"] = 9999.into(),
                "after their parent",
            ),
            (
                "one child",
                |f| f["trees"][0]["nodes"][0]["false_child"] = serde_json::Value::Null,
                "both children",
            ),
            (
                "a feature out of range",
                |f| f["trees"][0]["nodes"][0]["split_feature"] = 3.into(),
                "feature 3",
            ),
            (
                "no split value",
                |f| f["trees"][0]["nodes"][0]["split_value"] = serde_json::Value::Null,
                "finite value",
            ),
            (
                "a class out of range",
                |f| f["trees"][1]["nodes"][0]["output"] = 3.into(),
                "tree 1",
            ),
            (
                "other classes",
                |f| f["classes"] = serde_json::json!([0, 2, 1]),
                "in order",
            ),
            (
                "a tree of other classes",
                |f| f["trees"][2]["classes"] = serde_json::json!([0, 1]),
                "tree 2",
            ),
        ];
        for (name, edit, expected) in table {
            let mut edited = sound.clone();
            edit(&mut edited);
            let error =
                Estimator::read("random-forest-classifier", &edited.to_string(), 3, 3).unwrap_err();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let error = Estimator::read("svc", "{}", 3, 3).unwrap_err();
        assert!(
            error.contains("must be random-forest-classifier or"),
            "{error}"
        );
    }
}
