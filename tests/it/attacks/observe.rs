//! One attack, and its effects on probes, honest clients and the server's resources.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lanekeeper::drill::load::{Prober, Target};
use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{millis, outcomes};
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

use super::{Attack, Honest, HonestOutcomes, Scene, Usage};

/// Threads, or descriptors, by which an idle server's number may vary: each listener keeps two to four
/// threads waiting, and a connection that has just ended may still be counted.
const SLACK: u64 = 5;

/// A server this large buffers without a limit. The attack then ends, to protect the machine.
const RSS_KIB_MAX: u64 = 2 << 20;

const SAMPLE: Duration = Duration::from_millis(20);

/// Number of probes after recovery.
const PROBES_AFTER: u32 = 20;

/// Maximum time that an attack may take to end.
const ENDING: Duration = Duration::from_secs(10);

/// The server under attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject {
    /// The main listener.
    pub(crate) main: SocketAddr,
    /// The probe listener.
    pub(crate) probe: SocketAddr,
    /// Its process.
    pub(crate) pid: u32,
}

/// How long, how often, how many.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan {
    /// Honest load alone.
    pub(crate) calm: Duration,
    /// The attack.
    pub(crate) attack: Duration,
    /// From probe to probe, on each listener.
    pub(crate) probe_interval: Duration,
    /// Honest clients.
    pub(crate) honest_clients: usize,
    /// From their answer to their next request.
    pub(crate) honest_pause: Duration,
    /// Longest wait for threads and descriptors to be back.
    pub(crate) recovery: Duration,
    /// From the attack's end until the server's resources are measured for the last time.
    pub(crate) rest: Duration,
}

/// What was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Probes on the probe listener.
    pub(crate) probe: Tally,
    /// Probes on the main listener.
    pub(crate) main: Tally,
    /// Honest clients before the attack.
    pub(crate) calm: HonestOutcomes,
    /// Honest clients under it.
    pub(crate) attacked: HonestOutcomes,
    /// The most that the server held.
    pub(crate) peak: Usage,
    /// What it held in the end.
    pub(crate) after: Usage,
    /// Probes on the probe listener once it had recovered.
    pub(crate) probe_after: Tally,
    /// From the attack's end until threads and descriptors were back to normal, with a resolution of
    /// 50 ms; `None` if they never were.
    pub(crate) recovery: Option<Duration>,
    /// Whether the attack was ended early because of the server's size.
    pub(crate) cut_short: bool,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (listener, tally) in [("probe listener", &self.probe), ("main", &self.main)] {
            let longest = millis(tally.latencies.max());
            write!(f, "{listener} {}, max {longest} ms; ", outcomes(tally))?;
        }
        write!(f, "calm {}; attacked {}; ", self.calm, self.attacked)?;
        write!(f, "peak {}; after {}", self.peak, self.after)?;
        match self.recovery {
            Some(took) => write!(f, " within {} ms", millis(Some(took)))?,
            None => f.write_str(", not recovered")?,
        }
        f.write_str(if self.cut_short { ", cut short" } else { "" })
    }
}

/// Runs `attack`, or nothing for the same time, against a server that held `idle` before its first
/// client.
///
/// # Errors
/// The generator lacks threads or sockets, or the server has ended.
pub(crate) fn observe(
    subject: Subject,
    attack: Option<&Attack>,
    plan: &Plan,
    idle: Usage,
) -> io::Result<Seen> {
    // If the kernel refuses, the peak is of the server's whole life, which is more.
    let _ = Usage::reset_peak(subject.pid);
    let honest = Honest::new(subject.main, plan.honest_pause)?;
    let watch = Watch::default();
    let (probe, main, ended) = thread::scope(|scope| {
        // However this function returns, the threads are first told to stop.
        let _told = Told(&honest);
        for _ in 0..plan.honest_clients {
            builder("honest").spawn_scoped(scope, || honest.run())?;
        }
        sys::sleep(SAMPLE);
        honest.next_window();
        sys::sleep(plan.calm);
        honest.next_window();
        let scene = Scene::new(subject.main, subject.probe, plan.attack);
        let tallies = under_attack(subject, attack, plan, &scene, &watch)?;
        honest.next_window();
        io::Result::Ok(tallies)
    })?;
    let mut after = Usage::of(subject.pid)?;
    let peak = after.max(idle);
    let back = |usage: Usage| {
        usage.threads <= idle.threads + SLACK && usage.descriptors <= idle.descriptors + SLACK
    };
    while !back(after) && clock::instant() < ended + plan.recovery {
        sys::sleep(Duration::from_millis(10));
        after = Usage::of(subject.pid)?;
    }
    let took = clock::instant().saturating_duration_since(ended);
    let recovery = back(after).then_some(took);
    let probe_after = Prober {
        target: Target::probe(subject.probe, "/livez").map_err(io::Error::other)?,
        interval: plan.probe_interval,
        duration: plan.probe_interval * PROBES_AFTER,
    }
    .run();
    if !plan.rest.is_zero() {
        let rested = ended + plan.rest;
        sys::sleep(rested.saturating_duration_since(clock::instant()));
        after = Usage::of(subject.pid)?;
    }
    let [calm, attacked] = honest.served();
    Ok(Seen {
        probe,
        main,
        calm,
        attacked,
        peak: watch.peak.lock().map_or(peak, |seen| seen.max(peak)),
        after,
        probe_after,
        recovery,
        cut_short: watch.cut_short.load(Ordering::Relaxed),
    })
}

/// Runs the attack with a prober at each listener and a thread that watches the server's size.
fn under_attack(
    subject: Subject,
    attack: Option<&Attack>,
    plan: &Plan,
    scene: &Scene,
    watch: &Watch,
) -> io::Result<(Tally, Tally, Instant)> {
    let prober = |address| -> io::Result<Prober> {
        Ok(Prober {
            target: Target::probe(address, "/livez").map_err(io::Error::other)?,
            interval: plan.probe_interval,
            duration: plan.attack,
        })
    };
    let (probe, main) = (prober(subject.probe)?, prober(subject.main)?);
    thread::scope(|scope| {
        let _ended = Ended(scene);
        builder("watch").spawn_scoped(scope, || watch.run(subject.pid, scene))?;
        let probe = builder("prober").spawn_scoped(scope, move || probe.run())?;
        let main = builder("prober").spawn_scoped(scope, move || main.run())?;
        let attack = attack
            .map(|attack| builder("attack").spawn_scoped(scope, || attack.run(scene)))
            .transpose()?;
        let panicked = |_| io::Error::other("a thread of the load generator panicked");
        let probe = probe.join().map_err(panicked)?;
        let main = main.join().map_err(panicked)?;
        scene.end();
        let told = clock::instant();
        if let Some(attack) = attack {
            attack.join().map_err(panicked)??;
        }
        let ended = clock::instant();
        if ended > told + ENDING {
            return Err(io::Error::other("the attack did not end when told to"));
        }
        Ok((probe, main, ended))
    })
}

fn builder(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

/// Ends the scene when dropped.
struct Ended<'a>(&'a Scene);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        self.0.end();
    }
}

/// Ends clients when dropped.
struct Told<'a>(&'a Honest);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Samples the server's size.
#[derive(Debug, Default)]
struct Watch {
    peak: std::sync::Mutex<Usage>,
    cut_short: AtomicBool,
}

impl Watch {
    fn run(&self, pid: u32, scene: &Scene) {
        while scene.goes_on() {
            // If the server has ended, the check after the attack finds that.
            let Ok(usage) = Usage::of(pid) else { return };
            if let Ok(mut peak) = self.peak.lock() {
                *peak = peak.max(usage);
            }
            if usage.rss_kib > RSS_KIB_MAX {
                self.cut_short.store(true, Ordering::Relaxed);
                scene.end();
            }
            sys::sleep(SAMPLE);
        }
    }
}
