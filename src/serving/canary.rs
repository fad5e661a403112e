//! The canary: tries the model on its trial row, on its own thread, one trial at a time.
//!
//! A trial uses the same code as a prediction and yields the CPU like one, but never counts as one.
//! Failed predictions never decide a verdict; they request a trial, so no client can change a
//! verdict. Probes read the last verdict; a trial that hangs blocks nobody.

use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use crate::lanes::cpu_priority::{CpuUse, Priority};
use crate::models::{Loaded, golden};
use crate::platform::clock::Stamp;
use crate::platform::fault::ThreadRole;
use crate::platform::panic;
use crate::serving::context::Context;
use crate::vitals::{DeploymentVitals, TrialVerdict};

/// This many failures in a row request a trial at once.
const FAILURES: u32 = 3;

/// This long with nothing but failures requests a trial, however few they are.
const FAILING_FOR: Duration = Duration::from_secs(1);

/// Minimum time between trials; `--canary-interval`, if that is shorter.
const REST: Duration = Duration::from_secs(1);

/// Tries the model every `--canary-interval`, unless a recent real success makes the trial
/// unnecessary, and sooner if real predictions fail or one had no finite answer. `wanted` wakes it
/// to look again.
pub fn run(context: &Context, wanted: &Receiver<()>) {
    let mut priority = Priority::new(context.config.yielding, CpuUse::Computing);
    let interval = context.config.canary_interval;
    let vitals = &context.vitals;
    for deployment in context.registry.all() {
        // An earlier canary thread's trial ended with that thread.
        deployment.vitals.trials.give_up();
    }
    loop {
        let deployments = context.registry.all().into_iter();
        let waits = deployments.map(|deployment| {
            let wait = if deployment.vitals.trials.verdict() == TrialVerdict::Untried {
                // The loader makes the first one.
                interval
            } else {
                let now = vitals.clock.now();
                TrialTimes::of(&deployment.vitals, now, context.config.stall_timeout).wait(interval)
            };
            (wait, deployment)
        });
        let Some((wait, deployment)) = waits.min_by_key(|(wait, _)| *wait) else {
            return;
        };
        if !wait.is_zero() {
            match wanted.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => continue,
                // The context holds the other end for as long as this thread runs.
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
        let trials = &deployment.vitals.trials;
        trials.begin(vitals.clock.now());
        context.faults.inject(ThreadRole::Canary);
        priority.adapt(vitals.predict.service_time());
        if let Some(version) = deployment.slot.get() {
            let verdict = try_model(&version.loaded);
            trials.end(version.number, verdict, vitals.clock.now());
            context.waker.wake();
        }
    }
}

/// What decides when the next trial is due.
#[derive(Debug, Clone, Copy)]
struct TrialTimes {
    now: Stamp,
    began_at: Stamp,
    ended_at: Stamp,
    passed: bool,
    succeeded_at: Stamp,
    /// When a prediction last had no finite answer, because of its input or of the model.
    doubted_at: Stamp,
    /// The first and the last of the failures in a row.
    failures: Option<(u32, Stamp, Stamp)>,
    /// When failing trials make `/livez` fail, which needs one more failure by then.
    fatal: Option<(Stamp, Duration)>,
}

impl TrialTimes {
    fn of(vitals: &DeploymentVitals, now: Stamp, stall_timeout: Duration) -> Self {
        let trials = &vitals.trials;
        let count = trials.failures.count();
        let span = trials.failures.span();
        TrialTimes {
            began_at: trials.began_at.load(),
            ended_at: trials.ended_at.load(),
            passed: trials.verdict() == TrialVerdict::Passed,
            succeeded_at: vitals.succeeded_at.load(),
            doubted_at: trials.doubted_at.load(),
            failures: span.map(|(first, last)| (count, first, last)),
            fatal: trials.failed_since_passed().and_then(|(first, last)| {
                let from = first.max(vitals.succeeded_at.load());
                (last.since(from) < stall_timeout).then_some((from, stall_timeout))
            }),
            now,
        }
    }

    /// Returns how far off the next trial is.
    fn wait(&self, interval: Duration) -> Duration {
        let remaining = |from: Stamp, delay: Duration| delay.saturating_sub(self.now.since(from));
        let last_evidence = if self.passed {
            self.began_at.max(self.succeeded_at)
        } else {
            self.began_at
        };
        let routine = remaining(last_evidence, interval);
        let asked = match self.failures {
            // Failures before the last trial have had theirs.
            Some((_, _, last)) if last < self.began_at => None,
            Some((count, ..)) if count >= FAILURES => Some(Duration::ZERO),
            Some((_, first, _)) => Some(remaining(first, FAILING_FOR)),
            None => None,
        };
        let doubted = (self.doubted_at > self.began_at).then_some(Duration::ZERO);
        let asked = doubted.or(asked);
        let due = asked.map_or(routine, |asked| asked.min(routine));
        // A verdict that restarts the server needs evidence from that moment.
        let due = self
            .fatal
            .map_or(due, |(from, limit)| due.min(remaining(from, limit)));
        due.max(remaining(self.ended_at, REST.min(interval)))
    }
}

/// Tries the model once, with panics caught.
pub fn try_model(loaded: &Loaded) -> TrialVerdict {
    match panic::catch(|| golden::try_model(loaded)) {
        Ok(Ok(())) => TrialVerdict::Passed,
        Ok(Err(reason)) => TrialVerdict::Failed(reason.0.into()),
        Err(panic) => TrialVerdict::Failed(format!("the model panicked: {panic}").into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);

    fn at(millis: u64) -> Stamp {
        Stamp(millis * 1_000_000)
    }

    #[test]
    fn a_trial_is_due_after_the_interval_and_sooner_where_predictions_fail() {
        let calm = TrialTimes {
            now: at(100_000),
            began_at: at(99_000),
            ended_at: at(99_000),
            passed: true,
            succeeded_at: Stamp::NEVER,
            doubted_at: Stamp::NEVER,
            failures: None,
            fatal: None,
        };
        #[rustfmt::skip]
        let table = [
            ("nine seconds are left", calm, 9000),
            ("the interval is over", TrialTimes { began_at: at(90_000), ended_at: at(90_000), ..calm }, 0),
            ("a long one is followed by a rest", TrialTimes { began_at: at(80_000), ended_at: at(99_800), ..calm }, 800),
            ("a real success stands for it", TrialTimes { began_at: at(1), ended_at: at(1), succeeded_at: at(99_500), ..calm }, 9500),
            ("but not for one that failed", TrialTimes { began_at: at(90_000), ended_at: at(90_000), succeeded_at: at(99_500), passed: false, ..calm }, 0),
            ("two failures are no reason yet", TrialTimes { failures: Some((2, at(99_900), at(99_950))), ..calm }, 900),
            ("a second of failures is one", TrialTimes { failures: Some((2, at(99_000), at(99_950))), ..calm }, 0),
            ("so is the second after a single one", TrialTimes { began_at: at(98_000), ended_at: at(98_000), failures: Some((1, at(99_000), at(99_000))), ..calm }, 0),
            ("three in a row are one", TrialTimes { failures: Some((3, at(99_990), at(99_999))), ..calm }, 0),
            ("but once a second", TrialTimes { began_at: at(99_700), ended_at: at(99_700), failures: Some((9, at(90_000), at(99_999))), ..calm }, 700),
            ("what would be fatal is looked at then", TrialTimes { passed: false, fatal: Some((at(50_000), Duration::from_secs(55))), ..calm }, 5000),
            ("a doubt is reason enough", TrialTimes { began_at: at(98_000), ended_at: at(98_000), doubted_at: at(99_500), succeeded_at: at(99_900), ..calm }, 0),
            ("but once a second too", TrialTimes { doubted_at: at(99_500), ended_at: at(99_400), ..calm }, 400),
            ("an old one has had its trial", TrialTimes { doubted_at: at(98_999), ..calm }, 9000),
            ("old failures have had theirs", TrialTimes { failures: Some((9, at(90_000), at(98_999))), ..calm }, 9000),
        ];
        for (name, moment, expected) in table {
            let wait = moment.wait(INTERVAL);
            assert_eq!(wait, Duration::from_millis(expected), "{name}");
        }
    }

    #[test]
    fn with_a_short_interval_the_rest_is_as_short() {
        let moment = TrialTimes {
            now: at(100_050),
            began_at: at(100_000),
            ended_at: at(100_020),
            passed: false,
            succeeded_at: Stamp::NEVER,
            doubted_at: Stamp::NEVER,
            failures: Some((3, at(100_040), at(100_050))),
            fatal: None,
        };
        assert_eq!(
            moment.wait(Duration::from_millis(40)),
            Duration::from_millis(10)
        );
    }
}
