use anchor_lang::prelude::*;

use super::RESERVED;

/// What a recipient that was replaced is still owed, at `["held", service, owner]`.
#[account(zero_copy)]
pub struct HeldBalance {
    /// Atomic units, in the service's vault.
    pub amount: u64,
    /// Unix second since which the oldest of them are held; for a former facilitator, when it was replaced.
    pub held_since: i64,
    pub service: Pubkey,
    /// The wallet that is owed.
    pub owner: Pubkey,
    pub mint: Pubkey,
    /// Who paid this account's rent.
    pub rent_payer: Pubkey,
    pub version: u8,
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    pub padding: [u8; 5],
    pub reserved: [u8; RESERVED],
}

const _: () = assert!(size_of::<HeldBalance>() == 216);
