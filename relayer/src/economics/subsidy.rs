//! The day's subsidy: lamports that may be lost on payments which do not pay for themselves.
//!
//! The ledger counts what is used, in the commit that writes a transaction down, and refuses what goes beyond: so the
//! bound holds over restarts, and over all relayers that share it. Here is a copy, so that nobody is told yes at
//! `/verify` or waits in line for money that is not there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// Days since 1970 by the chain's clock: the UTC day, for every relayer the same one.
pub fn day_of(chain_time: i64) -> i64 {
    chain_time.div_euclid(DAY)
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    day: i64,
    /// In the ledger, as far as is known.
    used: u64,
    /// For payments that are on their way there.
    held: u64,
}

/// The subsidy of each day.
#[derive(Clone, Debug)]
pub struct Purse {
    per_day: u64,
    count: Arc<Mutex<Count>>,
}

impl Purse {
    /// A purse with so many lamports a day.
    pub fn new(per_day: u64) -> Self {
        Self {
            per_day,
            count: Arc::default(),
        }
    }

    /// Lamports a day.
    pub fn per_day(&self) -> u64 {
        self.per_day
    }

    fn lock(&self) -> MutexGuard<'_, Count> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of_day(&self, day: i64) -> MutexGuard<'_, Count> {
        let mut count = self.lock();
        // A day that is over does not come back: a clock that jumps must not fill the purse again.
        if day > count.day {
            *count = Count {
                day,
                ..Count::default()
            };
        }
        count
    }

    /// Whether so many lamports are left on a day.
    pub fn has(&self, day: i64, lamports: u64) -> bool {
        let count = self.of_day(day);
        fits(&count, self.per_day, lamports)
    }

    /// Sets so many lamports of a day aside, if they are left.
    pub fn hold(&self, day: i64, lamports: u64) -> Option<Hold> {
        let mut count = self.of_day(day);
        if !fits(&count, self.per_day, lamports) {
            return None;
        }
        count.held += lamports;
        Some(Hold {
            purse: self.clone(),
            day: count.day,
            lamports,
            open: Mutex::new(true),
        })
    }

    /// Notes what the ledger says was used on a day.
    pub fn note(&self, day: i64, used: u64) {
        let mut count = self.of_day(day);
        if day == count.day {
            count.used = used;
        }
    }
}

fn fits(count: &Count, per_day: u64, lamports: u64) -> bool {
    let taken = count.used.checked_add(count.held);
    let taken = taken.and_then(|taken| taken.checked_add(lamports));
    taken.is_some_and(|taken| taken <= per_day)
}

/// Lamports of a day that are set aside, until they are spent or this is dropped.
#[derive(Debug)]
pub struct Hold {
    purse: Purse,
    day: i64,
    lamports: u64,
    open: Mutex<bool>,
}

impl Hold {
    /// The day.
    pub fn day(&self) -> i64 {
        self.day
    }

    /// What is set aside.
    pub fn lamports(&self) -> u64 {
        self.lamports
    }

    /// Ends the hold: the ledger has counted `spent` of it.
    pub fn spend(&self, spent: u64) {
        self.close(spent);
    }

    fn close(&self, spent: u64) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::take(&mut *open) {
            return;
        }
        let mut count = self.purse.lock();
        // What was held on a day that is over is gone with it.
        if count.day == self.day {
            count.held = count.held.saturating_sub(self.lamports);
            count.used = count.used.saturating_add(spent);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.close(0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn days_are_utc_days() {
        assert_eq!((day_of(0), day_of(86_399), day_of(86_400)), (0, 0, 1));
        assert_eq!(day_of(-1), -1);
    }

    #[test]
    fn what_is_held_is_not_there_for_others_until_it_is_let_go() {
        let purse = Purse::new(10);
        let first = purse.hold(1, 6).unwrap();
        assert!(purse.hold(1, 5).is_none() && !purse.has(1, 5) && purse.has(1, 4));
        drop(first);
        let first = purse.hold(1, 6).unwrap();
        first.spend(2);
        // Spent less than was held, and once.
        first.spend(2);
        drop(first);
        assert!(purse.has(1, 8) && !purse.has(1, 9));
        // The ledger has the last word.
        purse.note(1, 7);
        assert!(purse.has(1, 3) && !purse.has(1, 4));
        assert!(purse.has(1, 0) && !purse.has(1, u64::MAX));
    }

    #[test]
    fn a_new_day_has_a_new_purse_and_an_old_one_does_not_come_back() {
        let purse = Purse::new(10);
        let yesterday = purse.hold(1, 10).unwrap();
        let today = purse.hold(2, 8).unwrap();
        yesterday.spend(10);
        assert!(purse.has(2, 2) && !purse.has(2, 3));
        purse.note(1, 0);
        assert!(!purse.has(1, 3), "the clock went back");
        drop(today);
        assert!(purse.has(2, 10));
    }

    proptest! {
        #[test]
        fn never_more_than_the_day_allows(
            per_day in 0u64..1_000, steps in prop::collection::vec((0u64..300, any::<bool>()), 1..50),
        ) {
            let purse = Purse::new(per_day);
            let mut spent = 0;
            let mut held = Vec::new();
            for (lamports, spend) in steps {
                if let Some(hold) = purse.hold(7, lamports) {
                    if spend {
                        hold.spend(lamports);
                        spent += lamports;
                    } else {
                        held.push(hold);
                    }
                }
                let out: u64 = held.iter().map(Hold::lamports).sum();
                prop_assert!(spent + out <= per_day);
            }
            drop(held);
            prop_assert!(purse.has(7, per_day - spent));
        }
    }
}
