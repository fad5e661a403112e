//! Programs that some tests need. If one is missing, the test says so and passes.

use std::io::{Write, stderr};
use std::os::unix::fs::PermissionsExt;
use std::thread;

/// With this variable, as in `.ci/run`, a missing program is a failure.
const REQUIRE: &str = "TEST_LANEKEEPER_REQUIRE_PROGRAMS";

/// Whether this machine has all these programs. If not, prints which are missing, even though the output
/// of tests is captured.
pub fn has_programs(names: &[&str]) -> bool {
    let missing: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| !is_there(name))
        .collect();
    if missing.is_empty() {
        return true;
    }
    let missing = missing.join(", ");
    let required = std::env::var_os(REQUIRE).is_some_and(|value| !value.is_empty());
    assert!(!required, "this test needs {missing} ({REQUIRE} is set)");
    skip(&format!("this machine has no {missing}"));
    false
}

/// Prints that the present test, or a part of it, is skipped, and why.
pub fn skip(why: &str) {
    let test = thread::current();
    let test = test.name().unwrap_or("a test");
    // A closed stderr is not a failure.
    let _ = writeln!(stderr(), "skipped: {test}: {why}");
}

/// Whether a program of that name is on the PATH.
fn is_there(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| {
        let metadata = folder.join(name).metadata();
        metadata.is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}
