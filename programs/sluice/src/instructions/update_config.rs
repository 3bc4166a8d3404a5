use anchor_lang::prelude::*;

use super::{OnConfig, initialize_config::require_caps};
use crate::{SluiceError, error::fail, events::announce, state::FEE_DELAY_SECS};

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

pub(crate) fn handle(accounts: &OnConfig<'_>, args: UpdateConfigArgs) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    {
        let mut config = accounts.as_admin()?;
        // A due announcement first, or a new one would silently take its place.
        config.apply_due_fees(now);
        if let Some(bps) = args.treasury_bps {
            config.pending_treasury_bps = bps;
            config.fees_effective_at = now
                .checked_add(FEE_DELAY_SECS)
                .ok_or_else(|| fail(SluiceError::Overflow))?;
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
        require_caps(
            config.treasury_bps.max(config.pending_treasury_bps),
            config.max_facilitator_bps,
            config.max_intent_ttl,
        )?;
    }
    announce(&accounts.config)
}
