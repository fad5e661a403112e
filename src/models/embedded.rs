//! The embedded model: a forest of 100 trees on Fisher's iris data, and the recipe that made it.
//!
//! The data are smartcore's (UCI Machine Learning Repository, Iris, 1936).

/// The model file that is embedded in the binary.
pub(crate) const JSON: &str = include_str!("embedded.json");
