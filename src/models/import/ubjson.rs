//! Universal Binary JSON (draft 12) as XGBoost writes it, read through serde.
//!
//! Lengths are checked against the bytes that are left before anything is allocated, and nesting is
//! limited.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::forward_to_deserialize_any;

/// Maximum depth of containers; XGBoost's files have eight.
const DEPTH_MAX: usize = 64;

/// What is wrong with a file, with the byte at which it was noticed.
#[derive(Debug)]
pub(super) struct UbjsonError(String);

impl fmt::Display for UbjsonError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UbjsonError {}

impl de::Error for UbjsonError {
    fn custom<T: fmt::Display>(text: T) -> Self {
        UbjsonError(text.to_string())
    }
}

/// Reads a whole document.
///
/// # Errors
///
/// What is no UBJSON, or not a `T`.
pub(super) fn from_slice<'de, T: de::Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, UbjsonError> {
    let mut reader = UbjsonReader {
        bytes,
        place: 0,
        depth: 0,
    };
    let value = T::deserialize(&mut reader)
        .map_err(|error| UbjsonError(format!("{error} at byte {}", reader.place)))?;
    match reader.place == bytes.len() {
        true => Ok(value),
        false => Err(UbjsonError(format!(
            "it goes on after byte {}",
            reader.place
        ))),
    }
}

struct UbjsonReader<'de> {
    bytes: &'de [u8],
    place: usize,
    depth: usize,
}

impl<'de> UbjsonReader<'de> {
    fn take(&mut self, count: usize) -> Result<&'de [u8], UbjsonError> {
        let end = self.place.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.place..end));
        let taken = taken.ok_or_else(|| UbjsonError("it is truncated".to_owned()))?;
        self.place += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], UbjsonError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn marker(&mut self) -> Result<u8, UbjsonError> {
        Ok(self.take(1)?[0])
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.place).copied()
    }

    /// Reads a number of one of the integer types.
    fn whole(&mut self, kind: u8) -> Result<i64, UbjsonError> {
        Ok(match kind {
            b'i' => i64::from(i8::from_be_bytes(self.array()?)),
            b'U' => i64::from(self.marker()?),
            b'I' => i64::from(i16::from_be_bytes(self.array()?)),
            b'l' => i64::from(i32::from_be_bytes(self.array()?)),
            b'L' => i64::from_be_bytes(self.array()?),
            _ => {
                return Err(UbjsonError(format!(
                    "a length cannot be of type {:?}",
                    char::from(kind)
                )));
            }
        })
    }

    fn length(&mut self) -> Result<usize, UbjsonError> {
        let kind = self.marker()?;
        let length = self.whole(kind)?;
        usize::try_from(length).map_err(|_| UbjsonError(format!("a length is {length}")))
    }

    fn text(&mut self) -> Result<&'de str, UbjsonError> {
        let length = self.length()?;
        let bytes = self.take(length)?;
        std::str::from_utf8(bytes).map_err(|_| UbjsonError("a text is not UTF-8".to_owned()))
    }

    /// Reads a value of a type.
    fn value<V: Visitor<'de>>(&mut self, kind: u8, visitor: V) -> Result<V::Value, UbjsonError> {
        match kind {
            b'Z' => visitor.visit_unit(),
            b'T' => visitor.visit_bool(true),
            b'F' => visitor.visit_bool(false),
            b'd' => visitor.visit_f32(f32::from_be_bytes(self.array()?)),
            b'D' => visitor.visit_f64(f64::from_be_bytes(self.array()?)),
            b'S' => visitor.visit_borrowed_str(self.text()?),
            b'C' => {
                let byte = self.marker()?;
                visitor.visit_char(char::from(byte))
            }
            b'[' | b'{' => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err(UbjsonError(format!(
                        "containers must be nested at most {DEPTH_MAX} deep"
                    )));
                }
                let value = match kind {
                    b'[' => self.items(visitor),
                    _ => self.fields(visitor),
                };
                self.depth -= 1;
                value
            }
            kind => visitor.visit_i64(self.whole(kind).map_err(|_| {
                UbjsonError(format!("the type {:?} is not known", char::from(kind)))
            })?),
        }
    }

    fn items<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, UbjsonError> {
        let kind = match self.peek() {
            Some(b'$') => {
                self.place += 1;
                let kind = self.marker()?;
                if size(kind).is_none() {
                    return Err(UbjsonError(format!(
                        "an array cannot be of type {:?}",
                        char::from(kind)
                    )));
                }
                Some(kind)
            }
            _ => None,
        };
        let left = match self.peek() {
            Some(b'#') => {
                self.place += 1;
                let count = self.length()?;
                // At least a byte each, so that what is announced is there.
                let bytes = count.checked_mul(kind.and_then(size).unwrap_or(1));
                if bytes.is_none_or(|bytes| bytes > self.bytes.len() - self.place) {
                    return Err(UbjsonError(format!("an array of {count} is truncated")));
                }
                Some(count)
            }
            _ if kind.is_some() => {
                return Err(UbjsonError("an array's length is missing".to_owned()));
            }
            _ => None,
        };
        visitor.visit_seq(Items {
            reader: self,
            kind,
            left,
        })
    }

    fn fields<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, UbjsonError> {
        visitor.visit_map(UbjsonFields(self))
    }
}

/// The size of a number of a type.
fn size(kind: u8) -> Option<usize> {
    match kind {
        b'i' | b'U' => Some(1),
        b'I' => Some(2),
        b'l' | b'd' => Some(4),
        b'L' | b'D' => Some(8),
        _ => None,
    }
}

impl<'de> Deserializer<'de> for &mut UbjsonReader<'de> {
    type Error = UbjsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UbjsonError> {
        let kind = self.marker()?;
        self.value(kind, visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UbjsonError> {
        if self.peek() == Some(b'Z') {
            self.place += 1;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct
        newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

/// A value whose type stands before all of them.
struct Typed<'a, 'de>(&'a mut UbjsonReader<'de>, u8);

impl<'de> Deserializer<'de> for Typed<'_, 'de> {
    type Error = UbjsonError;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, UbjsonError> {
        self.0.value(self.1, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}

struct Items<'a, 'de> {
    reader: &'a mut UbjsonReader<'de>,
    /// The type of all items, if it stands before them.
    kind: Option<u8>,
    /// The number of items left, if it stands before them.
    left: Option<usize>,
}

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = UbjsonError;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, UbjsonError> {
        match &mut self.left {
            Some(0) => return Ok(None),
            Some(left) => *left -= 1,
            None if self.reader.peek() == Some(b']') => {
                self.reader.place += 1;
                return Ok(None);
            }
            None => {}
        }
        match self.kind {
            Some(kind) => seed.deserialize(Typed(self.reader, kind)).map(Some),
            None => seed.deserialize(&mut *self.reader).map(Some),
        }
    }

    fn size_hint(&self) -> Option<usize> {
        self.left
    }
}

struct UbjsonFields<'a, 'de>(&'a mut UbjsonReader<'de>);

impl<'de> MapAccess<'de> for UbjsonFields<'_, 'de> {
    type Error = UbjsonError;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, UbjsonError> {
        if self.0.peek() == Some(b'}') {
            self.0.place += 1;
            return Ok(None);
        }
        let key = self.0.text()?;
        seed.deserialize(de::value::BorrowedStrDeserializer::new(key))
            .map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(
        &mut self,
        seed: V,
    ) -> Result<V::Value, UbjsonError> {
        seed.deserialize(&mut *self.0)
    }
}
