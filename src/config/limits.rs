//! The options that limit what clients may hold, send and cost, and how values with units are read.

use std::time::Duration;

use bytesize::ByteSize;

/// Limits on what clients may hold, send and cost.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Open connections on the main listener
    #[arg(
        long,
        env = "LANEKEEPER_MAX_CONNECTIONS",
        value_name = "N",
        default_value = "1024"
    )]
    pub max_connections: usize,

    /// Open connections on the probe listener
    #[arg(
        long,
        env = "LANEKEEPER_MAX_PROBE_CONNECTIONS",
        value_name = "N",
        default_value = "64"
    )]
    pub max_probe_connections: usize,

    /// Open connections of one client address on the main listener (of one /64 for IPv6) [default: no limit]
    #[arg(long, env = "LANEKEEPER_MAX_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub max_connections_per_address: Option<usize>,

    /// Bytes held for all clients together: bodies, decoded numbers, unsent answers [default: 256MiB, at most a quarter of the memory limit]
    #[arg(long, env = "LANEKEEPER_MAX_BUFFERED", value_name = "BYTES", value_parser = bytes)]
    pub max_buffered: Option<usize>,

    /// Instances in one request
    #[arg(
        long,
        env = "LANEKEEPER_MAX_ROWS",
        value_name = "N",
        default_value = "100000"
    )]
    pub max_rows: usize,

    /// Bytes of a request head (request line and fields)
    #[arg(long, env = "LANEKEEPER_MAX_HEAD", value_name = "BYTES", default_value = "16KiB", value_parser = bytes)]
    pub max_head: usize,

    /// Fields in a request head (at most 128)
    #[arg(
        long,
        env = "LANEKEEPER_MAX_FIELDS",
        value_name = "N",
        default_value = "100"
    )]
    pub max_fields: usize,

    /// Time for a request head to arrive whole
    #[arg(long, env = "LANEKEEPER_HEAD_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub head_timeout: Duration,

    /// Time a kept-alive connection may be idle
    #[arg(long, env = "LANEKEEPER_IDLE_TIMEOUT", value_name = "DURATION", default_value = "75s", value_parser = duration)]
    pub idle_timeout: Duration,

    /// Bytes of a request body
    #[arg(long, env = "LANEKEEPER_MAX_BODY", value_name = "BYTES", default_value = "16MiB", value_parser = bytes)]
    pub max_body: usize,

    /// Time for a request body to arrive whole, plus 1 s for each MiB of it
    #[arg(long, env = "LANEKEEPER_BODY_TIMEOUT", value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub body_timeout: Duration,

    /// Bytes a second that a body must arrive with, after --body-grace
    #[arg(long, env = "LANEKEEPER_MIN_BODY_RATE", value_name = "BYTES", default_value = "1KiB", value_parser = bytes)]
    pub min_body_rate: usize,

    /// Time before --min-body-rate counts
    #[arg(long, env = "LANEKEEPER_BODY_GRACE", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub body_grace: Duration,

    /// Time an answer may make no progress towards its client
    #[arg(long, env = "LANEKEEPER_WRITE_TIMEOUT", value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub write_timeout: Duration,

    /// First answers a second on fresh connections that cost no prediction, while predictions run; 0 is no limit
    #[arg(
        long,
        env = "LANEKEEPER_PACE_FIRST",
        value_name = "N",
        default_value = "1000"
    )]
    pub pace_first: u32,

    /// Later answers a second that cost no prediction, while predictions run; 0 is no limit [default: 750 for each CPU]
    #[arg(long, env = "LANEKEEPER_PACE_LATER", value_name = "N")]
    pub pace_later: Option<u32>,

    /// Bytes a second that are read of bodies beyond their first 64 KiB, while predictions run or much is buffered; what comes to a prediction does not count; 0 is no limit
    #[arg(long, env = "LANEKEEPER_PACE_BODIES", value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    pub pace_bodies: usize,

    /// Later answers a second on the probe listener, and a quarter of its first ones, while predictions run; 0 is no limit
    #[arg(
        long,
        env = "LANEKEEPER_PACE_PROBES",
        value_name = "N",
        default_value = "500"
    )]
    pub pace_probes: u32,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = humantime::parse_duration(text).map_err(|error| {
        format!("{error}; a duration is a number and a unit, such as 250ms, 2s or 1m")
    })?;
    // Deadlines are sums of an instant and a few of these: a year leaves all room.
    if duration > Duration::from_secs(366 * 86_400) {
        return Err("longer than a year".to_owned());
    }
    Ok(duration)
}

/// Reads what is on or off.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("on is 1, true, yes or on, and off is 0, false, no or off".to_owned()),
    }
}

/// Reads permission bits as chmod(1) takes them.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "permissions are three octal digits, such as 660".to_owned())
}

fn bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|error| {
        format!("{error}; a size is a number of bytes, or one with a unit, such as 64KiB or 16MiB")
    })?;
    usize::try_from(size.as_u64())
        .map_err(|_| "larger than this machine's memory can be".to_owned())
}
