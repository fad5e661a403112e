//! From a file's bytes to the text of a table: packing, encoding, line ends and delimiter are
//! recognised. It is read as a stream, for a table may be larger than memory.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use crate::models::cells::spell_number;
use crate::train::{encoding, formats};

use crate::train::encoding::text_of;

/// The first bytes of a table, by which it is recognised.
pub(crate) const HEAD_BYTES: usize = 64 << 10;

/// What may separate cells. Of those that serve equally well the first is taken: a comma may be a
/// decimal sign between semicolons, but hardly a semicolon anything between commas.
const DELIMITERS: [u8; 4] = [b'\t', b';', b'|', b','];

/// A table's text.
pub struct Source<'a> {
    /// The text, in UTF-8 or windows-1252, with LF or CRLF at the ends of lines.
    pub reader: Box<dyn Read + 'a>,
    /// What separates its cells.
    pub delimiter: u8,
    /// What was recognised, if it is not the usual.
    pub notes: Vec<String>,
    /// Why it cannot be read as it is, and what to do.
    pub problem: Option<String>,
    /// Whether the first line has nothing but numbers, and so names no columns.
    pub first_line_is_numbers: bool,
}

/// Recognises a table, without the first `skipped_lines`. The delimiter is the user's, if one is given.
/// Lines are counted with the skipped ones in `problem`, but the reader starts after them.
///
/// # Errors
///
/// Those of the source, and a gzip file that is broken.
pub fn open<'a>(
    source: Box<dyn Read + 'a>,
    delimiter: Option<u8>,
    skipped_lines: usize,
) -> io::Result<Source<'a>> {
    let mut notes = Vec::new();
    let (head, source) = peek(source, 4)?;
    let source = encoding::unpack(source, &head, &mut notes);
    let (bytes, source) = peek(source, HEAD_BYTES)?;
    let mut problem = formats::binary_problem(&bytes);
    let source = encoding::decode(source, &bytes, &mut notes)?;
    let (head, source) = peek(source, HEAD_BYTES)?;
    let source = encoding::mend_line_ends(source, &head, &mut notes);
    let source = skip_lines(source, skipped_lines)?;
    let (head, reader) = peek(source, HEAD_BYTES)?;
    if head.contains(&0) {
        problem = problem.or_else(|| {
            Some("it has zero bytes, so it is no text; save it as CSV in UTF-8".to_owned())
        });
    }
    // The last character may be cut off.
    if std::str::from_utf8(&head).is_err_and(|error| error.error_len().is_some()) {
        notes.push("it is not in UTF-8, so it is read as windows-1252 (Latin-1)".to_owned());
    }
    let recognised = recognise(&head);
    let own = delimiter.unwrap_or(recognised.delimiter);
    let rows = split_rows(&head, own);
    if delimiter.is_none() && own != b',' {
        notes.push(format!("the delimiter is {}", delimiter_name(own)));
    } else if recognised.cells > 1 && rows.iter().all(|row| row.cells <= 1) {
        notes.push(format!(
            "the delimiter {} is in no line, but {} would be one",
            delimiter_name(own),
            delimiter_name(recognised.delimiter)
        ));
    }
    let problem = problem
        .or_else(|| formats::text_problem(&head, own))
        .or_else(|| preamble_problem(&head, &rows, own, skipped_lines));
    Ok(Source {
        reader,
        delimiter: own,
        notes,
        problem,
        first_line_is_numbers: is_all_numbers(&head, &rows, own),
    })
}

/// Reads the first bytes, and returns them with a reader that starts with them again.
fn peek<'a>(
    mut source: Box<dyn Read + 'a>,
    most: usize,
) -> io::Result<(Vec<u8>, Box<dyn Read + 'a>)> {
    let mut head = Vec::new();
    source.by_ref().take(most as u64).read_to_end(&mut head)?;
    let again = Cursor::new(head.clone());
    Ok((head, Box::new(again.chain(source))))
}

fn skip_lines<'a>(source: Box<dyn Read + 'a>, lines: usize) -> io::Result<Box<dyn Read + 'a>> {
    if lines == 0 {
        return Ok(source);
    }
    let mut source = BufReader::new(source);
    for _ in 0..lines {
        if source.skip_until(b'\n')? == 0 {
            break;
        }
    }
    Ok(Box::new(source))
}

/// A row in the head of a table.
struct HeadRow {
    /// Its first line, from 0.
    line: usize,
    cells: usize,
    start: usize,
    end: usize,
}

/// Splits the head into rows, blank lines among them. A last row that is cut off is left out.
fn split_rows(head: &[u8], delimiter: u8) -> Vec<HeadRow> {
    let mut rows = Vec::new();
    let (mut line, mut lines, mut cells, mut start) = (0, 0, 1, 0);
    let (mut is_quoted, mut is_cell_start) = (false, true);
    for (at, byte) in head.iter().enumerate() {
        lines += usize::from(*byte == b'\n');
        match *byte {
            // A doubled quote closes the cell and opens it again.
            b'"' if is_quoted => (is_quoted, is_cell_start) = (false, true),
            b'"' if is_cell_start => is_quoted = true,
            _ if is_quoted => {}
            b'\n' => {
                rows.push(HeadRow {
                    line,
                    cells,
                    start,
                    end: at,
                });
                (line, cells, start, is_cell_start) = (lines, 1, at + 1, true);
            }
            other => {
                is_cell_start = other == delimiter;
                cells += usize::from(is_cell_start);
            }
        }
    }
    if start < head.len() && (head.len() < HEAD_BYTES || rows.is_empty()) {
        rows.push(HeadRow {
            line,
            cells,
            start,
            end: head.len(),
        });
    }
    for row in &mut rows {
        if head[row.start..row.end]
            .iter()
            .all(|byte| matches!(byte, b' ' | b'\r'))
        {
            row.cells = 0;
        }
    }
    rows
}

/// How many cells most rows have, if they have several, and how many rows those are. A preamble may
/// have more lines than what the head shows of the table.
fn usual_width(rows: &[HeadRow]) -> Option<(usize, usize)> {
    let mut widths: BTreeMap<usize, usize> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.cells > 1) {
        *widths.entry(row.cells).or_default() += 1;
    }
    let (hits, cells) = widths
        .into_iter()
        .map(|(cells, hits)| (hits, cells))
        .max()?;
    let filled = rows.iter().filter(|row| row.cells > 0);
    let before = filled.clone().take_while(|row| row.cells != cells).count();
    // One row after others is no table, but one that has a comma in it.
    let is_usual = hits * 2 > filled.count() - before && (hits > 1 || before == 0);
    is_usual.then_some((cells, hits))
}

/// The delimiter that a table seems to have, and the cells of its rows.
struct Recognised {
    delimiter: u8,
    cells: usize,
}

/// Finds the delimiter which splits most rows alike.
fn recognise(head: &[u8]) -> Recognised {
    let mut best = (
        0,
        Recognised {
            delimiter: b',',
            cells: 1,
        },
    );
    for delimiter in DELIMITERS {
        if let Some((cells, hits)) = usual_width(&split_rows(head, delimiter))
            && hits > best.0
        {
            best = (hits, Recognised { delimiter, cells });
        }
    }
    match best {
        (0, none) => blanks_delimit(head).unwrap_or(none),
        (_, found) => found,
    }
}

/// Whether blanks delimit cells. Texts have blanks too, so all rows must agree, and have a number.
fn blanks_delimit(head: &[u8]) -> Option<Recognised> {
    let rows = split_rows(head, b' ');
    let mut filled = rows.iter().filter(|row| row.cells > 0);
    let (first, last) = (filled.next()?, filled.next_back()?);
    let cells = last.cells;
    let has_number = cells_of(head, last, b' ')
        .iter()
        .any(|cell| is_number(cell, b' '));
    // The header of R lacks the name of the first column. A title over numbers with a unit is no table.
    let agree = (first.cells == cells || first.cells + 1 == cells && cells > 2)
        && filled.all(|row| row.cells == cells);
    (cells > 1 && agree && has_number).then_some(Recognised {
        delimiter: b' ',
        cells,
    })
}

fn cells_of(head: &[u8], row: &HeadRow, delimiter: u8) -> Vec<String> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .has_headers(false)
        .from_reader(&head[row.start..row.end]);
    let cells = reader
        .byte_records()
        .next()
        .and_then(Result::ok)
        .unwrap_or_default();
    cells
        .iter()
        .map(|cell| text_of(cell).trim().to_owned())
        .collect()
}

fn is_number(text: &str, delimiter: u8) -> bool {
    let has_comma = delimiter != b',' && spell_number(text, ',').is_some();
    has_comma || spell_number(text, '.').is_some()
}

/// Whether the first row has numbers, and besides at most empty cells.
fn is_all_numbers(head: &[u8], rows: &[HeadRow], delimiter: u8) -> bool {
    let Some(row) = rows.iter().find(|row| row.cells > 0) else {
        return false;
    };
    let cells = cells_of(head, row, delimiter);
    let mut filled = cells.iter().filter(|cell| !cell.is_empty()).peekable();
    filled.peek().is_some() && filled.all(|cell| is_number(cell, delimiter))
}

/// What is wrong with the first lines: something stands before the header, or it is too short.
fn preamble_problem(
    head: &[u8],
    rows: &[HeadRow],
    delimiter: u8,
    skipped: usize,
) -> Option<String> {
    let width = usual_width(rows).map_or(1, |(cells, _)| cells);
    let is_preamble = |row: &&HeadRow| {
        let text = &head[row.start..row.end];
        let is_comment =
            text.starts_with(b"#") && (row.cells != width || text.starts_with(b"# ") && width == 1);
        // Excel takes such a line for the delimiter.
        row.cells < width || is_comment || text.to_ascii_lowercase().starts_with(b"sep=")
    };
    let count = rows.iter().take_while(is_preamble).count();
    let table = rows.get(count)?.line + skipped + 1;
    let (first, last) = (rows.first()?, table - 1);
    if count == 0 {
        return None;
    }
    if count == 1 && first.cells > 1 && first.cells < width && !head.starts_with(b"#") {
        let place = skipped + 1;
        let as_r = match first.cells + 1 == width {
            true => "; R leaves out the name of the first column",
            false => "",
        };
        return Some(format!(
            "line {place} has {} cells, but those after it have {width}{as_r}; name all columns, or, if it is no header, give --skip-lines {last}",
            first.cells
        ));
    }
    if count == 1
        && (first.cells, width, delimiter) == (1, 2, b',')
        && is_all_numbers(head, &rows[1..], b',')
    {
        return Some(format!(
            "line {last} has 1 cell, but those after it have 2 numbers; if their comma is a decimal sign, give --delimiter ';'; if the line is no header, give --skip-lines {last}"
        ));
    }
    let (lines, them) = match last - skipped {
        1 => (format!("line {last} is a preamble"), "it"),
        _ => (
            format!("lines {} to {last} are a preamble", skipped + 1),
            "them",
        ),
    };
    Some(format!(
        "the table starts in line {table}: {lines}; remove {them}, or give --skip-lines {last}"
    ))
}

/// What a delimiter is called.
fn delimiter_name(delimiter: u8) -> String {
    match delimiter {
        b'\t' => "a tab".to_owned(),
        b' ' => "a blank".to_owned(),
        other => char::from(other).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> (String, Source<'_>) {
        let mut source = open(Box::new(bytes), None, 0).unwrap();
        let mut text = Vec::new();
        source.reader.read_to_end(&mut text).unwrap();
        (text_of(&text).into_owned(), source)
    }

    #[test]
    fn the_delimiter_splits_most_rows_alike() {
        #[rustfmt::skip]
        let table: [(&str, u8); 13] = [
            ("a,b\n1,2\n", b','), ("a;b\n1,5;2\n2,5;3\n", b';'), ("1,5;2,5\n3,5;4,5\n", b';'),
            ("a\tb\n1,2\t3\n", b'\t'), ("a|b\n1|2\n", b'|'), ("a b\n1 2\n3 4\n", b' '), ("", b','),
            ("city\nNew York\nLos Angeles\n", b','), ("a\n1\n2\n", b','), ("a,b\n\"x;y;z\",1\n\"p;q;r\",2\n", b','),
            ("a,b,c\n1,2,3\n4;5,6,7\n1,2\n", b','), ("\"a\" \"b\"\n\"1\" 5 6\n", b' '), ("a,b\n\"1\n\",\"2\n\"\n", b','),
        ];
        for (text, delimiter) in table {
            assert_eq!(read(text.as_bytes()).1.delimiter, delimiter, "{text:?}");
        }
        let source = open(Box::new(&b"a;b\n1;2\n"[..]), Some(b','), 0).unwrap();
        assert_eq!(
            source.notes,
            ["the delimiter , is in no line, but ; would be one"]
        );
        for (text, expected) in [
            ("1,2\n3,4\n", true),
            (",\"5\"\n", true),
            ("a,2\n", false),
            (",\n", false),
        ] {
            assert_eq!(
                read(text.as_bytes()).1.first_line_is_numbers,
                expected,
                "{text:?}"
            );
        }
    }

    #[test]
    fn a_preamble_is_told_with_its_lines_and_can_be_skipped() {
        let one = Some(
            "the table starts in line 2: line 1 is a preamble; remove it, or give --skip-lines 1",
        );
        let three = Some(
            "the table starts in line 4: lines 1 to 3 are a preamble; remove them, or give --skip-lines 3",
        );
        let decimal = "line 1 has 1 cell, but those after it have 2 numbers; if their comma is a decimal sign, give --delimiter ';'; if the line is no header, give --skip-lines 1";
        let r = "line 1 has 2 cells, but those after it have 3; R leaves out the name of the first column; name all columns, or, if it is no header, give --skip-lines 1";
        #[rustfmt::skip]
        let table = [
            ("Title\na,b\n1,2\n3,4\n", one), ("\r\na,b\r\n1,2\r\n", one), ("# x\nt\n\na,b\n1,2\n", three),
            ("# x, y, z, w\na,b\n1,2\n", one), ("sep=;\na;b\n1;2\n", one), ("# x\na\n1\n2\n", one), ("p\n1,5\n2,5\n", Some(decimal)), ("p\n3 €\n4,5 €\n", None),
            ("\"A\ntitle\"\n\na,b\n1,2\n", three), ("a,b\n\"1\",2,3\n\"2\",2,3\n", Some(r)),
            ("#a,b\n1,2\n", None), ("a,b\n1,2\n1\n", None), ("a\n1\n\n2\n", None), ("a,b,c\n1,2\n3,4\n", None), ("\n\n", None),
        ];
        for (text, problem) in table {
            assert_eq!(
                read(text.as_bytes()).1.problem.as_deref(),
                problem,
                "{text:?}"
            );
        }
        let mut source = open(Box::new(&b"# x\nt\n\na;b\n1;2\n"[..]), None, 3).unwrap();
        let mut rest = String::new();
        source.reader.read_to_string(&mut rest).unwrap();
        assert_eq!(
            (rest.as_str(), source.delimiter, source.problem),
            ("a;b\n1;2\n", b';', None)
        );
        let source = open(Box::new(&b"x\ny\na,b\n1,2\n"[..]), None, 1).unwrap();
        let problem = source.problem.unwrap();
        assert!(
            problem.starts_with("the table starts in line 3: line 2 is")
                && problem.ends_with("--skip-lines 2"),
            "{problem}"
        );
        assert!(
            read(b"a,b\n1,\0\n")
                .1
                .problem
                .unwrap()
                .starts_with("it has zero bytes")
        );
    }
}
