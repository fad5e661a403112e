//! Folds of a cross-validation: which rows are held out together.

use crate::models::estimator::Targets;
use crate::train::TrainError;

/// Assigns each row to one of `folds` folds, at random by `seed`; every fold gets the same number
/// of rows of each class, or one more.
///
/// # Errors
///
/// Fewer than two folds or more than rows, a class with a single row.
pub fn assign(targets: &Targets, folds: usize, seed: u64) -> Result<Vec<usize>, TrainError> {
    let (classes, count) = match targets {
        Targets::Classes { indices, classes } => (
            (0..*classes as u32)
                .map(|class| {
                    let rows = indices.iter().enumerate();
                    let own = rows.filter(|(_, of)| **of == class);
                    own.map(|(row, _)| row).collect()
                })
                .collect::<Vec<Vec<usize>>>(),
            indices.len(),
        ),
        Targets::Numbers(numbers) => (vec![(0..numbers.len()).collect()], numbers.len()),
    };
    if folds < 2 || folds > count {
        return Err(TrainError(format!(
            "--folds must be 0, or 2 to the number of rows, which is {count}, but is {folds}"
        )));
    }
    if let Some(class) = classes.iter().position(|rows| rows.len() < 2) {
        return Err(TrainError(format!(
            "class {class} has a single row, so that the fold which holds it cannot be learned from the others; add rows, or choose --folds 0"
        )));
    }
    let mut random = Random(seed);
    let mut assigned = vec![0; count];
    let mut next = 0;
    for mut rows in classes {
        random.shuffle(&mut rows);
        for row in rows {
            assigned[row] = next % folds;
            next += 1;
        }
    }
    Ok(assigned)
}

/// Shuffles row numbers, the same way for the same seed.
pub fn shuffle(rows: &mut [usize], seed: u64) {
    Random(seed).shuffle(rows);
}

/// The generator SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators",
/// 2014): the same folds for the same seed, on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Shuffles by Fisher and Yates; the bias of the remainder is far below what folds could show.
    fn shuffle(&mut self, rows: &mut [usize]) {
        for end in (1..rows.len()).rev() {
            let other = (self.next() % (end as u64 + 1)) as usize;
            rows.swap(end, other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(assigned: &[usize], folds: usize, of: impl Fn(usize) -> bool) -> Vec<usize> {
        let mut counts = vec![0; folds];
        for (row, fold) in assigned.iter().enumerate() {
            counts[*fold] += usize::from(of(row));
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
        let single = Targets::Classes {
            indices: vec![0, 0, 1],
            classes: 2,
        };
        let error = assign(&single, 2, 0).unwrap_err();
        assert!(error.0.starts_with("class 1 has a single row"), "{error}");
    }
}
