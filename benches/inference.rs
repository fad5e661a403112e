//! What a prediction costs a worker: rows/s through decode + predict + encode and each part, beside
//! smartcore's own `predict` on the same forest in the same run.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper::budget::{Budget, Charge};
use lanekeeper::clock::instant;
use lanekeeper::model::estimator::{ForestClassifier, Matrix};
use lanekeeper::model::{Files, ModelSource, Output, Rows};
use lanekeeper::predict;

const TIME: Duration = Duration::from_millis(700);

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

fn main() {
    let model = Files.load(None).unwrap();
    let file: serde_json::Value =
        serde_json::from_str(include_str!("../src/model/default.json")).unwrap();
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
        let output = predict::predict(model.as_ref(), &rows).unwrap();
        let matrix = Matrix::new(count, 4, row.repeat(count), false).unwrap();
        let schema = model.schema();
        let decode_body = || {
            let mut charge = Charge::new(&budget);
            predict::decode(black_box(&body), schema, count, &mut charge).unwrap()
        };
        let encode_output = |output: &Output| {
            let mut charge = Charge::new(&budget);
            predict::encode(schema, black_box(output), &mut charge).unwrap()
        };
        let whole = rate(count, || {
            let rows = decode_body();
            let output = predict::predict(model.as_ref(), &rows).unwrap();
            black_box(encode_output(&output));
        });
        let decode = rate(count, || drop(black_box(decode_body())));
        let model_only = rate(count, || {
            drop(black_box(
                predict::predict(model.as_ref(), black_box(&rows)).unwrap(),
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
