//! A listener: its socket, its connection threads, and the cap on them.
//!
//! Idle connection threads themselves wait for connections. One of them, the leader, waits on the
//! socket; the others wait to become it (leader/followers). One thread above the cap is reserved to
//! make room, and to refuse where there is none. All of them wait on the stop pipe too; nobody ever
//! calls `shutdown(2)` on a listening socket, which would kill it for every holder.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use crate::admission::Pace;
use crate::clock;
use crate::fault::Role;
use crate::http::connection::{self, Buffers};
use crate::http::context::{HttpContext, ListenerContext};
use crate::http::table::{Eviction, Table};
use crate::panic;
use crate::priority::{Priority, Work};
use crate::route::ListenerKind;
use crate::sys::{self, Wait};

/// While fewer threads than this wait for connections, the one that takes a connection starts
/// another.
const SPARE_MIN: usize = 2;

/// A thread that comes back where this many wait already ends. With a gap to the minimum, a probe
/// on a fresh connection costs no new thread.
const SPARE_MAX: usize = 4;

/// Address space for a connection thread's stack; only touched pages cost memory.
const STACK_BYTES: usize = 256 * 1024;

/// Connections that the kernel may hold for us; std's 128 would drop a probe's SYN in a burst.
const BACKLOG: i32 = 4096;

/// A pause after a failed system call that only time can mend.
const BACK_OFF: Duration = Duration::from_millis(50);

/// One listener with its threads.
#[derive(Debug)]
pub struct Listener {
    shared: ListenerContext,
    socket: TcpListener,
    address: SocketAddr,
    cap: usize,
    /// Connection threads, waiting or serving; at most `cap`.
    threads: AtomicUsize,
    /// Those of them that wait for a connection.
    waiting: AtomicUsize,
    leader: Mutex<()>,
    reserved: OnceLock<Thread>,
    complained: Mutex<Option<Instant>>,
}

/// Opens a listening socket.
///
/// # Errors
/// Where the address is taken or not ours to take.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

impl Listener {
    /// Takes a listening socket, without threads yet.
    ///
    /// # Errors
    /// Where the socket has no address.
    pub fn new(
        kind: ListenerKind,
        socket: TcpListener,
        http: Arc<HttpContext>,
    ) -> io::Result<Self> {
        let limits = &http.context.config.limits;
        let (cap, pace) = match kind {
            ListenerKind::Main => (
                limits.max_connections,
                Pace::new(limits.pace_first, limits.pace_later),
            ),
            ListenerKind::Probe => (
                limits.max_probe_connections,
                Pace::new(limits.pace_probes, limits.pace_probes),
            ),
        };
        Ok(Listener {
            shared: ListenerContext {
                kind,
                table: Table::new(),
                pace,
                http,
            },
            address: socket.local_addr()?,
            socket,
            cap,
            threads: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            leader: Mutex::new(()),
            reserved: OnceLock::new(),
            complained: Mutex::new(None),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts the reserved thread and the first connection threads.
    ///
    /// # Errors
    /// Where the system has no threads to give.
    pub fn start(self: &Arc<Self>) -> io::Result<()> {
        let listener = Arc::clone(self);
        let reserved = sys::spawn("conn-reserve", STACK_BYTES, move || listener.make_room())?;
        // Set once: a listener is started once.
        let _ = self.reserved.set(reserved.thread().clone());
        self.replenish(SPARE_MAX)
    }

    /// Closes every idle connection.
    pub fn close_idle(&self) {
        self.shared.table.close_idle();
    }

    /// Makes good for threads that ended by a panic, or could not be started when they were wanted;
    /// the main thread calls it at every tick.
    pub fn tick(self: &Arc<Self>) {
        if let Err(error) = self.replenish(SPARE_MAX) {
            self.complain("start a connection thread", &error);
        }
    }

    /// Starts threads until `spare` wait, as far as the cap allows.
    fn replenish(self: &Arc<Self>, spare: usize) -> io::Result<()> {
        loop {
            let below = |limit: usize| move |count: usize| (count < limit).then_some(count + 1);
            if self
                .threads
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, below(self.cap))
                .is_err()
            {
                return Ok(());
            }
            let present = Present(Arc::clone(self));
            if self
                .waiting
                .fetch_update(Ordering::AcqRel, Ordering::Acquire, below(spare))
                .is_err()
            {
                return Ok(());
            }
            let waiting = Waiting(Arc::clone(self));
            sys::spawn("conn", STACK_BYTES, move || {
                connection_thread(present, waiting)
            })?;
        }
    }

    /// Waits, as the leader, for a connection; `None` when told to stop.
    fn next_connection(&self) -> Option<TcpStream> {
        // A leader that panicked held no state.
        let _leader = self.leader.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match sys::wait_readable(&[self.shared.http.stop.as_fd(), self.socket.as_fd()], None) {
                Ok(Wait::Ready(0)) => return None,
                Ok(_) => {}
                Err(error) => self.back_off("wait for a connection", &error),
            }
            match self.socket.accept() {
                Ok((socket, _)) => return Some(socket),
                Err(error) if is_passing(&error) => {}
                Err(error) => {
                    self.shared.table.evict_idle();
                    self.back_off("accept a connection", &error);
                }
            }
        }
    }

    /// What the reserved thread does: while every connection thread is taken, it closes idle
    /// connections in favour of new ones, and refuses where none is idle.
    fn make_room(self: Arc<Self>) {
        let yielding = self.shared.http.context.config.yielding;
        let mut priority = Priority::new(yielding, Work::Responding);
        let stop: BorrowedFd<'_> = self.shared.http.stop.as_fd();
        loop {
            if !self.is_full() {
                thread::park();
                continue;
            }
            priority.adapt(self.shared.http.context.vitals.predict.service_time());
            match sys::wait_readable(&[stop, self.socket.as_fd()], None) {
                Ok(Wait::Ready(0)) => return,
                Ok(Wait::TimedOut) => continue,
                Ok(_) if !self.is_full() => continue,
                Ok(_) => {}
                Err(error) => self.back_off("wait for a connection", &error),
            }
            match self.shared.table.evict_idle() {
                Eviction::Done => {
                    self.shared.http.context.vitals.counts.evicted.increment();
                    // Its thread wakes up, takes the connection that waits, and says so.
                    thread::park_timeout(BACK_OFF);
                    continue;
                }
                Eviction::AllYoung => {
                    thread::park_timeout(BACK_OFF / 5);
                    continue;
                }
                Eviction::NoneIdle => {}
            }
            match self.socket.accept() {
                Ok((socket, _)) => {
                    self.shared.http.context.vitals.counts.evicted.increment();
                    connection::refuse(&self.shared, socket);
                }
                Err(error) if is_passing(&error) => {}
                Err(error) => self.back_off("accept a connection", &error),
            }
        }
    }

    fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Acquire) == 0
            && self.threads.load(Ordering::Acquire) >= self.cap
    }

    fn wake_reserved(&self) {
        if let Some(reserved) = self.reserved.get() {
            reserved.unpark();
        }
    }

    fn back_off(&self, what: &str, error: &io::Error) {
        self.complain(what, error);
        sys::sleep(BACK_OFF);
    }

    /// Says once a minute that the system refuses something; clients can cause it at will.
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
        self.0.wake_reserved();
    }
}

/// A thread counted in `waiting`, however it stops waiting.
struct Waiting(Arc<Listener>);

impl Waiting {
    /// Counts the calling thread, unless enough wait already.
    fn join(listener: &Arc<Listener>) -> Option<Self> {
        let below = |count: usize| (count < SPARE_MAX).then_some(count + 1);
        let joined = listener
            .waiting
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, below);
        joined.ok().map(|was| {
            if was == 0 {
                listener.wake_reserved();
            }
            Waiting(Arc::clone(listener))
        })
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if self.0.waiting.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.0.wake_reserved();
        }
    }
}

fn connection_thread(present: Present, waiting: Waiting) {
    let listener = Arc::clone(&present.0);
    let config = &listener.shared.http.context.config;
    let mut buffers = Buffers::new(config);
    let mut waiting = Some(waiting);
    while let Some(place) = waiting.take() {
        let Some(socket) = listener.next_connection() else {
            return;
        };
        drop(place);
        let spared = listener.replenish(SPARE_MIN);
        if let Err(error) = &spared {
            listener.complain("start a connection thread", error);
        }
        let alone = spared.is_err() && listener.waiting.load(Ordering::Acquire) == 0;
        listener.shared.http.context.faults.turn(Role::Connection);
        if alone && listener.shared.kind == ListenerKind::Main {
            // Nobody would be left to accept, so this thread may not go away with one client.
            connection::refuse(&listener.shared, socket);
        } else if let Err(panic) =
            panic::catch(|| connection::serve(&listener.shared, socket, &mut buffers))
        {
            log::error!("a connection was closed by a panic: {panic}");
        }
        waiting = Waiting::join(&listener);
    }
}
