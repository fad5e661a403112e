//! What is exported: each family's name, its meaning, and where its samples are read.
//!
//! Names follow Prometheus' conventions: base units, `_total` for counters, timestamps instead of
//! ages, and every label value present from the start as 0.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::ScrapeTime;
use super::text::{Kind, Writer};
use crate::error::Code;
use crate::health::{self, ProbeKind, Snapshot};
use crate::job::deployment::Deployment;
use crate::lanes::memory_budget::Budget;
use crate::logging;
use crate::serving::context::Context;
use crate::vitals::{
    Counts, Histogram, LaneVitals, OutcomeCounts, PredictionOutcome, ServerPhase, TrialVerdict,
    Vitals,
};

use Kind::{Counter, Gauge};

/// The listeners, in the order of the vitals.
const LISTENERS: [&str; 2] = ["main", "probe"];

/// Writes all families about the server.
pub(super) fn write(writer: &mut Writer, context: &Context, moment: &ScrapeTime) {
    let vitals = &*context.vitals;
    let snapshot = context.snapshot();
    let deployments = context.registry.all();
    responses(writer, context);
    predictions(writer, vitals, &deployments);
    times(writer, &deployments);
    lanes(writer, vitals, moment);
    saturation(writer, &vitals.predict, &snapshot);
    probes(writer, vitals, &snapshot);
    model(writer, context, moment, &snapshot);
    clients(writer, vitals, &context.budget);
    pacing(writer, vitals);
    machine(writer, vitals);
    build(writer);
}

fn responses(writer: &mut Writer, context: &Context) {
    let help = "Answers of any kind, by status code and, where the answer has one, its code.";
    let mut family = writer.family(Counter, "lanekeeper_responses", help);
    let overload = context.config.overload.overload_status;
    for (status, code, count) in context.vitals.responses.by_code(overload) {
        let status = status.to_string();
        let labels = [
            ("status", status.as_str()),
            ("code", code.map_or("", Code::as_str)),
        ];
        let named = if code.is_some() { 2 } else { 1 };
        family.sample(&labels[..named], count);
    }
}

fn predictions(writer: &mut Writer, vitals: &Vitals, deployments: &[Arc<Deployment>]) {
    let help = "Predictions that ended, by how: ok (200), rejected (4xx), failed (500), refused (not admitted), expired (waited too long), deadline_exceeded (504), abandoned (the client left).";
    let mut family = writer.family(Counter, "lanekeeper_predictions", help);
    for outcome in PredictionOutcome::ALL {
        let count = |one: &Arc<Deployment>| one.vitals.outcomes.sojourn(outcome).count();
        let count: u64 = deployments.iter().map(count).sum();
        family.sample(&[("outcome", outcome.name())], count);
    }
    let help = "Predictions and connections that were refused, by the code of the answer.";
    let mut family = writer.family(Counter, "lanekeeper_refusals", help);
    for (code, count) in vitals.refusals.by_code() {
        family.sample(&[("reason", code.as_str())], count);
    }
    let Counts {
        panicked,
        threads_replaced,
        ..
    } = &vitals.counts;
    writer.one(
        Counter,
        "lanekeeper_predictions_panicked",
        "Predictions for which the model panicked; they failed.",
        panicked.value(),
    );
    writer.one(
        Counter,
        "lanekeeper_threads_replaced",
        "Threads that ended with a panic and were replaced.",
        threads_replaced.value(),
    );
}

fn times(writer: &mut Writer, deployments: &[Arc<Deployment>]) {
    type Read = fn(&OutcomeCounts, PredictionOutcome) -> &Histogram;
    type Has = fn(PredictionOutcome) -> bool;
    let families: [(&str, &str, Has, Read); 3] = [
        (
            "lanekeeper_prediction_waiting_seconds",
            "Time in the queue, of predictions that a worker took.",
            PredictionOutcome::was_taken_up,
            OutcomeCounts::waiting,
        ),
        (
            "lanekeeper_prediction_service_seconds",
            "Time with a worker, of predictions that were computed.",
            PredictionOutcome::was_answered,
            OutcomeCounts::service,
        ),
        (
            "lanekeeper_prediction_sojourn_seconds",
            "Time from a prediction's arrival to its end, by how it ended.",
            |_| true,
            OutcomeCounts::sojourn,
        ),
    ];
    for (name, help, has, read) in families {
        let mut family = writer.family(Kind::Histogram, name, help);
        for outcome in PredictionOutcome::ALL
            .into_iter()
            .filter(|outcome| has(*outcome))
        {
            let histogram = |one: &Arc<Deployment>| read(&one.vitals.outcomes, outcome).snapshot();
            let histograms = deployments.iter().map(histogram);
            if let Some(sum) = histograms.reduce(|sum, next| sum.plus(&next)) {
                family.histogram(&[("outcome", outcome.name())], &sum);
            }
        }
    }
}

fn lanes(writer: &mut Writer, vitals: &Vitals, moment: &ScrapeTime) {
    let mut family = |kind, name, help, read: &dyn Fn(&LaneVitals) -> f64| {
        let mut family = writer.family(kind, name, help);
        for (lane, vitals) in [("predict", &vitals.predict), ("probe", &vitals.probe)] {
            family.sample(&[("lane", lane)], read(vitals));
        }
    };
    let help = "Waiting jobs.";
    family(Gauge, "lanekeeper_queue_length", help, &|lane| {
        lane.queue_length.load(Ordering::Relaxed) as f64
    });
    let help = "Maximum number of waiting jobs.";
    family(Gauge, "lanekeeper_queue_capacity", help, &|lane| {
        lane.queue_capacity as f64
    });
    let help = "Number of workers that the lane should have.";
    family(Gauge, "lanekeeper_workers", help, &|lane| {
        lane.workers_wanted as f64
    });
    let help = "Busy workers, except those that have a substitute.";
    family(Gauge, "lanekeeper_workers_busy", help, &|lane| {
        lane.busy() as f64
    });
    let help = "Time that workers have spent on jobs, including current ones.";
    family(Counter, "lanekeeper_worker_busy_seconds", help, &|lane| {
        let busy = lane.busy_time.total(&lane.workers, moment.process);
        busy.as_secs_f64()
    });
    let help = "Jobs that workers have finished.";
    family(Counter, "lanekeeper_jobs_completed", help, &|lane| {
        lane.completed.value() as f64
    });
    let help = "When the longest waiting job arrived, since 1970; NaN if none waits.";
    let name = "lanekeeper_oldest_waiting_timestamp_seconds";
    family(Gauge, name, help, &|lane| {
        lane.oldest_arrival()
            .map_or(f64::NAN, |arrival| moment.unix_seconds(arrival))
    });
    let help =
        "When a worker last finished a job or a slice of one, since 1970; NaN before the first.";
    let name = "lanekeeper_last_completion_timestamp_seconds";
    family(Gauge, name, help, &|lane| {
        moment.unix_seconds(lane.completed_at.load())
    });
}

fn saturation(writer: &mut Writer, lane: &LaneVitals, snapshot: &Snapshot) {
    let demand = lane.busy() + lane.queue_length.load(Ordering::Relaxed);
    writer.one(
        Gauge,
        "lanekeeper_saturation_ratio",
        "Running and waiting predictions per prediction worker, at most 1.",
        (demand as f64 / lane.workers_wanted as f64).min(1.0),
    );
    writer.one(
        Gauge,
        "lanekeeper_workers_stuck",
        "Prediction workers without progress for --stall-timeout.",
        snapshot.stuck().count(),
    );
    writer.one(
        Gauge,
        "lanekeeper_workers_substituted",
        "Stuck prediction workers that have a substitute.",
        lane.substitutes(),
    );
}

fn probes(writer: &mut Writer, vitals: &Vitals, snapshot: &Snapshot) {
    let help = "Probes that were answered, by status code.";
    let mut family = writer.family(Counter, "lanekeeper_probe_requests", help);
    for (probe, status, count) in vitals.probes.answers() {
        let labels = [("probe", probe), ("code", &status.to_string())];
        family.sample(&labels, count);
    }
    let help = "Time from a probe's head being read to its answer being written (livez, readyz, startupz), by listener.";
    let mut family = writer.family(Kind::Histogram, "lanekeeper_probe_latency_seconds", help);
    for (listener, own) in LISTENERS.into_iter().zip(&vitals.listeners) {
        let latency = &own.probe_latency;
        family.histogram(&[("listener", listener)], &latency.snapshot());
    }
    let help = "Whether the probe would pass now.";
    let mut family = writer.family(Gauge, "lanekeeper_probe_passing", help);
    for (probe, kind) in [
        ("livez", ProbeKind::Liveness),
        ("readyz", ProbeKind::Readiness),
        ("startupz", ProbeKind::Startup),
    ] {
        let passes = health::failure(kind, snapshot).is_none();
        family.sample(&[("probe", probe)], passes);
    }
    let help = "The phase of the process: 1 for the present phase.";
    let mut family = writer.family(Gauge, "lanekeeper_phase", help);
    for phase in [
        ServerPhase::Starting,
        ServerPhase::Serving,
        ServerPhase::Draining,
        ServerPhase::Finishing,
        ServerPhase::Stopped,
    ] {
        family.sample(&[("phase", phase.name())], phase == snapshot.phase);
    }
}

fn model(writer: &mut Writer, context: &Context, moment: &ScrapeTime, snapshot: &Snapshot) {
    let deployment = context.registry.default_deployment();
    let vitals = &deployment.vitals;
    if let Some(served) = deployment.slot.get() {
        let help = "The model that is served; its version grows with every reload.";
        let labels = [
            ("name", served.name()),
            ("algorithm", served.loaded.algorithm.as_str()),
            ("generation", &served.number.to_string()),
        ];
        let mut family = writer.family(Kind::Info, "lanekeeper_model", help);
        family.sample(&labels, true);
    }
    writer.one(
        Gauge,
        "lanekeeper_model_loaded_timestamp_seconds",
        "When the served model was swapped in, since 1970; NaN before the first.",
        moment.unix_seconds(vitals.reloads.loaded_at.load()),
    );
    let help = "Reloads of the model, by result; after a failed one the old model keeps serving.";
    writer
        .family(Counter, "lanekeeper_reloads", help)
        .sample(&[("result", "succeeded")], vitals.reloads.succeeded.value())
        .sample(&[("result", "failed")], vitals.reloads.failed.value());
    writer.one(
        Gauge,
        "lanekeeper_trial_passed",
        "Whether the last trial of the model gave the expected answer; NaN before the first.",
        match snapshot.trial {
            TrialVerdict::Untried => f64::NAN,
            TrialVerdict::Passed => 1.0,
            TrialVerdict::Failed(_) => 0.0,
        },
    );
    writer.one(
        Gauge,
        "lanekeeper_trial_timestamp_seconds",
        "When the last trial ended, since 1970; NaN before the first.",
        moment.unix_seconds(vitals.trials.ended_at.load()),
    );
    writer.one(
        Gauge,
        "lanekeeper_last_success_timestamp_seconds",
        "When a real prediction last succeeded, since 1970; NaN before the first.",
        moment.unix_seconds(vitals.succeeded_at.load()),
    );
}

fn clients(writer: &mut Writer, vitals: &Vitals, budget: &Budget) {
    let help = "Client behaviour that cost a connection or an answer, by reason.";
    let mut family = writer.family(Counter, "lanekeeper_client_faults", help);
    for (reason, _, count) in vitals.counts.clients.by_reason() {
        family.sample(&[("reason", reason)], count.value());
    }
    let help = "Open connections.";
    let mut family = writer.family(Gauge, "lanekeeper_connections", help);
    for (listener, own) in LISTENERS.into_iter().zip(&vitals.listeners) {
        let open = &own.open_connections;
        family.sample(&[("listener", listener)], open.load(Ordering::Relaxed));
    }
    writer.one(
        Counter,
        "lanekeeper_connections_accepted",
        "Connections accepted.",
        vitals.counts.connections.value(),
    );
    writer.one(
        Gauge,
        "lanekeeper_buffered_bytes",
        "Memory held for clients: bodies, decoded numbers, unsent answers.",
        budget.bytes(),
    );
    writer.one(
        Gauge,
        "lanekeeper_buffered_limit_bytes",
        "Maximum memory held for clients (--max-buffered).",
        budget.bytes_max(),
    );
}

fn pacing(writer: &mut Writer, vitals: &Vitals) {
    let paced = vitals.listeners.iter().map(|own| &own.paced);
    let by_listener = || LISTENERS.into_iter().zip(paced.clone());
    let help = "Cheap answers (probes, refusals, errors) delayed by the rate limit.";
    let mut family = writer.family(Counter, "lanekeeper_paced", help);
    for (listener, waits) in by_listener() {
        family.sample(&[("listener", listener)], waits.count.value());
    }
    let help = "Total delay of these answers.";
    let mut family = writer.family(Counter, "lanekeeper_paced_seconds", help);
    for (listener, waits) in by_listener() {
        let seconds = waits.nanos.value() as f64 / 1e9;
        family.sample(&[("listener", listener)], seconds);
    }
}

/// Limits and counts of the control groups; those that do not exist are left out.
fn machine(writer: &mut Writer, vitals: &Vitals) {
    let reading = vitals.cgroup.load();
    if let Some(quota) = reading.cpu_quota {
        let help = "CPU time that the control groups allow, in CPUs.";
        writer.one(Gauge, "lanekeeper_cgroup_cpu_quota_cpus", help, quota);
    }
    if let Some(throttling) = reading.throttling {
        let help = "Periods in which the CPU quota was used up.";
        let name = "lanekeeper_cgroup_throttled_periods";
        writer.one(Counter, name, help, throttling.periods);
        let help = "Time that the CPU quota kept threads waiting, over all CPUs.";
        let name = "lanekeeper_cgroup_throttled_seconds";
        writer.one(Counter, name, help, throttling.time);
    }
    if let Some(bytes) = reading.memory_bytes {
        let help = "Memory of the control group, with the page cache.";
        writer.one(Gauge, "lanekeeper_cgroup_memory_bytes", help, bytes);
    }
    if let Some(bytes) = reading.memory_bytes_max {
        let help = "Memory at which the kernel ends processes of the control group.";
        writer.one(Gauge, "lanekeeper_cgroup_memory_limit_bytes", help, bytes);
    }
}

fn build(writer: &mut Writer) {
    writer.one(
        Counter,
        "lanekeeper_log_records_dropped",
        "Log records discarded for lack of room.",
        logging::dropped(),
    );
    let labels = [
        ("version", env!("CARGO_PKG_VERSION")),
        ("commit", env!("LANEKEEPER_COMMIT")),
    ];
    let help = "Version and commit of this build.";
    let mut family = writer.family(Kind::Info, "lanekeeper_build", help);
    family.sample(&labels, true);
}
