//! Counts for the whole process, and of client behaviour. Deployments count how predictions end.

use std::net::IpAddr;

use super::{Counter, Reasons};

/// The counts of the whole process.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections accepted.
    pub connections: Counter,
    /// Client behaviour that cost clients their connection or answer.
    pub clients: ClientCounts,
    /// Predictions during which the model panicked.
    pub panicked: Counter,
    /// Predictions answered 500 because the thread that worked on them ended.
    pub lost: Counter,
    /// Probes answered.
    pub probes: Counter,
    /// Threads that ended with a panic and were replaced.
    pub threads_replaced: Counter,
}

/// Client behaviour that cost clients their connection or answer, by reason.
#[derive(Debug, Default)]
pub struct ClientCounts {
    /// Connections closed for new ones.
    pub evicted: Counter,
    /// Connections refused because every other one was owed an answer.
    pub refused: Counter,
    /// Connections refused over `--max-connections-per-address`.
    pub per_address: Counter,
    /// Requests that were not valid HTTP, answered 400, 417, 501 or 505.
    pub malformed: Counter,
    /// What was wrong with those.
    pub malformed_reasons: Reasons,
    /// Request heads over a limit, answered 431.
    pub head_too_large: Counter,
    /// Request heads that timed out, answered 408.
    pub head_timeout: Counter,
    /// Request bodies that timed out, answered 408.
    pub body_timeout: Counter,
    /// Bodies, batches or answers over a limit, answered 413.
    pub content_too_large: Counter,
    /// Answers whose clients took too long to read them.
    pub write_timeout: Counter,
    /// Clients that left before their prediction was answered.
    pub abandoned: Counter,
    /// Requests refused because the memory budget was spent, answered 503.
    pub over_budget: Counter,
}

impl ClientCounts {
    /// Counts a request that was not valid HTTP.
    pub fn not_sound(&self, reason: &str, client: Option<IpAddr>) {
        self.malformed.increment();
        self.malformed_reasons.note(reason, client);
    }

    /// All reasons: name, description, and count.
    pub fn by_reason(&self) -> [(&'static str, &'static str, &Counter); 11] {
        [
            (
                "evicted",
                "connections were closed for new ones (--max-connections)",
                &self.evicted,
            ),
            (
                "refused",
                "connections were refused because every other was owed an answer (--max-connections)",
                &self.refused,
            ),
            (
                "per_address",
                "connections were refused to addresses that had the maximum (--max-connections-per-address)",
                &self.per_address,
            ),
            ("malformed", "requests were not valid HTTP", &self.malformed),
            (
                "head_too_large",
                "request heads were too large (--max-head, --max-fields)",
                &self.head_too_large,
            ),
            (
                "head_timeout",
                "request heads timed out (--head-timeout)",
                &self.head_timeout,
            ),
            (
                "body_timeout",
                "request bodies timed out (--body-timeout, --min-body-rate)",
                &self.body_timeout,
            ),
            (
                "content_too_large",
                "requests were too large (--max-body, --max-rows, --max-buffered)",
                &self.content_too_large,
            ),
            (
                "write_timeout",
                "answers were not read in time (--write-timeout)",
                &self.write_timeout,
            ),
            (
                "abandoned",
                "clients left before their prediction was answered",
                &self.abandoned,
            ),
            (
                "over_budget",
                "requests were refused for lack of memory (--max-buffered)",
                &self.over_budget,
            ),
        ]
    }
}
