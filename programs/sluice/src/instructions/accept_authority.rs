use anchor_lang::prelude::*;

use super::Handover;
use crate::{
    SluiceError,
    error::ensure,
    events::announce,
    state::{Facilitator, Service, is, write},
};

/// Makes the proposed key, which signs, the authority of a facilitator or a service.
pub(crate) fn handle(accounts: &Handover<'_>) -> Result<()> {
    let who = *accounts.authority.key;
    if is::<Facilitator>(&accounts.account) {
        let mut facilitator = write::<Facilitator>(&accounts.account)?;
        ensure(
            facilitator.pending_authority == who,
            SluiceError::NotPending,
        )?;
        let separate = !facilitator.has_relayer(&who);
        ensure(separate, SluiceError::InvalidRelayers)?;
        facilitator.authority = who;
        facilitator.pending_authority = Pubkey::default();
    } else {
        let mut service = write::<Service>(&accounts.account)?;
        ensure(service.pending_authority == who, SluiceError::NotPending)?;
        service.authority = who;
        service.pending_authority = Pubkey::default();
    }
    announce(&accounts.account)
}
