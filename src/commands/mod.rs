//! The commands, one file each.

pub mod check;
pub mod drill;
pub mod inspect;
pub mod manifest;
pub mod output;
pub mod predict;
pub mod probe;
pub mod serve;
pub mod train;
