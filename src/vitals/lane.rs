//! The stamps of a lane: its queue, its workers, and the job each of them is on.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::service::AtomicEstimate;
use super::work::AdmittedWork;
use super::{AtomicStamp, BusyTime, Counter};
use crate::platform::clock::Stamp;

/// What a worker is on, for the stall report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentRequest {
    /// The request's id in answers and logs.
    pub request_id: Arc<str>,
    /// Instances, once they are decoded.
    pub rows: Option<usize>,
}

/// Who a worker's place in the lane belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum SlotState {
    /// Its own.
    Own = 0,
    /// A substitute: it retires when its job ends.
    Substituted = 1,
    /// A substitute that is retiring: it takes no new job.
    Retiring = 2,
}

/// The slot of one worker thread of a lane.
#[derive(Debug, Default)]
pub struct WorkerVitals {
    /// Whether a thread runs here.
    pub alive: AtomicBool,
    /// When the last thread in this slot ended.
    pub ended_at: AtomicStamp,
    /// Since when the thread has been on its present job; never if idle.
    pub busy_since: AtomicStamp,
    /// The estimated duration of that job, in nanoseconds.
    expected: AtomicU64,
    /// Whether a substitute has taken its place, see [`SlotState`].
    place: AtomicU8,
    /// The thread's id in the kernel (gettid(2)).
    pub thread_id: AtomicU32,
    task: Mutex<Option<CurrentRequest>>,
}

impl WorkerVitals {
    /// Records that the thread is on a job from `now` on, with the estimate of its duration.
    pub fn begin(&self, now: Stamp, expected: Duration) {
        let nanos = u64::try_from(expected.as_nanos()).unwrap_or(u64::MAX);
        self.expected.store(nanos, Ordering::Relaxed);
        self.busy_since.store(now);
    }

    /// How much longer it will probably be on its present job; `None` if nobody should wait for it,
    /// because no thread is there or a substitute has its place.
    ///
    /// A job that exceeds its estimate is assumed to end at once, until it has run for `overdue`;
    /// after that, as much time again is the better guess.
    pub fn residual(&self, now: Stamp, overdue: Duration) -> Option<Duration> {
        if !self.alive.load(Ordering::Acquire) || self.is_substituted() {
            return None;
        }
        let since = self.busy_since.load();
        if since == Stamp::NEVER {
            return Some(Duration::ZERO);
        }
        let expected = Duration::from_nanos(self.expected.load(Ordering::Relaxed));
        let elapsed = now.since(since);
        if elapsed >= expected && elapsed >= overdue {
            return Some(elapsed);
        }
        // Busy in any case.
        Some(
            expected
                .saturating_sub(elapsed)
                .max(Duration::from_nanos(1)),
        )
    }

    /// Whether another thread has its place.
    pub fn is_substituted(&self) -> bool {
        self.place.load(Ordering::Acquire) != SlotState::Own as u8
    }

    /// Gives its place to a substitute that is about to be started, if it is still on the job it
    /// has been on since `since`; returns whether it did.
    ///
    /// The worker clears its stamp before it checks whether to retire, and the stamp is read here
    /// after the place was given away, all sequentially consistent. So a worker that finishes
    /// meanwhile either retires or keeps its place.
    pub fn substitute(&self, since: Stamp) -> bool {
        self.place
            .store(SlotState::Substituted as u8, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.busy_since.load() == since || !self.take_back()
    }

    /// Takes its place back; `false` if it is too late because the worker retires.
    pub fn take_back(&self) -> bool {
        self.moves(SlotState::Substituted, SlotState::Own)
    }

    /// Whether the thread, having finished a job, must take no other.
    pub fn retires(&self) -> bool {
        fence(Ordering::SeqCst);
        self.is_substituted() && self.moves(SlotState::Substituted, SlotState::Retiring)
    }

    /// Frees the slot of a thread that has ended; returns whether it had been substituted.
    pub fn vacate(&self) -> bool {
        self.place.swap(SlotState::Own as u8, Ordering::AcqRel) != SlotState::Own as u8
    }

    fn moves(&self, from: SlotState, to: SlotState) -> bool {
        let (from, to) = (from as u8, to as u8);
        self.place
            .compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst)
            .is_ok()
    }

    /// Records what the thread is on.
    pub fn set_task(&self, task: Option<CurrentRequest>) {
        *self.task.lock().unwrap_or_else(PoisonError::into_inner) = task;
    }

    /// Records how many instances it has decoded.
    pub fn set_rows(&self, rows: usize) {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.as_mut() {
            task.rows = Some(rows);
        }
    }

    /// What the thread is on.
    pub fn task(&self) -> Option<CurrentRequest> {
        // A poisoned lock still holds a complete task, because it is replaced in one assignment.
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        task.clone()
    }
}

/// Expected work per worker above which a lane counts as backed up.
const BACKED_UP: Duration = Duration::from_millis(3);

/// One lane: its queue and its workers.
#[derive(Debug)]
pub struct LaneVitals {
    /// The most jobs that may wait.
    pub queue_capacity: usize,
    /// Waiting jobs.
    pub queue_length: AtomicUsize,
    /// When the queue last became non-empty.
    pub filled_at: AtomicStamp,
    /// When a worker last took a job.
    pub taken_at: AtomicStamp,
    /// When a worker last finished a job or a slice of one, whatever happened to the answer.
    pub completed_at: AtomicStamp,
    /// The latest start of a prediction that the model has finished, whatever the result.
    pub finished_from: AtomicStamp,
    /// Jobs that workers took and finished.
    pub completed: Counter,
    /// Time that workers have spent on jobs.
    pub busy_time: BusyTime,
    /// Number of workers that the lane should have.
    pub workers_wanted: usize,
    /// The workers' slots by index: first the lane's own workers, then substitutes.
    pub workers: Box<[WorkerVitals]>,
    /// When each waiting job arrived, by its number.
    arrivals: Box<[AtomicStamp]>,
    /// Jobs ever queued, and ever taken; a job's number is how many came before it.
    queued: AtomicU64,
    taken: AtomicU64,
    /// Moving average of the service time in nanoseconds; 0 before the first completion.
    service_nanos: AtomicU64,
    /// Admitted and unfinished work.
    pub work: AdmittedWork,
    /// Measured over expected waiting times.
    pub wait_ratio: AtomicEstimate,
}

impl LaneVitals {
    /// Makes a lane of `workers`, with slots for up to `substitutes`.
    pub(super) fn new(queue_capacity: usize, workers: usize, substitutes: usize) -> Self {
        let stamps = |count: usize| (0..count).map(|_| AtomicStamp::default()).collect();
        let slots = workers + substitutes;
        LaneVitals {
            queue_capacity,
            queue_length: AtomicUsize::new(0),
            filled_at: AtomicStamp::default(),
            taken_at: AtomicStamp::default(),
            completed_at: AtomicStamp::default(),
            finished_from: AtomicStamp::default(),
            completed: Counter::default(),
            busy_time: BusyTime::default(),
            workers_wanted: workers,
            workers: (0..slots).map(|_| WorkerVitals::default()).collect(),
            // One more than may wait, so that a refused job takes nobody's place.
            arrivals: stamps(queue_capacity + 1),
            queued: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            service_nanos: AtomicU64::new(0),
            work: AdmittedWork::default(),
            wait_ratio: AtomicEstimate::default(),
        }
    }

    /// Counts a job that is about to be queued; only one thread queues.
    pub fn count_queued(&self, now: Stamp) {
        if self.queue_length.load(Ordering::Acquire) == 0 {
            self.filled_at.store(now);
        }
        let number = self.queued.fetch_add(1, Ordering::AcqRel);
        if let Some(arrival) = self.arrivals.get(self.place(number)) {
            arrival.store(now);
        }
        self.queue_length.fetch_add(1, Ordering::AcqRel);
    }

    /// Takes the count back, because the queue was full.
    pub fn count_refused(&self) {
        self.queued.fetch_sub(1, Ordering::AcqRel);
        self.queue_length.fetch_sub(1, Ordering::AcqRel);
    }

    /// Counts a job that was taken.
    pub fn count_taken(&self, now: Stamp) {
        self.taken_at.advance(now);
        self.taken.fetch_add(1, Ordering::AcqRel);
        self.queue_length.fetch_sub(1, Ordering::AcqRel);
    }

    /// When the oldest waiting job arrived; `None` if none waits. While jobs move, it may be one
    /// that was just taken.
    pub fn oldest_arrival(&self) -> Option<Stamp> {
        let taken = self.taken.load(Ordering::Acquire);
        if self.queued.load(Ordering::Acquire) <= taken {
            return None;
        }
        let arrival = self.arrivals.get(self.place(taken))?;
        Some(arrival.load())
    }

    fn place(&self, number: u64) -> usize {
        // At most the capacity, so that it fits.
        (number % self.arrivals.len() as u64) as usize
    }

    /// Number of workers that are on a job.
    pub fn busy(&self) -> usize {
        let busy = |worker: &&WorkerVitals| {
            worker.busy_since.load() != Stamp::NEVER && !worker.is_substituted()
        };
        self.workers.iter().filter(busy).count()
    }

    /// Number of substitutes that run.
    pub fn substitutes(&self) -> usize {
        let remaining = |worker: &&WorkerVitals| {
            worker.alive.load(Ordering::Acquire) && worker.is_substituted()
        };
        self.workers.iter().filter(remaining).count()
    }

    /// Whether a job waits, runs, or is on its way: if connections keep the acceptor from running,
    /// predictions wait there.
    pub fn is_occupied(&self) -> bool {
        self.queue_length.load(Ordering::Relaxed) > 0 || self.work.admitted() > 0 || self.busy() > 0
    }

    /// Whether so much work waits that a thread which yields the CPU may lose a whole slice (about
    /// 3 ms on Linux) to predictions.
    pub fn is_backed_up(&self) -> bool {
        let workers = u32::try_from(self.workers_wanted).unwrap_or(u32::MAX);
        self.work.waiting() >= BACKED_UP.saturating_mul(workers)
    }

    /// Mean service time over about the last eight jobs; zero before the first.
    pub fn service_time(&self) -> Duration {
        Duration::from_nanos(self.service_nanos.load(Ordering::Relaxed))
    }

    /// Adds a service time to the mean.
    ///
    /// Two workers that finish at once may lose a sample, which a mean tolerates.
    pub fn record_service_time(&self, sample: Duration) {
        let sample = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX).max(1);
        let mean = self.service_nanos.load(Ordering::Relaxed);
        let next = if mean == 0 {
            sample
        } else {
            mean - mean / 8 + sample / 8
        };
        self.service_nanos.store(next.max(1), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_backed_up_once_each_worker_has_three_milliseconds_to_do() {
        let clock = crate::platform::clock::ProcessClock::new(Duration::from_secs(1));
        let vitals = Arc::new(crate::vitals::Vitals::new(clock, (8, 2), (1, 1)));
        let reservation = |millis| {
            let whole = Duration::from_millis(millis);
            let cost = crate::vitals::Cost {
                whole,
                slice: whole,
            };
            crate::vitals::Reservation::new(&vitals, cost, 8)
        };
        let _first = reservation(5);
        assert!(!vitals.predict.is_backed_up());
        let second = reservation(1);
        assert!(vitals.predict.is_backed_up());
        drop(second);
        assert!(!vitals.predict.is_backed_up());
    }

    #[test]
    fn mean_service_time_starts_at_the_first_sample_and_follows() {
        let lane = LaneVitals::new(4, 2, 0);
        assert_eq!(lane.service_time(), Duration::ZERO);
        lane.record_service_time(Duration::from_millis(80));
        assert_eq!(lane.service_time(), Duration::from_millis(80));
        for _ in 0..64 {
            lane.record_service_time(Duration::from_millis(8));
        }
        assert!(lane.service_time() < Duration::from_millis(9));
    }

    #[test]
    fn a_worker_that_moves_as_it_gets_a_substitute_retires_or_keeps_its_place() {
        let slot = WorkerVitals::default();
        slot.begin(Stamp(5), Duration::ZERO);
        assert!(slot.substitute(Stamp(5)), "it is stuck");
        assert!(slot.is_substituted() && slot.retires());
        assert!(!slot.take_back(), "it retires");
        assert!(slot.vacate() && !slot.is_substituted());
        // It finished before its place was given away and did not see that.
        slot.busy_since.store(Stamp::NEVER);
        assert!(!slot.retires());
        assert!(!slot.substitute(Stamp(5)), "it moves");
        assert!(!slot.is_substituted() && !slot.retires());
        slot.begin(Stamp(9), Duration::ZERO);
        assert!(!slot.substitute(Stamp(5)), "it is on another job");
        assert!(!slot.vacate());
    }

    #[test]
    fn the_oldest_arrival_is_that_of_the_job_to_be_taken_up_next() {
        let lane = LaneVitals::new(2, 1, 0);
        assert_eq!(lane.oldest_arrival(), None);
        for round in 0..5 {
            lane.count_queued(Stamp(round * 10 + 1));
            lane.count_queued(Stamp(round * 10 + 2));
            assert_eq!(lane.oldest_arrival(), Some(Stamp(round * 10 + 1)));
            lane.count_taken(Stamp(round * 10 + 3));
            assert_eq!(lane.oldest_arrival(), Some(Stamp(round * 10 + 2)));
            lane.count_taken(Stamp(round * 10 + 4));
            assert_eq!(lane.oldest_arrival(), None);
        }
        lane.count_queued(Stamp(90));
        lane.count_queued(Stamp(91));
        lane.count_queued(Stamp(92));
        lane.count_refused();
        assert_eq!(lane.oldest_arrival(), Some(Stamp(90)), "one was refused");
    }
}
