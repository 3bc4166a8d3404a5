//! What the chain says about one payment at one moment.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{LazyLock, Mutex},
    time::Duration,
};

use sluice_sdk::{
    Address, DecodeError, SYSTEM_PROGRAM,
    accounts::{AcceptedMint, Config, Facilitator, NonceAccount, Service, SluiceAccount},
    address,
    token::{self, Mint, TokenAccount},
};

use crate::chain::{CLOCK, ChainError, RawAccount, cache::Accounts, clock_time};

/// One account that a payment names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup<T> {
    /// Nothing is there.
    Missing,
    /// Something else is there.
    Wrong(DecodeError),
    /// It.
    Found(T),
}

impl<T> Lookup<T> {
    /// What was found.
    pub fn found(&self) -> Option<&T> {
        match self {
            Self::Found(value) => Some(value),
            _ => None,
        }
    }
}

/// The accounts that a payment is judged against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The chain's clock, unix seconds.
    pub now: i64,
    /// The program's config.
    pub config: Config,
    /// The relayer's facilitator.
    pub facilitator: Facilitator,
    /// The requirement's asset as an accepted mint.
    pub accepted: Lookup<AcceptedMint>,
    /// The mint itself, which its authorities can change at any time; `None` if it is none.
    pub mint: Option<Mint>,
    /// The requirement's payTo as a service.
    pub service: Lookup<Service>,
    /// The payload's nonce account.
    pub nonce: Lookup<NonceAccount>,
    /// The token account that the nonce account may pull from; `None` if it is not a usable one.
    pub source: Option<TokenAccount>,
}

/// Why there is no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// The chain could not be asked.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The deployment or the facilitator is not set up, so that nothing can be settled.
    #[error("not set up: {0}")]
    Setup(String),
}

/// What a snapshot is taken for.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The relayer's facilitator.
    pub facilitator: Address,
    /// Genesis hash of the cluster that the RPC serves.
    pub genesis_hash: [u8; 32],
    /// The service.
    pub service: Address,
    /// The mint.
    pub mint: Address,
    /// The nonce account.
    pub nonce_account: Address,
}

/// Takes snapshots.
///
/// A payment names its nonce account, and only that names the source: so the first look at a payer takes
/// two questions. The source is remembered, and one does from then on; a payer who sets another source
/// costs one more.
#[derive(Debug, Default)]
pub struct Snapshots {
    sources: Mutex<HashMap<Address, Address>>,
    mints: Mutex<HashMap<Address, Address>>,
    token_accounts: Mutex<HashMap<[Address; 3], Address>>,
}

/// Payers whose source is remembered; beyond it the memory starts anew.
const MAX_SOURCES: usize = 65_536;

impl Snapshots {
    /// Asks about a payment: accounts at most `max_age` old, and the unix millisecond (of this machine) that all of them
    /// are as young as.
    pub async fn take(
        &self,
        accounts: &Accounts,
        subject: &Subject,
        max_age: Duration,
    ) -> Result<(Snapshot, i64), SnapshotError> {
        let remembered = recall(&self.sources, &subject.nonce_account);
        let accepted = recall(&self.mints, &subject.mint).unwrap_or_else(|| {
            // Finding an address is a hundred times dearer than remembering it.
            let (address, _) = address::accepted_mint(&subject.mint);
            remember(&self.mints, subject.mint, address);
            address
        });
        let (snapshot, asked, source) =
            ask(accounts, subject, accepted, remembered, max_age).await?;
        if source == remembered || source.is_none() {
            return Ok((snapshot, asked));
        }
        let (snapshot, asked, source) = ask(accounts, subject, accepted, source, max_age).await?;
        if let Some(source) = source {
            remember(&self.sources, subject.nonce_account, source);
        }
        Ok((snapshot, asked))
    }

    /// The associated token account of `owner`, found once.
    pub fn token_account(
        &self,
        owner: &Address,
        mint: &Address,
        token_program: &Address,
    ) -> Address {
        let key = [*owner, *mint, *token_program];
        recall(&self.token_accounts, &key).unwrap_or_else(|| {
            let address = address::token_account(owner, mint, token_program);
            remember(&self.token_accounts, key, address);
            address
        })
    }
}

fn recall<K: Eq + Hash>(memory: &Mutex<HashMap<K, Address>>, key: &K) -> Option<Address> {
    memory.lock().ok()?.get(key).copied()
}

fn remember<K: Eq + Hash>(memory: &Mutex<HashMap<K, Address>>, key: K, value: Address) {
    if let Ok(mut memory) = memory.lock() {
        if memory.len() >= MAX_SOURCES {
            memory.clear();
        }
        memory.insert(key, value);
    }
}

/// The address of the program's config, found once.
pub(crate) fn config_address() -> Address {
    static CONFIG: LazyLock<Address> = LazyLock::new(|| address::config().0);
    *CONFIG
}

/// One question for everything. Gives the snapshot, its age, and the source that the nonce account names in it.
async fn ask(
    accounts: &Accounts,
    subject: &Subject,
    accepted: Address,
    source: Option<Address>,
    max_age: Duration,
) -> Result<(Snapshot, i64, Option<Address>), SnapshotError> {
    let mut keys = vec![
        CLOCK,
        config_address(),
        subject.facilitator,
        accepted,
        subject.mint,
        subject.service,
        subject.nonce_account,
    ];
    keys.extend(source);
    let view = accounts.get(&keys, max_age).await?;
    let mut accounts = view
        .accounts
        .iter()
        .map(|account| account.as_deref().filter(|account| exists(account)));
    let mut next = || accounts.next().flatten();

    let now = time(next())?;
    let config = needed::<Config>(next(), "the program's config", "initialise it")?;
    if config.genesis_hash != subject.genesis_hash {
        return Err(SnapshotError::Setup(genesis_mismatch(
            &config.genesis_hash,
            &subject.genesis_hash,
        )));
    }
    let facilitator = needed::<Facilitator>(
        next(),
        &format!("the facilitator account {}", subject.facilitator),
        "register it",
    )?;
    let accepted = lookup(next());
    let mint = next().and_then(|account| token::decode_mint(&account.owner, &account.data));
    let service = lookup(next());
    let nonce: Lookup<NonceAccount> = lookup(next());
    let named = nonce
        .found()
        .map(|nonce| Address::new_from_array(nonce.source));
    // A source that was remembered wrongly is not this payer's; the caller asks again.
    let account = next().filter(|_| source == named);
    let snapshot = Snapshot {
        now,
        config,
        facilitator,
        accepted,
        mint,
        service,
        nonce,
        source: account.and_then(|a| token::decode_account(&a.owner, &a.data)),
    };
    Ok((snapshot, view.asked_ms, named))
}

/// Whether something is there: an address that only ever received lamports holds no account.
pub(crate) fn exists(account: &RawAccount) -> bool {
    account.lamports > 0 || !account.data.is_empty()
}

/// Reads the chain's clock.
pub(crate) fn time(clock: Option<&RawAccount>) -> Result<i64, ChainError> {
    clock.and_then(clock_time).ok_or_else(|| ChainError {
        method: "getMultipleAccounts",
        problem: "the clock sysvar is not readable".to_owned(),
    })
}

/// Reads an account that a payment names.
pub(crate) fn lookup<T: SluiceAccount>(account: Option<&RawAccount>) -> Lookup<T> {
    match account {
        None => Lookup::Missing,
        Some(account) if account.data.is_empty() && account.owner == SYSTEM_PROGRAM => {
            Lookup::Missing
        }
        Some(account) => match T::decode(&account.owner, &account.data) {
            Ok(value) => Lookup::Found(value),
            Err(error) => Lookup::Wrong(error),
        },
    }
}

fn needed<T: SluiceAccount>(
    account: Option<&RawAccount>,
    what: &str,
    mend: &str,
) -> Result<T, SnapshotError> {
    match lookup(account) {
        Lookup::Found(value) => Ok(value),
        Lookup::Missing => Err(SnapshotError::Setup(format!(
            "{what} does not exist: {mend}"
        ))),
        Lookup::Wrong(error) => Err(SnapshotError::Setup(format!("{what}: {error}"))),
    }
}

/// The sentence for two clusters that are not one.
pub(crate) fn genesis_mismatch(config: &[u8; 32], rpc: &[u8; 32]) -> String {
    format!(
        "the program's config is for the cluster with genesis hash {}, and the RPC serves {}: set rpc_url to \
         the cluster of the deployment",
        Address::new_from_array(*config),
        Address::new_from_array(*rpc)
    )
}
