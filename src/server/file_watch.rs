//! `--watch`: requests a reload when the model's file is replaced.
//!
//! Runs on its own thread, because a hanging file system must not hold up the main thread's tick.
//! It looks once a second: unlike events of the kernel, that works on every file system, and
//! through the symbolic links of a Kubernetes volume.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::lifecycle::Waker;
use crate::models::format;
use crate::platform::sys;

/// From look to look.
const INTERVAL: Duration = Duration::from_secs(1);

/// What distinguishes two states of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Identity {
    /// Returns the state of the model file at `path`, or in it; `None` if there is none.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(format::model_file(path).ok()?).ok()?;
        Some(Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// Decides when a changed file is to be loaded: once it differs and has stopped changing, so not
/// while it is being written.
#[derive(Debug)]
struct Changes {
    loaded: Option<Identity>,
    seen: Option<Identity>,
}

impl Changes {
    fn ask_for_reload(&mut self, now: Option<Identity>) -> bool {
        let at_rest = now.is_some() && now == self.seen;
        self.seen = now;
        let asks = at_rest && now != self.loaded;
        if asks {
            self.loaded = now;
        }
        asks
    }
}

/// Watches the file, which was `loaded` when the server started; does not return.
pub(super) fn run(path: &Path, loaded: Option<Identity>, reload: &Arc<AtomicBool>, waker: &Waker) {
    let mut changes = Changes {
        loaded,
        seen: loaded,
    };
    loop {
        sys::sleep(INTERVAL);
        if changes.ask_for_reload(Identity::of(path)) {
            log::info!("{} was replaced: it is loaded", path.display());
            reload.store(true, Ordering::Release);
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_loaded_once_it_is_another_and_at_rest() {
        let file = |inode: u64| {
            Some(Identity {
                device: 1,
                inode,
                bytes: 1,
                modified: (1, 1),
                changed: (1, 1),
            })
        };
        let mut changes = Changes {
            loaded: file(1),
            seen: file(1),
        };
        let mut looks = |inodes: &[Option<Identity>]| -> Vec<bool> {
            let looks = inodes.iter().map(|now| changes.ask_for_reload(*now));
            looks.collect()
        };
        assert_eq!(looks(&[file(1), file(1)]), [false, false]);
        assert_eq!(looks(&[file(2), file(2), file(2)]), [false, true, false]);
        assert_eq!(looks(&[file(3), file(4), file(4)]), [false, false, true]);
        assert_eq!(looks(&[None, None, file(4)]), [false, false, false]);
        assert_eq!(looks(&[file(4), file(1), file(1)]), [false, false, true]);
    }
}
