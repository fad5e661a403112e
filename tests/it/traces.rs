//! What requests leave behind: a count of each answer, its line in the log, and for malformed requests
//! the reason and the client's address.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::metrics::{grown, scrape, scrape_as};
use crate::overload::has_hung;
use crate::support::{Server, action, eventually, exchange, instance, predict_request};

const ROW: &str = "{\"instances\": [[5.1, 3.5, 1.4, 0.2], [6.3, 3.3, 6.0, 2.5]]}";

/// Waits for the log line of a request, of which there must be one.
fn line(server: &Server, id: &str) -> String {
    let mut found = Vec::new();
    eventually(&format!("{id} is in the log"), || {
        let logged = server.logged();
        let lines = logged.lines().filter(|line| line.contains(id));
        found = lines.map(str::to_owned).collect();
        !found.is_empty()
    });
    assert_eq!(found.len(), 1, "{found:?}");
    found.remove(0)
}

fn json_line(server: &Server, id: &str) -> Value {
    let line = line(server, id);
    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
}

fn named(id: &str, body: &str) -> String {
    predict_request(body, &format!("X-Request-Id: {id}\r\n"))
}

#[test]
fn a_json_log_has_the_fields_of_a_request_as_members() {
    let server = Server::real(&["--log-format=json", "--max-body=1000B"]);
    server.wait_ready();
    let answer = exchange(server.main, &named("served-1", ROW));
    assert_eq!(answer.status, 200);
    let served = json_line(&server, "served-1");
    let text = |key: &str| {
        served[key]
            .as_str()
            .unwrap_or_else(|| panic!("{key}: {served}"))
    };
    for (key, value) in [
        ("level", "info"),
        ("message", "request"),
        ("request_id", "served-1"),
        ("client", "127.0.0.1"),
        ("method", "POST"),
        ("path", "/predict"),
        ("model", "iris"),
    ] {
        assert_eq!(text(key), value, "{served}");
    }
    for (key, value) in [
        ("status", 200),
        ("rows", 2),
        ("bytes", answer.body.len() as u64),
    ] {
        assert_eq!(served[key].as_u64(), Some(value), "{key}: {served}");
    }
    assert_eq!(served["code"], Value::Null);
    let [waiting, service, sojourn] =
        ["waiting_ms", "service_ms", "sojourn_ms"].map(|key| served[key].as_f64().unwrap());
    assert!(
        waiting >= 0.0 && service > 0.0 && sojourn >= service,
        "{served}"
    );
    // A request that was never queued has no waiting time.
    let long = " ".repeat(1001);
    assert_eq!(exchange(server.main, &named("large-1", &long)).status, 413);
    let refused = json_line(&server, "large-1");
    assert_eq!(refused["code"], "content_too_large", "{refused}");
    assert_eq!(refused["status"], 413);
    assert!(
        refused["rows"].is_null() && refused["sojourn_ms"].is_number(),
        "{refused}"
    );
    let members = refused.as_object().unwrap();
    assert!(!members.contains_key("waiting_ms") && !members.contains_key("service_ms"));
    // A request that a worker rejected has both times.
    assert_eq!(exchange(server.main, &named("wrong-1", "{")).status, 400);
    let rejected = json_line(&server, "wrong-1");
    assert_eq!(rejected["code"], "invalid_json");
    assert!(rejected["waiting_ms"].is_number() && rejected["service_ms"].is_number());
}

#[test]
fn a_text_log_has_the_same_fields_and_refusals_are_told_apart() {
    let args = [
        "--predict-workers=1",
        "--predict-queue=1",
        "--max-wait=none",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || has_hung(&server));
    let mut queued = server.begin(&instance(action::ANSWER, 1.0));
    eventually("the queue is full", || server.queued() == 1);
    let answer = exchange(server.main, &named("full-1", &instance(0.0, 1.0)));
    assert_eq!(answer.status, 503);
    server.tell("release");
    assert_eq!((running.read().status, queued.read().status), (200, 200));
    assert_eq!(
        exchange(server.main, &named("served-1", &instance(0.0, 1.0))).status,
        200
    );
    let refused = line(&server, "full-1");
    for part in [
        " [INFO] conn: request request_id=full-1 client=127.0.0.1 method=POST path=/predict ",
        " model=scripted status=503 code=queue_full rows=- sojourn_ms=",
        &format!(" bytes={}", answer.body.len()),
    ] {
        assert!(refused.contains(part), "{part} in {refused}");
    }
    assert!(!refused.contains("waiting"), "{refused}");
    let served = line(&server, "served-1");
    for part in [
        " status=200 code=- rows=1 waiting_ms=",
        " service_ms=",
        " bytes=",
    ] {
        assert!(served.contains(part), "{part} in {served}");
    }
}

#[test]
fn no_client_can_forge_a_line_or_a_field() {
    for format in ["text", "json"] {
        let server = Server::real(&["--log-level=debug", "--log-format", format]);
        server.wait_ready();
        let paths = [
            "/\"status=200\\n",
            "/a=b\",\"level\":\"error\",\"x\":\"",
            "/\\u001b[2J",
        ];
        for (index, path) in paths.into_iter().enumerate() {
            let id = format!("forged-{index}");
            let request = format!("GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n");
            assert_eq!(exchange(server.main, &request).status, 404, "{path}");
            let line = line(&server, &id);
            if format == "json" {
                let line: Value = serde_json::from_str(&line).unwrap();
                assert_eq!(line["path"], path, "{line}");
                assert_eq!(
                    (&line["level"], &line["status"]),
                    (&"debug".into(), &404.into())
                );
            } else {
                let quoted = path.replace('\\', "\\\\").replace('"', "\\\"");
                let expected = format!(" method=GET path=\"{quoted}\" status=404 code=not_found");
                assert!(line.contains(&expected), "{expected} in {line}");
            }
        }
    }
}

/// A request with the status and code of its answer, which the metrics must count.
type Asked<'a> = (&'a str, u16, &'a str);

const ASKED: [Asked<'_>; 9] = [
    ("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n", 404, "not_found"),
    (
        "GET /livez/nothing HTTP/1.1\r\nHost: a\r\n\r\n",
        404,
        "not_found",
    ),
    (
        "GET /predict HTTP/1.1\r\nHost: a\r\n\r\n",
        405,
        "method_not_allowed",
    ),
    ("HEAD /livez HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""),
    ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", 200, ""),
    ("GET / HTTP/1.1\r\n\r\n", 400, "malformed_request"),
    (
        "get / HTTP/1.1\r\nHost: a\r\n\r\n",
        400,
        "malformed_request",
    ),
    (
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: wonders\r\n\r\n",
        417,
        "expectation_failed",
    ),
    (
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        505,
        "version_not_supported",
    ),
];

fn series(status: u16, code: &str) -> String {
    match code {
        "" => format!("lanekeeper_responses_total{{status=\"{status}\"}}"),
        code => format!("lanekeeper_responses_total{{status=\"{status}\",code=\"{code}\"}}"),
    }
}

#[test]
fn every_answer_is_counted_by_its_status_and_code() {
    let args = [
        "--probe-listen=127.0.0.1:0",
        "--max-connections-per-address=1",
    ];
    let mut server = Server::fixture("scripted", &args);
    eventually("it is ready", || server.probe("/readyz").status == 200);
    let before = scrape(&server);
    assert_eq!(
        before[&series(404, "not_found")],
        0.0,
        "there from the start"
    );
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    let mut expect =
        |status: u16, code: &str| *expected.entry(series(status, code)).or_default() += 1.0;
    let alone = |server: &Server| {
        eventually("the last connection has ended", || {
            server.status()["connections"]["main"] == 0
        });
    };
    for (request, status, code) in ASKED {
        alone(&server);
        assert_eq!(exchange(server.main, request).status, status, "{request}");
        expect(status, code);
    }
    for (body, status, code) in [
        (instance(action::ANSWER, 1.0), 200, ""),
        (instance(action::FAIL, 1.0), 500, "prediction_failed"),
        ("{".to_owned(), 400, "invalid_json"),
    ] {
        alone(&server);
        assert_eq!(server.predict(&body).status, status, "{body}");
        expect(status, code);
    }
    // An address may have one connection. The present one is owed an answer, so it is not evicted.
    alone(&server);
    let mut held = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it is computed", || has_hung(&server));
    let refused = server.get("/");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "too_many_connections")
    );
    expect(503, "too_many_connections");
    server.tell("release");
    assert_eq!(held.read().status, 200);
    expect(200, "");
    assert_eq!(server.probe("/nowhere").status, 404);
    expect(404, "not_found");
    let after = scrape(&server);
    let ok = series(200, "");
    for (name, count) in expected.iter().filter(|(name, _)| **name != ok) {
        assert_eq!(grown(name, &before, &after), *count, "{name}");
    }
    // There are more, because this test has also requested `/statusz` and `/metrics`.
    assert!(grown(&ok, &before, &after) > expected[&ok]);
    let again = scrape(&server);
    assert_eq!(grown(&ok, &after, &again), 1.0, "a scrape is an answer too");
    let open = scrape_as(&server, "GET", "application/openmetrics-text").body;
    assert!(
        open.contains("\n# TYPE lanekeeper_responses counter\n"),
        "{open}"
    );
    let status = server.status();
    assert_eq!(status["responses"]["code"]["not_found"], 3, "{status}");
    assert_eq!(status["responses"]["status"]["404"], 3, "{status}");
    assert_eq!(status["responses"]["code"]["draining"], 0, "{status}");
    assert_eq!(status["responses"]["status"]["400"], 3, "{status}");
}

#[test]
fn what_is_no_sound_http_is_told_with_the_commonest_reason_and_a_client() {
    let server = Server::real(&["--log-level=debug"]);
    server.wait_ready();
    let request = "GET /livez HTTP/1.1\r\nHost: out|8080||name\r\n\r\n";
    let reason = exchange(server.main, request).json()["error"]
        .as_str()
        .unwrap()
        .to_owned();
    let told = |logged: &str| {
        let mut lines = logged.lines().map(str::to_owned);
        lines.find(|line| line.contains("not valid HTTP"))
    };
    eventually("it is told", || told(&server.logged()).is_some());
    let line = told(&server.logged()).unwrap();
    let expected = format!(
        "[WARN] main: clients: 1 requests were not valid HTTP, most often: {reason} (1, the last from 127.0.0.1) [malformed]"
    );
    assert!(line.ends_with(&expected), "{line}");
    let status = server.status();
    assert_eq!(
        status["malformed"],
        serde_json::json!({"reason": reason, "count": 1, "client": "127.0.0.1"})
    );
    // A malformed chunk counts as malformed HTTP too.
    let broken = "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    assert_eq!(exchange(server.main, broken).status, 400);
    let status = server.status();
    assert_eq!(status["clients"]["malformed"], 2);
    let reason = status["malformed"]["reason"].as_str().unwrap();
    assert!(reason.contains("chunk size"), "{status}");
}

#[test]
fn at_debug_every_answer_has_its_line() {
    let server = Server::real(&["--log-level=debug", "--access-log-rate=0"]);
    server.wait_ready();
    for (request, status, code) in ASKED {
        let answer = exchange(server.main, request);
        assert_eq!(answer.status, status, "{request}");
        let line = line(&server, answer.field("x-request-id"));
        let code = if code.is_empty() { "-" } else { code };
        let expected = format!(" status={status} code={code} bytes=");
        assert!(
            line.contains("[DEBUG] conn: request ") && line.contains(&expected),
            "{line}"
        );
        assert_eq!(line.contains(" error=\""), status != 200, "{line}");
        let method = request.split(' ').next().unwrap();
        let head_was_read = !matches!(status, 400 | 417 | 505);
        assert_eq!(
            line.contains(&format!(" method={method} path=/")),
            head_was_read,
            "{line}"
        );
    }
    let served = exchange(server.main, &named("served-1", ROW));
    assert_eq!(served.status, 200);
    let line = line(&server, "served-1");
    assert!(
        line.contains("[DEBUG]") && line.contains(" rows=2 waiting_ms="),
        "{line}"
    );
    let quiet = Server::real(&["--access-log-rate=0"]);
    quiet.wait_ready();
    assert_eq!(quiet.get("/nowhere").status, 404);
    let served = exchange(quiet.main, &named("served-1", ROW));
    assert_eq!(served.status, 200);
    eventually("what is left out is summarised", || {
        quiet
            .logged()
            .contains("1 more predictions were answered, 0 of them with an error")
    });
    assert!(
        !quiet.logged().contains("request_id="),
        "{}",
        quiet.logged()
    );
}
