//! The options of `lanekeeper manifest`: the target, and the options of `serve` as they were given,
//! so that the manifest starts the same server.

use std::ffi::{OsStr, OsString};

use clap::error::Error;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, FromArgMatches, Subcommand, ValueEnum};

use super::{ServeArgs, command_line};

/// Maximum of `--replicas`.
const REPLICAS_MAX: i64 = 1000;

/// The options of `lanekeeper manifest`.
#[derive(Debug, clap::Args)]
pub struct ManifestArgs {
    /// Who is to run the server.
    #[command(subcommand)]
    pub target: ManifestTarget,
}

/// Who is to run the server.
#[derive(Debug, Subcommand)]
pub enum ManifestTarget {
    /// Print a Deployment, Service, PodDisruptionBudget and HorizontalPodAutoscaler, as YAML
    #[command(args_override_self = true)]
    Kubernetes(Box<KubernetesArgs>),
    /// Print a ClusterServingRuntime and an InferenceService for KServe, as YAML
    #[command(args_override_self = true)]
    Kserve(Box<KserveArgs>),
    /// Print a unit for systemd
    #[command(args_override_self = true)]
    Systemd(Box<SystemdArgs>),
}

/// The units of `lanekeeper manifest systemd`, by their file's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SystemdUnit {
    /// The server; it opens its own listeners unless it is passed some
    #[value(name = "lanekeeper.service")]
    Service,
    /// Holds its main listener across restarts
    #[value(name = "lanekeeper.socket")]
    Socket,
    /// Holds its probe listener
    #[value(name = "lanekeeper-probe.socket")]
    ProbeSocket,
    /// The server without any network
    #[value(name = "lanekeeper-isolated.service")]
    IsolatedService,
    /// Its main listener
    #[value(name = "lanekeeper-isolated.socket")]
    IsolatedSocket,
    /// Its probe listener, on a path
    #[value(name = "lanekeeper-isolated-probe.socket")]
    IsolatedProbeSocket,
}

/// The options of `lanekeeper manifest systemd`.
#[derive(Debug, clap::Args)]
pub struct SystemdArgs {
    /// Which unit to print
    #[arg(long, value_name = "UNIT", default_value = "lanekeeper.service")]
    pub unit: SystemdUnit,

    /// Where the program is installed
    #[arg(long, value_name = "FILE", default_value = "/usr/local/bin/lanekeeper", value_parser = binary)]
    pub binary: String,

    /// The options of `serve`.
    #[command(flatten)]
    pub serve: GivenServeArgs,
}

/// The options of `lanekeeper manifest kubernetes`.
#[derive(Debug, clap::Args)]
pub struct KubernetesArgs {
    /// Name of every object; the model volume's claim is NAME-model
    #[arg(long, value_name = "NAME", default_value = "lanekeeper", value_parser = name)]
    pub name: String,

    /// Container image; lanekeeper is its entry point
    #[arg(long, value_name = "IMAGE", value_parser = image,
          default_value = concat!("lanekeeper:", env!("CARGO_PKG_VERSION")))]
    pub image: String,

    /// Minimum number of pods; the autoscaler may add more
    #[arg(long, value_name = "N", default_value = "2",
          value_parser = clap::value_parser!(i32).range(1..=REPLICAS_MAX))]
    pub replicas: i32,

    /// The options of `serve`.
    #[command(flatten)]
    pub serve: GivenServeArgs,
}

/// The options of `lanekeeper manifest kserve`.
#[derive(Debug, clap::Args)]
pub struct KserveArgs {
    /// Name of the InferenceService
    #[arg(long, value_name = "NAME", default_value = "model", value_parser = name)]
    pub name: String,

    /// Name of the ClusterServingRuntime
    #[arg(long, value_name = "NAME", default_value = "lanekeeper", value_parser = name)]
    pub runtime: String,

    /// Container image; lanekeeper is its entry point
    #[arg(long, value_name = "IMAGE", value_parser = image,
          default_value = concat!("lanekeeper:", env!("CARGO_PKG_VERSION")))]
    pub image: String,

    /// Where the model is; a directory with one model file [default: pvc://NAME-model]
    #[arg(long, value_name = "URI", value_parser = image)]
    pub storage_uri: Option<String>,

    /// The model's format
    #[arg(long, value_name = "FORMAT", default_value = "xgboost",
          value_parser = clap::builder::PossibleValuesParser::new(["catboost", "lanekeeper", "lightgbm", "xgboost"]))]
    pub format: String,

    /// The options of `serve`.
    #[command(flatten)]
    pub serve: GivenServeArgs,
}

/// The options of `serve`, and which of them were given.
#[derive(Debug)]
pub struct GivenServeArgs {
    /// All of them.
    pub args: ServeArgs,
    /// Those given, in the order of `serve --help`.
    pub given: Vec<GivenOption>,
}

/// An option of `serve` that was given, on the command line or by the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenOption {
    /// Its name, without dashes.
    pub name: String,
    /// Its value as typed; a flag has none.
    pub value: Option<OsString>,
    /// The variable that gave it; `None` is the command line.
    pub variable: Option<String>,
}

impl GivenOption {
    /// The name under which a person set it: its variable, if that gave the value.
    pub fn shown(&self) -> String {
        let typed = || format!("--{}", self.name);
        self.variable.clone().unwrap_or_else(typed)
    }
}

impl clap::Args for GivenServeArgs {
    fn augment_args(command: Command) -> Command {
        // `--name` is the name of the objects.
        let renamed = |option: clap::Arg| option.long("model-name");
        ServeArgs::augment_args(command).mut_arg("model_name", renamed)
    }

    fn augment_args_for_update(command: Command) -> Command {
        ServeArgs::augment_args_for_update(command)
    }
}

impl FromArgMatches for GivenServeArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, Error> {
        // Before the matches are moved into the options.
        let given = given(matches);
        let args = ServeArgs::from_arg_matches_mut(matches)?;
        Ok(GivenServeArgs { args, given })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), Error> {
        self.given = given(matches);
        self.args.update_from_arg_matches(matches)
    }
}

/// Reads from `matches` which options of `serve` were given, whatever their values.
fn given(matches: &ArgMatches) -> Vec<GivenOption> {
    let serve = <ServeArgs as clap::Args>::augment_args(Command::new("serve"));
    let given = serve.get_arguments().filter_map(|option| {
        let (id, name) = (option.get_id().as_str(), option.get_long()?);
        let variable = match matches.value_source(id)? {
            ValueSource::CommandLine => None,
            ValueSource::EnvVariable => Some(command_line::variable(name)),
            _ => return None,
        };
        let value = if option.get_action().takes_values() {
            let values: Vec<&OsStr> = matches.get_raw(id)?.collect();
            Some(values.join(OsStr::new(",")))
        } else if matches.get_flag(id) {
            None
        } else {
            return None;
        };
        Some(GivenOption {
            name: name.to_owned(),
            value,
            variable,
        })
    });
    given.collect()
}

/// Parses a name that every object may have: a Service's is a DNS label (RFC 1035 section 2.3.1).
fn name(text: &str) -> Result<String, String> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(inner)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-');
    fits.then(|| text.to_owned()).ok_or_else(|| {
        "a name is 1 to 63 of a-z, 0-9 and -, begins with a letter and does not end with -"
            .to_owned()
    })
}

fn binary(text: &str) -> Result<String, String> {
    let fits = text.starts_with('/') && !text.contains(char::is_control);
    fits.then(|| text.to_owned())
        .ok_or_else(|| "a program in a unit has an absolute path".to_owned())
}

fn image(text: &str) -> Result<String, String> {
    let fits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then(|| text.to_owned())
        .ok_or_else(|| "an image is such as registry.test/lanekeeper:1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Command, parse, usage_line};

    fn kubernetes(options: &[&str]) -> Result<KubernetesArgs, String> {
        let command = ["lanekeeper", "manifest", "kubernetes"];
        let args = command.iter().chain(options).map(OsString::from);
        match parse(args).map_err(|error| usage_line(&error))? {
            Command::Manifest(ManifestArgs {
                target: ManifestTarget::Kubernetes(args),
            }) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    fn typed(given: &[GivenOption]) -> Vec<String> {
        let line = |option: &GivenOption| match &option.value {
            Some(value) => format!("--{}={}", option.name, value.display()),
            None => format!("--{}", option.name),
        };
        given.iter().map(line).collect()
    }

    #[test]
    fn options_are_given_where_they_were_typed_and_as_they_were_typed() {
        let table: &[(&[&str], &[&str])] = &[
            (&[], &[]),
            (&["--name", "a", "--image", "b", "--replicas", "3"], &[]),
            // The default, but typed.
            (&["--stall-timeout", "60s"], &["--stall-timeout=60s"]),
            (&["--max-wait=1m 5s"], &["--max-wait=1m 5s"]),
            (
                &["--max-wait", "1s", "--max-wait", "2s"],
                &["--max-wait=2s"],
            ),
            (
                &["--max-body", "1MiB", "--model", "/a b", "--shared-lane"],
                &["--model=/a b", "--shared-lane", "--max-body=1MiB"],
            ),
            (
                &["--replace-stuck-workers"],
                &["--replace-stuck-workers=true"],
            ),
            (&["--yield", "off"], &["--yield=off"]),
        ];
        for (options, expected) in table {
            let args = kubernetes(options).unwrap();
            assert_eq!(typed(&args.serve.given), *expected, "{options:?}");
        }
    }

    #[test]
    fn names_images_and_replicas_are_checked() {
        let table: &[(&[&str], &str)] = &[
            (&["--name", ""], "1 to 63 of a-z"),
            (&["--name", "A"], "1 to 63 of a-z"),
            (&["--name", "1a"], "1 to 63 of a-z"),
            (&["--name", "a-"], "1 to 63 of a-z"),
            (&["--name", &"a".repeat(64)], "1 to 63 of a-z"),
            (&["--image", "a b"], "an image is such as"),
            (&["--replicas", "0"], "0 is not in 1..=1000"),
            (&["--nonsense"], "unexpected argument"),
        ];
        for (options, expected) in table {
            let line = kubernetes(options).unwrap_err();
            assert!(line.contains(expected), "{options:?}: {line}");
        }
        assert_eq!(kubernetes(&["--name", "a-1"]).unwrap().name, "a-1");
    }
}
