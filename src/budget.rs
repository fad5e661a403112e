//! The memory that clients can make the server hold: one budget, charged as memory is taken.
//!
//! Lock-free, and used by connection threads (bodies, unsent answers) and prediction workers
//! (decoded numbers, answers as they grow). What was charged is given back when the [`Charge`] is
//! dropped, whoever holds it by then.
//!
//! Invariant: a request that never needs more than [`SMALL_BYTES`] is not refused because of others'
//! large ones. Large charges stop short of a reserve that the small ones of every connection fit in
//! (half of the budget at most, where it is too small for that).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, RequestError};

/// Up to this size a request's charge may draw on the reserve.
pub const SMALL_BYTES: usize = 64 << 10;

/// What all clients together may make the server hold.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    /// Where charges that are not small end.
    large_bytes_max: usize,
    bytes: AtomicUsize,
}

impl Budget {
    /// Makes a budget of `bytes_max`, of which small requests on `connections` have a share.
    pub fn new(bytes_max: usize, connections: usize) -> Self {
        let reserve = connections.saturating_mul(SMALL_BYTES).min(bytes_max / 2);
        Budget {
            bytes_max,
            large_bytes_max: bytes_max - reserve,
            bytes: AtomicUsize::new(0),
        }
    }

    /// The most that may be held, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// What is held now, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    fn limit(&self, size: usize) -> usize {
        if size > SMALL_BYTES {
            self.large_bytes_max
        } else {
            self.bytes_max
        }
    }

    /// Says whether a charge of `size` bytes would be refused now, before anything is read for it.
    ///
    /// # Errors
    /// 503 where it would.
    pub fn check(&self, size: usize) -> Result<(), RequestError> {
        if self.bytes().saturating_add(size) > self.limit(size) {
            return Err(over_budget(self));
        }
        Ok(())
    }
}

/// The refusal where the budget is spent.
pub fn over_budget(budget: &Budget) -> RequestError {
    let text = format!(
        "the server holds as much for its clients as it may (--max-buffered, {} bytes); send the request again later",
        budget.bytes_max
    );
    RequestError::new(Code::OverBudget, text).retry_after(1)
}

/// One request's part of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Charge {
    /// A charge of nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Charge {
            budget: Arc::clone(budget),
            bytes: 0,
        }
    }

    /// Charges `more` bytes on top, all of them or none.
    ///
    /// # Errors
    /// 503 where the budget does not allow it.
    pub fn grow(&mut self, more: usize) -> Result<(), RequestError> {
        let limit = self.budget.limit(self.bytes.saturating_add(more));
        let next = |held: usize| held.checked_add(more).filter(|held| *held <= limit);
        self.budget
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next)
            .map_err(|_| over_budget(&self.budget))?;
        self.bytes += more;
        Ok(())
    }

    /// Makes room in `vec` for `more` elements beyond its length, charging what it grows by.
    ///
    /// It grows to twice its size, but not beyond `len_max` elements unless they are needed.
    ///
    /// # Errors
    /// 503 where the budget, or the system, has no memory to give; `vec` is as it was.
    pub fn reserve<T>(
        &mut self,
        vec: &mut Vec<T>,
        more: usize,
        len_max: usize,
    ) -> Result<(), RequestError> {
        let needed = vec.len().saturating_add(more);
        if needed <= vec.capacity() {
            return Ok(());
        }
        let capacity = needed.max(vec.capacity().saturating_mul(2).min(len_max));
        self.grow((capacity - vec.capacity()).saturating_mul(size_of::<T>()))?;
        vec.try_reserve_exact(capacity - vec.len())
            .map_err(|_| over_budget(&self.budget))
    }

    /// Gives back what is charged.
    pub fn clear(&mut self) {
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.bytes = 0;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1 << 10;

    #[test]
    fn what_is_charged_is_given_back_and_no_more_than_the_budget_is_held() {
        let budget = Arc::new(Budget::new(100 * KIB, 0));
        let mut first = Charge::new(&budget);
        first.grow(60 * KIB).unwrap();
        let mut second = Charge::new(&budget);
        let error = second.grow(41 * KIB).unwrap_err();
        assert_eq!((error.code, error.retry_after), (Code::OverBudget, Some(1)));
        assert_eq!(budget.bytes(), 60 * KIB, "a refused charge holds nothing");
        second.grow(40 * KIB).unwrap();
        assert!(budget.check(1).is_err());
        drop(first);
        assert_eq!(budget.bytes(), 40 * KIB);
        second.clear();
        drop(second);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn large_requests_leave_a_reserve_for_small_ones() {
        let budget = Arc::new(Budget::new(1024 * KIB, 4));
        let mut large = Charge::new(&budget);
        large.grow(768 * KIB).unwrap();
        assert!(large.grow(1).is_err(), "the reserve is for small ones");
        assert!(budget.check(65 * KIB).is_err());
        let mut small: Vec<Charge> = (0..4).map(|_| Charge::new(&budget)).collect();
        for charge in &mut small {
            charge.grow(SMALL_BYTES).unwrap();
        }
        assert_eq!(budget.bytes(), budget.bytes_max());
    }

    #[test]
    fn a_vector_grows_by_doubling_up_to_what_was_declared_and_is_charged_for_its_capacity() {
        let budget = Arc::new(Budget::new(1000, 0));
        let mut charge = Charge::new(&budget);
        let mut vec: Vec<u64> = Vec::new();
        charge.reserve(&mut vec, 10, 60).unwrap();
        vec.extend([7; 10]);
        charge.reserve(&mut vec, 1, 60).unwrap();
        assert_eq!((vec.capacity(), budget.bytes()), (20, 160));
        charge.reserve(&mut vec, 40, 60).unwrap();
        vec.extend([7; 40]);
        assert_eq!((vec.capacity(), budget.bytes()), (50, 400));
        assert!(charge.reserve(&mut vec, 76, 60).is_err());
        assert_eq!((vec.len(), vec.capacity(), budget.bytes()), (50, 50, 400));
    }
}
