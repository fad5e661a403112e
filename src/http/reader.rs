//! Reads heads and bodies off the socket, within their limits and deadlines.
//!
//! Runs on the connection's thread. Blocks only on this socket, and never past a deadline.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::config::FairBy;
use crate::config::LimitArgs;
use crate::error::{Code, RequestError};
use crate::http::body::BodyDecoder;
use crate::http::connection_table::{ConnectionGuard, ConnectionState};
use crate::http::listener_context::ListenerContext;
use crate::http::request_head::{self, Framing, RequestHead};
use crate::http::stop::{ConnectionEnd, RequestStop};
use crate::http::writer::SocketWriter;
use crate::job::RequestBody;
use crate::lanes::admission::{PIECE_BYTES, Pacer};
use crate::lanes::memory_budget::Charge;
use crate::platform::clock;
use crate::platform::sys::{self, PollResult};

/// How much of an unread body is discarded before the connection is closed, and for how long, so
/// that the client reads the answer instead of a reset.
const LINGER_BYTES: usize = 32 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Initial size of a connection's buffer. Most requests need no more.
pub(crate) const NARROW_BYTES: usize = 4 << 10;

/// Size of the buffer for a larger body, so that it is read in fewer pieces.
const WIDE_BYTES: usize = 16 << 10;

/// Minimum cost of a read, however few bytes it brings, in bytes of a bulk read.
const READ_EFFORT: usize = 16 << 10;

/// Cost of a byte of chunk framing beyond a byte of content: it is parsed one by one.
const FRAMING_EFFORT: u64 = 15;

/// One connection's incoming half.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// The connection's place in the table.
    pub(crate) place: ConnectionGuard<'a>,
    /// Its length is its capacity for input. It is wide only while this connection needs it.
    buffer: &'a mut Vec<u8>,
    /// The charge for the wide buffer.
    charge: Charge,
    /// Bytes at the start of the buffer that were read and not used yet.
    filled: usize,
    /// Whether the socket's timeout is that of an idle persistent connection.
    patient: bool,
    listener: &'a ListenerContext,
    limits: &'a LimitArgs,
    /// Bytes read for this request and not yet charged to the listener's pace.
    effort: u64,
    /// Slots of that pace taken for this request.
    pieces: u32,
}

impl Drop for Input<'_> {
    fn drop(&mut self) {
        // Narrow again for the next connection.
        if self.buffer.len() > NARROW_BYTES {
            self.buffer.truncate(NARROW_BYTES);
            self.buffer.shrink_to_fit();
        }
    }
}

impl<'a> Input<'a> {
    /// Starts with an empty buffer.
    pub(crate) fn new(
        place: ConnectionGuard<'a>,
        buffer: &'a mut Vec<u8>,
        listener: &'a ListenerContext,
    ) -> Self {
        let context = &listener.http.context;
        let limits = &context.config.limits;
        // If the socket refuses its options, its client is gone, and reading will show that.
        let _ = place
            .entry
            .socket
            .set_read_timeout(Some(limits.head_timeout));
        Input {
            place,
            buffer,
            charge: Charge::new(&context.budget),
            filled: 0,
            patient: false,
            listener,
            limits,
            effort: 0,
            pieces: 0,
        }
    }

    /// Waits for a request and reads its head. `kept` says that this connection has answered one
    /// before.
    ///
    /// # Errors
    ///
    /// An error that is answered ends the connection too.
    pub(crate) fn read_head(&mut self, kept: bool) -> Result<RequestHead, RequestStop> {
        if self.filled == 0 {
            if !self.place.entry.enter(ConnectionState::Idle) {
                return Err(ConnectionEnd::Closed.into());
            }
            if kept && !self.patient {
                self.patient = true;
                // From the second request on, the longer idle timeout applies.
                let idle = self.limits.idle_timeout;
                let _ = self.place.entry.socket.set_read_timeout(Some(idle));
            }
            self.filled = self.read_some(0)?;
        }
        if !self.place.entry.enter_reading(self.limits.head_timeout) {
            return Err(ConnectionEnd::Closed.into());
        }
        let mut deadline = clock::instant() + self.limits.head_timeout;
        (self.effort, self.pieces) = (0, 0);
        let mut searched = 0;
        loop {
            let input = &self.buffer[..self.filled];
            let end = request_head::end(input, searched);
            if let Some(end) = end.filter(|end| *end <= self.limits.max_head) {
                let context = &self.listener.http.context;
                let client_field = match &context.config.overload.fair_by {
                    Some(FairBy::Field(name)) => Some(name.as_str()),
                    Some(FairBy::Address) | None => None,
                };
                let head = request_head::read(&input[..end], self.limits.max_fields, client_field);
                self.consume(end);
                return Ok(head?);
            }
            if let Some(refusal) = request_head::hopeless(input, searched) {
                return Err(refusal.into());
            }
            searched = self.filled;
            if end.is_some() || self.filled >= self.limits.max_head {
                let text = format!(
                    "the request head is larger than --max-head ({} bytes)",
                    self.limits.max_head
                );
                return Err(RequestError::new(Code::HeadTooLarge, text).into());
            }
            if self.filled == self.buffer.len()
                && let Err(mut refusal) = self.widen(self.limits.max_head)
            {
                if refusal.code == Code::ContentTooLarge {
                    // The head is too large, not a body.
                    refusal.code = Code::HeadTooLarge;
                }
                return Err(refusal.into());
            }
            if self.wait_readable(deadline)? == PollResult::TimedOut {
                let text = "the request head did not arrive within --head-timeout";
                return Err(RequestError::new(Code::RequestTimeout, text).into());
            }
            deadline += self.read_more()?;
        }
    }

    /// Whether the budget has room for this body and a wider buffer; the body goes first.
    fn may_widen(&self, body: u64) -> bool {
        let budget = &self.listener.http.context.budget;
        let body = usize::try_from(body).unwrap_or(usize::MAX);
        budget.check_alone(body.saturating_add(WIDE_BYTES)).is_ok()
    }

    /// Grows the buffer by `bytes`, charged to the budget.
    fn widen(&mut self, bytes: usize) -> Result<(), RequestError> {
        let more = bytes.saturating_sub(self.buffer.len());
        self.charge.reserve(self.buffer, more, bytes)?;
        self.buffer.resize(self.buffer.len() + more, 0);
        Ok(())
    }

    /// Reads available input into the buffer from `from` on; the end of the stream ends the
    /// connection.
    fn read_some(&mut self, from: usize) -> Result<usize, ConnectionEnd> {
        loop {
            match (&self.place.entry.socket).read(&mut self.buffer[from..]) {
                Ok(0) => return Err(ConnectionEnd::Closed),
                Ok(count) => return Ok(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(ConnectionEnd::Closed),
            }
        }
    }

    /// Reads available input after what is in the buffer, rate-limited by the listener's pace.
    /// Returns how long the rate limit took, which is not the client's delay.
    fn read_more(&mut self) -> Result<Duration, ConnectionEnd> {
        let count = self.read_some(self.filled)?;
        self.filled += count;
        self.pace(count, &self.listener.pace.pieces)
    }

    /// Charges bytes read to one of the listener's paces.
    fn pace(&mut self, bytes: usize, pacer: &Pacer) -> Result<Duration, ConnectionEnd> {
        self.effort += bytes.max(READ_EFFORT) as u64;
        let mut waited = Duration::ZERO;
        while self.effort >= PIECE_BYTES as u64 {
            self.effort -= PIECE_BYTES as u64;
            let Some(wait) = self.listener.slot_for_piece(pacer) else {
                continue;
            };
            self.pieces += 1;
            // A client that half-closes after its body is read to the end.
            if !wait.is_zero() && sys::departs_within(&self.place.entry.socket, wait) {
                return Err(ConnectionEnd::Closed);
            }
            waited += wait;
        }
        Ok(waited)
    }

    fn wait_readable(&self, deadline: Instant) -> Result<PollResult, ConnectionEnd> {
        // A client that always has something to read would never be late according to poll(2).
        if clock::instant() >= deadline {
            return Ok(PollResult::TimedOut);
        }
        sys::wait_readable(&[self.place.entry.socket.as_fd()], Some(deadline))
            .map_err(|_| ConnectionEnd::Closed)
    }

    /// Removes the first `count` bytes of the input.
    pub(crate) fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Whether input from the client is still unread.
    pub(crate) fn has_more(&self) -> bool {
        self.filled > 0 || sys::has_input(&self.place.entry.socket)
    }

    /// Size of the request's body, if all of it arrived with the head.
    ///
    /// It stays in the buffer: `read_body` takes it, or `answer` discards it.
    pub(crate) fn buffered_body(&self, head: &RequestHead) -> Option<usize> {
        match head.framing {
            Framing::None => Some(0),
            Framing::Length(length) => usize::try_from(length)
                .ok()
                .filter(|length| *length <= self.filled),
            Framing::Chunked => None,
        }
    }

    /// Reads a whole body within its deadlines.
    pub(crate) fn read_body(
        &mut self,
        head: &RequestHead,
        mut decoder: BodyDecoder,
    ) -> Result<RequestBody, RequestStop> {
        let mut started = clock::instant();
        let entry = &self.place.entry;
        if !entry.enter_reading(self.body_time(head.framing, 0)) {
            return Err(ConnectionEnd::Closed.into());
        }
        if head.expect_continue && self.filled == 0 && !decoder.is_complete() {
            // Written by hand, because tiny_http's writer would add a Content-Length (RFC 9110
            // section 8.6).
            SocketWriter::new(entry, self.limits.write_timeout)
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")
                .map_err(|_| ConnectionEnd::Closed)?;
        }
        if let Framing::Length(length) = head.framing
            && length > NARROW_BYTES as u64
            && self.may_widen(length)
        {
            self.widen(WIDE_BYTES)?;
        }
        decoder.set_beside(self.charge.total());
        loop {
            if self.filled > 0 && !decoder.is_complete() {
                let framing = decoder.framing();
                let used = decoder.push(&self.buffer[..self.filled])?;
                self.consume(used);
                self.effort += (decoder.framing() - framing) * FRAMING_EFFORT;
            }
            if decoder.is_complete() {
                return Ok(decoder.into_body());
            }
            let content = decoder.content();
            if let Framing::Length(length) = head.framing {
                self.place.entry.note_read(content, length);
            }
            let deadline = self.body_deadline(started, content, head.framing);
            if self.wait_readable(deadline)? == PollResult::TimedOut {
                let text = format!(
                    "the request body timed out: {content} bytes arrived in {} s (--body-timeout, --min-body-rate)",
                    started.elapsed().as_secs(),
                );
                return Err(RequestError::new(Code::RequestTimeout, text).into());
            }
            started += self.read_more()?;
        }
    }

    /// Gives back the slots taken for a body that became a prediction.
    pub(crate) fn was_of_use(&mut self) {
        if self.pieces > 0 {
            self.listener.pace.pieces.give_back(self.pieces);
            self.pieces = 0;
        }
    }

    /// The total time for a body of which so much content has arrived.
    fn body_time(&self, framing: Framing, content: u64) -> Duration {
        let size = match framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::None => content,
        };
        self.limits.body_timeout + Duration::from_secs(size >> 20)
    }

    /// When a body of which so much content has arrived is late, by its total time or its minimum
    /// rate.
    fn body_deadline(&self, started: Instant, content: u64, framing: Framing) -> Instant {
        let total = self.body_time(framing, content);
        let rate = self.limits.min_body_rate as f64;
        let by_rate = if rate > 0.0 {
            self.limits.body_grace + Duration::from_secs_f64(content as f64 / rate)
        } else {
            total
        };
        started + total.min(by_rate)
    }

    /// Closes the sending side and discards further input, within limits.
    pub(crate) fn linger(&mut self) {
        let entry = &self.place.entry;
        if entry.socket.shutdown(Shutdown::Write).is_err()
            || !entry.enter(ConnectionState::Lingering)
        {
            return;
        }
        let deadline = clock::instant() + LINGER_TIME;
        let mut discarded = 0;
        while discarded < LINGER_BYTES
            && matches!(self.wait_readable(deadline), Ok(PollResult::Ready(_)))
        {
            let Ok(count) = self.read_some(0) else {
                return;
            };
            discarded += count;
            if self.pace(count, &self.listener.pace.discards).is_err() {
                return;
            }
        }
    }
}
