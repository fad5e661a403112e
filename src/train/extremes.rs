//! How models of every algorithm treat rows that they cannot compute.

use super::*;
use crate::models::RowFault;
use crate::models::compute::{ComputeError, EXTREME, first_not_finite};
use crate::models::native::features::{FeatureDocument, KindDocument};
use crate::train::algorithms::ALGORITHMS;

/// Trains on rows of whole numbers from 0 to 4, of three classes.
fn served(algorithm: &'static Algorithm) -> PipelineModel {
    let mut seed = 7_u64;
    let mut next = || {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
        ((seed >> 33) % 5) as f64
    };
    let values: Vec<f64> = (0..180).map(|_| next()).collect();
    let rows = Rows::new(values, 3).unwrap();
    let score = |row: &[f64]| row[0] * 2.0 + row[1] - row[2];
    // Far apart, so that coefficients are large.
    let class = |row: &[f64]| u32::from(score(row) > 2.0) + u32::from(score(row) > 6.0);
    let (targets, classes) = match algorithm.task {
        Task::Classification => (
            Targets::Classes {
                indices: rows.iter().map(class).collect(),
                classes: 3,
            },
            ["0", "1", "2"].map(str::to_owned).to_vec(),
        ),
        Task::Regression => (
            Targets::Numbers(rows.iter().map(score).collect()),
            Vec::new(),
        ),
    };
    let feature = |name: &str| FeatureDocument {
        name: name.to_owned(),
        kind: KindDocument::Number,
        may_be_missing: false,
        written: None,
        range: None,
    };
    let data = TrainingData {
        features: ["a", "b", "c"].map(feature).to_vec(),
        rows,
        targets,
        classes,
        columns: Vec::new(),
        notes: Vec::new(),
    };
    let is_slow = algorithm
        .parameters()
        .iter()
        .any(|known| known.name == "n_estimators");
    let recipe = Recipe {
        algorithm,
        parameters: is_slow
            .then(|| ("n_estimators".to_owned(), "5".to_owned()))
            .into_iter()
            .collect(),
        is_balanced: false,
        seed: 7,
        threads: 1,
    };
    let fitted = recipe.fit(&data, &data.rows, &data.targets);
    fitted
        .unwrap_or_else(|error| panic!("{}: {error}", algorithm.name))
        .model
}

/// Returns which row is refused; panics if the model fails or its answer is not finite.
fn refused(name: &str, model: &PipelineModel, values: Vec<f64>) -> Option<RowFault> {
    let rows = Rows::new(values, 3).unwrap();
    if let Err(fault) = compute::check(model, &rows) {
        return Some(fault);
    }
    match compute::predict(model, &rows) {
        Err(ComputeError::Input(fault)) => Some(fault),
        Err(failure) => panic!("{name}: {rows:?}: {failure:?}"),
        Ok(output) => {
            assert_eq!(
                first_not_finite(&output, &model.signature.output),
                None,
                "{name}: {rows:?}: {output:?}"
            );
            None
        }
    }
}

#[test]
fn extreme_input_is_the_clients_fault_with_every_algorithm() {
    const MOST: f64 = f64::MAX;
    let table = [
        [1e308, 1e308, 1e308],
        [1.0, -1e308, 1.0],
        [MOST, -MOST, MOST],
        [-MOST, -MOST, -MOST],
        [-MOST, 2.0, 3.0],
        [1e200, 1e200, 1e200],
        [1e101, 0.0, 0.0],
    ];
    let plain = [1.0, 2.0, 3.0];
    let mut never_refused = Vec::new();
    for algorithm in &ALGORITHMS {
        let (model, name) = (served(algorithm), algorithm.name);
        let mut count = 0;
        for row in table {
            let alone = refused(name, &model, row.to_vec());
            if let Some(fault) = &alone {
                assert!(row[fault.feature].abs() > EXTREME, "{name}: {fault:?}");
                count += 1;
            }
            let among_others = refused(name, &model, [plain, plain, row, plain].concat());
            let expected = alone.map(|fault| RowFault { row: 2, ..fault });
            assert_eq!(among_others, expected, "{name}: {row:?}");
        }
        assert_eq!(
            refused(name, &model, [plain, plain].concat()),
            None,
            "{name}"
        );
        if count == 0 {
            never_refused.push(name);
        }
    }
    // These compare with thresholds, so any size is fine.
    let expected = [
        "boosted-trees-classifier",
        "boosted-trees-regressor",
        "decision-tree-classifier",
        "decision-tree-regressor",
        "random-forest-classifier",
        "random-forest-regressor",
    ];
    assert_eq!(never_refused, expected);
}
