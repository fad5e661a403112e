//! What all threads share: the options, the vitals, and the model once it is there.
//!
//! Read-only but for atomics and the model, which is swapped at once: no thread can make another wait
//! here.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::budget::Budget;
use crate::config::Config;
use crate::fault::Faults;
use crate::lifecycle::Waker;
use crate::logging::FailureLog;
use crate::model::slot::Slot;
use crate::vitals::Vitals;

/// What all threads share.
pub struct Context {
    /// The options.
    pub config: Config,
    /// Time stamps and counters.
    pub vitals: Arc<Vitals>,
    /// The memory that clients can make the server hold.
    pub budget: Arc<Budget>,
    /// The served model; empty until one is loaded and was tried.
    pub model: Slot,
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
    /// Notes that a prediction has failed through no fault of its client's, and has the canary look
    /// whether a trial is due.
    pub fn prediction_failed(&self) {
        self.vitals.failed();
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
