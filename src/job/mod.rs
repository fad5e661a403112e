//! What travels: a [`Job`] from its connection to a worker, one [`Reply`] back.
//!
//! Each job carries a reply channel of its own, made for it and dropped with it: an answer that
//! comes after its connection stopped waiting has nowhere to go, and can never be taken for the
//! answer to the next request. A job that is dropped unanswered shows as a closed channel.

pub mod deployment;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use oneshot::{Receiver, Sender};

use crate::error::RequestError;
use crate::job::deployment::Deployment;
use crate::lanes::admission::Admitted;
use crate::lanes::memory_budget::Charge;
use crate::protocol::routes::Probe;
use crate::protocol::{Payload, Spoken};

/// How often a connection lets others run before it sleeps, where its reply will not be long.
const YIELDS: usize = 2;

/// What is asked of a worker.
#[derive(Debug)]
pub enum JobRequest {
    /// Compute predictions for the instances in this body.
    Predict {
        /// The body, undecoded.
        body: RequestBody,
        /// What reads it, and what writes the answer.
        spoken: Spoken,
        /// Whose model answers.
        deployment: Arc<Deployment>,
    },
    /// Answer a probe.
    Probe(Probe),
}

/// A request's body, and its part of the memory budget.
#[derive(Debug)]
pub struct RequestBody {
    /// Content.
    pub bytes: Vec<u8>,
    /// Given back when the body is dropped.
    pub charge: Charge,
}

/// A request on its way through the server; whoever holds it owes one reply.
#[derive(Debug)]
pub struct Job {
    /// What is asked.
    pub request: JobRequest,
    /// The reply that is owed.
    pub reply_sender: ReplySender,
}

/// A reply that is owed to a connection.
#[derive(Debug)]
pub struct ReplySender {
    /// The request's name in answers and logs.
    pub request_id: Arc<str>,
    /// When its body had arrived whole.
    pub arrived: Instant,
    state: Arc<JobState>,
    reply: Sender<Reply>,
}

/// What a job's two ends tell each other.
#[derive(Debug)]
struct JobState {
    /// The connection does not wait for the reply any more.
    abandoned: AtomicBool,
    /// The acceptor has received the job.
    received: AtomicBool,
    /// A prediction's; a probe needs none.
    admitted: Option<Admitted>,
}

/// The connection's end of a job.
#[derive(Debug)]
pub struct PendingReply {
    /// Where the reply comes.
    pub reply: Receiver<Reply>,
    state: Arc<JobState>,
}

/// The answer to a job, with what the access log tells of it.
#[derive(Debug)]
pub struct Reply {
    /// What the client gets.
    pub result: Result<Payload, RequestError>,
    /// What the content is charged until it is written; `None` for what is small by nature.
    pub charge: Option<Charge>,
    /// Number of instances, where they were decoded.
    pub rows: Option<usize>,
    /// Time in the queue.
    pub waiting_time: Duration,
    /// Time with a worker.
    pub service_time: Duration,
}

impl Job {
    /// Makes a prediction that arrived at `arrived` and was admitted, and the connection's end of it.
    pub fn prediction(
        (body, spoken): (RequestBody, Spoken),
        deployment: Arc<Deployment>,
        request_id: Arc<str>,
        arrived: Instant,
        admitted: Admitted,
    ) -> (Self, PendingReply) {
        let request = JobRequest::Predict {
            body,
            spoken,
            deployment,
        };
        Self::new(request, request_id, arrived, Some(admitted))
    }

    /// Makes a probe that arrived at `arrived`, and the connection's end of it.
    pub fn probe(probe: Probe, request_id: Arc<str>, arrived: Instant) -> (Self, PendingReply) {
        Self::new(JobRequest::Probe(probe), request_id, arrived, None)
    }

    fn new(
        request: JobRequest,
        request_id: Arc<str>,
        arrived: Instant,
        admitted: Option<Admitted>,
    ) -> (Self, PendingReply) {
        let (sender, receiver) = oneshot::channel();
        let state = Arc::new(JobState {
            abandoned: AtomicBool::new(false),
            received: AtomicBool::new(false),
            admitted,
        });
        let pending = PendingReply {
            reply: receiver,
            state: Arc::clone(&state),
        };
        let reply_sender = ReplySender {
            request_id,
            arrived,
            state,
            reply: sender,
        };
        (
            Job {
                request,
                reply_sender,
            },
            pending,
        )
    }

    /// Gives the reply of a job that no worker takes up, once what it held is given back.
    pub fn refuse(self, error: RequestError, now: Instant) {
        let Job {
            request,
            reply_sender,
        } = self;
        drop(request);
        if let Some(admitted) = reply_sender.admitted() {
            admitted.reservation.take_up();
        }
        let reply = reply_sender.refusal(error, now);
        reply_sender.answer(reply);
    }
}

impl ReplySender {
    /// Whether the connection still waits for the reply.
    pub fn is_wanted(&self) -> bool {
        !self.state.abandoned.load(Ordering::Acquire)
    }

    /// What a prediction was admitted with.
    pub fn admitted(&self) -> Option<&Admitted> {
        self.state.admitted.as_ref()
    }

    /// Notes that the acceptor has received the job.
    pub fn received(&self) {
        self.state.received.store(true, Ordering::Release);
    }

    /// Gives the one reply; never blocks, and a reply that nobody waits for is dropped.
    pub fn answer(self, reply: Reply) {
        // It fails only where the connection has stopped waiting.
        let _ = self.reply.send(reply);
    }

    /// The reply of a job that is not worked on.
    pub fn refusal(&self, error: RequestError, now: Instant) -> Reply {
        Reply {
            result: Err(error),
            charge: None,
            rows: None,
            waiting_time: now.saturating_duration_since(self.arrived),
            service_time: Duration::ZERO,
        }
    }
}

impl PendingReply {
    /// Lets the threads run that the reply has to come from, and takes it if it is there then: where
    /// that is so, nobody has to wake this thread up.
    pub fn recv_soon(&self) -> Option<Reply> {
        for _ in 0..YIELDS {
            std::thread::yield_now();
            if let Ok(reply) = self.reply.try_recv() {
                return Some(reply);
            }
        }
        None
    }

    /// Whether the acceptor has received the job.
    pub fn is_received(&self) -> bool {
        self.state.received.load(Ordering::Acquire)
    }

    /// Tells the worker that nobody waits any more.
    pub fn abandon(&self) {
        self.state.abandoned.store(true, Ordering::Release);
        if let Some(admitted) = &self.state.admitted {
            admitted.reservation.give_up();
        }
    }
}

impl Reply {
    /// The reply to what is neither a prediction nor large.
    pub fn cheap(payload: Payload) -> Self {
        Reply {
            result: Ok(payload),
            charge: None,
            rows: None,
            waiting_time: Duration::ZERO,
            service_time: Duration::ZERO,
        }
    }
}

/// Makes a request id: unique in this process, and unlikely to be another's.
pub fn new_request_id() -> Arc<str> {
    use std::hash::{BuildHasher, RandomState};
    use std::sync::OnceLock;
    static PREFIX: OnceLock<u32> = OnceLock::new();
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let prefix = PREFIX.get_or_init(|| (RandomState::new().hash_one("lanekeeper") >> 32) as u32);
    format!("{prefix:08x}-{:x}", NEXT.fetch_add(1, Ordering::Relaxed)).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use crate::health::ProbeKind;
    use crate::platform::clock;

    fn job() -> (Job, PendingReply) {
        let probe = Probe::new(ProbeKind::Liveness);
        Job::probe(probe, "id".into(), clock::instant())
    }

    #[test]
    fn a_job_dropped_unanswered_shows_as_a_closed_channel() {
        let (job, pending) = job();
        drop(job);
        assert!(pending.reply.recv().is_err());
    }

    #[test]
    fn a_reply_that_is_soon_there_is_taken_and_another_is_not_waited_for() {
        let (job, pending) = job();
        assert!(pending.recv_soon().is_none());
        let cheap = Reply::cheap(Payload::text(200, "ok"));
        job.reply_sender.answer(cheap);
        assert!(pending.recv_soon().is_some());
    }

    #[test]
    fn an_answer_nobody_waits_for_is_dropped_without_blocking() {
        let (job, pending) = job();
        pending.abandon();
        assert!(!job.reply_sender.is_wanted());
        drop(pending);
        job.refuse(RequestError::new(Code::Draining, "x"), clock::instant());
    }
}
