//! A table in JSON by its columns: an object of a list for each feature, or a header and rows.

use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::decoding::{Decoding, ListForm};
use super::list::{decode_list, too_many};
use super::tokens::{IgnoredValue, Text};
use super::value::unexpected;
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Rows, Signature};
use crate::protocol::Served;
use crate::protocol::envelope::Fields;

/// What a column's name takes of memory while a header is read, at most, for each of its bytes: a
/// name of one digit becomes a value of the parser's.
const NAME_BYTES: usize = 24;

/// Decodes `{"FEATURE": [value, …], …}`; other names are ignored.
///
/// # Errors
///
/// As `/predict` does, and for columns of different lengths.
pub(in crate::protocol) fn decode_columns(
    json: &RawValue,
    field: &'static str,
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let Served {
        signature,
        rows_max,
        ..
    } = served;
    let form = ListForm {
        field,
        values_in_lists: true,
        ..ListForm::default()
    };
    let decoding = Decoding::new(json.get().as_bytes(), form, (signature, rows_max), charge);
    let mut columns: Vec<Vec<f64>> = Vec::new();
    // A list for each feature is small beside its name.
    columns.resize_with(signature.width(), Vec::new);
    let mut reader = serde_json::Deserializer::from_str(json.get());
    let read = Columns(&decoding, &mut columns).deserialize(&mut reader);
    read.map_err(|error| decoding.piece_error(&error))?;
    let count = columns.iter().map(Vec::len).max().unwrap_or(0);
    let invalid = |text: String| RequestError::new(Code::InvalidInput, text);
    for (feature, column) in signature.features.iter().zip(&columns) {
        if column.len() != count {
            let is_missing = column.is_empty();
            return Err(invalid(match is_missing {
                true => format!(
                    "{field:?} lacks the feature {:?}: the model takes {}",
                    feature.name,
                    decoding.names()
                ),
                false => format!(
                    "{field:?} has {} values of {:?}, but {count} of others",
                    column.len(),
                    feature.name
                ),
            }));
        }
    }
    if count == 0 {
        return Err(invalid(format!(
            "{field:?} is empty: at least one row is needed"
        )));
    }
    drop(decoding);
    let mut values = Vec::new();
    charge.reserve(&mut values, count * signature.width(), usize::MAX)?;
    for row in 0..count {
        values.extend(columns.iter().map(|column| column[row]));
    }
    Rows::new(values, signature.width())
        .ok_or_else(|| RequestError::new(Code::Internal, "the decoded rows do not fit the model"))
}

/// The object of columns.
struct Columns<'d, 'a, 'v>(&'d Decoding<'a>, &'v mut Vec<Vec<f64>>);

impl<'de> DeserializeSeed<'de> for Columns<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Columns<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "an object of a list for each feature as {:?}",
            self.0.field()
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(unexpected(text, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Columns(decoding, columns) = self;
        let mut seen = vec![false; columns.len()];
        while let Some(key) = map.next_key::<Text<'_>>()? {
            let Some(feature) = decoding.feature(&key.0) else {
                map.next_value::<IgnoredValue>()?;
                continue;
            };
            if std::mem::replace(&mut seen[feature], true) {
                return Err(A::Error::custom(format!(
                    "{:?} has the feature {:?} twice",
                    decoding.field(),
                    key.0
                )));
            }
            map.next_value_seed(Column(decoding, feature, &mut columns[feature]))?;
        }
        Ok(())
    }
}

/// The values of one feature.
struct Column<'d, 'a, 'v>(&'d Decoding<'a>, usize, &'v mut Vec<f64>);

impl<'de> DeserializeSeed<'de> for Column<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Column<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Column(decoding, feature, _) = self;
        write!(
            f,
            "a list of values of {:?} in {:?}",
            decoding.feature_name(*feature),
            decoding.field()
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(unexpected(text, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Column(decoding, feature, values) = self;
        loop {
            decoding.reserve_values(values, 1)?;
            match seq.next_element_seed(decoding.value(values.len(), feature))? {
                Some(value) => values.push(value),
                None => return Ok(()),
            }
            if values.len() > decoding.rows_max() {
                return Err(decoding.give_up(too_many(decoding.rows_max())));
            }
        }
    }
}

/// Decodes a table that has its header and rows apart, as pandas' orientation `split` has them:
/// `columns`, if it is there, names the values of each row of `data`.
///
/// # Errors
///
/// 400 for a table without rows or without a feature, and as `/predict` does.
pub(in crate::protocol) fn decode_split(
    fields: &Fields<'_>,
    field: &'static str,
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let invalid = |text: String| RequestError::new(Code::InvalidInput, text);
    let find = |name: &str| fields.iter().find(|(own, _)| *own == name);
    let Some((_, data)) = find("data") else {
        return Err(invalid(format!("{field:?} lacks the field \"data\"")));
    };
    let columns = match find("columns") {
        None => None,
        Some((_, names)) if names.get() == "null" => None,
        Some((_, names)) => {
            charge.grow(names.get().len().saturating_mul(NAME_BYTES))?;
            let names: Vec<serde_json::Value> =
                serde_json::from_str(names.get()).map_err(|_| {
                    invalid(format!("\"columns\" of {field:?} must be a list of names"))
                })?;
            places(&names, field, served.signature)?
        }
    };
    let form = ListForm {
        field: "data",
        columns: columns.as_deref(),
        values_in_lists: false,
    };
    decode_list(data.get().as_bytes(), form, served, charge)
}

/// The feature that each column is; `None` if the columns are only numbered.
fn places(
    names: &[serde_json::Value],
    field: &str,
    signature: &Signature,
) -> Result<Option<Vec<Option<usize>>>, RequestError> {
    let is_number =
        |(place, name): (usize, &serde_json::Value)| name.as_u64() == Some(place as u64);
    if names.len() == signature.width() && names.iter().enumerate().all(is_number) {
        // A frame that was made without names.
        return Ok(None);
    }
    let indices: HashMap<&str, usize> = signature
        .names()
        .enumerate()
        .map(|(index, name)| (name, index))
        .collect();
    let mut seen = vec![false; signature.width()];
    let mut places = Vec::with_capacity(names.len());
    for name in names {
        let feature = name.as_str().and_then(|name| indices.get(name).copied());
        if let Some(feature) = feature
            && std::mem::replace(&mut seen[feature], true)
        {
            let text = format!("\"columns\" of {field:?} has {name} twice");
            return Err(RequestError::new(Code::InvalidInput, text));
        }
        places.push(feature);
    }
    match seen.iter().position(|seen| !seen) {
        None => Ok(Some(places)),
        Some(missing) => {
            let text = format!(
                "\"columns\" of {field:?} lacks the feature {:?}",
                signature.features[missing].name
            );
            Err(RequestError::new(Code::InvalidInput, text))
        }
    }
}
