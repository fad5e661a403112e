//! A list of instances in JSON → one flat matrix, by serde visitors and never through a tree of values.
//!
//! An instance is an array of values in the order of the features, or an object by their names. Memory
//! is eight bytes per number, charged to the budget before it is taken. Every error says which instance
//! and feature.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::blame;
use super::tokens::{Surplus, Text};
use super::value::{ECHO_MAX, Value, unexpected, unexpected_number};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Rows, Signature};
use crate::protocol::Served;

/// How many feature names an error lists.
const NAMES_SHOWN: usize = 20;
const OTHERS_SHOWN: usize = 5;

/// How a list is written.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::protocol) struct ListForm<'a> {
    /// What errors call the list.
    pub(in crate::protocol) field: &'a str,
    /// The feature of each value of an array, where that is not the order of the features; other values
    /// are left out.
    pub(in crate::protocol) columns: Option<&'a [Option<usize>]>,
    /// Whether a value may stand in a list of its own, as some clients of V1 send it.
    pub(in crate::protocol) values_in_lists: bool,
}

/// What reads instances needs to know, and what it finds.
pub(super) struct Decoding<'a> {
    body: &'a [u8],
    form: ListForm<'a>,
    signature: &'a Signature,
    indices: HashMap<&'a str, usize>,
    rows_max: usize,
    charge: RefCell<&'a mut Charge>,
    /// Why decoding stopped, if the parser cannot say it.
    refusal: RefCell<Option<RequestError>>,
    /// The instance and the feature whose number is being read.
    reading: Cell<Option<(usize, usize)>>,
    /// What else the present instance has, for an error.
    others: RefCell<Others>,
}

/// Names that are not features: the first few, truncated, and how many there are.
#[derive(Default)]
struct Others {
    shown: Vec<String>,
    count: usize,
}

impl Others {
    fn clear(&mut self) {
        self.shown.clear();
        self.count = 0;
    }

    fn add(&mut self, name: &str) {
        self.count += 1;
        if self.shown.len() < OTHERS_SHOWN {
            let short: String = name.chars().take(ECHO_MAX).collect();
            self.shown.push(short.escape_debug().to_string());
        }
    }
}

impl<'a> Decoding<'a> {
    /// Starts to read a list in `body`.
    pub(super) fn new(
        body: &'a [u8],
        form: ListForm<'a>,
        (signature, rows_max): (&'a Signature, usize),
        charge: &'a mut Charge,
    ) -> Self {
        let indices = signature.names().enumerate();
        Decoding {
            body,
            form,
            signature,
            indices: indices.map(|(index, name)| (name, index)).collect(),
            rows_max,
            charge: RefCell::new(charge),
            refusal: RefCell::new(None),
            reading: Cell::new(None),
            others: RefCell::default(),
        }
    }

    fn width(&self) -> usize {
        self.signature.features.len()
    }

    /// Makes room for one more row.
    fn reserve<E: Error>(&self, values: &mut Vec<f64>) -> Result<(), E> {
        let reserved = self
            .charge
            .borrow_mut()
            .reserve(values, self.width(), usize::MAX);
        reserved.map_err(|refusal| self.give_up(refusal))
    }

    fn give_up<E: Error>(&self, refusal: RequestError) -> E {
        *self.refusal.borrow_mut() = Some(refusal);
        E::custom("given up")
    }

    fn names(&self) -> String {
        listed(self.signature.names().take(NAMES_SHOWN), self.width())
    }

    /// The names that an instance has; the values of missing ones are absent.
    fn found(&self, values: &[f64]) -> String {
        let others = self.others.borrow();
        let features = self.signature.names().zip(values);
        let features = features.filter(|(_, value)| !is_absent(**value));
        let count = features.clone().count() + others.count;
        let names = features.map(|(name, _)| name);
        let others = others.shown.iter().map(String::as_str);
        match count {
            0 => "nothing".to_owned(),
            _ => listed(names.take(NAMES_SHOWN).chain(others), count),
        }
    }

    /// Number of values in an array.
    fn columns(&self) -> usize {
        self.form.columns.map_or(self.width(), <[_]>::len)
    }

    /// Reads an array whose values belong to these features, each of which occurs.
    fn read_cells<'de, A: SeqAccess<'de>>(
        &self,
        row: usize,
        columns: &[Option<usize>],
        values: &mut Vec<f64>,
        mut seq: A,
    ) -> Result<(), A::Error> {
        let start = values.len();
        values.resize(start + self.width(), f64::from_bits(ABSENT));
        let mut count = 0;
        for column in columns {
            let came = match column {
                Some(feature) => {
                    let value = seq.next_element_seed(self.value(row, *feature))?;
                    value.map(|value| values[start + feature] = value).is_some()
                }
                None => seq.next_element::<Surplus>()?.is_some(),
            };
            if !came {
                break;
            }
            count += 1;
        }
        self.reading.set(None);
        while seq.next_element::<Surplus>()?.is_some() {
            count += 1;
        }
        match count == columns.len() {
            true => Ok(()),
            false => Err(A::Error::custom(format!(
                "{}[{row}] has {count} values, but there are {} columns",
                self.form.field,
                columns.len()
            ))),
        }
    }

    /// Reads a value; errors name its instance and feature.
    fn value(&self, row: usize, feature: usize) -> Value<'_> {
        self.reading.set(Some((row, feature)));
        Value {
            list: self.form.field,
            row,
            feature: &self.signature.features[feature],
            may_be_in_list: self.form.values_in_lists,
        }
    }

    /// What is wrong, from the parser's error.
    pub(super) fn request_error(&self, error: &serde_json::Error) -> RequestError {
        if let Some(refusal) = self.refusal.borrow_mut().take() {
            return refusal;
        }
        let text = error.to_string();
        if error.is_data() {
            return RequestError::new(Code::InvalidInput, text);
        }
        if text.starts_with("recursion limit exceeded") {
            let text = format!("the body is nested too deeply to be instances: {text}");
            return RequestError::new(Code::InvalidInput, text);
        }
        let place = self.reading.get().map(|(row, feature)| {
            let name = &self.signature.features[feature].name;
            format!("{name:?} of {}[{row}]", self.form.field)
        });
        blame::not_json(self.body, error, place)
    }
}

/// Decodes a JSON array of instances.
///
/// # Errors
///
/// As `/predict` does.
pub(in crate::protocol) fn decode_list(
    json: &[u8],
    form: ListForm<'_>,
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let Served {
        signature,
        rows_max,
        ..
    } = served;
    let decoding = Decoding::new(json, form, (signature, rows_max), charge);
    let mut reader = serde_json::Deserializer::from_slice(json);
    let values = Instances(&decoding)
        .deserialize(&mut reader)
        .and_then(|values| reader.end().map(|()| values));
    let values = values.map_err(|error| decoding.request_error(&error))?;
    rows(values, form.field, signature)
}

/// Decodes one instance per line; blank lines are left out.
///
/// # Errors
///
/// As `/predict` does.
pub(in crate::protocol) fn decode_lines(
    body: &[u8],
    served: Served<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let form = ListForm {
        field: "lines",
        ..ListForm::default()
    };
    let Served {
        signature,
        rows_max,
        ..
    } = served;
    let decoding = Decoding::new(body, form, (signature, rows_max), charge);
    let lines = body.split(|byte| *byte == b'\n');
    let lines = lines.filter(|line| !line.trim_ascii().is_empty());
    let mut values = Vec::new();
    for (row, line) in lines.enumerate() {
        if row == rows_max {
            return Err(too_many(rows_max));
        }
        let mut reader = serde_json::Deserializer::from_slice(line);
        Instance(&decoding, row, &mut values)
            .deserialize(&mut reader)
            .and_then(|()| reader.end())
            .map_err(|error| {
                let mut refusal = decoding.request_error(&error);
                // Lines are counted from 0, as the parser's column is the line's own.
                refusal.text = format!("line {row} of the body: {}", refusal.text);
                refusal
            })?;
    }
    rows(values, form.field, signature)
}

fn rows(values: Vec<f64>, field: &str, signature: &Signature) -> Result<Rows, RequestError> {
    if values.is_empty() {
        let text = format!("{field:?} is empty: at least one instance is needed");
        return Err(RequestError::new(Code::InvalidInput, text));
    }
    Rows::new(values, signature.width())
        .ok_or_else(|| RequestError::new(Code::Internal, "the decoded rows do not fit the model"))
}

fn too_many(rows_max: usize) -> RequestError {
    let text =
        format!("a request may hold {rows_max} instances (--max-rows); send fewer at a time");
    RequestError::new(Code::ContentTooLarge, text)
}

/// Lists the first names.
fn listed<'a>(shown: impl Iterator<Item = &'a str>, count: usize) -> String {
    let shown: Vec<&str> = shown.collect();
    match count.saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The array of instances.
pub(super) struct Instances<'a>(pub(super) &'a Decoding<'a>);

impl<'de> DeserializeSeed<'de> for Instances<'_> {
    type Value = Vec<f64>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Vec<f64>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Instances<'_> {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an array of instances in {:?}", self.0.form.field)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Vec<f64>, E> {
        Err(unexpected(text, &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Vec<f64>, E> {
        Err(unexpected_number(number, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<f64>, A::Error> {
        let mut values = Vec::new();
        let mut row = 0;
        let rows_max = self.0.rows_max;
        while let Some(()) = seq.next_element_seed(Instance(self.0, row, &mut values))? {
            row += 1;
            if row > rows_max {
                return Err(self.0.give_up(too_many(rows_max)));
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
            "an array of {} numbers or an object by feature names as {}[{}]",
            self.0.columns(),
            self.0.form.field,
            self.1
        )
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(unexpected(text, &self))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        Err(unexpected_number(number, &self))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Instance(decoding, row, values) = self;
        decoding.reserve(values)?;
        if let Some(columns) = decoding.form.columns {
            return decoding.read_cells(row, columns, values, seq);
        }
        let mut count = 0;
        for feature in 0..decoding.width() {
            let Some(value) = seq.next_element_seed(decoding.value(row, feature))? else {
                break;
            };
            values.push(value);
            count += 1;
        }
        decoding.reading.set(None);
        while seq.next_element::<Surplus>()?.is_some() {
            count += 1;
        }
        if count != decoding.width() {
            return Err(A::Error::custom(format!(
                "{}[{row}] has {count} features, but the model takes {}: {}",
                decoding.form.field,
                decoding.width(),
                decoding.names(),
            )));
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Instance(decoding, row, values) = self;
        decoding.reserve(values)?;
        let start = values.len();
        values.resize(start + decoding.width(), f64::from_bits(ABSENT));
        decoding.others.borrow_mut().clear();
        let mut expected = 0;
        while let Some(key) = map.next_key::<Text>()? {
            // Most clients send the features in order.
            let in_order = decoding
                .signature
                .features
                .get(expected)
                .filter(|feature| feature.name == *key.0)
                .map(|_| expected);
            let Some(index) = in_order.or_else(|| decoding.indices.get(&*key.0).copied()) else {
                decoding.others.borrow_mut().add(&key.0);
                map.next_value::<Surplus>()?;
                continue;
            };
            let name = &decoding.signature.features[index].name;
            if !is_absent(values[start + index]) {
                return Err(A::Error::custom(format!(
                    "{}[{row}] has the feature {name:?} twice",
                    decoding.form.field
                )));
            }
            values[start + index] = map.next_value_seed(decoding.value(row, index))?;
            decoding.reading.set(None);
            expected = index + 1;
        }
        if let Some(missing) = values[start..].iter().position(|value| is_absent(*value)) {
            let name = &decoding.signature.features[missing].name;
            return Err(A::Error::custom(format!(
                "{}[{row}] lacks the feature {name:?}: it has {}; the model takes {}",
                decoding.form.field,
                decoding.found(&values[start..]),
                decoding.names()
            )));
        }
        Ok(())
    }
}

/// Marks a value that an object has not given yet. It is a special NaN; a value that a client calls
/// missing is the usual one.
const ABSENT: u64 = 0x7ff8_0000_0000_0bad;

fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT
}
