//! What a settlement says for the record. With the instruction's data it is enough to rebuild every balance.

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
