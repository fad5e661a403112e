//! Socket activation: another process opens the listeners, and keeps them while servers start and end.

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::manager::Manager;
use crate::support::{
    Connection, PATIENCE, Server, action, eventually, exchange, has_programs, instance,
    predict_request, skip,
};

const ROW: &str = r#"{"instances": [[6.0, 2.7, 5.1, 1.6]]}"#;

/// From this number on, no descriptors are in use.
const HIGH: i32 = 200;

/// Passes descriptors as in sd_listen_fds(3): `NAMES N M … -- COMMAND`.
const PASS: &str = r#"
    export LISTEN_FDNAMES=$1 LISTEN_PID=$$ LISTEN_FDS=0; shift
    while [ "$1" != -- ]; do
        eval "exec $((3 + LISTEN_FDS))<&$1"
        LISTEN_FDS=$((LISTEN_FDS + 1)); shift
    done
    shift
    exec "$@""#;

/// Sockets that are held open here and passed to servers.
struct Held {
    sockets: Vec<OwnedFd>,
    names: &'static str,
}

impl Held {
    fn new(names: &'static str, sockets: Vec<OwnedFd>) -> Self {
        let high = sockets.into_iter().map(|socket| {
            let high = rustix::io::fcntl_dupfd_cloexec(&socket, HIGH).unwrap();
            rustix::io::fcntl_setfd(&high, rustix::io::FdFlags::empty()).unwrap();
            high
        });
        Held {
            sockets: high.collect(),
            names,
        }
    }

    fn wrapper(&self, before: &[&str]) -> Vec<String> {
        let mut wrapper: Vec<String> = before.iter().map(|word| (*word).to_owned()).collect();
        wrapper.extend(["bash", "-c", PASS, "pass", self.names].map(str::to_owned));
        let numbers = self
            .sockets
            .iter()
            .map(|socket| socket.as_raw_fd().to_string());
        wrapper.extend(numbers);
        wrapper.push("--".to_owned());
        wrapper
    }

    fn start(&self, args: &[&str]) -> Server {
        let wrapper = self.wrapper(&[]);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        Server::wrapped(&wrapper, Path::new(env!("CARGO_BIN_EXE_lanekeeper")), args)
    }

    fn start_fixture(
        &self,
        before: &[&str],
        environment: &[(&str, &str)],
        args: &[&str],
    ) -> Server {
        let wrapper = self.wrapper(before);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        Server::fixture_through(&wrapper, environment, "scripted", args)
    }
}

fn tcp() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A main and a probe listener on TCP.
fn held() -> (Held, SocketAddr, SocketAddr) {
    let (main, main_at) = tcp();
    let (probe, probe_at) = tcp();
    let held = Held::new("predict:probe", vec![main.into(), probe.into()]);
    (held, main_at, probe_at)
}

#[test]
fn named_sockets_are_the_listeners_and_none_else_is_opened() {
    if !has_programs(&["bash"]) {
        return;
    }
    let (main, main_at) = tcp();
    let (probe, probe_at) = tcp();
    let held = Held::new("probe:predict", vec![probe.into(), main.into()]);
    let server = held.start(&["--listen", "127.0.0.1:1", "--probe-listen", "127.0.0.1:2"]);
    assert_eq!((server.main, server.probe), (main_at, Some(probe_at)));
    server.wait_ready();
    assert_eq!(server.predict(ROW).status, 200);
    assert_eq!(server.probe("/livez").status, 200);
    assert_eq!(exchange(probe_at, &predict_request(ROW, "")).status, 404);
    for number in [3, 4] {
        let info = std::fs::read_to_string(format!("/proc/{}/fdinfo/{number}", server.pid()));
        let info = info.unwrap();
        let flags = info
            .lines()
            .find_map(|line| line.strip_prefix("flags:"))
            .unwrap();
        let flags = u32::from_str_radix(flags.trim(), 8).unwrap();
        assert!(flags & 0o2_000_000 != 0, "close-on-exec: {info}");
    }
}

#[test]
fn a_unix_socket_may_be_passed_and_outlives_its_server() {
    if !has_programs(&["bash"]) {
        return;
    }
    let path = std::env::temp_dir().join(format!("lanekeeper-passed-{}", std::process::id()));
    let (main, _) = tcp();
    let probe = UnixListener::bind(&path).unwrap();
    let held = Held::new("predict:probe", vec![main.into(), probe.into()]);
    let mut server = held.start(&[]);
    server.wait_ready();
    let ask = || {
        Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
            .args(["probe", "readyz", "--addr"])
            .arg(format!("unix:{}", path.display()))
            .output()
            .unwrap()
    };
    let asked = ask();
    assert!(asked.status.success(), "{asked:?}");
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(path.exists(), "it is not the server's to take away");
    let successor = held.start(&[]);
    successor.wait_ready();
    assert!(ask().status.success());
    std::fs::remove_file(path).unwrap();
}

#[test]
fn systemd_socket_activate_passes_its_sockets() {
    if !has_programs(&["systemd-socket-activate"]) {
        return;
    }
    let ((main, main_at), (probe, probe_at)) = (tcp(), tcp());
    drop((main, probe));
    let mut child = Command::new("systemd-socket-activate")
        .args(["-l", &main_at.to_string(), "-l", &probe_at.to_string()])
        .args(["--fdname=predict:probe", env!("CARGO_BIN_EXE_lanekeeper")])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let answers = std::panic::catch_unwind(|| {
        eventually("it listens", || {
            std::net::TcpStream::connect(probe_at).is_ok()
        });
        let ready = "GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        eventually("it is ready", || exchange(probe_at, ready).status == 200);
        exchange(main_at, &predict_request(ROW, "")).status
    });
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!(answers.unwrap(), 200);
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn what_is_no_listener_is_one_line_and_exit_code_1() {
    if !has_programs(&["bash"]) {
        return;
    }
    let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
    let held = Held::new("predict", vec![datagrams.into()]);
    let wrapper = held.wrapper(&[]);
    let manager = Manager::at_path();
    let output = Command::new(&wrapper[0])
        .args(&wrapper[1..])
        .args([env!("CARGO_BIN_EXE_lanekeeper"), "serve"])
        .env("NOTIFY_SOCKET", &manager.address)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(
        stderr.contains("must be a stream socket that listens"),
        "{stderr}"
    );
    manager.wait_for("ERRNO=74");
}

#[test]
fn a_drain_serves_its_connections_and_leaves_new_ones_to_the_successor() {
    if !has_programs(&["bash"]) {
        return;
    }
    let (held, main_at, probe_at) = held();
    let args = ["--predict-workers", "1", "--max-wait", "20s"];
    let mut server = held.start_fixture(&[], &[], &args);
    server.wait_ready();
    let mut kept = Connection::open(main_at);
    kept.send(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(kept.read().status, 200);
    let mut running = server.begin(&instance(action::BLOCK, 1.0));
    eventually("it runs", || server.busy() == 1);
    let mut queued = server.begin(&instance(action::ANSWER, 2.0));
    eventually("it waits", || server.queued() == 1);
    server.signal(Signal::TERM);
    eventually("readyz fails", || {
        server.probe("/readyz").body == "draining"
    });
    // A new connection waits in the backlog for the next server.
    let mut next = Connection::open(main_at);
    next.send(predict_request(&instance(action::ANSWER, 5.0), "").as_bytes());
    assert_eq!(
        exchange(probe_at, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").status,
        200
    );
    // A request on a connection that was accepted is served, not refused.
    kept.send(predict_request(&instance(action::ANSWER, 3.0), "").as_bytes());
    server.tell("release");
    for (connection, value) in [(&mut running, 1.0), (&mut queued, 2.0), (&mut kept, 3.0)] {
        let response = connection.read();
        assert_eq!(
            (response.status, response.field("connection")),
            (200, "close")
        );
        assert_eq!(response.json()["predictions"][0].as_f64(), Some(value));
    }
    assert_eq!(server.wait().code(), Some(0));
    let successor = held.start_fixture(&[], &[], &[]);
    let response = next.read();
    assert_eq!(
        response.json()["predictions"][0].as_f64(),
        Some(5.0),
        "{response:?}"
    );
    drop(successor);
}

/// Sends `rate` requests a second until told to stop, on kept connections or on fresh ones.
fn paced_client(
    address: SocketAddr,
    rate: u32,
    keeps: bool,
    stop: Arc<AtomicBool>,
) -> thread::JoinHandle<u32> {
    thread::spawn(move || {
        let (mut kept, mut answered) = (None, 0);
        let began = Instant::now();
        while !stop.load(Ordering::Relaxed) {
            let due = began + Duration::from_secs(1) / rate * answered;
            thread::sleep(due.saturating_duration_since(Instant::now())); // the pace
            let mut connection = kept.take().unwrap_or_else(|| Connection::open(address));
            connection.send(predict_request(ROW, "").as_bytes());
            let response = connection.read();
            assert_eq!(response.status, 200, "{response:?}");
            answered += 1;
            if keeps && response.field("connection") != "close" {
                kept = Some(connection);
            }
        }
        answered
    })
}

#[test]
fn restarts_under_load_refuse_no_connection_and_fail_no_request() {
    if !has_programs(&["bash"]) {
        return;
    }
    let (held, main_at, probe_at) = held();
    let mut server = held.start(&["--access-log-rate", "0"]);
    server.wait_ready();
    let stop = Arc::new(AtomicBool::new(false));
    // Two hundred a second, half of them on fresh connections.
    let clients: Vec<_> = (0..10)
        .map(|client| paced_client(main_at, 20, client % 2 == 0, Arc::clone(&stop)))
        .collect();
    for _ in 0..4 {
        thread::sleep(Duration::from_millis(400)); // load on this server
        let live = exchange(
            probe_at,
            "GET /livez HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(live.status, 200);
        server.signal(Signal::TERM);
        assert_eq!(server.wait().code(), Some(0));
        server = held.start(&["--access-log-rate", "0"]);
        server.wait_ready();
    }
    stop.store(true, Ordering::Relaxed);
    let answered: u32 = clients
        .into_iter()
        .map(|client| client.join().unwrap())
        .sum();
    assert!(answered > 200, "{answered}");
}

/// Whether this machine permits network namespaces.
fn can_unshare() -> bool {
    if !has_programs(&["bash", "unshare", "true"]) {
        return false;
    }
    let unshared = Command::new("unshare").args(["--net", "true"]).status();
    let can = unshared.is_ok_and(|status| status.success());
    if !can {
        skip("no network namespace can be made on this machine");
    }
    can
}

#[test]
fn without_a_network_inherited_sockets_work_and_the_watchdog_works() {
    if !can_unshare() {
        return;
    }
    let path = std::env::temp_dir().join(format!("lanekeeper-offline-{}", std::process::id()));
    for by_path in [false, true] {
        let manager = Manager::at_path();
        let environment = [
            ("NOTIFY_SOCKET", manager.address.as_str()),
            ("WATCHDOG_USEC", "500000"),
        ];
        let (main, main_at) = tcp();
        let (probe, _) = tcp();
        let probe: OwnedFd = if by_path {
            UnixListener::bind(&path).unwrap().into()
        } else {
            probe.into()
        };
        let held = Held::new("predict:probe", vec![main.into(), probe]);
        let mut server = held.start_fixture(&["unshare", "--net"], &environment, &[]);
        assert_eq!(server.main, main_at);
        server.wait_ready();
        let lives = || manager.count("WATCHDOG=1");
        eventually("it gives signs of life", || lives() > 4);
        let looks = server
            .logged()
            .contains("it checks whether connections there are accepted");
        assert_eq!(looks, !by_path);
        server.tell("hang connection 64");
        // The reserved thread hangs too: it would accept once all others are taken.
        server.tell("hang reserve 2");
        // Without a probe of its own, the server notices only while a connection waits in the backlog.
        let _waits: Vec<Connection> = match server.probe {
            Some(probe) => (0..70).map(|_| Connection::open(probe)).collect(),
            None => Vec::new(),
        };
        manager.wait_for_silence("WATCHDOG=1", Duration::from_secs(1));
        let before = lives();
        server.tell("free");
        eventually("it hears again", || lives() > before);
        if by_path {
            std::fs::remove_file(&path).unwrap();
        }
    }
}

#[test]
fn a_held_socket_is_never_shut_down() {
    if !has_programs(&["bash"]) {
        return;
    }
    let (held, main_at, _) = held();
    let mut server = held.start(&[]);
    server.wait_ready();
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert!(rustix::net::sockopt::socket_acceptconn(held.sockets[0].as_fd()).unwrap());
    let client = std::net::TcpStream::connect_timeout(&main_at, PATIENCE).unwrap();
    drop(client);
}
