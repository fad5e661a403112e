//! How requests and answers are written: which path asks for what, and instances in JSON and CSV.
//!
//! Pure functions from bytes to values and back.

pub mod instances;
pub mod routes;
