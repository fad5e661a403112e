//! Objects and numbers within a body, with errors that say what they must be.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};

use super::instances::unexpected;

/// What errors call an object.
pub trait NamedObject {
    /// Its field's name, or what it is.
    const NAME: &'static str;
}

/// An object and no list: a list would be taken for the fields of a struct in their order.
#[derive(Debug)]
pub struct JsonObject<T>(pub T);

impl<'de, T: Deserialize<'de> + NamedObject> Deserialize<'de> for JsonObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ObjectVisitor(PhantomData))
    }
}

struct ObjectVisitor<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de> + NamedObject> Visitor<'de> for ObjectVisitor<T> {
    type Value = JsonObject<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object as {}", T::NAME)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<JsonObject<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(JsonObject)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<JsonObject<T>, E> {
        Err(unexpected(text, &self))
    }
}

/// A whole number from 0 on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole(pub(super) u64);

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeVisitor;
        impl Visitor<'_> for WholeVisitor {
            type Value = Whole;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number from 0 on")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Whole, E> {
                Ok(Whole(number))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Whole, E> {
                Err(unexpected(text, &self))
            }
        }
        deserializer.deserialize_any(WholeVisitor)
    }
}

/// Reads a parameter; errors say which.
pub(super) fn parameter<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
    name: &str,
) -> Result<T, D::Error> {
    T::deserialize(deserializer)
        .map_err(|error| D::Error::custom(format!("the parameter {name:?}: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    struct Options {
        count: Option<Whole>,
    }

    impl NamedObject for Options {
        const NAME: &'static str = "\"options\"";
    }

    #[test]
    fn a_list_is_no_object_and_no_error_names_a_type_of_rust() {
        let read = |json: &str| {
            let read = serde_json::from_str::<Option<JsonObject<Options>>>(json);
            read.map(|options| options.and_then(|options| options.0.count))
                .map_err(|error| error.to_string())
        };
        assert_eq!(read("null"), Ok(None));
        assert_eq!(read("{}"), Ok(None));
        assert_eq!(read(r#"{"count": 3, "other": []}"#), Ok(Some(Whole(3))));
        for (json, expected) in [
            (
                "[3]",
                "invalid type: sequence, expected an object as \"options\"",
            ),
            (
                "7",
                "invalid type: integer `7`, expected an object as \"options\"",
            ),
            (
                "\"x\"",
                "invalid type: string \"x\", expected an object as \"options\"",
            ),
            (
                r#"{"count": -1}"#,
                "invalid type: integer `-1`, expected a whole number from 0 on",
            ),
            (
                r#"{"count": 1.0}"#,
                "invalid type: floating point `1.0`, expected a whole number from 0 on",
            ),
            (
                r#"{"count": "1"}"#,
                "invalid type: string \"1\", expected a whole number from 0 on",
            ),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.starts_with(expected), "{json}: {error}");
        }
    }
}
