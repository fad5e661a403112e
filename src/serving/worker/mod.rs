//! Worker threads: they take jobs from their lane, compute, and answer.
//!
//! Prediction workers decode, run the model and encode; probe workers read time stamps. No worker
//! touches a socket. A panic in a prediction is caught and answered. If a thread ends all the same,
//! the main thread starts another on the same lane.

mod execution;
mod fair_share;
mod scheduler;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crate::job::{Job, JobRequest, Reply, ReplySender};
use crate::lanes::admission::QUANTUM;
use crate::lanes::cpu_priority::{CpuUse, Priority};
use crate::lanes::queue::{Intake, LaneKind, Next};
use crate::platform::clock::Stamp;
use crate::platform::fault::ThreadRole;
use crate::platform::sys;
use crate::protocol::routes::Probe;
use crate::serving::context::Context;
use crate::serving::probes;
use crate::vitals::{CurrentRequest, WorkerVitals};

use self::execution::{Execution, SliceOutcome, WorkerPlace};
use self::scheduler::{Scheduler, SuspendedQueue};

/// Maximum number of suspended executions. Admission by waiting time comes first, because each was
/// admitted.
const SUSPENDED_MAX: usize = 1024;

/// The suspended executions of a lane, which its workers share.
#[derive(Clone)]
pub struct Suspended(SuspendedQueue<Box<Execution>>);

impl Suspended {
    /// None so far.
    #[allow(clippy::new_without_default)] // it is made once for a lane, not by default
    pub fn new() -> Self {
        Suspended(SuspendedQueue::new(SUSPENDED_MAX))
    }
}

/// Runs worker `index` of a lane until its queue is closed and no execution is left.
pub fn run(context: &Context, index: usize, intake: &Intake<Job>, suspended: &Suspended) {
    let running = RunningWorker::enter(context, intake.kind(), index);
    let (role, work) = match intake.kind() {
        LaneKind::Predict => (ThreadRole::PredictionWorker, CpuUse::Computing),
        LaneKind::Probe => (ThreadRole::ProbeWorker, CpuUse::Responding),
    };
    let mut worker = Worker {
        place: WorkerPlace {
            context,
            lane: intake.kind().vitals(&context.vitals),
            worker_slot: running.worker_slot,
        },
        role,
        priority: Priority::new(context.config.yielding, work),
        scheduler: Scheduler::new(intake.clone(), suspended.0.clone()),
    };
    while let Some(next) = worker.scheduler.next() {
        if let Some((reply_sender, reply)) = worker.run_next(next) {
            reply_sender.answer(reply);
        }
        if running.worker_slot.retires() {
            worker.scheduler.retire();
        }
    }
}

/// A worker at its lane.
struct Worker<'a> {
    place: WorkerPlace<'a>,
    role: ThreadRole,
    priority: Priority,
    scheduler: Scheduler<Job, Box<Execution>>,
}

impl Worker<'_> {
    /// Works for one turn. The reply that it returns is to be sent; its request no longer holds
    /// anything of the lane, so the client's next request cannot collide with it.
    fn run_next(&mut self, next: Next<Job, Box<Execution>>) -> Option<(ReplySender, Reply)> {
        let WorkerPlace {
            context,
            lane,
            worker_slot,
        } = self.place;
        let began = context.vitals.clock.now();
        let (task, expected) = match &next {
            Next::Job(job) => {
                let admitted = job.reply_sender.admitted();
                let expected =
                    admitted.map_or(Duration::ZERO, |admitted| admitted.reservation.cost().slice);
                let request_id = Arc::clone(&job.reply_sender.request_id);
                let rows = None;
                (CurrentRequest { request_id, rows }, expected)
            }
            Next::Other(execution) => (execution.task(), QUANTUM),
        };
        worker_slot.set_task(Some(task));
        worker_slot.begin(began, expected);
        context.faults.inject(self.role);
        self.priority.adapt(context.vitals.predict.service_time());
        let progress = match next {
            Next::Other(execution) => execution.run_slice(self.place, began),
            Next::Job(job) => self.begin(job, began),
        };
        let ended = context.vitals.clock.now();
        worker_slot.busy_since.store(Stamp::NEVER);
        worker_slot.set_task(None);
        lane.busy_time.add(ended.since(began));
        lane.completed_at.advance(ended);
        let (unfinished, reply) = match progress {
            SliceOutcome::Suspended(mut execution) => {
                execution.wait(&context.vitals);
                (Some(execution), None)
            }
            SliceOutcome::Replied(reply_sender, reply) => (None, Some((reply_sender, reply))),
            SliceOutcome::Dropped => (None, None),
        };
        if unfinished.is_none() {
            lane.completed.increment();
        }
        self.scheduler.end(ended.since(began), unfinished);
        reply
    }

    /// Runs a job from the queue for its first turn.
    fn begin(&self, job: Job, began: Stamp) -> SliceOutcome {
        match job.request {
            JobRequest::Probe(probe) => answer_probe(self.place.context, &probe, job.reply_sender),
            JobRequest::Predict {
                body,
                spoken,
                deployment,
            } => Execution::begin(
                self.place,
                job.reply_sender,
                (body, spoken),
                deployment,
                began,
            ),
        }
    }
}

/// Marks a worker as running for as long as this lives, however the thread ends.
struct RunningWorker<'a> {
    context: &'a Context,
    kind: LaneKind,
    worker_slot: &'a WorkerVitals,
}

impl<'a> RunningWorker<'a> {
    fn enter(context: &'a Context, kind: LaneKind, index: usize) -> Self {
        let worker_slot = &kind.vitals(&context.vitals).workers[index];
        worker_slot.busy_since.store(Stamp::NEVER);
        worker_slot
            .thread_id
            .store(sys::thread_id(), Ordering::Release);
        worker_slot.alive.store(true, Ordering::Release);
        RunningWorker {
            context,
            kind,
            worker_slot,
        }
    }
}

impl Drop for RunningWorker<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.kind == LaneKind::Predict {
            // Its job has failed, through no fault of the client.
            self.context.worker_ended();
        }
        // Before the thread is gone, so that the next one in this slot does not look busy.
        self.worker_slot.busy_since.store(Stamp::NEVER);
        self.worker_slot.set_task(None);
        self.worker_slot
            .ended_at
            .store(self.context.vitals.clock.now());
        self.worker_slot.alive.store(false, Ordering::Release);
    }
}

fn answer_probe(context: &Context, probe: &Probe, reply_sender: ReplySender) -> SliceOutcome {
    // Its connection may have answered by itself.
    if !reply_sender.is_wanted() {
        return SliceOutcome::Dropped;
    }
    SliceOutcome::Replied(reply_sender, Reply::cheap(probes::answer(context, probe)))
}

/// The names of a lane's threads.
pub fn thread_name(kind: LaneKind, index: usize) -> String {
    match kind {
        LaneKind::Predict => format!("predict-{index}"),
        LaneKind::Probe => format!("probe-{index}"),
    }
}
