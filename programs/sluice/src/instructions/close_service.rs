use anchor_lang::prelude::*;

use super::{OnService, recipients};
use crate::{
    SluiceError, distribution,
    error::ensure,
    events::announce,
    state::{Service, read, write},
};

/// Ends a service for good: what the vault holds is divided to the last unit, then no intent settles any more. The
/// account stays, because its address can still be paid and because what is held is still owed: `distribute` goes on
/// working, and no other service can ever take the address.
pub(crate) fn handle<'info>(
    accounts: &'info OnService<'info>,
    remaining: &'info [AccountInfo<'info>],
) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let owners = accounts.owners()?;
    let split = {
        let service = read::<Service>(&accounts.service)?;
        require_own(&service, accounts.caller.key)?;
        recipients(&service, remaining)?
    };
    distribution::distribute(accounts, &owners, split.0, split.1, 1, now)?;
    write::<Service>(&accounts.service)?.status = Service::CLOSED;
    announce(&accounts.service)
}

/// Fails unless the service is active and `authority` is its own.
pub(crate) fn require_own(service: &Service, authority: &Pubkey) -> Result<()> {
    let own = service.authority == *authority;
    ensure(own, SluiceError::NotAuthority)?;
    let active = service.status == Service::ACTIVE;
    ensure(active, SluiceError::ServiceInactive)
}
