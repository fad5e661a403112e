//! `lanekeeper predict`: the server's answers offline, row by row as a table streams by.
//!
//! The main thread reads rows in batches, workers predict on every core, and one thread writes the
//! answers in the order of the rows. All queues are bounded, so a table may be larger than memory.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, BufWriter, Write};
use std::sync::Arc;
use std::thread::available_parallelism;

use crossbeam_channel::{Receiver, Sender};
use csv::StringRecord;

use crate::commands::output::Stdout;
use crate::config::PredictArgs;
use crate::error::StartError;
use crate::models::compute::{self, ComputeError};
use crate::models::{Feature, Loaded, RowFault, Rows, Signature, format};
use crate::platform::panic;
use crate::platform::sys;
use crate::protocol::instances::csv::{cells, columns, raw_cells, raw_columns, read_value};
use crate::protocol::is_whole;
use crate::train::table::{Column, TableError, TableReader};

/// Rows that are predicted together.
const CHUNK_ROWS: usize = 1024;

/// Batches in progress per worker.
const CHUNKS_AHEAD: usize = 4;

/// Address space for the stack of a thread that predicts.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// Rows to predict: their features, and their own cells if those are kept.
struct Chunk {
    /// The first row's number, for errors.
    first: usize,
    values: Vec<f64>,
    kept: Vec<StringRecord>,
}

/// A chunk for a worker, and where its text is awaited.
struct ChunkJob {
    chunk: Chunk,
    reply: Sender<Result<Vec<u8>, String>>,
}

/// What becomes of a chunk.
struct Answering {
    loaded: Loaded,
    json: bool,
    raw: bool,
    /// Names of the table's own columns, if they are kept.
    kept: Option<Vec<String>>,
    delimiter: u8,
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
    let mut table = TableReader::open(&args.data, args.delimiter).map_err(Stop::failed)?;
    let columns = table
        .find(&loaded.model.signature().features)
        .map_err(Stop::failed)?;
    let others = table.others(&columns);
    if !args.keep && !others.is_empty() {
        // A closed stderr must not stop the command.
        let _ = writeln!(
            io::stderr(),
            "lanekeeper: unused columns: {}",
            others.join(", ")
        );
    }
    let answering = Arc::new(Answering {
        json: args.json,
        raw: args.raw,
        kept: args.keep.then(|| table.header().to_vec()),
        delimiter: args.delimiter,
        loaded,
    });
    let workers = available_parallelism().map_or(1, usize::from);
    let (jobs, taken) = crossbeam_channel::bounded::<ChunkJob>(workers * CHUNKS_AHEAD);
    let (order, ordered) = crossbeam_channel::bounded(workers * CHUNKS_AHEAD);
    for worker in 0..workers {
        let (answering, taken) = (Arc::clone(&answering), taken.clone());
        start(&format!("predict-{worker}"), workers, move || {
            answer(&answering, &taken)
        })?;
    }
    let head = answering.head().map_err(Stop::failed)?;
    let (done, ended) = crossbeam_channel::bounded(1);
    start("write", workers, move || {
        // It has room for the one there is.
        let _ = done.try_send(write(&head, &ordered));
    })?;
    let mut first = 0;
    let mut record = StringRecord::new();
    let mut failure = None;
    loop {
        let mut chunk = Chunk {
            first,
            values: Vec::with_capacity(CHUNK_ROWS * columns.len()),
            kept: Vec::new(),
        };
        let mut rows = 0;
        // Rows before a wrong one are answered all the same.
        while rows < CHUNK_ROWS && failure.is_none() {
            let columns = (&columns[..], &answering.signature().features[..]);
            match read_row(&mut table, columns, &mut record, &mut chunk, args.keep) {
                Ok(true) => rows += 1,
                Ok(false) => break,
                Err(error) => failure = Some(error),
            }
        }
        chunk.values.truncate(rows * columns.len());
        if rows == 0 {
            break;
        }
        first += rows;
        let (reply, answer) = crossbeam_channel::bounded(1);
        // Either end is gone only if the writing thread has stopped: it knows why.
        if order.send(answer).is_err() || jobs.send(ChunkJob { chunk, reply }).is_err() {
            break;
        }
        if rows < CHUNK_ROWS {
            break;
        }
    }
    drop((order, jobs));
    let written = ended
        .recv()
        .map_err(|_| Stop::Failed("the thread that writes has ended".to_owned()))?;
    written?;
    failure.map_or(Ok(()), |error| Err(Stop::failed(error)))
}

/// Starts one of `workers` threads that predict, or the one that writes.
fn start(name: &str, workers: usize, body: impl FnOnce() + Send + 'static) -> Result<(), Stop> {
    let started = sys::spawn(name, STACK_BYTES, body);
    started.map(|_| ()).map_err(|error| {
        let needed = workers + 2; // the main thread is one of them
        Stop::Failed(StartError::no_threads("", needed, &error).to_string())
    })
}

/// Reads one row into a chunk; `false` at the end of the table.
fn read_row(
    table: &mut TableReader<'_>,
    (columns, features): (&[Column], &[Feature]),
    record: &mut StringRecord,
    chunk: &mut Chunk,
    keep: bool,
) -> Result<bool, TableError> {
    if !table.next(record)? {
        return Ok(false);
    }
    for (column, feature) in columns.iter().zip(features) {
        chunk
            .values
            .push(read_value(table, record, column, feature)?);
    }
    if keep {
        chunk.kept.push(record.clone());
    }
    Ok(true)
}

/// Answers batches until there are no more.
fn answer(answering: &Answering, jobs: &Receiver<ChunkJob>) {
    while let Ok(ChunkJob { chunk, reply }) = jobs.recv() {
        let text = panic::catch(|| answering.text(&chunk))
            .unwrap_or_else(|panic| Err(format!("the model panicked: {panic}")));
        // Nobody waits any more if an earlier chunk has failed.
        let _ = reply.try_send(text);
    }
}

/// Writes the answers in order, until there are no more or one is an error.
fn write(head: &[u8], ordered: &Receiver<Receiver<Result<Vec<u8>, String>>>) -> Result<(), Stop> {
    let stop = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::NobodyReads,
        _ => Stop::Failed(format!("cannot write the answers: {error}")),
    };
    let mut stdout = BufWriter::new(Stdout);
    stdout.write_all(head).map_err(stop)?;
    for answer in ordered {
        let text = answer
            .recv()
            .map_err(|_| Stop::Failed("a thread that predicted has ended".to_owned()))?
            .map_err(|text| {
                // Answers before the error are worth having.
                let _ = stdout.flush();
                Stop::Failed(text)
            })?;
        stdout.write_all(&text).map_err(stop)?;
    }
    stdout.flush().map_err(stop)
}

impl Answering {
    fn signature(&self) -> &Signature {
        self.loaded.model.signature()
    }

    /// The header of a CSV answer; JSON lines have none.
    fn head(&self) -> Result<Vec<u8>, String> {
        if self.json {
            return Ok(Vec::new());
        }
        let mut head = self.kept.clone().unwrap_or_default();
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

    /// Predicts for a chunk and writes the answer.
    fn text(&self, chunk: &Chunk) -> Result<Vec<u8>, String> {
        let width = self.signature().features.len();
        let rows = Rows::new(chunk.values.clone(), width).ok_or("a row does not fit the model")?;
        compute::check(self.loaded.model.as_ref(), &rows)
            .map_err(|fault| self.unfit(chunk, &rows, &fault))?;
        let output =
            compute::predict(self.loaded.model.as_ref(), &rows).map_err(
                |failure| match failure {
                    ComputeError::Input(fault) => self.unfit(chunk, &rows, &fault),
                    ComputeError::Model(error) => error.to_string(),
                },
            )?;
        let raw = self.raw.then(|| self.loaded.model.raw(&rows)).flatten();
        let raw = raw.unwrap_or_default();
        let mut writer = self.writer();
        let mut lines = Vec::new();
        for row in 0..rows.len() {
            let answer =
                cells(&self.signature().output, &output, row).map_err(|error| error.to_string())?;
            let sums = raw_cells(&raw, rows.len(), row).map_err(|error| error.to_string())?;
            let kept = chunk.kept.get(row);
            if self.json {
                self.put_json(&mut lines, kept, &answer, &sums)?;
            } else {
                let own = kept.into_iter().flatten().map(str::as_bytes);
                let all = own.chain(answer.iter().map(|cell| cell.as_bytes()));
                let all = all.chain(sums.iter().map(String::as_bytes));
                writer
                    .write_record(all)
                    .map_err(|error| error.to_string())?;
            }
        }
        if self.json {
            return Ok(lines);
        }
        writer.into_inner().map_err(|error| error.to_string())
    }

    /// Says which row the model cannot take, and why.
    fn unfit(&self, chunk: &Chunk, rows: &Rows, fault: &RowFault) -> String {
        let fault_text = compute::fault_text(self.signature(), rows, fault);
        format!("row {}: {fault_text}", chunk.first + fault.row + 1)
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
        if let (Some(kept), Some(header)) = (kept, &self.kept) {
            let pairs: Result<Vec<String>, String> = header
                .iter()
                .zip(kept)
                .map(|(name, cell)| Ok(format!("{}:{}", text(name)?, text(cell)?)))
                .collect();
            fields.push(format!("\"input\":{{{}}}", pairs?.join(",")));
        }
        let said = answer.first().map_or("", AsRef::as_ref);
        fields.push(match (labels.is_empty(), answer.len()) {
            (true, 0 | 1) => format!("\"prediction\":{said}"),
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
