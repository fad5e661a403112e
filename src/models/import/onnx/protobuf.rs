//! Protocol Buffers, as far as ONNX needs them: fields of a message, read in place.
//!
//! Source: the encoding at protobuf.dev. Groups, which are obsolete, are refused. Nothing is copied and
//! nothing recurses: a message is a slice whose fields are walked when they are asked for.

use crate::models::ModelError;

/// A value of a field.
#[derive(Debug, Clone, Copy)]
pub(super) enum Field<'a> {
    /// A whole number of variable length.
    Varint(u64),
    /// Eight bytes.
    Fixed64([u8; 8]),
    /// A text, bytes, a message, or packed numbers.
    Bytes(&'a [u8]),
    /// Four bytes.
    Fixed32([u8; 4]),
}

/// A message.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Message<'a>(pub(super) &'a [u8]);

/// The fields of a message with their numbers, up to the first error.
pub(super) struct Fields<'a> {
    rest: &'a [u8],
}

fn broken() -> ModelError {
    "it is cut off or not a protobuf message".into()
}

fn varint(rest: &mut &[u8]) -> Result<u64, ModelError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or_else(broken)?;
        *rest = after;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(broken())
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Result<&'a [u8], ModelError> {
    let (taken, after) = rest.split_at_checked(count).ok_or_else(broken)?;
    *rest = after;
    Ok(taken)
}

fn array<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], ModelError> {
    let (taken, after) = rest.split_first_chunk().ok_or_else(broken)?;
    *rest = after;
    Ok(*taken)
}

impl<'a> Fields<'a> {
    /// How many bytes are left to read.
    pub(super) fn left(&self) -> usize {
        self.rest.len()
    }

    fn read(&mut self) -> Result<(u32, Field<'a>), ModelError> {
        let tag = varint(&mut self.rest)?;
        let number = u32::try_from(tag >> 3).map_err(|_| broken())?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut self.rest)?),
            1 => Field::Fixed64(array(&mut self.rest)?),
            2 => {
                let count = usize::try_from(varint(&mut self.rest)?).map_err(|_| broken())?;
                Field::Bytes(take(&mut self.rest, count)?)
            }
            5 => Field::Fixed32(array(&mut self.rest)?),
            _ => return Err(broken()),
        };
        match number {
            0 => Err(broken()),
            _ => Ok((number, field)),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Field<'a>), ModelError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.read();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

impl<'a> Message<'a> {
    /// Its fields in the order of the file.
    pub(super) fn fields(self) -> Fields<'a> {
        Fields { rest: self.0 }
    }

    /// Calls `use_field` with each field of this number.
    pub(super) fn each(
        self,
        number: u32,
        mut use_field: impl FnMut(Field<'a>) -> Result<(), ModelError>,
    ) -> Result<(), ModelError> {
        for field in self.fields() {
            let (own, field) = field?;
            if own == number {
                use_field(field)?;
            }
        }
        Ok(())
    }

    /// The last field of this number, as the encoding has it.
    pub(super) fn last(self, number: u32) -> Result<Option<Field<'a>>, ModelError> {
        let mut last = None;
        self.each(number, |field| {
            last = Some(field);
            Ok(())
        })?;
        Ok(last)
    }

    /// A whole number, or 0.
    pub(super) fn int(self, number: u32) -> Result<i64, ModelError> {
        match self.last(number)? {
            None => Ok(0),
            Some(Field::Varint(value)) => Ok(value as i64),
            Some(_) => Err(broken()),
        }
    }

    /// Bytes, or none.
    pub(super) fn bytes(self, number: u32) -> Result<&'a [u8], ModelError> {
        match self.last(number)? {
            None => Ok(&[]),
            Some(Field::Bytes(bytes)) => Ok(bytes),
            Some(_) => Err(broken()),
        }
    }

    /// A text, or "".
    pub(super) fn text(self, number: u32) -> Result<&'a str, ModelError> {
        std::str::from_utf8(self.bytes(number)?).map_err(|_| broken())
    }

    /// All byte strings of this number.
    pub(super) fn all_bytes(self, number: u32) -> Result<Vec<&'a [u8]>, ModelError> {
        let mut all = Vec::new();
        self.each(number, |field| match field {
            Field::Bytes(bytes) => {
                all.push(bytes);
                Ok(())
            }
            _ => Err(broken()),
        })?;
        Ok(all)
    }

    /// All texts of this number.
    pub(super) fn all_texts(self, number: u32) -> Result<Vec<&'a str>, ModelError> {
        let all = self.all_bytes(number)?.into_iter();
        all.map(|bytes| std::str::from_utf8(bytes).map_err(|_| broken()))
            .collect()
    }

    /// All messages of this number.
    pub(super) fn messages(self, number: u32) -> Result<Vec<Message<'a>>, ModelError> {
        Ok(self.all_bytes(number)?.into_iter().map(Message).collect())
    }

    /// All whole numbers of this number, packed or not.
    pub(super) fn ints(self, number: u32) -> Result<Vec<i64>, ModelError> {
        let mut all = Vec::new();
        self.each(number, |field| {
            match field {
                Field::Varint(value) => all.push(value as i64),
                Field::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        all.push(varint(&mut packed)? as i64);
                    }
                }
                _ => return Err(broken()),
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// All numbers of 32 bits of this number, packed or not.
    pub(super) fn floats(self, number: u32) -> Result<Vec<f32>, ModelError> {
        let mut all = Vec::new();
        self.each(number, |field| {
            match field {
                Field::Fixed32(bytes) => all.push(f32::from_le_bytes(bytes)),
                Field::Bytes(packed) => all.extend(numbers(packed, f32::from_le_bytes)?),
                _ => return Err(broken()),
            }
            Ok(())
        })?;
        Ok(all)
    }

    /// All numbers of 64 bits of this number, packed or not.
    pub(super) fn doubles(self, number: u32) -> Result<Vec<f64>, ModelError> {
        let mut all = Vec::new();
        self.each(number, |field| {
            match field {
                Field::Fixed64(bytes) => all.push(f64::from_le_bytes(bytes)),
                Field::Bytes(packed) => all.extend(numbers(packed, f64::from_le_bytes)?),
                _ => return Err(broken()),
            }
            Ok(())
        })?;
        Ok(all)
    }
}

/// Numbers that stand one after the other.
pub(super) fn numbers<T, const N: usize>(
    bytes: &[u8],
    read: fn([u8; N]) -> T,
) -> Result<impl Iterator<Item = T>, ModelError> {
    let (chunks, rest) = bytes.as_chunks::<N>();
    match rest.is_empty() {
        true => Ok(chunks.iter().map(move |chunk| read(*chunk))),
        false => Err(broken()),
    }
}
