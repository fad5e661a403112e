//! Tables: CSV with a header, its columns found by name, its rows read one by one or a block at a time.
//!
//! Every error is one line with file, line, column and the remedy.

mod blocks;
mod layout;
mod rows;
mod text;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::train::{source, western};

pub use blocks::TableBlock;
use blocks::TableBlocks;
pub use layout::{TableColumn, TableLayout};
pub use rows::{RowReader, TableRow};

/// How many characters of a cell an error quotes.
const ECHO_MAX: usize = 40;

/// What is wrong with a table: one line with its file, and line and column if it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableError(pub String);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TableError {}

/// What is said of a table's form before it is read.
#[derive(Debug, Clone, Copy)]
pub struct TableShape {
    /// What separates cells; recognised if absent.
    pub delimiter: Option<u8>,
    /// Whether its first line names the columns.
    pub has_header: bool,
    /// Lines before it that are skipped.
    pub skipped_lines: usize,
}

/// A table of any size as it is read, a block at a time.
pub struct TableReader {
    /// The rows that are in memory.
    block: RowReader<'static>,
    /// The text after them.
    blocks: TableBlocks,
    /// What was recognised of the file, if it is not as usual.
    notes: Vec<String>,
}

impl fmt::Debug for TableReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TableReader")
            .field("layout", self.layout())
            .field("notes", &self.notes)
            .finish_non_exhaustive()
    }
}

impl TableReader {
    /// Opens the file at `path`, or standard input for `-`, and reads its header. Packing, encoding
    /// and delimiter are recognised.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or is no table, a header that is missing.
    pub fn open(path: &Path, shape: &TableShape) -> Result<Self, TableError> {
        let is_stdin = path == Path::new("-");
        let name = match is_stdin {
            true => "standard input".to_owned(),
            false => path.display().to_string(),
        };
        let unreadable = |error: io::Error| unreadable(&name, &error);
        let file: Box<dyn Read> = match is_stdin {
            true => Box::new(io::stdin()),
            false => Box::new(File::open(path).map_err(unreadable)?),
        };
        let source =
            source::open(file, shape.delimiter, shape.skipped_lines).map_err(unreadable)?;
        if let Some(problem) = source.problem {
            return Err(TableError(format!("{name}: {problem}")));
        }
        let reader = western::decoded(source.reader).map_err(unreadable)?;
        if shape.has_header && source.first_line_is_numbers {
            return Err(TableError(format!(
                "{name} has no header: its first line is nothing but numbers; name the columns in a first line, or give --no-header, which calls them c0, c1, …"
            )));
        }
        let mut table = TableReader::new(&name, reader, source.delimiter, shape)?;
        table.notes = source.notes;
        Ok(table)
    }

    /// Reads the header of a text, of which the lines to be skipped are gone.
    fn new(
        name: &str,
        source: Box<dyn Read>,
        delimiter: u8,
        shape: &TableShape,
    ) -> Result<Self, TableError> {
        let mut blocks = TableBlocks::new(source, delimiter, shape.skipped_lines as u64);
        let first = blocks.next().map_err(|error| unreadable(name, &error))?;
        let first = first.unwrap_or_default();
        let block = match shape.has_header {
            true => RowReader::with_header(name, first, delimiter)?,
            false => RowReader::with_numbered_columns(name, first, delimiter)?,
        };
        Ok(TableReader {
            block,
            blocks,
            notes: Vec::new(),
        })
    }

    /// A table with a header that is in memory.
    #[cfg(test)]
    pub(crate) fn of_text(name: &str, text: &[u8], delimiter: u8) -> Result<Self, TableError> {
        let shape = TableShape {
            delimiter: Some(delimiter),
            has_header: true,
            skipped_lines: 0,
        };
        let source = io::Cursor::new(text.to_vec());
        TableReader::new(name, Box::new(source), delimiter, &shape)
    }

    /// What is known of it beside its rows.
    pub fn layout(&self) -> &TableLayout {
        self.block.layout()
    }

    /// What was recognised of its file, if it is not as usual.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Reads the next row; `None` at the end of the table. A row that is wrong does not keep the next
    /// from being read.
    ///
    /// # Errors
    ///
    /// Invalid UTF-8, and the source's own.
    pub fn next_row(&mut self) -> Result<Option<TableRow<'_>>, TableError> {
        while !self.block.advance()? {
            match self.next_text()? {
                None => return Ok(None),
                Some(block) => self.block = self.block.with_block(block),
            }
        }
        Ok(Some(self.block.row()))
    }

    /// Takes rows: those that are in memory, or the next ones. They can be read while others are
    /// taken. `None` at the end of the table.
    ///
    /// # Errors
    ///
    /// The source's own.
    pub fn next_block(&mut self) -> Result<Option<RowReader<'static>>, TableError> {
        if !self.block.is_done() {
            let none = self.block.with_block(TableBlock::default());
            return Ok(Some(std::mem::replace(&mut self.block, none)));
        }
        let block = self.next_text()?;
        Ok(block.map(|block| self.block.with_block(block)))
    }

    fn next_text(&mut self) -> Result<Option<TableBlock<'static>>, TableError> {
        let block = self.blocks.next();
        block.map_err(|error| unreadable(&self.layout().name, &error))
    }
}

fn unreadable(name: &str, error: &io::Error) -> TableError {
    TableError(format!("cannot read {name}: {error}"))
}

/// Quotes a cell, truncated and escaped.
pub fn echo(text: &str) -> String {
    let short: String = text.chars().take(ECHO_MAX).collect();
    let more = if short.len() < text.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

/// Quotes a number as written, however many digits it has.
fn short(number: &str) -> String {
    let short: String = number.chars().take(ECHO_MAX).collect();
    let more = if short.len() < number.len() {
        "…"
    } else {
        ""
    };
    format!("{short}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(text: &str) -> Result<RowReader<'_>, TableError> {
        RowReader::with_header("t.csv", TableBlock::whole(text.as_bytes()), b',')
    }

    /// Reads all numbers of two columns, or the first error.
    fn numbers(text: &str) -> Result<Vec<[f64; 2]>, TableError> {
        let mut table = table(text)?;
        let columns = table.layout().find(&["a".to_owned(), "b".to_owned()])?;
        let mut rows = Vec::new();
        while let Some(row) = table.next_row()? {
            row.check()?;
            rows.push([row.number(&columns[0])?, row.number(&columns[1])?]);
        }
        Ok(rows)
    }

    #[test]
    fn columns_are_found_by_name_whatever_else_there_is() {
        let expected = Ok(vec![[1.0, 2.5], [-3e5, 0.0]]);
        assert_eq!(numbers("a,b\n1,2.5\n-3e5,0\n"), expected);
        assert_eq!(numbers("b,x,a\r\n2.5,t,1\r\n0,,-3e5"), expected);
        assert_eq!(numbers("\"b\",\"a\"\n\"2.5\", 1 \n0,-3e5\n\n"), expected);
        assert_eq!(numbers("a,b\r\n\r\n1,\"2.5\"\r\n-3e5,0\r\n\r\n"), expected);
        assert_eq!(numbers("a,b\n"), Ok(vec![]));
        let table = table("c,a,b,d\n").unwrap();
        let columns = table.layout().find(&["b".to_owned()]).unwrap();
        assert_eq!(table.layout().others(&columns), ["c", "a", "d"]);
    }

    #[test]
    fn errors_have_file_line_and_column() {
        #[rustfmt::skip]
        let wrong = [
            ("", "t.csv has no header"),
            ("a,c\n1,2\n", "t.csv, line 1: there is no column \"b\"; there are a, c"),
            ("a,b,a\n1,2,3\n", "t.csv, line 1: the column \"a\" occurs twice, as columns 1 and 3"),
            ("a,b\n1,2\n1\n", "t.csv, line 3: the row has 1 cells, but the header has 2"),
            ("a,b\n1,2,3\n", "t.csv, line 2: the row has 3 cells"),
            ("a,b\r\n1,2\r\n\r\n1,\r\n", "t.csv, line 4, column \"b\": the cell is empty"),
            ("a,b\r\n1,2\r\n\"1\n\",\"2\n\"\r\n1,x\r\n", "t.csv, line 6, column \"b\""),
            ("a,b\n1,\n", "t.csv, line 2, column \"b\": the cell is empty"),
            ("a,b\n1,2\n1,x\n", "t.csv, line 3, column \"b\": the cell is \"x\", but must be a number"),
            ("a,b\nNaN,2\n", "t.csv, line 2, column \"a\": the cell is NaN, but must be a finite number"),
            ("a,b\n1,-inf\n", "t.csv, line 2, column \"b\": the cell is -inf, but must be a finite number"),
            ("a,b\n1,1e999\n", "t.csv, line 2, column \"b\": the cell is 1e999, but must be a finite number"),
        ];
        for (text, expected) in wrong {
            let error = numbers(text).unwrap_err();
            assert!(error.0.starts_with(expected), "{text:?}: {error}");
            assert_eq!(error.0.lines().count(), 1);
        }
        let digits = numbers(&format!("a,b\n1,{}\n", "7".repeat(400))).unwrap_err();
        assert!(
            digits.0.len() < 130 && digits.0.contains("777…, but"),
            "{digits}"
        );
        let wide = ",".repeat(20_000);
        let error = numbers(&wide).unwrap_err();
        assert!(
            error.0.contains("may have 20000 columns, but it has 20001"),
            "{error}"
        );
        let latin = RowReader::with_header("t.csv", TableBlock::whole(b"a,b\n1,2\n1,\xe9\n"), b',');
        let mut latin = latin.unwrap();
        assert!(latin.next_row().unwrap().is_some());
        let error = latin.next_row().unwrap_err();
        assert_eq!(error.0, "t.csv, line 3: it is not UTF-8; save it as UTF-8");
    }
}
