//! Pipelines, unions and searches: estimators that hold others.

use super::compiler::{Last, PipelineCompiler, Table};
use super::table::{self, Role, WantedEstimator};
use super::view::View;
use crate::models::import::python::{Global, Value};
use crate::models::pipeline::step::{Branch, Operation, Step};
use crate::models::{FeatureKind, ModelError};

/// Steps, and the columns that come out of them.
pub(super) type Transformed = (Vec<Step>, Table);

/// What a place of a pipeline holds.
enum PlaceContent<'a> {
    /// Columns stay as they are.
    Passthrough,
    /// Columns are left out.
    Drop,
    Estimator(View<'a>),
}

/// What stands at a place; `None` counts as "passthrough".
fn place<'a>(view: View<'a>, value: Value) -> Result<PlaceContent<'a>, ModelError> {
    Ok(match (value, view.objects.text(value)) {
        (Value::None, _) | (_, Some("passthrough")) => PlaceContent::Passthrough,
        (_, Some("drop")) => PlaceContent::Drop,
        _ => PlaceContent::Estimator(view.at(value)?),
    })
}

/// Reads a transformer.
///
/// # Errors
///
/// It is none that is known, or not sound.
pub(super) fn transform(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let known = table::find(view, WantedEstimator::Transformer)?;
    compiler.be_no_more_exact_than(known.exactness);
    table.check_width(view)?;
    view.spend(table.cost())?;
    match known.role {
        Role::Transformer(read) => read(compiler, view, table),
        Role::Predictor(_) => Err(ModelError(format!(
            "{} stands where columns are transformed, but it predicts",
            view.name()
        ))),
    }
}

/// Reads what predicts.
///
/// # Errors
///
/// It is none that is known, or not sound.
pub(super) fn predict(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let known = table::find(view, WantedEstimator::Predictor)?;
    compiler.be_no_more_exact_than(known.exactness);
    table.check_width(view)?;
    view.spend(table.cost())?;
    match known.role {
        Role::Predictor(read) => read(compiler, view, table),
        Role::Transformer(_) => Err(ModelError(format!(
            "it ends in {}, which transforms and does not predict",
            view.name()
        ))),
    }
}

/// The steps of a pipeline, without their names.
fn steps(view: View<'_>) -> Result<Vec<Value>, ModelError> {
    let step = |step: &Value| match view.objects.sequence(*step) {
        Some([_, estimator]) => Ok(*estimator),
        _ => Err(view.wrong("steps", "pairs of a name and an estimator")),
    };
    view.list("steps")?.iter().map(step).collect()
}

/// Takes a table through all steps but a last one that predicts.
fn through<'a>(
    compiler: &mut PipelineCompiler,
    view: View<'a>,
    mut table: Table,
    steps: &[Value],
) -> Result<Transformed, ModelError> {
    let mut all = Vec::new();
    for step in steps {
        let PlaceContent::Estimator(step) = place(view, *step)? else {
            continue;
        };
        // Samplers work in training alone.
        let is_sampler =
            |class: &Global| class.module.starts_with("imblearn.") && class.name != "Pipeline";
        if step.class().is_some_and(is_sampler) {
            compiler.notes.push(format!(
                "{} changes rows in training alone and is skipped",
                step.name()
            ));
            continue;
        }
        let (own, next) = transform(compiler, step, table)?;
        all.extend(own);
        table = next;
    }
    Ok((all, table))
}

/// A pipeline that ends in a predictor.
pub(super) fn pipeline(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    let steps = steps(view)?;
    let Some((last, before)) = steps.split_last() else {
        return Err("its pipeline has no steps".into());
    };
    let (mut steps, table) = through(compiler, view, table, before)?;
    let PlaceContent::Estimator(last) = place(view, *last)? else {
        return Err("its pipeline does not end in an estimator that predicts".into());
    };
    let mut last = predict(compiler, last, table)?;
    if !steps.is_empty()
        && let Some(features) = last.features.take()
        && let Some(feature) = features.iter().find(|one| one.kind != FeatureKind::Number)
    {
        return Err(ModelError(format!(
            "its last step takes categories in {:?} behind other steps, which lanekeeper does not serve",
            feature.name
        )));
    }
    steps.extend(last.steps);
    Ok(Last { steps, ..last })
}

/// A pipeline that transforms.
pub(super) fn pipeline_of_transformers(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    through(compiler, view, table, &steps(view)?)
}

/// A search: its best estimator.
pub(super) fn search(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Last, ModelError> {
    predict(compiler, view.child("best_estimator_")?, table)
}

/// Pipelines side by side, each on columns of its own.
pub(super) fn column_transformer(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let indices = view.need("_transformer_to_input_indices")?;
    let mut union = Union::new(view);
    for entry in view.list("transformers_")? {
        let Some([name, transformer, _]) = view.objects.sequence(*entry) else {
            return Err(view.wrong("transformers_", "a name, a transformer and columns each"));
        };
        let name = view.objects.text(*name).unwrap_or_default();
        let columns = match view.objects.entry(indices, name) {
            Some(columns) => view.numbers_of(columns)?,
            None => {
                return Err(ModelError(format!(
                    "it does not say the columns of {name:?}"
                )));
            }
        };
        let columns: Vec<usize> = columns.into_iter().map(|column| column as usize).collect();
        if columns.is_empty() {
            continue;
        }
        let chosen = table.choose(&columns)?;
        union.add(compiler, (name, *transformer), columns, chosen)?;
    }
    let is_sparse = view.get("sparse_output_") == Some(Value::Bool(true));
    union.finish(Some(is_sparse))
}

/// Pipelines side by side, each on all columns.
pub(super) fn feature_union(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let mut union = Union::new(view);
    for entry in view.list("transformer_list")? {
        let Some([name, transformer]) = view.objects.sequence(*entry) else {
            return Err(view.wrong("transformer_list", "pairs of a name and a transformer"));
        };
        let name = view.objects.text(*name).unwrap_or_default();
        let all = (0..table.columns.len()).collect();
        union.add(compiler, (name, *transformer), all, table.clone())?;
    }
    union.finish(None)
}

/// How many numbers a column of a branch counts as: it is copied with what is known of it.
const COLUMN_NUMBERS: usize = 8;

/// Branches that are put side by side.
struct Union<'a> {
    view: View<'a>,
    branches: Vec<Branch>,
    table: Table,
}

impl<'a> Union<'a> {
    fn new(view: View<'a>) -> Self {
        Union {
            view,
            branches: Vec::new(),
            table: Table {
                columns: Vec::new(),
                is_sparse: false,
            },
        }
    }

    fn add(
        &mut self,
        compiler: &mut PipelineCompiler,
        (name, transformer): (&str, Value),
        columns: Vec<usize>,
        chosen: Table,
    ) -> Result<(), ModelError> {
        self.view.spend(COLUMN_NUMBERS * columns.len())?;
        let (mut steps, table) = match place(self.view, transformer)? {
            PlaceContent::Drop => return Ok(()),
            PlaceContent::Passthrough => (Vec::new(), chosen),
            PlaceContent::Estimator(estimator) => transform(compiler, estimator, chosen)?,
        };
        let weights = self.view.get("transformer_weights");
        let weight = weights.and_then(|weights| self.view.objects.entry(weights, name));
        if let Some(weight) = weight {
            let weight = self.view.numbers_of(weight)?;
            let weight = weight.first().copied().unwrap_or(1.0);
            steps.push(Step::Each(
                Operation::Multiply,
                vec![weight; table.columns.len()],
            ));
        }
        self.branches.push(Branch { columns, steps });
        self.table.is_sparse |= table.is_sparse;
        self.table.columns.extend(table.columns);
        self.table.check_width_max(self.view)
    }

    fn finish(mut self, is_sparse: Option<bool>) -> Result<Transformed, ModelError> {
        if let Some(is_sparse) = is_sparse {
            self.table.is_sparse = is_sparse;
        }
        self.table.check_width_max(self.view)?;
        Ok((vec![Step::Parallel(self.branches)], self.table))
    }
}

/// For each column that comes out of steps a feature that it comes from, for errors.
pub(super) fn sources(steps: &[Step], width: usize) -> Vec<usize> {
    let mut sources: Vec<usize> = (0..width).collect();
    for step in steps {
        sources = sources_behind(step, &sources);
    }
    sources
}

fn sources_behind(step: &Step, before: &[usize]) -> Vec<usize> {
    let at = |column: usize| before.get(column).copied().unwrap_or(0);
    match step {
        Step::Choose(columns) => columns.iter().map(|column| at(*column)).collect(),
        Step::Impute(imputation) => {
            let filled = imputation.filled.iter().map(|(column, _)| *column);
            filled
                .chain(imputation.flagged.iter().copied())
                .map(at)
                .collect()
        }
        Step::OneHot { columns, width } => {
            let mut sources = vec![0; *width];
            for column in columns {
                for place in column.targets.iter().flatten() {
                    sources[*place as usize] = column.feature;
                }
            }
            sources
        }
        Step::Products(products) => {
            let first = |product: &Vec<usize>| at(product.first().copied().unwrap_or(0));
            products.iter().map(first).collect()
        }
        Step::Project { offsets, .. } => vec![at(0); offsets.len()],
        Step::Parallel(branches) => branches
            .iter()
            .flat_map(|branch| {
                let own: Vec<usize> = branch.columns.iter().map(|column| at(*column)).collect();
                branch
                    .steps
                    .iter()
                    .fold(own, |sources, step| sources_behind(step, &sources))
            })
            .collect(),
        _ => before.to_vec(),
    }
}
