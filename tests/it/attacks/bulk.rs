//! Clients that send too much: endless requests, huge JSON, a thousand uploads.

use std::io::{self, Write};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use lanekeeper::platform::client::{Client, ClientError, ClientRequest};
use lanekeeper::platform::clock;

use super::traffic::Traffic;
use super::{Scene, affordable, crowd};

const CLIENTS: usize = 16;

/// Each of these occupies a worker; more would only wait.
const JSON_CLIENTS: usize = 4;

/// The default of `--max-body`.
const BODY_BYTES_MAX: usize = 16 << 20;

/// The bytes of all large bodies, shared by all clients.
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

/// Whatever follows the body's end is read as the next request.
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

/// As many uploads at once as the connection limit permits, each of the maximum size.
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

/// Tensors whose shapes claim more than there is, and such that are as large as may be.
pub(super) fn oversized_tensors(scene: &Scene) -> io::Result<()> {
    const PATH: &str = "/v2/models/MODEL/infer";
    let input = |name: &str, shape: &str, rest: &str| {
        format!("{{\"name\":\"{name}\",\"datatype\":\"FP64\",\"shape\":{shape},{rest}}}")
    };
    let sized = |shape: &str, bytes: u64| {
        input(
            "x",
            shape,
            &format!("\"parameters\":{{\"binary_data_size\":{bytes}}}"),
        )
    };
    let body = |inputs: &str| format!("{{\"inputs\":[{inputs}]}}");
    let many: Vec<String> = (0..60_000)
        .map(|index| input(&format!("x{index}"), "[1]", "\"data\":[1]"))
        .collect();
    let full = (BODY_BYTES_MAX - 256) / 32 * 32;
    let with_binary = |document: String, bytes: usize| {
        let length = document.len();
        let mut body = document.into_bytes();
        body.resize(length + bytes, 0);
        (Some(length), body)
    };
    let bodies = [
        (
            None,
            body(&input(
                "x",
                "[18446744073709551615,18446744073709551615]",
                "\"data\":[1]",
            ))
            .into_bytes(),
        ),
        (
            None,
            body(&input("x", "[4000000000,4]", "\"data\":[1,2,3,4]")).into_bytes(),
        ),
        (
            None,
            body(&input(
                "x",
                "[1,4]",
                &format!("\"data\":{}", "[".repeat(1_000_000)),
            ))
            .into_bytes(),
        ),
        (
            None,
            body(&input(
                "x",
                "[3000000,4]",
                &format!("\"data\":[{}1]", "1,".repeat(7_000_000)),
            ))
            .into_bytes(),
        ),
        (None, body(&many.join(",")).into_bytes()),
        with_binary(body(&sized("[4000000000,4]", 128_000_000_000)), 64),
        with_binary(
            body(&sized(&format!("[{},4]", full / 32), full as u64)),
            full,
        ),
    ];
    let requests = bodies.iter().map(|(length, body)| {
        let length = length.map(|length| length.to_string());
        let fields = length
            .iter()
            .map(|length| ("Inference-Header-Content-Length", length.as_str()));
        let fields: Vec<(&str, &str)> = fields.collect();
        ClientRequest::new("POST", &named(scene, PATH), "a", &fields, body)
    });
    in_turn(scene, requests.collect())
}

/// Small bodies that unpack to gigabytes, or to as much as may be.
pub(super) fn gzip_bombs(scene: &Scene) -> io::Result<()> {
    // A stream may have many members, so a large one costs no time to make.
    let packed = |content: &[u8], members: usize| -> io::Result<Vec<u8>> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
        gzip.write_all(content)?;
        Ok(gzip.finish()?.repeat(members))
    };
    let spaces = vec![b' '; 1 << 20];
    let bodies = [
        packed(&spaces, 512)?,
        packed(&spaces, 15)?,
        packed(&b"[[0],".repeat(10_000), 300)?,
        // Members of nothing.
        packed(b"", 100_000)?,
    ];
    let fields = [("Content-Encoding", "gzip")];
    let paths = [
        named(scene, "/v2/models/MODEL/infer"),
        "/invocations".to_owned(),
    ];
    let requests = bodies.iter().flat_map(|body| {
        let of = |path: &String| ClientRequest::new("POST", path, "a", &fields, body);
        paths.iter().map(of).collect::<Vec<_>>()
    });
    in_turn(scene, requests.collect())
}

/// Tables by columns and with headers that are larger than any model's.
pub(super) fn wide_tables(scene: &Scene) -> io::Result<()> {
    let json = [("Content-Type", "application/json")];
    let csv = [("Content-Type", "text/csv")];
    let names: Vec<String> = (0..500_000).map(|index| format!("\"c{index}\"")).collect();
    let columns: Vec<String> = names.iter().map(|name| format!("{name}:[1]")).collect();
    let split = format!(
        "{{\"dataframe_split\":{{\"columns\":[{}],\"data\":[[1]]}}}}",
        names.join(",")
    );
    let requests = [
        ClientRequest::new("POST", "/invocations", "a", &json, split.as_bytes()),
        ClientRequest::new(
            "POST",
            "/invocations",
            "a",
            &json,
            format!("{{\"inputs\":{{{}}}}}", columns.join(",")).as_bytes(),
        ),
        ClientRequest::new(
            "POST",
            "/invocations",
            "a",
            &json,
            format!("{{\"instances\":{}", "{\"a\":".repeat(1_000_000)).as_bytes(),
        ),
        ClientRequest::new(
            "POST",
            "/invocations",
            "a",
            &csv,
            ",".repeat(8_000_000).as_bytes(),
        ),
        ClientRequest::new(
            "POST",
            "/invocations",
            "a",
            &csv,
            "1\n".repeat(4_000_000).as_bytes(),
        ),
    ];
    in_turn(scene, requests.into_iter().collect())
}

/// A path with the name of the server's model.
fn named(scene: &Scene, path: &str) -> String {
    let deadline = clock::instant() + Duration::from_secs(5);
    let mut client = Client::new(scene.main);
    let names = ClientRequest::new("GET", "/v2/models", "a", &[], b"")
        .ok()
        .and_then(|request| {
            let answer = client.send(&request, deadline).ok()?;
            serde_json::from_slice::<serde_json::Value>(answer.body).ok()
        });
    let name = names.as_ref().and_then(|names| names["models"][0].as_str());
    path.replace("MODEL", name.unwrap_or("iris"))
}

/// Asks for predictions with these bodies in turn, in a closed loop.
fn bodies(scene: &Scene, bodies: &[String]) -> io::Result<()> {
    let requests = bodies
        .iter()
        .map(|body| ClientRequest::new("POST", "/predict", "a", &[], body.as_bytes()));
    in_turn(scene, requests.collect())
}

/// Sends these requests in turn, in a closed loop.
fn in_turn(scene: &Scene, requests: Result<Vec<ClientRequest>, ClientError>) -> io::Result<()> {
    let requests = requests.map_err(io::Error::other)?;
    crowd(JSON_CLIENTS, |first| {
        let mut client = Client::new(scene.main);
        for request in requests.iter().cycle().skip(first) {
            if !scene.goes_on() {
                return;
            }
            // Ignore the result; the end of the scene is the deadline.
            let failed = client.send(request, scene.ends).is_err();
            if failed && clock::instant() < scene.ends {
                lanekeeper::platform::sys::sleep(super::flood::BACK_OFF);
            }
        }
    })
}
