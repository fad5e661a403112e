//! The resources of a process, from `/proc`.

use std::fmt;
use std::fs;
use std::io;

/// Memory, threads and descriptors of a process at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident memory, in KiB.
    pub(crate) rss_kib: u64,
    /// The most of it since [`Usage::reset_peak`], in KiB.
    pub(crate) peak_kib: u64,
    /// Private writable address space, which `RLIMIT_DATA` limits, in KiB.
    pub(crate) data_kib: u64,
    /// Threads.
    pub(crate) threads: u64,
    /// Open descriptors.
    pub(crate) descriptors: u64,
}

impl Usage {
    /// Looks at a process.
    ///
    /// # Errors
    /// The process has ended, or belongs to another user.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let value = |name: &str| {
            status
                .lines()
                .find_map(|line| {
                    line.strip_prefix(name)?
                        .split_whitespace()
                        .next()?
                        .parse()
                        .ok()
                })
                // The status of a zombie lacks these.
                .ok_or_else(|| io::Error::other(format!("process {pid} has no {name}")))
        };
        Ok(Usage {
            rss_kib: value("VmRSS:")?,
            peak_kib: value("VmHWM:")?,
            data_kib: value("VmData:")?,
            threads: value("Threads:")?,
            descriptors: fs::read_dir(format!("/proc/{pid}/fd"))?.count() as u64,
        })
    }

    /// Resets the peak to the present resident memory (proc_pid_clear_refs(5)).
    ///
    /// # Errors
    /// The kernel refuses; the peak is then of the process's whole life.
    pub(crate) fn reset_peak(pid: u32) -> io::Result<()> {
        fs::write(format!("/proc/{pid}/clear_refs"), "5")
    }

    /// The larger of both, field by field.
    pub(crate) fn max(self, other: Self) -> Self {
        Usage {
            rss_kib: self.rss_kib.max(other.rss_kib),
            peak_kib: self.peak_kib.max(other.peak_kib),
            data_kib: self.data_kib.max(other.data_kib),
            threads: self.threads.max(other.threads),
            descriptors: self.descriptors.max(other.descriptors),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} KiB resident (peak {}), {} threads, {} descriptors",
            self.rss_kib, self.peak_kib, self.threads, self.descriptors
        )
    }
}
