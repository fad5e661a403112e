use super::*;
use crate::models::{Output, Rows, compute};
use serde_json::{Value, json};

/// A model of two features and two trees, of which the second is a leaf.
fn model() -> Value {
    let feature = |index: usize, has_nans: bool, treatment: &str| {
        json!({
            "borders": [0.5],
            "feature_id": "",
            "feature_index": index,
            "flat_feature_index": index,
            "has_nans": has_nans,
            "nan_value_treatment": treatment,
        })
    };
    let split = |feature: usize, border: f64| {
        json!({
            "border": border,
            "float_feature_index": feature,
            "split_index": feature,
            "split_type": "FloatFeature",
        })
    };
    json!({
        "features_info": {"float_features": [feature(0, true, "AsFalse"), feature(1, true, "AsTrue")]},
        "model_info": {"params": {"loss_function": {"params": {}, "type": "RMSE"}}},
        "oblivious_trees": [
            {
                "leaf_values": [1, 2, 4, 8],
                "leaf_weights": [10, 20, 30, 40],
                "splits": [split(0, 0.5), split(1, 1.5)],
            },
            {"leaf_values": [0.25], "leaf_weights": [100], "splits": null},
        ],
        "scale_and_bias": [2, [0.5]],
    })
}

fn load(model: &Value) -> Result<Loaded, ModelError> {
    let text = model.to_string();
    assert!(CatboostJson.recognises(text.as_bytes()));
    CatboostJson.load(text.as_bytes(), &ModelRequest::default())
}

#[track_caller]
fn check(model: &Value, row: &[f64], expected: f64) {
    let loaded = load(model).unwrap();
    let rows = Rows::new(row.to_vec(), row.len()).unwrap();
    let sums = loaded.model.raw(&rows).unwrap();
    assert_eq!(sums, [expected], "{row:?}");
}

#[track_caller]
fn check_refused(edit: impl FnOnce(&mut Value), expected: &str) {
    let mut model = model();
    edit(&mut model);
    let error = load(&model).map(|loaded| loaded.to_string()).unwrap_err().0;
    assert!(
        error.contains(expected) && !error.contains('\n') && error.len() < 300,
        "{expected}: {error}"
    );
}

#[test]
fn splits_count_from_the_first_and_sums_are_scaled() {
    let model = model();
    for (row, leaf) in [
        ([0.5, 1.5], 1.0),
        ([0.6, 1.5], 2.0),
        ([0.5, 1.6], 4.0),
        ([0.6, 1.6], 8.0),
        // Just above the border, but at it with 32 bits.
        ([0.500_000_000_1, 0.0], 1.0),
        ([f64::INFINITY, f64::NEG_INFINITY], 2.0),
        ([1e300, -1e300], 2.0),
    ] {
        check(&model, &row, (leaf + 0.25) * 2.0 + 0.5);
    }
}

#[test]
fn a_missing_value_goes_where_the_file_says() {
    let mut model = model();
    let row = [f64::NAN, f64::NAN];
    check(&model, &row, (4.0 + 0.25) * 2.0 + 0.5);
    let features = &mut model["features_info"]["float_features"];
    features[0]["nan_value_treatment"] = "AsTrue".into();
    features[1]["nan_value_treatment"] = "AsIs".into();
    check(&model, &row, (2.0 + 0.25) * 2.0 + 0.5);
    // What training has not seen is compared as it is.
    model["features_info"]["float_features"][0]["has_nans"] = false.into();
    check(&model, &row, (1.0 + 0.25) * 2.0 + 0.5);
}

#[test]
fn nodes_above_leaves_have_the_weights_of_both() {
    let document: CatboostDocument = serde_json::from_value(model()).unwrap();
    let trees = document.oblivious_trees.unwrap();
    let inputs = document.features_info.float_features;
    let tree = trees.into_iter().next().unwrap();
    let tree = tree_of(tree, &inputs, 1).unwrap();
    let covers: Vec<f32> = tree.nodes.iter().map(|node| node.cover).collect();
    assert_eq!(covers, [100.0, 30.0, 70.0, 10.0, 20.0, 30.0, 40.0]);
}

#[test]
fn old_files_have_one_bias_and_texts_in_place_of_objects() {
    let mut model = model();
    model["scale_and_bias"] = json!([1, 0.5]);
    let params = model["model_info"]["params"].to_string();
    model["model_info"]["params"] = params.into();
    check(&model, &[0.0, 0.0], 1.75);
    model["model_info"] = json!({});
    assert!(load(&model).unwrap().notes[0].contains("loss function"));
}

#[test]
fn classes_are_called_as_in_training() {
    let mut model = model();
    model["model_info"]["params"]["loss_function"]["type"] = "Logloss".into();
    let mut labels = |params: Value| {
        model["model_info"]["class_params"] = params;
        load(&model).map(|loaded| loaded.model.signature().output.labels().to_vec())
    };
    for (params, expected) in [
        (Value::Null, ["0", "1"]),
        (json!({"class_names": ["no", "yes"]}), ["no", "yes"]),
        (json!({"class_names": [0, 2.5]}), ["0", "2.5"]),
        (json!({"class_names": [false, true]}), ["false", "true"]),
        (
            json!({"class_names": [], "class_to_label": [1.0, 2.0]}),
            ["1", "2"],
        ),
    ] {
        assert_eq!(labels(params).unwrap(), expected);
    }
    for params in [
        json!({"class_names": ["a", "b", "c"]}),
        json!({"class_names": [], "class_to_label": [0, 1], "classes_count": 5}),
    ] {
        let error = labels(params).unwrap_err().0;
        assert!(error.contains("rows of each class"), "{error}");
    }
}

#[test]
fn probabilities_follow_from_the_loss_function() {
    let mut model = model();
    let rows = Rows::new(vec![0.6, 1.6], 2).unwrap();
    for (loss, expected) in [
        ("Poisson", 17.0_f64.exp()),
        ("MultiLogloss", 1.0 / (1.0 + (-17.0_f64).exp())),
        ("YetiRank", 17.0),
    ] {
        model["model_info"]["params"]["loss_function"]["type"] = loss.into();
        let loaded = load(&model).unwrap();
        let output = compute::predict(loaded.model.as_ref(), &rows).unwrap();
        let Output::Numbers(numbers) = output else {
            panic!("{output:?}");
        };
        assert!((numbers[0] / expected - 1.0).abs() < 1e-14, "{numbers:?}");
    }
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let tree = |model: &mut Value, edit: fn(&mut Value)| edit(&mut model["oblivious_trees"][0]);
    let info = |model: &mut Value, edit: fn(&mut Value)| edit(&mut model["features_info"]);
    check_refused(
        |m| tree(m, |t| t["leaf_values"] = json!([1, 2, 4])),
        "values, but has 0",
    );
    check_refused(
        |m| m["oblivious_trees"][1]["leaf_values"] = json!([1, 2]),
        "tree 1: leaf_values must have 1 entries, but has 2",
    );
    check_refused(
        |m| tree(m, |t| t["leaf_values"] = json!([1, 2, 4, null])),
        "not a model of CatBoost",
    );
    check_refused(
        |m| tree(m, |t| t["splits"][0]["float_feature_index"] = 2.into()),
        "float feature 2 of 2",
    );
    check_refused(
        |m| tree(m, |t| t["splits"][0]["float_feature_index"] = (-1).into()),
        "not a model of CatBoost",
    );
    check_refused(
        |m| tree(m, |t| t["splits"][0]["border"] = 1e300.into()),
        "number out of range",
    );
    check_refused(
        |m| tree(m, |t| t["splits"][0]["border"] = Value::Null),
        "must have a float_feature_index and a border",
    );
    check_refused(|m| m["oblivious_trees"] = Value::Null, "no oblivious_trees");
    check_refused(|m| m["trees"] = json!([]), "SymmetricTree");
    check_refused(
        |m| m["scale_and_bias"] = json!([1, [0, 0]]),
        "a bias for each of 1 outputs, but has 2",
    );
    check_refused(
        |m| info(m, |i| i["float_features"] = json!([])),
        "float_features must be 1 to",
    );
    check_refused(
        |m| info(m, |i| i["categorical_features"] = json!([{}])),
        "categorical features",
    );
    check_refused(
        |m| info(m, |i| i["text_features"] = json!([{}])),
        "text features",
    );
    check_refused(
        |m| {
            info(m, |i| {
                i["float_features"][0]["flat_feature_index"] = 1.into()
            })
        },
        "in the order of flat_feature_index",
    );
    check_refused(
        |m| {
            info(m, |i| {
                i["float_features"][0]["nan_value_treatment"] = "AsTold".into()
            })
        },
        "AsIs, AsFalse or AsTrue",
    );
    check_refused(
        |m| m["model_info"]["params"]["loss_function"]["type"] = "RMSEWithUncertainty".into(),
        "RMSEWithUncertainty",
    );
    check_refused(
        |m| m["model_info"]["binclass_probability_threshold"] = "0.7".into(),
        "must be 0.5, but is 0.7",
    );
    let deep = |m: &mut Value| {
        let split = m["oblivious_trees"][0]["splits"][0].clone();
        m["oblivious_trees"][0]["splits"] = Value::from(vec![split; 64]);
        m["oblivious_trees"] = json!([m["oblivious_trees"][1], m["oblivious_trees"][0]]);
    };
    check_refused(deep, "at most 16 splits, but has 64");
}

#[test]
fn binary_files_are_refused_with_the_remedy() {
    assert!(CatboostBinary.recognises(b"CBM1\xd0\x29\0\0"));
    let error = CatboostBinary.load(b"CBM1", &ModelRequest::default());
    let error = error.map(|loaded| loaded.to_string()).unwrap_err().0;
    assert!(error.contains("format=\"json\""), "{error}");
}
