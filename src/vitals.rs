//! Every time stamp and counter of the process, as atomics.
//!
//! A leaf: whoever owns a fact writes it here, and probes, `/statusz` and admission read it. It is
//! the only thing that the two lanes share. Nothing here judges (that is `health`) and no lock is
//! held here across anything but a copy.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::clock::{ProcessClock, Stamp};

/// Where the process stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The model is not loaded and tried yet.
    Starting = 0,
    /// Predictions are served.
    Serving = 1,
    /// Told to end: `/readyz` says so, everything else goes on for the grace period.
    Draining = 2,
    /// New predictions are refused, admitted ones are finished.
    Finishing = 3,
    /// What is left is refused.
    Stopped = 4,
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
}

/// Something counted from 0 since the process started.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Counts one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Returns the count.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts an answer that a client is owed, until it is given or cannot be.
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

/// One worker thread of a lane.
#[derive(Debug, Default)]
pub struct WorkerVitals {
    /// Whether the thread runs.
    pub alive: AtomicBool,
    /// Since when it has been on its present job; never if it is idle.
    pub busy_since: AtomicStamp,
}

/// One lane: its queue and its workers.
#[derive(Debug)]
pub struct LaneVitals {
    /// The most jobs that may wait.
    pub queue_capacity: usize,
    /// Jobs that wait now.
    pub queue_length: AtomicUsize,
    /// When the queue last went from empty to not empty.
    pub filled_at: AtomicStamp,
    /// When a worker last took a job up.
    pub taken_at: AtomicStamp,
    /// When a worker last finished a job, whatever became of its answer.
    pub completed_at: AtomicStamp,
    /// Jobs that workers took up and finished.
    pub completed: Counter,
    /// The workers, by index.
    pub workers: Box<[WorkerVitals]>,
    /// Moving average of the service time in nanoseconds; 0 before the first completion.
    service_nanos: AtomicU64,
}

impl LaneVitals {
    fn new(queue_capacity: usize, workers: usize) -> Self {
        LaneVitals {
            queue_capacity,
            queue_length: AtomicUsize::new(0),
            filled_at: AtomicStamp::default(),
            taken_at: AtomicStamp::default(),
            completed_at: AtomicStamp::default(),
            completed: Counter::default(),
            workers: (0..workers).map(|_| WorkerVitals::default()).collect(),
            service_nanos: AtomicU64::new(0),
        }
    }

    /// Number of workers on a job now.
    pub fn busy(&self) -> usize {
        let busy = |worker: &&WorkerVitals| worker.busy_since.load() != Stamp::NEVER;
        self.workers.iter().filter(busy).count()
    }

    /// Whether a job waits or is in service.
    pub fn is_occupied(&self) -> bool {
        self.queue_length.load(Ordering::Relaxed) > 0 || self.busy() > 0
    }

    /// Mean service time, following changes over about eight jobs; zero before the first.
    pub fn service_time(&self) -> Duration {
        Duration::from_nanos(self.service_nanos.load(Ordering::Relaxed))
    }

    /// Takes a service time into the mean.
    ///
    /// Two workers that finish at once may lose one sample; a mean can bear that.
    pub fn record_service_time(&self, sample: Duration) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.service_nanos.load(Ordering::Relaxed);
        let next = if mean == 0 {
            sample
        } else {
            mean - mean / 8 + sample / 8
        };
        self.service_nanos.store(next.max(1), Ordering::Relaxed);
    }
}

/// What the last trial of the model said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialVerdict {
    /// No trial has ended yet.
    Untried,
    /// The model gave the expected answer.
    Passed,
    /// It did not, and why.
    Failed(Arc<str>),
}

/// How many requests ended how.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: Counter,
    /// What clients did that cost them their connection or their answer.
    pub clients: ClientCounts,
    /// Predictions answered 200.
    pub predicted: Counter,
    /// Predictions answered 4xx: the client's input was wrong.
    pub rejected: Counter,
    /// Predictions answered 500 because the model panicked or returned an error.
    pub failed: Counter,
    /// Predictions for which the model panicked.
    pub panicked: Counter,
    /// Predictions answered 500 because the thread that worked on them ended.
    pub lost: Counter,
    /// Predictions refused on arrival: lane full, loading, draining.
    pub refused: Counter,
    /// Predictions that waited longer than `--max-wait`.
    pub expired: Counter,
    /// Admitted predictions not done within `--request-timeout`.
    pub deadline_exceeded: Counter,
    /// Probes answered.
    pub probes: Counter,
    /// Threads that ended by a panic and were replaced.
    pub threads_replaced: Counter,
}

/// What clients did that cost them their connection or their answer, by reason.
#[derive(Debug, Default)]
pub struct ClientCounts {
    /// Connections closed in favour of new ones.
    pub evicted: Counter,
    /// Connections refused because every other was owed an answer.
    pub refused: Counter,
    /// Connections refused over `--max-connections-per-address`.
    pub per_address: Counter,
    /// Requests that were not sound HTTP, answered 400, 417, 501 or 505.
    pub malformed: Counter,
    /// Request heads over a limit, answered 431.
    pub head_too_large: Counter,
    /// Request heads that did not arrive in time, answered 408.
    pub head_timeout: Counter,
    /// Request bodies that did not arrive in time, answered 408.
    pub body_timeout: Counter,
    /// Bodies or batches over a limit, answered 413.
    pub content_too_large: Counter,
    /// Answers that were not taken in time.
    pub write_timeout: Counter,
    /// Clients that left before they had their prediction.
    pub abandoned: Counter,
    /// Requests refused because the memory budget was spent, answered 503.
    pub over_budget: Counter,
}

impl ClientCounts {
    /// Every reason: its name, what happened in words, and its count.
    pub fn by_reason(&self) -> [(&'static str, &'static str, &Counter); 11] {
        [
            (
                "evicted",
                "connections were closed in favour of new ones (--max-connections)",
                &self.evicted,
            ),
            (
                "refused",
                "connections were refused, as every other was owed an answer (--max-connections)",
                &self.refused,
            ),
            (
                "per_address",
                "connections were refused to addresses that had enough (--max-connections-per-address)",
                &self.per_address,
            ),
            ("malformed", "requests were not sound HTTP", &self.malformed),
            (
                "head_too_large",
                "request heads were too large (--max-head, --max-fields)",
                &self.head_too_large,
            ),
            (
                "head_timeout",
                "request heads did not arrive in time (--head-timeout)",
                &self.head_timeout,
            ),
            (
                "body_timeout",
                "request bodies did not arrive in time (--body-timeout, --min-body-rate)",
                &self.body_timeout,
            ),
            (
                "content_too_large",
                "requests were too large (--max-body, --max-rows)",
                &self.content_too_large,
            ),
            (
                "write_timeout",
                "answers were not taken in time (--write-timeout)",
                &self.write_timeout,
            ),
            (
                "abandoned",
                "clients left before they had their prediction",
                &self.abandoned,
            ),
            (
                "over_budget",
                "requests were refused for want of memory (--max-buffered)",
                &self.over_budget,
            ),
        ]
    }
}

/// All there is to know about the process at a glance.
#[derive(Debug)]
pub struct Vitals {
    /// The clock all stamps here are read from.
    pub clock: ProcessClock,
    /// When the process started.
    pub started_at: Stamp,
    /// The prediction lane.
    pub predict: LaneVitals,
    /// The probe lane.
    pub probe: LaneVitals,
    /// Counters.
    pub counts: Counts,
    /// Whether a model is loaded and was tried.
    pub loaded: AtomicBool,
    /// When a real prediction last succeeded.
    pub succeeded_at: AtomicStamp,
    /// Whether anybody asked `/readyz` since the start.
    pub readyz_seen: AtomicBool,
    /// Open connections on the main and the probe listener.
    pub open_connections: [AtomicUsize; 2],
    /// Answers of any kind that are being waited for or written.
    pub answers_owed: AtomicUsize,
    /// Answers to predictions that were sent to the lane and are not written yet.
    pub predictions_owed: AtomicUsize,
    phase: AtomicU8,
    trial: Mutex<TrialVerdict>,
}

impl Vitals {
    /// Makes the vitals of a process with these two lanes, (queue capacity, workers) each.
    pub fn new(clock: ProcessClock, predict: (usize, usize), probe: (usize, usize)) -> Self {
        Vitals {
            started_at: clock.now(),
            clock,
            predict: LaneVitals::new(predict.0, predict.1),
            probe: LaneVitals::new(probe.0, probe.1),
            counts: Counts::default(),
            loaded: AtomicBool::new(false),
            succeeded_at: AtomicStamp::default(),
            readyz_seen: AtomicBool::new(false),
            open_connections: [AtomicUsize::new(0), AtomicUsize::new(0)],
            answers_owed: AtomicUsize::new(0),
            predictions_owed: AtomicUsize::new(0),
            phase: AtomicU8::new(Phase::Starting as u8),
            trial: Mutex::new(TrialVerdict::Untried),
        }
    }

    /// Where the process stands in its life.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Starting,
            1 => Phase::Serving,
            2 => Phase::Draining,
            3 => Phase::Finishing,
            _ => Phase::Stopped,
        }
    }

    /// Moves on to `phase`; there is no way back, so a model that loads late does not undo a drain.
    pub fn advance(&self, phase: Phase) {
        self.phase.fetch_max(phase as u8, Ordering::AcqRel);
    }

    /// What the last trial said.
    pub fn trial(&self) -> TrialVerdict {
        // A poisoned lock holds a whole verdict all the same: it is replaced in one assignment.
        self.trial
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Notes what a trial said and returns the verdict before it.
    pub fn set_trial(&self, verdict: TrialVerdict) -> TrialVerdict {
        let mut last = self.trial.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut last, verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vitals() -> Vitals {
        let clock = ProcessClock::new(Duration::from_secs(1));
        Vitals::new(clock, (4, 2), (8, 2))
    }

    #[test]
    fn a_phase_never_goes_back() {
        let vitals = vitals();
        vitals.advance(Phase::Draining);
        vitals.advance(Phase::Serving);
        assert_eq!(vitals.phase(), Phase::Draining);
    }

    #[test]
    fn mean_service_time_starts_at_the_first_sample_and_follows() {
        let lane = vitals().predict;
        assert_eq!(lane.service_time(), Duration::ZERO);
        lane.record_service_time(Duration::from_millis(80));
        assert_eq!(lane.service_time(), Duration::from_millis(80));
        for _ in 0..64 {
            lane.record_service_time(Duration::from_millis(8));
        }
        assert!(lane.service_time() < Duration::from_millis(9));
    }
}
