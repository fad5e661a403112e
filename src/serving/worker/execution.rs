//! One prediction in a worker's hands: decoded once, computed in slices, encoded and answered.
//!
//! Between two slices it may wait while the worker, or another, does something else. A request of a
//! few rows, which is nearly every one, is a single slice.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Code, RequestError};
use crate::job::{Reply, ReplySender, RequestBody};
use crate::lanes::admission::{self, AtDequeue, QUANTUM, SLICE_ROWS_MIN};
use crate::lanes::memory_budget::Charge;
use crate::logging::FailureLog;
use crate::models::compute::{self, ComputeError};
use crate::models::slot::ModelVersion;
use crate::models::{Output, PredictError, Rows};
use crate::platform::clock::{self, Stamp};
use crate::platform::panic;
use crate::protocol::instances;
use crate::protocol::{EncodeError, Payload, Predicted, Spoken};
use crate::serving::context::Context;
use crate::vitals::{CurrentRequest, LaneVitals, RemainingWork, Vitals, WorkerVitals};

/// What the client is told of a panic; the log has the rest.
const PANICKED: &str = "the model panicked on this request; the server's log has the reason";

/// The most slices of one request: what a model does anew at each call, it does so often at most.
const SLICES_MAX: usize = 256;

/// The most that a slice may be larger than the one before.
const GROWTH_MAX: f64 = 8.0;

/// Where a prediction is worked on.
#[derive(Clone, Copy)]
pub(super) struct WorkerPlace<'a> {
    pub(super) context: &'a Context,
    pub(super) lane: &'a LaneVitals,
    pub(super) worker_slot: &'a WorkerVitals,
}

/// What a turn came to.
pub(super) enum SliceOutcome {
    /// More is to be computed.
    Suspended(Execution),
    /// This is the reply. The request holds nothing of the lane any more, nor of the budget but for
    /// what the reply itself takes.
    Replied(ReplySender, Reply),
    /// Nobody waits for it.
    Dropped,
}

/// A prediction that has begun.
pub(super) struct Execution {
    reply_sender: ReplySender,
    spoken: Spoken,
    /// The model it began with.
    version: Arc<ModelVersion>,
    /// Bytes of the body that it came in, and the body until it is decoded.
    bytes: usize,
    body: Option<RequestBody>,
    /// Its instances; none until they are decoded.
    rows: Option<Rows>,
    /// Rows that are computed, and what the model said of them.
    done: usize,
    output: Option<Output>,
    /// Rows of the next slice, and whether one has not been enough.
    slice: usize,
    in_slices: bool,
    waiting_time: Duration,
    /// Time with workers so far, and that of the model's own.
    service_time: Duration,
    model_time: Duration,
    /// What is needed on the way to the answer.
    working: Charge,
    /// What the answer holds.
    charge: Charge,
    /// What is to be done after its present turn.
    remaining: Option<RemainingWork>,
}

impl Execution {
    /// Takes a prediction up and, where it is worth computing, works on it for one turn from `began` on.
    pub(super) fn begin(
        place: WorkerPlace<'_>,
        reply_sender: ReplySender,
        body: RequestBody,
        spoken: Spoken,
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
            admission::at_dequeue(place.lane, admitted, waiting_time, started)
        });
        if !reply_sender.is_wanted() {
            // Its connection has counted it: the client left, or was answered 504.
            return SliceOutcome::Dropped;
        }
        if let Some(AtDequeue::Refuse(refusal)) = at_dequeue {
            return refuse(reply_sender, refusal);
        }
        let Some(version) = place.context.model.get() else {
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
            version,
            bytes: body.bytes.len(),
            body: Some(body),
            rows: None,
            done: 0,
            output: None,
            slice: place
                .lane
                .service
                .rows_within(QUANTUM)
                .unwrap_or(0)
                .max(SLICE_ROWS_MIN),
            in_slices: false,
            waiting_time,
            service_time: Duration::ZERO,
            model_time: Duration::ZERO,
            working: Charge::new(&place.context.budget),
            charge: Charge::new(&place.context.budget),
            remaining: remaining
                .map(|remaining| RemainingWork::new(&place.context.vitals, remaining)),
        };
        execution.run_slice(place, began)
    }

    /// What the log calls it.
    pub(super) fn task(&self) -> CurrentRequest {
        CurrentRequest {
            request_id: Arc::clone(&self.reply_sender.request_id),
            rows: self.rows.as_ref().map(Rows::len),
        }
    }

    /// Works on it for one turn, from `began` on.
    pub(super) fn run_slice(mut self, place: WorkerPlace<'_>, began: Stamp) -> SliceOutcome {
        if !self.reply_sender.is_wanted() {
            return SliceOutcome::Dropped;
        }
        if self.done > 0
            && let Some(remaining) = &mut self.remaining
        {
            remaining.take(QUANTUM);
        }
        let started = clock::instant();
        let advanced = panic::catch(|| self.advance(place)).unwrap_or_else(|message| {
            place.context.failure_log.record(format_args!(
                "request {}: the model panicked: {message}",
                self.reply_sender.request_id
            ));
            place.context.vitals.counts.panicked.increment();
            Err(RequestError::new(Code::PredictionFailed, PANICKED))
        });
        self.service_time += started.elapsed();
        let result = match advanced {
            Ok(None) => {
                place.lane.finished_from.advance(began);
                return SliceOutcome::Suspended(self);
            }
            Ok(Some(payload)) => Ok(payload),
            Err(error) => Err(error),
        };
        self.finish(place, began, result)
    }

    /// Has it wait for its next turn, and says what the rest may be expected to take: as long as others
    /// of its size took, or by its own rows so far, whichever is more. Rows that come sorted are not
    /// all alike, and a rest that looks too short lets in more than can be done in time.
    pub(super) fn wait(&mut self, vitals: &Arc<Vitals>) {
        let rows = self.rows.as_ref().map_or(0, Rows::len);
        let remaining = rows.saturating_sub(self.done) as f64 / self.done.max(1) as f64;
        let expected = self
            .reply_sender
            .admitted()
            .map(|admitted| admitted.reservation.cost().whole);
        let by_others = expected
            .unwrap_or_default()
            .saturating_sub(self.service_time);
        let remaining = self.model_time.mul_f64(remaining).max(by_others);
        self.remaining = Some(RemainingWork::new(vitals, remaining));
    }

    /// Decodes, where that is still to be done, computes a slice, and encodes after the last.
    fn advance(&mut self, place: WorkerPlace<'_>) -> Result<Option<Payload>, RequestError> {
        let version = Arc::clone(&self.version);
        let (model, signature) = (version.model(), version.model().signature());
        let context = place.context;
        if let Some(body) = self.body.take() {
            let rows_max = context.config.limits.max_rows;
            self.working.set_beside(body.charge.total());
            let rows = self.spoken.body.decode(
                &self.spoken.head,
                &body.bytes,
                (signature, rows_max),
                &mut self.working,
            )?;
            self.working.set_beside(body.charge.beside());
            drop(body);
            place.worker_slot.set_rows(rows.len());
            self.working
                .grow(instances::working_bytes(signature, &rows))?;
            instances::check(model, &rows)?;
            self.rows = Some(rows);
        }
        let failed =
            |error| model_failed(&error, &self.reply_sender.request_id, &context.failure_log);
        // Decoded at the first turn.
        let Some(rows) = &self.rows else {
            return Err(RequestError::new(Code::Internal, "the instances are lost"));
        };
        let slice = slice(rows.len() - self.done, self.slice);
        let started = clock::instant();
        let output = if slice == rows.len() {
            compute::predict(model, rows)
        } else {
            compute::predict(model, &rows.part(self.done, slice))
        };
        let output = output.map_err(|failure| match failure {
            ComputeError::Model(error) => failed(error),
            ComputeError::Input(mut fault) => {
                context.doubt_model();
                fault.row += self.done;
                instances::unfit(signature, rows, &fault)
            }
        })?;
        let took = started.elapsed();
        self.model_time += took;
        self.done += slice;
        self.slice = next_slice(slice, took, rows.len());
        match &mut self.output {
            Some(sum) => sum.append(output).map_err(failed)?,
            None => self.output = Some(output),
        }
        if self.done < rows.len() {
            self.in_slices = true;
            return Ok(None);
        }
        if rows.len() >= SLICE_ROWS_MIN {
            place.lane.service.record_rows(rows.len(), self.model_time);
        }
        let charge = &mut self.charge;
        charge.set_beside(self.working.total());
        let Some(output) = &self.output else {
            return Err(RequestError::new(Code::Internal, "the output is lost"));
        };
        let answer = Predicted {
            name: version.name(),
            signature,
            output,
            rows: rows.len(),
        };
        let encoded = self.spoken.answer.encode(&answer, charge);
        encoded.map(Some).map_err(|error| match error {
            EncodeError::Output(error) => failed(error),
            EncodeError::Budget(error) => error,
        })
    }

    /// Counts how it ended, gives back what it holds, and makes the reply.
    fn finish(
        self,
        place: WorkerPlace<'_>,
        began: Stamp,
        result: Result<Payload, RequestError>,
    ) -> SliceOutcome {
        let lane = place.lane;
        match &result {
            Ok(_) => {
                lane.finished_from.advance(began);
                place.context.vitals.succeeded();
                lane.record_service_time(self.service_time);
                let version = self.version.number;
                lane.service.record(self.bytes, self.service_time, version);
                if self.in_slices {
                    lane.service.record_large(self.service_time);
                }
            }
            Err(error) => {
                if error.code == Code::PredictionFailed {
                    lane.finished_from.advance(began);
                    place.context.prediction_failed();
                }
            }
        }
        // The fields that are not named here are dropped with this function: instances, output,
        // working memory and what was left to do.
        let Execution {
            reply_sender,
            mut charge,
            rows,
            waiting_time,
            service_time,
            ..
        } = self;
        if result.is_err() {
            // What an answer had grown to that came to nothing.
            charge.clear();
        }
        let reply = Reply {
            result,
            charge: Some(charge),
            rows: rows.as_ref().map(Rows::len),
            waiting_time,
            service_time,
        };
        SliceOutcome::Replied(reply_sender, reply)
    }
}

/// Rows of a slice, of those that are left: no crumbs are left over.
fn slice(remaining: usize, wanted: usize) -> usize {
    if remaining < wanted.saturating_add(wanted / 2) {
        remaining
    } else {
        wanted
    }
}

/// Rows of the next slice, so that it takes a turn if the last one took so long.
fn next_slice(last: usize, took: Duration, rows: usize) -> usize {
    let factor = QUANTUM.as_secs_f64() / took.as_secs_f64().max(1e-9);
    let next = last as f64 * factor.min(GROWTH_MAX);
    // Saturating by the language's rules for casts.
    (next as usize)
        .max(SLICE_ROWS_MIN)
        .max(rows.div_ceil(SLICES_MAX))
}

fn model_failed(error: &PredictError, request_id: &str, failures: &FailureLog) -> RequestError {
    failures.record(format_args!(
        "request {request_id}: the model failed: {error}"
    ));
    RequestError::new(Code::PredictionFailed, format!("the model failed: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Slices of a request of so many rows that take so long each.
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
    fn slices_grow_or_shrink_to_a_turn_each_and_cover_every_row() {
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
