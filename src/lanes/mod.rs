//! A lane: one bounded queue, what is admitted to it, and what it may cost in memory and CPU.

pub mod admission;
pub mod cpu_priority;
pub mod memory_budget;
pub mod queue;
