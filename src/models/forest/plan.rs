//! A checked forest, laid out for speed.
//!
//! Each row is first turned into *keys*: for each column, how many of the column's thresholds lie at
//! or below the value. A column is a feature with its rule for missing values and its comparison, so
//! missing values, `<` and `<=`, f32 and f64 and categories are all settled before a tree is walked,
//! and every node asks the same: is the key above the node's rank? Walks advance in step, so that their
//! memory accesses overlap: through 8 trees for a single row, through one tree for 16 rows of a batch.
//! Large batches use `slices`, if the trees are small. Leaves are summed in the order of
//! the trees, so that sums have the library's bits.

use super::kernels::{BLOCK, LANES};
use super::part::{Part, part_end};
use super::slices::Slices;
use super::{ALMOST_ZERO, Forest, Precision};
use crate::models::{ModelError, Rows};

/// Minimum number of rows for which [`Slices`] are faster than walks.
const SLICED_ROWS_MIN: usize = 48;

/// Maximum number of features, and of sums, for computing by [`Slices`]. A block of 256 rows then holds at
/// most 4 MiB of each, which `--max-buffered` does not count.
const SLICED_WIDTH_MAX: usize = 2048;

/// Rows whose values of a feature fill a cache line, or half of one.
const LINE_ROWS: usize = 8;

/// A number that leaves are summed in: f32 or f64 and no other, which the kernels rely on.
pub trait Sum:
    sealed::OnlyFloats
    + Copy
    + PartialOrd
    + Send
    + Sync
    + std::ops::AddAssign
    + std::fmt::Debug
    + 'static
{
    /// What is no threshold: nothing is above it.
    const NONE: Self;

    /// Rounds to this precision.
    fn of(value: f64) -> Self;

    /// Widens it.
    fn widen(self) -> f64;
}

mod sealed {
    pub trait OnlyFloats {}
    impl OnlyFloats for f32 {}
    impl OnlyFloats for f64 {}
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
        (trees, nodes, self.parts.iter().map(Part::bytes).sum())
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

    /// Computes the sums of one row.
    fn margins_of_row(&self, row: &[f64]) -> Vec<f64> {
        let mut values = Scratch::new(0.0);
        let values = values.of(self.width);
        for (value, given) in values.iter_mut().zip(row) {
            *value = self.rounded(*given);
        }
        let mut sums = Scratch::new(S::of(0.0));
        let sums = sums.of(self.base.len());
        sums.copy_from_slice(&self.base);
        let mut keys = Scratch::new(0);
        for part in &self.parts {
            let keys = keys.of(part.keys_per_row());
            part.write_keys(values, keys);
            match part.leaf_values.is_empty() {
                true => part.add_trees(values, keys, sums),
                false => part.add_plain_trees(keys, sums),
            }
        }
        sums.iter().map(|sum| sum.widen()).collect()
    }

    fn margins_by_walks(&self, rows: &Rows) -> Vec<f64> {
        if rows.len() == 1 {
            return self.margins_of_row(rows.values());
        }
        let outputs = self.base.len();
        let mut all = Vec::with_capacity(rows.len() * outputs);
        let (mut values, mut keys) = (Vec::new(), Vec::new());
        let mut sums: Vec<S> = Vec::with_capacity(outputs * LANES);
        for block in rows.values().chunks(self.width * LANES) {
            if block.len() == self.width {
                all.extend(self.margins_of_row(block));
                continue;
            }
            values.clear();
            values.extend(block.iter().map(|value| self.rounded(*value)));
            let count = values.len() / self.width;
            sums.clear();
            (0..count).for_each(|_| sums.extend_from_slice(&self.base));
            for part in &self.parts {
                let own = part.keys_per_row();
                keys.resize(count * own, 0);
                for (row, keys) in values.chunks(self.width).zip(keys.chunks_mut(own)) {
                    part.write_keys(row, keys);
                }
                part.add_rows(&values, self.width, &keys, &mut sums, outputs);
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
            // A cache line of each feature at a time: their distance is a power of two, and lines so far
            // apart push each other out of the cache.
            for (part, given) in block.chunks(self.width * LINE_ROWS).enumerate() {
                let count = given.len() / self.width;
                for (feature, own) in values.iter_mut().enumerate() {
                    let own = &mut own[part * LINE_ROWS..][..count];
                    for (row, own) in own.iter_mut().enumerate() {
                        *own = S::of(self.rounded(given[row * self.width + feature]));
                    }
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

/// Room for a few numbers of a row, without an allocation if they are few.
struct Scratch<T> {
    few: [T; SCRATCH],
    many: Vec<T>,
}

/// Numbers that [`Scratch`] has room for without an allocation.
const SCRATCH: usize = 64;

impl<T: Copy> Scratch<T> {
    fn new(nothing: T) -> Self {
        Scratch {
            few: [nothing; SCRATCH],
            many: Vec::new(),
        }
    }

    /// The first so many; what is in them is of no use.
    fn of(&mut self, count: usize) -> &mut [T] {
        if count <= SCRATCH {
            return &mut self.few[..count];
        }
        self.many.resize(count, self.few[0]);
        &mut self.many[..count]
    }
}
