//! Packing, encoding and line ends of a text.

use std::borrow::Cow;
use std::io::{self, Cursor, Read};

use flate2::read::MultiGzDecoder;

use crate::train::source::HEAD_BYTES;

/// The bytes in which zeros tell UTF-16 without a mark.
const ZEROS_BYTES: usize = 64;

/// Unpacks gzip, which is known by its first bytes.
pub(crate) fn unpack<'a>(
    source: Box<dyn Read + 'a>,
    head: &[u8],
    notes: &mut Vec<String>,
) -> Box<dyn Read + 'a> {
    if !head.starts_with(&[0x1f, 0x8b]) {
        return source;
    }
    notes.push("it is packed with gzip".to_owned());
    Box::new(Unpacked(MultiGzDecoder::new(source)))
}

/// A gzip file's content; its errors say what is broken.
struct Unpacked<R>(MultiGzDecoder<R>);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                io::Error::new(error.kind(), "the gzip file ends too early; copy it again")
            }
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => io::Error::new(
                error.kind(),
                format!("the gzip file is broken ({error}); pack it again"),
            ),
            _ => error,
        })
    }
}

/// Turns UTF-16 into UTF-8, and drops a byte order mark.
pub(crate) fn decode<'a>(
    mut source: Box<dyn Read + 'a>,
    bytes: &[u8],
    notes: &mut Vec<String>,
) -> io::Result<Box<dyn Read + 'a>> {
    let start = &bytes[..bytes.len().min(ZEROS_BYTES)];
    let are_zeros = |from: usize| {
        let zeros = |from| {
            start
                .iter()
                .skip(from)
                .step_by(2)
                .filter(|byte| **byte == 0)
                .count()
        };
        // A few characters of the header may be beyond Latin-1.
        start.len() >= 4
            && zeros(from) * 8 >= start.len() * 3
            && zeros(1 - from) * 16 <= start.len()
    };
    let (mark, is_big) = match start {
        [0xff, 0xfe, ..] => (2, Some(false)),
        [0xfe, 0xff, ..] => (2, Some(true)),
        [0xef, 0xbb, 0xbf, ..] => (3, None),
        _ if are_zeros(1) => (0, Some(false)),
        _ if are_zeros(0) => (0, Some(true)),
        _ => (0, None),
    };
    source.read_exact(&mut [0; 3][..mark])?;
    let Some(is_big) = is_big else {
        return Ok(source);
    };
    notes.push("it is in UTF-16".to_owned());
    Ok(Box::new(Utf16 {
        source,
        is_big,
        bytes: Vec::new(),
        high: None,
        text: Cursor::new(Vec::new()),
    }))
}

/// UTF-16 as UTF-8; what is none of it becomes U+FFFD.
struct Utf16<R> {
    source: R,
    is_big: bool,
    /// A byte whose other half has not been read.
    bytes: Vec<u8>,
    /// The first half of a surrogate pair, whose second has not been read.
    high: Option<u16>,
    text: Cursor<Vec<u8>>,
}

impl<R: Read> Utf16<R> {
    /// Decodes the next bytes; `false` at the end.
    fn fill(&mut self) -> io::Result<bool> {
        let before = self.bytes.len();
        (&mut self.source).take(8192).read_to_end(&mut self.bytes)?;
        let is_end = self.bytes.len() == before;
        if is_end && self.bytes.is_empty() && self.high.is_none() {
            return Ok(false);
        }
        let mut units: Vec<u16> = self.high.take().into_iter().collect();
        let pairs = self.bytes.chunks_exact(2).map(|pair| match self.is_big {
            true => u16::from_be_bytes([pair[0], pair[1]]),
            false => u16::from_le_bytes([pair[0], pair[1]]),
        });
        units.extend(pairs);
        let odd = self.bytes.len() % 2;
        self.bytes.drain(..self.bytes.len() - odd);
        if is_end && odd == 1 {
            self.bytes.clear();
            units.push(0xfffd);
        } else if !is_end
            && units
                .last()
                .is_some_and(|unit| (0xd800..0xdc00).contains(unit))
        {
            self.high = units.pop();
        }
        let text: String = char::decode_utf16(units)
            .map(|one| one.unwrap_or('\u{fffd}'))
            .collect();
        self.text = Cursor::new(text.into_bytes());
        Ok(true)
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.text.read(buffer)?;
            if count > 0 || buffer.is_empty() || !self.fill()? {
                return Ok(count);
            }
        }
    }
}

/// Turns CR into LF where CR alone ends lines.
pub(crate) fn mend_line_ends<'a>(
    source: Box<dyn Read + 'a>,
    head: &[u8],
    notes: &mut Vec<String>,
) -> Box<dyn Read + 'a> {
    // The LF of a last CR may come after the head.
    let inner = if head.len() == HEAD_BYTES {
        &head[..HEAD_BYTES - 1]
    } else {
        head
    };
    if head.contains(&b'\n') || !inner.contains(&b'\r') {
        return source;
    }
    notes.push("its lines end with CR, as on an old Mac".to_owned());
    Box::new(Mended(source))
}

/// A source with LF in place of CR.
struct Mended<R>(R);

impl<R: Read> Read for Mended<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.0.read(buffer)?;
        let returns = buffer[..count].iter_mut().filter(|byte| **byte == b'\r');
        returns.for_each(|byte| *byte = b'\n');
        Ok(count)
    }
}

/// What windows-1252 has in place of the control characters 0x80 to 0x9f.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}',
    '\u{90}', '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// A cell's text: UTF-8, or else windows-1252, in which Latin-1 can be read.
pub(super) fn text_of(cell: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(cell) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(cell.iter().map(|byte| char_of(*byte)).collect()),
    }
}

pub(super) fn char_of(byte: u8) -> char {
    match byte {
        0x80..=0x9f => WINDOWS_1252[usize::from(byte - 0x80)],
        other => char::from(other),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::train::source::{Source, open};

    fn read(bytes: &[u8]) -> (String, Source<'_>) {
        let mut source = open(Box::new(bytes), None, 0).unwrap();
        let mut text = Vec::new();
        source.reader.read_to_end(&mut text).unwrap();
        (text_of(&text).into_owned(), source)
    }

    fn packed(text: &[u8]) -> Vec<u8> {
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(text).unwrap();
        packer.finish().unwrap()
    }

    fn utf16(text: &str, is_big: bool) -> Vec<u8> {
        let bytes = |unit: u16| {
            if is_big {
                unit.to_be_bytes()
            } else {
                unit.to_le_bytes()
            }
        };
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn packings_and_encodings_are_undone() {
        let long = "name,n\nJosé 😀,1\n".repeat(20_000);
        let two = [packed(b"a,b\n1,2\n"), packed(b"3,4\n")].concat();
        assert_eq!(read(&two).0, "a,b\n1,2\n3,4\n", "all members");
        let both = packed(&utf16(&format!("\u{feff}{long}"), false));
        let (text, source) = read(&both);
        assert!(text == long && source.notes == ["it is packed with gzip", "it is in UTF-16"]);
        assert!(read(&utf16(&long, true)).0 == long, "by its zeros");
        assert_eq!(read(&utf16("\u{feff}a,b\n1,2", true)).0, "a,b\n1,2");
        assert_eq!(
            read(&[0xff, 0xfe, b'a', 0, 0, 0xd8, b'b', 0, 1]).0,
            "a\u{fffd}b\u{fffd}"
        );
        assert_eq!(read(b"\xef\xbb\xbfa,b\n1,2").0, "a,b\n1,2");
        let (text, source) = read(b"caf\xe9,b\n1,\x80\n");
        assert_eq!((text.as_str(), source.notes.len()), ("café,b\n1,€\n", 1));
        assert_eq!(
            read("é,b\n".repeat(30_000).as_bytes()).1.notes.len(),
            0,
            "a head that ends within é"
        );
        assert_eq!(read(b"a,b\r1,2\r").0, "a,b\n1,2\n");
        assert_eq!(read(b"a,b\r\n1,\"2\r3\"\r\n").0, "a,b\r\n1,\"2\r3\"\r\n");
        let mut broken = packed(long.as_bytes());
        broken.truncate(300);
        let error = open(Box::new(&broken[..]), None, 0).err().unwrap();
        assert_eq!(
            error.to_string(),
            "the gzip file ends too early; copy it again"
        );
    }
}
