//! The data of trees: features as ranks, and targets and weights of harmless size.

use super::{TreeParameters, in_parallel};
use crate::train::Targets;
use crate::train::random::SplitMix;

/// A row in a tree: its class (0 for numbers) and its weight.
#[derive(Clone, Copy)]
pub(super) struct TreeSample {
    pub(super) row: u32,
    pub(super) class: u32,
    pub(super) weight: f64,
}

/// Draws rows with chances in proportion to their weights; a row drawn k times has the
/// weight k, as in scikit-learn 1.9.
pub(super) fn resample(rows: &[TreeSample], random: &mut SplitMix) -> Vec<TreeSample> {
    let mut sum = 0.0;
    let sums: Vec<f64> = rows
        .iter()
        .map(|sample| {
            sum += sample.weight;
            sum
        })
        .collect();
    let mut counts = vec![0_u32; rows.len()];
    for _ in rows {
        // 53 random bits make a number in [0, 1); rounding must not lead past the end.
        let point = (random.next() >> 11) as f64 * (0.5_f64).powi(53) * sum;
        counts[sums
            .partition_point(|sum| *sum <= point)
            .min(rows.len() - 1)] += 1;
    }
    let drawn = rows.iter().zip(&counts).filter(|(_, count)| **count > 0);
    drawn
        .map(|(s, &count)| TreeSample {
            weight: f64::from(count),
            ..*s
        })
        .collect()
}

/// A feature: for each row the position of its value in the ascending distinct `levels`.
pub(super) struct LevelColumn {
    pub(super) ranks: Vec<u32>,
    pub(super) levels: Vec<f64>,
}

impl LevelColumn {
    fn new(values: &[f64], width: usize, feature: usize) -> Self {
        // Adding zero turns -0.0 into 0.0, which must not be a value of its own.
        let column = values
            .iter()
            .skip(feature)
            .step_by(width)
            .map(|value| value + 0.0);
        let mut ordered: Vec<(f64, u32)> = column.zip(0_u32..).collect();
        ordered.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
        let mut ranks = vec![0; ordered.len()];
        let mut levels = Vec::new();
        for &(value, row) in &ordered {
            if levels.last() != Some(&value) {
                levels.push(value);
            }
            ranks[row as usize] = (levels.len() - 1) as u32;
        }
        levels.shrink_to_fit();
        Self { ranks, levels }
    }

    /// The middle between two levels, but always below the upper one.
    pub(super) fn threshold(&self, lower: u32, upper: u32) -> f64 {
        let (lower, upper) = (self.levels[lower as usize], self.levels[upper as usize]);
        let middle = f64::midpoint(lower, upper);
        if middle < upper { middle } else { lower }
    }
}

/// What the trees learn, brought to a size at which no sum of squares can overflow.
pub(super) enum Goal {
    Classes(usize),
    Numbers { scaled: Vec<f64>, scale: f64 },
}

/// The data of all trees of a forest.
pub(super) struct PreparedData<'a> {
    pub(super) columns: Vec<LevelColumn>,
    pub(super) goal: Goal,
    pub(super) rows: Vec<TreeSample>,
    pub(super) parameters: &'a TreeParameters,
}

impl<'a> PreparedData<'a> {
    pub(super) fn new(
        values: &[f64],
        width: usize,
        targets: &Targets,
        weights: Option<&[f64]>,
        parameters: &'a TreeParameters,
        threads: usize,
    ) -> Result<Self, String> {
        let height = match targets {
            Targets::Classes { indices, .. } => indices.len(),
            Targets::Numbers(numbers) => numbers.len(),
        };
        check(values, width, targets, height, weights, parameters)?;
        let largest = |numbers: &[f64]| numbers.iter().fold(0.0_f64, |most, v| most.max(v.abs()));
        let weight_scale = weights.map_or(1.0, |weights| unit_scale(largest(weights)));
        let mut rows = Vec::with_capacity(height);
        for row in 0..height {
            let weight = weights.map_or(1.0, |weights| weights[row]) * weight_scale;
            let class = match targets {
                Targets::Classes { indices, .. } => indices[row],
                Targets::Numbers(_) => 0,
            };
            if weight > 0.0 {
                rows.push(TreeSample {
                    row: row as u32,
                    class,
                    weight,
                });
            }
        }
        if rows.is_empty() {
            return Err("no row has a positive weight".to_string());
        }
        let goal = match targets {
            Targets::Classes { classes, .. } => Goal::Classes(*classes),
            Targets::Numbers(numbers) => {
                let scale = unit_scale(largest(numbers));
                Goal::Numbers {
                    scaled: numbers.iter().map(|y| y * scale).collect(),
                    scale,
                }
            }
        };
        let columns = in_parallel(width, threads, |f| Ok(LevelColumn::new(values, width, f)))?;
        Ok(Self {
            columns,
            goal,
            rows,
            parameters,
        })
    }
}

fn check(
    values: &[f64],
    width: usize,
    targets: &Targets,
    height: usize,
    weights: Option<&[f64]>,
    parameters: &TreeParameters,
) -> Result<(), String> {
    let good_targets = match targets {
        Targets::Classes { indices, classes } => indices.iter().all(|c| (*c as usize) < *classes),
        Targets::Numbers(numbers) => numbers.iter().all(|number| number.is_finite()),
    };
    let good_weights = weights.is_none_or(|weights| {
        weights.len() == height && weights.iter().all(|w| w.is_finite() && *w >= 0.0)
    });
    let problem = if width == 0 || height == 0 || height.checked_mul(width) != Some(values.len()) {
        "values must be rows of equal width with one target each"
    } else if u32::try_from(height).is_err() {
        "more rows than 32 bits can count"
    } else if !values.iter().all(|value| value.is_finite()) {
        "values must be finite"
    } else if !good_targets {
        "targets must be finite numbers or class indices below the number of classes"
    } else if !good_weights {
        "weights must be finite, not negative, and one per row"
    } else if parameters.max_features == 0 || parameters.max_features > width {
        "max_features must be between 1 and the number of features"
    } else if parameters.min_samples_leaf == 0 {
        "min_samples_leaf must be at least 1"
    } else {
        return Ok(());
    };
    Err(problem.to_string())
}

/// A power of two which brings `largest` near 1, so that scaling changes no digit.
fn unit_scale(largest: f64) -> f64 {
    if largest == 0.0 {
        return 1.0;
    }
    let exponent = ((largest.to_bits() >> 52) & 0x7FF) as i64 - 1023;
    f64::from_bits(((1023 - exponent.clamp(-1000, 1000)) as u64) << 52)
}
