//! Probes: how many, and their answers.
//!
//! Written by connection threads, which see a probe from beginning to end.

use std::time::Duration;

use super::Counter;

/// The probes, in the order of `ProbeKind`.
const PROBES: [&str; 4] = ["livez", "readyz", "startupz", "statusz"];

/// The status codes of answers to probes; 429 and 504 are for `/statusz` and a lost acceptor.
const STATUSES: [u16; 5] = [200, 429, 500, 503, 504];

/// Probes that were answered.
#[derive(Debug, Default)]
pub struct ProbeVitals {
    answers: [[Counter; STATUSES.len()]; PROBES.len()],
}

impl ProbeVitals {
    /// Counts an answer to the probe of this index.
    pub fn count(&self, probe: usize, status: u16) {
        let place = STATUSES.iter().position(|known| *known == status);
        if let Some(counter) = self.answers.get(probe).zip(place) {
            counter.0[counter.1].increment();
        }
    }

    /// All probes and status codes, with their counts.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u16, u64)> {
        let by_probe = PROBES.into_iter().zip(&self.answers);
        by_probe.flat_map(|(probe, counts)| {
            let by_status = STATUSES.into_iter().zip(counts);
            by_status.map(move |(status, count)| (probe, status, count.value()))
        })
    }
}

/// Answers delayed by the rate limit.
#[derive(Debug, Default)]
pub struct RateLimitWaits {
    /// How many there were.
    pub count: Counter,
    /// The sum of delays, in nanoseconds.
    pub nanos: Counter,
}

impl RateLimitWaits {
    /// Counts a wait.
    pub fn add(&self, wait: Duration) {
        if !wait.is_zero() {
            self.count.increment();
            let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            self.nanos.add(nanos);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    #[test]
    fn answers_are_counted_by_probe_and_status() {
        let probes = ProbeVitals::default();
        probes.count(0, 200);
        probes.count(0, 200);
        probes.count(1, Code::Loading.status());
        probes.count(3, 418);
        probes.count(9, 200);
        let counted: Vec<_> = probes
            .answers()
            .filter(|(_, _, count)| *count > 0)
            .collect();
        assert_eq!(counted, [("livez", 200, 2), ("readyz", 503, 1)]);
        assert_eq!(probes.answers().count(), PROBES.len() * STATUSES.len());
    }

    #[test]
    fn a_wait_of_no_time_is_none() {
        let waits = RateLimitWaits::default();
        waits.add(Duration::ZERO);
        waits.add(Duration::from_millis(2));
        assert_eq!((waits.count.value(), waits.nanos.value()), (1, 2_000_000));
    }
}
