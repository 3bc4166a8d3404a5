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
/// Most accounts that are remembered; beyond it, what is stale is forgotten, and everything if that is not enough:
/// whoever makes up addresses must not fill the memory, nor have it searched again and again.
const MAX_REMEMBERED: usize = 200_000;
/// Most bytes of them, likewise: an address may name an account of any size.
const MAX_BYTES: usize = 128 * 1024 * 1024;
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

#[derive(Debug, Default)]
struct Memory {
    seen: HashMap<Address, Seen>,
    /// Of all accounts in it.
    bytes: usize,
}

impl Seen {
    fn bytes(&self) -> usize {
        self.account
            .as_ref()
            .map_or(0, |account| account.data.len())
    }
}

impl Memory {
    fn put(&mut self, key: Address, new: Seen) {
        // Two rounds may cross: the younger one wins.
        if self.seen.get(&key).is_some_and(|old| old.asked > new.asked) {
            return;
        }
        self.bytes += new.bytes();
        if let Some(old) = self.seen.insert(key, new) {
            self.bytes -= old.bytes();
        }
    }

    fn remove(&mut self, key: &Address) {
        if let Some(old) = self.seen.remove(key) {
            self.bytes -= old.bytes();
        }
    }

    fn make_room(&mut self) {
        let over = |memory: &Self, part| {
            memory.seen.len() > MAX_REMEMBERED / part || memory.bytes > MAX_BYTES / part
        };
        if !over(self, 1) {
            return;
        }
        self.seen.retain(|_, old| old.asked.elapsed() < FORGET);
        self.bytes = self.seen.values().map(Seen::bytes).sum();
        if over(self, 2) {
            *self = Self::default();
        }
    }
}

struct Want {
    keys: Vec<Address>,
    answer: oneshot::Sender<Result<(), ChainError>>,
}

/// Reads accounts, at most so old.
pub struct Accounts {
    seen: Arc<Mutex<Memory>>,
    wants: mpsc::UnboundedSender<Want>,
}

impl Accounts {
    /// A cache in front of `chain`. Its task ends with it.
    pub fn new(chain: Arc<dyn Chain>) -> Self {
        let seen = Arc::new(Mutex::new(Memory::default()));
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
            match seen.seen.get(key).filter(young) {
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
    seen: Arc<Mutex<Memory>>,
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
    seen: &Mutex<Memory>,
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
                seen.make_room();
                for (key, account) in chunk.into_iter().zip(accounts) {
                    let new = Seen {
                        account: account.map(Arc::new),
                        asked,
                        asked_ms,
                    };
                    seen.put(key, new);
                }
            }
            Ok(Err(error)) => outcome = Err(error),
            Err(_) => outcome = Err(stopped()),
        }
    }
    outcome
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    fn seen(bytes: usize) -> Seen {
        Seen {
            account: Some(Arc::new(RawAccount {
                owner: Address::new_from_array([1; 32]),
                lamports: 1,
                data: vec![0; bytes],
            })),
            asked: Instant::now(),
            asked_ms: 0,
        }
    }

    fn key(number: usize) -> Address {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        Address::new_from_array(key)
    }

    #[test]
    fn made_up_addresses_do_not_fill_the_memory() {
        let mut memory = Memory::default();
        let nothing = Seen {
            account: None,
            ..seen(0)
        };
        for number in 0..MAX_REMEMBERED * 2 {
            memory.make_room();
            memory.put(key(number), nothing.clone());
            assert!(memory.seen.len() <= MAX_REMEMBERED + 1);
        }
    }

    #[test]
    fn large_accounts_do_not_either() {
        let mut memory = Memory::default();
        let large = seen(1024 * 1024);
        for number in 0..1_000 {
            memory.make_room();
            memory.put(key(number), large.clone());
            assert!(memory.bytes <= MAX_BYTES + 1024 * 1024);
        }
        assert!(!memory.seen.is_empty());
        for number in 0..1_000 {
            memory.put(key(number), seen(1));
        }
        assert_eq!(memory.bytes, 1_000);
        for number in 0..1_000 {
            memory.remove(&key(number));
        }
        assert_eq!(memory.bytes, 0);
    }
}
