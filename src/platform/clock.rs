//! Time, read in one place: [`instant`] for deadlines that a client or an operator sees, and
//! [`ProcessClock`] for verdicts.
//!
//! The process clock counts only time in which the process ran. A stopped process (SIGSTOP, a
//! frozen cgroup, a suspended machine) wakes up with its main-thread tick overdue. While the tick
//! is overdue the clock stands still, and the tick then subtracts the lost time from every age.
//! Without this, every running prediction would look stuck after waking up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Reads the monotonic clock; the only place that does.
#[allow(clippy::disallowed_methods)] // the one place the ban leaves open
pub fn instant() -> Instant {
    Instant::now()
}

/// A point in process time, in nanoseconds since the clock was made; 0 stands for "never".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// What has not happened yet.
    pub const NEVER: Stamp = Stamp(0);

    /// Returns how long ago `earlier` was, or zero if it is in the future.
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

#[derive(Debug, Clone)]
enum ClockSource {
    Monotonic(Instant),
    Manual(Arc<AtomicU64>),
}

impl ClockSource {
    fn nanos(&self) -> u64 {
        match self {
            ClockSource::Monotonic(origin) => {
                u64::try_from(instant().duration_since(*origin).as_nanos()).unwrap_or(u64::MAX)
            }
            ClockSource::Manual(nanos) => nanos.load(Ordering::Acquire),
        }
    }
}

/// A clock that stands still while the process does.
///
/// Invariant: `ticked` is written after `lost`, and read before it. A reader that sees a tick sees
/// what that tick subtracted; one that does not computes the same loss from the overdue tick.
#[derive(Debug)]
pub struct ProcessClock {
    source: ClockSource,
    /// Maximum time until the next tick, in nanoseconds.
    tick: u64,
    /// How late a tick may be before its lateness counts as time the process did not run.
    tolerance: u64,
    lost: AtomicU64,
    ticked: AtomicU64,
}

impl ProcessClock {
    /// Makes a clock whose owner promises to call [`tick`](Self::tick) at least every `tick`.
    ///
    /// A tick later than `tick` again, at most a second, means that the process was stopped.
    pub fn new(tick: Duration) -> Self {
        Self::with_source(ClockSource::Monotonic(instant()), tick)
    }

    /// Makes a clock that shows what `nanos` holds, for tests.
    pub fn manual(nanos: Arc<AtomicU64>, tick: Duration) -> Self {
        Self::with_source(ClockSource::Manual(nanos), tick)
    }

    fn with_source(source: ClockSource, tick: Duration) -> Self {
        let tick = u64::try_from(tick.as_nanos()).unwrap_or(u64::MAX / 4);
        ProcessClock {
            ticked: AtomicU64::new(source.nanos()),
            source,
            tick,
            tolerance: tick.clamp(50_000_000, 1_000_000_000),
            lost: AtomicU64::new(0),
        }
    }

    /// Returns the present point in process time; never [`Stamp::NEVER`].
    pub fn now(&self) -> Stamp {
        let raw = self.source.nanos();
        let ticked = self.ticked.load(Ordering::Acquire);
        let process = raw.saturating_sub(self.lost.load(Ordering::Acquire));
        let due = ticked.saturating_add(self.tick);
        let now = if process.saturating_sub(due) > self.tolerance {
            due
        } else {
            process
        };
        Stamp(now.max(1))
    }

    /// Records that the process runs; the main thread calls it at every turn.
    pub fn tick(&self) {
        let process = self
            .source
            .nanos()
            .saturating_sub(self.lost.load(Ordering::Acquire));
        let due = self
            .ticked
            .load(Ordering::Acquire)
            .saturating_add(self.tick);
        let late = process.saturating_sub(due);
        if late > self.tolerance {
            self.lost.fetch_add(late, Ordering::AcqRel);
            self.ticked.store(due, Ordering::Release);
        } else {
            self.ticked.store(process, Ordering::Release);
        }
    }

    /// Returns how much time the process has lost to being stopped.
    pub fn lost(&self) -> Duration {
        Duration::from_nanos(self.lost.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn clock() -> (Arc<AtomicU64>, ProcessClock) {
        let nanos = Arc::new(AtomicU64::new(SECOND));
        let clock = ProcessClock::manual(Arc::clone(&nanos), Duration::from_secs(1));
        (nanos, clock)
    }

    #[test]
    fn time_passes_while_ticks_come() {
        let (nanos, clock) = clock();
        let start = clock.now();
        for _ in 0..90 {
            nanos.fetch_add(SECOND, Ordering::AcqRel);
            clock.tick();
        }
        assert_eq!(clock.now().since(start), Duration::from_secs(90));
        assert_eq!(clock.lost(), Duration::ZERO);
    }

    #[test]
    fn a_stopped_process_does_not_age_before_or_after_its_overdue_tick() {
        let (nanos, clock) = clock();
        let start = clock.now();
        nanos.fetch_add(3600 * SECOND, Ordering::AcqRel);
        assert_eq!(clock.now().since(start), Duration::from_secs(1));
        clock.tick();
        assert_eq!(clock.now().since(start), Duration::from_secs(1));
        assert_eq!(clock.lost(), Duration::from_secs(3599));
        nanos.fetch_add(SECOND, Ordering::AcqRel);
        assert_eq!(clock.now().since(start), Duration::from_secs(2));
    }

    #[test]
    fn a_tick_that_is_a_little_late_costs_no_time() {
        let (nanos, clock) = clock();
        let start = clock.now();
        nanos.fetch_add(SECOND * 19 / 10, Ordering::AcqRel);
        assert_eq!(clock.now().since(start), Duration::from_millis(1900));
        clock.tick();
        assert_eq!(clock.now().since(start), Duration::from_millis(1900));
    }
}
