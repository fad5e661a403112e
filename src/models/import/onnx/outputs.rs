//! The graph's outputs: labels, probabilities, numbers.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::compiler::KnownTensor;
use super::proto::GraphProto;
use crate::models::forest::Precision;
use crate::models::graph::{ClassIndex, Kind, Meaning, Texts};
use crate::models::{ModelError, OutputSpec};

/// An output of the graph.
pub(super) struct GraphOutput<'a> {
    pub(super) name: &'a str,
    pub(super) value: KnownTensor,
    /// Numbers of a row.
    pub(super) width: usize,
}

/// The outputs that have numbers for each row.
pub(super) fn outputs<'a>(
    graph: &GraphProto<'a>,
    values: &HashMap<&'a str, KnownTensor>,
) -> Result<Vec<GraphOutput<'a>>, ModelError> {
    let made = graph.outputs.iter().map(|output| {
        let value = values.get(output.name);
        let value = value
            .ok_or_else(|| ModelError(format!("no node makes its output {:?}", output.name)))?;
        match value.shape.is_by_row() && value.shape.unit() > 0 {
            true => Ok(GraphOutput {
                name: output.name,
                value: value.clone(),
                width: value.shape.unit(),
            }),
            false => Err(ModelError(format!(
                "its output {:?} has the shape {}, and not numbers for each row",
                output.name, value.shape
            ))),
        }
    });
    made.collect()
}

/// What the outputs mean.
pub(super) struct Outputs {
    pub(super) meaning: Meaning,
    pub(super) spec: OutputSpec,
    pub(super) raw: Option<(usize, usize)>,
    pub(super) precision: Precision,
    pub(super) notes: Vec<String>,
}

fn precision_of(value: &KnownTensor) -> Precision {
    match value.kind {
        Kind::F32 => Precision::F32,
        _ => Precision::F64,
    }
}

/// Whether the numbers of an output are probabilities.
fn is_share(made: &GraphOutput<'_>) -> bool {
    made.value
        .is_share
        .unwrap_or_else(|| made.name.to_lowercase().contains("prob"))
}

/// Finds the label and the probabilities among the outputs, or the numbers.
pub(super) fn meaning(made: &[GraphOutput<'_>], texts: &Texts) -> Result<Outputs, ModelError> {
    let label = made
        .iter()
        .position(|one| one.width == 1 && one.value.labels.is_some() && !one.value.kind.is_float());
    let mut notes = Vec::new();
    let Some(label) = label else {
        let number = made.iter().position(|one| one.value.kind.is_float());
        let output = number.or_else(|| made.iter().position(|one| one.value.kind != Kind::Text));
        let output = output.ok_or("none of its outputs is numbers, or labels that are known")?;
        let others = made
            .iter()
            .enumerate()
            .filter(|(place, _)| *place != output);
        notes.extend(others.map(|(_, other)| format!("its output {:?} is not served", other.name)));
        let chosen = &made[output];
        return Ok(Outputs {
            meaning: Meaning::Numbers { output },
            spec: OutputSpec::Numbers {
                width: chosen.width,
            },
            raw: None,
            precision: precision_of(&chosen.value),
            notes,
        });
    };
    let own = &made[label].value;
    let mut labels: Vec<f64> = own
        .labels
        .iter()
        .flat_map(|labels| labels.iter().copied())
        .collect();
    let mut seen = HashSet::new();
    labels.retain(|label| seen.insert(*label as i64));
    let numbers: Vec<(usize, &GraphOutput<'_>)> = made
        .iter()
        .enumerate()
        .filter(|(_, one)| one.value.kind.is_float())
        .collect();
    let with_all = |one: &GraphOutput<'_>| one.width == labels.len() && one.width > 1;
    let shares = numbers
        .iter()
        .find(|(_, one)| with_all(one) && is_share(one));
    let raw = numbers
        .iter()
        .find(|(place, _)| shares.is_none_or(|(own, _)| own != place));
    if let Some((_, shares)) = shares
        && let Some(keys) = &shares.value.keys
    {
        let same: BTreeSet<i64> = keys.iter().map(|key| *key as i64).collect();
        if same != labels.iter().map(|label| *label as i64).collect() {
            return Err(ModelError(format!(
                "the labels of {:?} and of {:?} differ",
                shares.name, made[label].name
            )));
        }
        labels = keys.to_vec();
    }
    let served = [
        Some(label),
        shares.map(|(place, _)| *place),
        raw.map(|(place, _)| *place),
    ];
    for (place, other) in made.iter().enumerate() {
        if !served.contains(&Some(place)) {
            notes.push(format!("its output {:?} is not served", other.name));
        }
    }
    let name = |label: &f64| match own.kind {
        Kind::Text => texts.text(*label).map(str::to_owned),
        _ => Some((*label as i64).to_string()),
    };
    let names: Option<Vec<String>> = labels.iter().map(name).collect();
    let precision = shares
        .or(raw)
        .map_or(Precision::F64, |(_, one)| precision_of(&one.value));
    Ok(Outputs {
        meaning: Meaning::Classes {
            label,
            classes: ClassIndex::new(&labels),
            probabilities: shares.map(|(place, _)| *place),
        },
        spec: OutputSpec::Classes {
            labels: names.ok_or("a label has no text")?,
            has_probabilities: shares.is_some(),
        },
        raw: raw.map(|(place, one)| (*place, one.width)),
        precision,
        notes,
    })
}
