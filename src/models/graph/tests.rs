use super::broadcast::{binary, expand, select};
use super::moves::{choose, concat, look_up, transpose};
use super::reduce::{AxisLanes, reduce, top};
use super::*;

const ROWS: Dim = Dim::Rows(1);

fn shape(dims: &[Dim]) -> Shape {
    Shape::new(dims.to_vec()).unwrap()
}

fn fixed(size: usize) -> Dim {
    Dim::Fixed(size)
}

#[test]
fn rows_keep_their_place_in_every_shape() {
    let table = shape(&[ROWS, fixed(6)]);
    let numbers = |sizes: &[i64]| sizes.iter().copied().map(Size::Number).collect::<Vec<_>>();
    let reshaped = |sizes: &[i64]| table.reshaped(&numbers(sizes), false);
    #[rustfmt::skip]
    let sound = [
        (&[-1, 2, 3][..], shape(&[ROWS, fixed(2), fixed(3)])),
        (&[0, -1, 3], shape(&[ROWS, fixed(2), fixed(3)])),
        (&[1, -1, 6], shape(&[fixed(1), ROWS, fixed(6)])),
        (&[-1], shape(&[Dim::Rows(6)])),
        (&[1, -1], shape(&[fixed(1), Dim::Rows(6)])),
        (&[-1, 2], shape(&[Dim::Rows(3), fixed(2)])),
    ];
    for (sizes, expected) in sound {
        assert_eq!(reshaped(sizes).unwrap(), expected, "{sizes:?}");
    }
    // Rows would be mixed, or there are too many or too few numbers.
    for sizes in [
        &[6, -1][..],
        &[2, -1, 3],
        &[-1, 4],
        &[1, 6],
        &[-1, -1],
        &[0, 7],
        &[-1, 0, 0],
    ] {
        assert!(reshaped(sizes).is_err(), "{sizes:?}");
    }
    let back = shape(&[Dim::Rows(6)]).reshaped(&[Size::Rows(1), Size::Number(-1)], false);
    assert_eq!(back.unwrap(), table);
    assert!(Shape::new(vec![ROWS, ROWS]).is_err());
    assert!(Shape::new(vec![ROWS, fixed(1 << 40)]).is_err());
    assert!(Shape::new(vec![fixed(usize::MAX), fixed(2)]).is_err());
    assert!(table.fixed_axis(0).is_err());
    assert_eq!(table.fixed_axis(-1), Ok(1));
    assert!(table.axis(2).is_err());
    assert!(table.axis(i64::MIN).is_err());
}

/// Runs a kernel on one or two rows.
fn run(kernel: &Kernel, rows: usize, inputs: &[&[f64]]) -> Vec<f64> {
    kernel(rows, inputs).unwrap().remove(0)
}

#[test]
fn a_tensor_is_spread_over_another_as_its_shape_says() {
    let subtract = |left: &[Dim], right: &[Dim]| {
        let (left, right) = (shape(left), shape(right));
        let result = left.broadcast(&right).unwrap();
        (
            binary([left, right, result.clone()], |left, right| left - right),
            result,
        )
    };
    let two_rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let (kernel, _) = subtract(&[ROWS, fixed(3)], &[fixed(3)]);
    assert_eq!(
        run(&kernel, 2, &[&two_rows, &[1.0, 0.0, 2.0]]),
        [0.0, 2.0, 1.0, 3.0, 5.0, 4.0]
    );
    let (kernel, _) = subtract(&[ROWS, fixed(3)], &[ROWS, fixed(1)]);
    assert_eq!(
        run(&kernel, 2, &[&two_rows, &[1.0, 4.0]]),
        [0.0, 1.0, 2.0, 0.0, 1.0, 2.0]
    );
    let (kernel, _) = subtract(&[], &[ROWS, fixed(3)]);
    assert_eq!(run(&kernel, 1, &[&[10.0], &two_rows[..3]]), [9.0, 8.0, 7.0]);
    // A row of columns and a column of classes, as naive Bayes has them.
    let (kernel, result) = subtract(&[ROWS, fixed(1), fixed(2)], &[fixed(1), fixed(2), fixed(1)]);
    assert_eq!(result, shape(&[ROWS, fixed(2), fixed(2)]));
    let expected = [0.0, 1.0, -10.0, -9.0, 2.0, 3.0, -8.0, -7.0];
    assert_eq!(
        run(&kernel, 2, &[&[1.0, 2.0, 3.0, 4.0], &[1.0, 11.0]]),
        expected
    );
    // No rows are no numbers.
    assert_eq!(run(&kernel, 0, &[&[], &[1.0, 11.0]]), [0.0; 0]);
    let three = shape(&[ROWS, fixed(3)]);
    for other in [shape(&[fixed(2)]), shape(&[Dim::Rows(3), fixed(3)])] {
        assert!(three.broadcast(&other).is_err(), "{other}");
    }
    let one = shape(&[ROWS, fixed(1)]);
    let kernel = select([one.clone(), three.clone(), shape(&[]), three.clone()]);
    assert_eq!(
        run(&kernel, 2, &[&[1.0, 0.0], &two_rows, &[9.0]]),
        [1.0, 2.0, 3.0, 9.0, 9.0, 9.0]
    );
    let kernel = expand([one, three]);
    assert_eq!(
        run(&kernel, 2, &[&[1.0, 2.0]]),
        [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]
    );
}

#[test]
fn numbers_move_to_the_places_that_are_asked_for() {
    let table = shape(&[ROWS, fixed(3)]);
    let two_rows = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let kernel = choose(table.clone(), 1, vec![2, 0]);
    assert_eq!(run(&kernel, 2, &[&two_rows]), [3.0, 1.0, 6.0, 4.0]);
    let kernel = concat(vec![table.clone(), shape(&[ROWS, fixed(1)])], 1);
    assert_eq!(
        run(&kernel, 2, &[&two_rows, &[7.0, 8.0]]),
        [1.0, 2.0, 3.0, 7.0, 4.0, 5.0, 6.0, 8.0]
    );
    let kernel = transpose(table.clone(), vec![1, 0]);
    assert_eq!(
        run(&kernel, 2, &[&two_rows]),
        [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]
    );
    let kernel = reduce(
        AxisLanes::new(shape(&[ROWS, fixed(2), fixed(2)]), 1),
        |lane| lane[1] - lane[0],
    );
    assert_eq!(run(&kernel, 1, &[&[1.0, 2.0, 5.0, 9.0]]), [4.0, 7.0]);
    let kernel = look_up(vec![10.0, 20.0], 2);
    assert_eq!(run(&kernel, 1, &[&[1.0, -2.0]]), [20.0, 10.0]);
    let fault = kernel(2, &[&[0.0, 1.0, 0.0, 2.0]]).unwrap_err();
    assert_eq!(fault.row, 1);
    assert!(fault.reason.contains("an index is 2"), "{}", fault.reason);
    for odd in [f64::NAN, f64::INFINITY, -3.0] {
        assert!(kernel(1, &[&[odd]]).is_err(), "{odd}");
    }
    // Of equal numbers the first comes first, and NaN is no trouble.
    let kernel = top(4, 2, true);
    let both = kernel(1, &[&[2.0, 5.0, 5.0, 0.0]]).unwrap();
    assert_eq!(both, [[5.0, 5.0], [1.0, 2.0]]);
    assert_eq!(
        top(3, 3, false)(1, &[&[f64::NAN, 0.0, -0.0]]).unwrap()[1],
        [1.0, 2.0, 0.0]
    );
}

#[test]
fn a_plan_leaves_out_what_nothing_needs_and_keeps_its_outputs() {
    let table = shape(&[ROWS, fixed(2)]);
    let mut plan = GraphPlan::new(1);
    let input = TensorSource::Slot(0);
    let step = |plan: &mut GraphPlan, from: TensorSource, added: f64| {
        let kernel = broadcast::unary(move |value| value + added);
        plan.step(vec![from], std::slice::from_ref(&table), kernel)[0]
    };
    let first = step(&mut plan, input, 1.0);
    let unused = step(&mut plan, first, 100.0);
    let second = step(&mut plan, first, 10.0);
    assert_ne!(unused, second);
    let constant = plan.constant(vec![7.0]);
    plan.finish(vec![second, first, input, second, constant]);
    assert!(plan.parts().contains(&("operators", 2)));
    let outputs = plan.run(1, vec![vec![1.0, 2.0]]).unwrap();
    let expected = [
        &[12.0, 13.0][..],
        &[2.0, 3.0],
        &[1.0, 2.0],
        &[12.0, 13.0],
        &[7.0],
    ];
    assert_eq!(outputs, expected);
}
