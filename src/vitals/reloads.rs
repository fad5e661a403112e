//! Reloads of the model: how many there were, whether one is under way, and what the last one said.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{AtomicStamp, Counter};

/// The reloads since the start; the first load is none.
#[derive(Debug, Default)]
pub struct Reloads {
    /// Those that put another model in its place.
    pub succeeded: Counter,
    /// Those after which the old model goes on.
    pub failed: Counter,
    /// Whether one is under way.
    pub running: AtomicBool,
    /// When the served model was put in its place.
    pub loaded_at: AtomicStamp,
    error: Mutex<Option<Arc<str>>>,
    signature_change: Mutex<Option<Arc<str>>>,
}

impl Reloads {
    /// Notes how the last one ended: with an error, or well.
    pub fn end(&self, error: Option<Arc<str>>) {
        match &error {
            Some(_) => self.failed.increment(),
            None => self.succeeded.increment(),
        }
        *self.error.lock().unwrap_or_else(PoisonError::into_inner) = error;
        self.running.store(false, Ordering::Release);
    }

    /// Notes how the signature of the model that serves from now on differs from that of the one before.
    pub fn note_signature(&self, change: Option<Arc<str>>) {
        let noted = self.signature_change.lock();
        *noted.unwrap_or_else(PoisonError::into_inner) = change;
    }

    /// How the signature of the model that serves differs from that of the one before it, where it does.
    pub fn signature_change(&self) -> Option<Arc<str>> {
        let change = self.signature_change.lock();
        change.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the last one failed; `None` where it did not, or there was none.
    pub fn error(&self) -> Option<Arc<str>> {
        let error = self.error.lock().unwrap_or_else(PoisonError::into_inner);
        error.clone()
    }
}
