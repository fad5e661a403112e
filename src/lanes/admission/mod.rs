//! Admission: which predictions are refused on arrival, when to retry, and the rate limits of cheap
//! answers.
//!
//! Runs on connection threads and does no I/O; it reads the process clock, and reads and writes
//! atomics. A connection thread asks before it reads a body, if the head says enough, and again before
//! it sends the job. The criterion is the expected wait rather than the queue's length: if requests
//! wait longer than their clients are willing to, the workers compute in vain.

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
    Announced, Cost, DeploymentVitals, LaneVitals, Reservation, ServerPhase, ServiceTime,
    ServiceTimes, Vitals,
};

pub use self::fair::ClientKey;
use self::fair::Shares;
pub use self::forecast::{QUANTUM, SLICE_ROWS_MIN};
use self::forecast::{SERVICE_DEVIATIONS, WaitForecast, corrected};
pub use self::pace::{PIECE_BYTES, Pace, Pacer};

/// Maximum `Retry-After`, in seconds.
const RETRY_AFTER_MAX: f64 = 30.0;

/// With `--max-wait auto`: how many service times a prediction may wait. This many keep a worker
/// busy through a lull: with room for ten (M/M/1/10) a worker is idle for a tenth of the time at full
/// load, and for 1/2,000 of it at twice that load. More would only make every answer later.
const SERVICE_TIMES: u32 = 10;

/// With `--max-wait auto`: the lowest and the highest limit. If predictions take more than half of
/// `WAIT_MAX`, the highest is twice what they take.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(2);

/// The lowest wait after which a fixed limit discards a prediction. Handing it to an idle worker takes
/// some time too, and with a limit of 0 none would ever be computed.
const HAND_OVER: Duration = Duration::from_millis(10);

/// The lane is contended if the wait exceeds the limit divided by this: a client that has had its share
/// is then refused.
const CONTENDED_DIVISOR: u32 = 8;

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
    pub expires_after: Duration,
    /// The estimate of its wait.
    pub expected_wait: Duration,
}

/// A prediction that asks to be admitted.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// What is known of its deployment.
    pub deployment: &'a DeploymentVitals,
    /// The form of its body, as a number: each form has service times of its own.
    pub form: usize,
    /// The size of its body in bytes, if known.
    pub bytes: Option<usize>,
    /// The present time, on the clock of `deadline`.
    pub now: Instant,
    /// The latest time at which an answer is useful.
    pub deadline: Instant,
    /// The client, if shares are kept (`--fair-by`).
    pub client: Option<ClientKey>,
}

/// The estimates for one prediction.
struct Judgement {
    service: ServiceTime,
    cost: Cost,
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
        Ok(Announced::new(vitals, judgement.cost, now))
    }

    /// Admits a prediction whose body has arrived.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check).
    pub fn admit(&self, vitals: &Arc<Vitals>, ask: &Ask<'_>) -> Result<Admitted, RequestError> {
        let judgement = self.judge(vitals, ask, Duration::ZERO)?;
        let lane = &vitals.predict;
        let cost = judgement.cost;
        let reservation = Reservation::new(vitals, cost, lane.queue_capacity)
            .ok_or_else(|| self.queue_full(lane, judgement.wait.usual))?;
        if let (Some(shares), Some(client)) = (&self.shares, ask.client) {
            let work = cost.whole.max(Duration::from_micros(1));
            shares.charge(client, vitals.clock.now(), work, lane.workers_wanted);
        }
        Ok(Admitted {
            reservation,
            deadline: ask.deadline,
            expires_after: self.expires_after(
                lane,
                &ask.deployment.service_times,
                judgement.service,
            ),
            expected_wait: judgement.wait.expected,
        })
    }

    /// Estimates how long a prediction would wait, and refuses it if that is too long. Also records
    /// that its client is active.
    fn judge(
        &self,
        vitals: &Vitals,
        ask: &Ask<'_>,
        coming: Duration,
    ) -> Result<Judgement, RequestError> {
        match vitals.phase() {
            ServerPhase::Finishing | ServerPhase::Stopped => return Err(draining()),
            // While it drains, the grace period still serves.
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
            // Without a size only the mean is known.
            None => ServiceTime {
                mean: lane.service_time(),
                deviation: Duration::ZERO,
            },
        };
        let cost = forecast::cost(service_times, service.mean);
        // A running prediction that exceeds its estimate by this much has no end in sight.
        let overdue = self.expires_after(lane, service_times, service);
        let expected = forecast::wait(lane, now, cost, coming, overdue);
        let judgement = Judgement {
            service,
            cost,
            wait: corrected(lane, expected),
        };
        // `admitted` has the jobs on their way to the queue too, and the length the probes in a shared
        // lane: the larger number counts.
        let waiting = lane.queue_length.load(Ordering::Acquire);
        if waiting.max(lane.work.admitted()) >= lane.queue_capacity {
            return Err(self.queue_full(lane, judgement.wait.usual));
        }
        // Zero only if a worker is idle: it may try the prediction, whatever the estimate. Only admitted
        // predictions correct a wrong estimate; refused ones teach nothing.
        if !expected.is_zero() {
            self.check_limits(lane, service_times, &judgement, time_remaining)?;
            self.check_share(vitals, ask, &judgement)?;
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
        let wait_by_deadline = time_remaining.saturating_sub(needed);
        let limit = self.wait_limit(lane, service_times, judgement.service);
        let wait = judgement.wait;
        // A prediction that waits longer than a fixed limit is discarded at dequeue, so the safe
        // estimate counts. With auto it is still computed; there, the safe estimate would leave workers
        // idle if service times vary.
        let against_limit = match self.max_wait {
            MaxWait::Fixed(_) => wait.safe,
            MaxWait::Auto | MaxWait::Unlimited => wait.with_margin,
        };
        if wait.safe <= wait_by_deadline && against_limit <= limit {
            return Ok(());
        }
        if mean > time_remaining {
            // A retry would not help, however idle the server.
            return Err(too_short(mean, time_remaining));
        }
        let text = if wait.safe > wait_by_deadline {
            format!(
                "the prediction would wait up to {} and take {}, too long for its deadline in {}; retry later",
                format_duration(millis_rounded_up(wait.safe)),
                format_duration(millis_rounded_up(needed)),
                format_duration(millis_rounded_up(time_remaining)),
            )
        } else {
            format!(
                "the prediction would wait up to {}, longer than --max-wait ({}, now {}); retry later",
                format_duration(millis_rounded_up(against_limit)),
                self.max_wait,
                format_duration(millis_rounded_up(limit)),
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
    ) -> Result<(), RequestError> {
        let (Some(shares), Some(client)) = (&self.shares, ask.client) else {
            return Ok(());
        };
        let lane = &vitals.predict;
        // A lane without a limit is contended if the wait is longer than one prediction.
        let contended =
            match self.wait_limit(lane, &ask.deployment.service_times, judgement.service) {
                Duration::MAX => judgement.wait.expected > judgement.service.mean,
                limit => judgement.wait.usual > limit / CONTENDED_DIVISOR,
            };
        let now = vitals.clock.now();
        if !contended || !shares.is_ahead(client, now, judgement.cost.whole, lane.workers_wanted) {
            return Ok(());
        }
        let text = "this client has had its share of predictions (--fair-by) while others wait; retry later";
        Err(self.overloaded(text.to_owned(), judgement.wait.usual))
    }

    /// The longest wait for which a prediction is admitted, `Duration::MAX` if there is no limit; its
    /// deadline may allow less.
    fn wait_limit(
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

    /// The wait after which an admitted prediction is no longer computed: the fixed limit, or with auto
    /// twice the limit and at least 2 s. So a short stop of the machine, or one long prediction, does not
    /// cost every answer.
    fn expires_after(
        &self,
        lane: &LaneVitals,
        service_times: &ServiceTimes,
        service: ServiceTime,
    ) -> Duration {
        match self.max_wait {
            MaxWait::Auto => (self.wait_limit(lane, service_times, service) * 2).max(WAIT_MAX),
            MaxWait::Fixed(limit) => limit.max(HAND_OVER),
            MaxWait::Unlimited => Duration::MAX,
        }
    }

    /// When to retry: after the time that the waiting work takes, and a different part of it more for
    /// each refusal, so that clients refused together do not return together.
    fn jittered_retry_after(&self, wait: Duration) -> u32 {
        let count = self.refusals.fetch_add(1, Ordering::Relaxed);
        retry_after_seconds(wait, fraction(count))
    }

    /// The refusal of a full queue; `wait` is how long one more would wait.
    fn queue_full(&self, lane: &LaneVitals, wait: Duration) -> RequestError {
        queue_full(lane).retry_after(self.jittered_retry_after(wait))
    }

    fn overloaded(&self, text: String, wait: Duration) -> RequestError {
        RequestError::new(Code::Overloaded, text).retry_after(self.jittered_retry_after(wait))
    }
}

/// Decides whether a prediction that has waited so long is still worth computing. Its reservation has been
/// taken up before.
///
/// Also learns from the wait: if the machine is slow rather than the queue long, the next forecasts
/// are corrected.
///
/// # Errors
///
/// It waited too long, or can no longer be computed by its deadline: it is refused with this.
pub fn check_at_dequeue(
    lane: &LaneVitals,
    admitted: &Admitted,
    waited: Duration,
    now: Instant,
) -> Result<(), RequestError> {
    let cost = admitted.reservation.cost();
    // For a job in slices the forecast is of its end, not of its wait.
    if cost.whole <= cost.slice {
        forecast::learn(lane, admitted.expected_wait, waited);
    }
    let time_remaining = admitted.deadline.saturating_duration_since(now);
    let allowed = time_remaining.saturating_add(waited);
    // If nobody else waits, a prediction that will be late costs nobody anything.
    let others_wait = lane.work.admitted() > 0;
    if time_remaining.is_zero() {
        Err(too_late())
    } else if others_wait && allowed < cost.whole {
        Err(too_short(cost.whole, allowed))
    } else if waited > admitted.expires_after || others_wait && time_remaining < cost.whole {
        Err(expired(lane, waited, admitted.expires_after))
    } else {
        Ok(())
    }
}

/// When to retry, in seconds, where there is no forecast: after the waiting work, shared by the workers.
pub fn retry_after(lane: &LaneVitals) -> u32 {
    let wait = lane.work.waiting() / u32::try_from(lane.workers_wanted.max(1)).unwrap_or(u32::MAX);
    retry_after_seconds(wait, 0.0)
}

/// `wait`, which counts as at least 1 s, times 1 + `part` (0 to 1), in whole seconds, at most 30.
fn retry_after_seconds(wait: Duration, part: f64) -> u32 {
    let seconds = wait.as_secs_f64().max(1.0) * (1.0 + part);
    seconds.min(RETRY_AFTER_MAX).round() as u32
}

/// A number from 0 to 1 for each count, evenly spread: the fractional parts of multiples of the
/// golden ratio (Weyl's equidistribution).
fn fraction(count: u64) -> f64 {
    const GOLDEN: u64 = 0x9E37_79B9_7F4A_7C15;
    count.wrapping_mul(GOLDEN) as f64 / u64::MAX as f64
}

/// Rounds up to milliseconds, so that a short time is not printed as 0.
fn millis_rounded_up(duration: Duration) -> Duration {
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
        format_duration(millis_rounded_up(needed)),
        format_duration(millis_rounded_up(time_remaining)),
    );
    RequestError::new(Code::DeadlineExceeded, text)
}

/// The refusal of a prediction that waited too long to be worth computing.
fn expired(lane: &LaneVitals, waited: Duration, limit: Duration) -> RequestError {
    let waited_for = format_duration(millis_rounded_up(waited));
    let text = if waited > limit {
        format!(
            "the prediction waited {waited_for} in the queue, longer than allowed ({}, --max-wait), and was not computed",
            format_duration(limit),
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
