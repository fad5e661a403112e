//! Folds of a cross-validation: which rows are held out together.

use crate::train::random::SplitMix;
use crate::train::{Targets, TrainError};

/// Assigns each row to one of `folds` folds, at random by `seed`; every fold gets the same number
/// of rows of each class, or one more. The only row of a class is in none: it is never held out.
///
/// # Errors
///
/// Fewer than two folds or more than rows, every class with a single row.
pub fn assign(
    targets: &Targets,
    folds: usize,
    seed: u64,
) -> Result<Vec<Option<usize>>, TrainError> {
    let count = targets.len();
    if folds < 2 || folds > count {
        return Err(TrainError(format!(
            "--folds must be 0, or 2 to the number of rows, which is {count}, but is {folds}"
        )));
    }
    let mut random = SplitMix::new(seed);
    let mut assigned = vec![None; count];
    let mut next = 0;
    for mut rows in classes(targets) {
        if rows.len() == 1 && matches!(targets, Targets::Classes { .. }) {
            continue;
        }
        shuffled(&mut rows, &mut random);
        for row in rows {
            assigned[row] = Some(next % folds);
            next += 1;
        }
    }
    if next == 0 {
        return Err("every row has a class of its own, as if the target were an identifier; choose another target, or --folds 0".into());
    }
    if next < folds {
        return Err(TrainError(format!(
            "the classes with more than one row have {next} rows together, too few for {folds} folds; add rows, or choose --folds 0"
        )));
    }
    Ok(assigned)
}

/// Chooses this share of the rows, with the same share of each class, at random by `seed`.
pub fn held_out(targets: &Targets, share: f64, seed: u64) -> Vec<usize> {
    let mut random = SplitMix::new(seed);
    let mut chosen = Vec::new();
    for mut rows in classes(targets) {
        shuffled(&mut rows, &mut random);
        let count = (rows.len() as f64 * share).round() as usize;
        chosen.extend(rows.into_iter().take(count));
    }
    chosen.sort_unstable();
    chosen
}

/// The rows of each class; all rows together if the targets are numbers.
fn classes(targets: &Targets) -> Vec<Vec<usize>> {
    match targets {
        Targets::Classes { indices, classes } => {
            let mut rows = vec![Vec::new(); *classes];
            for (row, class) in indices.iter().enumerate() {
                rows[*class as usize].push(row);
            }
            rows
        }
        Targets::Numbers(numbers) => vec![(0..numbers.len()).collect()],
    }
}

/// Shuffles row numbers, the same way for the same seed.
pub fn shuffle(rows: &mut [usize], seed: u64) {
    shuffled(rows, &mut SplitMix::new(seed));
}

/// Shuffles by Fisher and Yates; the bias of the remainder is far below what folds could show.
fn shuffled(rows: &mut [usize], random: &mut SplitMix) {
    for end in (1..rows.len()).rev() {
        let other = (random.next() % (end as u64 + 1)) as usize;
        rows.swap(end, other);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(assigned: &[Option<usize>], folds: usize, of: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut counts = vec![0; folds];
        for (row, fold) in assigned.iter().enumerate() {
            if let Some(fold) = fold {
                counts[*fold] += usize::from(of(row));
            }
        }
        counts
    }

    #[test]
    fn every_fold_has_its_share_of_each_class_and_the_seed_decides_which() {
        let indices: Vec<u32> = (0..103).map(|row| u32::from(row % 4 == 0)).collect();
        let targets = Targets::Classes {
            indices: indices.clone(),
            classes: 2,
        };
        let assigned = assign(&targets, 5, 1).unwrap();
        for class in [0, 1] {
            let counts = counts(&assigned, 5, |row| indices[row] == class);
            let (most, least) = (counts.iter().max(), counts.iter().min());
            assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
        }
        assert_eq!(assigned, assign(&targets, 5, 1).unwrap());
        assert_ne!(assigned, assign(&targets, 5, 2).unwrap());
    }

    #[test]
    fn there_may_be_as_many_folds_as_rows_and_no_more() {
        let targets = Targets::Numbers(vec![0.0; 4]);
        let assigned = assign(&targets, 4, 0).unwrap();
        assert_eq!(counts(&assigned, 4, |_| true), [1; 4]);
        for folds in [1, 5] {
            let error = assign(&targets, folds, 0).unwrap_err();
            assert!(error.0.contains("which is 4"), "{error}");
        }
    }

    #[test]
    fn the_only_row_of_a_class_is_never_held_out() {
        let single = Targets::Classes {
            indices: vec![0, 0, 1],
            classes: 2,
        };
        let assigned = assign(&single, 2, 0).unwrap();
        assert_eq!(assigned[2], None);
        assert_eq!(counts(&assigned, 2, |_| true), [1, 1]);
        let error = assign(&single, 3, 0).unwrap_err();
        assert!(
            error.0.contains("have 2 rows together, too few for 3"),
            "{error}"
        );
        let all = Targets::Classes {
            indices: vec![0, 1, 2],
            classes: 3,
        };
        let error = assign(&all, 2, 0).unwrap_err();
        assert!(
            error.0.starts_with("every row has a class of its own"),
            "{error}"
        );
    }

    #[test]
    fn a_share_of_each_class_is_held_out() {
        let indices: Vec<u32> = (0..100).map(|row| u32::from(row % 10 == 0)).collect();
        let targets = Targets::Classes {
            indices: indices.clone(),
            classes: 2,
        };
        let chosen = held_out(&targets, 0.2, 3);
        let rare = chosen.iter().filter(|row| indices[**row] == 1).count();
        assert_eq!((chosen.len(), rare), (20, 2));
    }
}
