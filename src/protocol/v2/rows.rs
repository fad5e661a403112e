//! Tensors of V2 into rows: one tensor of all features, or a tensor for each feature.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::tensor::{Datatype, Element};
use super::values::{Nested, Sink};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Feature, Rows, Signature};
use crate::protocol::RowSpec;
use crate::protocol::echo;
use crate::protocol::object::Whole;

/// Maximum number of dimensions of a tensor, and of nested lists of its data.
pub(super) const DIMENSIONS_MAX: usize = 8;

/// How many names an error lists.
const NAMES_SHOWN: usize = 20;

/// A few dimensions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TensorShape {
    dimensions: [u64; DIMENSIONS_MAX],
    count: usize,
}

impl<'de> Deserialize<'de> for TensorShape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = TensorShape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a shape of at most {DIMENSIONS_MAX} sizes from 0 on")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<TensorShape, A::Error> {
                let mut shape = TensorShape {
                    dimensions: [0; DIMENSIONS_MAX],
                    count: 0,
                };
                while let Some(Whole(size)) = seq.next_element()? {
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

impl TensorShape {
    /// Makes a shape of the first sizes.
    pub(super) fn new(sizes: &[u64]) -> Self {
        let mut shape = TensorShape {
            dimensions: [0; DIMENSIONS_MAX],
            count: sizes.len().min(DIMENSIONS_MAX),
        };
        shape.dimensions[..shape.count].copy_from_slice(&sizes[..shape.count]);
        shape
    }

    pub(super) fn sizes(&self) -> &[u64] {
        &self.dimensions[..self.count]
    }
}

impl fmt::Display for TensorShape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.sizes())
    }
}

/// Where a tensor's data are.
#[derive(Debug)]
pub(super) enum TensorData<'a> {
    Json(&'a RawValue),
    Binary(&'a [u8]),
    /// Already read: as many numbers as the shape says, whose memory is charged.
    Numbers(Vec<f64>),
}

/// A tensor whose sizes were checked.
pub(super) struct Checked<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) datatype: Datatype,
    pub(super) shape: TensorShape,
    pub(super) data: TensorData<'a>,
}

/// The refusal of a request that does not fit the model.
pub(super) fn invalid(text: impl Into<String>) -> RequestError {
    RequestError::new(Code::InvalidInput, text)
}

/// The refusal of more rows than a request may have.
pub(super) fn too_many(rows_max: usize) -> RequestError {
    let text = format!("a request may hold {rows_max} rows (--max-rows); send fewer at a time");
    RequestError::new(Code::ContentTooLarge, text)
}

/// Turns tensors into rows: one tensor of all features, or a tensor for each feature.
pub(super) fn rows(
    tensors: Vec<Checked<'_>>,
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let signature = row_spec.signature;
    let width = signature.width();
    let is_matrix = match &tensors[..] {
        [one] => width == 1 || !signature.names().any(|own| own == one.name),
        _ => false,
    };
    let places = match is_matrix {
        true => HashMap::new(),
        false => places(signature),
    };
    let count = match &tensors[..] {
        [one] if is_matrix => matrix_rows(one, width, signature)?,
        _ => column_rows(&tensors, &places, signature)?,
    };
    if count > row_spec.rows_max {
        return Err(too_many(row_spec.rows_max));
    }
    let matrix = |values| {
        Rows::new(values, width).ok_or_else(|| {
            RequestError::new(Code::Internal, "the decoded rows do not fit the model")
        })
    };
    let tensors = match one_of_numbers(tensors) {
        Ok(numbers) => return matrix(numbers),
        Err(tensors) => tensors,
    };
    // As many as the request has bytes for.
    let values = count.saturating_mul(width);
    charge.grow(values.saturating_mul(size_of::<f64>()))?;
    let may_be_absent = signature.features.iter().any(Feature::is_unused);
    let mut all = vec![if may_be_absent { f64::NAN } else { 0.0 }; values];
    for tensor in &tensors {
        let target = match places.get(&*tensor.name).copied() {
            Some(place) => ValueTarget {
                first: place,
                step: width,
                features: std::slice::from_ref(&signature.features[place]),
            },
            None => ValueTarget {
                first: 0,
                step: 1,
                features: &signature.features,
            },
        };
        tensor.read(target, &mut all)?;
    }
    matrix(all)
}

/// The numbers of a tensor that was already read, which are the rows; or the tensors as they are.
fn one_of_numbers(mut tensors: Vec<Checked<'_>>) -> Result<Vec<f64>, Vec<Checked<'_>>> {
    match &mut tensors[..] {
        [
            Checked {
                data: TensorData::Numbers(numbers),
                ..
            },
        ] => Ok(std::mem::take(numbers)),
        _ => Err(tensors),
    }
}

/// The features by name.
fn places(signature: &Signature) -> HashMap<&str, usize> {
    let names = signature.names().enumerate();
    names.map(|(place, name)| (name, place)).collect()
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
fn column_rows(
    tensors: &[Checked<'_>],
    places: &HashMap<&str, usize>,
    signature: &Signature,
) -> Result<usize, RequestError> {
    let takes = || names(signature.names(), signature.width());
    let mut seen = vec![false; signature.width()];
    let mut rows = None;
    for tensor in tensors {
        let place = places.get(&*tensor.name).copied();
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
    let features = signature.features.iter().zip(&seen);
    let missing = features.filter(|(feature, seen)| !**seen && !feature.is_unused());
    let missing: Vec<&str> = missing.map(|(feature, _)| feature.name.as_str()).collect();
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
struct ValueTarget<'a> {
    /// The place of the first.
    first: usize,
    /// The distance to the next.
    step: usize,
    /// What they are, in turn.
    features: &'a [Feature],
}

impl Checked<'_> {
    fn read(&self, target: ValueTarget<'_>, all: &mut [f64]) -> Result<(), RequestError> {
        let mut sink = ValuePlaces {
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
            TensorData::Binary(bytes) => sink.read_binary(bytes).map_err(wrong)?,
            TensorData::Numbers(numbers) => numbers
                .iter()
                .try_for_each(|number| sink.put(Element::Number(*number)))
                .map_err(wrong)?,
            TensorData::Json(json) => {
                let mut reader = serde_json::Deserializer::from_str(json.get());
                Nested::new(&mut sink)
                    .deserialize(&mut reader)
                    .map_err(|error| {
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

/// The places of a tensor's values in the rows.
struct ValuePlaces<'a, 'v> {
    tensor: &'a Checked<'a>,
    target: ValueTarget<'a>,
    all: &'v mut [f64],
    /// How many came, and how many there are.
    next: usize,
    count: usize,
}

impl Sink for ValuePlaces<'_, '_> {
    fn taken(&self) -> usize {
        self.next
    }

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
}

impl ValuePlaces<'_, '_> {
    /// Takes numbers of `N` bytes each, which are as many as the shape says.
    fn copy<const N: usize>(&mut self, bytes: &[u8], read: impl Fn(&[u8; N]) -> f64) {
        let (numbers, _) = bytes.as_chunks::<N>();
        let ValueTarget { first, step, .. } = self.target;
        let mut put = |(place, number): (&mut f64, &[u8; N])| *place = read(number);
        let places = self.all.iter_mut().skip(first);
        match step {
            // Neighbours are copied several at a time.
            1 => places.zip(numbers).for_each(&mut put),
            _ => places.step_by(step).zip(numbers).for_each(&mut put),
        }
        self.next = numbers.len();
    }

    fn read_binary(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        let datatype = self.tensor.datatype;
        let takes_text = |feature: &Feature| feature.kind.takes_text();
        match datatype {
            // Any such number is a feature's value as it is; what a model takes is checked later.
            Datatype::Fp32 if !self.target.features.iter().any(takes_text) => {
                self.copy(bytes, |four: &[u8; 4]| f64::from(f32::from_le_bytes(*four)));
                return Ok(());
            }
            Datatype::Fp64 if !self.target.features.iter().any(takes_text) => {
                self.copy(bytes, |eight: &[u8; 8]| f64::from_le_bytes(*eight));
                return Ok(());
            }
            _ => {}
        }
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
