//! Models of other libraries give the same bits as their library.
//!
//! `tests/data/models/FAMILY/CASE` has model files, `rows.json`, and `expected.json` with the answers
//! of the library that wrote the model.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lanekeeper::config::{Iterations, ModelRequest};
use lanekeeper::models::{FeatureKind, Loaded, Output, Rows, compute, format};
use lanekeeper::platform::clock::instant;
use serde_json::Value;

/// Files that are refused by design, and why.
const REFUSED: [(&str, &str); 5] = [
    ("old_0_90_gblinear/model.bin", "XGBoost's old binary format"),
    (
        "old_0_90_squarederror/model.bin",
        "XGBoost's old binary format",
    ),
    ("binary/model.cbm", "CatBoost's binary format"),
    ("lossguide_non_symmetric/model.json", "not symmetric"),
    ("one_hot_categorical/model.json", "categorical features"),
];

/// Cases whose library has changed its logistic function since: some answers that were 0 are now 3e-39,
/// as here. Nothing in the files tells the two apart.
const UNCLAMPED: [&str; 2] = ["old_1_0_2_gblinear", "old_1_3_3_gblinear"];

pub(crate) fn data() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/models")
}

fn folders(below: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(below).unwrap();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

fn request(file: &Path) -> ModelRequest {
    ModelRequest::of_file(Some(file.to_owned()))
}

/// The rows of a case, as a client would send them.
pub(crate) fn rows(case: &Path, loaded: &Loaded) -> Rows {
    let text = fs::read_to_string(case.join("rows.json")).unwrap();
    let table: Value = serde_json::from_str(&text).unwrap();
    let signature = loaded.model.signature();
    let mut values = Vec::new();
    for row in table["rows"].as_array().unwrap() {
        for (feature, value) in signature.features.iter().zip(row.as_array().unwrap()) {
            let is_category = matches!(feature.kind, FeatureKind::Category { .. });
            values.push(match value {
                Value::Null => f64::NAN,
                Value::String(text) if is_category => feature.kind.code(text).unwrap(),
                Value::String(text) => text.parse().unwrap(),
                value if is_category => feature
                    .kind
                    .code_of_number(value.as_f64().unwrap())
                    .unwrap(),
                value => value.as_f64().unwrap(),
            });
        }
    }
    Rows::new(values, signature.width()).unwrap()
}

/// The bits of numbers, as text.
fn bits(numbers: &[f64], dtype: &str) -> Vec<String> {
    let bits = |number: &f64| match dtype {
        "float32" => {
            assert_eq!(f64::from(*number as f32).to_bits(), number.to_bits());
            format!("{:08x}", (*number as f32).to_bits())
        }
        _ => format!("{:016x}", number.to_bits()),
    };
    numbers.iter().map(bits).collect()
}

/// Converts an answer to what `Booster.predict` returns.
fn predicted(output: &Output, classes: usize) -> Vec<f64> {
    match output {
        Output::Numbers(numbers) => numbers.clone(),
        Output::Classes {
            probabilities: Some(shares),
            ..
        } if classes == 2 => shares.iter().skip(1).step_by(2).copied().collect(),
        Output::Classes {
            probabilities: Some(shares),
            ..
        } => shares.clone(),
        Output::Classes { indices, .. } => indices.iter().map(|class| f64::from(*class)).collect(),
    }
}

fn expected(expected: &Value, name: &str) -> Option<(Vec<String>, String)> {
    let output = &expected["outputs"][name];
    let bits = output["bits"].as_array()?;
    let bits = bits.iter().map(|bits| bits.as_str().unwrap().to_owned());
    Some((bits.collect(), output["dtype"].as_str().unwrap().to_owned()))
}

/// Compares all files of a case with its library's answers; returns the number of files.
fn check_case(case: &Path) -> usize {
    let name = case.file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(case.join("expected.json")).unwrap();
    let truth: Value = serde_json::from_str(&text).unwrap();
    let mut count = 0;
    for file in truth["models"].as_array().unwrap() {
        let path = case.join(file.as_str().unwrap());
        // One of CatBoost's binary files is kept, to be refused.
        if path.extension().is_some_and(|kind| kind == "cbm") && !path.exists() {
            continue;
        }
        count += 1;
        let loaded = format::load(&request(&path));
        if let Some((_, why)) = REFUSED.iter().find(|(file, _)| path.ends_with(file)) {
            let error = loaded.unwrap_err().0;
            assert!(
                error.to_lowercase().contains(&why.to_lowercase()),
                "{name}: {error}"
            );
            continue;
        }
        let loaded = loaded.unwrap_or_else(|error| panic!("{name}: {error}"));
        let rows = rows(case, &loaded);
        let model = loaded.model.as_ref();
        compute::check(model, &rows).unwrap_or_else(|fault| panic!("{name}: {fault:?}"));
        // If another version wrote the file, `margin_now` has the present version's answer.
        let (margin, dtype) = expected(&truth, "margin_now")
            .or_else(|| expected(&truth, "margin"))
            .unwrap();
        let raw = model.raw(&rows).unwrap();
        assert_eq!(bits(&raw, &dtype), margin, "{name}: margins");
        // One row at a time gives the same bits.
        for row in 0..rows.len() {
            let width = raw.len() / rows.len();
            let alone = model.raw(&rows.part(row, 1)).unwrap();
            let same = &raw[row * width..][..width];
            assert_eq!(
                bits(&alone, &dtype),
                bits(same, &dtype),
                "{name}: row {row} alone"
            );
        }
        let output = compute::predict(model, &rows).unwrap();
        if let Some((shares, dtype)) = expected(&truth, "probability") {
            check_classes(name, &output, &truth, (shares, &dtype));
            continue;
        }
        let (mut prediction, dtype) = expected(&truth, "prediction_now")
            .or_else(|| expected(&truth, "prediction"))
            .unwrap();
        let classes = model.signature().output.labels().len();
        let given = bits(&predicted(&output, classes), &dtype);
        if UNCLAMPED.contains(&name) {
            let zeros = prediction.iter_mut().filter(|bits| *bits == "00000000");
            zeros.for_each(|bits| "0020bd47".clone_into(bits));
        }
        assert_eq!(given, prediction, "{name}: predictions");
    }
    count
}

/// Compares a classifier's answer with one that has the shares of all classes.
fn check_classes(name: &str, output: &Output, truth: &Value, (shares, dtype): (Vec<String>, &str)) {
    let Output::Classes {
        indices,
        probabilities: Some(given),
    } = output
    else {
        panic!("{name}: {output:?}");
    };
    assert_eq!(bits(given, dtype), shares, "{name}: probabilities");
    let classes: Vec<u64> = indices.iter().map(|class| u64::from(*class)).collect();
    assert_eq!(
        Value::from(classes),
        truth["outputs"]["class"]["values"],
        "{name}: classes"
    );
}

fn check_family(family: &str, least: usize) {
    let counts = folders(&data().join(family))
        .iter()
        .map(|case| check_case(case))
        .sum::<usize>();
    assert!(counts >= least, "{family}: {counts} files");
}

#[test]
fn xgboost_models_answer_with_xgboosts_bits() {
    check_family("xgboost", 40);
    check_family("xgboost-old", 38);
}

#[test]
fn lightgbm_models_answer_with_lightgbms_bits() {
    check_family("lightgbm", 25);
    check_family("lightgbm-old", 20);
}

#[test]
fn catboost_models_answer_with_catboosts_bits() {
    check_family("catboost", 6);
}

#[test]
fn only_the_best_iterations_count_if_asked_for() {
    let case = data().join("xgboost/early_stopping_sklearn");
    let text = fs::read_to_string(case.join("expected.json")).unwrap();
    let truth: Value = serde_json::from_str(&text).unwrap();
    for file in ["model.json", "model.ubj"] {
        let mut request = request(&case.join(file));
        let all = format::load(&request).unwrap();
        assert!(
            all.notes[0].contains("--iterations best"),
            "{:?}",
            all.notes
        );
        request.iterations = Some(Iterations::Best);
        let loaded = format::load(&request).unwrap();
        let rows = rows(&case, &loaded);
        let raw = loaded.model.raw(&rows).unwrap();
        let (margin, dtype) = expected(&truth, "margin_best_iteration").unwrap();
        assert_eq!(bits(&raw, &dtype), margin);
        let output = compute::predict(loaded.model.as_ref(), &rows).unwrap();
        let Output::Classes {
            indices,
            probabilities: Some(shares),
        } = output
        else {
            panic!("{output:?}");
        };
        let (expected, dtype) = expected(&truth, "sklearn_predict_proba").unwrap();
        assert_eq!(bits(&shares, &dtype), expected);
        let labels: Vec<u64> = indices.iter().map(|class| u64::from(*class)).collect();
        let truth: Vec<u64> = truth["outputs"]["sklearn_predict"]["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|label| label.as_u64().unwrap())
            .collect();
        assert_eq!(labels, truth);
    }
}

#[test]
fn hostile_files_are_refused_in_one_line_and_at_once() {
    let mut count = 0;
    for kind in ["xgboost-json", "xgboost-ubj", "lightgbm", "sklearn", "onnx"] {
        for file in folders(&data().join("hostile").join(kind)) {
            let began = instant();
            let error = format::load(&request(&file)).map(|loaded| loaded.to_string());
            let error = error.expect_err(&format!("{file:?} was loaded")).0;
            assert!(
                !error.contains('\n') && error.len() < 500,
                "{file:?}: {error}"
            );
            assert!(began.elapsed() < Duration::from_secs(1), "{file:?}");
            count += 1;
        }
    }
    assert_eq!(count, 57);
}

#[test]
fn classes_and_models_have_the_names_that_are_asked_for() {
    let file = data().join("xgboost/multi_softprob/model.json");
    let mut request = request(&file);
    let loaded = format::load(&request).unwrap();
    assert_eq!(loaded.name, "model");
    assert_eq!(loaded.model.signature().output.labels(), ["0", "1", "2"]);
    request.name = Some("flowers".to_owned());
    request.classes = ["a", "b", "c"].map(str::to_owned).to_vec();
    let loaded = format::load(&request).unwrap();
    assert_eq!(loaded.name, "flowers");
    assert_eq!(loaded.model.signature().output.labels(), ["a", "b", "c"]);
    request.classes.pop();
    let error = format::load(&request).unwrap_err().0;
    assert!(error.contains("--classes must name 3 classes"), "{error}");
}

/// How many seconds each file is spoiled for, if not a fixed number of times.
const SPOILED_SECONDS: &str = "TEST_LANEKEEPER_SPOILED_SECONDS";

/// A part of the names of the files that are spoiled, if not all are.
const SPOILED_FILES: &str = "TEST_LANEKEEPER_SPOILED_FILES";

/// The generator SplitMix64 (Steele, Lea and Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) as usize % limit
    }
}

/// Damages a file as an accident or an attacker might.
fn spoil(bytes: &[u8], chance: &mut Chance) -> Vec<u8> {
    let mut spoiled = bytes.to_vec();
    for _ in 0..=chance.below(3) {
        let at = chance.below(spoiled.len());
        match chance.below(5) {
            0 => spoiled[at] ^= 1 << chance.below(8),
            1 => spoiled.truncate(at.max(1)),
            // Change a number.
            2 => {
                let digits = spoiled
                    .iter_mut()
                    .skip(at)
                    .find(|byte| byte.is_ascii_digit());
                if let Some(digit) = digits {
                    *digit = b'0' + chance.below(10) as u8;
                }
            }
            3 => {
                let words: [&[u8]; 6] = [b"-1", b"99999999999", b"NaN", b"1e999", b"[]", b"null"];
                let word = words[chance.below(words.len())];
                spoiled.splice(at..at, word.iter().copied());
            }
            // Duplicate or move a piece.
            _ => {
                let to = (at + chance.below(40)).min(spoiled.len());
                let piece = spoiled[at..to].to_vec();
                let place = chance.below(spoiled.len());
                spoiled.splice(place..place, piece);
            }
        }
    }
    spoiled
}

#[test]
fn spoiled_files_are_refused_or_predict_and_never_panic() {
    let files = [
        "xgboost/binary_logistic/model.json",
        "xgboost/categorical_partition/model.ubj",
        "xgboost/multi_target_vector_leaf/model.json",
        "xgboost-old/old_1_0_2_dart/model.json",
        "xgboost/gblinear_reg/model.json",
        "lightgbm/categorical_pandas/model.txt",
        "lightgbm/linear_tree/model.txt",
        "lightgbm-old/old_2_3_1_rf/model.txt",
        "catboost/multiclass/model.json",
        "sklearn-native/old_1_5_2_column_transformer_random_forest/model.pkl",
        "sklearn-native/hist_gradient_boosting_classifier/model.joblib",
        "sklearn-native/scaler_ridge/model.skops",
        "sklearn-more/mlp_three/model.pkl",
        "sklearn-more/one_hot_min_frequency/model.pkl",
        "sklearn-onnx/column_transformer_random_forest/model.onnx",
        "sklearn-onnx/hist_gradient_boosting_classifier/model.onnx",
        "sklearn-onnx/kbins_logreg/model.onnx",
        "sklearn-onnx/knn_classifier/model.onnx",
        "sklearn-onnx/svc_rbf_proba/model.onnx",
        "onnx-operators/moves_0/model.onnx",
        "onnx-operators/treeensemble_0_1_0/model.onnx",
    ];
    // For as long as a person likes, with other files each time: a number of seconds for each file.
    let seconds = std::env::var(SPOILED_SECONDS).ok();
    let lasts = seconds.map(|seconds| Duration::from_secs(seconds.parse().unwrap()));
    let wanted = std::env::var(SPOILED_FILES).unwrap_or_default();
    let seed = lasts.map_or(7, |_| u64::from(std::process::id()));
    let path = std::env::temp_dir().join(format!("lanekeeper-spoiled-{}", std::process::id()));
    let mut chance = Chance(seed);
    let (mut refused, mut loaded_ones) = (0, 0);
    for file in files.into_iter().filter(|file| file.contains(&wanted)) {
        let bytes = fs::read(data().join(file)).unwrap();
        let (started, before) = (instant(), refused + loaded_ones);
        let goes_on = |round: usize| match lasts {
            None => round < 250,
            Some(lasts) => started.elapsed() < lasts,
        };
        for round in 0.. {
            if !goes_on(round) {
                break;
            }
            fs::write(&path, spoil(&bytes, &mut chance)).unwrap();
            let began = instant();
            match format::load(&request(&path)) {
                Err(error) => {
                    assert!(!error.0.contains('\n'), "{file}, seed {seed}: {error}");
                    refused += 1;
                }
                Ok(loaded) => {
                    let width = loaded.model.signature().width();
                    let values = [0.0, 1.0, f64::NAN, -7.5];
                    let row = values.iter().copied().cycle().take(width * 64).collect();
                    let rows = Rows::new(row, width).unwrap();
                    // The damaged file may have fewer categories, and then refuses the row.
                    if compute::check(loaded.model.as_ref(), &rows).is_ok() {
                        let _ = compute::predict(loaded.model.as_ref(), &rows);
                    }
                    loaded_ones += 1;
                }
            }
            assert!(
                began.elapsed() < Duration::from_secs(1),
                "{file}, seed {seed}"
            );
        }
        if lasts.is_some() {
            eprintln!(
                "{file}: {} files, seed {seed}",
                refused + loaded_ones - before
            );
        }
    }
    let _ = fs::remove_file(&path);
    assert!(
        !wanted.is_empty() || refused > 500 && loaded_ones > 100,
        "{refused} refused, {loaded_ones} loaded"
    );
}

/// Makes a golden file from a case's answers; changes one digit of the field `spoiled`, if any.
pub(crate) fn golden_file(case: &Path, spoiled: Option<&str>) -> String {
    let read = |name: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(case.join(name)).unwrap()).unwrap()
    };
    let (rows, truth) = (read("rows.json"), read("expected.json"));
    let rows = rows["rows"].as_array().unwrap();
    let hex = |name: &str, field: &str| -> Vec<String> {
        let (bits, dtype) = expected(&truth, name).unwrap();
        let kind = if dtype == "float32" { "f4" } else { "f8" };
        let per_row = bits.len() / rows.len();
        let mut texts: Vec<String> = bits
            .chunks(per_row)
            .map(|bits| format!("{kind}:{}", bits.concat()))
            .collect();
        if spoiled == Some(field) {
            let last = texts[7].pop().unwrap();
            // Adds 3 to the last hexadecimal digit, or subtracts 13: more than the tolerance of 2.
            texts[7].push(char::from_digit((last.to_digit(16).unwrap() + 3) % 16, 16).unwrap());
        }
        texts
    };
    serde_json::json!({
        "format": "lanekeeper-golden",
        "library": "a library 1.0",
        "rows": rows,
        "margins": hex("margin", "margins"),
        "answers": hex("prediction", "answers"),
    })
    .to_string()
}

#[test]
fn golden_rows_hold_a_model_to_its_library() {
    let path = std::env::temp_dir().join(format!("lanekeeper-golden-{}", std::process::id()));
    for case in [
        "xgboost/multi_softprob/model.json",
        "lightgbm/gamma/model.txt",
    ] {
        let file = data().join(case);
        let folder = file.parent().unwrap();
        let mut request = request(&file);
        request.golden = Some(path.clone());
        fs::write(&path, golden_file(folder, None)).unwrap();
        let loaded = format::load(&request).unwrap();
        assert_eq!(loaded.golden.len(), 50);
        assert!(
            loaded.notes.iter().all(|note| !note.contains("golden")),
            "{:?}",
            loaded.notes
        );
        for (field, what) in [("margins", "margin"), ("answers", "answer")] {
            fs::write(&path, golden_file(folder, Some(field))).unwrap();
            let error = format::load(&request).unwrap_err().0;
            for part in [
                "golden row [",
                what,
                "a library 1.0",
                "units in the last place",
            ] {
                assert!(error.contains(part), "{field}: {part} in {error}");
            }
        }
        for (text, expected) in [
            ("{}", "not a file of golden rows"),
            ("{\"format\": 1}", "golden rows"),
        ] {
            fs::write(&path, text).unwrap();
            let error = format::load(&request).unwrap_err().0;
            assert!(error.contains(expected), "{error}");
        }
    }
    let _ = fs::remove_file(&path);
}

#[test]
fn golden_scripts_are_printed_for_each_library() {
    for (library, uses) in [
        ("xgboost", "import xgboost"),
        ("lightgbm", "import lightgbm"),
        ("sklearn", "predict_proba"),
        ("onnx", "InferenceSession"),
    ] {
        let output = crate::train::run(&["golden-script", library]);
        let script = crate::train::stdout(&output);
        assert!(script.contains(uses), "{script}");
        assert!(script.contains("lanekeeper-golden"), "{script}");
    }
}
