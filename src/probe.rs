//! Answers to probes: `/livez`, `/readyz`, `?verbose`, `/statusz`.
//!
//! Runs on probe workers, which read stamps and atomics and wait for nothing. The forms are
//! kube-apiserver's: plain `ok`, and with `?verbose` one line a check.

use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use serde_json::json;

use crate::clock::Stamp;
use crate::context::Context;
use crate::error::Code;
use crate::health::{self, Check, Readiness, Snapshot};
use crate::job::{Payload, Probe, ProbeKind};
use crate::vitals::{LaneVitals, Phase, TrialVerdict};

const OK: u16 = 200;

/// Names of features and of classes that `/statusz` lists, from the first.
const NAMES_SHOWN: usize = 20;

/// Answers a probe from what is known at this moment.
pub fn answer(context: &Context, probe: Probe) -> Payload {
    let snapshot = Snapshot::of(&context.vitals, context.config.stall_timeout);
    match probe.kind {
        ProbeKind::Liveness => livez(&snapshot, probe.verbose),
        ProbeKind::Readiness => {
            context.vitals.readyz_seen.store(true, Ordering::Relaxed);
            readyz(&snapshot, probe.verbose)
        }
        ProbeKind::Startup => startupz(&snapshot, probe.verbose),
        ProbeKind::Status => statusz(context, &snapshot),
    }
}

fn livez(snapshot: &Snapshot, verbose: bool) -> Payload {
    let (status, text) = match health::liveness(snapshot) {
        Ok(()) => (OK, "ok"),
        Err(_) => (Code::Internal.status(), health::NOT_ALIVE),
    };
    if verbose {
        return explain("livez", status, text, &[&health::LIVENESS], snapshot);
    }
    Payload::text(status, text)
}

fn readyz(snapshot: &Snapshot, verbose: bool) -> Payload {
    let (status, text, retry_after) = match health::readiness(snapshot) {
        Readiness::Ready => (OK, "ok".to_owned(), None),
        Readiness::NotNow(reason) => (Code::Loading.status(), reason, Some(1)),
        Readiness::Failing(reason) => (Code::Internal.status(), reason, None),
        Readiness::NotAlive(_) => (Code::Internal.status(), health::NOT_ALIVE.to_owned(), None),
    };
    let payload = if verbose {
        let checks: [&[Check]; 2] = [&health::LIVENESS, &health::READINESS];
        explain("readyz", status, &text, &checks, snapshot)
    } else {
        Payload::text(status, text)
    };
    Payload {
        retry_after,
        ..payload
    }
}

fn startupz(snapshot: &Snapshot, verbose: bool) -> Payload {
    let (status, text, retry_after) = match health::startup(snapshot) {
        Ok(()) => (OK, "ok".to_owned(), None),
        Err(reason) => (Code::Loading.status(), reason, Some(1)),
    };
    let payload = if verbose {
        explain("startupz", status, &text, &[&health::STARTUP], snapshot)
    } else {
        Payload::text(status, text)
    };
    Payload {
        retry_after,
        ..payload
    }
}

/// Lists every check with its verdict, as kube-apiserver does.
fn explain(
    name: &str,
    status: u16,
    text: &str,
    tables: &[&[Check]],
    snapshot: &Snapshot,
) -> Payload {
    let mut body = String::new();
    if status != OK {
        body.push_str(text);
        body.push('\n');
    }
    // Writing to a String cannot fail.
    for (check, verdict) in tables.iter().copied().flatten() {
        let _ = match verdict(snapshot) {
            Ok(()) => writeln!(body, "[+]{check} ok"),
            Err(reason) => writeln!(body, "[-]{check} failed: {reason}"),
        };
    }
    let end = if status == OK { "passed" } else { "failed" };
    let _ = writeln!(body, "{name} check {end}");
    Payload::text(status, body)
}

fn statusz(context: &Context, snapshot: &Snapshot) -> Payload {
    let vitals = &context.vitals;
    let counts = &vitals.counts;
    let model = context.model.get().map(|model| {
        let schema = model.schema();
        // A model may have names by the thousand, and this is answered between probes.
        let first = |names: &[String]| names.iter().take(NAMES_SHOWN).cloned().collect::<Vec<_>>();
        json!({
            "name": schema.name,
            "algorithm": schema.algorithm,
            "feature_count": schema.features.len(),
            "features": first(&schema.features),
            "class_count": schema.classes.len(),
            "classes": first(&schema.classes),
        })
    });
    let age =
        |stamp: Stamp| (stamp != Stamp::NEVER).then(|| snapshot.now.since(stamp).as_secs_f64());
    let (trial, trial_reason) = match &snapshot.trial {
        TrialVerdict::Untried => ("untried", None),
        TrialVerdict::Passed => ("passed", None),
        TrialVerdict::Failed(reason) => ("failed", Some(reason.as_ref())),
    };
    let liveness = health::liveness(snapshot);
    let by_reason = counts.clients.by_reason().into_iter();
    let clients: serde_json::Map<String, serde_json::Value> = by_reason
        .map(|(reason, _, count)| (reason.to_owned(), count.value().into()))
        .collect();
    let body = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "commit": env!("LANEKEEPER_COMMIT"),
        "uptime_seconds": snapshot.now.since(vitals.started_at).as_secs_f64(),
        "stopped_seconds": vitals.clock.lost().as_secs_f64(),
        "phase": phase_name(snapshot.phase),
        "alive": liveness.is_ok(),
        "reason": liveness.err(),
        "ready": health::readiness(snapshot) == Readiness::Ready,
        "model": model,
        "trial": {"verdict": trial, "reason": trial_reason},
        "lanes": {"predict": lane_json(&vitals.predict), "probe": lane_json(&vitals.probe)},
        "shared_lane": context.config.shared_lane,
        "last_completion_age_seconds": age(vitals.predict.completed_at.load()),
        "last_success_age_seconds": age(vitals.succeeded_at.load()),
        "connections": {
            "main": vitals.open_connections[0].load(Ordering::Relaxed),
            "probe": vitals.open_connections[1].load(Ordering::Relaxed),
            "accepted": counts.connections.value(),
        },
        "clients": clients,
        "buffered": {"bytes": context.budget.bytes(), "bytes_max": context.budget.bytes_max()},
        "predictions": {
            "succeeded": counts.predicted.value(),
            "rejected": counts.rejected.value(),
            "failed": counts.failed.value(),
            "panicked": counts.panicked.value(),
            "lost": counts.lost.value(),
            "refused": counts.refused.value(),
            "expired": counts.expired.value(),
            "abandoned": counts.clients.abandoned.value(),
            "deadline_exceeded": counts.deadline_exceeded.value(),
        },
        "probes": counts.probes.value(),
        "threads_replaced": counts.threads_replaced.value(),
        "log_records_dropped": crate::logging::dropped(),
    });
    let mut json = body.to_string().into_bytes();
    json.push(b'\n');
    Payload::json(OK, json)
}

fn lane_json(lane: &LaneVitals) -> serde_json::Value {
    json!({
        "queue_length": lane.queue_length.load(Ordering::Relaxed),
        "queue_capacity": lane.queue_capacity,
        "workers": lane.workers.len(),
        "busy": lane.busy(),
        "completed": lane.completed.value(),
        "service_time_seconds": lane.service_time().as_secs_f64(),
    })
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Serving => "serving",
        Phase::Draining => "draining",
        Phase::Finishing => "finishing",
        Phase::Stopped => "stopped",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn snapshot(workers: Vec<Option<Stamp>>) -> Snapshot {
        Snapshot {
            now: Stamp(100_000_000_000),
            stall_timeout: Duration::from_secs(60),
            workers,
            waiting: 0,
            moved_at: Stamp::NEVER,
            phase: Phase::Serving,
            trial: TrialVerdict::Passed,
        }
    }

    #[test]
    fn livez_is_plain_ok_or_the_text_and_verbose_lists_the_checks() {
        let alive = snapshot(vec![None]);
        assert_eq!(livez(&alive, false), Payload::text(200, "ok"));
        assert_eq!(
            livez(&alive, true),
            Payload::text(
                200,
                "[+]workers ok\n[+]predictions ok\nlivez check passed\n"
            )
        );
        let stuck = snapshot(vec![Some(Stamp(1))]);
        assert_eq!(livez(&stuck, false), Payload::text(500, health::NOT_ALIVE));
        let told = livez(&stuck, true);
        let told = std::str::from_utf8(&told.body).unwrap();
        assert!(
            told.starts_with(
                "Service has stopped completing predictions\n[-]workers failed: all 1"
            )
        );
        assert!(
            told.ends_with("[+]predictions ok\nlivez check failed\n"),
            "{told}"
        );
    }

    #[test]
    fn readyz_fails_with_500_or_asks_to_come_back_with_503() {
        let draining = Snapshot {
            phase: Phase::Draining,
            ..snapshot(vec![None])
        };
        let payload = readyz(&draining, false);
        assert_eq!((payload.status, payload.retry_after), (503, Some(1)));
        assert_eq!(&*payload.body, b"draining");
        let failed = Snapshot {
            trial: TrialVerdict::Failed("no".into()),
            ..snapshot(vec![None])
        };
        let payload = readyz(&failed, false);
        assert_eq!((payload.status, payload.retry_after), (500, None));
        assert_eq!(&*payload.body, b"Model inference failed: no");
    }
}
