//! Progress of a drill: written by the drilling thread, shown by the main thread.

use std::io::{IsTerminal as _, Write as _, stderr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::platform::clock;

/// What is done, and what is being done.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<ProgressState>);

#[derive(Debug, Default)]
struct ProgressState {
    label: String,
    /// A line to print above the bar.
    line: Option<String>,
    /// Length of the whole, once it is known.
    total: Duration,
    done: Duration,
    current: Option<(Instant, Duration)>,
}

impl ProgressState {
    fn position(&self) -> Duration {
        let current = self.current.map_or(Duration::ZERO, |(began, length)| {
            clock::instant()
                .saturating_duration_since(began)
                .min(length)
        });
        self.done + current
    }
}

impl Progress {
    /// Sets the total duration, and prints a line about it.
    pub(super) fn plan(&self, total: Duration, line: String) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.total = total;
        state.line = Some(line);
    }

    /// Begins a step of this length; the previous one is done.
    pub(super) fn begin(&self, label: String, length: Duration) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, length)) = state.current.take() {
            state.done += length;
        }
        state.label = label;
        state.current = Some((clock::instant(), length));
    }

    /// Shows it.
    pub(super) fn show(&self, bar: &ProgressBar) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(line) = state.line.take() {
            // A closed stderr must not stop the drill. A bar would overwrite a line that it does
            // not know.
            bar.suspend(|| {
                let _ = writeln!(stderr(), "{line}");
            });
        }
        let position = state.position();
        bar.set_length(millis(state.total.max(position)).max(1));
        bar.set_position(millis(position));
        let remaining = state.total.saturating_sub(position).as_secs();
        bar.set_message(match state.total.is_zero() {
            true => state.label.clone(),
            false => format!("{remaining} s left: {}", state.label),
        });
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A bar on a terminal, and nothing elsewhere.
pub(super) fn bar() -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr());
    if let Ok(style) = ProgressStyle::with_template("drilling {bar:30} {msg}") {
        bar.set_style(style);
    }
    bar
}
