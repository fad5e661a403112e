//! Units for systemd: a service, the same without any network, and the sockets that activate them.
//!
//! The files in `systemd/` are what this prints for the defaults; a test holds them to it.

use std::fmt::Write as _;
use std::time::Duration;

use humantime::format_duration;

use super::numbers::PodNumbers;
use crate::config::{Config, GivenOption, ProbeListen, Resources, SystemdArgs, SystemdUnit};
use crate::error::StartError;
use crate::platform::address::Address;

/// Descriptors beside connections: standard streams, listeners, pipes, model files, and some to spare.
const OTHER_DESCRIPTORS: usize = 64;

/// Threads beside connections and workers: main, acceptor, canary, log, loader, watch, watchdog, report,
/// two that make room, and some to spare.
const OTHER_THREADS: usize = 16;

/// Prediction workers that are reckoned with where none are given: one for each core.
const CORES_MAX: usize = 256;

/// The most that a line of a comment takes.
const COLUMNS: usize = 100;

/// What a watchdog adds to `--stall-timeout`: half of it, from 10 s to a minute.
const WATCHDOG: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(60));

/// Prints the unit that is asked for.
///
/// # Errors
/// Wrong options, and addresses that no socket unit can have.
pub(super) fn unit(args: SystemdArgs) -> Result<String, StartError> {
    let given = args.serve.given;
    let config = args.serve.args.validate(Resources::UNKNOWN)?;
    let service = Service {
        config: &config,
        given: &given,
        binary: &args.binary,
    };
    match args.unit {
        SystemdUnit::Service if has_no_place_for_probes(&config) => {
            Err(StartError::Usage(format!(
                "there is no place for a probe listener beside {}; choose one with --probe-listen, or leave probes to the main listener with --probe-listen none",
                config.listen.typed()
            )))
        }
        SystemdUnit::Service => service.print(Network::Whole),
        SystemdUnit::IsolatedService => service.print(Network::None),
        SystemdUnit::Socket => socket(&config.listen, SocketUnit::MAIN),
        SystemdUnit::IsolatedSocket => socket(&config.listen, SocketUnit::ISOLATED),
        SystemdUnit::ProbeSocket => socket(&probe_address(&config)?, SocketUnit::PROBE),
        SystemdUnit::IsolatedProbeSocket => {
            // A path, where the server itself can ask: it has no network to reach a port by.
            let path = match &config.probe_listen {
                ProbeListen::At(address @ Address::Unix(_)) => address.clone(),
                _ => Address::Unix("/run/lanekeeper/probe.sock".into()),
            };
            socket(&path, SocketUnit::ISOLATED_PROBE)
        }
    }
}

/// Whether `serve` would not start for want of an address for its probe listener.
fn has_no_place_for_probes(config: &Config) -> bool {
    config.probe_listen == ProbeListen::Beside && config.listen.beside().is_none()
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Network {
    Whole,
    None,
}

/// A unit file as it is written.
#[derive(Default)]
struct Unit(String);

impl Unit {
    fn section(&mut self, name: &str) {
        let gap = if self.0.is_empty() { "" } else { "\n" };
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "{gap}[{name}]");
    }

    /// Sets `assignment`.
    fn set(&mut self, assignment: &str) {
        let _ = writeln!(self.0, "{assignment}");
    }

    /// Says why the assignments that follow are as they are.
    fn why(&mut self, text: &str) {
        let mut line = String::from("#");
        for word in text.split_whitespace() {
            if line.len() + 1 + word.len() > COLUMNS {
                let _ = writeln!(self.0, "{line}");
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        let _ = writeln!(self.0, "{line}");
    }
}

struct Service<'a> {
    config: &'a Config,
    given: &'a [GivenOption],
    binary: &'a str,
}

impl Service<'_> {
    fn print(&self, network: Network) -> Result<String, StartError> {
        let mut unit = Unit::default();
        unit.section("Unit");
        match network {
            Network::Whole => {
                unit.set("Description=lanekeeper model server");
                unit.set("After=network.target");
            }
            Network::None => {
                unit.set("Description=lanekeeper model server without a network");
                unit.why("It serves the sockets it is passed and can reach nobody.");
                unit.set("Requires=lanekeeper-isolated.socket lanekeeper-isolated-probe.socket");
                unit.set("After=lanekeeper-isolated.socket lanekeeper-isolated-probe.socket");
            }
        }
        unit.why("A crash loop is tried on for ever, a second apart: giving up helps nobody.");
        unit.set("StartLimitIntervalSec=0");
        unit.section("Service");
        self.process(&mut unit)?;
        self.timeouts(&mut unit);
        self.limits(&mut unit);
        hardening(&mut unit, network);
        unit.section("Install");
        unit.set("WantedBy=multi-user.target");
        if network == Network::None {
            unit.set("Also=lanekeeper-isolated.socket lanekeeper-isolated-probe.socket");
        }
        Ok(unit.0)
    }

    fn process(&self, unit: &mut Unit) -> Result<(), StartError> {
        let mut options = String::new();
        for option in self.given {
            let value = option.value.as_deref().map(|value| {
                value.to_str().ok_or_else(|| {
                    StartError::Usage(format!(
                        "{} must be UTF-8 to stand in a unit, but is {value:?}",
                        option.shown()
                    ))
                })
            });
            options.push(' ');
            options.push_str(&match value.transpose()? {
                Some(value) => word(&format!("--{}={value}", option.name)),
                None => format!("--{}", option.name),
            });
        }
        let binary = word(self.binary);
        unit.why(
            "Ready once the listeners are open and the model was tried. systemd 253 and later can take \
             reloads as Type=notify-reload (see the drop-in notify-reload.conf); ExecReload= works with all.",
        );
        unit.set("Type=notify");
        unit.why("The check before the start asks for time too, while it reads a large model.");
        unit.set("NotifyAccess=exec");
        unit.why("LANEKEEPER_MODEL=/etc/lanekeeper/model.json and the like; every option has its variable.");
        unit.set("EnvironmentFile=-/etc/lanekeeper/lanekeeper.env");
        unit.set(&format!("ExecStartPre={binary} check{options}"));
        unit.set(&format!("ExecStart={binary} serve{options}"));
        unit.set("ExecReload=/bin/kill -HUP $MAINPID");
        unit.set("Restart=on-failure");
        unit.set("RestartSec=1");
        unit.why("Wrong options stay wrong.");
        unit.set("RestartPreventExitStatus=2");
        unit.why("There is one process: without memory for it, it ends, and is started again.");
        unit.set("OOMPolicy=stop");
        Ok(())
    }

    fn timeouts(&self, unit: &mut Unit) {
        let config = self.config;
        let stall = config.stall_timeout;
        let watchdog = (stall / 2).clamp(WATCHDOG.0, WATCHDOG.1);
        let watchdog = Duration::from_secs(watchdog.as_secs());
        unit.why(&format!(
            "A sign of life comes every half of it while /livez passes and the probe listener answers. A \
             stalled server is ended at most {} + {} after its last completion: --stall-timeout, and this.",
            format_duration(stall),
            format_duration(watchdog),
        ));
        unit.set(&format!("WatchdogSec={}", watchdog.as_secs()));
        unit.why("For the report before the end.");
        unit.set("TimeoutAbortSec=10");
        unit.why(
            "From the last progress: the server asks for more time while it reads and computes.",
        );
        unit.set("TimeoutStartSec=90");
        let numbers = PodNumbers::new(config, 0);
        unit.why(&format!(
            "{} + {} (--drain-grace, --drain-timeout) + 1 s for the last answers + 4 s to spare.",
            format_duration(numbers.drain_grace),
            format_duration(config.drain_timeout),
        ));
        unit.set(&format!(
            "TimeoutStopSec={}",
            numbers.termination_grace.as_secs()
        ));
    }

    fn limits(&self, unit: &mut Unit) {
        let limits = &self.config.limits;
        let (main, probe) = (limits.max_connections, limits.max_probe_connections);
        let descriptors = main + probe + OTHER_DESCRIPTORS;
        unit.why(&format!(
            "{main} + {probe} connections (--max-connections, --max-probe-connections) + {OTHER_DESCRIPTORS} others."
        ));
        unit.set(&format!("LimitNOFILE={descriptors}"));
        let given = self
            .given
            .iter()
            .any(|option| option.name == "predict-workers");
        let workers = if given {
            self.config.predict_workers
        } else {
            CORES_MAX
        };
        let probes = self.config.probe_workers;
        let threads = main + probe + 2 * workers + probes + OTHER_THREADS;
        unit.why(&format!(
            "A thread for each of {main} + {probe} connections, {workers} prediction workers{} and a substitute \
             for each, {probes} probe workers, {OTHER_THREADS} others.",
            if given { "" } else { " (one for each core, on large machines)" }
        ));
        unit.set(&format!("TasksMax={threads}"));
    }
}

fn hardening(unit: &mut Unit, network: Network) {
    unit.set("");
    unit.why("No user has to be made, and nothing is left behind.");
    unit.set("DynamicUser=yes");
    unit.why("Nothing is written but what is sent; models are read. /etc/lanekeeper is for them.");
    for line in [
        "ProtectSystem=strict",
        "ProtectHome=yes",
        "PrivateTmp=yes",
        "PrivateMounts=yes",
        "PrivateDevices=yes",
        "DevicePolicy=closed",
        "PrivateUsers=yes",
        "PrivateIPC=yes",
        "ProtectHostname=yes",
        "ProtectClock=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectProc=invisible",
        "ProcSubset=pid",
        "NoNewPrivileges=yes",
        "CapabilityBoundingSet=",
        "AmbientCapabilities=",
        "RestrictNamespaces=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "LockPersonality=yes",
        "MemoryDenyWriteExecute=yes",
        "RemoveIPC=yes",
        "KeyringMode=private",
        "UMask=0077",
    ] {
        unit.set(line);
    }
    match network {
        Network::Whole => {
            unit.why("TCP and Unix listeners, and the service manager's sockets.");
            unit.set("RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX");
        }
        Network::None => {
            unit.why("The service manager's sockets, and the probe listener's path. What is passed serves all the same: it was opened elsewhere.");
            unit.set("RestrictAddressFamilies=AF_UNIX");
            unit.set("PrivateNetwork=yes");
            unit.set("IPAddressDeny=any");
        }
    }
    unit.set("SystemCallArchitectures=native");
    unit.set("SystemCallFilter=@system-service");
    unit.set("SystemCallFilter=~@privileged @resources");
    unit.why("Of @resources, those by which prediction threads make way for probes (it costs 0.1 of the score).");
    unit.set("SystemCallFilter=setpriority sched_setattr");
    unit.why("What is refused is an error for the program, not its end.");
    unit.set("SystemCallErrorNumber=EPERM");
}

/// Which socket unit.
struct SocketUnit {
    description: &'static str,
    service: &'static str,
    name: &'static str,
}

impl SocketUnit {
    const MAIN: SocketUnit = SocketUnit {
        description: "lanekeeper's main listener",
        service: "lanekeeper.service",
        name: "predict",
    };
    const PROBE: SocketUnit = SocketUnit {
        description: "lanekeeper's probe listener",
        service: "lanekeeper.service",
        name: "probe",
    };
    const ISOLATED: SocketUnit = SocketUnit {
        service: "lanekeeper-isolated.service",
        ..Self::MAIN
    };
    const ISOLATED_PROBE: SocketUnit = SocketUnit {
        service: "lanekeeper-isolated.service",
        ..Self::PROBE
    };
}

fn socket(address: &Address, which: SocketUnit) -> Result<String, StartError> {
    if address.port() == Some(0) {
        return Err(StartError::Usage(format!(
            "a socket unit must have a port other than 0, but the address is {}; whoever connects has to know it",
            address.typed()
        )));
    }
    let mut unit = Unit::default();
    unit.section("Unit");
    unit.set(&format!("Description={}", which.description));
    unit.section("Socket");
    let stream = match address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(path) => path.display().to_string(),
    };
    unit.set(&format!("ListenStream={}", stream.replace('%', "%%")));
    unit.why("By this name the server knows which of its listeners it is.");
    unit.set(&format!("FileDescriptorName={}", which.name));
    unit.set(&format!("Service={}", which.service));
    unit.why("Connections that wait while the service restarts, or for a thread to take them.");
    unit.set("Backlog=4096");
    if address.port().is_none() {
        unit.set("SocketMode=0666");
        unit.set("RemoveOnStop=yes");
    }
    unit.section("Install");
    unit.set("WantedBy=sockets.target");
    Ok(unit.0)
}

/// Writes one word of a command line as systemd reads it (systemd.service(5), "Command lines").
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
