//! Tests against the real binary on real sockets.

// A test may panic and read the clock, and its threads end with it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::zombie_processes,
    unreachable_pub
)]

mod cli;
mod faults;
mod http;
mod lifecycle;
mod limits;
mod probes;
mod sockets;
mod structure;
mod support;
