//! Operators that take rows and constant matrices: products, normalization, distances to stored points.

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, input, numbers, table};
use super::proto::GraphNode;
use crate::models::graph::distances::{PointMetric, distances};
use crate::models::graph::linear::Product;
use crate::models::graph::reduce::along_last;
use crate::models::graph::{Dim, Kind, Shape, broadcast};
use crate::models::{Exactness, ModelError};

/// A constant matrix with its rows and columns; each row of a table is multiplied with it `lines` times.
fn matrix(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    value: &KnownTensor,
    lines: usize,
) -> Result<(Vec<f64>, usize, usize), ModelError> {
    let Some(known) = compiler.known(value) else {
        return Err(node.wrong("lanekeeper multiplies only with constant matrices"));
    };
    let known = known.to_vec();
    // It is laid out anew, and read for each row.
    compiler.keep(known.len().saturating_mul(2))?;
    compiler.work(known.len().saturating_mul(lines))?;
    match value.shape.sizes(1)[..] {
        [height, width] => Ok((known, height, width)),
        [height] => Ok((known, height, 1)),
        _ => Err(node.wrong("its matrix must have rows and columns")),
    }
}

fn transposed(values: &[f64], height: usize, width: usize) -> Vec<f64> {
    let column = |place: usize| (0..height).map(move |row| values[row * width + place]);
    (0..width).flat_map(column).collect()
}

/// MatMul with a constant.
pub(super) fn product(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (left, right) = (numbers(node, inputs, 0)?, numbers(node, inputs, 1)?);
    if left.kind != right.kind || !left.kind.is_float() {
        return Err(node.wrong("its inputs must be fractions of the same type"));
    }
    let (columns, height, width) = matrix(
        compiler,
        node,
        right,
        left.shape.unit() / left.last().max(1),
    )?;
    let rank = left.shape.rank();
    if rank == 0 || left.shape.dims()[rank - 1] != Dim::Fixed(height) {
        return Err(node.wrong(format!(
            "{} and {} do not fit together",
            left.shape, right.shape
        )));
    }
    let mut dims = left.shape.dims().to_vec();
    match right.shape.rank() {
        1 => drop(dims.pop()),
        _ => dims[rank - 1] = Dim::Fixed(width),
    }
    let shape = Shape::new(dims).map_err(|reason| node.wrong(reason))?;
    let kernel = Product::of_columns(&columns, height, width, left.kind).kernel(Vec::new());
    Ok(vec![compiler.emit_one(
        node,
        &[left],
        shape,
        left.kind,
        kernel,
    )?])
}

/// Gemm with a constant.
pub(super) fn general_product(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (left, width_in) = table(node, inputs)?;
    let (mut columns, mut height, mut width) =
        matrix(compiler, node, numbers(node, inputs, 1)?, 1)?;
    if node.int("transA", 0)? != 0 || !left.kind.is_float() {
        return Err(node.wrong("lanekeeper has it for rows of fractions"));
    }
    if node.int("transB", 0)? != 0 {
        columns = transposed(&columns, height, width);
        (height, width) = (width, height);
    }
    if width_in != height {
        return Err(node.wrong(format!(
            "{} columns do not fit to a matrix of {height} rows",
            width_in
        )));
    }
    let alpha = f64::from(node.float("alpha", 1.0)?);
    columns.iter_mut().for_each(|value| *value *= alpha);
    let shape = left.shape.with(1, Dim::Fixed(width))?;
    let product = Product::of_columns(&columns, height, width, left.kind);
    let beta = f64::from(node.float("beta", 1.0)?);
    let Some(added) = inputs.get(2).and_then(Option::as_ref) else {
        return Ok(vec![compiler.emit_one(
            node,
            &[left],
            shape,
            left.kind,
            product.kernel(Vec::new()),
        )?]);
    };
    let known = compiler
        .known(added)
        .filter(|known| known.len() == width && added.shape.rank() <= 2);
    let is_line = added.shape.rank() < 2 || added.shape.dims()[0] == Dim::Fixed(1);
    if let (Some(known), true) = (known, is_line) {
        let added = known.iter().map(|value| value * beta).collect();
        return Ok(vec![compiler.emit_one(
            node,
            &[left],
            shape,
            left.kind,
            product.kernel(added),
        )?]);
    }
    let kind = left.kind;
    let own = compiler.emit_one(
        node,
        &[left],
        shape.clone(),
        kind,
        product.kernel(Vec::new()),
    )?;
    if shape.broadcast(&added.shape).as_ref() != Ok(&shape) {
        return Err(node.wrong(format!("{} does not fit to {shape}", added.shape)));
    }
    let kernel = broadcast::binary(
        [shape.clone(), added.shape.clone(), shape.clone()],
        move |own, added| kind.round(own + beta * added),
    );
    Ok(vec![compiler.emit_one(
        node,
        &[&own, added],
        shape,
        kind,
        kernel,
    )?])
}

/// BatchNormalization, as it predicts.
pub(super) fn batch_normalization(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    if node.int("training_mode", 0)? != 0 {
        return Err(node.wrong("it is in training mode"));
    }
    let mut parts = Vec::new();
    for index in 1..=4 {
        let part = input(node, inputs, index)?;
        match compiler.known(part) {
            Some(known) if known.len() == width => parts.push(known.to_vec()),
            _ => return Err(node.wrong("its parameters must be constants, one for each column")),
        }
    }
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    let kind = value.kind;
    let kernel = along_last(width, move |row: &mut [f64]| {
        for (column, value) in row.iter_mut().enumerate() {
            let scaled = (*value - parts[2][column]) / (parts[3][column] + epsilon).sqrt();
            *value = kind.round(scaled * parts[0][column] + parts[1][column]);
        }
    });
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        value.shape.clone(),
        kind,
        kernel,
    )?])
}

/// Distances to stored points, given by an operator of onnxruntime's.
pub(super) fn stored_distances(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let metric = match node.text("metric", "sqeuclidean")? {
        "euclidean" => PointMetric::Euclidean,
        "sqeuclidean" => PointMetric::SquaredEuclidean,
        other => {
            return Err(node.wrong(format!(
                "it measures {other:?}; lanekeeper has euclidean and sqeuclidean"
            )));
        }
    };
    let (value, width) = table(node, inputs)?;
    let (points, count, own) = matrix(compiler, node, numbers(node, inputs, 1)?, 1)?;
    if own != width {
        return Err(node.wrong("its points have another number of columns"));
    }
    let shape = value.shape.with(1, Dim::Fixed(count))?;
    let kernel = distances(points, width, metric, value.kind == Kind::F32, false);
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        shape,
        value.kind,
        kernel,
    )?])
}

/// Scan, where its body computes the distances to stored points.
pub(super) fn scan(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let other = || {
        node.wrong("lanekeeper has it only for distances to stored points, as skl2onnx writes them")
    };
    let body = node.graph("body")?;
    let (value, width) = table(node, inputs)?;
    let (points, count, own) = matrix(compiler, node, numbers(node, inputs, 1)?, 1)?;
    let is_plain = inputs.len() == 2
        && node.outputs.len() == 2
        && node.int("num_scan_inputs", 0)? == 1
        && body.inputs.len() == 2
        && body.outputs.len() == 2
        && [
            "scan_input_axes",
            "scan_input_directions",
            "scan_output_axes",
            "scan_output_directions",
        ]
        .iter()
        .all(|name| !node.has(name));
    if !is_plain || own != width {
        return Err(other());
    }
    // The name that stands behind copies.
    let resolve = |name: &str| -> String {
        let mut name = name.to_owned();
        for _ in 0..body.nodes.len() {
            let copy = body.nodes.iter().find(|copy| {
                copy.operator == "Identity" && copy.outputs.first() == Some(&name.as_str())
            });
            match copy.and_then(|copy| copy.inputs.first()) {
                Some(from) => name = (*from).to_owned(),
                None => break,
            }
        }
        name
    };
    let rows = body.inputs[0].name;
    let makes = |name: &str| {
        body.nodes
            .iter()
            .find(|one| one.outputs.first().is_some_and(|own| *own == name))
    };
    let reduction = makes(&resolve(body.outputs[1].name)).ok_or_else(other)?;
    let metric = match reduction.operator {
        "ReduceSumSquare" => PointMetric::SquaredEuclidean,
        "ReduceL1" => PointMetric::Manhattan,
        _ => return Err(other()),
    };
    let difference = reduction
        .inputs
        .first()
        .and_then(|name| makes(&resolve(name)))
        .ok_or_else(other)?;
    let sides: Vec<String> = difference.inputs.iter().map(|name| resolve(name)).collect();
    let axes = match reduction.inputs.get(1) {
        Some(name) => {
            let found = body
                .initializers
                .iter()
                .find(|one| one.name().is_ok_and(|own| own == *name));
            let axes = found.ok_or_else(other)?.read(&mut compiler.texts)?;
            axes.values.iter().map(|axis| *axis as i64).collect()
        }
        None => reduction.ints("axes")?,
    };
    let is_distance = resolve(body.outputs[0].name) == rows
        && difference.operator == "Sub"
        && sides == [rows, body.inputs[1].name]
        && axes == [1]
        && reduction.int("keepdims", 1)? == 0;
    if !is_distance {
        return Err(other());
    }
    let shape = Shape::new(vec![Dim::Fixed(count), value.shape.dims()[0]])?;
    let kernel = distances(points, width, metric, value.kind == Kind::F32, true);
    let made = compiler.emit_one(node, &[value], shape, value.kind, kernel)?;
    compiler.be_no_more_exact_than(Exactness::Single);
    Ok(vec![value.clone(), made])
}
