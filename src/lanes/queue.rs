//! A lane: one bounded queue, first in, first out, and the workers reserved to it.
//!
//! The acceptor holds the sending end and never waits; the lane's workers hold the receiving end
//! and wait for nothing else. Both stamp the lane's vitals, so that others can see how many wait
//! and whether they are taken.

use std::sync::Arc;

use crossbeam_channel::{Receiver, RecvError, Select, Sender, TryRecvError, TrySendError};

use crate::vitals::{LaneVitals, Vitals};

/// Which of the two lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LaneKind {
    /// Heavy work: predictions.
    Predict,
    /// Reserved for probes.
    Probe,
}

impl LaneKind {
    /// Returns this lane's vitals.
    pub fn vitals(self, vitals: &Vitals) -> &LaneVitals {
        match self {
            LaneKind::Predict => &vitals.predict,
            LaneKind::Probe => &vitals.probe,
        }
    }
}

/// The sending end of a lane; the acceptor's.
#[derive(Debug)]
pub struct Lane<T> {
    kind: LaneKind,
    sender: Sender<T>,
    vitals: Arc<Vitals>,
}

/// The receiving end of a lane; each of its workers has one.
#[derive(Debug)]
pub struct Intake<T> {
    kind: LaneKind,
    receiver: Receiver<T>,
    vitals: Arc<Vitals>,
}

/// What a worker may wait for.
#[derive(Debug, PartialEq, Eq)]
pub enum Next<T, U> {
    /// A job from the lane.
    Job(T),
    /// Something else.
    Other(U),
}

/// A job that the lane did not take. Its client is still owed an answer.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// Makes a lane of the size that its vitals say.
pub fn lane<T>(kind: LaneKind, vitals: &Arc<Vitals>) -> (Lane<T>, Intake<T>) {
    let (sender, receiver) = crossbeam_channel::bounded(kind.vitals(vitals).queue_capacity);
    let lane = Lane {
        kind,
        sender,
        vitals: Arc::clone(vitals),
    };
    let intake = Intake {
        kind,
        receiver,
        vitals: Arc::clone(vitals),
    };
    (lane, intake)
}

/// Receives from `receiver`; while predictions are backed up, it goes to sleep at once if the
/// channel is empty.
///
/// `Receiver::recv` calls `sched_yield` four times before it sleeps. On a quiet core that saves a
/// wake-up. On a busy one, a yielding thread gives away a whole slice (Linux 6.18, EEVDF), and a
/// probe sent to it next waits for that: beside predictions of 50 µs a probe's p99 was 4.9 ms, and
/// is 1 ms without. Selecting from one channel receives without the yields.
///
/// # Errors
///
/// The channel is empty and nobody can send any more.
pub fn receive<T>(receiver: &Receiver<T>, vitals: &Vitals) -> Result<T, RecvError> {
    if !vitals.predict.is_backed_up() {
        return receiver.recv();
    }
    match receiver.try_recv() {
        Ok(message) => Ok(message),
        Err(TryRecvError::Disconnected) => Err(RecvError),
        Err(TryRecvError::Empty) => {
            let mut select = Select::new();
            select.recv(receiver);
            select.select().recv(receiver)
        }
    }
}

impl<T> Lane<T> {
    /// Queues `job`, or hands it straight back; never blocks.
    ///
    /// # Errors
    ///
    /// `Full` at the queue's capacity. It returns the job: the caller still owes its client an
    /// answer (503 with `Retry-After`, RFC 9110 section 10.2.3).
    pub fn offer(&self, job: T) -> Result<(), Full<T>> {
        let lane = self.kind.vitals(&self.vitals);
        // Counted and stamped before the job is visible, so that a worker's stamp is never older.
        // Only the acceptor offers jobs, so nobody fills the queue between the check and the send.
        lane.count_queued(self.vitals.clock.now());
        self.sender.try_send(job).map_err(|refused| {
            lane.count_refused();
            match refused {
                TrySendError::Full(job) | TrySendError::Disconnected(job) => Full(job),
            }
        })
    }
}

impl<T> Clone for Lane<T> {
    fn clone(&self) -> Self {
        Lane {
            kind: self.kind,
            sender: self.sender.clone(),
            vitals: Arc::clone(&self.vitals),
        }
    }
}

impl<T> Clone for Intake<T> {
    fn clone(&self) -> Self {
        Intake {
            kind: self.kind,
            receiver: self.receiver.clone(),
            vitals: Arc::clone(&self.vitals),
        }
    }
}

impl<T> Intake<T> {
    /// Which lane this is.
    pub fn kind(&self) -> LaneKind {
        self.kind
    }

    /// Waits for a job, or for an item from `other`, as [`receive`] does. `None` if the caller has
    /// to look again, or once nobody can send to one of them any more.
    pub fn wait_for_either<U>(&self, other: &Receiver<U>) -> Option<Next<T, U>> {
        let mut either = Select::new();
        let job = either.recv(&self.receiver);
        either.recv(other);
        if !self.vitals.predict.is_backed_up() {
            either.ready();
            return None;
        }
        let ready = either.select();
        if ready.index() == job {
            let job = ready.recv(&self.receiver).ok()?;
            self.taken();
            Some(Next::Job(job))
        } else {
            ready.recv(other).ok().map(Next::Other)
        }
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Takes a job if one waits.
    ///
    /// # Errors
    ///
    /// `Empty` if none waits, `Disconnected` if nobody can send any more either.
    pub fn take_now(&self) -> Result<T, TryRecvError> {
        self.receiver.try_recv().inspect(|_| self.taken())
    }

    fn taken(&self) {
        let lane = self.kind.vitals(&self.vitals);
        lane.count_taken(self.vitals.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock::ProcessClock;
    use crate::vitals::{Cost, Reservation};
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    #[test]
    fn a_full_lane_hands_the_job_back_and_counts_only_what_waits() {
        let clock = ProcessClock::new(Duration::from_secs(1));
        let vitals = Arc::new(Vitals::new(clock, (2, 1), (1, 1)));
        let (lane, intake) = lane(LaneKind::Predict, &vitals);
        assert!(lane.offer('a').is_ok());
        assert!(lane.offer('b').is_ok());
        assert_eq!(lane.offer('c').unwrap_err().0, 'c');
        assert_eq!(vitals.predict.queue_length.load(Ordering::Relaxed), 2);
        assert_eq!(intake.take_now(), Ok('a'));
        assert_eq!(intake.take_now(), Ok('b'));
        assert_eq!(intake.take_now(), Err(TryRecvError::Empty));
        assert_eq!(vitals.predict.queue_length.load(Ordering::Relaxed), 0);
        assert!(vitals.predict.taken_at.load() >= vitals.predict.filled_at.load());
        drop(lane);
        assert_eq!(intake.take_now(), Err(TryRecvError::Disconnected));
    }

    /// A prediction lane, idle or with a second of waiting work.
    fn lane_that_waits_for(work: Duration) -> (Lane<u32>, Intake<u32>, Reservation) {
        let clock = ProcessClock::new(Duration::from_secs(1));
        let vitals = Arc::new(Vitals::new(clock, (2, 1), (1, 1)));
        let cost = Cost {
            whole: work,
            slice: work,
        };
        let reservation = Reservation::new(&vitals, cost, 1).unwrap();
        let (lane, intake) = lane(LaneKind::Predict, &vitals);
        (lane, intake, reservation)
    }

    #[test]
    fn a_wait_ends_with_a_job_with_something_else_or_with_the_lane() {
        for work in [Duration::ZERO, Duration::from_secs(1)] {
            let (lane, intake, _reservation) = lane_that_waits_for(work);
            let (sender, other) = crossbeam_channel::bounded(1);
            // If it is not given, it is already there.
            let next = || match intake.wait_for_either(&other) {
                Some(next) => Some(next),
                None => match intake.take_now() {
                    Ok(job) => Some(Next::Job(job)),
                    Err(_) => other.try_recv().ok().map(Next::Other),
                },
            };
            // The event that ends each of these waits has already happened.
            sender.send('o').unwrap();
            assert_eq!(next(), Some(Next::Other('o')), "{work:?}");
            assert!(lane.offer(3).is_ok());
            assert_eq!(next(), Some(Next::Job(3)), "{work:?}");
            let length = &intake.vitals.predict.queue_length;
            assert_eq!(length.load(Ordering::Relaxed), 0);
            drop(lane);
            assert_eq!(next(), None, "{work:?}");
        }
    }

    #[test]
    fn receiving_takes_all_that_was_sent_before_nobody_can_send_any_more() {
        for work in [Duration::ZERO, Duration::from_secs(1)] {
            let (_lane, intake, _reservation) = lane_that_waits_for(work);
            let (sender, receiver) = crossbeam_channel::bounded(1);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    sender.send(1).unwrap();
                    sender.send(2).unwrap();
                });
                assert_eq!(receive(&receiver, &intake.vitals), Ok(1));
                assert_eq!(receive(&receiver, &intake.vitals), Ok(2));
                assert_eq!(receive(&receiver, &intake.vitals), Err(RecvError));
            });
        }
    }
}
