//! What travels: a [`Job`] from its connection to a worker, and one [`Reply`] back.
//!
//! Each job has its own reply channel, which lives as long as the job. A late reply, which its connection
//! no longer waits for, is dropped with the channel, so it can never be taken for the reply to the next
//! request. A job dropped without a reply shows as a closed channel.

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

/// How many times a connection yields the CPU before it sleeps, if its reply is expected soon.
const YIELDS: usize = 2;

/// What is asked of a worker.
#[derive(Debug)]
pub enum JobRequest {
    /// Compute predictions for the instances in this body.
    Predict {
        /// The body, undecoded.
        body: RequestBody,
        /// Decodes the request and encodes the answer.
        spoken: Spoken,
        /// Whose model answers.
        deployment: Arc<Deployment>,
    },
    /// Answer a probe.
    Probe(Probe),
}

/// A request's body and its share of the memory budget.
#[derive(Debug)]
pub struct RequestBody {
    /// Content.
    pub bytes: Vec<u8>,
    /// Given back when the body is dropped.
    pub charge: Charge,
}

/// A request on its way through the server; whoever holds it must reply once.
#[derive(Debug)]
pub struct Job {
    /// What is asked.
    pub request: JobRequest,
    /// The reply that is owed.
    pub reply_sender: ReplySender,
}

/// A reply owed to a connection.
#[derive(Debug)]
pub struct ReplySender {
    /// The request's id in answers and logs.
    pub request_id: Arc<str>,
    /// When the request was complete. Its waiting time counts from here.
    pub arrived: Instant,
    state: Arc<JobState>,
    reply: Sender<Reply>,
}

/// What the two ends of a job tell each other.
#[derive(Debug)]
struct JobState {
    /// The connection no longer waits for the reply.
    abandoned: AtomicBool,
    /// The acceptor has received the job.
    received: AtomicBool,
    /// Only a prediction has one.
    admitted: Option<Admitted>,
}

/// The connection's end of a job.
#[derive(Debug)]
pub struct PendingReply {
    /// Where the reply comes. Public, as connections wait with time limits of their own.
    pub reply: Receiver<Reply>,
    state: Arc<JobState>,
}

/// The answer to a job, and what the access log records of it.
#[derive(Debug)]
pub struct Reply {
    /// What the client gets.
    pub result: Result<Payload, RequestError>,
    /// The content's charge until it is written; `None` for errors, and for content that is always small.
    pub charge: Option<Charge>,
    /// Number of instances, if they were decoded.
    pub rows: Option<usize>,
    /// Time in the queue.
    pub waiting_time: Duration,
    /// Time with a worker.
    pub service_time: Duration,
    /// The part of `service_time` in which the answer was encoded.
    pub encode_time: Duration,
}

impl Job {
    /// Makes an admitted prediction that arrived at `arrived`, and the connection's end of it.
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

    /// Refuses a job that no worker takes. What it holds is given back first.
    pub fn refuse(self, error: RequestError, now: Instant) {
        let Job {
            request,
            reply_sender,
        } = self;
        drop(request);
        // The connection's end would keep it until the reply.
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

    /// What admission gave to a prediction.
    pub fn admitted(&self) -> Option<&Admitted> {
        self.state.admitted.as_ref()
    }

    /// Records that the acceptor has received the job.
    pub fn mark_received(&self) {
        self.state.received.store(true, Ordering::Release);
    }

    /// Gives the one reply; never blocks. A reply that nobody waits for is dropped.
    pub fn answer(self, reply: Reply) {
        // It fails only if the connection has stopped waiting.
        let _ = self.reply.send(reply);
    }

    /// The reply to a job that is not worked on.
    pub fn refusal(&self, error: RequestError, now: Instant) -> Reply {
        Reply {
            waiting_time: now.saturating_duration_since(self.arrived),
            ..Reply::cheap(Err(error))
        }
    }
}

impl PendingReply {
    /// Yields the CPU a few times, and returns the reply if it has come meanwhile. That saves waking this
    /// thread.
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

    /// Tells the worker that nobody waits any longer.
    pub fn abandon(&self) {
        self.state.abandoned.store(true, Ordering::Release);
        if let Some(admitted) = &self.state.admitted {
            admitted.reservation.give_up();
        }
    }
}

impl Reply {
    /// The reply to a request that is neither a prediction nor large.
    pub fn cheap(result: Result<Payload, RequestError>) -> Self {
        Reply {
            result,
            charge: None,
            rows: None,
            waiting_time: Duration::ZERO,
            service_time: Duration::ZERO,
            encode_time: Duration::ZERO,
        }
    }
}

/// Makes a request id: unique in this process, and unlikely to be used elsewhere.
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
        let cheap = Reply::cheap(Ok(Payload::text(200, "ok")));
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
