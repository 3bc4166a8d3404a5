use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{AcceptedMint, Config, create, read, seeds, write},
    token::{MintRef, can_be_pulled, mint_decimals, require_allowable},
};

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct SetMintArgs {
    /// Whether pulls from payers are allowed. Exits always are.
    pub settle: bool,
    pub min_amount: u64,
    pub max_amount: u64,
    /// Token-2022 extensions that the mint may carry, a bit for each number; 0 for a classic mint. A permanent
    /// delegate or a close authority is the admin's to trust; fees, hooks and pauses are refused at every settle.
    pub allowed_extensions: u64,
}

#[derive(Accounts)]
pub struct SetMint<'info> {
    #[account(mut)]
    pub admin: Signer<'info>,
    /// CHECK: read as the config.
    pub config: UncheckedAccount<'info>,
    /// CHECK: judged by [`mint_decimals`].
    pub mint: UncheckedAccount<'info>,
    #[account(
        mut,
        seeds = [seeds::MINT, mint.key().as_ref()],
        bump
    )]
    /// CHECK: created here, the first time.
    pub accepted_mint: UncheckedAccount<'info>,
    /// CHECK: must be a token account of the mint that the treasury owns.
    pub treasury_token: UncheckedAccount<'info>,
    /// CHECK: only called to create the account.
    pub system_program: UncheckedAccount<'info>,
}

pub(crate) fn handle(accounts: &SetMint<'_>, bump: u8, args: SetMintArgs) -> Result<()> {
    let treasury = {
        let config = read::<Config>(&accounts.config)?;
        ensure(config.admin == *accounts.admin.key, SluiceError::NotAdmin)?;
        config.treasury
    };
    let decimals = mint_decimals(&accounts.mint)?;
    let token_program = *accounts.mint.owner;
    let ordered = args.min_amount <= args.max_amount;
    ensure(ordered, SluiceError::InvalidAmounts)?;
    require_allowable(args.allowed_extensions, &token_program)?;
    // Switching a mint off must work whatever its authorities have done to it.
    if args.settle {
        let fits = can_be_pulled(&accounts.mint, args.allowed_extensions);
        ensure(fits, SluiceError::MintUnusable)?;
    }

    let account: &AccountInfo<'_> = &accounts.accepted_mint;
    if *account.owner != crate::ID {
        let seeds: [&[u8]; 3] = [seeds::MINT, accounts.mint.key.as_ref(), &[bump]];
        create::<AcceptedMint>(account, &accounts.admin, &seeds)?;
    }
    {
        let mut accepted = write::<AcceptedMint>(account)?;
        if accepted.treasury_token != *accounts.treasury_token.key {
            let mint = MintRef {
                mint: accounts.mint.key,
                token_program: &token_program,
            };
            let usable = mint.is_usable(&accounts.treasury_token, &treasury);
            ensure(usable, SluiceError::InvalidTokenAccount)?;
        }
        accepted.min_amount = args.min_amount;
        accepted.max_amount = args.max_amount;
        accepted.allowed_extensions = args.allowed_extensions;
        accepted.mint = *accounts.mint.key;
        accepted.token_program = token_program;
        accepted.treasury_token = *accounts.treasury_token.key;
        accepted.decimals = decimals;
        accepted.bump = bump;
        accepted.flags = if args.settle { AcceptedMint::SETTLE } else { 0 };
    }
    announce(account)
}
