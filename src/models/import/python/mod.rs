//! Python's objects, read as data: what a pickle or a skops file holds, without running any of it.
//!
//! Classes and functions are names here, and what they would make is a record of the arguments. All
//! values lie in flat tables and refer to each other by index, so that shared and circular values
//! cost nothing and dropping them does not recurse. Whoever follows references bounds the depth and
//! the total.

mod array;
mod builder;
mod calls;
mod joblib;
mod json;
mod npy;
mod numpy;
pub mod packed;
mod permitted;
pub mod pickle;
pub mod skops;
mod zip;

use std::borrow::Cow;

pub use self::array::{Array, ArrayElement, Content, Dtype, ElementKind, RecordField, number};

/// A value. Texts, bytes and everything that holds other values lie in [`Objects`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`, also numpy's.
    Bool(bool),
    /// A whole number, also numpy's.
    Int(i64),
    /// A number, also numpy's.
    Float(f64),
    /// A whole number beyond 64 bits, or a number of a kind that no model needs.
    Opaque,
    /// A text.
    Text(u32),
    /// Bytes, also a bytearray.
    Bytes(u32),
    /// A list.
    List(u32),
    /// A tuple.
    Tuple(u32),
    /// A set or frozenset.
    Set(u32),
    /// A dictionary, also of the kinds in `collections`.
    Dict(u32),
    /// A class or function by its name.
    Global(u32),
    /// An object of a class that is not one of the above.
    Object(u32),
    /// An array of numpy's.
    Array(u32),
    /// The type of an array's elements, `numpy.dtype`.
    Dtype(u32),
}

/// The name of a class or function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Global {
    /// The module (`sklearn.linear_model._ridge`).
    pub module: String,
    /// The name in it (`Ridge`).
    pub name: String,
}

/// What a class or function would be called with.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// The class or function: an index of [`Objects::globals`].
    pub class: u32,
    /// The arguments: a tuple.
    pub arguments: Value,
    /// The state that it would be given, most often a dictionary; `None` if none.
    pub state: Value,
}

/// Tables of values. An index in a [`Value`] is into the table of its kind.
#[derive(Debug, Default)]
pub struct Objects<'a> {
    /// Texts.
    pub texts: Vec<Cow<'a, str>>,
    /// Bytes.
    pub blobs: Vec<Cow<'a, [u8]>>,
    /// The elements of lists, tuples and sets.
    pub sequences: Vec<Vec<Value>>,
    /// The entries of dictionaries, in the order in which they were set.
    pub dicts: Vec<Vec<(Value, Value)>>,
    /// Names of classes and functions.
    pub globals: Vec<Global>,
    /// Objects.
    pub objects: Vec<Object>,
    /// Arrays.
    pub arrays: Vec<Array>,
    /// Types of arrays' elements.
    pub dtypes: Vec<Dtype>,
}

impl<'a> Objects<'a> {
    /// A text.
    pub fn text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(index) => self.texts.get(index as usize).map(|text| &**text),
            _ => None,
        }
    }

    /// Bytes.
    pub fn bytes(&self, value: Value) -> Option<&[u8]> {
        match value {
            Value::Bytes(index) => self.blobs.get(index as usize).map(|blob| &**blob),
            _ => None,
        }
    }

    /// The elements of a list, a tuple or a set.
    pub fn sequence(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::List(index) | Value::Tuple(index) | Value::Set(index) => {
                self.sequences.get(index as usize).map(|all| &all[..])
            }
            _ => None,
        }
    }

    /// The entries of a dictionary.
    pub fn dict(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(index) => self.dicts.get(index as usize).map(|all| &all[..]),
            _ => None,
        }
    }

    /// An entry of a dictionary: the one that was set last under this text.
    pub fn entry(&self, dict: Value, key: &str) -> Option<Value> {
        let mut entries = self.dict(dict)?.iter().rev();
        let (_, value) = entries.find(|(own, _)| self.text(*own) == Some(key))?;
        Some(*value)
    }

    /// The name of a class or function.
    pub fn global(&self, value: Value) -> Option<&Global> {
        match value {
            Value::Global(index) => self.globals.get(index as usize),
            _ => None,
        }
    }

    /// An object.
    pub fn object(&self, value: Value) -> Option<&Object> {
        match value {
            Value::Object(index) => self.objects.get(index as usize),
            _ => None,
        }
    }

    /// The class of an object.
    pub fn class(&self, value: Value) -> Option<&Global> {
        self.globals.get(self.object(value)?.class as usize)
    }

    /// An attribute of an object. With slots, the state is a pair of dictionaries.
    pub fn attribute(&self, value: Value, name: &str) -> Option<Value> {
        let state = self.object(value)?.state;
        match state {
            Value::Tuple(_) => {
                let mut parts = self.sequence(state)?.iter().rev();
                parts.find_map(|part| self.entry(*part, name))
            }
            _ => self.entry(state, name),
        }
    }

    /// An array.
    pub fn array(&self, value: Value) -> Option<&Array> {
        match value {
            Value::Array(index) => self.arrays.get(index as usize),
            _ => None,
        }
    }

    /// The type of an array's elements.
    pub fn dtype(&self, value: Value) -> Option<&Dtype> {
        match value {
            Value::Dtype(index) => self.dtypes.get(index as usize),
            _ => None,
        }
    }

    /// Adds a text.
    pub fn add_text(&mut self, text: impl Into<Cow<'a, str>>) -> Value {
        self.texts.push(text.into());
        Value::Text(index_of_last(&self.texts))
    }

    /// Adds bytes.
    pub fn add_bytes(&mut self, bytes: impl Into<Cow<'a, [u8]>>) -> Value {
        self.blobs.push(bytes.into());
        Value::Bytes(index_of_last(&self.blobs))
    }

    /// Adds a list.
    pub fn add_list(&mut self, elements: Vec<Value>) -> Value {
        self.sequences.push(elements);
        Value::List(index_of_last(&self.sequences))
    }

    /// Adds a tuple.
    pub fn add_tuple(&mut self, elements: Vec<Value>) -> Value {
        self.sequences.push(elements);
        Value::Tuple(index_of_last(&self.sequences))
    }

    /// Adds a set.
    pub fn add_set(&mut self, elements: Vec<Value>) -> Value {
        self.sequences.push(elements);
        Value::Set(index_of_last(&self.sequences))
    }

    /// Adds a dictionary.
    pub fn add_dict(&mut self, entries: Vec<(Value, Value)>) -> Value {
        self.dicts.push(entries);
        Value::Dict(index_of_last(&self.dicts))
    }

    /// Adds a name.
    pub fn add_global(&mut self, module: &str, name: &str) -> Value {
        self.globals.push(Global {
            module: module.to_owned(),
            name: name.to_owned(),
        });
        Value::Global(index_of_last(&self.globals))
    }

    /// Adds an object.
    pub fn add_object(&mut self, object: Object) -> Value {
        self.objects.push(object);
        Value::Object(index_of_last(&self.objects))
    }

    /// Adds an array.
    pub fn add_array(&mut self, array: Array) -> Value {
        self.arrays.push(array);
        Value::Array(index_of_last(&self.arrays))
    }

    /// Adds the type of an array's elements.
    pub fn add_dtype(&mut self, dtype: Dtype) -> Value {
        self.dtypes.push(dtype);
        Value::Dtype(index_of_last(&self.dtypes))
    }
}

/// The index of the last element. A file has at most 2^30 bytes, and a value takes at least one.
fn index_of_last<T>(table: &[T]) -> u32 {
    (table.len() - 1) as u32
}

#[cfg(test)]
mod same;
#[cfg(test)]
mod tests;
