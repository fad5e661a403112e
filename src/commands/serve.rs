//! `lanekeeper serve`: checks the options, starts the log, and runs the server.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::commands::drill;
use crate::config::{self, Resources, ServeArgs};
use crate::error::StartError;
use crate::lifecycle;
use crate::logging::Logging;
use crate::models::ModelSource;
use crate::platform::cgroup::Cgroup;
use crate::platform::fault::Faults;
use crate::platform::systemd::{Notifier, ServiceManager};
use crate::server::supervisor::notify;
use crate::server::{Server, ServerEnd};

/// How long the last log lines may take: a stderr that nobody reads must not block the end.
const LAST_LINES: Duration = Duration::from_millis(500);

/// Lines per second for predictions: the journal takes 10,000 in 30 s, and a quarter is left to
/// others.
const JOURNAL_RATE_MAX: u32 = 250;

/// Serves until told to end.
///
/// # Errors
///
/// Wrong options, an address that cannot be opened, a model that cannot be loaded.
pub fn run(
    args: ServeArgs,
    source: Arc<dyn ModelSource>,
    faults: Arc<dyn Faults>,
) -> Result<(), StartError> {
    drill::end_with_drill();
    let manager = ServiceManager::from_environment().map_err(StartError::Failed);
    let result = manager.and_then(|manager| serve(args, source, faults, manager));
    if let Err(error) = &result {
        notify::failing(&Notifier::from_environment(), error);
    }
    match result? {
        ServerEnd::Stopped => Ok(()),
        ServerEnd::Aborted => lifecycle::abort(),
        ServerEnd::Interrupted(signal) => Err(StartError::Interrupted(signal)),
    }
}

fn serve(
    args: ServeArgs,
    source: Arc<dyn ModelSource>,
    faults: Arc<dyn Faults>,
    manager: ServiceManager,
) -> Result<ServerEnd, StartError> {
    let cgroup = Cgroup::find(Path::new("/"));
    let mut config = args.validate(Resources::here(&cgroup.read()))?;
    let logging = Logging::install(config.log_level, config.log_format, manager.journal);
    for line in config::unknown_variables() {
        log::warn!("{line}");
    }
    if let Some(note) = &config.hosting {
        log::info!("{note}");
    }
    let variables = config.variables.clone();
    let named = |option| variables.name(option);
    if manager.journal && config.access_log_rate > JOURNAL_RATE_MAX {
        log::warn!(
            "{} is {JOURNAL_RATE_MAX}, not {}: the journal drops lines beyond 10,000 in 30 s (RateLimitBurst= in journald.conf), whatever they say",
            named("--access-log-rate"),
            config.access_log_rate
        );
        config.access_log_rate = JOURNAL_RATE_MAX;
    }
    if config.watch && config.model.file.is_none() {
        log::warn!(
            "{} has no effect without --model: the embedded model is never replaced",
            named("--watch")
        );
    }
    if config.stall_timeout <= config.request_timeout {
        log::warn!(
            "{} ({}) is not longer than {} ({}), so a prediction whose client still waits may count as stuck",
            named("--stall-timeout"),
            humantime::format_duration(config.stall_timeout),
            named("--request-timeout"),
            humantime::format_duration(config.request_timeout),
        );
    }
    if config.max_buffered / 2 < config.limits.max_body {
        log::warn!(
            "{} ({} bytes) is less than twice {} ({} bytes): a large body may find no room even on an idle server",
            named("--max-buffered"),
            config.max_buffered,
            named("--max-body"),
            config.limits.max_body,
        );
    }
    let result =
        Server::start(config, cgroup, source, faults, &logging, manager).and_then(Server::run);
    logging.flush(LAST_LINES);
    result
}
