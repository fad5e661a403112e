//! One value of an instance, and how wrong ones are quoted.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

use super::tokens::{IgnoredValue, Text};
use crate::models::cells::WHOLE_MAX;
use crate::models::{Feature, ShortNumber};

/// How many characters of the client's input an error quotes.
pub(super) const ECHO_MAX: usize = 40;

/// Quotes a piece of the client's input, truncated and escaped.
pub fn echo(text: &str) -> String {
    let short: String = text.chars().take(ECHO_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// A short description of a string in the wrong place: serde would repeat all of it.
pub(in crate::protocol) fn unexpected<E: Error>(
    text: &str,
    expected: &impl serde::de::Expected,
) -> E {
    E::custom(format!(
        "invalid type: string {}, expected {}",
        echo(text),
        expected as &dyn serde::de::Expected
    ))
}

/// A short description of a number in the wrong place: serde would write out 309 digits.
pub(super) fn unexpected_number<E: Error>(number: f64, expected: &impl serde::de::Expected) -> E {
    E::custom(format!(
        "invalid type: number {}, expected {}",
        ShortNumber(number),
        expected as &dyn serde::de::Expected
    ))
}

/// One value of a feature: a finite number, a category's label, or null if it may be missing.
pub(super) struct FeatureValue<'a> {
    /// What errors call the list of instances.
    pub(super) list: &'a str,
    pub(super) row: usize,
    pub(super) feature: &'a Feature,
    /// Whether it may stand in a list of its own, or in an object under the number of its row.
    pub(super) may_be_in_list: bool,
}

impl<'de> DeserializeSeed<'de> for FeatureValue<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl FeatureValue<'_> {
    /// A number, or the category that it is the label of.
    fn number<E: Error>(&self, value: f64) -> Result<f64, E> {
        if self.feature.kind.takes_text() {
            let code = self.feature.kind.code_of_number(value);
            return code.ok_or_else(|| unexpected_number(value, self));
        }
        if value.is_finite() {
            return Ok(value);
        }
        Err(E::custom(format!(
            "{:?} of {}[{}] is out of range",
            self.feature.name, self.list, self.row
        )))
    }

    /// A whole number, or the category that its digits are the label of.
    fn whole<E: Error>(&self, value: f64, digits: impl fmt::Display) -> Result<f64, E> {
        // From there on neighbours are the same double.
        if value.abs() < WHOLE_MAX || !self.feature.kind.takes_text() {
            return self.number(value);
        }
        let code = self.feature.kind.code_of_whole(&digits.to_string(), value);
        code.ok_or_else(|| unexpected_number(value, self))
    }
}

impl<'de> Visitor<'de> for FeatureValue<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} as {:?} of {}[{}]",
            self.feature.kind.must_be(),
            self.feature.name,
            self.list,
            self.row
        )
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        self.number(value)
    }

    /// True is 1, as in numpy, or the label that Python, JSON or R writes.
    fn visit_bool<E: Error>(self, value: bool) -> Result<f64, E> {
        let labels = match value {
            true => ["True", "true", "TRUE"],
            false => ["False", "false", "FALSE"],
        };
        let kind = &self.feature.kind;
        let own = labels.into_iter().find(|label| kind.has_label(label));
        match kind.code(own.unwrap_or(labels[0])) {
            Some(code) => Ok(code),
            None => self.number(f64::from(u8::from(value))),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        self.whole(value as f64, value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        self.whole(value as f64, value)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        if self.feature.may_be_infinite && !self.feature.kind.takes_text() {
            match text {
                "Infinity" => return Ok(f64::INFINITY),
                "-Infinity" => return Ok(f64::NEG_INFINITY),
                _ => {}
            }
        }
        let code = self.feature.kind.code(text);
        code.ok_or_else(|| unexpected(text, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<f64, A::Error> {
        let wrong = |value: &Self| A::Error::invalid_type(Unexpected::Seq, value);
        if !self.may_be_in_list {
            return Err(wrong(&self));
        }
        let own = FeatureValue {
            may_be_in_list: false,
            ..self
        };
        let value = seq.next_element_seed(own)?;
        match (value, seq.next_element::<IgnoredValue>()?) {
            (Some(value), None) => Ok(value),
            _ => Err(wrong(&self)),
        }
    }

    /// KServe's examples send a pandas table of one row as its `to_dict` writes it,
    /// `{"column": {"0": value}}`.
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<f64, A::Error> {
        let wrong = |value: &Self| A::Error::invalid_type(Unexpected::Map, value);
        let is_number = |key: Text<'_>| key.0.parse::<u64>().is_ok();
        if !self.may_be_in_list || !map.next_key()?.is_some_and(is_number) {
            return Err(wrong(&self));
        }
        let own = FeatureValue {
            may_be_in_list: false,
            ..self
        };
        let value = map.next_value_seed(own)?;
        match map.next_key::<IgnoredValue>()? {
            None => Ok(value),
            Some(_) => Err(wrong(&self)),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<f64, E> {
        if self.feature.may_be_missing {
            return Ok(f64::NAN);
        }
        Err(E::invalid_type(Unexpected::Unit, &self))
    }
}
