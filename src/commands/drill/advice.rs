//! What a manifest would say, from what a drill has seen. Pure.
//!
//! The arithmetic is that of `lanekeeper manifest` ([`PodNumbers`]). A drill tries one body on one
//! machine, so what it saw only ever lengthens a timeout, and never shortens what was given.

use std::time::Duration;

use crate::commands::manifest::numbers::{LOADING, PodNumbers, TERMINATION_MARGIN};
use crate::config::Config;
use crate::drill::findings::ManifestNumber;
use crate::drill::report::millis;
use crate::lifecycle::LAST_ANSWERS;

/// How many of the longest predictions seen a stall timeout is to hold: bodies differ, and a worker
/// that shares its core takes longer.
const STALL_SHARE: u32 = 20;

/// How many of the longest waits for an answer a drain timeout is to hold.
const DRAIN_SHARE: u32 = 2;

/// What a drill has seen of a server.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DrillObservation {
    /// The longest prediction of those made one at a time.
    pub(super) service_max: Duration,
    /// The longest time to a 200 under load.
    pub(super) sojourn_max: Duration,
    /// The slowest probe that was answered.
    pub(super) probe_max: Duration,
    /// From the server's start to its being ready; nothing is known of one that ran already.
    pub(super) loading: Option<Duration>,
}

/// Returns the numbers, each with its reason.
pub(super) fn numbers(given: &Config, seen: &DrillObservation) -> Vec<ManifestNumber> {
    let mut config = given.clone();
    let stall = enough(given.stall_timeout, seen.service_max * STALL_SHARE);
    let drain = enough(given.drain_timeout, seen.sojourn_max * DRAIN_SHARE);
    (config.stall_timeout, config.drain_timeout) = (stall, drain);
    let pod = PodNumbers::new(&config, 0);
    let mut numbers = liveness(&config, &pod, seen).to_vec();
    numbers.extend(the_rest(&config, &pod, seen));
    numbers
}

/// How a stalled pod is found.
fn liveness(config: &Config, pod: &PodNumbers, seen: &DrillObservation) -> [ManifestNumber; 4] {
    let liveness = pod.liveness;
    [
        number(
            "--stall-timeout",
            typed(config.stall_timeout),
            format!(
                "{} the longest prediction seen, {}; raise it if other bodies take longer",
                times(config.stall_timeout, seen.service_max),
                shown(seen.service_max)
            ),
        ),
        number(
            "livenessProbe.periodSeconds",
            seconds(liveness.period),
            "a twelfth of --stall-timeout, 1 to 10".to_owned(),
        ),
        number(
            "livenessProbe.timeoutSeconds",
            seconds(liveness.timeout),
            format!(
                "{} the slowest probe that was answered, {}",
                times(liveness.timeout, seen.probe_max),
                shown(seen.probe_max)
            ),
        ),
        number(
            "livenessProbe.failureThreshold",
            liveness.failure_threshold.to_string(),
            format!(
                "a pod that stalls is told to end within {} s",
                pod.restarted_within(config).as_secs_f64().ceil()
            ),
        ),
    ]
}

/// How a pod comes into rotation, leaves it, and ends.
fn the_rest(config: &Config, pod: &PodNumbers, seen: &DrillObservation) -> [ManifestNumber; 4] {
    let (readiness, startup) = (pod.readiness, pod.startup);
    let loading = seen.loading.map_or(String::new(), |loading| {
        format!("; here it took {}", shown(loading))
    });
    [
        number(
            "readinessProbe.periodSeconds",
            seconds(readiness.period),
            format!(
                "with a failureThreshold of {} out of rotation within {} s; load never turns it",
                readiness.failure_threshold,
                readiness.noticed_within().as_secs()
            ),
        ),
        number(
            "startupProbe.failureThreshold",
            startup.failure_threshold.to_string(),
            format!(
                "with a periodSeconds of {}: {} s to load and one trial{loading}",
                startup.period.as_secs(),
                LOADING.as_secs()
            ),
        ),
        number(
            "--drain-timeout",
            typed(config.drain_timeout),
            format!(
                "{} the longest wait for an answer under load, {}",
                times(config.drain_timeout, seen.sojourn_max),
                shown(seen.sojourn_max)
            ),
        ),
        number(
            "terminationGracePeriodSeconds",
            seconds(pod.termination_grace),
            format!(
                "{} grace + {} drain + {} last answers + {}",
                typed(pod.drain_grace),
                typed(config.drain_timeout),
                typed(LAST_ANSWERS),
                typed(TERMINATION_MARGIN)
            ),
        ),
    ]
}

fn number(name: &'static str, value: String, reason: String) -> ManifestNumber {
    ManifestNumber {
        name,
        value,
        reason,
    }
}

fn seconds(duration: Duration) -> String {
    duration.as_secs().to_string()
}

/// What was given, or whole five seconds that hold what is needed.
fn enough(given: Duration, needed: Duration) -> Duration {
    if needed <= given {
        given
    } else {
        Duration::from_secs(needed.as_secs() / 5 * 5 + 5)
    }
}

fn typed(duration: Duration) -> String {
    humantime::format_duration(duration)
        .to_string()
        .replace(' ', "")
}

fn shown(duration: Duration) -> String {
    format!("{} ms", millis(Some(duration)))
}

fn times(whole: Duration, part: Duration) -> String {
    let times = whole.as_secs_f64() / part.as_secs_f64().max(1e-6);
    match times {
        times if times >= 1000.0 => "over 1,000 times".to_owned(),
        times => format!("{times:.0} times"),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Command, Resources, parse};

    fn config(options: &str) -> Config {
        let args = format!("lanekeeper serve {options}");
        match parse(args.split_whitespace().map(OsString::from)).unwrap() {
            Command::Serve(serve) => serve.validate(Resources::UNKNOWN).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn values(options: &str, service_ms: u64, sojourn_ms: u64) -> Vec<(String, String)> {
        let seen = DrillObservation {
            service_max: Duration::from_millis(service_ms),
            sojourn_max: Duration::from_millis(sojourn_ms),
            probe_max: Duration::from_millis(4),
            loading: Some(Duration::from_millis(300)),
        };
        let numbers = numbers(&config(options), &seen).into_iter();
        numbers
            .map(|number| (number.name.to_owned(), number.value))
            .collect()
    }

    fn value(values: &[(String, String)], name: &str) -> String {
        let found = values.iter().find(|(other, _)| other == name);
        found.unwrap().1.clone()
    }

    #[test]
    fn what_was_given_is_kept_where_it_is_enough() {
        let values = values("", 200, 2300);
        for (name, expected) in [
            ("--stall-timeout", "1m"),
            ("livenessProbe.periodSeconds", "5"),
            ("livenessProbe.timeoutSeconds", "5"),
            ("livenessProbe.failureThreshold", "3"),
            ("readinessProbe.periodSeconds", "2"),
            ("startupProbe.failureThreshold", "330"),
            ("--drain-timeout", "20s"),
            ("terminationGracePeriodSeconds", "30"),
        ] {
            assert_eq!(value(&values, name), expected, "{name}");
        }
    }

    #[test]
    fn timeouts_grow_with_what_was_seen_and_the_rest_follows() {
        let values = values("--stall-timeout 5s --drain-timeout 1s", 4_100, 13_000);
        for (name, expected) in [
            ("--stall-timeout", "1m25s"),
            ("livenessProbe.periodSeconds", "7"),
            ("--drain-timeout", "30s"),
            ("terminationGracePeriodSeconds", "40"),
        ] {
            assert_eq!(value(&values, name), expected, "{name}");
        }
    }

    #[test]
    fn every_number_has_a_reason_in_one_line() {
        let seen = DrillObservation::default();
        for number in numbers(&config(""), &seen) {
            assert!(!number.reason.is_empty() && !number.reason.contains('\n'));
        }
    }
}
