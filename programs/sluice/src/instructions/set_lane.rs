use core::cell::RefMut;

use anchor_lang::prelude::*;
use sluice_intent::{LaneTerms, Scope};

use crate::{
    SluiceError,
    error::{ensure, fail},
    events::announce,
    state::{NonceAccount, write},
};

#[derive(AnchorSerialize, AnchorDeserialize, Clone, Copy)]
pub struct LaneArgs {
    /// Zero closes the lane.
    pub key: Pubkey,
    /// Unix seconds; `i64::MAX` for never ending.
    pub expires_at: i64,
    /// `u64::MAX` is unlimited in this and the other limits, 0 nothing.
    pub max_per_payment: u64,
    pub period_limit: u64,
    /// 0 for no period.
    pub period_secs: u64,
    pub total_limit: u64,
    /// 0 any service, 1 one service, 2 one authority's services, 3 one facilitator's services.
    pub scope_kind: u8,
    pub scope_key: Pubkey,
}

#[derive(Accounts)]
pub struct SetLane<'info> {
    pub payer: Signer<'info>,
    /// CHECK: read as a nonce account.
    #[account(mut)]
    pub nonce_account: UncheckedAccount<'info>,
}

/// Never touches a window: no sequence of keys makes a used nonce free.
pub(crate) fn handle(accounts: &SetLane<'_>, lane: u8, args: LaneArgs) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let invalid = || fail(SluiceError::InvalidLane);
    {
        let mut nonce = open_as_payer(&accounts.nonce_account, accounts.payer.key)?;
        // Lane 0 is the payer's own: with another key in it, "lane 0 closed" would promise nothing.
        let own = args.key == nonce.payer || args.key == Pubkey::default();
        ensure(lane != 0 || own, SluiceError::InvalidLane)?;
        let scope = Scope::from_parts(args.scope_kind, args.scope_key.to_bytes());
        let terms = LaneTerms {
            key: args.key.to_bytes(),
            expires_at: args.expires_at,
            max_per_payment: args.max_per_payment,
            period_limit: args.period_limit,
            period_secs: args.period_secs,
            total_limit: args.total_limit,
            scope: scope.ok_or_else(invalid)?,
        };
        let lane = nonce.lanes.get_mut(usize::from(lane)).ok_or_else(invalid)?;
        lane.logic_mut().set(&terms, now);
    }
    announce(&accounts.nonce_account)
}

/// A nonce account, open for its payer's change.
pub(crate) fn open_as_payer<'a>(
    account: &'a AccountInfo<'_>,
    payer: &Pubkey,
) -> Result<RefMut<'a, NonceAccount>> {
    let nonce = write::<NonceAccount>(account)?;
    ensure(nonce.payer == *payer, SluiceError::NotPayer)?;
    Ok(nonce)
}
