//! The commands, one file each.

pub mod check;
pub mod drill;
pub mod inspect;
pub mod manifest;
pub mod output;
pub mod predict;
pub mod probe;
pub mod serve;
pub mod train;

use std::io::Write as _;

use crate::config;

/// Warns on stderr of variables that no option knows, where a command keeps no log.
fn warn_of_unknown_variables() {
    for line in config::unknown_variables() {
        // A stderr that is closed is no reason to stop.
        let _ = writeln!(std::io::stderr(), "lanekeeper: {line}");
    }
}
