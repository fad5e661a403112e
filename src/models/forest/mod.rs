//! Forests: one representation of the trees of every library, checked once, and what computes it.
//!
//! An importer makes a [`Forest`]; [`Forest::check`] checks it whole; [`plan`] lays it out for
//! speed. `reference` walks it plainly, for tests to compare with. Nothing here
//! knows a file.

mod columns;
mod kernels;
pub mod link;
pub mod model;
mod part;
pub mod plan;
mod ranks;
#[cfg(test)]
mod reference;
mod slices;
mod table_exp;

use super::ModelError;

/// Maximum number of features: a row of them takes 1 MB.
pub const FEATURES_MAX: usize = 131_072;

/// Maximum number of outputs, as large as a row's answer may be.
pub const OUTPUTS_MAX: usize = 65_536;

/// LightGBM's `kZeroThreshold`, an f32: what is no further from 0 counts as 0.
pub const ALMOST_ZERO: f64 = 1e-35_f32 as f64;

/// The precision of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    F32,
    /// 64 bits.
    F64,
}

/// Trees whose leaves are summed, tree by tree.
#[derive(Debug, Clone)]
pub struct Forest {
    /// Number of features.
    pub width: usize,
    /// Number of sums.
    pub outputs: usize,
    /// The precision to which rows are rounded.
    pub row_precision: Precision,
    /// The precision in which leaves are summed, not below that of the rows.
    pub sum_precision: Precision,
    /// Whether values next to 0 ([`ALMOST_ZERO`]) become 0 before anything else; for rows of 64 bits.
    pub flushes_to_zero: bool,
    /// The value each sum starts with.
    pub base: Vec<f64>,
    /// The trees, in the order in which they are summed.
    pub trees: Vec<Tree>,
}

/// One tree.
#[derive(Debug, Clone, Default)]
pub struct Tree {
    /// The sum that it adds to; 0 for leaves of several values, which add to all sums.
    pub output: usize,
    /// For each leaf the sum that it adds to, as trees that vote need it; empty if all add to `output`.
    pub leaf_outputs: Vec<u32>,
    /// The nodes; the first is the root. Nodes that cannot be reached are permitted.
    pub nodes: Vec<Node>,
    /// The leaves' values, leaf after leaf.
    pub values: Vec<f64>,
    /// Number of values of a leaf: 1, or the number of sums.
    pub leaf_width: usize,
    /// Linear models in the leaves; empty, or one per leaf.
    pub linear: Vec<LinearLeaf>,
    /// Sets of categories, as bits.
    pub sets: Vec<Vec<u32>>,
}

/// A node of a tree.
#[derive(Debug, Clone)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// The training weight that reached it.
    pub cover: f32,
}

/// What a node is.
#[derive(Debug, Clone)]
pub enum NodeKind {
    /// The leaf of this index.
    Leaf(usize),
    /// A question about a feature.
    Split {
        /// The feature.
        feature: usize,
        /// The question.
        test: Test,
        /// Which values count as missing.
        missing: Missing,
        /// Whether a missing value goes left.
        default_left: bool,
        /// The node for yes; with [`CategoryRule::Xgboost`], for a category that is not in the set.
        left: usize,
        /// The other node.
        right: usize,
    },
}

/// The question of a split.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Test {
    /// Is it below this?
    Below(f64),
    /// Is it at most this?
    AtMost(f64),
    /// Is its category in the set of this index?
    InSet {
        /// The set's index in [`Tree::sets`].
        set: usize,
        /// How a number becomes a category, and whether those in the set go left or right.
        rule: CategoryRule,
    },
}

/// How a library treats categories.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CategoryRule {
    /// Left if the category is *not* in the set; numbers below 0 are in no set, others are
    /// truncated.
    Xgboost,
    /// Left if the category is in the set; numbers are truncated first, so that -0.5 is 0.
    LightGbm,
}

/// Which values of a split count as missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Missing {
    /// NaN.
    Nan,
    /// NaN, and values next to 0 ([`ALMOST_ZERO`]).
    Zero,
    /// None: NaN counts as 0.
    Nothing,
}

/// A linear model in a leaf. If one of its features is NaN, the leaf's own value counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LinearLeaf {
    /// The constant.
    pub constant: f64,
    /// Features with their coefficients, in the order in which they are added.
    pub terms: Vec<(usize, f64)>,
}

impl CategoryRule {
    /// Whether a number that is not NaN goes left.
    pub(super) fn goes_left(self, set: &[u32], value: f64) -> bool {
        let holds = |category: f64| {
            // A cast from a float saturates: what is beyond every set stays beyond it.
            let category = category as usize;
            let word = set.get(category / 32).copied().unwrap_or(0);
            word >> (category % 32) & 1 == 1
        };
        match self {
            CategoryRule::Xgboost => value < 0.0 || !holds(value),
            CategoryRule::LightGbm => value > -1.0 && holds(value),
        }
    }
}

impl Forest {
    /// Checks everything that predicting relies on.
    ///
    /// # Errors
    ///
    /// What is wrong, with its tree and node.
    pub fn check(&self) -> Result<(), ModelError> {
        let fail = |text: String| Err(ModelError(text));
        if !(1..=FEATURES_MAX).contains(&self.width) {
            return fail(format!(
                "a model must have 1 to {FEATURES_MAX} features, but has {}",
                self.width
            ));
        }
        if !(1..=OUTPUTS_MAX).contains(&self.outputs) {
            return fail(format!(
                "a model must have 1 to {OUTPUTS_MAX} outputs, but has {}",
                self.outputs
            ));
        }
        // Thresholds are kept in the precision of the sums.
        if (self.row_precision, self.sum_precision) == (Precision::F64, Precision::F32) {
            return fail("rows of 64 bits must not be summed in 32".to_owned());
        }
        if self.base.len() != self.outputs || !self.base.iter().all(|base| base.is_finite()) {
            return fail("each output must have a finite base score".to_owned());
        }
        for (index, tree) in self.trees.iter().enumerate() {
            tree.check(self)
                .map_err(|reason| ModelError(format!("tree {index}: {reason}")))?;
        }
        Ok(())
    }
}

impl Tree {
    /// Whether each leaf is one number that is added to the tree's sum.
    pub(super) fn is_plain(&self) -> bool {
        self.leaf_width == 1 && self.leaf_outputs.is_empty() && self.linear.is_empty()
    }

    /// Whether each leaf has a value for each of several sums.
    pub(super) fn has_wide_leaves(&self) -> bool {
        self.leaf_width > 1
    }

    fn check(&self, forest: &Forest) -> Result<(), String> {
        if self.output >= forest.outputs {
            return Err(format!(
                "it adds to output {} of {}",
                self.output, forest.outputs
            ));
        }
        if self.leaf_width != 1 && self.leaf_width != forest.outputs {
            return Err(format!(
                "a leaf must have 1 value, or {}, but has {}",
                forest.outputs, self.leaf_width
            ));
        }
        if let Some(value) = self.values.iter().find(|value| !value.is_finite()) {
            return Err(format!("a leaf must have a finite value, but has {value}"));
        }
        let leaves = self.values.len() / self.leaf_width;
        self.check_linear(forest, leaves)?;
        self.check_leaf_outputs(forest, leaves)?;
        let mut seen = vec![false; self.nodes.len()];
        let mut open = vec![0];
        while let Some(index) = open.pop() {
            let node = self.nodes.get(index).ok_or_else(|| {
                format!(
                    "there are {} nodes, but node {index} is a child",
                    self.nodes.len()
                )
            })?;
            if std::mem::replace(&mut seen[index], true) {
                return Err(format!(
                    "node {index} has two parents, or is its own ancestor"
                ));
            }
            match &node.kind {
                NodeKind::Leaf(leaf) if *leaf < leaves => {}
                NodeKind::Leaf(leaf) => {
                    return Err(format!("node {index} is leaf {leaf} of {leaves}"));
                }
                NodeKind::Split {
                    feature,
                    test,
                    left,
                    right,
                    ..
                } => {
                    if *feature >= forest.width {
                        return Err(format!(
                            "node {index} splits on feature {feature} of {}",
                            forest.width
                        ));
                    }
                    self.check_test(*test)
                        .map_err(|reason| format!("node {index}: {reason}"))?;
                    open.extend([*right, *left]);
                }
            }
        }
        Ok(())
    }

    fn check_test(&self, test: Test) -> Result<(), &'static str> {
        match test {
            Test::Below(threshold) | Test::AtMost(threshold) if threshold.is_nan() => {
                Err("its threshold must be a number")
            }
            Test::InSet { set, .. } if set >= self.sets.len() => Err("it has no categories"),
            _ => Ok(()),
        }
    }

    fn check_leaf_outputs(&self, forest: &Forest, leaves: usize) -> Result<(), String> {
        if self.leaf_outputs.is_empty() {
            return Ok(());
        }
        if self.leaf_outputs.len() != leaves || self.leaf_width != 1 {
            return Err(format!(
                "each of {leaves} leaves must have one output, but {} have",
                self.leaf_outputs.len()
            ));
        }
        let outputs = forest.outputs;
        match self
            .leaf_outputs
            .iter()
            .find(|output| **output as usize >= outputs)
        {
            Some(output) => Err(format!("a leaf adds to output {output} of {outputs}")),
            None => Ok(()),
        }
    }

    fn check_linear(&self, forest: &Forest, leaves: usize) -> Result<(), String> {
        if self.linear.is_empty() {
            return Ok(());
        }
        if self.linear.len() != leaves || self.leaf_width != 1 {
            return Err(format!(
                "each of {leaves} leaves must have a linear model, but {} have",
                self.linear.len()
            ));
        }
        let sound = |leaf: &LinearLeaf| {
            let term =
                |(feature, factor): &(usize, f64)| *feature < forest.width && factor.is_finite();
            leaf.constant.is_finite() && leaf.terms.iter().all(term)
        };
        match self.linear.iter().all(sound) {
            true => Ok(()),
            false => {
                Err("a leaf's linear model must have finite numbers and known features".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests;
