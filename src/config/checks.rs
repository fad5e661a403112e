//! Checks that several options share.

use crate::error::StartError;
use crate::platform::address::Address;

pub(super) fn usage<T>(text: String) -> Result<T, StartError> {
    Err(StartError::Usage(text))
}

pub(super) fn resolve(option: &str, address: &str) -> Result<Address, StartError> {
    Address::parse(address)
        .or_else(|right| usage(format!("{option} must be {right}, but is {address:?}")))
}
