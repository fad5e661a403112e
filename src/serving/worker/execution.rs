//! One prediction in execution: decoded once, computed in slices, encoded and answered.
//!
//! Between slices it may be suspended while the worker, or another one, does something else. A
//! request of few rows, as nearly every one is, has a single slice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Code, RequestError};
use crate::job::deployment::Deployment;
use crate::job::{Reply, ReplySender, RequestBody};
use crate::lanes::admission::{self, QUANTUM, SLICE_ROWS_MIN};
use crate::lanes::memory_budget::Charge;
use crate::models::compute::{self, ComputeError};
use crate::models::slot::ModelVersion;
use crate::models::{Output, PredictError, Rows};
use crate::platform::clock::{self, Stamp};
use crate::platform::panic;
use crate::protocol::instances;
use crate::protocol::unpack::unpack;
use crate::protocol::{Asked, EncodeError, Encoder, Payload, Predicted, RowSpec, Spoken};
use crate::serving::context::Context;
use crate::vitals::{CurrentRequest, LaneVitals, RemainingWork, Vitals, WorkerVitals};

/// What the client is told of a panic; the log has the details.
const PANICKED: &str = "the model panicked on this request; the server's log has the reason";

/// Maximum number of slices of a request, which limits repeated per-call work of the model.
const SLICES_MAX: usize = 256;

/// How much larger a slice may be than the one before.
const GROWTH_MAX: f64 = 8.0;

/// What an execution needs from its worker.
#[derive(Clone, Copy)]
pub(super) struct WorkerPlace<'a> {
    pub(super) context: &'a Context,
    pub(super) lane: &'a LaneVitals,
    pub(super) worker_slot: &'a WorkerVitals,
}

/// What a slice came to.
#[expect(
    clippy::large_enum_variant,
    reason = "a reply is moved a few times, and a box would cost each prediction an allocation"
)]
pub(super) enum SliceOutcome {
    /// More is to be computed.
    Suspended(Box<Execution>),
    /// The reply. The request no longer holds anything of the lane, nor of the budget except the
    /// reply's own memory.
    Replied(ReplySender, Reply),
    /// Nobody waits for it.
    Dropped,
}

/// A prediction that has begun.
pub(super) struct Execution {
    reply_sender: ReplySender,
    spoken: Spoken,
    deployment: Arc<Deployment>,
    /// The model it began with.
    version: Arc<ModelVersion>,
    /// The size of its body in bytes and its number of rows, once they are decoded and valid.
    bytes: usize,
    rows: Option<usize>,
    waiting_time: Duration,
    /// Time with workers so far.
    service_time: Duration,
    /// Since when its answer has been written, at the end of its last slice.
    encoding_since: Option<Instant>,
    /// Memory needed on the way to the answer.
    working: Charge,
    /// What follows its present slice.
    remaining: Option<RemainingWork>,
    /// By when its client wants the answer, if the body says so.
    deadline: Option<Instant>,
    stage: Stage,
}

/// The state of an execution.
enum Stage {
    /// Its body is not decoded yet.
    Received(RequestBody),
    /// Its rows are being computed.
    Computing(Computation),
    /// Its answer, or its error, is known.
    Ended,
}

/// Rows being computed slice by slice.
struct Computation {
    rows: Rows,
    /// Rows computed, and the model's output for them.
    done: usize,
    output: Option<Output>,
    /// The model's sums for them, if they are wanted.
    raw: Option<Vec<f64>>,
    /// What writes the answer.
    encoder: Box<dyn Encoder>,
    /// Rows of the next slice, and the number of slices so far.
    next_slice: usize,
    slices: usize,
    /// Time of the model's own.
    model_time: Duration,
}

/// What is known of an execution once it has ended.
struct Ended {
    slices: usize,
    result: Result<(Payload, Charge), RequestError>,
}

impl Execution {
    /// Starts a prediction and, if it is worth computing, runs its first slice from `began` on.
    pub(super) fn begin(
        place: WorkerPlace<'_>,
        reply_sender: ReplySender,
        (body, spoken): (RequestBody, Spoken),
        deployment: Arc<Deployment>,
        began: Stamp,
    ) -> SliceOutcome {
        let started = clock::instant();
        let refuse = |reply_sender: ReplySender, refusal: RequestError| {
            let reply = reply_sender.refusal(refusal, started);
            SliceOutcome::Replied(reply_sender, reply)
        };
        let waiting_time = started.saturating_duration_since(reply_sender.arrived);
        let at_dequeue = reply_sender.admitted().map(|admitted| {
            admitted.reservation.take_up();
            admission::check_at_dequeue(place.lane, admitted, waiting_time, started)
        });
        if !reply_sender.is_wanted() {
            // Its connection has counted it: the client left, or got 504.
            return SliceOutcome::Dropped;
        }
        if let Some(Err(refusal)) = at_dequeue {
            return refuse(reply_sender, refusal);
        }
        let Some(version) = deployment.slot.get() else {
            return refuse(reply_sender, admission::loading());
        };
        let rest = reply_sender.admitted().map(|admitted| {
            let cost = admitted.reservation.cost();
            cost.whole.saturating_sub(cost.slice)
        });
        let remaining = rest.filter(|rest| !rest.is_zero());
        let execution = Execution {
            reply_sender,
            spoken,
            deployment,
            version,
            bytes: body.bytes.len(),
            rows: None,
            waiting_time,
            service_time: Duration::ZERO,
            encoding_since: None,
            working: Charge::new(&place.context.budget),
            remaining: remaining
                .map(|remaining| RemainingWork::new(&place.context.vitals, remaining)),
            deadline: None,
            stage: Stage::Received(body),
        };
        execution.run_slice(place, began)
    }

    /// What the log calls it.
    pub(super) fn task(&self) -> CurrentRequest {
        CurrentRequest {
            request_id: Arc::clone(&self.reply_sender.request_id),
            rows: self.rows,
        }
    }

    /// Runs its next slice, from `began` on.
    pub(super) fn run_slice(mut self, place: WorkerPlace<'_>, began: Stamp) -> SliceOutcome {
        if !self.reply_sender.is_wanted() {
            return SliceOutcome::Dropped;
        }
        if let (Stage::Computing(_), Some(remaining)) = (&self.stage, &mut self.remaining) {
            remaining.take(QUANTUM);
        }
        let started = clock::instant();
        let ended = panic::catch(|| self.advance(place)).unwrap_or_else(|message| {
            place.context.failure_log.record(format_args!(
                "request {}: the model panicked: {message}",
                self.reply_sender.request_id
            ));
            place.context.vitals.counts.panicked.increment();
            Some(Ended {
                slices: 0,
                result: Err(RequestError::new(Code::PredictionFailed, PANICKED)),
            })
        });
        let stopped = clock::instant();
        self.service_time += stopped.saturating_duration_since(started);
        match ended {
            None => {
                place.lane.finished_from.advance(began);
                SliceOutcome::Suspended(Box::new(self))
            }
            Some(ended) => self.finish(place, (began, stopped), ended),
        }
    }

    /// Suspends it until its next slice and estimates the time the rest needs: what others of its
    /// size took, or what its own rows took so far, whichever is more. Rows may come sorted, and an
    /// estimate that is too low admits more than can be done in time.
    pub(super) fn note_remaining_work(&mut self, vitals: &Arc<Vitals>) {
        let by_own_rows = match &self.stage {
            Stage::Computing(computation) => computation.expected_rest(),
            Stage::Received(_) | Stage::Ended => Duration::ZERO,
        };
        let expected = self
            .reply_sender
            .admitted()
            .map(|admitted| admitted.reservation.cost().whole);
        let by_others = expected
            .unwrap_or_default()
            .saturating_sub(self.service_time);
        self.remaining = Some(RemainingWork::new(vitals, by_own_rows.max(by_others)));
    }

    /// Decodes, if still necessary, computes a slice, and encodes after the last one. `None` if
    /// there is more to compute.
    fn advance(&mut self, place: WorkerPlace<'_>) -> Option<Ended> {
        let decoded = match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Received(body) => self.decode(place, body),
            Stage::Computing(computation) => Ok(computation),
            Stage::Ended => Err(RequestError::new(Code::Internal, "the request has ended")),
        };
        let mut computation = match decoded {
            Ok(computation) => computation,
            Err(error) => {
                return Some(Ended {
                    slices: 0,
                    result: Err(error),
                });
            }
        };
        let computed = self
            .check_deadline()
            .and_then(|()| self.compute(place.context, &mut computation))
            .and_then(|()| self.check_deadline());
        if computed.is_ok() && computation.done < computation.rows.len() {
            self.stage = Stage::Computing(computation);
            return None;
        }
        self.encoding_since = Some(clock::instant());
        Some(Ended {
            slices: computation.slices,
            result: computed.and_then(|()| self.encode(place.context, &computation)),
        })
    }

    /// Refuses an answer that comes too late for its client.
    fn check_deadline(&self) -> Result<(), RequestError> {
        match self.deadline {
            Some(deadline) if clock::instant() >= deadline => {
                let text = "no answer by the deadline (parameters.timeout, in microseconds)";
                Err(RequestError::new(Code::DeadlineExceeded, text))
            }
            _ => Ok(()),
        }
    }

    fn decode(
        &mut self,
        place: WorkerPlace<'_>,
        body: RequestBody,
    ) -> Result<Computation, RequestError> {
        let (model, signature) = (self.version.model(), self.version.model().signature());
        let rows_max = place.context.config.limits.max_rows;
        self.working.set_beside(body.charge.total());
        let row_spec = RowSpec {
            signature,
            precision: model.precision(),
            rows_max,
        };
        let head = &self.spoken.head;
        let mut unpacked_charge = Charge::new(&place.context.budget);
        unpacked_charge.set_beside(body.charge.total());
        let max_body = place.context.config.limits.max_body;
        let unpacked = unpack(head, &body.bytes, max_body as u64, &mut unpacked_charge)?;
        self.working.set_beside(unpacked_charge.total());
        let bytes = unpacked.as_ref().unwrap_or(&body.bytes);
        let Asked {
            rows,
            raw,
            timeout,
            encoder,
        } = self
            .spoken
            .dialect
            .decode(head, bytes, row_spec, &mut self.working)?;
        let raw = raw || self.version.loaded.answer.needs_raw();
        self.deadline = timeout.map(|timeout| self.reply_sender.arrived + timeout);
        drop((unpacked, unpacked_charge));
        self.working.set_beside(body.charge.beside());
        drop(body);
        place.worker_slot.set_rows(rows.len());
        let working = instances::working_bytes(signature, &rows);
        self.working.grow(if raw {
            working.saturating_mul(2)
        } else {
            working
        })?;
        instances::check(model, &rows)?;
        if raw && model.raw_width() == 0 {
            let text = "parameters.raw asks for the sums before the transform, but this model has none; leave it out";
            return Err(RequestError::new(Code::InvalidInput, text));
        }
        self.rows = Some(rows.len());
        let service_times = &self.deployment.vitals.service_times;
        let first = service_times.rows_within(QUANTUM).unwrap_or(0);
        Ok(Computation {
            rows,
            done: 0,
            output: None,
            raw: raw.then(Vec::new),
            encoder,
            next_slice: first.max(SLICE_ROWS_MIN),
            slices: 0,
            model_time: Duration::ZERO,
        })
    }

    /// Computes the next slice.
    fn compute(
        &self,
        context: &Context,
        computation: &mut Computation,
    ) -> Result<(), RequestError> {
        let model = self.version.model();
        let rows = &computation.rows;
        if rows.is_empty() {
            computation.output = Some(Output::none(&model.signature().output));
            return Ok(());
        }
        let slice = slice(rows.len() - computation.done, computation.next_slice);
        let started = clock::instant();
        let part = (slice < rows.len()).then(|| rows.part(computation.done, slice));
        let part = part.as_ref().unwrap_or(rows);
        let output = compute::predict(model, part);
        if let Some(raw) = &mut computation.raw {
            raw.extend(model.raw(part).unwrap_or_default());
        }
        let output = output.map_err(|failure| match failure {
            ComputeError::Model(error) => self.model_failed(context, &error),
            ComputeError::Input(mut fault) => {
                context.doubt_model(&self.deployment);
                fault.row += computation.done;
                instances::unfit(model.signature(), rows, &fault)
            }
        })?;
        let took = started.elapsed();
        computation.next_slice = next_slice(slice, took, rows.len());
        computation.model_time += took;
        computation.done += slice;
        computation.slices += 1;
        match &mut computation.output {
            Some(sum) => {
                let appended = sum.append(output);
                appended.map_err(|error| self.model_failed(context, &error))?;
            }
            None => computation.output = Some(output),
        }
        Ok(())
    }

    fn encode(
        &self,
        context: &Context,
        computation: &Computation,
    ) -> Result<(Payload, Charge), RequestError> {
        let rows = computation.rows.len();
        if rows >= SLICE_ROWS_MIN {
            let service_times = &self.deployment.vitals.service_times;
            service_times.record_rows(rows, computation.model_time);
        }
        let Some(output) = &computation.output else {
            return Err(RequestError::new(Code::Internal, "the output is lost"));
        };
        let answer = Predicted {
            name: self.version.name(),
            version: &self.version.loaded.version,
            request_id: &self.reply_sender.request_id,
            answer: self.version.loaded.answer,
            signature: self.version.model().signature(),
            labels: &self.version.labels,
            output,
            rows,
            raw: computation.raw.as_deref(),
        };
        let mut charge = Charge::new(&context.budget);
        charge.set_beside(self.working.total());
        match computation.encoder.encode(&answer, &mut charge) {
            Ok(payload) => Ok((payload, charge)),
            Err(EncodeError::Output(error)) => Err(self.model_failed(context, &error)),
            Err(EncodeError::Budget(error)) => Err(error),
        }
    }

    /// Logs a failure of the model and makes the client's error.
    fn model_failed(&self, context: &Context, error: &PredictError) -> RequestError {
        let request_id = &self.reply_sender.request_id;
        context.failure_log.record(format_args!(
            "request {request_id}: the model failed: {error}"
        ));
        RequestError::new(Code::PredictionFailed, format!("the model failed: {error}"))
    }

    /// Records how it ended, gives back what it holds, and makes the reply.
    fn finish(
        self,
        place: WorkerPlace<'_>,
        (began, stopped): (Stamp, Instant),
        ended: Ended,
    ) -> SliceOutcome {
        let lane = place.lane;
        match &ended.result {
            Ok(_) => {
                lane.finished_from.advance(began);
                let own = &self.deployment.vitals;
                own.succeeded(place.context.vitals.clock.now());
                lane.record_service_time(self.service_time);
                let version = self.version.number;
                let form = self.spoken.form() as usize;
                own.service_times
                    .record((form, self.bytes), self.service_time, version);
                if ended.slices > 1 {
                    own.service_times.record_large(self.service_time);
                }
            }
            Err(error) => {
                if error.code == Code::PredictionFailed {
                    lane.finished_from.advance(began);
                    place.context.prediction_failed(&self.deployment);
                }
            }
        }
        // Fields not named here are dropped with this function: the working memory and the
        // remaining rows.
        let Execution {
            reply_sender,
            rows,
            waiting_time,
            service_time,
            encoding_since,
            ..
        } = self;
        let encode_time = encoding_since.map(|since| stopped.saturating_duration_since(since));
        let (result, charge) = match ended.result {
            Ok((payload, charge)) => (Ok(payload), Some(charge)),
            Err(error) => (Err(error), None),
        };
        let reply = Reply {
            result,
            charge,
            rows,
            waiting_time,
            service_time,
            encode_time: encode_time.unwrap_or_default(),
        };
        SliceOutcome::Replied(reply_sender, reply)
    }
}

impl Computation {
    /// The time that the rest needs, judged by the rows so far.
    fn expected_rest(&self) -> Duration {
        let rest = self.rows.len().saturating_sub(self.done) as f64;
        self.model_time.mul_f64(rest / self.done.max(1) as f64)
    }
}

/// Rows of a slice, of the remaining ones; leaves no tiny remainder.
fn slice(remaining: usize, wanted: usize) -> usize {
    if remaining < wanted.saturating_add(wanted / 2) {
        remaining
    } else {
        wanted
    }
}

/// Rows of the next slice, so that it takes one turn, if the last one took this long.
fn next_slice(last: usize, took: Duration, rows: usize) -> usize {
    let factor = QUANTUM.as_secs_f64() / took.as_secs_f64().max(1e-9);
    let next = last as f64 * factor.min(GROWTH_MAX);
    // Casts saturate.
    (next as usize)
        .max(SLICE_ROWS_MIN)
        .max(rows.div_ceil(SLICES_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Number of slices of a request with so many rows that take so long each.
    fn slices(rows: usize, first: usize, row: Duration) -> Vec<usize> {
        let (mut done, mut next, mut sizes) = (0, first, Vec::new());
        while done < rows {
            let size = slice(rows - done, next);
            next = next_slice(size, row * u32::try_from(size).unwrap(), rows);
            done += size;
            sizes.push(size);
        }
        sizes
    }

    #[test]
    fn slices_approach_the_quantum_and_cover_every_row() {
        let table = [
            ("a few rows are one", 16, 16, 1, vec![16]),
            ("no crumbs", 23, 16, 1, vec![23]),
            ("what is quick soon is one", 1000, 16, 1, vec![16, 128, 856]),
            (
                "100 µs a row: 50 make a turn",
                200,
                16,
                100,
                vec![16, 50, 50, 50, 34],
            ),
            (
                "never less than a few",
                64,
                16,
                10_000,
                vec![16, 16, 16, 16],
            ),
        ];
        for (name, rows, first, micros, expected) in table {
            let found = slices(rows, first, Duration::from_micros(micros));
            assert_eq!(found, expected, "{name}");
        }
        for (rows, micros) in [(100_000, 100_000), (100_000, 0), (99_999, 7), (1, 1)] {
            let found = slices(rows, 16, Duration::from_micros(micros));
            assert_eq!(found.iter().sum::<usize>(), rows);
            assert!(found.len() <= SLICES_MAX + 1, "{} slices", found.len());
        }
    }
}
