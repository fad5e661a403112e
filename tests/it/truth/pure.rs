//! Rows that would take days: they test the verdict itself, with a manual clock.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use lanekeeper::health::{self, Limits, ProbeKind, Snapshot};
use lanekeeper::platform::clock::{ProcessClock, Stamp};
use lanekeeper::vitals::Vitals;

use super::matrix::Report;

const LIMIT: Duration = Duration::from_secs(60);

const WORKERS: usize = 2;

/// Interval between ticks of the main thread.
const TICK: Duration = Duration::from_secs(1);

/// Ticks from one probe to the next; kubelet's default is 10 s.
const PROBED_EVERY: u64 = 10;

/// A server that consists of its vitals alone.
struct Subject {
    nanos: Arc<AtomicU64>,
    vitals: Vitals,
    report: Report,
}

impl Subject {
    /// A server with two idle workers and no requests.
    fn new(name: &'static str) -> Self {
        let nanos = Arc::new(AtomicU64::new(1));
        let clock = ProcessClock::manual(Arc::clone(&nanos), TICK);
        let vitals = Vitals::new(clock, (256, WORKERS), (8, 2));
        vitals.acceptor.alive.store(true, Ordering::Release);
        // There are slots for substitutes too; those stay empty.
        for worker in vitals.predict.workers.iter().take(WORKERS) {
            worker.alive.store(true, Ordering::Release);
        }
        Subject {
            nanos,
            vitals,
            report: Report {
                name,
                ..Report::default()
            },
        }
    }

    fn is_alive(&self) -> bool {
        let limits = Limits {
            stall_timeout: LIMIT,
            any_stuck_is_fatal: false,
            canary_timeout: LIMIT,
            replaces_stuck: true,
        };
        health::failure(
            ProbeKind::Liveness,
            &Snapshot::of(&self.vitals, [].into_iter(), limits),
        )
        .is_none()
    }

    /// Probes, and compares the result with the right one.
    fn probe(&mut self, truth: bool) {
        let alive = self.is_alive();
        let score = &mut self.report.scores[0];
        match (truth, alive) {
            (true, true) => score.true_negatives += 1,
            (false, false) => score.true_positives += 1,
            (true, false) => score.false_positives += 1,
            (false, true) => score.false_negatives += 1,
        }
        if truth != alive && self.report.wrongs.is_empty() {
            let now = self.vitals.clock.now();
            let wrong = format!("/livez says {alive} at {now:?}, but should say {truth}");
            self.report.wrongs.push(wrong);
        }
    }

    /// Lets time pass in which the process runs and is probed.
    fn pass(&mut self, seconds: u64, truth: bool) {
        for second in 1..=seconds {
            self.nanos.fetch_add(1_000_000_000, Ordering::AcqRel);
            self.vitals.clock.tick();
            if second.is_multiple_of(PROBED_EVERY) || second == seconds {
                self.probe(truth);
            }
        }
    }

    /// Lets time pass in which the process is stopped.
    fn stop(&mut self, seconds: u64) {
        self.nanos
            .fetch_add(seconds * 1_000_000_000, Ordering::AcqRel);
    }

    /// Starts a prediction on a worker.
    fn take_up(&self, worker: usize) {
        let now = self.vitals.clock.now();
        self.vitals.predict.taken_at.store(now);
        self.vitals.predict.workers[worker].busy_since.store(now);
    }

    /// Finishes a worker's prediction.
    fn finish(&self, worker: usize) {
        self.vitals
            .predict
            .completed_at
            .store(self.vitals.clock.now());
        self.vitals.predict.workers[worker]
            .busy_since
            .store(Stamp::NEVER);
    }

    /// Sets the number of waiting predictions.
    fn queue(&self, waiting: usize) {
        self.vitals.predict.filled_at.store(self.vitals.clock.now());
        self.vitals
            .predict
            .queue_length
            .store(waiting, Ordering::Release);
    }
}

/// Runs all of them.
pub fn run() -> Vec<Report> {
    let subjects = [
        idle_for_a_month(),
        slow_within_the_limit(),
        stuck_after_the_limit(),
        nobody_takes_up_what_waits(),
        stopped_for_a_day(),
    ];
    let mut reports: Vec<Report> = subjects.map(|subject| subject.report).into();
    reports.push(wall_clock_jumps());
    reports
}

fn idle_for_a_month() -> Subject {
    let mut subject = Subject::new("nobody asks for a prediction for a month");
    subject.take_up(0);
    subject.finish(0);
    subject.pass(30 * 86_400, true);
    subject
}

fn slow_within_the_limit() -> Subject {
    let name = "every prediction takes 50 s of a limit of 60 s, and others wait, for a day";
    let mut subject = Subject::new(name);
    subject.queue(9);
    for _ in 0..86_400 / 50 {
        (0..2).for_each(|worker| subject.take_up(worker));
        subject.pass(50, true);
        (0..2).for_each(|worker| subject.finish(worker));
    }
    subject
}

fn stuck_after_the_limit() -> Subject {
    let mut subject = Subject::new("every worker hangs for a limit of 60 s, and then goes on");
    subject.take_up(0);
    subject.pass(30, true);
    subject.take_up(1);
    subject.pass(59, true);
    subject.pass(1, false);
    subject.pass(600, false);
    subject.finish(0);
    subject.pass(60, true);
    subject
}

fn nobody_takes_up_what_waits() -> Subject {
    let name = "predictions wait for a limit of 60 s, and idle workers do not take them up";
    let mut subject = Subject::new(name);
    subject.pass(600, true);
    subject.queue(1);
    subject.pass(59, true);
    subject.pass(1, false);
    subject.pass(600, false);
    subject.take_up(0);
    subject.queue(0);
    subject.pass(50, true);
    subject
}

fn stopped_for_a_day() -> Subject {
    let mut subject = Subject::new("the process is stopped for a day while every worker computes");
    (0..2).for_each(|worker| subject.take_up(worker));
    subject.queue(3);
    subject.pass(30, true);
    subject.stop(86_400);
    // Probe before the main thread's next tick, and after it.
    subject.probe(true);
    subject.pass(20, true);
    // The process has now run for a minute, which counts.
    subject.pass(20, false);
    subject
}

/// Verdicts do not depend on the wall clock, so its jumps cannot matter. It is read only to date log
/// lines, answers, reports, metrics and model files.
fn wall_clock_jumps() -> Report {
    const DATED: [&str; 6] = [
        "logging.rs",
        // The date of its report.
        "commands/drill/mod.rs",
        "response.rs",
        "commands/train.rs",
        // Timestamps for Prometheus.
        "metrics/mod.rs",
        "serving/documents.rs",
    ];
    let mut report = Report {
        name: "the wall clock jumps",
        ..Report::default()
    };
    let mut seen = 0;
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let dated = DATED.iter().any(|name| path.ends_with(name));
            // Templates and data are read too; they do not mention a clock.
            let text = fs::read_to_string(&path).unwrap_or_default();
            let clocks = ["SystemTime", "UtcDateTime", "ClockId::Realtime"];
            let reads = clocks.iter().any(|clock| text.contains(clock));
            match (reads, dated) {
                (true, false) => {
                    let wrong = format!("{} reads the wall clock", path.display());
                    report.wrongs.push(wrong);
                }
                (true, true) => seen += 1,
                (false, _) => {}
            }
        }
    }
    if seen != DATED.len() {
        let wrong =
            format!("the wall clock is read in {seen} of {DATED:?}: is it named otherwise?");
        report.wrongs.push(wrong);
    }
    report
}
