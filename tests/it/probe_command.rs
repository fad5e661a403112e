//! `lanekeeper probe`: its exit codes, its output, which server it asks, and that it ends in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::support::{Killed, PATIENCE, Server, action, eventually, instance, own_ip};

/// Maximum duration of a probe with `--timeout 200ms` on a machine that is busy with other tests.
const SOON: Duration = PATIENCE;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    command
        .arg("probe")
        .args(args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// Waits for a probe to end; one that does not end fails the test instead of blocking it.
fn verdict(mut probe: Child) -> Verdict {
    let deadline = Instant::now() + 2 * PATIENCE;
    while probe.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            probe.kill().unwrap();
            panic!("{:?}", Verdict::from(probe.wait_with_output().unwrap()));
        }
        thread::sleep(Duration::from_millis(1)); // polling interval
    }
    probe.wait_with_output().unwrap().into()
}

fn ended(command: &mut Command) -> Verdict {
    verdict(command.spawn().unwrap())
}

/// The result of a probe: exit code, stdout, stderr.
#[derive(Debug)]
struct Verdict(Option<i32>, String, String);

impl From<Output> for Verdict {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Verdict(
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    }
}

impl Verdict {
    fn assert_passed(&self) {
        assert_eq!(
            (self.0, self.1.as_str(), self.2.as_str()),
            (Some(0), "ok\n", "")
        );
    }

    fn assert_failed(&self, code: i32, beginning: &str) {
        assert_eq!(self.0, Some(code), "{self:?}");
        assert_eq!(self.1, "", "{self:?}");
        let expected = format!("lanekeeper: {beginning}");
        assert!(self.2.starts_with(&expected), "{expected:?}, {self:?}");
        assert!(self.2.ends_with('\n'), "{self:?}");
    }
}

fn probe(args: &[&str]) -> Verdict {
    ended(&mut command(args))
}

fn probe_at(address: SocketAddr, check: &str) -> Verdict {
    probe(&[check, "--addr", &address.to_string()])
}

/// A path that no other test uses; removed at the end.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> Self {
        let name = format!("lanekeeper-{name}-{}.sock", std::process::id());
        SocketPath(std::env::temp_dir().join(name))
    }

    fn typed(&self) -> String {
        format!("unix:{}", self.0.display())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_server_that_is_well_passes_every_check_on_both_listeners() {
    let server = Server::real(&[]);
    server.wait_ready();
    for address in [server.main, server.probe.unwrap()] {
        probe(&["--addr", &address.to_string()]).assert_passed();
        for check in ["livez", "readyz", "startupz"] {
            probe_at(address, check).assert_passed();
        }
    }
}

#[test]
fn a_failing_check_is_exit_code_1_with_its_reason() {
    let server = Server::fixture("wrong", &[]);
    eventually("the trial has failed", || {
        server.get("/readyz").status == 500
    });
    let address = server.probe.unwrap();
    let verdict = probe_at(address, "readyz");
    let beginning = format!("/readyz at http://{address} failed with 500: Model inference failed");
    verdict.assert_failed(1, &beginning);
    let lines: Vec<&str> = verdict.2.lines().collect();
    assert_eq!(lines.len(), 2, "{verdict:?}");
    assert!(lines[1].starts_with("[-]"), "{verdict:?}");
    // The same server is alive.
    probe_at(address, "livez").assert_passed();
}

#[test]
fn livez_of_a_stuck_server_is_exit_code_1_with_its_reason() {
    let mut server = Server::fixture(
        "scripted",
        &["--predict-workers", "1", "--stall-timeout", "50ms"],
    );
    server.wait_ready();
    let held = server.begin(&instance(action::BLOCK, 0.0));
    let address = server.probe.unwrap();
    eventually("its one worker is stuck", || {
        server.probe("/livez").status == 500
    });
    let verdict = probe_at(address, "livez");
    let beginning = format!(
        "/livez at http://{address} failed with 500: Service has stopped completing predictions\n[-]workers failed: "
    );
    verdict.assert_failed(1, &beginning);
    server.tell("release");
    drop(held);
}

#[test]
fn startupz_is_exit_code_1_until_the_model_is_loaded() {
    let mut server = Server::fixture("slow-load", &[]);
    let address = server.probe.unwrap();
    let beginning = format!("/startupz at http://{address} failed with 503: ");
    probe_at(address, "startupz").assert_failed(1, &beginning);
    probe_at(address, "livez").assert_passed();
    server.tell("release");
    eventually("it has started", || {
        probe_at(address, "startupz").0 == Some(0)
    });
}

#[test]
fn the_server_is_found_in_the_environment() {
    let path = SocketPath::new("found");
    let server = Server::real(&["--probe-listen", &path.typed()]);
    let main = server.main.to_string();
    let everywhere = format!("0.0.0.0:{}", server.main.port());
    let named = format!("localhost:{}", server.main.port());
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nobody = free.unwrap().to_string();
    let passes: &[&[(&str, &str)]] = &[
        &[("LANEKEEPER_PROBE_LISTEN", &path.typed())],
        &[("LANEKEEPER_PROBE_LISTEN", &main)],
        &[("LANEKEEPER_PROBE_LISTEN", &everywhere)],
        &[("LANEKEEPER_PROBE_LISTEN", &named)],
        &[
            ("LANEKEEPER_PROBE_LISTEN", "none"),
            ("LANEKEEPER_LISTEN", &main),
        ],
        &[
            ("LANEKEEPER_PROBE_ADDR", &main),
            ("LANEKEEPER_PROBE_LISTEN", &nobody),
        ],
    ];
    for variables in passes {
        let verdict = ended(command(&[]).envs(variables.iter().copied()));
        assert_eq!(verdict.0, Some(0), "{variables:?}: {verdict:?}");
    }
    // Options override the environment.
    ended(command(&["--addr", &main]).env("LANEKEEPER_PROBE_ADDR", &nobody)).assert_passed();
    let beginning = format!("cannot probe /livez at http://{nobody}: cannot connect: ");
    ended(command(&[]).env("LANEKEEPER_PROBE_LISTEN", &nobody)).assert_failed(1, &beginning);
}

#[test]
fn the_probe_listener_beside_the_main_one_is_found() {
    let main = SocketPath::new("beside");
    let probes = SocketPath(PathBuf::from(format!("{}.probe", main.0.display())));
    let server = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .env("LANEKEEPER_LISTEN", main.typed())
        .env("LANEKEEPER_LOG_LEVEL", "off")
        .spawn()
        .unwrap();
    let server = Killed(server);
    let ask = || ended(command(&[]).env("LANEKEEPER_LISTEN", main.typed()));
    eventually("it answers", || ask().0 == Some(0));
    drop(server);
    // The socket files still exist, and the error names that of the probe listener.
    let place = format!(
        "cannot probe /livez at {}: cannot connect: ",
        probes.typed()
    );
    ask().assert_failed(1, &place);
}

/// Starts a server with this option and waits until it answers at `probe`; `None` if it ends.
fn listening(listen: &str, probe: &str) -> Option<Killed> {
    let server = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["serve", &format!("--listen={listen}"), "--log-level=off"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Killed(server);
    let mut ended = false;
    eventually("it answers or has ended", || {
        ended = server.0.try_wait().unwrap().is_some();
        ended || probe_at(probe.parse().unwrap(), "livez").0 == Some(0)
    });
    (!ended).then_some(server)
}

#[test]
fn a_server_on_every_address_is_found_over_loopback() {
    let found = |port: u16| {
        listening(
            &format!("0.0.0.0:{port}"),
            &format!("127.0.0.1:{}", port + 1),
        )
    };
    // Another program may have one of these ports.
    let ports = [7100, 7110, 7120, 7130, 7140];
    let (_server, port) = ports
        .into_iter()
        .find_map(|port| Some((found(port)?, port)))
        .expect("two free ports");
    probe(&["--addr", &format!("127.0.0.1:{}", port + 1)]).assert_passed();
    for listen in ["127.0.0.1", "0.0.0.0", "localhost", "[::]"] {
        let listen = format!("{listen}:{port}");
        ended(command(&[]).env("LANEKEEPER_LISTEN", listen)).assert_passed();
    }
    // On the default ports, the environment can be empty.
    match found(8080) {
        Some(_server) => ended(command(&[]).env_clear()).assert_passed(),
        None => eprintln!("not tested: somebody has port 8080 or 8081 of this machine"),
    }
}

#[test]
fn a_stranger_beside_the_main_port_does_not_pass_for_the_server() {
    let ip = own_ip();
    let at = |port: u16| format!("{ip}:{port}");
    let ask = |port: u16| ended(command(&["livez"]).env("LANEKEEPER_LISTEN", at(port)));
    let fails = |port: u16, who: &str| {
        let place = at(port + 1);
        let beginning = format!(
            "cannot probe /livez at http://{place}: the server on port {port} must answer there, but {who}"
        );
        ask(port).assert_failed(1, &beginning);
        // With an explicit address, the probe does not check whose server it is.
        probe(&["--addr", &place]).assert_passed();
    };
    let _server = listening(&at(7000), &at(7001)).unwrap();
    ask(7000).assert_passed();
    // No server runs on port 6999. On the next port is the main listener of another one.
    fails(6999, "a program that is not lanekeeper's probe listener");
    // On the next port is the probe listener of another server, or another program.
    let other = Server::real(&["--probe-listen", &at(7101)]);
    let who = format!(
        "the probe listener of a server on port {}",
        other.main.port()
    );
    fails(7100, &who);
    answering(TcpListener::bind(at(7201)).unwrap());
    fails(7200, "a program that is not lanekeeper's probe listener");
}

#[test]
fn answers_of_the_probe_listener_alone_name_the_main_port() {
    let server = Server::real(&[]);
    let field = "x-lanekeeper-main-port";
    let port = server.main.port().to_string();
    for path in ["/livez", "/statusz", "/metrics", "/nowhere"] {
        assert_eq!(server.probe(path).field(field), port, "{path}");
        assert_eq!(server.get(path).field(field), "", "{path}");
    }
}

#[test]
fn a_name_is_resolved() {
    let resolved = ("localhost", 0).to_socket_addrs().unwrap().next().unwrap();
    for ip in [resolved.ip(), Ipv4Addr::LOCALHOST.into()] {
        // A server on 127.0.0.1 alone is found even if localhost resolves to [::1] first.
        let server = answering(TcpListener::bind((ip, 0)).unwrap());
        probe(&["--addr", &format!("localhost:{}", server.port())]).assert_passed();
    }
}

/// Answers every connection with 200.
fn answering(listener: TcpListener) -> SocketAddr {
    let address = listener.local_addr().unwrap();
    background(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    address
}

/// Runs `work` on a thread that nobody joins.
fn background(work: impl FnOnce() + Send + 'static) {
    thread::Builder::new().spawn(work).unwrap();
}

#[test]
fn wrong_options_are_one_line_on_stderr_and_exit_code_2() {
    for (args, expected) in [
        (vec!["--addr", "8081"], "--addr must be HOST:PORT"),
        (
            vec!["--addr", "http://127.0.0.1:8081"],
            "--addr must be HOST:PORT",
        ),
        (vec!["--addr", "unix:"], "--addr must be unix: and a path"),
        (
            vec!["--addr", "127.0.0.1:0"],
            "--addr must have a port other than 0",
        ),
        (
            vec!["--addr", "localhost:0"],
            "--addr must have a port other than 0",
        ),
        (vec!["--timeout", "0s"], "--timeout must be at least 1ms"),
        (vec!["--timeout", "1"], "invalid value '1' for '--timeout"),
        (vec!["healthz"], "invalid value 'healthz' for '[CHECK]'"),
        (vec!["livez", "readyz"], "unexpected argument 'readyz'"),
        (
            vec!["--listen", "127.0.0.1:80"],
            "unexpected argument '--listen'",
        ),
    ] {
        let verdict = probe(&args);
        verdict.assert_failed(2, expected);
        assert_eq!(verdict.2.lines().count(), 1, "{verdict:?}");
    }
    ended(command(&[]).env("LANEKEEPER_LISTEN", "127.0.0.1:0"))
        .assert_failed(2, "LANEKEEPER_LISTEN must have a port other");
    ended(command(&[]).env("LANEKEEPER_PROBE_TIMEOUT", "soon"))
        .assert_failed(2, "invalid value 'soon' for 'LANEKEEPER_PROBE_TIMEOUT'");
}

#[test]
fn help_names_the_checks_the_variables_and_the_exit_codes() {
    let Verdict(code, help, _) = probe(&["--help"]);
    assert_eq!(code, Some(0));
    for part in [
        "livez",
        "readyz",
        "startupz",
        "--addr <ADDRESS>",
        "LANEKEEPER_PROBE_ADDR",
        "--timeout <DURATION>",
        "LANEKEEPER_PROBE_TIMEOUT",
        "[default: 1s]",
        "LANEKEEPER_PROBE_LISTEN",
        "Exit codes",
    ] {
        assert!(help.contains(part), "{part} in {help}");
    }
}

#[test]
fn nobody_at_an_address_is_exit_code_1() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr();
    let nobody = free.unwrap();
    let beginning = format!("cannot probe /readyz at http://{nobody}: cannot connect: ");
    probe_at(nobody, "readyz").assert_failed(1, &beginning);
    let path = SocketPath::new("nobody");
    let beginning = format!("cannot probe /livez at {}: cannot connect: ", path.typed());
    probe(&["--addr", &path.typed()]).assert_failed(1, &beginning);
    // This name never resolves (RFC 6761 section 6.4). A machine without a resolver fails as well.
    probe(&["--addr", "nobody.invalid:80"])
        .assert_failed(1, "cannot probe /livez at http://nobody.invalid:80: ");
}

#[test]
fn a_closed_stdout_is_no_error() {
    let address = answering(TcpListener::bind("127.0.0.1:0").unwrap());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let verdict = ended(command(&["--addr", &address.to_string()]).stdout(Stdio::from(writer)));
    assert_eq!((verdict.0, verdict.2.as_str()), (Some(0), ""));
}

/// Answers the first connection with `answer` and then closes.
fn once(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    background(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(answer);
    });
    address
}

#[test]
fn only_a_whole_200_passes() {
    for (answer, expected) in [
        (&b"SSH-2.0-x\r\n\r\n"[..], "the answer is not HTTP/1.1"),
        (b"", "the connection ended before a whole answer"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
            "the connection ended before a whole answer",
        ),
        (b"HTTP/1.1 204 No Content\r\n\r\n", "failed with 204"),
        (
            b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n",
            "failed with 302",
        ),
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Length: 11\r\n\r\nno\x1b[2J this",
            "failed with 404: no\u{fffd}[2J this",
        ),
    ] {
        let verdict = probe_at(once(answer), "livez");
        verdict.assert_failed(1, "");
        assert!(verdict.2.contains(expected), "{expected}: {verdict:?}");
        assert_eq!(verdict.2.lines().count(), 1, "{verdict:?}");
    }
}

/// Probes with a timeout of 200 ms and asserts that the probe timed out, and soon enough.
fn assert_times_out(address: &str, doing: &str) {
    let began = Instant::now();
    let verdict = probe(&["--addr", address, "--timeout", "200ms"]);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(200), "{took:?}: {verdict:?}");
    assert!(took < SOON, "{took:?}: {verdict:?}");
    verdict.assert_failed(1, "cannot probe /livez at ");
    let expected = format!("timed out while {doing}");
    assert!(verdict.2.contains(&expected), "{verdict:?}");
}

#[test]
fn a_listener_that_never_accepts_or_never_answers_is_left_in_time() {
    // Connections wait in the backlog, where they look established to the client.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    assert_times_out(&address, "waiting for the answer");
    let path = SocketPath::new("silent");
    let _listener = UnixListener::bind(&path.0).unwrap();
    assert_times_out(&path.typed(), "waiting for the answer");
}

#[test]
fn an_answer_that_drips_is_left_in_time() {
    for beginning in ["", "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\n"] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        background(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_nodelay(true).unwrap();
            let head = b"HTTP/1.1 200 OK\r\nX-Slow: ".iter().copied();
            let endless = head.chain(std::iter::repeat(b'a'));
            let _ = stream.write_all(beginning.as_bytes());
            for byte in endless {
                if stream.write_all(&[byte]).is_err() {
                    return; // the probe has left
                }
                thread::sleep(Duration::from_millis(10)); // between two bytes
            }
        });
        assert_times_out(&address, "waiting for the answer");
    }
}

#[test]
fn an_endless_answer_is_left_in_time() {
    for (beginning, endless) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "a"),
        ("HTTP/1.1 200 OK\r\n", "X-A: b\r\n"),
        ("", "HTTP/1.1 100 Continue\r\n\r\n"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let left = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&left);
        background(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.write_all(beginning.as_bytes());
            let piece = endless.repeat(1000);
            while stream.write_all(piece.as_bytes()).is_ok() {}
            seen.store(true, Ordering::Release);
        });
        let began = Instant::now();
        let verdict = probe(&["--addr", &address.to_string(), "--timeout", "200ms"]);
        assert!(began.elapsed() < SOON, "{:?}: {verdict:?}", began.elapsed());
        verdict.assert_failed(1, "cannot probe /livez at ");
        eventually("the listener sees it leave", || {
            left.load(Ordering::Acquire)
        });
    }
}

#[test]
fn a_full_backlog_of_a_unix_socket_is_left_in_time_and_waited_for() {
    let path = SocketPath::new("full");
    let address = SockAddr::unix(&path.0).unwrap();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(1).unwrap();
    let mut held = Vec::new();
    loop {
        let client = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        client.set_nonblocking(true).unwrap();
        match client.connect(&address) {
            Ok(()) => held.push(client),
            Err(error) => break assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    assert_times_out(&path.typed(), "connecting");
    // A probe with a longer timeout gets in once there is room.
    let patience = format!("{}s", PATIENCE.as_secs());
    let waiting = command(&["--addr", &path.typed(), "--timeout", &patience])
        .spawn()
        .unwrap();
    let stat = format!("/proc/{}/stat", waiting.id());
    eventually("it waits", || {
        let stat = std::fs::read_to_string(&stat).unwrap();
        stat.rsplit(") ").next().unwrap().starts_with('S')
    });
    background(move || {
        drop(held);
        let listener = UnixListener::from(listener);
        for mut stream in listener.incoming().map_while(Result::ok) {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }
    });
    verdict(waiting).assert_passed();
}
