//! Notifications and the watchdog.

use std::time::Duration;

use rustix::process::Signal;

use super::manager::Manager;
use crate::support::{Server, action, eventually, has_programs, instance};

const LIFE: &str = "WATCHDOG=1";

/// A silence after which a watchdog of half a second restarts the server.
const SILENCE: Duration = Duration::from_millis(500);

fn watched(manager: &Manager) -> Vec<(&str, &str)> {
    vec![
        ("NOTIFY_SOCKET", manager.address.as_str()),
        ("WATCHDOG_USEC", "500000"),
    ]
}

#[test]
fn readiness_comes_once_the_model_was_tried_and_the_end_is_told_first() {
    for manager in [Manager::at_path(), Manager::at_abstract_name()] {
        let environment = [("NOTIFY_SOCKET", manager.address.as_str())];
        let mut server = Server::fixture_in(&environment, "slow-load", &["--drain-grace", "0s"]);
        assert_eq!(server.probe("/startupz").status, 503);
        manager.wait_for("STATUS=loading the model");
        assert!(!manager.has("READY=1"));
        server.tell("release");
        manager.wait_for("READY=1");
        let told = manager.told();
        let ready = told
            .iter()
            .find(|told| told.text.starts_with("READY=1\n"))
            .unwrap();
        assert_eq!(
            ready.text,
            "READY=1\nSTATUS=serving scripted, 0 of 2 workers busy, queue 0/512, 0 predictions/s"
        );
        assert!(told.iter().all(|told| told.pid == server.pid()), "{told:?}");
        assert_eq!(server.probe("/startupz").status, 200);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        manager.wait_for("STOPPING=1");
        let told = manager.told();
        let stopping = told
            .iter()
            .position(|told| told.text.starts_with("STOPPING=1\n"));
        let after = told
            .iter()
            .position(|told| told.text.starts_with("STATUS=draining"));
        assert!(
            after.is_none_or(|after| stopping.unwrap() < after),
            "{told:?}"
        );
        assert_eq!(manager.count("READY=1"), 1);
    }
}

#[test]
fn the_status_tells_what_the_server_is_at() {
    let manager = Manager::at_path();
    let environment = [("NOTIFY_SOCKET", manager.address.as_str())];
    let args = [
        "--predict-workers",
        "2",
        "--predict-queue",
        "64",
        "--max-wait",
        "20s",
    ];
    let mut server = Server::fixture_in(&environment, "scripted", &args);
    server.wait_ready();
    let block = instance(action::BLOCK, 1.0);
    let held: Vec<_> = (0..5).map(|_| server.begin(&block)).collect();
    eventually("the status tells of them", || {
        let last = manager.lines("STATUS=").pop().unwrap_or_default();
        last.starts_with("STATUS=serving scripted, 2 of 2 workers busy, queue 3/64, ")
    });
    let told = manager.told();
    let statuses = told.iter().filter(|told| told.text.starts_with("STATUS="));
    let times: Vec<_> = statuses.map(|told| told.at).collect();
    // At most once a second, measured from the start, because the receiver may have been late.
    let seconds = (times[times.len() - 1] - times[0]).as_secs_f64();
    assert!(times.len() as f64 <= seconds + 2.0, "{told:?}");
    server.tell("free");
    for mut connection in held {
        connection.try_read(true);
    }
}

#[test]
fn a_failing_start_and_a_missing_socket_are_no_more_than_told() {
    let manager = Manager::at_path();
    let lanekeeper = env!("CARGO_BIN_EXE_lanekeeper");
    let table: &[(&[&str], &str, &str)] = &[
        (
            &["--model", "/nowhere/model.json"],
            "ERRNO=2",
            "/nowhere/model.json",
        ),
        (
            &["--predict-queue", "0"],
            "ERRNO=22",
            "--predict-queue must be",
        ),
        (&["--listen", "192.0.2.1:1"], "ERRNO=99", "192.0.2.1:1"),
    ];
    for (args, errno, words) in table {
        let output = std::process::Command::new(lanekeeper)
            .arg("serve")
            .args(*args)
            .env("NOTIFY_SOCKET", &manager.address)
            .output()
            .unwrap();
        assert!(!output.status.success(), "{args:?}");
        manager.wait_for(errno);
        let status = manager.lines("STATUS=").pop().unwrap();
        assert!(status.contains(words), "{status}");
    }
    assert!(!manager.has("READY=1"));
    let server = Server::real_in(&[("NOTIFY_SOCKET", "/nowhere/notify")], &[]);
    server.wait_ready();
}

#[test]
fn the_watchdog_has_its_signs_of_life_while_the_server_lives() {
    let manager = Manager::at_path();
    let mut server = Server::fixture_in(&watched(&manager), "scripted", &["--drain-grace", "0s"]);
    server.wait_ready();
    let block = instance(action::BLOCK, 1.0);
    let _charge: Vec<_> = (0..2).map(|_| server.begin(&block)).collect();
    eventually("it has had ten", || manager.count(LIFE) >= 10);
    let told = manager.told();
    let lives = told.iter().filter(|told| told.text == LIFE);
    let times: Vec<_> = lives.map(|told| told.at).collect();
    let median = {
        let mut gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        gaps.sort();
        gaps[gaps.len() / 2]
    };
    assert!(median > SILENCE / 4 && median < SILENCE, "{median:?}");
    let ready = told
        .iter()
        .position(|told| told.text.starts_with("READY=1"));
    let life = told.iter().position(|told| told.text == LIFE);
    assert!(life >= ready, "{told:?}");
    server.tell("free");
}

#[test]
fn a_stalled_server_gives_no_sign_of_life_until_it_has_recovered() {
    let manager = Manager::at_path();
    let args = ["--stall-timeout", "1s", "--request-timeout", "900ms"];
    let mut server = Server::fixture_in(&watched(&manager), "scripted", &args);
    server.wait_ready();
    manager.wait_for(LIFE);
    let block = instance(action::BLOCK, 1.0);
    let _charge: Vec<_> = (0..2).map(|_| server.begin(&block)).collect();
    eventually("livez fails", || server.probe("/livez").status == 500);
    manager.wait_for_silence(LIFE, SILENCE);
    assert!(
        server
            .logged()
            .contains("keep-alive is withheld: all 2 prediction workers")
    );
    let before = manager.count(LIFE);
    server.tell("free");
    eventually("it has recovered", || manager.count(LIFE) > before);
    eventually("that is told", || {
        server.logged().contains("keep-alive is sent again")
    });
}

#[test]
fn a_deaf_server_gives_no_sign_of_life_though_its_stamps_are_well() {
    for role in ["acceptor", "connection 64"] {
        let manager = Manager::at_path();
        let mut server = Server::fixture_in(&watched(&manager), "scripted", &[]);
        server.wait_ready();
        manager.wait_for(LIFE);
        server.tell(&format!("hang {role}"));
        manager.wait_for_silence(LIFE, SILENCE * 2);
        assert!(
            server
                .logged()
                .contains("the probe listener does not answer"),
            "{role}"
        );
        let before = manager.count(LIFE);
        server.tell("free");
        eventually("it hears again", || manager.count(LIFE) > before);
    }
}

#[test]
fn clients_of_the_main_listener_cannot_withhold_a_sign_of_life() {
    let manager = Manager::at_path();
    let args = ["--max-connections", "40", "--predict-queue", "8"];
    let server = Server::fixture_in(&watched(&manager), "scripted", &args);
    server.wait_ready();
    let block = instance(action::BLOCK, 1.0);
    let _charge: Vec<_> = (0..60).map(|_| server.begin(&block)).collect();
    let before = manager.count(LIFE);
    eventually("the signs go on", || manager.count(LIFE) >= before + 6);
}

#[test]
fn a_watchdog_for_another_process_and_none_at_all_get_nothing() {
    let manager = Manager::at_path();
    let environment = [
        ("NOTIFY_SOCKET", manager.address.as_str()),
        ("WATCHDOG_USEC", "200000"),
        ("WATCHDOG_PID", "1"),
    ];
    let server = Server::real_in(&environment, &[]);
    manager.wait_for("READY=1");
    assert!(!server.threads().contains(&"watchdog".to_owned()));
    assert!(!manager.has(LIFE));
}

#[test]
fn an_abort_has_its_report_first() {
    use std::os::unix::process::ExitStatusExt;
    let mut server = Server::fixture("scripted", &["--predict-workers", "1"]);
    server.wait_ready();
    let _running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it runs", || server.busy() == 1);
    server.signal(Signal::ABORT);
    let status = server.wait();
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    eventually("the report is there", || {
        let logged = server.logged();
        logged.contains("stall report: /livez fails: SIGABRT")
            && logged.contains("stall report: predict-0")
    });
}

#[test]
fn loading_and_draining_ask_for_time_while_they_make_progress() {
    let manager = Manager::at_path();
    let environment = [("NOTIFY_SOCKET", manager.address.as_str())];
    let args = [
        "--drain-grace",
        "0s",
        "--predict-workers",
        "1",
        "--request-timeout",
        "7s",
    ];
    let mut server = Server::fixture_in(&environment, "slow-load", &args);
    // A server that only waits asks for no more time.
    let asked = "EXTEND_TIMEOUT_USEC=30000000";
    manager.wait_for("STATUS=loading the model");
    let blocked = manager.count(asked);
    assert!(blocked <= 1, "{:?}", manager.told());
    server.tell("release");
    manager.wait_for("READY=1");
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it runs", || server.busy() == 1);
    server.signal(Signal::TERM);
    manager.wait_for("EXTEND_TIMEOUT_USEC=12000000");
    server.tell("release");
    assert_eq!(running.read().status, 200);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn lines_for_the_journal_carry_their_level() {
    if !has_programs(&["sh", "stat"]) {
        return;
    }
    let output = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "JOURNAL_STREAM=$(stat -L -c %d:%i /dev/stderr) exec {} serve --listen 127.0.0.1:0 --model /nowhere --access-log-rate 1000",
            env!("CARGO_BIN_EXE_lanekeeper")
        ))
        .output()
        .unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("<6>[INFO] main: listening on http://"),
        "{stderr}"
    );
    assert!(
        stderr.contains("<4>[WARN] main: --access-log-rate is 250"),
        "{stderr}"
    );
    assert!(stderr.contains("<3>lanekeeper: "), "{stderr}");
}
