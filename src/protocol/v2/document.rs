//! The JSON of a request of V2.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::fmt;

use serde::de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::rows::{TensorData, TensorShape, invalid, too_many};
use super::tensor::Datatype;
use super::values::{Nested, Numbers, Sink};
use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;
use crate::models::Feature;
use crate::protocol::object::{self, JsonObject, NamedObject, Whole};
use crate::protocol::{RowSpec, echo};

/// The JSON of a request. What else it has is ignored.
#[derive(Default)]
pub(super) struct RequestDocument<'a> {
    pub(super) id: Option<Cow<'a, str>>,
    pub(super) parameters: Option<RequestParameters>,
    pub(super) inputs: Vec<Tensor<'a>>,
    pub(super) outputs: Option<Vec<AskedOutput<'a>>>,
}

/// Parameters of the request.
#[derive(Deserialize, Default)]
pub(super) struct RequestParameters {
    #[serde(default, deserialize_with = "binary_data_output")]
    pub(super) binary_data_output: Option<bool>,
    /// Microseconds; 0 is no limit.
    #[serde(default, deserialize_with = "microseconds")]
    pub(super) timeout: Option<u64>,
}

/// A tensor of the inputs. Its data are parsed only if they are numbers of all features.
pub(super) struct Tensor<'a> {
    pub(super) name: Cow<'a, str>,
    pub(super) shape: TensorShape,
    pub(super) datatype: Cow<'a, str>,
    pub(super) parameters: Option<TensorParameters>,
    pub(super) data: Option<TensorData<'a>>,
}

/// Parameters of a tensor.
#[derive(Deserialize, Default)]
pub(super) struct TensorParameters {
    #[serde(default, deserialize_with = "bytes")]
    pub(super) binary_data_size: Option<u64>,
    #[serde(default)]
    pub(super) shared_memory_region: Option<serde::de::IgnoredAny>,
}

/// An output that is asked for.
#[derive(Deserialize)]
pub(super) struct AskedOutput<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    #[serde(default)]
    pub(super) parameters: Option<JsonObject<OutputParameters>>,
}

/// Parameters of an output.
#[derive(Deserialize, Default)]
pub(super) struct OutputParameters {
    #[serde(default, deserialize_with = "binary_data")]
    pub(super) binary_data: Option<bool>,
    #[serde(default, deserialize_with = "classes")]
    pub(super) classification: Option<u64>,
    #[serde(default)]
    pub(super) shared_memory_region: Option<serde::de::IgnoredAny>,
}

impl NamedObject for RequestParameters {
    const NAME: &'static str = "\"parameters\"";
}

impl NamedObject for TensorParameters {
    const NAME: &'static str = "a tensor's \"parameters\"";
}

impl NamedObject for AskedOutput<'_> {
    const NAME: &'static str = "one of \"outputs\"";
}

impl NamedObject for OutputParameters {
    const NAME: &'static str = "an output's \"parameters\"";
}

fn binary_data_output<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<bool>, D::Error> {
    object::parameter(deserializer, "binary_data_output")
}

fn binary_data<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    object::parameter(deserializer, "binary_data")
}

fn classes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole(deserializer, "classification", "classes")
}

fn microseconds<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole(deserializer, "timeout", "microseconds")
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    whole(deserializer, "binary_data_size", "bytes")
}

/// A whole number from 0; errors name the parameter.
fn whole<'de, D: Deserializer<'de>>(
    deserializer: D,
    name: &str,
    unit: &str,
) -> Result<Option<u64>, D::Error> {
    let number: Option<Whole> = Deserialize::deserialize(deserializer).map_err(|error| {
        D::Error::custom(format!(
            "the parameter {name:?} counts whole {unit} from 0: {error}"
        ))
    })?;
    Ok(number.map(|number| number.0))
}

/// A text that borrows from the body if it can.
#[derive(Deserialize)]
struct BorrowedText<'a>(#[serde(borrow)] Cow<'a, str>);

/// Reads a document for a model, and gives up where it is known to be refused: large data are not
/// skipped first.
///
/// One tensor of all features, as most clients send, is parsed while the document is read, if its data
/// come last and are numbers. All other data are skipped first and parsed when all tensors are known.
pub(super) struct Reading<'a> {
    row_spec: RowSpec<'a>,
    json_bytes: usize,
    refused: Cell<Option<RequestError>>,
    /// Whether data that are numbers may be parsed at once: those of the first tensor may.
    at_once: Cell<bool>,
    /// Whether that was tried, and they were something else.
    are_not_numbers: Cell<bool>,
    charge: RefCell<&'a mut Charge>,
}

impl<'a> Reading<'a> {
    /// Reads a document.
    ///
    /// # Errors
    ///
    /// What is known to be wrong, or what the parser says.
    pub(super) fn read<'de>(
        json: &'de [u8],
        row_spec: RowSpec<'a>,
        charge: &'a mut Charge,
    ) -> Result<RequestDocument<'de>, Result<RequestError, serde_json::Error>> {
        let mut reading = Reading {
            row_spec,
            json_bytes: json.len(),
            refused: Cell::default(),
            at_once: Cell::new(true),
            are_not_numbers: Cell::default(),
            charge: RefCell::new(charge),
        };
        let before = reading.charge.get_mut().bytes();
        let document = reading.document(json);
        if !reading.are_not_numbers.get() {
            return document.map_err(|error| reading.refused.take().ok_or(error));
        }
        // What it says of them is said by the other way.
        reading.charge.get_mut().shrink_to(before);
        reading.at_once.set(false);
        let document = reading.document(json);
        document.map_err(|error| reading.refused.take().ok_or(error))
    }

    fn document<'de>(&self, json: &'de [u8]) -> Result<RequestDocument<'de>, serde_json::Error> {
        let mut reader = serde_json::Deserializer::from_slice(json);
        let document = self.deserialize(&mut reader)?;
        reader.end().map(|()| document)
    }

    /// Makes room for a tensor's numbers if they may be parsed at once: it is the one tensor of all
    /// features, and each of its numbers is a feature's value as it is.
    fn numbers(&self, name: &str, shape: &TensorShape, datatype: &str) -> Option<Numbers> {
        if !self.at_once.get() {
            return None;
        }
        let signature = self.row_spec.signature;
        let is_one = signature.width() == 1 || !signature.names().any(|own| own == name);
        let takes_text = |feature: &Feature| feature.kind.takes_text();
        if !is_one || signature.features.iter().any(takes_text) {
            return None;
        }
        let datatype = Datatype::named(datatype)
            .filter(|own| matches!(own, Datatype::Fp32 | Datatype::Fp64))?;
        let sizes = shape.sizes().iter().copied();
        let count = sizes.into_iter().try_fold(1_u64, u64::checked_mul)?;
        let count = usize::try_from(count).ok()?;
        let mut all = Vec::new();
        let mut charge = self.charge.borrow_mut();
        charge.reserve(&mut all, count, count).ok()?;
        Some(Numbers {
            all,
            room: count,
            datatype,
            may_be_missing: signature.features.iter().all(|one| one.may_be_missing),
        })
    }

    fn give_up<E: serde::de::Error>(&self, refusal: RequestError) -> E {
        self.refused.set(Some(refusal));
        E::custom("refused")
    }

    /// Parses the data that come next as so many numbers.
    fn read_numbers<'de, A: MapAccess<'de>>(
        &self,
        mut numbers: Numbers,
        map: &mut A,
    ) -> Result<TensorData<'de>, A::Error> {
        let read = map.next_value_seed(Nested::new(&mut numbers));
        let read = read.and_then(|()| match numbers.taken() == numbers.room {
            true => Ok(TensorData::Numbers(numbers.all)),
            false => Err(A::Error::custom("too few")),
        });
        if read.is_err() {
            self.are_not_numbers.set(true);
        }
        read
    }

    /// Refuses a tensor whose data follow, if its shape cannot be right.
    ///
    /// # Errors
    ///
    /// It holds more values than the request has bytes for, or than a request may have rows.
    fn check_shape(&self, name: &str, shape: &TensorShape) -> Result<(), RequestError> {
        let sizes = shape.sizes().iter();
        let count = sizes.copied().try_fold(1_u64, u64::checked_mul);
        let Some(count) = count else {
            // The refusal of such a shape comes later, and says so.
            return Ok(());
        };
        if count > self.json_bytes.div_ceil(2) as u64 {
            return Err(fewer(name, shape, count));
        }
        let rows_max = self.row_spec.rows_max;
        let values_max = (rows_max as u64).saturating_mul(self.row_spec.signature.width() as u64);
        match count > values_max {
            true => Err(too_many(rows_max)),
            false => Ok(()),
        }
    }
}

/// A tensor's data are fewer than its shape says.
pub(super) fn fewer(name: &str, shape: &TensorShape, count: u64) -> RequestError {
    invalid(format!(
        "input {}: its shape {shape} holds {count} values, but its data are fewer",
        echo(name)
    ))
}

/// Sets a field once.
fn set<T, E: serde::de::Error>(
    field: &mut Option<T>,
    name: &'static str,
    value: T,
) -> Result<(), E> {
    match field.replace(value) {
        None => Ok(()),
        Some(_) => Err(E::duplicate_field(name)),
    }
}

impl<'de> DeserializeSeed<'de> for &Reading<'_> {
    type Value = RequestDocument<'de>;

    fn deserialize<D: Deserializer<'de>>(
        self,
        deserializer: D,
    ) -> Result<RequestDocument<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for &Reading<'_> {
    type Value = RequestDocument<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with the field \"inputs\"")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RequestDocument<'de>, A::Error> {
        let (mut id, mut parameters, mut inputs, mut outputs) = (None, None, None, None);
        while let Some(key) = map.next_key::<BorrowedText<'de>>()? {
            match &*key.0 {
                "id" => {
                    let text: Option<BorrowedText<'de>> = map.next_value()?;
                    set(&mut id, "id", text.map(|text| text.0))?;
                }
                "parameters" => {
                    let object: Option<JsonObject<RequestParameters>> = map.next_value()?;
                    set(&mut parameters, "parameters", object.map(|object| object.0))?;
                }
                "inputs" => set(&mut inputs, "inputs", map.next_value_seed(Inputs(self))?)?,
                "outputs" => {
                    let list: Option<Vec<JsonObject<AskedOutput<'de>>>> = map.next_value()?;
                    let list = list.map(|list| list.into_iter().map(|one| one.0).collect());
                    set(&mut outputs, "outputs", list)?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(RequestDocument {
            id: id.flatten(),
            parameters: parameters.flatten(),
            inputs: inputs.ok_or_else(|| A::Error::missing_field("inputs"))?,
            outputs: outputs.flatten(),
        })
    }
}

/// The list of tensors.
struct Inputs<'r, 'a>(&'r Reading<'a>);

impl<'de> DeserializeSeed<'de> for Inputs<'_, '_> {
    type Value = Vec<Tensor<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Inputs<'_, '_> {
    type Value = Vec<Tensor<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of tensors as \"inputs\"")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let width = self.0.row_spec.signature.width();
        let mut tensors = Vec::new();
        while let Some(tensor) = seq.next_element_seed(OneInput(self.0))? {
            tensors.push(tensor);
            self.0.at_once.set(false);
            // One of all features, or one for each.
            if tensors.len() > width.max(1) {
                return Err(self.0.give_up(invalid(format!(
                    "\"inputs\" has more tensors than the model has features, {width}"
                ))));
            }
        }
        Ok(tensors)
    }
}

/// A tensor of the list.
struct OneInput<'r, 'a>(&'r Reading<'a>);

impl<'de> DeserializeSeed<'de> for OneInput<'_, '_> {
    type Value = Tensor<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for OneInput<'_, '_> {
    type Value = Tensor<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a tensor: an object with name, shape and datatype")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut name, mut shape, mut datatype) = (None, None, None);
        let (mut parameters, mut data) = (None, None);
        while let Some(key) = map.next_key::<BorrowedText<'de>>()? {
            match &*key.0 {
                "name" => set(&mut name, "name", map.next_value::<BorrowedText<'de>>()?.0)?,
                "shape" => set(&mut shape, "shape", map.next_value()?)?,
                "datatype" => set(
                    &mut datatype,
                    "datatype",
                    map.next_value::<BorrowedText<'de>>()?.0,
                )?,
                "parameters" => {
                    let object: Option<JsonObject<TensorParameters>> = map.next_value()?;
                    set(&mut parameters, "parameters", object.map(|object| object.0))?;
                }
                "data" => {
                    if let (Some(name), Some(shape)) = (&name, &shape) {
                        let checked = self.0.check_shape(name, shape);
                        checked.map_err(|refusal| self.0.give_up(refusal))?;
                    }
                    let numbers = match (&name, &shape, &datatype) {
                        (Some(name), Some(shape), Some(datatype)) => {
                            self.0.numbers(name, shape, datatype)
                        }
                        _ => None,
                    };
                    let value = match numbers {
                        Some(numbers) => Some(self.0.read_numbers(numbers, &mut map)?),
                        None => map
                            .next_value::<Option<&'de RawValue>>()?
                            .map(TensorData::Json),
                    };
                    set(&mut data, "data", value)?;
                }
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        let missing = A::Error::missing_field;
        Ok(Tensor {
            name: name.ok_or_else(|| missing("name"))?,
            shape: shape.ok_or_else(|| missing("shape"))?,
            datatype: datatype.ok_or_else(|| missing("datatype"))?,
            parameters: parameters.flatten(),
            data: data.flatten(),
        })
    }
}
