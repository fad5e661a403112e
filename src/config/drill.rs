//! The options of `lanekeeper drill`: [`DrillArgs`] as typed, [`DrillConfig`] as valid.
//!
//! Options of `serve` follow `--`. They are read without the environment, and the drill's server
//! starts without it too, so a drill gives the same result wherever it is run.

use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Args as _, Command, FromArgMatches as _};

use super::checks::usage;
use super::limits::duration;
use super::{Config, Resources, ServeArgs, usage_line};
use crate::error::StartError;
use crate::platform::address::has_port_beyond_all;

/// Maximum number of loads of one drill.
const LOADS_MAX: usize = 12;

/// Minimum and maximum load, in capacities.
const LOAD_BOUNDS: (f64, f64) = (0.01, 100.0);

/// The variable that tells a server whose drill it serves: the process id of the drill.
pub const PARENT: &str = "LANEKEEPER_DRILL_PARENT";

/// Text below the options in `lanekeeper drill --help`.
const AFTER_HELP: &str = "\
Without --url it starts its own server on free ports of 127.0.0.1, first with two lanes, then with \
--shared-lane, both with the options of `serve` that stand after --, and ends them. A run takes about \
a minute and a half, longer for predictions of half a second and more; how long is said first.

Exit codes: 0 if every probe was answered in time; 1 if one was not (those of --shared-lane do not \
count), or the drill could not be held; 2 for wrong options, and for a body that the server refuses.";

/// The options of `lanekeeper drill`, as typed.
#[derive(Debug, clap::Args)]
#[command(args_override_self = true, after_help = AFTER_HELP)]
pub struct DrillArgs {
    /// Model file to serve [default: the embedded iris classifier]
    #[arg(long, value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Request body: JSON, or CSV if its name ends in .csv [default: the model's own example row]
    #[arg(long, value_name = "FILE")]
    pub body: Option<PathBuf>,

    /// Drill a server that already runs on this machine, at http://127.0.0.1:PORT[/PATH]; the
    /// default path is /predict
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,

    /// Probe listener of that server, http://127.0.0.1:PORT[/PATH]; the default path is /livez
    #[arg(long, value_name = "URL", requires = "url")]
    pub probe_url: Option<String>,

    /// Loads to offer, as multiples of the measured capacity
    #[arg(
        long,
        value_name = "N,…",
        value_delimiter = ',',
        default_value = "0.5,1,2,10"
    )]
    pub loads: Vec<f64>,

    /// Length of each measurement window, in seconds; each load starts a client timeout earlier
    #[arg(long, value_name = "N", default_value = "4",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub seconds: u32,

    /// How long clients wait for a prediction [default: 5s, or ten service times if one takes
    /// longer than half a second]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub client_timeout: Option<Duration>,

    /// How long a probe waits for its answer; kubelet's default is a second
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = duration)]
    pub probe_timeout: Duration,

    /// Print one JSON object instead of tables
    #[arg(long)]
    pub json: bool,

    /// Also write a report with plots to this file
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,

    /// Options of `serve`
    #[arg(last = true, value_name = "SERVE OPTIONS")]
    pub serve: Vec<OsString>,
}

/// Where an already running server is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrillTarget {
    /// A loopback address.
    pub address: SocketAddr,
    /// The path that is asked for.
    pub path: String,
}

/// Whom to drill.
#[derive(Debug, Clone)]
pub enum Drilled {
    /// A server of the drill's own, with these options of `serve`.
    Own(Vec<OsString>),
    /// One that runs already.
    Running {
        /// Where it predicts.
        predict: DrillTarget,
        /// Where it answers probes; the main listener if there is no other.
        probe: Option<DrillTarget>,
    },
}

/// Valid options of a drill.
#[derive(Debug, Clone)]
pub struct DrillConfig {
    /// Whom to drill.
    pub drilled: Drilled,
    /// The model's file; `None` is the embedded one.
    pub model: Option<PathBuf>,
    /// The request body's file.
    pub body: Option<PathBuf>,
    /// Loads in capacities, ascending.
    pub loads: Vec<f64>,
    /// How long a window is open.
    pub window: Duration,
    /// A client's patience, where it was given.
    pub client_timeout: Option<Duration>,
    /// A probe's patience.
    pub probe_timeout: Duration,
    /// Whether to print JSON.
    pub json: bool,
    /// Where to write the report.
    pub html: Option<PathBuf>,
    /// The options of `serve`, valid, for the numbers of a manifest.
    pub serve: Config,
}

impl DrillArgs {
    /// Checks the options.
    ///
    /// # Errors
    ///
    /// What must hold, what was given, and the remedy, in one line.
    pub fn validate(self, resources: Resources) -> Result<DrillConfig, StartError> {
        let serve = serve_config(&self.serve, resources)?;
        for (name, value, most) in [
            ("--probe-timeout", Some(self.probe_timeout), 60),
            ("--client-timeout", self.client_timeout, 300),
        ] {
            let bounds = Duration::from_millis(10)..=Duration::from_secs(most);
            if let Some(value) = value
                && !bounds.contains(&value)
            {
                return usage(format!(
                    "{name} must be 10ms to {most}s, but is {}",
                    humantime::format_duration(value)
                ));
            }
        }
        let drilled = match &self.url {
            None => Drilled::Own(self.serve),
            Some(_) if !self.serve.is_empty() => {
                return usage(
                    "the server at --url has its options already; leave out those after --"
                        .to_owned(),
                );
            }
            Some(_) if self.body.is_none() && self.model.is_none() => {
                return usage(
                    "with --url, --body must name a request body that its model takes, or --model the model's file, whose example row is then sent"
                        .to_owned(),
                );
            }
            Some(url) => Drilled::Running {
                predict: place("--url", url, "/predict")?,
                probe: self
                    .probe_url
                    .as_deref()
                    .map(|url| place("--probe-url", url, "/livez"))
                    .transpose()?,
            },
        };
        Ok(DrillConfig {
            drilled,
            model: self.model,
            body: self.body,
            loads: loads(self.loads)?,
            window: Duration::from_secs(u64::from(self.seconds)),
            client_timeout: self.client_timeout,
            probe_timeout: self.probe_timeout,
            json: self.json,
            html: self.html,
            serve,
        })
    }
}

/// Returns the process that this one must not outlive, if it is the server of a drill.
pub fn drill_parent() -> Option<u32> {
    std::env::var(PARENT).ok()?.parse().ok()
}

fn loads(mut loads: Vec<f64>) -> Result<Vec<f64>, StartError> {
    let (least, most) = LOAD_BOUNDS;
    if let Some(load) = loads.iter().find(|load| !(least..=most).contains(*load)) {
        return usage(format!(
            "--loads must be {least} to {most} times the capacity each, but one is {load}"
        ));
    }
    loads.sort_by(f64::total_cmp);
    loads.dedup();
    if loads.is_empty() || loads.len() > LOADS_MAX {
        return usage(format!(
            "--loads must be 1 to {LOADS_MAX} of them, but are {}",
            loads.len()
        ));
    }
    Ok(loads)
}

/// Parses a URL of a loopback address; no name but `localhost`, so that nothing is resolved.
fn place(option: &str, url: &str, default_path: &str) -> Result<DrillTarget, StartError> {
    let wrong = || {
        StartError::Usage(format!(
            "{option} must be http://127.0.0.1:PORT or http://[::1]:PORT, with a path or without, but is {url:?}"
        ))
    };
    let rest = url.strip_prefix("http://").ok_or_else(wrong)?;
    let (host, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, ""),
    };
    if has_port_beyond_all(host) {
        return usage(format!(
            "{option} must have a port of at most 65535, but is {url:?}"
        ));
    }
    let address = match host.strip_prefix("localhost:") {
        Some(port) => {
            let port = port.parse().map_err(|_| wrong())?;
            SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
        }
        None => host.parse::<SocketAddr>().map_err(|_| wrong())?,
    };
    if !address.ip().to_canonical().is_loopback() {
        return usage(format!(
            "{option} must be on this machine's loopback (127.0.0.1 or [::1]), but is at {}: a drill is load, and not for servers that others use",
            address.ip()
        ));
    }
    let path = match path {
        "" | "/" => default_path,
        path => path,
    };
    if path
        .bytes()
        .any(|byte| !byte.is_ascii_graphic() || byte == b'#')
        || address.port() == 0
    {
        return Err(wrong());
    }
    Ok(DrillTarget {
        address,
        path: path.to_owned(),
    })
}

/// Checks the options of `serve`, some of which the drill sets itself.
fn serve_config(options: &[OsString], resources: Resources) -> Result<Config, StartError> {
    let command = ServeArgs::augment_args(Command::new("lanekeeper drill --"))
        .no_binary_name(true)
        .args_override_self(true);
    let wrong = |error: clap::Error| StartError::Usage(usage_line(&error));
    let matches = command.try_get_matches_from(options).map_err(wrong)?;
    for (id, why) in [
        ("listen", "the drill's server has a free port of 127.0.0.1"),
        (
            "probe_listen",
            "the drill's server has free ports of 127.0.0.1",
        ),
        (
            "shared_lane",
            "the drill runs both with two lanes and with one",
        ),
        ("model", "it is an option of the drill's own"),
        ("watch", "the model stays the same during a drill"),
    ] {
        if matches.value_source(id) == Some(ValueSource::CommandLine) {
            let name = id.replace('_', "-");
            return usage(format!("--{name} cannot stand after --; {why}"));
        }
    }
    let args = ServeArgs::from_arg_matches(&matches).map_err(wrong)?;
    args.validate(resources)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command as Chosen, parse};

    fn config(options: &[&str]) -> Result<DrillConfig, String> {
        let args = ["lanekeeper", "drill"].iter().chain(options);
        match parse(args.map(OsString::from)).map_err(|error| usage_line(&error))? {
            Chosen::Drill(drill) => drill
                .validate(Resources::UNKNOWN)
                .map_err(|error| error.to_string()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn plain_drill_has_the_documented_defaults() {
        let config = config(&[]).unwrap();
        assert!(matches!(&config.drilled, Drilled::Own(options) if options.is_empty()));
        assert_eq!(config.loads, [0.5, 1.0, 2.0, 10.0]);
        assert_eq!(config.window, Duration::from_secs(4));
        assert_eq!(config.probe_timeout, Duration::from_secs(1));
        assert_eq!(config.client_timeout, None);
        assert!(!config.json && config.html.is_none());
    }

    #[test]
    fn loads_are_sorted_and_options_of_serve_are_kept() {
        let config = config(&["--loads", "10,2,2", "--", "--stall-timeout", "5s"]).unwrap();
        assert_eq!(config.loads, [2.0, 10.0]);
        assert_eq!(config.serve.stall_timeout, Duration::from_secs(5));
        assert!(matches!(&config.drilled, Drilled::Own(options) if options.len() == 2));
    }

    #[test]
    fn urls_are_of_this_machine() {
        let table = [
            ("http://127.0.0.1:80", Some(("127.0.0.1:80", "/predict"))),
            ("http://127.0.0.1:80/", Some(("127.0.0.1:80", "/predict"))),
            ("http://localhost:80/a?b", Some(("127.0.0.1:80", "/a?b"))),
            ("http://[::1]:8080/v2", Some(("[::1]:8080", "/v2"))),
            ("http://127.9.9.9:1", Some(("127.9.9.9:1", "/predict"))),
            ("http://10.0.0.1:80", None),
            ("http://[::]:80", None),
            ("http://0.0.0.0:80", None),
            ("http://[::ffff:10.0.0.1]:80", None),
            ("http://example.test:80", None),
            ("http://localhost.example.test:80", None),
            ("http://127.0.0.1@10.0.0.1:80", None),
            ("https://127.0.0.1:80", None),
            ("http://127.0.0.1", None),
            ("http://127.0.0.1:0", None),
            ("http://127.0.0.1:80/a b", None),
            ("127.0.0.1:80", None),
        ];
        for (url, expected) in table {
            let place = place("--url", url, "/predict");
            let expected = expected.map(|(address, path)| DrillTarget {
                address: address.parse().unwrap(),
                path: path.to_owned(),
            });
            assert_eq!(place.ok(), expected, "{url}");
        }
        let line = config(&["--body", "a", "--url", "http://192.0.2.1:80"]).unwrap_err();
        assert!(line.contains("loopback"), "{line}");
    }

    #[test]
    fn wrong_options_are_one_clear_line() {
        let table: &[(&[&str], &str)] = &[
            (&["--loads", "0"], "--loads must be 0.01 to 100"),
            (&["--loads", "NaN"], "--loads must be 0.01 to 100"),
            (&["--loads", "much"], "--loads"),
            (
                &["--loads", "1,2,3,4,5,6,7,8,9,10,11,12,13"],
                "--loads must be 1 to 12 of them, but are 13",
            ),
            (&["--seconds", "0"], "--seconds"),
            (
                &["--probe-timeout", "1ms"],
                "--probe-timeout must be 10ms to 60s, but is 1ms",
            ),
            (&["--client-timeout", "1h"], "--client-timeout must be"),
            (&["--url", "http://127.0.0.1:80"], "--body must name"),
            (&["--probe-url", "http://127.0.0.1:80"], "--url"),
            (
                &["--body", "a", "--url", "http://127.0.0.1:70000/predict"],
                "--url must have a port of at most 65535",
            ),
            (
                &[
                    "--url",
                    "http://[::1]:80",
                    "--body",
                    "a",
                    "--",
                    "--yield=off",
                ],
                "leave out those after --",
            ),
            (
                &["--", "--listen", "0.0.0.0:80"],
                "--listen cannot stand after --",
            ),
            (
                &["--", "--shared-lane"],
                "--shared-lane cannot stand after --",
            ),
            (&["--", "--model", "a"], "--model cannot stand after --"),
            (
                &["--", "--predict-queue", "0"],
                "--predict-queue must be at least 1",
            ),
            (&["--", "--nonsense"], "unexpected argument '--nonsense'"),
            (&["nonsense"], "nonsense"),
        ];
        for (options, expected) in table {
            let line = config(options).unwrap_err();
            assert!(line.contains(expected), "{options:?}: {line}");
            assert!(!line.contains('\n'), "{options:?}: {line}");
        }
    }
}
