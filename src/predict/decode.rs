//! `{"instances": [...]}` → one flat matrix, by serde visitors and never through a tree of values.
//!
//! Memory is eight bytes for each number that was read. Every error says which instance and feature.

use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::error::{Code, RequestError};
use crate::model::{Rows, Schema};

/// The most instances of one request.
pub const ROWS_MAX: usize = 100_000;

/// Feature names that an error lists, and characters of the client's own that it repeats.
const NAMES_SHOWN: usize = 20;
const ECHO_MAX: usize = 40;

/// Decodes a request's body into rows of the schema's width, all of them finite.
///
/// An instance is an array of numbers in the order of the features, or an object by their names.
///
/// # Errors
/// 400 for what is not JSON (line and column) or not instances of this model (instance, feature),
/// 413 for more than [`ROWS_MAX`] instances.
pub fn decode(body: &[u8], schema: &Schema) -> Result<Rows, RequestError> {
    let decoding = Decoding {
        schema,
        indices: schema
            .features
            .iter()
            .enumerate()
            .map(|(index, name)| (name.as_str(), index))
            .collect(),
        too_many: Cell::new(false),
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let decoded = Body(&decoding)
        .deserialize(&mut json)
        .and_then(|values| json.end().map(|()| values));
    let values = decoded.map_err(|error| decoding.request_error(&error))?;
    Rows::new(values, schema.features.len())
        .ok_or_else(|| RequestError::new(Code::Internal, "the decoded rows do not fit the model"))
}

struct Decoding<'a> {
    schema: &'a Schema,
    indices: HashMap<&'a str, usize>,
    too_many: Cell<bool>,
}

impl Decoding<'_> {
    fn width(&self) -> usize {
        self.schema.features.len()
    }

    fn names(&self) -> String {
        let shown = self
            .schema
            .features
            .iter()
            .take(NAMES_SHOWN)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join(", ");
        match self.width().checked_sub(NAMES_SHOWN) {
            None | Some(0) => shown,
            Some(more) => format!("{shown} and {more} more"),
        }
    }

    fn request_error(&self, error: &serde_json::Error) -> RequestError {
        if self.too_many.get() {
            let text = format!("a request may hold {ROWS_MAX} instances; send fewer at a time");
            return RequestError::new(Code::ContentTooLarge, text);
        }
        if error.is_data() {
            return RequestError::new(Code::InvalidInput, error.to_string());
        }
        RequestError::new(Code::InvalidJson, format!("the body is not JSON: {error}"))
    }
}

/// Repeats a piece of the client's own input, short and escaped.
fn echo(text: &str) -> String {
    let short: String = text.chars().take(ECHO_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// The whole body.
struct Body<'a>(&'a Decoding<'a>);

impl<'de> DeserializeSeed<'de> for Body<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Body<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field \"instances\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<f64>, A::Error> {
        let mut values = None;
        while let Some(key) = map.next_key::<Text>()? {
            if key.0 != "instances" {
                return Err(A::Error::custom(format!(
                    "unknown field {}: the one field is \"instances\"",
                    echo(&key.0)
                )));
            }
            if values.is_some() {
                return Err(A::Error::custom(
                    "the field \"instances\" stands there twice",
                ));
            }
            values = Some(map.next_value_seed(Instances(self.0))?);
        }
        let values =
            values.ok_or_else(|| A::Error::custom("the field \"instances\" is missing"))?;
        if values.is_empty() {
            return Err(A::Error::custom(
                "\"instances\" is empty: at least one instance is needed",
            ));
        }
        Ok(values)
    }
}

/// A string, borrowed where it can be.
struct Text<'de>(std::borrow::Cow<'de, str>);

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

/// The array of instances.
struct Instances<'a>(&'a Decoding<'a>);

impl<'de> DeserializeSeed<'de> for Instances<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Instances<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of instances in \"instances\"")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f64>, A::Error> {
        let mut values = Vec::new();
        let mut row = 0;
        while let Some(()) = seq.next_element_seed(Instance(self.0, row, &mut values))? {
            row += 1;
            if row > ROWS_MAX {
                self.0.too_many.set(true);
                return Err(A::Error::custom("too many instances"));
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
            "an array of {} numbers or an object by feature names as instances[{}]",
            self.0.width(),
            self.1
        )
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Instance(decoding, row, values) = self;
        let mut count = 0;
        for name in &decoding.schema.features {
            let Some(value) = seq.next_element_seed(Number { row, name })? else {
                break;
            };
            values.push(value);
            count += 1;
        }
        while seq.next_element::<IgnoredAny>()?.is_some() {
            count += 1;
        }
        if count != decoding.width() {
            return Err(A::Error::custom(format!(
                "instances[{row}] has {count} features, but the model takes {}: {}",
                decoding.width(),
                decoding.names(),
            )));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Instance(decoding, row, values) = self;
        let start = values.len();
        // NaN stands for "not there yet"; JSON has none, so no client can send it.
        values.resize(start + decoding.width(), f64::NAN);
        let mut expected = 0;
        while let Some(key) = map.next_key::<Text>()? {
            // Most clients send the features in order.
            let in_order = decoding
                .schema
                .features
                .get(expected)
                .filter(|name| **name == *key.0)
                .map(|_| expected);
            let index = in_order
                .or_else(|| decoding.indices.get(&*key.0).copied())
                .ok_or_else(|| {
                    A::Error::custom(format!(
                        "instances[{row}] has an unknown feature {}; the model takes {}",
                        echo(&key.0),
                        decoding.names()
                    ))
                })?;
            let name = &decoding.schema.features[index];
            if !values[start + index].is_nan() {
                return Err(A::Error::custom(format!(
                    "instances[{row}] has the feature {name:?} twice"
                )));
            }
            values[start + index] = map.next_value_seed(Number { row, name })?;
            expected = index + 1;
        }
        if let Some(missing) = values[start..].iter().position(|value| value.is_nan()) {
            let name = &decoding.schema.features[missing];
            return Err(A::Error::custom(format!(
                "instances[{row}] lacks the feature {name:?}; the model takes {}",
                decoding.names()
            )));
        }
        Ok(())
    }
}

/// One finite number.
struct Number<'a> {
    row: usize,
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Number<'_> {
    type Value = f64;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<f64, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Number<'_> {
    type Value = f64;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "a finite number as {:?} of instances[{}]",
            self.name, self.row
        )
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<f64, E> {
        if value.is_finite() {
            return Ok(value);
        }
        Err(E::custom(format!(
            "{:?} of instances[{}] is out of range",
            self.name, self.row
        )))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<f64, E> {
        Ok(value as f64)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<f64, E> {
        let given = echo(text);
        Err(E::custom(format!(
            "invalid type: string {given}, expected a finite number as {:?} of instances[{}]",
            self.name, self.row
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn schema() -> Schema {
        Schema {
            name: "iris".to_owned(),
            algorithm: "random-forest-classifier".to_owned(),
            features: ["length", "width"].map(str::to_owned).to_vec(),
            classes: vec![],
        }
    }

    #[test]
    fn instances_are_arrays_in_order_or_objects_by_name() {
        let table = [
            (
                r#"{"instances": [[1.5, 2], [-3, 4e2]]}"#,
                vec![1.5, 2.0, -3.0, 400.0],
            ),
            (
                r#"{"instances": [{"length": 1, "width": 2}, {"width": 4, "length": 3}]}"#,
                vec![1.0, 2.0, 3.0, 4.0],
            ),
            (
                r#"{"instances": [[1, 2], {"w\u0069dth": 4, "length": 3}]}"#,
                vec![1.0, 2.0, 3.0, 4.0],
            ),
            (
                r#" {"instances":[[18446744073709551615,-9223372036854775808]]} "#,
                vec![18446744073709551615.0, -9223372036854775808.0],
            ),
        ];
        for (body, expected) in table {
            assert_eq!(
                decode(body.as_bytes(), &schema()).unwrap().values(),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        use Code::{InvalidInput, InvalidJson};
        let table: &[(&str, Code, &str)] = &[
            (
                "",
                InvalidJson,
                "the body is not JSON: EOF while parsing a value at line 1 column 0",
            ),
            (
                "{\"instances\": [[1,\n2,,]]}",
                InvalidJson,
                "line 2 column 3",
            ),
            (
                r#"{"instances": [[NaN, 1]]}"#,
                InvalidJson,
                "line 1 column 17",
            ),
            (
                r#"{"instances": [[1e999, 1]]}"#,
                InvalidJson,
                "number out of range",
            ),
            (
                r#"{"instances": [[1, 2]]} x"#,
                InvalidJson,
                "trailing characters",
            ),
            (
                r#"[[1, 2]]"#,
                InvalidInput,
                "expected an object with the field \"instances\"",
            ),
            (r#"{}"#, InvalidInput, "the field \"instances\" is missing"),
            (r#"{"instances": []}"#, InvalidInput, "is empty"),
            (
                r#"{"instances": {}}"#,
                InvalidInput,
                "expected an array of instances",
            ),
            (
                r#"{"instances": null}"#,
                InvalidInput,
                "expected an array of instances",
            ),
            (
                r#"{"inputs": [[1, 2]]}"#,
                InvalidInput,
                "unknown field \"inputs\"",
            ),
            (
                r#"{"instances": [[1, 2]], "instances": [[1, 2]]}"#,
                InvalidInput,
                "twice",
            ),
            (
                r#"{"instances": [7]}"#,
                InvalidInput,
                "expected an array of 2 numbers or an object by feature names as instances[0]",
            ),
            (
                r#"{"instances": [[1, 2], [1]]}"#,
                InvalidInput,
                "instances[1] has 1 features, but the model takes 2: length, width",
            ),
            (
                r#"{"instances": [[1, 2, 3, 4]]}"#,
                InvalidInput,
                "instances[0] has 4 features, but the model takes 2",
            ),
            (
                r#"{"instances": [[1, null]]}"#,
                InvalidInput,
                "null, expected a finite number as \"width\" of instances[0]",
            ),
            (
                r#"{"instances": [["1", 2]]}"#,
                InvalidInput,
                "string \"1\", expected a finite number as \"length\" of instances[0]",
            ),
            (
                r#"{"instances": [[true, 2]]}"#,
                InvalidInput,
                "boolean `true`",
            ),
            (r#"{"instances": [[[1], 2]]}"#, InvalidInput, "sequence"),
            (
                r#"{"instances": [{"length": 1}]}"#,
                InvalidInput,
                "instances[0] lacks the feature \"width\"",
            ),
            (
                r#"{"instances": [{"length": 1, "width": 2, "depth": 3}]}"#,
                InvalidInput,
                "unknown feature \"depth\"; the model takes length, width",
            ),
            (
                r#"{"instances": [{"length": 1, "length": 1}]}"#,
                InvalidInput,
                "\"length\" twice",
            ),
        ];
        for (body, code, expected) in table {
            let error = decode(body.as_bytes(), &schema()).unwrap_err();
            assert_eq!(error.code, *code, "{body}: {error}");
            assert!(error.text.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn what_is_repeated_of_the_input_is_short_and_escaped() {
        let body = format!("{{\"instances\": [{{\"\\n{}\": 1}}]}}", "x".repeat(100_000));
        let error = decode(body.as_bytes(), &schema()).unwrap_err();
        assert!(
            error.text.len() < 300 && !error.text.contains('\n'),
            "{error}"
        );
        let body = format!("{{\"instances\": [[\"{}\", 1]]}}", "x".repeat(100_000));
        assert!(decode(body.as_bytes(), &schema()).unwrap_err().text.len() < 300);
    }

    #[test]
    fn more_instances_than_the_limit_are_too_large() {
        let body = format!("{{\"instances\": [{}[1,2]]}}", "[1,2],".repeat(ROWS_MAX));
        assert_eq!(
            decode(body.as_bytes(), &schema()).unwrap_err().code,
            Code::ContentTooLarge
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&body, &schema());
        }

        #[test]
        fn no_json_makes_the_decoder_panic(piece in r#"(\{|\}|\[|\]|,|:|"instances"|"length"|"width"|1|-2\.5e3|null|true|"x"){0,20}"#) {
            let _ = decode(piece.as_bytes(), &schema());
            let _ = decode(format!("{{\"instances\": [{piece}]}}").as_bytes(), &schema());
        }

        #[test]
        fn numbers_come_back_as_the_same_bits(rows in proptest::collection::vec(any::<[f64; 2]>(), 1..20)) {
            prop_assume!(rows.concat().iter().all(|value| value.is_finite()));
            let body = serde_json::json!({"instances": rows}).to_string();
            let decoded = decode(body.as_bytes(), &schema()).unwrap();
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(decoded.values()), bits(&rows.concat()));
        }
    }
}
