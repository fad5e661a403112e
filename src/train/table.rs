//! Tables: CSV with a header, read row by row, its columns found by name.
//!
//! The `csv` crate handles quotes, CRLF and a byte order mark. The rest is checked here: every
//! error is one line with file, line, column and the remedy.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use csv::StringRecord;

use crate::train::{source, western};

/// How many characters of a cell an error quotes.
const ECHO_MAX: usize = 40;

/// Names that an error lists.
const NAMES_SHOWN: usize = 20;

/// Maximum number of columns: each name is kept, and a client's header may be nothing but commas.
const COLUMNS_MAX: usize = 20_000;

/// What is wrong with a table: one line with its file, and line and column if it has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableError(pub String);

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TableError {}

/// A table as it is read.
pub struct TableReader<'a> {
    reader: csv::Reader<Box<dyn Read + 'a>>,
    name: String,
    header: Vec<String>,
    /// Whether the header is the table's own first line.
    has_header: bool,
    delimiter: u8,
    /// What was recognised of the file, if it is not as usual.
    notes: Vec<String>,
    /// The line of the row that was read last.
    line: u64,
    /// Lines that were skipped before the table.
    skipped_lines: u64,
}

impl std::fmt::Debug for TableReader<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Table")
            .field("name", &self.name)
            .field("header", &self.header)
            .finish_non_exhaustive()
    }
}

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

/// A column that is wanted: its name and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Its name in the header.
    pub name: String,
    /// Its index in a row, from 0.
    pub index: usize,
}

/// What reads a table's cells.
fn reader(delimiter: u8) -> csv::ReaderBuilder {
    let mut reader = csv::ReaderBuilder::new();
    reader
        .delimiter(delimiter)
        .flexible(true)
        // With CRLF as line end the reader counts one line too few, so the CR is removed here.
        .terminator(csv::Terminator::Any(b'\n'));
    reader
}

impl TableReader<'static> {
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
        let unreadable = |error: io::Error| TableError(format!("cannot read {name}: {error}"));
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
        let mut table = match shape.has_header {
            true if source.first_line_is_numbers => {
                return Err(TableError(format!(
                    "{name} has no header: its first line is nothing but numbers; name the columns in a first line, or give --no-header, which calls them c0, c1, …"
                )));
            }
            true => TableReader::new(&name, reader, source.delimiter)?,
            false => TableReader::with_numbered_columns(&name, reader, source.delimiter)?,
        };
        table.notes = source.notes;
        table.skipped_lines = shape.skipped_lines as u64;
        Ok(table)
    }

    /// Starts to read a table without a header: its columns are called c0, c1, ….
    fn with_numbered_columns(
        name: &str,
        source: Box<dyn Read>,
        delimiter: u8,
    ) -> Result<Self, TableError> {
        let mut table = TableReader::without_header(name, source, delimiter, Vec::new());
        // Without headers, the first record is read again as a row.
        let first = table.reader.headers().cloned();
        let first = first.map_err(|error| table.unreadable(&error))?;
        table.header = (0..first.len())
            .map(|column| format!("c{column}"))
            .collect();
        Ok(table)
    }
}

impl<'a> TableReader<'a> {
    /// Reads the header of a table that errors call `name`.
    ///
    /// # Errors
    ///
    /// As [`TableReader::open`].
    pub fn new(name: &str, source: Box<dyn Read + 'a>, delimiter: u8) -> Result<Self, TableError> {
        let mut table = TableReader {
            reader: reader(delimiter).from_reader(source),
            name: name.to_owned(),
            header: Vec::new(),
            has_header: true,
            delimiter,
            notes: Vec::new(),
            line: 1,
            skipped_lines: 0,
        };
        let header = table.reader.headers().cloned();
        let header = header.map_err(|error| table.unreadable(&error))?;
        if header.len() > COLUMNS_MAX {
            return Err(TableError(format!(
                "{name}, line 1: a table may have {COLUMNS_MAX} columns, but it has {}",
                header.len()
            )));
        }
        table.header = header.iter().map(|name| name.trim().to_owned()).collect();
        if table.header.iter().all(String::is_empty) {
            return Err(TableError(format!(
                "{name} has no header: its first line must name the columns"
            )));
        }
        Ok(table)
    }

    /// Starts to read a table that has no header; its columns are these.
    pub fn without_header(
        name: &str,
        source: Box<dyn Read + 'a>,
        delimiter: u8,
        header: Vec<String>,
    ) -> Self {
        TableReader {
            reader: reader(delimiter).has_headers(false).from_reader(source),
            name: name.to_owned(),
            header,
            has_header: false,
            delimiter,
            notes: Vec::new(),
            line: 0,
            skipped_lines: 0,
        }
    }

    /// What errors call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What was recognised of its file, if it is not as usual.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What separates its cells.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// The line of the row that was read last, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The names of its columns, in order.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    /// Finds columns by their names, in any order.
    ///
    /// # Errors
    ///
    /// A column that is missing or occurs twice.
    pub fn find<N: AsRef<str>>(&self, names: &[N]) -> Result<Vec<Column>, TableError> {
        let mut places: HashMap<&str, (usize, Option<usize>)> = HashMap::new();
        for (index, name) in self.header.iter().enumerate() {
            places
                .entry(name)
                .and_modify(|(_, again)| *again = again.or(Some(index)))
                .or_insert((index, None));
        }
        let is_missing = |name: &&str| !places.contains_key(name);
        let missing: Vec<&str> = names.iter().map(AsRef::as_ref).filter(is_missing).collect();
        if missing.len() > 1 {
            let quoted = missing.iter().map(|name| format!("{name:?}"));
            return Err(TableError(format!(
                "{}, line 1: there are no columns {}; there are {}",
                self.name,
                listed(&quoted.collect::<Vec<_>>()),
                listed(&self.header)
            )));
        }
        let find = |name: &str| self.column(name, places.get(name).copied());
        names.iter().map(|name| find(name.as_ref())).collect()
    }

    fn column(
        &self,
        name: &str,
        places: Option<(usize, Option<usize>)>,
    ) -> Result<Column, TableError> {
        match places {
            Some((index, None)) => Ok(Column {
                name: name.to_owned(),
                index,
            }),
            Some((first, Some(second))) => Err(TableError(format!(
                "{}, line 1: the column {name:?} occurs twice, as columns {} and {}; rename or remove one",
                self.name,
                first + 1,
                second + 1
            ))),
            None => Err(TableError(format!(
                "{}, line 1: there is no column {name:?}; there are {}",
                self.name,
                listed(&self.header)
            ))),
        }
    }

    /// The columns that are not among `wanted`.
    pub fn others(&self, wanted: &[Column]) -> Vec<String> {
        let wanted: HashSet<usize> = wanted.iter().map(|column| column.index).collect();
        let others = self.header.iter().enumerate();
        others
            .filter(|(index, _)| !wanted.contains(index))
            .map(|(_, name)| name.clone())
            .collect()
    }

    /// Reads the next row into `record`; `false` at the end of the table.
    ///
    /// # Errors
    ///
    /// A row of another length than the header, invalid UTF-8, and the source's own.
    pub fn next(&mut self, record: &mut StringRecord) -> Result<bool, TableError> {
        match self.next_row(record)? {
            None => Ok(false),
            Some(row) => row.map(|()| true),
        }
    }

    /// Reads the next row into `record`; `None` at the end of the table. A row that is wrong does not
    /// keep the next from being read.
    ///
    /// # Errors
    ///
    /// Invalid UTF-8, and the source's own.
    pub fn next_row(
        &mut self,
        record: &mut StringRecord,
    ) -> Result<Option<Result<(), TableError>>, TableError> {
        loop {
            let more = self.reader.read_record(record);
            let more = more.map_err(|error| self.unreadable(&error))?;
            if !more {
                return Ok(None);
            }
            let start = record.position().map_or(0, csv::Position::line);
            strip_return(record);
            // The reader skips blank lines before the row without a word.
            let lines = self.reader.position().line() - start;
            let inside = record
                .as_slice()
                .bytes()
                .filter(|byte| *byte == b'\n')
                .count() as u64;
            let skipped = lines.saturating_sub(1 + inside);
            self.line = start + skipped + self.skipped_lines;
            let is_blank = record.len() == 1 && record.get(0).is_some_and(str::is_empty);
            // In one column, a blank line may be meant as a missing value.
            if self.header.len() == 1 && (skipped > 0 || is_blank) {
                let line = if is_blank { self.line } else { self.line - 1 };
                return Ok(Some(Err(TableError(format!(
                    "{}, line {line}: the line is blank; remove it, or write NA for a missing value",
                    self.name
                )))));
            }
            if !is_blank {
                break;
            }
        }
        if record.len() == self.header.len() {
            return Ok(Some(Ok(())));
        }
        Ok(Some(Err(self.wrong_width(record))))
    }

    fn wrong_width(&self, record: &StringRecord) -> TableError {
        let expected = match self.has_header {
            true => "the header has",
            false => "the table has no header, so there must be",
        };
        let remedy = match record.iter().position(|cell| cell.contains('\n')) {
            Some(cell) => format!(
                "cell {} goes on over several lines, as after a stray quote: close the quote, or double it within a cell",
                cell + 1
            ),
            None => "complete it, or quote what holds the delimiter".to_owned(),
        };
        TableError(format!(
            "{}: the row has {} cells, but {expected} {}; {remedy}",
            self.place(),
            record.len(),
            self.header.len()
        ))
    }

    /// Reads a cell as a finite number.
    ///
    /// # Errors
    ///
    /// What it is instead, with its place.
    pub fn number(&self, record: &StringRecord, column: &Column) -> Result<f64, TableError> {
        let text = record.get(column.index).unwrap_or_default().trim();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ if text.is_empty() => Err(TableError(format!(
                "{} is empty; fill it in, or leave the row out",
                self.cell(column)
            ))),
            Ok(_) => Err(TableError(format!(
                "{} is {}, but must be a finite number",
                self.cell(column),
                short(text)
            ))),
            Err(_) => Err(TableError(format!(
                "{} is {}, but must be a number; encode text as numbers, or choose other columns",
                self.cell(column),
                echo(text)
            ))),
        }
    }

    /// Reads a cell as text.
    ///
    /// # Errors
    ///
    /// It is empty.
    pub fn text<'r>(
        &self,
        record: &'r StringRecord,
        column: &Column,
    ) -> Result<&'r str, TableError> {
        let text = record.get(column.index).unwrap_or_default().trim();
        if text.is_empty() {
            return Err(TableError(format!(
                "{} is empty; fill it in, or leave the row out",
                self.cell(column)
            )));
        }
        Ok(text)
    }

    /// The place of a cell, for an error.
    pub fn cell(&self, column: &Column) -> String {
        format!("{}, column {:?}: the cell", self.place(), column.name)
    }

    fn place(&self) -> String {
        format!("{}, line {}", self.name, self.line)
    }

    fn unreadable(&self, error: &csv::Error) -> TableError {
        let line = error.position().map(csv::Position::line);
        let place = line.map_or_else(
            || self.name.clone(),
            |line| format!("{}, line {line}", self.name),
        );
        TableError(match error.kind() {
            csv::ErrorKind::Utf8 { .. } => format!("{place}: it is not UTF-8; save it as UTF-8"),
            csv::ErrorKind::Io(error) => format!("cannot read {}: {error}", self.name),
            _ => format!("{place}: {error}"),
        })
    }
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

/// Lists the first names for an error.
fn listed<N: AsRef<str>>(names: &[N]) -> String {
    let shown: Vec<&str> = names.iter().take(NAMES_SHOWN).map(AsRef::as_ref).collect();
    match names.len().saturating_sub(NAMES_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
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

    fn table(text: &str) -> Result<TableReader<'_>, TableError> {
        TableReader::new("t.csv", Box::new(text.as_bytes()), b',')
    }

    /// Reads all numbers of two columns, or the first error.
    fn numbers(text: &str) -> Result<Vec<[f64; 2]>, TableError> {
        let mut table = table(text)?;
        let columns = table.find(&["a".to_owned(), "b".to_owned()])?;
        let mut record = StringRecord::new();
        let mut rows = Vec::new();
        while table.next(&mut record)? {
            rows.push([
                table.number(&record, &columns[0])?,
                table.number(&record, &columns[1])?,
            ]);
        }
        Ok(rows)
    }

    #[test]
    fn columns_are_found_by_name_whatever_else_there_is() {
        let expected = Ok(vec![[1.0, 2.5], [-3e5, 0.0]]);
        assert_eq!(numbers("a,b\n1,2.5\n-3e5,0\n"), expected);
        assert_eq!(numbers("\u{feff}b,x,a\r\n2.5,t,1\r\n0,,-3e5"), expected);
        assert_eq!(numbers("\"b\",\"a\"\n\"2.5\", 1 \n0,-3e5\n\n"), expected);
        assert_eq!(numbers("a,b\r\n\r\n1,\"2.5\"\r\n-3e5,0\r\n\r\n"), expected);
        assert_eq!(numbers("a,b\n"), Ok(vec![]));
        let table = table("c,a,b,d\n").unwrap();
        let columns = table.find(&["b".to_owned()]).unwrap();
        assert_eq!(table.others(&columns), ["c", "a", "d"]);
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
        let wide = ",".repeat(COLUMNS_MAX);
        let error = numbers(&wide).unwrap_err();
        assert!(
            error.0.contains("may have 20000 columns, but it has 20001"),
            "{error}"
        );
        let latin = TableReader::new("t.csv", Box::new(&b"a,b\n1,2\n1,\xe9\n"[..]), b',');
        let mut latin = latin.unwrap();
        let mut record = StringRecord::new();
        assert_eq!(latin.next(&mut record), Ok(true));
        let error = latin.next(&mut record).unwrap_err();
        assert_eq!(error.0, "t.csv, line 3: it is not UTF-8; save it as UTF-8");
    }
}
