//! Options: [`ServeArgs`] as typed, [`Config`] as valid.
//!
//! Only this room reads flags and the environment. Every limit of the server is an option with a
//! unit, and every option of `serve` is also `LANEKEEPER_…` in the environment. A wrong option is
//! one clear line and exit code 2.

mod args;
mod checks;
mod command_line;
mod drill;
mod environment;
mod hosting;
mod limits;
mod manifest;
mod model;
mod offline;
mod overload;
mod probe;
mod sizing;
mod validate;
mod verdicts;

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use crate::platform::address::Address;

pub use self::args::{
    Args, Command, ConsoleDetail, GoldenScriptArgs, HelpArgs, Library, LogFormat, ServeArgs,
    Yielding,
};
pub use self::drill::{DrillArgs, DrillConfig, DrillTarget, Drilled, PARENT, drill_parent};
pub use self::environment::{Variables, command_help, unknown_variables, usage_line};
pub use self::limits::LimitArgs;
pub use self::manifest::{
    GivenOption, GivenServeArgs, KserveArgs, KubernetesArgs, ManifestArgs, ManifestTarget,
    SystemdArgs, SystemdUnit,
};
pub use self::model::{AnswerMode, Iterations, ModelRequest};
pub use self::offline::{
    ClassWeight, ColumnChoice, ConvertArgs, InspectArgs, PredictArgs, ShapeArgs, TrainArgs,
    TrainTask, UnseenLabels,
};
pub use self::overload::{FairBy, MaxWait, OverloadArgs};
pub use self::probe::{ProbeArgs, ProbeCheck, ProbeConfig, ProbeListen};
pub use self::sizing::{Resources, Sizing};
pub use self::verdicts::{ReloadSignature, StallPolicy, VerdictArgs};

/// The largest value of `--max-fields`.
pub const FIELDS_CEILING: usize = 128;

/// Valid options.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which model to serve.
    pub model: ModelRequest,
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
    /// Maximum number of waiting predictions, at least 1.
    pub predict_queue: usize,
    /// From arrival to answer.
    pub request_timeout: Duration,
    /// How long a worker may be on one prediction.
    pub stall_timeout: Duration,
    /// Between trials.
    pub canary_interval: Duration,
    /// From the signal to the first refusal; `None` depends on whether `/readyz` was requested.
    pub drain_grace: Option<Duration>,
    /// From the first refusal to the last answer.
    pub drain_timeout: Duration,
    /// One lane for everything.
    pub shared_lane: bool,
    /// Whether the main listener has the metrics even if there is a probe listener.
    pub main_metrics: bool,
    /// What the main listener shows of clients.
    pub console: ConsoleDetail,
    /// Whether browsers get plain text at `/` of the main listener.
    pub no_console: bool,
    /// How prediction workers yield the CPU; never `Auto`.
    pub yielding: Yielding,
    /// Maximum memory held for all clients together, in bytes.
    pub max_buffered: usize,
    /// Rate limit of later cheap answers per second; 0 is none.
    pub pace_later: u32,
    /// The origin of `predict_workers`, `max_buffered` and `pace_later`.
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
    /// The options that a hosting platform gave, for the log.
    pub hosting: Option<String>,
    /// Other paths of predictions and readiness, which a hosting platform names.
    pub routes: Vec<(String, &'static str)>,
}

/// Reads the command line and the environment, and returns the requested command.
///
/// # Errors
///
/// clap's own; help and version are errors with exit code 0 too.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, clap::Error> {
    let args: Vec<OsString> = args.into_iter().collect();
    let place = hosting::HostingPlace {
        variable: &|name| std::env::var(name).ok().filter(|value| !value.is_empty()),
        is_directory: &Path::is_dir,
    };
    let (args, hosting) = hosting::add_options(&args, &place)
        .map_err(|text| clap::Error::raw(clap::error::ErrorKind::ValueValidation, text))?;
    let mut args = environment::parse(&args)?;
    let serve = match &mut args.command {
        None => Some(&mut args.serve),
        Some(Command::Serve(serve)) => Some(&mut **serve),
        Some(_) => None,
    };
    if let Some(serve) = serve {
        serve.hosting = hosting;
    }
    let serve = || Command::Serve(Box::new(args.serve));
    Ok(args.command.unwrap_or_else(serve))
}

impl Config {
    /// Maximum time between two ticks of the main thread: a quarter of the stall timeout, at most a
    /// second.
    pub fn tick(&self) -> Duration {
        (self.stall_timeout / 4).min(Duration::from_secs(1))
    }

    /// Maximum time for a trial while no real prediction succeeds.
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
