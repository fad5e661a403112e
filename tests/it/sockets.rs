//! Unix domain sockets, for both listeners.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{PATIENCE, Server, eventually, has_programs};

/// A test's own folder; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("lanekeeper-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        Folder(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A server on Unix sockets only; ended when dropped.
struct UnixServer(Child);

impl UnixServer {
    fn start(path: &Path, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
            .args(["--listen", &format!("unix:{}", path.display())])
            .args(args)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = lines.next().unwrap().unwrap();
        assert!(
            first.contains(&format!("listening on unix:{}", path.display())),
            "{first}"
        );
        std::thread::Builder::new()
            .spawn(move || lines.for_each(drop))
            .unwrap();
        UnixServer(child)
    }
}

impl Drop for UnixServer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(path: &Path, target: &str) -> String {
    let mut stream = UnixStream::connect(path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: a\r\nAccept: text/plain\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn both_listeners_may_be_unix_sockets() {
    let folder = Folder::new("unix");
    let main = folder.path("predict.sock");
    let server = UnixServer::start(&main, &["--socket-mode", "660"]);
    let probe = folder.path("predict.sock.probe");
    for path in [&main, &probe] {
        let metadata = std::fs::metadata(path).unwrap();
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o660, "{path:?}");
        eventually("it is ready", || {
            get(path, "/readyz").starts_with("HTTP/1.1 200 OK")
        });
    }
    let elsewhere = get(&probe, "/predict");
    assert!(
        elsewhere.starts_with("HTTP/1.1 404") && elsewhere.contains("main listener's socket"),
        "{elsewhere}"
    );
    drop(server);
}

#[test]
fn the_curl_line_of_the_page_works_over_a_unix_socket_when_pasted() {
    if !has_programs(&["sh", "curl"]) {
        return;
    }
    let folder = Folder::new("pasted");
    let main = folder.path("main.sock");
    let server = UnixServer::start(&main, &[]);
    eventually("the server is ready", || {
        get(&main, "/readyz").starts_with("HTTP/1.1 200 OK")
    });
    let page = get(&main, "/");
    let line = page
        .lines()
        .find(|line| line.contains("/predict -d"))
        .unwrap();
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("\"predictions\":[\"versicolor\"]"),
        "{line}: {text}"
    );
    drop(server);
}

#[test]
fn a_stale_socket_file_is_replaced_and_a_live_one_is_an_error() {
    let folder = Folder::new("stale");
    let path = folder.path("a.sock");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a crash leaves the file behind");
    let mut server = UnixServer::start(&path, &["--drain-grace", "0s"]);
    assert!(get(&path, "/livez").starts_with("HTTP/1.1 200 OK"));
    let second = Command::new(env!("CARGO_BIN_EXE_lanekeeper"))
        .args(["--listen", &format!("unix:{}", path.display())])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(
        text.contains("in use") && text.contains("choose another"),
        "{text}"
    );
    assert!(get(&path, "/livez").starts_with("HTTP/1.1 200 OK"));
    let pid = rustix::process::Pid::from_child(&server.0);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(server.0.wait().unwrap().code(), Some(0));
    assert!(!path.exists() && !folder.path("a.sock.probe").exists());
}

#[test]
fn a_probe_socket_may_stand_beside_a_port() {
    let folder = Folder::new("mixed");
    let path = folder.path("probe.sock");
    let server = Server::real(&["--probe-listen", &format!("unix:{}", path.display())]);
    assert!(get(&path, "/livez").starts_with("HTTP/1.1 200 OK"));
    assert_eq!(server.get("/livez").status, 200);
    let elsewhere = get(&path, "/predict");
    assert!(
        elsewhere.contains(&format!("port {}", server.main.port())),
        "{elsewhere}"
    );
}
