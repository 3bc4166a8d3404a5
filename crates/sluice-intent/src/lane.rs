//! A lane: one key that may sign intents, with its limits and its window of nonces.
//!
//! Lane 0 is the payer's own key, lane 1 a session key. A zero key is a closed lane. The struct is the
//! on-chain layout, so that the program changes account data through these functions and nothing else.

use bytemuck::{Pod, Zeroable};

use crate::{Key, Skip, Window};

/// Lanes of a nonce account.
pub const LANES: usize = 2;
/// A limit that does not limit. Zero, in contrast, allows nothing.
pub const UNLIMITED: u64 = u64::MAX;

/// What a lane's key may pay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Any service.
    Any,
    /// One service, by its address.
    Service(Key),
    /// Every service of one authority.
    Authority(Key),
    /// Every service of one facilitator.
    Facilitator(Key),
}

impl Scope {
    /// Reads a scope from its stored form; `None` for a kind that this version does not know.
    pub fn from_parts(kind: u8, key: Key) -> Option<Self> {
        match kind {
            0 => Some(Self::Any),
            1 => Some(Self::Service(key)),
            2 => Some(Self::Authority(key)),
            3 => Some(Self::Facilitator(key)),
            _ => None,
        }
    }

    /// The stored form: kind and key (zero for [`Scope::Any`]).
    pub fn to_parts(self) -> (u8, Key) {
        match self {
            Self::Any => (0, [0; 32]),
            Self::Service(key) => (1, key),
            Self::Authority(key) => (2, key),
            Self::Facilitator(key) => (3, key),
        }
    }
}

/// The on-chain state of a lane, 192 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Lane {
    /// Highest nonce taken ([`Window::top`]).
    pub top: u64,
    /// Nonces taken at and below `top` ([`Window::bits`]).
    pub window: [u64; 4],
    /// Last unix second in which the key may spend; `i64::MAX` for never ending.
    pub expires_at: i64,
    /// Most atomic units a payment; [`UNLIMITED`] for no limit.
    pub max_per_payment: u64,
    /// Most atomic units a period; [`UNLIMITED`] for no limit.
    pub period_limit: u64,
    /// Length of a period in seconds; 0 for no period.
    pub period_secs: u64,
    /// Unix second in which the current period began.
    pub period_start: i64,
    /// Atomic units spent in the current period.
    pub period_spent: u64,
    /// Most atomic units in all for this key; [`UNLIMITED`] for no limit.
    pub total_limit: u64,
    /// Atomic units that this key has spent.
    pub total_spent: u64,
    /// The key that signs; zero for a closed lane.
    pub key: Key,
    /// The key of the scope ([`Scope`]).
    pub scope_key: Key,
    /// The kind of the scope ([`Scope`]).
    pub scope_kind: u8,
    /// Zero.
    pub reserved: [u8; 23],
}

const _: () = assert!(size_of::<Lane>() == 192);

/// What the payer sets about a lane; windows and what is spent are not among it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneTerms {
    /// The key that signs; zero closes the lane.
    pub key: Key,
    /// See [`Lane::expires_at`].
    pub expires_at: i64,
    /// See [`Lane::max_per_payment`].
    pub max_per_payment: u64,
    /// See [`Lane::period_limit`].
    pub period_limit: u64,
    /// See [`Lane::period_secs`].
    pub period_secs: u64,
    /// See [`Lane::total_limit`].
    pub total_limit: u64,
    /// What the key may pay.
    pub scope: Scope,
}

/// One payment as a lane sees it.
#[derive(Clone, Copy, Debug)]
pub struct Spend<'a> {
    /// Nonce in the lane's window.
    pub nonce: u64,
    /// Atomic units.
    pub amount: u64,
    /// The chain's clock, unix seconds.
    pub now: i64,
    /// The service that is paid.
    pub service: &'a Key,
    /// That service's authority.
    pub authority: &'a Key,
    /// That service's facilitator.
    pub facilitator: &'a Key,
}

/// What a payment changes in its lane. Only [`Lane::check`] makes one, only [`Lane::apply`] uses it: an entry
/// that fails later than its lane has changed nothing, not even a period's roll-over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LaneUpdate {
    window: Window,
    period_start: i64,
    period_spent: u64,
    total_spent: u64,
}

impl Lane {
    /// Whether the lane has a key.
    pub fn is_open(&self) -> bool {
        self.key != [0; 32]
    }

    /// The nonce window.
    pub fn window(&self) -> Window {
        Window {
            top: self.top,
            bits: self.window,
        }
    }

    /// Checks a payment against key, expiry, scope, limits and window, and gives what it would change.
    pub fn check(&self, spend: &Spend<'_>) -> Result<LaneUpdate, Skip> {
        if !self.is_open() {
            return Err(Skip::LaneClosed);
        }
        if spend.now > self.expires_at {
            return Err(Skip::LaneExpired);
        }
        let in_scope = match self.scope_kind {
            0 => true,
            1 => self.scope_key == *spend.service,
            2 => self.scope_key == *spend.authority,
            3 => self.scope_key == *spend.facilitator,
            _ => false,
        };
        if !in_scope {
            return Err(Skip::Scope);
        }
        let window = self.window().take(spend.nonce)?;
        if spend.amount > self.max_per_payment {
            return Err(Skip::OverMax);
        }
        let (period_start, spent) = self.period_at(spend.now);
        let period_limit = if self.period_secs == 0 {
            UNLIMITED
        } else {
            self.period_limit
        };
        let period_spent = within(spent, spend.amount, period_limit).ok_or(Skip::OverPeriod)?;
        let total_spent =
            within(self.total_spent, spend.amount, self.total_limit).ok_or(Skip::OverTotal)?;
        Ok(LaneUpdate {
            window,
            period_start,
            period_spent,
            total_spent,
        })
    }

    /// Writes what [`Lane::check`] allowed.
    pub fn apply(&mut self, update: LaneUpdate) {
        self.top = update.window.top;
        self.window = update.window.bits;
        self.period_start = update.period_start;
        self.period_spent = update.period_spent;
        self.total_spent = update.total_spent;
    }

    /// Sets key, limits and scope. The window is never touched, so that no change of keys revives a nonce;
    /// what is spent stays for the same key and starts anew for another one.
    ///
    /// Another period length for the same key counts from the old period's start, so it can end that period at
    /// once and forget what was spent in it. Only the payer can do this.
    pub fn set(&mut self, terms: &LaneTerms, now: i64) {
        if self.key != terms.key {
            self.period_start = now;
            self.period_spent = 0;
            self.total_spent = 0;
        }
        self.key = terms.key;
        self.expires_at = terms.expires_at;
        self.max_per_payment = terms.max_per_payment;
        self.period_limit = terms.period_limit;
        self.period_secs = terms.period_secs;
        self.total_limit = terms.total_limit;
        (self.scope_kind, self.scope_key) = terms.scope.to_parts();
    }

    /// Start of the period that holds `now`, and what is spent in it. Periods advance by whole lengths, so
    /// any stretch of one period's length sees at most twice the limit.
    pub fn period_at(&self, now: i64) -> (i64, u64) {
        let Some(secs) = i64::try_from(self.period_secs).ok().filter(|s| *s > 0) else {
            return (self.period_start, self.period_spent);
        };
        let elapsed = now.saturating_sub(self.period_start);
        if elapsed < secs {
            return (self.period_start, self.period_spent);
        }
        (self.period_start.saturating_add(elapsed / secs * secs), 0)
    }

    /// The most that one more payment may take now, by the lane alone.
    pub fn headroom(&self, now: i64) -> u64 {
        if !self.is_open() || now > self.expires_at {
            return 0;
        }
        let left = |limit: u64, spent: u64| {
            if limit == UNLIMITED {
                UNLIMITED
            } else {
                limit.saturating_sub(spent)
            }
        };
        let (_, spent) = self.period_at(now);
        let period = if self.period_secs == 0 {
            UNLIMITED
        } else {
            left(self.period_limit, spent)
        };
        self.max_per_payment
            .min(period)
            .min(left(self.total_limit, self.total_spent))
    }
}

/// `spent + amount` if `limit` allows it. An unlimited count stops at the top instead of failing.
fn within(spent: u64, amount: u64, limit: u64) -> Option<u64> {
    if limit == UNLIMITED {
        return Some(spent.saturating_add(amount));
    }
    spent.checked_add(amount).filter(|sum| *sum <= limit)
}
