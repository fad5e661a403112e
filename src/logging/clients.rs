//! Client behaviour that costs clients their connection or answer: at most one line per reason and
//! minute.

use std::time::{Duration, Instant};

use crate::vitals::{ClientCounts, Reason};

/// Minimum time between two lines with the same reason.
const INTERVAL: Duration = Duration::from_secs(60);

/// Logs client behaviour, once a minute per reason.
#[derive(Debug, Default)]
pub struct ClientLog {
    last: [LastLine; 11],
}

#[derive(Debug, Default, Clone, Copy)]
struct LastLine {
    count: u64,
    at: Option<Instant>,
}

impl ClientLog {
    /// Compares the counts and returns the lines due at `now`; called at every tick.
    pub fn due(&mut self, counts: &ClientCounts, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for (last, (reason, text, counter)) in self.last.iter_mut().zip(counts.by_reason()) {
            let count = counter.value();
            let recent = last
                .at
                .is_some_and(|at| now.saturating_duration_since(at) < INTERVAL);
            if count > last.count && !recent {
                let new = count - last.count;
                let most = if std::ptr::eq(counter, &raw const counts.malformed) {
                    counts.malformed_reasons.take()
                } else {
                    None
                };
                let most = most.map_or_else(String::new, |most| mostly(&most));
                lines.push(format!("clients: {new} {text}{most} [{reason}]"));
                *last = LastLine {
                    count,
                    at: Some(now),
                };
            }
        }
        lines
    }
}

fn mostly(reason: &Reason) -> String {
    let client = reason
        .client
        .map_or_else(|| "a Unix socket".to_owned(), |client| client.to_string());
    let Reason { text, count, .. } = reason;
    format!(", most often: {text} ({count}, the last from {client})")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    #[test]
    fn what_clients_do_is_logged_once_a_minute_for_each_reason() {
        let counts = ClientCounts::default();
        let mut log = ClientLog::default();
        let start = clock::instant();
        let mut due = |seconds| log.due(&counts, start + Duration::from_secs(seconds));
        assert!(due(0).is_empty());
        counts.evicted.increment();
        let first = due(1);
        assert_eq!(first.len(), 1);
        assert!(
            first[0].starts_with("clients: 1 connections were closed")
                && first[0].ends_with("[evicted]"),
            "{first:?}"
        );
        (0..1000).for_each(|_| counts.evicted.increment());
        counts.malformed.increment();
        assert_eq!(due(2).len(), 1, "another reason is told at once");
        assert!(due(60).is_empty());
        assert!(due(61)[0].starts_with("clients: 1000 connections"));
        assert!(due(200).is_empty(), "nothing new is no line");
    }

    #[test]
    fn malformed_requests_are_logged_with_the_commonest_reason() {
        let counts = ClientCounts::default();
        let mut log = ClientLog::default();
        let start = clock::instant();
        let mut due = |seconds| log.due(&counts, start + Duration::from_secs(seconds));
        let client = "10.1.2.3".parse().ok();
        counts.not_sound("no Host", client);
        counts.not_sound("a bare LF", client);
        counts.not_sound("a bare LF", client);
        let expected = "clients: 3 requests were not valid HTTP, most often: a bare LF \
                        (2, the last from 10.1.2.3) [malformed]";
        assert_eq!(due(0), [expected]);
        counts.not_sound("no Host", None);
        assert!(due(59).is_empty());
        let expected = "clients: 1 requests were not valid HTTP, most often: no Host \
                        (1, the last from a Unix socket) [malformed]";
        assert_eq!(
            due(60),
            [expected],
            "what was told before is not told again"
        );
    }
}
