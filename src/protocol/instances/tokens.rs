//! Pieces of JSON that are read without a copy: names, and ignored values.

use std::fmt;

use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// A string, borrowed if possible.
pub(super) struct Text<'de>(pub(super) std::borrow::Cow<'de, str>);

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
pub(super) struct Surplus;

impl<'de> serde::Deserialize<'de> for Surplus {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Surplus)
    }
}

impl<'de> Visitor<'de> for Surplus {
    type Value = Surplus;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Surplus, E> {
        Ok(Surplus)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Surplus, E> {
        Ok(Surplus)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Surplus, E> {
        Ok(Surplus)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Surplus, E> {
        Ok(Surplus)
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Surplus, E> {
        Ok(Surplus)
    }

    fn visit_unit<E: Error>(self) -> Result<Surplus, E> {
        Ok(Surplus)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Surplus, A::Error> {
        while seq.next_element::<Surplus>()?.is_some() {}
        Ok(Surplus)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Surplus, A::Error> {
        while map.next_entry::<Surplus, Surplus>()?.is_some() {}
        Ok(Surplus)
    }
}
