//! A model's output → `{"model": …, "predictions": […], "probabilities": […]}`, into one buffer.

use serde::Serialize;

use crate::lanes::memory_budget::Charge;
use crate::models::{Output, PredictError};
use crate::protocol::{EncodeError, Predicted};

/// Bytes of a number with its comma, at most (`-2.2250738585072014e-308`).
const NUMBER_BYTES: usize = 32;

/// Encodes an output that `predict` has checked; numbers read back as the same bits. The answer's
/// memory is charged to `charge` before it is taken.
///
/// # Errors
///
/// A number is not finite (JSON cannot express it), or the budget is spent.
pub fn encode(answer: &Predicted<'_>, charge: &mut Charge) -> Result<Vec<u8>, EncodeError> {
    let mut json = Buffer {
        bytes: Vec::new(),
        charge,
    };
    let name = text(answer.name)?;
    json.reserve(64 + name.len())?;
    json.bytes.extend_from_slice(b"{\"model\":");
    json.bytes.extend_from_slice(&name);
    json.bytes.extend_from_slice(b",\"predictions\":[");
    let spec = &answer.signature.output;
    match answer.output {
        Output::Numbers(numbers) => json.put_numbers(numbers, spec.numbers_per_row())?,
        Output::Classes {
            indices,
            probabilities,
        } => {
            let labels = spec.labels().iter();
            let names: Vec<Vec<u8>> = labels
                .clone()
                .map(|label| text(label))
                .collect::<Result<_, _>>()?;
            if labels.clone().all(|label| is_whole(label)) {
                let numbers: Vec<Vec<u8>> = labels.map(|label| label.as_bytes().to_vec()).collect();
                json.put_labels(indices, &numbers)?;
            } else {
                json.put_labels(indices, &names)?;
            }
            if let Some(shares) = probabilities {
                json.reserve(64)?;
                json.bytes.extend_from_slice(b"],\"probabilities\":[");
                json.put_shares(shares, &names)?;
            }
        }
    }
    if let Some(raw) = answer.raw {
        json.reserve(16)?;
        json.bytes.extend_from_slice(b"],\"raw\":[");
        json.put_raw(raw, raw.len() / answer.rows.max(1))?;
    }
    json.reserve(8)?;
    json.bytes.extend_from_slice(b"]}\n");
    Ok(json.bytes)
}

/// Whether a label is a whole number as JSON has it, so that clients get the number.
pub fn is_whole(label: &str) -> bool {
    label
        .parse::<i64>()
        .is_ok_and(|number| number.to_string() == label)
}

/// A growing answer: room for each row is charged before it is written, so the buffer never grows
/// unasked.
struct Buffer<'a> {
    bytes: Vec<u8>,
    charge: &'a mut Charge,
}

impl Buffer<'_> {
    fn reserve(&mut self, more: usize) -> Result<(), EncodeError> {
        self.charge
            .reserve(&mut self.bytes, more, usize::MAX)
            .map_err(EncodeError::Budget)
    }

    /// One number per row, or a list of them if a row has several.
    fn put_numbers(&mut self, numbers: &[f64], width: usize) -> Result<(), EncodeError> {
        for (row, numbers) in numbers.chunks(width.max(1)).enumerate() {
            self.reserve(numbers.len() * NUMBER_BYTES + 2)?;
            let json = &mut self.bytes;
            if row > 0 {
                json.push(b',');
            }
            if width > 1 {
                json.push(b'[');
            }
            for (index, number) in numbers.iter().enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                put_finite(json, *number, row)?;
            }
            if width > 1 {
                json.push(b']');
            }
        }
        Ok(())
    }

    /// A list for each row.
    fn put_raw(&mut self, raw: &[f64], width: usize) -> Result<(), EncodeError> {
        for (row, sums) in raw.chunks(width.max(1)).enumerate() {
            self.reserve(3)?;
            self.bytes
                .extend_from_slice(if row > 0 { b",[" } else { b"[" });
            self.put_numbers(sums, 1)?;
            self.bytes.push(b']');
        }
        Ok(())
    }

    fn put_labels(&mut self, indices: &[u32], labels: &[Vec<u8>]) -> Result<(), EncodeError> {
        for (row, index) in indices.iter().enumerate() {
            let label = labels.get(*index as usize);
            let label = label
                .ok_or_else(|| PredictError(format!("class {index} of row {row} has no label")))?;
            self.reserve(label.len() + 1)?;
            if row > 0 {
                self.bytes.push(b',');
            }
            self.bytes.extend_from_slice(label);
        }
        Ok(())
    }

    fn put_shares(&mut self, shares: &[f64], labels: &[Vec<u8>]) -> Result<(), EncodeError> {
        let row_bytes = labels.iter().map(|label| label.len() + 2 + NUMBER_BYTES);
        let row_bytes = row_bytes.sum::<usize>() + 3;
        for (row, shares) in shares.chunks(labels.len().max(1)).enumerate() {
            self.reserve(row_bytes)?;
            let json = &mut self.bytes;
            json.extend_from_slice(if row > 0 { b",{" } else { b"{" });
            for (index, (label, share)) in labels.iter().zip(shares).enumerate() {
                if index > 0 {
                    json.push(b',');
                }
                json.extend_from_slice(label);
                json.push(b':');
                put_finite(json, *share, row)?;
            }
            json.push(b'}');
        }
        Ok(())
    }
}

fn put_finite(json: &mut Vec<u8>, number: f64, row: usize) -> Result<(), PredictError> {
    if !number.is_finite() {
        return Err(PredictError(format!(
            "it gave {number} for row {row}, which is not finite"
        )));
    }
    put(json, &number)
}

fn text(label: &str) -> Result<Vec<u8>, PredictError> {
    let mut json = Vec::with_capacity(label.len() + 2);
    put(&mut json, &label)?;
    Ok(json)
}

fn put(json: &mut Vec<u8>, value: &impl Serialize) -> Result<(), PredictError> {
    // Writing text or a finite number to memory cannot fail; if it did, the client would be told.
    serde_json::to_writer(json, value).map_err(|error| PredictError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::lanes::memory_budget::Budget;
    use crate::models::{OutputSpec, Signature};
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
            name: "a \"name\"",
            signature,
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
