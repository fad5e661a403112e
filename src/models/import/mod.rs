//! Importers: other libraries' model files, read as data. Nothing in a file is run.

pub mod catboost;
pub mod lightgbm;
pub(in crate::models) mod mlflow;
pub mod onnx;
pub mod python;
pub mod sklearn;
mod ubjson;
pub mod xgboost;

use std::collections::HashSet;

use super::signature::{Feature, FeatureKind};
use super::{ModelError, OutputSpec};

/// Names the classes of a classifier whose file only counts them: whole numbers from 0.
fn numbered(classes: usize) -> OutputSpec {
    OutputSpec::Classes {
        labels: (0..classes).map(|class| class.to_string()).collect(),
        has_probabilities: true,
    }
}

/// Makes features that are numbers and may be missing, called `names`, or `f0`, `f1`, … if there are
/// no names.
///
/// # Errors
///
/// Names that are not as many as features, or not unique.
fn features(
    names: Vec<String>,
    width: usize,
    may_be_infinite: bool,
) -> Result<Vec<Feature>, ModelError> {
    let names = match names.is_empty() {
        true => (0..width).map(|feature| format!("f{feature}")).collect(),
        false => names,
    };
    if names.len() != width {
        return Err(ModelError(format!(
            "there must be a name for each of {width} features, but there are {}",
            names.len()
        )));
    }
    let mut seen = HashSet::new();
    if let Some(name) = names.iter().find(|name| !seen.insert(name.as_str())) {
        return Err(ModelError(format!("the feature {name:?} occurs twice")));
    }
    let feature = |name| Feature {
        name,
        kind: FeatureKind::Number,
        may_be_missing: true,
        may_be_infinite,
        written: None,
        range: None,
    };
    Ok(names.into_iter().map(feature).collect())
}
