//! The signals that stop a server, from the first to the one that ends it at once.
//!
//! The rules run in signal handlers, on whichever thread a signal arrives, and touch only atomics;
//! they are pure but for the time, which is passed in.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::{SIGALRM, SIGINT, SIGQUIT, SIGTERM};

use super::{alarm_in_a_second, on_signal};
use crate::platform::clock;

/// A SIGINT this long after the first signal is a new one; wrappers double a single Ctrl-C.
const ANOTHER_AFTER: Duration = Duration::from_millis(500);

/// The exit code of a process that a signal has ended at once, whichever it was.
pub const ENDED_AT_ONCE: u8 = 130;

/// What a signal does.
#[derive(Debug, PartialEq, Eq)]
enum Effect {
    /// The server begins to drain.
    Stops,
    /// Nothing.
    Repeats,
    /// The process ends without a drain.
    EndsAtOnce,
}

/// Which stop signals arrived, and what follows.
#[derive(Debug)]
pub struct StopSignals {
    began: Instant,
    /// When the first arrived, in nanoseconds since `began`, plus one; 0: none.
    first_at: AtomicU64,
    /// Those that changed nothing, SIGTERM and SIGINT.
    repeated: [AtomicU32; 2],
    /// The one that ends the process at once; 0: none.
    ended_by: AtomicI32,
}

impl StopSignals {
    /// Installs handlers for SIGTERM, SIGINT and SIGQUIT. The main thread ends the process when one
    /// asks for it; if that takes more than a second, the process ends without it.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
    pub fn install() -> io::Result<Arc<Self>> {
        let signals = Arc::new(Self::new());
        let alarmed = Arc::clone(&signals);
        on_signal(SIGALRM, move || {
            if alarmed.ended_by().is_some() {
                signal_hook::low_level::exit(ENDED_AT_ONCE.into());
            }
        })?;
        for signal in [SIGTERM, SIGINT, SIGQUIT] {
            let signals = Arc::clone(&signals);
            on_signal(signal, move || {
                let since = clock::instant().saturating_duration_since(signals.began);
                if signals.note(signal, since) == Effect::EndsAtOnce {
                    alarm_in_a_second();
                }
            })?;
        }
        Ok(signals)
    }

    fn new() -> Self {
        StopSignals {
            began: clock::instant(),
            first_at: AtomicU64::new(0),
            repeated: Default::default(),
            ended_by: AtomicI32::new(0),
        }
    }

    /// Records a signal that arrived `at` after the handlers were installed.
    fn note(&self, signal: i32, at: Duration) -> Effect {
        let at = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        let first = self
            .first_at
            .compare_exchange(0, at, Ordering::AcqRel, Ordering::Acquire);
        let ends = match (signal, first) {
            (SIGQUIT, _) => true,
            (SIGINT, Err(first)) => at.saturating_sub(first) >= ANOTHER_AFTER.as_nanos() as u64,
            _ => false,
        };
        if ends {
            let only_once = (Ordering::AcqRel, Ordering::Acquire);
            let ended = self
                .ended_by
                .compare_exchange(0, signal, only_once.0, only_once.1);
            // The alarm that is set already is the one that counts.
            return match ended {
                Ok(_) => Effect::EndsAtOnce,
                Err(_) => Effect::Repeats,
            };
        }
        if first.is_ok() {
            return Effect::Stops;
        }
        self.repeated[usize::from(signal == SIGINT)].fetch_add(1, Ordering::AcqRel);
        Effect::Repeats
    }

    /// Whether the server was told to end.
    pub fn is_stopped(&self) -> bool {
        self.first_at.load(Ordering::Acquire) != 0
    }

    /// The signal that ends the process at once, if one did.
    pub fn ended_by(&self) -> Option<i32> {
        Some(self.ended_by.load(Ordering::Acquire)).filter(|signal| *signal != 0)
    }

    /// How often SIGTERM and SIGINT have changed nothing since the last call.
    pub fn take_repeated(&self) -> [(&'static str, u32); 2] {
        let take = |index: usize| self.repeated[index].swap(0, Ordering::AcqRel);
        [("SIGTERM", take(0)), ("SIGINT", take(1))]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_later_sigint_and_sigquit_end_the_process_at_once() {
        use Effect::{EndsAtOnce, Repeats, Stops};
        type Signals = &'static [(i32, u64, Effect)];
        let table: &[(&str, Signals, Option<i32>)] = &[
            (
                "a unit's and a preStop hook's",
                &[(SIGTERM, 0, Stops), (SIGTERM, 9_000, Repeats)],
                None,
            ),
            (
                "one Ctrl-C that a wrapper doubles",
                &[(SIGINT, 100, Stops), (SIGINT, 599, Repeats)],
                None,
            ),
            (
                "a second Ctrl-C",
                &[
                    (SIGINT, 100, Stops),
                    (SIGINT, 600, EndsAtOnce),
                    (SIGINT, 9_000, Repeats),
                ],
                Some(SIGINT),
            ),
            (
                "a Ctrl-C during somebody else's stop",
                &[
                    (SIGTERM, 0, Stops),
                    (SIGINT, 400, Repeats),
                    (SIGTERM, 450, Repeats),
                    (SIGINT, 500, EndsAtOnce),
                ],
                Some(SIGINT),
            ),
            (
                "SIGTERM after a Ctrl-C",
                &[(SIGINT, 0, Stops), (SIGTERM, 9_000, Repeats)],
                None,
            ),
            (
                "SIGQUIT alone",
                &[(SIGQUIT, 0, EndsAtOnce), (SIGINT, 9_000, Repeats)],
                Some(SIGQUIT),
            ),
            (
                "SIGQUIT during a drain",
                &[(SIGTERM, 0, Stops), (SIGQUIT, 1, EndsAtOnce)],
                Some(SIGQUIT),
            ),
        ];
        for (name, came, ended_by) in table {
            let signals = StopSignals::new();
            assert!(!signals.is_stopped(), "{name}");
            for (signal, millis, effect) in *came {
                let at = Duration::from_millis(*millis);
                assert_eq!(
                    signals.note(*signal, at),
                    *effect,
                    "{name}: {signal} at {at:?}"
                );
            }
            assert!(signals.is_stopped(), "{name}");
            assert_eq!(signals.ended_by(), *ended_by, "{name}");
        }
    }

    #[test]
    fn repetitions_are_counted_by_signal_and_reported_once() {
        let signals = StopSignals::new();
        for signal in [SIGTERM, SIGTERM, SIGTERM, SIGINT] {
            signals.note(signal, Duration::ZERO);
        }
        assert_eq!(signals.take_repeated(), [("SIGTERM", 2), ("SIGINT", 1)]);
        assert_eq!(signals.take_repeated(), [("SIGTERM", 0), ("SIGINT", 0)]);
    }
}
