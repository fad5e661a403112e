//! `lanekeeper help`: lists commands and topics, and shows one.

use super::output;
use crate::config::{self, HelpArgs};
use crate::error::StartError;
use crate::guide;

/// Prints a topic of the guide, or the help of a command; without a name, what there is.
///
/// A topic goes before a command of the same name, and ends with how to see the command's options.
///
/// # Errors
/// A name that is neither, and stdout that cannot be written.
pub fn run(help: &HelpArgs) -> Result<(), StartError> {
    let Some(name) = help.name.as_deref() else {
        if let Some(commands) = config::command_help(None) {
            output::print_help(&commands)?;
        }
        return output::print(&topics());
    };
    let command = config::command_help(Some(name));
    match (guide::topic(name), command) {
        (Some(topic), None) => output::print(topic.text),
        (Some(topic), Some(_)) => {
            let options = format!("\n`lanekeeper {name} --help` lists the options.\n");
            output::print(&(topic.text.to_owned() + &options))
        }
        (None, Some(command)) => output::print_help(&command),
        (None, None) => {
            let names: Vec<&str> = guide::TOPICS.iter().map(|topic| topic.name).collect();
            Err(StartError::Usage(format!(
                "{name} is neither a command nor a topic; the topics are {}",
                names.join(", ")
            )))
        }
    }
}

/// The list of topics, a line each.
fn topics() -> String {
    let lines = guide::TOPICS
        .iter()
        .map(|topic| format!("  {:<12}{}\n", topic.name, topic.summary));
    let lines: String = lines.collect();
    format!("\nTopics of the guide, for `lanekeeper help TOPIC`:\n{lines}")
}
