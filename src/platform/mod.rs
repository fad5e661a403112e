//! The system below: clocks, threads, control groups, the service manager, and an HTTP client.
//!
//! `sys` alone has `unsafe` code.

pub mod address;
pub mod cgroup;
pub mod client;
pub mod clock;
pub mod fault;
pub mod panic;
pub mod sys;
pub mod systemd;
