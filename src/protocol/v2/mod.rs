//! The Open Inference Protocol V2 over REST, with binary tensors, as Triton, KServe and MLServer speak
//! it.

mod answer;
mod document;
mod request;
mod rows;
mod tensor;
mod values;

pub use self::answer::{described, output_names};
pub(in crate::protocol) use self::request::tensor_rows;
pub use self::tensor::datatypes;

use super::paths::{self, Verb};
use super::{Asked, BodyForm, BodyHead, Dialect, ModelTarget, RowSpec};
use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;

/// `POST /v2/models/MODEL[/versions/VERSION]/infer`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Infer;

impl Dialect for Infer {
    fn name(&self) -> &'static str {
        "v2"
    }

    fn target(&self, path: &str) -> Option<ModelTarget> {
        match paths::v2(path)? {
            (target, Verb::Infer) => Some(target),
            _ => None,
        }
    }

    fn form(&self, head: &BodyHead) -> BodyForm {
        match &head.json_length {
            Some(_) => BodyForm::Binary,
            None => BodyForm::JsonTensors,
        }
    }

    fn decode(
        &self,
        head: &BodyHead,
        body: &[u8],
        row_spec: RowSpec<'_>,
        charge: &mut Charge,
    ) -> Result<Asked, RequestError> {
        let decoded = request::decode(body, head.json_length.as_deref(), row_spec, charge)?;
        Ok(Asked {
            rows: decoded.rows,
            raw: false,
            timeout: decoded.timeout,
            encoder: Box::new(decoded.wanted),
        })
    }
}

#[cfg(test)]
mod tests;
