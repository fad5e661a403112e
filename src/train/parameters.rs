//! Parameters of algorithms, as typed.
//!
//! Each algorithm has a structure that serde reads: its fields are the parameters, and what a field
//! takes is found out by trying.

use std::collections::BTreeMap;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::train::TrainError;

/// A parameter of an algorithm, as a person types it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its default.
    pub default: String,
    /// What may be typed.
    pub values: String,
}

/// Parameters by name, as used and stored.
pub type ParameterValues = BTreeMap<String, Value>;

/// A text that cannot be a variant's name, to learn the valid names from serde.
const NO_VARIANT: &str = "\u{0}";

/// Lists the parameters of `P` with the values that each accepts, if all of `typed` are valid.
///
/// # Errors
///
/// As [`apply`].
pub fn known<P: Serialize + DeserializeOwned>(
    defaults: &P,
    typed: &[(String, String)],
) -> Result<Vec<Parameter>, TrainError> {
    apply(defaults, typed)?;
    Ok(list(defaults))
}

fn list<P: Serialize + DeserializeOwned>(defaults: &P) -> Vec<Parameter> {
    let defaults = map(defaults);
    let describe = |(name, default): (&String, &Value)| Parameter {
        name: name.clone(),
        default: typed(default),
        values: possible::<P>(&defaults, name, default),
    };
    defaults.iter().map(describe).collect()
}

/// Changes `defaults` by the typed parameters.
///
/// # Errors
///
/// An unknown name or a bad value: one line that lists the valid ones.
pub fn apply<P: Serialize + DeserializeOwned>(
    defaults: &P,
    typed: &[(String, String)],
) -> Result<(P, ParameterValues), TrainError> {
    let known = map(defaults);
    let mut values = known.clone();
    for (name, text) in typed {
        let Some(default) = known.get(name) else {
            let names: Vec<&str> = known.keys().map(String::as_str).collect();
            return Err(TrainError(if names.is_empty() {
                format!("there is no parameter {name:?}: this algorithm has none")
            } else {
                format!(
                    "there is no parameter {name:?}; there are {}",
                    names.join(", ")
                )
            }));
        };
        let mut tried = values.clone();
        tried.insert(name.clone(), read(text));
        if parse::<P>(&tried).is_err() {
            return Err(TrainError(format!(
                "parameter {name} must be {}, but is {text:?}",
                possible::<P>(&known, name, default)
            )));
        }
        values = tried;
    }
    let parameters = parse(&values).map_err(TrainError::of)?;
    // As they were understood.
    let used = map(&parameters).into_iter().collect();
    Ok((parameters, used))
}

fn map<P: Serialize>(parameters: &P) -> Map<String, Value> {
    match serde_json::to_value(parameters) {
        Ok(Value::Object(map)) => map,
        // Parameters are structures of finite numbers, names and options.
        _ => Map::new(),
    }
}

fn parse<P: DeserializeOwned>(values: &Map<String, Value>) -> serde_json::Result<P> {
    serde_json::from_value(Value::Object(values.clone()))
}

/// Parses what was typed: a number, `true`, a list as in JSON, `none`, or else a name.
fn read(text: &str) -> Value {
    if text == "none" {
        return Value::Null;
    }
    match serde_json::from_str(text) {
        Ok(value @ (Value::Number(_) | Value::Bool(_) | Value::Array(_))) => value,
        _ => Value::String(text.to_owned()),
    }
}

fn typed(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Finds out by trying what may be typed.
fn possible<P: DeserializeOwned>(
    defaults: &Map<String, Value>,
    name: &str,
    default: &Value,
) -> String {
    let with = |value: Value| {
        let mut tried = defaults.clone();
        tried.insert(name.to_owned(), value);
        parse::<P>(&tried)
    };
    let takes = |value: Value| with(value).is_ok();
    let kind = if default.is_string() {
        let error = with(NO_VARIANT.into()).err().map(|error| error.to_string());
        let variants = error.as_deref().map(variants).unwrap_or_default();
        variants.join(" or ")
    } else if takes(true.into()) {
        "true or false".to_owned()
    } else if takes(0.5.into()) {
        "a number".to_owned()
    } else if takes(1.into()) {
        "a whole number".to_owned()
    } else {
        "a list of numbers as in [0.5,0.5]".to_owned()
    };
    if takes(Value::Null) && !default.is_string() {
        format!("{kind} or none")
    } else {
        kind
    }
}

/// Extracts the names of variants from serde's message, where they stand between backticks.
fn variants(message: &str) -> Vec<&str> {
    let quoted = message.split('`').skip(1).step_by(2);
    quoted.filter(|name| *name != NO_VARIANT).collect()
}
