//! Options that decide what a stuck or failing prediction means, and what follows.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::limits::{duration, switch};

/// How many stuck workers fail liveness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StallPolicy {
    /// All of them: while one makes progress, predictions complete
    All,
    /// Any one: for models that never take as long as --stall-timeout
    Any,
}

/// What happens to a reload whose model has another signature than the served one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReloadSignature {
    /// The reload is refused
    Same,
    /// The reload is accepted and logged
    Any,
}

/// What a stuck or failing prediction means, and what follows; and which model may replace another.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Verdicts")]
pub struct VerdictArgs {
    /// How many stuck workers make /livez fail
    #[arg(long, value_name = "WHICH", default_value = "all", ignore_case = true)]
    pub stall_policy: StallPolicy,

    /// Start a substitute for a stuck worker once a later prediction has finished; at most --predict-workers of them
    #[arg(
        long,
        value_name = "true|false",
        value_parser = switch,
        num_args = 0..=1,
        default_value = "true",
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub replace_stuck_workers: bool,

    /// Maximum time for a trial prediction while no real prediction succeeds; then /readyz fails [default: --request-timeout]
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub canary_timeout: Option<Duration>,

    /// Whether a reload may change the model's signature (features, their order, classes, form of the answer)
    #[arg(long, value_name = "WHICH", default_value = "same")]
    pub reload_signature: ReloadSignature,

    /// File to write the stall report to when /livez starts to fail, if it exists (Kubernetes' terminationMessagePath)
    #[arg(long, value_name = "FILE", default_value = "/dev/termination-log")]
    pub termination_log: PathBuf,
}
