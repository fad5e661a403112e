//! For how long the workers of a lane have been on jobs, all together.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::WorkerVitals;
use crate::platform::clock::Stamp;

/// The time that workers have spent on jobs: a utilization is its growth over time and workers.
#[derive(Debug, Default)]
pub struct BusyTime {
    /// On jobs that have ended, in nanoseconds.
    ended: AtomicU64,
    /// The most that was ever told: a counter must not fall.
    reported: AtomicU64,
}

impl BusyTime {
    /// Adds a job that has ended, after its worker has said that it is idle.
    pub fn add(&self, time: Duration) {
        self.ended.fetch_add(nanos(time), Ordering::AcqRel);
    }

    /// The time until `now`, with that of jobs which are being worked on: one that takes a minute is
    /// no news of a minute at its end. Those that workers are stuck on count too.
    pub fn total(&self, workers: &[WorkerVitals], now: Stamp) -> Duration {
        // What has ended is read first. A job that ends meanwhile is then missing, and never counted
        // twice, and what was told before makes up for it.
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
        // Between saying that it is idle and adding its time.
        workers[0].busy_since.store(Stamp::NEVER);
        assert_eq!(total(31), 30);
        busy.add(Duration::from_nanos(21));
        assert_eq!(total(31), 32);
        assert_eq!(total(30), 32, "a clock that was read before another");
    }
}
