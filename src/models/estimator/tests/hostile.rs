//! Altered files: refused, or at least harmless.

use proptest::prelude::*;

use super::*;

#[test]
fn what_smartcore_would_panic_on_or_loop_over_is_refused() {
    let (_, _, forest) = classifier();
    let sound = serde_json::to_value(&forest).unwrap();
    type Edit = fn(&mut serde_json::Value);
    let table: &[(&str, Edit, &str)] = &[
        (
            "no trees",
            |f| f["trees"] = serde_json::json!([]),
            "1 to 100000 trees",
        ),
        (
            "null trees",
            |f| f["trees"] = serde_json::Value::Null,
            "cannot be read",
        ),
        (
            "no nodes",
            |f| f["trees"][0]["nodes"] = serde_json::json!([]),
            "nodes, but has 0",
        ),
        (
            "a cycle",
            |f| f["trees"][0]["nodes"][0]["true_child"] = 0.into(),
            "after their parent",
        ),
        (
            "a child out of range",
            |f| f["trees"][0]["nodes"][0]["false_child"] = 9999.into(),
            "after their parent",
        ),
        (
            "one child",
            |f| f["trees"][0]["nodes"][0]["false_child"] = serde_json::Value::Null,
            "both children",
        ),
        (
            "a feature out of range",
            |f| f["trees"][0]["nodes"][0]["split_feature"] = 3.into(),
            "feature 3",
        ),
        (
            "no split value",
            |f| f["trees"][0]["nodes"][0]["split_value"] = serde_json::Value::Null,
            "finite value",
        ),
        (
            "a class out of range",
            |f| f["trees"][1]["nodes"][0]["output"] = 3.into(),
            "tree 1",
        ),
        (
            "other classes",
            |f| f["classes"] = serde_json::json!([0, 2, 1]),
            "in order",
        ),
        (
            "a tree of other classes",
            |f| f["trees"][2]["classes"] = serde_json::json!([0, 1]),
            "tree 2",
        ),
    ];
    for (name, edit, expected) in table {
        let mut edited = sound.clone();
        edit(&mut edited);
        let error =
            Estimator::read("random-forest-classifier", &edited.to_string(), 3, 3).unwrap_err();
        assert!(error.0.contains(expected), "{name}: {error}");
    }
    let error = Estimator::read("svc", "{}", 3, 3).unwrap_err();
    assert!(error.0.contains("lose their parameters"), "{error}");
    let error = Estimator::read("forest", "{}", 3, 3).unwrap_err();
    assert!(error.0.contains("must be one of bernoulli-"), "{error}");
}

/// Changes one thing in a serialized estimator, as a hostile author would.
fn mutate(value: &mut serde_json::Value, at: &mut usize, how: u8) -> bool {
    use serde_json::{Value, json};
    if *at == 0 {
        *value = match (how % 9, &*value) {
            (0, _) => Value::Null,
            (1, _) => json!(-1),
            (2, _) => json!(u64::MAX),
            (3, _) => json!(1e300),
            (4, Value::Number(number)) => json!(number.as_f64().unwrap_or(0.0) + 1.0),
            (5, Value::Number(number)) => json!(number.as_u64().unwrap_or(0).saturating_add(1)),
            (6, Value::Array(items)) => items.iter().take(items.len() / 2).cloned().collect(),
            (7, Value::Array(items)) => items.iter().chain(items).cloned().collect(),
            (8, Value::Array(items)) => items.iter().rev().cloned().collect(),
            (_, Value::Object(_)) => json!({}),
            _ => json!([]),
        };
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| mutate(item, at, how)),
        Value::Object(fields) => fields.values_mut().any(|field| mutate(field, at, how)),
        _ => false,
    }
}

fn size(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => 1 + items.iter().map(size).sum::<usize>(),
        serde_json::Value::Object(fields) => 1 + fields.values().map(size).sum::<usize>(),
        _ => 1,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_altered_estimator_panics_when_it_is_read_or_predicts(
        seed in 0u64..1000,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..3),
    ) {
        let (rows, classes, numbers) = small(24, seed);
        let targets = (classes, numbers);
        let far = Rows::new(vec![1e300, -1e300, 0.0, f64::MAX, f64::MIN, 5e-324], 3).unwrap();
        for algorithm in &ALGORITHMS {
            // Nothing can be learned from some tables.
            let Ok(fitted) = fit(algorithm, &rows, &targets) else { continue };
            let mut value: serde_json::Value = serde_json::from_str(fitted.serialised.get()).unwrap();
            for (at, how) in &changes {
                let mut at = at.index(size(&value));
                mutate(&mut value, &mut at, *how);
            }
            let text = value.to_string();
            if let Ok(estimator) = Estimator::read(algorithm.name, &text, 3, classes_of(algorithm)) {
                for rows in [&rows, &far] {
                    if estimator.check(rows).is_ok() {
                        let _ = estimator.predict(rows);
                    }
                }
            }
            let cut = &text[..text.len() / 2];
            prop_assert!(Estimator::read(algorithm.name, cut, 3, classes_of(algorithm)).is_err());
        }
    }

    #[test]
    fn what_is_trained_on_any_small_table_is_read_again(
        count in 8usize..40,
        seed in any::<u64>(),
    ) {
        let (rows, classes, numbers) = small(count, seed);
        for algorithm in &ALGORITHMS {
            let targets = match algorithm.task {
                EstimatorKind::Classification => &classes,
                EstimatorKind::Regression => &numbers,
            };
            // Some tables cannot be trained on; then there is an error and no panic.
            if let Ok(fitted) = algorithm.fit(&rows, targets, &[], Some(1)) {
                let again = Estimator::read(algorithm.name, fitted.serialised.get(), 3, classes_of(algorithm));
                let again = again.unwrap().predict(&rows).unwrap();
                prop_assert_eq!(bits(&fitted.estimator.predict(&rows).unwrap()), bits(&again));
            }
        }
    }
}
