use anchor_lang::prelude::*;

use super::{
    OnService, Owners, close_service::require_own, create_service::check_facilitator, recipients,
};
use crate::{
    SluiceError, distribution,
    error::{ensure, fail},
    events::announce,
    legs::FACILITATOR,
    state::{Config, Facilitator, HeldBalance, Service, TermsArgs, create, read, seeds, write},
};

/// Accounts between the recipients' and those of the replaced: the facilitator from now on, the system program.
const FIXED: usize = 2;

/// Replaces a service's terms. First the vault's free balance is divided under the **old** ones, so that a change of
/// the split never reaches money that was paid before it.
///
/// Remaining accounts after the recipients': the facilitator from now on (the same one to keep it), the system
/// program, then the `HeldBalance` address (writable) of each recipient that the new terms leave out, in the order of
/// the old terms, and of the facilitator's wallet if the facilitator changes. They are passed whether or not
/// something is held: whether it is can change until the transaction lands.
pub(crate) fn handle<'info>(
    accounts: &'info OnService<'info>,
    remaining: &'info [AccountInfo<'info>],
    args: TermsArgs,
) -> Result<()> {
    let now = Clock::get()?.unix_timestamp;
    let owners = accounts.owners()?;
    let (recipients, rest) = {
        let service = read::<Service>(&accounts.service)?;
        require_own(&service, accounts.caller.key)?;
        recipients(&service, remaining)?
    };
    ensure(rest.len() >= FIXED, SluiceError::EntryAccounts)?;
    let (fixed, held) = rest.split_at(FIXED);
    let facilitator = &fixed[0];
    let treasury_bps = {
        let config = read::<Config>(&accounts.config)?;
        let state = read::<Facilitator>(facilitator)?;
        // A service can leave a suspended facilitator, and one that has it can still change who is paid.
        let fit = state.suspended == 0 || facilitator.key == accounts.facilitator.key;
        ensure(fit, SluiceError::FacilitatorSuspended)?;
        check_facilitator(&config, &state, &args)?;
        config.treasury_bps_at(now)
    };

    distribution::distribute(accounts, &owners, recipients, &[], 1, now)?;
    move_held(accounts, &owners, facilitator.key, &args, held, now)?;
    write::<Service>(&accounts.service)?.set_terms(
        accounts.service.key,
        accounts.token_program.key,
        facilitator.key,
        treasury_bps,
        &args,
    )?;
    announce(&accounts.service)
}

/// Moves what is held for those whom the new terms leave out into accounts of their own.
fn move_held<'info>(
    accounts: &'info OnService<'info>,
    owners: &Owners,
    facilitator: &Pubkey,
    args: &TermsArgs,
    held: &'info [AccountInfo<'info>],
    now: i64,
) -> Result<()> {
    let leaving = |service: &Service, leg: usize| match leg {
        FACILITATOR => (service.facilitator != *facilitator).then_some(owners.facilitator),
        _ => {
            let owner = service.shares().get(leg)?.owner;
            let stays = args.recipients.iter().any(|row| row.owner == owner);
            (!stays).then_some(owner)
        }
    };
    let mut held = held.iter();
    let legs = (0..sluice_intent::MAX_RECIPIENTS).chain([FACILITATOR]);
    for leg in legs {
        let (owner, amount, since) = {
            let service = read::<Service>(&accounts.service)?;
            match leaving(&service, leg) {
                Some(owner) => (owner, service.held(leg), service.held_since(leg, now)),
                None => continue,
            }
        };
        let account = held.next();
        let account = account.ok_or_else(|| fail(SluiceError::EntryAccounts))?;
        if amount > 0 {
            owe(accounts, account, &owner, amount, since)?;
            write::<Service>(&accounts.service)?.set_held(leg, 0, now);
        }
    }
    ensure(held.next().is_none(), SluiceError::EntryAccounts)
}

/// Adds to what an owner is owed outside the terms. The service's total does not change: it is still in the vault.
fn owe<'info>(
    accounts: &OnService<'info>,
    account: &AccountInfo<'info>,
    owner: &Pubkey,
    amount: u64,
    since: i64,
) -> Result<()> {
    let service = accounts.service.key;
    let mut seeds: [&[u8]; 4] = [seeds::HELD, service.as_ref(), owner.as_ref(), &[]];
    let (address, bump) = Pubkey::find_program_address(&seeds[..3], &crate::ID);
    ensure(*account.key == address, SluiceError::WrongAccount)?;
    let bump = [bump];
    seeds[3] = &bump;
    let fresh = *account.owner != crate::ID;
    if fresh {
        create::<HeldBalance>(account, &accounts.caller, &seeds)?;
    }
    {
        let mut state = write::<HeldBalance>(account)?;
        if fresh {
            state.held_since = since;
            state.service = *service;
            state.owner = *owner;
            state.mint = *accounts.mint.key;
            state.rent_payer = *accounts.caller.key;
            state.bump = bump[0];
        }
        let sum = state.amount.checked_add(amount);
        state.amount = sum.ok_or_else(|| fail(SluiceError::Overflow))?;
    }
    announce(account)
}
