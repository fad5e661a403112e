//! Who gets the CPU: how each thread stands to the others, as far as it may say so itself.
//!
//! With every core computing, what a probe waits for is the scheduler. Where predictions are long,
//! the threads that compute ask for a long slice, or lower themselves, and the threads that respond
//! ask for a short one, so that waking up displaces a prediction at once. Where predictions are
//! short nobody waits long for one, and every switch of threads would cost more than it gives: then
//! all threads are as they come.

use std::time::Duration;

use crate::config::Yielding;
use crate::platform::sys::{self, Slice};

/// Niceness of computing threads with `--yield nice`, once predictions are long.
const COMPUTING_NICE: i32 = 10;

/// Mean service time from which predictions count as long; below half of it they no longer do.
const LONG_SERVICE_TIME: Duration = Duration::from_millis(1);

/// What a thread does with the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuUse {
    /// Runs predictions.
    Computing,
    /// Wakes up for a moment, so that somebody gets an answer.
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
    /// Starts as threads come, whatever the thread that started this one had asked for.
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

    /// Follows the mean service time of predictions; a system call only where it crosses the line.
    ///
    /// Niceness does not come back without privilege; a slice does.
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

/// Returns what predictions have become, where that is news.
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
