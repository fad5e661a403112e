//! CatBoost's document, as serde reads it.

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use serde_json::Value;

#[derive(Deserialize)]
pub(super) struct CatboostDocument {
    pub(super) features_info: FeaturesInfo,
    #[serde(default)]
    pub(super) model_info: ModelInfo,
    pub(super) oblivious_trees: Option<Vec<CatboostTree>>,
    /// Those of models that are not symmetric.
    pub(super) trees: Option<IgnoredAny>,
    pub(super) scale_and_bias: (f64, Bias),
}

#[derive(Deserialize)]
pub(super) struct FeaturesInfo {
    #[serde(default)]
    pub(super) float_features: Vec<FloatFeature>,
    #[serde(default)]
    categorical_features: Vec<IgnoredAny>,
    #[serde(default)]
    text_features: Vec<IgnoredAny>,
    #[serde(default)]
    embedding_features: Vec<IgnoredAny>,
    #[serde(default)]
    ctrs: Vec<IgnoredAny>,
}

impl FeaturesInfo {
    /// The kind of features that are no numbers, if there are any.
    pub(super) fn not_numbers(&self) -> Option<&'static str> {
        [
            ("categorical", &self.categorical_features),
            ("text", &self.text_features),
            ("embedding", &self.embedding_features),
            ("categorical", &self.ctrs),
        ]
        .into_iter()
        .find(|(_, features)| !features.is_empty())
        .map(|(kind, _)| kind)
    }
}

#[derive(Deserialize)]
pub(super) struct FloatFeature {
    /// Its name; empty if it has none.
    #[serde(default)]
    pub(super) feature_id: String,
    /// Its column.
    pub(super) flat_feature_index: usize,
    #[serde(default)]
    pub(super) has_nans: bool,
    pub(super) nan_value_treatment: String,
}

#[derive(Deserialize, Default)]
pub(super) struct ModelInfo {
    #[serde(default, deserialize_with = "perhaps_in_text")]
    pub(super) params: Option<Params>,
    #[serde(default, deserialize_with = "perhaps_in_text")]
    pub(super) class_params: Option<ClassParams>,
    #[serde(default)]
    pub(super) binclass_probability_threshold: Option<Threshold>,
}

#[derive(Deserialize)]
pub(super) struct Params {
    pub(super) loss_function: Option<LossFunction>,
}

#[derive(Deserialize)]
pub(super) struct LossFunction {
    #[serde(rename = "type")]
    pub(super) kind: String,
}

#[derive(Deserialize, Default)]
pub(super) struct ClassParams {
    #[serde(default)]
    pub(super) class_names: Vec<Value>,
    #[serde(default)]
    pub(super) class_to_label: Vec<Value>,
    #[serde(default)]
    pub(super) classes_count: usize,
}

/// A number, or a number as text.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Threshold(pub(super) Option<f64>);

impl From<Value> for Threshold {
    fn from(value: Value) -> Self {
        Threshold(match value {
            Value::String(text) => text.parse().ok(),
            value => value.as_f64(),
        })
    }
}

/// What is added to the sums: since 1.0 one for each output.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Bias {
    One(f64),
    Several(Vec<f64>),
}

#[derive(Deserialize)]
pub(super) struct CatboostTree {
    /// The values of the leaves, leaf after leaf.
    pub(super) leaf_values: Vec<f64>,
    #[serde(default)]
    pub(super) leaf_weights: Vec<f32>,
    /// The first counts least in a leaf's place. A tree of one leaf may have null.
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) splits: Vec<SplitDocument>,
}

#[derive(Deserialize)]
pub(super) struct SplitDocument {
    pub(super) border: Option<f32>,
    pub(super) float_feature_index: Option<usize>,
}

fn null_is_empty<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<SplitDocument>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Reads a value that some versions put into a text, as JSON.
fn perhaps_in_text<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: serde::de::DeserializeOwned,
{
    let value = match Value::deserialize(deserializer)? {
        Value::Null => return Ok(None),
        Value::String(text) => serde_json::from_str(&text),
        value => serde_json::from_value(value),
    };
    value.map(Some).map_err(serde::de::Error::custom)
}
