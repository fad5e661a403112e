//! A probe on its connection: the way to a probe worker, and the detour where that way is blocked.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use oneshot::RecvTimeoutError;

use super::{After, Connection, RequestInProgress};
use crate::error::{Code, RequestError};
use crate::health::ProbeKind;
use crate::http::client_watch::ClientWatch;
use crate::http::connection_table::{ConnectionEntry, ConnectionState};
use crate::http::exchange::{CLIENT_CHECK_LAST, deadline_exceeded};
use crate::http::listener_context::HttpContext;
use crate::http::response::Answer;
use crate::http::stop::{ConnectionEnd, Stop};
use crate::job::{Job, Reply};
use crate::platform::clock::{self, Stamp};
use crate::protocol::routes::Probe;
use crate::serving::context::Context;
use crate::serving::probes;
use crate::vitals::Owed;

/// How long a probe may be on its way to a worker and back before its connection looks why.
const PROBE_PATIENCE: Duration = Duration::from_millis(30);

const NO_STATUS: &str = "no probe worker could answer; /livez?verbose may say why";

/// Requests for `/statusz` that are answered at a time. Each takes a probe worker some 50 µs, which
/// a liveness probe behind a thousand of them would notice.
const STATUSES_MAX: usize = 8;

fn too_many_statuses() -> RequestError {
    RequestError::new(
        Code::QueueFull,
        "too many ask for /statusz at once; send the request again later",
    )
    .retry_after(1)
}

impl Connection<'_> {
    pub(super) fn answer_probe(
        &mut self,
        asked: &RequestInProgress,
        probe: Probe,
    ) -> Result<After, ConnectionEnd> {
        let http = &self.listener.http;
        let vitals = &http.context.vitals;
        if probe.kind != ProbeKind::Status {
            let latency = &vitals.listeners[self.listener.kind as usize].probe_latency;
            self.probed = Some(latency.timer(clock::instant()));
        }
        let place = probe.kind as usize;
        let _owed = Owed::new(&vitals.answers_owed);
        // Given back before the answer can be seen: its client may ask again at once.
        let status = (probe.kind == ProbeKind::Status).then(|| Owed::new(&http.statuses));
        let reply = if http.statuses.load(Ordering::Relaxed) > STATUSES_MAX
            && probe.kind == ProbeKind::Status
        {
            Err(too_many_statuses().into())
        } else {
            ask_probe(
                http,
                &self.input.place.entry,
                &mut self.watch,
                probe,
                &asked.request_id,
            )
        };
        drop(status);
        let result = match reply {
            Ok(reply) => reply.result,
            Err(Stop::Respond(error)) => Err(error),
            Err(Stop::Close(end)) => return Err(end),
        };
        let (answer, error) = match result {
            Ok(payload) => (Answer::from(payload), None),
            Err(error) => (self.error(&error, &asked.request_id), Some(error)),
        };
        vitals.probes.count(place, answer.status);
        self.answer_other(asked, answer, error.as_ref(), true)
    }
}

/// Sends a probe on its way and waits for its reply. Where no worker can give one, the connection's
/// thread answers from the same checks.
///
/// That is so where the acceptor is gone or stuck (which a check says), where a thread ended with the
/// probe in its hands, and where the acceptor has passed it on and no probe worker answers. While an
/// acceptor holds it up that may yet move, there is no answer, and that is the truth.
fn ask_probe(
    http: &HttpContext,
    entry: &ConnectionEntry,
    watch: &mut ClientWatch,
    probe: Probe,
    request_id: &Arc<str>,
) -> Result<Reply, Stop> {
    if !entry.enter(ConnectionState::Answering) {
        return Err(ConnectionEnd::Closed.into());
    }
    let context = &http.context;
    context.vitals.counts.probes.increment();
    let _owed = Owed::new(&context.vitals.answers_owed);
    let arrived = clock::instant();
    let answer_here = |probe: &Probe| match probe.kind {
        // Long, and no verdict: not for a connection's small stack.
        ProbeKind::Status => Err(RequestError::new(Code::Internal, NO_STATUS).into()),
        _ => Ok(Reply::cheap(probes::answer(context, probe))),
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
        return Ok(reply);
    }
    let deadline = arrived + context.config.request_timeout;
    let mut patience = PROBE_PATIENCE;
    loop {
        let look = deadline.min(clock::instant() + patience);
        match pending.reply.recv_deadline(look) {
            Ok(reply) => return Ok(reply),
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
                Err(deadline_exceeded(arrived).into())
            } else {
                Err(ConnectionEnd::Closed.into())
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
