//! Operators along an axis: sums, extremes, order, shares.

use super::compiler::{GraphCompiler, KnownTensor, LABELS_MAX, OperatorResult, numbers};
use super::proto::GraphNode;
use super::tensors::axes;
use crate::models::ModelError;
use crate::models::graph::reduce::{AxisLanes, along_last, place_of_extreme, reduce, top};
use crate::models::graph::{Dim, Kind, Shape, transform};

/// One number of several.
type Reduction = Box<dyn Fn(&[f64]) -> f64 + Send + Sync>;

/// What a reduction makes of numbers.
fn reduction(name: &str, kind: Kind) -> Option<Reduction> {
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    Some(match name {
        "ReduceSum" => Box::new(move |values| kind.round(sum(values))),
        // In order and in the precision of the numbers, as a mean of trees is.
        "ReduceMean" => Box::new(move |values| {
            let sum = values
                .iter()
                .fold(0.0, |sum, value| kind.round(sum + value));
            kind.round(sum / values.len() as f64)
        }),
        "ReduceMax" => Box::new(|values| values.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "ReduceMin" => Box::new(|values| values.iter().copied().fold(f64::INFINITY, f64::min)),
        "ReduceProd" => Box::new(move |values| kind.round(values.iter().product())),
        "ReduceL1" => {
            Box::new(move |values| kind.round(values.iter().map(|value| value.abs()).sum()))
        }
        "ReduceL2" => Box::new(move |values| {
            kind.round(values.iter().map(|value| value * value).sum::<f64>().sqrt())
        }),
        "ReduceSumSquare" => {
            Box::new(move |values| kind.round(values.iter().map(|value| value * value).sum()))
        }
        "ReduceLogSum" => Box::new(move |values| kind.round(sum(values).ln())),
        "ReduceLogSumExp" => Box::new(move |values| {
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let most = if most.is_finite() { most } else { 0.0 };
            let sum: f64 = values.iter().map(|value| (value - most).exp()).sum();
            kind.round(sum.ln() + most)
        }),
        _ => return None,
    })
}

/// ReduceSum and its like.
pub(super) fn reduction_of(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let mut value = numbers(node, inputs, 0)?.clone();
    let keeps = node.int("keepdims", 1)? != 0;
    let mut axes = axes(compiler, node, inputs, 1)?;
    if axes.is_empty() {
        if node.int("noop_with_empty_axes", 0)? != 0 {
            return Ok(vec![value]);
        }
        axes = (0..value.shape.rank() as i64).collect();
    }
    let places: Result<Vec<usize>, ModelError> = axes
        .iter()
        .map(|axis| value.shape.fixed_axis(*axis))
        .collect();
    let mut places = places.map_err(|reason| node.wrong(reason))?;
    places.sort_unstable();
    places.dedup();
    let in_steps = ["ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"].contains(&node.operator);
    if places.len() > 1 && !in_steps {
        return Err(node.wrong("lanekeeper reduces along one axis at a time here"));
    }
    for axis in places.into_iter().rev() {
        let function =
            reduction(node.operator, value.kind).ok_or_else(|| node.wrong("it is not known"))?;
        let mut dims = value.shape.dims().to_vec();
        if dims[axis] == Dim::Fixed(0) {
            return Err(node.wrong("there is nothing to reduce"));
        }
        match keeps {
            true => dims[axis] = Dim::Fixed(1),
            false => drop(dims.remove(axis)),
        }
        let kernel = reduce(AxisLanes::new(value.shape.clone(), axis), function);
        value = compiler.emit_one(node, &[&value], Shape::new(dims)?, value.kind, kernel)?;
    }
    Ok(vec![value])
}

/// ArgMax and ArgMin.
pub(super) fn extreme(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let axis = value
        .shape
        .fixed_axis(node.int("axis", 0)?)
        .map_err(|reason| node.wrong(reason))?;
    let mut dims = value.shape.dims().to_vec();
    let size = dims[axis].unit();
    if size == 0 {
        return Err(node.wrong("there is nothing to compare"));
    }
    match node.int("keepdims", 1)? != 0 {
        true => dims[axis] = Dim::Fixed(1),
        false => drop(dims.remove(axis)),
    }
    let is_largest = node.operator == "ArgMax";
    let is_last = node.int("select_last_index", 0)? != 0;
    let kernel = reduce(AxisLanes::new(value.shape.clone(), axis), move |values| {
        place_of_extreme(values, is_largest, is_last)
    });
    let made = compiler.emit_one(node, &[value], Shape::new(dims)?, Kind::I64, kernel)?;
    let labels = (size <= LABELS_MAX).then(|| (0..size).map(|place| place as f64).collect());
    Ok(vec![KnownTensor { labels, ..made }])
}

/// TopK.
pub(super) fn top_k(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let count = match inputs.get(1).and_then(Option::as_ref) {
        Some(count) => compiler.ints(node, count)?.first().copied().unwrap_or(0),
        None => node.int("k", 0)?,
    };
    let axis = value
        .shape
        .fixed_axis(node.int("axis", -1)?)
        .map_err(|reason| node.wrong(reason))?;
    let width = value.shape.dims()[axis].unit();
    let count = usize::try_from(count).ok().filter(|count| *count <= width);
    let count = count.ok_or_else(|| node.wrong(format!("k must be 0 to {width}")))?;
    if axis + 1 != value.shape.rank() {
        return Err(node.wrong("lanekeeper has it along the last axis"));
    }
    let shape = value.shape.with(axis, Dim::Fixed(count))?;
    let kernel = top(width, count, node.int("largest", 1)? != 0);
    let mut made = compiler.emit(
        node,
        &[value],
        &[(shape.clone(), value.kind), (shape, Kind::I64)],
        kernel,
    )?;
    if let Some(places) = made.get_mut(1)
        && width <= LABELS_MAX
    {
        places.labels = Some((0..width).map(|place| place as f64).collect());
    }
    Ok(made)
}

/// Softmax and LogSoftmax.
pub(super) fn softmax(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let default = if compiler.opset < 13 { 1 } else { -1 };
    let axis = value
        .shape
        .fixed_axis(node.int("axis", default)?)
        .map_err(|reason| node.wrong(reason))?;
    if axis + 1 != value.shape.rank() {
        return Err(node.wrong("lanekeeper has it along the last axis"));
    }
    let kind = value.kind;
    let is_log = node.operator == "LogSoftmax";
    let kernel = along_last(value.last(), move |values: &mut [f64]| {
        if is_log {
            let most = values.iter().copied().fold(f64::MIN, f64::max);
            let sum = values
                .iter()
                .map(|value| (value - most).exp())
                .sum::<f64>()
                .ln();
            values
                .iter_mut()
                .for_each(|value| *value = kind.round(*value - most - sum));
        } else if kind == Kind::F32 {
            transform::softmax(values);
        } else {
            let most = values.iter().copied().fold(f64::MIN, f64::max);
            values
                .iter_mut()
                .for_each(|value| *value = (*value - most).exp());
            let sum: f64 = values.iter().sum();
            values.iter_mut().for_each(|value| *value /= sum);
        }
    });
    let made = compiler.emit_one(node, &[value], value.shape.clone(), kind, kernel)?;
    Ok(vec![KnownTensor {
        is_share: Some(!is_log),
        ..made
    }])
}
