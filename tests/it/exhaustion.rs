//! The probe listener works even if descriptors, threads or memory run out.
//!
//! The limits are set with `prlimit` and `setpriv` of util-linux; without those, these tests are skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::attacks::{self, Attack, PREDICTION, SMALL, Seen, Usage, observe};
use crate::clients::{PLAN, check_unharmed, idle_usage, inject, subject};
use crate::support::{Server, eventually, has_programs, skip};

/// File descriptors beyond those of the idle server: too few for 300 clients.
const ROOM: u64 = 40;

/// Threads that a server may have: enough for its probe listener (64), its lanes and some clients, but
/// not for 300 clients.
const THREADS: u64 = 120;

/// The id of `nobody`, an unprivileged user on every Linux.
const NOBODY: &str = "65534";

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_lanekeeper"))
}

/// Lowers a limit of the running server.
fn limit(server: &Server, option: &str) {
    let pid = server.pid().to_string();
    let status = Command::new("prlimit")
        .args(["--pid", &pid, option])
        .status()
        .unwrap();
    assert!(status.success(), "prlimit --pid {pid} {option}");
}

/// Attacks a server that runs out of a resource. No probe on the probe listener may fail, and the main
/// listener must serve again afterwards.
fn survive(server: &Server, attack: &Attack, idle: Usage) -> Seen {
    let seen = observe(subject(server), Some(attack), &PLAN, idle)
        .unwrap_or_else(|error| panic!("{}: {error}", attack.name));
    eprintln!("{}: {seen}; idle {idle}", attack.name);
    assert!(
        seen.probe.failed() == 0 && seen.probe.ok() > 0,
        "{}: {seen}",
        attack.name
    );
    assert!(
        seen.recovery.is_some(),
        "{}: {seen}; idle {idle}",
        attack.name
    );
    eventually("predictions are served again", || {
        server.predict(PREDICTION).status == 200
    });
    seen
}

#[test]
fn probes_pass_while_a_server_started_with_few_descriptors_has_none_left() {
    if !has_programs(&["prlimit"]) {
        return;
    }
    let _turn = inject();
    let server = Server::wrapped(&["prlimit", "--nofile=128:128"], binary(), &[]);
    let idle = idle_usage(&server);
    for attack in &SMALL {
        let seen = survive(&server, attack, idle);
        // The attack took many descriptors, or this would test nothing. It need not take all, because some
        // are reserved for the probe listener.
        assert!(
            seen.peak.descriptors > idle.descriptors + ROOM,
            "{seen}; idle {idle}"
        );
    }
    check_unharmed(&server);
}

#[test]
fn probes_pass_when_the_descriptor_limit_of_a_running_server_is_lowered() {
    if !has_programs(&["prlimit"]) {
        return;
    }
    let _turn = inject();
    let server = Server::real(&[]);
    let idle = idle_usage(&server);
    let most = idle.descriptors + ROOM;
    limit(&server, &format!("--nofile={most}:{most}"));
    for attack in &SMALL {
        survive(&server, attack, idle);
    }
    check_unharmed(&server);
}

/// A directory that anybody may enter, removed when dropped.
struct Open(PathBuf);

impl Open {
    fn with_binary() -> Self {
        let directory = std::env::temp_dir().join(format!("lanekeeper-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let open = Open(directory);
        let copy = open.binary();
        fs::copy(binary(), &copy).unwrap();
        for path in [&open.0, &copy] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        open
    }

    fn binary(&self) -> PathBuf {
        self.0.join("lanekeeper")
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn probes_pass_while_the_system_gives_no_more_threads() {
    if !has_programs(&["prlimit", "setpriv"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("the limit on a user's threads needs a user of its own, and so root");
    }
    let _turn = inject();
    let open = Open::with_binary();
    // The limit is for all threads of the user, of which other programs may have some.
    let most = threads_of(NOBODY) + THREADS;
    let wrapper = [
        "prlimit".to_owned(),
        format!("--nproc={most}:{most}"),
        "setpriv".to_owned(),
        format!("--reuid={NOBODY}"),
        format!("--regid={NOBODY}"),
        "--clear-groups".to_owned(),
    ];
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let server = Server::wrapped(&wrapper, &open.binary(), &[]);
    let idle = idle_usage(&server);
    for attack in &SMALL {
        let seen = survive(&server, attack, idle);
        assert!(seen.peak.threads <= most, "{seen}");
    }
    check_unharmed(&server);
}

#[test]
fn a_start_without_threads_names_the_limits_and_what_is_needed() {
    if !has_programs(&["prlimit", "setpriv"]) {
        return;
    }
    if !rustix::process::geteuid().is_root() {
        return skip("the limit on a user's threads needs a user of its own, and so root");
    }
    let _turn = inject();
    let open = Open::with_binary();
    let most = threads_of(NOBODY) + 20;
    let run = |args: &[&str]| {
        let output = Command::new("prlimit")
            .arg(format!("--nproc={most}:{most}"))
            .args(["setpriv", &format!("--reuid={NOBODY}")])
            .args([&format!("--regid={NOBODY}"), "--clear-groups"])
            .arg(open.binary())
            .args(args)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        let text = String::from_utf8(output.stderr).unwrap();
        text.lines().last().unwrap_or_default().to_owned()
    };
    let line = run(&["serve", "--listen", "127.0.0.1:0", "--predict-workers", "2"]);
    for part in [
        format!("`ulimit -u` is {most}").as_str(),
        "pids.max of the cgroup is ",
        "--max-probe-connections",
    ] {
        assert!(line.contains(part), "{part} in {line}");
    }
    let needed = line.split(" threads are needed").next().unwrap();
    let needed: usize = needed.rsplit(' ').next().unwrap().parse().unwrap();
    // That is the number of threads of a running server, and one more that loads the model and ends.
    let server = Server::real(&["--predict-workers", "2"]);
    server.wait_ready();
    let running = server.resources().0;
    assert!(
        (running..=running + 2).contains(&needed),
        "{needed}, {running}"
    );
}

/// Number of a user's threads, which the kernel counts against `RLIMIT_NPROC`.
fn threads_of(user: &str) -> u64 {
    let processes = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let threads = |entry: fs::DirEntry| {
        let status = fs::read_to_string(entry.path().join("status")).ok()?;
        let value = |name| {
            status
                .lines()
                .find_map(|line: &str| line.strip_prefix(name))
        };
        let real = value("Uid:")?.split_whitespace().next()?;
        (real == user).then(|| value("Threads:")?.trim().parse::<u64>().ok())?
    };
    processes.filter_map(threads).sum()
}

/// The limit is on address space, which includes buffers and a stack for every permitted connection.
#[test]
fn a_server_without_room_for_more_memory_lives() {
    const BUFFERED_KIB: u64 = 256 << 10;
    const MARGIN_KIB: u64 = 64 << 10;
    if !has_programs(&["prlimit"]) {
        return;
    }
    let _turn = inject();
    let server = Server::real(&[]);
    let idle = idle_usage(&server);
    let most = (idle.data_kib + BUFFERED_KIB + MARGIN_KIB) << 10;
    limit(&server, &format!("--data={most}:{most}"));
    for attack in attacks::named("upload:").chain(attacks::named("json:")) {
        survive(&server, attack, idle);
    }
    check_unharmed(&server);
}
