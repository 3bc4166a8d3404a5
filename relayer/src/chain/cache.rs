//! Accounts as they were a moment ago.
//!
//! A request asks for what it needs and takes what is fresh enough; what is not is fetched together with what all other
//! requests miss at that moment. So the number of calls depends on how fast the chain moves and not on how many
//! payments come in, and a warm relayer judges without asking anybody.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use sluice_sdk::Address;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
};

use super::{Chain, ChainError, Depth, RawAccount};
use crate::ledger::unix_millis;

/// Most accounts that one call may name.
const MAX_ACCOUNTS: usize = 100;
/// Rounds of calls at once.
const ROUNDS: usize = 4;
/// Most accounts that are remembered; beyond it, what is stale is forgotten.
const MAX_REMEMBERED: usize = 200_000;
/// After this long nobody wants it any more.
const FORGET: Duration = Duration::from_secs(120);

/// An account at a moment.
#[derive(Clone, Debug)]
struct Seen {
    account: Option<Arc<RawAccount>>,
    /// When it was asked for: what happened later it may not show.
    asked: Instant,
    asked_ms: i64,
}

/// Accounts, with the moment that all of them are at least as young as.
#[derive(Clone, Debug)]
pub struct View {
    /// In the order of the question.
    pub accounts: Vec<Option<Arc<RawAccount>>>,
    /// Unix milliseconds of this machine's clock.
    pub asked_ms: i64,
}

struct Want {
    keys: Vec<Address>,
    answer: oneshot::Sender<Result<(), ChainError>>,
}

/// Reads accounts, at most so old.
pub struct Accounts {
    seen: Arc<Mutex<HashMap<Address, Seen>>>,
    wants: mpsc::UnboundedSender<Want>,
}

impl Accounts {
    /// A cache in front of `chain`. Its task ends with it.
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        let seen = Arc::new(Mutex::new(HashMap::new()));
        let (wants, queue) = mpsc::unbounded_channel();
        tokio::spawn(load(chain, Arc::clone(&seen), queue));
        Self { seen, wants }
    }

    /// Accounts that were asked for at most `max_age` ago.
    pub async fn get(&self, keys: &[Address], max_age: Duration) -> Result<View, ChainError> {
        // What is asked for from here on is young enough, however long the answer takes.
        let begun = Instant::now();
        loop {
            let missing = match self.fresh(keys, begun, max_age) {
                Ok(view) => return Ok(view),
                Err(missing) => missing,
            };
            let (answer, answered) = oneshot::channel();
            let want = Want {
                keys: missing,
                answer,
            };
            self.wants.send(want).map_err(|_| stopped())?;
            answered.await.map_err(|_| stopped())??;
        }
    }

    /// Makes the next question for these accounts go to the chain.
    pub fn forget(&self, keys: &[Address]) {
        let mut seen = lock(&self.seen);
        for key in keys {
            seen.remove(key);
        }
    }

    fn fresh(
        &self,
        keys: &[Address],
        begun: Instant,
        max_age: Duration,
    ) -> Result<View, Vec<Address>> {
        let seen = lock(&self.seen);
        let mut view = View {
            accounts: Vec::with_capacity(keys.len()),
            asked_ms: i64::MAX,
        };
        let mut missing = Vec::new();
        let young = |seen: &&Seen| begun.saturating_duration_since(seen.asked) <= max_age;
        for key in keys {
            match seen.get(key).filter(young) {
                Some(seen) => {
                    view.accounts.push(seen.account.clone());
                    view.asked_ms = view.asked_ms.min(seen.asked_ms);
                }
                None => missing.push(*key),
            }
        }
        if missing.is_empty() {
            Ok(view)
        } else {
            Err(missing)
        }
    }
}

fn stopped() -> ChainError {
    ChainError {
        method: "getMultipleAccounts",
        problem: "the relayer is stopping".to_owned(),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked with it left a map that is a map.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn load(
    chain: Arc<dyn Chain>,
    seen: Arc<Mutex<HashMap<Address, Seen>>>,
    mut queue: mpsc::UnboundedReceiver<Want>,
) {
    let rounds = Arc::new(Semaphore::new(ROUNDS));
    let mut wants = Vec::new();
    loop {
        let Ok(round) = Arc::clone(&rounds).acquire_owned().await else {
            return;
        };
        if queue.recv_many(&mut wants, usize::MAX).await == 0 {
            return;
        }
        let (chain, seen) = (Arc::clone(&chain), Arc::clone(&seen));
        let wants = std::mem::take(&mut wants);
        tokio::spawn(async move {
            let keys: HashSet<Address> = wants.iter().flat_map(|want| want.keys.clone()).collect();
            let keys: Vec<Address> = keys.into_iter().collect();
            let outcome = fetch(chain, &seen, &keys).await;
            drop(round);
            for want in wants {
                let _ = want.answer.send(outcome.clone());
            }
        });
    }
}

async fn fetch(
    chain: Arc<dyn Chain>,
    seen: &Mutex<HashMap<Address, Seen>>,
    keys: &[Address],
) -> Result<(), ChainError> {
    let mut calls = JoinSet::new();
    for chunk in keys.chunks(MAX_ACCOUNTS) {
        let (chain, chunk) = (Arc::clone(&chain), chunk.to_vec());
        calls.spawn(async move {
            let (asked, asked_ms) = (Instant::now(), unix_millis());
            let accounts = chain.accounts(&chunk, Depth::Confirmed).await?;
            Ok::<_, ChainError>((chunk, accounts, asked, asked_ms))
        });
    }
    let mut outcome = Ok(());
    while let Some(call) = calls.join_next().await {
        match call {
            Ok(Ok((chunk, accounts, asked, asked_ms))) => {
                let mut seen = lock(seen);
                if seen.len() + chunk.len() > MAX_REMEMBERED {
                    seen.retain(|_, old| old.asked.elapsed() < FORGET);
                }
                for (key, account) in chunk.into_iter().zip(accounts) {
                    let new = Seen {
                        account: account.map(Arc::new),
                        asked,
                        asked_ms,
                    };
                    // Two rounds may cross: the younger one wins.
                    match seen.get(&key) {
                        Some(old) if old.asked > asked => {}
                        _ => {
                            seen.insert(key, new);
                        }
                    }
                }
            }
            Ok(Err(error)) => outcome = Err(error),
            Err(_) => outcome = Err(stopped()),
        }
    }
    outcome
}
