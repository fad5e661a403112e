use super::encoder::{Encoding, Lookup};
use super::linear::{LinearLink, LinearModel};
use super::step::{Branch, Function, Imputation, Norm, Operation, Step};
use super::*;
use crate::models::OutputSpec;

fn matrix(values: &[f64], width: usize) -> Matrix {
    Matrix {
        values: values.to_vec(),
        width,
        rows: values.len() / width,
    }
}

fn encoding(lookup: Lookup, unknown: Option<Option<u32>>) -> Encoding<Option<u32>> {
    Encoding {
        feature: 3,
        lookup,
        missing: Some(1),
        targets: vec![Some(0), Some(1)],
        unknown,
    }
}

#[test]
fn each_step_does_what_its_transformer_does() {
    let nan = f64::NAN;
    let numbers = Lookup::Numbers(vec![(2.0, 0), (5.5, 1)]);
    let each = |operation| Step::Each(operation, vec![2.0, 10.0]);
    let one_hot = |lookup, unknown| Step::OneHot {
        columns: vec![encoding(lookup, unknown)],
        width: 2,
    };
    let impute = Step::Impute(Imputation {
        missing: nan,
        filled: vec![(1, 7.0)],
        flagged: vec![0],
    });
    let project = Step::Project {
        width: 2,
        weights: vec![1.0, 2.0, -1.0, 0.5],
        offsets: vec![0.0, 1.0],
    };
    let side_by_side = Step::Parallel(vec![
        Branch {
            columns: vec![1],
            steps: vec![Step::Function(Function::named("square").unwrap())],
        },
        Branch {
            columns: vec![1, 0],
            steps: Vec::new(),
        },
    ]);
    #[rustfmt::skip]
    let table = [
        ("choose", Step::Choose(vec![1, 1]), vec![1.0, 2.0], 2, vec![2.0, 2.0]),
        ("add", each(Operation::Add), vec![1.0, 2.0], 2, vec![3.0, 12.0]),
        ("divide", each(Operation::Divide), vec![1.0, 2.0, nan, 5.0], 2, vec![0.5, 0.2, nan, 0.5]),
        ("at least", each(Operation::AtLeast), vec![nan, 2.0], 2, vec![nan, 10.0]),
        ("at most", each(Operation::AtMost), vec![3.0, nan], 2, vec![2.0, nan]),
        ("l1", Step::Normalize(Norm::L1), vec![-1.0, 3.0, 0.0, 0.0], 2, vec![-0.25, 0.75, 0.0, 0.0]),
        ("l2", Step::Normalize(Norm::L2), vec![3.0, 4.0], 2, vec![0.6, 0.8]),
        ("max", Step::Normalize(Norm::Max), vec![-4.0, 2.0], 2, vec![-1.0, 0.5]),
        ("impute", impute, vec![nan, nan, 1.0, 2.0], 2, vec![7.0, 1.0, 2.0, 0.0]),
        ("one-hot of numbers", one_hot(numbers.clone(), Some(None)), vec![5.5, 2.0, 3.0, nan], 1, vec![0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]),
        ("one-hot of codes", one_hot(Lookup::Codes(vec![None, Some(0)]), Some(Some(1))), vec![0.0, 1.0, 9.0], 1, vec![0.0, 1.0, 1.0, 0.0, 0.0, 1.0]),
        ("bins", Step::Bins(vec![vec![1.0, 2.0], vec![]]), vec![1.0, 5.0, 0.9, 5.0], 2, vec![1.0, 0.0, 0.0, 0.0]),
        ("products", Step::Products(vec![vec![], vec![0], vec![0, 1], vec![1, 1]]), vec![2.0, 3.0], 2, vec![1.0, 2.0, 6.0, 9.0]),
        ("project", project, vec![1.0, 2.0], 2, vec![5.0, -1.0]),
        ("binarize", Step::Binarize(1.0), vec![1.0, 1.5], 2, vec![0.0, 1.0]),
        ("side by side", side_by_side, vec![2.0, 3.0], 2, vec![9.0, 3.0, 2.0]),
    ];
    for (name, step, values, width, expected) in table {
        let out = step::run(std::slice::from_ref(&step), matrix(&values, width)).unwrap();
        assert_eq!(out.width, step.width(width), "{name}");
        let bits = |values: &[f64]| values.iter().map(|one| one.to_bits()).collect::<Vec<_>>();
        assert_eq!(
            bits(&out.values),
            bits(&expected),
            "{name}: {:?}",
            out.values
        );
    }
    let refuses = one_hot(numbers, None);
    let fault = step::run(&[refuses], matrix(&[2.0, 3.0], 1)).unwrap_err();
    assert_eq!((fault.row, fault.feature), (1, 3));
    assert!(
        fault.must_be.contains("such as 2, 5.5"),
        "{}",
        fault.must_be
    );
}

#[test]
fn a_cast_to_a_byte_keeps_the_lowest_bits_of_the_whole_part() {
    let mut codes = vec![None; 256];
    (codes[0], codes[2]) = (Some(0), Some(1));
    let encoding = encoding(Lookup::Truncated(codes), Some(None));
    let found = [2.7, 258.0, 256.0, -0.5, 1.0].map(|value| encoding.target(value));
    assert_eq!(
        found,
        [
            Some(Some(1)),
            Some(Some(1)),
            Some(Some(0)),
            Some(None),
            Some(None)
        ]
    );
}

/// A sum of two columns behind a logarithm of the second.
fn model(takes: Takes) -> PipelineModel {
    let names = ["a", "b"].map(str::to_owned).to_vec();
    let signature = Signature::of_numbers(names, OutputSpec::Numbers { width: 1 });
    let column = |column, steps| Branch {
        columns: vec![column],
        steps,
    };
    let log = Step::Function(Function::named("log").unwrap());
    PipelineModel {
        signature: signature.clone(),
        steps: vec![Step::Parallel(vec![
            column(1, vec![log]),
            column(0, Vec::new()),
        ])],
        sources: vec![1, 0],
        takes,
        last: Box::new(LinearModel {
            signature,
            weights: vec![1.0, 1.0],
            intercepts: vec![0.5],
            link: LinearLink::Numbers,
        }),
        has_raw: false,
    }
}

#[test]
fn a_value_that_becomes_infinite_on_the_way_is_the_clients_fault() {
    let model = model(Takes::FINITE);
    let rows = |values: &[f64]| Rows::new(values.to_vec(), 2).unwrap();
    assert_eq!(model.check(&rows(&[1.0, 1.0])), Ok(()));
    let fault = model.check(&rows(&[1.0, 1.0, 1.0, 0.0])).unwrap_err();
    assert_eq!((fault.row, fault.feature), (1, 1));
    let narrow = Takes {
        beyond_f32: false,
        ..Takes::FINITE
    };
    let fault = self::model(narrow).check(&rows(&[1e39, 1.0])).unwrap_err();
    assert_eq!((fault.row, fault.feature), (0, 0));
    assert!(fault.must_be.contains("32 bits"), "{}", fault.must_be);
}

#[test]
fn many_rows_in_blocks_answer_as_each_alone() {
    let model = model(Takes::FINITE);
    let count = 2 * BLOCK_NUMBERS / 2 + 3;
    let values: Vec<f64> = (0..2 * count).map(|place| 1.0 + place as f64).collect();
    let rows = Rows::new(values, 2).unwrap();
    let Output::Numbers(all) = model.predict(&rows).unwrap() else {
        panic!("no numbers");
    };
    assert_eq!(all.len(), count);
    for row in [0, 1, count / 2, count - 1] {
        let Output::Numbers(alone) = model.predict(&rows.part(row, 1)).unwrap() else {
            panic!("no numbers");
        };
        assert_eq!(alone, [all[row]]);
    }
}
