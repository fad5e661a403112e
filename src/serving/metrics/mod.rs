//! `/metrics`: everything counted, for Prometheus.
//!
//! Rendered from atomics on the connection's own thread: never by a probe worker, which would delay
//! probes, and never behind a lock that a prediction can hold. So it answers while every worker
//! hangs and the queue is full. The text grows on the heap, because these threads' stacks are
//! small.

mod families;
mod negotiation;
mod process;
mod text;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use crate::error::{Code, RequestError};
use crate::platform::clock::Stamp;
use crate::protocol::Payload;
use crate::serving::context::Context;
use crate::vitals::Vitals;

use self::text::Writer;

/// Maximum number of concurrent scrapes. Each takes about 40 KiB of text and 0.1 ms of CPU time,
/// and no real setup has more.
const SCRAPES_MAX: usize = 4;

/// Initial capacity of the text, so that it does not grow by copying.
const TEXT_BYTES: usize = 48 << 10;

/// What renders the metrics.
#[derive(Debug)]
pub struct Exporter {
    /// When the process started, in seconds since 1970. Read once: recomputing it would vary, and
    /// each change looks like a restart.
    started: f64,
    /// Number of scrapes being answered.
    pub scrapes: AtomicUsize,
}

impl Exporter {
    /// Makes the exporter of a process with these vitals.
    pub fn new(vitals: &Vitals) -> Self {
        let moment = ScrapeTime::now(vitals);
        Exporter {
            started: moment.unix_seconds(vitals.started_at),
            scrapes: AtomicUsize::new(0),
        }
    }

    /// Renders everything in the format that the client's Accept field asks for.
    ///
    /// # Errors
    ///
    /// 503 if too many others are being answered.
    pub fn scrape(&self, context: &Context, accept: Option<&str>) -> Result<Payload, RequestError> {
        if self.scrapes.load(Ordering::Relaxed) > SCRAPES_MAX {
            let text = "too many concurrent /metrics requests; retry later";
            return Err(RequestError::new(Code::QueueFull, text).retry_after(1));
        }
        let format = negotiation::format(accept);
        let mut writer = Writer::new(format, TEXT_BYTES);
        families::write(&mut writer, context, &ScrapeTime::now(&context.vitals));
        process::write(&mut writer, self.started);
        let text = writer.finish().into_bytes().into();
        Ok(Payload::new(OK, format.content_type(), text))
    }
}

const OK: u16 = 200;

/// The present time by both clocks.
#[derive(Debug, Clone, Copy)]
struct ScrapeTime {
    process: Stamp,
    unix_seconds: f64,
}

impl ScrapeTime {
    fn now(vitals: &Vitals) -> Self {
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        ScrapeTime {
            process: vitals.clock.now(),
            // No working clock is before 1970.
            unix_seconds: unix.unwrap_or_default().as_secs_f64(),
        }
    }

    /// A stamp in seconds since 1970, to the millisecond; NaN if it was never set, so that no
    /// comparison with it is true and no alert fires.
    ///
    /// Computed back from now, so that `time() - …` is its age even if the wall clock has been
    /// changed.
    fn unix_seconds(self, stamp: Stamp) -> f64 {
        if stamp == Stamp::NEVER {
            return f64::NAN;
        }
        let seconds = self.unix_seconds - self.process.since(stamp).as_secs_f64();
        (seconds * 1000.0).round() / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_never_was_is_not_a_number_and_what_was_is_so_long_before_now() {
        let moment = ScrapeTime {
            process: Stamp(5_000_000_000),
            unix_seconds: 1_800_000_000.0,
        };
        assert!(moment.unix_seconds(Stamp::NEVER).is_nan());
        let then = moment.unix_seconds(Stamp(2_749_999_999));
        assert_eq!(then.to_string(), "1799999997.75");
    }
}
