//! HTTP: the only place that knows sockets, `httparse` and tiny_http's writer.
//!
//! `socket` opens, `listener` accepts, `table` knows every open connection, `connection` speaks for
//! one of them: `input` reads what its client sends, `exchange` has it answered, `output` writes what
//! it gets, `client_watch` knows whether it is still there. `head`, `body` and `answer` are the protocol without any I/O (RFC 9110, RFC 9112).

pub mod context;
pub mod listener;
pub mod socket;

pub(crate) mod client_watch;
pub(crate) mod connection;
pub(crate) mod exchange;
pub(crate) mod input;
pub(crate) mod output;
pub(crate) mod page;
pub(crate) mod refusal;
pub(crate) mod table;
pub(crate) mod trace;

pub mod answer;
pub mod body;
pub mod head;

#[cfg(test)]
mod differential;
