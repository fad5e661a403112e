//! How long a prediction that arrives now would wait, given the work ahead of it.
//!
//! A function of the lane's atomics and a point in time. With c workers and general service times
//! this is the waiting time of an M/G/c queue as one arrival sees it, computed from the work that
//! is actually there rather than as a mean.

use std::time::Duration;

use crate::platform::clock::Stamp;
use crate::vitals::{Cost, Estimate, LaneVitals, ServiceTimes};

/// Minimum expected wait that a measured one is compared with: below it both are noise.
const RATIO_FLOOR: Duration = Duration::from_millis(1);

/// Maximum ratio of a measured wait to the expected one, and the reverse, that counts.
const RATIO_MAX: f32 = 4.0;
const RATIO_GAIN: f32 = 1.0 / 16.0;

/// Mean deviations to add where a late answer is lost work, as for a retransmission timeout (RFC
/// 6298 section 2).
pub(super) const SERVICE_DEVIATIONS: f32 = 4.0;
const WAIT_DEVIATIONS: f32 = 3.0;

/// Minimum headroom, as a part of the forecast: time that connections take before and after the
/// wait is not in it, however accurate the last forecasts were.
const WAIT_MARGIN: f32 = 0.1;

/// Maximum turn of a job that is computed in slices.
pub const QUANTUM: Duration = Duration::from_millis(5);

/// Minimum rows of a slice, and of the first one while the time per row is unknown: fewer rows are
/// not worth another turn.
pub const SLICE_ROWS_MIN: usize = 16;

/// The cost of the first slice of a job that is `expected` to take so long, judged by earlier rows.
pub(super) fn cost(service_times: &ServiceTimes, expected: Duration) -> Cost {
    // Before any batch was seen, every job counts as few rows in one turn.
    let least = service_times.of_rows(SLICE_ROWS_MIN);
    let slice = least.map_or(Duration::MAX, |least| least.max(QUANTUM));
    Cost {
        whole: expected,
        slice: expected.min(slice),
    }
}

/// Estimates how long a job of this `cost` would wait for a worker if it arrived now, with so much
/// work `coming` before it; zero if a worker is idle and nothing is ahead.
///
/// A job that is done in one turn waits for the first turns of the jobs ahead, and for as much time
/// of suspended executions (deficit round robin gives both the same). A longer job shares with
/// everything ahead, so it is done when all of that is done.
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
    // Work is not infinitely divisible: if each job ahead has a worker, one worker is left.
    let idle = residuals().filter(Duration::is_zero).count();
    if coming.is_zero() && idle > work.admitted() {
        return Duration::ZERO;
    }
    taken_up_after(ahead.saturating_add(coming), residuals)
}

/// When the work `ahead` has been taken by servers that become free after `residuals`: the smallest
/// t at which the servers have had that much time between them.
fn taken_up_after<I>(ahead: Duration, residuals: impl Fn() -> I) -> Duration
where
    I: Iterator<Item = Duration>,
{
    // Newton's method on a convex function of t, from above: each round excludes servers that
    // become free too late. Two or three rounds are usual; more than eight would change little.
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
            // There is no server, or all become free at once.
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

/// Learns from a measured wait whose forecast at arrival was `expected`.
pub(super) fn learn(lane: &LaneVitals, expected: Duration, measured: Duration) {
    let ratio = (measured + RATIO_FLOOR).as_secs_f32() / (expected + RATIO_FLOOR).as_secs_f32();
    let sample = ratio.clamp(1.0 / RATIO_MAX, RATIO_MAX);
    if lane.wait_ratio.load().is_none() {
        lane.wait_ratio.store(NEUTRAL);
    }
    lane.wait_ratio.record(sample, RATIO_GAIN, RATIO_GAIN);
}

/// A forecast, corrected by the accuracy of the last ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitForecast {
    /// From the work ahead alone; zero if a worker is idle.
    pub(super) expected: Duration,
    /// The median estimate.
    pub(super) usual: Duration,
    /// The same, with the time that connections take before and after it.
    pub(super) with_margin: Duration,
    /// An estimate that hardly any wait exceeds.
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

/// Before anything is known, forecasts count as accurate.
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
