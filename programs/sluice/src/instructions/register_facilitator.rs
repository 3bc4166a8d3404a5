use anchor_lang::prelude::*;
use sluice_intent::{MAX_FACILITATOR_BPS, MAX_RELAYERS};

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Facilitator, create, seeds, write},
};

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct FacilitatorArgs {
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
    /// CHECK: only called to create the account.
    pub system_program: UncheckedAccount<'info>,
}

pub(crate) fn handle(
    accounts: &RegisterFacilitator<'_>,
    bump: u8,
    args: FacilitatorArgs,
) -> Result<()> {
    let creator = *accounts.creator.key;
    let account: &AccountInfo<'_> = &accounts.facilitator;
    let seeds: [&[u8]; 3] = [seeds::FACILITATOR, creator.as_ref(), &[bump]];
    create::<Facilitator>(account, &accounts.creator, &seeds)?;
    {
        let mut facilitator = write::<Facilitator>(account)?;
        facilitator.created_slot = Clock::get()?.slot;
        facilitator.creator = creator;
        facilitator.authority = creator;
        facilitator.bump = bump;
        apply(&mut facilitator, &args)?;
    }
    announce(account)
}

/// Writes what the authority chooses, checked.
pub(crate) fn apply(facilitator: &mut Facilitator, args: &FacilitatorArgs) -> Result<()> {
    ensure(args.wallet != Pubkey::default(), SluiceError::ZeroAddress)?;
    let within = args.min_fee_bps <= MAX_FACILITATOR_BPS;
    ensure(within, SluiceError::OverCap)?;
    let keys = &args.relayers;
    let some = (1..=MAX_RELAYERS).contains(&keys.len());
    ensure(some, SluiceError::InvalidRelayers)?;
    for (i, key) in keys.iter().enumerate() {
        // A relayer key lives on a server, an authority must not: the two are never the same.
        let bad =
            *key == Pubkey::default() || *key == facilitator.authority || keys[..i].contains(key);
        ensure(!bad, SluiceError::InvalidRelayers)?;
    }
    facilitator.wallet = args.wallet;
    facilitator.min_fee_bps = args.min_fee_bps;
    facilitator.min_fee_fixed = args.min_fee_fixed;
    facilitator.relayers = [Pubkey::default(); MAX_RELAYERS];
    facilitator.relayers[..keys.len()].copy_from_slice(keys);
    facilitator.relayer_count = keys.len() as u8;
    Ok(())
}
