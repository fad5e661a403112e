//! `lanekeeper manifest`: prints what runs a server with these options elsewhere.
//!
//! It starts nothing and asks nobody: what it prints follows from the options, and from the size of
//! the model file where that can be read here.

pub mod numbers;

mod kubernetes;
mod options;
mod systemd;
mod yaml;

use crate::commands::output;
use crate::config::{ManifestArgs, ManifestTarget};
use crate::error::StartError;

/// Prints a manifest.
///
/// # Errors
/// Wrong options, or such as cannot be kept where the server is to run.
pub fn run(args: ManifestArgs) -> Result<(), StartError> {
    super::warn_of_unknown_variables();
    let text = match args.target {
        ManifestTarget::Kubernetes(args) => kubernetes::manifests(*args)?,
        ManifestTarget::Systemd(args) => systemd::unit(*args)?,
    };
    output::print(&text)
}
