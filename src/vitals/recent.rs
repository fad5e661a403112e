//! The last predictions that were refused or failed, in bounded memory.
//!
//! Written by connection threads. A flood of refusals costs each of them one atomic: an error is
//! kept only if none was kept for a while, and a thread that finds another one here keeps nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::reasons::cut;
use crate::error::Code;
use crate::platform::clock::Stamp;

/// How many errors are kept.
const KEPT: usize = 16;

/// The least time between two that are kept.
const APART: Duration = Duration::from_millis(20);

/// Maximum length of a request id, in bytes.
const ID_BYTES_MAX: usize = 128;

/// A prediction that was refused or failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentError {
    /// When it was answered.
    pub at: Stamp,
    /// The request's id in answers and logs.
    pub request_id: String,
    /// The trace that it belongs to, if it has one.
    pub trace_id: Option<String>,
    /// The client's address; `None` over a Unix socket.
    pub client: Option<IpAddr>,
    /// Status code of the answer.
    pub status: u16,
    /// The answer's `code`.
    pub code: Code,
    /// The reason that the client was told, truncated. The server wrote it; it quotes no body.
    pub reason: String,
}

/// The last errors of one kind.
#[derive(Debug, Default)]
pub struct RecentErrors {
    /// When the next one is kept.
    next: AtomicU64,
    kept: Mutex<VecDeque<RecentError>>,
}

impl RecentErrors {
    /// Keeps an error of `now`, unless one was kept just before. `error` is called only then.
    pub fn note(&self, now: Stamp, error: impl FnOnce() -> RecentError) {
        let next = self.next.load(Ordering::Relaxed);
        let apart = u64::try_from(APART.as_nanos()).unwrap_or(u64::MAX);
        let claim = |from| {
            let (ok, other) = (Ordering::Relaxed, Ordering::Relaxed);
            self.next
                .compare_exchange(from, now.0.saturating_add(apart), ok, other)
        };
        if now.0 < next || claim(next).is_err() {
            return;
        }
        let mut error = error();
        error
            .request_id
            .truncate(cut(&error.request_id, ID_BYTES_MAX).len());
        error
            .reason
            .truncate(cut(&error.reason, super::reasons::REASON_BYTES_MAX).len());
        let Ok(mut kept) = self.kept.try_lock() else {
            return;
        };
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(error);
    }

    /// The kept errors, the latest first.
    pub fn latest(&self) -> Vec<RecentError> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(at: Stamp, name: &str) -> RecentError {
        RecentError {
            at,
            request_id: name.to_owned(),
            trace_id: None,
            client: None,
            status: 503,
            code: Code::Overloaded,
            reason: "x".repeat(1000),
        }
    }

    fn millis(count: u64) -> Stamp {
        Stamp(count * 1_000_000)
    }

    #[test]
    fn the_latest_errors_are_kept_and_no_more() {
        let recent = RecentErrors::default();
        assert_eq!(recent.latest(), []);
        for count in 1..=100 {
            let now = millis(count * 30);
            recent.note(now, || error(now, &count.to_string()));
        }
        let latest = recent.latest();
        assert_eq!(latest.len(), KEPT);
        assert_eq!(latest[0].request_id, "100");
        assert_eq!(latest[KEPT - 1].request_id, "85");
        assert!(latest.iter().all(|error| error.reason.len() <= 200));
    }

    #[test]
    fn a_flood_is_sampled_without_making_each_error() {
        let recent = RecentErrors::default();
        let mut made = 0;
        for count in 1..=1000 {
            recent.note(millis(count), || {
                made += 1;
                error(millis(count), "id")
            });
        }
        assert_eq!(made, 1000 / 20);
    }
}
