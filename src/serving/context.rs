//! What all threads share: the options, the vitals, and the model once it is there.
//!
//! Read-only but for atomics and the model, which is swapped at once: no thread can make another wait
//! here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, Sender};

use crate::config::Config;
use crate::health::{Limits, Snapshot};
use crate::job::deployment::{Deployment, Registry};
use crate::lanes::memory_budget::Budget;
use crate::lifecycle::Waker;
use crate::logging::FailureLog;
use crate::platform::clock::ProcessClock;
use crate::platform::fault::Faults;
use crate::vitals::Vitals;

/// Room in the probe lane beyond one job for each connection: probes that their clients left behind.
const PROBE_QUEUE_SPARE: usize = 16;

/// What all threads share.
pub struct Context {
    /// The options.
    pub config: Config,
    /// Time stamps and counters.
    pub vitals: Arc<Vitals>,
    /// The memory that clients can make the server hold.
    pub budget: Arc<Budget>,
    /// The served models.
    pub registry: Registry,
    /// Why predictions fail.
    pub failure_log: FailureLog,
    /// Wakes the canary up: a trial may be due sooner than it knows.
    pub trial_wanted: Sender<()>,
    /// Wakes the main thread up: a verdict may have changed.
    pub waker: Waker,
    /// Injected faults; none in the released binary.
    pub faults: Arc<dyn Faults>,
}

impl Context {
    /// Makes what all threads share, and what wakes the canary.
    pub fn new(config: Config, faults: Arc<dyn Faults>, waker: Waker) -> (Arc<Self>, Receiver<()>) {
        let limits = &config.limits;
        let probe_queue = limits.max_connections + limits.max_probe_connections + PROBE_QUEUE_SPARE;
        let vitals = Arc::new(Vitals::new(
            ProcessClock::new(config.tick()),
            (config.predict_queue, config.predict_workers),
            (probe_queue, config.probe_workers),
        ));
        let budget = Budget::new(
            config.max_buffered,
            // Each worker may have a substitute.
            limits.max_connections + 2 * config.predict_workers,
        );
        let (trial_wanted, wanted) = crossbeam_channel::bounded(1);
        let context = Arc::new(Context {
            budget: Arc::new(budget),
            config,
            vitals,
            registry: Registry::default(),
            failure_log: FailureLog::new("predictions failed"),
            trial_wanted,
            waker,
            faults,
        });
        (context, wanted)
    }

    /// Reads all that verdicts are made from, as it is now.
    pub fn snapshot(&self) -> Snapshot {
        let deployments = self.registry.all();
        let deployments = deployments.iter().map(|one| &one.vitals);
        Snapshot::of(&self.vitals, deployments, Limits::from(&self.config))
    }

    /// Whether any deployment has a model that was tried.
    pub fn has_loaded(&self) -> bool {
        let deployments = self.registry.all();
        let loaded = |one: &Arc<Deployment>| one.vitals.loaded.load(Ordering::Acquire);
        deployments.iter().any(loaded)
    }

    /// Notes that a prediction worker's thread has ended: any deployment's prediction may have been the
    /// reason.
    pub fn worker_ended(&self) {
        for deployment in self.registry.all() {
            self.prediction_failed(&deployment);
        }
    }

    /// Notes that a prediction has failed through no fault of its client's, and has the canary look
    /// whether a trial is due.
    pub fn prediction_failed(&self, deployment: &Deployment) {
        deployment.vitals.failed(self.vitals.clock.now());
        self.wake_canary();
    }

    /// Has the canary look at a model, which may be why a client has no answer, or may not.
    pub fn doubt_model(&self, deployment: &Deployment) {
        let now = self.vitals.clock.now();
        deployment.vitals.trials.doubted_at.advance(now);
        self.wake_canary();
    }

    fn wake_canary(&self) {
        // A full channel has woken it already.
        let _ = self.trial_wanted.try_send(());
    }
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
