//! The log: records cross a bounded channel to one thread, which alone writes to stderr.
//!
//! Whoever logs never waits: a record that does not fit is counted, and the count is told in one
//! line later. So a stderr that nobody reads stops the log and nothing else. simplelog formats text
//! lines; it would hold a mutex across its write, so it writes into memory here.

use std::fmt::Arguments;
use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError};
use log::{Level, LevelFilter, Log, Metadata, Record};
use simplelog::{ConfigBuilder, WriteLogger};

use crate::clock;
use crate::config::LogFormat;
use crate::fault::{Faults, Role};
use crate::systemd;
use crate::vitals::ClientCounts;

/// Records that may wait for the log thread.
const CAPACITY: usize = 4096;

/// Room that is kept for warnings and errors: access lines alone cannot fill the queue.
const RESERVE: usize = CAPACITY / 4;

/// How often each thing that clients do is told of, at most.
const CLIENT_LOG_INTERVAL: Duration = Duration::from_secs(60);

static DROPPED: AtomicU64 = AtomicU64::new(0);

/// Number of records that did not fit since the start.
pub fn dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

enum Message {
    Record(Entry),
    Flush(Sender<()>),
}

struct Entry {
    level: Level,
    thread: String,
    at: SystemTime,
    text: String,
}

struct ChannelLogger {
    level: LevelFilter,
    sender: Sender<Message>,
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
        let entry = Entry {
            level: record.level(),
            thread: thread::current().name().unwrap_or("?").to_owned(),
            at: SystemTime::now(),
            text: record.args().to_string(),
        };
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.sender.try_send(Message::Record(entry))
        {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {}
}

/// The running log; dropping it changes nothing, [`Logging::flush`] before the process ends does.
#[derive(Debug)]
pub struct Logging {
    sender: Sender<Message>,
    receiver: Receiver<Message>,
    format: LogFormat,
    journal: bool,
    level: LevelFilter,
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Message")
    }
}

impl Logging {
    /// Takes over the `log` macros and panics; nothing is written before [`Logging::runner`] runs.
    /// `journal` says that stderr is the journal, which reads the level from each line's prefix.
    pub fn install(level: LevelFilter, format: LogFormat, journal: bool) -> Self {
        let (sender, receiver) = crossbeam_channel::bounded(CAPACITY);
        let logger = ChannelLogger {
            level,
            sender: sender.clone(),
        };
        // Fails only where a test of the library has installed one before.
        if log::set_boxed_logger(Box::new(logger)).is_ok() {
            log::set_max_level(level);
        }
        // The default hook writes to stderr itself, and would wait for whoever reads it.
        let panics = FailureLog::new("panics");
        std::panic::set_hook(Box::new(move |panic| {
            let place = panic
                .location()
                .map(ToString::to_string)
                .unwrap_or_default();
            let text = crate::panic::panic_message(panic.payload());
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

    /// What the log thread runs: it writes what comes until the process ends.
    pub fn runner(&self, faults: Arc<dyn Faults>) -> impl Fn() + Send + Sync + 'static {
        let receiver = self.receiver.clone();
        let (format, journal, level) = (self.format, self.journal, self.level);
        move || {
            let mut formatter = Formatter::new(format, journal, level);
            let mut told = dropped();
            loop {
                let message = receiver.recv_timeout(Duration::from_secs(1));
                if message.is_ok() {
                    faults.turn(Role::Log);
                }
                match message {
                    Ok(Message::Record(entry)) => formatter.write(&entry),
                    Ok(Message::Flush(done)) => drop(done.try_send(())),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let lost = dropped();
                if lost > told && receiver.is_empty() {
                    let text = format!(
                        "{} log records were dropped: stderr was not read in time",
                        lost - told
                    );
                    told = lost;
                    formatter.write(&Entry {
                        level: Level::Warn,
                        thread: "log".to_owned(),
                        at: SystemTime::now(),
                        text,
                    });
                }
            }
        }
    }

    /// Waits until everything logged so far is written, at most for `patience`.
    pub fn flush(&self, patience: Duration) {
        let (done, flushed) = crossbeam_channel::bounded(1);
        if self.sender.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(patience);
        }
    }
}

/// simplelog's target: a buffer that the log thread takes from after each record.
#[derive(Clone, Default)]
struct Line(Arc<Mutex<Vec<u8>>>);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Formatter {
    format: LogFormat,
    journal: bool,
    line: Line,
    text: Box<WriteLogger<Line>>,
}

impl Formatter {
    fn new(format: LogFormat, journal: bool, level: LevelFilter) -> Self {
        // The time is the record's own, not that of its writing, so it is put before the line.
        let config = ConfigBuilder::new()
            .set_time_level(LevelFilter::Off)
            .set_thread_level(LevelFilter::Off)
            .set_target_level(LevelFilter::Off)
            .set_location_level(LevelFilter::Off)
            .build();
        let line = Line::default();
        Formatter {
            format,
            journal,
            text: WriteLogger::new(level.max(LevelFilter::Warn), config, line.clone()),
            line,
        }
    }

    fn write(&mut self, entry: &Entry) {
        let line = self.render(entry);
        // A stderr that is closed or full is no reason to stop serving.
        let _ = io::stderr().lock().write_all(&line);
    }

    fn render(&mut self, entry: &Entry) -> Vec<u8> {
        let line = self.render_plain(entry);
        if !self.journal {
            return line;
        }
        [systemd::journal_prefix(entry.level).as_bytes(), &line].concat()
    }

    fn render_plain(&mut self, entry: &Entry) -> Vec<u8> {
        let time = humantime::format_rfc3339_millis(entry.at);
        match self.format {
            LogFormat::Json => {
                let json = serde_json::json!({
                    "time": time.to_string(),
                    "level": entry.level.as_str().to_ascii_lowercase(),
                    "thread": entry.thread,
                    "message": entry.text,
                });
                format!("{json}\n").into_bytes()
            }
            LogFormat::Text => {
                let one_line = entry.text.replace(['\n', '\r'], " | ");
                self.log_text(entry.level, format_args!("{}: {one_line}", entry.thread));
                let mut buffer = self.line.0.lock().unwrap_or_else(PoisonError::into_inner);
                // The journal has a time of its own for each line.
                let mut line = match self.journal {
                    true => Vec::new(),
                    false => format!("{time} ").into_bytes(),
                };
                line.append(&mut buffer);
                line
            }
        }
    }

    fn log_text(&self, level: Level, args: Arguments<'_>) {
        self.text
            .log(&Record::builder().level(level).args(args).build());
    }
}

/// One line for each prediction, up to a rate; the rest is counted and summarised.
#[derive(Debug)]
pub struct AccessLog {
    rate: u32,
    second: Mutex<Second>,
}

#[derive(Debug)]
struct Second {
    began: Instant,
    written: u32,
    unwritten: u64,
    unwritten_failed: u64,
}

/// What the access log tells of a prediction.
#[derive(Debug)]
pub struct Access<'a> {
    /// The request's name.
    pub request_id: &'a str,
    /// Status code of the answer.
    pub status: u16,
    /// Instances, where they were decoded.
    pub rows: Option<usize>,
    /// Time in the queue.
    pub waiting_time: Duration,
    /// Time with a worker.
    pub service_time: Duration,
}

impl AccessLog {
    /// Makes a log of at most `rate` lines a second.
    pub fn new(rate: u32) -> Self {
        AccessLog {
            rate,
            second: Mutex::new(Second {
                began: clock::instant(),
                written: 0,
                unwritten: 0,
                unwritten_failed: 0,
            }),
        }
    }

    /// Writes the line, or counts it.
    pub fn record(&self, access: &Access<'_>) {
        if !log::log_enabled!(Level::Info) {
            return;
        }
        let now = clock::instant();
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            Self::summarise(&mut second, now);
        }
        if second.written >= self.rate {
            second.unwritten += 1;
            second.unwritten_failed += u64::from(access.status >= 400);
            return;
        }
        second.written += 1;
        drop(second);
        let rows = access
            .rows
            .map_or_else(|| "-".to_owned(), |rows| rows.to_string());
        log::info!(
            "request {} status {} rows {rows} waiting {:.3} ms service {:.3} ms",
            access.request_id,
            access.status,
            access.waiting_time.as_secs_f64() * 1e3,
            access.service_time.as_secs_f64() * 1e3,
        );
    }

    /// Tells what was not written, where the last second is over; called once a second.
    pub fn tick(&self) {
        let now = clock::instant();
        let mut second = self.second.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(second.began) >= Duration::from_secs(1) {
            Self::summarise(&mut second, now);
        }
    }

    fn summarise(second: &mut Second, now: Instant) {
        if second.unwritten > 0 {
            log::info!(
                "{} more predictions were answered, {} of them with an error (--access-log-rate)",
                second.unwritten,
                second.unwritten_failed,
            );
        }
        *second = Second {
            began: now,
            written: 0,
            unwritten: 0,
            unwritten_failed: 0,
        };
    }
}

/// Tells of failures, a few a second: any client may have poison by the thousand, and other lines must
/// stay readable beside it.
#[derive(Debug)]
pub struct FailureLog(Mutex<Failed>);

#[derive(Debug)]
struct Failed {
    what: &'static str,
    began: Instant,
    written: u32,
    unwritten: u64,
}

impl FailureLog {
    /// Lines a second.
    const RATE: u32 = 10;

    /// Makes a log of `what` failed, in the plural, for what is not written line by line.
    pub fn new(what: &'static str) -> Self {
        FailureLog(Mutex::new(Failed {
            what,
            began: clock::instant(),
            written: 0,
            unwritten: 0,
        }))
    }

    /// Writes the line, or counts it.
    pub fn record(&self, line: Arguments<'_>) {
        let mut failed = self.lock();
        Self::turn(&mut failed);
        if failed.written >= Self::RATE {
            failed.unwritten += 1;
            return;
        }
        failed.written += 1;
        drop(failed);
        log::error!("{line}");
    }

    /// Tells what was not written, where the last second is over; called once a second.
    pub fn tick(&self) {
        Self::turn(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Failed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn turn(failed: &mut Failed) {
        let now = clock::instant();
        if now.saturating_duration_since(failed.began) < Duration::from_secs(1) {
            return;
        }
        if failed.unwritten > 0 {
            log::error!("{} more {}", failed.unwritten, failed.what);
        }
        *failed = Failed {
            what: failed.what,
            began: now,
            written: 0,
            unwritten: 0,
        };
    }
}

/// Tells what clients do that costs them their connection or their answer: one line for each reason
/// and minute, however often it happens.
#[derive(Debug, Default)]
pub struct ClientLog {
    told: [Told; 11],
}

#[derive(Debug, Default, Clone, Copy)]
struct Told {
    count: u64,
    at: Option<Instant>,
}

impl ClientLog {
    /// Looks at the counts and returns the lines that are due at `now`; called at every tick.
    pub fn due(&mut self, counts: &ClientCounts, now: Instant) -> Vec<String> {
        let mut lines = Vec::new();
        for (told, (reason, text, counter)) in self.told.iter_mut().zip(counts.by_reason()) {
            let count = counter.value();
            let recent = told
                .at
                .is_some_and(|at| now.saturating_duration_since(at) < CLIENT_LOG_INTERVAL);
            if count > told.count && !recent {
                lines.push(format!("clients: {} {text} [{reason}]", count - told.count));
                *told = Told {
                    count,
                    at: Some(now),
                };
            }
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_beyond_a_few_a_second_are_counted() {
        let log = FailureLog::new("predictions failed");
        (0..1000).for_each(|_| log.record(format_args!("one")));
        let failed = log.lock();
        assert_eq!(failed.written, FailureLog::RATE);
        assert_eq!(failed.unwritten, 1000 - u64::from(FailureLog::RATE));
    }

    #[test]
    fn what_clients_do_is_told_once_a_minute_for_each_reason() {
        let counts = ClientCounts::default();
        let mut log = ClientLog::default();
        let start = clock::instant();
        let mut due = |seconds| log.due(&counts, start + Duration::from_secs(seconds));
        assert!(due(0).is_empty());
        counts.evicted.increment();
        let first = due(1);
        assert_eq!(first.len(), 1);
        assert!(
            first[0].starts_with("clients: 1 connections were closed")
                && first[0].ends_with("[evicted]"),
            "{first:?}"
        );
        (0..1000).for_each(|_| counts.evicted.increment());
        counts.malformed.increment();
        assert_eq!(due(2).len(), 1, "another reason is told at once");
        assert!(due(60).is_empty());
        assert!(due(61)[0].starts_with("clients: 1000 connections"));
        assert!(due(200).is_empty(), "nothing new is no line");
    }

    fn entry(text: &str) -> Entry {
        Entry {
            level: Level::Warn,
            thread: "conn".to_owned(),
            at: SystemTime::UNIX_EPOCH + Duration::from_millis(1_500),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_text_record_is_one_line_with_the_time_it_was_made() {
        let mut formatter = Formatter::new(LogFormat::Text, false, LevelFilter::Info);
        let line = formatter.render(&entry("one\ntwo"));
        let line = String::from_utf8(line).unwrap();
        assert_eq!(line, "1970-01-01T00:00:01.500Z [WARN] conn: one | two\n");
    }

    #[test]
    fn a_record_for_the_journal_has_its_level_in_front_and_no_time() {
        let mut formatter = Formatter::new(LogFormat::Text, true, LevelFilter::Info);
        let line = formatter.render(&entry("one\ntwo"));
        assert_eq!(
            String::from_utf8(line).unwrap(),
            "<4>[WARN] conn: one | two\n"
        );
        let mut formatter = Formatter::new(LogFormat::Json, true, LevelFilter::Info);
        assert!(formatter.render(&entry("one")).starts_with(b"<4>{"));
    }

    #[test]
    fn a_json_record_is_one_object_a_line() {
        let mut formatter = Formatter::new(LogFormat::Json, false, LevelFilter::Info);
        let line = formatter.render(&entry("say \"hi\"\n"));
        let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(value["message"], "say \"hi\"\n");
        assert_eq!(value["level"], "warn");
        assert_eq!(value["time"], "1970-01-01T00:00:01.500Z");
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
}
