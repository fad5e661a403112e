//! What is known of one listener.

use std::sync::atomic::AtomicUsize;

use super::{AtomicStamp, Histogram, RateLimitWaits, Streak};

/// The stamps and counters of one listener.
#[derive(Debug, Default)]
pub struct ListenerVitals {
    /// Open connections.
    pub open_connections: AtomicUsize,
    /// When it last took a connection.
    pub accepted_at: AtomicStamp,
    /// Connections that the system refused (descriptors, memory).
    pub accept_failures: Streak,
    /// Waits of cheap responses for the rate limit.
    pub paced: RateLimitWaits,
    /// From a probe's head being read to its answer being written, or its client being lost. `/statusz`
    /// gives no verdict and is not in here.
    pub probe_latency: Histogram,
}
