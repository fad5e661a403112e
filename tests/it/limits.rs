//! The limits on what clients may hold and send: within them a request is served; beyond one, its error
//! names the limit.

use std::time::Duration;

use crate::support::{Connection, Server, action, eventually, exchange, instance, predict_request};

/// A request whose head announces a body that is not sent.
fn announced(bytes: usize) -> String {
    format!("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n")
}

#[test]
fn startupz_turns_when_the_first_model_is_there_and_never_back() {
    let mut server = Server::fixture("slow-load", &["--drain-grace", "60s"]);
    for response in [server.get("/startupz"), server.probe("/startupz")] {
        assert_eq!(
            (
                response.status,
                response.body.as_str(),
                response.field("retry-after")
            ),
            (503, "model is loading", "1")
        );
    }
    server.tell("release");
    eventually("it has started", || server.probe("/startupz").status == 200);
    let told = server.get("/startupz?verbose").body;
    assert_eq!(told, "[+]model ok\nstartupz check passed\n");
    server.signal(rustix::process::Signal::TERM);
    eventually("it drains", || server.probe("/readyz").status == 503);
    assert_eq!(server.probe("/startupz").body, "ok");
}

#[test]
fn a_model_whose_trial_fails_has_started_all_the_same() {
    let server = Server::fixture("wrong", &[]);
    eventually("it has started", || server.probe("/startupz").status == 200);
    assert_eq!(server.probe("/readyz").status, 500);
}

#[test]
fn more_rows_than_the_limit_are_413_and_name_it() {
    let server = Server::fixture("scripted", &["--max-rows", "3"]);
    server.wait_ready();
    let rows = |count: usize| format!("{{\"instances\": [{}]}}", vec!["[0, 1]"; count].join(","));
    assert_eq!(server.predict(&rows(3)).status, 200);
    let response = server.predict(&rows(4));
    assert_eq!(
        (response.status, response.code().as_str()),
        (413, "content_too_large")
    );
    assert!(
        response.body.contains("3 instances (--max-rows)"),
        "{}",
        response.body
    );
    assert_eq!(server.status()["clients"]["content_too_large"], 1);
}

#[test]
fn large_bodies_over_the_budget_are_refused_and_small_predictions_are_not() {
    let server = Server::fixture(
        "scripted",
        &[
            "--max-buffered",
            "4MiB",
            "--max-connections",
            "40",
            "--predict-queue",
            "8",
            "--predict-workers",
            "1",
        ],
    );
    server.wait_ready();
    // Half of the budget is reserved for small requests; one body fills the other half.
    let mut holder = Connection::open(server.main);
    holder.send(announced(2_000_000).as_bytes());
    holder.send(&vec![b' '; 1_900_000]);
    eventually("its bytes are held", || {
        server.status()["buffered"]["bytes"].as_u64().unwrap() >= 1_900_000
    });
    let refused = exchange(server.main, &announced(1_000_000));
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "over_budget")
    );
    assert!(refused.body.contains("--max-buffered"), "{}", refused.body);
    assert_eq!(refused.field("retry-after"), "1");
    let mut chunked = Connection::open(server.main);
    chunked
        .send(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nF4240\r\n");
    // Writing may fail, because the server may refuse it and close before all is sent.
    let _ = std::io::Write::write_all(&mut chunked.stream, &vec![b' '; 1_000_000]);
    assert_eq!(chunked.read().code(), "over_budget");
    for _ in 0..10 {
        let response = server.predict(&instance(action::ANSWER, 2.0));
        assert_eq!(response.status, 200, "{response:?}");
    }
    assert_eq!(server.status()["clients"]["over_budget"], 2);
    drop(holder);
    eventually("all is given back", || {
        server.status()["buffered"]["bytes"] == 0
    });
    // A large request within the budget is answered, and its memory is returned.
    let body = format!("{{\"instances\": [{}]}}", vec!["[0, 1]"; 20_000].join(","));
    assert_eq!(server.predict(&body).status, 200);
    eventually("all is given back", || {
        server.status()["buffered"]["bytes"] == 0
    });
}

#[test]
fn one_address_may_have_so_many_connections_and_its_idle_ones_make_room() {
    let args = [
        "--max-connections-per-address",
        "3",
        "--predict-workers",
        "1",
    ];
    let mut server = Server::fixture("scripted", &args);
    // Ask on the probe listener: a connection to the main one would count towards the limit.
    eventually("the server is ready", || {
        server.probe("/readyz").status == 200
    });
    let mut owed: Vec<Connection> = (0..3)
        .map(|_| server.begin(&instance(action::BLOCK, 1.0)))
        .collect();
    eventually("all three are owed an answer", || {
        server.busy() == 1 && server.queued() == 2
    });
    let refused = server.get("/livez");
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "too_many_connections")
    );
    assert!(refused.body.contains("--max-connections-per-address"));
    assert_eq!(server.status()["clients"]["per_address"], 1);
    for answered in 1..=3 {
        server.tell("release");
        eventually("one more is answered", || {
            server.status()["predictions"]["succeeded"] == answered
        });
    }
    for connection in &mut owed {
        assert_eq!(connection.read().status, 200);
    }
    eventually("an idle one goes", || server.get("/livez").status == 200);
    let closed = owed.iter_mut().any(|connection| {
        let soon = Some(Duration::from_millis(100));
        connection.stream.set_read_timeout(soon).unwrap();
        connection.is_closed()
    });
    assert!(closed, "of its own");
}

#[test]
fn an_answer_is_written_for_as_long_as_its_client_takes_it() {
    let server = Server::fixture("scripted", &["--write-timeout", "400ms"]);
    server.wait_ready();
    let body = format!(
        "{{\"instances\": [{}]}}",
        vec!["[0, 0.1234567890123]"; 90_000].join(",")
    );
    let connect = || {
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&server.main.into()).unwrap();
        let mut stream: std::net::TcpStream = socket.into();
        let request = predict_request(&body, "Connection: close\r\n");
        std::io::Write::write_all(&mut stream, request.as_bytes()).unwrap();
        stream
    };
    // A client that reads nothing is disconnected.
    let deaf = connect();
    eventually("it is counted", || {
        server.status()["clients"]["write_timeout"] == 1
    });
    drop(deaf);
    // A client that reads a little within each deadline gets the whole answer, however long it takes.
    let mut slow = connect();
    let started = std::time::Instant::now();
    let mut taken = 0;
    let mut piece = vec![0; 30_000];
    loop {
        let count = std::io::Read::read(&mut slow, &mut piece).unwrap();
        taken += count;
        if count == 0 {
            break;
        }
        if started.elapsed() < Duration::from_secs(2) {
            // In all five times the deadline.
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    assert!(taken > 90_000 * 16, "{taken}");
    assert_eq!(server.status()["clients"]["write_timeout"], 1);
    assert_eq!(server.status()["buffered"]["bytes"], 0);
}
