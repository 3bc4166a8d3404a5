use anchor_lang::prelude::*;

use super::set_treasury::require_receiver;
use crate::{
    SluiceError,
    state::{AcceptedMint, NonceAccount, VERSION, create, seeds},
};

/// The payer signs, because from now on its approvals to this address mean something; anyone may pay rent.
#[derive(Accounts)]
pub struct OpenNonce<'info> {
    #[account(mut)]
    pub rent_payer: Signer<'info>,
    pub payer: Signer<'info>,
    #[account(has_one = mint @ SluiceError::WrongMint)]
    pub accepted_mint: AccountLoader<'info, AcceptedMint>,
    /// CHECK: the accepted mint names it.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: must be the payer's token account of the mint.
    pub source: UncheckedAccount<'info>,
    #[account(
        mut,
        seeds = [seeds::NONCE, payer.key().as_ref(), mint.key().as_ref()],
        bump
    )]
    /// CHECK: created here.
    pub nonce_account: UncheckedAccount<'info>,
    pub system_program: Program<'info, System>,
}

/// The windows and lanes begin as zero: no key, nothing used.
pub(crate) fn handle<'info>(ctx: Context<'info, OpenNonce<'info>>) -> Result<()> {
    let accounts: &'info OpenNonce<'info> = ctx.accounts;
    let clock = Clock::get()?;
    let token_program = accounts.accepted_mint.load()?.token_program;
    let (payer, mint) = (accounts.payer.key(), accounts.mint.key());
    require_receiver(&mint, &token_program, &accounts.source, &payer)?;

    let created = create::<NonceAccount>(
        accounts.nonce_account.as_ref(),
        &accounts.rent_payer,
        &[
            seeds::NONCE,
            payer.as_ref(),
            mint.as_ref(),
            &[ctx.bumps.nonce_account],
        ],
    )?;
    let mut nonce = created.load_mut()?;
    nonce.opened_slot = clock.slot;
    nonce.last_active = clock.unix_timestamp;
    nonce.payer = payer;
    nonce.mint = mint;
    nonce.source = accounts.source.key();
    nonce.rent_payer = accounts.rent_payer.key();
    nonce.version = VERSION;
    nonce.bump = ctx.bumps.nonce_account;
    Ok(())
}
