//! Group commit: payments of one service that come while its previous transaction is being signed and sent share the
//! next one.
//!
//! One task a service. Idle, it adds no delay: a payment that comes alone is signed at once. Busy, it takes what has
//! gathered meanwhile, so the batch grows with the load, and the cost of a payment falls with it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sluice_intent::Digest;
use sluice_sdk::{
    Address,
    instructions::{self, ServiceAccounts, SettleItem},
    transaction::{self, BuildError, Version},
};
use solana_message::VersionedMessage;
use solana_signature::Signature;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

use crate::{
    budget,
    chain::Blockhash,
    desk::Answer,
    economics::Terms,
    engine::{Engine, Unavailable},
    follow::{Carried, Otherwise, Sent},
    lease::Term,
    ledger::{
        Candidate, Charge, Claim, Deal, IntentMeans, LedgerError, Means, NewPayment, NonceKey,
        Sealed, State, Transaction,
    },
    reason::{Reason, Rejection},
    signers::{SignError, Signer},
    verify::nonce_conflict,
};

/// A payment that waits for its transaction.
#[derive(Clone, Debug)]
pub struct Item {
    /// What the ledger will say of it; a payment that is signed again is in there already.
    pub candidate: Candidate,
    /// The accounts of its service.
    pub accounts: Arc<ServiceAccounts>,
    /// The entry with its accounts.
    pub settle: SettleItem,
    /// How often a transaction that carried it failed as a whole. Such a payment travels alone.
    pub failures: u32,
    /// On what terms it was taken on.
    pub terms: Terms,
}

impl Item {
    /// Whether it may share a transaction with another one.
    pub(crate) fn travels_with(&self, other: &Self) -> bool {
        self.failures == 0 && other.failures == 0 && self.accounts == other.accounts
    }

    /// The payment's digest.
    pub fn digest(&self) -> &Digest {
        self.candidate.digest()
    }
}

/// Payments that may wait for one service; beyond it the caller is told to come later.
const QUEUE: usize = 8_192;
/// A task with nothing to do for this long ends.
const IDLE: Duration = Duration::from_secs(60);
/// Transactions of one service that are being written down and sent at once. They share commits of the ledger.
const MOST_UNDER_WAY: usize = 16;
/// How often a batch is written down that other relayers are in the way of.
const SEAL_TRIES: u32 = 4;
/// The next batch is made without waiting for a send that takes longer.
const SEND_WAIT: Duration = Duration::from_millis(200);

/// The batches of every service.
#[derive(Default)]
pub struct Batches {
    queues: Mutex<HashMap<Address, mpsc::Sender<Item>>>,
    /// The most payments that fit, by format and by recipients: measured once.
    most: Mutex<HashMap<(bool, usize), usize>>,
}

impl Engine {
    /// Puts a payment in line for its service's next transaction.
    pub(crate) fn enqueue(self: &Arc<Self>, item: Item) -> Result<(), Unavailable> {
        let service = item.accounts.service;
        let mut queues = self
            .batches
            .queues
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let item = match queues.get(&service) {
            None => item,
            Some(queue) => match queue.try_send(item) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Full(_)) => return Err(Unavailable::Overloaded),
                Err(mpsc::error::TrySendError::Closed(item)) => item,
            },
        };
        let (queue, items) = mpsc::channel(QUEUE);
        if queue.try_send(item).is_err() {
            return Err(Unavailable::Overloaded);
        }
        queues.insert(service, queue);
        let engine = Arc::clone(self);
        self.tasks.spawn(engine.batch(items));
        Ok(())
    }

    async fn batch(self: Arc<Self>, mut items: mpsc::Receiver<Item>) {
        let mut waiting: Vec<Item> = Vec::new();
        let mut under_way = JoinSet::new();
        loop {
            while under_way.try_join_next().is_some() {}
            if waiting.is_empty() {
                let first = tokio::select! {
                    first = tokio::time::timeout(IDLE, items.recv()) => first,
                    () = self.draining.cancelled() => {
                        // What is in line is still settled: its callers were told nothing yet.
                        items.close();
                        Ok(items.recv().await)
                    }
                };
                match first {
                    Ok(Some(item)) => waiting.push(item),
                    Ok(None) => break,
                    Err(_) => {
                        // Closed first, so that whoever finds it closed makes another.
                        items.close();
                        match items.recv().await {
                            Some(item) => waiting.push(item),
                            None => break,
                        }
                    }
                }
            }
            let most = self.most(&waiting[0].accounts);
            self.gather(&mut items, &mut waiting, most, &mut under_way)
                .await;
            self.end_waits(&mut waiting, most);
            if waiting.is_empty() || !self.may_leave(&waiting, most) {
                continue;
            }
            let batch = self.cut(&mut waiting, most);
            let engine = Arc::clone(&self);
            under_way.spawn(async move { engine.settle_batch(batch).await });
        }
        // Waited for: a set that is dropped ends what it holds, between the ledger and the send.
        while under_way.join_next().await.is_some() {}
    }

    /// Waits until the next batch is due: at once while nothing is under way, and otherwise when it is full, or one of
    /// those under way is sent, or the first of it has waited long enough. If all of it waits for others to share the
    /// cost, then not before they pay together or a wait is over.
    async fn gather(
        &self,
        items: &mut mpsc::Receiver<Item>,
        waiting: &mut Vec<Item>,
        most: usize,
        under_way: &mut JoinSet<()>,
    ) {
        let until = Instant::now() + self.settings.batch.linger();
        let mut open = true;
        loop {
            while waiting.len() < most
                && let Ok(item) = items.try_recv()
            {
                waiting.push(item);
            }
            while under_way.try_join_next().is_some() {}
            let crowded = under_way.len() >= MOST_UNDER_WAY;
            let leaves = self.may_leave(waiting, most);
            let due = waiting.len() >= most || under_way.is_empty() || Instant::now() >= until;
            if leaves && due && !crowded {
                return;
            }
            let wake = match Self::first_end(waiting) {
                Some(end) if !leaves => end,
                _ => until,
            };
            tokio::select! {
                item = items.recv(), if open && waiting.len() < most => match item {
                    Some(item) => waiting.push(item),
                    None => open = false,
                },
                _ = under_way.join_next(), if !under_way.is_empty() => {
                    if leaves && !crowded {
                        return;
                    }
                }
                () = tokio::time::sleep_until(wake), if !crowded => {}
                // Nobody comes any more whom it would be worth to wait for.
                () = self.draining.cancelled(), if !leaves => {}
            }
        }
    }

    /// Takes the next batch off what waits: payments that share their service's accounts, at most as many as fit. One
    /// whose transaction failed before travels alone. It begins with the first that waits for nobody.
    fn cut(&self, waiting: &mut Vec<Item>, most: usize) -> Vec<Item> {
        let ready = waiting.iter().position(|item| item.terms.wait.is_none());
        let mut batch = vec![waiting.remove(ready.unwrap_or(0))];
        let mut i = 0;
        while i < waiting.len() && batch.len() < most {
            if waiting[i].travels_with(&batch[0]) {
                batch.push(waiting.remove(i));
            } else {
                i += 1;
            }
        }
        batch
    }

    /// The most payments that one transaction takes, by bytes, by compute and by cost.
    pub(crate) fn most(&self, accounts: &ServiceAccounts) -> usize {
        let large = self.takes_v1();
        let recipients = accounts.recipients.len();
        let key = (large, recipients);
        let known = |map: &HashMap<(bool, usize), usize>| map.get(&key).copied();
        let lock = || {
            self.batches
                .most
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if let Some(most) = known(&lock()) {
            return most;
        }
        let version = if large { Version::V1 } else { Version::V0 };
        let bound = budget::most_payments(recipients).min(self.settings.batch.max_payments);
        // At the dearest that the price may become: a batch that costs more than is allowed would not be made at all.
        let fees = self.settings.fees.dearest();
        let affordable = |count: usize| {
            let budget = budget::of_settlement(count, recipients, &fees);
            budget::cost(&budget) <= fees.max_lamports_per_transaction
        };
        let mut most = 1;
        while most < bound && affordable(most + 1) && fits(version, accounts, most + 1) {
            most += 1;
        }
        tracing::info!(
            recipients,
            most,
            ?version,
            "payments that fit in a transaction"
        );
        lock().insert(key, most);
        most
    }

    /// Seals a batch, sends it, and hands it to the follower.
    async fn settle_batch(self: &Arc<Self>, mut items: Vec<Item>) {
        // Whoever waited too long has withdrawn.
        items.retain(|item| self.desk.begin(item.digest()));
        if items.is_empty() {
            return;
        }
        let term = self.lease.term();
        let mut tries = 1;
        let mut signed = None;
        let (transaction, carried) = loop {
            // Before the commit, and not in it: a key may be at the other end of a network.
            let transaction = match signed.take() {
                Some(transaction) => transaction,
                None => match self.sign(&items).await {
                    Ok(transaction) => transaction,
                    Err(error) => return self.give_back(&items, &error),
                },
            };
            let charges = self.charges(&items);
            let candidates = items.iter().map(|item| item.candidate.clone());
            let candidates = candidates.zip(&charges);
            let candidates = candidates.map(|(candidate, charge)| candidate.charged(*charge));
            let candidates = candidates.collect();
            let (count, for_all) = (items.len(), transaction.clone());
            let sealed = self
                .ledger
                .seal(candidates, move |places| {
                    if places.len() == count {
                        Ok(for_all)
                    } else {
                        Err(Fewer)
                    }
                })
                .await;
            match sealed {
                Ok(Sealed {
                    claims,
                    transaction: sealed,
                }) => {
                    items = self.keep_claimed(items, claims, &charges);
                    match sealed {
                        Ok(Some(transaction)) => {
                            for (item, charge) in items.iter().zip(&charges) {
                                if let Some(hold) = &item.terms.hold {
                                    hold.spend(charge.map_or(0, |charge| charge.lamports));
                                }
                            }
                            break (transaction, items);
                        }
                        Ok(None) => return,
                        // What was signed is for more than are left: it is dropped here, unwritten and unsent, and
                        // those that are left are signed for anew.
                        Err(Fewer) => {}
                    }
                }
                // Another relayer takes on some of the same: what it leaves is this one's.
                Err(LedgerError::Contended(problem)) if tries < SEAL_TRIES => {
                    tracing::debug!(%problem, tries, "another relayer was faster");
                    tries += 1;
                    signed = Some(transaction);
                }
                Err(error @ LedgerError::Commit(_)) => {
                    for item in &items {
                        match &item.candidate {
                            Candidate::New(payment) => self.unsealed(payment.digest, &error),
                            Candidate::Known(digest) => {
                                self.desk.advance(digest, State::Signed, None);
                            }
                        }
                    }
                    return;
                }
                Err(error) => return self.give_back(&items, &Unavailable::Ledger(error)),
            }
        };
        let carried = carried.into_iter().map(|item| Carried {
            digest: *item.digest(),
            otherwise: Otherwise::Again(Box::new(item)),
        });
        self.launch(transaction, carried.collect(), term).await;
    }

    /// Sends what is on disk for the first time, and has it followed. `term` is of before it was written.
    pub(crate) async fn launch(
        self: &Arc<Self>,
        transaction: Transaction,
        carried: Vec<Carried>,
        term: Term,
    ) {
        let signature = transaction.signature;
        for payment in &carried {
            self.desk
                .advance(&payment.digest, State::Signed, Some(signature));
        }
        let wire = Arc::new(transaction.wire);
        self.follower.follow(Sent {
            signature,
            wire: Arc::clone(&wire),
            last_valid_block_height: transaction.last_valid_block_height,
            signed_slot: transaction.signed_slot,
            fee_lamports: transaction.fee_lamports,
            payments: carried,
        });
        let engine = Arc::clone(self);
        let send = self
            .tasks
            .spawn(async move { engine.send(signature, &wire, term).await });
        // While it is under way the next batch gathers.
        let _ = tokio::time::timeout(SEND_WAIT, send).await;
    }

    /// Keeps the payments that a transaction may carry, and tells of the others.
    fn keep_claimed(
        &self,
        items: Vec<Item>,
        claims: Vec<Claim>,
        charges: &[Option<Charge>],
    ) -> Vec<Item> {
        let mut kept = Vec::with_capacity(items.len());
        for ((item, claim), charge) in items.into_iter().zip(claims).zip(charges) {
            match claim {
                Claim::Sealed => kept.push(item),
                Claim::Bound => self.desk.release(item.digest(), Answer::Bound),
                Claim::SubsidySpent => self.subsidy_spent(item.digest(), charge.as_ref()),
                Claim::NonceConflict => self.desk.release(
                    item.digest(),
                    Answer::Refused {
                        rejection: nonce_conflict(),
                        transaction: None,
                    },
                ),
                // Another relayer has it: what it says of it is asked of the ledger.
                Claim::Known(row) => self.elsewhere(item.digest(), &row),
            }
        }
        kept
    }

    /// Signs a transaction for payments. A key that fails rests, and the next one is asked.
    async fn sign(&self, items: &[Item]) -> Result<Transaction, Unavailable> {
        let recipe = self.recipe(items).await?;
        let lamports = budget::cost(&recipe.budget());
        let mut failures = 0;
        loop {
            let signer = self.signers.pick(&recipe.registered, lamports)?;
            let key = signer.address();
            let blockhash = self.blockhashes.get().await?;
            let message = recipe.message(&key, &blockhash)?;
            match self.sign_with(signer.as_ref(), &message.serialize()).await {
                Ok(signature) => return recipe.finish(key, &blockhash, message, signature),
                // It rests now, and the next turn is another's; unless it was tried meanwhile, and found well.
                Err(error) if failures < self.signers.count() => {
                    tracing::debug!(fee_payer = %key, %error, "a key did not sign; another is asked");
                    failures += 1;
                }
                Err(error) => return Err(Unavailable::Signer(error)),
            }
        }
    }

    /// Has a key sign, and notes how it did.
    pub(crate) async fn sign_with(
        &self,
        signer: &dyn Signer,
        message: &[u8],
    ) -> Result<Signature, SignError> {
        let signed = signer.sign(message).await;
        self.signers
            .signed(&signer.address(), signed.as_ref().err());
        signed
    }

    async fn send(&self, signature: Signature, wire: &[u8], term: Term) {
        // It may have slept since it wrote it down, and another may have taken it over.
        if !self.lease.is_held(term) {
            tracing::warn!(transaction = %signature, "not sent: the lease has run out");
            return;
        }
        match self.chain.send(wire).await {
            Ok(()) => {
                tracing::debug!(transaction = %signature, "transaction sent");
                self.ledger.mark_sent(signature);
            }
            // Says nothing: the follower sends again.
            Err(error) => {
                tracing::warn!(transaction = %signature, %error, "no word about the send; it will be repeated");
            }
        }
    }

    /// What a transaction for payments is made of, but for who pays for it.
    async fn recipe(&self, items: &[Item]) -> Result<Recipe, Unavailable> {
        let accounts = Arc::clone(&items[0].accounts);
        let facilitator = self.facilitator().await?;
        let fees = self.fees_now(accounts.service, accounts.vault).await;
        let recipe = Recipe {
            version: if items.len() > 1 && self.takes_v1() {
                Version::V1
            } else {
                Version::V0
            },
            items: items.iter().map(|item| item.settle).collect(),
            registered: facilitator.relayer_keys().to_vec(),
            accounts,
            fees,
        };
        let lamports = budget::cost(&recipe.budget());
        let most = fees.max_lamports_per_transaction;
        if lamports > most {
            return Err(Unavailable::NotReady(format!(
                "a settlement would cost {lamports} lamports, over the cap of {most}: raise \
                 fees.max_lamports_per_transaction or lower the priority fee"
            )));
        }
        Ok(recipe)
    }

    /// Nothing was written and nothing was sent.
    fn give_back(&self, items: &[Item], error: &Unavailable) {
        tracing::warn!(%error, payments = items.len(), "a batch could not be made");
        for item in items {
            match &item.candidate {
                Candidate::New(payment) => {
                    self.desk
                        .release(&payment.digest, Answer::Unavailable(error.clone()));
                }
                // In the ledger: the follower tries again until it expires.
                Candidate::Known(digest) => self.desk.advance(digest, State::Signed, None),
            }
        }
    }

    /// The commit with a payment's transaction did not come back, and nothing was sent. It may be in the ledger all the
    /// same, and be sent by the chores: nobody is told that nothing happened until the ledger has said so.
    pub(crate) fn unsealed(&self, digest: Digest, error: &LedgerError) {
        tracing::error!(%error, digest = %hex::encode(digest), "a commit did not come back; nothing was sent");
        self.follower.watch(digest);
    }
}

/// Some of the payments that a transaction was signed for are somebody else's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fewer;

/// What a transaction is made of.
struct Recipe {
    version: Version,
    accounts: Arc<ServiceAccounts>,
    items: Vec<SettleItem>,
    /// The keys that may sign for the facilitator.
    registered: Vec<[u8; 32]>,
    fees: crate::config::Fees,
}

impl Recipe {
    fn budget(&self) -> transaction::Budget {
        budget::of_settlement(self.items.len(), self.accounts.recipients.len(), &self.fees)
    }

    /// The settlement that `key` is to sign.
    fn message(
        &self,
        key: &Address,
        blockhash: &Blockhash,
    ) -> Result<VersionedMessage, Unavailable> {
        // Alone, a payment that cannot settle fails its transaction, so that its reason is in the status. In a batch
        // it is skipped, and the others settle.
        let strict = self.items.len() == 1;
        let settle = instructions::settle(key, &self.accounts, &self.items, strict);
        transaction::compile(self.version, key, &[settle], &self.budget(), blockhash.hash)
            .map_err(broken)
    }

    /// The transaction with its signature.
    fn finish(
        &self,
        key: Address,
        blockhash: &Blockhash,
        message: VersionedMessage,
        signature: Signature,
    ) -> Result<Transaction, Unavailable> {
        let built = transaction::signed(self.version, message, vec![signature]).map_err(broken)?;
        Ok(Transaction {
            signature,
            wire: transaction::wire(&built).map_err(broken)?,
            last_valid_block_height: blockhash.last_valid_block_height,
            signed_slot: blockhash.slot,
            fee_payer: key,
            fee_lamports: budget::cost(&self.budget()),
            service: self.accounts.service,
        })
    }
}

fn broken(error: BuildError) -> Unavailable {
    Unavailable::NotReady(error.to_string())
}

/// Whether `count` payments of different payers fit in a transaction.
fn fits(version: Version, accounts: &ServiceAccounts, count: usize) -> bool {
    let other = |i: usize, tag: u8| {
        let mut key = [tag; 32];
        key[..8].copy_from_slice(&(i as u64).to_le_bytes());
        Address::new_from_array(key)
    };
    let entry = sluice_intent::Entry::decode(&[0; sluice_intent::ENTRY_LEN]);
    let items: Vec<SettleItem> = (0..count)
        .map(|i| SettleItem {
            entry,
            source: other(i, 0xA5),
            nonce_account: other(i, 0x5A),
        })
        .collect();
    let key = solana_keypair::Keypair::new_from_array([1; 32]);
    let payer = Address::new_from_array(*solana_signer::Signer::pubkey(&key).as_array());
    let settle = instructions::settle(&payer, accounts, &items, false);
    let budget = sluice_sdk::transaction::Budget {
        compute_units: 1,
        unit_price: 1,
        loaded_bytes: 1,
    };
    transaction::build(
        version,
        &payer,
        &[settle],
        &budget,
        solana_hash::Hash::default(),
        &[&key],
    )
    .is_ok()
}

/// A payment as the ledger will keep it.
pub(crate) fn new_payment(
    admission: &crate::verify::Admission,
    version: sluice_sdk::x402::Version,
    deal: Deal,
    api_key: Option<Arc<str>>,
) -> NewPayment {
    let intent = &admission.signed.intent;
    let legs = admission.accounts.recipients.len();
    NewPayment {
        digest: admission.digest,
        version,
        payer: admission.payer,
        service: intent.service,
        mint: admission.mint,
        amount: intent.amount,
        source: admission.item.source,
        expires_at: i64::from(intent.expires_at),
        means: Means::Intent(Box::new(IntentMeans {
            nonce: NonceKey {
                account: intent.nonce_account,
                opened_slot: intent.opened_slot,
                lane: intent.lane,
                nonce: intent.nonce,
            },
            entry: admission.item.entry,
            split: sluice_sdk::x402::SplitShares::of_shares(&admission.shares, legs),
        })),
        deal,
        api_key,
    }
}

/// The reason for a payment whose transaction failed for no reason of its own.
pub(crate) fn unexpected(problem: impl std::fmt::Display) -> Rejection {
    Rejection::new(Reason::UnexpectedSettle, problem.to_string())
}
