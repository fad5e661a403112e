//! `/invocations`, as MLflow, SageMaker and Databricks use it.

use super::envelope::{fields, one_field};
use super::instances::csv::{decode_csv, has_header};
use super::instances::{
    ListForm, decode_columns, decode_lines, decode_list, decode_list_whole, decode_split,
};
use super::list_answer::ListAnswer;
use super::routes::{essence, quality};
use super::{Asked, BodyForm, BodyHead, Dialect, ModelTarget, RowSpec, echo, forgiving, npy};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::Rows;

/// The fields that hold rows.
const ROWS: [&str; 4] = [
    "dataframe_split",
    "dataframe_records",
    "instances",
    "inputs",
];

/// What a body is, by its media type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Csv,
    Lines,
    Npy,
}

/// The media types that are read.
const FORMS: [(&str, Form); 5] = [
    ("application/json", Form::Json),
    ("text/csv", Form::Csv),
    ("application/x-npy", Form::Npy),
    ("application/jsonlines", Form::Lines),
    ("application/x-ndjson", Form::Lines),
];

/// The media types of bodies that `/invocations` reads.
pub fn media_types() -> [&'static str; FORMS.len()] {
    FORMS.map(|(name, _)| name)
}

/// `POST /invocations`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Invocations;

impl Dialect for Invocations {
    fn name(&self) -> &'static str {
        "invocations"
    }

    fn target(&self, path: &str) -> Option<ModelTarget> {
        (path == "/invocations").then(ModelTarget::default)
    }

    fn check_head(&self, head: &BodyHead) -> Result<(), RequestError> {
        super::unpack::check(head)?;
        form(head).map(|_| ())
    }

    fn form(&self, head: &BodyHead) -> BodyForm {
        match form(head) {
            Ok(Form::Csv) => BodyForm::Csv,
            Ok(Form::Npy) => BodyForm::Binary,
            Ok(Form::Json | Form::Lines) | Err(_) => BodyForm::Json,
        }
    }

    fn decode(
        &self,
        head: &BodyHead,
        body: &[u8],
        row_spec: RowSpec<'_>,
        charge: &mut Charge,
    ) -> Result<Asked, RequestError> {
        let (rows, usual) = match form(head)? {
            Form::Json => decode_json(body, row_spec, charge)?,
            Form::Csv => {
                let has_header = has_header(body, row_spec.signature, charge)?;
                let rows = decode_csv(
                    body,
                    has_header,
                    row_spec.signature,
                    row_spec.rows_max,
                    charge,
                )?;
                let usual = match has_header {
                    true => ListAnswer::Predictions,
                    // SageMaker's clients without a header expect none back.
                    false => ListAnswer::Csv,
                };
                (rows, usual)
            }
            Form::Lines => {
                let rows = forgiving::read(body, row_spec.signature, charge, |body, charge| {
                    decode_lines(body, row_spec, charge)
                })?;
                (rows, ListAnswer::Predictions)
            }
            Form::Npy => (
                npy::decode(body, row_spec, charge)?,
                ListAnswer::Predictions,
            ),
        };
        Ok(Asked::new(rows, answer_form(head.accept.as_deref(), usual)))
    }

    /// MLflow's clients read `error_code` and `message`.
    fn error(&self, error: &RequestError, request_id: &str, status: u16) -> Vec<u8> {
        let code = match status {
            404 => "RESOURCE_DOES_NOT_EXIST",
            429 => "RESOURCE_EXHAUSTED",
            503 => "TEMPORARILY_UNAVAILABLE",
            504 => "DEADLINE_EXCEEDED",
            400..500 => "BAD_REQUEST",
            _ => "INTERNAL_ERROR",
        };
        super::error_json(
            error,
            request_id,
            &[("error_code", code), ("message", &error.text)],
        )
    }
}

/// What a body is. Parameters that do not change its meaning are ignored.
fn form(head: &BodyHead) -> Result<Form, RequestError> {
    let Some(value) = head.content_type.as_deref() else {
        return Ok(Form::Json);
    };
    let refuse = |text: String| Err(RequestError::new(Code::UnsupportedMediaType, text));
    let essence = essence(value);
    let found = FORMS
        .iter()
        .find(|(name, _)| essence.eq_ignore_ascii_case(name));
    let Some((_, form)) = found else {
        let names = media_types().join(", ");
        return refuse(format!(
            "a body of {} is not read: send one of {names}",
            echo(essence)
        ));
    };
    for parameter in value.split(';').skip(1) {
        let (name, value) = parameter.trim().split_once('=').unwrap_or((parameter, ""));
        let value = value.trim_matches('"');
        if name.eq_ignore_ascii_case("charset") && !value.eq_ignore_ascii_case("utf-8") {
            return refuse(format!(
                "the charset {} is not read: send UTF-8",
                echo(value)
            ));
        }
        if name.eq_ignore_ascii_case("format") {
            return refuse(
                "the parameter format= of MLflow 1 is not read: send {\"dataframe_split\": …} or {\"dataframe_records\": …} as application/json"
                    .to_owned(),
            );
        }
    }
    Ok(*form)
}

fn decode_json(
    body: &[u8],
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<(Rows, ListAnswer), RequestError> {
    forgiving::read(body, row_spec.signature, charge, |body, charge| {
        let start = body.trim_ascii_start();
        if start.starts_with(b"[") {
            let form = ListForm {
                field: "body",
                ..ListForm::default()
            };
            let rows = decode_list_whole(body, form, row_spec, charge)?;
            return Ok((rows, ListAnswer::Bare));
        }
        let (field, piece) = one_field(body, &ROWS, charge)?;
        let json = piece.get().as_bytes();
        let rows = if field == "dataframe_split" {
            let split = fields(json, &["columns", "data", "index"], charge)?;
            decode_split(&split, field, row_spec, charge)?
        } else if json.starts_with(b"{") && field != "dataframe_records" {
            decode_columns(piece, field, row_spec, charge)?
        } else {
            let form = ListForm {
                field,
                ..ListForm::default()
            };
            decode_list(json, form, row_spec, charge)?
        };
        Ok((rows, ListAnswer::Predictions))
    })
}

/// How an answer is written: as the client prefers, otherwise as is usual.
fn answer_form(accept: Option<&str>, usual: ListAnswer) -> ListAnswer {
    let json = match usual {
        ListAnswer::Bare => ListAnswer::Bare,
        _ => ListAnswer::Predictions,
    };
    let known = [
        ("application/json", json),
        ("text/csv", ListAnswer::Csv),
        ("application/x-npy", ListAnswer::Npy),
        ("application/jsonlines", ListAnswer::Lines),
        ("application/x-ndjson", ListAnswer::Lines),
    ];
    let (mut best, mut chosen) = (0.0, usual);
    for (media_type, form) in known {
        let quality = quality(accept, media_type);
        // Among equals, what is usual wins, and then the first.
        if quality > best || quality == best && quality > 0.0 && form == usual {
            (best, chosen) = (quality, form);
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_has_the_code_that_mlflow_has_for_its_status() {
        for (code, status, expected) in [
            (Code::InvalidInput, 400, "BAD_REQUEST"),
            (Code::ContentTooLarge, 413, "BAD_REQUEST"),
            (Code::NotFound, 404, "RESOURCE_DOES_NOT_EXIST"),
            (Code::Overloaded, 429, "RESOURCE_EXHAUSTED"),
            (Code::Overloaded, 503, "TEMPORARILY_UNAVAILABLE"),
            (Code::Loading, 503, "TEMPORARILY_UNAVAILABLE"),
            (Code::DeadlineExceeded, 504, "DEADLINE_EXCEEDED"),
            (Code::PredictionFailed, 500, "INTERNAL_ERROR"),
        ] {
            let error = RequestError::new(code, "a \"text\"");
            let json = Invocations.error(&error, "id", status);
            let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
            assert_eq!(json["error_code"], expected, "{code:?} {status}");
            assert_eq!(json["message"], "a \"text\"");
            assert_eq!(json["error"], "a \"text\"");
            assert_eq!(json["code"], code.as_str());
            assert_eq!(json["request_id"], "id");
        }
    }

    #[test]
    fn an_answer_is_written_as_the_client_prefers() {
        use ListAnswer::{Bare, Csv, Lines, Npy, Predictions};
        #[rustfmt::skip]
        let table = [
            (None, Predictions, Predictions),
            (Some("*/*"), Csv, Csv),
            (Some("application/json"), Csv, Predictions),
            (Some("application/json"), Bare, Bare),
            (Some("text/csv"), Bare, Csv),
            (Some("application/json;q=0.1, text/csv;q=0.9"), Predictions, Csv),
            (Some("application/json, text/csv"), Csv, Csv),
            (Some("application/json, text/csv"), Predictions, Predictions),
            (Some("application/x-npy, application/json"), Predictions, Predictions),
            (Some("application/x-npy"), Predictions, Npy),
            (Some("application/x-ndjson"), Predictions, Lines),
            (Some("text/html"), Predictions, Predictions),
        ];
        for (accept, usual, expected) in table {
            assert_eq!(answer_form(accept, usual), expected, "{accept:?}");
        }
    }
}
