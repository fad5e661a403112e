//! A model's output → `{"model": …, "predictions": […], "probabilities": […]}`, into one buffer.

use crate::lanes::memory_budget::Charge;
use crate::models::Output;
use crate::protocol::answer_writer::AnswerWriter;
use crate::protocol::{EncodeError, Predicted};

/// Encodes an output that `predict` has checked; numbers read back as the same bits. The answer's
/// memory is charged to `charge` before it is taken.
///
/// # Errors
///
/// A number is not finite (JSON cannot express it), or the budget is spent.
pub fn encode(answer: &Predicted<'_>, charge: &mut Charge) -> Result<Vec<u8>, EncodeError> {
    let mut json = AnswerWriter::new(charge, 64 + answer.name.len())?;
    json.put("{\"model\":")?;
    json.put_text(answer.name)?;
    json.put(",\"predictions\":[")?;
    let spec = &answer.signature.output;
    match answer.output {
        Output::Numbers(numbers) => json.put_numbers(numbers, spec.numbers_per_row())?,
        Output::Classes {
            indices,
            probabilities,
        } => {
            json.put_labels(indices, &answer.labels.values)?;
            if let Some(shares) = probabilities {
                json.put("],\"probabilities\":[")?;
                json.put_shares(shares, &answer.labels.names)?;
            }
        }
    }
    if let Some(raw) = answer.raw {
        json.put("],\"raw\":[")?;
        json.put_raw(raw, raw.len() / answer.rows.max(1))?;
    }
    json.put("]}\n")?;
    Ok(json.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::lanes::memory_budget::Budget;
    use crate::models::{AnswerSpec, JsonLabels, OutputSpec, Signature};
    use std::sync::Arc;

    fn encode_within(
        bytes_max: usize,
        signature: &Signature,
        output: &Output,
    ) -> Result<Vec<u8>, EncodeError> {
        let budget = Arc::new(Budget::new(bytes_max, 0));
        let mut charge = Charge::new(&budget);
        let answer = Predicted {
            request_id: "id",
            version: "1",
            answer: AnswerSpec::of_labels(&signature.output),
            name: "a \"name\"",
            signature,
            labels: &JsonLabels::new(signature.output.labels()),
            output,
            rows: 0,
            raw: None,
        };
        let encoded = encode(&answer, &mut charge);
        if let Ok(json) = &encoded {
            assert_eq!(budget.bytes(), json.capacity(), "all of it is charged");
        }
        encoded
    }

    #[test]
    fn an_answer_beyond_the_budget_is_refused() {
        let output = Output::Numbers(vec![1.0 / 3.0; 10_000]);
        assert!(encode_within(1 << 20, &signature(&[]), &output).is_ok());
        let error = encode_within(1 << 16, &signature(&[]), &output).unwrap_err();
        assert!(matches!(error, EncodeError::Budget(error) if error.code == Code::ContentTooLarge));
        let classes = Output::Classes {
            indices: vec![1; 1000],
            probabilities: Some(vec![0.1 + 0.2; 2000]),
        };
        assert!(encode_within(1 << 20, &signature(&["a", "b"]), &classes).is_ok());
        assert!(encode_within(1 << 14, &signature(&["a", "b"]), &classes).is_err());
    }

    fn signature(classes: &[&str]) -> Signature {
        let output = match classes {
            [] => OutputSpec::Numbers { width: 1 },
            _ => OutputSpec::Classes {
                labels: classes.iter().map(|class| (*class).to_owned()).collect(),
                has_probabilities: true,
            },
        };
        Signature::of_numbers(vec!["x".to_owned()], output)
    }

    #[test]
    fn a_classifier_gives_labels_and_where_it_has_them_shares() {
        let mut output = Output::Classes {
            indices: vec![1, 0],
            probabilities: Some(vec![0.25, 0.75, 1.0, 0.0]),
        };
        let json = encode_within(1 << 20, &signature(&["no", "ye\"s"]), &output).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "{\"model\":\"a \\\"name\\\"\",\"predictions\":[\"ye\\\"s\",\"no\"],\"probabilities\":[{\"no\":0.25,\"ye\\\"s\":0.75},{\"no\":1.0,\"ye\\\"s\":0.0}]}\n"
        );
        let Output::Classes { probabilities, .. } = &mut output else {
            return;
        };
        *probabilities = None;
        let json = encode_within(1 << 20, &signature(&["no", "yes"]), &output).unwrap();
        assert!(json.ends_with(b"\"predictions\":[\"yes\",\"no\"]}\n"));
    }

    #[test]
    fn a_regressor_gives_numbers_that_read_back_the_same_and_no_infinity() {
        let numbers = vec![0.1 + 0.2, -0.0, 1e300, f64::MIN_POSITIVE];
        let json =
            encode_within(1 << 20, &signature(&[]), &Output::Numbers(numbers.clone())).unwrap();
        let value: serde_json::Value = serde_json::from_slice(&json).unwrap();
        let back: Vec<u64> = value["predictions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|n| n.as_f64().unwrap().to_bits())
            .collect();
        assert_eq!(
            back,
            numbers
                .iter()
                .map(|number| number.to_bits())
                .collect::<Vec<_>>()
        );
        assert!(
            encode_within(
                1 << 20,
                &signature(&[]),
                &Output::Numbers(vec![f64::INFINITY])
            )
            .is_err()
        );
    }

    #[test]
    fn several_numbers_a_row_are_a_list_each() {
        let signature = Signature {
            output: OutputSpec::Numbers { width: 2 },
            ..signature(&[])
        };
        let output = Output::Numbers(vec![1.0, 2.5, 3.0, 4.0]);
        let json = encode_within(1 << 20, &signature, &output).unwrap();
        assert!(json.ends_with(b"\"predictions\":[[1.0,2.5],[3.0,4.0]]}\n"));
    }
}
