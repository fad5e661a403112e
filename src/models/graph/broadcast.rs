//! Operators that take numbers one by one, or two by two with one tensor spread over the other.

use super::{Kernel, Shape};

/// A function of each number.
pub fn unary(function: impl Fn(f64) -> f64 + Send + Sync + 'static) -> Kernel {
    Box::new(move |_, inputs| {
        Ok(vec![
            inputs[0].iter().map(|value| function(*value)).collect(),
        ])
    })
}

/// A function of two tensors of these shapes, which are spread over the shape of the result.
pub fn binary(
    [left, right, result]: [Shape; 3],
    function: impl Fn(f64, f64) -> f64 + Send + Sync + 'static,
) -> Kernel {
    Box::new(move |rows, inputs| {
        let walk = Walk::new([&left, &right], &result, rows);
        let mut out = Vec::with_capacity(result.numbers(rows));
        let (one, other) = (inputs[0], inputs[1]);
        walk.each(
            |[from, second], [step, second_step], count| match (step, second_step) {
                (1, 1) => out.extend(
                    one[from..from + count]
                        .iter()
                        .zip(&other[second..second + count])
                        .map(|(left, right)| function(*left, *right)),
                ),
                (1, 0) => {
                    let right = other[second];
                    out.extend(
                        one[from..from + count]
                            .iter()
                            .map(|left| function(*left, right)),
                    );
                }
                (0, 1) => {
                    let left = one[from];
                    out.extend(
                        other[second..second + count]
                            .iter()
                            .map(|right| function(left, *right)),
                    );
                }
                _ => {
                    out.extend((0..count).map(|at| {
                        function(one[from + at * step], other[second + at * second_step])
                    }))
                }
            },
        );
        Ok(vec![out])
    })
}

/// A choice between two tensors by a third.
pub fn select([condition, yes, no, result]: [Shape; 4]) -> Kernel {
    Box::new(move |rows, inputs| {
        let mut out = Vec::with_capacity(result.numbers(rows));
        Walk::new([&condition, &yes, &no], &result, rows).each(|from, steps, count| {
            out.extend((0..count).map(|at| {
                let value = |which: usize| inputs[which][from[which] + at * steps[which]];
                match value(0) != 0.0 {
                    true => value(1),
                    false => value(2),
                }
            }));
        });
        Ok(vec![out])
    })
}

/// Spreads a tensor over a shape.
pub fn expand([own, result]: [Shape; 2]) -> Kernel {
    Box::new(move |rows, inputs| {
        let mut out = Vec::with_capacity(result.numbers(rows));
        Walk::new([&own], &result, rows).each(|[from], [step], count| {
            out.extend((0..count).map(|at| inputs[0][from + at * step]));
        });
        Ok(vec![out])
    })
}

/// A walk through a result in the order of its numbers, with the places in the tensors that are spread
/// over it.
struct Walk<const N: usize> {
    /// Sizes with the strides of each tensor, outermost first; neighbours that can be walked as one are.
    dims: Vec<(usize, [usize; N])>,
}

impl<const N: usize> Walk<N> {
    fn new(shapes: [&Shape; N], result: &Shape, rows: usize) -> Self {
        let strides = shapes.map(|shape| shape.strides(result.rank(), rows));
        let mut dims: Vec<(usize, [usize; N])> = Vec::new();
        for (place, size) in result.sizes(rows).into_iter().enumerate() {
            let own = std::array::from_fn(|which| strides[which][place]);
            match dims.last_mut() {
                _ if size == 1 => {}
                Some((before, outer)) if (0..N).all(|which| outer[which] == own[which] * size) => {
                    *before *= size;
                    *outer = own;
                }
                _ => dims.push((size, own)),
            }
        }
        if dims.is_empty() {
            dims.push((1, [1; N]));
        }
        Walk { dims }
    }

    /// Calls `use_run` with the places, the steps and the length of each run.
    fn each(&self, mut use_run: impl FnMut([usize; N], [usize; N], usize)) {
        let Some(((count, steps), outer)) = self.dims.split_last() else {
            return;
        };
        if self.dims.iter().any(|(size, _)| *size == 0) {
            return;
        }
        let mut places = vec![0; outer.len()];
        let mut from = [0; N];
        loop {
            use_run(from, *steps, *count);
            let mut axis = outer.len();
            loop {
                let Some(next) = axis.checked_sub(1) else {
                    return;
                };
                axis = next;
                let (size, strides) = &outer[axis];
                places[axis] += 1;
                for which in 0..N {
                    from[which] += strides[which];
                }
                if places[axis] < *size {
                    break;
                }
                for which in 0..N {
                    from[which] -= strides[which] * size;
                }
                places[axis] = 0;
            }
        }
    }
}
