//! The end of the server, as a timeline.
//!
//! ```text
//! SIGTERM ── grace ──────────────▶ finishing ─────────────────────▶ stopped
//!   /readyz fails, every answer     new predictions get 503, idle     what is left is answered
//!   says Connection: close, all     connections are closed, queued    503; the process exits 0
//!   else goes on                    and running predictions finish
//! ```
//! Probes are answered to the last. The timeline itself is a pure function of the time.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::vitals::Phase;

/// Returns the phase a server is in that was told to end `since` ago.
///
/// `work_left` says whether admitted predictions are not answered yet; without any, finishing ends.
pub fn phase_at(since: Duration, grace: Duration, timeout: Duration, work_left: bool) -> Phase {
    if since < grace {
        Phase::Draining
    } else if work_left && since < grace.saturating_add(timeout) {
        Phase::Finishing
    } else {
        Phase::Stopped
    }
}

/// The signals that end the server, and what wakes the main thread up.
#[derive(Debug)]
pub struct Signals {
    told: Arc<AtomicBool>,
    wake: UnixStream,
    waker: UnixStream,
}

impl Signals {
    /// Installs handlers for SIGTERM and SIGINT; a second one ends the process at once with
    /// 128 + its number.
    ///
    /// # Errors
    /// Where the system refuses a handler or a socket pair.
    pub fn install() -> io::Result<Self> {
        let told = Arc::new(AtomicBool::new(false));
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        for signal in [SIGTERM, SIGINT] {
            // In this order: the first signal finds the flag down and raises it.
            signal_hook::flag::register_conditional_shutdown(
                signal,
                128 + signal,
                Arc::clone(&told),
            )?;
            signal_hook::flag::register(signal, Arc::clone(&told))?;
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Signals { told, wake, waker })
    }

    /// Whether the server was told to end.
    pub fn told(&self) -> bool {
        self.told.load(Ordering::Acquire)
    }

    /// What becomes readable when the main thread should look around.
    pub fn wake(&self) -> &UnixStream {
        &self.wake
    }

    /// A handle that wakes the main thread up.
    ///
    /// # Errors
    /// Where there is no descriptor left.
    pub fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(Arc::new(self.waker.try_clone()?)))
    }
}

/// Wakes the main thread up; never blocks.
#[derive(Debug, Clone)]
pub struct Waker(Arc<UnixStream>);

impl Waker {
    /// Wakes it up.
    pub fn wake(&self) {
        // A full pipe has woken it already.
        let _ = io::Write::write(&mut &*self.0, &[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_a_grace_then_finishes_what_was_admitted() {
        let seconds = Duration::from_secs;
        let phase = |since, work_left| phase_at(seconds(since), seconds(5), seconds(20), work_left);
        assert_eq!(phase(0, false), Phase::Draining);
        assert_eq!(phase(4, true), Phase::Draining);
        assert_eq!(phase(5, true), Phase::Finishing);
        assert_eq!(phase(5, false), Phase::Stopped);
        assert_eq!(phase(24, true), Phase::Finishing);
        assert_eq!(phase(25, true), Phase::Stopped);
        assert_eq!(
            phase_at(seconds(0), seconds(0), seconds(20), false),
            Phase::Stopped
        );
    }
}
