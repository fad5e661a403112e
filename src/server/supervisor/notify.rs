//! Messages to the service manager: readiness, status, reloads, the end, and progress of slow
//! steps.
//!
//! Runs on the main thread, which it never holds up.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::StartError;
use crate::health::{self, ProbeKind};
use crate::platform::clock;
use crate::platform::systemd::{self, Notifier};
use crate::serving::context::Context;
use crate::vitals::ServerPhase;

/// Minimum time between two messages of a kind: a status that changes all the time tells nobody
/// more.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long loading may take after its last sign of progress.
pub const LOADING_PATIENCE: Duration = Duration::from_secs(30);

/// What the end may take beyond the longest prediction.
const DRAIN_MARGIN: Duration = Duration::from_secs(5);

/// Sends the server's state to the service manager.
#[derive(Debug)]
pub struct Notifications {
    notifier: Notifier,
    context: Arc<Context>,
    reported: String,
    reported_at: Option<Instant>,
    extended_at: Option<Instant>,
    /// Completions, and when they were counted, for the rate; and the rate before that.
    counted: (u64, Instant),
    rate: f64,
    /// Completions and answers owed at the last look at the drain.
    drained: Option<(u64, usize)>,
}

impl Notifications {
    /// Tells `notifier` about a server that starts.
    pub fn new(notifier: Notifier, context: Arc<Context>) -> Self {
        Notifications {
            notifier,
            context,
            reported: String::new(),
            reported_at: None,
            extended_at: None,
            counted: (0, clock::instant()),
            rate: 0.0,
            drained: None,
        }
    }

    /// The listeners are open, and the first model is loaded and was tried.
    pub fn ready(&mut self) {
        self.tell("READY=1\n");
    }

    /// A reload begins.
    pub fn reloading(&mut self) {
        // In the clock that the service manager compares with (CLOCK_MONOTONIC), in one datagram.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = Duration::from_secs(now.tv_sec.unsigned_abs());
        let micros = (seconds + Duration::from_nanos(now.tv_nsec.unsigned_abs())).as_micros();
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={micros}\n"));
    }

    /// The server begins to end.
    pub fn stopping(&mut self) {
        self.context.vitals.advance(ServerPhase::Draining);
        self.extended_at = None;
        self.tell("STOPPING=1\n");
    }

    /// Loading has made progress: it may take longer.
    pub fn progress_of_loading(&mut self) {
        self.extend(LOADING_PATIENCE);
    }

    /// Asks for more time while predictions finish, or during the grace period.
    pub fn progress_of_drain(&mut self, in_grace: bool) {
        let vitals = &self.context.vitals;
        let now = (
            vitals.predict.completed.value(),
            vitals.answers_owed.load(Ordering::Acquire),
        );
        let before = self.drained.replace(now);
        if in_grace || before != Some(now) {
            self.extend(self.context.config.request_timeout + DRAIN_MARGIN);
        }
    }

    /// Sends a changed status, at most once a second.
    pub fn tick(&mut self) {
        let now = clock::instant();
        if !self.notifier.is_connected() || self.reported_at.is_some_and(|at| now < at + INTERVAL) {
            return;
        }
        let status = self.status(now);
        if status != self.reported {
            self.reported_at = Some(now);
            self.notifier.notify(&status);
            self.reported = status;
        }
    }

    fn extend(&mut self, by: Duration) {
        let now = clock::instant();
        if self.extended_at.is_none_or(|at| now >= at + INTERVAL) {
            self.extended_at = Some(now);
            self.notifier.notify(&systemd::extend_timeout(by));
        }
    }

    /// Sends a message with the present status.
    fn tell(&mut self, assignments: &str) {
        let now = clock::instant();
        let status = self.status(now);
        self.notifier.notify(&format!("{assignments}{status}"));
        (self.reported, self.reported_at) = (status, Some(now));
    }

    fn status(&mut self, now: Instant) -> String {
        let vitals = &self.context.vitals;
        let completed = vitals.predict.completed.value();
        let (before, counted_at) = self.counted;
        let window = now.saturating_duration_since(counted_at);
        if window >= INTERVAL {
            self.rate = (completed - before) as f64 / window.as_secs_f64();
            self.counted = (completed, now);
        }
        let model = self.context.registry.default_deployment().slot.get();
        let name = model.map(|version| version.name().to_owned());
        let lane = &vitals.predict;
        let work = || {
            format!(
                "{} of {} workers busy, queue {}/{}, {:.0} predictions/s",
                lane.busy(),
                lane.workers_wanted,
                lane.queue_length.load(Ordering::Relaxed),
                lane.queue_capacity,
                self.rate,
            )
        };
        let text = match (vitals.phase(), name) {
            (ServerPhase::Starting, _) | (ServerPhase::Serving, None) => {
                "loading the model".to_owned()
            }
            (ServerPhase::Serving, Some(name)) => {
                let snapshot = self.context.snapshot();
                let failing = |kind, path| {
                    let failure = health::failure(kind, &snapshot)?;
                    Some(format!("{path} fails: {}; ", failure.reason))
                };
                let trouble = failing(ProbeKind::Liveness, "/livez")
                    .or_else(|| failing(ProbeKind::Readiness, "/readyz"))
                    .unwrap_or_default();
                let deployment = self.context.registry.default_deployment();
                let reloads = &deployment.vitals.reloads;
                let reload = if reloads.running.load(Ordering::Acquire) {
                    "; reloading".to_owned()
                } else {
                    let change = reloads.signature_change();
                    let changed =
                        |change| format!("; another signature since the reload: {change}");
                    let error = reloads.error();
                    error
                        .map(|error| format!("; not reloaded: {error}"))
                        .or_else(|| change.map(changed))
                        .unwrap_or_default()
                };
                format!("{trouble}serving {name}, {}{reload}", work())
            }
            (ServerPhase::Stopped, _) => "stopping".to_owned(),
            (ServerPhase::Draining | ServerPhase::Finishing, _) => {
                format!(
                    "draining, {} answers owed",
                    vitals.answers_owed.load(Ordering::Relaxed)
                )
            }
        };
        systemd::status(&text)
    }
}

/// Sends why the process ends with a failure.
pub fn failing(notifier: &Notifier, error: &StartError) {
    let status = systemd::status(&error.to_string());
    notifier.notify(&format!("{status}\nERRNO={}", error.errno()));
}
