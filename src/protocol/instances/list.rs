//! A list of instances in JSON → one flat matrix, by serde visitors and never through a tree of values.
//!
//! An instance is an array of values in the order of the features, or an object by their names. Memory
//! is eight bytes per number, charged to the budget before it is taken. Every error says which instance
//! and feature.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::blame;
use super::decoding::{ABSENT, Decoding, ListForm, is_absent};
use super::tokens::{IgnoredValue, Text};
use super::value::{unexpected, unexpected_number};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Feature, Rows, Signature};
use crate::protocol::RowSpec;
use crate::protocol::forgiving::BodyFault;

/// Decodes a body that is a JSON array of instances.
///
/// # Errors
///
/// As `/predict` does.
pub(in crate::protocol) fn decode_list_whole(
    body: &[u8],
    form: ListForm<'_>,
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, BodyFault> {
    let decoding = Decoding::new(body, form, (row_spec.signature, row_spec.rows_max), charge);
    let mut reader = serde_json::Deserializer::from_slice(body);
    let values = Instances(&decoding)
        .deserialize(&mut reader)
        .and_then(|values| reader.end().map(|()| values));
    let values = values.map_err(|error| BodyFault {
        is_syntax: error.is_syntax(),
        error: decoding.request_error(&error),
    })?;
    Ok(rows(values, form.field, row_spec.signature)?)
}

/// Decodes a JSON array of instances, which is a piece of a body.
///
/// # Errors
///
/// As `/predict` does.
pub(in crate::protocol) fn decode_list(
    json: &[u8],
    form: ListForm<'_>,
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let decoding = Decoding::new(json, form, (row_spec.signature, row_spec.rows_max), charge);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let values = Instances(&decoding).deserialize(&mut reader);
    let values = values.map_err(|error| decoding.piece_error(&error))?;
    rows(values, form.field, row_spec.signature)
}

/// Decodes one instance per line; blank lines are left out.
///
/// # Errors
///
/// As `/predict` does, with the line's number.
pub(in crate::protocol) fn decode_lines(
    body: &[u8],
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, BodyFault> {
    let form = ListForm {
        field: "lines",
        ..ListForm::default()
    };
    let RowSpec {
        signature,
        rows_max,
        ..
    } = row_spec;
    let decoding = Decoding::new(body, form, (signature, rows_max), charge);
    let lines = body.split(|byte| *byte == b'\n').enumerate();
    let lines = lines.filter(|(_, line)| !line.trim_ascii().is_empty());
    let mut values = Vec::new();
    for (row, (number, line)) in lines.enumerate() {
        if row == rows_max {
            return Err(too_many(rows_max).into());
        }
        let mut reader = serde_json::Deserializer::from_slice(line);
        let read = Instance(&decoding, row, &mut values)
            .deserialize(&mut reader)
            .and_then(|()| reader.end());
        if let Err(error) = read {
            let mut refusal = match error.is_data() {
                true => decoding.piece_error(&error),
                false => blame::not_json(line, &error, None),
            };
            let text = refusal.text.replace(" line 1 column ", " column ");
            refusal.text = format!("line {} of the body: {text}", number + 1);
            return Err(BodyFault {
                is_syntax: error.is_syntax(),
                error: refusal,
            });
        }
    }
    Ok(rows(values, form.field, signature)?)
}

fn rows(values: Vec<f64>, field: &str, signature: &Signature) -> Result<Rows, RequestError> {
    if values.is_empty() {
        let text = format!("{field:?} is empty: at least one instance is needed");
        return Err(RequestError::new(Code::InvalidInput, text));
    }
    Rows::new(values, signature.width())
        .ok_or_else(|| RequestError::new(Code::Internal, "the decoded rows do not fit the model"))
}

/// The refusal of too many rows.
pub(super) fn too_many(rows_max: usize) -> RequestError {
    let text =
        format!("a request may hold {rows_max} instances (--max-rows); send fewer at a time");
    RequestError::new(Code::ContentTooLarge, text)
}

/// The array of instances.
pub(super) struct Instances<'a>(pub(super) &'a Decoding<'a>);

impl<'de> DeserializeSeed<'de> for Instances<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Instances<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of instances in {:?}", self.0.form.field)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<f64>, E> {
        Err(unexpected(text, &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Vec<f64>, E> {
        Err(unexpected_number(number, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f64>, A::Error> {
        let mut values = Vec::new();
        let mut row = 0;
        let rows_max = self.0.rows_max();
        while let Some(()) = seq.next_element_seed(Instance(self.0, row, &mut values))? {
            row += 1;
            if row > rows_max {
                return Err(self.0.give_up(too_many(rows_max)));
            }
        }
        Ok(values)
    }
}

/// One instance, appended to the values.
struct Instance<'a, 'v>(&'a Decoding<'a>, usize, &'v mut Vec<f64>);

impl<'de> DeserializeSeed<'de> for Instance<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Instance<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an array of {} numbers or an object by feature names as {}[{}]",
            self.0.columns(),
            self.0.form.field,
            self.1
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(unexpected(text, &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        Err(unexpected_number(number, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Instance(decoding, row, values) = self;
        decoding.reserve(values)?;
        if let Some(columns) = decoding.form.columns {
            return decoding.read_cells(row, columns, values, seq);
        }
        let mut count = 0;
        for feature in 0..decoding.width() {
            let Some(value) = seq.next_element_seed(decoding.value(row, feature))? else {
                break;
            };
            values.push(value);
            count += 1;
        }
        decoding.reading.set(None);
        while seq.next_element::<IgnoredValue>()?.is_some() {
            count += 1;
        }
        if count != decoding.width() {
            return Err(A::Error::custom(format!(
                "{}[{row}] has {count} features, but the model takes {}: {}",
                decoding.form.field,
                decoding.width(),
                decoding.names(),
            )));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Instance(decoding, row, values) = self;
        decoding.reserve(values)?;
        let start = values.len();
        values.resize(start + decoding.width(), f64::from_bits(ABSENT));
        decoding.others.borrow_mut().clear();
        let mut expected = 0;
        while let Some(key) = map.next_key::<Text>()? {
            let Some(index) = decoding.feature(&key.0, expected) else {
                decoding.others.borrow_mut().add(&key.0);
                map.next_value::<IgnoredValue>()?;
                continue;
            };
            let name = &decoding.signature.features[index].name;
            if !is_absent(values[start + index]) {
                return Err(A::Error::custom(format!(
                    "{}[{row}] has the feature {name:?} twice",
                    decoding.form.field
                )));
            }
            values[start + index] = map.next_value_seed(decoding.value(row, index))?;
            decoding.reading.set(None);
            expected = index + 1;
        }
        let features = &decoding.signature.features;
        let mut pairs = values[start..].iter().zip(features);
        let is_missing =
            |(value, feature): (&f64, &Feature)| is_absent(*value) && !feature.is_unused();
        if let Some(missing) = pairs.position(is_missing) {
            let name = &decoding.signature.features[missing].name;
            return Err(A::Error::custom(format!(
                "{}[{row}] lacks the feature {name:?}: it has {}; the model takes {}",
                decoding.form.field,
                decoding.found(&values[start..]),
                decoding.names()
            )));
        }
        Ok(())
    }
}
