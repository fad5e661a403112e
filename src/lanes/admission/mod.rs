//! Admission: which predictions are refused on arrival, when to retry, and the rate limits of cheap
//! answers.
//!
//! Runs on connection threads and does no I/O; it reads the process clock, and reads and writes
//! atomics. A connection thread asks before it reads a body, if the head says enough, and again before
//! it sends the job. The criterion is the expected wait rather than the queue's length: if every
//! request waits longer than its client does, the workers compute in vain.

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

/// Maximum `Retry-After`, in seconds.
const RETRY_AFTER_MAX: f64 = 30.0;

/// With `--max-wait auto`: how many service times a prediction may wait. This many keep a worker
/// busy through a lull (an M/M/1/10 queue at full load loses a tenth; at twice the load it idles
/// for 1 in 2,000). More would only make every answer later.
const SERVICE_TIMES: u32 = 10;

/// With `--max-wait auto`: its minimum and maximum, unless predictions take even longer.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// What handing a prediction to an idle worker may take, whatever the limit: with zero, no
/// prediction would ever be computed.
const HAND_OVER: Duration = Duration::from_millis(10);

/// The part of the maximum wait above which the lane counts as contended: a client that has had its
/// share is then refused.
const CONTENDED: u32 = 8;

/// The admission policy, from the options.
#[derive(Debug)]
pub struct Admission {
    max_wait: MaxWait,
    shares: Option<Shares>,
    /// Refusals so far, for the jitter.
    refusals: AtomicU64,
}

/// What an admitted prediction carries.
#[derive(Debug)]
pub struct Admitted {
    /// Its reservation of the lane's work.
    pub reservation: Reservation,
    /// The latest time at which an answer is useful.
    pub deadline: Instant,
    /// If it waits longer than this it is not computed.
    pub wait_max: Duration,
    /// The estimate of its wait.
    pub expected_wait: Duration,
}

/// A prediction that asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What is known of its deployment.
    pub deployment: &'a DeploymentVitals,
    /// The form of its body, which has service times of its own.
    pub form: usize,
    /// The size of its body in bytes, if known.
    pub bytes: Option<usize>,
    /// The present time, on the clock of `deadline`.
    pub now: Instant,
    /// The latest time at which an answer is useful.
    pub deadline: Instant,
    /// Who asks, where that matters.
    pub client: Option<ClientKey>,
}

/// The estimates for one prediction.
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

    /// The client's hash, if shares are kept.
    pub fn client(&self, known_by: impl Hash) -> Option<ClientKey> {
        self.shares.as_ref().map(|shares| shares.client(known_by))
    }

    /// Checks whether a prediction would be admitted now, before its body is read. Until the returned
    /// value is dropped, later checks count its work as ahead of theirs.
    ///
    /// # Errors
    ///
    /// The refusal it would get: the model is loading; the grace period of the drain is over; the
    /// queue is full; its deadline has passed or is too short for the prediction alone (504); it would
    /// wait too long; or its client has had its share of a contended lane.
    pub fn check(&self, vitals: &Arc<Vitals>, ask: &Ask<'_>) -> Result<Announced, RequestError> {
        // Requests that passed this check and whose bodies are arriving will be queued first.
        let now = vitals.clock.now();
        let coming = vitals.predict.work.coming(now);
        let judgement = self.judge(vitals, ask, coming)?;
        let cost = forecast::cost(&ask.deployment.service_times, judgement.service.mean);
        Ok(Announced::new(vitals, cost, now))
    }

    /// Admits a prediction whose body has arrived.
    ///
    /// # Errors
    ///
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
            Some(bytes) => service_times.expected((ask.form, bytes)),
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
        // Jobs on their way to the queue have a place too, and so do probes in a shared lane.
        let waiting = lane.queue_length.load(Ordering::Acquire);
        if waiting.max(lane.work.admitted()) >= lane.queue_capacity {
            return Err(self.queue_full(lane, judgement.wait.usual));
        }
        // Whatever the estimate, trying an idle worker costs nothing. Wrong estimates are corrected
        // by what is admitted, never by what is refused.
        if !expected.is_zero() {
            self.check_limits(lane, service_times, &judgement, time_remaining)?;
            self.check_share(vitals, ask, &judgement, cost.whole)?;
        }
        Ok(judgement)
    }

    /// Refuses a prediction that would wait longer than allowed, or too long for its deadline.
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
        // A prediction that waits longer than a fixed limit is discarded at dequeue and has waited
        // in vain, so the safe estimate counts. With auto it is still computed, and the safe
        // estimate's headroom would leave workers idle if service times vary.
        let against_limit = match self.max_wait {
            MaxWait::Fixed(_) => wait.safe,
            MaxWait::Auto | MaxWait::Unlimited => wait.with_margin,
        };
        if wait.safe <= by_deadline && against_limit <= limit {
            return Ok(());
        }
        if mean > time_remaining {
            // A retry would not help, however idle the server.
            return Err(too_short(mean, time_remaining));
        }
        let text = if wait.safe > by_deadline {
            format!(
                "the prediction would wait up to {} and take {}, too long for its deadline in {}; retry later",
                format_duration(whole_millis(wait.safe)),
                format_duration(whole_millis(needed)),
                format_duration(whole_millis(time_remaining)),
            )
        } else {
            format!(
                "the prediction would wait up to {}, longer than --max-wait ({}, now {}); retry later",
                format_duration(whole_millis(against_limit)),
                self.max_wait,
                format_duration(whole_millis(limit)),
            )
        };
        Err(self.overloaded(text, wait.usual))
    }

    /// Refuses a client that has had more than its share while others may want the rest.
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
        let text = "this client has had its share of predictions (--fair-by) while others wait; retry later";
        Err(self.overloaded(text.to_owned(), judgement.wait.usual))
    }

    /// The maximum wait, not counting the deadline.
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
                // The lane's mean counts too, so that a short prediction may wait behind usual
                // ones. Suspended jobs run one after another, so all jobs computed in slices get
                // the limit of the largest: otherwise large ones would keep small ones out.
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

    /// The time after which an admitted prediction is no longer computed: the fixed limit, or with
    /// auto twice the limit and at least 2 s, so that a short stop of the machine, or one long
    /// prediction, does not cost every answer.
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

    /// When a prediction that takes longer than expected counts as having no end in sight.
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

    /// When to retry: after the time that the waiting work takes, up to twice that, so that clients
    /// refused together do not return together.
    fn retry_after(&self, wait: Duration) -> u32 {
        let count = self.refusals.fetch_add(1, Ordering::Relaxed);
        retry_after_seconds(wait, fraction(count))
    }

    /// The refusal of a full queue, in which one more would wait so long.
    fn queue_full(&self, lane: &LaneVitals, wait: Duration) -> RequestError {
        queue_full(lane).retry_after(self.retry_after(wait))
    }

    fn overloaded(&self, text: String, wait: Duration) -> RequestError {
        RequestError::new(Code::Overloaded, text).retry_after(self.retry_after(wait))
    }
}

/// What happens to a prediction that a worker takes.
#[derive(Debug)]
pub enum AtDequeue {
    /// It is computed.
    Compute,
    /// It is answered so instead.
    Refuse(RequestError),
}

/// Decides whether a prediction that has waited so long is still worth computing.
///
/// Also learns from the wait: if the machine is slow rather than the queue long, the next forecasts
/// are corrected.
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

/// Computes when to retry from the queue's length alone, for jobs that never asked for admission:
/// Little's law, waiting time = waiting work / workers.
pub fn retry_after(lane: &LaneVitals) -> u32 {
    let wait = lane.work.waiting() / u32::try_from(lane.workers_wanted.max(1)).unwrap_or(u32::MAX);
    retry_after_seconds(wait, 0.0)
}

/// Whole seconds, 1 to 30: `wait`, at least one, plus a `part` of it (0 to 1).
fn retry_after_seconds(wait: Duration, part: f64) -> u32 {
    let seconds = wait.as_secs_f64().max(1.0) * (1.0 + part);
    // Casts saturate; the clamp bounds it.
    seconds.clamp(1.0, RETRY_AFTER_MAX).round() as u32
}

/// A number from 0 to 1 for each count, evenly spread: the fractional parts of multiples of the
/// golden ratio (Weyl's equidistribution).
fn fraction(count: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    count.wrapping_mul(GOLDEN) as f64 / u64::MAX as f64
}

/// In milliseconds, rounded up, so that nothing appears to take no time.
fn whole_millis(duration: Duration) -> Duration {
    let millis = duration.as_micros().div_ceil(1000);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

/// The refusal of a server that is shutting down.
pub fn draining() -> RequestError {
    RequestError::new(Code::Draining, "the server is shutting down; retry").retry_after(1)
}

/// The refusal of a server whose model is not loaded and tried yet.
pub fn loading() -> RequestError {
    RequestError::new(Code::Loading, "model is loading").retry_after(1)
}

/// The refusal of a full lane.
pub fn queue_full(lane: &LaneVitals) -> RequestError {
    let text = format!(
        "the prediction queue is full ({} waiting); retry later",
        lane.queue_capacity
    );
    RequestError::new(Code::QueueFull, text).retry_after(retry_after(lane))
}

/// The answer to a prediction whose deadline passed before a worker took it.
fn too_late() -> RequestError {
    let text = "the deadline has passed (X-Request-Timeout, or --request-timeout), and nothing was computed";
    RequestError::new(Code::DeadlineExceeded, text)
}

/// The answer to a prediction that alone takes longer than its client waits.
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
            "the prediction waited {waited_for} in the queue, longer than allowed ({}, --max-wait), and was not computed",
            format_duration(wait_max),
        )
    } else {
        format!(
            "the prediction waited {waited_for} in the queue, could no longer finish by its deadline, and was not computed"
        )
    };
    RequestError::new(Code::Expired, text).retry_after(retry_after(lane))
}

#[cfg(test)]
mod tests;
