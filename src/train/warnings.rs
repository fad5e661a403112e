//! What the operator should look at before a model is trained: columns that give the answer away,
//! classes that are too rare to be scored.

use crate::models::Rows;
use crate::train::algorithms;
use crate::train::data::TrainingData;
use crate::train::score;
use crate::train::trees::{self, GrownNode, GrownTree, TreeParameters};
use crate::train::{Targets, folds, prepare};

/// Rows that are looked at.
const ROWS_MAX: usize = 5000;

/// A column that predicts this well alone is suspicious: R2, or accuracy.
const SUSPICIOUS: f64 = 0.99;

/// Rows from which on that is no accident.
const ROWS_MIN: usize = 50;

/// Classes from which on boosted trees take their time.
const CLASSES_MANY: usize = 100;

/// Warnings about training data, one line each; `is_boosted`: boosted trees may be trained on them.
pub fn of(data: &TrainingData, folds: usize, is_boosted: bool) -> Vec<String> {
    let mut warnings: Vec<String> = rare_classes(data, folds).into_iter().collect();
    if let Targets::Classes { classes, .. } = &data.targets
        && *classes >= CLASSES_MANY
        && is_boosted
    {
        warnings.push(format!(
            "the target has {classes} classes: boosted trees grow a tree for each in every round; --algorithm random-forest-classifier is much faster, and --task regression is for numbers"
        ));
    }
    warnings.extend(leaks(data));
    if let Targets::Numbers(numbers) = &data.targets
        && numbers.iter().all(|number| *number == numbers[0])
    {
        warnings.push(format!("the target is {} in every row", numbers[0]));
    }
    warnings
}

fn rare_classes(data: &TrainingData, folds: usize) -> Option<String> {
    let Targets::Classes { indices, classes } = &data.targets else {
        return None;
    };
    let mut counts = vec![0usize; *classes];
    indices
        .iter()
        .for_each(|class| counts[*class as usize] += 1);
    let is_rare = |class: &usize| counts[*class] < folds;
    let rare: Vec<&str> = (0..*classes)
        .filter(is_rare)
        .map(|class| data.classes[class].as_str())
        .collect();
    (!rare.is_empty()).then(|| {
        format!(
            "fewer than {folds} rows have {}: scores say little about such classes",
            rare.iter()
                .take(10)
                .map(|label| format!("{label:?}"))
                .collect::<Vec<_>>()
                .join(", ")
        )
    })
}

/// Columns that alone predict the target nearly perfectly.
fn leaks(data: &TrainingData) -> Vec<String> {
    if data.rows.len() < ROWS_MIN {
        return Vec::new();
    }
    let mut order: Vec<usize> = (0..data.rows.len()).collect();
    folds::shuffle(&mut order, 0);
    order.truncate(ROWS_MAX);
    let targets = data.targets.subset(&order);
    let baseline = score::score(&targets, &score::baseline(&targets, order.len()));
    if baseline
        .get("accuracy")
        .is_some_and(|accuracy| *accuracy > 0.9)
    {
        return Vec::new();
    }
    let leaks = data.features.iter().enumerate().filter_map(|(place, feature)| {
        let width = data.rows.width();
        let value = |row: &usize| data.rows.values()[row * width + place];
        let rows = Rows::new(order.iter().map(value).collect(), 1)?;
        let needs = algorithms::TREES;
        let prepared =
            prepare::fit(std::slice::from_ref(feature), &rows, &targets, needs, 0).ok()?;
        let score = alone(&prepared.rows, &targets)?;
        (score > SUSPICIOUS).then(|| {
            format!(
                "the column {:?} alone predicts the target nearly perfectly: if it is not known before the target is, leave it out with --exclude {}",
                feature.name, feature.name
            )
        })
    });
    leaks.collect()
}

/// The R2 or the accuracy of a small tree on these columns.
fn alone(rows: &Rows, targets: &Targets) -> Option<f64> {
    let parameters = TreeParameters {
        max_depth: Some(6),
        min_samples_split: 2,
        min_samples_leaf: (rows.len() / 200).max(2),
        max_features: rows.width(),
        max_nodes: 1000,
    };
    let tree = trees::grow_tree(rows.values(), rows.width(), targets, None, &parameters, 0).ok()?;
    let leaves = rows.iter().map(|row| leaf(&tree, row));
    match targets {
        Targets::Numbers(numbers) => {
            let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
            let all: f64 = numbers.iter().map(|number| (number - mean).powi(2)).sum();
            let errors: f64 = leaves
                .zip(numbers)
                .map(|(leaf, number)| (leaf[0] - number).powi(2))
                .sum();
            (all > 0.0).then(|| 1.0 - errors / all)
        }
        Targets::Classes { indices, .. } => {
            let largest = crate::models::forest::model::largest;
            let right = leaves
                .zip(indices)
                .filter(|(leaf, class)| largest(leaf) == **class);
            Some(right.count() as f64 / indices.len() as f64)
        }
    }
}

fn leaf<'a>(tree: &'a GrownTree, row: &[f64]) -> &'a [f64] {
    let mut node = 0;
    loop {
        match &tree.nodes[node] {
            GrownNode::Leaf { leaf } => {
                return &tree.values[leaf * tree.leaf_width..][..tree.leaf_width];
            }
            GrownNode::Split {
                feature,
                threshold,
                left,
                right,
            } => {
                node = if row[*feature] <= *threshold {
                    *left
                } else {
                    *right
                }
            }
        }
    }
}
