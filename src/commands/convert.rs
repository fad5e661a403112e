//! `lanekeeper convert`: from another library's model file to one of lanekeeper's own, which holds what
//! the other does not say.

use bytesize::ByteSize;

use crate::commands::model_file::{stem, write};
use crate::commands::output;
use crate::config::{ConvertArgs, ModelRequest};
use crate::error::StartError;
use crate::models::converted;
use crate::models::format::NO_GOLDEN_ROWS;

/// Converts a model, tries it as a server would, and writes its file.
///
/// # Errors
///
/// The model cannot be served, its golden rows differ, or the file cannot be written. Nothing is
/// written then.
pub fn run(args: &ConvertArgs) -> Result<(), StartError> {
    let request = ModelRequest {
        name: args.name.clone(),
        classes: args.classes.clone(),
        golden: args.golden.clone(),
        iterations: args.iterations,
        ..ModelRequest::of_file(Some(args.model.clone()))
    };
    let (bytes, loaded) = converted::convert(&request, stem(&args.out)).map_err(|reason| {
        StartError::Failed(format!(
            "cannot convert the model file {}: {reason}",
            args.model.display()
        ))
    })?;
    write(&args.out, &bytes)?;
    let mut notes = loaded.notes.clone();
    if loaded.golden.is_empty() {
        notes.push(NO_GOLDEN_ROWS.to_owned());
    }
    let notes: String = notes.iter().map(|note| format!("note: {note}\n")).collect();
    output::print(&format!(
        "{loaded}, {} golden rows\n{notes}wrote {} ({})\n",
        loaded.golden.len(),
        args.out.display(),
        ByteSize::b(bytes.len() as u64)
    ))
}
