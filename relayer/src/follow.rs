//! Following what was sent to its end: one task for all open transactions.
//!
//! A transaction is dead only when its blockhash is, at finalized height, and a node that has searched its
//! history afterwards does not know the signature. Until then it is sent again; after it its payments are
//! signed into a new transaction, which their nonces make safe, until each intent itself expires.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::future::join_all;
use sluice_intent::{Digest, Skip};
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, NonceAccount, Service},
    address,
    instructions::{ServiceAccounts, SettleItem},
};
use solana_signature::Signature;
use tokio::{
    sync::{Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::{
    batch::{Item, unexpected},
    chain::{
        CLOCK, Depth, Failure, MAX_STATUSES, RawAccount, TransactionError, clock_slot,
        notices::{Notice, Notices},
    },
    desk::Answer,
    economics::Terms,
    engine::{Engine, Unavailable},
    lease::Term,
    ledger::{
        Attempt, Backend, Candidate, LedgerError, Means, NonceKey, PaymentRow, State,
        record::Landing,
    },
    proof::{Judgement, NonceWitness},
    reason::{ExactReason, Reason, Rejection},
    snapshot::{exists, lookup, time},
};

/// Sends at once.
const MAX_SENDS: usize = 32;
/// Landed transactions that are asked about at once, whether they are final.
const MAX_UNFINAL: u32 = 256;
/// Payments that the ledger is asked about at once.
const MAX_WATCHED: usize = 512;
/// How long a transaction is not asked about while notices come.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// A transaction that was not sent again so often yet (every two seconds) cannot be dead.
const YOUNG: u32 = 7;
/// While payments are at work, finality is asked about when it is overdue for this long.
const NO_HURRY: Duration = Duration::from_secs(60);
/// Expired payments whose nonce accounts are asked for at once, with the clock.
const MAX_WITNESSES: usize = 99;
/// The longest pause between two questions for the results of a transaction that landed.
const LONGEST_MUTE: Duration = Duration::from_secs(30);
/// After so many rebroadcasts' time without results, the chain's own state is asked what a landed transaction did not do.
const MUTE: u32 = 10;
/// For so many rebroadcasts' time nobody believes that a nonce was used by somebody else, while an earlier transaction of
/// the payment was only not found.
const DOUBT: u32 = 5;
/// A payment whose transactions failed so often before, for no reason of its own, is given up: every failure costs a fee.
const MAX_FAILURES: u32 = 3;

/// A transaction that was written down and may be sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its signature.
    pub signature: Signature,
    /// Its bytes.
    pub wire: Arc<Vec<u8>>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// The slot of the block whose hash it was signed with.
    pub signed_slot: u64,
    /// What it costs, in lamports.
    pub fee_lamports: u64,
    /// Its payments, in the order of its entries.
    pub payments: Vec<Carried>,
}

/// A payment of a transaction that is followed.
#[derive(Clone, Debug)]
pub struct Carried {
    /// The payment.
    pub digest: Digest,
    /// What can be done if this transaction does not decide it.
    pub otherwise: Otherwise,
}

/// What can be done with a payment whose transaction did not decide it.
#[derive(Clone, Debug)]
pub enum Otherwise {
    /// It can be put in line again.
    Again(Box<Item>),
    /// It can be signed again, once the chain has been asked for what it needs: this is after a restart.
    Remake,
    /// Nothing: its payer signed this transaction and no other.
    Nothing,
}

impl Carried {
    fn item(&self) -> Option<&Item> {
        match &self.otherwise {
            Otherwise::Again(item) => Some(item),
            Otherwise::Remake | Otherwise::Nothing => None,
        }
    }
}

struct Open {
    wire: Arc<Vec<u8>>,
    last_valid_block_height: u64,
    /// Not known of one that an earlier version signed.
    signed_slot: Option<u64>,
    fee_lamports: u64,
    payments: Vec<Carried>,
    /// When it was taken up here.
    since: Instant,
    last_sent: Option<Instant>,
    /// What it did was written down in a commit that did not come back: it is to be written, or read, once more.
    unheard: bool,
    /// It is in a block, and no node has said yet what it did.
    mute: Option<Mute>,
}

/// A transaction that landed and whose results nobody tells.
struct Mute {
    since: Instant,
    /// When a node is asked again, and the pause after it.
    again: Instant,
    pause: Duration,
    /// Whether the operator was told.
    told: bool,
}

/// A transaction in a block that the cluster has voted for.
struct Landed {
    signature: Signature,
    slot: u64,
    error: Option<TransactionError>,
    /// The result of each entry, where whoever told of it knew.
    codes: Option<Vec<u8>>,
}

/// What became of a payment whose transaction landed.
#[derive(Clone)]
enum Outcome {
    /// This transaction decided.
    Here(Landing),
    /// An earlier one that was thought dead has paid it, which is written down and told already.
    Earlier,
}

/// What a landed transaction did, on disk.
struct Record {
    outcomes: Vec<(Digest, Outcome)>,
    /// The payments whose state changed by it.
    changed: Vec<Digest>,
}

/// Where sent transactions are handed over.
#[derive(Debug)]
pub struct Handover {
    queue: mpsc::UnboundedSender<Sent>,
    taken: Mutex<Option<mpsc::UnboundedReceiver<Sent>>>,
    /// Payments whose fate only the ledger knows: another relayer's, and those of a commit that did not come back.
    watched: Mutex<HashSet<Digest>>,
}

impl Default for Handover {
    fn default() -> Self {
        let (queue, taken) = mpsc::unbounded_channel();
        Self {
            queue,
            taken: Mutex::new(Some(taken)),
            watched: Mutex::default(),
        }
    }
}

impl Handover {
    /// Has a transaction followed.
    pub fn follow(&self, sent: Sent) {
        // The other end lives as long as the engine does. Were it gone, the next start would take it up.
        let _ = self.queue.send(sent);
    }

    /// Has the desk told what the ledger says of a payment.
    pub fn watch(&self, digest: Digest) {
        self.watched().insert(digest);
    }

    fn watched(&self) -> std::sync::MutexGuard<'_, HashSet<Digest>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Option<mpsc::UnboundedReceiver<Sent>> {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// Says that this relayer lives, and takes over what those that do not have left.
pub(crate) async fn heartbeat(engine: &Engine) -> Result<(), LedgerError> {
    let millis = i64::try_from(engine.lease.length().as_millis()).unwrap_or(i64::MAX);
    let begun = std::time::Instant::now();
    let taken = engine.ledger.heartbeat(millis).await?;
    engine.lease.renew(begun);
    if taken > 0 {
        tracing::warn!(
            transactions = taken,
            "took over the transactions of a relayer that is gone"
        );
    }
    Ok(())
}

/// Beats until `stop`. On its own, so that a chain that does not answer cannot make this relayer look dead.
pub(crate) async fn beat(engine: Arc<Engine>, stop: CancellationToken) {
    let mut beats = interval(engine.lease.beat());
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = beats.tick() => {}
        }
        if let Err(error) = heartbeat(&engine).await {
            tracing::warn!(%error, "the ledger did not hear that this relayer lives");
        }
    }
}

/// Looks after what nobody waits for, until `stop`: the fee payers' balances, finality, the desk. On its own, so that a
/// slow node does not keep the follower from hearing what landed.
pub(crate) async fn housekeep(engine: Arc<Engine>, stop: CancellationToken) {
    let mut rounds = interval(engine.settings.chain.rebroadcast());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut finalized = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = rounds.tick() => {}
        }
        engine.signers.look(&engine.accounts).await;
        if let Ok(now) = engine.chain_time().await {
            engine.desk.sweep(now);
            if let Err(error) = engine.keep_books(now).await {
                tracing::warn!(%error, "the books could not be kept; they will be");
            }
        }
        engine.guard.sweep();
        // What failed here was counted as it did.
        if engine.ledger.backend() == Backend::Postgres
            && let Err(error) = engine.guard.recall(&engine.ledger).await
        {
            tracing::warn!(%error, "what failed with other relayers is not known now");
        }
        // Nobody waits for it, and the node has better to do while somebody waits for something else.
        if engine.desk.live() == 0 || finalized.elapsed() > NO_HURRY {
            later("called final", engine.finalize().await);
            finalized = Instant::now();
        }
    }
}

/// Follows open transactions until `stop`.
pub(crate) async fn follow(engine: Arc<Engine>, notices: Notices, stop: CancellationToken) {
    // Whatever it waits for: everything that it writes is one change of the ledger, so it can end anywhere.
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_on(engine, notices) => {}
    }
}

async fn follow_on(engine: Arc<Engine>, mut notices: Notices) {
    let Some(mut sent) = engine.follower.take() else {
        return;
    };
    let settings = engine.settings.chain;
    let mut looks = interval(settings.poll());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut chores = interval(settings.rebroadcast());
    chores.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower {
        open: HashMap::new(),
        ended: Default::default(),
        doubts: Mutex::default(),
        sends: Arc::new(Semaphore::new(MAX_SENDS)),
        known_in: None,
        rest: None,
        pause: settings.poll(),
        engine,
    };
    let mut batch = Vec::new();
    let mut told = Vec::new();
    loop {
        tokio::select! {
            count = sent.recv_many(&mut batch, 1_024) => {
                if count == 0 {
                    return;
                }
                for sent in batch.drain(..) {
                    follower.add(sent);
                }
            }
            count = notices.queue.recv_many(&mut told, 1_024) => {
                if count == 0 {
                    return;
                }
                follower.hear(told.drain(..)).await;
            }
            _ = looks.tick(), if follower.has_work() && follower.is_rested() => {
                // What comes by itself is not asked for, unless it does not come.
                let patience = if notices.connected() {
                    PATIENCE
                } else {
                    Duration::ZERO
                };
                follower.look(patience).await;
            }
            _ = chores.tick() => follower.chores().await,
        }
    }
}

struct Follower {
    engine: Arc<Engine>,
    open: HashMap<Signature, Open>,
    /// Those that ended since the chores before the last ones. One that was taken up from the ledger may end before it
    /// is handed over by whoever signed it, and is not followed again then.
    ended: [HashSet<Signature>; 2],
    /// Payments whose nonce was used, nobody has said by which transaction, and since when that is so.
    doubts: Mutex<HashMap<Digest, Instant>>,
    /// Places for repeated sends.
    sends: Arc<Semaphore>,
    /// The term in which the ledger last said which transactions are this relayer's.
    known_in: Option<Term>,
    /// Nothing is asked before this, because the last question failed.
    rest: Option<Instant>,
    /// The rest after the next failure: longer with each, so that what is down for long is not asked in vain, and told
    /// of, every few milliseconds.
    pause: Duration,
}

impl Mute {
    fn is_due(&self) -> bool {
        Instant::now() >= self.again
    }

    /// Once more without results.
    fn still(mute: &mut Option<Self>) {
        let now = Instant::now();
        let mute = mute.get_or_insert(Self {
            since: now,
            again: now,
            pause: Duration::from_millis(10),
            told: false,
        });
        mute.again = now + mute.pause;
        mute.pause = (mute.pause * 2).min(LONGEST_MUTE);
    }
}

impl Follower {
    fn add(&mut self, sent: Sent) {
        if self
            .ended
            .iter()
            .any(|ended| ended.contains(&sent.signature))
        {
            return;
        }
        let open = Open {
            wire: sent.wire,
            last_valid_block_height: sent.last_valid_block_height,
            signed_slot: Some(sent.signed_slot),
            fee_lamports: sent.fee_lamports,
            payments: sent.payments,
            since: Instant::now(),
            last_sent: Some(Instant::now()),
            unheard: false,
            mute: None,
        };
        self.open.insert(sent.signature, open);
    }

    fn is_rested(&self) -> bool {
        self.rest.is_none_or(|until| Instant::now() >= until)
    }

    fn failed(&mut self) {
        self.rest = Some(Instant::now() + self.pause);
        let longest = self.engine.settings.chain.rebroadcast();
        self.pause = (self.pause * 2).min(longest);
    }

    fn succeeded(&mut self) {
        self.rest = None;
        self.pause = self.engine.settings.chain.poll();
    }

    fn has_work(&self) -> bool {
        !self.open.is_empty() || !self.engine.follower.watched().is_empty()
    }

    /// Takes what the cluster says by itself. A hint only: what cannot be written down now is asked about later.
    async fn hear(&mut self, notices: impl Iterator<Item = Notice>) {
        let (sure, unsure): (Vec<Notice>, Vec<Notice>) = notices
            .filter(|notice| self.open.contains_key(&notice.signature))
            .partition(|notice| notice.sure);
        let landed = sure
            .into_iter()
            .map(|notice| Landed {
                signature: notice.signature,
                slot: notice.slot,
                error: notice.error,
                codes: notice.codes,
            })
            .collect();
        self.record_all(landed).await;
        // Something became of these; a node says what.
        let signatures: Vec<Signature> = unsure.iter().map(|notice| notice.signature).collect();
        for chunk in signatures.chunks(MAX_STATUSES) {
            if let Err(error) = self.ask(chunk, false).await {
                tracing::debug!(%error, "what a notice left open is asked about later");
            }
        }
    }

    /// Asks what became of everything that is open and was taken up longer ago than `patience`.
    async fn look(&mut self, patience: Duration) {
        self.rest = None;
        if let Err(error) = self.watch().await {
            tracing::warn!(%error, "the ledger could not be asked about payments that others settle");
            self.failed();
        }
        let signatures: Vec<Signature> = self
            .open
            .iter()
            .filter(|(_, open)| open.since.elapsed() >= patience)
            .filter(|(_, open)| open.mute.as_ref().is_none_or(Mute::is_due))
            .map(|(signature, _)| *signature)
            .collect();
        for chunk in signatures.chunks(MAX_STATUSES) {
            // Unknown stays unknown: the next look asks again.
            if let Err(error) = self.ask(chunk, false).await {
                tracing::warn!(%error, open = self.open.len(), "open transactions could not be followed");
                self.failed();
                return;
            }
        }
        if self.rest.is_none() {
            self.succeeded();
        }
    }

    /// Asks for statuses and records what landed. Gives those that the node does not know.
    async fn ask(
        &mut self,
        signatures: &[Signature],
        history: bool,
    ) -> Result<Vec<Signature>, Unavailable> {
        if signatures.is_empty() {
            return Ok(Vec::new());
        }
        let statuses = self.engine.chain.statuses(signatures, history).await?;
        let mut unseen = Vec::new();
        let mut landed = Vec::new();
        for (signature, status) in signatures.iter().zip(statuses) {
            match status {
                None => unseen.push(*signature),
                Some(status) if status.confirmed => landed.push(Landed {
                    signature: *signature,
                    slot: status.slot,
                    error: status.error,
                    codes: None,
                }),
                // In a block that the cluster may still drop.
                Some(_) => {}
            }
        }
        self.record_all(landed).await;
        Ok(unseen)
    }

    /// Writes down what landed, all at once so that it shares a commit, and tells of it. What cannot be written down
    /// stays open, and is asked about again.
    async fn record_all(&mut self, landed: Vec<Landed>) {
        let records = join_all(landed.iter().map(|landed| self.record(landed))).await;
        let mut failed = false;
        for (landed, record) in landed.iter().zip(records) {
            match record {
                Ok(Some(record)) => {
                    self.ended[0].insert(landed.signature);
                    if let Some(open) = self.open.remove(&landed.signature) {
                        self.tell(&landed.signature, landed.slot, open, record);
                    }
                }
                Ok(None) => {
                    if let Some(open) = self.open.get_mut(&landed.signature) {
                        Mute::still(&mut open.mute);
                    }
                }
                // What the others did is written down by now, and has to be told all the same.
                Err(error) => {
                    tracing::warn!(transaction = %landed.signature, %error, "what a landed transaction did is not known yet");
                    failed = true;
                    let unheard = matches!(error, Unavailable::Ledger(LedgerError::Commit(_)));
                    if let Some(open) = self.open.get_mut(&landed.signature) {
                        open.unheard |= unheard;
                    }
                }
            }
        }
        if failed {
            self.failed();
        }
    }

    /// Records where a transaction landed and what it did. `None` while that is not known.
    async fn record(&self, landed: &Landed) -> Result<Option<Record>, Unavailable> {
        let signature = &landed.signature;
        let Some(open) = self.open.get(signature) else {
            return Ok(None);
        };
        let count = open.payments.len();
        let mut outcomes = Vec::with_capacity(count);
        let of_all = landed.error.as_ref().and_then(refusal_of_all);
        match (&landed.error, count) {
            (None, 1) => {
                for carried in &open.payments {
                    let landing = self.paid(&carried.digest);
                    outcomes.push((carried.digest, Outcome::Here(landing)));
                }
            }
            (None, _) => {
                let codes = match &landed.codes {
                    Some(codes) => Some(codes.clone()),
                    None => self.engine.chain.results(signature).await?,
                };
                // Not there yet, or not of this transaction: asked again at the next look.
                let Some(codes) = codes.filter(|codes| codes.len() == count) else {
                    return Ok(None);
                };
                for (carried, code) in open.payments.iter().zip(codes) {
                    let outcome = if code == 0 {
                        Outcome::Here(self.paid(&carried.digest))
                    } else {
                        let rejection = match Skip::from_code(code) {
                            Some(skip) => Rejection::skip(skip),
                            None => unexpected(format_args!(
                                "the program gave the code {code}, which this version does not know: upgrade it"
                            )),
                        };
                        match self.refused(&carried.digest, signature, rejection).await? {
                            Some(outcome) => outcome,
                            None => return Ok(None),
                        }
                    };
                    outcomes.push((carried.digest, outcome));
                }
            }
            (Some(error), 1) => {
                for carried in &open.payments {
                    let failures = self.engine.ledger.failures(&carried.digest).await?;
                    let outcome = match Rejection::of_failure(error) {
                        _ if matches!(carried.otherwise, Otherwise::Nothing) => {
                            Outcome::Here(Landing::Refused(failed_transfer(error)))
                        }
                        Some(rejection) => {
                            match self.refused(&carried.digest, signature, rejection).await? {
                                Some(outcome) => outcome,
                                None => return Ok(None),
                            }
                        }
                        // The payer has nothing to do with it: another fee payer or another blockhash may do.
                        None if failures < MAX_FAILURES => Outcome::Here(Landing::Untouched),
                        None => Outcome::Here(Landing::Refused(unexpected(format_args!(
                            "the transaction failed: {error}"
                        )))),
                    };
                    outcomes.push((carried.digest, outcome));
                }
            }
            // A whole batch fails for a reason that is none of its payments', or of one, and each is tried alone; or for
            // one that is all of theirs.
            (Some(error), _) => {
                tracing::warn!(transaction = %signature, %error, payments = count, "a batch failed as a whole");
                let landing = of_all.map_or(Landing::Untouched, Landing::Refused);
                let outcome = |c: &Carried| (c.digest, Outcome::Here(landing.clone()));
                outcomes.extend(open.payments.iter().map(outcome));
            }
        }
        let landings = outcomes
            .iter()
            .cloned()
            .map(|(digest, outcome)| match outcome {
                Outcome::Here(landing) => (digest, landing),
                Outcome::Earlier => (digest, Landing::Untouched),
            });
        let landings = landings.collect();
        let failed = landed.error.is_some();
        let changed = self
            .engine
            .ledger
            .land(*signature, landed.slot, failed, landings)
            .await?;
        tracing::debug!(transaction = %signature, slot = landed.slot, payments = count, "transaction landed");
        // Transfers cost what they cost, whoever is paid.
        let item = open.payments.first().and_then(Carried::item);
        if let Some(item) = item.filter(|_| !failed) {
            let paid = |outcome: &Outcome| matches!(outcome, Outcome::Here(Landing::Paid { .. }));
            let paid = outcomes.iter().filter(|(_, outcome)| paid(outcome)).count();
            self.engine
                .note_cost(item.accounts.service, open.fee_lamports, paid);
        }
        Ok(Some(Record { outcomes, changed }))
    }

    /// Tells those who wait, and puts what a transaction left untouched in line again.
    fn tell(&self, signature: &Signature, slot: u64, open: Open, record: Record) {
        let Record { outcomes, changed } = record;
        let engine = &self.engine;
        let payments = u32::try_from(open.payments.len()).unwrap_or(u32::MAX);
        let rows = open.payments.into_iter().zip(outcomes);
        for (position, (carried, (digest, outcome))) in rows.enumerate() {
            let Outcome::Here(landing) = outcome else {
                continue;
            };
            match landing {
                Landing::Paid { answered } => {
                    let attempt = Attempt {
                        signature: *signature,
                        position: u32::try_from(position).unwrap_or(u32::MAX),
                        payments,
                        fee_lamports: open.fee_lamports,
                        slot: Some(slot),
                    };
                    if let Otherwise::Again(item) = &carried.otherwise {
                        let settle = &item.settle;
                        engine
                            .accounts
                            .forget(&[settle.source, settle.nonce_account]);
                    }
                    if let Some((payment, _)) = engine.desk.payment(&digest)
                        && payment.means == (Means::Transfer { to_vault: true })
                    {
                        engine.vault_paid(payment.service);
                    }
                    let ours = answered && changed.contains(&digest);
                    engine.desk.paid(&digest, &attempt, ours);
                }
                Landing::Refused(rejection) => {
                    if changed.contains(&digest) {
                        tracing::info!(digest = %hex::encode(digest), transaction = %signature, %rejection, "payment refused on chain");
                        engine.blame(&digest, &rejection);
                        engine
                            .desk
                            .ended(&digest, State::Failed, &rejection, Some(*signature));
                    }
                }
                Landing::Untouched => {
                    // The chores find what is signed and has no transaction, and leave alone what is in line.
                    let mut state = State::Signed;
                    // Alone it would be the same transaction once more, until there is another blockhash.
                    if let Otherwise::Again(mut item) = carried.otherwise
                        && payments > 1
                    {
                        item.failures += 1;
                        item.terms = Terms::default();
                        item.candidate = Candidate::Known(digest);
                        engine.desk.advance(&digest, State::Batched, None);
                        if engine.enqueue(*item).is_ok() {
                            state = State::Batched;
                        }
                    }
                    if state == State::Signed {
                        engine.desk.advance(&digest, state, None);
                    }
                }
            }
        }
    }

    fn paid(&self, digest: &Digest) -> Landing {
        Landing::Paid {
            answered: self.engine.desk.is_awaited(digest),
        }
    }

    /// What a refusal on chain means; `None` while that is not known. A nonce that is used may have been used by an
    /// earlier transaction of this very payment, which was thought dead: then it is paid.
    async fn refused(
        &self,
        digest: &Digest,
        signature: &Signature,
        rejection: Rejection,
    ) -> Result<Option<Outcome>, Unavailable> {
        let refused = Some(Outcome::Here(Landing::Refused(rejection.clone())));
        if !rejection.is_used_nonce() {
            return Ok(refused);
        }
        let engine = &self.engine;
        let mut earlier = engine.ledger.signatures(digest).await?;
        earlier.retain(|other| other != signature);
        earlier.truncate(MAX_STATUSES);
        if earlier.is_empty() {
            return Ok(refused);
        }
        let statuses = engine.chain.statuses(&earlier, true).await?;
        for (other, status) in earlier.iter().zip(statuses) {
            let Some(status) = status.filter(|s| s.error.is_none()) else {
                continue;
            };
            let Some(attempt) = engine.ledger.attempt(digest, other).await? else {
                continue;
            };
            // Alone, it was paid or its transaction failed. In a batch, its code tells.
            let paid = if attempt.payments == 1 {
                true
            } else {
                let codes = engine.chain.results(other).await?;
                match codes
                    .as_ref()
                    .and_then(|codes| codes.get(attempt.position as usize))
                {
                    Some(code) => *code == 0,
                    // Not known now: asked again at the next look.
                    None => return Ok(None),
                }
            };
            if !paid {
                continue;
            }
            if !status.confirmed {
                return Ok(None);
            }
            let answered = engine.desk.is_awaited(digest);
            let landing = vec![(*digest, Landing::Paid { answered })];
            let changed = engine
                .ledger
                .land(*other, status.slot, false, landing)
                .await?;
            tracing::warn!(digest = %hex::encode(digest), transaction = %other, "paid by an earlier transaction");
            let attempt = Attempt {
                slot: Some(status.slot),
                ..attempt
            };
            let ours = answered && changed.contains(digest);
            engine.desk.paid(digest, &attempt, ours);
            return Ok(Some(Outcome::Earlier));
        }
        // Nobody knows an earlier one now. A node that lags or lies may know it in a moment, and then it was paid.
        let doubt = engine.settings.chain.rebroadcast() * DOUBT;
        let mut doubts = self.doubts.lock().unwrap_or_else(PoisonError::into_inner);
        let since = *doubts.entry(*digest).or_insert_with(Instant::now);
        if since.elapsed() < doubt {
            return Ok(None);
        }
        doubts.remove(digest);
        Ok(refused)
    }

    /// What is done now and then.
    async fn chores(&mut self) {
        self.ended.swap(0, 1);
        self.ended[0].clear();
        // Each on its own: what one needs may be down, and the next may do without.
        later("taken up", self.take_up().await);
        self.rebroadcast();
        self.watch_strangers();
        later("declared dead", self.bury_dead().await);
        later("told from the chain's state", self.testify().await);
        later("signed again", self.revive().await);
    }

    /// Follows what the ledger says is this relayer's and that it does not follow yet: after a start, and after taking
    /// over. What is another's by now, or was ended by it, is left to that one.
    async fn take_up(&mut self) -> Result<(), Unavailable> {
        let term = self.engine.lease.term();
        let ours = self.engine.ledger.open_transactions().await?;
        self.known_in = Some(term);
        // Everything that is followed was on disk before the ledger was asked.
        let open: HashSet<Signature> = ours.iter().map(|ours| ours.signature).collect();
        let lost = self
            .open
            .extract_if(|signature, lost| !lost.unheard && !open.contains(signature));
        for (signature, lost) in lost {
            tracing::warn!(transaction = %signature, "another relayer has taken a transaction over");
            for carried in lost.payments {
                self.engine.follower.watch(carried.digest);
            }
        }
        for transaction in ours {
            if self.open.contains_key(&transaction.signature) {
                continue;
            }
            // The queue may hold it: written down a moment ago by this very process.
            let rows = self.engine.ledger.payments(&transaction.digests).await?;
            for row in &rows {
                self.engine.desk.reopen(row);
            }
            let fee_lamports = rows
                .iter()
                .filter_map(|row| row.attempt.as_ref())
                .find(|attempt| attempt.signature == transaction.signature)
                .map_or(0, |attempt| attempt.fee_lamports);
            let is_transfer = |digest: &Digest| {
                let row = rows.iter().find(|row| row.payment.digest == *digest);
                row.is_some_and(|row| row.payment.intent().is_none())
            };
            let carried = |digest| Carried {
                digest,
                otherwise: if is_transfer(&digest) {
                    Otherwise::Nothing
                } else {
                    Otherwise::Remake
                },
            };
            let open = Open {
                wire: Arc::new(transaction.wire),
                last_valid_block_height: transaction.last_valid_block_height,
                signed_slot: transaction.signed_slot,
                fee_lamports,
                payments: transaction.digests.into_iter().map(carried).collect(),
                since: Instant::now(),
                last_sent: None,
                unheard: false,
                mute: None,
            };
            self.open.entry(transaction.signature).or_insert(open);
        }
        Ok(())
    }

    /// Sends again what has not landed for a while.
    fn rebroadcast(&mut self) {
        // Whoever slept may have been taken over meanwhile.
        let held = |term: &Term| self.engine.lease.is_held(*term);
        let Some(term) = self.known_in.filter(held) else {
            return;
        };
        let pause = self.engine.settings.chain.rebroadcast();
        let now = Instant::now();
        for (signature, open) in &mut self.open {
            let fresh = |sent| now.duration_since(sent) < pause;
            if open.unheard || open.last_sent.is_some_and(fresh) {
                continue;
            }
            // Not waited for: a node that is slow must not keep the others' answers from being read.
            let Ok(place) = Arc::clone(&self.sends).try_acquire_owned() else {
                return;
            };
            open.last_sent = Some(now);
            let (engine, wire, signature) =
                (Arc::clone(&self.engine), Arc::clone(&open.wire), *signature);
            self.engine.tasks.spawn(async move {
                let _place = place;
                if !engine.lease.is_held(term) {
                    return;
                }
                match engine.chain.send(&wire).await {
                    Ok(()) => {
                        tracing::debug!(transaction = %signature, "sent again");
                        engine.ledger.mark_sent(signature);
                    }
                    Err(error) => {
                        tracing::debug!(transaction = %signature, %error, "no word about a repeated send");
                    }
                }
            });
        }
    }

    /// Finds the transactions that can never land.
    async fn bury_dead(&mut self) -> Result<(), Unavailable> {
        // A blockhash lives for more than half a minute, so nothing younger is worth the question.
        let young = self.engine.settings.chain.rebroadcast() * YOUNG;
        let is_young = |open: &Open| open.since.elapsed() < young && open.last_sent.is_some();
        if self.open.values().all(is_young) {
            return Ok(());
        }
        // In this order: the height first, the search after it, and how far back that went last. The other way round a
        // transaction could land, or be forgotten, between the two.
        let height = self.engine.chain.finalized_block_height().await?;
        let past: Vec<Signature> = self
            .open
            .iter()
            .filter(|(_, open)| height > open.last_valid_block_height)
            .map(|(signature, _)| *signature)
            .collect();
        for chunk in past.chunks(MAX_STATUSES) {
            let unseen = self.ask(chunk, true).await?;
            if unseen.is_empty() {
                continue;
            }
            let first = self.engine.chain.first_slot().await?;
            for dead in unseen {
                let signed = self.open.get(&dead).and_then(|open| open.signed_slot);
                if signed.is_some_and(|slot| first > slot) {
                    tracing::warn!(
                        transaction = %dead, first, signed,
                        "no node's memory goes back to when a transaction was signed: add one to more_rpc_urls whose does"
                    );
                    continue;
                }
                tracing::info!(transaction = %dead, height, "transaction can no longer land");
                self.engine.ledger.bury(dead, height).await?;
                if let Some(open) = self.open.remove(&dead) {
                    for carried in open.payments {
                        self.engine
                            .desk
                            .advance(&carried.digest, State::Signed, None);
                    }
                }
            }
        }
        Ok(())
    }

    /// Asks the chain's own state about transactions that landed and whose results no node tells.
    ///
    /// A nonce that is free in a final state of a later slot was not used: the payment was not made, and may be signed
    /// again. One that is used tells nothing for sure: another intent with the same nonce, settled by somebody else, may
    /// have used it. Such a payment stays open until a node tells.
    async fn testify(&mut self) -> Result<(), Unavailable> {
        let patience = self.engine.settings.chain.rebroadcast() * MUTE;
        let long = |open: &Open| {
            let mute = open.mute.as_ref();
            mute.is_some_and(|mute| mute.since.elapsed() >= patience)
        };
        let mute: Vec<Signature> = self
            .open
            .iter()
            .filter(|(_, open)| long(open))
            .map(|(signature, _)| *signature)
            .take(MAX_STATUSES)
            .collect();
        if mute.is_empty() {
            return Ok(());
        }
        let statuses = self.engine.chain.statuses(&mute, true).await?;
        for (signature, status) in mute.iter().zip(statuses) {
            let Some(status) = status.filter(|status| status.finalized && status.error.is_none())
            else {
                continue;
            };
            let free = self.free(signature, status.slot).await?;
            self.release(signature, status.slot, free).await?;
        }
        Ok(())
    }

    /// Of a landed transaction's payments that are still open, those whose nonces are free in a final state of `slot` or
    /// later; and how many others there are.
    async fn free(
        &self,
        signature: &Signature,
        slot: u64,
    ) -> Result<(Vec<Digest>, usize), Unavailable> {
        let engine = &self.engine;
        let live = engine.ledger.carried(signature).await?;
        let rows = engine.ledger.payments(&live).await?;
        let mut keys = vec![CLOCK];
        let rows: Vec<(Digest, NonceKey)> = rows
            .into_iter()
            .filter_map(|row| Some((row.payment.digest, row.payment.intent()?.nonce)))
            .collect();
        keys.extend(rows.iter().map(|(_, nonce)| nonce.account));
        let accounts = engine.chain.accounts(&keys, Depth::Finalized).await?;
        let mut accounts = accounts.iter().map(Option::as_ref);
        // All of one moment, and the clock tells which.
        let at = accounts.next().flatten().and_then(clock_slot);
        if at.is_none_or(|at| at < slot) {
            return Ok((Vec::new(), rows.len()));
        }
        let is_free = |key: &NonceKey, account: Option<&RawAccount>| {
            let nonce = lookup::<NonceAccount>(account.filter(|account| exists(account)));
            let Some(nonce) = nonce.found().filter(|it| it.opened_slot == key.opened_slot) else {
                return false;
            };
            let lane = nonce.lanes.get(usize::from(key.lane));
            lane.is_some_and(|lane| {
                matches!(
                    lane.window().take(key.nonce),
                    Ok(_) | Err(Skip::NonceTooFar)
                )
            })
        };
        let free: Vec<Digest> = rows
            .iter()
            .zip(accounts)
            .filter(|((_, key), account)| is_free(key, *account))
            .map(|((digest, _), _)| *digest)
            .collect();
        let others = rows.len() - free.len();
        Ok((free, others))
    }

    /// Lets payments go that a landed transaction did not make.
    async fn release(
        &mut self,
        signature: &Signature,
        slot: u64,
        (free, others): (Vec<Digest>, usize),
    ) -> Result<(), Unavailable> {
        if others == 0 {
            // It did nothing for any of them: like one that failed as a whole, and each is tried alone.
            let untouched: Vec<(Digest, Landing)> = free
                .iter()
                .map(|digest| (*digest, Landing::Untouched))
                .collect();
            self.engine
                .ledger
                .land(*signature, slot, true, untouched)
                .await?;
            tracing::warn!(transaction = %signature, slot, payments = free.len(), "a landed transaction made none of its payments, by the state of their nonces");
            self.ended[0].insert(*signature);
            if let Some(open) = self.open.remove(signature) {
                for carried in &open.payments {
                    self.engine
                        .desk
                        .advance(&carried.digest, State::Signed, None);
                }
            }
            return Ok(());
        }
        if !free.is_empty() {
            self.engine.ledger.release(*signature, free.clone()).await?;
            for digest in &free {
                self.engine.desk.advance(digest, State::Signed, None);
            }
        }
        let Some(mute) = self.open.get_mut(signature).and_then(|o| o.mute.as_mut()) else {
            return Ok(());
        };
        if !std::mem::replace(&mut mute.told, true) {
            tracing::error!(
                event = "results_unknown", transaction = %signature, slot, payments = others,
                "a transaction landed and no node tells what it did: its payments stay open until one does; add a node that \
                 keeps transactions to more_rpc_urls"
            );
        }
        Ok(())
    }

    /// Signs payments again whose every transaction is dead, or closes them if their intent has expired.
    async fn revive(&self) -> Result<(), Unavailable> {
        let engine = &self.engine;
        let rows = engine.ledger.without_transaction().await?;
        if rows.is_empty() {
            return Ok(());
        }
        let clock = engine.chain.accounts(&[CLOCK], Depth::Finalized).await?;
        let now = time(clock.first().and_then(Option::as_ref))?;
        let (late, rows): (Vec<PaymentRow>, Vec<PaymentRow>) =
            rows.into_iter().partition(|row| can_expire(row, now));
        self.expire(&late).await?;
        for row in rows {
            engine.desk.reopen(&row);
            let digest = hex::encode(row.payment.digest);
            let in_line = engine
                .desk
                .seat(&row.payment.digest)
                .is_some_and(|seat| seat.state == State::Batched);
            if in_line {
                continue;
            }
            match self.remake(&row).await? {
                Some(item) => {
                    engine
                        .desk
                        .advance(&row.payment.digest, State::Batched, None);
                    if let Err(error) = engine.enqueue(item) {
                        engine
                            .desk
                            .advance(&row.payment.digest, State::Signed, None);
                        return Err(error);
                    }
                    tracing::info!(%digest, "put in line again");
                }
                // Not final: what is missing now may come back until it expires, and costs nothing meanwhile.
                None => {
                    tracing::warn!(%digest, "cannot be signed again now: an account it needs cannot be read")
                }
            }
        }
        Ok(())
    }

    /// Closes payments whose every transaction is dead and for which none can be signed any more, with what their nonce
    /// accounts say.
    async fn expire(&self, late: &[PaymentRow]) -> Result<(), Unavailable> {
        let engine = &self.engine;
        for rows in late.chunks(MAX_WITNESSES) {
            let nonces: Vec<_> = rows
                .iter()
                .map(|row| row.payment.intent().map(|i| i.nonce))
                .collect();
            let mut keys = vec![CLOCK];
            keys.extend(nonces.iter().flatten().map(|nonce| nonce.account));
            let accounts = engine.chain.accounts(&keys, Depth::Finalized).await?;
            let mut accounts = accounts.iter().map(Option::as_ref);
            let chain_time = time(accounts.next().flatten())?;
            for (row, nonce) in rows.iter().zip(nonces) {
                let (rejection, nonce) = match nonce {
                    // Its payer signed that transaction and no other.
                    None => (expired_transfer(), NonceWitness::Silent),
                    Some(nonce) => {
                        let account = accounts.next().flatten().filter(|account| exists(account));
                        let witness = NonceWitness::ask(&lookup(account), &nonce);
                        (expired_intent(witness), witness)
                    }
                };
                // Another node may be behind the one that told the time before.
                if !can_expire(row, chain_time) {
                    continue;
                }
                engine.desk.restore(row);
                let digest = row.payment.digest;
                let judgement = Judgement { chain_time, nonce };
                let expired = engine.ledger.expire(digest, judgement, rejection.clone());
                if expired.await? {
                    tracing::warn!(digest = %hex::encode(digest), ?nonce, "payment expired without landing");
                    engine.desk.ended(&digest, State::Expired, &rejection, None);
                }
            }
        }
        Ok(())
    }

    /// Watches payments on the desk that no transaction here carries: another relayer may have taken them over.
    fn watch_strangers(&self) {
        let carried = self.carried();
        for digest in self.engine.desk.signed() {
            if !carried.contains(&digest) {
                self.engine.follower.watch(digest);
            }
        }
    }

    fn carried(&self) -> HashSet<Digest> {
        let open = self.open.values();
        open.flat_map(|open| open.payments.iter().map(|carried| carried.digest))
            .collect()
    }

    /// Tells the desk what the ledger says of payments that are watched.
    async fn watch(&self) -> Result<(), Unavailable> {
        let engine = &self.engine;
        let watched: Vec<Digest> = engine.follower.watched().iter().copied().collect();
        if watched.is_empty() {
            return Ok(());
        }
        let carried = self.carried();
        let done = |digest: &Digest| {
            engine.follower.watched().remove(digest);
        };
        for chunk in watched.chunks(MAX_WATCHED) {
            let rows = engine.ledger.payments(chunk).await?;
            let mut rows: HashMap<Digest, PaymentRow> = rows
                .into_iter()
                .map(|row| (row.payment.digest, row))
                .collect();
            for digest in chunk {
                let live = engine
                    .desk
                    .seat(digest)
                    .is_some_and(|seat| seat.state.is_live());
                match rows.remove(digest) {
                    _ if !live || carried.contains(digest) => done(digest),
                    Some(row) if row.state.is_live() => {
                        if let Some(attempt) = &row.attempt {
                            let signature = Some(attempt.signature);
                            engine.desk.advance(digest, State::Signed, signature);
                        }
                    }
                    Some(row) => {
                        done(digest);
                        engine.end(&row);
                    }
                    // A commit that did not come back was not made.
                    None => {
                        done(digest);
                        let lost = LedgerError::Commit("it was not made".to_owned());
                        engine
                            .desk
                            .release(digest, Answer::Unavailable(Unavailable::Ledger(lost)));
                    }
                }
            }
        }
        Ok(())
    }

    async fn remake(&self, row: &PaymentRow) -> Result<Option<Item>, Unavailable> {
        let engine = &self.engine;
        let Some(intent) = row.payment.intent() else {
            return Ok(None);
        };
        let nonce_account = intent.nonce.account;
        let keys = [
            row.payment.service,
            address::accepted_mint(&row.payment.mint).0,
            nonce_account,
        ];
        let accounts = engine.chain.accounts(&keys, Depth::Confirmed).await?;
        let mut accounts = accounts.iter().map(|a| a.as_ref().filter(|a| exists(a)));
        let service = lookup::<Service>(accounts.next().flatten());
        let accepted = lookup::<AcceptedMint>(accounts.next().flatten());
        let nonce = lookup::<NonceAccount>(accounts.next().flatten());
        let (Some(service), Some(accepted), Some(nonce)) =
            (service.found(), accepted.found(), nonce.found())
        else {
            return Ok(None);
        };
        let facilitator = engine.facilitator().await?;
        let wallet = Address::new_from_array(facilitator.wallet);
        Ok(Some(Item {
            candidate: Candidate::Known(row.payment.digest),
            accounts: Arc::new(ServiceAccounts::new(
                row.payment.service,
                service,
                accepted,
                &wallet,
            )),
            settle: SettleItem {
                entry: intent.entry,
                source: Address::new_from_array(nonce.source),
                nonce_account,
            },
            failures: engine.ledger.failures(&row.payment.digest).await?,
            terms: Terms::default(),
        }))
    }
}

/// A transfer whose one transaction landed and failed.
fn failed_transfer(error: &TransactionError) -> Rejection {
    Rejection::new(
        Reason::Exact(ExactReason::TransactionFailed),
        format!("the transaction landed and failed, and nothing was paid: {error}"),
    )
}

/// Whether nobody can sign a transaction for a payment any more, whose last one is dead.
fn can_expire(row: &PaymentRow, chain_time: i64) -> bool {
    row.payment.intent().is_none() || chain_time > row.payment.expires_at
}

/// An intent that has expired, and whose every transaction is dead.
fn expired_intent(witness: NonceWitness) -> Rejection {
    Rejection::skip_because(
        Skip::Expired,
        if witness == NonceWitness::Used {
            "no transaction that was signed here for this payment landed before it expired, and none can any more; but its \
             nonce is used, by another payment or by this one through another relayer"
        } else {
            "no transaction of this payment landed before it expired, and none can any more"
        },
    )
}

/// A transfer whose one transaction is dead.
fn expired_transfer() -> Rejection {
    Rejection::new(
        Reason::Exact(ExactReason::TransactionFailed),
        "the transaction did not land while its blockhash lived, and can no longer: sign another",
    )
}

/// Why the program refused the instruction itself, paused for instance: every payment of it would fare alike alone, and
/// each would cost a fee once more.
fn refusal_of_all(error: &TransactionError) -> Option<Rejection> {
    if !matches!(error.failure(), Failure::Program(_)) {
        return None;
    }
    Rejection::of_failure(error).filter(|rejection| rejection.reason != Reason::UnexpectedSettle)
}

/// Notes that something waits for the next time.
fn later(what: &str, done: Result<(), Unavailable>) {
    if let Err(error) = done {
        tracing::warn!(%error, "some payments could not be {what}; they will be");
    }
}

impl Engine {
    /// Finds what can no longer be undone, and what was undone.
    async fn finalize(&self) -> Result<(), Unavailable> {
        let unfinal = self.ledger.unfinal(MAX_UNFINAL).await?;
        if unfinal.is_empty() {
            return Ok(());
        }
        let signatures: Vec<Signature> = unfinal.iter().map(|(signature, _)| *signature).collect();
        let statuses = self.chain.statuses(&signatures, true).await?;
        let (mut done, mut gone) = (Vec::new(), Vec::new());
        for ((signature, slot), status) in unfinal.iter().zip(statuses) {
            match status {
                None => gone.push(*signature),
                // In another block it may have done something else: it is followed as if it had not landed yet.
                Some(status)
                    if status.confirmed && (status.slot != *slot || status.error.is_some()) =>
                {
                    let digests = self.ledger.undo(*signature, *slot, true).await?;
                    self.undone(signature, digests, "landed in another block")
                        .await?;
                }
                Some(status) if status.finalized => done.push(*signature),
                Some(_) => {}
            }
        }
        if !done.is_empty() {
            self.ledger.finalize(done).await?;
        }
        if gone.is_empty() {
            return Ok(());
        }
        // Its block was dropped. It may land again until its blockhash is dead, and is dead by the same proof as one that
        // never landed.
        let height = self.chain.finalized_block_height().await?;
        let statuses = self.chain.statuses(&gone, true).await?;
        let first = self.chain.first_slot().await?;
        for (signature, status) in gone.iter().zip(statuses) {
            let Some(landed) = self
                .ledger
                .landed(signature)
                .await?
                .filter(|_| status.is_none())
            else {
                continue;
            };
            let transaction = landed.transaction;
            let remembered = transaction.signed_slot.is_none_or(|slot| first <= slot);
            let dead = height > transaction.last_valid_block_height && remembered;
            if !dead && height > transaction.last_valid_block_height {
                tracing::debug!(transaction = %signature, first, "no node's history reaches back to a landed transaction");
                continue;
            }
            let digests = self.ledger.undo(*signature, landed.slot, !dead).await?;
            self.undone(signature, digests, "was in a block that was dropped")
                .await?;
        }
        Ok(())
    }

    /// Puts payments back on the desk that were thought paid.
    async fn undone(
        &self,
        signature: &Signature,
        digests: Vec<Digest>,
        why: &str,
    ) -> Result<(), Unavailable> {
        for row in self.ledger.payments(&digests).await? {
            self.desk.reopen(&row);
            tracing::error!(
                event = "rolled_back", digest = %hex::encode(row.payment.digest), transaction = %signature, answered = row.answered,
                "a payment that was confirmed is open again: its transaction {why}"
            );
        }
        Ok(())
    }

    /// Ends a payment on the desk as the ledger has it.
    fn end(&self, row: &PaymentRow) {
        match (&row.attempt, row.state.is_paid()) {
            // Whoever waits here asks the ledger for the one success.
            (Some(attempt), true) => self.desk.paid(&row.payment.digest, attempt, false),
            (attempt, _) => {
                let (reason, message) = row.verdict.clone().unwrap_or_default();
                let rejection = Rejection::recorded(&reason, &message);
                let transaction = attempt.as_ref().map(|attempt| attempt.signature);
                self.desk
                    .ended(&row.payment.digest, row.state, &rejection, transaction);
            }
        }
    }

    /// A payment that another relayer has, or an earlier run: the ledger will say what becomes of it.
    pub(crate) fn elsewhere(&self, digest: &Digest, row: &PaymentRow) {
        let transaction = row.attempt.as_ref().map(|attempt| attempt.signature);
        self.desk.advance(digest, State::Signed, transaction);
        self.follower.watch(*digest);
    }
}
