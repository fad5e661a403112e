//! Request heads: where they end and what they say. Pure, on top of `httparse`.
//!
//! The specification is RFC 9112. Anything that two readers could understand differently (request
//! smuggling) is refused, and the caller closes the connection. `httparse` refuses obsolete
//! folding, blanks before a colon, bare CR and control characters; what it lets pass is checked
//! here.

use std::borrow::Cow;
use std::time::Duration;

use httparse::{EMPTY_HEADER, Error as ParseError, Status};
use tiny_http::{HTTPVersion, Method};

use crate::config::FIELDS_CEILING;
use crate::error::{Code, RequestError};
use crate::http::{request_target, traceparent};

const METHOD_BYTES_MAX: usize = 32;

/// How many characters of a bad `X-Request-Timeout` are quoted.
const TIMEOUT_SHOWN: usize = 40;

/// The first bytes of a client that speaks HTTP/2 without asking (RFC 9113 section 3.4).
const HTTP_2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// How the body of a request is delimited (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// It has this many bytes.
    Length(u64),
    /// It comes in chunks.
    Chunked,
}

/// The parts of a request head that this server acts on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path, undecoded; `*` for the asterisk-form.
    pub path: String,
    /// What follows the first `?` of the target.
    pub query: Option<String>,
    /// HTTP/1.1 (also for a later minor version) or HTTP/1.0.
    pub version: HTTPVersion,
    /// How the body is delimited.
    pub framing: Framing,
    /// Whether the connection may carry another request.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before sending the body.
    pub expect_continue: bool,
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, unless it is `identity`.
    pub content_encoding: Option<String>,
    /// `Inference-Header-Content-Length`: how much of a body is JSON, before numbers in binary.
    pub json_length: Option<String>,
    /// Which media types the client accepts; several fields are one list (RFC 9110 section 5.3).
    pub accept: Option<String>,
    /// How long the client waits for its answer: the shorter of `X-Request-Timeout` (a duration
    /// with a unit, or seconds) and `X-Envoy-Expected-Rq-Timeout-Ms`, which Envoy sends by itself.
    pub timeout: Option<Duration>,
    /// What is wrong with `X-Request-Timeout`, if it is invalid.
    pub timeout_fault: Option<String>,
    /// The value of the field that tells clients apart, if one is configured.
    pub client: Option<String>,
    /// `X-Request-Id`, or else `x-ms-request-id`, if it is 1 to 128 of `[A-Za-z0-9._:-]`.
    pub request_id: Option<String>,
    /// `traceparent`, if it came once and is valid.
    pub traceparent: Option<String>,
}

/// Finds the end of the head (the index after its CRLF CRLF).
///
/// `searched` is the buffer's length at the last call, so that a head that arrives byte by byte is
/// not searched again each time.
pub fn end(buffer: &[u8], searched: usize) -> Option<usize> {
    // One CRLF before the request line is tolerated and must not be taken for the end.
    let from = searched.saturating_sub(3).max(leading_crlf(buffer));
    let rest = buffer.get(from..)?;
    let ends = |line_feed: &usize| rest[..*line_feed].ends_with(b"\r\n\r");
    let last = memchr::memchr_iter(b'\n', rest).find(ends)?;
    Some(from + last + 1)
}

/// Refuses input that can no longer become a request, so that nobody waits for the rest of it.
///
/// `searched` is as for [`end`]: the bytes before it were acceptable.
pub fn hopeless(buffer: &[u8], searched: usize) -> Option<RequestError> {
    let start = &buffer[leading_crlf(buffer)..];
    match start {
        _ if start.starts_with(HTTP_2_PREFACE) => {
            let text =
                "this port speaks HTTP/1.1, but an HTTP/2 connection preface came; use HTTP/1.1";
            return Some(RequestError::new(Code::VersionNotSupported, text));
        }
        [0x16, 0x03, ..] => {
            return Some(malformed(
                "this port speaks plain HTTP/1.1, but a TLS handshake came; use http://",
            ));
        }
        [0x16] | [b'\r'] | [] => return None,
        [first, ..] if !first.is_ascii_uppercase() => {
            return Some(malformed(
                "a request starts with a method in upper case, such as GET",
            ));
        }
        _ => {}
    }
    // Starts at the last byte already checked, which may be the CR before a LF.
    let fresh = buffer.get(searched.saturating_sub(1)..).unwrap_or_default();
    if has_bare_line_feed(fresh, searched == 0) {
        return Some(malformed(
            "lines of a request head end with CR LF, but a bare LF came",
        ));
    }
    memchr::memchr(0, fresh).map(|_| malformed("a request head holds no NUL"))
}

/// Parses one complete head: exactly the bytes up to [`end`]. `client_field` names the field that
/// tells clients apart, if any.
///
/// # Errors
///
/// 400 for what RFC 9112 does not allow, 417, 431 over `fields_max`, 501 for an unknown transfer
/// coding and for CONNECT, 505 for another version.
pub fn read(
    head: &[u8],
    fields_max: usize,
    client_field: Option<&str>,
) -> Result<RequestHead, RequestError> {
    if let Some(refusal) = hopeless(head, 0) {
        return Err(refusal);
    }
    let head = &head[leading_crlf(head)..];
    let mut fields = [EMPTY_HEADER; FIELDS_CEILING];
    let mut request = httparse::Request::new(&mut fields[..fields_max.min(FIELDS_CEILING)]);
    let head = &*as_known_version(head);
    match request.parse(head) {
        Ok(Status::Complete(length)) if length == head.len() => {}
        Ok(_) => return Err(malformed("the request head is not well-formed")),
        Err(ParseError::TooManyHeaders) => {
            let text = format!(
                "a request head may hold {fields_max} fields (--max-fields), but this one has more"
            );
            return Err(RequestError::new(Code::HeadTooLarge, text));
        }
        Err(error) => return Err(unparsable(error, head)),
    }
    let version = HTTPVersion(1, request.version.unwrap_or(1));
    let (path, query) =
        request_target::read(request.method.unwrap_or(""), request.path.unwrap_or(""))?;
    let mut reading = HeadFields::default();
    for field in request.headers.iter() {
        reading.take(field.name, field.value)?;
        if client_field.is_some_and(|name| name.eq_ignore_ascii_case(field.name)) {
            reading.client = Some(text(field.value).into_owned());
        }
    }
    let framing = reading.framing(&version)?;
    if reading.hosts == 0 && version >= (1, 1) {
        return Err(malformed(
            "an HTTP/1.1 request has a Host field, but this one has none",
        ));
    }
    let keep_alive = !reading.close && (version >= (1, 1) || reading.keep_alive);
    Ok(RequestHead {
        method: method(request.method.unwrap_or(""))?,
        path,
        query,
        framing,
        keep_alive,
        expect_continue: reading.expect_continue && version >= (1, 1),
        version,
        content_type: reading.content_type,
        content_encoding: reading.content_encoding,
        json_length: reading.json_length,
        accept: reading.accept,
        timeout: reading.timeout,
        timeout_fault: reading.timeout_fault,
        client: reading.client,
        request_id: reading.request_id,
        traceparent: reading.traceparent.flatten(),
    })
}

/// Length of the one CRLF that may precede a request line (RFC 9112 section 2.2).
fn leading_crlf(buffer: &[u8]) -> usize {
    if buffer.starts_with(b"\r\n") { 2 } else { 0 }
}

/// Whether there is a LF without a CR before it; a leading one counts only at the very `start`.
fn has_bare_line_feed(bytes: &[u8], start: bool) -> bool {
    let is_bare = |line_feed: usize| match line_feed.checked_sub(1) {
        Some(before) => bytes[before] != b'\r',
        None => start,
    };
    memchr::memchr_iter(b'\n', bytes).any(is_bare)
}

/// Replaces a later minor version by 1.1, because the parser does not know it: such a client
/// accepts an answer of 1.1 (RFC 9110 section 2.5).
fn as_known_version(head: &[u8]) -> Cow<'_, [u8]> {
    let end = head.iter().position(|byte| *byte == b'\r').unwrap_or(0);
    match head[..end] {
        [
            ..,
            b' ',
            b'H',
            b'T',
            b'T',
            b'P',
            b'/',
            b'1',
            b'.',
            b'2'..=b'9',
        ] => {
            let mut known = head.to_vec();
            known[end - 1] = b'1';
            Cow::Owned(known)
        }
        _ => Cow::Borrowed(head),
    }
}

fn malformed(text: impl Into<String>) -> RequestError {
    RequestError::new(Code::MalformedRequest, text)
}

fn unparsable(error: ParseError, head: &[u8]) -> RequestError {
    let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let version = line.rsplit(|byte| *byte == b' ').next().unwrap_or_default();
    let names_a_version =
        version.starts_with(b"HTTP/") && version.get(5).is_some_and(u8::is_ascii_digit);
    match error {
        ParseError::Version if names_a_version => {
            let text =
                "this server speaks HTTP/1.0 and HTTP/1.1, but the request names another version";
            RequestError::new(Code::VersionNotSupported, text)
        }
        ParseError::Version => malformed("a request line is METHOD TARGET HTTP/1.1"),
        ParseError::HeaderName => malformed(
            "a field name is letters, digits and a few signs, directly followed by a colon",
        ),
        ParseError::HeaderValue => {
            malformed("a field value holds no control characters and is not folded")
        }
        ParseError::NewLine => malformed("lines of a request head end with CR LF"),
        _ => malformed("a request line is METHOD TARGET HTTP/1.1, with single spaces"),
    }
}

fn method(text: &str) -> Result<Method, RequestError> {
    let sound = !text.is_empty()
        && text.len() <= METHOD_BYTES_MAX
        && text.bytes().all(|byte| {
            byte.is_ascii_uppercase() || byte.is_ascii_digit() || b"-_".contains(&byte)
        });
    let method = sound.then(|| text.parse().ok()).flatten();
    match method {
        Some(Method::Connect) => {
            let text = "CONNECT is not supported: this is not a proxy";
            Err(RequestError::new(Code::NotImplemented, text))
        }
        Some(method) => Ok(method),
        None => Err(malformed("a method is at most 32 letters in upper case")),
    }
}

/// The values of the fields, gathered one by one.
#[derive(Debug, Default)]
struct HeadFields {
    hosts: usize,
    content_length: Option<u64>,
    transfer_encoding: Option<String>,
    close: bool,
    keep_alive: bool,
    expect_continue: bool,
    content_type: Option<String>,
    content_encoding: Option<String>,
    json_length: Option<String>,
    accept: Option<String>,
    timeout: Option<Duration>,
    timeout_fault: Option<String>,
    client: Option<String>,
    request_id: Option<String>,
    /// `Some(None)` if it is invalid or came twice.
    traceparent: Option<Option<String>>,
}

impl HeadFields {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), RequestError> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        if is("host") {
            self.hosts += 1;
            if self.hosts > 1 {
                return Err(malformed("a request has one Host field, but two came"));
            }
            if let Some(wrong) = not_of_authority(value) {
                return Err(malformed(format!(
                    "a Host field holds a host and at most a port, but this one holds {wrong}"
                )));
            }
        } else if is("content-length") {
            if self.content_length.is_some() {
                return Err(malformed("a request has at most one Content-Length"));
            }
            self.content_length = Some(content_length(value)?);
        } else if is("transfer-encoding") {
            if self.transfer_encoding.is_some() {
                return Err(malformed("a request has at most one Transfer-Encoding"));
            }
            self.transfer_encoding = Some(text(value).to_ascii_lowercase());
        } else if is("connection") {
            for option in text(value).split(',') {
                self.close |= option.trim().eq_ignore_ascii_case("close");
                self.keep_alive |= option.trim().eq_ignore_ascii_case("keep-alive");
            }
        } else if is("expect") {
            if !value.eq_ignore_ascii_case(b"100-continue") {
                let text = "the only expectation that can be met is 100-continue";
                return Err(RequestError::new(Code::ExpectationFailed, text));
            }
            self.expect_continue = true;
        } else if is("content-type") {
            if self
                .content_type
                .replace(text(value).into_owned())
                .is_some()
            {
                return Err(malformed("a request has at most one Content-Type"));
            }
        } else if is("content-encoding") {
            if !value.eq_ignore_ascii_case(b"identity") && !value.is_empty() {
                self.content_encoding = Some(text(value).into_owned());
            }
        } else if is("inference-header-content-length") {
            let length = text(value).into_owned();
            if self.json_length.replace(length).is_some() {
                return Err(malformed(
                    "a request has at most one Inference-Header-Content-Length",
                ));
            }
        } else if is("accept") {
            self.accept = Some(match self.accept.take() {
                None => text(value).into_owned(),
                Some(list) => list + "," + &text(value),
            });
        } else if is("x-request-id") {
            self.request_id = sane_id(value);
        } else if is("x-ms-request-id") && self.request_id.is_none() {
            // Azure Machine Learning's own name for it.
            self.request_id = sane_id(value);
        } else if is("traceparent") {
            self.traceparent = Some(match self.traceparent {
                None => traceparent::read(value),
                Some(_) => None,
            });
        } else if is("x-request-timeout") {
            // It is not known yet whether the field matters for this request.
            match timeout(value) {
                Ok(timeout) => self.note_timeout(timeout),
                Err(fault) => self.timeout_fault = Some(fault),
            }
        } else if is("x-envoy-expected-rq-timeout-ms") {
            // Set by a proxy, not by the client: nonsense is ignored. 0 is no limit.
            let millis = std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse().ok());
            if let Some(millis) = millis.filter(|millis| *millis > 0) {
                self.note_timeout(Duration::from_millis(millis));
            }
        }
        Ok(())
    }

    fn note_timeout(&mut self, timeout: Duration) {
        self.timeout = Some(self.timeout.map_or(timeout, |other| other.min(timeout)));
    }

    fn framing(&self, version: &HTTPVersion) -> Result<Framing, RequestError> {
        match (&self.transfer_encoding, self.content_length) {
            (None, None) => Ok(Framing::None),
            (None, Some(length)) => Ok(Framing::Length(length)),
            (Some(_), Some(_)) => Err(malformed(
                "a request has Content-Length or Transfer-Encoding, not both",
            )),
            (Some(_), None) if *version < (1, 1) => {
                Err(malformed("HTTP/1.0 has no Transfer-Encoding"))
            }
            (Some(coding), None) if coding == "chunked" => Ok(Framing::Chunked),
            (Some(coding), None) if coding.is_empty() || coding.contains(',') => {
                Err(malformed("the one transfer coding of a request is chunked"))
            }
            (Some(_), None) => {
                let text = "the only transfer coding this server knows is chunked";
                Err(RequestError::new(Code::NotImplemented, text))
            }
        }
    }
}

fn text(value: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(value)
}

/// Digits only (RFC 9110 section 8.6): no sign, no blank, no list.
fn content_length(value: &[u8]) -> Result<u64, RequestError> {
    let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
    let length = digits.then(|| text(value).parse().ok()).flatten();
    length.ok_or_else(|| malformed("a Content-Length is a number of bytes in digits, below 2^64"))
}

/// Parses seconds, such as `1.5`, or a number with a unit, such as `1500ms`.
///
/// # Errors
///
/// What it must be, and what was given.
fn timeout(value: &[u8]) -> Result<Duration, String> {
    let value = text(value);
    let seconds = value.parse().ok().filter(|seconds: &f64| *seconds >= 0.0);
    let timeout = match seconds {
        Some(seconds) => Duration::try_from_secs_f64(seconds).ok(),
        None => humantime::parse_duration(&value).ok(),
    };
    let limit = Duration::from_secs(366 * 86_400);
    let timeout = timeout.filter(|timeout| !timeout.is_zero() && *timeout <= limit);
    timeout.ok_or_else(|| {
        let short: String = value.chars().take(TIMEOUT_SHOWN).collect();
        let more = if short.len() < value.len() { "…" } else { "" };
        let is = match value.trim() {
            "" => "empty".to_owned(),
            _ => format!("{short:?}{more}"),
        };
        format!(
            "X-Request-Timeout must be a number of seconds over 0 and at most a year, or one with its unit, as in 1500ms, but is {is}; leave it out for the server's own limit"
        )
    })
}

/// Returns the first character that no host and no port may have (RFC 3986 section 3.2).
fn not_of_authority(value: &[u8]) -> Option<String> {
    let is_wrong = |byte: &u8| match byte {
        b',' | b'/' | b'?' | b'#' | b'@' | b'\\' | b'"' | b'<' | b'>' => true,
        b'{' | b'}' | b'|' | b'^' | b'`' => true,
        _ => !byte.is_ascii_graphic(),
    };
    let wrong = *value.iter().find(|byte| is_wrong(byte))?;
    Some(match wrong {
        b' ' => "a blank".to_owned(),
        0x21..=0x7e => format!("the character {}", char::from(wrong)),
        _ => format!("the byte 0x{wrong:02X}"),
    })
}

fn sane_id(value: &[u8]) -> Option<String> {
    let sane = (1..=128).contains(&value.len())
        && value
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(byte));
    sane.then(|| text(value).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ask(fields: &str) -> String {
        format!("POST /predict HTTP/1.1\r\nHost: a\r\n{fields}\r\n")
    }

    fn status(head: &str) -> u16 {
        assert_eq!(end(head.as_bytes(), 0), Some(head.len()), "{head:?}");
        read(head.as_bytes(), 100, None).map_or_else(|error| error.code.status(), |_| 200)
    }

    #[test]
    fn what_two_readers_could_understand_differently_is_refused() {
        let table = [
            ("plain", ask(""), 200),
            ("one CRLF first", format!("\r\n{}", ask("")), 200),
            ("two Hosts", ask("Host: b\r\n"), 400),
            ("no Host", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            (
                "no Host in HTTP/1.0",
                "GET / HTTP/1.0\r\n\r\n".to_owned(),
                200,
            ),
            (
                "a Host with a path",
                "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".to_owned(),
                400,
            ),
            ("Content-Length", ask("Content-Length: 5\r\n"), 200),
            (
                "two Content-Lengths",
                ask("Content-Length: 5\r\nContent-Length: 5\r\n"),
                400,
            ),
            (
                "a list of Content-Lengths",
                ask("Content-Length: 5, 5\r\n"),
                400,
            ),
            ("a sign", ask("Content-Length: +5\r\n"), 400),
            ("a minus", ask("Content-Length: -5\r\n"), 400),
            ("a blank inside", ask("Content-Length: 5 5\r\n"), 400),
            ("hexadecimal", ask("Content-Length: 0x5\r\n"), 400),
            ("no length at all", ask("Content-Length:\r\n"), 400),
            (
                "a length over 64 bits",
                ask("Content-Length: 18446744073709551616\r\n"),
                400,
            ),
            ("chunked", ask("Transfer-Encoding: Chunked\r\n"), 200),
            (
                "both framings",
                ask("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
                400,
            ),
            (
                "an unknown coding",
                ask("Transfer-Encoding: xchunked\r\n"),
                501,
            ),
            (
                "two codings",
                ask("Transfer-Encoding: chunked, identity\r\n"),
                400,
            ),
            (
                "gzip below chunked",
                ask("Transfer-Encoding: gzip, chunked\r\n"),
                400,
            ),
            (
                "Transfer-Encoding twice",
                ask("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
                400,
            ),
            (
                "chunked in HTTP/1.0",
                "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                400,
            ),
            ("obsolete folding", ask("A: b\r\n c\r\n"), 400),
            (
                "a blank before the colon",
                ask("Content-Length : 5\r\n"),
                400,
            ),
            ("a bare CR", ask("A: b\rc\r\n"), 400),
            ("a NUL", ask("A: b\0c\r\n"), 400),
            ("a line without a colon", ask("nonsense\r\n"), 400),
            ("100-continue", ask("Expect: 100-Continue\r\n"), 200),
            ("another expectation", ask("Expect: miracle\r\n"), 417),
            (
                "two content types",
                ask("Content-Type: a/b\r\nContent-Type: c/d\r\n"),
                400,
            ),
            (
                "an upgrade is ignored",
                ask("Connection: Upgrade\r\nUpgrade: h2c\r\n"),
                200,
            ),
            (
                "lower-case method",
                "get / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "an endless method",
                format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "A".repeat(33)),
                400,
            ),
            (
                "no slash",
                "GET livez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "a fragment",
                "GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "raw UTF-8",
                "GET /\u{e9} HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "double space",
                "GET  / HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "absolute form",
                "GET http://a/livez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                200,
            ),
            (
                "absolute form without a host",
                "GET http:///livez HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "asterisk form",
                "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                200,
            ),
            (
                "asterisk form with GET",
                "GET * HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "CONNECT",
                "CONNECT a:80 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(),
                501,
            ),
            ("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\n".to_owned(), 505),
            (
                "a later minor version",
                "GET / HTTP/1.2\r\nHost: a\r\n\r\n".to_owned(),
                200,
            ),
            (
                "a later minor version after a CRLF",
                "\r\nGET / HTTP/1.9\r\nHost: a\r\n\r\n".to_owned(),
                200,
            ),
            (
                "a later minor version without a Host",
                "GET / HTTP/1.2\r\n\r\n".to_owned(),
                400,
            ),
            (
                "a minor version of two digits",
                "GET / HTTP/1.12\r\nHost: a\r\n\r\n".to_owned(),
                400,
            ),
            (
                "a later major version",
                "GET / HTTP/2.1\r\nHost: a\r\n\r\n".to_owned(),
                505,
            ),
            (
                "both framings in a later minor version",
                "POST / HTTP/1.2\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
                400,
            ),
            ("HTTP/0.9", "GET /\r\n\r\n".to_owned(), 400),
            ("a hundred fields", ask(&"A: b\r\n".repeat(99)), 200),
            ("too many fields", ask(&"A: b\r\n".repeat(100)), 431),
        ];
        for (name, head, expected) in table {
            assert_eq!(status(&head), expected, "{name}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_host_is_named() {
        let table = [
            ("outbound|8080||name", "the character |"),
            ("a/b", "the character /"),
            ("user@a", "the character @"),
            ("a b", "a blank"),
            ("b\u{fc}cher.test", "the byte 0xC3"),
        ];
        for (host, expected) in table {
            let head = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let error = read(head.as_bytes(), 100, None).unwrap_err();
            assert_eq!(error.code, Code::MalformedRequest, "{host}");
            assert!(error.text.ends_with(expected), "{host}: {}", error.text);
        }
        for host in ["", "a", "a.test:8080", "[::1]:80", "127.0.0.1", "a_b"] {
            let head = format!("GET /livez HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert!(read(head.as_bytes(), 100, None).is_ok(), "{host}");
        }
    }

    #[test]
    fn a_later_minor_version_is_read_as_1_1() {
        for version in ["1.1", "1.2", "1.9"] {
            let text = format!("GET /livez?a=HTTP/1.3 HTTP/{version}\r\nHost: a\r\n\r\n");
            let head = read(text.as_bytes(), 100, None).unwrap();
            assert_eq!(head.version, HTTPVersion(1, 1), "{version}");
            assert!(head.keep_alive, "{version}");
            assert_eq!(head.query.as_deref(), Some("a=HTTP/1.3"));
        }
    }

    #[test]
    fn a_timeout_that_is_none_is_no_fault_of_the_head() {
        let seen = |fields: &str| {
            let head = read(ask(fields).as_bytes(), 100, None).unwrap();
            (head.timeout, head.timeout_fault)
        };
        let second = Some(Duration::from_secs(1));
        assert_eq!(seen("X-Request-Timeout: 1\r\n"), (second, None));
        assert_eq!(seen("X-Request-Timeout: 1000ms\r\n"), (second, None));
        let table = [
            ("", "but is empty"),
            ("0", "but is \"0\""),
            ("-1", "but is \"-1\""),
            ("NaN", "but is \"NaN\""),
            ("soon", "but is \"soon\""),
            ("1e400", "but is \"1e400\""),
            (&"9".repeat(100), "9…;"),
        ];
        for (value, expected) in table {
            let (timeout, fault) = seen(&format!("X-Request-Timeout: {value}\r\n"));
            let fault = fault.unwrap_or_default();
            let expected = expected.replace("9…;", "99\"…;");
            assert_eq!(timeout, None, "{value}");
            assert!(fault.contains(&expected), "{value}: {fault}");
        }
        let both = "X-Request-Timeout: soon\r\nX-Envoy-Expected-Rq-Timeout-Ms: 1000\r\n";
        assert_eq!(seen(both).0, second);
    }

    #[test]
    fn what_can_no_longer_become_a_request_is_refused_before_its_end() {
        let table: [(&str, &[u8], bool); 7] = [
            ("a TLS hello", b"\x16\x03\x01\x02\x00", true),
            ("random bytes", b"\xff\x00\x7f", true),
            ("bare line feeds", b"GET / HTTP/1.1\nHost: a\n\n", true),
            ("a second blank line", b"\r\n\r\n", true),
            ("nothing", b"", false),
            ("half a CRLF", b"\r", false),
            ("half a head", b"GET / HTTP/1.1\r\nHo", false),
        ];
        for (name, bytes, refused) in table {
            assert_eq!(hopeless(bytes, 0).is_some(), refused, "{name}");
            let stepwise = (1..=bytes.len()).any(|end| hopeless(&bytes[..end], end - 1).is_some());
            assert_eq!(stepwise, refused, "{name}, byte by byte");
        }
    }

    #[test]
    fn a_head_says_what_the_server_acts_on() {
        let text = "POST http://h:1/predict?a=1?b HTTP/1.1\r\nhost: h:1\r\ncontent-length: 12\r\n\
                    CONTENT-TYPE: application/json\r\nConnection: foo, Close\r\nx-request-id: a.b:c-1\r\n\
                    Content-Encoding: gzip\r\nExpect: 100-continue\r\n\r\n";
        let head = read(text.as_bytes(), 100, None).unwrap();
        assert_eq!(
            (head.path.as_str(), head.query.as_deref()),
            ("/predict", Some("a=1?b"))
        );
        assert_eq!(head.framing, Framing::Length(12));
        assert!(!head.keep_alive && head.expect_continue);
        assert_eq!(head.content_type.as_deref(), Some("application/json"));
        assert_eq!(head.content_encoding.as_deref(), Some("gzip"));
        assert_eq!(head.request_id.as_deref(), Some("a.b:c-1"));
        for (fields, id) in [
            ("x-ms-request-id: azure\r\n", "azure"),
            ("x-ms-request-id: azure\r\nX-Request-Id: own\r\n", "own"),
            ("X-Request-Id: own\r\nx-ms-request-id: azure\r\n", "own"),
        ] {
            let request = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            let head = read(request.as_bytes(), 100, None).unwrap();
            assert_eq!(head.request_id.as_deref(), Some(id), "{fields}");
        }
        let old = |fields: &str| {
            read(
                format!("GET / HTTP/1.0\r\n{fields}\r\n").as_bytes(),
                100,
                None,
            )
            .unwrap()
        };
        assert!(!old("").keep_alive);
        assert!(old("Connection: Keep-Alive\r\n").keep_alive);
        assert!(!old("Expect: 100-continue\r\n").expect_continue);
    }

    fn any_head() -> impl Strategy<Value = String> {
        let field = ("[A-Za-z-]{1,12}", "[ -~]{0,20}")
            .prop_map(|(name, value)| format!("{name}: {value}\r\n"));
        (
            "(GET|POST|OPTIONS)",
            "/[a-z?=&]{0,12}",
            proptest::collection::vec(field, 0..8),
        )
            .prop_map(|(method, target, fields)| {
                format!(
                    "{method} {target} HTTP/1.1\r\nHost: a\r\n{}\r\n",
                    fields.concat()
                )
            })
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = hopeless(&bytes, bytes.len() / 3);
            let _ = read(&bytes, 100, None);
            let _ = end(&bytes, bytes.len() / 2);
        }

        #[test]
        fn an_accepted_head_reads_the_same_however_it_is_split(head in any_head(), tail in "[ -~]{0,9}", step in 1usize..9) {
            let whole = read(head.as_bytes(), 100, None);
            let bytes = format!("{head}{tail}").into_bytes();
            let mut searched = 0;
            let mut found = None;
            while found.is_none() && searched < bytes.len() {
                let filled = (searched + step).min(bytes.len());
                found = end(&bytes[..filled], searched);
                if found.is_none() && whole.is_ok() {
                    prop_assert!(hopeless(&bytes[..filled], searched).is_none());
                }
                searched = filled;
            }
            prop_assert_eq!(found, Some(head.len()));
            prop_assert_eq!(read(&bytes[..head.len()], 100, None), whole);
        }
    }

    #[test]
    fn a_trace_is_read_if_it_is_named_once_and_validly() {
        const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let field = format!("Traceparent: {TRACE}\r\n");
        let traced = |fields: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            read(head.as_bytes(), 16, None).unwrap().traceparent
        };
        assert_eq!(traced(&field).as_deref(), Some(TRACE));
        assert_eq!(traced(""), None);
        assert_eq!(traced("traceparent: nonsense\r\n"), None);
        assert_eq!(traced(&field.repeat(2)), None);
        assert_eq!(traced(&field.repeat(3)), None);
    }
}
