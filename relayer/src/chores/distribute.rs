//! Distribution: what arrives in a service's vault without an intent is divided by the program, soon after and together
//! with what is held and payable again.
//!
//! Services are learned from payments, from the configuration, from whoever calls [`Engine::vault_paid`], and by asking
//! the chain at a slow pace. A cheap look at all vaults finds those that hold something; a second one at everything that
//! the program would look at, right before it is signed, finds what a distribution would do ([`due`]), so that none is
//! sent that has nothing to do. A pause, a suspension and a closed service stop nothing here, as in the program.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use sluice_intent::MAX_RECIPIENTS;
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, AccountQuery, Config, Facilitator, Service},
    address,
    instructions::{self, ServiceAccounts},
    token::{self, Mint, TokenAccount},
    transaction::{Budget, Version},
};
use tokio::time::Instant;

use super::{Job, Ran, fits, slot};
use crate::{
    budget,
    chain::{CLOCK, Depth, RawAccount},
    config::Fees,
    engine::{Engine, Unavailable},
    ledger::{chores::Kind, unix_millis},
    snapshot::{config_address, exists, lookup},
};

/// Most accounts that one call may name.
const MAX_ACCOUNTS: usize = 100;
/// How often the worker looks whether something is due.
const TICK: Duration = Duration::from_secs(1);
/// How long money that was announced is waited for.
const HINT_PATIENCE: Duration = Duration::from_secs(60);
/// A subject whose transaction failed before travels alone.
const ALONE: u32 = 1;

/// Everything that a distribution of one vault depends on, at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Vault {
    /// The service's address.
    pub address: Address,
    /// The service.
    pub service: Service,
    /// Its mint as an accepted one.
    pub accepted: AcceptedMint,
    /// The mint itself; `None` if it is none.
    pub mint: Option<Mint>,
    /// The vault; `None` if it is no token account.
    pub vault: Option<TokenAccount>,
    /// The treasury's wallet.
    pub treasury: Address,
    /// The facilitator's wallet.
    pub facilitator: Address,
    /// The accounts of the legs: the recipients in the order of the terms, the treasury's, the facilitator's.
    pub legs: Vec<Option<TokenAccount>>,
}

/// What a distribution would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// Atomic units that would be divided.
    pub divided: u64,
    /// Atomic units that would leave the vault.
    pub paid: u64,
    /// Of those, the facilitator's.
    pub earned: u64,
}

/// What the program would do with a vault, leg by leg as it does it (`programs/sluice/src/distribution.rs`).
pub fn due(on: &Vault) -> Due {
    let Some(vault) = on.vault.filter(|vault| is_mint(on, vault)) else {
        return Due::default();
    };
    let service = &on.service;
    let minimum = service.min_payment.max(on.accepted.min_amount).max(1);
    let free = vault.amount.saturating_sub(service.held_total);
    let divided = if free >= minimum { free } else { 0 };
    let can_leave = on.mint.as_ref().is_some_and(Mint::can_move)
        && vault.owner == on.address
        && vault.can_send();
    let Ok(shares) = service.split(divided, 0) else {
        return Due::default();
    };
    let mut due = Due {
        divided,
        ..Due::default()
    };
    if !can_leave {
        return due;
    }
    let recipients = service
        .shares()
        .iter()
        .zip(shares.recipients)
        .map(|(share, part)| (Address::new_from_array(share.owner), share.held, part));
    let fees = [
        (on.treasury, service.held_treasury, shares.treasury),
        (on.facilitator, service.held_facilitator, shares.facilitator),
    ];
    let count = service.shares().len();
    let mut left = vault.amount;
    for (leg, (owner, held, part)) in recipients.chain(fees).enumerate() {
        let account = on.legs.get(leg).copied().flatten();
        let payable = account.is_some_and(|account| {
            is_mint(on, &account) && account.owner == owner && account.can_receive()
        });
        if !payable {
            continue;
        }
        let paid = held.saturating_add(part).min(left);
        left -= paid;
        due.paid = due.paid.saturating_add(paid);
        if leg == count + 1 {
            due.earned = paid;
        }
    }
    due
}

fn is_mint(on: &Vault, account: &TokenAccount) -> bool {
    account.mint.to_bytes() == on.service.mint
        && account.token_program.to_bytes() == on.accepted.token_program
}

/// What the worker knows of a service.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// Since when its vault has held something to divide.
    since: Option<Instant>,
    /// It was said that money came in.
    hint: Option<Hint>,
    /// The ledger knows it as a service of this facilitator.
    kept: bool,
    failures: u32,
    /// Not looked at before, but for a hint.
    rest_until: Option<Instant>,
}

/// Money that was announced.
#[derive(Clone, Copy, Debug)]
struct Hint {
    /// When.
    at: Instant,
    /// When to look for it.
    look: Instant,
}

/// A vault with something to do, and what it takes.
struct Candidate {
    accounts: ServiceAccounts,
    due: Due,
    /// Of its mint.
    decimals: u8,
    failures: u32,
}

struct Distributor {
    engine: Arc<Engine>,
    known: HashMap<Address, Known>,
    /// Addresses of accepted mints: finding one is dear.
    mints: HashMap<Address, Address>,
    next_scan: Instant,
    next_search: Option<Instant>,
    /// Payments from then on are asked for services that are not known yet.
    paid_from: i64,
    /// What the ledger says is read again when something ended.
    stale: bool,
}

/// Distributes until no more requests come in.
pub(super) async fn work(engine: Arc<Engine>) {
    let settings = &engine.settings.distribute;
    let now = Instant::now();
    let configured = settings.services.iter();
    let mut worker = Distributor {
        known: configured.map(|key| (*key, Known::default())).collect(),
        mints: HashMap::new(),
        next_scan: now,
        next_search: settings.discover().map(|_| now),
        paid_from: 0,
        stale: true,
        engine: Arc::clone(&engine),
    };
    let tick = [TICK, settings.scan(), settings.soon(), settings.age()]
        .into_iter()
        .min()
        .unwrap_or(TICK)
        .max(Duration::from_millis(20));
    let mut ended = engine.chores.ended.subscribe();
    loop {
        let round = async {
            if let Err(error) = worker.round().await {
                tracing::warn!(%error, "vaults could not be looked after; they will be");
                tokio::time::sleep(TICK).await;
            }
            tokio::select! {
                () = engine.chores.bell.notified() => {}
                () = tokio::time::sleep(tick) => {}
            }
        };
        tokio::select! {
            // What was written down and not sent is taken up by the next start.
            () = engine.draining.cancelled() => return,
            () = round => {}
        }
        if ended.has_changed().unwrap_or(false) {
            ended.mark_unchanged();
            worker.stale = true;
        }
    }
}

impl Distributor {
    async fn round(&mut self) -> Result<(), Unavailable> {
        self.learn().await?;
        let now = Instant::now();
        let scan = now >= self.next_scan;
        if scan || self.stale {
            self.reload().await?;
            self.stale = false;
        }
        if scan {
            self.next_scan = now + self.engine.settings.distribute.scan();
        }
        let mut looks: Vec<Address> = self
            .known
            .iter()
            .filter(|(_, known)| self.wants_a_look(known, scan, now))
            .map(|(service, _)| *service)
            .collect();
        if looks.is_empty() {
            return Ok(());
        }
        looks.sort();
        let busy: HashSet<Address> = self
            .engine
            .ledger
            .busy(Kind::Distribute)
            .await?
            .into_iter()
            .collect();
        looks.retain(|service| !busy.contains(service));
        // Two accounts of each service, and the facilitator's.
        for chunk in looks.chunks(MAX_ACCOUNTS / 2 - 1) {
            let holding = self.holding(chunk).await?;
            // As many as one question can be asked about at one moment.
            let mut rest = holding.as_slice();
            while !rest.is_empty() {
                let (asked, later) = rest.split_at(askable(rest));
                self.distribute(asked).await?;
                rest = later;
            }
        }
        Ok(())
    }

    fn wants_a_look(&self, known: &Known, scan: bool, now: Instant) -> bool {
        let settings = &self.engine.settings.distribute;
        let past = |since: Option<Instant>, age: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= age)
        };
        let resting = known.rest_until.is_some_and(|until| now < until);
        if known.failures > 0 && resting {
            return false;
        }
        known.hint.is_some_and(|hint| now >= hint.look)
            || (!resting && (scan || past(known.since, settings.age())))
    }

    /// Learns of services: announced, configured, paid, and registered on chain.
    async fn learn(&mut self) -> Result<(), Unavailable> {
        let engine = Arc::clone(&self.engine);
        let settings = &engine.settings.distribute;
        let hints = engine.chores.take_hints();
        for (service, at) in hints {
            let known = self.known.entry(service).or_default();
            let look = at + settings.soon();
            known.hint = known.hint.or(Some(Hint { at, look }));
        }
        let mut found = Vec::new();
        let now = Instant::now();
        if now >= self.next_scan {
            let (services, latest) = engine.ledger.services_paid(self.paid_from).await?;
            found.extend(services);
            // Those that are written down at this moment are asked for again.
            self.paid_from = latest.min(unix_millis() - 60_000).max(1);
        }
        if self.next_search.is_some_and(|at| now >= at) {
            // At a slow pace even where it fails: nodes that do not like this question do not like it more often.
            self.next_search = settings.discover().map(|pause| now + pause);
            let query = AccountQuery::services_of(engine.settings.facilitator);
            match engine.chain.program_accounts(&query).await {
                Ok(services) => found.extend(services),
                Err(error) => {
                    tracing::warn!(%error, "the chain could not be asked for the facilitator's services");
                }
            }
        }
        for service in found {
            self.known.entry(service).or_default();
        }
        Ok(())
    }

    /// Reads what the ledger says: since when there is something to do, and what failed.
    async fn reload(&mut self) -> Result<(), Unavailable> {
        let now = Instant::now();
        for target in self.engine.ledger.targets(Kind::Distribute).await? {
            let known = self.known.entry(target.subject).or_default();
            known.since = target.age.map(|age| now.checked_sub(age).unwrap_or(now));
            known.kept = true;
            known.failures = target.failures;
            if !target.rest.is_zero() {
                known.rest_until = Some(now + target.rest);
            }
        }
        Ok(())
    }

    /// Of these services, those of this facilitator whose vaults hold something, with the accounts of their legs.
    async fn holding(&mut self, services: &[Address]) -> Result<Vec<ServiceAccounts>, Unavailable> {
        let engine = Arc::clone(&self.engine);
        let mut keys = vec![engine.settings.facilitator];
        keys.extend(services);
        let accounts = engine.chain.accounts(&keys, Depth::Confirmed).await?;
        let mut accounts = accounts.iter().map(Option::as_ref);
        let facilitator = lookup::<Facilitator>(real(accounts.next().flatten()));
        let Some(facilitator) = facilitator.found() else {
            return Err(Unavailable::NotReady(format!(
                "the facilitator account {} does not exist: register it",
                engine.settings.facilitator
            )));
        };
        let ours = engine.settings.facilitator.to_bytes();
        let found: Vec<(Address, Service)> = services
            .iter()
            .zip(accounts)
            .filter_map(|(key, account)| {
                let service = lookup::<Service>(real(account));
                let service = service.found().filter(|found| found.facilitator == ours)?;
                Some((*key, *service))
            })
            .collect();
        let good: HashSet<Address> = found.iter().map(|(key, _)| *key).collect();
        for service in services.iter().filter(|key| !good.contains(key)) {
            self.stranger(service);
        }
        self.keep(&found).await?;
        let mut keys = Vec::with_capacity(found.len() * 2);
        for (_, service) in &found {
            keys.push(self.accepted(&Address::new_from_array(service.mint)));
            keys.push(Address::new_from_array(service.vault));
        }
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let accounts = engine.chain.accounts(&keys, Depth::Confirmed).await?;
        let wallet = Address::new_from_array(facilitator.wallet);
        let mut holding = Vec::new();
        for ((key, service), pair) in found.iter().zip(accounts.chunks(2)) {
            let [accepted, vault] = pair else {
                break;
            };
            let accepted = lookup::<AcceptedMint>(real(accepted.as_ref()));
            let vault = decode(vault.as_ref());
            match (accepted.found(), vault) {
                (Some(accepted), Some(vault)) if vault.amount > 0 => {
                    holding.push(ServiceAccounts::new(*key, service, accepted, &wallet));
                }
                _ => self.nothing(key).await?,
            }
        }
        Ok(holding)
    }

    /// Looks at these vaults once more, at one moment, and distributes those that are due.
    async fn distribute(&mut self, asked: &[ServiceAccounts]) -> Result<(), Unavailable> {
        let engine = Arc::clone(&self.engine);
        let (vaults, seen_slot) = self.view(asked).await?;
        let mut due_now = Vec::new();
        for (accounts, vault) in asked.iter().zip(vaults) {
            let Some(vault) = vault else {
                // Its terms have changed since: the next look sees the new ones.
                continue;
            };
            let due = due(&vault);
            if due.paid == 0 || due.paid < self.least(&accounts.mint) {
                self.nothing(&accounts.service).await?;
                continue;
            }
            if self.is_due(accounts, &due).await? {
                let failures = self
                    .known
                    .get(&accounts.service)
                    .map_or(0, |known| known.failures);
                due_now.push(Candidate {
                    accounts: accounts.clone(),
                    due,
                    decimals: vault.accepted.decimals,
                    failures,
                });
            }
        }
        while !due_now.is_empty() {
            self.send(&engine, &mut due_now, seen_slot).await?;
        }
        Ok(())
    }

    /// Sends one transaction for as many of these as it takes, and takes those off; and those that it must not.
    async fn send(
        &mut self,
        engine: &Engine,
        due: &mut Vec<Candidate>,
        seen_slot: u64,
    ) -> Result<(), Unavailable> {
        let Some(head) = due.first() else {
            return Ok(());
        };
        let fees = engine
            .fees_now(head.accounts.service, head.accounts.vault)
            .await;
        let registered = engine.facilitator().await?;
        let dearest = engine.settings.fees.max_lamports_per_transaction;
        let key = engine.signers.pick(registered.relayer_keys(), dearest)?;
        let payer = key.address();
        let large = engine.takes_v1();
        let version = |count: usize| {
            if count > 1 && large {
                Version::V1
            } else {
                Version::V0
            }
        };
        let group = self.group(due, &payer, &fees, version);
        let Some((group, budget)) = self.affordable(group, &fees) else {
            return Ok(());
        };
        let subjects: Vec<Address> = group.iter().map(|one| one.accounts.service).collect();
        let job = Job {
            kind: Kind::Distribute,
            instructions: group
                .iter()
                .map(|one| instructions::distribute(&payer, &one.accounts, &[]))
                .collect(),
            version: version(group.len()),
            subjects: subjects.clone(),
            budget,
            key,
            seen_slot,
            cap: Some(engine.settings.distribute.max_lamports_per_day),
        };
        let ran = engine.run_chore(job).await?;
        for service in &subjects {
            let Some(known) = self.known.get_mut(service) else {
                continue;
            };
            match ran {
                Ran::Sent => known.hint = None,
                Ran::Taken => {
                    let look = Instant::now() + TICK;
                    known.hint = known.hint.map(|hint| Hint { look, ..hint });
                    known.rest_until = Some(look);
                }
                Ran::OverCap => self.rest(service),
            }
        }
        Ok(())
    }

    /// Takes off as many as fit in one transaction, by bytes, compute units and cost.
    fn group(
        &self,
        due: &mut Vec<Candidate>,
        payer: &Address,
        fees: &Fees,
        version: impl Fn(usize) -> Version,
    ) -> Vec<Candidate> {
        let most = self.engine.settings.distribute.max_vaults;
        let mut group: Vec<Candidate> = Vec::new();
        let mut instructions = Vec::new();
        while let Some(next) = due.first() {
            let alone = next.failures >= ALONE;
            if !group.is_empty() && (alone || group.len() >= most) {
                break;
            }
            instructions.push(instructions::distribute(payer, &next.accounts, &[]));
            let mut counts = recipients(&group);
            counts.push(next.accounts.recipients.len());
            let fit = budget::of_distribution(&counts, fees)
                .is_some_and(|budget| budget::cost(&budget) <= fees.max_lamports_per_transaction)
                && fits(version(counts.len()), payer, &instructions);
            // One that does not fit alone is refused when it is sent, with the reason.
            if !fit && !group.is_empty() {
                break;
            }
            group.push(due.remove(0));
            if alone {
                break;
            }
        }
        group
    }

    /// Of a group, those that earn their part of the cost, and the budget of these. The others wait for more; without
    /// them those that are left bear more of it.
    fn affordable(
        &mut self,
        mut group: Vec<Candidate>,
        fees: &Fees,
    ) -> Option<(Vec<Candidate>, Budget)> {
        loop {
            let budget = budget::of_distribution(&recipients(&group), fees)?;
            let count = u64::try_from(group.len()).ok().filter(|count| *count > 0)?;
            let part = budget::cost(&budget).div_ceil(count);
            let (pays, waits): (Vec<Candidate>, Vec<Candidate>) = group
                .into_iter()
                .partition(|one| self.pays_its_way(one, part));
            if waits.is_empty() {
                return Some((pays, budget));
            }
            for one in waits {
                tracing::debug!(service = %one.accounts.service, part, "a distribution would cost more than it may");
                self.rest(&one.accounts.service);
            }
            group = pays;
        }
    }

    fn least(&self, mint: &Address) -> u64 {
        self.engine.settings.distribute.least(mint)
    }

    fn pays_its_way(&self, one: &Candidate, lamports: u64) -> bool {
        let share = self.engine.settings.distribute.max_cost_bps;
        let economics = &self.engine.economics;
        let earned = economics.worth_of(&one.accounts.mint, one.decimals, one.due.earned);
        earned.is_none_or(|worth| {
            let may_cost = u128::from(worth) * u128::from(share) / 10_000;
            u128::from(lamports) <= may_cost
        })
    }

    /// Whether a vault is to be divided now. Notes since when there is something in it.
    async fn is_due(&mut self, on: &ServiceAccounts, due: &Due) -> Result<bool, Unavailable> {
        let settings = &self.engine.settings.distribute;
        let now = Instant::now();
        let Some(known) = self.known.get_mut(&on.service) else {
            return Ok(false);
        };
        let fresh = known.since.is_none();
        let since = *known.since.get_or_insert(now);
        let soon = known.hint.is_some_and(|hint| now >= hint.look);
        let old = now.saturating_duration_since(since) >= settings.age();
        let is_due = due.paid >= settings.threshold(&on.mint) || soon || old;
        if fresh {
            let ledger = &self.engine.ledger;
            ledger
                .note_pending(Kind::Distribute, on.service, true)
                .await?;
        }
        Ok(is_due)
    }

    /// What was announced and is no service of this facilitator is forgotten.
    fn stranger(&mut self, address: &Address) {
        let kept = self.known.get(address).is_some_and(|known| known.kept);
        let configured = &self.engine.settings.distribute.services;
        if kept || configured.contains(address) {
            self.rest(address);
        } else {
            self.known.remove(address);
        }
    }

    /// Has the ledger remember services of this facilitator.
    async fn keep(&mut self, services: &[(Address, Service)]) -> Result<(), Unavailable> {
        let is_new = |key: &Address| self.known.get(key).is_some_and(|known| !known.kept);
        let new: Vec<Address> = services
            .iter()
            .map(|(key, _)| *key)
            .filter(is_new)
            .collect();
        let ledger = &self.engine.ledger;
        ledger.remember(Kind::Distribute, new.clone()).await?;
        for service in new {
            self.known.entry(service).or_default().kept = true;
        }
        Ok(())
    }

    /// There is nothing to do for a service.
    async fn nothing(&mut self, service: &Address) -> Result<(), Unavailable> {
        let Some(known) = self.known.get_mut(service) else {
            return Ok(());
        };
        let had = known.since.take().is_some();
        // What was announced may not have arrived at this node yet.
        let pause = self.engine.settings.distribute.soon().max(TICK);
        known.hint = known
            .hint
            .filter(|hint| hint.at.elapsed() < HINT_PATIENCE)
            .map(|hint| Hint {
                look: Instant::now() + pause,
                ..hint
            });
        if had {
            let ledger = &self.engine.ledger;
            ledger
                .note_pending(Kind::Distribute, *service, false)
                .await?;
        }
        Ok(())
    }

    /// Leaves a service alone until the next look at all.
    fn rest(&mut self, service: &Address) {
        let until = self.next_scan;
        if let Some(known) = self.known.get_mut(service) {
            known.hint = None;
            known.rest_until = Some(known.rest_until.map_or(until, |old| old.max(until)));
        }
    }

    /// Everything that the program would look at, of one moment, and that moment's slot. `None` for a service whose
    /// accounts are other ones than these by now.
    async fn view(
        &mut self,
        asked: &[ServiceAccounts],
    ) -> Result<(Vec<Option<Vault>>, u64), Unavailable> {
        let facilitator = self.engine.settings.facilitator;
        let mut keys = vec![CLOCK, config_address(), facilitator];
        for on in asked {
            keys.extend(self.keys(on));
        }
        let accounts = self.engine.chain.accounts(&keys, Depth::Confirmed).await?;
        let mut accounts = accounts.iter().map(Option::as_ref);
        let mut next = || accounts.next().flatten();
        let seen_slot = slot(next())?;
        let config = lookup::<Config>(real(next()));
        let facilitator = lookup::<Facilitator>(real(next()));
        let (Some(config), Some(facilitator)) = (config.found(), facilitator.found()) else {
            return Err(Unavailable::NotReady(
                "the program's config or the facilitator cannot be read".to_owned(),
            ));
        };
        let wallet = Address::new_from_array(facilitator.wallet);
        let mut vaults = Vec::with_capacity(asked.len());
        for on in asked {
            let service = lookup::<Service>(real(next()));
            let accepted = lookup::<AcceptedMint>(real(next()));
            let mint =
                real(next()).and_then(|account| token::decode_mint(&account.owner, &account.data));
            let vault = decode(next());
            let (treasury, facilitator) = (decode(next()), decode(next()));
            let mut legs: Vec<Option<TokenAccount>> =
                on.recipients.iter().map(|_| decode(next())).collect();
            legs.extend([treasury, facilitator]);
            let same = |service: &Service, accepted: &AcceptedMint| {
                ServiceAccounts::new(on.service, service, accepted, &wallet) == *on
            };
            vaults.push(match (service.found(), accepted.found()) {
                (Some(service), Some(accepted)) if same(service, accepted) => Some(Vault {
                    address: on.service,
                    service: *service,
                    accepted: *accepted,
                    mint,
                    vault,
                    treasury: Address::new_from_array(config.treasury),
                    facilitator: wallet,
                    legs,
                }),
                _ => None,
            });
        }
        Ok((vaults, seen_slot))
    }

    fn keys(&mut self, on: &ServiceAccounts) -> Vec<Address> {
        let mut keys = vec![
            on.service,
            self.accepted(&on.mint),
            on.mint,
            on.vault,
            on.treasury_token,
            on.facilitator_token,
        ];
        keys.extend(&on.recipients);
        keys
    }

    fn accepted(&mut self, mint: &Address) -> Address {
        *self
            .mints
            .entry(*mint)
            .or_insert_with(|| address::accepted_mint(mint).0)
    }
}

fn recipients(group: &[Candidate]) -> Vec<usize> {
    let count = |one: &Candidate| one.accounts.recipients.len();
    group.iter().map(count).collect()
}

/// How many of these, from the first on, one call can ask about.
fn askable(on: &[ServiceAccounts]) -> usize {
    let mut left = MAX_ACCOUNTS - 3;
    let each = |on: &ServiceAccounts| 6 + on.recipients.len().min(MAX_RECIPIENTS);
    on.iter()
        .take_while(|on| {
            let fits = each(on) <= left;
            left = left.saturating_sub(each(on));
            fits
        })
        .count()
        .max(1)
}

fn real(account: Option<&RawAccount>) -> Option<&RawAccount> {
    account.filter(|account| exists(account))
}

fn decode(account: Option<&RawAccount>) -> Option<TokenAccount> {
    let account = real(account)?;
    token::decode_account(&account.owner, &account.data)
}
