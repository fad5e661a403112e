//! Failures, rate-limited: a client may cause thousands of them, and other log lines must stay
//! readable.

use std::fmt::Arguments;

use super::rate::{RateLimit, UnwrittenLines};
use crate::platform::clock;

/// Logs failures, a few per second.
#[derive(Debug)]
pub struct FailureLog {
    what: &'static str,
    limit: RateLimit,
}

impl FailureLog {
    /// Lines a second.
    const RATE: u32 = 10;

    /// Makes a log of failures of `what` (plural, used in the summary line).
    pub fn new(what: &'static str) -> Self {
        FailureLog {
            what,
            limit: RateLimit::new(Self::RATE),
        }
    }

    /// Writes the line, or counts it.
    pub fn record(&self, line: Arguments<'_>) {
        let decision = self.limit.take(clock::instant());
        self.tell(decision.before);
        if decision.is_written {
            log::error!("{line}");
        } else {
            self.limit.skip(true);
        }
    }

    /// Logs how many lines were suppressed once the second is over; called every second.
    pub fn tick(&self) {
        self.tell(self.limit.tick(clock::instant()));
    }

    fn tell(&self, unwritten: UnwrittenLines) {
        if unwritten.count > 0 {
            log::error!("{} more {}", unwritten.count, self.what);
        }
    }
}
