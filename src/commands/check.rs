//! `lanekeeper check`: would `serve` start with these settings and this model file? Opens no port;
//! for `ExecStartPre=`, and before a reload.
//!
//! The model is loaded on its own thread while the main thread asks a service manager for time as
//! long as there is progress, as `serve` does.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use crate::commands::output;
use crate::config::{ModelRequest, Resources, ServeArgs};
use crate::error::StartError;
use crate::models::{Loaded, ModelSource};
use crate::platform::cgroup::Cgroup;
use crate::platform::panic;
use crate::platform::sys;
use crate::platform::systemd::{self, Notifier};
use crate::server::loader;
use crate::server::supervisor::notify::LOADING_PATIENCE;
use crate::serving::canary;
use crate::vitals::TrialVerdict;

/// How often progress of loading is checked.
const LOOK: Duration = Duration::from_secs(1);

/// Checks the settings, loads the model and tries it, and prints what would be served.
///
/// # Errors
///
/// `Usage` for wrong settings; `Failed` for a model that cannot be loaded or fails its trial.
pub fn run(args: ServeArgs, source: &Arc<dyn ModelSource>) -> Result<(), StartError> {
    super::warn_of_unknown_variables();
    let config = args.validate(Resources::here(&Cgroup::find(Path::new("/")).read()))?;
    let model = load(source, config.model.clone())?;
    let notes: String = model
        .notes
        .iter()
        .map(|note| format!("note: {note}\n"))
        .collect();
    let exactness = model.exactness.map_or(String::new(), |exactness| {
        let exactness = exactness.describe();
        format!("exactness: its answers and its library's are {exactness}\n")
    });
    output::print(&format!(
        "{notes}{exactness}ok: {} would be served on {}\n",
        model,
        config.listen.typed(),
    ))
}

/// Loads the model and tries it.
fn load(source: &Arc<dyn ModelSource>, request: ModelRequest) -> Result<Arc<Loaded>, StartError> {
    let (sender, loaded) = crossbeam_channel::bounded(1);
    let thread_id = Arc::new(AtomicU32::new(0));
    let (own_id, source) = (Arc::clone(&thread_id), Arc::clone(source));
    sys::spawn("loader", loader::STACK_BYTES, move || {
        own_id.store(sys::thread_id(), Ordering::Release);
        let loaded = panic::catch(|| source.load(&request))
            .map_err(|panic| format!("loading the model panicked: {panic}"))
            .and_then(|loaded| loaded.map_err(|error| error.to_string()))
            .and_then(|model| match canary::try_model(&model) {
                TrialVerdict::Failed(reason) => Err(format!(
                    "the model {} failed its trial: {reason}",
                    model.name
                )),
                TrialVerdict::Passed | TrialVerdict::Untried => Ok(model),
            });
        let _ = sender.try_send(loaded);
    })
    .map_err(|error| StartError::no_threads("", 2, &error))?;
    let notifier = Notifier::from_environment();
    notifier.notify(&systemd::extend_timeout(LOADING_PATIENCE));
    let mut done = None;
    loop {
        match loaded.recv_timeout(LOOK) {
            Ok(loaded) => return loaded.map_err(StartError::Failed),
            Err(RecvTimeoutError::Disconnected) => {
                let text = "the thread that loads the model ended".to_owned();
                return Err(StartError::Failed(text));
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        let now = loader::work_of(thread_id.load(Ordering::Acquire));
        if now.is_some() && now != std::mem::replace(&mut done, now) {
            notifier.notify(&systemd::extend_timeout(LOADING_PATIENCE));
        }
    }
}
