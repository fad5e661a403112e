//! Golden rows: rows with the training library's answers. A model that answers them differently is
//! not the model that was trained.

use serde::Deserialize;
use serde_json::Value;

use super::compute::{self, ComputeError};
use super::exactness::{Exactness, LINK_ULPS, SINGLE_TOLERANCE, SUM_TOLERANCE};
use super::{FeatureKind, Loaded, ModelError, Output, Rows, ShortNumber, Signature};

/// One row and the answer that it must have.
#[derive(Debug, Clone, PartialEq)]
pub struct GoldenRow {
    /// One row, as long as the signature is wide.
    pub row: Vec<f64>,
    /// What the model answered when it was made.
    pub expected: Expected,
    /// By how much a number may differ, as a share of the expected one; 0 demands the same number.
    /// Labels are compared exactly.
    pub tolerance: f64,
}

/// The answer that a golden row must have.
#[derive(Debug, Clone, PartialEq)]
pub enum Expected {
    /// The class label.
    Label(String),
    /// The number, or the first of several.
    Number(f64),
    /// A library's sums, bit for bit, if it tells any, and its answers within two units in the last
    /// place.
    Library {
        /// The library and its version.
        name: String,
        /// Its sums before the transform; empty if it does not tell them.
        sums: Vec<f64>,
        /// Its answers; with a label of its own, the numbers beside it, which may be none.
        answers: Vec<f64>,
        /// Its label, if it tells one.
        label: Option<LibraryLabel>,
    },
}

/// The label that a library tells beside its numbers.
#[derive(Debug, Clone, PartialEq)]
pub enum LibraryLabel {
    /// It must be the model's.
    Same(String),
    /// The model's classes have other names than the library's; it is not compared.
    Renamed,
}

/// Maximum number of golden rows in a file.
const ROWS_MAX: usize = 1000;

/// Units in the last place by which an answer may differ, because of another libm.
const ULPS_MAX: u64 = 2;

/// What `lanekeeper golden-script` has Python write.
#[derive(Deserialize)]
struct GoldenFile {
    format: String,
    library: String,
    rows: Vec<Vec<Value>>,
    /// Absent if the library has none.
    margins: Option<Vec<String>>,
    #[serde(default)]
    answers: Vec<String>,
    /// Absent if the library's answers say the class.
    labels: Option<Vec<String>>,
}

/// Reads golden rows for a model. `is_renamed` says that its classes have other names than in the
/// library: then labels are not compared, but the numbers beside them.
///
/// # Errors
///
/// What is wrong with the file, in one line without its name.
pub fn read(
    bytes: &[u8],
    signature: &Signature,
    is_renamed: bool,
) -> Result<Vec<GoldenRow>, ModelError> {
    let file: GoldenFile = serde_json::from_slice(bytes)
        .map_err(|error| ModelError(format!("it is not a file of golden rows ({error})")))?;
    if file.format != "lanekeeper-golden" {
        return Err(
            "it is not a file of golden rows (its format must be \"lanekeeper-golden\")".into(),
        );
    }
    let count = file.rows.len();
    let margins = file.margins.as_deref();
    let labels = file.labels.as_deref();
    if is_renamed && labels.is_some() && file.answers.is_empty() {
        return Err("it has labels alone, which cannot be compared with --classes".into());
    }
    let has_answers = !file.answers.is_empty();
    if !(1..=ROWS_MAX).contains(&count)
        || margins.is_some_and(|margins| margins.len() != count)
        || labels.is_some_and(|labels| labels.len() != count)
        || (file.answers.len() != count && (has_answers || labels.is_none()))
    {
        return Err(ModelError(format!(
            "it must have 1 to {ROWS_MAX} rows, and margins and answers for each, but has {count}, {} and {}",
            margins.map_or(0, <[String]>::len),
            file.answers.len()
        )));
    }
    let mut golden = Vec::with_capacity(count);
    for (place, row) in file.rows.iter().enumerate() {
        let wrong = |what: &str| ModelError(format!("row {place}: {what}"));
        if row.len() != signature.width() {
            return Err(wrong("it must have a value for each feature of the model"));
        }
        let values = signature
            .features
            .iter()
            .zip(row)
            .map(|(feature, value)| match value {
                Value::Null => Some(f64::NAN),
                Value::Bool(flag) => Some(f64::from(u8::from(*flag))),
                Value::Number(number) => match feature.kind {
                    FeatureKind::Category { .. } => feature.kind.code_of_number(number.as_f64()?),
                    _ => number.as_f64(),
                },
                Value::String(text) => feature.kind.code(text),
                _ => None,
            });
        let values: Option<Vec<f64>> = values.collect();
        golden.push(GoldenRow {
            row: values.ok_or_else(|| wrong("it has a value that its feature does not take"))?,
            expected: Expected::Library {
                name: file.library.clone(),
                sums: margins
                    .map_or(Some(Vec::new()), |margins| numbers(&margins[place]))
                    .ok_or_else(|| wrong("its margins are no hexadecimal floats"))?,
                answers: match has_answers {
                    true => numbers(&file.answers[place])
                        .ok_or_else(|| wrong("its answers are no hexadecimal floats"))?,
                    false => Vec::new(),
                },
                label: labels.map(|labels| match is_renamed {
                    true => LibraryLabel::Renamed,
                    false => LibraryLabel::Same(labels[place].clone()),
                }),
            },
            tolerance: 0.0,
        });
    }
    Ok(golden)
}

/// Reads `f4:` or `f8:` and floats of that size as big-endian bytes in hexadecimal.
fn numbers(text: &str) -> Option<Vec<f64>> {
    let (kind, digits) = text.split_once(':').unwrap_or(("", text));
    let size = match kind {
        "f4" => 8,
        "f8" => 16,
        _ => return None,
    };
    if digits.is_empty() || !digits.is_ascii() || digits.len() % size != 0 {
        return None;
    }
    let number = |place: usize| {
        let digits = &digits[place * size..(place + 1) * size];
        match size {
            8 => u32::from_str_radix(digits, 16)
                .ok()
                .map(|bits| f64::from(f32::from_bits(bits))),
            _ => u64::from_str_radix(digits, 16).ok().map(f64::from_bits),
        }
    };
    (0..digits.len() / size).map(number).collect()
}

/// Computes a model's golden rows; without any, its example, which must have an answer.
///
/// # Errors
///
/// The first row whose answer is not as expected, with the answer or the reason why there is none.
pub fn try_model(loaded: &Loaded) -> Result<(), ModelError> {
    if loaded.golden.is_empty() {
        return answer(loaded, loaded.example()).map(drop);
    }
    loaded
        .golden
        .iter()
        .try_for_each(|golden| try_row(loaded, golden))
}

/// Computes one row.
fn answer(loaded: &Loaded, row: Vec<f64>) -> Result<Output, ModelError> {
    let model = loaded.model.as_ref();
    let signature = model.signature();
    let rows = Rows::new(row, signature.width())
        .filter(|rows| rows.len() == 1)
        .filter(|rows| compute::check(model, rows).is_ok())
        .ok_or("the trial row does not fit the model")?;
    compute::predict(model, &rows).map_err(|failure| match failure {
        ComputeError::Input(fault) => compute::fault_text(signature, &rows, &fault).into(),
        ComputeError::Model(error) => ModelError::of(error),
    })
}

/// What a library's `predict` answers, from an answer.
fn said(output: &Output, count: usize) -> Vec<f64> {
    match output {
        Output::Numbers(numbers) => numbers.clone(),
        Output::Classes {
            probabilities: Some(shares),
            ..
        } if shares.len() == 2 && count == 1 => vec![shares[1]],
        Output::Classes {
            probabilities: Some(shares),
            ..
        } => shares.clone(),
        Output::Classes { indices, .. } => indices.iter().map(|class| f64::from(*class)).collect(),
    }
}

/// How far a number may be from the library's.
#[derive(Clone, Copy)]
enum Allowed {
    /// This many units in the last place.
    Ulps(u64),
    /// This share of the larger of the number and 1.
    Share(f64),
}

impl Allowed {
    fn sums(exactness: Option<Exactness>) -> Self {
        match exactness {
            Some(Exactness::Sums) => Allowed::Share(SUM_TOLERANCE),
            Some(Exactness::Single) => Allowed::Share(SINGLE_TOLERANCE),
            Some(Exactness::Bits | Exactness::Link) | None => Allowed::Ulps(0),
        }
    }

    fn answers(exactness: Option<Exactness>) -> Self {
        match exactness {
            Some(Exactness::Sums) => Allowed::Share(SUM_TOLERANCE),
            Some(Exactness::Single) => Allowed::Share(SINGLE_TOLERANCE),
            Some(Exactness::Link) => Allowed::Ulps(LINK_ULPS),
            Some(Exactness::Bits) | None => Allowed::Ulps(ULPS_MAX),
        }
    }

    fn allows(self, expected: f64, given: f64, ulps: u64) -> bool {
        match self {
            Allowed::Ulps(most) => ulps <= most,
            Allowed::Share(share) => (expected - given).abs() <= share * expected.abs().max(1.0),
        }
    }
}

/// Compares one row's numbers with a library's.
fn compare(
    signature: &Signature,
    row: &[f64],
    (library, what): (&str, &str),
    (expected, given): (&[f64], &[f64]),
    allowed: Allowed,
) -> Result<(), ModelError> {
    let row = || signature.json_row(row);
    if expected.len() != given.len() {
        // `multi:softmax` answers with the class alone.
        if what == "answer" && expected.len() == 1 {
            return Ok(());
        }
        return Err(ModelError(format!(
            "the golden row {} has {} {what}s by {library}, but {} here",
            row(),
            expected.len(),
            given.len()
        )));
    }
    for (expected, given) in expected.iter().zip(given) {
        let ulps = distance(*expected, *given);
        if !allowed.allows(*expected, *given, ulps) {
            return Err(ModelError(format!(
                "the golden row {} has the {what} {} by {library}, but {} here ({ulps} units in the last place)",
                row(),
                ShortNumber(*expected),
                ShortNumber(*given)
            )));
        }
    }
    Ok(())
}

/// How many numbers lie between two: of 32 bits if both are, otherwise of 64.
fn distance(one: f64, other: f64) -> u64 {
    if one == other {
        return 0;
    }
    let is_single = |number: f64| f64::from(number as f32) == number;
    if is_single(one) && is_single(other) {
        let ordered = |number: f64| {
            let bits = (number as f32).to_bits() as i32;
            i64::from(if bits < 0 { i32::MIN - bits } else { bits })
        };
        return ordered(one).abs_diff(ordered(other));
    }
    let ordered = |number: f64| {
        let bits = number.to_bits() as i64;
        i128::from(if bits < 0 {
            i64::MIN.wrapping_sub(bits)
        } else {
            bits
        })
    };
    u64::try_from(ordered(one).abs_diff(ordered(other))).unwrap_or(u64::MAX)
}

fn try_row(loaded: &Loaded, golden: &GoldenRow) -> Result<(), ModelError> {
    let signature = loaded.model.signature();
    let output = answer(loaded, golden.row.clone())?;
    if let Expected::Library {
        name,
        sums,
        answers,
        label,
    } = &golden.expected
    {
        let raw = || {
            let rows = Rows::new(golden.row.clone(), signature.width());
            let raw = rows.and_then(|rows| loaded.model.raw(&rows));
            raw.unwrap_or_default()
        };
        if !sums.is_empty() {
            let raw = raw();
            compare(
                signature,
                &golden.row,
                (name, "margin"),
                (sums, &raw),
                Allowed::sums(loaded.exactness),
            )?;
        }
        let mut said = said(&output, answers.len());
        if let (
            Some(label),
            Output::Classes {
                indices,
                probabilities,
            },
        ) = (label, &output)
        {
            let own = &signature.output.labels()[indices[0] as usize];
            if let LibraryLabel::Same(label) = label
                && own != label
            {
                return Err(ModelError(format!(
                    "the golden row {} has the label {label:?} by {name}, but {own:?} here",
                    signature.json_row(&golden.row)
                )));
            }
            if probabilities.is_none() {
                said = raw();
            }
            if answers.is_empty() {
                return Ok(());
            }
        }
        return compare(
            signature,
            &golden.row,
            (name, "answer"),
            (answers, &said),
            Allowed::answers(loaded.exactness),
        );
    }
    match (&output, &golden.expected) {
        (Output::Classes { indices, .. }, Expected::Label(expected)) => {
            let label = &signature.output.labels()[indices[0] as usize];
            (label == expected).then_some(()).ok_or_else(|| {
                ModelError(format!("the trial gave {label:?} instead of {expected:?}"))
            })
        }
        (Output::Numbers(numbers), Expected::Number(expected)) => {
            let off = (numbers[0] - expected).abs();
            let near = off <= golden.tolerance * expected.abs().max(f64::MIN_POSITIVE);
            let (given, expected) = (ShortNumber(numbers[0]), ShortNumber(*expected));
            near.then_some(())
                .ok_or_else(|| ModelError(format!("the trial gave {given} instead of {expected}")))
        }
        _ => Err(ModelError(
            "the trial gave a class instead of a number, or a number instead of a class".to_owned(),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelRequest;
    use crate::models::{Files, ModelSource};

    #[test]
    fn a_library_without_margins_is_held_to_its_answers() {
        let iris = Files.load(&ModelRequest::default()).unwrap();
        let mut loaded = std::sync::Arc::into_inner(iris).unwrap();
        let row = "\"rows\": [[5.1, 3.5, 1.4, 0.2]]";
        let file = |first: f64| {
            let shares = [first, 1.0 - first, 0.0].map(|share| format!("{:016x}", share.to_bits()));
            let head = "\"format\": \"lanekeeper-golden\", \"library\": \"a library\"";
            format!(
                "{{{head}, {row}, \"answers\": [\"f8:{}\"]}}",
                shares.concat()
            )
        };
        for (first, is_right) in [(1.0, true), (0.5, false)] {
            let text = file(first);
            loaded.golden = read(text.as_bytes(), loaded.model.signature(), false).unwrap();
            let tried = try_model(&loaded);
            assert_eq!(tried.is_ok(), is_right, "{tried:?}");
        }
        let short = file(1.0).replace("\"answers\"", "\"margins\": [], \"answers\"");
        let error = read(short.as_bytes(), loaded.model.signature(), false).unwrap_err();
        assert!(error.0.contains("margins and answers for each"), "{error}");
    }

    #[test]
    fn labels_of_renamed_classes_are_not_compared_but_the_numbers_are() {
        let iris = Files.load(&ModelRequest::default()).unwrap();
        let mut loaded = std::sync::Arc::into_inner(iris).unwrap();
        let file = |first: f64| {
            let shares = [first, 1.0 - first, 0.0].map(|share| format!("{:016x}", share.to_bits()));
            format!(
                "{{\"format\": \"lanekeeper-golden\", \"library\": \"a library\",
                \"rows\": [[5.1, 3.5, 1.4, 0.2]], \"labels\": [\"0\"], \"answers\": [\"f8:{}\"]}}",
                shares.concat()
            )
        };
        for (first, is_renamed, is_right) in
            [(1.0, true, true), (0.5, true, false), (1.0, false, false)]
        {
            let text = file(first);
            loaded.golden = read(text.as_bytes(), loaded.model.signature(), is_renamed).unwrap();
            let tried = try_model(&loaded);
            assert_eq!(tried.is_ok(), is_right, "{tried:?}");
        }
        let alone = file(1.0).replace("\"answers\"", "\"ignored\"");
        let error = read(alone.as_bytes(), loaded.model.signature(), true).unwrap_err();
        assert!(error.0.contains("--classes"), "{error}");
    }
}
