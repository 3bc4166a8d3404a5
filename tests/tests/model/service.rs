//! What services must do with money: the split, distributions, updates, closing, and what is held.

use sluice::SluiceError;
use sluice_sdk::{Address, address, token::TOKEN_PROGRAM};

use crate::state::{Held, Model, Owed, Refusal, Service, Split, need, refuse};

/// Places of the legs after the recipients'.
pub const TREASURY: usize = 8;
pub const FACILITATOR: usize = 9;
pub const LEGS: usize = 10;

/// What a service's authority asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub facilitator: usize,
    pub facilitator_bps: u16,
    pub facilitator_fixed: u64,
    pub min_payment: u64,
    pub recipients: Vec<(Address, u16)>,
}

/// The division of a sum by the specification, in 128 bits.
pub fn divide(split: &Split, sum: u64, payments: u64) -> [u64; LEGS] {
    let whole = u128::from(sum);
    let part = |of: u128, bps: u16| of * u128::from(bps) / 10_000;
    let treasury = part(whole, split.treasury_bps);
    let asked = u128::from(payments) * u128::from(split.facilitator_fixed)
        + part(whole, split.facilitator_bps);
    let facilitator = asked.min(whole / 2).min(whole - treasury);
    let rest = whole - treasury - facilitator;
    let mut legs = [0u128; LEGS];
    for (leg, (_, bps)) in legs.iter_mut().zip(&split.recipients) {
        *leg = part(rest, *bps);
    }
    legs[0] += rest - legs.iter().sum::<u128>();
    (legs[TREASURY], legs[FACILITATOR]) = (treasury, facilitator);
    legs.map(|leg| leg as u64)
}

impl Service {
    pub fn hash(&self) -> [u8; 32] {
        self.past[self.past.len() - 1].0
    }

    pub fn held(&self, leg: usize) -> u64 {
        match leg {
            TREASURY => self.held_treasury,
            FACILITATOR => self.held_facilitator,
            _ => self.held.get(leg).map_or(0, |held| held.amount),
        }
    }

    pub fn set_held(&mut self, leg: usize, amount: u64, now: i64) {
        match leg {
            TREASURY => self.held_treasury = amount,
            FACILITATOR => self.held_facilitator = amount,
            _ => {
                let Some(held) = self.held.get_mut(leg) else {
                    return;
                };
                let since = match (held.amount, amount) {
                    (_, 0) => 0,
                    (0, _) => now,
                    _ => held.since,
                };
                *held = Held { amount, since };
            }
        }
    }
}

impl Model {
    /// Whose a leg is, and the account that an instruction brings for it.
    pub fn leg(
        &self,
        service: usize,
        leg: usize,
        facilitator_token: &Address,
    ) -> Option<(Address, Address)> {
        let split = &self.services[service].split;
        match leg {
            TREASURY => Some((self.config.treasury, self.mint.treasury_token)),
            FACILITATOR => Some((
                self.facilitators[split.facilitator].wallet,
                *facilitator_token,
            )),
            _ => split
                .recipients
                .get(leg)
                .map(|(owner, _)| (*owner, self.cast.token(owner))),
        }
    }

    /// Everything that is held in a service's vault, for whomever.
    pub fn held_total(&self, service: usize) -> u64 {
        let state = &self.services[service];
        let parts: u64 = (0..LEGS).map(|leg| state.held(leg)).sum();
        let owed: u64 = self
            .owed
            .iter()
            .filter(|((of, _), _)| *of == service)
            .map(|(_, owed)| owed.amount)
            .sum();
        parts + owed
    }

    /// Divides what nobody owns yet if it reaches `minimum`, and pays what can be paid. Gives whether anything moved
    /// or was divided.
    fn share_out(
        &mut self,
        service: usize,
        facilitator_token: &Address,
        others: &[Address],
        minimum: u64,
    ) -> bool {
        let state = &self.services[service];
        let vault = state.vault;
        let balance = self.balance(&vault);
        let free = balance.saturating_sub(self.held_total(service));
        let divided = if free >= minimum { free } else { 0 };
        // How many payments the sum is of is unknown: no fixed share.
        let shares = divide(&state.split, divided, 0);
        let open = !self.tokens[&vault].frozen;
        let mut left = balance;
        let mut moved = divided > 0;
        for (leg, share) in shares.iter().enumerate() {
            let due = self.services[service].held(leg) + share;
            let Some((owner, own)) = self.leg(service, leg, facilitator_token) else {
                continue;
            };
            if due == 0 {
                continue;
            }
            let target = [own]
                .into_iter()
                .chain(others.iter().copied())
                .find(|token| open && *token != vault && self.can_receive(token, &owner));
            let paid = target.map_or(0, |_| due.min(left));
            if let Some(target) = target {
                self.debit(&vault, paid);
                self.credit(&target, paid);
            }
            left -= paid;
            moved |= paid > 0;
            let now = self.now;
            self.services[service].set_held(leg, due - paid, now);
        }
        moved
    }

    pub fn distribute(
        &mut self,
        service: usize,
        facilitator_token: &Address,
        others: &[Address],
    ) -> Result<(), Refusal> {
        let minimum = self.services[service].min_payment.max(self.mint.min).max(1);
        let moved = self.share_out(service, facilitator_token, others, minimum);
        need(moved, SluiceError::NothingToDistribute)
    }

    fn own_service(&self, service: usize, by: &Address) -> Result<(), Refusal> {
        let state = &self.services[service];
        need(state.authority == *by, SluiceError::NotAuthority)?;
        need(!state.closed, SluiceError::ServiceInactive)
    }

    pub fn close_service(
        &mut self,
        service: usize,
        by: &Address,
        facilitator_token: &Address,
    ) -> Result<(), Refusal> {
        self.own_service(service, by)?;
        self.share_out(service, facilitator_token, &[], 1);
        self.services[service].closed = true;
        Ok(())
    }

    pub fn sync_service(
        &mut self,
        service: usize,
        facilitator_token: &Address,
    ) -> Result<(), Refusal> {
        let bps = self.config.treasury_bps_at(self.now);
        let state = &self.services[service];
        need(!state.closed, SluiceError::ServiceInactive)?;
        need(state.split.treasury_bps != bps, SluiceError::UpToDate)?;
        self.share_out(service, facilitator_token, &[], 1);
        self.services[service].split.treasury_bps = bps;
        self.seal(service);
        Ok(())
    }

    fn seal(&mut self, service: usize) {
        let state = &self.services[service];
        let hash = self.hash(&state.address, &state.split);
        let state = &mut self.services[service];
        state.past.push((hash, state.split.clone()));
        state.version += 1;
    }

    fn check_grant(&self, wanted: &Wanted) -> Result<(), Refusal> {
        let facilitator = &self.facilitators[wanted.facilitator];
        let enough = wanted.facilitator_bps >= facilitator.min_bps
            && wanted.facilitator_fixed >= facilitator.min_fixed;
        need(enough, SluiceError::BelowFacilitatorMinimum)?;
        let within = wanted.facilitator_bps <= self.config.max_facilitator_bps;
        need(within, SluiceError::FacilitatorShare)
    }

    fn check_recipients(service: &Address, wanted: &Wanted) -> Result<(), Refusal> {
        let rows = &wanted.recipients;
        need(rows.len() <= 8, SluiceError::RecipientCount)?;
        let own = rows.iter().any(|(owner, _)| owner == service);
        need(!own, SluiceError::RecipientIsService)?;
        need(!rows.is_empty(), SluiceError::RecipientCount)?;
        let sum: u64 = rows.iter().map(|(_, bps)| u64::from(*bps)).sum();
        let shares = sum == 10_000 && rows.iter().all(|(_, bps)| *bps > 0);
        need(shares, SluiceError::RecipientShares)?;
        let mut owners: Vec<_> = rows.iter().map(|(owner, _)| *owner).collect();
        owners.sort();
        owners.dedup();
        need(owners.len() == rows.len(), SluiceError::DuplicateRecipient)
    }

    pub fn create_service(
        &mut self,
        creator: Address,
        id: u64,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        let suspended = self.facilitators[wanted.facilitator].suspended;
        need(!suspended, SluiceError::FacilitatorSuspended)?;
        self.check_grant(wanted)?;
        let (address, bump) = address::service(&creator, id);
        let taken = self.services.iter().any(|state| state.address == address);
        need(!taken, SluiceError::AlreadyExists)?;
        Self::check_recipients(&address, wanted)?;
        let (vault, vault_bump) = vault_of(&address, &self.cast.mint);
        self.tokens
            .insert(vault, crate::state::Token::new(address, 0));
        self.services.push(Service {
            address,
            bump,
            vault,
            vault_bump,
            id,
            creator,
            created_slot: self.slot,
            authority: creator,
            pending: Address::default(),
            split: Split {
                facilitator: wanted.facilitator,
                facilitator_bps: wanted.facilitator_bps,
                facilitator_fixed: wanted.facilitator_fixed,
                treasury_bps: self.config.treasury_bps_at(self.now),
                recipients: wanted.recipients.clone(),
            },
            min_payment: wanted.min_payment,
            held: vec![Held::default(); wanted.recipients.len()],
            held_treasury: 0,
            held_facilitator: 0,
            settled_total: 0,
            payments: 0,
            closed: false,
            version: 0,
            past: Vec::new(),
            seized: false,
        });
        self.seal(self.services.len() - 1);
        Ok(())
    }

    pub fn update_service(
        &mut self,
        service: usize,
        by: &Address,
        facilitator_token: &Address,
        wanted: &Wanted,
    ) -> Result<(), Refusal> {
        self.own_service(service, by)?;
        let (address, old) = {
            let state = &self.services[service];
            (state.address, state.split.clone())
        };
        let change = wanted.facilitator != old.facilitator;
        let suspended = self.facilitators[wanted.facilitator].suspended;
        need(!change || !suspended, SluiceError::FacilitatorSuspended)?;
        self.check_grant(wanted)?;
        self.share_out(service, facilitator_token, &[], 1);
        Self::check_recipients(&address, wanted)?;

        let mut kept = vec![Held::default(); wanted.recipients.len()];
        for (leg, (owner, _)) in old.recipients.iter().enumerate() {
            let held = self.services[service].held[leg];
            match wanted.recipients.iter().position(|(new, _)| new == owner) {
                Some(place) => kept[place] = held,
                None => self.owe(service, *owner, held, by),
            }
        }
        if change {
            let wallet = self.facilitators[old.facilitator].wallet;
            // Since when a facilitator's leg is held is not kept.
            let held = Held {
                amount: self.services[service].held_facilitator,
                since: self.now,
            };
            self.owe(service, wallet, held, by);
            self.services[service].held_facilitator = 0;
        }
        let treasury_bps = self.config.treasury_bps_at(self.now);
        let state = &mut self.services[service];
        state.held = kept;
        state.min_payment = wanted.min_payment;
        state.split = Split {
            facilitator: wanted.facilitator,
            facilitator_bps: wanted.facilitator_bps,
            facilitator_fixed: wanted.facilitator_fixed,
            treasury_bps,
            recipients: wanted.recipients.clone(),
        };
        self.seal(service);
        Ok(())
    }

    fn owe(&mut self, service: usize, owner: Address, held: Held, rent_payer: &Address) {
        if held.amount == 0 {
            return;
        }
        let of = self.services[service].address;
        let owed = self.owed.entry((service, owner)).or_insert_with(|| {
            let (address, bump) = address::held_balance(&of, &owner);
            Owed {
                address,
                bump,
                amount: 0,
                since: held.since,
                rent_payer: *rent_payer,
            }
        });
        owed.amount += held.amount;
    }

    pub fn release(
        &mut self,
        service: usize,
        owner: Address,
        destination: &Address,
    ) -> Result<(), Refusal> {
        let vault = self.services[service].vault;
        let Some(amount) = self.owed.get(&(service, owner)).map(|owed| owed.amount) else {
            return refuse(SluiceError::WrongAccount);
        };
        let usable = *destination != vault && self.can_receive(destination, &owner);
        need(usable, SluiceError::InvalidTokenAccount)?;
        need(!self.tokens[&vault].frozen, SluiceError::VaultUnusable)?;
        let paid = amount.min(self.balance(&vault));
        need(paid > 0, SluiceError::NothingToDistribute)?;
        self.debit(&vault, paid);
        self.credit(destination, paid);
        if paid == amount {
            self.owed.remove(&(service, owner));
        } else if let Some(owed) = self.owed.get_mut(&(service, owner)) {
            owed.amount -= paid;
        }
        Ok(())
    }
}

/// The vault of a service.
pub fn vault_of(service: &Address, mint: &Address) -> (Address, u8) {
    Address::find_program_address(
        &[service.as_ref(), TOKEN_PROGRAM.as_ref(), mint.as_ref()],
        &sluice_sdk::token::ASSOCIATED_TOKEN_PROGRAM,
    )
}
