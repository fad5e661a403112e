//! All errors: [`RequestError`] is an answer to a client; [`StartError`] ends the process before it
//! serves, or says why a probe did not pass.
//!
//! Every stage may use this leaf. Only this file maps kinds of errors to HTTP status codes, and
//! only it knows the JSON shape of an error.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::Path;

use clap::ValueEnum;
use serde::Serialize;

use crate::platform::cgroup::{Cgroup, Pids};
use crate::platform::sys;

/// The stable, machine-readable kind of an error answer (`code` in its JSON).
///
/// There is one for each case in which a client would act differently. The text says the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// The bytes are not a request that RFC 9112 allows; the connection is closed.
    MalformedRequest,
    /// The body is not JSON.
    InvalidJson,
    /// The body is JSON, but not instances of this model.
    InvalidInput,
    /// No resource has this path.
    NotFound,
    /// The path exists, the method does not (RFC 9110 section 15.5.6).
    MethodNotAllowed,
    /// Head or body did not arrive by their deadline (RFC 9110 section 15.5.9).
    RequestTimeout,
    /// The body is over `--max-body` (RFC 9110 section 15.5.14).
    ContentTooLarge,
    /// A content type or content coding that cannot be JSON (RFC 9110 section 15.5.16).
    UnsupportedMediaType,
    /// An `Expect` other than `100-continue` (RFC 9110 section 10.1.1).
    ExpectationFailed,
    /// The request head is over its limit (RFC 6585 section 5).
    HeadTooLarge,
    /// A transfer coding this server does not know (RFC 9112 section 6.1).
    NotImplemented,
    /// Neither HTTP/1.1 nor HTTP/1.0 (RFC 9110 section 15.6.6).
    VersionNotSupported,
    /// The model panicked or returned an error.
    PredictionFailed,
    /// A bug in the server itself.
    Internal,
    /// The prediction would wait too long, or its client has had its share.
    Overloaded,
    /// The prediction lane is full.
    QueueFull,
    /// The prediction waited so long that it was no longer worth computing.
    Expired,
    /// The model is not loaded yet.
    Loading,
    /// The server is shutting down.
    Draining,
    /// All connections that the server, or one address, may have are in use.
    TooManyConnections,
    /// The server already holds as much memory for clients as allowed.
    OverBudget,
    /// The prediction missed its deadline: `--request-timeout`, or less if the client asked for
    /// less.
    DeadlineExceeded,
}

impl Code {
    /// All kinds, in declaration order.
    pub const ALL: [Code; 22] = [
        Code::MalformedRequest,
        Code::InvalidJson,
        Code::InvalidInput,
        Code::NotFound,
        Code::MethodNotAllowed,
        Code::RequestTimeout,
        Code::ContentTooLarge,
        Code::UnsupportedMediaType,
        Code::ExpectationFailed,
        Code::HeadTooLarge,
        Code::NotImplemented,
        Code::VersionNotSupported,
        Code::PredictionFailed,
        Code::Internal,
        Code::Overloaded,
        Code::QueueFull,
        Code::Expired,
        Code::Loading,
        Code::Draining,
        Code::TooManyConnections,
        Code::OverBudget,
        Code::DeadlineExceeded,
    ];

    /// Returns the `snake_case` name that clients may match on.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::MalformedRequest => "malformed_request",
            Code::InvalidJson => "invalid_json",
            Code::InvalidInput => "invalid_input",
            Code::NotFound => "not_found",
            Code::MethodNotAllowed => "method_not_allowed",
            Code::RequestTimeout => "request_timeout",
            Code::ContentTooLarge => "content_too_large",
            Code::UnsupportedMediaType => "unsupported_media_type",
            Code::ExpectationFailed => "expectation_failed",
            Code::HeadTooLarge => "head_too_large",
            Code::NotImplemented => "not_implemented",
            Code::VersionNotSupported => "version_not_supported",
            Code::PredictionFailed => "prediction_failed",
            Code::Internal => "internal",
            Code::Overloaded => "overloaded",
            Code::QueueFull => "queue_full",
            Code::Expired => "expired",
            Code::Loading => "loading",
            Code::Draining => "draining",
            Code::TooManyConnections => "too_many_connections",
            Code::OverBudget => "over_budget",
            Code::DeadlineExceeded => "deadline_exceeded",
        }
    }

    /// Maps the kind to its HTTP status code; no other place does.
    pub const fn status(self) -> u16 {
        match self {
            Code::MalformedRequest | Code::InvalidJson | Code::InvalidInput => 400,
            Code::NotFound => 404,
            Code::MethodNotAllowed => 405,
            Code::RequestTimeout => 408,
            Code::ContentTooLarge => 413,
            Code::UnsupportedMediaType => 415,
            Code::ExpectationFailed => 417,
            Code::HeadTooLarge => 431,
            Code::PredictionFailed | Code::Internal => 500,
            Code::NotImplemented => 501,
            Code::Overloaded
            | Code::QueueFull
            | Code::Expired
            | Code::Loading
            | Code::Draining
            | Code::TooManyConnections
            | Code::OverBudget => 503,
            Code::DeadlineExceeded => 504,
            Code::VersionNotSupported => 505,
        }
    }

    /// Maps the kind to its status code, with `overload` as the code of refusals for overload.
    ///
    /// Those are the refusals of a healthy server with too much to do. A server that loads or
    /// drains always answers 503.
    pub const fn status_with(self, overload: OverloadStatus) -> u16 {
        match (self, overload) {
            (
                Code::Overloaded
                | Code::QueueFull
                | Code::Expired
                | Code::TooManyConnections
                | Code::OverBudget,
                OverloadStatus::TooManyRequests,
            ) => 429,
            _ => self.status(),
        }
    }
}

// A kind missing from this list would have no counter.
const _: () = {
    let mut place = 0;
    while place < Code::ALL.len() {
        assert!(Code::ALL[place] as usize == place);
        place += 1;
    }
    assert!(Code::ALL.len() == Code::DeadlineExceeded as usize + 1);
};

/// The status code of a refusal for overload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OverloadStatus {
    /// 503 Service Unavailable (RFC 9110 section 15.6.4)
    #[value(name = "503")]
    ServiceUnavailable,
    /// 429 Too Many Requests (RFC 6585 section 4)
    #[value(name = "429")]
    TooManyRequests,
}

/// A request that failed: its kind, a text for a person, and the header fields that go with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestError {
    /// The stable kind; it decides the status code.
    pub code: Code,
    /// What was wrong, where, and what would be right; lower case, no final period.
    pub text: String,
    /// Seconds after which to retry, at least 1 (`Retry-After`, RFC 9110 section 10.2.3).
    pub retry_after: Option<u32>,
    /// The methods that the path supports (`Allow`, RFC 9110 section 10.2.1).
    pub allow: Option<&'static str>,
}

impl RequestError {
    /// Makes an error without `Retry-After` and `Allow`.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        RequestError {
            code,
            text: text.into(),
            retry_after: None,
            allow: None,
        }
    }

    /// Adds when to retry, in whole seconds.
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds.max(1));
        self
    }

    /// Writes the JSON shape that all errors of the server share.
    pub fn to_json(&self, request_id: &str) -> Vec<u8> {
        #[derive(Serialize)]
        struct ErrorBody<'a> {
            error: &'a str,
            code: &'a str,
            request_id: &'a str,
        }
        let shape = ErrorBody {
            error: &self.text,
            code: self.code.as_str(),
            request_id,
        };
        let mut json = serde_json::to_vec(&shape).unwrap_or_default();
        json.push(b'\n');
        json
    }
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.as_str(), self.text)
    }
}

impl std::error::Error for RequestError {}

/// Why the process cannot start, cannot go on, or why a probe failed. The text is one line for a
/// person, or several if there are several reasons.
#[derive(Debug)]
pub enum StartError {
    /// The options are wrong (exit code 2).
    Usage(String),
    /// The machine or the model prevents it (exit code 1).
    Failed(String),
    /// A system call failed with this error number (exit code 1).
    System(String, i32),
    /// The probed server did not answer 200 in time (exit code 1).
    NotPassed(String),
    /// This signal ended the process at once (exit code 130).
    Interrupted(i32),
}

impl StartError {
    /// Returns the exit code that belongs to the error.
    pub fn exit_code(&self) -> u8 {
        match self {
            StartError::Usage(_) => 2,
            StartError::Failed(_) | StartError::System(..) | StartError::NotPassed(_) => 1,
            StartError::Interrupted(_) => sys::ENDED_AT_ONCE,
        }
    }

    /// Makes an error from a failed system call.
    pub fn system(text: String, error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => StartError::System(text, number),
            None => StartError::Failed(text),
        }
    }

    /// Makes an error for a thread, of `needed` in all, that the system refused to start. The text
    /// names the limits on threads; `remedy` is what helps other than raising them.
    pub fn no_threads(remedy: &str, needed: usize, error: &io::Error) -> Self {
        let mut text = format!("cannot start a thread: {error}");
        // A lack of file descriptors, for example, has another remedy.
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::OutOfMemory) {
            let pids = Cgroup::find(Path::new("/")).pids();
            text.push_str(&thread_limits(needed, sys::thread_limit(), pids));
            if !remedy.is_empty() {
                text.push_str(", or ");
                text.push_str(remedy);
            }
        }
        Self::system(text, error)
    }

    /// Returns the number that the service manager is told (errno(3)).
    pub fn errno(&self) -> i32 {
        use rustix::io::Errno;
        match self {
            StartError::System(_, number) => *number,
            StartError::Usage(_) => Errno::INVAL.raw_os_error(),
            StartError::Failed(_) | StartError::NotPassed(_) => Errno::BADMSG.raw_os_error(),
            StartError::Interrupted(_) => Errno::INTR.raw_os_error(),
        }
    }
}

/// What is needed, and what is allowed.
fn thread_limits(needed: usize, by_user: Option<u64>, by_group: Option<Pids>) -> String {
    let by_user = match by_user {
        Some(limit) => format!("{limit}, for all processes of this user"),
        None => "unlimited".to_owned(),
    };
    let by_group = match by_group {
        Some(Pids { max, current }) => format!("{max}, of which {current} are taken"),
        None => "unlimited".to_owned(),
    };
    format!(
        "; {needed} threads are needed at the start, but `ulimit -u` is {by_user}, and pids.max of the cgroup is {by_group}; raise the one that is too low"
    )
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Usage(text)
            | StartError::Failed(text)
            | StartError::System(text, _)
            | StartError::NotPassed(text) => f.write_str(text),
            StartError::Interrupted(signal) => {
                let name = signal_hook::low_level::signal_name(*signal).unwrap_or("a signal");
                write!(
                    f,
                    "ended at once by {name}; requests in flight were discarded"
                )
            }
        }
    }
}

impl std::error::Error for StartError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn want_of_threads_names_both_limits_and_what_is_needed() {
        let pids = Pids {
            max: 64,
            current: 61,
        };
        for (by_user, by_group, expected) in [
            (
                Some(60),
                None,
                "`ulimit -u` is 60, for all processes of this user, and pids.max of the cgroup is unlimited",
            ),
            (
                None,
                Some(pids),
                "`ulimit -u` is unlimited, and pids.max of the cgroup is 64, of which 61 are taken",
            ),
        ] {
            let text = thread_limits(77, by_user, by_group);
            assert!(text.contains("77 threads are needed"), "{text}");
            assert!(text.contains(expected), "{text}");
        }
        let refused = io::Error::from(rustix::io::Errno::AGAIN);
        let text = StartError::no_threads("close one", 2, &refused).to_string();
        assert!(
            text.contains("pids.max") && text.ends_with("or close one"),
            "{text}"
        );
        let other = io::Error::from(rustix::io::Errno::MFILE);
        let text = StartError::no_threads("close one", 2, &other).to_string();
        assert!(!text.contains("pids.max"), "{text}");
    }
}
