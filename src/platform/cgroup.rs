//! CPU time and memory: what control groups allow this process, and what it uses.
//!
//! A leaf: pure parsers, and readers of both versions (cgroups(7)). [`Cgroup::find`] looks once for
//! the process's groups; the main thread then reads, at most once a second. Although these files
//! are not on a disk, no thread that answers a client reads them. A missing or unreadable value is
//! `None` and never an error: most machines have no limits.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

/// Minimum time between two readings of [`Cgroup::due`].
const READING_INTERVAL: Duration = Duration::from_secs(1);

/// Version 1 reports this instead of no limit: the largest number of pages, in bytes.
const UNLIMITED_BYTES_MIN: u64 = 1 << 62;

/// How often and how long the quota has stopped the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Throttling {
    /// Periods in which the quota was used up.
    pub periods: u64,
    /// How long threads were kept waiting, summed over all CPUs.
    pub time: Duration,
}

/// Limits and counts of the control groups at one moment.
///
/// A limit is the tightest from the process's own group up to the root (as far as visible), and
/// counts are read where that limit is set: other processes may share them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct CgroupReading {
    /// CPU time per unit of time: 1.5 is one and a half CPUs.
    pub cpu_quota: Option<f64>,
    /// What the quota has done so far.
    pub throttling: Option<Throttling>,
    /// Memory in use, with the page cache.
    pub memory_bytes: Option<u64>,
    /// Memory at which the kernel kills processes.
    pub memory_bytes_max: Option<u64>,
}

/// Processes and threads, which the kernel counts alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pids {
    /// As many as there may be.
    pub max: u64,
    /// As many as there are.
    pub current: u64,
}

/// The control groups of this process.
#[derive(Debug, Default)]
pub struct Cgroup {
    cpu: Option<Controller>,
    memory: Option<Controller>,
    pids: Option<Controller>,
    read_at: Option<Instant>,
}

impl Cgroup {
    /// Finds this process's groups below `root` (`/` except in tests).
    pub fn find(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let (groups, mounts) = (text("proc/self/cgroup"), text("proc/self/mountinfo"));
        let find = |name| {
            let mut place = place(&groups, &mounts, name)?;
            for directory in &mut place.directories {
                let below = directory.strip_prefix("/").unwrap_or(directory);
                *directory = root.join(below);
            }
            Some(place)
        };
        Cgroup {
            cpu: find("cpu"),
            memory: find("memory"),
            pids: find("pids"),
            read_at: None,
        }
    }

    /// Reads the present limits and counts.
    pub fn read(&self) -> CgroupReading {
        let mut reading = CgroupReading::default();
        if let Some(cpu) = &self.cpu {
            let (directory, quota) = cpu.tightest(Controller::cpu_quota);
            reading.cpu_quota = quota;
            reading.throttling = cpu.throttling(directory);
        }
        if let Some(memory) = &self.memory {
            let (directory, bytes_max) = memory.tightest(Controller::memory_bytes_max);
            reading.memory_bytes_max = bytes_max;
            reading.memory_bytes = memory.memory_bytes(directory);
        }
        reading
    }

    /// Reads how many processes and threads are allowed (`pids.max`), and how many there are.
    pub fn pids(&self) -> Option<Pids> {
        let pids = self.pids.as_ref()?;
        let (directory, max) = pids.tightest(|_, directory| number(directory, "pids.max"));
        Some(Pids {
            max: max?,
            current: number(directory, "pids.current")?,
        })
    }

    /// Reads, unless the last reading was less than a second ago.
    pub fn due(&mut self, now: Instant) -> Option<CgroupReading> {
        let recent = |at: Instant| now.saturating_duration_since(at) < READING_INTERVAL;
        if self.read_at.is_some_and(recent) {
            return None;
        }
        self.read_at = Some(now);
        Some(self.read())
    }
}

/// The two versions, which name and write the same facts differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// Where one controller's files are.
#[derive(Debug, PartialEq, Eq)]
struct Controller {
    version: Version,
    /// The process's own group first, then each above it; never empty.
    directories: Vec<PathBuf>,
}

impl Controller {
    /// The lowest limit and where it is set; the process's own directory if there is none.
    fn tightest<T: PartialOrd>(
        &self,
        limit: impl Fn(&Self, &Path) -> Option<T>,
    ) -> (&Path, Option<T>) {
        let own = self.directories.first().map_or(Path::new(""), |own| own);
        let mut found = (own, None);
        for directory in &self.directories {
            if let Some(limit) = limit(self, directory)
                && found.1.as_ref().is_none_or(|lowest| limit < *lowest)
            {
                found = (directory, Some(limit));
            }
        }
        found
    }

    fn cpu_quota(&self, directory: &Path) -> Option<f64> {
        match self.version {
            Version::One => cfs_quota(
                &text(directory, "cpu.cfs_quota_us")?,
                &text(directory, "cpu.cfs_period_us")?,
            ),
            Version::Two => cpu_max(&text(directory, "cpu.max")?),
        }
    }

    fn throttling(&self, directory: &Path) -> Option<Throttling> {
        cpu_stat(&text(directory, "cpu.stat")?)
    }

    fn memory_bytes_max(&self, directory: &Path) -> Option<u64> {
        memory_max(&match self.version {
            Version::One => text(directory, "memory.limit_in_bytes")?,
            Version::Two => text(directory, "memory.max")?,
        })
    }

    fn memory_bytes(&self, directory: &Path) -> Option<u64> {
        let text = match self.version {
            Version::One => text(directory, "memory.usage_in_bytes")?,
            Version::Two => text(directory, "memory.current")?,
        };
        text.trim().parse().ok()
    }
}

/// Reads a file that contains one number, or a word if there is no limit; `pids.max` is like that
/// in both versions.
fn number(directory: &Path, name: &str) -> Option<u64> {
    text(directory, name)?.trim().parse().ok()
}

fn text(directory: &Path, name: &str) -> Option<String> {
    fs::read_to_string(directory.join(name)).ok()
}

/// Finds the directories of the controller `name` from `/proc/self/cgroup` and
/// `/proc/self/mountinfo`: in its hierarchy of version 1 if it has one, otherwise in version 2.
fn place(groups: &str, mounts: &str, name: &str) -> Option<Controller> {
    let find = |version| {
        let group = group(groups, version, name)?;
        let directories = mounts
            .lines()
            .filter_map(|line| mount(line, version, name))
            .find_map(|(root, point)| ascent(group, Path::new(&root), Path::new(&point)))?;
        Some(Controller {
            version,
            directories,
        })
    };
    find(Version::One).or_else(|| find(Version::Two))
}

/// The path of this process's group in a hierarchy: `4:cpu,cpuacct:/path` in version 1, `0::/path`
/// in version 2.
fn group<'a>(groups: &'a str, version: Version, name: &str) -> Option<&'a Path> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (number, controllers, path) = (parts.next()?, parts.next()?, parts.next()?);
        let fits = match version {
            Version::One => controllers.split(',').any(|controller| controller == name),
            Version::Two => number == "0" && controllers.is_empty(),
        };
        fits.then_some(Path::new(path))
    })
}

/// The root within its file system and the mount point of a line of mountinfo, if it is the
/// hierarchy in question (proc_pid_mountinfo(5)).
fn mount(line: &str, version: Version, name: &str) -> Option<(String, String)> {
    let (place, kind) = line.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, point) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (file_system, _source, options) = (kind.next()?, kind.next()?, kind.next()?);
    let fits = match version {
        Version::One => {
            file_system == "cgroup" && options.split(',').any(|controller| controller == name)
        }
        Version::Two => file_system == "cgroup2",
    };
    fits.then(|| (unescape(root), unescape(point)))
}

/// Decodes mountinfo's octal escapes of blanks, tabs, line ends and backslashes.
fn unescape(text: &str) -> String {
    let escapes = [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ];
    let unescape = |text: String, (escape, plain)| text.replace(escape, plain);
    escapes.into_iter().fold(text.to_owned(), unescape)
}

/// The directories from `group` up to the mount point, if the mount shows the group at all.
///
/// A container may see its own group as the root (both are `/`), have it mounted under its full
/// name (both are that name), or see the whole tree.
fn ascent(group: &Path, root: &Path, point: &Path) -> Option<Vec<PathBuf>> {
    let below = group.strip_prefix(root).ok()?;
    // The path of a group outside the namespace goes up and is not visible from here.
    if below.components().any(|part| part == Component::ParentDir) {
        return None;
    }
    let directories = below.ancestors().map(|part| point.join(part));
    Some(directories.collect())
}

/// `cpu.max`: `150000 100000`, or `max 100000` for no limit.
fn cpu_max(text: &str) -> Option<f64> {
    let mut words = text.split_whitespace();
    quota(words.next()?, words.next()?)
}

/// `cpu.cfs_quota_us`, which is -1 for no limit, and `cpu.cfs_period_us`.
fn cfs_quota(quota_us: &str, period_us: &str) -> Option<f64> {
    quota(quota_us.trim(), period_us.trim())
}

fn quota(quota_us: &str, period_us: &str) -> Option<f64> {
    // `max` and -1 are not unsigned numbers. The kernel's longest period, 1 s, fits a u32.
    let (quota_us, period_us): (u64, u32) = (quota_us.parse().ok()?, period_us.parse().ok()?);
    (quota_us > 0 && period_us > 0).then(|| quota_us as f64 / f64::from(period_us))
}

/// `cpu.stat`: version 2 has `throttled_usec`, version 1 `throttled_time` in nanoseconds.
fn cpu_stat(text: &str) -> Option<Throttling> {
    let value = |name: &str| {
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let (_, value) = lines.find(|(key, _)| *key == name)?;
        value.trim().parse::<u64>().ok()
    };
    let micros = || value("throttled_usec").map(Duration::from_micros);
    let nanos = || value("throttled_time").map(Duration::from_nanos);
    Some(Throttling {
        periods: value("nr_throttled")?,
        time: micros().or_else(nanos)?,
    })
}

/// `memory.max` (`max` for no limit) or `memory.limit_in_bytes` (a number close to 2^63).
fn memory_max(text: &str) -> Option<u64> {
    let bytes = text.trim().parse().ok()?;
    (bytes < UNLIMITED_BYTES_MIN).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::clock;

    /// A test's own file tree, removed with it.
    struct CgroupTree(PathBuf);

    impl CgroupTree {
        fn new(name: &str, files: &[(&str, &str)]) -> Self {
            let name = format!("lanekeeper-cgroup-{name}-{}", std::process::id());
            let tree = CgroupTree(std::env::temp_dir().join(name));
            for (path, text) in files {
                tree.write(path, text);
            }
            tree
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.0.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    impl Drop for CgroupTree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    const V2_MOUNT: &str = "23 28 0:21 / /proc rw,nosuid shared:14 - proc proc rw\n\
        30 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot\n";

    const V1_MOUNTS: &str = "\
        33 32 0:28 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw,nsdelegate\n\
        36 32 0:31 / /sys/fs/cgroup/cpuset rw,nosuid shared:15 - cgroup cgroup rw,cpuset\n\
        37 32 0:32 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:16 - cgroup cgroup rw,cpu,cpuacct\n\
        38 32 0:33 / /sys/fs/cgroup/memory rw,nosuid shared:17 - cgroup cgroup rw,memory\n";

    const V2_CPU_STAT: &str = "usage_usec 89765432\nuser_usec 80000000\nsystem_usec 9765432\n\
        core_sched.force_idle_usec 0\nnr_periods 5123\nnr_throttled 42\nthrottled_usec 1500000\n\
        nr_bursts 0\nburst_usec 0\n";

    #[test]
    fn the_tightest_limit_on_threads_is_read_with_what_is_taken_of_it() {
        let tree = CgroupTree::new(
            "pids",
            &[
                ("proc/self/cgroup", "0::/a/b\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/a/b/pids.max", "max\n"),
                ("sys/fs/cgroup/a/b/pids.current", "7\n"),
            ],
        );
        assert_eq!(Cgroup::find(&tree.0).pids(), None);
        tree.write("sys/fs/cgroup/a/pids.max", "64\n");
        tree.write("sys/fs/cgroup/a/pids.current", "60\n");
        let pids = Pids {
            max: 64,
            current: 60,
        };
        assert_eq!(Cgroup::find(&tree.0).pids(), Some(pids));
        assert_eq!(Cgroup::find(Path::new("/nowhere")).pids(), None);
    }

    #[test]
    fn cpu_limits_are_read_in_both_versions() {
        for (text, quota) in [
            ("150000 100000\n", Some(1.5)),
            ("max 100000\n", None),
            ("50000 100000", Some(0.5)),
            ("1600000 50000\n", Some(32.0)),
            ("0 100000\n", None),
            ("100000 0\n", None),
            ("100000\n", None),
            ("", None),
            ("soon 100000\n", None),
        ] {
            assert_eq!(cpu_max(text), quota, "{text:?}");
        }
        for (quota_us, period_us, quota) in [
            ("-1\n", "100000\n", None),
            ("250000\n", "100000\n", Some(2.5)),
            ("10000\n", "", None),
        ] {
            assert_eq!(cfs_quota(quota_us, period_us), quota, "{quota_us:?}");
        }
    }

    #[test]
    fn throttling_is_read_in_both_versions() {
        let throttling = |periods, millis| {
            let time = Duration::from_millis(millis);
            Some(Throttling { periods, time })
        };
        let v1 = "nr_periods 900\nnr_throttled 7\nthrottled_time 350000000\n";
        for (text, expected) in [
            (V2_CPU_STAT, throttling(42, 1500)),
            (v1, throttling(7, 350)),
            // The root of version 2.
            ("usage_usec 1\nuser_usec 1\nsystem_usec 0\n", None),
            ("nr_throttled many\nthrottled_usec 1\n", None),
            ("", None),
        ] {
            assert_eq!(cpu_stat(text), expected, "{text:?}");
        }
    }

    #[test]
    fn memory_limits_are_read_in_both_versions_and_no_limit_is_none() {
        for (text, bytes) in [
            ("536870912\n", Some(512 << 20)),
            ("max\n", None),
            // Version 1 with pages of 4 KiB and of 64 KiB.
            ("9223372036854771712\n", None),
            ("9223372036854710272\n", None),
            ("18446744073709551615\n", None),
            ("-1\n", None),
            ("", None),
        ] {
            assert_eq!(memory_max(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn the_directories_lead_from_the_own_group_to_the_mount_point() {
        let service = "/system.slice/lanekeeper.service";
        let docker = "/docker/0123abcd";
        let table: &[(&str, &str, &str, Option<&[&str]>)] = &[
            (
                "the whole tree",
                service,
                "/",
                Some(&[
                    "/m/system.slice/lanekeeper.service",
                    "/m/system.slice",
                    "/m",
                ]),
            ),
            ("a namespace's root", "/", "/", Some(&["/m"])),
            ("mounted under its name", docker, docker, Some(&["/m"])),
            (
                "a child of that",
                "/docker/0123abcd/a",
                docker,
                Some(&["/m/a", "/m"]),
            ),
            (
                "a name that begins alike",
                "/docker/0123abcde",
                docker,
                None,
            ),
            ("somebody else's", service, docker, None),
            ("outside the namespace", "/../other", "/", None),
            ("mounted from outside the namespace", "/", "/../..", None),
        ];
        for (name, group, root, expected) in table {
            let found = ascent(Path::new(group), Path::new(root), Path::new("/m"));
            let expected: Option<Vec<PathBuf>> =
                expected.map(|paths| paths.iter().map(PathBuf::from).collect());
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn a_controller_is_looked_for_in_version_1_first_and_then_in_version_2() {
        let hybrid = "12:cpuset:/\n5:cpu,cpuacct:/a\n4:memory:/b\n1:name=systemd:/a\n0::/c\n";
        for (groups, mounts, name, version, first) in [
            (
                hybrid,
                V1_MOUNTS,
                "cpu",
                Version::One,
                "/sys/fs/cgroup/cpu,cpuacct/a",
            ),
            (
                hybrid,
                V1_MOUNTS,
                "memory",
                Version::One,
                "/sys/fs/cgroup/memory/b",
            ),
            (hybrid, V2_MOUNT, "cpu", Version::Two, "/sys/fs/cgroup/c"),
            (
                "0::/a:b c\n",
                V2_MOUNT,
                "memory",
                Version::Two,
                "/sys/fs/cgroup/a:b c",
            ),
        ] {
            let found = place(groups, mounts, name).unwrap();
            assert_eq!(found.version, version, "{name} in {groups}");
            assert_eq!(found.directories[0], Path::new(first), "{name}");
        }
        assert_eq!(place(hybrid, "", "cpu"), None);
        assert_eq!(place("", V2_MOUNT, "cpu"), None);
        assert_eq!(place("nonsense\n0:\n", "more - of - it\n", "cpu"), None);
        let blank = r"30 23 0:26 / /mnt/a\040b\134c rw - cgroup2 none rw";
        let found = mount(blank, Version::Two, "cpu");
        assert_eq!(found, Some(("/".to_owned(), r"/mnt/a b\c".to_owned())));
    }

    #[test]
    fn in_version_2_the_tightest_limit_on_the_way_to_the_root_counts() {
        let tree = CgroupTree::new(
            "v2",
            &[
                ("proc/self/cgroup", "0::/a.slice/b.service\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/a.slice/cpu.max", "150000 100000\n"),
                ("sys/fs/cgroup/a.slice/cpu.stat", V2_CPU_STAT),
                ("sys/fs/cgroup/a.slice/memory.max", "2147483648\n"),
                ("sys/fs/cgroup/a.slice/memory.current", "1000\n"),
                ("sys/fs/cgroup/a.slice/b.service/cpu.max", "400000 100000\n"),
                (
                    "sys/fs/cgroup/a.slice/b.service/cpu.stat",
                    "nr_periods 0\nnr_throttled 0\nthrottled_usec 0\n",
                ),
                ("sys/fs/cgroup/a.slice/b.service/memory.max", "536870912\n"),
                (
                    "sys/fs/cgroup/a.slice/b.service/memory.current",
                    "34603008\n",
                ),
            ],
        );
        let expected = CgroupReading {
            cpu_quota: Some(1.5),
            throttling: Some(Throttling {
                periods: 42,
                time: Duration::from_millis(1500),
            }),
            memory_bytes: Some(33 << 20),
            memory_bytes_max: Some(512 << 20),
        };
        let cgroup = Cgroup::find(&tree.0);
        assert_eq!(cgroup.read(), expected);
        tree.write("sys/fs/cgroup/a.slice/cpu.max", "max 100000\n");
        let raised = cgroup.read();
        assert_eq!(raised.cpu_quota, Some(4.0), "a limit may change");
        assert_eq!(
            raised.throttling.map(|throttling| throttling.periods),
            Some(0)
        );
    }

    #[test]
    fn in_version_1_each_controller_has_a_hierarchy_of_its_own() {
        let tree = CgroupTree::new(
            "v1",
            &[
                ("proc/self/cgroup", "5:cpu,cpuacct:/\n4:memory:/a/b\n0::/\n"),
                ("proc/self/mountinfo", V1_MOUNTS),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "50000\n"),
                ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", "100000\n"),
                (
                    "sys/fs/cgroup/cpu,cpuacct/cpu.stat",
                    "nr_periods 9\nnr_throttled 3\nthrottled_time 2000000\n",
                ),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "99\n"),
                (
                    "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                ("sys/fs/cgroup/memory/a/b/memory.usage_in_bytes", "7\n"),
            ],
        );
        let expected = CgroupReading {
            cpu_quota: Some(0.5),
            throttling: Some(Throttling {
                periods: 3,
                time: Duration::from_millis(2),
            }),
            memory_bytes: Some(7),
            memory_bytes_max: None,
        };
        assert_eq!(Cgroup::find(&tree.0).read(), expected);
    }

    #[test]
    fn in_a_namespace_the_own_group_is_the_root() {
        let tree = CgroupTree::new(
            "namespace",
            &[
                ("proc/self/cgroup", "0::/\n"),
                ("proc/self/mountinfo", V2_MOUNT),
                ("sys/fs/cgroup/cpu.max", "200000 100000\n"),
                ("sys/fs/cgroup/memory.max", "max\n"),
                ("sys/fs/cgroup/memory.current", "4096\n"),
            ],
        );
        let expected = CgroupReading {
            cpu_quota: Some(2.0),
            memory_bytes: Some(4096),
            ..CgroupReading::default()
        };
        assert_eq!(Cgroup::find(&tree.0).read(), expected);
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        let tree = CgroupTree::new("nothing", &[]);
        assert_eq!(Cgroup::find(&tree.0).read(), CgroupReading::default());
        tree.write("proc/self/cgroup", "0::/\n");
        tree.write("proc/self/mountinfo", V2_MOUNT);
        assert_eq!(Cgroup::find(&tree.0).read(), CgroupReading::default());
        // Whatever the machine has, it is readable.
        let _ = Cgroup::find(Path::new("/")).read();
    }

    #[test]
    fn a_reading_is_due_once_a_second() {
        let mut cgroup = Cgroup::default();
        let start = clock::instant();
        for (millis, due) in [
            (0, true),
            (10, false),
            (999, false),
            (1000, true),
            (1500, false),
        ] {
            let reading = cgroup.due(start + Duration::from_millis(millis));
            assert_eq!(reading.is_some(), due, "{millis} ms");
        }
    }
}
