//! The output of `lanekeeper inspect` for a file of our own format.

use bytesize::ByteSize;
use serde_json::json;

use super::{Document, EstimatorModel, ExpectedDocument};
use crate::models::format::Details;

/// How many features, classes and numbers of a list a person is shown.
const SHOWN: usize = 50;

pub(super) fn of(document: &Document, model: &EstimatorModel) -> Details {
    Details {
        name: document.name.clone(),
        lines: lines(document, model),
        json: json(document, model),
    }
}

fn json(document: &Document, model: &EstimatorModel) -> serde_json::Value {
    json!({
        "name": document.name,
        "algorithm": document.algorithm,
        "parameters": document.parameters,
        "features": document.features,
        "classes": document.classes,
        "scores": document.scores,
        "training": document.training,
        "trial": document.trial,
        "shape": model.estimator.shape(),
        "estimator_bytes": document.estimator.get().len(),
        "created": document.created,
        "format_version": document.format_version,
        "smartcore_version": document.smartcore_version,
        "lanekeeper_version": document.lanekeeper_version,
        "checksum": document.checksum,
    })
}

fn lines(document: &Document, model: &EstimatorModel) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut line = |what: &'static str, value: String| lines.push((what, value));
    line("algorithm", document.algorithm.clone());
    line("parameters", pairs(&document.parameters));
    line("consists of", pairs(&model.estimator.shape()));
    let training = document.training.as_ref();
    if let Some(training) = training {
        line("trained on", format!("{} rows", training.rows));
    }
    for (index, feature) in document.features.iter().take(SHOWN).enumerate() {
        let range = training.and_then(|training| training.feature_ranges.get(index));
        let seen = range.map_or(String::new(), |[low, high]| {
            format!(": {low} to {high} seen")
        });
        let importances = training.and_then(|training| training.importances.as_ref());
        let importance = importances.and_then(|all| all.get(index));
        let importance = importance.map_or(String::new(), |fall| format!(", importance {fall:.3}"));
        line(
            if index == 0 { "features" } else { "" },
            format!("{feature}{seen}{importance}"),
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
    let row: Vec<String> = document
        .trial
        .row
        .iter()
        .take(SHOWN)
        .map(f64::to_string)
        .collect();
    line("trial", format!("{} gives {expected}", row.join(", ")));
    let bytes = document.estimator.get().len() as u64;
    line("size", format!("{} of estimator", ByteSize::b(bytes)));
    line("created", document.created.clone());
    line(
        "versions",
        format!(
            "format {}, smartcore {}, lanekeeper {}",
            document.format_version, document.smartcore_version, document.lanekeeper_version
        ),
    );
    line("checksum", document.checksum.clone());
    lines
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
