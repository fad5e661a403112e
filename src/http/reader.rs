//! What a client sends: heads and bodies, read off the socket within their limits and deadlines.
//!
//! Runs on the connection's thread. Blocks on this one socket only, and never past a deadline.

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
use crate::http::stop::{ConnectionEnd, Stop};
use crate::http::writer::SocketWriter;
use crate::job::RequestBody;
use crate::lanes::admission::{PIECE_BYTES, Pacer};
use crate::lanes::memory_budget::Charge;
use crate::platform::clock;
use crate::platform::sys::{self, PollResult};

/// What is discarded of an unread body before the connection is closed, and for how long, so that
/// the client reads the answer instead of a reset.
const LINGER_BYTES: usize = 32 << 20;
const LINGER_TIME: Duration = Duration::from_secs(1);

/// What a connection's buffer has room for at first. Most requests need no more.
pub(crate) const NARROW_BYTES: usize = 4 << 10;

/// What it has room for where a body is larger, so that it is read in fewer pieces.
const WIDE_BYTES: usize = 16 << 10;

/// What a read costs at least, however little it brings, in bytes read by the thousand.
const READ_EFFORT: usize = 16 << 10;

/// What a byte of chunk framing costs beyond one of content: it is looked at by itself.
const FRAMING_EFFORT: u64 = 15;

/// One connection's incoming half.
#[derive(Debug)]
pub(crate) struct Input<'a> {
    /// The connection's place among the others.
    pub(crate) place: ConnectionGuard<'a>,
    /// Its length is its capacity for input; wide only as long as this connection needs it.
    buffer: &'a mut Vec<u8>,
    /// What is charged for its being wide.
    charge: Charge,
    /// Bytes at the start of the buffer that were read and not used.
    filled: usize,
    /// Whether the socket waits as long as a kept connection may be idle.
    patient: bool,
    listener: &'a ListenerContext,
    limits: &'a LimitArgs,
    /// What was read of this request and not drawn on the listener's pace yet, in bytes.
    effort: u64,
    /// Slots taken of that pace for this request.
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
        // A socket that refuses its options has lost its client; reading will say so.
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

    /// Waits for a request and reads its head; `kept` says that one was answered before.
    ///
    /// # Errors
    /// An error that is answered ends the connection too.
    pub(crate) fn read_head(&mut self, kept: bool) -> Result<RequestHead, Stop> {
        if self.filled == 0 {
            if !self.place.entry.enter(ConnectionState::Idle) {
                return Err(ConnectionEnd::Closed.into());
            }
            if kept && !self.patient {
                self.patient = true;
                // From the second request on the connection may be idle for longer.
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
                    // No body is too large, but the head.
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

    /// Whether a body would fit into the budget beside a wider buffer; it comes first.
    fn may_widen(&self, body: u64) -> bool {
        let budget = &self.listener.http.context.budget;
        let body = usize::try_from(body).unwrap_or(usize::MAX);
        budget.check_alone(body.saturating_add(WIDE_BYTES)).is_ok()
    }

    /// Gives the buffer room for `bytes`, at the budget's expense.
    fn widen(&mut self, bytes: usize) -> Result<(), RequestError> {
        let more = bytes.saturating_sub(self.buffer.len());
        self.charge.reserve(self.buffer, more, bytes)?;
        self.buffer.resize(self.buffer.len() + more, 0);
        Ok(())
    }

    /// Reads what is there into the buffer from `from` on; the end of the stream ends the connection.
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

    /// Reads what is there behind what is in the buffer, at the listener's pace; returns for how long
    /// that held it up, which is not the client's delay.
    fn read_more(&mut self) -> Result<Duration, ConnectionEnd> {
        let count = self.read_some(self.filled)?;
        self.filled += count;
        self.pace(count, &self.listener.pace.pieces)
    }

    /// Draws what was read on a pace of the listener's.
    fn pace(&mut self, bytes: usize, pacer: &Pacer) -> Result<Duration, ConnectionEnd> {
        self.effort += bytes.max(READ_EFFORT) as u64;
        let mut waited = Duration::ZERO;
        while self.effort >= PIECE_BYTES as u64 {
            self.effort -= PIECE_BYTES as u64;
            let Some(wait) = self.listener.slot_for_piece(pacer) else {
                continue;
            };
            self.pieces += 1;
            // A client that half-closes behind its body is to be read to the end.
            if !wait.is_zero() && sys::departs_within(&self.place.entry.socket, wait) {
                return Err(ConnectionEnd::Closed);
            }
            waited += wait;
        }
        Ok(waited)
    }

    fn wait_readable(&self, deadline: Instant) -> Result<PollResult, ConnectionEnd> {
        // A client that always has something to read would never be late by poll(2).
        if clock::instant() >= deadline {
            return Ok(PollResult::TimedOut);
        }
        sys::wait_readable(&[self.place.entry.socket.as_fd()], Some(deadline))
            .map_err(|_| ConnectionEnd::Closed)
    }

    /// Forgets the first `count` bytes of the input.
    pub(crate) fn consume(&mut self, count: usize) {
        self.buffer.copy_within(count..self.filled, 0);
        self.filled -= count;
    }

    /// Whether something the client has sent is still to be read.
    pub(crate) fn has_more(&self) -> bool {
        self.filled > 0 || sys::has_input(&self.place.entry.socket)
    }

    /// Size of the request's body, where the whole of it has arrived with the head.
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

    /// Reads a body whole, as fast as its deadlines ask.
    pub(crate) fn read_body(
        &mut self,
        head: &RequestHead,
        mut decoder: BodyDecoder,
    ) -> Result<RequestBody, Stop> {
        let mut started = clock::instant();
        let entry = &self.place.entry;
        if !entry.enter_reading(self.body_time(head.framing, 0)) {
            return Err(ConnectionEnd::Closed.into());
        }
        if head.expect_continue && self.filled == 0 && !decoder.is_complete() {
            // By hand: tiny_http's writer would put a Content-Length on it (RFC 9110 section 8.6).
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
                    "the request body did not arrive in time: {content} bytes came in {} s (--body-timeout, --min-body-rate)",
                    started.elapsed().as_secs(),
                );
                return Err(RequestError::new(Code::RequestTimeout, text).into());
            }
            started += self.read_more()?;
        }
    }

    /// Gives back what was drawn on the pace for a body that came to a prediction.
    pub(crate) fn was_of_use(&mut self) {
        if self.pieces > 0 {
            self.listener.pace.pieces.give_back(self.pieces);
            self.pieces = 0;
        }
    }

    /// The time a body may take in all, of which so much content has come.
    fn body_time(&self, framing: Framing, content: u64) -> Duration {
        let size = match framing {
            Framing::Length(length) => length,
            Framing::Chunked | Framing::None => content,
        };
        self.limits.body_timeout + Duration::from_secs(size >> 20)
    }

    /// When a body of which so much content has come is late: by the total, or by the minimum rate.
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

    /// Closes the sending half and discards what the client still sends, within limits.
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
