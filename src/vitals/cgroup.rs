//! Limits and counts of the control groups, as the main thread last read them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::platform::cgroup::{CgroupReading, Throttling};

/// A number that may not be there.
#[derive(Debug)]
struct Optional(AtomicU64);

impl Optional {
    /// These bits are NaN, so they are no count of bytes, periods or nanoseconds, and no quota.
    const NONE: u64 = u64::MAX;

    fn store(&self, value: Option<u64>) {
        self.0.store(value.unwrap_or(Self::NONE), Ordering::Relaxed);
    }

    fn load(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|value| *value != Self::NONE)
    }
}

impl Default for Optional {
    fn default() -> Self {
        Optional(AtomicU64::new(Self::NONE))
    }
}

/// The last reading; a concurrent reader may see a replacement in part.
#[derive(Debug, Default)]
pub struct CgroupVitals {
    /// As `f64::to_bits` has it.
    cpu_quota: Optional,
    throttled_periods: Optional,
    throttled_nanos: Optional,
    memory_bytes: Optional,
    memory_bytes_max: Optional,
}

impl CgroupVitals {
    /// Keeps a reading.
    pub fn store(&self, reading: &CgroupReading) {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX - 1);
        let throttling = reading.throttling;
        self.cpu_quota.store(reading.cpu_quota.map(f64::to_bits));
        self.throttled_periods
            .store(throttling.map(|throttling| throttling.periods));
        self.throttled_nanos
            .store(throttling.map(|throttling| nanos(throttling.time)));
        self.memory_bytes.store(reading.memory_bytes);
        self.memory_bytes_max.store(reading.memory_bytes_max);
    }

    /// Returns the last reading; everything is absent before the first.
    pub fn load(&self) -> CgroupReading {
        let periods = self.throttled_periods.load();
        let nanos = self.throttled_nanos.load();
        CgroupReading {
            cpu_quota: self.cpu_quota.load().map(f64::from_bits),
            throttling: periods.zip(nanos).map(|(periods, nanos)| Throttling {
                periods,
                time: Duration::from_nanos(nanos),
            }),
            memory_bytes: self.memory_bytes.load(),
            memory_bytes_max: self.memory_bytes_max.load(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_is_loaded_and_nothing_is_there_at_first() {
        let vitals = CgroupVitals::default();
        assert_eq!(vitals.load(), CgroupReading::default());
        let reading = CgroupReading {
            cpu_quota: Some(1.5),
            throttling: Some(Throttling {
                periods: 0,
                time: Duration::from_micros(1500),
            }),
            memory_bytes: Some(4096),
            memory_bytes_max: None,
        };
        vitals.store(&reading);
        assert_eq!(vitals.load(), reading);
        vitals.store(&CgroupReading::default());
        assert_eq!(vitals.load(), CgroupReading::default());
    }
}
