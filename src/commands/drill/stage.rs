//! One server's turn: idle, its capacity, and each load, with probes all the time.

use std::io;
use std::thread;
use std::time::Duration;

use super::meter::Meter;
use super::progress::Progress;
use crate::drill::findings::{Cores, OFFERED_ENOUGH, PhaseResult, Probes, SHARE_PLAUSIBLE};
use crate::drill::load::{CONNECTIONS_MAX, ClosedLoop, OpenLoop, Prober, Target};
use crate::drill::measure::Tally;
use crate::drill::report::rate;
use crate::platform::client::Client;
use crate::platform::clock;
use crate::platform::sys;

/// Number of probes in a phase, so that its p99 is not a guess, within the bounds of the interval.
const PROBES_WANTED: u32 = 1_100;

/// Interval of the probes to a listener. The longer one is for long phases; the shorter one costs a
/// few per cent of a core.
const INTERVAL_BOUNDS: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(50));

/// The share of the machine that the generator may take, as the server needs the rest.
const GENERATOR_SHARE: f64 = 0.5;

/// The share of the machine from which on the report mentions the generator.
const GENERATOR_NOTED: f64 = 0.15;

/// The share of the machine from which on the report mentions other processes.
const OTHERS_NOTED: f64 = 0.1;

/// Minimum CPU time of a request at its client, in seconds; lower measurements are noise.
const REQUEST_COST_MIN: f64 = 5e-6;

/// An arrival later than this share of a client's patience is not offered.
const LATENESS_SHARE: u32 = 10;

/// How many predictions may be tried until the server answers one again after a load.
const SETTLING_TRIES: u32 = 20;

/// Maximum number of single predictions, and their total time.
const ALONE: (usize, Duration) = (200, Duration::from_secs(1));

/// How long everything takes.
#[derive(Debug, Clone)]
pub(super) struct DrillPlan {
    pub(super) client_timeout: Duration,
    pub(super) warm_up: Duration,
    pub(super) capacity_window: Duration,
    pub(super) window: Duration,
    pub(super) loads: Vec<f64>,
}

impl DrillPlan {
    /// Makes a plan for predictions of this length.
    pub(super) fn new(
        service_time: Duration,
        window: Duration,
        client_timeout: Option<Duration>,
        loads: &[f64],
    ) -> Self {
        let seconds = Duration::from_secs;
        let patience = (service_time * 10).clamp(seconds(5), seconds(30));
        // Windows this short are for a first look.
        let capacity_least = if window < seconds(4) {
            window
        } else {
            seconds(5)
        };
        DrillPlan {
            client_timeout: client_timeout.unwrap_or(patience),
            warm_up: service_time.clamp(Duration::from_millis(100), seconds(30)),
            capacity_window: (service_time * 10)
                .clamp(capacity_least, seconds(60).max(capacity_least)),
            window,
            loads: loads.to_vec(),
        }
    }

    /// How long the server is left alone with its probes.
    pub(super) fn idle(&self) -> Duration {
        self.window * 7 / 5
    }

    /// How long one load is offered.
    pub(super) fn load(&self) -> Duration {
        self.client_timeout + self.window
    }

    /// How long one server's turn takes.
    pub(super) fn stage_result(&self) -> Duration {
        let loads = u32::try_from(self.loads.len()).unwrap_or(u32::MAX);
        self.idle() + self.warm_up + self.capacity_window + self.load().saturating_mul(loads)
    }
}

/// A server in its turn.
pub(super) struct DrillStage<'a> {
    pub(super) name: &'a str,
    pub(super) plan: &'a DrillPlan,
    pub(super) progress: &'a Progress,
    /// What is predicted.
    pub(super) target: Target,
    /// What is probed, by listener.
    pub(super) probes: Vec<(&'static str, Target)>,
    /// The server's process, where it is known.
    pub(super) pid: Option<u32>,
    pub(super) workers: usize,
    pub(super) cpus: usize,
    /// The most connections of a load, and why there are no more.
    pub(super) connections_max: usize,
    /// Whether the server is still there.
    pub(super) is_there: &'a dyn Fn() -> Result<(), String>,
}

/// What a turn gave.
#[derive(Debug, Default)]
pub(super) struct StageResult {
    pub(super) capacity: f64,
    pub(super) phases: Vec<PhaseResult>,
    pub(super) notes: Vec<String>,
}

/// Makes predictions one after another on an idle server.
pub(super) fn alone(target: &Target) -> Tally {
    let mut tally = Tally::default();
    let mut client = Client::new(target.address);
    let ends = clock::instant() + ALONE.1;
    for _ in 0..ALONE.0 {
        let sent = clock::instant();
        if sent >= ends {
            break;
        }
        match client.send(&target.request, sent + target.timeout) {
            Ok(response) => {
                *tally.statuses.entry(response.status).or_default() += 1;
                if response.status == 200 {
                    let took = clock::instant().saturating_duration_since(sent);
                    tally.latencies.record(took);
                }
            }
            Err(error) => *tally.failures.entry(error.reason()).or_default() += 1,
        }
    }
    tally
}

impl DrillStage<'_> {
    /// Runs the whole turn.
    ///
    /// # Errors
    ///
    /// The server has gone or no longer answers predictions, or the system refuses threads.
    pub(super) fn run(&self) -> Result<StageResult, String> {
        let mut stage_result = StageResult::default();
        let idle = self.phase("idle", None, self.plan.idle(), 0, || Ok(Tally::default()))?;
        let (at_rest, _) = (idle.cores, stage_result.phases.push(idle));
        let mut measured = self.capacity()?;
        stage_result.capacity = measured.tally.per_second();
        if stage_result.capacity <= 0.0 {
            return Err(format!(
                "{}: no prediction was answered 200 while its capacity was measured, but {}",
                self.name,
                crate::drill::text::outcomes(&measured.tally)
            ));
        }
        measured.duration = self.plan.capacity_window;
        let ceiling = self.ceiling(&stage_result, at_rest, measured.cores);
        self.note_generator(&mut stage_result, measured.cores);
        stage_result.phases.push(measured);
        let mut last = 0.0;
        for load in &self.plan.loads {
            let meant = load * stage_result.capacity;
            let offered = meant.min(ceiling);
            let short = offered < meant * OFFERED_ENOUGH;
            // Repeating the same load would show nothing new.
            if short && offered <= last * 1.05 {
                stage_result.notes.push(format!(
                    "{}, {load}x: left out; all that the clients have CPU for was offered before",
                    self.name
                ));
                continue;
            }
            if short {
                stage_result.notes.push(format!(
                    "{}, {load}x: of {} requests a second {} were to be offered, which takes clients half of this machine's CPUs; the rest belongs to the server",
                    self.name,
                    rate(meant),
                    rate(offered)
                ));
            }
            last = offered;
            let phase = self.load(
                *load,
                offered,
                stage_result.capacity,
                &mut stage_result.notes,
            )?;
            stage_result.phases.push(phase);
        }
        self.note_others(&mut stage_result);
        Ok(stage_result)
    }

    fn capacity(&self) -> Result<PhaseResult, String> {
        let closed = ClosedLoop {
            target: self.target.clone(),
            connections: (2 * self.workers).min(self.connections_max),
            warm_up: self.plan.warm_up,
            duration: self.plan.capacity_window,
        };
        let length = closed.warm_up + closed.duration;
        self.phase("capacity", None, length, closed.connections, || {
            closed.run()
        })
    }

    /// Maximum requests per second that the generator can send within its share of the machine.
    fn ceiling(&self, stage_result: &StageResult, at_rest: Cores, measured: Cores) -> f64 {
        let used = measured.generator.unwrap_or(0.0) - at_rest.generator.unwrap_or(0.0);
        let cost = (used / stage_result.capacity).max(REQUEST_COST_MIN);
        GENERATOR_SHARE * self.cpus as f64 / cost
    }

    fn note_generator(&self, stage_result: &mut StageResult, measured: Cores) {
        let used = measured.generator.unwrap_or(0.0);
        if used > GENERATOR_NOTED * self.cpus as f64 {
            stage_result.notes.push(format!(
                "{}: the clients used {used:.2} of {} CPUs while its capacity was measured; for predictions as light as these, capacity is that of server and clients together, and most of it is HTTP",
                self.name, self.cpus
            ));
        }
    }

    /// Reports other processes that used a part of the machine.
    fn note_others(&self, stage_result: &mut StageResult) {
        let others = stage_result
            .phases
            .iter()
            .filter_map(|phase| phase.cores.others);
        let most = others.fold(0.0, f64::max);
        if most > OTHERS_NOTED * self.cpus as f64 {
            stage_result.notes.push(format!(
                "{}: other processes used up to {most:.2} of {} CPUs meanwhile, which disturbs the figures; a quiet machine gives better ones",
                self.name, self.cpus
            ));
        }
    }

    fn load(
        &self,
        load: f64,
        offered: f64,
        capacity: f64,
        notes: &mut Vec<String>,
    ) -> Result<PhaseResult, String> {
        self.settle()?;
        let timeout = self.plan.client_timeout;
        let mut open = OpenLoop {
            target: self.target.clone(),
            rate: offered,
            duration: self.plan.load(),
            connections: OpenLoop::connections_enough(offered, timeout).min(self.connections_max),
        };
        let name = format!("{load}x");
        let phase = loop {
            let kept = self.phase(&name, Some(load), open.duration, open.connections, || {
                open.run_sparing(timeout / LATENESS_SHARE)
            });
            match kept {
                // If there is no thread for each connection, with half as many.
                Err(error) if error.starts_with(NO_THREADS) && open.connections > 16 => {
                    open.connections /= 2;
                    notes.push(format!(
                        "{}, {name}: this system has no threads for more than {} clients ({error})",
                        self.name, open.connections
                    ));
                }
                kept => break kept?,
            }
        };
        if phase.tally.per_second() > SHARE_PLAUSIBLE * capacity {
            notes.push(format!(
                "{}, {name}: more was served than the capacity measured; with predictions as light as these, twice as many connections as workers do not find it, or other processes had the machine meanwhile",
                self.name
            ));
        }
        if phase.tally.unsent > 0 && phase.offered() < OFFERED_ENOUGH * offered {
            notes.push(format!(
                "{}, {name}: {} requests a second were to be offered, but no more than {} were: all {} connections were waiting for the server, or the clients had no CPU",
                self.name,
                rate(offered),
                rate(phase.offered()),
                open.connections
            ));
        }
        Ok(phase)
    }

    /// Waits until the server answers a prediction again, so that no phase inherits another's queue.
    fn settle(&self) -> Result<(), String> {
        for _ in 0..SETTLING_TRIES {
            (self.is_there)()?;
            let deadline = clock::instant() + self.target.timeout;
            let answer = Client::new(self.target.address)
                .send(&self.target.request, deadline)
                .map(|response| response.status);
            if matches!(answer, Ok(200)) {
                return Ok(());
            }
            // A refusal comes at once; queued predictions take their time.
            sys::sleep(self.target.timeout / SETTLING_TRIES);
        }
        Err(format!(
            "{}: the server did not answer a prediction within {SETTLING_TRIES} tries after the load before",
            self.name
        ))
    }

    /// Runs `load` with a prober at each listener.
    fn phase(
        &self,
        name: &str,
        load: Option<f64>,
        duration: Duration,
        connections: usize,
        run: impl FnOnce() -> io::Result<Tally>,
    ) -> Result<PhaseResult, String> {
        self.progress
            .begin(format!("{}, {name}", self.name), duration);
        let meter = Meter::begin(self.pid);
        let (tally, probes) = thread::scope(|scope| {
            let mut probers = Vec::new();
            for (listener, target) in &self.probes {
                let prober = Prober {
                    target: target.clone(),
                    interval: (duration / PROBES_WANTED)
                        .clamp(INTERVAL_BOUNDS.0, INTERVAL_BOUNDS.1),
                    duration,
                };
                let builder = thread::Builder::new().name("prober".to_owned());
                let spawned = builder.spawn_scoped(scope, move || prober.run());
                probers.push((*listener, spawned.map_err(no_threads)?));
            }
            let tally = run().map_err(no_threads)?;
            let mut probes = Vec::new();
            for (listener, prober) in probers {
                let tally = prober.join().map_err(|_| "a prober panicked")?;
                probes.push(Probes { listener, tally });
            }
            Ok::<_, String>((tally, probes))
        })?;
        let cores = meter.cores();
        (self.is_there)()?;
        Ok(PhaseResult {
            name: name.to_owned(),
            load,
            duration,
            connections,
            tally,
            probes,
            cores,
        })
    }
}

/// The beginning of the error of a system that refuses threads.
const NO_THREADS: &str = "cannot start a thread";

fn no_threads(error: io::Error) -> String {
    format!("{NO_THREADS}: {error}")
}

/// Maximum connections of a load: what the server accepts, what this process may open, and what the
/// generator has threads for.
pub(super) fn connections_max(server_takes: usize) -> usize {
    /// For probes, the other listeners' connections, and files.
    const SPARE: usize = 64;
    let descriptors = usize::try_from(sys::raise_descriptor_limit().unwrap_or(1024));
    let descriptors = descriptors.unwrap_or(usize::MAX);
    CONNECTIONS_MAX
        .min(server_takes.saturating_sub(SPARE / 2))
        .min(descriptors.saturating_sub(SPARE))
        .max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_gives_long_predictions_their_time() {
        let millis = Duration::from_millis;
        let plan = |service, window| {
            DrillPlan::new(
                millis(service),
                millis(window),
                None,
                &[0.5, 1.0, 2.0, 10.0],
            )
        };
        // Service time and window; then timeout, capacity's window, and the turn of one server.
        let table = [
            (0, 4_000, 5_000, 5_000, 46_700),
            (200, 4_000, 5_000, 5_000, 46_800),
            (1_000, 4_000, 10_000, 10_000, 72_600),
            (10_000, 4_000, 30_000, 60_000, 211_600),
            (0, 1_000, 5_000, 1_000, 26_500),
        ];
        for (service, window, timeout, capacity, stage_result) in table {
            let plan = plan(service, window);
            assert_eq!(plan.client_timeout, millis(timeout), "{service} {window}");
            assert_eq!(plan.capacity_window, millis(capacity), "{service} {window}");
            assert_eq!(
                plan.stage_result(),
                millis(stage_result),
                "{service} {window}"
            );
        }
        let given = DrillPlan::new(millis(1), millis(4_000), Some(millis(700)), &[1.0]);
        assert_eq!(given.load(), millis(4_700));
    }

    #[test]
    fn a_load_has_no_more_connections_than_the_server_takes() {
        assert_eq!(connections_max(100), 68);
        assert_eq!(connections_max(0), 1);
        assert!(connections_max(usize::MAX) <= CONNECTIONS_MAX);
    }
}
