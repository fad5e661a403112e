//! Arrivals on a schedule of phases, from one crowd of clients or several at once, with a record each.
//!
//! Where [`load`](crate::drill::load) tells what a steady load came to, this tells what became of
//! each arrival and when: how goodput goes through a storm, how soon it is back, who got what share.
//! A crowd has so many connections, each with a thread of its own, and keeps no queue: an arrival
//! that finds all of them waiting for answers is recorded as not sent. Otherwise a generator that
//! cannot keep up would hand the server old requests, and take its own delay for the server's.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::drill::load::{CONNECTIONS_MAX, HEAD_START, Target, crowd};
use crate::drill::measure::Tally;
use crate::platform::client::Client;
use crate::platform::clock;
use crate::platform::sys;

/// How late an arrival may be sent, because clients' threads share cores; later ones are not sent.
const LATENESS_MAX: Duration = Duration::from_millis(2);

/// Maximum number of arrivals of one run; each has a record of 56 bytes.
const ARRIVALS_MAX: u64 = 4_000_000;

/// A time of one rate.
#[derive(Debug, Clone, Copy)]
pub struct RatePhase {
    /// Arrivals a second, evenly spaced; 0 is a pause.
    pub rate: f64,
    /// How long it lasts.
    pub duration: Duration,
}

/// Clients that send the same request on one schedule.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// What they ask; `timeout` counts from the arrival.
    pub target: Target,
    /// The address they come from, if not the one that the kernel chooses.
    pub source: Option<IpAddr>,
    /// One after the other.
    pub phases: Vec<RatePhase>,
    /// Connections, each with a thread of its own.
    pub connections: usize,
}

/// What became of an arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArrivalOutcome {
    /// It was answered in time.
    Status(u16),
    /// It was not: `connect`, `timeout`, `closed` or `protocol`.
    Failure(&'static str),
    /// No connection was free, or the generator was too slow.
    Unsent,
}

/// One arrival. Times count from the start of the run.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When it should be sent.
    pub due: Duration,
    /// When its answer arrived, or its client gave up.
    pub ended: Duration,
    /// What became of it.
    pub outcome: ArrivalOutcome,
}

impl Arrival {
    /// Whether it got its 200; never after its client's timeout.
    pub fn is_ok(&self) -> bool {
        self.outcome == ArrivalOutcome::Status(200)
    }

    /// From the moment when it should be sent to its end.
    pub fn latency(&self) -> Duration {
        self.ended.saturating_sub(self.due)
    }
}

/// All arrivals of one crowd.
#[derive(Debug, Clone, Default)]
pub struct Trace {
    /// By `due`.
    arrivals: Vec<Arrival>,
    /// When the 200s came, in order.
    completions: Vec<Duration>,
}

impl Trace {
    /// Takes arrivals in any order.
    pub fn new(mut arrivals: Vec<Arrival>) -> Self {
        arrivals.sort_by_key(|arrival| arrival.due);
        let completed = arrivals.iter().filter(|arrival| arrival.is_ok());
        let mut completions: Vec<Duration> = completed.map(|arrival| arrival.ended).collect();
        completions.sort();
        Trace {
            arrivals,
            completions,
        }
    }

    /// Arrivals due from `from` on and before `to`.
    pub fn due(&self, from: Duration, to: Duration) -> &[Arrival] {
        let before = |time| self.arrivals.partition_point(|arrival| arrival.due < time);
        let (first, end) = (before(from), before(to));
        &self.arrivals[first..end.max(first)]
    }

    /// 200s a second that came between two times.
    ///
    /// Their number at either time is read between the completions around it, so that a window
    /// holds parts of them: the steady 5 a second of a 200 ms model is 5.0, not 34 or 36 in 7 s.
    pub fn goodput(&self, from: Duration, to: Duration) -> f64 {
        let span = to.saturating_sub(from).as_secs_f64();
        if span > 0.0 {
            (self.completed(to) - self.completed(from)) / span
        } else {
            0.0
        }
    }

    fn completed(&self, time: Duration) -> f64 {
        let whole = self.completions.partition_point(|ended| *ended <= time);
        let before = match whole.checked_sub(1) {
            Some(last) => self.completions[last],
            None => Duration::ZERO,
        };
        let part = self.completions.get(whole).map_or(0.0, |next| {
            let passed = time.saturating_sub(before).as_secs_f64();
            passed / next.saturating_sub(before).as_secs_f64().max(1e-9)
        });
        whole as f64 + part
    }

    /// Arrivals per second that were actually sent, of those due between two times.
    pub fn offered(&self, from: Duration, to: Duration) -> f64 {
        let sent = |arrival: &&Arrival| arrival.outcome != ArrivalOutcome::Unsent;
        let count = self.due(from, to).iter().filter(sent).count();
        count as f64 / to.saturating_sub(from).as_secs_f64().max(1e-9)
    }

    /// Adds up what was due between two times; it has no window, and tells no codes of errors.
    pub fn tally(&self, from: Duration, to: Duration) -> Tally {
        let mut tally = Tally::default();
        for arrival in self.due(from, to) {
            match arrival.outcome {
                ArrivalOutcome::Status(status) => *tally.statuses.entry(status).or_default() += 1,
                ArrivalOutcome::Failure(reason) => *tally.failures.entry(reason).or_default() += 1,
                ArrivalOutcome::Unsent => tally.unsent += 1,
            }
            if arrival.is_ok() {
                tally.latencies.record(arrival.latency());
            }
        }
        tally
    }

    /// The time from `from` until the first arrival from which on all, up to `to`, are `good`.
    ///
    /// `None` where the last is not. It is told to one interval between arrivals.
    pub fn recovery(
        &self,
        from: Duration,
        to: Duration,
        good: impl Fn(&Arrival) -> bool,
    ) -> Option<Duration> {
        let arrivals = self.due(from, to);
        match arrivals.iter().rposition(|arrival| !good(arrival)) {
            None => (!arrivals.is_empty()).then_some(Duration::ZERO),
            Some(last) => {
                let next = arrivals.get(last + 1)?;
                Some(next.due - from)
            }
        }
    }
}

/// Runs all crowds from the same moment; gives a trace for each, in order. It ends at the latest one
/// client timeout after the longest schedule.
///
/// # Errors
/// Where a rate is not 0 to 1,000,000 a second, a crowd has no connection, all together have more
/// than [`CONNECTIONS_MAX`] or more than four million arrivals, or the system has no threads for it.
pub fn run(crowds: &[Crowd]) -> io::Result<Vec<Trace>> {
    let invalid = |text: String| io::Error::new(io::ErrorKind::InvalidInput, text);
    let phases = || crowds.iter().flat_map(|crowd| &crowd.phases);
    if let Some(phase) = phases().find(|phase| !(0.0..=1e6).contains(&phase.rate)) {
        let rate = phase.rate;
        return Err(invalid(format!(
            "a rate must be 0 to 1000000 arrivals a second, but is {rate}"
        )));
    }
    let arrivals: u64 = crowds.iter().map(|crowd| count(&crowd.phases)).sum();
    if arrivals > ARRIVALS_MAX {
        return Err(invalid(format!(
            "there may be {ARRIVALS_MAX} arrivals in a run, but they are {arrivals}"
        )));
    }
    if crowds.iter().any(|crowd| crowd.connections == 0) {
        return Err(invalid(format!(
            "each crowd must have a connection, and all together at most {CONNECTIONS_MAX}"
        )));
    }
    // Threads are numbered through; each belongs to the crowd that its number falls into.
    let belongs: Vec<usize> = crowds
        .iter()
        .enumerate()
        .flat_map(|(index, crowd)| std::iter::repeat_n(index, crowd.connections))
        .collect();
    let next: Vec<AtomicU64> = crowds.iter().map(|_| AtomicU64::new(0)).collect();
    let began = clock::instant() + HEAD_START;
    let seen = crowd(belongs.len(), |number| {
        let index = belongs[number];
        follow(&crowds[index], began, &next[index])
    })?;
    let mut arrivals: Vec<Vec<Arrival>> = vec![Vec::new(); crowds.len()];
    for (index, seen) in belongs.into_iter().zip(seen) {
        arrivals[index].extend(seen);
    }
    Ok(arrivals.into_iter().map(Trace::new).collect())
}

/// One connection's part of a crowd's arrivals.
fn follow(crowd: &Crowd, began: Instant, next: &AtomicU64) -> Vec<Arrival> {
    let mut seen = Vec::new();
    let target = &crowd.target;
    let mut client = Client::new(target.address).from_source(crowd.source);
    while let Some(due) = due(&crowd.phases, next.fetch_add(1, Ordering::Relaxed)) {
        let at = began + due;
        let now = clock::instant();
        if now > at + LATENESS_MAX {
            seen.push(Arrival {
                due,
                ended: due,
                outcome: ArrivalOutcome::Unsent,
            });
            continue;
        }
        // Nothing will happen before then that this thread would have to wait for.
        sys::sleep(at.saturating_duration_since(now));
        let outcome = match client.send(&target.request, at + target.timeout) {
            Ok(response) => ArrivalOutcome::Status(response.status),
            Err(error) => ArrivalOutcome::Failure(error.reason()),
        };
        seen.push(Arrival {
            due,
            ended: clock::instant().saturating_duration_since(began),
            outcome,
        });
    }
    seen
}

fn count(phases: &[RatePhase]) -> u64 {
    phases.iter().map(RatePhase::count).sum()
}

impl RatePhase {
    fn count(&self) -> u64 {
        (self.rate * self.duration.as_secs_f64()) as u64
    }
}

/// When the arrival of this number is due, or `None` after the last.
fn due(phases: &[RatePhase], mut index: u64) -> Option<Duration> {
    let mut start = Duration::ZERO;
    for phase in phases {
        let count = phase.count();
        if index < count {
            return Some(start + Duration::from_secs_f64(index as f64 / phase.rate));
        }
        index -= count;
        start += phase.duration;
    }
    None
}

#[cfg(test)]
mod tests;
