//! How a full listener makes room. The reserved thread closes the least important connection for
//! each new one, and refuses the new one if all are important.
//!
//! A listener is full if all its connection threads are taken, because of its limit, a lack of
//! threads, or a lack of file descriptors, of which the main listener leaves some to the probe
//! listener.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use super::{Accepted, BACK_OFF, Listener};
use crate::http::connection_table::{ConnectionTable, Eviction};
use crate::lanes::cpu_priority::{CpuUse, Priority};
use crate::platform::clock;
use crate::platform::fault::ThreadRole;
use crate::platform::sys::{self, PollResult};
use crate::protocol::routes::ListenerKind;

/// How long a new connection waits at the limit for another to become idle or to end.
const EVICTION_PATIENCE: Duration = Duration::from_millis(100);

/// File descriptors opened later or briefly: pipes, model files, connections being accepted or
/// closed.
const SPARE_DESCRIPTORS: usize = 16;

/// How many connections are closed at a time: one, and more in a streak of requests, so that a
/// burst of new ones is not let in one by one.
#[derive(Debug, Default)]
struct EvictionBurst {
    size: usize,
    last: Option<Instant>,
}

impl EvictionBurst {
    /// As many threads as may wait for connections; further ones would end.
    const SIZE_MAX: usize = super::SPARE_MAX;

    /// Time within which requests count as a streak.
    const GAP: Duration = Duration::from_millis(5);

    fn size(&mut self, now: Instant) -> usize {
        let in_a_row = self
            .last
            .is_some_and(|last| now.saturating_duration_since(last) < Self::GAP);
        self.last = Some(now);
        self.size = if in_a_row {
            (self.size * 2).min(Self::SIZE_MAX)
        } else {
            1
        };
        self.size
    }
}

impl Listener {
    /// The body of the reserved thread: while every connection thread is taken, it closes the least
    /// important connection for each new one, and refuses the new one if all are important.
    pub fn evict_one(self: &Arc<Self>) {
        *self.reserved() = Some(thread::current());
        let context = &self.shared.http.context;
        let mut priority = Priority::new(context.config.yielding, CpuUse::Responding);
        let stop: BorrowedFd<'_> = self.stop.as_fd();
        let mut trying_since = None;
        let mut burst = EvictionBurst::default();
        loop {
            context.faults.inject(ThreadRole::Reserve);
            if !self.accepting.load(Ordering::Acquire) {
                // Not started yet, and the start will look again; or stopped, and this thread ends
                // with the process.
                thread::park();
                continue;
            }
            if !self.is_full() {
                trying_since = None;
                self.shared.crowded.store(false, Ordering::Release);
                if self.waiting.load(Ordering::Acquire) == 0 {
                    // Two threads that accepted at the same time may each have relied on the other.
                    self.replenish_or_starve(self.spare.0);
                    if self.is_full() {
                        continue;
                    }
                }
                thread::park();
                continue;
            }
            priority.adapt(context.vitals.predict.service_time());
            match sys::wait_readable(&[stop, self.socket.as_fd()], None) {
                Ok(PollResult::Ready(0)) => continue,
                Ok(_) if !self.is_full() => continue,
                Ok(_) => {}
                Err(error) => {
                    self.back_off("wait for a connection", &error);
                    continue;
                }
            }
            let threads = self.threads.load(Ordering::Acquire);
            match self.evict(&self.shared.table, threads) {
                Eviction::Done => {
                    trying_since = None;
                    self.shared.crowded.store(false, Ordering::Release);
                    let mut wait = self.shared.slot(&self.shared.pace.evictions);
                    for _ in 1..burst.size(clock::instant()) {
                        if self.evict(&self.shared.table, threads) != Eviction::Done {
                            break;
                        }
                        wait = self.shared.slot(&self.shared.pace.evictions);
                    }
                    // The closed connection's thread wakes up and accepts the new one. If nobody is
                    // then left to wait for the next, it says so.
                    thread::park_timeout(BACK_OFF);
                    sys::sleep(wait);
                    continue;
                }
                Eviction::Soon => {
                    let now = clock::instant();
                    let since = *trying_since.get_or_insert(now);
                    if now.saturating_duration_since(since) < EVICTION_PATIENCE {
                        // If all are busy with requests, they take turns.
                        self.shared.crowded.store(true, Ordering::Release);
                        thread::park_timeout(EVICTION_PATIENCE / 20);
                        continue;
                    }
                }
                Eviction::Nobody => {}
            }
            trying_since = None;
            if let Accepted::Connection(socket, _) = self.accept() {
                self.refuse(socket);
            }
        }
    }

    /// Whether one more connection of the main listener leaves enough file descriptors to the probe
    /// listener.
    ///
    /// If not, a connection has to go for it, now or soon. The limit is read each time, because an
    /// operator may lower it (prlimit(1)).
    pub(super) fn spares_descriptors(&self) -> bool {
        if self.shared.kind == ListenerKind::Probe {
            return true;
        }
        let limit = sys::descriptor_limit();
        let limits = &self.shared.http.context.config.limits;
        // The kernel gives out the lowest free number: everything opened before this socket is
        // below it.
        let others = usize::try_from(self.socket.as_raw_fd()).unwrap_or(0) + SPARE_DESCRIPTORS;
        let reserve = limits.max_probe_connections.min(limit / 4) + others;
        let waiting = self.waiting.load(Ordering::Acquire);
        let open = self.threads.load(Ordering::Acquire).saturating_sub(waiting);
        if open < limit.saturating_sub(reserve) {
            return true;
        }
        let error = io::Error::other(format!(
            "of {limit} file descriptors all but a reserve are in use"
        ));
        self.complain("keep every connection", &error);
        let deadline = clock::instant() + EVICTION_PATIENCE;
        loop {
            match self.evict(&self.shared.table, 0) {
                Eviction::Done => return true,
                Eviction::Soon if clock::instant() < deadline => sys::sleep(EVICTION_PATIENCE / 20),
                Eviction::Soon | Eviction::Nobody => return false,
            }
        }
    }

    /// Whether a client may have one more connection. If it has as many as allowed, one of its own
    /// idle ones is closed.
    pub(super) fn has_capacity_for(&self, peer: Option<IpAddr>) -> bool {
        let limits = &self.shared.http.context.config.limits;
        let (Some(max), Some(peer), ListenerKind::Main) =
            (limits.max_connections_per_address, peer, self.shared.kind)
        else {
            return true;
        };
        if self.shared.table.count(peer) < max {
            return true;
        }
        let evicted = self.shared.table.evict_one_of(peer) == Eviction::Done;
        if evicted {
            self.shared.clients().evicted.increment();
        }
        evicted
    }

    /// Makes room in `table`, and counts it.
    pub(super) fn evict(&self, table: &ConnectionTable, threads: usize) -> Eviction {
        let eviction = table.evict_one(threads);
        if eviction == Eviction::Done {
            self.shared.clients().evicted.increment();
        }
        eviction
    }

    /// Whether nobody waits for a connection and nobody can be started to.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
            && (self.threads.load(Ordering::Acquire) >= self.cap
                || self.starved.load(Ordering::Acquire))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_wanted_in_a_row_are_let_in_by_fours_and_others_one_by_one() {
        let start = clock::instant();
        let mut burst = EvictionBurst::default();
        let mut size = |millis: u64| burst.size(start + Duration::from_millis(millis));
        assert_eq!([size(0), size(1), size(2), size(3)], [1, 2, 4, 4]);
        assert_eq!([size(100), size(200), size(201)], [1, 1, 2]);
    }
}
