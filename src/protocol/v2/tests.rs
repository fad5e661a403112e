//! Requests of V2 as they come and as they should not: both forms mean the same, and none takes more
//! memory than its body allows.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::request::{Decoded, decode};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::{Budget, Charge};
use crate::models::forest::Precision;
use crate::models::signature::Unseen;
use crate::models::{FeatureKind, OutputSpec, Signature};
use crate::protocol::RowSpec;

const FEATURES: usize = 3;
const ROWS_MAX: usize = 1_000;
const BUDGET: usize = 1 << 20;

/// Numbers, one of which may be missing and infinite, and a category.
fn signature(with_category: bool) -> Signature {
    let names = ["a", "b", "c"].map(str::to_owned).to_vec();
    let mut signature = Signature::of_numbers(names, OutputSpec::Numbers { width: 1 });
    signature.features[1].may_be_missing = true;
    signature.features[1].may_be_infinite = true;
    if with_category {
        signature.features[2].kind = FeatureKind::Category {
            labels: ["red", "", "ü"].map(str::to_owned).to_vec().into(),
            unseen: Unseen::Refuse,
        };
    }
    signature
}

fn decode_with(
    signature: &Signature,
    body: &[u8],
    json_length: Option<&str>,
) -> Result<Decoded, RequestError> {
    let budget = Arc::new(Budget::new(BUDGET, 0));
    let mut charge = Charge::new(&budget);
    let row_spec = RowSpec {
        signature,
        precision: Precision::F64,
        rows_max: ROWS_MAX,
    };
    let decoded = decode(body, json_length, row_spec, &mut charge);
    assert!(budget.bytes() <= BUDGET);
    if let Ok(decoded) = &decoded {
        assert!(decoded.rows.len() <= ROWS_MAX);
        assert!(budget.bytes() >= size_of_val(decoded.rows.values()));
    }
    decoded
}

/// A datatype, and its value in JSON and in binary.
type WrittenTensor = (&'static str, Vec<Value>, Vec<u8>);

macro_rules! numbers {
    ($name:literal, $numbers:expr) => {{
        let numbers = $numbers;
        let binary = numbers
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect();
        let json = numbers.iter().map(|number| json!(number)).collect();
        ($name, json, binary)
    }};
}

/// Some values of each datatype, so many.
fn written(count: usize) -> impl Strategy<Value = WrittenTensor> {
    use proptest::collection::vec;
    // Beyond 53 bits a double cannot tell numbers apart, and JSON's numbers go through one.
    let long = -(1_i64 << 53)..(1_i64 << 53);
    prop_oneof![
        vec(any::<f64>(), count).prop_map(|all| numbers!("FP64", all)),
        vec(any::<f32>(), count).prop_map(|all| numbers!("FP32", all)),
        vec(any::<i8>(), count).prop_map(|all| numbers!("INT8", all)),
        vec(any::<i16>(), count).prop_map(|all| numbers!("INT16", all)),
        vec(any::<i32>(), count).prop_map(|all| numbers!("INT32", all)),
        vec(long, count).prop_map(|all| numbers!("INT64", all)),
        vec(any::<u8>(), count).prop_map(|all| numbers!("UINT8", all)),
        vec(any::<u16>(), count).prop_map(|all| numbers!("UINT16", all)),
        vec(any::<u32>(), count).prop_map(|all| numbers!("UINT32", all)),
        vec(0..1_u64 << 53, count).prop_map(|all| numbers!("UINT64", all)),
        vec(any::<bool>(), count).prop_map(|all| {
            let json = all.iter().map(|flag| json!(flag)).collect();
            (
                "BOOL",
                json,
                all.iter().map(|flag| u8::from(*flag)).collect(),
            )
        }),
        vec(
            prop_oneof![Just("red"), Just(""), Just("ü"), Just("other")],
            count
        )
        .prop_map(|all| {
            let binary = all.iter().flat_map(|text| {
                let length = u32::try_from(text.len()).unwrap();
                [&length.to_le_bytes()[..], text.as_bytes()].concat()
            });
            (
                "BYTES",
                all.iter().map(|text| json!(text)).collect(),
                binary.collect(),
            )
        }),
    ]
}

/// Tensors with their data in JSON, and the same with their data after it.
fn both(tensors: &[(&str, Value, WrittenTensor)]) -> (Vec<u8>, (Vec<u8>, String)) {
    let tensor = |(name, shape, (datatype, _, _)): &(&str, Value, WrittenTensor)| json!({"name": name, "shape": shape, "datatype": datatype});
    let in_json = tensors.iter().map(|one| {
        let mut tensor = tensor(one);
        tensor["data"] = Value::from(one.2.1.clone());
        tensor
    });
    let in_json = json!({"inputs": in_json.collect::<Vec<_>>()}).to_string();
    let in_binary = tensors.iter().map(|one| {
        let mut tensor = tensor(one);
        tensor["parameters"] = json!({"binary_data_size": one.2.2.len()});
        tensor
    });
    let in_binary = json!({"inputs": in_binary.collect::<Vec<_>>()}).to_string();
    let length = in_binary.len().to_string();
    let data: Vec<u8> = tensors.iter().flat_map(|one| one.2.2.clone()).collect();
    let body = [in_binary.as_bytes(), &data].concat();
    (in_json.into_bytes(), (body, length))
}

/// What a request decodes to: its bits, or that it is refused.
fn bits(decoded: Result<Decoded, RequestError>) -> Result<Vec<u64>, ()> {
    match decoded {
        Ok(decoded) => Ok(decoded
            .rows
            .values()
            .iter()
            .map(|value| value.to_bits())
            .collect()),
        Err(error) => {
            assert_eq!(error.code, Code::InvalidInput, "{error}");
            Err(())
        }
    }
}

fn assert_twins(
    signature: &Signature,
    tensors: &[(&str, Value, WrittenTensor)],
) -> Result<(), TestCaseError> {
    let (json, (binary, length)) = both(tensors);
    let has_special = tensors
        .iter()
        .any(|(_, _, (_, json, _))| json.contains(&Value::Null));
    let json = bits(decode_with(signature, &json, None));
    let binary = bits(decode_with(signature, &binary, Some(&length)));
    if has_special {
        // JSON has no word for infinities, so such a value became null.
        return Ok(());
    }
    prop_assert_eq!(json, binary);
    Ok(())
}

/// Data of a tensor as text: numbers, and now and then something else, in one list or in several.
fn data_text() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        12 => any::<f32>().prop_map(|number| json!(number).to_string()),
        6 => any::<f64>().prop_map(|number| json!(number).to_string()),
        6 => any::<i64>().prop_map(|number| number.to_string()),
        1 => prop::sample::select(vec![
            "null", "true", "\"Infinity\"", "\"red\"", "1e39", "-0.0", "1e400", "1e-50", "[]", "[[1]]", "{}", "x",
            "[[[[[[[[[1]]]]]]]]]", "NaN",
        ]).prop_map(str::to_owned),
    ];
    let values = proptest::collection::vec(value, 0..10);
    (values, any::<bool>(), 0..10_usize).prop_map(|(values, is_nested, length)| {
        match is_nested {
            true => {
                let rows = values
                    .chunks(FEATURES)
                    .map(|row| format!("[{}]", row.join(",")));
                format!("[{}]", rows.collect::<Vec<_>>().join(","))
            }
            // Often as many as a shape says.
            false => {
                let length = length / FEATURES * FEATURES;
                format!(
                    "[{}]",
                    values
                        .into_iter()
                        .cycle()
                        .take(length)
                        .collect::<Vec<_>>()
                        .join(",")
                )
            }
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn one_tensor_means_the_same_in_json_and_in_binary(
        (rows, values, with_category) in (0_usize..6, any::<bool>())
            .prop_flat_map(|(rows, with_category)| (Just(rows), written(rows * FEATURES), Just(with_category)))
    ) {
        let tensors = [("x", json!([rows, FEATURES]), values)];
        assert_twins(&signature(with_category), &tensors)?;
    }

    #[test]
    fn a_tensor_for_each_feature_means_the_same_in_json_and_in_binary(
        (rows, a, b, c, with_category) in (0_usize..5, any::<bool>())
            .prop_flat_map(|(rows, with_category)| {
                (Just(rows), written(rows), written(rows), written(rows), Just(with_category))
            })
    ) {
        let tensors = [("c", json!([rows, 1]), c), ("a", json!([rows]), a), ("b", json!([rows]), b)];
        assert_twins(&signature(with_category), &tensors)?;
    }

    /// Data that come last may be parsed at once, those that come first are not.
    #[test]
    fn the_order_of_a_tensors_fields_means_nothing(
        data in data_text(),
        rows in 0_u64..4,
        name in prop_oneof![Just("x"), Just("a")],
        datatype in prop_oneof![Just("FP32"), Just("FP64"), Just("INT64"), Just("BYTES"), Just("FP8")],
        more in prop_oneof![4 => Just(""), 1 => Just(",\"data\":[1]"), 1 => Just(",\"parameters\":{\"binary_data_size\":4}")],
        after in prop_oneof![4 => Just("]}"), 1 => Just(",{}]}"), 1 => Just("]"), 1 => Just("],\"id\":7}")],
        with_category in any::<bool>(),
        may_be_missing in any::<bool>(),
    ) {
        let mut signature = signature(with_category);
        if may_be_missing {
            signature.features.iter_mut().for_each(|feature| feature.may_be_missing = true);
        }
        let others = format!("\"name\":\"{name}\",\"shape\":[{rows},{FEATURES}],\"datatype\":\"{datatype}\"");
        let last = format!("{{\"inputs\":[{{{others},\"data\":{data}{more}}}{after}");
        let first = format!("{{\"inputs\":[{{\"data\":{data},{others}{more}}}{after}");
        let decoded = [last, first].map(|body| {
            let decoded = decode_with(&signature, body.as_bytes(), None);
            let bits = |decoded: Decoded| decoded.rows.values().iter().map(|value| value.to_bits()).collect::<Vec<_>>();
            // Its place is another.
            let told = |error: RequestError| {
                let text = error.text.split(" at line ").next().unwrap_or_default().to_owned();
                (error.code, text)
            };
            decoded.map(bits).map_err(told)
        });
        let is_syntax = matches!(&decoded[0], Err((Code::InvalidJson, _)));
        prop_assert!(decoded[0] == decoded[1] || is_syntax, "{decoded:?}");
        prop_assert_eq!(decoded[0].is_ok(), decoded[1].is_ok());
    }

    #[test]
    fn a_spoiled_request_is_read_or_refused(
        (rows, values) in (1_usize..4).prop_flat_map(|rows| (Just(rows), written(rows * FEATURES))),
        spoils in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        length in prop_oneof![Just(None), any::<usize>().prop_map(Some), (0_usize..300).prop_map(Some)],
        cut in any::<prop::sample::Index>(),
    ) {
        let (json, (mut binary, own_length)) = both(&[("x", json!([rows, FEATURES]), values)]);
        for (place, byte) in spoils {
            let place = place.index(binary.len());
            binary[place] = byte;
        }
        let length = length.map_or(own_length, |length| length.to_string());
        let signature = signature(true);
        let cut = cut.index(binary.len() + 1);
        for body in [&binary[..], &binary[..cut], &json[..cut.min(json.len())]] {
            for length in [Some(length.as_str()), None] {
                if let Err(error) = decode_with(&signature, body, length) {
                    let status = error.code.status();
                    prop_assert!(status == 400 || status == 413, "{error}");
                }
            }
        }
    }

    #[test]
    fn no_sizes_make_the_decoder_take_more_than_there_is(
        shape in proptest::collection::vec(any::<u64>(), 0..10),
        size in any::<u64>(),
        data in proptest::collection::vec(any::<u8>(), 0..64),
    ) {
        let document = json!({"inputs": [{"name": "x", "datatype": "FP64", "shape": shape,
            "parameters": {"binary_data_size": size}}]})
        .to_string();
        let body = [document.as_bytes(), &data].concat();
        let length = document.len().to_string();
        let decoded = decode_with(&signature(false), &body, Some(&length));
        if let Ok(decoded) = decoded {
            prop_assert_eq!(decoded.rows.values().len() * 8, data.len());
        }
    }
}

#[test]
fn what_is_known_to_be_refused_is_not_read_to_its_end() {
    let signature = signature(false);
    let tensor = |name: &str, shape: &str| {
        format!("{{\"name\":\"{name}\",\"datatype\":\"FP64\",\"shape\":{shape},\"data\":")
    };
    let input = |shape: &str, data: &str| format!("{{\"inputs\":[{}{data}", tensor("x", shape));
    let many: String = (0..FEATURES + 1)
        .map(|place| format!("{}[1]}},", tensor(&format!("x{place}"), "[1]")))
        .collect();
    let numbers = "1,".repeat(3 * ROWS_MAX + 3);
    #[rustfmt::skip]
    let table = [
        ("more values than bytes", input("[900,3]", "[!"), Code::InvalidInput, "input \"x\": its shape [900, 3] holds 2700 values, but its data are fewer"),
        ("too many rows", input("[1001,3]", &format!("[{numbers}!")), Code::ContentTooLarge, "a request may hold 1000 rows (--max-rows)"),
        ("too many tensors", format!("{{\"inputs\":[{many}!"), Code::InvalidInput, "more tensors than the model has features, 3"),
        ("a field twice", "{\"inputs\":[],\"inputs\":[]}".to_owned(), Code::InvalidInput, "duplicate field `inputs`"),
        ("a name that is missing", "{\"inputs\":[{\"shape\":[1,3],\"datatype\":\"FP64\",\"data\":[1,2,3]}]}".to_owned(), Code::InvalidInput, "missing field `name`"),
        ("sound so far", input("[1,3]", "[1,!"), Code::InvalidJson, "not JSON"),
    ];
    for (name, body, code, text) in table {
        let error = decode_with(&signature, body.as_bytes(), None).unwrap_err();
        assert_eq!(error.code, code, "{name}: {}", error.text);
        assert!(error.text.contains(text), "{name}: {}", error.text);
    }
}
