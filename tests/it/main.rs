//! Tests against the real binary on real sockets.

// Tests may panic, read the clock and start threads.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    clippy::zombie_processes,
    unreachable_pub
)]

mod answers;
mod attacks;
mod cli;
mod clients;
mod console;
mod converted;
mod corpus;
mod drill;
mod environment;
mod estimators;
mod exhaustion;
mod faults;
mod half_close;
mod http;
mod imported;
mod inputs;
mod lifecycle;
mod limits;
mod manifest;
mod metrics;
mod offline;
mod onnx;
mod overload;
mod pod;
mod probe_command;
mod probes;
mod protocols;
mod real_clients;
mod real_tables;
mod recordings;
mod refusals;
mod sklearn;
mod sockets;
mod structure;
mod support;
mod systemd;
mod tables;
mod traces;
mod train;
mod truth;
