//! The log: records cross a bounded channel to one thread, the only one that writes to stderr.
//!
//! Logging never blocks: records that do not fit are counted, and the count is logged later. So a
//! stderr that nobody reads stops the log and nothing else. simplelog formats text lines; because
//! it would hold a mutex while writing, it writes into memory here.

mod access;
mod clients;
mod failures;
mod format;
mod rate;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::config::LogFormat;
use crate::platform::fault::{Faults, ThreadRole};

use self::format::{Formatter, RecordFields};

pub use self::access::{Access, AccessLog, Prediction};
pub use self::clients::ClientLog;
pub use self::failures::FailureLog;

/// Maximum number of records waiting for the log thread.
const CAPACITY: usize = 4096;

/// Room reserved for warnings and errors: access lines alone cannot fill the queue.
const RESERVE: usize = CAPACITY / 4;

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Number of records discarded since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum LogMessage {
    Record(LogEntry),
    Flush(Sender<()>),
}

struct LogEntry {
    level: Level,
    thread: String,
    at: SystemTime,
    text: String,
    /// The fields after the text, rendered in the chosen format.
    fields: String,
}

struct ChannelLogger {
    level: LevelFilter,
    format: LogFormat,
    sender: Sender<LogMessage>,
}

impl Log for ChannelLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= self.level
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let reserve = if record.level() <= Level::Warn {
            0
        } else {
            RESERVE
        };
        if self.sender.len() + reserve >= CAPACITY {
            DROPPED.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let mut fields = RecordFields::new(self.format);
        // Fields are rendered into memory, which cannot fail.
        let _ = record.key_values().visit(&mut fields);
        let entry = LogEntry {
            level: record.level(),
            thread: thread::current().name().unwrap_or("?").to_owned(),
            at: SystemTime::now(),
            text: record.args().to_string(),
            fields: fields.into_rendered(),
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(LogMessage::Record(entry))
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The running log. Dropping it changes nothing; [`Logging::flush`] is called before the process
/// ends.
#[derive(Debug)]
pub struct Logging {
    sender: Sender<LogMessage>,
    receiver: Receiver<LogMessage>,
    format: LogFormat,
    journal: bool,
    level: LevelFilter,
}

impl std::fmt::Debug for LogMessage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Logging {
    /// Installs the logger and the panic hook. Nothing is written before [`Logging::runner`] runs.
    /// `journal` says that stderr is the journal, which reads the level from a prefix of each line.
    pub fn install(level: LevelFilter, format: LogFormat, journal: bool) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        let logger = ChannelLogger {
            level,
            format,
            sender: sender.clone(),
        };
        // Fails only if a test of the library has installed one before.
        if log::set_boxed_logger(Box::new(logger)).is_ok() {
            log::set_max_level(level);
        }
        // The default hook writes to stderr itself and could block there.
        let panics = FailureLog::new("panics");
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            let text = crate::platform::panic::panic_message(panic.payload());
            panics.record(format_args!("thread panicked at {place}: {text}"));
        }));
        Logging {
            sender,
            receiver,
            format,
            journal,
            level,
        }
    }

    /// The body of the log thread: writes records until the process ends.
    pub fn runner(&self, faults: Arc<dyn Faults>) -> impl Fn() + Send + Sync + 'static {
        let receiver = self.receiver.clone();
        let (format, journal, level) = (self.format, self.journal, self.level);
        move || {
            let mut formatter = Formatter::new(format, journal, level);
            let mut reported = dropped();
            loop {
                let message = receiver.recv_timeout(Duration::from_secs(1));
                if message.is_ok() {
                    faults.inject(ThreadRole::Log);
                }
                match message {
                    Ok(LogMessage::Record(entry)) => formatter.write(&entry),
                    Ok(LogMessage::Flush(done)) => drop(done.try_send(())),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let lost = dropped();
                if lost > reported && receiver.is_empty() {
                    let text = format!(
                        "{} log records were dropped: stderr was not read in time",
                        lost - reported
                    );
                    reported = lost;
                    formatter.write(&LogEntry {
                        level: Level::Warn,
                        thread: "log".to_owned(),
                        at: SystemTime::now(),
                        text,
                        fields: String::new(),
                    });
                }
            }
        }
    }

    /// Waits until everything logged so far is written, for at most `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, flushed) = crossbeam_channel::bounded(1);
        if self.sender.try_send(LogMessage::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(patience);
        }
    }
}
