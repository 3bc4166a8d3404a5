use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Facilitator, Service, is, write},
};

/// The accounts of `propose_authority` and `accept_authority`.
#[derive(Accounts)]
pub struct Handover<'info> {
    /// Today's authority to propose, the proposed one to accept.
    pub authority: Signer<'info>,
    /// CHECK: read as a facilitator or a service.
    #[account(mut)]
    pub account: UncheckedAccount<'info>,
}

/// Names the next authority of a facilitator or a service, which takes over by `accept_authority`; zero takes the
/// proposal back.
pub(crate) fn handle(accounts: &Handover<'_>, authority: Pubkey) -> Result<()> {
    let who = *accounts.authority.key;
    if is::<Facilitator>(&accounts.account) {
        let mut facilitator = write::<Facilitator>(&accounts.account)?;
        ensure(facilitator.authority == who, SluiceError::NotAuthority)?;
        facilitator.pending_authority = authority;
    } else {
        let mut service = write::<Service>(&accounts.account)?;
        ensure(service.authority == who, SluiceError::NotAuthority)?;
        service.pending_authority = authority;
    }
    announce(&accounts.account)
}
