//! `lanekeeper probe`: asks a running server one question, as a client, and ends with its verdict.
//!
//! For callers that can run a command but do not speak HTTP: an exec probe, a container's health
//! check, a unit's `ExecStartPost`, cron, a person. It runs on the main thread, loads no model and
//! starts no log. Only a host name is resolved on another thread, because the system's resolver has
//! no deadline.

use std::time::Instant;

use crossbeam_channel::bounded;

use crate::commands::output;
use crate::config::{ProbeArgs, ProbeConfig};
use crate::error::StartError;
use crate::http::response::MAIN_PORT;
use crate::platform::address::{Address, Destination};
use crate::platform::client::{ClientConnection, ClientError, ClientRequest};
use crate::platform::clock;
use crate::platform::sys;

const OK: u16 = 200;

/// Maximum size of an answer, head and body; verdicts take a few hundred bytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Maximum length of a failure's text, in bytes: it ends up in events and logs.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// Resolver libraries keep packets and paths on the stack.
const RESOLVER_STACK_BYTES: usize = 512 << 10;

/// Asks, and prints `ok` if the answer is 200.
///
/// # Errors
///
/// `Usage` for wrong options; `NotPassed` if the answer is another, or there is none within
/// `--timeout`.
pub fn run(args: ProbeArgs) -> Result<(), StartError> {
    let began = clock::instant();
    let config = args.validate()?;
    ask(&config, began + config.timeout).map_err(StartError::NotPassed)?;
    output::print("ok\n")
}

/// Asks until `deadline`; the error is for a person, one line or a few.
fn ask(config: &ProbeConfig, deadline: Instant) -> Result<(), String> {
    let path = config.check.path();
    let place = match &config.destination {
        Destination::Known(address) => address.reachable().to_string(),
        named => named.to_string(),
    };
    match exchange(path, config, deadline) {
        Ok((OK, _)) => Ok(()),
        Ok((status, body)) => Err(failure_text(path, &place, status, &body)),
        Err(why) => Err(bounded_text(format!(
            "cannot probe {path} at {}: {}",
            clean(&place),
            clean(&why)
        ))),
    }
}

/// Asks once and returns status code and body of the answer.
fn exchange(path: &str, config: &ProbeConfig, deadline: Instant) -> Result<(u16, Vec<u8>), String> {
    let addresses = resolve(&config.destination, deadline)?;
    let (address, connection) = connect(&addresses, deadline)?;
    let mut connection = connection.with_answer_bytes_max(ANSWER_BYTES_MAX);
    let failure_text = |error: ClientError| error.to_string();
    let request = request(path, address).map_err(failure_text)?;
    let response = connection
        .exchange(&request, deadline)
        .map_err(failure_text)?;
    if let Some(port) = config.main_port
        && address.is_loopback()
    {
        check_identity(port, response.field(MAIN_PORT))?;
    }
    Ok((response.status, response.body.to_vec()))
}

/// Checks that the answer came from the server whose main listener has `port`, and not from another
/// one.
fn check_identity(port: u16, named: Option<&str>) -> Result<(), String> {
    let who = match named {
        Some(named) if named == port.to_string() => return Ok(()),
        Some(named) => format!("the probe listener of a server on port {named}"),
        None => "a program that is not lanekeeper's probe listener".to_owned(),
    };
    Err(format!(
        "the server on port {port} must answer there, but {who} did; name the right address with --addr"
    ))
}

/// Resolves a name until `deadline`; an address takes no time.
fn resolve(destination: &Destination, deadline: Instant) -> Result<Vec<Address>, String> {
    let cannot = |error: std::io::Error| format!("cannot resolve the host's name: {error}");
    if let Destination::Known(_) = destination {
        return destination.resolve().map_err(cannot);
    }
    let (sender, receiver) = bounded(1);
    let named = destination.clone();
    // Not joined: a resolver that hangs ends with the process.
    let resolving = sys::spawn("resolve", RESOLVER_STACK_BYTES, move || {
        let _ = sender.send(named.resolve());
    });
    resolving.map_err(|error| StartError::no_threads("", 2, &error).to_string())?;
    match receiver.recv_deadline(deadline) {
        Ok(resolved) => resolved.map_err(cannot),
        Err(_) => Err(ClientError::Timeout("resolving the host's name").to_string()),
    }
}

/// Connects to the first address that accepts.
///
/// Each gets an equal share of the remaining time, so that one that never answers leaves some for
/// the next.
fn connect(
    addresses: &[Address],
    deadline: Instant,
) -> Result<(&Address, ClientConnection), String> {
    let mut whys = Vec::new();
    for (waiting, address) in (1..=addresses.len()).rev().zip(addresses) {
        let now = clock::instant();
        let remaining = deadline.saturating_duration_since(now);
        let share = remaining / u32::try_from(waiting).unwrap_or(u32::MAX);
        match ClientConnection::open(address, now + share) {
            Ok(connection) => return Ok((address, connection)),
            Err(error) if addresses.len() == 1 => whys.push(error.to_string()),
            Err(error) => whys.push(format!("{}: {error}", address.typed())),
        }
    }
    Err(whys.join("; "))
}

/// Asks for the reasons too, and for no further request.
fn request(path: &str, address: &Address) -> Result<ClientRequest, ClientError> {
    let host = match address {
        Address::Tcp(address) => address.to_string(),
        // A path is not a host, but RFC 9112 section 3.2 requires the field.
        Address::Unix(_) => "localhost".to_owned(),
    };
    let fields = [
        (
            "User-Agent",
            concat!("lanekeeper-probe/", env!("CARGO_PKG_VERSION")),
        ),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ];
    ClientRequest::new("GET", &format!("{path}?verbose"), &host, &fields, b"")
}

/// Says what failed: the answer's first line, and each failing check.
fn failure_text(path: &str, place: &str, status: u16, body: &[u8]) -> String {
    let body = String::from_utf8_lossy(body);
    let mut lines = body.lines();
    let mut text = format!("{path} at {} failed with {status}", clean(place));
    if let Some(first) = lines.next().filter(|line| !line.trim().is_empty()) {
        text.push_str(": ");
        text.push_str(&clean(first));
    }
    for check in lines.filter(|line| line.starts_with("[-]")) {
        text.push('\n');
        text.push_str(&clean(check));
    }
    bounded_text(text)
}

/// Removes characters that would move a terminal's cursor or start lines.
fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().map(shown).collect()
}

fn bounded_text(mut text: String) -> String {
    if text.len() > TEXT_BYTES_MAX {
        let mut ends = (0..=TEXT_BYTES_MAX).rev();
        let end = ends.find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
        text.push('…');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::time::Duration;

    use socket2::{Domain, SockAddr, Socket, Type};

    use super::*;

    #[test]
    fn a_failure_shows_its_first_line_and_its_failing_checks() {
        let table: &[(&str, &[u8], &str)] = &[
            (
                "the checks that pass are left out",
                b"draining\n[+]workers ok\n[-]draining failed: SIGTERM\n[-]b failed\nreadyz check failed\n",
                "/readyz at unix:/a failed with 503: draining\n[-]draining failed: SIGTERM\n[-]b failed",
            ),
            ("no body", b"", "/readyz at unix:/a failed with 503"),
            ("blank", b" \r\n", "/readyz at unix:/a failed with 503"),
            (
                "controls and bytes that are no UTF-8 are replaced",
                b"a\x1b[2Jb\xffc\r\n[-]d\x00\r\n",
                "/readyz at unix:/a failed with 503: a\u{fffd}[2Jb\u{fffd}c\n[-]d\u{fffd}",
            ),
        ];
        for (name, body, expected) in table {
            assert_eq!(
                failure_text("/readyz", "unix:/a", 503, body),
                *expected,
                "{name}"
            );
        }
    }

    #[test]
    fn a_text_is_bounded_and_ends_at_a_whole_character() {
        for first in ["", "a"] {
            let body = format!("{first}{}", "ü".repeat(10_000));
            let failure_text = failure_text("/livez", "unix:/a", 500, body.as_bytes());
            assert!(
                failure_text.len() <= TEXT_BYTES_MAX + '…'.len_utf8(),
                "{first}"
            );
            assert!(failure_text.len() > TEXT_BYTES_MAX - 2, "{first}");
            assert!(failure_text.ends_with("ü…"), "{first}");
        }
        let checks = "\n[-]x".repeat(10_000);
        let failure_text = failure_text("/livez", "unix:/a", 500, checks.as_bytes());
        assert!(failure_text.len() <= TEXT_BYTES_MAX + '…'.len_utf8());
    }

    #[test]
    fn a_place_cannot_write_lines_of_its_own() {
        let failure_text = failure_text("/livez", "unix:/a\nb", 500, b"");
        assert_eq!(failure_text, "/livez at unix:/a\u{fffd}b failed with 500");
    }

    /// A listener, and where it is.
    fn listener() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().into();
        (listener, address)
    }

    #[test]
    fn addresses_are_tried_in_order_until_one_connects() {
        let deadline = clock::instant() + Duration::from_secs(5);
        let (closed, nobody) = listener();
        drop(closed);
        let (_first, first) = listener();
        let (_second, second) = listener();
        let addresses = [nobody.clone(), first.clone(), second];
        assert_eq!(connect(&addresses, deadline).unwrap().0, &first);
        let error = connect(&[nobody.clone(), nobody.clone()], deadline).unwrap_err();
        let each = format!("{}: cannot connect: ", nobody.typed());
        assert_eq!(error.matches(&each).count(), 2, "{error}");
    }

    #[test]
    fn an_address_that_swallows_everything_leaves_time_for_the_next() {
        // Once its backlog is full, a Unix socket does not answer connects.
        let name = format!("lanekeeper-probe-{}.sock", std::process::id());
        let path = std::env::temp_dir().join(name);
        let full = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        full.bind(&SockAddr::unix(&path).unwrap()).unwrap();
        full.listen(0).unwrap();
        let began = clock::instant();
        let swallowing = [Address::Unix(path.clone())];
        let _fills = connect(&swallowing, began + Duration::from_secs(5)).unwrap();
        let (_listener, live) = listener();
        let addresses = [swallowing[0].clone(), live.clone()];
        let (found, _connection) = connect(&addresses, began + Duration::from_secs(2)).unwrap();
        assert_eq!(found, &live);
        std::fs::remove_file(path).unwrap();
    }
}
