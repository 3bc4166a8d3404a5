//! The chain against the model: every account of the program byte for byte, every token account of the mint.

use std::{collections::BTreeMap, fmt::Debug};

use bytemuck::NoUninit;
use sluice_sdk::{
    Address, PROGRAM_ID, SYSTEM_PROGRAM,
    accounts::{
        self, MINT_SETTLES, RecipientShare, SERVICE_ACTIVE, SERVICE_CLOSED, SluiceAccount, VERSION,
    },
    token::{TOKEN_PROGRAM, decode_account},
};
use sluice_tests::World;
use solana_signer::Signer;

use crate::{
    settle::GENESIS,
    state::{Facilitator, Model, Nonce, Owed, Token},
};

/// What went wrong.
pub type Check<T = ()> = Result<T, String>;

/// Fails with a text unless a condition holds.
macro_rules! hold {
    ($condition:expr, $($text:tt)+) => {
        if !$condition {
            return Err(format!($($text)+));
        }
    };
}
pub(crate) use hold;

/// Every token account of the mint on chain.
pub fn tokens(world: &World) -> BTreeMap<Address, Token> {
    world
        .svm
        .get_program_accounts(&TOKEN_PROGRAM)
        .into_iter()
        .filter_map(|(key, account)| {
            let state = decode_account(&account.owner, &account.data)?;
            let token = Token {
                owner: state.owner,
                amount: state.amount,
                delegate: state.delegate,
                frozen: state.frozen,
            };
            (state.mint == world.mint).then_some((key, token))
        })
        .collect()
}

/// Data of every account of the program.
pub fn accounts(world: &World) -> BTreeMap<Address, Vec<u8>> {
    world
        .svm
        .get_program_accounts(&PROGRAM_ID)
        .into_iter()
        .map(|(key, account)| (key, account.data))
        .collect()
}

/// Compares everything, and the invariants that are about one moment.
pub fn compare(model: &Model, world: &World, props: &BTreeMap<Address, Vec<u8>>) -> Check {
    let on_chain = tokens(world);
    same_keys("token account", on_chain.keys(), model.tokens.keys())?;
    for (key, token) in &model.tokens {
        let found = &on_chain[key];
        hold!(
            found == token,
            "token account {key}: {found:?}, the model says {token:?}"
        );
    }
    let sum: u128 = on_chain
        .values()
        .map(|token| u128::from(token.amount))
        .sum();
    hold!(
        sum == model.supply,
        "I1: {sum} units, {} were minted",
        model.supply
    );
    for (i, service) in model.services.iter().enumerate() {
        let (balance, held) = (model.balance(&service.vault), model.held_total(i));
        let covered = service.seized || balance >= held;
        hold!(
            covered,
            "I1: vault {i} holds {balance}, less than the {held} held"
        );
    }
    for nonce in model.nonces.iter().flatten() {
        nonce.lanes.iter().try_for_each(crate::lane::Lane::audit)?;
    }

    let found = accounts(world);
    let mut expected = Expected {
        found: &found,
        seen: props.clone(),
    };
    expected.all(model)?;
    for (key, data) in props {
        hold!(
            found.get(key) == Some(data),
            "{key} changed, and nothing should change it"
        );
    }
    same_keys("account", found.keys(), expected.seen.keys())
}

fn same_keys<'a>(
    what: &str,
    found: impl Iterator<Item = &'a Address>,
    expected: impl Iterator<Item = &'a Address>,
) -> Check {
    let (found, expected): (Vec<_>, Vec<_>) = (found.collect(), expected.collect());
    for key in &found {
        hold!(expected.contains(key), "{what} {key} should not exist");
    }
    for key in &expected {
        hold!(found.contains(key), "{what} {key} should exist");
    }
    Ok(())
}

struct Expected<'a> {
    found: &'a BTreeMap<Address, Vec<u8>>,
    seen: BTreeMap<Address, Vec<u8>>,
}

impl Expected<'_> {
    fn one<T>(&mut self, key: Address, state: &T) -> Check
    where
        T: SluiceAccount + NoUninit + PartialEq + Debug,
    {
        let mut data = T::discriminator().to_vec();
        data.extend(bytemuck::bytes_of(state));
        match self.found.get(&key) {
            Some(found) if *found == data => {}
            found => {
                let found = found.map(|data| T::decode_data(data));
                return Err(format!(
                    "{} {key}:\n{found:?}\nthe model says\n{state:?}",
                    T::NAME
                ));
            }
        }
        self.seen.insert(key, data);
        Ok(())
    }

    fn all(&mut self, model: &Model) -> Check {
        let cast = model.cast;
        self.one(cast.config.0, &config(model))?;
        self.one(cast.accepted.0, &accepted(model))?;
        for (i, state) in model.facilitators.iter().enumerate() {
            let (key, bump) = cast.facilitators[i];
            self.one(key, &facilitator(cast.operators[i].pubkey(), bump, state))?;
        }
        for i in 0..model.services.len() {
            self.one(model.services[i].address, &service(model, i))?;
        }
        for ((i, owner), owed) in &model.owed {
            let state = held_balance(model, &model.services[*i].address, owner, owed);
            self.one(owed.address, &state)?;
        }
        for (i, state) in model.nonces.iter().enumerate() {
            if let Some(state) = state {
                self.one(cast.payers[i].nonce, &nonce(model, i, state))?;
            }
        }
        Ok(())
    }
}

fn config(model: &Model) -> accounts::Config {
    let state = &model.config;
    accounts::Config {
        fees_effective_at: state.announced.map_or(0, |(_, from)| from),
        admin: state.admin.to_bytes(),
        pending_admin: state.pending_admin.to_bytes(),
        guardian: state.guardian.to_bytes(),
        treasury: state.treasury.to_bytes(),
        genesis_hash: GENESIS,
        max_intent_ttl: state.ttl,
        treasury_bps: state.treasury_bps,
        pending_treasury_bps: state.announced.map_or(0, |(bps, _)| bps),
        max_facilitator_bps: state.max_facilitator_bps,
        paused: u8::from(state.paused),
        version: VERSION,
        bump: model.cast.config.1,
        flags: 0,
        padding: [0; 2],
        reserved: [0; 64],
    }
}

fn accepted(model: &Model) -> accounts::AcceptedMint {
    let state = &model.mint;
    accounts::AcceptedMint {
        min_amount: state.min,
        max_amount: state.max,
        allowed_extensions: 0,
        mint: model.cast.mint.to_bytes(),
        token_program: TOKEN_PROGRAM.to_bytes(),
        treasury_token: state.treasury_token.to_bytes(),
        decimals: 6,
        version: VERSION,
        bump: model.cast.accepted.1,
        flags: if state.settles { MINT_SETTLES } else { 0 },
        padding: [0; 4],
        reserved: [0; 64],
    }
}

fn facilitator(creator: Address, bump: u8, state: &Facilitator) -> accounts::Facilitator {
    let mut relayers = [[0; 32]; 8];
    for (slot, key) in relayers.iter_mut().zip(&state.relayers) {
        *slot = key.to_bytes();
    }
    accounts::Facilitator {
        // Both are registered while the scene is set.
        created_slot: crate::scene::SLOT,
        min_fee_fixed: state.min_fixed,
        creator: creator.to_bytes(),
        authority: state.authority.to_bytes(),
        pending_authority: state.pending.to_bytes(),
        wallet: state.wallet.to_bytes(),
        relayers,
        min_fee_bps: state.min_bps,
        relayer_count: state.relayers.len() as u8,
        suspended: u8::from(state.suspended),
        version: VERSION,
        bump,
        flags: 0,
        padding: [0; 1],
        reserved: [0; 64],
    }
}

/// A service as the chain must keep it.
pub fn service(model: &Model, place: usize) -> accounts::Service {
    let state = &model.services[place];
    let mut recipients = [RecipientShare {
        held: 0,
        held_since: 0,
        owner: [0; 32],
        token_account: [0; 32],
        bps: 0,
        padding: [0; 6],
    }; 8];
    for (row, ((owner, bps), held)) in recipients
        .iter_mut()
        .zip(state.split.recipients.iter().zip(&state.held))
    {
        row.owner = owner.to_bytes();
        row.token_account = model.cast.token(owner).to_bytes();
        row.bps = *bps;
        row.held = held.amount;
        row.held_since = held.since;
    }
    accounts::Service {
        id: state.id,
        facilitator_fixed: state.split.facilitator_fixed,
        min_payment: state.min_payment,
        held_total: model.held_total(place),
        held_treasury: state.held_treasury,
        held_facilitator: state.held_facilitator,
        settled_total: state.settled_total,
        payments: state.payments,
        created_slot: state.created_slot,
        creator: state.creator.to_bytes(),
        authority: state.authority.to_bytes(),
        pending_authority: state.pending.to_bytes(),
        mint: model.cast.mint.to_bytes(),
        facilitator: model.cast.facilitators[state.split.facilitator]
            .0
            .to_bytes(),
        vault: state.vault.to_bytes(),
        terms_hash: state.hash(),
        recipients,
        terms_version: state.version,
        facilitator_bps: state.split.facilitator_bps,
        treasury_bps: state.split.treasury_bps,
        recipient_count: state.split.recipients.len() as u8,
        status: if state.closed {
            SERVICE_CLOSED
        } else {
            SERVICE_ACTIVE
        },
        vault_bump: state.vault_bump,
        version: VERSION,
        bump: state.bump,
        flags: 0,
        padding: [0; 2],
        reserved: [0; 64],
    }
}

fn held_balance(
    model: &Model,
    service: &Address,
    owner: &Address,
    owed: &Owed,
) -> accounts::HeldBalance {
    accounts::HeldBalance {
        amount: owed.amount,
        held_since: owed.since,
        service: service.to_bytes(),
        owner: owner.to_bytes(),
        mint: model.cast.mint.to_bytes(),
        rent_payer: owed.rent_payer.to_bytes(),
        version: VERSION,
        bump: owed.bump,
        flags: 0,
        padding: [0; 5],
        reserved: [0; 64],
    }
}

fn nonce(model: &Model, payer: usize, state: &Nonce) -> accounts::NonceAccount {
    let person = &model.cast.payers[payer];
    accounts::NonceAccount {
        opened_slot: state.opened_slot,
        last_active: state.last_active,
        spent_total: state.spent_total,
        payer: person.key().to_bytes(),
        mint: model.cast.mint.to_bytes(),
        source: state.source.to_bytes(),
        rent_payer: state.rent_payer.to_bytes(),
        version: VERSION,
        bump: person.nonce_bump,
        flags: 0,
        padding: [0; 5],
        reserved: [0; 64],
        lanes: [state.lanes[0].layout(), state.lanes[1].layout()],
    }
}

/// Lamports of an account.
pub fn lamports(world: &World, key: &Address) -> u64 {
    world.svm.get_balance(key).unwrap_or(0)
}

/// Whether an account is gone.
pub fn is_gone(world: &World, key: &Address) -> bool {
    world
        .svm
        .get_account(key)
        .is_none_or(|account| account.owner == SYSTEM_PROGRAM && account.data.is_empty())
}
