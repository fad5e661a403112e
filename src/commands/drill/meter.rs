//! CPU use during a phase: generator, server, everything else.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

use crate::drill::findings::Cores;
use crate::platform::clock;
use crate::platform::sys;

/// Measures from its making on.
#[derive(Debug)]
pub(super) struct Meter {
    server: Option<u32>,
    began: Instant,
    before: Used,
}

/// CPU seconds so far.
#[derive(Debug, Clone, Copy)]
struct Used {
    generator: f64,
    server: Option<f64>,
    machine: Option<f64>,
}

impl Meter {
    /// Begins to measure, with the server's process if it is known.
    pub(super) fn begin(server: Option<u32>) -> Self {
        Meter {
            server,
            began: clock::instant(),
            before: Used::now(server),
        }
    }

    /// CPU time since then, in cores.
    pub(super) fn cores(&self) -> Cores {
        let now = Used::now(self.server);
        let took = clock::instant().saturating_duration_since(self.began);
        let per_second = |now: f64, before: f64| {
            ((now - before) / took.max(Duration::from_millis(10)).as_secs_f64()).max(0.0)
        };
        let generator = per_second(now.generator, self.before.generator);
        let server = now.server.zip(self.before.server);
        let server = server.map(|(now, before)| per_second(now, before));
        let machine = now.machine.zip(self.before.machine);
        let machine = machine.map(|(now, before)| per_second(now, before));
        Cores {
            generator: Some(generator),
            server,
            others: machine
                .zip(server)
                .map(|(machine, server)| (machine - server - generator).max(0.0)),
        }
    }
}

impl Used {
    fn now(server: Option<u32>) -> Self {
        let own = clock_gettime(ClockId::ProcessCPUTime);
        Used {
            generator: own.tv_sec as f64 + own.tv_nsec as f64 / 1e9,
            server: server.and_then(process_seconds),
            machine: machine_seconds(),
        }
    }
}

/// CPU time of a process, user and system.
fn process_seconds(pid: u32) -> Option<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // utime and stime are the 12th and 13th after the name, which may hold anything (proc(5)).
    let (_, fields) = stat.rsplit_once(')')?;
    let mut ticks = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (ticks.next()?.parse().ok()?, ticks.next()?.parse().ok()?);
    Some((user + system) as f64 / sys::clock_ticks_per_second() as f64)
}

/// CPU time of all that ran on this machine.
fn machine_seconds() -> Option<f64> {
    // user, nice, system, idle, iowait, irq, softirq, steal (proc_stat(5)).
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    let words = stat.lines().next()?.split_whitespace().skip(1);
    let ticks: Vec<f64> = words.filter_map(|word| word.parse().ok()).take(8).collect();
    let busy = ticks.iter().sum::<f64>() - ticks.get(3)? - ticks.get(4)?;
    Some(busy / sys::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_is_seen_as_a_generator_and_as_a_server() {
        let meter = Meter::begin(Some(std::process::id()));
        let ends = clock::instant() + Duration::from_millis(200);
        while clock::instant() < ends {
            std::hint::spin_loop();
        }
        let cores = meter.cores();
        assert!(cores.generator.unwrap() > 0.0, "{cores:?}");
        assert!(cores.server.unwrap() > 0.0, "{cores:?}");
        let nobody = Meter::begin(None).cores();
        assert_eq!((nobody.server, nobody.others), (None, None));
    }
}
