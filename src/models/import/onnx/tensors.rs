//! Operators that move numbers and change shapes.

use std::rc::Rc;

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, input, numbers};
use super::proto::{GraphNode, kind};
use super::sizes;
use crate::models::ModelError;
use crate::models::graph::{Dim, Kind, Shape, axis_of, broadcast, moves};

/// What only passes numbers on.
pub(super) fn identity(
    _: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let mut made = vec![input(node, inputs, 0)?.clone()];
    // Dropout's mask is not served; whoever reads it is told that it is not made.
    made.truncate(node.outputs.len());
    Ok(made)
}

/// Constant.
pub(super) fn constant(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    _: &[Option<KnownTensor>],
) -> OperatorResult {
    if let Some(tensor) = node.tensor("value")? {
        return Ok(vec![compiler.tensor(&tensor)?]);
    }
    let value = if node.has("value_float") {
        let value = node.float("value_float", 0.0)?;
        compiler.constant(Kind::F32, &[], vec![f64::from(value)])?
    } else if node.has("value_int") {
        let value = node.int("value_int", 0)?;
        compiler.constant(Kind::I64, &[], vec![value as f64])?
    } else if node.has("value_floats") {
        let values: Vec<f64> = node
            .floats("value_floats")?
            .into_iter()
            .map(f64::from)
            .collect();
        compiler.constant(Kind::F32, &[values.len()], values)?
    } else if node.has("value_ints") {
        let values: Vec<f64> = node
            .ints("value_ints")?
            .into_iter()
            .map(|value| value as f64)
            .collect();
        compiler.constant(Kind::I64, &[values.len()], values)?
    } else {
        return Err(node.wrong("it must have a value of numbers"));
    };
    Ok(vec![value])
}

/// Reshape.
pub(super) fn reshape(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let wanted = compiler.sizes(node, input(node, inputs, 1)?)?;
    let keeps_zero = node.int("allowzero", 0)? != 0;
    let shape = value
        .shape
        .reshaped(&wanted, keeps_zero)
        .map_err(|reason| node.wrong(reason))?;
    Ok(vec![value.with_shape(shape)])
}

/// Flatten.
pub(super) fn flatten(
    _: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let axis = match node.int("axis", 1)? {
        axis if axis == value.shape.rank() as i64 => value.shape.rank(),
        axis => value
            .shape
            .axis(axis)
            .map_err(|reason| node.wrong(reason))?,
    };
    let product = |dims: &[Dim]| {
        let unit = dims.iter().map(|dim| dim.unit()).product();
        match dims.iter().any(|dim| matches!(dim, Dim::Rows(_))) {
            true => Dim::Rows(unit),
            false => Dim::Fixed(unit),
        }
    };
    let (before, after) = value.shape.dims().split_at(axis);
    let shape = value.shape.with_dims(vec![product(before), product(after)]);
    Ok(vec![
        value.with_shape(shape.map_err(|reason| node.wrong(reason))?),
    ])
}

/// Axes from an attribute, or since some version from an input.
pub(super) fn axes(
    compiler: &GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
    index: usize,
) -> Result<Vec<i64>, ModelError> {
    match inputs.get(index).and_then(Option::as_ref) {
        Some(value) => compiler.ints(node, value),
        None => node.ints("axes"),
    }
}

/// Squeeze.
pub(super) fn squeeze(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let axes = axes(compiler, node, inputs, 1)?;
    let axes: Result<Vec<usize>, ModelError> =
        axes.iter().map(|axis| value.shape.axis(*axis)).collect();
    let axes = axes.map_err(|reason| node.wrong(reason))?;
    let is_left = |(place, dim): &(usize, &Dim)| match axes.is_empty() {
        true => **dim != Dim::Fixed(1),
        false => !axes.contains(place),
    };
    let dims = value
        .shape
        .dims()
        .iter()
        .enumerate()
        .filter(is_left)
        .map(|(_, dim)| *dim)
        .collect();
    let shape = value
        .shape
        .with_dims(dims)
        .map_err(|reason| node.wrong(reason))?;
    Ok(vec![value.with_shape(shape)])
}

/// Unsqueeze.
pub(super) fn unsqueeze(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let axes = axes(compiler, node, inputs, 1)?;
    let rank = value.shape.rank() + axes.len();
    let axes: Result<Vec<usize>, ModelError> =
        axes.iter().map(|axis| axis_of(*axis, rank)).collect();
    let axes = axes.map_err(|reason| node.wrong(reason))?;
    let mut own = value.shape.dims().iter();
    let dims = (0..rank).map(|place| match axes.contains(&place) {
        true => Dim::Fixed(1),
        false => own.next().copied().unwrap_or(Dim::Fixed(1)),
    });
    let shape = value
        .shape
        .with_dims(dims.collect())
        .map_err(|reason| node.wrong(reason))?;
    Ok(vec![value.with_shape(shape)])
}

/// Transpose.
pub(super) fn transpose(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let rank = value.shape.rank();
    let order = match node.has("perm") {
        true => node.ints("perm")?,
        false => (0..rank as i64).rev().collect(),
    };
    let order: Result<Vec<usize>, ModelError> =
        order.iter().map(|axis| axis_of(*axis, rank)).collect();
    let order = order.map_err(|reason| node.wrong(reason))?;
    let mut sorted = order.clone();
    sorted.sort_unstable();
    if !sorted.iter().copied().eq(0..rank) {
        return Err(node.wrong("perm must have each axis once"));
    }
    let dims: Vec<Dim> = order.iter().map(|axis| value.shape.dims()[*axis]).collect();
    let kernel = moves::transpose(value.shape.clone(), order);
    let made = compiler.emit_one(node, &[value], Shape::new(dims)?, value.kind, kernel)?;
    Ok(vec![KnownTensor {
        labels: value.labels.clone(),
        ..made
    }])
}

/// Concat.
pub(super) fn concat(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let values: Vec<&KnownTensor> = inputs.iter().flatten().collect();
    let first = input(node, inputs, 0)?;
    let axis = first
        .shape
        .fixed_axis(node.int("axis", 1)?)
        .map_err(|reason| node.wrong(reason))?;
    let mut size = 0;
    for value in &values {
        let fits = value.shape.rank() == first.shape.rank()
            && value.kind == first.kind
            && matches!(value.shape.dims()[axis], Dim::Fixed(_))
            && value
                .shape
                .dims()
                .iter()
                .zip(first.shape.dims())
                .enumerate()
                .all(|(place, (own, other))| place == axis || own == other);
        if !fits {
            return Err(node.wrong(format!("{} does not fit to {}", value.shape, first.shape)));
        }
        size += value.shape.dims()[axis].unit();
    }
    let shape = first
        .shape
        .with(axis, Dim::Fixed(size))
        .map_err(|reason| node.wrong(reason))?;
    let features: Option<Vec<Rc<[usize]>>> =
        values.iter().map(|value| value.features.clone()).collect();
    let is_last = axis + 1 == first.shape.rank();
    let kernel = moves::concat(
        values.iter().map(|value| value.shape.clone()).collect(),
        axis,
    );
    let made = compiler.emit_one(node, &values, shape, first.kind, kernel)?;
    let features = match features {
        Some(parts) if is_last && made.shape.rank() == 2 => {
            Some(parts.iter().flat_map(|part| part.iter().copied()).collect())
        }
        // Every feature may be anywhere.
        _ if first.kind == Kind::Text => {
            return Err(node.wrong("texts can be put side by side only as columns"));
        }
        _ => None,
    };
    Ok(vec![KnownTensor { features, ..made }])
}

/// Expand.
pub(super) fn expand(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let wanted = sizes::shape_of(node, &compiler.sizes(node, input(node, inputs, 1)?)?)?;
    let shape = value
        .shape
        .broadcast(&wanted)
        .map_err(|reason| node.wrong(reason))?;
    let kernel = broadcast::expand([value.shape.clone(), shape.clone()]);
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        shape,
        value.kind,
        kernel,
    )?])
}

/// Cast.
pub(super) fn cast(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let Some(to) = kind(node.int("to", 0)?) else {
        return Err(node.wrong("it casts to a type that lanekeeper lacks"));
    };
    let convert: fn(f64) -> f64 = match (value.kind, to) {
        (from, to) if from == to => return Ok(vec![value.clone()]),
        (Kind::Text, _) | (_, Kind::Text) => {
            return Err(
                node.wrong("lanekeeper does not turn texts into numbers or numbers into texts")
            );
        }
        (_, Kind::Bool) => |number| f64::from(u8::from(number != 0.0)),
        (Kind::F32 | Kind::F64, Kind::I64) => |number| match number.abs() < 9.2e18 {
            true => number.trunc(),
            false => i64::MIN as f64,
        },
        (Kind::F32 | Kind::F64, Kind::I32) => |number| match number.abs() < 2_147_483_648.0 {
            true => number.trunc(),
            false => f64::from(i32::MIN),
        },
        (_, Kind::F32) => |number| f64::from(number as f32),
        // All of them fit.
        _ => {
            return Ok(vec![KnownTensor {
                kind: to,
                ..value.clone()
            }]);
        }
    };
    let made = compiler.emit_one(
        node,
        &[value],
        value.shape.clone(),
        to,
        broadcast::unary(convert),
    )?;
    Ok(vec![KnownTensor {
        labels: value
            .labels
            .as_ref()
            .map(|labels| labels.iter().map(|label| convert(*label)).collect()),
        is_share: value.is_share,
        keys: value.keys.clone(),
        ..made
    }])
}
