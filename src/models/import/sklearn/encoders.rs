//! Encoders and imputers: categories as numbers, and values for missing ones.
//!
//! Source: scikit-learn 1.3 to 1.9, `preprocessing/_encoders.py`, `impute/_base.py`.

use super::compiler::{COLUMNS_MAX, PipelineColumn, PipelineCompiler, Table};
use super::compose::Transformed;
use super::view::View;
use crate::models::ModelError;
use crate::models::import::python::{ArrayElement, Value, number};
use crate::models::pipeline::Takes;
use crate::models::pipeline::encoder::{Encoding, Lookup};
use crate::models::pipeline::step::{Imputation, Step};

/// What encoders and imputers take.
const WITH_MISSING: Takes = Takes {
    nan: true,
    ..Takes::FINITE
};

/// The categories of a column, as an encoder has them.
struct EncoderCategories {
    lookup: Lookup,
    /// The category of a missing value.
    missing: Option<u32>,
    /// Whether that one is NaN and not None.
    missing_is_nan: bool,
    count: usize,
}

/// Reads the categories of a column and says whether it is text or a number.
fn categories(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    value: Value,
    column: &PipelineColumn,
) -> Result<EncoderCategories, ModelError> {
    let elements = view.elements_of(value)?;
    let count = elements.len();
    let (mut missing, mut missing_is_nan) = (None, false);
    let mut texts = Vec::new();
    let mut numbers = Vec::new();
    for (index, element) in elements.into_iter().enumerate() {
        match element {
            ArrayElement::Text(text) => texts.push((text.into_owned(), index as u32)),
            ArrayElement::Value(value) => match number(value) {
                // NaN, if there is one, stands behind None.
                Some(number) if number.is_nan() => {
                    missing = Some(index as u32);
                    missing_is_nan = value != Value::None;
                }
                Some(number) => numbers.push((number, index as u32)),
                None => {
                    return Err(view.wrong("categories_", "texts, numbers or truth values"));
                }
            },
        }
    }
    let is_text = match (texts.is_empty(), numbers.is_empty()) {
        (false, false) => {
            return Err(ModelError(format!(
                "{} has a column with texts and numbers as categories; make all of them texts",
                view.name()
            )));
        }
        (false, true) => true,
        (true, false) => false,
        // Nothing but missing values.
        (true, true) => column.is_text(),
    };
    let lookup = match is_text {
        true => codes(compiler, column, texts)?,
        false => {
            compiler.numbers(view, std::slice::from_ref(column), WITH_MISSING)?;
            numbers.sort_by(|(one, _), (other, _)| one.total_cmp(other));
            Lookup::Numbers(numbers)
        }
    };
    Ok(EncoderCategories {
        lookup,
        missing,
        missing_is_nan,
        count,
    })
}

/// Finds the categories of a feature's labels, which become labels if they are not.
fn codes(
    compiler: &mut PipelineCompiler,
    column: &PipelineColumn,
    texts: Vec<(String, u32)>,
) -> Result<Lookup, ModelError> {
    let feature = compiler.text(column)?;
    let mut categories = Vec::new();
    for (label, category) in texts {
        let code = compiler.code(feature, &label);
        if categories.len() <= code {
            categories.resize(code + 1, None);
        }
        if categories[code].replace(category).is_some() {
            return Err("an encoder has the same category twice".into());
        }
    }
    Ok(Lookup::Codes(categories))
}

/// Says what an encoder refuses.
fn restrict<T>(
    compiler: &mut PipelineCompiler,
    column: &PipelineColumn,
    encoding: &Encoding<T>,
) -> Result<(), ModelError> {
    let takes = Takes {
        nan: encoding.missing.is_some() || encoding.unknown.is_some(),
        ..Takes::FINITE
    };
    compiler.restrict(column, takes);
    if encoding.unknown.is_none() && matches!(encoding.lookup, Lookup::Codes(_)) {
        let feature = compiler.text(column)?;
        compiler.refuse_unseen(feature);
    }
    Ok(())
}

/// For each category the one that it counts as, if rare ones are put together.
fn groups(
    view: View<'_>,
    column: usize,
    count: usize,
) -> Result<(Vec<usize>, Option<usize>), ModelError> {
    let each = || (0..count).collect();
    if view.get("_infrequent_enabled") != Some(Value::Bool(true)) {
        return Ok((each(), None));
    }
    let mappings = view.list("_default_to_infrequent_mappings")?;
    match mappings.get(column) {
        None | Some(Value::None) => Ok((each(), None)),
        Some(mapping) => {
            let mapping = view.numbers_of(*mapping)?;
            let mapping: Vec<usize> = mapping.into_iter().map(|group| group as usize).collect();
            // Rare ones are the last group.
            let rare = mapping.iter().copied().max();
            let is_whole = mapping.len() == count || mapping.len() + 1 == count;
            match is_whole && mapping.iter().all(|group| *group < count) {
                true => Ok((mapping, rare)),
                false => Err(view.wrong("_default_to_infrequent_mappings", "of all categories")),
            }
        }
    }
}

/// OneHotEncoder.
pub(super) fn one_hot(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let lists = view.list("categories_")?;
    if lists.len() != table.columns.len() {
        return Err(view.wrong("categories_", "a list for each column"));
    }
    let unknown = view.text("handle_unknown")?;
    let dropped = match view.get("_drop_idx_after_grouping") {
        Some(value) => view.elements_of(value)?,
        None => Vec::new(),
    };
    let mut columns = Vec::with_capacity(lists.len());
    let mut out = Vec::new();
    for (place, (column, list)) in table.columns.iter().zip(lists).enumerate() {
        let categories = categories(compiler, view, *list, column)?;
        let (groups, rare) = groups(view, place, categories.count)?;
        let group_count = groups.iter().max().map_or(0, |last| last + 1);
        let dropped = match dropped.get(place) {
            None | Some(ArrayElement::Value(Value::None)) => None,
            Some(ArrayElement::Value(value)) => number(*value).map(|group| group as usize),
            Some(ArrayElement::Text(_)) => return Err(view.wrong("drop_idx_", "whole numbers")),
        };
        let first = out.len();
        let target = |group: usize| match dropped {
            Some(dropped) if dropped == group => None,
            Some(dropped) if group > dropped => Some((first + group - 1) as u32),
            _ => Some((first + group) as u32),
        };
        let width = group_count - usize::from(dropped.is_some_and(|one| one < group_count));
        out.extend(vec![column.computed().filled(); width]);
        if out.len() > COLUMNS_MAX {
            return Err(view.wrong("categories_", "fewer"));
        }
        let encoding = Encoding {
            feature: column.source,
            lookup: categories.lookup,
            missing: categories.missing,
            targets: groups.iter().map(|group| target(*group)).collect(),
            unknown: match unknown {
                "error" => None,
                "infrequent_if_exist" | "warn" => Some(rare.and_then(target)),
                "ignore" => Some(None),
                _ => return Err(view.wrong("handle_unknown", "one of scikit-learn's")),
            },
        };
        restrict(compiler, column, &encoding)?;
        columns.push(encoding);
    }
    let is_sparse = view.get("sparse_output").or(view.get("sparse")) == Some(Value::Bool(true));
    let step = Step::OneHot {
        columns,
        width: out.len(),
    };
    let table = Table {
        columns: out,
        is_sparse,
    };
    Ok((vec![step], table))
}

/// OrdinalEncoder.
pub(super) fn ordinal(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let lists = view.list("categories_")?;
    if lists.len() != table.columns.len() {
        return Err(view.wrong("categories_", "a list for each column"));
    }
    let unknown = match view.text("handle_unknown")? {
        "error" => None,
        "use_encoded_value" => Some(view.number("unknown_value")?),
        _ => return Err(view.wrong("handle_unknown", "one of scikit-learn's")),
    };
    // It is NaN by default.
    let missing_value = view.number("encoded_missing_value").unwrap_or(f64::NAN);
    let mut columns = Vec::with_capacity(lists.len());
    let mut out = Vec::with_capacity(lists.len());
    for (place, (column, list)) in table.columns.iter().zip(lists).enumerate() {
        let categories = categories(compiler, view, *list, column)?;
        let (groups, _) = groups(view, place, categories.count)?;
        let mut targets: Vec<f64> = groups.iter().map(|group| *group as f64).collect();
        targets.resize(categories.count, missing_value);
        // None is a category as any other.
        if let Some(missing) = categories.missing.filter(|_| categories.missing_is_nan) {
            targets[missing as usize] = missing_value;
        }
        let may_be_nan = targets.iter().chain(&unknown).any(|target| target.is_nan());
        let encoding = Encoding {
            feature: column.source,
            lookup: categories.lookup,
            missing: categories.missing,
            targets,
            unknown,
        };
        restrict(compiler, column, &encoding)?;
        columns.push(encoding);
        let column = column.computed();
        out.push(match may_be_nan {
            true => column,
            false => column.filled(),
        });
    }
    let table = Table {
        columns: out,
        is_sparse: false,
    };
    Ok((vec![Step::Ordinal(columns)], table))
}

/// SimpleImputer.
pub(super) fn imputer(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    let statistics = view.elements_of(view.need("statistics_")?)?;
    if statistics.len() != table.columns.len() {
        return Err(view.wrong("statistics_", "a value for each column"));
    }
    // In older versions a constant keeps columns without values too.
    let keeps_empty = view.get("keep_empty_features") == Some(Value::Bool(true));
    let missing = view.objects.attribute(view.value, "missing_values");
    let flagged = indicator(view)?;
    let mut filled = Vec::new();
    let mut out = Vec::new();
    let mut own_missing = None;
    for (place, (column, statistic)) in table.columns.iter().zip(statistics).enumerate() {
        let (fill, kept) = match statistic {
            ArrayElement::Text(fill) => {
                let feature = compiler.text(column)?;
                let code = compiler.code(feature, &fill) as f64;
                let missing = missing_code(compiler, view, missing, Some(feature))?;
                set_missing(&mut own_missing, missing)?;
                (code, column.as_text(feature))
            }
            ArrayElement::Value(value) => {
                let fill =
                    number(value).ok_or_else(|| view.wrong("statistics_", "texts or numbers"))?;
                set_missing(
                    &mut own_missing,
                    missing_code(compiler, view, missing, None)?,
                )?;
                if fill.is_nan() && !keeps_empty {
                    continue;
                }
                if column.is_text() {
                    return Err(view.wrong("statistics_", "texts for columns of text"));
                }
                compiler.numbers(view, std::slice::from_ref(column), WITH_MISSING)?;
                (fill, column.computed())
            }
        };
        filled.push((place, fill));
        let is_nan = own_missing.is_some_and(f64::is_nan);
        if !is_nan {
            // Only its own value is missing, and scikit-learn refuses NaN.
            compiler.restrict(column, Takes::FINITE);
        }
        out.push(if fill.is_nan() { kept } else { kept.filled() });
    }
    for place in &flagged {
        let column = table.columns.get(*place);
        let column = column.ok_or_else(|| view.wrong("indicator_", "of its columns"))?;
        out.push(column.computed().filled());
    }
    let step = Step::Impute(Imputation {
        missing: own_missing.unwrap_or(f64::NAN),
        filled,
        flagged,
    });
    let table = Table {
        columns: out,
        is_sparse: table.is_sparse,
    };
    Ok((vec![step], table))
}

/// MissingIndicator.
pub(super) fn missing_indicator(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    table: Table,
) -> Result<Transformed, ModelError> {
    if view.text("features")? == "missing-only" && view.flag("error_on_new")? {
        compiler.notes.push(
            "MissingIndicator refuses missing values in columns that had none in training; lanekeeper takes them".to_owned(),
        );
    }
    let missing = view.objects.attribute(view.value, "missing_values");
    let flagged = places(view, "features_")?;
    let columns = table.choose(&flagged)?.columns;
    for column in &columns {
        if !column.is_text() {
            compiler.numbers(view, std::slice::from_ref(column), WITH_MISSING)?;
        }
    }
    let step = Step::Impute(Imputation {
        missing: missing_code(compiler, view, missing, None)?,
        filled: Vec::new(),
        flagged,
    });
    let table = Table {
        columns: columns
            .iter()
            .map(|column| column.computed().filled())
            .collect(),
        is_sparse: false,
    };
    Ok((vec![step], table))
}

/// The columns for which an imputer appends a flag.
fn indicator(view: View<'_>) -> Result<Vec<usize>, ModelError> {
    match view.get("indicator_") {
        Some(_) if view.get("add_indicator") == Some(Value::Bool(true)) => {
            places(view.child("indicator_")?, "features_")
        }
        _ => Ok(Vec::new()),
    }
}

fn places(view: View<'_>, name: &str) -> Result<Vec<usize>, ModelError> {
    let numbers = view.numbers(name)?.into_iter();
    Ok(numbers.map(|place| place as usize).collect())
}

/// How the value that counts as missing looks in a column: its code, if it is a label.
fn missing_code(
    compiler: &mut PipelineCompiler,
    view: View<'_>,
    missing: Option<Value>,
    feature: Option<usize>,
) -> Result<f64, ModelError> {
    let missing = missing.unwrap_or(Value::Float(f64::NAN));
    match (view.objects.text(missing), feature) {
        (Some(label), Some(feature)) => Ok(compiler.code(feature, label) as f64),
        // pandas.NA is an object.
        (None, _) => Ok(number(missing).unwrap_or(f64::NAN)),
        (Some(_), None) => Err(view.wrong("missing_values", "a number for columns of numbers")),
    }
}

/// One step has one value that counts as missing.
fn set_missing(own: &mut Option<f64>, missing: f64) -> Result<(), ModelError> {
    let is_same = |own: &f64| *own == missing || (own.is_nan() && missing.is_nan());
    match own {
        Some(own) if !is_same(own) => {
            Err("an imputer of texts with a text as missing_values must be given one column".into())
        }
        _ => {
            *own = Some(missing);
            Ok(())
        }
    }
}
