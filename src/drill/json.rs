//! A drill's findings as JSON. Pure.
//!
//! `format` changes when the meaning or the place of a field does; fields may be added. Times are
//! seconds. A quantile is `null` if the probes it stands for failed, or if there were none.

use serde_json::{Map, Value, json};

use crate::drill::findings::{Contender, Findings, PhaseResult, Probes, Quantile};
use crate::drill::measure::{Latencies, Tally};
use crate::drill::text::refusals;

/// The version of the format below.
const FORMAT: u32 = 1;

/// Renders the findings.
pub fn render(findings: &Findings) -> Value {
    let (machine, request, method) = (&findings.machine, &findings.request, &findings.method);
    json!({
        "format": FORMAT,
        "passed": findings.passed(),
        "verdict": findings.verdict(),
        "machine": {
            "cpus": machine.cpus,
            "cpu_quota": machine.cpu_quota,
            "processor": machine.processor,
            "kernel": machine.kernel,
            "lanekeeper": machine.version,
            "date": machine.date,
            "cores": "shared",
        },
        "request": {
            "model": request.model,
            "about": request.about,
            "body": request.body,
            "body_bytes": request.body_bytes,
            "content_type": request.content_type,
            "alone_seconds": latencies(&request.alone.latencies),
        },
        "method": {
            "client_timeout_seconds": method.client_timeout.as_secs_f64(),
            "probe_timeout_seconds": method.probe_timeout.as_secs_f64(),
            "window_seconds": method.window.as_secs_f64(),
            "capacity_window_seconds": method.capacity_window.as_secs_f64(),
        },
        "contenders": findings.contenders.iter().map(contender).collect::<Vec<_>>(),
        "notes": findings.notes,
        "numbers": findings.numbers.iter().map(|number| json!({
            "name": number.name,
            "value": number.value,
            "reason": number.reason,
        })).collect::<Vec<_>>(),
    })
}

fn contender(contender: &Contender) -> Value {
    let phases = contender.phases.iter();
    json!({
        "name": contender.name,
        "shared_lane": contender.shared_lane,
        "workers": contender.workers,
        "capacity_per_second": contender.capacity,
        "phases": phases.map(|phase| self::phase(contender, phase)).collect::<Vec<_>>(),
    })
}

fn phase(contender: &Contender, phase: &PhaseResult) -> Value {
    let outcomes: Map<String, Value> = refusals(&phase.tally)
        .into_iter()
        .map(|(name, count)| (name, count.into()))
        .collect();
    json!({
        "name": phase.name,
        "load": phase.load,
        "seconds": phase.duration.as_secs_f64(),
        "connections": phase.connections,
        "meant_per_second": phase.load.map(|load| load * contender.capacity),
        "offered_per_second": phase.offered(),
        "goodput_per_second": phase.tally.per_second(),
        "goodput_of_capacity": contender.goodput_share(phase),
        "ok": phase.tally.ok(),
        "not_ok": outcomes,
        "unsent": phase.tally.unsent,
        "latency_seconds": latencies(&phase.tally.latencies),
        "cores": {
            "generator": phase.cores.generator,
            "server": phase.cores.server,
            "others": phase.cores.others,
        },
        "probes": phase.probes.iter().map(probes).collect::<Vec<_>>(),
    })
}

fn probes(probes: &Probes) -> Value {
    let tally = &probes.tally;
    let quantile = |q| seconds(tally, q);
    let outcomes: Map<String, Value> = refusals(tally)
        .into_iter()
        .map(|(name, count)| (name, count.into()))
        .collect();
    json!({
        "listener": probes.listener,
        "count": tally.requests(),
        "failed": tally.failed(),
        "not_ok": outcomes,
        "seconds": {
            "p50": quantile(0.5),
            "p99": quantile(0.99),
            "p999": quantile(0.999),
            "max": quantile(1.0),
        },
    })
}

fn seconds(tally: &Tally, q: f64) -> Option<f64> {
    match tally.quantile_of_all(q) {
        Quantile::Within(latency) => Some(latency.as_secs_f64()),
        Quantile::Nothing | Quantile::Never => None,
    }
}

/// Latencies of 200s.
fn latencies(latencies: &Latencies) -> Value {
    let quantile = |q| latencies.quantile(q).map(|latency| latency.as_secs_f64());
    json!({
        "count": latencies.count(),
        "p50": quantile(0.5),
        "p99": quantile(0.99),
        "p999": quantile(0.999),
        "max": latencies.max().map(|latency| latency.as_secs_f64()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drill::findings::tests::findings;

    /// Every path to a value, with `[]` for a list's items.
    fn paths(value: &Value, at: &str, into: &mut std::collections::BTreeSet<String>) {
        match value {
            Value::Object(fields) if !at.ends_with(".not_ok") => {
                for (name, value) in fields {
                    paths(value, &format!("{at}.{name}"), into);
                }
            }
            Value::Array(items) => {
                for item in items {
                    paths(item, &format!("{at}[]"), into);
                }
            }
            _ => {
                into.insert(at.to_owned());
            }
        }
    }

    #[test]
    fn the_shape_is_what_it_was() {
        let mut seen = std::collections::BTreeSet::new();
        paths(&render(&findings(0, 31)), "", &mut seen);
        let expected = "\
.contenders[].capacity_per_second .contenders[].name .contenders[].phases[].connections \
.contenders[].phases[].cores.generator .contenders[].phases[].cores.others \
.contenders[].phases[].cores.server .contenders[].phases[].goodput_of_capacity \
.contenders[].phases[].goodput_per_second .contenders[].phases[].latency_seconds.count \
.contenders[].phases[].latency_seconds.max .contenders[].phases[].latency_seconds.p50 \
.contenders[].phases[].latency_seconds.p99 .contenders[].phases[].latency_seconds.p999 \
.contenders[].phases[].load .contenders[].phases[].meant_per_second .contenders[].phases[].name \
.contenders[].phases[].not_ok .contenders[].phases[].offered_per_second .contenders[].phases[].ok \
.contenders[].phases[].probes[].count .contenders[].phases[].probes[].failed \
.contenders[].phases[].probes[].listener .contenders[].phases[].probes[].not_ok \
.contenders[].phases[].probes[].seconds.max .contenders[].phases[].probes[].seconds.p50 \
.contenders[].phases[].probes[].seconds.p99 .contenders[].phases[].probes[].seconds.p999 \
.contenders[].phases[].seconds .contenders[].phases[].unsent .contenders[].shared_lane \
.contenders[].workers .format .machine.cores .machine.cpu_quota .machine.cpus .machine.date \
.machine.kernel .machine.lanekeeper .machine.processor .method.capacity_window_seconds \
.method.client_timeout_seconds .method.probe_timeout_seconds .method.window_seconds .notes[] \
.numbers[].name .numbers[].reason .numbers[].value .passed .request.about \
.request.alone_seconds.count .request.alone_seconds.max .request.alone_seconds.p50 \
.request.alone_seconds.p99 .request.alone_seconds.p999 .request.body .request.body_bytes \
.request.content_type .request.model .verdict";
        let expected: std::collections::BTreeSet<String> =
            expected.split(' ').map(str::to_owned).collect();
        assert_eq!(seen, expected);
    }

    #[test]
    fn times_are_seconds_and_failed_quantiles_are_null() {
        let json = render(&findings(0, 31));
        let shared = &json["contenders"][1]["phases"][1];
        assert_eq!(shared["probes"][0]["failed"], 31);
        assert_eq!(shared["probes"][0]["seconds"]["p50"], 0.002);
        assert_eq!(shared["probes"][0]["seconds"]["max"], Value::Null);
        assert_eq!(shared["not_ok"]["503 queue_full"], 850);
        assert_eq!(json["method"]["client_timeout_seconds"], 5.0);
        assert_eq!(json["passed"], true);
    }
}
