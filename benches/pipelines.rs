//! Pipelines: rows a second in batches, and the time of a single row, beside scikit-learn, and as exports
//! to ONNX beside onnxruntime.
//!
//! `cargo bench --bench pipelines` needs a Python with scikit-learn, pandas and joblib, and for ONNX with
//! skl2onnx and onnxruntime, named by `LANEKEEPER_BENCH_PYTHON` (or `python3`), which trains the models and
//! times their Python interfaces on the same rows, on one thread. lanekeeper's figures are of one thread too: from rows to
//! probabilities, with the texts coded, and from the body of a request to that of its answer.

// The report is the purpose, and a bench may panic.
#![allow(clippy::print_stdout, clippy::expect_used)]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper::config::ModelRequest;
use lanekeeper::drill::report::TextTable;
use lanekeeper::lanes::memory_budget::{Budget, Charge};
use lanekeeper::models::slot::ModelVersion;
use lanekeeper::models::{AnswerSpec, Output, Rows, compute, format};
use lanekeeper::platform::clock::instant;
use lanekeeper::protocol::{Predicted, instances};
use serde_json::{Value, json};

/// How long each figure is measured.
const WINDOW: Duration = Duration::from_secs(2);

/// Maximum number of rows in a batch.
const BATCH_MAX: usize = 10_000;

fn decode(version: &ModelVersion, body: &[u8], charge: &mut Charge) -> Rows {
    instances::decode(body, version.model().signature(), BATCH_MAX, charge).expect("rows")
}

fn predict(version: &ModelVersion, rows: &Rows) -> Output {
    let model = version.model();
    compute::check(model, rows).expect("rows that the model takes");
    compute::predict(model, rows).expect("an answer")
}

/// Decodes a body, predicts, and encodes the answer.
fn answer(version: &ModelVersion, body: &[u8]) -> usize {
    let signature = version.model().signature();
    let mut charge = charge();
    let rows = decode(version, body, &mut charge);
    let output = predict(version, &rows);
    let predicted = Predicted {
        request_id: "1",
        version: &version.loaded.version,
        answer: AnswerSpec::of_labels(&signature.output),
        name: version.name(),
        signature,
        labels: &version.labels,
        output: &output,
        rows: rows.len(),
        raw: None,
    };
    instances::encode(&predicted, &mut charge)
        .expect("an answer that fits")
        .len()
}

fn charge() -> Charge {
    Charge::new(&Arc::new(Budget::new(1 << 30, 0)))
}

/// The shortest time of a call, in seconds.
fn best(mut call: impl FnMut() -> usize) -> f64 {
    let (start, mut best) = (instant(), f64::INFINITY);
    while start.elapsed() < WINDOW {
        let begun = instant();
        std::hint::black_box(call());
        best = best.min(begun.elapsed().as_secs_f64());
    }
    best
}

fn main() {
    let folder = std::env::temp_dir().join(format!("lanekeeper-pipelines-{}", std::process::id()));
    if fs::create_dir_all(&folder).is_err() {
        eprintln!("cannot write to {}", folder.display());
        return;
    }
    let python = std::env::var("LANEKEEPER_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/pipelines.py");
    let printed = Command::new(&python).arg(script).arg(&folder).output();
    match printed {
        Ok(output) if output.status.success() => {
            eprint!("{}", String::from_utf8_lossy(&output.stderr));
            compare(&folder, &String::from_utf8_lossy(&output.stdout));
        }
        Ok(output) => eprintln!(
            "{python} has no scikit-learn: set LANEKEEPER_BENCH_PYTHON to one that has\n{}",
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => eprintln!("{python}: {error}"),
    }
    let _ = fs::remove_dir_all(&folder);
}

fn compare(folder: &Path, lines: &str) {
    let mut table = TextTable::new(&[
        "model",
        "contender",
        "rows/s",
        "one row, us",
        "times as fast",
    ]);
    for line in lines.lines() {
        let mut parts = line.split('\t');
        let mut part = || parts.next().unwrap_or_default();
        let (name, file, theirs) = (part(), part(), part());
        let numbers: Vec<f64> = parts.filter_map(|part| part.parse().ok()).collect();
        let text = fs::read_to_string(folder.join(format!("{name}.json"))).expect("rows");
        let given: Value = serde_json::from_str(&text).expect("JSON");
        let rows = given["rows"].as_array().expect("rows");
        let batch = json!({"instances": rows}).to_string();
        let single = json!({"instances": rows[..1]}).to_string();
        let version = match format::load(&ModelRequest::of_file(Some(folder.join(file)))) {
            Ok(loaded) => ModelVersion::new(Arc::new(loaded), 1),
            Err(error) => {
                println!("{file}: {error}");
                continue;
            }
        };
        let (their_rate, their_time) = (numbers[0], numbers[1]);
        let mut add = |contender: &str, rate: f64, time: f64| {
            let times = format!("{:.1} and {:.0}", rate / their_rate, their_time / time);
            let (rate, time) = (format!("{rate:.0}"), format!("{time:.2}"));
            table.row([file, contender, &rate, &time, &times]);
        };
        let many = decode(&version, batch.as_bytes(), &mut charge());
        let one = decode(&version, single.as_bytes(), &mut charge());
        let count = |output: Output| match output {
            Output::Classes { indices, .. } => indices.len(),
            Output::Numbers(numbers) => numbers.len(),
        };
        let rate = rows.len() as f64 / best(|| count(predict(&version, &many)));
        let time = 1e6 * best(|| count(predict(&version, &one)));
        add("lanekeeper, rows", rate, time);
        let rate = rows.len() as f64 / best(|| answer(&version, batch.as_bytes()));
        let time = 1e6 * best(|| answer(&version, single.as_bytes()));
        add("lanekeeper, JSON", rate, time);
        add(theirs, their_rate, their_time);
    }
    println!("{}", table.markdown());
}
