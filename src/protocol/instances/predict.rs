//! `/predict`: instances in JSON or CSV, answered in JSON or CSV.

use super::csv::{CsvAnswer, decode_csv};
use super::{decode_asked, encode, without_mark};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::protocol::routes::{essence, is_form, is_media_type, quality};
use crate::protocol::{
    Asked, BodyForm, BodyHead, Dialect, EncodeError, Encoder, ModelTarget, Payload, Predicted,
    RowSpec,
};

const JSON: &str = "application/json";
const CSV: &str = "text/csv";

/// `{"instances": [...]}` or a table, answered with `{"predictions": [...]}` or a table.
#[derive(Debug, Clone, Copy)]
pub struct Predict;

impl Dialect for Predict {
    fn name(&self) -> &'static str {
        "predict"
    }

    fn target(&self, path: &str) -> Option<ModelTarget> {
        (path == "/predict").then(ModelTarget::default)
    }

    fn check_head(&self, head: &BodyHead) -> Result<(), RequestError> {
        check_media_type(
            head.content_type.as_deref(),
            head.content_encoding.as_deref(),
        )
    }

    fn form(&self, head: &BodyHead) -> BodyForm {
        match is_csv(head) {
            true => BodyForm::Csv,
            false => BodyForm::Json,
        }
    }

    fn decode(
        &self,
        head: &BodyHead,
        body: &[u8],
        row_spec: RowSpec<'_>,
        charge: &mut Charge,
    ) -> Result<Asked, RequestError> {
        let (rows, raw) = match is_csv(head) {
            true => (
                decode_csv(body, true, row_spec.signature, row_spec.rows_max, charge)?,
                false,
            ),
            false => decode_asked(body, row_spec.signature, row_spec.rows_max, charge)
                .map_err(|error| blame_form(error, head, body))?,
        };
        let encoder: Box<dyn Encoder> = match wants_csv(head.accept.as_deref()) {
            true => Box::new(CsvAnswer { raw }),
            false => Box::new(JsonAnswer { raw }),
        };
        Ok(Asked {
            rows,
            raw,
            timeout: None,
            encoder,
        })
    }
}

/// An answer in JSON.
#[derive(Debug, Clone, Copy)]
struct JsonAnswer {
    /// Whether the sums are asked for: they may be there for another protocol's sake.
    raw: bool,
}

impl Encoder for JsonAnswer {
    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError> {
        let answer = Predicted {
            raw: answer.raw.filter(|_| self.raw),
            ..*answer
        };
        encode(&answer, charge).map(|json| Payload::json(200, json))
    }
}

fn is_csv(head: &BodyHead) -> bool {
    let content_type = head.content_type.as_deref();
    content_type.is_some_and(|value| is_media_type(value, CSV))
}

fn wants_csv(accept: Option<&str>) -> bool {
    let csv = quality(accept, CSV);
    csv > 0.0 && csv >= quality(accept, JSON)
}

/// Checks that a body may be JSON or CSV, by its content type and coding.
///
/// # Errors
///
/// 415 with what would be right.
fn check_media_type(
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<(), RequestError> {
    if content_encoding.is_some() {
        let text = "the body must come without Content-Encoding: compressed bodies are not read";
        return Err(RequestError::new(Code::UnsupportedMediaType, text));
    }
    let Some(value) = content_type else {
        return Ok(());
    };
    let essence = essence(value).to_ascii_lowercase();
    let may_be_json = essence.is_empty()
        || essence == "application/json"
        || essence.ends_with("+json")
        || essence == CSV
        || essence == "text/plain"
        || essence == "application/octet-stream"
        || is_form(content_type);
    if may_be_json {
        return Ok(());
    }
    let text =
        "the body must be JSON or CSV: send it with Content-Type: application/json or text/csv";
    Err(RequestError::new(Code::UnsupportedMediaType, text))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn csv_is_read_and_answered_where_the_client_says_so() {
        #[rustfmt::skip]
        let table = [
            (None, None, JSON, JSON),
            (Some("text/csv"), None, CSV, JSON),
            (Some("Text/CSV; charset=utf-8"), Some("*/*"), CSV, JSON),
            (Some("application/json"), Some("text/csv"), JSON, CSV),
            (None, Some("application/json, text/csv;q=0.9"), JSON, JSON),
            (None, Some("application/json;q=0.5, TEXT/CSV ; q=0.9"), JSON, CSV),
            (None, Some("text/csv;q=0, */*"), JSON, JSON),
            (None, Some("text/csv;q=x"), JSON, JSON),
            (None, Some("text/html,text/csv,*/*;q=0.1"), JSON, CSV),
        ];
        for (content_type, accept, input, output) in table {
            let head = BodyHead {
                content_type: content_type.map(str::to_owned),
                ..BodyHead::default()
            };
            let read = if is_csv(&head) { CSV } else { JSON };
            let answered = if wants_csv(accept) { CSV } else { JSON };
            assert_eq!((read, answered), (input, output), "{accept:?}");
        }
    }

    #[test]
    fn content_types_that_cannot_be_json_are_refused() {
        #[rustfmt::skip]
        let table = [
            (None, true), (Some(""), true), (Some("application/json"), true),
            (Some("Application/JSON; charset=utf-8"), true), (Some("application/ld+json"), true),
            (Some("text/plain"), true), (Some("application/octet-stream"), true),
            (Some("application/x-www-form-urlencoded"), true),
            (Some("text/csv"), true), (Some("Text/CSV; charset=utf-8; header=present"), true),
            (Some("text/html"), false), (Some("text/csvx"), false), (Some("multipart/form-data; boundary=x"), false),
            (Some("application/jsonp"), false),
        ];
        for (content_type, accepted) in table {
            assert_eq!(
                check_media_type(content_type, None).is_ok(),
                accepted,
                "{content_type:?}"
            );
        }
        assert!(check_media_type(Some("application/json"), Some("gzip")).is_err());
    }
}
