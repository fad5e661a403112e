//! Answers to probes: `/livez`, `/readyz`, `/startupz`, one of their checks, `/statusz`.
//!
//! Runs on probe workers, which read stamps and atomics and wait for nothing, and on a connection's
//! thread if no probe worker answers. The formats are kube-apiserver's, plain `ok` and with
//! `?verbose` one line per check, and those of other model servers.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::error::{Code, RequestError};
use crate::health::{self, FailedCheck, Meaning, ProbeKind, Snapshot};
use crate::models::format::DEFAULT_VERSION;
use crate::models::slot::ModelVersion;
use crate::protocol::routes::{Probe, ProbeForm};
use crate::protocol::{ModelTarget, Payload};
use crate::serving::context::Context;
use crate::serving::{documents, statusz};

const OK: u16 = 200;

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
        (ProbeKind::Status, _) => Ok(statusz::render(context, &snapshot, probe.shows_clients)),
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
fn model(
    context: &Context,
    target: &ModelTarget,
) -> Result<Option<Arc<ModelVersion>>, RequestError> {
    match context.registry.model(target) {
        Ok(version) => Ok(Some(version)),
        Err(error) if error.code == Code::Loading => Ok(None),
        Err(error) => Err(error),
    }
}

fn name_of<'a>(version: Option<&'a ModelVersion>, target: &'a ModelTarget) -> &'a str {
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
    let status = failure.map_or(OK, |_| Code::Loading.status());
    Payload {
        retry_after: failure.map(|_| 1),
        ..Payload::json(status, json)
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
pub(super) fn one_line(reason: &str) -> String {
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let fits = |(at, c): &(usize, char)| at + c.len_utf8() <= REASON_BYTES_MAX;
    let kept = reason.char_indices().take_while(fits);
    let mut line: String = kept.map(|(_, c)| plain(c)).collect();
    if reason.len() > REASON_BYTES_MAX {
        line.push('…');
    }
    line
}

pub(super) fn name(kind: ProbeKind) -> &'static str {
    match kind {
        ProbeKind::Liveness => "livez",
        ProbeKind::Readiness => "readyz",
        ProbeKind::Startup => "startupz",
        ProbeKind::Status => "statusz",
    }
}

#[cfg(test)]
mod tests;
