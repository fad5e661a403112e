//! Deferred accepting while many clients connect and leave at once. Pure.

use std::time::{Duration, Instant};

/// Clients that connected and left before they were accepted.
///
/// Each costs the kernel alone about 5 µs of a core, and one client can make 45,000 a second. If
/// there are that many, connections are accepted only once they have sent something. The kernel
/// then handles clients that reset their connections, and a probe, which sends its request at once,
/// is not delayed. This is not done always, because a client that connects and waits would be
/// invisible, and count towards no limit, for a second.
#[derive(Debug, Default)]
pub(super) struct EarlyDepartures {
    count: u32,
    since: Option<Instant>,
    deferred_at: Option<Instant>,
}

impl EarlyDepartures {
    /// So many within a second are too many.
    const MANY: u32 = 2000;

    /// How long accepting is deferred; then again if they still come.
    const DEFERRED: Duration = Duration::from_secs(10);

    /// Counts `more`, and returns whether there are too many from now on.
    pub(super) fn are_many(&mut self, more: u32, now: Instant) -> bool {
        let second = Duration::from_secs(1);
        if self
            .since
            .is_none_or(|since| now.saturating_duration_since(since) >= second)
        {
            (self.since, self.count) = (Some(now), 0);
        }
        self.count = self.count.saturating_add(more);
        if self.count < Self::MANY || self.deferred_at.is_some() {
            return false;
        }
        self.deferred_at = Some(now);
        true
    }

    /// Whether accepting has been deferred for long enough.
    pub(super) fn are_over(&mut self, now: Instant) -> bool {
        let over = |at: &mut Instant| now.saturating_duration_since(*at) >= Self::DEFERRED;
        self.deferred_at.take_if(over).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn accepting_is_deferred_while_many_leave_at_once_and_looked_at_again() {
        let start = clock::instant();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut early_departures = EarlyDepartures::default();
        assert!(!early_departures.are_many(1999, at(0)));
        assert!(!early_departures.are_many(1999, at(1000)), "another second");
        assert!(early_departures.are_many(1, at(1100)));
        assert!(
            !early_departures.are_many(5000, at(1200)),
            "it is deferred already"
        );
        assert!(!early_departures.are_over(at(11_000)));
        assert!(early_departures.are_over(at(11_100)));
        assert!(!early_departures.are_over(at(12_000)), "once");
        assert!(early_departures.are_many(2000, at(12_100)), "and again");
    }
}
