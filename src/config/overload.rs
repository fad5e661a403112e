//! Options that decide what is admitted under load, and how refusals look.

use std::fmt;
use std::time::Duration;

use super::limits::duration;
use crate::error::OverloadStatus;

/// What is admitted under load, and how refusals look.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Overload")]
pub struct OverloadArgs {
    /// Reject a prediction that is expected to wait in the queue longer than this: auto is ten service times, at least 100ms, at most 2s (or two service times, if longer); none leaves --predict-queue, deadlines and --fair-by
    #[arg(long, value_name = "DURATION|auto|none", default_value = "auto", value_parser = max_wait)]
    pub max_wait: MaxWait,

    /// Share a contended prediction lane fairly between clients, told apart by address or by a request field that a trusted proxy sets [default: first come, first served]
    #[arg(long, value_name = "address|header:NAME", value_parser = fair_by)]
    pub fair_by: Option<FairBy>,

    /// Status code of refusals for overload; 429 is for proxies that eject a server after 5xx answers
    #[arg(long, value_name = "CODE", default_value = "503")]
    pub overload_status: OverloadStatus,
}

/// The maximum wait that a prediction is admitted to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaxWait {
    /// By what predictions take.
    Auto,
    /// This long; a prediction that waited longer is not computed.
    Fixed(Duration),
    /// As long as the queue's length and its deadline allow.
    Unlimited,
}

/// How clients are told apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FairBy {
    /// Their address, or their /64 for IPv6.
    Address,
    /// The value of a request field.
    Field(String),
}

impl fmt::Display for MaxWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MaxWait::Auto => f.write_str("auto"),
            MaxWait::Fixed(limit) => humantime::format_duration(*limit).fmt(f),
            MaxWait::Unlimited => f.write_str("none"),
        }
    }
}

fn max_wait(text: &str) -> Result<MaxWait, String> {
    match text {
        "auto" => Ok(MaxWait::Auto),
        "none" => Ok(MaxWait::Unlimited),
        _ => duration(text)
            .map(MaxWait::Fixed)
            .map_err(|error| format!("{error}; or auto, or none")),
    }
}

fn fair_by(text: &str) -> Result<FairBy, String> {
    let name = text.strip_prefix("header:");
    let is_token = |name: &&str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        !name.is_empty() && name.bytes().all(plain)
    };
    match (text, name.filter(is_token)) {
        ("address", _) => Ok(FairBy::Address),
        (_, Some(name)) => Ok(FairBy::Field(name.to_owned())),
        _ => Err(
            "clients are told apart by address or by header:NAME, such as header:X-Tenant"
                .to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_are_documented() {
        assert_eq!(max_wait("auto"), Ok(MaxWait::Auto));
        assert_eq!(max_wait("none"), Ok(MaxWait::Unlimited));
        let limit = Duration::from_millis(250);
        assert_eq!(max_wait("250ms"), Ok(MaxWait::Fixed(limit)));
        assert!(max_wait("2").unwrap_err().contains("auto"));
        assert_eq!(MaxWait::Fixed(limit).to_string(), "250ms");
        assert_eq!(fair_by("address"), Ok(FairBy::Address));
        assert_eq!(
            fair_by("header:X-Tenant"),
            Ok(FairBy::Field("X-Tenant".to_owned()))
        );
        for wrong in ["", "header", "header:", "header:a b", "cookie"] {
            assert!(fair_by(wrong).is_err(), "{wrong}");
        }
    }
}
