//! Verdicts: is the service alive, and would a prediction made now work?
//!
//! Each check has a name and a pure function of a [`Snapshot`]. Checks compare time stamps and
//! never send anything through the queue they judge. Idle, slow and overloaded servers are alive; a
//! stuck one is not.

mod snapshot;

use std::time::Duration;

use humantime::format_duration;

use crate::vitals::{ServerPhase, TrialVerdict};

use self::snapshot::REPLACED_WITHIN;
pub use self::snapshot::{Acceptor, Limits, Snapshot, WorkerSnapshot};

/// First line of a failing `/livez`.
pub const NOT_ALIVE: &str = "Service has stopped completing predictions";

/// How long the system may refuse connections; the server closes some of its own meanwhile.
const REFUSED_FOR: Duration = Duration::from_secs(5);

/// Refusals this far apart count as separate events: while connections wait, accepting is retried
/// every 50 ms.
const REFUSED_AGAIN_WITHIN: Duration = Duration::from_secs(2);

/// The result of a check: nothing, or the reason why it fails.
pub type CheckResult = Result<(), String>;

/// The meaning of a failing check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meaning {
    /// Predictions no longer complete, and a restart would help.
    NotAlive,
    /// Temporarily not ready, without a fault: loading, draining.
    NotNow,
    /// A prediction made now would not work.
    NotWorking,
}

/// One check of a verdict.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// Its name in `?verbose`, `?exclude` and `/livez/NAME`.
    pub name: &'static str,
    /// What its failing means.
    pub meaning: Meaning,
    /// Its verdict on a snapshot.
    pub result: fn(&Snapshot) -> CheckResult,
}

/// A check that fails, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedCheck {
    /// The check's name.
    pub check: &'static str,
    /// What it means.
    pub meaning: Meaning,
    /// The reason, in words.
    pub reason: String,
}

const ACCEPTOR: Check = Check::new("acceptor", Meaning::NotAlive, acceptor_moves);
const PREDICTIONS: Check = Check::new("predictions", Meaning::NotAlive, queue_moves);
const WORKERS: Check = Check::new("workers", Meaning::NotAlive, workers_move);
const INFERENCE: Check = Check::new("inference", Meaning::NotAlive, model_still_works);
const DRAINING: Check = Check::new("draining", Meaning::NotNow, is_not_draining);
const MODEL: Check = Check::new("model", Meaning::NotNow, model_is_loaded);
const LANE: Check = Check::new("lane", Meaning::NotWorking, lane_has_workers);
const LISTENERS: Check = Check::new("listeners", Meaning::NotWorking, connections_are_accepted);
const CANARY: Check = Check::new("canary", Meaning::NotWorking, trial_passes);

const LIVENESS: [Check; 4] = [ACCEPTOR, PREDICTIONS, WORKERS, INFERENCE];

/// As in kube-apiserver, a server that is not alive is not ready.
const READINESS: [Check; 9] = [
    ACCEPTOR,
    PREDICTIONS,
    WORKERS,
    INFERENCE,
    DRAINING,
    MODEL,
    LANE,
    LISTENERS,
    CANARY,
];

const STARTUP: [Check; 1] = [MODEL];

/// The questions that probes ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeKind {
    /// Do predictions still complete?
    Liveness,
    /// Would a prediction made now work?
    Readiness,
    /// Has the first model been loaded and tried?
    Startup,
    /// How are things?
    Status,
}

/// Returns the checks of a probe in order; `/statusz` has none.
pub fn checks(kind: ProbeKind) -> &'static [Check] {
    match kind {
        ProbeKind::Liveness => &LIVENESS,
        ProbeKind::Readiness => &READINESS,
        ProbeKind::Startup => &STARTUP,
        ProbeKind::Status => &[],
    }
}

/// Lists the names of some checks for a person.
pub fn names(checks: &[Check]) -> String {
    let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
    names.join(", ")
}

impl Check {
    const fn new(
        name: &'static str,
        meaning: Meaning,
        result: fn(&Snapshot) -> CheckResult,
    ) -> Self {
        Check {
            name,
            meaning,
            result,
        }
    }

    /// Runs the check; returns what it found if it fails.
    pub fn failure(&self, snapshot: &Snapshot) -> Option<FailedCheck> {
        let reason = (self.result)(snapshot).err()?;
        Some(FailedCheck {
            check: self.name,
            meaning: self.meaning,
            reason,
        })
    }
}

/// Runs the checks of a probe and returns the first that fails.
///
/// Liveness compares time stamps only. It fails if a worker has made no progress for
/// `stall_timeout` and no other makes progress or is idle; if predictions wait and none was taken
/// for as long; if the acceptor is gone or has been on one job for as long; or if a model that once
/// passed its trial has failed every one for as long and nothing else succeeded. Readiness also
/// says whether a prediction made now would work; load alone never changes it. Startup passes once
/// the first model was loaded and tried, and then for ever.
pub fn failure(kind: ProbeKind, snapshot: &Snapshot) -> Option<FailedCheck> {
    checks(kind)
        .iter()
        .find_map(|check| check.failure(snapshot))
}

/// Describes what is wrong with a server that is alive: some of its workers are stuck.
pub fn degradation(snapshot: &Snapshot) -> Option<String> {
    let stuck = snapshot.stuck().count();
    if stuck == 0 {
        return None;
    }
    let replaced = snapshot.stuck().filter(|worker| worker.substituted).count();
    Some(format!(
        "{stuck} of {} prediction workers have made no progress for --stall-timeout ({}) or longer, {replaced} of them replaced",
        snapshot.workers.len(),
        format_duration(snapshot.limits.stall_timeout),
    ))
}

fn acceptor_moves(snapshot: &Snapshot) -> CheckResult {
    let acceptor = &snapshot.acceptor;
    let limit = snapshot.limits.stall_timeout;
    let age = |stamp| snapshot.now.since(stamp);
    if acceptor
        .missing_since
        .is_some_and(|has_ended| age(has_ended) >= limit.min(REPLACED_WITHIN))
    {
        return Err("the acceptor thread has ended and no other could be started".to_owned());
    }
    if acceptor.busy_since.is_some_and(|since| age(since) >= limit) {
        return Err(format!(
            "the acceptor has been on one job for --stall-timeout ({}) or longer",
            format_duration(limit),
        ));
    }
    // Losses that have ended say nothing about present jobs.
    let lost = acceptor
        .losses
        .is_some_and(|(first, last)| age(first) >= limit && age(last) < limit);
    if lost {
        return Err(format!(
            "the acceptor has lost every job for --stall-timeout ({}) or longer",
            format_duration(limit),
        ));
    }
    Ok(())
}

fn queue_moves(snapshot: &Snapshot) -> CheckResult {
    let limit = snapshot.limits.stall_timeout;
    if snapshot.waiting == 0 || snapshot.now.since(snapshot.moved_at) < limit {
        return Ok(());
    }
    Err(format!(
        "{} predictions wait and no worker has taken one for --stall-timeout ({}) or longer",
        snapshot.waiting,
        format_duration(limit),
    ))
}

fn workers_move(snapshot: &Snapshot) -> CheckResult {
    let limit = format_duration(snapshot.limits.stall_timeout);
    if snapshot.limits.any_stuck_is_fatal && snapshot.stuck().next().is_some() {
        return Err(format!(
            "{} of {} prediction workers have made no progress for --stall-timeout ({limit}) or longer, and --stall-policy is any",
            snapshot.stuck().count(),
            snapshot.workers.len(),
        ));
    }
    // Ignore stuck workers that have a substitute.
    let mut counted = 0;
    for worker in &snapshot.workers {
        match (snapshot.is_stuck(worker), worker.substituted) {
            (true, true) => {}
            (true, false) => counted += 1,
            (false, _) => return Ok(()),
        }
    }
    if counted == 0 {
        return Ok(());
    }
    Err(format!(
        "all {counted} prediction workers have made no progress for --stall-timeout ({limit}) or longer",
    ))
}

fn model_still_works(snapshot: &Snapshot) -> CheckResult {
    let limit = snapshot.limits.stall_timeout;
    let TrialVerdict::Failed(reason) = &snapshot.trial else {
        return Ok(());
    };
    let Some((first, last)) = snapshot.failed_trials else {
        return Ok(());
    };
    // A prediction that succeeds is better evidence than a trial, and one failed trial is not
    // enough.
    if last.since(first.max(snapshot.succeeded_at)) < limit {
        return Ok(());
    }
    Err(format!(
        "every trial of this model has failed for --stall-timeout ({}) or longer, though it had passed before: {reason}",
        format_duration(limit),
    ))
}

fn is_not_draining(snapshot: &Snapshot) -> CheckResult {
    if snapshot.phase >= ServerPhase::Draining {
        return Err("draining".to_owned());
    }
    Ok(())
}

fn model_is_loaded(snapshot: &Snapshot) -> CheckResult {
    if snapshot.trial == TrialVerdict::Untried {
        return Err("model is loading".to_owned());
    }
    Ok(())
}

fn lane_has_workers(snapshot: &Snapshot) -> CheckResult {
    let deserted = snapshot
        .deserted_since
        .is_some_and(|since| snapshot.now.since(since) >= REPLACED_WITHIN);
    if deserted {
        return Err("no prediction worker runs and none could be started".to_owned());
    }
    Ok(())
}

fn connections_are_accepted(snapshot: &Snapshot) -> CheckResult {
    let age = |stamp| snapshot.now.since(stamp);
    let refused = snapshot
        .accept_failures
        .is_some_and(|(first, last)| age(first) >= REFUSED_FOR && age(last) < REFUSED_AGAIN_WITHIN);
    if refused {
        return Err(format!(
            "the system has refused every connection to the main listener for {} (descriptors, memory); the log has its reason",
            format_duration(REFUSED_FOR),
        ));
    }
    Ok(())
}

fn trial_passes(snapshot: &Snapshot) -> CheckResult {
    if let TrialVerdict::Failed(reason) = &snapshot.trial {
        return Err(format!("Model inference failed: {reason}"));
    }
    let limit = snapshot.limits.canary_timeout;
    match snapshot.trial_running_since {
        // It is late, not failed: on a busy machine real predictions vouch for the model.
        Some(since) if snapshot.now.since(since) >= limit && snapshot.succeeded_at < since => {
            Err(format!(
                "Model inference failed: the trial has taken --canary-timeout ({}) or longer and no prediction has succeeded meanwhile",
                format_duration(limit),
            ))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
