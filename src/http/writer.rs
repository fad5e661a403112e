//! Writes answers to a socket for as long as its client takes them.
//!
//! Runs on the connection's thread. Writes are limited by progress and not by total time: a slow
//! client gets its whole answer, one that takes nothing for `--write-timeout` does not.

use std::io::{self, IoSlice, Write};
use std::time::Duration;

use crate::http::connection_table::{ConnectionEntry, ConnectionState};
use crate::platform::clock;
use crate::platform::sys;

/// How often a client that takes nothing is checked. The kernel reports a socket as writable only
/// once a good part of its buffer is free, which can take long with a slow client.
const LOOK: Duration = Duration::from_millis(500);

/// A socket with a deadline for progress.
#[derive(Debug)]
pub(crate) struct SocketWriter<'a> {
    entry: &'a ConnectionEntry,
    /// Maximum time in which the client takes nothing.
    patience: Duration,
}

impl<'a> SocketWriter<'a> {
    pub(crate) fn new(entry: &'a ConnectionEntry, patience: Duration) -> Self {
        SocketWriter { entry, patience }
    }

    /// Waits until the socket takes more.
    fn wait_until_writable(&self) -> io::Result<()> {
        let mut unsent = sys::unsent_bytes(&self.entry.socket);
        let mut progressed = clock::instant();
        loop {
            let idle = clock::instant().saturating_duration_since(progressed);
            let remaining = self.patience.saturating_sub(idle);
            if remaining.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            if sys::wait_writable(&self.entry.socket, remaining.min(LOOK))? {
                return Ok(());
            }
            let now_unsent = sys::unsent_bytes(&self.entry.socket);
            if now_unsent < unsent {
                progressed = clock::instant();
                self.note_progress()?;
            }
            unsent = now_unsent;
        }
    }

    /// Eviction needs to know since when a client has taken nothing.
    fn note_progress(&self) -> io::Result<()> {
        if self.entry.enter(ConnectionState::Writing) {
            return Ok(());
        }
        Err(io::ErrorKind::ConnectionAborted.into())
    }
}

impl Write for SocketWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        loop {
            match sys::send_now(&self.entry.socket, slices) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait_until_writable()?
                }
                result => return result,
            }
            self.note_progress()?;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
