//! `lanekeeper drill` with the real binary on this machine, with the shortest phases that it accepts.
//!
//! The tests check what drill reports. They check no latency, because the machine may be busy.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::{Server, eventually};
use crate::train::{Folder, run, stderr, stdout};

/// A second for each window, half a second of patience, one load.
const SHORT: [&str; 7] = [
    "drill",
    "--seconds",
    "1",
    "--client-timeout",
    "500ms",
    "--loads",
    "2",
];

const IRIS: &[u8] = br#"{"instances": [[5.1, 3.5, 1.4, 0.2]]}"#;

#[test]
fn a_drill_reports_both_contenders_in_json_and_in_one_page() {
    let folder = Folder::new("drill");
    let page = folder.path("report.html");
    let output = run(&[&SHORT[..], &["--json", "--html", &page]].concat());
    let told = stderr(&output);
    assert!(told.contains("lanekeeper: drilling for about "), "{told}");
    let json: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let expected = if json["passed"] == true { 0 } else { 1 };
    assert_eq!(output.status.code(), Some(expected), "{told}\n{json:#}");
    assert_eq!(json["format"], 1);
    assert_eq!(json["request"]["model"], "iris");
    let names: Vec<&str> = json["contenders"]
        .as_array()
        .unwrap()
        .iter()
        .map(|contender| contender["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["two lanes", "shared lane"]);
    for contender in json["contenders"].as_array().unwrap() {
        assert!(contender["capacity_per_second"].as_f64().unwrap() > 0.0);
        let phases = contender["phases"].as_array().unwrap();
        let names: Vec<&str> = phases
            .iter()
            .map(|phase| phase["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["idle", "capacity", "2x"]);
        for phase in phases {
            let listeners = phase["probes"].as_array().unwrap();
            assert_eq!(listeners.len(), 2);
            assert!(listeners.iter().all(|one| one["count"].as_u64() > Some(0)));
        }
        assert!(phases[2]["offered_per_second"].as_f64().unwrap() > 0.0);
    }
    assert!(json["numbers"].as_array().unwrap().len() >= 8);
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.starts_with("<!doctype html>") && html.trim_end().ends_with("</html>"));
    for part in ["http://", "https://", "src=", "href=", "<script", "<link"] {
        assert!(!html.contains(part), "{part} is in the page");
    }
    assert_eq!(html.matches("<figure").count(), 4);
}

#[test]
fn a_running_server_is_drilled_by_url_and_told_of_in_tables() {
    let folder = Folder::new("drill-url");
    let body = folder.write("body.json", IRIS);
    let server = Server::real(&[]);
    server.wait_ready();
    let url = format!("http://{}", server.main);
    let probe_url = format!("http://{}", server.probe.unwrap());
    let options = ["--url", &url, "--probe-url", &probe_url, "--body", &body];
    let output = run(&[&SHORT[..], &options].concat());
    let told = stdout(&output);
    for part in [
        "probes failed",
        "server           load  listener",
        "server       idle     probe",
        "main",
        "What became of them",
        "  server, 2x: 200: ",
        "terminationGracePeriodSeconds: 30",
    ] {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            words(&told).contains(&words(part)),
            "{part:?} is not in\n{told}"
        );
    }
    assert!(!told.contains("shared lane"), "{told}");
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_failed_probe_is_exit_code_1() {
    let folder = Folder::new("drill-fails");
    let body = folder.write("body.json", IRIS);
    // Every probe fails, because the probe URL's path does not exist.
    let server = Server::real(&[]);
    server.wait_ready();
    let url = format!("http://{}", server.main);
    let probe_url = format!("http://{}/nowhere", server.main);
    let options = ["--url", &url, "--probe-url", &probe_url, "--body", &body];
    let output = run(&[&SHORT[..], &options].concat());
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let told = stderr(&output);
    let last = told.lines().last().unwrap();
    assert!(
        last.starts_with("lanekeeper: ") && last.contains("probes failed (idle: "),
        "{told}"
    );
}

#[test]
fn what_cannot_be_drilled_is_one_line_before_any_load() {
    let folder = Folder::new("drill-wrong");
    let wrong = folder.write("wrong.json", br#"{"instances": [[1, 2]]}"#);
    let body = folder.write("body.json", IRIS);
    let table: &[(&[&str], i32, &str)] = &[
        (
            &["--url", "http://192.0.2.1:80", "--body", &body],
            2,
            "must be on this machine's loopback",
        ),
        (
            &["--body", &wrong],
            2,
            "the server does not take the request body: 400 ",
        ),
        (&["--body", "/nowhere.json"], 2, "cannot read the body"),
        (&["--model", "/nowhere.json"], 1, "/nowhere.json"),
        (
            &["--html", "/nowhere/report.html"],
            1,
            "cannot write /nowhere/report.html",
        ),
        (
            &["--", "--listen", "0.0.0.0:80"],
            2,
            "--listen cannot stand after --",
        ),
        (
            &["--url", "http://127.0.0.1:9", "--body", &body],
            1,
            "one prediction on the idle server failed",
        ),
    ];
    for (options, code, expected) in table {
        let output = run(&[&SHORT[..], options].concat());
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(*code), "{options:?}: {told}");
        assert!(told.contains(expected), "{options:?}: {told}");
        assert_eq!(told.lines().count(), 1, "{options:?}: {told}");
        assert_eq!(stdout(&output), "", "{options:?}");
    }
}

/// Starts a drill and waits until it has printed how long it takes; its server then runs.
fn begun() -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["drill", "--seconds", "60"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stderr.read_line(&mut line).unwrap();
    assert!(line.contains("drilling for about "), "{line}");
    (child, stderr)
}

/// The child processes of a process.
fn children(pid: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap() {
        let path = task.unwrap().path().join("children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        found.extend(
            text.split_whitespace()
                .map(|pid| pid.parse::<u32>().unwrap()),
        );
    }
    found
}

fn has_gone(pid: u32) -> bool {
    // A zombie, which nobody has reaped since its parent died, counts as gone.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(')')
        .is_none_or(|(_, rest)| rest.trim_start().starts_with('Z'))
}

#[test]
fn a_drill_that_is_told_to_end_takes_its_server_along() {
    use std::os::unix::process::ExitStatusExt as _;
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let (mut drill, mut stderr) = begun();
        let servers = children(drill.id());
        assert_eq!(servers.len(), 1, "{signal:?}");
        kill_process(Pid::from_child(&drill), signal).unwrap();
        let status = drill.wait().unwrap();
        assert_eq!(status.signal(), Some(signal.as_raw()), "{status:?}");
        eventually("the server of the drill ends", || has_gone(servers[0]));
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        let interrupted = "lanekeeper: the drill was interrupted\n";
        let expected = if signal == Signal::KILL {
            ""
        } else {
            interrupted
        };
        assert_eq!(rest, expected, "{signal:?}");
    }
}
