//! The HTTP behaviour and the error codes that the guide lists.

use std::process::Command;
use std::time::Duration;

use crate::support::{
    Connection, Response, Server, action, eventually, exchange, has_programs, instance,
    predict_request,
};

const ROW: &str = r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#;

/// Checks that a response has the form of all errors.
fn check_error(name: &str, response: &Response, status: u16, code: &str) {
    assert_eq!(response.status, status, "{name}: {response:?}");
    let json = response.json();
    assert_eq!(json["code"], code, "{name}: {response:?}");
    assert_eq!(json.as_object().unwrap().len(), 3, "{name}: {response:?}");
    assert!(!json["error"].as_str().unwrap().is_empty(), "{name}");
    assert_eq!(json["request_id"], response.field("x-request-id"), "{name}");
    assert_eq!(response.field("content-type"), "application/json", "{name}");
    if status == 503 {
        let seconds: u32 = response.field("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{name}");
    }
}

#[test]
fn predictions_take_rows_or_objects_and_give_labels_and_vote_shares() {
    let server = Server::real(&[]);
    server.wait_ready();
    let body = r#"{"instances": [[5.1,3.5,1.4,0.2], {"petal_width":2.5,"petal_length":6.0,"sepal_width":3.3,"sepal_length":6.3}]}"#;
    let response = server.predict(body);
    assert_eq!(response.status, 200, "{response:?}");
    let json = response.json();
    assert_eq!(json["model"], "iris");
    assert_eq!(
        json["predictions"],
        serde_json::json!(["setosa", "virginica"])
    );
    let shares = json["probabilities"][1].as_object().unwrap();
    assert_eq!(
        shares.keys().collect::<Vec<_>>(),
        ["setosa", "versicolor", "virginica"]
    );
    assert!(
        (shares
            .values()
            .map(|share| share.as_f64().unwrap())
            .sum::<f64>()
            - 1.0)
            .abs()
            < 1e-9
    );
    assert_eq!(
        response.field("server"),
        concat!("lanekeeper/", env!("CARGO_PKG_VERSION"))
    );
    assert!(response.field("date").ends_with(" GMT"), "{response:?}");
    assert_eq!(response.field("content-type"), "application/json");
    eventually("the access log has the request", || {
        let id = response.field("x-request-id");
        server
            .logged()
            .contains(&format!("request request_id={id} client=127.0.0.1 "))
    });
}

#[test]
fn a_regressor_gives_numbers_and_no_probabilities() {
    let server = Server::fixture("scripted", &[]);
    server.wait_ready();
    let json = server.predict(&instance(action::ANSWER, 2.5)).json();
    assert_eq!(
        json,
        serde_json::json!({"model": "scripted", "predictions": [2.5]})
    );
}

#[test]
fn every_error_has_its_status_its_code_and_one_shape() {
    let server = Server::real(&["--max-body", "1000"]);
    server.wait_ready();
    let post = |body: &str| predict_request(body, "");
    let typed = |fields: &str| predict_request(ROW, fields);
    let many_fields = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "A: b\r\n".repeat(100)
    );
    let large_head = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nA: {}\r\n\r\n",
        "b".repeat(17_000)
    );
    #[rustfmt::skip]
    let table: Vec<(&str, String, u16, &str, &str)> = vec![
        ("not JSON", post("{\"instances\":\n [[1,,]]}"), 400, "invalid_json", "line 2 column 6"),
        ("an empty body", post(""), 400, "invalid_json", "the body is empty"),
        ("a missing field", post("{}"), 400, "invalid_input", "\\\"instances\\\" is missing"),
        ("an unknown field", post(r#"{"rows": []}"#), 400, "invalid_input", "unknown field"),
        ("a mistyped field", post(r#"{"instances": 7}"#), 400, "invalid_input", "an array of instances"),
        ("too few features", post(r#"{"instances": [[5.1,3.5,1.4,0.2],[1,2]]}"#), 400, "invalid_input", "instances[1] has 2 features, but the model takes 4: sepal_length, sepal_width, petal_length, petal_width"),
        ("an unknown feature", post(r#"{"instances": [{"length": 1}]}"#), 400, "invalid_input", "the model takes sepal_length"),
        ("null", post(r#"{"instances": [[5.1,3.5,null,0.2]]}"#), 400, "invalid_input", "petal_length"),
        ("NaN", post(r#"{"instances": [[5.1,3.5,NaN,0.2]]}"#), 400, "invalid_json", "column"),
        ("a number out of range", post(r#"{"instances": [[5.1,3.5,1e999,0.2]]}"#), 400, "invalid_input", "\\\"petal_length\\\" of instances[0] is 1e999, too large for a double"),
        ("no instances", post(r#"{"instances": []}"#), 400, "invalid_input", "at least one"),
        ("an unknown path", "GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n".into(), 404, "not_found", "GET /livez, /readyz"),
        ("GET on predictions", "GET /predict HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405, "method_not_allowed", "POST"),
        ("POST on a probe", "POST /livez HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n".into(), 405, "method_not_allowed", "GET, HEAD"),
        ("OPTIONS *", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 405, "method_not_allowed", ""),
        ("a declared length over the limit", "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000000\r\n\r\n".into(), 413, "content_too_large", "1000 bytes (--max-body)"),
        ("chunks over the limit", format!("POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001)), 413, "content_too_large", "1000 bytes"),
        ("a broken chunk", "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n".into(), 400, "malformed_request", "chunk size"),
        ("HTML", typed("Content-Type: text/html\r\n"), 415, "unsupported_media_type", "application/json"),
        ("compressed", typed("Content-Encoding: gzip\r\n"), 415, "unsupported_media_type", "Content-Encoding"),
        ("form data", predict_request("a=b&c=d", "Content-Type: application/x-www-form-urlencoded\r\n"), 415, "unsupported_media_type", "JSON"),
        ("another expectation", typed("Expect: wonders\r\n"), 417, "expectation_failed", "100-continue"),
        ("too many fields", many_fields, 431, "head_too_large", "100 fields"),
        ("too large a head", large_head, 431, "head_too_large", "16384 bytes"),
        ("two lengths", "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n".into(), 400, "malformed_request", "Content-Length"),
        ("both framings", "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400, "malformed_request", "not both"),
        ("no Host", "GET /livez HTTP/1.1\r\n\r\n".into(), 400, "malformed_request", "Host"),
        ("a TLS hello", "\x16\x03\x01\x02".into(), 400, "malformed_request", "TLS"),
        ("an unknown coding", "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n".into(), 501, "not_implemented", "chunked"),
        ("HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), 505, "version_not_supported", "HTTP/2 connection preface"),
        ("HTTP/2.1", "GET / HTTP/2.1\r\nHost: a\r\n\r\n".into(), 505, "version_not_supported", "another version"),
    ];
    for (name, request, status, code, text) in &table {
        let response = exchange(server.main, request);
        check_error(name, &response, *status, code);
        assert!(response.body.contains(text), "{name}: {}", response.body);
        assert_eq!(
            response.field("allow").is_empty(),
            *status != 405,
            "{name}: {response:?}"
        );
    }
    assert_eq!(server.predict(ROW).status, 200, "and the server goes on");
}

#[test]
fn json_by_any_likely_name_is_read() {
    let server = Server::real(&[]);
    server.wait_ready();
    for content_type in [
        "application/json; charset=utf-8",
        "application/ld+json",
        "text/plain",
        "application/octet-stream",
        "application/x-www-form-urlencoded",
    ] {
        let request = predict_request(ROW, &format!("Content-Type: {content_type}\r\n"));
        assert_eq!(
            exchange(server.main, &request).status,
            200,
            "{content_type}"
        );
    }
    assert_eq!(
        exchange(server.main, &predict_request(ROW, "")).status,
        200,
        "none at all"
    );
}

#[test]
fn the_curl_line_of_the_log_works_when_pasted() {
    if !has_programs(&["sh", "curl"]) {
        return;
    }
    let server = Server::real(&[]);
    let mut line = String::new();
    eventually("the log has a curl line", || {
        let logged = server.logged();
        line = logged
            .lines()
            .find_map(|line| line.split_once("try: "))
            .map_or_else(String::new, |(_, curl)| curl.to_owned());
        !line.is_empty()
    });
    let output = Command::new("sh").args(["-c", &line]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\"predictions\":[\"versicolor\"]"),
        "{line}: {text}"
    );
    let logged = server.logged();
    let start = logged
        .lines()
        .find(|line| line.contains("serving iris"))
        .unwrap();
    for part in [
        server.main.to_string(),
        server.probe.unwrap().to_string(),
        "prediction lane: ".to_owned(),
        "probe lane: 2 workers".to_owned(),
    ] {
        assert!(start.contains(&part), "{part} in {start}");
    }
}

#[test]
fn head_has_the_head_of_get_and_no_body() {
    let server = Server::real(&[]);
    server.wait_ready();
    for path in ["/livez", "/readyz", "/healthz", "/"] {
        let mut connection = Connection::open(server.main);
        connection.send(
            format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes(),
        );
        let head = connection.try_read(false).unwrap();
        let get = server.get(path);
        assert_eq!((head.status, get.status), (200, 200), "{path}");
        assert_eq!(
            head.field("content-length"),
            get.body.len().to_string(),
            "{path}"
        );
        assert!(connection.is_closed(), "{path}: nothing follows");
    }
}

#[test]
fn a_sane_request_id_is_taken_and_any_other_replaced() {
    let server = Server::real(&[]);
    for (id, taken) in [
        ("abc.DEF:1-2_3", true),
        ("has blank", false),
        ("\u{e9}", false),
        (&"x".repeat(129), false),
    ] {
        let response = exchange(
            server.main,
            &format!("GET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: {id}\r\n\r\n"),
        );
        assert_eq!(response.field("x-request-id") == id, taken, "{id}");
        assert!(!response.field("x-request-id").is_empty());
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_however_they_arrive() {
    let server = Server::real(&[]);
    server.wait_ready();
    let chunked = "POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-Request-Id: two\r\n\r\n11;x=y\r\n{\"instances\": [[5\r\n11\r\n.1,3.5,1.4,0.2]]}\r\n0\r\nT: v\r\n\r\n";
    let pipelined = [
        predict_request(ROW, "X-Request-Id: one\r\n"),
        chunked.to_owned(),
        "\r\nGET /livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: three\r\n\r\n".to_owned(),
        "GET /nowhere HTTP/1.1\r\nHost: a\r\nX-Request-Id: four\r\nContent-Length: 3\r\n\r\nabc"
            .to_owned(),
        "GET http://a/livez HTTP/1.1\r\nHost: a\r\nX-Request-Id: five\r\nConnection: close\r\n\r\n"
            .to_owned(),
    ];
    for size in [1, 7, 100, 10_000] {
        let mut connection = Connection::open(server.main);
        let at_once = [pipelined.concat()];
        let requests: &[String] = if size == 10_000 { &at_once } else { &pipelined };
        for request in requests {
            // Its route takes no body. A body that came with the head is skipped; the server does not wait
            // for one that did not.
            let size = if request.ends_with("abc") {
                request.len()
            } else {
                size
            };
            for piece in request.as_bytes().chunks(size) {
                connection.send(piece);
            }
        }
        for (id, status) in [
            ("one", 200),
            ("two", 200),
            ("three", 200),
            ("four", 404),
            ("five", 200),
        ] {
            let response = connection
                .try_read(true)
                .unwrap_or_else(|| panic!("{id} with pieces of {size}"));
            assert_eq!(
                (response.field("x-request-id"), response.status),
                (id, status),
                "pieces of {size}: {response:?}"
            );
            assert_eq!(
                response.field("connection") == "close",
                id == "five",
                "pieces of {size}"
            );
        }
        assert!(connection.is_closed());
    }
}

#[test]
fn a_client_that_expects_100_gets_it_only_where_its_body_is_wanted() {
    let server = Server::real(&["--max-body", "1000"]);
    server.wait_ready();
    let ask = |length: usize| {
        let mut connection = Connection::open(server.main);
        connection.send(format!("POST /predict HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n").as_bytes());
        let first = connection.try_read(true).unwrap();
        (connection, first)
    };
    let (mut connection, first) = ask(ROW.len());
    assert_eq!(first.head, "HTTP/1.1 100 Continue\r\n\r\n");
    connection.send(ROW.as_bytes());
    assert_eq!(connection.read().status, 200);
    let (_, first) = ask(2000);
    assert_eq!(first.status, 413);
    assert_eq!(first.field("connection"), "close");
}

#[test]
fn an_http_1_0_client_is_served_and_its_connection_closed_unless_it_asks() {
    let server = Server::real(&[]);
    let mut connection = Connection::open(server.main);
    connection.send(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let response = connection.read();
    assert_eq!(
        (response.status, response.field("connection")),
        (200, "keep-alive")
    );
    connection.send(b"GET /livez HTTP/1.0\r\n\r\n");
    assert_eq!(connection.read().status, 200);
    assert!(connection.is_closed());
}

#[test]
fn what_does_not_arrive_in_time_is_answered_408_and_closed() {
    let server = Server::real(&[
        "--head-timeout",
        "200ms",
        "--body-timeout",
        "200ms",
        "--idle-timeout",
        "200ms",
    ]);
    server.wait_ready();
    for start in [
        "GET /livez HTT",
        "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{",
    ] {
        let mut connection = Connection::open(server.main);
        connection.send(start.as_bytes());
        let response = connection.read();
        check_error(start, &response, 408, "request_timeout");
        assert!(connection.is_closed(), "{start}");
    }
    let mut silent = Connection::open(server.main);
    assert!(
        silent.is_closed(),
        "an idle connection is closed without a word"
    );
    let server = Server::real(&["--body-grace", "100ms", "--min-body-rate", "1MiB"]);
    server.wait_ready();
    let mut slow = Connection::open(server.main);
    slow.send(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{");
    check_error(
        "a body below the minimum rate",
        &slow.read(),
        408,
        "request_timeout",
    );
}

#[test]
fn a_refused_upload_is_answered_and_not_reset() {
    let server = Server::real(&["--max-body", "1000"]);
    server.wait_ready();
    for _ in 0..20 {
        let mut connection = Connection::open(server.main);
        connection.send(b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 5000000\r\n\r\n");
        connection.send(&vec![b'x'; 5_000_000]);
        check_error(
            "an upload over the limit",
            &connection.read(),
            413,
            "content_too_large",
        );
    }
}

#[test]
fn predictions_are_refused_while_the_model_loads_and_probes_are_answered() {
    let mut server = Server::fixture("slow-load", &[]);
    assert_eq!(server.probe("/livez").status, 200);
    let ready = server.probe("/readyz");
    assert_eq!(
        (
            ready.status,
            ready.body.as_str(),
            ready.field("retry-after")
        ),
        (503, "model is loading", "1")
    );
    let refused = server.predict(&instance(action::ANSWER, 1.0));
    check_error("loading", &refused, 503, "loading");
    assert_eq!(refused.field("retry-after"), "1");
    server.tell("release");
    server.wait_ready();
    assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
}

#[test]
fn a_full_lane_refuses_and_who_waited_too_long_is_not_computed() {
    let args = [
        "--predict-workers",
        "1",
        "--predict-queue",
        "2",
        "--max-wait",
        "100ms",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || server.busy() == 1);
    let mut waiting = [
        server.begin(&instance(action::ANSWER, 2.0)),
        server.begin(&instance(action::ANSWER, 3.0)),
    ];
    eventually("the queue is full", || server.queued() == 2);
    check_error(
        "full",
        &server.predict(&instance(action::ANSWER, 4.0)),
        503,
        "queue_full",
    );
    // A refused connection can be used again.
    let mut kept = server.begin(&instance(action::ANSWER, 4.0));
    check_error("full", &kept.read(), 503, "queue_full");
    std::thread::sleep(Duration::from_millis(150)); // longer than --max-wait
    server.tell("release");
    assert_eq!(running.read().json()["predictions"][0], 1.0);
    for connection in &mut waiting {
        check_error("expired", &connection.read(), 503, "expired");
    }
    // On a busy machine, even this one may wait longer than --max-wait.
    eventually("the kept connection gets its prediction", || {
        kept.send(predict_request(&instance(action::ANSWER, 5.0), "").as_bytes());
        kept.read().json()["predictions"][0] == 5.0
    });
}

#[test]
fn a_panic_or_an_error_of_the_model_is_500_and_the_worker_lives_on() {
    let server = Server::fixture("scripted", &["--predict-workers", "1"]);
    server.wait_ready();
    let worker = server.thread_ids("predict-0");
    for _ in 0..3 {
        check_error(
            "panic",
            &server.predict(&instance(action::PANIC, 0.0)),
            500,
            "prediction_failed",
        );
        check_error(
            "error",
            &server.predict(&instance(action::FAIL, 0.0)),
            500,
            "prediction_failed",
        );
        check_error(
            "infinity",
            &server.predict(&instance(action::INFINITY, 0.0)),
            500,
            "prediction_failed",
        );
    }
    assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
    assert_eq!(server.status()["predictions"]["panicked"], 3);
    assert_eq!(server.status()["threads_replaced"], 0);
    assert_eq!(server.thread_ids("predict-0"), worker);
    let response = server.predict(&instance(action::PANIC, 0.0));
    let id = response.field("x-request-id");
    eventually("the log names the request", || {
        server
            .logged()
            .contains(&format!("request {id}: the model panicked: told to panic"))
    });
}

#[test]
fn after_a_504_the_next_request_on_the_connection_gets_its_own_answer() {
    let args = [
        "--predict-workers",
        "1",
        "--request-timeout",
        "200ms",
        "--max-wait",
        "20s",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut connection = server.begin(&instance(action::BLOCK, 1.0));
    check_error("deadline", &connection.read(), 504, "deadline_exceeded");
    server.tell("release");
    eventually("the worker is free", || server.busy() == 0);
    connection.send(predict_request(&instance(action::ANSWER, 2.0), "").as_bytes());
    let response = connection.read();
    assert_eq!(
        (response.status, response.json()["predictions"][0].as_f64()),
        (200, Some(2.0))
    );
}

#[test]
fn work_for_a_client_that_has_left_is_dropped_before_it_is_computed() {
    let args = ["--predict-workers", "1", "--max-wait", "20s"];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || server.busy() == 1);
    let left = server.begin(&instance(action::PANIC, 2.0));
    eventually("one waits", || server.queued() == 1);
    left.reset();
    eventually("its leaving is counted", || {
        server.status()["predictions"]["abandoned"] == 1
    });
    server.tell("release");
    eventually("the lane is empty", || {
        server.queued() == 0 && server.busy() == 0
    });
    assert_eq!(
        server.status()["predictions"]["panicked"],
        0,
        "the abandoned one was not computed"
    );
    drop(running);
}
