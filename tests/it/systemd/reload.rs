//! Reloads: another model replaces the one that serves, and clients see only that answers differ.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::Signal;

use super::manager::Manager;
use crate::support::{Connection, Server, eventually, exchange, predict_request};

const ROW: &str = r#"{"instances": [[6.0, 2.7, 5.1, 1.6]]}"#;

/// A folder with model files; removed when dropped.
struct Models(PathBuf);

impl Models {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lanekeeper-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        Models(folder)
    }

    fn train(&self, file: &str, algorithm: &str) -> PathBuf {
        self.train_with(file, algorithm, "species", &[])
    }

    fn train_with(&self, file: &str, algorithm: &str, target: &str, more: &[&str]) -> PathBuf {
        let path = self.0.join(file);
        let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/iris.csv");
        let status = std::process::Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
            .args([
                "train",
                "--folds",
                "0",
                "--target",
                target,
                "--algorithm",
                algorithm,
            ])
            .args(more)
            .arg("--data")
            .arg(table)
            .arg("--out")
            .arg(&path)
            .stderr(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        path
    }
}

impl Drop for Models {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn algorithm(server: &Server) -> String {
    let status = server.status();
    let algorithm = status["model"]["algorithm"].as_str();
    algorithm.unwrap_or_else(|| panic!("{status}")).to_owned()
}

#[test]
fn a_signal_reloads_the_model_and_a_bad_file_keeps_the_one_that_serves() {
    let models = Models::new("reload");
    let [tree, forest] = [
        models.train("tree.json", "decision-tree-classifier"),
        models.train("forest.json", "random-forest-classifier"),
    ];
    let served = models.0.join("served.json");
    fs::copy(&tree, &served).unwrap();
    let manager = Manager::at_path();
    let environment = [("NOTIFY_SOCKET", manager.address.as_str())];
    let server = Server::real_in(&environment, &["--model", served.to_str().unwrap()]);
    server.wait_ready();
    assert_eq!(algorithm(&server), "decision-tree-classifier");

    fs::copy(&forest, &served).unwrap();
    server.signal(Signal::HUP);
    eventually("the other model serves", || {
        algorithm(&server) == "random-forest-classifier"
    });
    eventually("it is ready again", || manager.count("READY=1") == 2);
    let told = manager.told();
    let reloading = told
        .iter()
        .find(|told| told.text.starts_with("RELOADING=1\n"))
        .unwrap();
    let lines: Vec<&str> = reloading.text.lines().collect();
    let micros: u64 = lines[1]
        .strip_prefix("MONOTONIC_USEC=")
        .unwrap()
        .parse()
        .unwrap();
    assert!(micros > 0, "{lines:?}");
    let status = server.status();
    assert_eq!(status["model"]["generation"], 2);
    assert_eq!(
        (&status["reload"]["succeeded"], &status["reload"]["failed"]),
        (&1.into(), &0.into())
    );

    fs::write(&served, "{").unwrap();
    server.signal(Signal::HUP);
    eventually("that is told", || manager.count("READY=1") == 3);
    assert_eq!(algorithm(&server), "random-forest-classifier");
    assert_eq!(server.predict(ROW).status, 200);
    assert_eq!(server.get("/readyz").status, 200);
    let status = server.status();
    let why = status["reload"]["error"].as_str().unwrap();
    assert!(why.contains("served.json"), "{why}");
    let told = manager.lines("STATUS=").pop().unwrap();
    assert!(
        told.contains("; not reloaded: ") && told.contains("served.json"),
        "{told}"
    );
    let log = server.logged();
    assert!(
        log.contains("[ERROR] main: not reloaded, the old model keeps serving: "),
        "{log}"
    );
}

/// The features of the iris data in another order.
const TURNED: &[&str] = &[
    "--features",
    "petal_width,petal_length,sepal_width,sepal_length",
];

#[test]
fn a_reload_with_another_signature_is_refused_and_the_change_named() {
    let models = Models::new("signature");
    let tree = "decision-tree-classifier";
    let others = [
        (
            models.train_with("turned.json", tree, "species", TURNED),
            "its features stand in another order: feature 1 is \"petal_width\", and was \"sepal_length\"",
        ),
        (
            models.train_with(
                "fewer.json",
                tree,
                "species",
                &["--features", "sepal_length"],
            ),
            "its features lack \"sepal_width\", \"petal_length\", \"petal_width\"",
        ),
        (
            models.train_with(
                "numbers.json",
                "linear-regression",
                "petal_width",
                &["--features", "sepal_length,sepal_width,petal_length"],
            ),
            "it answers with numbers instead of classes",
        ),
    ];
    let served = models.train("served.json", tree);
    let manager = Manager::at_path();
    let environment = [("NOTIFY_SOCKET", manager.address.as_str())];
    let server = Server::real_in(&environment, &["--model", served.to_str().unwrap()]);
    server.wait_ready();
    let before = server.predict(ROW).body;
    for (count, (other, expected)) in (1..).zip(others) {
        fs::rename(other, &served).unwrap();
        server.signal(Signal::HUP);
        eventually("it is refused", || {
            server.status()["reload"]["failed"] == count
        });
        let status = server.status();
        let why = status["reload"]["error"].as_str().unwrap();
        assert!(why.contains(expected), "{why}");
        assert!(
            why.ends_with("; --reload-signature any accepts it"),
            "{why}"
        );
        eventually("the manager and the log are told", || {
            let told = manager.lines("STATUS=").pop().unwrap_or_default();
            let line = "not reloaded, the old model keeps serving: ";
            let log = server.logged();
            let logged = log
                .lines()
                .any(|log| log.contains(line) && log.contains(expected));
            told.contains("; not reloaded: ") && told.contains(expected) && logged
        });
        assert_eq!(status["model"]["generation"], 1, "{status}");
        assert_eq!(server.predict(ROW).body, before);
    }
    // The same signature from another algorithm is not a change.
    fs::rename(models.train("knn.json", "knn-classifier"), &served).unwrap();
    server.signal(Signal::HUP);
    eventually("the other model serves", || {
        algorithm(&server) == "knn-classifier"
    });
}

#[test]
fn a_reload_may_change_the_signature_where_that_is_accepted() {
    let models = Models::new("any-signature");
    let served = models.train("served.json", "decision-tree-classifier");
    let manager = Manager::at_path();
    let environment = [
        ("NOTIFY_SOCKET", manager.address.as_str()),
        ("LANEKEEPER_RELOAD_SIGNATURE", "any"),
    ];
    let server = Server::real_in(&environment, &["--model", served.to_str().unwrap()]);
    server.wait_ready();
    assert!(server.status()["reload"]["signature_change"].is_null());
    let turned = models.train_with("turned.json", "decision-tree-classifier", "species", TURNED);
    fs::rename(turned, &served).unwrap();
    server.signal(Signal::HUP);
    eventually("the other model serves", || {
        server.status()["model"]["generation"] == 2
    });
    let status = server.status();
    let expected = "its features stand in another order";
    let change = status["reload"]["signature_change"].as_str().unwrap();
    assert!(change.starts_with(expected), "{change}");
    assert_eq!(status["reload"]["failed"], 0);
    eventually("the manager and the log are told", || {
        let told = manager.lines("STATUS=").pop().unwrap_or_default();
        let log = server.logged();
        let line = format!("from now on the signature is another one: {expected}");
        told.contains(&format!("another signature since the reload: {expected}"))
            && log.contains(&line)
    });
}

#[test]
fn a_model_that_fails_its_trial_does_not_replace_the_present_one() {
    let mut server = Server::fixture("scripted", &[]);
    server.wait_ready();
    server.tell("trial wrong");
    server.signal(Signal::HUP);
    eventually("it is refused", || server.status()["reload"]["failed"] == 1);
    let status = server.status();
    assert_eq!(status["model"]["generation"], 1);
    assert!(
        status["reload"]["error"]
            .as_str()
            .unwrap()
            .contains("failed its trial"),
        "{status}"
    );
}

#[test]
fn a_file_that_is_replaced_is_loaded_where_it_is_watched() {
    let models = Models::new("watch");
    let served = models.train("served.json", "decision-tree-classifier");
    let server = Server::real(&["--watch", "--model", served.to_str().unwrap()]);
    server.wait_ready();
    let next = models.train("next.json", "random-forest-classifier");
    fs::rename(next, &served).unwrap();
    eventually("it is reloaded", || {
        server.status()["reload"]["succeeded"] == 1
    });
    assert_eq!(algorithm(&server), "random-forest-classifier");
}

#[test]
fn a_hundred_reloads_under_load_fail_no_request_and_leave_nothing_behind() {
    let models = Models::new("hundred");
    let served = models.train("served.json", "random-forest-classifier");
    let server = Server::real(&[
        "--model",
        served.to_str().unwrap(),
        "--access-log-rate",
        "0",
    ]);
    server.wait_ready();
    let stop = Arc::new(AtomicBool::new(false));
    let address = server.main;
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut kept = Connection::open(address);
                let mut answered = 0;
                while !stop.load(Ordering::Relaxed) {
                    let response = if client % 2 == 0 {
                        kept.send(predict_request(ROW, "").as_bytes());
                        kept.read()
                    } else {
                        exchange(address, &predict_request(ROW, "Connection: close\r\n"))
                    };
                    assert_eq!(response.status, 200, "{response:?}");
                    answered += 1;
                }
                answered
            })
        })
        .collect();
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status
            .lines()
            .find(|line| line.starts_with("VmRSS:"))
            .unwrap();
        line.split_whitespace()
            .nth(1)
            .unwrap()
            .parse::<u64>()
            .unwrap()
    };
    let mut sizes = Vec::new();
    for version in 2..=101_u64 {
        server.signal(Signal::HUP);
        eventually("it is reloaded", || {
            server.status()["reload"]["succeeded"] == version - 1
        });
        sizes.push(resident());
    }
    stop.store(true, Ordering::Relaxed);
    let answered: u64 = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert!(answered > 100, "{answered}");
    let status = server.status();
    assert_eq!(
        (&status["reload"]["succeeded"], &status["reload"]["failed"]),
        (&100.into(), &0.into())
    );
    // The second half uses at most one model more memory than the maximum of the first ten reloads.
    let early = sizes[..10].iter().max().unwrap();
    let late = sizes[50..].iter().max().unwrap();
    assert!(*late < early + 4096, "{sizes:?} KiB");
}
