use anchor_lang::prelude::*;

use super::{FacilitatorArgs, register_facilitator::apply};
use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Facilitator, write},
};

#[derive(Accounts)]
pub struct UpdateFacilitator<'info> {
    pub authority: Signer<'info>,
    /// CHECK: read as a facilitator.
    #[account(mut)]
    pub facilitator: UncheckedAccount<'info>,
}

/// Replaces wallet, minimums and relayer keys. New minimums hold for services that are created or updated from
/// now on: no service's terms change.
pub(crate) fn handle(accounts: &UpdateFacilitator<'_>, args: FacilitatorArgs) -> Result<()> {
    {
        let mut facilitator = write::<Facilitator>(&accounts.facilitator)?;
        let own = facilitator.authority == *accounts.authority.key;
        ensure(own, SluiceError::NotAuthority)?;
        apply(&mut facilitator, &args)?;
    }
    announce(&accounts.facilitator)
}
