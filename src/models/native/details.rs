//! The output of `lanekeeper inspect` for a file of our own format.

use serde_json::json;

use super::features::{FeatureDocument, KindDocument};
use super::{ExpectedDocument, NativeDocument};
use crate::models::Model as _;
use crate::models::format::{self, Details};
use crate::models::pipeline::PipelineModel;

/// How many features, classes and numbers of a list a person is shown.
const SHOWN: usize = 50;

/// How many labels of a category.
const LABELS_SHOWN: usize = 10;

pub(super) fn of(document: &NativeDocument, model: &PipelineModel) -> Details {
    Details {
        name: document.name.clone(),
        lines: lines(document, model),
        json: json(document, model),
    }
}

fn json(document: &NativeDocument, model: &PipelineModel) -> serde_json::Value {
    let features = model.signature.features.iter().zip(&document.features);
    let features = features.map(|(feature, stored)| {
        let mut feature = format::feature_json(feature);
        feature["range"] = json!(stored.range);
        feature
    });
    let parts: serde_json::Map<_, _> = model
        .parts()
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count.into()))
        .collect();
    json!({
        "name": document.name,
        "algorithm": document.algorithm,
        "parameters": document.parameters,
        "features": features.collect::<Vec<_>>(),
        "classes": document.classes,
        "scores": document.scores,
        "training": document.training,
        "trial": document.trial,
        "shape": parts,
        "created": document.created,
        "format_version": document.format_version,
        "lanekeeper_version": document.lanekeeper_version,
        "checksum": document.checksum,
    })
}

/// What a feature takes, and what was seen of it.
fn described(feature: &FeatureDocument) -> String {
    let kind = match &feature.kind {
        KindDocument::Number => "number".to_owned(),
        KindDocument::WholeNumber => "whole number".to_owned(),
        KindDocument::YesNo => "yes or no".to_owned(),
        KindDocument::Moment(_) => "date or time".to_owned(),
        KindDocument::Category {
            labels,
            takes_others,
        } => {
            let shown: Vec<&str> = labels
                .iter()
                .take(LABELS_SHOWN)
                .map(String::as_str)
                .collect();
            let more = match labels.len().saturating_sub(LABELS_SHOWN) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let others = if *takes_others { ", or another" } else { "" };
            format!("one of {}{more}{others}", shown.join(", "))
        }
    };
    let is_number = matches!(
        feature.kind,
        KindDocument::Number | KindDocument::WholeNumber
    );
    let range = match feature.range.filter(|_| is_number) {
        Some([low, high]) => format!(", {low} to {high} seen"),
        None => String::new(),
    };
    let missing = if feature.may_be_missing {
        ", may be missing"
    } else {
        ""
    };
    format!("{}: {kind}{range}{missing}", feature.name)
}

fn lines(document: &NativeDocument, model: &PipelineModel) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut line = |what: &'static str, value: String| lines.push((what, value));
    line("algorithm", document.algorithm.clone());
    line("parameters", pairs(&document.parameters));
    let parts = model.parts();
    let parts: Vec<String> = parts
        .iter()
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    line("consists of", parts.join(", "));
    let training = document.training.as_ref();
    if let Some(training) = training {
        line("trained on", format!("{} rows", training.rows));
    }
    for (index, feature) in document.features.iter().take(SHOWN).enumerate() {
        let importances = training.and_then(|training| training.importances.as_ref());
        let importance = importances.and_then(|all| all.get(index));
        let importance = importance.map_or(String::new(), |fall| format!(", importance {fall:.3}"));
        line(
            if index == 0 { "features" } else { "" },
            format!("{}{importance}", described(feature)),
        );
    }
    if document.features.len() > SHOWN {
        line("", format!("and {} more", document.features.len() - SHOWN));
    }
    for (index, class) in document.classes.iter().take(SHOWN).enumerate() {
        let count = training.and_then(|training| training.class_counts.get(index));
        let rows = count.map_or(String::new(), |count| format!(": {count} rows"));
        line(
            if index == 0 { "classes" } else { "" },
            format!("{class}{rows}"),
        );
    }
    if document.classes.len() > SHOWN {
        line("", format!("and {} more", document.classes.len() - SHOWN));
    }
    for (index, (score, mean)) in document.scores.iter().enumerate() {
        let spread = training.and_then(|training| training.score_spread.get(score));
        let baseline = training.and_then(|training| training.baseline.get(score));
        let spread = spread.map_or(String::new(), |spread| format!(" ± {spread:.3}"));
        let baseline = baseline.map_or(String::new(), |score| format!(", baseline {score:.3}"));
        let value = format!("{score} {mean:.3}{spread}{baseline}");
        line(if index == 0 { "scores" } else { "" }, value);
    }
    let expected = match &document.trial.expected {
        ExpectedDocument::Label(label) => label.clone(),
        ExpectedDocument::Number(number) => number.to_string(),
    };
    let row = model.signature.json_row(&document.trial_row());
    line("trial", format!("{} gives {expected}", shortened(row)));
    line("created", document.created.clone());
    line(
        "versions",
        format!(
            "format {}, lanekeeper {}",
            document.format_version, document.lanekeeper_version
        ),
    );
    line("checksum", document.checksum.clone());
    lines
}

/// A long text, cut.
fn shortened(text: String) -> String {
    match text.char_indices().nth(SHOWN * 10) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Names and values in one line, long lists truncated.
fn pairs(values: &std::collections::BTreeMap<String, serde_json::Value>) -> String {
    let pair = |(name, value): (&String, &serde_json::Value)| match value {
        serde_json::Value::Array(items) if items.len() > SHOWN => {
            format!("{name} ({} numbers)", items.len())
        }
        serde_json::Value::String(text) => format!("{name} {text}"),
        serde_json::Value::Null => format!("{name} none"),
        other => format!("{name} {other}"),
    };
    values.iter().map(pair).collect::<Vec<_>>().join(", ")
}
