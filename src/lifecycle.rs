//! The end of the server, as a timeline.
//!
//! ```text
//! SIGTERM ── grace ──────────────▶ finishing ─────────────────────▶ stopped
//!   /readyz fails, every answer     new predictions get 503, idle     what is left is answered
//!   says Connection: close, all     connections are closed, queued    503; the process exits 0
//!   else goes on                    and running predictions finish
//! ```
//! Probes are answered to the last. Where the listeners are inherited, a successor will have them: the
//! server stops accepting at once, without a grace, serves what it has accepted, and refuses nobody.
//! Another SIGTERM changes nothing; a later SIGINT, or SIGQUIT, ends the process at once.
//! The timelines themselves are pure functions of the time.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use signal_hook::consts::{SIGABRT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

use crate::platform::sys::StopSignals;
use crate::vitals::ServerPhase;

/// The grace period if `--drain-grace` is not given and somebody has requested `/readyz`.
pub const GRACE_IF_ASKED: Duration = Duration::from_secs(5);

/// How long the last answers may take to be written once everything is refused.
pub const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Returns the phase of a server that was told to end `since` ago and leaves its listeners to a
/// successor. It refuses nobody and ends with its last connection.
pub fn handover_phase_at(since: Duration, timeout: Duration, has_connections: bool) -> ServerPhase {
    if has_connections && since < timeout {
        ServerPhase::Draining
    } else {
        ServerPhase::Stopped
    }
}

/// Returns the phase of a server that was told to end `since` ago.
///
/// `has_work` says whether admitted predictions are still unanswered. Without any, the drain is
/// over.
pub fn phase_at(
    since: Duration,
    grace: Duration,
    timeout: Duration,
    has_work: bool,
) -> ServerPhase {
    if since < grace {
        ServerPhase::Draining
    } else if has_work && since < grace.saturating_add(timeout) {
        ServerPhase::Finishing
    } else {
        ServerPhase::Stopped
    }
}

/// Ignores signals that would end this process without meaning to: those that tools send for log
/// rotation (SIGUSR1, SIGUSR2), and SIGXFSZ, so that a write to a file that may not grow fails
/// instead.
///
/// These are handlers rather than SIG_IGN, because child processes would inherit SIG_IGN.
pub fn survive_stray_signals() {
    for signal in [SIGUSR1, SIGUSR2, SIGXFSZ] {
        // If the system refuses, nothing changes.
        let _ = signal_hook::flag::register(signal, Arc::default());
    }
}

/// The signals that end the server or reload its model, and the pipe that wakes the main thread.
#[derive(Debug)]
pub struct Signals {
    stop: Arc<StopSignals>,
    aborted: Arc<AtomicBool>,
    reload: Arc<AtomicBool>,
    wake: UnixStream,
    waker: UnixStream,
}

impl Signals {
    /// Installs handlers for the signals that stop the server ([`StopSignals`]); for SIGHUP, which
    /// reloads; and for SIGABRT, with which a service manager's watchdog ends the process, so that
    /// a report is written first.
    ///
    /// # Errors
    ///
    /// The system refuses a handler or a socket pair.
    pub fn install() -> io::Result<Self> {
        let (wake, waker) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        waker.set_nonblocking(true)?;
        // Installed before the wake-up pipe, so that the main thread finds the signal noted when it
        // wakes.
        let stop = StopSignals::install()?;
        let (aborted, reload) = (Arc::default(), Arc::default());
        for (signal, flag) in [(SIGABRT, &aborted), (SIGHUP, &reload)] {
            signal_hook::flag::register(signal, Arc::clone(flag))?;
        }
        for signal in [SIGTERM, SIGINT, SIGQUIT, SIGABRT, SIGHUP] {
            signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
        }
        Ok(Signals {
            stop,
            aborted,
            reload,
            wake,
            waker,
        })
    }

    /// Which stop signals came.
    pub fn stop(&self) -> &StopSignals {
        &self.stop
    }

    /// Whether the process is to end as with abort(3).
    pub fn aborted(&self) -> bool {
        self.aborted.load(Ordering::Acquire)
    }

    /// Whether a reload was requested since the last call.
    pub fn take_reload(&self) -> bool {
        self.reload.swap(false, Ordering::AcqRel)
    }

    /// Requests a reload, as SIGHUP does.
    pub fn reload_request(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.reload)
    }

    /// Becomes readable when the main thread should look at the signals.
    pub fn wake(&self) -> &UnixStream {
        &self.wake
    }

    /// Returns a handle that wakes the main thread.
    ///
    /// # Errors
    ///
    /// No file descriptor is left.
    pub fn waker(&self) -> io::Result<Waker> {
        Ok(Waker(Arc::new(self.waker.try_clone()?)))
    }
}

/// Ends the process as abort(3) does, with a core dump if the system keeps them.
pub fn abort() -> ! {
    signal_hook::low_level::abort()
}

/// Wakes the main thread; never blocks.
#[derive(Debug, Clone)]
pub struct Waker(Arc<UnixStream>);

impl Waker {
    /// Wakes nobody.
    #[cfg(test)]
    pub(crate) fn idle() -> Self {
        let (waker, _) = UnixStream::pair().unwrap();
        Waker(Arc::new(waker))
    }

    /// Wakes it up.
    pub fn wake(&self) {
        // A full pipe means that it is awake already.
        let _ = io::Write::write(&mut &*self.0, &[1]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_has_a_grace_then_finishes_what_was_admitted() {
        let seconds = Duration::from_secs;
        let phase = |since, has_work| phase_at(seconds(since), seconds(5), seconds(20), has_work);
        assert_eq!(phase(0, false), ServerPhase::Draining);
        assert_eq!(phase(4, true), ServerPhase::Draining);
        assert_eq!(phase(5, true), ServerPhase::Finishing);
        assert_eq!(phase(5, false), ServerPhase::Stopped);
        assert_eq!(phase(24, true), ServerPhase::Finishing);
        assert_eq!(phase(25, true), ServerPhase::Stopped);
        assert_eq!(
            phase_at(seconds(0), seconds(0), seconds(20), false),
            ServerPhase::Stopped
        );
    }

    #[test]
    fn a_handover_ends_with_the_last_connection_or_in_time() {
        let phase = |since, remaining| {
            handover_phase_at(
                Duration::from_secs(since),
                Duration::from_secs(20),
                remaining,
            )
        };
        assert_eq!(phase(0, true), ServerPhase::Draining);
        assert_eq!(phase(0, false), ServerPhase::Stopped);
        assert_eq!(phase(19, true), ServerPhase::Draining);
        assert_eq!(phase(20, true), ServerPhase::Stopped);
    }
}
