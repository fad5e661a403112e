//! One load against one server: what came of it, what probes saw meanwhile, what it cost the generator.

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

/// How long clients wait. The window of a steady load opens so long after its start.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);

/// What the listener of probes takes unpaced while predictions run: one on a fresh connection every 8 ms.
pub(crate) const PROBE_INTERVAL: Duration = Duration::from_millis(10);

/// Capacity is measured over so long at least, or ten service times.
const CAPACITY_DURATION_MIN: Duration = Duration::from_secs(5);

/// Cores used by others from which on a capacity is not believed at once, and how often it is tried.
const DISTURBED: f64 = 0.15;
const CAPACITY_TRIALS: usize = 2;

/// The load's threads stand behind the prober's, with which they share a core: what probes wait for
/// is to be the server, not the generator.
const LOAD_NICE: i32 = 10;

/// A generator above this share of its core is close to being what is measured.
const GENERATOR_BUSY: f64 = 0.9;

/// Probes below which a p99.9 is a guess.
const P999_NEEDS: u64 = 10_000;

/// One phase or several, seen from all sides.
pub(crate) struct Seen {
    /// One for each crowd.
    pub(crate) traces: Vec<Trace>,
    /// What the probe listener answered meanwhile.
    pub(crate) probes: Tally,
    /// What the main listener answered to probes meanwhile, where it was asked.
    pub(crate) main_probes: Option<Tally>,
    /// The share of a core that the generator used.
    generator: f64,
    /// Cores that neither bench nor server used.
    pub(crate) others: String,
}

impl Seen {
    /// The generator's share of its core, marked where it may be what limits.
    pub(crate) fn generator(&self) -> String {
        let mark = if self.generator >= GENERATOR_BUSY {
            "*"
        } else {
            ""
        };
        format!("{:.0} %{mark}", self.generator * 100.0)
    }
}

/// Loads `server` with all crowds, with a prober at its probe listener (or its only one) for as long
/// as the longest schedule.
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

/// What probes see at a server that has nothing to do.
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

/// The listener for probes; peers have but one for all.
pub(crate) fn probe_address(server: &Server) -> SocketAddr {
    server.probe.unwrap_or(server.main)
}

/// How long a schedule is.
pub(crate) fn length(phases: &[RatePhase]) -> Duration {
    phases.iter().map(|phase| phase.duration).sum()
}

/// One row of iris data for `server`.
pub(crate) fn predict(server: &Server) -> BenchResult<Target> {
    Ok(Target::post_json(server.main, "/predict", IRIS, PATIENCE)?)
}

/// Predictions a second of a closed loop of two clients (one prediction worker), as README defines
/// capacity; read between completions at its edges, as goodput is. Measured again where others used
/// the cores meanwhile: they can but lower it, and a capacity too low flatters every share.
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
    // Until then both clients wait, so that the worker is on a prediction that began under load.
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

/// One client that asks again when it has its answer, until `ends`.
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

/// Waits until the server answers a prediction within its patience again, so that no load inherits
/// another's queue; returns false where it does not within two patiences.
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

/// For how long a load of so many times the capacity goes on after what is looked at, so that its last
/// completions are followed by others, between which goodput is read.
pub(crate) fn tail(load: f64, capacity: f64) -> Duration {
    Duration::from_secs_f64(2.0 / (load.min(1.0) * capacity).max(0.1))
}

/// Requests of 1,000 that were admitted, as far as their clients know, and not answered in time.
pub(crate) fn late_per_thousand(tally: &Tally) -> f64 {
    let late = tally.failures.get("timeout").copied().unwrap_or(0);
    late as f64 * 1e3 / (late + tally.ok()).max(1) as f64
}

/// The 0.999 quantile, marked where too few make it a guess.
pub(crate) fn p999_millis(latencies: &Latencies) -> String {
    let mark = if (1..P999_NEEDS).contains(&latencies.count()) {
        "~"
    } else {
        ""
    };
    format!("{mark}{}", millis(latencies.quantile(0.999)))
}

/// Milliseconds, where there is a latency.
pub(crate) fn in_millis(latency: Option<Duration>) -> Option<f64> {
    latency.map(|latency| latency.as_secs_f64() * 1e3)
}
