//! A request of V2: JSON, and after it the tensors' data in binary, into rows.
//!
//! Sizes are checked before memory is taken: every size that a request states is compared with the
//! bytes that are there.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::answer::{Wanted, WantedOutput};
use super::echo;
use super::tensor::{Datatype, Element};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::forest::Precision;
use crate::models::{Feature, Rows, Signature};
use crate::protocol::Served;
use crate::protocol::instances::{copied_bytes, not_json, with_nulls, without_mark};

/// Maximum number of dimensions of a tensor, and of nested lists of its data.
const DIMENSIONS_MAX: usize = 8;

/// What a request's objects take of memory, each at most, while they are read.
const OBJECT_BYTES: usize = 256;

/// How many names an error lists.
const NAMES_SHOWN: usize = 20;

/// A decoded request.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) rows: Rows,
    pub(super) wanted: Wanted,
    pub(super) timeout: Option<Duration>,
}

/// The JSON of a request. What else it has is ignored.
#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default)]
    parameters: Option<Parameters>,
    #[serde(borrow)]
    inputs: Vec<Tensor<'a>>,
    #[serde(borrow, default)]
    outputs: Option<Vec<Output<'a>>>,
}

#[derive(Deserialize, Default)]
struct Parameters {
    #[serde(default)]
    binary_data_output: Option<bool>,
    /// Microseconds; 0 is no limit.
    #[serde(default)]
    timeout: Option<u64>,
}

#[derive(Deserialize)]
struct Tensor<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    shape: Shape,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<TensorParameters>,
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize, Default)]
struct TensorParameters {
    #[serde(default)]
    binary_data_size: Option<u64>,
    #[serde(default)]
    shared_memory_region: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Output<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(default)]
    parameters: Option<OutputParameters>,
}

#[derive(Deserialize, Default)]
struct OutputParameters {
    #[serde(default)]
    binary_data: Option<bool>,
    #[serde(default)]
    classification: Option<u64>,
    #[serde(default)]
    shared_memory_region: Option<serde::de::IgnoredAny>,
}

/// A few dimensions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Shape {
    dimensions: [u64; DIMENSIONS_MAX],
    count: usize,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {DIMENSIONS_MAX} sizes from 0 on")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
                let mut shape = Shape {
                    dimensions: [0; DIMENSIONS_MAX],
                    count: 0,
                };
                while let Some(size) = seq.next_element()? {
                    let place = shape.dimensions.get_mut(shape.count);
                    *place.ok_or_else(|| {
                        A::Error::custom(format!("a shape has at most {DIMENSIONS_MAX} sizes"))
                    })? = size;
                    shape.count += 1;
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_seq(Dimensions)
    }
}

impl Shape {
    fn sizes(&self) -> &[u64] {
        &self.dimensions[..self.count]
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.sizes())
    }
}

/// Where a tensor's data are.
enum Data<'a> {
    Json(&'a RawValue),
    Binary(&'a [u8]),
}

/// A tensor whose sizes were checked.
struct Checked<'a> {
    name: Cow<'a, str>,
    datatype: Datatype,
    shape: Shape,
    data: Data<'a>,
}

fn invalid(text: impl Into<String>) -> RequestError {
    RequestError::new(Code::InvalidInput, text)
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
    served: Served<'_>,
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
        return decode_bare(binary, served, charge);
    }
    let json = without_mark(json);
    charge_parsing(json, charge)?;
    match serde_json::from_slice(json) {
        Ok(document) => take(document, binary, served, charge),
        Err(error) if error.is_syntax() => {
            // Real clients send the bare word NaN.
            let mut features = served.signature.features.iter();
            let may_be_missing = features.any(|feature| feature.may_be_missing);
            let Some(nulls) = with_nulls(json).filter(|_| may_be_missing) else {
                return Err(refusal(json, &error));
            };
            charge.grow(nulls.len())?;
            let document = serde_json::from_slice(&nulls);
            let document = document.map_err(|error| refusal(&nulls, &error))?;
            take(document, binary, served, charge)
        }
        Err(error) => Err(refusal(json, &error)),
    }
}

/// Charges what reading the JSON takes, without the tensors' data.
fn charge_parsing(json: &[u8], charge: &mut Charge) -> Result<(), RequestError> {
    let (mut objects, mut lists) = (0_usize, 0_usize);
    for byte in json {
        objects += usize::from(*byte == b'{');
        lists += usize::from(*byte == b'[');
    }
    // The parser notes a byte for each list that it skips.
    let bytes = objects.saturating_mul(OBJECT_BYTES).saturating_add(lists);
    charge.grow(bytes.saturating_add(copied_bytes(json)))
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
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Decoded, RequestError> {
    let (name, bytes) = match served.precision {
        Precision::F32 => ("FP32", 4),
        Precision::F64 => ("FP64", 8),
    };
    let width = served.signature.width();
    let row = bytes * width;
    if binary.is_empty() || !binary.len().is_multiple_of(row) {
        return Err(invalid(format!(
            "a body without JSON must hold rows of {width} values in {name}, {row} bytes each, but has {} bytes",
            binary.len()
        )));
    }
    let shape = Shape {
        dimensions: [(binary.len() / row) as u64, width as u64, 0, 0, 0, 0, 0, 0],
        count: 2,
    };
    let tensor = Checked {
        name: Cow::Borrowed("input"),
        datatype: Datatype::named(name).unwrap_or(Datatype::Fp64),
        shape,
        data: Data::Binary(binary),
    };
    let rows = rows(vec![tensor], served, charge)?;
    let outputs = vec![WantedOutput::usual(true)];
    Ok(Decoded {
        rows,
        wanted: Wanted { id: None, outputs },
        timeout: None,
    })
}

fn take(
    document: Document<'_>,
    binary: &[u8],
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Decoded, RequestError> {
    let Document {
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
                let parameters = output.parameters.unwrap_or_default();
                if parameters.shared_memory_region.is_some() {
                    return Err(no_shared_memory());
                }
                WantedOutput::named(
                    &output.name,
                    parameters.binary_data.unwrap_or(in_binary),
                    parameters.classification,
                    served,
                )
            })
            .collect::<Result<_, _>>()?,
    };
    let tensors = checked(inputs, binary)?;
    let rows = rows(tensors, served, charge)?;
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
            (None, Some(json)) => {
                // A value takes a byte at the least, and a comma before the next.
                if count > json.get().len().div_ceil(2) {
                    return Err(named(format!(
                        "its shape {} holds {count} values, but its data are fewer",
                        input.shape
                    )));
                }
                Data::Json(json)
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
                Data::Binary(own)
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

/// Turns tensors into rows: one tensor of all features, or a tensor for each feature.
fn rows(
    tensors: Vec<Checked<'_>>,
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let signature = served.signature;
    let width = signature.width();
    let place = |name: &str| signature.names().position(|own| own == name);
    let is_matrix = match &tensors[..] {
        [one] => width == 1 || place(&one.name).is_none(),
        _ => false,
    };
    let count = if is_matrix {
        matrix_rows(&tensors[0], width, signature)?
    } else {
        column_rows(&tensors, signature)?
    };
    if count > served.rows_max {
        let text = format!(
            "a request may hold {} rows (--max-rows); send fewer at a time",
            served.rows_max
        );
        return Err(RequestError::new(Code::ContentTooLarge, text));
    }
    // As many as the request has bytes for.
    let values = count.saturating_mul(width);
    charge.grow(values.saturating_mul(size_of::<f64>()))?;
    let mut all = vec![0.0; values];
    for tensor in &tensors {
        let own = if is_matrix { None } else { place(&tensor.name) };
        let target = match own {
            Some(place) => Target {
                first: place,
                step: width,
                features: std::slice::from_ref(&signature.features[place]),
            },
            None => Target {
                first: 0,
                step: 1,
                features: &signature.features,
            },
        };
        tensor.read(target, &mut all)?;
    }
    Rows::new(all, width)
        .ok_or_else(|| RequestError::new(Code::Internal, "the decoded rows do not fit the model"))
}

/// Rows of a tensor `[N, width]`, or of one row `[width]`.
fn matrix_rows(
    tensor: &Checked<'_>,
    width: usize,
    signature: &Signature,
) -> Result<usize, RequestError> {
    let wide = width as u64;
    let rows = match *tensor.shape.sizes() {
        [count, 1] | [count] if width == 1 => Some(count),
        [count, own] if own == wide => Some(count),
        [own] if own == wide => Some(1),
        _ => None,
    };
    let rows = rows.and_then(|rows| usize::try_from(rows).ok());
    rows.ok_or_else(|| {
        invalid(format!(
            "input {} has the shape {}, but must have [rows, {width}], or there must be a tensor for each feature: {}",
            echo(&tensor.name),
            tensor.shape,
            names(signature.names(), width)
        ))
    })
}

/// Rows of a tensor `[N]` or `[N, 1]` for each feature.
fn column_rows(tensors: &[Checked<'_>], signature: &Signature) -> Result<usize, RequestError> {
    let takes = || names(signature.names(), signature.width());
    let mut seen = vec![false; signature.width()];
    let mut rows = None;
    for tensor in tensors {
        let place = signature.names().position(|own| own == tensor.name);
        let place = place.ok_or_else(|| {
            invalid(format!(
                "input {} is no feature of the model, which takes {}",
                echo(&tensor.name),
                takes()
            ))
        })?;
        if std::mem::replace(&mut seen[place], true) {
            return Err(invalid(format!(
                "input {} occurs twice",
                echo(&tensor.name)
            )));
        }
        let own = match *tensor.shape.sizes() {
            [count] | [count, 1] => count,
            _ => {
                return Err(invalid(format!(
                    "input {} has the shape {}, but a feature's tensor has [rows] or [rows, 1]",
                    echo(&tensor.name),
                    tensor.shape
                )));
            }
        };
        match rows {
            Some(rows) if rows != own => {
                return Err(invalid(format!(
                    "input {} has {own} rows, but the ones before have {rows}",
                    echo(&tensor.name)
                )));
            }
            _ => rows = Some(own),
        }
    }
    let missing = signature.names().zip(&seen).filter(|(_, seen)| !**seen);
    let missing: Vec<&str> = missing.map(|(name, _)| name).collect();
    if !missing.is_empty() {
        return Err(invalid(format!(
            "\"inputs\" lacks {}: the model takes {}",
            names(missing.iter().copied(), missing.len()),
            takes()
        )));
    }
    Ok(rows
        .and_then(|rows| usize::try_from(rows).ok())
        .unwrap_or(0))
}

fn names<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let shown: Vec<&str> = names.take(NAMES_SHOWN).collect();
    match count.saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Where a tensor's values go.
#[derive(Clone, Copy)]
struct Target<'a> {
    /// The place of the first.
    first: usize,
    /// The distance to the next.
    step: usize,
    /// What they are, in turn.
    features: &'a [Feature],
}

impl Checked<'_> {
    fn read(&self, target: Target<'_>, all: &mut [f64]) -> Result<(), RequestError> {
        let mut sink = Sink {
            tensor: self,
            target,
            all,
            next: 0,
            count: 0,
        };
        // The sizes were checked: there is a place for each value of the shape.
        sink.count = sink
            .all
            .len()
            .saturating_sub(target.first)
            .div_ceil(target.step);
        let wrong = |text: String| invalid(format!("input {}: {text}", echo(&self.name)));
        match &self.data {
            Data::Binary(bytes) => sink.read_binary(bytes).map_err(wrong)?,
            Data::Json(json) => {
                let mut reader = serde_json::Deserializer::from_str(json.get());
                let read = Nested {
                    sink: &mut sink,
                    depth: 0,
                }
                .deserialize(&mut reader);
                read.map_err(|error| {
                    let text = error.to_string();
                    // Its place is that within the data.
                    wrong(text.split(" at line ").next().unwrap_or(&text).to_owned())
                })?;
            }
        }
        if sink.next != sink.count {
            return Err(wrong(format!(
                "its shape {} holds {} values, but its data {}",
                self.shape, sink.count, sink.next
            )));
        }
        Ok(())
    }
}

/// Takes a tensor's values one by one.
struct Sink<'a, 'v> {
    tensor: &'a Checked<'a>,
    target: Target<'a>,
    all: &'v mut [f64],
    /// How many came, and how many there are.
    next: usize,
    count: usize,
}

impl Sink<'_, '_> {
    fn put(&mut self, element: Element<'_>) -> Result<(), String> {
        if self.next == self.count {
            return Err(format!(
                "its shape {} holds {} values, but its data are more",
                self.tensor.shape, self.count
            ));
        }
        let features = self.target.features;
        let feature = &features[self.next % features.len()];
        let value = self.tensor.datatype.value(element, feature);
        let value = value.map_err(|text| format!("value {} is {text}", self.next))?;
        self.all[self.target.first + self.next * self.target.step] = value;
        self.next += 1;
        Ok(())
    }

    fn read_binary(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let datatype = self.tensor.datatype;
        if let Some(size) = datatype.bytes() {
            return bytes
                .chunks_exact(size)
                .try_for_each(|value| self.put(datatype.read(value)));
        }
        while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
            if length > rest.len() {
                return Err(format!(
                    "value {} says that it has {length} bytes, but {} are left",
                    self.next,
                    rest.len()
                ));
            }
            let (text, rest) = rest.split_at(length);
            let text = std::str::from_utf8(text)
                .map_err(|_| format!("value {} is not UTF-8", self.next))?;
            self.put(Element::Text(text))?;
            bytes = rest;
        }
        match bytes.is_empty() {
            true => Ok(()),
            false => Err("its last value is cut off".to_owned()),
        }
    }
}

/// Data in JSON: values, or lists of them.
struct Nested<'s, 'a, 'v> {
    sink: &'s mut Sink<'a, 'v>,
    depth: usize,
}

impl<'de> DeserializeSeed<'de> for Nested<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Nested<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("its data as a list"),
            _ => write!(f, "a value of the tensor as value {}", self.sink.next),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        if self.depth == DIMENSIONS_MAX {
            return Err(A::Error::custom(format!(
                "its data are nested deeper than {DIMENSIONS_MAX} lists"
            )));
        }
        let Nested { sink, depth } = self;
        loop {
            let next = Nested {
                sink: &mut *sink,
                depth: depth + 1,
            };
            if seq.next_element_seed(next)?.is_none() {
                return Ok(());
            }
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.put(Element::Number(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.put(Element::Number(value as f64))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.put(Element::Number(value as f64))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.put(Element::Flag(value))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.put(Element::Text(value))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.put(Element::Null)
    }
}

impl Nested<'_, '_, '_> {
    fn put<E: Error>(self, element: Element<'_>) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom("its data must be a list"));
        }
        self.sink.put(element).map_err(E::custom)
    }
}
