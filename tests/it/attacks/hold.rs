//! Clients that hold resources: connections, threads, unread answers.

use std::io;

use super::traffic::{Ending, Tempo, Traffic};
use super::{PREDICTION, Scene, affordable, predict_request};

/// The minimum of `SO_RCVBUF`, which the kernel doubles.
const TINY_BUFFER_BYTES: usize = 1152;

/// Requests that a pipelining client sends before it would read the first answer.
const PIPELINED: u64 = 10_000;

const DRIPPED_HEAD: &[u8] = b"GET /livez HTTP/1.1\r\nHost: a\r\nX-Slow: ";

const LARGE_ROWS: usize = 50_000;

pub(super) fn idle_300(scene: &Scene) -> io::Result<()> {
    idle(scene, 300)
}

pub(super) fn idle_2000(scene: &Scene) -> io::Result<()> {
    idle(scene, 2_000)
}

pub(super) fn idle_12000(scene: &Scene) -> io::Result<()> {
    idle(scene, 12_000)
}

/// A client whose connection is closed does not connect again.
fn idle(scene: &Scene, clients: usize) -> io::Result<()> {
    let traffic = Traffic {
        ending: Ending::Leave,
        ..Traffic::of(affordable(clients), &[])
    };
    traffic.run(scene, scene.main)
}

pub(super) fn dripped_heads_300(scene: &Scene) -> io::Result<()> {
    dripped_heads(scene, 300)
}

pub(super) fn dripped_heads_1000(scene: &Scene) -> io::Result<()> {
    dripped_heads(scene, 1_000)
}

pub(super) fn dripped_heads_2000(scene: &Scene) -> io::Result<()> {
    dripped_heads(scene, 2_000)
}

fn dripped_heads(scene: &Scene, clients: usize) -> io::Result<()> {
    let openings = [DRIPPED_HEAD.to_vec()];
    drip(clients, &openings).run(scene, scene.main)
}

pub(super) fn dripped_heads_on_probe_listener(scene: &Scene) -> io::Result<()> {
    let openings = [DRIPPED_HEAD.to_vec()];
    drip(200, &openings).run(scene, scene.probe)
}

pub(super) fn dripped_bodies(scene: &Scene) -> io::Result<()> {
    let head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 4096\r\n\r\n";
    let openings = [head.to_vec()];
    drip(200, &openings).run(scene, scene.main)
}

fn drip(clients: usize, openings: &[Vec<u8>]) -> Traffic<'_> {
    Traffic {
        refrain: b" ",
        refrain_bytes: 4095,
        sending: Tempo::Slow,
        ..Traffic::of(affordable(clients), openings)
    }
}

pub(super) fn expect_and_silence(scene: &Scene) -> io::Result<()> {
    let openings = [
        b"POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4096\r\n\r\n"
            .to_vec(),
    ];
    Traffic::of(200, &openings).run(scene, scene.main)
}

/// After a 400, the server waits for the client to close. These neither close nor read.
pub(super) fn refused_that_stay(scene: &Scene) -> io::Result<()> {
    let openings = [b"no request\r\n\r\n".to_vec()];
    let traffic = Traffic {
        reading: Tempo::Never,
        refrain: b"x",
        refrain_bytes: u64::MAX,
        sending: Tempo::Slow,
        ..Traffic::of(affordable(2_000), &openings)
    };
    traffic.run(scene, scene.main)
}

pub(super) fn unread_answers(scene: &Scene) -> io::Result<()> {
    large_answers(scene, Tempo::Never)
}

/// A byte a second is slow progress.
pub(super) fn sipped_answers(scene: &Scene) -> io::Result<()> {
    large_answers(scene, Tempo::Slow)
}

fn large_answers(scene: &Scene, reading: Tempo) -> io::Result<()> {
    let rows = "[5.1,3.5,1.4,0.2],".repeat(LARGE_ROWS);
    let body = format!("{{\"instances\": [{}]}}", rows.trim_end_matches(','));
    let openings = [predict_request(&body, "")];
    let traffic = Traffic {
        reading,
        receive_buffer_bytes: Some(TINY_BUFFER_BYTES),
        ..Traffic::of(100, &openings)
    };
    traffic.run(scene, scene.main)
}

pub(super) fn unread_livez(scene: &Scene) -> io::Result<()> {
    pipelined(scene, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
}

pub(super) fn unread_predictions(scene: &Scene) -> io::Result<()> {
    pipelined(scene, &predict_request(PREDICTION, ""))
}

fn pipelined(scene: &Scene, request: &[u8]) -> io::Result<()> {
    let traffic = Traffic {
        refrain: request,
        refrain_bytes: request.len() as u64 * PIPELINED,
        reading: Tempo::Never,
        receive_buffer_bytes: Some(TINY_BUFFER_BYTES),
        ..Traffic::of(32, &[])
    };
    traffic.run(scene, scene.main)
}
