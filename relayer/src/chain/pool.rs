//! Several nodes as one: a node that fails is passed over, and nothing counts as dead that one of them may still know.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use async_trait::async_trait;
use sluice_sdk::{Address, accounts::AccountQuery};
use solana_hash::Hash;
use solana_signature::Signature;
use tokio::task::JoinSet;

use super::{Blockhash, Chain, ChainError, Depth, RawAccount, Status};

/// How long a node that failed is asked last.
const REST: Duration = Duration::from_secs(5);

/// Nodes of one cluster, the preferred one first.
pub struct ChainPool {
    nodes: Vec<Arc<dyn Chain>>,
    failed: Mutex<Vec<Option<Instant>>>,
}

impl ChainPool {
    /// A pool. There must be a node.
    pub fn new(nodes: Vec<Arc<dyn Chain>>) -> Self {
        Self {
            failed: Mutex::new(vec![None; nodes.len()]),
            nodes,
        }
    }

    /// The nodes in the order to ask them: those that failed a moment ago last.
    fn order(&self) -> Vec<usize> {
        let failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        let resting = |i: &usize| failed[*i].is_some_and(|at| at.elapsed() < REST);
        let (last, mut first): (Vec<usize>, Vec<usize>) = (0..self.nodes.len()).partition(resting);
        first.extend(last);
        first
    }

    fn note(&self, node: usize, failed: bool) {
        let mut all = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
        all[node] = failed.then(Instant::now);
    }

    /// The first answer that comes.
    async fn first<'a, T, F>(&'a self, ask: impl Fn(&'a dyn Chain) -> F) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, ChainError>> + 'a,
    {
        let mut problem = None;
        for node in self.order() {
            match ask(self.nodes[node].as_ref()).await {
                Ok(answer) => {
                    self.note(node, false);
                    return Ok(answer);
                }
                Err(error) => {
                    tracing::debug!(node, %error, "a node did not answer");
                    self.note(node, true);
                    problem = Some(error);
                }
            }
        }
        Err(problem.unwrap_or_else(none))
    }

    /// Every node's answer, at once.
    async fn all<T, F>(&self, ask: impl Fn(Arc<dyn Chain>) -> F) -> Vec<Result<T, ChainError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ChainError>> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        for (i, node) in self.nodes.iter().enumerate() {
            let call = ask(Arc::clone(node));
            calls.spawn(async move { (i, call.await) });
        }
        let mut answers = Vec::with_capacity(self.nodes.len());
        while let Some(call) = calls.join_next().await {
            match call {
                Ok((node, answer)) => {
                    self.note(node, answer.is_err());
                    answers.push(answer);
                }
                Err(_) => answers.push(Err(none())),
            }
        }
        answers
    }
}

fn none() -> ChainError {
    ChainError {
        method: "any",
        problem: "no node answered".to_owned(),
    }
}

#[async_trait]
impl Chain for ChainPool {
    /// The hash that every node that answers agrees on.
    async fn genesis_hash(&self) -> Result<Hash, ChainError> {
        let answers = self
            .all(|node| async move { node.genesis_hash().await })
            .await;
        let mut agreed: Option<Hash> = None;
        let mut problem = None;
        for answer in answers {
            match (answer, agreed) {
                (Ok(hash), Some(other)) if hash != other => {
                    return Err(ChainError {
                        method: "getGenesisHash",
                        problem: format!(
                            "the nodes are of different clusters: one has the genesis hash {hash}, another {other}: \
                             correct rpc_url or more_rpc_urls"
                        ),
                    });
                }
                (Ok(hash), _) => agreed = Some(hash),
                (Err(error), _) => problem = Some(error),
            }
        }
        agreed.ok_or_else(|| problem.unwrap_or_else(none))
    }

    async fn accounts(
        &self,
        keys: &[Address],
        depth: Depth,
    ) -> Result<Vec<Option<RawAccount>>, ChainError> {
        self.first(|node| node.accounts(keys, depth)).await
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        self.first(|node| node.latest_blockhash()).await
    }

    /// The lowest of all nodes: each of them is asked afterwards what it knows of a transaction, and a node that lags
    /// behind can say nothing about the blocks that it has not seen.
    async fn finalized_block_height(&self) -> Result<u64, ChainError> {
        let answers = self
            .all(|node| async move { node.finalized_block_height().await })
            .await;
        let mut lowest: Option<u64> = None;
        for answer in answers {
            let height = answer?;
            lowest = Some(lowest.map_or(height, |other| other.min(height)));
        }
        lowest.ok_or_else(none)
    }

    /// The latest of all nodes: nothing is dead as long as one of them may have forgotten it.
    async fn first_slot(&self) -> Result<u64, ChainError> {
        let answers = self.all(|node| async move { node.first_slot().await });
        let mut latest: Option<u64> = None;
        for answer in answers.await {
            let slot = answer?;
            latest = Some(latest.map_or(slot, |other| other.max(slot)));
        }
        latest.ok_or_else(none)
    }

    /// By every node: one that takes it is enough.
    async fn send(&self, wire: &[u8]) -> Result<(), ChainError> {
        let wire = Arc::new(wire.to_vec());
        let answers = self
            .all(|node| {
                let wire = Arc::clone(&wire);
                async move { node.send(&wire).await }
            })
            .await;
        let mut problem = None;
        for answer in answers {
            match answer {
                Ok(()) => return Ok(()),
                Err(error) => problem = Some(error),
            }
        }
        Err(problem.unwrap_or_else(none))
    }

    /// Of the first node that answers; with history of all, where one that knows a transaction outweighs those that do
    /// not, and one that does not answer leaves everything open.
    async fn statuses(
        &self,
        signatures: &[Signature],
        history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError> {
        if !history || self.nodes.len() == 1 {
            return self.first(|node| node.statuses(signatures, history)).await;
        }
        let asked = Arc::new(signatures.to_vec());
        let answers = self
            .all(|node| {
                let asked = Arc::clone(&asked);
                async move { node.statuses(&asked, true).await }
            })
            .await;
        let mut known: Vec<Option<Status>> = vec![None; signatures.len()];
        for answer in answers {
            for (best, status) in known.iter_mut().zip(answer?) {
                let better = match (&best, &status) {
                    (None, Some(_)) => true,
                    (Some(old), Some(new)) => {
                        (new.finalized, new.confirmed) > (old.finalized, old.confirmed)
                    }
                    _ => false,
                };
                if better {
                    *best = status;
                }
            }
        }
        Ok(known)
    }

    /// By any node: the client may have asked one that is ahead.
    async fn is_blockhash_valid(&self, hash: &Hash) -> Result<bool, ChainError> {
        let mut problem = None;
        let mut answered = false;
        for node in self.order() {
            match self.nodes[node].is_blockhash_valid(hash).await {
                Ok(true) => return Ok(true),
                Ok(false) => answered = true,
                Err(error) => {
                    self.note(node, true);
                    problem = Some(error);
                }
            }
        }
        match problem {
            Some(error) if !answered => Err(error),
            _ => Ok(false),
        }
    }

    async fn simulate(&self, wire: &[u8]) -> Result<Option<super::TransactionError>, ChainError> {
        self.first(|node| node.simulate(wire)).await
    }

    async fn results(&self, signature: &Signature) -> Result<Option<Vec<u8>>, ChainError> {
        let mut problem = None;
        for node in self.order() {
            match self.nodes[node].results(signature).await {
                Ok(Some(codes)) => return Ok(Some(codes)),
                // Another node may have it already.
                Ok(None) => {}
                Err(error) => {
                    self.note(node, true);
                    problem = Some(error);
                }
            }
        }
        problem.map_or(Ok(None), Err)
    }

    async fn takes(&self, wire: &[u8]) -> bool {
        let wire = Arc::new(wire.to_vec());
        let answers = self
            .all(|node| {
                let wire = Arc::clone(&wire);
                async move { Ok(node.takes(&wire).await) }
            })
            .await;
        // One that cannot read it would not send it on.
        answers.into_iter().all(|answer| answer.unwrap_or(false))
    }

    async fn program_accounts(&self, query: &AccountQuery) -> Result<Vec<Address>, ChainError> {
        self.first(|node| node.program_accounts(query)).await
    }

    async fn rent(&self, bytes: usize) -> Result<u64, ChainError> {
        self.first(|node| node.rent(bytes)).await
    }

    async fn recent_prices(&self, accounts: &[Address]) -> Result<Vec<u64>, ChainError> {
        self.first(|node| node.recent_prices(accounts)).await
    }
}
