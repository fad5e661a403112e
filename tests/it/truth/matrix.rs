//! The rows of the fault matrix: how they are run, and the report of all.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lanekeeper::drill::measure::Latencies;
use lanekeeper::drill::report::{TextTable, millis, p99_millis};

use super::control::Control;
use super::judge::{Moment, SLACK, Score, Terms, Truth, judge, shows};
use super::prober::{Prober, QUESTIONS, Question, Record};
use super::stage::Stage;

/// Runs rows one at a time, and requires every probe to take at most 50 ms unless the row starves the
/// machine.
pub const STRICT: &str = "TEST_LANEKEEPER_TRUTH_STRICT";

/// Runs only the rows whose names contain this.
const ROWS: &str = "TEST_LANEKEEPER_TRUTH_ROWS";

/// Maximum duration of a probe in strict mode.
const STRICT_LATENCY: Duration = Duration::from_millis(50);

/// Number of rows that run in parallel; most of them wait most of the time.
const TOGETHER: usize = 5;

/// Number of log lines shown for a row that fails.
const LOG_SHOWN: usize = 40;

/// A scenario, with the right results of probes.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// What happens, as a sentence.
    pub name: &'static str,
    /// The source of the model.
    pub source: &'static str,
    /// `--predict-workers`.
    pub workers: usize,
    /// `--stall-timeout` in milliseconds.
    pub stall: u64,
    /// `--canary-interval` in milliseconds.
    pub canary: u64,
    /// Further options of the server.
    pub args: &'static [&'static str],
    pub begin: Begin,
    pub steps: &'static [Step],
    pub end: End,
    pub company: Company,
    /// Whether the machine is starved on purpose, so that a probe may get no answer within a second.
    pub starved: bool,
}

/// The state in which a row begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// Ready and at rest.
    Serving,
    /// As soon as it listens.
    Listening,
}

/// The state in which a row ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The server has recovered: it has the threads, descriptors and capacity that it had at rest.
    Recovered,
    /// As its last step says.
    Left,
}

/// Whether other rows may run at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Company {
    Welcome,
    /// The row disturbs the machine, or other rows would disturb its measurements.
    Alone,
}

/// An action, and the right results of probes from then on.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The action in words, for the report.
    pub does: &'static str,
    pub act: fn(&mut Stage),
    pub alive: Truth,
    pub ready: Truth,
    pub started: Truth,
    /// Whether a failing server still answers, unlike one that has ended.
    pub answers: bool,
    /// For how many milliseconds probes are watched once they have the right result, so that a wrong one
    /// would show.
    pub hold: u64,
    /// What else must hold at the end of the step.
    pub check: fn(&mut Stage),
}

/// Defaults of rows.
pub const ROW: Row = Row {
    name: "",
    source: "scripted",
    workers: 2,
    stall: 1_000,
    canary: 300,
    args: &[],
    begin: Begin::Serving,
    steps: &[],
    end: End::Recovered,
    company: Company::Welcome,
    starved: false,
};

/// Defaults of steps: no action, and the server serves for longer than the stall timeout.
pub const STEP: Step = Step {
    does: "",
    act: |_| {},
    alive: Truth::Yes,
    ready: Truth::Yes,
    started: Truth::Yes,
    answers: true,
    hold: 1_300,
    check: |_| {},
};

impl Step {
    pub fn truth(&self, question: Question) -> Truth {
        match question {
            Question::Alive => self.alive,
            Question::Ready => self.ready,
            Question::Started => self.started,
        }
    }
}

/// The result of a row.
#[derive(Debug, Default)]
pub struct Report {
    pub name: &'static str,
    /// By question, as in [`QUESTIONS`].
    pub scores: [Score; 3],
    pub wrongs: Vec<String>,
    pub log: String,
    pub not_tested: Option<String>,
    pub took: Duration,
}

impl Row {
    fn args(&self) -> Vec<String> {
        let mut args = vec![
            format!("--predict-workers={}", self.workers),
            format!("--stall-timeout={}ms", self.stall),
            format!("--canary-interval={}ms", self.canary),
            // Shorter than the stall timeout, as by default.
            "--request-timeout=400ms".to_owned(),
            "--max-wait=300ms".to_owned(),
            "--predict-queue=8".to_owned(),
            "--access-log-rate=1".to_owned(),
        ];
        args.extend(self.args.iter().map(ToString::to_string));
        args
    }

    /// How long a passing verdict may take to return.
    fn settling(&self, question: Question) -> Duration {
        match question {
            Question::Ready => SLACK + Duration::from_millis(self.canary),
            Question::Alive | Question::Started => SLACK,
        }
    }

    /// Runs the row and compares the results of its probes.
    pub fn run(&self, control: Option<&Control>) -> Report {
        let began = Instant::now();
        let mut report = Report {
            name: self.name,
            ..Report::default()
        };
        let opened = guarded(|| {
            let mut stage = Stage::open(self.source, self.args());
            if self.begin == Begin::Serving {
                stage.settle();
            }
            stage
        });
        match opened {
            Ok(stage) => self.watch(stage, control, &mut report),
            Err(why) => report.wrongs.push(format!("did not begin: {why}")),
        }
        report.took = began.elapsed();
        report
    }

    fn watch(&self, mut stage: Stage, control: Option<&Control>, report: &mut Report) {
        stage.prober = Some(Prober::start(stage.server.probe.unwrap()));
        let mut happened: Vec<(Instant, Instant)> = Vec::new();
        for (index, step) in self.steps.iter().enumerate() {
            let began = Instant::now();
            let acted = guarded(|| (step.act)(&mut stage));
            happened.push((began, Instant::now()));
            let held = acted.and_then(|()| {
                guarded(|| {
                    self.hold(step, &stage, began);
                    (step.check)(&mut stage);
                })
            });
            if let Err(why) = held {
                let number = index + 1;
                let wrong = format!("step {number} ({}): {why}", step.does);
                report.wrongs.push(wrong);
                break;
            }
            if let Some(why) = stage.not_tested.take() {
                report.not_tested = Some(why);
                return;
            }
        }
        let end = Instant::now();
        let records = stage.prober.as_mut().unwrap().stop();
        for question in QUESTIONS {
            let moment = |(step, (began, acted)): (&Step, &(Instant, Instant))| Moment {
                began: *began,
                acted: *acted,
                truth: step.truth(question),
                answers: step.answers,
            };
            let moments: Vec<Moment> = self.steps.iter().zip(&happened).map(moment).collect();
            let terms = Terms {
                stall_timeout: Duration::from_millis(self.stall),
                settling: self.settling(question),
                starved: self.starved,
                passed_before: self.begin == Begin::Serving,
                excuses: &|record: &Record| control.is_some_and(|control| control.excuses(record)),
            };
            let heard = &records[question as usize];
            let score = judge(question, heard, &moments, end, terms);
            report.wrongs.extend(score.wrongs.iter().cloned());
            if score.late * 10 > heard.len() {
                let of = heard.len();
                let wrong = format!("{} of {of} probes had no answer in time", score.late);
                report.wrongs.push(wrong);
            }
            report.scores[question as usize] = score;
        }
        if self.end == End::Recovered
            && report.wrongs.is_empty()
            && let Err(why) = guarded(|| stage.check_recovered(self.workers))
        {
            report.wrongs.push(format!("not recovered: {why}"));
        }
        report.log = stage.server.logged();
    }

    /// Waits until probes have the step's right result, or are overdue, and then for `hold`.
    fn hold(&self, step: &Step, stage: &Stage, began: Instant) {
        let prober = stage.prober.as_ref().unwrap();
        let acted = Instant::now();
        let stall = Duration::from_millis(self.stall);
        let shown = |question: Question| {
            let millis = Duration::from_millis;
            let truth = step.truth(question);
            let (from, within) = match truth {
                Truth::Unasked => return true,
                Truth::Yes => (began, self.settling(question)),
                Truth::No => (began, SLACK),
                Truth::NoAfter(after) => (began, millis(after) + SLACK),
                Truth::Stalled(late) => (began + stall, stall + millis(late) + SLACK),
            };
            acted.elapsed() > within
                || prober.has_heard(question, began, |record| {
                    record.answered >= from && shows(record, truth, step.answers)
                })
        };
        while !QUESTIONS.into_iter().all(shown) {
            thread::sleep(Duration::from_millis(5)); // polling interval
        }
        thread::sleep(Duration::from_millis(step.hold)); // a wrong result would show by then
    }
}

/// Calls `body` and converts a panic to its text.
fn guarded<T>(body: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(body))
        .map_err(|payload| lanekeeper::platform::panic::panic_message(payload.as_ref()))
}

/// Runs rows, some at a time, and returns their reports in the rows' order.
pub fn run(rows: &[&Row]) -> Vec<Report> {
    // No attacks at the same time: they would starve the probers, and some rows would starve them.
    let _turn = crate::clients::inject();
    let wanted = std::env::var(ROWS).unwrap_or_default();
    let rows: Vec<&Row> = rows
        .iter()
        .copied()
        .filter(|row| row.name.contains(&wanted))
        .collect();
    let strict = std::env::var_os(STRICT).is_some();
    let (together, alone): (Vec<&Row>, Vec<&Row>) = rows
        .iter()
        .copied()
        .partition(|row| row.company == Company::Welcome && !strict);
    // In strict mode there are no excuses.
    let control = (!strict).then(Control::start);
    let mut reports = side_by_side(&together, TOGETHER, control.as_ref());
    reports.extend(alone.into_iter().map(|row| row.run(control.as_ref())));
    let place = |name| rows.iter().position(|row| row.name == name);
    reports.sort_by_key(|report| place(report.name));
    if strict {
        reports.iter_mut().for_each(|report| {
            let slow = rows
                .iter()
                .any(|row| row.name == report.name && row.starved);
            let longest = report.latencies().max().unwrap_or_default();
            if !slow && longest > STRICT_LATENCY {
                let wrong = format!("a probe took {longest:.1?}, more than {STRICT_LATENCY:?}");
                report.wrongs.push(wrong);
            }
        });
    }
    reports
}

fn side_by_side(rows: &[&Row], threads: usize, control: Option<&Control>) -> Vec<Report> {
    let next = AtomicUsize::new(0);
    let reports = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..threads.min(rows.len()) {
            let body = || {
                while let Some(row) = rows.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let report = row.run(control);
                    reports.lock().unwrap().push(report);
                }
            };
            let named = thread::Builder::new().name("row".to_owned());
            named.spawn_scoped(scope, body).unwrap();
        }
    });
    reports.into_inner().unwrap()
}

impl Report {
    /// Latencies of the probes that had to be answered.
    fn latencies(&self) -> Latencies {
        let mut all = Latencies::default();
        for score in &self.scores {
            all.merge(&score.latencies);
        }
        all
    }

    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.name.to_owned()];
        for score in &self.scores[..2] {
            cells.extend(score_cells(score));
        }
        let latencies = self.latencies();
        cells.push(p99_millis(&latencies));
        cells.push(millis(latencies.max()));
        let late: usize = self.scores.iter().map(|score| score.late).sum();
        cells.push(late.to_string());
        cells.push(format!("{:.1}", self.took.as_secs_f64()));
        cells.push(match &self.not_tested {
            Some(_) => "NOT TESTED".to_owned(),
            None if self.wrongs.is_empty() => "ok".to_owned(),
            None => "WRONG".to_owned(),
        });
        cells
    }
}

fn score_cells(score: &Score) -> Vec<String> {
    let seconds = |detection: &Duration| format!("{:.2}", detection.as_secs_f64());
    let detections: Vec<String> = score.detections.iter().map(seconds).collect();
    vec![
        score.true_positives.to_string(),
        score.false_positives.to_string(),
        score.true_negatives.to_string(),
        score.false_negatives.to_string(),
        detections.join(" "),
    ]
}

/// Prints all reports as one table and all errors in full, even though the output of tests is captured.
///
/// # Panics
/// A row has failed; the text names all that have.
pub fn conclude(reports: &[Report]) {
    let mut table = TextTable::new(&[
        "scenario (a positive is a failing probe)",
        "live TP",
        "FP",
        "TN",
        "FN",
        "seen s",
        "ready TP",
        "FP",
        "TN",
        "FN",
        "seen s",
        "p99 ms",
        "max ms",
        "late",
        "row s",
        "",
    ]);
    let mut sums = [Score::default(), Score::default()];
    for report in reports {
        for (sum, score) in sums.iter_mut().zip(&report.scores) {
            sum.true_positives += score.true_positives;
            sum.false_positives += score.false_positives;
            sum.true_negatives += score.true_negatives;
            sum.false_negatives += score.false_negatives;
        }
        table.row(report.cells());
    }
    let mut sum = vec![format!("all {}", reports.len())];
    sum.extend(sums.iter().flat_map(score_cells));
    table.row(sum);
    let mut text = format!("\n{table}");
    for report in reports {
        if let Some(why) = &report.not_tested {
            let _ = writeln!(text, "\nNOT TESTED: {}: {why}", report.name);
        }
        if !report.wrongs.is_empty() {
            let _ = writeln!(text, "\nWRONG: {}", report.name);
            for wrong in &report.wrongs {
                let _ = writeln!(text, "  {wrong}");
            }
            let lines: Vec<&str> = report.log.lines().collect();
            for line in &lines[lines.len().saturating_sub(LOG_SHOWN)..] {
                let _ = writeln!(text, "  | {line}");
            }
        }
    }
    let _ = writeln!(std::io::stderr(), "{text}");
    let wrong: Vec<&str> = reports
        .iter()
        .filter(|report| !report.wrongs.is_empty())
        .map(|report| report.name)
        .collect();
    assert!(
        wrong.is_empty(),
        "{} of {} rows are wrong: {wrong:#?}",
        wrong.len(),
        reports.len()
    );
}
