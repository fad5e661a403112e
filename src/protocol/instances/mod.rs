//! `/predict` and the commands: from a body to rows, and from an output to an answer; knows models,
//! not sockets.
//!
//! Each dialect has its own files.

mod blame;
mod columns;
pub mod csv;
mod decode;
mod decoding;
mod encode;
mod list;
mod predict;
mod tokens;
mod value;

pub use blame::without_mark;
pub(super) use blame::{emptiness, not_json, with_nulls};
pub(super) use columns::{decode_columns, decode_split};
pub(super) use decode::copied_bytes;
pub use decode::{decode, decode_asked};
pub(super) use decoding::ListForm;
pub use encode::encode;
pub(super) use list::{decode_lines, decode_list, decode_list_whole};
pub use predict::Predict;
pub(super) use tokens::{IgnoredValue, Text};
pub use value::echo;
pub(super) use value::unexpected;

use crate::error::{Code, RequestError};
use crate::models::forest::FEATURES_MAX;
use crate::models::{Model, RowFault, Rows, Signature, compute};

/// Maximum number of columns of a table in a request, as many as a model may have features.
const COLUMNS_MAX: usize = FEATURES_MAX;

/// Bytes that a prediction needs beyond its decoded rows: the model's own copy of them, an index or
/// a number per row of output, and the probabilities of all classes.
pub fn working_bytes(signature: &Signature, rows: &Rows) -> usize {
    let output = size_of::<f64>() * signature.output.numbers_per_row();
    size_of_val(rows.values()).saturating_add(rows.len().saturating_mul(output))
}

/// Checks what the signature and the model need of their rows.
///
/// # Errors
///
/// 400 with the first value that does not fit, its place and what would be right.
pub fn check(model: &dyn Model, rows: &Rows) -> Result<(), RequestError> {
    let checked = compute::check(model, rows);
    checked.map_err(|fault| unfit(model.signature(), rows, &fault))
}

/// The refusal of a value that the model cannot take.
pub fn unfit(signature: &Signature, rows: &Rows, fault: &RowFault) -> RequestError {
    let text = format!(
        "instances[{}]: {}",
        fault.row,
        compute::fault_text(signature, rows, fault)
    );
    RequestError::new(Code::InvalidInput, text)
}
