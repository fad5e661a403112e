//! A checked forest, laid out for speed.
//!
//! Each row is first turned into *keys*: for each column, how many of the column's thresholds lie at
//! or below the value. A column is a feature with its rule for missing values and its comparison, so
//! missing values, `<` and `<=`, f32 and f64 and categories are all settled before a tree is walked,
//! and every node asks the same: is the key above the node's rank? Sixteen walks advance in step, so
//! that their memory accesses overlap: through 16 trees for a single row, through one tree for 16 rows
//! of a batch. Large batches use `slices`, if the trees are small. Leaves are summed in the order of
//! the trees, so that sums have the library's bits.

use std::collections::HashSet;

use super::columns::{Column, ColumnSet, column_of};
use super::kernels::{BLOCK, LANES, PackedNode, walk};
use super::slices::Slices;
use super::{ALMOST_ZERO, Forest, LinearLeaf, NodeKind, Precision, Tree};
use crate::models::{ModelError, Rows};

/// Maximum number of thresholds of a column, so that a key fits 16 bits; more become more columns.
const RANKS_MAX: usize = u16::MAX as usize - 1;

/// Maximum number of columns of a [`Part`] of several trees; a tree that would exceed it starts another
/// part. That is well within the 16 bits of a column's index, because a column may have to be split.
const COLUMNS_MAX: usize = 32_000;

/// Minimum number of rows for which [`Slices`] are faster than walks.
const SLICED_ROWS_MIN: usize = 48;

/// Maximum number of features, and of sums, for computing by [`Slices`]. A block of 256 rows then holds at
/// most 4 MiB of each, which `--max-buffered` does not count.
const SLICED_WIDTH_MAX: usize = 2048;

/// A number that leaves are summed in.
pub trait Sum:
    Copy + PartialOrd + Send + Sync + std::ops::AddAssign + std::fmt::Debug + 'static
{
    /// What is no threshold: nothing is above it.
    const NONE: Self;

    /// Rounds to this precision.
    fn of(value: f64) -> Self;

    /// Widens it.
    fn widen(self) -> f64;
}

impl Sum for f32 {
    const NONE: Self = f32::NAN;

    fn of(value: f64) -> Self {
        value as f32
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }
}

impl Sum for f64 {
    const NONE: Self = f64::NAN;

    fn of(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }
}

/// What computes a forest's sums.
#[derive(Debug)]
pub enum Plan {
    /// In 32 bits.
    F32(Layout<f32>),
    /// In 64 bits.
    F64(Layout<f64>),
}

impl Plan {
    /// Checks a forest and lays it out.
    ///
    /// # Errors
    ///
    /// As [`Forest::check`], and a tree that asks more different questions than fit.
    pub fn new(forest: &Forest) -> Result<Self, ModelError> {
        forest.check()?;
        Ok(match forest.sum_precision {
            Precision::F32 => Plan::F32(Layout::new(forest)?),
            Precision::F64 => Plan::F64(Layout::new(forest)?),
        })
    }

    /// Computes the sums of each row, row after row.
    pub fn margins(&self, rows: &Rows) -> Vec<f64> {
        match self {
            Plan::F32(layout) => layout.margins(rows),
            Plan::F64(layout) => layout.margins(rows),
        }
    }

    #[cfg(test)]
    pub(super) fn set_level(&mut self, level: super::kernels::Level) {
        match self {
            Plan::F32(layout) => layout
                .parts
                .iter_mut()
                .for_each(|part| part.set_level(level)),
            Plan::F64(layout) => layout
                .parts
                .iter_mut()
                .for_each(|part| part.set_level(level)),
        }
    }

    /// Its trees, its nodes, and the bytes of memory that it takes.
    pub fn parts(&self) -> Vec<(&'static str, usize)> {
        let (trees, nodes, bytes) = match self {
            Plan::F32(layout) => layout.size(),
            Plan::F64(layout) => layout.size(),
        };
        vec![("trees", trees), ("nodes", nodes), ("memory", bytes)]
    }
}

/// A forest with sums of one precision.
#[derive(Debug)]
pub struct Layout<S> {
    width: usize,
    row_precision: Precision,
    flushes_to_zero: bool,
    base: Vec<S>,
    parts: Vec<Part<S>>,
}

/// Consecutive trees that share their columns.
#[derive(Debug)]
struct Part<S> {
    columns: Vec<Column>,
    thresholds: Vec<f64>,
    nodes: Vec<PackedNode>,
    /// For each node that is a leaf, where its values begin.
    leaf_of: Vec<u32>,
    values: Vec<S>,
    trees: Vec<PlannedTree>,
    /// The same trees for large batches, if that is faster.
    slices: Option<Slices<S>>,
}

#[derive(Debug)]
struct PlannedTree {
    root: u32,
    /// Splits on the longest path.
    depth: u32,
    output: u32,
    /// 1, or the number of sums.
    leaf_width: u32,
    /// By the leaf's place among the tree's, the sum that it adds to; empty if that is `output`.
    leaf_outputs: Vec<u32>,
    /// By the leaf's place among the tree's; empty if leaves are not linear.
    linear: Vec<LinearLeaf>,
    /// Where the values of the tree's first leaf begin.
    first_value: u32,
}

impl<S: Sum> Layout<S> {
    fn new(forest: &Forest) -> Result<Self, ModelError> {
        let mut parts = Vec::new();
        let mut from = 0;
        while from < forest.trees.len() {
            let to = part_end(&forest.trees, from);
            let part = Part::new(&forest.trees[from..to]);
            if part.columns.len() > usize::from(u16::MAX) {
                return Err(ModelError(format!(
                    "tree {from} must split on fewer features and categories: it needs {} columns",
                    part.columns.len()
                )));
            }
            part.check()?;
            parts.push(part);
            from = to;
        }
        Ok(Layout {
            width: forest.width,
            row_precision: forest.row_precision,
            flushes_to_zero: forest.flushes_to_zero,
            base: forest.base.iter().map(|base| S::of(*base)).collect(),
            parts,
        })
    }

    /// Trees, nodes and bytes.
    fn size(&self) -> (usize, usize, usize) {
        let trees = self.parts.iter().map(|part| part.trees.len()).sum();
        let nodes = self.parts.iter().map(|part| part.nodes.len()).sum();
        let bytes = |part: &Part<S>| {
            size_of_val(&part.columns[..])
                + size_of_val(&part.thresholds[..])
                + size_of_val(&part.nodes[..])
                + size_of_val(&part.leaf_of[..])
                + size_of_val(&part.values[..])
                + size_of_val(&part.trees[..])
                + part
                    .trees
                    .iter()
                    .map(|tree| size_of_val(&tree.leaf_outputs[..]))
                    .sum::<usize>()
                + part.slices.as_ref().map_or(0, Slices::bytes)
        };
        (trees, nodes, self.parts.iter().map(bytes).sum())
    }

    fn margins(&self, rows: &Rows) -> Vec<f64> {
        let slices: Option<Vec<&Slices<S>>> =
            self.parts.iter().map(|part| part.slices.as_ref()).collect();
        match slices {
            Some(slices) if rows.len() >= SLICED_ROWS_MIN && self.is_narrow() => {
                self.margins_by_slices(rows, &slices)
            }
            _ => self.margins_by_walks(rows),
        }
    }

    /// Whether a block of rows takes little memory.
    fn is_narrow(&self) -> bool {
        self.width <= SLICED_WIDTH_MAX && self.base.len() <= SLICED_WIDTH_MAX
    }

    fn margins_by_walks(&self, rows: &Rows) -> Vec<f64> {
        let outputs = self.base.len();
        let mut all = Vec::with_capacity(rows.len() * outputs);
        let (mut values, mut keys) = (Vec::new(), Vec::new());
        let mut sums: Vec<S> = Vec::with_capacity(outputs * LANES);
        for block in rows.values().chunks(self.width * LANES) {
            values.clear();
            values.extend(block.iter().map(|value| self.rounded(*value)));
            let count = values.len() / self.width;
            sums.clear();
            (0..count).for_each(|_| sums.extend_from_slice(&self.base));
            for part in &self.parts {
                part.write_keys(&values, self.width, &mut keys);
                match count {
                    1 => part.add_trees(&values, &keys, &mut sums),
                    _ => part.add_rows(&values, self.width, &keys, &mut sums, outputs),
                }
            }
            all.extend(sums.iter().map(|sum| sum.widen()));
        }
        all
    }

    fn margins_by_slices(&self, rows: &Rows, slices: &[&Slices<S>]) -> Vec<f64> {
        let outputs = self.base.len();
        let mut all = Vec::with_capacity(rows.len() * outputs);
        // Feature by feature, and sum by sum.
        let mut values = vec![[S::of(0.0); BLOCK]; self.width];
        let mut sums = vec![[S::of(0.0); BLOCK]; outputs];
        let mut keys = Vec::new();
        for block in rows.values().chunks(self.width * BLOCK) {
            for (row, given) in block.chunks_exact(self.width).enumerate() {
                for (own, value) in values.iter_mut().zip(given) {
                    own[row] = S::of(self.rounded(*value));
                }
            }
            for (sums, base) in sums.iter_mut().zip(&self.base) {
                *sums = [*base; BLOCK];
            }
            for slices in slices {
                slices.add(&values, &mut keys, &mut sums);
            }
            for row in 0..block.len() / self.width {
                all.extend(sums.iter().map(|sums| sums[row].widen()));
            }
        }
        all
    }

    fn rounded(&self, value: f64) -> f64 {
        match self.row_precision {
            Precision::F32 => f64::from(value as f32),
            Precision::F64 if self.flushes_to_zero && value.abs() <= ALMOST_ZERO => 0.0,
            Precision::F64 => value,
        }
    }
}

/// Where the part ends that begins with tree `from`.
fn part_end(trees: &[Tree], from: usize) -> usize {
    let mut kinds = HashSet::new();
    let mut sets = 0;
    for (index, tree) in trees.iter().enumerate().skip(from) {
        for node in &tree.nodes {
            match column_of(&node.kind) {
                Some(kind) => {
                    kinds.insert(kind);
                }
                None => sets += usize::from(matches!(node.kind, NodeKind::Split { .. })),
            }
        }
        if kinds.len() + sets > COLUMNS_MAX && index > from {
            return index;
        }
    }
    trees.len()
}

impl<S: Sum> Part<S> {
    fn new(trees: &[Tree]) -> Self {
        let mut part = Part {
            columns: Vec::new(),
            thresholds: Vec::new(),
            nodes: Vec::new(),
            leaf_of: Vec::new(),
            values: Vec::new(),
            trees: Vec::with_capacity(trees.len()),
            slices: None,
        };
        let mut columns = ColumnSet::new(trees, RANKS_MAX);
        for tree in trees {
            part.add_tree(tree, &mut columns);
        }
        part.columns = columns.columns;
        part.thresholds = columns.thresholds;
        part.slices = Slices::new(trees);
        part.nodes.shrink_to_fit();
        part.leaf_of.shrink_to_fit();
        part.values.shrink_to_fit();
        part
    }

    /// Appends a tree, each pair of children side by side.
    fn add_tree(&mut self, tree: &Tree, columns: &mut ColumnSet) {
        let root = self.nodes.len() as u32;
        let first_value = self.values.len() as u32;
        self.values
            .extend(tree.values.iter().map(|value| S::of(*value)));
        let mut depth = 0;
        // Nodes to write: where they come from, where they go, and how deep they are.
        self.reserve_nodes(1);
        let mut open = vec![(0, root, 0)];
        while let Some((index, place, level)) = open.pop() {
            depth = depth.max(level);
            match &tree.nodes[index].kind {
                NodeKind::Leaf(leaf) => {
                    // It leads to itself, as no key is above the rank.
                    self.nodes[place as usize] = PackedNode {
                        rank: u16::MAX,
                        column: 0,
                        children: place,
                    };
                    self.leaf_of[place as usize] = first_value + (leaf * tree.leaf_width) as u32;
                }
                kind @ NodeKind::Split { left, right, .. } => {
                    let (column, rank) = columns.question(tree, kind);
                    let children = self.nodes.len() as u32;
                    self.reserve_nodes(2);
                    self.nodes[place as usize] = PackedNode {
                        // Below RANKS_MAX; more columns than fit are refused.
                        rank: rank as u16,
                        column: column as u16,
                        children,
                    };
                    open.push((*right, children + 1, level + 1));
                    open.push((*left, children, level + 1));
                }
            }
        }
        self.trees.push(PlannedTree {
            root,
            depth,
            output: tree.output as u32,
            leaf_width: tree.leaf_width as u32,
            leaf_outputs: tree.leaf_outputs.clone(),
            linear: tree.linear.clone(),
            first_value,
        });
    }

    /// Checks what the kernel that walks the nodes relies on.
    ///
    /// # Errors
    ///
    /// The plan is wrong, whatever the file: it is refused rather than walked.
    fn check(&self) -> Result<(), ModelError> {
        let nodes = self.nodes.len();
        let is_inside = |node: &PackedNode| {
            let is_leaf = node.rank == u16::MAX;
            let children = node.children as usize + usize::from(!is_leaf);
            children < nodes && usize::from(node.column) < self.keys_per_row()
        };
        let roots = self.trees.iter().all(|tree| (tree.root as usize) < nodes);
        match roots && self.nodes.iter().all(is_inside) {
            true => Ok(()),
            false => Err("its plan points outside of itself".into()),
        }
    }

    #[cfg(test)]
    fn set_level(&mut self, level: super::kernels::Level) {
        if let Some(slices) = &mut self.slices {
            slices.set_level(level);
        }
    }

    fn reserve_nodes(&mut self, count: usize) {
        let length = self.nodes.len() + count;
        self.nodes.resize(length, PackedNode::default());
        self.leaf_of.resize(length, 0);
    }

    /// Computes the keys of all rows, row after row.
    fn write_keys(&self, values: &[f64], width: usize, keys: &mut Vec<u16>) {
        keys.clear();
        for row in values.chunks_exact(width) {
            keys.extend(
                self.columns
                    .iter()
                    .map(|column| column.key(row, &self.thresholds)),
            );
            // Leaves read a key too, even in a part that has no splits.
            if self.columns.is_empty() {
                keys.push(0);
            }
        }
    }

    fn keys_per_row(&self) -> usize {
        self.columns.len().max(1)
    }

    /// Adds the leaves of one row.
    fn add_trees(&self, row: &[f64], keys: &[u16], sums: &mut [S]) {
        for trees in self.trees.chunks(LANES) {
            let mut places = [trees[0].root; LANES];
            let mut depth = 0;
            for (place, tree) in places.iter_mut().zip(trees) {
                *place = tree.root;
                depth = depth.max(tree.depth);
            }
            walk(&self.nodes, keys, &[0; LANES], &mut places, depth);
            for (place, tree) in places.iter().zip(trees) {
                self.add_leaf(tree, *place, row, sums);
            }
        }
    }

    /// Adds the leaves of up to [`LANES`] rows.
    fn add_rows(&self, values: &[f64], width: usize, keys: &[u16], sums: &mut [S], outputs: usize) {
        let count = values.len() / width;
        let mut offsets = [0; LANES];
        for (row, offset) in offsets.iter_mut().enumerate().take(count) {
            *offset = (row * self.keys_per_row()) as u32;
        }
        for tree in &self.trees {
            let mut places = [tree.root; LANES];
            walk(&self.nodes, keys, &offsets, &mut places, tree.depth);
            for (row, place) in places.iter().enumerate().take(count) {
                let sums = &mut sums[row * outputs..][..outputs];
                self.add_leaf(tree, *place, &values[row * width..][..width], sums);
            }
        }
    }

    fn add_leaf(&self, tree: &PlannedTree, place: u32, row: &[f64], sums: &mut [S]) {
        let at = self.leaf_of[place as usize] as usize;
        if tree.leaf_width == 1 {
            let value = match tree.linear.get(at - tree.first_value as usize) {
                Some(model)
                    if model
                        .terms
                        .iter()
                        .all(|(feature, _)| !row[*feature].is_nan()) =>
                {
                    let mut sum = model.constant;
                    for (feature, factor) in &model.terms {
                        sum += factor * row[*feature];
                    }
                    S::of(sum)
                }
                _ => self.values[at],
            };
            let own = tree.leaf_outputs.get(at - tree.first_value as usize);
            sums[*own.unwrap_or(&tree.output) as usize] += value;
            return;
        }
        let values = &self.values[at..at + tree.leaf_width as usize];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += *value;
        }
    }
}
