//! What the benches share: the bench binary started again as the real server, and a core each.
//!
//! A bench starts its own executable as a child with a [`Model`]; the child then runs `lanekeeper` through
//! [`lanekeeper::run`]. It is ended by its PID when [`Server`] is dropped, or by the kernel if the bench
//! dies first. Nothing here makes load.
#![allow(dead_code)] // each bench uses a part of it

use std::env;
use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use lanekeeper::config::ModelRequest;
use lanekeeper::models::{
    self, AnswerSpec, Expected, GoldenRow, LoadError, Loaded, ModelSource, Output, OutputSpec,
    PredictError, Rows, Signature,
};
use lanekeeper::platform::client::{Client, ClientRequest};
use lanekeeper::platform::clock;
use lanekeeper::platform::sys;
use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

/// An error ends the bench, which prints its text.
pub(crate) type BenchResult<T> = Result<T, Box<dyn std::error::Error>>;

/// A body with one row of the iris data; the burning models accept it too.
pub(crate) const IRIS: &[u8] = br#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;

const ROLE: &str = "LANEKEEPER_BENCH_MODEL";
const CORE: &str = "LANEKEEPER_BENCH_CORE";
/// Suffix of the role of a model whose time is for each row.
const PER_ROW: &str = " a row";
const START_TIMEOUT: Duration = Duration::from_secs(20);
const END_TIMEOUT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(20);
const THREAD_STACK_BYTES: usize = 128 << 10;

/// What the server under test serves.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Model {
    /// The embedded default.
    Default,
    /// A model that computes for this long in thread CPU time, however many rows it gets.
    Burning(Duration),
    /// A model that computes for this long for each row.
    BurningPerRow(Duration),
    /// A hundred features, and nothing to compute.
    Wide,
}

/// Runs the server if this process is a bench's child, otherwise `bench`.
pub(crate) fn main(bench: impl FnOnce() -> BenchResult<()>) -> ExitCode {
    if let Some(code) = serve_if_asked() {
        return code;
    }
    // `cargo test --all-targets` runs benches too, without this argument.
    if !env::args().any(|arg| arg == "--bench") {
        eprintln!("this bench runs for a while: use cargo bench");
        return ExitCode::SUCCESS;
    }
    match bench() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench failed: {error}");
            ExitCode::FAILURE
        }
    }
}

/// CPU time of other processes, which disturbs the figures.
pub(crate) struct Others {
    began: Instant,
    before: Option<f64>,
}

impl Others {
    /// Begins to watch.
    pub(crate) fn watch(servers: &[&Server]) -> Self {
        Others {
            began: clock::instant(),
            before: others_cpu_seconds(servers),
        }
    }

    /// CPU time of others since then, in cores; `None` without /proc.
    pub(crate) fn cores(&self, servers: &[&Server]) -> Option<f64> {
        let used = others_cpu_seconds(servers)? - self.before?;
        let took = clock::instant().saturating_duration_since(self.began);
        Some((used / took.as_secs_f64().max(0.01)).max(0.0))
    }

    /// As [`cores`](Self::cores), for a table; marked if it is more than the kernel's own noise.
    pub(crate) fn cell(&self, servers: &[&Server]) -> String {
        match self.cores(servers) {
            None => "-".to_owned(),
            Some(cores) if cores > 0.15 => format!("{cores:.2}!"),
            Some(cores) => format!("{cores:.2}"),
        }
    }
}

/// `USER_HZ`, the unit of /proc: 100 on every Linux that Rust knows.
const TICKS_PER_SECOND: f64 = 100.0;

fn others_cpu_seconds(servers: &[&Server]) -> Option<f64> {
    // user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let words = stat.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
    let busy: f64 = ticks.iter().take(8).sum::<f64>() - ticks.get(3)? - ticks.get(4)?;
    let mut own = own_cpu_time().as_secs_f64();
    for server in servers {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).ok()?;
        // utime and stime are the 12th and 13th fields after the name, which may contain spaces.
        let mut words = stat.rsplit_once(") ")?.1.split(' ').skip(11);
        let (user, system) = (
            words.next()?.parse::<f64>().ok()?,
            words.next()?.parse::<f64>().ok()?,
        );
        own += (user + system) / TICKS_PER_SECOND;
    }
    Some(busy / TICKS_PER_SECOND - own)
}

/// Length of one phase: `usual`, or `LANEKEEPER_BENCH_SECONDS` if that is longer.
pub(crate) fn phase(usual: Duration) -> Duration {
    let asked = env::var("LANEKEEPER_BENCH_SECONDS")
        .ok()
        .and_then(|text| text.parse::<u64>().ok());
    asked.map_or(usual, |seconds| {
        Duration::from_secs(seconds.min(3_600)).max(usual)
    })
}

/// CPU time of this process so far, which is the load generator; the server is another process.
pub(crate) fn own_cpu_time() -> Duration {
    time_of(ClockId::ProcessCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// The first two cores this process may use, for the server and the generator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cores {
    /// The server's.
    pub(crate) server: usize,
    /// The generator's.
    pub(crate) generator: usize,
}

impl Cores {
    /// `None` if there are fewer than two.
    pub(crate) fn pick() -> Option<Self> {
        let allowed = sched_getaffinity(None).ok()?;
        let mut cores = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core));
        Some(Cores {
            server: cores.next()?,
            generator: cores.next()?,
        })
    }

    /// Says which core the server and the generator have.
    pub(crate) fn describe(cores: Option<Self>) -> String {
        match cores {
            Some(cores) => format!(
                "server on core {}, load generator on core {}",
                cores.server, cores.generator
            ),
            None => "only one core: server and load generator share it, so that ratios mean little"
                .to_owned(),
        }
    }
}

/// Pins the calling thread, and those it starts from now on, to the generator's core until dropped.
pub(crate) struct Pinned(Option<CpuSet>);

impl Pinned {
    /// Does nothing if there are fewer than two cores, or the kernel refuses.
    pub(crate) fn to_generator(cores: Option<Cores>) -> Self {
        let before = cores.and_then(|_| sched_getaffinity(None).ok());
        if let Some(cores) = cores {
            pin(cores.generator);
        }
        Pinned(before)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            let _ = sched_setaffinity(None, before);
        }
    }
}

fn pin(core: usize) {
    let mut only = CpuSet::new();
    only.set(core);
    if let Err(error) = sched_setaffinity(None, &only) {
        eprintln!("cannot keep to core {core}: {error}; the figures are of shared cores");
    }
}

/// A server under test; dropping it ends it.
pub(crate) struct Server {
    child: Child,
    /// Main listener.
    pub(crate) main: SocketAddr,
    /// Probe listener, if there is one.
    pub(crate) probe: Option<SocketAddr>,
}

impl Server {
    /// Starts lanekeeper with `options`, on `core` if given; returns when it is ready.
    pub(crate) fn start(model: Model, core: Option<usize>, options: &[&str]) -> BenchResult<Self> {
        let mut command = Command::new(env::current_exe()?);
        // Ignore options in the caller's environment.
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("LANEKEEPER_"))
        {
            command.env_remove(name);
        }
        let role = match model {
            Model::Default => "default".to_owned(),
            Model::Wide => WIDE.to_owned(),
            Model::Burning(time) => time.as_micros().to_string(),
            Model::BurningPerRow(time) => format!("{}{PER_ROW}", time.as_micros()),
        };
        command.env(ROLE, role);
        if let Some(core) = core {
            command.env(CORE, core.to_string());
        }
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--log-level",
            "info",
            "--access-log-rate",
            "0",
        ]);
        command
            .args(["--drain-grace", "0", "--drain-timeout", "1s"])
            .args(options);
        Self::start_command(command)?.wait_until_ready()
    }

    /// Starts any server that prints its addresses on stderr in lanekeeper's form.
    pub(crate) fn start_command(mut command: Command) -> BenchResult<Self> {
        // A peer ends when its stdin closes, which also happens if this process dies.
        let child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut server = Server {
            child,
            main: SocketAddr::from(([127, 0, 0, 1], 0)),
            probe: None,
        };
        let stderr = server
            .child
            .stderr
            .take()
            .ok_or("the child has no stderr")?;
        let (sender, lines) = mpsc::sync_channel::<String>(64);
        sys::spawn("stderr", THREAD_STACK_BYTES, move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                // Read everything, so that the child never blocks on stderr; only its start is used.
                let _ = sender.try_send(line);
            }
        })?;
        let deadline = clock::instant() + START_TIMEOUT;
        let mut seen = String::new();
        loop {
            match lines.recv_timeout(deadline.saturating_duration_since(clock::instant())) {
                Ok(line) => match addresses(&line) {
                    Some((main, probe)) => {
                        (server.main, server.probe) = (main, probe);
                        return Ok(server);
                    }
                    None => seen.push_str(&format!("\n  {line}")),
                },
                Err(RecvTimeoutError::Timeout) => {
                    return Err(
                        format!("the server did not say where it listens, only:{seen}").into(),
                    );
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(format!("the server ended at its start:{seen}").into());
                }
            }
        }
    }

    /// The server's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_until_ready(self) -> BenchResult<Self> {
        let deadline = clock::instant() + START_TIMEOUT;
        let ready = ClientRequest::new("GET", "/readyz", "bench", &[], b"")?;
        while Client::new(self.main).send(&ready, deadline)?.status != 200 {
            if clock::instant() >= deadline {
                return Err("the server did not become ready".into());
            }
            sys::sleep(POLL);
        }
        Ok(self)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // A peer ends at once when its stdin closes, even if requests wait.
        drop(self.child.stdin.take());
        if let Ok(pid) = i32::try_from(self.child.id())
            && let Some(pid) = Pid::from_raw(pid)
        {
            let _ = kill_process(pid, Signal::TERM);
        }
        let deadline = clock::instant() + END_TIMEOUT;
        while clock::instant() < deadline {
            if let Ok(Some(_)) = self.child.try_wait() {
                return;
            }
            sys::sleep(POLL);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads `listening on http://A, probes on http://B`; the second part is optional.
fn addresses(line: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let after = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        rest.split([',', ' ', '/']).next()?.parse().ok()
    };
    Some((after("listening on http://")?, after("probes on http://")))
}

fn serve_if_asked() -> Option<ExitCode> {
    let role = env::var(ROLE).ok()?;
    // If the bench is killed, the kernel kills its server.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    if let Some(core) = env::var(CORE).ok().and_then(|core| core.parse().ok()) {
        pin(core);
    }
    let (micros, per_row) = match role.strip_suffix(PER_ROW) {
        Some(micros) => (micros, true),
        None => (role.as_str(), false),
    };
    let source: Arc<dyn ModelSource> = match micros.parse() {
        _ if role == WIDE => Arc::new(Wide),
        Ok(micros) => Arc::new(Burning {
            time: Duration::from_micros(micros),
            per_row,
        }),
        Err(_) => Arc::new(models::Files),
    };
    let args: Vec<OsString> = env::args_os().collect();
    Some(lanekeeper::run(args, source))
}

/// The role of a server with [`Wide`].
const WIDE: &str = "wide";

/// Number of features of [`Wide`].
const WIDE_FEATURES: usize = 100;

/// A model whose predictions cost nothing, so that a protocol is all that is measured.
#[derive(Debug)]
struct Wide;

impl ModelSource for Wide {
    fn load(&self, _: &ModelRequest) -> Result<Arc<Loaded>, LoadError> {
        let features = (0..WIDE_FEATURES)
            .map(|index| format!("f{index}"))
            .collect();
        let output = OutputSpec::Numbers { width: 1 };
        Ok(Arc::new(Loaded {
            answer: AnswerSpec::of_labels(&output),
            name: "bench".to_owned(),
            version: "1".to_owned(),
            algorithm: "none".to_owned(),
            model: Box::new(WideModel(Signature::of_numbers(features, output))),
            golden: vec![GoldenRow {
                row: vec![0.0; WIDE_FEATURES],
                expected: Expected::Number(0.0),
                tolerance: 0.0,
            }],
            example: None,
            exactness: None,
            notes: Vec::new(),
        }))
    }
}

#[derive(Debug)]
struct WideModel(Signature);

impl models::Model for WideModel {
    fn signature(&self) -> &Signature {
        &self.0
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        Ok(Output::Numbers(vec![0.0; rows.len()]))
    }
}

/// A source of a model that computes for a given time.
struct Burning {
    time: Duration,
    per_row: bool,
}

impl ModelSource for Burning {
    fn load(&self, _: &ModelRequest) -> Result<Arc<Loaded>, LoadError> {
        let features = (1..=4).map(|index| format!("feature_{index}")).collect();
        let output = OutputSpec::Classes {
            labels: vec!["done".to_owned()],
            has_probabilities: false,
        };
        Ok(Arc::new(Loaded {
            answer: AnswerSpec::of_labels(&output),
            name: "burning".to_owned(),
            version: String::new(),
            algorithm: "burning".to_owned(),
            model: Box::new(BurningModel {
                time: self.time,
                per_row: self.per_row,
                signature: Signature::of_numbers(features, output),
            }),
            golden: vec![GoldenRow {
                row: vec![0.0; 4],
                expected: Expected::Label("done".to_owned()),
                tolerance: 0.0,
            }],
            example: None,
            exactness: None,
            notes: Vec::new(),
        }))
    }
}

struct BurningModel {
    time: Duration,
    per_row: bool,
    signature: Signature,
}

impl models::Model for BurningModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn predict(&self, rows: &Rows) -> Result<Output, PredictError> {
        // CPU time rather than elapsed time: while a real model waits for a core, it makes no progress.
        let times = if self.per_row { rows.len() } else { 1 };
        let time = self.time * u32::try_from(times).unwrap_or(u32::MAX);
        let ends = time_of(ClockId::ThreadCPUTime) + time;
        let mut state = 1_u64;
        while time_of(ClockId::ThreadCPUTime) < ends {
            // About a microsecond, so that even 20 µs are exact enough.
            for _ in 0..1_000 {
                state = std::hint::black_box(
                    state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1),
                );
            }
        }
        Ok(Output::Classes {
            indices: vec![0; rows.len()],
            probabilities: None,
        })
    }
}
