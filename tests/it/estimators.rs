//! Algorithms beside scikit-learn's, on tables that are uncentred, unscaled, sparse or imbalanced, or
//! have a constant column. `tests/estimators/make_cases.py` has written the tables and its answers.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::train::{Folder, run, stderr, stdout};

const TABLES: [&str; 5] = ["uncentred", "unscaled", "sparse", "imbalanced", "constant"];

fn path(name: &str) -> String {
    format!(
        "{}/tests/data/estimators/{name}",
        env!("CARGO_MANIFEST_DIR")
    )
}

/// How far an answer may be, as a share of the larger of the answer and 1.
fn tolerance(algorithm: &str) -> f64 {
    match algorithm {
        "logistic-regression" | "lasso" | "elastic-net" => 1e-5,
        "linear-regression" | "ridge-regression" => 1e-6,
        _ => 1e-9,
    }
}

/// The answers of a model to the rows that it was trained on: probabilities, or numbers.
fn answers(table: &str, algorithm: &str, more: &[&str]) -> Vec<f64> {
    let folder = Folder::new("estimators");
    let out = folder.path("m.json");
    let is_classifier = algorithm.contains("classifier") || algorithm.contains("logistic");
    let (target, other) = match is_classifier {
        true => ("kind", "amount"),
        false => ("amount", "kind"),
    };
    let args = [
        "train",
        "--algorithm",
        algorithm,
        "--data",
        table,
        "--target",
        target,
    ];
    let rest = ["--exclude", other, "--out", &out, "--folds", "0"];
    let trained = run(&[&args[..], &rest, more].concat());
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    assert!(
        !stderr(&trained).contains("converged"),
        "{}",
        stderr(&trained)
    );
    let predicted = run(&["predict", "--model", &out, "--data", table]);
    assert_eq!(predicted.status.code(), Some(0), "{}", stderr(&predicted));
    let predicted = stdout(&predicted);
    let lines = predicted.lines().skip(1);
    lines
        .flat_map(|line| line.split(',').skip(usize::from(is_classifier)))
        .map(|cell| cell.parse().unwrap())
        .collect()
}

/// Compares with a file of cases; returns how many there were.
fn compare(table: &str, cases: &str) -> usize {
    let cases: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(cases).unwrap()).unwrap();
    let cases = cases["cases"].as_array().unwrap();
    for case in cases {
        let algorithm = case["algorithm"].as_str().unwrap();
        let mut more = Vec::new();
        for (name, value) in case["parameters"].as_object().unwrap() {
            let value = value.as_str().unwrap();
            match name.starts_with("--") {
                true => more.extend([name.clone(), value.to_owned()]),
                false => more.extend(["--param".to_owned(), format!("{name}={value}")]),
            }
        }
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        let own = answers(table, algorithm, &more);
        let expected = case["answers"].as_array().unwrap();
        assert_eq!(own.len(), expected.len(), "{algorithm}");
        for (row, (own, expected)) in own.iter().zip(expected).enumerate() {
            let expected = expected.as_f64().unwrap();
            let off = (own - expected).abs() / expected.abs().max(1.0);
            assert!(
                off <= tolerance(algorithm),
                "{table}: {algorithm} {more:?}: answer {row} is {own}, but scikit-learn's {expected}"
            );
        }
    }
    cases.len()
}

#[test]
fn answers_are_those_that_scikit_learn_gave() {
    let count: usize = TABLES
        .iter()
        .map(|name| {
            compare(
                &path(&format!("{name}.csv")),
                &path(&format!("{name}.json")),
            )
        })
        .sum();
    assert_eq!(count, 72);
}

/// Where `python3`, or `TEST_LANEKEEPER_PYTHON`, has scikit-learn, it answers anew.
#[test]
fn answers_are_those_that_scikit_learn_gives_now() {
    let python = std::env::var("TEST_LANEKEEPER_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let has_it = Command::new(&python)
        .args(["-c", "import sklearn"])
        .output();
    if !has_it.is_ok_and(|output| output.status.success()) {
        crate::support::skip("python3 has no scikit-learn");
        return;
    }
    let folder = Folder::new("estimators-now");
    let made = Command::new(&python)
        .args([&format!(
            "{}/tests/estimators/make_cases.py",
            env!("CARGO_MANIFEST_DIR")
        )])
        .arg(folder.path("cases"))
        .output()
        .unwrap();
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for name in TABLES {
        let file = |extension: &str| folder.path(&format!("cases/{name}.{extension}"));
        assert!(Path::new(&file("csv")).exists());
        compare(&file("csv"), &file("json"));
    }
}
