//! How long predictions take: a moving mean and deviation per class of body size.
//!
//! Workers write after each prediction, admission reads before each. Lock-free: mean and deviation
//! of a class share one word. Classes are powers of two, so that a large batch does not affect
//! single rows. A new model's first prediction of a class replaces its predecessor's.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bodies up to this many bytes share the first class; each further class is twice as large.
const FIRST_CLASS_BYTES: u64 = 128;

/// Enough for bodies of 64 GiB.
const CLASSES: usize = 30;

/// Gains of the moving mean and mean deviation, as for a TCP round trip (RFC 6298 section 2).
const MEAN_GAIN: f32 = 1.0 / 8.0;
const DEVIATION_GAIN: f32 = 1.0 / 4.0;

/// A moving mean, and the moving mean of the samples' deviation from it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    /// The mean.
    pub mean: f32,
    /// The mean deviation.
    pub deviation: f32,
}

/// An [`Estimate`] that several threads read and write; none before the first sample.
///
/// Two concurrent writers may lose a sample, which a mean tolerates.
#[derive(Debug)]
pub struct AtomicEstimate(AtomicU64);

impl Default for AtomicEstimate {
    fn default() -> Self {
        AtomicEstimate(AtomicU64::new(UNKNOWN))
    }
}

/// NaN twice, which no estimate is.
const UNKNOWN: u64 = u64::MAX;

impl AtomicEstimate {
    /// The estimate; `None` before the first sample.
    pub fn load(&self) -> Option<Estimate> {
        let word = self.0.load(Ordering::Relaxed);
        (word != UNKNOWN).then(|| Estimate {
            mean: f32::from_bits((word >> 32) as u32),
            deviation: f32::from_bits(word as u32),
        })
    }

    /// Writes an estimate of finite numbers.
    pub fn store(&self, estimate: Estimate) {
        let word =
            u64::from(estimate.mean.to_bits()) << 32 | u64::from(estimate.deviation.to_bits());
        self.0.store(word, Ordering::Relaxed);
    }

    /// Adds a sample with these gains. The first one becomes the mean, and half of it the
    /// deviation.
    pub fn record(&self, sample: f32, mean_gain: f32, deviation_gain: f32) {
        let next = match self.load() {
            None => Estimate {
                mean: sample,
                deviation: sample / 2.0,
            },
            Some(Estimate { mean, deviation }) => Estimate {
                deviation: deviation + deviation_gain * ((sample - mean).abs() - deviation),
                mean: mean + mean_gain * (sample - mean),
            },
        };
        self.store(next);
    }
}

/// Estimates of the duration of predictions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceTime {
    /// The mean.
    pub mean: Duration,
    /// The mean deviation.
    pub deviation: Duration,
}

/// Number of forms that a body may have: JSON, CSV, … Decoding takes another time per byte in each.
pub const FORMS: usize = 5;

/// Service times by the form and the size of the body.
#[derive(Debug, Default)]
pub struct ServiceTimes {
    forms: [[SizeClassTimes; CLASSES]; FORMS],
    /// The duration of the model's trial: the only estimate before the first prediction.
    trial_nanos: AtomicU64,
    /// Time for one row, in nanoseconds.
    row: AtomicEstimate,
    /// The duration of the longest of the last batches.
    large_nanos: AtomicU64,
}

#[derive(Debug, Default)]
struct SizeClassTimes {
    nanos: AtomicEstimate,
    /// The version of the model that the last sample comes from.
    version: AtomicU64,
}

impl ServiceTimes {
    /// Adds the duration of a prediction from a body of this form and so many bytes with the model of
    /// `version`.
    pub fn record(&self, (form, bytes): (usize, usize), sample: Duration, version: u64) {
        let class = &self.forms[form][class(bytes)];
        if class.version.swap(version, Ordering::Relaxed) != version {
            class.nanos.0.store(UNKNOWN, Ordering::Relaxed);
        }
        class
            .nanos
            .record(sample.as_nanos() as f32, MEAN_GAIN, DEVIATION_GAIN);
    }

    /// Adds the duration of a model's trial.
    pub fn record_trial(&self, sample: Duration) {
        let nanos = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        self.trial_nanos.store(nanos, Ordering::Relaxed);
    }

    /// Adds the duration of some rows.
    pub fn record_rows(&self, rows: usize, sample: Duration) {
        let row = sample.as_nanos() as f32 / rows.max(1) as f32;
        self.row.record(row, MEAN_GAIN, DEVIATION_GAIN);
    }

    /// Adds the duration of a batch that was computed in slices.
    pub fn record_large(&self, sample: Duration) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let longest = self.large_nanos.load(Ordering::Relaxed);
        // If they become shorter, it halves after about ninety batches.
        let next = sample.max(longest - longest / 128);
        self.large_nanos.store(next, Ordering::Relaxed);
    }

    /// The duration of the longest of the last batches; zero before the first.
    pub fn longest_large(&self) -> Duration {
        Duration::from_nanos(self.large_nanos.load(Ordering::Relaxed))
    }

    /// How many rows the model computes in `time`; `None` before its first prediction.
    pub fn rows_within(&self, time: Duration) -> Option<usize> {
        let row = self.row.load()?.mean.max(1.0);
        // Casts saturate.
        Some((time.as_nanos() as f32 / row) as usize)
    }

    /// Estimates the duration of a prediction from a body of this form and so many bytes.
    ///
    /// A form without samples gets the estimate of another, and a class without samples that of the
    /// next smaller one. That is too low rather
    /// than too high, because admitted predictions correct an estimate and refused ones cannot.
    /// From a larger class it is scaled in proportion.
    pub fn expected(&self, (form, bytes): (usize, usize)) -> ServiceTime {
        let others = (0..FORMS).filter(|other| *other != form);
        let mut forms = std::iter::once(form).chain(others);
        match forms.find_map(|form| estimate(&self.forms[form], bytes)) {
            Some(Estimate { mean, deviation }) => ServiceTime {
                mean: nanos(mean),
                deviation: nanos(deviation),
            },
            None => ServiceTime {
                mean: Duration::from_nanos(self.trial_nanos.load(Ordering::Relaxed)),
                deviation: Duration::ZERO,
            },
        }
    }

    /// Estimates the duration of so many rows; `None` before a batch of several was computed.
    pub fn of_rows(&self, rows: usize) -> Option<Duration> {
        let row = self.row.load()?.mean;
        Some(nanos(row * rows as f32))
    }
}

/// The estimate of one form; `None` without any sample.
fn estimate(classes: &[SizeClassTimes; CLASSES], bytes: usize) -> Option<Estimate> {
    let own = class(bytes);
    let known = |class: usize| classes[class].nanos.load();
    let smaller = (0..=own).rev().find_map(known);
    let larger = || {
        let mut classes = own + 1..CLASSES;
        let (class, found) = classes.find_map(|class| Some((class, known(class)?)))?;
        let part = 0.5_f32.powi((class - own) as i32);
        Some(Estimate {
            mean: found.mean * part,
            deviation: found.deviation * part,
        })
    };
    smaller.or_else(larger)
}

/// Casts saturate.
fn nanos(value: f32) -> Duration {
    Duration::from_nanos(value as u64)
}

fn class(bytes: usize) -> usize {
    let multiple = (bytes as u64).div_ceil(FIRST_CLASS_BYTES).max(1);
    (multiple.next_power_of_two().trailing_zeros() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROW: usize = 40;

    fn millis(duration: Duration) -> u128 {
        (duration + Duration::from_micros(10)).as_millis()
    }

    #[test]
    fn the_longest_request_is_forgotten_after_some_shorter_ones() {
        let times = ServiceTimes::default();
        assert_eq!(times.longest_large(), Duration::ZERO);
        let millis = Duration::from_millis;
        for (sample, rounds, expected) in
            [(20, 1, 20..=20), (200, 1, 200..=200), (20, 88, 90..=110)]
        {
            (0..rounds).for_each(|_| times.record_large(millis(sample)));
            let found = times.longest_large().as_millis();
            assert!(expected.contains(&found), "{found}");
        }
        (0..300).for_each(|_| times.record_large(millis(20)));
        assert_eq!(times.longest_large(), millis(20));
    }

    #[test]
    fn sizes_fall_into_classes_of_powers_of_two() {
        let classes = [0, 1, 128, 129, 256, 257, 512, 16 << 20, usize::MAX].map(class);
        assert_eq!(classes, [0, 0, 0, 1, 1, 2, 2, 17, CLASSES - 1]);
    }

    #[test]
    fn large_requests_say_nothing_about_single_rows() {
        let times = ServiceTimes::default();
        times.record((0, ROW), Duration::from_millis(5), 1);
        times.record((0, 1 << 20), Duration::from_secs(2), 1);
        assert_eq!(millis(times.expected((0, ROW)).mean), 5);
        assert_eq!(millis(times.expected((0, 1 << 20)).mean), 2000);
    }

    #[test]
    fn a_size_that_was_never_seen_is_reckoned_from_its_neighbours() {
        let times = ServiceTimes::default();
        assert_eq!(times.expected((0, ROW)), ServiceTime::default());
        times.record_trial(Duration::from_millis(3));
        assert_eq!(times.expected((0, 1 << 20)).mean, Duration::from_millis(3));
        times.record((0, 1024), Duration::from_millis(80), 1);
        assert_eq!(millis(times.expected((0, 4096)).mean), 80, "from below");
        assert_eq!(
            millis(times.expected((0, 256)).mean),
            20,
            "from above, in proportion"
        );
    }

    #[test]
    fn the_mean_follows_and_the_deviation_tells_how_far_it_is_to_be_trusted() {
        let times = ServiceTimes::default();
        for _ in 0..64 {
            times.record((0, ROW), Duration::from_millis(8), 1);
        }
        let steady = times.expected((0, ROW));
        assert_eq!(millis(steady.mean), 8);
        assert!(steady.deviation < Duration::from_micros(10));
        for _ in 0..16 {
            times.record((0, ROW), Duration::from_millis(80), 1);
        }
        assert!(times.expected((0, ROW)).mean > Duration::from_millis(70));
        for sample in [4, 12].repeat(32) {
            times.record((0, ROW), Duration::from_millis(sample), 1);
        }
        let spread = times.expected((0, ROW)).deviation.as_secs_f64();
        assert!((spread - 0.004).abs() < 0.001, "{spread}");
    }

    #[test]
    fn the_first_prediction_of_a_new_model_replaces_what_the_old_one_took() {
        let times = ServiceTimes::default();
        times.record((0, ROW), Duration::from_millis(900), 1);
        times.record((0, ROW), Duration::from_millis(9), 2);
        assert_eq!(millis(times.expected((0, ROW)).mean), 9);
    }

    #[test]
    fn rows_are_reckoned_by_what_one_takes() {
        let times = ServiceTimes::default();
        assert_eq!(times.rows_within(Duration::from_millis(5)), None);
        times.record_rows(10, Duration::from_millis(10));
        assert_eq!(times.rows_within(Duration::from_millis(5)), Some(5));
        assert_eq!(times.of_rows(16).map(millis), Some(16));
    }
}
