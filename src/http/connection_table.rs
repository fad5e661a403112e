//! The open connections of one listener, with the state of each and since when.
//!
//! The connection's own thread writes its state. Other threads, to make room or to end the server,
//! close it through the shared socket (never through a descriptor number, which may have been
//! reused). The lock is held to look at the table and never across a system call.

use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::platform::clock;
use crate::platform::sys;

/// What a connection is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub(crate) enum ConnectionState {
    /// Waiting for the first byte of a request.
    Idle = 0,
    /// Answered; its next request is delayed by the rate limit.
    Paced = 1,
    /// Answered and about to be closed; further input is discarded.
    Lingering = 2,
    /// Its answer is ready but delayed by the rate limit. If told to make room, it sends the answer
    /// at once and closes.
    Delayed = 3,
    /// Reading a request.
    Reading = 4,
    /// Owes its client a prediction, or is asking for one.
    Owing = 5,
    /// Owes its client another answer, which will come soon.
    Answering = 6,
    /// Writing an answer.
    Writing = 7,
    /// Told to close by another thread.
    Closing = 8,
    /// No connection is there.
    Vacant = 9,
}

impl ConnectionState {
    fn of(packed: u64) -> Self {
        match packed >> STATE_SHIFT {
            0 => ConnectionState::Idle,
            1 => ConnectionState::Paced,
            2 => ConnectionState::Lingering,
            3 => ConnectionState::Delayed,
            4 => ConnectionState::Reading,
            5 => ConnectionState::Owing,
            6 => ConnectionState::Answering,
            7 => ConnectionState::Writing,
            8 => ConnectionState::Closing,
            _ => ConnectionState::Vacant,
        }
    }
}

const STATE_SHIFT: u32 = 60;
const MILLIS_MASK: u64 = (1 << STATE_SHIFT) - 1;

/// A round trip across the world: how long a connection is protected that does not take its answer,
/// or whose request may still be on its way while the server ends.
const ROUND_TRIP_MILLIS: u64 = 250;

/// How many connections may turn out to be busy before a search for room gives up.
const TRIES: usize = 16;

/// The result of an attempt to make room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// A connection was closed.
    Done,
    /// Some will soon get their answer or end, or have only just become idle or slow.
    Soon,
    /// All of them are owed a prediction.
    Nobody,
}

/// Eviction order: the highest value is evicted first; equal values by number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum EvictionRank {
    /// Longest without write progress, in milliseconds.
    Unwritten(u64),
    /// Furthest behind its deadline, in thousandths of the time it has, from 0.
    Late(u64),
    /// Delayed by the rate limit, or about to be closed anyway, for so many milliseconds.
    Delayed(u64),
    /// Idle for so many milliseconds.
    Idle(u64),
}

fn millis_since(origin: Instant) -> u64 {
    let since = clock::instant().saturating_duration_since(origin);
    millis(since) & MILLIS_MASK
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The state of one connection. The states of a table are contiguous, so that scanning a thousand
/// of them takes microseconds.
#[derive(Debug)]
struct ConnectionSlot {
    /// State in the upper bits, milliseconds since the table was made in the rest.
    state: AtomicU64,
    /// Milliseconds that reading may take, from the moment the state was entered.
    allowed: AtomicU64,
    /// Thousandths of the expected bytes that have arrived.
    progress: AtomicU64,
}

/// One open connection.
#[derive(Debug)]
pub(crate) struct ConnectionEntry {
    /// The socket; only its own thread reads and writes, others may only shut it down.
    pub(crate) socket: Socket,
    peer: Option<IpAddr>,
    origin: Instant,
    slots: Arc<[ConnectionSlot]>,
    index: usize,
}

impl ConnectionEntry {
    /// The client's network; `None` over a Unix socket.
    pub(crate) fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    fn slot(&self) -> &ConnectionSlot {
        &self.slots[self.index]
    }

    fn pack(&self, state: ConnectionState) -> u64 {
        ((state as u64) << STATE_SHIFT) | millis_since(self.origin)
    }

    /// Moves to `state`, unless another thread has told the connection to close.
    ///
    /// Returns whether the connection may go on.
    pub(crate) fn enter(&self, state: ConnectionState) -> bool {
        let next = self.pack(state);
        let closing = (ConnectionState::Closing as u64) << STATE_SHIFT;
        let update = |now: u64| (now < closing).then_some(next);
        self.slot()
            .state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, update)
            .is_ok()
    }

    /// Moves to [`ConnectionState::Reading`] with `allowed` time, as [`enter`](Self::enter) does.
    pub(crate) fn enter_reading(&self, allowed: Duration) -> bool {
        let slot = self.slot();
        slot.allowed
            .store(millis(allowed).max(1), Ordering::Relaxed);
        slot.progress.store(0, Ordering::Relaxed);
        self.enter(ConnectionState::Reading)
    }

    /// Notes that `come` of `expected` bytes have been read.
    pub(crate) fn note_read(&self, come: u64, expected: u64) {
        let share = come.saturating_mul(1000) / expected.max(1);
        self.slot().progress.store(share, Ordering::Relaxed);
    }

    /// Whether the connection is in this state.
    pub(crate) fn is(&self, state: ConnectionState) -> bool {
        ConnectionState::of(self.slot().state.load(Ordering::Acquire)) == state
    }

    /// Closes the connection if its state is still `seen` and an idle one has received no request
    /// that its thread has not seen yet. A delayed connection sends its answer at once and closes.
    fn close(&self, seen: u64) -> bool {
        let (end, next) = match ConnectionState::of(seen) {
            ConnectionState::Idle if sys::has_input(&self.socket) => return false,
            ConnectionState::Delayed => (Shutdown::Read, ConnectionState::Answering),
            _ => (Shutdown::Both, ConnectionState::Closing),
        };
        let closing = self.pack(next);
        let closed = self
            .slot()
            .state
            .compare_exchange(seen, closing, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if closed {
            // Its thread sees the end of the stream. A client that has already gone is not an
            // error.
            let _ = self.socket.shutdown(end);
        }
        closed
    }
}

/// The network that a client is counted by: its IPv4 address, or the first 64 bits of an IPv6
/// address, because one client usually has all of a /64.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
    }
}

/// The open connections of one listener.
#[derive(Debug)]
pub(crate) struct ConnectionTable {
    origin: Instant,
    /// How long a connection is protected before it counts as idle, or as slow to send: its request
    /// is probably on its way. In milliseconds.
    young: u64,
    slots: Arc<[ConnectionSlot]>,
    entries: Mutex<ConnectionEntries>,
}

#[derive(Debug)]
struct ConnectionEntries {
    /// By slot.
    open: Vec<Option<Arc<ConnectionEntry>>>,
    vacant: Vec<usize>,
}

/// A connection's place in the table. Dropping it leaves the table, however its thread ends.
#[derive(Debug)]
pub(crate) struct ConnectionGuard<'a> {
    pub(crate) entry: Arc<ConnectionEntry>,
    table: &'a ConnectionTable,
    open: &'a AtomicUsize,
}

impl Drop for ConnectionGuard<'_> {
    fn drop(&mut self) {
        let index = self.entry.index;
        let vacant = self.entry.pack(ConnectionState::Vacant);
        self.entry.slot().state.store(vacant, Ordering::Release);
        let mut entries = self.table.lock();
        entries.open[index] = None;
        entries.vacant.push(index);
        drop(entries);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl ConnectionTable {
    /// Makes a table for at most `capacity` connections, each protected for its first `young`.
    pub(crate) fn new(capacity: usize, young: Duration) -> Self {
        let slot = |_| ConnectionSlot {
            state: AtomicU64::new((ConnectionState::Vacant as u64) << STATE_SHIFT),
            allowed: AtomicU64::new(0),
            progress: AtomicU64::new(0),
        };
        ConnectionTable {
            origin: clock::instant(),
            young: millis(young),
            slots: (0..capacity).map(slot).collect(),
            entries: Mutex::new(ConnectionEntries {
                open: vec![None; capacity],
                vacant: (0..capacity).rev().collect(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, ConnectionEntries> {
        // No code under the lock panics halfway.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a new connection its place, counted in `open`; returns the socket if there is none.
    pub(crate) fn enter<'a>(
        &'a self,
        socket: Socket,
        peer: Option<IpAddr>,
        open: &'a AtomicUsize,
    ) -> Result<ConnectionGuard<'a>, Socket> {
        let Some(index) = self.lock().vacant.pop() else {
            return Err(socket);
        };
        let entry = Arc::new(ConnectionEntry {
            socket,
            peer,
            origin: self.origin,
            slots: Arc::clone(&self.slots),
            index,
        });
        let idle = entry.pack(ConnectionState::Idle);
        entry.slot().state.store(idle, Ordering::Release);
        self.lock().open[index] = Some(Arc::clone(&entry));
        open.fetch_add(1, Ordering::Relaxed);
        Ok(ConnectionGuard {
            entry,
            table: self,
            open,
        })
    }

    /// Closes one connection for another: the one idle longest; if none is idle, a delayed one,
    /// then the slowest reader relative to its deadline, then the one longest without write
    /// progress. Never one that is owed an answer.
    ///
    /// `threads` is the number of threads that serve connections. If it is larger than the table,
    /// some are between two connections.
    pub(crate) fn evict_one(&self, threads: usize) -> Eviction {
        let open = self.slots.len() - self.lock().vacant.len();
        match self.evict(|| self.weakest(0..self.slots.len())) {
            Eviction::Nobody if open < threads => Eviction::Soon,
            eviction => eviction,
        }
    }

    /// Number of open connections from one client network.
    pub(crate) fn count(&self, peer: IpAddr) -> usize {
        self.of(peer).len()
    }

    /// Evicts as [`evict_one`](Self::evict_one) does, among one client's connections.
    pub(crate) fn evict_one_of(&self, peer: IpAddr) -> Eviction {
        self.evict(|| self.weakest(self.of(peer)))
    }

    /// The slots of one client's connections.
    fn of(&self, peer: IpAddr) -> Vec<usize> {
        let entries = self.lock();
        let open = entries.open.iter().flatten();
        open.filter(|entry| entry.peer == Some(peer))
            .map(|entry| entry.index)
            .collect()
    }

    fn evict(&self, weakest: impl Fn() -> Result<(u64, usize), Eviction>) -> Eviction {
        for _ in 0..TRIES {
            let (seen, index) = match weakest() {
                Ok(found) => found,
                Err(eviction) => return eviction,
            };
            let entry = self.lock().open[index].clone();
            if entry.is_some_and(|entry| entry.close(seen)) {
                return Eviction::Done;
            }
        }
        Eviction::Soon
    }

    /// Finds the first to evict among `slots`, with the state it was seen in.
    fn weakest(&self, slots: impl IntoIterator<Item = usize>) -> Result<(u64, usize), Eviction> {
        let now = millis_since(self.origin);
        let mut best: Option<(EvictionRank, u64, usize)> = None;
        let mut otherwise = Eviction::Nobody;
        for index in slots {
            let slot = &self.slots[index];
            let seen = slot.state.load(Ordering::Acquire);
            match self.eviction_rank(slot, seen, now) {
                Ok(rank) if best.is_none_or(|(other, ..)| rank > other) => {
                    best = Some((rank, seen, index));
                }
                Ok(_) | Err(Eviction::Nobody) => {}
                Err(soon) => otherwise = soon,
            }
        }
        best.map(|(_, seen, index)| (seen, index)).ok_or(otherwise)
    }

    /// The eviction order of a connection at `now`, if it may be closed; and whether it soon may.
    fn eviction_rank(
        &self,
        slot: &ConnectionSlot,
        seen: u64,
        now: u64,
    ) -> Result<EvictionRank, Eviction> {
        let age = now.saturating_sub(seen & MILLIS_MASK);
        let from = |age_min: u64, rank: EvictionRank| {
            if age >= age_min {
                Ok(rank)
            } else {
                Err(Eviction::Soon)
            }
        };
        match ConnectionState::of(seen) {
            ConnectionState::Idle => from(self.young, EvictionRank::Idle(age)),
            ConnectionState::Paced | ConnectionState::Lingering | ConnectionState::Delayed => {
                Ok(EvictionRank::Delayed(age))
            }
            ConnectionState::Reading => {
                let spent = age.saturating_mul(1000) / slot.allowed.load(Ordering::Relaxed).max(1);
                let behind = spent.saturating_sub(slot.progress.load(Ordering::Relaxed));
                from(self.young, EvictionRank::Late(behind))
            }
            ConnectionState::Writing => from(ROUND_TRIP_MILLIS, EvictionRank::Unwritten(age)),
            ConnectionState::Owing | ConnectionState::Vacant => Err(Eviction::Nobody),
            ConnectionState::Answering | ConnectionState::Closing => Err(Eviction::Soon),
        }
    }

    /// Closes every connection that has been idle for a round trip or only lingers, and has the
    /// delayed ones answered. Shutdown calls it repeatedly.
    pub(crate) fn close_idle(&self) {
        self.close_idle_at(millis_since(self.origin));
    }

    fn close_idle_at(&self, now: u64) {
        let entries: Vec<Arc<ConnectionEntry>> =
            self.lock().open.iter().flatten().cloned().collect();
        for entry in entries {
            let seen = entry.slot().state.load(Ordering::Acquire);
            let closes = match ConnectionState::of(seen) {
                ConnectionState::Idle => {
                    now.saturating_sub(seen & MILLIS_MASK) >= ROUND_TRIP_MILLIS
                }
                ConnectionState::Paced | ConnectionState::Lingering | ConnectionState::Delayed => {
                    true
                }
                _ => false,
            };
            if closes {
                entry.close(seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    fn pair(listener: &TcpListener) -> (TcpStream, Socket) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0.into())
    }

    /// A table whose connections look `age` older than they are.
    fn aged(age: Duration) -> ConnectionTable {
        ConnectionTable {
            origin: clock::instant().checked_sub(age).unwrap(),
            ..ConnectionTable::new(16, Duration::from_millis(50))
        }
    }

    fn since(entry: &ConnectionEntry, state: ConnectionState, age: u64) {
        let now = millis_since(entry.origin);
        entry.slot().state.store(
            ((state as u64) << STATE_SHIFT) | (now - age),
            Ordering::Release,
        );
    }

    #[test]
    fn eviction_follows_the_ranks_and_spares_whoever_is_owed_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        #[rustfmt::skip]
        let connections = [
            ("idle longest", ConnectionState::Idle, 70_000),
            ("idle", ConnectionState::Idle, 60_000),
            ("held back", ConnectionState::Paced, 500),
            ("a head at one byte a second", ConnectionState::Reading, 5_000),
            ("an upload that is ahead of its deadline", ConnectionState::Reading, 9_000),
            ("an answer not taken for long", ConnectionState::Writing, 9_000),
            ("an answer not taken", ConnectionState::Writing, 300),
            ("owed an answer", ConnectionState::Owing, 90_000),
            ("only just come", ConnectionState::Idle, 1),
            ("an answer being taken", ConnectionState::Writing, 10),
        ];
        let mut places = Vec::new();
        for (name, state, age) in connections {
            let (client, socket) = pair(&listener);
            let place = table.enter(socket, None, &open).unwrap();
            assert!(place.entry.enter_reading(Duration::from_secs(10)));
            if name.starts_with("an upload") {
                place.entry.note_read(80, 100);
            }
            since(&place.entry, state, age);
            places.push((name, client, place));
        }
        let mut order = Vec::new();
        let last = loop {
            match table.evict_one(0) {
                Eviction::Done => {
                    let evicted = places.iter().position(|(_, _, place)| {
                        ConnectionState::of(place.entry.slot().state.load(Ordering::Acquire))
                            == ConnectionState::Closing
                    });
                    let (name, mut client, place) = places.remove(evicted.unwrap());
                    assert_eq!(client.read(&mut [0]).unwrap(), 0, "{name}");
                    assert!(
                        !place.entry.enter(ConnectionState::Reading),
                        "{name}: told to close"
                    );
                    order.push(name);
                }
                end => break end,
            }
        };
        assert_eq!(order, connections.map(|(name, ..)| name)[..7]);
        assert_eq!(last, Eviction::Soon, "two may become idle or slow");
        places.retain(|(name, ..)| *name == "owed an answer");
        assert_eq!(table.evict_one(1), Eviction::Nobody);
        assert_eq!(
            table.evict_one(2),
            Eviction::Soon,
            "a thread is between two"
        );
        drop(places);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_delayed_connection_is_evicted_by_giving_its_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        let (_client, socket) = pair(&listener);
        let place = table.enter(socket, None, &open).unwrap();
        assert!(place.entry.enter(ConnectionState::Delayed));
        assert_eq!(table.evict_one(1), Eviction::Done);
        let seen = sys::peer(&place.entry.socket, Duration::from_secs(5));
        assert_eq!(seen, sys::PeerState::Finished, "it is woken");
        assert!(!place.entry.is(ConnectionState::Delayed));
        assert_eq!(table.evict_one(1), Eviction::Soon, "it is not asked twice");
        assert!(place.entry.enter(ConnectionState::Writing));
        assert_eq!((&place.entry.socket).write(b"503").unwrap(), 3);
    }

    #[test]
    fn an_idle_connection_whose_request_has_arrived_is_not_idle() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        let (mut client, socket) = pair(&listener);
        let place = table.enter(socket, None, &open).unwrap();
        since(&place.entry, ConnectionState::Idle, 60_000);
        client.write_all(b"GET").unwrap();
        let arrived = clock::instant() + Duration::from_secs(5);
        sys::wait_readable(
            &[std::os::fd::AsFd::as_fd(&place.entry.socket)],
            Some(arrived),
        )
        .unwrap();
        assert_eq!(table.evict_one(1), Eviction::Soon);
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(
            table.evict_one(1),
            Eviction::Soon,
            "nor if its client half-closes"
        );
        drop(place);
    }

    #[test]
    fn closing_the_idle_leaves_alone_whose_request_may_be_on_its_way() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        let (_clients, places): (Vec<_>, Vec<_>) = (0..2)
            .map(|_| {
                let (client, socket) = pair(&listener);
                (client, table.enter(socket, None, &open).unwrap())
            })
            .unzip();
        let now = millis_since(table.origin);
        since(&places[1].entry, ConnectionState::Idle, 60_000);
        table.close_idle_at(now);
        assert!(places[0].entry.enter(ConnectionState::Reading));
        assert!(!places[1].entry.enter(ConnectionState::Reading));
    }

    #[test]
    fn connections_are_counted_and_closed_by_their_network() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        let [one, two]: [IpAddr; 2] = ["10.0.0.1", "2001:db8::"].map(|text| text.parse().unwrap());
        let (_clients, places): (Vec<_>, Vec<_>) = [one, one, two]
            .into_iter()
            .map(|peer| {
                let (client, socket) = pair(&listener);
                (client, table.enter(socket, Some(peer), &open).unwrap())
            })
            .unzip();
        for place in &places {
            since(&place.entry, ConnectionState::Idle, 60_000);
        }
        assert_eq!((table.count(one), table.count(two)), (2, 1));
        assert_eq!(table.evict_one_of(two), Eviction::Done);
        assert!(
            places[0].entry.enter(ConnectionState::Idle)
                && places[1].entry.enter(ConnectionState::Idle)
        );
        assert!(!places[2].entry.enter(ConnectionState::Idle));
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
    }
}
