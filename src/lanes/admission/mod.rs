//! Admission: which predictions are refused on arrival, when to come back, and the pace of what
//! costs no prediction.
//!
//! Pure but for atomics. Connection threads ask before they read a body where that says enough, and
//! otherwise before the job is sent on its way, so that what is refused is refused before it is worked
//! on. What decides is not how many wait but for how long one more would: a queue in which everybody
//! waits for longer than anybody wants an answer keeps the workers busy for nothing.

mod fair;
mod forecast;
mod pace;

use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use humantime::format_duration;

use crate::config::{Config, FairBy, MaxWait};
use crate::error::{Code, RequestError};
use crate::vitals::{
    Announced, DeploymentVitals, LaneVitals, Reservation, ServerPhase, ServiceTime, ServiceTimes,
    Vitals,
};

pub use self::fair::ClientKey;
use self::fair::Shares;
pub use self::forecast::{QUANTUM, SLICE_ROWS_MIN};
use self::forecast::{SERVICE_DEVIATIONS, WaitForecast, corrected};
pub use self::pace::{PIECE_BYTES, Pace, Pacer};

/// Longest `Retry-After` that is ever given, in seconds.
const RETRY_AFTER_MAX: f64 = 30.0;

/// With `--max-wait auto`: service times that a prediction is admitted to wait for. So many keep a
/// worker busy through a lull (an M/M/1/10 queue that is offered all it can do loses a tenth, one that
/// is offered twice that idles for 1 in 2,000), and more would only make every answer later.
const SERVICE_TIMES: u32 = 10;

/// With `--max-wait auto`: the least and the most of it, where predictions are not longer still.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What it may take to hand a prediction to an idle worker, whatever the limit: with none at all, no
/// prediction would ever be computed.
const HAND_OVER: Duration = Duration::from_millis(10);

/// The part of the longest wait from which the lane counts as contended: who has had more than its
/// share finds the rest kept for others.
const CONTENDED: u32 = 8;

/// What is admitted, by the options.
#[derive(Debug)]
pub struct Admission {
    max_wait: MaxWait,
    shares: Option<Shares>,
    /// Refusals so far, for the jitter.
    refusals: AtomicU64,
}

/// What a prediction was admitted with.
#[derive(Debug)]
pub struct Admitted {
    /// Its part of the lane's work.
    pub reservation: Reservation,
    /// As late as an answer is of use.
    pub deadline: Instant,
    /// Who has waited longer than this is not computed.
    pub wait_max: Duration,
    /// How long it was expected to wait.
    pub expected_wait: Duration,
}

/// A prediction that asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What is known of its deployment.
    pub deployment: &'a DeploymentVitals,
    /// Bytes of its body, where they are known.
    pub bytes: Option<usize>,
    /// Now, and when its client will stop waiting.
    pub now: Instant,
    /// As late as an answer is of use.
    pub deadline: Instant,
    /// Who asks, where that matters.
    pub client: Option<ClientKey>,
}

/// What there is to say of one prediction.
struct Judgement {
    service: ServiceTime,
    wait: WaitForecast,
}

impl Admission {
    /// Makes it as the options say.
    pub fn new(config: &Config) -> Self {
        Self::with(config.overload.max_wait, config.overload.fair_by.as_ref())
    }

    /// Makes it with these limits.
    pub(crate) fn with(max_wait: MaxWait, fair_by: Option<&FairBy>) -> Self {
        Admission {
            max_wait,
            shares: fair_by.map(|_| Shares::new()),
            refusals: AtomicU64::new(0),
        }
    }

    /// Whom a client is known as, where shares are kept.
    pub fn client(&self, known_by: impl Hash) -> Option<ClientKey> {
        self.shares.as_ref().map(|shares| shares.client(known_by))
    }

    /// Says whether a prediction would be admitted now, before its body is read. It is announced with
    /// that, for as long as what is returned is kept.
    ///
    /// # Errors
    /// The refusal it would get: the server is draining or its model loading; the queue has no place;
    /// its deadline has passed, or is sooner than it could be done (504); it would wait for longer than it may, or its client has had its
    /// share of a contended lane.
    pub fn check(&self, vitals: &Arc<Vitals>, ask: &Ask<'_>) -> Result<Announced, RequestError> {
        // Those whose bodies are coming have been told the same, and will be there first.
        let now = vitals.clock.now();
        let coming = vitals.predict.work.coming(now);
        let judgement = self.judge(vitals, ask, coming)?;
        let cost = forecast::cost(&ask.deployment.service_times, judgement.service.mean);
        Ok(Announced::new(vitals, cost, now))
    }

    /// Admits a prediction whose body is there.
    ///
    /// # Errors
    /// As [`check`](Self::check).
    pub fn admit(&self, vitals: &Arc<Vitals>, ask: &Ask<'_>) -> Result<Admitted, RequestError> {
        let judgement = self.judge(vitals, ask, Duration::ZERO)?;
        let lane = &vitals.predict;
        let service_times = &ask.deployment.service_times;
        let cost = forecast::cost(service_times, judgement.service.mean);
        let reservation = Reservation::new(vitals, cost, lane.queue_capacity)
            .ok_or_else(|| self.queue_full(lane, judgement.wait.usual))?;
        if let (Some(shares), Some(client)) = (&self.shares, ask.client) {
            let work = cost.whole.max(Duration::from_micros(1));
            shares.charge(client, vitals.clock.now(), work, lane.workers_wanted);
        }
        Ok(Admitted {
            reservation,
            deadline: ask.deadline,
            wait_max: self.last_word(lane, service_times, judgement.service),
            expected_wait: judgement.wait.expected,
        })
    }

    fn judge(
        &self,
        vitals: &Vitals,
        ask: &Ask<'_>,
        coming: Duration,
    ) -> Result<Judgement, RequestError> {
        match vitals.phase() {
            ServerPhase::Finishing | ServerPhase::Stopped => return Err(draining()),
            ServerPhase::Starting | ServerPhase::Serving | ServerPhase::Draining => {}
        }
        if !ask.deployment.loaded.load(Ordering::Acquire) {
            return Err(loading());
        }
        let time_remaining = ask.deadline.saturating_duration_since(ask.now);
        if time_remaining.is_zero() {
            return Err(too_late());
        }
        let lane = &vitals.predict;
        let now = vitals.clock.now();
        if let (Some(shares), Some(client)) = (&self.shares, ask.client) {
            shares.note(client, now);
        }
        let service_times = &ask.deployment.service_times;
        let service = match ask.bytes {
            Some(bytes) => service_times.expected(bytes),
            None => ServiceTime {
                mean: lane.service_time(),
                deviation: Duration::ZERO,
            },
        };
        let cost = forecast::cost(service_times, service.mean);
        let overdue = self.overdue(lane, service_times, service);
        let expected = forecast::wait(lane, now, cost, coming, overdue);
        let judgement = Judgement {
            service,
            wait: corrected(lane, expected),
        };
        // Those on their way to the queue have a place too; probes that share the lane take one.
        let waiting = lane.queue_length.load(Ordering::Acquire);
        if waiting.max(lane.work.admitted()) >= lane.queue_capacity {
            return Err(self.queue_full(lane, judgement.wait.usual));
        }
        // Whatever is expected, an idle worker costs nothing to try; and an estimate that is wrong is
        // corrected by what is admitted, never by what is refused.
        if !expected.is_zero() {
            self.check_limits(lane, service_times, &judgement, time_remaining)?;
            self.check_share(vitals, ask, &judgement, cost.whole)?;
        }
        Ok(judgement)
    }

    /// Refuses what would wait for longer than it may, or too long for its deadline.
    fn check_limits(
        &self,
        lane: &LaneVitals,
        service_times: &ServiceTimes,
        judgement: &Judgement,
        time_remaining: Duration,
    ) -> Result<(), RequestError> {
        let ServiceTime { mean, deviation } = judgement.service;
        let needed = mean.saturating_add(deviation.mul_f32(SERVICE_DEVIATIONS));
        let by_deadline = time_remaining.saturating_sub(needed);
        let limit = self.wait_max(lane, service_times, judgement.service);
        let wait = judgement.wait;
        // A limit that was set is held by the look at dequeue too, which comes after a wait for nothing;
        // where service times vary, to stay as clear of the other would leave workers idle.
        let against_limit = match self.max_wait {
            MaxWait::Fixed(_) => wait.safe,
            MaxWait::Auto | MaxWait::Unlimited => wait.with_margin,
        };
        if wait.safe <= by_deadline && against_limit <= limit {
            return Ok(());
        }
        if mean > time_remaining {
            // Whoever came back with it would be no better off, however idle the server.
            return Err(too_short(mean, time_remaining));
        }
        let text = if wait.safe > by_deadline {
            format!(
                "the prediction would wait up to {} and take {}, too long for its deadline in {}; send the request again later",
                format_duration(whole_millis(wait.safe)),
                format_duration(whole_millis(needed)),
                format_duration(whole_millis(time_remaining)),
            )
        } else {
            format!(
                "the prediction would wait up to {}, longer than --max-wait ({}, now {}); send the request again later",
                format_duration(whole_millis(against_limit)),
                self.max_wait,
                format_duration(whole_millis(limit)),
            )
        };
        Err(self.overloaded(text, wait.usual))
    }

    /// Refuses who has had more than its share, where others may want the rest.
    fn check_share(
        &self,
        vitals: &Vitals,
        ask: &Ask<'_>,
        judgement: &Judgement,
        work: Duration,
    ) -> Result<(), RequestError> {
        let (Some(shares), Some(client)) = (&self.shares, ask.client) else {
            return Ok(());
        };
        let lane = &vitals.predict;
        // A lane without a limit is contended as soon as anybody waits.
        let contended = match self.wait_max(lane, &ask.deployment.service_times, judgement.service)
        {
            Duration::MAX => judgement.wait.expected > judgement.service.mean,
            limit => judgement.wait.usual > limit / CONTENDED,
        };
        let now = vitals.clock.now();
        if !contended || !shares.is_ahead(client, now, work, lane.workers_wanted) {
            return Ok(());
        }
        let text = "this client has had its share of the predictions (--fair-by), and others want theirs; send the request again later";
        Err(self.overloaded(text.to_owned(), judgement.wait.usual))
    }

    /// The longest wait that is admitted, but for the deadline.
    fn wait_max(
        &self,
        lane: &LaneVitals,
        service_times: &ServiceTimes,
        service: ServiceTime,
    ) -> Duration {
        match self.max_wait {
            MaxWait::Fixed(limit) => limit,
            MaxWait::Unlimited => Duration::MAX,
            MaxWait::Auto => {
                // By the lane's mean too, so that a short prediction may wait behind the usual ones; and
                // all that are computed in slices wait in one line, where the largest would else shut
                // the others out: it may wait for longest, and would keep the line that long.
                let mut usual = service.mean.max(lane.service_time());
                let cost = forecast::cost(service_times, service.mean);
                if cost.whole > cost.slice {
                    usual = usual.max(service_times.longest_large());
                }
                let most = WAIT_MAX.max(usual.saturating_mul(2));
                usual.saturating_mul(SERVICE_TIMES).clamp(WAIT_MIN, most)
            }
        }
    }

    /// The longest time after which a prediction that was admitted is still computed: twice what it was
    /// admitted to wait, where nobody has set a limit, so that a machine that stops for a moment, or one
    /// long prediction, does not cost every answer.
    fn last_word(
        &self,
        lane: &LaneVitals,
        service_times: &ServiceTimes,
        service: ServiceTime,
    ) -> Duration {
        match self.max_wait {
            MaxWait::Auto => (self.wait_max(lane, service_times, service) * 2).max(WAIT_MAX),
            MaxWait::Fixed(limit) => limit.max(HAND_OVER),
            MaxWait::Unlimited => Duration::MAX,
        }
    }

    /// From when on a prediction that takes longer than was expected counts as no end in sight.
    fn overdue(
        &self,
        lane: &LaneVitals,
        service_times: &ServiceTimes,
        service: ServiceTime,
    ) -> Duration {
        match self.max_wait {
            MaxWait::Unlimited => Duration::MAX,
            MaxWait::Auto | MaxWait::Fixed(_) => self.last_word(lane, service_times, service),
        }
    }

    /// When to come back: as long from now as what waits will take, up to twice that, so that those
    /// who were refused together do not come back together.
    fn retry_after(&self, wait: Duration) -> u32 {
        let count = self.refusals.fetch_add(1, Ordering::Relaxed);
        retry_after_seconds(wait, fraction(count))
    }

    /// The refusal of a full queue, where one more would wait for so long.
    fn queue_full(&self, lane: &LaneVitals, wait: Duration) -> RequestError {
        queue_full(lane).retry_after(self.retry_after(wait))
    }

    fn overloaded(&self, text: String, wait: Duration) -> RequestError {
        RequestError::new(Code::Overloaded, text).retry_after(self.retry_after(wait))
    }
}

/// What becomes of a prediction that a worker takes up.
#[derive(Debug)]
pub enum AtDequeue {
    /// It is computed.
    Compute,
    /// It is answered so instead.
    Refuse(RequestError),
}

/// Decides whether a prediction that has waited for so long is still worth computing.
///
/// Takes in, too, how long it has waited: where the machine is slow rather than the queue long, the
/// next forecasts are corrected by that.
pub fn at_dequeue(
    lane: &LaneVitals,
    admitted: &Admitted,
    waited: Duration,
    now: Instant,
) -> AtDequeue {
    let cost = admitted.reservation.cost();
    if cost.whole <= cost.slice {
        forecast::learn(lane, admitted.expected_wait, waited);
    }
    let time_remaining = admitted.deadline.saturating_duration_since(now);
    let others_wait = lane.work.admitted() > 0;
    if time_remaining.is_zero() {
        AtDequeue::Refuse(too_late())
    } else if others_wait && time_remaining.saturating_add(waited) < cost.whole {
        AtDequeue::Refuse(too_short(cost.whole, time_remaining.saturating_add(waited)))
    } else if waited > admitted.wait_max || others_wait && time_remaining < cost.whole {
        AtDequeue::Refuse(expired(lane, waited, admitted.wait_max))
    } else {
        AtDequeue::Compute
    }
}

/// Says when to come back from a queue that is what it is, for those who never asked to be admitted:
/// Little's law read backwards, waiting time = work that waits / workers.
pub fn retry_after(lane: &LaneVitals) -> u32 {
    let wait = lane.work.waiting() / u32::try_from(lane.workers_wanted.max(1)).unwrap_or(u32::MAX);
    retry_after_seconds(wait, 0.0)
}

/// Whole seconds, 1 to 30: `wait`, at least one, and a `part` of it (0 to 1) on top.
fn retry_after_seconds(wait: Duration, part: f64) -> u32 {
    let seconds = wait.as_secs_f64().max(1.0) * (1.0 + part);
    // Saturating by the language's rules for casts; the clamp bounds it.
    seconds.clamp(1.0, RETRY_AFTER_MAX).round() as u32
}

/// A number from 0 to 1 for each count, spread evenly whatever the counts: the fractional parts of
/// multiples of the golden ratio (Weyl's equidistribution).
fn fraction(count: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    count.wrapping_mul(GOLDEN) as f64 / u64::MAX as f64
}

/// In milliseconds, rounded up: nobody is told that something takes no time at all.
fn whole_millis(duration: Duration) -> Duration {
    let millis = duration.as_micros().div_ceil(1000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The refusal of a server that is shutting down.
pub fn draining() -> RequestError {
    RequestError::new(
        Code::Draining,
        "the server is shutting down; send the request again",
    )
    .retry_after(1)
}

/// The refusal of a server whose model is not loaded and tried yet.
pub fn loading() -> RequestError {
    RequestError::new(Code::Loading, "model is loading").retry_after(1)
}

/// The refusal of a full lane.
pub fn queue_full(lane: &LaneVitals) -> RequestError {
    let text = format!(
        "the prediction queue is full ({} waiting); send the request again later",
        lane.queue_capacity
    );
    RequestError::new(Code::QueueFull, text).retry_after(retry_after(lane))
}

/// The answer to a prediction whose deadline passed before a worker had it.
fn too_late() -> RequestError {
    let text = "the deadline has passed (X-Request-Timeout, or --request-timeout), and nothing was computed";
    RequestError::new(Code::DeadlineExceeded, text)
}

/// The answer to a prediction that takes longer than its client has, without any wait.
fn too_short(needed: Duration, time_remaining: Duration) -> RequestError {
    let text = format!(
        "the prediction takes about {}, longer than its deadline in {} (X-Request-Timeout, or --request-timeout), and was not computed; give it more time, or send fewer instances",
        format_duration(whole_millis(needed)),
        format_duration(whole_millis(time_remaining)),
    );
    RequestError::new(Code::DeadlineExceeded, text)
}

/// The refusal of a prediction that waited too long to be worth computing.
fn expired(lane: &LaneVitals, waited: Duration, wait_max: Duration) -> RequestError {
    let waited_for = format_duration(whole_millis(waited));
    let text = if waited > wait_max {
        format!(
            "the prediction waited {waited_for} in the queue, longer than it may ({}, --max-wait), and was not computed",
            format_duration(wait_max),
        )
    } else {
        format!(
            "the prediction waited {waited_for} in the queue, could not be done by its deadline any more, and was not computed"
        )
    };
    RequestError::new(Code::Expired, text).retry_after(retry_after(lane))
}

#[cfg(test)]
mod tests;
