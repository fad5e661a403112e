//! A limit on lines per second, in atomics: logging never blocks.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::platform::clock;

/// At most so many lines per second; the others are counted.
///
/// Lines counted by two threads at the turn of a second may be reported with the next second.
#[derive(Debug)]
pub(super) struct RateLimit {
    rate: u32,
    origin: Instant,
    /// The present second since `origin` in the upper half, the lines written in it in the lower
    /// half.
    window: AtomicU64,
    unwritten: AtomicU64,
    unwritten_failed: AtomicU64,
}

/// Lines that were not written.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnwrittenLines {
    pub(super) count: u64,
    /// How many of them reported a failure.
    pub(super) failed: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct LineDecision {
    pub(super) is_written: bool,
    /// How many lines were suppressed before, if this is the first line of a second.
    pub(super) before: UnwrittenLines,
}

impl RateLimit {
    /// Makes a limit of `rate` lines a second.
    pub(super) fn new(rate: u32) -> Self {
        RateLimit {
            rate,
            origin: clock::instant(),
            window: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            unwritten_failed: AtomicU64::new(0),
        }
    }

    /// Takes a place for a line at `now`.
    pub(super) fn take(&self, now: Instant) -> LineDecision {
        let second = self.second(now);
        let first = second << 32 | u64::from(self.rate > 0);
        let next = |window: u64| {
            if window >> 32 < second {
                Some(first)
            } else {
                let written = window & u64::from(u32::MAX);
                (written < u64::from(self.rate)).then_some(window + 1)
            }
        };
        let taken = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let is_first = taken.is_ok_and(|window| window >> 32 < second);
        LineDecision {
            is_written: taken.is_ok() && self.rate > 0,
            before: if is_first {
                self.take_unwritten()
            } else {
                UnwrittenLines::default()
            },
        }
    }

    /// Counts a suppressed line.
    pub(super) fn skip(&self, failed: bool) {
        self.unwritten.fetch_add(1, Ordering::Relaxed);
        if failed {
            self.unwritten_failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many lines were suppressed, if their second is over at `now`.
    pub(super) fn tick(&self, now: Instant) -> UnwrittenLines {
        let second = self.second(now);
        let next = |window: u64| (window >> 32 < second).then_some(second << 32);
        let turned = self
            .window
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        match turned {
            Ok(_) => self.take_unwritten(),
            Err(_) => UnwrittenLines::default(),
        }
    }

    fn take_unwritten(&self) -> UnwrittenLines {
        UnwrittenLines {
            count: self.unwritten.swap(0, Ordering::Relaxed),
            failed: self.unwritten_failed.swap(0, Ordering::Relaxed),
        }
    }

    /// The second at `now`, starting at 0: the upper half holds 136 years.
    fn second(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.origin);
        since.as_secs().min(u64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn unwritten(count: u64, failed: u64) -> UnwrittenLines {
        UnwrittenLines { count, failed }
    }

    #[test]
    fn lines_beyond_the_rate_are_summarised_after_their_second() {
        let limit = RateLimit::new(3);
        let at = |millis: u64| limit.origin + Duration::from_millis(millis);
        let written = |millis: u64| {
            let decision = limit.take(at(millis));
            if !decision.is_written {
                limit.skip(millis.is_multiple_of(2));
            }
            decision.is_written
        };
        assert_eq!(
            [0, 1, 2, 3, 4, 999].map(written),
            [true, true, true, false, false, false]
        );
        assert_eq!(limit.tick(at(999)), unwritten(0, 0), "the second goes on");
        let decision = limit.take(at(1000));
        assert_eq!(
            (decision.is_written, decision.before),
            (true, unwritten(3, 1))
        );
        assert_eq!([1001, 1002, 1004].map(written), [true, true, false]);
        assert_eq!(limit.tick(at(2000)), unwritten(1, 1));
        assert_eq!(limit.tick(at(2500)), unwritten(0, 0), "once");
        assert_eq!(
            limit.take(at(1500)).before,
            unwritten(0, 0),
            "a late thread turns nothing back"
        );
    }

    #[test]
    fn a_rate_of_none_writes_none() {
        let limit = RateLimit::new(0);
        let decision = limit.take(limit.origin + Duration::from_secs(1));
        assert!(!decision.is_written);
        limit.skip(false);
        let decision = limit.take(limit.origin + Duration::from_secs(2));
        assert_eq!(
            (decision.is_written, decision.before),
            (false, unwritten(1, 0))
        );
    }

    #[test]
    fn no_line_is_lost_between_threads() {
        let limit = RateLimit::new(1000);
        let (written, reported) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let (limit, written, reported) = (&limit, &written, &reported);
                scope.spawn(move || {
                    for line in 0..10_000 {
                        let now = limit.origin + Duration::from_millis((line + thread) / 4);
                        let decision = limit.take(now);
                        reported.fetch_add(decision.before.count, Ordering::Relaxed);
                        match decision.is_written {
                            true => drop(written.fetch_add(1, Ordering::Relaxed)),
                            false => limit.skip(false),
                        }
                    }
                });
            }
        });
        let rest = limit.tick(limit.origin + Duration::from_secs(60)).count;
        let [written, reported] = [written, reported].map(AtomicU64::into_inner);
        assert_eq!(written + reported + rest, 40_000);
        assert_eq!(written, 3000, "1,000 in each of 2.5 seconds");
    }
}
