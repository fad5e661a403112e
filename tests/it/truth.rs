//! Probes tell the truth: the fault matrix.
//!
//! Each row of the matrix is a scenario with the verdicts that are right in it. A simulated kubelet with
//! short intervals probes a real process meanwhile, and its results are compared with those: a live
//! server whose probe fails is a false positive, a dead one whose probe passes is a false negative.

mod control;
mod failures;
mod hangs;
mod judge;
mod life;
mod load;
mod machine;
mod matrix;
mod prober;
mod pure;
mod quota;
mod stage;
mod states;
mod threads;

use std::collections::HashSet;
use std::fs;

use self::matrix::Row;
use crate::support::{Server, action, eventually, instance};

/// All rows that need a process, in the order in which they are shown.
fn rows() -> Vec<&'static Row> {
    let tables = [
        load::ROWS,
        hangs::ROWS,
        failures::ROWS,
        life::ROWS,
        threads::ROWS,
        machine::ROWS,
    ];
    tables.into_iter().flatten().collect()
}

#[test]
fn probes_tell_the_truth_in_every_scenario() {
    let mut reports = pure::run();
    reports.extend(matrix::run(&rows()));
    matrix::conclude(&reports);
}

#[test]
fn no_two_rows_have_the_same_name() {
    let mut names = HashSet::new();
    for row in rows() {
        assert!(names.insert(row.name), "{:?} is there twice", row.name);
        assert!(!row.steps.is_empty(), "{:?} has no steps", row.name);
    }
}

#[test]
fn the_guide_has_the_table_of_states_that_the_matrix_proves() {
    let table = states::markdown(&rows());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/guide/probes.md");
    let guide = fs::read_to_string(path).unwrap();
    assert!(
        guide.contains(&table),
        "src/guide/probes.md must have this table under \"In each state\":\n\n{table}"
    );
}

/// The checks that a verbose probe lists, in alphabetical order.
fn checks(server: &Server, path: &str) -> Vec<String> {
    let told = server.probe(path).body;
    let checks = told.lines().filter_map(|line| line.strip_prefix("[+]"));
    let mut checks: Vec<String> = checks
        .filter_map(|line| line.split(' ').next().map(str::to_owned))
        .collect();
    checks.sort();
    checks
}

#[test]
fn verbose_probes_name_every_check() {
    let server = Server::fixture("scripted", &[]);
    server.wait_ready();
    let alive = ["acceptor", "inference", "predictions", "workers"];
    assert_eq!(checks(&server, "/livez?verbose"), alive);
    let ready = [
        "acceptor",
        "canary",
        "draining",
        "inference",
        "lane",
        "listeners",
        "model",
        "predictions",
        "workers",
    ];
    assert_eq!(checks(&server, "/readyz?verbose"), ready);
}

#[test]
fn a_stall_is_reported_in_the_log_and_where_kubernetes_reads_it() {
    let name = format!("lanekeeper-termination-{}", std::process::id());
    let path = std::env::temp_dir().join(name);
    let report = format!("--termination-log={}", path.display());
    let stuck = || {
        let mut server = Server::fixture(
            "scripted",
            &["--predict-workers=1", "--stall-timeout=300ms", &report],
        );
        server.wait_ready();
        let hung = server.begin(&instance(action::BLOCK, 1.0));
        eventually("livez fails", || server.probe("/livez").status == 500);
        eventually("the stall is reported", || {
            let log = server.logged();
            log.lines()
                .any(|line| line.contains("[ERROR]") && line.contains("stall report:"))
        });
        server.tell("release");
        eventually("livez passes", || server.probe("/livez").status == 200);
        drop(hung);
    };
    stuck();
    assert!(!path.exists(), "a file that is not there is not made");
    fs::write(&path, "").unwrap();
    stuck();
    let written = fs::read_to_string(&path).unwrap();
    fs::remove_file(&path).unwrap();
    assert!(
        written.contains("prediction workers") && written.contains("predict-0"),
        "{written:?}"
    );
}
