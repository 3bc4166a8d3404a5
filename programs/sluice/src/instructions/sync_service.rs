use anchor_lang::prelude::*;

use super::{OnService, recipients};
use crate::{
    SluiceError, distribution,
    error::ensure,
    events::announce,
    state::{Config, Service, read, write},
};

/// Anyone may bring a service to the treasury share that is in force by now. What the vault holds is divided under the
/// old share first. Intents that were signed for the old terms no longer settle, and nothing of them is spent.
pub(crate) fn handle<'info>(
    accounts: &'info OnService<'info>,
    remaining: &'info [AccountInfo<'info>],
) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let owners = accounts.owners()?;
    let (split, treasury_bps) = {
        let service = read::<Service>(&accounts.service)?;
        let treasury_bps = read::<Config>(&accounts.config)?.treasury_bps_at(now);
        let active = service.status == Service::ACTIVE;
        ensure(active, SluiceError::ServiceInactive)?;
        let behind = service.treasury_bps != treasury_bps;
        ensure(behind, SluiceError::UpToDate)?;
        (recipients(&service, remaining)?, treasury_bps)
    };
    distribution::distribute(accounts, &owners, split.0, split.1, 1, now)?;
    {
        let mut service = write::<Service>(&accounts.service)?;
        service.treasury_bps = treasury_bps;
        service.seal(accounts.service.key)?;
    }
    announce(&accounts.service)
}
