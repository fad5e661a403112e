//! The acceptor: one thread that receives every job, body in hand, and offers it to its lane.
//!
//! It does no I/O, parses nothing, computes nothing and never blocks but on its own empty intake: a
//! full lane hands the job back, and the refusal travels to the connection, which writes it.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use crate::admission;
use crate::clock;
use crate::context::Context;
use crate::fault::Role;
use crate::job::{Job, Request};
use crate::lane::{Full, Lane, LaneKind};
use crate::priority::{Priority, Work};

/// The two lanes, as the acceptor sees them.
#[derive(Debug, Clone)]
pub struct Lanes {
    /// For predictions, and for everything with `--shared-lane`.
    pub predict: Lane<Job>,
    /// For probes.
    pub probe: Lane<Job>,
}

/// Offers jobs to lanes until nobody can send any more.
pub fn run(context: &Context, intake: &Receiver<Job>, lanes: &Lanes) {
    let mut priority = Priority::new(context.config.yielding, Work::Responding);
    while let Ok(job) = intake.recv() {
        job.pledge.received();
        priority.adapt(context.vitals.predict.service_time());
        context.faults.turn(Role::Acceptor);
        dispatch(context, job, lanes);
    }
}

fn dispatch(context: &Context, job: Job, lanes: &Lanes) {
    let kind = match job.request {
        Request::Probe(_) if !context.config.shared_lane => LaneKind::Probe,
        Request::Probe(_) | Request::Predict { .. } => LaneKind::Predict,
    };
    let lane = match kind {
        LaneKind::Probe => &lanes.probe,
        LaneKind::Predict => &lanes.predict,
    };
    if let Err(Full(job)) = lane.offer(job) {
        let refusal = admission::queue_full(kind.vitals(&context.vitals));
        job.refuse(refusal, clock::instant());
    }
}

/// Room for every job that can be on its way to the acceptor: a connection has one at a time, and
/// waits until it is received even where its client has left.
///
/// Connections that gave up on a hanging acceptor can leave more behind; then their successors are
/// refused on the spot.
pub fn intake_capacity(context: &Arc<Context>) -> usize {
    let limits = &context.config.limits;
    limits.max_connections + limits.max_probe_connections
}
