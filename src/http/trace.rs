//! What is recorded of an answered request: a count, and a line in the access log.
//!
//! Runs on connection threads, once per answer. Facts needed only for the line are gathered only if
//! the line is written.

use std::net::IpAddr;

use log::Level;
use socket2::Socket;
use tiny_http::Method;

use crate::error::RequestError;
use crate::http::listener_context::HttpContext;
use crate::http::request_head::RequestHead;
use crate::http::response::Answer;
use crate::job::deployment::Deployment;
use crate::logging::{Access, Prediction};

/// A client's address; `None` over a Unix socket, and if the client has reset its connection.
pub(crate) fn client(socket: &Socket) -> Option<IpAddr> {
    let peer = socket.peer_addr().ok()?.as_socket()?;
    Some(peer.ip().to_canonical())
}

/// Writes the line of an answer that is not a prediction's, at `debug`. `head` is `None` if none
/// could be read.
pub(crate) fn other(
    socket: &Socket,
    head: Option<&RequestHead>,
    request_id: &str,
    answer: &Answer,
    error: Option<&RequestError>,
) {
    if log::log_enabled!(Level::Debug) {
        access(socket, head, request_id, answer, error).write(Level::Debug);
    }
}

/// Writes the line of a prediction's answer, if the rate of lines allows it. `prediction` has
/// everything but the model's name.
pub(crate) fn prediction(
    http: &HttpContext,
    (socket, deployment): (&Socket, &Deployment),
    (head, request_id): (&RequestHead, &str),
    (answer, error): (&Answer, Option<&RequestError>),
    prediction: Prediction<'_>,
) {
    let Some(level) = http.access_log.admit(answer.status >= 400) else {
        return;
    };
    let version = deployment.slot.get();
    let model = version.as_ref().map(|version| version.name());
    let access = Access {
        prediction: Some(Prediction {
            model,
            ..prediction
        }),
        ..access(socket, Some(head), request_id, answer, error)
    };
    access.write(level);
}

fn access<'a>(
    socket: &Socket,
    head: Option<&'a RequestHead>,
    request_id: &'a str,
    answer: &Answer,
    error: Option<&'a RequestError>,
) -> Access<'a> {
    let without_content = head.is_some_and(|head| head.method == Method::Head);
    Access {
        request_id,
        traceparent: head.and_then(|head| head.traceparent.as_deref()),
        client: client(socket),
        target: head.map(|head| (head.method.as_str(), head.path.as_str())),
        status: answer.status,
        code: answer.code,
        bytes: if without_content {
            0
        } else {
            answer.body.len()
        },
        prediction: None,
        error,
    }
}
