//! What real clients send, byte for byte, each with an answer that the client accepts.
//!
//! The clients: tritonclient 2.73, KServe 0.21, MLServer 1.7's codecs, mlflow-skinny 3.17,
//! sagemaker 2.257, requests, urllib and perf_analyzer. Answers are compared by what they mean: texts of
//! errors, ids of requests, versions and times are each server's own.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

use serde_json::Value;

use crate::support::{Connection, Server};

/// What is each server's own.
const OWN: [&str; 10] = [
    "execution_count",
    "inference_count",
    "code",
    "error",
    "message",
    "request_id",
    "version",
    "last_inference",
    "ns",
    "count",
];

/// Recordings with probabilities, which are the recorded server's model's. Their number is compared.
const WITH_SHARES: [&str; 4] = ["025", "035", "066", "090"];

fn has_shares(name: &str) -> bool {
    WITH_SHARES.iter().any(|own| name.starts_with(own))
}

/// A message in parts.
pub(crate) struct Message {
    pub(crate) status: String,
    pub(crate) content_type: String,
    json_length: Option<usize>,
    pub(crate) content: Vec<u8>,
}

fn parse(bytes: &[u8]) -> Message {
    let head_end = bytes
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .unwrap();
    let head = std::str::from_utf8(&bytes[..head_end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let fields: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Message {
        status,
        content_type: fields.get("content-type").cloned().unwrap_or_default(),
        json_length: fields
            .get("inference-header-content-length")
            .map(|length| length.parse().unwrap()),
        content: bytes[head_end + 4..].to_vec(),
    }
}

/// Sends bytes and reads one answer.
pub(crate) fn ask(server: &Server, request: &[u8]) -> Message {
    let mut connection = Connection::open(server.main);
    connection.stream.write_all(request).unwrap();
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let read = connection.stream.read(&mut piece).unwrap();
        assert_ne!(
            read,
            0,
            "closed after {:?}",
            String::from_utf8_lossy(&bytes)
        );
        bytes.extend_from_slice(&piece[..read]);
        let text = String::from_utf8_lossy(&bytes);
        let Some((head, _)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head.split("\r\nContent-Length: ").nth(1).unwrap();
        let length: usize = length.split("\r\n").next().unwrap().parse().unwrap();
        if bytes.len() == head.len() + 4 + length {
            return parse(&bytes);
        }
    }
}

/// The texts of an array file of `<U`.
fn npy_texts(file: &[u8]) -> Vec<String> {
    let length = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
    let header = std::str::from_utf8(&file[10..length]).unwrap();
    let width = header
        .split("<U")
        .nth(1)
        .unwrap()
        .split('\'')
        .next()
        .unwrap();
    let width: usize = width.parse().unwrap();
    let text = |element: &[u8]| -> String {
        let codes = element.chunks(4).map(|code| code.try_into().unwrap());
        let codes = codes.map(u32::from_le_bytes).filter(|code| *code != 0);
        codes.map(|code| char::from_u32(code).unwrap()).collect()
    };
    file[length..].chunks(4 * width).map(text).collect()
}

/// Compares what two answers say; `place` names the recording.
fn compare(place: &str, expected: &Value, found: &Value) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for (name, value) in expected {
                let own = found.get(name).unwrap_or(&Value::Null);
                let place = format!("{place}, {name}");
                // A request without an id gets the server's.
                let is_own = OWN.contains(&name.as_str()) || name == "id" && value == "";
                if is_own {
                    assert!(!own.is_null(), "{place}");
                } else {
                    compare(&place, value, own);
                }
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            assert_eq!(expected.len(), found.len(), "{place}");
            if has_shares(place) && place.ends_with("data") {
                return;
            }
            for (expected, found) in expected.iter().zip(found) {
                compare(place, expected, found);
            }
        }
        (Value::Number(expected), Value::Number(found)) => {
            assert_eq!(expected.as_f64(), found.as_f64(), "{place}");
        }
        _ => assert_eq!(expected, found, "{place}"),
    }
}

pub(crate) fn json(content: &[u8]) -> Value {
    let text = String::from_utf8_lossy(content);
    serde_json::from_slice(content).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn every_recorded_request_gets_an_answer_that_its_client_accepts() {
    let server = Server::real(&["--name=iris"]);
    server.wait_ready();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/recordings");
    let mut requests: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == "request"))
        .collect();
    requests.sort();
    assert_eq!(requests.len(), 91);
    for path in requests {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let expected = parse(&fs::read(path.with_extension("response")).unwrap());
        let found = ask(&server, &fs::read(&path).unwrap());
        let text = String::from_utf8_lossy(&found.content);
        assert_eq!(found.status, expected.status, "{name}: {text}");
        // A bare media type, or one with a charset: clients compare errors' as a whole.
        let essence = |value: &str| value.split(';').next().unwrap().to_owned();
        assert_eq!(
            essence(&found.content_type),
            essence(&expected.content_type),
            "{name}"
        );
        match essence(&expected.content_type).as_str() {
            "application/json" => {
                assert_eq!(found.content_type, "application/json", "{name}");
                compare(name, &json(&expected.content), &json(&found.content));
            }
            "application/octet-stream" => {
                let (own, recorded) = (found.json_length.unwrap(), expected.json_length.unwrap());
                compare(
                    name,
                    &json(&expected.content[..recorded]),
                    &json(&found.content[..own]),
                );
                let (own, recorded) = (&found.content[own..], &expected.content[recorded..]);
                if has_shares(name) {
                    assert_eq!(own.len(), recorded.len(), "{name}");
                } else {
                    assert_eq!(own, recorded, "{name}");
                }
            }
            "application/jsonlines" => {
                let lines = |content: &[u8]| -> Vec<Value> {
                    let lines = content.split(|byte| *byte == b'\n');
                    lines.filter(|line| !line.is_empty()).map(json).collect()
                };
                assert_eq!(lines(&found.content), lines(&expected.content), "{name}");
            }
            "application/x-npy" => {
                assert_eq!(
                    npy_texts(&found.content),
                    npy_texts(&expected.content),
                    "{name}"
                );
            }
            _ => {
                let lines = |content: &[u8]| -> Vec<String> {
                    let text = String::from_utf8_lossy(content).into_owned();
                    text.lines().map(str::to_owned).collect()
                };
                assert_eq!(lines(&found.content), lines(&expected.content), "{name}");
            }
        }
    }
}
