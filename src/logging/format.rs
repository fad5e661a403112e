//! How a record becomes a line: text by simplelog, or one JSON object. Pure.
//!
//! A record is always exactly one line. Text from a client, a model or a file name is escaped, so
//! nobody can forge a line or a field.

use std::fmt::{Arguments, Write as _};
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use log::{Level, LevelFilter, Log, Record};
use serde::Serialize;
use simplelog::{ConfigBuilder, WriteLogger};

use super::LogEntry;
use crate::config::LogFormat;
use crate::platform::systemd;

/// A record's fields, rendered by the thread that logs: ` key=value` in text, `,"key":value` in
/// JSON. A record without fields allocates nothing.
#[derive(Debug)]
pub(super) struct RecordFields {
    format: LogFormat,
    rendered: String,
}

impl RecordFields {
    pub(super) fn new(format: LogFormat) -> Self {
        RecordFields {
            format,
            rendered: String::new(),
        }
    }

    pub(super) fn into_rendered(self) -> String {
        self.rendered
    }

    fn put(&mut self, value: Arguments<'_>) {
        // Writing to a String cannot fail.
        let _ = self.rendered.write_fmt(value);
    }
}

impl<'kvs> VisitSource<'kvs> for RecordFields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        match self.format {
            LogFormat::Text => self.put(format_args!(" {key}=")),
            LogFormat::Json => self.put(format_args!(",\"{key}\":")),
        }
        value.visit(self)
    }
}

impl VisitValue<'_> for RecordFields {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.visit_str(&value.to_string())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.rendered.push_str(match self.format {
            LogFormat::Text => "-",
            LogFormat::Json => "null",
        });
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.put(format_args!("{value}"));
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        if !value.is_finite() {
            return self.visit_null();
        }
        self.put(format_args!("{value}"));
        Ok(())
    }

    fn visit_str(&mut self, value: &str) -> Result<(), Error> {
        match self.format {
            LogFormat::Json => push_json(&mut self.rendered, value),
            LogFormat::Text if is_plain(value) => self.rendered.push_str(value),
            LogFormat::Text => push_quoted(&mut self.rendered, value),
        }
        Ok(())
    }
}

/// Whether a value can appear in a text line unescaped.
fn is_plain(value: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic() && !b"\"=\\".contains(&byte);
    !value.is_empty() && value != "-" && value.bytes().all(plain)
}

fn push_quoted(out: &mut String, value: &str) {
    out.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if is_unprintable(c) => out.extend(c.escape_default()),
            c => out.push(c),
        }
    }
    out.push('"');
}

fn push_json(out: &mut String, value: &str) {
    // A string is always JSON.
    let json = serde_json::to_string(value).unwrap_or_default();
    push_escaped_json(out, &json);
}

/// Escapes characters that JSON permits in strings but that confuse terminals and line readers.
fn push_escaped_json(out: &mut String, json: &str) {
    for c in json.chars() {
        if is_unprintable(c) {
            // All of them are below U+10000. Writing to a String cannot fail.
            let _ = write!(out, "\\u{:04x}", u32::from(c));
        } else {
            out.push(c);
        }
    }
}

/// Makes a message one line.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => line.push_str(" | "),
            c if is_unprintable(c) => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}

/// Whether some reader would take the character for a line end, a terminal command, or a change of
/// text direction.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// simplelog's target: a buffer that the log thread empties after each record.
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

/// What the log thread renders records with.
pub(super) struct Formatter {
    format: LogFormat,
    journal: bool,
    line: Line,
    text: Box<WriteLogger<Line>>,
}

impl Formatter {
    pub(super) fn new(format: LogFormat, journal: bool, level: LevelFilter) -> Self {
        // The time is when the record was made, not when it is written, so it is put in front here.
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

    pub(super) fn write(&mut self, entry: &LogEntry) {
        let line = self.render(entry);
        // A closed or full stderr must not stop the server.
        let _ = io::stderr().lock().write_all(&line);
    }

    pub(super) fn render(&mut self, entry: &LogEntry) -> Vec<u8> {
        let line = self.render_plain(entry);
        if !self.journal {
            return line;
        }
        [systemd::journal_prefix(entry.level).as_bytes(), &line].concat()
    }

    fn render_plain(&mut self, entry: &LogEntry) -> Vec<u8> {
        let time = humantime::format_rfc3339_millis(entry.at);
        match self.format {
            LogFormat::Json => render_json(entry, &time.to_string()).into_bytes(),
            LogFormat::Text => {
                let text = one_line(&entry.text);
                let fields = &entry.fields;
                self.log_text(
                    entry.level,
                    format_args!("{}: {text}{fields}", entry.thread),
                );
                let mut buffer = self.line.0.lock().unwrap_or_else(PoisonError::into_inner);
                // The journal adds its own time to each line.
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

fn render_json(entry: &LogEntry, time: &str) -> String {
    #[derive(Serialize)]
    struct RecordHead<'a> {
        time: &'a str,
        level: &'a str,
        thread: &'a str,
        message: &'a str,
    }
    let common = RecordHead {
        time,
        level: &entry.level.as_str().to_ascii_lowercase(),
        thread: &entry.thread,
        message: &entry.text,
    };
    // A struct of strings always serializes.
    let json = serde_json::to_string(&common).unwrap_or_default();
    let mut line = String::with_capacity(json.len() + entry.fields.len() + 2);
    push_escaped_json(&mut line, json.strip_suffix('}').unwrap_or(&json));
    line.push_str(&entry.fields);
    line.push_str("}\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use log::kv::Source;
    use std::time::{Duration, UNIX_EPOCH};

    /// Characters that could make a line, a field or a terminal misbehave.
    const EVIL: &str = "a\" status=200 \\\n2026-01-01T00:00:00Z [ERROR] \u{1b}[2J\u{85}\u{2028}ü";

    fn entry(text: &str) -> LogEntry {
        LogEntry {
            level: Level::Warn,
            thread: "conn".to_owned(),
            at: UNIX_EPOCH + Duration::from_millis(1_500),
            text: text.to_owned(),
            fields: String::new(),
        }
    }

    fn with_fields(format: LogFormat, pairs: &[(&str, Value<'_>)]) -> String {
        let mut fields = RecordFields::new(format);
        pairs.visit(&mut fields).unwrap();
        let entry = LogEntry {
            fields: fields.into_rendered(),
            ..entry("request")
        };
        let line = Formatter::new(format, false, LevelFilter::Info).render(&entry);
        String::from_utf8(line).unwrap()
    }

    fn pairs() -> [(&'static str, Value<'static>); 6] {
        [
            ("request_id", Value::from("id-1")),
            ("code", Value::null()),
            ("dash", Value::from("-")),
            ("rows", Value::from(7u64)),
            ("waiting_ms", Value::from(0.125)),
            ("model", Value::from(EVIL)),
        ]
    }

    #[test]
    fn a_text_record_is_one_line_with_the_time_it_was_made() {
        let mut formatter = Formatter::new(LogFormat::Text, false, LevelFilter::Info);
        let line = formatter.render(&entry("one\ntwo\u{1b}[2J\u{85}three"));
        let line = String::from_utf8(line).unwrap();
        assert_eq!(
            line,
            "1970-01-01T00:00:01.500Z [WARN] conn: one | two\\u{1b}[2J\\u{85}three\n"
        );
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
        for text in ["say \"hi\"\n", "}", EVIL] {
            let line = formatter.render(&entry(text));
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            assert_eq!(value["message"], text);
            assert_eq!(value["level"], "warn");
            assert_eq!(value["time"], "1970-01-01T00:00:01.500Z");
            assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        }
    }

    #[test]
    fn fields_are_members_of_the_json_object() {
        let line = with_fields(LogFormat::Json, &pairs());
        let value: serde_json::Value = serde_json::from_str(&line).unwrap();
        let expected = serde_json::json!({
            "time": "1970-01-01T00:00:01.500Z", "level": "warn", "thread": "conn",
            "message": "request", "request_id": "id-1", "code": null, "dash": "-", "rows": 7,
            "waiting_ms": 0.125, "model": EVIL,
        });
        assert_eq!(value, expected);
        let breaks = |c: &char| is_unprintable(*c);
        assert_eq!(line.chars().filter(breaks).collect::<String>(), "\n");
    }

    #[test]
    fn fields_are_key_value_in_text_and_no_value_forges_another() {
        let line = with_fields(LogFormat::Text, &pairs());
        let expected = concat!(
            "1970-01-01T00:00:01.500Z [WARN] conn: request request_id=id-1 code=- dash=\"-\" ",
            "rows=7 waiting_ms=0.125 model=\"a\\\" status=200 \\\\\\n2026-01-01T00:00:00Z [ERROR] ",
            "\\u{1b}[2J\\u{85}\\u{2028}ü\"\n",
        );
        assert_eq!(line, expected);
    }
}
