//! The options of `serve` in a container: those given, and those that a pod needs.
//!
//! An option that a pod cannot have is a usage error here, rather than a pod that never becomes
//! ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};

use super::numbers::MODEL_FILE_ASSUMED;
use crate::config::{Config, GivenOption, GivenServeArgs, ProbeListen, Resources};
use crate::error::StartError;
use crate::lifecycle::GRACE_IF_ASKED;
use crate::models::embedded;
use crate::platform::address::Address;

/// Where the model volume is mounted if the model's path has no directory that a pod could have.
const MODEL_DIRECTORY: &str = "/models";

/// Why a pod does not listen on loopback.
const FROM_OUTSIDE: &str = "kubelet and the Service ask from outside the pod";

/// A server as a container runs it.
#[derive(Debug)]
pub(super) struct PodServer {
    /// Its options, valid.
    pub(super) config: Config,
    /// The container's arguments after `serve`.
    pub(super) args: Vec<PodArgument>,
    /// The main port.
    pub(super) port: u16,
    /// The probe listener's; without one, probes go to the main port.
    pub(super) probe_port: Option<u16>,
    /// Where the model file's volume is mounted; the embedded model needs none.
    pub(super) model_directory: Option<String>,
    /// The model file's size in bytes.
    pub(super) model_bytes: u64,
    /// What is known of that size.
    pub(super) model_source: ModelBytesSource,
    /// The file that gets the stall report, if one was given that a pod can have.
    pub(super) termination_log: Option<String>,
}

/// Where a model file's size comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ModelBytesSource {
    /// It is the embedded model's.
    Embedded,
    /// The file's on this machine.
    File,
    /// There is no such file on this machine.
    Assumed,
}

/// An argument of the container, and the reason for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PodArgument {
    /// One word, as Kubernetes reads it.
    pub(super) text: String,
    /// Where it comes from.
    pub(super) why: String,
}

impl PodServer {
    /// Checks the options as `serve` does, and turns them into those of a container.
    ///
    /// # Errors
    ///
    /// What `serve` would refuse, and addresses that a pod cannot have.
    pub(super) fn new(serve: GivenServeArgs) -> Result<Self, StartError> {
        // Not this machine's resources, which are not the pod's.
        let config = serve.args.validate(Resources::UNKNOWN)?;
        let named = |option| config.variables.name(option);
        let listen = InPod::new(named("--listen"), &config.listen)?;
        let probe_listen = match &config.probe_listen {
            ProbeListen::Off => None,
            ProbeListen::Beside => config
                .listen
                .beside()
                .map(|beside| InPod::new("--probe-listen", &beside))
                .transpose()?,
            ProbeListen::At(address) => Some(InPod::new(named("--probe-listen"), address)?),
        };
        let (port, probe_port) = (
            listen.address.port(),
            probe_listen.as_ref().map(|probe| probe.address.port()),
        );
        if probe_port == Some(port) {
            return Err(StartError::Usage(format!(
                "{} must have a port of its own, but both listeners have {port}; --probe-listen none leaves probes to the main one",
                named("--probe-listen")
            )));
        }
        let model = config.model.file.as_deref();
        let model = model
            .map(|path| model_in_pod(named("--model"), path))
            .transpose()?;
        let (model_bytes, model_source) = model_bytes(config.model.file.as_deref())?;
        let termination_log = serve.given.iter().any(|o| o.name == "termination-log");
        let termination_log = (termination_log && config.verdicts.termination_log.is_absolute())
            .then(|| config.verdicts.termination_log.display().to_string());
        let mut args = vec![
            listen_argument(&listen, &serve.given),
            probe_argument(probe_listen.as_ref(), &config, &serve.given),
            workers_argument(&config, &serve.given),
            grace_argument(&config, &serve.given),
        ];
        // A given one comes with the rest, as typed.
        if given(&serve.given, "max-buffered").is_none() {
            args.push(buffered_argument(&config));
        }
        if let Some(model) = &model {
            args.push(PodArgument::new("model", &model.path, model.why.clone()));
        }
        args.extend(the_rest(&args, &serve.given)?);
        Ok(PodServer {
            model_directory: model.map(|model| model.directory),
            config,
            args,
            port,
            probe_port,
            model_bytes,
            model_source,
            termination_log,
        })
    }

    /// The lowest port; those below 1024 need a privilege that the container does not have.
    pub(super) fn lowest_port(&self) -> u16 {
        self.port.min(self.probe_port.unwrap_or(u16::MAX))
    }
}

impl PodArgument {
    fn new(name: &str, value: &str, why: impl Into<String>) -> Self {
        PodArgument {
            text: argument(name, Some(value)),
            why: why.into(),
        }
    }

    /// Whether it sets the option of that name.
    fn sets(&self, name: &str) -> bool {
        let option = self.text.strip_prefix("--").unwrap_or(&self.text);
        option.split('=').next() == Some(name)
    }
}

/// An option as one word; Kubernetes turns `$$` into `$`, and `$(NAME)` into a variable's value.
fn argument(name: &str, value: Option<&str>) -> String {
    match value {
        Some(value) => format!("--{name}={}", value.replace('$', "$$")),
        None => format!("--{name}"),
    }
}

/// Where a given option comes from.
fn origin(option: &GivenOption) -> String {
    match &option.variable {
        Some(variable) => format!("as given by {variable}"),
        None => "as given".to_owned(),
    }
}

fn given<'a>(all: &'a [GivenOption], name: &str) -> Option<&'a GivenOption> {
    all.iter().find(|option| option.name == name)
}

fn usage<T>(text: String) -> Result<T, StartError> {
    Err(StartError::Usage(text))
}

/// A listener's address in a pod.
#[derive(Debug)]
struct InPod {
    address: SocketAddr,
    /// The loopback address that it replaces.
    instead_of: Option<SocketAddr>,
}

impl InPod {
    fn new(option: &str, address: &Address) -> Result<Self, StartError> {
        let Address::Tcp(address) = *address else {
            return usage(format!(
                "{option} must be HOST:PORT in a pod, but is {}; kubelet's probes and the Service need a TCP port",
                address.typed()
            ));
        };
        let port = address.port();
        if port == 0 {
            return usage(format!(
                "{option} must have a port other than 0 in a pod, but is {address}; the Service and kubelet's probes name it"
            ));
        }
        let unspecified = match address.ip() {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        if !address.ip().is_loopback() && !address.ip().is_unspecified() {
            return usage(format!(
                "{option} must be on every address of a pod, but is {address}; a pod has its address once it runs, so use {}",
                SocketAddr::new(unspecified, port)
            ));
        }
        Ok(InPod {
            address: SocketAddr::new(unspecified, port),
            instead_of: address.ip().is_loopback().then_some(address),
        })
    }
}

fn listen_argument(listen: &InPod, all: &[GivenOption]) -> PodArgument {
    let asked = given(all, "listen");
    let why = match (listen.instead_of, asked) {
        (Some(loopback), Some(_)) => format!("instead of {loopback} as given: {FROM_OUTSIDE}"),
        (Some(loopback), None) => format!("instead of {loopback}, the default: {FROM_OUTSIDE}"),
        (None, Some(option)) => origin(option),
        (None, None) => FROM_OUTSIDE.to_owned(),
    };
    PodArgument::new("listen", &listen.address.to_string(), why)
}

fn probe_argument(probe: Option<&InPod>, config: &Config, all: &[GivenOption]) -> PodArgument {
    const NAME: &str = "probe-listen";
    let asked = given(all, NAME);
    let Some(probe) = probe else {
        let why = asked.map_or_else(|| "there is no port after the main one".to_owned(), origin);
        return PodArgument::new(NAME, "none", format!("{why}; probes go to the main port"));
    };
    let why = match (&config.probe_listen, probe.instead_of, asked) {
        (ProbeListen::At(_), Some(loopback), _) => {
            format!("instead of {loopback} as given: {FROM_OUTSIDE}")
        }
        (ProbeListen::At(_), None, Some(option)) => origin(option),
        _ => "the port after the main one; whatever happens there, probes are answered here"
            .to_owned(),
    };
    PodArgument::new(NAME, &probe.address.to_string(), why)
}

fn workers_argument(config: &Config, all: &[GivenOption]) -> PodArgument {
    let why = given(all, "predict-workers").map_or_else(
        || {
            "one where none is given: without a CPU limit a pod sees all cores of its node, and would have a worker for each".to_owned()
        },
        origin,
    );
    PodArgument::new("predict-workers", &config.predict_workers.to_string(), why)
}

fn grace_argument(config: &Config, all: &[GivenOption]) -> PodArgument {
    let grace = config.drain_grace.unwrap_or(GRACE_IF_ASKED);
    let why = given(all, "drain-grace").map_or_else(
        || "the default where somebody asks /readyz, as kubelet does".to_owned(),
        origin,
    );
    // No blanks: `1m 5s` reads better as one word of a command line.
    let grace = humantime::format_duration(grace).to_string();
    PodArgument::new("drain-grace", &grace.replace(' ', ""), why)
}

/// The memory limit is computed from it, and the server would choose less under that limit.
fn buffered_argument(config: &Config) -> PodArgument {
    let why = "the default where memory is not short: the memory limit has room for it";
    PodArgument::new("max-buffered", &config.sizing.max_buffered_typed(), why)
}

/// Every given option that has no argument yet.
fn the_rest(pinned: &[PodArgument], all: &[GivenOption]) -> Result<Vec<PodArgument>, StartError> {
    let rest = all
        .iter()
        .filter(|option| !pinned.iter().any(|argument| argument.sets(&option.name)));
    let argument = |option: &GivenOption| {
        let value = option.value.as_deref().map(|value| {
            value.to_str().ok_or_else(|| {
                let name = option.shown();
                StartError::Usage(format!(
                    "{name} must be UTF-8 to stand in a manifest, but is {value:?}"
                ))
            })
        });
        Ok(PodArgument {
            text: argument(&option.name, value.transpose()?),
            why: origin(option),
        })
    };
    rest.map(argument).collect()
}

/// A model file in a pod.
#[derive(Debug)]
struct ModelInPod {
    path: String,
    directory: String,
    why: String,
}

/// Where a pod finds the model file: at its path, if a volume can be mounted there.
fn model_in_pod(option: &str, path: &Path) -> Result<ModelInPod, StartError> {
    let Some(text) = path.to_str() else {
        return usage(format!(
            "{option} must be UTF-8 to stand in a manifest, but is {path:?}"
        ));
    };
    let Some(name) = path.file_name() else {
        return usage(format!("{option} must name a file, but is {text:?}"));
    };
    let plain = path
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    // A volume cannot be mounted over the image's root, or at a path with a colon.
    let directory = path
        .parent()
        .filter(|parent| plain && path.is_absolute() && *parent != Path::new("/"))
        .filter(|parent| !parent.to_string_lossy().contains(':'));
    let (path, why) = match directory {
        Some(_) => (path.to_owned(), "as given".to_owned()),
        None => (
            Path::new(MODEL_DIRECTORY).join(name),
            format!("instead of {text:?} as given: a volume is mounted at an absolute path"),
        ),
    };
    let directory = directory.map_or_else(|| PathBuf::from(MODEL_DIRECTORY), Path::to_owned);
    Ok(ModelInPod {
        path: path.display().to_string(),
        directory: directory.display().to_string(),
        why,
    })
}

/// The size of the model's file, if it can be known here.
fn model_bytes(path: Option<&Path>) -> Result<(u64, ModelBytesSource), StartError> {
    let Some(path) = path else {
        return Ok((embedded::JSON.len() as u64, ModelBytesSource::Embedded));
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => Ok((metadata.len(), ModelBytesSource::File)),
        Ok(_) => Err(StartError::Failed(format!(
            "cannot use the model file {}: it is not a regular file",
            path.display()
        ))),
        Err(_) => Ok((MODEL_FILE_ASSUMED, ModelBytesSource::Assumed)),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::config::{Command, ManifestTarget, parse};

    fn server(options: &[&str]) -> Result<PodServer, String> {
        let command = ["lanekeeper", "manifest", "kubernetes"];
        let args = command.iter().chain(options).map(OsString::from);
        let Ok(Command::Manifest(manifest)) = parse(args) else {
            panic!("{options:?}");
        };
        let ManifestTarget::Kubernetes(args) = manifest.target else {
            panic!("{manifest:?}");
        };
        PodServer::new(args.serve).map_err(|error| {
            assert_eq!(error.exit_code(), 2);
            error.to_string()
        })
    }

    fn texts(options: &[&str]) -> Vec<String> {
        let args = server(options).unwrap().args;
        args.into_iter().map(|argument| argument.text).collect()
    }

    #[test]
    fn a_container_gets_what_was_given_and_what_a_pod_needs() {
        let table: &[(&[&str], &[&str])] = &[
            (
                &[],
                &[
                    "--listen=0.0.0.0:8080",
                    "--probe-listen=0.0.0.0:8081",
                    "--predict-workers=1",
                    "--drain-grace=5s",
                    "--max-buffered=256MiB",
                ],
            ),
            (
                &[
                    "--listen=[::1]:80",
                    "--drain-grace",
                    "65s",
                    "--max-wait=1m 5s",
                    "--shared-lane",
                ],
                &[
                    "--listen=[::]:80",
                    "--probe-listen=[::]:81",
                    "--predict-workers=1",
                    "--drain-grace=1m5s",
                    "--max-buffered=256MiB",
                    "--shared-lane",
                    "--max-wait=1m 5s",
                ],
            ),
            (
                &["--listen", "0.0.0.0:65535", "--predict-workers", "4"],
                &[
                    "--listen=0.0.0.0:65535",
                    "--probe-listen=none",
                    "--predict-workers=4",
                    "--drain-grace=5s",
                    "--max-buffered=256MiB",
                ],
            ),
            (
                &["--probe-listen", "127.0.0.1:9", "--model", "/m/$(x)$$.json"],
                &[
                    "--listen=0.0.0.0:8080",
                    "--probe-listen=0.0.0.0:9",
                    "--predict-workers=1",
                    "--drain-grace=5s",
                    "--max-buffered=256MiB",
                    "--model=/m/$$(x)$$$$.json",
                ],
            ),
        ];
        for (options, expected) in table {
            assert_eq!(texts(options), *expected, "{options:?}");
        }
    }

    #[test]
    fn what_a_pod_cannot_have_is_one_line_with_the_remedy() {
        let table: &[(&[&str], &str)] = &[
            (&["--listen", "unix:/run/a"], "need a TCP port"),
            (&["--probe-listen", "unix:/run/a"], "need a TCP port"),
            (&["--listen", "127.0.0.1:0"], "a port other than 0"),
            (&["--listen", "192.0.2.1:80"], "so use 0.0.0.0:80"),
            (
                &["--listen", "127.0.0.1:80", "--probe-listen", "0.0.0.0:80"],
                "a port of its own",
            ),
            (&["--model", "/"], "must name a file"),
            // As serve says it.
            (
                &["--predict-queue", "0"],
                "--predict-queue must be at least 1",
            ),
        ];
        for (options, expected) in table {
            let line = server(options).unwrap_err();
            assert!(line.contains(expected), "{options:?}: {line}");
            assert!(!line.contains('\n'), "{options:?}: {line}");
        }
    }

    #[test]
    fn a_model_is_mounted_at_its_directory_where_a_pod_can_have_that() {
        for (path, in_pod, directory) in [
            ("/data/a/m.json", "/data/a/m.json", "/data/a"),
            ("m.json", "/models/m.json", "/models"),
            ("a/m.json", "/models/m.json", "/models"),
            ("/m.json", "/models/m.json", "/models"),
            ("/a/../m.json", "/models/m.json", "/models"),
            ("/a:b/m.json", "/models/m.json", "/models"),
        ] {
            let model = model_in_pod("--model", Path::new(path)).unwrap();
            assert_eq!(
                (&*model.path, &*model.directory),
                (in_pod, directory),
                "{path}"
            );
        }
    }

    #[test]
    fn arguments_say_where_they_come_from() {
        let args = server(&["--listen", "127.0.0.1:90", "--max-wait", "1s"]).unwrap();
        let why = |name: &str| {
            let argument = args.args.iter().find(|argument| argument.sets(name));
            argument.unwrap().why.as_str()
        };
        assert!(why("listen").starts_with("instead of 127.0.0.1:90 as given"));
        assert!(why("predict-workers").contains("without a CPU limit"));
        assert_eq!(why("max-wait"), "as given");
    }
}
