//! The fixture's model and its faults. Rows and commands say what they do.
//!
//! A command is a line on stdin:
//! - `trial MODE`, `every MODE`: what the model does from now on with its trial row, or with all
//!   other rows (see [`Mode`]);
//! - `panic ROLE [N]`, `hang ROLE [N]`: the next `N` threads of that role that get work end, or hang;
//! - `release`: waits until a thread hangs, and lets all that hang continue; `free`: does not wait.
//!
//! A thread prints `fixture: hangs`, `fixture: moves` or `fixture: ends` on stderr when it hangs, continues
//! or ends, and `fixture: obeys` when a command is done. So a test need not ask the server it tests.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use lanekeeper::config::ModelRequest;
use lanekeeper::models::{
    AnswerSpec, Expected, GoldenRow, LoadError, Loaded, Model, ModelSource, Output, OutputSpec,
    PredictError, Rows, Signature,
};
use lanekeeper::platform::fault::{Faults, ThreadRole};

/// What the model does with a row, by the row's first value.
pub mod action {
    /// Answers with the row's second value.
    pub const ANSWER: f64 = 0.0;
    /// Answers once the test says `release`.
    pub const BLOCK: f64 = 1.0;
    /// Panics.
    pub const PANIC: f64 = 2.0;
    /// Returns an error.
    pub const FAIL: f64 = 3.0;
    /// Computes for as many milliseconds as the second value.
    pub const COMPUTE: f64 = 4.0;
    /// Answers with infinity.
    pub const INFINITY: f64 = 5.0;
    /// Sleeps for as many milliseconds as the second value.
    pub const SLEEP: f64 = 6.0;
    /// Sleeps again and again until the test says `release`.
    pub const DOZE: f64 = 7.0;
    /// Computes until the test says `release`.
    pub const SPIN: f64 = 8.0;
    /// Waits for a lock until the test says `release`.
    pub const LOCK: f64 = 9.0;
    /// Answers once as many predictions as the second value run at the same time, and fails if they
    /// do not within [`MEETING`].
    pub const MEET: f64 = 10.0;
    /// Allocates memory until there is no more.
    pub const ALLOCATE: f64 = 11.0;
    /// The trial row: does what the command `trial` says.
    pub const TRIAL: f64 = 12.0;
}

/// How long `late` takes.
const LATE: Duration = Duration::from_millis(900);

/// How long predictions wait to run at the same time. It is well within the shortest request timeout of a
/// test (400 ms), because the server refuses requests with less time than earlier ones took.
const MEETING: Duration = Duration::from_millis(150);

/// Size of each allocation by [`action::ALLOCATE`].
const BLOCK_BYTES: usize = 16 << 20;

/// Threads that hang wait at the gate, which the test opens for all of them.
#[derive(Default)]
struct Gate {
    opened: AtomicUsize,
    waiting: Mutex<usize>,
    changed: Condvar,
}

impl Gate {
    /// Calls `wait`, which returns once the function it is given says that the gate was opened.
    fn pass(&self, wait: impl FnOnce(&dyn Fn() -> bool)) {
        let seen = {
            let mut waiting = lock(&self.waiting);
            *waiting += 1;
            self.changed.notify_all();
            self.opened.load(Ordering::Acquire)
        };
        eprintln!("fixture: hangs");
        wait(&|| self.opened.load(Ordering::Acquire) != seen);
        *lock(&self.waiting) -= 1;
        eprintln!("fixture: moves");
    }

    /// Waits on the condition variable, blocked in the kernel like a thread that waits for another.
    fn pass_blocked(&self) {
        self.pass(|is_open| {
            let closed = |_: &mut usize| !is_open();
            drop(self.changed.wait_while(lock(&self.waiting), closed));
        });
    }

    /// Opens the gate. With `patience` it waits until a thread is there, so that an early release is not
    /// lost.
    fn open(&self, patience: Patience) {
        let nobody = |waiting: &mut usize| *waiting == 0 && patience == Patience::Some;
        let _waiting = self.changed.wait_while(lock(&self.waiting), nobody);
        self.opened.fetch_add(1, Ordering::AcqRel);
        self.changed.notify_all();
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Patience {
    Some,
    None,
}

/// What the model does with its trial row, or with all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Mode {
    /// Does what the row says, and answers the trial correctly.
    #[default]
    Ok,
    /// Panics.
    Panic,
    /// Returns an error.
    Fail,
    /// Answers wrongly.
    Wrong,
    /// Hangs until released, then answers.
    Hang,
    /// Answers after [`LATE`].
    Late,
    /// Panics every second time.
    Alternate,
}

impl Mode {
    fn named(name: &str) -> Self {
        match name {
            "ok" => Mode::Ok,
            "panic" => Mode::Panic,
            "fail" => Mode::Fail,
            "wrong" => Mode::Wrong,
            "hang" => Mode::Hang,
            "late" => Mode::Late,
            "alternate" => Mode::Alternate,
            other => panic!("no mode {other}"),
        }
    }
}

/// Predictions that wait to run at the same time.
#[derive(Default)]
struct Meeting {
    present: usize,
    round: usize,
}

/// The state that commands change and rows read.
#[derive(Default)]
struct Stage {
    gate: Gate,
    /// Held by the thread that reads commands, except during a release.
    kept: Mutex<()>,
    /// How many threads wait for that lock.
    at_lock: AtomicUsize,
    trial: Mutex<Mode>,
    every: Mutex<Mode>,
    calls: AtomicUsize,
    meeting: Mutex<Meeting>,
    met: Condvar,
}

static STAGE: std::sync::LazyLock<Stage> = std::sync::LazyLock::new(Stage::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The model may panic with the lock held.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Scripted {
    signature: Signature,
}

impl Model for Scripted {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        rows.iter()
            .map(|row| act(row[0], row[1]))
            .collect::<Result<_, _>>()
            .map(Output::Numbers)
    }
}

fn act(what: f64, value: f64) -> Result<f64, PredictError> {
    let mode = if what == action::TRIAL {
        *lock(&STAGE.trial)
    } else {
        *lock(&STAGE.every)
    };
    match mode {
        Mode::Ok => follow(what, value),
        Mode::Panic => panic!("told to panic"),
        Mode::Fail => Err(PredictError("told to fail".to_owned())),
        Mode::Wrong => Ok(value + 1.0),
        Mode::Hang => {
            STAGE.gate.pass_blocked();
            Ok(value)
        }
        Mode::Late => {
            eprintln!("fixture: is late");
            thread::sleep(LATE);
            Ok(value)
        }
        Mode::Alternate if STAGE.calls.fetch_add(1, Ordering::AcqRel).is_multiple_of(2) => {
            panic!("told to panic every second time")
        }
        Mode::Alternate => follow(what, value),
    }
}

/// Does what a row says.
fn follow(what: f64, value: f64) -> Result<f64, PredictError> {
    match what {
        action::BLOCK => STAGE.gate.pass_blocked(),
        action::PANIC => panic!("told to panic"),
        action::FAIL => return Err(PredictError("told to fail".to_owned())),
        action::COMPUTE => {
            let end = Instant::now() + Duration::from_millis(value as u64);
            while Instant::now() < end {
                std::hint::spin_loop();
            }
        }
        action::INFINITY => return Ok(f64::INFINITY),
        action::SLEEP => thread::sleep(Duration::from_millis(value as u64)),
        action::DOZE => STAGE.gate.pass(|is_open| {
            while !is_open() {
                thread::sleep(Duration::from_millis(5));
            }
        }),
        action::SPIN => STAGE.gate.pass(|is_open| {
            while !is_open() {
                std::hint::spin_loop();
            }
        }),
        action::LOCK => STAGE.gate.pass(|_| {
            STAGE.at_lock.fetch_add(1, Ordering::AcqRel);
            drop(lock(&STAGE.kept));
            STAGE.at_lock.fetch_sub(1, Ordering::AcqRel);
        }),
        action::MEET => return meet(value),
        action::ALLOCATE => allocate(),
        _ => {}
    }
    Ok(value)
}

fn meet(count: f64) -> Result<f64, PredictError> {
    let mut meeting = lock(&STAGE.meeting);
    meeting.present += 1;
    if meeting.present >= count as usize {
        meeting.present = 0;
        meeting.round += 1;
        STAGE.met.notify_all();
        return Ok(count);
    }
    let round = meeting.round;
    let alone = |meeting: &mut Meeting| meeting.round == round;
    let met = STAGE.met.wait_timeout_while(meeting, MEETING, alone);
    let (mut meeting, _) = met.unwrap_or_else(PoisonError::into_inner);
    if meeting.round != round {
        return Ok(count);
    }
    meeting.present -= 1;
    Err(PredictError("nobody else has come".to_owned()))
}

fn allocate() {
    let mut blocks = Vec::new();
    loop {
        // Write to it, so that the kernel provides the pages.
        blocks.push(vec![1_u8; BLOCK_BYTES]);
        std::hint::black_box(&blocks);
    }
}

/// A source of models by name, which says how the model behaves and how it loads.
pub struct Source(pub String);

impl ModelSource for Source {
    fn load(&self, _: &ModelRequest) -> Result<Arc<Loaded>, LoadError> {
        let row = match self.0.as_str() {
            "scripted" | "wrong" | "slow-load" => vec![action::TRIAL, 7.0],
            "hung-trial" => vec![action::BLOCK, 7.0],
            "panicking-trial" => vec![action::PANIC, 7.0],
            "panicking-load" => panic!("told to panic while loading"),
            other => return Err(LoadError(format!("told not to load {other}"))),
        };
        if self.0 == "slow-load" {
            STAGE.gate.pass_blocked();
        }
        let expected = if self.0 == "wrong" { 8.0 } else { 7.0 };
        let features = ["action", "value"].map(str::to_owned).to_vec();
        let output = OutputSpec::Numbers { width: 1 };
        Ok(Arc::new(Loaded {
            answer: AnswerSpec::of_labels(&output),
            name: "scripted".to_owned(),
            version: String::new(),
            algorithm: "none".to_owned(),
            model: Box::new(Scripted {
                signature: Signature::of_numbers(features, output),
            }),
            golden: vec![GoldenRow {
                row,
                expected: Expected::Number(expected),
                tolerance: 1e-9,
            }],
            example: None,
            exactness: None,
            notes: Vec::new(),
        }))
    }
}

#[derive(Debug, Clone, Copy)]
enum Fault {
    Panic,
    Hang,
}

/// The fault of each role, and how many threads will still have it.
#[derive(Default)]
struct Commanded(Mutex<HashMap<ThreadRole, (Fault, usize)>>);

impl Commanded {
    fn next(&self, role: ThreadRole) -> Option<Fault> {
        let mut faults = lock(&self.0);
        let (fault, left) = faults.get_mut(&role)?;
        let fault = *fault;
        *left -= 1;
        if *left == 0 {
            faults.remove(&role);
        }
        Some(fault)
    }
}

impl Faults for Commanded {
    fn inject(&self, role: ThreadRole) {
        match self.next(role) {
            Some(Fault::Panic) => {
                eprintln!("fixture: ends");
                panic!("told to end {role:?}");
            }
            Some(Fault::Hang) => STAGE.gate.pass_blocked(),
            None => {}
        }
    }
}

/// Carries out commands.
#[derive(Default)]
pub struct Commands {
    faults: Arc<Commanded>,
}

impl Commands {
    /// The faults that commands inject.
    pub fn faults(&self) -> Arc<dyn Faults> {
        Arc::clone(&self.faults) as Arc<dyn Faults>
    }

    /// Obeys commands, one a line, until there are no more.
    pub fn obey(&self, lines: impl Iterator<Item = String>) {
        let mut kept = lock(&STAGE.kept);
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["trial", mode] => *lock(&STAGE.trial) = Mode::named(mode),
                ["every", mode] => *lock(&STAGE.every) = Mode::named(mode),
                ["panic", name, ref count @ ..] => self.inject(Fault::Panic, name, count),
                ["hang", name, ref count @ ..] => self.inject(Fault::Hang, name, count),
                ["release"] | ["free"] => {
                    let patient = words[0] == "release";
                    STAGE.gate.open(if patient {
                        Patience::Some
                    } else {
                        Patience::None
                    });
                    drop(kept);
                    // All threads that wait for the lock get it before it is taken again.
                    while STAGE.at_lock.load(Ordering::Acquire) > 0 {
                        thread::sleep(Duration::from_millis(1));
                    }
                    kept = lock(&STAGE.kept);
                }
                _ => panic!("no command {line:?}"),
            }
            eprintln!("fixture: obeys {line}");
        }
    }

    fn inject(&self, fault: Fault, name: &str, count: &[&str]) {
        let count = count.first().map_or(1, |count| count.parse().unwrap());
        lock(&self.faults.0).insert(role(name), (fault, count));
    }
}

fn role(name: &str) -> ThreadRole {
    match name {
        "connection" => ThreadRole::Connection,
        "reserve" => ThreadRole::Reserve,
        "acceptor" => ThreadRole::Acceptor,
        "predict" => ThreadRole::PredictionWorker,
        "probe" => ThreadRole::ProbeWorker,
        "canary" => ThreadRole::Canary,
        "log" => ThreadRole::Log,
        "main" => ThreadRole::Main,
        other => panic!("no role {other}"),
    }
}
