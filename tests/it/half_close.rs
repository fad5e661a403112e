//! Clients that half-close after a request, as `nc -N` does, get their answer. Clients that leave are
//! counted, and nothing is computed for them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

use crate::support::{
    Connection, PATIENCE, Server, action, eventually, exchange, instance, predict_request,
};

/// A server with one worker that is busy until the test says `release`.
fn busy_server(args: &[&str]) -> (Server, Connection) {
    let usual = ["--predict-workers=1", "--max-wait=none"];
    let server = Server::fixture("scripted", &[&usual, args].concat());
    server.wait_ready();
    let running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || server.busy() == 1);
    (server, running)
}

/// Waits until the oldest queued prediction has waited long enough for a FIN to mean a departure, and
/// its connection has checked again since.
fn wait_until_decided(server: &Server) {
    eventually("what waits has waited for a while", || {
        let age = &server.status()["lanes"]["predict"]["queue_oldest_age_seconds"];
        age.as_f64().is_some_and(|age| age > 0.8)
    });
}

#[test]
fn a_client_that_half_closes_gets_its_answer_however_long_it_waits() {
    let (mut server, running) = busy_server(&[]);
    let mut client = server.begin(&instance(action::ANSWER, 7.0));
    client.finish_sending();
    let mut also = Connection::open(server.main);
    also.send(b"GET /statusz HTTP/1.1\r\nHost: a\r\n\r\n");
    also.finish_sending();
    assert_eq!(also.read().status, 200);
    wait_until_decided(&server);
    assert_eq!(server.status()["predictions"]["abandoned"], 0);
    server.tell("release");
    let answer = client.read();
    assert_eq!(
        (answer.status, answer.json()["predictions"][0].as_f64()),
        (200, Some(7.0))
    );
    assert!(client.is_closed(), "nothing more can come on it");
    drop(running);
}

#[test]
fn a_client_that_half_closes_gets_a_large_answer_whole() {
    let server = Server::real(&[]);
    server.wait_ready();
    let rows = vec![[5.1, 3.5, 1.4, 0.2]; 40_000];
    let body = serde_json::json!({"instances": rows}).to_string();
    for _ in 0..3 {
        let mut client = server.begin(&body);
        client.finish_sending();
        let answer = client.read();
        assert_eq!(answer.status, 200);
        assert_eq!(
            answer.json()["predictions"].as_array().unwrap().len(),
            40_000
        );
    }
    assert_eq!(server.status()["predictions"]["abandoned"], 0);
}

#[test]
fn a_client_that_half_closes_behind_two_requests_gets_two_answers() {
    let (mut server, running) = busy_server(&["--pace-later=20"]);
    let request = predict_request(&instance(action::ANSWER, 3.0), "");
    let mut client = Connection::open(server.main);
    // These cheap responses are rate-limited; while one is delayed, the connection looks for a FIN.
    let cheap = "GET /nothing HTTP/1.1\r\nHost: a\r\n\r\n".repeat(12);
    client.send(format!("{cheap}{request}").as_bytes());
    client.finish_sending();
    for _ in 0..12 {
        assert_eq!(client.read().status, 404);
    }
    eventually("it waits", || server.queued() == 1);
    server.tell("release");
    assert_eq!(client.read().status, 200);
    drop(running);
}

#[test]
fn a_client_that_half_closes_behind_a_large_body_is_read_to_the_end() {
    // Reading the body is rate-limited, because a prediction runs.
    let (mut server, running) = busy_server(&["--pace-bodies=1MiB"]);
    let rows = vec![[action::ANSWER, 1.0]; 100_000];
    let body = serde_json::json!({"instances": rows}).to_string();
    assert!(body.len() > 800_000);
    let mut client = server.begin(&body);
    client.finish_sending();
    eventually("it has been read", || server.queued() == 1);
    server.tell("release");
    assert_eq!(client.read().status, 200);
    drop(running);
}

#[test]
fn a_client_that_closes_later_is_dropped_uncomputed() {
    let (mut server, running) = busy_server(&[]);
    let client = server.begin(&instance(action::PANIC, 1.0));
    eventually("it waits", || server.queued() == 1);
    wait_until_decided(&server);
    drop(client);
    eventually("its departure is counted", || {
        server.status()["predictions"]["abandoned"] == 1
    });
    server.tell("release");
    eventually("the lane is empty", || {
        server.queued() == 0 && server.busy() == 0
    });
    assert_eq!(
        server.status()["predictions"]["panicked"],
        0,
        "it was computed"
    );
    drop(running);
}

#[test]
fn on_a_unix_socket_a_half_close_is_answered_and_a_close_dropped() {
    let path = std::env::temp_dir().join(format!("lanekeeper-half-{}.sock", std::process::id()));
    let listen = format!("--listen=unix:{}", path.display());
    let mut server = Server::fixture(
        "scripted",
        &[
            &listen,
            "--probe-listen=127.0.0.1:0",
            "--predict-workers=1",
            "--max-wait=none",
        ],
    );
    let connect = |request: &str| {
        let mut client = UnixStream::connect(&path).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client
    };
    let probe = server.probe.unwrap();
    let ready = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    eventually("the server is ready", || {
        exchange(probe, ready).status == 200
    });
    let running = connect(&predict_request(&instance(action::BLOCK, 1.0), ""));
    eventually("the worker is busy", || server.busy() == 1);
    let mut half_closed = connect(&predict_request(&instance(action::ANSWER, 7.0), ""));
    half_closed.shutdown(Shutdown::Write).unwrap();
    let closed = connect(&predict_request(&instance(action::PANIC, 1.0), ""));
    eventually("both wait", || server.queued() == 2);
    drop(closed);
    eventually("one departure is counted", || {
        server.status()["predictions"]["abandoned"] == 1
    });
    wait_until_decided(&server);
    assert_eq!(server.status()["predictions"]["abandoned"], 1);
    server.tell("release");
    let mut answer = String::new();
    half_closed.read_to_string(&mut answer).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains("7.0"),
        "{answer}"
    );
    assert_eq!(
        server.status()["predictions"]["panicked"],
        0,
        "it was computed"
    );
    drop(running);
}

#[test]
fn a_departure_while_the_acceptor_is_late_is_counted_as_abandoned() {
    let mut server = Server::fixture("scripted", &["--predict-workers=1"]);
    server.wait_ready();
    server.tell("hang acceptor");
    // The acceptor hangs on the first job; the second waits behind it.
    let first = server.begin(&instance(action::ANSWER, 1.0));
    eventually("the acceptor hangs", || {
        server.logged().contains("fixture: hangs")
    });
    let second = server.begin(&instance(action::ANSWER, 2.0));
    let counted = |server: &Server, outcome: &str| {
        let name = format!("lanekeeper_predictions_total{{outcome=\"{outcome}\"}} ");
        let body = server.probe("/metrics").body;
        let line = body
            .lines()
            .find_map(|line| line.strip_prefix(&name))
            .map(str::to_owned);
        line.unwrap().parse::<f64>().unwrap()
    };
    first.reset();
    second.reset();
    eventually("both departures are counted", || {
        counted(&server, "abandoned") == 2.0
    });
    server.tell("release");
    eventually("the acceptor goes on", || {
        server.predict(&instance(action::ANSWER, 3.0)).status == 200
    });
    // `status` asks on the probe listener, so it adds no connection to the main one.
    eventually("their connections have ended", || {
        server.status()["connections"]["main"] == 0
    });
    let status = server.status();
    let predictions = &status["predictions"];
    assert_eq!(
        (&predictions["abandoned"], &predictions["lost"]),
        (&serde_json::json!(2), &serde_json::json!(0)),
        "{status}"
    );
    assert_eq!(
        (counted(&server, "abandoned"), counted(&server, "failed")),
        (2.0, 0.0)
    );
}
