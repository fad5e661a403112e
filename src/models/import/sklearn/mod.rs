//! scikit-learn's models, read as data: pickles (`.pkl`, `.joblib`) and skops files of versions 1.3 to
//! 1.9. Nothing in a file is run; estimators that are not known are refused by name.
//!
//! A pipeline becomes steps and a model behind them, and the features are the columns that it was
//! fitted with: `compiler` follows each through the steps, so that the signature says which are
//! text, which may be missing and which labels are known.

mod boosters;
mod classes;
mod compiler;
mod compose;
mod encoders;
mod hist;
mod linear;
mod scalers;
mod selectors;
mod table;
mod trees;
mod view;

use self::compiler::PipelineCompiler;
use self::view::{ReadBudget, View};
use super::features;
use super::python::{Objects, Value, packed, pickle, skops};
use crate::config::ModelRequest;
use crate::models::format::Format;
use crate::models::pipeline::PipelineModel;
use crate::models::{AnswerSpec, Exactness, Loaded, ModelError, Signature};

/// The versions of scikit-learn whose answers the tests hold.
const VERSIONS: ((u32, u32), (u32, u32)) = ((1, 3), (1, 9));

/// Pickles, plain or compressed.
#[derive(Debug, Clone, Copy)]
pub struct SklearnPickle;

impl Format for SklearnPickle {
    fn recognises(&self, head: &[u8]) -> bool {
        pickle::is_pickle(head) || packed::is_compressed_pickle(head)
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let bytes = packed::unpacked(bytes)?;
        let (objects, root) = pickle::read(&bytes)?;
        load(&objects, root, bytes.len(), request)
    }
}

/// skops files.
#[derive(Debug, Clone, Copy)]
pub struct SklearnSkops;

impl Format for SklearnSkops {
    fn recognises(&self, head: &[u8]) -> bool {
        skops::is_skops(head)
    }

    fn load(&self, bytes: &[u8], request: &ModelRequest) -> Result<Loaded, ModelError> {
        let (objects, root) = skops::read(bytes)?;
        load(&objects, root, bytes.len(), request)
    }
}

/// The estimators that are known, by what they do and how exact they are, as a table in Markdown.
pub fn estimators() -> String {
    let mut rows: Vec<(&str, &str, Vec<String>)> = Vec::new();
    for known in table::KNOWN {
        let does = match known.role {
            table::Role::Predictor(_) => "predicts",
            table::Role::Transformer(_) => "transforms",
        };
        let exactness = known.exactness.map_or("as its parts", Exactness::describe);
        let name = match known.package {
            "sklearn" => known.name.to_owned(),
            package => format!("{package}'s {}", known.name),
        };
        match rows
            .iter_mut()
            .find(|row| (row.0, row.1) == (does, exactness))
        {
            Some((_, _, names)) => names.push(name),
            None => rows.push((does, exactness, vec![name])),
        }
    }
    let mut table =
        "| | its answers and scikit-learn's are | estimators |\n|---|---|---|\n".to_owned();
    for (does, exactness, names) in rows {
        table += &format!("| {does} | {exactness} | {} |\n", names.join(", "));
    }
    table
}

fn load(
    objects: &Objects<'_>,
    root: Value,
    file_bytes: usize,
    request: &ModelRequest,
) -> Result<Loaded, ModelError> {
    let budget = ReadBudget::new(file_bytes);
    let view = View::new(objects, root, &budget);
    let names = inputs(view)?.unwrap_or_default();
    let (mut compiler, table) = PipelineCompiler::new(names, request.iterations);
    let last = compose::predict(&mut compiler, view, table)?;
    let mut notes = std::mem::take(&mut compiler.notes);
    let (version, note) = version(view);
    notes.extend(note);
    let exactness = Some(compiler.exactness);
    let mut features = compiler.finish();
    if let Some(own) = last.features {
        features = own;
    }
    if features.is_empty() {
        return Err("it does not say how many columns it was fitted with".into());
    }
    let output = last.model.signature().output.clone();
    let output = output.with_labels(&request.classes)?;
    let answer = match last.answer {
        Some(answer) => answer,
        None => AnswerSpec::of_labels(&output),
    };
    let sources = compose::sources(&last.steps, features.len());
    Ok(Loaded {
        name: String::new(),
        version: String::new(),
        algorithm: algorithm(view, version.as_deref()),
        answer,
        model: Box::new(PipelineModel {
            signature: Signature { features, output },
            steps: last.steps,
            sources,
            takes: last.takes,
            last: last.model,
            has_raw: last.has_raw,
        }),
        golden: Vec::new(),
        example: None,
        exactness,
        notes,
    })
}

/// What a person calls the model: the estimators on the way to the last, and the version that wrote
/// it.
fn algorithm(view: View<'_>, version: Option<&str>) -> String {
    let mut names = vec![view.name()];
    let mut current = view;
    while let Some(next) = inner(current) {
        names.push(next.name());
        current = next;
    }
    match version {
        Some(version) => format!("{} of scikit-learn {version}", names.join(" of ")),
        None => names.join(" of "),
    }
}

/// The estimator that predicts within another.
fn inner(view: View<'_>) -> Option<View<'_>> {
    let names = ["best_estimator_", "estimator_", "estimator"];
    let is_wrapper = view.name().ends_with("SearchCV") || view.name().contains("Threshold");
    let value = match (view.name(), is_wrapper) {
        ("Pipeline", _) => {
            let steps = view.objects.sequence(view.get("steps")?)?;
            *view.objects.sequence(*steps.last()?)?.last()?
        }
        (_, true) => names.iter().find_map(|name| view.get(name))?,
        _ => return None,
    };
    view.at(value).ok()
}

/// The names of the columns that a model was fitted with, or `f0`, `f1`, …; `None` if it does not say
/// how many there are.
fn inputs(view: View<'_>) -> Result<Option<Vec<String>>, ModelError> {
    if let Some(names) = view.texts_if_any("feature_names_in_")? {
        return Ok(Some(unique(names)?));
    }
    for name in ["n_features_in_", "_n_features_in", "_n_features"] {
        if view.get(name).is_some() {
            let count = view.count(name)?;
            if count > compiler::COLUMNS_MAX {
                return Err(view.wrong(name, "fewer"));
            }
            let features = features(Vec::new(), count, false)?;
            let names = features.into_iter().map(|feature| feature.name);
            return Ok(Some(names.collect()));
        }
    }
    // An estimator that holds others may leave it to them.
    for value in first_of(view) {
        let Ok(inner) = view.at(value) else { continue };
        if inner.class().is_none() {
            continue;
        }
        let own = inputs(inner)?;
        if own.is_some() {
            return Ok(own);
        }
        // Another step sees the same columns only behind one that changes none.
        if inner.name() != "FunctionTransformer" {
            break;
        }
    }
    Ok(None)
}

/// The estimators that see the columns first, in order.
fn first_of(view: View<'_>) -> Vec<Value> {
    let pairs = |name: &str| {
        let list = view.get(name).and_then(|list| view.objects.sequence(list));
        let second = |pair: &Value| Some(*view.objects.sequence(*pair)?.get(1)?);
        list.unwrap_or_default()
            .iter()
            .filter_map(second)
            .collect::<Vec<Value>>()
    };
    match view.name() {
        "Pipeline" => pairs("steps"),
        "FeatureUnion" => pairs("transformer_list"),
        _ => ["best_estimator_", "estimator_", "estimator"]
            .iter()
            .filter_map(|name| view.get(name))
            .take(1)
            .collect(),
    }
}

fn unique(names: Vec<String>) -> Result<Vec<String>, ModelError> {
    let mut seen = std::collections::HashSet::new();
    match names.iter().find(|name| !seen.insert(name.as_str())) {
        Some(name) => Err(ModelError(format!("the column {name:?} occurs twice"))),
        None => Ok(names),
    }
}

/// The version of scikit-learn that wrote a model, and a note if it is not one that is held by tests.
fn version(view: View<'_>) -> (Option<String>, Option<String>) {
    let mut current = Some(view);
    let mut depth = 0;
    while let Some(own) = current {
        if let Some(text) = own.text_if_any("_sklearn_version") {
            let (first, last) = VERSIONS;
            let is_covered =
                trees::version(own).is_some_and(|version| (first..=last).contains(&version));
            let note = (!is_covered).then(|| {
                format!(
                    "it was written by scikit-learn {text}; lanekeeper is tested with {}.{} to {}.{}",
                    first.0, first.1, last.0, last.1
                )
            });
            return (Some(text.to_owned()), note);
        }
        depth += 1;
        current = first_of(own)
            .into_iter()
            .find_map(|value| own.at(value).ok())
            .filter(|_| depth < 8);
    }
    (None, None)
}
