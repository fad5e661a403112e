//! Answers of protocols with one value, or one list of values, for each row.

use super::answer_writer::AnswerWriter;
use super::{EncodeError, Encoder, Payload, Predicted, npy};
use crate::lanes::memory_budget::Charge;
use crate::models::{AnswerSource, Output, PredictError};

/// How the values stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListAnswer {
    /// `{"predictions": […]}`.
    Predictions,
    /// `{"outputs": […]}`, which TensorFlow Serving gives to a table by columns.
    Outputs,
    /// The list alone.
    Bare,
    /// JSON, an object for each line.
    Lines,
    /// CSV without a header.
    Csv,
    /// NumPy's array file.
    Npy,
}

/// The values of an answer.
pub(super) enum Values<'a> {
    /// Class indices.
    Labels(&'a [u32]),
    /// Numbers, so many for each row.
    Numbers(std::borrow::Cow<'a, [f64]>, usize),
}

impl<'a> Values<'a> {
    /// The values that a model answers with.
    ///
    /// # Errors
    ///
    /// The output has none.
    pub(super) fn of(answer: &Predicted<'a>) -> Result<Self, PredictError> {
        match (answer.answer.source, answer.output) {
            (AnswerSource::Labels, Output::Classes { indices, .. }) => Ok(Values::Labels(indices)),
            _ => {
                let numbers = answer.answer.numbers(answer.output, answer.raw);
                let numbers = numbers.ok_or_else(|| {
                    PredictError("it gave nothing of what it is asked to answer".to_owned())
                })?;
                Ok(Values::Numbers(numbers, answer.answer.width.max(1)))
            }
        }
    }
}

impl Encoder for ListAnswer {
    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError> {
        let values = Values::of(answer)?;
        if *self == ListAnswer::Npy {
            return npy::encode(&values, answer, charge);
        }
        let (start, end, content_type) = match self {
            ListAnswer::Predictions => ("{\"predictions\":[", "]}\n", "application/json"),
            ListAnswer::Outputs => ("{\"outputs\":[", "]}\n", "application/json"),
            ListAnswer::Bare => ("[", "]\n", "application/json"),
            ListAnswer::Lines => ("", "", "application/jsonlines"),
            ListAnswer::Csv | ListAnswer::Npy => ("", "", "text/csv; charset=utf-8"),
        };
        let mut out = AnswerWriter::new(charge, start.len() + end.len())?;
        out.put(start)?;
        match self {
            ListAnswer::Lines => put_lines(&values, answer, &mut out)?,
            ListAnswer::Csv => put_csv(&values, answer, &mut out)?,
            _ => match &values {
                Values::Labels(indices) => {
                    out.put_labels(indices, &answer.labels.values)?;
                }
                Values::Numbers(numbers, width) => out.put_numbers(numbers, *width)?,
            },
        }
        out.put(end)?;
        Ok(Payload::new(200, content_type, out.into_bytes().into()))
    }
}

fn put_lines(
    values: &Values<'_>,
    answer: &Predicted<'_>,
    out: &mut AnswerWriter<'_>,
) -> Result<(), EncodeError> {
    const START: &str = "{\"prediction\":";
    const END: &str = "}\n";
    match values {
        Values::Labels(indices) => {
            for index in indices.iter() {
                out.put(START)?;
                out.put_labels(&[*index], &answer.labels.values)?;
                out.put(END)?;
            }
        }
        Values::Numbers(numbers, width) => {
            for row in numbers.chunks(*width) {
                out.put(START)?;
                out.put_numbers(row, *width)?;
                out.put(END)?;
            }
        }
    }
    Ok(())
}

fn put_csv(
    values: &Values<'_>,
    answer: &Predicted<'_>,
    out: &mut AnswerWriter<'_>,
) -> Result<(), EncodeError> {
    match values {
        Values::Labels(indices) => {
            let labels: Vec<Vec<u8>> = answer
                .signature
                .output
                .labels()
                .iter()
                .map(|label| cell(label))
                .collect();
            for index in indices.iter() {
                out.put_labels(&[*index], &labels)?;
                out.put("\n")?;
            }
        }
        Values::Numbers(numbers, width) => {
            for row in numbers.chunks(*width) {
                out.put_numbers(row, 1)?;
                out.put("\n")?;
            }
        }
    }
    Ok(())
}

/// A label as a cell (RFC 4180).
fn cell(label: &str) -> Vec<u8> {
    let needs_quotes = label.is_empty() || label.contains(['"', ',', '\n', '\r']);
    match needs_quotes {
        true => format!("\"{}\"", label.replace('"', "\"\"")).into_bytes(),
        false => label.as_bytes().to_vec(),
    }
}
