//! Decision trees and random forests, as `trees` grows them.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Learned, Training, learned, must};
use crate::models::native::predictor::{
    ForestAnswer, ForestDocument, ForestWriter, NODES_MAX, PredictorDocument, TREES_MAX,
};
use crate::train::TrainError;
use crate::train::parameters::{self, ParameterValues};
use crate::train::trees::{self, GrownNode, GrownTree, TreeParameters};

/// How many features are tried at a split.
#[derive(Debug, Clone, Copy, PartialEq)]
enum MaxFeatures {
    Sqrt,
    All,
    Count(usize),
    /// A share of all, above 0.
    Share(f64),
}

impl MaxFeatures {
    fn of(self, width: usize) -> usize {
        let count = match self {
            MaxFeatures::Sqrt => (width as f64).sqrt() as usize,
            MaxFeatures::All => width,
            MaxFeatures::Count(count) => count,
            MaxFeatures::Share(share) => (width as f64 * share) as usize,
        };
        count.clamp(1, width)
    }
}

impl Serialize for MaxFeatures {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            MaxFeatures::Sqrt => serializer.serialize_str("sqrt"),
            MaxFeatures::All => serializer.serialize_str("all"),
            MaxFeatures::Count(count) => serializer.serialize_u64(*count as u64),
            MaxFeatures::Share(share) => serializer.serialize_f64(*share),
        }
    }
}

impl<'de> Deserialize<'de> for MaxFeatures {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Own;
        impl Visitor<'_> for Own {
            type Value = MaxFeatures;

            // The backticks say what may be typed.
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("`sqrt`, `all`, `a whole number`, `a share up to 1.0`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<MaxFeatures, E> {
                match text {
                    "sqrt" => Ok(MaxFeatures::Sqrt),
                    "all" => Ok(MaxFeatures::All),
                    _ => Err(E::invalid_value(Unexpected::Other("another text"), &self)),
                }
            }

            fn visit_u64<E: Error>(self, count: u64) -> Result<MaxFeatures, E> {
                match usize::try_from(count) {
                    Ok(count @ 1..) => Ok(MaxFeatures::Count(count)),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(count), &self)),
                }
            }

            fn visit_f64<E: Error>(self, share: f64) -> Result<MaxFeatures, E> {
                match share > 0.0 && share <= 1.0 {
                    true => Ok(MaxFeatures::Share(share)),
                    false => Err(E::invalid_value(Unexpected::Float(share), &self)),
                }
            }
        }
        deserializer.deserialize_any(Own)
    }
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct DecisionTree {
    max_depth: Option<usize>,
    min_samples_split: usize,
    min_samples_leaf: usize,
    max_features: MaxFeatures,
}

impl Default for DecisionTree {
    fn default() -> Self {
        DecisionTree {
            max_depth: None,
            min_samples_split: 2,
            min_samples_leaf: 1,
            max_features: MaxFeatures::All,
        }
    }
}

impl DecisionTree {
    fn parameters(&self, width: usize) -> Result<TreeParameters, TrainError> {
        must(self.max_depth != Some(0), "max_depth", "at least 1")?;
        must(
            self.min_samples_split >= 2,
            "min_samples_split",
            "at least 2",
        )?;
        must(self.min_samples_leaf >= 1, "min_samples_leaf", "at least 1")?;
        Ok(TreeParameters {
            max_depth: self.max_depth,
            min_samples_split: self.min_samples_split,
            min_samples_leaf: self.min_samples_leaf,
            max_features: self.max_features.of(width),
            max_nodes: NODES_MAX,
        })
    }
}

macro_rules! forest_parameters {
    ($name:ident, $max_features:expr) => {
        #[derive(Debug, Serialize, Deserialize)]
        pub(super) struct $name {
            n_estimators: usize,
            max_features: MaxFeatures,
            max_depth: Option<usize>,
            min_samples_split: usize,
            min_samples_leaf: usize,
            bootstrap: bool,
        }

        impl Default for $name {
            fn default() -> Self {
                $name {
                    n_estimators: 100,
                    max_features: $max_features,
                    max_depth: None,
                    min_samples_split: 2,
                    min_samples_leaf: 1,
                    bootstrap: true,
                }
            }
        }

        impl From<$name> for Forest {
            fn from(own: $name) -> Forest {
                Forest {
                    trees: own.n_estimators,
                    bootstrap: own.bootstrap,
                    tree: DecisionTree {
                        max_depth: own.max_depth,
                        min_samples_split: own.min_samples_split,
                        min_samples_leaf: own.min_samples_leaf,
                        max_features: own.max_features,
                    },
                }
            }
        }
    };
}

/// The parameters of a forest, whatever it answers with.
struct Forest {
    trees: usize,
    bootstrap: bool,
    tree: DecisionTree,
}

// scikit-learn's defaults differ, too.
forest_parameters!(ClassifierForest, MaxFeatures::Sqrt);
forest_parameters!(RegressorForest, MaxFeatures::All);

pub(super) fn decision_tree(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&DecisionTree::default(), training.parameters)?;
    let rows = training.rows;
    let tree = trees::grow_tree(
        rows.values(),
        rows.width(),
        training.targets,
        training.weights,
        &chosen.parameters(rows.width())?,
        training.seed,
    )?;
    Ok(learned(PredictorDocument::Forest(forest(&[tree])), values))
}

pub(super) fn classifier_forest(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&ClassifierForest::default(), training.parameters)?;
    grow(training, chosen.into(), values)
}

pub(super) fn regressor_forest(training: &Training<'_>) -> Result<Learned, TrainError> {
    let (chosen, values) = parameters::apply(&RegressorForest::default(), training.parameters)?;
    grow(training, chosen.into(), values)
}

fn grow(
    training: &Training<'_>,
    chosen: Forest,
    values: ParameterValues,
) -> Result<Learned, TrainError> {
    let sound = (1..=TREES_MAX).contains(&chosen.trees);
    must(sound, "n_estimators", &format!("1 to {TREES_MAX}"))?;
    let rows = training.rows;
    let trees = trees::grow_forest(
        rows.values(),
        rows.width(),
        training.targets,
        training.weights,
        &chosen.tree.parameters(rows.width())?,
        chosen.trees,
        chosen.bootstrap,
        training.seed,
        training.threads,
    )?;
    Ok(learned(PredictorDocument::Forest(forest(&trees)), values))
}

/// Writes grown trees as a file has them.
fn forest(trees: &[GrownTree]) -> ForestDocument {
    let width = trees.first().map_or(1, |tree| tree.leaf_width);
    let mut writer = ForestWriter::new(ForestAnswer::Mean, vec![0.0; width], width);
    for tree in trees {
        writer.tree(0, tree.nodes.len());
        for node in &tree.nodes {
            match node {
                GrownNode::Leaf { leaf } => {
                    writer.leaf(&tree.values[leaf * width..][..width]);
                }
                GrownNode::Split {
                    feature,
                    threshold,
                    left,
                    right,
                } => writer.split(*feature, *threshold, false, (*left, *right)),
            }
        }
    }
    writer.finish()
}
