//! One load against one server: its results, those of probes meanwhile, and the generator's CPU use.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use lanekeeper::drill::load::{Prober, Target};
use lanekeeper::drill::measure::{Latencies, Tally};
use lanekeeper::drill::report::millis;
use lanekeeper::drill::schedule::{self, Arrival, ArrivalOutcome, Crowd, RatePhase, Trace};
use lanekeeper::platform::client::Client;
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

use crate::support::{BenchResult, IRIS, Others, Server, own_cpu_time};

/// How long clients wait. A steady load is measured from this long after its start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// The probe listener's rate limit on fresh connections is one every 8 ms, so these are not delayed.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Capacity is measured over this time or ten service times, whichever is longer.
const CAPACITY_DURATION_MIN: Duration = Duration::from_secs(5);

/// If others use more cores than this, capacity is measured again, up to so many times in all.
const DISTURBED: f64 = 0.15;
const CAPACITY_TRIALS: usize = 2;

/// The load's threads have a lower priority than the prober's on the same core, so that probes wait for
/// the server, not for the generator.
const LOAD_NICE: i32 = 10;

/// A generator that uses more than this share of its core may be the bottleneck.
const GENERATOR_BUSY: f64 = 0.9;

/// With fewer probes than this, a p99.9 is a guess.
const P999_NEEDS: u64 = 10_000;

/// The results of one phase or of several.
pub(crate) struct Seen {
    /// The trace of each crowd.
    pub(crate) traces: Vec<Trace>,
    /// The probes on the probe listener.
    pub(crate) probes: Tally,
    /// The probes on the main listener, if there were any.
    pub(crate) main_probes: Option<Tally>,
    /// The share of its core that the generator used.
    generator: f64,
    /// Cores that other processes used.
    pub(crate) others: String,
}

impl Seen {
    /// The generator's share of its core, marked if it may be the bottleneck.
    pub(crate) fn generator(&self) -> String {
        let mark = if self.generator >= GENERATOR_BUSY {
            "*"
        } else {
            ""
        };
        format!("{:.0} %{mark}", self.generator * 100.0)
    }
}

/// Loads `server` with all crowds. For as long as the longest schedule, a prober asks its probe listener,
/// or its only one.
pub(crate) fn run(server: &Server, crowds: &[Crowd]) -> BenchResult<Seen> {
    run_probed(server, crowds, false)
}

/// The same with a second prober, at the main listener.
pub(crate) fn run_probed_twice(server: &Server, crowds: &[Crowd]) -> BenchResult<Seen> {
    run_probed(server, crowds, true)
}

fn run_probed(server: &Server, crowds: &[Crowd], on_main: bool) -> BenchResult<Seen> {
    let lasts = crowds.iter().map(|crowd| length(&crowd.phases)).max();
    let lasts = lasts.unwrap_or_default();
    let reserved = prober(probe_address(server), lasts)?;
    let main = on_main.then(|| prober(server.main, lasts)).transpose()?;
    let (began, cpu_before) = (clock::instant(), own_cpu_time());
    let others = Others::watch(&[server]);
    let (traces, probes, main_probes) = thread::scope(|scope| -> BenchResult<_> {
        let named = |name: &str| thread::Builder::new().name(name.to_owned());
        let started = |prober: Prober| named("prober").spawn_scoped(scope, move || prober.run());
        let probes = started(reserved)?;
        let main_probes = main.map(started).transpose()?;
        let load = named("loads").spawn_scoped(scope, || {
            sys::set_nice(LOAD_NICE);
            schedule::run(crowds)
        })?;
        let traces = load.join().map_err(|_| "the load panicked")??;
        let panicked = |_| "the prober panicked";
        let main_probes = main_probes.map(|main| main.join().map_err(panicked));
        Ok((
            traces,
            probes.join().map_err(panicked)?,
            main_probes.transpose()?,
        ))
    })?;
    let busy = own_cpu_time().saturating_sub(cpu_before);
    let took = clock::instant().saturating_duration_since(began);
    Ok(Seen {
        traces,
        probes,
        main_probes,
        generator: busy.as_secs_f64() / took.as_secs_f64(),
        others: others.cell(&[server]),
    })
}

/// Measures probes on an idle server.
pub(crate) fn idle(server: &Server, duration: Duration) -> BenchResult<Tally> {
    Ok(prober(probe_address(server), duration)?.run())
}

fn prober(address: SocketAddr, duration: Duration) -> BenchResult<Prober> {
    Ok(Prober {
        target: Target::probe(address, "/livez")?,
        interval: PROBE_INTERVAL,
        duration,
    })
}

/// The address for probes; peers have only one for everything.
pub(crate) fn probe_address(server: &Server) -> SocketAddr {
    server.probe.unwrap_or(server.main)
}

/// The duration of a schedule.
pub(crate) fn length(phases: &[RatePhase]) -> Duration {
    phases.iter().map(|phase| phase.duration).sum()
}

/// One row of iris data for `server`.
pub(crate) fn predict(server: &Server) -> BenchResult<Target> {
    Ok(Target::post_json(server.main, "/predict", IRIS, PATIENCE)?)
}

/// The capacity as README defines it: predictions a second of a closed loop of two clients (one prediction
/// worker), measured from completion to completion, as goodput is. It is measured again if other processes
/// used the cores: they can only lower it, and a capacity that is too low makes every share look better.
pub(crate) fn capacity(server: &Server) -> BenchResult<f64> {
    let target = predict(server)?;
    let mut most: f64 = 0.0;
    for _ in 0..CAPACITY_TRIALS {
        let others = Others::watch(&[server]);
        most = most.max(capacity_once(&target)?);
        let disturbed = others
            .cores(&[server])
            .is_some_and(|cores| cores > DISTURBED);
        if !disturbed {
            break;
        }
    }
    Ok(most)
}

fn capacity_once(target: &Target) -> BenchResult<f64> {
    let began = clock::instant();
    let mut client = Client::new(target.address);
    let status = client.send(&target.request, began + target.timeout)?.status;
    if status != 200 {
        return Err(format!("an idle server must answer 200, but answered {status}").into());
    }
    let service_time = clock::instant().saturating_duration_since(began);
    // By then the worker is on a prediction that began under load, with another one waiting.
    let opens = service_time * 2;
    let closes = opens + crate::support::phase(CAPACITY_DURATION_MIN.max(service_time * 10));
    let began = clock::instant();
    let arrivals = thread::scope(|scope| -> BenchResult<_> {
        let ask = || closed_loop(target, began, closes + service_time);
        let clients = [(); 2].map(|()| {
            let builder = thread::Builder::new().name("load".to_owned());
            builder.spawn_scoped(scope, ask)
        });
        let mut arrivals = Vec::new();
        for client in clients {
            arrivals.extend(client?.join().map_err(|_| "a client panicked")?);
        }
        Ok(arrivals)
    })?;
    Ok(Trace::new(arrivals).goodput(opens, closes))
}

/// One client in a closed loop until `ends`.
fn closed_loop(target: &Target, began: Instant, ends: Duration) -> Vec<Arrival> {
    let mut client = Client::new(target.address);
    let mut arrivals = Vec::new();
    loop {
        let sent = clock::instant();
        let due = sent.saturating_duration_since(began);
        if due >= ends {
            return arrivals;
        }
        let outcome = match client.send(&target.request, sent + target.timeout) {
            Ok(response) => ArrivalOutcome::Status(response.status),
            Err(error) => ArrivalOutcome::Failure(error.reason()),
        };
        arrivals.push(Arrival {
            due,
            ended: clock::instant().saturating_duration_since(began),
            outcome,
        });
    }
}

/// Waits until the server answers a prediction within [`PATIENCE`], so that the queue of one load does not
/// affect the next; returns false if it does not within twice that.
pub(crate) fn settle(target: &Target) -> bool {
    let ends = clock::instant() + 2 * target.timeout;
    while clock::instant() < ends {
        let mut client = Client::new(target.address);
        let answered = client.send(&target.request, clock::instant() + target.timeout);
        if answered.is_ok_and(|response| response.status == 200) {
            return true;
        }
        sys::sleep(PROBE_INTERVAL);
    }
    false
}

/// How long a load of so many times the capacity continues after the measured window: goodput is measured
/// from completion to completion, so another one must follow the window.
pub(crate) fn tail(load: f64, capacity: f64) -> Duration {
    Duration::from_secs_f64(2.0 / (load.min(1.0) * capacity).max(0.1))
}

/// Of 1,000 requests that were not refused, how many were not answered in time.
pub(crate) fn late_per_thousand(tally: &Tally) -> f64 {
    let late = tally.failures.get("timeout").copied().unwrap_or(0);
    late as f64 * 1e3 / (late + tally.ok()).max(1) as f64
}

/// The 0.999 quantile, marked if there are too few samples.
pub(crate) fn p999_millis(latencies: &Latencies) -> String {
    let mark = if (1..P999_NEEDS).contains(&latencies.count()) {
        "~"
    } else {
        ""
    };
    format!("{mark}{}", millis(latencies.quantile(0.999)))
}

/// Milliseconds, or nothing without a latency.
pub(crate) fn in_millis(latency: Option<Duration>) -> Option<f64> {
    latency.map(|latency| latency.as_secs_f64() * 1e3)
}
