//! A request of V2: JSON, and after it the tensors' data in binary, into rows.
//!
//! Sizes are checked before memory is taken: every size that a request states is compared with the
//! bytes that are there.

use std::borrow::Cow;
use std::time::Duration;

use super::answer::{Wanted, WantedOutput};
use super::document::{Reading, RequestDocument, Tensor, TensorParameters, fewer};
use super::rows::{Checked, TensorData, TensorShape, invalid, rows};
use super::tensor::Datatype;
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::Rows;
use crate::models::forest::Precision;
use crate::protocol::RowSpec;
use crate::protocol::echo;
use crate::protocol::forgiving::{self, BodyFault, charge_skipping};
use crate::protocol::instances::not_json;

/// A decoded request.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) rows: Rows,
    pub(super) wanted: Wanted,
    pub(super) timeout: Option<Duration>,
}

/// Decodes a body. `json_length` is what `Inference-Header-Content-Length` says.
///
/// # Errors
///
/// 400 for anything that is not a request for this model, 413 for too many rows, and the budget's
/// own.
pub(super) fn decode(
    body: &[u8],
    json_length: Option<&str>,
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Decoded, RequestError> {
    let (json, binary) = match json_length {
        None => (body, &[][..]),
        Some(text) => {
            let length = text.parse().ok().filter(|length| *length <= body.len());
            let length: usize = length.ok_or_else(|| {
                invalid(format!(
                    "Inference-Header-Content-Length must be the length of the JSON, at most the body's {} bytes, but is {}",
                    body.len(),
                    echo(text)
                ))
            })?;
            body.split_at(length)
        }
    };
    if json_length.is_some() && json.is_empty() {
        return decode_bare(binary, row_spec, charge);
    }
    forgiving::read(json, row_spec.signature, charge, |json, charge| {
        charge_skipping(json, charge)?;
        let document = Reading::read(json, row_spec, charge).map_err(|error| match error {
            Ok(refusal) => BodyFault::from(refusal),
            Err(error) => BodyFault {
                is_syntax: error.is_syntax(),
                error: refusal(json, &error),
            },
        })?;
        Ok(take(document, binary, row_spec, charge)?)
    })
}

fn refusal(json: &[u8], error: &serde_json::Error) -> RequestError {
    if json.trim_ascii().is_empty() {
        return RequestError::new(
            Code::InvalidJson,
            "the body is empty, but must be JSON with the field \"inputs\"",
        );
    }
    if error.is_data() {
        let text: String = error.to_string().chars().take(300).collect();
        return invalid(text);
    }
    not_json(json, error, None)
}

/// A body of nothing but the data of the one input, in the model's own datatype.
fn decode_bare(
    binary: &[u8],
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Decoded, RequestError> {
    let (name, bytes) = match row_spec.precision {
        Precision::F32 => ("FP32", 4),
        Precision::F64 => ("FP64", 8),
    };
    let width = row_spec.signature.width();
    let row = bytes * width;
    if binary.is_empty() || !binary.len().is_multiple_of(row) {
        return Err(invalid(format!(
            "a body without JSON must hold rows of {width} values in {name}, {row} bytes each, but has {} bytes",
            binary.len()
        )));
    }
    let sizes = [(binary.len() / row) as u64, width as u64];
    let rows = tensor_rows(name, &sizes, binary, row_spec, charge)?;
    let outputs = vec![WantedOutput::usual(true)];
    Ok(Decoded {
        rows,
        wanted: Wanted { id: None, outputs },
        timeout: None,
    })
}

/// Turns one tensor of all features, in binary and of this datatype, into rows.
///
/// # Errors
///
/// 400 for a tensor that does not fit the model, 413 for too many rows, and the budget's own.
pub(in crate::protocol) fn tensor_rows(
    datatype: &str,
    sizes: &[u64],
    bytes: &[u8],
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let tensor = Tensor {
        name: Cow::Borrowed("input"),
        shape: TensorShape::new(sizes),
        datatype: Cow::Borrowed(datatype),
        parameters: Some(TensorParameters {
            binary_data_size: Some(bytes.len() as u64),
            shared_memory_region: None,
        }),
        data: None,
    };
    rows(checked(vec![tensor], bytes)?, row_spec, charge)
}

fn take(
    document: RequestDocument<'_>,
    binary: &[u8],
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Decoded, RequestError> {
    let RequestDocument {
        id,
        parameters,
        inputs,
        outputs,
    } = document;
    let parameters = parameters.unwrap_or_default();
    let in_binary = parameters.binary_data_output.unwrap_or(false);
    let outputs = match outputs.filter(|outputs| !outputs.is_empty()) {
        None => vec![WantedOutput::usual(in_binary)],
        Some(outputs) => outputs
            .into_iter()
            .map(|output| {
                let parameters = output.parameters.map(|object| object.0);
                let parameters = parameters.unwrap_or_default();
                if parameters.shared_memory_region.is_some() {
                    return Err(no_shared_memory());
                }
                WantedOutput::named(
                    &output.name,
                    parameters.binary_data.unwrap_or(in_binary),
                    parameters.classification,
                    row_spec,
                )
            })
            .collect::<Result<_, _>>()?,
    };
    let tensors = checked(inputs, binary)?;
    let rows = rows(tensors, row_spec, charge)?;
    let timeout = parameters.timeout.filter(|timeout| *timeout > 0);
    Ok(Decoded {
        rows,
        wanted: Wanted {
            id: id.filter(|id| !id.is_empty()).map(Cow::into_owned),
            outputs,
        },
        timeout: timeout.map(Duration::from_micros),
    })
}

fn no_shared_memory() -> RequestError {
    invalid("shared memory is not read: send the tensors in the request")
}

/// Finds each tensor's data, and compares all sizes that the request states with what is there.
fn checked<'a>(
    inputs: Vec<Tensor<'a>>,
    mut binary: &'a [u8],
) -> Result<Vec<Checked<'a>>, RequestError> {
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        let named = |what: String| invalid(format!("input {}: {what}", echo(&input.name)));
        let datatype = Datatype::named(&input.datatype).ok_or_else(|| {
            named(format!(
                "its datatype is {}, but must be one of {}",
                echo(&input.datatype),
                Datatype::names()
            ))
        })?;
        let count = input
            .shape
            .sizes()
            .iter()
            .try_fold(1_u64, |count, size| count.checked_mul(*size));
        let count = count
            .and_then(|count| usize::try_from(count).ok())
            .ok_or_else(|| {
                named(format!(
                    "its shape {} holds more values than there can be",
                    input.shape
                ))
            })?;
        let parameters = input.parameters.unwrap_or_default();
        if parameters.shared_memory_region.is_some() {
            return Err(no_shared_memory());
        }
        let data = match (parameters.binary_data_size, input.data) {
            (Some(_), Some(_)) => {
                return Err(named(
                    "it has both \"data\" and \"binary_data_size\"".to_owned(),
                ));
            }
            (None, None) => {
                return Err(named(
                    "it has neither \"data\" nor \"binary_data_size\"".to_owned(),
                ));
            }
            (None, Some(data)) => {
                // A value takes a byte at the least, and a comma before the next.
                if let TensorData::Json(json) = data
                    && count > json.get().len().div_ceil(2)
                {
                    return Err(fewer(&input.name, &input.shape, count as u64));
                }
                data
            }
            (Some(size), None) => {
                let size = usize::try_from(size)
                    .ok()
                    .filter(|size| *size <= binary.len());
                let size = size.ok_or_else(|| {
                    named(format!(
                        "its binary_data_size is {}, but {} bytes are left after the JSON",
                        parameters.binary_data_size.unwrap_or_default(),
                        binary.len()
                    ))
                })?;
                let (own, rest) = binary.split_at(size);
                binary = rest;
                let fits = match datatype.bytes() {
                    Some(bytes) => count.checked_mul(bytes) == Some(size),
                    // A text takes the four bytes of its length at the least.
                    None => count <= size / 4,
                };
                if !fits {
                    return Err(named(format!(
                        "its shape {} of {} holds {count} values, but its binary data have {size} bytes",
                        input.shape,
                        echo(&input.datatype)
                    )));
                }
                TensorData::Binary(own)
            }
        };
        tensors.push(Checked {
            name: input.name,
            datatype,
            shape: input.shape,
            data,
        });
    }
    if !binary.is_empty() {
        return Err(invalid(format!(
            "{} bytes after the JSON belong to no input: its \"binary_data_size\" is missing or too small",
            binary.len()
        )));
    }
    Ok(tensors)
}
