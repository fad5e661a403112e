//! Request bodies, decoded as they arrive. Pure; the connection supplies the bytes.
//!
//! Memory grows with the bytes received, never with the declared length. Chunk heads are parsed
//! here and not by `httparse`, which accepts an empty size line as the last chunk and extensions of
//! any length (specification: RFC 9112 section 7.1).

use crate::error::{Code, RequestError};
use crate::http::request_head::Framing;
use crate::job::RequestBody;
use crate::lanes::memory_budget::Charge;

/// Maximum length of a chunk's size line, with extensions and CR LF.
const CHUNK_LINE_MAX: usize = 256;

/// Maximum size of all trailer lines together; they are read and discarded.
const TRAILERS_MAX: usize = 4096;

/// Bytes of framing that a body may have beyond the size of its content: one-byte chunks with long
/// extensions would otherwise take gigabytes.
const FRAMING_SPARE: u64 = 1 << 20;

/// Bytes reserved at once of a declared length.
const RESERVE_MAX: usize = 64 * 1024;

/// Takes a body's bytes as they arrive and strips the framing.
#[derive(Debug)]
pub struct BodyDecoder {
    state: DecoderState,
    bytes_max: usize,
    /// The body's size, as far as it is known.
    expected: usize,
    body: Vec<u8>,
    charge: Charge,
    line: Vec<u8>,
    trailers: usize,
    received: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum DecoderState {
    /// Content, with so many bytes to come.
    Length(u64),
    /// A chunk's size line.
    ChunkLine,
    /// A chunk's data, with so many bytes to come.
    ChunkData(u64),
    /// The CR LF after a chunk's data, of which so many bytes have arrived.
    ChunkEnd(usize),
    /// A trailer line, or the empty line that ends the body.
    Trailer,
    Done,
}

impl BodyDecoder {
    /// Makes a decoder for a body of at most `bytes_max` bytes, charged to `charge` as they arrive.
    ///
    /// # Errors
    ///
    /// 413 if the declared length is over the maximum, 503 if the budget has no room for the start
    /// of the body now.
    pub fn new(
        framing: Framing,
        bytes_max: usize,
        mut charge: Charge,
    ) -> Result<Self, RequestError> {
        let (state, expected) = match framing {
            Framing::None | Framing::Length(0) => (DecoderState::Done, 0),
            Framing::Length(length) => match usize::try_from(length) {
                Ok(bytes) if bytes <= bytes_max => (DecoderState::Length(length), bytes),
                _ => return Err(too_large(bytes_max)),
            },
            Framing::Chunked => (DecoderState::ChunkLine, bytes_max),
        };
        let mut body = Vec::new();
        if let DecoderState::Length(_) = state {
            charge.reserve(&mut body, expected.min(RESERVE_MAX), expected)?;
        }
        Ok(BodyDecoder {
            state,
            bytes_max,
            expected,
            body,
            charge,
            line: Vec::new(),
            trailers: 0,
            received: 0,
        })
    }

    /// Takes bytes and returns how many belonged to the body, never one beyond its end.
    ///
    /// # Errors
    ///
    /// 400 for broken framing, 413 over a limit, 503 if the memory budget is spent. The connection
    /// must then be closed.
    pub fn push(&mut self, bytes: &[u8]) -> Result<usize, RequestError> {
        let mut used = 0;
        while used < bytes.len() && self.state != DecoderState::Done {
            used += self.step(&bytes[used..])?;
        }
        self.received += used as u64;
        if self.framing() > self.content() + FRAMING_SPARE {
            return Err(broken(
                "chunk heads and trailers are together no larger than the content and 1 MiB",
            ));
        }
        Ok(used)
    }

    /// Sets how many bytes of the budget the same request holds elsewhere.
    pub fn set_beside(&mut self, bytes: usize) {
        self.charge.set_beside(bytes);
    }

    /// Whether the whole body has arrived.
    pub fn is_complete(&self) -> bool {
        self.state == DecoderState::Done
    }

    /// Bytes of content that have arrived.
    pub fn content(&self) -> u64 {
        self.body.len() as u64
    }

    /// Bytes of framing that have arrived.
    pub fn framing(&self) -> u64 {
        self.received - self.content()
    }

    /// Returns the body with its charge.
    pub fn into_body(self) -> RequestBody {
        RequestBody {
            bytes: self.body,
            charge: self.charge,
        }
    }

    fn step(&mut self, bytes: &[u8]) -> Result<usize, RequestError> {
        match self.state {
            DecoderState::Length(remaining) => {
                let (used, remaining) = self.take(bytes, remaining)?;
                self.state = if remaining == 0 {
                    DecoderState::Done
                } else {
                    DecoderState::Length(remaining)
                };
                Ok(used)
            }
            DecoderState::ChunkData(remaining) => {
                let (used, remaining) = self.take(bytes, remaining)?;
                self.state = if remaining == 0 {
                    DecoderState::ChunkEnd(0)
                } else {
                    DecoderState::ChunkData(remaining)
                };
                Ok(used)
            }
            DecoderState::ChunkEnd(come) => {
                if bytes[0] != b"\r\n"[come] {
                    return Err(broken("chunk data ends with CR LF"));
                }
                self.state = if come == 0 {
                    DecoderState::ChunkEnd(1)
                } else {
                    DecoderState::ChunkLine
                };
                Ok(1)
            }
            DecoderState::ChunkLine => self.line_byte(bytes[0], CHUNK_LINE_MAX).map(|()| 1),
            DecoderState::Trailer => {
                self.trailers += 1;
                if self.trailers > TRAILERS_MAX {
                    return Err(broken("trailers are at most 4096 bytes"));
                }
                self.line_byte(bytes[0], TRAILERS_MAX).map(|()| 1)
            }
            DecoderState::Done => Ok(0),
        }
    }

    fn take(&mut self, bytes: &[u8], remaining: u64) -> Result<(usize, u64), RequestError> {
        let count =
            usize::try_from(remaining).map_or(bytes.len(), |remaining| remaining.min(bytes.len()));
        self.charge.reserve(&mut self.body, count, self.expected)?;
        self.body.extend_from_slice(&bytes[..count]);
        Ok((count, remaining - count as u64))
    }

    /// Takes one byte of a line, and parses the line at its end.
    fn line_byte(&mut self, byte: u8, line_max: usize) -> Result<(), RequestError> {
        let after_cr = self.line.last() == Some(&b'\r');
        match byte {
            b'\n' if after_cr => {
                self.line.pop();
                let line = std::mem::take(&mut self.line);
                return self.line_end(&line);
            }
            _ if after_cr => return Err(broken("a CR is followed by LF")),
            b'\r' | b'\t' => {}
            0..=31 | 127 => {
                return Err(broken(
                    "chunk heads and trailers hold no control characters",
                ));
            }
            _ => {}
        }
        self.line.push(byte);
        if self.line.len() + 1 > line_max {
            return Err(broken("a chunk head is at most 256 bytes, a trailer 4096"));
        }
        Ok(())
    }

    fn line_end(&mut self, line: &[u8]) -> Result<(), RequestError> {
        if self.state == DecoderState::Trailer {
            if line.is_empty() {
                self.state = DecoderState::Done;
            } else if !is_trailer(line) {
                return Err(broken("a trailer is a field name, a colon and a value"));
            }
            return Ok(());
        }
        let size = chunk_size(line)?;
        let capacity = (self.bytes_max - self.body.len()) as u64;
        if size > capacity {
            return Err(too_large(self.bytes_max));
        }
        self.state = if size == 0 {
            DecoderState::Trailer
        } else {
            DecoderState::ChunkData(size)
        };
        Ok(())
    }
}

/// Parses `1*16HEXDIG [ ";" extension ]`.
fn chunk_size(line: &[u8]) -> Result<u64, RequestError> {
    let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
    let sound = (1..=16).contains(&digits.len()) && digits.iter().all(u8::is_ascii_hexdigit);
    let text = std::str::from_utf8(digits).ok().filter(|_| sound);
    text.and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or_else(|| broken("a chunk size is 1 to 16 hexadecimal digits"))
}

fn is_trailer(line: &[u8]) -> bool {
    let colon = line.iter().position(|byte| *byte == b':').unwrap_or(0);
    let is_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    colon > 0 && line[..colon].iter().all(is_token)
}

fn broken(rule: &str) -> RequestError {
    RequestError::new(
        Code::MalformedRequest,
        format!("the chunked body is broken: {rule}"),
    )
}

fn too_large(bytes_max: usize) -> RequestError {
    let text = format!(
        "a request body may hold {bytes_max} bytes (--max-body), but this one is larger; send fewer instances at a time"
    );
    RequestError::new(Code::ContentTooLarge, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::memory_budget::Budget;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn charge() -> Charge {
        Charge::new(&Arc::new(Budget::new(1 << 20, 0)))
    }

    fn decode(
        framing: Framing,
        bytes: &[u8],
        step: usize,
    ) -> Result<(Vec<u8>, usize, bool), RequestError> {
        let mut decoder = BodyDecoder::new(framing, 1000, charge())?;
        let mut used = 0;
        for piece in bytes.chunks(step) {
            let count = decoder.push(piece)?;
            used += count;
            if count < piece.len() {
                break;
            }
        }
        let complete = decoder.is_complete();
        Ok((decoder.into_body().bytes, used, complete))
    }

    #[test]
    fn a_chunked_body_is_read_to_the_letter() {
        let long_extension = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(300));
        let table: [(&str, &str, Result<&str, u16>); 20] = [
            (
                "two chunks",
                "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                Ok("abcde"),
            ),
            (
                "upper and lower case sizes",
                "A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n",
                Ok("01234567890123456789"),
            ),
            ("an extension", "1;a=b\r\nx\r\n0;c\r\n\r\n", Ok("x")),
            (
                "trailers are dropped",
                "1\r\nx\r\n0\r\nA: b\r\nC: d\r\n\r\n",
                Ok("x"),
            ),
            ("an empty body", "0\r\n\r\n", Ok("")),
            ("an empty size line", "\r\n\r\n", Err(400)),
            ("a sign", "+1\r\nx\r\n0\r\n\r\n", Err(400)),
            ("0x", "0x1\r\nx\r\n0\r\n\r\n", Err(400)),
            ("a blank before the size", " 1\r\nx\r\n0\r\n\r\n", Err(400)),
            (
                "seventeen digits",
                "00000000000000001\r\nx\r\n0\r\n\r\n",
                Err(400),
            ),
            ("the largest size", "FFFFFFFFFFFFFFFF\r\nx", Err(413)),
            ("one byte over the limit", "3E9\r\nx", Err(413)),
            ("a bare LF after the size", "1\nx\r\n0\r\n\r\n", Err(400)),
            ("a bare LF after the data", "1\r\nx\n0\r\n\r\n", Err(400)),
            (
                "data longer than its size",
                "1\r\nxy\r\n0\r\n\r\n",
                Err(400),
            ),
            ("a NUL in an extension", "1;\0\r\nx\r\n0\r\n\r\n", Err(400)),
            ("a CR in an extension", "1;a\rb\r\nx\r\n0\r\n\r\n", Err(400)),
            ("an endless extension", &long_extension, Err(400)),
            (
                "a trailer without a colon",
                "0\r\nnonsense\r\n\r\n",
                Err(400),
            ),
            (
                "a blank before a trailer's colon",
                "0\r\nA : b\r\n\r\n",
                Err(400),
            ),
        ];
        for (name, bytes, expected) in table {
            let decoded = decode(Framing::Chunked, bytes.as_bytes(), 1);
            let decoded = decoded
                .map(|(body, _, complete)| (body, complete))
                .map_err(|error| error.code.status());
            assert_eq!(
                decoded,
                expected.map(|body| (body.as_bytes().to_vec(), true)),
                "{name}"
            );
        }
    }

    #[test]
    fn a_declared_length_over_the_limit_is_refused_and_reserves_nothing() {
        let error =
            BodyDecoder::new(Framing::Length(1_000_000_000_000), 1000, charge()).unwrap_err();
        assert_eq!(error.code, Code::ContentTooLarge);
        assert!(
            error.text.contains("1000 bytes (--max-body)"),
            "{}",
            error.text
        );
        let decoder = BodyDecoder::new(Framing::Length(1 << 40), usize::MAX, charge()).unwrap();
        assert!(decoder.body.capacity() <= RESERVE_MAX);
    }

    #[test]
    fn a_body_that_is_mostly_framing_is_refused() {
        let chunk = format!("1;{}\r\nx\r\n", "e".repeat(240));
        let bytes = chunk.repeat(10_000);
        let mut decoder = BodyDecoder::new(Framing::Chunked, 1 << 20, charge()).unwrap();
        let error = bytes
            .as_bytes()
            .chunks(4096)
            .find_map(|piece| decoder.push(piece).err());
        assert_eq!(error.map(|error| error.code), Some(Code::MalformedRequest));
        assert!(decoder.content() < 5000);
    }

    #[test]
    fn a_body_beyond_the_budget_is_refused_as_it_arrives() {
        let budget = Arc::new(Budget::new(3000, 0));
        for framing in [Framing::Length(5000), Framing::Chunked] {
            let decoder = BodyDecoder::new(framing, 10_000, Charge::new(&budget));
            let pushed = decoder.and_then(|mut decoder| {
                decoder.push(b"1388\r\n")?;
                decoder.push(&[b'x'; 4990])
            });
            assert_eq!(
                pushed.unwrap_err().code,
                Code::ContentTooLarge,
                "{framing:?}"
            );
            assert_eq!(budget.bytes(), 0, "{framing:?}: all is given back");
        }
    }

    #[test]
    fn endless_trailers_are_refused() {
        let bytes = format!("0\r\n{}", "A: b\r\n".repeat(1000));
        assert!(decode(Framing::Chunked, bytes.as_bytes(), 7).is_err());
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), step in 1usize..50) {
            let _ = decode(Framing::Chunked, &bytes, step);
            let _ = decode(Framing::Length(100), &bytes, step);
        }

        #[test]
        fn a_body_decodes_the_same_however_it_is_split_and_leaves_what_follows(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..8),
            next in "[A-Z /.0-9]{0,20}",
            step in 1usize..60,
        ) {
            let body = chunks.concat();
            let mut chunked = Vec::new();
            for chunk in &chunks {
                chunked.extend_from_slice(format!("{:x};x=\"y\"\r\n", chunk.len()).as_bytes());
                chunked.extend_from_slice(chunk);
                chunked.extend_from_slice(b"\r\n");
            }
            chunked.extend_from_slice(b"0\r\nT: v\r\n\r\n");
            for (framing, mut bytes) in [(Framing::Chunked, chunked), (Framing::Length(body.len() as u64), body.clone())] {
                let own = bytes.len();
                bytes.extend_from_slice(next.as_bytes());
                let (decoded, used, complete) = decode(framing, &bytes, step).unwrap();
                prop_assert_eq!((&decoded, used, complete), (&body, own, true));
            }
        }
    }
}
