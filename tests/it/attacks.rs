//! What hostile and broken clients do to a server, each bounded in number and time.
//!
//! [`ATTACKS`] is the table that the tests and the bench go through. An attack runs on its own threads,
//! at the lowest priority so that it does not slow the measuring client. It connects only to the two
//! addresses of its [`Scene`], and ends when the scene does. [`observe`] runs one attack beside probes
//! and honest clients, and returns what those saw.
#![allow(dead_code, unused_imports)] // the tests use one part, the bench another

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lanekeeper::platform::clock;
use lanekeeper::platform::sys;

// The bench includes this file by its path, so these need paths too.
#[path = "attacks/bulk.rs"]
mod bulk;
#[path = "attacks/flood.rs"]
mod flood;
#[path = "attacks/hold.rs"]
mod hold;
#[path = "attacks/honest.rs"]
mod honest;
#[path = "attacks/observe.rs"]
mod observe;
#[path = "attacks/traffic.rs"]
mod traffic;
#[path = "attacks/usage.rs"]
mod usage;

pub(crate) use flood::MALFORMED;
pub(crate) use honest::{Honest, HonestOutcomes};
pub(crate) use observe::{Plan, Seen, Subject, observe};
pub(crate) use usage::Usage;

/// The body of a prediction, for the embedded model and for those of the benches.
pub(crate) const PREDICTION: &str = r#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;

/// Stack of an attack's thread: a few frames and a read buffer.
const STACK_BYTES: usize = 128 << 10;

/// The lowest priority: about a seventieth of a core beside a busy thread of normal priority.
const NICE: i32 = 19;

/// File descriptors of this process that are not for the attack's connections.
const DESCRIPTORS_KEPT: usize = 512;

/// One attack.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attack {
    /// Its name in tables and failures.
    pub(crate) name: &'static str,
    /// Whether its connections stay below `--max-connections`. If so, no probe on the main listener
    /// may fail either.
    pub(crate) fits_cap: bool,
    /// Whether it occupies prediction workers, so that honest predictions may be refused.
    pub(crate) fills_lane: bool,
    /// Whether it goes to the probe listener instead of the main one.
    pub(crate) on_probe_listener: bool,
    run: fn(&Scene) -> io::Result<()>,
}

impl Attack {
    /// Runs it on the calling thread and those it starts, until the scene ends.
    ///
    /// # Errors
    /// The system has no threads or sockets for it. Nothing that the server does is an error.
    pub(crate) fn run(&self, scene: &Scene) -> io::Result<()> {
        (self.run)(scene)
    }

    const fn new(name: &'static str, run: fn(&Scene) -> io::Result<()>) -> Self {
        Attack {
            name,
            fits_cap: true,
            fills_lane: false,
            on_probe_listener: false,
            run,
        }
    }

    const fn exceeding_cap(self) -> Self {
        Attack {
            fits_cap: false,
            ..self
        }
    }

    const fn filling_lane(self) -> Self {
        Attack {
            fills_lane: true,
            ..self
        }
    }

    const fn on_probe_listener(self) -> Self {
        Attack {
            on_probe_listener: true,
            ..self
        }
    }
}

/// Every attack there is.
pub(crate) const ATTACKS: &[Attack] = &[
    Attack::new("hold: 2,000 idle", hold::idle_2000).exceeding_cap(),
    Attack::new("hold: 12,000 idle", hold::idle_12000).exceeding_cap(),
    Attack::new("hold: 1,000 dripped heads", hold::dripped_heads_1000),
    Attack::new("hold: 2,000 dripped heads", hold::dripped_heads_2000).exceeding_cap(),
    Attack::new(
        "hold: 200 dripped on probes",
        hold::dripped_heads_on_probe_listener,
    )
    .on_probe_listener(),
    Attack::new("hold: 200 dripped bodies", hold::dripped_bodies),
    Attack::new("hold: 200 expect and silence", hold::expect_and_silence),
    Attack::new("hold: 2,000 refused that stay", hold::refused_that_stay).exceeding_cap(),
    Attack::new("unread: large answers", hold::unread_answers).filling_lane(),
    Attack::new("unread: answers sipped", hold::sipped_answers).filling_lane(),
    Attack::new("unread: pipelined livez", hold::unread_livez),
    Attack::new("unread: pipelined predictions", hold::unread_predictions).filling_lane(),
    Attack::new("endless: request line", bulk::endless_request_line),
    Attack::new("endless: field line", bulk::endless_field_line),
    Attack::new("endless: fields", bulk::endless_fields),
    Attack::new("endless: declared body", bulk::endless_declared_body),
    Attack::new("endless: body past its length", bulk::endless_allowed_body),
    Attack::new("endless: chunks", bulk::endless_chunks),
    Attack::new("endless: chunk extension", bulk::endless_chunk_extension),
    Attack::new("endless: trailers", bulk::endless_trailers),
    Attack::new("flood: malformed", flood::malformed),
    Attack::new("flood: other protocols", flood::other_protocols),
    Attack::new("flood: connect and reset", flood::connect_and_reset).exceeding_cap(),
    Attack::new("flood: livez, 8 clients", flood::livez_8),
    Attack::new("flood: livez, 16 clients", flood::livez_16),
    Attack::new("flood: livez, 128 clients", flood::livez_128),
    Attack::new("flood: livez, 64 on probes", flood::livez_on_probe_listener).on_probe_listener(),
    Attack::new("flood: livez, fresh", flood::fresh_livez),
    Attack::new(
        "flood: livez, fresh on probes",
        flood::fresh_livez_on_probe_listener,
    )
    .on_probe_listener(),
    Attack::new("flood: statusz, 500 clients", flood::statusz),
    Attack::new("flood: heads by bytes", flood::heads_by_bytes),
    Attack::new("flood: refused predictions", flood::refused_predictions),
    Attack::new("flood: abandoned predictions", flood::abandoned_predictions)
        .exceeding_cap()
        .filling_lane(),
    Attack::new("json: deep", bulk::deep_json).filling_lane(),
    Attack::new("json: wide row", bulk::wide_json).filling_lane(),
    Attack::new("json: many rows", bulk::many_rows).filling_lane(),
    Attack::new("json: long string", bulk::long_string).filling_lane(),
    Attack::new("json: wrong types", bulk::wrong_types).filling_lane(),
    Attack::new("v2: oversized tensors", bulk::oversized_tensors).filling_lane(),
    Attack::new("v2: gzip bombs", bulk::gzip_bombs).filling_lane(),
    Attack::new("invocations: wide tables", bulk::wide_tables).filling_lane(),
    Attack::new("upload: 1,000 of 16 MiB", bulk::uploads).filling_lane(),
];

/// For servers with few resources: connections that may be evicted, and connections that may not.
pub(crate) const SMALL: [Attack; 2] = [
    Attack::new("hold: 300 idle", hold::idle_300).exceeding_cap(),
    Attack::new("hold: 300 dripped heads", hold::dripped_heads_300).exceeding_cap(),
];

/// The attacks whose names contain `part`.
pub(crate) fn named(part: &str) -> impl Iterator<Item = &'static Attack> + Clone {
    ATTACKS
        .iter()
        .filter(move |attack| attack.name.contains(part))
}

/// Where an attack goes, and until when.
#[derive(Debug)]
pub(crate) struct Scene {
    /// The main listener.
    pub(crate) main: SocketAddr,
    /// The probe listener.
    pub(crate) probe: SocketAddr,
    /// Ends it early.
    pub(crate) stop: AtomicBool,
    /// Ends it in any case.
    pub(crate) ends: Instant,
}

impl Scene {
    /// Begins a scene.
    pub(crate) fn new(main: SocketAddr, probe: SocketAddr, lasts: Duration) -> Self {
        // Whatever mistake is made elsewhere, no attack leaves this machine.
        assert!(
            main.ip().is_loopback() && probe.ip().is_loopback(),
            "attacks go to the loopback interface only, not to {main} and {probe}"
        );
        Scene {
            main,
            probe,
            stop: AtomicBool::new(false),
            ends: clock::instant() + lasts,
        }
    }

    /// Ends it now.
    pub(crate) fn end(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed) && clock::instant() < self.ends
    }
}

/// Runs `body` with each number below `size` on threads of low priority, and waits for all of them.
fn crowd(size: usize, body: impl Fn(usize) + Sync) -> io::Result<()> {
    let body = &body;
    thread::scope(|scope| {
        for index in 0..size {
            thread::Builder::new()
                .name("attack".to_owned())
                .stack_size(STACK_BYTES)
                .spawn_scoped(scope, move || {
                    // The kernel refuses only if the thread's priority is lower already.
                    let _ = rustix::process::setpriority_process(None, NICE);
                    body(index);
                })?;
        }
        Ok(())
    })
}

/// The number of connections, at most `wanted`, that the descriptor limit permits; prints if it is fewer.
fn affordable(wanted: usize) -> usize {
    let limit = sys::raise_descriptor_limit().unwrap_or(u64::MAX);
    let room = usize::try_from(limit)
        .unwrap_or(usize::MAX)
        .saturating_sub(DESCRIPTORS_KEPT);
    if room < wanted {
        eprintln!(
            "the descriptor limit of {limit} leaves room for {room} connections, not {wanted}"
        );
    }
    wanted.min(room)
}

/// A request for a prediction.
fn predict_request(body: &str, fields: &str) -> Vec<u8> {
    format!(
        "POST /predict HTTP/1.1\r\nHost: a\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
