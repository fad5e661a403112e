//! What do scrapes cost? Goodput at ten times the capacity, with and without ten scrapes of `/metrics` a
//! second.

use std::thread;
use std::time::Duration;

use lanekeeper::drill::load::{Prober, Target};
use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{TextTable, millis, rate, share};
use lanekeeper::drill::schedule::{Crowd, RatePhase, Trace};
use lanekeeper::platform::client::Client;
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

use crate::Run;
use crate::contender::SHIPPED;
use crate::measure::{self, Seen, in_millis, probe_address};
use crate::support::{BenchResult, Model, Server, phase};

const SERVICE: Duration = Duration::from_millis(5);
const LOAD: f64 = 10.0;
const CONNECTIONS: usize = 300;
const INTERVAL: Duration = Duration::from_millis(100);

/// The time before the first turn, in which the queue reaches its steady length.
const WARM_UP: Duration = Duration::from_secs(3);
/// Turns without and with scrapes alternate, so that disturbances affect both.
const QUANTUM: Duration = Duration::from_secs(2);
const TURNS: u32 = 6;

/// The required maximum time of a scrape, and the required minimum of the goodput beside it.
const SCRAPE_MAX_MILLIS: f64 = 50.0;
const LEFT_MIN: f64 = 0.98;

/// The whole scenario.
pub(crate) fn run(run: &mut Run) -> BenchResult<()> {
    println!(
        "## Scrapes\n\n{} ms a prediction, {LOAD}x; turns of {} s without and with `GET /metrics` every {} ms on the probe listener, each on a connection of its own\n",
        SERVICE.as_millis(),
        phase(QUANTUM).as_secs(),
        INTERVAL.as_millis(),
    );
    let server = SHIPPED.start(run, Model::Burning(SERVICE))??;
    let scrape = Target::probe(probe_address(&server), "/metrics")?;
    let mut client = Client::new(scrape.address);
    let status = client
        .send(&scrape.request, clock::instant() + scrape.timeout)?
        .status;
    if status == 404 {
        println!("skipped: this server has no `/metrics`\n");
        return Ok(());
    }
    let capacity = measure::capacity(&server)?;
    let slice = phase(QUANTUM);
    let (seen, scrapes) = first_slices(&server, &scrape, capacity, slice)?;
    let goodput = |first| goodput(&seen.traces[0], slice, first);
    let [without, with] = [goodput(0), goodput(1)];
    let left = mean(&with) / mean(&without).max(1e-9);
    let mut table = TextTable::new(&[
        "",
        "goodput/s",
        "of capacity",
        "least and most of a turn/s",
        "scrapes",
        "failed",
        "p50 ms",
        "p99 ms",
        "max ms",
        "generator",
        "others",
    ]);
    table.row(goodput_cells("without", &without, capacity));
    let mut row = goodput_cells("with", &with, capacity);
    row.extend([
        scrapes.requests().to_string(),
        scrapes.failed().to_string(),
        millis(scrapes.latencies.quantile(0.5)),
        lanekeeper::drill::report::p99_millis(&scrapes.latencies),
        millis(scrapes.latencies.max()),
        seen.generator(),
        seen.others.clone(),
    ]);
    table.row(row);
    println!("{}", table.markdown());
    let what = "goodput with ten scrapes a second, of that without";
    run.meanwhile(&seen.others);
    run.at_least(what, left, LEFT_MIN);
    let longest = in_millis(scrapes.latencies.max()).filter(|_| scrapes.failed() == 0);
    let what = "the longest scrape at 10x";
    run.at_most(what, longest, SCRAPE_MAX_MILLIS, "ms");
    Ok(())
}

/// Loads the server throughout, and scrapes it in every second turn.
fn first_slices(
    server: &Server,
    scrape: &Target,
    capacity: f64,
    slice: Duration,
) -> BenchResult<(Seen, Tally)> {
    let crowd = Crowd {
        target: measure::predict(server)?,
        source: None,
        phases: vec![RatePhase {
            rate: LOAD * capacity,
            duration: WARM_UP + slice * TURNS,
        }],
        connections: CONNECTIONS,
    };
    thread::scope(|scope| {
        let scraper = thread::Builder::new()
            .name("scraper".to_owned())
            .spawn_scoped(scope, || {
                let began = clock::instant();
                let mut scrapes = Tally::default();
                for number in (1..TURNS).step_by(2) {
                    let begins = began + WARM_UP + slice * number;
                    sys::sleep(begins.saturating_duration_since(clock::instant()));
                    let prober = Prober {
                        target: scrape.clone(),
                        interval: INTERVAL,
                        duration: slice,
                    };
                    scrapes.merge(&prober.run());
                }
                scrapes
            })?;
        let seen = measure::run(server, &[crowd])?;
        Ok((seen, scraper.join().map_err(|_| "the scraper panicked")?))
    })
}

/// Goodput in every second turn from `first` on.
fn goodput(trace: &Trace, slice: Duration, first: u32) -> Vec<f64> {
    let of = |number| {
        let begins = WARM_UP + slice * number;
        trace.goodput(begins, begins + slice)
    };
    (first..TURNS).step_by(2).map(of).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

fn goodput_cells(name: &str, first_slices: &[f64], capacity: f64) -> Vec<String> {
    let least = first_slices.iter().copied().fold(f64::INFINITY, f64::min);
    let most = first_slices.iter().copied().fold(0.0, f64::max);
    vec![
        name.to_owned(),
        rate(mean(first_slices)),
        share(mean(first_slices), capacity),
        format!("{} – {}", rate(least), rate(most)),
    ]
}
