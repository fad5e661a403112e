//! Worker threads: they take jobs from their lane, compute, and answer.
//!
//! Prediction workers decode, run the model and encode; probe workers read time stamps. No worker
//! touches a socket. A panic in a prediction is caught and answered; a thread that ends all the same
//! is noticed by the main thread, which starts another on the same lane.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;

use crate::admission;
use crate::budget::{Budget, Charge};
use crate::clock::{self, Stamp};
use crate::context::Context;
use crate::error::{Code, RequestError};
use crate::fault::Role;
use crate::job::{Body, Dialect, Format, Job, Payload, Pledge, Probe, Reply, Request};
use crate::lane::{Intake, LaneKind};
use crate::logging::FailureLog;
use crate::model::{Model, PredictError};
use crate::panic;
use crate::predict::csv::{decode_csv, encode_csv};
use crate::predict::{self, EncodeError};
use crate::priority::{Priority, Work};
use crate::probe;
use crate::sys;
use crate::vitals::{LaneVitals, Task, WorkerVitals};

/// Runs worker `index` of a lane until its queue is closed.
pub fn run(context: &Context, index: usize, intake: &Intake<Job>) {
    let lane = intake.kind().vitals(&context.vitals);
    let presence = Presence::enter(context, intake.kind(), index);
    let (role, work) = match intake.kind() {
        LaneKind::Predict => (Role::PredictionWorker, Work::Computing),
        LaneKind::Probe => (Role::ProbeWorker, Work::Responding),
    };
    let mut priority = Priority::new(context.config.yielding, work);
    while let Some(job) = intake.take() {
        let seat = presence.seat;
        let began = context.vitals.clock.now();
        seat.set_task(Some(Task {
            request_id: Arc::clone(&job.pledge.request_id),
            rows: None,
        }));
        seat.busy_since.store(began);
        context.faults.turn(role);
        priority.adapt(context.vitals.predict.service_time());
        match job.request {
            Request::Probe(probe) => answer_probe(context, &probe, job.pledge),
            Request::Predict { body, dialect } => Prediction {
                context,
                lane,
                seat,
                began,
                pledge: job.pledge,
            }
            .answer(body, dialect),
        }
        let ended = context.vitals.clock.now();
        seat.busy_since.store(Stamp::NEVER);
        seat.set_task(None);
        lane.completed_at.advance(ended);
        lane.completed.increment();
        // Another has its place. Where that comes to be known only after this look, the next job is
        // its last.
        if seat.substituted.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Marks a worker as running for as long as it lives, however it ends.
struct Presence<'a> {
    context: &'a Context,
    kind: LaneKind,
    seat: &'a WorkerVitals,
}

impl<'a> Presence<'a> {
    fn enter(context: &'a Context, kind: LaneKind, index: usize) -> Self {
        let seat = &kind.vitals(&context.vitals).workers[index];
        seat.busy_since.store(Stamp::NEVER);
        seat.thread_id.store(sys::thread_id(), Ordering::Release);
        seat.alive.store(true, Ordering::Release);
        Presence {
            context,
            kind,
            seat,
        }
    }
}

impl Drop for Presence<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.kind == LaneKind::Predict {
            // Whatever it was on has failed, through no fault of its client's.
            self.context.prediction_failed();
        }
        // Before it is gone, so that nobody takes the next one on this seat for busy.
        self.seat.busy_since.store(Stamp::NEVER);
        self.seat.set_task(None);
        self.seat.ended_at.store(self.context.vitals.clock.now());
        self.seat.alive.store(false, Ordering::Release);
    }
}

fn answer_probe(context: &Context, probe: &Probe, pledge: Pledge) {
    // Its connection may have answered it by itself.
    if pledge.is_wanted() {
        pledge.answer(Reply::free(probe::answer(context, probe)));
    }
}

/// A prediction in a worker's hands.
struct Prediction<'a> {
    context: &'a Context,
    lane: &'a LaneVitals,
    seat: &'a WorkerVitals,
    /// When the worker took it up, in process time.
    began: Stamp,
    pledge: Pledge,
}

impl Prediction<'_> {
    fn answer(self, body: Body, dialect: Dialect) {
        let (context, pledge) = (self.context, self.pledge);
        let config = &context.config;
        let started = clock::instant();
        let waiting_time = started.saturating_duration_since(pledge.arrived);
        if !pledge.is_wanted() {
            // Its connection has counted it: the client left, or was answered 504.
            return;
        }
        if waiting_time > config.max_wait {
            let refusal = admission::expired(self.lane, waiting_time, config.max_wait);
            return pledge.refuse(refusal, started);
        }
        let Some(served) = context.model.get() else {
            return pledge.refuse(admission::loading(), started);
        };
        let mut charge = Charge::new(&context.budget);
        let mut rows = None;
        let asked = Asked {
            model: served.model.as_ref(),
            seat: self.seat,
            failures: &context.failure_log,
            body,
            dialect,
            rows_max: config.limits.max_rows,
            request_id: &pledge.request_id,
        };
        let result = asked.compute(&context.budget, &mut charge, &mut rows);
        let service_time = started.elapsed();
        match &result {
            Ok(_) => {
                self.lane.finished_from.advance(self.began);
                context.vitals.succeeded();
                self.lane.record_service_time(service_time);
            }
            Err(error) => {
                // What an answer had grown to that came to nothing.
                charge.clear();
                if error.code == Code::PredictionFailed {
                    self.lane.finished_from.advance(self.began);
                    context.prediction_failed();
                }
                if error.text == PANICKED {
                    context.vitals.counts.panicked.increment();
                }
            }
        }
        pledge.answer(Reply {
            result,
            charge: Some(charge),
            rows,
            waiting_time,
            service_time,
        });
    }
}

/// What the client is told of a panic; the log has the rest.
const PANICKED: &str = "the model panicked on this request; the server's log has the reason";

/// A prediction that is asked for.
struct Asked<'a> {
    model: &'a dyn Model,
    seat: &'a WorkerVitals,
    failures: &'a FailureLog,
    body: Body,
    dialect: Dialect,
    rows_max: usize,
    request_id: &'a str,
}

impl Asked<'_> {
    /// Decodes, predicts and encodes, with panics caught; what the answer holds is charged to
    /// `charge`, and what is needed on the way to another that ends with it.
    fn compute(
        self,
        budget: &Arc<Budget>,
        charge: &mut Charge,
        rows: &mut Option<usize>,
    ) -> Result<Payload, RequestError> {
        let (request_id, failures) = (self.request_id, self.failures);
        let guarded = panic::catch(|| {
            let schema = self.model.schema();
            let mut working = Charge::new(budget);
            let bytes = &self.body.bytes;
            let instances = match self.dialect.input {
                Format::Json => predict::decode(bytes, schema, self.rows_max, &mut working)
                    .map_err(|error| blame_form(error, self.dialect.called_form, bytes))?,
                Format::Csv => decode_csv(bytes, schema, self.rows_max, &mut working)?,
            };
            drop(self.body);
            *rows = Some(instances.len());
            self.seat.set_rows(instances.len());
            working.grow(predict::working_bytes(schema, &instances))?;
            predict::check(self.model, &instances)?;
            let failed = |error| model_failed(&error, request_id, failures);
            let output = predict::predict(self.model, &instances).map_err(failed)?;
            let encoded = match self.dialect.output {
                Format::Json => {
                    predict::encode(schema, &output, charge).map(|json| Payload::json(200, json))
                }
                Format::Csv => {
                    encode_csv(schema, &output, instances.len(), charge).map(Payload::csv)
                }
            };
            encoded.map_err(|error| match error {
                EncodeError::Output(error) => failed(error),
                EncodeError::Budget(error) => error,
            })
        });
        guarded.unwrap_or_else(|message| {
            failures.record(format_args!(
                "request {request_id}: the model panicked: {message}"
            ));
            Err(RequestError::new(Code::PredictionFailed, PANICKED))
        })
    }
}

fn model_failed(error: &PredictError, request_id: &str, failures: &FailureLog) -> RequestError {
    failures.record(format_args!(
        "request {request_id}: the model failed: {error}"
    ));
    RequestError::new(Code::PredictionFailed, format!("the model failed: {error}"))
}

/// A body that was called form data and does not even begin like JSON is of the wrong media type.
///
/// curl calls everything form data: who pasted a curl line and mistyped the JSON wants to know where.
fn blame_form(error: RequestError, called_form: bool, body: &[u8]) -> RequestError {
    let looks_like_json = matches!(body.trim_ascii_start().first(), None | Some(b'{' | b'['));
    if called_form && error.code == Code::InvalidJson && !looks_like_json {
        let text = "form data is not read: the body must be JSON, with Content-Type: application/json, or CSV, with text/csv";
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
