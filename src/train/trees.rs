//! Decision trees and random forests which look at every possible split.
//!
//! Each feature is replaced once by the ranks of its values. Ranks sort faster than
//! floats, equal values are equal ranks, and all trees of a forest share them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use grow::Grower;
use prepare::{PreparedData, resample};

use crate::train::Targets;
use crate::train::random::SplitMix;

mod grow;
mod prepare;
mod splits;

/// Limits for the growth of a tree.
#[derive(Clone, Debug)]
pub struct TreeParameters {
    /// Most splits on a path from the root to a leaf; `None` for no limit.
    pub max_depth: Option<usize>,
    /// A node with fewer rows becomes a leaf.
    pub min_samples_split: usize,
    /// Fewest rows on each side of a split, at least 1.
    pub min_samples_leaf: usize,
    /// Features drawn at a node, from 1 to the number of features. As in scikit-learn,
    /// drawing goes on past this number while all drawn features were constant.
    pub max_features: usize,
    /// Most nodes (splits and leaves) of a tree, or of all trees of a forest together.
    pub max_nodes: usize,
}

/// One node of a tree. Children are positions in [`GrownTree::nodes`].
#[derive(Clone, Debug, PartialEq)]
pub enum GrownNode {
    /// The values of the leaf start at `leaf * leaf_width` in [`GrownTree::values`].
    Leaf {
        /// Its place among the leaves.
        leaf: usize,
    },
    /// Rows whose `feature` is at most `threshold` go left.
    Split {
        /// The column.
        feature: usize,
        /// The threshold.
        threshold: f64,
        /// The node for values of at most the threshold.
        left: usize,
        /// The other node.
        right: usize,
    },
}

/// A grown tree; node 0 is the root.
#[derive(Clone, Debug, PartialEq)]
pub struct GrownTree {
    /// Nodes; children stand after their parent.
    pub nodes: Vec<GrownNode>,
    /// Class shares or the mean, `leaf_width` numbers per leaf.
    pub values: Vec<f64>,
    /// Number of classes, or 1 for numbers.
    pub leaf_width: usize,
}

/// Grows one tree on all rows of positive weight.
///
/// `values` holds rows of `width` finite numbers, one after the other; `targets` and
/// `weights` have one entry per row. Equal splits are decided by the order in which
/// features are drawn, so the same `seed` gives the same tree on every machine.
///
/// Wrong shapes, values, weights or parameters, and a tree of more than `max_nodes`
/// nodes, are errors. Never panics.
pub fn grow_tree(
    values: &[f64],
    width: usize,
    targets: &Targets,
    weights: Option<&[f64]>,
    parameters: &TreeParameters,
    seed: u64,
) -> Result<GrownTree, String> {
    let data = PreparedData::new(values, width, targets, weights, parameters, 1)?;
    Grower::new(&data, data.rows.clone(), seed, &AtomicUsize::new(0)).grow()
}

/// Grows `trees` trees, each on its own bootstrap sample if `bootstrap` is set.
///
/// Shapes and errors are those of [`grow_tree`], but `max_nodes` limits the nodes of all
/// trees together. A bootstrap sample draws, with chances in proportion to their weights, as
/// many rows as have a positive weight; a row drawn k times has the weight k. The result
/// does not depend on `threads`. Never panics.
#[expect(
    clippy::too_many_arguments,
    reason = "one call describes the whole forest"
)]
pub fn grow_forest(
    values: &[f64],
    width: usize,
    targets: &Targets,
    weights: Option<&[f64]>,
    parameters: &TreeParameters,
    trees: usize,
    bootstrap: bool,
    seed: u64,
    threads: usize,
) -> Result<Vec<GrownTree>, String> {
    let data = PreparedData::new(values, width, targets, weights, parameters, threads)?;
    let grown_nodes = AtomicUsize::new(0);
    in_parallel(trees, threads, |tree| {
        // Mixing the seed first keeps forests of neighbouring seeds apart.
        let mut random = SplitMix::new(SplitMix::new(seed).next().wrapping_add(tree as u64));
        let rows = if bootstrap {
            resample(&data.rows, &mut random)
        } else {
            data.rows.clone()
        };
        Grower::new(&data, rows, random.next(), &grown_nodes).grow()
    })
}

/// Runs `job` for 0..count on up to `threads` threads; results come in order.
fn in_parallel<T: Send>(
    count: usize,
    threads: usize,
    job: impl Fn(usize) -> Result<T, String> + Sync,
) -> Result<Vec<T>, String> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count {
                return Ok(done);
            }
            done.push((index, job(index)?));
        }
    };
    let helpers = threads.min(count).saturating_sub(1);
    let mut done = thread::scope(|scope| {
        // A thread which cannot start is no error: the others do its share.
        let started: Vec<_> = (0..helpers)
            .filter_map(|_| thread::Builder::new().spawn_scoped(scope, work).ok())
            .collect();
        let mut all = work();
        for helper in started {
            let part = helper
                .join()
                .unwrap_or_else(|_| Err("a tree thread panicked".to_string()));
            all = all.and_then(|mut done| {
                done.extend(part?);
                Ok(done)
            });
        }
        all
    })?;
    done.sort_unstable_by_key(|entry: &(usize, T)| entry.0);
    Ok(done.into_iter().map(|entry| entry.1).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FREE: TreeParameters = TreeParameters {
        max_depth: None,
        min_samples_split: 2,
        min_samples_leaf: 1,
        max_features: 1,
        max_nodes: usize::MAX,
    };

    fn predict<'a>(tree: &'a GrownTree, row: &[f64]) -> &'a [f64] {
        let mut node = &tree.nodes[0];
        while let GrownNode::Split {
            feature,
            threshold,
            left,
            right,
        } = node
        {
            node = &tree.nodes[if row[*feature] <= *threshold {
                *left
            } else {
                *right
            }];
        }
        let GrownNode::Leaf { leaf } = node else {
            unreachable!()
        };
        &tree.values[leaf * tree.leaf_width..][..tree.leaf_width]
    }

    /// Rows with many ties, in 4 features of which the last is constant.
    fn sample(rows: usize, levels: usize) -> (Vec<f64>, Vec<u32>, Vec<f64>) {
        let mut random = SplitMix::new(9);
        let mut values = Vec::new();
        let (mut classes, mut numbers) = (Vec::new(), Vec::new());
        for _ in 0..rows {
            let row = [0; 3].map(|_| random.below(levels) as f64 - 2.0);
            values.extend([row[0], row[1], row[2], 5.0]);
            classes.push(((row[0] > row[1]) as u32) + random.below(5) as u32 / 4);
            numbers.push(row[0] * row[1] + random.below(3) as f64);
        }
        (values, classes, numbers)
    }

    #[test]
    fn xor_is_learnt() {
        let values = [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
        let targets = Targets::Classes {
            indices: vec![0, 1, 1, 0],
            classes: 2,
        };
        let tree = grow_tree(&values, 2, &targets, None, &FREE, 1).unwrap();
        assert_eq!(tree.nodes.len(), 7);
        assert_eq!(predict(&tree, &[1.0, 0.0]), [0.0, 1.0]);
        let stump = TreeParameters {
            max_depth: Some(0),
            ..FREE
        };
        assert_eq!(
            grow_tree(&values, 2, &targets, None, &stump, 1)
                .unwrap()
                .values,
            [0.5, 0.5]
        );
    }

    #[test]
    fn thresholds_stay_below_the_upper_value() {
        for (low, high) in [
            (1.0, 1.0_f64.next_up()),
            (-f64::MAX, f64::MAX),
            (-0.0, 5e-324),
        ] {
            let tree = grow_tree(
                &[high, low],
                1,
                &Targets::Numbers(vec![2.0, 1.0]),
                None,
                &FREE,
                0,
            );
            let tree = tree.unwrap();
            assert_eq!(
                [predict(&tree, &[low]), predict(&tree, &[high])],
                [[1.0], [2.0]]
            );
        }
        let zeros = grow_tree(
            &[0.0, -0.0],
            1,
            &Targets::Numbers(vec![2.0, 1.0]),
            None,
            &FREE,
            0,
        );
        assert_eq!(zeros.unwrap().values, [1.5]);
    }

    #[test]
    fn the_root_has_the_lowest_impurity() {
        // More rows and levels than the small sort takes, compared with every split.
        let (values, _, numbers) = sample(700, 300);
        let stump = TreeParameters {
            max_depth: Some(1),
            max_features: 4,
            ..FREE
        };
        let tree = grow_tree(
            &values,
            4,
            &Targets::Numbers(numbers.clone()),
            None,
            &stump,
            3,
        )
        .unwrap();
        let error = |feature: usize, threshold: f64| {
            let sides = [true, false].map(|side| {
                let rows = values.chunks(4).zip(&numbers);
                let part = rows.filter(|(row, _)| (row[feature] <= threshold) == side);
                let part: Vec<f64> = part.map(|(_, number)| *number).collect();
                let mean = part.iter().sum::<f64>() / part.len().max(1) as f64;
                part.iter()
                    .map(|number| (number - mean).powi(2))
                    .sum::<f64>()
            });
            sides[0] + sides[1]
        };
        let GrownNode::Split {
            feature, threshold, ..
        } = tree.nodes[0]
        else {
            panic!()
        };
        let all = (0..3).flat_map(|f| (0..300).map(move |level| (f, level as f64 - 2.0)));
        let lowest = all.map(|(f, t)| error(f, t)).fold(f64::INFINITY, f64::min);
        assert!(error(feature, threshold) <= lowest * (1.0 + 1e-12));
    }

    #[test]
    fn weights_act_like_repeated_rows_and_zero_like_none() {
        let (values, classes, _) = sample(60, 6);
        let weights: Vec<f64> = (0..60).map(|row| f64::from(row % 3)).collect();
        let (mut repeated, mut indices) = (Vec::new(), Vec::new());
        for (row, weight) in weights.iter().enumerate() {
            for _ in 0..*weight as usize {
                repeated.extend(&values[row * 4..row * 4 + 4]);
                indices.push(classes[row]);
            }
        }
        let targets = Targets::Classes {
            indices: classes.clone(),
            classes: 3,
        };
        let weighted = grow_tree(&values, 4, &targets, Some(&weights), &FREE, 5);
        let targets = Targets::Classes {
            indices: indices.clone(),
            classes: 3,
        };
        assert_eq!(weighted, grow_tree(&repeated, 4, &targets, None, &FREE, 5));
    }

    #[test]
    fn far_numbers_and_huge_numbers_work() {
        let (values, _, numbers) = sample(300, 9);
        let near = grow_tree(
            &values,
            4,
            &Targets::Numbers(numbers.clone()),
            None,
            &FREE,
            2,
        )
        .unwrap();
        for (factor, offset) in [(1.0, 1e9), (1e300, 0.0), (1e-300, 0.0)] {
            let moved: Vec<f64> = numbers.iter().map(|y| y * factor + offset).collect();
            let far =
                grow_tree(&values, 4, &Targets::Numbers(moved.clone()), None, &FREE, 2).unwrap();
            // Every row is predicted by the mean of its equals, whatever the splits.
            for row in values.chunks(4) {
                let (far, near) = (predict(&far, row)[0], predict(&near, row)[0]);
                assert!(((far - offset) / factor - near).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn leaves_keep_their_size() {
        let (values, _, numbers) = sample(200, 50);
        let limits = TreeParameters {
            min_samples_leaf: 7,
            max_features: 4,
            ..FREE
        };
        let tree = grow_tree(
            &values,
            4,
            &Targets::Numbers(numbers.clone()),
            None,
            &limits,
            2,
        )
        .unwrap();
        let mut counts = std::collections::HashMap::new();
        for row in values.chunks(4) {
            *counts.entry(predict(&tree, row).as_ptr()).or_insert(0) += 1;
        }
        assert!(counts.len() > 5 && counts.values().all(|count| *count >= 7));
    }

    #[test]
    fn forests_do_not_depend_on_threads_and_keep_the_node_limit() {
        let (values, classes, _) = sample(300, 40);
        let targets = Targets::Classes {
            indices: classes.clone(),
            classes: 3,
        };
        let grow = |limits: &TreeParameters, threads| {
            grow_forest(&values, 4, &targets, None, limits, 9, true, 7, threads)
        };
        let forest = grow(&FREE, 1).unwrap();
        assert_eq!(Ok(&forest), grow(&FREE, 4).as_ref());
        assert_ne!(forest[0], forest[1]);
        let nodes = forest.iter().map(|tree| tree.nodes.len()).sum();
        assert!(
            grow(
                &TreeParameters {
                    max_nodes: nodes,
                    ..FREE
                },
                2
            )
            .is_ok()
        );
        assert!(
            grow(
                &TreeParameters {
                    max_nodes: nodes - 1,
                    ..FREE
                },
                2
            )
            .is_err()
        );
    }

    #[test]
    fn wrong_input_is_an_error() {
        let numbers = Targets::Numbers(vec![1.0, 2.0]);
        for (values, width, weights, features) in [
            (&[1.0, 2.0, 3.0][..], 1, None, 1),
            (&[1.0, f64::NAN], 1, None, 1),
            (&[1.0, 2.0], 0, None, 1),
            (&[1.0, 2.0], 1, None, 2),
            (&[1.0, 2.0], 1, None, 0),
            (&[1.0, 2.0], 1, Some(&[0.0, 0.0][..]), 1),
            (&[1.0, 2.0], 1, Some(&[1.0, -1.0]), 1),
        ] {
            let limits = TreeParameters {
                max_features: features,
                ..FREE
            };
            assert!(grow_tree(values, width, &numbers, weights, &limits, 0).is_err());
        }
        let classes = Targets::Classes {
            indices: vec![0, 2],
            classes: 2,
        };
        assert!(grow_tree(&[1.0, 2.0], 1, &classes, None, &FREE, 0).is_err());
    }
}
