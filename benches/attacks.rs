//! What do hostile clients cost the others?
//!
//! Runs each attack of `tests/it/attacks.rs` beside probes like a kubelet's on both listeners, and four
//! clients that predict in a closed loop (20 ms of CPU each, one prediction worker). Server and generator
//! have a core each. It takes about five minutes, because each server is measured again five seconds
//! after its attack; `LANEKEEPER_BENCH_SECONDS` lengthens each attack. `-- --only NAME` runs the attacks
//! whose names contain NAME. `-- --soak 10m` runs all in rotation for that long, samples memory and
//! descriptors in rests between them, and reports whether those grow.
#![allow(clippy::print_stdout)] // the report is the purpose

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lanekeeper::drill::measure::Tally;
use lanekeeper::drill::report::{TextTable, millis, outcomes, p99_millis, rate, share};
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

#[path = "../tests/it/attacks.rs"]
mod attacks;
mod support;

use attacks::{Attack, HonestOutcomes, Plan, Seen, Subject, Usage, observe};
use support::{BenchResult, Cores, Model, Others, Pinned, Server};

const MEDIUM: Duration = Duration::from_millis(20);
const CALM_PHASE: Duration = Duration::from_secs(3);
const ATTACK_PHASE: Duration = Duration::from_millis(1_500);
const SOAK_ATTACK: Duration = Duration::from_secs(2);
const SOAK_REST: Duration = Duration::from_secs(3);
const SAMPLE: Duration = Duration::from_secs(1);

/// The last part of a soak, from which slopes are computed: at the start, buffers grow once and stay.
const SOAK_COUNTED: f64 = 0.75;

const PLAN: Plan = Plan {
    calm: Duration::from_millis(100),
    attack: ATTACK_PHASE,
    probe_interval: Duration::from_millis(20),
    honest_clients: 4,
    honest_pause: Duration::ZERO,
    recovery: Duration::from_secs(20),
    rest: Duration::from_secs(5),
};

fn main() -> ExitCode {
    support::main(|| {
        let args = Args::read(std::env::args().skip(1))?;
        match args.soak {
            Some(duration) => soak(&args.attacks, duration),
            None => table(&args.attacks),
        }
    })
}

/// What to run.
struct Args {
    attacks: Vec<&'static Attack>,
    soak: Option<Duration>,
}

impl Args {
    fn read(mut args: impl Iterator<Item = String>) -> BenchResult<Self> {
        let (mut only, mut soak) = (String::new(), None);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or(format!("{arg} takes a value"));
            match arg.as_str() {
                "--only" => only = value()?,
                "--soak" => soak = Some(humantime::parse_duration(&value()?)?),
                "--bench" => {}
                _ => return Err(format!("the options are --only and --soak, not {arg}").into()),
            }
        }
        let attacks: Vec<_> = attacks::named(&only).collect();
        if attacks.is_empty() {
            return Err(format!("no attack has {only:?} in its name").into());
        }
        Ok(Args { attacks, soak })
    }
}

/// The server under attack, and the resources that it held before its first client.
struct Target {
    server: Server,
    subject: Subject,
    idle: Usage,
}

impl Target {
    fn start(cores: Option<Cores>) -> BenchResult<Self> {
        let options = ["--predict-workers", "1"];
        let core = cores.map(|cores| cores.server);
        let server = Server::start(Model::Burning(MEDIUM), core, &options)?;
        let subject = Subject {
            main: server.main,
            probe: server.probe.ok_or("the server has no probe listener")?,
            pid: server.pid(),
        };
        // Use everything once, so that whatever is allocated at first use exists.
        let short = Plan {
            attack: Duration::from_millis(300),
            rest: Duration::ZERO,
            ..PLAN
        };
        observe(subject, None, &short, Usage::of(subject.pid)?)?;
        let idle = Usage::of(subject.pid)?;
        Ok(Target {
            server,
            subject,
            idle,
        })
    }
}

fn describe(cores: Option<Cores>) -> String {
    format!(
        "{} ms of CPU for each prediction, 1 prediction worker, {} closed-loop clients predict;\n{}; a probe every {} ms on each listener",
        MEDIUM.as_millis(),
        PLAN.honest_clients,
        Cores::describe(cores),
        PLAN.probe_interval.as_millis(),
    )
}

/// Every attack, one row each.
fn table(attacks: &[&Attack]) -> BenchResult<()> {
    let cores = Cores::pick();
    println!(
        "attacks: {};\n+: the attack itself costs prediction workers; !: the server was ended by it, or it by the server's size;\nMiB: over what the idle server held at its start, at most and 5 s after the attack; back: threads and descriptors at idle again, and then the p50 of probes; failed: honest predictions refused + unanswered; anew: fresh connections,\nas the kept one was closed; others: cores that neither bench nor server used, ! where that disturbs the figures",
        describe(cores)
    );
    let mut target = Target::start(cores)?;
    let _pinned = Pinned::to_generator(cores);
    let mut report = TextTable::new(&[
        "attack",
        "probe listener",
        "p50 ms",
        "p99 ms",
        "max ms",
        "main",
        "p50 ms",
        "p99 ms",
        "max ms",
        "honest/s",
        "share",
        "failed",
        "anew",
        "peak MiB",
        "after MiB",
        "threads",
        "back s",
        "p50 then",
        "others",
    ]);
    let calm_plan = Plan {
        attack: support::phase(CALM_PHASE),
        rest: Duration::ZERO,
        ..PLAN
    };
    let others = Others::watch(&[&target.server]);
    let calm = observe(target.subject, None, &calm_plan, target.idle)?;
    let calm_rate = per_second(calm.attacked, calm_plan.attack);
    let mut row = cells("calm", &calm, target.idle, calm_rate, calm_plan.attack);
    row.push(others.cell(&[&target.server]));
    report.row(row);
    let plan = Plan {
        attack: support::phase(ATTACK_PHASE),
        ..PLAN
    };
    for attack in attacks {
        let mark = if attack.fills_lane { " +" } else { "" };
        let name = format!("{}{mark}", attack.name);
        let others = Others::watch(&[&target.server]);
        match observe(target.subject, Some(attack), &plan, target.idle) {
            Ok(seen) => {
                let mut row = cells(&name, &seen, target.idle, calm_rate, plan.attack);
                row.push(others.cell(&[&target.server]));
                report.row(row);
                if seen.cut_short {
                    target = Target::start(cores)?;
                }
            }
            Err(error) => {
                report.row([format!("{name} !"), error.to_string()]);
                target = Target::start(cores)?;
            }
        }
    }
    println!("{report}");
    drop(target.server);
    Ok(())
}

fn cells(name: &str, seen: &Seen, idle: Usage, calm_rate: f64, lasted: Duration) -> Vec<String> {
    let over_idle = |kib: u64| mebibytes(kib.saturating_sub(idle.rss_kib));
    let honest = per_second(seen.attacked, lasted);
    let mut cells = vec![if seen.cut_short {
        format!("{name} !")
    } else {
        name.to_owned()
    }];
    for tally in [&seen.probe, &seen.main] {
        cells.extend([
            probes(tally),
            millis(tally.latencies.quantile(0.5)),
            p99_millis(&tally.latencies),
            millis(tally.latencies.max()),
        ]);
    }
    cells.extend([
        rate(honest),
        share(honest, calm_rate),
        format!("{}+{}", seen.attacked.refused, seen.attacked.failed),
        seen.attacked.reconnected.to_string(),
        over_idle(seen.peak.peak_kib),
        over_idle(seen.after.rss_kib),
        seen.peak.threads.to_string(),
        seen.recovery.map_or("never".to_owned(), |took| {
            format!("{:.2}", took.as_secs_f64())
        }),
        millis(seen.probe_after.latencies.quantile(0.5)),
    ]);
    cells
}

/// Number of probes, with all outcomes if some failed.
fn probes(tally: &Tally) -> String {
    if tally.failed() == 0 {
        tally.requests().to_string()
    } else {
        outcomes(tally)
    }
}

fn per_second(served: HonestOutcomes, time: Duration) -> f64 {
    served.answered as f64 / time.as_secs_f64()
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1}", kib as f64 / 1024.0)
}

/// A sample of the server's resources between attacks.
#[derive(Debug, Clone, Copy)]
struct Sample {
    minutes: f64,
    /// Number of the attack before it.
    attack: usize,
    usage: Usage,
}

/// All attacks in rotation, with rests.
fn soak(attacks: &[&Attack], duration: Duration) -> BenchResult<()> {
    let cores = Cores::pick();
    println!(
        "attacks, soak of {}: {}",
        humantime::format_duration(duration),
        describe(cores)
    );
    let target = Target::start(cores)?;
    let _pinned = Pinned::to_generator(cores);
    let ends = clock::instant() + duration;
    let sampler = Sampler::new();
    let totals = thread::scope(|scope| {
        let _over = Over(&sampler);
        thread::Builder::new()
            .name("sampler".to_owned())
            .spawn_scoped(scope, || sampler.run(target.subject.pid))?;
        rotate(attacks, &target, &sampler, ends)
    })?;
    println!("{totals}");
    println!("{}", sampler.report(duration));
    Ok(())
}

/// Attacks and rests until `ends`; returns what probes saw, and which attacks did harm.
fn rotate(
    attacks: &[&Attack],
    target: &Target,
    sampler: &Sampler,
    ends: Instant,
) -> BenchResult<TextTable> {
    let attack_plan = Plan {
        attack: support::phase(SOAK_ATTACK),
        rest: Duration::ZERO,
        ..PLAN
    };
    let rest_plan = Plan {
        attack: SOAK_REST,
        rest: Duration::ZERO,
        ..PLAN
    };
    let mut report = TextTable::new(&["while", "probe listener", "main", "honest answered"]);
    let mut sums: [(Tally, Tally, u64); 2] = Default::default();
    for (number, attack) in attacks.iter().enumerate().cycle() {
        if clock::instant() >= ends {
            break;
        }
        sampler.attack.store(number, Ordering::Relaxed);
        for (index, attack) in [Some(*attack), None].into_iter().enumerate() {
            let plan = if attack.is_some() {
                &attack_plan
            } else {
                &rest_plan
            };
            sampler.resting.store(attack.is_none(), Ordering::Relaxed);
            let seen = observe(target.subject, attack, plan, target.idle);
            sampler.resting.store(false, Ordering::Relaxed);
            let name = attack.map_or("rest", |attack| attack.name);
            let seen = seen.map_err(|error| format!("{name}: {error}"))?;
            if seen.probe.failed() > 0 || seen.recovery.is_none() || seen.cut_short {
                println!("{name}: {seen}");
            }
            sums[index].0.merge(&seen.probe);
            sums[index].1.merge(&seen.main);
            sums[index].2 += seen.attacked.answered;
        }
    }
    for (name, (probe, main, answered)) in ["attacks", "rests"].into_iter().zip(&sums) {
        report.row([
            name.to_owned(),
            outcomes(probe),
            outcomes(main),
            answered.to_string(),
        ]);
    }
    Ok(report)
}

/// Samples the server's resources every second while it rests.
struct Sampler {
    began: Instant,
    resting: AtomicBool,
    /// Number of the last attack.
    attack: AtomicUsize,
    over: AtomicBool,
    samples: Mutex<Vec<Sample>>,
}

impl Sampler {
    fn new() -> Self {
        Sampler {
            began: clock::instant(),
            resting: AtomicBool::new(false),
            attack: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            samples: Mutex::default(),
        }
    }

    fn run(&self, pid: u32) {
        while !self.over.load(Ordering::Relaxed) {
            let rested = self.resting.load(Ordering::Relaxed);
            sys::sleep(SAMPLE);
            // The first second of a rest does not count: the attack is still ending.
            if rested
                && self.resting.load(Ordering::Relaxed)
                && let Ok(usage) = Usage::of(pid)
                && let Ok(mut samples) = self.samples.lock()
            {
                let passed = clock::instant().saturating_duration_since(self.began);
                samples.push(Sample {
                    attack: self.attack.load(Ordering::Relaxed),
                    minutes: passed.as_secs_f64() / 60.0,
                    usage,
                });
            }
        }
    }

    fn report(&self, duration: Duration) -> TextTable {
        let from = duration.as_secs_f64() / 60.0 * (1.0 - SOAK_COUNTED);
        let samples = self
            .samples
            .lock()
            .map_or(vec![], |samples| samples.clone());
        let counted: Vec<Sample> = samples
            .into_iter()
            .filter(|sample| sample.minutes >= from)
            .collect();
        let mut report = TextTable::new(&[
            "at rest, last three quarters",
            "samples",
            "first",
            "least",
            "most",
            "last",
            "slope a minute",
            "after the same attack",
        ]);
        let mut row = |name: &str, value: fn(&Usage) -> u64| {
            let values: Vec<u64> = counted.iter().map(|sample| value(&sample.usage)).collect();
            let points = counted
                .iter()
                .map(|sample| (sample.attack, sample.minutes, value(&sample.usage) as f64));
            let all_alike = points.clone().map(|(_, x, y)| (0, x, y));
            let told = |value: Option<&u64>| value.map_or("-".to_owned(), u64::to_string);
            report.row([
                name.to_owned(),
                values.len().to_string(),
                told(values.first()),
                told(values.iter().min()),
                told(values.iter().max()),
                told(values.last()),
                sloped(slope(all_alike)),
                sloped(slope(points)),
            ]);
        };
        row("resident, KiB", |usage| usage.rss_kib);
        row("descriptors", |usage| usage.descriptors);
        row("threads", |usage| usage.threads);
        report
    }
}

/// Ends the sampler when dropped.
struct Over<'a>(&'a Sampler);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn sloped(slope: Option<f64>) -> String {
    slope.map_or("-".to_owned(), |slope| format!("{slope:+.2}"))
}

/// The slope of parallel least-squares lines, one through each group of points, so that differences
/// between attacks do not count as growth; `None` if no group has two distinct times.
fn slope(points: impl Iterator<Item = (usize, f64, f64)> + Clone) -> Option<f64> {
    let mut sums: BTreeMap<usize, (f64, f64, f64)> = BTreeMap::new();
    for (group, x, y) in points.clone() {
        let sum = sums.entry(group).or_default();
        *sum = (sum.0 + 1.0, sum.1 + x, sum.2 + y);
    }
    let (mut covariance, mut variance) = (0.0, 0.0);
    for (group, x, y) in points {
        let (count, sum_x, sum_y) = sums.get(&group)?;
        let (from_x, from_y) = (x - sum_x / count, y - sum_y / count);
        covariance += from_x * from_y;
        variance += from_x * from_x;
    }
    (variance > 0.0).then(|| covariance / variance)
}
