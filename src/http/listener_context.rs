//! What connections share: with everybody on HTTP, and with the others of their listener.

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
    /// The main listener's address, for whoever asked elsewhere.
    pub main_address: Address,
    /// The probe listener's address, if there is one, likewise.
    pub probe_address: Option<Address>,
    /// What renders the metrics.
    pub exporter: Exporter,
    /// Requests for `/statusz` that are being answered.
    pub statuses: AtomicUsize,
}

/// What a connection knows of its listener.
#[derive(Debug)]
pub(crate) struct ListenerContext {
    /// Which listener it is.
    pub(crate) kind: ListenerKind,
    /// Its open connections.
    pub(crate) table: Arc<ConnectionTable>,
    /// The connections of which one goes where the system has no descriptor left.
    pub(crate) relief: Arc<ConnectionTable>,
    /// A connection waits for room: the next one that has its answer is closed for it.
    pub(crate) crowded: AtomicBool,
    /// The pace of its answers that cost no prediction.
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

    /// Its open connections, for another listener.
    pub(crate) fn table(&self) -> Arc<ConnectionTable> {
        Arc::clone(&self.table)
    }

    /// What clients did, counted by reason.
    pub(crate) fn clients(&self) -> &ClientCounts {
        &self.http.context.vitals.counts.clients
    }

    /// Takes a slot of `pacer`, and returns how long it is off; nobody waits while no prediction is
    /// about.
    pub(crate) fn slot(&self, pacer: &Pacer) -> Duration {
        let vitals = &self.http.context.vitals;
        if !vitals.predict.is_occupied() {
            return Duration::ZERO;
        }
        pacer.reserve(vitals.clock.now().0)
    }

    /// Takes a slot as [`slot`](Self::slot) does, for an answer, whose wait is counted.
    pub(crate) fn slot_for_answer(&self, pacer: &Pacer) -> Duration {
        let wait = self.slot(pacer);
        self.http.context.vitals.listeners[self.kind as usize]
            .paced
            .add(wait);
        wait
    }

    /// Takes a slot of `pacer` for a piece of a body, and returns how long it is off; `None` where none
    /// is needed: nobody waits while no prediction is about and little is buffered.
    pub(crate) fn slot_for_piece(&self, pacer: &Pacer) -> Option<Duration> {
        let context = &self.http.context;
        let budget = &context.budget;
        if !context.vitals.predict.is_occupied() && budget.bytes() < budget.bytes_max() / 8 {
            return None;
        }
        Some(pacer.reserve(context.vitals.clock.now().0))
    }

    /// Whether the connection that is being answered has to make room for one that waits; says so to
    /// one of them only.
    pub(crate) fn shares_threads(&self) -> bool {
        self.crowded.load(Ordering::Relaxed) && self.crowded.swap(false, Ordering::AcqRel)
    }

    /// Connections of this listener that are open now.
    pub(crate) fn open(&self) -> &AtomicUsize {
        &self.http.context.vitals.listeners[self.kind as usize].open_connections
    }
}
