//! Gradient boosted trees: checks and bins a table, then lets `forust_ml` grow the trees.
//!
//! Only forust's tree learner is used. The bins, gradients and the stopping rule are here,
//! because forust has no softmax loss, wants a column-major copy of the table and panics on
//! input that this module reports as an error.

mod bins;
mod loss;

use forust_ml::data::Matrix;
use forust_ml::gradientbooster::GrowPolicy;
use forust_ml::sampler::SampleMethod;
use forust_ml::splitter::MissingImputerSplitter;
use forust_ml::tree::{Tree, split_bins};

use bins::Bins;
use loss::LossTask;

use crate::train::Targets;
use crate::train::random::SplitMix;

/// How to boost.
#[derive(Clone, Debug)]
pub struct BoostingParameters {
    /// Rounds at most; a round adds one tree per output.
    pub iterations: usize,
    /// What each leaf value is multiplied by.
    pub learning_rate: f64,
    /// Leaves of a tree at most.
    pub max_leaves: usize,
    /// Splits between the root and a leaf at most.
    pub max_depth: usize,
    /// Added to the second derivatives of a leaf; shrinks small leaves.
    pub l2: f64,
    /// The least weight of a leaf, in rows of mean weight. For classes a row counts
    /// p(1 - p), which falls as the fit gets better, so 0.05 of it is asked for with two
    /// classes and 0.01 with more.
    pub min_leaf_weight: f64,
    /// Rounds without improvement on the held-out rows before stopping; 0 never stops early.
    pub stop_after: usize,
    /// Share of the columns drawn for each tree, above 0 and at most 1.
    pub column_share: f64,
    /// Bins per column at most, missing values not counted.
    pub bins: usize,
}

impl Default for BoostingParameters {
    fn default() -> Self {
        Self {
            iterations: 1000,
            learning_rate: 0.1,
            max_leaves: 64,
            max_depth: 5,
            l2: 1.0,
            min_leaf_weight: 10.0,
            stop_after: 15,
            column_share: 0.7,
            bins: 255,
        }
    }
}

/// A node of a tree.
#[derive(Clone, Debug, PartialEq)]
pub enum BoostedNode {
    /// What the tree adds to the sum.
    Leaf {
        /// The value.
        value: f64,
    },
    /// `x < threshold` goes left, other numbers right, NaN left if `missing_left`.
    Split {
        /// The column.
        feature: usize,
        /// The threshold.
        threshold: f64,
        /// Whether NaN goes left.
        missing_left: bool,
        /// The node for numbers below the threshold.
        left: usize,
        /// The other node.
        right: usize,
    },
}

/// A tree; node 0 is the root and children come after their parent.
#[derive(Clone, Debug, PartialEq)]
pub struct BoostedTree {
    /// The output that the tree adds to.
    pub output: usize,
    /// The nodes, root first.
    pub nodes: Vec<BoostedNode>,
}

/// A fitted model: output k of a row is `base[k]` and the leaf values of its trees.
#[derive(Clone, Debug, PartialEq)]
pub struct Boosted {
    /// The trees in the order in which they were grown.
    pub trees: Vec<BoostedTree>,
    /// One start per output: the mean, the log-odds of two classes, or K log shares.
    pub base: Vec<f64>,
    /// Rounds kept.
    pub rounds: usize,
}

/// forust sums histograms in f32: lighter leaves than this share could be rounding errors
/// of empty ones, which it would then fail to split.
const LEAST_LEAF_SHARE: f64 = 4e-6;

/// Boosts trees on a row-major table.
///
/// `values`: NaN is missing, infinite values are refused. `weights`: none is all 1, a row of
/// weight 0 is left out. `held_out`: rows that are not trained on and only tell when to stop.
/// The result does not depend on `threads`; `seed` only matters if columns are drawn.
#[allow(clippy::too_many_arguments)]
pub fn boost(
    values: &[f64],
    width: usize,
    targets: &Targets,
    weights: Option<&[f64]>,
    held_out: &[usize],
    parameters: &BoostingParameters,
    seed: u64,
    threads: usize,
) -> Result<Boosted, String> {
    check_parameters(parameters)?;
    let rows = check_table(values, width, targets, weights, held_out)?;
    let train = training_rows(rows, weights, held_out)?;
    let task = LossTask::new(targets, weights, &train, rows)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads.max(1))
        .build()
        .map_err(|error| format!("cannot start {threads} threads: {error}"))?;
    pool.install(|| {
        let bins = Bins::new(values, width, &train, parameters.bins)?;
        Ok(grow(
            &task,
            &bins,
            train,
            held_out,
            parameters,
            seed,
            threads > 1,
        ))
    })
}

fn check_parameters(p: &BoostingParameters) -> Result<(), String> {
    let positive = |value: f64| value.is_finite() && value > 0.0;
    let problem = if p.iterations == 0 || p.max_depth == 0 || p.max_leaves < 2 {
        "iterations and max_depth must be at least 1 and max_leaves at least 2"
    } else if !positive(p.learning_rate) || !positive(p.min_leaf_weight) {
        "learning_rate and min_leaf_weight must be above 0"
    } else if !(p.l2.is_finite() && p.l2 >= 0.0) {
        "l2 must be 0 or more"
    } else if !positive(p.column_share) || p.column_share > 1.0 {
        "column_share must be above 0 and at most 1"
    } else if !(2..=32_000).contains(&p.bins) {
        "bins must be from 2 to 32000"
    } else {
        return Ok(());
    };
    Err(problem.to_string())
}

/// Checks the lengths and values and gives the number of rows.
fn check_table(
    values: &[f64],
    width: usize,
    targets: &Targets,
    weights: Option<&[f64]>,
    held_out: &[usize],
) -> Result<usize, String> {
    if width == 0 || values.is_empty() || !values.len().is_multiple_of(width) {
        return Err(format!(
            "{} values are no table of {width} columns",
            values.len()
        ));
    }
    let rows = values.len() / width;
    let length = match targets {
        Targets::Classes { indices, .. } => indices.len(),
        Targets::Numbers(numbers) => numbers.len(),
    };
    if length != rows || weights.is_some_and(|weights| weights.len() != rows) {
        return Err(format!("{rows} rows need as many targets and weights"));
    }
    if values.iter().any(|value| value.is_infinite()) {
        return Err("a value is infinite".to_string());
    }
    if weights.is_some_and(|weights| weights.iter().any(|w| !w.is_finite() || *w < 0.0)) {
        return Err("a weight is negative or not finite".to_string());
    }
    if held_out.iter().any(|&row| row >= rows) {
        return Err("a held-out row is not in the table".to_string());
    }
    match targets {
        Targets::Numbers(y) if y.iter().any(|y| !y.is_finite()) => {
            Err("a target is not finite".to_string())
        }
        Targets::Classes { classes, .. } if *classes < 2 => {
            Err("at least two classes are needed".to_string())
        }
        Targets::Classes { indices, classes }
            if indices.iter().any(|&c| c as usize >= *classes) =>
        {
            Err("a class is out of range".to_string())
        }
        _ => Ok(rows),
    }
}

fn training_rows(
    rows: usize,
    weights: Option<&[f64]>,
    held_out: &[usize],
) -> Result<Vec<usize>, String> {
    let mut keep = vec![true; rows];
    held_out.iter().for_each(|&row| keep[row] = false);
    let used = |&row: &usize| keep[row] && weights.is_none_or(|weights| weights[row] > 0.0);
    let train: Vec<usize> = (0..rows).filter(used).collect();
    if train.len() < 2 {
        return Err("fewer than two rows to train on".to_string());
    }
    Ok(train)
}

/// Draws some columns without repeats, in order.
fn draw(columns: &[usize], share: f64, random: &mut SplitMix) -> Vec<usize> {
    let mut need = (columns.len() as f64 * share).ceil() as usize;
    let mut drawn = Vec::with_capacity(need);
    for (seen, &column) in columns.iter().enumerate() {
        if random.next() % ((columns.len() - seen) as u64) < need as u64 {
            drawn.push(column);
            need -= 1;
        }
    }
    drawn
}

/// The boosting loop. It grows whole levels: forust's loss guided growth splits the node of the
/// largest gradient, not of the best split, and scores worse.
fn grow(
    task: &LossTask,
    bins: &Bins,
    train: Vec<usize>,
    held_out: &[usize],
    p: &BoostingParameters,
    seed: u64,
    parallel: bool,
) -> Boosted {
    let (rows, outputs) = (bins.rows, task.base.len());
    let data = Matrix::new(&bins.binned, rows, bins.missing.len());
    // The method only tells forust whether the rows are all of the table's.
    let method = if train.len() == rows {
        SampleMethod::None
    } else {
        SampleMethod::Random
    };
    let mut scores = task.start(rows);
    let (mut grad, mut hess) = (vec![0.0; rows * outputs], vec![0.0; rows * outputs]);
    let mut model = Boosted {
        trees: Vec::new(),
        base: task.base.clone(),
        rounds: 0,
    };
    let stops = p.stop_after > 0 && !held_out.is_empty();
    let mut best = (task.loss(&scores, held_out), 0);
    let mut random = SplitMix::new(seed);
    for round in 1..=p.iterations {
        task.derive(&scores, &train, &mut grad, &mut hess);
        let mut split = false;
        for output in 0..outputs {
            let part = output * rows..(output + 1) * rows;
            let (grad, hess) = (&grad[part.clone()], &hess[part.clone()]);
            let columns = draw(&bins.useful, p.column_share, &mut random);
            let mut tree = Tree::new();
            let placed = tree.fit_with_tiles(
                &data,
                train.clone(),
                &columns,
                &bins.cuts,
                grad,
                hess,
                &splitter(task, p, hess),
                p.max_leaves,
                p.max_depth,
                parallel,
                &method,
                &GrowPolicy::DepthWise,
                None,
            );
            let scores = &mut scores[part];
            let ends = split_bins(&tree, &bins.cuts);
            let walk =
                |row: usize| tree.predict_row_from_bins(|c| *data.get(row, c), &ends, 0, &f64::NAN);
            match placed {
                Some(placed) => placed
                    .leaves(&tree)
                    .for_each(|(rows, value)| rows.iter().for_each(|&row| scores[row] += value)),
                None => train.iter().for_each(|&row| scores[row] += walk(row)),
            }
            held_out.iter().for_each(|&row| scores[row] += walk(row));
            split |= tree.nodes.len() > 1;
            model
                .trees
                .push(plain(&tree, output, task.scale, &bins.missing));
        }
        if !split && (p.column_share == 1.0 || grad.iter().all(|g| *g == 0.0)) {
            // Later rounds would find no split either.
            model.trees.truncate((round - 1) * outputs);
            break;
        }
        let loss = if stops {
            task.loss(&scores, held_out)
        } else {
            f64::NEG_INFINITY
        };
        if !stops || loss < best.0 {
            best = (loss, round);
        } else if round - best.1 >= p.stop_after {
            break;
        }
    }
    model.rounds = best.1;
    model.trees.truncate(best.1 * outputs);
    if model.trees.is_empty() {
        // No tree is better than the same answer for every row; a model file has at least one.
        let nothing = |output| BoostedTree {
            output,
            nodes: vec![BoostedNode::Leaf { value: 0.0 }],
        };
        model.rounds = 1;
        model.trees = (0..outputs).map(nothing).collect();
    }
    model
}

fn splitter(task: &LossTask, p: &BoostingParameters, hess: &[f32]) -> MissingImputerSplitter {
    // Second derivatives of classes are small, those of many classes most of all.
    let total: f64 = hess.iter().map(|h| f64::from(*h)).sum();
    let share = match (task.classes.is_empty(), task.base.len()) {
        (true, _) => 1.0,
        (false, 1) => 0.05,
        _ => 0.01,
    };
    let least = (p.min_leaf_weight * share).max(total * LEAST_LEAF_SHARE);
    MissingImputerSplitter {
        l1: 0.0,
        // Without it the gain of an empty side is NaN and missing values never stand alone.
        l2: p.l2.max(1e-6) as f32,
        max_delta_step: 0.0,
        gamma: 0.0,
        min_leaf_weight: least as f32,
        learning_rate: p.learning_rate as f32,
        allow_missing_splits: true,
        constraints_map: Default::default(),
    }
}

/// A tree without forust's types.
fn plain(tree: &Tree, output: usize, scale: f64, missing: &[bool]) -> BoostedTree {
    let node = |node: usize| {
        let node = &tree.nodes[node];
        if node.is_leaf {
            return BoostedNode::Leaf {
                value: f64::from(node.weight_value) * scale,
            };
        }
        let (left, right) = (node.left_child, node.right_child);
        // forust sends values that were never missing in training right; the heavier side
        // is the better guess.
        let heavier = tree.nodes[left].hessian_sum > tree.nodes[right].hessian_sum;
        let missing_left = if missing[node.split_feature] {
            node.missing_node == left
        } else {
            heavier
        };
        BoostedNode::Split {
            feature: node.split_feature,
            threshold: node.split_value,
            missing_left,
            left,
            right,
        }
    };
    BoostedTree {
        output,
        nodes: (0..tree.nodes.len()).map(node).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers from 0 to 1 that look random.
    fn noise(count: usize) -> Vec<f64> {
        let step = |i: usize| (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mix = |word: u64| (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 11;
        (0..count)
            .map(|i| mix(step(i)) as f64 / (1u64 << 53) as f64)
            .collect()
    }

    /// 600 rows: signal, signal with gaps, noise, constant, nothing.
    fn table() -> (Vec<f64>, Vec<f64>) {
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for (i, draw) in noise(1800).chunks(3).enumerate() {
            let gap = i % 5 == 0;
            x.extend([
                draw[0],
                if gap { f64::NAN } else { draw[1] },
                draw[2],
                7.0,
                f64::NAN,
            ]);
            y.push(draw[0] + if gap { 2.0 } else { draw[1] });
        }
        (x, y)
    }

    fn classes(y: &[f64], edges: &[f64]) -> Vec<u32> {
        y.iter()
            .map(|y| edges.iter().filter(|edge| y >= edge).count() as u32)
            .collect()
    }

    fn walk(tree: &BoostedTree, row: &[f64]) -> f64 {
        let mut at = 0;
        loop {
            match &tree.nodes[at] {
                BoostedNode::Leaf { value } => return *value,
                BoostedNode::Split {
                    feature,
                    threshold,
                    missing_left,
                    left,
                    right,
                } => {
                    assert!(*left > at && *right > at);
                    let x = row[*feature];
                    let goes = if x.is_nan() {
                        *missing_left
                    } else {
                        x < *threshold
                    };
                    at = if goes { *left } else { *right };
                }
            }
        }
    }

    fn sums(model: &Boosted, row: &[f64]) -> Vec<f64> {
        let mut sums = model.base.clone();
        model
            .trees
            .iter()
            .for_each(|tree| sums[tree.output] += walk(tree, row));
        sums
    }

    fn fit(
        x: &[f64],
        targets: &Targets,
        held: &[usize],
        threads: usize,
    ) -> Result<Boosted, String> {
        let parameters = BoostingParameters {
            iterations: 60,
            ..Default::default()
        };
        boost(x, 5, targets, None, held, &parameters, 1, threads)
    }

    #[test]
    fn numbers_are_fitted_at_any_scale_and_thread_count() {
        let (x, y) = table();
        let held: Vec<usize> = (0..600).step_by(10).collect();
        for scale in [1.0, 1e200, 1e-200] {
            let y: Vec<f64> = y.iter().map(|y| y * scale).collect();
            let model = fit(&x, &Targets::Numbers(y.clone()), &held, 1).unwrap();
            assert_eq!(
                model,
                fit(&x, &Targets::Numbers(y.clone()), &held, 2).unwrap()
            );
            let error = |row: &usize| (sums(&model, &x[row * 5..row * 5 + 5])[0] - y[*row]).abs();
            assert!(held.iter().map(error).sum::<f64>() / 60.0 < 0.1 * scale);
        }
    }

    #[test]
    fn where_no_tree_helps_the_answer_is_the_same_for_every_row() {
        let (x, y) = table();
        let held: Vec<usize> = (0..600).step_by(10).collect();
        // What the rows that are held out have is the opposite of what the others teach.
        let mut against = y.clone();
        held.iter().for_each(|&row| against[row] = 3.0 - y[row]);
        let indices = classes(&against, &[0.8, 1.6]);
        for (targets, held) in [
            (Targets::Numbers(against), &held[..]),
            (
                Targets::Classes {
                    indices,
                    classes: 3,
                },
                &held,
            ),
            (Targets::Numbers(vec![4.0; 600]), &[]),
        ] {
            let model = fit(&x, &targets, held, 1).unwrap();
            assert_eq!((model.rounds, model.trees.len()), (1, model.base.len()));
            assert_eq!(sums(&model, &x[..5]), model.base);
        }
    }

    #[test]
    fn classes_are_learnt() {
        let (x, y) = table();
        let held: Vec<usize> = (0..600).step_by(10).collect();
        for (count, edges) in [(2, vec![1.2]), (3, vec![0.8, 1.6])] {
            let indices = classes(&y, &edges);
            let targets = Targets::Classes {
                indices: indices.clone(),
                classes: count,
            };
            let model = fit(&x, &targets, &held, 1).unwrap();
            assert_eq!(model.base.len(), if count == 2 { 1 } else { 3 });
            assert_eq!(model.trees.len(), model.rounds * model.base.len());
            let right = held.iter().filter(|&&row| {
                let sums = sums(&model, &x[row * 5..row * 5 + 5]);
                let best = (0..sums.len()).max_by(|a, b| sums[*a].total_cmp(&sums[*b]));
                let class = if count == 2 {
                    usize::from(sums[0] > 0.0)
                } else {
                    best.unwrap()
                };
                class == indices[row] as usize
            });
            assert!(right.count() >= 51);
        }
    }

    #[test]
    fn a_walk_gives_what_forust_predicts() {
        let (x, y) = table();
        let rows: Vec<usize> = (0..600).collect();
        let targets = Targets::Numbers(y.clone());
        let task = LossTask::new(&targets, None, &rows, 600).unwrap();
        let bins = Bins::new(&x, 5, &rows, 255).unwrap();
        assert_eq!(bins.useful, [0, 1, 2]);
        let (mut grad, mut hess) = (vec![0.0; 600], vec![0.0; 600]);
        task.derive(&task.start(600), &rows, &mut grad, &mut hess);
        let data = Matrix::new(&bins.binned, 600, 5);
        let mut tree = Tree::new();
        let split = splitter(&task, &BoostingParameters::default(), &hess);
        tree.fit(
            &data,
            rows,
            &bins.useful,
            &bins.cuts,
            &grad,
            &hess,
            &split,
            64,
            5,
            false,
            &SampleMethod::None,
            &GrowPolicy::DepthWise,
        );
        let ours = plain(&tree, 0, task.scale, &bins.missing);
        for row in x.chunks(5) {
            let theirs = tree.predict_row_from_row_slice(row, &f64::NAN) * task.scale;
            assert_eq!(walk(&ours, row).to_bits(), theirs.to_bits());
        }
    }

    #[test]
    fn bad_input_is_an_error() {
        let (x, y) = table();
        let numbers = Targets::Numbers(y.clone());
        assert!(fit(&[], &Targets::Numbers(vec![]), &[], 1).is_err());
        assert!(fit(&x[1..], &numbers, &[], 1).is_err());
        assert!(fit(&x, &Targets::Numbers(y[1..].to_vec()), &[], 1).is_err());
        assert!(fit(&x, &numbers, &[600], 1).is_err());
        assert!(fit(&x, &numbers, &(0..599).collect::<Vec<_>>(), 1).is_err());
        for constant in [f64::NAN, 3.0, f64::INFINITY] {
            assert!(fit(&[constant; 3000], &numbers, &[], 1).is_err());
        }
        for bad in [f64::NAN, f64::INFINITY] {
            assert!(fit(&x, &Targets::Numbers(vec![bad; 600]), &[], 1).is_err());
        }
        for (class, count) in [(0, 1), (0, 2), (1, 2), (2, 2)] {
            let targets = Targets::Classes {
                indices: vec![class; 600],
                classes: count,
            };
            assert!(fit(&x, &targets, &[], 1).is_err());
        }
        let parameters = BoostingParameters::default();
        for weight in [0.0, -1.0, f64::NAN] {
            assert!(
                boost(
                    &x,
                    5,
                    &numbers,
                    Some(&[weight; 600]),
                    &[],
                    &parameters,
                    0,
                    1
                )
                .is_err()
            );
        }
    }

    #[test]
    fn rows_of_weight_zero_do_not_count() {
        let (x, y) = table();
        let p = BoostingParameters {
            iterations: 5,
            ..Default::default()
        };
        let weights: Vec<f64> = (0..600).map(|i| if i < 300 { 0.0 } else { 3.0 }).collect();
        let some = boost(
            &x,
            5,
            &Targets::Numbers(y.clone()),
            Some(&weights),
            &[],
            &p,
            0,
            1,
        )
        .unwrap();
        let rest = boost(
            &x[1500..],
            5,
            &Targets::Numbers(y[300..].to_vec()),
            None,
            &[],
            &p,
            0,
            1,
        )
        .unwrap();
        let differ = |row: &[f64]| (sums(&some, row)[0] - sums(&rest, row)[0]).abs();
        assert!(x.chunks(5).map(differ).fold(0.0, f64::max) < 1e-5);
    }
}
