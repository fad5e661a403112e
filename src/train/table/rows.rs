//! Reads the rows of a table that are in memory.

use std::sync::Arc;

use super::blocks::TableBlock;
use super::text::{RowPlace, TableText};
use super::{TableColumn, TableError, TableLayout, echo, short};

/// Maximum number of columns: each name is kept, and a client's header may be nothing but commas.
const COLUMNS_MAX: usize = 20_000;

/// Reads the rows of a text in memory.
#[derive(Debug)]
pub struct RowReader<'a> {
    layout: Arc<TableLayout>,
    text: TableText<'a>,
    /// Lines of the table before the text.
    lines_before: u64,
    /// Where the row stands that was read last.
    place: RowPlace,
}

impl<'a> RowReader<'a> {
    fn new(layout: Arc<TableLayout>, block: TableBlock<'a>) -> Self {
        RowReader {
            text: TableText::new(block.text, layout.delimiter),
            layout,
            lines_before: block.lines_before,
            place: RowPlace::default(),
        }
    }

    /// Reads the header of a table that errors call `name`.
    ///
    /// # Errors
    ///
    /// There is no header, or one of too many columns, or not in UTF-8.
    pub fn with_header(
        name: &str,
        block: TableBlock<'a>,
        delimiter: u8,
    ) -> Result<Self, TableError> {
        let mut rows = Self::at_first_row(name, block, delimiter)?;
        let width = rows.text.width();
        if width > COLUMNS_MAX {
            return Err(TableError(format!(
                "{name}, line 1: a table may have {COLUMNS_MAX} columns, but it has {width}"
            )));
        }
        let header = rows.row().cells().map(|name| name.trim().to_owned());
        let header: Vec<String> = header.collect();
        if header.iter().all(String::is_empty) {
            return Err(TableError(format!(
                "{name} has no header: its first line must name the columns"
            )));
        }
        let layout = TableLayout {
            header,
            has_header: true,
            ..rows.layout.as_ref().clone()
        };
        rows.layout = Arc::new(layout);
        Ok(rows)
    }

    /// Starts to read a table that has no header; its columns are these.
    pub fn without_header(
        name: &str,
        block: TableBlock<'a>,
        delimiter: u8,
        header: Vec<String>,
    ) -> Self {
        let layout = TableLayout {
            name: name.to_owned(),
            header,
            has_header: false,
            delimiter,
        };
        RowReader::new(Arc::new(layout), block)
    }

    /// Starts to read a table without a header: its columns are called c0, c1, ….
    ///
    /// # Errors
    ///
    /// Its first row is not in UTF-8.
    pub fn with_numbered_columns(
        name: &str,
        block: TableBlock<'a>,
        delimiter: u8,
    ) -> Result<Self, TableError> {
        let mut rows = Self::at_first_row(name, block, delimiter)?;
        let columns = 0..rows.text.width();
        let layout = TableLayout {
            header: columns.map(|column| format!("c{column}")).collect(),
            ..rows.layout.as_ref().clone()
        };
        rows.layout = Arc::new(layout);
        rows.text = rows.text.again(delimiter);
        Ok(rows)
    }

    /// A reader whose columns are not known, at its first row.
    fn at_first_row(name: &str, block: TableBlock<'a>, delimiter: u8) -> Result<Self, TableError> {
        let mut rows = RowReader::without_header(name, block, delimiter, Vec::new());
        let read = rows.text.next();
        read.map_err(|error| rows.unreadable(&error))?;
        Ok(rows)
    }

    /// Whether all rows were read.
    pub(super) fn is_done(&self) -> bool {
        self.text.is_done()
    }

    /// Reads a further block of the same table.
    pub(super) fn with_block<'b>(&self, block: TableBlock<'b>) -> RowReader<'b> {
        RowReader::new(Arc::clone(&self.layout), block)
    }

    /// What is known of the table.
    pub fn layout(&self) -> &TableLayout {
        &self.layout
    }

    /// Reads the next row; `None` at the end of the text. A row that is wrong does not keep the next
    /// from being read.
    ///
    /// # Errors
    ///
    /// Invalid UTF-8.
    pub fn next_row(&mut self) -> Result<Option<TableRow<'_>>, TableError> {
        Ok(match self.advance()? {
            true => Some(self.row()),
            false => None,
        })
    }

    /// Goes to the next row that is to be told or used; `false` at the end of the text.
    pub(super) fn advance(&mut self) -> Result<bool, TableError> {
        loop {
            let place = self.text.next();
            let Some(place) = place.map_err(|error| self.unreadable(&error))? else {
                return Ok(false);
            };
            self.place = place;
            // In one column, a blank line may be meant as a missing value.
            if self.layout.header.len() == 1 || !self.row().is_blank() {
                return Ok(true);
            }
        }
    }

    /// The row that was read last.
    pub(super) fn row(&self) -> TableRow<'_> {
        TableRow(self)
    }

    fn unreadable(&self, error: &csv::Error) -> TableError {
        let name = &self.layout.name;
        let line = error.position().map(csv::Position::line);
        let place = match line {
            Some(line) => format!("{name}, line {}", self.lines_before + line),
            None => name.clone(),
        };
        TableError(match error.kind() {
            csv::ErrorKind::Utf8 { .. } => format!("{place}: it is not UTF-8; save it as UTF-8"),
            _ => format!("{place}: {error}"),
        })
    }
}

/// A row of a table.
#[derive(Debug, Clone, Copy)]
pub struct TableRow<'r>(&'r RowReader<'r>);

impl<'r> TableRow<'r> {
    /// Its line in the table, from 1.
    pub fn line(self) -> u64 {
        self.0.lines_before + self.0.place.line
    }

    /// Its cells.
    pub fn cells(self) -> impl Iterator<Item = &'r str> {
        let width = self.0.text.width();
        (0..width).map(move |index| self.0.text.cell(index).unwrap_or_default())
    }

    /// The text of a cell as it stands there, or nothing if the row is too short.
    pub fn get(self, column: &TableColumn) -> &'r str {
        self.0.text.cell(column.index).unwrap_or_default()
    }

    fn is_blank(self) -> bool {
        self.0.text.width() == 1 && self.0.text.cell(0).is_some_and(str::is_empty)
    }

    /// Holds that it has a cell for each column.
    ///
    /// # Errors
    ///
    /// It has more or fewer, or there is a blank line in a table of one column.
    pub fn check(self) -> Result<(), TableError> {
        let layout = self.0.layout();
        let (width, columns) = (self.0.text.width(), layout.header.len());
        if columns == 1 && (self.0.place.skipped > 0 || self.is_blank()) {
            let line = self.line() - u64::from(!self.is_blank());
            return Err(TableError(format!(
                "{}, line {line}: the line is blank; remove it, or write NA for a missing value",
                layout.name
            )));
        }
        if width == columns {
            return Ok(());
        }
        let expected = match layout.has_header {
            true => "the header has",
            false => "the table has no header, so there must be",
        };
        let remedy = match self.cells().position(|cell| cell.contains('\n')) {
            Some(cell) => format!(
                "cell {} goes on over several lines, as after a stray quote: close the quote, or double it within a cell",
                cell + 1
            ),
            None => "complete it, or quote what holds the delimiter".to_owned(),
        };
        Err(TableError(format!(
            "{}: the row has {width} cells, but {expected} {columns}; {remedy}",
            self.place()
        )))
    }

    /// Reads a cell as a finite number.
    ///
    /// # Errors
    ///
    /// What it is instead, with its place.
    pub fn number(self, column: &TableColumn) -> Result<f64, TableError> {
        let text = self.get(column).trim();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(number),
            _ if text.is_empty() => Err(self.empty(column)),
            Ok(_) => Err(TableError(format!(
                "{} is {}, but must be a finite number",
                self.place_of(column),
                short(text)
            ))),
            Err(_) => Err(TableError(format!(
                "{} is {}, but must be a number; encode text as numbers, or choose other columns",
                self.place_of(column),
                echo(text)
            ))),
        }
    }

    /// Reads a cell as text.
    ///
    /// # Errors
    ///
    /// It is empty.
    pub fn text(self, column: &TableColumn) -> Result<&'r str, TableError> {
        match self.get(column).trim() {
            "" => Err(self.empty(column)),
            text => Ok(text),
        }
    }

    fn empty(self, column: &TableColumn) -> TableError {
        TableError(format!(
            "{} is empty; fill it in, or leave the row out",
            self.place_of(column)
        ))
    }

    /// The place of a cell, for an error.
    pub fn place_of(self, column: &TableColumn) -> String {
        format!("{}, column {:?}: the cell", self.place(), column.name)
    }

    fn place(self) -> String {
        format!("{}, line {}", self.0.layout.name, self.line())
    }
}
