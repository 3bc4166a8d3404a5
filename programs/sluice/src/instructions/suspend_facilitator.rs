use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Config, Facilitator, read, write},
};

#[derive(Accounts)]
pub struct SuspendFacilitator<'info> {
    pub admin: Signer<'info>,
    /// CHECK: read as the config.
    pub config: UncheckedAccount<'info>,
    /// CHECK: read as a facilitator.
    #[account(mut)]
    pub facilitator: UncheckedAccount<'info>,
}

/// Stops or lets go on a facilitator's settlements. What it earned before is still paid.
pub(crate) fn handle(accounts: &SuspendFacilitator<'_>, suspended: bool) -> Result<()> {
    let admin = read::<Config>(&accounts.config)?.admin;
    ensure(admin == *accounts.admin.key, SluiceError::NotAdmin)?;
    write::<Facilitator>(&accounts.facilitator)?.suspended = u8::from(suspended);
    announce(&accounts.facilitator)
}
