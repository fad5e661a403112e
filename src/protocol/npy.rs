//! NumPy's array files (NEP 1): rows in, one array out. Nothing pickled is read.

use super::answer_writer::AnswerWriter;
use super::list_answer::Values;
use super::{EncodeError, Payload, Predicted, RowSpec, echo};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::forest::Precision;
use crate::models::{PredictError, Rows, is_whole};
use crate::protocol::v2;

const MAGIC: &[u8] = b"\x93NUMPY";

/// The types that are read, and what V2 calls them.
const TYPES: [(&str, &str); 4] = [
    ("<f8", "FP64"),
    ("<f4", "FP32"),
    ("<i8", "INT64"),
    ("<i4", "INT32"),
];

/// A header is padded to a multiple of this.
const ALIGNMENT: usize = 64;

/// Decodes an array of rows, or one row.
///
/// # Errors
///
/// 400 for anything else, 413 for too many rows, and the budget's own.
pub(super) fn decode(
    body: &[u8],
    row_spec: RowSpec<'_>,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let invalid = |text: String| RequestError::new(Code::InvalidInput, text);
    let broken =
        || invalid("the body is no array that numpy.save wrote, or it is cut off".to_owned());
    let rest = body.strip_prefix(MAGIC).ok_or_else(broken)?;
    let (length, rest) = match rest {
        [1, _, low, high, rest @ ..] => (usize::from(u16::from_le_bytes([*low, *high])), rest),
        [2 | 3, _, a, b, c, d, rest @ ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            (usize::try_from(length).unwrap_or(usize::MAX), rest)
        }
        _ => return Err(broken()),
    };
    let (header, data) = rest.split_at_checked(length).ok_or_else(broken)?;
    let header = std::str::from_utf8(header).map_err(|_| broken())?;
    let (descr, in_columns, sizes) = read_header(header).ok_or_else(broken)?;
    let datatype = TYPES.iter().find(|(own, _)| *own == descr);
    let (_, datatype) = datatype.ok_or_else(|| {
        let names = TYPES.map(|(name, _)| name).join(", ");
        invalid(format!(
            "an array of {} is not read: its dtype must be one of {names}",
            echo(descr)
        ))
    })?;
    if in_columns && sizes.len() > 1 {
        return Err(invalid(
            "an array in Fortran's order is not read: send numpy.ascontiguousarray(array)"
                .to_owned(),
        ));
    }
    if sizes.contains(&0) {
        return Err(invalid(
            "the array is empty: at least one row is needed".to_owned(),
        ));
    }
    v2::tensor_rows(datatype, &sizes, data, row_spec, charge)
}

/// Reads the header's dictionary: the type, whether columns come first, and the shape.
fn read_header(header: &str) -> Option<(&str, bool, Vec<u64>)> {
    let value = |key: &str| {
        let (_, rest) = header.split_once(key)?;
        Some(rest.trim_start().strip_prefix(':')?.trim_start())
    };
    let descr = value("'descr'")?.strip_prefix('\'')?;
    let (descr, _) = descr.split_once('\'')?;
    let order = value("'fortran_order'")?;
    let in_columns = match order.split([',', '}']).next()?.trim() {
        "True" => true,
        "False" => false,
        _ => return None,
    };
    let (shape, _) = value("'shape'")?.strip_prefix('(')?.split_once(')')?;
    let sizes = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty());
    let sizes: Option<Vec<u64>> = sizes.map(|size| size.parse().ok()).collect();
    // Rows of features have two dimensions.
    sizes
        .filter(|sizes| (1..=2).contains(&sizes.len()))
        .map(|sizes| (descr, in_columns, sizes))
}

/// Encodes an answer: labels as text or whole numbers, numbers in the model's precision.
///
/// # Errors
///
/// A number that is not finite, a class without a label, and the budget's own.
pub(super) fn encode(
    values: &Values<'_>,
    answer: &Predicted<'_>,
    charge: &mut Charge,
) -> Result<Payload, EncodeError> {
    let labels = answer.signature.output.labels();
    let mut out = AnswerWriter::new(charge, 2 * ALIGNMENT)?;
    match values {
        Values::Labels(indices) => {
            let label = |index: &u32| {
                let label = labels.get(*index as usize);
                label.ok_or_else(|| PredictError(format!("class {index} has no label")))
            };
            if labels.iter().all(|label| is_whole(label)) {
                put_header(&mut out, "<i8", &[indices.len()])?;
                out.reserve(indices.len() * 8)?;
                for index in *indices {
                    // A whole label is an i64.
                    let number: i64 = label(index)?.parse().unwrap_or_default();
                    out.put(number.to_le_bytes())?;
                }
            } else {
                let longest = labels.iter().map(|label| label.chars().count()).max();
                let longest = longest.unwrap_or(0).max(1);
                put_header(&mut out, &format!("<U{longest}"), &[indices.len()])?;
                out.reserve(indices.len().saturating_mul(longest * 4))?;
                for index in *indices {
                    let chars = label(index)?.chars().map(u32::from);
                    for code in chars.chain(std::iter::repeat(0)).take(longest) {
                        out.put(code.to_le_bytes())?;
                    }
                }
            }
        }
        Values::Numbers(numbers, width) => {
            if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
                let text = format!("it gave {number}, which is not finite");
                return Err(PredictError(text).into());
            }
            let (descr, bytes) = match answer.answer.precision {
                Precision::F32 => ("<f4", 4),
                Precision::F64 => ("<f8", 8),
            };
            match width {
                1 => put_header(&mut out, descr, &[numbers.len()])?,
                _ => put_header(&mut out, descr, &[answer.rows, *width])?,
            }
            out.reserve(numbers.len() * bytes)?;
            for number in numbers.iter() {
                match answer.answer.precision {
                    Precision::F32 => out.put((*number as f32).to_le_bytes())?,
                    Precision::F64 => out.put(number.to_le_bytes())?,
                }
            }
        }
    }
    let body = out.into_bytes().into();
    Ok(Payload::new(200, "application/x-npy", body))
}

fn put_header(out: &mut AnswerWriter<'_>, descr: &str, sizes: &[usize]) -> Result<(), EncodeError> {
    let shape: String = sizes.iter().map(|size| format!("{size}, ")).collect();
    let shape = match sizes {
        [_] => shape.trim_end(),
        _ => shape.trim_end_matches(", "),
    };
    let mut header =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let start = MAGIC.len() + 4;
    let padded = (start + header.len() + 1).next_multiple_of(ALIGNMENT);
    header.push_str(&" ".repeat(padded - start - header.len() - 1));
    header.push('\n');
    out.put(MAGIC)?;
    out.put([1, 0])?;
    // A type and a few sizes are far shorter than 64 KiB.
    out.put((header.len() as u16).to_le_bytes())?;
    out.put(header)
}
