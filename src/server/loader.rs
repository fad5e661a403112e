//! Loads the model, and again on request, each time on a new thread.
//!
//! The main thread starts it and sees its result. A model is served only once it is loaded, checked
//! and tried. The one before it serves until then, and longer if that fails.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, TryRecvError};

use crate::config::ReloadSignature;
use crate::job::deployment::Deployment;
use crate::lanes::cpu_priority::{CpuUse, Priority};
use crate::models::{LoadError, Loaded, ModelSource, signature};
use crate::platform::panic;
use crate::platform::sys;
use crate::serving::canary;
use crate::serving::context::Context;
use crate::vitals::{ServerPhase, TrialVerdict};

/// Models are trees, and their readers recurse.
pub(crate) const STACK_BYTES: usize = 8 * 1024 * 1024;

type LoadResult = Result<Arc<Loaded>, LoadError>;

/// The result of loading since the last look.
pub(super) enum LoaderEvent {
    /// The first model is served.
    Loaded(Arc<Loaded>),
    /// There is no model to serve.
    NotLoaded(LoadError),
    /// A reload begins.
    Reloading,
    /// Another model is served.
    Reloaded(Arc<Loaded>),
    /// The old model keeps serving, and why.
    NotReloaded(LoadError),
}

/// Loads models, one at a time.
pub(super) struct Loader {
    context: Arc<Context>,
    /// Whose model it loads.
    deployment: Arc<Deployment>,
    source: Arc<dyn ModelSource>,
    running: Option<Running>,
    wanted: bool,
}

struct Running {
    loaded: Receiver<LoadResult>,
    thread_id: Arc<AtomicU32>,
    /// Its progress at the last look.
    done: Option<Done>,
    _thread: JoinHandle<()>,
}

/// A thread's progress: CPU time in clock ticks, and bytes read.
pub(crate) type Done = (u64, u64);

impl std::fmt::Debug for Loader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let running = self.running.is_some();
        let mut debug = f.debug_struct("Loader");
        debug.field("running", &running).finish_non_exhaustive()
    }
}

impl Loader {
    /// Begins to load the first model.
    ///
    /// # Errors
    ///
    /// The system refuses a thread.
    pub(super) fn start(context: Arc<Context>, source: Arc<dyn ModelSource>) -> io::Result<Self> {
        let mut loader = Loader {
            deployment: Arc::clone(context.registry.default_deployment()),
            context,
            source,
            running: None,
            wanted: false,
        };
        loader.begin()?;
        Ok(loader)
    }

    /// Requests a reload. One in progress may have read the file already, so another follows.
    pub(super) fn reload(&mut self) {
        self.wanted = true;
    }

    /// Looks for the result.
    pub(super) fn event(&mut self) -> Option<LoaderEvent> {
        if let Some(running) = &self.running {
            let loaded = match running.loaded.try_recv() {
                Err(TryRecvError::Empty) => return None,
                Ok(loaded) => loaded,
                Err(TryRecvError::Disconnected) => Err(LoadError(
                    "the thread that loads the model ended".to_owned(),
                )),
            };
            self.running = None;
            return Some(self.end(loaded));
        }
        if !std::mem::take(&mut self.wanted) || self.context.vitals.phase() >= ServerPhase::Draining
        {
            return None;
        }
        let reloads = &self.deployment.vitals.reloads;
        reloads.running.store(true, Ordering::Release);
        if let Err(error) = self.begin() {
            let error = LoadError(format!("no thread can be started for it: {error}"));
            return Some(self.end(Err(error)));
        }
        Some(LoaderEvent::Reloading)
    }

    /// Whether the loading thread has computed or read anything since the last look.
    pub(super) fn progresses(&mut self) -> bool {
        let Some(running) = &mut self.running else {
            return false;
        };
        let work = work_of(running.thread_id.load(Ordering::Acquire));
        let before = std::mem::replace(&mut running.done, work);
        work.is_some() && work != before
    }

    fn end(&self, loaded: LoadResult) -> LoaderEvent {
        let reloads = &self.deployment.vitals.reloads;
        if !reloads.running.load(Ordering::Acquire) {
            return match loaded {
                Ok(model) => LoaderEvent::Loaded(model),
                Err(error) => LoaderEvent::NotLoaded(error),
            };
        }
        reloads.end(loaded.as_ref().err().map(|error| error.0.as_str().into()));
        match loaded {
            Ok(model) => LoaderEvent::Reloaded(model),
            Err(error) => LoaderEvent::NotReloaded(error),
        }
    }

    fn begin(&mut self) -> io::Result<()> {
        let (sender, loaded) = crossbeam_channel::bounded(1);
        let (context, source) = (Arc::clone(&self.context), Arc::clone(&self.source));
        let deployment = Arc::clone(&self.deployment);
        let thread_id = Arc::new(AtomicU32::new(0));
        let own_id = Arc::clone(&thread_id);
        let thread = sys::spawn("loader", STACK_BYTES, move || {
            own_id.store(sys::thread_id(), Ordering::Release);
            let _as_it_comes = Priority::new(context.config.yielding, CpuUse::Computing);
            let loaded = load(&context, &deployment, source.as_ref());
            // Only the main thread receives, and there is room for one.
            let _ = sender.try_send(loaded);
            context.waker.wake();
        })?;
        self.running = Some(Running {
            loaded,
            thread_id,
            done: None,
            _thread: thread,
        });
        Ok(())
    }
}

/// Loads a model, tries it, and only then serves it.
///
/// The first model is served whatever its trial says; `/readyz` tells. A later one that fails its
/// trial would be worse than the present one, and one with another signature would answer requests
/// meant for the present one.
fn load(context: &Context, deployment: &Deployment, source: &dyn ModelSource) -> LoadResult {
    let request = &context.config.model;
    let file = request.file.as_deref();
    let loaded = panic::catch(|| source.load(request))
        .unwrap_or_else(|panic| Err(LoadError(format!("loading the model panicked: {panic}"))));
    let loaded = loaded?;
    let (vitals, clock) = (&deployment.vitals, &context.vitals.clock);
    let place = || file.map_or_else(|| "the embedded model".into(), Path::to_string_lossy);
    let before = deployment.slot.get();
    let is_first = before.is_none();
    let after = loaded.model.signature();
    let change = before.and_then(|before| signature::change(before.model().signature(), after));
    if let Some(change) = &change
        && context.config.verdicts.reload_signature == ReloadSignature::Same
    {
        return Err(LoadError(format!(
            "{} has another signature: {change}; --reload-signature any accepts it",
            place()
        )));
    }
    if is_first {
        vitals.trials.begin(clock.now());
    }
    let began = clock.now();
    let verdict = canary::try_model(&loaded);
    let took = clock.now().since(began);
    if let (false, TrialVerdict::Failed(reason)) = (is_first, &verdict) {
        return Err(LoadError(format!("{} failed its trial: {reason}", place())));
    }
    vitals.service_times.record_trial(took);
    if let Some(change) = &change {
        log::warn!("from now on the signature is another one: {change}");
    }
    vitals.reloads.note_signature(change.map(Arc::from));
    for note in &loaded.notes {
        log::warn!("the model {}: {note}", loaded.name);
    }
    // Only this thread puts a model there.
    let version = deployment.slot.put(Arc::clone(&loaded));
    vitals.loaded.store(true, Ordering::Release);
    let now = clock.now();
    vitals.trials.end(version, verdict, now);
    vitals.reloads.loaded_at.store(now);
    context.vitals.advance(ServerPhase::Serving);
    // Memory used while reading, and the model before, unless a prediction still uses it.
    sys::trim_memory();
    Ok(loaded)
}

/// Reads a thread's progress so far (proc(5)); `None` if it is unavailable.
pub(crate) fn work_of(thread_id: u32) -> Option<Done> {
    let (_, ticks) = sys::thread_state(thread_id)?;
    let io = fs::read_to_string(format!("/proc/self/task/{thread_id}/io")).unwrap_or_default();
    let bytes = io.lines().find_map(|line| line.strip_prefix("rchar:"));
    let bytes = bytes.and_then(|bytes| bytes.trim().parse().ok());
    Some((ticks, bytes.unwrap_or(0)))
}
