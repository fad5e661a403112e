//! What the servers of other projects answer for a model file, recorded once and replayed.
//!
//! `tests/data/answers` holds requests that were sent to MLServer 1.7.1, to KServe 0.21's model server and
//! to `mlflow models serve` 3.17.2, with XGBoost 3.2.0 and LightGBM 4.7.0, each with its answer. KServe's
//! xgbserver and lgbserver are in no package registry: models with their `load` and `predict` stood in.
//! lanekeeper serves the same file and has to give the same values in the same shapes, wherever those
//! servers agree. The files in `models` there are what the corpus lacks: other objectives, and files of
//! scikit-learn's wrapper, some with training stopped early.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::recordings::{Message, ask, json};
use crate::support::Server;
use crate::train::{run, stderr};

/// Where another server answers differently and lanekeeper does not follow: the recording, which of its
/// exchanges, and why.
const OTHERS: [(&str, &[usize], &str); 5] = [
    (
        "mlserver-xgboost-early_stopping_sklearn",
        &[0, 1, 2],
        "MLServer loads a bare file as an XGBRegressor, which uses only the trees up to the best iteration; KServe and MLflow answer what Booster.predict does, with all trees",
    ),
    (
        "kserve-xgboost-sklearn_classifier",
        &[0, 1, 2, 3, 4],
        "KServe loads a file of scikit-learn's wrapper as a Booster and answers probabilities; MLServer and MLflow answer labels",
    ),
    (
        "kserve-xgboost-sklearn_multiclass",
        &[0, 1, 2, 3, 4],
        "KServe loads a file of scikit-learn's wrapper as a Booster and answers probabilities; MLServer and MLflow answer labels",
    ),
    (
        "kserve-xgboost-sklearn_regressor_stopped",
        &[0, 1, 2, 3, 4],
        "KServe loads a file of scikit-learn's wrapper as a Booster and uses all trees; MLServer and MLflow use those up to the best iteration",
    ),
    (
        "kserve-lightgbm-regression",
        &[2],
        "with a null among the values, KServe rounds V1's rows to 32 bits; its V2 and the others do not",
    ),
];

fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data")
}

fn get(server: &Server, path: &str) -> Value {
    let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n");
    json(&ask(server, request.as_bytes()).content)
}

fn post(server: &Server, path: &str, body: &Value) -> Message {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    ask(server, request.as_bytes())
}

/// Whether two numbers are the same one: in 32 bits if the library computes in them, otherwise within a
/// unit in the last place. A whole number is not a fraction.
fn is_same_number(expected: &Value, found: &Value, in_32_bits: bool) -> bool {
    let (Some(expected_number), Some(found_number)) = (expected.as_f64(), found.as_f64()) else {
        return false;
    };
    if expected.is_f64() != found.is_f64() {
        return false;
    }
    if in_32_bits {
        return (expected_number as f32).to_bits() == (found_number as f32).to_bits();
    }
    let place = expected_number.to_bits().abs_diff(found_number.to_bits());
    expected_number == found_number || place <= 1
}

/// Whether two values are nested alike and have the same numbers.
fn is_same(expected: &Value, found: &Value, in_32_bits: bool) -> bool {
    match (expected, found) {
        (Value::Array(expected), Value::Array(found)) => {
            let mut pairs = expected.iter().zip(found);
            expected.len() == found.len()
                && pairs.all(|(expected, found)| is_same(expected, found, in_32_bits))
        }
        _ => is_same_number(expected, found, in_32_bits),
    }
}

/// Whether an answer says what the recorded one says.
fn agrees(expected: &Value, found: &Value, in_32_bits: bool) -> bool {
    let Some(outputs) = expected.get("outputs").and_then(Value::as_array) else {
        return is_same(&expected["predictions"], &found["predictions"], in_32_bits);
    };
    let found = found["outputs"].as_array().map_or(&[][..], Vec::as_slice);
    let same = |(expected, found): (&Value, &Value)| {
        let fields = ["name", "datatype", "shape"];
        fields.iter().all(|field| expected[field] == found[field])
            && is_same(&expected["data"], &found["data"], in_32_bits)
    };
    outputs.len() == found.len() && outputs.iter().zip(found).all(same)
}

/// Checks that the metadata says of an answer's outputs what they are.
fn check_metadata(place: &str, metadata: &Value, answer: &Value) {
    for output in answer["outputs"].as_array().unwrap() {
        // KServe's name for the answer, which has no second dimension there if it is one value.
        let name = match output["name"].as_str().unwrap() {
            "output-0" => "predict",
            name => name,
        };
        let described = metadata["outputs"].as_array().unwrap();
        let described = described.iter().find(|one| one["name"] == name).unwrap();
        assert_eq!(described["datatype"], output["datatype"], "{place}");
        let width = described["shape"][1].as_u64().unwrap();
        match output["shape"].as_array().unwrap().as_slice() {
            [_] => assert_eq!(width, 1, "{place}"),
            [_, columns] => assert_eq!(columns.as_u64(), Some(width), "{place}"),
            shape => panic!("{place}: {shape:?}"),
        }
    }
}

/// All recordings by the file of their model, each with its name.
fn recordings() -> BTreeMap<String, Vec<(String, Value)>> {
    let mut all: BTreeMap<String, Vec<(String, Value)>> = BTreeMap::new();
    for entry in fs::read_dir(data().join("answers")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|own| own == "json") {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let recording: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let model = recording["model"].as_str().unwrap().to_owned();
            all.entry(model).or_default().push((name, recording));
        }
    }
    all
}

#[test]
fn a_model_file_gets_the_answer_that_its_platform_gave() {
    let mut differences = Vec::new();
    let mut count = 0;
    for (model, mut recordings) in recordings() {
        recordings.sort_by(|one, other| one.0.cmp(&other.0));
        // The name in the recorded paths is the case's: library and folder.
        let (_, case) = recordings[0].0.split_once('-').unwrap();
        let file = data().join(&model);
        let server = Server::real(&["--model", file.to_str().unwrap(), "--name", case]);
        server.wait_ready();
        let metadata = get(&server, &format!("/v2/models/{case}"));
        for (name, recording) in &recordings {
            let exchanges = recording["exchanges"].as_array().unwrap();
            for (index, exchange) in exchanges.iter().enumerate() {
                let path = exchange["path"].as_str().unwrap();
                let place = format!("{name}, {path}, {}", exchange["request"]);
                let found = post(&server, path, &exchange["request"]);
                let content = String::from_utf8_lossy(&found.content);
                if found.status != "200" {
                    differences.push(format!("{place}: {} {content}", found.status));
                    continue;
                }
                let answer = json(&found.content);
                if path.starts_with("/v2/") {
                    check_metadata(&place, &metadata, &answer);
                }
                let is_other = |(own, indices, _): &&(&str, &[usize], &str)| {
                    name == own && indices.contains(&index)
                };
                let expected = &exchange["answer"];
                let is_same = agrees(expected, &answer, case.starts_with("xgboost"));
                match (is_same, OTHERS.iter().find(is_other)) {
                    (false, None) => {
                        differences.push(format!("{place}: expected {expected}, found {content}"));
                    }
                    (true, Some((_, _, why))) => {
                        differences.push(format!("{place} agrees, though it is said: {why}"));
                    }
                    _ => {}
                }
                count += 1;
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
    assert!(count > 200, "{count}");
}

#[test]
fn each_answer_mode_gives_one_part_of_what_predict_has() {
    let file = data().join("models/xgboost/multi_softprob/model.json");
    let file = file.to_str().unwrap();
    let rows = serde_json::json!([
        [0.4, -9.3, 0.03, -2, null, 1, null, 1],
        [0, 0, 0, 0, 0, 0, 0, 0]
    ]);
    let numbers = |rows: &Value| -> Vec<Value> {
        let rows = rows.as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap().clone())
            .collect()
    };
    let tensor = |count: usize, data: Vec<Value>| serde_json::json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": [count, 8], "data": data}]});
    for (mode, datatype, width) in [
        ("label", "INT64", 1),
        ("probability", "FP32", 3),
        ("raw", "FP32", 3),
    ] {
        let server = Server::real(&["--model", file, "--name=m", "--answer", mode]);
        server.wait_ready();
        let all = serde_json::json!({"instances": rows, "parameters": {"raw": true}});
        let all = json(&post(&server, "/predict", &all).content);
        let expected = match mode {
            "label" => all["predictions"].as_array().unwrap().clone(),
            "raw" => numbers(&all["raw"]),
            _ => all["probabilities"]
                .as_array()
                .unwrap()
                .iter()
                .flat_map(|row| ["0", "1", "2"].map(|label| row[label].clone()))
                .collect(),
        };
        let v2 = post(&server, "/v2/models/m/infer", &tensor(2, numbers(&rows)));
        let output = &json(&v2.content)["outputs"][0];
        assert_eq!(output["datatype"], datatype, "{mode}");
        assert_eq!(output["shape"], serde_json::json!([2, width]), "{mode}");
        assert!(
            is_same(&Value::from(expected.clone()), &output["data"], true),
            "{mode}: {output}"
        );
        let metadata = get(&server, "/v2/models/m");
        assert_eq!(metadata["outputs"][0]["datatype"], datatype, "{mode}");
        let none = post(&server, "/v2/models/m/infer", &tensor(0, Vec::new()));
        assert_eq!(
            json(&none.content)["outputs"][0]["shape"],
            serde_json::json!([0, width]),
            "{mode}"
        );
        let instances = serde_json::json!({"instances": rows});
        let v1 = json(&post(&server, "/v1/models/m:predict", &instances).content);
        let found = match width {
            1 => v1["predictions"].clone(),
            _ => Value::from(numbers(&v1["predictions"])),
        };
        assert!(
            is_same(&Value::from(expected), &found, true),
            "{mode}: {v1}"
        );
        // The mode is for protocols with room for one answer.
        let plain = json(&post(&server, "/predict", &instances).content);
        assert!(plain["probabilities"].is_array() && plain["raw"].is_null());
    }
    let file = data().join("models/xgboost/reg_squarederror/model.json");
    let refused = run(&[
        "check",
        "--answer=probability",
        "--model",
        file.to_str().unwrap(),
    ]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("--answer probability needs a model with probabilities"));
}
