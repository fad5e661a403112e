//! `/metrics`: everything counted, for Prometheus.
//!
//! Rendered on the connection's own thread, from atomics: never by a probe worker, which a page of
//! text would keep from probes, nor behind a lock that a prediction can hold. So it answers while
//! every worker hangs and the queue is full. The text grows on the heap, as these threads' stacks are
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

/// Scrapes that are answered at a time. Each has some 40 KiB of text and a tenth of a millisecond of
/// CPU time, and nobody has this many who mean it.
const SCRAPES_MAX: usize = 4;

/// What the text takes, so that it does not grow by copying.
const TEXT_BYTES: usize = 48 << 10;

/// What renders the metrics.
#[derive(Debug)]
pub struct Exporter {
    /// When the process started, in seconds since 1970. Read once: reckoned anew it would waver, and
    /// each change reads as a restart.
    started: f64,
    /// Scrapes that are being answered; whoever answers one counts it.
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

    /// Renders everything, as the client's Accept field wants it.
    ///
    /// # Errors
    /// 503 where enough others are at it.
    pub fn scrape(&self, context: &Context, accept: Option<&str>) -> Result<Payload, RequestError> {
        if self.scrapes.load(Ordering::Relaxed) > SCRAPES_MAX {
            let text = "too many ask for /metrics at once; send the request again later";
            return Err(RequestError::new(Code::QueueFull, text).retry_after(1));
        }
        let format = negotiation::format(accept);
        let mut writer = Writer::new(format, TEXT_BYTES);
        families::write(&mut writer, context, &ScrapeTime::now(&context.vitals));
        process::write(&mut writer, self.started);
        Ok(Payload {
            content_type: format.content_type(),
            ..Payload::text(OK, writer.finish())
        })
    }
}

const OK: u16 = 200;

/// The present moment by both clocks.
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
            // A clock from before 1970 is nobody's.
            unix_seconds: unix.unwrap_or_default().as_secs_f64(),
        }
    }

    /// When something was, in seconds since 1970, to the millisecond; not a number if it never was:
    /// then no comparison with it holds, and no alert that makes one fires.
    ///
    /// Reckoned back from now, so that `time() - …` is its age, whatever the wall clock did meanwhile.
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
