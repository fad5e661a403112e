//! What is known of one deployment: its trials, its reloads, how its predictions end, how long they take.

use std::sync::atomic::AtomicBool;

use super::{AtomicStamp, OutcomeCounts, Reloads, ServiceTimes, Trials};
use crate::platform::clock::Stamp;

/// The stamps and counters of one deployment.
#[derive(Debug, Default)]
pub struct DeploymentVitals {
    /// Whether a model is loaded and was tried.
    pub loaded: AtomicBool,
    /// Trials of the model, and the failures that ask for them.
    pub trials: Trials,
    /// Reloads of the model.
    pub reloads: Reloads,
    /// When a real prediction last succeeded.
    pub succeeded_at: AtomicStamp,
    /// How long its predictions take, by the size of their bodies.
    pub service_times: ServiceTimes,
    /// How its predictions ended, and how long they took.
    pub outcomes: OutcomeCounts,
}

impl DeploymentVitals {
    /// Notes that a prediction has succeeded.
    pub fn succeeded(&self, now: Stamp) {
        self.succeeded_at.advance(now);
        self.trials.failures.end();
    }

    /// Notes that a prediction has failed through no fault of its client's.
    pub fn failed(&self, now: Stamp) {
        self.trials.failures.add(now);
    }
}
