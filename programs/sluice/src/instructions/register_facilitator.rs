use anchor_lang::prelude::*;
use sluice_intent::{MAX_FACILITATOR_BPS, MAX_RELAYERS};

use crate::{
    SluiceError,
    state::{Facilitator, VERSION, create, seeds},
};

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct RegisterFacilitatorArgs {
    /// Owns the token accounts that its legs go to.
    pub wallet: Pubkey,
    pub min_fee_bps: u16,
    pub min_fee_fixed: u64,
    /// 1 to 8 keys that pay for and sign settlements.
    pub relayers: Vec<Pubkey>,
}

/// Anyone may register; services choose whom they let settle, and the admin can suspend.
#[derive(Accounts)]
pub struct RegisterFacilitator<'info> {
    #[account(mut)]
    pub creator: Signer<'info>,
    #[account(
        mut,
        seeds = [seeds::FACILITATOR, creator.key().as_ref()],
        bump
    )]
    /// CHECK: created here.
    pub facilitator: UncheckedAccount<'info>,
    pub system_program: Program<'info, System>,
}

pub(crate) fn handle<'info>(
    ctx: Context<'info, RegisterFacilitator<'info>>,
    args: RegisterFacilitatorArgs,
) -> Result<()> {
    let accounts: &'info RegisterFacilitator<'info> = ctx.accounts;
    let creator = accounts.creator.key();
    require_keys_neq!(args.wallet, Pubkey::default(), SluiceError::ZeroAddress);
    require!(
        args.min_fee_bps <= MAX_FACILITATOR_BPS,
        SluiceError::OverCap
    );
    require_relayers(&args.relayers, &creator)?;

    let created = create::<Facilitator>(
        accounts.facilitator.as_ref(),
        &accounts.creator,
        &[
            seeds::FACILITATOR,
            creator.as_ref(),
            &[ctx.bumps.facilitator],
        ],
    )?;
    let mut facilitator = created.load_mut()?;
    facilitator.created_slot = Clock::get()?.slot;
    facilitator.creator = creator;
    facilitator.authority = creator;
    facilitator.wallet = args.wallet;
    facilitator.min_fee_bps = args.min_fee_bps;
    facilitator.min_fee_fixed = args.min_fee_fixed;
    for (slot, key) in facilitator.relayers.iter_mut().zip(&args.relayers) {
        *slot = *key;
    }
    facilitator.relayer_count =
        u8::try_from(args.relayers.len()).map_err(|_| SluiceError::InvalidRelayers)?;
    facilitator.version = VERSION;
    facilitator.bump = ctx.bumps.facilitator;
    Ok(())
}

/// A relayer key lives on a server, an authority must not: the two are never the same.
pub(crate) fn require_relayers(keys: &[Pubkey], authority: &Pubkey) -> Result<()> {
    let count = keys.len();
    require!(
        (1..=MAX_RELAYERS).contains(&count),
        SluiceError::InvalidRelayers
    );
    for (i, key) in keys.iter().enumerate() {
        let bad = *key == Pubkey::default() || key == authority || keys[..i].contains(key);
        require!(!bad, SluiceError::InvalidRelayers);
    }
    Ok(())
}
