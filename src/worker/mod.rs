//! Worker threads: they take jobs from their lane, compute, and answer.
//!
//! Prediction workers decode, run the model and encode; probe workers read time stamps. No worker
//! touches a socket. A panic in a prediction is caught and answered; a thread that ends all the same
//! is noticed by the main thread, which starts another on the same lane.

mod batch;
#[cfg(test)]
mod simulation;
mod turns;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::admission::TURN;
use crate::clock::Stamp;
use crate::context::Context;
use crate::fault::Role;
use crate::job::{Job, Pledge, Probe, Reply, Request};
use crate::lane::{Intake, LaneKind, Next};
use crate::priority::{Priority, Work};
use crate::probe;
use crate::sys;
use crate::vitals::{Task, WorkerVitals};

use self::batch::{Batch, Place};
use self::turns::{Class, Turns};

/// Predictions that have begun and wait for their next turn, at most; where there is no room the
/// worker goes on with the one in hand. Each was admitted, so admission by waiting time comes first.
const BEGUN_MAX: usize = 1024;

/// Predictions that have begun and wait for their next turn, which any worker may give them.
#[derive(Clone)]
pub struct Begun {
    sender: Sender<Batch>,
    receiver: Receiver<Batch>,
}

impl Begun {
    /// None so far.
    #[allow(clippy::new_without_default)] // a place for batches is made once, not by default
    pub fn new() -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(BEGUN_MAX);
        Begun { sender, receiver }
    }
}

/// Runs worker `index` of a lane until its queue is closed and nothing that has begun is left.
pub fn run(context: &Context, index: usize, intake: &Intake<Job>, begun: &Begun) {
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
        intake,
        begun,
        current: None,
        turns: Turns::default(),
    };
    while let Some(next) = worker.next() {
        worker.take_turn(next);
        // Another has its place. Where that comes to be known only after this look, the next job is
        // its last.
        if presence.seat.substituted.load(Ordering::Acquire) {
            return worker.hand_over();
        }
    }
}

/// A worker at its lane.
struct Worker<'a> {
    place: Place<'a>,
    role: Role,
    priority: Priority,
    intake: &'a Intake<Job>,
    begun: &'a Begun,
    /// The one of those that have begun that this worker computes to its end: the oldest that nobody
    /// else had. They are done in their order, as sharing among equals makes all of them late.
    current: Option<Batch>,
    turns: Turns,
}

impl Worker<'_> {
    /// Waits for what is to be done next; `None` at the end.
    fn next(&mut self) -> Option<Next<Job, Batch>> {
        if self.turns.next() == Class::Queued && self.current.is_some() {
            let job = self.intake.take_now().map(Next::Job);
            return job.or_else(|| self.current.take().map(Next::Other));
        }
        let waiting = &self.begun.receiver;
        if self.turns.next() == Class::Begun
            && let Some(batch) = self.current.take().or_else(|| waiting.try_recv().ok())
        {
            return Some(Next::Other(batch));
        }
        self.intake.take_or(waiting)
    }

    /// Works for one turn, and has what is not done by then wait for another.
    fn take_turn(&mut self, next: Next<Job, Batch>) {
        let Place {
            context,
            lane,
            seat,
        } = self.place;
        let began = context.vitals.clock.now();
        let (class, task, expected) = match &next {
            Next::Job(job) => {
                let ticket = job.pledge.ticket();
                let expected = ticket.map_or(Duration::ZERO, |ticket| ticket.claim.cost().turn);
                let request_id = Arc::clone(&job.pledge.request_id);
                let rows = None;
                (Class::Queued, Task { request_id, rows }, expected)
            }
            Next::Other(batch) => (Class::Begun, batch.task(), TURN),
        };
        seat.set_task(Some(task));
        seat.begin(began, expected);
        context.faults.turn(self.role);
        self.priority.adapt(context.vitals.predict.service_time());
        let unfinished = match next {
            Next::Other(batch) => batch.turn(self.place, began),
            Next::Job(job) => self.begin(job, began),
        };
        let ended = context.vitals.clock.now();
        seat.busy_since.store(Stamp::NEVER);
        seat.set_task(None);
        lane.busy_time.add(ended.since(began));
        lane.completed_at.advance(ended);
        let others = self.current.is_some() || !self.begun.receiver.is_empty();
        // A first slice that was not the last counts as a slice, or its job would have two turns before
        // the next one has its first; but where others have begun, that would be at their expense.
        let class = if unfinished.is_some() && !others {
            Class::Begun
        } else {
            class
        };
        let other_has_work = match class {
            Class::Queued => unfinished.is_some() || others,
            Class::Begun => !self.intake.is_empty(),
        };
        self.turns.had(class, ended.since(began), other_has_work);
        match unfinished {
            None => lane.completed.increment(),
            Some(batch) => self.put_back(batch, class),
        }
    }

    /// Works on a job from the queue for its first turn.
    fn begin(&self, job: Job, began: Stamp) -> Option<Batch> {
        match job.request {
            Request::Probe(probe) => {
                answer_probe(self.place.context, &probe, job.pledge);
                None
            }
            Request::Predict { body, dialect } => {
                Batch::begin(self.place, job.pledge, body, dialect)?.turn(self.place, began)
            }
        }
    }

    /// Has what has begun wait for its next turn: in this worker's hand where it was or nothing else
    /// is, otherwise behind the others.
    fn put_back(&mut self, mut batch: Batch, class: Class) {
        batch.wait(&self.place.context.vitals);
        if class == Class::Begun {
            self.current = Some(batch);
        } else if let Err(full) = self.begun.sender.try_send(batch) {
            self.take_turn(Next::Other(full.into_inner()));
        }
    }

    /// Leaves what it has in hand to the others.
    fn hand_over(mut self) {
        while let Some(batch) = self.current.take() {
            if let Err(full) = self.begun.sender.try_send(batch) {
                self.take_turn(Next::Other(full.into_inner()));
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

fn answer_probe(context: &Context, probe: &Probe, pledge: Pledge) {
    // Its connection may have answered it by itself.
    if pledge.is_wanted() {
        pledge.answer(Reply::free(probe::answer(context, probe)));
    }
}

/// The names of a lane's threads.
pub fn thread_name(kind: LaneKind, index: usize) -> String {
    match kind {
        LaneKind::Predict => format!("predict-{index}"),
        LaneKind::Probe => format!("probe-{index}"),
    }
}
