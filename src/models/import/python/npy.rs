//! Files of one array each, as `numpy.save` writes them (NEP 1). Nothing pickled is read.

use super::numpy;
use super::permitted::shown;
use super::{Dtype, ElementKind};
use crate::models::ModelError;

const MAGIC: &[u8] = b"\x93NUMPY";

/// Maximum length of the header, in bytes; numpy writes 128 for most arrays.
const HEADER_BYTES_MAX: usize = 1 << 16;

/// How deep lists and tuples in a header lie in each other.
const DEPTH_MAX: usize = 8;

/// An array's header.
pub(super) struct Header {
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<usize>,
    pub(super) is_fortran: bool,
    /// Where the elements begin, in bytes.
    pub(super) end: usize,
}

/// Reads the header of an array's file.
///
/// # Errors
///
/// What numpy does not write.
pub(super) fn header(bytes: &[u8]) -> Result<Header, ModelError> {
    let broken = || ModelError("an array must be as numpy.save writes it".to_owned());
    let (length, start) = match bytes.strip_prefix(MAGIC).ok_or_else(broken)? {
        [1, _, low, high, ..] => (usize::from(u16::from_le_bytes([*low, *high])), 10),
        [2 | 3, _, a, b, c, d, ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            (usize::try_from(length).unwrap_or(usize::MAX), 12)
        }
        _ => return Err(broken()),
    };
    if length > HEADER_BYTES_MAX {
        return Err(ModelError(format!(
            "the header of an array must have at most {HEADER_BYTES_MAX} bytes, but one has {length}"
        )));
    }
    let end = start + length;
    let text = bytes
        .get(start..end)
        .and_then(|text| std::str::from_utf8(text).ok());
    let mut parser = Parser {
        rest: text.ok_or_else(broken)?,
    };
    let Some(Literal::Dict(entries)) = parser.literal(0) else {
        return Err(broken());
    };
    let entry = |key: &str| {
        let mut entries = entries.iter();
        let found = entries.find(|(own, _)| matches!(own, Literal::Text(own) if *own == key));
        found.map(|(_, value)| value).ok_or_else(broken)
    };
    let Literal::Bool(is_fortran) = *entry("fortran_order")? else {
        return Err(broken());
    };
    Ok(Header {
        dtype: dtype(entry("descr")?)?,
        shape: extents(entry("shape")?).ok_or_else(broken)?,
        is_fortran,
        end,
    })
}

fn extents(literal: &Literal<'_>) -> Option<Vec<usize>> {
    let Literal::Sequence(extents) = literal else {
        return None;
    };
    let extent = |extent: &Literal<'_>| match extent {
        Literal::Whole(extent) => Some(*extent),
        _ => None,
    };
    let is_short = extents.len() <= numpy::DIMENSIONS_MAX;
    is_short.then(|| extents.iter().map(extent).collect())?
}

/// A type by numpy's description of it: a string, or a list of fields.
fn dtype(descr: &Literal<'_>) -> Result<Dtype, ModelError> {
    match descr {
        Literal::Text(text) => numpy::dtype(text),
        Literal::Sequence(parts) => {
            let mut fields = Vec::new();
            let mut offset: usize = 0;
            for part in parts {
                let Literal::Sequence(part) = part else {
                    return Err(unknown(descr));
                };
                let (name, own) = match part.as_slice() {
                    [Literal::Text(name), own] => (*name, dtype(own)?),
                    [Literal::Text(name), own, shape] => {
                        let shape = extents(shape).ok_or_else(|| unknown(descr))?;
                        let base = dtype(own)?;
                        let bytes = numpy::content_bytes(&base, &shape);
                        let own = Dtype {
                            kind: ElementKind::Other,
                            item_bytes: bytes.ok_or_else(|| unknown(descr))?,
                            ..base
                        };
                        (*name, own)
                    }
                    _ => return Err(unknown(descr)),
                };
                let end = offset.checked_add(own.item_bytes);
                // Fields without a name fill gaps.
                if !name.is_empty() {
                    fields.push(numpy::field(name, &own, offset));
                }
                offset = end.ok_or_else(|| unknown(descr))?;
            }
            numpy::record(fields, offset)
        }
        _ => Err(unknown(descr)),
    }
}

fn unknown(descr: &Literal<'_>) -> ModelError {
    ModelError(format!(
        "{} is not a type of elements that numpy has",
        shown(&format!("{descr:?}"))
    ))
}

/// A literal of Python's.
#[derive(Debug)]
enum Literal<'a> {
    Text(&'a str),
    Whole(usize),
    Bool(bool),
    /// A list or tuple.
    Sequence(Vec<Literal<'a>>),
    Dict(Vec<(Literal<'a>, Literal<'a>)>),
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn literal(&mut self, depth: usize) -> Option<Literal<'a>> {
        self.rest = self.rest.trim_start();
        let first = self.rest.chars().next()?;
        if depth > DEPTH_MAX {
            return None;
        }
        match first {
            '\'' | '"' => {
                let (text, rest) = self.rest.get(1..)?.split_once(first)?;
                self.rest = rest;
                (!text.contains('\\')).then_some(Literal::Text(text))
            }
            '0'..='9' => {
                let end = self
                    .rest
                    .find(|character: char| !character.is_ascii_digit());
                let (digits, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
                // Python 2 wrote 3L.
                self.rest = rest.strip_prefix('L').unwrap_or(rest);
                digits.parse().ok().map(Literal::Whole)
            }
            '(' => self.sequence(')', depth),
            '[' => self.sequence(']', depth),
            '{' => self.dict(depth),
            _ if self.takes("True") => Some(Literal::Bool(true)),
            _ if self.takes("False") => Some(Literal::Bool(false)),
            _ => None,
        }
    }

    fn sequence(&mut self, close: char, depth: usize) -> Option<Literal<'a>> {
        self.rest = self.rest.get(1..)?;
        let mut elements = Vec::new();
        loop {
            if self.closes(close) {
                return Some(Literal::Sequence(elements));
            }
            elements.push(self.literal(depth + 1)?);
            if !self.takes(",") {
                return self.closes(close).then_some(Literal::Sequence(elements));
            }
        }
    }

    fn dict(&mut self, depth: usize) -> Option<Literal<'a>> {
        self.rest = self.rest.get(1..)?;
        let mut entries = Vec::new();
        loop {
            if self.closes('}') {
                return Some(Literal::Dict(entries));
            }
            let key = self.literal(depth + 1)?;
            if !self.takes(":") {
                return None;
            }
            entries.push((key, self.literal(depth + 1)?));
            if !self.takes(",") {
                return self.closes('}').then_some(Literal::Dict(entries));
            }
        }
    }

    fn closes(&mut self, close: char) -> bool {
        self.takes(close.encode_utf8(&mut [0; 4]))
    }

    fn takes(&mut self, text: &str) -> bool {
        let rest = self.rest.trim_start().strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }
}
