//! Each kind of thread ends or hangs: the server recovers as promised and leaks nothing.

use crate::support::{Connection, Server, action, eventually, exchange, instance};

const ALIVE: &str = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";

fn get(path: &str) -> String {
    ALIVE.replace("/livez", path)
}

fn server(args: &[&str]) -> (Server, Vec<String>, (usize, usize)) {
    let server = Server::fixture("scripted", args);
    server.wait_ready();
    assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
    eventually("the loader has ended", || {
        !server.threads().iter().any(|name| name == "loader")
    });
    // The server is at rest once eight looks in a row see the same.
    let look = || (server.threads(), server.resources());
    let mut looks = vec![look()];
    eventually("the server is at rest", || {
        looks.push(look());
        let last = &looks[looks.len().saturating_sub(8)..];
        last.len() == 8 && last.iter().all(|one| *one == last[0])
    });
    let (threads, resources) = look();
    (server, threads, resources)
}

/// Waits until the server works, with the same threads and descriptors as when it was idle.
fn check_recovered(server: &Server, threads: &[String], resources: (usize, usize)) {
    eventually("probes and predictions work", || {
        server.get("/readyz").status == 200
            && server.probe("/livez").status == 200
            && server.predict(&instance(action::ANSWER, 1.0)).status == 200
    });
    eventually("threads and descriptors are back", || {
        server.threads() == threads && server.resources() == resources
    });
}

#[test]
fn a_prediction_worker_that_ends_is_replaced_and_its_client_answered() {
    let (mut server, threads, resources) = server(&["--predict-workers", "2"]);
    for _ in 0..3 {
        server.tell("panic predict");
        let mut lost = None;
        eventually("a worker ends", || {
            let response = server.predict(&instance(action::ANSWER, 1.0));
            (response.status == 500)
                .then(|| lost = Some(response))
                .is_some()
        });
        assert_eq!(lost.unwrap().code(), "internal");
    }
    check_recovered(&server, &threads, resources);
    assert_eq!(server.status()["threads_replaced"], 3);
    assert!(
        server
            .logged()
            .contains("ended (panicked: told to end PredictionWorker); it is replaced"),
        "{}",
        server.logged()
    );
}

#[test]
fn probe_workers_that_end_or_hang_cost_no_probe_its_answer() {
    let (mut server, threads, resources) = server(&[]);
    let probes_pass = |server: &Server| {
        for _ in 0..10 {
            for path in ["/livez", "/readyz", "/startupz", "/livez/workers"] {
                assert_eq!(exchange(server.main, &get(path)).status, 200, "{path}");
            }
        }
    };
    server.tell("panic probe");
    eventually("a worker ends", || {
        probes_pass(&server);
        server.logged().contains("told to end ProbeWorker")
    });
    check_recovered(&server, &threads, resources);
    assert_eq!(server.status()["threads_replaced"], 1);
    for _ in 0..2 {
        server.tell("hang probe");
        // The first probe makes a worker hang.
        probes_pass(&server);
        assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
    }
    server.tell("release");
    check_recovered(&server, &threads, resources);
}

#[test]
fn probes_are_answered_while_probe_workers_hang_and_their_queue_fills() {
    let small = ["--max-connections", "24", "--predict-queue", "2"];
    let few = ["--predict-workers", "1", "--max-probe-connections", "4"];
    let mut server = Server::fixture("scripted", &[small, few].concat());
    server.wait_ready();
    for _ in 0..2 {
        server.tell("hang probe");
        assert_eq!(server.get("/livez").status, 200);
    }
    // The probe queue holds 24 + 4 + 16 jobs; 70 probes are more than that.
    for probe in 0..70 {
        assert_eq!(server.probe("/livez").status, 200, "probe {probe}");
    }
    server.tell("release");
    eventually("probe workers answer again", || {
        exchange(server.main, &get("/statusz")).status == 200
    });
}

#[test]
fn an_acceptor_that_ends_is_replaced_and_its_client_answered() {
    let (mut server, threads, resources) = server(&[]);
    server.tell("panic acceptor");
    let mut lost = None;
    eventually("the acceptor ends with a prediction in its hands", || {
        let response = server.predict(&instance(action::ANSWER, 1.0));
        (response.status == 500)
            .then(|| lost = Some(response))
            .is_some()
    });
    assert_eq!(lost.unwrap().code(), "internal");
    check_recovered(&server, &threads, resources);
    server.tell("panic acceptor");
    eventually("the acceptor ends with a probe in its hands", || {
        assert_eq!(server.probe("/livez").status, 200);
        server.logged().matches("told to end Acceptor").count() >= 2
    });
    check_recovered(&server, &threads, resources);
}

#[test]
fn an_acceptor_that_has_been_stuck_for_the_limit_fails_livez() {
    let args = ["--stall-timeout", "500ms", "--request-timeout", "400ms"];
    let (mut server, threads, resources) = server(&args);
    server.tell("hang acceptor");
    eventually("the acceptor is stuck", || {
        server.probe("/livez").body == "Service has stopped completing predictions"
    });
    let told = server.probe("/livez/acceptor");
    assert_eq!(told.status, 500);
    assert!(
        told.body
            .contains("[-]acceptor failed: the acceptor has been on one job"),
        "{}",
        told.body
    );
    assert_eq!(server.get("/readyz").status, 500);
    server.tell("release");
    check_recovered(&server, &threads, resources);
}

#[test]
fn an_acceptor_that_hangs_answers_nobody_and_goes_on_when_it_moves() {
    let (mut server, threads, resources) = server(&[]);
    server.tell("hang acceptor");
    let mut held = Connection::open(server.probe.unwrap());
    eventually("the acceptor hangs", || {
        held = Connection::open(server.probe.unwrap());
        held.stream
            .set_read_timeout(Some(std::time::Duration::from_millis(300)))
            .unwrap();
        held.send(ALIVE.as_bytes());
        held.try_read(true).is_none()
    });
    server.tell("release");
    check_recovered(&server, &threads, resources);
}

#[test]
fn connection_threads_that_end_are_replaced() {
    let (mut server, threads, resources) = server(&[]);
    for _ in 0..6 {
        server.tell("panic connection");
        eventually("a connection is lost", || {
            let mut connection = Connection::open(server.main);
            connection.send(ALIVE.as_bytes());
            connection.try_read(true).is_none()
        });
    }
    check_recovered(&server, &threads, resources);
}

#[test]
fn a_connection_thread_that_hangs_holds_its_own_client_only() {
    let (mut server, threads, resources) = server(&[]);
    server.tell("hang connection");
    let mut held = None;
    eventually("one hangs", || {
        let mut connection = Connection::open(server.main);
        connection
            .stream
            .set_read_timeout(Some(std::time::Duration::from_millis(300)))
            .unwrap();
        connection.send(ALIVE.as_bytes());
        connection.try_read(true).is_none() && held.replace(connection).is_none()
    });
    for _ in 0..10 {
        assert_eq!(exchange(server.main, ALIVE).status, 200);
    }
    server.tell("release");
    drop(held);
    check_recovered(&server, &threads, resources);
}

#[test]
fn the_evicting_thread_is_replaced_when_it_ends_and_may_hang() {
    let args = ["--max-connections", "20", "--predict-queue", "2"];
    let (mut server, threads, resources) = server(&args);
    server.tell("panic reserve");
    let main = server.main;
    let full = || -> Vec<Connection> { (0..20).map(|_| Connection::open(main)).collect() };
    let mut held = full();
    eventually("the thread ends and another makes room", || {
        server.status()["threads_replaced"] == 1 && exchange(server.main, ALIVE).status == 200
    });
    drop(held);
    check_recovered(&server, &threads, resources);
    server.tell("hang reserve");
    held = full();
    assert_eq!(server.probe("/livez").status, 200);
    drop(held);
    eventually("there is room again", || {
        exchange(server.main, ALIVE).status == 200
    });
    server.tell("release");
    check_recovered(&server, &threads, resources);
}

#[test]
fn a_canary_that_ends_is_replaced_and_one_that_hangs_holds_no_probe() {
    let (mut server, threads, resources) = server(&["--canary-interval", "20ms"]);
    server.tell("panic canary");
    eventually("the canary ends", || {
        server.status()["threads_replaced"] == 1
    });
    check_recovered(&server, &threads, resources);
    server.tell("hang canary");
    for _ in 0..20 {
        assert_eq!(server.get("/readyz").status, 200);
    }
    server.tell("release");
    check_recovered(&server, &threads, resources);
}

#[test]
fn a_log_thread_that_ends_is_replaced_and_one_that_hangs_holds_nobody() {
    let (mut server, threads, resources) = server(&[]);
    server.tell("panic log");
    eventually("the log thread ends", || {
        let _ = server.predict(&instance(action::ANSWER, 1.0));
        server.status()["threads_replaced"] == 1
    });
    check_recovered(&server, &threads, resources);
    server.tell("hang log");
    for _ in 0..50 {
        assert_eq!(server.predict(&instance(action::ANSWER, 1.0)).status, 200);
        assert_eq!(server.get("/livez").status, 200);
    }
    server.tell("release");
    check_recovered(&server, &threads, resources);
}

#[test]
fn prediction_workers_that_hang_leave_probes_their_truth() {
    let (mut server, threads, resources) = server(&[
        "--predict-workers",
        "2",
        "--stall-timeout",
        "300ms",
        "--request-timeout",
        "100ms",
    ]);
    let clients: Vec<Connection> = (0..2)
        .map(|_| server.begin(&instance(action::BLOCK, 1.0)))
        .collect();
    eventually("livez fails", || server.probe("/livez").status == 500);
    eventually("the log has the stall report", || {
        server.logged().contains("stall report: predict-1 (thread ")
    });
    server.tell("release");
    drop(clients);
    check_recovered(&server, &threads, resources);
}
