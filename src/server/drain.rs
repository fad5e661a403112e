//! The end of a running server, on the main thread, along the timelines of `lifecycle`.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use humantime::format_duration;

use super::{Server, ServerEnd};
use crate::lanes::admission;
use crate::lifecycle::{self, GRACE_IF_ASKED, LAST_ANSWERS};
use crate::platform::clock;
use crate::vitals::ServerPhase;

/// How often the main thread looks while the server ends.
pub(super) const DRAIN_TICK: Duration = Duration::from_millis(20);

/// How long a persistent connection may stay idle once a successor is to have the next ones: an
/// active client has got its last answer with `Connection: close` by then.
const LAST_REQUESTS: Duration = Duration::from_secs(1);

impl Server {
    /// Ends the server, depending on its listeners and its life so far.
    pub(super) fn drain(&mut self) -> ServerEnd {
        if let Some(end) = self.ends_at_once() {
            return end;
        }
        self.notifications.stopping();
        let end = if self.listeners[0].is_inherited() {
            self.hand_over()
        } else {
            self.drain_own()
        };
        if end != ServerEnd::Stopped {
            return end;
        }
        self.release_inherited_listeners();
        self.refuse_queued(clock::instant() + LAST_ANSWERS);
        if let Some(end) = self.ends_at_once() {
            return end;
        }
        log::info!("stopped");
        ServerEnd::Stopped
    }

    /// Drains with listeners that end with the process.
    fn drain_own(&mut self) -> ServerEnd {
        let began = clock::instant();
        let vitals = Arc::clone(&self.context.vitals);
        let config = &self.context.config;
        let asked = vitals.readyz_seen.load(Ordering::Relaxed);
        let served = self.context.has_loaded();
        let default_grace = if asked {
            GRACE_IF_ASKED
        } else {
            Duration::ZERO
        };
        // A server that was never ready has no clients that need to see it drain.
        let grace = if served {
            config.drain_grace.unwrap_or(default_grace)
        } else {
            Duration::ZERO
        };
        let timeout = config.drain_timeout;
        log::info!(
            "draining: grace {}, then at most {} for admitted predictions",
            format_duration(grace),
            format_duration(timeout),
        );
        loop {
            // Once the grace period is over, new predictions are refused, so the rest can only
            // become less: the phase changes first, then the work is counted.
            let since = clock::instant().saturating_duration_since(began);
            vitals.advance(if since < grace {
                ServerPhase::Draining
            } else {
                ServerPhase::Finishing
            });
            if vitals.phase() == ServerPhase::Finishing {
                self.listeners
                    .iter()
                    .for_each(|listener| listener.close_idle());
            }
            let has_work = vitals.predictions_owed.load(Ordering::Acquire) > 0;
            let phase = lifecycle::phase_at(since, grace, timeout, has_work);
            vitals.advance(phase);
            if phase == ServerPhase::Stopped {
                return ServerEnd::Stopped;
            }
            if let Some(end) = self.drain_tick(since < grace) {
                return end;
            }
        }
    }

    /// Leaves an inherited main listener to a successor: accepts nothing more, and serves what was
    /// accepted.
    fn hand_over(&mut self) -> ServerEnd {
        let began = clock::instant();
        let vitals = Arc::clone(&self.context.vitals);
        let timeout = self.context.config.drain_timeout;
        log::info!(
            "draining: the next connections are a successor's; at most {} for those accepted",
            format_duration(timeout),
        );
        vitals.advance(ServerPhase::Draining);
        let main = Arc::clone(&self.listeners[0]);
        main.stop_accepting();
        loop {
            let since = clock::instant().saturating_duration_since(began);
            if since >= LAST_REQUESTS {
                main.close_idle();
            }
            if lifecycle::handover_phase_at(since, timeout, !main.is_deserted())
                == ServerPhase::Stopped
            {
                vitals.advance(ServerPhase::Stopped);
                return ServerEnd::Stopped;
            }
            if let Some(end) = self.drain_tick(false) {
                return end;
            }
        }
    }

    /// Accepts nothing that a successor could answer; probes were answered until now.
    fn release_inherited_listeners(&mut self) {
        let deadline = clock::instant() + LAST_ANSWERS;
        let listeners = self.listeners.iter();
        let inherited: Vec<_> = listeners
            .filter(|listener| listener.is_inherited())
            .cloned()
            .collect();
        for listener in &inherited {
            listener.stop_accepting();
        }
        while inherited.iter().any(|listener| !listener.is_deserted())
            && clock::instant() < deadline
            && self.ends_at_once().is_none()
        {
            inherited.iter().for_each(|listener| listener.close_idle());
            self.wait(DRAIN_TICK);
            self.tick();
        }
    }

    /// Waits a little, and asks the service manager for time if there is progress. Returns how the
    /// server must end at once, if it must.
    fn drain_tick(&mut self, in_grace: bool) -> Option<ServerEnd> {
        self.wait(DRAIN_TICK);
        self.tick();
        self.notifications.progress_of_drain(in_grace);
        self.ends_at_once()
    }

    fn refuse_queued(&mut self, deadline: Instant) {
        let vitals = Arc::clone(&self.context.vitals);
        loop {
            while let Ok(job) = self.queued.take_now() {
                job.refuse(admission::draining(), clock::instant());
            }
            if vitals.answers_owed.load(Ordering::Acquire) == 0
                || clock::instant() >= deadline
                || self.ends_at_once().is_some()
            {
                return;
            }
            self.wait(DRAIN_TICK);
            self.tick();
        }
    }
}
