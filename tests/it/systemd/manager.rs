//! The receiving end of the service manager's protocol (sd_notify(3)).

use std::io::{IoSliceMut, Result};
use std::mem::MaybeUninit;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::support::{PATIENCE, eventually};

/// A datagram: when it came, from which process, and its text.
#[derive(Debug, Clone)]
pub struct Told {
    pub at: Instant,
    pub pid: u32,
    pub text: String,
}

/// A notify socket and everything that it received.
pub struct Manager {
    /// `NOTIFY_SOCKET`.
    pub address: String,
    told: Arc<Mutex<Vec<Told>>>,
    file: Option<PathBuf>,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

fn name() -> String {
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("lanekeeper-manager-{}-{number}", std::process::id())
}

impl Manager {
    pub fn at_path() -> Self {
        let path = std::env::temp_dir().join(name());
        let socket = UnixDatagram::bind(&path).unwrap();
        let address = path.to_str().unwrap().to_owned();
        Self::listening(socket, address, Some(path))
    }

    pub fn at_abstract_name() -> Self {
        let name = name();
        let at = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&at).unwrap();
        Self::listening(socket, format!("@{name}"), None)
    }

    fn listening(socket: UnixDatagram, address: String, file: Option<PathBuf>) -> Self {
        rustix::net::sockopt::set_socket_passcred(&socket, true).unwrap();
        let told = Arc::<Mutex<Vec<Told>>>::default();
        let kept = Arc::clone(&told);
        // It ends with the test's process.
        thread::spawn(move || {
            while let Ok((pid, text)) = receive(&socket) {
                let at = Instant::now();
                kept.lock().unwrap().push(Told { at, pid, text });
            }
        });
        Manager {
            address,
            told,
            file,
        }
    }

    /// Everything so far.
    pub fn told(&self) -> Vec<Told> {
        self.told.lock().unwrap().clone()
    }

    /// Whether any datagram had this line.
    pub fn has(&self, line: &str) -> bool {
        self.count(line) > 0
    }

    /// How many datagrams had this line.
    pub fn count(&self, line: &str) -> usize {
        let told = self.told();
        let with = told
            .iter()
            .filter(|told| told.text.lines().any(|other| other == line));
        with.count()
    }

    pub fn wait_for(&self, line: &str) {
        eventually(line, || self.has(line));
    }

    /// The lines so far that begin with this, in order.
    pub fn lines(&self, prefix: &str) -> Vec<String> {
        let told = self.told();
        let lines = told.iter().flat_map(|told| told.text.lines());
        lines
            .filter(|line| line.starts_with(prefix))
            .map(str::to_owned)
            .collect()
    }

    /// Waits until no `line` has come for `silence`.
    pub fn wait_for_silence(&self, line: &str, silence: Duration) {
        let began = Instant::now();
        loop {
            let told = self.told();
            let with = told
                .iter()
                .filter(|told| told.text.lines().any(|other| other == line));
            let last = with.map(|told| told.at).max().unwrap_or(began);
            if last.elapsed() >= silence {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{line} goes on");
            thread::sleep(Duration::from_millis(5)); // a pause between looks
        }
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        if let Some(file) = &self.file {
            let _ = std::fs::remove_file(file);
        }
        if thread::panicking() {
            eprintln!("--- the service manager was told ---\n{:#?}", self.told());
        }
    }
}

fn receive(socket: &UnixDatagram) -> Result<(u32, String)> {
    let mut bytes = [0; 4096];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        socket,
        &mut [IoSliceMut::new(&mut bytes)],
        &mut ancillary,
        RecvFlags::empty(),
    )?;
    let pids = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmCredentials(sender) => {
            Some(sender.pid.as_raw_nonzero().get().unsigned_abs())
        }
        _ => None,
    });
    let pid = pids.last().unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..received.bytes]).into_owned();
    Ok((pid, text))
}
