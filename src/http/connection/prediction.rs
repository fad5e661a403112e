//! A prediction on its connection: admission, the body, the job, the answer, and what is counted.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{After, Connection, RequestInProgress};
use crate::config::FairBy;
use crate::error::{Code, RequestError};
use crate::http::body::BodyDecoder;
use crate::http::client_watch::ClientWatch;
use crate::http::exchange;
use crate::http::request_head::{Framing, RequestHead};
use crate::http::response::{Answer, ServerTiming};
use crate::http::stop::{ConnectionEnd, RequestStop};
use crate::http::{trace, traceparent};
use crate::job::RequestBody;
use crate::job::deployment::Deployment;
use crate::lanes::admission::{self, Admitted, Ask};
use crate::lanes::memory_budget::Charge;
use crate::logging::Prediction;
use crate::platform::clock;
use crate::protocol::{BodyHead, Dialect, Spoken, routes};
use crate::vitals::{Owed, PredictionOutcome, RecentError, ServerPhase};

impl Connection<'_> {
    pub(super) fn answer_prediction(
        &mut self,
        asked: &mut RequestInProgress,
        prediction: routes::PredictionPath,
    ) -> Result<After, ConnectionEnd> {
        let http = &self.listener.http;
        let arrived = clock::instant();
        let deployment = match http.context.registry.find(&prediction.target) {
            Ok(deployment) => Arc::clone(deployment),
            Err(error) => return self.answer_refused(asked, prediction.dialect, &error, arrived),
        };
        let head = &mut asked.head;
        let spoken = Spoken {
            head: BodyHead {
                content_type: head.content_type.take(),
                content_encoding: head.content_encoding.take(),
                accept: head.accept.take(),
                json_length: head.json_length.take(),
            },
            dialect: prediction.dialect,
        };
        let dialect = spoken.dialect;
        let (body, admitted) = match self.admit_and_read(asked, &spoken, &deployment, arrived) {
            Ok(admitted) => admitted,
            Err(RequestStop::Close(end)) => return Err(end),
            Err(RequestStop::Respond(error)) => {
                return self.answer_refused(asked, dialect, &error, arrived);
            }
        };
        // Counted before the phase is read: if a drain sees no answer owed, this request sees the
        // drain.
        let _owed = Owed::new(&http.context.vitals.predictions_owed);
        if http.context.vitals.phase() >= ServerPhase::Finishing {
            return self.answer_refused(asked, dialect, &admission::draining(), arrived);
        }
        let asked_at = clock::instant();
        // The body has come since.
        self.watch = ClientWatch::new(asked_at);
        let reply = match exchange::ask(
            &self.listener.http,
            (&self.input.place.entry, &mut self.watch),
            (body, spoken),
            &deployment,
            &asked.request_id,
            admitted,
        ) {
            Ok(reply) => reply,
            Err(RequestStop::Close(end)) => return Err(end),
            Err(RequestStop::Respond(error)) => {
                return self.answer_refused(asked, dialect, &error, arrived);
            }
        };
        let (rows, waiting_time, service_time) =
            (reply.rows, reply.waiting_time, reply.service_time);
        let code = reply.result.as_ref().err().map(|error| error.code);
        let outcomes = &deployment.vitals.outcomes;
        outcomes.replied(code, waiting_time, service_time, asked_at);
        let timing = ServerTiming {
            queue: waiting_time,
            predict: service_time.saturating_sub(reply.encode_time),
            encode: reply.encode_time,
        };
        // Given back once the answer is written.
        let _charge = reply.charge;
        let (mut answer, error) = match reply.result {
            Ok(payload) => {
                let rows = reply.rows.unwrap_or_default();
                deployment.vitals.rows.add(rows as u64);
                self.input.was_of_use();
                (Answer::from(payload), None)
            }
            Err(error) => {
                self.count(asked, &error);
                (self.shaped(asked, dialect, &error), Some(error))
            }
        };
        answer.timing = Some(timing);
        // A job that the lane refused was never in its queue.
        let was_queued =
            code.is_none_or(|code| PredictionOutcome::of(code) != PredictionOutcome::Refused);
        let prediction = Prediction {
            model: None,
            rows,
            times: was_queued.then_some((waiting_time, service_time)),
            sojourn_time: arrived.elapsed(),
        };
        self.trace(asked, &answer, error.as_ref(), prediction);
        if service_time.is_zero() || (400..500).contains(&answer.status) {
            let wasted = self.listener.slots_for_waste(service_time);
            self.answer_cheap(asked, answer, false, wasted)
        } else {
            self.answer(asked, &answer)
        }
    }

    /// Answers a prediction that no worker saw, or that did not finish in time.
    fn answer_refused(
        &mut self,
        asked: &RequestInProgress,
        dialect: &dyn Dialect,
        error: &RequestError,
        arrived: Instant,
    ) -> Result<After, ConnectionEnd> {
        self.count(asked, error);
        let outcomes = &self.deployment().vitals.outcomes;
        outcomes.ended(PredictionOutcome::of(error.code), arrived);
        let answer = self.shaped(asked, dialect, error);
        let prediction = Prediction {
            model: None,
            rows: None,
            times: None,
            sojourn_time: arrived.elapsed(),
        };
        self.trace(asked, &answer, Some(error), prediction);
        self.answer_cheap(asked, answer, false, Duration::ZERO)
    }

    /// An error in the shape of a dialect.
    fn shaped(
        &self,
        asked: &RequestInProgress,
        dialect: &dyn Dialect,
        error: &RequestError,
    ) -> Answer {
        let overload = self.listener.http.context.config.overload.overload_status;
        let status = error.code.status_with(overload);
        let shape = dialect.error(error, &asked.request_id, status);
        Answer::shaped(error, shape, overload)
    }

    /// The deployment asked for: the path names none.
    fn deployment(&self) -> &Arc<Deployment> {
        self.listener.http.context.registry.default_deployment()
    }

    /// Has a prediction in the log.
    fn trace(
        &self,
        asked: &RequestInProgress,
        answer: &Answer,
        error: Option<&RequestError>,
        prediction: Prediction<'_>,
    ) {
        let request = (&asked.head, &*asked.request_id);
        let http = &self.listener.http;
        let place = (self.socket(), &**self.deployment());
        trace::prediction(http, place, request, (answer, error), prediction);
    }

    /// Counts a prediction that ended in an error, by what the error is.
    fn count(&self, asked: &RequestInProgress, error: &RequestError) {
        let vitals = &self.listener.http.context.vitals;
        self.keep_recent(asked, error);
        vitals.refusals.count(error.code);
        let counts = &vitals.counts;
        let clients = &counts.clients;
        match error.code {
            Code::RequestTimeout => clients.body_timeout.increment(),
            Code::ContentTooLarge => clients.content_too_large.increment(),
            Code::MalformedRequest => {
                clients.not_sound(&error.text, trace::client(self.socket()));
            }
            Code::OverBudget => clients.over_budget.increment(),
            _ => {}
        }
        if error.code == Code::Internal {
            counts.lost.increment();
        }
    }

    /// Keeps a refusal or a failure for the console.
    fn keep_recent(&self, asked: &RequestInProgress, error: &RequestError) {
        let context = &self.listener.http.context;
        let recent = match PredictionOutcome::of(error.code) {
            PredictionOutcome::Refused | PredictionOutcome::Expired => {
                &context.vitals.recent_refusals
            }
            PredictionOutcome::Failed | PredictionOutcome::DeadlineExceeded => {
                &context.vitals.recent_failures
            }
            _ => return,
        };
        let now = context.vitals.clock.now();
        let traceparent = asked.head.traceparent.as_deref();
        let trace_id = traceparent.and_then(traceparent::trace_id);
        recent.note(now, || RecentError {
            at: now,
            request_id: asked.request_id.to_string(),
            trace_id: trace_id.map(str::to_owned),
            client: trace::client(self.socket()),
            status: error
                .code
                .status_with(context.config.overload.overload_status),
            code: error.code,
            reason: error.text.clone(),
        });
    }

    /// Refuses what the lane or the memory budget would refuse, before the body is read; otherwise
    /// reads it. A body that is already here is admitted at once. One that is still coming gets no
    /// place until it is here, so that a slow client cannot hold a place.
    fn admit_and_read(
        &mut self,
        asked: &mut RequestInProgress,
        spoken: &Spoken,
        deployment: &Deployment,
        arrived: Instant,
    ) -> Result<(RequestBody, Admitted), RequestStop> {
        let http = &self.listener.http;
        let context = &http.context;
        let head = &asked.head;
        spoken.dialect.check_head(&spoken.head)?;
        let wrong_timeout = head
            .timeout_fault
            .as_ref()
            .map(|fault| RequestError::new(Code::InvalidInput, fault.clone()));
        let awaits_continue = asked.unread && head.expect_continue;
        let wrong_timeout = match wrong_timeout {
            Some(failure) if !asked.unread || awaits_continue => return Err(failure.into()),
            // The connection can go on once the body has been read.
            later => later,
        };
        let mut ask = self.ask(head, spoken, deployment, arrived);
        let max_body = context.config.limits.max_body;
        // A request that could never be held is refused for good, whatever others hold now.
        if let Some(size) = ask.bytes.filter(|size| *size <= max_body) {
            let alone = context.budget.check_alone(size);
            alone?;
        }
        let charge = Charge::new(&context.budget);
        let decoder = BodyDecoder::new(head.framing, max_body, charge)?;
        let (admitted, announced) = if asked.unread {
            let checked = http.admission.check(&context.vitals, &ask);
            (None, Some(checked?))
        } else {
            let admitted = http.admission.admit(&context.vitals, &ask);
            (Some(admitted?), None)
        };
        if let Some(size) = ask.bytes {
            context.budget.check(size)?;
        }
        asked.unread = true;
        asked.buffered = 0;
        let body = self.input.read_body(head, decoder)?;
        asked.unread = false;
        drop(announced);
        if let Some(failure) = wrong_timeout {
            return Err(failure.into());
        }
        let admitted = match admitted {
            Some(admitted) => admitted,
            None => {
                ask.now = clock::instant();
                ask.bytes = Some(body.bytes.len());
                if head.timeout.is_none() {
                    // The server's own time limit starts when the request is complete.
                    ask.deadline = ask.now + context.config.request_timeout;
                }
                let admitted = http.admission.admit(&context.vitals, &ask);
                admitted?
            }
        };
        Ok((body, admitted))
    }

    /// What admission needs to know of a prediction before its body is read.
    fn ask<'d>(
        &self,
        head: &RequestHead,
        spoken: &Spoken,
        deployment: &'d Deployment,
        arrived: Instant,
    ) -> Ask<'d> {
        let http = &self.listener.http;
        let config = &http.context.config;
        let limit = config.request_timeout;
        let client = match &config.overload.fair_by {
            None => None,
            Some(FairBy::Address) => http.admission.client(self.entry().peer()),
            Some(FairBy::Field(_)) => http.admission.client(head.client.as_deref()),
        };
        Ask {
            deployment: &deployment.vitals,
            form: spoken.form() as usize,
            bytes: match head.framing {
                // Within --max-body, so it fits.
                Framing::Length(length) => usize::try_from(length).ok(),
                Framing::None => Some(0),
                Framing::Chunked => None,
            },
            now: arrived,
            deadline: arrived + head.timeout.map_or(limit, |timeout| timeout.min(limit)),
            client,
        }
    }
}
