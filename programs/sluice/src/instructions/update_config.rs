use anchor_lang::prelude::*;

use super::initialize_config::require_caps;
use crate::{
    SluiceError,
    state::{Config, FEE_DELAY_SECS},
};

/// What is `None` stays as it is.
#[derive(AnchorSerialize, AnchorDeserialize, Default)]
pub struct UpdateConfigArgs {
    /// Announces a treasury share: new and synced services copy it after [`FEE_DELAY_SECS`].
    pub treasury_bps: Option<u16>,
    pub max_facilitator_bps: Option<u16>,
    pub max_intent_ttl: Option<u32>,
    /// Zero for no guardian.
    pub guardian: Option<Pubkey>,
}

#[derive(Accounts)]
pub struct UpdateConfig<'info> {
    pub admin: Signer<'info>,
    #[account(mut, has_one = admin @ SluiceError::NotAdmin)]
    pub config: AccountLoader<'info, Config>,
}

pub(crate) fn handle(ctx: Context<UpdateConfig>, args: UpdateConfigArgs) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let mut config = ctx.accounts.config.load_mut()?;
    // A due announcement first, or a new one would silently take its place.
    config.apply_due_fees(now);
    if let Some(bps) = args.treasury_bps {
        config.pending_treasury_bps = bps;
        config.fees_effective_at = now
            .checked_add(FEE_DELAY_SECS)
            .ok_or(SluiceError::Overflow)?;
    }
    if let Some(bps) = args.max_facilitator_bps {
        config.max_facilitator_bps = bps;
    }
    if let Some(secs) = args.max_intent_ttl {
        config.max_intent_ttl = secs;
    }
    if let Some(guardian) = args.guardian {
        config.guardian = guardian;
    }
    let treasury_bps = config.treasury_bps.max(config.pending_treasury_bps);
    require_caps(
        treasury_bps,
        config.max_facilitator_bps,
        config.max_intent_ttl,
    )
}
