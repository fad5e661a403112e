//! CSV → one flat matrix, and a model's output → CSV: the second dialect of `/predict`, and the first
//! of `lanekeeper predict`.
//!
//! A body has a header that names the features, in any order and beside any others. An answer has
//! the column `prediction` and, where there are probabilities, `probability_LABEL` for each class.
//! Numbers are written as in JSON, so that both dialects re-read as the same bits.

use std::borrow::Cow;
use std::io::{self, Write};

use csv::StringRecord;

use super::blame;
use super::encode::EncodeError;
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Output, PredictError, Rows, Signature};
use crate::train::table::TableReader;

/// A line longer than this may be copied while it is read.
const LONG_LINE_BYTES: usize = 64 << 10;

/// A row of more cells than this counts for the budget.
const MANY_CELLS: usize = 4096;

/// Bytes to know where a cell ends, as they grow by doubling.
const CELL_BYTES: usize = 2 * size_of::<usize>();

/// Decodes a CSV body into rows of the signature's width, all of them finite; their memory is charged to
/// `charge`.
///
/// # Errors
/// 400 with line and column for what is no table of these features, 413 for more than `rows_max`
/// rows, 503 where others hold the memory budget, 413 where it is too small.
pub fn decode_csv(
    body: &[u8],
    signature: &Signature,
    rows_max: usize,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let invalid = |text: String| RequestError::new(Code::InvalidInput, text);
    if let Some(what) = blame::emptiness(body) {
        return Err(invalid(format!(
            "{what}: the body has no header, and its first line must name the columns"
        )));
    }
    charge.grow(copied_bytes(body))?;
    let mut table = TableReader::new("the body", Box::new(body), b',').map_err(invalid)?;
    let columns = table.find(&signature.features).map_err(invalid)?;
    let mut record = StringRecord::new();
    let mut values: Vec<f64> = Vec::new();
    let mut rows = 0;
    while table.next(&mut record).map_err(invalid)? {
        rows += 1;
        if rows > rows_max {
            let text = format!(
                "a request may hold {rows_max} instances (--max-rows); send fewer at a time"
            );
            return Err(RequestError::new(Code::ContentTooLarge, text));
        }
        charge.reserve(&mut values, columns.len(), usize::MAX)?;
        for column in &columns {
            values.push(table.number(&record, column).map_err(invalid)?);
        }
    }
    Rows::new(values, columns.len())
        .filter(|rows| !rows.is_empty())
        .ok_or_else(|| invalid("the body has a header, but no rows".to_owned()))
}

/// What the reader may keep of a body while it reads it: a whole row, where each of its cells ends,
/// and each cell again. In a body of honest width, that is nothing.
fn copied_bytes(body: &[u8]) -> usize {
    let has_long_line = body
        .chunks_exact(LONG_LINE_BYTES)
        .any(|piece| !piece.contains(&b'\n'));
    let commas = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b',').count();
    // Between quotes a line's end is part of a cell, so that a row may be the whole body.
    let cells = if body.contains(&b'"') {
        commas(body)
    } else {
        let lines = body.split(|byte| *byte == b'\n');
        lines.map(commas).max().unwrap_or(0)
    };
    let copies = if has_long_line {
        body.len().saturating_mul(3)
    } else {
        0
    };
    let ends = if cells > MANY_CELLS {
        cells.saturating_mul(CELL_BYTES)
    } else {
        0
    };
    copies.saturating_add(ends)
}

/// The columns of an answer.
pub fn columns(signature: &Signature, has_probabilities: bool) -> Vec<String> {
    let mut columns = vec!["prediction".to_owned()];
    if has_probabilities {
        let classes = signature.classes.iter();
        columns.extend(classes.map(|label| format!("probability_{label}")));
    }
    columns
}

/// The cells of one row of an answer that `predict` has checked.
///
/// # Errors
/// Where a number is not finite.
pub fn cells<'a>(
    signature: &'a Signature,
    output: &Output,
    row: usize,
) -> Result<Vec<Cow<'a, str>>, PredictError> {
    match output {
        Output::Numbers(numbers) => {
            let number = numbers.get(row).copied().unwrap_or(f64::NAN);
            Ok(vec![finite(number, row)?.into()])
        }
        Output::Classes {
            indices,
            probabilities,
        } => {
            let label = indices
                .get(row)
                .and_then(|index| signature.classes.get(*index as usize))
                .ok_or_else(|| PredictError(format!("the class of row {row} has no label")))?;
            let mut cells = vec![Cow::Borrowed(label.as_str())];
            let classes = signature.classes.len();
            if let Some(shares) = probabilities {
                for share in shares.iter().skip(row * classes).take(classes) {
                    cells.push(finite(*share, row)?.into());
                }
            }
            Ok(cells)
        }
    }
}

fn finite(number: f64, row: usize) -> Result<String, PredictError> {
    if !number.is_finite() {
        return Err(PredictError(format!(
            "it gave {number} for row {row}, which is no finite number"
        )));
    }
    serde_json::to_string(&number).map_err(|error| PredictError(error.to_string()))
}

/// Encodes an output of `rows` rows that `predict` has checked as CSV. What the answer takes is
/// charged to `charge` before it is taken.
///
/// # Errors
/// Where a number is not finite, or the budget is spent.
pub fn encode_csv(
    signature: &Signature,
    output: &Output,
    rows: usize,
    charge: &mut Charge,
) -> Result<Vec<u8>, EncodeError> {
    let has_probabilities = has_probabilities(output);
    let mut charged = Charged {
        bytes: Vec::new(),
        charge,
        refusal: None,
    };
    let mut failure = None;
    {
        let mut writer = csv::Writer::from_writer(&mut charged);
        let mut write = || -> Result<(), csv::Error> {
            writer.write_record(columns(signature, has_probabilities))?;
            for row in 0..rows {
                match cells(signature, output, row) {
                    Ok(cells) => writer.write_record(cells.iter().map(|cell| cell.as_bytes()))?,
                    Err(error) => {
                        failure = Some(error);
                        return Ok(());
                    }
                }
            }
            writer.flush().map_err(csv::Error::from)
        };
        if let Err(error) = write() {
            failure = failure.or_else(|| Some(PredictError(error.to_string())));
        }
    }
    // The refusal is the reason for whatever the writer said.
    match (charged.refusal, failure) {
        (Some(refusal), _) => Err(EncodeError::Budget(refusal)),
        (None, Some(failure)) => Err(EncodeError::Output(failure)),
        (None, None) => Ok(charged.bytes),
    }
}

/// Whether an output has probabilities.
pub fn has_probabilities(output: &Output) -> bool {
    matches!(
        output,
        Output::Classes {
            probabilities: Some(_),
            ..
        }
    )
}

/// A buffer that asks the budget before it grows.
struct Charged<'a> {
    bytes: Vec<u8>,
    charge: &'a mut Charge,
    refusal: Option<RequestError>,
}

impl Write for Charged<'_> {
    fn write(&mut self, more: &[u8]) -> io::Result<usize> {
        let reserved = self.charge.reserve(&mut self.bytes, more.len(), usize::MAX);
        if let Err(refusal) = reserved {
            self.refusal = Some(refusal);
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        self.bytes.extend_from_slice(more);
        Ok(more.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lanes::memory_budget::Budget;
    use std::sync::Arc;

    fn signature(classes: &[&str]) -> Signature {
        Signature {
            name: "m".to_owned(),
            algorithm: "a".to_owned(),
            features: vec!["x".to_owned(), "y".to_owned()],
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        }
    }

    fn budget(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget::new(bytes, 1))
    }

    fn decode(body: &str, rows_max: usize) -> Result<Rows, RequestError> {
        let mut charge = Charge::new(&budget(1 << 20));
        decode_csv(body.as_bytes(), &signature(&[]), rows_max, &mut charge)
    }

    #[test]
    fn a_body_is_read_by_its_header_or_refused_with_the_place() {
        let rows = decode("y,note,x\r\n2,a,1\r\n4,\"b,c\",3\r\n", 9).unwrap();
        assert_eq!(rows.values(), [1.0, 2.0, 3.0, 4.0]);
        #[rustfmt::skip]
        let wrong = [
            ("", Code::InvalidInput, "the body is empty: the body has no header"),
            ("\u{feff}\r\n", Code::InvalidInput, "the body holds nothing but blanks"),
            (",\n", Code::InvalidInput, "the body has no header"),
            ("x,y\n", Code::InvalidInput, "no rows"),
            ("1,2\n3,4\n", Code::InvalidInput, "the body, line 1: there is no column \"x\"; there are 1, 2"),
            ("x,y\n1,\n", Code::InvalidInput, "the body, line 2, column \"y\": the cell is empty"),
            ("x,y\n1,2\n1,NaN\n", Code::InvalidInput, "the body, line 3, column \"y\": the cell is NaN"),
            ("x,y\n1,2\n1,2\n1,2\n1,2\n", Code::ContentTooLarge, "3 instances (--max-rows)"),
        ];
        for (body, code, expected) in wrong {
            let error = decode(body, 3).unwrap_err();
            assert_eq!(error.code, code, "{body:?}");
            assert!(error.text.contains(expected), "{body:?}: {}", error.text);
        }
    }

    #[test]
    fn an_answer_has_a_column_for_each_class_where_there_are_probabilities() {
        let signature = signature(&["a", "b,\"c\""]);
        let output = Output::Classes {
            indices: vec![1, 0],
            probabilities: Some(vec![0.1, 0.9, 1.0, 0.0]),
        };
        let budget = budget(1 << 20);
        let csv = encode_csv(&signature, &output, 2, &mut Charge::new(&budget)).unwrap();
        assert_eq!(
            String::from_utf8(csv).unwrap(),
            "prediction,probability_a,\"probability_b,\"\"c\"\"\"\n\"b,\"\"c\"\"\",0.1,0.9\na,1.0,0.0\n"
        );
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn numbers_read_again_as_the_same_bits_and_others_are_told() {
        let signature = signature(&[]);
        let numbers = vec![0.1 + 0.2, -0.0, 5e-324, f64::MAX];
        let output = Output::Numbers(numbers.clone());
        let mut charge = Charge::new(&budget(1 << 20));
        let csv =
            String::from_utf8(encode_csv(&signature, &output, 4, &mut charge).unwrap()).unwrap();
        let read: Vec<u64> = csv
            .lines()
            .skip(1)
            .map(|line| line.parse::<f64>().unwrap().to_bits())
            .collect();
        let bits: Vec<u64> = numbers.iter().map(|number| number.to_bits()).collect();
        assert_eq!(read, bits);
        let output = Output::Numbers(vec![f64::NAN]);
        let error = encode_csv(&signature, &output, 1, &mut charge).unwrap_err();
        assert!(matches!(error, EncodeError::Output(_)), "{error:?}");
    }

    #[test]
    fn what_a_budget_does_not_allow_is_refused() {
        let output = Output::Numbers(vec![0.125; 100_000]);
        let budget = budget(150_000);
        let mut charge = Charge::new(&budget);
        let error = encode_csv(&signature(&[]), &output, 100_000, &mut charge).unwrap_err();
        assert!(matches!(error, EncodeError::Budget(_)), "{error:?}");
        drop(charge);
        let body = format!("x,y\n{}", "1,2\n".repeat(100_000));
        let mut charge = Charge::new(&budget);
        let error = decode_csv(body.as_bytes(), &signature(&[]), 1 << 20, &mut charge).unwrap_err();
        assert_eq!(error.code, Code::ContentTooLarge);
        let long = format!("x,y\n1,{}\n", "2".repeat(300_000));
        let error = decode_csv(long.as_bytes(), &signature(&[]), 9, &mut charge).unwrap_err();
        assert_eq!(error.code, Code::ContentTooLarge);
        for wide in [
            ",".repeat(20_000),
            format!("\"\n\"{}", ",\n".repeat(20_000)),
        ] {
            let error = decode_csv(wide.as_bytes(), &signature(&[]), 9, &mut charge).unwrap_err();
            assert_eq!(error.code, Code::ContentTooLarge);
        }
    }
}
