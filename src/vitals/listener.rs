//! What is known of one listener.

use std::sync::atomic::AtomicUsize;

use super::{AtomicStamp, Histogram, RateLimitWaits, Streak};

/// The stamps and counters of one listener.
#[derive(Debug, Default)]
pub struct ListenerVitals {
    /// Open connections.
    pub open_connections: AtomicUsize,
    /// When it last accepted a connection.
    pub accepted_at: AtomicStamp,
    /// Connections that the system refused (file descriptors, memory).
    pub accept_failures: Streak,
    /// Cheap answers that the rate limit delayed.
    pub paced: RateLimitWaits,
    /// From a probe's head read to its answer written, or its client lost. `/statusz` gives no
    /// verdict and is not included.
    pub probe_latency: Histogram,
}
