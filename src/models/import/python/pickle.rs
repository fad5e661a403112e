//! Pickles of protocols 2 to 5, read as data by a stack machine that imports and runs nothing.
//!
//! What a pickle would call becomes a record of the call, but for calls that make plain data: those
//! of numpy's arrays and of Python's own containers. Bytes and texts are borrowed from the file. The
//! machine does not recurse over what it reads.

use super::builder::{Builder, REFERENCES_MAX, VALUES_MAX};
use super::calls;
use super::{Objects, Value};
use crate::models::ModelError;

/// How far the line breaks behind the two parts of a name are looked for.
const LINE_BYTES_MAX: usize = 256;

/// Whether a file that begins like this is a pickle.
pub fn is_pickle(head: &[u8]) -> bool {
    matches!(head, [0x80, 2..=5, ..])
}

/// Reads a pickle, also one of joblib's, without running any of it. Returns its object too.
///
/// # Errors
///
/// What is no pickle, names what no model needs, or goes beyond a limit.
pub fn read(bytes: &[u8]) -> Result<(Objects<'_>, Value), ModelError> {
    let mut machine = PickleMachine {
        builder: Builder::default(),
        bytes,
        place: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: Vec::new(),
        empty: None,
        copied_bytes: 0,
        is_nested: false,
    };
    let value = machine.run()?;
    Ok((machine.builder.finish()?, value))
}

/// A stack machine. Values on the stack and in the memo are references into tables.
pub(super) struct PickleMachine<'a> {
    pub(super) builder: Builder<'a>,
    bytes: &'a [u8],
    place: usize,
    stack: Vec<Value>,
    /// Lengths that the stack had at marks.
    marks: Vec<usize>,
    memo: Vec<Option<Value>>,
    /// The empty tuple, once there is one.
    empty: Option<Value>,
    /// How many bytes of values are not borrowed from the file.
    copied_bytes: usize,
    /// Whether this pickle lies in another.
    is_nested: bool,
}

impl<'a> PickleMachine<'a> {
    fn run(&mut self) -> Result<Value, ModelError> {
        if !self.bytes.get(self.place..).is_some_and(is_pickle) {
            return Err(self.broken("a pickle of protocol 2 to 5 must begin here"));
        }
        loop {
            let [opcode] = self.take_array()?;
            if opcode == b'.' {
                return self.pop();
            }
            self.step(opcode)?;
            if self.stack.len().max(self.marks.len()) > REFERENCES_MAX {
                return Err(self.broken(&format!(
                    "the stack must have at most {REFERENCES_MAX} values, but it has more"
                )));
            }
        }
    }

    /// Reads a pickle that begins at this place, with a stack and a memo of its own.
    ///
    /// # Errors
    ///
    /// A pickle in a pickle in a pickle.
    pub(super) fn run_nested(&mut self) -> Result<Value, ModelError> {
        if self.is_nested {
            return Err(self.broken("a pickle within a pickle must not hold another"));
        }
        let stack = std::mem::take(&mut self.stack);
        let marks = std::mem::take(&mut self.marks);
        let memo = std::mem::take(&mut self.memo);
        self.is_nested = true;
        let value = self.run();
        self.is_nested = false;
        self.stack = stack;
        self.marks = marks;
        self.memo = memo;
        value
    }

    fn step(&mut self, opcode: u8) -> Result<(), ModelError> {
        match opcode {
            // PROTO
            0x80 => match self.take_array()? {
                [0..=5] => Ok(()),
                [more] => Err(self.broken(&format!("protocol {more} is not known"))),
            },
            // FRAME
            0x95 => {
                let length = u64::from_le_bytes(self.take_array()?);
                let left = self.bytes.len().saturating_sub(self.place);
                match length > left as u64 {
                    false => Ok(()),
                    true => Err(self.broken("it is cut off: a frame is longer than what is left")),
                }
            }
            b'N' | 0x88 | 0x89 | b'J' | b'K' | b'M' | 0x8a | 0x8b | b'G' => self.number(opcode),
            b'X' | 0x8c | 0x8d | b'B' | b'C' | 0x8e | 0x96 | b'T' | b'U' => self.string(opcode),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            // POP
            b'0' => match self.marks.last() == Some(&self.stack.len()) {
                true => self.pop_mark().map(|_| ()),
                false => self.pop().map(|_| ()),
            },
            // POP_MARK
            b'1' => self.pop_mark().map(|_| ()),
            // DUP
            b'2' => {
                let value = self.pop()?;
                self.stack.extend([value, value]);
                Ok(())
            }
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.recall(opcode),
            b']' | b'a' | b'e' | b'l' | b')' | b't' | 0x85..=0x87 => self.sequence(opcode),
            b'}' | b'd' | b's' | b'u' | 0x8f | 0x90 | 0x91 => self.mapping(opcode),
            b'c' | 0x93 | b'R' | b'b' | b'i' | b'o' | 0x81 | 0x92 => self.call(opcode),
            _ => Err(self.refused(opcode)),
        }
    }

    /// Why an opcode is not carried out.
    fn refused(&self, opcode: u8) -> ModelError {
        let text = match opcode {
            b'P' | b'Q' => "it refers to an object outside of the file by a persistent id",
            0x82..=0x84 => "it refers to a class by copyreg's registry, which is not in the file",
            0x97 | 0x98 => "its buffers are not in the file; save it without buffer_callback=",
            b'I' | b'L' | b'F' | b'S' | b'V' | b'g' | b'p' => {
                "it is written in protocol 0; save it with protocol 2 or later"
            }
            _ => return self.broken(&format!("{opcode:#04x} is no opcode of pickle's")),
        };
        self.broken(text)
    }

    /// An error at this place.
    pub(super) fn broken(&self, text: &str) -> ModelError {
        ModelError(format!("{text} (before byte {})", self.place))
    }

    fn number(&mut self, opcode: u8) -> Result<(), ModelError> {
        let value = match opcode {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'J' => Value::Int(i64::from(i32::from_le_bytes(self.take_array()?))),
            b'K' => Value::Int(i64::from(u8::from_le_bytes(self.take_array()?))),
            b'M' => Value::Int(i64::from(u16::from_le_bytes(self.take_array()?))),
            b'G' => Value::Float(f64::from_be_bytes(self.take_array()?)),
            _ => {
                let length = match opcode {
                    0x8a => u64::from(u8::from_le_bytes(self.take_array()?)),
                    _ => u64::from(u32::from_le_bytes(self.take_array()?)),
                };
                whole(self.take(length)?)
            }
        };
        self.stack.push(value);
        Ok(())
    }

    fn string(&mut self, opcode: u8) -> Result<(), ModelError> {
        let length = match opcode {
            0x8c | b'C' | b'U' => u64::from(u8::from_le_bytes(self.take_array()?)),
            b'X' | b'B' | b'T' => u64::from(u32::from_le_bytes(self.take_array()?)),
            _ => u64::from_le_bytes(self.take_array()?),
        };
        let bytes = self.take(length)?;
        let text = std::str::from_utf8(bytes);
        let value = match (opcode, text) {
            (b'X' | 0x8c | 0x8d | b'T' | b'U', Ok(text)) => self.builder.text(text)?,
            (b'X' | 0x8c | 0x8d, Err(_)) => return Err(self.broken("a text must be UTF-8")),
            _ => self.builder.bytes(bytes)?,
        };
        self.stack.push(value);
        Ok(())
    }

    /// Puts a value into the memo, or gets one.
    fn recall(&mut self, opcode: u8) -> Result<(), ModelError> {
        let index = match opcode {
            0x94 => self.memo.len(),
            b'h' | b'q' => usize::from(u8::from_le_bytes(self.take_array()?)),
            _ => usize::try_from(u32::from_le_bytes(self.take_array()?)).unwrap_or(usize::MAX),
        };
        if matches!(opcode, b'h' | b'j') {
            let value = self.memo.get(index).copied().flatten();
            let value = value.ok_or_else(|| {
                self.broken(&format!(
                    "it refers to value {index}, which it has not put aside"
                ))
            })?;
            self.stack.push(value);
            return Ok(());
        }
        let value = self.pop()?;
        self.stack.push(value);
        // Every value that is put aside takes bytes of the file.
        if index >= VALUES_MAX.min(self.bytes.len()) {
            return Err(self.broken(&format!(
                "it puts a value aside as number {index}: too many"
            )));
        }
        if self.memo.len() <= index {
            self.memo.resize(index + 1, None);
        }
        if let Some(slot) = self.memo.get_mut(index) {
            *slot = Some(value);
        }
        Ok(())
    }

    fn sequence(&mut self, opcode: u8) -> Result<(), ModelError> {
        let value = match opcode {
            b']' => self.builder.list(Vec::new())?,
            b'l' => {
                let elements = self.pop_mark()?;
                self.builder.list(elements)?
            }
            b'a' => {
                let element = self.pop()?;
                return self.extend(&[element]);
            }
            b'e' => {
                let elements = self.pop_mark()?;
                return self.extend(&elements);
            }
            b')' => self.empty_tuple()?,
            b't' => {
                let elements = self.pop_mark()?;
                self.builder.tuple(elements)?
            }
            _ => {
                let mut elements = Vec::with_capacity(3);
                for _ in 0x85..=opcode {
                    elements.push(self.pop()?);
                }
                elements.reverse();
                self.builder.tuple(elements)?
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// Adds elements to what is now the last value.
    fn extend(&mut self, elements: &[Value]) -> Result<(), ModelError> {
        match self.last()? {
            Value::List(index) | Value::Set(index) => self.builder.extend(index, elements),
            // Of a subclass of list, say; what it holds is not asked for.
            Value::Object(_) => Ok(()),
            _ => Err(self.broken("elements must go into a list or a set")),
        }
    }

    fn mapping(&mut self, opcode: u8) -> Result<(), ModelError> {
        let value = match opcode {
            b'}' => self.builder.dict(Vec::new())?,
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                return self.set_entries(&[key, value]);
            }
            b'u' => {
                let entries = self.pop_mark()?;
                return self.set_entries(&entries);
            }
            b'd' => {
                let entries = self.pop_mark()?;
                let dict = self.builder.dict(Vec::new())?;
                self.stack.push(dict);
                return self.set_entries(&entries);
            }
            0x90 => {
                let elements = self.pop_mark()?;
                return self.extend(&elements);
            }
            0x8f => self.builder.set(Vec::new())?,
            _ => {
                let elements = self.pop_mark()?;
                self.builder.set(elements)?
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// Sets entries of what is now the last value.
    fn set_entries(&mut self, entries: &[Value]) -> Result<(), ModelError> {
        match self.last()? {
            _ if !entries.len().is_multiple_of(2) => Err(self.broken("a key must have a value")),
            Value::Dict(index) => self.builder.set_entries(index, entries),
            Value::Object(_) => Ok(()),
            _ => Err(self.broken("entries must go into a dictionary")),
        }
    }

    fn call(&mut self, opcode: u8) -> Result<(), ModelError> {
        let value = match opcode {
            b'c' => self.named_by_lines()?,
            0x93 => {
                let name = self.pop()?;
                let module = self.pop()?;
                let objects = self.builder.objects();
                let (Some(module), Some(name)) = (objects.text(module), objects.text(name)) else {
                    return Err(self.broken("the name of a class or function must be two texts"));
                };
                let (module, name) = (module.to_owned(), name.to_owned());
                self.builder.global(&module, &name)?
            }
            b'R' => {
                let arguments = self.pop()?;
                let callable = self.pop()?;
                calls::reduced(self, callable, arguments)?
            }
            b'b' => {
                let state = self.pop()?;
                let value = self.pop()?;
                calls::with_state(self, value, state)?
            }
            0x81 => {
                let arguments = self.pop()?;
                let class = self.pop()?;
                calls::new(self, class, arguments)?
            }
            0x92 => {
                // Keyword arguments that no class of a model's needs.
                self.pop()?;
                let arguments = self.pop()?;
                let class = self.pop()?;
                calls::new(self, class, arguments)?
            }
            b'i' => {
                let class = self.named_by_lines()?;
                let elements = self.pop_mark()?;
                let arguments = self.builder.tuple(elements)?;
                calls::new(self, class, arguments)?
            }
            _ => {
                let mut elements = self.pop_mark()?;
                if elements.is_empty() {
                    return Err(self.broken("a class must stand before its arguments"));
                }
                let class = elements.remove(0);
                let arguments = self.builder.tuple(elements)?;
                calls::new(self, class, arguments)?
            }
        };
        self.stack.push(value);
        Ok(())
    }

    /// A name that is written as two lines.
    fn named_by_lines(&mut self) -> Result<Value, ModelError> {
        let module = self.line()?;
        let name = self.line()?;
        self.builder.global(module, name)
    }

    fn line(&mut self) -> Result<&'a str, ModelError> {
        let rest = self.bytes.get(self.place..).unwrap_or_default();
        let near = rest.get(..LINE_BYTES_MAX).unwrap_or(rest);
        let line = near.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let text = std::str::from_utf8(line);
        let (true, Ok(text)) = (line.len() < near.len(), text) else {
            return Err(self.broken("the name of a class or function must be two short lines"));
        };
        self.place = self.place.saturating_add(line.len()).saturating_add(1);
        Ok(text)
    }

    /// The empty tuple.
    pub(super) fn empty_tuple(&mut self) -> Result<Value, ModelError> {
        let value = match self.empty {
            Some(value) => value,
            None => self.builder.tuple(Vec::new())?,
        };
        self.empty = Some(value);
        Ok(value)
    }

    /// Counts bytes that are copied.
    ///
    /// # Errors
    ///
    /// More than twice what the file has: it copies the same ones again and again. Protocol 2 copies
    /// the bytes of a numpy scalar once for themselves and once for the scalar.
    pub(super) fn copied(&mut self, bytes: usize) -> Result<(), ModelError> {
        self.copied_bytes = self.copied_bytes.saturating_add(bytes);
        match self.copied_bytes / 2 > self.bytes.len() {
            false => Ok(()),
            true => Err(self.broken("it makes more bytes than it has")),
        }
    }

    fn last(&self) -> Result<Value, ModelError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        match self.stack.last() {
            Some(value) if self.stack.len() > floor => Ok(*value),
            _ => Err(self.broken("a value is missing")),
        }
    }

    fn pop(&mut self) -> Result<Value, ModelError> {
        let value = self.last()?;
        self.stack.pop();
        Ok(value)
    }

    /// What lies above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>, ModelError> {
        match self.marks.pop() {
            Some(mark) if mark <= self.stack.len() => Ok(self.stack.split_off(mark)),
            _ => Err(self.broken("a mark is missing")),
        }
    }

    /// The next bytes of the file.
    pub(super) fn take(&mut self, length: u64) -> Result<&'a [u8], ModelError> {
        let rest = self.bytes.get(self.place..).unwrap_or_default();
        let taken = usize::try_from(length)
            .ok()
            .and_then(|length| rest.get(..length));
        let Some(taken) = taken else {
            let left = rest.len();
            return Err(self.broken(&format!(
                "it is cut off: {length} bytes must follow, but there are {left}"
            )));
        };
        self.place = self.place.saturating_add(taken.len());
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], ModelError> {
        let mut bytes = [0; N];
        bytes.copy_from_slice(self.take(N as u64)?);
        Ok(bytes)
    }
}

/// A whole number of any length, lowest byte first, with its sign in the highest bit.
fn whole(bytes: &[u8]) -> Value {
    let is_negative = bytes.last().is_some_and(|byte| *byte >= 0x80);
    let mut all = [if is_negative { 0xff } else { 0 }; 8];
    match all.get_mut(..bytes.len()) {
        Some(own) => {
            own.copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(all))
        }
        None => Value::Opaque,
    }
}
