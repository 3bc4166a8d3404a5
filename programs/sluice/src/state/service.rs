use anchor_lang::prelude::*;
use sluice_intent::{
    MAX_RECIPIENTS, Recipient, Shares, Terms,
    split::{Fees, split},
};

use super::{RESERVED, seeds};
use crate::{
    SluiceError,
    error::{ensure, fail},
    legs::{FACILITATOR, TREASURY},
    token::{MintRef, associated_token_account},
};

/// One recipient of a service, with what is held for it.
#[zero_copy]
#[derive(Default)]
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

/// What a service charges, as its authority chooses it.
#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct TermsArgs {
    pub facilitator_bps: u16,
    pub facilitator_fixed: u64,
    pub min_payment: u64,
    /// 1 to 8; the first also receives rounding remainders.
    pub recipients: Vec<RecipientArg>,
}

#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy)]
pub struct RecipientArg {
    pub owner: Pubkey,
    pub bps: u16,
}

/// What a service signs with, kept apart from its account, which must not be borrowed while money moves.
pub struct ServiceSigner {
    creator: Pubkey,
    id: [u8; 8],
    bump: [u8; 1],
}

impl ServiceSigner {
    pub fn seeds(&self) -> [&[u8]; 4] {
        [seeds::SERVICE, self.creator.as_ref(), &self.id, &self.bump]
    }
}

impl Service {
    /// Status: takes payments.
    pub const ACTIVE: u8 = 1;
    /// Status: takes no payments; what is held is still paid.
    pub const CLOSED: u8 = 2;

    /// The recipients in use.
    pub fn shares(&self) -> &[RecipientShare] {
        &self.recipients[..usize::from(self.recipient_count).min(MAX_RECIPIENTS)]
    }

    pub fn signer(&self) -> ServiceSigner {
        ServiceSigner {
            creator: self.creator,
            id: self.id.to_le_bytes(),
            bump: [self.bump],
        }
    }

    /// How `sum`, made of `payments` payments, is divided under the terms in force.
    pub fn divide(&self, sum: u64, payments: u64) -> Result<Shares> {
        let mut bps = [0u16; MAX_RECIPIENTS];
        let shares = self.shares();
        for (slot, share) in bps.iter_mut().zip(shares) {
            *slot = share.bps;
        }
        let fees = Fees {
            treasury_bps: self.treasury_bps,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed,
        };
        split(sum, payments, &fees, &bps[..shares.len()])
            .map_err(|_| fail(SluiceError::RecipientShares))
    }

    /// Atomic units held for the leg in place `leg` ([`crate::legs`]).
    pub fn held(&self, leg: usize) -> u64 {
        match leg {
            TREASURY => self.held_treasury,
            FACILITATOR => self.held_facilitator,
            _ => self.recipients.get(leg).map_or(0, |share| share.held),
        }
    }

    /// Unix second since which something is held for a leg; `now` for the legs of which that is not kept.
    pub fn held_since(&self, leg: usize, now: i64) -> i64 {
        let share = self.recipients.get(leg).filter(|share| share.held > 0);
        share.map_or(now, |share| share.held_since)
    }

    /// Sets what is held for a leg. The total is the caller's to keep.
    pub fn set_held(&mut self, leg: usize, amount: u64, now: i64) {
        match leg {
            TREASURY => self.held_treasury = amount,
            FACILITATOR => self.held_facilitator = amount,
            _ => {
                if let Some(share) = self.recipients.get_mut(leg) {
                    if amount == 0 {
                        share.held_since = 0;
                    } else if share.held == 0 {
                        share.held_since = now;
                    }
                    share.held = amount;
                }
            }
        }
    }

    /// Writes terms, checked, and their hash. What is held stays with a recipient that stays, wherever it now
    /// stands; what is held for one that goes must have been moved before.
    pub fn set_terms(
        &mut self,
        address: &Pubkey,
        token_program: &Pubkey,
        facilitator: &Pubkey,
        treasury_bps: u16,
        args: &TermsArgs,
    ) -> Result<()> {
        let count = args.recipients.len();
        ensure(count <= MAX_RECIPIENTS, SluiceError::RecipientCount)?;
        let mint = self.mint;
        let mint = MintRef {
            mint: &mint,
            token_program,
        };
        let mut rows = [RecipientShare::default(); MAX_RECIPIENTS];
        for (row, arg) in rows.iter_mut().zip(&args.recipients) {
            ensure(arg.owner != Pubkey::default(), SluiceError::ZeroAddress)?;
            ensure(arg.owner != *address, SluiceError::RecipientIsService)?;
            let before = self.shares().iter().find(|share| share.owner == arg.owner);
            *row = RecipientShare {
                held: before.map_or(0, |share| share.held),
                held_since: before.map_or(0, |share| share.held_since),
                owner: arg.owner,
                token_account: associated_token_account(&arg.owner, mint).0,
                bps: arg.bps,
                padding: [0; 6],
            };
        }
        self.recipients = rows;
        self.recipient_count = count as u8;
        self.facilitator = *facilitator;
        self.facilitator_bps = args.facilitator_bps;
        self.facilitator_fixed = args.facilitator_fixed;
        self.treasury_bps = treasury_bps;
        self.min_payment = args.min_payment;
        self.seal(address)
    }

    /// Checks the terms in force, and puts their hash and the next version number beside them.
    pub fn seal(&mut self, address: &Pubkey) -> Result<()> {
        let mut rows = [Recipient {
            owner: [0; 32],
            token_account: [0; 32],
            bps: 0,
        }; MAX_RECIPIENTS];
        let shares = self.shares();
        for (row, share) in rows.iter_mut().zip(shares) {
            row.owner = share.owner.to_bytes();
            row.token_account = share.token_account.to_bytes();
            row.bps = share.bps;
        }
        let terms = Terms {
            service: address.to_bytes(),
            mint: self.mint.to_bytes(),
            facilitator: self.facilitator.to_bytes(),
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: self.facilitator_fixed,
            treasury_bps: self.treasury_bps,
            recipients: &rows[..shares.len()],
        };
        terms.validate().map_err(|error| fail(error.into()))?;
        let hash = terms.hash().map_err(|error| fail(error.into()))?;
        self.terms_hash = Pubkey::new_from_array(hash);
        self.terms_version = self.terms_version.saturating_add(1);
        Ok(())
    }
}
