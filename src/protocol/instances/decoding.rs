//! What the visitors of instances share: the model's features, the budget, and what an error needs.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;

use serde::de::{Error, SeqAccess};

use super::blame;
use super::tokens::IgnoredValue;
use super::value::{ECHO_MAX, FeatureValue};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::Signature;

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
    pub(super) form: ListForm<'a>,
    pub(super) signature: &'a Signature,
    /// The features by name, made when a name comes that is not the next one.
    indices: OnceCell<HashMap<&'a str, usize>>,
    rows_max: usize,
    charge: RefCell<&'a mut Charge>,
    /// Why decoding stopped, if the parser cannot say it.
    refusal: RefCell<Option<RequestError>>,
    /// The instance and the feature whose number is being read.
    pub(super) reading: Cell<Option<(usize, usize)>>,
    /// What else the present instance has, for an error.
    pub(super) others: RefCell<Others>,
}

/// Names that are not features: the first few, truncated, and how many there are.
#[derive(Default)]
pub(super) struct Others {
    shown: Vec<String>,
    count: usize,
}

impl Others {
    /// Forgets all names.
    pub(super) fn clear(&mut self) {
        self.shown.clear();
        self.count = 0;
    }

    /// Notes a name.
    pub(super) fn add(&mut self, name: &str) {
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
        Decoding {
            body,
            form,
            signature,
            indices: OnceCell::new(),
            rows_max,
            charge: RefCell::new(charge),
            refusal: RefCell::new(None),
            reading: Cell::new(None),
            others: RefCell::default(),
        }
    }

    /// Number of features.
    pub(super) fn width(&self) -> usize {
        self.signature.features.len()
    }

    /// What errors call the list.
    pub(super) fn field(&self) -> &str {
        self.form.field
    }

    /// Maximum number of rows.
    pub(super) fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// The index of the feature of this name, which most clients send in order: `expected` is the next
    /// one's.
    pub(super) fn feature(&self, name: &str, expected: usize) -> Option<usize> {
        let next = self.signature.features.get(expected);
        if next.is_some_and(|feature| feature.name == name) {
            return Some(expected);
        }
        let named = || self.signature.names().enumerate();
        let indices = || named().map(|(index, name)| (name, index)).collect();
        self.indices.get_or_init(indices).get(name).copied()
    }

    /// The name of a feature.
    pub(super) fn feature_name(&self, feature: usize) -> &str {
        &self.signature.features[feature].name
    }

    /// Makes room for one more row.
    pub(super) fn reserve<E: Error>(&self, values: &mut Vec<f64>) -> Result<(), E> {
        self.reserve_values(values, self.width())
    }

    /// Makes room for so many more values.
    pub(super) fn reserve_values<E: Error>(
        &self,
        values: &mut Vec<f64>,
        more: usize,
    ) -> Result<(), E> {
        let reserved = self.charge.borrow_mut().reserve(values, more, usize::MAX);
        reserved.map_err(|refusal| self.give_up(refusal))
    }

    /// Stops reading, for a reason that the parser cannot say.
    pub(super) fn give_up<E: Error>(&self, refusal: RequestError) -> E {
        *self.refusal.borrow_mut() = Some(refusal);
        E::custom("given up")
    }

    /// The names that the model takes, for an error.
    pub(super) fn names(&self) -> String {
        listed(self.signature.names().take(NAMES_SHOWN), self.width())
    }

    /// The names that an instance has; the values of missing ones are absent.
    pub(super) fn found(&self, values: &[f64]) -> String {
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
    pub(super) fn columns(&self) -> usize {
        self.form.columns.map_or(self.width(), <[_]>::len)
    }

    /// Reads an array whose values belong to these features, each of which occurs.
    pub(super) fn read_cells<'de, A: SeqAccess<'de>>(
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
                None => seq.next_element::<IgnoredValue>()?.is_some(),
            };
            if !came {
                break;
            }
            count += 1;
        }
        self.reading.set(None);
        while seq.next_element::<IgnoredValue>()?.is_some() {
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
    pub(super) fn value(&self, row: usize, feature: usize) -> FeatureValue<'_> {
        self.reading.set(Some((row, feature)));
        FeatureValue {
            list: self.form.field,
            row,
            feature: &self.signature.features[feature],
            may_be_in_list: self.form.values_in_lists,
        }
    }

    /// What is wrong with a piece of a body, without the place in it, which is not that in the body.
    pub(super) fn piece_error(&self, error: &serde_json::Error) -> RequestError {
        let mut refusal = self.request_error(error);
        if let Some(place) = refusal.text.rfind(" at line ").filter(|_| error.is_data()) {
            refusal.text.truncate(place);
        }
        refusal
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

/// Lists the first names.
fn listed<'a>(shown: impl Iterator<Item = &'a str>, count: usize) -> String {
    let shown: Vec<&str> = shown.collect();
    match count.saturating_sub(shown.len()) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Marks a value that an object has not given yet. It is a special NaN; a value that a client calls
/// missing is the usual one.
pub(super) const ABSENT: u64 = 0x7ff8_0000_0000_0bad;

/// Whether an object has not given this value.
pub(super) fn is_absent(value: f64) -> bool {
    value.to_bits() == ABSENT
}
