//! HistGradientBoosting.
//!
//! Source: scikit-learn 1.3 to 1.9, `ensemble/_hist_gradient_boosting/`.

use super::classes::classes;
use super::compiler::{Last, PipelineCompiler, Table};
use super::compose;
use super::trees::{forest_model, width_of};
use super::view::View;
use crate::models::forest::link::Link;
use crate::models::forest::model::SumMeaning;
use crate::models::forest::{CategoryRule, Forest, Missing, Node, NodeKind, Precision, Test, Tree};
use crate::models::import::python::{Array, Value};
use crate::models::pipeline::Takes;
use crate::models::pipeline::encoder::{Encoding, Lookup};
use crate::models::pipeline::step::{Branch, Step};
use crate::models::{ModelError, OutputSpec};

/// Words of a set of categories.
const SET_WORDS: usize = 8;

/// HistGradientBoostingClassifier and HistGradientBoostingRegressor.
pub(super) fn hist_gradient_boosting(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let takes = Takes {
        nan: true,
        infinite: true,
        ..Takes::FINITE
    };
    let (steps, table) = match view.get("_preprocessor") {
        // Since 1.4: categories become codes, and stand first.
        Some(_) => compose::transform(compiler, view.child("_preprocessor")?, table)?,
        None => (known_categories(view, &table)?, table),
    };
    compiler.numbers(view, &table.columns, takes)?;
    let output = match view.name().ends_with("Classifier") {
        true => Some(classes(view, "classes_")?),
        false => None,
    };
    let base = view.numbers("_baseline_prediction")?;
    let outputs = base.len();
    let mut trees = Vec::new();
    for iteration in view.list("_predictors")? {
        let iteration = view.objects.sequence(*iteration).unwrap_or_default();
        if iteration.len() != outputs {
            return Err(view.wrong("_predictors", "a tree for each output"));
        }
        for (output, predictor) in iteration.iter().enumerate() {
            let own = tree(view.at(*predictor)?, output)
                .map_err(|reason| ModelError(format!("tree {}: {reason}", trees.len())))?;
            trees.push(own);
        }
    }
    let forest = Forest {
        width: width_of(view, &table)?,
        outputs,
        row_precision: Precision::F64,
        sum_precision: Precision::F64,
        flushes_to_zero: false,
        base,
        trees,
    };
    let loss = view.text("loss")?;
    let (link, meaning) = match (&output, loss) {
        (None, "squared_error" | "absolute_error" | "quantile") => {
            (Link::Identity, SumMeaning::Numbers)
        }
        (None, "poisson" | "gamma") => (Link::Exponential, SumMeaning::Numbers),
        (Some(_), "log_loss") if outputs == 1 => {
            (Link::Logistic { scale: 1.0 }, SumMeaning::SecondClass)
        }
        (Some(_), "log_loss") => (Link::Softmax, SumMeaning::Classes),
        _ => return Err(view.wrong("loss", "one of scikit-learn's own")),
    };
    let has_raw = output.is_some();
    let output = output.unwrap_or(OutputSpec::Numbers { width: 1 });
    if has_raw && output.labels().len() != outputs.max(2) {
        return Err(view.wrong("classes_", "as many as there are sums"));
    }
    Ok(Last {
        steps,
        model: forest_model(&forest, 1.0, link, meaning, output)?,
        takes,
        has_raw,
        answer: None,
        features: None,
    })
}

/// Before 1.4 categories are whole numbers of the client's. Those that training has not seen count as
/// missing.
fn known_categories(view: View<'_>, table: &Table) -> Result<Vec<Step>, ModelError> {
    if view.get("is_categorical_").is_none() {
        return Ok(Vec::new());
    }
    let is_category = view.numbers_for("is_categorical_", table.columns.len())?;
    let bins = view.child("_bin_mapper")?;
    let known = bins.list("bin_thresholds_")?;
    let mut branches = Vec::new();
    for (place, column) in table.columns.iter().enumerate() {
        let mut steps = Vec::new();
        if is_category[place] != 0.0 {
            let known = known.get(place);
            let known =
                known.ok_or_else(|| bins.wrong("bin_thresholds_", "those of all columns"))?;
            let known = view.numbers_of(*known)?;
            let mut codes = vec![None; 256];
            for (index, category) in known.iter().enumerate() {
                let code = codes.get_mut(*category as usize);
                *code.ok_or_else(|| bins.wrong("bin_thresholds_", "below 256"))? =
                    Some(index as u32);
            }
            steps.push(Step::Ordinal(vec![Encoding {
                feature: column.source,
                lookup: Lookup::Truncated(codes),
                missing: None,
                targets: known,
                unknown: Some(f64::NAN),
            }]));
        }
        branches.push(Branch {
            columns: vec![place],
            steps,
        });
    }
    Ok(vec![Step::Parallel(branches)])
}

/// Reads a tree. The values of its nodes are those of its leaves.
fn tree(view: View<'_>, output: usize) -> Result<Tree, ModelError> {
    let nodes = view.array("nodes")?;
    let field = |name: &str| field(view, nodes, name);
    let (feature, threshold) = (field("feature_idx")?, field("num_threshold")?);
    let (left, right) = (field("left")?, field("right")?);
    let (is_leaf, missing_left) = (field("is_leaf")?, field("missing_go_to_left")?);
    let (is_category, set) = (field("is_categorical")?, field("bitset_idx")?);
    let cover = field("count")?;
    let sets = match view.objects.attribute(view.value, "raw_left_cat_bitsets") {
        None | Some(Value::None) => Vec::new(),
        Some(value) => view.numbers_of(value)?,
    };
    let node = |node: usize| {
        let test = match is_category[node] != 0.0 {
            false => Test::AtMost(threshold[node]),
            // Only codes of known categories, and missing values, come here.
            true => Test::InSet {
                set: set[node] as usize,
                rule: CategoryRule::LightGbm,
            },
        };
        Node {
            cover: cover[node] as f32,
            kind: match is_leaf[node] != 0.0 {
                true => NodeKind::Leaf(node),
                false => NodeKind::Split {
                    feature: feature[node] as usize,
                    test,
                    missing: Missing::Nan,
                    default_left: missing_left[node] != 0.0,
                    left: left[node] as usize,
                    right: right[node] as usize,
                },
            },
        }
    };
    let words = |set: &[f64]| set.iter().map(|word| *word as u32).collect();
    Ok(Tree {
        output,
        nodes: (0..left.len()).map(node).collect(),
        values: field("value")?,
        leaf_width: 1,
        sets: sets.chunks(SET_WORDS).map(words).collect(),
        ..Tree::default()
    })
}

fn field(view: View<'_>, nodes: &Array, name: &str) -> Result<Vec<f64>, ModelError> {
    let field = view.objects.field(nodes, name);
    field.ok_or_else(|| ModelError(format!("its nodes must have {name}")))
}
