//! ONNX-ML's linear models and support vector machines.
//!
//! Source: the specification, and onnxruntime 1.32, `core/providers/cpu/ml/`.

use super::compiler::{GraphCompiler, KnownTensor, OperatorResult, input, table};
use super::proto::GraphNode;
use crate::models::ModelError;
use crate::models::graph::linear::Product;
use crate::models::graph::svm::{self, Classifier, Similarity, VectorMachine};
use crate::models::graph::transform::Transform;
use crate::models::graph::{Dim, Kind, Shape};

/// Numbers of 32 bits of an attribute.
pub(super) fn wide(node: &GraphNode<'_>, name: &str) -> Result<Vec<f64>, ModelError> {
    Ok(node.floats(name)?.into_iter().map(f64::from).collect())
}

/// The transform of an attribute.
pub(super) fn transform(node: &GraphNode<'_>) -> Result<Transform, ModelError> {
    let name = node.text("post_transform", "NONE")?;
    Transform::named(name)
        .ok_or_else(|| node.wrong(format!("lanekeeper lacks the transform {name}")))
}

/// The labels of a classifier, and their kind.
pub(super) fn labels(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    [ints, texts]: [&str; 2],
) -> Result<(Vec<f64>, Kind), ModelError> {
    let names = node.texts(texts)?;
    match names.is_empty() {
        false => Ok((
            names.iter().map(|name| compiler.texts.code(name)).collect(),
            Kind::Text,
        )),
        true => Ok((
            node.ints(ints)?
                .into_iter()
                .map(|label| label as f64)
                .collect(),
            Kind::I64,
        )),
    }
}

/// The outputs of a classifier: labels and scores.
pub(super) fn classified(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    value: &KnownTensor,
    (labels, kind): (Vec<f64>, Kind),
    scores: usize,
    is_share: bool,
    kernel: crate::models::graph::Kernel,
) -> OperatorResult {
    let rows = value.shape.dims()[0];
    let shapes = [
        (Shape::new(vec![rows])?, kind),
        (Shape::new(vec![rows, Dim::Fixed(scores)])?, Kind::F32),
    ];
    let mut made = compiler.emit(node, &[value], &shapes, kernel)?;
    made[0].labels = Some(labels.into());
    made[1].is_share = Some(is_share);
    Ok(made)
}

/// Weights of linear models: as many lines as there are constants.
fn product(node: &GraphNode<'_>, width: usize, outputs: usize) -> Result<Product, ModelError> {
    let weights = wide(node, "coefficients")?;
    match outputs.checked_mul(width) == Some(weights.len()) && outputs > 0 {
        true => Ok(Product {
            weights,
            width,
            outputs,
            kind: Kind::F32,
        }),
        false => Err(node.wrong(format!(
            "it must have {outputs} × {width} coefficients, but has {}",
            weights.len()
        ))),
    }
}

/// LinearClassifier.
pub(super) fn linear_classifier(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let added = wide(node, "intercepts")?;
    let product = product(node, width, added.len())?;
    let (labels, kind) = labels(compiler, node, ["classlabels_ints", "classlabels_strings"])?;
    let outputs = product.outputs;
    if labels.len() != outputs.max(2) {
        return Err(node.wrong(format!(
            "it must have a label for each of {} classes",
            outputs.max(2)
        )));
    }
    let transform = transform(node)?;
    let is_share = transform != Transform::None;
    let kernel = product.classifier(added, transform, labels.clone());
    classified(
        compiler,
        node,
        value,
        (labels, kind),
        outputs.max(2),
        is_share,
        kernel,
    )
}

/// LinearRegressor.
pub(super) fn linear_regressor(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let outputs =
        usize::try_from(node.int("targets", 1)?).map_err(|_| node.wrong("targets is below 0"))?;
    let added = wide(node, "intercepts")?;
    if !added.is_empty() && added.len() != outputs {
        return Err(node.wrong(format!("it must have {outputs} intercepts")));
    }
    let product = product(node, width, outputs)?;
    let shape = value.shape.with(1, Dim::Fixed(outputs))?;
    let transform = transform(node)?;
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        shape,
        Kind::F32,
        product.regressor(added, transform),
    )?])
}

/// The kernel of a support vector machine.
fn similarity(node: &GraphNode<'_>) -> Result<(Similarity, [f64; 3]), ModelError> {
    let similarity = match node.text("kernel_type", "LINEAR")? {
        "LINEAR" => Similarity::Linear,
        "POLY" => Similarity::Polynomial,
        "RBF" => Similarity::Radial,
        "SIGMOID" => Similarity::Sigmoid,
        other => return Err(node.wrong(format!("there is no kernel {other:?}"))),
    };
    let parameters = wide(node, "kernel_params")?;
    let at = |place: usize| parameters.get(place).copied().unwrap_or(0.0);
    Ok((similarity, [at(0), at(1), at(2)]))
}

/// SVMRegressor.
pub(super) fn svm_regressor(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let count = usize::try_from(node.int("n_supports", 0)?)
        .map_err(|_| node.wrong("n_supports is below 0"))?;
    let coefficients = wide(node, "coefficients")?;
    let rho = wide(node, "rho")?;
    let [rho] = rho[..] else {
        return Err(node.wrong("it must have one rho"));
    };
    if transform(node)? != Transform::None {
        return Err(node.wrong("lanekeeper has it without a transform"));
    }
    let is_one_class = node.int("one_class", 0)? != 0;
    let (machine, coefficients) = match count {
        0 => {
            let machine = VectorMachine {
                vectors: coefficients,
                width,
                similarity: Similarity::Linear,
                parameters: [0.0; 3],
            };
            (machine, Vec::new())
        }
        _ => {
            let (similarity, parameters) = similarity(node)?;
            (
                VectorMachine {
                    vectors: wide(node, "support_vectors")?,
                    width,
                    similarity,
                    parameters,
                },
                coefficients,
            )
        }
    };
    let fits = count.max(1).checked_mul(width) == Some(machine.vectors.len())
        && coefficients.len() == count
        && width > 0;
    if !fits {
        return Err(node.wrong(format!("its vectors and coefficients are not those of {count} support vectors of {width} columns")));
    }
    let shape = value.shape.with(1, Dim::Fixed(1))?;
    let kernel = svm::regressor(machine, coefficients, rho, is_one_class);
    Ok(vec![compiler.emit_one(
        node,
        &[value],
        shape,
        Kind::F32,
        kernel,
    )?])
}

/// SVMClassifier.
pub(super) fn svm_classifier(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let (value, width) = table(node, inputs)?;
    let (labels, kind) = labels(compiler, node, ["classlabels_ints", "classlabels_strings"])?;
    let classes = labels.len();
    let per_class: Option<Vec<usize>> = node
        .ints("vectors_per_class")?
        .iter()
        .map(|count| usize::try_from(*count).ok())
        .collect();
    let per_class = per_class.ok_or_else(|| node.wrong("vectors_per_class is below 0"))?;
    let count = per_class
        .iter()
        .try_fold(0_usize, |sum, own| sum.checked_add(*own));
    let count = count.ok_or_else(|| node.wrong("vectors_per_class is too large"))?;
    let pairs = classes * classes.saturating_sub(1) / 2;
    let (similarity, parameters) = similarity(node)?;
    let coefficients = wide(node, "coefficients")?;
    let (offsets, slopes) = (wide(node, "prob_b")?, wide(node, "prob_a")?);
    let is_linear = count == 0;
    let classifier = Classifier {
        machine: match is_linear {
            true => VectorMachine {
                vectors: coefficients.clone(),
                width,
                similarity: Similarity::Linear,
                parameters,
            },
            false => VectorMachine {
                vectors: wide(node, "support_vectors")?,
                width,
                similarity,
                parameters,
            },
        },
        coefficients: if is_linear { Vec::new() } else { coefficients },
        per_class: if is_linear { Vec::new() } else { per_class },
        rho: wide(node, "rho")?,
        slopes: slopes
            .iter()
            .zip(&offsets)
            .map(|(slope, offset)| [*slope, *offset])
            .collect(),
        transform: transform(node)?,
        labels: labels.clone(),
    };
    let vectors = if is_linear { classes } else { count };
    let fits = (2..=1024).contains(&classes)
        && width > 0
        && vectors.checked_mul(width) == Some(classifier.machine.vectors.len())
        && slopes.len() == offsets.len()
        && match is_linear {
            true => !classifier.rho.is_empty(),
            false => {
                classifier.per_class.len() == classes
                    && classifier.rho.len() >= pairs
                    && count.checked_mul(classes - 1) == Some(classifier.coefficients.len())
                    && (slopes.is_empty() || slopes.len() >= pairs)
            }
        };
    if !fits {
        return Err(node.wrong(format!("its vectors, coefficients and constants are not those of {classes} classes with {count} support vectors of {width} columns")));
    }
    let is_share = !classifier.slopes.is_empty() || classifier.transform != Transform::None;
    let scores = classifier.scores();
    let kernel = classifier.kernel();
    classified(
        compiler,
        node,
        value,
        (labels, kind),
        scores,
        is_share,
        kernel,
    )
}

/// ZipMap: each number with its label.
pub(super) fn zip_map(
    compiler: &mut GraphCompiler,
    node: &GraphNode<'_>,
    inputs: &[Option<KnownTensor>],
) -> OperatorResult {
    let value = input(node, inputs, 0)?;
    let (keys, _) = labels(
        compiler,
        node,
        ["classlabels_int64s", "classlabels_strings"],
    )?;
    match keys.len() == value.last() {
        true => Ok(vec![KnownTensor {
            keys: Some(keys.into()),
            ..value.clone()
        }]),
        false => Err(node.wrong(format!(
            "it must have a label for each of {} numbers",
            value.last()
        ))),
    }
}
