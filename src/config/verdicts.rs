//! The options that say what a stuck or failing prediction means, and what is done about it.

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

use super::limits::{duration, switch};

/// How many stuck workers mean that the service is not alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StallPolicy {
    /// All of them: as long as one moves, predictions complete
    All,
    /// Any: for models that never legitimately take --stall-timeout
    Any,
}

/// What becomes of a reload whose model has another signature than the one that serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReloadSignature {
    /// It is refused
    Same,
    /// It is accepted, and told
    Any,
}

/// What a stuck or failing prediction means, and what is done about it; and which model may take the
/// place of another.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Verdicts")]
pub struct VerdictArgs {
    /// How many stuck workers make /livez fail
    #[arg(
        long,
        env = "LANEKEEPER_STALL_POLICY",
        value_name = "WHICH",
        default_value = "all",
        ignore_case = true
    )]
    pub stall_policy: StallPolicy,

    /// Start a substitute for a stuck worker once a later prediction has come to an end; at most --predict-workers of them
    #[arg(
        long,
        env = "LANEKEEPER_REPLACE_STUCK_WORKERS",
        value_name = "true|false",
        value_parser = switch,
        num_args = 0..=1,
        default_value = "true",
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    pub replace_stuck_workers: bool,

    /// Longest time for a trial prediction while no real one succeeds; then /readyz fails [default: --request-timeout]
    #[arg(long, env = "LANEKEEPER_CANARY_TIMEOUT", value_name = "DURATION", value_parser = duration)]
    pub canary_timeout: Option<Duration>,

    /// Whether a reload may change the model's signature: its features and their order, its classes, what it answers with
    #[arg(
        long,
        env = "LANEKEEPER_RELOAD_SIGNATURE",
        value_name = "WHICH",
        default_value = "same"
    )]
    pub reload_signature: ReloadSignature,

    /// File that gets the stall report when /livez comes to fail, where it exists (Kubernetes' terminationMessagePath)
    #[arg(
        long,
        env = "LANEKEEPER_TERMINATION_LOG",
        value_name = "FILE",
        default_value = "/dev/termination-log"
    )]
    pub termination_log: PathBuf,
}
