//! Exports to ONNX answer as onnxruntime does.
//!
//! `tests/data/models/sklearn-onnx/CASE` has a model, `rows.json`, and `expected.json` with onnxruntime's
//! answers under the names of its outputs, computed on one thread.

use std::fs;
use std::path::Path;

use lanekeeper::config::ModelRequest;
use lanekeeper::models::exactness::{LINK_ULPS, SINGLE_TOLERANCE};
use lanekeeper::models::{Exactness, Loaded, Output, Rows, compute, format};
use serde_json::Value;

use crate::corpus::data;
use crate::sklearn::{floats, label, row_values};

/// Whether a number is as close to onnxruntime's as the model says. Both have 32 bits unless the output
/// has 64.
fn allows(exactness: Exactness, is_f32: bool, expected: f64, given: f64) -> bool {
    if expected.is_nan() || given.is_nan() {
        return expected.is_nan() == given.is_nan();
    }
    let place = |number: f64| match is_f32 {
        true => i64::from((number as f32).to_bits() as i32),
        false => number.to_bits() as i64,
    };
    let ulps = place(expected).abs_diff(place(given));
    match exactness {
        Exactness::Bits => expected == given,
        Exactness::Link => expected == given || ulps <= LINK_ULPS,
        Exactness::Sums | Exactness::Single => {
            (expected - given).abs() <= SINGLE_TOLERANCE * expected.abs().max(1.0)
        }
    }
}

/// Compares numbers with those of an output.
fn compare_numbers(
    name: &str,
    output: &Value,
    given: &[f64],
    exactness: Exactness,
) -> Option<String> {
    let is_f32 = output["dtype"] == "float32" || output["values"]["dtype"] == "float32";
    let whole = || -> Option<Vec<f64>> {
        let values = output["values"].as_array()?.iter();
        let flat = values.flat_map(|value| match value.as_array() {
            Some(values) => values.clone(),
            None => vec![value.clone()],
        });
        flat.map(|value| value.as_f64()).collect()
    };
    let expected = floats(output)
        .or_else(|| floats(&output["values"]))
        .or_else(whole)
        .unwrap();
    if expected.len() != given.len() {
        return Some(format!(
            "{name}: {} numbers, not {}",
            given.len(),
            expected.len()
        ));
    }
    let mut pairs = expected.iter().zip(given).enumerate();
    let (place, (expected, given)) =
        pairs.find(|(_, (expected, given))| !allows(exactness, is_f32, **expected, **given))?;
    Some(format!(
        "{name}[{place}] is {given:?}, not {expected:?} ({exactness:?})"
    ))
}

/// Compares a loaded model with a case's outputs.
fn compare(loaded: &Loaded, rows: &Rows, outputs: &Value) -> Vec<String> {
    let model = loaded.model.as_ref();
    let exactness = loaded.exactness.expect("a graph says how exact it is");
    if let Err(fault) = compute::check(model, rows) {
        return vec![format!("a row is refused: {fault:?}")];
    }
    let output = match compute::predict(model, rows) {
        Ok(output) => output,
        Err(error) => return vec![format!("{error:?}")],
    };
    let outputs = outputs.as_object().unwrap();
    let own = outputs
        .iter()
        .filter(|(name, _)| !name.starts_with("sklearn_") && !name.starts_with("native_"));
    let (numbers, labels): (Vec<_>, Vec<_>) =
        own.partition(|(_, output)| output["bits"].is_array() || output["zipmap"] == true);
    let mut wrong = Vec::new();
    match &output {
        Output::Numbers(given) => {
            let (name, output) = numbers.first().or(labels.first()).unwrap();
            wrong.extend(compare_numbers(name, output, given, exactness));
        }
        Output::Classes {
            indices,
            probabilities,
        } => {
            let (name, output) = labels[0];
            let known = model.signature().output.labels();
            let expected = output["values"].as_array().unwrap().iter();
            let expected = expected.map(|value| label(value.get(0).unwrap_or(value)));
            for (row, (index, expected)) in indices.iter().zip(expected).enumerate() {
                if known[*index as usize] != expected {
                    wrong.push(format!(
                        "{name}[{row}] is {}, not {expected}",
                        known[*index as usize]
                    ));
                }
            }
            let raw = model.raw(rows);
            let given = probabilities.as_ref().or(raw.as_ref());
            match (numbers.first(), given) {
                (Some((name, output)), Some(given)) => {
                    wrong.extend(compare_numbers(name, output, given, exactness));
                }
                (None, None) => {}
                (expected, _) => wrong.push(format!("numbers: expected {}", expected.is_some())),
            }
        }
    }
    wrong
}

/// Checks a case: all rows at once, and each alone.
fn check_case(case: &Path) -> Vec<String> {
    let read = |name: &str| {
        let text = fs::read_to_string(case.join(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let name = case.file_name().unwrap().to_string_lossy();
    let told = |text: String| format!("{name}: {text}");
    let loaded = match format::load(&ModelRequest::of_file(Some(case.join("model.onnx")))) {
        Ok(loaded) => loaded,
        Err(error) => return vec![told(error.0)],
    };
    let table = read("rows.json");
    let values = table["rows"].as_array().unwrap().iter();
    let values: Result<Vec<Vec<f64>>, String> =
        values.map(|row| row_values(&loaded, row)).collect();
    let values = match values {
        Ok(values) => values,
        Err(error) => return vec![told(error)],
    };
    let rows = Rows::new(values.concat(), loaded.model.signature().width()).unwrap();
    let wrong = compare(&loaded, &rows, &read("expected.json")["outputs"]);
    let mut wrong: Vec<String> = wrong.into_iter().map(told).collect();
    let mut alone = Output::none(&loaded.model.signature().output);
    for row in 0..rows.len() {
        if let Ok(output) = compute::predict(loaded.model.as_ref(), &rows.part(row, 1)) {
            alone.append(output).unwrap();
        }
    }
    if compute::predict(loaded.model.as_ref(), &rows).is_ok_and(|together| together != alone) {
        wrong.push(told(
            "rows alone have other answers than together".to_owned(),
        ));
    }
    wrong
}

/// Checks all cases of a folder, which are at least so many.
pub(crate) fn check_all(folder: &Path, least: usize) {
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    let wrong: Vec<String> = cases.iter().flat_map(|case| check_case(case)).collect();
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(cases.len() >= least, "{} cases", cases.len());
}

#[test]
fn exports_to_onnx_answer_as_onnxruntime_does() {
    check_all(&data().join("sklearn-onnx"), 38);
}

#[test]
fn every_operator_that_is_served_answers_as_onnxruntime_does() {
    check_all(&data().join("onnx-operators"), 250);
}

#[test]
fn the_guide_lists_the_operators_that_the_code_knows() {
    let table = lanekeeper::models::import::onnx::operators();
    let guide = lanekeeper::guide::topic("onnx").unwrap().text;
    assert!(
        guide.contains(&table),
        "the guide must have this table:\n{table}"
    );
}

/// Cases of other seeds, or of another corpus: folders, separated by colons.
const FOLDERS: &str = "TEST_LANEKEEPER_ONNX_CASES";

#[test]
fn other_cases_answer_as_onnxruntime_does() {
    for folder in std::env::var(FOLDERS).unwrap_or_default().split(':') {
        if !folder.is_empty() {
            check_all(Path::new(folder), 1);
        }
    }
}
