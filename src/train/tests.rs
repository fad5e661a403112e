use super::*;
use crate::models::estimator;

fn read(text: &str, task: EstimatorKind) -> Result<TrainingData, TrainError> {
    let table = TableReader::new("t.csv", Box::new(text.as_bytes()), b',')?;
    TrainingData::read(table, "y", None, task)
}

#[test]
fn classes_are_sorted_as_numbers_where_all_are_and_keep_their_text() {
    let classes = |text: &str| read(text, EstimatorKind::Classification).unwrap().classes;
    assert_eq!(classes("x,y\n1,10\n2,2\n3,1\n"), ["1", "2", "10"]);
    assert_eq!(classes("x,y\n1,b\n2,10\n3,a\n"), ["10", "a", "b"]);
    assert_eq!(classes("x,y\n1,1.0\n2,1\n3,0\n"), ["0", "1", "1.0"]);
}

#[test]
fn data_that_cannot_be_learned_from_is_an_error() {
    let error = |text, task| read(text, task).unwrap_err().0;
    let one = error("x,y\n1,a\n2,a\n", EstimatorKind::Classification);
    assert!(one.contains("one class, \"a\""), "{one}");
    let mut many = "x,y\n".to_owned();
    (0..10_001).for_each(|row| many.push_str(&format!("1,{row}\n")));
    let many = error(&many, EstimatorKind::Classification);
    assert!(
        many.contains("10001 classes") && many.contains("a regressor"),
        "{many}"
    );
    let none = error("x,y\n", EstimatorKind::Regression);
    assert_eq!(none, "the table has no rows");
    let alone = error("y\n1\n", EstimatorKind::Regression);
    assert!(alone.starts_with("there are no features"), "{alone}");
    let text = error("x,y\n1,a\n", EstimatorKind::Regression);
    assert!(text.starts_with("t.csv, line 2, column \"y\""), "{text}");
    let notes = read("x,z,y\n1,5,7\n2,5,7\n", EstimatorKind::Regression)
        .unwrap()
        .notes;
    assert_eq!(
        notes,
        [
            "the feature \"z\" is 5 in every row: nothing can be learned from it",
            "the target \"y\" is 7 in every row"
        ]
    );
}

#[test]
fn a_model_beats_the_baseline_on_what_can_be_learned() {
    let mut text = "x,noise,y\n".to_owned();
    for row in 0..120 {
        let label = if row % 10 < 5 { "low" } else { "high" };
        text.push_str(&format!("{},{},{label}\n", row % 10, (row * 7919) % 13));
    }
    let data = Arc::new(read(&text, EstimatorKind::Classification).unwrap());
    let recipe = Recipe {
        algorithm: estimator::find("decision-tree-classifier").unwrap(),
        parameters: vec![],
        seed: 1,
    };
    let mut done = 0;
    let validation = cross_validate(&data, &recipe, 4, || done += 1).unwrap();
    assert_eq!(done, 4);
    assert_eq!(validation.scores["accuracy"], 1.0);
    assert_eq!(validation.spread["accuracy"], 0.0);
    assert_eq!(validation.baseline["accuracy"], 0.5);
    let importances = validation.importances.clone().unwrap();
    assert!(importances[0] > 0.3, "{importances:?}");
    assert_eq!(importances[1], 0.0, "noise");
    let document = data.document(4, Some(&validation));
    assert_eq!(document.class_counts, [60, 60]);
    assert_eq!(document.feature_ranges, [[0.0, 9.0], [0.0, 12.0]]);
}

#[test]
fn a_row_of_a_class_that_was_not_trained_on_counts_as_wrong() {
    let mut text = "x,y\n".to_owned();
    for row in 0..40 {
        // The category 9 is in one row alone, and so in one fold.
        let category = if row == 7 { 9 } else { row % 2 };
        text.push_str(&format!("{category},{}\n", ["a", "b"][row % 2]));
    }
    let data = Arc::new(read(&text, EstimatorKind::Classification).unwrap());
    let recipe = Recipe {
        algorithm: estimator::find("categorical-naive-bayes").unwrap(),
        parameters: vec![],
        seed: 1,
    };
    let validation = cross_validate(&data, &recipe, 4, || {}).unwrap();
    let expected = 39.0 / 40.0;
    assert!(
        (validation.scores["accuracy"] - expected).abs() < 1e-12,
        "{validation:?}"
    );
    assert_eq!(validation.importances, None);
}
