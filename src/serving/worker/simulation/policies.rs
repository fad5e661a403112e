//! Other queueing policies under the same simulated load; the guide on overload has the resulting table.
//!
//! The server's lanes are first in, first out, with admission by waiting time. The others: a queue
//! bounded by count alone; one that discards a request at the head that cannot finish by its deadline;
//! one that serves the newest first under load (adaptive LIFO, Maurer, "Fail at Scale", 2015); and one
//! that discards at the head while waits have been long for some time (CoDel, RFC 8289).

#![allow(clippy::print_stdout)] // the table is the purpose

use std::collections::VecDeque;
use std::time::Duration;

use super::lane::{Setup, run};
use super::{SimulatedOutcome, SimulatedRequest, SimulationResult, Spread, Stream, merged, seen};
use crate::config::MaxWait;

/// Maximum number of queued requests.
const QUEUE: usize = 256;

/// CoDel tolerates a wait of a twentieth of a client's patience. It discards once waits have exceeded that
/// for a fifth of the patience: RFC 8289's interval of 20 times the wait would be the whole patience.
const CODEL_TARGET: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// First in, first out, bounded by count, however long requests have waited.
    Count,
    /// The same, but a request that cannot finish by its deadline is discarded at the head.
    Deadlines,
    /// Last in, first out while the oldest request has waited longer than a quarter of its patience.
    AdaptiveLifo,
    /// First in, first out; discards at the head while waits stay long.
    CoDel,
    /// The server's own.
    Admission,
}

/// Runs arrivals, all with the same patience, through one queue before so many workers.
fn outcomes(
    policy: Policy,
    workers: usize,
    arrivals: &[SimulatedRequest],
) -> Vec<SimulatedOutcome> {
    if policy == Policy::Admission {
        let setup = Setup {
            workers,
            queue: QUEUE,
            suspended: 1024,
            max_wait: MaxWait::Auto,
            is_fair: false,
        };
        return run(&setup, arrivals);
    }
    let mut outcomes = vec![SimulatedOutcome::Abandoned; arrivals.len()];
    let mut cheap = vec![Duration::ZERO; workers];
    let mut queue: VecDeque<usize> = VecDeque::new();
    let mut codel = CoDel::default();
    let mut next = 0;
    loop {
        let worker = (0..workers)
            .min_by_key(|worker| cheap[*worker])
            .unwrap_or(0);
        // Requests that arrive before a worker is free wait; if none waits, the next one starts at once.
        while next < arrivals.len() && (queue.is_empty() || arrivals[next].at <= cheap[worker]) {
            if queue.len() >= QUEUE {
                outcomes[next] = SimulatedOutcome::Refused;
            } else {
                queue.push_back(next);
            }
            next += 1;
        }
        let Some(oldest) = queue.front().copied() else {
            return outcomes;
        };
        let now = cheap[worker].max(arrivals[oldest].at);
        let is_late = now - arrivals[oldest].at > arrivals[oldest].patience / 4;
        let index = match policy {
            Policy::AdaptiveLifo if is_late => queue.pop_back(),
            _ => queue.pop_front(),
        };
        let Some(index) = index else {
            return outcomes;
        };
        let arrival = arrivals[index];
        let now = now.max(arrival.at);
        cheap[worker] = now;
        let waited = now - arrival.at;
        if waited >= arrival.patience {
            continue;
        }
        let drops = match policy {
            Policy::Deadlines => waited + arrival.service > arrival.patience,
            Policy::CoDel => codel.drops(now, waited, arrival.patience),
            _ => false,
        };
        if drops {
            outcomes[index] = SimulatedOutcome::Expired(waited);
            continue;
        }
        let after = waited + arrival.service;
        cheap[worker] = now + arrival.service;
        outcomes[index] = if after < arrival.patience {
            SimulatedOutcome::Answered(after)
        } else {
            SimulatedOutcome::InVain
        };
    }
}

/// When to discard at the head: the control law of RFC 8289 section 5.
#[derive(Debug, Default)]
struct CoDel {
    above_since: Option<Duration>,
    drop_next: Option<Duration>,
    count: u32,
}

impl CoDel {
    fn drops(&mut self, now: Duration, waited: Duration, patience: Duration) -> bool {
        let target = patience / CODEL_TARGET;
        let interval = target * 20 / 5;
        if waited < target {
            *self = CoDel::default();
            return false;
        }
        let since = *self.above_since.get_or_insert(now);
        if now - since < interval {
            return false;
        }
        let due = *self.drop_next.get_or_insert(now);
        if now < due {
            return false;
        }
        self.count += 1;
        self.drop_next = Some(due + interval.div_f64(f64::from(self.count).sqrt()));
        true
    }
}

fn measure(
    policy: Policy,
    millis: f64,
    spread: Spread,
    factor: f64,
    patience: Duration,
) -> SimulationResult {
    let service = Duration::from_secs_f64(millis / 1e3);
    let end = patience * 2 + service * 2000;
    let stream = Stream {
        spread,
        patience,
        ..Stream::steady(factor / service.as_secs_f64(), service, end)
    };
    let arrivals = merged(&[stream], 41);
    let outcomes = outcomes(policy, 1, &arrivals);
    assert_eq!(outcomes.len(), arrivals.len());
    seen(&arrivals, &outcomes, 1, (patience, end - patience))
}

/// Prints the table of the guide on overload with `cargo test --lib policies -- --nocapture`, and checks that the server's own rows are as good as it says.
#[test]
fn admission_by_waiting_time_is_worth_what_the_table_says() {
    let policies = [
        ("bounded by count", Policy::Count),
        ("deadlines", Policy::Deadlines),
        ("adaptive LIFO", Policy::AdaptiveLifo),
        ("CoDel", Policy::CoDel),
        ("admission by waiting time", Policy::Admission),
    ];
    let loads = [
        (200.0, 1.2, 5),
        (200.0, 2.0, 5),
        (200.0, 10.0, 5),
        (5.0, 2.0, 1),
        (5.0, 10.0, 1),
    ];
    println!(
        "| queue | service, load, clients wait | goodput | p99 ms | told no at once | after a wait | never |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (millis, factor, patience) in loads {
        let mut ours = None;
        for (name, policy) in policies {
            let seen = measure(
                policy,
                millis,
                Spread::Exponential,
                factor,
                Duration::from_secs(patience),
            );
            let all = seen.answered + seen.in_vain + seen.refused + seen.expired + seen.abandoned;
            let part = |count: usize| count as f64 / all as f64;
            println!(
                "| {name} | {millis} ms, {factor}x, {patience} s | {:.2} | {:.0} | {:.2} | {:.2} | {:.2} |",
                seen.goodput,
                seen.p99.as_secs_f64() * 1e3,
                part(seen.refused),
                part(seen.expired),
                part(seen.abandoned + seen.in_vain),
            );
            ours = Some(seen);
        }
        let ours = ours.map_or((0.0, Duration::MAX, 1), |seen| {
            (seen.goodput, seen.p99, seen.abandoned)
        });
        assert!(
            ours.0 > 0.9 && ours.1 < Duration::from_secs(patience) && ours.2 == 0,
            "{ours:?}"
        );
    }
}
