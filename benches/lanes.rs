//! What is the second lane worth, and what does it cost?
//!
//! First, it measures probes on both listeners and goodput, for two lanes and for `--shared-lane`.
//! Clients that wait 5 s offer 0.5, 2 and 10 times the server's measured capacity (200 ms a prediction).
//! Server and load generator share all cores, as on a small node. Second, it measures the rate of 20 ms
//! predictions while closed-loop clients flood `/livez`, with and without rate limits, as a share of the
//! rate without a flood. Server and generator then have a core each. It takes under three minutes;
//! `LANEKEEPER_BENCH_SECONDS` lengthens its phases.
#![allow(clippy::print_stdout)] // the report is the purpose

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use lanekeeper::drill::load::{ClosedLoop, OpenLoop, Prober, Target, capacity};
use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{TextTable, millis, outcomes, p99_millis, rate, share};
use lanekeeper::platform::client::Client;
use lanekeeper::platform::clock;

mod support;

use support::{BenchResult, Cores, IRIS, Model, Others, Pinned, Server};

const HEAVY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(5);
/// Goodput is measured in this time less [`PATIENCE`].
const OVERLOAD_PHASE: Duration = Duration::from_secs(12);
/// Long enough for a thousand probes, which a p99 needs.
const IDLE_PHASE: Duration = Duration::from_millis(10_500);
const SHARED_IDLE_PHASE: Duration = Duration::from_secs(4);
const OVERLOAD_PROBES: Duration = Duration::from_millis(10);
const LOADS: [f64; 3] = [0.5, 2.0, 10.0];

const MEDIUM: Duration = Duration::from_millis(20);
const PREDICTING_CLIENTS: usize = 4;
const FLOOD_PHASE: Duration = Duration::from_secs(3);
const FLOOD_WARM_UP: Duration = Duration::from_millis(600);
const FLOOD_PROBES: Duration = Duration::from_millis(20);
/// So long that no client of a flood times out.
const FLOOD_PATIENCE: Duration = Duration::from_secs(10);

const FLOOD_MODES: [(&str, &[&str]); 2] = [
    ("paced", &[]),
    (
        "unpaced",
        &[
            "--pace-first",
            "0",
            "--pace-later",
            "0",
            "--pace-probes",
            "0",
        ],
    ),
];
/// Number of closed-loop clients on `/livez`, and whether they use the probe listener.
const FLOODS: [(usize, bool); 5] = [
    (0, false),
    (16, false),
    (128, false),
    (48, true),
    (64, true),
];

fn main() -> ExitCode {
    support::main(|| {
        overload()?;
        flood()
    })
}

/// Probes and goodput under overload, with two lanes and with one.
fn overload() -> BenchResult<()> {
    let workers = thread::available_parallelism()?.get();
    println!(
        "lanes, overload: {} ms of CPU for each prediction, {workers} prediction workers, open loop, clients wait {} s; a probe every {} ms on each listener;\nserver, load generator and probers share {workers} cores; ~: a p99 from fewer than 1,000 probes;\nothers: cores that neither bench nor server used, ! where that disturbs the figures",
        HEAVY.as_millis(),
        PATIENCE.as_secs(),
        OVERLOAD_PROBES.as_millis(),
    );
    let mut table = TextTable::new(&[
        "load",
        "offered/s",
        "goodput/s",
        "share",
        "listener",
        "probes",
        "failed",
        "p50 ms",
        "p99 ms",
        "max ms",
        "p99/idle",
        "failures",
        "predictions",
        "others",
    ]);
    for (name, more, idle) in [
        ("two lanes", &[][..], IDLE_PHASE),
        ("shared lane", &["--shared-lane"][..], SHARED_IDLE_PHASE),
    ] {
        overload_mode(name, more, idle, workers, &mut table)?;
    }
    println!("{table}");
    Ok(())
}

/// Measures one server, idle and under each load, and adds rows to `table`.
fn overload_mode(
    name: &str,
    more: &[&str],
    idle: Duration,
    workers: usize,
    table: &mut TextTable,
) -> BenchResult<()> {
    let workers_text = workers.to_string();
    let options = [
        "--predict-workers",
        &workers_text,
        "--predict-queue",
        "256",
        "--max-wait",
        "2s",
    ];
    let server = Server::start(Model::Burning(HEAVY), None, &[&options[..], more].concat())?;
    let target = Target::post_json(server.main, "/predict", IRIS, PATIENCE)?;
    let others = Others::watch(&[&server]);
    let capacity = capacity(&target, workers)?;
    println!(
        "{name}: capacity {} predictions/s; others {}",
        rate(capacity),
        others.cell(&[&server])
    );
    let others = Others::watch(&[&server]);
    let at_rest = beside(&listeners(&server), OVERLOAD_PROBES, idle, || Ok(()))?.1;
    let calm = Offer {
        name: &format!("{name}, idle"),
        rate: 0.0,
        capacity,
        tally: None,
        others: others.cell(&[&server]),
    };
    calm.rows(table, &at_rest, &at_rest);
    for factor in LOADS {
        settle(&target)?;
        let duration = support::phase(OVERLOAD_PHASE);
        let offered = factor * capacity;
        let open = OpenLoop {
            target: target.clone(),
            rate: offered,
            duration,
            connections: OpenLoop::connections_enough(offered, PATIENCE),
        };
        let others = Others::watch(&[&server]);
        let (tally, probes) = beside(&listeners(&server), OVERLOAD_PROBES, duration, || {
            Ok(open.run()?)
        })?;
        let offer = Offer {
            name: &format!("{name}, {factor}x"),
            rate: offered,
            capacity,
            tally: Some(&tally),
            others: others.cell(&[&server]),
        };
        offer.rows(table, &probes, &at_rest);
    }
    Ok(())
}

/// The load of one phase and its results.
struct Offer<'a> {
    name: &'a str,
    rate: f64,
    capacity: f64,
    tally: Option<&'a Tally>,
    others: String,
}

impl Offer<'_> {
    /// Adds a row for each listener.
    fn rows(&self, table: &mut TextTable, probes: &[(&str, Tally)], at_rest: &[(&str, Tally)]) {
        for (index, ((listener, probe), (_, idle))) in probes.iter().zip(at_rest).enumerate() {
            let first = index == 0;
            let load = self.tally.filter(|_| first);
            let p99 = |tally: &Tally| {
                tally
                    .latencies
                    .quantile(0.99)
                    .map_or(0.0, |p99| p99.as_secs_f64())
            };
            // The load is shown once, in the first listener's row.
            let said = |cell: &dyn Fn(&Tally) -> String| load.map_or(String::new(), cell);
            let once = |cell: &str| {
                if first {
                    cell.to_owned()
                } else {
                    String::new()
                }
            };
            table.row([
                once(self.name),
                said(&|_| rate(self.rate)),
                said(&|tally| rate(tally.per_second())),
                // Goodput cannot exceed the offered load or the capacity.
                said(&|tally| share(tally.per_second(), self.capacity.min(self.rate))),
                (*listener).to_owned(),
                probe.requests().to_string(),
                probe.failed().to_string(),
                millis(probe.latencies.quantile(0.5)),
                p99_millis(&probe.latencies),
                millis(probe.latencies.max()),
                share(p99(probe), p99(idle)),
                failures(probe),
                said(&outcomes),
                once(&self.others),
            ]);
        }
    }
}

/// The outcomes of all probes, if some failed.
fn failures(probe: &Tally) -> String {
    if probe.failed() > 0 {
        outcomes(probe)
    } else {
        String::new()
    }
}

/// Predictions a second beside floods of `/livez`, as a share of the rate without one.
fn flood() -> BenchResult<()> {
    let cores = Cores::pick();
    println!(
        "lanes, floods: {} ms of CPU for each prediction, 1 prediction worker, {PREDICTING_CLIENTS} closed-loop clients predict beside keep-alive clients that ask /livez in a closed loop;\n{}; a probe every {} ms on each listener",
        MEDIUM.as_millis(),
        Cores::describe(cores),
        FLOOD_PROBES.as_millis(),
    );
    let start = |(_, more): &(&str, &[&str])| {
        let options = [&["--predict-workers", "1"], *more].concat();
        Server::start(
            Model::Burning(MEDIUM),
            cores.map(|cores| cores.server),
            &options,
        )
    };
    let servers = FLOOD_MODES
        .iter()
        .map(start)
        .collect::<BenchResult<Vec<_>>>()?;
    let all: Vec<&Server> = servers.iter().collect();
    let _pinned = Pinned::to_generator(cores);
    let mut table = flood_table();
    let mut calm = [0.0; FLOOD_MODES.len()];
    for (clients, on_probe_listener) in FLOODS {
        for (index, server) in servers.iter().enumerate() {
            let others = Others::watch(&all);
            let seen = flood_phase(server, clients, on_probe_listener)?;
            let predictions = seen.predictions.per_second();
            if clients == 0 {
                calm[index] = predictions;
            }
            let place = if on_probe_listener {
                "probe listener"
            } else {
                "main"
            };
            table.row([
                if clients == 0 {
                    "calm".to_owned()
                } else {
                    format!("{clients} clients on {place}")
                },
                FLOOD_MODES[index].0.to_owned(),
                rate(predictions),
                share(predictions, calm[index]),
                rate(seen.flood.per_second()),
                outcomes(&seen.flood),
                quantiles(seen.probes.first()),
                quantiles(seen.probes.get(1)),
                probe_failures(&seen.probes),
                others.cell(&all),
            ]);
            if seen.predictions.failed() > 0 {
                println!(
                    "not all predictions were answered 200: {}",
                    outcomes(&seen.predictions)
                );
            }
        }
    }
    println!("{table}");
    Ok(())
}

fn probe_failures(probes: &[(&str, Tally)]) -> String {
    let failing = probes.iter().filter(|(_, probe)| probe.failed() > 0);
    let told: Vec<String> = failing
        .map(|(name, probe)| format!("{name}: {}", outcomes(probe)))
        .collect();
    if told.is_empty() {
        "0".to_owned()
    } else {
        told.join("; ")
    }
}

fn quantiles(probe: Option<&(&str, Tally)>) -> String {
    probe.map_or("-".to_owned(), |(_, probe)| {
        format!(
            "{} / {}",
            millis(probe.latencies.quantile(0.5)),
            p99_millis(&probe.latencies)
        )
    })
}

fn flood_table() -> TextTable {
    TextTable::new(&[
        "flood",
        "pacing",
        "predictions/s",
        "share of calm",
        "livez/s",
        "livez answers",
        "probe p50/p99 ms, main",
        "probe listener",
        "failed probes",
        "others",
    ])
}

/// The results of one phase with a flood.
struct Seen {
    predictions: Tally,
    flood: Tally,
    probes: Vec<(&'static str, Tally)>,
}

fn flood_phase(server: &Server, clients: usize, on_probe_listener: bool) -> BenchResult<Seen> {
    let duration = support::phase(FLOOD_PHASE);
    let closed = |target, connections| ClosedLoop {
        target,
        connections,
        warm_up: FLOOD_WARM_UP,
        duration,
    };
    let predict = Target::post_json(server.main, "/predict", IRIS, FLOOD_PATIENCE)?;
    settle(&predict)?;
    let address = if on_probe_listener {
        server.probe.ok_or("the server has no probe listener")?
    } else {
        server.main
    };
    let livez = Target::get(address, "/livez", FLOOD_PATIENCE)?;
    let run = || -> BenchResult<(Tally, Tally)> {
        thread::scope(|scope| {
            let flood = (clients > 0)
                .then(|| {
                    thread::Builder::new()
                        .name("flood".to_owned())
                        .spawn_scoped(scope, || closed(livez, clients).run())
                })
                .transpose()?;
            let predictions = closed(predict, PREDICTING_CLIENTS).run()?;
            let flood = match flood {
                Some(flood) => flood.join().map_err(|_| "the flood panicked")??,
                None => Tally::default(),
            };
            Ok((predictions, flood))
        })
    };
    let ((predictions, flood), probes) = beside(
        &listeners(server),
        FLOOD_PROBES,
        FLOOD_WARM_UP + duration,
        run,
    )?;
    Ok(Seen {
        predictions,
        flood,
        probes,
    })
}

fn listeners(server: &Server) -> Vec<(&'static str, SocketAddr)> {
    [("main", Some(server.main)), ("probe", server.probe)]
        .into_iter()
        .filter_map(|(name, address)| Some((name, address?)))
        .collect()
}

/// Runs `load` with a prober at each listener beside it, for `duration` and as long as `load` takes.
fn beside<T>(
    listeners: &[(&'static str, SocketAddr)],
    interval: Duration,
    duration: Duration,
    load: impl FnOnce() -> BenchResult<T>,
) -> BenchResult<(T, Vec<(&'static str, Tally)>)> {
    thread::scope(|scope| {
        let mut probers = Vec::new();
        for (name, address) in listeners {
            let prober = Prober {
                target: Target::probe(*address, "/livez")?,
                interval,
                duration,
            };
            let builder = thread::Builder::new().name("prober".to_owned());
            probers.push((*name, builder.spawn_scoped(scope, move || prober.run())?));
        }
        let result = load()?;
        let mut tallies = Vec::new();
        for (name, prober) in probers {
            tallies.push((name, prober.join().map_err(|_| "a prober panicked")?));
        }
        Ok((result, tallies))
    })
}

/// Waits until the server answers a prediction, so that the queue of one phase does not affect the next.
fn settle(target: &Target) -> BenchResult<()> {
    for _ in 0..20 {
        let deadline = clock::instant() + target.timeout;
        if Client::new(target.address)
            .send(&target.request, deadline)
            .is_ok_and(|response| response.status == 200)
        {
            return Ok(());
        }
    }
    Err("the server did not recover from the load before".into())
}
