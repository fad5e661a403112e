//! From a connection to the acceptor and back: one job, one reply.
//!
//! Runs on the connection's thread, which waits for nothing else meanwhile. It ends with the reply,
//! with the deadline, or with the client's leaving; a worker that hangs never leaves a client
//! hanging.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{RecvTimeoutError, TrySendError};

use crate::admission;
use crate::clock;
use crate::error::{Code, RequestError};
use crate::http::context::HttpContext;
use crate::http::input::End;
use crate::http::table::{Entry, State};
use crate::job::{Job, Pending, Reply, Request};
use crate::sys;
use crate::vitals::{Owed, Phase};

/// When a waiting connection first looks whether its client is still there, and how often at last:
/// each look is twice as far off as the one before, so that short predictions cost none, and those
/// abandoned at once are known by the time a worker takes them up.
const CLIENT_CHECK_FIRST: Duration = Duration::from_millis(16);
const CLIENT_CHECK_LAST: Duration = Duration::from_millis(250);

/// Sends a job on its way and waits for its reply; the inner error is the answer without one.
pub(crate) fn ask(
    http: &HttpContext,
    entry: &Entry,
    request: Request,
    request_id: &Arc<str>,
) -> Result<Result<Reply, RequestError>, End> {
    let is_prediction = matches!(request, Request::Predict { .. });
    let state = if is_prediction {
        State::Owing
    } else {
        State::Answering
    };
    if !entry.enter(state) {
        return Err(End::Closed);
    }
    let arrived = clock::instant();
    let _owed = Owed::new(&http.context.vitals.answers_owed);
    let (job, pending) = Job::new(request, Arc::clone(request_id), arrived);
    // A probe's answer is on its way: a client that half-closes behind its question gets it.
    let first_look = if is_prediction {
        CLIENT_CHECK_FIRST
    } else {
        CLIENT_CHECK_LAST
    };
    match http.acceptor.try_send(job) {
        Ok(()) => await_reply(http, entry, &pending, arrived, first_look).inspect_err(|_| {
            if is_prediction {
                http.context.vitals.counts.clients.abandoned.increment();
            }
        }),
        Err(TrySendError::Full(_)) => Ok(Err(admission::queue_full(&http.context.vitals.predict))),
        Err(TrySendError::Disconnected(_)) => {
            let text = "the server has lost its acceptor thread";
            Ok(Err(RequestError::new(Code::Internal, text)))
        }
    }
}

fn await_reply(
    http: &HttpContext,
    entry: &Entry,
    pending: &Pending,
    arrived: Instant,
    first_look: Duration,
) -> Result<Result<Reply, RequestError>, End> {
    let context = &http.context;
    let deadline = arrived + context.config.request_timeout;
    let mut patience = first_look;
    loop {
        let look = deadline.min(clock::instant() + patience);
        patience = (patience * 2).min(CLIENT_CHECK_LAST);
        match pending.reply.recv_deadline(look) {
            Ok(reply) => return Ok(Ok(reply)),
            Err(RecvTimeoutError::Disconnected) => {
                let text =
                    "the thread that worked on this request ended; the server's log has the reason";
                return Ok(Err(RequestError::new(Code::Internal, text)));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if sys::peer_has_left(&entry.socket) {
            pending.abandon();
            if !pending.is_received() && clock::instant() < deadline {
                // The acceptor's intake has one place for each connection: no other connection may
                // take this one's while its job is in there, or a probe would find none.
                patience = CLIENT_CHECK_FIRST;
                continue;
            }
            return Err(End::Closed);
        }
        if context.vitals.phase() == Phase::Stopped {
            pending.abandon();
            return Ok(Err(admission::draining()));
        }
        if clock::instant() >= deadline {
            pending.abandon();
            let text = format!(
                "no answer within --request-timeout ({})",
                humantime::format_duration(context.config.request_timeout)
            );
            return Ok(Err(RequestError::new(Code::DeadlineExceeded, text)));
        }
    }
}
