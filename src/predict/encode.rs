//! A model's output → `{"model": …, "predictions": […], "probabilities": […]}`, into one buffer.

use serde::Serialize;

use crate::model::{Output, PredictError, Schema};

/// Encodes an output that `predict` has checked; numbers re-read as the same bits.
///
/// # Errors
/// Where a number is not finite: JSON has no way to say so.
pub fn encode(schema: &Schema, output: &Output) -> Result<Vec<u8>, PredictError> {
    let mut json = Vec::with_capacity(128);
    json.extend_from_slice(b"{\"model\":");
    put(&mut json, &schema.name)?;
    json.extend_from_slice(b",\"predictions\":[");
    match output {
        Output::Numbers(numbers) => put_numbers(&mut json, numbers)?,
        Output::Classes {
            indices,
            probabilities,
        } => {
            let labels: Vec<Vec<u8>> = schema
                .classes
                .iter()
                .map(|label| text(label))
                .collect::<Result<_, _>>()?;
            put_labels(&mut json, indices, &labels)?;
            if let Some(shares) = probabilities {
                json.extend_from_slice(b"],\"probabilities\":[");
                put_shares(&mut json, shares, &labels)?;
            }
        }
    }
    json.extend_from_slice(b"]}\n");
    Ok(json)
}

fn put_numbers(json: &mut Vec<u8>, numbers: &[f64]) -> Result<(), PredictError> {
    for (row, number) in numbers.iter().enumerate() {
        if row > 0 {
            json.push(b',');
        }
        put_finite(json, *number, row)?;
    }
    Ok(())
}

fn put_labels(json: &mut Vec<u8>, indices: &[u32], labels: &[Vec<u8>]) -> Result<(), PredictError> {
    for (row, index) in indices.iter().enumerate() {
        if row > 0 {
            json.push(b',');
        }
        let label = labels.get(*index as usize);
        json.extend_from_slice(
            label
                .ok_or_else(|| PredictError(format!("class {index} of row {row} has no label")))?,
        );
    }
    Ok(())
}

fn put_shares(json: &mut Vec<u8>, shares: &[f64], labels: &[Vec<u8>]) -> Result<(), PredictError> {
    for (row, shares) in shares.chunks(labels.len().max(1)).enumerate() {
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

fn put_finite(json: &mut Vec<u8>, number: f64, row: usize) -> Result<(), PredictError> {
    if !number.is_finite() {
        return Err(PredictError(format!(
            "it gave {number} for row {row}, which is no finite number"
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

    fn schema(classes: &[&str]) -> Schema {
        Schema {
            name: "a \"name\"".to_owned(),
            algorithm: "any".to_owned(),
            features: vec!["x".to_owned()],
            classes: classes.iter().map(|label| (*label).to_owned()).collect(),
        }
    }

    #[test]
    fn a_classifier_gives_labels_and_where_it_has_them_shares() {
        let mut output = Output::Classes {
            indices: vec![1, 0],
            probabilities: Some(vec![0.25, 0.75, 1.0, 0.0]),
        };
        let json = encode(&schema(&["no", "ye\"s"]), &output).unwrap();
        assert_eq!(
            String::from_utf8(json).unwrap(),
            "{\"model\":\"a \\\"name\\\"\",\"predictions\":[\"ye\\\"s\",\"no\"],\"probabilities\":[{\"no\":0.25,\"ye\\\"s\":0.75},{\"no\":1.0,\"ye\\\"s\":0.0}]}\n"
        );
        let Output::Classes { probabilities, .. } = &mut output else {
            return;
        };
        *probabilities = None;
        let json = encode(&schema(&["no", "yes"]), &output).unwrap();
        assert!(json.ends_with(b"\"predictions\":[\"yes\",\"no\"]}\n"));
    }

    #[test]
    fn a_regressor_gives_numbers_that_read_back_the_same_and_no_infinity() {
        let numbers = vec![0.1 + 0.2, -0.0, 1e300, f64::MIN_POSITIVE];
        let json = encode(&schema(&[]), &Output::Numbers(numbers.clone())).unwrap();
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
        assert!(encode(&schema(&[]), &Output::Numbers(vec![f64::INFINITY])).is_err());
    }
}
