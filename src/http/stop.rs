//! Why an exchange with a client ends early.

use crate::error::RequestError;

/// Why a request gets no further.
#[derive(Debug)]
pub(crate) enum RequestStop {
    /// It is answered with an error.
    Respond(RequestError),
    /// It cannot be answered; its connection ends.
    Close(ConnectionEnd),
}

/// Why a connection ends without an answer.
#[derive(Debug)]
pub(crate) enum ConnectionEnd {
    /// The client closed it, was idle too long, or its place was needed.
    Closed,
    /// The client took too long to read an answer.
    NotRead,
}

impl From<RequestError> for RequestStop {
    fn from(error: RequestError) -> Self {
        RequestStop::Respond(error)
    }
}

impl From<ConnectionEnd> for RequestStop {
    fn from(end: ConnectionEnd) -> Self {
        RequestStop::Close(end)
    }
}
