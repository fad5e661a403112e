//! The canary: it tries the model on its trial row, on a thread of its own, one trial at a time.
//!
//! It goes through the same code as a prediction and yields the CPU like one, but never counts as
//! one. Probes read its last verdict; a trial that hangs holds nobody.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::clock::Stamp;
use crate::context::Context;
use crate::fault::Role;
use crate::model::Model;
use crate::panic;
use crate::predict;
use crate::priority::{Priority, Work};
use crate::vitals::TrialVerdict;

/// Tries the model every `--canary-interval` until `stop` is closed, unless a recent real success
/// stands for the trial.
pub fn run(context: &Context, stop: &Receiver<()>) {
    let mut priority = Priority::new(context.config.yielding, Work::Computing);
    let interval = context.config.canary_interval;
    loop {
        match stop.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) => {}
            Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
        }
        context.faults.turn(Role::Canary);
        if let Some(model) = context.model.get()
            && is_due(context, interval)
        {
            priority.adapt(context.vitals.predict.service_time());
            conclude(context, try_model(model.as_ref()));
        }
    }
}

/// A trial is due unless the last one passed and real predictions have succeeded since.
fn is_due(context: &Context, interval: Duration) -> bool {
    let vitals = &context.vitals;
    let success = vitals.succeeded_at.load();
    let recent = success != Stamp::NEVER && vitals.clock.now().since(success) < interval;
    !(recent && vitals.trial() == TrialVerdict::Passed)
}

/// Tries the model once, with panics caught.
pub fn try_model(model: &dyn Model) -> TrialVerdict {
    match panic::catch(|| predict::try_model(model)) {
        Ok(Ok(())) => TrialVerdict::Passed,
        Ok(Err(reason)) => TrialVerdict::Failed(reason.into()),
        Err(panic) => TrialVerdict::Failed(format!("the model panicked: {panic}").into()),
    }
}

/// Notes a verdict, and says so where it changed.
pub fn conclude(context: &Context, verdict: TrialVerdict) {
    let last = context.vitals.set_trial(verdict.clone());
    match (&last, &verdict) {
        (TrialVerdict::Failed(_), TrialVerdict::Passed) => {
            log::info!("the trial prediction passes again")
        }
        (before, TrialVerdict::Failed(reason)) if *before != verdict => {
            log::error!("the trial prediction failed, so /readyz fails: {reason}");
        }
        _ => {}
    }
}
