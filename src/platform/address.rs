//! Addresses of listeners: `HOST:PORT` for TCP, `unix:/path` for a Unix socket; and how a client
//! finds them.
//!
//! A leaf: it parses and prints addresses, and opens nothing.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// Maximum length of a socket's path: `sun_path` minus its final NUL (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The form of an address.
const FORMS: &str = "HOST:PORT, such as 127.0.0.1:8080 or [::]:8080, or unix:/path";

/// The form, for an address whose port is wrong.
const PORT_FORM: &str = "HOST:PORT with a port of at most 65535";

/// Where a listener is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl Address {
    /// Parses `HOST:PORT` or `unix:/path`; a host name is resolved.
    ///
    /// # Errors
    ///
    /// What would be right, without saying what was given.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
                return Err(format!("unix: and a path of 1 to {PATH_BYTES_MAX} bytes"));
            }
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        // Before the resolver, which calls everything an invalid argument.
        Destination::parse(text)?;
        let unresolved = |why: &str| {
            format!(
                "HOST:PORT with a host that this machine can resolve, or with an IP address ({why})"
            )
        };
        match text.to_socket_addrs().map(|mut all| all.next()) {
            Ok(Some(address)) => Ok(Address::Tcp(address)),
            Ok(None) => Err(unresolved("the name has no address")),
            Err(error) => Err(unresolved(&error.to_string())),
        }
    }

    /// Returns the default address of the probe listener for a main listener at this address: the
    /// next port (another free one if this is port 0), or the path with `.probe`.
    ///
    /// `None` if there is no such port or path.
    pub fn beside(&self) -> Option<Self> {
        match self {
            Address::Tcp(address) => {
                let port = port_beside(address.port())?;
                Some(Address::Tcp(SocketAddr::new(address.ip(), port)))
            }
            Address::Unix(path) => {
                let mut path = path.clone().into_os_string();
                path.push(".probe");
                (path.len() <= PATH_BYTES_MAX).then(|| Address::Unix(path.into()))
            }
        }
    }

    /// The address as typed, without a scheme for TCP.
    pub fn typed(&self) -> String {
        match self {
            Address::Tcp(address) => address.to_string(),
            Address::Unix(_) => self.to_string(),
        }
    }

    /// The port, of a TCP address.
    pub fn port(&self) -> Option<u16> {
        match self {
            Address::Tcp(address) => Some(address.port()),
            Address::Unix(_) => None,
        }
    }

    /// The path, of a Unix domain socket.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Address::Tcp(_) => None,
            Address::Unix(path) => Some(path),
        }
    }

    /// Whether it is a TCP address that only this machine can reach.
    pub fn is_loopback(&self) -> bool {
        match self {
            Address::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Address::Unix(_) => false,
        }
    }

    /// The address that a client on this machine can use, if the listener is on all addresses.
    pub fn reachable(&self) -> Self {
        match self {
            Address::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
                    IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
                    ip => ip,
                };
                Address::Tcp(SocketAddr::new(ip, address.port()))
            }
            Address::Unix(_) => self.clone(),
        }
    }

    /// What a curl command line needs before a path at this address.
    pub fn curl_target(&self) -> String {
        match self {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => {
                format!("--unix-socket {} http://localhost", shell_word(path))
            }
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address)
    }
}

/// Whether an address ends in a number that is too large for a port.
pub fn has_port_beyond_all(text: &str) -> bool {
    text.rsplit_once(':').is_some_and(|(host, port)| {
        let is_number = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
        !host.is_empty() && is_number && port.parse::<u16>().is_err()
    })
}

/// The next port, if there is one; 0 for 0.
fn port_beside(port: u16) -> Option<u16> {
    match port {
        0 => Some(0),
        port => port.checked_add(1),
    }
}

/// Quotes a path for a POSIX shell, if necessary.
fn shell_word(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%=,".contains(&byte);
    if text.bytes().all(plain) {
        return text;
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// As a URL, or `unix:` and the path.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => write!(f, "http://{address}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where a client is to connect, as typed: an address, or a host name that is not resolved yet.
///
/// A listener needs one address and resolves a name at once ([`Address::parse`]). A client has a
/// deadline, which includes resolving, and may have to try all addresses of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Known(Address),
    /// A host's name and a port.
    Named {
        /// The name, for the system's resolver.
        host: String,
        /// The TCP port.
        port: u16,
    },
}

impl Destination {
    /// Parses what [`Address::parse`] parses, without the resolver.
    ///
    /// # Errors
    ///
    /// What would be right, without saying what was given.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with("unix:") {
            return Address::parse(text).map(Destination::Known);
        }
        if let Ok(address) = text.parse() {
            return Ok(Destination::Known(Address::Tcp(address)));
        }
        let named = text.rsplit_once(':').and_then(|(host, port)| {
            // `%` and `:` occur in IPv6 addresses with a scope, which the resolver reads.
            let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._%:".contains(&byte);
            let host = (!host.is_empty() && host.bytes().all(fits)).then(|| host.to_owned())?;
            let port = port.parse().ok()?;
            Some(Destination::Named { host, port })
        });
        let right = if has_port_beyond_all(text) {
            PORT_FORM
        } else {
            FORMS
        };
        named.ok_or_else(|| right.to_owned())
    }

    /// Returns the default destination of the probe listener, as [`Address::beside`] does.
    pub fn beside(&self) -> Option<Self> {
        match self {
            Destination::Known(address) => address.beside().map(Destination::Known),
            Destination::Named { host, port } => Some(Destination::Named {
                host: host.clone(),
                port: port_beside(*port)?,
            }),
        }
    }

    /// The port, of a TCP destination.
    pub fn port(&self) -> Option<u16> {
        match self {
            Destination::Known(address) => address.port(),
            Destination::Named { port, .. } => Some(*port),
        }
    }

    /// Returns the addresses to try, in order, at least one. If a listener is on all addresses of
    /// this machine, those are its loopback addresses.
    ///
    /// A name waits for the system's resolver, which has no deadline.
    ///
    /// # Errors
    ///
    /// The resolver's own.
    pub fn resolve(&self) -> io::Result<Vec<Address>> {
        let resolved: Vec<Address> = match self {
            Destination::Known(address) => vec![address.clone()],
            Destination::Named { host, port } => {
                let resolved = (host.as_str(), *port).to_socket_addrs()?;
                resolved.map(Address::Tcp).collect()
            }
        };
        let mut addresses = Vec::new();
        for address in resolved {
            addresses.push(address.reachable());
            if let Address::Tcp(SocketAddr::V6(six)) = address
                && six.ip().is_unspecified()
            {
                // A listener on [::] accepts IPv4 too, and is reached that way if loopback has no
                // IPv6.
                let four = SocketAddr::from((Ipv4Addr::LOCALHOST, six.port()));
                addresses.push(Address::Tcp(four));
            }
        }
        addresses.dedup();
        if addresses.is_empty() {
            return Err(io::Error::from(io::ErrorKind::NotFound));
        }
        Ok(addresses)
    }
}

/// As an [`Address`]: a URL, or `unix:` and the path.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Known(address) => address.fmt(f),
            Destination::Named { host, port } => write!(f, "http://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_ports_or_paths_and_each_has_a_neighbour() {
        let table = [
            (
                "127.0.0.1:8080",
                "http://127.0.0.1:8080",
                Some("http://127.0.0.1:8081"),
            ),
            (
                "0.0.0.0:80",
                "http://127.0.0.1:80",
                Some("http://0.0.0.0:81"),
            ),
            ("[::]:80", "http://[::1]:80", Some("http://[::]:81")),
            (
                "127.0.0.1:0",
                "http://127.0.0.1:0",
                Some("http://127.0.0.1:0"),
            ),
            ("127.0.0.1:65535", "http://127.0.0.1:65535", None),
            (
                "unix:/run/a.sock",
                "unix:/run/a.sock",
                Some("unix:/run/a.sock.probe"),
            ),
        ];
        for (text, reachable, beside) in table {
            let address = Address::parse(text).unwrap();
            assert_eq!(address.reachable().to_string(), reachable, "{text}");
            let neighbour = address.beside().map(|beside| beside.to_string());
            assert_eq!(neighbour.as_deref(), beside, "{text}");
        }
        let long = format!("unix:/{}", "x".repeat(PATH_BYTES_MAX));
        for wrong in ["8080", "unix:", "unix:a\0b", &long] {
            assert!(Address::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn an_invalid_port_and_an_unknown_name_have_different_errors() {
        for (text, right) in [
            ("127.0.0.1:65536", PORT_FORM),
            ("[::1]:70000", PORT_FORM),
            ("localhost:99999999999999999999", PORT_FORM),
            ("127.0.0.1:", FORMS),
            ("127.0.0.1:80a", FORMS),
            (":70000", FORMS),
            ("70000", FORMS),
        ] {
            assert_eq!(Address::parse(text).unwrap_err(), right, "{text}");
            assert_eq!(Destination::parse(text).unwrap_err(), right, "{text}");
        }
        // Reserved so that it never resolves (RFC 6761 section 6.4); no resolver at all does as
        // well.
        let right = Address::parse("nobody.invalid:80").unwrap_err();
        assert!(
            right.contains("a host that this machine can resolve"),
            "{right}"
        );
    }

    #[test]
    fn a_curl_target_can_be_pasted_into_a_shell() {
        let target = |text: &str| Address::parse(text).unwrap().curl_target();
        assert_eq!(target("127.0.0.1:80"), "http://127.0.0.1:80");
        assert_eq!(
            target("unix:/run/a b's.sock"),
            r"--unix-socket '/run/a b'\''s.sock' http://localhost"
        );
    }

    #[test]
    fn a_destination_is_parsed_without_a_resolver_and_then_resolved() {
        let table: &[(&str, Option<&[&str]>)] = &[
            ("127.0.0.1:80", Some(&["http://127.0.0.1:80"])),
            ("0.0.0.0:80", Some(&["http://127.0.0.1:80"])),
            ("[::]:80", Some(&["http://[::1]:80", "http://127.0.0.1:80"])),
            ("::1:80", Some(&["http://[::1]:80"])),
            ("unix:/run/a", Some(&["unix:/run/a"])),
            ("unix:", None),
            ("80", None),
            (":80", None),
            ("localhost", None),
            ("localhost:http", None),
            ("localhost:65536", None),
            ("http://localhost:80", None),
            ("local host:80", None),
            ("a\r\nb:80", None),
        ];
        for (text, expected) in table {
            let destination = Destination::parse(text);
            assert_eq!(destination.is_ok(), expected.is_some(), "{text:?}");
            if let (Ok(destination), Some(expected)) = (destination, expected) {
                let resolved = destination.resolve().unwrap();
                let resolved: Vec<String> = resolved.iter().map(Address::to_string).collect();
                assert_eq!(resolved, *expected, "{text}");
            }
        }
    }

    #[test]
    fn a_named_destination_has_a_neighbour_before_it_is_resolved() {
        let beside = |text: &str| {
            let beside = Destination::parse(text).unwrap().beside();
            beside.map(|beside| beside.to_string())
        };
        assert_eq!(
            beside("model.test:80").as_deref(),
            Some("http://model.test:81")
        );
        assert_eq!(
            beside("127.0.0.1:80").as_deref(),
            Some("http://127.0.0.1:81")
        );
        assert_eq!(beside("model.test:65535"), None);
    }
}
