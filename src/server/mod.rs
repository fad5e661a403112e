//! The whole server: listeners, lanes and threads, all owned by one place.
//!
//! The main thread runs [`Server::run`]: it ticks, supervises, and ends the server when told to. It
//! never joins a thread that may hang; returning ends them all.

mod drain;
mod file_watch;
pub(crate) mod loader;
mod sockets;
pub mod supervisor;

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use crate::config::{Config, Yielding};
use crate::error::StartError;
use crate::http::listener::{self, Listener};
use crate::http::listener_context::HttpContext;
use crate::http::socket::SocketFile;
use crate::job::Job;
use crate::lanes::admission::Admission;
use crate::lanes::queue::{self, Intake, LaneKind};
use crate::lifecycle::Signals;
use crate::logging::{AccessLog, ClientLog, Logging};
use crate::models::{LoadError, Loaded, ModelSource};
use crate::platform::cgroup::Cgroup;
use crate::platform::clock;
use crate::platform::fault::{Faults, ThreadRole};
use crate::platform::sys::{self, Slice};
use crate::platform::systemd::ServiceManager;
use crate::protocol::routes::ListenerKind;
use crate::server::supervisor::notify::Notifications;
use crate::server::supervisor::watchdog::{SelfProbe, Watchdog};
use crate::server::supervisor::{Supervisor, VerdictLog};
use crate::serving::acceptor::{self, Lanes};
use crate::serving::canary;
use crate::serving::context::Context;
use crate::serving::index_page;
use crate::serving::metrics::Exporter;
use crate::serving::worker::{self, Suspended};

use self::drain::DRAIN_TICK;
use self::loader::{Loader, LoaderEvent};
use self::sockets::Sockets;

/// The remedy if the system has too few threads for a server.
const FEWER_THREADS: &str = "start fewer with --predict-workers and --max-probe-connections";

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerEnd {
    /// It was told to end, and has drained.
    Stopped,
    /// It was told to abort, and has written its report.
    Aborted,
    /// A signal of this number ended it at once.
    Interrupted(i32),
}

/// The running server, as the main thread holds it.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    signals: Signals,
    supervisor: Supervisor,
    verdict_log: VerdictLog,
    listeners: Vec<Arc<Listener>>,
    http: Arc<HttpContext>,
    client_log: ClientLog,
    cgroup: Cgroup,
    /// Predictions that nobody took are refused from here at the end.
    queued: Intake<Job>,
    loader: Loader,
    notifications: Notifications,
    /// Dropping them removes the files of Unix sockets.
    files: Vec<SocketFile>,
}

impl Server {
    /// Opens the listeners, or takes those that `manager` has opened, and starts every thread. The
    /// model is loaded last, on its own thread.
    ///
    /// # Errors
    ///
    /// An address cannot be opened, or the system refuses threads or file descriptors.
    pub fn start(
        config: Config,
        cgroup: Cgroup,
        source: Arc<dyn ModelSource>,
        faults: Arc<dyn Faults>,
        logging: &Logging,
        manager: ServiceManager,
    ) -> Result<Self, StartError> {
        let signals =
            Signals::install().map_err(|error| failed("install signal handlers", &error))?;
        sys::raise_descriptor_limit();
        sys::return_freed_memory();
        if config.yielding == Yielding::Slice {
            sys::set_slice(Slice::Short);
        }
        let mut sockets = Sockets::open(&config, manager.sockets)?;
        let files = sockets.take_files();
        let needed = threads_at_start(&config, sockets.probe.is_some(), manager.watchdog.is_some());
        let no_threads = |error| StartError::no_threads(FEWER_THREADS, needed, &error);
        let waker = signals
            .waker()
            .map_err(|error| failed("open a pipe", &error))?;
        let (context, trial_wanted) = Context::new(config, Arc::clone(&faults), waker);
        context.vitals.cgroup.store(&cgroup.read());
        let (mut supervisor, acceptor_sender, queued) =
            start_threads(&context, trial_wanted, logging, faults).map_err(&no_threads)?;
        let http = Arc::new(HttpContext {
            admission: Admission::new(&context.config),
            access_log: AccessLog::new(context.config.access_log_rate),
            context: Arc::clone(&context),
            acceptor: acceptor_sender,
            main_address: sockets.main.address.clone(),
            probe_address: sockets.probe.as_ref().map(|probe| probe.address.clone()),
            exporter: Exporter::new(&context.vitals),
            statuses: AtomicUsize::new(0),
        });
        let listeners = start_listeners(sockets, &http, &mut supervisor).map_err(&no_threads)?;
        if let Some(interval) = manager.watchdog {
            let watchdog = Watchdog {
                self_probe: self_probe(&listeners),
                context: Arc::clone(&context),
                notifier: manager.notifier.clone(),
                interval,
            };
            supervisor
                .start("watchdog".to_owned(), move || watchdog.run())
                .map_err(&no_threads)?;
        }
        watch_model(&context, &signals, &mut supervisor).map_err(&no_threads)?;
        let loader = Loader::start(Arc::clone(&context), source).map_err(&no_threads)?;
        Ok(Server {
            notifications: Notifications::new(manager.notifier, Arc::clone(&context)),
            verdict_log: VerdictLog::new(Arc::clone(&context)),
            context,
            signals,
            supervisor,
            listeners,
            http,
            client_log: ClientLog::default(),
            cgroup,
            queued,
            loader,
            files,
        })
    }

    /// Runs until a signal ends the server, or its model cannot be loaded.
    ///
    /// # Errors
    ///
    /// The first model cannot be loaded.
    pub fn run(mut self) -> Result<ServerEnd, StartError> {
        let addresses: Vec<String> = self
            .listeners
            .iter()
            .map(|listener| listener.address().to_string())
            .collect();
        let probes = addresses.get(1).map_or_else(
            || "no probe listener".to_owned(),
            |url| format!("probes on {url}"),
        );
        log::info!("listening on {}, {probes}", addresses[0]);
        let sizing = &self.context.config.sizing;
        log::info!("{}", sizing.reasons());
        for warning in sizing.warnings() {
            log::warn!("{warning}");
        }
        while !self.signals.stop().is_stopped() {
            if self.signals.aborted() {
                return Ok(self.abort());
            }
            let due = self.supervisor.next_substitution().unwrap_or(Duration::MAX);
            self.wait(self.context.config.tick().min(due));
            self.tick();
            if self.signals.take_reload() {
                self.loader.reload();
            }
            while let Some(event) = self.loader.event() {
                self.tell(event, &addresses[0], &probes)?;
            }
            if self.loader.progresses() {
                self.notifications.progress_of_loading();
            }
        }
        let end = self.drain();
        // Before anything that may take long: a second after a signal that ends it at once, the
        // process is gone.
        self.files.clear();
        match end {
            ServerEnd::Aborted => Ok(self.abort()),
            end => Ok(end),
        }
    }

    /// How the server must end at once, if it must.
    fn ends_at_once(&self) -> Option<ServerEnd> {
        if let Some(signal) = self.signals.stop().ended_by() {
            return Some(ServerEnd::Interrupted(signal));
        }
        self.signals.aborted().then_some(ServerEnd::Aborted)
    }

    /// Reports what is known, because the process ends as it is.
    fn abort(&mut self) -> ServerEnd {
        self.verdict_log.report_abort();
        ServerEnd::Aborted
    }

    /// Reports the result of loading a model.
    fn tell(&mut self, event: LoaderEvent, url: &str, probes: &str) -> Result<(), StartError> {
        match event {
            LoaderEvent::Loaded(model) => {
                self.listeners[0].open();
                self.announce(model.as_ref(), url, probes);
                self.notifications.ready();
            }
            LoaderEvent::NotLoaded(error) => return Err(not_loaded(&self.context.config, &error)),
            LoaderEvent::Reloading => {
                log::info!("reloading the model");
                self.notifications.reloading();
            }
            LoaderEvent::Reloaded(model) => {
                log::info!("reloaded: serving {model}");
                self.notifications.ready();
            }
            LoaderEvent::NotReloaded(error) => {
                log::error!("not reloaded, the old model keeps serving: {error}");
                self.notifications.ready();
            }
        }
        Ok(())
    }

    /// Waits for an event, at most for `limit`.
    fn wait(&self, limit: Duration) {
        let deadline = clock::instant() + limit;
        if sys::wait_readable(&[self.signals.wake().as_fd()], Some(deadline)).is_err() {
            sys::sleep(DRAIN_TICK);
        }
        // Non-blocking: reads what was written to wake this thread.
        let _ = self.signals.wake().read(&mut [0; 64]);
    }

    fn tick(&mut self) {
        self.context.faults.inject(ThreadRole::Main);
        self.context.vitals.clock.tick();
        self.http.access_log.tick();
        self.context.failure_log.tick();
        self.supervisor.tick();
        self.verdict_log.tick();
        self.notifications.tick();
        sys::reap_orphans();
        for (signal, times) in self.signals.stop().take_repeated() {
            if times > 0 {
                log::warn!("{signal} came again; the server is already draining and continues");
            }
        }
        if let Some(reading) = self.cgroup.due(clock::instant()) {
            self.context.vitals.cgroup.store(&reading);
        }
        for listener in &self.listeners {
            listener.tick();
        }
        let counts = &self.context.vitals.counts.clients;
        for line in self.client_log.due(counts, clock::instant()) {
            log::warn!("{line}");
        }
    }

    fn announce(&self, loaded: &Loaded, url: &str, probes: &str) {
        let config = &self.context.config;
        log::info!(
            "serving {} on {url}, {probes}; prediction lane: {} workers, queue {}; probe lane: {} workers{}",
            loaded,
            config.predict_workers,
            config.predict_queue,
            config.probe_workers,
            if config.shared_lane {
                "; --shared-lane: probes wait behind predictions"
            } else {
                ""
            },
        );
        log::info!(
            "try: {}",
            index_page::curl(self.listeners[0].address(), loaded)
        );
    }
}

/// Starts the log, the acceptor, both lanes' workers and the canary.
fn start_threads(
    context: &Arc<Context>,
    trial_wanted: Receiver<()>,
    logging: &Logging,
    faults: Arc<dyn Faults>,
) -> io::Result<(Supervisor, Sender<Job>, Intake<Job>)> {
    let (predict, predict_intake) = queue::lane(LaneKind::Predict, &context.vitals);
    let (probe, probe_intake) = queue::lane(LaneKind::Probe, &context.vitals);
    let worker = |intake: &Intake<Job>| {
        let (context, intake) = (Arc::clone(context), intake.clone());
        let suspended = Suspended::new();
        move |slot| worker::run(&context, slot, &intake, &suspended)
    };
    let mut supervisor = Supervisor::new(Arc::clone(context), worker(&predict_intake));
    supervisor.start("log".to_owned(), logging.runner(faults))?;
    for slot in 0..context.config.probe_workers {
        let run = worker(&probe_intake);
        let name = worker::thread_name(LaneKind::Probe, slot);
        supervisor.start(name, move || run(slot))?;
    }
    for slot in 0..context.config.predict_workers {
        supervisor.start_predictor(slot)?;
    }
    let (sender, receiver) = crossbeam_channel::bounded(acceptor::intake_capacity(context));
    let lanes = Lanes { predict, probe };
    let acceptor_context = Arc::clone(context);
    supervisor.start("acceptor".to_owned(), move || {
        acceptor::run(&acceptor_context, &receiver, &lanes);
    })?;
    let canary_context = Arc::clone(context);
    supervisor.start("canary".to_owned(), move || {
        canary::run(&canary_context, &trial_wanted)
    })?;
    Ok((supervisor, sender, predict_intake))
}

/// Starts both listeners' threads; those that make room belong to the supervisor.
fn start_listeners(
    sockets: Sockets,
    http: &Arc<HttpContext>,
    supervisor: &mut Supervisor,
) -> io::Result<Vec<Arc<Listener>>> {
    let kinds = [
        (ListenerKind::Main, "reserve-main", Some(sockets.main)),
        (ListenerKind::Probe, "reserve-probe", sockets.probe),
    ];
    let mut listeners: Vec<Arc<Listener>> = Vec::new();
    for (kind, name, socket) in kinds {
        let Some(socket) = socket else {
            continue;
        };
        let relief = listeners.first().map(Arc::as_ref);
        let listener = Listener::new(kind, socket, Arc::clone(http), relief)?;
        let listener = Arc::new(listener);
        let reserved = Arc::clone(&listener);
        supervisor.start(name.to_owned(), move || reserved.evict_one())?;
        // The holder of an inherited main listener keeps its connections until they can be served.
        if kind == ListenerKind::Probe || !listener.is_inherited() {
            listener.start()?;
        }
        listeners.push(listener);
    }
    Ok(listeners)
}

/// How many threads [`Server::start`] starts, the main thread included.
fn threads_at_start(config: &Config, has_probe_listener: bool, has_watchdog: bool) -> usize {
    // One more makes room.
    let conn = |kind, cap: usize| listener::threads_at_start(kind, cap) + 1;
    let main = conn(ListenerKind::Main, config.limits.max_connections);
    let probe = conn(ListenerKind::Probe, config.limits.max_probe_connections);
    let watches = config.watch && config.model.file.is_some();
    // Main, log, acceptor, canary, loader.
    5 + config.predict_workers
        + config.probe_workers
        + main
        + if has_probe_listener { probe } else { 0 }
        + usize::from(watches)
        + usize::from(has_watchdog)
}

fn failed(what: &str, error: &io::Error) -> StartError {
    StartError::system(format!("cannot {what}: {error}"), error)
}

/// Why there is no model to serve: a missing file is a system error.
fn not_loaded(config: &Config, error: &LoadError) -> StartError {
    let file = config.model.file.as_deref().map(std::fs::metadata);
    match file {
        Some(Err(cause)) => StartError::system(error.to_string(), &cause),
        _ => StartError::Failed(error.to_string()),
    }
}

/// Chooses how the watchdog knows whether the probe listener answers.
fn self_probe(listeners: &[Arc<Listener>]) -> SelfProbe {
    match listeners.get(1) {
        None => {
            log::info!("the watchdog has no probe listener to ask, so it relies on /livez alone");
            SelfProbe::Nothing
        }
        Some(listener) if sockets::is_within_reach(listener.address(), listener.socket()) => {
            SelfProbe::Ask(listener.address().clone())
        }
        Some(listener) => {
            log::info!(
                "the watchdog cannot connect to {} from here, so it checks whether connections there are accepted",
                listener.address()
            );
            SelfProbe::Look(Arc::clone(listener))
        }
    }
}

/// Starts watching the model's file, if asked to.
fn watch_model(
    context: &Arc<Context>,
    signals: &Signals,
    supervisor: &mut Supervisor,
) -> io::Result<()> {
    let (true, Some(path)) = (context.config.watch, context.config.model.file.clone()) else {
        return Ok(());
    };
    let loaded = file_watch::Identity::of(&path);
    let (reload, waker) = (signals.reload_request(), context.waker.clone());
    supervisor.start("watch".to_owned(), move || {
        file_watch::run(&path, loaded, &reload, &waker);
    })
}
