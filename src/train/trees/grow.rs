//! The growth of one tree.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::prepare::{Goal, LevelColumn, PreparedData, TreeSample};
use super::splits::{scan_classes, scan_numbers, sort_keys};
use super::{GrownNode, GrownTree};
use crate::train::random::SplitMix;

/// A node which waits for its turn: samples start..end, and the number of features at
/// the front of `Grower::order` known to be constant in it.
struct GrowTask {
    node: usize,
    start: usize,
    end: usize,
    depth: usize,
    constants: usize,
}

/// The best split so far: samples whose rank is at most `rank` go left.
struct Cut {
    feature: usize,
    rank: u32,
    threshold: f64,
    score: f64,
}

/// The state of one growing tree.
pub(super) struct Grower<'a> {
    data: &'a PreparedData<'a>,
    grown_nodes: &'a AtomicUsize,
    random: SplitMix,
    /// The samples of a node stand together; `spare` is room to divide them.
    samples: Vec<TreeSample>,
    spare: Vec<TreeSample>,
    /// For numbers: weight, and weight times distance to the centre of the node.
    moments: Vec<[f64; 2]>,
    /// Rank in the upper half, position in the node in the lower half.
    keys: Vec<u64>,
    spare_keys: Vec<u64>,
    /// All features. Those in front are constant in the current node.
    order: Vec<usize>,
    /// Weights of the classes in the node and left of a split.
    total: Vec<f64>,
    left: Vec<f64>,
    tree: GrownTree,
    leaves: usize,
}

impl<'a> Grower<'a> {
    pub(super) fn new(
        data: &'a PreparedData,
        samples: Vec<TreeSample>,
        seed: u64,
        grown_nodes: &'a AtomicUsize,
    ) -> Self {
        let leaf_width = if let Goal::Classes(classes) = data.goal {
            classes
        } else {
            1
        };
        Self {
            data,
            grown_nodes,
            random: SplitMix::new(seed),
            spare: samples.clone(),
            samples,
            moments: Vec::new(),
            keys: Vec::new(),
            spare_keys: Vec::new(),
            order: (0..data.columns.len()).collect(),
            total: vec![0.0; leaf_width],
            left: vec![0.0; leaf_width],
            tree: GrownTree {
                nodes: Vec::new(),
                values: Vec::new(),
                leaf_width,
            },
            leaves: 0,
        }
    }

    pub(super) fn grow(mut self) -> Result<GrownTree, String> {
        let limits = self.data.parameters;
        let root = self.add_node()?;
        let mut tasks = vec![GrowTask {
            node: root,
            start: 0,
            end: self.samples.len(),
            depth: 0,
            constants: 0,
        }];
        while let Some(mut task) = tasks.pop() {
            let pure = self.sum_up(task.start, task.end);
            let size = task.end - task.start;
            let may_split = !pure
                && limits.max_depth.is_none_or(|most| task.depth < most)
                && size >= limits.min_samples_split
                && size / 2 >= limits.min_samples_leaf;
            let cut = if may_split {
                self.search(&mut task)
            } else {
                None
            };
            let Some(cut) = cut else {
                self.add_leaf(task.node);
                continue;
            };
            let middle = self.divide(&task, &cut);
            let (left, right) = (self.add_node()?, self.add_node()?);
            self.tree.nodes[task.node] = GrownNode::Split {
                feature: cut.feature,
                threshold: cut.threshold,
                left,
                right,
            };
            let GrowTask {
                start,
                end,
                depth,
                constants,
                ..
            } = task;
            // The whole left part is done before the right one, and leaves the constant
            // features at the front of `order` in place.
            let depth = depth + 1;
            tasks.push(GrowTask {
                node: right,
                start: middle,
                end,
                depth,
                constants,
            });
            tasks.push(GrowTask {
                node: left,
                start,
                end: middle,
                depth,
                constants,
            });
        }
        Ok(self.tree)
    }

    /// Adds a node, a leaf for the time being. The count is shared by all trees, and
    /// only grows, so whether it passes the limit does not depend on the threads.
    fn add_node(&mut self) -> Result<usize, String> {
        if self.grown_nodes.fetch_add(1, Ordering::Relaxed) >= self.data.parameters.max_nodes {
            return Err(format!(
                "more than {} nodes",
                self.data.parameters.max_nodes
            ));
        }
        self.tree.nodes.push(GrownNode::Leaf { leaf: usize::MAX });
        Ok(self.tree.nodes.len() - 1)
    }

    /// Makes the node last summed up a leaf. `total` then holds its sums.
    fn add_leaf(&mut self, node: usize) {
        self.tree.nodes[node] = GrownNode::Leaf { leaf: self.leaves };
        self.leaves += 1;
        let divisor = match &self.data.goal {
            Goal::Classes(_) => self.total.iter().sum(),
            Goal::Numbers { scale, .. } => *scale,
        };
        self.tree
            .values
            .extend(self.total.iter().map(|sum| sum / divisor));
    }

    /// Sums up the targets of a node: class weights or the mean into `total`, and for
    /// numbers the moments. True if all targets are equal.
    fn sum_up(&mut self, start: usize, end: usize) -> bool {
        let samples = &self.samples[start..end];
        let scaled = match &self.data.goal {
            Goal::Numbers { scaled, .. } => scaled,
            Goal::Classes(_) => {
                self.total.fill(0.0);
                samples
                    .iter()
                    .for_each(|s| self.total[s.class as usize] += s.weight);
                return samples.iter().all(|s| s.class == samples[0].class);
            }
        };
        // Distances to one of the numbers, and then to the mean, stay exact enough
        // where sums of the numbers themselves would lose small differences.
        let first = scaled[samples[0].row as usize];
        let (mut weight, mut distance, mut pure) = (0.0, 0.0, true);
        for s in samples {
            let number = scaled[s.row as usize];
            weight += s.weight;
            distance += s.weight * (number - first);
            pure &= number == first;
        }
        let mean = first + distance / weight;
        self.total[0] = mean;
        if !pure {
            // The number nearest the mean is the centre: unlike the mean it keeps whole
            // numbers whole, so that equal splits get exactly equal scores.
            let centre = samples.iter().fold(first, |centre, s| {
                let number = scaled[s.row as usize];
                if (number - mean).abs() < (centre - mean).abs() {
                    number
                } else {
                    centre
                }
            });
            let centred = |s: &TreeSample| [s.weight, s.weight * (scaled[s.row as usize] - centre)];
            self.moments.clear();
            self.moments.extend(samples.iter().map(centred));
        }
        pure
    }

    /// Looks for the best split. Features are drawn as in scikit-learn: constant ones
    /// count, but the search goes on until one feature was not constant. Those found
    /// constant here are constant in all nodes below, and not looked at again.
    fn search(&mut self, task: &mut GrowTask) -> Option<Cut> {
        let data = self.data;
        let min_leaf = data.parameters.min_samples_leaf;
        let mut undrawn_constants = task.constants;
        let mut stop = self.order.len();
        let (mut visited, mut varied) = (0, false);
        let mut best: Option<Cut> = None;
        while stop > task.constants && (visited < data.parameters.max_features || !varied) {
            visited += 1;
            let drawn = self.random.below(undrawn_constants + stop - task.constants);
            if drawn < undrawn_constants {
                // Which of the known constants was drawn makes no difference.
                undrawn_constants -= 1;
                continue;
            }
            let place = task.constants + drawn - undrawn_constants;
            let feature = self.order[place];
            let column = &data.columns[feature];
            let (low, high) = self.load_keys(column, task);
            if low == high {
                self.order.swap(place, task.constants);
                task.constants += 1;
                continue;
            }
            stop -= 1;
            self.order.swap(place, stop);
            varied = true;
            sort_keys(&mut self.keys, &mut self.spare_keys, low, high);
            let floor = best.as_ref().map_or(f64::NEG_INFINITY, |cut| cut.score);
            let samples = &self.samples[task.start..task.end];
            let found = match data.goal {
                Goal::Numbers { .. } => scan_numbers(&self.keys, &self.moments, min_leaf, floor),
                Goal::Classes(_) => {
                    let sums = (&self.total[..], &mut self.left[..]);
                    scan_classes(&self.keys, samples, sums, min_leaf, floor)
                }
            };
            if let Some((score, place)) = found {
                let [rank, above] = [place, place + 1].map(|at| (self.keys[at] >> 32) as u32);
                best = Some(Cut {
                    feature,
                    rank,
                    threshold: column.threshold(rank, above),
                    score,
                });
            }
        }
        best
    }

    /// Loads the keys of a node for one feature; returns the lowest and highest rank.
    fn load_keys(&mut self, column: &LevelColumn, task: &GrowTask) -> (u32, u32) {
        let (mut low, mut high) = (u32::MAX, 0);
        let samples = self.samples[task.start..task.end].iter();
        self.keys.clear();
        self.keys
            .extend(samples.zip(0_u64..).map(|(sample, position)| {
                let rank = column.ranks[sample.row as usize];
                low = low.min(rank);
                high = high.max(rank);
                u64::from(rank) << 32 | position
            }));
        (low, high)
    }

    /// Moves the samples of a node to the two sides of a cut, in their old order, which
    /// keeps later reads of ranks ascending in memory. Returns where the right side starts.
    fn divide(&mut self, task: &GrowTask, cut: &Cut) -> usize {
        let ranks = &self.data.columns[cut.feature].ranks;
        let samples = &mut self.samples[task.start..task.end];
        let (mut left, mut right) = (0, 0);
        for index in 0..samples.len() {
            // Writing to both sides and advancing one of them needs no branch.
            let sample = samples[index];
            let goes_left = ranks[sample.row as usize] <= cut.rank;
            samples[left] = sample;
            self.spare[right] = sample;
            left += usize::from(goes_left);
            right += usize::from(!goes_left);
        }
        samples[left..].copy_from_slice(&self.spare[..right]);
        task.start + left
    }
}
