//! Durations, counted in buckets for Prometheus.
//!
//! Lock-free: recording adds to three atomics. The count is the sum of the buckets, so the last
//! cumulative bucket and the count never differ. The sum of durations may be off by what is being
//! recorded at the moment.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// The buckets' inclusive upper bounds: nanoseconds, and seconds as text. Text, because both
/// formats must have the same series and OpenMetrics prescribes its form.
pub const BOUNDS: [(u64, &str); 19] = [
    (50_000, "5e-05"),
    (100_000, "0.0001"),
    (250_000, "0.00025"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_500_000, "0.0025"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (25_000_000, "0.025"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (250_000_000, "0.25"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1.0"),
    (2_500_000_000, "2.5"),
    (5_000_000_000, "5.0"),
    (10_000_000_000, "10.0"),
    (30_000_000_000, "30.0"),
    (60_000_000_000, "60.0"),
];

/// The buckets, and one for durations above every bound.
const BUCKETS: usize = BOUNDS.len() + 1;

/// Times, by how long they were.
#[derive(Debug, Default)]
pub struct Histogram {
    /// How many fell into each bucket and no lower one.
    buckets: [AtomicU64; BUCKETS],
    /// The sum of durations in nanoseconds: room for 584 years.
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistogramSnapshot {
    /// How many were no longer than each bound.
    pub cumulative: [u64; BOUNDS.len()],
    /// How many there were.
    pub count: u64,
    /// All times together.
    pub sum: Duration,
}

impl Histogram {
    /// Counts a time.
    pub fn observe(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|(bound, _)| *bound < nanos);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Records the time since `began` when the returned value is dropped.
    pub fn timer(&self, began: Instant) -> Timer<'_> {
        Timer {
            histogram: self,
            began,
        }
    }

    /// Reads it.
    pub fn snapshot(&self) -> HistogramSnapshot {
        let mut count = 0;
        let mut add = |bucket: &AtomicU64| {
            count += bucket.load(Ordering::Relaxed);
            count
        };
        let sum = Duration::from_nanos(self.sum.load(Ordering::Relaxed));
        let mut cumulative = [0; BOUNDS.len()];
        for (cumulative, bucket) in cumulative.iter_mut().zip(&self.buckets) {
            *cumulative = add(bucket);
        }
        add(&self.buckets[BOUNDS.len()]);
        HistogramSnapshot {
            cumulative,
            count,
            sum,
        }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.snapshot().count
    }
}

impl HistogramSnapshot {
    /// Both together.
    pub fn plus(mut self, other: &Self) -> Self {
        for (own, more) in self.cumulative.iter_mut().zip(&other.cumulative) {
            *own += more;
        }
        self.count += other.count;
        self.sum += other.sum;
        self
    }
}

/// Something that is being timed.
#[derive(Debug)]
pub struct Timer<'a> {
    histogram: &'a Histogram,
    began: Instant,
}

impl Drop for Timer<'_> {
    fn drop(&mut self) {
        self.histogram.observe(self.began.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn bounds_rise_by_steps_and_are_written_as_what_they_are() {
        for pair in BOUNDS.windows(2) {
            let (lower, upper) = (pair[0].0, pair[1].0);
            assert!(lower < upper && upper <= lower * 3, "{pair:?}");
        }
        for (nanos, text) in BOUNDS {
            let seconds: f64 = text.parse().unwrap();
            assert_eq!((seconds * 1e9).round() as u64, nanos, "{text}");
            // OpenMetrics 1.0, "Considerations: Canonical Numbers".
            assert!(text.contains('.') || text.contains('e'), "{text}");
        }
    }

    #[test]
    fn a_time_falls_into_the_first_bucket_that_is_not_too_small() {
        #[rustfmt::skip]
        let table = [
            (0, 0), (1, 0), (50_000, 0), (50_001, 1), (100_000, 1), (999_999_999, 13),
            (1_000_000_000, 13), (1_000_000_001, 14), (60_000_000_000, 18), (60_000_000_001, 19),
            (u64::MAX / 2, 19),
        ];
        for (nanos, bucket) in table {
            let histogram = Histogram::default();
            histogram.observe(Duration::from_nanos(nanos));
            let snapshot = histogram.snapshot();
            for (index, count) in snapshot.cumulative.into_iter().enumerate() {
                assert_eq!(count, u64::from(index >= bucket), "{nanos} ns");
            }
            assert_eq!(snapshot.count, 1, "{nanos} ns");
            assert_eq!(snapshot.sum, Duration::from_nanos(nanos));
        }
    }

    #[test]
    fn nothing_is_lost_and_counts_never_fall_from_bound_to_bound() {
        let histogram = Histogram::default();
        let mut nanos = 1u64;
        let mut sum = 0;
        for _ in 0..10_000 {
            // Knuth's generator, reduced to 0 to 137 s.
            nanos = nanos
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let time = nanos >> 27;
            sum += time;
            histogram.observe(Duration::from_nanos(time));
        }
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.count, 10_000);
        assert_eq!(histogram.count(), 10_000);
        assert_eq!(snapshot.sum, Duration::from_nanos(sum));
        let pairs = snapshot.cumulative.windows(2);
        assert!(pairs.clone().all(|pair| pair[0] <= pair[1]));
        assert!(snapshot.cumulative[BOUNDS.len() - 1] <= snapshot.count);
        assert_eq!(histogram.snapshot(), snapshot, "reading changes nothing");
    }

    #[test]
    fn a_timer_counts_once_however_it_ends() {
        let histogram = Histogram::default();
        let timer = histogram.timer(clock::instant());
        assert_eq!(histogram.count(), 0);
        drop(timer);
        assert_eq!(histogram.count(), 1);
    }
}
