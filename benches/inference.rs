//! What a prediction costs a worker: rows/s of decode + predict + encode together and alone, beside
//! smartcore's own `predict` of the same forest in the same run; and rows/s of every algorithm.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper::config::ModelRequest;
use lanekeeper::lanes::memory_budget::{Budget, Charge};
use lanekeeper::models::compute;
use lanekeeper::models::estimator::{ALGORITHMS, EstimatorKind, ForestClassifier, Matrix, Targets};
use lanekeeper::models::{AnswerSpec, Files, ModelSource, Output, Rows};
use lanekeeper::platform::clock::instant;
use lanekeeper::protocol::{Predicted, instances};

const TIME: Duration = Duration::from_millis(250);

/// Calls `work` for a while and returns rows a second.
fn rate(rows: usize, mut work: impl FnMut()) -> f64 {
    for _ in 0..20 {
        work();
    }
    let (started, mut calls) = (instant(), 0u32);
    while started.elapsed() < TIME {
        for _ in 0..8 {
            work();
        }
        calls += 8;
    }
    rows as f64 * f64::from(calls) / started.elapsed().as_secs_f64()
}

/// Rows that the algorithms are trained on, and features of each.
const TRAINED_ROWS: usize = 1000;
const FEATURES: usize = 10;

/// Features that are whole numbers from 0 to 9, which every algorithm accepts, and targets.
fn table() -> (Rows, Targets, Targets) {
    let mut seed = 7u64;
    let mut next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((seed >> 33) % 10) as f64
    };
    let values: Vec<f64> = (0..TRAINED_ROWS * FEATURES).map(|_| next()).collect();
    let numbers: Vec<f64> = values
        .chunks(FEATURES)
        .map(|row| row[0] * 2.0 + row[1] * row[2] / 4.0 - row[3])
        .collect();
    let class = |number: &f64| u32::from(*number > 8.0) + u32::from(*number > 14.0);
    let targets = Targets::Classes {
        indices: numbers.iter().map(class).collect(),
        classes: 3,
    };
    let rows = Rows::new(values, FEATURES).unwrap();
    (rows, targets, Targets::Numbers(numbers))
}

fn every_algorithm() {
    let (rows, classes, numbers) = table();
    println!(
        "every algorithm with its defaults, trained on {TRAINED_ROWS} rows of {FEATURES} features, one thread, thousands of rows/s"
    );
    println!("{:<26} {:>9} {:>9} {:>9}", "rows at a time", 1, 16, 256);
    for algorithm in &ALGORITHMS {
        let targets = match algorithm.task {
            EstimatorKind::Classification => &classes,
            EstimatorKind::Regression => &numbers,
        };
        let fitted = algorithm.fit(&rows, targets, &[], Some(1)).unwrap();
        let rates = [1, 16, 256].map(|count| {
            let some = rows.first(count);
            let predicted = rate(count, || {
                drop(black_box(
                    fitted.estimator.predict(black_box(&some)).unwrap(),
                ));
            });
            format!("{:>9.1}", predicted / 1e3)
        });
        println!("{:<26} {}", algorithm.name, rates.join(" "));
    }
}

fn main() {
    every_algorithm();
    let loaded = Files.load(&ModelRequest::default()).unwrap();
    let model = loaded.model.as_ref();
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../src/models/embedded.json")).unwrap();
    let forest: ForestClassifier = serde_json::from_value(file["estimator"].clone()).unwrap();
    let budget = Arc::new(Budget::new(1 << 30, 0));
    println!("inference: the embedded forest of 100 trees, one thread, thousands of rows/s");
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>9} {:>11} {:>17}",
        "rows", "whole", "decode", "predict", "encode", "smartcore", "predict/smartcore"
    );
    for count in [1, 16, 256] {
        let row = [5.9, 3.0, 5.1, 1.8];
        let rows = Rows::new(row.repeat(count), 4).unwrap();
        let body = serde_json::json!({"instances": vec![row; count]})
            .to_string()
            .into_bytes();
        let output = compute::predict(model, &rows).unwrap();
        let matrix = Matrix::new(count, 4, row.repeat(count), false).unwrap();
        let signature = model.signature();
        let decode_body = || {
            let mut charge = Charge::new(&budget);
            instances::decode(black_box(&body), signature, count, &mut charge).unwrap()
        };
        let encode_output = |output: &Output| {
            let mut charge = Charge::new(&budget);
            let answer = Predicted {
                request_id: "id",
                version: "1",
                answer: AnswerSpec::of_labels(&signature.output),
                name: &loaded.name,
                signature,
                output: black_box(output),
                rows: count,
                raw: None,
            };
            instances::encode(&answer, &mut charge).unwrap()
        };
        let whole = rate(count, || {
            let rows = decode_body();
            let output = compute::predict(model, &rows).unwrap();
            black_box(encode_output(&output));
        });
        let decode = rate(count, || drop(black_box(decode_body())));
        let model_only = rate(count, || {
            drop(black_box(
                compute::predict(model, black_box(&rows)).unwrap(),
            ))
        });
        let encode = rate(count, || drop(black_box(encode_output(&output))));
        let smartcore = rate(count, || {
            drop(black_box(forest.predict(black_box(&matrix)).unwrap()))
        });
        println!(
            "{count:>6} {:>9.0} {:>9.0} {:>9.0} {:>9.0} {:>11.0} {:>17.2}",
            whole / 1e3,
            decode / 1e3,
            model_only / 1e3,
            encode / 1e3,
            smartcore / 1e3,
            model_only / smartcore
        );
    }
}
