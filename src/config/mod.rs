//! Options: [`Args`] as typed, [`Config`] as valid.
//!
//! The only place that reads flags and the environment. Every limit of the server is an option with
//! a unit, and every option is also `LANEKEEPER_…` in the environment. A wrong option is one clear
//! line and exit code 2.

mod checks;
mod drill;
mod environment;
mod limits;
mod manifest;
mod offline;
mod overload;
mod probe;
mod sizing;
mod verdicts;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use crate::error::StartError;
use crate::platform::address::Address;

use self::checks::{at_least_one, resolve, usage};
pub use self::drill::{DrillArgs, DrillConfig, DrillTarget, Drilled, PARENT, drill_parent};
pub use self::environment::{Variables, unknown_variables, usage_line};
pub use self::limits::LimitArgs;
use self::limits::{duration, mode, switch};
pub use self::manifest::{
    GivenOption, GivenServeArgs, KubernetesArgs, ManifestArgs, ManifestTarget, SystemdArgs,
    SystemdUnit,
};
pub use self::offline::{InspectArgs, PredictArgs, TrainArgs};
pub use self::overload::{FairBy, MaxWait, OverloadArgs};
pub use self::probe::{ProbeArgs, ProbeCheck, ProbeConfig, ProbeListen};
pub use self::sizing::{Resources, Sizing};
pub use self::verdicts::{ReloadSignature, StallPolicy, VerdictArgs};

/// Connections on the main listener that waiting predictions leave to others.
const SPARE_CONNECTIONS: usize = 16;

/// `--predict-queue` where connections allow as many. Predictions of 200 µs then wait for up to 100 ms,
/// the least that `--max-wait auto` admits to, so that the wait is what limits them.
const PREDICT_QUEUE: usize = 512;

/// The most fields that `--max-fields` can allow.
pub const FIELDS_CEILING: usize = 128;

/// A model server whose probes always answer in time and always tell the truth.
#[derive(Debug, Parser)]
#[command(
    name = "lanekeeper",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LANEKEEPER_COMMIT"), ")"),
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    after_help = "Without a command, lanekeeper serves. Durations carry a unit (250ms, 2s, 1m); \
                  sizes may (64KiB, 16MiB)."
)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`, where no command is given.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve predictions and probes over HTTP (the default)
    #[command(args_override_self = true)]
    Serve(Box<ServeArgs>),
    /// Check the settings and the model file that `serve` would have, and serve nothing
    #[command(args_override_self = true)]
    Check(Box<ServeArgs>),
    /// Ask a running server, as a client, whether it is alive, ready or started
    #[command(args_override_self = true, after_help = probe::AFTER_HELP)]
    Probe(ProbeArgs),
    /// Learn from a table, and write a model file
    Train(Box<TrainArgs>),
    /// Predict for the rows of a table, without a server
    Predict(PredictArgs),
    /// Tell what a model file holds
    Inspect(InspectArgs),
    /// Load a server here to see whether its probes hold, and what it serves then
    Drill(Box<DrillArgs>),
    /// Print what runs a server with these options elsewhere
    #[command(arg_required_else_help = false)]
    Manifest(ManifestArgs),
}

/// How prediction workers make way for probes (see "Who gets the CPU" in README).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Yielding {
    /// `slice` where the kernel has it (Linux 6.12), otherwise `nice`
    Auto,
    /// A long scheduler slice while predictions are long; gives up no share of the CPU
    Slice,
    /// Lower priority (niceness) once predictions are long; gives way to other processes too
    Nice,
    /// Never
    Off,
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line of text
    Text,
    /// One JSON object a line
    Json,
}

/// The options of `lanekeeper serve`, as typed.
#[derive(Debug, clap::Args)]
pub struct ServeArgs {
    /// Model file to serve [default: the embedded iris classifier]
    #[arg(long, env = "LANEKEEPER_MODEL", value_name = "FILE")]
    pub model: Option<PathBuf>,

    /// Reload the model when its file is replaced, as SIGHUP does
    #[arg(long, env = "LANEKEEPER_WATCH", value_parser = switch)]
    pub watch: bool,

    /// Address of the main listener, HOST:PORT or unix:/path: predictions and probes; port 0 takes a free one
    #[arg(
        long,
        env = "LANEKEEPER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: String,

    /// Address of the probe listener, or none [default: the main listener's host and its port + 1, or its path + .probe]
    #[arg(long, env = "LANEKEEPER_PROBE_LISTEN", value_name = "ADDRESS|none")]
    pub probe_listen: Option<String>,

    /// Permissions of Unix sockets, in octal; as open by default as a port of this host is
    #[arg(long, env = "LANEKEEPER_SOCKET_MODE", value_name = "MODE", default_value = "666", value_parser = mode)]
    pub socket_mode: u32,

    /// Prediction workers [default: one for each CPU by affinity, at most the cgroup's quota rounded up]
    #[arg(long, env = "LANEKEEPER_PREDICT_WORKERS", value_name = "N")]
    pub predict_workers: Option<usize>,

    /// Probe workers
    #[arg(
        long,
        env = "LANEKEEPER_PROBE_WORKERS",
        value_name = "N",
        default_value = "2"
    )]
    pub probe_workers: usize,

    /// Maximum number of queued predictions [default: 512, or fewer as --max-connections allows]
    #[arg(long, env = "LANEKEEPER_PREDICT_QUEUE", value_name = "N")]
    pub predict_queue: Option<usize>,

    /// Longest time from a prediction's arrival to its answer, then 504; clients may ask for less (X-Request-Timeout)
    #[arg(long, env = "LANEKEEPER_REQUEST_TIMEOUT", value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub request_timeout: Duration,

    /// A worker that has made no progress (a slice or a prediction finished) for this long is stuck; /livez fails when all are
    #[arg(long, env = "LANEKEEPER_STALL_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub stall_timeout: Duration,

    /// Time between trial predictions while no real one succeeds
    #[arg(long, env = "LANEKEEPER_CANARY_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub canary_interval: Duration,

    /// After SIGTERM, time for clients to see /readyz fail [default: 5s if anybody asked /readyz, else 0s]
    #[arg(long, env = "LANEKEEPER_DRAIN_GRACE", value_name = "DURATION", value_parser = duration)]
    pub drain_grace: Option<Duration>,

    /// After the grace, time for admitted predictions to finish
    #[arg(long, env = "LANEKEEPER_DRAIN_TIMEOUT", value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Put probes behind predictions in one queue: the anti-pattern, to see what the second lane is worth
    #[arg(long, env = "LANEKEEPER_SHARED_LANE", value_parser = switch)]
    pub shared_lane: bool,

    /// How prediction workers make way for probes
    #[arg(
        long = "yield",
        env = "LANEKEEPER_YIELD",
        value_name = "HOW",
        default_value = "auto",
        ignore_case = true
    )]
    pub yielding: Yielding,

    /// What is admitted under load.
    #[command(flatten)]
    pub overload: OverloadArgs,

    /// Limits on what clients may hold.
    #[command(flatten)]
    pub limits: LimitArgs,

    /// What stuck and failing predictions mean.
    #[command(flatten)]
    pub verdicts: VerdictArgs,

    /// Least severe level that is logged
    #[arg(long, env = "LANEKEEPER_LOG_LEVEL", value_name = "LEVEL", default_value = "info", ignore_case = true,
          value_parser = clap::builder::PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"]))]
    pub log_level: String,

    /// How log lines are written
    #[arg(
        long,
        env = "LANEKEEPER_LOG_FORMAT",
        value_name = "FORMAT",
        default_value = "text",
        ignore_case = true
    )]
    pub log_format: LogFormat,

    /// Lines a second, one for each prediction; the rest is summarised once a second
    #[arg(
        long,
        env = "LANEKEEPER_ACCESS_LOG_RATE",
        value_name = "N",
        default_value = "100"
    )]
    pub access_log_rate: u32,

    /// Which of them the environment gave.
    #[arg(skip)]
    pub variables: Variables,
}

/// Valid options.
#[derive(Debug, Clone)]
pub struct Config {
    /// Model file; `None` is the embedded default.
    pub model: Option<PathBuf>,
    /// Whether the model is reloaded when its file is replaced.
    pub watch: bool,
    /// Main listener's address.
    pub listen: Address,
    /// Probe listener's address.
    pub probe_listen: ProbeListen,
    /// Permissions of Unix sockets.
    pub socket_mode: u32,
    /// Prediction workers, at least 1.
    pub predict_workers: usize,
    /// Probe workers, at least 1.
    pub probe_workers: usize,
    /// Predictions that may wait, at least 1.
    pub predict_queue: usize,
    /// From arrival to answer.
    pub request_timeout: Duration,
    /// For how long a worker may be on one prediction.
    pub stall_timeout: Duration,
    /// Between trials.
    pub canary_interval: Duration,
    /// From the signal to the first refusal; `None` depends on whether `/readyz` was asked.
    pub drain_grace: Option<Duration>,
    /// From the first refusal to the last answer.
    pub drain_timeout: Duration,
    /// One lane for everything.
    pub shared_lane: bool,
    /// How prediction workers make way; never `Auto`.
    pub yielding: Yielding,
    /// Bytes held for all clients together.
    pub max_buffered: usize,
    /// Later answers a second that cost no prediction; 0 is no limit.
    pub pace_later: u32,
    /// Where `predict_workers`, `max_buffered` and `pace_later` come from.
    pub sizing: Sizing,
    /// What is admitted under load.
    pub overload: OverloadArgs,
    /// Limits on clients.
    pub limits: LimitArgs,
    /// What stuck and failing predictions mean.
    pub verdicts: VerdictArgs,
    /// Least severe level.
    pub log_level: log::LevelFilter,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// Access-log lines a second.
    pub access_log_rate: u32,
    /// Which options the environment gave, for errors.
    pub variables: Variables,
}

/// Reads the command line and the environment, and returns the command that was asked for.
///
/// # Errors
/// What clap has to say: help and version too come as an error, with exit code 0.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let args = environment::parse(&args.into_iter().collect::<Vec<_>>())?;
    let serve = || Command::Serve(Box::new(args.serve));
    Ok(args.command.unwrap_or_else(serve))
}

impl ServeArgs {
    /// Checks the options against each other and fills in what depends on the machine's `resources`.
    ///
    /// # Errors
    /// What must hold, what was given, and the remedy, in one line.
    pub fn validate(self, resources: Resources) -> Result<Config, StartError> {
        let named = |option| self.variables.name(option);
        at_least_one(
            named("--predict-queue"),
            self.predict_queue.unwrap_or(PREDICT_QUEUE),
            "use --predict-workers to limit concurrency",
        )?;
        at_least_one(
            named("--probe-workers"),
            self.probe_workers,
            "a probe needs somebody to answer it",
        )?;
        at_least_one(
            named("--max-connections"),
            self.limits.max_connections,
            "use --listen to choose who can connect",
        )?;
        at_least_one(
            named("--max-probe-connections"),
            self.limits.max_probe_connections,
            "--probe-listen none turns the listener off",
        )?;
        at_least_one(
            named("--max-fields"),
            self.limits.max_fields,
            "every request has a Host field",
        )?;
        let sizing = Sizing {
            resources,
            predict_workers: self.predict_workers,
            max_buffered: self.limits.max_buffered,
        };
        let predict_workers = sizing.predict_workers();
        at_least_one(
            named("--predict-workers"),
            predict_workers,
            "somebody must compute",
        )?;
        for (name, workers) in [
            (named("--predict-workers"), predict_workers),
            (named("--probe-workers"), self.probe_workers),
        ] {
            if workers > 1024 {
                return usage(format!(
                    "{name} must be at most 1024 threads, but is {workers}; more threads than cores only wait for each other"
                ));
            }
        }
        for (name, value, most) in [
            (
                named("--max-connections"),
                self.limits.max_connections,
                1 << 20,
            ),
            (
                named("--max-probe-connections"),
                self.limits.max_probe_connections,
                4096,
            ),
            (
                named("--predict-queue"),
                self.predict_queue.unwrap_or(PREDICT_QUEUE),
                1 << 20,
            ),
        ] {
            if value > most {
                return usage(format!("{name} must be at most {most}, but is {value}"));
            }
        }
        at_least_one(
            named("--max-rows"),
            self.limits.max_rows,
            "a request holds at least one instance",
        )?;
        if let Some(max) = self.limits.max_connections_per_address {
            at_least_one(
                named("--max-connections-per-address"),
                max,
                "leave it out for no limit",
            )?;
        }
        let admitted_max = self
            .limits
            .max_connections
            .saturating_sub(SPARE_CONNECTIONS);
        let predict_queue = self.predict_queue.unwrap_or_else(|| {
            let most = admitted_max.saturating_sub(predict_workers);
            PREDICT_QUEUE.min(most).max(1)
        });
        let admitted = predict_queue.saturating_add(predict_workers);
        if admitted > admitted_max {
            return usage(format!(
                "{} and {} together must be at most {} less {SPARE_CONNECTIONS}, or predictions alone could hold every connection, but are {admitted} of {}; raise --max-connections or lower --predict-queue",
                named("--predict-queue"),
                named("--predict-workers"),
                named("--max-connections"),
                self.limits.max_connections
            ));
        }
        if self.limits.max_head < 256 {
            return usage(format!(
                "{} must be at least 256 bytes, but is {}; curl's own head takes about 100",
                named("--max-head"),
                self.limits.max_head
            ));
        }
        for (name, value) in [
            (named("--stall-timeout"), self.stall_timeout),
            (named("--request-timeout"), self.request_timeout),
            (named("--canary-interval"), self.canary_interval),
            (
                named("--canary-timeout"),
                self.verdicts.canary_timeout.unwrap_or(self.request_timeout),
            ),
            (named("--head-timeout"), self.limits.head_timeout),
            (named("--idle-timeout"), self.limits.idle_timeout),
            (named("--body-timeout"), self.limits.body_timeout),
            (named("--write-timeout"), self.limits.write_timeout),
        ] {
            if value < Duration::from_millis(10) {
                return usage(format!(
                    "{name} must be at least 10ms, but is {}",
                    humantime::format_duration(value)
                ));
            }
        }
        if self.limits.max_fields > FIELDS_CEILING {
            return usage(format!(
                "{} must be at most {FIELDS_CEILING}, but is {}",
                named("--max-fields"),
                self.limits.max_fields
            ));
        }
        let listen = resolve(named("--listen"), &self.listen)?;
        let probe_listen = match self.probe_listen.as_deref() {
            None => ProbeListen::Beside,
            Some("none") => ProbeListen::Off,
            Some(address) => ProbeListen::At(resolve(named("--probe-listen"), address)?),
        };
        Ok(Config {
            model: self.model,
            watch: self.watch,
            listen,
            probe_listen,
            socket_mode: self.socket_mode,
            predict_workers,
            probe_workers: self.probe_workers,
            predict_queue,
            request_timeout: self.request_timeout,
            stall_timeout: self.stall_timeout,
            canary_interval: self.canary_interval,
            drain_grace: self.drain_grace,
            drain_timeout: self.drain_timeout,
            shared_lane: self.shared_lane,
            yielding: match self.yielding {
                Yielding::Auto if crate::platform::sys::kernel_has_slices() => Yielding::Slice,
                Yielding::Auto => Yielding::Nice,
                asked => asked,
            },
            max_buffered: sizing.max_buffered(),
            pace_later: self.limits.pace_later.unwrap_or(sizing.pace_later()),
            sizing,
            overload: self.overload,
            limits: self.limits,
            verdicts: self.verdicts,
            // clap has checked the value against the list of levels.
            log_level: self.log_level.parse().unwrap_or(log::LevelFilter::Info),
            log_format: self.log_format,
            access_log_rate: self.access_log_rate,
            variables: self.variables,
        })
    }
}

impl Config {
    /// The longest time between two ticks of the main thread: a quarter of the stall timeout, at
    /// most a second.
    pub fn tick(&self) -> Duration {
        (self.stall_timeout / 4).min(Duration::from_secs(1))
    }

    /// The longest time that a trial may take while no real prediction succeeds.
    pub fn canary_timeout(&self) -> Duration {
        self.verdicts.canary_timeout.unwrap_or(self.request_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Result<Config, String> {
        let args = ["lanekeeper"].iter().chain(args).map(OsString::from);
        match parse(args).map_err(|error| usage_line(&error))? {
            Command::Serve(serve) => {
                let resources = Resources {
                    cpus: 4,
                    cpu_quota: Some(2.5),
                    memory_bytes_max: Some(512 << 20),
                };
                let config = serve.validate(resources);
                config.map_err(|error| error.to_string())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_queue_length_follows_the_connections_unless_it_is_given() {
        // 16 connections are spare, and 3 belong to workers.
        let fewer = config(&["--max-connections", "200"]).unwrap();
        assert_eq!(fewer.predict_queue, 200 - 16 - 3);
        let given = config(&["--max-connections", "200", "--predict-queue", "9"]).unwrap();
        assert_eq!(given.predict_queue, 9);
    }

    #[test]
    fn plain_lanekeeper_serves_with_the_documented_defaults() {
        let config = config(&[]).unwrap();
        assert_eq!(config.listen.to_string(), "http://127.0.0.1:8080");
        assert_eq!(config.probe_listen, ProbeListen::Beside);
        assert_eq!(config.predict_workers, 3);
        assert_eq!(config.max_buffered, 128 << 20);
        assert_eq!(config.predict_queue, 512);
        assert_eq!(config.overload.max_wait, MaxWait::Auto);
        assert_eq!(config.request_timeout, Duration::from_secs(30));
        assert_eq!(config.stall_timeout, Duration::from_secs(60));
        assert_eq!(config.drain_timeout, Duration::from_secs(20));
        assert_eq!(config.limits.max_body, 16 << 20);
        assert_eq!(config.limits.max_head, 16 << 10);
        assert_eq!(config.limits.max_connections, 1024);
    }

    #[test]
    fn wrong_options_are_one_clear_line() {
        let table: &[(&[&str], &str)] = &[
            (
                &["--predict-queue", "0"],
                "--predict-queue must be at least 1",
            ),
            (
                &["--predict-workers", "0"],
                "--predict-workers must be at least 1",
            ),
            (&["--listen", "nowhere"], "--listen must be HOST:PORT"),
            (&["--max-wait", "2"], "a duration is a number and a unit"),
            (&["--max-body", "much"], "a size is a number of bytes"),
            (
                &["--max-head", "10"],
                "--max-head must be at least 256 bytes",
            ),
            (
                &["--stall-timeout", "0"],
                "--stall-timeout must be at least 10ms",
            ),
            (&["--log-level", "loud"], "possible values"),
            (
                &["--max-connections", "17"],
                "--predict-queue and --predict-workers together must be at most",
            ),
            (
                &["--max-connections-per-address", "0"],
                "leave it out for no limit",
            ),
            (
                &["--listen", "unix:"],
                "--listen must be unix: and a path of 1 to 107 bytes",
            ),
            (&["--socket-mode", "rw"], "three octal digits"),
            (&["--nonsense"], "unexpected argument '--nonsense'"),
            (&["dance"], "dance"),
        ];
        for (args, expected) in table {
            let line = config(args).unwrap_err();
            assert!(line.contains(expected), "{args:?}: {line}");
            assert!(!line.contains('\n'), "{args:?}: {line}");
        }
    }

    #[test]
    fn serve_takes_the_same_options_as_plain_lanekeeper() {
        let config = config(&[
            "serve",
            "--probe-listen",
            "none",
            "--max-wait",
            "250ms",
            "--max-buffered",
            "2MiB",
        ])
        .unwrap();
        assert_eq!(config.probe_listen, ProbeListen::Off);
        let limit = Duration::from_millis(250);
        assert_eq!(config.overload.max_wait, MaxWait::Fixed(limit));
        assert_eq!(config.max_buffered, 2 << 20);
    }
}
