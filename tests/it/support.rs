//! Starts the server, speaks to it, and ends it by PID.
//!
//! [`Server::real`] runs the released binary. [`Server::fixture`] starts this test binary again as the same
//! server, with a model that does what each row says, and with faults that a test can inject.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

mod programs;
mod script;

pub use self::programs::{has_programs, skip};
pub use self::script::action;
use self::script::{Commands, Source};

/// Maximum wait for an event that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An address on which nobody listens.
const NO_ADDRESS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

const ARGS: &str = "TEST_LANEKEEPER_ARGS";
const SOURCE: &str = "TEST_LANEKEEPER_SOURCE";

/// A process that is killed when dropped.
pub struct Killed(pub Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running server; ended when dropped.
pub struct Server {
    child: Child,
    /// Lines of stderr so far.
    pub log: Arc<Mutex<Vec<String>>>,
    /// Reads its log.
    reader: Option<thread::JoinHandle<()>>,
    /// Main listener; [`NO_ADDRESS`] if that is a Unix socket.
    pub main: SocketAddr,
    /// Probe listener, if there is one.
    pub probe: Option<SocketAddr>,
}

/// Starts a command and reads its stderr up to the line that names the addresses.
fn start(mut command: Command) -> (Child, BufReader<ChildStderr>, Vec<String>, String) {
    let mut child = command
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if stderr.read_line(&mut line).unwrap() == 0 {
            let status = child.wait();
            panic!(
                "{command:?} ended ({status:?}) before it listened:\n{}",
                lines.concat()
            );
        }
        lines.push(line.clone());
        if line.contains("listening on ") {
            return (child, stderr, lines, line);
        }
    }
}

fn address(line: &str, after: &str) -> Option<SocketAddr> {
    let rest = line.split(after).nth(1)?.strip_prefix("http://")?;
    rest.split([',', ' ', '\n', '"']).next()?.parse().ok()
}

fn real_command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    command
        .args(["serve", "--listen", "127.0.0.1:0"])
        .args(args);
    command
}

impl Server {
    /// Starts the real binary on free ports.
    pub fn real(args: &[&str]) -> Self {
        Self::reading(real_command(args))
    }

    /// Starts the real binary on free ports with these variables in its environment.
    pub fn real_in(environment: &[(&str, &str)], args: &[&str]) -> Self {
        let mut command = real_command(args);
        command.envs(environment.iter().copied());
        Self::reading(command)
    }

    /// Starts the real binary, or a copy of it, through commands such as `prlimit` that `exec` their
    /// arguments, so that the child process is the server.
    pub fn wrapped(wrapper: &[&str], binary: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(binary)
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(args);
        Self::reading(command)
    }

    /// Starts the real binary and never reads its stderr again.
    pub fn deaf(args: &[&str]) -> (Self, BufReader<ChildStderr>) {
        let (child, stderr, _, line) = start(real_command(args));
        (Self::at(child, &line, Arc::default()), stderr)
    }

    /// Starts the server with a source of models from this file.
    pub fn fixture(source: &str, args: &[&str]) -> Self {
        Self::fixture_in(&[], source, args)
    }

    /// Starts it with these variables in its environment.
    pub fn fixture_in(environment: &[(&str, &str)], source: &str, args: &[&str]) -> Self {
        Self::fixture_through(&[], environment, source, args)
    }

    /// Starts it through commands that `exec` their arguments.
    pub fn fixture_through(
        wrapper: &[&str],
        environment: &[(&str, &str)],
        source: &str,
        args: &[&str],
    ) -> Self {
        let binary = std::env::current_exe().unwrap();
        let mut words: Vec<OsString> = wrapper.iter().map(OsString::from).collect();
        words.push(binary.into());
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args([
            "--exact",
            "support::fixture",
            "--nocapture",
            "--test-threads=1",
        ]);
        let listens = args.iter().any(|arg| arg.starts_with("--listen="));
        let listen: &[&str] = if listens {
            &[]
        } else {
            &["--listen=127.0.0.1:0"]
        };
        let args = [&["lanekeeper"], listen, args].concat();
        command
            .env(ARGS, args.join("\x1f"))
            .env(SOURCE, source)
            .envs(environment.iter().copied())
            .stdout(Stdio::null());
        Self::reading(command)
    }

    fn reading(command: Command) -> Self {
        let (child, stderr, lines, line) = start(command);
        let log = Arc::new(Mutex::new(lines));
        let kept = Arc::clone(&log);
        let reader = thread::Builder::new()
            .spawn(move || {
                for line in stderr.lines().map_while(Result::ok) {
                    kept.lock().unwrap().push(line + "\n");
                }
            })
            .unwrap();
        let mut server = Self::at(child, &line, log);
        server.reader = Some(reader);
        server
    }

    fn at(child: Child, line: &str, log: Arc<Mutex<Vec<String>>>) -> Self {
        Server {
            child,
            log,
            reader: None,
            main: address(line, "listening on ").unwrap_or(NO_ADDRESS),
            probe: address(line, "probes on "),
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything logged so far.
    pub fn logged(&self) -> String {
        self.log.lock().unwrap().concat()
    }

    /// Sends the fixture a command and waits until it is done. Does not wait for `release`, which the
    /// fixture itself delays until something hangs.
    pub fn tell(&mut self, command: &str) {
        let mark = format!("fixture: obeys {command}\n");
        let obeyed = |server: &Self| server.logged().matches(&mark).count();
        let before = obeyed(self);
        let stdin = self.child.stdin.as_mut().unwrap();
        writeln!(stdin, "{command}").unwrap();
        stdin.flush().unwrap();
        if command != "release" {
            eventually("the fixture obeys", || obeyed(self) > before);
        }
    }

    pub fn get(&self, path: &str) -> Response {
        exchange(
            self.main,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        )
    }

    /// The probe listener's answer.
    pub fn probe(&self, path: &str) -> Response {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        exchange(self.probe.unwrap(), &request)
    }

    pub fn predict(&self, body: &str) -> Response {
        exchange(self.main, &predict_request(body, "Connection: close\r\n"))
    }

    /// Sends a prediction without waiting for its answer.
    pub fn begin(&self, body: &str) -> Connection {
        let mut connection = Connection::open(self.main);
        connection.send(predict_request(body, "").as_bytes());
        connection
    }

    pub fn status(&self) -> serde_json::Value {
        let response = exchange(
            self.probe.unwrap_or(self.main),
            "GET /statusz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(response.status, 200, "{}", response.body);
        serde_json::from_str(&response.body).unwrap()
    }

    pub fn busy(&self) -> u64 {
        self.status()["lanes"]["predict"]["busy"].as_u64().unwrap()
    }

    pub fn queued(&self) -> u64 {
        self.status()["lanes"]["predict"]["queue_length"]
            .as_u64()
            .unwrap()
    }

    pub fn wait_ready(&self) {
        eventually("the server is ready", || self.get("/readyz").status == 200);
    }

    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// Whether the process has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        // Its last lines may still be in the pipe.
        if let Some(reader) = self.reader.take() {
            eventually("its log is read to the end", || reader.is_finished());
        }
        status.unwrap()
    }

    /// Waits for the end of the process, at most for `limit`.
    pub fn wait_for(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        loop {
            let status = self.child.try_wait().unwrap();
            if status.is_some() || Instant::now() >= deadline {
                return status;
            }
            thread::sleep(Duration::from_millis(5)); // polling interval
        }
    }

    /// Threads and descriptors of the process.
    pub fn resources(&self) -> (usize, usize) {
        let count = |what: &str| {
            std::fs::read_dir(format!("/proc/{}/{what}", self.pid()))
                .unwrap()
                .count()
        };
        (count("task"), count("fd"))
    }

    /// Names of the process's threads.
    pub fn threads(&self) -> Vec<String> {
        let mut names: Vec<String> = self.tasks().into_iter().map(|(_, name)| name).collect();
        names.sort();
        names
    }

    /// Kernel ids of the threads of that name.
    pub fn thread_ids(&self, name: &str) -> Vec<String> {
        let tasks = self.tasks().into_iter();
        tasks
            .filter_map(|(id, other)| (other == name).then_some(id))
            .collect()
    }

    /// Kernel id and name of each of the process's threads.
    fn tasks(&self) -> Vec<(String, String)> {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid())).unwrap();
        let task = |entry: std::fs::DirEntry| {
            let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
            let id = entry.file_name().into_string().ok()?;
            Some((id, name.trim().to_owned()))
        };
        tasks.filter_map(|entry| task(entry.ok()?)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the server's log ---\n{}", self.logged());
        }
    }
}

/// A request for a prediction.
pub fn predict_request(body: &str, fields: &str) -> String {
    format!(
        "POST /predict HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A loopback address that nobody else uses, on which every port is free.
pub fn own_ip() -> Ipv4Addr {
    static NUMBER: AtomicU8 = AtomicU8::new(0);
    let [.., high, low] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 100 + NUMBER.fetch_add(1, Ordering::Relaxed), high, low)
}

/// A body with one instance, which tells the fixture's model what to do.
pub fn instance(action: f64, value: f64) -> String {
    format!("{{\"instances\": [[{action}, {value}]]}}")
}

/// Polls until `condition` holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5)); // polling interval
    }
}

/// A parsed answer.
#[derive(Debug, Clone, Default)]
pub struct Response {
    pub status: u16,
    pub fields: HashMap<String, String>,
    pub head: String,
    pub body: String,
}

impl Response {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or("").to_owned()
    }
}

/// A client's connection.
pub struct Connection {
    pub stream: TcpStream,
    buffer: Vec<u8>,
    /// Why reading failed, if it did.
    end: Option<String>,
}

impl Connection {
    pub fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection {
            stream,
            buffer: Vec::new(),
            end: None,
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Half-closes the connection: nothing more will be sent, but an answer can be read.
    pub fn finish_sending(&self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Leaves with a reset, which cannot mean a half-close.
    pub fn reset(self) {
        let socket = socket2::SockRef::from(&self.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Reads one answer; `None` if the connection ends or times out first.
    pub fn try_read(&mut self, with_body: bool) -> Option<Response> {
        let end = loop {
            if let Some(at) = self
                .buffer
                .windows(4)
                .position(|window| window == b"\r\n\r\n")
            {
                break at + 4;
            }
            self.fill()?;
        };
        let head = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        let fields: HashMap<String, String> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
            .collect();
        let length = fields
            .get("content-length")
            .and_then(|length| length.parse().ok())
            .unwrap_or(0);
        let length = if with_body { length } else { 0 };
        while self.buffer.len() < length {
            self.fill()?;
        }
        let body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        Some(Response {
            status,
            fields,
            head,
            body,
        })
    }

    pub fn read(&mut self) -> Response {
        self.try_read(true).expect("an answer")
    }

    /// Reads one answer if it comes soon.
    pub fn answered_within(&mut self, limit: Duration) -> Option<Response> {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        let answer = self.try_read(true);
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        answer
    }

    /// Whether the server closes without sending anything more.
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && matches!(self.stream.read(&mut [0; 16]), Ok(0))
    }

    fn fill(&mut self) -> Option<()> {
        let mut piece = [0; 4096];
        let count = match self.stream.read(&mut piece) {
            Ok(0) => {
                self.end = Some("closed".to_owned());
                return None;
            }
            Ok(count) => count,
            Err(error) => {
                self.end = Some(error.to_string());
                return None;
            }
        };
        self.buffer.extend_from_slice(&piece[..count]);
        Some(())
    }
}

/// Sends bytes on a fresh connection and reads one answer.
pub fn exchange(address: SocketAddr, request: &str) -> Response {
    let mut connection = Connection::open(address);
    connection.send(request.as_bytes());
    let with_body = !request.starts_with("HEAD");
    connection
        .try_read(with_body)
        .unwrap_or_else(|| panic!("no answer to {request:?}: {:?}", connection.end))
}

// ---- the fixture: this binary as a server ----

/// Not a test: with the fixture's environment it runs the server, otherwise it does nothing.
#[test]
fn fixture() {
    let Ok(args) = std::env::var(ARGS) else {
        return;
    };
    let commands = Commands::default();
    let faults = commands.faults();
    thread::Builder::new()
        .name("commands".to_owned())
        .spawn(move || {
            commands.obey(std::io::stdin().lines().map_while(Result::ok));
        })
        .unwrap();
    let source = Arc::new(Source(std::env::var(SOURCE).unwrap()));
    let args = args.split('\x1f').map(OsString::from);
    let code = lanekeeper::run_with_faults(args, source, faults);
    let number = (0..=u8::MAX).find(|number| std::process::ExitCode::from(*number) == code);
    std::process::exit(number.unwrap().into());
}

/// Runs `work` on `count` threads until `stop` and returns their results.
pub fn crowd<T: Send + 'static>(
    count: usize,
    work: impl Fn() -> T + Send + Sync + 'static,
) -> Receiver<T> {
    let (sender, receiver) = sync_channel(count);
    let work = Arc::new(work);
    for _ in 0..count {
        let (sender, work) = (sender.clone(), Arc::clone(&work));
        thread::Builder::new()
            .spawn(move || sender.send(work()))
            .unwrap();
    }
    receiver
}
