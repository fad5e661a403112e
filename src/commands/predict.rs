//! `lanekeeper predict`: the server's answers offline, row by row as a table streams by.
//!
//! The main thread cuts the table into blocks of rows, workers read them and predict on every core, and
//! one thread writes the answers in the order of the rows. All queues are bounded, so a table may be
//! larger than memory.
//!
//! If a row cannot be predicted, nothing is written but what is wrong with such rows: answers wait in
//! a file until the last row was read. With `--skip-bad` they are written at once, and a bad row's
//! answer is empty.

mod spool;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::thread::available_parallelism;

use crossbeam_channel::{Receiver, Sender};
use csv::StringRecord;

use crate::commands::model_file::note_to_stderr;
use crate::commands::train::shape;
use crate::config::PredictArgs;
use crate::error::StartError;
use crate::models::compute::{self, ComputeError};
use crate::models::{Loaded, Output, RowFault, Rows, Signature, format, is_whole};
use crate::platform::panic;
use crate::platform::sys;
use crate::protocol::instances::csv::{cells, columns, raw_cells, raw_columns, read_value};
use crate::train::table::{RowReader, TableColumn, TableError, TableLayout, TableReader, TableRow};

/// Blocks in progress per worker.
const BLOCKS_AHEAD: usize = 4;

/// Address space for the stack of a thread that predicts.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// The rows of a block: their features, and their own cells if those are kept.
#[derive(Default)]
struct Chunk {
    /// The line of each row.
    lines: Vec<u64>,
    /// What is wrong with a row; its values are zeros then.
    problems: Vec<Option<String>>,
    values: Vec<f64>,
    kept: Vec<StringRecord>,
}

/// A block's answers, and what is wrong with rows that have none.
#[derive(Default)]
struct Answered {
    text: Vec<u8>,
    problems: Vec<String>,
    /// Why the table cannot be read on.
    failure: Option<TableError>,
}

/// A block for a worker, and where its answer is awaited.
struct BlockJob {
    block: RowReader<'static>,
    reply: Sender<Result<Answered, String>>,
}

/// What becomes of a block.
struct Answering {
    loaded: Loaded,
    json: bool,
    raw: bool,
    /// What errors call the table.
    table: String,
    /// Where the table has the features.
    columns: Vec<TableColumn>,
    /// The table's own columns that are kept: name and place.
    kept: Option<Vec<TableColumn>>,
    delimiter: u8,
    skips_bad: bool,
}

/// Why reading stopped.
enum Stop {
    /// Something is wrong: one line.
    Failed(String),
    /// The reader of the answers has gone.
    NobodyReads,
}

impl Stop {
    fn failed(error: impl fmt::Display) -> Self {
        Stop::Failed(error.to_string())
    }
}

/// Predicts every row of a table.
///
/// # Errors
///
/// A model that cannot be read, a table that does not fit it, and an answer that cannot be written.
pub fn run(args: &PredictArgs) -> Result<(), StartError> {
    match try_run(args) {
        Ok(()) | Err(Stop::NobodyReads) => Ok(()),
        Err(Stop::Failed(text)) => Err(StartError::Failed(text)),
    }
}

fn try_run(args: &PredictArgs) -> Result<(), Stop> {
    let loaded = format::load(&args.model);
    let loaded = loaded.map_err(|error| Stop::Failed(error.to_string()))?;
    if args.raw && loaded.model.raw_width() == 0 {
        let text = "--raw asks for the sums before the transform, but this model has none";
        return Err(Stop::Failed(text.to_owned()));
    }
    let mut table = TableReader::open(&args.data, &shape(args.shape)).map_err(Stop::failed)?;
    let mut answering = Answering::new(loaded, table.layout()).map_err(Stop::failed)?;
    (answering.json, answering.raw) = (args.json, args.raw);
    answering.skips_bad = args.skip_bad;
    if args.keep {
        answering.kept = Some(answering.kept_columns(&table.layout().header));
    }
    let others = table.layout().others(&answering.columns);
    let unused = format!("unused columns: {}", others.join(", "));
    let is_told = !args.keep && !others.is_empty();
    for note in table.notes().iter().chain(is_told.then_some(&unused)) {
        note_to_stderr(note);
    }
    let answering = Arc::new(answering);
    let workers = available_parallelism().map_or(1, usize::from);
    let (jobs, taken) = crossbeam_channel::bounded::<BlockJob>(workers * BLOCKS_AHEAD);
    let (order, ordered) = crossbeam_channel::bounded(workers * BLOCKS_AHEAD);
    for worker in 0..workers {
        let (answering, taken) = (Arc::clone(&answering), taken.clone());
        start(&format!("predict-{worker}"), workers, move || {
            answer(&answering, &taken)
        })?;
    }
    let head = answering.head().map_err(Stop::failed)?;
    let skips_bad = args.skip_bad;
    let (done, ended) = crossbeam_channel::bounded(1);
    start("write", workers, move || {
        // It has room for the one there is.
        let _ = done.try_send(spool::write(&head, &ordered, skips_bad));
    })?;
    while let Some(block) = table.next_block().transpose() {
        let (reply, answer) = crossbeam_channel::bounded(1);
        // Either end is gone only if the writing thread has stopped: it knows why.
        if order.send(answer).is_err() {
            break;
        }
        let goes_on = match block {
            Ok(block) => jobs.send(BlockJob { block, reply }).is_ok(),
            Err(error) => {
                let failed = Answered {
                    failure: Some(error),
                    ..Answered::default()
                };
                // It has room for the one there is.
                let _ = reply.try_send(Ok(failed));
                false
            }
        };
        if !goes_on {
            break;
        }
    }
    drop((order, jobs));
    ended
        .recv()
        .map_err(|_| Stop::Failed("the thread that writes has ended".to_owned()))?
}

/// Starts one of `workers` threads that predict, or the one that writes.
fn start(name: &str, workers: usize, body: impl FnOnce() + Send + 'static) -> Result<(), Stop> {
    let started = sys::spawn(name, STACK_BYTES, body);
    started.map(|_| ()).map_err(|error| {
        let needed = workers + 2; // the main thread is one of them
        Stop::Failed(StartError::no_threads("", needed, &error).to_string())
    })
}

/// Answers blocks until there are no more.
fn answer(answering: &Answering, jobs: &Receiver<BlockJob>) {
    while let Ok(BlockJob { mut block, reply }) = jobs.recv() {
        let answer = panic::catch(|| {
            let (chunk, failure) = Chunk::read(&mut block, answering);
            let answered = answering.answer(chunk)?;
            Ok(Answered {
                failure,
                ..answered
            })
        });
        let answer = answer.unwrap_or_else(|panic| Err(format!("the model panicked: {panic}")));
        // Nobody waits any more if an earlier block has failed.
        let _ = reply.try_send(answer);
    }
}

impl Chunk {
    /// Reads all rows of a block; those before one that cannot be read are answered all the same.
    fn read(block: &mut RowReader<'_>, answering: &Answering) -> (Self, Option<TableError>) {
        let mut chunk = Chunk::default();
        loop {
            match block.next_row() {
                Ok(Some(row)) => chunk.push(row, answering),
                Ok(None) => return (chunk, None),
                Err(failure) => return (chunk, Some(failure)),
            }
        }
    }

    fn push(&mut self, row: TableRow<'_>, answering: &Answering) {
        let start = self.values.len();
        let features = &answering.signature().features;
        let values = row.check().and_then(|()| {
            for (column, feature) in answering.columns.iter().zip(features) {
                self.values.push(read_value(row, column, feature)?);
            }
            Ok(())
        });
        self.values.resize(start + features.len(), 0.0);
        self.problems.push(values.err().map(|error| error.0));
        self.lines.push(row.line());
        if answering.kept.is_some() {
            self.kept.push(row.cells().collect());
        }
    }
}

impl Answering {
    /// Answers of a model for a table in CSV, without more.
    fn new(loaded: Loaded, layout: &TableLayout) -> Result<Self, TableError> {
        Ok(Answering {
            json: false,
            raw: false,
            table: layout.name.clone(),
            columns: layout.find(&loaded.model.signature().features)?,
            kept: None,
            delimiter: layout.delimiter,
            skips_bad: false,
            loaded,
        })
    }

    fn signature(&self) -> &Signature {
        self.loaded.model.signature()
    }

    /// The header of a CSV answer; JSON lines have none.
    fn head(&self) -> Result<Vec<u8>, String> {
        if self.json {
            return Ok(Vec::new());
        }
        let kept = self.kept.iter().flatten();
        let mut head: Vec<String> = kept.map(|column| column.name.clone()).collect();
        head.extend(columns(&self.signature().output));
        head.extend(raw_columns(self.raw_width()));
        let mut writer = self.writer();
        writer
            .write_record(&head)
            .map_err(|error| error.to_string())?;
        writer.into_inner().map_err(|error| error.to_string())
    }

    /// Number of sums that are written for each row.
    fn raw_width(&self) -> usize {
        match self.raw {
            true => self.loaded.model.raw_width(),
            false => 0,
        }
    }

    fn writer(&self) -> csv::Writer<Vec<u8>> {
        csv::WriterBuilder::new()
            .delimiter(self.delimiter)
            .from_writer(Vec::new())
    }

    /// The table's columns that are kept: all but those that are called like an answer.
    fn kept_columns(&self, header: &[String]) -> Vec<TableColumn> {
        let mut answers = columns(&self.signature().output);
        answers.extend(raw_columns(self.raw_width()));
        let column = |(index, name): (usize, &String)| TableColumn {
            name: name.clone(),
            index,
        };
        let is_own = |column: &TableColumn| !answers.contains(&column.name);
        header
            .iter()
            .enumerate()
            .map(column)
            .filter(is_own)
            .collect()
    }

    /// Predicts for a block's rows and writes the answers.
    fn answer(&self, mut chunk: Chunk) -> Result<Answered, String> {
        let width = self.signature().features.len();
        let rows = Rows::new(std::mem::take(&mut chunk.values), width);
        let rows = rows.ok_or("a row does not fit the model")?;
        self.mark_unfit(&rows, &mut chunk);
        let text = match chunk.problems.iter().all(Option::is_none) {
            true => self.text(&rows, &chunk)?,
            false if self.skips_bad => {
                let good: Vec<f64> = rows
                    .iter()
                    .zip(&chunk.problems)
                    .filter(|(_, problem)| problem.is_none())
                    .flat_map(|(row, _)| row)
                    .copied()
                    .collect();
                let good = Rows::new(good, width).ok_or("a row does not fit the model")?;
                self.text(&good, &chunk)?
            }
            // Nothing will be written.
            false => Vec::new(),
        };
        Ok(Answered {
            text,
            problems: chunk.problems.into_iter().flatten().collect(),
            failure: None,
        })
    }

    /// Marks rows that the model refuses.
    fn mark_unfit(&self, rows: &Rows, chunk: &mut Chunk) {
        let model = self.loaded.model.as_ref();
        if compute::check(model, rows).is_ok() {
            return;
        }
        for (place, row) in rows.iter().enumerate() {
            let row = Rows::new(row.to_vec(), rows.width());
            let Some(row) = row.filter(|_| chunk.problems[place].is_none()) else {
                continue;
            };
            if let Err(fault) = compute::check(model, &row) {
                chunk.problems[place] = Some(self.unfit(chunk.lines[place], &row, &fault));
            }
        }
    }

    /// Predicts the rows that have no problem, and writes an answer for each row of the block.
    fn text(&self, good: &Rows, chunk: &Chunk) -> Result<Vec<u8>, String> {
        let model = self.loaded.model.as_ref();
        let output = match good.is_empty() {
            true => Output::none(&self.signature().output),
            false => compute::predict(model, good).map_err(|failure| match failure {
                ComputeError::Input(fault) => {
                    let line = chunk.lines.first().copied().unwrap_or(0);
                    self.unfit(line + fault.row as u64, good, &fault)
                }
                ComputeError::Model(error) => error.to_string(),
            })?,
        };
        let raw = self.raw.then(|| model.raw(good)).flatten();
        let raw = raw.unwrap_or_default();
        let width = columns(&self.signature().output).len() + self.raw_width();
        let mut writer = self.writer();
        let mut lines = Vec::new();
        let mut next = 0;
        for (row, problem) in chunk.problems.iter().enumerate() {
            let kept = chunk.kept.get(row);
            if problem.is_some() {
                match self.json {
                    true => self.put_json(&mut lines, kept, &[], &[])?,
                    false => self.put_csv(&mut writer, kept, (0..width).map(|_| &b""[..]))?,
                }
                continue;
            }
            let answer = cells(&self.signature().output, &output, next);
            let answer = answer.map_err(|error| error.to_string())?;
            let sums = raw_cells(&raw, good.len(), next).map_err(|error| error.to_string())?;
            next += 1;
            if self.json {
                self.put_json(&mut lines, kept, &answer, &sums)?;
            } else {
                let all = answer.iter().map(|cell| cell.as_bytes());
                self.put_csv(
                    &mut writer,
                    kept,
                    all.chain(sums.iter().map(String::as_bytes)),
                )?;
            }
        }
        if self.json {
            return Ok(lines);
        }
        writer.into_inner().map_err(|error| error.to_string())
    }

    fn put_csv<'a>(
        &self,
        writer: &mut csv::Writer<Vec<u8>>,
        kept: Option<&'a StringRecord>,
        answer: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), String> {
        let own = self.kept.iter().flatten();
        // A row may be too short.
        let cell = |column: &TableColumn| kept.and_then(|kept| kept.get(column.index));
        let own = own.map(|column| cell(column).unwrap_or_default().as_bytes());
        writer
            .write_record(own.chain(answer))
            .map_err(|error| error.to_string())
    }

    /// Says which row the model cannot take, and why.
    fn unfit(&self, line: u64, rows: &Rows, fault: &RowFault) -> String {
        let fault_text = compute::fault_text(self.signature(), rows, fault);
        format!("{}, line {line}: {fault_text}", self.table)
    }

    /// Writes one answer as a JSON object, with numbers as in CSV.
    fn put_json(
        &self,
        lines: &mut Vec<u8>,
        kept: Option<&StringRecord>,
        answer: &[Cow<'_, str>],
        raw: &[String],
    ) -> Result<(), String> {
        let text = |text: &str| serde_json::to_string(text).map_err(|error| error.to_string());
        let labels = self.signature().output.labels();
        let mut fields = Vec::new();
        if let (Some(kept), Some(columns)) = (kept, &self.kept) {
            let pairs: Result<Vec<String>, String> = columns
                .iter()
                .filter_map(|column| Some((column, kept.get(column.index)?)))
                .map(|(column, cell)| Ok(format!("{}:{}", text(&column.name)?, text(cell)?)))
                .collect();
            fields.push(format!("\"input\":{{{}}}", pairs?.join(",")));
        }
        let said = answer.first().map_or("", AsRef::as_ref);
        fields.push(match (labels.is_empty(), answer.len()) {
            (_, 0) => "\"prediction\":null".to_owned(),
            (true, 1) => format!("\"prediction\":{said}"),
            (true, _) => format!("\"prediction\":[{}]", answer.join(",")),
            (false, _) if labels.iter().all(|label| is_whole(label)) => {
                format!("\"prediction\":{said}")
            }
            (false, _) => format!("\"prediction\":{}", text(said)?),
        });
        if !labels.is_empty() && answer.len() > 1 {
            let shares = labels.iter().zip(&answer[1..]);
            let pairs: Result<Vec<String>, String> = shares
                .map(|(label, share)| Ok(format!("{}:{share}", text(label)?)))
                .collect();
            fields.push(format!("\"probabilities\":{{{}}}", pairs?.join(",")));
        }
        if !raw.is_empty() {
            fields.push(format!("\"raw\":[{}]", raw.join(",")));
        }
        lines.extend_from_slice(format!("{{{}}}\n", fields.join(",")).as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod agreement;
