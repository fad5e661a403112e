//! `/statusz`: the server's state as JSON, for people, `drill` and the console.
//!
//! Runs on probe workers, which read stamps and atomics and wait for nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::config::{Config, MaxWait};
use crate::health::{self, ProbeKind, Snapshot};
use crate::job::deployment::Deployment;
use crate::lanes::queue::LaneKind;
use crate::platform::cgroup::CgroupReading;
use crate::platform::clock::Stamp;
use crate::protocol::Payload;
use crate::serving::context::Context;
use crate::serving::probes::{self, one_line};
use crate::serving::worker;
use crate::vitals::{
    BOUNDS, Histogram, HistogramSnapshot, LaneVitals, ListenerVitals, OutcomeCounts,
    PredictionOutcome, RecentErrors, TrialVerdict,
};

/// How many names of features and classes are listed.
const NAMES_SHOWN: usize = 20;

/// How many workers are listed; more are threads for a profiler, not for a page.
const WORKERS_SHOWN: usize = 64;

/// Renders the state. Request ids and addresses of clients are null unless `shows_clients`.
pub(super) fn render(context: &Context, snapshot: &Snapshot, shows_clients: bool) -> Payload {
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
            "version": version.loaded.version,
            "generation": version.number,
            "golden_rows": version.loaded.golden.len(),
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
    predict["threads"] = workers_json(&vitals.predict, snapshot, shows_clients);
    let by_reason = counts.clients.by_reason().into_iter();
    let clients: serde_json::Map<String, serde_json::Value> = by_reason
        .map(|(reason, _, count)| (reason.to_owned(), count.value().into()))
        .collect();
    let by_code = vitals.refusals.by_code();
    let by_code = by_code.map(|(code, count)| (code.as_str(), count));
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
        "verdicts": verdicts_json(context, snapshot),
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
            "client": most.client.filter(|_| shows_clients),
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
            "refusals": by_code.collect::<BTreeMap<_, _>>(),
        },
        "times": times_json(context),
        "recent": {
            "refusals": recent_json(&vitals.recent_refusals, snapshot.now, shows_clients),
            "failures": recent_json(&vitals.recent_failures, snapshot.now, shows_clients),
        },
        "limits": limits_json(&context.config),
        "probes": counts.probes.value(),
        "threads_replaced": counts.threads_replaced.value(),
        "log_records_dropped": crate::logging::dropped(),
    });
    let mut json = body.to_string().into_bytes();
    json.push(b'\n');
    Payload::json(200, json)
}

/// Each verdict: whether it passes, why not, and for how long that has been so.
fn verdicts_json(context: &Context, snapshot: &Snapshot) -> serde_json::Value {
    let kinds = [
        ProbeKind::Liveness,
        ProbeKind::Readiness,
        ProbeKind::Startup,
    ];
    let verdicts = kinds.map(|kind| {
        let failure = health::failure(kind, snapshot);
        let stamps = &context.vitals.verdicts;
        let since = stamps.observe(kind as usize, failure.is_none(), snapshot.now);
        let verdict = json!({
            "passes": failure.is_none(),
            "check": failure.as_ref().map(|failure| failure.check),
            "reason": failure.as_ref().map(|failure| one_line(&failure.reason)),
            "since_seconds": snapshot.now.since(since).as_secs_f64(),
        });
        (probes::name(kind).to_owned(), verdict)
    });
    verdicts
        .into_iter()
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The threads of a lane: what each is on, for how long, and whether it is stuck.
fn workers_json(lane: &LaneVitals, snapshot: &Snapshot, shows_clients: bool) -> serde_json::Value {
    let slots = lane.workers.iter().enumerate();
    let running = slots.filter(|(_, slot)| slot.alive.load(Ordering::Acquire));
    let workers = running.take(WORKERS_SHOWN).map(|(index, slot)| {
        let since = slot.busy_since.load();
        let busy = (since != Stamp::NEVER).then(|| snapshot.now.since(since));
        let task = slot.task().filter(|_| busy.is_some());
        let request_id = task.as_ref().map(|task| &*task.request_id);
        json!({
            "name": worker::thread_name(LaneKind::Predict, index),
            "busy_seconds": busy.map(|busy| busy.as_secs_f64()),
            "stuck": busy.is_some_and(|busy| busy >= snapshot.limits.stall_timeout),
            "substituted": slot.is_substituted(),
            "rows": task.as_ref().and_then(|task| task.rows),
            "request_id": request_id.filter(|_| shows_clients),
        })
    });
    workers.collect::<Vec<_>>().into()
}

/// Where predictions' time goes, and what probes take: counts of times up to each bound, and the
/// count of all.
fn times_json(context: &Context) -> serde_json::Value {
    let counts = |histogram: HistogramSnapshot| {
        let mut counts = histogram.cumulative.to_vec();
        counts.push(histogram.count);
        counts
    };
    let deployments = context.registry.all();
    let all = |time: fn(&OutcomeCounts, PredictionOutcome) -> &Histogram| {
        let outcomes = deployments.iter().map(|one| &one.vitals.outcomes);
        let histograms = outcomes.flat_map(|outcomes| {
            PredictionOutcome::ALL.map(|outcome| time(outcomes, outcome).snapshot())
        });
        let sum = histograms.reduce(|sum, next| sum.plus(&next));
        sum.map(counts)
    };
    let listeners = &context.vitals.listeners;
    let probes = |listener: &ListenerVitals| counts(listener.probe_latency.snapshot());
    json!({
        "bounds_seconds": BOUNDS.map(|(nanos, _)| nanos as f64 / 1e9),
        "waiting": all(OutcomeCounts::waiting),
        "service": all(OutcomeCounts::service),
        "probes": {"main": probes(&listeners[0]), "probe": probes(&listeners[1])},
    })
}

/// The last refusals or failures, the latest first.
fn recent_json(recent: &RecentErrors, now: Stamp, shows_clients: bool) -> serde_json::Value {
    let errors = recent.latest().into_iter().map(|error| {
        json!({
            "age_seconds": now.since(error.at).as_secs_f64(),
            "status": error.status,
            "code": error.code.as_str(),
            "reason": one_line(&error.reason),
            "request_id": shows_clients.then_some(error.request_id),
            "trace_id": error.trace_id.filter(|_| shows_clients),
            "client": error.client.filter(|_| shows_clients),
        })
    });
    errors.collect::<Vec<_>>().into()
}

/// The options that limit what clients may ask for, and how long it may take.
fn limits_json(config: &Config) -> serde_json::Value {
    let limits = &config.limits;
    let max_wait = match config.overload.max_wait {
        MaxWait::Auto => "auto".into(),
        MaxWait::Fixed(time) => time.as_secs_f64().into(),
        MaxWait::Unlimited => serde_json::Value::Null,
    };
    json!({
        "connections": limits.max_connections,
        "probe_connections": limits.max_probe_connections,
        "body_bytes": limits.max_body,
        "rows": limits.max_rows,
        "wait_seconds": max_wait,
        "request_timeout_seconds": config.request_timeout.as_secs_f64(),
        "stall_timeout_seconds": config.stall_timeout.as_secs_f64(),
    })
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
fn cgroup_json(reading: &CgroupReading) -> serde_json::Value {
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
mod tests {
    use super::*;

    #[test]
    fn cgroup_numbers_are_there_or_null() {
        let limited = CgroupReading {
            cpu_quota: Some(1.5),
            throttling: Some(crate::platform::cgroup::Throttling {
                periods: 42,
                time: std::time::Duration::from_millis(1500),
            }),
            memory_bytes: Some(33 << 20),
            memory_bytes_max: Some(512 << 20),
        };
        for (reading, expected) in [
            (
                limited,
                r#"{"cpu_quota":1.5,"memory_bytes":34603008,"memory_bytes_max":536870912,"throttled_periods":42,"throttled_seconds":1.5}"#,
            ),
            (
                CgroupReading::default(),
                r#"{"cpu_quota":null,"memory_bytes":null,"memory_bytes_max":null,"throttled_periods":null,"throttled_seconds":null}"#,
            ),
        ] {
            assert_eq!(cgroup_json(&reading).to_string(), expected);
        }
    }
}
