use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use tiny_http::Method;

use super::*;
use crate::config::{self, Command, ModelRequest, Resources};
use crate::error::Code;
use crate::health::{self, ProbeKind};
use crate::lanes::memory_budget::{Budget, Charge};
use crate::lifecycle::Waker;
use crate::models::signature::Unseen;
use crate::models::{Feature, FeatureKind, format};
use crate::platform::fault::NoFaults;
use crate::protocol::routes::{self, Document, ListenerKind, Listening, Route};
use crate::protocol::{BodyHead, RowSpec};
use crate::serving::fixtures::{feature, version};

fn config(args: &[&str]) -> Config {
    let args = ["lanekeeper"].iter().chain(args).map(Into::into);
    match config::parse(args).unwrap() {
        Command::Serve(serve) => serve.validate(Resources::UNKNOWN).unwrap(),
        other => panic!("{other:?}"),
    }
}

fn iris() -> ModelVersion {
    let loaded = format::load(&ModelRequest::default()).unwrap();
    ModelVersion::new(Arc::new(loaded), 1)
}

fn category(labels: &[&str], unseen: Unseen) -> FeatureKind {
    let labels: Vec<String> = labels.iter().map(|label| (*label).to_owned()).collect();
    FeatureKind::Category {
        labels: labels.into(),
        unseen,
    }
}

fn classes() -> OutputSpec {
    OutputSpec::Classes {
        labels: ["0", "1"].map(str::to_owned).to_vec(),
        has_probabilities: true,
    }
}

fn described(version: Option<&ModelVersion>) -> Value {
    document(&config(&[]), version, None)
}

fn operations(document: &Value) -> Vec<(String, String, Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    let of_path = |(path, item): (&String, &Value)| -> Vec<(String, String, Value)> {
        let methods = item.as_object().unwrap().iter();
        let methods = methods.filter(|(name, _)| *name != "servers");
        methods
            .map(|(method, operation)| (path.clone(), method.to_uppercase(), operation.clone()))
            .collect()
    };
    paths.flat_map(of_path).collect()
}

fn route(method: &str, path: &str) -> Result<Route, (u16, Option<&'static str>)> {
    let main = Address::parse("127.0.0.1:8080").unwrap();
    let listening = Listening {
        kind: ListenerKind::Main,
        main: &main,
        probe: None,
        main_metrics: false,
        shows_clients: false,
        aliases: &[],
    };
    let method: Method = method.parse().unwrap();
    routes::route(&method, path, None, listening)
        .map_err(|error| (error.code.status(), error.allow))
}

/// A path with its parameters filled in.
fn filled(path: &str) -> String {
    let check = match path.starts_with("/livez") || path.starts_with("/healthz") {
        true => "workers",
        false => "model",
    };
    path.replace("{model}", "iris")
        .replace("{version}", "1")
        .replace("{check}", check)
        .replace("{topic}", "api")
}

#[test]
fn every_documented_operation_is_routed_and_no_other_method_is() {
    let document = described(Some(&iris()));
    let mut ids = BTreeSet::new();
    for (path, method, operation) in operations(&document) {
        let path = filled(&path);
        let routed = route(&method, &path);
        assert!(routed.is_ok(), "{method} {path}: {routed:?}");
        assert!(
            !matches!(routed, Ok(Route::Document(Document::NotOffered(_)))),
            "{path}"
        );
        let id = operation["operationId"].as_str().unwrap().to_owned();
        assert!(ids.insert(id.clone()), "{id} occurs twice");
        assert!(!operation["summary"].as_str().unwrap().is_empty(), "{id}");
        let other = if method == "GET" { "POST" } else { "GET" };
        assert_eq!(route(other, &path).unwrap_err().0, 405, "{other} {path}");
        if method == "GET" {
            assert!(route("HEAD", &path).is_ok(), "{path}");
        }
    }
    assert!(ids.len() > 35, "{ids:?}");
}

/// Paths that are for people, or the same as another.
const UNDOCUMENTED: [&str; 1] = ["/v2/"];

#[test]
fn every_path_that_the_routes_know_is_documented() {
    let document = described(Some(&iris()));
    let documented: BTreeSet<String> = operations(&document)
        .iter()
        .map(|(path, ..)| filled(path))
        .collect();
    let sources = [
        include_str!("../../protocol/routes.rs"),
        include_str!("../../protocol/invocations.rs"),
        include_str!("../../protocol/score.rs"),
        include_str!("../../protocol/instances/predict.rs"),
    ];
    let mut seen = 0;
    for source in sources {
        let code = source.split("#[cfg(test)]").next().unwrap();
        for literal in code.split('"').skip(1).step_by(2) {
            let is_path = literal.starts_with('/')
                && literal.len() > 1
                && literal.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_path
                || UNDOCUMENTED.contains(&literal)
                || route("GET", literal) == Err((404, None))
            {
                continue;
            }
            assert!(documented.contains(literal), "{literal} is not documented");
            seen += 1;
        }
    }
    assert!(seen >= 20, "only {seen} paths were seen");
    let verbs = ["", "/ready", "/config", "/stats", "/infer"];
    for place in ["/v2/models/iris", "/v2/models/iris/versions/1"] {
        for verb in verbs {
            assert!(documented.contains(&format!("{place}{verb}")), "{verb}");
        }
    }
    for place in ["/v1/models/iris", "/v1/models/iris/versions/1"] {
        assert!(documented.contains(place), "{place}");
        assert!(documented.contains(&format!("{place}:predict")), "{place}");
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "$ref" => found.push(text.clone()),
                    _ => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn every_reference_resolves_and_every_component_is_referred_to() {
    let numbers = version(
        vec![feature("x", FeatureKind::Number)],
        OutputSpec::Numbers { width: 2 },
    );
    for version in [None, Some(&iris()), Some(&numbers)] {
        let document = described(version);
        let mut found = Vec::new();
        references(&document, &mut found);
        for reference in &found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        for kind in ["schemas", "headers", "parameters"] {
            for name in document["components"][kind].as_object().unwrap().keys() {
                let reference = format!("#/components/{kind}/{name}");
                // Of JSON_LENGTH, only one of field and parameter is shared.
                let is_used = found.contains(&reference) || name == JSON_LENGTH;
                assert!(is_used, "{reference} is used nowhere");
            }
        }
    }
}

#[test]
fn every_code_is_documented_with_its_status() {
    for (args, overload) in [(&[][..], 503), (&["--overload-status", "429"], 429)] {
        let document = document(&config(args), None, None);
        let mut found = Vec::new();
        references(&document, &mut found);
        for code in Code::ALL {
            let status = match code {
                Code::Overloaded | Code::QueueFull | Code::OverBudget => overload,
                _ => code.status_with(config(args).overload.overload_status),
            };
            let answer = &document["components"]["responses"][format!("Error{status}")];
            let codes = &answer["content"]["application/json"]["schema"]["properties"]["code"];
            let codes = codes["enum"].as_array().unwrap();
            assert!(codes.contains(&code.as_str().into()), "{code:?}");
            let retries = status == 503 || status == overload;
            assert_eq!(
                answer["headers"]["Retry-After"].is_object(),
                retries,
                "{code:?}"
            );
            let reference = format!("#/components/responses/Error{status}");
            assert!(found.contains(&reference), "{code:?}");
        }
        let known = &document["components"]["schemas"]["Error"]["properties"]["code"]["enum"];
        let names = Code::ALL.map(Code::as_str);
        let sorted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let expected: BTreeSet<String> = sorted(&names);
        let known: Vec<&str> = known
            .as_array()
            .unwrap()
            .iter()
            .filter_map(Value::as_str)
            .collect();
        assert_eq!(sorted(&known), expected);
    }
    let document = described(None);
    let schemas = &document["components"]["schemas"];
    let error_codes = &schemas["InvocationsError"]["properties"]["error_code"]["enum"];
    assert!(
        error_codes
            .as_array()
            .unwrap()
            .contains(&"BAD_REQUEST".into())
    );
    assert_eq!(
        schemas["ScoreError"]["properties"]["message"]["type"],
        "string"
    );
    assert_eq!(
        schemas["Error"]["required"],
        json!(["code", "error", "request_id"])
    );
}

#[test]
fn checks_and_limits_are_the_servers_own() {
    let document = document(&config(&["--max-rows", "123"]), Some(&iris()), None);
    let paths = &document["paths"];
    for (path, kind) in [
        ("/readyz", ProbeKind::Readiness),
        ("/startupz", ProbeKind::Startup),
    ] {
        let names: Vec<&str> = health::checks(kind)
            .iter()
            .map(|check| check.name)
            .collect();
        let check = &paths[format!("{path}/{{check}}")]["get"]["parameters"][0]["schema"]["enum"];
        assert_eq!(*check, json!(names), "{path}");
    }
    assert_eq!(
        document["components"]["schemas"]["Instances"]["maxItems"],
        123
    );
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    let main = Address::parse("127.0.0.1:9").unwrap();
    let elsewhere = super::document(&config(&[]), None, Some(&main));
    let metrics = &elsewhere["paths"]["/metrics"];
    assert_eq!(metrics["servers"][0]["url"], "http://{host}:9");
    assert!(metrics["get"]["responses"]["404"].is_object());
    assert!(paths["/metrics"]["servers"].is_null());
    let both = super::document(&config(&["--main-metrics"]), None, Some(&main));
    assert!(both["paths"]["/metrics"]["servers"].is_null());
}

#[test]
fn paths_that_a_platform_names_are_documented_but_not_in_place_of_probes() {
    let mut config = config(&[]);
    config.routes = vec![
        ("/v1/any:predict".to_owned(), "/predict"),
        ("/livez".to_owned(), "/predict"),
    ];
    let document = document(&config, None, None);
    let other = &document["paths"]["/v1/any:predict"]["post"];
    assert_eq!(other["operationId"], "predictAlias1");
    assert!(document["paths"]["/livez"]["post"].is_null());
}

#[test]
fn the_document_is_made_anew_when_the_model_changes() {
    let (context, _) = Context::new(config(&[]), Arc::new(NoFaults), Waker::idle());
    let before = bytes(&context);
    let loading = render(&context, None);
    assert_eq!(bytes(&context), loading.len());
    assert!(before > loading.len());
    let slot = &context.registry.default_deployment().slot;
    slot.put(Arc::clone(&iris().loaded));
    assert!(bytes(&context) > loading.len());
    let iris = render(&context, None);
    assert!(!loading.windows(12).any(|piece| piece == b"sepal_length"));
    assert!(iris.windows(12).any(|piece| piece == b"sepal_length"));
    assert_eq!(render(&context, None), iris);
    slot.put(Arc::clone(&version(Vec::new(), classes()).loaded));
    assert!(
        !render(&context, None)
            .windows(12)
            .any(|piece| piece == b"sepal_length")
    );
}

#[test]
fn features_have_their_kinds_labels_and_gaps() {
    let mut age = feature("age", FeatureKind::WholeNumber);
    age.may_be_missing = true;
    let mut unused = feature("id", category(&[], Unseen::Missing));
    unused.may_be_missing = true;
    let features = vec![
        age,
        feature("size", category(&["S", "10"], Unseen::Refuse)),
        feature("town", category(&["Bern", "Ulm"], Unseen::Other)),
        feature("paid", FeatureKind::YesNo),
        unused,
    ];
    let document = described(Some(&version(features, classes())));
    let schemas = &document["components"]["schemas"];
    let properties = &schemas["Instance"]["properties"];
    assert_eq!(properties["age"]["type"], json!(["integer", "null"]));
    assert_eq!(properties["size"]["enum"], json!(["S", "10", 10]));
    assert!(properties["town"]["enum"].is_null());
    assert_eq!(properties["town"]["examples"], json!(["Bern", "Ulm"]));
    assert_eq!(properties["paid"]["type"], "boolean");
    assert_eq!(
        schemas["Instance"]["required"],
        json!(["age", "size", "town", "paid"])
    );
    assert_eq!(schemas["Row"]["prefixItems"].as_array().unwrap().len(), 5);
    assert_eq!(schemas["Row"]["minItems"], 5);
    assert_eq!(schemas["Prediction"]["enum"], json!([0, 1]));
    assert_eq!(schemas["Probabilities"]["required"], json!(["0", "1"]));
    let versions = &document["components"]["parameters"]["version"]["schema"]["enum"];
    assert_eq!(*versions, json!(["7", "1"]));
}

/// What a tree of values takes on the heap, at most.
fn heap_bytes(value: &Value) -> usize {
    // A node of a B-tree has room for eleven entries and is at least half full, but for the only one.
    const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 12 * 8 + 16;
    const ALLOCATION: usize = 16;
    match value {
        Value::String(text) => text.capacity() + ALLOCATION,
        Value::Array(items) => {
            let own = items.capacity() * size_of::<Value>() + ALLOCATION;
            items.iter().map(heap_bytes).sum::<usize>() + own
        }
        Value::Object(fields) => {
            let entry =
                |(name, value): (&String, &Value)| name.capacity() + ALLOCATION + heap_bytes(value);
            fields.len().div_ceil(5) * (NODE + ALLOCATION) + fields.iter().map(entry).sum::<usize>()
        }
        _ => 0,
    }
}

#[test]
fn ten_thousand_features_and_labels_make_no_larger_document() {
    let long = "n".repeat(1000);
    let labels: Vec<String> = (0..90).map(|label| format!("label {label}")).collect();
    let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
    let features = |name: &dyn Fn(usize) -> String, kind: &FeatureKind, count: usize| {
        (0..count)
            .map(|place| feature(&name(place), kind.clone()))
            .collect()
    };
    let many_classes = OutputSpec::Classes {
        labels: (0..10_000).map(|label| format!("class {label}")).collect(),
        has_probabilities: true,
    };
    let number = FeatureKind::Number;
    let refusing = category(&labels, Unseen::Refuse);
    let table: [(&str, Vec<Feature>, OutputSpec); 4] = [
        (
            "short names",
            features(&|place| format!("f{place}"), &number, 10_000),
            classes(),
        ),
        (
            "long names",
            features(&|place| format!("{long}{place}"), &number, 10_000),
            classes(),
        ),
        (
            "labels",
            features(&|place| format!("f{place}"), &refusing, 10_000),
            many_classes,
        ),
        (
            "as many as are listed",
            features(&|place| format!("f{place}"), &refusing, 300),
            classes(),
        ),
    ];
    for (name, features, output) in table {
        let count = features.len();
        let version = version(features, output);
        let document = described(Some(&version));
        let text = document.to_string();
        let taken = heap_bytes(&document) + 3 * text.len();
        let charged = bytes_to_make(Some(&version));
        assert!(text.len() < 700_000, "{name}: {} bytes", text.len());
        let sizes = format!("{name}: {taken} bytes, but {charged} are charged");
        assert!((taken..4 * taken).contains(&charged), "{sizes}");
        let instance = &document["components"]["schemas"]["Instance"];
        assert!(
            instance["properties"].as_object().unwrap().len() <= 300,
            "{name}"
        );
        if count > 300 {
            assert_eq!(instance["minProperties"], count, "{name}");
        }
    }
    let document = described(None);
    let taken = heap_bytes(&document) + 3 * document.to_string().len();
    assert!(taken <= bytes_to_make(None), "{taken}");
}

#[test]
fn the_stack_of_a_connection_is_enough_for_it() {
    // As large as a connection's, of which the connection itself has some.
    let (config, version) = (config(&[]), iris());
    let made = thread::scope(|scope| {
        let made = thread::Builder::new()
            .stack_size(40 << 10)
            .spawn_scoped(scope, || {
                document(&config, Some(&version), None).to_string().len()
            });
        made.unwrap().join().unwrap()
    });
    assert!(made > 50_000);
}

#[test]
fn the_examples_of_bodies_are_read_by_their_dialects() {
    let version = iris();
    let document = described(Some(&version));
    let row_spec = RowSpec {
        signature: version.model().signature(),
        precision: version.model().precision(),
        rows_max: 10,
    };
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (path, _, operation) in operations(&document) {
        let Ok(Route::Predict(prediction)) = route("POST", &filled(&path)) else {
            continue;
        };
        let content = operation["requestBody"]["content"].as_object().unwrap();
        for (media_type, body) in content {
            let examples = body["examples"].as_object().into_iter().flatten();
            let examples = examples.map(|(_, example)| example["value"].to_string());
            let text = body["example"].as_str().map(str::to_owned);
            for example in examples.chain(text) {
                let head = BodyHead {
                    content_type: Some(media_type.clone()),
                    ..BodyHead::default()
                };
                prediction.dialect.check_head(&head).unwrap();
                let budget = Arc::new(Budget::new(1 << 20, 0));
                let mut charge = Charge::new(&budget);
                let asked =
                    prediction
                        .dialect
                        .decode(&head, example.as_bytes(), row_spec, &mut charge);
                assert!(asked.is_ok(), "{path}: {example}: {asked:?}");
                *seen.entry(path.clone()).or_default() += 1;
            }
        }
    }
    assert_eq!(seen.len(), 7, "{seen:?}");
    assert!(
        seen["/invocations"] >= 7 && seen["/predict"] >= 3,
        "{seen:?}"
    );
}
