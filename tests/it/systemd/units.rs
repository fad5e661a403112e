//! The units in `systemd/` are what the manifest command prints, systemd accepts them, and they grant only
//! the rights that the server needs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::manager::Manager;
use crate::support::has_programs;

const UNITS: [&str; 6] = [
    "lanekeeper.service",
    "lanekeeper.socket",
    "lanekeeper-probe.socket",
    "lanekeeper-isolated.service",
    "lanekeeper-isolated.socket",
    "lanekeeper-isolated-probe.socket",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("systemd")
}

fn manifest(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["manifest", "systemd"])
        .args(args)
        .output()
        .unwrap()
}

fn printed(args: &[&str]) -> String {
    let output = manifest(args);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Runs systemd-analyze; `None` if it is not installed.
fn analyze(args: &[&str], files: &[PathBuf]) -> Option<(bool, String)> {
    if !has_programs(&["systemd-analyze"]) {
        return None;
    }
    let output = Command::new("systemd-analyze")
        .args(args)
        .args(files)
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    Some((output.status.success(), String::from_utf8(text).unwrap()))
}

#[test]
fn the_files_are_what_is_printed_for_the_defaults() {
    for unit in UNITS {
        let file = std::fs::read_to_string(folder().join(unit)).unwrap();
        let told = format!("lanekeeper manifest systemd --unit {unit} > systemd/{unit}");
        assert_eq!(file, printed(&["--unit", unit]), "{told}");
    }
}

#[test]
fn systemd_finds_nothing_wrong_with_them() {
    // systemd-analyze checks that the unit's program exists, so use one that does.
    let folder = std::env::temp_dir().join(format!("lanekeeper-units-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let files = UNITS.map(|unit| {
        let path = folder.join(unit);
        let args = ["--unit", unit, "--binary", env!("CARGO_BIN_EXE_lanekeeper")];
        std::fs::write(&path, printed(&args)).unwrap();
        path
    });
    if let Some((passed, text)) = analyze(&["verify"], &files) {
        assert_eq!((passed, text.as_str()), (true, ""));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn they_are_exposed_as_little_as_they_can_be() {
    for (unit, most) in [
        ("lanekeeper.service", "12"),
        ("lanekeeper-isolated.service", "4"),
    ] {
        let threshold = format!("--threshold={most}");
        let args = ["security", "--offline=true", "--no-pager", &threshold];
        if let Some((passed, text)) = analyze(&args, &[folder().join(unit)]) {
            assert!(text.contains("Overall exposure level"), "{text}");
            assert!(passed, "{unit} is over {most} tenths:\n{text}");
        }
    }
}

#[test]
fn a_serve_option_changes_what_follows_from_it() {
    let table: &[(&[&str], &[&str])] = &[
        (
            &["--stall-timeout", "20s"],
            &["WatchdogSec=10", "serve --stall-timeout=20s"],
        ),
        (&["--stall-timeout", "10m"], &["WatchdogSec=60"]),
        (
            &["--drain-timeout", "2m", "--drain-grace", "0s"],
            &["TimeoutStopSec=125"],
        ),
        (
            &["--max-connections", "5000"],
            &["LimitNOFILE=5128", "TasksMax=5594"],
        ),
        (&["--predict-workers", "4"], &["TasksMax=1114"]),
        (
            &["--model", "/etc/lane keeper/m.json"],
            &[r#"check "--model=/etc/lane keeper/m.json""#],
        ),
        (
            &["--unit", "lanekeeper.socket", "--listen", "[::]:80"],
            &["ListenStream=[::]:80", "FileDescriptorName=predict"],
        ),
        (
            &["--unit", "lanekeeper-probe.socket", "--listen", "[::]:80"],
            &["ListenStream=[::]:81", "FileDescriptorName=probe"],
        ),
    ];
    for (args, expected) in table {
        let unit = printed(args);
        for text in *expected {
            assert!(unit.contains(text), "{args:?}: {text}\n{unit}");
        }
    }
    for wrong in [
        &["--unit", "lanekeeper.socket", "--listen", "127.0.0.1:0"][..],
        &[
            "--unit",
            "lanekeeper-probe.socket",
            "--probe-listen",
            "none",
        ],
        &["--binary", "lanekeeper"],
        &["--predict-queue", "0"],
        // A server with this option would not start.
        &["--listen", "127.0.0.1:65535"],
    ] {
        assert_eq!(manifest(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn settings_and_model_can_be_checked_before_they_serve() {
    let check = |args: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
            .arg("check")
            .args(args)
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8(text).unwrap())
    };
    let (code, text) = check(&[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.starts_with("ok: iris (random-forest-classifier, 4 features, 3 classes)"),
        "{text}"
    );
    let manager = Manager::at_path();
    let asked = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .arg("check")
        .env("NOTIFY_SOCKET", &manager.address)
        .output()
        .unwrap();
    assert!(asked.status.success());
    manager.wait_for("EXTEND_TIMEOUT_USEC=30000000");
    let (code, text) = check(&["--model", "/nowhere/model.json"]);
    assert_eq!(
        (code, text.contains("/nowhere/model.json")),
        (Some(1), true),
        "{text}"
    );
    let (code, text) = check(&["--predict-queue", "0"]);
    assert_eq!((code, text.lines().count()), (Some(2), 1), "{text}");
}
