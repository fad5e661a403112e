//! Messages from and to a service manager: the notify socket, the watchdog's interval, activated
//! sockets, and whether stderr is the journal (sd_notify(3), sd_watchdog_enabled(3),
//! sd_listen_fds(3), systemd.exec(5)).
//!
//! A leaf. Datagrams are sent without waiting, and failures are ignored: a server without a service
//! manager, or with one that does not listen, serves all the same.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use crate::platform::sys;

/// The first descriptor that is passed (SD_LISTEN_FDS_START).
const FIRST_DESCRIPTOR: i32 = 3;

/// More sockets than any server has listeners; as many may be checked before one is refused.
const SOCKETS_MAX: i32 = 64;

/// Maximum length of a status, which `systemctl status` shows on one line, in bytes.
const STATUS_BYTES_MAX: usize = 500;

/// The service manager, as far as the environment describes one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    /// Who receives messages about the service.
    pub notifier: Notifier,
    /// The watchdog's interval: without a keep-alive for this long, the service is ended.
    pub watchdog: Option<Duration>,
    /// Listening sockets that it has opened, in its order.
    pub sockets: Vec<ActivatedSocket>,
    /// Whether stderr is the journal, which reads a level in front of each line.
    pub journal: bool,
}

/// A socket that the service manager has opened.
#[derive(Debug)]
pub struct ActivatedSocket {
    /// `FileDescriptorName=`, where there is one.
    pub name: Option<String>,
    /// The socket; it is closed in child processes.
    pub descriptor: OwnedFd,
}

impl ServiceManager {
    /// Reads the environment of the process; called once, because it takes over the sockets.
    ///
    /// # Errors
    ///
    /// Sockets are announced that cannot be used: what was announced, and what would be right.
    /// Everything else that is wrong counts as absent.
    pub fn from_environment() -> Result<Self, String> {
        let variable = |name: &str| std::env::var_os(name);
        let own_pid = std::process::id();
        Ok(ServiceManager {
            notifier: Notifier::from_environment(),
            watchdog: watchdog_interval(&variable, own_pid),
            sockets: take_sockets(&announced(&variable, own_pid)?)?,
            journal: stderr_is_journal(),
        })
    }
}

type Variable<'a> = &'a dyn Fn(&str) -> Option<OsString>;

fn number<T: std::str::FromStr>(variable: Variable<'_>, name: &str) -> Option<T> {
    variable(name)?.to_str()?.parse().ok()
}

/// Returns the watchdog's interval, unless it is meant for another process.
fn watchdog_interval(variable: Variable<'_>, own_pid: u32) -> Option<Duration> {
    let micros: u64 = number(variable, "WATCHDOG_USEC")?;
    let ours = match variable("WATCHDOG_PID") {
        None => true,
        Some(_) => number(variable, "WATCHDOG_PID") == Some(own_pid),
    };
    (ours && micros > 0 && micros < u64::MAX).then(|| Duration::from_micros(micros))
}

/// Returns the name of each socket that is passed to this process.
fn announced(variable: Variable<'_>, own_pid: u32) -> Result<Vec<Option<String>>, String> {
    let Some(count) = variable("LISTEN_FDS") else {
        return Ok(Vec::new());
    };
    // If another process passed the variables on, the sockets are not for this one.
    if number(variable, "LISTEN_PID") != Some(own_pid) {
        return Ok(Vec::new());
    }
    let count: i32 = count
        .to_str()
        .and_then(|count| count.parse().ok())
        .filter(|count| (0..=SOCKETS_MAX).contains(count))
        .ok_or_else(|| {
            format!("LISTEN_FDS must be a number from 0 to {SOCKETS_MAX}, but is {count:?}")
        })?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let names = names.to_string_lossy().into_owned();
    let mut names = names.split(':');
    let named = |_| {
        let name = names.next().unwrap_or_default();
        // The name that sd_listen_fds_with_names(3) gives to a socket without one.
        (!matches!(name, "" | "unknown")).then(|| name.to_owned())
    };
    Ok((0..count).map(named).collect())
}

fn take_sockets(names: &[Option<String>]) -> Result<Vec<ActivatedSocket>, String> {
    let mut sockets = Vec::with_capacity(names.len());
    for (number, name) in (FIRST_DESCRIPTOR..).zip(names) {
        let descriptor = sys::take_descriptor(number).map_err(|error| {
            format!("LISTEN_FDS announces descriptor {number}, but it cannot be used: {error}")
        })?;
        sockets.push(ActivatedSocket {
            name: name.clone(),
            descriptor,
        });
    }
    Ok(sockets)
}

/// Whether stderr is the journal, which reads a level in front of each line.
pub fn stderr_is_journal() -> bool {
    std::env::var_os("JOURNAL_STREAM").is_some_and(|stream| is_stderr(&stream))
}

/// Whether stderr is the stream that `JOURNAL_STREAM` names, `DEVICE:INODE` in decimal: the
/// variable stays when a shell redirects stderr.
fn is_stderr(stream: &OsStr) -> bool {
    let Ok(stat) = rustix::fs::fstat(io::stderr()) else {
        return false;
    };
    stream == OsStr::new(&format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// Sends messages to the service manager; never waits.
#[derive(Debug, Clone, Default)]
pub struct Notifier(Option<Arc<Channel>>);

#[derive(Debug)]
struct Channel {
    socket: UnixDatagram,
    address: SocketAddr,
}

impl Notifier {
    /// Returns the one that the environment names, if any.
    pub fn from_environment() -> Self {
        Self::new(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    /// Takes the value of `NOTIFY_SOCKET`: a path, or `@` and an abstract name. With anything else,
    /// and with a socket that cannot be used, messages go nowhere.
    fn new(address: Option<&OsStr>) -> Self {
        let channel = address.and_then(|address| {
            let address = notify_address(address).ok()?;
            let socket = UnixDatagram::unbound().ok()?;
            socket.set_nonblocking(true).ok()?;
            Some(Arc::new(Channel { socket, address }))
        });
        Notifier(channel)
    }

    /// Whether somebody is told.
    pub fn is_connected(&self) -> bool {
        self.0.is_some()
    }

    /// Sends assignments, one per line, in one datagram.
    pub fn notify(&self, assignments: &str) {
        if let Some(channel) = &self.0
            && let Err(error) = channel
                .socket
                .send_to_addr(assignments.as_bytes(), &channel.address)
        {
            log::debug!("the service manager was not told {assignments:?}: {error}");
        }
    }
}

fn notify_address(address: &OsStr) -> io::Result<SocketAddr> {
    #[cfg(target_os = "linux")]
    if let Some(name) = address.as_bytes().strip_prefix(b"@") {
        use std::os::linux::net::SocketAddrExt;
        return SocketAddr::from_abstract_name(name);
    }
    if !address.as_bytes().starts_with(b"/") {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    SocketAddr::from_pathname(address)
}

/// Makes the assignment `STATUS=` of a text, on one line and truncated.
pub fn status(text: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= STATUS_BYTES_MAX;
    let kept = text.char_indices().take_while(fits);
    let line: String = kept.map(|(_, c)| plain(c)).collect();
    format!("STATUS={line}")
}

/// The prefix of a line of that level if stderr is the journal: syslog's number (sd-daemon(3), RFC
/// 5424 section 6.2.1).
pub fn journal_prefix(level: log::Level) -> &'static str {
    match level {
        log::Level::Error => "<3>",
        log::Level::Warn => "<4>",
        log::Level::Info => "<6>",
        log::Level::Debug | log::Level::Trace => "<7>",
    }
}

/// Makes the assignment `EXTEND_TIMEOUT_USEC=`: the service manager waits at least that long for
/// the next message.
pub fn extend_timeout(by: Duration) -> String {
    format!("EXTEND_TIMEOUT_USEC={}", by.as_micros())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment<'a>(pairs: &'a [(&str, &str)]) -> impl Fn(&str) -> Option<OsString> + 'a {
        |name| {
            let pair = pairs.iter().find(|(key, _)| *key == name);
            pair.map(|(_, value)| OsString::from(value))
        }
    }

    #[test]
    fn a_watchdog_counts_where_it_is_for_this_process() {
        let seconds = Some(Duration::from_secs(30));
        type Pairs = &'static [(&'static str, &'static str)];
        let table: &[(&str, Pairs, Option<Duration>)] = &[
            ("none is asked for", &[], None),
            (
                "it is for whoever is started",
                &[("WATCHDOG_USEC", "30000000")],
                seconds,
            ),
            (
                "it is for this process",
                &[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "7")],
                seconds,
            ),
            (
                "it is for another process",
                &[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "8")],
                None,
            ),
            (
                "its process is no number",
                &[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "")],
                None,
            ),
            ("it is off", &[("WATCHDOG_USEC", "0")], None),
            (
                "it is infinite",
                &[("WATCHDOG_USEC", "18446744073709551615")],
                None,
            ),
            ("it is no number", &[("WATCHDOG_USEC", "30s")], None),
        ];
        for (name, pairs, expected) in table {
            let interval = watchdog_interval(&environment(pairs), 7);
            assert_eq!(interval, *expected, "{name}");
        }
    }

    #[test]
    fn sockets_are_announced_to_this_process_in_order_and_by_name() {
        let names = |names: &[&str]| -> Vec<Option<String>> {
            let named = |name: &&str| (!name.is_empty()).then(|| (*name).to_owned());
            names.iter().map(named).collect()
        };
        let ours = |count: &str, names: &str| {
            let pairs = [
                ("LISTEN_PID", "7"),
                ("LISTEN_FDS", count),
                ("LISTEN_FDNAMES", names),
            ];
            announced(&environment(&pairs), 7)
        };
        assert_eq!(ours("2", "predict:probe"), Ok(names(&["predict", "probe"])));
        assert_eq!(ours("2", "unknown:probe"), Ok(names(&["", "probe"])));
        assert_eq!(ours("2", "predict"), Ok(names(&["predict", ""])));
        assert_eq!(ours("2", ""), Ok(names(&["", ""])));
        assert_eq!(ours("0", ""), Ok(names(&[])));
        for count in ["", "-1", "65", "two"] {
            let error = ours(count, "").unwrap_err();
            assert!(error.contains("LISTEN_FDS must be"), "{error}");
        }
        let others = [("LISTEN_PID", "8"), ("LISTEN_FDS", "two")];
        assert_eq!(announced(&environment(&others), 7), Ok(names(&[])));
        let nobodys = [("LISTEN_FDS", "1")];
        assert_eq!(announced(&environment(&nobodys), 7), Ok(names(&[])));
        assert_eq!(announced(&environment(&[]), 7), Ok(names(&[])));
    }

    #[test]
    fn notify_sockets_are_paths_or_abstract_names_and_a_bad_one_tells_nobody() {
        for bad in ["", "relative", "vsock:2:1", "/\0", &"/x".repeat(100)] {
            assert!(
                !Notifier::new(Some(OsStr::new(bad))).is_connected(),
                "{bad:?}"
            );
        }
        assert!(!Notifier::new(None).is_connected());
        // Nobody listens there, which only concerns the service manager.
        let notifier = Notifier::new(Some(OsStr::new("/nowhere/notify")));
        assert!(notifier.is_connected());
        notifier.notify("READY=1");
    }

    #[test]
    fn a_datagram_reaches_a_path_and_an_abstract_name() {
        let name = format!("lanekeeper-notify-{}", std::process::id());
        let path = std::env::temp_dir().join(&name);
        let at_path = UnixDatagram::bind(&path).unwrap();
        let mut receivers = vec![(at_path, path.clone().into_os_string())];
        #[cfg(target_os = "linux")]
        {
            use std::os::linux::net::SocketAddrExt;
            let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
            let abstract_one = UnixDatagram::bind_addr(&address).unwrap();
            receivers.push((abstract_one, OsString::from(format!("@{name}"))));
        }
        for (receiver, address) in receivers {
            Notifier::new(Some(&address)).notify("READY=1\nSTATUS=x");
            let mut buffer = [0; 64];
            receiver.set_nonblocking(true).unwrap();
            let count = receiver.recv(&mut buffer).unwrap();
            assert_eq!(&buffer[..count], b"READY=1\nSTATUS=x", "{address:?}");
        }
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_full_notify_socket_delays_nobody() {
        let path = std::env::temp_dir().join(format!("lanekeeper-full-{}", std::process::id()));
        let receiver = UnixDatagram::bind(&path).unwrap();
        let notifier = Notifier::new(Some(path.as_os_str()));
        for _ in 0..10_000 {
            notifier.notify("STATUS=x");
        }
        drop(receiver);
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_status_is_one_line_of_bounded_length() {
        assert_eq!(status("a\nb"), "STATUS=a b");
        let long = status(&"ü".repeat(1000));
        assert_eq!(long.len(), "STATUS=".len() + STATUS_BYTES_MAX);
    }

    #[test]
    fn stderr_is_the_journal_where_its_numbers_match() {
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        let stream = format!("{}:{}", stat.st_dev, stat.st_ino);
        assert!(is_stderr(OsStr::new(&stream)));
        for other in [
            "",
            ":",
            "1:2",
            &format!("{}:{}", stat.st_dev, stat.st_ino + 1),
        ] {
            assert!(!is_stderr(OsStr::new(other)), "{other}");
        }
    }
}
