//! What the commands that write a model file have in common.

use std::io::{Write as _, stderr};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGINT, SIGTERM};

use crate::error::StartError;
use crate::models::native;

/// Writes a model file whole or not at all, and tells on stderr if it was interrupted meanwhile.
///
/// # Errors
///
/// The file cannot be written, or reads back differently.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<(), StartError> {
    let interrupted = write_and_compare(path, bytes).map_err(|error| {
        StartError::Failed(format!(
            "cannot write the model file {}: {error}",
            path.display()
        ))
    })?;
    if interrupted {
        note_to_stderr("interrupted while it was written; the file is whole");
    }
    Ok(())
}

/// Writes the file whole or not at all, reads it back and compares; returns whether it was told to
/// stop meanwhile.
fn write_and_compare(path: &Path, bytes: &[u8]) -> std::io::Result<bool> {
    // From here on an interrupt waits until the file is whole.
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))?;
    }
    native::write_atomically(path, bytes)?;
    if std::fs::read(path)? != bytes {
        return Err(std::io::Error::other(
            "it reads back differently than it was written",
        ));
    }
    Ok(interrupted.load(Ordering::Acquire))
}

/// The name of a model in a file that is given none: the file's without the extension.
pub(super) fn stem(path: &Path) -> String {
    let stem = path
        .file_stem()
        .map(|stem| stem.to_string_lossy().into_owned());
    stem.filter(|stem| !stem.is_empty())
        .unwrap_or_else(|| "model".to_owned())
}

/// Tells something that is no error.
pub(super) fn note_to_stderr(note: &str) {
    // A closed stderr must not stop the command.
    let _ = writeln!(stderr(), "lanekeeper: {note}");
}
