//! Probes answer in time and tell the truth.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Connection, Server, action, crowd, eventually, instance, predict_request};

/// Probes as a kubelet does: on a fresh connection, with one second for everything.
fn kubelet_probe(address: SocketAddr) -> Result<Duration, String> {
    let started = Instant::now();
    let mut connection = Connection::open(address);
    connection
        .stream
        .set_read_timeout(Some(Duration::from_secs(1)))
        .unwrap();
    connection.send(b"GET /livez HTTP/1.1\r\nHost: a\r\nUser-Agent: kube-probe/1.30\r\nAccept: */*\r\nConnection: close\r\n\r\n");
    match connection.try_read(true) {
        Some(response) if response.status == 200 => Ok(started.elapsed()),
        Some(response) => Err(format!("status {}", response.status)),
        None => Err("no answer within 1 s".to_owned()),
    }
}

/// Floods a server whose predictions take 50 ms with 40 clients, and probes it meanwhile.
fn probes_under_overload(args: &[&str]) -> (usize, Vec<String>) {
    let args = [&["--predict-workers", "1", "--max-wait", "20s"], args].concat();
    let server = Server::fixture("scripted", &args);
    server.wait_ready();
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let (address, stopped, count) = (server.main, Arc::clone(&stop), Arc::clone(&served));
    let clients = crowd(40, move || {
        let mut connection = Connection::open(address);
        while !stopped.load(Ordering::Relaxed) {
            connection.send(predict_request(&instance(action::COMPUTE, 50.0), "").as_bytes());
            if connection
                .try_read(true)
                .is_some_and(|response| response.status == 200)
            {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    eventually("the overload is there", || {
        served.load(Ordering::Relaxed) >= 3
    });
    let mut failures = Vec::new();
    for _ in 0..15 {
        failures.extend(kubelet_probe(server.main).err());
        failures.extend(kubelet_probe(server.probe.unwrap()).err());
    }
    stop.store(true, Ordering::Relaxed);
    let served = served.load(Ordering::Relaxed);
    drop(server);
    for _ in 0..40 {
        let _ = clients.recv();
    }
    (served, failures)
}

#[test]
fn no_probe_fails_at_many_times_the_capacity() {
    let (served, failures) = probes_under_overload(&[]);
    assert!(served >= 3);
    assert!(failures.is_empty(), "{failures:?}");
}

#[test]
fn with_a_shared_lane_the_same_flood_makes_probes_fail() {
    let (_, failures) = probes_under_overload(&["--shared-lane"]);
    assert!(failures.len() >= 10, "{failures:?}");
}

#[test]
fn a_probe_waits_for_no_prediction_and_a_full_lane_turns_no_verdict() {
    let mut server = Server::fixture(
        "scripted",
        &[
            "--predict-workers",
            "2",
            "--predict-queue",
            "2",
            "--max-wait",
            "20s",
        ],
    );
    server.wait_ready();
    let begin = || server.begin(&instance(action::BLOCK, 1.0));
    let mut clients = vec![begin(), begin()];
    eventually("both workers are busy", || server.busy() == 2);
    clients.extend([begin(), begin()]);
    eventually("the queue is full", || server.queued() == 2);
    for path in ["/livez", "/readyz", "/healthz", "/statusz"] {
        assert_eq!(server.get(path).status, 200, "{path}");
        assert_eq!(server.probe(path).status, 200, "{path}");
    }
    assert_eq!(server.busy(), 2, "the predictions still run");
    server.tell("release");
    eventually("the next two run", || {
        server.busy() == 2 && server.queued() == 0
    });
    server.tell("release");
    for client in &mut clients {
        assert_eq!(client.read().status, 200);
    }
}

#[test]
fn livez_fails_when_every_worker_is_stuck_and_passes_again_when_one_moves() {
    let args = [
        "--predict-workers",
        "2",
        "--stall-timeout",
        "300ms",
        "--request-timeout",
        "200ms",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let first = server.begin(&instance(action::BLOCK, 1.0));
    eventually("one worker is stuck", || server.busy() == 1);
    std::thread::sleep(Duration::from_millis(500)); // longer than the limit
    assert_eq!(server.get("/livez").status, 200, "the other worker is idle");
    let second = server.begin(&instance(action::BLOCK, 1.0));
    eventually("livez fails", || server.get("/livez").status == 500);
    let verdict = server.get("/livez");
    assert_eq!(verdict.body, "Service has stopped completing predictions");
    let told = server.probe("/livez?verbose");
    assert_eq!(told.status, 500);
    assert!(
        told.body
            .contains("[-]workers failed: all 2 prediction workers"),
        "{}",
        told.body
    );
    assert_eq!(server.get("/readyz").status, 500);
    assert_eq!(server.get("/healthz").status, 500);
    server.tell("release");
    eventually("livez passes again", || server.get("/livez").status == 200);
    drop((first, second));
}

#[test]
fn a_stopped_process_is_alive_when_it_wakes_up() {
    let args = [
        "--predict-workers",
        "1",
        "--stall-timeout",
        "1s",
        "--max-wait",
        "20s",
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("the worker is busy", || server.busy() == 1);
    server.signal(rustix::process::Signal::STOP);
    std::thread::sleep(Duration::from_millis(2500)); // longer than the limit
    server.signal(rustix::process::Signal::CONT);
    for _ in 0..5 {
        assert_eq!(server.get("/livez").status, 200);
    }
    server.tell("release");
    assert_eq!(running.read().status, 200);
}

#[test]
fn readyz_fails_with_the_trial_and_livez_does_not() {
    for (source, text) in [
        (
            "wrong",
            "Model inference failed: the trial gave 7 instead of 8",
        ),
        (
            "panicking-trial",
            "Model inference failed: the model panicked: told to panic",
        ),
    ] {
        let server = Server::fixture(source, &["--canary-interval", "50ms"]);
        eventually("the trial fails", || server.get("/readyz").status == 500);
        assert_eq!(server.probe("/readyz").body, text);
        assert_eq!(server.get("/livez").status, 200);
        assert_eq!(server.status()["trial"]["verdict"], "failed");
    }
}

#[test]
fn probes_have_the_forms_of_kube_apiserver() {
    let server = Server::fixture("wrong", &["--predict-workers", "2"]);
    eventually("the trial fails", || server.get("/readyz").status == 500);
    let check = |path: &str, status: u16, body: &str| {
        for response in [server.get(path), server.probe(path)] {
            assert_eq!((response.status, response.body.as_str()), (status, body));
            assert_eq!(response.field("cache-control"), "no-store", "{path}");
            assert!(response.field("content-type").starts_with("text/plain"));
        }
        let head = format!("HEAD {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let mut connection = Connection::open(server.main);
        connection.send(head.as_bytes());
        let response = connection.try_read(false).unwrap();
        assert_eq!(response.status, status, "HEAD {path}");
        assert_eq!(response.field("content-length"), body.len().to_string());
        assert!(connection.is_closed(), "HEAD {path} has no body");
    };
    let failed = "Model inference failed: the trial gave 7 instead of 8";
    let alive = "[+]acceptor ok\n[+]predictions ok\n[+]workers ok\n[+]inference ok\n";
    let able = "[+]draining ok\n[+]model ok\n[+]lane ok\n[+]listeners ok\n";
    check("/livez", 200, "ok");
    check(
        "/livez?verbose",
        200,
        &format!("{alive}livez check passed\n"),
    );
    check("/readyz", 500, failed);
    check(
        "/readyz?verbose",
        500,
        &format!("{failed}\n{alive}{able}[-]canary failed: {failed}\nreadyz check failed\n"),
    );
    check("/readyz?exclude=canary", 200, "ok");
    check(
        "/readyz?exclude=canary&verbose&exclude=draining",
        200,
        &format!(
            "{alive}{}[+]canary excluded: ok\nreadyz check passed\n",
            able.replace("draining ok", "draining excluded: ok")
        ),
    );
    check(
        "/livez?exclude=nobody&verbose",
        200,
        &format!(
            "{alive}warn: excluding [\"nobody\"] changed nothing: the checks here are acceptor, predictions, workers, inference\nlivez check passed\n"
        ),
    );
    check("/livez/workers", 200, "ok");
    check(
        "/readyz/canary",
        500,
        &format!("{failed}\n[-]canary failed: {failed}\n"),
    );
    check(
        "/startupz?verbose",
        200,
        "[+]model ok\nstartupz check passed\n",
    );
    let missing = server.probe("/livez/canary");
    assert_eq!(missing.status, 404);
    assert!(
        missing.body.contains("acceptor, predictions"),
        "{}",
        missing.body
    );
    let names = "exclude=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa&".repeat(200);
    let long = server.probe(&format!("/readyz?verbose&{names}"));
    assert_eq!(long.status, 500);
    assert!(long.body.len() < 10_000, "kubelet reads no more than 10 KB");
}

#[test]
fn a_changed_verdict_is_one_log_line_and_a_termination_message() {
    let file = std::env::temp_dir().join(format!("lanekeeper-termination-{}", std::process::id()));
    std::fs::write(&file, "").unwrap();
    let args = [
        "--predict-workers",
        "2",
        "--stall-timeout",
        "300ms",
        "--request-timeout",
        "200ms",
        "--termination-log",
        file.to_str().unwrap(),
    ];
    let mut server = Server::fixture("scripted", &args);
    server.wait_ready();
    let named = |name: &str| {
        let body = instance(action::BLOCK, 1.0);
        let fields = format!("X-Request-Id: {name}\r\n");
        let mut connection = Connection::open(server.main);
        connection.send(predict_request(&body, &fields).as_bytes());
        connection
    };
    let clients = [named("first-1"), named("second-2")];
    let mut told = String::new();
    eventually("the report is written whole", || {
        server.probe("/livez");
        told = std::fs::read_to_string(&file).unwrap();
        told.contains("predictions wait")
    });
    for part in [
        "/livez fails: all 2 prediction workers have made no progress",
        "predict-0 (thread ",
        "predict-1 (thread ",
        " has been on request first-1 for ",
        " has been on request second-2 for ",
        "model scripted, 1 rows; the kernel has it sleeping",
        "the acceptor (thread ",
        "0 of at most 512 predictions wait",
    ] {
        assert!(told.contains(part), "{part:?} is not in\n{told}");
    }
    assert!(told.len() <= 4096);
    server.tell("release");
    eventually("livez passes again", || server.get("/livez").status == 200);
    eventually("the report is taken back", || {
        std::fs::read_to_string(&file).unwrap().is_empty()
    });
    drop(clients);
    eventually("that is in the log too", || {
        server.logged().contains("/livez passes, ")
    });
    let log = server.logged();
    for (line, count) in [
        ("[ERROR] support::fixture: /livez fails: ", 1),
        ("[INFO] support::fixture: /livez passes, ", 1),
        ("[ERROR] support::fixture: /readyz fails: ", 1),
        ("[ERROR] report: stall report: predict-0 ", 1),
    ] {
        assert_eq!(log.matches(line).count(), count, "{line} in\n{log}");
    }
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn a_trial_that_hangs_holds_no_probe() {
    let server = Server::fixture("hung-trial", &[]);
    for _ in 0..10 {
        assert_eq!(server.get("/livez").status, 200);
        assert_eq!(server.get("/readyz").body, "model is loading");
    }
}

#[test]
fn the_probe_listener_serves_probes_only_and_names_the_other_port() {
    let server = Server::real(&[]);
    server.wait_ready();
    for path in ["/livez", "/readyz", "/healthz", "/statusz"] {
        assert_eq!(server.probe(path).status, 200, "{path}");
    }
    assert_eq!(server.probe("/").json()["status"], "alive");
    let response = server.probe("/predict");
    assert_eq!(response.status, 404);
    assert!(
        response
            .body
            .contains(&format!("port {}", server.main.port())),
        "{}",
        response.body
    );
    let status = server.status();
    for path in [
        "/version",
        "/uptime_seconds",
        "/model/name",
        "/lanes/predict/queue_length",
        "/lanes/predict/queue_capacity",
        "/lanes/predict/workers",
        "/lanes/predict/busy",
        "/lanes/probe/workers",
        "/predictions/succeeded",
    ] {
        assert!(
            status.pointer(path).is_some_and(|value| !value.is_null()),
            "{path} in {status}"
        );
    }
}

#[test]
fn without_a_probe_listener_probes_are_on_the_main_one() {
    let server = Server::real(&["--probe-listen", "none"]);
    assert_eq!(server.probe, None);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_stderr_that_nobody_reads_slows_and_blocks_nothing() {
    let (server, stderr) = Server::deaf(&["--log-level", "trace", "--access-log-rate", "1000000"]);
    server.wait_ready();
    let mut connection = Connection::open(server.main);
    // About 100 bytes a line, several times more than a pipe and the log's queue hold.
    for _ in 0..8000 {
        connection.send(predict_request(r#"{"instances": [[5.1,3.5,1.4,0.2]]}"#, "").as_bytes());
        assert_eq!(connection.read().status, 200);
    }
    assert_eq!(server.probe("/livez").status, 200);
    assert!(server.status()["log_records_dropped"].as_u64().unwrap() > 0);
    drop(stderr);
    assert_eq!(server.probe("/livez").status, 200, "nor does a closed one");
}
