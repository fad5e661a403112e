//! Fits the preparation of features: filling missing values, turning categories into numbers, scaling.
//!
//! The model's file has the result, and the server applies it (`models::pipeline::prepared`).

use std::cmp::Reverse;

use crate::models::Rows;
use crate::models::native::features::{FeatureDocument, KindDocument};
use crate::models::pipeline::prepared::{Prepared, Scaling};
use crate::train::folds;
use crate::train::{Targets, TrainError};

/// Maximum number of columns for the labels of a category. If there are more labels, the rarer ones share
/// the last of them.
const COLUMNS_OF_A_CATEGORY: usize = 32;

/// Maximum number of classes whose shares stand for a label: those of the commonest classes.
const SHARES_MAX: usize = 10;

/// The mean of all rows counts as this many rows of a label, so that a label of few rows stays near it.
const PRIOR_ROWS: f64 = 10.0;

/// Number of folds. A training row gets the means of the rows in other folds, so that its own target is not
/// in them.
const CROSS_FOLDS: usize = 5;

/// What an algorithm needs of its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Needs {
    /// Whether missing values are replaced by the median, and a further column says where.
    pub is_filled: bool,
    /// Whether numbers are centred and divided by their standard deviation.
    pub is_scaled: bool,
    /// Whether a category becomes a column for each label; otherwise it becomes means of the targets.
    pub is_one_hot: bool,
}

/// A fitted preparation.
#[derive(Debug)]
pub struct Preparation {
    /// For each feature what becomes of it.
    pub features: Vec<Prepared>,
    /// The training rows, prepared. No row's means of targets contain its own target.
    pub rows: Rows,
}

/// The columns that a label becomes: the mean of targets that are numbers; of two classes the share of the
/// second; of more classes the share of each (of the commonest [`SHARES_MAX`]).
struct TargetColumns<'a> {
    targets: &'a Targets,
    /// The classes that have a column; empty for numbers.
    classes: Vec<u32>,
}

impl<'a> TargetColumns<'a> {
    fn new(targets: &'a Targets) -> Self {
        let classes = match targets {
            Targets::Numbers(_) => Vec::new(),
            Targets::Classes { classes: 2, .. } => vec![1],
            Targets::Classes { indices, classes } => {
                let mut counts = vec![0_usize; *classes];
                for class in indices {
                    counts[*class as usize] += 1;
                }
                let mut commonest: Vec<u32> = (0..*classes as u32).collect();
                commonest.sort_by_key(|class| Reverse(counts[*class as usize]));
                commonest.truncate(SHARES_MAX);
                commonest.sort_unstable();
                commonest
            }
        };
        TargetColumns { targets, classes }
    }

    fn width(&self) -> usize {
        self.classes.len().max(1)
    }

    fn add(&self, row: usize, sums: &mut [f64]) {
        match self.targets {
            Targets::Numbers(numbers) => sums[0] += numbers[row],
            Targets::Classes { indices, .. } => {
                let place = self.classes.iter().position(|class| *class == indices[row]);
                if let Some(place) = place {
                    sums[place] += 1.0;
                }
            }
        }
    }

    /// The means for each label, then for other labels, then for missing values: `labels + 2` times
    /// `width`. Rows count for which `is_used` is true.
    fn table(&self, codes: &[f64], labels: usize, is_used: impl Fn(usize) -> bool) -> Vec<f64> {
        let width = self.width();
        let mut sums = vec![0.0; (labels + 2) * width];
        let mut counts = vec![0.0; labels + 2];
        let (mut all, mut count) = (vec![0.0; width], 0.0);
        for (row, code) in codes.iter().enumerate().filter(|(row, _)| is_used(*row)) {
            let place = match code.is_nan() {
                true => labels + 1,
                false => (*code as usize).min(labels),
            };
            self.add(row, &mut sums[place * width..][..width]);
            self.add(row, &mut all);
            counts[place] += 1.0;
            count += 1.0;
        }
        all.iter_mut().for_each(|sum| *sum /= f64::max(count, 1.0));
        for (sums, count) in sums.chunks_mut(width).zip(counts) {
            for (sum, mean) in sums.iter_mut().zip(&all) {
                *sum = (*sum + PRIOR_ROWS * mean) / (count + PRIOR_ROWS);
            }
        }
        sums
    }
}

/// Fits the preparation to training rows, and prepares them.
///
/// # Errors
///
/// The features become too many columns.
pub fn fit(
    features: &[FeatureDocument],
    rows: &Rows,
    targets: &Targets,
    needs: Needs,
    seed: u64,
) -> Result<Preparation, TrainError> {
    let columns = TargetColumns::new(targets);
    let mut order: Vec<usize> = (0..rows.len()).collect();
    folds::shuffle(&mut order, seed);
    let fold_of = |row: usize| order[row] % CROSS_FOLDS;
    let mut prepared = Vec::with_capacity(features.len());
    // For each category that becomes means of targets, what each fold gets: the means of the others.
    let mut by_fold: Vec<Option<Vec<Prepared>>> = Vec::with_capacity(features.len());
    for (place, feature) in features.iter().enumerate() {
        let values: Vec<f64> = rows.iter().map(|row| row[place]).collect();
        by_fold.push(None);
        prepared.push(match &feature.kind {
            KindDocument::Category { labels, .. } if needs.is_one_hot => {
                one_hot(&values, labels.len())
            }
            KindDocument::Category { labels, .. } => {
                let without = |fold: Option<usize>| Prepared::Numbers {
                    width: columns.width(),
                    table: columns.table(&values, labels.len(), |row| fold != Some(fold_of(row))),
                };
                by_fold[place] = Some((0..CROSS_FOLDS).map(|fold| without(Some(fold))).collect());
                without(None)
            }
            KindDocument::Moment(_) => moment(&values, feature.may_be_missing, needs),
            KindDocument::Number | KindDocument::WholeNumber | KindDocument::YesNo => {
                number(&values, feature.may_be_missing, needs)
            }
        });
    }
    let width: usize = prepared.iter().map(Prepared::width).sum();
    if width > crate::models::native::COLUMNS_MAX || width == 0 {
        return Err(TrainError(format!(
            "the features become {width} columns, but may become 1 to {}; leave out categories of many labels",
            crate::models::native::COLUMNS_MAX
        )));
    }
    let mut out = Vec::with_capacity(rows.len() * width);
    for (row, values) in rows.iter().enumerate() {
        for ((value, prepared), by_fold) in values.iter().zip(&prepared).zip(&by_fold) {
            let own = by_fold.as_ref().map(|by_fold| &by_fold[fold_of(row)]);
            own.unwrap_or(prepared).put(*value, &mut out);
        }
    }
    let rows = Rows::new(out, width).ok_or("the prepared rows are of different lengths")?;
    Ok(Preparation {
        features: prepared,
        rows,
    })
}

fn number(values: &[f64], may_be_missing: bool, needs: Needs) -> Prepared {
    match scaling(values, may_be_missing, needs) {
        Scaling::NONE => Prepared::Itself,
        scaling => Prepared::Number(scaling),
    }
}

fn moment(values: &[f64], may_be_missing: bool, needs: Needs) -> Prepared {
    let parts: Vec<[f64; 6]> = values
        .iter()
        .map(|seconds| match seconds.is_nan() {
            true => [f64::NAN; 6],
            false => crate::models::moments::moment_parts(*seconds),
        })
        .collect();
    let part = |part: usize| {
        let values: Vec<f64> = parts.iter().map(|parts| parts[part]).collect();
        scaling(&values, may_be_missing, needs)
    };
    Prepared::Moment {
        parts: (0..6).map(part).collect(),
    }
}

/// The median of the values that are not NaN; 0 if there are none.
pub fn median(values: &[f64]) -> f64 {
    let mut present = values.to_vec();
    present.retain(|value| !value.is_nan());
    if present.is_empty() {
        return 0.0;
    }
    present.sort_unstable_by(f64::total_cmp);
    let middle = present.len() / 2;
    match present.len() % 2 {
        1 => present[middle],
        // Halves first: the sum may be infinite.
        _ => present[middle - 1] / 2.0 + present[middle] / 2.0,
    }
}

fn scaling(values: &[f64], may_be_missing: bool, needs: Needs) -> Scaling {
    let is_filled = needs.is_filled && may_be_missing;
    let fill = median(values);
    let mut scaling = Scaling {
        fill: is_filled.then_some(fill),
        has_flag: is_filled,
        ..Scaling::NONE
    };
    if needs.is_scaled && !values.is_empty() {
        let filled = || {
            values
                .iter()
                .map(|value| if value.is_nan() { fill } else { *value })
        };
        let count = values.len() as f64;
        let mean = filled().map(|value| value / count).sum::<f64>();
        let variance = filled()
            .map(|value| (value - mean).powi(2) / count)
            .sum::<f64>();
        let deviation = variance.sqrt();
        if mean.is_finite() && deviation.is_finite() {
            scaling.center = mean;
            // Constant, except for errors of rounding.
            let is_constant = deviation <= 1e-12 * mean.abs();
            scaling.scale = if is_constant { 1.0 } else { deviation };
        }
    }
    scaling
}

/// A column for each label, at most [`COLUMNS_OF_A_CATEGORY`]. If there are more labels, the rarer ones
/// share the last column with labels that training has not seen; otherwise those become zeros. Missing
/// values have a further column if training had any.
fn one_hot(values: &[f64], labels: usize) -> Prepared {
    let mut counts = vec![0usize; labels + 1];
    let mut has_missing = false;
    for code in values {
        match code.is_nan() {
            true => has_missing = true,
            false => counts[(*code as usize).min(labels)] += 1,
        }
    }
    let columns = labels.min(COLUMNS_OF_A_CATEGORY);
    let shared = (labels > columns).then_some(columns - 1);
    let mut own: Vec<usize> = (0..labels).collect();
    own.sort_by_key(|label| Reverse(counts[*label]));
    own.truncate(shared.unwrap_or(labels));
    own.sort_unstable();
    let width = (columns + usize::from(has_missing)).max(1);
    let mut table = vec![0.0; (labels + 2) * width];
    // The last one is for labels that training has not seen.
    for label in 0..=labels {
        if let Some(column) = own.binary_search(&label).ok().or(shared) {
            table[label * width + column] = 1.0;
        }
    }
    if has_missing {
        table[(labels + 1) * width + columns] = 1.0;
    }
    Prepared::Numbers { width, table }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::native::features::KindDocument;

    const TREES: Needs = Needs {
        is_filled: false,
        is_scaled: false,
        is_one_hot: false,
    };
    const LINEAR: Needs = Needs {
        is_filled: true,
        is_scaled: true,
        is_one_hot: true,
    };

    fn feature(kind: KindDocument, may_be_missing: bool) -> FeatureDocument {
        FeatureDocument {
            name: "x".to_owned(),
            kind,
            may_be_missing,
            written: None,
            range: None,
        }
    }

    fn category(labels: usize) -> KindDocument {
        KindDocument::Category {
            labels: (0..labels).map(|label| label.to_string()).collect(),
            takes_others: true,
        }
    }

    #[test]
    fn numbers_are_scaled_as_by_scikit_learn_and_filled_with_the_median() {
        let rows = Rows::new(vec![1.0, f64::NAN, 2.0, 9.0], 1).unwrap();
        let targets = Targets::Numbers(vec![0.0; 4]);
        let features = [feature(KindDocument::Number, true)];
        let fitted = fit(&features, &rows, &targets, LINEAR, 1).unwrap();
        // The mean of 1, 2, 2, 9 is 3.5, their variance 10.25.
        let scale = 10.25f64.sqrt();
        assert_eq!(
            fitted.rows.values(),
            [
                -2.5 / scale,
                0.0,
                -1.5 / scale,
                1.0,
                -1.5 / scale,
                0.0,
                5.5 / scale,
                0.0
            ]
        );
        let trees = fit(&features, &rows, &targets, TREES, 1).unwrap();
        assert_eq!(trees.features, [Prepared::Itself]);
        assert!(trees.rows.values()[1].is_nan());
    }

    #[test]
    fn rare_labels_share_a_column_with_unseen_ones() {
        let mut codes: Vec<f64> = (0..40).map(f64::from).collect();
        codes.extend((0..31).map(f64::from));
        let Prepared::Numbers { width, table } = one_hot(&codes, 40) else {
            panic!("a category becomes numbers")
        };
        assert_eq!(width, 32);
        let column = |place: usize| {
            table[place * width..][..width]
                .iter()
                .position(|one| *one == 1.0)
        };
        assert_eq!((column(0), column(30)), (Some(0), Some(30)));
        assert_eq!(
            (column(31), column(39), column(40)),
            (Some(31), Some(31), Some(31))
        );
        assert_eq!(column(41), None, "nothing was missing");
    }

    #[test]
    fn the_mean_of_a_training_row_does_not_know_its_target() {
        // Each label has one row: nothing can be learned from it.
        let count = 50;
        let rows = Rows::new((0..count).map(f64::from).collect(), 1).unwrap();
        let targets = Targets::Numbers((0..count).map(|row| f64::from(row % 2)).collect());
        let features = [feature(category(count as usize), false)];
        let fitted = fit(&features, &rows, &targets, TREES, 1).unwrap();
        let Targets::Numbers(numbers) = &targets else {
            unreachable!()
        };
        for (mean, target) in fitted.rows.values().iter().zip(numbers) {
            // The mean over the other folds is near a half, whatever the row's own target is.
            assert!((mean - 0.5).abs() < 0.1, "{mean} of {target}");
        }
        // The model's own table leans to what the labels had.
        let Prepared::Numbers { table, .. } = &fitted.features[0] else {
            panic!("a category becomes numbers")
        };
        assert!(table[0] < 0.48 && table[1] > 0.52);
    }

    #[test]
    fn each_of_several_classes_has_its_share() {
        let rows = Rows::new(vec![0.0, 0.0, 1.0, 1.0, 1.0, f64::NAN], 1).unwrap();
        let targets = Targets::Classes {
            indices: vec![0, 0, 1, 1, 2, 2],
            classes: 3,
        };
        let features = [feature(category(2), true)];
        let fitted = fit(&features, &rows, &targets, TREES, 1).unwrap();
        let Prepared::Numbers { width: 3, table } = &fitted.features[0] else {
            panic!("a share for each class")
        };
        let third = 10.0 / 3.0;
        let close = |place: usize, expected: f64| {
            assert!((table[place] - expected).abs() < 1e-12, "{table:?}");
        };
        close(0, (2.0 + third) / 12.0);
        close(3 + 1, (2.0 + third) / 13.0);
        close(6, 1.0 / 3.0);
        close(9 + 2, (1.0 + third) / 11.0);
    }
}
