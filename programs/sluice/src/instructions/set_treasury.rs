use anchor_lang::prelude::*;

use super::OnConfig;
use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{AcceptedMint, write},
    token::MintRef,
};

/// Changes the treasury's wallet. Remaining accounts, in pairs: accepted mint (writable), the new treasury's token
/// account of that mint.
///
/// A mint that is not passed keeps its treasury account, whose owner is then no longer the treasury: its
/// legs are held in the vaults, and nothing is lost, until `set_mint` or another `set_treasury` names the
/// right account.
pub(crate) fn handle(
    accounts: &OnConfig<'_>,
    mints: &[AccountInfo<'_>],
    treasury: Pubkey,
) -> Result<()> {
    ensure(treasury != Pubkey::default(), SluiceError::ZeroAddress)?;
    accounts.as_admin()?.treasury = treasury;
    announce(&accounts.config)?;
    let pairs = mints.chunks_exact(2);
    ensure(pairs.remainder().is_empty(), SluiceError::EntryAccounts)?;
    for pair in pairs {
        {
            let mut accepted = write::<AcceptedMint>(&pair[0])?;
            let mint = MintRef {
                mint: &accepted.mint,
                token_program: &accepted.token_program,
            };
            let usable = mint.is_usable(&pair[1], &treasury);
            ensure(usable, SluiceError::InvalidTokenAccount)?;
            accepted.treasury_token = *pair[1].key;
        }
        announce(&pair[0])?;
    }
    Ok(())
}
