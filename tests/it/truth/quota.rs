//! A CPU quota for one process, by a control group of either version.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The kernel's default period of a quota.
const PERIOD_MICROS: u32 = 100_000;

/// Possible places of the hierarchy that limits the CPU, with its file for the quota.
const PLACES: [(&str, &str); 3] = [
    ("/sys/fs/cgroup", "cpu.max"),
    ("/sys/fs/cgroup/cpu", "cpu.cfs_quota_us"),
    ("/sys/fs/cgroup/cpu,cpuacct", "cpu.cfs_quota_us"),
];

/// A control group with a quota and one process in it; removed when dropped.
pub struct Group {
    directory: PathBuf,
    parent: PathBuf,
    pid: u32,
}

impl Group {
    /// Limits a process to so many percent of one core; `None` if that is impossible on this machine.
    pub fn limit(pid: u32, percent: u32) -> Option<Group> {
        PLACES
            .iter()
            .find_map(|(parent, file)| Self::make(Path::new(parent), file, pid, percent))
    }

    fn make(parent: &Path, file: &str, pid: u32, percent: u32) -> Option<Group> {
        let directory = parent.join(format!("lanekeeper-test-{pid}"));
        fs::create_dir(&directory).ok()?;
        let group = Group {
            directory,
            parent: parent.to_owned(),
            pid,
        };
        let quota = PERIOD_MICROS / 100 * percent;
        let quota = match file {
            "cpu.max" => format!("{quota} {PERIOD_MICROS}"),
            _ => quota.to_string(),
        };
        // In a directory that is not a control group, neither file exists. `group` removes it.
        let existing = |name: &str| Some(group.directory.join(name)).filter(|path| path.exists());
        fs::write(existing(file)?, quota).ok()?;
        fs::write(existing("cgroup.procs")?, pid.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // If the process still runs, move it to the parent group.
        let _ = fs::write(self.parent.join("cgroup.procs"), self.pid.to_string());
        // The kernel permits the removal a moment after the last thread has left.
        let deadline = Instant::now() + Duration::from_secs(1);
        while fs::remove_dir(&self.directory).is_err() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5)); // a pause between attempts
        }
    }
}
