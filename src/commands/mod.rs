//! The commands, one file each.

pub mod check;
pub mod convert;
pub mod drill;
pub mod golden_script;
pub mod help;
pub mod inspect;
pub mod manifest;
mod model_file;
pub mod output;
pub mod predict;
pub mod probe;
pub mod serve;
pub mod train;

use std::io::Write as _;

use crate::config;

/// Warns on stderr about variables that no option has, for commands without a log.
fn warn_of_unknown_variables() {
    for line in config::unknown_variables() {
        // A closed stderr must not stop the command.
        let _ = writeln!(std::io::stderr(), "lanekeeper: {line}");
    }
}
