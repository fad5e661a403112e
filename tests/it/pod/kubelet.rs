//! Probes a container as kubelet does (pkg/probe/http and pkg/kubelet/prober): with a fresh connection for
//! each probe, its user agent and fields, and SO_LINGER; it reads 10 KiB of the body; statuses from 200 to
//! 399 pass. Each probe has a worker; liveness and readiness are probed once the container has started.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The most of a body that kubelet reads (maxRespBodyLength).
const BODY_BYTES: u64 = 10 << 10;

/// The container's state as kubelet sees it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Seen {
    pub started: bool,
    pub ready: bool,
    pub killed: bool,
}

#[derive(Default)]
struct Shared {
    seen: Mutex<Seen>,
    /// Probe, whether it passed.
    results: Mutex<Vec<(&'static str, bool)>>,
    over: AtomicBool,
}

/// A kubelet with one container; it stops when dropped.
pub struct Kubelet {
    shared: Arc<Shared>,
    container: Value,
}

/// Probes once, as kubelet does; returns whether the probe passed.
pub fn probe(address: SocketAddr, path: &str, timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    let left = || {
        deadline
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1))
    };
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, left())?;
        socket2::SockRef::from(&stream).set_linger(Some(Duration::from_secs(1)))?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: kube-probe/1.34\r\nAccept: */*\r\nConnection: close\r\n\r\n"
        );
        stream.set_write_timeout(Some(left()))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        // Read the head and as much of the body as kubelet does, then close.
        while (answer.len() as u64) < BODY_BYTES {
            stream.set_read_timeout(Some(left()))?;
            let count = stream.read(&mut piece)?;
            if count == 0 {
                break;
            }
            answer.extend_from_slice(&piece[..count]);
        }
        let head = String::from_utf8_lossy(&answer).into_owned();
        let status: Option<u16> = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        Ok(status.is_some_and(|status| (200..400).contains(&status)))
    };
    asked().unwrap_or(false)
}

impl Kubelet {
    pub fn new(address: SocketAddr, container: &Value) -> Self {
        let kubelet = Kubelet {
            shared: Arc::default(),
            container: container.clone(),
        };
        for name in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let (period, timeout, threshold) = kubelet.numbers(name);
            let path = kubelet.container[name]["httpGet"]["path"]
                .as_str()
                .unwrap()
                .to_owned();
            let shared = Arc::clone(&kubelet.shared);
            thread::spawn(move || {
                let mut failures = 0;
                while !shared.over.load(Ordering::Relaxed) {
                    let seen = *shared.seen.lock().unwrap();
                    // Startup is probed until it passes, the others from then on.
                    if seen.started != (name == "startupProbe") && !seen.killed
                        || name == "readinessProbe" && seen.started
                    {
                        let passed = probe(address, &path, timeout);
                        shared.results.lock().unwrap().push((name, passed));
                        failures = if passed { 0 } else { failures + 1 };
                        shared.conclude(name, passed, failures >= threshold);
                    }
                    thread::sleep(period); // the worker's ticker
                }
            });
        }
        kubelet
    }

    /// Period, timeout and failure threshold of a probe in the manifest.
    pub fn numbers(&self, name: &str) -> (Duration, Duration, u32) {
        let number = |field: &str| self.container[name][field].as_u64().unwrap();
        (
            Duration::from_secs(number("periodSeconds")),
            Duration::from_secs(number("timeoutSeconds")),
            u32::try_from(number("failureThreshold")).unwrap(),
        )
    }

    pub fn seen(&self) -> Seen {
        *self.shared.seen.lock().unwrap()
    }

    /// How often a probe was asked.
    pub fn asked(&self, name: &str) -> usize {
        let results = self.shared.results.lock().unwrap();
        results.iter().filter(|(probe, _)| *probe == name).count()
    }

    /// How often it failed.
    pub fn failed(&self, name: &str) -> usize {
        let results = self.shared.results.lock().unwrap();
        results
            .iter()
            .filter(|result| **result == (name, false))
            .count()
    }
}

impl Shared {
    fn conclude(&self, name: &str, passed: bool, failed: bool) {
        let mut seen = self.seen.lock().unwrap();
        match name {
            "startupProbe" if passed => seen.started = true,
            "readinessProbe" if passed => seen.ready = true,
            "readinessProbe" if failed => seen.ready = false,
            "startupProbe" | "livenessProbe" if failed => seen.killed = true,
            _ => {}
        }
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}
