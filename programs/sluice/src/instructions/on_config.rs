use core::cell::RefMut;

use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    state::{Config, write},
};

/// The accounts of whatever changes the config alone: `update_config`, `set_paused`, `set_treasury`,
/// `propose_admin` and `accept_admin`.
#[derive(Accounts)]
pub struct OnConfig<'info> {
    pub authority: Signer<'info>,
    /// CHECK: read as the config.
    #[account(mut)]
    pub config: UncheckedAccount<'info>,
}

impl OnConfig<'_> {
    /// The config, open for the admin's change.
    pub fn as_admin(&self) -> Result<RefMut<'_, Config>> {
        let config = write::<Config>(&self.config)?;
        ensure(config.admin == *self.authority.key, SluiceError::NotAdmin)?;
        Ok(config)
    }
}
