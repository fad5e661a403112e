//! Operators that only move numbers: concatenation, choice, transposition.

use super::{Fault, Kernel, Shape};

/// Puts tensors side by side along an axis.
pub fn concat(shapes: Vec<Shape>, axis: usize) -> Kernel {
    Box::new(move |rows, inputs| {
        let runs: Vec<usize> = shapes
            .iter()
            .map(|shape| shape.sizes(rows)[axis..].iter().product())
            .collect();
        let total: usize = shapes.iter().map(|shape| shape.numbers(rows)).sum();
        let blocks: usize = shapes
            .first()
            .map_or(0, |shape| shape.sizes(rows)[..axis].iter().product());
        let mut out = Vec::with_capacity(total);
        if runs.iter().all(|run| *run == 1) {
            for block in 0..blocks {
                out.extend(inputs.iter().map(|values| values[block]));
            }
            return Ok(vec![out]);
        }
        for block in 0..blocks {
            for (values, run) in inputs.iter().zip(&runs) {
                out.extend_from_slice(&values[block * run..(block + 1) * run]);
            }
        }
        Ok(vec![out])
    })
}

/// Takes these places along an axis. All of them exist.
pub fn choose(shape: Shape, axis: usize, places: Vec<usize>) -> Kernel {
    Box::new(move |rows, inputs| {
        let sizes = shape.sizes(rows);
        let inner: usize = sizes[axis + 1..].iter().product();
        let run = sizes[axis] * inner;
        let mut out = Vec::new();
        if run > 0 {
            for block in inputs[0].chunks_exact(run) {
                for place in &places {
                    out.extend_from_slice(&block[place * inner..(place + 1) * inner]);
                }
            }
        }
        Ok(vec![out])
    })
}

/// Takes places that are computed from the last axis of a constant; `unit` of them belong to a row.
pub fn look_up(values: Vec<f64>, unit: usize) -> Kernel {
    Box::new(move |_, inputs| {
        let take = |(place, index): (usize, &f64)| {
            let index = match *index < 0.0 {
                true => *index + values.len() as f64,
                false => *index,
            };
            let value = values.get(index as usize).filter(|_| index >= 0.0);
            value.copied().ok_or_else(|| Fault {
                row: place / unit.max(1),
                reason: format!("an index is {index}, and there are {} values", values.len()),
            })
        };
        let out: Result<Vec<f64>, Fault> = inputs[0].iter().enumerate().map(take).collect();
        Ok(vec![out?])
    })
}

/// Changes the order of the axes.
pub fn transpose(shape: Shape, order: Vec<usize>) -> Kernel {
    Box::new(move |rows, inputs| {
        let strides = shape.strides(shape.rank(), rows);
        let sizes = shape.sizes(rows);
        let sizes: Vec<usize> = order.iter().map(|axis| sizes[*axis]).collect();
        let strides: Vec<usize> = order.iter().map(|axis| strides[*axis]).collect();
        let total: usize = sizes.iter().product();
        let mut out = Vec::with_capacity(total);
        let mut places = vec![0; sizes.len()];
        let mut from = 0;
        for _ in 0..total {
            out.push(inputs[0][from]);
            for axis in (0..sizes.len()).rev() {
                places[axis] += 1;
                from += strides[axis];
                if places[axis] < sizes[axis] {
                    break;
                }
                from -= strides[axis] * sizes[axis];
                places[axis] = 0;
            }
        }
        Ok(vec![out])
    })
}

/// For each number a block of `width` numbers, 0 but for a 1 in the place of its category.
pub fn one_hot(
    width: usize,
    unit: usize,
    refuses_unknown: bool,
    place: impl Fn(f64) -> Option<usize> + Send + Sync + 'static,
) -> Kernel {
    Box::new(move |_, inputs| {
        let mut out = vec![0.0; inputs[0].len() * width];
        for (index, (value, block)) in inputs[0]
            .iter()
            .zip(out.chunks_exact_mut(width.max(1)))
            .enumerate()
        {
            match place(*value).and_then(|place| block.get_mut(place)) {
                Some(one) => *one = 1.0,
                None if refuses_unknown => {
                    return Err(Fault {
                        row: index / unit.max(1),
                        reason: "a category is unknown".to_owned(),
                    });
                }
                None => {}
            }
        }
        Ok(vec![out])
    })
}
