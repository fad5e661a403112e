//! The servers that are compared: lanekeeper with several sets of options, and FastAPI in two versions.

use std::env;
use std::fmt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::Run;
use crate::support::{BenchResult, Model, Server};

/// A server, or a way to run one.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Contender {
    /// Its name in tables.
    pub(crate) name: &'static str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// lanekeeper with these additional options.
    Own(&'static [&'static str]),
    /// benches/fastapi_peer.py with these options.
    Peer(&'static [&'static str]),
}

const fn own(name: &'static str, options: &'static [&'static str]) -> Contender {
    let kind = Kind::Own(options);
    Contender { name, kind }
}

const fn peer(name: &'static str, options: &'static [&'static str]) -> Contender {
    let kind = Kind::Peer(options);
    Contender { name, kind }
}

/// Without options.
pub(crate) const SHIPPED: Contender = own("two lanes, as shipped", &[]);
/// Probes go through the queue of predictions.
pub(crate) const SHARED_LANE: Contender = own("`--shared-lane`", &["--shared-lane"]);
/// The queue is bounded by count, not by waiting time.
pub(crate) const COUNT_ONLY: Contender = own(
    "bounded by count only (`--max-wait none`)",
    &["--max-wait", "none"],
);
/// No client gets more than its share.
pub(crate) const FAIR: Contender = own("`--fair-by address`", &["--fair-by", "address"]);
/// The same, with clients told apart by a request field, as behind a proxy.
pub(crate) const FAIR_BY_FIELD: Contender = own(
    "`--fair-by header:X-Client`",
    &["--fair-by", "header:X-Client"],
);
/// Predictions and probes in FastAPI's pool of 40 threads.
pub(crate) const FAULT: Contender = peer("FastAPI, shared pool (the fault)", &[]);
/// Predictions in an executor with one thread, probes on the event loop.
pub(crate) const CURE: Contender = peer("FastAPI, own executor (the cure)", &["--own-executor"]);

impl Contender {
    /// Starts it with one prediction worker. If that fails, the inner `Err` says why.
    ///
    /// # Errors
    /// lanekeeper without options does not start, so there is nothing to measure.
    pub(crate) fn start(&self, run: &Run, model: Model) -> BenchResult<Result<Server, String>> {
        let started = match self.kind {
            Kind::Own(options) => {
                let options = [&["--predict-workers", "1"], options].concat();
                Server::start(model, run.server_core(), &options)
            }
            Kind::Peer(options) => run.peers.start(run, model, options),
        };
        match (started, self.kind) {
            (Ok(server), _) => Ok(Ok(server)),
            (Err(error), Kind::Own([])) => Err(error),
            (Err(error), _) => Ok(Err(reason(&error.to_string()))),
        }
    }
}

/// The most informative line that a server printed before it ended.
fn reason(said: &str) -> String {
    let lines = || said.lines().map(str::trim).filter(|line| !line.is_empty());
    let told = lines()
        .find(|line| line.contains("error"))
        .or(lines().next());
    told.unwrap_or("no reason given").to_owned()
}

/// The Python interpreter for the peers, and its versions.
#[derive(Debug)]
pub(crate) struct Peers {
    python: String,
    /// `None` if a package is missing.
    versions: Option<String>,
}

impl Peers {
    /// Looks for a python3 with the packages that the peers need.
    pub(crate) fn find() -> Self {
        let python = env::var("LANEKEEPER_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let check = "import sys, fastapi, uvicorn, sklearn; print('Python', sys.version.split()[0] + ', FastAPI', fastapi.__version__ + ', uvicorn', uvicorn.__version__ + ', scikit-learn', sklearn.__version__)";
        let output = Command::new(&python)
            .args(["-c", check])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output();
        let versions = output
            .ok()
            .filter(|output| output.status.success())
            .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Peers { python, versions }
    }

    fn start(&self, run: &Run, model: Model, options: &[&str]) -> BenchResult<Server> {
        if self.versions.is_none() {
            return Err(self.to_string().into());
        }
        let burn = match model {
            Model::Burning(time) => time,
            Model::Default => Duration::ZERO,
            Model::BurningPerRow(_) | Model::Wide => {
                return Err("the peer has no model that burns by rows, and no wide one".into());
            }
        };
        let mut command = Command::new(&self.python);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fastapi_peer.py"))
            .args(["--burn-ms", &(burn.as_secs_f64() * 1e3).to_string()])
            .args(options);
        if let Some(core) = run.server_core() {
            command.args(["--core", &core.to_string()]);
        }
        Server::start_command(command)
    }
}

impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.versions {
            Some(versions) => f.write_str(versions),
            None => write!(
                f,
                "{} has no fastapi, uvicorn and sklearn (LANEKEEPER_BENCH_PYTHON names another)",
                self.python
            ),
        }
    }
}
