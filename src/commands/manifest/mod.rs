//! `lanekeeper manifest`: prints configuration that runs a server with these options elsewhere.
//!
//! It starts nothing and contacts nobody: the output follows from the options, and from the size of
//! the model file if that can be read here.

pub mod numbers;

mod kserve;
mod kubernetes;
mod options;
mod resources;
mod systemd;
mod yaml;

use crate::commands::output;
use crate::config::{ManifestArgs, ManifestTarget};
use crate::error::StartError;

/// Prints a manifest.
///
/// # Errors
///
/// Wrong options, or options that the target cannot have.
pub fn run(args: ManifestArgs) -> Result<(), StartError> {
    super::warn_of_unknown_variables();
    let text = match args.target {
        ManifestTarget::Kubernetes(args) => kubernetes::manifests(*args)?,
        ManifestTarget::Kserve(args) => kserve::manifests(*args)?,
        ManifestTarget::Systemd(args) => systemd::unit(*args)?,
    };
    output::print(&text)
}
