//! CatBoost models, as `save_model(…, format="json")` writes them: symmetric trees on numbers.
//!
//! Sources: CatBoost 1.2, `catboost/libs/model/model_export/json_model_helpers.cpp`,
//! `catboost/libs/model/cpu/quantization.h`, `catboost/libs/eval_result/eval_helpers.cpp`.

mod document;

use self::document::{
    Bias, CatboostDocument, CatboostTree, ClassParams, FloatFeature, SplitDocument,
};
use super::{features, numbered};
use crate::config::ModelRequest;
use crate::models::forest::link::Link;
use crate::models::forest::model::{Adjustment, ForestModel, Margins, SumMeaning};
use crate::models::forest::plan::Plan;
use crate::models::forest::{
    FEATURES_MAX, Forest, Missing, Node, NodeKind, OUTPUTS_MAX, Precision, Test, Tree,
};
use crate::models::format::Format;
use crate::models::{AnswerSpec, Loaded, ModelError, OutputSpec, Signature};

/// Splits on the way to a leaf, as many as CatBoost makes at most.
const DEPTH_MAX: usize = 16;

/// CatBoost's JSON.
#[derive(Debug, Clone, Copy)]
pub struct CatboostJson;

/// CatBoost's binary format (`.cbm`): recognized to be refused.
#[derive(Debug, Clone, Copy)]
pub struct CatboostBinary;

impl Format for CatboostJson {
    /// CatBoost writes keys in the order of the alphabet, so that one of these is the first.
    fn recognises(&self, head: &[u8]) -> bool {
        let inner = head.trim_ascii_start().strip_prefix(b"{");
        let key = inner.map_or(&b""[..], <[u8]>::trim_ascii_start);
        let keys: [&[u8]; 3] = [
            b"\"ctr_data\"",
            b"\"features_info\"",
            b"\"oblivious_trees\"",
        ];
        keys.iter().any(|first| key.starts_with(first))
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let document: CatboostDocument = serde_json::from_slice(bytes)
            .map_err(|error| ModelError(format!("it is not a model of CatBoost ({error})")))?;
        load(document, request)
    }
}

impl Format for CatboostBinary {
    fn recognises(&self, head: &[u8]) -> bool {
        head.starts_with(b"CBM1")
    }

    fn load(&self, _: &[u8], _: &ModelRequest) -> Result<Loaded, ModelError> {
        Err("it is in CatBoost's binary format, which lanekeeper does not read; load it with CatBoost and save it as JSON: model.save_model(\"model.json\", format=\"json\")".into())
    }
}

/// How the sums of a loss function become an answer.
fn task(name: Option<&str>, outputs: usize) -> Result<(Link, SumMeaning), ModelError> {
    let logistic = Link::Logistic { scale: 1.0 };
    Ok(match name {
        Some("Logloss" | "CrossEntropy" | "Focal") if outputs == 1 => {
            (logistic, SumMeaning::SecondClass)
        }
        Some("MultiClass") if outputs > 1 => (Link::SoftmaxByTable, SumMeaning::Classes),
        Some("MultiClassOneVsAll") if outputs > 1 => (logistic, SumMeaning::Classes),
        Some("MultiLogloss" | "MultiCrossEntropy") => (logistic, SumMeaning::Numbers),
        Some("Poisson" | "Tweedie") if outputs == 1 => (Link::ExponentialByTable, SumMeaning::Numbers),
        Some(
            "RMSE" | "MAE" | "Quantile" | "MultiQuantile" | "GroupQuantile" | "LogLinQuantile"
            | "MAPE" | "Lq" | "Huber" | "Expectile" | "LogCosh" | "MultiRMSE"
            | "MultiRMSEWithMissingValues" | "SurvivalAft" | "Cox" | "QueryRMSE" | "QuerySoftMax"
            | "QueryCrossEntropy" | "PairLogit" | "PairLogitPairwise" | "YetiRank"
            | "YetiRankPairwise" | "StochasticFilter" | "StochasticRank" | "LambdaMart",
        )
        // Sums of models have no parameters.
        | None => (Link::Identity, SumMeaning::Numbers),
        Some(name) => {
            return Err(ModelError(format!(
                "the loss function {name:?} with {outputs} outputs is not known to lanekeeper"
            )));
        }
    })
}

fn load(document: CatboostDocument, request: &ModelRequest) -> Result<Loaded, ModelError> {
    let info = &document.features_info;
    if let Some(kind) = info.not_numbers() {
        return Err(ModelError(format!(
            "it has {kind} features, of which CatBoost's JSON holds only hashes; train it with features that are numbers"
        )));
    }
    if document.trees.is_some() {
        return Err("its trees are not symmetric; train it with grow_policy=\"SymmetricTree\", CatBoost's default".into());
    }
    let trees = document.oblivious_trees;
    let trees = trees.ok_or("it has no oblivious_trees")?;
    let inputs = &info.float_features;
    let width = inputs.len();
    if !(1..=FEATURES_MAX).contains(&width) {
        return Err(ModelError(format!(
            "float_features must be 1 to {FEATURES_MAX}, but are {width}"
        )));
    }
    let names = names(inputs)?;
    let (scale, bias) = document.scale_and_bias;
    let (bias, outputs) = outputs(&trees, bias)?;
    if !scale.is_finite() || !bias.iter().all(|bias| bias.is_finite()) {
        return Err("scale_and_bias must be finite numbers".into());
    }
    let model_info = document.model_info;
    let threshold = model_info.binclass_probability_threshold;
    if let Some(threshold) = threshold.filter(|threshold| threshold.0 != Some(0.5)) {
        return Err(ModelError(format!(
            "its probability threshold must be 0.5, but is {}; set it with model.set_probability_threshold(0.5)",
            threshold
                .0
                .map_or("no number".to_owned(), |number| number.to_string())
        )));
    }
    let loss = model_info.params.and_then(|params| params.loss_function);
    let loss = loss.map(|loss| loss.kind);
    let (link, meaning) = task(loss.as_deref(), outputs)?;
    let mut notes = Vec::new();
    if loss.is_none() {
        notes.push(
            "its file does not say its loss function, so sums are answered as they are".into(),
        );
    }
    let output = match meaning {
        SumMeaning::Numbers => OutputSpec::Numbers { width: outputs },
        _ => classes(model_info.class_params, outputs.max(2))?,
    };
    let output = output.with_labels(&request.classes)?;
    let mut made = Vec::with_capacity(trees.len());
    for (index, tree) in trees.into_iter().enumerate() {
        let tree = tree_of(tree, inputs, outputs)
            .map_err(|reason| ModelError(format!("tree {index}: {reason}")))?;
        made.push(tree);
    }
    let forest = Forest {
        width,
        outputs,
        row_precision: Precision::F32,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base: vec![0.0; outputs],
        trees: made,
    };
    Ok(Loaded {
        name: String::new(),
        version: String::new(),
        algorithm: "catboost".to_owned(),
        answer: AnswerSpec::of_labels(&output),
        model: Box::new(ForestModel {
            signature: Signature {
                features: features(names, width, true)?,
                output,
            },
            margins: Margins::Trees(Plan::new(&forest)?),
            precision: Precision::F64,
            adjustment: Some(Adjustment { scale, bias }),
            divisor: 1.0,
            link,
            meaning,
        }),
        golden: Vec::new(),
        example: None,
        exactness: None,
        notes,
    })
}

/// The features' names; none if no feature has one.
fn names(inputs: &[FloatFeature]) -> Result<Vec<String>, ModelError> {
    let out_of_order = |(place, input): (usize, &FloatFeature)| input.flat_feature_index != place;
    if inputs.iter().enumerate().any(out_of_order) {
        return Err("float_features must stand in the order of flat_feature_index".into());
    }
    if inputs.iter().all(|input| input.feature_id.is_empty()) {
        return Ok(Vec::new());
    }
    let name = |(place, input): (usize, &FloatFeature)| match input.feature_id.as_str() {
        "" => format!("f{place}"),
        name => name.to_owned(),
    };
    Ok(inputs.iter().enumerate().map(name).collect())
}

/// The bias of each output, and the number of outputs.
fn outputs(trees: &[CatboostTree], bias: Bias) -> Result<(Vec<f64>, usize), ModelError> {
    let mut bias = match bias {
        Bias::One(bias) => vec![bias],
        Bias::Several(bias) => bias,
    };
    let by_trees = trees
        .first()
        .and_then(|tree| tree.leaf_values.len().checked_shr(tree.splits.len() as u32));
    let outputs = by_trees.unwrap_or(bias.len());
    if !(1..=OUTPUTS_MAX).contains(&outputs) {
        return Err(ModelError(format!(
            "a leaf must have 1 to {OUTPUTS_MAX} values, but has {outputs}"
        )));
    }
    // Old versions have one bias for all.
    if bias.len() == 1 {
        bias = vec![bias[0]; outputs];
    }
    match bias.len() == outputs {
        true => Ok((bias, outputs)),
        false => Err(ModelError(format!(
            "scale_and_bias must have a bias for each of {outputs} outputs, but has {}",
            bias.len()
        ))),
    }
}

/// The classes that the file names, or else the values that they had in training, or else counts.
fn classes(params: Option<ClassParams>, count: usize) -> Result<OutputSpec, ModelError> {
    let params = params.unwrap_or_default();
    let values = match params.class_names.is_empty() {
        true => params.class_to_label,
        false => params.class_names,
    };
    // With more classes than training has seen, CatBoost's answer has a place for each.
    let declared = match params.classes_count {
        0 if values.is_empty() => count,
        0 => values.len(),
        declared => declared,
    };
    if declared != count || !(values.is_empty() || values.len() == count) {
        return Err(ModelError(format!(
            "it has sums for {count} classes, but was made for {declared}; train it with rows of each class"
        )));
    }
    if values.is_empty() {
        return Ok(numbered(count));
    }
    let labels = values.into_iter().map(|value| match value {
        serde_json::Value::String(text) => text,
        // Old versions write the whole number 1 as 1.0.
        value => match value.as_f64().filter(|number| number.fract() == 0.0) {
            Some(number) => format!("{number:.0}"),
            None => value.to_string(),
        },
    });
    Ok(OutputSpec::Classes {
        labels: labels.collect(),
        has_probabilities: true,
    })
}

/// Makes a tree whose nodes stand level by level. The last split is the root's, as it counts most in a
/// leaf's place.
fn tree_of(tree: CatboostTree, inputs: &[FloatFeature], outputs: usize) -> Result<Tree, String> {
    let depth = tree.splits.len();
    if depth > DEPTH_MAX {
        return Err(format!(
            "it must have at most {DEPTH_MAX} splits, but has {depth}"
        ));
    }
    let leaves = 1_usize << depth;
    if tree.leaf_values.len() != leaves * outputs {
        return Err(format!(
            "leaf_values must have {} entries, but has {}",
            leaves * outputs,
            tree.leaf_values.len()
        ));
    }
    let mut nodes = Vec::with_capacity(2 * leaves - 1);
    for split in tree.splits.iter().rev() {
        let (feature, threshold, nan_goes_left) = question(split, inputs)?;
        // As many as there are nodes above, and one more.
        for place in nodes.len()..2 * nodes.len() + 1 {
            nodes.push(Node {
                kind: NodeKind::Split {
                    feature,
                    test: Test::AtMost(threshold),
                    missing: Missing::Nan,
                    default_left: nan_goes_left,
                    left: 2 * place + 1,
                    right: 2 * place + 2,
                },
                cover: f32::NAN,
            });
        }
    }
    for leaf in 0..leaves {
        nodes.push(Node {
            kind: NodeKind::Leaf(leaf),
            cover: tree.leaf_weights.get(leaf).copied().unwrap_or(f32::NAN),
        });
    }
    for place in (0..leaves - 1).rev() {
        nodes[place].cover = nodes[2 * place + 1].cover + nodes[2 * place + 2].cover;
    }
    Ok(Tree {
        nodes,
        values: tree.leaf_values,
        leaf_width: outputs,
        ..Tree::default()
    })
}

/// A split's feature, the border above which a value goes right, and whether NaN goes left.
fn question(split: &SplitDocument, inputs: &[FloatFeature]) -> Result<(usize, f64, bool), String> {
    let (Some(feature), Some(border)) = (split.float_feature_index, split.border) else {
        return Err("a split must have a float_feature_index and a border".to_owned());
    };
    let input = inputs
        .get(feature)
        .ok_or_else(|| format!("it splits on float feature {feature} of {}", inputs.len()))?;
    // NaN becomes an infinity if training has seen it; otherwise no comparison with it is true.
    let nan_goes_left = match input.nan_value_treatment.as_str() {
        "AsTrue" => !input.has_nans,
        "AsFalse" | "AsIs" => true,
        other => {
            return Err(format!(
                "nan_value_treatment must be AsIs, AsFalse or AsTrue, but is {other:?}"
            ));
        }
    };
    Ok((feature, f64::from(border), nan_goes_left))
}

#[cfg(test)]
mod tests;
