//! Answers to probes: `/livez`, `/readyz`, `/startupz`, one of their checks, `/statusz`.
//!
//! Runs on probe workers, which read stamps and atomics and wait for nothing, and on a connection's
//! thread if no probe worker answers. The formats are kube-apiserver's, plain `ok` and with
//! `?verbose` one line per check, and those of other model servers.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::error::{Code, RequestError};
use crate::health::{self, FailedCheck, Meaning, ProbeKind, Snapshot};
use crate::job::deployment::Deployment;
use crate::models::format::DEFAULT_VERSION;
use crate::models::slot::ModelVersion;
use crate::platform::cgroup::Reading;
use crate::platform::clock::Stamp;
use crate::protocol::routes::{Probe, ProbeForm};
use crate::protocol::{Payload, Target};
use crate::serving::context::Context;
use crate::serving::documents;
use crate::vitals::{LaneVitals, PredictionOutcome, TrialVerdict};

const OK: u16 = 200;

/// How many names of features and classes `/statusz` lists.
const NAMES_SHOWN: usize = 20;

/// Maximum length of one reason, in bytes: kubelet reads 10 KB of an answer, all checks together.
const REASON_BYTES_MAX: usize = 800;

/// Answers a probe from the present state.
///
/// # Errors
///
/// 404 for a model that is not there, if the probe names one.
pub fn answer(context: &Context, probe: &Probe) -> Result<Payload, RequestError> {
    let snapshot = context.snapshot();
    if probe.kind == ProbeKind::Readiness {
        context.vitals.readyz_seen.store(true, Ordering::Relaxed);
    }
    match (probe.kind, &probe.form) {
        (ProbeKind::Status, _) => Ok(statusz(context, &snapshot)),
        (_, ProbeForm::Text) => Ok(verdict(&snapshot, probe)),
        _ => json_verdict(context, &snapshot, probe),
    }
}

/// A verdict in JSON, as clients of other model servers expect it. They take 503 for "no".
fn json_verdict(
    context: &Context,
    snapshot: &Snapshot,
    probe: &Probe,
) -> Result<Payload, RequestError> {
    let mut failure = health::failure(probe.kind, snapshot);
    if probe.kind == ProbeKind::Liveness && probe.form == ProbeForm::Healthy {
        failure = failure.or_else(|| health::failure(ProbeKind::Startup, snapshot));
    }
    let passed = failure.is_none();
    let content = match &probe.form {
        ProbeForm::Verdict | ProbeForm::Text if probe.kind == ProbeKind::Liveness => {
            json!({"live": passed})
        }
        ProbeForm::Verdict | ProbeForm::Text => {
            let live = health::failure(ProbeKind::Liveness, snapshot).is_none();
            json!({"ready": passed, "live": live})
        }
        ProbeForm::Healthy => json!({"status": if passed { "Healthy" } else { "Unhealthy" }}),
        ProbeForm::Alive if passed => documents::root(context),
        ProbeForm::Alive => json!({"status": "not alive"}),
        ProbeForm::Model(target) => {
            let version = model(context, target)?;
            json!({"name": name_of(version.as_deref(), target), "ready": passed})
        }
        ProbeForm::ModelState(target) => {
            let version = model(context, target)?;
            let number = version
                .as_ref()
                .map(|version| version.loaded.version.as_str());
            let (state, code) = match passed {
                true => ("AVAILABLE", "OK"),
                false => ("UNAVAILABLE", "UNAVAILABLE"),
            };
            let message = failure.as_ref().map(|failure| one_line(&failure.reason));
            json!({
                "name": name_of(version.as_deref(), target),
                "ready": passed,
                "model_version_status": [{
                    "version": number.unwrap_or(DEFAULT_VERSION),
                    "state": state,
                    "status": {"error_code": code, "error_message": message.unwrap_or_default()},
                }],
            })
        }
    };
    Ok(json_payload(content, failure.as_ref()))
}

/// The model that a probe names; `None` while it is loading.
fn model(context: &Context, target: &Target) -> Result<Option<Arc<ModelVersion>>, RequestError> {
    match context.registry.model(target) {
        Ok(version) => Ok(Some(version)),
        Err(error) if error.code == Code::Loading => Ok(None),
        Err(error) => Err(error),
    }
}

fn name_of<'a>(version: Option<&'a ModelVersion>, target: &'a Target) -> &'a str {
    match version {
        Some(version) => version.name(),
        None => target.model.as_deref().unwrap_or_default(),
    }
}

fn json_payload(mut content: serde_json::Value, failure: Option<&FailedCheck>) -> Payload {
    if let Some(failure) = failure {
        content["error"] = format!("{}: {}", failure.check, one_line(&failure.reason)).into();
    }
    let mut json = content.to_string().into_bytes();
    json.push(b'\n');
    Payload {
        retry_after: failure.map(|_| 1),
        ..Payload::json(
            if failure.is_none() {
                OK
            } else {
                Code::Loading.status()
            },
            json,
        )
    }
}

/// Runs the checks asked for and formats their results.
fn verdict(snapshot: &Snapshot, probe: &Probe) -> Payload {
    let explained = probe.verbose || probe.only.is_some();
    let mut lines = String::new();
    let mut first: Option<FailedCheck> = None;
    for check in health::checks(probe.kind) {
        if probe.only.is_some_and(|only| only != check.name) {
            continue;
        }
        let excluded = probe.excluded.contains(&check.name);
        let failure = if excluded {
            None
        } else {
            check.failure(snapshot)
        };
        if explained {
            // Writing to a String cannot fail.
            let _ = match (&failure, excluded) {
                (_, true) => writeln!(lines, "[+]{} excluded: ok", check.name),
                (None, false) => writeln!(lines, "[+]{} ok", check.name),
                (Some(failure), false) => writeln!(
                    lines,
                    "[-]{} failed: {}",
                    check.name,
                    one_line(&failure.reason)
                ),
            };
        }
        first = first.or(failure);
    }
    if !probe.unknown.is_empty() {
        let checks = health::names(health::checks(probe.kind));
        let _ = writeln!(
            lines,
            "warn: excluding {:?} changed nothing: the checks here are {checks}",
            probe.unknown
        );
    }
    respond(probe, first.as_ref(), &lines)
}

fn respond(probe: &Probe, failure: Option<&FailedCheck>, lines: &str) -> Payload {
    let (status, retry_after) = match failure.map(|failure| failure.meaning) {
        None => (OK, None),
        Some(Meaning::NotNow) => (Code::Loading.status(), Some(1)),
        Some(Meaning::NotAlive | Meaning::NotWorking) => (Code::Internal.status(), None),
    };
    let text = failure.map_or(Cow::Borrowed("ok"), |failure| match failure.meaning {
        Meaning::NotAlive => Cow::Borrowed(health::NOT_ALIVE),
        Meaning::NotNow | Meaning::NotWorking => Cow::Owned(one_line(&failure.reason)),
    });
    let end = if failure.is_none() {
        "passed"
    } else {
        "failed"
    };
    let name = name(probe.kind);
    let body = match (probe.verbose, failure) {
        (true, None) => Cow::Owned(format!("{lines}{name} check {end}\n")),
        (true, Some(_)) => Cow::Owned(format!("{text}\n{lines}{name} check {end}\n")),
        (false, None) if probe.unknown.is_empty() => text,
        (false, Some(_)) if lines.is_empty() => text,
        (false, _) => Cow::Owned(format!("{text}\n{lines}")),
    };
    Payload {
        retry_after,
        ..Payload::text(status, body)
    }
}

/// Makes a reason one line, whatever a model's panic put into it, and truncates it.
fn one_line(reason: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= REASON_BYTES_MAX;
    let kept = reason.char_indices().take_while(fits);
    let mut line: String = kept.map(|(_, c)| plain(c)).collect();
    if reason.len() > REASON_BYTES_MAX {
        line.push('…');
    }
    line
}

fn name(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "livez",
        ProbeKind::Readiness => "readyz",
        ProbeKind::Startup => "startupz",
        ProbeKind::Status => "statusz",
    }
}

fn statusz(context: &Context, snapshot: &Snapshot) -> Payload {
    let vitals = &context.vitals;
    let counts = &vitals.counts;
    let deployment = context.registry.default_deployment();
    let deployments = context.registry.all();
    let ended = |outcome| -> u64 {
        let ended = |one: &Arc<Deployment>| one.vitals.outcomes.sojourn(outcome).count();
        deployments.iter().map(ended).sum()
    };
    let (trials, reloads) = (&deployment.vitals.trials, &deployment.vitals.reloads);
    let model = deployment.slot.get().map(|version| {
        let signature = version.model().signature();
        let labels = signature.output.labels();
        // A model may have thousands of names, and this is answered between probes.
        let classes: Vec<&String> = labels.iter().take(NAMES_SHOWN).collect();
        let features: Vec<&str> = signature.names().take(NAMES_SHOWN).collect();
        json!({
            "name": version.name(),
            "generation": version.number,
            "algorithm": version.loaded.algorithm,
            "feature_count": signature.features.len(),
            "features": features,
            "class_count": labels.len(),
            "classes": classes,
            "notes": version.loaded.notes,
        })
    });
    let age =
        |stamp: Stamp| (stamp != Stamp::NEVER).then(|| snapshot.now.since(stamp).as_secs_f64());
    let (trial, trial_reason) = match &snapshot.trial {
        TrialVerdict::Untried => ("untried", None),
        TrialVerdict::Passed => ("passed", None),
        TrialVerdict::Failed(reason) => ("failed", Some(one_line(reason))),
    };
    let reason = |kind| {
        let failure = health::failure(kind, snapshot)?;
        Some(format!("{}: {}", failure.check, one_line(&failure.reason)))
    };
    let (not_alive, not_ready) = (reason(ProbeKind::Liveness), reason(ProbeKind::Readiness));
    let mut predict = lane_json(&vitals.predict, snapshot.now);
    predict["stuck"] = snapshot.stuck().count().into();
    predict["substitutes"] = vitals.predict.substitutes().into();
    let by_reason = counts.clients.by_reason().into_iter();
    let clients: serde_json::Map<String, serde_json::Value> = by_reason
        .map(|(reason, _, count)| (reason.to_owned(), count.value().into()))
        .collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("LANEKEEPER_COMMIT"),
        "uptime_seconds": snapshot.now.since(vitals.started_at).as_secs_f64(),
        "stopped_seconds": vitals.clock.lost().as_secs_f64(),
        "phase": snapshot.phase.name(),
        "alive": not_alive.is_none(),
        "reason": not_alive,
        "ready": not_ready.is_none(),
        "ready_reason": not_ready,
        "degraded": health::degradation(snapshot),
        "model": model,
        "trial": {
            "verdict": trial,
            "reason": trial_reason,
            "began_age_seconds": age(trials.began_at.load()),
            "running": snapshot.trial_running_since.is_some(),
            "failures_in_a_row": trials.failures.count(),
        },
        "reload": {
            "running": reloads.running.load(Ordering::Relaxed),
            "succeeded": reloads.succeeded.value(),
            "failed": reloads.failed.value(),
            "error": reloads.error().map(|error| one_line(&error)),
            "signature_change": reloads.signature_change().map(|change| one_line(&change)),
            "loaded_age_seconds": age(reloads.loaded_at.load()),
        },
        "lanes": {"predict": predict, "probe": lane_json(&vitals.probe, snapshot.now)},
        "shared_lane": context.config.shared_lane,
        "last_completion_age_seconds": age(vitals.predict.completed_at.load()),
        "last_success_age_seconds": age(deployment.vitals.succeeded_at.load()),
        "connections": {
            "main": vitals.listeners[0].open_connections.load(Ordering::Relaxed),
            "probe": vitals.listeners[1].open_connections.load(Ordering::Relaxed),
            "accepted": counts.connections.value(),
        },
        "clients": clients,
        "malformed": counts.clients.malformed_reasons.latest().map(|most| json!({
            "reason": one_line(&most.text),
            "count": most.count,
            "client": most.client,
        })),
        "responses": responses_json(context),
        "buffered": {"bytes": context.budget.bytes(), "bytes_max": context.budget.bytes_max()},
        "cgroup": cgroup_json(&vitals.cgroup.load()),
        "predictions": {
            "succeeded": ended(PredictionOutcome::Ok),
            "rejected": ended(PredictionOutcome::Rejected),
            "failed": ended(PredictionOutcome::Failed).saturating_sub(counts.lost.value()),
            "panicked": counts.panicked.value(),
            "lost": counts.lost.value(),
            "refused": ended(PredictionOutcome::Refused),
            "expired": ended(PredictionOutcome::Expired),
            "abandoned": ended(PredictionOutcome::Abandoned),
            "deadline_exceeded": ended(PredictionOutcome::DeadlineExceeded),
        },
        "probes": counts.probes.value(),
        "threads_replaced": counts.threads_replaced.value(),
        "log_records_dropped": crate::logging::dropped(),
    });
    let mut json = body.to_string().into_bytes();
    json.push(b'\n');
    Payload::json(OK, json)
}

/// Answers by status code, and those that have one by `code`.
fn responses_json(context: &Context) -> serde_json::Value {
    let (mut by_status, mut by_code) = (BTreeMap::new(), BTreeMap::new());
    let overload = context.config.overload.overload_status;
    for (status, code, count) in context.vitals.responses.by_code(overload) {
        *by_status.entry(status).or_insert(0) += count;
        if let Some(code) = code {
            by_code.insert(code.as_str(), count);
        }
    }
    json!({"status": by_status, "code": by_code})
}

fn lane_json(lane: &LaneVitals, now: Stamp) -> serde_json::Value {
    let oldest = lane.oldest_arrival();
    json!({
        "queue_length": lane.queue_length.load(Ordering::Relaxed),
        "queue_capacity": lane.queue_capacity,
        "queue_oldest_age_seconds": oldest.map(|arrival| now.since(arrival).as_secs_f64()),
        "workers": lane.workers_wanted,
        "busy": lane.busy(),
        "completed": lane.completed.value(),
        "service_time_seconds": lane.service_time().as_secs_f64(),
    })
}

/// Limits and readings that do not exist are null.
fn cgroup_json(reading: &Reading) -> serde_json::Value {
    let throttling = reading.throttling;
    json!({
        "cpu_quota": reading.cpu_quota,
        "throttled_periods": throttling.map(|throttling| throttling.periods),
        "throttled_seconds": throttling.map(|throttling| throttling.time.as_secs_f64()),
        "memory_bytes": reading.memory_bytes,
        "memory_bytes_max": reading.memory_bytes_max,
    })
}

#[cfg(test)]
mod tests;
