//! Failure budgets: who has payments fail on chain too often is left alone for a while.
//!
//! A failure costs the relayer a fee, and whoever can move their money or revoke their approval between a good
//! judgement and the chain's can cause it. What counts is what the ledger says failed, so a restart and the other
//! relayers on the same ledger come to the same end; successes make up for nothing, only time does.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use sluice_intent::{Digest, Skip};
use sluice_sdk::Address;

use super::settings::FailureSettings;
use crate::reason::Reason;

/// A payment that failed on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The payment.
    pub digest: Digest,
    /// Who should have paid.
    pub payer: Address,
    /// Who should have been paid.
    pub service: Address,
    /// The API key that asked for it.
    pub api_key: Option<Arc<str>>,
    /// Why.
    pub reason: Reason,
    /// Unix milliseconds.
    pub at: i64,
}

/// Whose doing a failure is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// Nobody's who can be told apart: the program's admin, the mint's authorities, or the relayer itself.
    Nobody,
    /// The service's alone.
    Service,
    /// The payer's, as far as can be told. It counts against the service as well: payers are cheap to make up.
    Payer,
}

/// Whose doing a reason is that the chain gave.
pub fn blame(reason: Reason) -> Blame {
    match reason {
        // The payer's own transaction, which was good a moment ago.
        Reason::InsufficientFunds | Reason::Exact(_) => Blame::Payer,
        Reason::Requirements => Blame::Service,
        Reason::Skip(skip) => match skip {
            // Too slow, or limits of the mint's that have changed: not what a payer signs up for.
            Skip::Expired | Skip::ExpiryTooFar | Skip::AboveMaximum => Blame::Nobody,
            Skip::BelowMinimum => Blame::Service,
            _ => Blame::Payer,
        },
        // Pauses, suspensions, keys, and what nobody understands: an empty fee payer ends here too.
        _ => Blame::Nobody,
    }
}

/// Who is left alone, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cooling {
    /// Whole seconds that are left, at least one.
    pub secs: u64,
}

/// The failures of the last while.
#[derive(Debug)]
pub struct Failures {
    settings: FailureSettings,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What was counted, and when it failed: the ledger tells of it again.
    seen: HashMap<Digest, i64>,
    payers: HashMap<Address, Record>,
    services: HashMap<Address, Record>,
    api_keys: HashMap<Arc<str>, Record>,
}

#[derive(Debug, Default)]
struct Record {
    /// When the last ones happened, the latest last; never more than the budget.
    at: VecDeque<i64>,
    /// Until when nothing is taken on, unix milliseconds.
    until: i64,
}

impl Failures {
    /// Counts nothing yet.
    pub fn new(settings: FailureSettings) -> Self {
        Self {
            settings,
            state: Mutex::default(),
        }
    }

    /// Whether anything is limited at all.
    pub fn is_on(&self) -> bool {
        let settings = &self.settings;
        settings.payer > 0 || settings.service > 0 || settings.api_key > 0
    }

    /// How far back what failed matters, in milliseconds: a cool-down may have begun at the end of a window.
    pub fn memory_ms(&self) -> i64 {
        self.window_ms() + self.cool_down_ms()
    }

    fn window_ms(&self) -> i64 {
        i64::from(self.settings.window_secs) * 1_000
    }

    fn cool_down_ms(&self) -> i64 {
        i64::from(self.settings.cool_down_secs) * 1_000
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a failure, once. Failures are told in the order in which they happened, more or less.
    pub fn count(&self, failure: &Failure) {
        let blame = blame(failure.reason);
        if blame == Blame::Nobody || !self.is_on() {
            return;
        }
        let mut state = self.lock();
        if state.seen.insert(failure.digest, failure.at).is_some() {
            return;
        }
        let settings = &self.settings;
        if blame == Blame::Payer {
            self.note(&mut state.payers, failure.payer, settings.payer, failure.at);
        }
        let (service, at) = (failure.service, failure.at);
        self.note(&mut state.services, service, settings.service, at);
        if let Some(key) = &failure.api_key {
            self.note(&mut state.api_keys, Arc::clone(key), settings.api_key, at);
        }
    }

    fn note<K: Eq + Hash>(&self, records: &mut HashMap<K, Record>, key: K, budget: u32, at: i64) {
        if budget == 0 {
            return;
        }
        let budget = budget as usize;
        let record = records.entry(key).or_default();
        while record.at.len() >= budget {
            record.at.pop_front();
        }
        record.at.push_back(at);
        let begun = record
            .at
            .front()
            .is_some_and(|first| at - first <= self.window_ms());
        if record.at.len() >= budget && begun {
            record.until = record.until.max(at + self.cool_down_ms());
        }
    }

    /// Whether a payer is left alone at `now`, unix milliseconds.
    pub fn payer(&self, payer: &Address, now: i64) -> Option<Cooling> {
        cooling(&self.lock().payers, payer, now)
    }

    /// Whether a service is.
    pub fn service(&self, service: &Address, now: i64) -> Option<Cooling> {
        cooling(&self.lock().services, service, now)
    }

    /// Whether an API key is.
    pub fn api_key(&self, key: &Arc<str>, now: i64) -> Option<Cooling> {
        cooling(&self.lock().api_keys, key, now)
    }

    /// Forgets what matters no more.
    pub fn sweep(&self, now: i64) {
        let (oldest, window) = (now - self.memory_ms(), now - self.window_ms());
        let mut state = self.lock();
        state.seen.retain(|_, at| *at >= oldest);
        let matters = |record: &Record| {
            record.until > now || record.at.back().is_some_and(|last| *last >= window)
        };
        state.payers.retain(|_, record| matters(record));
        state.services.retain(|_, record| matters(record));
        state.api_keys.retain(|_, record| matters(record));
    }
}

fn cooling<K: Eq + Hash>(records: &HashMap<K, Record>, key: &K, now: i64) -> Option<Cooling> {
    let left = records.get(key)?.until - now;
    let left = u64::try_from(left).ok().filter(|left| *left > 0)?;
    Some(Cooling {
        secs: left.div_ceil(1_000),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000_000;

    fn failures() -> Failures {
        Failures::new(FailureSettings {
            payer: 3,
            service: 5,
            api_key: 0,
            window_secs: 60,
            cool_down_secs: 30,
        })
    }

    fn address(tag: u8) -> Address {
        Address::new_from_array([tag; 32])
    }

    fn failure(number: u8, payer: u8, reason: Reason, at: i64) -> Failure {
        Failure {
            digest: [number; 32],
            payer: address(payer),
            service: address(200),
            api_key: Some(Arc::from("shop")),
            reason,
            at,
        }
    }

    const REVOKED: Reason = Reason::Skip(Skip::DelegateGone);

    #[test]
    fn a_budget_that_is_used_up_is_a_cool_down() {
        let failures = failures();
        for number in 0..2 {
            failures.count(&failure(number, 1, REVOKED, NOW));
        }
        assert_eq!(failures.payer(&address(1), NOW), None);
        failures.count(&failure(2, 1, REVOKED, NOW + 10_000));
        let left = |at| failures.payer(&address(1), at).map(|cooling| cooling.secs);
        assert_eq!(left(NOW + 10_000), Some(30));
        assert_eq!(left(NOW + 39_999), Some(1));
        assert_eq!(left(NOW + 40_000), None);
        assert_eq!(failures.payer(&address(2), NOW + 10_000), None);
        // Within the window the next one is one too many again.
        failures.count(&failure(3, 1, REVOKED, NOW + 50_000));
        assert_eq!(left(NOW + 50_000), Some(30));
        // Later it is the first one again.
        failures.count(&failure(4, 1, REVOKED, NOW + 200_000));
        assert_eq!(left(NOW + 200_000), None);
    }

    #[test]
    fn what_is_told_twice_counts_once() {
        let failures = failures();
        for _ in 0..10 {
            failures.count(&failure(1, 1, REVOKED, NOW));
        }
        assert_eq!(failures.payer(&address(1), NOW), None);
    }

    #[test]
    fn many_payers_are_one_service() {
        let failures = failures();
        for payer in 0..5 {
            failures.count(&failure(payer, payer, REVOKED, NOW));
        }
        assert!(failures.service(&address(200), NOW).is_some());
        assert!((0..5).all(|payer| failures.payer(&address(payer), NOW).is_none()));
        // A budget of 0 is none.
        assert_eq!(failures.api_key(&Arc::from("shop"), NOW), None);
    }

    #[test]
    fn only_who_can_be_blamed_is() {
        let failures = failures();
        let reasons = [
            Reason::Paused,
            Reason::UnexpectedSettle,
            Reason::Skip(Skip::Expired),
        ];
        for (number, reason) in (0..30).zip(reasons.into_iter().cycle()) {
            failures.count(&failure(number, 1, reason, NOW));
        }
        assert_eq!(failures.service(&address(200), NOW), None);
        for number in 30..40 {
            failures.count(&failure(number, 1, Reason::Requirements, NOW));
        }
        assert!(failures.service(&address(200), NOW).is_some());
        assert_eq!(failures.payer(&address(1), NOW), None);
    }

    #[test]
    fn nothing_is_remembered_for_ever() {
        let failures = failures();
        for number in 0..200 {
            failures.count(&failure(number, number, REVOKED, NOW));
        }
        failures.sweep(NOW + 60_000);
        assert_eq!(failures.lock().payers.len(), 200);
        failures.sweep(NOW + 90_001);
        let state = failures.lock();
        let left = state.seen.len() + state.payers.len() + state.services.len();
        assert_eq!(left, 0);
    }
}
