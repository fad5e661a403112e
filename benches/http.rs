//! How many requests a second does lanekeeper answer, what do rate limits and `--yield` cost without
//! overload, and how does FastAPI with scikit-learn compare?
//!
//! `GET /livez` and `POST /predict` (one iris row, the default model) from 1, 16 and 128 closed-loop
//! keep-alive clients; server and load generator have a core each. The contenders take turns within
//! each row, so that disturbances affect all of them. The peer needs a python3 with
//! fastapi, uvicorn and scikit-learn (`LANEKEEPER_BENCH_PYTHON` names another) and is skipped
//! otherwise.
#![allow(clippy::print_stdout)] // the report is the purpose

use std::env;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use lanekeeper::drill::load::{ClosedLoop, Target};
use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{TextTable, millis, outcomes, rate, share};
use lanekeeper::platform::clock;

mod support;

use support::{BenchResult, Cores, IRIS, Model, Others, Pinned, Server, own_cpu_time};

const CONNECTIONS: [usize; 3] = [1, 16, 128];
const ROUNDS: usize = 2;
const PHASE: Duration = Duration::from_millis(900);
const PEER_PHASE: Duration = Duration::from_secs(3);
const WARM_UP: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);

/// A generator that uses more than this share of its core may be the bottleneck.
const GENERATOR_BUSY: f64 = 0.9;

const CONTENDERS: [(&str, &[&str]); 3] = [
    ("as shipped", &[]),
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
    (
        "unpaced, not yielding",
        &[
            "--pace-first",
            "0",
            "--pace-later",
            "0",
            "--pace-probes",
            "0",
            "--yield",
            "off",
        ],
    ),
];

#[derive(Clone, Copy, PartialEq)]
enum Ask {
    Livez,
    Predict,
}

impl Ask {
    const ALL: [Ask; 2] = [Ask::Livez, Ask::Predict];

    fn name(self) -> &'static str {
        match self {
            Ask::Livez => "GET /livez",
            Ask::Predict => "POST /predict",
        }
    }

    fn of(self, server: &Server) -> BenchResult<Target> {
        Ok(match self {
            Ask::Livez => Target::get(server.main, "/livez", PATIENCE)?,
            Ask::Predict => Target::post_json(server.main, "/predict", IRIS, PATIENCE)?,
        })
    }
}

/// Throughput of one kind of request at one number of connections.
struct Figure {
    ask: Ask,
    connections: usize,
    tally: Tally,
    generator: f64,
}

fn main() -> ExitCode {
    support::main(bench)
}

fn bench() -> BenchResult<()> {
    let cores = Cores::pick();
    println!(
        "http: requests a second, closed loop, keep-alive; {}",
        Cores::describe(cores)
    );
    let ours = contenders(cores)?;
    let peer = peer(cores)?;
    for figure in &peer {
        let same = ours
            .iter()
            .find(|own| own.ask == figure.ask && own.connections == figure.connections);
        let times = same.map_or(0.0, |own| {
            own.tally.per_second() / figure.tally.per_second().max(1e-9)
        });
        println!(
            "{} at {:>3} connections: FastAPI + scikit-learn {}/s (p99 {} ms); lanekeeper as shipped {times:.0} times as many",
            figure.ask.name(),
            figure.connections,
            rate(figure.tally.per_second()),
            millis(figure.tally.latencies.quantile(0.99)),
        );
    }
    Ok(())
}

/// Measures every contender and prints them side by side; returns the figures of the first.
fn contenders(cores: Option<Cores>) -> BenchResult<Vec<Figure>> {
    let core = cores.map(|cores| cores.server);
    let start = |(_, options): &(&str, &[&str])| {
        let all = [&["--predict-workers", "1"], *options].concat();
        Server::start(Model::Default, core, &all)
    };
    let servers = CONTENDERS
        .iter()
        .map(start)
        .collect::<BenchResult<Vec<_>>>()?;
    let mut table = TextTable::new(&[
        "",
        "connections",
        "contender",
        "requests/s",
        "shipped/this",
        "p50 ms",
        "p99 ms",
        "generator's core",
    ]);
    let mut shipped = Vec::new();
    let all: Vec<&Server> = servers.iter().collect();
    let others = Others::watch(&all);
    for ask in Ask::ALL {
        for connections in CONNECTIONS {
            let mut figures = Vec::new();
            for round in 0..ROUNDS {
                for (index, server) in servers.iter().enumerate() {
                    let figure = measure(ask, connections, server, PHASE, cores)?;
                    match round {
                        0 => figures.push(figure),
                        _ => add_round(&mut figures[index], &figure),
                    }
                }
            }
            for ((name, _), figure) in CONTENDERS.iter().zip(&figures) {
                table.row(row(name, figure, figures[0].tally.per_second()));
                if figure.tally.failed() > 0 {
                    println!(
                        "{name}, {}, {connections} connections: not all were answered 200: {}",
                        ask.name(),
                        outcomes(&figure.tally)
                    );
                }
            }
            shipped.push(figures.swap_remove(0));
        }
    }
    println!(
        "{table}(*: the generator's core is all but busy, so the server may do more; cores that others used meanwhile: {})\n",
        others.cell(&all),
    );
    Ok(shipped)
}

fn row(name: &str, figure: &Figure, shipped: f64) -> Vec<String> {
    let latencies = &figure.tally.latencies;
    let mark = if figure.generator >= GENERATOR_BUSY {
        "*"
    } else {
        ""
    };
    vec![
        figure.ask.name().to_owned(),
        figure.connections.to_string(),
        name.to_owned(),
        rate(figure.tally.per_second()),
        share(shipped, figure.tally.per_second()),
        millis(latencies.quantile(0.5)),
        millis(latencies.quantile(0.99)),
        format!("{:.0} %{mark}", figure.generator * 100.0),
    ]
}

/// Merges rounds. They ran one after another, so their windows add up, unlike those of parallel clients.
fn add_round(sum: &mut Figure, round: &Figure) {
    let window = sum.tally.window + round.tally.window;
    sum.tally.merge(&round.tally);
    sum.tally.window = window;
    sum.generator = sum.generator.max(round.generator);
}

fn measure(
    ask: Ask,
    connections: usize,
    server: &Server,
    usual: Duration,
    cores: Option<Cores>,
) -> BenchResult<Figure> {
    let _pinned = Pinned::to_generator(cores);
    let closed = ClosedLoop {
        target: ask.of(server)?,
        connections,
        warm_up: WARM_UP,
        duration: support::phase(usual),
    };
    let (began, cpu_before) = (clock::instant(), own_cpu_time());
    let tally = closed.run()?;
    let busy = own_cpu_time().saturating_sub(cpu_before);
    let took = clock::instant().saturating_duration_since(began);
    let generator = busy.as_secs_f64() / took.as_secs_f64();
    Ok(Figure {
        ask,
        connections,
        tally,
        generator,
    })
}

/// Measures FastAPI with scikit-learn, if this machine has them.
fn peer(cores: Option<Cores>) -> BenchResult<Vec<Figure>> {
    let python = env::var("LANEKEEPER_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut check = Command::new(&python);
    check
        .args(["-c", "import fastapi, uvicorn, sklearn"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if !check.status().is_ok_and(|status| status.success()) {
        println!(
            "FastAPI + scikit-learn: skipped, as {python} has no fastapi, uvicorn and sklearn; LANEKEEPER_BENCH_PYTHON names another python"
        );
        return Ok(Vec::new());
    }
    let mut command = Command::new(&python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/fastapi_peer.py"));
    if let Some(cores) = cores {
        command.args(["--core", &cores.server.to_string()]);
    }
    let server = Server::start_command(command)?;
    let mut figures = Vec::new();
    for ask in Ask::ALL {
        for connections in CONNECTIONS {
            let figure = measure(ask, connections, &server, PEER_PHASE, cores)?;
            if figure.tally.failed() > 0 {
                println!(
                    "the peer did not answer all with 200: {}",
                    outcomes(&figure.tally)
                );
            }
            figures.push(figure);
        }
    }
    Ok(figures)
}
