use anchor_lang::prelude::*;

use crate::{SluiceError, state::Config};

#[derive(Accounts)]
pub struct SetPaused<'info> {
    pub authority: Signer<'info>,
    #[account(mut)]
    pub config: AccountLoader<'info, Config>,
}

pub(crate) fn handle(ctx: Context<SetPaused>, paused: bool) -> Result<()> {
    let mut config = ctx.accounts.config.load_mut()?;
    let who = ctx.accounts.authority.key();
    // The guardian's key is kept where it can be reached in a hurry, so it can only ever stop things.
    let allowed = who == config.admin || (paused && who == config.guardian);
    require!(allowed, SluiceError::NotGuardian);
    config.paused = u8::from(paused);
    Ok(())
}
