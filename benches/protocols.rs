//! What does a protocol cost?
//!
//! The same rows of 100 features in JSON, in V2's JSON and binary tensors, and in CSV, for a model that
//! computes nothing: 1 and 1,000 rows, 1 and 16 closed-loop keep-alive connections; server and generator
//! have a core each. All forms take turns, so that what changes on the machine changes for all. KServe's
//! own server is measured beside them if python3 has kserve (`LANEKEEPER_BENCH_PYTHON` names another
//! python), and so is any server of V2 whose address `LANEKEEPER_PEER=http://HOST:PORT` gives; its model
//! must be called `bench` and take 100 features.
#![allow(clippy::print_stdout)] // the report is the purpose

use std::env;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use lanekeeper::drill::load::{ClosedLoop, Target};
use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{TextTable, millis, outcomes, rate, share};

mod support;

use support::{BenchResult, Cores, Model, Pinned, Server};

const FEATURES: usize = 100;
const ROWS: [usize; 2] = [1, 1_000];
const CONNECTIONS: [usize; 2] = [1, 16];
const ROUNDS: usize = 3;
const PHASE: Duration = Duration::from_millis(700);
const WARM_UP: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of the forms: V2 binary against V2 JSON at 1,000 rows, and V2 JSON against /predict at
/// one.
const BINARY_AT_LEAST: f64 = 5.0;
const JSON_AT_LEAST: f64 = 0.9;

/// A way to send rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Predict,
    Json,
    Binary,
    Csv,
}

impl Form {
    const ALL: [Form; 4] = [Form::Predict, Form::Json, Form::Binary, Form::Csv];
    /// Those that other servers have.
    const V2: [Form; 2] = [Form::Json, Form::Binary];

    fn name(self) -> &'static str {
        match self {
            Form::Predict => "/predict JSON",
            Form::Json => "V2 JSON",
            Form::Binary => "V2 binary",
            Form::Csv => "/invocations CSV",
        }
    }

    /// A request with so many rows; binary tensors are FP32, as most clients send them.
    fn target(self, address: SocketAddr, rows: usize) -> BenchResult<Target> {
        const V2: &str = "/v2/models/bench/infer";
        let value =
            |row: usize, column: usize| ((row * 31 + column * 7) % 1_000) as f32 / 8.0 - 50.0;
        let row = |row: usize| -> Vec<String> {
            (0..FEATURES)
                .map(|column| value(row, column).to_string())
                .collect()
        };
        let all = |open: &str, close: &str, between: &str| -> String {
            let rows: Vec<String> = (0..rows)
                .map(|number| format!("{open}{}{close}", row(number).join(",")))
                .collect();
            rows.join(between)
        };
        let json = ("Content-Type", "application/json");
        Ok(match self {
            Form::Predict => {
                let body = format!("{{\"instances\":[{}]}}", all("[", "]", ","));
                Target::post(address, "/predict", &[json], body.as_bytes(), PATIENCE)?
            }
            Form::Json => {
                let body = format!(
                    "{{\"inputs\":[{{\"name\":\"input\",\"shape\":[{rows},{FEATURES}],\"datatype\":\"FP32\",\"data\":[{}]}}]}}",
                    all("", "", ",")
                );
                Target::post(address, V2, &[json], body.as_bytes(), PATIENCE)?
            }
            Form::Binary => {
                let bytes = rows * FEATURES * 4;
                let document = format!(
                    "{{\"inputs\":[{{\"name\":\"input\",\"shape\":[{rows},{FEATURES}],\"datatype\":\"FP32\",\"parameters\":{{\"binary_data_size\":{bytes}}}}}],\"parameters\":{{\"binary_data_output\":true}}}}"
                );
                let mut body = document.clone().into_bytes();
                for number in 0..rows {
                    body.extend(
                        (0..FEATURES).flat_map(|column| value(number, column).to_le_bytes()),
                    );
                }
                let length = document.len().to_string();
                let fields = [("Inference-Header-Content-Length", length.as_str())];
                Target::post(address, V2, &fields, &body, PATIENCE)?
            }
            Form::Csv => {
                let csv = ("Content-Type", "text/csv");
                let body = all("", "\n", "");
                Target::post(address, "/invocations", &[csv], body.as_bytes(), PATIENCE)?
            }
        })
    }
}

/// What answers.
struct Contender {
    name: String,
    address: SocketAddr,
    forms: &'static [Form],
    /// Ended when dropped.
    _server: Option<Server>,
}

fn main() -> ExitCode {
    support::main(bench)
}

fn bench() -> BenchResult<()> {
    let cores = Cores::pick();
    println!(
        "protocols: requests a second, closed loop, keep-alive, {FEATURES} features; {}",
        Cores::describe(cores)
    );
    let contenders = contenders(cores)?;
    let mut table = TextTable::new(&[
        "rows",
        "connections",
        "server",
        "form",
        "requests/s",
        "rows/s",
        "of /predict",
        "p50 ms",
        "p99 ms",
    ]);
    let mut verdicts = Vec::new();
    for rows in ROWS {
        for connections in CONNECTIONS {
            let tallies = measure(&contenders, rows, connections, cores)?;
            let find = |form: Form| {
                let own = tallies
                    .iter()
                    .find(|(server, own, _)| *server == 0 && *own == form);
                own.map_or(0.0, |(_, _, tally)| tally.per_second())
            };
            let predict = find(Form::Predict);
            for (server, form, tally) in &tallies {
                table.row(vec![
                    rows.to_string(),
                    connections.to_string(),
                    contenders[*server].name.clone(),
                    form.name().to_owned(),
                    rate(tally.per_second()),
                    rate(tally.per_second() * rows as f64),
                    share(tally.per_second(), predict),
                    millis(tally.latencies.quantile(0.5)),
                    millis(tally.latencies.quantile(0.99)),
                ]);
                if tally.failed() > 0 {
                    println!(
                        "{}, {}: {}",
                        contenders[*server].name,
                        form.name(),
                        outcomes(tally)
                    );
                }
            }
            let (what, found, wanted) = match rows {
                1 => (
                    "V2 JSON of /predict",
                    find(Form::Json) / predict,
                    JSON_AT_LEAST,
                ),
                _ => (
                    "V2 binary of V2 JSON",
                    find(Form::Binary) / find(Form::Json),
                    BINARY_AT_LEAST,
                ),
            };
            let verdict = if found >= wanted {
                "holds"
            } else {
                "does not hold"
            };
            verdicts.push(format!(
                "{what} with {rows} rows at {connections} connections: {found:.2}, wanted {wanted}: {verdict}"
            ));
        }
    }
    println!("{table}");
    for verdict in verdicts {
        println!("{verdict}");
    }
    Ok(())
}

/// Every form of every server in turn, some rounds of them.
fn measure(
    contenders: &[Contender],
    rows: usize,
    connections: usize,
    cores: Option<Cores>,
) -> BenchResult<Vec<(usize, Form, Tally)>> {
    let _pinned = Pinned::to_generator(cores);
    let mut tallies: Vec<(usize, Form, Tally)> = Vec::new();
    for round in 0..ROUNDS {
        let mut place = 0;
        for (server, contender) in contenders.iter().enumerate() {
            for form in contender.forms {
                let closed = ClosedLoop {
                    target: form.target(contender.address, rows)?,
                    connections,
                    warm_up: WARM_UP,
                    duration: support::phase(PHASE),
                };
                let tally = closed.run()?;
                match round {
                    0 => tallies.push((server, *form, tally)),
                    _ => {
                        // Rounds follow one another, so their windows add up.
                        let sum = &mut tallies[place].2;
                        let window = sum.window + tally.window;
                        sum.merge(&tally);
                        sum.window = window;
                    }
                }
                place += 1;
            }
        }
    }
    Ok(tallies)
}

/// lanekeeper, and the others that are there.
fn contenders(cores: Option<Cores>) -> BenchResult<Vec<Contender>> {
    let core = cores.map(|cores| cores.server);
    let own = Server::start(Model::Wide, core, &["--predict-workers", "1"])?;
    let mut contenders = vec![Contender {
        name: "lanekeeper".to_owned(),
        address: own.main,
        forms: &Form::ALL,
        _server: Some(own),
    }];
    let python = env::var("LANEKEEPER_BENCH_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let mut check = Command::new(&python);
    check
        .args(["-c", "import kserve"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if check.status().is_ok_and(|status| status.success()) {
        let mut command = Command::new(&python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/kserve_peer.py"));
        if let Some(cores) = cores {
            command.args(["--core", &cores.server.to_string()]);
        }
        let server = Server::start_command(command)?;
        contenders.push(Contender {
            name: "KServe".to_owned(),
            address: server.main,
            forms: &Form::V2,
            _server: Some(server),
        });
    } else {
        println!(
            "KServe: skipped, as {python} has no kserve; LANEKEEPER_BENCH_PYTHON names another python"
        );
    }
    if let Ok(peer) = env::var("LANEKEEPER_PEER") {
        let address = peer
            .strip_prefix("http://")
            .and_then(|address| address.parse().ok());
        let address: SocketAddr = address
            .ok_or("LANEKEEPER_PEER must be http://ADDRESS:PORT, with a number as address")?;
        if !address.ip().is_loopback() {
            return Err(
                "LANEKEEPER_PEER must be on this machine: load goes to loopback only".into(),
            );
        }
        contenders.push(Contender {
            name: "peer".to_owned(),
            address,
            forms: &Form::V2,
            _server: None,
        });
    }
    Ok(contenders)
}
