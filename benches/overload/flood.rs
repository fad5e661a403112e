//! Nine honest clients beside one that floods: which share of its requests does each get answered?

use std::net::IpAddr;
use std::time::Duration;

use lanekeeper::drill::load::Target;
use lanekeeper::drill::report::{TextTable, outcomes, p99_millis, rate};
use lanekeeper::drill::schedule::{Crowd, RatePhase, Trace};
use lanekeeper::platform::client::ClientRequest;

use crate::Run;
use crate::contender::{Contender, FAIR, FAIR_BY_FIELD, SHIPPED};
use crate::measure::{self, PATIENCE, Seen};
use crate::support::{BenchResult, IRIS, Model, Server, phase};

const SERVICE: Duration = Duration::from_millis(5);
const LASTS: Duration = Duration::from_secs(9);
/// Only requests sent after this time count.
const BEGINS: Duration = Duration::from_secs(2);

const HONEST: u8 = 9;
/// Of the capacity: less than the tenth that is its fair share.
const HONEST_LOAD: f64 = 0.09;
const FLOOD_LOAD: f64 = 10.0;
const HONEST_CONNECTIONS: usize = 30;
const FLOOD_CONNECTIONS: usize = 300;

/// The required share of an honest client's requests that are answered.
const SHARE_MIN: f64 = 0.9;

/// The whole scenario.
pub(crate) fn run(run: &mut Run) -> BenchResult<()> {
    println!(
        "## One floods\n\n{} ms a prediction; {HONEST} honest clients offer {HONEST_LOAD}x each, evenly, and one {FLOOD_LOAD}x, for {} s; each has an address of its own (127.0.0.x), or where clients are told by a field, one in X-Client.\nshare: 200s of what a client sent after {} s\n",
        SERVICE.as_millis(),
        phase(LASTS).as_secs(),
        BEGINS.as_secs(),
    );
    let mut table = TextTable::new(&[
        "contender",
        "capacity/s",
        "honest clients' least share",
        "mean share",
        "honest p99 ms",
        "honest outcomes",
        "flood offered/s",
        "flood 200/s",
        "flood outcomes",
        "failed probes",
        "generator",
        "others",
    ]);
    for (contender, by_field) in [(SHIPPED, false), (FAIR, false), (FAIR_BY_FIELD, true)] {
        match contender.start(run, Model::Burning(SERVICE))? {
            Err(reason) => table.row([contender.name, &format!("skipped: {reason}")]),
            Ok(server) => {
                let flood = Flood::run(&server, by_field)?;
                table.row(flood.cells(contender.name));
                flood.judge(run, &contender);
            }
        }
    }
    println!("{}", table.markdown());
    Ok(())
}

/// The results of one flood; the honest clients' traces come first.
struct Flood {
    capacity: f64,
    lasts: Duration,
    seen: Seen,
}

impl Flood {
    fn run(server: &Server, by_field: bool) -> BenchResult<Self> {
        let capacity = measure::capacity(server)?;
        let lasts = phase(LASTS);
        let client = |number: u8, load: f64, connections| -> BenchResult<Crowd> {
            let name = format!("client-{number}");
            let mut fields = vec![("Content-Type", "application/json")];
            if by_field {
                fields.push(("X-Client", &name));
            }
            let host = server.main.to_string();
            Ok(Crowd {
                target: Target {
                    address: server.main,
                    request: ClientRequest::new("POST", "/predict", &host, &fields, IRIS)?,
                    timeout: PATIENCE,
                },
                source: (!by_field).then(|| IpAddr::from([127, 0, 0, 10 + number])),
                phases: vec![RatePhase {
                    rate: load * capacity,
                    duration: lasts,
                }],
                connections,
            })
        };
        let mut crowds = (0..HONEST)
            .map(|number| client(number, HONEST_LOAD, HONEST_CONNECTIONS))
            .collect::<BenchResult<Vec<_>>>()?;
        crowds.push(client(HONEST, FLOOD_LOAD, FLOOD_CONNECTIONS)?);
        Ok(Flood {
            capacity,
            lasts,
            seen: measure::run(server, &crowds)?,
        })
    }

    fn honest(&self) -> &[Trace] {
        &self.seen.traces[..usize::from(HONEST)]
    }

    /// The answered share of each honest client's requests.
    fn shares(&self) -> Vec<f64> {
        let share = |trace: &Trace| {
            let due = trace.due(BEGINS, self.lasts);
            let answered = due.iter().filter(|arrival| arrival.is_ok()).count();
            answered as f64 / due.len().max(1) as f64
        };
        self.honest().iter().map(share).collect()
    }

    fn least(&self) -> f64 {
        self.shares().into_iter().fold(1.0, f64::min)
    }

    fn cells(&self, name: &str) -> Vec<String> {
        let shares = self.shares();
        let mut honest = lanekeeper::drill::measure::Tally::default();
        for trace in self.honest() {
            honest.merge(&trace.tally(BEGINS, self.lasts));
        }
        let flood = &self.seen.traces[usize::from(HONEST)];
        let probes = &self.seen.probes;
        vec![
            name.to_owned(),
            rate(self.capacity),
            format!("{:.2}", self.least()),
            format!("{:.2}", shares.iter().sum::<f64>() / shares.len() as f64),
            p99_millis(&honest.latencies),
            outcomes(&honest),
            rate(flood.offered(BEGINS, self.lasts)),
            rate(flood.goodput(BEGINS, self.lasts)),
            outcomes(&flood.tally(BEGINS, self.lasts)),
            format!("{} of {}", probes.failed(), probes.requests()),
            self.seen.generator(),
            self.seen.others.clone(),
        ]
    }

    fn judge(&self, run: &mut Run, contender: &Contender) {
        if contender.name != SHIPPED.name {
            let what = format!("least share of an honest client, {}", contender.name);
            run.meanwhile(&self.seen.others);
            run.at_least(what, self.least(), SHARE_MIN);
        }
    }
}
