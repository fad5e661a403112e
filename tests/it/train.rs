//! From a table to a model file, with the commands that need no server.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::support::{Server, eventually};

pub const IRIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/iris.csv");

/// A test's own folder; removed when dropped.
pub struct Folder(PathBuf);

impl Folder {
    pub fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("lanekeeper-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    pub fn path(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }

    pub fn write(&self, name: &str, text: &[u8]) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.path(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(args)
        .output()
        .unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Trains on a file, with a few trees and without folds unless `more` says otherwise.
pub fn train(algorithm: &str, data: &str, target: &str, out: &str, more: &[&str]) -> Output {
    let args = [
        "train",
        "--algorithm",
        algorithm,
        "--data",
        data,
        "--target",
        target,
        "--out",
        out,
    ];
    run(&[&args[..], more].concat())
}

#[test]
fn a_table_becomes_a_model_file_that_tells_what_it_is_and_is_served() {
    let folder = Folder::new("train");
    let out = folder.path("flowers.json");
    let trained = train(
        "random-forest-classifier",
        IRIS,
        "species",
        &out,
        &["--param", "n_estimators=30"],
    );
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    assert!(!stderr(&trained).contains("models,"), "no bar in a pipe");
    let told = stdout(&trained);
    for part in [
        "random-forest-classifier: 150 rows, 4 features, 3 classes",
        "5 folds ",
        "accuracy ",
        " ± ",
        "auc ",
        "log_loss ",
        "macro_f1 ",
        "0.333",
        "wrote ",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    let inspected = stdout(&run(&["inspect", "--model", &out]));
    for part in [
        "flowers",
        "random-forest-classifier",
        "n_estimators 30",
        "trees 30",
        "150 rows",
        "sepal_length: number, 4.3 to 7.9 seen, importance ",
        "versicolor: 50 rows",
        "accuracy 0.9",
        "baseline 0.333",
        "[5.8, 3, 4.35, 1.3] gives versicolor",
        "checksum",
    ] {
        assert!(inspected.contains(part), "{part:?} is not in {inspected}");
    }
    let json = stdout(&run(&["inspect", "--model", &out, "--json"]));
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["shape"]["trees"], 30);
    assert_eq!(
        json["training"]["class_counts"],
        serde_json::json!([50, 50, 50])
    );
    let server = Server::real(&["--model", &out]);
    server.wait_ready();
    let answer = server
        .predict(r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#)
        .json();
    assert_eq!(answer["model"], "flowers");
    assert_eq!(answer["predictions"], serde_json::json!(["setosa"]));
}

#[test]
fn the_same_seed_gives_the_same_model_and_standard_input_is_a_table_too() {
    let folder = Folder::new("seed");
    let model = |name: &str, seed: &str| {
        let out = folder.path(name);
        let algorithm = "random-forest-regressor";
        let more = [
            "--features",
            "sepal_length,petal_length",
            "--folds",
            "0",
            "--seed",
            seed,
        ];
        let trained = train(algorithm, IRIS, "petal_width", &out, &more);
        assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
        assert!(
            stderr(&trained)
                .contains("columns left out: sepal_width (not chosen), species (not chosen)")
        );
        let file: serde_json::Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
        file["predictor"].clone()
    };
    assert_eq!(model("a.json", "1"), model("b.json", "1"));
    assert_ne!(model("a.json", "1"), model("c.json", "2"));
    let out = folder.path("stdin.json");
    let input = fs::File::open(IRIS).unwrap();
    let trained = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["train", "--algorithm", "logistic-regression", "--data", "-"])
        .args(["--target", "species", "--out", &out, "--name", "by hand"])
        .stdin(Stdio::from(input))
        .output()
        .unwrap();
    assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
    assert!(stdout(&run(&["inspect", "--model", &out])).contains("by hand"));
}

#[test]
fn a_training_error_has_its_place_and_writes_nothing() {
    let folder = Folder::new("wrong");
    let out = folder.path("never.json");
    let iris = fs::read_to_string(IRIS).unwrap();
    let table = |name: &str, text: &str| folder.write(name, text.as_bytes());
    let text_cell = table("text.csv", &iris.replacen("4.9,3.0", "4.9,wide", 1));
    let infinite = table("inf.csv", &iris.replacen("4.9,3.0", "4.9,inf", 1));
    let ragged = table("ragged.csv", &iris.replacen("4.9,3.0", "4.9", 1));
    let doubled = table(
        "doubled.csv",
        &iris.replacen("sepal_width", "sepal_length", 1),
    );
    let headless = table("headless.csv", "");
    let rowless = table("rowless.csv", "x,y\n");
    let one_class = table("one.csv", "x,y\n1,a\n2,a\n");
    let few = table("few.csv", "x,y\n1,2\n5,3\n3,4\n");
    let alone = table("alone.csv", "x,y\n1,a\n5,a\n3,b\n");
    let forest = "random-forest-classifier";
    let linear = "linear-regression";
    type Wrong<'a> = (&'a str, &'a str, &'a str, &'a [&'a str], i32, &'a str);
    #[rustfmt::skip]
    let rows: &[Wrong<'_>] = &[
        (forest, &text_cell, "species", &[], 1, "text.csv, line 3, column \"sepal_width\": \"wide\" is no number; mend it"),
        (forest, &infinite, "species", &[], 1, "inf.csv, line 3, column \"sepal_width\": \"inf\" is no number"),
        (forest, &ragged, "species", &[], 1, "ragged.csv, line 3: the row has 4 cells, but the header has 5"),
        (forest, &doubled, "species", &[], 1, "doubled.csv, line 1: the column \"sepal_length\" occurs twice"),
        (forest, &headless, "species", &[], 1, "headless.csv has no header"),
        (linear, &rowless, "y", &[], 1, "the table has no rows"),
        (forest, &one_class, "y", &[], 1, "one class, \"a\", in every row"),
        (linear, &few, "y", &["--column", "x=number"], 1, "--folds must be 0, or 2 to the number of rows, which is 3, but is 5"),
        (forest, &alone, "y", &["--folds", "3"], 1, "the classes with more than one row have 2 rows together, too few for 3 folds"),
        (linear, IRIS, "species", &["--folds", "0"], 1, "column \"species\": the target is \"setosa\", but must be a number"),
        (forest, IRIS, "kind", &[], 1, "there is no column \"kind\"; there are sepal_length, sepal_width"),
        (forest, IRIS, "species", &["--features", "species"], 1, "cannot be a feature too"),
        (forest, "/nowhere/x.csv", "species", &[], 1, "cannot read /nowhere/x.csv"),
        ("knn-classifier", IRIS, "species", &["--folds", "0", "--param", "n_neighbors=151"], 1, "n_neighbors must be 1 to the number of rows, which is 150"),
        ("lasso", IRIS, "petal_width", &["--folds", "0", "--param", "alpha=-1"], 1, "alpha must be at least 0"),
        (forest, IRIS, "species", &["--param", "max_features=some"], 2, "parameter max_features must be sqrt or all or a whole number or a share up to 1.0, but is \"some\""),
        (forest, IRIS, "species", &["--param", "trees=3"], 2, "there is no parameter \"trees\"; there are bootstrap, max_depth"),
        (forest, IRIS, "species", &["--param", "trees"], 2, "it must be NAME=VALUE"),
        (forest, IRIS, "species", &["--delimiter", "ab"], 2, "one ASCII character"),
        (forest, IRIS, "species", &["--column", "sepal_width=wide"], 2, "the kind must be number, yes-no, category, date or identifier"),
        ("knn-classifier", IRIS, "species", &["--class-weight", "balanced"], 2, "knn-classifier cannot count rows differently"),
        ("svc", IRIS, "species", &[], 2, "svc is not offered: train it with scikit-learn"),
        ("gaussian-naive-bayes", IRIS, "species", &[], 2, "gaussian-naive-bayes is not offered"),
        ("forest", IRIS, "species", &[], 2, "must be one of boosted-trees-classifier, "),
    ];
    for (algorithm, data, target, more, code, expected) in rows {
        let output = train(algorithm, data, target, &out, more);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{told}");
        assert!(
            told.contains("lanekeeper: ") && told.contains(expected),
            "{expected:?}: {told}"
        );
        assert!(stdout(&output).is_empty());
        assert!(!Path::new(&out).exists(), "{expected}");
    }
    let nowhere = train(
        forest,
        IRIS,
        "species",
        "/nowhere/m.json",
        &["--folds", "0"],
    );
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(stderr(&nowhere).contains("cannot write the model file /nowhere/m.json"));
}

#[test]
fn an_interrupt_leaves_no_half_file() {
    let folder = Folder::new("interrupt");
    let mut text = "a,b,y\n".to_owned();
    (0..20_000).for_each(|row| text.push_str(&format!("{},{},{}\n", row % 97, row % 89, row % 7)));
    let table = folder.write("t.csv", text.as_bytes());
    let out = folder.path("never.json");
    let args = [
        "--algorithm",
        "random-forest-classifier",
        "--target",
        "y",
        "--out",
        &out,
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["train", "--data", &table, "--param", "n_estimators=5000"])
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let task = format!("/proc/{}/task", child.id());
    eventually("the folds are under way", || {
        fs::read_dir(&task).is_ok_and(|threads| threads.count() > 1)
    });
    let pid = rustix::process::Pid::from_child(&child);
    // Not SIGINT, which is ignored if the tests run as a background job of a shell.
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), None, "ended by the signal");
    let left = fs::read_dir(folder.path("")).unwrap().count();
    assert_eq!(left, 1, "the table alone");
}

#[test]
fn the_algorithms_and_their_parameters_are_listed() {
    let listed = stdout(&run(&["train", "--algorithm", "help"]));
    for part in [
        "random-forest-regressor (regressor)",
        "logistic-regression (classifier): the probabilities of LogisticRegression",
        "  C=1.0: a number",
        "  n_estimators=100: a whole number",
        "  max_features=sqrt: sqrt or all or a whole number or a share up to 1.0",
        "  metric=euclidean: euclidean or manhattan",
        "  max_depth=none: a whole number or none",
    ] {
        assert!(listed.contains(part), "{part:?} is not in {listed}");
    }
}

#[test]
fn a_solver_that_has_not_converged_says_so() {
    let folder = Folder::new("unfinished");
    let out = folder.path("m.json");
    // A penalty so small that there is something to find.
    for (algorithm, target, penalty) in [
        ("logistic-regression", "species", "C=1"),
        ("lasso", "petal_width", "alpha=0.0001"),
        ("elastic-net", "petal_width", "alpha=0.0001"),
    ] {
        let steps = ["--folds", "0", "--param", "max_iter=1", "--param", penalty];
        let trained = train(algorithm, IRIS, target, &out, &steps);
        assert_eq!(trained.status.code(), Some(0), "{}", stderr(&trained));
        assert!(
            stderr(&trained).contains("has not converged"),
            "{algorithm}"
        );
        let trained = train(algorithm, IRIS, target, &out, &["--folds", "0"]);
        assert!(!stderr(&trained).contains("converged"), "{algorithm}");
    }
}
