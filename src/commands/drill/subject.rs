//! What is drilled: a server, and a request body that it accepts.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::child::{ServerProcess, Started};
use crate::config::{DrillConfig, DrillTarget, Drilled, ModelRequest};
use crate::drill::load::Target;
use crate::error::StartError;
use crate::models::{Loaded, ModelSource};
use crate::platform::client::{Client, ClientRequest};
use crate::platform::clock;
use crate::platform::sys;

/// Maximum size of a request body; a server's own limit is lower, unless it was raised.
const BODY_BYTES_MAX: u64 = 64 << 20;

/// Time to load and try a model, as in a manifest.
const LOADING: Duration = Duration::from_secs(300);

/// For one prediction on an idle server.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at a server that is not ready yet.
const LOOK: Duration = Duration::from_millis(20);

/// How much of a server's error is shown.
const TEXT_CHARS_MAX: usize = 600;

/// A request body, and what it is for.
#[derive(Debug, Clone)]
pub(super) struct DrillBody {
    pub(super) bytes: Vec<u8>,
    pub(super) content_type: &'static str,
    /// Where it comes from, for a person.
    pub(super) description: String,
    /// The model's name; a server that already runs tells it later.
    pub(super) model: String,
    /// What kind of model it is.
    pub(super) about: String,
}

impl DrillBody {
    /// Reads the given body, or makes one of the model's example row.
    pub(super) fn find(config: &DrillConfig, source: &dyn ModelSource) -> Result<Self, StartError> {
        let own = matches!(config.drilled, Drilled::Own(_));
        let model = match own || config.body.is_none() {
            true => Some(
                source
                    .load(&ModelRequest::of_file(config.model.clone()))
                    .map_err(|error| StartError::Failed(error.to_string()))?,
            ),
            false => None,
        };
        let (name, about) = model.as_deref().map_or_else(Default::default, described);
        let (bytes, content_type, description) = match (&config.body, &model) {
            (Some(path), _) => read(path)?,
            (None, Some(model)) => trial(model.as_ref()),
            // A body or a model's file was given: the options were checked.
            (None, None) => (Vec::new(), "application/json", "empty".to_owned()),
        };
        Ok(DrillBody {
            bytes,
            content_type,
            description,
            model: name,
            about,
        })
    }
}

fn described(loaded: &Loaded) -> (String, String) {
    let signature = loaded.model.signature();
    let about = format!(
        "{}, {} features",
        loaded.algorithm,
        signature.features.len()
    );
    (loaded.name.clone(), about)
}

fn trial(loaded: &Loaded) -> (Vec<u8>, &'static str, String) {
    let example = loaded.golden.first().map(|golden| &golden.row);
    let body = serde_json::json!({"instances": [example]});
    (
        body.to_string().into_bytes(),
        "application/json",
        "the row that the model is tried on".to_owned(),
    )
}

fn read(path: &Path) -> Result<(Vec<u8>, &'static str, String), StartError> {
    let cannot = |error: String| {
        StartError::Usage(format!("cannot read the body {}: {error}", path.display()))
    };
    let about = std::fs::metadata(path).map_err(|error| cannot(error.to_string()))?;
    if about.len() > BODY_BYTES_MAX {
        return Err(cannot(format!(
            "it must be at most {BODY_BYTES_MAX} bytes, but has {}",
            about.len()
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| cannot(error.to_string()))?;
    let is_csv = path
        .extension()
        .is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let content_type = if is_csv {
        "text/csv"
    } else {
        "application/json"
    };
    Ok((bytes, content_type, path.display().to_string()))
}

/// A server that is ready and takes the body.
pub(super) struct Subject {
    /// The prediction request, with the patience of a first try.
    pub(super) target: Target,
    /// What is probed, by listener.
    pub(super) probes: Vec<(&'static str, Target)>,
    /// Its process, where it is the drill's own.
    pub(super) pid: Option<u32>,
    /// Its prediction workers.
    pub(super) workers: usize,
    started: Option<Started>,
    status: Option<Value>,
}

impl Subject {
    /// Starts a server, or finds the running one, and sends it the body once.
    pub(super) fn start(
        config: &DrillConfig,
        server_process: &ServerProcess,
        shared_lane: bool,
        body: &DrillBody,
    ) -> Result<Self, StartError> {
        let local = |address, path: &str| DrillTarget {
            address,
            path: path.to_owned(),
        };
        let (started, predict, probe) = match &config.drilled {
            Drilled::Own(options) => {
                let started = server_process
                    .start(config.model.as_deref(), options, shared_lane)
                    .map_err(StartError::Failed)?;
                let probe = started.probe.map(|address| local(address, "/livez"));
                wait_until_ready(&started, server_process)?;
                let predict = local(started.main, "/predict");
                (Some(started), predict, probe)
            }
            Drilled::Running { predict, probe } => (None, predict.clone(), probe.clone()),
        };
        let target = target(&predict, body).map_err(StartError::Usage)?;
        check(&target)?;
        let main = local(predict.address, "/livez");
        let mut probes = Vec::new();
        for (listener, place) in [("probe", probe.as_ref()), ("main", Some(&main))] {
            if let Some(place) = place {
                let probe = Target::probe(place.address, &place.path);
                let mut probe = probe.map_err(|error| StartError::Usage(error.to_string()))?;
                probe.timeout = config.probe_timeout;
                probes.push((listener, probe));
            }
        }
        let asked = probe
            .as_ref()
            .map_or(predict.address, |probe| probe.address);
        let status = status(asked).or_else(|| status(predict.address));
        let workers = status
            .as_ref()
            .and_then(|status| status["lanes"]["predict"]["workers"].as_u64())
            .and_then(|workers| usize::try_from(workers).ok())
            .unwrap_or(config.serve.predict_workers);
        Ok(Subject {
            target,
            probes,
            pid: started.as_ref().map(|started| started.pid),
            workers: workers.clamp(1, 1024),
            started,
            status,
        })
    }

    /// Takes the name of the served model if only the server knows it.
    pub(super) fn learn(&self, body: &mut DrillBody) {
        let Some(status) = self.status.as_ref().filter(|_| self.started.is_none()) else {
            return;
        };
        let word = |name: &str| clean(status["model"][name].as_str().unwrap_or_default());
        (body.model, body.about) = (word("name"), word("algorithm"));
    }

    /// The last lines of its log, where it is the drill's own.
    pub(super) fn last_lines(&self) -> String {
        self.started
            .as_ref()
            .map_or(String::new(), Started::last_lines)
    }
}

fn target(predict: &DrillTarget, body: &DrillBody) -> Result<Target, String> {
    let host = predict.address.to_string();
    let fields = [("Content-Type", body.content_type)];
    let request = ClientRequest::new("POST", &predict.path, &host, &fields, &body.bytes)
        .map_err(|error| error.to_string())?;
    Ok(Target {
        address: predict.address,
        request,
        timeout: PATIENCE,
    })
}

fn wait_until_ready(started: &Started, server_process: &ServerProcess) -> Result<(), StartError> {
    let deadline = clock::instant() + LOADING;
    loop {
        match get(started.main, "/readyz", clock::instant() + PATIENCE) {
            Some((200, _)) => return Ok(()),
            _ if server_process.has_ended() => {
                return Err(StartError::Failed(format!(
                    "the server ended at its start:{}",
                    started.last_lines()
                )));
            }
            _ if clock::instant() >= deadline => {
                return Err(StartError::Failed(format!(
                    "the server was not ready within {}:{}",
                    humantime::format_duration(LOADING),
                    started.last_lines()
                )));
            }
            _ => sys::sleep(LOOK),
        }
    }
}

/// Sends the body once; a drill of refusals would show nothing.
fn check(target: &Target) -> Result<(), StartError> {
    let deadline = clock::instant() + target.timeout;
    let mut client = Client::new(target.address);
    let response = client.send(&target.request, deadline).map_err(|error| {
        StartError::Failed(format!("one prediction on the idle server failed: {error}"))
    })?;
    let (status, body) = (response.status, response.body);
    match status {
        200 => Ok(()),
        400..=499 => Err(StartError::Usage(format!(
            "the server does not take the request body: {status} {}; --body names another",
            error_of(body)
        ))),
        _ => Err(StartError::Failed(format!(
            "one prediction on the idle server must be answered 200, but was answered {status} {}",
            error_of(body)
        ))),
    }
}

/// A server's description of a failure: the `error` of its JSON, or the first line of the body.
fn error_of(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(&body[..body.len().min(64 << 10)]);
    let json: Option<Value> = serde_json::from_str(&text).ok();
    let error = json.as_ref().and_then(|json| json["error"].as_str());
    clean(error.unwrap_or_else(|| text.lines().next().unwrap_or_default()))
}

/// Removes characters that would move a terminal's cursor or start lines.
fn clean(text: &str) -> String {
    let shown = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    text.chars().take(TEXT_CHARS_MAX).map(shown).collect()
}

/// What a server says of itself, if it is lanekeeper.
fn status(address: SocketAddr) -> Option<Value> {
    let deadline = clock::instant() + Duration::from_secs(2);
    match get(address, "/statusz", deadline)? {
        (200, body) => serde_json::from_slice(&body).ok(),
        _ => None,
    }
}

fn get(address: SocketAddr, path: &str, deadline: Instant) -> Option<(u16, Vec<u8>)> {
    let request = ClientRequest::new("GET", path, &address.to_string(), &[], b"").ok()?;
    let mut client = Client::new(address);
    let response = client.send(&request, deadline).ok()?;
    Some((response.status, response.body.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_error_is_its_text_and_never_more_than_a_line() {
        let table: &[(&[u8], &str)] = &[
            (
                br#"{"error":"no such feature","code":"invalid_input"}"#,
                "no such feature",
            ),
            (b"<h1>Bad\x1b[2J</h1>\r\nmore", "<h1>Bad\u{fffd}[2J</h1>"),
            (b"{\"error\":\"a\\nb\"}", "a\u{fffd}b"),
            (b"", ""),
        ];
        for (body, expected) in table {
            assert_eq!(error_of(body), *expected);
        }
        assert_eq!(error_of(&[b'a'; 5000]).len(), TEXT_CHARS_MAX);
    }

    #[test]
    fn the_body_is_the_models_own_row_unless_one_is_given() {
        let model = crate::models::format::load(&ModelRequest::default()).unwrap();
        let (bytes, content_type, _) = trial(&model);
        let body: Value = serde_json::from_slice(&bytes).unwrap();
        let row: Vec<f64> = serde_json::from_value(body["instances"][0].clone()).unwrap();
        assert_eq!(row, model.golden[0].row);
        assert_eq!(content_type, "application/json");
        let given = read(Path::new(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/data/iris.csv"
        )));
        let (bytes, content_type, description) = given.unwrap();
        assert!(!bytes.is_empty() && description.ends_with("iris.csv"));
        assert_eq!(content_type, "text/csv");
        let missing = read(Path::new("/nowhere/body.json")).unwrap_err();
        assert_eq!(missing.exit_code(), 2);
    }
}
