use anchor_lang::prelude::*;

use super::set_treasury::require_receiver;
use crate::{
    SluiceError,
    state::{AcceptedMint, Config, VERSION, create, seeds},
    token::mint_decimals,
};

#[derive(AnchorSerialize, AnchorDeserialize)]
pub struct SetMintArgs {
    /// Whether pulls from payers are allowed. Exits always are.
    pub settle: bool,
    pub min_amount: u64,
    pub max_amount: u64,
    /// Must be 0 for a classic mint.
    pub allowed_extensions: u64,
}

#[derive(Accounts)]
pub struct SetMint<'info> {
    #[account(mut)]
    pub admin: Signer<'info>,
    #[account(has_one = admin @ SluiceError::NotAdmin)]
    pub config: AccountLoader<'info, Config>,
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
    pub system_program: Program<'info, System>,
}

pub(crate) fn handle<'info>(ctx: Context<'info, SetMint<'info>>, args: SetMintArgs) -> Result<()> {
    let accounts: &'info SetMint<'info> = ctx.accounts;
    let decimals = mint_decimals(&accounts.mint)?;
    require!(
        args.min_amount <= args.max_amount,
        SluiceError::InvalidAmounts
    );
    require!(args.allowed_extensions == 0, SluiceError::InvalidExtensions);
    let (mint, token_program) = (accounts.mint.key(), *accounts.mint.owner);
    let treasury = accounts.config.load()?.treasury;
    require_receiver(&mint, &token_program, &accounts.treasury_token, &treasury)?;

    let account = accounts.accepted_mint.as_ref();
    let loader = if *account.owner == crate::ID {
        AccountLoader::<AcceptedMint>::try_from(account)?
    } else {
        let bump = [ctx.bumps.accepted_mint];
        create(
            account,
            &accounts.admin,
            &[seeds::MINT, mint.as_ref(), &bump],
        )?
    };
    let mut accepted = loader.load_mut()?;
    accepted.min_amount = args.min_amount;
    accepted.max_amount = args.max_amount;
    accepted.allowed_extensions = args.allowed_extensions;
    accepted.mint = mint;
    accepted.token_program = token_program;
    accepted.treasury_token = accounts.treasury_token.key();
    accepted.decimals = decimals;
    accepted.version = VERSION;
    accepted.bump = ctx.bumps.accepted_mint;
    accepted.flags = if args.settle { AcceptedMint::SETTLE } else { 0 };
    Ok(())
}
