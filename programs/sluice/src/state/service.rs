use anchor_lang::prelude::*;
use sluice_intent::MAX_RECIPIENTS;

use super::RESERVED;

/// One recipient of a service, with what is held for it.
#[zero_copy]
pub struct RecipientShare {
    /// Atomic units that its account could not take; they wait in the vault.
    pub held: u64,
    /// Unix second since which something is held; 0 for nothing.
    pub held_since: i64,
    /// The wallet.
    pub owner: Pubkey,
    /// The wallet's associated token account of the service's mint.
    pub token_account: Pubkey,
    /// Share of what treasury and facilitator leave, in basis points.
    pub bps: u16,
    pub padding: [u8; 6],
}

/// A split config: who is paid, and how a payment is divided, at `["service", creator, id]`.
#[account(zero_copy)]
pub struct Service {
    /// Chosen by the creator; part of the address.
    pub id: u64,
    /// The facilitator's fixed share of each payment, in atomic units.
    pub facilitator_fixed: u64,
    /// Least atomic units a payment.
    pub min_payment: u64,
    /// Everything that is held, in atomic units.
    pub held_total: u64,
    /// Of that, for the treasury.
    pub held_treasury: u64,
    /// Of that, for the facilitator.
    pub held_facilitator: u64,
    /// Atomic units ever pulled for this service (stops at the top).
    pub settled_total: u64,
    /// Payments ever settled (stops at the top).
    pub payments: u64,
    pub created_slot: u64,
    /// Who created it; part of the address, so it never changes.
    pub creator: Pubkey,
    /// Changes what this struct holds.
    pub authority: Pubkey,
    /// Becomes authority by accepting; zero for nobody.
    pub pending_authority: Pubkey,
    pub mint: Pubkey,
    /// The facilitator account whose relayers may settle.
    pub facilitator: Pubkey,
    /// The associated token account of (service, mint).
    pub vault: Pubkey,
    /// `sluice_intent::Terms::hash` of the terms in force.
    pub terms_hash: Pubkey,
    /// Those past `recipient_count` are zero.
    pub recipients: [RecipientShare; MAX_RECIPIENTS],
    /// Counts the changes of terms, for people.
    pub terms_version: u32,
    /// The facilitator's proportional share, in basis points.
    pub facilitator_bps: u16,
    /// The treasury's share, copied from the config, in basis points.
    pub treasury_bps: u16,
    pub recipient_count: u8,
    /// [`Service::ACTIVE`] or [`Service::CLOSED`].
    pub status: u8,
    pub vault_bump: u8,
    pub version: u8,
    pub bump: u8,
    /// Zero.
    pub flags: u8,
    pub padding: [u8; 2],
    pub reserved: [u8; RESERVED],
}

const _: () = assert!(size_of::<RecipientShare>() == 88);
const _: () = assert!(size_of::<Service>() == 1_080);

impl Service {
    /// Status: takes payments.
    pub const ACTIVE: u8 = 1;
    /// Status: takes no payments; what is held is still paid.
    pub const CLOSED: u8 = 2;

    /// The recipients in use.
    pub fn shares(&self) -> &[RecipientShare] {
        &self.recipients[..usize::from(self.recipient_count).min(MAX_RECIPIENTS)]
    }
}
