//! How long this relayer may act for what it has in a shared ledger without being heard of.
//!
//! The ledger counts the lease by its own clock and gives the transactions of a relayer that is silent to another. This
//! side counts from before it was heard of, so that it stops no later than the other begins; a process that slept finds
//! that out by itself before it sends anything. What it knew of its transactions in one term says nothing in the next:
//! it has to ask the ledger which of them are still its own.
//!
//! Between the last look and the bytes that leave it may sleep once more: then the same bytes are sent twice, and the
//! nonce lets them land once.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A lease that is renewed by being heard of.
#[derive(Debug)]
pub struct Lease {
    length: Duration,
    /// `None` where nobody else can take over.
    held: Option<Mutex<Held>>,
}

#[derive(Debug)]
struct Held {
    until: Instant,
    term: Term,
}

/// A time in which the lease never ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Term(u64);

impl Lease {
    /// A lease of `length` in a ledger that others share, or one that never ends.
    pub fn new(length: Duration, shared: bool) -> Self {
        let held = || {
            Mutex::new(Held {
                until: Instant::now() + length,
                term: Term(0),
            })
        };
        Self {
            length,
            held: shared.then(held),
        }
    }

    /// How long it lasts.
    pub fn length(&self) -> Duration {
        self.length
    }

    /// How often it is renewed: four may be lost.
    pub fn beat(&self) -> Duration {
        self.length / 5
    }

    /// The ledger has heard of this relayer, which it was told from `begun` on.
    pub fn renew(&self, begun: Instant) {
        let Some(held) = &self.held else { return };
        let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
        if Instant::now() >= held.until {
            held.term.0 += 1;
        }
        held.until = held.until.max(begun + self.length);
    }

    /// The term that it is in, or that it would be in if it were renewed in time.
    pub fn term(&self) -> Term {
        self.held.as_ref().map_or(Term(0), |held| {
            held.lock().unwrap_or_else(PoisonError::into_inner).term
        })
    }

    /// Whether nobody else can have taken over anything since `term` began.
    pub fn is_held(&self, term: Term) -> bool {
        self.held.as_ref().is_none_or(|held| {
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.term == term && Instant::now() < held.until
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_unless_it_is_renewed() {
        let begun = Instant::now();
        let lease = Lease::new(Duration::from_millis(30), true);
        let first = lease.term();
        while lease.is_held(first) {
            assert!(begun.elapsed() < Duration::from_secs(60));
        }
        assert!(begun.elapsed() >= Duration::from_millis(30));
        // What was begun too long ago renews nothing.
        lease.renew(begun);
        assert!(!lease.is_held(lease.term()));
        lease.renew(Instant::now() + Duration::from_secs(60));
        // Held again, but not for what was known before.
        let second = lease.term();
        assert!(lease.is_held(second) && !lease.is_held(first));
        // Nor does a late one take anything back.
        lease.renew(begun);
        assert!(lease.is_held(second));
    }

    #[test]
    fn alone_it_never_ends() {
        let lease = Lease::new(Duration::ZERO, false);
        let term = lease.term();
        lease.renew(Instant::now());
        assert!(lease.is_held(term));
    }
}
