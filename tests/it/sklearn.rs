//! Models of scikit-learn, read without Python, answer as scikit-learn does.
//!
//! `tests/data/models/{sklearn-native,sklearn-more}/CASE` has model files, `rows.json`, and `expected.json` with
//! scikit-learn's own answers.

use std::fs;
use std::path::Path;

use lanekeeper::config::ModelRequest;
use lanekeeper::models::exactness::{LINK_ULPS, SUM_TOLERANCE};
use lanekeeper::models::{Exactness, FeatureKind, Loaded, Output, Rows, compute, format};
use serde_json::Value;

use crate::corpus::data;

/// How far numbers may be from scikit-learn's.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Tolerance {
    /// The same bits.
    Bits,
    /// This many units in the last place.
    Ulps(u64),
    /// This share of the number, and of 1.
    Relative(f64),
}

impl Tolerance {
    fn allows(self, expected: f64, given: f64) -> bool {
        if expected.is_nan() || given.is_nan() {
            return expected.is_nan() == given.is_nan();
        }
        match self {
            Tolerance::Bits => expected.to_bits() == given.to_bits() || expected == given,
            Tolerance::Ulps(ulps) => {
                let place = |number: f64| number.to_bits() as i64;
                expected == given || place(expected).abs_diff(place(given)) <= ulps
            }
            Tolerance::Relative(share) => {
                (expected - given).abs() <= share * expected.abs().max(1.0)
            }
        }
    }
}

/// The tolerances of sums and of what a link function makes of them, as the model says them.
fn tolerances(loaded: &Loaded) -> (Tolerance, Tolerance) {
    let exactness = loaded.exactness;
    match exactness.expect("a model of scikit-learn's says how exact it is") {
        Exactness::Bits => (Tolerance::Bits, Tolerance::Bits),
        Exactness::Link => (Tolerance::Bits, Tolerance::Ulps(LINK_ULPS)),
        Exactness::Sums | Exactness::Single => (
            Tolerance::Relative(SUM_TOLERANCE),
            Tolerance::Relative(SUM_TOLERANCE),
        ),
    }
}

/// The numbers of a row, as they are decoded from a request.
pub(crate) fn row_values(loaded: &Loaded, row: &Value) -> Result<Vec<f64>, String> {
    let features = &loaded.model.signature().features;
    let row = row.as_array().unwrap();
    assert_eq!(features.len(), row.len());
    let value = |(feature, value): (&lanekeeper::models::Feature, &Value)| {
        let kind = &feature.kind;
        let is_category = matches!(kind, FeatureKind::Category { .. });
        let number = match value {
            Value::Null => Some(f64::NAN),
            Value::String(text) if is_category => kind.code(text),
            Value::String(text) => text.parse().ok(),
            Value::Bool(bit) if is_category => kind.code(if *bit { "True" } else { "False" }),
            Value::Bool(bit) => Some(f64::from(u8::from(*bit))),
            value if is_category => value
                .as_f64()
                .and_then(|number| kind.code_of_number(number)),
            value => value.as_f64(),
        };
        number.ok_or_else(|| format!("{value} is refused for {:?}", feature.name))
    };
    features.iter().zip(row).map(value).collect()
}

pub(crate) fn floats(output: &Value) -> Option<Vec<f64>> {
    let bits = output["bits"].as_array()?;
    let number = |bits: &Value| {
        let text = bits.as_str().unwrap();
        let bits = u64::from_str_radix(text, 16).unwrap();
        match text.len() {
            8 => f64::from(f32::from_bits(bits as u32)),
            _ => f64::from_bits(bits),
        }
    };
    Some(bits.iter().map(number).collect())
}

pub(crate) fn label(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => match number.as_f64() {
            Some(whole) if whole.fract() == 0.0 && whole.abs() < 1e15 => format!("{whole:.0}"),
            _ => number.to_string(),
        },
        other => other.to_string(),
    }
}

/// Says where numbers differ from those expected.
fn difference(what: &str, expected: &[f64], given: &[f64], tolerance: Tolerance) -> Option<String> {
    if expected.len() != given.len() {
        return Some(format!(
            "{what}: {} numbers, not {}",
            given.len(),
            expected.len()
        ));
    }
    let mut pairs = expected.iter().zip(given).enumerate();
    let (place, (expected, given)) =
        pairs.find(|(_, (expected, given))| !tolerance.allows(**expected, **given))?;
    Some(format!(
        "{what}[{place}] is {given:?}, not {expected:?} ({tolerance:?})"
    ))
}

/// Compares a loaded model with the answers of a case.
pub(crate) fn compare(loaded: &Loaded, rows: &Rows, outputs: &Value) -> Vec<String> {
    let model = loaded.model.as_ref();
    if let Err(fault) = compute::check(model, rows) {
        return vec![format!("a row is refused: {fault:?}")];
    }
    let output = compute::predict(model, rows).map_err(|error| format!("{error:?}"));
    let output = match output {
        Ok(output) => output,
        Err(error) => return vec![error],
    };
    let (sums, links) = tolerances(loaded);
    let mut wrong = Vec::new();
    match &output {
        Output::Numbers(numbers) => {
            let expected = floats(&outputs["predict"]).unwrap();
            // A gain of precision on the way is none: the library answers in 32 bits.
            wrong.extend(difference("predict", &expected, numbers, links));
        }
        Output::Classes {
            indices,
            probabilities,
        } => {
            let labels = model.signature().output.labels();
            let expected: Vec<String> = match outputs["predict"]["values"].as_array() {
                Some(values) => values.iter().map(label).collect(),
                None => {
                    let numbers = floats(&outputs["predict"]).unwrap();
                    numbers
                        .iter()
                        .map(|number| format!("{number:.0}"))
                        .collect()
                }
            };
            for (row, (index, expected)) in indices.iter().zip(&expected).enumerate() {
                if labels[*index as usize] != *expected {
                    let given = &labels[*index as usize];
                    wrong.push(format!("predict[{row}] is {given}, not {expected}"));
                }
            }
            match (floats(&outputs["predict_proba"]), probabilities) {
                (Some(expected), Some(shares)) => {
                    wrong.extend(difference("predict_proba", &expected, shares, links));
                }
                (None, None) => {}
                (expected, _) => {
                    wrong.push(format!("probabilities: expected {}", expected.is_some()))
                }
            }
        }
    }
    // What the sums of this one start with comes of numpy's logarithm, whose last bit depends on numpy's
    // version and on the processor.
    let sums = match loaded.algorithm.contains("GradientBoostingClassifier")
        && !loaded.algorithm.contains("Hist")
    {
        true => Tolerance::Relative(1e-15),
        false => sums,
    };
    if let Some(expected) = floats(&outputs["decision_function"])
        && let Some(given) = model.raw(rows)
    {
        wrong.extend(difference("decision_function", &expected, &given, sums));
    }
    wrong
}

/// Checks a case; returns what is wrong, and the number of files.
fn check_case(case: &Path) -> (Vec<String>, usize) {
    let read = |name: &str| {
        let text = fs::read_to_string(case.join(name)).unwrap();
        serde_json::from_str::<Value>(&text).unwrap()
    };
    let truth = read("expected.json");
    let mut wrong = Vec::new();
    let mut count = 0;
    let name = case.file_name().unwrap().to_string_lossy();
    for file in truth["models"].as_array().unwrap() {
        let file = file.as_str().unwrap();
        let mut say = |text: String| wrong.push(format!("{name}/{file}: {text}"));
        count += 1;
        let loaded = format::load(&ModelRequest::of_file(Some(case.join(file))));
        if let Some(class) = truth["refused"].as_str() {
            match loaded {
                Err(error) if error.0.contains(class) => {}
                Err(error) => say(format!("the refusal does not name {class}: {error}")),
                Ok(_) => say(format!("{class} is not refused")),
            }
            continue;
        }
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                say(error.0);
                continue;
            }
        };
        let table = read("rows.json");
        let values = table["rows"].as_array().unwrap().iter();
        let values: Result<Vec<Vec<f64>>, String> =
            values.map(|row| row_values(&loaded, row)).collect();
        match values {
            Err(error) => say(error),
            Ok(values) => {
                let rows = Rows::new(values.concat(), loaded.model.signature().width()).unwrap();
                compare(&loaded, &rows, &truth["outputs"])
                    .into_iter()
                    .for_each(&mut say);
            }
        }
        for row in table["refused_rows"].as_array().into_iter().flatten() {
            let Ok(values) = row_values(&loaded, row) else {
                continue;
            };
            let rows = Rows::new(values, loaded.model.signature().width()).unwrap();
            if compute::check(loaded.model.as_ref(), &rows).is_ok() {
                say(format!("scikit-learn refuses {row}, and it is answered"));
            }
        }
    }
    (wrong, count)
}

/// Checks all cases of a folder, which are at least so many files.
pub(crate) fn check_all(folder: &Path, least: usize) {
    let mut files = 0;
    let mut wrong = Vec::new();
    let mut cases: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    cases.sort();
    for case in cases {
        let (own, count) = check_case(&case);
        wrong.extend(own);
        files += count;
    }
    assert!(
        wrong.is_empty(),
        "{} wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(files >= least, "{files} files");
}

#[test]
fn models_of_scikit_learn_answer_as_it_does() {
    check_all(&data().join("sklearn-native"), 50);
}

#[test]
fn every_estimator_that_is_served_answers_as_scikit_learn_does() {
    check_all(&data().join("sklearn-more"), 800);
}

#[test]
fn the_guide_lists_the_estimators_that_the_code_knows() {
    let table = lanekeeper::models::import::sklearn::estimators();
    let guide = lanekeeper::guide::topic("sklearn").unwrap().text;
    assert!(
        guide.contains(&table),
        "the guide must have this table:\n{table}"
    );
}

/// Cases of other seeds, or of another corpus: folders, separated by colons.
const FOLDERS: &str = "TEST_LANEKEEPER_SKLEARN_CASES";

#[test]
fn other_cases_answer_as_scikit_learn_does() {
    for folder in std::env::var(FOLDERS).unwrap_or_default().split(':') {
        if !folder.is_empty() {
            check_all(Path::new(folder), 1);
        }
    }
}
