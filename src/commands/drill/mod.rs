//! `lanekeeper drill`: tests the product's promises with a user's own model, body and machine.
//!
//! The main thread shows progress and handles signals. Another thread drills, starts the servers
//! and ends them, and each connection of a load has its own thread. A drill is load, so it only
//! ever uses loopback addresses, and every phase is bounded in time and number.

mod advice;
mod child;
mod meter;
mod progress;
mod stage;
mod subject;

use std::fs::File;
use std::io::{self, Read as _, Write as _, stderr};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use crossbeam_channel::bounded;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use self::advice::DrillObservation;
use self::child::ServerProcess;
use self::progress::Progress;
use self::stage::{DrillPlan, DrillStage, StageResult};
use self::subject::{DrillBody, Subject};
use crate::commands::output;
use crate::config::{DrillArgs, DrillConfig, Drilled, Resources};
use crate::drill::findings::{Contender, DrillSettings, Findings, Machine, Method};
use crate::drill::measure::Tally;
use crate::drill::{html, json, text};
use crate::error::StartError;
use crate::models::ModelSource;
use crate::platform::cgroup::Cgroup;
use crate::platform::clock;
use crate::platform::panic;
use crate::platform::sys;
use crate::server::loader;

pub use self::child::end_with_drill;

/// Interval at which progress is checked.
const TICK: Duration = Duration::from_millis(200);

/// How long a server may take to end when the drill is interrupted.
const END_PATIENCE: Duration = Duration::from_millis(700);

/// Drills, and prints the findings.
///
/// # Errors
///
/// `Usage` for wrong options and for a body that the server refuses; `NotPassed` if a probe that
/// counts has failed; `Failed` if the drill was not possible.
pub fn run(args: DrillArgs, source: Arc<dyn ModelSource>) -> Result<(), StartError> {
    let resources = Resources::here(&Cgroup::find(Path::new("/")).read());
    let config = Arc::new(args.validate(resources)?);
    if let Some(path) = &config.html {
        // Before minutes of load, not after them.
        let opened = File::options().create(true).append(true).open(path);
        opened.map_err(|error| cannot_write(path, &error))?;
    }
    let findings = interruptible(&config, source, resources)?;
    if let Some(path) = &config.html {
        std::fs::write(path, html::render(&findings))
            .map_err(|error| cannot_write(path, &error))?;
    }
    let text = match config.json {
        true => format!("{}\n", json::render(&findings)),
        false => text::render(&findings),
    };
    let printed = output::print(&text);
    match findings.passed() {
        true => printed,
        // The exit code is 1 in both cases, and this is the output that was asked for.
        false => Err(StartError::NotPassed(findings.verdict())),
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> StartError {
    StartError::Failed(format!("cannot write {}: {error}", path.display()))
}

/// Drills on another thread, until it is done or a signal arrives; then this process ends with that
/// signal, and its server before it.
fn interruptible(
    config: &Arc<DrillConfig>,
    source: Arc<dyn ModelSource>,
    resources: Resources,
) -> Result<Findings, StartError> {
    let failed = |error: io::Error| StartError::system(format!("cannot drill: {error}"), &error);
    let (wake, waker) = UnixStream::pair().map_err(failed)?;
    let signalled = Arc::new(AtomicUsize::new(0));
    catch_signals(&signalled, &wake, &waker).map_err(failed)?;
    let (server_process, progress) = (
        Arc::new(ServerProcess::default()),
        Arc::new(Progress::default()),
    );
    let (sender, found) = bounded(1);
    let drill = Drill {
        config: Arc::clone(config),
        source,
        resources,
        server_process: Arc::clone(&server_process),
        progress: Arc::clone(&progress),
    };
    // The model may be loaded there, and the kernel ends a server together with the thread that
    // started it.
    sys::spawn("drill", loader::STACK_BYTES, move || {
        let drilled = panic::catch(|| drill.run());
        drill.server_process.close(END_PATIENCE);
        let _ = sender.try_send(drilled.unwrap_or_else(|panic| {
            Err(StartError::Failed(format!("the drill panicked: {panic}")))
        }));
        let _ = (&waker).write(&[1]);
    })
    .map_err(|error| StartError::no_threads("", 2, &error))?;
    let bar = progress::bar();
    loop {
        let signal = signalled.load(Ordering::Acquire);
        if signal != 0 {
            bar.finish_and_clear();
            server_process.close(END_PATIENCE);
            let _ = writeln!(stderr(), "lanekeeper: the drill was interrupted");
            // The parent sees which signal ended it. The other threads end with it.
            let _ = signal_hook::low_level::emulate_default_handler(signal as i32);
        }
        progress.show(&bar);
        if let Ok(findings) = found.try_recv() {
            bar.finish_and_clear();
            return findings;
        }
        sys::wait_readable(&[wake.as_fd()], Some(clock::instant() + TICK)).map_err(failed)?;
        let _ = (&wake).read(&mut [0; 64]);
    }
}

/// Installs handlers that record the signal and wake the main thread.
fn catch_signals(
    signalled: &Arc<AtomicUsize>,
    wake: &UnixStream,
    waker: &UnixStream,
) -> io::Result<()> {
    wake.set_nonblocking(true)?;
    waker.set_nonblocking(true)?;
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let number = usize::try_from(signal).unwrap_or_default();
        signal_hook::flag::register_usize(signal, Arc::clone(signalled), number)?;
        signal_hook::low_level::pipe::register(signal, waker.try_clone()?)?;
    }
    Ok(())
}

/// What the drilling thread works with.
struct Drill {
    config: Arc<DrillConfig>,
    source: Arc<dyn ModelSource>,
    resources: Resources,
    server_process: Arc<ServerProcess>,
    progress: Arc<Progress>,
}

impl Drill {
    fn run(&self) -> Result<Findings, StartError> {
        let config = &self.config;
        self.progress.begin("preparing".to_owned(), Duration::ZERO);
        let mut body = DrillBody::find(config, self.source.as_ref())?;
        let contestants: &[(&str, bool)] = match config.drilled {
            Drilled::Own(_) => &[("two lanes", false), ("shared lane", true)],
            Drilled::Running { .. } => &[("server", false)],
        };
        let mut findings: Option<Findings> = None;
        let mut plan = None;
        let mut seen = DrillObservation::default();
        for (name, shared_lane) in contestants {
            let began = clock::instant();
            let subject = Subject::start(config, &self.server_process, *shared_lane, &body)?;
            let loading = clock::instant().saturating_duration_since(began);
            let plan = match &plan {
                Some(plan) => plan,
                None => {
                    subject.learn(&mut body);
                    let alone = stage::alone(&subject.target);
                    seen.service_max = alone.latencies.max().unwrap_or_default();
                    seen.loading = subject.pid.map(|_| loading);
                    let made = self.plan(&alone, contestants.len());
                    findings = Some(self.findings(&body, &made, alone));
                    plan.insert(made)
                }
            };
            let stage_result = self.stage_result(name, &subject, plan)?;
            self.server_process.end(END_PATIENCE);
            if let Some(findings) = &mut findings {
                record(
                    findings,
                    &mut seen,
                    name,
                    *shared_lane,
                    subject.workers,
                    stage_result,
                );
            }
        }
        let mut findings =
            findings.ok_or_else(|| StartError::Failed("there was nobody to drill".to_owned()))?;
        findings.numbers = advice::numbers(&config.serve, &seen);
        Ok(findings)
    }

    /// Makes the plan and announces its duration.
    fn plan(&self, alone: &Tally, runs: usize) -> DrillPlan {
        let config = &self.config;
        let service_time = alone.latencies.quantile(0.5).unwrap_or_default();
        let plan = DrillPlan::new(
            service_time,
            config.window,
            config.client_timeout,
            &config.loads,
        );
        let runs = u32::try_from(runs).unwrap_or(1);
        // A tenth more for starts, ends, and loads whose last clients wait for their answer.
        let total = plan.stage_result().saturating_mul(runs) * 11 / 10;
        let line = format!(
            "lanekeeper: drilling for about {}; a prediction takes {} ms, clients wait {}",
            humantime::format_duration(Duration::from_secs(total.as_secs() + 1)),
            crate::drill::report::millis(Some(service_time)),
            humantime::format_duration(plan.client_timeout),
        );
        self.progress.plan(total, line);
        plan
    }

    fn stage_result(
        &self,
        name: &str,
        subject: &Subject,
        plan: &DrillPlan,
    ) -> Result<StageResult, StartError> {
        let mut target = subject.target.clone();
        target.timeout = plan.client_timeout;
        let is_there = || match subject.pid.is_some() && self.server_process.has_ended() {
            true => Err(format!("the server ended:{}", subject.last_lines())),
            false => Ok(()),
        };
        let limits = &self.config.serve.limits;
        let server_takes = limits
            .max_connections_per_address
            .unwrap_or(usize::MAX)
            .min(limits.max_connections);
        let stage = DrillStage {
            name,
            plan,
            progress: &self.progress,
            target,
            probes: subject.probes.clone(),
            pid: subject.pid,
            workers: subject.workers,
            cpus: self.resources.cpus,
            connections_max: stage::connections_max(server_takes),
            is_there: &is_there,
        };
        stage.run().map_err(StartError::Failed)
    }

    fn findings(&self, body: &DrillBody, plan: &DrillPlan, alone: Tally) -> Findings {
        let uname = rustix::system::uname();
        let text = |text: &std::ffi::CStr| text.to_string_lossy().into_owned();
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        Findings {
            machine: Machine {
                cpus: self.resources.cpus,
                cpu_quota: self.resources.cpu_quota,
                processor: processor().unwrap_or_else(|| text(uname.machine())),
                kernel: format!("{} {}", text(uname.sysname()), text(uname.release())),
                version: format!(
                    "{} ({})",
                    env!("CARGO_PKG_VERSION"),
                    env!("LANEKEEPER_COMMIT")
                ),
                date: now,
            },
            request: DrillSettings {
                model: body.model.clone(),
                about: body.about.clone(),
                body: body.description.clone(),
                body_bytes: body.bytes.len(),
                content_type: body.content_type,
                alone,
            },
            method: Method {
                client_timeout: plan.client_timeout,
                probe_timeout: self.config.probe_timeout,
                window: plan.window,
                capacity_window: plan.capacity_window,
            },
            contenders: Vec::new(),
            notes: Vec::new(),
            numbers: Vec::new(),
        }
    }
}

/// Adds a server's turn to the findings.
fn record(
    findings: &mut Findings,
    seen: &mut DrillObservation,
    name: &str,
    shared_lane: bool,
    workers: usize,
    stage_result: StageResult,
) {
    if !shared_lane {
        for phase in &stage_result.phases {
            let slowest = phase.tally.latencies.max().unwrap_or_default();
            seen.sojourn_max = seen.sojourn_max.max(slowest);
            let probes = phase.probes.iter();
            let slowest = probes
                .filter_map(|probes| probes.tally.latencies.max())
                .max();
            seen.probe_max = seen.probe_max.max(slowest.unwrap_or_default());
        }
    }
    findings.notes.extend(stage_result.notes);
    findings.contenders.push(Contender {
        name: name.to_owned(),
        shared_lane,
        workers,
        capacity: stage_result.capacity,
        phases: stage_result.phases,
    });
}

/// The processor's name as the kernel tells it, on x86 at least.
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    let (_, name) = line.split_once(':')?;
    let words: Vec<&str> = name.split_whitespace().collect();
    (!words.is_empty()).then(|| words.join(" "))
}
