//! `/score`, as clients of Azure Machine Learning use it.

use super::envelope::{fields, one_field};
use super::instances::{ListForm, decode_list, decode_split};
use super::list_answer::ListAnswer;
use super::{Asked, BodyHead, Dialect, ModelTarget, RowSpec, forgiving};
use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;

/// The fields that hold rows.
const ROWS: [&str; 2] = ["input_data", "data"];

/// `POST /score`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Score;

impl Dialect for Score {
    fn name(&self) -> &'static str {
        "score"
    }

    fn target(&self, path: &str) -> Option<ModelTarget> {
        (path == "/score").then(ModelTarget::default)
    }

    fn decode(
        &self,
        _head: &BodyHead,
        body: &[u8],
        row_spec: RowSpec<'_>,
        charge: &mut Charge,
    ) -> Result<Asked, RequestError> {
        forgiving::read(body, row_spec.signature, charge, |body, charge| {
            let (field, rows) = one_field(body, &ROWS, charge)?;
            let json = rows.get().as_bytes();
            let rows = if json.starts_with(b"{") {
                let split = fields(json, &["columns", "data", "index"], charge)?;
                decode_split(&split, field, row_spec, charge)?
            } else {
                let form = ListForm {
                    field,
                    ..ListForm::default()
                };
                decode_list(json, form, row_spec, charge)?
            };
            Ok(Asked::new(rows, ListAnswer::Bare))
        })
    }

    /// Azure's clients show `message`.
    fn error(&self, error: &RequestError, request_id: &str, _status: u16) -> Vec<u8> {
        super::error_json(error, request_id, &[("message", &error.text)])
    }
}
