//! The command line: options, exit codes, and what goes to which stream.

use std::fs::File;
use std::io::{self, Read as _};
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};

use crate::support::{Killed, Server, eventually, own_ip};

fn run(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(args)
        .output()
        .unwrap()
}

fn one_line(output: &Output) -> String {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let last = text.lines().last().unwrap_or_default().to_owned();
    assert!(last.starts_with("lanekeeper: "), "{text}");
    assert!(output.stdout.is_empty());
    last
}

#[test]
fn wrong_options_are_one_line_on_stderr_and_exit_code_2() {
    for (args, expected) in [
        (vec!["--nonsense"], "unexpected argument '--nonsense'"),
        (
            vec!["serve", "--predict-queue", "0"],
            "--predict-queue must be at least 1",
        ),
        (vec!["--max-wait", "soon"], "--max-wait"),
        (vec!["--listen", "8080"], "--listen must be HOST:PORT"),
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(
            one_line(&output).contains(expected),
            "{args:?}: {}",
            one_line(&output)
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr).lines().count(),
            1,
            "{args:?}"
        );
    }
}

#[test]
fn version_names_the_commit_and_help_names_the_limits_with_their_units() {
    let version = String::from_utf8(run(&["--version"]).stdout).unwrap();
    assert!(
        version.starts_with(concat!("lanekeeper ", env!("CARGO_PKG_VERSION"), " (")),
        "{version}"
    );
    let help = String::from_utf8(run(&["serve", "--help"]).stdout).unwrap();
    // Help wraps to the width of the terminal.
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    for option in [
        "--max-connections <N>",
        "--max-head <BYTES>",
        "--head-timeout <DURATION>",
        "--max-body <BYTES>",
        "[default: 16MiB]",
        "[default: 256MiB, at most a quarter of the memory limit]",
        "LANEKEEPER_MAX_WAIT",
    ] {
        assert!(help.contains(option), "{option} in {help}");
    }
    assert!(!help.contains("--shared-lane"), "{help}");
    let short = String::from_utf8(run(&["serve", "-h"]).stdout).unwrap();
    assert!(
        short.contains("--max-wait") && !short.contains("--pace-"),
        "{short}"
    );
    assert!(short.lines().count() < 60, "{short}");
}

#[test]
fn help_lists_the_topics_and_shows_each() {
    let told = |args: &[&str]| String::from_utf8(run(args).stdout).unwrap();
    let list = told(&["help"]);
    assert!(list.contains("Usage: lanekeeper"), "{list}");
    for topic in lanekeeper::guide::TOPICS {
        assert!(list.contains(&format!("\n  {} ", topic.name)), "{list}");
        let page = told(&["help", topic.name]);
        assert!(
            page.starts_with("# ") && page.starts_with(topic.text),
            "{page}"
        );
        let readme = include_str!("../../README.md");
        let link = format!("[{0}](src/guide/{0}.md)", topic.name);
        assert!(readme.contains(&link), "{link}");
    }
    assert!(told(&["help", "serve"]).contains("--max-wait"));
    // `drill` is both a topic and a command: help shows the topic and names the command's `--help`.
    assert!(told(&["help", "drill"]).ends_with("`lanekeeper drill --help` lists the options.\n"));
    let output = run(&["help", "nonsense"]);
    assert_eq!(output.status.code(), Some(2));
    let line = one_line(&output);
    assert!(
        line.contains("nonsense") && line.contains("overload"),
        "{line}"
    );
}

#[test]
fn an_address_in_use_is_one_line_with_the_remedy_and_exit_code_1() {
    let server = Server::real(&["--probe-listen", "none"]);
    let taken = server.main.to_string();
    for args in [
        vec!["--listen", &taken],
        vec!["--listen", "127.0.0.1:0", "--probe-listen", &taken],
    ] {
        let output = run(&args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let line = one_line(&output);
        assert!(
            line.contains("cannot listen on") && line.contains("choose another with"),
            "{line}"
        );
    }
}

const IRIS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/iris.csv");

/// Runs every command that prints, each with a stdout from `stdout`, and returns their outputs.
fn print_everything(stdout: impl Fn() -> Stdio) -> Vec<(String, Output)> {
    let server = Server::real(&[]);
    let address = server.probe.unwrap().to_string();
    let model = std::env::temp_dir().join(format!("lanekeeper-print-{}", std::process::id()));
    let model = model.to_str().unwrap();
    let learn = format!(
        "train --algorithm logistic-regression --folds 0 --data {IRIS} --target species --out {model}"
    );
    let commands = [
        "--help",
        "--version",
        "serve --help",
        "help",
        "help probe",
        "help overload",
        "manifest kubernetes",
        "manifest systemd",
        "inspect",
        "inspect --json",
        "check",
        "train --algorithm help",
        &learn,
        &format!("predict --data {IRIS}"),
        &format!("predict --json --data {IRIS}"),
        &format!("probe livez --addr {address}"),
    ];
    let run = |command: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
            .args(command.split(' '))
            .stdout(stdout())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
            .wait_with_output()
            .unwrap();
        (command.to_owned(), output)
    };
    let outputs = commands.iter().map(|command| run(command)).collect();
    std::fs::remove_file(model).unwrap();
    outputs
}

#[test]
fn output_that_cannot_be_written_is_exit_code_1_with_a_line() {
    let full = || File::options().write(true).open("/dev/full").unwrap();
    // Opened for reading only.
    let closed = || File::open("/dev/null").unwrap();
    for (why, stdout) in [
        ("No space left on device", &full as &dyn Fn() -> File),
        ("Bad file descriptor", &closed),
    ] {
        for (command, output) in print_everything(|| stdout().into()) {
            assert_eq!(output.status.code(), Some(1), "{command}: {output:?}");
            let line = one_line(&output);
            assert!(
                line.starts_with("lanekeeper: cannot write ") && line.contains(why),
                "{command}: {line}"
            );
        }
    }
}

#[test]
fn a_file_that_may_not_grow_is_exit_code_1_with_a_line_too() {
    let path = std::env::temp_dir().join(format!("lanekeeper-small-{}", std::process::id()));
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -f 1; exec "$0" manifest kubernetes >"$1""#])
        .args([env!("CARGO_BIN_EXE_lanekeeper"), path.to_str().unwrap()])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(one_line(&output).contains("cannot write to stdout: File too large"));
    std::fs::remove_file(path).unwrap();
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let without_reader = || io::pipe().unwrap().1.into();
    for (command, output) in print_everything(without_reader) {
        assert_eq!(output.status.code(), Some(0), "{command}: {output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!told.contains("cannot write"), "{command}: {told}");
    }
}

/// Checks that `serve` with `args` ends because it has no probe listener, and names both remedies.
fn check_no_probe_listener(args: &[&str], expected: &str) {
    let child = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    // If the server starts after all, it is killed when the test fails.
    let mut child = Killed(child.unwrap());
    let mut status = None;
    eventually("the server ends at its start", || {
        status = child.0.try_wait().unwrap();
        status.is_some()
    });
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let pipes = (child.0.stdout.take(), child.0.stderr.take());
    pipes.0.unwrap().read_to_end(&mut stdout).unwrap();
    pipes.1.unwrap().read_to_end(&mut stderr).unwrap();
    let output = Output {
        status: status.unwrap(),
        stdout,
        stderr,
    };
    assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
    let line = one_line(&output);
    for part in [expected, "with --probe-listen", "--probe-listen none"] {
        assert!(line.contains(part), "{args:?}: {part} in {line}");
    }
}

#[test]
fn an_unavailable_probe_port_is_exit_code_1_with_both_remedies() {
    let ip = own_ip();
    let (main, taken) = (format!("{ip}:7000"), format!("{ip}:7001"));
    let _next = TcpListener::bind(&taken).unwrap();
    check_no_probe_listener(&["serve", "--listen", &main], &taken);
    // The same for an address that was given, and if the main address has no next port or path.
    let typed = ["--listen", "127.0.0.1:0", "--probe-listen", &taken];
    check_no_probe_listener(&typed, &taken);
    let last = ["--listen", "127.0.0.1:65535"];
    check_no_probe_listener(&last, "no address beside 127.0.0.1:65535");
    let long = format!("/tmp/{}", "x".repeat(100));
    check_no_probe_listener(&["--listen", &format!("unix:{long}")], "no address beside");
    let folder = std::env::temp_dir().join(format!("lanekeeper-beside-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("a.probe")).unwrap();
    let beside_folder = format!("unix:{}/a", folder.display());
    check_no_probe_listener(&["--listen", &beside_folder], "a file that is not a socket");
    assert!(!folder.join("a").exists(), "the main socket's file is gone");
    std::fs::remove_dir_all(folder).unwrap();
    // The second remedy works.
    let server = Server::real(&["--probe-listen", "none"]);
    assert_eq!(server.get("/livez").status, 200);
}

#[test]
fn a_model_that_cannot_be_served_is_one_line_and_exit_code_1() {
    let directory = std::env::temp_dir().join(format!("lanekeeper-cli-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let default = include_str!("../../src/models/embedded.json");
    for (name, contents, expected) in [
        ("empty.json", "", "it is empty"),
        ("other.json", "{}", "not a lanekeeper model file"),
        ("cut.json", &default[..1000], "truncated"),
        (
            "altered.json",
            &default.replace("setosa", "sitosa"),
            "checksum",
        ),
        (
            "future.json",
            &default.replace("\"format_version\":2", "\"format_version\":9"),
            "format version is 9",
        ),
    ] {
        let path = directory.join(name);
        std::fs::write(&path, contents).unwrap();
        let output = run(&[
            "--listen",
            "127.0.0.1:0",
            "--log-level",
            "error",
            "--model",
            path.to_str().unwrap(),
        ]);
        assert_eq!(output.status.code(), Some(1), "{name}");
        let line = one_line(&output);
        assert!(
            line.contains(expected) && line.contains(name),
            "{name}: {line}"
        );
        assert_eq!(
            String::from_utf8_lossy(&output.stderr).lines().count(),
            1,
            "{name}"
        );
    }
    std::fs::remove_dir_all(&directory).unwrap();
    let output = run(&["--listen", "127.0.0.1:0", "--model", "/nowhere/model.json"]);
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_model_file_is_served_like_the_embedded_one() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/embedded.json");
    let server = Server::real(&["--model", path]);
    server.wait_ready();
    let response = server.predict(r#"{"instances": [[6.3, 3.3, 6.0, 2.5]]}"#);
    assert_eq!(response.json()["predictions"][0], "virginica");
}
