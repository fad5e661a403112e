//! Consecutive trees of a forest, laid out to be walked.

use std::collections::{HashSet, VecDeque};
use std::ops::RangeInclusive;

use super::columns::{ColumnSet, KeyRule, PlanColumn, column_of};
use super::kernels::{LANES, Level, PackedNode, TREE_LANES, walk};
use super::plan::Sum;
use super::ranks::{Grid, Ranking, row_keys};
use super::slices::Slices;
use super::{LinearLeaf, NodeKind, Tree};
use crate::models::ModelError;

/// Maximum number of thresholds of a column. A key counts thresholds and has 16 bits, and the greatest one
/// leads to the right child always. A feature with more thresholds has several columns.
const RANKS_MAX: usize = u16::MAX as usize - 1;

/// Maximum number of columns of a [`Part`] of several trees; a tree that would exceed it starts another
/// part. It is half of what the 16 bits of a column's index allow, as columns of too many thresholds are
/// split later.
const COLUMNS_MAX: usize = 32_000;

/// A column with so many thresholds has a [`Grid`]: fewer are searched as fast, and more do not fit.
const GRIDDED: RangeInclusive<usize> = 16..=255;

/// Maximum number of nodes of a tree that is laid out level by level.
const LEVELLED_NODES_MAX: usize = 1024;

/// Consecutive trees that share their columns.
#[derive(Debug)]
pub(super) struct Part<S> {
    pub(super) columns: Vec<PlanColumn>,
    thresholds: Vec<f64>,
    pub(super) nodes: Vec<PackedNode>,
    /// For each node the value of its leaf (0 at a split), if all trees are plain; otherwise empty.
    pub(super) leaf_values: Vec<S>,
    /// For each node where the values of its leaf begin (0 at a split); empty if `leaf_values` is not.
    leaf_of: Vec<u32>,
    values: Vec<S>,
    /// Whether every leaf has one value for each sum.
    has_wide_leaves: bool,
    pub(super) trees: Vec<PlannedTree>,
    /// The same trees, as they are walked for a single row.
    groups: Vec<TreeGroup>,
    /// For each column its grid, if it has one, for ranking a single row; empty without AVX2.
    grids: Vec<Option<Box<Grid<S>>>>,
    level: Level,
    /// The same trees for large batches, if that is faster.
    pub(super) slices: Option<Slices<S>>,
}

/// Consecutive trees that are walked in step.
#[derive(Debug)]
struct TreeGroup {
    /// Their roots. If there are fewer than `TREE_LANES`, the other places repeat the first.
    roots: [u32; TREE_LANES],
    /// Depth of the deepest of them.
    depth: u32,
}

#[derive(Debug)]
pub(super) struct PlannedTree {
    root: u32,
    /// Splits on the longest path.
    depth: u32,
    /// The sum that it adds to.
    output: u32,
    /// Values of a leaf: 1, or one for each sum.
    leaf_width: u32,
    /// By leaf number, the sum that it adds to; empty if that is `output`.
    leaf_outputs: Vec<u32>,
    /// By leaf number; empty if leaves are not linear.
    linear: Vec<LinearLeaf>,
    /// Where the values of the tree's first leaf begin.
    first_value: u32,
}

impl TreeGroup {
    fn new(trees: &[PlannedTree]) -> Self {
        let mut roots = [trees[0].root; TREE_LANES];
        for (root, tree) in roots.iter_mut().zip(trees) {
            *root = tree.root;
        }
        TreeGroup {
            roots,
            depth: trees.iter().map(|tree| tree.depth).max().unwrap_or(0),
        }
    }
}

impl<S: Sum> Part<S> {
    pub(super) fn new(trees: &[Tree]) -> Self {
        let mut part = Part {
            columns: Vec::new(),
            thresholds: Vec::new(),
            nodes: Vec::new(),
            leaf_values: Vec::new(),
            leaf_of: Vec::new(),
            values: Vec::new(),
            has_wide_leaves: trees.iter().all(Tree::has_wide_leaves),
            trees: Vec::with_capacity(trees.len()),
            groups: Vec::new(),
            grids: Vec::new(),
            level: Level::best(),
            slices: None,
        };
        let is_plain = trees.iter().all(Tree::is_plain);
        let mut columns = ColumnSet::new(trees, RANKS_MAX);
        for tree in trees {
            part.add_tree(tree, is_plain, &mut columns);
        }
        part.groups = part.trees.chunks(TREE_LANES).map(TreeGroup::new).collect();
        part.columns = columns.columns;
        part.thresholds = columns.thresholds;
        part.grids = part.grids();
        part.slices = Slices::new(trees);
        part.nodes.shrink_to_fit();
        part.leaf_values.shrink_to_fit();
        part.leaf_of.shrink_to_fit();
        part.values.shrink_to_fit();
        part
    }

    /// Makes grids for columns with so many thresholds that a search is slow. Without AVX2 a search is as
    /// fast, so there are none.
    fn grids(&self) -> Vec<Option<Box<Grid<S>>>> {
        if self.level == Level::Portable {
            return Vec::new();
        }
        let grid = |column: &PlanColumn| match &column.ask {
            KeyRule::Rank { thresholds, .. } if GRIDDED.contains(&thresholds.len()) => {
                Some(Grid::new(&self.thresholds[thresholds.clone()]))
            }
            _ => None,
        };
        self.columns.iter().map(grid).collect()
    }

    /// Appends a tree, each pair of children side by side.
    fn add_tree(&mut self, tree: &Tree, is_plain: bool, columns: &mut ColumnSet) {
        let root = self.nodes.len() as u32;
        let first_value = self.values.len() as u32;
        if !is_plain {
            let values = tree.values.iter().map(|value| S::of(*value));
            self.values.extend(values);
        }
        let mut depth = 0;
        self.reserve_nodes(1, is_plain);
        // Nodes to write: where they come from, where they go, and how deep they are.
        let mut open = VecDeque::from([(0, root, 0)]);
        // A small tree is laid out level by level: the nodes near the root, which most walks pass, lie
        // together. A large tree is laid out depth first: a node lies near those below it.
        let by_level = tree.nodes.len() <= LEVELLED_NODES_MAX;
        while let Some((index, place, level)) = match by_level {
            true => open.pop_front(),
            false => open.pop_back(),
        } {
            depth = depth.max(level);
            match &tree.nodes[index].kind {
                NodeKind::Leaf(leaf) => {
                    // A walk stays here: the rank is the greatest key.
                    self.nodes[place as usize] = PackedNode::leaf(place);
                    match is_plain {
                        true => self.leaf_values[place as usize] = S::of(tree.values[*leaf]),
                        false => {
                            let value = first_value + (leaf * tree.leaf_width) as u32;
                            self.leaf_of[place as usize] = value;
                        }
                    }
                }
                kind @ NodeKind::Split { left, right, .. } => {
                    let (column, rank) = columns.question(tree, kind);
                    let children = self.nodes.len() as u32;
                    self.reserve_nodes(2, is_plain);
                    // Below RANKS_MAX; more columns than fit are refused.
                    let split = PackedNode::split(rank as u16, column as u16, children);
                    self.nodes[place as usize] = split;
                    open.push_back((*right, children + 1, level + 1));
                    open.push_back((*left, children, level + 1));
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

    /// Bytes of memory that it takes, but for linear leaves and sets of categories.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(&self.columns[..])
            + size_of_val(&self.thresholds[..])
            + size_of_val(&self.nodes[..])
            + size_of_val(&self.leaf_values[..])
            + size_of_val(&self.leaf_of[..])
            + size_of_val(&self.values[..])
            + size_of_val(&self.groups[..])
            + self.grids.iter().flatten().count() * size_of::<Grid<S>>()
            + size_of_val(&self.trees[..])
            + self
                .trees
                .iter()
                .map(|tree| size_of_val(&tree.leaf_outputs[..]))
                .sum::<usize>()
            + self.slices.as_ref().map_or(0, Slices::bytes)
    }

    /// Checks what the kernel that walks the nodes relies on.
    ///
    /// # Errors
    ///
    /// The layout is wrong, whatever the file: it is refused, as walking it would read outside of memory.
    pub(super) fn check(&self) -> Result<(), ModelError> {
        let nodes = self.nodes.len();
        let is_inside = |node: &PackedNode| {
            let right = node.left() as usize + usize::from(!node.is_leaf());
            right < nodes && usize::from(node.column()) < self.keys_per_row()
        };
        let roots = self.trees.iter().all(|tree| (tree.root as usize) < nodes);
        match roots && self.nodes.iter().all(is_inside) {
            true => Ok(()),
            false => Err("its plan points outside of itself".into()),
        }
    }

    #[cfg(test)]
    pub(super) fn set_level(&mut self, level: Level) {
        self.level = level;
        if let Some(slices) = &mut self.slices {
            slices.set_level(level);
        }
    }

    fn reserve_nodes(&mut self, count: usize, is_plain: bool) {
        let length = self.nodes.len() + count;
        self.nodes.resize(length, PackedNode::default());
        match is_plain {
            true => self.leaf_values.resize(length, S::of(0.0)),
            false => self.leaf_of.resize(length, 0),
        }
    }

    /// Computes the keys of one row. A walk reads a key at leaves, too, where it does not matter: so a row
    /// has at least one, even without splits.
    pub(super) fn write_keys(&self, row: &[f64], keys: &mut [u16]) {
        let ranking = Ranking {
            columns: &self.columns,
            grids: &self.grids,
            thresholds: &self.thresholds,
            row,
        };
        row_keys(self.level, &ranking, keys);
    }

    pub(super) fn keys_per_row(&self) -> usize {
        self.columns.len().max(1)
    }

    /// Adds the leaves of one row to sums, if all trees are plain.
    pub(super) fn add_plain_trees(&self, keys: &[u16], sums: &mut [S]) {
        for (group, trees) in self.groups.iter().zip(self.trees.chunks(TREE_LANES)) {
            let places = self.walk_group(group, keys);
            let values = places[..trees.len()]
                .iter()
                .map(|place| self.leaf_values[*place as usize]);
            match sums {
                [sum] => {
                    // Stays in a register.
                    let mut own = *sum;
                    values.for_each(|value| own += value);
                    *sum = own;
                }
                _ => {
                    for (value, tree) in values.zip(trees) {
                        sums[tree.output as usize] += value;
                    }
                }
            }
        }
    }

    fn walk_group(&self, group: &TreeGroup, keys: &[u16]) -> [u32; TREE_LANES] {
        let mut places = group.roots;
        let offsets = [0; TREE_LANES];
        walk(&self.nodes, keys, &offsets, &mut places, group.depth);
        places
    }

    /// Adds the leaves of one row.
    pub(super) fn add_trees(&self, row: &[f64], keys: &[u16], sums: &mut [S]) {
        // Few sums stay in registers.
        match sums {
            [_, _] if self.has_wide_leaves => self.add_wide_trees::<2>(keys, sums),
            [_, _, _] if self.has_wide_leaves => self.add_wide_trees::<3>(keys, sums),
            [_, _, _, _] if self.has_wide_leaves => self.add_wide_trees::<4>(keys, sums),
            _ => {
                for (group, trees) in self.groups.iter().zip(self.trees.chunks(TREE_LANES)) {
                    let places = self.walk_group(group, keys);
                    for (place, tree) in places.iter().zip(trees) {
                        self.add_leaf(tree, *place, row, sums);
                    }
                }
            }
        }
    }

    /// Adds the leaves of one row, each of which has a value for each of `N` sums.
    fn add_wide_trees<const N: usize>(&self, keys: &[u16], sums: &mut [S]) {
        let mut own: [S; N] = std::array::from_fn(|sum| sums[sum]);
        for (group, trees) in self.groups.iter().zip(self.trees.chunks(TREE_LANES)) {
            let places = self.walk_group(group, keys);
            for place in &places[..trees.len()] {
                let at = self.leaf_of[*place as usize] as usize;
                let values = &self.values[at..at + N];
                for (sum, value) in own.iter_mut().zip(values) {
                    *sum += *value;
                }
            }
        }
        sums.copy_from_slice(&own);
    }

    /// Adds the leaves of up to [`LANES`] rows.
    pub(super) fn add_rows(
        &self,
        values: &[f64],
        width: usize,
        keys: &[u16],
        sums: &mut [S],
        outputs: usize,
    ) {
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
        if let Some(value) = self.leaf_values.get(place as usize) {
            sums[tree.output as usize] += *value;
            return;
        }
        let at = self.leaf_of[place as usize] as usize;
        if tree.leaf_width == 1 {
            let leaf = at - tree.first_value as usize;
            let value = match tree.linear.get(leaf) {
                Some(model) if !model.terms.iter().any(|(at, _)| row[*at].is_nan()) => {
                    let mut sum = model.constant;
                    for (feature, factor) in &model.terms {
                        sum += factor * row[*feature];
                    }
                    S::of(sum)
                }
                _ => self.values[at],
            };
            let own = tree.leaf_outputs.get(leaf);
            sums[*own.unwrap_or(&tree.output) as usize] += value;
            return;
        }
        let values = &self.values[at..at + tree.leaf_width as usize];
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum += *value;
        }
    }
}

/// Where the part ends that begins with tree `from`.
pub(super) fn part_end(trees: &[Tree], from: usize) -> usize {
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
