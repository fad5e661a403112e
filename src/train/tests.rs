use super::*;
use crate::models::{Files, ModelSource as _};
use crate::train::data::DataOptions;
use crate::train::table::{TableReader, TableShape};

fn read(text: &str, task: Task) -> Result<TrainingData, TrainError> {
    let table = TableReader::of_text("t.csv", text.as_bytes(), b',')?;
    let options = DataOptions {
        target: "y".to_owned(),
        task: Some(task),
        ..DataOptions::default()
    };
    TrainingData::read(table, &options)
}

fn recipe(name: &str) -> Recipe {
    Recipe {
        algorithm: algorithms::find(name).unwrap(),
        parameters: vec![],
        is_balanced: false,
        seed: 1,
        threads: 1,
    }
}

#[test]
fn classes_are_sorted_as_numbers_where_all_are_and_keep_their_text() {
    let classes = |text: &str| read(text, Task::Classification).unwrap().classes;
    assert_eq!(classes("x,y\n1,10\n5,2\n3,1\n"), ["1", "2", "10"]);
    assert_eq!(classes("x,y\n1,b\n2,10\n4,a\n"), ["10", "a", "b"]);
}

#[test]
fn data_that_cannot_be_learned_from_is_an_error() {
    let error = |text, task| read(text, task).unwrap_err().0;
    let one = error("x,y\n1,a\n2,a\n", Task::Classification);
    assert!(one.contains("one class, \"a\""), "{one}");
    let mut many = "x,y\n".to_owned();
    (0..10_001).for_each(|row| many.push_str(&format!("{},{row}\n", row % 7)));
    let many = error(&many, Task::Classification);
    assert!(
        many.contains("10001 classes") && many.contains("a regressor"),
        "{many}"
    );
    let none = error("x,y\n", Task::Regression);
    assert_eq!(none, "the table has no rows");
    let alone = error("y\n1\n", Task::Regression);
    assert!(alone.starts_with("there are no features"), "{alone}");
    let text = error("x,y\n1,a\n3,b\n", Task::Regression);
    assert!(text.contains("t.csv, line 2, column \"y\""), "{text}");
    let tab = error("x,y\na\tb,1\nc,2\n", Task::Regression);
    assert!(
        tab.contains("line 2, column \"x\": a label must be"),
        "{tab}"
    );
    let constant = read("x,z,y\n1,5,7\n3,5,7\n", Task::Regression).unwrap();
    assert_eq!(constant.features.len(), 1, "{:?}", constant.columns);
    let warnings = warnings::of(&constant, 2, true);
    assert_eq!(warnings, ["the target is 7 in every row"]);
    let rows = (0..300).map(|row| format!("{},{}\n", row * row % 83, row % 150));
    let many = read(
        &format!("x,y\n{}", rows.collect::<String>()),
        Task::Classification,
    )
    .unwrap();
    assert_eq!(warnings::of(&many, 2, false), [""; 0]);
    let warnings = warnings::of(&many, 2, true);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].starts_with("the target has 150 classes"),
        "{warnings:?}"
    );
}

#[test]
fn a_model_beats_the_baseline_on_what_can_be_learned() {
    let mut text = "x,noise,y\n".to_owned();
    for row in 0..120 {
        let label = if row % 10 < 5 { "low" } else { "high" };
        text.push_str(&format!("{},{},{label}\n", row % 10, (row * 7919) % 13));
    }
    let data = Arc::new(read(&text, Task::Classification).unwrap());
    let recipe = recipe("decision-tree-classifier");
    let mut done = 0;
    let validation = cross_validate(&data, &recipe, 4, || done += 1).unwrap();
    assert_eq!(done, 4);
    assert_eq!(validation.scores["accuracy"], 1.0);
    assert_eq!(validation.spread["accuracy"], 0.0);
    assert_eq!(validation.baseline["accuracy"], 0.5);
    assert!(beats_baseline(&validation));
    let importances = validation.importances.clone().unwrap();
    assert!(importances[0] > 0.3, "{importances:?}");
    assert_eq!(importances[1], 0.0, "noise");
    let document = data.document(4, Some(&validation));
    assert_eq!(document.class_counts, [60, 60]);
    assert_eq!(data.features[1].range, Some([0.0, 12.0]));
}

#[test]
fn a_label_that_training_has_not_seen_is_predicted_as_another() {
    let mut text = "x,y\n".to_owned();
    for row in 0..40 {
        // The label of one row alone is in one fold alone.
        let label = if row == 7 {
            "rare"
        } else {
            ["odd", "even"][row % 2]
        };
        text.push_str(&format!("{label},{}\n", ["a", "b"][row % 2]));
    }
    let data = Arc::new(read(&text, Task::Classification).unwrap());
    for name in ["logistic-regression", "random-forest-classifier"] {
        let validation = cross_validate(&data, &recipe(name), 4, || {}).unwrap();
        assert!(
            validation.scores["accuracy"] >= 39.0 / 40.0,
            "{validation:?}"
        );
    }
}

#[test]
fn a_column_that_gives_the_answer_away_is_told() {
    let mut text = "row_number_x,x,y\n".to_owned();
    for row in 0..200 {
        text.push_str(&format!(
            "{},{},{}\n",
            row * 3 + 7 * (row % 2),
            (row * 7919) % 113,
            row
        ));
    }
    let data = read(&text, Task::Regression).unwrap();
    let warnings = warnings::of(&data, 5, true);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0].contains("\"row_number_x\" alone predicts"),
        "{warnings:?}"
    );
}

/// With `LANEKEEPER_BLESS=1` this writes the file again, after a change of the recipe.
#[test]
fn the_embedded_model_equals_a_fresh_training() {
    let iris = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/iris.csv");
    let shape = TableShape {
        delimiter: Some(b','),
        has_header: true,
        skipped_lines: 0,
    };
    let table = TableReader::open(iris.as_ref(), &shape).unwrap();
    let options = DataOptions {
        target: "species".to_owned(),
        ..DataOptions::default()
    };
    let data = Arc::new(TrainingData::read(table, &options).unwrap());
    let recipe = Recipe {
        seed: 42,
        ..recipe("random-forest-classifier")
    };
    let validation = cross_validate(&data, &recipe, 5, || {}).unwrap();
    let fitted = recipe.fit(&data, &data.rows, &data.targets).unwrap();
    let created = "2026-11-28T00:00:00Z";
    let told = (5, Some(&validation));
    let fresh = model_file::write(&data, recipe.algorithm, fitted, told, ("iris", created));
    let fresh = fresh.unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/embedded.json");
    if std::env::var_os("LANEKEEPER_BLESS").is_some() {
        native::write_atomically(path.as_ref(), &fresh).unwrap();
    } else {
        assert!(
            fresh == std::fs::read(path).unwrap(),
            "run this test with LANEKEEPER_BLESS=1 after a change of the recipe"
        );
        assert_eq!(Files.load(&Default::default()).unwrap().name, "iris");
    }
}
