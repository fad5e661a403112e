//! Sorting the samples of a node, and rating all splits between them.

use super::prepare::TreeSample;

/// Up to this many keys the sort of the standard library beats a radix sort.
const SMALL_SORT: usize = 192;

/// Sorts keys whose upper halves are between `low` and `high`.
pub(super) fn sort_keys(keys: &mut Vec<u64>, spare: &mut Vec<u64>, low: u32, high: u32) {
    if keys.len() <= SMALL_SORT {
        keys.sort_unstable();
        return;
    }
    // Lower halves ascend already, and a radix sort keeps the order of equal digits.
    // Tables with more entries than keys would cost more than another pass.
    let bits = 32 - (high - low).leading_zeros();
    let most = keys.len().ilog2().min(11);
    let passes = bits.div_ceil(most);
    let digit_bits = bits.div_ceil(passes);
    let mask = (1_usize << digit_bits) - 1;
    spare.resize(keys.len(), 0);
    let mut starts = [0_u32; 1 << 11];
    for pass in 0..passes {
        let digit = |key: u64| (((key >> 32) as u32 - low) >> (pass * digit_bits)) as usize & mask;
        let starts = &mut starts[..=mask];
        starts.fill(0);
        keys.iter().for_each(|key| starts[digit(*key)] += 1);
        let mut sum = 0;
        for start in starts.iter_mut() {
            sum += std::mem::replace(start, sum);
        }
        for key in keys.iter() {
            let start = &mut starts[digit(*key)];
            spare[*start as usize] = *key;
            *start += 1;
        }
        std::mem::swap(keys, spare);
    }
}

/// The best score above `floor` and the place of the last key on the left, found by
/// going through sorted keys: `add` moves a sample to the left, `score` rates the split.
/// The highest score has the lowest impurity, but is cheaper to compute.
#[inline(always)]
fn scan<S>(
    keys: &[u64],
    min_leaf: usize,
    mut floor: f64,
    mut state: S,
    add: impl Fn(&mut S, usize),
    score: impl Fn(&S) -> f64,
) -> Option<(f64, usize)> {
    let mut best = None;
    for (place, pair) in keys.windows(2).enumerate() {
        add(&mut state, pair[0] as u32 as usize);
        let count = place + 1;
        let tie = pair[0] >> 32 == pair[1] >> 32;
        if tie || count < min_leaf || keys.len() - count < min_leaf {
            continue;
        }
        let rated = score(&state);
        if rated > floor {
            floor = rated;
            best = Some((rated, place));
        }
    }
    best
}

pub(super) fn scan_numbers(
    keys: &[u64],
    moments: &[[f64; 2]],
    min_leaf: usize,
    floor: f64,
) -> Option<(f64, usize)> {
    let all = moments
        .iter()
        .fold([0.0, 0.0], |sum, m| [sum[0] + m[0], sum[1] + m[1]]);
    let add = |left: &mut [f64; 2], position: usize| {
        let moment = moments[position];
        left[0] += moment[0];
        left[1] += moment[1];
    };
    scan(keys, min_leaf, floor, [0.0, 0.0], add, |left| {
        let right = all[1] - left[1];
        left[1] * left[1] / left[0] + right * right / (all[0] - left[0])
    })
}

pub(super) fn scan_classes(
    keys: &[u64],
    samples: &[TreeSample],
    (total, left): (&[f64], &mut [f64]),
    min_leaf: usize,
    floor: f64,
) -> Option<(f64, usize)> {
    left.fill(0.0);
    let all: f64 = total.iter().sum();
    let add = |(left, weight): &mut (&mut [f64], f64), position: usize| {
        let sample = samples[position];
        left[sample.class as usize] += sample.weight;
        *weight += sample.weight;
    };
    scan(keys, min_leaf, floor, (left, 0.0), add, |(left, weight)| {
        let (mut squares, mut right_squares) = (0.0, 0.0);
        for (left, total) in left.iter().zip(total) {
            squares += left * left;
            right_squares += (total - left) * (total - left);
        }
        squares / weight + right_squares / (all - weight)
    })
}
