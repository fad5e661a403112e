//! Probes, metrics, and what other servers' clients ask about the state.

use serde_json::{Map, Value, json};

use super::OpenApiSource;
use super::errors::{Concern, ErrorShape, Errors};
use super::parts::{
    ApiOperation, Group, answer, json_answer, parameter, schema, text, text_answer,
};
use super::predictions;
use super::v2::object;
use crate::error::Code;
use crate::guide;
use crate::health::{self, Check, ProbeKind};
use crate::platform::address::Address;

/// The probes of this server: path, what is asked, and the ids of the operations on the path and on
/// one check below it.
const PROBES: [(&str, ProbeKind, [&str; 2], &str); 4] = [
    (
        "/livez",
        ProbeKind::Liveness,
        ["livez", "livezCheck"],
        "Whether predictions still complete",
    ),
    (
        "/healthz",
        ProbeKind::Liveness,
        ["healthz", "healthzCheck"],
        "The same as /livez",
    ),
    (
        "/readyz",
        ProbeKind::Readiness,
        ["readyz", "readyzCheck"],
        "Whether a prediction made now would work",
    ),
    (
        "/startupz",
        ProbeKind::Startup,
        ["startupz", "startupzCheck"],
        "Whether the first model has been loaded and tried",
    ),
];

/// The status codes of a verdict that does not pass.
const NOT_NOW: u16 = Code::Loading.status();
const NOT_WORKING: u16 = Code::Internal.status();

/// A verdict that does not pass, in this media type, or an error of the server.
fn failing(errors: &Errors, status: u16, media_type: &str, content: &Value) -> Value {
    let mut answer = errors.answer(ErrorShape::Own, status);
    answer["description"] =
        "The probe does not pass, or `code` says why it is not answered.".into();
    let error = schema("Error");
    answer["content"] = match media_type {
        "application/json" => json!({media_type: {"schema": {"anyOf": [content, error]}}}),
        _ => json!({
            media_type: {"schema": content},
            "application/json": {"schema": error},
        }),
    };
    answer
}

fn probe(source: &OpenApiSource<'_>, id: &str, group: Group, summary: &str) -> ApiOperation {
    let operation = ApiOperation::new(id, group, summary);
    match source.has_probe_listener() {
        true => operation.says("On both listeners."),
        false => operation,
    }
}

/// Adds the paths of probes, of metrics and of the server's state.
pub(super) fn add_paths(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    add_text_probes(source, paths);
    add_verdicts(source, paths);
    add_state(source, paths);
    add_metrics(source, paths);
}

/// This server's own probes, and their checks.
fn add_text_probes(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let errors = &source.errors;
    for (path, kind, [id, id_of_check], summary) in PROBES {
        let checks = health::checks(kind);
        let all = text_probe(source, probe(source, id, Group::Probes, summary), checks)
            .fails(errors, &[Concern::Probe]);
        paths.insert(path.to_owned(), json!({"get": all.finish()}));
        let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
        let check = json!({
            "name": "check",
            "in": "path",
            "required": true,
            "schema": {"type": "string", "enum": names},
        });
        let operation =
            ApiOperation::new(id_of_check, Group::Probes, "One check alone").takes(check);
        let one =
            text_probe(source, operation, checks).fails(errors, &[Concern::Probe, Concern::Name]);
        paths.insert(format!("{path}/{{check}}"), json!({"get": one.finish()}));
    }
}

/// What is told of the server itself.
fn add_state(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let errors = &source.errors;
    let mut add = |path: &str, operation: ApiOperation| {
        paths.insert(path.to_owned(), json!({"get": operation.finish()}));
    };
    let status = ApiOperation::new("statusz", Group::About, "The server's state")
        .says("For people and dashboards. Its fields may grow.")
        .answers(200, json_answer("The state.", schema("Status")));
    add(
        "/statusz",
        status.fails(errors, &[Concern::Probe, Concern::Crowd]),
    );
    let root = ApiOperation::new(
        "root",
        Group::About,
        "Whether the server is alive, and its paths",
    )
    .says("With an `Accept` that names `text/html` or `text/plain`, a page for a person.")
    .answers(
        200,
        answer(
            "The server is alive.",
            json!({
                "application/json": {"schema": schema("Root")},
                "text/html": {"schema": text()},
                "text/plain": {"schema": text()},
            }),
        ),
    )
    .answers(
        NOT_NOW,
        failing(errors, NOT_NOW, "application/json", &schema("NotAlive")),
    );
    add("/", root.fails(errors, &[Concern::Probe]));
    let guide = |id, summary| {
        let content = json!({
            "text/plain": {"schema": text()},
            "text/html": {"schema": text()},
        });
        ApiOperation::new(id, Group::About, summary)
            .says("A page if `Accept` names `text/html`, otherwise text.")
            .answers(200, answer("A text for a person.", content))
    };
    let list = guide("guide", "The guide's topics");
    add("/docs", list.fails(errors, &[Concern::Memory]));
    let names: Vec<&str> = guide::TOPICS.iter().map(|topic| topic.name).collect();
    let topic = guide("guideTopic", "A topic of the guide").takes(json!({
        "name": "topic",
        "in": "path",
        "required": true,
        "schema": {"type": "string", "enum": names},
    }));
    let topic = topic.fails(errors, &[Concern::Memory, Concern::Name]);
    add("/docs/{topic}", topic);
    let version = ApiOperation::new("version", Group::Others, "The server's version");
    let version = version.answers(200, text_answer("The version."));
    add("/version", version.fails(errors, &[Concern::Memory]));
    let parameters = ApiOperation::new(
        "executionParameters",
        Group::Others,
        "What SageMaker's batch transform may send",
    )
    .answers(
        200,
        json_answer("The limits.", schema("ExecutionParameters")),
    );
    add(
        "/execution-parameters",
        parameters.fails(errors, &[Concern::Memory]),
    );
    let openapi = ApiOperation::new("openapi", Group::About, "This description")
        .answers(200, predictions::openapi());
    add("/openapi.json", openapi.fails(errors, &[Concern::Memory]));
}

/// A probe that answers in plain text.
fn text_probe(
    source: &OpenApiSource<'_>,
    operation: ApiOperation,
    checks: &[Check],
) -> ApiOperation {
    let names: Vec<&str> = checks.iter().map(|check| check.name).collect();
    let failing = |status| failing(&source.errors, status, "text/plain", &text());
    operation
        .takes(json!({
            "name": "verbose",
            "in": "query",
            "description": "With any value or none: a line for each check.",
            "allowEmptyValue": true,
            "schema": text(),
        }))
        .takes(json!({
            "name": "exclude",
            "in": "query",
            "description": "Checks that do not count.",
            "style": "form",
            "explode": true,
            "schema": {"type": "array", "items": {"type": "string", "enum": names}},
        }))
        .answers(200, text_answer("The probe passes."))
        .answers(NOT_NOW, failing(NOT_NOW))
        .answers(NOT_WORKING, failing(NOT_WORKING))
}

/// The verdicts that clients of other servers ask for, in JSON.
fn add_verdicts(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let errors = &source.errors;
    let mut add = |path: &str, group, id: &str, summary: &str, answer: &str| {
        let failed = failing(errors, NOT_NOW, "application/json", &schema(answer));
        let mut operation = probe(source, id, group, summary)
            .answers(200, json_answer("The probe passes.", schema(answer)))
            .answers(NOT_NOW, failed);
        let mut concerns = vec![Concern::Probe];
        for name in ["model", "version"] {
            if path.contains(&format!("{{{name}}}")) {
                operation = operation.takes(parameter(name));
                concerns.push(Concern::Name);
            }
        }
        let operation = operation.fails(errors, &concerns).finish();
        paths.insert(path.to_owned(), json!({"get": operation}));
    };
    #[rustfmt::skip]
    let verdicts = [
        ("/v2/health/live", Group::V2, "v2Live", "Whether predictions still complete", "Live"),
        ("/v2/health/ready", Group::V2, "v2Ready", "Whether a prediction made now would work", "Ready"),
        ("/v2/models/{model}/ready", Group::V2, "v2ModelReady", "Whether a model is ready", "ModelReady"),
        ("/v2/models/{model}/versions/{version}/ready", Group::V2, "v2ModelReadyVersion", "Whether a model's version is ready", "ModelReady"),
        ("/v1/models/{model}", Group::V1, "v1Model", "Whether a model is ready", "ModelState"),
        ("/v1/models/{model}/versions/{version}", Group::V1, "v1ModelVersion", "Whether a model's version is ready", "ModelState"),
        ("/ping", Group::Others, "ping", "Whether predictions still complete, and a model is loaded", "Healthy"),
        ("/health", Group::Others, "health", "Whether a prediction made now would work", "Healthy"),
    ];
    for (path, group, id, summary, answer) in verdicts {
        add(path, group, id, summary, answer);
    }
    let models = ApiOperation::new("v1Models", Group::V1, "The names of the models")
        .answers(200, json_answer("The names.", schema("ModelNames")))
        .fails(errors, &[Concern::Memory]);
    paths.insert("/v1/models".to_owned(), json!({"get": models.finish()}));
}

/// The metrics, with the listener that has them.
fn add_metrics(source: &OpenApiSource<'_>, paths: &mut Map<String, Value>) {
    let content = json!({
        "text/plain": {"schema": text()},
        "application/openmetrics-text": {"schema": text()},
    });
    let mut operation =
        ApiOperation::new("metrics", Group::About, "Counts and times for Prometheus")
            .answers(200, answer("The metrics.", content));
    let mut concerns = vec![Concern::Crowd];
    let elsewhere = source.probe.filter(|_| !source.config.main_metrics);
    if elsewhere.is_some() {
        operation = operation.says("On the probe listener only; the main listener answers 404.");
        concerns.push(Concern::Elsewhere);
    }
    let mut path = json!({"get": operation.fails(&source.errors, &concerns).finish()});
    if let Some(Address::Tcp(address)) = elsewhere {
        path["servers"] = json!([{
            "url": format!("http://{{host}}:{}", address.port()),
            "description": "The probe listener.",
            "variables": {"host": {"default": "localhost"}},
        }]);
    }
    paths.insert("/metrics".to_owned(), path);
}

/// The schemas of verdicts.
pub(super) fn add_schemas(schemas: &mut Map<String, Value>) {
    let mut add = |name: &str, fields: &[(&str, Value)], optional: &[&str]| {
        let mut schema = object(fields);
        for name in optional {
            schema["properties"][*name] = text();
        }
        schemas.insert(name.to_owned(), schema);
    };
    let flag = || json!({"type": "boolean"});
    add("Live", &[("live", flag())], &["error"]);
    add("Ready", &[("ready", flag()), ("live", flag())], &["error"]);
    add(
        "ModelReady",
        &[("name", text()), ("ready", flag())],
        &["error"],
    );
    let state = object(&[
        ("version", text()),
        (
            "state",
            json!({"type": "string", "enum": ["AVAILABLE", "UNAVAILABLE"]}),
        ),
        (
            "status",
            object(&[("error_code", text()), ("error_message", text())]),
        ),
    ]);
    let states = json!({"type": "array", "items": state});
    let fields = [
        ("name", text()),
        ("ready", flag()),
        ("model_version_status", states),
    ];
    add("ModelState", &fields, &["error"]);
    let status = json!({"type": "string", "enum": ["Healthy", "Unhealthy"]});
    add("Healthy", &[("status", status)], &["error"]);
    add(
        "NotAlive",
        &[("status", json!({"const": "not alive"}))],
        &["error"],
    );
    schemas.append(&mut state_schemas());
}

/// The schemas of what is told of the server itself.
fn state_schemas() -> Map<String, Value> {
    let flag = || json!({"type": "boolean"});
    let name_or_null = || json!({"type": ["string", "null"]});
    let count = || json!({"type": "integer", "minimum": 1});
    let root = object(&[
        ("status", json!({"const": "alive"})),
        ("name", text()),
        ("version", text()),
        ("model", name_or_null()),
        ("paths", json!({"type": "array", "items": text()})),
    ]);
    let parameters = object(&[
        ("MaxConcurrentTransforms", count()),
        ("BatchStrategy", text()),
        ("MaxPayloadInMB", count()),
    ]);
    let object_of_any = || json!({"type": "object"});
    let mut status = object(&[
        ("version", text()),
        ("uptime_seconds", json!({"type": "number"})),
        ("phase", text()),
        ("alive", flag()),
        ("ready", flag()),
        ("lanes", object_of_any()),
        ("connections", object_of_any()),
        ("responses", object_of_any()),
        ("predictions", object_of_any()),
    ]);
    for name in ["reason", "ready_reason", "degraded"] {
        status["properties"][name] = name_or_null();
    }
    let all = [
        ("Root", root),
        ("ExecutionParameters", parameters),
        ("Status", status),
    ];
    all.map(|(name, schema)| (name.to_owned(), schema))
        .into_iter()
        .collect()
}
