//! How predictions ended, and how long they took, by how they ended.
//!
//! Written by connection threads, once for each prediction. Times are kept apart by outcome, since a
//! refusal takes microseconds: counted together, the more a server refused, the faster it would look.

use std::time::{Duration, Instant};

use super::{Counter, Histogram};
use crate::error::Code;

/// How a prediction ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered 200.
    Ok,
    /// The request was wrong: 4xx.
    Rejected,
    /// The model, or the server, failed: 500.
    Failed,
    /// It was not admitted.
    Refused,
    /// It waited for too long and was not computed.
    Expired,
    /// It was admitted and not done in time: 504.
    DeadlineExceeded,
    /// Its client left before it had an answer.
    Abandoned,
}

impl Outcome {
    /// All there are, in the order of their declaration.
    pub const ALL: [Outcome; 7] = [
        Outcome::Ok,
        Outcome::Rejected,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Expired,
        Outcome::DeadlineExceeded,
        Outcome::Abandoned,
    ];

    /// How a prediction ends that is answered with this error.
    pub fn of(code: Code) -> Self {
        match code {
            Code::Expired => Outcome::Expired,
            Code::DeadlineExceeded => Outcome::DeadlineExceeded,
            code if Refusals::place(code).is_some() => Outcome::Refused,
            code if code.status() >= 500 => Outcome::Failed,
            _ => Outcome::Rejected,
        }
    }

    /// Its name, as labels have it.
    pub fn name(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Rejected => "rejected",
            Outcome::Failed => "failed",
            Outcome::Refused => "refused",
            Outcome::Expired => "expired",
            Outcome::DeadlineExceeded => "deadline_exceeded",
            Outcome::Abandoned => "abandoned",
        }
    }

    /// Whether a worker has taken it up, so that it is known how long it waited.
    pub fn was_taken_up(self) -> bool {
        self.was_served() || self == Outcome::Expired
    }

    /// Whether a worker has computed it, so that it is known how long that took.
    pub fn was_served(self) -> bool {
        matches!(self, Outcome::Ok | Outcome::Rejected | Outcome::Failed)
    }
}

/// Predictions that ended, and their times, by outcome.
#[derive(Debug, Default)]
pub struct Outcomes {
    waiting: [Histogram; Outcome::ALL.len()],
    service: [Histogram; Outcome::ALL.len()],
    sojourn: [Histogram; Outcome::ALL.len()],
}

impl Outcomes {
    /// Notes the end of one that a worker, or the lane, has replied to; `error` is its answer where it
    /// is one, and the service time is zero where no worker got to compute it.
    ///
    /// The whole is measured anew: one that is computed in slices waits between them too.
    pub fn replied(
        &self,
        error: Option<Code>,
        waiting_time: Duration,
        service_time: Duration,
        arrived: Instant,
    ) {
        let outcome = error.map_or(Outcome::Ok, Outcome::of);
        if outcome.was_taken_up() {
            self.waiting[outcome as usize].observe(waiting_time);
        }
        if outcome.was_served() && !service_time.is_zero() {
            self.service[outcome as usize].observe(service_time);
        }
        self.ended(outcome, arrived);
    }

    /// Notes the end of one that came without a reply.
    pub fn ended(&self, outcome: Outcome, began: Instant) {
        self.sojourn[outcome as usize].observe(began.elapsed());
    }

    /// Times in the queue.
    pub fn waiting(&self, outcome: Outcome) -> &Histogram {
        &self.waiting[outcome as usize]
    }

    /// Times with a worker.
    pub fn service(&self, outcome: Outcome) -> &Histogram {
        &self.service[outcome as usize]
    }

    /// Times from arrival to the end: one for each prediction.
    pub fn sojourn(&self, outcome: Outcome) -> &Histogram {
        &self.sojourn[outcome as usize]
    }
}

/// What was refused, by the `code` its client got.
#[derive(Debug, Default)]
pub struct Refusals([Counter; Refusals::CODES.len()]);

impl Refusals {
    /// The codes of refusals: a new one is a line here.
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
            (Code::InvalidJson, Outcome::Rejected),
            (Code::ContentTooLarge, Outcome::Rejected),
            (Code::RequestTimeout, Outcome::Rejected),
            (Code::PredictionFailed, Outcome::Failed),
            (Code::Internal, Outcome::Failed),
            (Code::Overloaded, Outcome::Refused),
            (Code::QueueFull, Outcome::Refused),
            (Code::Loading, Outcome::Refused),
            (Code::Draining, Outcome::Refused),
            (Code::OverBudget, Outcome::Refused),
            (Code::Expired, Outcome::Expired),
            (Code::DeadlineExceeded, Outcome::DeadlineExceeded),
        ];
        for (code, outcome) in table {
            assert_eq!(Outcome::of(code), outcome, "{code:?}");
        }
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
        }
    }

    #[test]
    fn each_prediction_is_counted_once_and_only_with_the_times_it_has() {
        let outcomes = Outcomes::default();
        let (waited, served) = (Duration::from_millis(2), Duration::from_millis(3));
        let now = clock::instant();
        outcomes.replied(None, waited, served, now);
        outcomes.replied(Some(Code::Expired), waited, Duration::ZERO, now);
        outcomes.replied(Some(Code::QueueFull), waited, Duration::ZERO, now);
        outcomes.replied(Some(Code::OverBudget), waited, served, now);
        outcomes.ended(Outcome::Abandoned, now);
        let counts = |histogram: fn(&Outcomes, Outcome) -> &Histogram| {
            Outcome::ALL.map(|outcome| histogram(&outcomes, outcome).count())
        };
        assert_eq!(counts(Outcomes::waiting), [1, 0, 0, 0, 1, 0, 0]);
        assert_eq!(counts(Outcomes::service), [1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(counts(Outcomes::sojourn), [1, 0, 0, 2, 1, 0, 1]);
        let waiting = outcomes.waiting(Outcome::Ok).snapshot();
        assert_eq!(waiting.sum, waited);
        let service = outcomes.service(Outcome::Ok).snapshot();
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
