//! The open connections of one listener, each with what it is doing and since when.
//!
//! The connection's own thread writes its state; whoever needs room, or ends the server, closes
//! others through the shared socket (never through a number that may have been given away again).
//! The lock is held for a look at the table and never across a system call.

use std::net::{IpAddr, Ipv6Addr, Shutdown};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use socket2::Socket;

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
    /// Answered and about to be closed; what its client still sends is discarded.
    Lingering = 2,
    /// Reading a request.
    Reading = 3,
    /// Owing its client an answer.
    Owing = 4,
    /// Writing one.
    Writing = 5,
    /// Told to close by somebody else.
    Closing = 6,
}

impl State {
    fn of(packed: u64) -> Self {
        match packed >> STATE_SHIFT {
            0 => State::Idle,
            1 => State::Paced,
            2 => State::Lingering,
            3 => State::Reading,
            4 => State::Owing,
            5 => State::Writing,
            _ => State::Closing,
        }
    }
}

const STATE_SHIFT: u32 = 61;
const MILLIS_MASK: u64 = (1 << STATE_SHIFT) - 1;

/// How long a connection is left alone before it counts as idle, or as slow to send: its request is
/// probably on its way.
const YOUNG_MILLIS: u64 = 50;

/// How long a connection is left alone that does not take its answer: a round trip across the world.
const UNWRITTEN_MILLIS: u64 = 250;

/// Connections that may turn out to be busy after all before a search for room is given up.
const TRIES: usize = 16;

/// What an attempt to make room came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Eviction {
    /// A connection was closed.
    Done,
    /// Some are about to end, or have only just begun to be idle or slow.
    Soon,
    /// All of them are owed an answer.
    Nobody,
}

/// A connection's claim on its place, the weakest first to go; equal ones go by the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// Longest without write progress, in milliseconds.
    Unwritten(u64),
    /// Furthest behind its deadline, in thousandths of the time it has, from 0.
    Late(u64),
    /// Held back by the pace, or about to be closed anyway, for so many milliseconds.
    HeldBack(u64),
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

/// One open connection.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The socket; its own thread alone reads and writes, others may only shut it down.
    pub(crate) socket: Socket,
    peer: Option<IpAddr>,
    /// State in the upper bits, milliseconds since the table was made in the others.
    state: AtomicU64,
    /// Milliseconds that reading may take, from the moment the state was entered.
    allowed: AtomicU64,
    /// Thousandths of what is being read that have come.
    progress: AtomicU64,
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

    /// Moves to [`State::Reading`], which may take `allowed`, as [`enter`](Self::enter) does.
    pub(crate) fn enter_reading(&self, allowed: Duration) -> bool {
        self.allowed
            .store(millis(allowed).max(1), Ordering::Relaxed);
        self.progress.store(0, Ordering::Relaxed);
        self.enter(State::Reading)
    }

    /// Notes that `come` of `expected` bytes have been read.
    pub(crate) fn note_read(&self, come: u64, expected: u64) {
        let share = come.saturating_mul(1000) / expected.max(1);
        self.progress.store(share, Ordering::Relaxed);
    }

    /// What is to be said for it at `now`, if it may be closed; and whether it will be able to soon.
    fn claim(&self, packed: u64, now: u64) -> Result<Claim, Eviction> {
        let age = now.saturating_sub(packed & MILLIS_MASK);
        let from = |age_min: u64, claim: Claim| {
            if age >= age_min {
                Ok(claim)
            } else {
                Err(Eviction::Soon)
            }
        };
        match State::of(packed) {
            State::Idle => from(YOUNG_MILLIS, Claim::Idle(age)),
            State::Paced | State::Lingering => Ok(Claim::HeldBack(age)),
            State::Reading => {
                let spent = age.saturating_mul(1000) / self.allowed.load(Ordering::Relaxed).max(1);
                let behind = spent.saturating_sub(self.progress.load(Ordering::Relaxed));
                from(YOUNG_MILLIS, Claim::Late(behind))
            }
            State::Writing => from(UNWRITTEN_MILLIS, Claim::Unwritten(age)),
            State::Owing => Err(Eviction::Nobody),
            State::Closing => Err(Eviction::Soon),
        }
    }

    /// Closes the connection if its state is still `seen`, and no request has arrived on an idle one
    /// that its thread has not seen yet.
    fn close(&self, seen: u64) -> bool {
        if State::of(seen) == State::Idle && sys::has_input(&self.socket) {
            return false;
        }
        let closing = self.pack(State::Closing);
        let closed = self
            .state
            .compare_exchange(seen, closing, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if closed {
            // Its thread sees the end of the stream; a client that has gone already is no error.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        closed
    }
}

/// The network a client counts by: its address, or the first 64 bits of an IPv6 address, since
/// whoever has one has them all.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        address => address,
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
    pub(crate) fn enter<'a>(
        &'a self,
        socket: Socket,
        peer: Option<IpAddr>,
        open: &'a AtomicUsize,
    ) -> Place<'a> {
        let entry = Arc::new(Entry {
            socket,
            peer,
            state: AtomicU64::new(0),
            allowed: AtomicU64::new(0),
            progress: AtomicU64::new(0),
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

    /// Closes one connection in favour of another: the one idle longest; where none is idle, one
    /// that is held back anyway, then the slowest reader against its deadline, then the one longest
    /// without write progress. Never one that is owed an answer.
    ///
    /// `threads` is the number of threads that serve connections: where it is larger than the table,
    /// some are between two.
    pub(crate) fn make_room(&self, threads: usize) -> Eviction {
        let between_two = self.lock().iter().flatten().count() < threads;
        match self.evict(|_| true) {
            Eviction::Nobody if between_two => Eviction::Soon,
            eviction => eviction,
        }
    }

    /// Number of open connections from a client's network.
    pub(crate) fn count(&self, peer: IpAddr) -> usize {
        let slots = self.lock();
        let same = slots
            .iter()
            .flatten()
            .filter(|entry| entry.peer == Some(peer));
        same.count()
    }

    /// Makes room as [`make_room`](Self::make_room) does, among a client's own connections.
    pub(crate) fn make_room_of(&self, peer: IpAddr) -> Eviction {
        self.evict(|entry| entry.peer == Some(peer))
    }

    fn evict(&self, among: impl Fn(&Entry) -> bool) -> Eviction {
        for _ in 0..TRIES {
            match self.weakest(&among) {
                Ok((seen, entry)) if entry.close(seen) => return Eviction::Done,
                Ok(_) => {}
                Err(eviction) => return eviction,
            }
        }
        Eviction::Soon
    }

    /// Finds who is the first to go, with the state it was seen in.
    fn weakest(&self, among: impl Fn(&Entry) -> bool) -> Result<(u64, Arc<Entry>), Eviction> {
        let now = millis_since(self.origin);
        let mut best: Option<(Claim, u64, &Arc<Entry>)> = None;
        let mut otherwise = Eviction::Nobody;
        let slots = self.lock();
        for entry in slots.iter().flatten().filter(|entry| among(entry)) {
            let packed = entry.state.load(Ordering::Acquire);
            match entry.claim(packed, now) {
                Ok(claim) if best.is_none_or(|(other, ..)| claim > other) => {
                    best = Some((claim, packed, entry));
                }
                Ok(_) | Err(Eviction::Nobody) => {}
                Err(soon) => otherwise = soon,
            }
        }
        best.map(|(_, packed, entry)| (packed, Arc::clone(entry)))
            .ok_or(otherwise)
    }

    /// Closes every connection that is idle or only lingers.
    pub(crate) fn close_idle(&self) {
        let entries: Vec<Arc<Entry>> = self.lock().iter().flatten().cloned().collect();
        for entry in entries {
            let seen = entry.state.load(Ordering::Acquire);
            if matches!(
                State::of(seen),
                State::Idle | State::Paced | State::Lingering
            ) {
                entry.close(seen);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    fn pair(listener: &TcpListener) -> (TcpStream, Socket) {
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0.into())
    }

    /// A table whose connections look `age` older than they are.
    fn aged(age: Duration) -> Table {
        Table {
            origin: clock::instant().checked_sub(age).unwrap(),
            ..Table::new()
        }
    }

    fn since(entry: &Entry, state: State, age: u64) {
        let now = millis_since(entry.origin);
        entry.state.store(
            ((state as u64) << STATE_SHIFT) | (now - age),
            Ordering::Release,
        );
    }

    #[test]
    fn who_is_least_in_need_of_its_connection_goes_first_and_none_that_is_owed_an_answer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        #[rustfmt::skip]
        let connections = [
            ("idle longest", State::Idle, 70_000),
            ("idle", State::Idle, 60_000),
            ("held back", State::Paced, 500),
            ("a head at one byte a second", State::Reading, 5_000),
            ("an upload that is ahead of its deadline", State::Reading, 9_000),
            ("an answer not taken for long", State::Writing, 9_000),
            ("an answer not taken", State::Writing, 300),
            ("owed an answer", State::Owing, 90_000),
            ("only just come", State::Idle, 1),
            ("an answer being taken", State::Writing, 10),
        ];
        let mut places = Vec::new();
        for (name, state, age) in connections {
            let (client, socket) = pair(&listener);
            let place = table.enter(socket, None, &open);
            assert!(place.entry.enter_reading(Duration::from_secs(10)));
            if name.starts_with("an upload") {
                place.entry.note_read(80, 100);
            }
            since(&place.entry, state, age);
            places.push((name, client, place));
        }
        let mut order = Vec::new();
        let last = loop {
            match table.make_room(0) {
                Eviction::Done => {
                    let gone = places.iter().position(|(_, _, place)| {
                        State::of(place.entry.state.load(Ordering::Acquire)) == State::Closing
                    });
                    let (name, mut client, place) = places.remove(gone.unwrap());
                    assert_eq!(client.read(&mut [0]).unwrap(), 0, "{name}");
                    assert!(!place.entry.enter(State::Reading), "{name}: told to close");
                    order.push(name);
                }
                end => break end,
            }
        };
        assert_eq!(order, connections.map(|(name, ..)| name)[..7]);
        assert_eq!(last, Eviction::Soon, "two may become idle or slow");
        places.retain(|(name, ..)| *name == "owed an answer");
        assert_eq!(table.make_room(1), Eviction::Nobody);
        assert_eq!(
            table.make_room(2),
            Eviction::Soon,
            "a thread is between two"
        );
        drop(places);
        assert_eq!(open.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn an_idle_connection_whose_request_has_arrived_is_not_idle() {
        use std::io::Write;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let table = aged(Duration::from_secs(100));
        let open = AtomicUsize::new(0);
        let (mut client, socket) = pair(&listener);
        let place = table.enter(socket, None, &open);
        since(&place.entry, State::Idle, 60_000);
        client.write_all(b"GET").unwrap();
        let arrived = clock::instant() + Duration::from_secs(5);
        sys::wait_readable(
            &[std::os::fd::AsFd::as_fd(&place.entry.socket)],
            Some(arrived),
        )
        .unwrap();
        assert_eq!(table.make_room(1), Eviction::Soon);
        drop(place);
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
                (client, table.enter(socket, Some(peer), &open))
            })
            .unzip();
        for place in &places {
            since(&place.entry, State::Idle, 60_000);
        }
        assert_eq!((table.count(one), table.count(two)), (2, 1));
        assert_eq!(table.make_room_of(two), Eviction::Done);
        assert!(places[0].entry.enter(State::Idle) && places[1].entry.enter(State::Idle));
        assert!(!places[2].entry.enter(State::Idle));
        let same = |a: &str, b: &str| network(a.parse().unwrap()) == network(b.parse().unwrap());
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("::ffff:10.0.0.1", "10.0.0.1") && !same("10.0.0.1", "10.0.0.2"));
    }
}
