//! What all threads share: the options, the vitals, and the model once it is loaded.
//!
//! Read-only but for atomics and the model, which is swapped at once: no thread can make another
//! wait here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwapOption;
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

/// Room in the probe lane beyond one job per connection, for probes that their clients abandoned.
const PROBE_QUEUE_SPARE: usize = 16;

/// The description of all paths for one version of the model.
#[derive(Debug)]
pub struct ApiText {
    /// The version's number; 0 while no model is loaded.
    pub version: u64,
    /// The description in JSON.
    pub json: Vec<u8>,
}

/// What all threads share.
pub struct Context {
    /// The options.
    pub config: Config,
    /// Time stamps and counters.
    pub vitals: Arc<Vitals>,
    /// The memory budget of all clients.
    pub budget: Arc<Budget>,
    /// The served models.
    pub registry: Registry,
    /// The description of all paths, once somebody has asked for it.
    pub openapi: ArcSwapOption<ApiText>,
    /// Why predictions fail.
    pub failure_log: FailureLog,
    /// Wakes the canary: a trial may be due sooner than planned.
    pub trial_wanted: Sender<()>,
    /// Wakes the main thread: a verdict may have changed.
    pub waker: Waker,
    /// Injected faults; none in the released binary.
    pub faults: Arc<dyn Faults>,
}

impl Context {
    /// Makes the shared context, and the receiver that wakes the canary.
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
            openapi: ArcSwapOption::empty(),
            failure_log: FailureLog::new("predictions failed"),
            trial_wanted,
            waker,
            faults,
        });
        (context, wanted)
    }

    /// Reads everything that verdicts are made from.
    pub fn snapshot(&self) -> Snapshot {
        let deployments = self.registry.all();
        let deployments = deployments.iter().map(|one| &one.vitals);
        Snapshot::of(&self.vitals, deployments, Limits::from(&self.config))
    }

    /// Whether any deployment has a model that passed its trial.
    pub fn has_loaded(&self) -> bool {
        let deployments = self.registry.all();
        let loaded = |one: &Arc<Deployment>| one.vitals.loaded.load(Ordering::Acquire);
        deployments.iter().any(loaded)
    }

    /// Records that a prediction worker's thread has ended. Any deployment's prediction may have
    /// been the reason.
    pub fn worker_panicked(&self) {
        for deployment in self.registry.all() {
            self.prediction_failed(&deployment);
        }
    }

    /// Records a failed prediction that was not its client's fault, and wakes the canary.
    pub fn prediction_failed(&self, deployment: &Deployment) {
        deployment.vitals.failed(self.vitals.clock.now());
        self.wake_canary();
    }

    /// Wakes the canary for a model that may, or may not, be the reason why a client has no answer.
    pub fn doubt_model(&self, deployment: &Deployment) {
        let now = self.vitals.clock.now();
        deployment.vitals.trials.doubted_at.advance(now);
        self.wake_canary();
    }

    fn wake_canary(&self) {
        // A full channel means that it is awake already.
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
