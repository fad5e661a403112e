//! The work that a lane has admitted and that waits, as estimated durations.
//!
//! Connection threads add to it on admission, workers subtract from it when they start a job, and
//! giving up a job subtracts its part. Each part is a [`Reservation`], so that it is subtracted
//! exactly once, whatever happens to the job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::Vitals;
use crate::platform::clock::Stamp;

/// The unfinished work that the prediction lane has admitted.
#[derive(Debug, Default)]
pub struct AdmittedWork {
    /// Admitted jobs that no worker has taken, in the queue or on their way to it.
    admitted: AtomicUsize,
    /// Their estimated durations, in nanoseconds.
    waiting: AtomicU64,
    /// The estimated durations of their first turns, in nanoseconds.
    first_slices: AtomicU64,
    /// The remaining work of executions beyond their present turns, in nanoseconds.
    suspended: AtomicU64,
    /// The estimated durations of jobs whose bodies are being read.
    coming: [Coming; 4],
}

/// Work whose bodies began to arrive in one [`PERIOD`]: the period's number in the upper bits, and
/// the sum in microseconds in the lower bits.
type Coming = AtomicU64;

/// A body that has not arrived within one or two of these no longer counts: a slow client would
/// keep others out.
const PERIOD: u64 = 500_000_000;
const SUM_BITS: u32 = 40;
const SUM_MAX: u64 = (1 << SUM_BITS) - 1;

/// The estimated duration of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// In all.
    pub whole: Duration,
    /// Of its first turn: the whole, unless it is computed in slices.
    pub slice: Duration,
}

impl AdmittedWork {
    /// Admitted jobs that no worker has taken.
    pub fn admitted(&self) -> usize {
        self.admitted.load(Ordering::Acquire)
    }

    /// Their estimated duration.
    pub fn waiting(&self) -> Duration {
        Duration::from_nanos(self.waiting.load(Ordering::Acquire))
    }

    /// The estimated duration of their first turns.
    pub fn first_slices(&self) -> Duration {
        Duration::from_nanos(self.first_slices.load(Ordering::Acquire))
    }

    /// The estimated duration of jobs whose bodies have recently begun to arrive.
    pub fn coming(&self, now: Stamp) -> Duration {
        let period = now.0 / PERIOD;
        let sums = self.coming.iter().map(|coming| {
            let word = coming.load(Ordering::Acquire);
            let is_late = (word >> SUM_BITS) + 1 < period;
            if is_late { 0 } else { word & SUM_MAX }
        });
        Duration::from_micros(sums.sum())
    }

    /// The remaining work of suspended executions.
    pub fn suspended(&self) -> Duration {
        Duration::from_nanos(self.suspended.load(Ordering::Acquire))
    }
}

/// One job's part of the work, and its place in the queue; dropping it gives both back.
#[derive(Debug)]
pub struct Reservation {
    vitals: Arc<Vitals>,
    cost: Cost,
    has_place: AtomicBool,
    has_work: AtomicBool,
}

impl Reservation {
    /// Reserves a place and adds a job's work; `None` if `places` are taken.
    pub fn new(vitals: &Arc<Vitals>, cost: Cost, places: usize) -> Option<Self> {
        let work = &vitals.predict.work;
        let next = |admitted: usize| (admitted < places).then_some(admitted + 1);
        work.admitted
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, next)
            .ok()?;
        work.waiting.fetch_add(nanos(cost.whole), Ordering::AcqRel);
        work.first_slices
            .fetch_add(nanos(cost.slice), Ordering::AcqRel);
        Some(Reservation {
            vitals: Arc::clone(vitals),
            cost,
            has_place: AtomicBool::new(true),
            has_work: AtomicBool::new(true),
        })
    }

    /// The estimated duration of the job.
    pub fn cost(&self) -> Cost {
        self.cost
    }

    /// Nobody will work on it, although it may stay in the queue for a while.
    pub fn give_up(&self) {
        if self.has_work.swap(false, Ordering::AcqRel) {
            let work = &self.vitals.predict.work;
            work.waiting
                .fetch_sub(nanos(self.cost.whole), Ordering::AcqRel);
            work.first_slices
                .fetch_sub(nanos(self.cost.slice), Ordering::AcqRel);
        }
    }

    /// A worker has it.
    pub fn take_up(&self) {
        self.give_up();
        if self.has_place.swap(false, Ordering::AcqRel) {
            let work = &self.vitals.predict.work;
            work.admitted.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.take_up();
    }
}

/// A job whose body is being read, until this is dropped or the body is late.
#[derive(Debug)]
pub struct Announced {
    vitals: Arc<Vitals>,
    period: u64,
    micros: u64,
}

impl Announced {
    /// Adds the estimated duration of the job.
    pub fn new(vitals: &Arc<Vitals>, cost: Cost, now: Stamp) -> Self {
        let announced = Announced {
            vitals: Arc::clone(vitals),
            period: now.0 / PERIOD,
            micros: nanos(cost.whole) / 1000,
        };
        announced.update(|sum| Some(sum.unwrap_or(0) + announced.micros));
        announced
    }

    /// Changes the sum of its period; `None` is what another period left.
    fn update(&self, next: impl Fn(Option<u64>) -> Option<u64>) {
        let place = (self.period % 4) as usize;
        let change = |word: u64| {
            let own = (word >> SUM_BITS == self.period).then_some(word & SUM_MAX);
            next(own).map(|sum| self.period << SUM_BITS | sum.min(SUM_MAX))
        };
        let coming = &self.vitals.predict.work.coming[place];
        // If it is unchanged, another period has the place.
        let _ = coming.fetch_update(Ordering::AcqRel, Ordering::Acquire, change);
    }
}

impl Drop for Announced {
    fn drop(&mut self) {
        self.update(|sum| Some(sum?.saturating_sub(self.micros)));
    }
}

/// The remaining work of an execution beyond its present turn.
#[derive(Debug)]
pub struct RemainingWork {
    vitals: Arc<Vitals>,
    nanos: u64,
}

impl RemainingWork {
    /// Adds the remaining work until this is dropped.
    pub fn new(vitals: &Arc<Vitals>, remaining: Duration) -> Self {
        let nanos = nanos(remaining);
        vitals
            .predict
            .work
            .suspended
            .fetch_add(nanos, Ordering::AcqRel);
        RemainingWork {
            vitals: Arc::clone(vitals),
            nanos,
        }
    }

    /// It now has a turn of that length.
    pub fn take(&mut self, slice: Duration) {
        let less = nanos(slice).min(self.nanos);
        self.nanos -= less;
        let work = &self.vitals.predict.work;
        work.suspended.fetch_sub(less, Ordering::AcqRel);
    }
}

impl Drop for RemainingWork {
    fn drop(&mut self) {
        let work = &self.vitals.predict.work;
        work.suspended.fetch_sub(self.nanos, Ordering::AcqRel);
    }
}

/// At most an hour, so that a million of them can be summed.
fn nanos(duration: Duration) -> u64 {
    const HOUR: u64 = 3_600_000_000_000;
    u64::try_from(duration.as_nanos()).map_or(HOUR, |nanos| nanos.min(HOUR))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock::ProcessClock;

    fn vitals() -> Arc<Vitals> {
        let clock = ProcessClock::new(Duration::from_secs(1));
        Arc::new(Vitals::new(clock, (2, 1), (1, 1)))
    }

    const COST: Cost = Cost {
        whole: Duration::from_millis(80),
        slice: Duration::from_millis(5),
    };

    #[test]
    fn what_is_claimed_is_given_back_once_whatever_becomes_of_the_job() {
        let vitals = vitals();
        let work = &vitals.predict.work;
        assert!(!vitals.predict.is_occupied());
        let first = Reservation::new(&vitals, COST, 2).unwrap();
        assert!(vitals.predict.is_occupied(), "it is on its way");
        let second = Reservation::new(&vitals, COST, 2).unwrap();
        assert!(
            Reservation::new(&vitals, COST, 2).is_none(),
            "both places are taken"
        );
        assert_eq!(work.waiting(), COST.whole * 2);
        assert_eq!(work.first_slices(), COST.slice * 2);
        first.give_up();
        first.give_up();
        assert_eq!((work.admitted(), work.waiting()), (2, COST.whole));
        first.take_up();
        drop(first);
        assert_eq!((work.admitted(), work.waiting()), (1, COST.whole));
        drop(second);
        assert_eq!((work.admitted(), work.waiting()), (0, Duration::ZERO));
        assert_eq!(work.first_slices(), Duration::ZERO);
        let at = |millis: u64| Stamp(10_000_000_000 + millis * 1_000_000);
        let (first, second) = (
            Announced::new(&vitals, COST, at(0)),
            Announced::new(&vitals, COST, at(600)),
        );
        assert_eq!(work.coming(at(700)), COST.whole * 2);
        assert_eq!(work.coming(at(1100)), COST.whole, "the first is late");
        drop(second);
        assert_eq!(work.coming(at(700)), COST.whole);
        let third = Announced::new(&vitals, COST, at(2000));
        drop(first);
        assert_eq!(
            work.coming(at(2000)),
            COST.whole,
            "it has the place of the first"
        );
        drop(third);
        assert_eq!(work.coming(at(2000)), Duration::ZERO);
        let mut remaining = RemainingWork::new(&vitals, COST.whole);
        assert_eq!(work.suspended(), COST.whole);
        remaining.take(COST.slice);
        assert_eq!(work.suspended(), COST.whole - COST.slice);
        remaining.take(COST.whole);
        assert_eq!(work.suspended(), Duration::ZERO);
        drop(remaining);
        assert_eq!(work.suspended(), Duration::ZERO);
    }
}
