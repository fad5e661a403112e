//! Fault injection: a hook that every thread calls once per turn of its loop, outside every guard
//! against panics. In the released binary it does nothing; tests make it hang or end a thread.

/// The purpose of a thread, which is also its name (`ps -L`, `top -H`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ThreadRole {
    /// Serves one connection at a time and does all reading and writing of its socket.
    Connection,
    /// Makes room for new connections while every connection thread is taken.
    Reserve,
    /// Offers jobs to the lanes.
    Acceptor,
    /// Computes predictions.
    PredictionWorker,
    /// Answers probes.
    ProbeWorker,
    /// Tries the model.
    Canary,
    /// Writes the log to stderr.
    Log,
    /// Supervises the others, and ends the process.
    Main,
}

/// What a test does to a thread; the default does nothing.
pub trait Faults: Send + Sync {
    /// Called by a thread of `role` at the start of each turn of its loop; may block or panic.
    fn inject(&self, role: ThreadRole) {
        let _ = role;
    }
}

/// No faults: what the released binary runs with.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFaults;

impl Faults for NoFaults {}
