use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{AcceptedMint, NonceAccount, create, read, seeds, write},
    token::MintRef,
};

/// The payer signs, because from now on its approvals to this address mean something; anyone may pay rent.
#[derive(Accounts)]
pub struct OpenNonce<'info> {
    #[account(mut)]
    pub rent_payer: Signer<'info>,
    pub payer: Signer<'info>,
    /// CHECK: read as an accepted mint.
    pub accepted_mint: UncheckedAccount<'info>,
    /// CHECK: compared with the accepted mint's.
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
    /// CHECK: only called to create the account.
    pub system_program: UncheckedAccount<'info>,
}

/// The windows and lanes begin as zero: no key, nothing used.
pub(crate) fn handle(accounts: &OpenNonce<'_>, bump: u8) -> Result<()> {
    let clock = Clock::get()?;
    let (payer, mint) = (accounts.payer.key, accounts.mint.key);
    let account: &AccountInfo<'_> = &accounts.nonce_account;
    {
        let accepted = read::<AcceptedMint>(&accounts.accepted_mint)?;
        ensure(accepted.mint == *mint, SluiceError::WrongMint)?;
        let mint = MintRef {
            mint,
            token_program: &accepted.token_program,
        };
        let usable = mint.is_source(&accounts.source, payer);
        ensure(usable, SluiceError::InvalidTokenAccount)?;
    }
    let seeds: [&[u8]; 4] = [seeds::NONCE, payer.as_ref(), mint.as_ref(), &[bump]];
    create::<NonceAccount>(account, &accounts.rent_payer, &seeds)?;
    {
        let mut nonce = write::<NonceAccount>(account)?;
        nonce.opened_slot = clock.slot;
        nonce.last_active = clock.unix_timestamp;
        nonce.payer = *payer;
        nonce.mint = *mint;
        nonce.source = *accounts.source.key;
        nonce.rent_payer = *accounts.rent_payer.key;
        nonce.bump = bump;
    }
    announce(account)
}
