//! The access log: a line for each prediction, up to a rate, and at `debug` for every answer.
//!
//! Connection threads write it without blocking: the rate is kept in atomics, and a suppressed line
//! allocates nothing.

use std::net::IpAddr;
use std::time::Duration;

use log::kv::{Error, Key, Source, Value, VisitSource};
use log::{Level, Record};

use super::rate::{RateLimit, UnwrittenLines};
use crate::error::{Code, RequestError};
use crate::platform::clock;

/// Lines for predictions, up to a rate; the rest are counted and summarized.
#[derive(Debug)]
pub struct AccessLog(RateLimit);

/// Maximum length of a path, or of an error's text, in a line, in bytes.
const TEXT_BYTES_MAX: usize = 256;

/// What the access log records of an answered request.
#[derive(Debug)]
pub struct Access<'a> {
    /// The request's name.
    pub request_id: &'a str,
    /// `traceparent`, if the request has a valid one.
    pub traceparent: Option<&'a str>,
    /// The client's address; `None` over a Unix socket.
    pub client: Option<IpAddr>,
    /// Method and path; `None` if the head could not be read.
    pub target: Option<(&'a str, &'a str)>,
    /// Status code of the answer.
    pub status: u16,
    /// The `code` of an error answer.
    pub code: Option<Code>,
    /// Bytes of the answer's content.
    pub bytes: usize,
    /// The additional facts of a prediction.
    pub prediction: Option<Prediction<'a>>,
    /// The error's text; only written at `debug`, because it may quote the client.
    pub error: Option<&'a RequestError>,
}

/// What the access log records of a prediction in addition.
#[derive(Debug, Clone, Copy)]
pub struct Prediction<'a> {
    /// The served model's name; `None` before one is loaded.
    pub model: Option<&'a str>,
    /// Instances, where they were decoded.
    pub rows: Option<usize>,
    /// Time in the queue and with a worker; `None` if it was never queued, or if it is not known
    /// how its time splits.
    pub times: Option<(Duration, Duration)>,
    /// From the end of its head to its answer.
    pub sojourn_time: Duration,
}

impl AccessLog {
    /// Makes a log of at most `rate` lines a second.
    pub fn new(rate: u32) -> Self {
        AccessLog(RateLimit::new(rate))
    }

    /// Returns the level at which to write a prediction's line; a suppressed line is counted.
    pub fn admit(&self, failed: bool) -> Option<Level> {
        if !log::log_enabled!(Level::Info) {
            return None;
        }
        let decision = self.0.take(clock::instant());
        summarise(decision.before);
        if decision.is_written {
            Some(Level::Info)
        } else if log::log_enabled!(Level::Debug) {
            Some(Level::Debug)
        } else {
            self.0.skip(failed);
            None
        }
    }

    /// Logs how many lines were suppressed once the second is over; called every second.
    pub fn tick(&self) {
        summarise(self.0.tick(clock::instant()));
    }
}

fn summarise(unwritten: UnwrittenLines) {
    if unwritten.count > 0 {
        log::info!(
            "{} more predictions were answered, {} of them with an error (--access-log-rate)",
            unwritten.count,
            unwritten.failed,
        );
    }
}

impl Access<'_> {
    /// Writes the line.
    pub fn write(&self, level: Level) {
        log::logger().log(
            &Record::builder()
                .level(level)
                .target(module_path!())
                .key_values(self)
                .args(format_args!("request"))
                .build(),
        );
    }
}

impl Source for Access<'_> {
    fn visit<'kvs>(&'kvs self, visitor: &mut dyn VisitSource<'kvs>) -> Result<(), Error> {
        let mut put =
            |key: &'static str, value: Value<'kvs>| visitor.visit_pair(Key::from_str(key), value);
        let (method, path) = self.target.unzip();
        put("request_id", Value::from(self.request_id))?;
        if let Some(traceparent) = self.traceparent {
            put("traceparent", Value::from(traceparent))?;
        }
        put(
            "client",
            self.client
                .as_ref()
                .map_or_else(Value::null, Value::from_display),
        )?;
        put("method", optional(method))?;
        put("path", optional(path.map(cut)))?;
        if let Some(prediction) = &self.prediction {
            put("model", optional(prediction.model.map(cut)))?;
        }
        put("status", Value::from(self.status))?;
        put("code", optional(self.code.map(Code::as_str)))?;
        if let Some(prediction) = &self.prediction {
            put(
                "rows",
                prediction.rows.map_or_else(Value::null, Value::from),
            )?;
            if let Some((waiting_time, service_time)) = prediction.times {
                put("waiting_ms", millis(waiting_time))?;
                put("service_ms", millis(service_time))?;
            }
            put("sojourn_ms", millis(prediction.sojourn_time))?;
        }
        put("bytes", Value::from(self.bytes))?;
        if let Some(error) = self.error
            && log::log_enabled!(Level::Debug)
        {
            put("error", Value::from(cut(&error.text)))?;
        }
        Ok(())
    }
}

fn optional(text: Option<&str>) -> Value<'_> {
    text.map_or_else(Value::null, Value::from)
}

/// To the microsecond.
fn millis(time: Duration) -> Value<'static> {
    Value::from((time.as_secs_f64() * 1e6).round() / 1e3)
}

/// Truncates a text whose length a client controls.
fn cut(text: &str) -> &str {
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::super::format::RecordFields;
    use super::*;
    use crate::config::LogFormat;

    fn rendered(format: LogFormat, access: &Access<'_>) -> String {
        let mut fields = RecordFields::new(format);
        access.visit(&mut fields).unwrap();
        fields.into_rendered()
    }

    fn served() -> Access<'static> {
        Access {
            request_id: "id-1",
            traceparent: None,
            client: Some("::1".parse().unwrap()),
            target: Some(("POST", "/predict")),
            status: 200,
            code: None,
            bytes: 120,
            prediction: Some(Prediction {
                model: Some("iris"),
                rows: Some(2),
                times: Some((Duration::from_nanos(12_499), Duration::from_millis(3))),
                sojourn_time: Duration::from_micros(3100),
            }),
            error: None,
        }
    }

    fn refused() -> Access<'static> {
        let prediction = Prediction {
            model: None,
            rows: None,
            times: None,
            sojourn_time: Duration::from_micros(40),
        };
        Access {
            client: None,
            status: 503,
            code: Some(Code::Loading),
            prediction: Some(prediction),
            ..served()
        }
    }

    #[test]
    fn a_prediction_has_its_fields() {
        let text = rendered(LogFormat::Text, &served());
        let expected = " request_id=id-1 client=::1 method=POST path=/predict model=iris status=200 \
                        code=- rows=2 waiting_ms=0.012 service_ms=3 sojourn_ms=3.1 bytes=120";
        assert_eq!(text, expected);
        let json = rendered(LogFormat::Json, &served());
        let json: serde_json::Value = serde_json::from_str(&format!("{{{}}}", &json[1..])).unwrap();
        let expected = serde_json::json!({
            "request_id": "id-1", "client": "::1", "method": "POST", "path": "/predict",
            "model": "iris", "status": 200, "code": null, "rows": 2, "waiting_ms": 0.012,
            "service_ms": 3.0, "sojourn_ms": 3.1, "bytes": 120,
        });
        assert_eq!(json["service_ms"].as_f64(), Some(3.0));
        for (key, value) in expected.as_object().unwrap() {
            assert!(
                json[key] == *value || json[key].as_f64() == value.as_f64(),
                "{key}"
            );
        }
        assert_eq!(json.as_object().unwrap().len(), 12);
    }

    #[test]
    fn a_request_of_a_trace_names_it() {
        let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let access = Access {
            traceparent: Some(traceparent),
            ..served()
        };
        let text = rendered(LogFormat::Text, &access);
        let expected = format!(" request_id=id-1 traceparent={traceparent} client=");
        assert!(text.starts_with(&expected), "{text}");
    }

    #[test]
    fn what_was_never_queued_has_no_waiting_time() {
        let text = rendered(LogFormat::Text, &refused());
        let expected = " request_id=id-1 client=- method=POST path=/predict model=- status=503 \
                        code=loading rows=- sojourn_ms=0.04 bytes=120";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_path_is_cut_short_and_cannot_forge_a_field() {
        let path = format!("/\"code=\u{fc}{}", "ü".repeat(1000));
        let access = Access {
            target: Some(("GET", &path)),
            prediction: None,
            ..served()
        };
        let text = rendered(LogFormat::Text, &access);
        assert!(text.contains(" path=\"/\\\"code=ü"), "{text}");
        assert!(
            text.len() < 400 && text.ends_with(" status=200 code=- bytes=120"),
            "{text}"
        );
    }
}
