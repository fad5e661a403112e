//! Operators that compute with shapes, as far as numbers of rows are concerned.

use std::rc::Rc;

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, input};
use super::proto::GraphNode;
use crate::models::ModelError;
use crate::models::graph::{Dim, Kind, Shape, Size};

/// The shape that sizes say.
pub(super) fn shape_of(node: &GraphNode<'_>, sizes: &[Size]) -> Result<Shape, ModelError> {
    let dim = |size: &Size| match size {
        Size::Rows(size) => Ok(Dim::Rows(*size)),
        Size::Number(size) => match usize::try_from(*size) {
            Ok(size) => Ok(Dim::Fixed(size)),
            Err(_) => Err(node.wrong("a size is below 0")),
        },
    };
    let dims: Result<Vec<Dim>, ModelError> = sizes.iter().map(dim).collect();
    Shape::new(dims?).map_err(|reason| node.wrong(reason))
}

/// A constant of sizes; only operators of this file read it if it has rows.
fn constant(
    compiler: &mut GraphCompiler,
    sizes: Vec<Size>,
    is_scalar: bool,
) -> Result<KnownTensor, ModelError> {
    let number = |size: &Size| match size {
        Size::Number(size) => *size as f64,
        Size::Rows(_) => f64::NAN,
    };
    let numbers: Vec<f64> = sizes.iter().map(number).collect();
    let dims: &[usize] = if is_scalar { &[] } else { &[sizes.len()] };
    let made = compiler.constant(Kind::I64, dims, numbers)?;
    let has_rows = sizes.iter().any(|size| matches!(size, Size::Rows(_)));
    Ok(KnownTensor {
        sizes: has_rows.then(|| Rc::from(sizes)),
        ..made
    })
}

/// Shape.
pub(super) fn shape(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let dims = input(node, inputs, 0)?.shape.dims();
    let rank = dims.len() as i64;
    let place = |place: i64| {
        let from_start = if place < 0 {
            place.saturating_add(rank)
        } else {
            place
        };
        from_start.clamp(0, rank) as usize
    };
    let (start, end) = (place(node.int("start", 0)?), place(node.int("end", rank)?));
    let sizes = dims.get(start..end).unwrap_or_default().iter();
    let sizes = sizes.map(|dim| match dim {
        Dim::Fixed(size) => Size::Number(*size as i64),
        Dim::Rows(size) => Size::Rows(*size),
    });
    Ok(vec![constant(compiler, sizes.collect(), false)?])
}

/// ConstantOfShape.
pub(super) fn constant_of_shape(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let sizes = compiler.sizes(node, input(node, inputs, 0)?)?;
    let shape = shape_of(node, &sizes)?;
    let (kind, value) = match node.tensor("value")? {
        Some(tensor) => {
            let tensor = tensor.read(&mut compiler.texts)?;
            (tensor.kind, tensor.values.first().copied().unwrap_or(0.0))
        }
        None => (Kind::F32, 0.0),
    };
    let own = shape.clone();
    let kernel =
        Box::new(move |rows: usize, _: &[&[f64]]| Ok(vec![vec![value; own.numbers(rows)]]));
    Ok(vec![compiler.emit_one(node, &[], shape, kind, kernel)?])
}

/// What an operator makes of sizes of which one is a number of rows; `None` if none of its inputs is
/// such.
///
/// # Errors
///
/// It does more than to choose sizes and put them together.
pub(super) fn computed(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> Result<Option<Vec<KnownTensor>>, ModelError> {
    let has_sizes =
        |value: &Option<KnownTensor>| value.as_ref().is_some_and(|value| value.sizes.is_some());
    if !inputs.iter().any(has_sizes) {
        return Ok(None);
    }
    let first = input(node, inputs, 0)?;
    let number = |index: usize| -> Result<Option<i64>, ModelError> {
        match inputs.get(index).and_then(Option::as_ref) {
            Some(value) => Ok(compiler.ints(node, value)?.first().copied()),
            None => Ok(None),
        }
    };
    let place = |place: i64, count: usize| {
        let from_start = if place < 0 {
            place.saturating_add(count as i64)
        } else {
            place
        };
        from_start.clamp(0, count as i64) as usize
    };
    let (sizes, is_scalar) = match node.operator {
        // They read sizes themselves.
        "Reshape" | "Expand" | "ConstantOfShape"
            if !has_sizes(&inputs[0]) || node.operator == "ConstantOfShape" =>
        {
            return Ok(None);
        }
        "Identity" | "Cast" | "Unsqueeze" => (compiler.sizes(node, first)?, false),
        "Squeeze" => (compiler.sizes(node, first)?, true),
        "Concat" => {
            let mut all = Vec::new();
            for value in inputs.iter().flatten() {
                all.extend(compiler.sizes(node, value)?);
            }
            (all, false)
        }
        "Gather" => {
            let sizes = compiler.sizes(node, first)?;
            let indices = input(node, inputs, 1)?;
            let chosen = compiler.ints(node, indices)?.into_iter().map(|index| {
                let found = sizes.get(place(index, sizes.len())).copied();
                found.ok_or_else(|| node.wrong("there is no such size"))
            });
            (chosen.collect::<Result<_, _>>()?, indices.shape.rank() == 0)
        }
        "Slice" if number(4)?.is_none_or(|step| step == 1) => {
            let sizes = compiler.sizes(node, first)?;
            let start = place(number(1)?.unwrap_or(0), sizes.len());
            let end = place(number(2)?.unwrap_or(i64::MAX), sizes.len());
            (sizes.get(start..end).unwrap_or_default().to_vec(), false)
        }
        _ => {
            return Err(
                node.wrong("lanekeeper does not serve graphs that compute with the number of rows")
            );
        }
    };
    Ok(Some(vec![constant(compiler, sizes, is_scalar)?]))
}
