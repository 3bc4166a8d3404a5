//! What happened, for the record. With the instructions' data it is enough to rebuild every account and every
//! balance: a [`Changed`] holds the whole account, and [`Settled`] and [`Paid`] say which tokens moved.

use anchor_lang::prelude::*;

/// One `settle`.
#[event]
pub struct Settled {
    /// The service that was paid.
    pub service: Pubkey,
    /// Atomic units pulled from payers.
    pub total: u64,
    /// The treasury's leg.
    pub treasury: u64,
    /// The facilitator's leg.
    pub facilitator: u64,
    /// Legs that stayed in the vault: bit 0 to 7 the recipients, bit 8 the treasury, bit 9 the facilitator.
    pub held: u16,
    /// The recipients' legs, in the order of the terms.
    pub recipients: Vec<u64>,
    /// A byte for each entry: 0 settled, otherwise the `Skip` code.
    pub codes: Vec<u8>,
}

/// Tokens that left a vault outside `settle`. What is held after it is in the [`Changed`] that follows.
#[event]
pub struct Paid {
    pub service: Pubkey,
    /// Atomic units that nobody owned yet and that were divided.
    pub divided: u64,
    /// Where tokens went.
    pub legs: Vec<PaidLeg>,
}

/// One transfer out of a vault.
#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy)]
pub struct PaidLeg {
    pub token_account: Pubkey,
    pub amount: u64,
}

/// An account of the program was created, changed or, where `data` is empty, closed.
///
/// One event for every change of every account, in the accounts' own layouts: nobody has to keep another
/// dozen of structs in step with them.
#[event]
pub struct Changed {
    pub account: Pubkey,
    /// The account's data as it is now, discriminator first.
    pub data: Vec<u8>,
}

/// Emits [`Changed`] with an account's data as it is now.
#[inline(never)]
pub fn announce(account: &AccountInfo<'_>) -> Result<()> {
    let data = account.try_borrow_data()?.to_vec();
    emit!(Changed {
        account: *account.key,
        data,
    });
    Ok(())
}
