//! The V1 protocol of TensorFlow Serving and KServe.

use super::envelope::one_field;
use super::instances::{ListForm, decode_columns, decode_list};
use super::list_answer::ListAnswer;
use super::paths::{self, Verb};
use super::{Asked, BodyHead, Dialect, ModelTarget, RowSpec, forgiving};
use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;

/// The fields that hold rows.
const ROWS: [&str; 2] = ["instances", "inputs"];

/// `POST /v1/models/MODEL[/versions/VERSION]:predict`.
#[derive(Debug, Clone, Copy)]
pub(super) struct PredictV1;

impl Dialect for PredictV1 {
    fn name(&self) -> &'static str {
        "v1"
    }

    fn target(&self, path: &str) -> Option<ModelTarget> {
        match paths::v1(path)? {
            (target, Verb::Infer) => Some(target),
            _ => None,
        }
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
            // TensorFlow Serving takes a table by columns in "inputs", and answers it otherwise.
            let by_columns = field == "inputs" && rows.get().starts_with('{');
            let rows = if by_columns {
                decode_columns(rows, field, row_spec, charge)?
            } else {
                let form = ListForm {
                    field,
                    columns: None,
                    values_in_lists: true,
                };
                decode_list(rows.get().as_bytes(), form, row_spec, charge)?
            };
            let answer = match by_columns {
                true => ListAnswer::Outputs,
                false => ListAnswer::Predictions,
            };
            Ok(Asked::new(rows, answer))
        })
    }
}
