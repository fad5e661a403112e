//! Steady loads: what is answered in time at half, twice and ten times the capacity, for service times
//! from 50 µs to 1 s, and what probes see meanwhile.

use std::time::Duration;

use lanekeeper::drill::load::OpenLoop;
use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{TextTable, millis, outcomes, p99_millis, rate, share};
use lanekeeper::drill::schedule::{Arrival, ArrivalOutcome, Crowd, RatePhase};

use crate::Run;
use crate::contender::{COUNT_ONLY, CURE, Contender, FAULT, SHARED_LANE, SHIPPED};
use crate::measure::{self, PATIENCE, Seen, in_millis, late_per_thousand, p999_millis};
use crate::support::{BenchResult, Model, Server, phase};

/// Long enough for a thousand probes, which a p99 needs.
const IDLE_PHASE: Duration = Duration::from_millis(10_500);

/// More than the queue holds, so that some requests are refused, and fewer than the listener accepts. If
/// refusals are rate-limited, this also limits how many requests are sent.
const CONNECTIONS_MAX: usize = 300;

const HEAVY: Duration = Duration::from_millis(200);

/// Loads as multiples of capacity, with their durations. Goodput is measured in that less [`PATIENCE`].
type Loads = &'static [(f64, Duration)];

const fn millis_long(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Probes wait longest beside small predictions, so overload lasts long enough for three thousand probes.
const SMALL: Loads = &[
    (0.5, millis_long(6_500)),
    (2.0, millis_long(31_000)),
    (10.0, millis_long(31_000)),
];
/// The tenfold load lasts long enough for a thousand probes.
const LIGHT: Loads = &[
    (0.5, millis_long(6_500)),
    (2.0, millis_long(7_000)),
    (10.0, millis_long(10_500)),
];
const WHOLE: Loads = &[
    (0.5, millis_long(9_000)),
    (2.0, millis_long(12_000)),
    (10.0, millis_long(12_000)),
];
const TWICE_AND_TEN: Loads = &[(2.0, millis_long(11_000)), (10.0, millis_long(11_000))];
/// A queue without a limit on waiting time takes longer to fill.
const UNBOUNDED: Loads = &[(2.0, millis_long(16_000)), (10.0, millis_long(11_000))];
const TEN: Loads = &[(10.0, millis_long(11_000))];

type Case = (Contender, Duration, Loads);

const SMALL_CASES: [Case; 3] = [
    (SHIPPED, Duration::from_micros(50), SMALL),
    (SHIPPED, Duration::from_micros(200), SMALL),
    (SHIPPED, Duration::from_millis(1), SMALL),
];

const CASES: [Case; 7] = [
    (SHIPPED, Duration::from_millis(5), LIGHT),
    (SHIPPED, HEAVY, WHOLE),
    (SHARED_LANE, HEAVY, TEN),
    (COUNT_ONLY, HEAVY, TEN),
    (FAULT, HEAVY, TEN),
    (CURE, HEAVY, UNBOUNDED),
    (SHIPPED, Duration::from_secs(1), TWICE_AND_TEN),
];

/// The required goodput as a share of capacity, by service time and load.
fn asked(service: Duration, load: f64) -> Option<f64> {
    match (service.as_micros(), load) {
        (_, load) if load < 1.0 => None,
        (200_000, _) => Some(0.98),
        (1_000 | 5_000, _) => Some(0.95),
        (200, _) => Some(0.92),
        (50, _) => Some(0.85),
        _ => None,
    }
}

/// The maximum p99 of probes in milliseconds, given their p99 on the idle server.
fn probe_p99_max(at_rest: f64) -> f64 {
    (5.0 * at_rest).max(3.0)
}

/// Maximum time to a refusal, from the time at which its request was due.
const REFUSAL_MAX_MS: f64 = 50.0;

/// Predictions so small that the server's own overhead matters.
pub(crate) fn small(run: &mut Run) -> BenchResult<()> {
    measure_all(run, "Small predictions", &SMALL_CASES)
}

/// Predictions of 5 ms to 1 s, with the other contenders.
pub(crate) fn run(run: &mut Run) -> BenchResult<()> {
    measure_all(run, "Goodput", &CASES)
}

fn measure_all(run: &mut Run, title: &str, cases: &[Case]) -> BenchResult<()> {
    println!(
        "## {title}\n\nOpen loop, at most {CONNECTIONS_MAX} connections; goodput is counted from {} s after the load's start to its end; a probe every {} ms.\nasked: arrivals a second; offered: what was truly sent of them; share: goodput of capacity, at 0.5x of what was offered;\nlate: of 1,000 admitted, not answered in time; sojourn: of the admitted; ~: from too few to be more than a guess;\ngenerator: its share of its core, * where it may be the limit; others: cores that neither bench nor server used, ! where that disturbs\n",
        PATIENCE.as_secs(),
        measure::PROBE_INTERVAL.as_millis()
    );
    let at_rest = at_rest(run)?;
    let mut table = TextTable::new(&[
        "service time",
        "contender",
        "load",
        "capacity/s",
        "asked/s",
        "offered/s",
        "goodput/s",
        "share",
        "outcomes",
        "late ‰",
        "sojourn p50 ms",
        "p99 ms",
        "probes",
        "failed",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "p99/idle",
        "main: failed",
        "p99 ms",
        "max ms",
        "refusal max ms",
        "generator",
        "others",
    ]);
    let mut idle_row = vec!["–".to_owned(), SHIPPED.name.to_owned(), "idle".to_owned()];
    idle_row.resize(12, "–".to_owned());
    idle_row.extend(probe_cells(&at_rest, &at_rest));
    idle_row.resize(23, "–".to_owned());
    table.row(idle_row);
    for (contender, service, loads) in cases {
        // If one contender cannot be measured, the others still can.
        if let Err(error) = case(run, contender, *service, loads, &at_rest, &mut table) {
            let told = humantime::format_duration(*service).to_string();
            table.row([told, contender.name.to_owned(), format!("failed: {error}")]);
        }
    }
    println!("{}", table.markdown());
    Ok(())
}

/// Measures probes on an idle server.
fn at_rest(run: &Run) -> BenchResult<Tally> {
    let server = SHIPPED.start(run, Model::Burning(HEAVY))??;
    measure::idle(&server, phase(IDLE_PHASE))
}

/// Measures one contender at one service time, under each load.
fn case(
    run: &mut Run,
    contender: &Contender,
    service: Duration,
    loads: Loads,
    at_rest: &Tally,
    table: &mut TextTable,
) -> BenchResult<()> {
    let told = humantime::format_duration(service).to_string();
    let model = Model::Burning(service);
    let mut server = match contender.start(run, model)? {
        Ok(server) => server,
        Err(reason) => {
            let cells = [
                told,
                contender.name.to_owned(),
                format!("skipped: {reason}"),
            ];
            table.row(cells);
            return Ok(());
        }
    };
    let capacity = measure::capacity(&server)?;
    for (load, lasts) in loads {
        let load = Load {
            factor: *load,
            capacity,
            lasts: phase(*lasts),
        };
        if !measure::settle(&measure::predict(&server)?) {
            // Its queue is longer than any client waits. Restart it, so that the next load starts without it.
            drop(server);
            server = contender.start(run, model)??;
        }
        let seen = load.run(&server)?;
        let mut row = vec![told.clone(), contender.name.to_owned()];
        row.extend(load.cells(&seen));
        if load.factor > 1.0 {
            run.tell_in_short(load.in_short(&told, contender.name, &seen));
        }
        row.extend(probe_cells(&seen.probes, at_rest));
        row.extend(main_probe_cells(&seen));
        row.push(latest_refusal(&seen).map_or("–".to_owned(), |latest| format!("{latest:.1}")));
        row.extend([seen.generator(), seen.others.clone()]);
        // The table is printed at the end; this shows progress.
        eprintln!("{}", row.join(" | "));
        table.row(row);
        if contender.name == SHIPPED.name {
            load.judge(run, &told, asked(service, load.factor), &seen, at_rest);
        }
    }
    Ok(())
}

/// A steady load.
struct Load {
    factor: f64,
    capacity: f64,
    lasts: Duration,
}

impl Load {
    fn run(&self, server: &Server) -> BenchResult<Seen> {
        let rate = (self.factor * self.capacity).min(1e5);
        let crowd = Crowd {
            target: measure::predict(server)?,
            source: None,
            phases: vec![RatePhase {
                rate,
                duration: self.lasts + measure::tail(self.factor, self.capacity),
            }],
            connections: OpenLoop::connections_enough(rate, PATIENCE).min(CONNECTIONS_MAX),
        };
        if server.probe.is_some() {
            measure::run_probed_twice(server, &[crowd])
        } else {
            measure::run(server, &[crowd])
        }
    }

    fn goodput(&self, seen: &Seen) -> f64 {
        seen.traces[0].goodput(PATIENCE, self.lasts)
    }

    fn offered(&self, seen: &Seen) -> f64 {
        seen.traces[0].offered(PATIENCE, self.lasts)
    }

    /// The maximum sojourn time with `--max-wait auto`: a wait of ten service times, at least 100 ms and
    /// at most 2 s (or two service times), and the service. The service time includes overhead, because
    /// it is computed from the capacity.
    fn budget(&self) -> Duration {
        let service = Duration::from_secs_f64(1.0 / self.capacity.max(1e-3));
        let longest = Duration::from_secs(2).max(service * 2);
        (service * 10).clamp(Duration::from_millis(100), longest) + service
    }

    /// The maximum goodput. From twice the capacity on that is the capacity, even if the clients sent less
    /// because the server made them wait.
    fn possible(&self, seen: &Seen) -> f64 {
        if self.factor < 1.0 {
            self.offered(seen)
        } else {
            self.capacity
        }
    }

    fn all(&self, seen: &Seen) -> Tally {
        seen.traces[0].tally(Duration::ZERO, self.lasts)
    }

    fn cells(&self, seen: &Seen) -> Vec<String> {
        let tally = self.all(seen);
        vec![
            format!("{}x", self.factor),
            rate(self.capacity),
            rate(self.factor * self.capacity),
            rate(self.offered(seen)),
            rate(self.goodput(seen)),
            share(self.goodput(seen), self.possible(seen)),
            outcomes(&tally),
            format!("{:.1}", late_per_thousand(&tally)),
            millis(tally.latencies.quantile(0.5)),
            p99_millis(&tally.latencies),
        ]
    }

    fn in_short(&self, service: &str, contender: &str, seen: &Seen) -> [String; 8] {
        let tally = self.all(seen);
        let probes = &seen.probes;
        [
            service.to_owned(),
            contender.to_owned(),
            format!("{}x", self.factor),
            share(self.goodput(seen), self.possible(seen)),
            format!("{:.0}", late_per_thousand(&tally)),
            p99_millis(&tally.latencies),
            format!("{} of {}", probes.failed(), probes.requests()),
            p99_millis(&probes.latencies),
        ]
    }

    fn judge(
        &self,
        run: &mut Run,
        service: &str,
        asked: Option<f64>,
        seen: &Seen,
        at_rest: &Tally,
    ) {
        let factor = self.factor;
        let tally = self.all(seen);
        run.meanwhile(&seen.others);
        if let Some(least) = asked {
            let found = self.goodput(seen) / self.possible(seen).max(1e-9);
            run.at_least(format!("goodput at {factor}x of {service}"), found, least);
        }
        let late = Some(late_per_thousand(&tally));
        let what = format!("admitted but late at {factor}x of {service}");
        run.at_most(what, late, 1.0, "of 1,000");
        if factor < 2.0 {
            return;
        }
        let p99 = |tally: &Tally| in_millis(tally.latencies.quantile(0.99));
        let what = format!("p99 sojourn of the admitted at {factor}x of {service}");
        let budget = in_millis(Some(self.budget())).unwrap_or(0.0);
        run.at_most(what, p99(&tally), budget, "ms");
        let what = format!("latest refusal at {factor}x of {service}");
        let latest = Some(latest_refusal(seen).unwrap_or(0.0));
        run.at_most(what, latest, REFUSAL_MAX_MS, "ms");
        let most = probe_p99_max(p99(at_rest).unwrap_or(0.0));
        let listeners = [
            ("", Some(&seen.probes)),
            (" on the main listener", seen.main_probes.as_ref()),
        ];
        for (listener, probes) in listeners {
            let Some(probes) = probes else { continue };
            let what = format!(
                "failed of {} probes{listener} at {factor}x of {service}",
                probes.requests()
            );
            run.at_most(what, Some(probes.failed() as f64), 0.0, "");
            let what = format!("probe p99{listener} at {factor}x of {service}");
            run.at_most(what, p99(probes), most, "ms");
        }
    }
}

/// The longest time to a refusal, in milliseconds.
fn latest_refusal(seen: &Seen) -> Option<f64> {
    let arrivals = seen.traces[0].due(Duration::ZERO, Duration::MAX);
    let refused = |arrival: &&Arrival| arrival.outcome == ArrivalOutcome::Status(503);
    in_millis(arrivals.iter().filter(refused).map(Arrival::latency).max())
}

/// Failed probes at the main listener, their p99 and maximum.
fn main_probe_cells(seen: &Seen) -> [String; 3] {
    seen.main_probes.as_ref().map_or_else(
        || ["–"; 3].map(str::to_owned),
        |probes| {
            let latencies = &probes.latencies;
            [
                probes.failed().to_string(),
                p99_millis(latencies),
                millis(latencies.max()),
            ]
        },
    )
}

/// Table cells from the number of probes to their p99 as a multiple of the idle server's.
fn probe_cells(probes: &Tally, at_rest: &Tally) -> [String; 7] {
    let latencies = &probes.latencies;
    let p99 = |tally: &Tally| in_millis(tally.latencies.quantile(0.99)).unwrap_or(0.0);
    [
        probes.requests().to_string(),
        if probes.failed() > 0 {
            format!("{} ({})", probes.failed(), outcomes(probes))
        } else {
            "0".to_owned()
        },
        millis(latencies.quantile(0.5)),
        p99_millis(latencies),
        p999_millis(latencies),
        millis(latencies.max()),
        share(p99(probes), p99(at_rest)),
    ]
}
