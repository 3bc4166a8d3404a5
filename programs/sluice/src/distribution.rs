//! Money that leaves a vault outside `settle`: what arrived without an intent is divided, and what was held is
//! paid where it can be paid by now. Never gated by a pause, a suspension or a disabled mint.

use anchor_lang::prelude::*;

use crate::{
    SluiceError,
    error::fail,
    events::{Paid, PaidLeg},
    instructions::{OnService, Owners},
    legs::{self, Amounts, LEGS},
    state::{Service, write},
    token::{self, Transfers},
};

/// Divides the vault's free balance under the terms in force and pays every leg that can be paid. Gives
/// whether anything changed.
///
/// The free balance is what nobody owns yet: the vault's less what is held. It is divided when it reaches
/// `minimum`. A leg goes to its recorded account, or, where that cannot take money, to the first of `others` that
/// its owner owns; what neither can take is held.
pub fn distribute<'info>(
    accounts: &'info OnService<'info>,
    owners: &Owners,
    recipients: &'info [AccountInfo<'info>],
    others: &'info [AccountInfo<'info>],
    minimum: u64,
    now: i64,
) -> Result<bool> {
    let (divided, payments, signer) = {
        let mut service = write::<Service>(&accounts.service)?;
        let mut plan = Plan::new(accounts, &service, minimum)?;
        for leg in 0..LEGS {
            plan.settle_leg(accounts, &mut service, owners, recipients, others, leg, now)?;
        }
        service.held_total = plan.held_total;
        (plan.divided, plan.payments, service.signer())
    };
    if divided == 0 && payments.is_empty() {
        return Ok(false);
    }
    let mut transfers = Transfers::new(
        accounts.token_program.key,
        &accounts.mint,
        token::decimals(&accounts.mint)?,
    );
    let mut legs = Vec::with_capacity(payments.len());
    for (account, amount) in payments {
        if transfers.is_full() {
            transfers.send(&[&signer.seeds()])?;
        }
        transfers.push(&accounts.vault, account, &accounts.service, amount);
        legs.push(PaidLeg {
            token_account: *account.key,
            amount,
        });
    }
    transfers.send(&[&signer.seeds()])?;
    emit!(Paid {
        service: *accounts.service.key,
        divided,
        legs,
    });
    Ok(true)
}

/// What a distribution will do, worked out before anything moves.
struct Plan<'info> {
    divided: u64,
    shares: Amounts,
    /// What is left in the vault: less than what is held when a permanent delegate has taken some.
    left: u64,
    held_total: u64,
    can_leave: bool,
    payments: Vec<(&'info AccountInfo<'info>, u64)>,
}

impl<'info> Plan<'info> {
    fn new(accounts: &OnService<'_>, service: &Service, minimum: u64) -> Result<Self> {
        let mint = accounts.mint_ref();
        let balance = mint
            .balance(&accounts.vault)
            .ok_or_else(|| fail(SluiceError::VaultUnusable))?;
        let free = balance.saturating_sub(service.held_total);
        let divided = if free >= minimum { free } else { 0 };
        // How many payments the sum is made of is unknown, so the facilitator's fixed share is left out.
        let shares = legs::amounts(&service.divide(divided, 0)?);
        let can_leave = token::can_move(&accounts.mint)
            && mint.is_usable(&accounts.vault, accounts.service.key);
        Ok(Self {
            divided,
            shares,
            left: balance,
            held_total: service.held_total,
            can_leave,
            payments: Vec::with_capacity(LEGS),
        })
    }

    /// Pays what a leg is due, as far as it can be paid, and counts the rest as held.
    #[allow(
        clippy::too_many_arguments,
        reason = "one call, and each is another thing"
    )]
    fn settle_leg(
        &mut self,
        accounts: &'info OnService<'info>,
        service: &mut Service,
        owners: &Owners,
        recipients: &'info [AccountInfo<'info>],
        others: &'info [AccountInfo<'info>],
        leg: usize,
        now: i64,
    ) -> Result<()> {
        let overflow = || fail(SluiceError::Overflow);
        let share = self.shares[leg];
        let due = service.held(leg).checked_add(share).ok_or_else(overflow)?;
        if due == 0 {
            return Ok(());
        }
        let vault = accounts.vault.key;
        let account = match (
            legs::account(accounts, recipients, leg),
            legs::owner(service, owners, leg),
        ) {
            (Some(account), Some(owner)) if self.can_leave => core::iter::once(account)
                .chain(others)
                .find(|account| legs::is_payable(accounts.mint_ref(), vault, account, owner)),
            _ => None,
        };
        let paid = account.map_or(0, |_| due.min(self.left));
        service.set_held(leg, due - paid, now);
        self.left -= paid;
        // Held grows by the share and shrinks by what is paid; a payment never exceeds held plus share.
        self.held_total = self
            .held_total
            .checked_add(share)
            .and_then(|sum| sum.checked_sub(paid))
            .ok_or_else(overflow)?;
        if let Some(account) = account.filter(|_| paid > 0) {
            self.payments.push((account, paid));
        }
        Ok(())
    }
}
