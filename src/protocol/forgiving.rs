//! JSON as clients really send it: with a byte order mark, and with the bare word `NaN`.

use super::instances::{copied_bytes, with_nulls, without_mark};
use crate::error::RequestError;
use crate::lanes::memory_budget::Charge;
use crate::models::Signature;

/// What a parser takes of memory for an object that it notes, at most.
const OBJECT_BYTES: usize = 256;

/// Why a body cannot be read, and whether it is not even JSON.
#[derive(Debug)]
pub(super) struct BodyFault {
    pub(super) error: RequestError,
    pub(super) is_syntax: bool,
}

impl From<RequestError> for BodyFault {
    fn from(error: RequestError) -> Self {
        BodyFault {
            error,
            is_syntax: false,
        }
    }
}

/// Reads a body with `read`. If it is not JSON and a feature may be missing, it is read once more
/// with `null` for each bare word `NaN`.
///
/// # Errors
///
/// What `read` says of the body as it came, or of the body with nulls.
pub(super) fn read<T>(
    body: &[u8],
    signature: &Signature,
    charge: &mut Charge,
    read: impl Fn(&[u8], &mut Charge) -> Result<T, BodyFault>,
) -> Result<T, RequestError> {
    let body = without_mark(body);
    charge.grow(copied_bytes(body))?;
    match read(body, charge) {
        Err(fault) if fault.is_syntax && may_be_missing(signature) => {
            let Some(nulls) = with_nulls(body) else {
                return Err(fault.error);
            };
            charge.grow(nulls.len())?;
            read(&nulls, charge).map_err(|fault| fault.error)
        }
        result => result.map_err(|fault| fault.error),
    }
}

/// Whether a row may lack a feature, so that `NaN` has a meaning.
fn may_be_missing(signature: &Signature) -> bool {
    let mut features = signature.features.iter();
    features.any(|feature| feature.may_be_missing)
}

/// Charges what the parser notes of a document whose large parts are skipped.
///
/// # Errors
///
/// The budget's own.
pub(super) fn charge_skipping(json: &[u8], charge: &mut Charge) -> Result<(), RequestError> {
    let (mut objects, mut lists) = (0_usize, 0_usize);
    for byte in json {
        objects += usize::from(*byte == b'{');
        lists += usize::from(*byte == b'[');
    }
    // The parser notes a byte for each list that it skips.
    charge.grow(objects.saturating_mul(OBJECT_BYTES).saturating_add(lists))
}
