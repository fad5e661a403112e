//! Every answer, by status code and, if it has one, `code`.
//!
//! Written by connection threads, once per answer: one atomic.

use super::Counter;
use crate::error::{Code, OverloadStatus};

/// Status codes of answers without a `code`; present from the start.
const STATUSES: [u16; 3] = [200, 500, 503];

/// Status codes have three digits (RFC 9110 section 15), from here.
const STATUS_MIN: u16 = 100;
const STATUSES_MAX: usize = 500;

/// Answers that were given.
#[derive(Debug)]
pub struct Responses {
    errors: [Counter; Code::ALL.len()],
    others: Box<[Counter]>,
}

impl Default for Responses {
    fn default() -> Self {
        Responses {
            errors: Default::default(),
            others: (0..STATUSES_MAX).map(|_| Counter::default()).collect(),
        }
    }
}

impl Responses {
    /// Counts an answer with this status code, or with this `code`, which implies the status code.
    pub fn count(&self, status: u16, code: Option<Code>) {
        let counter = match code {
            Some(code) => &self.errors[code as usize],
            None => {
                let place = usize::from(status.saturating_sub(STATUS_MIN));
                &self.others[place.min(STATUSES_MAX - 1)]
            }
        };
        counter.increment();
    }

    /// All status codes and `code`s, with their counts.
    pub fn by_code(
        &self,
        overload: OverloadStatus,
    ) -> impl Iterator<Item = (u16, Option<Code>, u64)> {
        let others = (STATUS_MIN..).zip(&*self.others);
        let others = others.map(|(status, count)| (status, None, count.value()));
        let others = others.filter(|(status, _, count)| *count > 0 || STATUSES.contains(status));
        let errors = Code::ALL.into_iter().zip(&self.errors);
        let errors = errors
            .map(move |(code, count)| (code.status_with(overload), Some(code), count.value()));
        others.chain(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_is_counted_whatever_its_status() {
        let responses = Responses::default();
        let all = || responses.by_code(OverloadStatus::TooManyRequests);
        assert_eq!(all().count(), STATUSES.len() + Code::ALL.len());
        assert!(all().all(|(_, _, count)| count == 0));
        responses.count(200, None);
        responses.count(200, None);
        responses.count(404, Some(Code::NotFound));
        responses.count(429, Some(Code::Overloaded));
        responses.count(299, None);
        responses.count(0, None);
        responses.count(u16::MAX, None);
        let counted: Vec<_> = all().filter(|(_, _, count)| *count > 0).collect();
        let expected = [
            (100, None, 1),
            (200, None, 2),
            (299, None, 1),
            (599, None, 1),
            (404, Some(Code::NotFound), 1),
            (429, Some(Code::Overloaded), 1),
        ];
        assert_eq!(counted, expected);
    }
}
