//! Standard output of commands. All output goes through here, so that lost output is never reported
//! as success.

use std::io::{self, IsTerminal as _, Write};
use std::time::Duration;

use rustix::io::Errno;

use crate::error::StartError;
use crate::platform::sys;

/// Time between two attempts if stdout takes nothing now.
const LOOK: Duration = Duration::from_secs(1);

/// Standard output, without a buffer.
///
/// std's treats a descriptor that is not open for writing as one that takes everything.
#[derive(Debug, Clone, Copy)]
pub struct Stdout;

impl Write for Stdout {
    #[allow(clippy::disallowed_methods)] // the one place the ban leaves open
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(io::stdout(), bytes) {
                Ok(count) => return Ok(count),
                Err(Errno::INTR) => {}
                // A process that shares it may have made it non-blocking.
                Err(Errno::AGAIN) => {
                    sys::wait_writable(io::stdout(), LOOK)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Prints a command's output.
///
/// # Errors
///
/// stdout does not take all of it, unless its reader has gone: a closed pipe means that no more is
/// wanted.
pub fn print(text: &str) -> Result<(), StartError> {
    match Stdout.write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let text = format!("cannot write to stdout: {error}");
            Err(StartError::system(text, &error))
        }
        _ => Ok(()),
    }
}

/// Prints clap's help or version.
///
/// # Errors
///
/// As [`print()`].
pub fn print_help(help: &clap::Error) -> Result<(), StartError> {
    let text = help.render();
    if is_colourful() {
        return print(&text.ansi().to_string());
    }
    print(&text.to_string())
}

#[allow(clippy::disallowed_methods)] // asks and does not write
fn is_colourful() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}
