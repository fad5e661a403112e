//! Compressed bodies: gzip and deflate, unpacked on a prediction worker and never beyond `--max-body`.

use std::io::{ErrorKind, Read};

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::BodyHead;
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;

/// Bytes unpacked in one go.
const PIECE_BYTES: usize = 64 << 10;

/// Maximum number of members of a gzip body, each of which costs some microseconds even if it is empty.
/// Clients send one.
const MEMBERS_MAX: usize = 100;

/// What an unpacker holds.
const STATE_BYTES: usize = 64 << 10;

/// Checks that a body's coding is known (RFC 9110 section 8.4).
///
/// # Errors
///
/// 415 with what would be right.
pub(super) fn check(head: &BodyHead) -> Result<(), RequestError> {
    match head.content_encoding.as_deref().map(str::trim) {
        None => Ok(()),
        Some(coding) if is_gzip(coding) || coding.eq_ignore_ascii_case("deflate") => Ok(()),
        Some(_) => Err(RequestError::new(
            Code::UnsupportedMediaType,
            "the body must come with Content-Encoding gzip or deflate, or with none",
        )),
    }
}

fn is_gzip(coding: &str) -> bool {
    coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip")
}

/// Unpacks a body, of at most `bytes_max` then; `None` if it is not compressed. Its memory is charged
/// as it grows.
///
/// # Errors
///
/// 400 for a damaged body, 413 for one that is too large, and the budget's own.
pub fn unpack(
    head: &BodyHead,
    body: &[u8],
    bytes_max: u64,
    charge: &mut Charge,
) -> Result<Option<Vec<u8>>, RequestError> {
    let Some(coding) = head.content_encoding.as_deref() else {
        return Ok(None);
    };
    charge.grow(STATE_BYTES)?;
    let mut content = Vec::new();
    if is_gzip(coding.trim()) {
        let (mut rest, mut members) = (body, 0);
        while members == 0 || !rest.is_empty() {
            if members == MEMBERS_MAX {
                let text =
                    format!("the body is {coding} of more than {MEMBERS_MAX} members: send one");
                return Err(RequestError::new(Code::InvalidInput, text));
            }
            let mut reader = GzDecoder::new(rest);
            read_all(&mut reader, coding, bytes_max, (&mut content, charge))?;
            rest = reader.into_inner();
            members += 1;
        }
    } else {
        let mut reader = ZlibDecoder::new(body);
        read_all(&mut reader, coding, bytes_max, (&mut content, charge))?;
        let more = reader.into_inner().len();
        if more > 0 {
            let text = format!("{more} bytes follow the {coding} stream of the body");
            return Err(RequestError::new(Code::InvalidInput, text));
        }
    }
    Ok(Some(content))
}

/// Reads a stream to its end, behind what is there, and charges memory before it is taken.
fn read_all(
    reader: &mut dyn Read,
    coding: &str,
    bytes_max: u64,
    (content, charge): (&mut Vec<u8>, &mut Charge),
) -> Result<(), RequestError> {
    loop {
        charge.reserve(content, PIECE_BYTES, usize::MAX)?;
        let before = content.len();
        content.resize(before + PIECE_BYTES, 0);
        let read = loop {
            match reader.read(&mut content[before..]) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let read = read.map_err(|error| {
            let text = format!("the body is no {coding} stream: {error}");
            RequestError::new(Code::InvalidInput, text)
        })?;
        content.truncate(before + read);
        if content.len() as u64 > bytes_max {
            let text = format!(
                "the body may have at most {bytes_max} bytes (--max-body), also when it is unpacked"
            );
            return Err(RequestError::new(Code::ContentTooLarge, text));
        }
        if read == 0 {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::memory_budget::Budget;
    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use std::io::Write;
    use std::sync::Arc;

    fn head(coding: &str) -> BodyHead {
        BodyHead {
            content_encoding: Some(coding.to_owned()),
            ..BodyHead::default()
        }
    }

    fn unpack_within(budget: usize, coding: &str, body: &[u8]) -> Result<Option<Vec<u8>>, Code> {
        let budget = Arc::new(Budget::new(budget, 0));
        let mut charge = Charge::new(&budget);
        let unpacked = unpack(&head(coding), body, 1 << 20, &mut charge);
        unpacked.map_err(|error| error.code)
    }

    fn gzip(content: &[u8]) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(content).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn a_body_comes_out_as_it_went_in_and_a_bomb_is_refused() {
        let content = b"[1, 2, 3]".repeat(20_000);
        let mut zlib = ZlibEncoder::new(Vec::new(), Compression::fast());
        zlib.write_all(&content).unwrap();
        let zlib = zlib.finish().unwrap();
        assert_eq!(
            unpack_within(1 << 24, "gzip", &gzip(&content)),
            Ok(Some(content.clone()))
        );
        assert_eq!(
            unpack_within(1 << 24, "Deflate", &zlib),
            Ok(Some(content.clone()))
        );
        let halves = [gzip(&content[..7]), gzip(&content[7..])].concat();
        assert_eq!(unpack_within(1 << 24, "x-gzip", &halves), Ok(Some(content)));
        let bomb = gzip(&vec![b' '; 64 << 20]);
        assert_eq!(
            unpack_within(1 << 24, "gzip", &bomb),
            Err(Code::ContentTooLarge)
        );
        assert_eq!(
            unpack_within(1 << 19, "gzip", &bomb),
            Err(Code::ContentTooLarge)
        );
        let zlib_and_more = [&zlib[..], b"x"].concat();
        assert_eq!(
            unpack_within(1 << 24, "deflate", &zlib_and_more),
            Err(Code::InvalidInput)
        );
        let members = |count: usize| unpack_within(1 << 24, "gzip", &gzip(b"").repeat(count));
        assert_eq!(members(MEMBERS_MAX), Ok(Some(Vec::new())));
        assert_eq!(members(MEMBERS_MAX + 1), Err(Code::InvalidInput));
        for damaged in [
            &b"no gzip"[..],
            &gzip(b"some content")[..20],
            &[&gzip(b"some content")[..], b"garbage after it"].concat(),
            b"",
        ] {
            assert_eq!(
                unpack_within(1 << 24, "gzip", damaged),
                Err(Code::InvalidInput)
            );
        }
        assert!(check(&head("br")).is_err());
        assert!(check(&head("gzip, gzip")).is_err());
    }
}
