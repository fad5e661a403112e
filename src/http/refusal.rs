//! Refusing a connection before it is served: 503, and closed, without waiting for its client.

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
    "every connection the server may hold is in use; send the request again later";

/// Why a client's connection is refused that has as many as one address may.
pub(crate) const TOO_MANY_OF_ONE: &str = "your address has as many connections open as one may (--max-connections-per-address); use those, or send the request again later";

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
    // What has arrived is taken off the socket, or closing it would reset the connection and the
    // client would not see the answer. All three may fail where the client has gone.
    sys::discard_now(socket);
    let _ = sys::send_now(socket, &[io::IoSlice::new(&bytes)]);
    let _ = socket.shutdown(Shutdown::Write);
}
