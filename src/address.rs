//! Addresses a listener can have: `HOST:PORT` for TCP, `unix:/path` for a Unix domain socket.
//!
//! A leaf: it reads and shows addresses, and opens nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

/// The most bytes of a socket's path: `sun_path` less its final NUL (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// Where a listener is, or is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A TCP address; port 0 takes a free one.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket.
    Unix(PathBuf),
}

impl Address {
    /// Reads `HOST:PORT` or `unix:/path`; a host name is resolved.
    ///
    /// # Errors
    /// What would be right, without saying what was given.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() || path.len() > PATH_BYTES_MAX || path.contains('\0') {
                return Err(format!("unix: and a path of 1 to {PATH_BYTES_MAX} bytes"));
            }
            return Ok(Address::Unix(PathBuf::from(path)));
        }
        let resolved = text.to_socket_addrs().ok().and_then(|mut all| all.next());
        resolved.map(Address::Tcp).ok_or_else(|| {
            "HOST:PORT, such as 127.0.0.1:8080 or [::]:8080, or unix:/path".to_owned()
        })
    }

    /// Returns the address of the probe listener beside a main listener here, where none was asked
    /// for: the port after it (another free one beside port 0), or the same path with `.probe`.
    ///
    /// `None` where there is no such port or path.
    pub fn beside(&self) -> Option<Self> {
        match self {
            Address::Tcp(address) => {
                let port = match address.port() {
                    0 => 0,
                    port => port.checked_add(1)?,
                };
                Some(Address::Tcp(SocketAddr::new(address.ip(), port)))
            }
            Address::Unix(path) => {
                let mut path = path.clone().into_os_string();
                path.push(".probe");
                (path.len() <= PATH_BYTES_MAX).then(|| Address::Unix(path.into()))
            }
        }
    }

    /// The address as it is typed, without a scheme for TCP.
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

    /// The address a client on this machine can use, where the listener is on all of them.
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

    /// What a curl command line has to name before a path at this address.
    pub fn curl_target(&self) -> String {
        match self {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => {
                format!("--unix-socket {} http://localhost", shell_word(path))
            }
        }
    }
}

/// Quotes a path for a POSIX shell, where it needs it.
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
    fn a_curl_target_can_be_pasted_into_a_shell() {
        let target = |text: &str| Address::parse(text).unwrap().curl_target();
        assert_eq!(target("127.0.0.1:80"), "http://127.0.0.1:80");
        assert_eq!(
            target("unix:/run/a b's.sock"),
            r"--unix-socket '/run/a b'\''s.sock' http://localhost"
        );
    }
}
