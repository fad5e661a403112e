//! Operators on numbers, one by one and two by two.

use std::rc::Rc;

use super::compiler::{GraphCompiler, KnownTensor, LABELS_MAX, OperatorResult, input, numbers};
use super::proto::GraphNode;
use crate::models::ModelError;
use crate::models::graph::{Kernel, Kind, Shape, broadcast};

/// A function of each number, in 32 and in 64 bits.
struct NumberFunction {
    name: &'static str,
    f32: fn(f32) -> f32,
    f64: fn(f64) -> f64,
}

/// Those without parameters. What their results are for whole numbers is the same.
static FUNCTIONS: [NumberFunction; 19] = [
    NumberFunction {
        name: "Abs",
        f32: f32::abs,
        f64: f64::abs,
    },
    NumberFunction {
        name: "Atan",
        f32: f32::atan,
        f64: f64::atan,
    },
    NumberFunction {
        name: "Ceil",
        f32: f32::ceil,
        f64: f64::ceil,
    },
    NumberFunction {
        name: "Cos",
        f32: f32::cos,
        f64: f64::cos,
    },
    NumberFunction {
        name: "Exp",
        f32: f32::exp,
        f64: f64::exp,
    },
    NumberFunction {
        name: "Floor",
        f32: f32::floor,
        f64: f64::floor,
    },
    NumberFunction {
        name: "Log",
        f32: f32::ln,
        f64: f64::ln,
    },
    NumberFunction {
        name: "Neg",
        f32: |x| -x,
        f64: |x| -x,
    },
    NumberFunction {
        name: "Reciprocal",
        f32: |x| 1.0 / x,
        f64: |x| 1.0 / x,
    },
    NumberFunction {
        name: "Relu",
        f32: |x| if x < 0.0 { 0.0 } else { x },
        f64: |x| if x < 0.0 { 0.0 } else { x },
    },
    NumberFunction {
        name: "Round",
        f32: f32::round_ties_even,
        f64: f64::round_ties_even,
    },
    NumberFunction {
        name: "Sigmoid",
        f32: |x| 1.0 / (1.0 + (-x).exp()),
        f64: |x| 1.0 / (1.0 + (-x).exp()),
    },
    NumberFunction {
        name: "Sign",
        f32: |x| if x == 0.0 { 0.0 } else { x.signum() },
        f64: |x| if x == 0.0 { 0.0 } else { x.signum() },
    },
    NumberFunction {
        name: "Sin",
        f32: f32::sin,
        f64: f64::sin,
    },
    NumberFunction {
        name: "Softplus",
        f32: softplus_f32,
        f64: softplus_f64,
    },
    NumberFunction {
        name: "Softsign",
        f32: |x| x / (1.0 + x.abs()),
        f64: |x| x / (1.0 + x.abs()),
    },
    NumberFunction {
        name: "Sqrt",
        f32: f32::sqrt,
        f64: f64::sqrt,
    },
    NumberFunction {
        name: "Tan",
        f32: f32::tan,
        f64: f64::tan,
    },
    NumberFunction {
        name: "Tanh",
        f32: f32::tanh,
        f64: f64::tanh,
    },
];

fn softplus_f32(x: f32) -> f32 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn softplus_f64(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

/// The kernel of a function in the precision of a kind.
fn kernel_of(kind: Kind, f32: fn(f32) -> f32, f64: fn(f64) -> f64) -> Kernel {
    match kind {
        Kind::F32 => broadcast::unary(move |value| f64::from(f32(value as f32))),
        _ => broadcast::unary(f64),
    }
}

/// An operator that keeps the shape and kind of its input.
fn each(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
    kernel: Kernel,
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        value.shape.clone(),
        value.kind,
        kernel,
    )?])
}

/// An operator of `FUNCTIONS`.
pub(super) fn function(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let found = FUNCTIONS
        .iter()
        .find(|function| function.name == node.operator);
    let function = found.ok_or_else(|| node.wrong("it is not known"))?;
    let takes_whole = ["Abs", "Neg", "Sign", "Relu"].contains(&function.name);
    if !value.kind.is_float() && !takes_whole {
        return Err(node.wrong("it needs fractions"));
    }
    let made = each(
        compiler,
        node,
        inputs,
        kernel_of(value.kind, function.f32, function.f64),
    )?;
    Ok(made
        .into_iter()
        .map(|made| labelled(made, value, function.f64))
        .collect())
}

/// Follows the values that a tensor may have.
fn labelled(made: KnownTensor, from: &KnownTensor, function: impl Fn(f64) -> f64) -> KnownTensor {
    let labels = from
        .labels
        .as_ref()
        .map(|labels| labels.iter().map(|label| function(*label)).collect());
    KnownTensor { labels, ..made }
}

/// Clip, LeakyRelu, Elu, HardSigmoid, ThresholdedRelu and Selu: functions with parameters.
pub(super) fn with_parameters(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let kind = value.kind;
    let alpha = |default: f32| node.float("alpha", default).map(f64::from);
    let round = move |value: f64| kind.round(value);
    let kernel = match node.operator {
        "LeakyRelu" => {
            let alpha = alpha(0.01)?;
            broadcast::unary(move |x| if x >= 0.0 { x } else { round(alpha * x) })
        }
        "ThresholdedRelu" => {
            let alpha = alpha(1.0)?;
            broadcast::unary(move |x| if x > alpha { x } else { 0.0 })
        }
        "Elu" => {
            let alpha = alpha(1.0)?;
            broadcast::unary(move |x| {
                if x >= 0.0 {
                    x
                } else {
                    round(alpha * x.exp_m1())
                }
            })
        }
        "Selu" => {
            let alpha = alpha(1.673_263_2)?;
            let gamma = f64::from(node.float("gamma", 1.050_701)?);
            broadcast::unary(move |x| round(gamma * if x > 0.0 { x } else { alpha * x.exp_m1() }))
        }
        "HardSigmoid" => {
            let (alpha, beta) = (alpha(0.2)?, f64::from(node.float("beta", 0.5)?));
            broadcast::unary(move |x| round((alpha * x + beta).clamp(0.0, 1.0)))
        }
        _ => {
            let bound = |index: usize, name: &str, default: f64| match inputs
                .get(index)
                .and_then(Option::as_ref)
            {
                Some(bound) => {
                    let known = compiler
                        .known(bound)
                        .and_then(|values| values.first().copied());
                    known.ok_or_else(|| node.wrong("its bounds must be constants"))
                }
                None if node.has(name) => Ok(f64::from(node.float(name, 0.0)?)),
                None => Ok(default),
            };
            let low = bound(1, "min", f64::NEG_INFINITY)?;
            let high = bound(2, "max", f64::INFINITY)?;
            broadcast::unary(move |x| {
                let x = if x < low { low } else { x };
                if x > high { high } else { x }
            })
        }
    };
    each(compiler, node, inputs, kernel)
}

/// Not and IsNaN.
pub(super) fn test(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = numbers(node, inputs, 0)?;
    let function: fn(f64) -> bool = match node.operator {
        "Not" => |x| x == 0.0,
        _ => f64::is_nan,
    };
    let kernel = broadcast::unary(move |x| f64::from(u8::from(function(x))));
    let made = compiler.emit_one(node, &[value], value.shape.clone(), Kind::Bool, kernel)?;
    Ok(vec![KnownTensor {
        labels: Some(Rc::from([0.0, 1.0])),
        ..made
    }])
}

/// The kernel of an operator on two tensors.
fn pair(name: &str, kind: Kind, shapes: [Shape; 3]) -> Option<Kernel> {
    fn flag(is_true: bool) -> f64 {
        f64::from(u8::from(is_true))
    }
    fn both(shapes: [Shape; 3], function: fn(f64, f64) -> f64) -> Kernel {
        broadcast::binary(shapes, function)
    }
    Some(match (name, kind) {
        ("Add" | "Sum" | "Mean", Kind::F32) => {
            broadcast::binary(shapes, |x, y| f64::from((x + y) as f32))
        }
        ("Add" | "Sum" | "Mean", _) => broadcast::binary(shapes, |x, y| x + y),
        ("Sub", Kind::F32) => broadcast::binary(shapes, |x, y| f64::from((x - y) as f32)),
        ("Sub", _) => broadcast::binary(shapes, |x, y| x - y),
        ("Mul", Kind::F32) => broadcast::binary(shapes, |x, y| f64::from((x * y) as f32)),
        ("Mul", _) => broadcast::binary(shapes, |x, y| x * y),
        ("Div", Kind::F32) => broadcast::binary(shapes, |x, y| f64::from((x / y) as f32)),
        ("Div", Kind::F64) => broadcast::binary(shapes, |x, y| x / y),
        ("Div", _) => both(shapes, |x, y| if y == 0.0 { 0.0 } else { (x / y).trunc() }),
        ("Pow", Kind::F32) => both(shapes, |x, y| match y == 2.0 {
            true => f64::from((x * x) as f32),
            false => f64::from((x as f32).powf(y as f32)),
        }),
        ("Pow", _) => both(shapes, f64::powf),
        // As onnxruntime does, NaN passes through.
        ("Max", _) => both(shapes, |x, y| if x.is_nan() || x > y { x } else { y }),
        ("Min", _) => both(shapes, |x, y| if x.is_nan() || x < y { x } else { y }),
        ("PRelu", _) => both(shapes, move |x, y| {
            if x < 0.0 {
                f64::from((x * y) as f32)
            } else {
                x
            }
        }),
        ("Equal", _) => both(shapes, |x, y| flag(x == y)),
        ("Greater", _) => both(shapes, |x, y| flag(x > y)),
        ("GreaterOrEqual", _) => both(shapes, |x, y| flag(x >= y)),
        ("Less", _) => both(shapes, |x, y| flag(x < y)),
        ("LessOrEqual", _) => both(shapes, |x, y| flag(x <= y)),
        ("And", _) => both(shapes, |x, y| flag(x != 0.0 && y != 0.0)),
        ("Or", _) => both(shapes, |x, y| flag(x != 0.0 || y != 0.0)),
        ("Xor", _) => both(shapes, |x, y| flag((x != 0.0) != (y != 0.0))),
        _ => return None,
    })
}

/// An operator on two tensors, of the same kind.
fn two(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    left: &KnownTensor,
    right: &KnownTensor,
) -> Result<KnownTensor, ModelError> {
    if node.operator != "Pow" && left.kind != right.kind {
        return Err(node.wrong("its inputs have different types"));
    }
    let shape = left
        .shape
        .broadcast(&right.shape)
        .map_err(|reason| node.wrong(reason))?;
    let is_test = [
        "Equal",
        "Greater",
        "GreaterOrEqual",
        "Less",
        "LessOrEqual",
        "And",
        "Or",
        "Xor",
    ]
    .contains(&node.operator);
    let kind = if is_test { Kind::Bool } else { left.kind };
    let kernel = || {
        pair(
            node.operator,
            left.kind,
            [left.shape.clone(), right.shape.clone(), shape.clone()],
        )
    };
    let kernel_now = kernel().ok_or_else(|| node.wrong("it is not known"))?;
    let labels = match is_test {
        true => Some(Rc::from([0.0, 1.0])),
        false => possible(compiler, node, left, right),
    };
    let made = compiler.emit_one(node, &[left, right], shape.clone(), kind, kernel_now)?;
    Ok(KnownTensor { labels, ..made })
}

/// The values of a result if one side has few and the other is one constant.
fn possible(
    compiler: &GraphCompiler,
    node: &GraphNode<'_>,
    left: &KnownTensor,
    right: &KnownTensor,
) -> Option<Rc<[f64]>> {
    let single = |value: &KnownTensor| {
        compiler
            .known(value)
            .filter(|known| known.len() == 1)
            .map(|known| known[0])
    };
    let alone = [
        Shape::fixed(&[1]).ok()?,
        Shape::fixed(&[1]).ok()?,
        Shape::fixed(&[1]).ok()?,
    ];
    let kernel = pair(node.operator, left.kind, alone)?;
    let apply = |one: f64, other: f64| {
        let made = kernel(1, &[&[one], &[other]]).ok()?;
        made.first()?.first().copied()
    };
    match (&left.labels, &right.labels, single(left), single(right)) {
        (Some(labels), _, _, Some(right)) if labels.len() <= LABELS_MAX => {
            labels.iter().map(|label| apply(*label, right)).collect()
        }
        (_, Some(labels), Some(left), _) if labels.len() <= LABELS_MAX => {
            labels.iter().map(|label| apply(left, *label)).collect()
        }
        _ => None,
    }
}

/// Operators on two tensors, and Sum, Mean, Max and Min of several.
pub(super) fn binary(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let mut result = numbers(node, inputs, 0)?.clone();
    for index in 1..inputs.len() {
        result = two(compiler, node, &result, numbers(node, inputs, index)?)?;
    }
    if node.operator == "Mean" {
        let kind = result.kind;
        let count = inputs.len() as f64;
        let kernel = broadcast::unary(move |x| kind.round(x / count));
        result = compiler.emit_one(node, &[&result], result.shape.clone(), kind, kernel)?;
    }
    Ok(vec![result])
}

/// Equal, which also compares texts with constants.
pub(super) fn equal(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (left, right) = (input(node, inputs, 0)?, input(node, inputs, 1)?);
    if left.kind == Kind::Text {
        let (text, constant) = match compiler.known(right).is_some() {
            true => (left, right),
            false => (right, left),
        };
        let Some(codes) = compiler.known(constant).map(<[f64]>::to_vec) else {
            return Err(node.wrong("lanekeeper compares texts only with constants"));
        };
        compiler.use_texts(text, &codes, false);
    }
    Ok(vec![two(compiler, node, left, right)?])
}

/// Where.
pub(super) fn choose(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let condition = numbers(node, inputs, 0)?;
    let (yes, no) = (numbers(node, inputs, 1)?, numbers(node, inputs, 2)?);
    if yes.kind != no.kind {
        return Err(node.wrong("its inputs have different types"));
    }
    let shape = condition
        .shape
        .broadcast(&yes.shape)
        .and_then(|shape| shape.broadcast(&no.shape));
    let shape = shape.map_err(|reason| node.wrong(reason))?;
    let shapes = [
        condition.shape.clone(),
        yes.shape.clone(),
        no.shape.clone(),
        shape.clone(),
    ];
    Ok(vec![compiler.emit_one(
        node,
        &[condition, yes, no],
        shape,
        yes.kind,
        broadcast::select(shapes),
    )?])
}
