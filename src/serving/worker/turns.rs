//! Whose turn it is: the next job in the queue, or one that has begun and is computed in slices.
//!
//! Pure. Deficit round robin (Shreedhar and Varghese, 1995) between the two: while both have work,
//! each gets the same time, so a short job waits for no more of a long one than it takes itself, or
//! for one slice.

use std::time::Duration;

/// What a worker does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// A job from the queue.
    Queued,
    /// A job that has begun.
    Begun,
}

/// How much time more the queue has had than what has begun.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue_is_ahead: Duration,
    begun_is_ahead: Duration,
}

impl Turns {
    /// Whose turn it is where both have work.
    pub(super) fn next(&self) -> Class {
        if self.queue_is_ahead > Duration::ZERO {
            Class::Begun
        } else {
            Class::Queued
        }
    }

    /// Notes that a turn is over, and whether the other class had work meanwhile: a class that has
    /// none saves nothing up.
    pub(super) fn had(&mut self, class: Class, time: Duration, other_has_work: bool) {
        if !other_has_work {
            *self = Turns::default();
            return;
        }
        let (own, other) = match class {
            Class::Queued => (&mut self.queue_is_ahead, &mut self.begun_is_ahead),
            Class::Begun => (&mut self.begun_is_ahead, &mut self.queue_is_ahead),
        };
        let made_up = time.min(*other);
        *other -= made_up;
        *own += time - made_up;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs turns of so many milliseconds each; returns the time each class had, in milliseconds.
    fn run(queued: u64, begun: u64, turns: usize) -> (u64, u64) {
        let mut state = Turns::default();
        let mut had = (0, 0);
        for _ in 0..turns {
            let class = state.next();
            let time = match class {
                Class::Queued => queued,
                Class::Begun => begun,
            };
            match class {
                Class::Queued => had.0 += time,
                Class::Begun => had.1 += time,
            }
            state.had(class, Duration::from_millis(time), true);
        }
        had
    }

    #[test]
    fn both_get_the_same_time_whatever_their_turns_take() {
        for (queued, begun) in [(1, 5), (5, 5), (200, 5), (5, 1000)] {
            let (of_queue, of_begun) = run(queued, begun, 10_000);
            let difference = of_queue.abs_diff(of_begun);
            assert!(
                difference <= queued + begun,
                "{queued} and {begun}: {difference}"
            );
        }
    }

    #[test]
    fn the_queue_goes_first_and_a_class_without_work_saves_nothing_up() {
        let mut state = Turns::default();
        assert_eq!(state.next(), Class::Queued);
        state.had(Class::Queued, Duration::from_secs(9), true);
        assert_eq!(state.next(), Class::Begun);
        state.had(Class::Queued, Duration::from_secs(9), false);
        assert_eq!(state.next(), Class::Queued);
    }
}
