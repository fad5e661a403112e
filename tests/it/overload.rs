//! Overload: what is admitted, what is refused and how, and in which order.

use std::time::Duration;

use crate::support::{Connection, Server, action, eventually, instance, predict_request};

/// A server with one worker that has measured how long a prediction takes.
fn experienced(args: &[&str]) -> Server {
    let server = Server::fixture("scripted", &[&["--predict-workers", "1"], args].concat());
    server.wait_ready();
    for _ in 0..3 {
        let body = instance(action::SLEEP, 50.0);
        assert_eq!(server.predict(&body).status, 200);
    }
    server
}

/// Whether the model is on a row that blocks.
pub fn has_hung(server: &Server) -> bool {
    server.logged().contains("fixture: hangs")
}

/// A body with a row for each action.
fn batch(actions: &[f64]) -> String {
    let rows: Vec<String> = actions
        .iter()
        .enumerate()
        .map(|(index, action)| format!("[{action}, {index}]"))
        .collect();
    format!("{{\"instances\": [{}]}}", rows.join(", "))
}

fn send(server: &Server, body: &str, fields: &str) -> Connection {
    let mut connection = Connection::open(server.main);
    connection.send(predict_request(body, fields).as_bytes());
    connection
}

#[test]
fn who_would_wait_for_too_long_is_refused_at_once_and_unread() {
    for (more, status) in [(&[][..], 503), (&["--overload-status", "429"], 429)] {
        let mut server = experienced(&[&["--max-wait", "1s"], more].concat());
        let mut running = server.begin(&instance(action::BLOCK, 1.0));
        eventually("the worker is busy", || has_hung(&server));
        let mut refusal = None;
        eventually("the wait is longer than a second", || {
            // The request is refused by its head; its body is never sent.
            let mut asking = Connection::open(server.main);
            let fields = "Content-Length: 40\r\nExpect: 100-continue\r\n";
            let head = format!("POST /predict HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
            asking.send(head.as_bytes());
            let response = asking.read();
            let is_refused = response.status == status;
            refusal = Some(response);
            is_refused
        });
        let refusal = refusal.unwrap();
        assert_eq!(refusal.code(), "overloaded");
        let seconds: u32 = refusal.field("retry-after").parse().unwrap();
        assert!((1..=30).contains(&seconds), "{seconds}");
        assert_eq!(server.probe("/livez").status, 200);
        assert_eq!(server.probe("/readyz").status, 200, "load turns no verdict");
        server.tell("release");
        assert_eq!(running.read().status, 200);
        // An idle worker takes any prediction.
        assert_eq!(server.predict(&instance(action::ANSWER, 2.0)).status, 200);
    }
}

#[test]
fn a_refusal_that_waits_for_its_turn_is_given_whoever_has_to_make_room() {
    // The rate limit is one refusal a second after a burst of eight.
    let mut server = Server::fixture(
        "scripted",
        &[
            "--predict-workers=1",
            "--predict-queue=1",
            "--max-wait=none",
            "--pace-later=1",
            "--max-connections=18",
        ],
    );
    server.wait_ready();
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || has_hung(&server));
    let mut queued = server.begin(&instance(action::ANSWER, 1.0));
    eventually("the queue is full", || server.queued() == 1);
    let body = instance(action::ANSWER, 1.0);
    let ask = |connection: &mut Connection| {
        connection.send(predict_request(&body, "").as_bytes());
    };
    let is_refused = |connection: &mut Connection| {
        let response = connection.read();
        assert_eq!((response.status, &*response.code()), (503, "queue_full"));
        response
    };
    let mut first = send(&server, &body, "");
    for _ in 0..8 {
        is_refused(&mut first);
        ask(&mut first);
    }
    is_refused(&mut first);
    drop(first);
    eventually("the first has gone", || {
        server.status()["connections"]["main"] == 2
    });
    // The listener is full, so one of these must be evicted for a new connection.
    let mut refused: Vec<Connection> = (0..16).map(|_| send(&server, &body, "")).collect();
    for connection in &mut refused {
        is_refused(connection);
    }
    for connection in &mut refused {
        // The second answer on a connection is delayed, by a second at most.
        ask(connection);
    }
    eventually("a probe is let in", || server.get("/livez").status == 200);
    // The probe may have been let in while they waited or after their answers, depending on the machine.
    // A test of the connection table checks that one that waits is answered at once and then closed.
    let closing: Vec<bool> = refused
        .iter_mut()
        .map(|connection| is_refused(connection).field("connection") == "close")
        .collect();
    let evicted = server.status()["clients"]["evicted"].as_u64().unwrap();
    let told = closing.iter().filter(|closes| **closes).count();
    assert!(
        evicted >= 1 && told as u64 <= evicted,
        "{told} of {evicted}"
    );
    let told = refused.iter_mut().zip(closing);
    for (connection, _) in told.filter(|(_, closes)| *closes) {
        assert!(connection.is_closed());
    }
    server.tell("release");
    assert_eq!((running.read().status, queued.read().status), (200, 200));
}

#[test]
fn what_is_left_of_a_batch_counts_by_what_such_batches_take() {
    let args = ["--predict-workers=1", "--max-wait=500ms"];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    // The first slice is fast and says nothing about the other rows. Each of those takes as many
    // milliseconds as its index in the batch, 0.7 s in all.
    let rows = |others: &[f64]| batch(&[&[action::ANSWER; 16][..], others].concat());
    let long = rows(&[action::SLEEP; 24]);
    assert_eq!(server.predict(&long).status, 200);
    let stops = [&[action::BLOCK][..], &[action::ANSWER; 23]].concat();
    let mut running = server.begin(&rows(&stops));
    eventually("it is past its first slice", || has_hung(&server));
    let refusal = server.predict(&long);
    assert_eq!((refusal.status, &*refusal.code()), (503, "overloaded"));
    server.tell("release");
    assert_eq!(running.read().status, 200);
    assert_eq!(server.predict(&long).status, 200);
}

#[test]
fn a_prediction_is_not_computed_beyond_the_deadline_its_client_gave() {
    let mut server = Server::fixture("scripted", &["--predict-workers", "1"]);
    server.wait_ready();
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || has_hung(&server));
    let fields = [
        "X-Request-Timeout: 0.15\r\n",
        "X-Request-Timeout: 150ms\r\nX-Envoy-Expected-Rq-Timeout-Ms: 60000\r\n",
        "x-envoy-expected-rq-timeout-ms: 150\r\n",
    ];
    for fields in fields {
        let mut late = send(&server, &instance(action::PANIC, 0.0), fields);
        let response = late.read();
        assert_eq!(
            (response.status, &*response.code()),
            (504, "deadline_exceeded")
        );
    }
    server.tell("release");
    assert_eq!(running.read().status, 200);
    assert_eq!(server.predict(&instance(action::ANSWER, 2.0)).status, 200);
    let status = server.status();
    assert_eq!(status["predictions"]["panicked"], 0, "none was computed");
    assert_eq!(status["predictions"]["deadline_exceeded"], 3);
    assert_eq!(status["lanes"]["predict"]["queue_length"], 0);
}

#[test]
fn a_deadline_shorter_than_the_prediction_is_no_matter_of_coming_back() {
    let mut server = experienced(&[]);
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || has_hung(&server));
    let mut refusal = None;
    eventually("the wait is longer than nothing", || {
        let fields = "X-Request-Timeout: 20ms\r\n";
        let response = send(&server, &instance(action::ANSWER, 2.0), fields).read();
        assert_eq!(response.status, 504, "{response:?}");
        let is_told = response.body.contains("the prediction takes about");
        refusal = Some(response);
        is_told
    });
    let refusal = refusal.unwrap();
    assert_eq!(refusal.code(), "deadline_exceeded");
    assert_eq!(refusal.field("retry-after"), "", "{refusal:?}");
    server.tell("release");
    assert_eq!(running.read().status, 200);
}

#[test]
fn a_deadline_that_cannot_be_read_is_an_error_and_no_limit_is_none() {
    let server = Server::fixture("scripted", &[]);
    server.wait_ready();
    let body = instance(action::ANSWER, 1.0);
    for (fields, status) in [
        ("X-Request-Timeout: soon\r\n", 400),
        ("X-Request-Timeout: 0\r\n", 400),
        ("X-Request-Timeout: -1\r\n", 400),
        ("X-Request-Timeout: 1e9\r\n", 400),
        ("X-Request-Timeout: 2.5\r\n", 200),
        ("X-Request-Timeout: 2500ms\r\n", 200),
        ("X-Envoy-Expected-Rq-Timeout-Ms: 0\r\n", 200),
        ("X-Envoy-Expected-Rq-Timeout-Ms: ?\r\n", 200),
    ] {
        assert_eq!(
            send(&server, &body, fields).read().status,
            status,
            "{fields}"
        );
    }
}

#[test]
fn a_large_batch_lets_others_in_between_its_slices() {
    let mut server = Server::fixture("scripted", &["--predict-workers", "1"]);
    server.wait_ready();
    let mut actions = [action::ANSWER; 64];
    // One row blocks in the first slice, and one in a later slice.
    (actions[0], actions[40]) = (action::BLOCK, action::BLOCK);
    let mut large = server.begin(&batch(&actions));
    eventually("the batch has begun", || has_hung(&server));
    let mut small = server.begin(&instance(action::ANSWER, 7.0));
    eventually("the small one waits", || server.queued() == 1);
    server.tell("release");
    assert_eq!(small.read().json()["predictions"][0], 7.0);
    // The batch cannot have been answered yet: its second block is released only now.
    server.tell("release");
    let predictions: Vec<f64> = (0..64).map(f64::from).collect();
    assert_eq!(
        large.read().json()["predictions"],
        serde_json::json!(predictions)
    );
    assert_eq!(server.status()["predictions"]["succeeded"], 2);
}

#[test]
fn a_batch_whose_client_has_left_is_not_computed_to_its_end() {
    let mut server = Server::fixture("scripted", &["--predict-workers", "1"]);
    server.wait_ready();
    let mut actions = [action::ANSWER; 64];
    (actions[0], actions[40]) = (action::BLOCK, action::PANIC);
    let large = server.begin(&batch(&actions));
    eventually("the batch has begun", || has_hung(&server));
    large.reset();
    eventually("its client's leaving is known", || {
        server.status()["predictions"]["abandoned"] == 1
    });
    server.tell("release");
    assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
    assert_eq!(server.status()["predictions"]["panicked"], 0);
}

#[test]
fn one_tenant_that_floods_is_held_to_its_share() {
    let args = ["--fair-by", "header:X-Tenant", "--max-wait", "none"];
    let mut server = experienced(&args);
    let mut running = send(&server, &instance(action::BLOCK, 1.0), "X-Tenant: b\r\n");
    eventually("the worker is busy", || has_hung(&server));
    let mut admitted = Vec::new();
    let refusal = loop {
        let before = server.queued();
        let mut flood = send(&server, &instance(action::ANSWER, 2.0), "x-tenant: a\r\n");
        let mut refusal = None;
        eventually("it waits or is refused", || {
            refusal = flood.answered_within(Duration::from_millis(20));
            refusal.is_some() || server.queued() > before
        });
        match refusal {
            Some(refusal) => break refusal,
            None => admitted.push(flood),
        }
        assert!(admitted.len() < 200, "nobody is refused");
    };
    assert_eq!(refusal.code(), "overloaded");
    assert!(
        refusal.json()["error"]
            .as_str()
            .unwrap()
            .contains("--fair-by")
    );
    let before = server.queued();
    let mut modest = send(&server, &instance(action::ANSWER, 3.0), "X-Tenant: b\r\n");
    eventually("the other one is admitted", || server.queued() > before);
    server.tell("release");
    assert_eq!(running.read().status, 200);
    assert_eq!(modest.read().json()["predictions"][0], 3.0);
    for flood in &mut admitted {
        assert_eq!(flood.read().status, 200);
    }
}
