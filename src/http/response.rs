//! Answers and how they are written: tiny_http prints the head, and one vectored write sends
//! everything.
//!
//! tiny_http's writer drops `Connection`, chunks when it wants to, and makes 22 write calls for a
//! head on a socket. So it prints the common part of similar answers into memory, without a body,
//! and the varying part is appended here. Pure but for the writer it is given.

use std::borrow::Cow;
use std::cell::RefCell;
use std::io::{self, IoSlice, Write};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tiny_http::{HTTPVersion, Header, Response, StatusCode};

use crate::error::{Code, OverloadStatus, RequestError};
use crate::page::Page;
use crate::protocol::Payload;

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The `code` of an error.
    pub code: Option<Code>,
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub body: Cow<'static, [u8]>,
    /// `Retry-After` in whole seconds (RFC 9110 section 10.2.3).
    pub retry_after: Option<u32>,
    /// `Allow` (RFC 9110 section 10.2.1).
    pub allow: Option<&'static str>,
    /// Fields of its own.
    pub fields: Vec<(&'static str, String)>,
    /// `Server-Timing`, of a prediction.
    pub timing: Option<ServerTiming>,
}

/// Where a prediction's time went, as browsers show it (W3C Server Timing).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerTiming {
    /// In the queue.
    pub queue: Duration,
    /// Decoding the request and computing.
    pub predict: Duration,
    /// Writing the answer.
    pub encode: Duration,
}

impl ServerTiming {
    /// Prints the field. By hand: the formatting of the standard library would take as long as the rest
    /// of a prediction's head.
    fn print(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"Server-Timing: queue;dur=");
        push_millis(self.queue, out);
        out.extend_from_slice(b", predict;dur=");
        push_millis(self.predict, out);
        out.extend_from_slice(b", encode;dur=");
        push_millis(self.encode, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// Prints a time in milliseconds with three decimals.
fn push_millis(time: Duration, out: &mut Vec<u8>) {
    const DECIMALS: usize = 3;
    let mut rest = time
        .as_secs()
        .saturating_mul(1_000_000)
        .saturating_add(u64::from(time.subsec_micros()));
    // From the last digit to the first. 2^64 has 20 digits, and there is a point.
    let mut digits = [b'0'; 21];
    let mut start = digits.len();
    while rest > 0 || digits.len() - start < DECIMALS + 2 {
        start -= 1;
        if digits.len() - start == DECIMALS + 1 {
            digits[start] = b'.';
        } else {
            digits[start] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

impl From<Payload> for Answer {
    fn from(payload: Payload) -> Self {
        Answer {
            status: payload.status,
            code: None,
            content_type: payload.content_type,
            body: payload.body,
            retry_after: payload.retry_after,
            allow: None,
            fields: payload.fields,
            timing: None,
        }
    }
}

impl Answer {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Answer::from(Payload::text(status, body))
    }

    /// A page for a browser.
    pub fn html(page: Page) -> Self {
        Answer {
            content_type: "text/html; charset=utf-8",
            fields: page.fields,
            ..Answer::text(200, page.html)
        }
    }

    /// An error in the server's own shape.
    pub fn error(error: &RequestError, request_id: &str, overload: OverloadStatus) -> Self {
        Answer::shaped(error, error.to_json(request_id), overload)
    }

    /// An error in a dialect's shape.
    pub fn shaped(error: &RequestError, content: Vec<u8>, overload: OverloadStatus) -> Self {
        Answer {
            code: Some(error.code),
            retry_after: error.retry_after,
            allow: error.allow,
            ..Answer::from(Payload::json(error.code.status_with(overload), content))
        }
    }
}

/// What the answer says about the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Persistence {
    /// It stays open, as is the default in HTTP/1.1.
    KeepAlive,
    /// It stays open, which an HTTP/1.0 client must be told.
    KeepAliveHttp10,
    /// It is closed.
    Close,
}

/// The field that says to which server a probe listener belongs.
pub const MAIN_PORT: &str = "X-Lanekeeper-Main-Port";

/// Prints an answer's head into `out`, which is cleared first. Answers of the probe listener name
/// the main listener's TCP port.
pub fn print_head(
    answer: &Answer,
    request_id: &str,
    persistence: Persistence,
    main_port: Option<u16>,
    out: &mut Vec<u8>,
) {
    out.clear();
    out.extend_from_slice(&printed(answer.status, answer.content_type));
    DATE.with_borrow_mut(|date| put(out, "Date", date.now()));
    // Wherever it comes from, it cannot start another line.
    if request_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        put(out, "X-Request-Id", request_id);
    }
    if let Some(seconds) = answer.retry_after {
        put_number(out, "Retry-After", seconds.into());
    }
    if let Some(methods) = answer.allow {
        put(out, "Allow", methods);
    }
    for (name, value) in &answer.fields {
        if !value.bytes().any(|byte| byte.is_ascii_control()) {
            put(out, name, value);
        }
    }
    if let Some(port) = main_port {
        put_number(out, MAIN_PORT, port.into());
    }
    put_number(out, "Content-Length", answer.body.len() as u64);
    if let Some(timing) = &answer.timing {
        timing.print(out);
    }
    let option: &[u8] = match persistence {
        Persistence::KeepAlive => b"",
        Persistence::KeepAliveHttp10 => b"Connection: keep-alive\r\n",
        Persistence::Close => b"Connection: close\r\n",
    };
    out.extend_from_slice(option);
    out.extend_from_slice(b"\r\n");
}

/// Prints a field. Formatting it would take several times as long.
fn put(out: &mut Vec<u8>, name: &str, value: &str) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value.as_bytes());
    out.extend_from_slice(b"\r\n");
}

fn put_number(out: &mut Vec<u8>, name: &str, value: u64) {
    // Writing to memory cannot fail.
    let _ = write!(out, "{name}: {value}\r\n");
}

/// The common part of all answers with a status code and media type.
#[derive(Debug, Clone)]
struct CommonFields {
    status: u16,
    content_type: &'static str,
    /// Status line and fields.
    printed: Arc<[u8]>,
}

/// Returns the status line and the fields that do not change between answers. They are printed
/// once, because each field costs tiny_http two allocations, and on hundreds of threads those are
/// cache misses. There are few, because only the server's own status codes and types come here.
fn printed(status: u16, content_type: &'static str) -> Arc<[u8]> {
    static COMMON: LazyLock<ArcSwap<Vec<CommonFields>>> = LazyLock::new(ArcSwap::default);
    let known = COMMON.load();
    let found = known
        .iter()
        .find(|common| common.status == status && common.content_type == content_type);
    if let Some(common) = found {
        return Arc::clone(&common.printed);
    }
    let printed = print_common(status, content_type);
    let common = CommonFields {
        status,
        content_type,
        printed: Arc::clone(&printed),
    };
    // Two threads may both add it, which does no harm.
    COMMON.rcu(|known| {
        let mut more = Vec::clone(known);
        more.push(common.clone());
        more
    });
    printed
}

fn print_common(status: u16, content_type: &str) -> Arc<[u8]> {
    let fields = [
        ("Server", concat!("lanekeeper/", env!("CARGO_PKG_VERSION"))),
        ("Content-Type", content_type),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-store"),
    ];
    let headers = fields
        .into_iter()
        .filter_map(|(name, value)| Header::from_bytes(name, value).ok());
    let response = Response::new(
        StatusCode(status),
        headers.collect(),
        io::empty(),
        Some(0),
        None,
    );
    let mut head = Vec::new();
    // Writing to memory cannot fail.
    let _ = response.raw_print(&mut head, HTTPVersion(1, 1), &[], true, None);
    // It appends the varying fields and the end of the head.
    let changing = |line: &&[u8]| {
        let is = |name: &[u8]| line.starts_with(name);
        is(b"Date:") || is(b"Content-Length:") || is(b"\r\n")
    };
    let lines = head.split_inclusive(|byte| *byte == b'\n');
    let common: Vec<u8> = lines
        .filter(|line| !changing(line))
        .flatten()
        .copied()
        .collect();
    common.into()
}

thread_local! {
    static DATE: RefCell<Date> = const { RefCell::new(Date { second: u64::MAX, text: String::new() }) };
}

/// The date field's value, formatted once a second.
struct Date {
    second: u64,
    text: String,
}

impl Date {
    fn now(&mut self) -> &str {
        let now = SystemTime::now();
        let second = now
            .duration_since(SystemTime::UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        if second != self.second {
            self.second = second;
            self.text = httpdate::fmt_http_date(now);
        }
        &self.text
    }
}

/// Sends head and body in as few writes as the socket allows.
///
/// # Errors
///
/// The writer's own; `WriteZero` if it takes nothing more.
pub fn send(writer: &mut impl Write, mut head: &[u8], mut body: &[u8]) -> io::Result<()> {
    while !(head.is_empty() && body.is_empty()) {
        let slices = [IoSlice::new(head), IoSlice::new(body)];
        // Once the head is sent, an empty first slice would be legal but pointless.
        let written = match writer.write_vectored(&slices[usize::from(head.is_empty())..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let of_head = written.min(head.len());
        head = &head[of_head..];
        body = &body[written - of_head..];
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn print(answer: &Answer, id: &str, persistence: Persistence) -> String {
        let mut head = b"left over".to_vec();
        print_head(answer, id, persistence, None, &mut head);
        String::from_utf8(head).unwrap()
    }

    #[test]
    fn a_payload_has_its_own_fields_and_none_that_starts_another_line() {
        let mut payload = Payload::text(200, "ok");
        payload.fields = vec![("X-One", "1".to_owned()), ("X-Two", "a\r\nb: c".to_owned())];
        let mut head = Vec::new();
        let answer = Answer::from(payload);
        print_head(&answer, "id", Persistence::KeepAlive, None, &mut head);
        let head = String::from_utf8(head).unwrap();
        assert!(head.contains("X-One: 1\r\n"), "{head}");
        assert!(!head.contains("X-Two"), "{head}");
    }

    #[test]
    fn a_head_carries_what_every_answer_carries() {
        let head = print(&Answer::text(200, "ok"), "id-1", Persistence::KeepAlive);
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
        assert!(head.ends_with("\r\n\r\n"), "{head}");
        for field in [
            "Content-Type: text/plain; charset=utf-8\r\n",
            "Content-Length: 2\r\n",
            "X-Request-Id: id-1\r\n",
            "X-Content-Type-Options: nosniff\r\n",
            "Cache-Control: no-store\r\n",
            concat!("Server: lanekeeper/", env!("CARGO_PKG_VERSION"), "\r\n"),
            "Date: ",
            " GMT\r\n",
        ] {
            assert_eq!(head.matches(field).count(), 1, "{field:?} in {head}");
        }
        assert!(
            !head.contains("Connection") && !head.contains("Transfer-Encoding"),
            "{head}"
        );
    }

    #[test]
    fn a_prediction_says_where_its_time_went() {
        let timing = ServerTiming {
            queue: Duration::from_nanos(12_999),
            predict: Duration::from_millis(1500),
            encode: Duration::ZERO,
        };
        let answer = Answer {
            timing: Some(timing),
            ..Answer::text(200, "ok")
        };
        let head = print(&answer, "id", Persistence::KeepAlive);
        let expected = "Server-Timing: queue;dur=0.012, predict;dur=1500.000, encode;dur=0.000\r\n";
        assert!(head.contains(expected), "{head}");
    }

    #[test]
    fn a_time_is_milliseconds_with_three_decimals() {
        let table = [
            (Duration::ZERO, "0.000"),
            (Duration::from_nanos(999), "0.000"),
            (Duration::from_micros(1), "0.001"),
            (Duration::from_micros(12_345), "12.345"),
            (Duration::from_secs(61), "61000.000"),
            (
                Duration::from_secs(u64::MAX / 1_000_000),
                "18446744073709000.000",
            ),
        ];
        for (time, text) in table {
            let mut out = Vec::new();
            push_millis(time, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), text);
        }
    }

    #[test]
    fn a_large_answer_has_its_length_and_a_closing_one_says_so() {
        let large = Answer {
            body: vec![b'x'; 1 << 20].into(),
            ..Answer::text(200, "")
        };
        let head = print(&large, "id", Persistence::Close);
        assert!(head.contains("Content-Length: 1048576\r\n"), "{head}");
        assert!(head.ends_with("\r\nConnection: close\r\n\r\n"), "{head}");
        let head = print(&large, "id", Persistence::KeepAliveHttp10);
        assert!(
            head.ends_with("\r\nConnection: keep-alive\r\n\r\n"),
            "{head}"
        );
    }

    #[test]
    fn an_error_says_when_to_come_back_and_what_is_allowed() {
        let error = RequestError {
            allow: Some("GET, HEAD"),
            ..RequestError::new(Code::MethodNotAllowed, "no \"that\"").retry_after(3)
        };
        let answer = Answer::error(&error, "id", OverloadStatus::ServiceUnavailable);
        let head = print(&answer, "id", Persistence::KeepAlive);
        assert!(
            head.starts_with("HTTP/1.1 405 Method Not Allowed\r\n"),
            "{head}"
        );
        assert!(
            head.contains("Retry-After: 3\r\n") && head.contains("Allow: GET, HEAD\r\n"),
            "{head}"
        );
        let json: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!(json["error"], "no \"that\"");
        assert_eq!(json["code"], "method_not_allowed");
        assert_eq!(json["request_id"], "id");
    }

    #[test]
    fn no_value_can_start_another_line() {
        let head = print(
            &Answer::text(200, "ok"),
            "a\r\nSet-Cookie: x",
            Persistence::KeepAlive,
        );
        assert!(!head.contains("Set-Cookie"), "{head}");
    }

    /// Takes a few bytes at a time and is interrupted in between.
    struct Narrow(Vec<u8>, usize, bool);

    impl Write for Narrow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.2 = !self.2;
            if self.2 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let count = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_answer_arrives_whole_whatever_the_socket_takes_at_a_time() {
        for width in 1..9 {
            let mut narrow = Narrow(Vec::new(), width, false);
            send(&mut narrow, b"head", b"and body").unwrap();
            assert_eq!(narrow.0, b"headand body");
        }
        let error = send(&mut Narrow(Vec::new(), 0, true), b"x", b"").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WriteZero);
    }
}
