//! lanekeeper: a synchronous, thread-per-core model server whose probes always answer in time and
//! always tell the truth.
//!
//! # The way of a request
//! ```text
//!  TCP ─accept─▶ connection thread ──Job──▶ acceptor ──offer──▶ prediction lane ─▶ predict-0..N
//!                (head, route, body, answer)   │              (bounded queue)          │
//!                         ▲                    └──────offer──▶ probe lane ─────▶ probe-0..M
//!                         └──────────── Reply (exactly one per Job) ◀─────────────────┘
//! ```
//! A connection thread does all reading and writing of its socket; the acceptor dispatches and never
//! blocks; prediction workers compute; probe workers read time stamps. The lanes share nothing but
//! read-only options and the atomics in [`vitals`].
//!
//! # Invariants
//! 1. A probe waits for no prediction, no other client and no log line, and for no lock that is held
//!    during one of these.
//! 2. Every request gets exactly one answer, or its connection is closed and the fact is counted.
//! 3. Every queue, table, thread count, head, body and wait has a limit with a unit.
//! 4. `/livez` compares time stamps; it never sends a check through the queue it judges. If no probe
//!    worker can be reached, the connection's own thread makes the same comparison.
//! 5. No client can change a verdict: not by load, not by what it sends, not by leaving.
//! 6. An overloaded server refuses a request before it computes anything for it.
//! 7. Threads that respond take little CPU time from predictions: cheap responses are rate-limited
//!    while predictions run.
//!
//! # Lexicon
//! A *lane* is one bounded queue and the workers reserved to it (in papers: a bulkhead). *Waiting
//! time* is spent in the queue, *service time* with a worker, *sojourn time* is both. A *trial* is a
//! prediction on a row that comes with the model; where the right answer is known, they are compared.
//! The *canary* is the thread that makes trials. A worker is *stuck* when it has work but has finished
//! neither a slice nor a prediction for `--stall-timeout`; a *substitute* is a worker that takes the
//! place of a stuck one.

use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;

// The modules from the top down: commands, then the way of a request, then the system. Each uses only
// modules below it in this list (tests/it/structure.rs checks that).

// One file for each command.
pub mod commands;

// The whole server: listeners, lanes, threads, supervision, shutdown.
pub mod server;

// Sockets, and HTTP on them.
pub mod http;

// What happens to a request: acceptor, workers, canary, probes, metrics.
pub mod serving;

// Jobs, and the deployments that they are for.
pub mod job;

// How requests are read and answers written: routes and dialects.
pub mod protocol;

// Verdicts, from stamps alone.
pub mod health;

// Where requests wait, and which ones are admitted.
pub mod lanes;

// From a table to a model file.
pub mod train;

// Load generation, for benches and for operators.
pub mod drill;

// Models and their file formats.
pub mod models;

// The guide, one topic a file.
pub mod guide;

// The frame, style and escaping of HTML pages.
pub mod page;

// The log thread, and the formats of log lines.
pub mod logging;

// Signals, and the order to stop.
pub mod lifecycle;

// Options as typed, and as checked.
pub mod config;

// Every stamp and counter.
pub mod vitals;

// Errors of requests and of starting.
pub mod error;

// Calls to the operating system: clock, addresses, cgroups, systemd.
pub mod platform;

use crate::config::Command;
use crate::error::StartError;
use crate::models::ModelSource;
use crate::platform::fault::{Faults, NoFaults};
use crate::platform::systemd;

/// Runs lanekeeper with a command line (`args[0]` is the program's name) and a source of models.
///
/// Tests and benches call it in a child process of their own binary, with models of their own.
pub fn run(args: impl IntoIterator<Item = OsString>, source: Arc<dyn ModelSource>) -> ExitCode {
    run_with_faults(args, source, Arc::new(NoFaults))
}

/// Runs lanekeeper as [`run`] does, with faults injected into its threads.
pub fn run_with_faults(
    args: impl IntoIterator<Item = OsString>,
    source: Arc<dyn ModelSource>,
    faults: Arc<dyn Faults>,
) -> ExitCode {
    // SIGUSR1, SIGUSR2 and SIGXFSZ would end the process.
    lifecycle::survive_stray_signals();
    let result = match config::parse(args) {
        Ok(Command::Serve(serve)) => commands::serve::run(*serve, source, faults),
        Ok(Command::Check(check)) => commands::check::run(*check, &source),
        Ok(Command::Probe(probe)) => commands::probe::run(probe),
        Ok(Command::Train(train)) => commands::train::run(*train),
        Ok(Command::Convert(convert)) => commands::convert::run(&convert),
        Ok(Command::Predict(predict)) => commands::predict::run(&predict),
        Ok(Command::Inspect(inspect)) => commands::inspect::run(&inspect),
        Ok(Command::Drill(drill)) => commands::drill::run(*drill, source),
        Ok(Command::Manifest(manifest)) => commands::manifest::run(manifest),
        Ok(Command::GoldenScript(script)) => commands::golden_script::run(&script),
        Ok(Command::Help(help)) => commands::help::run(&help),
        Err(error) if error.exit_code() == 0 => {
            // The user asked for help or the version: no error.
            commands::output::print_help(&error)
        }
        Err(error) => {
            let error = StartError::Usage(config::usage_line(&error));
            // For `serve`, which reports its later errors itself.
            server::supervisor::notify::failing(&systemd::Notifier::from_environment(), &error);
            Err(error)
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // A closed stderr must not cause a panic.
            let prefix = match systemd::stderr_is_journal() {
                true => systemd::journal_prefix(log::Level::Error),
                false => "",
            };
            let _ = writeln!(std::io::stderr(), "{prefix}lanekeeper: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
