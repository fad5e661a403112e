//! A table in JSON by its columns: an object of a list for each feature, or a header and rows.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::COLUMNS_MAX;
use super::decoding::{Decoding, ListForm};
use super::list::{decode_list, too_many};
use super::tokens::{IgnoredValue, Text};
use super::value::unexpected;
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Rows, Signature};
use crate::protocol::RowSpec;
use crate::protocol::envelope::EnvelopeFields;

/// Decodes `{"FEATURE": [value, …], …}`; other names are ignored.
///
/// # Errors
///
/// As `/predict` does, and for columns of different lengths.
pub(in crate::protocol) fn decode_columns(
    json: &RawValue,
    field: &'static str,
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let RowSpec {
        signature,
        rows_max,
        ..
    } = row_spec;
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
    for (feature, column) in signature.features.iter().zip(&mut columns) {
        if column.is_empty() && feature.is_unused() {
            column.resize(count, f64::NAN);
        }
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
        let mut count = 0;
        let mut expected = 0;
        while let Some(key) = map.next_key::<Text<'_>>()? {
            count += 1;
            if count > COLUMNS_MAX {
                return Err(A::Error::custom(format!(
                    "a table may have at most {COLUMNS_MAX} columns, but {:?} has more",
                    decoding.field()
                )));
            }
            let Some(feature) = decoding.feature(&key.0, expected) else {
                map.next_value::<IgnoredValue>()?;
                continue;
            };
            expected = feature + 1;
            if std::mem::replace(&mut seen[feature], true) {
                return Err(A::Error::custom(format!(
                    "{:?} has the feature {:?} twice",
                    decoding.field(),
                    key.0
                )));
            }
            map.next_value_seed(FeatureColumn(decoding, feature, &mut columns[feature]))?;
        }
        Ok(())
    }
}

/// The values of one feature.
struct FeatureColumn<'d, 'a, 'v>(&'d Decoding<'a>, usize, &'v mut Vec<f64>);

impl<'de> DeserializeSeed<'de> for FeatureColumn<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FeatureColumn<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let FeatureColumn(decoding, feature, _) = self;
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
        let FeatureColumn(decoding, feature, values) = self;
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
    fields: &EnvelopeFields<'_>,
    field: &'static str,
    row_spec: RowSpec<'_>,
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
            let mut found = Names::new(row_spec.signature, charge);
            let mut reader = serde_json::Deserializer::from_str(names.get());
            match (&mut found).deserialize(&mut reader) {
                Ok(()) => found.places(field)?,
                Err(error) => return Err(found.refusal(field, &error)),
            }
        }
    };
    let form = ListForm {
        field: "data",
        columns: columns.as_deref(),
        values_in_lists: false,
    };
    decode_list(data.get().as_bytes(), form, row_spec, charge)
}

/// The names of a table's columns, as they are read.
struct Names<'a> {
    signature: &'a Signature,
    indices: HashMap<&'a str, usize>,
    charge: &'a mut Charge,
    /// The feature that each column is.
    places: Vec<Option<usize>>,
    seen: Vec<bool>,
    /// Whether all columns so far are only numbered, from 0.
    are_numbers: bool,
    budget: Option<RequestError>,
}

impl<'a> Names<'a> {
    fn new(signature: &'a Signature, charge: &'a mut Charge) -> Self {
        let indices = signature.names().enumerate();
        Names {
            signature,
            indices: indices.map(|(index, name)| (name, index)).collect(),
            charge,
            places: Vec::new(),
            seen: vec![false; signature.width()],
            are_numbers: true,
            budget: None,
        }
    }

    /// The feature that each column is; `None` if the columns are only numbered.
    fn places(self, field: &str) -> Result<Option<Vec<Option<usize>>>, RequestError> {
        if self.are_numbers && self.places.len() == self.signature.width() {
            // A frame that was made without names.
            return Ok(None);
        }
        let mut features = self.seen.iter().zip(&self.signature.features);
        match features.position(|(seen, feature)| !seen && !feature.is_unused()) {
            None => Ok(Some(self.places)),
            Some(missing) => {
                let text = format!(
                    "\"columns\" of {field:?} lacks the feature {:?}",
                    self.signature.features[missing].name
                );
                Err(RequestError::new(Code::InvalidInput, text))
            }
        }
    }

    fn refusal(self, field: &str, error: &serde_json::Error) -> RequestError {
        let text = error.to_string();
        let text = text.split(" at line ").next().unwrap_or_default();
        let refusal = || RequestError::new(Code::InvalidInput, format!("{field:?}: {text}"));
        self.budget.unwrap_or_else(refusal)
    }
}

impl<'de> DeserializeSeed<'de> for &mut Names<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &mut Names<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"columns\" to be a list of names")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(unexpected(text, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(name) = seq.next_element::<ColumnName<'de>>()? {
            if self.places.len() == COLUMNS_MAX {
                return Err(A::Error::custom(format!(
                    "a table may have at most {COLUMNS_MAX} columns, but \"columns\" has more"
                )));
            }
            if let Err(refusal) = self.charge.reserve(&mut self.places, 1, usize::MAX) {
                self.budget = Some(refusal);
                return Err(A::Error::custom("given up"));
            }
            let place = match &name {
                ColumnName::Text(name) => self.indices.get(&**name).copied(),
                ColumnName::Other => None,
                ColumnName::Number(number) => {
                    self.are_numbers &= *number == self.places.len() as u64;
                    self.places.push(None);
                    continue;
                }
            };
            self.are_numbers = false;
            if let Some(place) = place
                && std::mem::replace(&mut self.seen[place], true)
            {
                return Err(A::Error::custom(format!(
                    "\"columns\" has {:?} twice",
                    self.signature.features[place].name
                )));
            }
            self.places.push(place);
        }
        Ok(())
    }
}

/// The name of a column; pandas numbers those without one.
enum ColumnName<'de> {
    Text(Cow<'de, str>),
    Number(u64),
    Other,
}

impl<'de> serde::Deserialize<'de> for ColumnName<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Name;
        impl<'de> Visitor<'de> for Name {
            type Value = ColumnName<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a column's name")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(ColumnName::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(ColumnName::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
                Ok(ColumnName::Number(number))
            }

            fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
                Ok(ColumnName::Other)
            }

            fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
                Ok(ColumnName::Other)
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(ColumnName::Other)
            }
        }
        deserializer.deserialize_any(Name)
    }
}
