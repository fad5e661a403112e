//! What a model takes and returns: its features in order, and its output.
//!
//! This is all that clients know of a model. An array of numbers gets its meaning from the order of
//! the features alone, so a model with another signature would answer it all the same, and wrongly.

use std::collections::HashSet;
use std::sync::Arc;

use super::cells::{self, Written};
use super::moments::{self, MomentOrder};
use super::taken::{TakenRows, TakenValues};
use super::{CategoryLabels, ModelError, RowFault, Rows, ShortNumber};

/// How many names of one kind are listed, and how many characters of each.
const NAMES_SHOWN: usize = 5;
const NAME_MAX: usize = 40;

/// What a model takes and returns.
#[derive(Debug, Clone, PartialEq)]
pub struct Signature {
    /// The features, in the order of a row's values.
    pub features: Vec<Feature>,
    /// What it returns for each row.
    pub output: OutputSpec,
}

/// One value of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Feature {
    /// Its name, unique in its signature.
    pub name: String,
    /// What its values are.
    pub kind: FeatureKind,
    /// Whether a row may lack it; its value is NaN then.
    pub may_be_missing: bool,
    /// Whether a number may be infinite.
    pub may_be_infinite: bool,
    /// How its values are written in tables, if not as usual.
    pub written: Option<Arc<Written>>,
    /// The least and the largest number that training has seen, if that is known. Other numbers are
    /// taken too.
    pub range: Option<[f64; 2]>,
}

/// The values of a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureKind {
    /// A number.
    Number,
    /// A finite number without a fraction.
    WholeNumber,
    /// Yes (1) or no (0).
    YesNo,
    /// A date or time; its value in a row is seconds since 1970, UTC.
    Moment(MomentOrder),
    /// One of a few labels. Its value in a row is the label's index in this list.
    Category {
        /// The labels, each once.
        labels: CategoryLabels,
        /// What becomes of other values.
        unseen: Unseen,
    },
}

/// What becomes of a value of a category that training has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unseen {
    /// It is refused.
    Refuse,
    /// It counts as missing.
    Missing,
    /// A text is refused, and a number is taken for a category's code.
    Code,
    /// It is known to be none of the labels: its code is the number of labels.
    Other,
}

/// What a model returns for each row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputSpec {
    /// One class of several.
    Classes {
        /// Class labels in the order of class indices.
        labels: Vec<String>,
        /// Whether each answer has the probabilities of all classes.
        has_probabilities: bool,
    },
    /// Numbers.
    Numbers {
        /// How many per row, at least 1.
        width: usize,
    },
}

impl Signature {
    /// Makes the signature of a model whose features are numbers and all required.
    pub fn of_numbers(names: Vec<String>, output: OutputSpec) -> Self {
        let number = |name| Feature {
            name,
            kind: FeatureKind::Number,
            may_be_missing: false,
            may_be_infinite: false,
            written: None,
            range: None,
        };
        Signature {
            features: names.into_iter().map(number).collect(),
            output,
        }
    }

    /// Gives the features other names, as many as there are.
    ///
    /// # Errors
    ///
    /// A name occurs twice.
    pub fn rename(&mut self, names: &[String]) -> Result<(), ModelError> {
        let unique: HashSet<&String> = names.iter().collect();
        if unique.len() != names.len() {
            return Err("two of its columns have the same name".into());
        }
        for (feature, name) in self.features.iter_mut().zip(names) {
            feature.name.clone_from(name);
        }
        Ok(())
    }

    /// Number of values in a row.
    pub fn width(&self) -> usize {
        self.features.len()
    }

    /// Names of the features, in order.
    pub fn names(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        self.features.iter().map(|feature| feature.name.as_str())
    }

    /// Writes a row as a JSON array that clients may send.
    pub fn json_row(&self, row: &[f64]) -> String {
        let cell = |(feature, value): (&Feature, &f64)| match &feature.kind {
            _ if value.is_nan() => "null".to_owned(),
            FeatureKind::Category { labels, .. } => match labels.get(*value as usize) {
                Some(label) => serde_json::Value::from(label.as_str()).to_string(),
                None => ShortNumber(*value).to_string(),
            },
            FeatureKind::YesNo => (*value != 0.0).to_string(),
            FeatureKind::Moment(_) => {
                serde_json::Value::from(moments::moment_text(*value)).to_string()
            }
            _ => ShortNumber(*value).to_string(),
        };
        let cells: Vec<String> = self.features.iter().zip(row).map(cell).collect();
        format!("[{}]", cells.join(", "))
    }

    /// Checks that every value of `rows` is valid for its feature. No model sees a NaN that its
    /// signature does not allow.
    ///
    /// # Errors
    ///
    /// The first value that does not fit.
    pub fn check(&self, rows: &Rows) -> Result<(), RowFault> {
        // What most rows are, at a fraction of the time.
        let is_number = |feature: &Feature| feature.kind == FeatureKind::Number;
        let is_narrow = rows.width() <= self.features.len();
        if is_narrow
            && self.features.iter().all(is_number)
            && rows.values().iter().all(|value| value.is_finite())
        {
            return Ok(());
        }
        /// For fewer rows it is not worth preparing.
        const ROWS_MIN: usize = 4;
        let taken = (rows.len() >= ROWS_MIN).then(|| TakenRows::new(&self.features));
        for (row, values) in rows.iter().enumerate() {
            if taken.as_ref().is_some_and(|taken| taken.has(values)) {
                continue;
            }
            let features = self.features.iter().map(TakenValues::of);
            let unfit = values
                .iter()
                .zip(features)
                .position(|(value, taken)| !taken.has(*value));
            let feature = match unfit {
                Some(feature) => feature,
                None if values.len() <= self.features.len() => continue,
                None => self.features.len(),
            };
            return Err(RowFault {
                row,
                feature,
                must_be: self
                    .features
                    .get(feature)
                    .map_or_else(|| "left out".to_owned(), |feature| feature.kind.must_be()),
            });
        }
        Ok(())
    }
}

impl Feature {
    /// Whether the model does not look at it: it takes any value, which becomes NaN.
    pub fn is_unused(&self) -> bool {
        match &self.kind {
            FeatureKind::Category { labels, unseen } => {
                labels.is_empty() && *unseen == Unseen::Missing && self.may_be_missing
            }
            FeatureKind::Number
            | FeatureKind::WholeNumber
            | FeatureKind::YesNo
            | FeatureKind::Moment(_) => false,
        }
    }

    /// The number that a table's cell holds, as the table writes numbers.
    pub fn number(&self, cell: &str) -> Option<f64> {
        match &self.written {
            Some(written) => cells::parse_number(cell, &written.style),
            None => cells::parse_decimal(cell),
        }
    }

    /// The number that a table's cell holds if it is written as programs do, and nothing else is to be
    /// asked about it: it is finite, and no word for a missing value.
    pub fn plain_number(&self, cell: &str) -> Option<f64> {
        let is_plain = !self.kind.takes_text()
            && match &self.written {
                Some(written) => written.missing.is_empty() && written.style.is_plain(),
                None => true,
            };
        is_plain.then(|| cells::plain_number(cell)).flatten()
    }

    /// Whether a table's cell says that there is no value.
    pub fn counts_as_missing(&self, cell: &str) -> bool {
        let more = self
            .written
            .as_ref()
            .map_or(&[][..], |written| &written.missing);
        cells::is_missing(cell, more)
    }
}

/// A table finds its columns by the names of the features.
impl AsRef<str> for Feature {
    fn as_ref(&self) -> &str {
        &self.name
    }
}

impl FeatureKind {
    /// What a value must be, in words.
    pub fn must_be(&self) -> String {
        match self {
            FeatureKind::Number => "a finite number".to_owned(),
            FeatureKind::WholeNumber => "a whole number".to_owned(),
            FeatureKind::YesNo => "true or false, yes or no, 1 or 0".to_owned(),
            FeatureKind::Moment(order) => format!("a date or time such as {}", order.example()),
            FeatureKind::Category { labels, .. } => match listed(labels.iter().map(String::as_str))
            {
                Some(labels) => format!("one of {labels}"),
                None => "a label, but the model knows none".to_owned(),
            },
        }
    }

    /// Whether its values may be texts.
    pub fn takes_text(&self) -> bool {
        !matches!(self, FeatureKind::Number | FeatureKind::WholeNumber)
    }

    /// Whether a text is one of its labels.
    pub fn has_label(&self, text: &str) -> bool {
        match self {
            FeatureKind::Category { labels, .. } => labels.code(text).is_some(),
            _ => false,
        }
    }

    /// The value that a row holds for a text: a category's code, or NaN if it counts as missing; 1 or
    /// 0 for yes or no; a time's seconds. `None` if it is refused, and for numbers.
    pub fn code(&self, label: &str) -> Option<f64> {
        let (labels, unseen) = match self {
            FeatureKind::Category { labels, unseen } => (labels, unseen),
            FeatureKind::YesNo => {
                return cells::parse_yes_no(label).map(|yes| f64::from(u8::from(yes)));
            }
            FeatureKind::Moment(order) => return moments::parse_moment(label, *order),
            FeatureKind::Number | FeatureKind::WholeNumber => return None,
        };
        let code = labels.code(label);
        match (code, unseen) {
            (Some(code), _) => Some(code as f64),
            (None, Unseen::Missing) => Some(f64::NAN),
            (None, Unseen::Other) => Some(labels.len() as f64),
            (None, Unseen::Refuse | Unseen::Code) => None,
        }
    }

    /// The value that a row holds for a whole number, as [`code_of_number`](Self::code_of_number).
    /// A label may be a code of more digits than the number can hold.
    pub fn code_of_whole(&self, digits: &str, number: f64) -> Option<f64> {
        match self {
            FeatureKind::Category { unseen, .. }
                if *unseen != Unseen::Code || self.has_label(digits) =>
            {
                self.code(digits)
            }
            _ => self.code_of_number(number),
        }
    }

    /// The value that a row holds for a number, as [`code`](Self::code) for a text: a label may be
    /// a number.
    pub fn code_of_number(&self, number: f64) -> Option<f64> {
        match self {
            FeatureKind::YesNo => return (number == 0.0 || number == 1.0).then_some(number),
            FeatureKind::Moment(_) => return number.is_finite().then_some(number),
            _ => {}
        }
        let known = self.code(&ShortNumber(number).to_string());
        match self {
            FeatureKind::Category {
                unseen: Unseen::Code,
                ..
            } => known.or(Some(number)),
            _ => known,
        }
    }
}

impl OutputSpec {
    /// Class labels in the order of class indices; empty if the output is numbers.
    pub fn labels(&self) -> &[String] {
        match self {
            OutputSpec::Classes { labels, .. } => labels,
            OutputSpec::Numbers { .. } => &[],
        }
    }

    /// Calls the classes by other names; none leaves them as they are.
    ///
    /// # Errors
    ///
    /// Not as many names as classes, or none to name.
    pub fn with_labels(mut self, names: &[String]) -> Result<Self, ModelError> {
        let unique: HashSet<&String> = names.iter().collect();
        if unique.len() != names.len() {
            return Err("--classes must name each class differently".into());
        }
        match &mut self {
            _ if names.is_empty() => Ok(self),
            OutputSpec::Classes { labels, .. } if labels.len() == names.len() => {
                *labels = names.to_vec();
                Ok(self)
            }
            OutputSpec::Classes { labels, .. } => Err(ModelError(format!(
                "--classes must name {} classes, but names {}",
                labels.len(),
                names.len()
            ))),
            OutputSpec::Numbers { .. } => {
                Err("--classes names classes, but the model answers with numbers".into())
            }
        }
    }

    /// Numbers per row of an answer, including probabilities.
    pub fn numbers_per_row(&self) -> usize {
        match self {
            OutputSpec::Classes { labels, .. } => 1 + labels.len(),
            OutputSpec::Numbers { width } => *width,
        }
    }
}

/// Describes in one line how a model's signature differs from its predecessor's; `None` if it does
/// not.
pub fn change(before: &Signature, after: &Signature) -> Option<String> {
    let mut changes = Vec::new();
    let features = ("feature", "features");
    match names(features, before.names(), after.names()) {
        Some(change) => changes.push(change),
        None => changes.extend(values(before, after)),
    }
    match (&before.output, &after.output) {
        (
            OutputSpec::Classes {
                labels: were,
                has_probabilities: had,
            },
            OutputSpec::Classes {
                labels: are,
                has_probabilities: have,
            },
        ) => {
            let (were, are) = (
                were.iter().map(String::as_str),
                are.iter().map(String::as_str),
            );
            changes.extend(names(("class", "classes"), were, are));
            match (had, have) {
                (true, false) => {
                    changes.push("its answers have no probabilities any more".to_owned())
                }
                (false, true) => {
                    changes.push("its answers have probabilities in addition".to_owned())
                }
                _ => {}
            }
        }
        (OutputSpec::Numbers { .. }, OutputSpec::Classes { .. }) => {
            changes.push("it answers with classes instead of numbers".to_owned());
        }
        (OutputSpec::Classes { .. }, OutputSpec::Numbers { .. }) => {
            changes.push("it answers with numbers instead of classes".to_owned());
        }
        (OutputSpec::Numbers { width: was }, OutputSpec::Numbers { width: is }) if was != is => {
            changes.push(format!(
                "it answers with {is} numbers a row instead of {was}"
            ));
        }
        (OutputSpec::Numbers { .. }, OutputSpec::Numbers { .. }) => {}
    }
    (!changes.is_empty()).then(|| changes.join("; "))
}

/// What changes in the values of features that keep their names.
fn values(before: &Signature, after: &Signature) -> Option<String> {
    let mut pairs = before.features.iter().zip(&after.features);
    let (was, is) = pairs.find(|(was, is)| was != is)?;
    let name = shown(&is.name);
    Some(match (was.may_be_missing, is.may_be_missing) {
        (true, false) => format!("its feature {name} may not be missing any more"),
        (false, true) => format!("its feature {name} may be missing"),
        _ => format!(
            "its feature {name} must be {}, and was {}",
            is.kind.must_be(),
            was.kind.must_be()
        ),
    })
}

fn names<'a>(
    (one, many): (&str, &str),
    before: impl ExactSizeIterator<Item = &'a str> + Clone,
    after: impl ExactSizeIterator<Item = &'a str> + Clone,
) -> Option<String> {
    let mut pairs = before.clone().zip(after.clone()).enumerate();
    let moved = pairs.find(|(_, (was, is))| was != is);
    if moved.is_none() && before.len() == after.len() {
        return None;
    }
    let known: HashSet<&str> = before.clone().collect();
    let kept: HashSet<&str> = after.clone().collect();
    let lost = listed(before.clone().filter(|name| !kept.contains(name)));
    let new = listed(after.clone().filter(|name| !known.contains(name)));
    Some(match (lost, new, moved) {
        (Some(lost), Some(new), _) => format!("its {many} lack {lost} and have {new} in addition"),
        (Some(lost), None, _) => format!("its {many} lack {lost}"),
        (None, Some(new), _) => format!("its {many} have {new} in addition"),
        (None, None, Some((place, (was, is)))) => format!(
            "its {many} stand in another order: {one} {} is {}, and was {}",
            place + 1,
            shown(is),
            shown(was)
        ),
        (None, None, None) => format!("its {many} are {}, and were {}", after.len(), before.len()),
    })
}

/// Lists the first names; `None` if there are none.
fn listed<'a>(names: impl Iterator<Item = &'a str> + Clone) -> Option<String> {
    let first: Vec<String> = names.clone().take(NAMES_SHOWN).map(shown).collect();
    let count = names.count();
    match count.saturating_sub(first.len()) {
        _ if count == 0 => None,
        0 => Some(first.join(", ")),
        more => Some(format!("{} and {more} more", first.join(", "))),
    }
}

fn shown(name: &str) -> String {
    let short: String = name.chars().take(NAME_MAX).collect();
    let more = if short.len() < name.len() { "…" } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signature(features: &str, classes: &str) -> Signature {
        let list = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        let output = match classes {
            "" => OutputSpec::Numbers { width: 1 },
            _ => OutputSpec::Classes {
                labels: list(classes),
                has_probabilities: true,
            },
        };
        Signature::of_numbers(list(features), output)
    }

    /// The same without probabilities.
    fn bare(features: &str, classes: &str) -> Signature {
        Signature {
            output: OutputSpec::Classes {
                labels: signature(features, classes).output.labels().to_vec(),
                has_probabilities: false,
            },
            ..signature(features, classes)
        }
    }

    /// The same with a first feature of another kind.
    fn with_first(features: &str, kind: FeatureKind, may_be_missing: bool) -> Signature {
        let mut signature = signature(features, "x y");
        signature.features[0].kind = kind;
        signature.features[0].may_be_missing = may_be_missing;
        signature
    }

    #[test]
    fn only_what_changes_for_clients_is_a_change() {
        let before = signature("a b c", "x y");
        #[rustfmt::skip]
        let table = [
            ("nothing", signature("a b c", "x y"), ""),
            ("another order", signature("b a c", "x y"), "its features stand in another order: feature 1 is \"b\", and was \"a\""),
            ("one less", signature("a b", "x y"), "its features lack \"c\""),
            ("one more", signature("a b c d", "x y"), "its features have \"d\" in addition"),
            ("another name", signature("a b C", "x y"), "its features lack \"c\" and have \"C\" in addition"),
            ("many", signature("1 2 3 4 5 6 7", "x y"), "its features lack \"a\", \"b\", \"c\" and have \"1\", \"2\", \"3\", \"4\", \"5\" and 2 more in addition"),
            ("another order of classes", signature("a b c", "y x"), "its classes stand in another order: class 1 is \"y\", and was \"x\""),
            ("a class more", signature("a b c", "x y z"), "its classes have \"z\" in addition"),
            ("numbers", signature("a b c", ""), "it answers with numbers instead of classes"),
            ("no probabilities", bare("a b c", "x y"), "its answers have no probabilities any more"),
            ("two things", bare("b a c", "x y"), "its features stand in another order: feature 1 is \"b\", and was \"a\"; its answers have no probabilities any more"),
            ("may be missing", with_first("a b c", FeatureKind::Number, true), "its feature \"a\" may be missing"),
            ("whole numbers", with_first("a b c", FeatureKind::WholeNumber, false), "its feature \"a\" must be a whole number, and was a finite number"),
        ];
        for (name, after, expected) in table {
            assert_eq!(
                change(&before, &after).unwrap_or_default(),
                expected,
                "{name}"
            );
        }
        let numbers = signature("a", "");
        let text = "it answers with classes instead of numbers";
        assert_eq!(change(&numbers, &signature("a", "x y")).unwrap(), text);
        let long = signature(&"n".repeat(1000), "");
        assert!(change(&numbers, &long).unwrap().len() < 120);
    }

    #[test]
    fn only_values_that_a_feature_may_have_pass() {
        let labels = ["red", "green"].map(str::to_owned).to_vec();
        let colour = FeatureKind::Category {
            labels: labels.into(),
            unseen: Unseen::Refuse,
        };
        assert_eq!(colour.code("green"), Some(1.0));
        assert_eq!(colour.code("blue"), None);
        assert_eq!(FeatureKind::Number.code("green"), None);
        let kinds = [
            (FeatureKind::Number, false),
            (FeatureKind::Number, true),
            (FeatureKind::WholeNumber, false),
            (colour, false),
        ];
        let feature = |(index, (kind, may_be_missing)): (usize, (FeatureKind, bool))| Feature {
            name: index.to_string(),
            kind,
            may_be_missing,
            may_be_infinite: false,
            written: None,
            range: None,
        };
        let signature = Signature {
            features: kinds.into_iter().enumerate().map(feature).collect(),
            output: OutputSpec::Numbers { width: 1 },
        };
        let sound = [0.5, f64::NAN, -3.0, 1.0];
        #[rustfmt::skip]
        let table = [
            ("sound", sound, None),
            ("one that must be there is missing", [f64::NAN, 1.0, 1.0, 0.0], Some((0, "a finite number"))),
            ("infinity", [0.5, f64::INFINITY, 1.0, 0.0], Some((1, "a finite number"))),
            ("a fraction", [0.5, 1.0, 1.5, 0.0], Some((2, "a whole number"))),
            ("a code beyond the labels", [0.5, 1.0, 1.0, 2.0], Some((3, "one of \"red\", \"green\""))),
            ("a negative code", [0.5, 1.0, 1.0, -1.0], Some((3, "one of \"red\", \"green\""))),
        ];
        for (name, row, expected) in table {
            let rows = Rows::new([sound, row].concat(), 4).unwrap();
            let found = signature.check(&rows).err();
            let expected = expected.map(|(feature, must_be)| RowFault {
                row: 1,
                feature,
                must_be: must_be.to_owned(),
            });
            assert_eq!(found, expected, "{name}");
        }
    }

    #[test]
    fn many_rows_are_checked_as_each_value_is() {
        let category = |unseen| FeatureKind::Category {
            labels: ["red", "green"].map(str::to_owned).to_vec().into(),
            unseen,
        };
        let kinds = [
            FeatureKind::Number,
            FeatureKind::WholeNumber,
            FeatureKind::YesNo,
            FeatureKind::Moment(MomentOrder::YearFirst),
            category(Unseen::Refuse),
            category(Unseen::Other),
            category(Unseen::Code),
        ];
        let (huge, whole) = (1e300, (1u64 << 53) as f64);
        let values = [
            0.0,
            -0.0,
            1.0,
            1.5,
            2.0,
            3.0,
            -1.0,
            1e-300,
            huge,
            -huge,
            whole,
            whole + 2.0,
            0.5 - whole,
            f64::MAX,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
        ];
        let mut taken = 0;
        for kind in kinds {
            for (may_be_missing, may_be_infinite) in [(false, false), (true, false), (true, true)] {
                let mut signature =
                    Signature::of_numbers(vec!["x".to_owned()], OutputSpec::Numbers { width: 1 });
                let feature = &mut signature.features[0];
                feature.kind = kind.clone();
                (feature.may_be_missing, feature.may_be_infinite) =
                    (may_be_missing, may_be_infinite);
                for value in values {
                    let one = Rows::new(vec![value], 1).unwrap();
                    let many = Rows::new(vec![value; 9], 1).unwrap();
                    let [one, many] = [one, many].map(|rows| signature.check(&rows));
                    assert_eq!(one, many, "{kind:?} {value}");
                    taken += usize::from(one.is_ok());
                }
            }
        }
        assert!((100..200).contains(&taken), "{taken} values are taken");
        let wide = Rows::new(vec![1.0; 18], 2).unwrap();
        let signature =
            Signature::of_numbers(vec!["x".to_owned()], OutputSpec::Numbers { width: 1 });
        assert_eq!(signature.check(&wide).unwrap_err().feature, 1);
    }
}
