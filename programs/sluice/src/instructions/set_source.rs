use anchor_lang::prelude::*;

use super::set_lane::open_as_payer;
use crate::{SluiceError, error::ensure, events::announce, token::MintRef};

#[derive(Accounts)]
pub struct SetSource<'info> {
    pub payer: Signer<'info>,
    /// CHECK: read as a nonce account.
    #[account(mut)]
    pub nonce_account: UncheckedAccount<'info>,
    /// CHECK: must be the payer's token account of the mint.
    pub source: UncheckedAccount<'info>,
}

/// Pins another of the payer's token accounts as the one that may be pulled from. Intents that are signed already
/// pull from it, too; what it lets go is what the payer approves there.
pub(crate) fn handle(accounts: &SetSource<'_>) -> Result<()> {
    {
        let mut nonce = open_as_payer(&accounts.nonce_account, accounts.payer.key)?;
        let mint = MintRef {
            mint: &nonce.mint,
            token_program: accounts.source.owner,
        };
        let usable = mint.is_token_program() && mint.is_source(&accounts.source, &nonce.payer);
        ensure(usable, SluiceError::InvalidTokenAccount)?;
        nonce.source = *accounts.source.key;
    }
    announce(&accounts.nonce_account)
}
