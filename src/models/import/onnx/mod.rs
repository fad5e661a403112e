//! ONNX: graphs of tables, as exporters of scikit-learn, XGBoost and LightGBM write them, and multi-layer
//! perceptrons.
//!
//! A file is read in place; each node becomes a step of a plan, with its shapes checked, so that running
//! it cannot read outside a tensor. Texts become codes while a request is decoded.

mod choices;
mod compiler;
mod elementwise;
mod fitted;
mod inputs;
mod operators;
mod outputs;
mod preparing;
mod products;
mod proto;
mod protobuf;
mod reductions;
mod sizes;
mod tensors;
#[cfg(test)]
mod tests;
mod tree_nodes;
mod trees;

use std::collections::{BTreeSet, HashMap};

use self::compiler::{GraphBudget, GraphCompiler, KnownTensor};
use self::inputs::{GraphInput, features, read_inputs, text_codes};
use self::operators::{ML, ML_OPSETS, ONNX, OPSETS, full_name};
use self::outputs::{meaning, outputs};
use self::proto::{GraphProto, ModelProto};
use crate::config::ModelRequest;
use crate::models::format::Format;
use crate::models::graph::{GraphModel, GraphPlan, Input, Kind, TensorSource, Texts, UNKNOWN_TEXT};
use crate::models::{
    AnswerSpec, Exactness, Feature, Loaded, ModelError, Output, Rows, Signature, compute,
};

pub use self::operators::operators;

/// How many numbers may be computed to find out which features may be missing.
const TRIED_WORK_MAX: usize = 1 << 26;

/// ONNX files.
#[derive(Debug, Clone, Copy)]
pub struct Onnx;

impl Format for Onnx {
    fn recognises(&self, head: &[u8]) -> bool {
        proto::is_model(head)
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let model = ModelProto::read(bytes)?;
        check_operators(&model)?;
        let version = |domain: &str| {
            let found = model.opsets.iter().find(|(own, _)| *own == domain);
            found.map(|(_, version)| *version)
        };
        let mut compiler = GraphCompiler {
            plan: GraphPlan::default(),
            texts: Texts::default(),
            opset: version(ONNX).unwrap_or(*OPSETS.end()),
            ml_opset: version(ML).unwrap_or(*ML_OPSETS.start()),
            text_uses: Vec::new(),
            exactness: Exactness::Bits,
            budget: GraphBudget::new(bytes.len()),
        };
        let graph = &model.graph;
        let mut values = HashMap::new();
        let inputs = read_inputs(&mut compiler, graph, &mut values, request.features.len())?;
        for tensor in &graph.initializers {
            let value = compiler.tensor(tensor)?;
            if values.insert(tensor.name()?, value).is_some() {
                return Err(twice(tensor.name()?));
            }
        }
        read_nodes(&mut compiler, graph, &mut values)?;
        finish(&model, compiler, inputs, &values, request)
    }
}

fn twice(name: &str) -> ModelError {
    ModelError(format!("two of its tensors are called {name:?}"))
}

/// Checks that all operators and their versions are known.
fn check_operators(model: &ModelProto<'_>) -> Result<(), ModelError> {
    for (domain, version) in &model.opsets {
        let known = match *domain {
            ONNX => OPSETS,
            ML => ML_OPSETS,
            _ => continue,
        };
        let name = if domain.is_empty() { "ai.onnx" } else { domain };
        if !known.contains(version) {
            return Err(ModelError(format!(
                "it uses version {version} of the operators of {name}, and lanekeeper knows {} to {}; export it with one of those (target_opset)",
                known.start(),
                known.end()
            )));
        }
    }
    let nodes = model.graph.nodes.iter();
    let unknown: BTreeSet<String> = nodes
        .filter(|node| operators::find(node).is_none())
        .map(|node| full_name(node.domain, node.operator))
        .collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => {
            let known = operators::KNOWN.iter();
            let known: BTreeSet<String> = known
                .map(|known| full_name(known.domain, known.name))
                .collect();
            let known: Vec<String> = known.into_iter().collect();
            let unknown: Vec<String> = unknown.into_iter().take(20).collect();
            Err(ModelError(format!(
                "it uses {}, which lanekeeper lacks; it has {}",
                unknown.join(", "),
                known.join(", ")
            )))
        }
    }
}

/// Reads the nodes, in their order.
fn read_nodes<'a>(
    compiler: &mut GraphCompiler,
    graph: &GraphProto<'a>,
    values: &mut HashMap<&'a str, KnownTensor>,
) -> Result<(), ModelError> {
    for node in &graph.nodes {
        let Some(operator) = operators::find(node) else {
            return Err(node.wrong("lanekeeper lacks it"));
        };
        let value = |name: &&str| match *name {
            "" => Ok(None),
            name => match values.get(name) {
                Some(value) => Ok(Some(value.clone())),
                None => {
                    Err(node.wrong(format!("it reads {name:?}, which no node before it makes")))
                }
            },
        };
        let inputs: Vec<Option<KnownTensor>> =
            node.inputs.iter().map(value).collect::<Result<_, _>>()?;
        let is_constant = inputs
            .iter()
            .flatten()
            .all(|input| matches!(input.source, TensorSource::Constant(_)));
        if !is_constant {
            compiler.be_no_more_exact_than(operator.exactness);
        }
        let made = match sizes::computed(compiler, node, &inputs)? {
            Some(made) => made,
            None => (operator.read)(compiler, node, &inputs)?,
        };
        for (name, value) in node.outputs.iter().zip(made) {
            compiler.keep(value.lists())?;
            if !name.is_empty() && values.insert(name, value).is_some() {
                return Err(twice(name));
            }
        }
    }
    Ok(())
}

fn finish<'a>(
    model: &ModelProto<'a>,
    mut compiler: GraphCompiler,
    columns: Vec<GraphInput<'a>>,
    values: &HashMap<&'a str, KnownTensor>,
    request: &ModelRequest,
) -> Result<Loaded, ModelError> {
    let made = outputs(&model.graph, values)?;
    let outputs = meaning(&made, &compiler.texts)?;
    compiler
        .plan
        .finish(made.iter().map(|one| one.value.source).collect());
    let features = features(&compiler, &columns)?;
    let input = |column: &GraphInput<'_>| {
        let codes = |feature: usize| {
            let mut codes = text_codes(&compiler, feature);
            codes.push(UNKNOWN_TEXT);
            codes
        };
        let own = column.start..column.start + column.width;
        Input {
            start: column.start,
            width: column.width,
            kind: column.kind,
            codes: if column.kind == Kind::Text {
                own.map(codes).collect()
            } else {
                Vec::new()
            },
        }
    };
    let inputs = columns.iter().map(input).collect();
    let output = outputs.spec.with_labels(&request.classes)?;
    let mut model_made = GraphModel {
        signature: Signature { features, output },
        inputs,
        plan: compiler.plan,
        meaning: outputs.meaning,
        raw: outputs.raw,
        precision: outputs.precision,
    };
    try_unusual_values(&mut model_made, compiler.budget.work());
    Ok(Loaded {
        name: String::new(),
        version: String::new(),
        algorithm: algorithm(model),
        answer: AnswerSpec::of_labels(&model_made.signature.output).in_precision(outputs.precision),
        model: Box::new(model_made),
        golden: Vec::new(),
        example: None,
        exactness: Some(compiler.exactness),
        notes: outputs.notes,
    })
}

/// Tries which features may be missing, or infinite: those with which a row of zeros still has an answer
/// that is finite. If that would take too long, none may be.
fn try_unusual_values(model: &mut GraphModel, work: usize) {
    for value in [f64::NAN, f64::INFINITY] {
        let takes = |feature: &Feature| match value.is_nan() {
            true => feature.may_be_missing,
            false => feature.may_be_infinite,
        };
        let features = &model.signature.features;
        let asked: Vec<usize> = (0..features.len())
            .filter(|place| takes(&features[*place]))
            .collect();
        let has_answer = |places: &[usize]| {
            let mut row = vec![0.0; features.len()];
            for place in places {
                row[*place] = value;
            }
            let width = row.len();
            let answer = Rows::new(row, width).and_then(|rows| compute::predict(model, &rows).ok());
            answer.is_some_and(|answer| match answer {
                Output::Numbers(numbers) => numbers.iter().all(|number| number.is_finite()),
                Output::Classes { probabilities, .. } => probabilities
                    .iter()
                    .flatten()
                    .all(|share| share.is_finite()),
            })
        };
        let is_short = asked.len().saturating_mul(work) <= TRIED_WORK_MAX;
        let taken: Vec<usize> = match has_answer(&asked) {
            true => asked.clone(),
            false if is_short => asked
                .iter()
                .copied()
                .filter(|place| has_answer(&[*place]))
                .collect(),
            false => Vec::new(),
        };
        for place in asked {
            let takes = taken.binary_search(&place).is_ok();
            let feature = &mut model.signature.features[place];
            match value.is_nan() {
                true => feature.may_be_missing = takes,
                false => feature.may_be_infinite = takes,
            }
        }
    }
}

/// What a person calls the model: its operators in order, each once, and what wrote it.
fn algorithm(model: &ModelProto<'_>) -> String {
    const NAMES_SHOWN: usize = 5;
    let mut names: Vec<&str> = Vec::new();
    for node in model.graph.nodes.iter().filter(|node| node.domain == ML) {
        if !names.contains(&node.operator) {
            names.push(node.operator);
        }
    }
    let more = names.len() > NAMES_SHOWN;
    names.truncate(NAMES_SHOWN);
    let mut text = match names.is_empty() {
        true => "graph of ONNX".to_owned(),
        false => format!("{} of ONNX", names.join(", ")),
    };
    if more {
        text = text.replacen(" of ONNX", ", … of ONNX", 1);
    }
    match model.producer.is_empty() {
        true => text,
        false => format!("{text} by {}", model.producer),
    }
}
