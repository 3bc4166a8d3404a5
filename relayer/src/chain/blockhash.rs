//! The blockhash for the next transaction, asked for ahead of time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::{Duration, Instant},
};

use solana_hash::Hash;

use tokio_util::sync::CancellationToken;

use super::{Blockhash, Chain, ChainError};

/// A blockhash older than this is not signed with: it lives for about a minute, and a transaction needs some of it.
const MAX_AGE: Duration = Duration::from_secs(20);

/// Blocks that a blockhash lives.
const LIFE: u64 = 150;
/// Blocks by which a node that others asked may be ahead of what is confirmed here.
const AHEAD: u64 = 32;
/// Blockhashes of others that are remembered; beyond it the dead ones are forgotten.
const MAX_SEEN: usize = 4_096;

/// The newest blockhash, and how long those live that others sign with.
#[derive(Clone)]
pub struct Blockhashes {
    chain: Arc<dyn Chain>,
    newest: Arc<RwLock<Option<(Blockhash, Instant)>>>,
    /// The last block of each blockhash that was seen; for one that a node only called valid, the last that it may be.
    seen: Arc<Mutex<HashMap<Hash, u64>>>,
}

impl Blockhashes {
    /// Asks `chain` every `pause` until `stop`.
    pub fn start(chain: Arc<dyn Chain>, pause: Duration, stop: CancellationToken) -> Self {
        let this = Self {
            chain,
            newest: Arc::default(),
            seen: Arc::default(),
        };
        let task = this.clone();
        tokio::spawn(async move {
            loop {
                if let Err(error) = task.refresh().await {
                    tracing::debug!(%error, "no fresh blockhash");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(pause) => {}
                }
            }
        });
        this
    }

    /// A blockhash that is young enough to sign with.
    pub async fn get(&self) -> Result<Blockhash, ChainError> {
        match self.known() {
            Some(blockhash) => Ok(blockhash),
            None => self.refresh().await,
        }
    }

    /// Makes the next transaction ask for another one: a node did not know this.
    pub fn forget(&self) {
        *self.newest.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn known(&self) -> Option<Blockhash> {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest
            .filter(|(_, at)| at.elapsed() < MAX_AGE)
            .map(|(blockhash, _)| blockhash)
    }

    async fn refresh(&self) -> Result<Blockhash, ChainError> {
        let asked = Instant::now();
        let blockhash = self.chain.latest_blockhash().await?;
        let mut newest = self.newest.write().unwrap_or_else(PoisonError::into_inner);
        *newest = Some((blockhash, asked));
        drop(newest);
        let mut seen = self.seen();
        if seen.len() >= MAX_SEEN {
            let height = blockhash.last_valid_block_height.saturating_sub(LIFE);
            seen.retain(|_, last| *last >= height);
        }
        seen.insert(blockhash.hash, blockhash.last_valid_block_height);
        Ok(blockhash)
    }

    /// A slot that has been: that of the newest blockhash; 0 before there is one.
    pub fn slot(&self) -> u64 {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.map_or(0, |(blockhash, _)| blockhash.slot)
    }

    /// Blocks in which a transaction with this blockhash may still land, at most; 0 for a dead or an unknown one.
    ///
    /// Most clients sign with one that was seen here when it was the newest. Any other is asked about once.
    pub async fn blocks_left(&self, hash: &Hash) -> Result<u64, ChainError> {
        let newest = self.get().await?.last_valid_block_height;
        let known = self.seen().get(hash).copied();
        let last = match known {
            Some(last) => last,
            None if self.chain.is_blockhash_valid(hash).await? => {
                let last = newest.saturating_add(AHEAD);
                *self.seen().entry(*hash).or_insert(last)
            }
            None => return Ok(0),
        };
        Ok(last.saturating_sub(newest.saturating_sub(LIFE)))
    }

    /// The last block that may hold a transaction with this blockhash: where it is not known exactly a later one, so
    /// that nothing is called dead which is not.
    pub fn last_valid(&self, hash: &Hash) -> u64 {
        let seen = self.seen();
        let bound = || {
            let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
            let newest = newest.map_or(0, |(blockhash, _)| blockhash.last_valid_block_height);
            newest.saturating_add(AHEAD)
        };
        seen.get(hash).copied().unwrap_or_else(bound)
    }

    /// The slot in which the newest was given: whatever is signed from now on lands in no earlier one.
    pub fn newest_slot(&self) -> u64 {
        let newest = self.newest.read().unwrap_or_else(PoisonError::into_inner);
        newest.map_or(0, |(blockhash, _)| blockhash.slot)
    }

    fn seen(&self) -> MutexGuard<'_, HashMap<Hash, u64>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
