use anchor_lang::prelude::*;

use super::OnConfig;
use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Config, write},
};

/// Stops or resumes pulls from payers. Exits go on.
pub(crate) fn handle(accounts: &OnConfig<'_>, paused: bool) -> Result<()> {
    {
        let mut config = write::<Config>(&accounts.config)?;
        let who = *accounts.authority.key;
        // The guardian's key is kept where it can be reached in a hurry, so it can only ever stop things.
        let allowed = who == config.admin || (paused && who == config.guardian);
        ensure(allowed, SluiceError::NotGuardian)?;
        config.paused = u8::from(paused);
    }
    announce(&accounts.config)
}
