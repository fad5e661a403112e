//! Worker threads: they take jobs from their lane, compute, and answer.
//!
//! Prediction workers decode, run the model and encode; probe workers read time stamps. No worker
//! touches a socket. A panic in a prediction is caught and answered; a thread that ends all the same
//! is noticed by the main thread, which starts another on the same lane.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::admission;
use crate::clock;
use crate::context::Context;
use crate::error::{Code, RequestError};
use crate::fault::Role;
use crate::job::{Job, Payload, Probe, Reply, Request};
use crate::lane::{Intake, LaneKind};
use crate::model::Model;
use crate::panic;
use crate::predict;
use crate::priority::{Priority, Work};
use crate::probe;
use crate::vitals::WorkerVitals;

/// Runs worker `index` of a lane until its queue is closed.
pub fn run(context: &Context, index: usize, intake: &Intake<Job>) {
    let lane = intake.kind().vitals(&context.vitals);
    let presence = Presence::enter(&lane.workers[index]);
    let (role, work) = match intake.kind() {
        LaneKind::Predict => (Role::PredictionWorker, Work::Computing),
        LaneKind::Probe => (Role::ProbeWorker, Work::Responding),
    };
    let mut priority = Priority::new(context.config.yielding, work);
    while let Some(job) = intake.take() {
        let started = context.vitals.clock.now();
        presence.0.busy_since.store(started);
        context.faults.turn(role);
        priority.adapt(context.vitals.predict.service_time());
        serve(context, intake.kind(), job);
        let ended = context.vitals.clock.now();
        presence.0.busy_since.store(clock::Stamp::NEVER);
        lane.completed_at.store(ended);
        lane.completed.increment();
    }
}

/// Marks a worker as running for as long as it lives, however it ends.
struct Presence<'a>(&'a WorkerVitals);

impl<'a> Presence<'a> {
    fn enter(worker: &'a WorkerVitals) -> Self {
        worker.busy_since.store(clock::Stamp::NEVER);
        worker.alive.store(true, Ordering::Release);
        Presence(worker)
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        self.0.alive.store(false, Ordering::Release);
        self.0.busy_since.store(clock::Stamp::NEVER);
    }
}

fn serve(context: &Context, lane: LaneKind, job: Job) {
    match job.request {
        Request::Probe(probe) => answer_probe(context, probe, job),
        Request::Predict { .. } => answer_prediction(context, lane, job),
    }
}

fn answer_probe(context: &Context, probe: Probe, job: Job) {
    context.vitals.counts.probes.increment();
    job.answer(Reply {
        result: Ok(probe::answer(context, probe)),
        rows: None,
        waiting_time: Duration::ZERO,
        service_time: Duration::ZERO,
    });
}

fn answer_prediction(context: &Context, lane: LaneKind, mut job: Job) {
    let config = &context.config;
    let lane = lane.vitals(&context.vitals);
    let started = clock::instant();
    let waiting_time = started.saturating_duration_since(job.arrived);
    if !job.is_wanted() {
        // Its connection has counted it: the client left, or was answered 504.
        return;
    }
    if waiting_time > config.max_wait {
        job.refuse(
            admission::expired(lane, waiting_time, config.max_wait),
            started,
        );
        return;
    }
    let Some(model) = context.model.get() else {
        job.refuse(admission::loading(), started);
        return;
    };
    let request = std::mem::replace(
        &mut job.request,
        Request::Predict {
            body: Vec::new(),
            called_form: false,
        },
    );
    let Request::Predict { body, called_form } = request else {
        return;
    };
    let mut rows = None;
    let result = compute(
        model.as_ref(),
        body,
        called_form,
        &mut rows,
        &job.request_id,
    );
    let service_time = started.elapsed();
    match &result {
        Ok(_) => {
            context
                .vitals
                .succeeded_at
                .store(context.vitals.clock.now());
            lane.record_service_time(service_time);
        }
        Err(error) if error.text == PANICKED => context.vitals.counts.panicked.increment(),
        Err(_) => {}
    }
    job.answer(Reply {
        result,
        rows,
        waiting_time,
        service_time,
    });
}

/// What the client is told of a panic; the log has the rest.
const PANICKED: &str = "the model panicked on this request; the server's log has the reason";

/// Decodes, predicts and encodes, with panics caught.
fn compute(
    model: &dyn Model,
    body: Vec<u8>,
    called_form: bool,
    rows: &mut Option<usize>,
    request_id: &str,
) -> Result<Payload, RequestError> {
    let guarded = panic::catch(|| {
        let schema = model.schema();
        let instances = predict::decode(&body, schema)
            .map_err(|error| blame_form(error, called_form, &body))?;
        drop(body);
        *rows = Some(instances.len());
        let failed = |error: crate::model::PredictError| {
            log::error!("request {request_id}: the model failed: {error}");
            RequestError::new(Code::PredictionFailed, format!("the model failed: {error}"))
        };
        let output = predict::predict(model, &instances).map_err(failed)?;
        let json = predict::encode(schema, &output).map_err(failed)?;
        Ok(Payload::json(200, json))
    });
    guarded.unwrap_or_else(|message| {
        log::error!("request {request_id}: the model panicked: {message}");
        Err(RequestError::new(Code::PredictionFailed, PANICKED))
    })
}

/// A body that was called form data and does not even begin like JSON is of the wrong media type.
///
/// curl calls everything form data: who pasted a curl line and mistyped the JSON wants to know where.
fn blame_form(error: RequestError, called_form: bool, body: &[u8]) -> RequestError {
    let looks_like_json = matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'['));
    if called_form && error.code == Code::InvalidJson && !looks_like_json {
        let text =
            "form data is not read: the body must be JSON, with Content-Type: application/json";
        return RequestError::new(Code::UnsupportedMediaType, text);
    }
    error
}

/// The names of a lane's threads.
pub fn thread_name(kind: LaneKind, index: usize) -> String {
    match kind {
        LaneKind::Predict => format!("predict-{index}"),
        LaneKind::Probe => format!("probe-{index}"),
    }
}
