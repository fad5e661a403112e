//! Changing loads: one step to ten times the capacity and back, and bursts of three times the capacity.

use std::time::Duration;

use lanekeeper::drill::report::{TextTable, millis, outcomes, p99_millis, rate, share};
use lanekeeper::drill::schedule::{Arrival, Crowd, RatePhase, Trace};

use crate::Run;
use crate::contender::{CURE, Contender, SHIPPED};
use crate::measure::{self, PATIENCE, Seen, late_per_thousand};
use crate::support::{BenchResult, Model, Server, phase};

/// At half the capacity, arrivals are 100 ms apart, which is the resolution of recovery times.
const SERVICE: Duration = Duration::from_millis(50);

/// Enough for all requests that wait for an answer at ten times the capacity.
const CONNECTIONS: usize = 1_000;

const CALM: f64 = 0.5;
const STORM: f64 = 10.0;
const BURST: f64 = 3.0;

const STEP: [(f64, Duration); 3] = [
    (CALM, Duration::from_secs(3)),
    (STORM, Duration::from_secs(6)),
    (CALM, Duration::from_secs(6)),
];
const BURSTS: [(f64, Duration); 5] = [
    (CALM, Duration::from_secs(2)),
    (BURST, Duration::from_secs(10)),
    (CALM, Duration::from_secs(3)),
    (BURST, Duration::from_secs(10)),
    (CALM, Duration::from_secs(3)),
];

/// The interval at which goodput is shown.
const SLICE: Duration = Duration::from_millis(250);

/// The required maximum time to recover.
const RECOVERY_MAX_SECONDS: f64 = 1.0;

/// An answer within fewer service times than this is as fast as before the storm.
const CALM_SERVICE_TIMES: u32 = 3;

fn contended(
    run: &mut Run,
    parts: &[(f64, Duration)],
    contender: &Contender,
) -> BenchResult<Result<Course, String>> {
    let server = match contender.start(run, Model::Burning(SERVICE))? {
        Ok(server) => server,
        Err(reason) => return Ok(Err(reason)),
    };
    let capacity = measure::capacity(&server)?;
    Course::run(&server, capacity, parts).map(Ok)
}

/// From half the capacity to ten times and back.
pub(crate) fn step(run: &mut Run) -> BenchResult<()> {
    println!(
        "## A storm\n\n{} ms a prediction, {} s at {CALM}x, {} s at {STORM}x, {} s at {CALM}x.\nback: from the storm's end to the first request from which on all get a 200 in time; as quick: all within {CALM_SERVICE_TIMES} service times; told to one interval between requests\n",
        SERVICE.as_millis(),
        STEP[0].1.as_secs(),
        phase(STEP[1].1).as_secs(),
        STEP[2].1.as_secs(),
    );
    let mut table = course_table();
    let mut lines = Vec::new();
    for contender in [SHIPPED, CURE] {
        match contended(run, &STEP, &contender)? {
            Err(reason) => table.row([contender.name, &format!("skipped: {reason}")]),
            Ok(course) => {
                course.rows(contender.name, &mut table);
                lines.push((contender.name, course.seconds()));
                if contender.name == SHIPPED.name {
                    course.judge(run, "the storm");
                }
            }
        }
    }
    println!(
        "{}\nGoodput in each {} ms of a second, as shares of capacity:\n",
        table.markdown(),
        SLICE.as_millis()
    );
    let head: Vec<&str> = ["second"]
        .into_iter()
        .chain(lines.iter().map(|(name, _)| *name))
        .collect();
    let mut table = TextTable::new(&head);
    let seconds = lines.iter().map(|(_, seconds)| seconds.len()).max();
    for second in 0..seconds.unwrap_or(0) {
        let cells = lines.iter().map(|(_, seconds)| seconds[second].clone());
        table.row([second.to_string()].into_iter().chain(cells));
    }
    println!("{}", table.markdown());
    Ok(())
}

/// Two bursts with pauses.
pub(crate) fn bursts(run: &mut Run) -> BenchResult<()> {
    println!(
        "## Bursts\n\n{} ms a prediction, bursts of {} s at {BURST}x, else {CALM}x\n",
        SERVICE.as_millis(),
        phase(BURSTS[1].1).as_secs()
    );
    let mut table = course_table();
    let course = contended(run, &BURSTS, &SHIPPED)??;
    course.rows(SHIPPED.name, &mut table);
    course.judge(run, "a burst");
    println!("{}", table.markdown());
    Ok(())
}

fn course_table() -> TextTable {
    TextTable::new(&[
        "contender",
        "part",
        "offered/s",
        "goodput/s",
        "share",
        "outcomes",
        "late ‰",
        "sojourn p50 ms",
        "p99 ms",
        "back s",
        "as quick s",
        "failed probes",
        "generator",
        "others",
    ])
}

/// A load in several parts, and its results.
struct Course {
    capacity: f64,
    parts: Vec<(f64, Duration)>,
    seen: Seen,
}

impl Course {
    /// Storms last at least `LANEKEEPER_BENCH_SECONDS`; calms last as given.
    fn run(server: &Server, capacity: f64, parts: &[(f64, Duration)]) -> BenchResult<Self> {
        let long = |(load, lasts): &(f64, Duration)| match *load > 1.0 {
            true => (*load, phase(*lasts)),
            false => (*load, *lasts),
        };
        let parts: Vec<_> = parts.iter().map(long).collect();
        let tail = parts
            .last()
            .map(|(load, _)| (*load, measure::tail(*load, capacity)));
        let phases = parts.iter().copied().chain(tail);
        let phases = phases.map(|(load, duration)| RatePhase {
            rate: load * capacity,
            duration,
        });
        let crowd = Crowd {
            target: measure::predict(server)?,
            source: None,
            phases: phases.collect(),
            connections: CONNECTIONS,
        };
        let seen = measure::run(server, &[crowd])?;
        Ok(Course {
            capacity,
            parts,
            seen,
        })
    }

    fn trace(&self) -> &Trace {
        &self.seen.traces[0]
    }

    /// Load, start and end of each part.
    fn spans(&self) -> Vec<(f64, Duration, Duration)> {
        let mut from = Duration::ZERO;
        let span = |(load, lasts): &(f64, Duration)| {
            let span = (*load, from, from + *lasts);
            from += *lasts;
            span
        };
        self.parts.iter().map(span).collect()
    }

    /// For each storm, how soon after it all answers are in time, and how soon they are as fast as before.
    fn recoveries(&self) -> Vec<[Option<Duration>; 2]> {
        let spans = self.spans();
        let after_storm = spans.windows(2).filter(|pair| pair[0].0 > 1.0);
        let quick = |arrival: &Arrival| {
            arrival.is_ok() && arrival.latency() <= CALM_SERVICE_TIMES * SERVICE
        };
        let recovered = |pair: &[(f64, Duration, Duration)]| {
            let (_, from, to) = pair[1];
            [
                self.trace().recovery(from, to, Arrival::is_ok),
                self.trace().recovery(from, to, quick),
            ]
        };
        after_storm.map(recovered).collect()
    }

    fn rows(&self, name: &str, table: &mut TextTable) {
        let mut recoveries = self.recoveries().into_iter();
        let mut stormed = false;
        for (number, (load, from, to)) in self.spans().into_iter().enumerate() {
            let (tally, goodput) = (self.trace().tally(from, to), self.trace().goodput(from, to));
            let offered = self.trace().offered(from, to);
            let mut row = vec![
                if number == 0 { name } else { "" }.to_owned(),
                format!("{load}x, {} s", to.saturating_sub(from).as_secs()),
                rate(offered),
                rate(goodput),
                share(goodput, self.capacity.min(offered)),
                outcomes(&tally),
                format!("{:.1}", late_per_thousand(&tally)),
                millis(tally.latencies.quantile(0.5)),
                p99_millis(&tally.latencies),
            ];
            let back = if stormed { recoveries.next() } else { None };
            row.extend(back.map_or([String::new(), String::new()], |back| back.map(seconds)));
            if number == 0 {
                let probes = &self.seen.probes;
                row.push(format!("{} of {}", probes.failed(), probes.requests()));
                row.extend([self.seen.generator(), self.seen.others.clone()]);
            }
            table.row(row);
            stormed = load > 1.0;
        }
    }

    /// Goodput in each interval, as a share of capacity, with one line for each second.
    fn seconds(&self) -> Vec<String> {
        let ends: Duration = self.parts.iter().map(|(_, lasts)| *lasts).sum();
        let slices: Vec<u32> = (0..(ends.as_millis() / SLICE.as_millis()) as u32).collect();
        let told = |slice: &u32| {
            let goodput = self.trace().goodput(SLICE * *slice, SLICE * (slice + 1));
            share(goodput, self.capacity)
        };
        let line = |second: &[u32]| second.iter().map(told).collect::<Vec<_>>().join(" ");
        slices.chunks(4).map(line).collect()
    }

    fn judge(&self, run: &mut Run, what: &str) {
        run.meanwhile(&self.seen.others);
        for [back, _] in self.recoveries() {
            let back = back.map(|back| back.as_secs_f64());
            run.at_most(
                format!("recovery after {what}"),
                back,
                RECOVERY_MAX_SECONDS,
                "s",
            );
        }
        let (_, from, to) = self.spans()[1];
        // Requests admitted in a storm must be answered in time.
        let late = late_per_thousand(&self.trace().tally(from, to));
        run.at_most(
            format!("admitted but late in {what}"),
            Some(late),
            1.0,
            "of 1,000",
        );
        let from = from + PATIENCE.min(to.saturating_sub(from) / 2);
        let found = self.trace().goodput(from, to) / self.capacity;
        run.at_least(format!("goodput in {what}, once it stands"), found, 0.95);
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or("never".to_owned(), |time| {
        format!("{:.2}", time.as_secs_f64())
    })
}
