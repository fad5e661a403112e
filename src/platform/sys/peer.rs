//! The state of the other end of a socket, without reading from it.

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::RecvFlags;

use super::timespec;

/// What is known of the peer of a connected socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerState {
    /// It may still send.
    Open,
    /// It has shut down its sending side, or closed a TCP connection: the two look the same.
    Finished,
    /// It has reset the connection or closed both sides, or this process has shut them down.
    Departed,
}

/// Waits for `patience`, or until the peer of a socket is no longer open; returns its state.
///
/// Only Linux reports a peer that has finished.
pub fn peer(socket: impl AsFd, patience: Duration) -> PeerState {
    #[cfg(target_os = "linux")]
    let finished = PollFlags::RDHUP;
    #[cfg(not(target_os = "linux"))]
    let finished = PollFlags::empty();
    let seen = poll_one(socket, finished, patience);
    if seen.intersects(PollFlags::HUP | PollFlags::ERR) {
        PeerState::Departed
    } else if seen.intersects(finished) {
        PeerState::Finished
    } else {
        PeerState::Open
    }
}

/// Waits for `patience`, or until the peer of a socket is [`PeerState::Departed`]; returns which.
/// Data sent before a half-close can still be read.
pub fn departs_within(socket: impl AsFd, patience: Duration) -> bool {
    let seen = poll_one(socket, PollFlags::empty(), patience);
    seen.intersects(PollFlags::HUP | PollFlags::ERR)
}

/// Looks, without waiting, whether a listening socket has a connection to accept.
pub fn has_waiting(listener: impl AsFd) -> bool {
    poll_one(listener, PollFlags::IN, Duration::ZERO) == PollFlags::IN
}

/// Looks, without waiting, whether a connected socket has bytes to read.
pub fn has_input(socket: impl AsFd) -> bool {
    let looked = rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    looked.is_ok_and(|(_, count)| count > 0)
}

/// Waits for `patience`, or until one of `flags`, an error or a hang-up appears on a descriptor;
/// returns what appeared.
fn poll_one(descriptor: impl AsFd, flags: PollFlags, patience: Duration) -> PollFlags {
    let mut set = [PollFd::new(&descriptor, flags)];
    match rustix::event::poll(&mut set, Some(&timespec(patience))) {
        Ok(ready) if ready > 0 => set[0].revents(),
        Ok(_) | Err(_) => PollFlags::empty(),
    }
}

/// Looks, without waiting, whether a socket is at its end with nothing left to read.
pub fn has_ended(socket: impl AsFd) -> bool {
    match rustix::net::recv(socket, &mut [0; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT) {
        Ok((_, count)) => count == 0,
        Err(error) => !matches!(error, Errno::AGAIN | Errno::INTR),
    }
}
