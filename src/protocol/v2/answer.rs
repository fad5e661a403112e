//! An answer of V2: the outputs that were asked for, in JSON or in binary after it.

use std::borrow::Cow;

use crate::error::{Code, RequestError};
use crate::lanes::memory_budget::Charge;
use crate::models::forest::Precision;
use crate::models::{AnswerSource, AnswerSpec, Output, OutputSpec, PredictError, is_whole};
use crate::protocol::answer_writer::AnswerWriter;
use crate::protocol::echo;
use crate::protocol::{EncodeError, Encoder, Payload, Predicted, RowSpec};

/// The field that says how much of a body is JSON.
const JSON_LENGTH: &str = "Inference-Header-Content-Length";

/// What a request wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The request's id, given back.
    pub(super) id: Option<String>,
    /// The outputs, in order.
    pub(super) outputs: Vec<WantedOutput>,
}

/// One output that is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WantedOutput {
    name: &'static str,
    kind: OutputKind,
    in_binary: bool,
    /// So many of the most probable classes, as texts.
    classification: Option<usize>,
}

/// What an output is, and its form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OutputKind {
    /// The model's answer, `[rows, 1]` or `[rows, width]`.
    Answer,
    /// The model's answer, `[rows]` if it is one value per row.
    FlatAnswer,
    /// The probabilities of all classes.
    Shares,
    /// The class's index in 32 bits, or the model's numbers.
    ClassIndex,
}

/// The names that clients of other servers use for an output.
const OUTPUTS: [(&str, OutputKind); 9] = [
    // MLServer.
    ("predict", OutputKind::Answer),
    ("predict_proba", OutputKind::Shares),
    // KServe, and MLServer's runtime for MLflow.
    ("output-0", OutputKind::FlatAnswer),
    ("output-1", OutputKind::Answer),
    // ONNX models that skl2onnx wrote.
    ("label", OutputKind::FlatAnswer),
    ("output_label", OutputKind::FlatAnswer),
    ("probabilities", OutputKind::Shares),
    ("output_probability", OutputKind::Shares),
    // Triton's FIL backend.
    ("output__0", OutputKind::ClassIndex),
];

impl WantedOutput {
    /// What is answered if nothing is asked for.
    pub(super) fn usual(in_binary: bool) -> Self {
        WantedOutput {
            name: "predict",
            kind: OutputKind::Answer,
            in_binary,
            classification: None,
        }
    }

    /// The output that clients call so.
    ///
    /// # Errors
    ///
    /// The model has no such output, or it cannot be given as classes.
    pub(super) fn named(
        name: &str,
        in_binary: bool,
        classification: Option<u64>,
        row_spec: RowSpec<'_>,
    ) -> Result<Self, RequestError> {
        let invalid = |text: String| RequestError::new(Code::InvalidInput, text);
        let has_shares = has_shares(&row_spec.signature.output);
        let found = OUTPUTS
            .iter()
            .find(|(own, kind)| *own == name && (*kind != OutputKind::Shares || has_shares));
        let Some((name, kind)) = found else {
            let there = match has_shares {
                true => "predict and predict_proba",
                false => "predict",
            };
            return Err(invalid(format!(
                "there is no output {}; there is {there}",
                echo(name)
            )));
        };
        let classification = match classification {
            None | Some(0) => None,
            Some(_) if *kind != OutputKind::Shares => {
                return Err(invalid(format!(
                    "the output {name:?} cannot be given as classes; predict_proba can"
                )));
            }
            Some(count) => Some(usize::try_from(count).unwrap_or(usize::MAX)),
        };
        Ok(WantedOutput {
            name,
            kind: *kind,
            in_binary,
            classification,
        })
    }
}

fn has_shares(spec: &OutputSpec) -> bool {
    matches!(
        spec,
        OutputSpec::Classes {
            has_probabilities: true,
            ..
        }
    )
}

/// The outputs of a model for its metadata: name, datatype, and values per row.
pub fn described(
    spec: &OutputSpec,
    answer: AnswerSpec,
) -> Vec<(&'static str, &'static str, usize)> {
    let mut outputs = vec![("predict", datatype(spec, answer), answer.width)];
    if has_shares(spec) {
        let shares = float(answer.precision);
        outputs.push(("predict_proba", shares, spec.labels().len()));
    }
    outputs
}

/// All names of a model's outputs, those that clients of other servers use included.
pub fn output_names(spec: &OutputSpec) -> Vec<&'static str> {
    let there = OUTPUTS
        .iter()
        .filter(|(_, kind)| *kind != OutputKind::Shares || has_shares(spec));
    there.map(|(name, _)| *name).collect()
}

fn datatype(spec: &OutputSpec, answer: AnswerSpec) -> &'static str {
    match answer.source {
        AnswerSource::Labels if are_whole(spec.labels()) => "INT64",
        AnswerSource::Labels => "BYTES",
        _ => float(answer.precision),
    }
}

fn float(precision: Precision) -> &'static str {
    match precision {
        Precision::F32 => "FP32",
        Precision::F64 => "FP64",
    }
}

fn are_whole(labels: &[String]) -> bool {
    labels.iter().all(|label| is_whole(label))
}

/// The data of an output.
enum OutputData<'a> {
    /// Class indices, by whose labels they are written.
    Labels(&'a [u32]),
    /// Numbers.
    Numbers(Cow<'a, [f64]>, Precision),
    /// Texts.
    Texts(Vec<String>),
}

/// An output, ready to be written.
struct Ready<'a> {
    name: &'static str,
    datatype: &'static str,
    /// The shape, as JSON.
    shape: String,
    in_binary: bool,
    data: OutputData<'a>,
}

impl Encoder for Wanted {
    fn encode(&self, answer: &Predicted<'_>, charge: &mut Charge) -> Result<Payload, EncodeError> {
        let outputs = self.outputs.iter().map(|output| output.ready(answer));
        let outputs: Vec<Ready<'_>> = outputs.collect::<Result<_, _>>()?;
        let mut json = AnswerWriter::new(charge, 160 + answer.name.len())?;
        json.put("{\"model_name\":")?;
        json.put_text(answer.name)?;
        json.put(",\"model_version\":")?;
        json.put_text(answer.version)?;
        json.put(",\"id\":")?;
        json.put_text(self.id.as_deref().unwrap_or(answer.request_id))?;
        json.put(",\"outputs\":[")?;
        for (place, output) in outputs.iter().enumerate() {
            json.put(if place > 0 { "," } else { "" })?;
            json.put(format!(
                "{{\"name\":\"{}\",\"datatype\":\"{}\",\"shape\":{}",
                output.name, output.datatype, output.shape
            ))?;
            if output.in_binary {
                let size = output.binary_bytes(answer.signature.output.labels());
                json.put(format!(",\"parameters\":{{\"binary_data_size\":{size}}}}}"))?;
                continue;
            }
            json.put(",\"data\":[")?;
            match &output.data {
                OutputData::Labels(indices) => json.put_labels(indices, &answer.labels.values)?,
                OutputData::Numbers(numbers, _) => json.put_numbers(numbers, 1)?,
                OutputData::Texts(texts) => {
                    for (place, text) in texts.iter().enumerate() {
                        json.put(if place > 0 { "," } else { "" })?;
                        json.put_text(text)?;
                    }
                }
            }
            json.put("]}")?;
        }
        json.put("]}")?;
        if !outputs.iter().any(|output| output.in_binary) {
            json.put("\n")?;
            return Ok(Payload::json(200, json.into_bytes()));
        }
        let json_length = json.len();
        for output in outputs.iter().filter(|output| output.in_binary) {
            output.write_binary(answer.signature.output.labels(), &mut json)?;
        }
        Ok(Payload {
            fields: vec![(JSON_LENGTH, json_length.to_string())],
            ..Payload::new(200, "application/octet-stream", json.into_bytes().into())
        })
    }
}

impl WantedOutput {
    /// Makes its data from an answer.
    fn ready<'a>(&self, answer: &Predicted<'a>) -> Result<Ready<'a>, EncodeError> {
        let spec = &answer.signature.output;
        let (data, datatype, width) = match self.kind {
            OutputKind::Shares => {
                let shares = match answer.output {
                    Output::Classes { probabilities, .. } => probabilities.as_deref(),
                    Output::Numbers(_) => None,
                };
                let shares = shares.ok_or_else(|| lost(self.name))?;
                let classes = spec.labels().len();
                match self.classification {
                    Some(count) => {
                        let count = count.min(classes);
                        (
                            OutputData::Texts(most_probable(shares, spec.labels(), count)),
                            "BYTES",
                            count,
                        )
                    }
                    None => (
                        OutputData::Numbers(Cow::Borrowed(shares), answer.answer.precision),
                        float(answer.answer.precision),
                        classes,
                    ),
                }
            }
            OutputKind::ClassIndex if answer.answer.source == AnswerSource::Labels => {
                let index = AnswerSpec {
                    source: AnswerSource::Index,
                    ..answer.answer
                };
                let indices = index.numbers(answer.output, None);
                let indices = indices.ok_or_else(|| lost(self.name))?;
                (OutputData::Numbers(indices, Precision::F32), "FP32", 1)
            }
            OutputKind::Answer | OutputKind::FlatAnswer | OutputKind::ClassIndex => {
                let (own, precision) = match self.kind {
                    // FIL computes in 32 bits.
                    OutputKind::ClassIndex => (answer.answer, Precision::F32),
                    _ => (answer.answer, answer.answer.precision),
                };
                match (own.source, answer.output) {
                    (AnswerSource::Labels, Output::Classes { indices, .. }) => {
                        (OutputData::Labels(indices), datatype(spec, own), 1)
                    }
                    _ => {
                        let numbers = own.numbers(answer.output, answer.raw);
                        let numbers = numbers.ok_or_else(|| lost(self.name))?;
                        (
                            OutputData::Numbers(numbers, precision),
                            float(precision),
                            own.width,
                        )
                    }
                }
            }
        };
        let shape = match self.kind {
            OutputKind::FlatAnswer if width == 1 => format!("[{}]", answer.rows),
            _ => format!("[{},{width}]", answer.rows),
        };
        Ok(Ready {
            name: self.name,
            datatype,
            shape,
            in_binary: self.in_binary,
            data,
        })
    }
}

fn lost(name: &str) -> PredictError {
    PredictError(format!("it gave nothing for the output {name:?}"))
}

/// `value:index:label` of the most probable classes of each row, the most probable first.
fn most_probable(shares: &[f64], labels: &[String], count: usize) -> Vec<String> {
    let mut texts = Vec::new();
    for row in shares.chunks(labels.len().max(1)) {
        let mut order: Vec<usize> = (0..row.len()).collect();
        order.sort_by(|one, other| row[*other].total_cmp(&row[*one]));
        let text = |class: &usize| format!("{:.6}:{class}:{}", row[*class], labels[*class]);
        texts.extend(order.iter().take(count).map(text));
    }
    texts
}

impl Ready<'_> {
    /// The size of its data in binary.
    fn binary_bytes(&self, labels: &[String]) -> usize {
        let text = |text: &str| 4 + text.len();
        match &self.data {
            OutputData::Labels(indices) if self.datatype == "INT64" => indices.len() * 8,
            OutputData::Labels(indices) => {
                let label =
                    |index: &u32| labels.get(*index as usize).map_or(0, |label| text(label));
                indices.iter().map(label).sum()
            }
            OutputData::Numbers(numbers, Precision::F32) => numbers.len() * 4,
            OutputData::Numbers(numbers, Precision::F64) => numbers.len() * 8,
            OutputData::Texts(texts) => texts.iter().map(|one| text(one)).sum(),
        }
    }

    fn write_binary(
        &self,
        labels: &[String],
        out: &mut AnswerWriter<'_>,
    ) -> Result<(), EncodeError> {
        let text = |text: &str, out: &mut AnswerWriter<'_>| {
            // A label or a text is far shorter than 4 GiB.
            out.put((text.len() as u32).to_le_bytes())?;
            out.put(text)
        };
        out.reserve(self.binary_bytes(labels))?;
        match &self.data {
            OutputData::Labels(indices) => {
                for index in *indices {
                    let label = labels.get(*index as usize).ok_or_else(|| lost(self.name))?;
                    match label.parse::<i64>() {
                        Ok(number) if self.datatype == "INT64" => out.put(number.to_le_bytes())?,
                        _ => text(label, out)?,
                    }
                }
            }
            OutputData::Numbers(numbers, precision) => {
                for number in numbers.iter() {
                    if !number.is_finite() {
                        let text = format!("it gave {number}, which is not finite");
                        return Err(PredictError(text).into());
                    }
                    match precision {
                        Precision::F32 => out.put((*number as f32).to_le_bytes())?,
                        Precision::F64 => out.put(number.to_le_bytes())?,
                    }
                }
            }
            OutputData::Texts(texts) => {
                for one in texts {
                    text(one, out)?;
                }
            }
        }
        Ok(())
    }
}
