//! The commands, one file each.

pub mod probe;
pub mod serve;
