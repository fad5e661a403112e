//! A table in bins: for each value the place among the cuts of its column.

use forust_ml::data::JaggedMatrix;
use rayon::prelude::*;

/// Rows looked at for bin edges; more would cost time and hardly move the quantiles.
const EDGE_ROWS: usize = 200_000;
/// Columns binned together, so that each cache line of a row is read once.
const COLUMN_GROUP: usize = 8;

/// The table in bins, column by column; bin 0 is missing.
pub(super) struct Bins {
    pub(super) binned: Vec<u16>,
    pub(super) cuts: JaggedMatrix<f64>,
    /// Columns in which a split is possible.
    pub(super) useful: Vec<usize>,
    /// Whether a column has missing values in the rows trained on.
    pub(super) missing: Vec<bool>,
    pub(super) rows: usize,
}

impl Bins {
    pub(super) fn new(
        values: &[f64],
        width: usize,
        train: &[usize],
        bins: usize,
    ) -> Result<Self, String> {
        let rows = values.len() / width;
        let missing_in =
            |&column: &usize| train.iter().any(|r| values[r * width + column].is_nan());
        let columns: Vec<usize> = (0..width).collect();
        let missing: Vec<bool> = columns.par_iter().map(missing_in).collect();
        let step = train.len().div_ceil(EDGE_ROWS);
        let cuts_of = |&column: &usize| {
            let sample = train
                .iter()
                .step_by(step)
                .map(|r| values[r * width + column]);
            cuts(sample.filter(|value| !value.is_nan()).collect(), bins)
        };
        let all: Vec<Vec<f64>> = columns.par_iter().map(cuts_of).collect();
        // Two cuts are only the ends: one value, or none if every row is missing.
        let has_value = |c: usize| train.iter().any(|r| !values[r * width + c].is_nan());
        let useful: Vec<usize> = columns
            .into_iter()
            .filter(|&c| all[c].len() > 2 || (missing[c] && has_value(c)))
            .collect();
        if useful.is_empty() {
            return Err("no column varies in the rows to train on".to_string());
        }
        let mut binned = vec![0; values.len()];
        let groups = binned.par_chunks_mut(rows * COLUMN_GROUP).enumerate();
        groups.for_each(|(group, out)| {
            let first = group * COLUMN_GROUP;
            for (row, line) in values.chunks_exact(width).enumerate() {
                for (offset, column) in out.chunks_exact_mut(rows).enumerate() {
                    column[row] = bin(&all[first + offset], line[first + offset]);
                }
            }
        });
        Ok(Bins {
            binned,
            cuts: JaggedMatrix::from_vecs(&all),
            useful,
            missing,
            rows,
        })
    }
}

/// Cuts between neighbouring values. The lowest cut is below every number, so that a split
/// there separates missing from present; forust wants the highest value last.
fn cuts(mut sample: Vec<f64>, bins: usize) -> Vec<f64> {
    sample.sort_unstable_by(f64::total_cmp);
    let mut cuts = vec![-f64::MAX];
    let mut cut_above = |low: f64, high: f64| {
        let middle = low / 2.0 + high / 2.0;
        // Between neighbouring floats the middle may round down to the low one.
        let cut = if middle > low { middle } else { high };
        if cuts.last().is_some_and(|last| cut > *last) {
            cuts.push(cut);
        }
    };
    let changes = sample.windows(2).filter(|pair| pair[0] < pair[1]).count();
    if changes < bins {
        sample
            .windows(2)
            .filter(|p| p[0] < p[1])
            .for_each(|p| cut_above(p[0], p[1]));
    } else {
        for quantile in 1..bins {
            let low = sample[(quantile * sample.len() / bins).max(1) - 1];
            let above = sample.partition_point(|value| *value <= low);
            if let Some(high) = sample.get(above) {
                cut_above(low, *high);
            }
        }
    }
    cuts.push(f64::MAX);
    cuts
}

/// The number of cuts at or below a value, 0 for missing. The last cut is no edge.
fn bin(cuts: &[f64], value: f64) -> u16 {
    let edges = &cuts[..cuts.len() - 1];
    if value.is_nan() {
        0
    } else {
        edges.partition_point(|cut| *cut <= value) as u16
    }
}
