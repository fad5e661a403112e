//! A listener: its socket, its connection threads, and the limit on them.
//!
//! Idle connection threads wait for connections themselves. One of them, the leader, waits on the
//! socket; the others wait to become leader (leader/followers). One extra thread above the limit is
//! reserved to make room, or to refuse if there is none. All of them also wait on a stop pipe;
//! nobody calls `shutdown(2)` on a listening socket, because that would end it for every process
//! that holds it.
//!
//! The main listener cannot affect the probe listener: the probe listener starts all its threads at
//! the start, and file descriptors are reserved for it.

mod defer_accept;
mod eviction;

use std::io::{self, PipeReader, PipeWriter};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::Thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use crate::http::connection::{self, Buffers, NewConnection};
use crate::http::connection_table::{self, ConnectionTable};
use crate::http::listener_context::{HttpContext, ListenerContext};
use crate::http::refusal;
use crate::http::socket::ListeningSocket;
use crate::lanes::admission::Pace;
use crate::platform::address::Address;
use crate::platform::clock::{self, Stamp};
use crate::platform::fault::ThreadRole;
use crate::platform::panic;
use crate::platform::sys::{self, PollResult};
use crate::protocol::routes::ListenerKind;
use crate::vitals::Streak;

use self::defer_accept::EarlyDepartures;

/// If fewer threads than this wait for connections, the one that takes a connection starts another.
const SPARE_MIN: usize = 2;

/// If this many already wait, a thread that comes back ends. The gap to the minimum means that a
/// probe on a fresh connection costs no new thread.
const SPARE_MAX: usize = 4;

/// Address space for a connection thread's stack. Only touched pages cost memory (12 KiB, 24 in a
/// debug build, measured), but all of it counts towards RLIMIT_DATA, times `--max-connections`.
pub const STACK_BYTES: usize = 48 * 1024;

/// A pause after a failed system call that only time can fix.
const BACK_OFF: Duration = Duration::from_millis(50);

/// How long a new connection is protected before it counts as idle or slow. The longest idle
/// connection is closed first, so this matters only if all are about equally young. A request
/// follows its connection at once, and a longer protection lets in fewer new connections per
/// second.
const YOUNG: Duration = Duration::from_millis(5);

/// How many first answers the probe listener gives for each later one. Persistent connections that
/// were closed for new ones come back as new ones, all at once, and a kubelet's probe must not wait
/// behind them for long.
const PROBE_FIRST_SHARE: u32 = 4;

/// Maximum delay of a probe on a fresh connection, on the main and on the probe listener: well
/// within a kubelet's second, whatever the flood. It also limits what a flood of fresh probes
/// costs, because each of its connections waits as long.
const PROBE_WAIT: Duration = Duration::from_millis(250);
const PROBE_WAIT_PROBE: Duration = Duration::from_millis(13);

/// A pause if clients connect and leave at once, so that each does not interrupt predictions.
const DEFER_PAUSE: Duration = Duration::from_millis(3);

/// One listener with its threads.
#[derive(Debug)]
pub struct Listener {
    shared: ListenerContext,
    socket: Socket,
    address: Address,
    inherited: bool,
    cap: usize,
    /// Threads that wait for connections: more are started below the first number, ended above the
    /// second.
    spare: (usize, usize),
    /// Connection threads, waiting or serving; at most `cap`.
    threads: AtomicUsize,
    /// Those of them that wait for a connection.
    waiting: AtomicUsize,
    /// The system refuses more threads: these are all there can be.
    starved: AtomicBool,
    leader: Mutex<()>,
    /// Whether connections are accepted: not before the start, and not after the stop.
    accepting: AtomicBool,
    /// Becomes readable once the listener is stopped, because its other end is closed.
    stop: PipeReader,
    stopper: Mutex<Option<PipeWriter>>,
    early_departures: Mutex<EarlyDepartures>,
    reserved: Mutex<Option<Thread>>,
    complained: Mutex<Option<Instant>>,
}

/// The result of an attempt to accept a connection.
enum Accepted {
    Connection(Socket, Option<IpAddr>),
    /// No connection, or one that is already gone.
    Nothing,
}

/// Number of connection threads that a listener with this limit starts with.
pub(crate) fn threads_at_start(kind: ListenerKind, cap: usize) -> usize {
    match kind {
        ListenerKind::Main => cap.min(SPARE_MAX),
        ListenerKind::Probe => cap,
    }
}

impl Listener {
    /// Takes a listening socket; starts no threads yet. `relief` is the table that gives up a
    /// connection if this listener finds no file descriptor left.
    ///
    /// # Errors
    ///
    /// The system has no pipe left.
    pub fn new(
        kind: ListenerKind,
        socket: ListeningSocket,
        http: Arc<HttpContext>,
        relief: Option<&Listener>,
    ) -> io::Result<Self> {
        let config = &http.context.config;
        let limits = &config.limits;
        let (cap, spare, pace) = match kind {
            ListenerKind::Main => (
                limits.max_connections,
                (SPARE_MIN, SPARE_MAX),
                Pace::new(
                    limits.pace_first,
                    config.pace_later,
                    limits.pace_bodies,
                    config.predict_workers,
                    PROBE_WAIT,
                ),
            ),
            // From then on, nothing that happens elsewhere can take a thread from it.
            ListenerKind::Probe => (
                limits.max_probe_connections,
                (limits.max_probe_connections, limits.max_probe_connections),
                Pace::new(
                    limits.pace_probes.saturating_mul(PROBE_FIRST_SHARE),
                    limits.pace_probes,
                    limits.pace_bodies,
                    config.predict_workers,
                    PROBE_WAIT_PROBE,
                ),
            ),
        };
        let table = Arc::new(ConnectionTable::new(cap, YOUNG));
        let (stop, stopper) = io::pipe()?;
        let relief = relief.map_or_else(|| Arc::clone(&table), |other| other.shared.table());
        Ok(Listener {
            shared: ListenerContext {
                kind,
                table,
                relief,
                crowded: AtomicBool::new(false),
                pace,
                http,
            },
            address: socket.address,
            inherited: socket.inherited,
            socket: socket.socket,
            cap,
            spare,
            threads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            starved: AtomicBool::new(false),
            leader: Mutex::new(()),
            early_departures: Mutex::new(EarlyDepartures::default()),
            reserved: Mutex::new(None),
            complained: Mutex::new(None),
            accepting: AtomicBool::new(false),
            stop,
            stopper: Mutex::new(Some(stopper)),
        })
    }

    /// Stops accepting: threads that wait for a connection end, threads that serve one finish it.
    /// The backlog is left to other holders of the socket.
    pub fn stop_accepting(&self) {
        self.accepting.store(false, Ordering::Release);
        let stopper = self
            .stopper
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if stopper.is_some() {
            drop(stopper);
            // The setting would stay in force for the next holder of the socket.
            sys::defer_accept(&self.socket, false);
            self.wake_reserved();
        }
    }

    /// Whether no connection thread is left: after the stop, each ends with its connection.
    pub fn is_deserted(&self) -> bool {
        self.threads.load(Ordering::Acquire) == 0
    }

    /// Whether a connection waits to be accepted.
    pub fn has_waiting(&self) -> bool {
        sys::has_waiting(&self.socket)
    }

    /// When it last took a connection.
    pub fn accepted_at(&self) -> Stamp {
        self.shared.http.context.vitals.listeners[self.shared.kind as usize]
            .accepted_at
            .load()
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Its socket; only its own threads accept from it.
    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Whether another process opened the socket and keeps it.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Starts accepting: starts the threads that wait for connections.
    ///
    /// # Errors
    ///
    /// The system refuses threads.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        self.accepting.store(true, Ordering::Release);
        self.replenish(self.spare.1).map(|_| ())
    }

    /// Starts accepting connections, which waited in the backlog until now. If the system refuses
    /// threads, every tick tries again.
    pub fn open(self: &Arc<Self>) {
        if !self.accepting.swap(true, Ordering::AcqRel) {
            self.replenish_or_starve(self.spare.1);
        }
    }

    /// Closes every connection that has been idle for a round trip.
    pub fn close_idle(&self) {
        self.shared.table.close_idle();
    }

    /// Replaces threads that ended by a panic, and starts those that could not be started before. The
    /// main thread calls it at every tick.
    pub fn tick(self: &Arc<Self>) {
        if !self.accepting.load(Ordering::Acquire) {
            return;
        }
        self.replenish_or_starve(self.spare.1);
        if self.early_departures().are_over(clock::instant()) {
            sys::defer_accept(&self.socket, false);
        }
    }

    /// Starts threads until `spare` wait for a connection, at most `cap` in all; returns how many.
    fn replenish(self: &Arc<Self>, spare: usize) -> io::Result<usize> {
        let mut started = 0;
        loop {
            let below = |limit: usize| move |count: usize| (count < limit).then_some(count + 1);
            if self
                .threads
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, below(self.cap))
                .is_err()
            {
                return Ok(started);
            }
            let present = Present(Arc::clone(self));
            if self
                .waiting
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, below(spare))
                .is_err()
            {
                return Ok(started);
            }
            let waiting = WaitingThread(Arc::clone(self));
            sys::spawn("conn", STACK_BYTES, move || {
                connection_thread(present, waiting)
            })?;
            started += 1;
        }
    }

    /// As [`replenish`](Self::replenish). If the system refuses a thread, the present number of threads
    /// becomes the limit, at which the reserved thread evicts connections, until one can be started.
    fn replenish_or_starve(self: &Arc<Self>, spare: usize) {
        if !self.accepting.load(Ordering::Acquire) {
            return;
        }
        match self.replenish(spare) {
            Ok(0) => {}
            Ok(_) => self.starved.store(false, Ordering::Release),
            Err(error) => {
                self.complain("start a connection thread", &error);
                self.starved.store(true, Ordering::Release);
                self.wake_reserved();
            }
        }
    }

    /// Waits, as the leader, for a connection; `None` when told to stop.
    fn next_connection(&self) -> Option<(Socket, Option<IpAddr>)> {
        // A leader that panicked held no state.
        let _leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        let vitals = &self.shared.http.context.vitals;
        loop {
            // Accept before polling: under load a connection is usually there, which saves a system
            // call. This also takes all clients that connected and left in one pass.
            let mut early_departures = 0;
            loop {
                if !self.accepting.load(Ordering::Acquire) {
                    return None;
                }
                match self.accept() {
                    Accepted::Connection(socket, _) if sys::has_ended(&socket) => {
                        vitals.counts.connections.increment();
                        early_departures += 1;
                    }
                    Accepted::Connection(socket, peer) if self.spares_descriptors() => {
                        return Some((socket, peer));
                    }
                    Accepted::Connection(socket, _) => self.refuse(socket),
                    Accepted::Nothing => break,
                }
            }
            if early_departures > 0 && vitals.predict.is_occupied() {
                if self
                    .early_departures()
                    .are_many(early_departures, clock::instant())
                {
                    sys::defer_accept(&self.socket, true);
                }
                sys::sleep(DEFER_PAUSE);
            }
            match sys::wait_readable(&[self.stop.as_fd(), self.socket.as_fd()], None) {
                Ok(PollResult::Ready(0)) => return None,
                Ok(_) => {}
                Err(error) => self.back_off("wait for a connection", &error),
            }
        }
    }

    fn early_departures(&self) -> MutexGuard<'_, EarlyDepartures> {
        self.early_departures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection if there is one. If the system refuses, evicts a connection and pauses.
    fn accept(&self) -> Accepted {
        match self.socket.accept() {
            Ok((socket, peer)) => {
                self.failures().succeed();
                let vitals = &self.shared.http.context.vitals;
                vitals.listeners[self.shared.kind as usize]
                    .accepted_at
                    .store(vitals.clock.now());
                let peer = peer
                    .as_socket()
                    .map(|peer| connection_table::network(peer.ip()));
                Accepted::Connection(socket, peer)
            }
            Err(error) if is_passing(&error) => Accepted::Nothing,
            Err(error) => {
                let now = self.shared.http.context.vitals.clock.now();
                self.failures().fail(now);
                self.evict(&self.shared.relief, 0);
                self.back_off("accept a connection", &error);
                Accepted::Nothing
            }
        }
    }

    /// Connections that the system refuses to this listener.
    fn failures(&self) -> &Streak {
        &self.shared.http.context.vitals.listeners[self.shared.kind as usize].accept_failures
    }

    fn refuse(&self, socket: Socket) {
        self.shared.clients().refused.increment();
        refusal::refuse(&self.shared, &socket, refusal::NO_CAPACITY);
    }

    fn reserved(&self) -> MutexGuard<'_, Option<Thread>> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes the reserved thread, which then checks whether the listener is full.
    pub fn wake_reserved(&self) {
        if let Some(reserved) = &*self.reserved() {
            reserved.unpark();
        }
    }

    fn back_off(&self, what: &str, error: &io::Error) {
        self.complain(what, error);
        sys::sleep(BACK_OFF);
    }

    /// Logs that the system refuses something, at most once a minute, because clients can cause it.
    fn complain(&self, what: &str, error: &io::Error) {
        let now = clock::instant();
        let mut last = self
            .complained
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| now.saturating_duration_since(last) >= Duration::from_secs(60)) {
            *last = Some(now);
            drop(last);
            log::warn!("cannot {what} on {}: {error}; trying again", self.address);
        }
    }
}

/// Whether a failed accept concerns that one connection only, or nobody.
fn is_passing(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, WouldBlock};
    matches!(
        error.kind(),
        WouldBlock | Interrupted | ConnectionAborted | ConnectionReset
    )
}

/// A thread counted in `threads`, however it ends.
struct Present(Arc<Listener>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.threads.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A thread counted in `waiting`, however it stops waiting.
struct WaitingThread(Arc<Listener>);

impl WaitingThread {
    /// Counts the calling thread, unless enough wait already.
    fn join(listener: &Arc<Listener>) -> Option<Self> {
        let below = |count: usize| (count < listener.spare.1).then_some(count + 1);
        let joined = listener
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, below);
        joined.ok().map(|_| WaitingThread(Arc::clone(listener)))
    }
}

impl Drop for WaitingThread {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake_reserved();
        }
    }
}

fn connection_thread(present: Present, waiting: WaitingThread) {
    let listener = Arc::clone(&present.0);
    let context = &listener.shared.http.context;
    let mut buffers = Buffers::new(&context.config);
    let mut waiting = Some(waiting);
    while let Some(place) = waiting.take() {
        let Some((socket, peer)) = listener.next_connection() else {
            return;
        };
        drop(place);
        listener.replenish_or_starve(listener.spare.0);
        context.faults.inject(ThreadRole::Connection);
        context.vitals.counts.connections.increment();
        if listener.has_capacity_for(peer) {
            let client = NewConnection { socket, peer };
            let version =
                panic::catch(|| connection::serve(&listener.shared, client, &mut buffers));
            if let Err(panic) = version {
                log::error!("a connection was closed by a panic: {panic}");
            }
        } else {
            listener.shared.clients().per_address.increment();
            refusal::refuse(&listener.shared, &socket, refusal::TOO_MANY_OF_ONE);
        }
        waiting = WaitingThread::join(&listener);
    }
}
