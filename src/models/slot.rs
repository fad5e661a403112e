//! Holds a deployment's current model. A reload replaces the model while predictions continue.
//!
//! A prediction keeps the version it began with; an old version is freed with its last prediction.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::{JsonLabels, Loaded, Model};

/// A model as it is served.
pub struct ModelVersion {
    /// What its file gave.
    pub loaded: Arc<Loaded>,
    /// 1 for the first model since the start, and one more with each reload.
    pub number: u64,
    /// Its class labels in JSON.
    pub labels: JsonLabels,
}

impl ModelVersion {
    /// Gives a loaded model this number, and encodes its labels.
    pub fn new(loaded: Arc<Loaded>, number: u64) -> Self {
        let labels = JsonLabels::new(loaded.model.signature().output.labels());
        ModelVersion {
            loaded,
            number,
            labels,
        }
    }

    /// The model's name.
    pub fn name(&self) -> &str {
        &self.loaded.name
    }

    /// What predicts.
    pub fn model(&self) -> &dyn Model {
        self.loaded.model.as_ref()
    }
}

/// The slot of the served model; reading and replacing never block.
#[derive(Default)]
pub struct ModelSlot {
    current: ArcSwapOption<ModelVersion>,
    /// The number of the current model.
    last_number: AtomicU64,
}

// A model has no `Debug`.
impl std::fmt::Debug for ModelSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ModelSlot").field(&self.last_number).finish()
    }
}

impl ModelSlot {
    /// Returns the served model; `None` until the first one has been loaded and tried.
    pub fn get(&self) -> Option<Arc<ModelVersion>> {
        self.current.load_full()
    }

    /// Serves `loaded` from now on, and returns its number. Only one thread at a time may call it: an older
    /// model could replace a newer one otherwise.
    pub fn put(&self, loaded: Arc<Loaded>) -> u64 {
        let number = self.last_number.fetch_add(1, Ordering::AcqRel) + 1;
        self.current
            .store(Some(Arc::new(ModelVersion::new(loaded, number))));
        number
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelRequest;
    use crate::models::format;

    #[test]
    fn an_old_model_is_freed_with_its_last_prediction() {
        let slot = ModelSlot::default();
        assert!(slot.get().is_none());
        let first = Arc::new(format::load(&ModelRequest::default()).unwrap());
        let freed = Arc::downgrade(&first);
        assert_eq!(slot.put(first), 1);
        let kept = slot.get().unwrap();
        assert_eq!(
            slot.put(Arc::new(format::load(&ModelRequest::default()).unwrap())),
            2
        );
        assert_eq!(slot.get().unwrap().number, 2);
        assert_eq!(kept.number, 1);
        assert!(freed.upgrade().is_some());
        drop(kept);
        assert!(freed.upgrade().is_none());
    }
}
