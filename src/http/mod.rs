//! HTTP: the only place that knows sockets, `httparse` and tiny_http's writer.
//!
//! `socket` opens listeners and `listener` accepts. `connection_table` has every open connection,
//! and `connection` serves one: `reader` reads what its client sends, `exchange` gets the reply,
//! `writer` writes the answer, and `client_watch` watches whether the client is still there.
//! `request_head`, `body` and `response` are the protocol without any I/O (RFC 9110, RFC 9112).

pub mod listener;
pub mod listener_context;
pub mod socket;

pub(crate) mod client_watch;
pub(crate) mod connection;
pub(crate) mod connection_table;
pub(crate) mod exchange;
pub(crate) mod reader;
pub(crate) mod refusal;
pub(crate) mod request_target;
pub(crate) mod stop;
pub(crate) mod trace;
pub(crate) mod traceparent;
pub(crate) mod writer;

pub mod body;
pub mod request_head;
pub mod response;

#[cfg(test)]
mod differential;
