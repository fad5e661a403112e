//! `lanekeeper inspect`: what a model file holds.

use crate::commands::output;
use crate::config::InspectArgs;
use crate::error::StartError;
use crate::models::format;

/// Reads a model file, checks it as a server would, and prints what is in it.
///
/// # Errors
///
/// What is wrong with the file.
pub fn run(args: &InspectArgs) -> Result<(), StartError> {
    let details = format::details(&args.model);
    let details = details.map_err(|error| StartError::Failed(error.to_string()))?;
    if args.json {
        return output::print(&format!("{}\n", details.json));
    }
    let file = args
        .model
        .file
        .as_ref()
        .map_or_else(|| "embedded".to_owned(), |path| path.display().to_string());
    let mut text = format!("{:<12} {} ({file})\n", "model", details.name);
    for (what, value) in details.lines {
        text.push_str(&format!("{what:<12} {value}\n"));
    }
    output::print(&text)
}
