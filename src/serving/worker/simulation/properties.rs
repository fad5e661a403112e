//! Properties of the prediction lane: in thousands of random runs, and in the cases that README
//! promises something about.

use std::time::Duration;

use super::lane::{Setup, run};
use super::{
    SimulatedOutcome, SimulatedRequest, SimulationRandom, SimulationResult, Spread, Stream, merged,
    seen,
};
use crate::config::MaxWait;

const MILLI: Duration = Duration::from_millis(1);

fn setup(workers: usize) -> Setup {
    Setup {
        workers,
        queue: 256,
        suspended: 1024,
        max_wait: MaxWait::Auto,
        is_fair: false,
    }
}

/// A random lane with a random load.
fn random_run(seed: u64) -> (Setup, Vec<SimulatedRequest>) {
    let mut random = SimulationRandom(seed);
    let workers = 1 + (random.next() % 8) as usize;
    let max_wait = match random.next() % 4 {
        0 => MaxWait::Unlimited,
        1 => MaxWait::Fixed(Duration::from_secs_f64(random.scale(0.001, 10.0))),
        _ => MaxWait::Auto,
    };
    let setup = Setup {
        workers,
        queue: 1 + (random.next() % 300) as usize,
        suspended: [1, 2, 8, 1024][(random.next() % 4) as usize],
        max_wait,
        is_fair: random.next().is_multiple_of(2),
    };
    let streams: Vec<Stream> = (0..1 + random.next() % 4)
        .map(|client| {
            let service = random.scale(50e-6, 1.0);
            let rate = random.scale(0.1, 20.0) * workers as f64 / service;
            let count = 20.0 + random.unit() * 300.0;
            let from = random.unit() * service * 10.0;
            Stream {
                client: client as usize,
                is_even: random.next().is_multiple_of(3),
                from: Duration::from_secs_f64(from),
                to: Duration::from_secs_f64(from + count / rate),
                spread: if random.next().is_multiple_of(2) {
                    Spread::Constant
                } else {
                    Spread::Exponential
                },
                rows: [1, 1, 100, 10_000][(random.next() % 4) as usize],
                patience: Duration::from_secs_f64(service * random.scale(0.5, 100.0)),
                says_so: random.next().is_multiple_of(2),
                ..Stream::steady(rate, Duration::from_secs_f64(service), Duration::ZERO)
            }
        })
        .collect();
    let arrivals = merged(&streams, seed);
    (setup, arrivals)
}

/// `run` asserts that each request has one outcome, that each admitted request has a place, that none
/// is computed after it waited too long, and that no reservation remains.
#[test]
fn every_request_has_one_outcome_in_thousands_of_runs() {
    let mut answered = 0;
    for seed in 0..3_000 {
        let (setup, arrivals) = random_run(seed);
        let outcomes = run(&setup, &arrivals);
        assert_eq!(outcomes.len(), arrivals.len(), "seed {seed}");
        let first = outcomes.iter().zip(&arrivals).next();
        if let Some((outcome, arrival)) = first {
            let fits = arrival.service < arrival.patience;
            let is_answered = matches!(outcome, SimulatedOutcome::Answered(_));
            assert!(
                is_answered || !fits || arrival.rows >= 16,
                "seed {seed}: an idle lane takes it"
            );
        }
        answered += outcomes
            .iter()
            .filter(|outcome| matches!(outcome, SimulatedOutcome::Answered(_)))
            .count();
    }
    assert!(answered > 100_000, "{answered}");
}

#[test]
fn the_same_seed_is_the_same_run() {
    let (setup, arrivals) = random_run(7);
    assert_eq!(run(&setup, &arrivals), run(&setup, &arrivals));
}

#[test]
fn goodput_stays_at_capacity_however_much_is_offered() {
    let table = [
        (200.0, Spread::Constant, 0.99),
        (200.0, Spread::Exponential, 0.98),
        (5.0, Spread::Constant, 0.99),
        (5.0, Spread::Exponential, 0.98),
        (1000.0, Spread::Constant, 0.98),
        (0.2, Spread::Constant, 0.99),
    ];
    for workers in [1, 4] {
        for (millis, spread, least) in table {
            for factor in [2.0, 10.0] {
                let service = MILLI.mul_f64(millis);
                let (mut expired, mut answered) = (0, 0);
                // With random service times, the number that expire depends on the seed.
                for seed in 1..=if spread == Spread::Constant { 1 } else { 4 } {
                    let seen = overloaded(workers, service, spread, factor, seed);
                    let name =
                        format!("{workers} workers, {millis} ms, {spread:?}, {factor}x: {seen:?}");
                    assert!(seen.goodput >= least, "{name}");
                    assert!(seen.in_vain * 1000 <= seen.answered, "{name}");
                    let most = Duration::from_secs(2)
                        .max(service * 2)
                        .min((service * 10).max(MILLI * 100));
                    // If predictions differ widely, a wait may be twice the estimate, and a
                    // prediction several times the mean.
                    let most = if spread == Spread::Constant {
                        most + service * 5 / 4
                    } else {
                        most * 2 + service * 10
                    };
                    assert!(seen.p99 <= most, "{name}");
                    expired += seen.expired;
                    answered += seen.answered;
                }
                // Requests that are admitted and then not computed have waited in vain.
                let few = if spread == Spread::Constant { 1000 } else { 40 };
                let name = format!("{workers} workers, {millis} ms, {spread:?}, {factor}x");
                assert!(expired * few <= answered, "{name}: {expired} of {answered}");
            }
        }
    }
}

/// A steady load of `factor` times the workers' capacity, after it has settled.
fn overloaded(
    workers: usize,
    service: Duration,
    spread: Spread,
    factor: f64,
    seed: u64,
) -> SimulationResult {
    let rate = factor * workers as f64 / service.as_secs_f64();
    let end = service * 600 + Duration::from_secs(10);
    let stream = Stream {
        spread,
        ..Stream::steady(rate, service, end)
    };
    let arrivals = merged(&[stream], seed);
    let outcomes = run(&setup(workers), &arrivals);
    seen(&arrivals, &outcomes, workers, (Duration::from_secs(5), end))
}

#[test]
fn below_capacity_nobody_is_refused() {
    for workers in [1, 2, 8] {
        for millis in [0.2, 5.0, 200.0] {
            let service = MILLI.mul_f64(millis);
            let rate = 0.7 * workers as f64 / service.as_secs_f64();
            let arrivals = merged(&[Stream::steady(rate, service, service * 3000)], 3);
            let outcomes = run(&setup(workers), &arrivals);
            let refused = outcomes
                .iter()
                .filter(|outcome| !matches!(outcome, SimulatedOutcome::Answered(_)))
                .count();
            assert!(
                refused * 1000 <= outcomes.len(),
                "{workers} workers, {millis} ms: {refused} of {}",
                outcomes.len()
            );
        }
    }
}

#[test]
fn who_says_how_long_it_waits_is_answered_in_time_or_refused_at_once() {
    for spread in [Spread::Constant, Spread::Exponential] {
        let service = MILLI * 20;
        let end = Duration::from_secs(120);
        let stream = Stream {
            spread,
            patience: MILLI * 150,
            says_so: true,
            ..Stream::steady(150.0, service, end)
        };
        let arrivals = merged(&[stream], 5);
        let outcomes = run(&setup(1), &arrivals);
        let seen = seen(&arrivals, &outcomes, 1, (Duration::from_secs(5), end));
        let least = if spread == Spread::Constant {
            0.99
        } else {
            0.85
        };
        assert!(seen.goodput >= least, "{spread:?}: {seen:?}");
        let late = if spread == Spread::Constant { 1000 } else { 50 };
        assert!(
            (seen.in_vain + seen.abandoned) * late <= seen.answered,
            "{spread:?}: {seen:?}"
        );
    }
}

#[test]
fn the_lane_is_itself_again_within_a_second_of_a_storm() {
    for millis in [5, 200] {
        let service = MILLI * millis;
        let at = |seconds| Duration::from_secs(seconds);
        let part = |factor: f64, from, to| Stream {
            from: at(from),
            to: at(to),
            ..Stream::steady(factor / service.as_secs_f64(), service, at(to))
        };
        let streams = [part(0.5, 0, 20), part(10.0, 20, 40), part(0.5, 40, 60)];
        let arrivals = merged(&streams, 11);
        let outcomes = run(&setup(1), &arrivals);
        let later = arrivals
            .iter()
            .zip(&outcomes)
            .filter(|(arrival, _)| arrival.at >= at(41));
        let (mut answered, mut other) = (0, 0);
        for (_, outcome) in later {
            match outcome {
                SimulatedOutcome::Answered(_) => answered += 1,
                _ => other += 1,
            }
        }
        assert!(
            answered > 20 && other * 200 <= answered,
            "{millis} ms: {answered} and {other}"
        );
    }
}

/// For each client, the work that was answered and that it asked for, as fractions of the lane's capacity.
/// Client 0 asks for ten times the capacity, each of the nine others for `honest` of it.
fn shares(is_fair: bool, service: Duration, honest: f64, is_even: bool) -> Vec<(f64, f64)> {
    let end = service * 4000;
    let rate = |share: f64| share / service.as_secs_f64();
    let mut streams = vec![Stream::steady(rate(10.0), service, end)];
    for client in 1..10 {
        let stream = Stream::steady(rate(honest), service, end);
        streams.push(Stream {
            client,
            is_even,
            ..stream
        });
    }
    let arrivals = merged(&streams, 17);
    let outcomes = run(
        &Setup {
            is_fair,
            ..setup(1)
        },
        &arrivals,
    );
    let mut work = vec![(0.0, 0.0); 10];
    for (arrival, outcome) in arrivals.iter().zip(&outcomes) {
        if arrival.at >= end / 10 {
            let part = arrival.service.as_secs_f64() / (end * 9 / 10).as_secs_f64();
            work[arrival.client].1 += part;
            if matches!(outcome, SimulatedOutcome::Answered(_)) {
                work[arrival.client].0 += part;
            }
        }
    }
    work
}

#[test]
fn one_who_floods_takes_nobodys_share() {
    for millis in [5, 200] {
        for (honest, is_even) in [(0.09, false), (0.1, true), (0.2, false)] {
            let fair = shares(true, MILLI * millis, honest, is_even);
            let name = format!("{millis} ms, {honest}: {fair:.3?}");
            // Ten clients, so a fair share is a tenth of the lane.
            for (answered, asked) in &fair[1..] {
                assert!(*answered >= 0.9 * asked.min(0.1), "{name}");
            }
            let all: f64 = fair.iter().map(|(answered, _)| answered).sum();
            assert!(all >= 0.95, "{name}");
            let unfair = shares(false, MILLI * millis, honest, is_even);
            let is_starved = |(answered, asked): &(f64, f64)| *answered < 0.6 * asked;
            assert!(unfair[1..].iter().all(is_starved), "{unfair:.3?}");
        }
    }
}

#[test]
fn a_client_alone_has_the_lane_to_itself() {
    let service = MILLI * 5;
    let end = Duration::from_secs(30);
    let arrivals = merged(&[Stream::steady(2000.0, service, end)], 23);
    let outcomes = run(
        &Setup {
            is_fair: true,
            ..setup(1)
        },
        &arrivals,
    );
    let seen = seen(&arrivals, &outcomes, 1, (Duration::from_secs(2), end));
    assert!(seen.goodput >= 0.98, "{seen:?}");
}

#[test]
fn single_rows_do_not_wait_for_large_requests() {
    let end = Duration::from_secs(60);
    let singles = Stream::steady(500.0, MILLI.mul_f64(0.2), end);
    // A fifth of the worker: two seconds of work every ten seconds. Single rows take a tenth.
    let large = Stream {
        rows: 100_000,
        is_even: true,
        client: 1,
        patience: Duration::from_secs(30),
        ..Stream::steady(0.1, Duration::from_secs(2), end)
    };
    let arrivals = merged(&[singles, large], 29);
    let outcomes = run(&setup(1), &arrivals);
    let mut waits = Vec::new();
    for (arrival, outcome) in arrivals.iter().zip(&outcomes) {
        match outcome {
            SimulatedOutcome::Answered(after) if arrival.rows == 1 => waits.push(*after),
            SimulatedOutcome::Answered(after) => {
                // Half of the worker would compute each in 4 s, and single rows leave more.
                assert!(*after < Duration::from_secs(5), "{after:?}");
            }
            other => panic!("{arrival:?}: {other:?}"),
        }
    }
    waits.sort_unstable();
    let p99 = waits[waits.len() * 99 / 100];
    assert!(p99 < MILLI * 25, "{p99:?}");
}

#[test]
fn smaller_requests_are_not_shut_out_by_larger_ones() {
    let end = Duration::from_secs(60);
    let large = |client, rows, rate| Stream {
        rows,
        client,
        ..Stream::steady(rate, MILLI.mul_f64(0.02) * rows as u32, end)
    };
    let singles = Stream::steady(100.0, MILLI.mul_f64(0.02), end);
    let arrivals = merged(&[large(0, 1_000, 5.0), large(1, 10_000, 9.5), singles], 43);
    let outcomes = run(&setup(1), &arrivals);
    let (mut came, mut answered) = ([0.0; 2], [0.0; 2]);
    for (arrival, outcome) in arrivals.iter().zip(&outcomes) {
        if arrival.rows > 1 {
            came[arrival.client] += 1.0;
            answered[arrival.client] +=
                f64::from(u8::from(matches!(outcome, SimulatedOutcome::Answered(_))));
        }
    }
    let shares = [answered[0] / came[0], answered[1] / came[1]];
    assert!(
        shares[1] > 0.4 && shares[0] > shares[1] * 0.8,
        "{shares:.2?}"
    );
}

#[test]
fn large_and_single_requests_each_get_half_when_both_want_all() {
    let end = Duration::from_secs(60);
    let singles = Stream::steady(20_000.0, MILLI.mul_f64(0.2), end);
    let large = Stream {
        rows: 10_000,
        client: 1,
        ..Stream::steady(50.0, MILLI * 100, end)
    };
    let arrivals = merged(&[singles, large], 31);
    let outcomes = run(&setup(1), &arrivals);
    let mut work = [0.0; 2];
    for (arrival, outcome) in arrivals.iter().zip(&outcomes) {
        if matches!(outcome, SimulatedOutcome::Answered(_)) {
            work[arrival.client] += arrival.service.as_secs_f64() / end.as_secs_f64();
        }
    }
    assert!(
        work.iter().all(|share| *share > 0.3) && work[0] + work[1] > 0.95,
        "{work:.3?}"
    );
}

#[test]
fn no_execution_starves_once_it_has_begun() {
    for (workers, millis) in [(1, 30), (2, 30), (4, 400)] {
        let service = MILLI * millis;
        let end = Duration::from_secs(60);
        let rate = 5.0 * workers as f64 / service.as_secs_f64();
        let large = Stream {
            rows: 20_000,
            ..Stream::steady(rate, service, end)
        };
        let arrivals = merged(&[large], 37);
        let outcomes = run(&setup(workers), &arrivals);
        let seen = seen(&arrivals, &outcomes, workers, (Duration::from_secs(5), end));
        let name = format!("{workers} workers, {millis} ms: {seen:?}");
        assert!(seen.goodput > 0.98, "{name}");
        assert_eq!(seen.in_vain + seen.abandoned, 0, "{name}");
        assert!(seen.p99 < service * 25 + MILLI * 200, "{name}");
    }
}
