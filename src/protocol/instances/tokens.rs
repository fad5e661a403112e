//! Pieces of JSON that are read without a copy: names, and ignored values.

use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A string, borrowed if possible.
pub(in crate::protocol) struct Text<'de>(pub(in crate::protocol) std::borrow::Cow<'de, str>);

impl<'de> serde::Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(text.into()))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(text.to_owned().into()))
            }
        }
        deserializer.deserialize_str(Borrow)
    }
}

/// An ignored value; skipped within the parser's limit on nesting, which `serde::de::IgnoredAny`
/// evades at the price of memory.
pub(in crate::protocol) struct IgnoredValue;

impl<'de> serde::Deserialize<'de> for IgnoredValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IgnoredValue)
    }
}

impl<'de> Visitor<'de> for IgnoredValue {
    type Value = IgnoredValue;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<IgnoredValue, E> {
        Ok(IgnoredValue)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<IgnoredValue, E> {
        Ok(IgnoredValue)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<IgnoredValue, E> {
        Ok(IgnoredValue)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<IgnoredValue, E> {
        Ok(IgnoredValue)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<IgnoredValue, E> {
        Ok(IgnoredValue)
    }

    fn visit_unit<E: Error>(self) -> Result<IgnoredValue, E> {
        Ok(IgnoredValue)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<IgnoredValue, A::Error> {
        while seq.next_element::<IgnoredValue>()?.is_some() {}
        Ok(IgnoredValue)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<IgnoredValue, A::Error> {
        while map.next_entry::<IgnoredValue, IgnoredValue>()?.is_some() {}
        Ok(IgnoredValue)
    }
}
