//! Verdicts: is the service alive, would a prediction made now work?
//!
//! Pure functions of a [`Snapshot`]. They compare time stamps and never send a check through the
//! queue they judge. Idle, slow and overloaded servers are alive; a stuck one is not.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock::Stamp;
use crate::vitals::{Phase, TrialVerdict, Vitals};

/// First line of a failing `/livez`.
pub const NOT_ALIVE: &str = "Service has stopped completing predictions";

/// What a verdict is made from: the prediction lane's stamps at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The moment, in process time.
    pub now: Stamp,
    /// For how long a worker may be on one prediction.
    pub stall_timeout: Duration,
    /// For each running worker since when it is on its present prediction; `None` if it is idle.
    pub workers: Vec<Option<Stamp>>,
    /// Predictions that wait.
    pub waiting: usize,
    /// The later of: the queue became non-empty; a worker took a prediction up.
    pub moved_at: Stamp,
    /// Where the process stands in its life.
    pub phase: Phase,
    /// What the last trial said.
    pub trial: TrialVerdict,
}

impl Snapshot {
    /// Reads the vitals at this moment.
    pub fn of(vitals: &Vitals, stall_timeout: Duration) -> Self {
        // `waiting` is read before the stamps: a queue that moves in between then looks younger,
        // never older, than it is. `now` comes last for the same reason the other way about.
        let waiting = vitals.predict.queue_length.load(Ordering::Acquire);
        let moved_at = vitals
            .predict
            .filled_at
            .load()
            .max(vitals.predict.taken_at.load());
        let running = vitals.predict.workers.iter();
        let workers = running
            .filter(|worker| worker.alive.load(Ordering::Acquire))
            .map(|worker| worker.busy_since.load())
            .map(|since| (since != Stamp::NEVER).then_some(since))
            .collect();
        Snapshot {
            stall_timeout,
            workers,
            waiting,
            moved_at,
            phase: vitals.phase(),
            trial: vitals.trial(),
            now: vitals.clock.now(),
        }
    }

    fn is_stuck(&self, worker: &Option<Stamp>) -> bool {
        worker.is_some_and(|since| self.now.since(since) >= self.stall_timeout)
    }
}

/// What a check says: nothing, or the reason why it fails.
pub type Outcome = Result<(), String>;

/// A check: its name and its verdict on a snapshot.
pub type Check = (&'static str, fn(&Snapshot) -> Outcome);

/// The checks of `/livez`; any that fails means that a restart would help.
pub const LIVENESS: [Check; 2] = [("workers", workers_move), ("predictions", queue_moves)];

/// The checks that `/readyz` makes beyond those of `/livez`.
pub const READINESS: [Check; 3] = [
    ("draining", is_not_draining),
    ("model", model_is_loaded),
    ("trial", trial_passed),
];

/// The checks of `/startupz`.
pub const STARTUP: [Check; 1] = [("model", model_is_loaded)];

/// Whether a prediction made now would work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It would.
    Ready,
    /// Not now, without anything being wrong: loading or draining (503).
    NotNow(String),
    /// The last trial failed (500).
    Failing(String),
    /// Liveness fails (500), and why.
    NotAlive(String),
}

/// Judges from time stamps alone whether predictions still complete.
///
/// # Errors
/// The reason, when every running worker has been on its present prediction for `stall_timeout`, or
/// when predictions wait and none was taken up for as long. `now` counts only time in which the
/// process ran.
pub fn liveness(snapshot: &Snapshot) -> Outcome {
    LIVENESS.iter().try_for_each(|(_, check)| check(snapshot))
}

/// Judges whether a prediction made now would work; load alone never turns it.
pub fn readiness(snapshot: &Snapshot) -> Readiness {
    if let Err(reason) = liveness(snapshot) {
        return Readiness::NotAlive(reason);
    }
    let waits = is_not_draining(snapshot).and_then(|()| model_is_loaded(snapshot));
    if let Err(reason) = waits {
        return Readiness::NotNow(reason);
    }
    match trial_passed(snapshot) {
        Ok(()) => Readiness::Ready,
        Err(reason) => Readiness::Failing(reason),
    }
}

/// Judges whether the process has started: the first model is loaded and was tried. Once it has, it
/// has for ever.
///
/// # Errors
/// What it waits for.
pub fn startup(snapshot: &Snapshot) -> Outcome {
    STARTUP.iter().try_for_each(|(_, check)| check(snapshot))
}

fn workers_move(snapshot: &Snapshot) -> Outcome {
    let all_stuck = !snapshot.workers.is_empty()
        && snapshot
            .workers
            .iter()
            .all(|worker| snapshot.is_stuck(worker));
    if !all_stuck {
        return Ok(());
    }
    Err(format!(
        "all {} prediction workers have been on their present prediction for --stall-timeout ({}) or longer",
        snapshot.workers.len(),
        humantime::format_duration(snapshot.stall_timeout),
    ))
}

fn queue_moves(snapshot: &Snapshot) -> Outcome {
    if snapshot.waiting == 0 || snapshot.now.since(snapshot.moved_at) < snapshot.stall_timeout {
        return Ok(());
    }
    Err(format!(
        "{} predictions wait and no worker has taken one up for --stall-timeout ({}) or longer",
        snapshot.waiting,
        humantime::format_duration(snapshot.stall_timeout),
    ))
}

fn is_not_draining(snapshot: &Snapshot) -> Outcome {
    if snapshot.phase >= Phase::Draining {
        return Err("draining".to_owned());
    }
    Ok(())
}

fn model_is_loaded(snapshot: &Snapshot) -> Outcome {
    if snapshot.trial == TrialVerdict::Untried {
        return Err("model is loading".to_owned());
    }
    Ok(())
}

fn trial_passed(snapshot: &Snapshot) -> Outcome {
    match &snapshot.trial {
        TrialVerdict::Failed(reason) => Err(trial_failure(reason)),
        TrialVerdict::Passed | TrialVerdict::Untried => Ok(()),
    }
}

fn trial_failure(reason: &Arc<str>) -> String {
    format!("Model inference failed: {reason}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(60);

    fn at(seconds: u64) -> Stamp {
        Stamp(seconds * 1_000_000_000)
    }

    fn quiet() -> Snapshot {
        Snapshot {
            now: at(1_000_000),
            stall_timeout: LIMIT,
            workers: vec![None, None],
            waiting: 0,
            moved_at: Stamp::NEVER,
            phase: Phase::Serving,
            trial: TrialVerdict::Passed,
        }
    }

    #[test]
    fn liveness_fails_only_where_predictions_no_longer_complete() {
        let now = quiet().now;
        let ago = |seconds: u64| Stamp(now.0 - seconds * 1_000_000_000);
        type Row = (&'static str, Vec<Option<Stamp>>, usize, Stamp, bool);
        #[rustfmt::skip]
        let table: &[Row] = &[
            ("idle for days", vec![None, None], 0, ago(900_000), true),
            ("busy within the limit", vec![Some(ago(59)), Some(ago(59))], 0, ago(59), true),
            ("one stuck, one idle", vec![Some(ago(600)), None], 0, ago(600), true),
            ("one stuck, one moving", vec![Some(ago(600)), Some(ago(1))], 5, ago(1), true),
            ("all stuck", vec![Some(ago(60)), Some(ago(61))], 0, ago(60), false),
            ("all stuck with a queue", vec![Some(ago(600)), Some(ago(600))], 9, ago(600), false),
            ("overloaded but moving", vec![Some(ago(1)), Some(ago(2))], 256, ago(1), true),
            ("jobs wait, workers idle and deaf", vec![None, None], 1, ago(60), false),
            ("jobs have waited a little", vec![None, None], 1, ago(59), true),
            ("no worker runs, nothing waits", vec![], 0, ago(600), true),
            ("no worker runs, jobs wait", vec![], 3, ago(60), false),
            ("the survivor is stuck", vec![Some(ago(60))], 0, ago(60), false),
        ];
        for (name, workers, waiting, moved_at, alive) in table {
            let snapshot = Snapshot {
                workers: workers.clone(),
                waiting: *waiting,
                moved_at: *moved_at,
                ..quiet()
            };
            assert_eq!(liveness(&snapshot).is_ok(), *alive, "{name}");
        }
    }

    #[test]
    fn readiness_says_whether_a_prediction_made_now_would_work() {
        let failed = TrialVerdict::Failed("wrong answer".into());
        let stuck = Snapshot {
            workers: vec![Some(Stamp(1))],
            ..quiet()
        };
        let verdict = |phase, trial| {
            readiness(&Snapshot {
                phase,
                trial,
                ..quiet()
            })
        };
        assert_eq!(readiness(&quiet()), Readiness::Ready);
        assert_eq!(
            verdict(Phase::Starting, TrialVerdict::Untried),
            Readiness::NotNow("model is loading".to_owned())
        );
        assert!(matches!(
            verdict(Phase::Draining, TrialVerdict::Passed),
            Readiness::NotNow(text) if text == "draining"
        ));
        assert_eq!(
            verdict(Phase::Serving, failed),
            Readiness::Failing("Model inference failed: wrong answer".to_owned())
        );
        assert!(matches!(readiness(&stuck), Readiness::NotAlive(_)));
    }
}
