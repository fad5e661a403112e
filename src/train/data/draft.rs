//! Training data in the making: what each column becomes, and what is wrong with its cells.

use std::collections::{BTreeSet, HashMap};

use super::target::without_empty_classes;
use super::{Cells, ColumnReport, ColumnRole, DataOptions, Problems, TrainingData, WholeTable};
use crate::models::Rows;
use crate::models::cells::{self, NumberStyle, Written};
use crate::models::moments;
use crate::models::native::features::{FeatureDocument, KindDocument};
use crate::models::native::{self, NAMES_MAX};
use crate::train::columns::{ColumnDecision, ColumnKind};
use crate::train::table::{TableColumn, echo};
use crate::train::{Targets, TrainError};

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
pub(super) type Scanned<'a> = (&'a TableColumn, &'a Cells, &'a ColumnDecision);

/// Training data in the making.
pub(super) struct DataDraft<'a> {
    pub(super) table: &'a WholeTable,
    pub(super) options: &'a DataOptions,
    pub(super) target: Option<Scanned<'a>>,
    features: Vec<FeatureDocument>,
    /// Feature by feature the values of all rows.
    values: Vec<Vec<f64>>,
    pub(super) columns: Vec<ColumnReport>,
    pub(super) notes: Vec<String>,
}

impl<'a> DataDraft<'a> {
    pub(super) fn new(table: &'a WholeTable, options: &'a DataOptions) -> Self {
        DataDraft {
            table,
            options,
            target: None,
            features: Vec::new(),
            values: Vec::new(),
            columns: Vec::new(),
            notes: Vec::new(),
        }
    }

    pub(super) fn place(&self, row: usize, column: &TableColumn) -> String {
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
        let is_named = !column.name.is_empty();
        let is_feature = choice.unwrap_or(is_usable && is_named);
        let why = match (choice, own) {
            (None, _) if is_usable && !is_named => "it has no name".to_owned(),
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
        let about = |note: &String| format!("column {:?}: {note}", column.name);
        if !is_feature {
            if choice.is_none() && is_named {
                self.notes.extend(decision.notes.iter().map(about));
            }
            return;
        }
        if let Err(reason) = native::check_name("a column's name", &column.name) {
            problems.add("names", format!("{}, line 1: {reason}", self.table.name));
            return;
        }
        // What makes another kind of it is of no interest if it was chosen.
        if decision.kind != ColumnKind::Index {
            self.notes.extend(decision.notes.iter().map(about));
        }
        if kind == ColumnKind::Category {
            self.notes.extend(decision.problems.iter().map(about));
            self.check_labels((column, cells), problems);
        }
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

    pub(super) fn labels(&self, cells: &Cells, decision: &ColumnDecision) -> Vec<String> {
        let labels: BTreeSet<&str> = cells
            .iter()
            .filter(|cell| !self.is_missing(cell, decision))
            .collect();
        labels.into_iter().map(str::to_owned).collect()
    }

    pub(super) fn is_missing(&self, cell: &str, decision: &ColumnDecision) -> bool {
        let is_label = cell == "-" && decision.dash_is_label;
        !is_label && cells::is_missing(cell, &self.options.missing)
    }

    /// Reads a feature's cells, and says which are none of its values.
    fn values_of(
        &self,
        column: &TableColumn,
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
        column: &TableColumn,
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
