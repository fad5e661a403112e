//! At ten times the capacity, how much does each server answer in time, and how soon does it recover?
//!
//! Clients in an open loop wait 5 s. The servers are started one after another with the same model:
//! lanekeeper as shipped, with `--shared-lane` and with a queue bounded by count only; and, if
//! `LANEKEEPER_BENCH_PYTHON` (or python3) has fastapi, uvicorn and scikit-learn, FastAPI as it is often
//! written and with the fault repaired. A contender that refuses its options is skipped, and the reason
//! printed. Server and generator have a core each. Shares are of the capacity measured in the same run
//! with the same server. The tables are Markdown.
//!
//! It takes nine to ten minutes; `LANEKEEPER_BENCH_SECONDS` lengthens its phases. `-- NAME…` runs the
//! scenarios whose names contain one of these: small, goodput, step, bursts, flood, mixed, scrape. At the
//! end the results are compared with the requirements. A missed one is printed, but does not fail the bench.
#![allow(clippy::print_stdout)] // the report is the purpose

use std::process::{Command, ExitCode, Stdio};
use std::time::SystemTime;

use lanekeeper::drill::report::TextTable;

mod contender;
mod flood;
mod goodput;
mod measure;
mod mixed;
mod scrape;
mod storm;
#[path = "../support.rs"]
mod support;

use contender::Peers;
use support::{BenchResult, Cores, Pinned};

type Scenario = fn(&mut Run) -> BenchResult<()>;

const SCENARIOS: [(&str, Scenario); 7] = [
    ("small", goodput::small),
    ("goodput", goodput::run),
    ("step", storm::step),
    ("bursts", storm::bursts),
    ("flood", flood::run),
    ("mixed", mixed::run),
    ("scrape", scrape::run),
];

fn main() -> ExitCode {
    support::main(|| {
        let chosen = chosen(std::env::args().skip(1))?;
        let mut run = Run {
            cores: Cores::pick(),
            peers: Peers::find(),
            verdicts: Vec::new(),
            in_short: Vec::new(),
            others: String::new(),
        };
        println!("{}", machine(&run));
        let _pinned = Pinned::to_generator(run.cores);
        for (name, scenario) in chosen {
            scenario(&mut run).map_err(|error| format!("{name}: {error}"))?;
        }
        println!("## Asked and found\n\n{}", run.judged());
        println!("## In short\n\n{}", run.told_in_short());
        Ok(())
    })
}

/// The scenarios that the arguments name, or all.
fn chosen(args: impl Iterator<Item = String>) -> BenchResult<Vec<(&'static str, Scenario)>> {
    let names: Vec<String> = args.filter(|arg| arg != "--bench").collect();
    let known = || SCENARIOS.iter().map(|(name, _)| *name);
    if let Some(unknown) = names
        .iter()
        .find(|name| !known().any(|known| known.contains(name.as_str())))
    {
        let known: Vec<&str> = known().collect();
        return Err(format!("the scenarios are {}, not {unknown}", known.join(", ")).into());
    }
    let named = |name: &str| names.is_empty() || names.iter().any(|part| name.contains(part));
    let all = SCENARIOS.into_iter();
    Ok(all.filter(|(name, _)| named(name)).collect())
}

/// What all scenarios share.
pub(crate) struct Run {
    cores: Option<Cores>,
    peers: Peers,
    verdicts: Vec<Verdict>,
    /// Lines of the table "In short".
    in_short: Vec<[String; 8]>,
    /// Cores that other processes used during the measurement that is compared next.
    others: String,
}

/// A requirement and the measured value.
struct Verdict {
    what: String,
    found: String,
    asked: String,
    holds: bool,
    others: String,
}

impl Run {
    /// The core to which servers are pinned.
    pub(crate) fn server_core(&self) -> Option<usize> {
        self.cores.map(|cores| cores.server)
    }

    /// Notes what other processes used during the measurements compared from now on, since on a busy
    /// machine a miss may mean nothing.
    pub(crate) fn meanwhile(&mut self, others: &str) {
        others.clone_into(&mut self.others);
    }

    /// Compares a figure with the required minimum.
    pub(crate) fn at_least(&mut self, what: impl Into<String>, found: f64, least: f64) {
        self.verdicts.push(Verdict {
            what: what.into(),
            found: format!("{found:.3}"),
            asked: format!("≥ {least}"),
            holds: found >= least,
            others: self.others.clone(),
        });
    }

    /// Compares a figure with the required maximum; `None` is more than any.
    pub(crate) fn at_most(
        &mut self,
        what: impl Into<String>,
        found: Option<f64>,
        most: f64,
        unit: &str,
    ) {
        self.verdicts.push(Verdict {
            what: what.into(),
            found: found.map_or("never".to_owned(), |found| format!("{found:.2} {unit}")),
            asked: format!("≤ {most:.2} {unit}"),
            holds: found.is_some_and(|found| found <= most),
            others: self.others.clone(),
        });
    }

    /// Adds a line to the table "In short".
    pub(crate) fn tell_in_short(&mut self, line: [String; 8]) {
        self.in_short.push(line);
    }

    fn told_in_short(&self) -> String {
        let mut table = TextTable::new(&[
            "service time",
            "contender",
            "load",
            "goodput of capacity",
            "late, of 1,000 admitted",
            "p99 of the admitted, ms",
            "probes failed",
            "probe p99, ms",
        ]);
        self.in_short.iter().for_each(|line| table.row(line));
        table.markdown()
    }

    fn judged(&self) -> String {
        let mut table = TextTable::new(&["as shipped", "found", "asked", "", "others"]);
        for verdict in &self.verdicts {
            let word = if verdict.holds {
                "holds"
            } else {
                "does not hold"
            };
            let Verdict {
                what,
                found,
                asked,
                others,
                ..
            } = verdict;
            table.row([what, found, asked, word, others]);
        }
        table.markdown()
    }
}

/// Prints what was measured, when, how and on which machine.
fn machine(run: &Run) -> String {
    let first_line = |path: &str, mark: &str| {
        let text = std::fs::read_to_string(path).ok()?;
        let line = text.lines().find(|line| line.starts_with(mark))?;
        Some(line.rsplit_once(": ").map_or(line, |(_, it)| it).to_owned())
    };
    let unknown = || "unknown".to_owned();
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let date = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    format!(
        "# Overload\n\n- {cpus} CPUs ({}), Linux {}; {}\n- lanekeeper {}{}; {}\n- {}; `cargo bench --bench overload`; clients wait {} s\n",
        first_line("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        first_line("/proc/sys/kernel/osrelease", "").unwrap_or_else(unknown),
        Cores::describe(run.cores),
        env!("CARGO_PKG_VERSION"),
        commit().map_or(String::new(), |commit| format!(" ({commit})")),
        run.peers,
        date.get(..10).unwrap_or_default(),
        measure::PATIENCE.as_secs(),
    )
}

/// The commit that the sources are at, with a mark where they were changed since.
fn commit() -> Option<String> {
    let output = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}
