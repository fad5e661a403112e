//! `/predict` in JSON.

use super::{decode_asked, encode, without_mark};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::Signature;
use crate::protocol::routes::is_form;
use crate::protocol::{Asked, BodyHead, Dialect, EncodeError, Payload, Predicted};

/// `{"instances": [...]}`, answered with `{"predictions": [...]}`.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Dialect for Json {
    fn path(&self) -> &'static str {
        "/predict"
    }

    fn media_type(&self) -> &'static str {
        "application/json"
    }

    fn decode(
        &self,
        head: &BodyHead,
        body: &[u8],
        (signature, rows_max): (&Signature, usize),
        charge: &mut Charge,
    ) -> Result<Asked, RequestError> {
        decode_asked(body, signature, rows_max, charge)
            .map_err(|error| blame_form(error, head, body))
    }

    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError> {
        encode(answer, charge).map(|json| Payload::json(200, json))
    }
}

/// A body declared as form data that does not even begin like JSON has the wrong media type.
///
/// curl declares everything as form data: a person who pasted a curl line and mistyped the JSON
/// wants to know where.
fn blame_form(error: RequestError, head: &BodyHead, body: &[u8]) -> RequestError {
    let body = without_mark(body).trim_ascii_start();
    let looks_like_json = matches!(body.first(), None | Some(b'{' | b'['));
    let called_form = is_form(head.content_type.as_deref());
    if called_form && error.code == Code::InvalidJson && !looks_like_json {
        let text = "form data is not read: the body must be JSON, with Content-Type: application/json, or CSV, with text/csv";
        return RequestError::new(Code::UnsupportedMediaType, text);
    }
    error
}
