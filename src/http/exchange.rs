//! From a connection to the acceptor and back: one job, one reply.
//!
//! Runs on the connection's thread, which waits for nothing else meanwhile. It ends with the reply,
//! with the deadline, or with the client's leaving; a worker that hangs never leaves a client
//! hanging.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::TrySendError;
use oneshot::RecvTimeoutError;

use crate::error::{Code, RequestError};
use crate::health::ProbeKind;
use crate::http::client_watch::ClientWatch;
use crate::http::connection_table::{ConnectionEntry, ConnectionState};
use crate::http::listener_context::HttpContext;
use crate::http::reader::ConnectionEnd;
use crate::job::deployment::Deployment;
use crate::job::{Job, PendingReply, Reply, RequestBody};
use crate::lanes::admission::{self, Admitted};
use crate::platform::clock::{self, Stamp};
use crate::protocol::Spoken;
use crate::protocol::routes::Probe;
use crate::serving::context::Context;
use crate::serving::probes;
use crate::vitals::{Owed, PredictionOutcome, ServerPhase};

/// When a waiting connection looks whether its client is still there: first shortly before a worker is
/// expected to take its job up, within these, and then each time after twice as long.
const CLIENT_CHECK_FIRST: Duration = Duration::from_millis(16);
const CLIENT_CHECK_LAST: Duration = Duration::from_millis(250);

/// Where predictions are shorter than this, the first look is after [`CLIENT_CHECK_LAST`]: a look costs
/// some 10 µs, and before then it would find only clients that have reset their connection.
const WORTH_A_LOOK: Duration = Duration::from_millis(1);

/// The part of the expected wait after which the first look is.
const CLIENT_CHECK_PART: f32 = 0.75;

/// A reply that is expected within this is waited for without going to sleep first.
const SOON: Duration = Duration::from_micros(100);

/// How long a probe may be on its way to a worker and back before its connection looks why.
const PROBE_PATIENCE: Duration = Duration::from_millis(30);

const NO_STATUS: &str = "no probe worker could answer; /livez?verbose may say why";

/// Sends an admitted prediction on its way and waits for its reply; the inner error is the answer
/// without one.
pub(crate) fn ask(
    http: &HttpContext,
    (entry, watch): (&ConnectionEntry, &mut ClientWatch),
    (body, spoken): (RequestBody, Spoken),
    deployment: &Arc<Deployment>,
    request_id: &Arc<str>,
    admitted: Admitted,
) -> Result<Result<Reply, RequestError>, ConnectionEnd> {
    if !entry.enter(ConnectionState::Owing) {
        return Err(ConnectionEnd::Closed);
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
                return Ok(Ok(reply));
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
        Err(TrySendError::Full(_)) => Ok(Err(admission::queue_full(&vitals.predict))),
        Err(TrySendError::Disconnected(_)) => {
            let text = "the server has lost its acceptor thread";
            Ok(Err(RequestError::new(Code::Internal, text)))
        }
    }
}

/// Sends a probe on its way and waits for its reply. Where no worker can give one, the connection's
/// thread answers from the same checks.
///
/// That is so where the acceptor is gone or stuck (which a check says), where a thread ended with the
/// probe in its hands, and where the acceptor has passed it on and no probe worker answers. While an
/// acceptor holds it up that may yet move, there is no answer, and that is the truth.
pub(crate) fn ask_probe(
    http: &HttpContext,
    entry: &ConnectionEntry,
    watch: &mut ClientWatch,
    probe: Probe,
    request_id: &Arc<str>,
) -> Result<Result<Reply, RequestError>, ConnectionEnd> {
    if !entry.enter(ConnectionState::Answering) {
        return Err(ConnectionEnd::Closed);
    }
    let context = &http.context;
    context.vitals.counts.probes.increment();
    let _owed = Owed::new(&context.vitals.answers_owed);
    let arrived = clock::instant();
    let answer_here = |probe: &Probe| match probe.kind {
        // Long, and no verdict: not for a connection's small stack.
        ProbeKind::Status => Ok(Err(RequestError::new(Code::Internal, NO_STATUS))),
        _ => Ok(Ok(Reply::cheap(probes::answer(context, probe)))),
    };
    if is_deaf(context) {
        return answer_here(&probe);
    }
    let (job, pending) = Job::probe(probe.clone(), Arc::clone(request_id), arrived);
    if http.acceptor.try_send(job).is_err() {
        return answer_here(&probe);
    }
    if !context.vitals.predict.is_occupied()
        && let Some(reply) = pending.recv_soon()
    {
        return Ok(Ok(reply));
    }
    let deadline = arrived + context.config.request_timeout;
    let mut patience = PROBE_PATIENCE;
    loop {
        let look = deadline.min(clock::instant() + patience);
        match pending.reply.recv_deadline(look) {
            Ok(reply) => return Ok(Ok(reply)),
            Err(RecvTimeoutError::Disconnected) => return answer_here(&probe),
            Err(RecvTimeoutError::Timeout) => {}
        }
        let passed_on = pending.is_received() && in_hand_for(context) < PROBE_PATIENCE;
        // With a shared lane probes are to wait behind predictions, and nobody else has a status.
        let may_answer = !context.config.shared_lane && probe.kind != ProbeKind::Status;
        if is_deaf(context) || passed_on && may_answer {
            pending.abandon();
            return answer_here(&probe);
        }
        let now = clock::instant();
        let has_departed = watch.has_departed(entry, now);
        let late = now >= deadline;
        // As in `await_reply`, a job that nobody has received keeps its connection here.
        if late || has_departed && pending.is_received() {
            pending.abandon();
            return if late {
                Ok(Err(deadline_exceeded(arrived)))
            } else {
                Err(ConnectionEnd::Closed)
            };
        }
        patience = CLIENT_CHECK_LAST;
    }
}

/// Whether nobody takes jobs up: the acceptor does not run, or has been on one for too long.
fn is_deaf(context: &Context) -> bool {
    !context.vitals.acceptor.alive.load(Ordering::Acquire)
        || in_hand_for(context) >= context.config.stall_timeout
}

/// For how long the acceptor has had its present job in hand; zero where it has none.
fn in_hand_for(context: &Context) -> Duration {
    match context.vitals.acceptor.busy_since.load() {
        Stamp::NEVER => Duration::ZERO,
        since => context.vitals.clock.now().since(since),
    }
}

fn deadline_exceeded(arrived: Instant) -> RequestError {
    let text = format!(
        "no answer by the deadline (X-Request-Timeout, or --request-timeout), after {} ms",
        clock::instant()
            .saturating_duration_since(arrived)
            .as_millis(),
    );
    RequestError::new(Code::DeadlineExceeded, text)
}

/// Waits for the reply to an admitted prediction, and looks meanwhile whether its client is still
/// there. A client that departs is counted, and nothing that comes after that is told or counted.
fn await_reply(
    http: &HttpContext,
    (entry, watch): (&ConnectionEntry, &mut ClientWatch),
    (pending, deployment): (&PendingReply, &Deployment),
    deadline: Instant,
    first_look: Duration,
) -> Result<Result<Reply, RequestError>, ConnectionEnd> {
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
                return Err(ConnectionEnd::Closed);
            }
            Ok(reply) => return Ok(Ok(reply)),
            Err(RecvTimeoutError::Disconnected) => {
                let text =
                    "the thread that worked on this request ended; the server's log has the reason";
                return Ok(Err(RequestError::new(Code::Internal, text)));
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
                return Err(ConnectionEnd::Closed);
            }
            // The acceptor's intake has one place for each connection: no other connection may
            // take this one's while its job is in there, or a probe would find none.
            patience = CLIENT_CHECK_FIRST;
            continue;
        }
        if vitals.phase() == ServerPhase::Stopped {
            pending.abandon();
            return Ok(Err(admission::draining()));
        }
        if now >= deadline {
            pending.abandon();
            return Ok(Err(deadline_exceeded(arrived)));
        }
    }
}
