//! One connection: all reading and writing of its socket, each phase with its limit and deadline.
//!
//! Runs on a connection thread. It reads a head, asks `route` and admission, and only then reads a
//! body. It sends one job to the acceptor, waits for its one reply and writes it before it reads
//! on. So a connection has at most one unanswered request; a pipelined one waits in the kernel's
//! buffer, and a slow client occupies only this thread.

mod pages;
mod prediction;
mod probe_exchange;

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use socket2::Socket;

use crate::config::{Config, ConsoleDetail};
use crate::error::{Code, RequestError};
use crate::http::client_watch::ClientWatch;
use crate::http::connection_table::{ConnectionEntry, ConnectionState};
use crate::http::listener_context::ListenerContext;
use crate::http::reader::{self, Input};
use crate::http::refusal;
use crate::http::request_head::RequestHead;
use crate::http::response::{self, Answer, Persistence};
use crate::http::stop::{ConnectionEnd, RequestStop};
use crate::http::trace;
use crate::http::writer::SocketWriter;
use crate::job;
use crate::lanes::cpu_priority::{CpuUse, Priority};
use crate::platform::clock;
use crate::platform::sys;
use crate::protocol::routes::{self, Listening, Route};
use crate::vitals::{Owed, ServerPhase, Timer};

/// What a connection thread keeps between connections.
#[derive(Debug)]
pub(crate) struct Buffers {
    /// What a client sends.
    input: Vec<u8>,
    /// An answer's head.
    output: Vec<u8>,
    /// This thread's scheduling relative to predictions.
    priority: Priority,
}

impl Buffers {
    pub(crate) fn new(config: &Config) -> Self {
        Buffers {
            input: vec![0; reader::NARROW_BYTES],
            output: Vec::with_capacity(512),
            priority: Priority::new(config.yielding, CpuUse::Responding),
        }
    }
}

/// A client that has just connected.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) socket: Socket,
    /// Its network, if connections are counted by network.
    pub(crate) peer: Option<IpAddr>,
}

/// What happens to the connection after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    /// The next request is read.
    Continue,
    /// It is closed.
    Close,
    /// It is closed after the client's remaining input was discarded.
    Linger,
}

/// Serves one connection until it ends.
pub(crate) fn serve(listener: &ListenerContext, client: NewConnection, buffers: &mut Buffers) {
    let place = match listener
        .table
        .enter(client.socket, client.peer, listener.open())
    {
        Ok(place) => place,
        // The table has room for every connection thread that may exist, so this is one too many.
        Err(socket) => return refusal::refuse(listener, &socket, refusal::NO_CAPACITY),
    };
    let Buffers {
        input,
        output,
        priority,
    } = buffers;
    let mut connection = Connection {
        listener,
        input: Input::new(place, input, listener),
        output,
        priority,
        watch: ClientWatch::new(clock::instant()),
        answers: 0,
        is_evicted: false,
        probed: None,
    };
    loop {
        match connection.exchange() {
            Ok(After::Continue) => {}
            Ok(After::Close) => break,
            Ok(After::Linger) => {
                connection.input.linger();
                break;
            }
            Err(ConnectionEnd::Closed) => break,
            Err(ConnectionEnd::NotRead) => {
                listener.clients().write_timeout.increment();
                // The kernel's unsent data for a client that reads nothing is discarded too.
                let _ = connection.socket().set_linger(Some(Duration::ZERO));
                break;
            }
        }
    }
}

struct Connection<'a> {
    listener: &'a ListenerContext,
    input: Input<'a>,
    /// An answer's head, as it is written.
    output: &'a mut Vec<u8>,
    priority: &'a mut Priority,
    /// Whether the present request's client is still there.
    watch: ClientWatch,
    /// Answers given on this connection.
    answers: u64,
    /// A new connection needs its place: it is closed after the answer that is ready.
    is_evicted: bool,
    /// The probe that is being answered, if any.
    probed: Option<Timer<'a>>,
}

/// A request whose head has been read.
struct RequestInProgress {
    head: RequestHead,
    request_id: Arc<str>,
    /// Bytes of its body in the input buffer; the whole body, unless `unread`.
    buffered: usize,
    /// Whether the client still sends body bytes that nobody will read.
    unread: bool,
}

impl Connection<'_> {
    fn entry(&self) -> &ConnectionEntry {
        &self.input.place.entry
    }

    fn socket(&self) -> &Socket {
        &self.input.place.entry.socket
    }

    /// Reads one request and answers it.
    fn exchange(&mut self) -> Result<After, ConnectionEnd> {
        let read = self.input.read_head(self.answers > 0);
        self.watch = ClientWatch::new(clock::instant());
        let head = match read {
            Ok(head) => head,
            Err(RequestStop::Respond(error)) => return self.answer_unreadable(&error),
            Err(RequestStop::Close(end)) => return Err(end),
        };
        let vitals = &self.listener.http.context.vitals;
        self.priority.adapt(vitals.predict.service_time());
        let request_id = match &head.request_id {
            Some(id) => Arc::from(id.as_str()),
            None => job::new_request_id(),
        };
        let buffered = self.input.buffered_body(&head);
        let mut asked = RequestInProgress {
            unread: buffered.is_none(),
            buffered: buffered.unwrap_or(0),
            head,
            request_id,
        };
        let http = &self.listener.http;
        let route = routes::route(
            &asked.head.method,
            &asked.head.path,
            asked.head.query.as_deref(),
            Listening {
                kind: self.listener.kind,
                main: &http.main_address,
                probe: http.probe_address.as_ref(),
                main_metrics: http.context.config.main_metrics,
                shows_clients: http.context.config.console == ConsoleDetail::Full,
                aliases: &http.context.config.routes,
            },
        );
        match route {
            Ok(Route::Root) => self.answer_root(&asked),
            Ok(Route::Docs(topic)) => self.answer_docs(&asked, topic),
            Ok(Route::Probe(probe)) => self.answer_probe(&asked, probe),
            Ok(Route::Document(document)) => self.answer_document(&mut asked, &document),
            Ok(Route::Metrics) => self.answer_scrape(&asked),
            Ok(Route::Predict(prediction)) => self.answer_prediction(&mut asked, prediction),
            Err(error) => {
                let answer = self.error(&error, &asked.request_id);
                self.answer_other(&asked, answer, Some(&error), false)
            }
        }
    }

    /// Answers something that is not a request; nothing after it can be trusted.
    fn answer_unreadable(&mut self, error: &RequestError) -> Result<After, ConnectionEnd> {
        let clients = self.listener.clients();
        match error.code {
            Code::RequestTimeout => clients.head_timeout.increment(),
            Code::HeadTooLarge => clients.head_too_large.increment(),
            Code::OverBudget => clients.over_budget.increment(),
            _ => clients.not_sound(&error.text, trace::client(self.socket())),
        }
        let request_id = job::new_request_id();
        let answer = self.error(error, &request_id);
        trace::other(self.socket(), None, &request_id, &answer, Some(error));
        self.delay(Duration::ZERO)?;
        self.write(&answer, &request_id, Persistence::Close, true)?;
        Ok(After::Linger)
    }

    /// Answers a request that is not a prediction, and logs it at `debug`.
    fn answer_other(
        &mut self,
        asked: &RequestInProgress,
        answer: Answer,
        error: Option<&RequestError>,
        is_probe: bool,
    ) -> Result<After, ConnectionEnd> {
        let (head, request_id) = (Some(&asked.head), &asked.request_id);
        trace::other(self.socket(), head, request_id, &answer, error);
        self.answer_cheap(asked, answer, is_probe, Duration::ZERO)
    }

    /// An error in the server's own shape.
    fn error(&self, error: &RequestError, request_id: &str) -> Answer {
        let overload = self.listener.http.context.config.overload.overload_status;
        Answer::error(error, request_id, overload)
    }

    /// Writes an answer that cost no prediction, rate-limited while predictions run.
    ///
    /// The first answer of a connection waits for its slot before it is written, so that a probe on
    /// a fresh connection never waits behind floods on persistent ones. So does every refusal and
    /// error: the connection's next request is then read at once. After any other answer, the next
    /// request is delayed instead.
    fn answer_cheap(
        &mut self,
        asked: &RequestInProgress,
        answer: Answer,
        is_probe: bool,
        least_wait: Duration,
    ) -> Result<After, ConnectionEnd> {
        let waits_before = self.answers == 0 || !is_probe && answer.status >= 400;
        if waits_before && !is_probe {
            self.delay(least_wait)?;
        } else if !self.entry().enter(ConnectionState::Answering) {
            return Err(ConnectionEnd::Closed);
        } else if waits_before {
            // A client that half-closes after its request still gets its answer.
            let pacer = &self.listener.pace.first_probe;
            sys::sleep(self.listener.slot_for_answer(pacer));
        }
        let after = self.answer(asked, &answer)?;
        if after == After::Continue && !waits_before {
            // It owes nothing during the wait, so it may be closed for a new connection.
            let later = &self.listener.pace.later;
            let wait = self.listener.slot_for_answer(later);
            if !wait.is_zero() {
                self.wait_for_next(wait)?;
            }
        }
        Ok(after)
    }

    /// Waits for the slot of an answer that is not a probe's, and at least for so long, or until a new
    /// connection needs this one's place.
    fn delay(&mut self, least: Duration) -> Result<(), ConnectionEnd> {
        let pace = &self.listener.pace;
        let pacer = if self.answers == 0 {
            &pace.first_other
        } else {
            &pace.later
        };
        let wait = self.listener.slot_for_answer(pacer).max(least);
        if wait.is_zero() {
            return Ok(());
        }
        let _owed = Owed::new(&self.listener.http.context.vitals.answers_owed);
        if !self.entry().enter(ConnectionState::Delayed) {
            return Err(ConnectionEnd::Closed);
        }
        let entry = &self.input.place.entry;
        let has_departed = self
            .watch
            .departs_within(entry, ConnectionState::Delayed, wait);
        self.is_evicted = !entry.is(ConnectionState::Delayed);
        if has_departed {
            return Err(ConnectionEnd::Closed);
        }
        Ok(())
    }

    /// Waits for a slot before the next request is read. The wait ends early if the client leaves or
    /// the connection is evicted.
    fn wait_for_next(&mut self, wait: Duration) -> Result<(), ConnectionEnd> {
        let entry = &self.input.place.entry;
        if !entry.enter(ConnectionState::Paced) {
            return Err(ConnectionEnd::Closed);
        }
        let mut watch = ClientWatch::answered(clock::instant());
        if watch.departs_within(entry, ConnectionState::Paced, wait) {
            if !self.input.has_more() {
                return Err(ConnectionEnd::Closed);
            }
            // The client has sent its last request and half-closed.
            sys::sleep(wait);
        }
        Ok(())
    }

    /// Writes an answer and decides what happens to the connection.
    fn answer(
        &mut self,
        asked: &RequestInProgress,
        answer: &Answer,
    ) -> Result<After, ConnectionEnd> {
        let draining = self.listener.http.context.vitals.phase() >= ServerPhase::Draining;
        let persistence = if asked.unread || draining || self.is_evicted || !asked.head.keep_alive {
            Persistence::Close
        } else if self.listener.shares_threads() {
            self.listener.clients().evicted.increment();
            Persistence::Close
        } else if asked.head.version < (1, 1) {
            Persistence::KeepAliveHttp10
        } else {
            Persistence::KeepAlive
        };
        let with_body = asked.head.method != tiny_http::Method::Head;
        self.write(answer, &asked.request_id, persistence, with_body)?;
        if asked.unread {
            return Ok(After::Linger);
        }
        self.input.consume(asked.buffered);
        if persistence == Persistence::Close {
            return Ok(After::Close);
        }
        Ok(After::Continue)
    }

    fn write(
        &mut self,
        answer: &Answer,
        request_id: &str,
        persistence: Persistence,
        with_body: bool,
    ) -> Result<(), ConnectionEnd> {
        let _owed = Owed::new(&self.listener.http.context.vitals.answers_owed);
        if !self.input.place.entry.enter(ConnectionState::Writing) {
            return Err(ConnectionEnd::Closed);
        }
        // Count before writing: a client that has its answer must find it in the metrics.
        let vitals = &self.listener.http.context.vitals;
        vitals.responses.count(answer.status, answer.code);
        let port = self.listener.main_port();
        response::print_head(answer, request_id, persistence, port, self.output);
        let body: &[u8] = if with_body { &answer.body } else { &[] };
        let patience = self.listener.http.context.config.limits.write_timeout;
        let mut writer = SocketWriter::new(&self.input.place.entry, patience);
        let sent = response::send(&mut writer, self.output, body);
        self.answers += 1;
        self.probed = None;
        sent.map_err(|error| match error.kind() {
            io::ErrorKind::TimedOut => ConnectionEnd::NotRead,
            _ => ConnectionEnd::Closed,
        })
    }
}
