//! What happens to a request once its connection has read it.
//!
//! The acceptor dispatches jobs to their lanes, workers compute predictions and answer probes, and the
//! canary computes the model's own row. Nothing here touches a socket.

pub mod acceptor;
pub mod canary;
pub(crate) mod console;
pub mod context;
pub(crate) mod docs;
pub(crate) mod documents;
pub(crate) mod index_page;
pub mod metrics;
pub(crate) mod openapi;
pub mod probes;
pub(crate) mod statusz;
pub mod worker;

#[cfg(test)]
mod fixtures;
