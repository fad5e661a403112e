//! ONNX-ML's operators that prepare rows.
//!
//! Source: the specification, and onnxruntime 1.32, `core/providers/cpu/ml/`.

use std::collections::HashMap;
use std::rc::Rc;

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, input, numbers, table};
use super::proto::GraphNode;
use crate::models::ModelError;
use crate::models::graph::reduce::along_last;
use crate::models::graph::{Dim, Kind, Shape, broadcast, moves};

/// Categories below this are looked up without a search.
const DIRECT_MAX: usize = 1024;

/// Since this version of ONNX-ML NaN may be a key.
const NAN_IS_KEY: i64 = 4;

/// Numbers of 32 bits of an attribute: one for each column, or one for all.
fn per_column(node: &GraphNode<'_>, name: &str, width: usize) -> Result<Vec<f64>, ModelError> {
    let values: Vec<f64> = node.floats(name)?.into_iter().map(f64::from).collect();
    match values[..] {
        [one] => Ok(vec![one; width]),
        _ if values.len() == width => Ok(values),
        _ => Err(node.wrong(format!(
            "{name} must have 1 or {width} numbers, but has {}",
            values.len()
        ))),
    }
}

/// Scaler.
pub(super) fn scaler(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let (offsets, scales) = (
        per_column(node, "offset", width)?,
        per_column(node, "scale", width)?,
    );
    let is_f64 = value.kind == Kind::F64;
    let kernel = along_last(width, move |row: &mut [f64]| {
        for ((value, offset), scale) in row.iter_mut().zip(&offsets).zip(&scales) {
            *value = match is_f64 {
                true => f64::from(((*value - offset) * scale) as f32),
                false => f64::from(((*value as f32) - (*offset as f32)) * (*scale as f32)),
            };
        }
    });
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        value.shape.clone(),
        Kind::F32,
        kernel,
    )?])
}

/// Normalizer.
pub(super) fn normalizer(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let width = match (value.shape.rank(), value.shape.dims().last()) {
        (2, Some(Dim::Fixed(width))) => *width,
        _ => return Err(node.wrong("it needs rows and columns")),
    };
    let norm: fn(&[f64]) -> f32 = match node.text("norm", "MAX")? {
        "MAX" => |row| {
            row.iter()
                .fold(f32::MIN, |most, value| most.max(*value as f32))
        },
        "L1" => |row| row.iter().map(|value| (*value as f32).abs()).sum(),
        "L2" => |row| {
            row.iter()
                .map(|value| (*value as f32) * (*value as f32))
                .sum::<f32>()
        },
        other => return Err(node.wrong(format!("there is no norm {other:?}"))),
    };
    let is_square = node.text("norm", "MAX")? == "L2";
    let kernel = along_last(width, move |row: &mut [f64]| {
        let norm = norm(row);
        for value in row.iter_mut() {
            let own = *value as f32;
            *value = f64::from(match (norm != 0.0, is_square) {
                (false, _) => own,
                (true, false) => own / norm,
                (true, true) => (own * own / norm).sqrt().copysign(own),
            });
        }
    });
    let made = compiler.emit_one(node, &[value], value.shape.clone(), Kind::F32, kernel)?;
    Ok(vec![KnownTensor {
        is_share: Some(node.text("norm", "MAX")? == "L1"),
        ..made
    }])
}

/// Imputer.
pub(super) fn imputer(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let (fills, missing) = match node.has("imputed_value_int64s") {
        true => {
            let fills: Vec<f64> = node
                .ints("imputed_value_int64s")?
                .into_iter()
                .map(|fill| fill as f64)
                .collect();
            (fills, node.int("replaced_value_int64", 0)? as f64)
        }
        false => {
            let fills = node
                .floats("imputed_value_floats")?
                .into_iter()
                .map(f64::from)
                .collect();
            (fills, f64::from(node.float("replaced_value_float", 0.0)?))
        }
    };
    let fills = match fills[..] {
        [one] => vec![one; width],
        _ if fills.len() == width => fills,
        _ => return Err(node.wrong(format!("it must have 1 or {width} values to fill in"))),
    };
    let kernel = along_last(width, move |row: &mut [f64]| {
        for (value, fill) in row.iter_mut().zip(&fills) {
            if *value == missing || (missing.is_nan() && value.is_nan()) {
                *value = *fill;
            }
        }
    });
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        value.shape.clone(),
        value.kind,
        kernel,
    )?])
}

/// Binarizer.
pub(super) fn binarizer(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let threshold = f64::from(node.float("threshold", 0.0)?);
    let kernel = broadcast::unary(move |value| f64::from(u8::from(value > threshold)));
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        value.shape.clone(),
        value.kind,
        kernel,
    )?])
}

/// FeatureVectorizer.
pub(super) fn feature_vectorizer(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let sizes = node.ints("inputdimensions")?;
    let mut parts = Vec::new();
    for index in 0..inputs.len() {
        let value = numbers(node, inputs, index)?;
        let fits = value.shape.rank() == 2
            && sizes
                .get(index)
                .is_some_and(|size| *size == value.last() as i64);
        if !fits || value.shape.dims()[0] != numbers(node, inputs, 0)?.shape.dims()[0] {
            return Err(node.wrong("inputdimensions must be the columns of its inputs"));
        }
        parts.push(value);
    }
    let width = parts.iter().map(|part| part.last()).sum();
    let first = numbers(node, inputs, 0)?;
    let shape = first.shape.with(1, Dim::Fixed(width))?;
    let kernel = moves::concat(parts.iter().map(|part| part.shape.clone()).collect(), 1);
    let made = compiler.emit_one(node, &parts, shape.clone(), Kind::F64, kernel)?;
    let kernel = broadcast::unary(|value| f64::from(value as f32));
    Ok(vec![compiler.emit_one(
        node,
        &[&made],
        shape,
        Kind::F32,
        kernel,
    )?])
}

/// The codes of texts.
fn codes(compiler: &mut GraphCompiler, texts: &[&str]) -> Vec<f64> {
    texts.iter().map(|text| compiler.texts.code(text)).collect()
}

/// A number as a key: its bits, with one zero and one NaN.
fn key(value: f64) -> u64 {
    match value {
        0.0 => 0,
        value if value.is_nan() => f64::NAN.to_bits(),
        value => value.to_bits(),
    }
}

/// OneHotEncoder.
pub(super) fn one_hot(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let is_text = value.kind == Kind::Text;
    let categories = match is_text {
        true => codes(compiler, &node.texts("cats_strings")?),
        false => node
            .ints("cats_int64s")?
            .into_iter()
            .map(|category| category as f64)
            .collect(),
    };
    if categories.is_empty() {
        return Err(node.wrong("it must have categories"));
    }
    let refuses_unknown = node.int("zeros", 1)? == 0;
    if is_text {
        compiler.use_texts(value, &categories, refuses_unknown);
    }
    if refuses_unknown {
        compiler.plan.set_may_fail();
    }
    let width = categories.len();
    let mut dims = value.shape.dims().to_vec();
    if dims.len() > 2 {
        return Err(node.wrong("it takes at most rows and columns"));
    }
    dims.push(Dim::Fixed(width));
    let shape = Shape::new(dims).map_err(|reason| node.wrong(reason))?;
    let unit = value.shape.unit();
    let places: HashMap<u64, usize> = categories
        .iter()
        .enumerate()
        .map(|(place, category)| (key(*category), place))
        .collect();
    // Codes of texts and most categories are small.
    let small = categories
        .iter()
        .filter(|category| **category < DIRECT_MAX as f64);
    let count = small.fold(-1.0, |most, category| f64::max(most, *category)) as i64 + 1;
    let count = usize::try_from(count).unwrap_or(0);
    compiler.keep(count)?;
    let direct: Vec<Option<usize>> = (0..count)
        .map(|number| places.get(&key(number as f64)).copied())
        .collect();
    let kernel = moves::one_hot(width, unit, refuses_unknown, move |value| {
        let whole = value.trunc();
        match whole >= 0.0 && whole < direct.len() as f64 {
            true => direct[whole as usize],
            false => places.get(&key(whole)).copied(),
        }
    });
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        shape,
        Kind::F32,
        kernel,
    )?])
}

/// The keys, or the values, of a LabelEncoder, and their kind.
fn side(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    side: &str,
) -> Result<Option<(Kind, Vec<f64>)>, ModelError> {
    let name = |kind: &str| format!("{side}_{kind}");
    if node.has(&name("strings")) {
        let texts = node.texts(&name("strings"))?;
        return Ok(Some((Kind::Text, codes(compiler, &texts))));
    }
    if node.has(&name("int64s")) {
        let values = node.ints(&name("int64s"))?;
        return Ok(Some((
            Kind::I64,
            values.into_iter().map(|value| value as f64).collect(),
        )));
    }
    if node.has(&name("floats")) {
        let values = node.floats(&name("floats"))?;
        return Ok(Some((
            Kind::F32,
            values.into_iter().map(f64::from).collect(),
        )));
    }
    match node.tensor(&name("tensor"))? {
        Some(tensor) => {
            let tensor = tensor.read(&mut compiler.texts)?;
            Ok(Some((tensor.kind, tensor.values)))
        }
        None => Ok(None),
    }
}

/// What a LabelEncoder gives for keys that it does not know.
fn default(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    kind: Kind,
) -> Result<f64, ModelError> {
    if let Some(tensor) = node.tensor("default_tensor")? {
        let tensor = tensor.read(&mut compiler.texts)?;
        return tensor
            .values
            .first()
            .copied()
            .ok_or_else(|| node.wrong("its default is empty"));
    }
    Ok(match kind {
        Kind::Text => compiler.texts.code(node.text("default_string", "_Unused")?),
        Kind::F32 | Kind::F64 => f64::from(node.float("default_float", -0.0)?),
        _ => node.int("default_int64", -1)? as f64,
    })
}

/// LabelEncoder.
pub(super) fn label_encoder(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let (from, keys, to, values) = match node.has("classes_strings") {
        // Version 1: a list of texts, and their places.
        true => {
            let texts = codes(compiler, &node.texts("classes_strings")?);
            let places: Vec<f64> = (0..texts.len()).map(|place| place as f64).collect();
            match value.kind {
                Kind::Text => (Kind::Text, texts, Kind::I64, places),
                _ => (value.kind, places, Kind::Text, texts),
            }
        }
        false => {
            let keys = side(compiler, node, "keys")?;
            let values = side(compiler, node, "values")?;
            let (Some((from, keys)), Some((to, values))) = (keys, values) else {
                return Err(node.wrong("it must have keys and values"));
            };
            (from, keys, to, values)
        }
    };
    if keys.len() != values.len() {
        return Err(node.wrong("it must have a value for each key"));
    }
    if (from == Kind::Text) != (value.kind == Kind::Text) {
        return Err(node.wrong("its keys are of another type than its input"));
    }
    let default = default(compiler, node, to)?;
    // Before version 4, NaN is no key.
    let knows_nan = compiler.ml_opset >= NAN_IS_KEY;
    let pairs = keys.into_iter().zip(values);
    let pairs = pairs.filter(|(key, _)| knows_nan || !key.is_nan());
    let (keys, values): (Vec<f64>, Vec<f64>) = pairs.unzip();
    map(compiler, node, value, (&keys, &values), default, to)
}

/// CategoryMapper.
pub(super) fn category_mapper(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let texts = codes(compiler, &node.texts("cats_strings")?);
    let numbers: Vec<f64> = node
        .ints("cats_int64s")?
        .into_iter()
        .map(|number| number as f64)
        .collect();
    if texts.len() != numbers.len() {
        return Err(node.wrong("it must have a text for each number"));
    }
    match value.kind {
        Kind::Text => {
            let default = node.int("default_int64", -1)? as f64;
            map(
                compiler,
                node,
                value,
                (&texts, &numbers),
                default,
                Kind::I64,
            )
        }
        _ => {
            let default = compiler.texts.code(node.text("default_string", "_Unused")?);
            map(
                compiler,
                node,
                value,
                (&numbers, &texts),
                default,
                Kind::Text,
            )
        }
    }
}

/// One number, or code of a text, for another.
fn map(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    value: &KnownTensor,
    (keys, values): (&[f64], &[f64]),
    default: f64,
    to: Kind,
) -> OperatorResult {
    if value.kind == Kind::Text {
        compiler.use_texts(value, keys, false);
    }
    let mut known = HashMap::new();
    for (own, value) in keys.iter().zip(values) {
        // The first of several counts.
        known.entry(key(*own)).or_insert(*value);
    }
    let mut labels: Vec<f64> = Vec::new();
    if values.len() < super::compiler::LABELS_MAX {
        labels.extend(values.iter().chain([&default]));
        let mut seen = std::collections::HashSet::new();
        labels.retain(|label| seen.insert(key(*label)));
    }
    let labels: Option<Rc<[f64]>> = match &value.labels {
        Some(from) => Some(
            from.iter()
                .map(|label| known.get(&key(*label)).copied().unwrap_or(default))
                .collect(),
        ),
        None => (!labels.is_empty()).then(|| labels.into()),
    };
    let kernel = broadcast::unary(move |value| known.get(&key(value)).copied().unwrap_or(default));
    let made = compiler.emit_one(node, &[value], value.shape.clone(), to, kernel)?;
    Ok(vec![KnownTensor { labels, ..made }])
}
