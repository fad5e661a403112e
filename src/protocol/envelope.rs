//! The outer object of a body: its known fields, each as a piece of JSON that is read later.
//!
//! The order of fields is the client's, and what a field means may depend on another. So a body is
//! skipped through once to find them, without a copy.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::forgiving::{BodyFault, charge_skipping};
use super::instances::{IgnoredValue, Text, emptiness, not_json, unexpected};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;

/// The known fields that a body has, in its order.
pub(super) type EnvelopeFields<'a> = Vec<(&'static str, &'a RawValue)>;

/// Reads the fields of `known` that the object in `json` has; other fields are ignored.
///
/// # Errors
///
/// 400 for a body that is no JSON object, or that has a known field twice, and the budget's own.
pub(super) fn fields<'a>(
    json: &'a [u8],
    known: &'static [&'static str],
    charge: &mut Charge,
) -> Result<EnvelopeFields<'a>, BodyFault> {
    if let Some(what) = emptiness(json) {
        let text = format!("{what}, but must be JSON with {}", either(known));
        return Err(RequestError::new(Code::InvalidJson, text).into());
    }
    charge_skipping(json, charge)?;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let fields = EnvelopeObject(known)
        .deserialize(&mut reader)
        .and_then(|fields| reader.end().map(|()| fields));
    fields.map_err(|error| BodyFault {
        is_syntax: error.is_syntax(),
        error: match error.is_data() {
            true => RequestError::new(Code::InvalidInput, error.to_string()),
            false => not_json(json, &error, None),
        },
    })
}

/// Reads the one field of `known` that the object in `json` has.
///
/// # Errors
///
/// As [`fields`], and 400 if there is none or are several.
pub(super) fn one_field<'a>(
    json: &'a [u8],
    known: &'static [&'static str],
    charge: &mut Charge,
) -> Result<(&'static str, &'a RawValue), BodyFault> {
    match fields(json, known, charge)?[..] {
        [one] => Ok(one),
        _ => {
            let text = format!("the body must have {}", either(known));
            Err(RequestError::new(Code::InvalidInput, text).into())
        }
    }
}

/// The names of fields for an error.
fn either(known: &[&str]) -> String {
    match known {
        [one] => format!("the field {one:?}"),
        _ => format!("exactly one of the fields {}", known.join(", ")),
    }
}

struct EnvelopeObject(&'static [&'static str]);

impl<'de> DeserializeSeed<'de> for EnvelopeObject {
    type Value = EnvelopeFields<'de>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<EnvelopeFields<'de>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for EnvelopeObject {
    type Value = EnvelopeFields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", either(self.0))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EnvelopeFields<'de>, E> {
        Err(unexpected(text, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<EnvelopeFields<'de>, A::Error> {
        let mut fields: EnvelopeFields<'de> = Vec::new();
        while let Some(Text(key)) = map.next_key::<Text<'de>>()? {
            let Some(name) = self.0.iter().find(|name| **name == key) else {
                map.next_value::<IgnoredValue>()?;
                continue;
            };
            if fields.iter().any(|(own, _)| own == name) {
                return Err(A::Error::custom(format!("the field {name:?} occurs twice")));
            }
            fields.push((*name, map.next_value()?));
        }
        Ok(fields)
    }
}
