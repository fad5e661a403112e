//! Refused requests are answered and counted, with a code, and the answer quotes them only as JSON text.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::attacks::{MALFORMED, PREDICTION};
use crate::clients::check_unharmed;
use crate::support::{Connection, Response, Server, eventually, exchange, predict_request};

/// Sends bytes, and reads until the server closes.
fn everything(server: &Server, bytes: &[u8]) -> String {
    let mut connection = Connection::open(server.main);
    // The server may have refused and closed before all is sent.
    let _ = connection.stream.write_all(bytes);
    let _ = connection.stream.shutdown(Shutdown::Write);
    let mut text = Vec::new();
    let _ = connection.stream.read_to_end(&mut text);
    String::from_utf8(text).unwrap()
}

/// Sends bytes on a fresh connection and reads one answer, even if sending fails.
fn answer(server: &Server, bytes: &[u8]) -> Response {
    let mut connection = Connection::open(server.main);
    let _ = connection.stream.write_all(bytes);
    connection.try_read(true).unwrap_or_else(|| {
        panic!(
            "no answer to {:?}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
        )
    })
}

#[test]
fn each_limit_has_its_answer() {
    let args = [
        "--head-timeout",
        "300ms",
        "--body-timeout",
        "300ms",
        "--max-body",
        "1000",
    ];
    let server = Server::real(&args);
    server.wait_ready();
    let post = |fields: &str| format!("POST /predict HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let long = "x".repeat(20_000);
    #[rustfmt::skip]
    let table = [
        ("a request line without end", format!("GET /{long}"), 431, "head_too_large"),
        ("a field without end", format!("GET / HTTP/1.1\r\nHost: a\r\nX: {long}"), 431, "head_too_large"),
        ("fields without end", format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "A: b\r\n".repeat(200)), 431, "head_too_large"),
        ("half a head", "GET /livez HTTP/1.1\r\nHost: a\r\n".to_owned(), 408, "request_timeout"),
        ("half a body", post("Content-Length: 9\r\n"), 408, "request_timeout"),
        ("half a chunk", post("Transfer-Encoding: chunked\r\n") + "5\r\nhe", 408, "request_timeout"),
        ("a long body, announced", post("Content-Length: 1001\r\n"), 413, "content_too_large"),
        ("a long body, expected", post("Expect: 100-continue\r\nContent-Length: 1001\r\n"), 413, "content_too_large"),
        ("a long body, in chunks", post("Transfer-Encoding: chunked\r\n") + &format!("200\r\n{}\r\n", &long[..512]).repeat(2), 413, "content_too_large"),
        ("the largest chunk there is", post("Transfer-Encoding: chunked\r\n") + "FFFFFFFFFFFFFFFF\r\n", 413, "content_too_large"),
        ("a larger one", post("Transfer-Encoding: chunked\r\n") + "10000000000000000\r\n", 400, "malformed_request"),
        ("a chunk extension without end", post("Transfer-Encoding: chunked\r\n") + &format!("1;{long}"), 400, "malformed_request"),
        ("trailers without end", post("Transfer-Encoding: chunked\r\n") + "0\r\n" + &"A: b\r\n".repeat(2_000), 400, "malformed_request"),
        ("another expectation", post("Expect: wonders\r\n"), 417, "expectation_failed"),
        ("another transfer coding", post("Transfer-Encoding: gzip\r\n"), 501, "not_implemented"),
        ("a tunnel", "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), 501, "not_implemented"),
        ("another version", "GET / HTTP/3.0\r\nHost: a\r\n\r\n".to_owned(), 505, "version_not_supported"),
    ];
    for (name, request, status, code) in table {
        let answer = answer(&server, request.as_bytes());
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (status, code),
            "{name}: {answer:?}"
        );
        assert_eq!(answer.field("connection"), "close", "{name}");
        check_fields(name, &answer);
    }
    check_unharmed(&server);
}

/// Checks the fields that keep browsers from misinterpreting an answer.
fn check_fields(name: &str, answer: &Response) {
    assert_eq!(
        answer.field("x-content-type-options"),
        "nosniff",
        "{name}: {answer:?}"
    );
    assert_eq!(
        answer.field("cache-control"),
        "no-store",
        "{name}: {answer:?}"
    );
    let content_type = answer.field("content-type");
    assert!(!content_type.contains("html"), "{name}: {answer:?}");
    // The answer to HEAD has no body.
    if content_type == "application/json" && !answer.body.is_empty() {
        answer.json();
    }
}

#[test]
fn whoever_speaks_another_protocol_is_told_which_was_seen() {
    let server = Server::real(&[]);
    let hello: &[u8] = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03";
    let preface: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    for (bytes, seen) in [(hello, "TLS"), (preface, "HTTP/2")] {
        let answer = answer(&server, bytes);
        assert!((400..=505).contains(&answer.status), "{seen}: {answer:?}");
        let text = answer.json()["error"].as_str().unwrap().to_owned();
        assert!(text.contains(seen), "{seen}: {text}");
        assert!(text.len() < 200, "{seen}: {text}");
        check_fields(seen, &answer);
    }
}

#[test]
fn what_is_no_request_is_refused_and_never_echoed() {
    let server = Server::real(&["--head-timeout", "300ms"]);
    server.wait_ready();
    for request in MALFORMED {
        let name = String::from_utf8_lossy(request).into_owned();
        let answer = answer(&server, request);
        check_fields(&name, &answer);
        if answer.status == 200 {
            assert!(name.contains("%0d%0a"), "{name}: {answer:?}");
            continue;
        }
        assert!(
            [400, 405, 413, 417, 501, 505].contains(&answer.status),
            "{name}: {answer:?}"
        );
        assert!(
            !answer.head.to_ascii_lowercase().contains("set-cookie"),
            "{name}: {answer:?}"
        );
    }
    check_unharmed(&server);
}

/// As in CVE-2026-66753, where a value with a line end became additional fields or another answer.
#[test]
fn a_request_id_never_splits_an_answer() {
    let server = Server::real(&[]);
    server.wait_ready();
    for (id, answers) in [
        ("a\r\nSet-Cookie: b=c", 1),
        ("a\rSet-Cookie: b=c", 1),
        ("a\nSet-Cookie: b=c", 1),
        ("a\r Set-Cookie: b=c", 1),
        ("a%0d%0aSet-Cookie: b=c", 1),
        ("a\u{10d}\u{10a}Set-Cookie: b=c", 1),
        ("a\u{2028}Set-Cookie: b=c", 1),
        ("a\0Set-Cookie: b=c", 1),
        // The rest is read as a second request, which is malformed.
        ("a\r\n\r\nHTTP/1.1 200 OK\r\nSet-Cookie: b=c\r\n", 2),
    ] {
        for line in ["GET /livez HTTP/1.1", "GET /nowhere HTTP/1.1"] {
            let text = everything(
                &server,
                format!("{line}\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n").as_bytes(),
            );
            assert_eq!(text.matches("HTTP/1.1 ").count(), answers, "{id:?}: {text}");
            assert!(
                !text.to_ascii_lowercase().contains("set-cookie"),
                "{id:?}: {text}"
            );
            assert_eq!(
                text.matches("X-Content-Type-Options: nosniff").count(),
                answers,
                "{text}"
            );
        }
    }
}

#[test]
fn what_a_client_sends_comes_back_as_json_text_only_and_makes_no_log_line() {
    let server = Server::real(&["--log-level", "debug"]);
    server.wait_ready();
    let script = "</script><script>alert(1)</script>";
    let requests = [
        format!("GET /{script} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /\"{script} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("GET /livez/{script} HTTP/1.1\r\nHost: a\r\n\r\n"),
        format!("BREW /predict HTTP/1.1\r\nHost: {script}\r\n\r\n"),
        predict_request(&format!("{{\"{script}\\\"\": 1}}"), ""),
        predict_request(&format!("{{\"instances\": \"{script}\"}}"), ""),
        predict_request(&format!("{{\"instances\": [{{\"{script}\": 1}}]}}"), ""),
        predict_request("{\"instances\": [{\"a\\nINJECTED\\u001b[2J\": 1}]}", ""),
        predict_request("{\"a\\r\\nINJECTED\": 1}", ""),
        predict_request(PREDICTION, "X-Request-Id: a\u{1b}[2J\r\n"),
        predict_request(PREDICTION, &format!("Content-Type: {script}\r\n")),
        predict_request(
            PREDICTION,
            "Content-Type: a/b; c=\"d\"\r\nContent-Encoding: \u{7f}\r\n",
        ),
    ];
    for request in &requests {
        let answer = answer(&server, request.as_bytes());
        assert!((400..500).contains(&answer.status), "{request}: {answer:?}");
        assert_eq!(
            answer.field("content-type"),
            "application/json",
            "{request}"
        );
        check_fields(request, &answer);
        assert!(
            !answer
                .body
                .bytes()
                .any(|byte| byte != b'\n' && byte.is_ascii_control()),
            "{request}: {answer:?}"
        );
        for value in answer.fields.values() {
            assert!(!value.contains("script"), "{request}: {answer:?}");
        }
    }
    // Log lines are in order: once this one is there, all are.
    let last = predict_request(PREDICTION, "X-Request-Id: last-of-all\r\n");
    assert_eq!(exchange(server.main, &last).status, 200);
    eventually("the requests are logged", || {
        server.logged().contains("last-of-all")
    });
    for line in server.logged().lines() {
        assert!(!line.starts_with("INJECTED"), "{line:?}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }
}

#[test]
fn every_answer_forbids_sniffing() {
    let server = Server::real(&["--max-connections", "300"]);
    server.wait_ready();
    for path in [
        "/",
        "/livez",
        "/livez?verbose",
        "/readyz",
        "/healthz",
        "/statusz",
        "/nowhere",
        "/predict",
    ] {
        check_fields(path, &server.get(path));
        check_fields(path, &server.probe(path));
        let mut connection = Connection::open(server.main);
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        check_fields(path, &connection.try_read(false).unwrap());
    }
    check_fields("a prediction", &server.predict(PREDICTION));
    check_fields("no prediction", &server.predict("{}"));
    // With every connection in use, the reserved thread answers.
    let held: Vec<Connection> = (0..300)
        .map(|_| {
            let mut connection = Connection::open(server.main);
            connection.send(b"GET /livez HTTP/1.1\r\n");
            connection
        })
        .collect();
    for _ in 0..20 {
        let mut connection = Connection::open(server.main);
        let _ = connection
            .stream
            .write_all(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
        // If the request arrives after the refusal, a reset may discard the refusal.
        if let Some(answer) = connection.try_read(true) {
            check_fields("a full listener", &answer);
        }
    }
    drop(held);
}

/// Unfinished bodies use up the budget; further ones are refused instead of being buffered.
#[test]
fn bodies_beyond_the_budget_are_refused_and_small_ones_served() {
    let server = Server::real(&["--max-buffered", "2MiB", "--max-body", "1MiB"]);
    server.wait_ready();
    let head = format!(
        "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
        1 << 20
    );
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut connection = Connection::open(server.main);
        connection.send(head.as_bytes());
        // All but one byte. Writing fails if the server refuses and closes before all is sent.
        let _ = connection.stream.write_all(&vec![b' '; (1 << 20) - 1]);
        held.push(connection);
    }
    let patience = Some(Duration::from_millis(500)); // buffered ones get no answer
    let mut refused = 0;
    for connection in &mut held {
        connection.stream.set_read_timeout(patience).unwrap();
        if let Some(answer) = connection.try_read(true) {
            let seen = (answer.status, answer.code());
            assert_eq!(seen, (503, "over_budget".to_owned()), "{answer:?}");
            assert!(!answer.field("retry-after").is_empty(), "{answer:?}");
            check_fields("over budget", &answer);
            refused += 1;
        }
    }
    let status = server.status();
    let buffered = &status["buffered"];
    assert!(refused >= 6, "{refused} of 8 were refused: {status}");
    assert!(buffered["bytes"].as_u64() <= Some(2 << 20), "{status}");
    assert_eq!(buffered["bytes_max"], 2 << 20, "{status}");
    drop(held);
    eventually("the budget is free again", || {
        server.status()["buffered"]["bytes"] == 0
    });
    check_unharmed(&server);
}

/// A request that can never succeed must not get a `Retry-After`, or its client would retry forever.
#[test]
fn what_can_never_be_served_is_413_and_names_the_option() {
    let server = Server::real(&["--max-buffered", "4MiB", "--max-connections", "400"]);
    server.wait_ready();
    let rows = |count: usize| {
        let rows = vec!["[1,1,1,1]"; count].join(",");
        format!("{{\"instances\":[{rows}]}}")
    };
    let csv = |count: usize| {
        let header = "sepal_length,sepal_width,petal_length,petal_width\n";
        format!("{header}{}", "1,1,1,1\n".repeat(count))
    };
    let chunked = |body: &str| {
        format!(
            "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{body}\r\n0\r\n\r\n",
            body.len()
        )
    };
    let blanks = " ".repeat(5 << 20);
    let as_csv = "Content-Type: text/csv\r\n";
    #[rustfmt::skip]
    let table = [
        ("a body", predict_request(&blanks, "")),
        ("a body, expected", predict_request("", "Expect: 100-continue\r\n").replace("Length: 0", "Length: 5000000")),
        ("a body in chunks", chunked(&blanks)),
        ("the numbers of a body", predict_request(&rows(90_000), "")),
        ("the numbers of a body in CSV", predict_request(&csv(90_000), as_csv)),
        ("an answer", predict_request(&rows(16_000), "")),
    ];
    for (name, request) in table {
        // The memory of the request before was returned before its answer.
        let answer = answer(&server, request.as_bytes());
        let seen = (answer.status, answer.code());
        assert_eq!(
            seen,
            (413, "content_too_large".to_owned()),
            "{name}: {answer:?}"
        );
        assert_eq!(answer.field("retry-after"), "", "{name}: {answer:?}");
        let text = answer.json()["error"].to_string();
        assert!(
            text.contains("--max-buffered, 4194304 bytes"),
            "{name}: {text}"
        );
    }
    let status = server.status();
    assert_eq!(status["clients"]["content_too_large"], 6, "{status}");
    assert_eq!(status["predictions"]["rejected"], 6, "{status}");
    assert_eq!(status["clients"]["over_budget"], 0, "{status}");
    assert_eq!(server.predict(&rows(1000)).status, 200);
}

#[test]
fn an_idle_server_predicts_with_no_wait_allowed_at_all() {
    let server = Server::real(&["--max-wait", "0"]);
    server.wait_ready();
    assert_eq!(server.predict(PREDICTION).status, 200);
}

#[test]
fn what_clients_did_is_counted() {
    let args = [
        "--head-timeout",
        "200ms",
        "--body-timeout",
        "200ms",
        "--max-body",
        "1000",
    ];
    let server = Server::real(&args);
    server.wait_ready();
    let post = |fields: &str| format!("POST /predict HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let counted = |name: &str| {
        let status = server.status();
        status["clients"][name]
            .as_u64()
            .unwrap_or_else(|| panic!("clients.{name} is no number in {status}"))
    };
    for name in [
        "evicted",
        "refused",
        "per_address",
        "write_timeout",
        "over_budget",
    ] {
        assert_eq!(counted(name), 0, "{name} is there before it happens");
    }
    #[rustfmt::skip]
    let table = [
        ("malformed", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("head_too_large", format!("GET /{}", "x".repeat(20_000))),
        ("head_timeout", "GET / HTTP/1.1\r\n".to_owned()),
        ("body_timeout", post("Content-Length: 9\r\n")),
        ("content_too_large", post("Content-Length: 1001\r\n")),
    ];
    for (name, request) in table {
        let before = counted(name);
        answer(&server, request.as_bytes());
        assert_eq!(counted(name), before + 1, "{name}");
    }
}

#[test]
fn an_instance_of_a_bare_list_is_named_by_its_place_in_the_body() {
    let server = Server::real(&[]);
    server.wait_ready();
    for (body, expected) in [
        (
            "[[1, 2, 3, 4], [1, 2, 3]]",
            "body[1] has 3 features, but the model takes 4: ",
        ),
        ("[]", "\"body\" is empty: at least one instance is needed"),
    ] {
        let head = "POST /invocations HTTP/1.1\r\nHost: a\r\nContent-Type: application/json";
        let length = body.len();
        let request = format!("{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        let answer = answer(&server, request.as_bytes());
        assert_eq!(answer.status, 400, "{body}");
        let text = answer.json()["message"].as_str().unwrap().to_owned();
        assert!(text.starts_with(expected), "{body}: {text}");
    }
}
