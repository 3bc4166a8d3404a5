//! References for window, lane and split, written from their descriptions: whole histories instead of windows
//! and counters, 128 bits instead of care at the edges. They call nothing of the code that they judge.
//!
//! The fuzz targets use this file too, so it needs the standard library and the crate's types, nothing else.
#![allow(dead_code)]

use std::collections::BTreeSet;

use sluice_intent::{Key, LaneTerms, Scope, Skip, Spend, UNLIMITED};

/// Remembers every nonce ever taken, as the window cannot.
#[derive(Clone, Debug, Default)]
pub struct WindowModel {
    pub top: u64,
    pub taken: BTreeSet<u64>,
}

impl WindowModel {
    /// What an offered nonce must be answered.
    pub fn answer(&self, nonce: u64) -> Result<(), Skip> {
        let (offered, top) = (i128::from(nonce), i128::from(self.top));
        if offered > top + 128 {
            Err(Skip::NonceTooFar)
        } else if offered <= top - 256 {
            Err(Skip::NonceTooOld)
        } else if self.taken.contains(&nonce) {
            Err(Skip::NonceUsed)
        } else {
            Ok(())
        }
    }

    /// Takes a nonce; to take one twice is what must never happen.
    pub fn take(&mut self, nonce: u64) {
        assert!(self.taken.insert(nonce), "nonce {nonce} taken twice");
        self.top = self.top.max(nonce);
    }
}

/// What a lane is to do, from its description alone.
#[derive(Clone, Debug)]
pub struct LaneModel {
    pub terms: LaneTerms,
    /// When the current period began.
    pub start: i128,
    /// Payments of the current period.
    pub in_period: Vec<u64>,
    /// Payments of the current key.
    pub in_all: Vec<u64>,
    /// The nonces of this lane, whoever signed.
    pub window: WindowModel,
}

impl Default for LaneModel {
    /// A lane that nobody has set: without a key.
    fn default() -> Self {
        Self {
            terms: LaneTerms {
                key: [0; 32],
                ..open_terms()
            },
            start: 0,
            in_period: Vec::new(),
            in_all: Vec::new(),
            window: WindowModel::default(),
        }
    }
}

impl LaneModel {
    pub fn set(&mut self, terms: &LaneTerms, now: i64) {
        if terms.key != self.terms.key {
            self.start = i128::from(now);
            self.in_period.clear();
            self.in_all.clear();
        }
        self.terms = *terms;
    }

    /// Whether a new period has begun by `now`, and when the current one did.
    fn period(&self, now: i64) -> (bool, i128) {
        let secs = i128::from(self.terms.period_secs);
        let elapsed = i128::from(now) - self.start;
        if secs == 0 || elapsed < secs {
            return (false, self.start);
        }
        (true, self.start + elapsed / secs * secs)
    }

    /// What a payment must be answered.
    pub fn answer(&self, spend: &Spend<'_>) -> Result<(), Skip> {
        let exceeds = |spent: &[u64], limit: u64| {
            limit != UNLIMITED && sum(spent) + u128::from(spend.amount) > u128::from(limit)
        };
        let in_scope = match self.terms.scope {
            Scope::Any => true,
            Scope::Service(key) => key == *spend.service,
            Scope::Authority(key) => key == *spend.authority,
            Scope::Facilitator(key) => key == *spend.facilitator,
        };
        let (rolled, _) = self.period(spend.now);
        let in_period: &[u64] = if rolled { &[] } else { &self.in_period };
        // The first reason that applies is the answer; this is the order that clients can rely on.
        let before_nonce = [
            (self.terms.key == [0; 32], Skip::LaneClosed),
            (spend.now > self.terms.expires_at, Skip::LaneExpired),
            (!in_scope, Skip::Scope),
        ];
        let after_nonce = [
            (spend.amount > self.terms.max_per_payment, Skip::OverMax),
            (
                self.terms.period_secs > 0 && exceeds(in_period, self.terms.period_limit),
                Skip::OverPeriod,
            ),
            (
                exceeds(&self.in_all, self.terms.total_limit),
                Skip::OverTotal,
            ),
        ];
        first(&before_nonce)?;
        self.window.answer(spend.nonce)?;
        first(&after_nonce)
    }

    pub fn pay(&mut self, spend: &Spend<'_>) {
        let (rolled, start) = self.period(spend.now);
        if rolled {
            self.start = start;
            self.in_period.clear();
        }
        self.in_period.push(spend.amount);
        self.in_all.push(spend.amount);
        self.window.take(spend.nonce);
    }
}

fn first(reasons: &[(bool, Skip)]) -> Result<(), Skip> {
    match reasons.iter().find(|(applies, _)| *applies) {
        Some((_, skip)) => Err(*skip),
        None => Ok(()),
    }
}

/// The exact sum of amounts.
pub fn sum(amounts: &[u64]) -> u128 {
    amounts.iter().map(|amount| u128::from(*amount)).sum()
}

pub const SERVICE: Key = [0x51; 32];
pub const AUTHORITY: Key = [0xa1; 32];
pub const FACILITATOR: Key = [0xf1; 32];

/// A payment to the one service above.
pub fn spend(now: i64, nonce: u64, amount: u64) -> Spend<'static> {
    Spend {
        nonce,
        amount,
        now,
        service: &SERVICE,
        authority: &AUTHORITY,
        facilitator: &FACILITATOR,
    }
}

/// A lane without limits for key 1.
pub fn open_terms() -> LaneTerms {
    LaneTerms {
        key: [1; 32],
        expires_at: i64::MAX,
        max_per_payment: UNLIMITED,
        period_limit: UNLIMITED,
        period_secs: 0,
        total_limit: UNLIMITED,
        scope: Scope::Any,
    }
}

/// The division of a sum by the specification, in 128 bits: treasury, facilitator, recipients.
pub fn reference_split(
    sum: u64,
    payments: u64,
    treasury_bps: u16,
    facilitator_bps: u16,
    facilitator_fixed: u64,
    recipient_bps: &[u16],
) -> (u128, u128, Vec<u128>) {
    let sum = u128::from(sum);
    let treasury = sum * u128::from(treasury_bps) / 10_000;
    // The product of two factors below 2^64 fits into 128 bits. A share of several wholes on top of it may not,
    // but what is asked is capped far below.
    let asked = (u128::from(payments) * u128::from(facilitator_fixed))
        .saturating_add(sum * u128::from(facilitator_bps) / 10_000);
    // A treasury of more than half leaves less than the cap.
    let facilitator = asked.min(sum / 2).min(sum - treasury);
    let rest = sum - treasury - facilitator;
    let mut legs: Vec<u128> = recipient_bps
        .iter()
        .map(|bps| rest * u128::from(*bps) / 10_000)
        .collect();
    let floored: u128 = legs.iter().sum();
    legs[0] += rest - floored;
    (treasury, facilitator, legs)
}
