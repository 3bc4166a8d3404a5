use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    state::{AcceptedMint, Config},
    token::MintRef,
};

/// Remaining accounts, in pairs: accepted mint (writable), the new treasury's token account of that mint.
///
/// A mint that is not passed keeps its treasury account, whose owner is then no longer the treasury: its
/// legs are held in the vaults, and nothing is lost, until `set_mint` or another `set_treasury` names the
/// right account.
#[derive(Accounts)]
pub struct SetTreasury<'info> {
    pub admin: Signer<'info>,
    #[account(mut, has_one = admin @ SluiceError::NotAdmin)]
    pub config: AccountLoader<'info, Config>,
}

pub(crate) fn handle<'info>(
    ctx: Context<'info, SetTreasury<'info>>,
    treasury: Pubkey,
) -> Result<()> {
    require_keys_neq!(treasury, Pubkey::default(), SluiceError::ZeroAddress);
    ctx.accounts.config.load_mut()?.treasury = treasury;
    let pairs = ctx.remaining_accounts.chunks_exact(2);
    require!(pairs.remainder().is_empty(), SluiceError::WrongTreasury);
    for pair in pairs {
        let loader = AccountLoader::<AcceptedMint>::try_from(&pair[0])?;
        let mut accepted = loader.load_mut()?;
        require_receiver(&accepted.mint, &accepted.token_program, &pair[1], &treasury)?;
        accepted.treasury_token = *pair[1].key;
    }
    Ok(())
}

/// Fails unless `account` can take the mint's tokens for `owner`. Settle only reads accounts, so the
/// account's own writability does not matter here.
pub(crate) fn require_receiver(
    mint: &Pubkey,
    token_program: &Pubkey,
    account: &AccountInfo<'_>,
    owner: &Pubkey,
) -> Result<()> {
    let writable = AccountInfo {
        is_writable: true,
        ..account.clone()
    };
    let mint = MintRef {
        mint,
        token_program,
    };
    require!(
        mint.can_receive(&writable, owner),
        SluiceError::InvalidTokenAccount
    );
    Ok(())
}
