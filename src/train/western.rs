//! Tables in windows-1252, of which Latin-1 is a part, as UTF-8.

use std::io::{self, Cursor, Read};

use crate::train::encoding::char_of;

/// The bytes by which it is recognised that a table is not in UTF-8.
const HEAD_BYTES: usize = 64 << 10;

/// The text in UTF-8: read as windows-1252 if its first bytes are no UTF-8.
///
/// # Errors
///
/// The source's own.
pub(super) fn decoded(mut source: Box<dyn Read + '_>) -> io::Result<Box<dyn Read + '_>> {
    let mut head = Vec::new();
    source
        .by_ref()
        .take(HEAD_BYTES as u64)
        .read_to_end(&mut head)?;
    // The last character of the head may be cut off.
    let is_western = std::str::from_utf8(&head).is_err_and(|error| error.error_len().is_some());
    let source = Cursor::new(head).chain(source);
    Ok(match is_western {
        true => Box::new(Western {
            source,
            text: Cursor::new(Vec::new()),
        }),
        false => Box::new(source),
    })
}

struct Western<R> {
    source: R,
    text: Cursor<Vec<u8>>,
}

impl<R: Read> Read for Western<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.text.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            let mut bytes = [0; 8192];
            let count = self.source.read(&mut bytes)?;
            if count == 0 {
                return Ok(0);
            }
            let text: String = bytes[..count].iter().map(|byte| char_of(*byte)).collect();
            self.text = Cursor::new(text.into_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(bytes: &[u8]) -> String {
        let mut text = String::new();
        decoded(Box::new(bytes))
            .unwrap()
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn what_is_no_utf_8_is_read_as_windows_1252() {
        assert_eq!(decode("größe €".as_bytes()), "größe €");
        assert_eq!(decode(b"gr\xf6\xdfe \x80 \x9f"), "größe € Ÿ");
        assert_eq!(decode(b""), "");
    }
}
