//! How requests are read and answers are written: routes, and one dialect per protocol and body
//! format. Nothing here knows a socket.
//!
//! To add a dialect, write a file with an implementation of [`Dialect`] and add a line to
//! `DIALECTS`.

pub mod instances;
pub mod routes;

use std::borrow::Cow;
use std::fmt;

use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;
use crate::models::{Output, PredictError, Rows, Signature};

use self::instances::csv::Csv;
use self::instances::json::Json;

/// All dialects. On a path that several share, a request that names none gets the first.
static DIALECTS: [&dyn Dialect; 2] = [&Json, &Csv];

/// A protocol's reader and writer of predictions.
pub trait Dialect: fmt::Debug + Sync {
    /// Its path on the main listener.
    fn path(&self) -> &'static str;

    /// The media type that tells it from others on its path, in Content-Type and Accept.
    fn media_type(&self) -> &'static str;

    /// Decodes a body into rows that the signature allows, and what is asked about them; their
    /// memory is charged before it is taken.
    ///
    /// # Errors
    ///
    /// What is wrong with the body and where, 413 for more than `rows_max` rows, and the budget's
    /// own.
    fn decode(
        &self,
        head: &BodyHead,
        body: &[u8],
        shape: (&Signature, usize),
        charge: &mut Charge,
    ) -> Result<Asked, RequestError>;

    /// Encodes an answer; its memory is charged before it is taken.
    ///
    /// # Errors
    ///
    /// An answer that the dialect cannot express, and the budget's own.
    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError>;

    /// Shapes an error: its media type and content. The error's `code` decides the status code.
    fn error(&self, error: &RequestError, request_id: &str) -> (&'static str, Vec<u8>) {
        ("application/json", error.to_json(request_id))
    }
}

/// What a dialect sees of the head of a request with a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodyHead {
    /// The Content-Type field.
    pub content_type: Option<String>,
}

/// How one request is read and its answer written.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// What its head says about its body.
    pub head: BodyHead,
    /// What reads the body.
    pub body: &'static dyn Dialect,
    /// What writes the answer.
    pub answer: &'static dyn Dialect,
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// The rows to predict.
    pub rows: Rows,
    /// Whether the model's sums before their transform are wanted too.
    pub raw: bool,
}

/// A model's answer, to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    /// The model's name.
    pub name: &'a str,
    /// What it gives.
    pub signature: &'a Signature,
    /// The output; checked against the signature.
    pub output: &'a Output,
    /// Number of rows.
    pub rows: usize,
    /// The model's sums before their transform, row after row, if they were asked for.
    pub raw: Option<&'a [f64]>,
}

/// Why there is no answer to encode.
#[derive(Debug)]
pub enum EncodeError {
    /// The output contains something that the dialect cannot express.
    Output(PredictError),
    /// The memory budget has no room for the answer.
    Budget(RequestError),
}

impl From<PredictError> for EncodeError {
    fn from(error: PredictError) -> Self {
        EncodeError::Output(error)
    }
}

/// The dialects of a prediction request: the body's by its Content-Type, the answer's by Accept.
/// `None` if the path has none.
pub fn spoken(path: &str, head: BodyHead, accept: Option<&str>) -> Option<Spoken> {
    let content_type = head.content_type.as_deref();
    let on_path = || DIALECTS.into_iter().filter(|own| own.path() == path);
    let first = on_path().next()?;
    let is_named = |own: &&dyn Dialect| {
        content_type.is_some_and(|value| routes::is_media_type(value, own.media_type()))
    };
    let weight = |own: &&dyn Dialect| routes::quality(accept, own.media_type());
    let body = on_path().find(is_named).unwrap_or(first);
    let accepted = on_path().filter(|own| weight(own) > 0.0);
    let answer = accepted
        .max_by(|one, other| weight(one).total_cmp(&weight(other)))
        .unwrap_or(first);
    Some(Spoken { head, body, answer })
}

/// The dialect that shapes errors on this path; `None` if it has no predictions.
pub fn first_on(path: &str) -> Option<&'static dyn Dialect> {
    DIALECTS.into_iter().find(|own| own.path() == path)
}

/// Content for a client, other than an error of ours.
#[derive(Debug, PartialEq, Eq)]
pub struct Payload {
    /// Status code: a failing probe's answer has content too.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub body: Cow<'static, [u8]>,
    /// Whole seconds after which to retry.
    pub retry_after: Option<u32>,
    /// Its own fields: names, and values without control characters.
    pub fields: Vec<(&'static str, String)>,
}

impl Payload {
    /// Plain text.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        Payload {
            status,
            content_type: "text/plain; charset=utf-8",
            body: match body.into() {
                Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
                Cow::Owned(text) => Cow::Owned(text.into_bytes()),
            },
            retry_after: None,
            fields: Vec::new(),
        }
    }

    /// CSV with a header (RFC 4180).
    pub fn csv(body: Vec<u8>) -> Self {
        Payload {
            status: 200,
            content_type: "text/csv; charset=utf-8; header=present",
            body: Cow::Owned(body),
            retry_after: None,
            fields: Vec::new(),
        }
    }

    /// JSON.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Payload {
            status,
            content_type: "application/json",
            body: Cow::Owned(body),
            retry_after: None,
            fields: Vec::new(),
        }
    }
}
