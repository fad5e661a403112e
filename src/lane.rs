//! A lane: one bounded queue, first in, first out, and the workers reserved to it.
//!
//! The acceptor holds the sending half and never waits; the lane's workers hold the receiving half
//! and wait for nothing else. Both stamp the lane's vitals, so that anybody can tell how many wait
//! and whether anybody takes them up.

use std::sync::Arc;

use crossbeam_channel::{Receiver, Select, Sender, TryRecvError, TrySendError};

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

/// The sending half of a lane; the acceptor's.
#[derive(Debug)]
pub struct Lane<T> {
    kind: LaneKind,
    sender: Sender<T>,
    vitals: Arc<Vitals>,
}

/// The receiving half of a lane; each of its workers has one.
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

/// A job that the lane did not take, handed back: its client is still owed an answer.
#[derive(Debug)]
pub struct Full<T>(pub T);

/// Makes a lane as large as its vitals say.
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

impl<T> Lane<T> {
    /// Queues `job`, or hands it straight back; never blocks.
    ///
    /// # Errors
    /// `Full` at the queue's capacity. It returns the job: the caller still owes its client an
    /// answer (503 with `Retry-After`, RFC 9110 section 10.2.3).
    pub fn offer(&self, job: T) -> Result<(), Full<T>> {
        let lane = self.kind.vitals(&self.vitals);
        // Counted and stamped before the job can be seen, so that a worker's stamp is never the
        // older one. The acceptor is the only one to offer: no other thread can fill the queue
        // between the look and the stamp.
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

    /// Waits until a job waits, or something else does in `other`, or nobody can send any more.
    pub fn wait_or<U>(&self, other: &Receiver<U>) {
        let mut either = Select::new();
        either.recv(&self.receiver);
        either.recv(other);
        either.ready();
    }

    /// Whether none waits.
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// Takes a job if one waits.
    ///
    /// # Errors
    /// `Empty` where none waits, `Disconnected` where nobody can send any more either.
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
    use crate::clock::ProcessClock;
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
        // What ends each of these waits is there before.
        let (sender, other) = crossbeam_channel::bounded(1);
        sender.send(7).unwrap();
        intake.wait_or(&other);
        assert_eq!(other.recv(), Ok(7));
        assert!(lane.offer('d').is_ok());
        intake.wait_or(&other);
        assert_eq!(intake.take_now(), Ok('d'));
        drop(lane);
        intake.wait_or(&other);
        assert_eq!(intake.take_now(), Err(TryRecvError::Disconnected));
    }
}
