//! Arrays of numpy's: their type, their shape, and their elements as numbers.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Objects, Value};

/// What elements are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementKind {
    /// 1 byte, 0 or 1.
    Bool,
    /// Whole numbers, of 1, 2, 4 or 8 bytes.
    Int,
    /// Whole numbers from 0, of 1, 2, 4 or 8 bytes.
    Uint,
    /// Numbers, of 2, 4 or 8 bytes.
    Float,
    /// Texts, of 4 bytes a character, with zeros behind their end.
    Text,
    /// Bytes, with zeros behind their end.
    Bytes,
    /// References to Python's objects.
    Object,
    /// Records with named fields.
    Record,
    /// Any other.
    Other,
}

/// The type of an array's elements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dtype {
    /// What they are.
    pub kind: ElementKind,
    /// Bytes of an element.
    pub item_bytes: usize,
    /// Whether numbers and characters have their highest byte first.
    pub is_big_endian: bool,
    /// The fields of records; arrays of one type share them.
    pub fields: Arc<[RecordField]>,
}

/// A field of records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordField {
    /// Its name.
    pub name: String,
    /// Its type.
    pub dtype: Dtype,
    /// Its place in the record, in bytes.
    pub offset: usize,
}

/// The elements of an array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// As bytes: an index of [`Objects::blobs`].
    Bytes(u32),
    /// As objects: an index of [`Objects::sequences`].
    Objects(u32),
}

/// An array. Its content has exactly as many bytes, or elements, as type and shape say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// The type of its elements.
    pub dtype: Dtype,
    /// Its extent in each dimension; none for a single value.
    pub shape: Vec<usize>,
    /// Whether the first index varies fastest, as in Fortran.
    pub is_fortran: bool,
    /// Its elements.
    pub content: Content,
}

impl Array {
    /// Number of elements; `None` if it is beyond any memory.
    pub fn len(&self) -> Option<usize> {
        let product = |product: usize, extent: &usize| product.checked_mul(*extent);
        self.shape.iter().try_fold(1, product)
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.shape.contains(&0)
    }

    /// The places of the elements, in the order in which the last index varies fastest.
    fn places(&self) -> Option<Places<'_>> {
        Some(Places {
            shape: &self.shape,
            index: match self.is_fortran && self.shape.len() > 1 {
                true => vec![0; self.shape.len()],
                false => Vec::new(),
            },
            next: 0,
            count: self.len()?,
        })
    }
}

/// Places of elements in an array's content.
struct Places<'a> {
    shape: &'a [usize],
    /// The index of the next element, if the first index varies fastest.
    index: Vec<usize>,
    /// How many elements came before.
    next: usize,
    count: usize,
}

impl Iterator for Places<'_> {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        if self.next >= self.count {
            return None;
        }
        let mut place = self.next;
        self.next += 1;
        if self.index.is_empty() {
            return Some(place);
        }
        // The place is below the number of elements, which does not overflow.
        let extents = self.index.iter().zip(self.shape).rev();
        place = extents.fold(0, |place, (index, extent)| place * extent + index);
        for (index, extent) in self.index.iter_mut().zip(self.shape).rev() {
            *index += 1;
            if *index < *extent {
                break;
            }
            *index = 0;
        }
        Some(place)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.count - self.next;
        (left, Some(left))
    }
}

impl Objects<'_> {
    /// The numbers of an array of numbers or of objects that are numbers, the last index fastest;
    /// true is 1, and None is NaN.
    pub fn numbers(&self, array: &Array) -> Option<Vec<f64>> {
        match array.content {
            Content::Bytes(_) => self.column(array, &array.dtype, 0),
            Content::Objects(index) => {
                let elements = self.sequences.get(index as usize)?;
                let places = array.places()?;
                let numbers = places.map(|place| number(*elements.get(place)?));
                numbers.collect()
            }
        }
    }

    /// The numbers in a field of an array of records.
    pub fn field(&self, array: &Array, name: &str) -> Option<Vec<f64>> {
        let mut fields = array.dtype.fields.iter();
        let field = fields.find(|field| field.name == name)?;
        self.column(array, &field.dtype, field.offset)
    }

    fn column(&self, array: &Array, dtype: &Dtype, offset: usize) -> Option<Vec<f64>> {
        let Content::Bytes(index) = array.content else {
            return None;
        };
        let bytes = self.blobs.get(index as usize)?;
        let places = array.places()?;
        let numbers = places.map(|place| {
            let from = place
                .checked_mul(array.dtype.item_bytes)?
                .checked_add(offset)?;
            dtype.number(bytes.get(from..from.checked_add(dtype.item_bytes)?)?)
        });
        numbers.collect()
    }

    /// The elements of an array as values, the last index fastest, and texts as texts.
    pub fn elements(&self, array: &Array) -> Option<Vec<ArrayElement<'_>>> {
        match (array.content, array.dtype.kind) {
            (Content::Objects(index), _) => {
                let elements = self.sequences.get(index as usize)?;
                let places = array.places()?;
                let elements = places.map(|place| {
                    let value = *elements.get(place)?;
                    Some(match self.text(value) {
                        Some(text) => ArrayElement::Text(Cow::Borrowed(text)),
                        None => ArrayElement::Value(value),
                    })
                });
                elements.collect()
            }
            (Content::Bytes(index), ElementKind::Text) => {
                let bytes = self.blobs.get(index as usize)?;
                let size = array.dtype.item_bytes;
                let places = array.places()?;
                let texts = places.map(|place| {
                    let from = place.checked_mul(size)?;
                    let item = bytes.get(from..from.checked_add(size)?)?;
                    array
                        .dtype
                        .characters(item)
                        .map(|text| ArrayElement::Text(Cow::Owned(text)))
                });
                texts.collect()
            }
            (Content::Bytes(index), _) => {
                let bytes = self.blobs.get(index as usize)?;
                let size = array.dtype.item_bytes;
                let places = array.places()?;
                let values = places.map(|place| {
                    let from = place.checked_mul(size)?;
                    let item = bytes.get(from..from.checked_add(size)?)?;
                    array.dtype.value(item).map(ArrayElement::Value)
                });
                values.collect()
            }
        }
    }
}

/// An element of an array.
#[derive(Debug, Clone, PartialEq)]
pub enum ArrayElement<'a> {
    /// A text.
    Text(Cow<'a, str>),
    /// Anything else.
    Value(Value),
}

/// A value that is a number.
pub fn number(value: Value) -> Option<f64> {
    match value {
        Value::None => Some(f64::NAN),
        Value::Bool(bit) => Some(f64::from(u8::from(bit))),
        Value::Int(number) => Some(number as f64),
        Value::Float(number) => Some(number),
        _ => None,
    }
}

impl Dtype {
    /// A number; `None` for elements of other kinds.
    pub fn number(&self, item: &[u8]) -> Option<f64> {
        match self.kind {
            ElementKind::Uint => self.bits(item).map(|bits| bits as f64),
            _ => number(self.value(item)?),
        }
    }

    /// A number as a value, whole numbers exactly; `None` for elements of other kinds.
    pub fn value(&self, item: &[u8]) -> Option<Value> {
        let bits = self.bits(item)?;
        Some(match (self.kind, item.len()) {
            (ElementKind::Bool, 1) => Value::Bool(bits != 0),
            (ElementKind::Uint, 1 | 2 | 4 | 8) => {
                i64::try_from(bits).map_or(Value::Opaque, Value::Int)
            }
            (ElementKind::Int, 1) => Value::Int(i64::from(bits as u8 as i8)),
            (ElementKind::Int, 2) => Value::Int(i64::from(bits as u16 as i16)),
            (ElementKind::Int, 4) => Value::Int(i64::from(bits as u32 as i32)),
            (ElementKind::Int, 8) => Value::Int(bits as i64),
            (ElementKind::Float, 4) => Value::Float(f64::from(f32::from_bits(bits as u32))),
            (ElementKind::Float, 8) => Value::Float(f64::from_bits(bits)),
            _ => return None,
        })
    }

    /// At most 8 bytes as one number.
    fn bits(&self, item: &[u8]) -> Option<u64> {
        let mut bytes = [0; 8];
        let own = bytes.get_mut(..item.len())?;
        own.copy_from_slice(item);
        if self.is_big_endian {
            own.reverse();
        }
        Some(u64::from_le_bytes(bytes))
    }

    /// A text of characters of 4 bytes each.
    pub(super) fn characters(&self, item: &[u8]) -> Option<String> {
        let code = |bytes: &[u8]| {
            let bytes: [u8; 4] = bytes.try_into().ok()?;
            Some(match self.is_big_endian {
                true => u32::from_be_bytes(bytes),
                false => u32::from_le_bytes(bytes),
            })
        };
        let codes: Vec<u32> = item.chunks(4).map(code).collect::<Option<_>>()?;
        let end = codes
            .iter()
            .rposition(|code| *code != 0)
            .map_or(0, |last| last + 1);
        let codes = codes.get(..end)?;
        codes.iter().map(|code| char::from_u32(*code)).collect()
    }
}
