//! The blockhash for the next transaction, asked for ahead of time.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::{Duration, Instant},
};

use tokio_util::sync::CancellationToken;

use super::{Blockhash, Chain, ChainError};

/// A blockhash older than this is not signed with: it lives for about a minute, and a transaction needs some of it.
const MAX_AGE: Duration = Duration::from_secs(20);

/// The newest blockhash that is known.
#[derive(Clone)]
pub struct Blockhashes {
    chain: Arc<dyn Chain>,
    newest: Arc<RwLock<Option<(Blockhash, Instant)>>>,
}

impl Blockhashes {
    /// Asks `chain` every `pause` until `stop`.
    pub fn start(chain: Arc<dyn Chain>, pause: Duration, stop: CancellationToken) -> Self {
        let this = Self {
            chain,
            newest: Arc::default(),
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
        Ok(blockhash)
    }
}
