//! Decides what a worker does next: a job from the queue, or the next slice of a suspended
//! execution.
//!
//! It computes no prediction and reads no clock; its state is its own, apart from the queue and the
//! suspended executions, which all workers share. Each worker has its own scheduler. The simulation
//! uses the same one, without threads.

use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError};

use super::fair_share::{FairShare, NextWork};
use crate::lanes::queue::{Intake, Next};

/// Executions waiting for their next slice, which any worker of the lane may compute; first in,
/// first out.
#[derive(Debug)]
pub(super) struct SuspendedQueue<E> {
    sender: Sender<E>,
    receiver: Receiver<E>,
}

impl<E> SuspendedQueue<E> {
    /// Makes an empty queue for at most `capacity` executions.
    pub(super) fn new(capacity: usize) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(capacity);
        SuspendedQueue { sender, receiver }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }
}

impl<E> Clone for SuspendedQueue<E> {
    fn clone(&self) -> Self {
        SuspendedQueue {
            sender: self.sender.clone(),
            receiver: self.receiver.clone(),
        }
    }
}

/// One worker's view of its lane: jobs `J` wait in the queue, executions `E` have begun.
#[derive(Debug)]
pub(super) struct Scheduler<J, E> {
    queue: Intake<J>,
    suspended: SuspendedQueue<E>,
    /// The suspended execution that this worker resumes until it is finished. Suspended executions
    /// run one after another per worker; if they took turns, all of them would be late.
    current: Option<E>,
    /// An execution that found the suspended queue full. It runs before anything else, so there is
    /// at most one.
    unplaced: Option<E>,
    fair_share: FairShare,
    /// What was given out last.
    class: NextWork,
    /// Whether the worker takes no new work.
    is_retiring: bool,
}

impl<J, E> Scheduler<J, E> {
    /// Makes the scheduler of a worker that has just started.
    pub(super) fn new(queue: Intake<J>, suspended: SuspendedQueue<E>) -> Self {
        Scheduler {
            queue,
            suspended,
            current: None,
            unplaced: None,
            fair_share: FairShare::default(),
            class: NextWork::Queued,
            is_retiring: false,
        }
    }

    /// Waits for the next work. `None` once the queue is closed and no execution is left, or once a
    /// retiring worker has nothing left.
    pub(super) fn next(&mut self) -> Option<Next<J, E>> {
        loop {
            match self.next_now() {
                Ok(next) => return Some(next),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => {}
            }
            match self.queue.wait_for_either(&self.suspended.receiver) {
                Some(Next::Job(job)) => {
                    self.class = NextWork::Queued;
                    return Some(Next::Job(job));
                }
                Some(Next::Other(execution)) => return Some(self.give(execution)),
                None => {}
            }
        }
    }

    /// Takes the next work without waiting.
    ///
    /// The caller must then call [`end`](Self::end).
    ///
    /// # Errors
    ///
    /// `Empty` if there is no work, `Disconnected` if there never will be.
    pub(super) fn next_now(&mut self) -> Result<Next<J, E>, TryRecvError> {
        if let Some(execution) = self.unplaced.take() {
            return Ok(self.give(execution));
        }
        if self.is_retiring {
            let current = self.current.take().ok_or(TryRecvError::Disconnected)?;
            return Ok(self.give(current));
        }
        if self.fair_share.next() == NextWork::Suspended
            && let Some(execution) = self.take_suspended()
        {
            return Ok(self.give(execution));
        }
        match self.queue.take_now() {
            Ok(job) => {
                self.class = NextWork::Queued;
                Ok(Next::Job(job))
            }
            Err(nothing) => {
                let execution = self.take_suspended().ok_or(nothing)?;
                Ok(self.give(execution))
            }
        }
    }

    /// Records that the last work has had `time`, and keeps it if it is not finished.
    pub(super) fn end(&mut self, time: Duration, unfinished: Option<E>) {
        let others = self.current.is_some() || !self.suspended.receiver.is_empty();
        // The first slice of a large job counts as time of suspended executions, so that the next
        // job in the queue runs before the second slice. But if other executions are suspended, it
        // counts as time of the queue: they did not have it.
        let class = if unfinished.is_some() && !others {
            NextWork::Suspended
        } else {
            self.class
        };
        let other_has_work = match class {
            NextWork::Queued => unfinished.is_some() || others,
            NextWork::Suspended => !self.queue.is_empty(),
        };
        self.fair_share.had(class, time, other_has_work);
        let Some(execution) = unfinished else {
            return;
        };
        if class == NextWork::Suspended && self.current.is_none() && !self.is_retiring {
            self.current = Some(execution);
        } else {
            self.unplaced = self.suspend(execution);
        }
    }

    /// Makes the worker take no new work, because a substitute has its place. It leaves its
    /// executions to the others, and computes one that finds the suspended queue full.
    pub(super) fn retire(&mut self) {
        self.is_retiring = true;
        self.unplaced = self.unplaced.take().and_then(|one| self.suspend(one));
        self.current = self.current.take().and_then(|one| self.suspend(one));
    }

    /// Puts an execution behind the suspended ones; returns it if there is no room.
    fn suspend(&self, execution: E) -> Option<E> {
        match self.suspended.sender.try_send(execution) {
            Ok(()) => None,
            Err(TrySendError::Full(execution) | TrySendError::Disconnected(execution)) => {
                Some(execution)
            }
        }
    }

    fn take_suspended(&mut self) -> Option<E> {
        let current = self.current.take();
        current.or_else(|| self.suspended.receiver.try_recv().ok())
    }

    fn give(&mut self, execution: E) -> Next<J, E> {
        self.class = NextWork::Suspended;
        Next::Other(execution)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::lanes::queue::{Lane, LaneKind, lane};
    use crate::platform::clock::ProcessClock;
    use crate::vitals::Vitals;

    const SLICE: Duration = Duration::from_millis(5);

    /// A lane of numbers with room for `capacity` suspended ones, and one worker's scheduler.
    fn scheduler(capacity: usize) -> (Lane<u32>, Scheduler<u32, u32>) {
        let clock = ProcessClock::new(Duration::from_secs(1));
        let vitals = Arc::new(Vitals::new(clock, (100, 1), (1, 1)));
        let (lane, intake) = lane(LaneKind::Predict, &vitals);
        (lane, Scheduler::new(intake, SuspendedQueue::new(capacity)))
    }

    /// Takes the next one, and gives it back unfinished while `slices` of it are left.
    fn step(scheduler: &mut Scheduler<u32, u32>, slices: &mut [u32]) -> Option<u32> {
        let one = match scheduler.next_now().ok()? {
            Next::Job(one) | Next::Other(one) => one,
        };
        let remaining = &mut slices[one as usize];
        *remaining -= 1;
        scheduler.end(SLICE, (*remaining > 0).then_some(one));
        Some(one)
    }

    #[test]
    fn every_execution_ends_however_few_may_be_suspended() {
        for capacity in [1, 2, 5, 20] {
            let (lane, mut scheduler) = scheduler(capacity);
            let mut slices = vec![3; 20];
            for job in 0..20 {
                lane.offer(job).unwrap();
            }
            drop(lane);
            let mut steps = 0;
            while step(&mut scheduler, &mut slices).is_some() {
                steps += 1;
            }
            assert_eq!(scheduler.next_now(), Err(TryRecvError::Disconnected));
            assert_eq!(slices, [0; 20], "room for {capacity}");
            assert_eq!(steps, 60);
        }
    }

    #[test]
    fn an_execution_that_cannot_be_suspended_goes_on_first() {
        let (lane, mut scheduler) = scheduler(1);
        let mut slices = [9, 9, 3, 1];
        for job in 0..4 {
            lane.offer(job).unwrap();
        }
        let order: Vec<_> = (0..8)
            .filter_map(|_| step(&mut scheduler, &mut slices))
            .collect();
        // 0 becomes current, 1 is suspended, and 2 finds no room beside them. The queue is
        // compensated for its time, so 3 comes before 0.
        assert_eq!(order, [0, 1, 2, 2, 2, 3, 0, 0]);
    }

    #[test]
    fn a_retiring_worker_hands_its_executions_on_or_finishes_them() {
        let (lane, mut scheduler) = scheduler(1);
        let mut slices = [4, 4];
        lane.offer(0).unwrap();
        assert_eq!(step(&mut scheduler, &mut slices), Some(0));
        scheduler.retire();
        assert_eq!(scheduler.next_now(), Err(TryRecvError::Disconnected));
        let mut other = Scheduler::new(scheduler.queue.clone(), scheduler.suspended.clone());
        assert_eq!(step(&mut other, &mut slices), Some(0));
        lane.offer(1).unwrap();
        assert_eq!(step(&mut other, &mut slices), Some(1));
        assert!(!other.suspended.is_empty(), "1 waits behind 0");
        other.retire();
        let rest: Vec<_> = std::iter::from_fn(|| step(&mut other, &mut slices)).collect();
        assert_eq!((rest, slices), (vec![0, 0], [0, 3]));
    }
}
