//! The simulated lane: arrivals meet the server's own admission, workers its own queue and
//! scheduler.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::super::scheduler::{Scheduler, SuspendedQueue};
use super::{SimulatedOutcome, SimulatedRequest};
use crate::config::{FairBy, MaxWait};
use crate::error::Code;
use crate::lanes::admission::{self, Admission, Admitted, Ask, QUANTUM, SLICE_ROWS_MIN};
use crate::lanes::queue::{Intake, Lane, LaneKind, Next, lane};
use crate::platform::clock::{self, ProcessClock};
use crate::vitals::{DeploymentVitals, RemainingWork, ServerPhase, Vitals};

/// The set-up of a lane.
#[derive(Debug, Clone)]
pub(super) struct Setup {
    pub(super) workers: usize,
    pub(super) queue: usize,
    /// Executions that may be suspended.
    pub(super) suspended: usize,
    pub(super) max_wait: MaxWait,
    pub(super) is_fair: bool,
}

/// A queued job, or an execution.
struct Queued {
    index: usize,
    admitted: Admitted,
}

struct SuspendedRun {
    index: usize,
    done: Duration,
    _admitted: Admitted,
    remaining: RemainingWork,
}

/// What ends a worker's turn.
struct Busy {
    began: Duration,
    job: SuspendedRun,
    slice: Duration,
}

pub(super) struct Simulation<'a> {
    arrivals: &'a [SimulatedRequest],
    outcomes: Vec<Option<SimulatedOutcome>>,
    origin: Instant,
    nanos: Arc<AtomicU64>,
    vitals: Arc<Vitals>,
    deployment: DeploymentVitals,
    admission: Admission,
    lane: Lane<Queued>,
    intake: Intake<Queued>,
    suspended: SuspendedQueue<SuspendedRun>,
    schedulers: Vec<Scheduler<Queued, SuspendedRun>>,
    busy: Vec<Option<Busy>>,
    ends: BinaryHeap<Reverse<(Duration, usize)>>,
}

/// Runs all arrivals to their end; each has one outcome.
pub(super) fn run(setup: &Setup, arrivals: &[SimulatedRequest]) -> Vec<SimulatedOutcome> {
    let nanos = Arc::new(AtomicU64::new(1));
    let clock = ProcessClock::manual(Arc::clone(&nanos), Duration::from_secs(1));
    let vitals = Arc::new(Vitals::new(clock, (setup.queue, setup.workers), (1, 1)));
    let deployment = DeploymentVitals::default();
    deployment.loaded.store(true, Ordering::Release);
    vitals.advance(ServerPhase::Serving);
    for slot in &vitals.predict.workers[..setup.workers] {
        slot.alive.store(true, Ordering::Release);
    }
    let (lane, intake) = lane(LaneKind::Predict, &vitals);
    let suspended = SuspendedQueue::new(setup.suspended);
    let scheduler = || Scheduler::new(intake.clone(), suspended.clone());
    let mut simulation = Simulation {
        arrivals,
        outcomes: vec![None; arrivals.len()],
        origin: clock::instant(),
        nanos,
        admission: Admission::with(
            setup.max_wait,
            setup.is_fair.then_some(FairBy::Address).as_ref(),
        ),
        vitals,
        deployment,
        lane,
        schedulers: (0..setup.workers).map(|_| scheduler()).collect(),
        intake,
        suspended,
        busy: (0..setup.workers).map(|_| None).collect(),
        ends: BinaryHeap::new(),
    };
    let mut next = 0;
    loop {
        let end = simulation.ends.peek().map(|Reverse((at, _))| *at);
        let arrival = arrivals.get(next).map(|arrival| arrival.at);
        match (arrival, end) {
            (Some(at), end) if end.is_none_or(|end| at < end) => {
                simulation.move_to(at);
                simulation.arrive(next);
                next += 1;
            }
            (_, Some(at)) => {
                simulation.move_to(at);
                simulation.end_slice();
            }
            (None, None) => break,
            (Some(_), None) => unreachable!("an arrival comes before no end"),
        }
    }
    simulation.check_all_is_given_back();
    let outcome =
        |outcome: Option<SimulatedOutcome>| outcome.expect("every request has an outcome");
    simulation.outcomes.into_iter().map(outcome).collect()
}

impl Simulation<'_> {
    fn now(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    fn instant(&self) -> Instant {
        self.origin + self.now()
    }

    fn move_to(&self, at: Duration) {
        self.nanos.store(
            u64::try_from(at.as_nanos()).unwrap().max(1),
            Ordering::Relaxed,
        );
        self.vitals.clock.tick();
    }

    fn settle(&mut self, index: usize, outcome: SimulatedOutcome) {
        let before = self.outcomes[index].replace(outcome);
        assert_eq!(before, None, "request {index} has two outcomes");
    }

    fn arrive(&mut self, index: usize) {
        let arrival = self.arrivals[index];
        let now = self.instant();
        let default = Duration::from_secs(30);
        let patience = if arrival.says_so {
            arrival.patience.min(default)
        } else {
            default
        };
        let ask = Ask {
            form: 0,
            deployment: &self.deployment,
            bytes: Some(40 * arrival.rows),
            now,
            deadline: now + patience,
            client: self.admission.client(arrival.client),
        };
        let admitted = match self.admission.admit(&self.vitals, &ask) {
            Ok(admitted) => admitted,
            Err(refusal) => {
                // A request whose deadline is too short for any server is not told to retry.
                let retry_after = refusal.retry_after.unwrap_or(0);
                assert_eq!(retry_after == 0, refusal.code == Code::DeadlineExceeded);
                assert!(retry_after <= 30);
                return self.settle(index, SimulatedOutcome::Refused);
            }
        };
        let offered = self.lane.offer(Queued { index, admitted });
        assert!(offered.is_ok(), "an admitted request has a place");
        self.begin_slices();
    }

    /// Lets every idle worker take its next work, if there is any.
    fn begin_slices(&mut self) {
        for worker in 0..self.busy.len() {
            if self.busy[worker].is_none() {
                self.begin_slice(worker);
            }
        }
    }

    fn begin_slice(&mut self, worker: usize) {
        while let Ok(next) = self.schedulers[worker].next_now() {
            match next {
                Next::Other(job) => return self.work(worker, QUANTUM, job),
                Next::Job(queued) => {
                    let slice = queued.admitted.reservation.cost().slice;
                    if let Some(job) = self.take_up(queued) {
                        return self.work(worker, slice, job);
                    }
                    self.schedulers[worker].end(Duration::ZERO, None);
                }
            }
        }
    }

    /// Decides what happens to a job taken from the queue.
    fn take_up(&mut self, Queued { index, admitted }: Queued) -> Option<SuspendedRun> {
        let arrival = self.arrivals[index];
        let waited = self.now() - arrival.at;
        admitted.reservation.take_up();
        let lane = &self.vitals.predict;
        let decision = admission::check_at_dequeue(lane, &admitted, waited, self.instant());
        if waited >= arrival.patience {
            self.settle(index, SimulatedOutcome::Abandoned);
            return None;
        }
        if let Err(refusal) = decision {
            assert_eq!(refusal.code, Code::Expired);
            self.settle(index, SimulatedOutcome::Expired(waited));
            return None;
        }
        assert!(
            waited <= admitted.expires_after,
            "a request that waited too long is not computed"
        );
        let cost = admitted.reservation.cost();
        let rest = cost.whole.saturating_sub(cost.slice);
        Some(SuspendedRun {
            index,
            done: Duration::ZERO,
            _admitted: admitted,
            remaining: RemainingWork::new(&self.vitals, rest),
        })
    }

    fn work(&mut self, worker: usize, expected: Duration, mut job: SuspendedRun) {
        if !job.done.is_zero() {
            job.remaining.take(QUANTUM);
        }
        let remaining = self.arrivals[job.index].service - job.done;
        let rows = self.arrivals[job.index].rows;
        let row = self.arrivals[job.index].service / u32::try_from(rows).unwrap();
        let slice = if rows < SLICE_ROWS_MIN {
            remaining
        } else {
            remaining.min(QUANTUM.max(row * u32::try_from(SLICE_ROWS_MIN).unwrap()))
        };
        let slot = &self.vitals.predict.workers[worker];
        slot.begin(self.vitals.clock.now(), expected);
        let began = self.now();
        self.ends.push(Reverse((began + slice, worker)));
        self.busy[worker] = Some(Busy { began, job, slice });
    }

    fn end_slice(&mut self) {
        let Reverse((_, worker)) = self.ends.pop().unwrap();
        let Busy {
            began,
            mut job,
            slice,
        } = self.busy[worker].take().unwrap();
        self.vitals.predict.workers[worker]
            .busy_since
            .store(crate::platform::clock::Stamp::NEVER);
        job.done += slice;
        let arrival = self.arrivals[job.index];
        let unfinished = job.done < arrival.service;
        let time = self.now() - began;
        if unfinished {
            job.remaining = RemainingWork::new(&self.vitals, arrival.service - job.done);
            self.schedulers[worker].end(time, Some(job));
        } else {
            self.schedulers[worker].end(time, None);
            let lane = &self.vitals.predict;
            lane.record_service_time(arrival.service);
            let service_times = &self.deployment.service_times;
            service_times.record((0, 40 * arrival.rows), arrival.service, 1);
            if arrival.rows >= SLICE_ROWS_MIN {
                service_times.record_rows(arrival.rows, arrival.service);
            }
            if slice < arrival.service {
                service_times.record_large(arrival.service);
            }
            let after = self.now() - arrival.at;
            let in_time = after < arrival.patience;
            let outcome = if in_time {
                SimulatedOutcome::Answered(after)
            } else {
                SimulatedOutcome::InVain
            };
            self.settle(job.index, outcome);
        }
        self.begin_slices();
    }

    /// No reservation may be left behind, or it would weigh on admission for ever.
    fn check_all_is_given_back(&self) {
        let work = &self.vitals.predict.work;
        assert!(self.intake.is_empty() && self.suspended.is_empty());
        assert_eq!(work.admitted(), 0);
        assert_eq!(
            (work.waiting(), work.first_slices(), work.suspended()),
            (Duration::ZERO, Duration::ZERO, Duration::ZERO)
        );
    }
}
