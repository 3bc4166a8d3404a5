//! What a lane allows, from its description: whole histories instead of counters and a window of bits.

use std::collections::BTreeSet;

use sluice_intent::{LaneTerms, Scope, Skip, UNLIMITED};
use sluice_sdk::{Address, core::Lane as Layout};

#[derive(Clone, Debug)]
pub struct Lane {
    pub terms: LaneTerms,
    /// When the current period began.
    pub start: i64,
    /// Payments of the current period.
    pub in_period: Vec<u64>,
    /// Payments of the current key.
    pub in_all: Vec<u64>,
    /// Nonces of this lane, whoever signed.
    pub taken: BTreeSet<u64>,
    pub top: u64,
    /// Time and amount of each payment since the payer last set the lane.
    trail: Vec<(i64, u64)>,
}

/// What a payment is judged by.
pub struct Spend<'a> {
    pub nonce: u64,
    pub amount: u64,
    pub now: i64,
    pub service: &'a Address,
    pub authority: &'a Address,
    pub facilitator: &'a Address,
}

impl Default for Lane {
    /// A lane that nobody has set.
    fn default() -> Self {
        Self {
            terms: LaneTerms {
                key: [0; 32],
                expires_at: 0,
                max_per_payment: 0,
                period_limit: 0,
                period_secs: 0,
                total_limit: 0,
                scope: Scope::Any,
            },
            start: 0,
            in_period: Vec::new(),
            in_all: Vec::new(),
            taken: BTreeSet::new(),
            top: 0,
            trail: Vec::new(),
        }
    }
}

fn sum(amounts: &[u64]) -> u128 {
    amounts.iter().map(|amount| u128::from(*amount)).sum()
}

/// Whether a payment on top of what is spent passes a limit.
fn exceeds(spent: &[u64], amount: u64, limit: u64) -> bool {
    limit != UNLIMITED && sum(spent) + u128::from(amount) > u128::from(limit)
}

impl Lane {
    /// The window is the lane's, whoever signs; what is spent is the key's.
    pub fn set(&mut self, terms: &LaneTerms, now: i64) {
        if terms.key != self.terms.key {
            self.start = now;
            self.in_period.clear();
            self.in_all.clear();
        }
        self.terms = *terms;
        self.trail.clear();
    }

    /// The payments of the period that holds `now`, and when it began.
    fn period(&self, now: i64) -> (&[u64], i64) {
        let secs = i128::from(self.terms.period_secs);
        let elapsed = i128::from(now) - i128::from(self.start);
        if secs == 0 || elapsed < secs {
            return (&self.in_period, self.start);
        }
        (&[], self.start + (elapsed / secs * secs) as i64)
    }

    /// What a payment must be answered: the first reason that applies, in the order that clients can rely on.
    pub fn answer(&self, spend: &Spend<'_>) -> Result<(), Skip> {
        let terms = &self.terms;
        let in_scope = match terms.scope {
            Scope::Any => true,
            Scope::Service(key) => key == spend.service.to_bytes(),
            Scope::Authority(key) => key == spend.authority.to_bytes(),
            Scope::Facilitator(key) => key == spend.facilitator.to_bytes(),
        };
        let (nonce, top) = (i128::from(spend.nonce), i128::from(self.top));
        let over_period = terms.period_secs > 0
            && exceeds(self.period(spend.now).0, spend.amount, terms.period_limit);
        let reasons = [
            (terms.key == [0; 32], Skip::LaneClosed),
            (spend.now > terms.expires_at, Skip::LaneExpired),
            (!in_scope, Skip::Scope),
            (nonce > top + 128, Skip::NonceTooFar),
            (nonce <= top - 256, Skip::NonceTooOld),
            (self.taken.contains(&spend.nonce), Skip::NonceUsed),
            (spend.amount > terms.max_per_payment, Skip::OverMax),
            (over_period, Skip::OverPeriod),
            (
                exceeds(&self.in_all, spend.amount, terms.total_limit),
                Skip::OverTotal,
            ),
        ];
        match reasons.iter().find(|(applies, _)| *applies) {
            Some((_, skip)) => Err(*skip),
            None => Ok(()),
        }
    }

    /// Counts a payment that was answered with yes.
    pub fn pay(&mut self, spend: &Spend<'_>) {
        let (in_period, start) = self.period(spend.now);
        let mut in_period = in_period.to_vec();
        in_period.push(spend.amount);
        (self.in_period, self.start) = (in_period, start);
        self.in_all.push(spend.amount);
        self.taken.insert(spend.nonce);
        self.top = self.top.max(spend.nonce);
        self.trail.push((spend.now, spend.amount));
    }

    /// The limits, said in another way than they are kept: over the history since the payer last set them.
    pub fn audit(&self) -> Result<(), String> {
        let Some((last, amount)) = self.trail.last() else {
            return Ok(());
        };
        let terms = &self.terms;
        let total: u128 = self.trail.iter().map(|(_, spent)| u128::from(*spent)).sum();
        let recent = |(time, _): &&(i64, u64)| {
            i128::from(*last) - i128::from(*time) < i128::from(terms.period_secs)
        };
        let stretch: u128 = self
            .trail
            .iter()
            .filter(recent)
            .map(|(_, spent)| u128::from(*spent))
            .sum();
        let limited = |spent: u128, limit: u64, times: u128| {
            limit == UNLIMITED || spent <= times * u128::from(limit)
        };
        if *amount > terms.max_per_payment {
            return Err(format!("I4: {amount} over the limit a payment: {terms:?}"));
        }
        if !limited(total, terms.total_limit, 1) {
            return Err(format!("I4: {total} over the limit in all: {terms:?}"));
        }
        // Two periods can meet in any stretch of one period's length.
        if terms.period_secs > 0 && !limited(stretch, terms.period_limit, 2) {
            return Err(format!("I4: {stretch} in one period's length: {terms:?}"));
        }
        Ok(())
    }

    /// What is left by each limit: a payment, the period, in all.
    pub fn left(&self, now: i64) -> [u64; 3] {
        let left = |limit: u64, spent: &[u64]| {
            u64::try_from(u128::from(limit).saturating_sub(sum(spent))).unwrap_or(u64::MAX)
        };
        [
            self.terms.max_per_payment,
            left(self.terms.period_limit, self.period(now).0),
            left(self.terms.total_limit, &self.in_all),
        ]
    }

    /// The lane as the chain must keep it.
    pub fn layout(&self) -> Layout {
        let mut window = [0u64; 4];
        for nonce in self.taken.range(self.top.saturating_sub(255)..) {
            let back = self.top - nonce;
            window[(back / 64) as usize] |= 1 << (back % 64);
        }
        let (scope_kind, scope_key) = self.terms.scope.to_parts();
        Layout {
            top: self.top,
            window,
            expires_at: self.terms.expires_at,
            max_per_payment: self.terms.max_per_payment,
            period_limit: self.terms.period_limit,
            period_secs: self.terms.period_secs,
            period_start: self.start,
            period_spent: sum(&self.in_period) as u64,
            total_limit: self.terms.total_limit,
            total_spent: sum(&self.in_all) as u64,
            key: self.terms.key,
            scope_key,
            scope_kind,
            reserved: [0; 23],
        }
    }
}
