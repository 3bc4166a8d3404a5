use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{NonceAccount, close, read},
};

/// Seconds without a settlement after which whoever paid the rent may take it back.
pub const IDLE_SECS: i64 = 30 * 24 * 3_600;

#[derive(Accounts)]
pub struct CloseNonce<'info> {
    /// The payer, or the rent payer once the account is idle.
    pub authority: Signer<'info>,
    /// CHECK: read as a nonce account.
    #[account(mut)]
    pub nonce_account: UncheckedAccount<'info>,
    /// CHECK: compared with the nonce account's.
    #[account(mut)]
    pub rent_payer: UncheckedAccount<'info>,
}

/// Closes a nonce account and gives the rent back. Intents signed for it die with it: only a later slot can open it
/// again, and the slot of opening is in every digest.
pub(crate) fn handle(accounts: &CloseNonce<'_>) -> Result<()> {
    let clock = Clock::get()?;
    {
        let nonce = read::<NonceAccount>(&accounts.nonce_account)?;
        let who = *accounts.authority.key;
        let idle = clock.unix_timestamp.saturating_sub(nonce.last_active) > IDLE_SECS;
        let allowed = who == nonce.payer || (who == nonce.rent_payer && idle);
        ensure(allowed, SluiceError::NotIdle)?;
        ensure(clock.slot > nonce.opened_slot, SluiceError::SameSlot)?;
        let same = nonce.rent_payer == *accounts.rent_payer.key;
        ensure(same, SluiceError::WrongAccount)?;
    }
    close(&accounts.nonce_account, &accounts.rent_payer)?;
    announce(&accounts.nonce_account)
}
