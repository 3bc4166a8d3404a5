//! Where a service's money goes: the recipients in the order of the terms, then the treasury, then the
//! facilitator. Every list of legs in the program, and every set of them, is in this order.

use anchor_lang::prelude::*;
use sluice_intent::{MAX_RECIPIENTS, Shares};

use crate::{
    instructions::{OnService, Owners},
    state::Service,
    token::MintRef,
};

/// The treasury's place.
pub const TREASURY: usize = MAX_RECIPIENTS;
/// The facilitator's place.
pub const FACILITATOR: usize = MAX_RECIPIENTS + 1;
/// Places of legs, used or not.
pub const LEGS: usize = MAX_RECIPIENTS + 2;

/// Atomic units of each leg.
pub type Amounts = [u64; LEGS];

/// The legs of a division.
pub fn amounts(shares: &Shares) -> Amounts {
    let mut all = [0; LEGS];
    all[..MAX_RECIPIENTS].copy_from_slice(&shares.recipients);
    all[TREASURY] = shares.treasury;
    all[FACILITATOR] = shares.facilitator;
    all
}

/// A set of legs: bit i is the leg in place i.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct LegSet(pub u16);

impl LegSet {
    pub fn insert(&mut self, leg: usize) {
        self.0 |= 1 << leg;
    }

    pub fn contains(self, leg: usize) -> bool {
        self.0 & (1 << leg) != 0
    }
}

/// The token account that the instruction brings for a leg.
pub fn account<'info>(
    accounts: &'info OnService<'info>,
    recipients: &'info [AccountInfo<'info>],
    leg: usize,
) -> Option<&'info AccountInfo<'info>> {
    match leg {
        TREASURY => Some(&accounts.treasury_token),
        FACILITATOR => Some(&accounts.facilitator_token),
        _ => recipients.get(leg),
    }
}

/// The wallet that a leg belongs to.
pub fn owner<'a>(service: &'a Service, owners: &'a Owners, leg: usize) -> Option<&'a Pubkey> {
    match leg {
        TREASURY => Some(&owners.treasury),
        FACILITATOR => Some(&owners.facilitator),
        _ => service.shares().get(leg).map(|share| &share.owner),
    }
}

/// Whether a leg's account can take its money. The vault never is a leg's account: money sent from it to itself
/// would be counted and not moved.
pub fn is_payable(
    mint: MintRef<'_>,
    vault: &Pubkey,
    account: &AccountInfo<'_>,
    owner: &Pubkey,
) -> bool {
    account.key != vault && mint.can_receive(account, owner)
}
