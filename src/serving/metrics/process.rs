//! What Prometheus' own clients export about a process, by the same names.
//!
//! Read from the kernel, not from a disk, on the connection's thread. Whatever is unavailable, as
//! on other systems or without a free file descriptor, is left out.

use std::fs::{self, File};
use std::io::Read as _;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use super::text::{Kind, Writer};

/// Maximum number of bytes read of `/proc/self/stat`, which has about 350.
const STAT_BYTES_MAX: u64 = 4096;

/// Maximum number of file descriptors counted one by one, at some microseconds each: four times
/// what a server with default limits can have.
const DESCRIPTORS_MAX: usize = 5000;

/// Writes them.
pub(super) fn write(writer: &mut Writer, started: f64) {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    writer.one(
        Kind::Counter,
        "process_cpu_seconds",
        "CPU time of the process.",
        // Doubles hold nanoseconds exactly for a hundred days, and well enough after that.
        cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
    );
    writer.one(
        Kind::Gauge,
        "process_start_time_seconds",
        "When the process started, since 1970.",
        started,
    );
    if let Some(stat) = read_stat() {
        writer.one(
            Kind::Gauge,
            "process_resident_memory_bytes",
            "Resident memory of the process.",
            stat.resident_pages * rustix::param::page_size() as u64,
        );
        writer.one(
            Kind::Gauge,
            "process_virtual_memory_bytes",
            "Address space of the process.",
            stat.virtual_bytes,
        );
        writer.one(
            Kind::Gauge,
            "process_threads",
            "Threads of the process.",
            stat.threads,
        );
    }
    if let Some(open) = open_descriptors() {
        let help = "Open file descriptors.";
        writer.one(Kind::Gauge, "process_open_fds", help, open);
    }
    let limit = getrlimit(Resource::Nofile).current;
    writer.one(
        Kind::Gauge,
        "process_max_fds",
        "Maximum number of open file descriptors.",
        limit.map_or(f64::INFINITY, |limit| limit as f64),
    );
}

/// What is wanted of `/proc/self/stat`.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    threads: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

fn read_stat() -> Option<Stat> {
    let mut stat = String::new();
    let file = File::open("/proc/self/stat").ok()?;
    file.take(STAT_BYTES_MAX).read_to_string(&mut stat).ok()?;
    parse_stat(&stat)
}

/// proc_pid_stat(5), which counts fields from 1: 20, 23, and 24.
fn parse_stat(stat: &str) -> Option<Stat> {
    // The name is second, in parentheses, and may contain anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(17);
    let mut next = |skipped: usize| fields.nth(skipped)?.parse::<u64>().ok();
    Some(Stat {
        threads: next(0)?,
        virtual_bytes: next(2)?,
        resident_pages: next(0)?,
    })
}

fn open_descriptors() -> Option<u64> {
    const DIRECTORY: &str = "/proc/self/fd";
    // From Linux 6.2 on, the directory's size is the answer and needs no file descriptor.
    let size = fs::metadata(DIRECTORY).ok()?.len();
    if size > 0 {
        return Some(size);
    }
    // Without the one used to read the directory.
    let counted = fs::read_dir(DIRECTORY).ok()?.take(DESCRIPTORS_MAX).count();
    (counted < DESCRIPTORS_MAX).then(|| counted as u64 - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_memory_are_read_whatever_the_process_is_called() {
        let stat = "812 (a) b (c)) S 1 812 812 0 -1 4194560 900 0 0 0 12 7 0 0 20 0 11 0 5512 \
            123456789 2210 18446744073709551615 1 1 0 0 0 0 0 4096 17641 0 0 0 17 1 0 0 0 0 0\n";
        let expected = Stat {
            threads: 11,
            virtual_bytes: 123_456_789,
            resident_pages: 2210,
        };
        assert_eq!(parse_stat(stat), Some(expected));
        for broken in [
            "",
            "1 (a)",
            "1 (a) S 1 2 3",
            &stat.replace("123456789", "x"),
        ] {
            assert_eq!(parse_stat(broken), None, "{broken:?}");
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_has_threads_memory_and_descriptors() {
        let stat = read_stat().unwrap();
        assert!(stat.threads > 0 && stat.resident_pages > 0 && stat.virtual_bytes > 0);
        let before = open_descriptors().unwrap();
        let files: Vec<File> = (0..40).map(|_| File::open("/dev/null").unwrap()).collect();
        // Other tests open and close some at the same time.
        assert!(open_descriptors().unwrap() + 20 > before + files.len() as u64);
    }
}
