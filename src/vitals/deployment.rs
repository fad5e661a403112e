//! What is known of one deployment: trials, reloads, outcomes and durations of its predictions.

use std::sync::atomic::AtomicBool;

use super::{AtomicStamp, Counter, OutcomeCounts, Reloads, ServiceTimes, Trials};
use crate::platform::clock::Stamp;

/// The stamps and counters of one deployment.
#[derive(Debug, Default)]
pub struct DeploymentVitals {
    /// Whether a model has been loaded and tried.
    pub loaded: AtomicBool,
    /// Trials of the model, and failures that request them.
    pub trials: Trials,
    /// Reloads of the model.
    pub reloads: Reloads,
    /// When a real prediction last succeeded.
    pub succeeded_at: AtomicStamp,
    /// How long its predictions take, by the sizes of their bodies.
    pub service_times: ServiceTimes,
    /// How its predictions ended, and how long they took.
    pub outcomes: OutcomeCounts,
    /// Rows answered.
    pub rows: Counter,
}

impl DeploymentVitals {
    /// Records a successful prediction.
    pub fn succeeded(&self, now: Stamp) {
        self.succeeded_at.advance(now);
        self.trials.failures.end();
    }

    /// Records a failed prediction that was not its client's fault.
    pub fn failed(&self, now: Stamp) {
        self.trials.failures.add(now);
    }
}
