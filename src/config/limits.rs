//! Options that limit what clients may hold, send and cost, and parsers of values with units.

use std::time::Duration;

use bytesize::ByteSize;

/// Limits on what clients may hold, send and cost.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Maximum number of open connections on the main listener
    #[arg(long, value_name = "N", default_value = "1024")]
    pub max_connections: usize,

    /// Maximum number of open connections on the probe listener
    #[arg(long, value_name = "N", default_value = "64")]
    pub max_probe_connections: usize,

    /// Maximum number of open connections per client address on the main listener (per /64 for IPv6) [default: no limit]
    #[arg(long, value_name = "N")]
    pub max_connections_per_address: Option<usize>,

    /// Maximum memory held for all clients together: bodies, decoded numbers, unsent answers [default: 256MiB, at most a quarter of the memory limit]
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    pub max_buffered: Option<usize>,

    /// Maximum number of instances in one request
    #[arg(long, value_name = "N", default_value = "100000")]
    pub max_rows: usize,

    /// Maximum size of a request head (request line and fields)
    #[arg(long, value_name = "BYTES", default_value = "16KiB", value_parser = bytes)]
    pub max_head: usize,

    /// Maximum number of fields in a request head (at most 128)
    #[arg(long, value_name = "N", default_value = "100")]
    pub max_fields: usize,

    /// Maximum time for a request head to arrive
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub head_timeout: Duration,

    /// Maximum idle time of a persistent connection
    #[arg(long, value_name = "DURATION", default_value = "75s", value_parser = duration)]
    pub idle_timeout: Duration,

    /// Maximum size of a request body
    #[arg(long, value_name = "BYTES", default_value = "16MiB", value_parser = bytes)]
    pub max_body: usize,

    /// Maximum time for a request body to arrive, plus 1 s per MiB of it
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub body_timeout: Duration,

    /// Minimum rate of a request body after --body-grace, in bytes a second
    #[arg(long, value_name = "BYTES", default_value = "1KiB", value_parser = bytes)]
    pub min_body_rate: usize,

    /// Time before --min-body-rate applies
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub body_grace: Duration,

    /// Maximum time without progress while writing an answer
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub write_timeout: Duration,

    /// Rate limit of first cheap answers (probes, refusals, errors) on new connections while predictions run, per second; 0 is no limit
    #[arg(long, value_name = "N", default_value = "1000")]
    pub pace_first: u32,

    /// Rate limit of later cheap answers while predictions run, per second; 0 is no limit [default: 750 per CPU]
    #[arg(long, value_name = "N")]
    pub pace_later: Option<u32>,

    /// Rate limit of reading bodies beyond their first 64 KiB while predictions run or much is buffered, in bytes a second; bodies that become predictions do not count; 0 is no limit
    #[arg(long, value_name = "BYTES", default_value = "64MiB", value_parser = bytes)]
    pub pace_bodies: usize,

    /// Rate limit of later answers on the probe listener while predictions run, per second; first answers get four times as much; 0 is no limit
    #[arg(long, value_name = "N", default_value = "500")]
    pub pace_probes: u32,
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let duration = humantime::parse_duration(text).map_err(|error| {
        format!("{error}; a duration is a number and a unit, such as 250ms, 2s or 1m")
    })?;
    // Deadlines are sums of an instant and a few of these: a year leaves plenty of room.
    if duration > Duration::from_secs(366 * 86_400) {
        return Err("longer than a year".to_owned());
    }
    Ok(duration)
}

/// Parses on and off.
pub(super) fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("on is 1, true, yes or on, and off is 0, false, no or off".to_owned()),
    }
}

/// Parses permission bits as chmod(1) does.
pub(super) fn mode(text: &str) -> Result<u32, String> {
    u32::from_str_radix(text, 8)
        .ok()
        .filter(|mode| *mode <= 0o777)
        .ok_or_else(|| "permissions are three octal digits, such as 660".to_owned())
}

/// Parses the path of a route.
pub(super) fn route(text: &str) -> Result<String, String> {
    let is_path = text.starts_with('/')
        && text.bytes().all(|byte| byte.is_ascii_graphic())
        && !text.contains(['?', '#']);
    match is_path {
        true => Ok(text.to_owned()),
        false => Err("a path starts with / and has no query, such as /v1/predict".to_owned()),
    }
}

fn bytes(text: &str) -> Result<usize, String> {
    let size: ByteSize = text.parse().map_err(|error| {
        format!("{error}; a size is a number of bytes, or one with a unit, such as 64KiB or 16MiB")
    })?;
    usize::try_from(size.as_u64())
        .map_err(|_| "larger than this machine's memory can be".to_owned())
}
