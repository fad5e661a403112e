//! A server under test, its clients, and the actions of steps.

use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use lanekeeper::platform::client::{Client, ClientRequest};
use rustix::process::{Pid, Resource, Rlimit};

use super::prober::Prober;
use crate::support::{Connection, Server, action, has_programs, instance};

/// Maximum wait for a condition of a step. A step that passes takes less.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a client waits for its answer, which is longer than the server's own timeout.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(3);

/// Polls until `condition` holds.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        thread::sleep(Duration::from_millis(5)); // polling interval
    }
}

/// Threads by name, and the counts of threads and descriptors.
type Rest = (Vec<String>, (usize, usize));

/// The state on which the steps of a row act.
pub struct Stage {
    pub server: Server,
    args: Vec<String>,
    source: &'static str,
    load: Vec<Load>,
    held: Vec<Connection>,
    guests: Vec<Child>,
    group: Option<super::quota::Group>,
    /// The prober, once it runs, so that a step can send it elsewhere.
    pub prober: Option<Prober>,
    /// Why the row cannot be tested on this machine, if a step has found a reason.
    pub not_tested: Option<String>,
    /// The server's threads and resources before the first step.
    rest: Option<Rest>,
}

impl Stage {
    /// Starts a server, which may still be loading its model.
    pub fn open(source: &'static str, args: Vec<String>) -> Self {
        Stage {
            server: start(source, &args),
            args,
            source,
            load: Vec::new(),
            held: Vec::new(),
            guests: Vec::new(),
            group: None,
            prober: None,
            not_tested: None,
            rest: None,
        }
    }

    /// Waits until the server is ready and at rest. It must return to that state at the end.
    pub fn settle(&mut self) {
        until("the server is ready", || {
            self.server.get("/readyz").status == 200
        });
        assert_eq!(self.answer(), 200);
        until("the loader has ended", || {
            !self.server.threads().iter().any(|name| name == "loader")
        });
        // The server is at rest once six looks in a row see the same.
        let mut looks = vec![self.look()];
        until("the server is at rest", || {
            looks.push(self.look());
            let last = &looks[looks.len().saturating_sub(6)..];
            // A thread that has not run yet has the name of its parent.
            let unnamed = |name: &&String| name.starts_with("support::");
            let all_named = last[0].0.iter().filter(unnamed).count() <= 1;
            all_named && last.len() == 6 && last.iter().all(|one| *one == last[0])
        });
        self.rest = looks.pop();
    }

    fn look(&self) -> Rest {
        let mut threads = self.server.threads();
        // If a stuck worker retires, its substitute stays, whose name has another number.
        for name in &mut threads {
            name.truncate(name.trim_end_matches(|c: char| c.is_ascii_digit()).len());
        }
        threads.sort();
        (threads, self.server.resources())
    }

    // ---- requests ----

    /// Sends a prediction that the model answers at once, and returns the status.
    pub fn answer(&self) -> u16 {
        let answer = self.server.predict(&instance(action::ANSWER, 1.0));
        if answer.status != 200 {
            eprintln!(
                "a prediction was answered {}: {}",
                answer.status, answer.body
            );
        }
        answer.status
    }

    /// Sends a prediction and returns the status of its answer.
    pub fn ask(&self, what: f64, value: f64) -> u16 {
        self.server.predict(&instance(what, value)).status
    }

    /// Whether so many predictions can run at the same time.
    pub fn can_compute(&self, count: usize) -> bool {
        // After long predictions the server expects more of them, and refuses requests with less time.
        // Short predictions correct that estimate.
        for _ in 0..4 {
            self.server.predict(&instance(action::ANSWER, 1.0));
        }
        let request = instance(action::MEET, count as f64);
        let mut clients: Vec<Connection> =
            (0..count).map(|_| self.server.begin(&request)).collect();
        let met = |client: &mut Connection| client.read().status == 200;
        // Read every answer, so that no prediction remains.
        clients.iter_mut().map(met).filter(|met| *met).count() == count
    }

    /// One number of `/statusz`.
    pub fn number(&self, pointer: &str) -> u64 {
        let status = self.server.status();
        let found = status.pointer(pointer);
        found
            .and_then(serde_json::Value::as_u64)
            .unwrap_or_else(|| panic!("no number {pointer} in {status}"))
    }

    /// Whether `/statusz` says why the server is degraded.
    pub fn is_degraded(&self) -> bool {
        let status = self.server.status();
        let found = status.pointer("/degraded");
        !found
            .unwrap_or_else(|| panic!("no degraded in {status}"))
            .is_null()
    }

    /// Asserts that a probe's text contains this.
    pub fn says(&self, path: &str, text: &str) {
        let answer = self.server.probe(path);
        assert!(
            answer.body.contains(text),
            "{path} should say {text:?}, but says {:?}",
            answer.body
        );
    }

    /// Asserts that the main listener says that it is not alive, and why.
    pub fn says_dead(&self, check: &str) {
        let answer = self.server.probe("/livez");
        let first = answer.body.lines().next();
        assert_eq!(
            (answer.status, first),
            (500, Some("Service has stopped completing predictions"))
        );
        self.says("/livez?verbose", &format!("[-]{check} "));
    }

    // ---- hanging ----

    fn marks(&self, mark: &str) -> usize {
        let log = self.server.log.lock().unwrap();
        log.iter().filter(|line| line.contains(mark)).count()
    }

    /// Waits until the fixture has printed this more than `before` times.
    fn marked(&self, mark: &str, before: usize) {
        until(mark, || self.marks(mark) > before);
    }

    /// Sends predictions with an action that hangs, and waits until they do.
    pub fn hang(&mut self, count: usize, how: f64) {
        for _ in 0..count {
            let before = self.marks("fixture: hangs");
            self.held.push(self.server.begin(&instance(how, 1.0)));
            self.marked("fixture: hangs", before);
        }
    }

    /// Sends batches, each of so many rows that all do the same.
    pub fn batches(&mut self, count: usize, rows: usize, what: f64, value: f64) {
        let body = serde_json::json!({"instances": vec![[what, value]; rows]}).to_string();
        for _ in 0..count {
            self.held.push(self.server.begin(&body));
        }
    }

    /// Waits for all answers.
    pub fn await_batches(&mut self) {
        for mut held in self.held.drain(..) {
            assert_eq!(held.read().status, 200);
        }
    }

    /// Sends a command that makes so many threads hang, and waits until they do.
    pub fn hang_by(&mut self, command: &str, count: usize) {
        let before = self.marks("fixture: hangs");
        self.tell(command);
        self.marked("fixture: hangs", before + count - 1);
    }

    /// Ends the next thread of a role, and waits until one has ended.
    pub fn end(&mut self, role: &str, count: usize) {
        let before = self.marks("fixture: ends");
        self.tell(&format!("panic {role} {count}"));
        self.marked("fixture: ends", before + count - 1);
    }

    /// Makes the next trial late, and waits until it has begun.
    pub fn late_by(&mut self, command: &str) {
        let before = self.marks("fixture: is late");
        self.tell(command);
        self.marked("fixture: is late", before);
    }

    /// Sends the fixture a command, and waits until it is done.
    pub fn tell(&mut self, command: &str) {
        let before = self.marks("fixture: obeys");
        self.server.tell(command);
        self.marked("fixture: obeys", before);
    }

    /// Lets everything that hangs continue, and makes the model do what its rows say.
    pub fn release(&mut self) {
        self.tell("every ok");
        self.tell("trial ok");
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.tell("free");
            let (hangs, moves) = (self.marks("fixture: hangs"), self.marks("fixture: moves"));
            if hangs == moves {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{moves} of {hangs} that hung go on"
            );
        }
        self.held.clear();
    }

    // ---- load ----

    /// Starts so many clients in a closed loop, with a pause after each answer.
    pub fn load(&mut self, clients: usize, pause: u64, what: f64, value: f64) {
        let pause = Duration::from_millis(pause);
        let load = Load::start(self.server.main, clients, pause, &instance(what, value));
        self.load.push(load);
    }

    /// Ends all load.
    pub fn rest(&mut self) {
        self.load.clear();
    }

    /// How many answers with this status the load has had so far.
    pub fn had(&self, status: u16) -> usize {
        let counts = self.load.iter().map(|load| load.count(status));
        counts.sum()
    }

    /// Waits until the load has had one more answer with this status.
    pub fn wait_for(&self, status: u16) {
        let before = self.had(status);
        until(&format!("an answer {status}"), || self.had(status) > before);
    }

    // ---- the process and its machine ----

    /// Starts two busy loops for each core.
    pub fn crowd(&mut self) {
        if !has_programs(&["sh"]) {
            self.not_tested = Some("there is no sh to run busy loops".to_owned());
            return;
        }
        let cores = thread::available_parallelism().map_or(1, usize::from);
        for _ in 0..2 * cores {
            // The loop ends by itself, even if this process does not end it.
            let busy = Command::new("sh")
                .args(["-c", "ulimit -t 20; while :; do :; done"])
                .stdin(Stdio::null())
                .spawn();
            self.guests.push(busy.unwrap());
        }
    }

    /// Ends the busy loops.
    pub fn disperse(&mut self) {
        for mut guest in self.guests.drain(..) {
            let _ = guest.kill();
            let _ = guest.wait();
        }
    }

    /// Limits the server to so many percent of one core; returns whether that was possible.
    pub fn limit_cpu(&mut self, percent: u32) -> bool {
        self.group = super::quota::Group::limit(self.server.pid(), percent);
        self.group.is_some()
    }

    /// Removes that limit.
    pub fn unlimit_cpu(&mut self) {
        self.group = None;
    }

    /// Sets a limit of the running server; `None` sets it to this test's own.
    pub fn limit(&self, resource: Resource, most: Option<u64>) {
        let pid = Pid::from_raw(i32::try_from(self.server.pid()).unwrap());
        let maximum = rustix::process::getrlimit(resource).maximum;
        let current = most.or(maximum);
        rustix::process::prlimit(pid, resource, Rlimit { current, maximum })
            .unwrap_or_else(|error| panic!("{resource:?} cannot be {most:?}: {error}"));
    }

    /// Address space of the process in bytes; `None` once it is dead.
    pub fn address_space(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server.pid())).ok()?;
        let size = status
            .lines()
            .find_map(|line| line.strip_prefix("VmSize:"))?;
        let kib: u64 = size.trim().strip_suffix(" kB")?.trim().parse().ok()?;
        Some(kib << 10)
    }

    /// Sends a prediction that will never be answered.
    pub fn send(&mut self, what: f64) {
        self.held.push(self.server.begin(&instance(what, 1.0)));
    }

    /// Opens connections to the main listener and keeps them.
    pub fn connect(&mut self, count: usize) {
        for _ in 0..count {
            self.held.push(Connection::open(self.server.main));
        }
    }

    /// Closes all kept connections.
    pub fn disconnect(&mut self) {
        self.held.clear();
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        self.server.wait()
    }

    /// Starts another server, as a service manager would.
    pub fn restart(&mut self) {
        self.load.clear();
        self.held.clear();
        self.server = start(self.source, &self.args);
        if let Some(prober) = &self.prober {
            prober.follow(self.server.probe.unwrap());
        }
    }

    /// Asserts that the server has the capacity, threads and descriptors of rest, and an empty queue.
    pub fn check_recovered(&mut self, workers: usize) {
        self.load.clear();
        self.held.clear();
        until("as many predictions as workers run", || {
            self.can_compute(workers)
        });
        until("the queue is empty", || self.server.queued() == 0);
        if let Some(rest) = self.rest.take() {
            let deadline = Instant::now() + PATIENCE;
            while self.look() != rest {
                assert!(
                    Instant::now() < deadline,
                    "threads and descriptors should be {rest:?}, but are {:?}",
                    self.look()
                );
                thread::sleep(Duration::from_millis(10)); // polling interval
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.disperse();
    }
}

fn start(source: &str, args: &[String]) -> Server {
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    Server::fixture(source, &args)
}

/// Clients in a closed loop.
struct Load {
    stop: Arc<AtomicBool>,
    counts: Arc<Mutex<Vec<(u16, usize)>>>,
    clients: Vec<JoinHandle<()>>,
}

impl Load {
    fn start(address: SocketAddr, clients: usize, pause: Duration, body: &str) -> Self {
        let host = address.to_string();
        let request = ClientRequest::new("POST", "/predict", &host, &[], body.as_bytes()).unwrap();
        let mut load = Load {
            stop: Arc::default(),
            counts: Arc::default(),
            clients: Vec::new(),
        };
        for _ in 0..clients {
            let (stop, counts) = (Arc::clone(&load.stop), Arc::clone(&load.counts));
            let request = request.clone();
            let body = move || {
                let mut client = Client::new(address);
                while !stop.load(Ordering::Relaxed) {
                    let deadline = Instant::now() + CLIENT_TIMEOUT;
                    // 0 stands for no answer.
                    let answer = client.send(&request, deadline);
                    let status = answer.map_or(0, |response| response.status);
                    count(&counts, status);
                    // A refused client waits before it retries, but less than `Retry-After` says.
                    let more = u64::from(status != 200) * 10;
                    thread::sleep(pause + Duration::from_millis(more));
                }
            };
            let named = thread::Builder::new().name("client".to_owned());
            load.clients.push(named.spawn(body).unwrap());
        }
        load
    }

    fn count(&self, status: u16) -> usize {
        let counts = self.counts.lock().unwrap();
        let found = counts.iter().find(|(other, _)| *other == status);
        found.map_or(0, |(_, count)| *count)
    }
}

fn count(counts: &Mutex<Vec<(u16, usize)>>, status: u16) {
    let mut counts = counts.lock().unwrap();
    match counts.iter_mut().find(|(other, _)| *other == status) {
        Some((_, count)) => *count += 1,
        None => counts.push((status, 1)),
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            let _ = client.join();
        }
    }
}
