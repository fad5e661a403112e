//! Logs changes of the verdicts: one line per change, not per probe, and a stall report when
//! liveness is lost. It is a change, too, if another check fails than before.

use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;

use super::stall_report::{self, Reporter};
use super::whole_millis;
use crate::health::{self, FailedCheck, Meaning, ProbeKind};
use crate::platform::clock::Stamp;
use crate::serving::context::Context;

/// The verdicts as last logged.
#[derive(Debug)]
pub struct VerdictLog {
    context: Arc<Context>,
    reporter: Reporter,
    liveness: ReportedVerdict,
    readiness: ReportedVerdict,
    had_stuck_workers: bool,
}

/// A verdict as last logged: which check failed, and since when.
#[derive(Debug)]
struct ReportedVerdict {
    path: &'static str,
    failing: Option<(&'static str, Stamp)>,
}

/// What to log about a verdict.
#[derive(Debug, PartialEq, Eq)]
enum VerdictChange {
    /// It fails, or fails for another reason now.
    Fails,
    PassesAfter(Duration),
}

impl ReportedVerdict {
    fn update(&mut self, failure: Option<&FailedCheck>, now: Stamp) -> Option<VerdictChange> {
        let before = self.failing;
        let since = before.map_or(now, |(_, since)| since);
        self.failing = failure.map(|failure| (failure.check, since));
        match (before, failure) {
            (Some(_), None) => Some(VerdictChange::PassesAfter(now.since(since))),
            (Some((check, _)), Some(failure)) if check == failure.check => None,
            (_, Some(_)) => Some(VerdictChange::Fails),
            (None, None) => None,
        }
    }

    /// Updates the verdict, logs a change, and returns it.
    fn log_change(&mut self, failure: Option<&FailedCheck>, now: Stamp) -> Option<VerdictChange> {
        let change = self.update(failure, now);
        let path = self.path;
        match (&change, failure) {
            (Some(VerdictChange::PassesAfter(time)), _) => {
                let time = format_duration(whole_millis(*time));
                log::info!("{path} passes, after it had failed for {time}");
            }
            (Some(VerdictChange::Fails), Some(failure)) => {
                let FailedCheck { check, reason, .. } = failure;
                log::error!("{path} fails: {reason} [{check}]");
            }
            _ => {}
        }
        change
    }
}

impl VerdictLog {
    /// The log of a server that has just started.
    pub fn new(context: Arc<Context>) -> Self {
        let reported = |path| ReportedVerdict {
            path,
            failing: None,
        };
        VerdictLog {
            reporter: Reporter::new(Arc::clone(&context)),
            liveness: reported("/livez"),
            readiness: reported("/readyz"),
            had_stuck_workers: false,
            context,
        }
    }

    /// Writes a stall report before the process aborts. A service manager's watchdog asks for that with
    /// SIGABRT.
    pub fn report_abort(&self) {
        let snapshot = self.context.snapshot();
        let failure = health::failure(ProbeKind::Liveness, &snapshot).unwrap_or(FailedCheck {
            // No check: it names the reason in the report.
            check: "abort",
            meaning: Meaning::NotAlive,
            reason: "SIGABRT, as from a watchdog without a keep-alive, although /livez passes"
                .to_owned(),
        });
        stall_report::make(&self.context, &failure, &snapshot);
    }

    /// Compares the verdicts and logs what has changed.
    pub fn tick(&mut self) {
        let snapshot = self.context.snapshot();
        let not_alive = health::failure(ProbeKind::Liveness, &snapshot);
        let was_alive = self.liveness.failing.is_none();
        let change = self.liveness.log_change(not_alive.as_ref(), snapshot.now);
        match (change, &not_alive) {
            // One report each time that liveness is lost, whatever else fails then.
            (Some(VerdictChange::Fails), Some(failure)) if was_alive => {
                self.reporter.report(failure, snapshot.clone());
            }
            (Some(VerdictChange::PassesAfter(_)), _) => self.reporter.withdraw(),
            _ => {}
        }
        let not_ready = health::failure(ProbeKind::Readiness, &snapshot);
        let not_started = health::failure(ProbeKind::Startup, &snapshot);
        // The metrics tell since when each verdict stands.
        for (kind, failure) in [
            (ProbeKind::Liveness, &not_alive),
            (ProbeKind::Readiness, &not_ready),
            (ProbeKind::Startup, &not_started),
        ] {
            let verdicts = &self.context.vitals.verdicts;
            verdicts.observe(kind as usize, failure.is_none(), snapshot.now);
        }
        // Loading and draining have their own log lines.
        let is_not_now = |failure: &FailedCheck| failure.meaning == Meaning::NotNow;
        if !not_ready.as_ref().is_some_and(is_not_now) {
            self.readiness.log_change(not_ready.as_ref(), snapshot.now);
        }
        let degradation = health::degradation(&snapshot);
        match &degradation {
            Some(text) if !self.had_stuck_workers => log::warn!("degraded: {text}"),
            None if self.had_stuck_workers => log::info!("no prediction worker is stuck any more"),
            _ => {}
        }
        self.had_stuck_workers = degradation.is_some();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(check: &'static str) -> FailedCheck {
        FailedCheck {
            check,
            meaning: Meaning::NotAlive,
            reason: "because".to_owned(),
        }
    }

    #[test]
    fn a_verdict_is_logged_when_it_changes_or_another_check_decides_it() {
        let mut reported = ReportedVerdict {
            path: "/livez",
            failing: None,
        };
        let second = |seconds: u64| Stamp(seconds * 1_000_000_000);
        assert_eq!(reported.update(None, second(1)), None);
        let workers = failure("workers");
        assert_eq!(
            reported.update(Some(&workers), second(2)),
            Some(VerdictChange::Fails)
        );
        assert_eq!(reported.update(Some(&workers), second(3)), None);
        let acceptor = failure("acceptor");
        assert_eq!(
            reported.update(Some(&acceptor), second(4)),
            Some(VerdictChange::Fails)
        );
        let passes = VerdictChange::PassesAfter(Duration::from_secs(3));
        assert_eq!(reported.update(None, second(5)), Some(passes));
        assert_eq!(reported.update(None, second(6)), None);
    }
}
