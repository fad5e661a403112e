//! From a connection to the acceptor and back: one job, one reply.
//!
//! Runs on the connection's thread, which waits for nothing else meanwhile. It ends with the reply,
//! with the deadline, or when the client leaves. A worker that hangs never leaves a client hanging.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::TrySendError;
use oneshot::RecvTimeoutError;

use crate::error::{Code, RequestError};
use crate::http::client_watch::ClientWatch;
use crate::http::connection_table::{ConnectionEntry, ConnectionState};
use crate::http::listener_context::HttpContext;
use crate::http::stop::{ConnectionEnd, RequestStop};
use crate::job::deployment::Deployment;
use crate::job::{Job, PendingReply, Reply, RequestBody};
use crate::lanes::admission::{self, Admitted};
use crate::platform::clock;
use crate::protocol::Spoken;
use crate::vitals::{Owed, PredictionOutcome, ServerPhase};

/// When a waiting connection checks whether its client is still there: first shortly before a
/// worker is expected to start its job, within these limits, then at doubled intervals.
const CLIENT_CHECK_FIRST: Duration = Duration::from_millis(16);
pub(super) const CLIENT_CHECK_LAST: Duration = Duration::from_millis(250);

/// If predictions are shorter than this, the first check is after [`CLIENT_CHECK_LAST`]: a check
/// costs about 10 µs, and an earlier one would only find clients that reset their connection.
const WORTH_A_LOOK: Duration = Duration::from_millis(1);

/// The part of the expected wait after which the first check is made.
const CLIENT_CHECK_PART: f32 = 0.75;

/// A reply expected within this is awaited without going to sleep first.
const SOON: Duration = Duration::from_micros(100);

/// Sends an admitted prediction on its way and waits for its reply.
///
/// # Errors
///
/// The answer to give without a reply, or the end of the connection.
pub(crate) fn ask(
    http: &HttpContext,
    (entry, watch): (&ConnectionEntry, &mut ClientWatch),
    (body, spoken): (RequestBody, Spoken),
    deployment: &Arc<Deployment>,
    request_id: &Arc<str>,
    admitted: Admitted,
) -> Result<Reply, RequestStop> {
    if !entry.enter(ConnectionState::Owing) {
        return Err(ConnectionEnd::Closed.into());
    }
    let vitals = &http.context.vitals;
    let _owed = Owed::new(&vitals.answers_owed);
    let (deadline, expected_wait) = (admitted.deadline, admitted.expected_wait);
    let request_id = Arc::clone(request_id);
    let arrived = clock::instant();
    let (job, pending) = Job::prediction(
        (body, spoken),
        Arc::clone(deployment),
        request_id,
        arrived,
        admitted,
    );
    match http.acceptor.try_send(job) {
        Ok(()) => {
            let service_time = vitals.predict.service_time();
            if expected_wait + service_time <= SOON
                && let Some(reply) = pending.recv_soon()
            {
                return Ok(reply);
            }
            let first_look = if service_time < WORTH_A_LOOK {
                CLIENT_CHECK_LAST
            } else {
                expected_wait.mul_f32(CLIENT_CHECK_PART)
            };
            await_reply(
                http,
                (entry, watch),
                (&pending, deployment),
                deadline,
                first_look,
            )
        }
        Err(TrySendError::Full(_)) => Err(admission::queue_full(&vitals.predict).into()),
        Err(TrySendError::Disconnected(_)) => {
            let text = "the server has lost its acceptor thread";
            Err(RequestError::new(Code::Internal, text).into())
        }
    }
}

pub(super) fn deadline_exceeded(arrived: Instant) -> RequestError {
    let text = format!(
        "no answer by the deadline (X-Request-Timeout, or --request-timeout), after {} ms",
        clock::instant()
            .saturating_duration_since(arrived)
            .as_millis(),
    );
    RequestError::new(Code::DeadlineExceeded, text)
}

/// Waits for the reply to an admitted prediction, and checks meanwhile whether its client is still
/// there. A departed client is counted, and its prediction is neither logged nor counted after
/// that.
fn await_reply(
    http: &HttpContext,
    (entry, watch): (&ConnectionEntry, &mut ClientWatch),
    (pending, deployment): (&PendingReply, &Deployment),
    deadline: Instant,
    first_look: Duration,
) -> Result<Reply, RequestStop> {
    let vitals = &http.context.vitals;
    let arrived = clock::instant();
    let mut patience = first_look.clamp(CLIENT_CHECK_FIRST, CLIENT_CHECK_LAST);
    let mut has_departed = false;
    loop {
        let now = clock::instant();
        let look = deadline.min(now + patience);
        let look = watch.decides_at(now).map_or(look, |at| at.min(look));
        patience = (patience * 2).min(CLIENT_CHECK_LAST);
        match pending.reply.recv_deadline(look) {
            Ok(_) | Err(RecvTimeoutError::Disconnected) if has_departed => {
                return Err(ConnectionEnd::Closed.into());
            }
            Ok(reply) => return Ok(reply),
            Err(RecvTimeoutError::Disconnected) => {
                let text =
                    "the thread that worked on this request ended; the server's log has the reason";
                return Err(RequestError::new(Code::Internal, text).into());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = clock::instant();
        if !has_departed && watch.has_departed(entry, now) {
            has_departed = true;
            pending.abandon();
            vitals.counts.clients.abandoned.increment();
            let outcomes = &deployment.vitals.outcomes;
            outcomes.ended(PredictionOutcome::Abandoned, arrived);
        }
        if has_departed {
            if pending.is_received() || now >= deadline {
                return Err(ConnectionEnd::Closed.into());
            }
            // The acceptor's intake has one place per connection. No other connection may use this
            // one's while its job is in there, or a probe would find none.
            patience = CLIENT_CHECK_FIRST;
            continue;
        }
        if vitals.phase() == ServerPhase::Stopped {
            pending.abandon();
            return Err(admission::draining().into());
        }
        if now >= deadline {
            pending.abandon();
            return Err(deadline_exceeded(arrived).into());
        }
    }
}
