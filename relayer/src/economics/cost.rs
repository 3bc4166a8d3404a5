//! What a payment of a service costs: what its transactions cost lately, divided by the payments that they made.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sluice_sdk::Address;

/// Transactions of a service that are remembered.
const REMEMBERED: usize = 64;
/// Services that are remembered; beyond it, those are forgotten that have settled nothing within the window.
const MAX_SERVICES: usize = 65_536;

/// A transaction that landed and was not a failure as a whole.
#[derive(Clone, Copy, Debug)]
struct Landed {
    at: Instant,
    lamports: u64,
    paid: u32,
}

/// The latest transactions of every service, in memory. Not those that failed as a whole: whoever could make them fail
/// could close a service to everybody. They count in the statistics, and against whoever caused them.
#[derive(Debug)]
pub struct Costs {
    window: Duration,
    services: Mutex<HashMap<Address, VecDeque<Landed>>>,
}

impl Costs {
    /// Costs by what landed within the last `window`.
    pub fn new(window: Duration) -> Self {
        Self {
            window,
            services: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Address, VecDeque<Landed>>> {
        self.services.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a transaction of `lamports` that made `paid` payments, `ago` before now.
    pub fn note(&self, service: Address, lamports: u64, paid: u32, ago: Duration) {
        let Some(at) = Instant::now().checked_sub(ago).filter(|_| paid > 0) else {
            return;
        };
        let mut services = self.lock();
        if services.len() >= MAX_SERVICES && !services.contains_key(&service) {
            services.retain(|_, landed| {
                landed
                    .back()
                    .is_some_and(|last| last.at.elapsed() <= self.window)
            });
        }
        let landed = services.entry(service).or_default();
        if landed.len() >= REMEMBERED {
            landed.pop_front();
        }
        landed.push_back(Landed { at, lamports, paid });
    }

    /// Lamports for one payment of a service, rounded up, by what its latest transactions carried; `None` if none
    /// landed within the window.
    pub fn per_payment(&self, service: &Address) -> Option<u64> {
        let services = self.lock();
        mean(services.get(service)?, Instant::now(), self.window)
    }
}

fn mean(landed: &VecDeque<Landed>, now: Instant, window: Duration) -> Option<u64> {
    let recent = landed
        .iter()
        .filter(|landed| now.saturating_duration_since(landed.at) <= window);
    let (lamports, paid) = recent.fold((0u64, 0u64), |(lamports, paid), landed| {
        (
            lamports.saturating_add(landed.lamports),
            paid + u64::from(landed.paid),
        )
    });
    (paid > 0).then(|| lamports.div_ceil(paid))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Duration = Duration::from_secs(60);

    fn service(seed: u8) -> Address {
        Address::new_from_array([seed; 32])
    }

    #[test]
    fn the_mean_is_over_what_was_paid_and_rounded_up() {
        let costs = Costs::new(WINDOW);
        assert_eq!(costs.per_payment(&service(1)), None);
        costs.note(service(1), 5_000, 1, Duration::ZERO);
        assert_eq!(costs.per_payment(&service(1)), Some(5_000));
        costs.note(service(1), 5_000, 2, Duration::ZERO);
        assert_eq!(costs.per_payment(&service(1)), Some(3_334));
        // One that carried nothing but skipped entries has no payment to divide its cost by.
        costs.note(service(1), 5_000, 0, Duration::ZERO);
        assert_eq!(costs.per_payment(&service(1)), Some(3_334));
        assert_eq!(costs.per_payment(&service(2)), None);
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let now = Instant::now() + 3 * WINDOW;
        let landed = |ago: Duration, lamports, paid| Landed {
            at: now - ago,
            lamports,
            paid,
        };
        let all = VecDeque::from([
            landed(2 * WINDOW, 5_000, 20),
            landed(WINDOW, 5_000, 1),
            landed(Duration::ZERO, 5_000, 1),
        ]);
        assert_eq!(mean(&all, now, WINDOW), Some(5_000));
        assert_eq!(mean(&all, now, 2 * WINDOW), Some(682));
        assert_eq!(mean(&all, now + 2 * WINDOW, WINDOW), None);
    }

    #[test]
    fn only_the_latest_are_remembered() {
        let costs = Costs::new(WINDOW);
        costs.note(service(1), 1_000_000, 1, Duration::ZERO);
        for _ in 0..REMEMBERED {
            costs.note(service(1), 5_000, 10, Duration::ZERO);
        }
        assert_eq!(costs.per_payment(&service(1)), Some(500));
    }
}
