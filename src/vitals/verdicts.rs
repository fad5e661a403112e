//! Since when each verdict stands.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::platform::clock::Stamp;

/// How many verdicts there are: liveness, readiness, startup.
const VERDICTS: usize = 3;

/// When each verdict last changed, as far as it was looked at: every tick, and for each status.
#[derive(Debug, Default)]
pub struct VerdictStamps([AtomicU64; VERDICTS]);

impl VerdictStamps {
    /// Notes the verdict of this index at `now`, and returns since when it stands.
    ///
    /// Two threads that saw different verdicts at the same time may both note a change, which moves
    /// the beginning by the time between them.
    pub fn observe(&self, verdict: usize, passes: bool, now: Stamp) -> Stamp {
        let Some(kept) = self.0.get(verdict) else {
            return now;
        };
        // The lowest bit is the verdict, the others are the stamp; 0 is before the first.
        let word = kept.load(Ordering::Acquire);
        if word != 0 && (word & 1 == 1) == passes {
            return Stamp(word >> 1);
        }
        kept.store(now.0 << 1 | u64::from(passes), Ordering::Release);
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_stands_since_it_last_changed() {
        let stamps = VerdictStamps::default();
        let seen = [
            (false, 5, 5),
            (false, 7, 5),
            (true, 9, 9),
            (true, 20, 9),
            (false, 21, 21),
        ];
        for (passes, now, since) in seen {
            assert_eq!(stamps.observe(1, passes, Stamp(now)), Stamp(since), "{now}");
        }
        assert_eq!(
            stamps.observe(0, true, Stamp(30)),
            Stamp(30),
            "each has its own"
        );
    }
}
