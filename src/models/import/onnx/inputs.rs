//! The graph's inputs, which are the features.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use super::compiler::{GraphCompiler, KnownTensor, TextUse};
use super::proto::{GraphNode, GraphProto, ValueInfo};
use super::twice;
use crate::models::forest::FEATURES_MAX;
use crate::models::graph::{Dim, GraphPlan, Kind, Shape, TensorSource};
use crate::models::signature::Unseen;
use crate::models::{Feature, FeatureKind, ModelError};

/// An input of the graph with the names of its features.
pub(super) struct GraphInput<'a> {
    pub(super) name: &'a str,
    pub(super) kind: Kind,
    pub(super) start: usize,
    pub(super) width: usize,
}

/// Reads the graph's inputs, which are the features. `names` is how many an operator named, 0 for none.
pub(super) fn read_inputs<'a>(
    compiler: &mut GraphCompiler,
    graph: &GraphProto<'a>,
    values: &mut HashMap<&'a str, KnownTensor>,
    names: usize,
) -> Result<Vec<GraphInput<'a>>, ModelError> {
    let constants: Result<BTreeSet<&str>, ModelError> = graph
        .initializers
        .iter()
        .map(|tensor| tensor.name())
        .collect();
    let constants = constants?;
    let mut columns: Vec<GraphInput<'a>> = Vec::new();
    let mut start = 0;
    let inputs: Vec<&ValueInfo<'a>> = graph
        .inputs
        .iter()
        .filter(|input| !constants.contains(input.name))
        .collect();
    compiler.plan = GraphPlan::new(inputs.len());
    let named = (names > 0 && inputs.len() == 1).then_some(names);
    for (slot, input) in inputs.iter().enumerate() {
        let wrong = |reason: &str| ModelError(format!("its input {:?} {reason}", input.name));
        let Some(kind) = input.kind else {
            return Err(wrong("is no tensor of numbers, truth values or texts"));
        };
        let width = match input.dims.as_deref() {
            Some([rows]) if rows.is_none_or(|rows| rows == 1) => None,
            Some([rows, width]) if rows.is_none_or(|rows| rows == 1) => match width {
                Some(width) => Some(*width),
                None => Some(named.or_else(|| open_width(graph, input.name)).ok_or_else(|| wrong("does not say how many columns it has; export it with a shape like [None, 10]"))?),
            },
            _ => return Err(wrong("is no table: it must have rows and columns, like [None, 10]")),
        };
        let shape = match width {
            Some(width) => Shape::new(vec![Dim::Rows(1), Dim::Fixed(width)])?,
            None => Shape::new(vec![Dim::Rows(1)])?,
        };
        let width = width.unwrap_or(1);
        if width == 0 || start + width > FEATURES_MAX {
            return Err(ModelError(format!(
                "a model must have 1 to {FEATURES_MAX} features"
            )));
        }
        compiler.text_uses.resize(start + width, TextUse::default());
        let features: Rc<[usize]> = (start..start + width).collect();
        let value = KnownTensor {
            shape,
            kind,
            source: TensorSource::Slot(slot),
            labels: None,
            features: (kind == Kind::Text).then_some(features),
            is_share: None,
            keys: None,
            sizes: None,
        };
        if values.insert(input.name, value).is_some() {
            return Err(twice(input.name));
        }
        columns.push(GraphInput {
            name: input.name,
            kind,
            start,
            width,
        });
        start += width;
    }
    match columns.is_empty() {
        true => Err("its graph has no inputs".into()),
        false => Ok(columns),
    }
}

/// How many columns an input has that does not say so, by the nodes that read it.
fn open_width(graph: &GraphProto<'_>, name: &str) -> Option<usize> {
    let readers = graph
        .nodes
        .iter()
        .filter(|node| node.inputs.first() == Some(&name));
    readers
        .filter_map(|node| width_of(graph, node).ok().flatten())
        .max()
}

/// How many columns a node must be given.
fn width_of(graph: &GraphProto<'_>, node: &GraphNode<'_>) -> Result<Option<usize>, ModelError> {
    let width = match node.operator {
        "Scaler" => node.floats("offset")?.len(),
        "Imputer" => node.floats("imputed_value_floats")?.len(),
        "LinearClassifier" => {
            let classes = node.floats("intercepts")?.len();
            node.floats("coefficients")?
                .len()
                .checked_div(classes)
                .unwrap_or(0)
        }
        "LinearRegressor" => {
            let targets = usize::try_from(node.int("targets", 1)?).unwrap_or(0);
            node.floats("coefficients")?
                .len()
                .checked_div(targets)
                .unwrap_or(0)
        }
        "SVMRegressor" | "SVMClassifier" => {
            let vectors: i64 = match node.operator {
                "SVMRegressor" => node.int("n_supports", 0)?,
                _ => node
                    .ints("vectors_per_class")?
                    .iter()
                    .fold(0, |sum, count| count.saturating_add(sum)),
            };
            let vectors = usize::try_from(vectors).unwrap_or(0);
            node.floats("support_vectors")?
                .len()
                .checked_div(vectors)
                .unwrap_or(0)
        }
        "TreeEnsembleClassifier" | "TreeEnsembleRegressor" | "TreeEnsemble" => {
            let most = node
                .ints("nodes_featureids")?
                .into_iter()
                .max()
                .unwrap_or(-1);
            usize::try_from(most.saturating_add(1)).unwrap_or(0)
        }
        "MatMul" | "Gemm" => {
            let weights = node.inputs.get(1).copied().unwrap_or_default();
            let tensor = graph
                .initializers
                .iter()
                .find(|tensor| tensor.name().is_ok_and(|own| own == weights));
            let dims = tensor
                .map(|tensor| tensor.dims())
                .transpose()?
                .unwrap_or_default();
            let is_turned = node.int("transB", 0)? != 0;
            let place = usize::from(is_turned);
            dims.get(place)
                .and_then(|dim| usize::try_from(*dim).ok())
                .unwrap_or(0)
        }
        _ => 0,
    };
    Ok(Some(width).filter(|width| *width > 0))
}

/// The features: one table has f0, f1, …; several inputs are columns with names.
pub(super) fn features(
    compiler: &GraphCompiler,
    columns: &[GraphInput<'_>],
) -> Result<Vec<Feature>, ModelError> {
    let mut features = Vec::new();
    for column in columns {
        for place in 0..column.width {
            let name = match (columns.len(), column.width) {
                (1, 1) | (2.., 1) => column.name.to_owned(),
                (1, _) => format!("f{place}"),
                _ => format!("{}_{place}", column.name),
            };
            let (kind, may_be_missing) = match column.kind {
                Kind::Text => (text_kind(compiler, column.start + place), false),
                Kind::I32 | Kind::I64 => (FeatureKind::WholeNumber, false),
                Kind::Bool => (FeatureKind::Number, false),
                Kind::F32 | Kind::F64 => (FeatureKind::Number, true),
            };
            features.push(Feature {
                name,
                kind,
                may_be_missing,
                may_be_infinite: column.kind.is_float(),
                written: None,
                range: None,
            });
        }
    }
    let mut seen = BTreeSet::new();
    match features
        .iter()
        .find(|feature| !seen.insert(feature.name.as_str()))
    {
        Some(feature) => Err(ModelError(format!(
            "two of its columns are called {:?}",
            feature.name
        ))),
        None => Ok(features),
    }
}

/// The codes of the labels of a feature that is text.
pub(super) fn text_codes(compiler: &GraphCompiler, feature: usize) -> Vec<f64> {
    let mut codes = compiler.text_uses[feature].codes.clone();
    codes.sort_by(f64::total_cmp);
    codes.dedup();
    codes
}

fn text_kind(compiler: &GraphCompiler, feature: usize) -> FeatureKind {
    let codes = text_codes(compiler, feature);
    let labels = codes.iter().filter_map(|code| compiler.texts.text(*code));
    let labels: Vec<String> = labels.map(str::to_owned).collect();
    FeatureKind::Category {
        labels: labels.into(),
        unseen: match compiler.text_uses[feature].refuses_unknown {
            true => Unseen::Refuse,
            false => Unseen::Other,
        },
    }
}
