//! CSV → one flat matrix, and a model's output → CSV: the second dialect of `/predict`, and the
//! first of `lanekeeper predict`.
//!
//! A body has a header with the features' names, in any order and beside any others. An answer has
//! the column `prediction` and, if there are probabilities, `probability_LABEL` for each class.
//! Numbers are written as in JSON, so that both dialects read back as the same bits.

use std::borrow::Cow;
use std::collections::HashSet;
use std::io::{self, Write};

use csv::StringRecord;

use super::{COLUMNS_MAX, blame};
use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::{Feature, FeatureKind, Output, OutputSpec, PredictError, Rows, Signature};
use crate::protocol::{EncodeError, Encoder, Payload, Predicted};
use crate::train::table::{RowReader, TableBlock, TableColumn, TableError, TableRow};

/// A line longer than this may be copied while it is read.
const LONG_LINE_BYTES: usize = 64 << 10;

/// A row with more cells than this counts towards the budget.
const MANY_CELLS: usize = 4096;

/// Bytes to store where a cell ends, as that list grows by doubling.
const CELL_BYTES: usize = 2 * size_of::<usize>();

/// Refuses a table whose first line has more columns than any model has features, before its cells are
/// looked at.
fn check_columns(body: &[u8]) -> Result<(), RequestError> {
    let mut columns = 1;
    for byte in body {
        match byte {
            b'\n' => break,
            b',' => columns += 1,
            _ => {}
        }
        if columns > COLUMNS_MAX {
            return Err(RequestError::new(
                Code::InvalidInput,
                format!(
                    "a table may have at most {COLUMNS_MAX} columns, but the body's first line has more"
                ),
            ));
        }
    }
    Ok(())
}

/// An answer as a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct CsvAnswer {
    /// Whether the sums are asked for.
    pub(super) raw: bool,
}

impl Encoder for CsvAnswer {
    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError> {
        let answer = Predicted {
            raw: answer.raw.filter(|_| self.raw),
            ..*answer
        };
        encode_csv(&answer, charge).map(Payload::csv)
    }
}

/// Whether the first line of a CSV body names the columns: it has a feature's name, or a cell that can
/// be no value of the feature in its place.
///
/// # Errors
///
/// The budget's own.
pub(in crate::protocol) fn has_header(
    body: &[u8],
    signature: &Signature,
    charge: &mut Charge,
) -> Result<bool, RequestError> {
    check_columns(body)?;
    let body = blame::without_mark(body);
    let line = body.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Ok(text) = std::str::from_utf8(line)
        && !text.contains('"')
    {
        // A reader takes longer to set up than most rows to decode.
        let is_empty = text.trim_end_matches('\r').is_empty();
        return Ok(is_empty || names_columns(|| text.split(',').map(str::trim), signature));
    }
    // What the line takes beside itself, as the list of its cells grows by doubling.
    charge.grow(line.len().saturating_mul(1 + CELL_BYTES))?;
    let mut first = StringRecord::new();
    let mut reader = csv::ReaderBuilder::new();
    reader.has_headers(false).flexible(true);
    let is_there = reader.from_reader(line).read_record(&mut first);
    let is_there = is_there.is_ok_and(|is_there| is_there);
    Ok(!is_there || names_columns(|| first.iter().map(str::trim), signature))
}

/// Whether cells name the columns.
fn names_columns<'a, I: Iterator<Item = &'a str>>(
    cells: impl Fn() -> I,
    signature: &Signature,
) -> bool {
    let takes_text = |place: usize| {
        let feature = signature.features.get(place);
        feature.is_some_and(|feature| feature.kind.takes_text())
    };
    let is_text =
        |cell: &str| !cell.is_empty() && truth(cell).is_none() && cell.parse::<f64>().is_err();
    let mut places = cells().enumerate();
    if places.any(|(place, cell)| is_text(cell) && !takes_text(place)) {
        return true;
    }
    // Most tables without a header are nothing but numbers.
    let names: HashSet<&str> = match cells().any(is_text) {
        true => signature.names().collect(),
        false => HashSet::new(),
    };
    let has_name = cells().any(|cell| is_text(cell) && names.contains(cell));
    // Features may be called 0, 1, …; all of them in order are no row.
    has_name || cells().eq(signature.names())
}

/// Decodes a CSV body into rows of the signature's width, all finite; their memory is charged to
/// `charge`. Without a header, the cells of a row are the features in order.
///
/// # Errors
///
/// 400 with line and column for a table without these features or with bad cells, 413 for more than
/// `rows_max` rows, 503 while others hold the memory budget, 413 if it is too small.
pub(in crate::protocol) fn decode_csv(
    body: &[u8],
    has_header: bool,
    signature: &Signature,
    rows_max: usize,
    charge: &mut Charge,
) -> Result<Rows, RequestError> {
    let refuse = |text: String| RequestError::new(Code::InvalidInput, text);
    let invalid = |error: TableError| refuse(error.to_string());
    if let Some(what) = blame::emptiness(body) {
        return Err(refuse(format!(
            "{what}: the body has no header, and its first line must name the columns"
        )));
    }
    check_columns(body)?;
    charge.grow(copied_bytes(body))?;
    let (name, block) = ("the body", TableBlock::whole(blame::without_mark(body)));
    let mut table = match has_header {
        true => RowReader::with_header(name, block, b',').map_err(invalid)?,
        false => {
            let names = signature.names().map(str::to_owned);
            RowReader::without_header(name, block, b',', names.collect())
        }
    };
    let columns = table.layout().find(&signature.features).map_err(invalid)?;
    let mut values: Vec<f64> = Vec::new();
    let mut rows = 0;
    while let Some(row) = table.next_row().map_err(invalid)? {
        row.check().map_err(invalid)?;
        rows += 1;
        if rows > rows_max {
            let text = format!(
                "a request may hold {rows_max} instances (--max-rows); send fewer at a time"
            );
            return Err(RequestError::new(Code::ContentTooLarge, text));
        }
        charge.reserve(&mut values, columns.len(), usize::MAX)?;
        for (column, feature) in columns.iter().zip(&signature.features) {
            let value = read_value(row, column, feature);
            values.push(value.map_err(invalid)?);
        }
    }
    Rows::new(values, columns.len())
        .filter(|rows| !rows.is_empty())
        .ok_or_else(|| refuse("the body has a header, but no rows".to_owned()))
}

/// The number of a truth value, as pandas and JSON write it.
fn truth(text: &str) -> Option<f64> {
    match text {
        "True" | "true" => Some(1.0),
        "False" | "false" => Some(0.0),
        _ => None,
    }
}

/// Reads a cell as a value of its feature: an empty cell and a word for a missing value are missing,
/// if the feature may be, and a category's label becomes its code.
///
/// # Errors
///
/// What it is instead, with its place.
pub fn read_value(
    row: TableRow<'_>,
    column: &TableColumn,
    feature: &Feature,
) -> Result<f64, TableError> {
    let text = row.get(column);
    if let Some(number) = feature.plain_number(text) {
        return Ok(number);
    }
    let text = text.trim();
    let truth = truth(text);
    let number = truth.or_else(|| feature.number(text));
    // A word such as NA may be a label, and one such as -99 a number.
    let is_missing = feature.counts_as_missing(text) && !feature.kind.has_label(text);
    if feature.may_be_missing && (is_missing || number.is_some_and(f64::is_nan)) {
        return Ok(f64::NAN);
    }
    let is_category = matches!(feature.kind, FeatureKind::Category { .. });
    if is_missing && !text.is_empty() && !is_category {
        return Err(TableError(format!(
            "{} is {}, but the model takes no missing value there; fill it in, or leave the row out",
            row.place_of(column),
            crate::train::table::echo(text)
        )));
    }
    if !feature.kind.takes_text() {
        let usable =
            |number: &f64| number.is_finite() || (number.is_infinite() && feature.may_be_infinite);
        return match number.filter(usable) {
            Some(number) => Ok(number),
            None => row.number(column),
        };
    }
    let label = row.text(column)?;
    let code = feature.kind.code(label).filter(|code| !code.is_nan());
    let code = code.or_else(|| match number {
        Some(number) => feature.kind.code_of_number(number),
        None => feature.kind.code(label),
    });
    code.ok_or_else(|| {
        TableError(format!(
            "{} is {}, but must be {}",
            row.place_of(column),
            crate::train::table::echo(label),
            feature.kind.must_be()
        ))
    })
}

/// What the reader may copy of a body: a whole row, where each of its cells ends, and each cell
/// again. In a body of normal width, that is nothing.
fn copied_bytes(body: &[u8]) -> usize {
    let has_long_line = body
        .chunks_exact(LONG_LINE_BYTES)
        .any(|piece| !piece.contains(&b'\n'));
    let commas = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b',').count();
    // Between quotes a line end is part of a cell, so a row may be the whole body.
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
pub fn columns(output: &OutputSpec) -> Vec<String> {
    let one = || "prediction".to_owned();
    match output {
        OutputSpec::Numbers { width: 0 | 1 } => vec![one()],
        OutputSpec::Numbers { width } => (0..*width)
            .map(|index| format!("prediction_{index}"))
            .collect(),
        OutputSpec::Classes {
            labels,
            has_probabilities,
        } => {
            let shares = labels.iter().filter(|_| *has_probabilities);
            let shares = shares.map(|label| format!("probability_{label}"));
            std::iter::once(one()).chain(shares).collect()
        }
    }
}

/// The cells of one row of an answer that was checked against its signature.
///
/// # Errors
///
/// A number is not finite.
pub fn cells<'a>(
    spec: &'a OutputSpec,
    output: &Output,
    row: usize,
) -> Result<Vec<Cow<'a, str>>, PredictError> {
    match output {
        Output::Numbers(numbers) => {
            let width = spec.numbers_per_row();
            let numbers = numbers.iter().skip(row * width).take(width);
            numbers
                .map(|number| Ok(finite(*number, row)?.into()))
                .collect()
        }
        Output::Classes {
            indices,
            probabilities,
        } => {
            let labels = spec.labels();
            let label = indices
                .get(row)
                .and_then(|index| labels.get(*index as usize))
                .ok_or_else(|| PredictError(format!("the class of row {row} has no label")))?;
            let mut cells = vec![Cow::Borrowed(label.as_str())];
            if let Some(shares) = probabilities {
                for share in shares.iter().skip(row * labels.len()).take(labels.len()) {
                    cells.push(finite(*share, row)?.into());
                }
            }
            Ok(cells)
        }
    }
}

/// The columns of a model's sums: `raw`, or one for each output.
pub fn raw_columns(width: usize) -> Vec<String> {
    match width {
        0 => Vec::new(),
        1 => vec!["raw".to_owned()],
        width => (0..width).map(|output| format!("raw_{output}")).collect(),
    }
}

/// The sums of one row.
///
/// # Errors
///
/// A number is not finite.
pub fn raw_cells(raw: &[f64], rows: usize, row: usize) -> Result<Vec<String>, PredictError> {
    let width = raw.len() / rows.max(1);
    let own = raw.iter().skip(row * width).take(width);
    own.map(|number| finite(*number, row)).collect()
}

fn finite(number: f64, row: usize) -> Result<String, PredictError> {
    if !number.is_finite() {
        return Err(PredictError(format!(
            "it gave {number} for row {row}, which is not finite"
        )));
    }
    serde_json::to_string(&number).map_err(|error| PredictError(error.to_string()))
}

/// Encodes an answer as CSV. Its memory is charged to `charge` before it is taken.
///
/// # Errors
///
/// A number is not finite, or the budget is spent.
fn encode_csv(answer: &Predicted<'_>, charge: &mut Charge) -> Result<Vec<u8>, EncodeError> {
    let spec = &answer.signature.output;
    let mut charged = Charged {
        bytes: Vec::new(),
        charge,
        refusal: None,
    };
    let mut failure = None;
    {
        let mut writer = csv::Writer::from_writer(&mut charged);
        let mut write = || -> Result<(), csv::Error> {
            let mut head = columns(spec);
            let raw = answer.raw.unwrap_or_default();
            head.extend(raw_columns(raw.len() / answer.rows.max(1)));
            writer.write_record(head)?;
            for row in 0..answer.rows {
                let cells = cells(spec, answer.output, row).and_then(|mut cells| {
                    cells.extend(
                        raw_cells(raw, answer.rows, row)?
                            .into_iter()
                            .map(Cow::Owned),
                    );
                    Ok(cells)
                });
                match cells {
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
    // The writer failed because of this refusal.
    match (charged.refusal, failure) {
        (Some(refusal), _) => Err(EncodeError::Budget(refusal)),
        (None, Some(failure)) => Err(EncodeError::Output(failure)),
        (None, None) => Ok(charged.bytes),
    }
}

/// A buffer that charges the budget before it grows.
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
    use crate::models::cells::Written;
    use crate::models::moments::MomentOrder;
    use crate::models::signature::Unseen;
    use crate::models::{AnswerSpec, JsonLabels};
    use std::sync::Arc;

    fn signature(classes: &[&str]) -> Signature {
        let output = match classes {
            [] => OutputSpec::Numbers { width: 1 },
            _ => OutputSpec::Classes {
                labels: classes.iter().map(|class| (*class).to_owned()).collect(),
                has_probabilities: true,
            },
        };
        Signature::of_numbers(vec!["x".to_owned(), "y".to_owned()], output)
    }

    fn encode(
        signature: &Signature,
        output: &Output,
        rows: usize,
        charge: &mut Charge,
    ) -> Result<Vec<u8>, EncodeError> {
        let answer = Predicted {
            request_id: "id",
            version: "1",
            answer: AnswerSpec::of_labels(&signature.output),
            name: "m",
            signature,
            labels: &JsonLabels::default(),
            output,
            rows,
            raw: None,
        };
        encode_csv(&answer, charge)
    }

    fn budget(bytes: usize) -> Arc<Budget> {
        Arc::new(Budget::new(bytes, 1))
    }

    fn decode(body: &str, rows_max: usize) -> Result<Rows, RequestError> {
        let mut charge = Charge::new(&budget(1 << 20));
        decode_csv(
            body.as_bytes(),
            true,
            &signature(&[]),
            rows_max,
            &mut charge,
        )
    }

    #[test]
    fn a_body_is_read_by_its_header_or_refused_with_the_place() {
        let rows = decode("y,note,x\r\n2,a,1\r\n4,\"b,c\",3\r\n", 9).unwrap();
        assert_eq!(rows.values(), [1.0, 2.0, 3.0, 4.0]);
        for marked in ["\u{feff}y,x\n2,1\n", "\u{feff}\"y\",x\n2,1\n"] {
            assert_eq!(decode(marked, 9).unwrap().values(), [1.0, 2.0], "{marked}");
        }
        #[rustfmt::skip]
        let wrong = [
            ("", Code::InvalidInput, "the body is empty: the body has no header"),
            ("\u{feff}\r\n", Code::InvalidInput, "the body is blank"),
            (",\n", Code::InvalidInput, "the body has no header"),
            ("x,y\n", Code::InvalidInput, "no rows"),
            ("1,2\n3,4\n", Code::InvalidInput, "the body, line 1: there are no columns \"x\", \"y\"; there are 1, 2"),
            ("x,y\n1,\n", Code::InvalidInput, "the body, line 2, column \"y\": the cell is empty"),
            ("x,y\n1,2\n1,NaN\n", Code::InvalidInput, "the body, line 3, column \"y\": the cell is \"NaN\", but the model takes no missing value"),
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
        let csv = encode(&signature, &output, 2, &mut Charge::new(&budget)).unwrap();
        assert_eq!(
            String::from_utf8(csv).unwrap(),
            "prediction,probability_a,\"probability_b,\"\"c\"\"\"\n\"b,\"\"c\"\"\",0.1,0.9\na,1.0,0.0\n"
        );
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn numbers_read_again_as_the_same_bits() {
        let signature = signature(&[]);
        let numbers = vec![0.1 + 0.2, -0.0, 5e-324, f64::MAX];
        let output = Output::Numbers(numbers.clone());
        let mut charge = Charge::new(&budget(1 << 20));
        let csv = String::from_utf8(encode(&signature, &output, 4, &mut charge).unwrap()).unwrap();
        let read: Vec<u64> = csv
            .lines()
            .skip(1)
            .map(|line| line.parse::<f64>().unwrap().to_bits())
            .collect();
        let bits: Vec<u64> = numbers.iter().map(|number| number.to_bits()).collect();
        assert_eq!(read, bits);
        let output = Output::Numbers(vec![f64::NAN]);
        let error = encode(&signature, &output, 1, &mut charge).unwrap_err();
        assert!(matches!(error, EncodeError::Output(_)), "{error:?}");
    }

    #[test]
    fn what_a_budget_does_not_allow_is_refused() {
        let output = Output::Numbers(vec![0.125; 100_000]);
        let budget = budget(150_000);
        let mut charge = Charge::new(&budget);
        let error = encode(&signature(&[]), &output, 100_000, &mut charge).unwrap_err();
        assert!(matches!(error, EncodeError::Budget(_)), "{error:?}");
        drop(charge);
        let body = format!("x,y\n{}", "1,2\n".repeat(100_000));
        let mut charge = Charge::new(&budget);
        let error =
            decode_csv(body.as_bytes(), true, &signature(&[]), 1 << 20, &mut charge).unwrap_err();
        assert_eq!(error.code, Code::ContentTooLarge);
        let long = format!("x,y\n1,{}\n", "2".repeat(300_000));
        let error = decode_csv(long.as_bytes(), true, &signature(&[]), 9, &mut charge).unwrap_err();
        assert_eq!(error.code, Code::ContentTooLarge);
        for wide in [
            ",".repeat(20_000),
            format!("\"\n\"{}", ",\n".repeat(20_000)),
        ] {
            let error =
                decode_csv(wide.as_bytes(), true, &signature(&[]), 9, &mut charge).unwrap_err();
            assert_eq!(error.code, Code::ContentTooLarge);
        }
    }

    #[test]
    fn labels_become_codes_and_empty_cells_are_missing_where_they_may_be() {
        let mut signature = signature(&[]);
        signature.features[0].kind = FeatureKind::Category {
            labels: ["red", "green"].map(str::to_owned).to_vec().into(),
            unseen: Unseen::Refuse,
        };
        signature.features[1].may_be_missing = true;
        let decode = |body: &str| {
            let mut charge = Charge::new(&budget(1 << 20));
            decode_csv(body.as_bytes(), true, &signature, 9, &mut charge)
        };
        let rows = decode("x,y\ngreen,\nred,2\n").unwrap();
        assert_eq!(rows.values()[0], 1.0);
        assert!(rows.values()[1].is_nan());
        assert_eq!(rows.values()[2..], [0.0, 2.0]);
        // As pandas writes them.
        let rows = decode("x,y\ngreen,True\nred,false\n").unwrap();
        assert_eq!(rows.values(), [1.0, 1.0, 0.0, 0.0]);
        let mut charge = Charge::new(&budget(1 << 20));
        let numbers = super::tests::signature(&[]);
        let is_header = has_header(b"1.5,True\n", &numbers, &mut charge);
        assert!(is_header.is_ok_and(|is_header| !is_header));
        let error = decode("x,y\nblue,1\n").unwrap_err();
        let text = "the body, line 2, column \"x\": the cell is \"blue\", but must be one of \"red\", \"green\"";
        assert_eq!(error.text, text);
        assert!(decode("x,y\n,1\n").unwrap_err().text.contains("is empty"));
    }

    #[test]
    fn a_line_is_a_header_with_and_without_quotes() {
        let signature = signature(&[]);
        let is_header = |line: &str| {
            let mut charge = Charge::new(&budget(1 << 20));
            has_header(line.as_bytes(), &signature, &mut charge).unwrap()
        };
        for (first, rest, expected) in [
            ("x", ",y\n1,2\n", true),
            ("y", ",x", true),
            ("1.5", ",2\r\n", false),
            ("1.5", ",True\r", false),
            ("", ",2\n", false),
            (" x ", ",2\n", true),
            ("NaN", ",1e3\n", false),
            ("other", ",1\n", true),
        ] {
            let (plain, quoted) = (format!("{first}{rest}"), format!("\"{first}\"{rest}"));
            assert_eq!(is_header(&plain), expected, "{plain:?}");
            assert_eq!(is_header(&quoted), expected, "{quoted:?}");
        }
        assert!(is_header("") && is_header("\r\n") && is_header("\n1,2\n"));
    }

    #[test]
    fn own_words_for_a_missing_value_are_no_numbers_and_no_dates() {
        let mut signature = signature(&[]);
        for (feature, may_be_missing) in [(0, true), (1, false)] {
            let feature = &mut signature.features[feature];
            feature.may_be_missing = may_be_missing;
            feature.written = Some(Arc::new(Written {
                missing: vec!["-99".to_owned(), "1900-01-01".to_owned()],
                ..Written::default()
            }));
        }
        let decode = |signature: &Signature, body: &str| {
            let mut charge = Charge::new(&budget(1 << 20));
            decode_csv(body.as_bytes(), true, signature, 9, &mut charge)
        };
        let rows = decode(&signature, "x,y\n-99,1\n-98,2\n").unwrap();
        assert!(rows.values()[0].is_nan() && rows.values()[2] == -98.0);
        let error = decode(&signature, "x,y\n1,-99\n").unwrap_err();
        assert!(error.text.contains("takes no missing value"), "{error:?}");
        signature.features[0].kind = FeatureKind::Moment(MomentOrder::YearFirst);
        let rows = decode(&signature, "x,y\n1900-01-01,1\n1900-01-02,2\n").unwrap();
        assert!(rows.values()[0].is_nan() && rows.values()[2] < 0.0);
    }

    #[test]
    fn several_numbers_a_row_have_a_column_each() {
        let signature = Signature {
            output: OutputSpec::Numbers { width: 2 },
            ..signature(&[])
        };
        let output = Output::Numbers(vec![1.0, 2.0, 3.0, 4.0]);
        let mut charge = Charge::new(&budget(1 << 20));
        let csv = encode(&signature, &output, 2, &mut charge).unwrap();
        assert_eq!(csv, b"prediction_0,prediction_1\n1.0,2.0\n3.0,4.0\n");
    }
}
