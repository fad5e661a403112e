//! What is to be predicted: numbers, or classes.

use std::collections::{BTreeMap, HashMap};

use super::draft::{DataDraft, Scanned};
use super::{Cells, ColumnReport, ColumnRole, Problems};
use crate::models::cells;
use crate::models::native::{self, NAMES_MAX};
use crate::train::columns::ColumnKind;
use crate::train::table::{TableColumn, echo};
use crate::train::{Targets, Task, TrainError};

/// Distinct whole numbers of a target up to which it is taken for classes.
const CLASSES_OF_NUMBERS: usize = 10;

/// Rows for each class from which on whole numbers are taken for classes.
const ROWS_OF_A_CLASS: usize = 5;

impl DataDraft<'_> {
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
            for (row, cell) in cells
                .iter()
                .enumerate()
                .filter(|(_, cell)| is_missing(cell))
            {
                // A class may well be called "None".
                let is_missing = match cell.is_empty() {
                    true => "missing".to_owned(),
                    false => format!("{}, which stands for a missing value", echo(cell)),
                };
                let fill = match task {
                    Task::Classification if !cell.is_empty() => {
                        "write another word if it is a class"
                    }
                    _ => "fill it in",
                };
                problems.add("targets", format!(
                    "{}: the target is {is_missing}; {fill}, or leave such rows out with --drop-missing",
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

    /// Refuses labels that a model's file cannot hold, and those of several lines: a stray quote
    /// swallows what follows it.
    pub(super) fn check_labels(
        &self,
        (column, cells): (&TableColumn, &Cells),
        problems: &mut Problems,
    ) {
        for (row, cell) in cells.iter().enumerate() {
            if cell.contains('\n') {
                problems.add("quotes", format!(
                    "{}: the cell {} goes on over several lines, as after a stray quote; close the quote, or double it within a cell",
                    self.place(row, column), echo(cell)
                ));
            } else if !cell.is_empty()
                && let Err(reason) = native::check_name("a label", cell)
            {
                problems.add(
                    "labels",
                    format!(
                        "{}: {reason}, but the cell is {}",
                        self.place(row, column),
                        echo(cell)
                    ),
                );
            }
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
        self.check_labels((column, cells), problems);
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
        (column, cells): (&TableColumn, &Cells),
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
}

/// Removes classes whose rows were all dropped.
pub(super) fn without_empty_classes(
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
