//! CPU scheduling: what each thread asks of the scheduler, relative to the others.
//!
//! When every core computes, a probe waits for the scheduler. If predictions are long, computing
//! threads ask for a long slice, or lower their priority, and responding threads ask for a short
//! slice, so that a thread that wakes up preempts a prediction at once. If predictions are short,
//! nobody waits long for one and more switches would cost more than they gain, so all threads keep
//! the defaults.

use std::time::Duration;

use crate::config::Yielding;
use crate::platform::sys::{self, Slice};

/// Niceness of computing threads with `--yield nice` while predictions are long.
const COMPUTING_NICE: i32 = 10;

/// Mean service time above which predictions count as long; below half of it they no longer do.
const LONG_SERVICE_TIME: Duration = Duration::from_millis(1);

/// What a thread uses the CPU for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuUse {
    /// Runs predictions.
    Computing,
    /// Wakes up briefly to answer somebody.
    Responding,
}

/// What the calling thread has asked of the scheduler so far.
#[derive(Debug)]
pub struct Priority {
    how: Yielding,
    work: CpuUse,
    adapted: bool,
}

impl Priority {
    /// Starts with the defaults, whatever the parent thread had asked for.
    pub fn new(how: Yielding, work: CpuUse) -> Self {
        if how == Yielding::Slice {
            sys::set_slice(Slice::Default);
        }
        Priority {
            how,
            work,
            adapted: false,
        }
    }

    /// Follows the mean service time of predictions, with a system call only when it crosses the
    /// threshold.
    ///
    /// Niceness cannot be lowered again without privilege; a slice can be changed back.
    pub fn adapt(&mut self, service_time: Duration) {
        let Some(long) = crosses(self.adapted, service_time) else {
            return;
        };
        match (self.how, self.work) {
            (Yielding::Slice, _) if !long => sys::set_slice(Slice::Default),
            (Yielding::Slice, CpuUse::Computing) => sys::set_slice(Slice::Long),
            (Yielding::Slice, CpuUse::Responding) => sys::set_slice(Slice::Short),
            (Yielding::Nice, CpuUse::Computing) if long => sys::set_nice(COMPUTING_NICE),
            _ => {}
        }
        self.adapted = long;
    }
}

/// Returns the new class of predictions if it has changed.
fn crosses(long_before: bool, service_time: Duration) -> Option<bool> {
    if long_before {
        (service_time < LONG_SERVICE_TIME / 2).then_some(false)
    } else {
        (service_time >= LONG_SERVICE_TIME).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predictions_become_long_at_a_millisecond_and_short_again_at_half_of_it() {
        let micros = Duration::from_micros;
        assert_eq!(crosses(false, micros(0)), None);
        assert_eq!(crosses(false, micros(999)), None);
        assert_eq!(crosses(false, micros(1000)), Some(true));
        assert_eq!(crosses(true, micros(600)), None);
        assert_eq!(crosses(true, micros(499)), Some(false));
    }
}
