//! System calls beyond std: named threads, CPU scheduling, file descriptor limits, and waiting for
//! a socket with a time limit.
//!
//! A leaf. The only file with `unsafe`, for calls that no safe crate covers (`sched_setattr(2)`,
//! `ioctl(SIOCOUTQ)`, `setsockopt(TCP_DEFER_ACCEPT)`, `getsockopt(SO_NETNS_COOKIE)`, `mallopt(3)`,
//! `malloc_trim(3)`, `alarm(2)` and signal handlers) and for descriptors inherited by number.
//! Scheduling requests may be refused by the kernel or a seccomp filter; that is logged once at
//! debug and the server goes on.

mod peer;
mod stat;
mod stop;

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};

use crate::platform::clock;

pub use self::peer::{PeerState, departs_within, has_ended, has_input, has_waiting, peer};
pub use self::stat::{clock_ticks_per_second, thread_state};
pub use self::stop::{ENDED_AT_ONCE, StopSignals};

/// Starts a named thread; `ps -L` and `top -H` show the name (at most 15 bytes).
///
/// # Errors
///
/// The system refuses a thread (EAGAIN, ENOMEM).
#[allow(clippy::disallowed_methods)] // the one place the ban leaves open
pub fn spawn(
    name: &str,
    stack_bytes: usize,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new()
        .name(name.to_owned())
        .stack_size(stack_bytes)
        .spawn(body)
}

/// Returns the calling thread's id in the kernel (gettid(2)), as `/proc/self/task` lists it; 0 where
/// there is none.
pub fn thread_id() -> u32 {
    #[cfg(target_os = "linux")]
    return rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    #[cfg(not(target_os = "linux"))]
    0
}

/// If this is process 1, as in a container: reaps orphaned processes that have ended (wait(2)).
pub fn reap_orphans() {
    use rustix::process::{WaitOptions, wait};
    if std::process::id() == 1 {
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
    }
}

/// Sleeps, for rate limits and for backing off after a refused system call; never to wait for an
/// event.
pub fn sleep(duration: Duration) {
    if !duration.is_zero() {
        thread::sleep(duration);
    }
}

/// Raises the soft limit on file descriptors to the hard one and returns the limit in force.
pub fn raise_descriptor_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let mut raised = limit;
    raised.current = limit.maximum;
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            log::debug!("descriptor limit stays as it is: {error}");
            limit.current
        }
    }
}

/// Makes freed memory go back to the system.
///
/// glibc learns from large freed blocks to keep ever larger ones, up to 64 MiB in each arena: after
/// a few large bodies the process would stay as large as they were together. With fixed thresholds,
/// blocks of 128 KiB and more are returned when freed (mallopt(3)).
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    malloc::fix_thresholds();
}

/// Returns memory freed in small pieces, such as a model's nodes, to the system. It takes time in
/// proportion to the memory, so threads that serve do not call it (malloc_trim(3)).
pub fn trim_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    malloc::trim();
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod malloc {
    const THRESHOLD_BYTES: libc::c_int = 128 << 10;

    #[allow(unsafe_code)] // no safe crate offers malloc_trim
    pub(super) fn trim() {
        // SAFETY: it takes an integer by value, is safe to call from any thread, and touches free
        // memory alone.
        unsafe { libc::malloc_trim(0) };
    }

    #[allow(unsafe_code)] // no safe crate offers mallopt
    pub(super) fn fix_thresholds() {
        for parameter in [libc::M_MMAP_THRESHOLD, libc::M_TRIM_THRESHOLD] {
            // SAFETY: mallopt takes two integers by value and is safe to call from any thread;
            // a refused value changes nothing.
            unsafe { libc::mallopt(parameter, THRESHOLD_BYTES) };
        }
    }
}

/// The soft limit on processes and threads of this user, `ulimit -u` (RLIMIT_NPROC).
pub fn thread_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nproc).current
}

/// The present soft limit on file descriptors; another process may change it (prlimit(2)).
pub fn descriptor_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    limit.map_or(usize::MAX, |limit| {
        usize::try_from(limit).unwrap_or(usize::MAX)
    })
}

/// The slice of the EEVDF scheduler that a thread asks for (Linux 6.12 and later).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slice {
    /// 0.1 ms: an early deadline, so that waking up preempts computing threads.
    Short,
    /// What every thread gets.
    Default,
    /// 100 ms: a late deadline, so that threads that wake up go first.
    Long,
}

/// Whether this kernel honours slices: `sched_runtime` of SCHED_OTHER counts from Linux 6.12 on.
pub fn kernel_has_slices() -> bool {
    cfg!(target_os = "linux")
        && rustix::system::uname()
            .release()
            .to_str()
            .ok()
            .and_then(|release| {
                let mut parts = release.split(['.', '-']);
                let major: u32 = parts.next()?.parse().ok()?;
                let minor: u32 = parts.next()?.parse().ok()?;
                Some((major, minor) >= (6, 12))
            })
            .unwrap_or(false)
}

/// Asks for a slice for the calling thread; threads that it starts inherit it.
pub fn set_slice(slice: Slice) {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    if let Err(error) = sched::set_runtime(slice)
        && !REFUSED.swap(true, Ordering::Relaxed)
    {
        log::debug!("the kernel refuses to set a thread's slice (sched_setattr): {error}");
    }
}

/// Lowers the calling thread to niceness `nice` (0 to 19); raising it again needs privilege.
pub fn set_nice(nice: i32) {
    static REFUSED: AtomicBool = AtomicBool::new(false);
    #[cfg(target_os = "linux")] // elsewhere niceness belongs to the process, not the thread
    if let Err(error) = rustix::process::setpriority_process(None, nice)
        && !REFUSED.swap(true, Ordering::Relaxed)
    {
        log::debug!("the kernel refuses to lower a thread (setpriority): {error}");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (nice, &REFUSED);
}

#[cfg(target_os = "linux")]
mod sched {
    use super::{Slice, io};

    /// `struct sched_attr` in its first version (sched_setattr(2)), 48 bytes.
    #[repr(C)]
    #[derive(Default)]
    struct SchedAttr {
        size: u32,
        policy: u32,
        flags: u64,
        nice: i32,
        priority: u32,
        runtime: u64,
        deadline: u64,
        period: u64,
    }

    #[allow(unsafe_code)] // no safe crate offers sched_setattr with a runtime for SCHED_OTHER
    pub(super) fn set_runtime(slice: Slice) -> io::Result<()> {
        let attr = SchedAttr {
            size: size_of::<SchedAttr>() as u32,
            // The call also sets the niceness, so the present one is passed.
            nice: rustix::process::getpriority_process(None)?,
            runtime: match slice {
                Slice::Short => 100_000,
                Slice::Default => 0,
                Slice::Long => 100_000_000,
            },
            ..SchedAttr::default()
        };
        // SAFETY: the kernel reads `size` bytes from a live, initialised struct of the layout that
        // sched_setattr(2) gives, and writes nothing; pid 0 is the calling thread, flags are 0.
        let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attr, 0) };
        if result == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod sched {
    use super::{Slice, io};

    pub(super) fn set_runtime(_slice: Slice) -> io::Result<()> {
        Ok(())
    }
}

/// The result of waiting for descriptors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PollResult {
    /// The descriptor at this place is readable or closed.
    Ready(usize),
    /// The deadline passed.
    TimedOut,
}

/// Waits until one of `fds` (at most two) is readable or closed; the first in the list wins.
///
/// # Errors
///
/// `poll(2)` fails for lack of memory.
pub fn wait_readable(fds: &[BorrowedFd<'_>], deadline: Option<Instant>) -> io::Result<PollResult> {
    let mut set = match *fds {
        [] => return Ok(PollResult::TimedOut),
        [only] => [only, only],
        [first, second, ..] => [first, second],
    }
    .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
    let count = fds.len().min(set.len());
    loop {
        let timeout = deadline.map(|deadline| deadline.duration_since(clock::instant()));
        match rustix::event::poll(&mut set[..count], timeout.map(timespec).as_ref()) {
            Ok(0) => return Ok(PollResult::TimedOut),
            Ok(_) => {
                if let Some(index) = set[..count].iter().position(|fd| !fd.revents().is_empty()) {
                    return Ok(PollResult::Ready(index));
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes over a descriptor that the parent process passed by number, and closes it in child
/// processes.
///
/// # Errors
///
/// The environment announces no such number to this process (`LISTEN_PID`, `LISTEN_FDS`; see
/// sd_listen_fds(3)), it is not open, or it was taken before.
pub fn take_descriptor(number: i32) -> io::Result<OwnedFd> {
    use rustix::io::{FdFlags, fcntl_setfd};
    let descriptor = descriptor::take(number)?;
    fcntl_setfd(&descriptor, FdFlags::CLOEXEC)?;
    Ok(descriptor)
}

/// Runs `action` when `signal` arrives, on any thread. For this module's parts only: an action may
/// do only what a signal handler may (signal-safety(7)).
#[allow(unsafe_code)] // the safe actions of signal-hook look at no clock
fn on_signal(signal: i32, action: impl Fn() + Send + Sync + 'static) -> io::Result<()> {
    // SAFETY: the actions that this module passes read a clock, use atomics, set an alarm and end the
    // process, all of which a signal handler may.
    unsafe { signal_hook::low_level::register(signal, action) }.map(|_| ())
}

/// Schedules SIGALRM in a second; a signal handler may call it (alarm(2)).
#[allow(unsafe_code)] // no safe crate offers it
fn alarm_in_a_second() {
    #[cfg(target_os = "linux")]
    // SAFETY: it takes a number by value and returns one; POSIX lets signal handlers call it.
    unsafe {
        libc::alarm(1)
    };
}

mod descriptor {
    use std::collections::BTreeSet;
    use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
    use std::sync::{Mutex, PoisonError};

    use super::io;

    /// The first descriptor passed (SD_LISTEN_FDS_START); those below are stdin, stdout and stderr.
    const FIRST: i32 = 3;

    static TAKEN: Mutex<BTreeSet<i32>> = Mutex::new(BTreeSet::new());

    /// Whether the environment says that this one was passed to this process.
    fn is_announced(number: i32) -> bool {
        let variable = |name: &str| std::env::var(name).ok();
        let is_ours = variable("LISTEN_PID").is_some_and(|pid| {
            let pid: Result<u32, _> = pid.parse();
            pid == Ok(std::process::id())
        });
        let count: i32 = variable("LISTEN_FDS")
            .and_then(|count| count.parse().ok())
            .unwrap_or(0);
        is_ours && (FIRST..FIRST.saturating_add(count)).contains(&number)
    }

    #[allow(unsafe_code)] // a descriptor that is known by its number has no owner that Rust knows
    pub(super) fn take(number: i32) -> io::Result<OwnedFd> {
        let mut taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_announced(number) || taken.contains(&number) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // SAFETY: the number is borrowed for one call alone, which fails where it is not open.
        let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
        rustix::io::fcntl_getfd(borrowed)?;
        taken.insert(number);
        // SAFETY: it is open, was opened by whoever started this process and passed to it for this
        // one to own, as the environment says, which only unsafe code can change; and it is given out
        // here once.
        Ok(unsafe { OwnedFd::from_raw_fd(number) })
    }
}

/// Returns what distinguishes a socket's network namespace from others (SO_NETNS_COOKIE, Linux
/// 5.14); `None` if the system has no such thing.
pub fn network_namespace(socket: impl AsFd) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return netns::cookie(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

#[cfg(target_os = "linux")]
mod netns {
    use std::os::fd::{AsRawFd, BorrowedFd};

    #[allow(unsafe_code)] // no safe crate offers SO_NETNS_COOKIE (socket(7))
    pub(super) fn cookie(socket: BorrowedFd<'_>) -> Option<u64> {
        let mut cookie = 0_u64;
        let mut length = size_of::<u64>() as libc::socklen_t;
        // SAFETY: the descriptor is borrowed and so open; the kernel writes at most `length` bytes to
        // a live number of that size, and the length to a live one of its own.
        let result = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut length,
            )
        };
        (result == 0).then_some(cookie)
    }
}

/// Makes a TCP listener accept connections only once they have sent something, or a second has
/// passed; or reverts that. On a system without this option, nothing changes.
pub fn defer_accept(listener: impl AsFd, defer: bool) {
    #[cfg(target_os = "linux")]
    defer::set(listener.as_fd(), defer);
    #[cfg(not(target_os = "linux"))]
    let _ = (listener, defer);
}

#[cfg(target_os = "linux")]
mod defer {
    use std::os::fd::{AsRawFd, BorrowedFd};

    #[allow(unsafe_code)] // no safe crate offers TCP_DEFER_ACCEPT (tcp(7))
    pub(super) fn set(listener: BorrowedFd<'_>, defer: bool) {
        let seconds = libc::c_int::from(defer);
        // SAFETY: the descriptor is borrowed and so open; the kernel reads one int of the size that is
        // given from a live one. A listener that is no TCP socket refuses, and stays as it was.
        unsafe {
            libc::setsockopt(
                listener.as_raw_fd(),
                libc::IPPROTO_TCP,
                libc::TCP_DEFER_ACCEPT,
                (&raw const seconds).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            );
        }
    }
}

/// Reads up to some KiB of what has arrived on a socket, and discards it; never waits.
pub fn discard_now(socket: impl AsFd) {
    // An error means that the client has left, and then there is nothing to read.
    let _ = rustix::net::recv(socket, &mut [0; 4096], RecvFlags::DONTWAIT);
}

/// Sends as much of `slices` as a socket takes now; never waits.
///
/// # Errors
///
/// `WouldBlock` if it takes nothing now; the socket's own.
pub fn send_now(socket: impl AsFd, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    let mut control = SendAncillaryBuffer::default();
    // Rust ignores SIGPIPE: a peer that has gone is an error here and not a signal.
    Ok(rustix::net::sendmsg(
        socket,
        slices,
        &mut control,
        SendFlags::DONTWAIT,
    )?)
}

/// Waits until a socket takes more, has failed or was shut down; returns whether it did within
/// `patience`.
///
/// # Errors
///
/// `poll(2)` fails for lack of memory.
pub fn wait_writable(socket: impl AsFd, patience: Duration) -> io::Result<bool> {
    let mut set = [PollFd::new(&socket, PollFlags::OUT)];
    match rustix::event::poll(&mut set, Some(&timespec(patience))) {
        Ok(ready) => Ok(ready > 0),
        // Sooner than asked for; the caller checks the clock.
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Bytes sent that the peer has not received yet, if the system can tell (Linux).
pub fn unsent_bytes(socket: impl AsFd) -> Option<u64> {
    #[cfg(target_os = "linux")]
    return outq::bytes(socket.as_fd());
    #[cfg(not(target_os = "linux"))]
    {
        let _ = socket;
        None
    }
}

#[cfg(target_os = "linux")]
mod outq {
    use std::os::fd::{AsRawFd, BorrowedFd};

    #[allow(unsafe_code)] // no safe crate offers SIOCOUTQ (tcp(7)), which is TIOCOUTQ by number
    pub(super) fn bytes(socket: BorrowedFd<'_>) -> Option<u64> {
        let mut bytes: libc::c_int = 0;
        // SAFETY: the descriptor is borrowed and so open, and the kernel writes one int to a live one.
        let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
        (result == 0).then(|| u64::from(bytes.unsigned_abs()))
    }
}

fn timespec(duration: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{Shutdown, TcpListener, TcpStream};

    #[test]
    fn a_descriptor_that_nobody_passed_is_nobodys_to_take() {
        use std::os::fd::AsRawFd;
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        for number in [own.as_raw_fd(), -1, 0, 2, i32::MAX] {
            let error = take_descriptor(number).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{number}");
        }
        assert!(own.local_addr().is_ok());
    }

    #[test]
    fn a_half_closed_peer_has_finished_and_not_departed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        assert_eq!(peer(&server, Duration::ZERO), PeerState::Open);
        client.shutdown(Shutdown::Write).unwrap();
        let deadline = clock::instant() + Duration::from_secs(5);
        assert_eq!(
            wait_readable(&[server.as_fd()], Some(deadline)).unwrap(),
            PollResult::Ready(0)
        );
        assert_eq!(peer(&server, Duration::ZERO), PeerState::Finished);
        assert!(!departs_within(&server, Duration::ZERO));
        drop(client);
    }

    #[test]
    fn waiting_names_the_descriptor_that_is_ready_and_ends_at_its_deadline() {
        let (idle, _keep) = std::io::pipe().unwrap();
        let (ready, mut writer) = std::io::pipe().unwrap();
        writer.write_all(b"x").unwrap();
        assert_eq!(
            wait_readable(&[idle.as_fd(), ready.as_fd()], None).unwrap(),
            PollResult::Ready(1)
        );
        assert_eq!(
            wait_readable(&[idle.as_fd()], Some(clock::instant())).unwrap(),
            PollResult::TimedOut
        );
    }
}
