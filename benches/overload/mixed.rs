//! Requests of one row beside requests of thousands: how long does each kind wait?

use std::time::Duration;

use lanekeeper::drill::load::Target;
use lanekeeper::drill::report::{TextTable, millis, outcomes, p99_millis, rate};
use lanekeeper::drill::schedule::{Crowd, RatePhase};

use crate::Run;
use crate::contender::SHIPPED;
use crate::measure::{self, PATIENCE, p999_millis};
use crate::support::{BenchResult, Model, Server, phase};

const ROW: Duration = Duration::from_micros(20);
/// Long enough for a thousand requests of one row, which a p99 needs.
const LASTS: Duration = Duration::from_millis(10_500);
const ALONE_LASTS: Duration = Duration::from_secs(5);

const ONE_ROW_RATE: f64 = 100.0;

/// Arrivals a second of requests of 1, 1,000 and 10,000 rows.
const MIXES: [(&str, [f64; 3], Duration); 3] = [
    ("one row alone", [ONE_ROW_RATE, 0.0, 0.0], ALONE_LASTS),
    ("half a core's worth", [ONE_ROW_RATE, 5.0, 2.0], LASTS),
    ("twice a core's worth", [ONE_ROW_RATE, 5.0, 9.5], LASTS),
];
const ROWS: [usize; 3] = [1, 1_000, 10_000];

/// The whole scenario.
pub(crate) fn run(run: &mut Run) -> BenchResult<()> {
    println!(
        "## Mixed sizes\n\n{} µs of CPU a row, one prediction worker, as shipped; requests of {} rows come evenly, each size at a rate of its own, for {} s\n",
        ROW.as_micros(),
        ROWS.map(|rows| rows.to_string()).join(", "),
        phase(LASTS).as_secs_f64(),
    );
    let server = SHIPPED.start(run, Model::BurningPerRow(ROW))??;
    let mut table = TextTable::new(&[
        "load",
        "rows",
        "asked/s",
        "200/s",
        "outcomes",
        "p50 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "probes failed",
        "probe p99 ms",
        "generator",
        "others",
    ]);
    for (name, rates, lasts) in MIXES {
        let lasts = phase(lasts);
        let crowds = crowds(&server, rates, lasts)?;
        if !measure::settle(&target(&server, 1)?) {
            return Err("the server did not come to rest".into());
        }
        let seen = measure::run(&server, &crowds)?;
        for (number, trace) in seen.traces.iter().enumerate() {
            let tally = trace.tally(Duration::ZERO, lasts);
            let mut row = vec![
                if number == 0 { name } else { "" }.to_owned(),
                ROWS[number].to_string(),
                rate(rates[number]),
                rate(trace.goodput(Duration::ZERO, lasts)),
                outcomes(&tally),
                millis(tally.latencies.quantile(0.5)),
                p99_millis(&tally.latencies),
                p999_millis(&tally.latencies),
                millis(tally.latencies.max()),
            ];
            if number == 0 {
                let probes = &seen.probes;
                row.extend([
                    format!("{} of {}", probes.failed(), probes.requests()),
                    p99_millis(&probes.latencies),
                    seen.generator(),
                    seen.others.clone(),
                ]);
            }
            table.row(row);
        }
    }
    println!("{}", table.markdown());
    Ok(())
}

/// One crowd for each size with a rate above 0, the smallest first.
fn crowds(server: &Server, rates: [f64; 3], lasts: Duration) -> BenchResult<Vec<Crowd>> {
    let mut crowds = Vec::new();
    for (rows, rate) in ROWS.into_iter().zip(rates) {
        if rate > 0.0 {
            crowds.push(Crowd {
                target: target(server, rows)?,
                source: None,
                phases: vec![RatePhase {
                    rate,
                    duration: lasts,
                }],
                // A client waits for at most its patience, so one is always free.
                connections: (rate * PATIENCE.as_secs_f64()) as usize + 8,
            });
        }
    }
    Ok(crowds)
}

fn target(server: &Server, rows: usize) -> BenchResult<Target> {
    let body = format!(
        r#"{{"instances": [{}]}}"#,
        vec!["[5.1, 3.5, 1.4, 0.2]"; rows].join(", ")
    );
    Ok(Target::post_json(
        server.main,
        "/predict",
        body.as_bytes(),
        PATIENCE,
    )?)
}
