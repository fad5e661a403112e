//! Trials of the model: when they ran, their results, and the failures that request one.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{AtomicStamp, Streak};
use crate::platform::clock::Stamp;

/// The result of the model's last trial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialVerdict {
    /// No trial has ended yet.
    Untried,
    /// The model gave the expected answer.
    Passed,
    /// It did not, and why.
    Failed(Arc<str>),
}

impl TrialVerdict {
    /// The worse of two.
    pub fn worse(self, other: Self) -> Self {
        match (&self, &other) {
            (TrialVerdict::Failed(_), _) | (_, TrialVerdict::Passed) => self,
            (_, TrialVerdict::Failed(_)) | (TrialVerdict::Passed, _) => other,
            (TrialVerdict::Untried, TrialVerdict::Untried) => self,
        }
    }
}

/// Failed predictions without a success between them.
#[derive(Debug, Default)]
pub struct Failures {
    count: AtomicU32,
    streak: Streak,
}

impl Failures {
    /// Notes one.
    pub fn add(&self, now: Stamp) {
        self.streak.fail(now);
        self.count.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes a success.
    pub fn end(&self) {
        self.streak.succeed();
        if self.count.load(Ordering::Acquire) != 0 {
            self.count.store(0, Ordering::Release);
        }
    }

    /// How many there are.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Acquire)
    }

    /// The first and the last of them.
    pub fn span(&self) -> Option<(Stamp, Stamp)> {
        self.streak.span()
    }
}

/// The trials of the served model.
#[derive(Debug)]
pub struct Trials {
    /// Since when the present trial has been running; never if none is.
    pub running_since: AtomicStamp,
    /// When the last trial began.
    pub began_at: AtomicStamp,
    /// When the last trial ended.
    pub ended_at: AtomicStamp,
    /// Failed predictions since the last success.
    pub failures: Failures,
    /// When a prediction last had no finite answer although the model did not fail.
    pub doubted_at: AtomicStamp,
    /// Failed trials since the last that passed.
    failing: Streak,
    /// Whether this model has ever passed a trial.
    passed: AtomicBool,
    /// The last verdict, and the model version that it is about.
    verdict: Mutex<(u64, TrialVerdict)>,
}

impl Default for Trials {
    fn default() -> Self {
        Trials {
            running_since: AtomicStamp::default(),
            began_at: AtomicStamp::default(),
            ended_at: AtomicStamp::default(),
            failures: Failures::default(),
            doubted_at: AtomicStamp::default(),
            failing: Streak::default(),
            passed: AtomicBool::new(false),
            verdict: Mutex::new((0, TrialVerdict::Untried)),
        }
    }
}

impl Trials {
    /// Notes that a trial begins.
    pub fn begin(&self, now: Stamp) {
        self.began_at.store(now);
        self.running_since.store(now);
    }

    /// Records the result of a trial of this model version, unless another version is served by
    /// now.
    pub fn end(&self, version: u64, verdict: TrialVerdict, now: Stamp) {
        // A poisoned lock still holds a complete verdict, because it is replaced in one assignment.
        let mut last = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if version < last.0 {
            return;
        }
        if version > last.0 {
            // Earlier failures and hangs were another model's.
            self.failing.succeed();
            self.failures.end();
            self.passed.store(false, Ordering::Release);
        }
        match &verdict {
            TrialVerdict::Passed => {
                self.failing.succeed();
                self.passed.store(true, Ordering::Release);
            }
            TrialVerdict::Failed(_) => self.failing.fail(now),
            TrialVerdict::Untried => {}
        }
        *last = (version, verdict);
        self.ended_at.store(now);
        self.running_since.store(Stamp::NEVER);
    }

    /// Records that the canary's thread ended during a trial.
    pub fn give_up(&self) {
        self.running_since.store(Stamp::NEVER);
    }

    /// What the last one said.
    pub fn verdict(&self) -> TrialVerdict {
        let last = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        last.1.clone()
    }

    /// The first and the last failed trial of a model that had passed one; `None` if the last one
    /// passed, or none ever did.
    pub fn failed_since_passed(&self) -> Option<(Stamp, Stamp)> {
        let span = self.failing.span()?;
        self.passed.load(Ordering::Acquire).then_some(span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replaced_model_does_says_nothing_about_its_successor() {
        let trials = Trials::default();
        let failed = || TrialVerdict::Failed("because".into());
        trials.end(1, TrialVerdict::Passed, Stamp(1));
        trials.end(1, failed(), Stamp(2));
        assert!(trials.failed_since_passed().is_some());
        trials.end(2, TrialVerdict::Passed, Stamp(3));
        trials.end(1, failed(), Stamp(4));
        assert_eq!(trials.verdict(), TrialVerdict::Passed);
        assert_eq!(trials.failed_since_passed(), None);
    }
}
