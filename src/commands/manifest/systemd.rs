//! Units for systemd: the files in `systemd/`, with the lines that follow from the options replaced.

use std::fmt::Write as _;
use std::time::Duration;

use super::numbers::PodNumbers;
use crate::config::{Config, GivenOption, ProbeListen, Resources, SystemdArgs, SystemdUnit};
use crate::error::StartError;
use crate::platform::address::Address;

const SERVICE: &str = include_str!("../../../systemd/lanekeeper.service");
const SOCKET: &str = include_str!("../../../systemd/lanekeeper.socket");
const PROBE_SOCKET: &str = include_str!("../../../systemd/lanekeeper-probe.socket");
const ISOLATED_SERVICE: &str = include_str!("../../../systemd/lanekeeper-isolated.service");
const ISOLATED_SOCKET: &str = include_str!("../../../systemd/lanekeeper-isolated.socket");
const ISOLATED_PROBE_SOCKET: &str =
    include_str!("../../../systemd/lanekeeper-isolated-probe.socket");

/// File descriptors besides connections: standard streams, listeners, pipes, model files, and some spare.
const OTHER_DESCRIPTORS: usize = 64;

/// Threads besides connections and workers: main, acceptor, canary, log, loader, watch, watchdog, report,
/// two that make room, and some spare.
const OTHER_THREADS: usize = 16;

/// Assumed number of prediction workers if none is given: one per core of a large machine.
const CORES_MAX: usize = 256;

/// `WatchdogSec=` is half of `--stall-timeout`, within these bounds.
const WATCHDOG: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Prints the requested unit.
///
/// # Errors
///
/// Wrong options, and addresses that no socket unit can have.
pub(super) fn unit(args: SystemdArgs) -> Result<String, StartError> {
    let given = args.serve.given;
    let config = args.serve.args.validate(Resources::UNKNOWN)?;
    match args.unit {
        SystemdUnit::Service if !has_place_for_probes(&config) => Err(StartError::Usage(format!(
            "there is no address for a probe listener next to {}; choose one with --probe-listen, or leave probes to the main listener with --probe-listen none",
            config.listen.typed()
        ))),
        SystemdUnit::Service => service(SERVICE, &config, &given, &args.binary),
        SystemdUnit::IsolatedService => service(ISOLATED_SERVICE, &config, &given, &args.binary),
        SystemdUnit::Socket => socket(SOCKET, &config.listen),
        SystemdUnit::IsolatedSocket => socket(ISOLATED_SOCKET, &config.listen),
        SystemdUnit::ProbeSocket => socket(PROBE_SOCKET, &probe_address(&config)?),
        SystemdUnit::IsolatedProbeSocket => match &config.probe_listen {
            // Only a path: the server has no network through which to ask a port.
            ProbeListen::At(address @ Address::Unix(_)) => socket(ISOLATED_PROBE_SOCKET, address),
            _ => Ok(ISOLATED_PROBE_SOCKET.to_owned()),
        },
    }
}

/// Whether `serve` finds an address for its probe listener.
fn has_place_for_probes(config: &Config) -> bool {
    config.probe_listen != ProbeListen::Beside || config.listen.beside().is_some()
}

fn probe_address(config: &Config) -> Result<Address, StartError> {
    let address = match &config.probe_listen {
        ProbeListen::At(address) => Some(address.clone()),
        ProbeListen::Beside => config.listen.beside(),
        ProbeListen::Off => None,
    };
    address.ok_or_else(|| {
        StartError::Usage("there is no probe listener to make a socket for; choose its address with --probe-listen".to_owned())
    })
}

/// Replaces the values of assignments in a unit file.
fn with(unit: &str, values: &[(&str, String)]) -> String {
    let line = |line: &str| {
        let name = line.split('=').next();
        let value = values.iter().find(|(own, _)| name == Some(*own));
        value.map_or(line.to_owned(), |(name, value)| format!("{name}={value}"))
    };
    unit.lines().map(|text| line(text) + "\n").collect()
}

fn service(
    unit: &str,
    config: &Config,
    given: &[GivenOption],
    binary: &str,
) -> Result<String, StartError> {
    let mut options = String::new();
    for option in given {
        options.push(' ');
        options.push_str(
            &match option.value.as_deref().map(|value| (value, value.to_str())) {
                None => format!("--{}", option.name),
                Some((_, Some(value))) => word(&format!("--{}={value}", option.name)),
                Some((value, None)) => {
                    return Err(StartError::Usage(format!(
                        "{} must be UTF-8 to stand in a unit, but is {value:?}",
                        option.shown()
                    )));
                }
            },
        );
    }
    let binary = word(binary);
    let watchdog = (config.stall_timeout / 2).clamp(WATCHDOG.0, WATCHDOG.1);
    let connections = config.limits.max_connections + config.limits.max_probe_connections;
    let has_workers = given.iter().any(|option| option.name == "predict-workers");
    let workers = if has_workers {
        config.predict_workers
    } else {
        CORES_MAX
    };
    let threads = connections + 2 * workers + config.probe_workers + OTHER_THREADS;
    let stop = PodNumbers::new(config, 0).termination_grace;
    Ok(with(
        unit,
        &[
            ("ExecStartPre", format!("{binary} check{options}")),
            ("ExecStart", format!("{binary} serve{options}")),
            ("WatchdogSec", watchdog.as_secs().to_string()),
            ("TimeoutStopSec", stop.as_secs().to_string()),
            ("LimitNOFILE", (connections + OTHER_DESCRIPTORS).to_string()),
            ("TasksMax", threads.to_string()),
        ],
    ))
}

fn socket(unit: &str, address: &Address) -> Result<String, StartError> {
    if address.port() == Some(0) {
        return Err(StartError::Usage(format!(
            "a socket unit must have a port other than 0, but the address is {}; clients have to know it",
            address.typed()
        )));
    }
    let stream = address.typed();
    let stream = stream.strip_prefix("unix:").unwrap_or(&stream);
    Ok(with(unit, &[("ListenStream", stream.replace('%', "%%"))]))
}

/// Quotes one word of a command line for systemd (systemd.service(5), "Command lines").
fn word(text: &str) -> String {
    let mut quoted = String::new();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@=,[]~".contains(&byte);
    for c in text.chars() {
        match c {
            '%' => quoted.push_str("%%"),
            '$' => quoted.push_str("$$"),
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let mut bytes = [0; 4];
                for byte in c.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(quoted, "\\x{byte:02x}");
                }
            }
            c => quoted.push(c),
        }
    }
    if !text.is_empty() && text.bytes().all(plain) {
        return quoted;
    }
    format!("\"{quoted}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_where_systemd_would_split_or_expand_them() {
        let table = [
            ("--listen=[::]:80", "--listen=[::]:80"),
            ("--model=/a b", "\"--model=/a b\""),
            ("50%", "\"50%%\""),
            ("$HOME", "\"$$HOME\""),
            (r#"a"b\c"#, r#""a\"b\\c""#),
            ("a\nb", "\"a\\x0ab\""),
            ("", "\"\""),
            (";", "\";\""),
        ];
        for (text, expected) in table {
            assert_eq!(word(text), expected, "{text:?}");
        }
    }
}
