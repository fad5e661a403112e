//! The labels of a classifier.

use super::view::View;
use crate::models::import::python::{ArrayElement, Value};
use crate::models::{ModelError, OutputSpec};

/// A label as clients see it. Whole numbers that are stored as floats are whole.
pub(super) fn label(element: &ArrayElement<'_>) -> Option<String> {
    Some(match element {
        ArrayElement::Text(text) => text.clone().into_owned(),
        ArrayElement::Value(Value::Bool(true)) => "True".to_owned(),
        ArrayElement::Value(Value::Bool(false)) => "False".to_owned(),
        ArrayElement::Value(Value::Int(number)) => number.to_string(),
        ArrayElement::Value(Value::Float(number))
            if number.fract() == 0.0 && number.abs() < 1e15 =>
        {
            format!("{number:.0}")
        }
        ArrayElement::Value(Value::Float(number)) => number.to_string(),
        _ => return None,
    })
}

/// The classes of a classifier, from its attribute `classes_` or another.
///
/// # Errors
///
/// They are not a list of different texts, numbers or truth values.
pub(super) fn classes(view: View<'_>, name: &str) -> Result<OutputSpec, ModelError> {
    let value = view.need(name)?;
    // Several outputs have a list of arrays.
    let is_nested = view.objects.sequence(value).is_some_and(|all| {
        all.iter().any(|one| {
            !matches!(
                one,
                Value::Text(_) | Value::Int(_) | Value::Float(_) | Value::Bool(_)
            )
        })
    });
    if is_nested {
        return Err(ModelError(format!(
            "{} answers several questions at once, and lanekeeper serves classifiers with one; train one for each",
            view.name()
        )));
    }
    let elements = view.elements_of(value)?;
    let labels: Option<Vec<String>> = elements.iter().map(label).collect();
    let labels = labels.ok_or_else(|| view.wrong(name, "texts, numbers or truth values"))?;
    if labels.is_empty() {
        return Err(view.wrong(name, "at least one class"));
    }
    let mut sorted = labels.clone();
    sorted.sort();
    sorted.dedup();
    if sorted.len() != labels.len() {
        return Err(view.wrong(name, "different classes"));
    }
    Ok(OutputSpec::Classes {
        labels,
        has_probabilities: true,
    })
}
