//! Refuses a connection before it is served: writes 503 and closes it, without waiting for its
//! client.

use std::io;
use std::net::Shutdown;

use socket2::Socket;

use crate::error::{Code, RequestError};
use crate::http::listener_context::ListenerContext;
use crate::http::response::{self, Answer, Persistence};
use crate::http::trace;
use crate::job;
use crate::lanes::admission;
use crate::platform::sys;

/// Why a connection is refused before it is served.
pub(crate) const NO_CAPACITY: &str =
    "all connections that the server allows are in use; retry later";

/// Why a client is refused that already has as many connections as one address may.
pub(crate) const TOO_MANY_OF_ONE: &str = "your address has the maximum number of open connections (--max-connections-per-address); reuse those, or retry later";

/// Answers 503 on a connection that is not served, without waiting for its client.
pub(crate) fn refuse(listener: &ListenerContext, socket: &Socket, why: &str) {
    let refusal = RequestError::new(Code::TooManyConnections, why);
    let vitals = &listener.http.context.vitals;
    vitals.refusals.count(refusal.code);
    let refusal = refusal.retry_after(admission::retry_after(&vitals.predict));
    let request_id = job::new_request_id();
    let overload = listener.http.context.config.overload.overload_status;
    let answer = Answer::error(&refusal, &request_id, overload);
    trace::other(socket, None, &request_id, &answer, Some(&refusal));
    vitals.responses.count(answer.status, answer.code);
    let mut bytes = Vec::with_capacity(1024);
    let port = listener.main_port();
    response::print_head(&answer, &request_id, Persistence::Close, port, &mut bytes);
    bytes.extend_from_slice(&answer.body);
    // Received bytes are read off the socket; otherwise closing would reset the connection and the
    // client would not see the answer. All three calls may fail if the client is gone.
    sys::discard_now(socket);
    let _ = sys::send_now(socket, &[io::IoSlice::new(&bytes)]);
    let _ = socket.shutdown(Shutdown::Write);
}
