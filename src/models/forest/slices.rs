//! Trees of at most 256 leaves, computed for a block of rows at once, split by split.
//!
//! (These slices have nothing to do with those of the scheduler.)
//!
//! Keys are one byte, so that a register holds those of 64 rows. Every split is asked once for all rows
//! of a block, whether or not they reach it, which costs less than following each row. Leaves are
//! numbered from left to right: going right at a split skips the leaves on its left.

use super::columns::{ColumnSet, KeyRule, PlanColumn};
use super::kernels::{
    self, BLOCK, GROUPS, KeyColumn, Level, NOWHERE, Reached, SLICE_LEAVES_MAX, SliceSplit,
};
use super::plan::Sum;
use super::ranks::{self, Grid};
use super::{ALMOST_ZERO, Missing, NodeKind, Tree};

/// Thresholds of a column, so that a key fits a byte.
const RANKS_MAX: usize = u8::MAX as usize;

/// With more columns than this, following each row costs less.
const COLUMNS_MAX: usize = 2048;

/// The key of a value that goes right at every split of its column.
const RIGHT: u8 = u8::MAX;

/// A part's trees, laid out to be computed split by split.
#[derive(Debug)]
pub(super) struct Slices<S> {
    columns: Vec<PlanColumn>,
    /// For each column that ranks values, its thresholds.
    grids: Vec<Option<Box<Grid<S>>>>,
    splits: Vec<SliceSplit>,
    trees: Vec<SliceTree>,
    /// Leaf values of all trees, with room behind the last for a full table.
    values: Vec<S>,
    level: Level,
}

#[derive(Debug)]
struct SliceTree {
    splits: std::ops::Range<usize>,
    first_value: usize,
    output: usize,
}

impl<S: Sum> Slices<S> {
    /// Lays out trees; `None` if one of them, or their number of columns, is too large, or if leaves
    /// hold more than one value.
    pub(super) fn new(trees: &[Tree]) -> Option<Self> {
        let fits = |tree: &Tree| tree.is_plain() && tree.values.len() <= SLICE_LEAVES_MAX;
        if !trees.iter().all(fits) {
            return None;
        }
        let mut columns = ColumnSet::new(trees, RANKS_MAX);
        let mut slices = Slices {
            columns: Vec::new(),
            grids: Vec::new(),
            splits: Vec::new(),
            trees: Vec::with_capacity(trees.len()),
            values: Vec::new(),
            level: Level::best(),
        };
        for tree in trees {
            slices.add_tree(tree, &mut columns)?;
            if columns.columns.len() > COLUMNS_MAX {
                return None;
            }
        }
        let last = slices.values.len() + SLICE_LEAVES_MAX;
        slices.values.resize(last, S::of(0.0));
        let grid = |column: &PlanColumn| match &column.ask {
            KeyRule::Rank { thresholds, .. } => {
                Some(Grid::new(&columns.thresholds[thresholds.clone()]))
            }
            KeyRule::Category { .. } => None,
        };
        slices.grids = columns.columns.iter().map(grid).collect();
        slices.columns = columns.columns;
        slices.check().then_some(slices)
    }

    /// Whether every split asks for a column that there is, which the kernels rely on.
    fn check(&self) -> bool {
        let columns = self.columns.len();
        let is_inside = |split: &SliceSplit| usize::from(split.column) < columns;
        self.splits.iter().all(is_inside)
    }

    #[cfg(test)]
    pub(super) fn set_level(&mut self, level: Level) {
        self.level = level;
    }

    pub(super) fn bytes(&self) -> usize {
        let grids = self.grids.iter().flatten().count() * size_of::<Grid<S>>();
        size_of_val(&self.columns[..])
            + grids
            + size_of_val(&self.splits[..])
            + size_of_val(&self.trees[..])
            + size_of_val(&self.values[..])
    }

    /// Appends a tree, each split before those on its left, and these before those on its right; `None`
    /// if it is deeper than rows can be noted.
    fn add_tree(&mut self, tree: &Tree, columns: &mut ColumnSet) -> Option<()> {
        let leaves = leaf_counts(tree);
        let (first_split, first_value) = (self.splits.len(), self.values.len());
        let mut open = vec![(0, 0_u8, 1_u8)];
        while let Some((index, slot, free)) = open.pop() {
            match &tree.nodes[index].kind {
                NodeKind::Leaf(leaf) => self.values.push(S::of(tree.values[*leaf])),
                kind @ NodeKind::Split { left, right, .. } => {
                    let (column, rank) = columns.question(tree, kind);
                    let is_leaf = matches!(tree.nodes[*right].kind, NodeKind::Leaf(_));
                    let (right_slot, next) = match is_leaf {
                        true => (NOWHERE, free),
                        false => (free, free.checked_add(1).filter(|next| *next < NOWHERE)?),
                    };
                    self.splits.push(SliceSplit {
                        // Below COLUMNS_MAX, or the trees are not laid out.
                        column: column as u16,
                        rank: rank as u8,
                        left_leaves: u8::try_from(leaves[*left]).ok()?,
                        slot,
                        right_slot,
                    });
                    open.push((*right, right_slot, next));
                    open.push((*left, slot, next));
                }
            }
        }
        // Every leaf is reached once, so that its place fits a byte.
        (self.values.len() - first_value <= SLICE_LEAVES_MAX).then_some(())?;
        self.trees.push(SliceTree {
            splits: first_split..self.splits.len(),
            first_value,
            output: tree.output,
        });
        Some(())
    }

    /// Adds the leaves of a block of rows to their sums. Values stand feature by feature, and sums
    /// output by output; `keys` is room for the keys.
    pub(super) fn add(
        &self,
        values: &[[S; BLOCK]],
        keys: &mut Vec<KeyColumn>,
        sums: &mut [[S; BLOCK]],
    ) {
        keys.resize(self.columns.len(), [0; BLOCK]);
        for ((column, grid), keys) in self.columns.iter().zip(&self.grids).zip(keys.iter_mut()) {
            self.write_keys(column, grid.as_deref(), &values[column.feature], keys);
        }
        let mut places = [0; BLOCK];
        let mut reached: Reached = [[0; GROUPS]; 256];
        for tree in &self.trees {
            let splits = &self.splits[tree.splits.clone()];
            kernels::leaves(self.level, splits, keys, &mut reached, &mut places);
            if let Some(table) = self.values[tree.first_value..].first_chunk() {
                kernels::add(self.level, table, &places, &mut sums[tree.output]);
            }
        }
    }

    fn write_keys(
        &self,
        column: &PlanColumn,
        grid: Option<&Grid<S>>,
        values: &[S; BLOCK],
        keys: &mut KeyColumn,
    ) {
        let default = if column.default_left { 0 } else { RIGHT };
        match (&column.ask, grid) {
            (KeyRule::Rank { includes_equal, .. }, Some(grid)) => {
                ranks::rank(self.level, grid, *includes_equal, values, keys);
                match column.missing {
                    // Nothing is below NaN, so that its key is 0.
                    Missing::Nan if column.default_left => {}
                    Missing::Nan => set_if(keys, values, default, f64::is_nan),
                    Missing::Zero => set_if(keys, values, default, |value| {
                        value.abs() <= ALMOST_ZERO || value.is_nan()
                    }),
                    // NaN counts as 0.
                    Missing::Nothing => {
                        let mut zeros = [0; BLOCK];
                        let zero = [S::of(0.0)];
                        ranks::rank(self.level, grid, *includes_equal, &zero, &mut zeros);
                        set_if(keys, values, zeros[0], f64::is_nan);
                    }
                }
            }
            (KeyRule::Category { set, rule }, _) => {
                for (key, value) in keys.iter_mut().zip(values) {
                    *key = column
                        .present(value.widen())
                        .map_or(default, |value| u8::from(!rule.goes_left(set, value)));
                }
            }
            (KeyRule::Rank { .. }, None) => {}
        }
    }
}

/// Sets the keys of the values that are missing.
fn set_if<S: Sum>(
    keys: &mut KeyColumn,
    values: &[S; BLOCK],
    to: u8,
    is_missing: impl Fn(f64) -> bool,
) {
    for (key, value) in keys.iter_mut().zip(values) {
        *key = if is_missing(value.widen()) { to } else { *key };
    }
}

/// For each node, the number of leaves below it; what cannot be reached has none.
fn leaf_counts(tree: &Tree) -> Vec<usize> {
    let mut counts = vec![0; tree.nodes.len()];
    let mut order = Vec::new();
    let mut open = vec![0];
    while let Some(index) = open.pop() {
        order.push(index);
        if let NodeKind::Split { left, right, .. } = &tree.nodes[index].kind {
            open.extend([*left, *right]);
        }
    }
    for index in order.into_iter().rev() {
        counts[index] = match &tree.nodes[index].kind {
            NodeKind::Leaf(_) => 1,
            NodeKind::Split { left, right, .. } => counts[*left] + counts[*right],
        };
    }
    counts
}
