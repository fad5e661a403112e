//! Many connections on few threads, each with bytes to send and a rate of reading.
//!
//! Sockets never block, even to connect. Each thread waits in one `poll(2)`, so that a thousand clients
//! need a thousand sockets but few threads.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use lanekeeper::platform::clock;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Socket, Type};

use super::{Scene, crowd};

/// Maximum wait for a socket before the thread checks whether the scene has ended.
const POLL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 20_000_000,
};

/// Interval between bytes of a client that sends or reads slowly.
const SLOW: Duration = Duration::from_secs(1);

/// How fast bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tempo {
    /// As fast as possible.
    Full,
    /// One a second.
    Slow,
    /// Not at all.
    Never,
}

/// What a client does when the server has closed its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It connects again.
    Again,
    /// It does not connect again.
    Leave,
}

/// Clients of one kind.
#[derive(Debug)]
pub(super) struct Traffic<'a> {
    /// How many there are at a time.
    pub(super) clients: usize,
    /// The number of threads that they share.
    pub(super) threads: usize,
    /// What connections send first, as fast as possible; each connection takes the next of these.
    pub(super) openings: &'a [Vec<u8>],
    /// What it sends then, repeatedly.
    pub(super) refrain: &'a [u8],
    /// How many bytes of that.
    pub(super) refrain_bytes: u64,
    /// How fast the refrain goes.
    pub(super) sending: Tempo,
    /// How fast answers are read.
    pub(super) reading: Tempo,
    /// What follows the end of a connection.
    pub(super) ending: Ending,
    /// `SO_RCVBUF`, to limit what the kernel receives while the client does not read.
    pub(super) receive_buffer_bytes: Option<usize>,
}

impl Traffic<'_> {
    /// Clients that send one request, read the answer, and connect again.
    pub(super) fn of(clients: usize, openings: &[Vec<u8>]) -> Traffic<'_> {
        Traffic {
            clients,
            threads: 2,
            openings,
            refrain: b"",
            refrain_bytes: 0,
            sending: Tempo::Full,
            reading: Tempo::Full,
            ending: Ending::Again,
            receive_buffer_bytes: None,
        }
    }

    /// Runs until the scene ends.
    pub(super) fn run(&self, scene: &Scene, address: SocketAddr) -> io::Result<()> {
        crowd(self.threads, |thread| {
            let share = (self.clients + self.threads - 1 - thread) / self.threads;
            self.run_share(scene, address, thread, share);
        })
    }

    fn run_share(&self, scene: &Scene, address: SocketAddr, thread: usize, share: usize) {
        let mut peers: Vec<Option<Peer>> = Vec::new();
        peers.resize_with(share, || None);
        let mut opened = thread;
        while scene.goes_on() {
            for slot in &mut peers {
                if slot.is_none()
                    && scene.goes_on()
                    && (opened < self.clients || self.ending == Ending::Again)
                {
                    *slot = Peer::open(self, address, opened).ok();
                    opened += self.threads;
                }
            }
            let ready = self.wait(&peers);
            let now = clock::instant();
            for (slot, ready) in peers.iter_mut().zip(ready) {
                if let Some(peer) = slot
                    && peer.step(self, ready, now).is_err()
                {
                    *slot = None;
                }
            }
        }
    }

    /// What is ready on each connection.
    fn wait(&self, peers: &[Option<Peer>]) -> Vec<PollFlags> {
        let now = clock::instant();
        let mut set: Vec<PollFd<'_>> = peers
            .iter()
            .flatten()
            .map(|peer| PollFd::new(&peer.stream, peer.interest(self, now)))
            .collect();
        if poll(&mut set, Some(&POLL)).is_err() {
            set.iter_mut().for_each(PollFd::clear_revents);
        }
        let mut ready = set.iter().map(PollFd::revents);
        let of = |peer: &Option<Peer>| peer.as_ref().and_then(|_| ready.next());
        peers
            .iter()
            .map(of)
            .map(|ready| ready.unwrap_or(PollFlags::empty()))
            .collect()
    }
}

/// One connection.
#[derive(Debug)]
struct Peer {
    stream: TcpStream,
    opening: usize,
    sent: u64,
    /// When a slow one may send its next byte.
    sends_at: Instant,
    reads_at: Instant,
}

impl Peer {
    fn open(traffic: &Traffic<'_>, address: SocketAddr, number: usize) -> io::Result<Self> {
        let now = clock::instant();
        Ok(Peer {
            stream: connect(address, traffic.receive_buffer_bytes)?,
            opening: number % traffic.openings.len().max(1),
            sent: 0,
            // Spread over the second, so that clients are not in step.
            sends_at: now + SLOW.mul_f64((number % 100) as f64 / 100.0),
            reads_at: now,
        })
    }

    fn interest(&self, traffic: &Traffic<'_>, now: Instant) -> PollFlags {
        let mut interest = PollFlags::empty();
        let reads = match traffic.reading {
            Tempo::Full => true,
            Tempo::Slow => now >= self.reads_at,
            Tempo::Never => false,
        };
        interest.set(PollFlags::IN, reads);
        interest.set(PollFlags::OUT, !self.next(traffic, now).is_empty());
        interest
    }

    /// What may be sent now.
    fn next<'a>(&self, traffic: &Traffic<'a>, now: Instant) -> &'a [u8] {
        let opening = traffic
            .openings
            .get(self.opening)
            .map_or(&[][..], Vec::as_slice);
        if let Some(rest) = usize::try_from(self.sent)
            .ok()
            .and_then(|sent| opening.get(sent..))
            && !rest.is_empty()
        {
            return rest;
        }
        let refrained = self.sent - opening.len() as u64;
        let left = traffic.refrain_bytes.saturating_sub(refrained);
        if left == 0 || traffic.refrain.is_empty() || traffic.sending == Tempo::Never {
            return &[];
        }
        let from = (refrained % traffic.refrain.len() as u64) as usize;
        let rest = &traffic.refrain[from..];
        match traffic.sending {
            Tempo::Slow if now < self.sends_at => &[],
            Tempo::Slow => &rest[..1],
            _ => &rest[..rest.len().min(usize::try_from(left).unwrap_or(usize::MAX))],
        }
    }

    /// Sends and reads as much as possible without blocking; an error ends the connection.
    fn step(&mut self, traffic: &Traffic<'_>, ready: PollFlags, now: Instant) -> io::Result<()> {
        if ready.contains(PollFlags::OUT) {
            let next = self.next(traffic, now);
            let count = passing(self.stream.write(next))?;
            self.sent += count as u64;
            if count > 0 {
                self.sends_at = self.sends_at.max(now) + SLOW;
            }
        }
        if ready.contains(PollFlags::IN) {
            let mut piece = [0; 16 << 10];
            let most = if traffic.reading == Tempo::Slow {
                1
            } else {
                piece.len()
            };
            self.reads_at = now + SLOW;
            match self.stream.read(&mut piece[..most]) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                other => passing(other)?,
            };
        } else if ready.intersects(PollFlags::ERR | PollFlags::HUP) {
            return Err(ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

fn passing(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
            Ok(0)
        }
        other => other,
    }
}

/// Begins to connect; an error shows when the connection is used.
///
/// Closing it resets it, so that many thousands leave no port in TIME_WAIT behind.
pub(super) fn connect(
    address: SocketAddr,
    receive_buffer_bytes: Option<usize>,
) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(bytes) = receive_buffer_bytes {
        // Before connecting, because the handshake announces the window.
        socket.set_recv_buffer_size(bytes)?;
    }
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error)
            if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(socket.into())
}
