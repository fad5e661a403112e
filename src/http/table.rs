//! The open connections of one listener, each with what it is doing and since when.
//!
//! The connection's own thread writes its state; whoever needs room, or ends the server, closes
//! idle ones through the shared socket (never through a number that may have been given away
//! again). The lock is held for a look at the table and never across a system call that can wait.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::clock;
use crate::sys;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum State {
    /// Waiting for the first byte of a request.
    Idle = 0,
    /// Answered, and held back from its next request by the listener's pace.
    Paced = 1,
    /// Reading a request.
    Reading = 2,
    /// Owing its client an answer.
    Owing = 3,
    /// Writing one.
    Writing = 4,
    /// Told to close by somebody else.
    Closing = 5,
}

const STATE_SHIFT: u32 = 61;
const MILLIS_MASK: u64 = (1 << STATE_SHIFT) - 1;

/// How long a connection is left alone before it counts as idle, in milliseconds.
const YOUNG_MILLIS: u64 = 50;

/// What an attempt to make room came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// A connection was closed.
    Done,
    /// Those that are idle have only just become so.
    AllYoung,
    /// Nobody is idle.
    NoneIdle,
}

fn millis_since(origin: Instant) -> u64 {
    let millis = clock::instant()
        .saturating_duration_since(origin)
        .as_millis();
    u64::try_from(millis).unwrap_or(MILLIS_MASK) & MILLIS_MASK
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The socket; its own thread alone reads and writes, others may only shut it down.
    pub(crate) socket: TcpStream,
    /// State in the upper bits, milliseconds since the table was made in the others.
    state: AtomicU64,
    origin: Instant,
}

impl Entry {
    fn pack(&self, state: State) -> u64 {
        ((state as u64) << STATE_SHIFT) | millis_since(self.origin)
    }

    /// Moves to `state`, unless somebody has told the connection to close.
    ///
    /// Returns whether the connection may go on.
    pub(crate) fn enter(&self, state: State) -> bool {
        let next = self.pack(state);
        let closing = (State::Closing as u64) << STATE_SHIFT;
        let update = |now: u64| (now < closing).then_some(next);
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update)
            .is_ok()
    }

    /// Since when it is in this state, as its packed state.
    fn since(&self, wanted: State) -> Option<u64> {
        let state = self.state.load(Ordering::Acquire);
        (state >> STATE_SHIFT == wanted as u64).then_some(state)
    }

    /// Whether a request has arrived that its thread has not seen yet.
    fn has_input(&self) -> bool {
        sys::has_input(&self.socket) && !sys::peer_has_left(&self.socket)
    }

    /// Closes the connection if it is still idle as it was at `since`, and no request has arrived.
    fn close_idle(&self, since: u64) -> bool {
        !self.has_input() && self.close(since)
    }

    /// Closes the connection if its state is still `since`.
    fn close(&self, since: u64) -> bool {
        let closing = self.pack(State::Closing);
        let closed = self
            .state
            .compare_exchange(since, closing, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if closed {
            // Its thread sees the end of the stream; a client that has gone already is no error.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        closed
    }
}

/// The open connections of one listener.
#[derive(Debug)]
pub(crate) struct Table {
    origin: Instant,
    slots: Mutex<Vec<Option<Arc<Entry>>>>,
}

/// A connection's place in the table; leaving it is dropping this, however its thread ends.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) entry: Arc<Entry>,
    index: usize,
    table: &'a Table,
    open: &'a AtomicUsize,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.table.lock().get_mut(self.index) {
            *slot = None;
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Table {
    pub(crate) fn new() -> Self {
        Table {
            origin: clock::instant(),
            slots: Mutex::new(Vec::new()),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Arc<Entry>>>> {
        // Every change is one assignment, so a poisoned table is a sound one.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection its place; `open` counts it for as long.
    pub(crate) fn enter<'a>(&'a self, socket: TcpStream, open: &'a AtomicUsize) -> Place<'a> {
        let entry = Arc::new(Entry {
            socket,
            state: AtomicU64::new(0),
            origin: self.origin,
        });
        entry.enter(State::Idle);
        open.fetch_add(1, Ordering::Relaxed);
        let mut slots = self.lock();
        let index = slots
            .iter()
            .position(Option::is_none)
            .unwrap_or(slots.len());
        if index == slots.len() {
            slots.push(None);
        }
        slots[index] = Some(Arc::clone(&entry));
        drop(slots);
        Place {
            entry,
            index,
            table: self,
            open,
        }
    }

    /// Closes the connection that has been idle longest.
    ///
    /// One that came a moment ago is left alone: its request is probably on its way.
    pub(crate) fn evict_idle(&self) -> Eviction {
        let entries: Vec<Arc<Entry>> = self.lock().iter().flatten().cloned().collect();
        let mut idle: Vec<(u64, &Arc<Entry>)> = entries
            .iter()
            .filter_map(|entry| Some((entry.since(State::Idle)?, entry)))
            .collect();
        // The state bits of idle connections are the same, so this is by time.
        idle.sort_unstable_by_key(|(since, _)| *since);
        let none = idle.is_empty();
        let now = self.millis();
        let mut old = idle
            .into_iter()
            .filter(|(since, _)| now.saturating_sub(since & MILLIS_MASK) >= YOUNG_MILLIS);
        if old.any(|(since, entry)| entry.close_idle(since)) {
            return Eviction::Done;
        }
        // Whoever floods is held back, and goes before whoever has only just come.
        let mut paced: Vec<(u64, &Arc<Entry>)> = entries
            .iter()
            .filter_map(|entry| Some((entry.since(State::Paced)?, entry)))
            .collect();
        paced.sort_unstable_by_key(|(since, _)| *since);
        if paced.into_iter().any(|(since, entry)| entry.close(since)) {
            return Eviction::Done;
        }
        if none {
            Eviction::NoneIdle
        } else {
            Eviction::AllYoung
        }
    }

    fn millis(&self) -> u64 {
        millis_since(self.origin)
    }

    /// Closes every idle connection.
    pub(crate) fn close_idle(&self) {
        let entries: Vec<Arc<Entry>> = self.lock().iter().flatten().cloned().collect();
        for entry in entries {
            if let Some(since) = entry.since(State::Idle) {
                entry.close_idle(since);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    fn pair(listener: &TcpListener) -> (TcpStream, TcpStream) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    #[test]
    fn the_idle_connection_is_evicted_and_the_working_one_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = Table::new();
        let open = AtomicUsize::new(0);
        let (_working_client, working) = pair(&listener);
        let (mut idle_client, idle) = pair(&listener);
        let working = table.enter(working, &open);
        assert!(working.entry.enter(State::Owing));
        let idle = table.enter(idle, &open);
        let mut evicted = table.evict_idle();
        while evicted == Eviction::AllYoung {
            evicted = table.evict_idle();
        }
        assert_eq!(evicted, Eviction::Done);
        assert_eq!(idle_client.read(&mut [0]).unwrap(), 0);
        assert!(!idle.entry.enter(State::Reading), "told to close");
        assert_eq!(table.evict_idle(), Eviction::NoneIdle);
        assert!(working.entry.enter(State::Paced));
        assert_eq!(table.evict_idle(), Eviction::Done, "who is held back goes");
        drop((working, idle));
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }
}
