//! The body of `/predict` in JSON: `{"instances": [...]}` → one flat matrix.

use std::cell::Cell;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};

use super::blame;
use super::decoding::{Decoding, ListForm};
use super::list::Instances;
use super::tokens::Text;
use super::value::{echo, unexpected, unexpected_number};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Rows, Signature};
use crate::protocol::forgiving::{self, BodyFault};
use crate::protocol::object::{self, JsonObject, NamedObject};

/// How `/predict` has its instances.
const INSTANCES: ListForm<'static> = ListForm {
    field: "instances",
    columns: None,
    values_in_lists: false,
};

/// A string or number longer than this may be copied while it is read.
const LONG_TOKEN_BYTES: usize = 64 << 10;

/// Decodes a request's body into rows of the signature's width, all finite; their memory is charged
/// to `charge`.
///
/// An instance is an array of numbers in the order of the features, or an object by their names;
/// other names are ignored, as other columns of a table are.
///
/// # Errors
///
/// 400 for a body that is not JSON (line and column) or not instances of this model (instance,
/// feature), 413 for more than `rows_max` instances, 503 while others hold the memory budget, 413
/// if it is too small.
pub fn decode(
    body: &[u8],
    signature: &Signature,
    rows_max: usize,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    decode_asked(body, signature, rows_max, charge).map(|(rows, _)| rows)
}

/// Decodes a request's body as [`decode`] does, and whether its field `parameters` asks for the raw
/// sums.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_asked(
    body: &[u8],
    signature: &Signature,
    rows_max: usize,
    charge: &mut Charge,
) -> Result<(Rows, bool), RequestError> {
    if let Some(what) = blame::emptiness(body) {
        let text =
            format!("{what}, but must be JSON with the field \"instances\" (line 1 column 0)");
        return Err(RequestError::new(Code::InvalidJson, text));
    }
    forgiving::read(body, signature, charge, |body, charge| {
        decode_once(body, signature, rows_max, charge)
    })
}

fn decode_once(
    body: &[u8],
    signature: &Signature,
    rows_max: usize,
    charge: &mut Charge,
) -> Result<(Rows, bool), BodyFault> {
    let decoding = Decoding::new(body, INSTANCES, (signature, rows_max), charge);
    let parameters = Cell::default();
    let mut json = serde_json::Deserializer::from_slice(body);
    let decoded = InstancesBody(&decoding, &parameters)
        .deserialize(&mut json)
        .and_then(|values| json.end().map(|()| values));
    let values = decoded.map_err(|error| BodyFault {
        is_syntax: error.is_syntax(),
        error: decoding.request_error(&error),
    })?;
    let rows = Rows::new(values, signature.features.len()).ok_or_else(|| {
        RequestError::new(Code::Internal, "the decoded rows do not fit the model")
    })?;
    let Parameters { raw } = parameters.take();
    Ok((rows, raw))
}

/// What the parser may copy of a body: strings with escapes, and numbers with many digits. In a
/// large body of normal content, that is nothing.
pub(in crate::protocol) fn copied_bytes(body: &[u8]) -> usize {
    // A token of twice the length contains one of these pieces whole, without a comma in it.
    let has_long_token = body
        .chunks_exact(LONG_TOKEN_BYTES)
        .any(|piece| !piece.contains(&b','));
    if body.len() > LONG_TOKEN_BYTES && (has_long_token || body.contains(&b'\\')) {
        // The parser's copy, which grows by doubling, and ours.
        return body.len().saturating_mul(3);
    }
    0
}

/// What a client may ask for beside its instances; other parameters are ignored.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
struct Parameters {
    /// Whether the model's sums before their transform are wanted too.
    #[serde(default, deserialize_with = "raw")]
    raw: bool,
}

impl NamedObject for Parameters {
    const NAME: &'static str = "\"parameters\"";
}

fn raw<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    object::parameter(deserializer, "raw")
}

/// The whole body.
struct InstancesBody<'a>(&'a Decoding<'a>, &'a Cell<Parameters>);

impl<'de> DeserializeSeed<'de> for InstancesBody<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        // Not `deserialize_map`, whose error repeats all of a string that is not a map.
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for InstancesBody<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field \"instances\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<f64>, E> {
        Err(unexpected(text, &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Vec<f64>, E> {
        Err(unexpected_number(number, &self))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Vec<f64>, A::Error> {
        let mut values = None;
        while let Some(key) = map.next_key::<Text>()? {
            if key.0 == "parameters" {
                let parameters: Option<JsonObject<Parameters>> = map.next_value()?;
                self.1
                    .set(parameters.map(|object| object.0).unwrap_or_default());
                continue;
            }
            if key.0 != "instances" {
                return Err(A::Error::custom(format!(
                    "unknown field {}: the fields are \"instances\" and \"parameters\"",
                    echo(&key.0)
                )));
            }
            if values.is_some() {
                return Err(A::Error::custom("the field \"instances\" occurs twice"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::memory_budget::Budget;
    use crate::models::signature::Unseen;
    use crate::models::{CategoryLabels, FeatureKind, OutputSpec};
    use proptest::prelude::*;
    use std::sync::Arc;

    const ROWS_MAX: usize = 1000;

    fn decode_within(bytes_max: usize, body: &[u8]) -> Result<Rows, RequestError> {
        let budget = Arc::new(Budget::new(bytes_max, 0));
        let mut charge = Charge::new(&budget);
        let decoded = super::decode(body, &signature(), ROWS_MAX, &mut charge);
        if let Ok(rows) = &decoded {
            assert!(budget.bytes() >= size_of_val(rows.values()));
        }
        decoded
    }

    fn decode(body: &[u8]) -> Result<Rows, RequestError> {
        decode_within(1 << 30, body)
    }

    fn signature() -> Signature {
        let names = ["length", "width"].map(str::to_owned).to_vec();
        Signature::of_numbers(names, OutputSpec::Numbers { width: 1 })
    }

    #[test]
    fn labels_become_codes_and_null_is_missing_where_it_may_be() {
        let mut signature = signature();
        signature.features[0].kind = FeatureKind::Category {
            labels: ["red", "green"].map(str::to_owned).to_vec().into(),
            unseen: Unseen::Refuse,
        };
        signature.features[1].may_be_missing = true;
        let decode = |body: &str| {
            let budget = Arc::new(Budget::new(1 << 20, 0));
            let mut charge = Charge::new(&budget);
            super::decode(body.as_bytes(), &signature, ROWS_MAX, &mut charge)
        };
        let bodies = [
            r#"{"instances": [["green", null]]}"#,
            r#"{"instances": [{"width": null, "length": "green"}]}"#,
        ];
        for body in bodies {
            let rows = decode(body).unwrap();
            assert_eq!(rows.values()[0], 1.0, "{body}");
            assert!(rows.values()[1].is_nan(), "{body}");
        }
        #[rustfmt::skip]
        let wrong = [
            (r#"{"instances": [["blue", 1]]}"#, "invalid type: string \"blue\", expected one of \"red\", \"green\" as \"length\" of instances[0]"),
            (r#"{"instances": [[1, 1]]}"#, "expected one of \"red\", \"green\""),
            (r#"{"instances": [[true, 1]]}"#, "expected one of \"red\", \"green\""),
            (r#"{"instances": [[null, 1]]}"#, "invalid type: null, expected one of"),
            (r#"{"instances": [{"length": "red"}]}"#, "lacks the feature \"width\""),
            (r#"{"instances": [{"width": null, "length": "red", "width": 1}]}"#, "the feature \"width\" twice"),
        ];
        for (body, expected) in wrong {
            let error = decode(body).unwrap_err();
            assert_eq!(error.code, Code::InvalidInput, "{body}");
            assert!(error.text.contains(expected), "{body}: {}", error.text);
        }
    }

    #[test]
    fn a_label_is_known_as_the_program_holds_it_that_read_the_table() {
        let mut signature = signature();
        let labels = ["9007199254740993", "7", "true", "a b"].map(str::to_owned);
        for feature in &mut signature.features {
            feature.kind = FeatureKind::Category {
                labels: CategoryLabels::of_cells(labels.to_vec()),
                unseen: Unseen::Other,
            };
        }
        let budget = Arc::new(Budget::new(1 << 20, 0));
        let mut charge = Charge::new(&budget);
        let body = r#"{"instances": [[9007199254740993, 9007199254740992], [7, 7.0], [true, false], [" a b ", "ab"]]}"#;
        let rows = super::decode(body.as_bytes(), &signature, ROWS_MAX, &mut charge).unwrap();
        assert_eq!(rows.values(), [0.0, 4.0, 1.0, 1.0, 2.0, 4.0, 3.0, 4.0]);
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
                r#"{"instances": [{"note": {"a": ["b"]}, "width": 2, "id": 7, "length": 1, "id": null}]}"#,
                vec![1.0, 2.0],
            ),
            ("\u{feff}{\"instances\": [[1, 2]]}", vec![1.0, 2.0]),
            // As in numpy.
            (r#"{"instances": [[true, false]]}"#, vec![1.0, 0.0]),
            (
                r#" {"instances":[[18446744073709551615,-9223372036854775808]]} "#,
                vec![18446744073709551615.0, -9223372036854775808.0],
            ),
        ];
        for (body, expected) in table {
            assert_eq!(
                decode(body.as_bytes()).unwrap().values(),
                expected,
                "{body}"
            );
        }
    }

    #[test]
    fn errors_have_their_place() {
        use Code::{InvalidInput, InvalidJson};
        let table: &[(&str, Code, &str)] = &[
            (
                "",
                InvalidJson,
                "the body is empty, but must be JSON with the field \"instances\"",
            ),
            ("\u{feff}", InvalidJson, "the body is empty"),
            (" \r\n\t", InvalidJson, "the body is blank"),
            (
                r#"{"instances": [[1, 2]], "parameters": [true]}"#,
                InvalidInput,
                "invalid type: sequence, expected an object as \"parameters\"",
            ),
            (
                r#"{"instances": [[1, 2]], "parameters": {"raw": 1}}"#,
                InvalidInput,
                "the parameter \"raw\": invalid type: integer `1`, expected a boolean",
            ),
            (
                "{\"instances\": [[1,\n2,,]]}",
                InvalidJson,
                "line 2 column 3",
            ),
            (
                r#"{"instances": [[NaN, 1]]}"#,
                InvalidJson,
                "the body is not JSON: \"length\" of instances[0] is NaN, which JSON cannot express: send a finite number (line 1 column 17)",
            ),
            (
                "{\"instances\": [[1, 2],\n\n [3, -Infinity]]}",
                InvalidJson,
                "\"width\" of instances[1] is -Infinity, which JSON cannot express",
            ),
            (
                r#"{"instances": [[1, 2], {"width": nan}]}"#,
                InvalidJson,
                "\"width\" of instances[1] is nan, which JSON cannot express",
            ),
            (
                r#"{"instances": [[1, inf]]}"#,
                InvalidJson,
                "\"width\" of instances[0] is inf, which JSON cannot express",
            ),
            (
                r#"{"instances": [{"length": 1, "note": NaN}]}"#,
                InvalidJson,
                "a value is NaN, which JSON cannot express",
            ),
            (
                r#"{"instances": [[1, None]]}"#,
                InvalidJson,
                "the body is not JSON: expected value at line 1 column 20",
            ),
            (
                r#"{"instances": [[1e999, 1]]}"#,
                InvalidInput,
                "\"length\" of instances[0] is 1e999, too large for a double: send a finite number",
            ),
            (
                r#"{"instances": [{"width": -1e400}]}"#,
                InvalidInput,
                "\"width\" of instances[0] is -1e400, too large for a double",
            ),
            (
                r#"{"instances": 1e308}"#,
                InvalidInput,
                "number 1e308, expected an array of instances",
            ),
            (r#"1e308"#, InvalidInput, "number 1e308, expected an object"),
            (
                r#"{"instances": [-1e308]}"#,
                InvalidInput,
                "number -1e308, expected an array of 2 numbers",
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
            (r#"{"instances": [[[1], 2]]}"#, InvalidInput, "sequence"),
            (
                r#"{"instances": [{"length": 1}]}"#,
                InvalidInput,
                "instances[0] lacks the feature \"width\": it has length; the model takes length, width",
            ),
            (
                r#"{"instances": [{}]}"#,
                InvalidInput,
                "lacks the feature \"length\": it has nothing; the model takes",
            ),
            (
                r#"{"instances": [{"a": 1, "length": 1, "width": 1}, {"Width": 2, "depth\n": [3], "length": 3}]}"#,
                InvalidInput,
                "instances[1] lacks the feature \"width\": it has length, Width, depth\\n; the model takes",
            ),
            (
                r#"{"instances": [{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1, "g": 1}]}"#,
                InvalidInput,
                "it has a, b, c, d, e and 2 more; the model takes",
            ),
            (
                r#"{"instances": [{"length": 1, "length": 1}]}"#,
                InvalidInput,
                "\"length\" twice",
            ),
        ];
        for (body, code, expected) in table {
            let error = decode(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, *code, "{body}: {error}");
            assert!(error.text.contains(expected), "{body}: {error}");
        }
    }

    #[test]
    fn what_is_repeated_of_the_input_is_short_and_escaped() {
        let body = format!("{{\"instances\": [{{\"\\n{}\": 1}}]}}", "x".repeat(100_000));
        let error = decode(body.as_bytes()).unwrap_err();
        assert!(
            error.text.len() < 300 && !error.text.contains('\n'),
            "{error}"
        );
        let body = format!("{{\"instances\": [[\"{}\", 1]]}}", "x".repeat(100_000));
        assert!(decode(body.as_bytes()).unwrap_err().text.len() < 300);
    }

    #[test]
    fn a_body_too_deep_too_long_or_over_the_budget_is_refused_as_that() {
        let deep = |inner: &str| format!("{inner}{}", "[".repeat(1_000_000));
        let long = "7".repeat(1 << 20);
        let table = [
            ("deep from the start", deep(""), Code::InvalidInput),
            (
                "deep in place of a number",
                deep("{\"instances\": [[1, "),
                Code::InvalidInput,
            ),
            (
                "deep beyond the last feature",
                deep("{\"instances\": [[1, 2, "),
                Code::InvalidInput,
            ),
            (
                "deep in an object",
                deep("{\"instances\": [{\"length\": "),
                Code::InvalidInput,
            ),
            (
                "a long string for the body",
                format!("\"{long}\""),
                Code::InvalidInput,
            ),
            (
                "a long string for instances",
                format!("{{\"instances\": \"{long}\"}}"),
                Code::InvalidInput,
            ),
            (
                "a long string for an instance",
                format!("{{\"instances\": [\"{long}\"]}}"),
                Code::InvalidInput,
            ),
            (
                "a long string for a number",
                format!("{{\"instances\": [[\"{long}\", 1]]}}"),
                Code::InvalidInput,
            ),
            (
                "a long string that nobody takes",
                format!("{{\"instances\": [[1, 2, \"{long}\"]]}}"),
                Code::InvalidInput,
            ),
        ];
        for (name, body, code) in &table {
            let error = decode(body.as_bytes()).unwrap_err();
            assert_eq!(error.code, *code, "{name}: {error}");
            assert!(error.text.len() < 300, "{name}");
        }
        let rows = format!("{{\"instances\": [{}[1,2]]}}", "[1,2],".repeat(900));
        assert!(decode_within(1 << 15, rows.as_bytes()).is_ok());
        let error = decode_within(1 << 13, rows.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::ContentTooLarge);
        let copied = format!("{{\"instances\": [[1, 2]], \"x\\n{long}\": 1}}");
        let error = decode_within(3 << 20, copied.as_bytes()).unwrap_err();
        assert_eq!(
            error.code,
            Code::ContentTooLarge,
            "the parser's own copy counts"
        );
        let digits = format!("{{\"instances\": [[0.{long}, 2]]}}");
        assert_eq!(
            decode_within(3 << 20, digits.as_bytes()).unwrap_err().code,
            Code::ContentTooLarge
        );
        assert_eq!(decode(digits.as_bytes()).unwrap().values().len(), 2);
    }

    #[test]
    fn more_instances_than_the_limit_are_too_large() {
        let body = format!("{{\"instances\": [{}[1,2]]}}", "[1,2],".repeat(ROWS_MAX));
        assert_eq!(
            decode(body.as_bytes()).unwrap_err().code,
            Code::ContentTooLarge
        );
    }

    proptest! {
        #[test]
        fn no_body_makes_the_decoder_panic(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode(&body);
        }

        #[test]
        fn no_json_makes_the_decoder_panic(piece in r#"(\{|\}|\[|\]|,|:|"instances"|"length"|"width"|1|-2\.5e3|null|true|"x"){0,20}"#) {
            let _ = decode(piece.as_bytes());
            let _ = decode(format!("{{\"instances\": [{piece}]}}").as_bytes());
        }

        #[test]
        fn numbers_come_back_as_the_same_bits(rows in proptest::collection::vec(any::<[f64; 2]>(), 1..20)) {
            prop_assume!(rows.concat().iter().all(|value| value.is_finite()));
            let body = serde_json::json!({"instances": rows}).to_string();
            let decoded = decode(body.as_bytes()).unwrap();
            let bits = |values: &[f64]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(decoded.values()), bits(&rows.concat()));
        }
    }
}
