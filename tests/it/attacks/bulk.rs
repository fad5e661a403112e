//! Clients that send too much: requests without an end, JSON without measure, uploads by the thousand.

use std::io;

use lanekeeper::platform::client::{Client, ClientError, ClientRequest};
use lanekeeper::platform::clock;

use super::traffic::Traffic;
use super::{Scene, affordable, crowd};

const CLIENTS: usize = 16;

/// Each of these costs a worker as long as it lasts; more would only wait.
const JSON_CLIENTS: usize = 4;

/// `--max-body`, as it is by default.
const BODY_BYTES_MAX: usize = 16 << 20;

/// What all bulk consists of: read by every client, owned by none.
static FILLER: [u8; 64 << 10] = [b'x'; 64 << 10];

pub(super) fn endless_request_line(scene: &Scene) -> io::Result<()> {
    endless(scene, b"GET /", &FILLER)
}

pub(super) fn endless_field_line(scene: &Scene) -> io::Result<()> {
    endless(scene, b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: ", &FILLER)
}

pub(super) fn endless_fields(scene: &Scene) -> io::Result<()> {
    endless(
        scene,
        b"GET / HTTP/1.1\r\nHost: a\r\n",
        &b"A: b\r\n".repeat(1_000),
    )
}

pub(super) fn endless_declared_body(scene: &Scene) -> io::Result<()> {
    let head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9223372036854775807\r\n\r\n";
    endless(scene, head, &FILLER)
}

/// What follows the body's end would be the next request.
pub(super) fn endless_allowed_body(scene: &Scene) -> io::Result<()> {
    let head = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
    endless(scene, head, &FILLER)
}

pub(super) fn endless_chunks(scene: &Scene) -> io::Result<()> {
    let mut chunk = b"1000\r\n".to_vec();
    chunk.extend_from_slice(&FILLER[..0x1000]);
    chunk.extend_from_slice(b"\r\n");
    endless(scene, CHUNKED, &chunk)
}

pub(super) fn endless_chunk_extension(scene: &Scene) -> io::Result<()> {
    endless(scene, &[CHUNKED, b"1;x="].concat(), &FILLER)
}

pub(super) fn endless_trailers(scene: &Scene) -> io::Result<()> {
    endless(
        scene,
        &[CHUNKED, b"0\r\n"].concat(),
        &b"T: v\r\n".repeat(1_000),
    )
}

const CHUNKED: &[u8] = b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";

fn endless(scene: &Scene, opening: &[u8], refrain: &[u8]) -> io::Result<()> {
    let openings = [opening.to_vec()];
    let traffic = Traffic {
        refrain,
        refrain_bytes: u64::MAX,
        ..Traffic::of(CLIENTS, &openings)
    };
    traffic.run(scene, scene.main)
}

/// Uploads as many as fit under the cap, each as large as is allowed, all at once.
pub(super) fn uploads(scene: &Scene) -> io::Result<()> {
    let openings =
        [
            format!(
                "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {BODY_BYTES_MAX}\r\n\r\n"
            )
            .into_bytes(),
        ];
    let traffic = Traffic {
        refrain: &FILLER,
        refrain_bytes: BODY_BYTES_MAX as u64,
        ..Traffic::of(affordable(1_000), &openings)
    };
    traffic.run(scene, scene.main)
}

pub(super) fn deep_json(scene: &Scene) -> io::Result<()> {
    bodies(scene, &["[".repeat(1_000_000)])
}

pub(super) fn wide_json(scene: &Scene) -> io::Result<()> {
    let row = "0,".repeat(1_000_000);
    bodies(scene, &[format!("{{\"instances\": [[{row}0]]}}")])
}

pub(super) fn many_rows(scene: &Scene) -> io::Result<()> {
    let rows = "[0],".repeat((BODY_BYTES_MAX - 64) / 4);
    bodies(scene, &[format!("{{\"instances\": [{rows}[0]]}}")])
}

pub(super) fn long_string(scene: &Scene) -> io::Result<()> {
    let string = "s".repeat(15 << 20);
    let escapes = "\\u0000".repeat((15 << 20) / 6);
    bodies(
        scene,
        &[
            format!("{{\"instances\": \"{string}\"}}"),
            format!("{{\"instances\": [{{\"{escapes}\": 1}}]}}"),
        ],
    )
}

pub(super) fn wrong_types(scene: &Scene) -> io::Result<()> {
    let nulls = "null,".repeat(1_000_000);
    let objects = "{\"a\":{\"b\":[{}]}},".repeat(200_000);
    let digits = "9".repeat(1_000_000);
    let keys: String = (0..100_000).map(|key| format!("\"k{key}\": 0,")).collect();
    bodies(
        scene,
        &[
            "7".to_owned(),
            "\"instances\"".to_owned(),
            "{\"instances\": {\"instances\": []}}".to_owned(),
            "{\"instances\": [[true, false, \"5.1\", {}]]}".to_owned(),
            format!("{{\"instances\": [{nulls}null]}}"),
            format!("{{\"instances\": [{objects}0]}}"),
            format!("{{\"instances\": [[{digits}, {digits}, 0.{digits}, 1e{digits}]]}}"),
            format!("{{\"instances\": [{{{keys}\"k\": 0}}]}}"),
        ],
    )
}

/// Asks for predictions with these bodies in turn, in a closed loop.
fn bodies(scene: &Scene, bodies: &[String]) -> io::Result<()> {
    let requests = bodies
        .iter()
        .map(|body| ClientRequest::new("POST", "/predict", "a", &[], body.as_bytes()))
        .collect::<Result<Vec<_>, ClientError>>()
        .map_err(io::Error::other)?;
    crowd(JSON_CLIENTS, |first| {
        let mut client = Client::new(scene.main);
        for request in requests.iter().cycle().skip(first) {
            if !scene.goes_on() {
                return;
            }
            // Whatever comes of it; the scene's end is the deadline.
            let failed = client.send(request, scene.ends).is_err();
            if failed && clock::instant() < scene.ends {
                lanekeeper::platform::sys::sleep(super::flood::BACK_OFF);
            }
        }
    })
}
