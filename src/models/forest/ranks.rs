//! Keys of values: how many of a column's thresholds are below each, by comparing many at once.

use super::columns::PlanColumn;
#[cfg(target_arch = "x86_64")]
use super::columns::{KeyRule, RIGHT};
use super::kernels::{KeyColumn, Level};
use super::plan::Sum;

/// Thresholds as two levels of sixteen: what is no threshold is NaN, which nothing is above.
#[derive(Debug, Clone)]
pub(super) struct Grid<S> {
    /// The last threshold of each full cell.
    pub(super) last: [S; 16],
    /// Sixteen thresholds each.
    pub(super) cells: [[S; 16]; 16],
}

/// Computes the keys of values: how many thresholds are below each, or equal to it with
/// `includes_equal`.
#[allow(unsafe_code)] // calls code that is compiled for what the processor can do
pub(super) fn rank<S: Sum>(
    level: Level,
    grid: &Grid<S>,
    includes_equal: bool,
    values: &[S],
    keys: &mut KeyColumn,
) {
    match level {
        Level::Portable => rank_here(grid, includes_equal, values, keys),
        // SAFETY: `Level::best` has seen that this processor has these instructions.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { rank_avx2(grid, includes_equal, values, keys) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => unsafe { rank_avx512(grid, includes_equal, values, keys) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn rank_avx2<S: Sum>(grid: &Grid<S>, includes_equal: bool, values: &[S], keys: &mut KeyColumn) {
    let at_most = |thresholds: &[S; 16], value| count_avx2::<S, true>(thresholds, value);
    let below = |thresholds: &[S; 16], value| count_avx2::<S, false>(thresholds, value);
    match includes_equal {
        true => rank_by(grid, at_most, values, keys),
        false => rank_by(grid, below, values, keys),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
fn rank_avx512<S: Sum>(grid: &Grid<S>, includes_equal: bool, values: &[S], keys: &mut KeyColumn) {
    let at_most = |thresholds: &[S; 16], value| count_avx512::<S, true>(thresholds, value);
    let below = |thresholds: &[S; 16], value| count_avx512::<S, false>(thresholds, value);
    match includes_equal {
        true => rank_by(grid, at_most, values, keys),
        false => rank_by(grid, below, values, keys),
    }
}

fn rank_here<S: Sum>(grid: &Grid<S>, includes_equal: bool, values: &[S], keys: &mut KeyColumn) {
    match includes_equal {
        true => rank_by(grid, count_here::<S, true>, values, keys),
        false => rank_by(grid, count_here::<S, false>, values, keys),
    }
}

/// What a row's keys are computed from.
#[derive(Debug)]
pub(super) struct Ranking<'a, S> {
    pub(super) columns: &'a [PlanColumn],
    /// The thresholds of some of them.
    pub(super) grids: &'a [Option<Box<Grid<S>>>],
    /// Those of all.
    pub(super) thresholds: &'a [f64],
    pub(super) row: &'a [f64],
}

/// Computes the keys of one row. Registers of 512 bits are not used for it: a processor that uses them
/// now and then may run slower all the time, and at a row a request a server lost more than a tenth of
/// its requests (Intel Xeon, Cascade Lake).
#[allow(unsafe_code)] // calls code that is compiled for what the processor can do
pub(super) fn row_keys<S: Sum>(level: Level, ranking: &Ranking<'_, S>, keys: &mut [u16]) {
    match level {
        Level::Portable => {
            for (key, column) in keys.iter_mut().zip(ranking.columns) {
                *key = column.key(ranking.row, ranking.thresholds);
            }
        }
        // SAFETY: `Level::best` has seen that this processor has these instructions, which every
        // processor with AVX-512 has.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 | Level::Avx512 => unsafe { row_keys_avx2(ranking, keys) },
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
fn row_keys_avx2<S: Sum>(ranking: &Ranking<'_, S>, keys: &mut [u16]) {
    row_keys_by(
        ranking,
        |thresholds, value| count_avx2::<S, true>(thresholds, value),
        |thresholds, value| count_avx2::<S, false>(thresholds, value),
        keys,
    );
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn row_keys_by<S: Sum>(
    ranking: &Ranking<'_, S>,
    at_most: impl Fn(&[S; 16], S) -> u8,
    below: impl Fn(&[S; 16], S) -> u8,
    keys: &mut [u16],
) {
    // A closure would not be compiled for the same processor.
    let columns = ranking.columns.iter().zip(ranking.grids);
    for (key, (column, grid)) in keys.iter_mut().zip(columns) {
        let value = ranking.row[column.feature];
        *key = match (&column.ask, grid, column.present(value)) {
            (_, _, None) if column.default_left => 0,
            (_, _, None) => RIGHT,
            (KeyRule::Rank { includes_equal, .. }, Some(grid), Some(value)) => {
                u16::from(match includes_equal {
                    true => grid.rank(&at_most, S::of(value)),
                    false => grid.rank(&below, S::of(value)),
                })
            }
            _ => column.key(ranking.row, ranking.thresholds),
        };
    }
}

impl<S: Sum> Grid<S> {
    /// Cuts thresholds into cells of sixteen.
    pub(super) fn new(thresholds: &[f64]) -> Box<Self> {
        let mut grid = Box::new(Grid {
            last: [S::NONE; 16],
            cells: [[S::NONE; 16]; 16],
        });
        for (place, threshold) in thresholds.iter().enumerate() {
            grid.cells[place / 16][place % 16] = S::of(*threshold);
            if place % 16 == 15 {
                grid.last[place / 16] = S::of(*threshold);
            }
        }
        grid
    }

    /// The rank of a value, with what counts the thresholds of a cell.
    #[inline(always)]
    fn rank(&self, count: &impl Fn(&[S; 16], S) -> u8, value: S) -> u8 {
        let full = count(&self.last, value);
        // Of at most 255 thresholds, at most 15 cells are full.
        full * 16 + count(&self.cells[full as usize & 15], value)
    }
}

/// Ranks values with what counts a cell's thresholds.
#[inline(always)]
fn rank_by<S: Sum>(
    grid: &Grid<S>,
    count: impl Fn(&[S; 16], S) -> u8,
    values: &[S],
    keys: &mut KeyColumn,
) {
    for (key, value) in keys.iter_mut().zip(values) {
        *key = grid.rank(&count, *value);
    }
}

/// Counts the thresholds that are below a value, or equal to it with `EQUAL`.
#[inline(always)]
fn count_here<S: Sum, const EQUAL: bool>(thresholds: &[S; 16], value: S) -> u8 {
    let is_below = |threshold: &S| match EQUAL {
        true => *threshold <= value,
        false => *threshold < value,
    };
    thresholds
        .iter()
        .map(|threshold| u8::from(is_below(threshold)))
        .sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,popcnt")]
#[inline]
#[allow(unsafe_code)] // reads registers' worth of numbers
fn count_avx2<S: Sum, const EQUAL: bool>(thresholds: &[S; 16], value: S) -> u8 {
    use std::arch::x86_64::{
        _CMP_LE_OQ, _CMP_LT_OQ, _mm256_cmp_pd, _mm256_cmp_ps, _mm256_loadu_pd, _mm256_loadu_ps,
        _mm256_movemask_pd, _mm256_movemask_ps, _mm256_set1_pd, _mm256_set1_ps,
    };
    let mut below = 0;
    if size_of::<S>() == size_of::<f32>() {
        let value = _mm256_set1_ps(value.widen() as f32);
        for half in thresholds.chunks_exact(8) {
            // SAFETY: `Sum` is f32 or f64 and nothing else, so that these are 8 f32.
            let half = unsafe { _mm256_loadu_ps(half.as_ptr().cast()) };
            let mask = match EQUAL {
                true => _mm256_cmp_ps::<_CMP_LE_OQ>(half, value),
                false => _mm256_cmp_ps::<_CMP_LT_OQ>(half, value),
            };
            below += _mm256_movemask_ps(mask).count_ones();
        }
    } else {
        let value = _mm256_set1_pd(value.widen());
        for part in thresholds.chunks_exact(4) {
            // SAFETY: `Sum` is f32 or f64 and nothing else, so that these are 4 f64.
            let part = unsafe { _mm256_loadu_pd(part.as_ptr().cast()) };
            let mask = match EQUAL {
                true => _mm256_cmp_pd::<_CMP_LE_OQ>(part, value),
                false => _mm256_cmp_pd::<_CMP_LT_OQ>(part, value),
            };
            below += _mm256_movemask_pd(mask).count_ones();
        }
    }
    below as u8
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,popcnt")]
#[inline]
#[allow(unsafe_code)] // reads registers' worth of numbers
fn count_avx512<S: Sum, const EQUAL: bool>(thresholds: &[S; 16], value: S) -> u8 {
    use std::arch::x86_64::{
        _CMP_LE_OQ, _CMP_LT_OQ, _mm512_cmp_pd_mask, _mm512_cmp_ps_mask, _mm512_loadu_pd,
        _mm512_loadu_ps, _mm512_set1_pd, _mm512_set1_ps,
    };
    let mut below = 0;
    if size_of::<S>() == size_of::<f32>() {
        // SAFETY: `Sum` is f32 or f64 and nothing else, so that these are 16 f32.
        let all = unsafe { _mm512_loadu_ps(thresholds.as_ptr().cast()) };
        let value = _mm512_set1_ps(value.widen() as f32);
        below = match EQUAL {
            true => _mm512_cmp_ps_mask::<_CMP_LE_OQ>(all, value),
            false => _mm512_cmp_ps_mask::<_CMP_LT_OQ>(all, value),
        }
        .count_ones();
    } else {
        let value = _mm512_set1_pd(value.widen());
        for half in thresholds.chunks_exact(8) {
            // SAFETY: `Sum` is f32 or f64 and nothing else, so that these are 8 f64.
            let half = unsafe { _mm512_loadu_pd(half.as_ptr().cast()) };
            let mask = match EQUAL {
                true => _mm512_cmp_pd_mask::<_CMP_LE_OQ>(half, value),
                false => _mm512_cmp_pd_mask::<_CMP_LT_OQ>(half, value),
            };
            below += mask.count_ones();
        }
    }
    below as u8
}
