//! Settings from the environment, and how values of options are read.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::process::{Command, Output};

use crate::support::{Server, eventually, own_ip};

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    command.args(args);
    command
}

fn run(variables: &[(&str, &str)], args: &[&str]) -> Output {
    let mut command = command(args);
    command.envs(variables.iter().copied()).output().unwrap()
}

/// Exit code, stdout and stderr.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn an_empty_variable_counts_as_not_set() {
    let help = told(&run(&[], &["serve", "--help"])).1;
    let options = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix("--"));
    let names = options.filter_map(|line| line.split([' ', ',']).next());
    let names: Vec<String> = names
        .map(|name| format!("LANEKEEPER_{}", name.to_uppercase().replace('-', "_")))
        .collect();
    assert!(names.len() > 30, "{names:?}");
    let empty: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let (code, stdout, stderr) = told(&run(&empty, &["check"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(
        stdout.ends_with("would be served on 127.0.0.1:8080\n"),
        "{stdout}"
    );
    let (_, without, _) = told(&run(&[], &["manifest", "kubernetes"]));
    let (_, with, _) = told(&run(&empty, &["manifest", "kubernetes"]));
    assert_eq!(with, without);
    // A probe with the same environment finds a server that listens there.
    let ip = own_ip();
    let main = format!("{ip}:7000");
    let server = Server::real(&["--listen", &main]);
    let variables = [
        ("LANEKEEPER_LISTEN", main.as_str()),
        ("LANEKEEPER_PROBE_LISTEN", ""),
        ("LANEKEEPER_PROBE_ADDR", ""),
        ("LANEKEEPER_PROBE_TIMEOUT", ""),
    ];
    let (code, _, stderr) = told(&run(&variables, &["probe"]));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    drop(server);
}

#[test]
fn switches_are_read_in_any_of_their_words() {
    for (word, on) in [
        ("1", true),
        ("true", true),
        ("yes", true),
        ("on", true),
        ("TRUE", true),
        ("0", false),
        ("false", false),
        ("no", false),
        ("off", false),
        ("Off", false),
    ] {
        let variables = [
            ("LANEKEEPER_SHARED_LANE", word),
            ("LANEKEEPER_WATCH", word),
            ("LANEKEEPER_REPLACE_STUCK_WORKERS", word),
        ];
        let (code, stdout, stderr) = told(&run(&variables, &["check"]));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{word}: {stdout}");
        let (_, manifest, _) = told(&run(&variables, &["manifest", "kubernetes"]));
        for flag in ["--shared-lane", "--watch"] {
            let given = manifest.lines().any(|line| line.contains(flag));
            assert_eq!(given, on, "{word}: {flag} in {manifest}");
        }
    }
    for variable in [
        "LANEKEEPER_SHARED_LANE",
        "LANEKEEPER_WATCH",
        "LANEKEEPER_REPLACE_STUCK_WORKERS",
    ] {
        let (code, _, stderr) = told(&run(&[(variable, "perhaps")], &["check"]));
        assert_eq!(code, Some(2));
        let expected = format!(
            "lanekeeper: invalid value 'perhaps' for '{variable}': on is 1, true, yes or on, and off"
        );
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
}

#[test]
fn an_error_that_comes_from_a_variable_names_it_and_no_option() {
    for (variable, value, option) in [
        ("LANEKEEPER_PREDICT_WORKERS", "0", "--predict-workers"),
        ("LANEKEEPER_PREDICT_WORKERS", "many", "--predict-workers"),
        ("LANEKEEPER_PREDICT_QUEUE", "0", "--predict-queue"),
        ("LANEKEEPER_PREDICT_QUEUE", "99999999", "--predict-queue"),
        ("LANEKEEPER_MAX_WAIT", "soon", "--max-wait"),
        ("LANEKEEPER_LISTEN", "8080", "--listen"),
        ("LANEKEEPER_PROBE_LISTEN", "8080", "--probe-listen"),
        ("LANEKEEPER_LOG_LEVEL", "loud", "--log-level"),
        ("LANEKEEPER_LOG_FORMAT", "xml", "--log-format"),
        ("LANEKEEPER_STALL_TIMEOUT", "1ms", "--stall-timeout"),
        ("LANEKEEPER_MAX_HEAD", "1", "--max-head"),
        ("LANEKEEPER_MAX_FIELDS", "1000", "--max-fields"),
        ("LANEKEEPER_CANARY_TIMEOUT", "1ms", "--canary-timeout"),
        ("LANEKEEPER_FAIR_BY", "luck", "--fair-by"),
        ("LANEKEEPER_OVERLOAD_STATUS", "500", "--overload-status"),
        ("LANEKEEPER_SOCKET_MODE", "rw", "--socket-mode"),
    ] {
        for command in ["serve", "check"] {
            let (code, _, stderr) = told(&run(&[(variable, value)], &[command]));
            assert_eq!((code, stderr.lines().count()), (Some(2), 1), "{stderr}");
            assert!(stderr.contains(variable), "{variable}: {stderr}");
            assert!(!stderr.contains(option), "{option}: {stderr}");
            // If the option is given too, the error names the option rather than the variable.
            let typed = format!("{option}={value}");
            let (code, _, stderr) = told(&run(&[(variable, value)], &[command, &typed]));
            assert_eq!(code, Some(2));
            assert!(stderr.contains(option), "{option}: {stderr}");
            assert!(!stderr.contains(variable), "{variable}: {stderr}");
        }
        // Commands without this option ignore the variable.
        let (code, ..) = told(&run(&[(variable, value)], &["inspect"]));
        assert_eq!(code, Some(0), "{variable}");
    }
    let probe = [("LANEKEEPER_PROBE_ADDR", "8081")];
    let (code, _, stderr) = told(&run(&probe, &["probe"]));
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with("lanekeeper: LANEKEEPER_PROBE_ADDR must be"),
        "{stderr}"
    );
    let in_pod = [("LANEKEEPER_LISTEN", "unix:/run/a")];
    let (code, _, stderr) = told(&run(&in_pod, &["manifest", "kubernetes"]));
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with("lanekeeper: LANEKEEPER_LISTEN must be HOST:PORT in a pod"),
        "{stderr}"
    );
    let mut no_text = command(&["check"]);
    no_text.env("LANEKEEPER_LISTEN", OsStr::from_bytes(b"\xff"));
    let (code, _, stderr) = told(&no_text.output().unwrap());
    assert_eq!(code, Some(2));
    assert!(
        stderr.starts_with("lanekeeper: LANEKEEPER_LISTEN must be UTF-8"),
        "{stderr}"
    );
    // An address in use is also reported by the variable's name.
    let server = Server::real(&[]);
    let taken = server.main.to_string();
    let variables = [("LANEKEEPER_LISTEN", taken.as_str())];
    let (code, _, stderr) = told(&run(&variables, &["serve"]));
    assert_eq!(code, Some(1));
    assert!(
        stderr.ends_with("choose another with LANEKEEPER_LISTEN\n"),
        "{stderr}"
    );
}

#[test]
fn a_variable_that_no_option_knows_is_one_warning_with_the_nearest_name() {
    let variables = [
        ("LANEKEEPER_PREDICT_WORKER", "4"),
        // Variables that Kubernetes sets for a Service called lanekeeper.
        ("LANEKEEPER_SERVICE_HOST", "10.0.0.1"),
        ("LANEKEEPER_SERVICE_PORT", "80"),
        ("LANEKEEPER_SERVICE_PORT_HTTP", "80"),
        ("LANEKEEPER_PORT", "tcp://10.0.0.1:80"),
        ("LANEKEEPER_PORT_80_TCP", "tcp://10.0.0.1:80"),
        ("LANEKEEPER_PORT_80_TCP_PROTO", "tcp"),
        ("LANEKEEPER_PORT_80_TCP_PORT", "80"),
        ("LANEKEEPER_PORT_80_TCP_ADDR", "10.0.0.1"),
    ];
    let warning = "\"LANEKEEPER_PREDICT_WORKER\" is set, but no option has such a variable; the nearest is LANEKEEPER_PREDICT_WORKERS";
    for args in [&["check"][..], &["manifest", "systemd"]] {
        let (code, _, stderr) = told(&run(&variables, args));
        assert_eq!(code, Some(0), "{stderr}");
        assert_eq!(stderr, format!("lanekeeper: {warning}\n"));
    }
    let server = Server::real_in(&variables, &[]);
    server.wait_ready();
    eventually("it is logged", || server.logged().contains(warning));
    let logged = server.logged();
    let warnings: Vec<&str> = logged
        .lines()
        .filter(|line| line.contains("LANEKEEPER_"))
        .collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("WARN"), "{warnings:?}");
}

#[test]
fn words_of_options_may_be_in_capitals() {
    for option in [
        "--log-level=INFO",
        "--log-level=Warn",
        "--log-format=JSON",
        "--yield=Off",
        "--stall-policy=ANY",
    ] {
        let (code, _, stderr) = told(&run(&[], &["check", option]));
        assert_eq!(code, Some(0), "{option}: {stderr}");
    }
    let server = Server::real(&["--log-level", "INFO"]);
    server.wait_ready();
    assert!(server.logged().contains("listening on "));
}

#[test]
fn an_invalid_port_and_an_unknown_host_have_their_own_texts() {
    for (option, address, expected) in [
        ("--listen", "127.0.0.1:65536", "a port of at most 65535"),
        ("--listen", "localhost:70000", "a port of at most 65535"),
        ("--probe-listen", "[::]:70000", "a port of at most 65535"),
        (
            "--listen",
            "nobody.invalid:80",
            "a host that this machine can resolve",
        ),
        (
            "--probe-listen",
            "nobody.invalid:80",
            "a host that this machine can resolve",
        ),
    ] {
        let (code, _, stderr) = told(&run(&[], &["serve", option, address]));
        assert_eq!(code, Some(2), "{stderr}");
        let beginning = format!("lanekeeper: {option} must be HOST:PORT with {expected}");
        assert!(stderr.starts_with(&beginning), "{stderr}");
        assert!(stderr.contains(address), "{stderr}");
    }
    let (code, _, stderr) = told(&run(&[], &["probe", "--addr", "localhost:70000"]));
    assert_eq!(code, Some(2));
    assert!(stderr.contains("a port of at most 65535"), "{stderr}");
}
