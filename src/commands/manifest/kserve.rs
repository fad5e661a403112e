//! `lanekeeper manifest kserve`: a ClusterServingRuntime, and an InferenceService that uses it.
//!
//! The shapes are those of KServe's API (serving.kserve.io/v1alpha1 and v1beta1). Knative knows one port
//! of a container, without a name, so probes, predictions and metrics share the main one.

use super::kubernetes::{Manifest, PortReference};
use super::numbers::PodNumbers;
use super::options::{PodArgument, PodServer};
use super::yaml::{Node, flag, list, map, number, stream, text};
use crate::config::KserveArgs;
use crate::error::StartError;

/// Where KServe mounts a model.
const MODEL: &str = "/mnt/models";

/// The formats that are read, with the versions that KServe's own runtimes name.
const FORMATS: [(&str, &str); 5] = [
    ("lanekeeper", "1"),
    ("catboost", "1"),
    ("xgboost", "1"),
    ("xgboost", "2"),
    ("lightgbm", "3"),
];

/// Writes both objects for these options.
///
/// # Errors
///
/// What `serve` would refuse, and options that a runtime cannot have.
pub(super) fn manifests(args: KserveArgs) -> Result<String, StartError> {
    let mut serve = args.serve;
    let is_given = |name: &str| serve.given.iter().any(|option| option.name == name);
    for (name, why) in [
        ("model", "KServe mounts the model at /mnt/models"),
        ("predict-route", "KServe's paths are served as they are"),
        ("health-route", "KServe's paths are served as they are"),
    ] {
        if is_given(name) {
            return Err(StartError::Usage(format!(
                "--{name} has no place in a ServingRuntime: {why}"
            )));
        }
    }
    let is_named = is_given("name");
    if !is_given("listen") {
        serve.args.listen = "0.0.0.0:8080".to_owned();
    }
    if !is_given("probe-listen") {
        serve.args.probe_listen = Some("none".to_owned());
    }
    serve.args.model.file = Some(MODEL.into());
    let mut server = PodServer::new(serve)?;
    if server.probe_port.is_some() {
        return Err(StartError::Usage(
            "--probe-listen must be none in a ServingRuntime: Knative knows one port".to_owned(),
        ));
    }
    for argument in &mut server.args {
        argument.why = match argument.text.split('=').next() {
            Some("--model") => "where KServe mounts it".to_owned(),
            Some("--probe-listen") => "Knative knows one port of a container".to_owned(),
            _ => std::mem::take(&mut argument.why),
        };
    }
    if !is_named {
        server.args.push(PodArgument {
            text: "--name={{.Name}}".to_owned(),
            why: "KServe fills in the name of the InferenceService".to_owned(),
        });
    }
    let runtime = Manifest {
        name: args.runtime,
        image: args.image,
        replicas: 1,
        numbers: PodNumbers::new(&server.config, server.model_bytes),
        server,
        probed_port: PortReference::Number,
    };
    let storage = args
        .storage_uri
        .unwrap_or_else(|| format!("pvc://{}-model", args.name));
    let service = inference_service(&args.name, &runtime.name, &args.format, &storage);
    let about = format!(
        "Printed by lanekeeper {}. The numbers follow from the options of serve below: where one changes, print this again.",
        env!("CARGO_PKG_VERSION")
    );
    stream([
        (about.as_str(), serving_runtime(&runtime)),
        (
            "A model that this runtime serves, at storageUri: a directory with one model file.",
            service,
        ),
    ])
}

fn serving_runtime(runtime: &Manifest) -> Node {
    let port = runtime.server.port;
    let annotations = map([
        (
            "prometheus.kserve.io/port",
            text(port.to_string()).because("--listen, as --probe-listen is none"),
        ),
        ("prometheus.kserve.io/path", text("/metrics")),
    ]);
    let formats = FORMATS.map(|(name, version)| {
        map([
            ("name", text(name)),
            ("version", text(version)),
            // An InferenceService asks for this runtime by its name.
            ("autoSelect", flag(false)),
        ])
    });
    let server = &runtime.server;
    let arguments = server
        .args
        .iter()
        .map(|argument| text(&*argument.text).because(&*argument.why));
    let container = map([
        (
            "name",
            text("kserve-container").because("KServe looks for this name"),
        ),
        ("image", text(&*runtime.image)),
        ("args", list([text("serve")].into_iter().chain(arguments))),
        (
            "ports",
            list([map([
                ("containerPort", number(port, "--listen")),
                ("protocol", text("TCP")),
            ])]),
        ),
        ("startupProbe", runtime.startup_probe()),
        ("livenessProbe", runtime.liveness_probe()),
        ("readinessProbe", runtime.readiness_probe()),
        ("resources", runtime.resources()),
        ("securityContext", runtime.container_security()),
    ]);
    map([
        ("apiVersion", text("serving.kserve.io/v1alpha1")),
        ("kind", text("ClusterServingRuntime")),
        ("metadata", map([("name", text(&*runtime.name))])),
        (
            "spec",
            map([
                ("annotations", annotations),
                ("supportedModelFormats", list(formats)),
                ("protocolVersions", list([text("v1"), text("v2")])),
                ("containers", list([container])),
            ]),
        ),
    ])
}

fn inference_service(name: &str, runtime: &str, format: &str, storage: &str) -> Node {
    let model = map([
        ("modelFormat", map([("name", text(format))])),
        ("runtime", text(runtime)),
        ("protocolVersion", text("v2")),
        ("storageUri", text(storage)),
    ]);
    map([
        ("apiVersion", text("serving.kserve.io/v1beta1")),
        ("kind", text("InferenceService")),
        ("metadata", map([("name", text(name))])),
        ("spec", map([("predictor", map([("model", model)]))])),
    ])
}
