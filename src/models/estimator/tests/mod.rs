mod hostile;

use super::*;
use smartcore::ensemble::random_forest_classifier::RandomForestClassifierParameters;

fn data() -> (Rows, Matrix, Vec<u32>) {
    // Two overlapping classes and a third, from a small linear congruence.
    let mut seed = 7u64;
    let mut next = || {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 40) as f64 / (1u64 << 24) as f64
    };
    let values: Vec<f64> = (0..400 * 3).map(|_| next() * 10.0 - 5.0).collect();
    let labels = values
        .chunks(3)
        .map(|row| ((row[0] + row[1] * 0.5 > 0.0) as u32) + (row[2] > 4.0) as u32)
        .collect();
    let matrix = DenseMatrix::new(400, 3, values.clone(), false).unwrap();
    (Rows::new(values, 3).unwrap(), matrix, labels)
}

fn classifier() -> (Rows, Matrix, ForestClassifier) {
    let (rows, matrix, labels) = data();
    let parameters = RandomForestClassifierParameters::default()
        .with_n_trees(12)
        .with_max_depth(4)
        .with_seed(3);
    let forest = ForestClassifier::fit(&matrix, &labels, parameters).unwrap();
    (rows, matrix, forest)
}

#[test]
fn the_majority_of_votes_is_what_smartcore_predicts() {
    let (rows, matrix, forest) = classifier();
    let serialised = serde_json::to_string(&forest).unwrap();
    let estimator = Estimator::read("random-forest-classifier", &serialised, 3, 3).unwrap();
    let Output::Classes {
        indices,
        probabilities,
    } = estimator.predict(&rows).unwrap()
    else {
        panic!("a classifier gives classes");
    };
    assert_eq!(indices, forest.predict(&matrix).unwrap());
    let shares = probabilities.unwrap();
    for (index, shares) in indices.iter().zip(shares.chunks(3)) {
        // Ties go to the lowest index, in smartcore and here.
        let most = shares.iter().copied().fold(0.0, f64::max);
        assert_eq!(
            shares.iter().position(|share| *share == most),
            Some(*index as usize)
        );
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }
}

/// What smartcore itself answers with, from the stored form of trees.
fn by_smartcore(name: &str, stored: &str, matrix: &Matrix) -> Option<Vec<u64>> {
    use smartcore::ensemble::extra_trees_regressor::ExtraTreesRegressor;
    use smartcore::tree::decision_tree_classifier::DecisionTreeClassifier;
    use smartcore::tree::decision_tree_regressor::DecisionTreeRegressor;
    use smartcore::xgboost::XGRegressor;
    type Labels = Vec<u32>;
    type Numbers = Vec<f64>;

    macro_rules! predict {
        ($model:ty) => {
            parse::<$model>(stored).unwrap().predict(matrix).unwrap()
        };
    }
    let numbers = match name {
        "random-forest-classifier" => {
            let labels = predict!(ForestClassifier);
            return Some(labels.into_iter().map(u64::from).collect());
        }
        "decision-tree-classifier" => {
            let labels = predict!(DecisionTreeClassifier<f64, u32, Matrix, Labels>);
            return Some(labels.into_iter().map(u64::from).collect());
        }
        "random-forest-regressor" => predict!(ForestRegressor),
        "extra-trees-regressor" => predict!(ExtraTreesRegressor<f64, f64, Matrix, Numbers>),
        "decision-tree-regressor" => predict!(DecisionTreeRegressor<f64, f64, Matrix, Numbers>),
        "xgb-regressor" => predict!(XGRegressor<f64, f64, Matrix, Numbers>),
        _ => return None,
    };
    Some(numbers.into_iter().map(f64::to_bits).collect())
}

#[test]
fn trees_answer_with_smartcores_bits_alone_and_in_batches() {
    let (rows, matrix, labels) = data();
    let numbers = labels
        .iter()
        .zip(rows.iter())
        .map(|(label, row)| f64::from(*label) / 3.0 + row[1]);
    let targets = (
        Targets::Classes {
            indices: labels.clone(),
            classes: 3,
        },
        Targets::Numbers(numbers.collect()),
    );
    let mut compared = 0;
    for algorithm in &ALGORITHMS {
        let name = algorithm.name;
        let own = match algorithm.task {
            EstimatorKind::Classification => &targets.0,
            EstimatorKind::Regression => &targets.1,
        };
        if !algorithm
            .parameters()
            .iter()
            .any(|known| known.name == "max_depth")
        {
            continue;
        }
        let fitted = algorithm.fit(&rows, own, &[], Some(3)).unwrap();
        let Some(expected) = by_smartcore(name, fitted.serialised.get(), &matrix) else {
            panic!("{name} has trees, but is not compared");
        };
        compared += 1;
        // The shares of votes follow the labels, and have a test of their own.
        let first = |output: &Output| {
            bits(output)
                .into_iter()
                .take(rows.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(
            first(&fitted.estimator.predict(&rows).unwrap()),
            expected,
            "{name}"
        );
        for (row, expected) in rows.iter().zip(&expected) {
            let alone = Rows::new(row.to_vec(), 3).unwrap();
            assert_eq!(
                bits(&fitted.estimator.predict(&alone).unwrap())[0],
                *expected,
                "{name}"
            );
        }
    }
    assert_eq!(compared, 6);
}

/// Rows of whole numbers from 0 to 4, and targets that depend on them, of three classes.
fn small(count: usize, seed: u64) -> (Rows, Targets, Targets) {
    let mut seed = seed.wrapping_mul(2654435761).wrapping_add(12345);
    let mut next = |below: u64| {
        seed = seed
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let values: Vec<f64> = (0..count * 3).map(|_| next(5) as f64).collect();
    let score = |row: &[f64]| row[0] * 2.0 + row[1] - row[2];
    // The first rows are one of each class, so that none is missing.
    let class = |(index, row): (usize, &[f64])| match (index, score(row) as i64) {
        (0..3, _) => index as u32,
        (_, ..2) => 0,
        (_, 2..6) => 1,
        _ => 2,
    };
    let indices = values.chunks(3).enumerate().map(class).collect();
    let numbers = values.chunks(3).map(|row| score(row) / 3.0).collect();
    let classes = Targets::Classes {
        indices,
        classes: 3,
    };
    (
        Rows::new(values, 3).unwrap(),
        classes,
        Targets::Numbers(numbers),
    )
}

fn fit(
    algorithm: &Algorithm,
    rows: &Rows,
    targets: &(Targets, Targets),
) -> Result<Fitted, ModelError> {
    let own = match algorithm.task {
        EstimatorKind::Classification => &targets.0,
        EstimatorKind::Regression => &targets.1,
    };
    // What is slow and changes nothing here.
    let fewer = ["n_trees", "n_estimators"];
    let parameters = algorithm.parameters();
    let typed: Vec<_> = parameters
        .iter()
        .filter(|known| fewer.contains(&known.name.as_str()))
        .map(|known| (known.name.clone(), "5".to_owned()))
        .collect();
    algorithm.fit(rows, own, &typed, Some(7))
}

fn fitted(algorithm: &Algorithm, rows: &Rows, targets: &(Targets, Targets)) -> Fitted {
    fit(algorithm, rows, targets).unwrap_or_else(|error| panic!("{}: {error}", algorithm.name))
}

/// Every number of an answer, as bits.
fn bits(output: &Output) -> Vec<u64> {
    match output {
        Output::Numbers(numbers) => numbers.iter().map(|number| number.to_bits()).collect(),
        Output::Classes {
            indices,
            probabilities,
        } => {
            let indices = indices.iter().map(|index| u64::from(*index));
            let shares = probabilities.iter().flatten().map(|share| share.to_bits());
            indices.chain(shares).collect()
        }
    }
}

#[test]
fn every_estimator_round_trips_to_the_same_bits_row_by_row() {
    let (rows, classes, numbers) = small(60, 1);
    let targets = (classes, numbers);
    for algorithm in &ALGORITHMS {
        let name = algorithm.name;
        let fitted = fitted(algorithm, &rows, &targets);
        let again = Estimator::read(name, fitted.serialised.get(), 3, classes_of(algorithm));
        let again = again.unwrap_or_else(|error| panic!("{name}: {error}"));
        let answer = fitted.estimator.predict(&rows).unwrap();
        assert_eq!(
            bits(&answer),
            bits(&again.predict(&rows).unwrap()),
            "{name}"
        );
        for (index, row) in rows.iter().enumerate() {
            let alone = Rows::new(row.to_vec(), 3).unwrap();
            let alone = bits(&again.predict(&alone).unwrap());
            let (first, classes) = match &answer {
                Output::Numbers(numbers) => (numbers[index].to_bits(), 0),
                Output::Classes { indices, .. } => (u64::from(indices[index]), 3),
            };
            assert_eq!(alone[0], first, "{name}, row {index}");
            if let Output::Classes {
                probabilities: Some(shares),
                ..
            } = &answer
            {
                let shares = &shares[index * classes..(index + 1) * classes];
                let shares: Vec<u64> = shares.iter().map(|share| share.to_bits()).collect();
                assert_eq!(alone[1..], shares, "{name}, row {index}");
            }
        }
        assert!(!fitted.estimator.shape().is_empty(), "{name}");
    }
}

fn classes_of(algorithm: &Algorithm) -> usize {
    match algorithm.task {
        EstimatorKind::Classification => 3,
        EstimatorKind::Regression => 0,
    }
}

#[test]
fn probabilities_exist_as_the_table_says_and_agree_with_labels() {
    let (rows, classes, numbers) = small(90, 3);
    let targets = (classes, numbers);
    for algorithm in &ALGORITHMS {
        let name = algorithm.name;
        let answer = fitted(algorithm, &rows, &targets).estimator.predict(&rows);
        let Output::Classes {
            indices,
            probabilities,
        } = answer.unwrap()
        else {
            assert_eq!(algorithm.task, EstimatorKind::Regression, "{name}");
            continue;
        };
        assert_eq!(
            probabilities.is_some(),
            algorithm.probabilities != Probabilities::None,
            "{name}"
        );
        for (index, shares) in indices
            .iter()
            .zip(probabilities.iter().flatten().collect::<Vec<_>>().chunks(3))
        {
            let sum: f64 = shares.iter().copied().sum();
            assert!((sum - 1.0).abs() < 1e-9, "{name}: {shares:?}");
            let most = shares.iter().copied().copied().fold(0.0, f64::max);
            assert!(
                *shares[*index as usize] >= most - 1e-12,
                "{name}: {index} of {shares:?}"
            );
        }
    }
}

#[test]
fn logistic_probabilities_of_two_classes_agree_with_its_labels() {
    let (rows, _, numbers) = small(80, 5);
    let Targets::Numbers(numbers) = numbers else {
        panic!()
    };
    let indices: Vec<u32> = numbers
        .iter()
        .map(|number| u32::from(*number > 1.0))
        .collect();
    let targets = Targets::Classes {
        indices,
        classes: 2,
    };
    let fitted = find("logistic-regression")
        .unwrap()
        .fit(&rows, &targets, &[], None)
        .unwrap();
    let Output::Classes {
        indices,
        probabilities,
    } = fitted.estimator.predict(&rows).unwrap()
    else {
        panic!()
    };
    for (index, shares) in indices.iter().zip(probabilities.unwrap().chunks(2)) {
        assert_eq!(*index == 1, shares[1] > 0.5, "{shares:?}");
        assert!((shares[0] + shares[1] - 1.0).abs() < 1e-12);
    }
}

#[test]
fn parameters_take_smartcores_spellings_and_tell_what_there_is() {
    let (rows, classes, numbers) = small(40, 9);
    let check = |name: &str, typed: &str, expected: &str| {
        let algorithm = find(name).unwrap();
        let targets = match algorithm.task {
            EstimatorKind::Classification => &classes,
            EstimatorKind::Regression => &numbers,
        };
        let (key, value) = typed.split_once('=').unwrap();
        let typed = [(key.to_owned(), value.to_owned())];
        match algorithm.fit(&rows, targets, &typed, None) {
            Ok(fitted) => assert_eq!(fitted.parameters[key].to_string(), expected, "{typed:?}"),
            Err(error) => assert!(
                error.0.contains(expected) && !expected.is_empty(),
                "{error}"
            ),
        }
    };
    check("random-forest-classifier", "n_trees=3", "3");
    check(
        "random-forest-classifier",
        "criterion=Entropy",
        "\"Entropy\"",
    );
    check("random-forest-classifier", "max_depth=none", "null");
    check("random-forest-classifier", "max_depth=2", "2");
    check(
        "random-forest-classifier",
        "criterion=gini",
        "Gini or Entropy or ClassificationError, but is \"gini\"",
    );
    check(
        "random-forest-classifier",
        "n_trees=many",
        "parameter n_trees must be a whole number, but is \"many\"",
    );
    check(
        "random-forest-classifier",
        "trees=3",
        "there is no parameter \"trees\"; there are criterion, keep_samples,",
    );
    check(
        "random-forest-classifier",
        "max_depth=x",
        "a whole number or none",
    );
    check(
        "knn-regressor",
        "algorithm=LinearSearch",
        "\"LinearSearch\"",
    );
    check("knn-regressor", "weight=Distance", "\"Distance\"");
    check("knn-regressor", "distance=Manhattan", "\"Manhattan\"");
    check(
        "knn-regressor",
        "k=41",
        "k must be 1 to the number of rows, which is 40, but is 41",
    );
    check("knn-classifier", "k=0", "k must be 1 to");
    check("xgb-regressor", "max_depth=101", "at most 100");
    check("lasso", "alpha=0.5", "0.5");
    check(
        "lasso",
        "fit_intercept=false",
        "cannot predict without an intercept",
    );
    check("ridge-regression", "solver=SVD", "\"SVD\"");
    check(
        "gaussian-naive-bayes",
        "priors=[0.2,0.3,0.5]",
        "[0.2,0.3,0.5]",
    );
    check(
        "gaussian-naive-bayes",
        "priors=0.5",
        "a list of numbers as in [0.5,0.5] or none",
    );
}

#[test]
fn every_parameter_is_described_and_its_default_may_be_typed() {
    let (rows, classes, numbers) = small(60, 1);
    for algorithm in &ALGORITHMS {
        let targets = match algorithm.task {
            EstimatorKind::Classification => &classes,
            EstimatorKind::Regression => &numbers,
        };
        for parameter in algorithm.parameters() {
            assert!(
                !parameter.values.is_empty(),
                "{} {parameter:?}",
                algorithm.name
            );
            let typed = [(parameter.name.clone(), parameter.default.clone())];
            let fitted = algorithm.fit(&rows, targets, &typed, None);
            assert!(
                fitted.is_ok(),
                "{} {parameter:?}: {:?}",
                algorithm.name,
                fitted.err()
            );
        }
    }
}

#[test]
fn features_that_must_be_whole_are_never_cut() {
    let (rows, classes, _) = small(60, 1);
    for (name, value, must_be) in [
        (
            "multinomial-naive-bayes",
            0.5,
            "a whole number from 0 to 4294967295",
        ),
        ("multinomial-naive-bayes", -1.0, "a whole number from 0"),
        ("categorical-naive-bayes", 1.5, "a whole number from 0 to 4"),
        ("categorical-naive-bayes", 5.0, "a whole number from 0 to 4"),
    ] {
        let fitted = find(name).unwrap().fit(&rows, &classes, &[], None).unwrap();
        assert_eq!(fitted.estimator.check(&rows), Ok(()));
        let odd = Rows::new(vec![0.0, 0.0, 0.0, 1.0, value, 1.0], 3).unwrap();
        let fault = fitted.estimator.check(&odd).unwrap_err();
        assert_eq!((fault.row, fault.feature), (1, 1), "{name}");
        assert!(
            fault.must_be.starts_with(must_be),
            "{name}: {}",
            fault.must_be
        );
        let error = find(name).unwrap().fit(
            &odd,
            &Targets::Classes {
                indices: vec![0, 1],
                classes: 2,
            },
            &[],
            None,
        );
        if value < 5.0 {
            assert!(
                error.unwrap_err().0.contains("feature 2 of row 2"),
                "{name}"
            );
        }
    }
}

#[test]
fn neighbours_are_found_at_every_magnitude_that_is_accepted() {
    let values: Vec<f64> = (-500..500).map(|power| 2f64.powi(power)).collect();
    let rows = Rows::new(values.clone(), 1).unwrap();
    let targets = Targets::Numbers(values.clone());
    let nearest = [("k".to_owned(), "1".to_owned())];
    let knn = find("knn-regressor").unwrap();
    let fitted = knn.fit(&rows, &targets, &nearest, None).unwrap();
    assert_eq!(
        fitted.estimator.predict(&rows).unwrap(),
        Output::Numbers(values)
    );
    let far = Rows::new(vec![-1e200, 1e200, 0.0], 1).unwrap();
    let targets = Targets::Numbers(vec![0.0; 3]);
    let error = knn.fit(&far, &targets, &[], None).unwrap_err();
    assert!(error.0.contains("too far apart"), "{error}");
}
