//! Honest clients: predictions in a closed loop on a kept connection, counted by window.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use lanekeeper::platform::client::{Client, ClientError, ClientRequest};
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

use super::PREDICTION;

/// Longest wait for an answer: longer than `--max-wait`, so that a refusal is seen as one.
const PATIENCE: Duration = Duration::from_secs(5);

/// Pause after a request that failed or was refused.
const BACK_OFF: Duration = Duration::from_millis(20);

const WINDOWS: usize = 2;

/// The outcomes of honest requests in one window of time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HonestOutcomes {
    /// Answered 200.
    pub(crate) answered: u64,
    /// Answered with another status.
    pub(crate) refused: u64,
    /// Not answered.
    pub(crate) failed: u64,
    /// Followed by a fresh connection, because the persistent one was closed or about to be.
    pub(crate) reconnected: u64,
}

impl fmt::Display for HonestOutcomes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} answered, {} refused, {} failed, {} reconnected",
            self.answered, self.refused, self.failed, self.reconnected
        )
    }
}

/// The connection for the next request: the same, unless the answer closes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Kept,
    Anew,
}

/// The counts of all clients, which run until it is closed.
#[derive(Debug)]
pub(crate) struct Honest {
    request: ClientRequest,
    address: SocketAddr,
    /// From an answer to the next request.
    pause: Duration,
    /// Index of the window that is open; one more than there are ends the clients.
    window: AtomicUsize,
    served: Mutex<[HonestOutcomes; WINDOWS]>,
}

impl Honest {
    /// Starts without a window: nothing counts yet.
    ///
    /// # Errors
    /// None in practice, because the request is valid.
    pub(crate) fn new(address: SocketAddr, pause: Duration) -> io::Result<Self> {
        let request = ClientRequest::new("POST", "/predict", "a", &[], PREDICTION.as_bytes());
        Ok(Honest {
            request: request.map_err(io::Error::other)?,
            address,
            pause,
            window: AtomicUsize::new(0),
            served: Mutex::default(),
        })
    }

    /// Ends the present window and opens the next: none, calm, attacked, and then the end.
    pub(crate) fn next_window(&self) {
        self.window.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends all windows and clients.
    pub(crate) fn close(&self) {
        self.window.store(WINDOWS + 1, Ordering::Relaxed);
    }

    /// The counts before the attack and during it.
    pub(crate) fn served(&self) -> [HonestOutcomes; WINDOWS] {
        *self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one client on the calling thread until [`close`](Self::close).
    pub(crate) fn run(&self) {
        let mut client = Client::new(self.address);
        let mut kept = false;
        loop {
            let window = self.window.load(Ordering::Relaxed);
            if window > WINDOWS {
                return;
            }
            let deadline = clock::instant() + PATIENCE;
            let mut seen = HonestOutcomes::default();
            let mut result = self.ask(&mut client, deadline);
            // A persistent connection may have been closed while it was idle. As any client must, it
            // sends the request again.
            if kept && matches!(result, Err(ClientError::Closed(_))) {
                seen.reconnected = 1;
                result = self.ask(&mut client, deadline);
            }
            kept = result.is_ok();
            match &result {
                Ok((200, _)) => seen.answered = 1,
                Ok(_) => seen.refused = 1,
                Err(_) => seen.failed = 1,
            }
            if matches!(result, Ok((_, Next::Anew))) {
                seen.reconnected += 1;
            }
            // A request sent in one window and answered in another counts in neither.
            if window > 0 && self.window.load(Ordering::Relaxed) == window {
                self.add(window - 1, seen);
            }
            let pause = if seen.answered > 0 {
                self.pause
            } else {
                self.pause.max(BACK_OFF)
            };
            if !pause.is_zero() {
                sys::sleep(pause);
            }
        }
    }

    fn ask(&self, client: &mut Client, deadline: Instant) -> Result<(u16, Next), ClientError> {
        let answer = client.send(&self.request, deadline)?;
        let closes = answer
            .field("connection")
            .is_some_and(|option| option == "close");
        let next = if closes { Next::Anew } else { Next::Kept };
        Ok((answer.status, next))
    }

    fn add(&self, window: usize, seen: HonestOutcomes) {
        let mut served = self.served.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = &mut served[window];
        sum.answered += seen.answered;
        sum.refused += seen.refused;
        sum.failed += seen.failed;
        sum.reconnected += seen.reconnected;
    }
}
