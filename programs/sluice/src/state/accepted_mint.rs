use anchor_lang::prelude::*;

use super::RESERVED;

/// A mint that services may be paid in, at `["mint", mint]`.
#[account(zero_copy)]
pub struct AcceptedMint {
    /// Least atomic units a payment.
    pub min_amount: u64,
    /// Most atomic units a payment.
    pub max_amount: u64,
    /// Token-2022 extensions that the mint may carry, a bit for each extension number; 0 for classic mints.
    pub allowed_extensions: u64,
    pub mint: Pubkey,
    /// The program that owns mint and accounts.
    pub token_program: Pubkey,
    /// Where the treasury's legs go, kept so that settle derives nothing.
    pub treasury_token: Pubkey,
    pub decimals: u8,
    pub version: u8,
    pub bump: u8,
    /// [`AcceptedMint::SETTLE`].
    pub flags: u8,
    pub padding: [u8; 4],
    pub reserved: [u8; RESERVED],
}

const _: () = assert!(size_of::<AcceptedMint>() == 192);

impl AcceptedMint {
    /// Flag: pulls from payers are allowed.
    pub const SETTLE: u8 = 1;

    pub fn settles(&self) -> bool {
        self.flags & Self::SETTLE != 0
    }
}
