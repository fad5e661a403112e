//! Worker threads: they take jobs from their lane, compute, and answer.
//!
//! Prediction workers decode, run the model and encode; probe workers read time stamps. No worker
//! touches a socket. A panic in a prediction is caught and answered; a thread that ends all the same
//! is noticed by the main thread, which starts another on the same lane.

mod batch;
mod scheduler;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod turns;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::job::{Job, Pledge, Probe, Reply, Request};
use crate::lanes::admission::TURN;
use crate::lanes::cpu_priority::{Priority, Work};
use crate::lanes::queue::{Intake, LaneKind, Next};
use crate::platform::clock::Stamp;
use crate::platform::fault::Role;
use crate::platform::sys;
use crate::serving::context::Context;
use crate::serving::probes;
use crate::vitals::{Task, WorkerVitals};

use self::batch::{Batch, Place, Progress};
use self::scheduler::{Scheduler, SuspendedQueue};

/// Executions that may be suspended, at most. Each was admitted, so admission by waiting time comes
/// first.
const SUSPENDED_MAX: usize = 1024;

/// The suspended executions of a lane, which its workers share.
#[derive(Clone)]
pub struct Suspended(SuspendedQueue<Batch>);

impl Suspended {
    /// None so far.
    #[allow(clippy::new_without_default)] // it is made once for a lane, not by default
    pub fn new() -> Self {
        Suspended(SuspendedQueue::new(SUSPENDED_MAX))
    }
}

/// Runs worker `index` of a lane until its queue is closed and nothing that has begun is left.
pub fn run(context: &Context, index: usize, intake: &Intake<Job>, suspended: &Suspended) {
    let presence = Presence::enter(context, intake.kind(), index);
    let (role, work) = match intake.kind() {
        LaneKind::Predict => (Role::PredictionWorker, Work::Computing),
        LaneKind::Probe => (Role::ProbeWorker, Work::Responding),
    };
    let mut worker = Worker {
        place: Place {
            context,
            lane: intake.kind().vitals(&context.vitals),
            seat: presence.seat,
        },
        role,
        priority: Priority::new(context.config.yielding, work),
        scheduler: Scheduler::new(intake.clone(), suspended.0.clone()),
    };
    while let Some(next) = worker.scheduler.next() {
        if let Some((pledge, reply)) = worker.take_turn(next) {
            pledge.answer(reply);
        }
        if presence.seat.retires() {
            worker.scheduler.retire();
        }
    }
}

/// A worker at its lane.
struct Worker<'a> {
    place: Place<'a>,
    role: Role,
    priority: Priority,
    scheduler: Scheduler<Job, Batch>,
}

impl Worker<'_> {
    /// Works for one turn. What it returns is to be sent: the request holds nothing of the lane any
    /// more, so that its client's next one never meets what is left of it.
    fn take_turn(&mut self, next: Next<Job, Batch>) -> Option<(Pledge, Reply)> {
        let Place {
            context,
            lane,
            seat,
        } = self.place;
        let began = context.vitals.clock.now();
        let (task, expected) = match &next {
            Next::Job(job) => {
                let ticket = job.pledge.ticket();
                let expected = ticket.map_or(Duration::ZERO, |ticket| ticket.claim.cost().turn);
                let request_id = Arc::clone(&job.pledge.request_id);
                let rows = None;
                (Task { request_id, rows }, expected)
            }
            Next::Other(batch) => (batch.task(), TURN),
        };
        seat.set_task(Some(task));
        seat.begin(began, expected);
        context.faults.turn(self.role);
        self.priority.adapt(context.vitals.predict.service_time());
        let progress = match next {
            Next::Other(batch) => batch.turn(self.place, began),
            Next::Job(job) => self.begin(job, began),
        };
        let ended = context.vitals.clock.now();
        seat.busy_since.store(Stamp::NEVER);
        seat.set_task(None);
        lane.busy_time.add(ended.since(began));
        lane.completed_at.advance(ended);
        let (unfinished, reply) = match progress {
            Progress::Suspended(mut batch) => {
                batch.wait(&context.vitals);
                (Some(batch), None)
            }
            Progress::Replied(pledge, reply) => (None, Some((pledge, reply))),
            Progress::Dropped => (None, None),
        };
        if unfinished.is_none() {
            lane.completed.increment();
        }
        self.scheduler.end(ended.since(began), unfinished);
        reply
    }

    /// Works on a job from the queue for its first turn.
    fn begin(&self, job: Job, began: Stamp) -> Progress {
        match job.request {
            Request::Probe(probe) => answer_probe(self.place.context, &probe, job.pledge),
            Request::Predict { body, dialect } => {
                Batch::begin(self.place, job.pledge, body, dialect, began)
            }
        }
    }
}

/// Marks a worker as running for as long as it lives, however it ends.
struct Presence<'a> {
    context: &'a Context,
    kind: LaneKind,
    seat: &'a WorkerVitals,
}

impl<'a> Presence<'a> {
    fn enter(context: &'a Context, kind: LaneKind, index: usize) -> Self {
        let seat = &kind.vitals(&context.vitals).workers[index];
        seat.busy_since.store(Stamp::NEVER);
        seat.thread_id.store(sys::thread_id(), Ordering::Release);
        seat.alive.store(true, Ordering::Release);
        Presence {
            context,
            kind,
            seat,
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.kind == LaneKind::Predict {
            // Whatever it was on has failed, through no fault of its client's.
            self.context.prediction_failed();
        }
        // Before it is gone, so that nobody takes the next one on this seat for busy.
        self.seat.busy_since.store(Stamp::NEVER);
        self.seat.set_task(None);
        self.seat.ended_at.store(self.context.vitals.clock.now());
        self.seat.alive.store(false, Ordering::Release);
    }
}

fn answer_probe(context: &Context, probe: &Probe, pledge: Pledge) -> Progress {
    // Its connection may have answered it by itself.
    if !pledge.is_wanted() {
        return Progress::Dropped;
    }
    Progress::Replied(pledge, Reply::free(probes::answer(context, probe)))
}

/// The names of a lane's threads.
pub fn thread_name(kind: LaneKind, index: usize) -> String {
    match kind {
        LaneKind::Predict => format!("predict-{index}"),
        LaneKind::Probe => format!("probe-{index}"),
    }
}
