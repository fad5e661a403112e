//! Training data: a whole table, the kinds of its columns, and what is wrong with it.
//!
//! All problems of a table are told at once, each with its line, so that one edit mends them.

mod draft;
mod target;

use std::collections::BTreeSet;

use self::draft::DataDraft;
use crate::models::Rows;
use crate::models::native::features::FeatureDocument;
use crate::train::columns::{ColumnDecision, ColumnKind, ColumnScan};
use crate::train::table::{TableColumn, TableReader};
use crate::train::{Targets, Task, TrainError};

/// How many problems of one kind are told.
const PROBLEMS_SHOWN: usize = 10;

/// Data to train on.
#[derive(Debug)]
pub struct TrainingData {
    /// The features, in the order of a row's values.
    pub features: Vec<FeatureDocument>,
    /// Rows; NaN is missing, and a category is the index of its label.
    pub rows: Rows,
    /// The target of each row.
    pub targets: Targets,
    /// Class labels in the order of their indices; empty for regression.
    pub classes: Vec<String>,
    /// What every column of the table is taken for.
    pub columns: Vec<ColumnReport>,
    /// What the operator should know, one line each.
    pub notes: Vec<String>,
}

/// What a column is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ColumnReport {
    /// Its name.
    pub name: String,
    /// Its kind, in words.
    pub kind: &'static str,
    /// Whether it is a feature, the target, or left out.
    pub role: ColumnRole,
    /// Number of missing cells.
    pub missing: u64,
    /// Why it has this kind, or is left out.
    pub why: String,
}

/// What a column is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnRole {
    /// The model takes it.
    Feature,
    /// The model predicts it.
    Target,
    /// Nothing.
    LeftOut,
}

/// How a table is to be read.
#[derive(Debug, Clone, Default)]
pub struct DataOptions {
    /// The column to predict.
    pub target: String,
    /// The columns to use; all that can be if absent.
    pub features: Option<Vec<String>>,
    /// Columns to leave out.
    pub exclude: Vec<String>,
    /// Kinds of columns by name, in place of what is recognised.
    pub kinds: Vec<(String, ColumnKind)>,
    /// Further words for a missing value.
    pub missing: Vec<String>,
    /// Whether rows with a missing value are dropped.
    pub drops_missing: bool,
    /// Whether a model refuses labels that training has not seen.
    pub refuses_unseen: bool,
    /// What the model answers with; decided by the target if absent.
    pub task: Option<Task>,
}

/// Problems by kind, in the order in which the kinds were met.
#[derive(Debug, Default)]
struct Problems {
    kinds: Vec<(&'static str, Vec<String>, usize)>,
}

impl Problems {
    fn add(&mut self, kind: &'static str, text: String) {
        let place = self.kinds.iter().position(|(own, ..)| *own == kind);
        let place = place.unwrap_or_else(|| {
            self.kinds.push((kind, Vec::new(), 0));
            self.kinds.len() - 1
        });
        let (_, told, count) = &mut self.kinds[place];
        *count += 1;
        if told.len() < PROBLEMS_SHOWN {
            told.push(text);
        }
    }

    fn into_result(self, table: &str) -> Result<(), TrainError> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        if let [(_, told, 1)] = &self.kinds[..] {
            return Err(TrainError(told[0].clone()));
        }
        let mut text = format!("{table} cannot be trained on as it is:");
        for (_, told, count) in &self.kinds {
            for problem in told {
                text.push_str(&format!("\n  {problem}"));
            }
            if *count > told.len() {
                text.push_str(&format!("\n  and {} more of this kind", count - told.len()));
            }
        }
        Err(TrainError(text))
    }
}

/// The cells of a column, one after another.
#[derive(Debug, Default)]
struct Cells {
    text: String,
    ends: Vec<usize>,
}

impl Cells {
    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts
            .zip(&self.ends)
            .map(|(start, end)| &self.text[start..*end])
    }
}

/// A table in memory.
struct WholeTable {
    name: String,
    columns: Vec<(TableColumn, Cells, ColumnDecision)>,
    /// The line of each row.
    lines: Vec<u64>,
}

impl WholeTable {
    fn read(
        table: &mut TableReader,
        options: &DataOptions,
        problems: &mut Problems,
    ) -> Result<Self, TrainError> {
        let header = table.layout().header.clone();
        let mut cells: Vec<Cells> = header.iter().map(|_| Cells::default()).collect();
        let mut scans: Vec<ColumnScan> = header
            .iter()
            .map(|name| ColumnScan::new(name, &options.missing))
            .collect();
        let mut lines = Vec::new();
        while let Some(row) = table.next_row()? {
            if let Err(wrong) = row.check() {
                problems.add("rows", wrong.0);
                continue;
            }
            lines.push(row.line());
            for ((cell, cells), scan) in row.cells().zip(&mut cells).zip(&mut scans) {
                let cell = cell.trim();
                cells.push(cell);
                scan.add(cell, row.line());
            }
        }
        let columns = header
            .into_iter()
            .enumerate()
            .zip(cells)
            .zip(scans)
            .map(|(((index, name), cells), scan)| {
                (TableColumn { name, index }, cells, scan.decide())
            })
            .collect();
        Ok(WholeTable {
            name: table.layout().name.clone(),
            columns,
            lines,
        })
    }
}

impl TrainingData {
    /// Reads a whole table.
    ///
    /// # Errors
    ///
    /// A file that cannot be read, columns that are not there, and everything in the table that cannot
    /// be trained on, all at once.
    pub fn read(mut table: TableReader, options: &DataOptions) -> Result<Self, TrainError> {
        let target = table
            .layout()
            .find(std::slice::from_ref(&options.target))?
            .remove(0);
        let named = |names: &[String]| -> Result<BTreeSet<usize>, TrainError> {
            let found = table.layout().find(names)?;
            Ok(found.into_iter().map(|column| column.index).collect())
        };
        let wanted = options.features.as_deref().map(named).transpose()?;
        let excluded = named(&options.exclude)?;
        let kinds: Vec<String> = options.kinds.iter().map(|(name, _)| name.clone()).collect();
        named(&kinds)?;
        if wanted
            .as_ref()
            .is_some_and(|wanted| wanted.contains(&target.index))
        {
            return Err(TrainError(format!(
                "the target {:?} cannot be a feature too; leave it out of --features",
                target.name
            )));
        }
        let named_columns: Vec<&String> = table
            .layout()
            .header
            .iter()
            .filter(|name| !name.is_empty())
            .collect();
        table.layout().find(&named_columns)?;
        let mut notes = table.notes().to_vec();
        let mut problems = Problems::default();
        let whole = WholeTable::read(&mut table, options, &mut problems)?;
        if whole.lines.is_empty() {
            problems.into_result(&whole.name)?;
            return Err("the table has no rows".into());
        }
        let mut draft = DataDraft::new(&whole, options);
        // In the order in which they were chosen.
        let place = |column: &TableColumn| {
            let chosen = options.features.iter().flatten();
            let place = chosen.into_iter().position(|name| *name == column.name);
            (place.unwrap_or(usize::MAX), column.index)
        };
        let mut columns: Vec<_> = whole.columns.iter().collect();
        columns.sort_by_key(|(column, ..)| place(column));
        for (column, cells, decision) in columns {
            let is_wanted = wanted.as_ref().map(|wanted| wanted.contains(&column.index));
            if column.index == target.index {
                draft.target = Some((column, cells, decision));
            } else {
                let choice = match excluded.contains(&column.index) {
                    true => Some(false),
                    false => is_wanted,
                };
                draft.feature((column, cells, decision), choice, &mut problems);
            }
        }
        let (targets, classes) = draft.targets(&mut problems);
        problems.into_result(&whole.name)?;
        notes.append(&mut draft.notes);
        draft.finish(targets, classes, notes)
    }
}
