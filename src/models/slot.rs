//! The served model's place: empty at first, and filled anew at each reload while predictions go on.
//!
//! Whoever predicts holds the model it began with; the last to hold an old one frees it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;

use super::Model;

/// A model as it is served.
pub struct Served {
    /// The model.
    pub model: Arc<dyn Model>,
    /// Which one it is since the start, from 1.
    pub generation: u64,
}

/// Where the served model is; nobody waits to read it or to replace it.
#[derive(Default)]
pub struct Slot {
    served: ArcSwapOption<Served>,
    generations: AtomicU64,
}

impl std::fmt::Debug for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Slot").field(&self.generations).finish()
    }
}

impl Slot {
    /// Returns the model that is served now; `None` until the first one is loaded and was tried.
    pub fn get(&self) -> Option<Arc<Served>> {
        self.served.load_full()
    }

    /// Serves `model` from now on, and returns its generation. One thread at a time calls it.
    pub fn put(&self, model: Arc<dyn Model>) -> u64 {
        let generation = self.generations.fetch_add(1, Ordering::AcqRel) + 1;
        self.served
            .store(Some(Arc::new(Served { model, generation })));
        generation
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::default;

    #[test]
    fn the_last_to_hold_an_old_model_frees_it() {
        let slot = Slot::default();
        assert!(slot.get().is_none());
        let first: Arc<dyn Model> = Arc::new(default::load().unwrap());
        let freed = Arc::downgrade(&first);
        assert_eq!(slot.put(first), 1);
        let held = slot.get().unwrap();
        assert_eq!(slot.put(Arc::new(default::load().unwrap())), 2);
        assert_eq!(slot.get().unwrap().generation, 2);
        assert_eq!(held.generation, 1);
        assert!(freed.upgrade().is_some());
        drop(held);
        assert!(freed.upgrade().is_none());
    }
}
