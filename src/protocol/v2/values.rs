//! A tensor's data in JSON: values, or lists of them, one by one.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

use super::rows::DIMENSIONS_MAX;
use super::tensor::{Datatype, Element};

/// Takes values one by one.
pub(super) trait Sink {
    /// How many it has taken.
    fn taken(&self) -> usize;

    /// Takes the next.
    ///
    /// # Errors
    ///
    /// What it is that cannot be taken.
    fn put(&mut self, element: Element<'_>) -> Result<(), String>;
}

/// Numbers that are the values of features as they are.
#[derive(Debug)]
pub(super) struct Numbers {
    /// Those that came, and how many there is room for.
    pub(super) all: Vec<f64>,
    pub(super) room: usize,
    pub(super) datatype: Datatype,
    /// Whether any of them may be missing.
    pub(super) may_be_missing: bool,
}

impl Sink for Numbers {
    fn taken(&self) -> usize {
        self.all.len()
    }

    fn put(&mut self, element: Element<'_>) -> Result<(), String> {
        let number = match element {
            Element::Number(number) => self.datatype.rounded(number)?,
            Element::Null if self.may_be_missing => f64::NAN,
            _ => return Err("no number".to_owned()),
        };
        if self.all.len() == self.room {
            return Err("one too many".to_owned());
        }
        self.all.push(number);
        Ok(())
    }
}

/// Data in JSON: values, or lists of them.
pub(super) struct Nested<'s, S> {
    sink: &'s mut S,
    depth: usize,
}

impl<'s, S> Nested<'s, S> {
    /// Reads a list into `sink`.
    pub(super) fn new(sink: &'s mut S) -> Self {
        Nested { sink, depth: 0 }
    }
}

impl<'de, S: Sink> DeserializeSeed<'de> for Nested<'_, S> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de, S: Sink> Visitor<'de> for Nested<'_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.depth {
            0 => f.write_str("its data as a list"),
            _ => write!(f, "a value of the tensor as value {}", self.sink.taken()),
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

impl<S: Sink> Nested<'_, S> {
    fn put<E: Error>(self, element: Element<'_>) -> Result<(), E> {
        if self.depth == 0 {
            return Err(E::custom("its data must be a list"));
        }
        self.sink.put(element).map_err(E::custom)
    }
}
