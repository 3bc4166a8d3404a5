//! Sends every operation to the chain and to the model, and compares.

use std::collections::BTreeMap;

use sluice_intent::{LaneTerms, Scope, Skip, UNLIMITED};
use sluice_sdk::{
    Address,
    instructions::{self, ConfigUpdate, FacilitatorArgs, MintArgs, ServiceAccounts, ServiceArgs},
    token::TOKEN_PROGRAM,
};
use sluice_tests::{Failure, World, lane_terms};
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_signer::Signer;
use spl_token_interface::instruction as token_instruction;

use crate::{
    cast::{ACTIVE, Cast, SERVICES, cast},
    check::{self, Check, hold},
    coverage,
    operation::{LaneKey, Limits, Operation, Terms, Turn},
    rebuild::Rebuild,
    scene::{Scene, terms_args, write_token},
    service::Wanted,
    settle::Archive,
    state::{Model, Office, Refusal, Token},
};

pub struct Runner<'a> {
    pub scene: &'a Scene,
    pub world: World,
    pub model: Model,
    pub archive: Archive,
    pub rebuild: Rebuild,
}

/// An element of a list by a number of any size.
pub fn pick<T: Copy>(list: &[T], number: impl Into<usize>) -> T {
    list[number.into() % list.len()]
}

/// An approval of any token account.
pub fn approve(source: &Address, delegate: &Address, owner: &Address, amount: u64) -> Instruction {
    token_instruction::approve_checked(
        &TOKEN_PROGRAM,
        source,
        &cast().mint,
        delegate,
        owner,
        &[],
        amount,
        6,
    )
    .unwrap()
}

/// Whether a failure is the one that was expected.
pub fn same_refusal(failure: &Failure, refusal: Refusal) -> bool {
    match refusal {
        Refusal::Program(code) => failure.custom() == Some(code),
        Refusal::Token => true,
    }
}

/// The key that signs for an address.
pub fn keypair(key: &Address) -> &'static Keypair {
    let cast = cast();
    let payers = cast.payers.iter().map(|payer| &payer.wallet);
    cast.signers()
        .into_iter()
        .chain(payers)
        .find(|signer| signer.pubkey() == *key)
        .unwrap()
}

impl<'a> Runner<'a> {
    pub fn new(scene: &'a Scene) -> Self {
        let (mut world, mut model) = (scene.world(), scene.model.clone());
        // The nonce accounts were opened in another slot, so that they can be closed.
        model.slot += 1;
        world.svm.warp_to_slot(model.slot);
        Self {
            scene,
            world,
            model,
            archive: Archive::default(),
            rebuild: scene.rebuild.clone(),
        }
    }

    /// A copy that goes on by itself.
    pub fn fork(&self) -> Self {
        let mut world = self.scene.world();
        world.svm = self.world.svm.clone();
        Self {
            scene: self.scene,
            world,
            model: self.model.clone(),
            archive: self.archive.clone(),
            rebuild: self.rebuild.clone(),
        }
    }

    pub fn cast(&self) -> &'static Cast {
        self.model.cast
    }

    pub fn compare(&self) -> Check {
        check::compare(&self.model, &self.world, &self.scene.props)?;
        // After every step: a later event must not hide that one is missing.
        self.compare_rebuilt()
    }

    /// Sends instructions that the sponsor pays for. They must do what was expected: lead to `next`, or be refused.
    fn land(
        &mut self,
        what: &'static str,
        next: Model,
        expected: Result<(), Refusal>,
        all: &[Instruction],
        by: &[Address],
    ) -> Check {
        let mut signers = vec![&self.cast().sponsor];
        for key in by {
            if !signers.iter().any(|signer| signer.pubkey() == *key) {
                signers.push(keypair(key));
            }
        }
        let outcome = self.world.send(all, &signers);
        coverage::count(what, &expected);
        match (outcome, expected) {
            (Ok(outcome), Ok(())) => {
                self.rebuild.land(next.now, all, &outcome.logs);
                self.model = next;
            }
            (Err(failure), Err(refusal)) => {
                hold!(
                    same_refusal(&failure, refusal),
                    "{what}: {refusal:?} expected, got {failure:#?}"
                );
            }
            (Ok(_), Err(refusal)) => return Err(format!("{what} landed, expected {refusal:?}")),
            (Err(failure), Ok(())) => return Err(format!("{what} refused: {failure:#?}")),
        }
        self.compare()
    }

    /// The accounts of a service's instruction, from the model.
    pub fn accounts(&self, service: usize, facilitator_token: Address) -> ServiceAccounts {
        let (cast, state) = (self.cast(), &self.model.services[service]);
        let owners = state.split.recipients.iter();
        ServiceAccounts {
            service: state.address,
            facilitator: cast.facilitators[state.split.facilitator].0,
            mint: cast.mint,
            vault: state.vault,
            token_program: TOKEN_PROGRAM,
            treasury_token: self.model.mint.treasury_token,
            facilitator_token,
            recipients: owners.map(|(owner, _)| cast.token(owner)).collect(),
        }
    }

    /// The facilitator's token account that an instruction brings: 0 for the right one.
    pub fn facilitator_token(&self, service: usize, which: u8) -> Address {
        let cast = self.cast();
        let facilitator = self.model.services[service].split.facilitator;
        let wallet = self.model.facilitators[facilitator].wallet;
        match which {
            0 => cast.token(&wallet),
            1 => cast.token(&cast.fee_wallets[usize::from(wallet == cast.fee_wallets[0])]),
            2 => cast.sink,
            3 => self.model.services[service].vault,
            _ => cast.token(&cast.treasuries[0]),
        }
    }

    pub fn service(&self, number: u8) -> usize {
        usize::from(number) % self.model.services.len()
    }

    /// The admin for 0, somebody else for more.
    fn admin(&self, by: u8) -> Address {
        let cast = self.cast();
        let other = usize::from(self.model.config.admin == cast.admins[0].pubkey());
        match by {
            0 => self.model.config.admin,
            1 => cast.guardian.pubkey(),
            2 => cast.admins[other].pubkey(),
            _ => cast.sponsor.pubkey(),
        }
    }

    /// Whoever holds an office for 0, somebody else for more.
    fn authority(&self, holder: Address, by: u8) -> Address {
        let cast = self.cast();
        match by {
            0 => holder,
            1 => cast.merchants[1].pubkey(),
            2 => cast.merchants[0].pubkey(),
            _ => cast.operators[1].pubkey(),
        }
    }

    fn payer_source(&self, payer: usize, source: u8) -> Address {
        let payers = &self.cast().payers;
        match source {
            0 | 1 => payers[payer].sources[usize::from(source)],
            _ => payers[(payer + 1) % payers.len()].sources[0],
        }
    }

    pub fn step(&mut self, operation: &Operation) -> Check {
        let cast = self.cast();
        match *operation {
            Operation::Settle {
                service,
                relayer,
                facilitator_token,
                strict,
                ref offers,
            } => self.settle(service, relayer, facilitator_token, strict, offers),
            Operation::Wait(which) => {
                const SECS: [i64; 16] = [
                    1, 1, 2, 10, 30, 59, 60, 61, 300, 600, 601, 3_600, 7_200, 86_400, 172_800,
                    2_678_400,
                ];
                let due = self.model.config.announced.map_or(0, |(_, from)| from);
                self.model.now = match which {
                    // To the last second before an announced share holds, or to the first with it.
                    16 if due - 1 > self.model.now => due - 1,
                    17.. if due > self.model.now => due,
                    _ => self.model.now + pick(&SECS, which),
                };
                self.world.set_time(self.model.now);
                Ok(())
            }
            Operation::Slots(which) => {
                self.model.slot += pick(&[1, 1, 2, 150], which);
                self.world.svm.warp_to_slot(self.model.slot);
                Ok(())
            }
            Operation::Account { which, turn } => {
                // Half of the time somebody whom a service pays.
                let split = &self.model.services[self.service(which / 2)].split;
                let (key, owner) = if which.is_multiple_of(2) {
                    pick(&cast.holders, which / 2)
                } else {
                    let (owner, _) = pick(&split.recipients, which / 8);
                    (cast.token(&owner), owner)
                };
                self.turn(key, owner, turn)
            }
            Operation::Dust { payer } => {
                // A stranger sends lamports to where a nonce account is not yet.
                let payer = usize::from(payer);
                if self.model.nonces[payer].is_none() {
                    let key = cast.payers[payer].nonce;
                    self.world.svm.airdrop(&key, 1_000_000).unwrap();
                }
                self.compare()
            }
            Operation::Vault { service, freeze } => {
                let vault = self.model.services[self.service(service)].vault;
                let turn = if freeze { Turn::Freeze } else { Turn::Repair };
                let owner = self.model.tokens[&vault].owner;
                self.turn(vault, owner, turn)
            }
            Operation::Seize { service } => {
                let service = self.service(service);
                let vault = self.model.services[service].vault;
                let amount = self.model.balance(&vault) / 2;
                self.model.services[service].seized |= amount > 0;
                self.carry(vault, cast.sink, amount);
                self.compare()
            }
            Operation::Pay { service, amount } => {
                let vault = self.model.services[self.service(service)].vault;
                let (client, from) = (cast.client.pubkey(), cast.token(&cast.client.pubkey()));
                let amount = u64::from(amount);
                let mut next = self.model.clone();
                let expected = next.transfer(&from, &vault, amount);
                let pay = token_instruction::transfer_checked(
                    &TOKEN_PROGRAM,
                    &from,
                    &cast.mint,
                    &vault,
                    &client,
                    &[],
                    amount,
                    6,
                )
                .unwrap();
                self.land("pay", next, expected, &[pay], &[client])
            }
            Operation::Open {
                payer,
                rent,
                source,
                bare,
            } => {
                // Most tries are of a payer that has none open, if there is one.
                let closed = self.model.nonces[..ACTIVE].iter().position(Option::is_none);
                let payer = match closed {
                    Some(closed) if payer > 0 => closed,
                    _ => usize::from(payer),
                };
                let who = cast.payers[payer].key();
                let source = self.payer_source(payer, source);
                let rent_payer = match rent {
                    0 => cast.sponsor.pubkey(),
                    1 => cast.client.pubkey(),
                    _ => cast.merchants[0].pubkey(),
                };
                let mut next = self.model.clone();
                let mut expected = next.open(payer, rent_payer, source);
                let mut all = vec![instructions::open_nonce(
                    &rent_payer,
                    &who,
                    &cast.mint,
                    &source,
                )];
                if !bare {
                    // As clients do it: ready to pay in one transaction.
                    let person = &cast.payers[payer];
                    let terms = lane_terms(person.sessions[0].pubkey());
                    expected = expected
                        .and_then(|()| next.set_lane(payer, &who, 1, &terms))
                        .and_then(|()| next.approve(payer, &source, 500_000_000));
                    all.push(instructions::set_lane(&who, &cast.mint, 1, &terms));
                    all.push(approve(&source, &person.nonce, &who, 500_000_000));
                }
                self.land("open", next, expected, &all, &[rent_payer, who])
            }
            Operation::Approve {
                payer,
                source,
                amount,
            } => {
                let payer = usize::from(payer);
                let source = self.payer_source(payer, source);
                let amount = pick(&[500_000_000, 1_000_000, 10_000, u64::MAX, 0], amount);
                let person = &cast.payers[payer];
                let mut next = self.model.clone();
                let expected = next.approve(payer, &source, amount);
                let approve = approve(&source, &person.nonce, &person.key(), amount);
                self.land("approve", next, expected, &[approve], &[person.key()])
            }
            Operation::Revoke { payer, source } => {
                let source = self.payer_source(usize::from(payer), source);
                self.revoke(usize::from(payer), source)
            }
            Operation::SetLane {
                payer,
                by,
                lane,
                key,
                limits,
                scope,
            } => {
                let payer = usize::from(payer);
                let who = cast.payers[(payer + usize::from(by)) % cast.payers.len()].key();
                let terms = self.lane_terms(payer, lane, key, limits, scope);
                let mut next = self.model.clone();
                let expected = next.set_lane(payer, &who, lane, &terms);
                let owner = cast.payers[payer].key();
                let mut set = instructions::set_lane(&owner, &cast.mint, lane, &terms);
                set.accounts[0].pubkey = who;
                self.land("set_lane", next, expected, &[set], &[who])
            }
            Operation::SetSource { payer, by, source } => {
                let payer = usize::from(payer);
                let who = cast.payers[(payer + usize::from(by)) % cast.payers.len()].key();
                let source = self.payer_source(payer, source);
                let mut next = self.model.clone();
                let expected = next.set_source(payer, &who, source);
                let owner = cast.payers[payer].key();
                let mut set = instructions::set_source(&owner, &cast.mint, &source);
                set.accounts[0].pubkey = who;
                self.land("set_source", next, expected, &[set], &[who])
            }
            Operation::CloseNonce { payer, by } => self.close_nonce(usize::from(payer), by),
            Operation::Create {
                merchant,
                id,
                ref terms,
            } => {
                if self.model.services.len() >= SERVICES {
                    return Ok(());
                }
                let creator = cast.merchants[usize::from(merchant)].pubkey();
                let id = u64::from(id);
                let address = sluice_sdk::address::service(&creator, id).0;
                let wanted = self.wanted(terms, &address);
                let mut next = self.model.clone();
                let expected = next.create_service(creator, id, &wanted);
                let args = ServiceArgs {
                    id,
                    terms: terms_args(&wanted),
                };
                let facilitator = cast.facilitators[wanted.facilitator].0;
                let create = instructions::create_service(
                    &creator,
                    &cast.mint,
                    &TOKEN_PROGRAM,
                    &facilitator,
                    &args,
                );
                self.land("create_service", next, expected, &[create], &[creator])
            }
            Operation::Update {
                service,
                by,
                ref terms,
            } => {
                let service = self.service(service);
                let state = &self.model.services[service];
                let by = self.authority(state.authority, by);
                let wanted = self.wanted(terms, &state.address);
                self.update(service, by, &wanted)
            }
            Operation::Sync {
                service,
                facilitator_token,
            } => {
                // The next service that is behind, if there is one.
                let bps = self.model.config.treasury_bps_at(self.model.now);
                let behind = |place: &usize| {
                    let state = &self.model.services[*place];
                    !state.closed && state.split.treasury_bps != bps
                };
                let service = (0..SERVICES as u8)
                    .map(|next| self.service(service.wrapping_add(next)))
                    .find(behind)
                    .unwrap_or_else(|| self.service(service));
                let token = self.facilitator_token(service, facilitator_token);
                let mut next = self.model.clone();
                let expected = next.sync_service(service, &token);
                let on = self.accounts(service, token);
                let sync = instructions::sync_service(&cast.sponsor.pubkey(), &on);
                self.land("sync_service", next, expected, &[sync], &[])
            }
            Operation::CloseService { service, by } => {
                let service = self.service(service);
                let by = self.authority(self.model.services[service].authority, by);
                self.close_service(service, by)
            }
            Operation::Distribute {
                service,
                facilitator_token,
                others,
            } => {
                let service = self.service(service);
                let token = self.facilitator_token(service, facilitator_token);
                self.distribute(service, token, others)
            }
            Operation::Release {
                service,
                owner,
                destination,
            } => {
                let owed: Vec<_> = self.model.owed.keys().copied().collect();
                let (service, owner) = if owed.is_empty() {
                    (self.service(service), pick(&cast.pool, owner))
                } else {
                    pick(&owed, owner)
                };
                let destination = match destination {
                    0 => cast.token(&owner),
                    1 => cast.payers[3].sources[1],
                    2 => cast.sink,
                    _ => self.model.services[service].vault,
                };
                self.release(service, owner, destination)
            }
            Operation::Pause { by, paused } => {
                let by = self.admin(by);
                self.pause(by, paused)
            }
            Operation::Suspend {
                by,
                which,
                suspended,
            } => {
                let by = self.admin(by);
                self.suspend(by, usize::from(which) % 2, suspended)
            }
            Operation::SetMint {
                by,
                settles,
                min,
                max,
            } => {
                let by = self.admin(by);
                let min = pick(&[1, 1, 1, 1, 100, 5_000], min);
                const MOST: u64 = 1_000_000_000;
                let max = pick(&[MOST, MOST, MOST, MOST, 200_000, 4_000], max);
                let token = cast.token(&self.model.config.treasury);
                self.set_mint(by, settles, min, max, token)
            }
            Operation::SetTreasury {
                by,
                which,
                with_token,
            } => {
                let by = self.admin(by);
                let treasury = pick(&cast.treasuries, which);
                let token = with_token.then(|| cast.token(&treasury));
                let mut next = self.model.clone();
                let expected = next.set_treasury(&by, treasury, token);
                let mints: Vec<_> = token.map(|token| (cast.mint, token)).into_iter().collect();
                let set = instructions::set_treasury(&by, &treasury, &mints);
                self.land("set_treasury", next, expected, &[set], &[by])
            }
            Operation::UpdateConfig {
                by,
                bps,
                facilitator_bps,
                ttl,
            } => {
                let by = self.admin(by);
                let bps = pick(
                    &[None, Some(50), Some(0), Some(100), Some(1_000), Some(1_001)],
                    bps,
                );
                let facilitator_bps = match facilitator_bps {
                    9 => Some(5_000),
                    10 => Some(200),
                    11 => Some(5_001),
                    _ => None,
                };
                let ttl = match ttl {
                    7 => Some(600),
                    8 => Some(60),
                    9 => Some(3_600),
                    10 => Some(0),
                    11 => Some(3_601),
                    _ => None,
                };
                let mut next = self.model.clone();
                let expected = next.update_config(&by, bps, facilitator_bps, ttl);
                let update = ConfigUpdate {
                    treasury_bps: bps,
                    max_facilitator_bps: facilitator_bps,
                    max_intent_ttl: ttl,
                    guardian: None,
                };
                let update = instructions::update_config(&by, &update);
                self.land("update_config", next, expected, &[update], &[by])
            }
            Operation::UpdateFacilitator {
                by,
                which,
                wallet,
                mins,
                relayers,
            } => {
                let which = usize::from(which) % 2;
                let holder = self.model.facilitators[which].authority;
                let by = self.authority(holder, by);
                let [first, second] = cast.fee_wallets;
                let wallet = pick(&[first, second, cast.payers[3].key()], wallet);
                let mins = (
                    pick(&[0, 0, 0, 50, 4_000, 5_001], mins),
                    u64::from(mins / 6) * 5,
                );
                let keys: Vec<Address> = cast.relayers.iter().map(Signer::pubkey).collect();
                let relayers = match (relayers, which) {
                    (0..=2, 0) => keys[..2].to_vec(),
                    (0..=2, _) => keys[2..].to_vec(),
                    (3, _) => keys[..1].to_vec(),
                    (4, _) => keys[1..2].to_vec(),
                    (5, _) => vec![keys[0], keys[0]],
                    (6, _) => vec![keys[0], holder],
                    _ => keys,
                };
                let mut next = self.model.clone();
                let expected = next.update_facilitator(&by, which, wallet, mins, &relayers);
                let args = FacilitatorArgs {
                    wallet: wallet.to_bytes(),
                    min_fee_bps: mins.0,
                    min_fee_fixed: mins.1,
                    relayers: relayers.iter().map(|key| key.to_bytes()).collect(),
                };
                let key = cast.facilitators[which].0;
                let update = instructions::update_facilitator(&by, &key, &args);
                self.land("update_facilitator", next, expected, &[update], &[by])
            }
            Operation::Propose { office, by, next } => self.propose(office, by, next),
            Operation::Accept { office, by } => {
                // The next office in which somebody is proposed, if there is one.
                let numbers = (0..=u8::MAX).map(|next| office.wrapping_add(next));
                let (office, account, _, pending) = numbers
                    .map(|number| self.office(number))
                    .find(|(.., pending)| *pending != Address::default())
                    .unwrap_or_else(|| self.office(office));
                let by = match by {
                    0 if pending != Address::default() => pending,
                    0 => cast.sponsor.pubkey(),
                    by => self.authority(cast.sponsor.pubkey(), by),
                };
                let mut next = self.model.clone();
                let expected = next.accept(&by, office);
                let accept = match account {
                    None => instructions::accept_admin(&by),
                    Some(account) => instructions::accept_authority(&by, &account),
                };
                self.land("accept", next, expected, &[accept], &[by])
            }
        }
    }

    /// An office with its account (the config is implied), its holder and who is proposed.
    fn office(&self, number: u8) -> (Office, Option<Address>, Address, Address) {
        match number % 6 {
            0 => {
                let config = &self.model.config;
                (Office::Admin, None, config.admin, config.pending_admin)
            }
            which @ 1..=2 => {
                let which = usize::from(which - 1);
                let state = &self.model.facilitators[which];
                let key = self.cast().facilitators[which].0;
                (
                    Office::Facilitator(which),
                    Some(key),
                    state.authority,
                    state.pending,
                )
            }
            which => {
                let which = self.service(which);
                let state = &self.model.services[which];
                (
                    Office::Service(which),
                    Some(state.address),
                    state.authority,
                    state.pending,
                )
            }
        }
    }

    fn propose(&mut self, office: u8, by: u8, next: u8) -> Check {
        let cast = self.cast();
        let (office, account, holder, _) = self.office(office);
        let by = self.authority(holder, by);
        let candidates = match office {
            Office::Admin => &cast.admins,
            Office::Facilitator(_) => &cast.operators,
            Office::Service(_) => &cast.merchants,
        };
        let proposed = match (next, office) {
            (2, Office::Facilitator(_)) => cast.relayers[0].pubkey(),
            (2 | 3, _) => Address::default(),
            (which, _) => candidates[usize::from(which)].pubkey(),
        };
        let mut next = self.model.clone();
        let expected = next.propose(&by, office, proposed);
        let propose = match account {
            None => instructions::propose_admin(&by, &proposed),
            Some(account) => instructions::propose_authority(&by, &account, &proposed),
        };
        self.land("propose", next, expected, &[propose], &[by])
    }

    fn lane_terms(
        &self,
        payer: usize,
        lane: u8,
        key: LaneKey,
        limits: Limits,
        scope: u8,
    ) -> LaneTerms {
        let (cast, person) = (self.cast(), &self.cast().payers[payer]);
        let key = match key {
            LaneKey::Closed => [0; 32],
            LaneKey::Own => person.key().to_bytes(),
            // Lane 0 takes no other key; every fourth try of one is enough.
            LaneKey::First if lane == 0 && !scope.is_multiple_of(4) => person.key().to_bytes(),
            LaneKey::First => person.sessions[0].pubkey().to_bytes(),
            LaneKey::Second => person.sessions[1].pubkey().to_bytes(),
        };
        let service = |number: usize| {
            let services = &self.model.services;
            services[number % services.len()].address.to_bytes()
        };
        let scope = match usize::from(scope) {
            which @ 8..=10 => Scope::Service(service(which)),
            which @ 11..=12 => Scope::Authority(cast.merchants[which - 11].pubkey().to_bytes()),
            which @ 13..=14 => Scope::Facilitator(cast.facilitators[which - 13].0.to_bytes()),
            _ => Scope::Any,
        };
        let now = self.model.now;
        LaneTerms {
            key,
            expires_at: pick(
                &[i64::MAX, i64::MAX, i64::MAX, i64::MAX, now + 300, now],
                limits.expiry,
            ),
            max_per_payment: pick(
                &[UNLIMITED, UNLIMITED, 100_000, 50_000, 5_000, 0],
                limits.max,
            ),
            period_limit: pick(
                &[UNLIMITED, 200_000, 100_000, 50_000, 10_000, 0],
                limits.period,
            ),
            period_secs: pick(&[0, 0, 60, 600, 3_600, 86_400, 1, u64::MAX], limits.secs),
            total_limit: pick(
                &[UNLIMITED, UNLIMITED, 1_000_000, 300_000, 50_000, 0],
                limits.total,
            ),
            scope,
        }
    }

    /// New terms, with whatever flaw they are to have.
    fn wanted(&self, terms: &Terms, service: &Address) -> Wanted {
        let cast = self.cast();
        let count = if terms.flaw == 5 {
            9
        } else {
            1 << (terms.count % 4)
        };
        let weights: Vec<u32> = (0..count)
            .map(|i| 1 + u32::from(terms.cuts).wrapping_mul(7 * i + 3) % 97)
            .collect();
        let whole: u32 = weights.iter().sum();
        let mut rows: Vec<(Address, u16)> = weights
            .iter()
            .enumerate()
            .map(|(i, weight)| {
                let owner = pick(&cast.pool, usize::from(terms.from) + i);
                (owner, (weight * 10_000 / whole) as u16)
            })
            .collect();
        let rest = 10_000 - rows.iter().map(|(_, bps)| bps).sum::<u16>();
        rows[0].1 += rest;
        let last = rows.len() - 1;
        match terms.flaw {
            1 => rows[0].1 -= 1,
            2 => {
                rows[0].1 += std::mem::take(&mut rows[last].1);
            }
            3 => rows[last].0 = rows[0].0,
            4 => rows[last].0 = *service,
            6 => rows.clear(),
            _ => {}
        }
        Wanted {
            facilitator: usize::from(terms.facilitator),
            facilitator_bps: terms.facilitator_bps,
            facilitator_fixed: pick(&[0, 0, 10, 2_000], terms.facilitator_fixed),
            min_payment: pick(&[0, 1, 1, 500], terms.min_payment),
            recipients: rows,
        }
    }

    /// Moves money that the program does not see move.
    fn carry(&mut self, from: Address, to: Address, amount: u64) {
        self.model.debit(&from, amount);
        self.model.credit(&to, amount);
        self.rebuild.transfer(from, to, amount);
        for key in [from, to] {
            write_token(&mut self.world, key, self.model.tokens.get(&key));
        }
    }

    /// Something happens to a token account.
    pub fn turn(&mut self, key: Address, owner: Address, turn: Turn) -> Check {
        let cast = self.cast();
        let is_source = cast.payers.iter().any(|payer| payer.sources.contains(&key));
        if matches!(turn, Turn::Close | Turn::Empty) && self.model.tokens.contains_key(&key) {
            let amount = self.model.balance(&key);
            self.carry(key, cast.sink, amount);
        }
        let tokens = &mut self.model.tokens;
        match turn {
            Turn::Repair => {
                let token = tokens.entry(key).or_insert_with(|| Token::new(owner, 0));
                token.frozen = false;
                if token.owner != owner {
                    token.owner = owner;
                    token.delegate = None;
                }
            }
            Turn::Freeze => {
                if let Some(token) = tokens.get_mut(&key) {
                    token.frozen = true;
                }
            }
            Turn::Close => {
                tokens.remove(&key);
            }
            // As the token program does it, the approval goes with the owner.
            Turn::Reown => {
                if let Some(token) = tokens.get_mut(&key) {
                    token.owner = cast.client.pubkey();
                    token.delegate = None;
                }
            }
            Turn::Empty | Turn::Mint => {}
        }
        // A payer without money tests little.
        let poor =
            is_source && matches!(turn, Turn::Repair) && self.model.balance(&key) < 1_000_000;
        if (poor || matches!(turn, Turn::Mint)) && self.model.tokens.contains_key(&key) {
            self.model.credit(&key, 100_000_000);
            self.model.supply += 100_000_000;
            self.rebuild.give(key, 100_000_000);
        }
        write_token(&mut self.world, key, self.model.tokens.get(&key));
        self.compare()
    }

    pub fn revoke(&mut self, payer: usize, source: Address) -> Check {
        let who = self.cast().payers[payer].key();
        let mut next = self.model.clone();
        let expected = next.revoke(payer, &source);
        let revoke = token_instruction::revoke(&TOKEN_PROGRAM, &source, &who, &[]).unwrap();
        self.land("revoke", next, expected, &[revoke], &[who])
    }

    /// By the payer (0), the rent payer (1), a stranger (2), or for somebody else's profit (3).
    pub fn close_nonce(&mut self, payer: usize, by: u8) -> Check {
        let cast = self.cast();
        let who = cast.payers[payer].key();
        let rent_payer = self.model.nonces[payer]
            .as_ref()
            .map_or(cast.sponsor.pubkey(), |nonce| nonce.rent_payer);
        let by_key = match by {
            1 => rent_payer,
            2 => cast.operators[1].pubkey(),
            _ => who,
        };
        let to = if by == 3 {
            cast.operators[1].pubkey()
        } else {
            rent_payer
        };
        let mut next = self.model.clone();
        let expected = next.close_nonce(payer, &by_key, &to);
        let close = instructions::close_nonce(&by_key, &who, &cast.mint, &to);
        self.land("close_nonce", next, expected, &[close], &[by_key])?;
        let gone = check::is_gone(&self.world, &cast.payers[payer].nonce);
        hold!(
            expected.is_err() || gone,
            "a closed nonce account is still there"
        );
        Ok(())
    }

    pub fn update(&mut self, service: usize, by: Address, wanted: &Wanted) -> Check {
        let cast = self.cast();
        let token = self.facilitator_token(service, 0);
        let mut next = self.model.clone();
        let expected = next.update_service(service, &by, &token, wanted);
        let current = self.model.services[service].split.facilitator;
        let update = instructions::update_service(
            &by,
            &self.accounts(service, token),
            &check::service(&self.model, service),
            &self.model.facilitators[current].wallet,
            &cast.facilitators[wanted.facilitator].0,
            &terms_args(wanted),
        );
        self.land("update_service", next, expected, &[update], &[by])
    }

    pub fn close_service(&mut self, service: usize, by: Address) -> Check {
        let token = self.facilitator_token(service, 0);
        let mut next = self.model.clone();
        let expected = next.close_service(service, &by, &token);
        let close = instructions::close_service(&by, &self.accounts(service, token));
        self.land("close_service", next, expected, &[close], &[by])
    }

    pub fn distribute(&mut self, service: usize, token: Address, others: bool) -> Check {
        let cast = self.cast();
        let mut extra = Vec::new();
        if others {
            extra.push(cast.payers[3].sources[1]);
            let wallets = cast.fee_wallets.iter().chain(&cast.treasuries);
            extra.extend(wallets.map(|owner| cast.token(owner)));
        }
        let mut next = self.model.clone();
        let expected = next.distribute(service, &token, &extra);
        let on = self.accounts(service, token);
        let distribute = instructions::distribute(&cast.sponsor.pubkey(), &on, &extra);
        self.land("distribute", next, expected, &[distribute], &[])
    }

    pub fn release(&mut self, service: usize, owner: Address, destination: Address) -> Check {
        let cast = self.cast();
        let rent_payer = self
            .model
            .owed
            .get(&(service, owner))
            .map_or(cast.sponsor.pubkey(), |owed| owed.rent_payer);
        let mut next = self.model.clone();
        let expected = next.release(service, owner, &destination);
        let token = self.facilitator_token(service, 0);
        let on = self.accounts(service, token);
        let release = instructions::release_held(&on, &owner, &rent_payer, &destination);
        self.land("release_held", next, expected, &[release], &[])
    }

    pub fn pause(&mut self, by: Address, paused: bool) -> Check {
        let mut next = self.model.clone();
        let expected = next.set_paused(&by, paused);
        let pause = instructions::set_paused(&by, paused);
        self.land("set_paused", next, expected, &[pause], &[by])
    }

    pub fn suspend(&mut self, by: Address, which: usize, suspended: bool) -> Check {
        let key = self.cast().facilitators[which].0;
        let mut next = self.model.clone();
        let expected = next.suspend(&by, which, suspended);
        let suspend = instructions::suspend_facilitator(&by, &key, suspended);
        self.land("suspend_facilitator", next, expected, &[suspend], &[by])
    }

    pub fn set_mint(
        &mut self,
        by: Address,
        settles: bool,
        min: u64,
        max: u64,
        token: Address,
    ) -> Check {
        let cast = self.cast();
        let mut next = self.model.clone();
        let expected = next.set_mint(&by, settles, min, max, token);
        let args = MintArgs {
            settle: settles,
            min_amount: min,
            max_amount: max,
            allowed_extensions: 0,
        };
        let set = instructions::set_mint(&by, &cast.mint, &token, &args);
        self.land("set_mint", next, expected, &[set], &[by])
    }

    /// Everything stopped: all that is in the vaults gets out, every payer gets away, and the record is complete.
    pub fn finish(&mut self) -> Check {
        self.replay()?;
        let cast = self.cast();
        let admin = self.model.config.admin;
        self.pause(admin, true)?;
        for which in 0..cast.facilitators.len() {
            self.suspend(admin, which, true)?;
        }
        let (min, max) = (self.model.mint.min, self.model.mint.max);
        let token = self.model.mint.treasury_token;
        self.set_mint(admin, false, min, max, token)?;
        // First as things are: whoever cannot be paid must not stop the others.
        for service in 0..self.model.services.len() {
            let token = self.facilitator_token(service, 0);
            self.distribute(service, token, false)?;
        }
        for (key, owner) in &cast.holders {
            self.turn(*key, *owner, Turn::Repair)?;
        }
        for service in 0..self.model.services.len() {
            self.empty(service)?;
        }
        for ((service, owner), _) in self.model.owed.clone() {
            self.release(service, owner, cast.token(&owner))?;
            let still = self.model.owed.contains_key(&(service, owner));
            let seized = self.model.services[service].seized;
            hold!(
                seized || !still,
                "I9: what {owner} is owed does not get out"
            );
        }
        for service in &self.model.services {
            let left = self.model.balance(&service.vault);
            hold!(
                service.seized || left == 0,
                "I9: {left} are locked in a vault"
            );
        }
        self.model.slot += 1;
        self.world.svm.warp_to_slot(self.model.slot);
        for (i, payer) in cast.payers.iter().enumerate().take(ACTIVE) {
            for source in payer.sources {
                self.revoke(i, source)?;
                let delegate = self.model.tokens[&source].delegate;
                hold!(delegate.is_none(), "I9: an approval stays");
            }
            if self.model.nonces[i].is_some() {
                self.close_nonce(i, 0)?;
                hold!(self.model.nonces[i].is_none(), "I9: a nonce account stays");
            }
        }
        Ok(())
    }

    /// Another set of recipients, the end of the service, and whatever is held after it.
    fn empty(&mut self, service: usize) -> Check {
        let vault = self.model.services[service].vault;
        let owner = self.model.services[service].address;
        self.turn(vault, owner, Turn::Repair)?;
        let state = &self.model.services[service];
        let (authority, split) = (state.authority, state.split.clone());
        if !state.closed {
            let facilitator = &self.model.facilitators[split.facilitator];
            let cap = self.model.config.max_facilitator_bps;
            let wanted = Wanted {
                facilitator: split.facilitator,
                facilitator_bps: facilitator.min_bps,
                facilitator_fixed: facilitator.min_fixed,
                min_payment: 1,
                recipients: vec![(self.cast().pool[0], 10_000)],
            };
            let possible = facilitator.min_bps <= cap;
            let before = state.version;
            self.update(service, authority, &wanted)?;
            let done = self.model.services[service].version > before;
            hold!(done || !possible, "I9: no update while things are stopped");
            self.close_service(service, authority)?;
            hold!(
                self.model.services[service].closed,
                "I9: no close while things are stopped"
            );
        }
        // Units below the minimum stay where a service was closed before they came.
        let token = self.facilitator_token(service, 0);
        let seized = self.model.services[service].seized;
        let held = self.model.held_total(service);
        let free = self.model.balance(&vault).saturating_sub(held);
        if free > 0 && !seized {
            let client = self.cast().token(&self.cast().client.pubkey());
            self.carry(client, vault, 1_000_000);
        }
        self.distribute(service, token, true)
    }

    /// The record says what the chain holds.
    fn compare_rebuilt(&self) -> Check {
        let accounts = check::accounts(&self.world);
        for (key, data) in &accounts {
            let rebuilt = self.rebuild.accounts.get(key);
            hold!(
                rebuilt == Some(data),
                "account {key} cannot be rebuilt from the record"
            );
        }
        for key in self.rebuild.accounts.keys() {
            hold!(
                accounts.contains_key(key),
                "the record has an account {key} that is gone"
            );
        }
        let tokens = check::tokens(&self.world);
        let found: BTreeMap<_, _> = tokens
            .iter()
            .map(|(key, token)| (*key, token.amount))
            .collect();
        for (key, amount) in &self.rebuild.balances {
            let chain = found.get(key).copied().unwrap_or(0);
            hold!(
                chain == *amount,
                "the record has {amount} in {key}, the chain {chain}"
            );
        }
        for key in found.keys() {
            let known = self.rebuild.balances.contains_key(key) || found[key] == 0;
            hold!(known, "the record does not know {key}");
        }
        Ok(())
    }
}

/// The skip codes of a settle, for the count of what was covered.
pub fn names(codes: &[u8]) -> impl Iterator<Item = &'static str> + '_ {
    codes
        .iter()
        .map(|code| Skip::from_code(*code).map_or("settled", Skip::name))
}
