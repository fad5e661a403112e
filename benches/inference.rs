//! What a prediction costs a worker: rows/s of decode + predict + encode together and alone; and rows/s
//! of a model of every algorithm.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use lanekeeper::config::ModelRequest;
use lanekeeper::lanes::memory_budget::{Budget, Charge};
use lanekeeper::models::compute;
use lanekeeper::models::native::features::{FeatureDocument, KindDocument};
use lanekeeper::models::{AnswerSpec, Files, JsonLabels, Model as _, ModelSource, Output, Rows};
use lanekeeper::platform::clock::instant;
use lanekeeper::protocol::{Predicted, instances};
use lanekeeper::train::algorithms::ALGORITHMS;
use lanekeeper::train::data::TrainingData;
use lanekeeper::train::{Recipe, Targets, Task};

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

/// Features that are whole numbers from 0 to 9, and targets.
fn data(task: Task) -> TrainingData {
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
    let (targets, classes) = match task {
        Task::Classification => (
            Targets::Classes {
                indices: numbers.iter().map(class).collect(),
                classes: 3,
            },
            ["a", "b", "c"].map(str::to_owned).to_vec(),
        ),
        Task::Regression => (Targets::Numbers(numbers), Vec::new()),
    };
    let feature = |place: usize| FeatureDocument {
        name: format!("f{place}"),
        kind: KindDocument::Number,
        may_be_missing: false,
        written: None,
        range: None,
    };
    TrainingData {
        features: (0..FEATURES).map(feature).collect(),
        rows: Rows::new(values, FEATURES).unwrap(),
        targets,
        classes,
        columns: Vec::new(),
        notes: Vec::new(),
    }
}

fn every_algorithm() {
    println!(
        "every algorithm with its defaults, trained on {TRAINED_ROWS} rows of {FEATURES} features, one thread, thousands of rows/s"
    );
    println!("{:<26} {:>9} {:>9} {:>9}", "rows at a time", 1, 16, 256);
    for algorithm in &ALGORITHMS {
        let data = data(algorithm.task);
        let recipe = Recipe {
            algorithm,
            parameters: Vec::new(),
            is_balanced: false,
            seed: 1,
            threads: 1,
        };
        let fitted = recipe.fit(&data, &data.rows, &data.targets).unwrap();
        let rates = [1, 16, 256].map(|count| {
            let some = data.rows.first(count);
            let predicted = rate(count, || {
                drop(black_box(fitted.model.predict(black_box(&some)).unwrap()));
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
    let budget = Arc::new(Budget::new(1 << 30, 0));
    println!("inference: the embedded forest of 100 trees, one thread, thousands of rows/s");
    println!(
        "{:>6} {:>9} {:>9} {:>9} {:>9}",
        "rows", "whole", "decode", "predict", "encode"
    );
    for count in [1, 16, 256] {
        let row = [5.9, 3.0, 5.1, 1.8];
        let rows = Rows::new(row.repeat(count), 4).unwrap();
        let body = serde_json::json!({"instances": vec![row; count]})
            .to_string()
            .into_bytes();
        let output = compute::predict(model, &rows).unwrap();
        let signature = model.signature();
        let labels = JsonLabels::new(signature.output.labels());
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
                labels: &labels,
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
        println!(
            "{count:>6} {:>9.0} {:>9.0} {:>9.0} {:>9.0}",
            whole / 1e3,
            decode / 1e3,
            model_only / 1e3,
            encode / 1e3,
        );
    }
}
