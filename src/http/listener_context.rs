//! What connections share: with all others, and with those of their listener.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::Sender;

use crate::http::connection_table::ConnectionTable;
use crate::job::Job;
use crate::lanes::admission::{Admission, Pace, Pacer};
use crate::logging::AccessLog;
use crate::platform::address::Address;
use crate::protocol::routes::ListenerKind;
use crate::serving::context::Context;
use crate::serving::metrics::Exporter;
use crate::vitals::ClientCounts;

/// What a listener's threads share with the rest of the server.
#[derive(Debug)]
pub struct HttpContext {
    /// What all threads share.
    pub context: Arc<Context>,
    /// What is admitted.
    pub admission: Admission,
    /// Where jobs go.
    pub acceptor: Sender<Job>,
    /// One line for each prediction.
    pub access_log: AccessLog,
    /// The main listener's address, for pages served elsewhere.
    pub main_address: Address,
    /// The probe listener's address, if there is one, for the same purpose.
    pub probe_address: Option<Address>,
    /// What renders the metrics.
    pub exporter: Exporter,
    /// `/statusz` requests being answered.
    pub statuses: AtomicUsize,
}

/// What a connection knows about its listener.
#[derive(Debug)]
pub(crate) struct ListenerContext {
    /// Which listener it is.
    pub(crate) kind: ListenerKind,
    /// Its open connections.
    pub(crate) table: Arc<ConnectionTable>,
    /// The table that gives up a connection if the system has no file descriptor left.
    pub(crate) relief: Arc<ConnectionTable>,
    /// A new connection waits for room: the next connection that gets its answer is closed for it.
    pub(crate) crowded: AtomicBool,
    /// The rate limit of its cheap answers (probes, refusals, errors).
    pub(crate) pace: Pace,
    /// What it shares with the rest of the server.
    pub(crate) http: Arc<HttpContext>,
}

impl ListenerContext {
    /// The main listener's TCP port, which answers of the probe listener name.
    pub(crate) fn main_port(&self) -> Option<u16> {
        match self.kind {
            ListenerKind::Main => None,
            ListenerKind::Probe => self.http.main_address.port(),
        }
    }

    /// The connections of the listener, as another listener sees them.
    pub(crate) fn table(&self) -> Arc<ConnectionTable> {
        Arc::clone(&self.table)
    }

    /// What clients did, counted by reason.
    pub(crate) fn clients(&self) -> &ClientCounts {
        &self.http.context.vitals.counts.clients
    }

    /// Takes a slot of `pacer` and returns how far off it is. There is no wait while no prediction
    /// waits or runs.
    pub(crate) fn slot(&self, pacer: &Pacer) -> Duration {
        let vitals = &self.http.context.vitals;
        if !vitals.predict.is_occupied() {
            return Duration::ZERO;
        }
        pacer.reserve(vitals.clock.now().0)
    }

    /// Takes a slot as [`slot`](Self::slot) does, for an answer, and counts its wait.
    pub(crate) fn slot_for_answer(&self, pacer: &Pacer) -> Duration {
        let wait = self.slot(pacer);
        self.http.context.vitals.listeners[self.kind as usize]
            .paced
            .add(wait);
        wait
    }

    /// Takes slots for the time that a refused request has cost a worker, and returns how far off they
    /// are: a client whose requests are refused gets less of the workers than one that is served.
    pub(crate) fn slots_for_waste(&self, service_time: Duration) -> Duration {
        let vitals = &self.http.context.vitals;
        let slots = u32::try_from(service_time.as_millis()).unwrap_or(u32::MAX);
        if slots == 0 || !vitals.predict.is_occupied() {
            return Duration::ZERO;
        }
        let wait = self.pace.wasted.reserve_all(vitals.clock.now().0, slots);
        vitals.listeners[self.kind as usize].paced.add(wait);
        wait
    }

    /// Takes a slot of `pacer` for a piece of a body and returns how far off it is; `None` if none
    /// is needed, because no prediction waits or runs and little is buffered.
    pub(crate) fn slot_for_piece(&self, pacer: &Pacer) -> Option<Duration> {
        let context = &self.http.context;
        let budget = &context.budget;
        if !context.vitals.predict.is_occupied() && budget.bytes() < budget.bytes_max() / 8 {
            return None;
        }
        Some(pacer.reserve(context.vitals.clock.now().0))
    }

    /// Whether the connection that is being answered must make room for a new one; `true` for one
    /// connection only.
    pub(crate) fn shares_threads(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) && self.crowded.swap(false, Ordering::AcqRel)
    }

    /// Number of open connections of this listener.
    pub(crate) fn open(&self) -> &AtomicUsize {
        &self.http.context.vitals.listeners[self.kind as usize].open_connections
    }
}
