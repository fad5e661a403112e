//! `lanekeeper manifest`: the output is valid, fits the options, and explains its numbers.

use std::ffi::OsString;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Container, Service};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use lanekeeper::commands::manifest::numbers::{PodNumbers, ProbeNumbers};
use lanekeeper::config::{self, Config, Resources};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::support::{Server, has_programs};

/// A model file that exists.
const MODEL: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/models/embedded.json");

/// Sets of options that together produce every part of a manifest.
const EVERY_PART: [&[&str]; 5] = [
    &[],
    &["--model", MODEL, "--name", "iris", "--image", "a.test/b:1"],
    &["--model", "/nowhere/model.json", "--replicas", "1"],
    &["--listen", "0.0.0.0:80", "--probe-listen", "none"],
    &["--termination-log", "/dev/stalls", "--shared-lane"],
];

fn command(options: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    command.args(["manifest", "kubernetes"]).args(options);
    command
}

fn printed(mut command: Command) -> String {
    let output = command.output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {stderr}");
    assert!(stderr.is_empty(), "{command:?}: {stderr}");
    String::from_utf8(output.stdout).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .collect()
}

fn manifest(options: &[&str]) -> Vec<Value> {
    documents(&printed(command(options)))
}

/// The configuration of a server with these options and the number of workers that a manifest sets.
fn config(options: &[&str]) -> Config {
    let args = ["lanekeeper", "serve", "--predict-workers", "1"];
    let args = args.iter().chain(options).map(OsString::from);
    match config::parse(args).unwrap() {
        config::Command::Serve(serve) => serve.validate(Resources::UNKNOWN).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Reads a document as an API type and writes it again; fields that are unknown or misplaced would be
/// lost.
fn assert_of_type<T: DeserializeOwned + Serialize>(document: &Value) {
    let read: T = serde_json::from_value(document.clone()).unwrap();
    assert_eq!(serde_json::to_value(&read).unwrap(), *document);
}

#[test]
fn every_document_is_what_the_published_api_knows() {
    for options in EVERY_PART {
        let documents = manifest(options);
        let [deployment, service, budget, autoscaler] = documents.as_slice() else {
            panic!("{documents:?}");
        };
        assert_of_type::<Deployment>(deployment);
        assert_of_type::<Service>(service);
        assert_of_type::<PodDisruptionBudget>(budget);
        assert_of_type::<HorizontalPodAutoscaler>(autoscaler);
    }
}

/// The fields of an object, as `a.b`, without those of containers.
fn fields(object: &Value, at: &str, all: &mut Vec<String>) {
    match object {
        Value::Object(map) => {
            for (name, value) in map {
                let at = format!("{at}.{name}");
                if name != "containers" {
                    fields(value, &at, all);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| fields(item, at, all)),
        _ => all.push(at.trim_start_matches('.').to_owned()),
    }
}

#[test]
fn kserves_objects_have_the_fields_of_its_api_and_a_container_of_kubernetes() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    command.args(["manifest", "kserve", "--name=credit", "--format=lightgbm"]);
    command.args(["--storage-uri=s3://b/credit", "--max-body=1MiB"]);
    let documents = documents(&printed(command));
    let [runtime, service] = documents.as_slice() else {
        panic!("{documents:?}");
    };
    let mut found = Vec::new();
    fields(runtime, "", &mut found);
    found.sort();
    found.dedup();
    assert_eq!(
        found,
        [
            "apiVersion",
            "kind",
            "metadata.name",
            "spec.annotations.prometheus.kserve.io/path",
            "spec.annotations.prometheus.kserve.io/port",
            "spec.protocolVersions",
            "spec.supportedModelFormats.autoSelect",
            "spec.supportedModelFormats.name",
            "spec.supportedModelFormats.version",
        ]
    );
    let container = &runtime["spec"]["containers"][0];
    assert_of_type::<Container>(container);
    assert_eq!(container["name"], "kserve-container");
    let args: Vec<&str> = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .map(|arg| arg.as_str().unwrap())
        .collect();
    for expected in [
        "serve",
        "--listen=0.0.0.0:8080",
        "--probe-listen=none",
        "--model=/mnt/models",
        "--name={{.Name}}",
        "--max-body=1MiB",
    ] {
        assert!(args.contains(&expected), "{expected}: {args:?}");
    }
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(container[probe]["httpGet"]["port"], 8080, "{probe}");
    }
    assert_eq!(container["ports"].as_array().unwrap().len(), 1);
    assert_eq!(
        *service,
        json!({
            "apiVersion": "serving.kserve.io/v1beta1",
            "kind": "InferenceService",
            "metadata": {"name": "credit"},
            "spec": {"predictor": {"model": {
                "modelFormat": {"name": "lightgbm"},
                "runtime": "lanekeeper",
                "protocolVersion": "v2",
                "storageUri": "s3://b/credit",
            }}},
        })
    );
}

#[test]
fn a_field_that_the_api_does_not_know_would_be_noticed() {
    let mut deployment = manifest(&[])[0].clone();
    deployment["spec"]["template"]["spec"]["containers"][0]["livenessProbe"]["perioSeconds"] =
        json!(1);
    let read: Deployment = serde_json::from_value(deployment.clone()).unwrap();
    assert_ne!(serde_json::to_value(&read).unwrap(), deployment);
}

/// Runs kubectl, with `--local` so that it contacts no cluster; `None` if it is not installed.
fn kubectl(args: &[&str], stdin: &str) -> Option<Output> {
    if !has_programs(&["kubectl"]) {
        return None;
    }
    let mut child = Command::new("kubectl")
        .args(args)
        .args(["--local", "-f", "-", "-o", "json"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    pipe.write_all(stdin.as_bytes()).unwrap();
    drop(pipe);
    Some(child.wait_with_output().unwrap())
}

/// Lists what `part` has and `whole` lacks or has with another value.
fn missing(part: &Value, whole: &Value, at: &str) -> Vec<String> {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => part
            .iter()
            .flat_map(|(name, value)| {
                let other = whole.get(name).unwrap_or(&Value::Null);
                missing(value, other, &format!("{at}/{name}"))
            })
            .collect(),
        (Value::Array(part), Value::Array(whole)) if part.len() == whole.len() => part
            .iter()
            .zip(whole)
            .enumerate()
            .flat_map(|(index, (part, whole))| missing(part, whole, &format!("{at}/{index}")))
            .collect(),
        _ if part == whole => Vec::new(),
        _ => vec![format!("{at}: {part} became {whole}")],
    }
}

/// Uses `kubectl set --local`, which reads Deployments and Services into kubectl's own types without a
/// cluster. (`kubectl create --dry-run=client` asks a cluster which kinds exist.)
#[test]
fn kubectl_reads_every_document_as_it_is_meant() {
    for options in EVERY_PART {
        let text = printed(command(options));
        let documents = documents(&text);
        let typed = [
            (&documents[0], ["set", "env", "A=b"]),
            (&documents[1], ["set", "selector", "a=b"]),
        ];
        let each_labelled = text
            .split("---\n")
            .skip(1)
            .zip(&documents)
            .map(|(text, document)| (text.to_owned(), document, ["label", "a=b", "--overwrite"]));
        let each_typed = typed.map(|(document, args)| (document.to_string(), document, args));
        for (text, document, args) in each_labelled.chain(each_typed) {
            let Some(output) = kubectl(&args, &text) else {
                return;
            };
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{options:?}, {args:?}: {stderr}");
            let read: Value = serde_json::from_slice(&output.stdout).unwrap();
            let mut lost = missing(document, &read, "");
            // `set selector` changed this field.
            lost.retain(|line| args[1] != "selector" || !line.starts_with("/spec/selector"));
            assert!(lost.is_empty(), "{options:?}, {args:?}: {lost:#?}");
        }
    }
}

/// Whether a line of YAML is a field, or an argument, with a number.
fn has_number(line: &str) -> bool {
    let line = line.trim_start();
    let item = line.strip_prefix("- ").unwrap_or(line);
    let value = match item.split_once(": ") {
        Some((_, value)) => value,
        None => item.split_once('=').map_or("", |(_, value)| value),
    };
    let value = value.trim_start_matches('"');
    value.starts_with(|first: char| first.is_ascii_digit())
}

#[test]
fn every_number_says_where_it_comes_from() {
    let more: &[&str] = &["--max-body", "1MiB", "--max-rows=7", "--max-wait", "1s"];
    for options in EVERY_PART.into_iter().chain([more]) {
        let text = printed(command(options));
        let (mut seen, mut before) = (0, "");
        for line in text.lines() {
            if !line.trim_start().starts_with('#') && has_number(line) {
                let above = before.trim_start().starts_with("# ");
                assert!(above || line.contains(" # "), "{line:?} in {text}");
                seen += 1;
            }
            before = line;
        }
        assert!(seen > 20, "{seen} numbers in {text}");
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(140), "{text}");
    }
}

/// The path of the first document's container.
const CONTAINER: &str = "/spec/template/spec/containers/0/";

fn assert_changes(document: usize, prefix: &str, table: &[(&str, &str, Value)]) {
    for (options, pointer, expected) in table {
        let options: Vec<&str> = options.split_whitespace().collect();
        let documents = manifest(&options);
        let found = documents[document].pointer(&format!("{prefix}{pointer}"));
        assert_eq!(found, Some(expected), "{options:?}: {pointer}");
    }
}

#[test]
fn a_serve_option_changes_what_follows_from_it_in_the_container() {
    let main = |port: u16| json!({"name": "http", "containerPort": port});
    let probes = |port: u16| json!({"name": "probes", "containerPort": port});
    let table = [
        ("", "livenessProbe/periodSeconds", json!(5)),
        (
            "--stall-timeout 2m",
            "livenessProbe/periodSeconds",
            json!(10),
        ),
        ("", "args/5", json!("--max-buffered=256MiB")),
        ("--stall-timeout 2m", "args/6", json!("--stall-timeout=2m")),
        (
            "--canary-timeout 2m",
            "startupProbe/failureThreshold",
            json!(420),
        ),
        (
            "--listen 127.0.0.1:90",
            "args/1",
            json!("--listen=0.0.0.0:90"),
        ),
        (
            "--listen 127.0.0.1:90",
            "ports",
            json!([main(90), probes(91)]),
        ),
        (
            "--probe-listen [::]:7",
            "ports",
            json!([main(8080), probes(7)]),
        ),
        ("--probe-listen none", "ports", json!([main(8080)])),
        (
            "--probe-listen none",
            "livenessProbe/httpGet/port",
            json!("http"),
        ),
        (
            "--probe-listen none",
            "startupProbe/httpGet/port",
            json!("http"),
        ),
        (
            "--probe-listen none",
            "readinessProbe/httpGet/port",
            json!("http"),
        ),
        (
            "--model /data/m.json",
            "volumeMounts",
            json!([{"name": "model", "mountPath": "/data", "readOnly": true}]),
        ),
        (
            "--predict-workers 4",
            "resources/requests/cpu",
            json!("4100m"),
        ),
        (
            "--max-buffered 64MiB",
            "resources/limits/memory",
            json!("456Mi"),
        ),
        (
            "--max-buffered 128MiB",
            "resources/limits/memory",
            json!("520Mi"),
        ),
        (
            "--max-buffered 128MiB",
            "resources/requests/memory",
            json!("520Mi"),
        ),
        (
            "--termination-log /dev/stalls",
            "terminationMessagePath",
            json!("/dev/stalls"),
        ),
    ];
    assert_changes(0, CONTAINER, &table);
}

#[test]
fn a_serve_option_changes_what_follows_from_it_around_the_container() {
    let grace = "terminationGracePeriodSeconds";
    let sysctl = json!({"name": "net.ipv4.ip_unprivileged_port_start", "value": "80"});
    let table = [
        ("", grace, json!(30)),
        ("--drain-timeout 90s", grace, json!(100)),
        ("--drain-grace 0", grace, json!(25)),
        (
            "--listen 0.0.0.0:80",
            "securityContext/sysctls",
            json!([sysctl]),
        ),
        (
            "--model /data/m.json --name a",
            "volumes/0/persistentVolumeClaim/claimName",
            json!("a-model"),
        ),
    ];
    assert_changes(0, "/spec/template/spec/", &table);
    let table = [
        ("--replicas 3", "minReplicas", json!(3)),
        ("--replicas 3", "maxReplicas", json!(12)),
    ];
    assert_changes(3, "/spec/", &table);
}

#[test]
fn probes_have_the_numbers_that_the_library_gives_them() {
    for options in [
        &[][..],
        &["--stall-timeout", "7s"],
        &["--drain-grace", "9s"],
    ] {
        let pod = &manifest(options)[0]["spec"]["template"]["spec"];
        let numbers = PodNumbers::new(&config(options), 0);
        let check = |field: &str, numbers: ProbeNumbers| {
            let probe = &pod["containers"][0][field];
            let seconds = |field: &str| Duration::from_secs(probe[field].as_u64().unwrap());
            assert_eq!(seconds("periodSeconds"), numbers.period, "{field}");
            assert_eq!(seconds("timeoutSeconds"), numbers.timeout, "{field}");
            assert_eq!(probe["failureThreshold"], numbers.failure_threshold);
        };
        check("startupProbe", numbers.startup);
        check("livenessProbe", numbers.liveness);
        check("readinessProbe", numbers.readiness);
        let grace = pod["terminationGracePeriodSeconds"].as_u64();
        assert_eq!(grace, Some(numbers.termination_grace.as_secs()));
    }
}

#[test]
fn the_objects_belong_together() {
    let documents = manifest(&["--name", "iris"]);
    let [deployment, service, budget, autoscaler] = documents.as_slice() else {
        panic!("{documents:?}");
    };
    let selector = &deployment["spec"]["selector"]["matchLabels"];
    assert_eq!(service["spec"]["selector"], *selector);
    assert_eq!(budget["spec"]["selector"]["matchLabels"], *selector);
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert_eq!(missing(selector, labels, ""), [""; 0]);
    let target = &autoscaler["spec"]["scaleTargetRef"];
    for field in ["apiVersion", "kind"] {
        assert_eq!(target[field], deployment[field]);
    }
    for document in &documents {
        assert_eq!(document["metadata"]["name"], "iris");
    }
    assert_eq!(target["name"], "iris");
    assert_eq!(service["spec"]["ports"][0]["targetPort"], "http");
    // The autoscaler sets the replicas.
    assert_eq!(deployment["spec"]["replicas"], Value::Null);
}

#[test]
fn prometheus_finds_the_metrics_where_they_are() {
    for (options, port) in [
        (&[][..], "8081"),
        (&["--probe-listen", "0.0.0.0:9100"], "9100"),
        (&["--probe-listen", "none"], "8080"),
    ] {
        let annotations = &manifest(options)[0]["spec"]["template"]["metadata"]["annotations"];
        let expected = serde_json::json!({
            "prometheus.io/scrape": "true",
            "prometheus.io/port": port,
            "prometheus.io/path": "/metrics",
        });
        assert_eq!(*annotations, expected, "{options:?}");
    }
}

#[test]
fn a_container_has_no_more_rights_than_it_needs() {
    let pod = &manifest(&[])[0]["spec"]["template"]["spec"];
    assert_eq!(pod["automountServiceAccountToken"], false);
    assert_eq!(pod["enableServiceLinks"], false);
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
    assert_eq!(
        pod["securityContext"]["seccompProfile"]["type"],
        "RuntimeDefault"
    );
    let expected = json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"] },
    });
    assert_eq!(pod["containers"][0]["securityContext"], expected);
    assert_eq!(
        pod["containers"][0]["resources"]["limits"]["cpu"],
        Value::Null
    );
}

fn args(documents: &[Value]) -> Vec<String> {
    let args = &documents[0]["spec"]["template"]["spec"]["containers"][0]["args"];
    serde_json::from_value(args.clone()).unwrap()
}

#[test]
fn the_environment_and_values_of_any_kind_become_arguments() {
    let mut command = command(&["--model", "/m/a $(b): \"c\" # d.json", "--yield", "off"]);
    command
        .env("LANEKEEPER_MAX_WAIT", "1m 5s")
        .env("LANEKEEPER_LISTEN", "127.0.0.1:9000")
        .env("LANEKEEPER_PREDICT_WORKERS", "3");
    let text = printed(command);
    let expected = [
        "serve",
        "--listen=0.0.0.0:9000",
        "--probe-listen=0.0.0.0:9001",
        "--predict-workers=3",
        "--drain-grace=5s",
        "--max-buffered=256MiB",
        "--model=/m/a $$(b): \"c\" # d.json",
        "--yield=off",
        "--max-wait=1m 5s",
    ];
    assert_eq!(args(&documents(&text)), expected);
    assert!(text.contains("# as given by LANEKEEPER_MAX_WAIT"), "{text}");
}

#[test]
fn the_printed_arguments_start_a_server() {
    let documents = manifest(&[
        "--model",
        MODEL,
        "--stall-policy=any",
        "--replace-stuck-workers",
        "--max-body=1MiB",
        "--log-format=json",
    ]);
    let args = args(&documents);
    // Without the listen options: the server is to use free ports.
    let args = args[1..].iter().map(String::as_str);
    let args: Vec<&str> = args.filter(|arg| !arg.contains("listen=")).collect();
    assert_eq!(args.len(), 8);
    let server = Server::real(&args);
    server.wait_ready();
}

#[test]
fn what_a_pod_cannot_have_is_one_line_on_stderr_and_exit_code_2() {
    for (options, expected) in [
        (["--listen", "unix:/run/a"], "need a TCP port"),
        (["--probe-listen", "unix:/run/a"], "need a TCP port"),
        (["--listen", "127.0.0.1:0"], "a port other than 0"),
        (["--listen", "192.0.2.1:80"], "so use 0.0.0.0:80"),
        (
            ["--predict-queue", "0"],
            "--predict-queue must be at least 1",
        ),
        (["--name", "Iris"], "begins with a letter"),
        (["--image", ""], "an image is such as"),
    ] {
        let output = command(&options).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{options:?}");
        assert!(stderr.contains(expected), "{options:?}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{options:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{options:?}");
    }
}

#[test]
fn a_manifest_names_whom_it_is_for() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lanekeeper"));
    let output = command.arg("manifest").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("kubernetes"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
