//! The inner loops, and the only `unsafe` code outside the system calls.
//!
//! Each exists as safe code and, where the processor has more, as the same code compiled for it or as
//! its instructions; all give the same bits. What they rely on is checked when a plan is made, and
//! named at each SAFETY comment.

use super::plan::Sum;

/// Rows of a batch that walk through a tree in step.
pub(super) const LANES: usize = 16;

/// Trees through which a single row walks in step: so many places stay in registers.
pub(super) const TREE_LANES: usize = 8;

/// Rows of a group: their keys for a column fill a register of 512 bits.
pub(super) const GROUP: usize = 64;

/// Groups whose rows are computed together.
pub(super) const GROUPS: usize = 4;

/// Rows that are computed together.
pub(super) const BLOCK: usize = GROUP * GROUPS;

/// Maximum number of leaves of a tree computed by `Slices`: a leaf's place is one byte.
pub(super) const SLICE_LEAVES_MAX: usize = 256;

/// The slot for rows that need no further split on their right: they have reached a leaf.
pub(super) const NOWHERE: u8 = u8::MAX;

/// A node in 8 bytes, which are read at once. A leaf leads to itself: no key is above its rank.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PackedNode(u64);

impl PackedNode {
    /// A row goes left to `left` if its key of `column` is at most `rank`, otherwise to the node after it.
    pub(super) fn split(rank: u16, column: u16, left: u32) -> Self {
        PackedNode(u64::from(rank) | u64::from(column) << 16 | u64::from(left) << 32)
    }

    /// A leaf at `place`.
    pub(super) fn leaf(place: u32) -> Self {
        PackedNode::split(u16::MAX, 0, place)
    }

    pub(super) fn is_leaf(self) -> bool {
        self.rank() == u16::MAX
    }

    #[inline]
    fn rank(self) -> u16 {
        self.0 as u16
    }

    /// Which of the row's keys.
    #[inline]
    pub(super) fn column(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The left child.
    #[inline]
    pub(super) fn left(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Moves each place `depth` steps down from where it stands.
///
/// `offsets` is where the keys of each walk's row begin. It was checked, when the plan was made,
/// that every node's children and every place are among `nodes`, and that each row has a key for each
/// node's column from its offset on.
#[inline] // where it is not, single rows take a tenth longer
#[allow(unsafe_code)] // bounds are checked once, when the plan is made
pub(super) fn walk<const N: usize>(
    nodes: &[PackedNode],
    keys: &[u16],
    offsets: &[u32; N],
    places: &mut [u32; N],
    depth: u32,
) {
    for _ in 0..depth {
        for (place, offset) in places.iter_mut().zip(offsets) {
            debug_assert!((*place as usize) < nodes.len());
            // SAFETY: `Part::check` has seen that roots and children are below `nodes.len()`.
            let node = unsafe { *nodes.get_unchecked(*place as usize) };
            let at = *offset as usize + usize::from(node.column());
            debug_assert!(at < keys.len());
            // SAFETY: `Part::check` has seen that columns are below the number of keys of a row, and the
            // callers make as many from each offset on.
            let key = unsafe { *keys.get_unchecked(at) };
            *place = node.left() + u32::from(key > node.rank());
        }
    }
}

/// A split of a tree computed by `Slices`. The rows that reach it are noted in `slot`. Those that go
/// right move to `right_slot`; those that go left stay.
#[derive(Debug, Clone, Copy)]
#[repr(C)]
pub(super) struct SliceSplit {
    /// Which key.
    pub(super) column: u16,
    /// A row goes left if its key is at most this.
    pub(super) rank: u8,
    /// Leaves on the left: by so many the leaves on the right come later.
    pub(super) left_leaves: u8,
    /// Where the rows are noted that reach it.
    pub(super) slot: u8,
    /// Where those are to be noted that go right.
    pub(super) right_slot: u8,
}

/// One key of a block's rows.
pub(super) type KeyColumn = [u8; BLOCK];

/// What a processor can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Level {
    /// What every processor of its kind can.
    Portable,
    /// AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 with bytes and words, and AVX2.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Level {
    /// The most that this processor can do.
    pub(super) fn best() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            let has_avx2 = is_x86_feature_detected!("popcnt") && is_x86_feature_detected!("avx2");
            if has_avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512vl")
            {
                return Level::Avx512;
            }
            if has_avx2 {
                return Level::Avx2;
            }
        }
        Level::Portable
    }

    /// All that this processor can do.
    #[cfg(test)]
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Level::Portable];
        #[cfg(target_arch = "x86_64")]
        {
            if Level::best() != Level::Portable {
                all.push(Level::Avx2);
            }
            if Level::best() == Level::Avx512 {
                all.push(Level::Avx512);
            }
        }
        all
    }
}

/// Room to note which rows reach a split, by slot, a bit for each row of a group.
pub(super) type Reached = [[u64; GROUPS]; 256];

/// Finds the leaf of each row of a block: its place among the tree's leaves, from left to right.
#[allow(unsafe_code)] // calls code that is compiled for what the processor can do
pub(super) fn leaves(
    level: Level,
    splits: &[SliceSplit],
    keys: &[KeyColumn],
    reached: &mut Reached,
    places: &mut [u8; BLOCK],
) {
    match level {
        Level::Portable => leaves_here(splits, keys, places),
        // SAFETY: `Level::best` has seen that this processor has these instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { leaves_avx2(splits, keys, places) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { leaves_avx512(splits, keys, reached, places) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn leaves_avx2(splits: &[SliceSplit], keys: &[KeyColumn], places: &mut [u8; BLOCK]) {
    leaves_here(splits, keys, places);
}

#[inline(always)]
fn leaves_here(splits: &[SliceSplit], keys: &[KeyColumn], places: &mut [u8; BLOCK]) {
    for group in 0..GROUPS {
        let from = group * GROUP;
        let mut reached = [[0_u8; GROUP]; 256];
        reached[0] = [u8::MAX; GROUP];
        let mut own = [0_u8; GROUP];
        for split in splits {
            let keys: &[u8] = &keys[split.column as usize][from..from + GROUP];
            let here = reached[split.slot as usize];
            let mut right = [0_u8; GROUP];
            for (row, right) in right.iter_mut().enumerate() {
                let above = if keys[row] > split.rank { u8::MAX } else { 0 };
                *right = above & here[row];
            }
            for row in 0..GROUP {
                own[row] = own[row].wrapping_add(right[row] & split.left_leaves);
                reached[split.slot as usize][row] = here[row] ^ right[row];
            }
            reached[split.right_slot as usize] = right;
        }
        places[from..from + GROUP].copy_from_slice(&own);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[allow(unsafe_code)] // reads and writes registers' worth of bytes
fn leaves_avx512(
    splits: &[SliceSplit],
    keys: &[KeyColumn],
    reached: &mut Reached,
    places: &mut [u8; BLOCK],
) {
    use std::arch::x86_64::{
        __m512i, _mm512_loadu_si512, _mm512_mask_add_epi8, _mm512_mask_cmpgt_epu8_mask,
        _mm512_set1_epi8, _mm512_setzero_si512, _mm512_storeu_si512,
    };
    reached[0] = [u64::MAX; GROUPS];
    let mut own: [__m512i; GROUPS] = [_mm512_setzero_si512(); GROUPS];
    for split in splits {
        debug_assert!((split.column as usize) < keys.len());
        // SAFETY: `Slices::check` has seen that columns are below the number of keys of a row.
        let column = unsafe { keys.get_unchecked(split.column as usize) };
        let rank = _mm512_set1_epi8(split.rank as i8);
        let later = _mm512_set1_epi8(split.left_leaves as i8);
        let here = reached[split.slot as usize];
        let mut right = [0; GROUPS];
        for group in 0..GROUPS {
            // SAFETY: a column has GROUPS times GROUP bytes, and one group's are read.
            let keys = unsafe { _mm512_loadu_si512(column.as_ptr().add(group * GROUP).cast()) };
            right[group] = _mm512_mask_cmpgt_epu8_mask(here[group], keys, rank);
            own[group] = _mm512_mask_add_epi8(own[group], right[group], own[group], later);
            reached[split.slot as usize][group] = here[group] ^ right[group];
        }
        reached[split.right_slot as usize] = right;
    }
    for (group, own) in own.into_iter().enumerate() {
        let place = &mut places[group * GROUP..(group + 1) * GROUP];
        // SAFETY: it has GROUP bytes, which is what is written.
        unsafe { _mm512_storeu_si512(place.as_mut_ptr().cast(), own) };
    }
}

/// Adds to each row's sum the value at its place.
#[allow(unsafe_code)] // calls code that is compiled for what the processor can do
pub(super) fn add<S: Sum>(
    level: Level,
    values: &[S; SLICE_LEAVES_MAX],
    places: &[u8; BLOCK],
    sums: &mut [S; BLOCK],
) {
    match level {
        // SAFETY: `Level::best` has seen that this processor has these instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { add_avx512(values, places, sums) },
        _ => add_here(values, places, sums),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn add_avx512<S: Sum>(values: &[S; SLICE_LEAVES_MAX], places: &[u8; BLOCK], sums: &mut [S; BLOCK]) {
    add_here(values, places, sums);
}

#[inline(always)]
fn add_here<S: Sum>(values: &[S; SLICE_LEAVES_MAX], places: &[u8; BLOCK], sums: &mut [S; BLOCK]) {
    for (sum, place) in sums.iter_mut().zip(places) {
        *sum += values[*place as usize];
    }
}
