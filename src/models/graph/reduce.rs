//! Operators that make one number of several, and that order numbers.

use super::{Kernel, Shape};

/// The middle axis of a tensor, seen as blocks of it.
#[derive(Debug, Clone)]
pub struct AxisLanes {
    shape: Shape,
    axis: usize,
}

impl AxisLanes {
    /// The numbers along an axis.
    pub fn new(shape: Shape, axis: usize) -> Self {
        AxisLanes { shape, axis }
    }

    /// Calls `use_lane` with an iterator's worth of numbers along the axis, gathered into a buffer, for
    /// each place in the other axes, in order.
    fn each(&self, rows: usize, values: &[f64], mut use_lane: impl FnMut(&[f64])) {
        let sizes = self.shape.sizes(rows);
        let count = sizes[self.axis];
        let inner: usize = sizes[self.axis + 1..].iter().product();
        if count == 0 || inner == 0 {
            return;
        }
        if inner == 1 {
            values.chunks_exact(count).for_each(use_lane);
            return;
        }
        let mut lane = vec![0.0; count];
        for block in values.chunks_exact(count * inner) {
            for place in 0..inner {
                for (at, value) in lane.iter_mut().enumerate() {
                    *value = block[at * inner + place];
                }
                use_lane(&lane);
            }
        }
    }
}

/// One number for the numbers along an axis.
pub fn reduce(
    lanes: AxisLanes,
    function: impl Fn(&[f64]) -> f64 + Send + Sync + 'static,
) -> Kernel {
    Box::new(move |rows, inputs| {
        let mut out = Vec::new();
        lanes.each(rows, inputs[0], |lane| out.push(function(lane)));
        Ok(vec![out])
    })
}

/// Other numbers in the place of those along the last axis.
pub fn along_last(width: usize, function: impl Fn(&mut [f64]) + Send + Sync + 'static) -> Kernel {
    Box::new(move |_, inputs| {
        let mut out = inputs[0].to_vec();
        out.chunks_exact_mut(width.max(1)).for_each(&function);
        Ok(vec![out])
    })
}

/// The place of the largest number, or of the smallest; of several the first, or the last.
pub fn place_of_extreme(values: &[f64], is_largest: bool, is_last: bool) -> f64 {
    let mut best = 0;
    for (place, value) in values.iter().enumerate().skip(1) {
        let found = values[best];
        let is_better = match is_largest {
            true => *value > found,
            false => *value < found,
        };
        if is_better || (is_last && *value == found) {
            best = place;
        }
    }
    best as f64
}

/// The `count` largest or smallest numbers along the last axis, in order, and their places. Of equal
/// ones the first comes first.
pub fn top(width: usize, count: usize, is_largest: bool) -> Kernel {
    Box::new(move |_, inputs| {
        let (mut numbers, mut places) = (Vec::new(), Vec::new());
        for lane in inputs[0].chunks_exact(width.max(1)) {
            let mut order: Vec<usize> = (0..width).collect();
            let before = |one: &usize, other: &usize| {
                let order = lane[*one].total_cmp(&lane[*other]);
                let order = match is_largest {
                    true => order.reverse(),
                    false => order,
                };
                // -0 and 0 are the same.
                match lane[*one] == lane[*other] {
                    true => one.cmp(other),
                    false => order.then(one.cmp(other)),
                }
            };
            if count > 0 && count < width {
                order.select_nth_unstable_by(count - 1, before);
            }
            order.truncate(count);
            order.sort_unstable_by(before);
            numbers.extend(order.iter().map(|place| lane[*place]));
            places.extend(order.iter().map(|place| *place as f64));
        }
        Ok(vec![numbers, places])
    })
}
