//! The rows of a text and their cells.
//!
//! Text without quotes is split here, as splitting is most of what it takes to read a table of numbers.
//! The `csv` crate reads text with quotes; both find the same cells.

use std::borrow::Cow;
use std::io::Cursor;

use csv::StringRecord;
use memchr::memchr;

/// A text, of which some rows were read.
#[derive(Debug)]
pub(super) enum TableText<'a> {
    Plain(PlainText<'a>),
    Quoted(Box<QuotedText<'a>>),
}

/// A text in which a line end always ends a row, and a delimiter a cell.
#[derive(Debug)]
pub(super) struct PlainText<'a> {
    text: Cow<'a, str>,
    delimiter: u8,
    /// Where the next line starts.
    next: usize,
    /// Lines that were read.
    lines: u64,
    /// Where each cell starts of the row that was read last, and where the next one would.
    starts: Vec<usize>,
}

/// A text with quotes.
#[derive(Debug)]
pub(super) struct QuotedText<'a> {
    reader: csv::Reader<Cursor<Cow<'a, [u8]>>>,
    /// The row that was read last.
    record: StringRecord,
}

/// Where a row stands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RowPlace {
    /// Its first line, from 1 at the start of the text.
    pub(super) line: u64,
    /// Blank lines before it that were skipped.
    pub(super) skipped: u64,
}

impl<'a> TableText<'a> {
    /// Starts to read a text.
    pub(super) fn new(text: Cow<'a, [u8]>, delimiter: u8) -> Self {
        let is_quoted = memchr(b'"', &text).is_some();
        let text = match is_quoted {
            true => Err(text),
            false => plain(text),
        };
        let text = match text {
            Ok(text) => {
                return TableText::Plain(PlainText {
                    text,
                    delimiter,
                    next: 0,
                    lines: 0,
                    starts: Vec::new(),
                });
            }
            Err(text) => text,
        };
        let mut reader = csv::ReaderBuilder::new();
        reader
            .delimiter(delimiter)
            .flexible(true)
            .has_headers(false)
            // With CRLF as line end the reader counts one line too few, so the CR is removed here.
            .terminator(csv::Terminator::Any(b'\n'));
        TableText::Quoted(Box::new(QuotedText {
            reader: reader.from_reader(Cursor::new(text)),
            record: StringRecord::new(),
        }))
    }

    /// Whether all of it was read. Text with quotes may have blank lines left.
    pub(super) fn is_done(&self) -> bool {
        match self {
            TableText::Plain(plain) => plain.next >= plain.text.len(),
            TableText::Quoted(quoted) => quoted.reader.is_done(),
        }
    }

    /// The same text, of which no row was read.
    pub(super) fn again(self, delimiter: u8) -> Self {
        let text = match self {
            TableText::Plain(plain) => match plain.text {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            TableText::Quoted(quoted) => quoted.reader.into_inner().into_inner(),
        };
        TableText::new(text, delimiter)
    }

    /// Reads the next row; lines that are quite empty are skipped. `None` at the end.
    ///
    /// # Errors
    ///
    /// The row is not in UTF-8.
    pub(super) fn next(&mut self) -> Result<Option<RowPlace>, csv::Error> {
        match self {
            TableText::Plain(plain) => Ok(plain.next()),
            TableText::Quoted(quoted) => quoted.next(),
        }
    }

    /// Number of cells of the row that was read last.
    pub(super) fn width(&self) -> usize {
        match self {
            TableText::Plain(plain) => plain.starts.len().saturating_sub(1),
            TableText::Quoted(quoted) => quoted.record.len(),
        }
    }

    /// A cell of that row.
    pub(super) fn cell(&self, index: usize) -> Option<&str> {
        match self {
            TableText::Plain(plain) => plain.cell(index),
            TableText::Quoted(quoted) => quoted.record.get(index),
        }
    }
}

impl QuotedText<'_> {
    fn next(&mut self) -> Result<Option<RowPlace>, csv::Error> {
        if !self.reader.read_record(&mut self.record)? {
            return Ok(None);
        }
        let position = self.record.position().cloned();
        let position = position.unwrap_or_else(csv::Position::new);
        strip_return(&mut self.record);
        // The reader skips blank lines before the row without a word.
        let text = self.reader.get_ref().get_ref();
        let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
        let row = text.get(start..).unwrap_or_default();
        let skipped = row.iter().take_while(|byte| **byte == b'\n').count() as u64;
        Ok(Some(RowPlace {
            line: position.line() + skipped,
            skipped,
        }))
    }
}

/// The text, if it is UTF-8.
fn plain(text: Cow<'_, [u8]>) -> Result<Cow<'_, str>, Cow<'_, [u8]>> {
    match text {
        Cow::Borrowed(text) => match std::str::from_utf8(text) {
            Ok(text) => Ok(Cow::Borrowed(text)),
            Err(_) => Err(Cow::Borrowed(text)),
        },
        Cow::Owned(text) => match String::from_utf8(text) {
            Ok(text) => Ok(Cow::Owned(text)),
            Err(error) => Err(Cow::Owned(error.into_bytes())),
        },
    }
}

impl PlainText<'_> {
    fn next(&mut self) -> Option<RowPlace> {
        let mut skipped = 0;
        loop {
            let text = self.text.as_bytes();
            let rest = text.get(self.next..).filter(|rest| !rest.is_empty())?;
            let end = memchr(b'\n', rest);
            let line = &rest[..end.unwrap_or(rest.len())];
            let start = self.next;
            self.next += line.len() + usize::from(end.is_some());
            self.lines += 1;
            if line.is_empty() {
                skipped += 1;
                continue;
            }
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            self.starts.clear();
            put_starts(line, start, self.delimiter, &mut self.starts);
            return Some(RowPlace {
                line: self.lines,
                skipped,
            });
        }
    }

    fn cell(&self, index: usize) -> Option<&str> {
        let (start, next) = (*self.starts.get(index)?, *self.starts.get(index + 1)?);
        self.text.get(start..next - 1)
    }
}

/// Puts where each cell of a line starts that starts at `start`, and where one after them would.
fn put_starts(line: &[u8], start: usize, delimiter: u8, starts: &mut Vec<usize>) {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const LOW_BITS: u64 = ONES * 0x7f;
    let delimiters = ONES * u64::from(delimiter);
    let (words, rest) = line.as_chunks::<8>();
    starts.push(start);
    // Cells are short, so a search for each would take longer than a look at eight bytes at once.
    for (place, word) in words.iter().enumerate() {
        let other = u64::from_le_bytes(*word) ^ delimiters;
        // The high bit of each byte that is zero.
        let mut found = !(((other & LOW_BITS) + LOW_BITS) | other | LOW_BITS);
        while found != 0 {
            starts.push(start + place * 8 + found.trailing_zeros() as usize / 8 + 1);
            found &= found - 1;
        }
    }
    let rest_start = start + words.len() * 8;
    for (at, byte) in rest.iter().enumerate() {
        if *byte == delimiter {
            starts.push(rest_start + at + 1);
        }
    }
    starts.push(start + line.len() + 1);
}

/// Removes the CR of a CRLF from a row's last cell.
fn strip_return(record: &mut StringRecord) {
    let Some(last) = record.len().checked_sub(1) else {
        return;
    };
    let Some(stripped) = record.get(last).and_then(|cell| cell.strip_suffix('\r')) else {
        return;
    };
    let stripped = stripped.to_owned();
    record.truncate(last);
    record.push_field(&stripped);
}
