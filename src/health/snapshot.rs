//! The input of verdicts: the vitals at one moment.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::config::{Config, StallPolicy};
use crate::platform::clock::Stamp;
use crate::vitals::{DeploymentVitals, ServerPhase, TrialVerdict, Trials, Vitals};

/// The options that affect verdicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long a worker may be on one prediction, and the acceptor on one job.
    pub stall_timeout: Duration,
    /// One stuck worker is enough to fail liveness, even if others make progress.
    pub any_stuck_is_fatal: bool,
    /// How long a trial may run while no real prediction succeeds.
    pub canary_timeout: Duration,
    /// Stuck workers get substitutes.
    pub replaces_stuck: bool,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Limits {
            stall_timeout: config.stall_timeout,
            any_stuck_is_fatal: config.verdicts.stall_policy == StallPolicy::Any,
            canary_timeout: config.canary_timeout(),
            replaces_stuck: config.verdicts.replace_stuck_workers,
        }
    }
}

/// A prediction worker that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerSnapshot {
    /// Since when it has been on its present slice, or on a prediction in one slice; `None` if
    /// idle.
    pub busy_since: Option<Stamp>,
    /// Whether a substitute has taken its place, or will at once: the main thread wakes up when a
    /// worker becomes stuck that may have a substitute.
    pub substituted: bool,
}

/// How long a thread may be missing: the main thread replaces it at once if it can.
pub(super) const REPLACED_WITHIN: Duration = Duration::from_secs(1);

/// How long after a worker becomes stuck its substitute is assumed to be coming.
const SUBSTITUTED_WITHIN: Duration = Duration::from_millis(250);

/// The acceptor thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Acceptor {
    /// Since when none is running; `None` if one is.
    pub missing_since: Option<Stamp>,
    /// Since when it has been on its present job; `None` if idle.
    pub busy_since: Option<Stamp>,
    /// The first and the last time it lost a job, with no job delivered between.
    pub losses: Option<(Stamp, Stamp)>,
}

/// The input of a verdict: the stamps at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The moment, in process time: only time in which the process ran counts.
    pub now: Stamp,
    /// What the options say.
    pub limits: Limits,
    /// The prediction workers that run.
    pub workers: Vec<WorkerSnapshot>,
    /// Since when none is running; `None` if any is.
    pub deserted_since: Option<Stamp>,
    /// Predictions that wait.
    pub waiting: usize,
    /// The later of two times: the queue became non-empty; a worker took a prediction.
    pub moved_at: Stamp,
    /// The acceptor.
    pub acceptor: Acceptor,
    /// The phase of the process.
    pub phase: ServerPhase,
    /// What the last trial said.
    pub trial: TrialVerdict,
    /// Since when a trial has been running.
    pub trial_running_since: Option<Stamp>,
    /// The first and the last failure of a model that had passed a trial before.
    pub failed_trials: Option<(Stamp, Stamp)>,
    /// When a real prediction last succeeded.
    pub succeeded_at: Stamp,
    /// When the system first and last refused a connection to the main listener, with none accepted
    /// between.
    pub accept_failures: Option<(Stamp, Stamp)>,
}

impl Snapshot {
    /// Reads the vitals of the process and its deployments at this moment; never blocks.
    ///
    /// Of several deployments, the worst trial and the latest success count.
    pub fn of<'a>(
        vitals: &Vitals,
        deployments: impl Iterator<Item = &'a DeploymentVitals> + Clone,
        limits: Limits,
    ) -> Self {
        let lane = &vitals.predict;
        // `waiting` is read before the stamps: a queue that moves in between then looks younger
        // than it is, never older. `now` is read last for the opposite reason, and each success is
        // read after the trial that it may replace.
        let waiting = lane.queue_length.load(Ordering::Acquire);
        let moved_at = lane.filled_at.load().max(lane.taken_at.load());
        let finished_from = lane.finished_from.load();
        let patience = limits.stall_timeout + SUBSTITUTED_WITHIN.min(limits.stall_timeout / 4);
        let looked_at = vitals.clock.now();
        let gets_substitute = |since: Stamp| {
            limits.replaces_stuck
                && since != Stamp::NEVER
                && finished_from > since
                && looked_at.since(since) < patience
        };
        // A thread that has just ended is being replaced, and counts as idle.
        let is_replaced =
            |ended: Stamp| ended != Stamp::NEVER && looked_at.since(ended) < REPLACED_WITHIN;
        let slots = lane.workers.iter();
        let workers: Vec<WorkerSnapshot> = slots
            .filter(|slot| slot.alive.load(Ordering::Acquire) || is_replaced(slot.ended_at.load()))
            .map(|slot| {
                let since = slot.busy_since.load();
                WorkerSnapshot {
                    busy_since: known(since),
                    substituted: slot.is_substituted() || gets_substitute(since),
                }
            })
            .collect();
        let last_ended = lane.workers.iter().map(|slot| slot.ended_at.load()).max();
        let acceptor = &vitals.acceptor;
        // A thread that has not ended has yet to begin: a server that cannot start its threads ends
        // at once.
        let missing_since = known(acceptor.ended_at.load());
        let has_ended = !acceptor.alive.load(Ordering::Acquire);
        let trials = deployments.clone().map(|deployment| &deployment.trials);
        let running = trials.clone().map(|trials| trials.running_since.load());
        let trial_running_since = running.filter_map(known).min();
        let failed_trials = trials.clone().find_map(Trials::failed_since_passed);
        let verdicts = trials.map(Trials::verdict);
        let trial = verdicts
            .reduce(TrialVerdict::worse)
            .unwrap_or(TrialVerdict::Untried);
        let successes = deployments.map(|deployment| deployment.succeeded_at.load());
        let succeeded_at = successes.max().unwrap_or(Stamp::NEVER);
        Snapshot {
            limits,
            deserted_since: last_ended.and_then(known).filter(|_| workers.is_empty()),
            workers,
            waiting,
            moved_at,
            acceptor: Acceptor {
                missing_since: missing_since.filter(|_| has_ended),
                busy_since: known(acceptor.busy_since.load()),
                losses: acceptor.losses.span(),
            },
            phase: vitals.phase(),
            trial,
            trial_running_since,
            failed_trials,
            succeeded_at,
            accept_failures: vitals.listeners[0].accept_failures.span(),
            now: vitals.clock.now(),
        }
    }

    /// A server with two idle workers, for tests.
    #[cfg(test)]
    pub(crate) fn quiet(now: Stamp) -> Self {
        let idle = WorkerSnapshot {
            busy_since: None,
            substituted: false,
        };
        Snapshot {
            now,
            limits: Limits {
                stall_timeout: Duration::from_secs(60),
                any_stuck_is_fatal: false,
                canary_timeout: Duration::from_secs(30),
                replaces_stuck: true,
            },
            workers: vec![idle, idle],
            deserted_since: None,
            waiting: 0,
            moved_at: Stamp::NEVER,
            acceptor: Acceptor::default(),
            phase: ServerPhase::Serving,
            trial: TrialVerdict::Passed,
            trial_running_since: None,
            failed_trials: None,
            succeeded_at: Stamp::NEVER,
            accept_failures: None,
        }
    }

    /// Whether a worker has made no progress for `stall_timeout`: no finished slice and no finished
    /// prediction.
    pub fn is_stuck(&self, worker: &WorkerSnapshot) -> bool {
        worker
            .busy_since
            .is_some_and(|since| self.now.since(since) >= self.limits.stall_timeout)
    }

    /// The workers that are stuck.
    pub fn stuck(&self) -> impl Iterator<Item = &WorkerSnapshot> {
        self.workers.iter().filter(|worker| self.is_stuck(worker))
    }
}

fn known(stamp: Stamp) -> Option<Stamp> {
    (stamp != Stamp::NEVER).then_some(stamp)
}
