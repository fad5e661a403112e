//! How close a model's answers are to those of the library that trained it.

/// How close answers are, in the order of exactness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exactness {
    /// The same bits.
    Bits,
    /// The same bits before the link function; at most [`LINK_ULPS`] units in the last place after
    /// it.
    Link,
    /// Within [`SUM_TOLERANCE`], as the library's own sums depend on the machine.
    Sums,
    /// Within [`SINGLE_TOLERANCE`], as the runtime computes in 32 bits and in an order of its own.
    Single,
}

/// Units in the last place by which two computations of a link function may differ.
pub const LINK_ULPS: u64 = 4;

/// By how much sums in another order may differ, as a share of the larger of the number and 1.
pub const SUM_TOLERANCE: f64 = 1e-9;

/// By how much numbers of 32 bits may differ, as [`SUM_TOLERANCE`] of 64.
pub const SINGLE_TOLERANCE: f64 = 1e-5;

impl Exactness {
    /// What a person reads.
    pub fn describe(self) -> &'static str {
        match self {
            Exactness::Bits => "the same bits",
            Exactness::Link => {
                "the same bits, and within 4 units in the last place where a link function is computed"
            }
            Exactness::Sums => "within 1e-9",
            Exactness::Single => "within 1e-5",
        }
    }
}
