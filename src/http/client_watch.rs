//! Tells whether the client of a request is still there: a half-close is not a departure.
//!
//! Used by the connection's thread. A client may shut down its sending side after its request and
//! wait for the answer (a half-close, RFC 9112 section 9.6). On TCP its FIN looks like the FIN of a
//! client that closed its socket, so time decides: a FIN soon after the request's last byte is a
//! half-close, a later one is a departure.

use std::time::{Duration, Instant};

use crate::http::connection_table::{ConnectionEntry, ConnectionState};
use crate::platform::clock;
use crate::platform::sys::{self, PeerState};

/// A FIN that has come within this after the request's last byte is a half-close.
const HALF_CLOSE_WITHIN: Duration = Duration::from_millis(250);

/// How often a wait checks its connection's state if the socket cannot wake it.
const STATE_CHECK: Duration = Duration::from_millis(10);

/// What is known of one request's client.
#[derive(Debug)]
pub(crate) struct ClientWatch {
    /// A FIN that has arrived by then is a half-close.
    decides_at: Instant,
    seen: SendingSide,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SendingSide {
    /// Neither of the two below.
    Undecided,
    /// A FIN after its request: it waits for the answer, and only a reset or a full close counts.
    HalfClose,
    /// It was still open after [`HALF_CLOSE_WITHIN`]: any FIN is a departure.
    Open,
}

impl ClientWatch {
    /// Watches the client of a request whose last byte arrived at `last_byte`.
    pub(crate) fn new(last_byte: Instant) -> Self {
        ClientWatch {
            decides_at: last_byte + HALF_CLOSE_WITHIN,
            seen: SendingSide::Undecided,
        }
    }

    /// Watches a client that has its answer: any FIN is a departure.
    pub(crate) fn answered(now: Instant) -> Self {
        ClientWatch {
            decides_at: now,
            seen: SendingSide::Open,
        }
    }

    /// When to look next in order to tell half-closes from departures, if that is still open at
    /// `now`.
    pub(crate) fn decides_at(&self, now: Instant) -> Option<Instant> {
        (self.seen == SendingSide::Undecided && self.decides_at > now).then_some(self.decides_at)
    }

    /// Looks at `now`, without waiting, whether the client has departed.
    ///
    /// The first look after the time for half-closes decides. If it is late, the FIN may have come
    /// in time, and an answer too many is better than one too few.
    pub(crate) fn has_departed(&mut self, entry: &ConnectionEntry, now: Instant) -> bool {
        self.note(sys::peer(&entry.socket, Duration::ZERO), now)
    }

    /// Records the client's state at `now`; returns whether it has departed.
    fn note(&mut self, peer: PeerState, now: Instant) -> bool {
        match peer {
            PeerState::Open => {
                if self.seen == SendingSide::Undecided && now >= self.decides_at {
                    self.seen = SendingSide::Open;
                }
                false
            }
            PeerState::Finished if self.seen == SendingSide::Open => true,
            PeerState::Finished => {
                self.seen = SendingSide::HalfClose;
                false
            }
            PeerState::Departed => true,
        }
    }

    /// Waits for `patience` in `state`. Returns `true` at once if the client departs, and `false`
    /// at once if another thread moves the connection to another state.
    ///
    /// One system call if nothing happens, because a refusal costs little more than that.
    pub(crate) fn departs_within(
        &mut self,
        entry: &ConnectionEntry,
        state: ConnectionState,
        patience: Duration,
    ) -> bool {
        let mut now = clock::instant();
        let end = now + patience;
        if self.seen == SendingSide::Undecided && now >= self.decides_at {
            // Decided by whether a FIN is already there; one that comes during the wait is a
            // departure.
            self.has_departed(entry, now);
        }
        loop {
            let until = match self.seen {
                // A shutdown of the reading side by this process no longer wakes the waiting
                // thread.
                SendingSide::HalfClose => end.min(now + STATE_CHECK),
                SendingSide::Undecided | SendingSide::Open => {
                    self.decides_at(now).map_or(end, |at| at.min(end))
                }
            };
            let peer = match self.seen {
                SendingSide::HalfClose if sys::departs_within(&entry.socket, until - now) => {
                    PeerState::Departed
                }
                SendingSide::HalfClose => PeerState::Finished,
                SendingSide::Undecided | SendingSide::Open => sys::peer(&entry.socket, until - now),
            };
            now = match peer {
                // It has waited for the whole time.
                PeerState::Open => until,
                PeerState::Finished | PeerState::Departed => clock::instant(),
            };
            let has_departed = self.note(peer, now);
            if !entry.is(state) {
                return false;
            }
            if has_departed || now >= end {
                return has_departed;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::AtomicUsize;

    use socket2::{SockRef, Socket};

    use super::*;
    use crate::http::connection_table::ConnectionTable;

    /// What a client does, and when it is checked, in milliseconds after its request's last byte.
    enum Step {
        FinishesSending,
        Closes,
        Resets,
        Look(u64, bool),
    }
    use Step::{Closes, FinishesSending, Look, Resets};

    trait TestClient {
        fn finish_sending(&self);
        fn reset(&self);
    }

    impl TestClient for TcpStream {
        fn finish_sending(&self) {
            self.shutdown(Shutdown::Write).unwrap();
        }
        fn reset(&self) {
            SockRef::from(self)
                .set_linger(Some(Duration::ZERO))
                .unwrap();
        }
    }

    impl TestClient for UnixStream {
        fn finish_sending(&self) {
            self.shutdown(Shutdown::Write).unwrap();
        }
        fn reset(&self) {}
    }

    fn check(name: &str, client: impl TestClient, server: Socket, steps: &[Step]) {
        let (table, open) = (ConnectionTable::new(1, Duration::ZERO), AtomicUsize::new(0));
        let place = table.enter(server, None, &open).unwrap();
        let start = clock::instant();
        let mut watch = ClientWatch::new(start);
        let mut client = Some(client);
        for step in steps {
            // On loopback, what the peer did is visible when its call returns.
            match step {
                FinishesSending => client.as_ref().unwrap().finish_sending(),
                Closes => drop(client.take()),
                Resets => {
                    client.as_ref().unwrap().reset();
                    drop(client.take());
                }
                Look(millis, expected) => {
                    let now = start + Duration::from_millis(*millis);
                    let departed = watch.has_departed(&place.entry, now);
                    assert_eq!(departed, *expected, "{name}, after {millis} ms");
                }
            }
        }
    }

    fn tcp() -> (TcpStream, Socket) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0.into())
    }

    #[test]
    fn an_early_fin_is_a_half_close_and_a_later_one_a_departure() {
        let table: [(&str, Vec<Step>); 6] = [
            (
                "a half-close, however long the answer takes",
                vec![
                    FinishesSending,
                    Look(0, false),
                    Look(240, false),
                    Look(60_000, false),
                ],
            ),
            (
                "a half-close that is first looked for late",
                vec![
                    Look(100, false),
                    FinishesSending,
                    Look(900, false),
                    Look(9000, false),
                ],
            ),
            (
                "a departure after the time for half-closes",
                vec![
                    Look(16, false),
                    Look(250, false),
                    FinishesSending,
                    Look(260, true),
                ],
            ),
            (
                "a close after that",
                vec![Look(250, false), Closes, Look(251, true), Look(900, true)],
            ),
            ("a reset at once", vec![Resets, Look(1, true)]),
            (
                "a reset after a half-close",
                vec![FinishesSending, Look(16, false), Resets, Look(300, true)],
            ),
        ];
        for (name, steps) in &table {
            let (client, server) = tcp();
            check(name, client, server, steps);
        }
    }

    #[test]
    fn on_unix_sockets_a_close_is_seen_at_once_and_a_half_close_is_none() {
        let table: [(&str, Vec<Step>); 4] = [
            ("a close at once", vec![Closes, Look(1, true)]),
            (
                "a half-close",
                vec![FinishesSending, Look(16, false), Look(900, false)],
            ),
            (
                "a close after a half-close",
                vec![FinishesSending, Look(16, false), Closes, Look(17, true)],
            ),
            (
                "a late half-close",
                vec![Look(250, false), FinishesSending, Look(260, true)],
            ),
        ];
        for (name, steps) in &table {
            let (client, server) = UnixStream::pair().unwrap();
            let server = Socket::from(std::os::fd::OwnedFd::from(server));
            check(name, client, server, steps);
        }
    }

    #[test]
    fn a_client_that_has_its_answer_departs_with_any_fin() {
        let (client, server) = tcp();
        client.shutdown(Shutdown::Write).unwrap();
        let (table, open) = (ConnectionTable::new(1, Duration::ZERO), AtomicUsize::new(0));
        let place = table.enter(server, None, &open).unwrap();
        assert!(place.entry.enter(ConnectionState::Paced));
        let mut watch = ClientWatch::answered(clock::instant());
        let hour = Duration::from_secs(3600);
        assert!(watch.departs_within(&place.entry, ConnectionState::Paced, hour));
    }

    #[test]
    fn a_wait_ends_where_a_half_closed_connection_is_evicted() {
        let (client, server) = tcp();
        client.shutdown(Shutdown::Write).unwrap();
        let (table, open) = (ConnectionTable::new(1, Duration::ZERO), AtomicUsize::new(0));
        let place = table.enter(server, None, &open).unwrap();
        assert!(place.entry.enter(ConnectionState::Delayed));
        let mut watch = ClientWatch::new(clock::instant());
        assert!(!watch.departs_within(
            &place.entry,
            ConnectionState::Delayed,
            Duration::from_millis(1)
        ));
        assert_eq!(watch.seen, SendingSide::HalfClose);
        // No other client is there, so this one is asked to make room.
        let hour = Duration::from_secs(3600);
        assert!(place.entry.enter(ConnectionState::Answering));
        assert!(!watch.departs_within(&place.entry, ConnectionState::Delayed, hour));
    }
}
