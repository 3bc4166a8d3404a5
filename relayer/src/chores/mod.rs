//! What the relayer does beside payments: [`distribute`] divides what arrived in vaults, [`reclaim`] closes idle nonce
//! accounts whose rent it paid, and [`crate::onboard`] opens them for payers without SOL.
//!
//! Each is a transaction that is written into the ledger before its first byte leaves, and followed from there to its
//! end by one task, so that a relayer that dies repeats nothing that may still land; `settings` is what the operator says
//! about it.

pub mod distribute;
mod follow;
pub mod reclaim;
pub mod settings;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use sluice_sdk::{
    Address,
    transaction::{self, Budget, Version},
};
use solana_instruction::Instruction;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    budget,
    chain::{ChainError, RawAccount, clock_slot},
    engine::{Engine, Unavailable},
    ledger::chores::{Claim, Kind, NewChore, OpenChore},
    signers::Signer,
};

/// Services that may be waiting for a distribution because money has just come in.
const MAX_HINTS: usize = 65_536;

/// What the workers share with whoever has news for them.
#[derive(Debug)]
pub(crate) struct Chores {
    /// Services whose vaults have just been paid, and when.
    hints: Mutex<HashMap<Address, Instant>>,
    bell: Notify,
    /// Changes when a chore has ended.
    pub(crate) ended: watch::Sender<u64>,
    handed: mpsc::UnboundedSender<OpenChore>,
    taken: Mutex<Option<mpsc::UnboundedReceiver<OpenChore>>>,
}

impl Default for Chores {
    fn default() -> Self {
        let (handed, taken) = mpsc::unbounded_channel();
        Self {
            hints: Mutex::default(),
            bell: Notify::new(),
            ended: watch::Sender::new(0),
            handed,
            taken: Mutex::new(Some(taken)),
        }
    }
}

impl Chores {
    fn take_hints(&self) -> HashMap<Address, Instant> {
        std::mem::take(&mut *self.hints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Has a transaction followed.
    pub(crate) fn follow(&self, chore: OpenChore) {
        // The other end lives as long as the engine does. Were it gone, the next start would take it up.
        let _ = self.handed.send(chore);
    }

    fn queue(&self) -> Option<mpsc::UnboundedReceiver<OpenChore>> {
        self.taken
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// A transaction of a chore, before it is signed.
pub(crate) struct Job {
    pub(crate) kind: Kind,
    pub(crate) subjects: Vec<Address>,
    pub(crate) instructions: Vec<Instruction>,
    pub(crate) budget: Budget,
    pub(crate) version: Version,
    pub(crate) key: Arc<dyn Signer>,
    /// The slot of the state of the chain that it was prepared from.
    pub(crate) seen_slot: u64,
    /// The most lamports that its kind may cost in a day.
    pub(crate) cap: Option<u64>,
}

/// What became of a job. Only what was written down was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ran {
    /// It was sent.
    Sent,
    /// Another relayer is at it, or the chain was asked too early, or this very transaction was sent before: worth
    /// another look in a moment.
    Taken,
    /// The day's cap is reached.
    OverCap,
}

/// Starts the workers. They end by themselves: those that begin chores when no more requests come in, the one that
/// follows them at `stop`.
pub(crate) fn start(engine: &Arc<Engine>, stop: CancellationToken) {
    tokio::spawn(follow::follow(Arc::clone(engine), stop));
    if engine.settings.distribute.enabled {
        engine.tasks.spawn(distribute::work(Arc::clone(engine)));
    }
    if engine.settings.reclaim.enabled {
        engine.tasks.spawn(reclaim::work(Arc::clone(engine)));
    }
}

impl Engine {
    /// Says that money has just arrived in a service's vault without an intent: a payment by `exact` whose `payTo` is the
    /// service. It is divided soon (`distribute.soon_ms`). Costs nothing, and may be said of any address.
    pub fn vault_paid(&self, service: Address) {
        let mut hints = self
            .chores
            .hints
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if hints.len() < MAX_HINTS {
            hints.entry(service).or_insert_with(Instant::now);
        }
        drop(hints);
        self.chores.bell.notify_one();
    }

    /// Signs a chore's transaction, writes it down, sends it and has it followed.
    pub(crate) async fn run_chore(&self, job: Job) -> Result<Ran, Unavailable> {
        let lamports = budget::cost(&job.budget);
        let most = self.settings.fees.max_lamports_per_transaction;
        if lamports > most {
            return Err(Unavailable::NotReady(format!(
                "a {} would cost {lamports} lamports, over the cap of {most}: raise \
                 fees.max_lamports_per_transaction or lower the priority fee",
                job.kind.as_str()
            )));
        }
        let blockhash = self.blockhashes.get().await?;
        let broken = |error: transaction::BuildError| Unavailable::NotReady(error.to_string());
        let message = transaction::compile(
            job.version,
            &job.key.address(),
            &job.instructions,
            &job.budget,
            blockhash.hash,
        )
        .map_err(broken)?;
        let signature = self
            .sign_with(job.key.as_ref(), &message.serialize())
            .await
            .map_err(Unavailable::Signer)?;
        let built = transaction::signed(job.version, message, vec![signature]).map_err(broken)?;
        let chore = NewChore {
            kind: job.kind,
            signature,
            wire: transaction::wire(&built).map_err(broken)?,
            last_valid_block_height: blockhash.last_valid_block_height,
            fee_payer: job.key.address(),
            lamports,
            subjects: job.subjects,
        };
        let open = chore.open();
        let count = chore.subjects.len();
        let kind = job.kind.as_str();
        match self
            .ledger
            .write_chore(chore, job.seen_slot, job.cap)
            .await?
        {
            Claim::Written => {}
            Claim::Taken => {
                tracing::debug!(kind, "somebody is at it already");
                return Ok(Ran::Taken);
            }
            Claim::OverCap(spent) => {
                tracing::warn!(
                    kind,
                    spent,
                    lamports,
                    "the day's cap is reached; the rest waits"
                );
                return Ok(Ran::OverCap);
            }
        }
        tracing::info!(kind, count, transaction = %signature, lamports, "chore written down");
        self.send_chore(open).await;
        Ok(Ran::Sent)
    }

    /// Has a transaction that is on disk followed, and sends it.
    pub(crate) async fn send_chore(&self, chore: OpenChore) {
        let signature = chore.signature;
        let wire = chore.wire.clone();
        self.chores.follow(chore);
        if let Err(error) = self.chain.send(&wire).await {
            // Says nothing: it is sent again until it lands or cannot any more.
            tracing::warn!(transaction = %signature, %error, "no word about the send of a chore; it will be repeated");
        }
    }
}

impl NewChore {
    pub(crate) fn open(&self) -> OpenChore {
        OpenChore {
            kind: self.kind,
            signature: self.signature,
            wire: self.wire.clone(),
            last_valid_block_height: self.last_valid_block_height,
        }
    }
}

/// The slot of the chain's state that an answer shows, by the clock in it.
pub(crate) fn slot(clock: Option<&RawAccount>) -> Result<u64, ChainError> {
    clock.and_then(clock_slot).ok_or_else(|| ChainError {
        method: "getMultipleAccounts",
        problem: "the clock sysvar is not readable".to_owned(),
    })
}

/// Whether instructions fit in one transaction, with room for the dearest price.
pub(crate) fn fits(version: Version, fee_payer: &Address, instructions: &[Instruction]) -> bool {
    let budget = Budget {
        compute_units: 1,
        unit_price: 1,
        loaded_bytes: 1,
    };
    let blockhash = solana_hash::Hash::default();
    let message = transaction::compile(version, fee_payer, instructions, &budget, blockhash);
    message
        .map(transaction::unsigned)
        .and_then(|unsigned| transaction::wire(&unsigned))
        .is_ok_and(|wire| wire.len() <= version.max_len())
}
