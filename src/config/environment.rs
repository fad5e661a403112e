//! Reads the command line and the environment: which variable gave an option its value, and which
//! variables no option has.
//!
//! An empty variable counts as unset. A command ignores the variables of other commands.

use std::collections::BTreeMap;
use std::ffi::OsString;

use clap::builder::{OsStr, Resettable};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Command as Parser, Error, FromArgMatches as _};

use super::command_line::command_line;
use super::{Args, Command, ManifestTarget, PARENT};

/// The prefix of every variable.
pub(super) const PREFIX: &str = "LANEKEEPER_";

/// Cargo sets it when it runs a program that was built with it.
const COMMIT: &str = "LANEKEEPER_COMMIT";

/// Maximum number of variables to warn about.
const WARNINGS_MAX: usize = 16;

/// The variables that gave options their values.
#[derive(Debug, Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Reads from `matches` which options of `command` a variable gave.
    fn of(matches: &ArgMatches, command: &Parser) -> Self {
        let given = command.get_arguments().filter_map(|option| {
            let variable = option.get_env()?.to_string_lossy().into_owned();
            let source = matches.value_source(option.get_id().as_str())?;
            let name = format!("--{}", option.get_long()?);
            (source == ValueSource::EnvVariable).then_some((name, variable))
        });
        Variables(given.collect())
    }

    /// Returns the name under which a person set an option: its variable, if that gave the value,
    /// otherwise `--listen`, say.
    pub fn name<'a>(&'a self, option: &'a str) -> &'a str {
        self.0.get(option).map_or(option, String::as_str)
    }
}

/// Reads the command line, and the variables of the requested command.
///
/// # Errors
///
/// clap's own; a wrong value from the environment is reported under its variable's name.
pub(super) fn parse(args: &[OsString]) -> Result<Args, Error> {
    // Whatever is wrong without any variable was typed.
    let typed = match reading(command_line(), None).try_get_matches_from(args) {
        Ok(typed) => typed,
        Err(error) if error.exit_code() == 0 => {
            // Help shows the variables and their values.
            let help = command_line().try_get_matches_from(args).err();
            return Err(help.filter(|help| help.exit_code() == 0).unwrap_or(error));
        }
        Err(error) => return Err(error),
    };
    let path = path(&typed);
    let command = reading(command_line(), Some(&path));
    let matches = command
        .clone()
        .try_get_matches_from(args)
        .map_err(|error| by_variable(error, leaf(&command, &path)))?;
    let mut parsed = Args::from_arg_matches(&matches)?;
    let of_leaf = path.iter().try_fold(&matches, |matches, name| {
        matches.subcommand_matches(name.as_str())
    });
    let variables = of_leaf.map_or_else(Variables::default, |matches| {
        Variables::of(matches, leaf(&command, &path))
    });
    match &mut parsed.command {
        None => parsed.serve.variables = variables,
        Some(Command::Serve(serve) | Command::Check(serve)) => serve.variables = variables,
        Some(Command::Probe(probe)) => probe.variables = variables,
        Some(Command::Manifest(manifest)) => {
            let serve = match &mut manifest.target {
                ManifestTarget::Kubernetes(target) => &mut target.serve,
                ManifestTarget::Kserve(target) => &mut target.serve,
                ManifestTarget::Systemd(target) => &mut target.serve,
            };
            serve.args.variables = variables;
        }
        Some(
            Command::Train(_)
            | Command::Convert(_)
            | Command::Predict(_)
            | Command::Inspect(_)
            | Command::Drill(_)
            | Command::GoldenScript(_)
            | Command::Help(_),
        ) => {}
    }
    Ok(parsed)
}

/// The names of the command and its subcommand, as requested.
fn path(matches: &ArgMatches) -> Vec<String> {
    let mut path = Vec::new();
    let mut at = matches.subcommand();
    while let Some((name, below)) = at {
        path.push(name.to_owned());
        at = below.subcommand();
    }
    path
}

fn leaf<'a>(command: &'a Parser, path: &[String]) -> &'a Parser {
    path.iter().fold(command, |command, name| {
        command.find_subcommand(name).unwrap_or(command)
    })
}

/// Makes `command` read the set variables of the command at `path` below it, and no others.
fn reading(command: Parser, path: Option<&[String]>) -> Parser {
    let is_asked_for = path.is_some_and(<[String]>::is_empty);
    let command = command.mut_args(|option| {
        let variable = option.get_env().and_then(std::env::var_os);
        match is_asked_for && variable.is_some_and(|value| !value.is_empty()) {
            true => option,
            false => option.env(Resettable::<OsStr>::Reset),
        }
    });
    let below: Vec<String> = command
        .get_subcommands()
        .map(|below| below.get_name().to_owned())
        .collect();
    below.into_iter().fold(command, |command, name| {
        let path = path.and_then(|path| path.split_first());
        let path = path.and_then(|(first, rest)| (*first == name).then_some(rest));
        command.mut_subcommand(&name, |below| reading(below, path))
    })
}

/// Names the variable whose value is wrong instead of an option that nobody typed.
fn by_variable(mut error: Error, command: &Parser) -> Error {
    let variables = |fits: &dyn Fn(&clap::Arg) -> bool| {
        let option = command.get_arguments().find(|option| fits(option))?;
        Some(option.get_env()?.to_string_lossy().into_owned())
    };
    if error.kind() == ErrorKind::InvalidUtf8 {
        let value = |option: &clap::Arg| option.get_env().and_then(std::env::var_os);
        let wrong = |option: &clap::Arg| value(option).is_some_and(|text| text.to_str().is_none());
        return match variables(&wrong) {
            Some(variable) => Error::raw(error.kind(), format!("{variable} must be UTF-8")),
            None => error,
        };
    }
    let Some(ContextValue::String(shown)) = error.get(ContextKind::InvalidArg) else {
        return error;
    };
    let shown = shown.split([' ', '=', '[']).next().unwrap_or(shown);
    let long = shown.trim_start_matches('-').to_owned();
    if let Some(variable) = variables(&|option| option.get_long() == Some(&long)) {
        error.insert(ContextKind::InvalidArg, ContextValue::String(variable));
    }
    error
}

/// Returns a line for each of our variables that no option has, with the one that was probably
/// meant.
pub fn unknown_variables() -> Vec<String> {
    let set = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
    unknown(&set.collect::<Vec<_>>())
}

fn unknown(set: &[String]) -> Vec<String> {
    let mut known = Vec::new();
    gather(&command_line(), &mut known);
    let ours = set.iter().filter(|name| name.starts_with(PREFIX));
    let is_known =
        |name: &String| known.contains(name) || [PARENT, COMMIT].contains(&name.as_str());
    let mut strange: Vec<&String> = ours
        .filter(|name| !is_known(name) && !is_of_a_service(name, set))
        .collect();
    strange.sort();
    strange.truncate(WARNINGS_MAX);
    let line = |name: &&String| {
        let nearest = known.iter().min_by_key(|other| distance(name, other));
        let nearest = nearest.map_or(PREFIX, String::as_str);
        format!("{name:?} is set, but no option has such a variable; the nearest is {nearest}")
    };
    strange.iter().map(line).collect()
}

/// Adds the variables of a command and those below it.
fn gather(command: &Parser, known: &mut Vec<String>) {
    let variables = command.get_arguments().filter_map(clap::Arg::get_env);
    known.extend(variables.map(|name| name.to_string_lossy().into_owned()));
    command
        .get_subcommands()
        .for_each(|below| gather(below, known));
}

/// Whether Kubernetes sets such a variable in each pod next to a Service called lanekeeper, or
/// lanekeeper-something, whose host it also sets.
fn is_of_a_service(name: &str, set: &[String]) -> bool {
    let of = |service: &str| {
        let rest = name.strip_prefix(service);
        rest.is_some_and(|rest| {
            rest == "_SERVICE_HOST"
                || rest.starts_with("_SERVICE_PORT")
                || rest == "_PORT"
                || rest.starts_with("_PORT_")
        })
    };
    let others = set
        .iter()
        .filter_map(|name| name.strip_suffix("_SERVICE_HOST"));
    of(PREFIX.trim_end_matches('_')) || others.into_iter().any(of)
}

/// The Levenshtein distance of two words.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (line, letter) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, expected) in other.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *expected);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

/// Returns the help of a command, or of all commands; `None` if there is no such command.
pub fn command_help(name: Option<&str>) -> Option<Error> {
    let command = command_line();
    let exists = name.is_none_or(|name| command.find_subcommand(name).is_some());
    let args = ["lanekeeper"].into_iter().chain(name);
    let args = args.chain([if name.is_some() { "--help" } else { "-h" }]);
    exists.then(|| command.try_get_matches_from(args).err())?
}

/// Makes clap's error about wrong options one line.
pub fn usage_line(error: &Error) -> String {
    let text = error.to_string();
    let message = text.split("\n\nUsage:").next().unwrap_or(&text);
    let message = message
        .split("\n\nFor more information")
        .next()
        .unwrap_or(message);
    let words: Vec<&str> = message.split_whitespace().collect();
    let line = words.join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    format!("{line}; see lanekeeper --help")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(set: &[&str]) -> Vec<String> {
        let set: Vec<String> = set.iter().map(|name| (*name).to_owned()).collect();
        unknown(&set)
    }

    #[test]
    fn an_unknown_variable_is_reported_with_the_nearest_one() {
        for (name, nearest) in [
            ("LANEKEEPER_LISTN", "LANEKEEPER_LISTEN"),
            ("LANEKEEPER_PREDICT_WORKER", "LANEKEEPER_PREDICT_WORKERS"),
            ("LANEKEEPER_MAXBODY", "LANEKEEPER_MAX_BODY"),
            ("LANEKEEPER_LOGLEVEL", "LANEKEEPER_LOG_LEVEL"),
            ("LANEKEEPER_PROBE_ADR", "LANEKEEPER_PROBE_ADDR"),
            ("LANEKEEPER_STALL_TIME_OUT", "LANEKEEPER_STALL_TIMEOUT"),
        ] {
            let lines = warnings(&["PATH", "LANEKEEPER_LISTEN", name]);
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(lines[0].contains(name), "{lines:?}");
            assert!(
                lines[0].ends_with(&format!("nearest is {nearest}")),
                "{lines:?}"
            );
        }
        assert_eq!(warnings(&["LANEKEEPER_A", "LANEKEEPER_B"]).len(), 2);
        let many: Vec<String> = (0..99).map(|n| format!("LANEKEEPER_{n}")).collect();
        assert_eq!(unknown(&many).len(), WARNINGS_MAX);
    }

    #[test]
    fn every_option_of_ours_and_what_kubernetes_sets_is_no_reason_to_warn() {
        let mut known = Vec::new();
        gather(&command_line(), &mut known);
        assert!(known.len() > 30 && unknown(&known).is_empty());
        let silent = [
            PARENT,
            COMMIT,
            "LANEKEEPER_SERVICE_HOST",
            "LANEKEEPER_SERVICE_PORT",
            "LANEKEEPER_SERVICE_PORT_HTTP",
            "LANEKEEPER_PORT",
            "LANEKEEPER_PORT_80_TCP",
            "LANEKEEPER_PORT_80_TCP_ADDR",
            "lanekeeper_listn",
            "NOT_LANEKEEPER_LISTN",
        ];
        assert_eq!(warnings(&silent), [""; 0]);
        let canary = ["LANEKEEPER_CANARY_PORT", "LANEKEEPER_CANARY_PORT_80_TCP"];
        assert_eq!(warnings(&canary).len(), 2);
        let service = [&canary[..], &["LANEKEEPER_CANARY_SERVICE_HOST"]].concat();
        assert_eq!(warnings(&service), [""; 0], "a Service lanekeeper-canary");
    }

    #[test]
    fn distances_are_counted_in_letters() {
        for (one, other, letters) in [
            ("", "", 0),
            ("abc", "abc", 0),
            ("abc", "", 3),
            ("", "abc", 3),
            ("abc", "abd", 1),
            ("abc", "ac", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }
}
