//! Operators that choose some of the numbers of a tensor.

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, input, numbers};
use super::proto::GraphNode;
use crate::models::ModelError;
use crate::models::graph::{Dim, Shape, axis_of, moves};

/// Takes places along an axis, which may be the one of texts.
fn chosen(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    value: &KnownTensor,
    axis: usize,
    places: Vec<usize>,
    shape: Shape,
) -> Result<KnownTensor, ModelError> {
    let features = match &value.features {
        Some(features) if axis + 1 == value.shape.rank() && features.len() == value.last() => {
            Some(places.iter().map(|place| features[*place]).collect())
        }
        Some(_) => return Err(node.wrong("texts can be chosen only by column")),
        None => None,
    };
    let labels = value.labels.clone();
    let kernel = moves::choose(value.shape.clone(), axis, places);
    let made = compiler.emit_one(node, &[value], shape, value.kind, kernel)?;
    Ok(KnownTensor {
        features,
        labels,
        is_share: value.is_share,
        ..made
    })
}

/// Indices along an axis, from the start.
fn places(node: &GraphNode<'_>, indices: &[i64], size: usize) -> Result<Vec<usize>, ModelError> {
    let place = |index: &i64| {
        let from_start = if *index < 0 {
            index + size as i64
        } else {
            *index
        };
        let place = usize::try_from(from_start)
            .ok()
            .filter(|place| *place < size);
        place.ok_or_else(|| node.wrong(format!("there is no place {index} of {size}")))
    };
    indices.iter().map(place).collect()
}

/// Looks numbers up in a constant by places that are computed.
fn looked_up(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    data: &KnownTensor,
    indices: &KnownTensor,
    shape: Shape,
) -> Result<KnownTensor, ModelError> {
    let Some(values) = compiler.known(data).map(<[f64]>::to_vec) else {
        return Err(node.wrong("lanekeeper takes computed places only of constants"));
    };
    compiler.keep(values.len())?;
    let labels = match &indices.labels {
        Some(known)
            if known
                .iter()
                .all(|index| *index >= 0.0 && (*index as usize) < values.len()) =>
        {
            Some(known.iter().map(|index| values[*index as usize]).collect())
        }
        _ => {
            compiler.plan.set_may_fail();
            None
        }
    };
    let kernel = moves::look_up(values, indices.shape.unit());
    let made = compiler.emit_one(node, &[indices], shape, data.kind, kernel)?;
    Ok(KnownTensor { labels, ..made })
}

/// Gather.
pub(super) fn gather(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (data, indices) = (input(node, inputs, 0)?, numbers(node, inputs, 1)?);
    let axis = data
        .shape
        .fixed_axis(node.int("axis", 0)?)
        .map_err(|reason| node.wrong(reason))?;
    let dims = data.shape.dims();
    let dims = [&dims[..axis], indices.shape.dims(), &dims[axis + 1..]].concat();
    let shape = Shape::new(dims).map_err(|reason| node.wrong(reason))?;
    if compiler.known(indices).is_none() && data.shape.rank() == 1 {
        return Ok(vec![looked_up(compiler, node, data, indices, shape)?]);
    }
    let indices = compiler.ints(node, indices)?;
    let places = places(node, &indices, data.shape.dims()[axis].unit())?;
    Ok(vec![chosen(compiler, node, data, axis, places, shape)?])
}

/// ArrayFeatureExtractor.
pub(super) fn extractor(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (data, indices) = (input(node, inputs, 0)?, numbers(node, inputs, 1)?);
    let rank = data.shape.rank();
    let Some(Dim::Fixed(width)) = data.shape.dims().last().copied() else {
        return Err(node.wrong("it needs columns"));
    };
    let mut dims = data.shape.dims()[..rank - 1].to_vec();
    if dims.is_empty() {
        dims.push(Dim::Fixed(1));
    }
    if compiler.known(indices).is_none() && data.shape.unit() == width {
        dims.push(Dim::Rows(indices.shape.unit()));
        let shape = Shape::new(dims).map_err(|reason| node.wrong(reason))?;
        return Ok(vec![looked_up(compiler, node, data, indices, shape)?]);
    }
    let indices = compiler.ints(node, indices)?;
    let places = places(node, &indices, width)?;
    dims.push(Dim::Fixed(places.len()));
    Ok(vec![chosen(
        compiler,
        node,
        data,
        rank - 1,
        places,
        Shape::new(dims)?,
    )?])
}

/// Slice.
pub(super) fn slice(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let mut value = input(node, inputs, 0)?.clone();
    let rank = value.shape.rank();
    let part = |index: usize, name: &str| match inputs.get(index).and_then(Option::as_ref) {
        Some(part) => compiler.ints(node, part),
        None => node.ints(name),
    };
    let (starts, ends) = (part(1, "starts")?, part(2, "ends")?);
    let (axes, steps) = (part(3, "axes")?, part(4, "steps")?);
    if ends.len() != starts.len() {
        return Err(node.wrong("it needs as many ends as starts"));
    }
    for (index, (start, end)) in starts.iter().zip(ends).enumerate() {
        let axis = axes.get(index).copied().unwrap_or(index as i64);
        let axis = axis_of(axis, rank).map_err(|reason| node.wrong(reason))?;
        let step = steps.get(index).copied().unwrap_or(1);
        if *start == 0 && end >= i64::from(i32::MAX) && step == 1 {
            continue;
        }
        let axis = value
            .shape
            .fixed_axis(axis as i64)
            .map_err(|reason| node.wrong(reason))?;
        let size = value.shape.dims()[axis].unit() as i64;
        let bound = |place: i64, low: i64, high: i64| {
            (if place < 0 {
                place.saturating_add(size)
            } else {
                place
            })
            .clamp(low, high)
        };
        let places: Vec<usize> = match step {
            0 => return Err(node.wrong("a step is 0")),
            1.. => (bound(*start, 0, size)..bound(end, 0, size))
                .step_by(step as usize)
                .map(|place| place as usize)
                .collect(),
            _ => {
                let (first, last) = (bound(*start, 0, size - 1), bound(end, -1, size - 1));
                (last + 1..first + 1)
                    .rev()
                    .step_by(step.unsigned_abs() as usize)
                    .map(|place| place as usize)
                    .collect()
            }
        };
        let shape = value.shape.with(axis, Dim::Fixed(places.len()))?;
        value = chosen(compiler, node, &value, axis, places, shape)?;
    }
    Ok(vec![value])
}

/// Split.
pub(super) fn split(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?.clone();
    let axis = value
        .shape
        .fixed_axis(node.int("axis", 0)?)
        .map_err(|reason| node.wrong(reason))?;
    let size = value.shape.dims()[axis].unit();
    let count = node.outputs.len().max(1);
    let sizes = match inputs.get(1).and_then(Option::as_ref) {
        Some(sizes) => compiler.ints(node, sizes)?,
        None if node.has("split") => node.ints("split")?,
        None => {
            let each = size.div_ceil(count);
            (0..count)
                .map(|part| size.saturating_sub(part * each).min(each) as i64)
                .collect()
        }
    };
    let sizes: Option<Vec<usize>> = sizes
        .iter()
        .map(|size| usize::try_from(*size).ok())
        .collect();
    let sizes = sizes.filter(|sizes| {
        sizes.len() == count
            && sizes
                .iter()
                .try_fold(0_usize, |sum, own| sum.checked_add(*own))
                == Some(size)
    });
    let sizes = sizes.ok_or_else(|| node.wrong(format!("its parts must add up to {size}")))?;
    let mut made = Vec::with_capacity(count);
    let mut start = 0;
    for size in sizes {
        let shape = value.shape.with(axis, Dim::Fixed(size))?;
        made.push(chosen(
            compiler,
            node,
            &value,
            axis,
            (start..start + size).collect(),
            shape,
        )?);
        start += size;
    }
    Ok(made)
}
