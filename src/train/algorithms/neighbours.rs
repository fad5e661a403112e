//! Nearest neighbours: smartcore searches them when the model is read.

use serde::{Deserialize, Serialize};

use super::{Learned, Training, learned, must};
use crate::models::native::neighbours::{Metric, NeighbourWeights, NeighboursDocument};
use crate::models::native::packed::Packed;
use crate::models::native::predictor::PredictorDocument;
use crate::train::{Targets, TrainError, parameters};

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Knn {
    n_neighbors: usize,
    weights: NeighbourWeights,
    metric: Metric,
}

impl Default for Knn {
    fn default() -> Self {
        Knn {
            n_neighbors: 5,
            weights: NeighbourWeights::default(),
            metric: Metric::default(),
        }
    }
}

pub(super) fn neighbours(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&Knn::default(), training.parameters)?;
    let count = training.rows.len();
    let sound = (1..=count).contains(&chosen.n_neighbors);
    must(
        sound,
        "n_neighbors",
        &format!("1 to the number of rows, which is {count}"),
    )?;
    let targets = match training.targets {
        Targets::Numbers(numbers) => numbers.clone(),
        Targets::Classes { indices, .. } => indices.iter().map(|class| f64::from(*class)).collect(),
    };
    let document = NeighboursDocument {
        n_neighbors: chosen.n_neighbors,
        weights: chosen.weights,
        metric: chosen.metric,
        values: Packed(training.rows.values().to_vec()),
        targets: Packed(targets),
    };
    Ok(learned(PredictorDocument::Neighbours(document), values))
}
