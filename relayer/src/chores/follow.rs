//! Following chores to their end: what was sent is sent again until it lands, or until it is proved that it cannot.

use std::{collections::HashMap, sync::Arc, time::Duration};

use solana_signature::Signature;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{Failure, MAX_STATUSES, TransactionError},
    engine::{Engine, Unavailable},
    ledger::chores::{End, Kind, OpenChore},
};

/// The program's word for a distribution that finds nothing to do.
const NOTHING_TO_DISTRIBUTE: u32 = 114;
/// A transaction that is younger cannot be dead: its blockhash lives for more than half a minute.
const YOUNG: u32 = 7;
/// How often what nobody came back for is forgotten.
const TIDY: Duration = Duration::from_secs(3_600);

struct Open {
    chore: OpenChore,
    since: Instant,
    last_sent: Option<Instant>,
}

struct Follower {
    engine: Arc<Engine>,
    open: HashMap<Signature, Open>,
}

/// Follows chores until `stop`. Everything that it writes is one change of the ledger, so it can end anywhere.
pub(super) async fn follow(engine: Arc<Engine>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = follow_on(engine) => {}
    }
}

async fn follow_on(engine: Arc<Engine>) {
    let Some(mut handed) = engine.chores.queue() else {
        return;
    };
    let settings = engine.settings.chain;
    let mut looks = interval(settings.poll());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rounds = interval(settings.rebroadcast());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut follower = Follower {
        engine,
        open: HashMap::new(),
    };
    let mut tidied: Option<Instant> = None;
    loop {
        tokio::select! {
            chore = handed.recv() => match chore {
                Some(chore) => follower.add(chore, Some(Instant::now())),
                None => return,
            },
            _ = looks.tick(), if !follower.open.is_empty() => {
                later("followed", follower.look().await);
            }
            _ = rounds.tick() => {
                later("taken up", follower.take_up().await);
                follower.rebroadcast().await;
                later("declared dead", follower.bury_dead().await);
                if tidied.is_none_or(|at| at.elapsed() > TIDY) {
                    tidied = Some(Instant::now());
                    later("tidied", follower.tidy().await);
                }
            }
        }
    }
}

impl Follower {
    fn add(&mut self, chore: OpenChore, sent: Option<Instant>) {
        self.open.entry(chore.signature).or_insert(Open {
            chore,
            since: Instant::now(),
            last_sent: sent,
        });
    }

    /// Follows what the ledger says is this relayer's: after a start, and after taking over.
    async fn take_up(&mut self) -> Result<(), Unavailable> {
        let adopted = self.engine.ledger.adopt_chores().await?;
        if adopted > 0 {
            tracing::warn!(adopted, "took over the chores of a relayer that is gone");
        }
        for chore in self.engine.ledger.open_chores().await? {
            self.add(chore, None);
        }
        Ok(())
    }

    async fn look(&mut self) -> Result<(), Unavailable> {
        let signatures: Vec<Signature> = self.open.keys().copied().collect();
        for chunk in signatures.chunks(MAX_STATUSES) {
            self.ask(chunk, false).await?;
        }
        Ok(())
    }

    /// Asks for statuses and records what landed. Gives those that the node does not know.
    async fn ask(
        &mut self,
        signatures: &[Signature],
        history: bool,
    ) -> Result<Vec<Signature>, Unavailable> {
        let statuses = self.engine.chain.statuses(signatures, history).await?;
        let mut unseen = Vec::new();
        for (signature, status) in signatures.iter().zip(statuses) {
            match status {
                None => unseen.push(*signature),
                Some(status) if status.confirmed => {
                    let end = match &status.error {
                        None => End::Landed { slot: status.slot },
                        Some(error) => self.failed(signature, status.slot, error),
                    };
                    self.end(signature, end).await?;
                }
                // In a block that the cluster may still drop.
                Some(_) => {}
            }
        }
        Ok(unseen)
    }

    fn failed(&self, signature: &Signature, slot: u64, error: &TransactionError) -> End {
        let kind = self.open.get(signature).map(|open| open.chore.kind);
        let outrun = kind == Some(Kind::Distribute)
            && error.failure() == Failure::Program(NOTHING_TO_DISTRIBUTE);
        End::Failed {
            slot,
            error: error.to_string(),
            outrun,
        }
    }

    async fn end(&mut self, signature: &Signature, end: End) -> Result<(), Unavailable> {
        self.engine
            .ledger
            .end_chore(*signature, end.clone())
            .await?;
        if let Some(open) = self.open.remove(signature) {
            let kind = open.chore.kind.as_str();
            match end {
                End::Landed { slot } => {
                    tracing::info!(kind, transaction = %signature, slot, "chore landed");
                }
                End::Failed { error, outrun, .. } => {
                    tracing::warn!(kind, transaction = %signature, %error, outrun, "chore failed");
                }
                End::Dead => {
                    tracing::warn!(kind, transaction = %signature, "chore can no longer land");
                }
            }
        }
        self.engine.chores.ended.send_modify(|count| *count += 1);
        self.engine.chores.bell.notify_one();
        Ok(())
    }

    /// Sends again what has not landed for a while.
    async fn rebroadcast(&mut self) {
        let pause = self.engine.settings.chain.rebroadcast();
        let due = |open: &&mut Open| open.last_sent.is_none_or(|sent| sent.elapsed() >= pause);
        let mut sends = Vec::new();
        for open in self.open.values_mut().filter(due) {
            open.last_sent = Some(Instant::now());
            sends.push((open.chore.signature, open.chore.wire.clone()));
        }
        for (signature, wire) in sends {
            let engine = Arc::clone(&self.engine);
            // Not waited for: a node that is slow must not keep the others from being followed.
            self.engine.tasks.spawn(async move {
                if let Err(error) = engine.chain.send(&wire).await {
                    tracing::debug!(transaction = %signature, %error, "no word about a repeated send");
                }
            });
        }
    }

    /// Finds the transactions that can never land.
    async fn bury_dead(&mut self) -> Result<(), Unavailable> {
        let young = self.engine.settings.chain.rebroadcast() * YOUNG;
        if self.open.values().all(|open| open.since.elapsed() < young) {
            return Ok(());
        }
        // In this order: the height first, the search after it. The other way round a transaction could land between
        // the two.
        let height = self.engine.chain.finalized_block_height().await?;
        let past: Vec<Signature> = self
            .open
            .values()
            .filter(|open| height > open.chore.last_valid_block_height)
            .map(|open| open.chore.signature)
            .collect();
        for chunk in past.chunks(MAX_STATUSES) {
            for dead in self.ask(chunk, true).await? {
                self.end(&dead, End::Dead).await?;
            }
        }
        Ok(())
    }

    async fn tidy(&self) -> Result<(), Unavailable> {
        Ok(self.engine.ledger.forget_builds().await?)
    }
}

/// Notes that something waits for the next time.
fn later(what: &str, done: Result<(), Unavailable>) {
    if let Err(error) = done {
        tracing::warn!(%error, "some chores could not be {what}; they will be");
    }
}
