//! How a server starts and ends.

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{
    Connection, Killed, Server, action, eventually, exchange, instance, predict_request,
};

#[test]
fn a_signal_ends_an_idle_server_at_once_with_exit_code_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Server::real(&["--drain-grace", "0s"]);
        server.signal(signal);
        assert_eq!(server.wait().code(), Some(0), "{signal:?}");
        assert!(server.logged().contains("stopped"), "{}", server.logged());
    }
}

#[test]
fn during_the_grace_only_readyz_fails_and_connections_close() {
    let server = Server::fixture("scripted", &["--drain-grace", "60s"]);
    server.wait_ready();
    let mut kept = Connection::open(server.main);
    server.signal(Signal::TERM);
    eventually("readyz fails", || server.get("/readyz").status == 503);
    let ready = server.probe("/readyz");
    assert_eq!(
        (ready.body.as_str(), ready.field("retry-after")),
        ("draining", "1")
    );
    let live = server.probe("/livez");
    assert_eq!((live.status, live.field("connection")), (200, "close"));
    kept.send(crate::support::predict_request(&instance(action::ANSWER, 3.0), "").as_bytes());
    let response = kept.read();
    assert_eq!(
        (response.status, response.field("connection")),
        (200, "close")
    );
    assert!(kept.is_closed());
}

/// A server with a prediction that blocks, during its drain.
fn draining(args: &[&str]) -> (Server, Connection) {
    let args = [
        &["--drain-grace", "0s", "--drain-timeout", "60s"],
        &["--predict-workers", "1"][..],
        args,
    ];
    let server = Server::fixture("scripted", &args.concat());
    server.wait_ready();
    let running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it runs", || server.busy() == 1);
    server.signal(Signal::TERM);
    eventually("it drains", || server.logged().contains("draining: "));
    (server, running)
}

#[test]
fn another_sigterm_is_logged_and_drops_nothing() {
    let (mut server, mut running) = draining(&[]);
    for again in 1..=3 {
        server.signal(Signal::TERM);
        let lines = || server.logged().matches("SIGTERM came again").count();
        eventually("it is logged", || lines() == again);
    }
    assert_eq!(server.probe("/livez").status, 200);
    server.tell("release");
    assert_eq!(running.read().status, 200, "what is in flight is answered");
    assert_eq!(server.wait().code(), Some(0));
}

/// Sends `signal` again and again until the process has ended.
fn signal_until_it_ends(server: &mut Server, signal: Signal) -> Option<i32> {
    eventually("it ends", || {
        server.signal(signal);
        server.has_ended()
    });
    server.wait().code()
}

#[test]
fn a_second_sigint_ends_the_server_unless_a_wrapper_doubled_the_first() {
    let began = Instant::now();
    let (mut server, _running) = draining(&[]);
    // Signals within half a second of the first do not end the server.
    assert_eq!(signal_until_it_ends(&mut server, Signal::INT), Some(130));
    assert!(began.elapsed() >= Duration::from_millis(500));
    eventually("it says so", || {
        server.logged().contains("ended at once by SIGINT")
    });
    // The same if the drain began with a SIGINT.
    let mut server = Server::real(&["--drain-grace", "60s"]);
    server.wait_ready();
    assert_eq!(signal_until_it_ends(&mut server, Signal::INT), Some(130));
}

#[test]
fn sigquit_ends_the_server_at_once() {
    let mut server = Server::real(&["--drain-grace", "60s"]);
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(130));
    let (mut server, _running) = draining(&[]);
    server.signal(Signal::QUIT);
    assert_eq!(server.wait().code(), Some(130));
}

#[test]
fn socket_files_are_removed_when_a_server_is_ended_at_once() {
    let name = |what: &str| {
        std::env::temp_dir().join(format!("lanekeeper-{what}-{}.sock", std::process::id()))
    };
    for hangs in [false, true] {
        let path = name(if hangs { "hangs" } else { "ends" });
        let probe = format!("unix:{}", path.display());
        let (mut server, _running) = draining(&["--probe-listen", &probe]);
        assert!(path.exists());
        if hangs {
            server.tell("hang main");
            // Two hangs: the main thread and the prediction.
            eventually("the main thread hangs", || {
                server.logged().matches("fixture: hangs").count() == 2
            });
        }
        let began = Instant::now();
        server.signal(Signal::QUIT);
        assert_eq!(server.wait().code(), Some(130), "{hangs}");
        assert_eq!(path.exists(), hangs);
        assert!(!hangs || began.elapsed() >= Duration::from_millis(900));
        let _ = std::fs::remove_file(path);
    }
}

#[test]
fn signals_that_mean_nothing_to_a_server_do_not_end_it() {
    for signal in [Signal::USR1, Signal::USR2, Signal::XFSZ] {
        let server = Server::real(&[]);
        server.wait_ready();
        server.signal(signal);
        assert_eq!(server.get("/livez").status, 200, "{signal:?}");
        assert_eq!(server.probe("/readyz").status, 200, "{signal:?}");
    }
}

#[test]
fn a_log_that_may_not_grow_any_more_ends_nothing() {
    let path = std::env::temp_dir().join(format!("lanekeeper-grown-{}", std::process::id()));
    // The limit is one block, 512 or 1024 bytes depending on the shell.
    let script = r#"ulimit -f 1; exec "$0" serve --listen 127.0.0.1:0 2>"$1""#;
    let server = Command::new("sh")
        .args(["-c", script, env!("CARGO_BIN_EXE_lanekeeper")])
        .arg(&path)
        .spawn();
    let mut server = Killed(server.unwrap());
    let log = || std::fs::read_to_string(&path).unwrap_or_default();
    eventually("it listens", || log().contains("listening on http://"));
    let told = log();
    let place = told.split("listening on http://").nth(1).unwrap();
    let main: SocketAddr = place.split(',').next().unwrap().parse().unwrap();
    let ready = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    eventually("it is ready", || exchange(main, ready).status == 200);
    let predict = predict_request(r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#, "");
    let mut connection = Connection::open(main);
    eventually("the log is full", || {
        connection.send(predict.as_bytes());
        assert_eq!(connection.read().status, 200);
        [512, 1024].contains(&std::fs::metadata(&path).unwrap().len())
    });
    for _ in 0..100 {
        connection.send(predict.as_bytes());
        assert_eq!(connection.read().status, 200);
    }
    assert_eq!(exchange(main, ready).status, 200);
    let pid = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(pid, Signal::QUIT).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(130));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn admitted_predictions_finish_and_new_ones_are_refused() {
    let args = [
        "--drain-grace",
        "0s",
        "--predict-workers",
        "1",
        "--max-wait",
        "20s",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut idle = Connection::open(server.main);
    idle.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(idle.read().status, 200);
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it runs", || server.busy() == 1);
    let mut queued = server.begin(&instance(action::ANSWER, 2.0));
    eventually("it waits", || server.queued() == 1);
    server.signal(Signal::TERM);
    assert!(idle.is_closed(), "an idle connection is closed");
    let refused = server.predict(&instance(action::ANSWER, 3.0));
    assert_eq!((refused.status, refused.code().as_str()), (503, "draining"));
    assert_eq!(refused.field("retry-after"), "1");
    assert_eq!(
        server.probe("/livez").status,
        200,
        "probes are answered to the last"
    );
    server.tell("release");
    for (connection, value) in [(&mut running, 1.0), (&mut queued, 2.0)] {
        let response = connection.read();
        assert_eq!(
            (response.status, response.json()["predictions"][0].as_f64()),
            (200, Some(value))
        );
        assert_eq!(response.field("connection"), "close");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn the_end_of_the_drain_answers_the_queue_and_joins_no_hung_worker() {
    let args = [
        "--drain-grace",
        "0s",
        "--drain-timeout",
        "300ms",
        "--predict-workers",
        "1",
        "--max-wait",
        "20s",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut hung = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it runs", || server.busy() == 1);
    let mut queued = server.begin(&instance(action::ANSWER, 2.0));
    eventually("it waits", || server.queued() == 1);
    server.signal(Signal::TERM);
    for connection in [&mut hung, &mut queued] {
        let response = connection.read();
        assert_eq!(
            (response.status, response.code().as_str()),
            (503, "draining")
        );
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_server_that_is_still_loading_ends_on_a_signal() {
    let mut server = Server::fixture("slow-load", &[]);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_model_that_fails_to_load_ends_the_server_with_exit_code_1() {
    for (source, text) in [
        ("none", "told not to load none"),
        (
            "panicking-load",
            "loading the model panicked: told to panic",
        ),
    ] {
        let mut server = Server::fixture(source, &[]);
        assert_eq!(server.wait().code(), Some(1), "{source}");
        eventually("the reason is told", || server.logged().contains(text));
    }
}

#[test]
fn at_the_cap_idle_connections_are_evicted_and_busy_ones_are_not() {
    let args = [
        "--max-connections",
        "20",
        "--predict-workers",
        "1",
        "--predict-queue",
        "3",
        "--max-wait",
        "20s",
        "--idle-timeout",
        "60s",
        "--head-timeout",
        "60s",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let open = |count: usize| -> Vec<Connection> {
        (0..count).map(|_| Connection::open(server.main)).collect()
    };
    // One before the others, so that it has been idle longest.
    let mut idle = open(1);
    let are_open = |count: usize| server.status()["connections"]["main"] == count;
    eventually("one is open", || are_open(1));
    std::thread::sleep(std::time::Duration::from_millis(5)); // idle times are compared in milliseconds
    idle.extend(open(19));
    eventually("all are open", || are_open(20));
    let alive = "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(
        exchange(server.main, alive).status,
        200,
        "one more is served"
    );
    assert!(idle[0].is_closed(), "in place of the one idle longest");
    drop(idle);
    let begin = || server.begin(&instance(action::BLOCK, 1.0));
    let mut owed = vec![begin()];
    eventually("one runs", || server.busy() == 1);
    owed.extend([begin(), begin(), begin()]);
    eventually("three wait", || server.queued() == 3);
    // If no connection is idle, slow senders are evicted. A connection that is owed an answer never is.
    let mut slow = open(16);
    for connection in &mut slow {
        connection.send(b"GET /livez HTTP/1.1\r\n");
    }
    for _ in 0..8 {
        assert_eq!(exchange(server.main, alive).status, 200);
    }
    assert_eq!(
        server.probe("/livez").status,
        200,
        "the probe listener has connections of its own"
    );
    let evicted = server.status()["clients"]["evicted"].as_u64().unwrap();
    assert!(evicted >= 2, "{evicted}");
    eventually("the log tells of it", || {
        server
            .logged()
            .contains("connections were closed for new ones")
    });
    for answered in 1..=4 {
        server.tell("release");
        eventually("one more is answered", || {
            server.status()["predictions"]["succeeded"] == answered
        });
    }
    for connection in &mut owed {
        assert_eq!(connection.read().status, 200);
    }
}

#[test]
fn the_log_says_why_there_are_so_many_workers_and_statusz_has_the_cgroup() {
    let server = Server::real(&["--predict-workers", "3", "--max-buffered", "64MiB"]);
    server.wait_ready();
    eventually("it is told", || {
        server.logged().contains("prediction worker")
    });
    let logged = server.logged();
    let reasons = logged
        .lines()
        .find(|line| line.contains("prediction worker"))
        .unwrap_or_else(|| panic!("{logged}"));
    for part in [
        "3 prediction workers as asked for: ",
        "cgroup quota",
        "memory limit",
        "--max-buffered 64MiB (as asked for)",
    ] {
        assert!(reasons.contains(part), "{part} in {reasons}");
    }
    let status = server.status();
    let cgroup = status["cgroup"].as_object().unwrap();
    for name in [
        "cpu_quota",
        "throttled_periods",
        "throttled_seconds",
        "memory_bytes",
        "memory_bytes_max",
    ] {
        let value = &cgroup[name];
        assert!(value.is_null() || value.is_number(), "{name}: {value}");
    }
    assert_eq!(status["buffered"]["bytes_max"], 64 << 20);

    // Without options, the log line has the numbers in use.
    let server = Server::real(&[]);
    let status = server.status();
    let workers = status["lanes"]["predict"]["workers"].as_u64().unwrap();
    let line = format!("{workers} prediction worker");
    eventually(&line, || server.logged().contains(&line));
    let buffered = status["buffered"]["bytes_max"].as_u64().unwrap();
    let limit = status["cgroup"]["memory_bytes_max"].as_u64();
    let quarter = limit.map_or(u64::MAX, |bytes| bytes / 4);
    assert_eq!(buffered, quarter.min(256 << 20));
}
