//! Writes answers in the order of the rows: at once, or when it is known that each row has one.

use std::fs::File;
use std::io::{self, BufWriter, Seek as _, Write};

use crossbeam_channel::Receiver;

use super::{Answered, Stop};
use crate::commands::model_file::note_to_stderr;
use crate::commands::output::Stdout;

/// Problems that are told.
const PROBLEMS_SHOWN: usize = 10;

/// Where answers go until it is known whether all rows have one.
struct Spool {
    file: BufWriter<File>,
}

impl Spool {
    /// A file that nobody else can open, and that is gone when it is closed.
    fn new() -> io::Result<Self> {
        let name = format!("lanekeeper-predict-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let mut options = File::options();
        let file = options
            .read(true)
            .write(true)
            .create_new(true)
            .open(&path)?;
        std::fs::remove_file(&path)?;
        Ok(Spool {
            file: BufWriter::new(file),
        })
    }

    fn copy(self, to: &mut impl Write) -> io::Result<()> {
        let mut file = self
            .file
            .into_inner()
            .map_err(io::IntoInnerError::into_error)?;
        file.rewind()?;
        io::copy(&mut file, to).map(drop)
    }
}

/// Writes the answers in order, until there are no more or one is an error.
pub(super) fn write(
    head: &[u8],
    ordered: &Receiver<Receiver<Result<Answered, String>>>,
    skips_bad: bool,
) -> Result<(), Stop> {
    let stop = |error: io::Error| match error.kind() {
        io::ErrorKind::BrokenPipe => Stop::NobodyReads,
        _ => Stop::Failed(format!("cannot write the answers: {error}")),
    };
    let no_spool = |error: io::Error| {
        Stop::Failed(format!(
            "cannot keep the answers in {} until all rows are predicted: {error}; set TMPDIR, or give --skip-bad",
            std::env::temp_dir().display()
        ))
    };
    let mut stdout = BufWriter::new(Stdout);
    let mut spool = match skips_bad {
        true => None,
        false => Some(Spool::new().map_err(no_spool)?),
    };
    let (mut told, mut count, mut failure) = (Vec::new(), 0, None);
    let mut put = |text: &[u8], is_sound: bool| match &mut spool {
        None => stdout.write_all(text).map_err(stop),
        Some(spool) if is_sound => spool.file.write_all(text).map_err(no_spool),
        Some(_) => Ok(()),
    };
    put(head, true)?;
    for answer in ordered {
        let answer = answer
            .recv()
            .map_err(|_| Stop::Failed("a thread that predicted has ended".to_owned()))?
            .map_err(Stop::Failed)?;
        count += answer.problems.len();
        told.extend(answer.problems);
        told.truncate(PROBLEMS_SHOWN);
        put(&answer.text, count == 0)?;
        failure = answer.failure;
        if failure.is_some() {
            break;
        }
    }
    let problems = |what: &str| {
        let more = match count - told.len() {
            0 => String::new(),
            more => format!("\n  and {more} more"),
        };
        format!("{what}:\n  {}{more}", told.join("\n  "))
    };
    if let (Some(_), Some(failure)) = (&spool, &failure) {
        // It is told first: nothing was written of the table.
        return Err(Stop::failed(failure));
    }
    match (spool, count) {
        (None, _) => {}
        (Some(spool), 0) => spool.copy(&mut stdout).map_err(stop)?,
        (Some(_), 1) => return Err(Stop::Failed(told.concat())),
        (Some(_), count) => {
            return Err(Stop::Failed(problems(&format!(
                "{count} rows cannot be predicted, so nothing was written (--skip-bad writes empty answers for them)"
            ))));
        }
    }
    stdout.flush().map_err(stop)?;
    if count > 0 {
        note_to_stderr(&problems(&format!("{count} rows have an empty answer")));
    }
    failure.map_or(Ok(()), |failure| Err(Stop::failed(failure)))
}
