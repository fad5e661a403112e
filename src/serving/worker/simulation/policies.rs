//! What first in, first out costs: other orders and other ways to drop, under the same load.
//!
//! The lanes are first in, first out, with admission by waiting time; the guide on overload has the table of what
//! that is worth beside a queue that is bounded by count alone, one that drops at the head what its
//! client will not wait for (deadlines), one that turns around under load (adaptive LIFO, Maurer,
//! "Fail at Scale", 2015) and one that drops by how long it has been standing (CoDel, RFC 8289).

#![allow(clippy::print_stdout)] // the table is the purpose

use std::collections::VecDeque;
use std::time::Duration;

use super::lane::{Setup, run};
use super::{SimulatedOutcome, SimulatedRequest, SimulationResult, Spread, Stream, merged, seen};
use crate::config::MaxWait;

/// What may wait, where a queue is bounded by count.
const QUEUE: usize = 256;

/// The wait that CoDel tolerates, as a part of a client's patience, and the interval for which it may
/// be exceeded, as its authors' ratio of 20.
const CODEL_TARGET: u32 = 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Policy {
    /// First in, first out, bounded by count; nobody looks at how long anybody has waited.
    Count,
    /// The same, and what cannot be done in its client's time is dropped at the head.
    Deadlines,
    /// Last in, first out while anything waits for longer than a quarter of its client's patience.
    AdaptiveLifo,
    /// First in, first out, with drops at the head while the queue stands.
    CoDel,
    /// As the server does it.
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
        // What comes before anybody is free waits, or starts at once where nothing does.
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

/// When to drop at the head: the control law of RFC 8289 section 5.
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

/// Prints the table of the guide on overload with `cargo test --lib policies -- --nocapture`, and holds what it says.
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
