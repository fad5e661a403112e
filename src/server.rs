//! The server put together: listeners, lanes and threads from one place, which owns every handle.
//!
//! The main thread runs [`Server::run`]: it ticks, supervises, and ends the server when told to. It
//! never joins a thread that may hang; returning ends them all.

use std::io::{self, PipeWriter, Read};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};

use crate::acceptor::{self, Lanes};
use crate::address::Address;
use crate::admission;
use crate::budget::Budget;
use crate::canary;
use crate::clock::{self, ProcessClock};
use crate::config::{Config, ProbeListen, Yielding};
use crate::context::Context;
use crate::error::StartError;
use crate::fault::Faults;
use crate::http::context::HttpContext;
use crate::http::listener::Listener;
use crate::http::page;
use crate::http::socket::{self, ListeningSocket, SocketFile};
use crate::job::Job;
use crate::lane::{self, Intake, LaneKind};
use crate::lifecycle::{self, Signals, Waker};
use crate::logging::{AccessLog, ClientLog, FailureLog, Logging};
use crate::model::{LoadError, Model, ModelSource};
use crate::panic;
use crate::priority::{Priority, Work};
use crate::route::ListenerKind;
use crate::supervise::{Crew, Watch};
use crate::sys::{self, Slice};
use crate::vitals::{Phase, Vitals};
use crate::worker;

/// How often the main thread looks around while the server ends.
const DRAIN_TICK: Duration = Duration::from_millis(20);

/// How long the last answers may take to be written once everything is refused.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// Room for jobs beyond one for each connection: probes whose client left them behind.
const PROBE_QUEUE_SPARE: usize = 16;

/// What the loader thread brings.
type Loaded = Result<Arc<dyn Model>, LoadError>;

/// The running server, as the main thread holds it.
#[derive(Debug)]
pub struct Server {
    context: Arc<Context>,
    signals: Signals,
    crew: Crew,
    watch: Watch,
    listeners: Vec<Arc<Listener>>,
    http: Arc<HttpContext>,
    client_log: ClientLog,
    /// Predictions that nobody took up are refused from here at the end.
    left_over: Intake<Job>,
    loaded: Receiver<Loaded>,
    /// Dropping it ends the connection threads that wait.
    _stop: PipeWriter,
    /// Dropping them takes Unix sockets' files away.
    _files: Vec<SocketFile>,
}

/// The listening sockets, before anything runs.
#[derive(Debug)]
struct Sockets {
    main: ListeningSocket,
    probe: Option<ListeningSocket>,
}

impl Sockets {
    /// Takes what is to be removed at the end.
    fn take_files(&mut self) -> Vec<SocketFile> {
        let probe = self.probe.as_mut().and_then(|probe| probe.file.take());
        self.main.file.take().into_iter().chain(probe).collect()
    }
}

impl Server {
    /// Opens the listeners and starts every thread; the model is loaded last, on its own thread.
    ///
    /// # Errors
    /// Where an address is not to be had, or the system has no threads or descriptors to give.
    pub fn start(
        config: Config,
        source: Arc<dyn ModelSource>,
        faults: Arc<dyn Faults>,
        logging: &Logging,
    ) -> Result<Self, StartError> {
        let signals =
            Signals::install().map_err(|error| failed("install signal handlers", &error))?;
        sys::raise_descriptor_limit();
        sys::return_freed_memory();
        if config.yielding == Yielding::Slice {
            sys::set_slice(Slice::Short);
        }
        let mut sockets = open_sockets(&config)?;
        let files = sockets.take_files();
        let waker = signals
            .waker()
            .map_err(|error| failed("open a pipe", &error))?;
        let (context, trial_wanted) = new_context(config, Arc::clone(&faults), waker);
        let (mut crew, acceptor_sender, left_over) =
            start_crew(&context, trial_wanted, logging, faults)
                .map_err(|error| failed("start threads", &error))?;
        let (stop_reader, stop) = io::pipe().map_err(|error| failed("open a pipe", &error))?;
        let http = Arc::new(HttpContext {
            access_log: AccessLog::new(context.config.access_log_rate),
            context: Arc::clone(&context),
            acceptor: acceptor_sender,
            main_address: sockets.main.address.clone(),
            statuses: AtomicUsize::new(0),
            stop: stop_reader,
        });
        let listeners = start_listeners(sockets, &http, &mut crew)
            .map_err(|error| failed("start connection threads", &error))?;
        let loaded =
            start_loader(&context, source).map_err(|error| failed("start a thread", &error))?;
        Ok(Server {
            watch: Watch::new(Arc::clone(&context)),
            context,
            signals,
            crew,
            listeners,
            http,
            client_log: ClientLog::default(),
            left_over,
            loaded,
            _stop: stop,
            _files: files,
        })
    }

    /// Runs until a signal ends the server, or its model cannot be loaded.
    ///
    /// # Errors
    /// Where the first model cannot be loaded.
    pub fn run(mut self) -> Result<(), StartError> {
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
        while !self.signals.told() {
            let due = self.crew.next_substitution().unwrap_or(Duration::MAX);
            self.wait(self.context.config.tick().min(due));
            self.tick();
            match self.loaded.try_recv() {
                Ok(Ok(model)) => self.announce(model.as_ref(), &addresses[0], &probes),
                Ok(Err(error)) => return Err(StartError::Failed(error.to_string())),
                Err(_) => {}
            }
        }
        self.drain();
        Ok(())
    }

    /// Waits until something is up, at most for `limit`.
    fn wait(&self, limit: Duration) {
        let deadline = clock::instant() + limit;
        if sys::wait_readable(&[self.signals.wake().as_fd()], Some(deadline)).is_err() {
            sys::sleep(DRAIN_TICK);
        }
        // Non-blocking: takes what was written to wake this thread.
        let _ = self.signals.wake().read(&mut [0; 64]);
    }

    fn tick(&mut self) {
        self.context.vitals.clock.tick();
        self.http.access_log.tick();
        self.context.failure_log.tick();
        self.crew.tick();
        self.watch.tick();
        for listener in &self.listeners {
            listener.tick();
        }
        let counts = &self.context.vitals.counts.clients;
        for line in self.client_log.due(counts, clock::instant()) {
            log::warn!("{line}");
        }
    }

    fn announce(&self, model: &dyn Model, url: &str, probes: &str) {
        let config = &self.context.config;
        let schema = model.schema();
        log::info!(
            "serving {} ({}, {} features, {} classes) on {url}, {probes}; prediction lane: {} workers, queue {}; probe lane: {} workers{}",
            schema.name,
            schema.algorithm,
            schema.features.len(),
            schema.classes.len(),
            config.predict_workers,
            config.predict_queue,
            config.probe_workers,
            if config.shared_lane {
                "; --shared-lane: probes wait behind predictions"
            } else {
                ""
            },
        );
        log::info!("try: {}", page::curl(self.listeners[0].address(), model));
    }

    /// Follows the timeline of `lifecycle` to its end.
    fn drain(&mut self) {
        let began = clock::instant();
        let vitals = Arc::clone(&self.context.vitals);
        let config = &self.context.config;
        let asked = vitals.readyz_seen.load(Ordering::Relaxed);
        let default_grace = if asked {
            Duration::from_secs(5)
        } else {
            Duration::ZERO
        };
        let (grace, timeout) = (
            config.drain_grace.unwrap_or(default_grace),
            config.drain_timeout,
        );
        log::info!(
            "draining: grace {}, then at most {} for admitted predictions",
            humantime::format_duration(grace),
            humantime::format_duration(timeout),
        );
        loop {
            // From the moment the grace is over new predictions are refused, so that what is left
            // can only become less: the phase moves first, then the work is counted.
            let since = clock::instant().saturating_duration_since(began);
            let last = vitals.phase();
            vitals.advance(if since < grace {
                Phase::Draining
            } else {
                Phase::Finishing
            });
            if last < Phase::Finishing && vitals.phase() == Phase::Finishing {
                self.listeners
                    .iter()
                    .for_each(|listener| listener.close_idle());
            }
            let work_left = vitals.predictions_owed.load(Ordering::Acquire) > 0;
            let phase = lifecycle::phase_at(since, grace, timeout, work_left);
            vitals.advance(phase);
            if phase == Phase::Stopped {
                break;
            }
            self.wait(DRAIN_TICK);
            self.tick();
        }
        self.refuse_what_is_left(clock::instant() + LAST_ANSWERS);
        log::info!("stopped");
    }

    fn refuse_what_is_left(&mut self, deadline: Instant) {
        let vitals = Arc::clone(&self.context.vitals);
        loop {
            while let Some(job) = self.left_over.take_now() {
                job.refuse(admission::draining(), clock::instant());
            }
            if vitals.answers_owed.load(Ordering::Acquire) == 0 || clock::instant() >= deadline {
                return;
            }
            self.wait(DRAIN_TICK);
            self.tick();
        }
    }
}

/// Makes what all threads share, and what wakes the canary.
fn new_context(
    config: Config,
    faults: Arc<dyn Faults>,
    waker: Waker,
) -> (Arc<Context>, Receiver<()>) {
    let limits = &config.limits;
    let probe_queue = limits.max_connections + limits.max_probe_connections + PROBE_QUEUE_SPARE;
    let vitals = Arc::new(Vitals::new(
        ProcessClock::new(config.tick()),
        (config.predict_queue, config.predict_workers),
        (probe_queue, config.probe_workers),
    ));
    let budget = Budget::new(
        limits.max_buffered,
        limits.max_connections + config.predict_workers,
    );
    let (trial_wanted, wanted) = crossbeam_channel::bounded(1);
    let context = Arc::new(Context {
        budget: Arc::new(budget),
        config,
        vitals,
        model: OnceLock::new(),
        failure_log: FailureLog::new("predictions failed"),
        trial_wanted,
        waker,
        faults,
    });
    (context, wanted)
}

/// Starts the log, the acceptor, both lanes' workers and the canary.
fn start_crew(
    context: &Arc<Context>,
    trial_wanted: Receiver<()>,
    logging: &Logging,
    faults: Arc<dyn Faults>,
) -> io::Result<(Crew, Sender<Job>, Intake<Job>)> {
    let (predict, predict_intake) = lane::lane(LaneKind::Predict, &context.vitals);
    let (probe, probe_intake) = lane::lane(LaneKind::Probe, &context.vitals);
    let worker = |intake: &Intake<Job>| {
        let (context, intake) = (Arc::clone(context), intake.clone());
        move |seat| worker::run(&context, seat, &intake)
    };
    let mut crew = Crew::new(Arc::clone(context), worker(&predict_intake));
    crew.start("log".to_owned(), logging.runner(faults))?;
    for seat in 0..context.config.probe_workers {
        let run = worker(&probe_intake);
        let name = worker::thread_name(LaneKind::Probe, seat);
        crew.start(name, move || run(seat))?;
    }
    for seat in 0..context.config.predict_workers {
        crew.start_predictor(seat)?;
    }
    let (sender, receiver) = crossbeam_channel::bounded(acceptor::intake_capacity(context));
    let lanes = Lanes { predict, probe };
    let acceptor_context = Arc::clone(context);
    crew.start("acceptor".to_owned(), move || {
        acceptor::run(&acceptor_context, &receiver, &lanes);
    })?;
    let canary_context = Arc::clone(context);
    crew.start("canary".to_owned(), move || {
        canary::run(&canary_context, &trial_wanted)
    })?;
    Ok((crew, sender, predict_intake))
}

/// Loads the model, tries it, and only then puts it in its place; also warms it.
fn start_loader(
    context: &Arc<Context>,
    source: Arc<dyn ModelSource>,
) -> io::Result<Receiver<Loaded>> {
    const STACK_BYTES: usize = 8 * 1024 * 1024;
    let (sender, receiver) = crossbeam_channel::bounded(1);
    let context = Arc::clone(context);
    sys::spawn("loader", STACK_BYTES, move || {
        let _as_it_comes = Priority::new(context.config.yielding, Work::Computing);
        let file = context.config.model.as_deref();
        let loaded = panic::catch(|| source.load(file))
            .unwrap_or_else(|panic| Err(LoadError(format!("loading the model panicked: {panic}"))));
        if let Ok(model) = &loaded {
            let vitals = &context.vitals;
            vitals.trials.begin(vitals.clock.now());
            let verdict = canary::try_model(model.as_ref());
            // This thread alone puts a model there.
            let _ = context.model.set(Arc::clone(model));
            vitals.loaded.store(true, Ordering::Release);
            vitals.trials.end(verdict, vitals.clock.now());
            vitals.advance(Phase::Serving);
        }
        // The main thread alone receives, and has room for one.
        let _ = sender.try_send(loaded);
        context.waker.wake();
    })?;
    Ok(receiver)
}

fn open_sockets(config: &Config) -> Result<Sockets, StartError> {
    let open = |option: &str, address: &Address| {
        socket::open(address, config.socket_mode)
            .map_err(|error| cannot_listen(option, address, &error))
    };
    let main = open("--listen", &config.listen)?;
    let probe = match &config.probe_listen {
        ProbeListen::Off => None,
        ProbeListen::At(address) => Some(open("--probe-listen", address)?),
        ProbeListen::Beside => open_beside(config, &main.address),
    };
    Ok(Sockets { main, probe })
}

/// Opens the probe listener nobody asked for; where it cannot be, probes stay on the main one.
fn open_beside(config: &Config, main: &Address) -> Option<ListeningSocket> {
    // As it was asked for: beside port 0 stands another free one.
    let Some(address) = config.listen.beside() else {
        log::warn!(
            "no probe listener: there is no address beside {main}; probes are answered there only; choose one with --probe-listen"
        );
        return None;
    };
    let opened = socket::open(&address, config.socket_mode);
    opened
        .inspect_err(|error| {
            let place = match address.port() {
                Some(port) => format!("port {port}"),
                None => address.to_string(),
            };
            log::warn!(
                "no probe listener on {place}: {error}; probes are answered on {main} only; choose another with --probe-listen",
            );
        })
        .ok()
}

/// Starts both listeners' threads; those that make room belong to the crew.
fn start_listeners(
    sockets: Sockets,
    http: &Arc<HttpContext>,
    crew: &mut Crew,
) -> io::Result<Vec<Arc<Listener>>> {
    let kinds = [
        (ListenerKind::Main, "reserve-main", Some(sockets.main)),
        (ListenerKind::Probe, "reserve-probe", sockets.probe),
    ];
    let mut listeners: Vec<Arc<Listener>> = Vec::new();
    for (kind, name, socket) in kinds {
        let Some(ListeningSocket {
            socket, address, ..
        }) = socket
        else {
            continue;
        };
        let relief = listeners.first().map(Arc::as_ref);
        let listener = Listener::new(kind, socket, address, Arc::clone(http), relief);
        let listener = Arc::new(listener);
        let reserved = Arc::clone(&listener);
        crew.start(name.to_owned(), move || reserved.make_room())?;
        listener.start()?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn failed(what: &str, error: &io::Error) -> StartError {
    StartError::Failed(format!("cannot {what}: {error}"))
}

fn cannot_listen(option: &str, address: &Address, error: &io::Error) -> StartError {
    let remedy = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("stop the process that holds it, or choose another with {option}")
        }
        io::ErrorKind::PermissionDenied if address.path().is_some() => {
            format!("its folder must be writable; choose another path with {option}")
        }
        io::ErrorKind::AlreadyExists => format!("choose another path with {option}"),
        io::ErrorKind::NotFound => {
            format!("its folder must exist; choose another path with {option}")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "ports below 1024 need a privilege (CAP_NET_BIND_SERVICE); choose another with {option}"
            )
        }
        _ => format!("choose an address of this machine with {option}"),
    };
    StartError::Failed(format!(
        "cannot listen on {}: {error}; {remedy}",
        address.typed()
    ))
}
