//! What is served and how, in the documents that clients of other servers ask for. Pure.
//!
//! Runs on connection threads: nothing here waits, and nothing costs a prediction. A document grows
//! with the model's features only.

use std::time::{Duration, SystemTime};

use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{Code, RequestError};
use crate::health;
use crate::job::deployment::Deployment;
use crate::models::FeatureKind;
use crate::models::forest::Precision;
use crate::models::slot::ModelVersion;
use crate::platform::address::Address;
use crate::platform::clock::Stamp;
use crate::protocol::routes::Document;
use crate::protocol::{JsonObject, NamedObject, Payload, described_outputs};
use crate::serving::context::Context;
use crate::serving::openapi;
use crate::vitals::PredictionOutcome;

/// What V2 calls this server's abilities. Clients such as perf_analyzer look for them.
const EXTENSIONS: [&str; 7] = [
    "binary_tensor_data",
    "classification",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
];

const BYTES_PER_MIB: usize = 1 << 20;

/// What a document takes of memory while it is made, at most.
pub(crate) fn bytes(context: &Context, document: &Document) -> usize {
    /// Of a document without its tensors.
    const REST: usize = 4096;
    /// Of a tensor, without its name.
    const TENSOR: usize = 1024;
    if *document == Document::OpenApi {
        return openapi::bytes(context);
    }
    let version = context.registry.default_deployment().slot.get();
    let inputs = version.as_deref().map(inputs).unwrap_or_default();
    let names = inputs.iter().map(|tensor| TENSOR + 3 * tensor.name.len());
    names.fold(REST, usize::saturating_add)
}

/// Renders a document. `ready_only` leaves out models that are not ready, where models are listed by
/// their state. `probe` is the probe listener's address, if there is one.
///
/// # Errors
///
/// 404 for another model than the one there is, 503 while it is loading, 501 for what is not offered.
pub(crate) fn render(
    context: &Context,
    document: &Document,
    ready_only: bool,
    probe: Option<&Address>,
) -> Result<Payload, RequestError> {
    let deployment = context.registry.default_deployment();
    let document = match document {
        Document::Server => json!({
            "name": "lanekeeper",
            "version": env!("CARGO_PKG_VERSION"),
            "extensions": EXTENSIONS,
        }),
        Document::Models => {
            let version = deployment.slot.get();
            json!({"models": version.iter().map(|version| version.name()).collect::<Vec<_>>()})
        }
        Document::Model(target) => metadata(&*context.registry.model(target)?),
        Document::Config(target) => config(
            &*context.registry.model(target)?,
            context.config.limits.max_rows,
        ),
        Document::Stats(target) => {
            let version = context.registry.model(target)?;
            json!({"model_stats": [stats(context, deployment, &version)]})
        }
        Document::Index => index(context, ready_only),
        Document::Version => return Ok(Payload::text(200, env!("CARGO_PKG_VERSION"))),
        Document::ExecutionParameters => json!({
            "MaxConcurrentTransforms": context.config.predict_workers,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": (context.config.limits.max_body / BYTES_PER_MIB).max(1),
        }),
        Document::OpenApi => return Ok(Payload::json(200, openapi::render(context, probe))),
        Document::NotOffered(what) => {
            return Err(RequestError::new(Code::NotImplemented, *what));
        }
    };
    let mut json = document.to_string().into_bytes();
    json.push(b'\n');
    Ok(Payload::json(200, json))
}

/// A tensor of a model: its name, its datatype, and the values of a row.
pub(super) struct Described<'a> {
    pub(super) name: &'a str,
    pub(super) datatype: &'static str,
    pub(super) width: usize,
}

/// What a model takes: one tensor of numbers, or one for each feature if some are categories.
pub(super) fn inputs(version: &ModelVersion) -> Vec<Described<'_>> {
    let model = version.model();
    let features = &model.signature().features;
    let number = match model.precision() {
        Precision::F32 => "FP32",
        Precision::F64 => "FP64",
    };
    if !features.iter().any(|feature| feature.kind.takes_text()) {
        return vec![Described {
            name: "input",
            datatype: number,
            width: features.len(),
        }];
    }
    let described = features.iter().map(|feature| Described {
        name: &feature.name,
        datatype: match feature.kind {
            FeatureKind::Number | FeatureKind::WholeNumber => number,
            FeatureKind::YesNo => "BOOL",
            FeatureKind::Moment(_) | FeatureKind::Category { .. } => "BYTES",
        },
        width: 1,
    });
    described.collect()
}

fn outputs(version: &ModelVersion) -> Vec<Described<'static>> {
    let spec = &version.model().signature().output;
    let described = described_outputs(spec, version.loaded.answer).into_iter();
    let described = described.map(|(name, datatype, width)| Described {
        name,
        datatype,
        width,
    });
    described.collect()
}

/// A model's metadata as V2 has it.
fn metadata(version: &ModelVersion) -> Value {
    let tensor = |tensor: &Described<'_>| {
        json!({
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": [-1, tensor.width],
        })
    };
    json!({
        "name": version.name(),
        "versions": [version.loaded.version],
        "platform": "lanekeeper",
        "inputs": inputs(version).iter().map(tensor).collect::<Vec<_>>(),
        "outputs": outputs(version).iter().map(tensor).collect::<Vec<_>>(),
    })
}

/// A model's configuration as Triton has it; shapes are those of one row.
fn config(version: &ModelVersion, rows_max: usize) -> Value {
    let tensor = |tensor: &Described<'_>| {
        let datatype = match tensor.datatype {
            "BYTES" => "STRING",
            other => other,
        };
        json!({
            "name": tensor.name,
            "data_type": format!("TYPE_{datatype}"),
            "dims": [tensor.width],
        })
    };
    json!({
        "name": version.name(),
        "platform": "lanekeeper",
        "backend": "lanekeeper",
        "version_policy": {"latest": {"num_versions": 1}},
        "max_batch_size": rows_max,
        "input": inputs(version).iter().map(tensor).collect::<Vec<_>>(),
        "output": outputs(version).iter().map(tensor).collect::<Vec<_>>(),
    })
}

/// A model's statistics as Triton has them. Decoding and encoding are part of `compute_infer`.
fn stats(context: &Context, deployment: &Deployment, version: &ModelVersion) -> Value {
    let vitals = &deployment.vitals;
    let (mut failed, mut failed_time) = (0, Duration::ZERO);
    for outcome in PredictionOutcome::ALL {
        if outcome != PredictionOutcome::Ok {
            let ended = vitals.outcomes.sojourn(outcome).snapshot();
            failed += ended.count;
            failed_time += ended.sum;
        }
    }
    let ok = PredictionOutcome::Ok;
    let succeeded = vitals.outcomes.sojourn(ok).snapshot();
    let waited = vitals.outcomes.waiting(ok).snapshot();
    let served = vitals.outcomes.service(ok).snapshot();
    let figure = |count: u64, time: Duration| {
        json!({
            "count": count,
            "ns": u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        })
    };
    // perf_analyzer takes a version in digits only.
    let digits = version
        .loaded
        .version
        .bytes()
        .all(|byte| byte.is_ascii_digit());
    json!({
        "name": version.name(),
        "version": if digits { &version.loaded.version } else { "1" },
        "last_inference": last_success_millis(context, deployment),
        "inference_count": vitals.rows.value(),
        "execution_count": succeeded.count,
        "inference_stats": {
            "success": figure(succeeded.count, succeeded.sum),
            "fail": figure(failed, failed_time),
            "queue": figure(waited.count, waited.sum),
            "compute_input": figure(served.count, Duration::ZERO),
            "compute_infer": figure(served.count, served.sum),
            "compute_output": figure(served.count, Duration::ZERO),
            "cache_hit": figure(0, Duration::ZERO),
            "cache_miss": figure(0, Duration::ZERO),
        },
        "batch_stats": [],
    })
}

/// When a prediction last succeeded, in milliseconds since 1970; 0 if none has.
fn last_success_millis(context: &Context, deployment: &Deployment) -> u64 {
    let at = deployment.vitals.succeeded_at.load();
    if at == Stamp::NEVER {
        return 0;
    }
    let age = context.vitals.clock.now().since(at);
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let since = since.unwrap_or_default().saturating_sub(age);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Reads the body of the request for the models and their states: whether only models that are ready
/// are listed.
///
/// # Errors
///
/// 400 for a body that is neither empty nor this question.
pub(crate) fn wants_ready_only(body: &[u8]) -> Result<bool, RequestError> {
    #[derive(Deserialize)]
    struct IndexRequest {
        #[serde(default)]
        ready: bool,
    }
    impl NamedObject for IndexRequest {
        const NAME: &'static str = "the body";
    }
    if body.trim_ascii().is_empty() {
        return Ok(false);
    }
    let asked: JsonObject<IndexRequest> = serde_json::from_slice(body).map_err(|error| {
        let code = match error.is_data() {
            true => Code::InvalidInput,
            false => Code::InvalidJson,
        };
        let text = format!("the body must be empty or {{\"ready\": true}}, but: {error}");
        RequestError::new(code, text)
    })?;
    Ok(asked.0.ready)
}

/// The models and their states.
fn index(context: &Context, ready_only: bool) -> Value {
    let deployment = context.registry.default_deployment();
    let Some(version) = deployment.slot.get() else {
        return json!([]);
    };
    let failure = health::failure(health::ProbeKind::Readiness, &context.snapshot());
    if failure.is_some() && ready_only {
        return json!([]);
    }
    json!([{
        "name": version.name(),
        "version": version.loaded.version,
        "state": if failure.is_none() { "READY" } else { "UNAVAILABLE" },
        "reason": failure.map(|failure| failure.reason).unwrap_or_default(),
    }])
}

/// What a program gets at `/`: that the server is alive, and where to go from there.
pub(crate) fn root(context: &Context) -> Value {
    let version = context.registry.default_deployment().slot.get();
    json!({
        "status": "alive",
        "name": "lanekeeper",
        "version": env!("CARGO_PKG_VERSION"),
        "model": version.as_ref().map(|version| version.name()),
        "paths": [
            "/predict", "/invocations", "/score", "/v2", "/v1/models",
            "/livez", "/readyz", "/startupz", "/statusz", "/metrics",
            "/openapi.json",
        ],
    })
}
