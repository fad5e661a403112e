//! The drill's own server: this executable started again, and ended by its process id.
//!
//! It is ended at the end of its turn, when the drill is interrupted, and by the kernel if the drill
//! dies first. Its log is read to the end, so that it never waits, and its last lines are kept.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, bounded};
use rustix::process::{Pid, Signal, kill_process};

use crate::config::{PARENT, drill_parent};
use crate::platform::clock;
use crate::platform::sys;

/// Longest wait for the listeners; the model is loaded after that.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks at a process that is to end.
const LOOK: Duration = Duration::from_millis(10);

/// Lines of the log that are kept for an error.
const LINES_KEPT: usize = 12;

/// The longest line of the log that is kept whole.
const LINE_BYTES_MAX: usize = 1024;

const READER_STACK_BYTES: usize = 128 << 10;

/// What a service manager says to the drill is not for its server.
const NOT_FOR_THE_SERVER: [&str; 7] = [
    "NOTIFY_SOCKET",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
    "WATCHDOG_PID",
    "WATCHDOG_USEC",
    "JOURNAL_STREAM",
];

/// Has the kernel end this process with its parent, where it is the server of a drill.
pub fn end_with_drill() {
    let Some(parent) = drill_parent() else { return };
    #[cfg(target_os = "linux")]
    {
        // A wish: where it is refused, an interrupted drill still ends its server itself.
        let _ = rustix::process::set_parent_process_death_signal(Some(Signal::KILL));
    }
    // The drill may have died before the kernel was asked.
    let now = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get().unsigned_abs());
    if now != Some(parent) {
        let _ = kill_process(rustix::process::getpid(), Signal::TERM);
    }
}

/// The server that runs now, for whoever has to end it: one at a time.
#[derive(Debug, Default)]
pub(super) struct ServerProcess(Mutex<ChildState>);

#[derive(Debug, Default)]
struct ChildState {
    child: Option<Child>,
    /// The drill is interrupted: nothing is started any more.
    closed: bool,
}

/// Where a server listens, and its log.
#[derive(Debug)]
pub(super) struct Started {
    /// Its process id.
    pub(super) pid: u32,
    /// Main listener.
    pub(super) main: SocketAddr,
    /// Probe listener, where there is one.
    pub(super) probe: Option<SocketAddr>,
    log: Arc<Mutex<VecDeque<String>>>,
}

impl Started {
    /// The last lines of its log, for an error.
    pub(super) fn last_lines(&self) -> String {
        last_lines(&self.log)
    }
}

impl ServerProcess {
    /// Starts `serve` on free ports of 127.0.0.1 with these options, and waits until it listens.
    pub(super) fn start(
        &self,
        model: Option<&Path>,
        options: &[OsString],
        shared_lane: bool,
    ) -> Result<Started, String> {
        let stderr = {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.closed {
                return Err("the drill was interrupted".to_owned());
            }
            let mut child = command(model, options, shared_lane)?
                .spawn()
                .map_err(|error| format!("cannot start a server: {error}"))?;
            let stderr = child.stderr.take();
            let pid = child.id();
            state.child = Some(child);
            stderr.map(|stderr| (stderr, pid))
        };
        let (stderr, pid) = stderr.ok_or("the server has no stderr")?;
        let log = Arc::new(Mutex::new(VecDeque::new()));
        let (sender, addresses) = bounded(1);
        let kept = Arc::clone(&log);
        sys::spawn("server-log", READER_STACK_BYTES, move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if let Some(found) = listeners(&line) {
                    let _ = sender.try_send(found);
                }
                keep(&kept, line);
            }
        })
        .map_err(|error| format!("cannot start a thread: {error}"))?;
        match addresses.recv_timeout(START_TIMEOUT) {
            Ok((main, probe)) => Ok(Started {
                pid,
                main,
                probe,
                log,
            }),
            Err(RecvTimeoutError::Timeout) => Err(format!(
                "the server did not say where it listens:{}",
                last_lines(&log)
            )),
            Err(RecvTimeoutError::Disconnected) => Err(format!(
                "the server ended at its start:{}",
                last_lines(&log)
            )),
        }
    }

    /// Whether the server has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let child = state.child.as_mut();
        child.is_some_and(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// Ends the server, by force where it has not ended within `patience`.
    pub(super) fn end(&self, patience: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        end(&mut state, patience);
    }

    /// Ends the server and starts none any more.
    pub(super) fn close(&self, patience: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.closed = true;
        end(&mut state, patience);
    }
}

fn end(state: &mut ChildState, patience: Duration) {
    let Some(mut child) = state.child.take() else {
        return;
    };
    // Its number is its own until it is waited for, which nobody else does.
    let _ = kill_process(Pid::from_child(&child), Signal::TERM);
    let deadline = clock::instant() + patience;
    while clock::instant() < deadline {
        if !matches!(child.try_wait(), Ok(None)) {
            return;
        }
        sys::sleep(LOOK);
    }
    let _ = child.kill();
    let _ = child.wait();
}

fn command(
    model: Option<&Path>,
    options: &[OsString],
    shared_lane: bool,
) -> Result<Command, String> {
    let program = std::env::current_exe()
        .map_err(|error| format!("cannot find this program's file: {error}"))?;
    let mut command = Command::new(program);
    // Settings of another server are not this one's.
    let ours = std::env::vars_os()
        .map(|(name, _)| name)
        .filter(|name| name.to_string_lossy().starts_with("LANEKEEPER_"));
    for name in ours.chain(NOT_FOR_THE_SERVER.map(OsString::from)) {
        command.env_remove(name);
    }
    command.env(PARENT, std::process::id().to_string());
    command.arg("serve").args(options);
    if let Some(model) = model {
        command.arg("--model").arg(model);
    }
    if shared_lane {
        command.arg("--shared-lane");
    }
    // Of options that are given twice, the last counts.
    command.args(["--listen", "127.0.0.1:0", "--access-log-rate", "0"]);
    command.args(["--log-level", "info", "--log-format", "text"]);
    command.args(["--drain-grace", "0s", "--drain-timeout", "500ms"]);
    // A terminal's Ctrl-C is for the drill, which then ends its server.
    command.process_group(0);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    Ok(command)
}

fn keep(log: &Mutex<VecDeque<String>>, mut line: String) {
    if line.len() > LINE_BYTES_MAX {
        let end = (0..=LINE_BYTES_MAX)
            .rev()
            .find(|at| line.is_char_boundary(*at));
        line.truncate(end.unwrap_or(0));
    }
    let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
    if log.len() == LINES_KEPT {
        log.pop_front();
    }
    log.push_back(line);
}

fn last_lines(log: &Mutex<VecDeque<String>>) -> String {
    let log = log.lock().unwrap_or_else(PoisonError::into_inner);
    log.iter().map(|line| format!("\n  {line}")).collect()
}

/// Reads `listening on http://A, probes on http://B`, the second part being optional.
fn listeners(line: &str) -> Option<(SocketAddr, Option<SocketAddr>)> {
    let after = |mark: &str| {
        let (_, rest) = line.split_once(mark)?;
        rest.split([',', ' ', '/']).next()?.parse().ok()
    };
    Some((after("listening on http://")?, after("probes on http://")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_from_the_line_that_names_them() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            listeners("1 INFO listening on http://127.0.0.1:1, probes on http://127.0.0.1:2"),
            Some((address("127.0.0.1:1"), Some(address("127.0.0.1:2"))))
        );
        assert_eq!(
            listeners("listening on http://127.0.0.1:1, no probe listener"),
            Some((address("127.0.0.1:1"), None))
        );
        assert_eq!(listeners("model iris"), None);
    }

    #[test]
    fn the_last_lines_are_kept_and_long_ones_cut() {
        let log = Mutex::new(VecDeque::new());
        for index in 0..100 {
            keep(&log, format!("{index} {}", "ü".repeat(1000)));
        }
        let text = last_lines(&log);
        assert!(text.starts_with("\n  88 ü") && text.contains("\n  99 ü"));
        assert!(text.len() <= LINES_KEPT * (LINE_BYTES_MAX + 3));
    }
}
