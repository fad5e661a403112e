//! Fair shares of a contended lane: how far each client is ahead of its share.
//!
//! It uses atomics and no locks. Each client has a virtual clock (as in weighted fair queueing). Admitted
//! work advances it by the time that the work takes at the client's share, which is the lane
//! divided by the number of active clients. A client whose clock is too far ahead has had more than
//! its share. Memory is fixed: clients are identified by a hash, and one that has been away for a
//! while loses its slot.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::platform::clock::Stamp;

/// Number of clients that can be told apart at a time.
const SLOTS: usize = 1024;

/// Number of slots that are searched for a client.
const REACH: usize = 8;

/// How long a client counts as active after its last request.
const ACTIVE: u64 = 10_000_000_000;

/// How often the number of active clients is counted.
const RECOUNT: u64 = 100_000_000;

/// How many jobs a client may be ahead of its share, so that arrivals need not be evenly spaced.
const AHEAD: u64 = 10;

/// The part of its share that advances a client's clock: a client that keeps to its share is not
/// delayed by its own unevenness, and one that does not gains little.
const USED: f64 = 0.95;

/// A client, identified by a hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey(u64);

/// Recent clients, and how far each is ahead.
#[derive(Debug)]
pub(super) struct Shares {
    hasher: RandomState,
    slots: Box<[ShareSlot]>,
    active: AtomicU64,
    counted_at: AtomicU64,
}

#[derive(Debug, Default)]
struct ShareSlot {
    /// The client in this slot; 0 is none.
    client: AtomicU64,
    /// When it last sent a request, in process time.
    asked_at: AtomicU64,
    /// Its virtual clock, in process time.
    clock: AtomicU64,
}

impl Shares {
    pub(super) fn new() -> Self {
        Shares {
            hasher: RandomState::new(),
            slots: (0..SLOTS).map(|_| ShareSlot::default()).collect(),
            active: AtomicU64::new(0),
            counted_at: AtomicU64::new(0),
        }
    }

    /// The hash that identifies a client.
    pub(super) fn client(&self, known_by: impl Hash) -> ClientKey {
        ClientKey(self.hasher.hash_one(known_by).max(1))
    }

    /// Whether a client has already had more than its share, so that a job of so much work must
    /// wait for others.
    pub(super) fn is_ahead(
        &self,
        client: ClientKey,
        now: Stamp,
        work: Duration,
        lane: usize,
    ) -> bool {
        let step = self.step(now, work, lane);
        let clock = self.slot(client, now.0).clock.load(Ordering::Relaxed);
        clock > now.0.saturating_add(AHEAD * step)
    }

    /// Advances a client's clock by an admitted job.
    pub(super) fn charge(&self, client: ClientKey, now: Stamp, work: Duration, lane: usize) {
        let step = self.step(now, work, lane);
        // Nobody waits longer than twice the permitted lead, however much it got while others
        // wanted nothing.
        let most = now.0.saturating_add(2 * AHEAD * step);
        let next = |clock: u64| Some((clock.max(now.0) + step).min(most));
        let clock = &self.slot(client, now.0).clock;
        // The closure always returns a value, so the update cannot fail.
        let _ = clock.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// Records a request of a client, whatever happens to it.
    pub(super) fn note(&self, client: ClientKey, now: Stamp) {
        let slot = self.slot(client, now.0);
        slot.asked_at.store(now.0, Ordering::Relaxed);
    }

    /// How long a job of so much work takes at a client's share of a lane with so many workers, in
    /// nanoseconds.
    fn step(&self, now: Stamp, work: Duration, lane: usize) -> u64 {
        let clients = self.active(now.0).max(1);
        let nanos = work.as_nanos() as f64 * clients as f64 / lane.max(1) as f64;
        // Casts saturate; no clock is moved by more than an hour.
        ((nanos * USED) as u64).min(3_600_000_000_000)
    }

    /// Number of active clients, counted at most about [`RECOUNT`] ago.
    fn active(&self, now: u64) -> u64 {
        let counted_at = self.counted_at.load(Ordering::Relaxed);
        let due = counted_at == 0 || now.saturating_sub(counted_at) >= RECOUNT;
        let is_mine = due
            && self
                .counted_at
                .compare_exchange(counted_at, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok();
        if is_mine {
            let active = self.slots.iter().filter(|slot| slot.is_active(now)).count();
            self.active.store(active as u64, Ordering::Relaxed);
        }
        self.active.load(Ordering::Relaxed)
    }

    /// The client's slot, or one that it may take. If all slots in reach belong to active clients,
    /// it shares the first.
    fn slot(&self, client: ClientKey, now: u64) -> &ShareSlot {
        let from = (client.0 % SLOTS as u64) as usize;
        let reach = || (0..REACH).map(move |step| &self.slots[(from + step) % SLOTS]);
        if let Some(own) = reach().find(|slot| slot.client.load(Ordering::Relaxed) == client.0) {
            return own;
        }
        for slot in reach().filter(|slot| !slot.is_active(now)) {
            let before = slot.client.load(Ordering::Relaxed);
            let taken = slot.client.compare_exchange(
                before,
                client.0,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
            if taken.is_ok() {
                slot.clock.store(now, Ordering::Relaxed);
                slot.asked_at.store(now, Ordering::Relaxed);
                return slot;
            }
        }
        &self.slots[from]
    }
}

impl ShareSlot {
    fn is_active(&self, now: u64) -> bool {
        let asked_at = self.asked_at.load(Ordering::Relaxed);
        asked_at != 0 && now.saturating_sub(asked_at) < ACTIVE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORK: Duration = Duration::from_millis(100);

    fn at(millis: u64) -> Stamp {
        Stamp(1_000_000 + millis * 1_000_000)
    }

    #[test]
    fn who_asks_for_more_than_its_share_gets_ahead_and_who_does_not_never() {
        let shares = Shares::new();
        let (greedy, modest) = (shares.client("greedy"), shares.client("modest"));
        shares.note(greedy, at(0));
        shares.note(modest, at(0));
        let mut ahead = false;
        // One worker does ten jobs a second; each client's share is five.
        for millis in (0..20_000).step_by(100) {
            let now = at(millis);
            shares.note(greedy, now);
            shares.charge(greedy, now, WORK, 1);
            if millis % 200 == 0 {
                shares.note(modest, now);
                assert!(!shares.is_ahead(modest, now, WORK, 1), "{millis}");
                shares.charge(modest, now, WORK, 1);
            }
            ahead |= shares.is_ahead(greedy, now, WORK, 1);
        }
        assert!(ahead);
        // The remaining debt is bounded.
        assert!(!shares.is_ahead(greedy, at(23_000), WORK, 1));
    }

    #[test]
    fn a_client_alone_is_never_ahead_of_what_the_lane_can_do() {
        let shares = Shares::new();
        let only = shares.client("only");
        for millis in (0..20_000).step_by(100) {
            shares.note(only, at(millis));
            assert!(!shares.is_ahead(only, at(millis), WORK, 1));
            shares.charge(only, at(millis), WORK, 1);
        }
    }

    #[test]
    fn slots_of_absent_clients_are_reused_and_full_tables_are_shared() {
        let shares = Shares::new();
        for client in 0..5_000 {
            shares.note(shares.client(client), at(client / 10));
        }
        let active = shares.active(at(600).0);
        assert!(active > 900 && active <= SLOTS as u64, "{active}");
        let late = shares.client("late");
        shares.note(late, at(60_000));
        assert_eq!(shares.active(at(60_000).0), 1);
    }
}
