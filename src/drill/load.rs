//! Load: closed loops, open loops, probes like kubelet's, and the measurement of capacity.
//!
//! Every run is bounded by a number of connections and a duration, and ends at the latest one
//! client timeout after its duration. Its threads share only the number of the next arrival.
//! Latency counts from the moment when a request *should* have been sent, so that a server (or a
//! generator) that stalls does not hide its own delays.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::drill::measure::Tally;
use crate::platform::client::{Client, ClientError, ClientRequest, Response};
use crate::platform::clock;
use crate::platform::sys;

/// Maximum number of connections, and so threads, of one run.
pub const CONNECTIONS_MAX: usize = 2_048;

/// Minimum duration of the measurement by [`capacity`].
pub const CAPACITY_DURATION_MIN: Duration = Duration::from_secs(5);

/// A load thread holds one connection and a read buffer of 4 KiB.
const STACK_BYTES: usize = 128 << 10;

/// Time from creating a run's threads to its first request, so that all have started.
pub(super) const HEAD_START: Duration = Duration::from_millis(50);

/// Pause after a failed request, so that a dead server is not asked in a busy loop.
const BACK_OFF: Duration = Duration::from_millis(10);

/// What is requested, from whom, and how long a client waits.
#[derive(Debug, Clone)]
pub struct Target {
    /// The server's address.
    pub address: SocketAddr,
    /// The request, the same each time.
    pub request: ClientRequest,
    /// A client's patience, from the moment when its request should be sent.
    pub timeout: Duration,
}

impl Target {
    /// `GET path`, kept alive.
    ///
    /// # Errors
    ///
    /// As [`ClientRequest::new`].
    pub fn get(address: SocketAddr, path: &str, timeout: Duration) -> Result<Self, ClientError> {
        let request = ClientRequest::new("GET", path, &address.to_string(), &[], b"")?;
        Ok(Target {
            address,
            request,
            timeout,
        })
    }

    /// `POST path` with a JSON body, kept alive.
    ///
    /// # Errors
    ///
    /// As [`ClientRequest::new`].
    pub fn post_json(
        address: SocketAddr,
        path: &str,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let fields = [("Content-Type", "application/json")];
        Target::post(address, path, &fields, body, timeout)
    }

    /// `POST path` with these header fields, kept alive.
    ///
    /// # Errors
    ///
    /// As [`ClientRequest::new`].
    pub fn post(
        address: SocketAddr,
        path: &str,
        fields: &[(&str, &str)],
        body: &[u8],
        timeout: Duration,
    ) -> Result<Self, ClientError> {
        let request = ClientRequest::new("POST", path, &address.to_string(), fields, body)?;
        Ok(Target {
            address,
            request,
            timeout,
        })
    }

    /// `GET path` as kubelet sends it: one second of patience, and a new connection each time.
    ///
    /// # Errors
    ///
    /// As [`ClientRequest::new`].
    pub fn probe(address: SocketAddr, path: &str) -> Result<Self, ClientError> {
        let fields = [
            ("User-Agent", "kube-probe/1.34"),
            ("Accept", "*/*"),
            ("Connection", "close"),
        ];
        let request = ClientRequest::new("GET", path, &address.to_string(), &fields, b"")?;
        Ok(Target {
            address,
            request,
            timeout: Duration::from_secs(1),
        })
    }
}

/// Clients that each send their next request after their answer.
#[derive(Debug, Clone)]
pub struct ClosedLoop {
    /// What they ask.
    pub target: Target,
    /// Clients, each with a keep-alive connection and a thread of its own.
    pub connections: usize,
    /// Load before the window opens; nothing in it counts.
    pub warm_up: Duration,
    /// How long the window is open. The load ends with it.
    pub duration: Duration,
}

impl ClosedLoop {
    /// Runs it; [`Tally::per_second`] is then its throughput. Only what ends in the window counts.
    ///
    /// # Errors
    ///
    /// The system refuses threads, or `connections` is over [`CONNECTIONS_MAX`].
    pub fn run(&self) -> io::Result<Tally> {
        let opens = clock::instant() + HEAD_START + self.warm_up;
        let window = Window {
            opens,
            closes: opens + self.duration,
        };
        merged(self.connections, || {
            let mut tally = Tally {
                window: self.duration,
                ..Tally::default()
            };
            let mut client = Client::new(self.target.address);
            let mut sent = clock::instant();
            while sent < window.closes {
                let result = client.send(&self.target.request, sent + self.target.timeout);
                let arrived = clock::instant();
                let failed = result.is_err();
                if window.has(arrived) {
                    note(
                        &mut tally,
                        result,
                        arrived.saturating_duration_since(sent),
                        true,
                    );
                }
                if failed {
                    sys::sleep(BACK_OFF);
                }
                sent = clock::instant();
            }
            tally
        })
    }
}

/// Clients that arrive on a schedule, whatever happens to earlier ones.
#[derive(Debug, Clone)]
pub struct OpenLoop {
    /// What they ask; `timeout` counts from the arrival.
    pub target: Target,
    /// Arrivals a second, evenly spaced.
    pub rate: f64,
    /// How long they arrive. The window opens one timeout after the first arrival and closes with
    /// this.
    pub duration: Duration,
    /// Connections, each with its own thread. An arrival that finds none free waits for one, and
    /// its latency counts from its arrival all the same. With [`OpenLoop::connections_enough`] that
    /// never happens.
    pub connections: usize,
}

impl OpenLoop {
    /// As many connections as can wait at once, because no client waits beyond its timeout.
    pub fn connections_enough(rate: f64, timeout: Duration) -> usize {
        ((rate * timeout.as_secs_f64()).ceil() as usize + 16).min(CONNECTIONS_MAX)
    }

    /// Runs it; [`Tally::per_second`] is then its goodput. Every arrival is tallied, those in the
    /// window by the time of their 200.
    ///
    /// # Errors
    ///
    /// The system refuses threads, or `connections` is over [`CONNECTIONS_MAX`].
    pub fn run(&self) -> io::Result<Tally> {
        self.run_with(None)
    }

    /// Runs it as [`OpenLoop::run`] does, but leaves out each arrival for which no connection was
    /// free within `lateness_max` ([`Tally::unsent`]), so that the generator's limits do not count
    /// against the server.
    ///
    /// # Errors
    ///
    /// As [`OpenLoop::run`].
    pub fn run_sparing(&self, lateness_max: Duration) -> io::Result<Tally> {
        self.run_with(Some(lateness_max))
    }

    fn run_with(&self, lateness_max: Option<Duration>) -> io::Result<Tally> {
        if !(self.rate > 0.0 && self.rate <= 1e6) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!(
                    "the rate must be over 0 and at most 1000000 arrivals a second, but is {}",
                    self.rate
                ),
            ));
        }
        let began = clock::instant() + HEAD_START;
        let window = Window {
            opens: began + self.target.timeout,
            closes: began + self.duration,
        };
        let arrivals = (self.rate * self.duration.as_secs_f64()) as u64;
        let next = AtomicU64::new(0);
        merged(self.connections, || {
            let mut tally = Tally {
                window: self.duration.saturating_sub(self.target.timeout),
                ..Tally::default()
            };
            let mut client = Client::new(self.target.address);
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= arrivals {
                    return tally;
                }
                let due = began + Duration::from_secs_f64(index as f64 / self.rate);
                // Nothing will happen before then that this thread would have to wait for.
                sys::sleep(due.saturating_duration_since(clock::instant()));
                if let Some(most) = lateness_max
                    && clock::instant().saturating_duration_since(due) > most
                {
                    tally.unsent += 1;
                    continue;
                }
                let result = client.send(&self.target.request, due + self.target.timeout);
                let arrived = clock::instant();
                note(
                    &mut tally,
                    result,
                    arrived.saturating_duration_since(due),
                    window.has(arrived),
                );
            }
        })
    }
}

/// One client that probes at an interval, on a new connection each time, as kubelet does: a probe
/// that takes longer than the interval skips the ticks it missed.
#[derive(Debug, Clone)]
pub struct Prober {
    /// What it asks; see [`Target::probe`].
    pub target: Target,
    /// From one tick to the next, not zero.
    pub interval: Duration,
    /// For how long it probes.
    pub duration: Duration,
}

impl Prober {
    /// Probes on the calling thread. Latency includes connecting, and counts from when this client
    /// began: a late wake-up is the generator's fault, not the server's.
    pub fn run(&self) -> Tally {
        let interval = self.interval.max(Duration::from_micros(100));
        let began = clock::instant();
        let ends = began + self.duration;
        let mut tally = Tally {
            window: self.duration,
            ..Tally::default()
        };
        let mut tick = began;
        while tick < ends {
            // Nothing will happen before then that this thread would have to wait for.
            sys::sleep(tick.saturating_duration_since(clock::instant()));
            let sent = clock::instant();
            let mut client = Client::new(self.target.address);
            let result = client.send(&self.target.request, sent + self.target.timeout);
            let arrived = clock::instant();
            note(
                &mut tally,
                result,
                arrived.saturating_duration_since(sent),
                true,
            );
            tick += interval;
            while tick < arrived {
                tick += interval;
            }
        }
        tally
    }
}

/// Measures completions per second of a closed loop with twice as many connections as prediction
/// workers, over ten service times or [`CAPACITY_DURATION_MIN`], whichever is longer.
///
/// # Errors
///
/// The request that measures the service time gets no 200, or as [`ClosedLoop::run`].
pub fn capacity(target: &Target, workers: usize) -> io::Result<f64> {
    let sent = clock::instant();
    let status = Client::new(target.address)
        .send(&target.request, sent + target.timeout)
        .map(|response| response.status)
        .map_err(|error| io::Error::other(format!("cannot measure capacity: {error}")))?;
    if status != 200 {
        return Err(io::Error::other(format!(
            "cannot measure capacity: an idle server must answer 200, but answered {status}"
        )));
    }
    let service_time = clock::instant().saturating_duration_since(sent);
    let closed = ClosedLoop {
        target: target.clone(),
        connections: 2 * workers,
        // By then every worker is on a prediction that began under load.
        warm_up: service_time,
        duration: (service_time * 10).max(CAPACITY_DURATION_MIN),
    };
    closed.run().map(|tally| tally.per_second())
}

/// The period in which arriving answers count.
#[derive(Debug, Clone, Copy)]
struct Window {
    opens: Instant,
    closes: Instant,
}

impl Window {
    fn has(&self, arrived: Instant) -> bool {
        self.opens <= arrived && arrived < self.closes
    }
}

fn note(
    tally: &mut Tally,
    result: Result<Response<'_>, ClientError>,
    latency: Duration,
    in_window: bool,
) {
    match result {
        Ok(response) => {
            *tally.statuses.entry(response.status).or_default() += 1;
            if response.status == 200 {
                tally.latencies.record(latency);
                tally.in_window += u64::from(in_window);
            } else {
                tally.note_code(response.status, response.body);
            }
        }
        Err(error) => *tally.failures.entry(error.reason()).or_default() += 1,
    }
}

/// Runs `body` on `size` threads at once and merges their tallies.
fn merged(size: usize, body: impl Fn() -> Tally + Sync) -> io::Result<Tally> {
    let mut sum = Tally::default();
    for tally in crowd(size, |_| body())? {
        sum.merge(&tally);
    }
    Ok(sum)
}

/// Runs `body` on `size` numbered threads at once; returns their results in order.
pub(super) fn crowd<T: Send>(size: usize, body: impl Fn(usize) -> T + Sync) -> io::Result<Vec<T>> {
    if size == 0 || size > CONNECTIONS_MAX {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "connections must be 1 to {CONNECTIONS_MAX}, but are {size}; each has a thread of its own"
            ),
        ));
    }
    let body = &body;
    thread::scope(|scope| {
        let mut members = Vec::with_capacity(size);
        for number in 0..size {
            // If the system refuses more threads, the running ones end with their run.
            let builder = thread::Builder::new()
                .name("load".to_owned())
                .stack_size(STACK_BYTES);
            members.push(builder.spawn_scoped(scope, move || body(number))?);
        }
        members
            .into_iter()
            .map(|member| {
                member
                    .join()
                    .map_err(|_| io::Error::other("a load thread panicked"))
            })
            .collect()
    })
}

#[cfg(test)]
mod tests;
