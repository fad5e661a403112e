//! How models of every kind treat rows that they cannot compute.

use super::*;
use crate::models::estimator::{
    ALGORITHMS, Algorithm, Estimator, EstimatorKind, Probabilities, Targets,
};

/// An estimator as a model of three features.
struct EstimatorModel {
    name: &'static str,
    signature: Signature,
    estimator: Estimator,
}

impl Model for EstimatorModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        self.estimator.check(rows)
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        self.estimator.predict(rows)
    }
}

/// Trains on rows of whole numbers from 0 to 4, of three classes.
fn served(algorithm: &Algorithm) -> EstimatorModel {
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
    let classes = 3 * usize::from(algorithm.task == EstimatorKind::Classification);
    let targets = match algorithm.task {
        EstimatorKind::Classification => Targets::Classes {
            indices: rows.iter().map(class).collect(),
            classes,
        },
        EstimatorKind::Regression => Targets::Numbers(rows.iter().map(score).collect()),
    };
    // What is slow and changes nothing here.
    let known = algorithm.parameters().into_iter();
    let trees = known.filter(|known| ["n_trees", "n_estimators"].contains(&known.name.as_str()));
    let typed: Vec<_> = trees.map(|known| (known.name, "5".to_owned())).collect();
    let fitted = algorithm.fit(&rows, &targets, &typed, Some(7));
    let output = match algorithm.task {
        EstimatorKind::Classification => OutputSpec::Classes {
            labels: (0..classes).map(|class| class.to_string()).collect(),
            has_probabilities: algorithm.probabilities != Probabilities::None,
        },
        EstimatorKind::Regression => OutputSpec::Numbers { width: 1 },
    };
    EstimatorModel {
        name: algorithm.name,
        signature: Signature::of_numbers(["a", "b", "c"].map(str::to_owned).to_vec(), output),
        estimator: fitted
            .unwrap_or_else(|error| panic!("{}: {error}", algorithm.name))
            .estimator,
    }
}

/// Returns which row is refused; panics if the model fails or its answer is not finite.
fn refused(model: &EstimatorModel, values: Vec<f64>) -> Option<RowFault> {
    let name = model.name;
    let rows = Rows::new(values, 3).unwrap();
    if let Err(fault) = model.check(&rows) {
        return Some(fault);
    }
    match predict(model, &rows) {
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
fn extreme_input_is_the_clients_fault_with_every_estimator() {
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
            let alone = refused(&model, row.to_vec());
            if let Some(fault) = &alone {
                assert!(row[fault.feature].abs() > EXTREME, "{name}: {fault:?}");
                count += 1;
            }
            let among_others = refused(&model, [plain, plain, row, plain].concat());
            let expected = alone.map(|fault| RowFault { row: 2, ..fault });
            assert_eq!(among_others, expected, "{name}: {row:?}");
        }
        assert_eq!(refused(&model, [plain, plain].concat()), None, "{name}");
        if count == 0 {
            never_refused.push(name);
        }
    }
    // These compare with thresholds, so any size is fine.
    let expected = [
        "bernoulli-naive-bayes",
        "decision-tree-classifier",
        "decision-tree-regressor",
        "extra-trees-regressor",
        "random-forest-classifier",
        "random-forest-regressor",
        "xgb-regressor",
    ];
    assert_eq!(never_refused, expected);
}

/// Answers with the value of the first feature.
struct FirstFeatureModel(EstimatorModel);

impl Model for FirstFeatureModel {
    fn signature(&self) -> &Signature {
        &self.0.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        let answer = |row: &[f64]| match row[0] {
            7.0 => Err(PredictError("told to fail".to_owned())),
            8.0 => Ok(f64::NAN),
            _ => Ok(row[1] * row[1] * 1e100),
        };
        rows.iter()
            .map(answer)
            .collect::<Result<_, _>>()
            .map(Output::Numbers)
    }
}

#[test]
fn a_model_that_fails_on_ordinary_rows_is_to_blame_whatever_else_there_is() {
    let linear = ALGORITHMS
        .iter()
        .find(|algorithm| algorithm.name == "linear-regression");
    let model = FirstFeatureModel(served(linear.unwrap()));
    let far = [0.0, -1e150, 1e101];
    let says = |values: &[[f64; 3]]| {
        let rows = Rows::new(values.concat(), 3).unwrap();
        predict(&model, &rows).map(|_| ())
    };
    let failed = Err(ComputeError::Model(PredictError("told to fail".to_owned())));
    assert_eq!(says(&[[0.0; 3]]), Ok(()));
    assert_eq!(says(&[[7.0, 0.0, 0.0]]), failed);
    assert_eq!(
        says(&[far.map(|value| value * 1e-60), [7.0, 0.0, 0.0]]),
        failed
    );
    // The encoder reports the first one, which is the model's fault.
    assert_eq!(says(&[[8.0, 0.0, 0.0], far]), Ok(()));
    let Err(ComputeError::Input(fault)) = says(&[[0.0; 3], far]) else {
        panic!("it has a finite answer");
    };
    assert_eq!((fault.row, fault.feature), (1, 1));
    let rows = Rows::new([[0.0; 3], far].concat(), 3).unwrap();
    let text = "the feature \"b\" must be closer to 0, as the model's answer to it is not finite, but is -1e150";
    assert_eq!(fault_text(&model.0.signature, &rows, &fault), text);
}
