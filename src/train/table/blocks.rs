//! Cuts a table's text into blocks of whole rows, which can be read at the same time.

use std::borrow::Cow;
use std::io::{self, BufRead, BufReader, Read};

use memchr::memchr2;

/// The most rows of a block: enough for a forest to walk together, few enough for every core to have
/// some of a small table.
const ROWS_MAX: usize = 1024;

/// How much text a block has at least if it has fewer rows.
const BLOCK_BYTES: usize = 256 << 10;

/// Whole rows of a table.
#[derive(Debug, Default)]
pub struct TableBlock<'a> {
    pub(super) text: Cow<'a, [u8]>,
    /// Lines of the table before it.
    pub(super) lines_before: u64,
}

impl<'a> TableBlock<'a> {
    /// A table that is in memory as a whole.
    pub fn whole(text: &'a [u8]) -> Self {
        TableBlock {
            text: Cow::Borrowed(text),
            lines_before: 0,
        }
    }
}

/// A table's text, of which some blocks were cut.
pub(super) struct TableBlocks {
    source: BufReader<Box<dyn Read>>,
    rows_max: usize,
    block_bytes: usize,
    delimiter: u8,
    /// Text that was read.
    text: Vec<u8>,
    /// Where the next block starts.
    start: usize,
    /// To where the text was looked at.
    seen: usize,
    /// Lines of the table to there.
    lines: u64,
    /// Whether a quoted cell goes on there.
    is_quoted: bool,
    /// Where the last quoted cell ended.
    closed: usize,
    /// Rows of the next block that were seen.
    rows: usize,
    /// Where the last of them ends, and the lines of the table to there.
    last: (usize, u64),
    lines_before: u64,
    failure: Option<io::Error>,
}

impl TableBlocks {
    /// Starts to cut a text that begins after these lines of its file.
    pub(super) fn new(source: Box<dyn Read>, delimiter: u8, skipped_lines: u64) -> Self {
        TableBlocks {
            source: BufReader::with_capacity(BLOCK_BYTES, source),
            rows_max: ROWS_MAX,
            block_bytes: BLOCK_BYTES,
            delimiter,
            text: Vec::new(),
            start: 0,
            seen: 0,
            lines: skipped_lines,
            is_quoted: false,
            closed: 0,
            rows: 0,
            last: (0, skipped_lines),
            lines_before: skipped_lines,
            failure: None,
        }
    }

    /// Cuts the next block; `None` at the end of the text.
    ///
    /// # Errors
    ///
    /// The source's own, after the rows before it.
    pub(super) fn next(&mut self) -> io::Result<Option<TableBlock<'static>>> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        while !self.is_enough() {
            match self.read() {
                Ok(true) => {}
                Ok(false) => {
                    self.last = (self.text.len(), self.lines);
                    break;
                }
                Err(error) if self.rows == 0 => return Err(error),
                Err(error) => {
                    self.failure = Some(error);
                    break;
                }
            }
        }
        Ok((self.last.0 > self.start).then(|| self.cut()))
    }

    /// Reads on; `false` at the end.
    fn read(&mut self) -> io::Result<bool> {
        let piece = loop {
            match self.source.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?.len(),
            }
        };
        self.text.drain(..self.start);
        self.seen -= self.start;
        self.closed = self.closed.saturating_sub(self.start);
        self.last.0 -= self.start;
        self.start = 0;
        self.text.extend_from_slice(self.source.buffer());
        self.source.consume(piece);
        Ok(piece > 0)
    }

    /// Looks at text that was read; whether it has a block.
    fn is_enough(&mut self) -> bool {
        while let Some(found) = memchr2(b'\n', b'"', &self.text[self.seen..]) {
            let at = self.seen + found;
            self.seen = at + 1;
            if self.text[at] == b'"' {
                self.quote(at);
                continue;
            }
            self.lines += 1;
            // In one column a blank line is told with the row after it, so it stays with that.
            let is_blank = at == self.start || self.text[at - 1] == b'\n';
            if self.is_quoted || is_blank {
                continue;
            }
            self.rows += 1;
            self.last = (self.seen, self.lines);
            if self.rows >= self.rows_max || self.seen - self.start >= self.block_bytes {
                return true;
            }
        }
        self.seen = self.text.len();
        false
    }

    /// Looks at a quote: it opens a cell only at the cell's start, and a doubled one does not close it.
    fn quote(&mut self, at: usize) {
        if self.is_quoted {
            (self.is_quoted, self.closed) = (false, self.seen);
            return;
        }
        let before = self.text[..at].last().copied();
        let is_at_start =
            at == self.start || before == Some(b'\n') || before == Some(self.delimiter);
        self.is_quoted = is_at_start || self.closed == at;
    }

    /// Cuts a block behind the last row that was seen.
    fn cut(&mut self) -> TableBlock<'static> {
        let (end, lines) = self.last;
        let block = TableBlock {
            text: Cow::Owned(self.text[self.start..end].to_vec()),
            lines_before: self.lines_before,
        };
        (self.start, self.seen, self.rows) = (end, end, 0);
        (self.lines, self.lines_before) = (lines, lines);
        block
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{RowReader, TableError};
    use super::*;

    /// Gives a text in pieces of these sizes, and then fails or ends.
    struct Pieces {
        text: io::Cursor<Vec<u8>>,
        sizes: Vec<usize>,
        fails: bool,
    }

    impl Read for Pieces {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let size = self.sizes.pop().unwrap_or(7).min(buffer.len());
            match self.text.read(&mut buffer[..size])? {
                0 if self.fails => Err(io::Error::other("the disk is broken")),
                count => Ok(count),
            }
        }
    }

    /// What a reader gives for each row: its line, and its cells or what is wrong.
    type Rows = Vec<(u64, Result<Vec<String>, String>)>;

    fn read(mut reader: RowReader<'_>, rows: &mut Rows) -> Result<(), TableError> {
        while let Some(row) = reader.next_row()? {
            let cells = row.cells().map(str::to_owned).collect();
            let checked = row.check().map_err(|error| error.0);
            rows.push((row.line(), checked.map(|()| cells)));
        }
        Ok(())
    }

    /// Reads a text in blocks of two rows or eight bytes, which it gives as well.
    fn in_blocks(first: &RowReader<'_>, source: Pieces) -> (Rows, Vec<Vec<u8>>, Option<io::Error>) {
        let mut blocks = TableBlocks::new(Box::new(source), b',', 0);
        (blocks.rows_max, blocks.block_bytes) = (2, 8);
        let (mut rows, mut texts) = (Vec::new(), Vec::new());
        let failure = loop {
            match blocks.next() {
                Ok(None) => break None,
                Err(failure) => break Some(failure),
                Ok(Some(block)) => {
                    texts.push(block.text.to_vec());
                    read(first.with_block(block), &mut rows).unwrap();
                }
            }
        };
        (rows, texts, failure)
    }

    fn reader(columns: usize, text: &str) -> RowReader<'_> {
        let header = (0..columns).map(|column| column.to_string()).collect();
        RowReader::without_header("t.csv", TableBlock::whole(text.as_bytes()), b',', header)
    }

    fn pieces(text: &str, sizes: &[usize], fails: bool) -> Pieces {
        Pieces {
            text: io::Cursor::new(text.as_bytes().to_vec()),
            sizes: sizes.to_vec(),
            fails,
        }
    }

    #[test]
    fn a_block_ends_with_a_row_and_never_in_a_cell() {
        let text = "1,2\n3,4\n5,\"\n\n,\"\n\n\n6,7,8\n9";
        let (rows, texts, failure) = in_blocks(&reader(2, ""), pieces(text, &[], false));
        let expected: [&[u8]; 4] = [b"1,2\n3,4\n", b"5,\"\n\n,\"\n", b"\n\n6,7,8\n", b"9"];
        assert_eq!(texts, expected);
        assert_eq!(
            rows.iter().map(|row| row.0).collect::<Vec<_>>(),
            [1, 2, 3, 8, 9]
        );
        assert!(failure.is_none());
    }

    #[test]
    fn rows_before_a_failure_are_given() {
        let (rows, _, failure) = in_blocks(&reader(2, ""), pieces("1,2\n3,4\n5,6\n7", &[], true));
        assert_eq!(rows.len(), 3);
        assert_eq!(failure.unwrap().to_string(), "the disk is broken");
    }

    /// What texts are made of; the first ones are what most matters.
    const PARTS: [&str; 15] = [
        ",", ",", "\n", "\n", "\"", "\"", "a", "\r\n", "\r", "\n\n", "é", " ", "1.5", "\",\"",
        "\"\n",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(5000))]

        #[test]
        fn rows_are_the_same_with_and_without_blocks_and_quotes(
            parts in proptest::collection::vec(
                proptest::sample::select(PARTS.to_vec()),
                0..40,
            ),
            sizes in proptest::collection::vec(1..9_usize, 0..20),
            columns in 1..4_usize,
        ) {
            let text = parts.concat();
            let mut expected = Vec::new();
            read(reader(columns, &text), &mut expected).unwrap();
            let (rows, ..) = in_blocks(&reader(columns, ""), pieces(&text, &sizes, false));
            prop_assert_eq!(&rows, &expected);
            // A quoted cell at the end has the text read by the other reader.
            let plain = text.replace('"', "");
            let end = if plain.ends_with('\n') { "" } else { "\n" };
            let quoted = format!("{plain}{end}\"z\"");
            let (mut one, mut other) = (Vec::new(), Vec::new());
            read(reader(columns, &plain), &mut one).unwrap();
            read(reader(columns, &quoted), &mut other).unwrap();
            other.pop();
            prop_assert_eq!(one, other);
        }
    }
}
