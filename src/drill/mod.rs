//! The drill: load of one's own making against any server, bounded in count and time.
//!
//! [`load`] makes it (closed loop, open loop, probes, capacity), [`schedule`] makes it come and go
//! and keeps one record an arrival, [`measure`] counts what came of it, [`report`] shows it.
//! Synchronous like everything here: each connection of a run has one small-stack thread of its own,
//! named `load`, which ends with the run. The benches use it, and it knows nothing of the server it
//! loads but its address.
//!
//! `lanekeeper drill` gathers what it saw in [`findings`], which [`text`], [`json`] and [`html`] (with
//! the plots of [`plot`]) show to people and programs.

pub mod findings;
pub mod html;
pub mod json;
pub mod load;
pub mod measure;
pub mod plot;
pub mod report;
pub mod schedule;
pub mod svg;
pub mod text;
