use anchor_lang::prelude::*;

use super::OnConfig;
use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Config, write},
};

/// Makes the proposed key, which signs, the admin.
pub(crate) fn handle(accounts: &OnConfig<'_>) -> Result<()> {
    {
        let mut config = write::<Config>(&accounts.config)?;
        let proposed = config.pending_admin == *accounts.authority.key;
        ensure(proposed, SluiceError::NotPending)?;
        config.admin = config.pending_admin;
        config.pending_admin = Pubkey::default();
    }
    announce(&accounts.config)
}
