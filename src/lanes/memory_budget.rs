//! One budget for the memory that clients make the server hold, charged as memory is taken.
//!
//! Lock-free, and used by connection threads (bodies, unsent answers) and prediction workers
//! (decoded numbers, growing answers). A [`Charge`] gives its memory back when it is dropped,
//! whoever holds it then.
//!
//! Invariant: a request that never needs more than [`SMALL_BYTES`] is not refused because of
//! others' large ones. Large charges leave a reserve that holds the small ones of every connection
//! (half of the budget at most, if it is too small for that).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::error::{Code, RequestError};

/// Up to this size, a request's charge may use the reserve.
pub const SMALL_BYTES: usize = 64 << 10;

/// The budget of all clients together.
#[derive(Debug)]
pub struct Budget {
    bytes_max: usize,
    /// The limit for charges that are not small.
    large_bytes_max: usize,
    bytes: AtomicUsize,
}

impl Budget {
    /// Makes a budget of `bytes_max`, with a reserve for small requests on `connections`.
    pub fn new(bytes_max: usize, connections: usize) -> Self {
        let reserve = connections.saturating_mul(SMALL_BYTES).min(bytes_max / 2);
        Budget {
            bytes_max,
            large_bytes_max: bytes_max - reserve,
            bytes: AtomicUsize::new(0),
        }
    }

    /// Returns the maximum, in bytes.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Returns the present use, in bytes.
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

    /// Checks whether a charge of `size` bytes would be refused now, before anything is read for
    /// it.
    ///
    /// # Errors
    ///
    /// 503 if so.
    pub fn check(&self, size: usize) -> Result<(), RequestError> {
        if self.bytes().saturating_add(size) > self.limit(size) {
            return Err(self.spent());
        }
        Ok(())
    }

    /// Checks whether a request of `size` bytes could be held if there were no other.
    ///
    /// # Errors
    ///
    /// 413 if not.
    pub fn check_alone(&self, size: usize) -> Result<(), RequestError> {
        let limit = self.limit(size);
        if size > limit {
            return Err(self.too_small_for(size, limit));
        }
        Ok(())
    }

    /// The refusal of a request for which others leave no memory.
    fn spent(&self) -> RequestError {
        let text = format!(
            "the server holds as much memory for clients as allowed (--max-buffered, {} bytes); retry later",
            self.bytes_max
        );
        RequestError::new(Code::OverBudget, text).retry_after(1)
    }

    /// The refusal of a request that an idle server would refuse too, so that a client does not
    /// retry it.
    fn too_small_for(&self, size: usize, limit: usize) -> RequestError {
        let text = format!(
            "the request would take {size} bytes of memory, but one may take {limit} (of --max-buffered, {} bytes); send fewer instances at a time, or raise --max-buffered",
            self.bytes_max
        );
        RequestError::new(Code::ContentTooLarge, text)
    }
}

/// One request's share of the budget; dropping it gives it back.
#[derive(Debug)]
pub struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
    /// What the same request holds through other charges.
    beside: usize,
}

impl Charge {
    /// A charge of nothing yet.
    pub fn new(budget: &Arc<Budget>) -> Self {
        Charge {
            budget: Arc::clone(budget),
            bytes: 0,
            beside: 0,
        }
    }

    /// Sets how many bytes the same request holds through other charges. A charge that could never
    /// fit beside those is refused for good.
    pub fn set_beside(&mut self, bytes: usize) {
        self.beside = bytes;
    }

    /// What the request holds through its other charges.
    pub fn beside(&self) -> usize {
        self.beside
    }

    /// What it holds, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the request holds in all.
    pub fn total(&self) -> usize {
        self.bytes.saturating_add(self.beside)
    }

    /// Charges `more` bytes on top, all or none.
    ///
    /// # Errors
    ///
    /// 503 if the budget does not allow it now, 413 if it would not on an idle server.
    pub fn grow(&mut self, more: usize) -> Result<(), RequestError> {
        let limit = self.budget.limit(self.bytes.saturating_add(more));
        let next = |kept: usize| kept.checked_add(more).filter(|kept| *kept <= limit);
        let charged = self
            .budget
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        if charged.is_err() {
            let alone = self.total().saturating_add(more);
            return Err(if alone > limit {
                self.budget.too_small_for(alone, limit)
            } else {
                self.budget.spent()
            });
        }
        self.bytes += more;
        Ok(())
    }

    /// Makes room in `vec` for `more` elements beyond its length, and charges the growth.
    ///
    /// It grows to twice its size, but not beyond `len_max` elements unless they are needed; by an
    /// eighth if twice is too much.
    ///
    /// # Errors
    ///
    /// As [`grow`](Self::grow), and 503 if the system has no memory; `vec` is then unchanged.
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
        let before = vec.capacity();
        let at_least = |capacity: usize| needed.max(capacity.min(len_max));
        let mut capacity = at_least(before.saturating_mul(2));
        let bytes = |capacity: usize| (capacity - before).saturating_mul(size_of::<T>());
        if self.grow(bytes(capacity)).is_err() {
            capacity = at_least(before.saturating_add(before / 8));
            self.grow(bytes(capacity))?;
        }
        vec.try_reserve_exact(capacity - vec.len())
            .map_err(|_| self.budget.spent())
    }

    /// Gives back all beyond `bytes`.
    pub fn shrink_to(&mut self, bytes: usize) {
        let more = self.bytes.saturating_sub(bytes);
        self.budget.bytes.fetch_sub(more, Ordering::Relaxed);
        self.bytes -= more;
    }

    /// Gives back what is charged.
    pub fn clear(&mut self) {
        self.shrink_to(0);
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
    fn charges_are_given_back_and_never_exceed_the_budget() {
        let budget = Arc::new(Budget::new(100 * KIB, 0));
        let mut first = Charge::new(&budget);
        first.grow(60 * KIB).unwrap();
        let mut second = Charge::new(&budget);
        let error = second.grow(41 * KIB).unwrap_err();
        assert_eq!((error.code, error.retry_after), (Code::OverBudget, Some(1)));
        assert_eq!(budget.bytes(), 60 * KIB, "a refused charge holds nothing");
        second.grow(40 * KIB).unwrap();
        assert!(budget.check(1).is_err());
        assert!(budget.check_alone(100 * KIB).is_ok());
        drop(first);
        assert_eq!(budget.bytes(), 40 * KIB);
        second.shrink_to(50 * KIB);
        second.shrink_to(30 * KIB);
        assert_eq!((second.bytes(), budget.bytes()), (30 * KIB, 30 * KIB));
        second.clear();
        drop(second);
        assert_eq!(budget.bytes(), 0);
    }

    #[test]
    fn what_would_not_fit_on_an_idle_server_is_refused_for_good() {
        let budget = Arc::new(Budget::new(100 * KIB, 0));
        let mut others = Charge::new(&budget);
        others.grow(30 * KIB).unwrap();
        let refusal = |beside: usize, more: usize| {
            let mut charge = Charge::new(&budget);
            charge.set_beside(beside);
            let error = charge.grow(more).unwrap_err();
            (error.code, error.retry_after)
        };
        let table = [
            ("with others there", 0, 71 * KIB, Code::OverBudget, Some(1)),
            ("all there is", 0, 100 * KIB, Code::OverBudget, Some(1)),
            ("a byte more", 0, 100 * KIB + 1, Code::ContentTooLarge, None),
            (
                "beside its own",
                20 * KIB,
                80 * KIB,
                Code::OverBudget,
                Some(1),
            ),
            (
                "a byte beside",
                20 * KIB,
                80 * KIB + 1,
                Code::ContentTooLarge,
                None,
            ),
            (
                "without end",
                20 * KIB,
                usize::MAX,
                Code::ContentTooLarge,
                None,
            ),
        ];
        for (name, beside, more, code, retry_after) in table {
            assert_eq!(refusal(beside, more), (code, retry_after), "{name}");
        }
        let text = budget.check_alone(100 * KIB + 1).unwrap_err().text;
        assert!(
            text.contains("102401 bytes") && text.contains("--max-buffered, 102400"),
            "{text}"
        );
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
    fn a_vector_doubles_up_to_the_declared_length_and_its_capacity_is_charged() {
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
        charge.reserve(&mut vec, 25, 200).unwrap();
        vec.extend([7; 25]);
        assert_eq!(vec.capacity(), 100);
        vec.extend([7; 25]);
        charge.reserve(&mut vec, 1, 200).unwrap();
        assert_eq!(vec.capacity(), 112, "twice as much is not to be had");
    }
}
