//! A chain that does what a test tells it, and remembers what it was sent.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard},
};

use async_trait::async_trait;
use serde_json::Value;
use sluice_relayer::chain::{
    Blockhash, Chain, ChainError, Depth, RawAccount, Status, TransactionError,
};
use sluice_sdk::{Address, transaction};
use solana_hash::Hash;
use solana_signature::Signature;

use crate::scene::{GENESIS, Scene};

/// What becomes of a transaction that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    Confirmed,
    /// In a block that is not voted for yet.
    Processed,
    Failed(Value),
    /// Sent into the void.
    Lost,
}

pub struct State {
    pub accounts: HashMap<Address, RawAccount>,
    /// Every call fails.
    pub down: bool,
    /// Sends fail, although the transaction leaves.
    pub send_fails: bool,
    pub fate: Fate,
    pub simulation: Option<Value>,
    pub sent: Vec<Signature>,
    pub blockhashes: u8,
    pub height: u64,
    /// The ledger, to look into at the moment of a send.
    pub ledger: Option<String>,
    /// Whether the ledger held the transaction at every send.
    pub written_ahead: bool,
}

pub struct FakeChain(Mutex<State>);

impl FakeChain {
    pub fn new(scene: &Scene) -> Self {
        Self(Mutex::new(State {
            accounts: scene.accounts().into_iter().collect(),
            down: false,
            send_fails: false,
            fate: Fate::Confirmed,
            simulation: None,
            sent: Vec::new(),
            blockhashes: 0,
            height: 1_000,
            ledger: None,
            written_ahead: true,
        }))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn up(&self, method: &'static str) -> Result<MutexGuard<'_, State>, ChainError> {
        let state = self.state();
        if state.down {
            return Err(ChainError {
                method,
                problem: "connection refused".to_owned(),
            });
        }
        Ok(state)
    }
}

/// Blockhashes of the fake are good for this many blocks.
pub const LIFE: u64 = 150;

#[async_trait]
impl Chain for FakeChain {
    async fn genesis_hash(&self) -> Result<Hash, ChainError> {
        drop(self.up("getGenesisHash")?);
        Ok(Hash::new_from_array(GENESIS))
    }

    async fn accounts(
        &self,
        keys: &[Address],
        _depth: Depth,
    ) -> Result<Vec<Option<RawAccount>>, ChainError> {
        let state = self.up("getMultipleAccounts")?;
        Ok(keys
            .iter()
            .map(|key| state.accounts.get(key).cloned())
            .collect())
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        let mut state = self.up("getLatestBlockhash")?;
        state.blockhashes += 1;
        Ok(Blockhash {
            hash: Hash::new_from_array([state.blockhashes; 32]),
            last_valid_block_height: state.height + LIFE,
        })
    }

    async fn finalized_block_height(&self) -> Result<u64, ChainError> {
        Ok(self.up("getBlockHeight")?.height)
    }

    async fn simulate(&self, _wire: &[u8]) -> Result<Result<(), TransactionError>, ChainError> {
        let state = self.up("simulateTransaction")?;
        Ok(match &state.simulation {
            None => Ok(()),
            Some(json) => Err(TransactionError { json: json.clone() }),
        })
    }

    async fn send(&self, wire: &[u8]) -> Result<(), ChainError> {
        let signature = transaction::from_wire(wire).unwrap().signatures[0];
        let ledger = self.up("sendTransaction")?.ledger.clone();
        if let Some(url) = ledger {
            let pool = sqlx::SqlitePool::connect(&url).await.unwrap();
            let written: i64 = sqlx::query_scalar(
                "SELECT count(*) FROM attempts a JOIN payments p ON p.digest = a.digest \
                 WHERE a.signature = ? AND a.wire = ? AND p.state IN ('signed', 'sent')",
            )
            .bind(signature.to_string())
            .bind(wire)
            .fetch_one(&pool)
            .await
            .unwrap();
            pool.close().await;
            self.state().written_ahead &= written == 1;
        }
        // Only now: from here on the follower may see it land.
        let mut state = self.state();
        state.sent.push(signature);
        if state.send_fails {
            return Err(ChainError {
                method: "sendTransaction",
                problem: "timed out".to_owned(),
            });
        }
        Ok(())
    }

    async fn statuses(
        &self,
        signatures: &[Signature],
        _history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError> {
        let state = self.up("getSignatureStatuses")?;
        let status = |signature: &Signature| {
            if !state.sent.contains(signature) {
                return None;
            }
            let (confirmed, error) = match &state.fate {
                Fate::Confirmed => (true, None),
                Fate::Processed => (false, None),
                Fate::Failed(json) => (true, Some(TransactionError { json: json.clone() })),
                Fate::Lost => return None,
            };
            Some(Status {
                slot: 99,
                confirmed,
                error,
            })
        };
        Ok(signatures.iter().map(status).collect())
    }
}
