//! Failures, a few a second: any client may have poison by the thousand, and other lines must stay
//! readable beside it.

use std::fmt::Arguments;

use super::rate::{RateLimit, UnwrittenLines};
use crate::platform::clock;

/// Tells of failures, a few a second.
#[derive(Debug)]
pub struct FailureLog {
    what: &'static str,
    limit: RateLimit,
}

impl FailureLog {
    /// Lines a second.
    const RATE: u32 = 10;

    /// Makes a log of `what` failed, in the plural, for what is not written line by line.
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

    /// Tells what was not written, where the last second is over; called once a second.
    pub fn tick(&self) {
        self.tell(self.limit.tick(clock::instant()));
    }

    fn tell(&self, unwritten: UnwrittenLines) {
        if unwritten.count > 0 {
            log::error!("{} more {}", unwritten.count, self.what);
        }
    }
}
