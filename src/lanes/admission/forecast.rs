//! How long a prediction that arrives now would wait, from what is ahead of it.
//!
//! Pure: it reads the lane's atomics and a point in time. With c workers and general service times
//! this is the waiting time of an M/G/c queue seen by one arrival (Little's law gives its mean); here
//! it is not a mean over all arrivals but reckoned from the work that is there.

use std::time::Duration;

use crate::platform::clock::Stamp;
use crate::vitals::{Cost, Estimate, LaneVitals, ServiceTimes};

/// The least expected wait that a measured one is compared with: below it both are noise.
const RATIO_FLOOR: Duration = Duration::from_millis(1);

/// The most that one measured wait may be of what was expected, or the other way about.
const RATIO_MAX: f32 = 4.0;
const RATIO_GAIN: f32 = 1.0 / 16.0;

/// Mean deviations to stay clear of where an answer that is late is lost work, as for a
/// retransmission timeout (RFC 6298 section 2).
pub(super) const SERVICE_DEVIATIONS: f32 = 4.0;
const WAIT_DEVIATIONS: f32 = 3.0;

/// What is kept clear at least, as a part of the forecast: what connections take before and after a
/// wait is not in it, however well the last ones turned out.
const WAIT_MARGIN: f32 = 0.1;

/// The longest turn of a job that is computed in slices.
pub const QUANTUM: Duration = Duration::from_millis(5);

/// The least rows of a slice, and of the first one while it is not known what a row takes: a few rows
/// are not worth coming back for.
pub const SLICE_ROWS_MIN: usize = 16;

/// What a job that is `expected` to take so long costs at its first slice, by what rows have taken.
pub(super) fn cost(service_times: &ServiceTimes, expected: Duration) -> Cost {
    // Before any batch was seen, everything is of a few rows and done in one turn.
    let least = service_times.of_rows(SLICE_ROWS_MIN);
    let slice = least.map_or(Duration::MAX, |least| least.max(QUANTUM));
    Cost {
        whole: expected,
        slice: expected.min(slice),
    }
}

/// Says for how long a job of this `cost` would wait for a worker if it arrived now, with so much work
/// `coming` before it; zero where a worker is idle and nothing is ahead.
///
/// A job that is done in one turn waits for the first turns of those ahead, and for as much of what
/// is computed in slices beside them (deficit round robin gives both the same). A longer one shares
/// with everything ahead, so it is done when all of that is.
pub(super) fn wait(
    lane: &LaneVitals,
    now: Stamp,
    cost: Cost,
    coming: Duration,
    overdue: Duration,
) -> Duration {
    let work = &lane.work;
    let (waiting, first_slices, suspended) =
        (work.waiting(), work.first_slices(), work.suspended());
    let ahead = if cost.whole <= cost.slice {
        let sliced = suspended + waiting.saturating_sub(first_slices);
        first_slices + sliced.min(first_slices + cost.slice)
    } else {
        waiting + suspended
    };
    let residuals = || {
        let slots = lane.workers.iter();
        slots.filter_map(move |slot| slot.residual(now, overdue))
    };
    // Work is not as divisible as what follows takes it to be: each that is ahead has a worker, and
    // one is left.
    let idle = residuals().filter(Duration::is_zero).count();
    if coming.is_zero() && idle > work.admitted() {
        return Duration::ZERO;
    }
    taken_up_after(ahead.saturating_add(coming), residuals)
}

/// When the last of the work `ahead` has been taken up by servers that get free after `residuals`:
/// the least t at which the servers have had, between them, that much time.
fn taken_up_after<I>(ahead: Duration, residuals: impl Fn() -> I) -> Duration
where
    I: Iterator<Item = Duration>,
{
    // Newton's method on a convex function of t, from above: each round leaves those out that get
    // free too late to help. Two or three are the rule; more than eight would change little.
    let mut horizon = Duration::MAX;
    for _ in 0..8 {
        let (mut count, mut sum, mut least) = (0_u32, ahead, Duration::MAX);
        for residual in residuals() {
            least = least.min(residual);
            if residual < horizon {
                count += 1;
                sum = sum.saturating_add(residual);
            }
        }
        if count == 0 {
            // Nobody is there at all, or all at the same moment.
            return if least == Duration::MAX { ahead } else { least };
        }
        let next = sum / count;
        if next >= horizon {
            break;
        }
        horizon = next;
    }
    horizon
}

/// Takes in what a job has really waited, where `expected` was forecast at its arrival.
pub(super) fn learn(lane: &LaneVitals, expected: Duration, measured: Duration) {
    let ratio = (measured + RATIO_FLOOR).as_secs_f32() / (expected + RATIO_FLOOR).as_secs_f32();
    let sample = ratio.clamp(1.0 / RATIO_MAX, RATIO_MAX);
    if lane.wait_ratio.load().is_none() {
        lane.wait_ratio.store(NEUTRAL);
    }
    lane.wait_ratio.record(sample, RATIO_GAIN, RATIO_GAIN);
}

/// A forecast, corrected by how the last ones have turned out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitForecast {
    /// By what is ahead alone; zero where a worker is idle.
    pub(super) expected: Duration,
    /// What it will be, as likely as not.
    pub(super) usual: Duration,
    /// The same, with what connections take before and after it.
    pub(super) with_margin: Duration,
    /// What hardly any will be longer than.
    pub(super) safe: Duration,
}

pub(super) fn corrected(lane: &LaneVitals, expected: Duration) -> WaitForecast {
    let ratio = lane.wait_ratio.load().unwrap_or(NEUTRAL);
    let safe = ratio.mean + (WAIT_DEVIATIONS * ratio.deviation).max(WAIT_MARGIN);
    WaitForecast {
        expected,
        usual: expected.mul_f32(ratio.mean),
        with_margin: expected.mul_f32(ratio.mean + WAIT_MARGIN),
        safe: expected.mul_f32(safe),
    }
}

/// Before anything is known, forecasts are right.
const NEUTRAL: Estimate = Estimate {
    mean: 1.0,
    deviation: 0.0,
};

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, ahead: u64, residuals: &[u64], expected: u64) {
        let millis = Duration::from_millis;
        let found = taken_up_after(millis(ahead), || residuals.iter().copied().map(millis));
        assert_eq!(found, millis(expected), "{name}");
    }

    #[test]
    fn a_job_is_taken_up_when_the_servers_have_done_what_is_ahead() {
        check("an idle server", 0, &[0, 50], 0);
        check("one server, on a job", 0, &[50], 50);
        check("the first of two to get free", 0, &[80, 50], 50);
        check("work ahead is shared", 100, &[0, 0], 50);
        check("as soon as each is free", 100, &[20, 40], 80);
        check("who is free too late does not help", 30, &[10, 1000], 40);
        check("a stuck one least of all", 30, &[1_000_000, 10, 10], 25);
        check("nobody is there", 70, &[], 70);
    }
}
