//! Training data in the making: what each column becomes, and what is wrong with its cells.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Cells, ColumnReport, ColumnRole, DataOptions, Problems, TrainingData, WholeTable};
use crate::models::Rows;
use crate::models::cells::{self, NumberStyle, Written};
use crate::models::moments;
use crate::models::native::NAMES_MAX;
use crate::models::native::features::{FeatureDocument, KindDocument};
use crate::train::columns::{ColumnDecision, ColumnKind};
use crate::train::table::{Column, echo};
use crate::train::{Targets, Task, TrainError};

/// Distinct whole numbers of a target up to which it is taken for classes.
const CLASSES_OF_NUMBERS: usize = 10;

/// Rows for each class from which on whole numbers are taken for classes.
const ROWS_OF_A_CLASS: usize = 5;

/// How numbers are written, if not as 1234.5.
fn style_note(style: &NumberStyle) -> Option<String> {
    let mut parts = Vec::new();
    if style.decimal_comma {
        parts.push("a decimal comma".to_owned());
    }
    if let Some(separator) = style.thousands {
        parts.push(format!("{separator:?} between thousands"));
    }
    if style.percent {
        parts.push("percent signs, which are dropped".to_owned());
    }
    if let Some(currency) = &style.currency {
        parts.push(format!("the currency {currency}, which is dropped"));
    }
    (!parts.is_empty()).then(|| format!("its numbers have {}", parts.join(", ")))
}

/// A column of the table with what was found out about it.
type Scanned<'a> = (&'a Column, &'a Cells, &'a ColumnDecision);

/// Training data in the making.
pub(super) struct Draft<'a> {
    table: &'a WholeTable,
    options: &'a DataOptions,
    pub(super) target: Option<Scanned<'a>>,
    features: Vec<FeatureDocument>,
    /// Feature by feature the values of all rows.
    values: Vec<Vec<f64>>,
    columns: Vec<ColumnReport>,
    pub(super) notes: Vec<String>,
}

impl<'a> Draft<'a> {
    pub(super) fn new(table: &'a WholeTable, options: &'a DataOptions) -> Self {
        Draft {
            table,
            options,
            target: None,
            features: Vec::new(),
            values: Vec::new(),
            columns: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn place(&self, row: usize, column: &Column) -> String {
        let line = self.table.lines[row];
        format!("{}, line {line}, column {:?}", self.table.name, column.name)
    }

    /// Takes a column as a feature, or leaves it out. `choice` is what the operator said.
    pub(super) fn feature(
        &mut self,
        (column, cells, decision): Scanned<'a>,
        choice: Option<bool>,
        problems: &mut Problems,
    ) {
        let own = self
            .options
            .kinds
            .iter()
            .find(|(name, _)| *name == column.name);
        let kind = own.map_or(decision.kind, |(_, kind)| *kind);
        let is_usable = !matches!(
            kind,
            ColumnKind::Constant
                | ColumnKind::Identifier
                | ColumnKind::FreeText
                | ColumnKind::Index
        );
        // What was asked for by name is used, if it can be.
        let kind = match (is_usable, choice) {
            (false, Some(true)) => self.usable(decision),
            _ => kind,
        };
        let is_feature = choice.unwrap_or(is_usable);
        let why = match (choice, own) {
            (Some(false), _) if self.options.exclude.contains(&column.name) => {
                "excluded".to_owned()
            }
            (Some(false), _) => "not chosen".to_owned(),
            (_, Some(_)) => "as --column says".to_owned(),
            _ => decision.why.clone(),
        };
        self.columns.push(ColumnReport {
            name: column.name.clone(),
            kind: kind.describe(),
            role: match is_feature {
                true => ColumnRole::Feature,
                false => ColumnRole::LeftOut,
            },
            missing: decision.missing,
            why,
        });
        if !is_feature {
            return;
        }
        let about = |note: &String| format!("column {:?}: {note}", column.name);
        self.notes.extend(decision.notes.iter().map(about));
        if matches!(kind, ColumnKind::Number | ColumnKind::WholeNumber) {
            self.notes
                .extend(style_note(&decision.style).as_ref().map(about));
        }
        let labels = match kind {
            ColumnKind::Category => self.labels(cells, decision),
            _ => Vec::new(),
        };
        if labels.len() > NAMES_MAX {
            problems.add("labels", format!(
                "the column {:?} has {} labels, but a category may have {NAMES_MAX}; leave it out with --exclude {}",
                column.name, labels.len(), column.name
            ));
            return;
        }
        let values = self.values_of(column, cells, (kind, decision, &labels), problems);
        self.add(column, (kind, decision), labels, values);
    }

    /// A kind that a model can take, for a column that would be left out.
    fn usable(&self, decision: &ColumnDecision) -> ColumnKind {
        match decision.range {
            Some(_) => ColumnKind::Number,
            None => ColumnKind::Category,
        }
    }

    fn labels(&self, cells: &Cells, decision: &ColumnDecision) -> Vec<String> {
        let labels: BTreeSet<&str> = cells
            .iter()
            .filter(|cell| !self.is_missing(cell, decision))
            .collect();
        labels.into_iter().map(str::to_owned).collect()
    }

    fn is_missing(&self, cell: &str, decision: &ColumnDecision) -> bool {
        let is_label = cell == "-" && decision.dash_is_label;
        !is_label && cells::is_missing(cell, &self.options.missing)
    }

    /// Reads a feature's cells, and says which are none of its values.
    fn values_of(
        &self,
        column: &Column,
        cells: &Cells,
        (kind, decision, labels): (ColumnKind, &ColumnDecision, &[String]),
        problems: &mut Problems,
    ) -> Vec<f64> {
        let codes: HashMap<&str, f64> = labels
            .iter()
            .enumerate()
            .map(|(code, label)| (label.as_str(), code as f64))
            .collect();
        let read = |cell: &str| match kind {
            ColumnKind::Category => codes.get(cell).copied(),
            ColumnKind::YesNo => cells::parse_yes_no(cell).map(|yes| f64::from(u8::from(yes))),
            ColumnKind::Moment => moments::parse_moment(cell, decision.order),
            _ => cells::parse_number(cell, &decision.style),
        };
        let mut values = Vec::with_capacity(self.table.lines.len());
        for (row, cell) in cells.iter().enumerate() {
            let value = match self.is_missing(cell, decision) {
                true => Some(f64::NAN),
                false => read(cell),
            };
            values.push(value.unwrap_or_else(|| {
                problems.add("cells", format!(
                    "{}: {} is no {}; mend it, or say what the column is with --column {}=category",
                    self.place(row, column), echo(cell), kind.describe(), column.name
                ));
                f64::NAN
            }));
        }
        values
    }

    fn add(
        &mut self,
        column: &Column,
        (kind, decision): (ColumnKind, &ColumnDecision),
        labels: Vec<String>,
        values: Vec<f64>,
    ) {
        let style = match kind {
            ColumnKind::Number | ColumnKind::WholeNumber => decision.style.clone(),
            _ => NumberStyle::default(),
        };
        let written = Written {
            style,
            missing: self.options.missing.clone(),
        };
        let is_usual = written == Written::default();
        let document_kind = match kind {
            ColumnKind::Category => KindDocument::Category {
                labels,
                takes_others: !self.options.refuses_unseen,
            },
            ColumnKind::YesNo => KindDocument::YesNo,
            ColumnKind::Moment => KindDocument::Moment(decision.order),
            ColumnKind::WholeNumber => KindDocument::WholeNumber,
            _ => KindDocument::Number,
        };
        let range = values
            .iter()
            .filter(|value| !value.is_nan())
            .fold(None, |range, value| {
                let [low, high] = range.unwrap_or([*value; 2]);
                Some([value.min(low), value.max(high)])
            });
        self.features.push(FeatureDocument {
            name: column.name.clone(),
            may_be_missing: !self.options.drops_missing
                && values.iter().any(|value| value.is_nan()),
            written: (!is_usual).then_some(written),
            range: match document_kind {
                KindDocument::Category { .. } => None,
                _ => range,
            },
            kind: document_kind,
        });
        self.values.push(values);
    }

    /// Reads the target; of each row its number, or its label.
    pub(super) fn targets(&mut self, problems: &mut Problems) -> (Targets, Vec<String>) {
        let none = (Targets::Numbers(Vec::new()), Vec::new());
        let Some((column, cells, decision)) = self.target else {
            return none;
        };
        let is_number = matches!(
            decision.kind,
            ColumnKind::Number | ColumnKind::WholeNumber | ColumnKind::Index
        ) || (decision.range.is_some() && decision.kind != ColumnKind::YesNo);
        let task = self.options.task.unwrap_or_else(|| {
            let labels = self.labels(cells, decision).len();
            let is_few =
                labels <= CLASSES_OF_NUMBERS && labels * ROWS_OF_A_CLASS <= self.table.lines.len();
            let is_whole = decision.kind == ColumnKind::WholeNumber;
            match is_number && !(is_whole && is_few) {
                true => Task::Regression,
                false => Task::Classification,
            }
        });
        self.columns.push(ColumnReport {
            name: column.name.clone(),
            kind: match task {
                Task::Classification => "classes",
                Task::Regression => "number",
            },
            role: ColumnRole::Target,
            missing: decision.missing,
            why: String::new(),
        });
        let is_missing = |cell: &str| self.is_missing(cell, decision);
        if !self.options.drops_missing {
            for (row, _) in cells
                .iter()
                .enumerate()
                .filter(|(_, cell)| is_missing(cell))
            {
                problems.add("targets", format!(
                    "{}: the target is missing; fill it in, or leave such rows out with --drop-missing",
                    self.place(row, column)
                ));
            }
        }
        match task {
            Task::Regression => {
                let numbers = cells.iter().enumerate().map(|(row, cell)| {
                    if is_missing(cell) {
                        return f64::NAN;
                    }
                    cells::parse_number(cell, &decision.style).unwrap_or_else(|| {
                        problems.add("numbers", format!(
                            "{}: the target is {}, but must be a number; choose a classifier for classes",
                            self.place(row, column), echo(cell)
                        ));
                        f64::NAN
                    })
                });
                (Targets::Numbers(numbers.collect()), Vec::new())
            }
            Task::Classification => self.classify((column, cells, decision), problems),
        }
    }

    /// Turns labels into classes: in numeric order if all are numbers, otherwise sorted. Rows without
    /// one have the class `u32::MAX`.
    fn classify(
        &self,
        (column, cells, decision): Scanned<'_>,
        problems: &mut Problems,
    ) -> (Targets, Vec<String>) {
        let mut classes = self.labels(cells, decision);
        let number = |label: &String| {
            label
                .parse::<f64>()
                .ok()
                .filter(|number| number.is_finite())
        };
        if classes.iter().all(|label| number(label).is_some()) {
            let order = |label: &String| number(label).unwrap_or(0.0);
            classes.sort_by(|one, other| order(one).total_cmp(&order(other)));
        }
        self.check_spelling((column, cells), &classes, problems);
        if classes.len() < 2 {
            problems.add(
                "classes",
                format!(
                    "the target has one class, {:?}, in every row: there is nothing to tell apart",
                    classes.first().map_or("", String::as_str)
                ),
            );
        }
        if classes.len() > NAMES_MAX {
            problems.add("classes", format!(
                "the target has {} classes, but a model may have {NAMES_MAX}; if it is a number, choose a regressor",
                classes.len()
            ));
        }
        let places: BTreeMap<&str, u32> = (0..)
            .zip(&classes)
            .map(|(index, label)| (label.as_str(), index))
            .collect();
        let class = |cell: &str| places.get(cell).copied().unwrap_or(u32::MAX);
        let targets = Targets::Classes {
            indices: cells.iter().map(class).collect(),
            classes: classes.len(),
        };
        (targets, classes)
    }

    /// Refuses labels that a person would take for the same: 0 and 0.0, yes and Yes.
    fn check_spelling(
        &self,
        (column, cells): (&Column, &Cells),
        classes: &[String],
        problems: &mut Problems,
    ) {
        let meaning = |label: &str| match label.parse::<f64>() {
            Ok(number) if number.is_finite() => (number + 0.0).to_string(),
            _ => label.to_lowercase(),
        };
        let mut first: HashMap<String, &str> = HashMap::new();
        let row_of = |label: &str| cells.iter().position(|cell| cell == label).unwrap_or(0);
        for label in classes {
            let other = *first.entry(meaning(label)).or_insert(label);
            if other != label {
                problems.add("spelling", format!(
                    "{}: the labels {label:?} and {other:?} (line {}) differ only in spelling; write them alike",
                    self.place(row_of(label), column),
                    self.table.lines[row_of(other)]
                ));
            }
        }
    }

    /// Drops rows that are to be dropped, and puts the values side by side.
    pub(super) fn finish(
        self,
        targets: Targets,
        classes: Vec<String>,
        mut notes: Vec<String>,
    ) -> Result<TrainingData, TrainError> {
        if self.features.is_empty() {
            return Err(TrainError(format!(
                "there are no features: {}",
                match self.columns.len() {
                    1 => "the table has no column but the target".to_owned(),
                    _ => format!(
                        "no column can be used ({}); choose some with --features, or say what they are with --column NAME=KIND",
                        self.left_out().join(", ")
                    ),
                }
            )));
        }
        let has_target = |row: usize| match &targets {
            Targets::Numbers(numbers) => !numbers[row].is_nan(),
            Targets::Classes { indices, .. } => indices[row] != u32::MAX,
        };
        let all = self.table.lines.len();
        let kept: Vec<usize> = (0..all)
            .filter(|row| has_target(*row))
            .filter(|row| {
                !self.options.drops_missing
                    || self.values.iter().all(|values| !values[*row].is_nan())
            })
            .collect();
        if kept.is_empty() {
            return Err("no row is left: each has a missing value".into());
        }
        if kept.len() < all {
            notes.push(format!(
                "{} rows with missing values were dropped",
                all - kept.len()
            ));
        }
        let left_out = self.left_out();
        if !left_out.is_empty() {
            notes.push(format!("columns left out: {}", left_out.join(", ")));
        }
        let mut values = Vec::with_capacity(kept.len() * self.features.len());
        for row in &kept {
            values.extend(self.values.iter().map(|column| column[*row]));
        }
        let (targets, classes) = without_empty_classes(targets.subset(&kept), classes)?;
        let rows =
            Rows::new(values, self.features.len()).ok_or("the rows are of different lengths")?;
        Ok(TrainingData {
            features: self.features,
            rows,
            targets,
            classes,
            columns: self.columns,
            notes,
        })
    }

    fn left_out(&self) -> Vec<String> {
        let left_out = |column: &&ColumnReport| column.role == ColumnRole::LeftOut;
        let told = |column: &ColumnReport| {
            let name = if column.name.is_empty() {
                "the unnamed one"
            } else {
                &column.name
            };
            format!("{name} ({})", column.why)
        };
        self.columns.iter().filter(left_out).map(told).collect()
    }
}

/// Removes classes whose rows were all dropped.
fn without_empty_classes(
    targets: Targets,
    labels: Vec<String>,
) -> Result<(Targets, Vec<String>), TrainError> {
    let Targets::Classes { indices, classes } = &targets else {
        return Ok((targets, labels));
    };
    let mut used = vec![false; *classes];
    indices
        .iter()
        .for_each(|class| used[*class as usize] = true);
    if used.iter().all(|used| *used) {
        return Ok((targets, labels));
    }
    let mut place = 0;
    let places: Vec<u32> = used
        .iter()
        .map(|used| {
            place += u32::from(*used);
            place.saturating_sub(1)
        })
        .collect();
    let labels: Vec<String> = labels
        .into_iter()
        .zip(&used)
        .filter(|(_, used)| **used)
        .map(|(label, _)| label)
        .collect();
    if labels.len() < 2 {
        return Err("only one class is left after rows with missing values were dropped".into());
    }
    let targets = Targets::Classes {
        indices: indices
            .iter()
            .map(|class| places[*class as usize])
            .collect(),
        classes: labels.len(),
    };
    Ok((targets, labels))
}
