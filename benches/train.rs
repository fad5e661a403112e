//! How long do training and predicting take, compared with scikit-learn's same algorithm on the same table?
//!
//! One thread each, 10,000 rows of 10 features, medians of five runs. If `python3` (or
//! `LANEKEEPER_BENCH_PYTHON`) has scikit-learn, `train_peer.py` measures it in the same run.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::Command;
use std::time::Duration;

use lanekeeper::models::Rows;
use lanekeeper::models::estimator::{self, EstimatorKind, Targets};
use lanekeeper::platform::clock::instant;

const ROWS: usize = 10_000;
const FEATURES: usize = 10;
const ROUNDS: usize = 5;

/// Algorithms whose defaults differ from scikit-learn's, and the parameters that make them alike.
const CASES: [(&str, &[(&str, &str)]); 6] = [
    ("random-forest-classifier", &[("n_trees", "20")]),
    ("random-forest-regressor", &[("n_trees", "20"), ("m", "10")]),
    ("knn-classifier", &[]),
    ("logistic-regression", &[("alpha", "1")]),
    ("linear-regression", &[]),
    (
        "xgb-regressor",
        &[("n_estimators", "20"), ("max_depth", "3")],
    ),
];

fn table() -> (Rows, Targets, Targets) {
    let mut seed = 7u64;
    let mut next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    let values: Vec<f64> = (0..ROWS * FEATURES).map(|_| next() * 10.0).collect();
    let numbers: Vec<f64> = values
        .chunks(FEATURES)
        .map(|row| row[0] * 2.0 + row[1] * row[2] / 4.0 - row[3] + next())
        .collect();
    let class = |number: &f64| u32::from(*number > 8.0) + u32::from(*number > 14.0);
    let classes = Targets::Classes {
        indices: numbers.iter().map(class).collect(),
        classes: 3,
    };
    let rows = Rows::new(values, FEATURES).unwrap();
    (rows, classes, Targets::Numbers(numbers))
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// Measures scikit-learn: milliseconds to train and to predict, by algorithm.
fn peer(rows: &Rows, numbers: &Targets, classes: &Targets) -> HashMap<String, (f64, f64)> {
    let python = std::env::var("LANEKEEPER_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let (Targets::Numbers(numbers), Targets::Classes { indices, .. }) = (numbers, classes) else {
        return HashMap::new();
    };
    let mut csv = String::new();
    for ((row, number), class) in rows.iter().zip(numbers).zip(indices) {
        for value in row {
            write!(csv, "{value},").unwrap();
        }
        writeln!(csv, "{number},{class}").unwrap();
    }
    let path = std::env::temp_dir().join(format!("lanekeeper-train-{}.csv", std::process::id()));
    std::fs::write(&path, csv).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/train_peer.py");
    let output = Command::new(python).arg(script).arg(&path).output();
    std::fs::remove_file(&path).unwrap();
    let text = output.map_or(String::new(), |output| {
        String::from_utf8_lossy(&output.stdout).into_owned()
    });
    let line = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        Some((
            name,
            (words.next()?.parse().ok()?, words.next()?.parse().ok()?),
        ))
    };
    text.lines().filter_map(line).collect()
}

fn main() {
    let (rows, classes, numbers) = table();
    let peer = peer(&rows, &numbers, &classes);
    if peer.is_empty() {
        println!("python3 has no scikit-learn: lanekeeper alone");
    }
    println!(
        "train: {ROWS} rows of {FEATURES} features, one thread, milliseconds (medians of {ROUNDS})"
    );
    println!(
        "{:<26} {:>9} {:>9} {:>7} {:>9} {:>9} {:>7}",
        "algorithm", "train", "sklearn", "ratio", "predict", "sklearn", "ratio"
    );
    for (name, parameters) in CASES {
        let algorithm = estimator::find(name).unwrap();
        let targets = match algorithm.task {
            EstimatorKind::Classification => &classes,
            EstimatorKind::Regression => &numbers,
        };
        let parameters: Vec<(String, String)> = parameters
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let (mut trained, mut predicted) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let started = instant();
            let fitted = algorithm.fit(&rows, targets, &parameters, Some(1)).unwrap();
            trained.push(started.elapsed());
            let started = instant();
            black_box(fitted.estimator.predict(&rows).unwrap());
            predicted.push(started.elapsed());
        }
        let (train, predict) = (median(trained), median(predicted));
        let other = |time: fn(&(f64, f64)) -> f64, own: f64| match peer.get(name).map(time) {
            Some(other) => format!("{other:>9.1} {:>7.2}", other / own),
            None => format!("{:>9} {:>7}", "–", "–"),
        };
        println!(
            "{name:<26} {train:>9.1} {} {predict:>9.1} {}",
            other(|times| times.0, train),
            other(|times| times.1, predict),
        );
    }
}
