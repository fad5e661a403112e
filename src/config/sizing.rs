//! Sizes that depend on the machine: prediction workers, and memory held for clients.
//!
//! Chosen once, at start, and logged with the reasons, so that an operator can see where a number
//! comes from.

use std::thread::available_parallelism;

use bytesize::ByteSize;

use crate::platform::cgroup::CgroupReading;

/// Default of `--pace-later` per CPU: at about 30 µs each, refusals get 2 % of it.
const PACE_LATER_PER_CPU: u32 = 750;

/// Default of `--max-buffered` if memory is not short.
const MAX_BUFFERED: usize = 256 << 20;

/// What the machine gives this process.
#[derive(Debug, Clone, Copy)]
pub struct Resources {
    /// CPUs that it may run on, at least 1.
    pub cpus: usize,
    /// CPU time per unit of time.
    pub cpu_quota: Option<f64>,
    /// Memory at which the kernel kills it, in bytes.
    pub memory_bytes_max: Option<u64>,
}

impl Resources {
    /// The values for an unknown machine: one CPU and no limits.
    pub const UNKNOWN: Resources = Resources {
        cpus: 1,
        cpu_quota: None,
        memory_bytes_max: None,
    };

    /// Reads the calling thread's affinity, and the rest from control groups.
    pub fn here(cgroup: &CgroupReading) -> Self {
        let available = || available_parallelism().map_or(1, usize::from);
        Resources {
            cpus: cpus_by_affinity().unwrap_or_else(available),
            cpu_quota: cgroup.cpu_quota,
            memory_bytes_max: cgroup.memory_bytes_max,
        }
    }

    /// CPUs that it may run on, at most as many as the quota feeds.
    fn cpus_fed(&self) -> usize {
        let fed = self.cpu_quota.map_or(self.cpus, workers_fed);
        self.cpus.min(fed)
    }
}

/// The given sizes, and what the others are chosen from.
#[derive(Debug, Clone, Copy)]
pub struct Sizing {
    /// What the machine gives this process.
    pub resources: Resources,
    /// `--predict-workers`, where it was given.
    pub predict_workers: Option<usize>,
    /// `--max-buffered`, where it was given.
    pub max_buffered: Option<usize>,
}

impl Sizing {
    /// Prediction workers: as given, or one per CPU, at most as many as the quota feeds.
    ///
    /// A quota is rounded up: one worker on 1.5 CPUs would waste a third of them; with two, full
    /// load is stopped for a quarter of each period.
    pub fn predict_workers(&self) -> usize {
        self.predict_workers.unwrap_or(self.resources.cpus_fed())
    }

    /// Rate limit of later cheap answers, if none was given.
    pub fn pace_later(&self) -> u32 {
        let cpus = u32::try_from(self.resources.cpus_fed()).unwrap_or(u32::MAX);
        cpus.saturating_mul(PACE_LATER_PER_CPU)
    }

    /// Memory held for all clients: as given, or 256 MiB, or a quarter of the memory limit if that
    /// is less. The model, stacks and the kernel's buffers count towards that limit too.
    pub fn max_buffered(&self) -> usize {
        let quarter = self.quarter().unwrap_or(MAX_BUFFERED);
        self.max_buffered.unwrap_or(quarter.min(MAX_BUFFERED))
    }

    /// [`Sizing::max_buffered`] as a person would type it.
    pub fn max_buffered_typed(&self) -> String {
        size(self.max_buffered() as u64).replace(' ', "")
    }

    /// The chosen numbers and the reasons, in one line for the log.
    pub fn reasons(&self) -> String {
        let workers = self.predict_workers();
        let cpus = self.resources.cpus;
        let asked = match self.predict_workers {
            Some(_) => " as asked for",
            None => "",
        };
        // Other systems were only asked for the number of CPUs.
        let by = if cfg!(target_os = "linux") {
            " by affinity"
        } else {
            ""
        };
        let quota = match self.resources.cpu_quota {
            None => "no cgroup quota".to_owned(),
            Some(quota) => {
                let rounded = self.predict_workers.is_none() && quota < workers as f64;
                let rounded = if rounded { " rounded up" } else { "" };
                format!("cgroup quota {}{rounded}", cpus_text(quota))
            }
        };
        let limit = match self.resources.memory_bytes_max {
            None => "no memory limit".to_owned(),
            Some(bytes) => format!("memory limit {}", size(bytes)),
        };
        let why = match (self.max_buffered, self.quarter()) {
            (Some(_), _) => "as asked for",
            (None, Some(quarter)) if quarter < MAX_BUFFERED => "a quarter of it",
            (None, _) => "the default",
        };
        format!(
            "{workers} prediction worker{}{asked}: {cpus} CPU{}{by}, {quota}; {limit}, --max-buffered {} ({why})",
            plural(workers),
            plural(cpus),
            self.max_buffered_typed(),
        )
    }

    /// Given values that exceed the machine, one line each.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if let (Some(workers), Some(quota)) = (self.predict_workers, self.resources.cpu_quota)
            && workers > workers_fed(quota)
        {
            warnings.push(format!(
                "--predict-workers ({workers}) exceeds the cgroup's quota ({}): once they have used it up, the kernel stops every thread until the next period, those that answer probes too; ask for {} at most, or raise the quota",
                cpus_text(quota),
                workers_fed(quota),
            ));
        }
        if let (Some(asked), Some(bytes_max)) = (self.max_buffered, self.resources.memory_bytes_max)
            && asked as u64 >= bytes_max
        {
            warnings.push(format!(
                "--max-buffered ({asked} bytes) is not less than the memory limit ({bytes_max} bytes): clients can have the kernel end this process; a quarter of the limit is the default"
            ));
        }
        warnings
    }

    fn quarter(&self) -> Option<usize> {
        let bytes_max = self.resources.memory_bytes_max?;
        Some(usize::try_from(bytes_max / 4).unwrap_or(usize::MAX))
    }
}

/// The number of CPUs that the calling thread may run on (sched_getaffinity(2)); `None` if the
/// system does not say, or has more than 1024.
fn cpus_by_affinity() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        let set = rustix::thread::sched_getaffinity(None).ok()?;
        usize::try_from(set.count()).ok().filter(|count| *count > 0)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The workers that a quota keeps busy, the last one perhaps partly; at least 1.
fn workers_fed(quota: f64) -> usize {
    // A cast from a float saturates.
    (quota.ceil() as usize).max(1)
}

fn cpus_text(quota: f64) -> String {
    // At most two decimals, without trailing zeros.
    let rounded = (quota * 100.0).round() / 100.0;
    format!("{rounded} CPU{}", if rounded == 1.0 { "" } else { "s" })
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

fn size(bytes: u64) -> String {
    let text = ByteSize(bytes).display().iec().to_string();
    text.replace(".0 ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizing(cpus: usize, cpu_quota: Option<f64>, memory_mib: Option<u64>) -> Sizing {
        let resources = Resources {
            cpus,
            cpu_quota,
            memory_bytes_max: memory_mib.map(|mib| mib << 20),
        };
        Sizing {
            resources,
            predict_workers: None,
            max_buffered: None,
        }
    }

    #[test]
    fn workers_follow_affinity_and_quota_and_buffers_the_memory_limit() {
        let table: &[(Sizing, usize, usize, &str)] = &[
            (
                sizing(2, Some(1.5), Some(512)),
                2,
                128 << 20,
                "2 prediction workers: 2 CPUs by affinity, cgroup quota 1.5 CPUs rounded up; memory limit 512 MiB, --max-buffered 128MiB (a quarter of it)",
            ),
            (
                sizing(8, Some(3.0), Some(1024)),
                3,
                256 << 20,
                "3 prediction workers: 8 CPUs by affinity, cgroup quota 3 CPUs; memory limit 1 GiB, --max-buffered 256MiB (the default)",
            ),
            (
                sizing(4, Some(16.0), None),
                4,
                256 << 20,
                "4 prediction workers: 4 CPUs by affinity, cgroup quota 16 CPUs; no memory limit, --max-buffered 256MiB (the default)",
            ),
            (
                sizing(1, None, Some(100)),
                1,
                25 << 20,
                "1 prediction worker: 1 CPU by affinity, no cgroup quota; memory limit 100 MiB, --max-buffered 25MiB (a quarter of it)",
            ),
            (
                sizing(64, Some(0.25), None),
                1,
                256 << 20,
                "1 prediction worker: 64 CPUs by affinity, cgroup quota 0.25 CPUs rounded up; no memory limit, --max-buffered 256MiB (the default)",
            ),
            (
                Sizing {
                    predict_workers: Some(4),
                    max_buffered: Some(64 << 20),
                    ..sizing(2, Some(1.5), Some(512))
                },
                4,
                64 << 20,
                "4 prediction workers as asked for: 2 CPUs by affinity, cgroup quota 1.5 CPUs; memory limit 512 MiB, --max-buffered 64MiB (as asked for)",
            ),
        ];
        for (sizing, workers, max_buffered, reasons) in table {
            assert_eq!(sizing.predict_workers(), *workers, "{reasons}");
            assert_eq!(sizing.max_buffered(), *max_buffered, "{reasons}");
            let reasons = if cfg!(target_os = "linux") {
                (*reasons).to_owned()
            } else {
                reasons.replace(" by affinity", "")
            };
            assert_eq!(sizing.reasons(), reasons);
        }
    }

    #[test]
    fn the_rate_limit_of_refusals_follows_the_cpus_not_the_workers() {
        for (cpus, quota, expected) in [
            (1, None, 750),
            (2, None, 1500),
            (8, Some(3.0), 2250),
            (64, Some(0.25), 750),
        ] {
            let sizing = Sizing {
                predict_workers: Some(5),
                ..sizing(cpus, quota, None)
            };
            assert_eq!(sizing.pace_later(), expected, "{cpus} CPUs, {quota:?}");
        }
    }

    #[test]
    fn only_what_was_asked_for_and_goes_beyond_the_limits_is_a_warning() {
        let none = sizing(8, Some(1.5), Some(16));
        assert_eq!(none.warnings(), [""; 0]);
        let fits = Sizing {
            predict_workers: Some(2),
            max_buffered: Some(8 << 20),
            ..none
        };
        assert_eq!(fits.warnings(), [""; 0]);
        let beyond = Sizing {
            predict_workers: Some(3),
            max_buffered: Some(16 << 20),
            ..none
        };
        let warnings = beyond.warnings();
        assert_eq!(warnings.len(), 2, "{warnings:?}");
        assert!(
            warnings[0].contains("--predict-workers (3) exceeds the cgroup's quota (1.5 CPUs)")
                && warnings[0].contains("ask for 2 at most"),
            "{warnings:?}"
        );
        assert!(
            warnings[1].contains("--max-buffered (16777216 bytes)"),
            "{warnings:?}"
        );
        let unlimited = Sizing {
            resources: Resources::UNKNOWN,
            ..beyond
        };
        assert_eq!(unlimited.warnings(), [""; 0]);
    }

    #[test]
    fn a_machine_has_a_cpu() {
        assert!(Resources::here(&CgroupReading::default()).cpus >= 1);
    }
}
