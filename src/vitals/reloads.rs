//! Reloads of the model: how many, whether one is in progress, and the last result.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{AtomicStamp, Counter};

/// The reloads since the start; the first load does not count.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Reloads that replaced the model.
    pub succeeded: Counter,
    /// Reloads that left the old model in place.
    pub failed: Counter,
    /// Whether one is under way.
    pub running: AtomicBool,
    /// When the served model was put in place.
    pub loaded_at: AtomicStamp,
    error: Mutex<Option<Arc<str>>>,
    signature_change: Mutex<Option<Arc<str>>>,
}

impl Reloads {
    /// Records the result of the last one: an error, or success.
    pub fn end(&self, error: Option<Arc<str>>) {
        match &error {
            Some(_) => self.failed.increment(),
            None => self.succeeded.increment(),
        }
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        self.running.store(false, Ordering::Release);
    }

    /// Records how the new model's signature differs from its predecessor's.
    pub fn note_signature(&self, change: Option<Arc<str>>) {
        let noted = self.signature_change.lock();
        *noted.unwrap_or_else(PoisonError::into_inner) = change;
    }

    /// How the served model's signature differs from its predecessor's, if it does.
    pub fn signature_change(&self) -> Option<Arc<str>> {
        let change = self.signature_change.lock();
        change.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last one failed; `None` if it did not, or there was none.
    pub fn error(&self) -> Option<Arc<str>> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone()
    }
}
