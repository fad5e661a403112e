//! Whose turn it is: the next job in the queue, or a suspended execution.
//!
//! Deficit round robin (Shreedhar and Varghese, 1995) between the two: while both have work,
//! each gets the same time. A short job waits for no more of a long one than its own service time,
//! or for one slice.

use std::time::Duration;

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextWork {
    /// A job from the queue.
    Queued,
    /// A job that has begun.
    Suspended,
}

/// How much more time the queue has had than the executions.
#[derive(Debug, Default)]
pub(super) struct FairShare {
    queue_is_ahead: Duration,
    suspended_is_ahead: Duration,
}

impl FairShare {
    /// Whose turn it is if both have work.
    pub(super) fn next(&self) -> NextWork {
        if self.queue_is_ahead > Duration::ZERO {
            NextWork::Suspended
        } else {
            NextWork::Queued
        }
    }

    /// Records the end of a turn, and whether the other class had work meanwhile: a class without
    /// work accumulates no credit.
    pub(super) fn had(&mut self, class: NextWork, time: Duration, other_has_work: bool) {
        if !other_has_work {
            *self = FairShare::default();
            return;
        }
        let (own, other) = match class {
            NextWork::Queued => (&mut self.queue_is_ahead, &mut self.suspended_is_ahead),
            NextWork::Suspended => (&mut self.suspended_is_ahead, &mut self.queue_is_ahead),
        };
        let made_up = time.min(*other);
        *other -= made_up;
        *own += time - made_up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs turns of so many milliseconds each; returns the time that each class had, in
    /// milliseconds.
    fn run(queued: u64, suspended: u64, fair_share: usize) -> (u64, u64) {
        let mut state = FairShare::default();
        let mut had = (0, 0);
        for _ in 0..fair_share {
            let class = state.next();
            let time = match class {
                NextWork::Queued => queued,
                NextWork::Suspended => suspended,
            };
            match class {
                NextWork::Queued => had.0 += time,
                NextWork::Suspended => had.1 += time,
            }
            state.had(class, Duration::from_millis(time), true);
        }
        had
    }

    #[test]
    fn both_get_the_same_time_whatever_their_slices_take() {
        for (queued, suspended) in [(1, 5), (5, 5), (200, 5), (5, 1000)] {
            let (of_queue, of_suspended) = run(queued, suspended, 10_000);
            let difference = of_queue.abs_diff(of_suspended);
            assert!(
                difference <= queued + suspended,
                "{queued} and {suspended}: {difference}"
            );
        }
    }

    #[test]
    fn the_queue_goes_first_and_a_class_without_work_saves_nothing_up() {
        let mut state = FairShare::default();
        assert_eq!(state.next(), NextWork::Queued);
        state.had(NextWork::Queued, Duration::from_secs(9), true);
        assert_eq!(state.next(), NextWork::Suspended);
        state.had(NextWork::Queued, Duration::from_secs(9), false);
        assert_eq!(state.next(), NextWork::Queued);
    }
}
