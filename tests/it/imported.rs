//! Served models of other libraries: requests mean the same as they do to the library.

use std::path::Path;

use serde_json::{Value, json};

use crate::offline::post;
use crate::support::{Server, eventually};
use crate::train::{run, stderr, stdout};

pub(crate) fn model(case: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/models")
        .join(case);
    path.to_str().unwrap().to_owned()
}

fn server(case: &str, args: &[&str]) -> Server {
    let file = model(case);
    let server = Server::real(&[&["--model", &file], args].concat());
    server.wait_ready();
    server
}

/// The answer to a body; its status must be 200.
fn answer(server: &Server, body: &str) -> Value {
    let answer = server.predict(body);
    assert_eq!(answer.status, 200, "{body}: {}", answer.body);
    answer.json()
}

#[test]
fn missing_values_are_null_or_nan_or_an_empty_cell() {
    let server = server("xgboost/multi_softprob/model.json", &[]);
    let by_null = answer(
        &server,
        r#"{"instances": [[null,-9.3,0.03,-2,null,1,null,1]]}"#,
    );
    let by_nan = answer(
        &server,
        r#"{"instances": [[NaN,-9.3,0.03,-2,NaN,1,NaN,1]]}"#,
    );
    assert_eq!(by_null, by_nan);
    let by_name = r#"{"instances": [{"f0":null,"f1":-9.3,"f2":0.03,"f3":-2,"f4":NaN,"f5":1,"f6":null,"f7":1}]}"#;
    assert_eq!(answer(&server, by_name), by_null);
    let csv = "f0,f1,f2,f3,f4,f5,f6,f7\n,-9.3,0.03,-2,,1,nan,1\n";
    let table = post(&server, "text/csv", "application/json", csv);
    assert_eq!(table.json(), by_null);
    // NaN in quotes is a text.
    let text = server.predict(r#"{"instances": [["NaN",1,1,1,1,1,1,1]]}"#);
    assert_eq!(text.status, 400, "{}", text.body);
    // A model without missing values refuses NaN and names it.
    let iris = Server::real(&[]);
    iris.wait_ready();
    let refused = iris.predict(r#"{"instances": [[NaN,1,1,1]]}"#);
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("NaN, which JSON cannot express"),
        "{}",
        refused.body
    );
}

#[test]
fn infinities_are_numbers_where_the_library_takes_them() {
    let lightgbm = server("lightgbm/regression/model.txt", &[]);
    let row = |value: &str| format!("{{\"instances\": [[{value},1,1,1,1,1,1,1]]}}");
    let least = answer(&lightgbm, &row("\"-Infinity\""));
    assert_eq!(least, answer(&lightgbm, &row("-1e300")));
    let names = "Column_0,Column_1,Column_2,Column_3,Column_4,Column_5,Column_6,Column_7";
    let csv = post(
        &lightgbm,
        "text/csv",
        "application/json",
        &format!("{names}\n-inf,1,1,1,1,1,1,1\n"),
    );
    assert_eq!(csv.status, 200, "{}", csv.body);
    assert_eq!(csv.json(), least);
    let xgboost = server("xgboost/reg_squarederror/model.json", &[]);
    for (value, expected) in [
        ("\"Infinity\"", "invalid type"),
        ("1e300", "32 bits"),
        ("1e999", "too large"),
    ] {
        let refused = xgboost.predict(&row(value));
        assert_eq!(refused.status, 400, "{value}: {}", refused.body);
        assert!(refused.body.contains(expected), "{value}: {}", refused.body);
    }
}

#[test]
fn catboost_takes_what_is_missing_or_infinite_and_names_its_classes() {
    let server = server("catboost/binary/model.json", &["--classes", "no,yes"]);
    let far = answer(
        &server,
        r#"{"instances": [["Infinity",1e300,null,"-Infinity",-1e300,NaN]]}"#,
    );
    // Its nan_mode is Min: what is missing is below all borders.
    let near = answer(
        &server,
        r#"{"instances": [[1e38,1e38,null,null,null,null]]}"#,
    );
    assert_eq!(far, near);
    let shares = far["probabilities"][0].as_object().unwrap();
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["no", "yes"]);
}

#[test]
fn categories_are_texts_and_unseen_ones_do_what_the_library_does() {
    let xgboost = server("xgboost/categorical_strings/model.ubj", &[]);
    answer(
        &xgboost,
        r#"{"instances": [["Cairo", 0.2, 22, "no"], [null, 1, null, null]]}"#,
    );
    let refused = xgboost.predict(r#"{"instances": [["Atlantis", 0.2, 22, "no"]]}"#);
    assert_eq!(refused.status, 400);
    assert!(
        refused.body.contains("expected one of \\\"Berlin\\\""),
        "{}",
        refused.body
    );
    let lightgbm = server("lightgbm/categorical_pandas/model.txt", &[]);
    let unseen = answer(&lightgbm, r#"{"instances": [["Atlantis", 0.2, 22, 5]]}"#);
    let missing = answer(&lightgbm, r#"{"instances": [[null, 0.2, 22, 5]]}"#);
    assert_eq!(unseen, missing, "pandas makes it a missing one");
}

#[test]
fn whole_classes_are_numbers_and_named_ones_texts() {
    let row = r#"{"instances": [[0,0,0,0,0,0,0,0]]}"#;
    let plain = server("xgboost/multi_softprob/model.json", &[]);
    let said = answer(&plain, row);
    assert!(said["predictions"][0].is_u64(), "{said}");
    assert_eq!(said["model"], "model");
    let named = server(
        "xgboost/multi_softprob/model.json",
        &["--classes", "low,middle,high", "--name", "risk"],
    );
    let named = answer(&named, row);
    assert!(named["predictions"][0].is_string(), "{named}");
    assert_eq!(named["model"], "risk");
    let shares = named["probabilities"][0].as_object().unwrap();
    assert_eq!(shares.keys().collect::<Vec<_>>(), ["high", "low", "middle"]);
}

#[test]
fn parameters_add_the_sums_and_unknown_ones_are_ignored() {
    let server = server("lightgbm/multiclass/model.txt", &[]);
    let body = |parameters: &str| {
        format!(
            "{{\"parameters\": {parameters}, \"instances\": [[1,1,1,1,1,1,1,1],[0,0,0,0,0,0,0,0]]}}"
        )
    };
    let plain = answer(&server, &body("{\"other\": [1, {\"a\": null}]}"));
    assert!(plain.get("raw").is_none());
    let raw = answer(&server, &body("{\"raw\": true}"));
    let rows = raw["raw"].as_array().unwrap();
    assert_eq!(
        rows.iter()
            .map(|row| row.as_array().unwrap().len())
            .collect::<Vec<_>>(),
        [3, 3]
    );
    assert_eq!(raw["predictions"], plain["predictions"]);
    let iris = Server::real(&[]);
    iris.wait_ready();
    let refused =
        iris.predict(r#"{"instances": [[5.1,3.5,1.4,0.2]], "parameters": {"raw": true}}"#);
    assert_eq!(refused.status, 400);
    assert!(refused.body.contains("parameters.raw"), "{}", refused.body);
}

#[test]
fn a_model_without_golden_rows_is_told_everywhere() {
    let file = model("xgboost/binary_logistic/model.json");
    let server = server("xgboost/binary_logistic/model.json", &[]);
    eventually("the log says so", || {
        server.logged().contains("no golden rows")
    });
    let notes = &server.status()["model"]["notes"];
    assert!(
        notes[0].as_str().unwrap().contains("no golden rows"),
        "{notes}"
    );
    for command in ["inspect", "check"] {
        let output = run(&[command, "--model", &file]);
        assert!(stdout(&output).contains("no golden rows"), "{command}");
    }
    let output = run(&["inspect", "--json", "--model", &file]);
    let told: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(told["parts"]["trees"], json!(12));
}

#[test]
fn offline_answers_are_those_of_the_server_and_may_have_the_sums() {
    let file = model("xgboost/multi_target_one_output/model.json");
    let names: Vec<String> = (0..8).map(|feature| format!("f{feature}")).collect();
    let table = std::env::temp_dir().join(format!("lanekeeper-sums-{}.csv", std::process::id()));
    std::fs::write(
        &table,
        format!("{}\n1,2,3,4,5,6,7,8\n,,,,,,,\n", names.join(",")),
    )
    .unwrap();
    let table_name = table.to_str().unwrap();
    let args = ["predict", "--model", &file, "--data", table_name, "--raw"];
    let csv = run(&args);
    let text = stdout(&csv);
    let head = text.lines().next().unwrap();
    assert_eq!(
        head,
        "prediction_0,prediction_1,prediction_2,raw_0,raw_1,raw_2",
        "{}",
        stderr(&csv)
    );
    let lines = stdout(&run(&[&args[..], &["--json"]].concat()));
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!(first["prediction"], first["raw"], "its transform is none");
    let served = server("xgboost/multi_target_one_output/model.json", &[]);
    let online = answer(&served, r#"{"instances": [[1,2,3,4,5,6,7,8]]}"#);
    assert_eq!(online["predictions"][0], first["prediction"]);
    std::fs::remove_file(table).unwrap();
}

#[test]
fn old_and_foreign_files_are_refused_with_the_remedy() {
    let old = run(&[
        "check",
        "--model",
        &model("xgboost-old/old_0_90_squarederror/model.bin"),
    ]);
    assert_eq!(old.status.code(), Some(1));
    assert!(stderr(&old).contains("save it as JSON"), "{}", stderr(&old));
    let binary = run(&["check", "--model", &model("catboost/binary/model.cbm")]);
    assert_eq!(binary.status.code(), Some(1));
    assert!(
        stderr(&binary).contains("save_model(\"model.json\", format=\"json\")"),
        "{}",
        stderr(&binary)
    );
}
