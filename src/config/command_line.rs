//! The whole command line: what the derived options of `serve` have in common.
//!
//! Each is also a variable, is shown by `-h` only if people change it, and stands under "Advanced" if
//! only an operator with a rare problem would.

use clap::{Args as _, Command, CommandFactory as _};

use super::environment::PREFIX;
use super::{Args, ServeArgs};

/// The options that `-h` shows.
const COMMON: [&str; 14] = [
    "model",
    "watch",
    "listen",
    "probe-listen",
    "predict-workers",
    "predict-queue",
    "max-wait",
    "request-timeout",
    "stall-timeout",
    "drain-timeout",
    "max-body",
    "max-connections",
    "log-level",
    "log-format",
];

/// The options under "Advanced".
const ADVANCED: [&str; 11] = [
    "yield",
    "max-head",
    "max-fields",
    "head-timeout",
    "body-timeout",
    "min-body-rate",
    "body-grace",
    "pace-first",
    "pace-later",
    "pace-bodies",
    "pace-probes",
];

/// Options for `drill` and its server: accepted, and not shown.
const HIDDEN: [&str; 1] = ["shared-lane"];

/// The commands that take the options of `serve`, beside the command line without a command.
const SERVING: [&str; 6] = [
    "serve",
    "check",
    "manifest",
    "kubernetes",
    "kserve",
    "systemd",
];

/// Returns the command line as clap parses it.
pub(super) fn command_line() -> Command {
    let serve = ServeArgs::augment_args(Command::new("serve"));
    let options: Vec<&str> = serve
        .get_arguments()
        .filter_map(clap::Arg::get_long)
        .collect();
    with_variables(Args::command(), &options)
}

/// Returns the variable of an option of `serve`.
pub(super) fn variable(name: &str) -> String {
    PREFIX.to_owned() + &name.to_uppercase().replace('-', "_")
}

/// Gives the options of `serve` their variables and their places in the help of `command`.
fn with_variables(command: Command, options: &[&str]) -> Command {
    let command = command.mut_args(|option| {
        let Some(name) = option.get_long().filter(|name| options.contains(name)) else {
            return option;
        };
        let name = name.to_owned();
        let variable = variable(&name);
        let option = option
            .env(variable)
            .hide_env(true)
            .hide(HIDDEN.contains(&name.as_str()))
            .hide_short_help(!COMMON.contains(&name.as_str()));
        match ADVANCED.contains(&name.as_str()) {
            true => option.help_heading("Advanced"),
            false => option,
        }
    });
    let below = command.get_subcommands().map(Command::get_name);
    let below: Vec<String> = below
        .filter(|name| SERVING.contains(name))
        .map(str::to_owned)
        .collect();
    below.iter().fold(command, |command, name| {
        command.mut_subcommand(name, |below| with_variables(below, options))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_option_of_serve_is_a_variable_and_every_listed_one_exists() {
        let command = command_line();
        let serve = command.find_subcommand("serve").unwrap();
        let mut names = Vec::new();
        for option in serve.get_arguments() {
            let Some(name) = option.get_long().filter(|name| *name != "help") else {
                continue;
            };
            names.push(name);
            let variable = option.get_env().unwrap().to_str().unwrap();
            let expected = format!("LANEKEEPER_{}", name.to_uppercase().replace('-', "_"));
            assert_eq!(variable, expected);
        }
        for listed in COMMON.iter().chain(&ADVANCED).chain(&HIDDEN) {
            assert!(names.contains(listed), "--{listed}");
        }
        let predict = command.find_subcommand("predict").unwrap();
        let model = predict
            .get_arguments()
            .find(|option| option.get_long() == Some("model"));
        assert_eq!(model.unwrap().get_env(), None);
    }
}
