//! Several nodes as one: a node that fails or is slow is passed over, one of another cluster is not asked at all, and
//! nothing counts as dead that one of them may still know.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use futures_util::{StreamExt, stream::FuturesUnordered};
use sluice_sdk::{Address, accounts::AccountQuery};
use solana_hash::Hash;
use solana_signature::Signature;
use tokio::task::JoinSet;

use super::{Blockhash, Chain, ChainError, Depth, RawAccount, Status};

/// How long a node that failed is asked last.
const REST: Duration = Duration::from_secs(5);
/// How long a node may take before another is asked beside it.
const PATIENCE: Duration = Duration::from_millis(500);

/// Nodes of one cluster, the preferred one first.
///
/// The first [`Chain::genesis_hash`] that succeeds settles which cluster that is; each later one looks again.
pub struct ChainPool {
    nodes: Vec<Arc<Node>>,
    cluster: OnceLock<Hash>,
    turn: AtomicUsize,
}

/// Which cluster a node is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cluster {
    /// Not known: it was not asked, or has failed since.
    Unknown,
    Ours,
    Another,
}

struct Node {
    chain: Arc<dyn Chain>,
    state: Mutex<(Cluster, Option<Instant>)>,
}

impl Node {
    fn lock(&self) -> MutexGuard<'_, (Cluster, Option<Instant>)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cluster(&self) -> Cluster {
        self.lock().0
    }

    fn rests(&self) -> bool {
        self.lock().1.is_some_and(|at| at.elapsed() < REST)
    }

    /// Notes whether it answered. What comes up again may be another node.
    fn note(&self, failed: bool) {
        let mut state = self.lock();
        state.1 = failed.then(Instant::now);
        if failed && state.0 == Cluster::Ours {
            state.0 = Cluster::Unknown;
        }
    }

    fn is_of(&self, cluster: Cluster) {
        let old = std::mem::replace(&mut self.lock().0, cluster);
        if old != Cluster::Another && cluster == Cluster::Another {
            tracing::error!(
                event = "node_of_another_cluster",
                "a node serves another cluster: it is not asked until it serves this one; correct rpc_url or \
                 more_rpc_urls"
            );
        } else if old == Cluster::Another && cluster == Cluster::Ours {
            tracing::info!(event = "node_back", "a node serves this cluster again");
        }
    }

    /// Makes sure that it is of this cluster; `anew` even if it was a moment ago.
    async fn vouch(&self, cluster: Option<Hash>, anew: bool) -> Result<(), ChainError> {
        let Some(cluster) = cluster else {
            return Ok(());
        };
        if !anew && self.cluster() == Cluster::Ours {
            return Ok(());
        }
        let found = self.chain.genesis_hash().await?;
        if found == cluster {
            self.is_of(Cluster::Ours);
            Ok(())
        } else {
            self.is_of(Cluster::Another);
            Err(strange())
        }
    }
}

/// No node gave a good answer.
struct Worse<T> {
    /// An answer that was not good.
    poor: Option<T>,
    /// Why one did not answer.
    problem: Option<ChainError>,
}

impl<T> Worse<T> {
    fn problem(self) -> ChainError {
        self.problem.unwrap_or_else(strange)
    }
}

impl ChainPool {
    /// A pool. There must be a node.
    pub fn new(nodes: Vec<Arc<dyn Chain>>) -> Self {
        let node = |chain| {
            Arc::new(Node {
                chain,
                state: Mutex::new((Cluster::Unknown, None)),
            })
        };
        Self {
            nodes: nodes.into_iter().map(node).collect(),
            cluster: OnceLock::new(),
            turn: AtomicUsize::new(0),
        }
    }

    /// The nodes in the order to ask them: those that failed a moment ago last, those of another cluster not at all.
    fn order(&self) -> Vec<&Arc<Node>> {
        let ours = self
            .nodes
            .iter()
            .filter(|node| node.cluster() != Cluster::Another);
        let (last, mut first): (Vec<_>, Vec<_>) = ours.partition(|node| node.rests());
        first.extend(last);
        first
    }

    /// The first answer that comes.
    async fn first<'a, T, F>(
        &'a self,
        order: Vec<&'a Arc<Node>>,
        ask: impl Fn(&'a dyn Chain) -> F,
    ) -> Result<T, ChainError>
    where
        F: Future<Output = Result<T, ChainError>> + 'a,
    {
        let best = self.best(order, ask, |_| true).await;
        best.map_err(Worse::problem)
    }

    /// The first answer that is good.
    ///
    /// The next node is asked when one has failed, or has taken its time.
    async fn best<'a, T, F>(
        &'a self,
        order: Vec<&'a Arc<Node>>,
        ask: impl Fn(&'a dyn Chain) -> F,
        good: impl Fn(&T) -> bool,
    ) -> Result<T, Worse<T>>
    where
        F: Future<Output = Result<T, ChainError>> + 'a,
    {
        let cluster = self.cluster.get().copied();
        let mut nodes = order.iter().copied().enumerate();
        let mut calls = FuturesUnordered::new();
        let (mut poor, mut problem) = (None, None);
        let (mut more, mut due) = (true, true);
        loop {
            if std::mem::take(&mut due) {
                match nodes.next() {
                    Some((place, node)) => {
                        let call = ask(node.chain.as_ref());
                        calls.push(async move {
                            let answer = match node.vouch(cluster, false).await {
                                Ok(()) => call.await,
                                Err(error) => Err(error),
                            };
                            (place, node, answer)
                        });
                    }
                    None => more = false,
                }
            }
            if calls.is_empty() && !more {
                break;
            }
            tokio::select! {
                biased;
                Some((place, node, answer)) = calls.next() => match answer {
                    Ok(answer) => {
                        node.note(false);
                        if good(&answer) {
                            // Whoever was asked before and has not answered is slow.
                            let waiting = order.iter().take(place);
                            for slow in waiting.filter(|slow| !slow.rests()) {
                                slow.note(true);
                            }
                            return Ok(answer);
                        }
                        poor = Some(answer);
                        due = true;
                    }
                    Err(error) => {
                        tracing::debug!(place, %error, "a node did not answer");
                        node.note(true);
                        problem = Some(error);
                        due = true;
                    }
                },
                () = tokio::time::sleep(PATIENCE), if more => due = true,
            }
        }
        Err(Worse { poor, problem })
    }

    /// The answer of every node that is not of another cluster, at once. `anew` asks each for its cluster first.
    async fn all<T, F>(
        &self,
        anew: bool,
        ask: impl Fn(Arc<dyn Chain>) -> F,
    ) -> Vec<Result<T, ChainError>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ChainError>> + Send + 'static,
    {
        let mut calls = self.calls(anew, ask);
        let mut answers = Vec::with_capacity(self.nodes.len());
        while let Some(call) = calls.join_next().await {
            match call {
                // Of another cluster: what it says is about something else.
                Ok(None) => {}
                Ok(Some(answer)) => answers.push(answer),
                Err(_) => answers.push(Err(none())),
            }
        }
        answers
    }

    fn calls<T, F>(
        &self,
        anew: bool,
        ask: impl Fn(Arc<dyn Chain>) -> F,
    ) -> JoinSet<Option<Result<T, ChainError>>>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ChainError>> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        let cluster = self.cluster.get().copied();
        for node in self.order() {
            let call = ask(Arc::clone(&node.chain));
            let node = Arc::clone(node);
            calls.spawn(async move {
                let answer = match node.vouch(cluster, anew).await {
                    Ok(()) => call.await,
                    Err(_) if node.cluster() == Cluster::Another => return None,
                    Err(error) => Err(error),
                };
                node.note(answer.is_err());
                Some(answer)
            });
        }
        calls
    }
}

fn none() -> ChainError {
    ChainError {
        method: "any",
        problem: "no node answered".to_owned(),
    }
}

fn strange() -> ChainError {
    ChainError {
        method: "getGenesisHash",
        problem: "the node serves another cluster: correct rpc_url or more_rpc_urls".to_owned(),
    }
}

#[async_trait]
impl Chain for ChainPool {
    /// At first the hash that every node that answers agrees on. Later the same, as long as one of them serves it, and
    /// another one only if none does.
    async fn genesis_hash(&self) -> Result<Hash, ChainError> {
        let mut calls = JoinSet::new();
        for node in &self.nodes {
            let node = Arc::clone(node);
            calls.spawn(async move {
                let answer = node.chain.genesis_hash().await;
                (node, answer)
            });
        }
        let (mut found, mut problem) = (Vec::new(), None);
        while let Some(call) = calls.join_next().await {
            let Ok((node, answer)) = call else {
                problem = Some(none());
                continue;
            };
            match answer {
                Ok(hash) => found.push((node, hash)),
                Err(error) => {
                    node.note(true);
                    problem = Some(error);
                }
            }
        }
        let Some((_, first)) = found.first() else {
            return Err(problem.unwrap_or_else(none));
        };
        let first = *first;
        let cluster = match self.cluster.get() {
            Some(cluster) => *cluster,
            None => {
                if let Some((_, other)) = found.iter().find(|(_, hash)| *hash != first) {
                    return Err(ChainError {
                        method: "getGenesisHash",
                        problem: format!(
                            "the nodes are of different clusters: one has the genesis hash {first}, another {other}: \
                             correct rpc_url or more_rpc_urls"
                        ),
                    });
                }
                *self.cluster.get_or_init(|| first)
            }
        };
        for (node, hash) in &found {
            node.is_of(if *hash == cluster {
                Cluster::Ours
            } else {
                Cluster::Another
            });
        }
        let ours = found.iter().any(|(_, hash)| *hash == cluster);
        Ok(if ours { cluster } else { first })
    }

    async fn accounts(
        &self,
        keys: &[Address],
        depth: Depth,
    ) -> Result<Vec<Option<RawAccount>>, ChainError> {
        self.first(self.order(), |node| node.accounts(keys, depth))
            .await
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        self.first(self.order(), |node| node.latest_blockhash())
            .await
    }

    /// The earliest of all nodes: each of them is searched, and one that reaches back far enough is enough.
    async fn first_slot(&self) -> Result<u64, ChainError> {
        let answers = self
            .all(true, |node| async move { node.first_slot().await })
            .await;
        let mut earliest: Option<u64> = None;
        let mut problem = None;
        for answer in answers {
            match answer {
                Ok(slot) => earliest = Some(earliest.map_or(slot, |other| other.min(slot))),
                Err(error) => problem = Some(error),
            }
        }
        earliest.ok_or_else(|| problem.unwrap_or_else(none))
    }

    /// The lowest of all nodes: each of them is asked afterwards what it knows of a transaction, and a node that lags
    /// behind can say nothing about the blocks that it has not seen.
    async fn finalized_block_height(&self) -> Result<u64, ChainError> {
        let answers = self
            .all(
                true,
                |node| async move { node.finalized_block_height().await },
            )
            .await;
        let mut lowest: Option<u64> = None;
        for answer in answers {
            let height = answer?;
            lowest = Some(lowest.map_or(height, |other| other.min(height)));
        }
        lowest.ok_or_else(none)
    }

    /// By every node: one that takes it is enough, and the others are not waited for.
    async fn send(&self, wire: &[u8]) -> Result<(), ChainError> {
        let wire = Arc::new(wire.to_vec());
        let mut calls = self.calls(false, |node| {
            let wire = Arc::clone(&wire);
            async move { node.send(&wire).await }
        });
        let mut problem = None;
        while let Some(call) = calls.join_next().await {
            match call {
                Ok(Some(Ok(()))) => {
                    calls.detach_all();
                    return Ok(());
                }
                Ok(Some(Err(error))) => problem = Some(error),
                Ok(None) => problem = problem.or_else(|| Some(strange())),
                Err(_) => problem = Some(none()),
            }
        }
        Err(problem.unwrap_or_else(strange))
    }

    /// Of one node, each time another, so that one that lags behind or lies does not hide what landed for long; with
    /// history of all, where one that knows a transaction outweighs those that do not, and one that does not answer leaves
    /// everything open.
    async fn statuses(
        &self,
        signatures: &[Signature],
        history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError> {
        if !history {
            let mut order = self.order();
            let well = order.iter().filter(|node| !node.rests()).count().max(1);
            let turn = self.turn.fetch_add(1, Ordering::Relaxed) % well;
            if let Some(well) = order.get_mut(..well) {
                well.rotate_left(turn);
            }
            return self
                .first(order, |node| node.statuses(signatures, false))
                .await;
        }
        let asked = Arc::new(signatures.to_vec());
        let answers = self
            .all(true, |node| {
                let asked = Arc::clone(&asked);
                async move { node.statuses(&asked, true).await }
            })
            .await;
        if answers.is_empty() {
            return Err(strange());
        }
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

    /// By any node: the client may have asked one that is ahead. One that answers is enough for "no".
    async fn is_blockhash_valid(&self, hash: &Hash) -> Result<bool, ChainError> {
        let best = self.best(
            self.order(),
            |node| node.is_blockhash_valid(hash),
            |valid| *valid,
        );
        match best.await {
            Ok(_) => Ok(true),
            Err(Worse {
                poor: Some(answer), ..
            }) => Ok(answer),
            Err(worse) => Err(worse.problem()),
        }
    }

    async fn simulate(&self, wire: &[u8]) -> Result<Option<super::TransactionError>, ChainError> {
        self.first(self.order(), |node| node.simulate(wire)).await
    }

    /// Of the first node that has them. Where none has, and one did not answer, that is not known.
    async fn results(&self, signature: &Signature) -> Result<Option<Vec<u8>>, ChainError> {
        let best = self.best(
            self.order(),
            |node| node.results(signature),
            Option::is_some,
        );
        match best.await {
            Ok(codes) => Ok(codes),
            Err(Worse {
                poor: Some(answer),
                problem: None,
            }) => Ok(answer),
            Err(worse) => Err(worse.problem()),
        }
    }

    async fn takes(&self, wire: &[u8]) -> bool {
        let wire = Arc::new(wire.to_vec());
        let answers = self
            .all(false, |node| {
                let wire = Arc::clone(&wire);
                async move { Ok(node.takes(&wire).await) }
            })
            .await;
        // One that cannot read it would not send it on.
        answers.into_iter().all(|answer| answer.unwrap_or(false))
    }

    async fn program_accounts(&self, query: &AccountQuery) -> Result<Vec<Address>, ChainError> {
        self.first(self.order(), |node| node.program_accounts(query))
            .await
    }

    async fn rent(&self, bytes: usize) -> Result<u64, ChainError> {
        self.first(self.order(), |node| node.rent(bytes)).await
    }

    async fn recent_prices(&self, accounts: &[Address]) -> Result<Vec<u64>, ChainError> {
        self.first(self.order(), |node| node.recent_prices(accounts))
            .await
    }
}
