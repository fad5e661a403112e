//! The plain walk: what every other way to compute a forest must equal, bit for bit.

use super::{ALMOST_ZERO, Forest, Missing, NodeKind, Precision, Test, Tree};

/// The sums of one row, in the forest's own precisions, widened.
pub(super) fn margins(forest: &Forest, row: &[f64]) -> Vec<f64> {
    let row: Vec<f64> = row
        .iter()
        .map(|value| match forest.row_precision {
            Precision::F32 => f64::from(*value as f32),
            Precision::F64 if forest.flushes_to_zero && value.abs() <= ALMOST_ZERO => 0.0,
            Precision::F64 => *value,
        })
        .collect();
    let mut sums = forest.base.clone();
    for tree in &forest.trees {
        let leaf = leaf(tree, &row);
        let values = &tree.values[leaf * tree.leaf_width..][..tree.leaf_width];
        for (place, value) in values.iter().enumerate() {
            let output = match tree.leaf_outputs.get(leaf) {
                Some(output) => *output as usize,
                None if tree.leaf_width == 1 => tree.output,
                None => place,
            };
            let value = match tree.linear.get(leaf) {
                Some(model)
                    if model
                        .terms
                        .iter()
                        .all(|(feature, _)| !row[*feature].is_nan()) =>
                {
                    let mut sum = model.constant;
                    for (feature, factor) in &model.terms {
                        sum += factor * row[*feature];
                    }
                    sum
                }
                _ => *value,
            };
            sums[output] = match forest.sum_precision {
                Precision::F32 => f64::from(sums[output] as f32 + value as f32),
                Precision::F64 => sums[output] + value,
            };
        }
    }
    sums
}

fn leaf(tree: &Tree, row: &[f64]) -> usize {
    let mut index = 0;
    loop {
        match &tree.nodes[index].kind {
            NodeKind::Leaf(leaf) => return *leaf,
            NodeKind::Split {
                feature,
                test,
                missing,
                default_left,
                left,
                right,
            } => {
                let value = row[*feature];
                let goes_left = match missing {
                    Missing::Nan if value.is_nan() => *default_left,
                    Missing::Zero if value.is_nan() || value.abs() <= ALMOST_ZERO => *default_left,
                    _ => yes(tree, *test, if value.is_nan() { 0.0 } else { value }),
                };
                index = if goes_left { *left } else { *right };
            }
        }
    }
}

fn yes(tree: &Tree, test: Test, value: f64) -> bool {
    match test {
        Test::Below(threshold) => value < threshold,
        Test::AtMost(threshold) => value <= threshold,
        Test::InSet { set, rule } => rule.goes_left(&tree.sets[set], value),
    }
}
