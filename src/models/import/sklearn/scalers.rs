//! Scalers and other transformers of numbers.
//!
//! Source: scikit-learn 1.3 to 1.9, `preprocessing/`, `decomposition/`.

use super::compiler::{PipelineCompiler, Table};
use super::compose::Transformed;
use super::trees::version;
use super::view::View;
use crate::models::ModelError;
use crate::models::import::python::{ArrayElement, Value};
use crate::models::pipeline::Takes;
use crate::models::pipeline::encoder::{Encoding, Lookup};
use crate::models::pipeline::step::{FUNCTIONS, Function, Norm, Operation, Step, dot};

/// What scalers take.
const WITH_MISSING: Takes = Takes {
    nan: true,
    ..Takes::FINITE
};

/// Maximum number of products of columns, and of factors in all of them.
const PRODUCTS_MAX: usize = 100_000;

/// Maximum number of factors of a product.
const DEGREE_MAX: usize = 64;

/// StandardScaler.
pub(super) fn standard(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let names = ["with_mean", "mean_", "with_std"];
    centered_and_scaled(compiler, view, table, names)
}

/// RobustScaler.
pub(super) fn robust(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let names = ["with_centering", "center_", "with_scaling"];
    centered_and_scaled(compiler, view, table, names)
}

/// Subtracts centers and divides by scales, where the flags say so.
fn centered_and_scaled(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
    [is_centered, centers, is_scaled]: [&str; 3],
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, WITH_MISSING)?;
    let width = table.columns.len();
    let mut steps = Vec::new();
    if view.flag(is_centered)? {
        let centers = view.numbers_for(centers, width)?;
        steps.push(Step::Each(Operation::Subtract, centers));
    }
    if view.flag(is_scaled)? {
        let scale = view.numbers_for("scale_", width)?;
        steps.push(divide(scale, table.is_sparse));
    }
    Ok((steps, table.computed()))
}

/// MinMaxScaler.
pub(super) fn min_max(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, WITH_MISSING)?;
    let width = table.columns.len();
    let mut steps = vec![
        Step::Each(Operation::Multiply, view.numbers_for("scale_", width)?),
        Step::Each(Operation::Add, view.numbers_for("min_", width)?),
    ];
    if view.get("clip") == Some(Value::Bool(true)) {
        let [low, high] = view.numbers("feature_range")?[..] else {
            return Err(view.wrong("feature_range", "two numbers"));
        };
        steps.push(Step::Each(Operation::AtLeast, vec![low; width]));
        steps.push(Step::Each(Operation::AtMost, vec![high; width]));
    }
    Ok((steps, table.computed()))
}

/// MaxAbsScaler.
pub(super) fn max_abs(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, WITH_MISSING)?;
    let width = table.columns.len();
    let mut steps = vec![divide(view.numbers_for("scale_", width)?, table.is_sparse)];
    if view.get("clip") == Some(Value::Bool(true)) {
        steps.push(Step::Each(Operation::AtLeast, vec![-1.0; width]));
        steps.push(Step::Each(Operation::AtMost, vec![1.0; width]));
    }
    Ok((steps, table.computed()))
}

/// Division; in a sparse matrix it is a multiplication with the reciprocal.
fn divide(scale: Vec<f64>, is_sparse: bool) -> Step {
    match is_sparse {
        true => {
            let scale = scale.into_iter().map(|scale| 1.0 / scale).collect();
            Step::Each(Operation::Multiply, scale)
        }
        false => Step::Each(Operation::Divide, scale),
    }
}

/// Normalizer.
pub(super) fn normalizer(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let norm = match view.text("norm")? {
        "l1" => Norm::L1,
        "l2" => Norm::L2,
        "max" => Norm::Max,
        _ => return Err(view.wrong("norm", "l1, l2 or max")),
    };
    Ok((vec![Step::Normalize(norm)], table.computed()))
}

/// Binarizer.
pub(super) fn binarizer(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let step = Step::Binarize(view.number("threshold")?);
    Ok((vec![step], table.computed()))
}

/// FunctionTransformer with a function of numpy's.
pub(super) fn function(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let takes = Takes {
        nan: true,
        infinite: true,
        ..Takes::FINITE
    };
    let validates = view.get("validate") == Some(Value::Bool(true));
    let Some(function) = view.get("func") else {
        if validates {
            compiler.numbers(view, &table.columns, Takes::FINITE)?;
        }
        return Ok((Vec::new(), table));
    };
    let has_arguments = view.get("kw_args").is_some_and(|arguments| {
        view.objects
            .dict(arguments)
            .is_none_or(|entries| !entries.is_empty())
    });
    let name = function_name(view, function);
    // What HistGradientBoosting has its numbers checked by, which changes none.
    if name == "sklearn.utils.validation.check_array" {
        compiler.numbers(view, &table.columns, takes)?;
        return Ok((Vec::new(), table.computed()));
    }
    let known = name.strip_prefix("numpy.").and_then(Function::named);
    let Some(known) = known.filter(|_| !has_arguments) else {
        return Err(ModelError(format!(
            "FunctionTransformer calls {name}, and lanekeeper runs nothing from a file; it knows these functions of numpy without arguments: {}",
            FUNCTIONS
                .iter()
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        )));
    };
    let takes = if validates { Takes::FINITE } else { takes };
    compiler.numbers(view, &table.columns, takes)?;
    Ok((vec![Step::Function(known)], table.computed()))
}

/// The name of a function, as numpy's functions and their like are stored.
fn function_name(view: View<'_>, function: Value) -> String {
    let objects = view.objects;
    if let Some(global) = objects.global(function) {
        let module = match global.module.as_str() {
            "numpy.core._multiarray_umath"
            | "numpy._core._multiarray_umath"
            | "numpy.core.umath"
            | "numpy._core.umath" => "numpy",
            module => module,
        };
        return format!("{module}.{}", global.name);
    }
    let arguments = objects.object(function).map(|object| object.arguments);
    let arguments = arguments.and_then(|arguments| objects.sequence(arguments));
    match (objects.class(function), arguments.unwrap_or_default()) {
        (Some(class), [module, name]) if class.name == "_ufunc_reconstruct" => format!(
            "{}.{}",
            objects
                .text(*module)
                .unwrap_or("numpy")
                .replace("numpy.core._multiarray_umath", "numpy")
                .replace("numpy._core._multiarray_umath", "numpy"),
            objects.text(*name).unwrap_or_default()
        ),
        // A function with some of its arguments fixed.
        (Some(class), [inner, ..]) if class.name == "partial" => match objects.global(*inner) {
            Some(global) => format!("{}.{}", global.module, global.name),
            None => "functools.partial".to_owned(),
        },
        (Some(class), _) => format!("{}.{}", class.module, class.name),
        (None, _) => "a function".to_owned(),
    }
}

/// KBinsDiscretizer.
pub(super) fn bins(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let edges = view.elements_of(view.need("bin_edges_")?)?;
    let mut inner = Vec::with_capacity(edges.len());
    for edges in edges {
        let ArrayElement::Value(edges) = edges else {
            return Err(view.wrong("bin_edges_", "numbers"));
        };
        let edges = view.numbers_of(edges)?;
        let last = edges.len().saturating_sub(1);
        inner.push(edges.get(1..last).unwrap_or_default().to_vec());
    }
    if inner.len() != table.columns.len() {
        return Err(view.wrong("bin_edges_", "those of each column"));
    }
    let encode = view.text("encode")?;
    let counts: Vec<usize> = inner.iter().map(|edges| edges.len() + 1).collect();
    let mut steps = vec![Step::Bins(inner)];
    if encode == "ordinal" {
        return Ok((steps, table.computed()));
    }
    let mut columns = Vec::with_capacity(counts.len());
    let mut out = Vec::new();
    for (column, count) in table.columns.iter().zip(counts) {
        let first = out.len() as u32;
        columns.push(Encoding {
            feature: column.source,
            lookup: Lookup::Codes((0..count as u32).map(Some).collect()),
            missing: None,
            targets: (0..count as u32).map(|bin| Some(first + bin)).collect(),
            unknown: Some(None),
        });
        out.extend(vec![column.computed(); count]);
    }
    steps.push(Step::OneHot {
        columns,
        width: out.len(),
    });
    let table = Table {
        columns: out,
        is_sparse: encode == "onehot",
    };
    Ok((steps, table))
}

/// PolynomialFeatures.
pub(super) fn polynomial(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let (least, most) = match view.get("_max_degree") {
        Some(_) => (view.count("_min_degree")?, view.count("_max_degree")?),
        None => (0, view.count("degree")?),
    };
    if most > DEGREE_MAX {
        return Err(view.wrong("degree", &format!("at most {DEGREE_MAX}")));
    }
    let interaction_only = view.flag("interaction_only")?;
    let bias = view.flag("include_bias")?;
    let width = table.columns.len();
    let mut products: Vec<Vec<usize>> = Vec::new();
    if bias {
        products.push(Vec::new());
    }
    let mut factors = 0;
    for degree in least.max(1)..=most {
        if interaction_only && degree > width {
            break;
        }
        let step = usize::from(interaction_only);
        let mut own: Vec<usize> = (0..degree).map(|place| place * step).collect();
        loop {
            factors += degree;
            if products.len() >= PRODUCTS_MAX || factors > 10 * PRODUCTS_MAX || width == 0 {
                return Err(ModelError(format!(
                    "PolynomialFeatures may have {PRODUCTS_MAX} outputs, but has more"
                )));
            }
            products.push(own.clone());
            if !next(&mut own, width, step) {
                break;
            }
        }
    }
    let mut out = table.mixed(products.len());
    for (column, product) in out.columns.iter_mut().zip(&products) {
        if let Some(first) = product.first() {
            column.source = table.columns[*first].source;
        }
    }
    out.is_sparse = table.is_sparse;
    Ok((vec![Step::Products(products)], out))
}

/// Takes the next combination in the order of the alphabet; false behind the last.
fn next(own: &mut [usize], width: usize, step: usize) -> bool {
    for place in (0..own.len()).rev() {
        let behind = (own.len() - 1 - place) * step;
        if own[place] + 1 + behind < width {
            own[place] += 1;
            for later in place + 1..own.len() {
                own[later] = own[later - 1] + step;
            }
            return true;
        }
    }
    false
}

/// PCA.
pub(super) fn pca(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let width = table.columns.len();
    let (mut steps, out) = projection(compiler, view, table)?;
    let Some(Step::Project {
        weights, offsets, ..
    }) = steps.first_mut()
    else {
        return Ok((steps, out));
    };
    let mut first = None;
    if view.get("mean_").is_some() && width > 0 {
        let means = view.numbers_for("mean_", width)?;
        // Older versions subtract the means first, which is finer far from 0.
        if version(view) < Some((1, 5)) {
            first = Some(Step::Each(Operation::Subtract, means));
        } else {
            for (offset, weights) in offsets.iter_mut().zip(weights.chunks_exact(width)) {
                *offset = dot(&means, weights);
            }
        }
    }
    let count = offsets.len();
    if view.flag("whiten")? {
        let variances = view.numbers_for("explained_variance_", count)?;
        let scale = variances.into_iter().map(|variance| {
            // Source: 1.5, `decomposition/_base.py`: a variance of nothing is raised.
            variance.sqrt().max(f64::EPSILON)
        });
        steps.push(Step::Each(Operation::Divide, scale.collect()));
    }
    if let Some(first) = first {
        steps.insert(0, first);
    }
    Ok((steps, out))
}

/// TruncatedSVD.
pub(super) fn projection(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    compiler.numbers(view, &table.columns, Takes::FINITE)?;
    let width = table.columns.len();
    let weights = view.numbers("components_")?;
    if width == 0 || !weights.len().is_multiple_of(width) {
        return Err(view.wrong("components_", "weights of each column"));
    }
    let count = weights.len() / width;
    let step = Step::Project {
        width,
        weights,
        offsets: vec![0.0; count],
    };
    Ok((vec![step], table.mixed(count)))
}
