//! The command line and the environment, as typed; nothing here is checked against anything else.

use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};

use super::drill::DrillArgs;
use super::environment::Variables;
use super::limits::{LimitArgs, duration, mode, route, switch};
use super::manifest::ManifestArgs;
use super::model::ModelRequest;
use super::offline::{ConvertArgs, InspectArgs, PredictArgs, TrainArgs};
use super::overload::OverloadArgs;
use super::probe::{self, ProbeArgs};
use super::verdicts::VerdictArgs;

/// What stands below the options of `serve`.
const SERVE_AFTER_HELP: &str = "\
Every option is also an environment variable: --max-wait is LANEKEEPER_MAX_WAIT. Durations have a unit \
(250ms, 2s, 1m); sizes may have one (64KiB, 16MiB). -h shows the common options, --help all.";

/// A model server whose probes always answer in time and always tell the truth.
#[derive(Debug, Parser)]
#[command(
    name = "lanekeeper",
    version = concat!(env!("CARGO_PKG_VERSION"), " (", env!("LANEKEEPER_COMMIT"), ")"),
    args_conflicts_with_subcommands = true,
    args_override_self = true,
    disable_help_subcommand = true,
    after_help = SERVE_AFTER_HELP

)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `serve`, for a command line without a command.
    #[command(flatten)]
    pub serve: ServeArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve predictions and probes over HTTP (the default)
    #[command(args_override_self = true, after_help = SERVE_AFTER_HELP)]
    Serve(Box<ServeArgs>),
    /// Validate the options and the model file as `serve` would, without serving
    #[command(args_override_self = true, after_help = SERVE_AFTER_HELP)]
    Check(Box<ServeArgs>),
    /// Ask a running server whether it is alive, ready or started
    #[command(args_override_self = true, after_help = probe::AFTER_HELP)]
    Probe(ProbeArgs),
    /// Train a model on a table and write a model file
    Train(Box<TrainArgs>),
    /// Put another library's model, its golden rows and the names of its classes into one model file
    Convert(ConvertArgs),
    /// Predict the rows of a table, without a server
    Predict(PredictArgs),
    /// Print what a model file holds
    Inspect(InspectArgs),
    /// Load-test a server on this machine and check its probes
    Drill(Box<DrillArgs>),
    /// Print Kubernetes manifests or systemd units for the options of `serve`
    #[command(arg_required_else_help = false)]
    Manifest(ManifestArgs),
    /// Print a Python script that writes golden rows: a library's own answers, for --golden
    GoldenScript(GoldenScriptArgs),
    /// Show a topic of the guide, or the help of a command
    Help(HelpArgs),
}

/// The options of `lanekeeper golden-script`.
#[derive(Debug, clap::Args)]
pub struct GoldenScriptArgs {
    /// The library that trained the model
    #[arg(value_name = "LIBRARY")]
    pub library: Library,
}

/// Libraries whose models are imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Library {
    /// XGBoost
    Xgboost,
    /// LightGBM
    Lightgbm,
    /// An estimator with scikit-learn's interface: of scikit-learn itself, or a wrapper of XGBoost, LightGBM or
    /// CatBoost
    Sklearn,
    /// A graph of ONNX, answered by onnxruntime
    Onnx,
}

/// The options of `lanekeeper help`.
#[derive(Debug, clap::Args)]
pub struct HelpArgs {
    /// A topic of the guide, or a command [default: list them]
    #[arg(value_name = "TOPIC|COMMAND")]
    pub name: Option<String>,
}

/// How prediction workers yield the CPU to probes (see the guide on overload).
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Yielding {
    /// `slice` where the kernel has it (Linux 6.12), otherwise `nice`
    Auto,
    /// A long scheduler slice while predictions are long; keeps the whole CPU share
    Slice,
    /// Lower priority (niceness) once predictions are long; yields to other processes too
    Nice,
    /// Never
    Off,
}

/// What the main listener shows of clients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ConsoleDetail {
    /// No request ids and no addresses
    Basic,
    /// The request ids and addresses of the last refusals and failures
    Full,
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
    /// Which model to serve.
    #[command(flatten)]
    pub model: ModelRequest,

    /// Reload the model when its file is replaced, as SIGHUP does
    #[arg(long, value_parser = switch)]
    pub watch: bool,

    /// Address of the main listener (predictions and probes): HOST:PORT or unix:/path; port 0 picks a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: String,

    /// Address of the probe listener, or none [default: the main listener's with the next port, or its path with .probe]
    #[arg(long, value_name = "ADDRESS|none")]
    pub probe_listen: Option<String>,

    /// Permissions of Unix sockets, in octal; by default any local user may connect
    #[arg(long, value_name = "MODE", default_value = "666", value_parser = mode)]
    pub socket_mode: u32,

    /// Number of prediction workers [default: one per CPU of the affinity mask, at most the cgroup's CPU quota rounded up]
    #[arg(long, value_name = "N")]
    pub predict_workers: Option<usize>,

    /// Number of probe workers
    #[arg(long, value_name = "N", default_value = "2")]
    pub probe_workers: usize,

    /// Maximum number of queued predictions [default: 512, or fewer as --max-connections allows]
    #[arg(long, value_name = "N")]
    pub predict_queue: Option<usize>,

    /// Maximum time from a prediction's arrival to its answer, then 504; clients may ask for less (X-Request-Timeout)
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub request_timeout: Duration,

    /// A worker without progress (a finished slice or prediction) for this long is stuck; /livez fails when all are stuck
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub stall_timeout: Duration,

    /// Time between trial predictions while no real prediction succeeds
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub canary_interval: Duration,

    /// After SIGTERM, time for load balancers to see /readyz fail [default: 5s if anybody has requested /readyz, else 0s]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub drain_grace: Option<Duration>,

    /// After the grace period, time for admitted predictions to finish
    #[arg(long, value_name = "DURATION", default_value = "20s", value_parser = duration)]
    pub drain_timeout: Duration,

    /// Another path for POST /predict, such as Vertex AI's
    #[arg(long, value_name = "PATH", value_parser = route)]
    pub predict_route: Option<String>,

    /// Another path for GET /health, which is 200 while the server is ready
    #[arg(long, value_name = "PATH", value_parser = route)]
    pub health_route: Option<String>,

    /// Serve /metrics on the main listener too, where KServe scrapes it
    #[arg(long, value_parser = switch)]
    pub main_metrics: bool,

    /// What browsers see of clients at GET /, and /statusz shows, on the main listener; the probe listener shows all
    #[arg(long, value_name = "WHAT", default_value = "basic", ignore_case = true)]
    pub console: ConsoleDetail,

    /// Serve browsers plain text at GET / of the main listener, as curl gets it
    #[arg(long, value_parser = switch)]
    pub no_console: bool,

    /// Put probes and predictions into one queue: the anti-pattern, for drills
    #[arg(long, value_parser = switch)]
    pub shared_lane: bool,

    /// How prediction workers yield the CPU to probes
    #[arg(
        long = "yield",
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

    /// Minimum severity of log lines
    #[arg(long, value_name = "LEVEL", default_value = "info", ignore_case = true,
          value_parser = clap::builder::PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"]))]
    pub log_level: String,

    /// Format of log lines
    #[arg(
        long,
        value_name = "FORMAT",
        default_value = "text",
        ignore_case = true
    )]
    pub log_format: LogFormat,

    /// Maximum number of lines a second for predictions; the rest are counted in one line
    #[arg(long, value_name = "N", default_value = "100")]
    pub access_log_rate: u32,

    /// Which options the environment gave.
    #[arg(skip)]
    pub variables: Variables,

    /// The options that a hosting platform gave, for the log.
    #[arg(skip)]
    pub hosting: Option<String>,
}
