use anchor_lang::prelude::*;
use sluice_intent::LANES;

use super::RESERVED;

/// One key that may sign a payer's intents. The layout is `sluice_intent::Lane`'s, field by field, and only
/// that type's functions change it; it is spelt out here for the IDL.
#[zero_copy]
pub struct Lane {
    pub top: u64,
    pub window: [u64; 4],
    pub expires_at: i64,
    pub max_per_payment: u64,
    pub period_limit: u64,
    pub period_secs: u64,
    pub period_start: i64,
    pub period_spent: u64,
    pub total_limit: u64,
    pub total_spent: u64,
    pub key: Pubkey,
    pub scope_key: Pubkey,
    pub scope_kind: u8,
    pub reserved: [u8; 23],
}

impl Lane {
    pub fn logic(&self) -> &sluice_intent::Lane {
        bytemuck::cast_ref(self)
    }

    pub fn logic_mut(&mut self) -> &mut sluice_intent::Lane {
        bytemuck::cast_mut(self)
    }
}

/// A payer's nonces and limits in one mint, at `["nonce", payer, mint]`. Its address is the SPL delegate that
/// the payer approves.
#[account(zero_copy)]
pub struct NonceAccount {
    /// Slot of opening. Every digest contains it, so a reopened account revives no intent.
    pub opened_slot: u64,
    /// Unix second of the last settlement, or of opening.
    pub last_active: i64,
    /// Atomic units ever pulled (stops at the top).
    pub spent_total: u64,
    pub payer: Pubkey,
    pub mint: Pubkey,
    /// The one token account that may be pulled from.
    pub source: Pubkey,
    /// Who paid this account's rent, and gets it back.
    pub rent_payer: Pubkey,
    pub version: u8,
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    pub padding: [u8; 5],
    pub reserved: [u8; RESERVED],
    /// Lane 0 is the payer's own key, lane 1 a session key. Last, so that a later version can append more.
    pub lanes: [Lane; LANES],
}

const _: () = assert!(size_of::<Lane>() == size_of::<sluice_intent::Lane>());
const _: () = assert!(size_of::<NonceAccount>() == 608);
