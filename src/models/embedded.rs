//! The embedded model: a forest of 100 trees on Fisher's iris data.
//!
//! The data are in `tests/data/iris.csv` (UCI Machine Learning Repository, Iris, 1936); a test of
//! `train` makes the file.

/// The model file that is embedded in the binary.
pub(crate) const JSON: &str = include_str!("embedded.json");
