//! How requests are read and answers are written: routes, and one dialect per protocol and body
//! format. Nothing here reads or writes a socket.
//!
//! To add a dialect, write a file with an implementation of [`Dialect`], and name it in `mod`, `use` and
//! `DIALECTS`.

mod answer_writer;
mod envelope;
mod forgiving;
pub mod instances;
mod invocations;
mod list_answer;
mod npy;
mod object;
mod paths;
pub mod routes;
mod score;
pub mod unpack;
mod v1;
mod v2;

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;
use crate::models::forest::Precision;
use crate::models::{AnswerSpec, JsonLabels, Output, PredictError, Rows, Signature};
use crate::vitals::FORMS;

use self::instances::Predict;
pub use self::instances::echo;
use self::invocations::Invocations;
pub use self::invocations::media_types as invocation_media_types;
pub use self::object::{JsonObject, NamedObject};
use self::score::Score;
use self::v1::PredictV1;
use self::v2::Infer;
pub use self::v2::{datatypes, described as described_outputs, output_names};

/// All dialects.
static DIALECTS: &[&dyn Dialect] = &[&Predict, &Infer, &PredictV1, &Invocations, &Score];

/// A protocol's reader of requests and writer of answers.
pub trait Dialect: fmt::Debug + Sync {
    /// Its name in the log, unique among dialects.
    fn name(&self) -> &'static str;

    /// The model that a path names; `None` if the path is not of this dialect.
    fn target(&self, path: &str) -> Option<ModelTarget>;

    /// Checks what a head says about its body, before the body is read. By default any media type is
    /// accepted, because clients send all sorts of them, and a body may be compressed by gzip or deflate.
    ///
    /// # Errors
    ///
    /// 415 that names what is accepted, or 400.
    fn check_head(&self, head: &BodyHead) -> Result<(), RequestError> {
        unpack::check(head)
    }

    /// How the body is encoded once it is unpacked.
    fn form(&self, _head: &BodyHead) -> BodyForm {
        BodyForm::Json
    }

    /// Decodes a body into rows that the signature allows, and what is asked about them; their
    /// memory is charged before it is allocated.
    ///
    /// # Errors
    ///
    /// What is wrong with the body and where, 413 for too many rows, and the error of a budget that is
    /// used up.
    fn decode(
        &self,
        head: &BodyHead,
        body: &[u8],
        row_spec: RowSpec<'_>,
        charge: &mut Charge,
    ) -> Result<Asked, RequestError>;

    /// Writes an error's content in JSON; it is sent with this status code. Its media type is always
    /// `application/json` and no more, because clients compare the whole field.
    fn error(&self, error: &RequestError, request_id: &str, _status: u16) -> Vec<u8> {
        error.to_json(request_id)
    }
}

/// Dialects are the same if their names are.
impl PartialEq for dyn Dialect {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for dyn Dialect {}

/// The writer of one request's answer. It knows what the request asked for.
pub trait Encoder: fmt::Debug + Send {
    /// Encodes an answer; its memory is charged before it is allocated.
    ///
    /// # Errors
    ///
    /// An answer that the dialect cannot express, and the error of a budget that is used up.
    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError>;
}

/// The model and the version that a path names, if it does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelTarget {
    /// The model's name, decoded.
    pub model: Option<String>,
    /// The model's version, decoded.
    pub version: Option<String>,
}

/// How a body is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyForm {
    /// Rows in JSON.
    Json,
    /// Tensors in JSON.
    JsonTensors,
    /// CSV.
    Csv,
    /// Numbers in binary.
    Binary,
    /// Anything, compressed.
    Compressed,
}

// Each form has service times of its own, and this is the last one.
const _: () = assert!(BodyForm::Compressed as usize + 1 == FORMS);

/// What a dialect sees of the head of a request with a body.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BodyHead {
    /// `Content-Type`.
    pub content_type: Option<String>,
    /// `Content-Encoding`, unless it is `identity`.
    pub content_encoding: Option<String>,
    /// `Accept`.
    pub accept: Option<String>,
    /// `Inference-Header-Content-Length`, unparsed: how many bytes of the body are JSON.
    pub json_length: Option<String>,
}

/// What is needed to decode one request's body.
#[derive(Debug, Clone)]
pub struct Spoken {
    /// What its head says about its body.
    pub head: BodyHead,
    /// What reads the body.
    pub dialect: &'static dyn Dialect,
}

impl Spoken {
    /// How the body is encoded. Bodies of the same form and size take about the same time.
    pub fn form(&self) -> BodyForm {
        match &self.head.content_encoding {
            Some(_) => BodyForm::Compressed,
            None => self.dialect.form(&self.head),
        }
    }
}

/// What rows a request may have: those that the model takes, and how many.
#[derive(Debug, Clone, Copy)]
pub struct RowSpec<'a> {
    /// What the model takes and returns.
    pub signature: &'a Signature,
    /// The precision in which it computes.
    pub precision: Precision,
    /// Maximum number of rows.
    pub rows_max: usize,
}

/// What a request asks for.
#[derive(Debug)]
pub struct Asked {
    /// The rows to predict.
    pub rows: Rows,
    /// Whether the model's sums before their transform (sigmoid, softmax and so on) are wanted too.
    pub raw: bool,
    /// How long the client waits for the answer, from the request's arrival on, if its body says so; the
    /// head may have a deadline as well, and the earlier one counts.
    pub timeout: Option<Duration>,
    /// What writes the answer.
    pub encoder: Box<dyn Encoder>,
}

impl Asked {
    /// Makes what most requests ask for: predictions, and no more.
    pub fn new(rows: Rows, encoder: impl Encoder + 'static) -> Self {
        Asked {
            rows,
            raw: false,
            timeout: None,
            encoder: Box::new(encoder),
        }
    }
}

/// A model's answer, to be encoded.
#[derive(Debug, Clone, Copy)]
pub struct Predicted<'a> {
    /// The model's name.
    pub name: &'a str,
    /// The model's version, as its clients call it.
    pub version: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// Which of the outputs a protocol gives that has room for one.
    pub answer: AnswerSpec,
    /// What the model takes and gives.
    pub signature: &'a Signature,
    /// Its class labels in JSON.
    pub labels: &'a JsonLabels,
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

/// Writes an error in JSON: first the dialect's fields, then those that all errors have.
fn error_json(error: &RequestError, request_id: &str, fields: &[(&str, &str)]) -> Vec<u8> {
    let own = error.to_json(request_id);
    let mut json = vec![b'{'];
    for (name, value) in fields {
        let value = serde_json::Value::from(*value);
        json.extend_from_slice(format!("\"{name}\":{value},").as_bytes());
    }
    json.extend_from_slice(own.strip_prefix(b"{").unwrap_or(&own));
    json
}

/// The dialect that a path belongs to, and the model that the path names.
pub fn find(path: &str) -> Option<(&'static dyn Dialect, ModelTarget)> {
    let found = |dialect: &'static dyn Dialect| Some((dialect, dialect.target(path)?));
    DIALECTS.iter().copied().find_map(found)
}

/// What a client gets, unless it gets a [`RequestError`].
#[derive(Debug, PartialEq, Eq)]
pub struct Payload {
    /// Status code, which need not be 200: a failing probe is answered so too.
    pub status: u16,
    /// Media type.
    pub content_type: &'static str,
    /// Content.
    pub body: Cow<'static, [u8]>,
    /// Whole seconds after which to retry.
    pub retry_after: Option<u32>,
    /// Further header fields: names, and values without control characters.
    pub fields: Vec<(&'static str, String)>,
}

impl Payload {
    /// Content of this media type.
    pub fn new(status: u16, content_type: &'static str, body: Cow<'static, [u8]>) -> Self {
        Payload {
            status,
            content_type,
            body,
            retry_after: None,
            fields: Vec::new(),
        }
    }

    /// Plain text.
    pub fn text(status: u16, body: impl Into<Cow<'static, str>>) -> Self {
        let body = match body.into() {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        };
        Self::new(status, "text/plain; charset=utf-8", body)
    }

    /// CSV with a header (RFC 4180).
    pub fn csv(body: Vec<u8>) -> Self {
        let content_type = "text/csv; charset=utf-8; header=present";
        Self::new(200, content_type, Cow::Owned(body))
    }

    /// JSON.
    pub fn json(status: u16, body: Vec<u8>) -> Self {
        Self::new(status, "application/json", Cow::Owned(body))
    }
}
