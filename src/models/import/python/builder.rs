//! Fills the tables of values, within limits: how many values there are, how deep they lie in each
//! other, and how many they would be if shared values were copied.

use std::borrow::Cow;
use std::collections::HashMap;

use super::numpy;
use super::permitted;
use super::{Array, Content, Dtype, ElementKind, Object, Objects, Value};
use crate::models::ModelError;

/// Maximum number of values that need a place in a table.
pub(super) const VALUES_MAX: usize = 2_000_000;

/// Maximum number of references that lists, dictionaries and objects hold in all.
pub(super) const REFERENCES_MAX: usize = 4_000_000;

/// Maximum depth of values in each other.
const DEPTH_MAX: u32 = 1000;

/// Maximum number of values under one, those that are shared counted each time.
const UNFOLDED_MAX: u64 = 1_000_000_000;

/// Maximum length of the name of a class or function with its module, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// What lies under a value.
#[derive(Debug, Clone, Copy)]
struct Extent {
    depth: u32,
    unfolded: u64,
}

/// Of a value that holds no others.
const LEAF: Extent = Extent {
    depth: 0,
    unfolded: 1,
};

/// Tables that are being filled.
#[derive(Debug, Default)]
pub(super) struct Builder<'a> {
    objects: Objects<'a>,
    names: HashMap<String, Value>,
    sequences: Vec<Extent>,
    dicts: Vec<Extent>,
    records: Vec<Extent>,
    values: usize,
    references: usize,
}

impl<'a> Builder<'a> {
    /// What is there so far.
    pub(super) fn objects(&self) -> &Objects<'a> {
        &self.objects
    }

    /// The tables.
    ///
    /// # Errors
    ///
    /// An array whose list of elements has grown since.
    pub(super) fn finish(self) -> Result<Objects<'a>, ModelError> {
        self.objects
            .arrays
            .iter()
            .try_for_each(|array| self.check(array))?;
        Ok(self.objects)
    }

    /// Adds a text.
    pub(super) fn text(&mut self, text: impl Into<Cow<'a, str>>) -> Result<Value, ModelError> {
        self.take_value()?;
        Ok(self.objects.add_text(text))
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, bytes: impl Into<Cow<'a, [u8]>>) -> Result<Value, ModelError> {
        self.take_value()?;
        Ok(self.objects.add_bytes(bytes))
    }

    /// Adds a list.
    pub(super) fn list(&mut self, elements: Vec<Value>) -> Result<Value, ModelError> {
        self.sequence(&elements)?;
        Ok(self.objects.add_list(elements))
    }

    /// Adds a tuple.
    pub(super) fn tuple(&mut self, elements: Vec<Value>) -> Result<Value, ModelError> {
        self.sequence(&elements)?;
        Ok(self.objects.add_tuple(elements))
    }

    /// Adds a set.
    pub(super) fn set(&mut self, elements: Vec<Value>) -> Result<Value, ModelError> {
        self.sequence(&elements)?;
        Ok(self.objects.add_set(elements))
    }

    /// Adds a dictionary.
    pub(super) fn dict(&mut self, entries: Vec<(Value, Value)>) -> Result<Value, ModelError> {
        self.take_value()?;
        self.take_references(entries.len().saturating_mul(2))?;
        let held = entries.iter().flat_map(|(key, value)| [*key, *value]);
        let extent = self.around(held)?;
        self.dicts.push(extent);
        Ok(self.objects.add_dict(entries))
    }

    /// Adds an object; `class` must be a name.
    pub(super) fn object(
        &mut self,
        class: Value,
        arguments: Value,
        state: Value,
    ) -> Result<Value, ModelError> {
        let Value::Global(class) = class else {
            return Err(ModelError(
                "what is called must be a class or function by its name".to_owned(),
            ));
        };
        self.take_value()?;
        let extent = self.around([arguments, state].into_iter())?;
        self.records.push(extent);
        Ok(self.objects.add_object(Object {
            class,
            arguments,
            state,
        }))
    }

    /// Gives an object its state.
    pub(super) fn set_state(&mut self, object: u32, state: Value) -> Result<(), ModelError> {
        let own = self.records.get(object as usize).copied();
        let extent = self.grown(own.unwrap_or(LEAF), [state].into_iter())?;
        put(&mut self.records, object, extent);
        if let Some(object) = self.objects.objects.get_mut(object as usize) {
            object.state = state;
        }
        Ok(())
    }

    /// Adds elements to a list or set.
    pub(super) fn extend(&mut self, sequence: u32, elements: &[Value]) -> Result<(), ModelError> {
        self.take_references(elements.len())?;
        let own = self.sequences.get(sequence as usize).copied();
        let extent = self.grown(own.unwrap_or(LEAF), elements.iter().copied())?;
        put(&mut self.sequences, sequence, extent);
        if let Some(sequence) = self.objects.sequences.get_mut(sequence as usize) {
            sequence.extend_from_slice(elements);
        }
        Ok(())
    }

    /// Sets entries of a dictionary: keys and values by turns.
    pub(super) fn set_entries(&mut self, dict: u32, entries: &[Value]) -> Result<(), ModelError> {
        self.take_references(entries.len())?;
        let own = self.dicts.get(dict as usize).copied();
        let extent = self.grown(own.unwrap_or(LEAF), entries.iter().copied())?;
        put(&mut self.dicts, dict, extent);
        if let Some(dict) = self.objects.dicts.get_mut(dict as usize) {
            let pairs = entries.chunks_exact(2);
            dict.extend(pairs.filter_map(|pair| Some((*pair.first()?, *pair.get(1)?))));
        }
        Ok(())
    }

    /// Adds the name of a class or function, once.
    ///
    /// # Errors
    ///
    /// A name that is not permitted.
    pub(super) fn global(&mut self, module: &str, name: &str) -> Result<Value, ModelError> {
        let (module, name) = permitted::check(module, name)?;
        if module.len().saturating_add(name.len()) > NAME_BYTES_MAX {
            return Err(ModelError(format!(
                "the name of a class or function must have at most {NAME_BYTES_MAX} bytes, but one \
                 is {}",
                permitted::shown(name)
            )));
        }
        let whole = format!("{module}:{name}");
        if let Some(value) = self.names.get(&whole) {
            return Ok(*value);
        }
        self.take_value()?;
        let value = self.objects.add_global(module, name);
        self.names.insert(whole, value);
        Ok(value)
    }

    /// Adds the type of an array's elements.
    pub(super) fn dtype(&mut self, dtype: Dtype) -> Result<Value, ModelError> {
        self.take_value()?;
        Ok(self.objects.add_dtype(dtype))
    }

    /// Changes the type of an array's elements; arrays that have it already keep it as it was.
    pub(super) fn set_dtype(&mut self, index: u32, dtype: Dtype) {
        if let Some(own) = self.objects.dtypes.get_mut(index as usize) {
            *own = dtype;
        }
    }

    /// A number or text of numpy's, by the bytes that it has in an array.
    ///
    /// # Errors
    ///
    /// Bytes that are not as many as those of its type, and no characters.
    pub(super) fn scalar(&mut self, dtype: &Dtype, bytes: &[u8]) -> Result<Value, ModelError> {
        if bytes.len() != dtype.item_bytes {
            return Err(ModelError(format!(
                "a numpy scalar must have the {} bytes of its type, but it has {}",
                dtype.item_bytes,
                bytes.len()
            )));
        }
        match dtype.kind {
            ElementKind::Text => {
                let text = dtype.characters(bytes).ok_or_else(|| {
                    ModelError("the characters of a numpy.str_ must be Unicode's".to_owned())
                })?;
                self.text(text)
            }
            ElementKind::Bytes => {
                let end = bytes.iter().rposition(|byte| *byte != 0);
                let end = end.map_or(0, |last| last.saturating_add(1));
                self.bytes(bytes.get(..end).unwrap_or_default().to_vec())
            }
            _ => Ok(dtype.value(bytes).unwrap_or(Value::Opaque)),
        }
    }

    /// Adds an array.
    ///
    /// # Errors
    ///
    /// Content that is not as long as type and shape say.
    pub(super) fn array(&mut self, array: Array) -> Result<Value, ModelError> {
        self.take_value()?;
        self.check(&array)?;
        Ok(self.objects.add_array(array))
    }

    /// Gives an array its elements, as [`Builder::array`].
    pub(super) fn set_array(&mut self, index: u32, array: Array) -> Result<(), ModelError> {
        self.check(&array)?;
        if let Some(own) = self.objects.arrays.get_mut(index as usize) {
            *own = array;
        }
        Ok(())
    }

    fn check(&self, array: &Array) -> Result<(), ModelError> {
        let size = array.dtype.item_bytes;
        let (kind, held) = match array.content {
            Content::Bytes(index) => {
                let blob = self.objects.blobs.get(index as usize);
                ("bytes", blob.map(|blob| blob.len()))
            }
            Content::Objects(index) => {
                let elements = self.objects.sequences.get(index as usize);
                ("elements", elements.map(Vec::len))
            }
        };
        let wanted = match array.content {
            Content::Bytes(_) => numpy::content_bytes(&array.dtype, &array.shape),
            Content::Objects(_) => array.len(),
        };
        let is_object = array.dtype.kind == ElementKind::Object;
        if is_object != matches!(array.content, Content::Objects(_)) || wanted != held {
            return Err(ModelError(format!(
                "an array must have the elements that its shape says, but one of shape {:?} with \
                 {size} bytes an element has {} {kind}",
                array.shape,
                held.unwrap_or(0)
            )));
        }
        Ok(())
    }

    /// The extent of a sequence that will be added next.
    fn sequence(&mut self, elements: &[Value]) -> Result<(), ModelError> {
        self.take_value()?;
        self.take_references(elements.len())?;
        let extent = self.around(elements.iter().copied())?;
        self.sequences.push(extent);
        Ok(())
    }

    fn take_value(&mut self) -> Result<(), ModelError> {
        self.values += 1;
        match self.values > VALUES_MAX {
            false => Ok(()),
            true => Err(ModelError(format!(
                "it must have at most {VALUES_MAX} values, but it has more"
            ))),
        }
    }

    /// Counts references, or work that grows with them.
    pub(super) fn take_references(&mut self, count: usize) -> Result<(), ModelError> {
        self.references = self.references.saturating_add(count);
        match self.references > REFERENCES_MAX {
            false => Ok(()),
            true => Err(ModelError(format!(
                "its lists and dictionaries must hold at most {REFERENCES_MAX} values, but they hold \
                 more"
            ))),
        }
    }

    fn around(&self, held: impl Iterator<Item = Value>) -> Result<Extent, ModelError> {
        self.grown(Extent { depth: 1, ..LEAF }, held)
    }

    fn grown(&self, own: Extent, held: impl Iterator<Item = Value>) -> Result<Extent, ModelError> {
        let extent = held
            .map(|value| self.extent(value))
            .fold(own, |own, held| Extent {
                depth: own.depth.max(held.depth.saturating_add(1)),
                unfolded: own.unfolded.saturating_add(held.unfolded),
            });
        if extent.depth > DEPTH_MAX {
            return Err(ModelError(format!(
                "its values must lie at most {DEPTH_MAX} deep in each other, but they lie deeper"
            )));
        }
        if extent.unfolded > UNFOLDED_MAX {
            return Err(ModelError(format!(
                "its values must be at most {UNFOLDED_MAX} with shared ones counted each time, but \
                 they are more"
            )));
        }
        Ok(extent)
    }

    fn extent(&self, value: Value) -> Extent {
        let found = match value {
            Value::List(index) | Value::Tuple(index) | Value::Set(index) => {
                self.sequences.get(index as usize)
            }
            Value::Dict(index) => self.dicts.get(index as usize),
            Value::Object(index) => self.records.get(index as usize),
            Value::Array(index) => match self.objects.arrays.get(index as usize) {
                Some(Array {
                    content: Content::Objects(index),
                    ..
                }) => self.sequences.get(*index as usize),
                _ => None,
            },
            _ => None,
        };
        found.copied().unwrap_or(LEAF)
    }
}

fn put(extents: &mut [Extent], index: u32, extent: Extent) {
    if let Some(own) = extents.get_mut(index as usize) {
        *own = extent;
    }
}
