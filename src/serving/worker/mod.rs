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

/// Maximum number of suspended executions. It is seldom reached: each was admitted, and admission limits
/// their work before it limits their number.
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

/// Runs worker `index` of a lane until its queue is closed and no execution is left, or until it retires
/// in favour of its substitute.
pub fn run(context: &Context, index: usize, intake: &Intake<Job>, suspended: &Suspended) {
    let running = RunningWorker::enter(context, intake.kind(), index);
    let (role, cpu_use) = match intake.kind() {
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
        priority: Priority::new(context.config.yielding, cpu_use),
        scheduler: Scheduler::new(intake.clone(), suspended.0.clone()),
    };
    while let Some(next) = worker.scheduler.next() {
        if let Some((reply_sender, reply)) = worker.run_next(next) {
            reply_sender.answer(reply);
        }
        // It was stuck, and a substitute works in its place.
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
    /// Works for one turn and returns the reply, which the caller sends. The request has given back its
    /// place and its memory by then, so the client's next request finds them free.
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
                let current = CurrentRequest {
                    request_id: Arc::clone(&job.reply_sender.request_id),
                    rows: None,
                };
                (current, expected)
            }
            // A later slice is sized to take a quantum.
            Next::Other(execution) => (execution.task(), QUANTUM),
        };
        worker_slot.set_task(Some(task));
        worker_slot.begin(began, expected);
        // Does nothing outside of tests.
        context.faults.inject(self.role);
        // Threads that compute long predictions yield more readily.
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
                execution.note_remaining_work(&context.vitals);
                (Some(execution), None)
            }
            SliceOutcome::Replied(reply_sender, reply) => (None, Some((reply_sender, reply))),
            SliceOutcome::Dropped => (None, None),
        };
        // One that was dropped holds no worker any more, either.
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
            // Its job has failed, through no fault of the client. Which model it was is unknown here, so
            // the canary tries them all.
            self.context.worker_panicked();
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
    // If this took too long, the connection has answered by itself.
    if !reply_sender.is_wanted() {
        return SliceOutcome::Dropped;
    }
    SliceOutcome::Replied(reply_sender, Reply::cheap(probes::answer(context, probe)))
}

/// The name of a lane's thread `index`.
pub fn thread_name(kind: LaneKind, index: usize) -> String {
    match kind {
        LaneKind::Predict => format!("predict-{index}"),
        LaneKind::Probe => format!("probe-{index}"),
    }
}
