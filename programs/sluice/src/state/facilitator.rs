use anchor_lang::prelude::*;
use sluice_intent::MAX_RELAYERS;

use super::RESERVED;

/// Who may settle: an operator with its relayer keys, at `["facilitator", creator]`.
#[account(zero_copy)]
pub struct Facilitator {
    pub created_slot: u64,
    /// Least fixed share of each payment that a service must grant, in atomic units.
    pub min_fee_fixed: u64,
    /// Who registered it; part of the address, so it never changes.
    pub creator: Pubkey,
    /// Changes what this struct holds. Never a relayer key.
    pub authority: Pubkey,
    /// Becomes authority by accepting; zero for nobody.
    pub pending_authority: Pubkey,
    /// The wallet that owns the token accounts its legs go to.
    pub wallet: Pubkey,
    /// Keys that pay for and sign settlements; those past `relayer_count` are zero.
    pub relayers: [Pubkey; MAX_RELAYERS],
    /// Least proportional share that a service must grant, in basis points.
    pub min_fee_bps: u16,
    pub relayer_count: u8,
    /// 1 while the admin has suspended it.
    pub suspended: u8,
    pub version: u8,
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    pub padding: [u8; 1],
    pub reserved: [u8; RESERVED],
}

const _: () = assert!(size_of::<Facilitator>() == 472);

impl Facilitator {
    /// Whether `key` may pay for and sign settlements.
    pub fn has_relayer(&self, key: &Pubkey) -> bool {
        self.relayers
            .iter()
            .take(usize::from(self.relayer_count))
            .any(|relayer| relayer == key)
    }
}
