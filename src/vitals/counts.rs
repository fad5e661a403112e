//! What is counted for the whole process, and what clients did. How predictions end is counted by
//! their deployments.

use std::net::IpAddr;

use super::{Counter, Reasons};

/// What is counted for the whole process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: Counter,
    /// What clients did that cost them their connection or their answer.
    pub clients: ClientCounts,
    /// Predictions for which the model panicked.
    pub panicked: Counter,
    /// Predictions answered 500 because the thread that worked on them ended.
    pub lost: Counter,
    /// Probes answered.
    pub probes: Counter,
    /// Threads that ended by a panic and were replaced.
    pub threads_replaced: Counter,
}

/// What clients did that cost them their connection or their answer, by reason.
#[derive(Debug, Default)]
pub struct ClientCounts {
    /// Connections closed in favour of new ones.
    pub evicted: Counter,
    /// Connections refused because every other was owed an answer.
    pub refused: Counter,
    /// Connections refused over `--max-connections-per-address`.
    pub per_address: Counter,
    /// Requests that were not sound HTTP, answered 400, 417, 501 or 505.
    pub malformed: Counter,
    /// What was wrong with those.
    pub malformed_reasons: Reasons,
    /// Request heads over a limit, answered 431.
    pub head_too_large: Counter,
    /// Request heads that did not arrive in time, answered 408.
    pub head_timeout: Counter,
    /// Request bodies that did not arrive in time, answered 408.
    pub body_timeout: Counter,
    /// Bodies, batches or answers over a limit, answered 413.
    pub content_too_large: Counter,
    /// Answers that were not taken in time.
    pub write_timeout: Counter,
    /// Clients that left before they had their prediction.
    pub abandoned: Counter,
    /// Requests refused because the memory budget was spent, answered 503.
    pub over_budget: Counter,
}

impl ClientCounts {
    /// Counts a request that was not sound HTTP.
    pub fn not_sound(&self, reason: &str, client: Option<IpAddr>) {
        self.malformed.increment();
        self.malformed_reasons.note(reason, client);
    }

    /// Every reason: its name, what happened in words, and its count.
    pub fn by_reason(&self) -> [(&'static str, &'static str, &Counter); 11] {
        [
            (
                "evicted",
                "connections were closed in favour of new ones (--max-connections)",
                &self.evicted,
            ),
            (
                "refused",
                "connections were refused, as every other was owed an answer (--max-connections)",
                &self.refused,
            ),
            (
                "per_address",
                "connections were refused to addresses that had enough (--max-connections-per-address)",
                &self.per_address,
            ),
            ("malformed", "requests were not sound HTTP", &self.malformed),
            (
                "head_too_large",
                "request heads were too large (--max-head, --max-fields)",
                &self.head_too_large,
            ),
            (
                "head_timeout",
                "request heads did not arrive in time (--head-timeout)",
                &self.head_timeout,
            ),
            (
                "body_timeout",
                "request bodies did not arrive in time (--body-timeout, --min-body-rate)",
                &self.body_timeout,
            ),
            (
                "content_too_large",
                "requests were too large (--max-body, --max-rows, --max-buffered)",
                &self.content_too_large,
            ),
            (
                "write_timeout",
                "answers were not taken in time (--write-timeout)",
                &self.write_timeout,
            ),
            (
                "abandoned",
                "clients left before they had their prediction",
                &self.abandoned,
            ),
            (
                "over_budget",
                "requests were refused for want of memory (--max-buffered)",
                &self.over_budget,
            ),
        ]
    }
}
