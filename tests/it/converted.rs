//! `lanekeeper convert`: one file that answers as the library's own, and holds what that does not say.

use std::fs;
use std::path::PathBuf;

use lanekeeper::config::{Iterations, ModelRequest};
use lanekeeper::models::{Loaded, Output, Rows, compute, format};
use serde_json::Value;

use crate::corpus::{data, golden_file, rows};
use crate::support::Server;
use crate::train::{Folder, run, stderr, stdout};

fn file(case: &str) -> String {
    data().join(case).to_str().unwrap().to_owned()
}

fn load(path: &str) -> Loaded {
    format::load(&ModelRequest::of_file(Some(path.into()))).unwrap()
}

/// Sums and answers by their bits.
fn answers(loaded: &Loaded, rows: &Rows) -> (Vec<u64>, Vec<u64>) {
    let bits = |numbers: &[f64]| numbers.iter().map(|number| number.to_bits()).collect();
    let model = loaded.model.as_ref();
    let answer = match compute::predict(model, rows).unwrap() {
        Output::Numbers(numbers) => numbers,
        Output::Classes { probabilities, .. } => probabilities.unwrap(),
    };
    (bits(&model.raw(rows).unwrap()), bits(&answer))
}

#[test]
fn a_converted_model_answers_with_the_same_bits() {
    let folder = Folder::new("converted");
    for case in [
        "xgboost/multi_softprob/model.json",
        "xgboost/categorical_strings/model.ubj",
        "lightgbm/categorical_pandas/model.txt",
        "lightgbm/gamma/model.txt",
        "catboost/poisson/model.json",
    ] {
        let original = PathBuf::from(file(case));
        let golden = folder.write(
            "golden.json",
            golden_file(original.parent().unwrap(), None).as_bytes(),
        );
        let out = folder.path("flowers.json");
        let args = ["convert", "--model", &file(case), "--out", &out];
        let done = run(&[&args[..], &["--golden", &golden]].concat());
        assert!(done.status.success(), "{case}: {}", stderr(&done));
        assert!(
            stdout(&done).contains("50 golden rows"),
            "{}",
            stdout(&done)
        );
        let (one, other) = (load(&file(case)), load(&out));
        assert_eq!((other.name.as_str(), other.golden.len()), ("flowers", 50));
        assert_eq!(other.algorithm, one.algorithm);
        assert!(other.notes.iter().all(|note| !note.contains("golden")));
        let rows = rows(original.parent().unwrap(), &one);
        assert_eq!(answers(&one, &rows), answers(&other, &rows), "{case}");
    }
}

#[test]
fn what_is_asked_for_goes_before_what_the_file_says() {
    let folder = Folder::new("converted-flags");
    let out = folder.path("model.json");
    let case = "xgboost/early_stopping_sklearn";
    let args = [
        "convert",
        "--model",
        &file(&format!("{case}/model.json")),
        "--out",
        &out,
        "--classes",
        "no,yes",
        "--name",
        "risk",
        "--iterations",
        "best",
    ];
    let done = run(&args);
    assert!(done.status.success(), "{}", stderr(&done));
    assert!(
        stdout(&done).contains("no golden rows"),
        "{}",
        stdout(&done)
    );
    let mut request = ModelRequest::of_file(Some(out.clone().into()));
    let trees = |loaded: &Loaded| loaded.model.parts()[0].1;
    let stored = format::load(&request).unwrap();
    assert_eq!(stored.name, "risk");
    assert_eq!(stored.model.signature().output.labels(), ["no", "yes"]);
    request.name = Some("other".to_owned());
    request.classes = ["low", "high"].map(str::to_owned).to_vec();
    request.iterations = Some(Iterations::All);
    let asked = format::load(&request).unwrap();
    assert_eq!(asked.name, "other");
    assert_eq!(asked.model.signature().output.labels(), ["low", "high"]);
    assert!(trees(&asked) > trees(&stored));
    // Golden rows that are given go before those in the file.
    let xgboost = data().join("xgboost/multi_softprob");
    let kept = folder.write("kept.json", golden_file(&xgboost, None).as_bytes());
    let model = file("xgboost/multi_softprob/model.json");
    let done = run(&[
        "convert", "--model", &model, "--golden", &kept, "--out", &out,
    ]);
    assert!(done.status.success(), "{}", stderr(&done));
    let wrong = golden_file(&xgboost, Some("margins"));
    let mut request = ModelRequest::of_file(Some(out.into()));
    request.golden = Some(folder.write("wrong.json", wrong.as_bytes()).into());
    let error = format::load(&request).unwrap_err().0;
    assert!(error.contains("wrong.json: the golden row ["), "{error}");
}

#[test]
fn a_model_that_differs_from_its_golden_rows_is_not_converted() {
    let folder = Folder::new("converted-differs");
    let case = data().join("lightgbm/gamma");
    let golden = golden_file(&case, Some("answers"));
    let golden = folder.write("golden.json", golden.as_bytes());
    let out = folder.path("model.json");
    let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/embedded.json");
    let model = file("lightgbm/gamma/model.txt");
    let hello = folder.write("hello", b"hello");
    let table: [(&[&str], &str); 6] = [
        (&[&model, "--golden", &golden], "golden row ["),
        (&[&model, "--golden", &hello], "its golden rows"),
        (&[&model, "--classes", "a,b"], "--classes"),
        (&[own], "needs no conversion"),
        (&[&hello], "no format that lanekeeper reads"),
        (&["/nonexistent"], "--model must name a readable model file"),
    ];
    for (args, expected) in table {
        let done = run(&[&["convert", "--out", &out, "--model"], args].concat());
        let error = stderr(&done);
        assert_eq!(done.status.code(), Some(1), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
        assert_eq!(error.lines().count(), 1, "{args:?}: {error}");
        assert!(fs::metadata(&out).is_err(), "{args:?} wrote a file");
    }
    let done = run(&["convert", "--model", &model, "--out", "/nonexistent/a"]);
    assert!(
        stderr(&done).contains("cannot write the model file"),
        "{}",
        stderr(&done)
    );
}

#[test]
fn every_command_takes_a_converted_model() {
    let folder = Folder::new("converted-commands");
    let case = data().join("xgboost/multi_softprob");
    let golden = folder.write("golden.json", golden_file(&case, None).as_bytes());
    let out = folder.path("flowers.json");
    let model = file("xgboost/multi_softprob/model.json");
    let args = ["convert", "--model", &model, "--golden", &golden];
    let done = run(&[&args[..], &["--classes", "a,b,c", "--out", &out]].concat());
    assert!(done.status.success(), "{}", stderr(&done));
    let check = run(&["check", "--model", &out]);
    assert!(
        stdout(&check).contains("ok: flowers (xgboost, 8 features, 3 classes)"),
        "{}",
        stdout(&check)
    );
    let inspect = run(&["inspect", "--json", "--model", &out]);
    let told: Value = serde_json::from_str(&stdout(&inspect)).unwrap();
    assert_eq!(told["golden_rows"], 50);
    let names: Vec<String> = (0..8).map(|feature| format!("f{feature}")).collect();
    let table = format!("{}\n1,2,3,4,5,6,7,8\n", names.join(","));
    let table = folder.write("rows.csv", table.as_bytes());
    let lines = run(&["predict", "--json", "--model", &out, "--data", &table]);
    let offline: Value = serde_json::from_str(&stdout(&lines)).unwrap();
    let server = Server::real(&["--model", &out]);
    server.wait_ready();
    let online = server
        .predict(r#"{"instances": [[1,2,3,4,5,6,7,8]]}"#)
        .json();
    assert_eq!(online["model"], "flowers");
    assert_eq!(online["predictions"][0], offline["prediction"]);
    assert_eq!(online["probabilities"][0], offline["probabilities"]);
}
