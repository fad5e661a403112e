//! A probe on its connection: the way to a probe worker, and the fallback if that way is blocked.

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
use crate::http::stop::{ConnectionEnd, RequestStop};
use crate::job::{Job, Reply};
use crate::platform::clock::{self, Stamp};
use crate::protocol::routes::Probe;
use crate::serving::context::Context;
use crate::serving::probes;
use crate::vitals::Owed;

/// How long a probe may take to a worker and back before its connection looks for the reason.
const PROBE_PATIENCE: Duration = Duration::from_millis(30);

const NO_STATUS: &str = "no probe worker could answer; /livez?verbose may say why";

/// Maximum number of concurrent `/statusz` answers. Each takes a probe worker about 50 µs, which a
/// liveness probe behind a thousand of them would notice.
const STATUSES_MAX: usize = 8;

fn too_many_statuses() -> RequestError {
    RequestError::new(
        Code::QueueFull,
        "too many concurrent /statusz requests; retry later",
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
        // Given back before the answer is visible: its client may ask again at once.
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
            Err(RequestStop::Respond(error)) => Err(error),
            Err(RequestStop::Close(end)) => return Err(end),
        };
        let (answer, error) = match result {
            Ok(payload) => (Answer::from(payload), None),
            Err(error) => (self.error(&error, &asked.request_id), Some(error)),
        };
        vitals.probes.count(place, answer.status);
        self.answer_other(asked, answer, error.as_ref(), true)
    }
}

/// Sends a probe on its way and waits for its reply. If no worker can reply, the connection's
/// thread answers from the same checks.
///
/// That is the case if the acceptor is gone or stuck (a check says so), if a thread ended while it
/// held the probe, or if the acceptor passed the probe on and no probe worker answers. While a
/// delayed acceptor may still move, there is no answer, which is the truth.
fn ask_probe(
    http: &HttpContext,
    entry: &ConnectionEntry,
    watch: &mut ClientWatch,
    probe: Probe,
    request_id: &Arc<str>,
) -> Result<Reply, RequestStop> {
    if !entry.enter(ConnectionState::Answering) {
        return Err(ConnectionEnd::Closed.into());
    }
    let context = &http.context;
    context.vitals.counts.probes.increment();
    let _owed = Owed::new(&context.vitals.answers_owed);
    let arrived = clock::instant();
    let answer_here = |probe: &Probe| match probe.kind {
        // A long text and not a verdict: too much for a connection's small stack.
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
        // With a shared lane, probes are meant to wait behind predictions, and nobody else has a
        // status.
        let may_answer = !context.config.shared_lane && probe.kind != ProbeKind::Status;
        if is_deaf(context) || passed_on && may_answer {
            pending.abandon();
            return answer_here(&probe);
        }
        let now = clock::instant();
        let has_departed = watch.has_departed(entry, now);
        let late = now >= deadline;
        // As in `await_reply`: a job that nobody has received keeps its connection here.
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

/// Whether nobody takes jobs: the acceptor has ended, or has been on one job for too long.
///
/// One that has not begun yet will: a server that cannot start its threads ends at once.
fn is_deaf(context: &Context) -> bool {
    let acceptor = &context.vitals.acceptor;
    let ended_before = acceptor.ended_at.load() != Stamp::NEVER;
    let has_ended = ended_before && !acceptor.alive.load(Ordering::Acquire);
    has_ended || in_hand_for(context) >= context.config.stall_timeout
}

/// How long the acceptor has been on its present job; zero if it has none.
fn in_hand_for(context: &Context) -> Duration {
    match context.vitals.acceptor.busy_since.load() {
        Stamp::NEVER => Duration::ZERO,
        since => context.vitals.clock.now().since(since),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Command, Resources};
    use crate::lifecycle::Waker;
    use crate::platform::fault::NoFaults;

    #[test]
    fn an_acceptor_is_deaf_once_it_has_ended_and_not_before_it_begins() {
        let Ok(Command::Serve(serve)) = config::parse(["lanekeeper".into()]) else {
            panic!("plain lanekeeper serves");
        };
        let config = serve.validate(Resources::UNKNOWN).unwrap();
        let (context, _) = Context::new(config, Arc::new(NoFaults), Waker::idle());
        let acceptor = &context.vitals.acceptor;
        assert!(!is_deaf(&context), "its thread has yet to run");
        acceptor.alive.store(true, Ordering::Release);
        assert!(!is_deaf(&context));
        acceptor.ended_at.store(context.vitals.clock.now());
        acceptor.alive.store(false, Ordering::Release);
        assert!(is_deaf(&context));
        acceptor.alive.store(true, Ordering::Release);
        assert!(!is_deaf(&context), "another has taken its place");
    }
}
