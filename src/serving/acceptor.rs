//! The acceptor: one thread that receives every job with its body and offers it to its lane.
//!
//! It does no I/O, parses nothing, computes nothing and blocks only on its own empty intake. A full
//! lane hands the job back, and the connection writes the refusal.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::Receiver;

use crate::job::{Job, JobRequest};
use crate::lanes::admission;
use crate::lanes::cpu_priority::{CpuUse, Priority};
use crate::lanes::queue::{self, Full, Lane, LaneKind};
use crate::platform::clock::{self, Stamp};
use crate::platform::fault::ThreadRole;
use crate::platform::sys;
use crate::serving::context::Context;
use crate::vitals::Vitals;

/// The two lanes, as the acceptor sees them.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// The lane for predictions, and for everything with `--shared-lane`.
    pub predict: Lane<Job>,
    /// For probes.
    pub probe: Lane<Job>,
}

/// Offers jobs to lanes until nobody can send any more.
pub fn run(context: &Context, intake: &Receiver<Job>, lanes: &Lanes) {
    let mut priority = Priority::new(context.config.yielding, CpuUse::Responding);
    let running = RunningAcceptor::enter(context);
    let vitals = &context.vitals.acceptor;
    while let Ok(job) = queue::receive(intake, &context.vitals) {
        vitals.busy_since.store(context.vitals.clock.now());
        job.reply_sender.mark_received();
        priority.adapt(context.vitals.predict.service_time());
        context.faults.inject(ThreadRole::Acceptor);
        dispatch(context, job, lanes);
        vitals.busy_since.store(Stamp::NEVER);
        vitals.losses.succeed();
    }
    drop(running);
}

/// Marks the acceptor as running for as long as this lives, however the thread ends.
struct RunningAcceptor<'a>(&'a Vitals);

impl<'a> RunningAcceptor<'a> {
    fn enter(context: &'a Context) -> Self {
        let vitals = &context.vitals;
        vitals.acceptor.busy_since.store(Stamp::NEVER);
        let id = sys::thread_id();
        vitals.acceptor.thread_id.store(id, Ordering::Release);
        vitals.acceptor.alive.store(true, Ordering::Release);
        RunningAcceptor(vitals)
    }
}

impl Drop for RunningAcceptor<'_> {
    fn drop(&mut self) {
        let (acceptor, now) = (&self.0.acceptor, self.0.clock.now());
        if acceptor.busy_since.load() != Stamp::NEVER {
            acceptor.losses.fail(now);
        }
        acceptor.ended_at.store(now);
        acceptor.alive.store(false, Ordering::Release);
        acceptor.busy_since.store(Stamp::NEVER);
    }
}

fn dispatch(context: &Context, job: Job, lanes: &Lanes) {
    let kind = match job.request {
        JobRequest::Probe(_) if !context.config.shared_lane => LaneKind::Probe,
        JobRequest::Probe(_) | JobRequest::Predict { .. } => LaneKind::Predict,
    };
    let lane = match kind {
        LaneKind::Probe => &lanes.probe,
        LaneKind::Predict => &lanes.predict,
    };
    if let Err(Full(job)) = lane.offer(job) {
        if kind == LaneKind::Probe {
            // No probe worker has answered for long. The connection sees that the job is gone and
            // answers by itself, so hanging probe workers do not fail a working service.
            return drop(job);
        }
        let refusal = admission::queue_full(kind.vitals(&context.vitals));
        job.refuse(refusal, clock::instant());
    }
}

/// Room for every job that can be on its way to the acceptor: a connection has one at a time and
/// waits until it is received, even if its client has left.
///
/// Connections that gave up on a hanging acceptor can leave more jobs behind; their successors are
/// then refused at once.
pub fn intake_capacity(context: &Arc<Context>) -> usize {
    let limits = &context.config.limits;
    limits.max_connections + limits.max_probe_connections
}
