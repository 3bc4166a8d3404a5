use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::{ensure, fail},
    events::{Paid, PaidLeg, announce},
    legs::is_payable,
    state::{HeldBalance, Service, close, read, write},
    token::{self, MintRef, Transfers},
};

#[derive(Accounts)]
pub struct ReleaseHeld<'info> {
    /// CHECK: read as a service.
    #[account(mut)]
    pub service: UncheckedAccount<'info>,
    /// CHECK: read as a held balance of the service.
    #[account(mut)]
    pub held_balance: UncheckedAccount<'info>,
    /// CHECK: compared with the held balance's.
    #[account(mut)]
    pub rent_payer: UncheckedAccount<'info>,
    /// CHECK: compared with the service's.
    pub mint: UncheckedAccount<'info>,
    /// CHECK: compared with the service's.
    #[account(mut)]
    pub vault: UncheckedAccount<'info>,
    /// CHECK: any token account of the mint that the recorded owner owns.
    #[account(mut)]
    pub destination: UncheckedAccount<'info>,
    /// CHECK: the vault's owner.
    pub token_program: UncheckedAccount<'info>,
}

/// Pays a replaced recipient, or a former facilitator, what is still owed, at anyone's request; a vault that holds
/// less pays what it has. The account is closed, and its rent given back, once nothing is owed.
pub(crate) fn handle<'info>(accounts: &'info ReleaseHeld<'info>) -> Result<()> {
    let (owner, owed, rent_payer) = {
        let held = read::<HeldBalance>(&accounts.held_balance)?;
        let same = held.service == *accounts.service.key;
        ensure(same, SluiceError::WrongAccount)?;
        (held.owner, held.amount, held.rent_payer)
    };
    let mint = MintRef {
        mint: accounts.mint.key,
        token_program: accounts.token_program.key,
    };
    let signer = {
        let service = read::<Service>(&accounts.service)?;
        let same = service.mint == *accounts.mint.key;
        ensure(same, SluiceError::WrongMint)?;
        let same = service.vault == *accounts.vault.key;
        ensure(same, SluiceError::WrongVault)?;
        // The vault's address is fixed, so whoever owns it is the mint's token program.
        let same = accounts.vault.owner == accounts.token_program.key;
        ensure(same, SluiceError::WrongTokenProgram)?;
        service.signer()
    };
    let same = rent_payer == *accounts.rent_payer.key;
    ensure(same, SluiceError::WrongAccount)?;
    let usable = is_payable(mint, accounts.vault.key, &accounts.destination, &owner);
    ensure(usable, SluiceError::InvalidTokenAccount)?;
    let open =
        token::can_move(&accounts.mint) && mint.is_usable(&accounts.vault, accounts.service.key);
    ensure(open, SluiceError::VaultUnusable)?;
    let paid = owed.min(mint.balance(&accounts.vault).unwrap_or(0));
    ensure(paid > 0, SluiceError::NothingToDistribute)?;

    let left = owed - paid;
    write::<HeldBalance>(&accounts.held_balance)?.amount = left;
    {
        let mut service = write::<Service>(&accounts.service)?;
        let total = service.held_total.checked_sub(paid);
        service.held_total = total.ok_or_else(|| fail(SluiceError::Overflow))?;
    }
    let decimals = token::decimals(&accounts.mint)?;
    let mut transfers = Transfers::new(accounts.token_program.key, &accounts.mint, decimals);
    transfers.push(
        &accounts.vault,
        &accounts.destination,
        &accounts.service,
        paid,
    );
    transfers.send(&[&signer.seeds()])?;
    emit!(Paid {
        service: *accounts.service.key,
        divided: 0,
        legs: vec![PaidLeg {
            token_account: *accounts.destination.key,
            amount: paid,
        }],
    });
    if left == 0 {
        close(&accounts.held_balance, &accounts.rent_payer)?;
    }
    announce(&accounts.held_balance)?;
    announce(&accounts.service)
}
