//! The command line and the environment, as typed: nothing here is checked against anything else.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use super::drill::DrillArgs;
use super::environment::Variables;
use super::limits::{LimitArgs, duration, mode, switch};
use super::manifest::ManifestArgs;
use super::offline::{InspectArgs, PredictArgs, TrainArgs};
use super::overload::OverloadArgs;
use super::probe::{self, ProbeArgs};
use super::verdicts::VerdictArgs;

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
