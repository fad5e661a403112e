//! `lanekeeper check`: would `serve` start with these settings and this model file? Without opening a
//! port or starting a thread, for `ExecStartPre=` and for whoever is about to reload.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use crate::canary;
use crate::cgroup::Cgroup;
use crate::config::{Resources, ServeArgs};
use crate::error::StartError;
use crate::model::ModelSource;
use crate::panic;
use crate::vitals::TrialVerdict;

/// Checks the settings, loads the model and tries it, and says what would be served.
///
/// # Errors
/// `Usage` for wrong settings; `Failed` for a model that cannot be loaded or fails its trial.
pub fn run(args: ServeArgs, source: &Arc<dyn ModelSource>) -> Result<(), StartError> {
    let config = args.validate(Resources::here(&Cgroup::find(Path::new("/")).read()))?;
    let file = config.model.as_deref();
    let model = panic::catch(|| source.load(file))
        .map_err(|panic| StartError::Failed(format!("loading the model panicked: {panic}")))?
        .map_err(|error| StartError::Failed(error.to_string()))?;
    let schema = model.schema();
    if let TrialVerdict::Failed(reason) = canary::try_model(model.as_ref()) {
        return Err(StartError::Failed(format!(
            "the model {} fails its trial: {reason}",
            schema.name
        )));
    }
    // The exit code is the answer: a stdout that is closed changes nothing about it.
    let _ = writeln!(
        std::io::stdout(),
        "ok: {} ({}, {} features, {} classes) would be served on {}",
        schema.name,
        schema.algorithm,
        schema.features.len(),
        schema.classes.len(),
        config.listen.typed(),
    );
    Ok(())
}
