//! What do training and predicting a table cost, beside pandas and scikit-learn on the same table?
//!
//! 100,000 rows of 20 columns, of which 5 are text, one thread each: CPU seconds to train boosted trees
//! and a forest; then seconds and MiB to predict a million such rows from CSV to CSV. If `python3` (or
//! `LANEKEEPER_BENCH_PYTHON`) has pandas and scikit-learn, `train_peer.py` does the same, turn by turn.

#![allow(missing_docs, clippy::print_stdout, clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lanekeeper::platform::clock::instant;
use lanekeeper::train::Recipe;
use lanekeeper::train::algorithms::find;
use lanekeeper::train::data::{DataOptions, TrainingData};
use lanekeeper::train::table::{TableReader, TableShape};

const ROWS: usize = 100_000;
const PREDICTED_ROWS: usize = 1_000_000;
const NUMBERS: usize = 15;
const TEXTS: usize = 5;
const ROUNDS: usize = 3;

/// What is trained: the algorithm, its parameters, and what the peer calls it.
const CASES: [(&str, &[(&str, &str)]); 4] = [
    (
        "boosted-trees-classifier",
        &[("max_iter", "100"), ("n_iter_no_change", "0")],
    ),
    (
        "boosted-trees-regressor",
        &[("max_iter", "100"), ("n_iter_no_change", "0")],
    ),
    ("random-forest-classifier", &[("n_estimators", "10")]),
    (
        "random-forest-regressor",
        &[("n_estimators", "5"), ("max_features", "7")],
    ),
];

fn write_table(path: &Path, rows: usize) {
    let mut seed = 7u64;
    let mut next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    let mut text = String::new();
    let names = (0..NUMBERS).map(|column| format!("n{column}"));
    let names: Vec<String> = names
        .chain((0..TEXTS).map(|column| format!("t{column}")))
        .collect();
    writeln!(text, "{},kind,amount", names.join(",")).unwrap();
    for _ in 0..rows {
        let mut sum = 0.0;
        for column in 0..NUMBERS {
            let value = next() * 10.0;
            sum += value * (column % 4) as f64;
            write!(text, "{value:.4},").unwrap();
        }
        for column in 0..TEXTS {
            let label = (next() * (4 + 12 * column) as f64) as usize;
            sum += (label * 7 % 11) as f64;
            write!(text, "label_{label},").unwrap();
        }
        let amount = sum + 20.0 * next();
        let kind = if amount > 150.0 { "high" } else { "low" };
        writeln!(text, "{kind},{amount:.3}").unwrap();
    }
    std::fs::write(path, text).unwrap();
}

/// CPU seconds of this process.
fn cpu_seconds() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    now.tv_sec as f64 + now.tv_nsec as f64 / 1e9
}

fn train(table: &Path, name: &str, parameters: &[(&str, &str)]) -> f64 {
    let algorithm = find(name).unwrap();
    let shape = TableShape {
        delimiter: None,
        has_header: true,
        skipped_lines: 0,
    };
    let (target, other) = match name.contains("classifier") {
        true => ("kind", "amount"),
        false => ("amount", "kind"),
    };
    let options = DataOptions {
        target: target.to_owned(),
        exclude: vec![other.to_owned()],
        ..DataOptions::default()
    };
    let data = TrainingData::read(TableReader::open(table, &shape).unwrap(), &options).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let recipe = Recipe {
        algorithm,
        parameters: parameters.iter().map(own).collect(),
        is_balanced: false,
        seed: 1,
        threads: 1,
    };
    let started = cpu_seconds();
    drop(recipe.fit(&data, &data.rows, &data.targets).unwrap());
    cpu_seconds() - started
}

/// Runs a command on one core; its output goes to a file. Seconds, and the MiB that it held at most.
fn measured(command: &[&str], out: &Path) -> Option<(f64, f64)> {
    let started = instant();
    let output = Command::new("taskset")
        .args(["-c", "0", "/usr/bin/time", "-f", "%M"])
        .args(command)
        .stdout(Stdio::from(File::create(out).unwrap()))
        .output()
        .ok()?;
    let seconds = started.elapsed().as_secs_f64();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    let kib: f64 = told.lines().last()?.trim().parse().ok()?;
    output.status.success().then_some((seconds, kib / 1024.0))
}

struct Peer {
    python: String,
    script: String,
}

impl Peer {
    fn new() -> Self {
        let python = std::env::var("LANEKEEPER_BENCH_PYTHON");
        Peer {
            python: python.unwrap_or_else(|_| "python3".to_owned()),
            script: concat!(env!("CARGO_MANIFEST_DIR"), "/benches/train_peer.py").to_owned(),
        }
    }

    fn train(&self, table: &Path, name: &str) -> Option<f64> {
        let output = Command::new(&self.python)
            .args([&self.script, "train", table.to_str()?, name])
            .env("OMP_NUM_THREADS", "1")
            .output()
            .ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse().ok()
    }
}

fn median(mut all: Vec<f64>) -> f64 {
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

fn main() {
    let folder = std::env::temp_dir().join(format!("lanekeeper-train-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| -> PathBuf { folder.join(name) };
    let (table, large) = (file("table.csv"), file("large.csv"));
    write_table(&table, ROWS);
    let peer = Peer::new();
    println!("train: {ROWS} rows of 20 columns, CPU seconds on one thread (medians of {ROUNDS})");
    println!(
        "{:<26} {:>10} {:>12} {:>7}",
        "", "lanekeeper", "scikit-learn", "ratio"
    );
    for (name, parameters) in CASES {
        let (mut own, mut other) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            own.push(train(&table, name, parameters));
            other.extend(peer.train(&table, name));
        }
        let own = median(own);
        match other.is_empty() {
            true => println!("{name:<26} {own:>10.2} {:>12} {:>7}", "–", "–"),
            false => {
                let other = median(other);
                println!("{name:<26} {own:>10.2} {other:>12.2} {:>7.2}", own / other);
            }
        }
    }
    write_table(&large, PREDICTED_ROWS);
    let model = file("model.json");
    let binary = env!("CARGO_BIN_EXE_lanekeeper");
    let (table, large, model) = (
        table.to_str().unwrap(),
        large.to_str().unwrap(),
        model.to_str().unwrap(),
    );
    let trained = Command::new(binary)
        .args([
            "train",
            "--algorithm",
            "boosted-trees-classifier",
            "--data",
            table,
        ])
        .args([
            "--target",
            "kind",
            "--exclude",
            "amount",
            "--folds",
            "0",
            "--out",
            model,
        ])
        .args(["--param", "max_iter=100", "--param", "n_iter_no_change=0"])
        .output()
        .unwrap();
    assert!(trained.status.success(), "{trained:?}");
    println!("predict: {PREDICTED_ROWS} rows, CSV to CSV, one core, seconds and MiB");
    let ours = measured(
        &[binary, "predict", "--model", model, "--data", large],
        &file("ours"),
    );
    let theirs = measured(
        &[&peer.python, &peer.script, "predict", table, large],
        &file("theirs"),
    );
    for (name, result) in [("lanekeeper", ours), ("pandas, scikit-learn", theirs)] {
        match result {
            Some((seconds, mib)) => println!("{name:<26} {seconds:>10.2} {mib:>12.0}"),
            None => println!("{name:<26} {:>10} {:>12}", "–", "–"),
        }
    }
    std::fs::remove_dir_all(&folder).unwrap();
}
