use anchor_lang::prelude::*;

use super::{OnService, recipients};
use crate::{
    SluiceError, distribution,
    error::ensure,
    events::announce,
    state::{AcceptedMint, Service, read},
};

/// Anyone may have the vault's free balance divided, once it reaches the least that a payment may be, and whatever
/// is held paid where it can be paid. Remaining accounts after the recipients': further token accounts of those
/// who are owed, for what their own accounts cannot take (writable).
pub(crate) fn handle<'info>(
    accounts: &'info OnService<'info>,
    remaining: &'info [AccountInfo<'info>],
) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let owners = accounts.owners()?;
    let (split, minimum) = {
        let service = read::<Service>(&accounts.service)?;
        let accepted = read::<AcceptedMint>(&accounts.accepted_mint)?;
        let minimum = service.min_payment.max(accepted.min_amount).max(1);
        (recipients(&service, remaining)?, minimum)
    };
    let moved = distribution::distribute(accounts, &owners, split.0, split.1, minimum, now)?;
    ensure(moved, SluiceError::NothingToDistribute)?;
    announce(&accounts.service)
}
