//! How long the workers of a lane have been on jobs, in total.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::WorkerVitals;
use crate::platform::clock::Stamp;

/// Time that workers have spent on jobs. Utilization is its growth divided by time and workers.
#[derive(Debug, Default)]
pub struct BusyTime {
    /// On finished jobs, in nanoseconds.
    ended: AtomicU64,
    /// The highest value ever reported: a counter must not decrease.
    reported: AtomicU64,
}

impl BusyTime {
    /// Adds a finished job, after its worker has become idle.
    pub fn add(&self, time: Duration) {
        self.ended.fetch_add(nanos(time), Ordering::AcqRel);
    }

    /// The time until `now`, including current jobs, so that a job of a minute does not appear all
    /// at once at its end. Jobs that workers are stuck on count too.
    pub fn total(&self, workers: &[WorkerVitals], now: Stamp) -> Duration {
        // Finished jobs are read first. A job that finishes meanwhile is then missing, never
        // counted twice, and the last reported value covers the gap.
        let ended = self.ended.load(Ordering::Acquire);
        let present = workers.iter().map(|worker| worker.busy_since.load());
        let present = present.filter(|since| *since != Stamp::NEVER);
        let present: u64 = present.map(|since| nanos(now.since(since))).sum();
        let total = ended.saturating_add(present);
        let reported = self.reported.fetch_max(total, Ordering::AcqRel);
        Duration::from_nanos(total.max(reported))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_count_while_they_last_and_the_sum_never_falls() {
        let workers = [WorkerVitals::default(), WorkerVitals::default()];
        let busy = BusyTime::default();
        let total = |now| busy.total(&workers, Stamp(now)).as_nanos();
        assert_eq!(total(5), 0);
        workers[0].busy_since.store(Stamp(10));
        assert_eq!(total(15), 5);
        workers[1].busy_since.store(Stamp(20));
        assert_eq!(total(30), 30);
        // Between becoming idle and adding its time.
        workers[0].busy_since.store(Stamp::NEVER);
        assert_eq!(total(31), 30);
        busy.add(Duration::from_nanos(21));
        assert_eq!(total(31), 32);
        assert_eq!(total(30), 32, "a clock that was read before another");
    }
}
