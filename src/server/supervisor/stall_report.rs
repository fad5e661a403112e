//! The stall report: where every stuck thread is when liveness is lost.
//!
//! It goes to the log as errors, and its first lines to the file that kubelet shows as the reason
//! of a container's end. It is gathered and written on its own thread: a disk that hangs must not
//! stop the main thread's tick, which is the clock.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use humantime::format_duration;

use super::whole_millis;
use crate::health::{FailedCheck, Snapshot};
use crate::lanes::queue::LaneKind;
use crate::platform::clock::Stamp;
use crate::platform::sys;
use crate::serving::context::Context;
use crate::serving::worker;

/// How many workers a report describes.
const WORKERS_MAX: usize = 32;

/// How much kubelet reads of a termination message (Kubernetes, "Determine the Reason for Pod
/// Failure").
const MESSAGE_BYTES_MAX: usize = 4096;

/// Maximum length of one line of it.
const LINE_BYTES_MAX: usize = 1000;

const STACK_BYTES: usize = 256 * 1024;

/// Makes reports, one at a time.
#[derive(Debug)]
pub(super) struct Reporter {
    context: Arc<Context>,
    /// The report in progress, or the last one.
    thread: Option<JoinHandle<()>>,
    written: bool,
}

impl Reporter {
    pub(super) fn new(context: Arc<Context>) -> Self {
        Reporter {
            context,
            thread: None,
            written: false,
        }
    }

    /// Reports why liveness is lost.
    pub(super) fn report(&mut self, failure: &FailedCheck, snapshot: Snapshot) {
        let failure = failure.clone();
        self.written = true;
        let started = self.run(move |context| make(context, &failure, &snapshot));
        if !started {
            log::error!(
                "no stall report, because the last one is not finished or no thread could be started"
            );
        }
    }

    /// Withdraws the report: whatever ends the process later has another reason.
    pub(super) fn withdraw(&mut self) {
        if std::mem::take(&mut self.written) {
            self.run(|context| {
                // The report may have found no file to write to either.
                let _ = write_message(&context.config.verdicts.termination_log, "");
            });
        }
    }

    /// Runs `body` on a thread, unless the system has none or the last one has not ended.
    fn run(&mut self, body: impl FnOnce(&Context) + Send + 'static) -> bool {
        let busy = |thread: &JoinHandle<()>| !thread.is_finished();
        if self.thread.as_ref().is_some_and(busy) {
            return false;
        }
        let context = Arc::clone(&self.context);
        self.thread = sys::spawn("report", STACK_BYTES, move || body(&context)).ok();
        self.thread.is_some()
    }
}

/// Makes a report at once: to the log, and to the file that kubelet shows.
pub(super) fn make(context: &Context, failure: &FailedCheck, snapshot: &Snapshot) {
    let lines = lines(context, failure, snapshot);
    for line in &lines {
        log::error!("stall report: {line}");
    }
    let path = &context.config.verdicts.termination_log;
    match write_message(path, &first_lines(&lines)) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => log::warn!("cannot write {}: {error}", path.display()),
    }
}

/// Describes the stall.
fn lines(context: &Context, failure: &FailedCheck, snapshot: &Snapshot) -> Vec<String> {
    let vitals = &context.vitals;
    let age = |stamp: Stamp| format_duration(whole_millis(snapshot.now.since(stamp)));
    let mut lines = vec![format!(
        "/livez fails: {} [{}]",
        failure.reason, failure.check
    )];
    let model = context
        .registry
        .default_deployment()
        .slot
        .get()
        .map(|version| version.name().to_owned());
    let slots = vitals.predict.workers.iter().enumerate();
    let running = slots.filter(|(_, slot)| slot.alive.load(Ordering::Acquire));
    for (index, slot) in running.take(WORKERS_MAX) {
        let thread_id = slot.thread_id.load(Ordering::Acquire);
        let mut line = format!(
            "{} (thread {thread_id})",
            worker::thread_name(LaneKind::Predict, index)
        );
        // Writing to a String cannot fail.
        let _ = match (slot.busy_since.load(), slot.task()) {
            (Stamp::NEVER, _) | (_, None) => write!(line, " is idle"),
            (since, Some(task)) => write!(
                line,
                " has been on request {} for {}, model {}, {}",
                task.request_id,
                age(since),
                model.as_deref().unwrap_or("none"),
                match task.rows {
                    Some(rows) => format!("{rows} rows"),
                    None => "rows not decoded yet".to_owned(),
                },
            ),
        };
        if slot.is_substituted() {
            line.push_str(", substituted");
        }
        let _ = write!(line, "; {}", kernel_state(thread_id));
        lines.push(line);
    }
    let acceptor = &vitals.acceptor;
    let thread_id = acceptor.thread_id.load(Ordering::Acquire);
    lines.push(match snapshot.acceptor.busy_since {
        _ if snapshot.acceptor.missing_since.is_some() => "the acceptor does not run".to_owned(),
        Some(since) => format!(
            "the acceptor (thread {thread_id}) has been on one job for {}; {}",
            age(since),
            kernel_state(thread_id)
        ),
        None => format!("the acceptor (thread {thread_id}) is idle"),
    });
    let known = |stamp: Stamp| match stamp {
        Stamp::NEVER => "never".to_owned(),
        stamp => format!("{} ago", age(stamp)),
    };
    lines.push(format!(
        "{} of at most {} predictions wait, {}; a worker last finished one {}, the last success was {}",
        snapshot.waiting,
        vitals.predict.queue_capacity,
        match vitals.predict.oldest_arrival() {
            Some(arrival) => format!("the oldest for {}", age(arrival)),
            None => "none for any time".to_owned(),
        },
        known(vitals.predict.completed_at.load()),
        known(snapshot.succeeded_at),
    ));
    lines
}

/// Describes what the kernel knows of a thread: whether it runs or in which call it sleeps, and how
/// much it has computed (proc(5)).
fn kernel_state(thread_id: u32) -> String {
    let read = |what: &str| fs::read_to_string(format!("/proc/self/task/{thread_id}/{what}")).ok();
    let Some((state, ticks)) = sys::thread_state(thread_id) else {
        return "its kernel state is unavailable".to_owned();
    };
    let state = match state {
        'R' => "running",
        'S' => "sleeping",
        'D' => "in uninterruptible sleep",
        'T' | 't' => "stopped",
        _ => "in another state",
    };
    let within = match read("wchan").as_deref() {
        None | Some("" | "0") => String::new(),
        Some(call) => format!(" in {call}"),
    };
    let switches = read("status").map_or(String::new(), |status| {
        let count = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim().parse::<u64>().ok()
        };
        match (
            count("voluntary_ctxt_switches:"),
            count("nonvoluntary_ctxt_switches:"),
        ) {
            (Some(own), Some(other)) => {
                format!(", has given up the CPU {own} times and lost it {other} times")
            }
            _ => String::new(),
        }
    });
    let seconds = ticks as f64 / sys::clock_ticks_per_second() as f64;
    format!("the kernel has it {state}{within}, {seconds:.2} s of CPU time so far{switches}")
}

/// As many whole lines as kubelet reads.
fn first_lines(lines: &[String]) -> String {
    let mut message = String::new();
    for line in lines {
        let line = cut(line);
        if message.len() + line.len() + 1 > MESSAGE_BYTES_MAX {
            break;
        }
        message.push_str(line);
        message.push('\n');
    }
    message
}

/// Truncates a line, because a model's own text may be long.
fn cut(line: &str) -> &str {
    let mut end = line.len().min(LINE_BYTES_MAX);
    while !line.is_char_boundary(end) {
        end -= 1;
    }
    &line[..end]
}

/// Replaces a file's content; never creates it, because only kubelet's own is read.
fn write_message(path: &Path, message: &str) -> io::Result<()> {
    // A pipe that nobody reads would block the thread for ever.
    if !fs::metadata(path)?.is_file() {
        return Ok(());
    }
    let mut file = OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(message.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_knows_the_calling_thread() {
        let reported = kernel_state(sys::thread_id());
        if cfg!(target_os = "linux") {
            assert!(reported.contains("s of CPU time"), "{reported}");
        }
    }

    #[test]
    fn a_message_is_whole_lines_within_what_kubelet_reads() {
        let lines: Vec<String> = ["a", "b", "c", "d"].map(|line| line.repeat(900)).into();
        let message = first_lines(&[lines.clone(), lines].concat());
        assert_eq!(message.len(), 4 * 901);
        assert!(message.ends_with("d\n"));
        let long = first_lines(&["é".repeat(50_000), "b".to_owned()]);
        assert_eq!(long.len(), 1000 + "\nb\n".len());
    }
}
