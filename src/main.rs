//! The binary: arguments in, exit code out. Everything else is in the library.

use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    lanekeeper::run(std::env::args_os(), Arc::new(lanekeeper::models::Files))
}
