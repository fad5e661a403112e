//! What predicts in a model file: a forest, weighted sums, or neighbours.

use serde::{Deserialize, Serialize};

use super::neighbours::{Neighbours, NeighboursDocument};
use super::packed::Packed;
use crate::models::forest::link::Link;
use crate::models::forest::model::{ForestModel, Margins, SumMeaning};
use crate::models::forest::plan::Plan;
use crate::models::forest::{Forest, Missing, Node, NodeKind, Precision, Test, Tree};
use crate::models::pipeline::linear::{LinearLink, LinearModel};
use crate::models::{Model, ModelError, OutputSpec, Signature};

/// Maximum numbers of trees and of nodes in all of them.
pub const TREES_MAX: usize = 100_000;
/// Maximum number of nodes of all trees together.
pub const NODES_MAX: usize = 16_000_000;

/// The predictor in a file. Its rows are what the preparation makes of a model's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum PredictorDocument {
    /// Trees.
    Forest(ForestDocument),
    /// Weighted sums.
    Linear(LinearDocument),
    /// Nearest neighbours.
    Neighbours(NeighboursDocument),
}

/// Trees in a file. Nodes and leaves stand in the order of the trees.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForestDocument {
    /// What the sums over the trees become.
    pub answer: ForestAnswer,
    /// The value each sum starts with.
    pub base: Vec<f64>,
    /// Number of values of a leaf: 1, or the number of sums.
    pub leaf_width: usize,
    /// For each tree the sum that its leaves add to; 0 for leaves of several values.
    pub outputs: Packed<u32>,
    /// For each tree its number of nodes.
    pub sizes: Packed<u32>,
    /// For each node the feature that it splits on; `u32::MAX` for a leaf.
    pub features: Packed<u32>,
    /// For each split its threshold; at most this goes left.
    pub thresholds: Packed<f64>,
    /// For each split its left and right child, counted from the tree's first node; the highest bit
    /// of the left one says that missing values go left.
    pub children: Packed<u32>,
    /// Leaf after leaf its values.
    pub leaves: Packed<f64>,
}

/// What the sums over the trees become.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForestAnswer {
    /// Their mean is the answer: a number, or the probabilities of the classes.
    Mean,
    /// The sum is the answer.
    Sum,
    /// The logistic function of the one sum is the probability of the second class.
    Logistic,
    /// The shares of the exponentials are the probabilities of the classes.
    Softmax,
}

/// Weighted sums in a file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearDocument {
    /// For each output the weights of all columns.
    pub weights: Vec<f64>,
    /// What is added to each sum. A classifier of two classes has one output.
    pub intercepts: Vec<f64>,
}

/// Marks a leaf among the features of nodes.
const LEAF: u32 = u32::MAX;

/// Marks that missing values go left.
const MISSING_LEFT: u32 = 1 << 31;

impl PredictorDocument {
    /// Whether its sums are no more than the answer times the number of trees.
    pub(super) fn is_mean(&self) -> bool {
        matches!(self, PredictorDocument::Forest(forest) if forest.answer == ForestAnswer::Mean)
    }

    /// Checks the predictor and makes the model of it. `signature` is that of prepared rows.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub(super) fn model(&self, signature: Signature) -> Result<Box<dyn Model>, ModelError> {
        match self {
            PredictorDocument::Forest(forest) => forest.model(signature),
            PredictorDocument::Linear(linear) => linear.model(signature),
            PredictorDocument::Neighbours(neighbours) => {
                Ok(Box::new(Neighbours::new(neighbours, signature)?))
            }
        }
    }
}

impl LinearDocument {
    fn model(&self, signature: Signature) -> Result<Box<dyn Model>, ModelError> {
        let (outputs, link) = match &signature.output {
            OutputSpec::Numbers { width } => (*width, LinearLink::Numbers),
            OutputSpec::Classes { labels, .. } if labels.len() == 2 => (1, LinearLink::Logistic),
            OutputSpec::Classes { labels, .. } => (labels.len(), LinearLink::Softmax),
        };
        let all = || self.weights.iter().chain(&self.intercepts);
        if self.intercepts.len() != outputs
            || self.weights.len() != outputs * signature.width()
            || !all().all(|number| number.is_finite())
        {
            return Err(ModelError(format!(
                "there must be {outputs} finite intercepts and as many times {} finite weights",
                signature.width()
            )));
        }
        Ok(Box::new(LinearModel {
            signature,
            weights: self.weights.clone(),
            intercepts: self.intercepts.clone(),
            link,
        }))
    }
}

impl ForestDocument {
    fn model(&self, signature: Signature) -> Result<Box<dyn Model>, ModelError> {
        let classes = signature.output.labels().len();
        let (outputs, link, meaning) = match (self.answer, classes) {
            (ForestAnswer::Mean | ForestAnswer::Sum, 0) => (1, Link::Identity, SumMeaning::Numbers),
            (ForestAnswer::Mean, _) => (classes, Link::Identity, SumMeaning::Classes),
            (ForestAnswer::Logistic, 2) => {
                (1, Link::Logistic { scale: 1.0 }, SumMeaning::SecondClass)
            }
            (ForestAnswer::Softmax, 3..) => (classes, Link::Softmax, SumMeaning::Classes),
            _ => return Err("its answer does not fit the number of classes".into()),
        };
        let trees = self.sizes.0.len();
        let is_wide = self.leaf_width == outputs && outputs > 1;
        if !(1..=TREES_MAX).contains(&trees)
            || self.outputs.0.len() != trees
            || !(self.leaf_width == 1 || is_wide)
            || (is_wide && self.outputs.0.iter().any(|output| *output != 0))
        {
            return Err(ModelError(format!(
                "there must be 1 to {TREES_MAX} trees, each with an output"
            )));
        }
        let forest = Forest {
            width: signature.width(),
            outputs,
            row_precision: Precision::F64,
            sum_precision: Precision::F64,
            flushes_to_zero: false,
            base: self.base.clone(),
            trees: self.trees()?,
        };
        forest.check()?;
        Ok(Box::new(ForestModel {
            signature,
            margins: Margins::Trees(Plan::new(&forest)?),
            precision: Precision::F64,
            adjustment: None,
            divisor: match self.answer {
                ForestAnswer::Mean => trees as f64,
                _ => 1.0,
            },
            link,
            meaning,
        }))
    }

    /// Takes the lists apart into trees; what they hold is checked with the forest.
    fn trees(&self) -> Result<Vec<Tree>, ModelError> {
        let wrong = || ModelError::from("its lists of nodes do not fit one another");
        let mut features = &self.features.0[..];
        let mut thresholds = self.thresholds.0.iter();
        let mut children = self.children.0.chunks_exact(2);
        let mut leaves = self.leaves.0.chunks_exact(self.leaf_width);
        let mut trees = Vec::with_capacity(self.sizes.0.len());
        for (size, output) in self.sizes.0.iter().zip(&self.outputs.0) {
            let (own, rest) = features
                .split_at_checked(*size as usize)
                .ok_or_else(wrong)?;
            features = rest;
            let mut tree = Tree {
                output: *output as usize,
                leaf_width: self.leaf_width,
                ..Tree::default()
            };
            for feature in own {
                let kind = if *feature == LEAF {
                    tree.values
                        .extend_from_slice(leaves.next().ok_or_else(wrong)?);
                    NodeKind::Leaf(tree.values.len() / self.leaf_width - 1)
                } else {
                    let pair = children.next().ok_or_else(wrong)?;
                    NodeKind::Split {
                        feature: *feature as usize,
                        test: Test::AtMost(*thresholds.next().ok_or_else(wrong)?),
                        missing: Missing::Nan,
                        default_left: pair[0] & MISSING_LEFT != 0,
                        left: (pair[0] & !MISSING_LEFT) as usize,
                        right: pair[1] as usize,
                    }
                };
                tree.nodes.push(Node { kind, cover: 0.0 });
            }
            trees.push(tree);
        }
        let is_used_up = features.is_empty() && thresholds.next().is_none();
        match is_used_up && children.next().is_none() && leaves.next().is_none() {
            true => Ok(trees),
            false => Err(wrong()),
        }
    }
}

/// Writes trees as a file has them.
#[derive(Debug)]
pub struct ForestWriter(ForestDocument);

impl ForestWriter {
    /// Starts without trees.
    pub fn new(answer: ForestAnswer, base: Vec<f64>, leaf_width: usize) -> Self {
        ForestWriter(ForestDocument {
            answer,
            base,
            leaf_width,
            outputs: Packed(Vec::new()),
            sizes: Packed(Vec::new()),
            features: Packed(Vec::new()),
            thresholds: Packed(Vec::new()),
            children: Packed(Vec::new()),
            leaves: Packed(Vec::new()),
        })
    }

    /// Starts a tree of so many nodes, which are added next, the root first.
    pub fn tree(&mut self, output: usize, nodes: usize) {
        self.0.outputs.0.push(output as u32);
        self.0.sizes.0.push(nodes as u32);
    }

    /// Adds a leaf of the tree.
    pub fn leaf(&mut self, values: &[f64]) {
        self.0.features.0.push(LEAF);
        self.0.leaves.0.extend_from_slice(values);
    }

    /// Adds a split of the tree: a value of at most `threshold` goes to the node `left`.
    pub fn split(
        &mut self,
        feature: usize,
        threshold: f64,
        is_missing_left: bool,
        (left, right): (usize, usize),
    ) {
        let mark = if is_missing_left { MISSING_LEFT } else { 0 };
        self.0.features.0.push(feature as u32);
        self.0.thresholds.0.push(threshold);
        self.0.children.0.extend([left as u32 | mark, right as u32]);
    }

    /// The forest in a file.
    pub fn finish(self) -> ForestDocument {
        self.0
    }
}
