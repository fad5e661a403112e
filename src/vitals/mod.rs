//! Every time stamp and counter of the process, as atomics.
//!
//! A leaf: the owner of a fact writes it here, and probes, metrics, `/statusz` and admission read
//! it. The two lanes share nothing else. Nothing is judged here (that is `health`), and locks are
//! held only to copy.

mod busy;
mod cgroup;
mod counts;
mod deployment;
mod histogram;
mod lane;
mod listener;
mod outcomes;
mod probes;
mod reasons;
mod recent;
mod reloads;
mod responses;
mod service;
mod trials;
mod verdicts;
mod work;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::platform::clock::{ProcessClock, Stamp};

pub use self::busy::BusyTime;
pub use self::cgroup::CgroupVitals;
pub use self::counts::{ClientCounts, Counts};
pub use self::deployment::DeploymentVitals;
pub use self::histogram::{BOUNDS, Histogram, HistogramSnapshot, Timer};
pub use self::lane::{CurrentRequest, LaneVitals, WorkerVitals};
pub use self::listener::ListenerVitals;
pub use self::outcomes::{OutcomeCounts, PredictionOutcome, Refusals};
pub use self::probes::{ProbeVitals, RateLimitWaits};
pub use self::reasons::{Reason, Reasons};
pub use self::recent::{RecentError, RecentErrors};
pub use self::reloads::Reloads;
pub use self::responses::Responses;
pub use self::service::{AtomicEstimate, Estimate, FORMS, ServiceTime, ServiceTimes};
pub use self::trials::{Failures, TrialVerdict, Trials};
pub use self::verdicts::VerdictStamps;
pub use self::work::{AdmittedWork, Announced, Cost, RemainingWork, Reservation};

/// The phase of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum ServerPhase {
    /// The model is not loaded and tried yet.
    Starting = 0,
    /// Predictions are served.
    Serving = 1,
    /// Told to end: `/readyz` fails, everything else continues for the grace period.
    Draining = 2,
    /// New predictions are refused, admitted ones finish.
    Finishing = 3,
    /// What is left is refused.
    Stopped = 4,
}

impl ServerPhase {
    /// Its name in `/statusz` and the metrics.
    pub fn name(self) -> &'static str {
        match self {
            ServerPhase::Starting => "starting",
            ServerPhase::Serving => "serving",
            ServerPhase::Draining => "draining",
            ServerPhase::Finishing => "finishing",
            ServerPhase::Stopped => "stopped",
        }
    }
}

/// A point in process time that another thread may read.
#[derive(Debug, Default)]
pub struct AtomicStamp(AtomicU64);

impl AtomicStamp {
    /// Reads it.
    pub fn load(&self) -> Stamp {
        Stamp(self.0.load(Ordering::Acquire))
    }

    /// Writes it.
    pub fn store(&self, stamp: Stamp) {
        self.0.store(stamp.0, Ordering::Release);
    }

    /// Sets it, unless it is at a later point already.
    pub fn advance(&self, stamp: Stamp) {
        self.0.fetch_max(stamp.0, Ordering::AcqRel);
    }
}

/// Failures without a success between them: the first and the last.
///
/// Two concurrent first failures may both set the beginning, which moves it by the time between
/// them.
#[derive(Debug, Default)]
pub struct Streak {
    since: AtomicStamp,
    last: AtomicStamp,
}

impl Streak {
    /// Notes a failure.
    pub fn fail(&self, now: Stamp) {
        self.last.store(now);
        if self.since.load() == Stamp::NEVER {
            self.since.store(now);
        }
    }

    /// Records a success, which ends the failures; only a read if there are none.
    pub fn succeed(&self) {
        if self.since.load() != Stamp::NEVER {
            self.since.store(Stamp::NEVER);
        }
    }

    /// The first and the last failure since the last success.
    pub fn span(&self) -> Option<(Stamp, Stamp)> {
        let since = self.since.load();
        (since != Stamp::NEVER).then(|| (since, self.last.load()))
    }
}

/// The acceptor thread.
#[derive(Debug, Default)]
pub struct AcceptorVitals {
    /// Whether the thread runs.
    pub alive: AtomicBool,
    /// When the last one ended.
    pub ended_at: AtomicStamp,
    /// Since when it has been on its present job; never if idle.
    pub busy_since: AtomicStamp,
    /// Jobs lost while it had them.
    pub losses: Streak,
    /// The thread's id in the kernel (gettid(2)).
    pub thread_id: AtomicU32,
}

/// A count since the process started.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts `more`.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts an answer owed to a client, until it is given or cannot be.
#[derive(Debug)]
pub struct Owed<'a>(&'a AtomicUsize);

impl<'a> Owed<'a> {
    /// Counts one in `count`.
    pub fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Owed(count)
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// All facts about the process.
#[derive(Debug)]
pub struct Vitals {
    /// The clock that all stamps here are read from.
    pub clock: ProcessClock,
    /// When the process started.
    pub started_at: Stamp,
    /// The prediction lane.
    pub predict: LaneVitals,
    /// The probe lane.
    pub probe: LaneVitals,
    /// Counters.
    pub counts: Counts,
    /// What was refused, by `code`.
    pub refusals: Refusals,
    /// The last predictions that were refused.
    pub recent_refusals: RecentErrors,
    /// The last predictions that were admitted and failed.
    pub recent_failures: RecentErrors,
    /// Since when each verdict stands.
    pub verdicts: VerdictStamps,
    /// Every answer, by status code and `code`.
    pub responses: Responses,
    /// What probes were answered, and how long they took.
    pub probes: ProbeVitals,
    /// Limits and counts of the control groups.
    pub cgroup: CgroupVitals,
    /// The acceptor thread.
    pub acceptor: AcceptorVitals,
    /// Whether anybody has requested `/readyz` since the start.
    pub readyz_seen: AtomicBool,
    /// The main and the probe listener.
    pub listeners: [ListenerVitals; 2],
    /// Answers of any kind being waited for or written.
    pub answers_owed: AtomicUsize,
    /// Answers to predictions that were sent to the lane and are not written yet.
    pub predictions_owed: AtomicUsize,
    phase: AtomicU8,
}

impl Vitals {
    /// Makes the vitals of a process with these two lanes, (queue capacity, workers) each. The
    /// prediction lane may have as many substitutes as workers.
    pub fn new(clock: ProcessClock, predict: (usize, usize), probe: (usize, usize)) -> Self {
        Vitals {
            started_at: clock.now(),
            clock,
            predict: LaneVitals::new(predict.0, predict.1, predict.1),
            probe: LaneVitals::new(probe.0, probe.1, 0),
            counts: Counts::default(),
            refusals: Refusals::default(),
            recent_refusals: RecentErrors::default(),
            recent_failures: RecentErrors::default(),
            verdicts: VerdictStamps::default(),
            responses: Responses::default(),
            probes: ProbeVitals::default(),
            cgroup: CgroupVitals::default(),
            acceptor: AcceptorVitals::default(),
            readyz_seen: AtomicBool::new(false),
            listeners: Default::default(),
            answers_owed: AtomicUsize::new(0),
            predictions_owed: AtomicUsize::new(0),
            phase: AtomicU8::new(ServerPhase::Starting as u8),
        }
    }

    /// Returns the phase of the process.
    pub fn phase(&self) -> ServerPhase {
        match self.phase.load(Ordering::Acquire) {
            0 => ServerPhase::Starting,
            1 => ServerPhase::Serving,
            2 => ServerPhase::Draining,
            3 => ServerPhase::Finishing,
            _ => ServerPhase::Stopped,
        }
    }

    /// Advances to `phase`. There is no way back, so a model that loads late does not undo a drain.
    pub fn advance(&self, phase: ServerPhase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn vitals() -> Vitals {
        let clock = ProcessClock::new(Duration::from_secs(1));
        Vitals::new(clock, (4, 2), (8, 2))
    }

    #[test]
    fn a_phase_never_goes_back() {
        let vitals = vitals();
        vitals.advance(ServerPhase::Draining);
        vitals.advance(ServerPhase::Serving);
        assert_eq!(vitals.phase(), ServerPhase::Draining);
    }
}
