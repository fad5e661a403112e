//! Rate limits while predictions run: token buckets for cheap answers, bodies and evictions.
//!
//! It uses atomics and no locks. Connection threads reserve a slot and wait for it themselves.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A token bucket that hands out slots at a fixed rate, with a small burst.
///
/// The generic cell rate algorithm in one atomic, which holds the time at which the bucket is full
/// again (ITU-T I.371, "theoretical arrival time"). No wait exceeds `wait_max` and the rest of a
/// tick. Slots beyond that are given out without being counted, so that a flood leaves no debt for
/// later clients.
#[derive(Debug)]
pub struct Pacer {
    /// Nanoseconds between slots; 0 is no limit.
    interval: u64,
    /// How early a slot may be taken, in nanoseconds.
    tolerance: u64,
    /// Maximum wait for a slot, in nanoseconds.
    wait_max: u64,
    /// Waits end at multiples of this many nanoseconds, so that several end together.
    tick: u64,
    full_at: AtomicU64,
}

impl Pacer {
    /// Number of slots that may be taken at once after a quiet moment.
    const BURST: u64 = 8;

    /// Default of the maximum wait for a slot.
    const WAIT_MAX: Duration = Duration::from_secs(1);

    /// Makes a bucket of `rate` slots per second; 0 means that there is no wait.
    pub fn new(rate: u32) -> Self {
        Self::with(rate, Self::BURST, Self::WAIT_MAX)
    }

    /// Makes a bucket of `rate` slots per second and bursts of `burst`, with waits of at most
    /// `wait_max`.
    pub fn with(rate: u32, burst: u64, wait_max: Duration) -> Self {
        let interval = 1_000_000_000u64.checked_div(u64::from(rate)).unwrap_or(0);
        Pacer {
            interval,
            tolerance: interval * burst.saturating_sub(1),
            wait_max: u64::try_from(wait_max.as_nanos()).unwrap_or(u64::MAX / 4),
            tick: 1,
            full_at: AtomicU64::new(0),
        }
    }

    /// Aligns the ends of all waits to ticks of this length.
    ///
    /// Waking up for each one alone displaces a prediction and takes a timer interrupt, which
    /// together cost as much as the answer. (Measured on one core at 2,000 refusals a second: 45 µs
    /// each, and 34 with ticks.)
    fn in_ticks(self, tick: Duration) -> Self {
        let tick = u64::try_from(tick.as_nanos()).unwrap_or(1).max(1);
        Pacer { tick, ..self }
    }

    /// Takes the next slot and returns how long after `now` (nanoseconds on any one clock) it is.
    ///
    /// Lock-free; waiting is up to the caller.
    pub fn reserve(&self, now: u64) -> Duration {
        self.reserve_all(now, 1)
    }

    /// Takes so many slots at once, and returns how long after `now` the first of them is.
    pub fn reserve_all(&self, now: u64, slots: u32) -> Duration {
        if self.interval == 0 {
            return Duration::ZERO;
        }
        let taken = self.interval.saturating_mul(u64::from(slots));
        let last = now + self.tolerance + self.wait_max;
        // Whoever takes many leaves no more debt than a flood.
        let most = last + self.interval;
        let next = |full_at: u64| {
            (full_at < last).then(|| full_at.max(now).saturating_add(taken).min(most))
        };
        let slot = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let wait = match slot {
            Ok(slot) => (slot.max(now) - now).saturating_sub(self.tolerance),
            Err(_) => self.wait_max,
        };
        if wait == 0 {
            return Duration::ZERO;
        }
        Duration::from_nanos((now + wait).next_multiple_of(self.tick) - now)
    }

    /// Returns unused slots.
    pub fn give_back(&self, slots: u32) {
        let back = self.interval * u64::from(slots);
        let earlier = |full_at: u64| Some(full_at.saturating_sub(back));
        // The closure always returns a value, so the update cannot fail.
        let _ = self
            .full_at
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, earlier);
    }
}

/// The rate limits of one listener's cheap answers (probes, refusals, errors) and of bodies that
/// may come to nothing.
///
/// Cheap requests are handled ahead of predictions; sent fast enough, they would take the whole
/// machine (receive livelock; Mogul and Ramakrishnan, 1997). The limits apply only while a
/// prediction waits or runs, so an idle server is not slowed.
#[derive(Debug)]
pub struct Pace {
    /// Answers to a probe that is the first request of its connection: kubelet opens one for each
    /// probe.
    pub first_probe: Pacer,
    /// Other first answers of a connection.
    pub first_other: Pacer,
    /// Every later answer on a connection.
    pub later: Pacer,
    /// Pieces of [`PIECE_BYTES`] read of bodies that may come to nothing.
    pub pieces: Pacer,
    /// The same for refused requests, which are read only so that their clients see the answer;
    /// they must not delay admitted ones.
    pub discards: Pacer,
    /// Milliseconds of a worker's time that refused requests have cost.
    pub wasted: Pacer,
    /// Connections closed in favour of new ones.
    pub evictions: Pacer,
}

/// The share of a worker's time that refused requests may take before their answers are delayed, in
/// milliseconds a second, and how much of it they may take at once after a quiet moment.
const WASTED: u32 = 50;
const WASTED_BURST: u64 = 50;

/// The interval at which delayed answers are released, except first ones to probes.
const TICK: Duration = Duration::from_millis(4);

/// The amount charged at once for reading.
pub const PIECE_BYTES: usize = 64 << 10;

/// Connections per second that are closed for new ones. Each costs about 30 µs. At this rate a full
/// backlog of the listening socket is handled in about a second. The burst is two backlogs, because
/// while the backlog overflows all clients lose connections.
const EVICTIONS: u32 = 4000;
const EVICTIONS_BURST: u64 = 8192;

/// How long bodies are read at full speed after a quiet moment, as a share of a second.
const PIECES_BURST: u64 = 4;

impl Pace {
    /// Makes the buckets from two rates in answers per second, one in bytes, and the number of
    /// prediction workers; a rate of 0 means no limit.
    /// No probe on a fresh connection waits longer than `probe_wait_max`.
    pub fn new(
        first: u32,
        later: u32,
        bytes: usize,
        workers: usize,
        probe_wait_max: Duration,
    ) -> Self {
        let workers = u32::try_from(workers).unwrap_or(u32::MAX);
        let pieces = u32::try_from(bytes.div_ceil(PIECE_BYTES)).unwrap_or(u32::MAX);
        let burst = u64::from(pieces) / PIECES_BURST;
        Pace {
            first_probe: Pacer::with(first, Pacer::BURST, probe_wait_max),
            first_other: Pacer::with(first, burst_of(first), Pacer::WAIT_MAX).in_ticks(TICK),
            later: Pacer::with(later, burst_of(later), Pacer::WAIT_MAX).in_ticks(TICK),
            pieces: Pacer::with(pieces, burst, Pacer::WAIT_MAX),
            discards: Pacer::with(pieces.div_ceil(2), burst, Pacer::WAIT_MAX),
            wasted: Pacer::with(
                WASTED.saturating_mul(workers),
                WASTED_BURST,
                Pacer::WAIT_MAX,
            ),
            evictions: Pacer::with(EVICTIONS, EVICTIONS_BURST, Pacer::WAIT_MAX),
        }
    }
}

/// A burst of a fifth of a second. When overload begins, many clients are refused at once, each
/// within 50 ms; the burst takes about 7 ms of a core at 750 a second.
fn burst_of(rate: u32) -> u64 {
    u64::from(rate / 5).max(Pacer::BURST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pacer_gives_its_burst_at_once_and_then_its_rate() {
        let pacer = Pacer::new(1000);
        let waits: Vec<u128> = (0..12)
            .map(|_| pacer.reserve(5_000_000).as_millis())
            .collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4]);
        // A second later the bucket is full again.
        assert_eq!(pacer.reserve(1_005_000_000), Duration::ZERO);
    }

    #[test]
    fn waits_end_at_ticks_and_not_before_their_slots() {
        let pacer =
            Pacer::with(1000, 2, Duration::from_millis(9)).in_ticks(Duration::from_millis(4));
        let now = 1_001_000_000;
        let waits: Vec<u128> = (0..13).map(|_| pacer.reserve(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 3, 3, 3, 7, 7, 7, 7, 11, 11, 11, 11]);
    }

    #[test]
    fn what_is_given_back_may_be_taken_again() {
        let pacer = Pacer::with(10, 3, Duration::from_secs(9));
        let now = 1_000_000_000;
        let waits: Vec<u128> = (0..5).map(|_| pacer.reserve(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        pacer.give_back(4);
        let waits: Vec<u128> = (0..3).map(|_| pacer.reserve(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100]);
    }

    #[test]
    fn nobody_waits_longer_than_the_limit_and_a_flood_leaves_no_debt() {
        let pacer = Pacer::with(100, 1, Duration::from_millis(30));
        let now = 1_000_000_000;
        let waits: Vec<u128> = (0..1000).map(|_| pacer.reserve(now).as_millis()).collect();
        assert_eq!(waits[..5], [0, 10, 20, 30, 30]);
        assert_eq!(waits.last(), Some(&30));
        assert_eq!(pacer.reserve(now + 40_000_000), Duration::ZERO);
    }

    #[test]
    fn several_slots_at_once_delay_those_that_come_after() {
        let pacer = Pacer::with(100, 100, Duration::from_secs(1));
        let now = 5_000_000_000;
        let waits = [60, 60, 60, 5].map(|slots| pacer.reserve_all(now, slots).as_millis());
        assert_eq!(waits, [0, 0, 210, 810]);
        // In two seconds 200 slots come back.
        let later = now + 2_000_000_000;
        assert_eq!(pacer.reserve_all(later, 1), Duration::ZERO);
        let all = Pacer::with(100, 100, Duration::from_secs(1));
        assert_eq!(all.reserve_all(now, u32::MAX), Duration::ZERO);
        assert_eq!(all.reserve_all(now, 1), Duration::from_secs(1));
        assert_eq!(all.reserve_all(later, 1), Duration::ZERO);
    }

    #[test]
    fn a_pacer_of_rate_zero_never_makes_anybody_wait() {
        let pacer = Pacer::new(0);
        assert!((0..1000).all(|_| pacer.reserve(7) == Duration::ZERO));
    }
}
