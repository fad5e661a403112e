//! How predictions ended, and how long they took, by outcome.
//!
//! Written by connection threads, once per prediction. Durations are kept apart by outcome, because
//! a refusal takes microseconds: together, a server would look faster the more it refused.

use std::time::{Duration, Instant};

use super::{Counter, Histogram};
use crate::error::Code;

/// How a prediction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PredictionOutcome {
    /// It was answered 200.
    Ok,
    /// The request was wrong: 4xx.
    Rejected,
    /// The model or the server failed: 500.
    Failed,
    /// It was not admitted.
    Refused,
    /// It waited too long and was not computed.
    Expired,
    /// It was admitted and missed its deadline: 504.
    DeadlineExceeded,
    /// Its client left before the answer.
    Abandoned,
}

impl PredictionOutcome {
    /// All outcomes, in declaration order.
    pub const ALL: [PredictionOutcome; 7] = [
        PredictionOutcome::Ok,
        PredictionOutcome::Rejected,
        PredictionOutcome::Failed,
        PredictionOutcome::Refused,
        PredictionOutcome::Expired,
        PredictionOutcome::DeadlineExceeded,
        PredictionOutcome::Abandoned,
    ];

    /// The outcome of a prediction that is answered with this error.
    pub fn of(code: Code) -> Self {
        match code {
            Code::Expired => PredictionOutcome::Expired,
            Code::DeadlineExceeded => PredictionOutcome::DeadlineExceeded,
            code if Refusals::place(code).is_some() => PredictionOutcome::Refused,
            code if code.status() >= 500 => PredictionOutcome::Failed,
            _ => PredictionOutcome::Rejected,
        }
    }

    /// Its name in labels.
    pub fn name(self) -> &'static str {
        match self {
            PredictionOutcome::Ok => "ok",
            PredictionOutcome::Rejected => "rejected",
            PredictionOutcome::Failed => "failed",
            PredictionOutcome::Refused => "refused",
            PredictionOutcome::Expired => "expired",
            PredictionOutcome::DeadlineExceeded => "deadline_exceeded",
            PredictionOutcome::Abandoned => "abandoned",
        }
    }

    /// Whether a worker has taken it, so that its waiting time is known.
    pub fn was_taken_up(self) -> bool {
        self.was_answered() || self == PredictionOutcome::Expired
    }

    /// Whether a worker has computed it, so that its service time is known.
    pub fn was_answered(self) -> bool {
        matches!(
            self,
            PredictionOutcome::Ok | PredictionOutcome::Rejected | PredictionOutcome::Failed
        )
    }
}

/// Ended predictions, with their durations, by outcome.
#[derive(Debug, Default)]
pub struct OutcomeCounts {
    waiting: [Histogram; PredictionOutcome::ALL.len()],
    service: [Histogram; PredictionOutcome::ALL.len()],
    sojourn: [Histogram; PredictionOutcome::ALL.len()],
}

impl OutcomeCounts {
    /// Records the end of a prediction with a reply from a worker or the lane. `error` is set if
    /// that was an error; the service time is zero if no worker computed it.
    ///
    /// The sojourn time is measured by itself, because sliced predictions also wait between slices.
    pub fn replied(
        &self,
        error: Option<Code>,
        waiting_time: Duration,
        service_time: Duration,
        arrived: Instant,
    ) {
        let outcome = error.map_or(PredictionOutcome::Ok, PredictionOutcome::of);
        if outcome.was_taken_up() {
            self.waiting[outcome as usize].observe(waiting_time);
        }
        if outcome.was_answered() && !service_time.is_zero() {
            self.service[outcome as usize].observe(service_time);
        }
        self.ended(outcome, arrived);
    }

    /// Records the end of a prediction without a reply.
    pub fn ended(&self, outcome: PredictionOutcome, began: Instant) {
        self.sojourn[outcome as usize].observe(began.elapsed());
    }

    /// Times in the queue.
    pub fn waiting(&self, outcome: PredictionOutcome) -> &Histogram {
        &self.waiting[outcome as usize]
    }

    /// Times with a worker.
    pub fn service(&self, outcome: PredictionOutcome) -> &Histogram {
        &self.service[outcome as usize]
    }

    /// Times from arrival to the end, once per prediction.
    pub fn sojourn(&self, outcome: PredictionOutcome) -> &Histogram {
        &self.sojourn[outcome as usize]
    }
}

/// Refusals, by the `code` that the client got.
#[derive(Debug, Default)]
pub struct Refusals([Counter; Refusals::CODES.len()]);

impl Refusals {
    /// The codes of refusals; a new one is a line here.
    pub const CODES: [Code; 7] = [
        Code::Overloaded,
        Code::QueueFull,
        Code::Expired,
        Code::Loading,
        Code::Draining,
        Code::OverBudget,
        Code::TooManyConnections,
    ];

    fn place(code: Code) -> Option<usize> {
        Self::CODES.iter().position(|known| *known == code)
    }

    /// Counts an error, if it is a refusal.
    pub fn count(&self, code: Code) {
        if let Some(place) = Self::place(code) {
            self.0[place].increment();
        }
    }

    /// Every code and its count.
    pub fn by_code(&self) -> impl Iterator<Item = (Code, u64)> {
        let counts = self.0.iter().map(Counter::value);
        Self::CODES.into_iter().zip(counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn an_error_says_how_a_prediction_ended() {
        let table = [
            (Code::InvalidJson, PredictionOutcome::Rejected),
            (Code::ContentTooLarge, PredictionOutcome::Rejected),
            (Code::RequestTimeout, PredictionOutcome::Rejected),
            (Code::PredictionFailed, PredictionOutcome::Failed),
            (Code::Internal, PredictionOutcome::Failed),
            (Code::Overloaded, PredictionOutcome::Refused),
            (Code::QueueFull, PredictionOutcome::Refused),
            (Code::Loading, PredictionOutcome::Refused),
            (Code::Draining, PredictionOutcome::Refused),
            (Code::OverBudget, PredictionOutcome::Refused),
            (Code::Expired, PredictionOutcome::Expired),
            (Code::DeadlineExceeded, PredictionOutcome::DeadlineExceeded),
        ];
        for (code, outcome) in table {
            assert_eq!(PredictionOutcome::of(code), outcome, "{code:?}");
        }
        for (index, outcome) in PredictionOutcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn each_prediction_is_counted_once_and_only_with_the_times_it_has() {
        let outcomes = OutcomeCounts::default();
        let (waited, served) = (Duration::from_millis(2), Duration::from_millis(3));
        let now = clock::instant();
        outcomes.replied(None, waited, served, now);
        outcomes.replied(Some(Code::Expired), waited, Duration::ZERO, now);
        outcomes.replied(Some(Code::QueueFull), waited, Duration::ZERO, now);
        outcomes.replied(Some(Code::OverBudget), waited, served, now);
        outcomes.ended(PredictionOutcome::Abandoned, now);
        let counts = |histogram: fn(&OutcomeCounts, PredictionOutcome) -> &Histogram| {
            PredictionOutcome::ALL.map(|outcome| histogram(&outcomes, outcome).count())
        };
        assert_eq!(counts(OutcomeCounts::waiting), [1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(counts(OutcomeCounts::service), [1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts(OutcomeCounts::sojourn), [1, 0, 0, 2, 1, 0, 1]);
        let waiting = outcomes.waiting(PredictionOutcome::Ok).snapshot();
        assert_eq!(waiting.sum, waited);
        let service = outcomes.service(PredictionOutcome::Ok).snapshot();
        assert_eq!(service.sum, served);
    }

    #[test]
    fn refusals_are_counted_by_code_and_other_errors_are_none() {
        let refusals = Refusals::default();
        refusals.count(Code::QueueFull);
        refusals.count(Code::QueueFull);
        refusals.count(Code::Draining);
        refusals.count(Code::InvalidJson);
        let counts: Vec<u64> = refusals.by_code().map(|(_, count)| count).collect();
        assert_eq!(counts, [0, 2, 0, 0, 1, 0, 0]);
    }
}
