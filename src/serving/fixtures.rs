//! Models for tests of what is told of models.

use std::sync::Arc;

use crate::models::slot::ModelVersion;
use crate::models::{
    AnswerSpec, Feature, FeatureKind, Loaded, Model, Output, OutputSpec, PredictError, Rows,
    Signature,
};

struct Mute(Signature);

impl Model for Mute {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn predict(&self, _rows: &Rows) -> Result<Output, PredictError> {
        Err(PredictError("it only has a signature".to_owned()))
    }
}

/// A version of a model that has a signature and nothing else.
pub(super) fn version(features: Vec<Feature>, output: OutputSpec) -> ModelVersion {
    let answer = AnswerSpec::of_labels(&output);
    let loaded = Loaded {
        name: "mute".to_owned(),
        version: "7".to_owned(),
        algorithm: "none".to_owned(),
        model: Box::new(Mute(Signature { features, output })),
        golden: Vec::new(),
        answer,
        example: None,
        exactness: None,
        notes: Vec::new(),
    };
    ModelVersion::new(Arc::new(loaded), 1)
}

/// A feature without a range that every row has.
pub(super) fn feature(name: &str, kind: FeatureKind) -> Feature {
    Feature {
        name: name.to_owned(),
        kind,
        may_be_missing: false,
        may_be_infinite: false,
        written: None,
        range: None,
    }
}
