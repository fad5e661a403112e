//! Results of a load run: latencies in a histogram, outcomes by status code and by reason.
//!
//! Pure bookkeeping on the measuring thread; each thread fills its own [`Tally`], and they are
//! merged at the end, so nothing is shared during the measurement. Memory is bounded, however long
//! the run is.

use std::collections::BTreeMap;
use std::time::Duration;

/// Sub-buckets per power of two: a value is exact to 1/128.
const SUB_BUCKETS: usize = 128;
const SUB_BITS: u32 = SUB_BUCKETS.trailing_zeros();
/// Values from 2^40 ns (18 minutes) on share the last bucket.
const VALUE_BITS: u32 = 40;
/// Number of different error codes that are counted; servers have about twenty.
const CODES_MAX: usize = 32;
/// Maximum length of an error code.
const CODE_BYTES_MAX: usize = 40;
/// Where in an error's body the code is searched.
const CODE_WITHIN_BYTES: usize = 4096;
const BUCKETS: usize = (VALUE_BITS - SUB_BITS + 1) as usize * SUB_BUCKETS;

/// Latencies in a log-linear histogram: quantiles are exact to 0.8 %, the maximum to the nanosecond.
#[derive(Debug, Clone, Default)]
pub struct Latencies {
    /// Empty until the first value, so that a thread without one costs nothing.
    buckets: Vec<u64>,
    count: u64,
    max: u64,
}

impl Latencies {
    /// Takes down one latency.
    pub fn record(&mut self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        if self.buckets.is_empty() {
            self.buckets = vec![0; BUCKETS];
        }
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.max = self.max.max(nanos);
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Latencies) {
        if self.buckets.is_empty() {
            self.buckets.clone_from(&other.buckets);
        } else {
            for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
                *mine += theirs;
            }
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// Number of latencies taken down.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest, or `None` where there is none.
    pub fn max(&self) -> Option<Duration> {
        (self.count > 0).then(|| Duration::from_nanos(self.max))
    }

    /// The latency that a share `q` (0 to 1) of all do not exceed, never reported too short.
    ///
    /// `None` if there are none. The 0.99 quantile of fewer than a thousand is a guess; whatever
    /// displays it marks it.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let rank = ((q * self.count as f64).ceil() as u64).clamp(1, self.count.max(1));
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(Duration::from_nanos(upper_bound(index).min(self.max)));
            }
        }
        None
    }
}

fn bucket(nanos: u64) -> usize {
    let nanos = nanos.min((1 << VALUE_BITS) - 1);
    let bits = u64::BITS - nanos.leading_zeros();
    // Below 2^7 each value has its own bucket; above, the seven bits after the leading one choose
    // it.
    let shift = bits.saturating_sub(SUB_BITS + 1);
    if bits <= SUB_BITS {
        return nanos as usize;
    }
    (shift as usize + 1) * SUB_BUCKETS + ((nanos >> shift) as usize - SUB_BUCKETS)
}

/// The largest value that falls into a bucket.
fn upper_bound(index: usize) -> u64 {
    if index + 1 >= BUCKETS {
        return u64::MAX;
    }
    let (group, sub) = (index / SUB_BUCKETS, index % SUB_BUCKETS);
    match group {
        0 => sub as u64,
        _ => (((SUB_BUCKETS + sub + 1) as u64) << (group - 1)) - 1,
    }
}

/// The outcomes of one run's requests.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Answers by status code.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests without an answer, by reason (`connect`, `timeout`, `closed`, `protocol`).
    pub failures: BTreeMap<&'static str, u64>,
    /// Answers other than 200 by status code and the `code` in their JSON, if they have one.
    pub codes: BTreeMap<(u16, String), u64>,
    /// Arrivals that were not sent, because the generator had no connection for them in time; they
    /// do not count as requests.
    pub unsent: u64,
    /// Latencies of the answers with status 200.
    pub latencies: Latencies,
    /// 200s that arrived in the run's window.
    pub in_window: u64,
    /// How long the window was open.
    pub window: Duration,
}

impl Tally {
    /// Adds all of `other`, which ran at the same time: the window stays as long as it was.
    pub fn merge(&mut self, other: &Tally) {
        for (status, count) in &other.statuses {
            *self.statuses.entry(*status).or_default() += count;
        }
        for (reason, count) in &other.failures {
            *self.failures.entry(reason).or_default() += count;
        }
        for (code, count) in &other.codes {
            *self.codes.entry(code.clone()).or_default() += count;
        }
        self.unsent += other.unsent;
        self.latencies.merge(&other.latencies);
        self.in_window += other.in_window;
        self.window = self.window.max(other.window);
    }

    /// Records the `code` of an error's JSON body; a body without one, or a code that is not a
    /// plain word, adds nothing.
    pub fn note_code(&mut self, status: u16, body: &[u8]) {
        let Some(code) = error_code(body) else { return };
        let key = (status, code.to_owned());
        if self.codes.len() < CODES_MAX || self.codes.contains_key(&key) {
            *self.codes.entry(key).or_default() += 1;
        }
    }

    /// Number of requests, answered or not.
    pub fn requests(&self) -> u64 {
        self.statuses.values().chain(self.failures.values()).sum()
    }

    /// Number of answers with status 200.
    pub fn ok(&self) -> u64 {
        self.statuses.get(&200).copied().unwrap_or(0)
    }

    /// Number of requests that got no 200.
    pub fn failed(&self) -> u64 {
        self.requests() - self.ok()
    }

    /// 200s a second in the window: throughput of a closed loop, goodput of an open one.
    pub fn per_second(&self) -> f64 {
        if self.window.is_zero() {
            0.0
        } else {
            self.in_window as f64 / self.window.as_secs_f64()
        }
    }
}

/// Finds `"code":"WORD"` in a body without parsing JSON, which would cost the generator CPU time.
fn error_code(body: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(&body[..body.len().min(CODE_WITHIN_BYTES)]).ok()?;
    let (_, rest) = text.split_once("\"code\":")?;
    let (code, _) = rest.trim_start().strip_prefix('"')?.split_once('"')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    ((1..=CODE_BYTES_MAX).contains(&code.len()) && code.bytes().all(plain)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_plain_words_and_bounded_in_number() {
        let table: &[(&[u8], Option<&str>)] = &[
            (br#"{"error":"a","code":"queue_full"}"#, Some("queue_full")),
            (br#"{"code": "a-1"}"#, Some("a-1")),
            (br#"{"code":"<b>"}"#, None),
            (br#"{"code":""}"#, None),
            (br#"{"code":7}"#, None),
            (b"no JSON", None),
            (b"\xff\"code\":\"a\"", None),
        ];
        for (body, expected) in table {
            assert_eq!(
                error_code(body),
                *expected,
                "{}",
                String::from_utf8_lossy(body)
            );
        }
        let mut tally = Tally::default();
        for index in 0..100 {
            tally.note_code(503, format!("{{\"code\":\"c{index}\"}}").as_bytes());
        }
        tally.note_code(503, br#"{"code":"c0"}"#);
        assert_eq!(tally.codes.len(), CODES_MAX);
        assert_eq!(tally.codes[&(503, "c0".to_owned())], 2);
    }

    fn of(nanos: impl IntoIterator<Item = u64>) -> Latencies {
        let mut latencies = Latencies::default();
        nanos
            .into_iter()
            .for_each(|value| latencies.record(Duration::from_nanos(value)));
        latencies
    }

    #[test]
    fn every_value_lies_in_its_bucket_and_the_bucket_is_narrow() {
        let mut values: Vec<u64> = (0..VALUE_BITS)
            .flat_map(|bit| [(1 << bit) - 1, 1 << bit, (1 << bit) + 1, 3 << bit >> 1])
            .collect();
        values.sort_unstable();
        for value in values.into_iter().filter(|value| *value < 1 << VALUE_BITS) {
            let index = bucket(value);
            assert!(index < BUCKETS, "{value}");
            assert!(
                value <= upper_bound(index),
                "{value} is above its bucket {index}"
            );
            assert!(
                index == 0 || value > upper_bound(index - 1),
                "{value} is below its bucket {index}"
            );
            if index + 1 < BUCKETS {
                assert!(
                    upper_bound(index) - value <= value / 128,
                    "bucket {index} of {value} is wide"
                );
            }
        }
    }

    #[test]
    fn quantiles_are_never_too_short_and_within_a_hundredth() {
        let latencies = of((1..=10_000).map(|index| index * 1_000));
        for (q, exact) in [
            (0.5, 5_000_000),
            (0.99, 9_900_000),
            (0.999, 9_990_000),
            (1.0, 10_000_000),
        ] {
            let found = latencies.quantile(q).unwrap().as_nanos() as u64;
            assert!(
                found >= exact && found <= exact + exact / 100,
                "{q}: {found} for {exact}"
            );
        }
        assert_eq!(latencies.max(), Some(Duration::from_millis(10)));
    }

    #[test]
    fn nothing_recorded_has_no_quantile_and_no_maximum() {
        let none = Latencies::default();
        assert_eq!(
            (none.quantile(0.5), none.max(), none.count()),
            (None, None, 0)
        );
    }

    #[test]
    fn merging_is_as_recording_in_one_place() {
        let mut merged = of([]);
        merged.merge(&of(1..500));
        merged.merge(&of(500..=1_000));
        let whole = of(1..=1_000);
        assert_eq!(merged.buckets, whole.buckets);
        assert_eq!((merged.count(), merged.max()), (whole.count(), whole.max()));
    }

    #[test]
    fn latencies_beyond_the_last_bucket_are_their_maximum() {
        let latencies = of([1, u64::MAX]);
        assert_eq!(
            latencies.quantile(1.0),
            Some(Duration::from_nanos(u64::MAX))
        );
    }

    #[test]
    fn a_tally_counts_what_was_not_200_as_failed() {
        let mut tally = Tally {
            statuses: [(200, 7), (503, 2)].into(),
            in_window: 6,
            window: Duration::from_secs(3),
            ..Tally::default()
        };
        tally.merge(&Tally {
            failures: [("timeout", 1)].into(),
            window: Duration::from_secs(3),
            ..Tally::default()
        });
        assert_eq!((tally.requests(), tally.ok(), tally.failed()), (10, 7, 3));
        assert!((tally.per_second() - 2.0).abs() < 1e-9);
    }
}
