//! The prediction lane, simulated: seeded arrivals, a clock that jumps from event to event, and the
//! server's own admission, queue, check at dequeue and scheduler.
//!
//! Only the surroundings are simulated: clients that arrive and lose patience, and workers that
//! take time. Thousands of runs take seconds, and a failing run can be repeated.

mod lane;
mod policies;
mod properties;

use std::time::Duration;

/// Random numbers from a seed (SplitMix64, Steele, Lea and Flood, 2014).
#[derive(Debug, Clone)]
pub(super) struct SimulationRandom(u64);

impl SimulationRandom {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform, above 0 and at most 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// Uniform on a logarithmic scale.
    fn scale(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.unit())
    }

    /// Exponential with mean 1.
    fn exponential(&mut self) -> f64 {
        -self.unit().ln()
    }
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
struct SimulatedRequest {
    at: Duration,
    client: usize,
    /// CPU time of all `rows`, each of which takes the same part of it.
    service: Duration,
    rows: usize,
    /// How long its client waits, and whether it tells the server.
    patience: Duration,
    says_so: bool,
}

/// What happened to it, as its client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SimulatedOutcome {
    /// Answered 200 after this time, while its client still waited.
    Answered(Duration),
    /// Computed in vain: its client had left meanwhile.
    InVain,
    /// Never computed: its client had left before a worker took it.
    Abandoned,
    /// Refused on arrival.
    Refused,
    /// Refused after this wait, uncomputed.
    Expired(Duration),
}

/// How service times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spread {
    /// All the same.
    Constant,
    /// Exponentially.
    Exponential,
}

/// A stream of like requests.
#[derive(Debug, Clone, Copy)]
struct Stream {
    client: usize,
    /// Arrivals per second, as a Poisson process or evenly spaced.
    rate: f64,
    is_even: bool,
    from: Duration,
    to: Duration,
    service: Duration,
    spread: Spread,
    rows: usize,
    patience: Duration,
    says_so: bool,
}

impl Stream {
    /// Single rows of one client, for this long; the server is not told its patience.
    fn steady(rate: f64, service: Duration, to: Duration) -> Self {
        Stream {
            client: 0,
            rate,
            is_even: false,
            from: Duration::ZERO,
            to,
            service,
            spread: Spread::Constant,
            rows: 1,
            patience: Duration::from_secs(5),
            says_so: false,
        }
    }

    fn arrivals(&self, random: &mut SimulationRandom) -> Vec<SimulatedRequest> {
        let mut all = Vec::new();
        // Evenly spaced clients are not in step with each other.
        let mut at =
            self.from.as_secs_f64() - random.unit() / self.rate * f64::from(u8::from(self.is_even));
        loop {
            let gap = if self.is_even {
                1.0
            } else {
                random.exponential()
            };
            at += gap / self.rate;
            if at >= self.to.as_secs_f64() {
                return all;
            }
            let at = at.max(0.0);
            let factor = match self.spread {
                Spread::Constant => 1.0,
                Spread::Exponential => random.exponential(),
            };
            all.push(SimulatedRequest {
                at: Duration::from_secs_f64(at),
                client: self.client,
                service: self.service.mul_f64(factor),
                rows: self.rows,
                patience: self.patience,
                says_so: self.says_so,
            });
        }
    }
}

/// Merges streams into one, ordered by time.
fn merged(streams: &[Stream], seed: u64) -> Vec<SimulatedRequest> {
    let mut random = SimulationRandom(seed);
    let mut all: Vec<SimulatedRequest> = streams
        .iter()
        .flat_map(|stream| stream.arrivals(&mut random))
        .collect();
    all.sort_by_key(|arrival| arrival.at);
    all
}

/// The results of a run, in the window after its start has settled.
#[derive(Debug)]
struct SimulationResult {
    /// Work served in time, as a share of the workers' capacity.
    goodput: f64,
    /// Requests served, and computed in vain.
    answered: usize,
    in_vain: usize,
    refused: usize,
    expired: usize,
    abandoned: usize,
    /// 0.99 quantile of the sojourn times of served requests.
    p99: Duration,
}

/// Sums up the outcomes of requests that arrived from `from` until `to`.
fn seen(
    arrivals: &[SimulatedRequest],
    outcomes: &[SimulatedOutcome],
    workers: usize,
    (from, to): (Duration, Duration),
) -> SimulationResult {
    let mut sojourns = Vec::new();
    let mut work = Duration::ZERO;
    let (mut in_vain, mut refused, mut expired, mut abandoned) = (0, 0, 0, 0);
    for (arrival, outcome) in arrivals.iter().zip(outcomes) {
        if let SimulatedOutcome::Answered(after) = outcome {
            let done = arrival.at + *after;
            if from <= done && done < to {
                work += arrival.service;
            }
        }
        if arrival.at < from || arrival.at >= to {
            continue;
        }
        match outcome {
            SimulatedOutcome::Answered(after) => sojourns.push(*after),
            SimulatedOutcome::InVain => in_vain += 1,
            SimulatedOutcome::Abandoned => abandoned += 1,
            SimulatedOutcome::Refused => refused += 1,
            SimulatedOutcome::Expired(_) => expired += 1,
        }
    }
    sojourns.sort_unstable();
    let rank = (sojourns.len() * 99).div_ceil(100);
    SimulationResult {
        goodput: work.as_secs_f64() / (to - from).as_secs_f64() / workers as f64,
        answered: sojourns.len(),
        in_vain,
        refused,
        expired,
        abandoned,
        p99: rank
            .checked_sub(1)
            .map_or(Duration::ZERO, |rank| sojourns[rank]),
    }
}
