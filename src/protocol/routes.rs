//! Routing: method and path → what is wanted. Pure.
//!
//! Paths compare exactly, without the query, undecoded. Only this file says what a probe is.

use tiny_http::Method;

use crate::error::{Code, RequestError};
use crate::guide;
use crate::health::{self, Check, ProbeKind};
use crate::platform::address::Address;
use crate::protocol::paths::{self, Verb};
use crate::protocol::{Dialect, ModelTarget};

/// What a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// Predictions.
    Predict(PredictionPath),
    /// The server's state.
    Probe(Probe),
    /// What is served and how.
    Document(Document),
    /// The console, or what programs expect there.
    Root,
    /// The guide: a topic, or the list of topics.
    Docs(Option<&'static str>),
    /// The metrics.
    Metrics,
}

/// A path for predictions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictionPath {
    /// What reads the request.
    pub dialect: &'static dyn Dialect,
    /// Whose predictions.
    pub target: ModelTarget,
}

/// A description that a protocol has a path for. It costs no prediction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// The server and what it speaks (V2).
    Server,
    /// The names of the models (V2 and V1).
    Models,
    /// What a model takes and returns (V2).
    Model(ModelTarget),
    /// A model's configuration as Triton has it.
    Config(ModelTarget),
    /// A model's statistics, or all models', as Triton has them.
    Stats(ModelTarget),
    /// The models and their states (Triton).
    Index,
    /// The version, as MLflow asks for it.
    Version,
    /// How many requests SageMaker's batch transform may send, and how large.
    ExecutionParameters,
    /// The description of all paths, in OpenAPI.
    OpenApi,
    /// Something that a protocol has and this server does not do.
    NotOffered(&'static str),
}

/// A question about the server's own state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// Which question.
    pub kind: ProbeKind,
    /// How the answer is written.
    pub form: ProbeForm,
    /// Whether to list each check.
    pub verbose: bool,
    /// The only check to run; `None` runs all.
    pub only: Option<&'static str>,
    /// Checks that are left out.
    pub excluded: Vec<&'static str>,
    /// Excluded names that are no checks; the first few, truncated.
    pub unknown: Vec<String>,
    /// Whether the answer may hold request ids and addresses of clients.
    pub shows_clients: bool,
}

/// How the answer to a probe is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProbeForm {
    /// Text, as kube-apiserver has it.
    Text,
    /// `{"live": …}` or `{"ready": …}`, as V2 has them.
    Verdict,
    /// `{"status": "Healthy"}`, as MLflow has it. Liveness includes that a model is loaded.
    Healthy,
    /// `{"status": "alive"}`, as V1 has it at the root.
    Alive,
    /// Whether this model is ready, as V2 has it.
    Model(ModelTarget),
    /// Whether this model is ready, as V1 has it.
    ModelState(ModelTarget),
}

impl Probe {
    /// The question without any conditions.
    pub fn new(kind: ProbeKind) -> Self {
        Probe {
            kind,
            form: ProbeForm::Text,
            verbose: false,
            only: None,
            excluded: Vec::new(),
            unknown: Vec::new(),
            shows_clients: false,
        }
    }

    fn shaped(kind: ProbeKind, form: ProbeForm) -> Self {
        Probe {
            form,
            ..Probe::new(kind)
        }
    }
}

/// The listener that a request came in by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListenerKind {
    /// The one that serves everything.
    Main,
    /// The one reserved for probes.
    Probe,
}

/// Where a request came in, and where it might belong.
#[derive(Debug, Clone, Copy)]
pub struct Listening<'a> {
    /// The listener that it came in by.
    pub kind: ListenerKind,
    /// The main listener's address.
    pub main: &'a Address,
    /// The probe listener's address, if there is one.
    pub probe: Option<&'a Address>,
    /// Whether the main listener has the metrics even if there is another.
    pub main_metrics: bool,
    /// Whether the main listener shows request ids and addresses of clients.
    pub shows_clients: bool,
    /// Other paths of our own ones, which a hosting platform names.
    pub aliases: &'a [(String, &'static str)],
}

/// The list of paths, for a 404.
const PATHS: &str = "POST /predict, /invocations, /score, /v2/models/MODEL/infer, /v1/models/MODEL:predict; GET /livez, /readyz, /startupz, /healthz, /statusz, /metrics, /openapi.json, /docs, /v2, /";

const READ: &str = "GET, HEAD";
const POST: &str = "POST";

/// Decides what `method` on `path` asks for on a listener. Metrics are not served on the port that
/// is open to everybody, unless that is asked for.
///
/// # Errors
///
/// 404 with the list of paths, 405 with `Allow`, 501 for what is not offered.
pub fn route(
    method: &Method,
    path: &str,
    query: Option<&str>,
    listening: Listening<'_>,
) -> Result<Route, RequestError> {
    let on_probe = listening.kind == ListenerKind::Probe;
    let mut aliases = listening.aliases.iter();
    // Nobody can take away a probe.
    let path = match aliases.find(|(other, _)| other == path) {
        Some((_, own)) if !is_fixed(path) => own,
        _ => path,
    };
    let (route, allow) = match path {
        _ if is_probe(path) => {
            let mut probe = read_probe(path, query)?;
            let is_status = probe.kind == ProbeKind::Status;
            probe.shows_clients = is_status && (on_probe || listening.shows_clients);
            (Route::Probe(probe), READ)
        }
        "/" => (Route::Root, READ),
        _ if path.starts_with("/docs") && !on_probe => (Route::Docs(read_docs(path)?), READ),
        METRICS => match listening.probe {
            Some(probe) if !on_probe && !listening.main_metrics => {
                return Err(metrics_elsewhere(probe));
            }
            _ => (Route::Metrics, READ),
        },
        _ => match (shaped_probe(path), document(path)) {
            (Some(probe), _) => (Route::Probe(probe), READ),
            (None, Some((Document::NotOffered(what), _))) => {
                return Err(RequestError::new(Code::NotImplemented, what));
            }
            _ if on_probe => return Err(elsewhere(listening.main)),
            (None, Some((document, allow))) => (Route::Document(document), allow),
            (None, None) if path == "*" => return Err(not_allowed("GET, HEAD, POST")),
            (None, None) => {
                let (dialect, target) = super::find(path).ok_or_else(|| {
                    let text = format!("no resource has this path; there are {PATHS}");
                    RequestError::new(Code::NotFound, text)
                })?;
                (Route::Predict(PredictionPath { dialect, target }), POST)
            }
        },
    };
    let allowed = match method {
        Method::Get | Method::Head => allow == READ,
        Method::Post => allow == POST,
        _ => false,
    };
    if allowed {
        return Ok(route);
    }
    Err(not_allowed(allow))
}

/// The probes of other servers.
fn shaped_probe(path: &str) -> Option<Probe> {
    let (live, ready) = (ProbeKind::Liveness, ProbeKind::Readiness);
    Some(match path {
        "/v2/health/live" => Probe::shaped(live, ProbeForm::Verdict),
        "/v2/health/ready" => Probe::shaped(ready, ProbeForm::Verdict),
        "/ping" => Probe::shaped(live, ProbeForm::Healthy),
        "/health" => Probe::shaped(ready, ProbeForm::Healthy),
        _ => match (paths::v2(path), paths::v1(path)) {
            (Some((target, Verb::Ready)), _) => Probe::shaped(ready, ProbeForm::Model(target)),
            (_, Some((target, Verb::Describe))) => {
                Probe::shaped(ready, ProbeForm::ModelState(target))
            }
            _ => return None,
        },
    })
}

/// The probe that `GET /` is to a program.
pub fn root_probe() -> Probe {
    Probe::shaped(ProbeKind::Liveness, ProbeForm::Alive)
}

/// The documents, and the methods that they take.
fn document(path: &str) -> Option<(Document, &'static str)> {
    const NO_LOADING: &str = "models are not loaded or unloaded over the network: change the file and send the server SIGHUP, or start it with another --model";
    const NO_VERB: &str = "this server predicts and describes; it has no streams, explanations, text generation, classify or regress";
    Some(match path {
        "/v2" | "/v2/" => (Document::Server, READ),
        "/v2/models" | "/v1/models" => (Document::Models, READ),
        "/v2/models/stats" => (Document::Stats(ModelTarget::default()), READ),
        "/v2/repository/index" => (Document::Index, POST),
        "/version" => (Document::Version, READ),
        "/execution-parameters" => (Document::ExecutionParameters, READ),
        "/openapi.json" => (Document::OpenApi, READ),
        _ if path.starts_with("/v2/repository/models/")
            && (path.ends_with("/load") || path.ends_with("/unload")) =>
        {
            (Document::NotOffered(NO_LOADING), POST)
        }
        _ => match paths::v2(path).or_else(|| paths::v1(path))? {
            (target, Verb::Describe) => (Document::Model(target), READ),
            (target, Verb::Config) => (Document::Config(target), READ),
            (target, Verb::Stats) => (Document::Stats(target), READ),
            (_, Verb::Other) => (Document::NotOffered(NO_VERB), POST),
            (_, Verb::Ready | Verb::Infer) => return None,
        },
    })
}

/// The topic that a path below `/docs` names; `None` for the list.
fn read_docs(path: &str) -> Result<Option<&'static str>, RequestError> {
    let name = match path.strip_prefix("/docs") {
        Some("" | "/") => return Ok(None),
        Some(name) => name.strip_prefix('/'),
        None => None,
    };
    let topic = name.and_then(guide::topic).ok_or_else(|| {
        let names: Vec<&str> = guide::TOPICS.iter().map(|topic| topic.name).collect();
        let text = format!(
            "the guide has no such topic; there are {}",
            names.join(", ")
        );
        RequestError::new(Code::NotFound, text)
    })?;
    Ok(Some(topic.name))
}

fn not_allowed(allow: &'static str) -> RequestError {
    RequestError {
        allow: Some(allow),
        ..RequestError::new(
            Code::MethodNotAllowed,
            format!("this path takes {allow} only"),
        )
    }
}

fn elsewhere(main: &Address) -> RequestError {
    let text = format!(
        "this port serves probes only (GET /, /livez, /readyz, /startupz, /healthz, /statusz, /metrics, /v2/health/live, /v2/health/ready, /ping, /health); everything else is on {}",
        place(main, "main")
    );
    RequestError::new(Code::NotFound, text)
}

fn metrics_elsewhere(probe: &Address) -> RequestError {
    let text = format!(
        "metrics are not on this port; they are on {}: GET {METRICS}",
        place(probe, "probe")
    );
    RequestError::new(Code::NotFound, text)
}

/// The address of a listener, for a client of the other.
fn place(address: &Address, listener: &str) -> String {
    match address {
        Address::Tcp(address) => format!("port {}", address.port()),
        // A path on this machine is not for clients that may be on another.
        Address::Unix(_) => format!("the {listener} listener's socket"),
    }
}

const METRICS: &str = "/metrics";

/// The probes; their checks are below each but the last.
const PROBES: [(&str, ProbeKind); 5] = [
    ("/livez", ProbeKind::Liveness),
    ("/readyz", ProbeKind::Readiness),
    ("/startupz", ProbeKind::Startup),
    ("/healthz", ProbeKind::Liveness),
    ("/statusz", ProbeKind::Status),
];

/// How many excluded names that are no checks the client is told, and how long each may be.
const UNKNOWN_MAX: usize = 8;
const UNKNOWN_CHARS_MAX: usize = 64;

/// Splits a path into a probe and, below it, the name of a check.
fn split_probe(path: &str) -> Option<(ProbeKind, Option<&str>)> {
    PROBES.iter().find_map(|(own, kind)| {
        let rest = path.strip_prefix(own)?;
        match rest.strip_prefix('/') {
            Some(_) if *kind == ProbeKind::Status => None,
            Some(name) => (!name.is_empty()).then_some((*kind, Some(name))),
            None => rest.is_empty().then_some((*kind, None)),
        }
    })
}

/// Whether a path cannot be taken for something else.
pub fn is_fixed(path: &str) -> bool {
    is_probe(path) || path == METRICS
}

fn is_probe(path: &str) -> bool {
    split_probe(path).is_some()
}

/// Parses what is asked of a probe, like kube-apiserver: `/livez/NAME`, `?verbose`, `?exclude=NAME`
/// repeatable.
fn read_probe(path: &str, query: Option<&str>) -> Result<Probe, RequestError> {
    let (kind, name) = split_probe(path).unwrap_or((ProbeKind::Status, None));
    let mut probe = Probe::new(kind);
    let checks = health::checks(kind);
    let find = |name: &str| {
        checks
            .iter()
            .map(|check| check.name)
            .find(|own| *own == name)
    };
    if let Some(name) = name {
        probe.only = Some(find(name).ok_or_else(|| no_such_check(checks))?);
    }
    for pair in query.unwrap_or_default().split('&') {
        match pair.split_once('=').unwrap_or((pair, "")) {
            ("verbose", _) => probe.verbose = true,
            ("exclude", name) => match find(name) {
                Some(name) if !probe.excluded.contains(&name) => probe.excluded.push(name),
                Some(_) => {}
                None if probe.unknown.len() < UNKNOWN_MAX => {
                    probe
                        .unknown
                        .push(name.chars().take(UNKNOWN_CHARS_MAX).collect());
                }
                None => {}
            },
            _ => {}
        }
    }
    Ok(probe)
}

fn no_such_check(checks: &[Check]) -> RequestError {
    let text = format!(
        "there is no such check; there are {}",
        health::names(checks)
    );
    RequestError::new(Code::NotFound, text)
}

/// Whether a Content-Type field names this media type, ignoring parameters.
pub fn is_media_type(content_type: &str, media_type: &str) -> bool {
    essence(content_type).eq_ignore_ascii_case(media_type)
}

/// Whether a content type is form data, which curl's `-d` declares for everything.
pub fn is_form(content_type: Option<&str>) -> bool {
    content_type.is_some_and(|value| is_media_type(value, "application/x-www-form-urlencoded"))
}

/// The weight of a media type that an Accept field names (RFC 9110 section 12.4.2); 0 if it does
/// not name it. Ranges such as `*/*` do not count, because clients without a preference send them.
pub fn quality(accept: Option<&str>, media_type: &str) -> f64 {
    let Some(accept) = accept else {
        return 0.0;
    };
    let ranges = accept.split(',');
    let named = ranges.filter(|range| essence(range).eq_ignore_ascii_case(media_type));
    let weight = |range: &str| {
        let mut parameters = range.split(';').skip(1).map(str::trim);
        let weight = parameters.find_map(|parameter| parameter.strip_prefix("q="));
        weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0))
    };
    named.map(weight).fold(0.0, f64::max)
}

/// A media type without its parameters.
pub(super) fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol;

    fn main() -> Address {
        Address::parse("127.0.0.1:8080").unwrap()
    }

    fn listening<'a>(
        kind: ListenerKind,
        main: &'a Address,
        probe: Option<&'a Address>,
    ) -> Listening<'a> {
        Listening {
            kind,
            main,
            probe,
            main_metrics: false,
            shows_clients: false,
            aliases: &[],
        }
    }

    fn check(request: &str, listener: ListenerKind, expected: Result<Route, (u16, &str)>) {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        let method = method.parse().unwrap();
        let other = Address::parse("127.0.0.1:8081").ok();
        let routed = route(
            &method,
            path,
            query,
            listening(listener, &main(), other.as_ref()),
        );
        match (routed, expected) {
            (Ok(route), Ok(expected)) => assert_eq!(route, expected, "{request}"),
            (Err(error), Err((status, allow))) => {
                assert_eq!(error.code.status(), status, "{request}");
                assert_eq!(error.allow.unwrap_or(""), allow, "{request}");
            }
            (routed, expected) => panic!("{request}: {routed:?}, expected {expected:?}"),
        }
    }

    fn predict() -> Result<Route, (u16, &'static str)> {
        let (dialect, target) = protocol::find("/predict").unwrap();
        Ok(Route::Predict(PredictionPath { dialect, target }))
    }

    fn probe(kind: ProbeKind, verbose: bool) -> Result<Route, (u16, &'static str)> {
        Ok(Route::Probe(Probe {
            verbose,
            ..Probe::new(kind)
        }))
    }

    #[test]
    fn every_path_has_its_methods() {
        let main = ListenerKind::Main;
        check("POST /predict", main, predict());
        check("POST /predict?x=1", main, predict());
        check("GET /predict", main, Err((405, "POST")));
        check("GET /livez", main, probe(ProbeKind::Liveness, false));
        check("GET /livez?verbose", main, probe(ProbeKind::Liveness, true));
        check(
            "GET /livez?a=b&verbose=1",
            main,
            probe(ProbeKind::Liveness, true),
        );
        check("HEAD /healthz", main, probe(ProbeKind::Liveness, false));
        check("GET /readyz", main, probe(ProbeKind::Readiness, false));
        check("GET /startupz", main, probe(ProbeKind::Startup, false));
        check("GET /statusz", main, probe(ProbeKind::Status, false));
        check("POST /livez", main, Err((405, "GET, HEAD")));
        check("DELETE /readyz", main, Err((405, "GET, HEAD")));
        check("GET /", main, Ok(Route::Root));
        check("GET /docs", main, Ok(Route::Docs(None)));
        check("HEAD /docs/api", main, Ok(Route::Docs(Some("api"))));
        check("GET /docs/nonsense", main, Err((404, "")));
        check("GET /docsx", main, Err((404, "")));
        check("POST /docs", main, Err((405, "GET, HEAD")));
        check("GET /docs", ListenerKind::Probe, Err((404, "")));
        check("GET /livez/", main, Err((404, "")));
        check("GET /LIVEZ", main, Err((404, "")));
        check("GET /%6civez", main, Err((404, "")));
    }

    #[test]
    fn a_probe_may_ask_for_one_check_or_leave_some_out() {
        let main = ListenerKind::Main;
        let asked = |kind, only, excluded: &[&'static str], unknown: &[&str]| {
            Ok(Route::Probe(Probe {
                only,
                excluded: excluded.to_vec(),
                unknown: unknown.iter().map(|name| (*name).to_owned()).collect(),
                ..Probe::new(kind)
            }))
        };
        let (live, ready) = (ProbeKind::Liveness, ProbeKind::Readiness);
        #[rustfmt::skip]
        let table = [
            ("GET /livez/workers", asked(live, Some("workers"), &[], &[])),
            ("GET /healthz/acceptor", asked(live, Some("acceptor"), &[], &[])),
            ("GET /readyz/workers", asked(ready, Some("workers"), &[], &[])),
            ("GET /startupz/model", asked(ProbeKind::Startup, Some("model"), &[], &[])),
            ("GET /livez/canary", Err((404, ""))),
            ("GET /livez/", Err((404, ""))),
            ("GET /livez/workers/x", Err((404, ""))),
            ("GET /livezworkers", Err((404, ""))),
            ("GET /statusz/model", Err((404, ""))),
            ("POST /livez/workers", Err((405, "GET, HEAD"))),
            ("GET /readyz?exclude=canary", asked(ready, None, &["canary"], &[])),
            ("GET /readyz?exclude=canary&exclude=draining&exclude=canary", asked(ready, None, &["canary", "draining"], &[])),
            ("GET /livez?exclude=canary&exclude=&excluded=x", asked(live, None, &[], &["canary", ""])),
        ];
        for (request, expected) in table {
            check(request, main, expected);
        }
        let many = format!("exclude={}&", "x".repeat(500)).repeat(20);
        match route(
            &Method::Get,
            "/livez",
            Some(&many),
            listening(main, &super::tests::main(), None),
        ) {
            Ok(Route::Probe(probe)) => {
                assert_eq!(probe.unknown.len(), UNKNOWN_MAX);
                assert_eq!(probe.unknown[0].len(), UNKNOWN_CHARS_MAX);
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_probe_listener_serves_probes_only_and_names_the_other_port() {
        check(
            "GET /livez",
            ListenerKind::Probe,
            probe(ProbeKind::Liveness, false),
        );
        let full = Probe {
            shows_clients: true,
            ..Probe::new(ProbeKind::Status)
        };
        let status = "GET /statusz";
        check(status, ListenerKind::Probe, Ok(Route::Probe(full.clone())));
        check(status, ListenerKind::Main, probe(ProbeKind::Status, false));
        let (main, full_console) = (main(), Ok(Route::Probe(full)));
        let listening = |kind| Listening {
            shows_clients: true,
            ..listening(kind, &main, None)
        };
        let asked = route(
            &Method::Get,
            "/statusz",
            None,
            listening(ListenerKind::Main),
        );
        assert_eq!(asked, full_console);
        check("POST /predict", ListenerKind::Probe, Err((404, "")));
        check("GET /", ListenerKind::Probe, Ok(Route::Root));
        let error = route(
            &Method::Post,
            "/predict",
            None,
            listening(ListenerKind::Probe),
        )
        .unwrap_err();
        assert!(error.text.contains("8080"), "{}", error.text);
    }

    #[test]
    fn metrics_are_on_the_main_listener_only_where_there_is_no_other() {
        let (main, probe) = (ListenerKind::Main, ListenerKind::Probe);
        check("GET /metrics", probe, Ok(Route::Metrics));
        check("HEAD /metrics", probe, Ok(Route::Metrics));
        check("GET /metrics?name=x", probe, Ok(Route::Metrics));
        check("POST /metrics", probe, Err((405, "GET, HEAD")));
        check("GET /metrics/", probe, Err((404, "")));
        for method in ["GET", "HEAD", "POST"] {
            check(&format!("{method} /metrics"), main, Err((404, "")));
        }
        let ask = |other: Option<&Address>| {
            route(
                &Method::Get,
                "/metrics",
                None,
                listening(main, &super::tests::main(), other),
            )
        };
        assert_eq!(ask(None), Ok(Route::Metrics));
        let tcp = Address::parse("127.0.0.1:8081").unwrap();
        let text = ask(Some(&tcp)).unwrap_err().text;
        assert!(text.contains("on port 8081: GET /metrics"), "{text}");
        let unix = Address::parse("unix:/run/secret.sock").unwrap();
        let text = ask(Some(&unix)).unwrap_err().text;
        assert!(!text.contains("secret"), "{text}");
    }

    #[test]
    fn metrics_are_on_both_listeners_where_that_is_asked_for() {
        let (main, probe) = (main(), Address::parse("127.0.0.1:8081").unwrap());
        let asked = Listening {
            main_metrics: true,
            ..listening(ListenerKind::Main, &main, Some(&probe))
        };
        assert_eq!(
            route(&Method::Get, "/metrics", None, asked),
            Ok(Route::Metrics)
        );
    }

    #[test]
    fn a_hosting_platform_may_name_other_paths_but_not_take_away_a_probe() {
        let aliases = [
            ("/v1/models/any:predict".to_owned(), "/predict"),
            ("/v1/models/any".to_owned(), "/health"),
            ("/livez".to_owned(), "/predict"),
        ];
        let main = main();
        let ask = |method, path| {
            let listening = Listening {
                aliases: &aliases,
                ..listening(ListenerKind::Main, &main, None)
            };
            route(&method, path, None, listening).ok()
        };
        assert_eq!(ask(Method::Post, "/v1/models/any:predict"), predict().ok());
        assert_eq!(
            ask(Method::Get, "/v1/models/any"),
            ask(Method::Get, "/health")
        );
        assert_eq!(
            ask(Method::Get, "/livez"),
            probe(ProbeKind::Liveness, false).ok()
        );
        assert_eq!(ask(Method::Post, "/livez"), None);
    }

    #[test]
    fn other_servers_probes_and_documents_are_known() {
        let iris = || ModelTarget {
            model: Some("iris".to_owned()),
            version: None,
        };
        let shaped = |kind, form| Ok(Route::Probe(Probe::shaped(kind, form)));
        let (live, ready) = (ProbeKind::Liveness, ProbeKind::Readiness);
        for listener in [ListenerKind::Main, ListenerKind::Probe] {
            #[rustfmt::skip]
            let table = [
                ("GET /v2/health/live", shaped(live, ProbeForm::Verdict)),
                ("HEAD /v2/health/ready", shaped(ready, ProbeForm::Verdict)),
                ("GET /ping", shaped(live, ProbeForm::Healthy)),
                ("GET /health", shaped(ready, ProbeForm::Healthy)),
                ("GET /v2/models/iris/ready", shaped(ready, ProbeForm::Model(iris()))),
                ("GET /v1/models/iris", shaped(ready, ProbeForm::ModelState(iris()))),
                ("POST /ping", Err((405, READ))),
                ("POST /v2/repository/models/iris/load", Err((501, ""))),
                ("POST /v2/repository/models/iris/unload", Err((501, ""))),
                ("POST /v1/models/iris:explain", Err((501, ""))),
            ];
            for (request, expected) in table {
                check(request, listener, expected);
            }
        }
        #[rustfmt::skip]
        let table = [
            ("GET /v2", Document::Server),
            ("GET /v2/", Document::Server),
            ("GET /v2/models", Document::Models),
            ("GET /v1/models", Document::Models),
            ("GET /v2/models/iris", Document::Model(iris())),
            ("GET /v2/models/iris/config", Document::Config(iris())),
            ("GET /v2/models/iris/stats", Document::Stats(iris())),
            ("GET /v2/models/stats", Document::Stats(ModelTarget::default())),
            ("POST /v2/repository/index", Document::Index),
            ("GET /version", Document::Version),
            ("GET /execution-parameters", Document::ExecutionParameters),
            ("GET /openapi.json", Document::OpenApi),
            ("HEAD /openapi.json", Document::OpenApi),
        ];
        for (request, document) in table {
            check(request, ListenerKind::Main, Ok(Route::Document(document)));
            check(request, ListenerKind::Probe, Err((404, "")));
        }
        check(
            "GET /v2/models/iris/infer",
            ListenerKind::Main,
            Err((405, "POST")),
        );
        check("GET /v2/logging", ListenerKind::Main, Err((404, "")));
    }
}
