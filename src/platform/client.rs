//! A small HTTP/1.1 client over a blocking socket, for probes, the watchdog and the drill.
//!
//! A [`ClientRequest`] is rendered once and may be sent often. A [`ClientConnection`], over TCP or
//! a Unix socket, carries one exchange at a time and is reused while both sides keep it alive. A
//! [`Client`] opens connections as needed. It blocks the calling thread until a deadline at most. It
//! resolves no names, follows no redirects, speaks no TLS, sends and reads no chunked bodies.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::platform::address::Address;
use crate::platform::clock;

/// Maximum size of one answer, head and body together: 16 MiB and room for a head.
pub const RESPONSE_BYTES_MAX: usize = (16 << 20) + HEAD_BYTES_MAX;

const HEAD_BYTES_MAX: usize = 64 << 10;
const FIELDS_MAX: usize = 100;

/// Why there is no answer; its text is one line for a person.
#[derive(Debug)]
pub enum ClientError {
    /// The connection could not be made (refused, unreachable, no ports left).
    Connect(io::Error),
    /// The deadline passed while connecting, sending or receiving.
    Timeout(&'static str),
    /// The other side closed or reset the connection before the answer was complete.
    Closed(io::Error),
    /// The answer is not HTTP/1.1 as this client reads it, or the request cannot be sent.
    Protocol(String),
}

impl ClientError {
    /// Returns one word for tables: `connect`, `timeout`, `closed` or `protocol`.
    pub fn reason(&self) -> &'static str {
        match self {
            ClientError::Connect(_) => "connect",
            ClientError::Timeout(_) => "timeout",
            ClientError::Closed(_) => "closed",
            ClientError::Protocol(_) => "protocol",
        }
    }

    fn from_io(error: io::Error, doing: &'static str) -> Self {
        match error.kind() {
            // A socket's own timeout appears as WouldBlock on Linux.
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ClientError::Timeout(doing),
            _ => ClientError::Closed(error),
        }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Connect(error) => write!(f, "cannot connect: {error}"),
            ClientError::Timeout(doing) => write!(f, "timed out while {doing}"),
            ClientError::Closed(error) => {
                write!(f, "the connection ended before a whole answer: {error}")
            }
            ClientError::Protocol(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for ClientError {}

/// One request, ready to be sent any number of times.
#[derive(Debug, Clone)]
pub struct ClientRequest {
    wire: Vec<u8>,
    /// HEAD is answered with the length of a body that is not sent (RFC 9110 section 9.3.2).
    bodiless_answer: bool,
}

impl ClientRequest {
    /// Renders a request; adds `Host`, and `Content-Length` for a body or POST.
    ///
    /// # Errors
    /// `Protocol` if method, path or a field contains a line end, so that a caller's text cannot
    /// become a second request.
    pub fn new(
        method: &str,
        path: &str,
        host: &str,
        fields: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Self, ClientError> {
        let line_parts = [method, path, host];
        let names = fields.iter().map(|(name, _)| *name);
        if line_parts
            .into_iter()
            .chain(names)
            .any(|part| part.is_empty() || part.bytes().any(|byte| byte <= b' ' || byte == 0x7f))
        {
            return Err(ClientError::Protocol(format!(
                "method, path, host and field names must not be empty nor hold spaces or controls, but are {method:?}, {path:?}, {host:?}, {fields:?}"
            )));
        }
        let mut wire = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n").into_bytes();
        for (name, value) in fields {
            if value.bytes().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                return Err(ClientError::Protocol(format!(
                    "the value of field {name} must be one line, but is {value:?}"
                )));
            }
            wire.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if !body.is_empty() || method == "POST" {
            wire.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(body);
        Ok(ClientRequest {
            wire,
            bodiless_answer: method == "HEAD",
        })
    }
}

/// An answer, borrowed from its connection's buffer.
#[derive(Debug, Clone, Copy)]
pub struct Response<'a> {
    /// 200 to 999; interim answers (1xx) are skipped.
    pub status: u16,
    head: &'a [u8],
    /// The body, whole.
    pub body: &'a [u8],
}

impl<'a> Response<'a> {
    /// Returns the first value of a field, ignoring the case of its name.
    pub fn field(&self, name: &str) -> Option<&'a str> {
        let head = std::str::from_utf8(self.head).ok()?;
        head.lines().skip(1).find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One connection, with one exchange at a time.
#[derive(Debug)]
pub struct ClientConnection {
    socket: Socket,
    buffer: Vec<u8>,
    /// Maximum size of one answer, head and body together.
    answer_bytes_max: usize,
    /// The socket's timeout as last set; setting it costs a system call.
    limit: Duration,
    reusable: bool,
}

/// What a head says about its answer's body.
struct ResponseHead {
    status: u16,
    bytes: usize,
    /// `None`: the body ends with the connection.
    body_bytes: Option<usize>,
    keep_alive: bool,
}

impl ClientConnection {
    /// Connects to `address`.
    ///
    /// # Errors
    /// `Connect`, or `Timeout` at `deadline`.
    pub fn open(address: &Address, deadline: Instant) -> Result<Self, ClientError> {
        Self::open_from(None, address, deadline)
    }

    /// As [`open`](Self::open), from one of this machine's own addresses if given and `address` is
    /// not a path.
    fn open_from(
        source: Option<IpAddr>,
        address: &Address,
        deadline: Instant,
    ) -> Result<Self, ClientError> {
        let socket = match address {
            Address::Tcp(address) => connect_tcp(source, address, deadline)?,
            Address::Unix(path) => connect_unix(path, deadline)?,
        };
        Ok(ClientConnection {
            socket,
            buffer: Vec::new(),
            answer_bytes_max: RESPONSE_BYTES_MAX,
            limit: Duration::ZERO,
            reusable: true,
        })
    }

    /// Limits an answer, head and body together, to so many bytes; a longer one is `Protocol`.
    pub fn with_answer_bytes_max(mut self, bytes: usize) -> Self {
        self.answer_bytes_max = bytes;
        self
    }

    /// Whether another exchange may follow: the last one was complete and neither side said
    /// `close`.
    pub fn is_reusable(&self) -> bool {
        self.reusable
    }

    /// Sends `request` and reads its answer; after an error the connection is useless.
    ///
    /// `deadline` holds to about a millisecond.
    ///
    /// # Errors
    /// `Timeout`, `Closed` and `Protocol`.
    pub fn exchange(
        &mut self,
        request: &ClientRequest,
        deadline: Instant,
    ) -> Result<Response<'_>, ClientError> {
        self.reusable = false;
        match self.try_exchange(request, deadline) {
            Ok(head) => {
                self.reusable = head.keep_alive;
                let (head_part, body) = self.buffer.split_at(head.bytes);
                Ok(Response {
                    status: head.status,
                    head: head_part,
                    body,
                })
            }
            Err(error) => {
                // Tells the server at once that nobody waits any longer.
                let _ = self.socket.shutdown(Shutdown::Both);
                Err(error)
            }
        }
    }

    fn try_exchange(
        &mut self,
        request: &ClientRequest,
        deadline: Instant,
    ) -> Result<ResponseHead, ClientError> {
        self.buffer.clear();
        self.arm(deadline, "sending")?;
        let sent = self
            .socket
            .write_all(&request.wire)
            .map_err(|error| ClientError::from_io(error, "sending"));
        if let Err(error @ ClientError::Timeout(_)) = sent {
            return Err(error);
        }
        // A server may refuse and close before it has read everything: its answer is worth more
        // than EPIPE.
        let mut head = self
            .read_head(deadline)
            .map_err(|error| match (&sent, error) {
                (Err(_), ClientError::Closed(error)) => ClientError::Closed(error),
                (_, error) => error,
            })?;
        head.keep_alive &= sent.is_ok();
        if request.bodiless_answer || matches!(head.status, 204 | 304) {
            head.body_bytes = Some(0);
        }
        match head.body_bytes {
            Some(body_bytes) => {
                let most = self.answer_bytes_max.saturating_sub(head.bytes);
                if body_bytes > most {
                    return Err(ClientError::Protocol(format!(
                        "the body must be at most {most} bytes, but has {body_bytes}"
                    )));
                }
                while self.buffer.len() < head.bytes + body_bytes {
                    self.read_more(deadline)?;
                }
                // Unexpected bytes: no later request may get them.
                head.keep_alive &= self.buffer.len() == head.bytes + body_bytes;
                self.buffer.truncate(head.bytes + body_bytes);
            }
            None => {
                head.keep_alive = false;
                while self.read_some(deadline)? > 0 {}
            }
        }
        Ok(head)
    }

    /// Reads until the head of a final answer is complete; it is then first in the buffer.
    fn read_head(&mut self, deadline: Instant) -> Result<ResponseHead, ClientError> {
        loop {
            if let Some(head) = parse_head(&self.buffer)? {
                if head.status >= 200 {
                    return Ok(head);
                }
                self.buffer.drain(..head.bytes);
                continue;
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(ClientError::Protocol(format!(
                    "the head of an answer must be at most {HEAD_BYTES_MAX} bytes"
                )));
            }
            self.read_more(deadline)?;
        }
    }

    fn read_more(&mut self, deadline: Instant) -> Result<(), ClientError> {
        match self.read_some(deadline)? {
            0 => Err(ClientError::Closed(io::ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }

    fn read_some(&mut self, deadline: Instant) -> Result<usize, ClientError> {
        let mut chunk = [0; 4096];
        loop {
            self.arm(deadline, "waiting for the answer")?;
            match self.socket.read(&mut chunk) {
                Ok(count) if self.buffer.len() + count > self.answer_bytes_max => {
                    return Err(ClientError::Protocol(format!(
                        "an answer must be at most {} bytes",
                        self.answer_bytes_max
                    )));
                }
                Ok(count) => {
                    self.buffer.extend_from_slice(&chunk[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ClientError::from_io(error, "waiting for the answer")),
            }
        }
    }

    /// Sets the socket's timeout to the remaining time, in whole milliseconds rounded up, so that
    /// most exchanges on a connection find it already set.
    fn arm(&mut self, deadline: Instant, doing: &'static str) -> Result<(), ClientError> {
        let limit = whole_millis(time_remaining(deadline, doing)?);
        if limit != self.limit {
            let set = self.socket.set_read_timeout(Some(limit));
            set.and_then(|()| self.socket.set_write_timeout(Some(limit)))
                .map_err(ClientError::Closed)?;
            self.limit = limit;
        }
        Ok(())
    }
}

/// An address and its last usable connection.
#[derive(Debug)]
pub struct Client {
    address: Address,
    source: Option<IpAddr>,
    connection: Option<ClientConnection>,
}

impl Client {
    /// Makes a client; does not connect yet.
    pub fn new(address: impl Into<Address>) -> Self {
        Client {
            address: address.into(),
            source: None,
            connection: None,
        }
    }

    /// Connects from `source`, one of this machine's own addresses, so that a server can tell
    /// several clients of one machine apart. On Linux all of 127.0.0.0/8 are a machine's own.
    pub fn from_source(mut self, source: Option<IpAddr>) -> Self {
        self.source = source;
        self
    }

    /// Sends `request` on the kept connection or a new one; connecting counts towards `deadline`.
    ///
    /// # Errors
    /// As [`ClientConnection::open`] and [`ClientConnection::exchange`]. Nothing is sent twice: a
    /// kept connection that the server closed meanwhile is `Closed`.
    pub fn send(
        &mut self,
        request: &ClientRequest,
        deadline: Instant,
    ) -> Result<Response<'_>, ClientError> {
        let connection = match self.connection.take() {
            Some(connection) if connection.is_reusable() => connection,
            _ => ClientConnection::open_from(self.source, &self.address, deadline)?,
        };
        self.connection
            .insert(connection)
            .exchange(request, deadline)
    }
}

fn connect_tcp(
    source: Option<IpAddr>,
    address: &SocketAddr,
    deadline: Instant,
) -> Result<Socket, ClientError> {
    let remaining = time_remaining(deadline, "connecting")?;
    let connected = match source {
        None => TcpStream::connect_timeout(address, remaining).map(Socket::from),
        Some(source) => connect_from(source, address, remaining),
    };
    let socket = connected.map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => ClientError::Timeout("connecting"),
        _ => ClientError::Connect(error),
    })?;
    // A request is one write: waiting to fill a segment would only delay it.
    socket.set_tcp_nodelay(true).map_err(ClientError::Connect)?;
    Ok(socket)
}

fn connect_from(source: IpAddr, address: &SocketAddr, remaining: Duration) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(*address), Type::STREAM, None)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.connect_timeout(&SockAddr::from(*address), remaining)?;
    Ok(socket)
}

/// Connects to a Unix socket, waiting for room in its backlog until `deadline`.
fn connect_unix(path: &Path, deadline: Instant) -> Result<Socket, ClientError> {
    let address = SockAddr::unix(path).map_err(ClientError::Connect)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(ClientError::Connect)?;
    loop {
        // A non-blocking connect fails at once if the backlog is full, and nothing reports when
        // there is room; a blocking one waits for as long as a write may take (SO_SNDTIMEO).
        let limit = whole_millis(time_remaining(deadline, "connecting")?);
        let set = socket.set_write_timeout(Some(limit));
        match set.and_then(|()| socket.connect(&address)) {
            Ok(()) => return Ok(socket),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    return Err(ClientError::Timeout("connecting"));
                }
                _ => return Err(ClientError::Connect(error)),
            },
        }
    }
}

/// Rounds up to whole milliseconds, because zero would mean no timeout.
fn whole_millis(remaining: Duration) -> Duration {
    let millis = u64::try_from(remaining.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
    Duration::from_millis(millis)
}

fn time_remaining(deadline: Instant, doing: &'static str) -> Result<Duration, ClientError> {
    let remaining = deadline.saturating_duration_since(clock::instant());
    if remaining.is_zero() {
        Err(ClientError::Timeout(doing))
    } else {
        Ok(remaining)
    }
}

/// Parses a head if it is complete (RFC 9112 sections 4 and 6.3).
fn parse_head(bytes: &[u8]) -> Result<Option<ResponseHead>, ClientError> {
    let malformed =
        |why: String| ClientError::Protocol(format!("the answer is not HTTP/1.1: {why}"));
    let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
    let mut parsed = httparse::Response::new(&mut fields);
    let head_bytes = match parsed.parse(bytes) {
        Ok(httparse::Status::Complete(head_bytes)) => head_bytes,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(malformed(error.to_string())),
    };
    let mut head = ResponseHead {
        status: parsed.code.unwrap_or_default(),
        bytes: head_bytes,
        body_bytes: None,
        keep_alive: parsed.version == Some(1),
    };
    for field in parsed.headers.iter() {
        let value = std::str::from_utf8(field.value).unwrap_or_default().trim();
        if field.name.eq_ignore_ascii_case("content-length") {
            let digits_alone = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
            let length = value.parse().ok().filter(|_| digits_alone);
            match (length, head.body_bytes) {
                (Some(length), None) => head.body_bytes = Some(length),
                (Some(length), Some(first)) if length == first => {}
                _ => return Err(malformed(format!("Content-Length is {value:?}"))),
            }
        } else if field.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(malformed(format!(
                "Transfer-Encoding {value:?} is not read here"
            )));
        } else if field.name.eq_ignore_ascii_case("connection") {
            let says = |token: &str| {
                value
                    .split(',')
                    .any(|part| part.trim().eq_ignore_ascii_case(token))
            };
            head.keep_alive = !says("close") && (head.keep_alive || says("keep-alive"));
        }
    }
    Ok(Some(head))
}

#[cfg(test)]
mod tests;
