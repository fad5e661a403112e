//! Boosted trees, as `boosted` makes them.

use serde::{Deserialize, Serialize};

use super::{Learned, Training, learned, must};
use crate::models::native::predictor::{ForestAnswer, ForestWriter, PredictorDocument, TREES_MAX};
use crate::train::boosted::{self, BoostedNode, BoostingParameters};
use crate::train::{Targets, TrainError, folds, parameters};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Boosting {
    max_iter: Option<usize>,
    learning_rate: f64,
    max_leaf_nodes: usize,
    max_depth: Option<usize>,
    l2_regularization: f64,
    n_iter_no_change: usize,
    validation_fraction: f64,
}

/// Rows from which on a tenth of them can tell when to stop.
const EARLY_STOPPING_ROWS: usize = 500;

/// Rounds where nothing tells when to stop.
const ROUNDS: usize = 100;

impl Default for Boosting {
    fn default() -> Self {
        let own = BoostingParameters::default();
        Boosting {
            max_iter: None,
            learning_rate: own.learning_rate,
            max_leaf_nodes: own.max_leaves,
            max_depth: Some(own.max_depth),
            l2_regularization: own.l2,
            n_iter_no_change: own.stop_after,
            validation_fraction: 0.1,
        }
    }
}

pub(super) fn boosted_trees(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&Boosting::default(), training.parameters)?;
    let is_sound = chosen
        .max_iter
        .is_none_or(|rounds| (1..=TREES_MAX).contains(&rounds));
    must(is_sound, "max_iter", &format!("1 to {TREES_MAX}"))?;
    must(
        chosen.learning_rate > 0.0 && chosen.learning_rate <= 1.0,
        "learning_rate",
        "above 0 and at most 1",
    )?;
    must(chosen.max_leaf_nodes >= 2, "max_leaf_nodes", "at least 2")?;
    must(chosen.max_depth != Some(0), "max_depth", "at least 1")?;
    must(
        chosen.l2_regularization >= 0.0,
        "l2_regularization",
        "at least 0",
    )?;
    let share = chosen.validation_fraction;
    must(
        (0.0..=0.5).contains(&share),
        "validation_fraction",
        "0 to 0.5",
    )?;
    let rows = training.rows;
    let held_out = match chosen.n_iter_no_change > 0 && rows.len() >= EARLY_STOPPING_ROWS {
        true => folds::held_out(training.targets, share, training.seed),
        false => Vec::new(),
    };
    let iterations = chosen.max_iter.unwrap_or(match held_out.is_empty() {
        true => ROUNDS,
        false => BoostingParameters::default().iterations,
    });
    let mut own = BoostingParameters {
        iterations,
        learning_rate: chosen.learning_rate,
        max_leaves: chosen.max_leaf_nodes,
        l2: chosen.l2_regularization,
        stop_after: chosen.n_iter_no_change,
        ..BoostingParameters::default()
    };
    // As deep as leaves permit.
    own.max_depth = chosen.max_depth.unwrap_or(chosen.max_leaf_nodes);
    let fitted = boosted::boost(
        rows.values(),
        rows.width(),
        training.targets,
        training.weights,
        &held_out,
        &own,
        training.seed,
        training.threads,
    )?;
    let answer = match (training.targets, fitted.base.len()) {
        (Targets::Numbers(_), _) => ForestAnswer::Sum,
        (Targets::Classes { .. }, 1) => ForestAnswer::Logistic,
        (Targets::Classes { .. }, _) => ForestAnswer::Softmax,
    };
    let mut writer = ForestWriter::new(answer, fitted.base, 1);
    for tree in &fitted.trees {
        writer.tree(tree.output, tree.nodes.len());
        for node in &tree.nodes {
            match node {
                BoostedNode::Leaf { value } => writer.leaf(&[*value]),
                BoostedNode::Split {
                    feature,
                    threshold,
                    missing_left,
                    left,
                    right,
                } => {
                    // Below a number is at most the one before it.
                    writer.split(
                        *feature,
                        threshold.next_down(),
                        *missing_left,
                        (*left, *right),
                    );
                }
            }
        }
    }
    let mut learned = learned(PredictorDocument::Forest(writer.finish()), values);
    if !held_out.is_empty() && fitted.rounds == iterations {
        learned.notes.push(format!(
            "boosting was still improving after max_iter={}: more may score better",
            iterations
        ));
    }
    Ok(learned)
}
