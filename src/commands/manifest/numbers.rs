//! The numbers of a pod, as functions of the server's options; pure.
//!
//! The test that simulates kubelet uses them too.

use std::time::Duration;

use crate::config::Config;
use crate::http::listener::STACK_BYTES;
use crate::http::reader::NARROW_BYTES;
use crate::http::socket::KERNEL_BUFFER_BYTES;
use crate::lifecycle::{GRACE_IF_ASKED, LAST_ANSWERS};

/// How many liveness probes fall into `--stall-timeout`, within the bounds of the period.
pub const LIVENESS_SHARE: u32 = 12;

/// Maximum period of the liveness probe, in seconds.
pub const LIVENESS_PERIOD_MAX: u64 = 10;

/// Maximum timeout of a probe, in seconds: it depends on the node, not on the model.
pub const TIMEOUT_MAX: u64 = 5;

/// Time for a model file to be mounted, read and checked. A file of 1 GiB, the largest, takes about
/// 5 s from a ready disk.
pub const LOADING: Duration = Duration::from_secs(300);

/// Time between the last answer and SIGKILL that belongs to the node, not to the server.
pub const TERMINATION_MARGIN: Duration = Duration::from_secs(4);

/// Thousandths of a core for everything but predictions: probes, sockets, refusals.
pub const PROBES_MILLICORES: u64 = 100;

/// Memory without a model and clients. 28 MiB were measured at rest after the largest attacks (see
/// the guide, "measured"); the rest is for the kernel's own share of about 1,000 threads.
pub const BASE_BYTES: u64 = 64 << 20;

/// Bytes per byte of a model file while it loads or serves. Measured: forests and trees take 3.4
/// while they load (the text is held beside the model) and 1 after that; KNN with a cover tree,
/// whose files are small, 8 and 3.5.
pub const MODEL_FACTOR: u64 = 4;

/// Number of models at a time: the served one, and its successor while it loads.
pub const MODELS: u64 = 2;

/// Assumed size of a model file that cannot be read here.
pub const MODEL_FILE_ASSUMED: u64 = 16 << 20;

/// What the kernel may hold for a connection: as much again for each buffer, in each direction.
pub const KERNEL_BYTES: u64 = 4 * KERNEL_BUFFER_BYTES as u64;

/// The memory of a connection besides its share of `--max-buffered`.
pub const CONNECTION_BYTES: u64 = STACK_BYTES as u64 + NARROW_BYTES as u64 + KERNEL_BYTES;

/// How kubelet asks one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProbeNumbers {
    /// The period; whole seconds, at least 1.
    pub period: Duration,
    /// For the answer; whole seconds, at least 1, at most the period.
    pub timeout: Duration,
    /// Failures in a row that count.
    pub failure_threshold: u32,
}

impl ProbeNumbers {
    fn new(period: u64, failure_threshold: u32) -> Self {
        ProbeNumbers {
            period: Duration::from_secs(period),
            timeout: Duration::from_secs(period.min(TIMEOUT_MAX)),
            failure_threshold,
        }
    }

    /// Maximum time from a verdict's change to its consequence, if the server answers.
    pub fn noticed_within(&self) -> Duration {
        self.period.saturating_mul(self.failure_threshold)
    }
}

/// The numbers of a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PodNumbers {
    /// `/startupz`: how long loading may take.
    pub startup: ProbeNumbers,
    /// `/livez`: how soon a stalled pod is restarted.
    pub liveness: ProbeNumbers,
    /// `/readyz`: how soon a pod is out of rotation.
    pub readiness: ProbeNumbers,
    /// `--drain-grace`, which the manifest pins.
    pub drain_grace: Duration,
    /// `terminationGracePeriodSeconds`, in whole seconds.
    pub termination_grace: Duration,
    /// `progressDeadlineSeconds`, in whole seconds.
    pub progress_deadline: Duration,
    /// Requested, in thousandths of a core.
    pub cpu_millicores: u64,
    /// Connections on both listeners.
    pub connections: u64,
    /// Size of the model file.
    pub model_file_bytes: u64,
    /// Requested, and the limit; whole MiB.
    pub memory_mib: u64,
}

impl PodNumbers {
    /// Returns the numbers of a pod for a server with these options and a model file of this size.
    pub fn new(config: &Config, model_file_bytes: u64) -> Self {
        let share = config.stall_timeout / LIVENESS_SHARE;
        let liveness_period = (share.as_secs_f64().round() as u64).clamp(1, LIVENESS_PERIOD_MAX);
        let startup = LOADING.saturating_add(config.canary_timeout());
        let startup_tries = u32::try_from(whole_seconds(startup)).unwrap_or(u32::MAX);
        let startup = ProbeNumbers::new(1, startup_tries);
        let drain_grace = config.drain_grace.unwrap_or(GRACE_IF_ASKED);
        let end = [config.drain_timeout, LAST_ANSWERS, TERMINATION_MARGIN]
            .iter()
            .fold(drain_grace, |sum, more| sum.saturating_add(*more));
        let limits = &config.limits;
        let connections = (limits.max_connections + limits.max_probe_connections) as u64;
        let memory = BASE_BYTES
            .saturating_add(model_file_bytes.saturating_mul(MODELS * MODEL_FACTOR))
            .saturating_add(config.max_buffered as u64)
            .saturating_add(connections.saturating_mul(CONNECTION_BYTES));
        PodNumbers {
            startup,
            liveness: ProbeNumbers::new(liveness_period, 3),
            readiness: ProbeNumbers::new(2, 2),
            drain_grace,
            termination_grace: Duration::from_secs(whole_seconds(end)),
            progress_deadline: startup.noticed_within().saturating_mul(2),
            cpu_millicores: config.predict_workers as u64 * 1000 + PROBES_MILLICORES,
            connections,
            model_file_bytes,
            memory_mib: memory.div_ceil(1 << 20),
        }
    }

    /// Maximum time from when every worker took the prediction that it is stuck on to when kubelet
    /// ends the container, which then takes as long as draining may.
    pub fn restarted_within(&self, config: &Config) -> Duration {
        let noticed = config.stall_timeout.saturating_add(config.tick());
        noticed.saturating_add(self.liveness.noticed_within())
    }
}

/// Seconds, rounded up.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Command, Resources, parse};

    fn config(options: &str) -> Config {
        let args = format!("lanekeeper serve --predict-workers 1 {options}");
        match parse(args.split_whitespace().map(OsString::from)).unwrap() {
            Command::Serve(serve) => serve.validate(Resources::UNKNOWN).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    fn numbers(options: &str) -> PodNumbers {
        PodNumbers::new(&config(options), 0)
    }

    #[test]
    fn liveness_is_asked_twelve_times_a_stall_timeout_within_bounds() {
        let table = [
            ("10ms", 1, 1),
            ("5s", 1, 1),
            ("18s", 2, 2),
            ("30s", 3, 3),
            ("60s", 5, 5),
            ("80s", 7, 5),
            ("5m", 10, 5),
            ("1year", 10, 5),
        ];
        for (stall_timeout, period, timeout) in table {
            let liveness = numbers(&format!("--stall-timeout {stall_timeout}")).liveness;
            let expected = (Duration::from_secs(period), Duration::from_secs(timeout), 3);
            let given = (
                liveness.period,
                liveness.timeout,
                liveness.failure_threshold,
            );
            assert_eq!(given, expected, "{stall_timeout}");
        }
    }

    #[test]
    fn a_stalled_pod_restarts_a_tick_and_three_periods_after_the_timeout() {
        for (stall_timeout, expected) in [("60s", 60_000 + 1_000 + 15_000), ("2s", 5_500)] {
            let config = config(&format!("--stall-timeout {stall_timeout}"));
            let within = PodNumbers::new(&config, 0).restarted_within(&config);
            assert_eq!(within, Duration::from_millis(expected), "{stall_timeout}");
        }
    }

    #[test]
    fn the_end_allows_for_grace_drain_last_answers_and_a_margin() {
        let table = [
            ("", 5 + 20 + 1 + 4),
            ("--drain-grace 0", 20 + 1 + 4),
            ("--drain-grace 1200ms --drain-timeout 100ms", 7),
            ("--drain-timeout 5m", 5 + 300 + 1 + 4),
        ];
        for (options, expected) in table {
            let grace = numbers(options).termination_grace;
            assert_eq!(grace, Duration::from_secs(expected), "{options}");
        }
    }

    #[test]
    fn startup_leaves_time_to_load_and_for_one_trial() {
        let table = [
            ("", 330),
            ("--request-timeout 1m --stall-timeout 2m", 360),
            ("--canary-timeout 90500ms", 391),
        ];
        for (options, expected) in table {
            let numbers = numbers(options);
            let startup = numbers.startup.noticed_within();
            assert_eq!(startup, Duration::from_secs(expected), "{options}");
            assert_eq!(numbers.progress_deadline, startup * 2, "{options}");
        }
    }

    #[test]
    fn the_manifest_requests_a_core_a_worker_and_memory_for_the_limits() {
        assert_eq!(numbers("").cpu_millicores, 1100);
        assert_eq!(numbers("--predict-workers 4").cpu_millicores, 4100);
        // 64 MiB + 256 MiB + 1,088 x 308 KiB.
        assert_eq!(numbers("").memory_mib, 648);
        assert_eq!(numbers("--max-buffered 512MiB").memory_mib, 648 + 256);
        let fewer = "--max-connections 300 --max-probe-connections 20";
        assert_eq!(numbers(fewer).memory_mib, 64 + 256 + 97);
        let with_model = PodNumbers::new(&config(""), 10 << 20);
        assert_eq!(with_model.memory_mib, 648 + 80);
        let most = PodNumbers::new(&config(""), u64::MAX);
        assert_eq!(most.memory_mib, 1 << 44);
    }
}
