//! The options of `lanekeeper probe`: [`ProbeArgs`] as typed, [`ProbeConfig`] as valid.
//!
//! A probe runs in the server's environment (its pod, container or unit) and finds the server
//! there: whatever is not given is derived from the server's own `LANEKEEPER_…` variables, as the
//! server derives it.

use std::ffi::OsString;
use std::time::Duration;

use clap::ValueEnum;

use super::Variables;
use super::checks::usage;
use super::limits::duration;
use crate::error::StartError;
use crate::platform::address::{Address, Destination};

/// The main listener's address where nobody names one.
const LISTEN_DEFAULT: &str = "127.0.0.1:8080";

const LISTEN: &str = "LANEKEEPER_LISTEN";
const PROBE_LISTEN: &str = "LANEKEEPER_PROBE_LISTEN";

/// Text below the options in `lanekeeper probe --help`.
pub(super) const AFTER_HELP: &str = "\
Without --addr the server is looked for where its own environment puts it: at LANEKEEPER_PROBE_LISTEN; \
or else beside LANEKEEPER_LISTEN; or, where LANEKEEPER_PROBE_LISTEN is none, at LANEKEEPER_LISTEN. A \
server that got its addresses as options needs --addr.

Exit codes: 0 if the answer is 200 (and ok on stdout); 1 if it is another, or there is none in time \
(and the reason on stderr); 2 for wrong options.";

/// What to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ProbeCheck {
    /// Is it alive, or would only a restart help?
    Livez,
    /// Would a prediction made now work?
    Readyz,
    /// Has it started?
    Startupz,
}

impl ProbeCheck {
    /// The path that answers it.
    pub fn path(self) -> &'static str {
        match self {
            ProbeCheck::Livez => "/livez",
            ProbeCheck::Readyz => "/readyz",
            ProbeCheck::Startupz => "/startupz",
        }
    }
}

/// Where the probe listener is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeListen {
    /// Nowhere: only the main listener answers probes.
    Off,
    /// Beside the main listener ([`Address::beside`]).
    Beside,
    /// Where the operator asked for it.
    At(Address),
}

/// The options of `lanekeeper probe`, as typed.
#[derive(Debug, clap::Args)]
pub struct ProbeArgs {
    /// What to ask
    #[arg(value_name = "CHECK", default_value = "livez")]
    pub check: ProbeCheck,

    /// Address of the listener to ask, HOST:PORT or unix:/path [default: the probe listener's,
    /// 127.0.0.1:8081]
    #[arg(long, env = "LANEKEEPER_PROBE_ADDR", value_name = "ADDRESS")]
    pub addr: Option<String>,

    /// Time for everything: resolving a name, connecting, asking and the whole answer
    #[arg(long, env = "LANEKEEPER_PROBE_TIMEOUT", value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub timeout: Duration,

    /// Which options the environment gave.
    #[arg(skip)]
    pub variables: Variables,
}

/// Valid options of a probe.
#[derive(Debug, Clone)]
pub struct ProbeConfig {
    /// What to ask.
    pub check: ProbeCheck,
    /// Where to ask; a TCP port is not 0.
    pub destination: Destination,
    /// The TCP port of the main listener from which `destination` was derived; `None` if an address
    /// was given.
    pub main_port: Option<u16>,
    /// From the start to the last byte of the answer; at least 1 ms.
    pub timeout: Duration,
}

impl ProbeArgs {
    /// Checks the options, and finds the server in the environment if no address was given.
    ///
    /// # Errors
    ///
    /// What must hold, what was given, and the remedy, in one line.
    pub fn validate(self) -> Result<ProbeConfig, StartError> {
        if self.timeout < Duration::from_millis(1) {
            return usage(format!(
                "{} must be at least 1ms, but is {}",
                self.variables.name("--timeout"),
                humantime::format_duration(self.timeout)
            ));
        }
        let (destination, main_port) = match self.addr {
            Some(address) => (read(self.variables.name("--addr"), &address)?, None),
            None => derived(std::env::var_os(PROBE_LISTEN), std::env::var_os(LISTEN))?,
        };
        Ok(ProbeConfig {
            check: self.check,
            destination,
            main_port,
            timeout: self.timeout,
        })
    }
}

/// Where a server with these variables answers probes; and its main port, if the address was
/// derived from it.
fn derived(
    probe_listen: Option<OsString>,
    listen: Option<OsString>,
) -> Result<(Destination, Option<u16>), StartError> {
    let set = |value: &OsString| !value.is_empty();
    let (probe_listen, listen) = (probe_listen.filter(set), listen.filter(set));
    let listen = listen.unwrap_or_else(|| LISTEN_DEFAULT.into());
    let main = || read(LISTEN, &text(LISTEN, &listen)?);
    let Some(probe_listen) = probe_listen else {
        let main = main()?;
        let port = main.port();
        // Without a next port it can only have been told to use the main listener.
        return Ok(main.beside().map_or((main, None), |beside| (beside, port)));
    };
    let destination = match text(PROBE_LISTEN, &probe_listen)?.as_str() {
        "none" => main()?,
        address => read(PROBE_LISTEN, address)?,
    };
    Ok((destination, None))
}

fn text(name: &str, value: &OsString) -> Result<String, StartError> {
    let text = value.clone().into_string();
    text.or_else(|value| usage(format!("{name} must be UTF-8, but is {value:?}")))
}

fn read(name: &str, address: &str) -> Result<Destination, StartError> {
    let destination = Destination::parse(address)
        .or_else(|right| usage(format!("{name} must be {right}, but is {address:?}")))?;
    if destination.port() == Some(0) {
        return usage(format!(
            "{name} must have a port other than 0 to be probed, but is {address:?}; name the one that the server took with --addr"
        ));
    }
    Ok(destination)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(probe_listen: Option<&str>, listen: Option<&str>) -> Result<String, String> {
        derived(probe_listen.map(Into::into), listen.map(Into::into))
            .map(|(destination, main_port)| match main_port {
                Some(port) => format!("{destination} beside {port}"),
                None => destination.to_string(),
            })
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_server_is_found_where_its_environment_puts_it() {
        let table = [
            (None, None, "http://127.0.0.1:8081 beside 8080"),
            (
                None,
                Some("0.0.0.0:9000"),
                "http://0.0.0.0:9001 beside 9000",
            ),
            (
                None,
                Some("localhost:9000"),
                "http://localhost:9001 beside 9000",
            ),
            (None, Some("127.0.0.1:65535"), "http://127.0.0.1:65535"),
            (None, Some("unix:/run/a"), "unix:/run/a.probe"),
            (Some("none"), None, "http://127.0.0.1:8080"),
            (Some("none"), Some("unix:/run/a"), "unix:/run/a"),
            (Some("unix:/run/b"), Some("1.2.3.4:80"), "unix:/run/b"),
            // The server would refuse it, but it is not asked here.
            (Some("127.0.0.1:7000"), Some("?"), "http://127.0.0.1:7000"),
        ];
        for (probe_listen, listen, expected) in table {
            let found = place(probe_listen, listen);
            assert_eq!(
                found.as_deref(),
                Ok(expected),
                "{probe_listen:?}, {listen:?}"
            );
        }
    }

    #[test]
    fn what_cannot_be_probed_is_named_with_the_variable_it_came_from() {
        let table = [
            (None, Some("?"), "LANEKEEPER_LISTEN must be HOST:PORT"),
            (None, Some("a:70000"), "a port of at most 65535"),
            (None, Some("127.0.0.1:0"), "a port other than 0"),
            (Some("none"), Some("localhost:0"), "a port other than 0"),
            (
                Some("unix:"),
                None,
                "LANEKEEPER_PROBE_LISTEN must be unix: and a path",
            ),
        ];
        for (probe_listen, listen, expected) in table {
            let line = place(probe_listen, listen).unwrap_err();
            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn a_probe_without_time_is_a_usage_error() {
        let args = |timeout| ProbeArgs {
            check: ProbeCheck::Livez,
            addr: Some("127.0.0.1:80".to_owned()),
            timeout,
            variables: Variables::default(),
        };
        let error = args(Duration::ZERO).validate().unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("--timeout must be at least 1ms"));
        let config = args(Duration::from_millis(1)).validate().unwrap();
        assert_eq!(config.timeout, Duration::from_millis(1));
    }
}
