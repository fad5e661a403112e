//! The reader of heads and bodies held against another implementation of HTTP/1.1 (`httpcodec`, which
//! shares no code with ours or `httparse`): whatever ours accepts, the other must understand in the
//! same way, to the last byte of the body. Two readers that differ are what smuggling lives on.
//!
//! Ours may refuse more, as it does with everything ambiguous; what is plain it must accept.

use std::sync::Arc;

use bytecodec::bytes::RemainingBytesDecoder;
use bytecodec::{Decode, Eos};
use httpcodec::{BodyDecoder as OtherBodyDecoder, RequestDecoder};
use proptest::prelude::*;
use proptest::sample::select;

use crate::http::body::BodyDecoder;
use crate::http::request_head::{self, Framing};
use crate::lanes::memory_budget::{Budget, Charge};

/// A message as a reader understands it.
#[derive(Debug, PartialEq)]
struct ParsedMessage {
    method: String,
    target: String,
    minor_version: u8,
    body: Vec<u8>,
    /// Where the next message would begin.
    bytes: usize,
}

/// What ours makes of `bytes`; `None` where it refuses or waits for more.
fn ours(bytes: &[u8]) -> Option<ParsedMessage> {
    let end = request_head::end(bytes, 0)?;
    let head = request_head::read(&bytes[..end], 100, None).ok()?;
    let charge = Charge::new(&Arc::new(Budget::new(1 << 20, 0)));
    let mut decoder = BodyDecoder::new(head.framing, 1 << 16, charge).ok()?;
    let used = decoder.push(&bytes[end..]).ok()?;
    let target = match &head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path,
    };
    decoder.is_complete().then(|| ParsedMessage {
        method: head.method.to_string(),
        target,
        minor_version: head.version.1,
        body: decoder.into_body().bytes,
        bytes: end + used,
    })
}

/// Names 1.1 where a later minor version stands, which the other does not know and which is read as
/// that (RFC 9110 section 2.5).
fn in_known_version(bytes: &[u8]) -> Vec<u8> {
    let mut known = bytes.to_vec();
    let line = bytes
        .split(|byte| *byte == b'\r')
        .find(|line| line.len() > 1);
    let line = line.unwrap_or_default();
    // Of a request line with nothing before it but a CRLF, this is where its last byte stands.
    let last = bytes
        .len()
        .min(line.len() + bytes.starts_with(b"\r\n") as usize)
        .saturating_sub(1);
    if line.len() > 8 && line[line.len() - 8..].starts_with(b"HTTP/1.") && known[last] > b'1' {
        known[last] = b'1';
    }
    known
}

/// Writes the transfer coding in lower case: the other knows it in no other, though its name is
/// case-insensitive (RFC 9110 section 10.1.4).
fn in_known_case(mut bytes: Vec<u8>) -> Vec<u8> {
    const CODING: &[u8] = b"chunked";
    for start in 0..bytes.len().saturating_sub(CODING.len() - 1) {
        let word = &mut bytes[start..start + CODING.len()];
        if word.eq_ignore_ascii_case(CODING) {
            word.copy_from_slice(CODING);
        }
    }
    bytes
}

/// What the other makes of them.
fn theirs(bytes: &[u8]) -> Option<ParsedMessage> {
    let bytes = &in_known_case(in_known_version(bytes))[..];
    let body = OtherBodyDecoder::new(RemainingBytesDecoder::new());
    let mut decoder = RequestDecoder::new(body);
    let mut used = 0;
    while used < bytes.len() && !(used > 0 && decoder.is_idle()) {
        let count = decoder.decode(&bytes[used..], Eos::new(true)).ok()?;
        if count == 0 {
            break;
        }
        used += count;
    }
    let message = decoder.finish_decoding().ok()?;
    Some(ParsedMessage {
        method: message.method().as_str().to_owned(),
        target: message.request_target().as_str().to_owned(),
        minor_version: match message.http_version() {
            httpcodec::HttpVersion::V1_0 => 0,
            httpcodec::HttpVersion::V1_1 => 1,
        },
        body: message.body().clone(),
        bytes: used,
    })
}

/// Lines that are sound, and lines that two readers could differ on.
const LINES: [&str; 25] = [
    "Content-Length: 3\r\n",
    "Content-Length: 3\r\n",
    "content-length:3\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: 03\r\n",
    "Content-Length: +3\r\n",
    "Content-Length: 3, 3\r\n",
    "Content-Length: 3 \r\n",
    "Content-Length : 3\r\n",
    "Content-Length:\r\n",
    "Content-Length: 18446744073709551619\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: \x0bchunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "X: y\r\n",
    "X: y\n",
    "X: y\rContent-Length: 3\r\n",
    "X: a\0b\r\n",
    "X\r\n",
    ": x\r\n",
    "Host: b\r\n",
    "\r\n",
];

/// The other knows neither chunk extensions nor trailers.
const BODIES: [&str; 16] = [
    "",
    "abc",
    "3\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n",
    "03\r\nabc\r\n0\r\n\r\n",
    "3\r\nabc0\r\n\r\n",
    "3\nabc\n0\n\n",
    "+3\r\nabc\r\n0\r\n\r\n",
    "0x3\r\nabc\r\n0\r\n\r\n",
    "3 \r\nabc\r\n0\r\n\r\n",
    "\r\nabc",
    "FFFFFFFFFFFFFFFF\r\nabc",
    "10000000000000003\r\nabc\r\n0\r\n\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "0\r\n\r\nGET / HTTP/1.1\r\n",
    "-0\r\n\r\n",
];

fn any_message() -> impl Strategy<Value = Vec<u8>> {
    let request_line = select(vec![
        "POST /predict HTTP/1.1\r\n",
        "POST /predict HTTP/1.1\r\n",
        "GET /livez?a=b HTTP/1.1\r\n",
        "GET /livez HTTP/1.0\r\n",
        "GET  /livez HTTP/1.1\r\n",
        "GET /li vez HTTP/1.1\r\n",
        "GET /livez HTTP/1.1 \r\n",
        "GET /livez HTTP/1.2\r\n",
        "GET /livez\r\n",
        "GET /livez HTTP/1.1\n",
        "get /livez HTTP/1.1\r\n",
    ]);
    let lines = proptest::collection::vec(select(LINES.to_vec()), 0..4);
    // Now and then a byte of it is another; beyond ASCII the other reader refuses even what is sound.
    let damage = proptest::option::weighted(0.2, (any::<prop::sample::Index>(), 0u8..128));
    (request_line, lines, select(BODIES.to_vec()), damage).prop_map(
        |(request_line, lines, body, damage)| {
            let lines = lines.concat();
            let mut bytes = format!("{request_line}Host: a\r\n{lines}\r\n{body}").into_bytes();
            if let Some((place, byte)) = damage {
                let place = place.index(bytes.len());
                bytes[place] = byte;
            }
            bytes
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_accepted_is_understood_as_another_reader_understands_it(bytes in any_message()) {
        let Some(ours) = ours(&bytes) else {
            return Ok(());
        };
        // Without a framing of its own a message ends with its head (RFC 9112 section 6.3), which the
        // other takes for one that ends with the connection.
        let end = request_head::end(&bytes, 0).unwrap_or(0);
        let framed = request_head::read(&bytes[..end], 100, None).is_ok_and(|head| head.framing != Framing::None);
        let seen = if framed { &bytes[..] } else { &bytes[..end] };
        let theirs = theirs(seen);
        prop_assert_eq!(Some(ours), theirs, "{}", String::from_utf8_lossy(&bytes));
    }
}

#[test]
fn what_is_plain_is_accepted_by_both() {
    for (fields, body) in [
        ("Content-Length: 3\r\n", "abc"),
        ("Content-Length: 0\r\n", ""),
        ("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunKed\r\n", "3\r\nabc\r\n0\r\n\r\n"),
    ] {
        let message = format!("POST /predict HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
        let expected = ours(message.as_bytes());
        assert!(expected.is_some(), "{message}");
        assert_eq!(expected, theirs(message.as_bytes()), "{message}");
    }
}
