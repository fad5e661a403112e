//! The form that sends a prediction: a field for each feature, filled with the model's own row.

use maud::{Markup, html};

use crate::models::forest::Precision;
use crate::models::moments;
use crate::models::slot::ModelVersion;
use crate::models::{Feature, FeatureKind, ShortNumber};

/// The most fields, the most labels in a list, and the largest form in bytes; a larger model gets one
/// field of JSON.
const FIELDS_MAX: usize = 60;
const LABELS_MAX: usize = 100;
const FORM_BYTES_MAX: usize = 20 * 1024;

/// Renders the form of a model.
pub(super) fn render(version: &ModelVersion) -> Markup {
    let features = &version.model().signature().features;
    let row = version.loaded.example();
    let number = match version.model().precision() {
        Precision::F32 => "FP32",
        Precision::F64 => "FP64",
    };
    let is_small = features.len() <= FIELDS_MAX && features.iter().all(has_few_labels);
    let fields = is_small.then(|| {
        html! {
            @for (place, (feature, value)) in features.iter().zip(&row).enumerate() {
                (field(place, feature, *value, number))
            }
        }
    });
    let fields = fields.filter(|fields| fields.0.len() <= FORM_BYTES_MAX);
    let has_one_tensor = !features.iter().any(|feature| feature.kind.takes_text());
    html! {
        section aria-labelledby="try" {
            h2 #try { "Try it" }
            form #form .card data-model=(version.name()) data-generation=(version.number)
                data-number=(number) data-one-tensor[has_one_tensor] {
                @if let Some(fields) = fields {
                    div .fields { (fields) }
                } @else {
                    (json_field(version, &row))
                }
                p { button type="submit" { "Predict" } " " span #timing role="status" {} }
            }
            div #result .grid hidden {
                (output("answer", "Answer"))
                (output("curl", "curl"))
                (output("v2", "Open Inference Protocol (V2)"))
                (output("python", "Python"))
            }
        }
    }
}

fn has_few_labels(feature: &Feature) -> bool {
    match &feature.kind {
        FeatureKind::Category { labels, .. } => labels.len() <= LABELS_MAX,
        _ => true,
    }
}

/// A text to be read or copied.
fn output(id: &str, title: &str) -> Markup {
    html! {
        div .card {
            h3 { (title) " " button .copy type="button" data-copies=(id) { "Copy" span .hidden { " " (title) } } }
            pre id=(id) tabindex="0" {}
        }
    }
}

/// The whole row, for a model of many features.
fn json_field(version: &ModelVersion, row: &[f64]) -> Markup {
    let signature = version.model().signature();
    let text = signature.json_row(row);
    let text = if text.len() <= FORM_BYTES_MAX {
        text
    } else {
        String::new()
    };
    html! {
        label for="row" { "One row of " (signature.width()) " values, as a JSON array or as an object by names" }
        textarea #row rows="6" spellcheck="false" required { (text) }
        @if text.is_empty() {
            p .note { "The model's own row is too long for this page; /openapi.json names the features." }
        }
    }
}

fn field(place: usize, feature: &Feature, value: f64, number: &str) -> Markup {
    let id = format!("field-{place}");
    let hint = hint(feature);
    let hint_id = format!("hint-{place}");
    let described = (!hint.is_empty()).then_some(&hint_id);
    let datatype = match feature.kind {
        FeatureKind::Number | FeatureKind::WholeNumber => number,
        FeatureKind::YesNo => "BOOL",
        FeatureKind::Moment(_) | FeatureKind::Category { .. } => "BYTES",
    };
    // Empty where the row lacks it.
    let is_missing = value.is_nan();
    let input = match &feature.kind {
        FeatureKind::Category { labels, .. } if !labels.is_empty() => {
            let chosen = labels.get(value as usize).filter(|_| !is_missing);
            let all: Vec<&str> = labels.iter().map(String::as_str).collect();
            let chosen = chosen.map(String::as_str);
            select(&id, feature, &all, chosen, (datatype, described))
        }
        FeatureKind::YesNo => {
            let chosen = (!is_missing).then_some(if value != 0.0 { "true" } else { "false" });
            select(
                &id,
                feature,
                &["true", "false"],
                chosen,
                (datatype, described),
            )
        }
        kind => {
            let text = match kind {
                _ if is_missing => String::new(),
                FeatureKind::Moment(_) => moments::moment_text(value),
                FeatureKind::Category { .. } => String::new(),
                _ => ShortNumber(value).to_string(),
            };
            let mode = if kind.takes_text() { "text" } else { "decimal" };
            html! {
                input id=(id) name=(feature.name) value=(text) inputmode=(mode) autocomplete="off"
                    data-type=(datatype) required[!feature.may_be_missing] aria-describedby=[described];
            }
        }
    };
    html! {
        div {
            label for=(id) { (feature.name) }
            (input)
            @if !hint.is_empty() { span .hint id=(hint_id) { (hint) } }
        }
    }
}

fn select(
    id: &str,
    feature: &Feature,
    labels: &[&str],
    chosen: Option<&str>,
    (datatype, described): (&str, Option<&String>),
) -> Markup {
    html! {
        select id=(id) name=(feature.name) data-type=(datatype) aria-describedby=[described] {
            @if feature.may_be_missing {
                option value="" data-missing selected[chosen.is_none()] { "(missing)" }
            }
            @for label in labels {
                option value=(label) selected[chosen == Some(*label)] { (label) }
            }
        }
    }
}

/// What a person should know of a feature's values.
fn hint(feature: &Feature) -> String {
    let mut parts = Vec::new();
    if let Some([least, most]) = feature.range {
        parts.push(format!(
            "{} to {} in training",
            ShortNumber(least),
            ShortNumber(most)
        ));
    }
    match feature.kind {
        FeatureKind::WholeNumber => parts.push("a whole number".to_owned()),
        FeatureKind::Moment(_) => parts.push("a date or time".to_owned()),
        _ => {}
    }
    if feature.may_be_missing && !matches!(feature.kind, FeatureKind::YesNo) {
        parts.push("may be missing".to_owned());
    }
    parts.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::signature::Unseen;
    use crate::models::{OutputSpec, moments::MomentOrder};
    use crate::serving::fixtures::{feature, version};

    fn rendered(features: Vec<Feature>) -> String {
        render(&version(features, OutputSpec::Numbers { width: 1 })).0
    }

    fn category(labels: &[&str]) -> FeatureKind {
        let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
        FeatureKind::Category {
            labels: labels.into(),
            unseen: Unseen::Other,
        }
    }

    #[test]
    fn each_kind_of_feature_has_its_field() {
        let size = Feature {
            may_be_missing: true,
            range: Some([0.5, 12.0]),
            ..feature("size", FeatureKind::Number)
        };
        let colour = Feature {
            may_be_missing: true,
            ..feature("colour", category(&["red", ""]))
        };
        let form = rendered(vec![
            size,
            colour,
            feature("count", FeatureKind::WholeNumber),
            feature("member", FeatureKind::YesNo),
            feature("since", FeatureKind::Moment(MomentOrder::YearFirst)),
        ]);
        for part in [
            "0.5 to 12 in training; may be missing",
            "data-missing",
            "<option value=\"red\" selected>red</option>",
            "<option value=\"\"></option>",
            "a whole number",
            "<option value=\"false\" selected>false</option>",
            "value=\"1970-01-01",
            "data-type=\"BYTES\"",
        ] {
            assert!(form.contains(part), "{part}: {form}");
        }
        assert!(!form.contains("data-one-tensor"), "{form}");
        // The form says what must be there; one feature may be missing, and lists always have a value.
        assert_eq!(form.matches(" required").count(), 2, "{form}");
    }

    #[test]
    fn a_large_model_gets_one_field_of_json() {
        let numbers = |count: usize| {
            let names = (0..count).map(|index| format!("x{index}"));
            names
                .map(|name| feature(&name, FeatureKind::Number))
                .collect()
        };
        assert!(!rendered(numbers(FIELDS_MAX)).contains("<textarea"));
        let form = rendered(numbers(FIELDS_MAX + 1));
        assert!(
            form.contains("<textarea") && form.contains("[0, 0, "),
            "{form}"
        );
        let labels: Vec<String> = (0..=LABELS_MAX).map(|index| index.to_string()).collect();
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        assert!(rendered(vec![feature("many", category(&labels))]).contains("<textarea"));
        let long = "x".repeat(FORM_BYTES_MAX);
        assert!(rendered(vec![feature(&long, FeatureKind::Number)]).contains("<textarea"));
        // Not even the row fits.
        let form = rendered(numbers(50_000));
        assert!(form.contains("too long") && form.len() < 2 * FORM_BYTES_MAX);
    }

    #[test]
    fn names_and_labels_of_a_model_are_text() {
        let hostile = "\"><script>alert(1)</script>";
        let form = rendered(vec![
            feature(hostile, FeatureKind::Number),
            feature("x", category(&[hostile])),
        ]);
        assert!(!form.contains("<script>"), "{form}");
        assert!(form.contains("&quot;&gt;&lt;script&gt;"), "{form}");
    }
}
