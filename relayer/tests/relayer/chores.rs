//! A chain for what the relayer does beside payments: it executes distributions, openings and closings on the accounts
//! that it holds, and remembers what it was sent.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use bytemuck::Zeroable;
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use sluice_relayer::{
    Config, Relayer, RunningRelayer,
    chain::{Blockhash, CLOCK, Chain, ChainError, Depth, RawAccount, Status, TransactionError},
    keys::FeePayer,
};
use sluice_sdk::{
    Address, DEVNET_USDC, PROGRAM_ID,
    accounts::{AccountQuery, NONCE_IDLE_SECS, NonceAccount, Service, SluiceAccount, VERSION},
    address,
    token::{self, TOKEN_PROGRAM},
    transaction,
};
use solana_hash::Hash;
use solana_program_pack::Pack;
use solana_signature::Signature;
use spl_token_interface::state::{Account, AccountState};
use sqlx::{Connection, Row};

use crate::{
    fake::{Fate, LIFE, custom},
    postgres::{Store, connect},
    scene::{GENESIS, NOW, Scene, facilitator, key, keypair, raw, relayer, service},
};

/// What a nonce account costs here.
pub const RENT: u64 = 4_000_000;

/// A transaction that was sent.
#[derive(Clone, Debug)]
pub struct Sent {
    pub fee_payer: Address,
    /// Name and accounts of each instruction of the program.
    pub instructions: Vec<(&'static str, Vec<Address>)>,
    pub signatures: usize,
    pub len: usize,
}

pub struct State {
    pub accounts: HashMap<Address, RawAccount>,
    /// Every call fails.
    pub down: bool,
    pub fate: Fate,
    pub fates: HashMap<Signature, Fate>,
    /// Sends neither arrive nor come back.
    pub holds_sends: bool,
    /// Distributions of these services fail.
    pub broken: Vec<Address>,
    pub slot: u64,
    pub height: u64,
    pub blockhashes: u64,
    /// Every send, in order.
    pub sent: Vec<Signature>,
    pub wires: HashMap<Signature, Sent>,
    pub results: HashMap<Signature, Result<u64, Value>>,
    /// How often accounts were asked for.
    pub reads: u64,
    pub ledger: String,
    /// Sends of bytes that the ledger did not hold.
    pub not_written_ahead: Vec<Signature>,
}

pub struct ChoreChain(Mutex<State>);

const NAMES: [&str; 6] = [
    "distribute",
    "open_nonce",
    "close_nonce",
    "set_lane",
    "set_source",
    "settle",
];

fn name(data: &[u8]) -> &'static str {
    let is = |name: &&&str| Sha256::digest(format!("global:{name}"))[..8] == data[..8];
    NAMES.iter().find(is).unwrap()
}

fn read(wire: &[u8]) -> (Signature, Sent) {
    let transaction = transaction::from_wire(wire).unwrap();
    let keys = transaction.message.static_account_keys();
    let instructions = transaction
        .message
        .instructions()
        .iter()
        .filter(|instruction| keys[usize::from(instruction.program_id_index)] == PROGRAM_ID)
        .map(|instruction| {
            let accounts = instruction.accounts.iter();
            let accounts = accounts.map(|place| keys[usize::from(*place)]).collect();
            (name(&instruction.data), accounts)
        })
        .collect();
    let message = transaction.message.serialize();
    for (key, signature) in keys.iter().zip(&transaction.signatures) {
        assert!(signature.verify(key.as_ref(), &message), "{key}");
    }
    (
        transaction.signatures[0],
        Sent {
            fee_payer: keys[0],
            instructions,
            signatures: transaction.signatures.len(),
            len: wire.len(),
        },
    )
}

impl State {
    /// The transactions that were sent, each once, in the order of their first sends.
    pub fn transactions(&self) -> Vec<Signature> {
        let mut seen = Vec::new();
        for signature in &self.sent {
            if !seen.contains(signature) {
                seen.push(*signature);
            }
        }
        seen
    }

    pub fn units(&self, key: &Address) -> u64 {
        self.accounts.get(key).map_or(0, |account| {
            token::decode_account(&account.owner, &account.data)
                .unwrap()
                .amount
        })
    }

    pub fn put_units(&mut self, key: Address, owner: Address, units: u64) {
        self.accounts.insert(key, token_account(owner, units));
    }

    /// Pays into a service's vault, as anybody can.
    pub fn pay(&mut self, service: Address, units: u64) {
        let vault = vault_of(&service);
        let held = self.units(&vault);
        self.put_units(vault, service, held + units);
    }

    pub fn lamports(&self, key: &Address) -> u64 {
        self.accounts.get(key).map_or(0, |account| account.lamports)
    }

    pub fn nonce(&self, key: &Address) -> Option<NonceAccount> {
        let account = self.accounts.get(key)?;
        Some(NonceAccount::decode(&account.owner, &account.data).unwrap())
    }

    fn now(&self) -> i64 {
        i64::from_le_bytes(self.accounts[&CLOCK].data[32..40].try_into().unwrap())
    }

    /// Runs a transaction, once. All or nothing.
    fn execute(&mut self, signature: &Signature) -> Result<u64, Value> {
        if let Some(result) = self.results.get(signature) {
            return result.clone();
        }
        let before = self.accounts.clone();
        let sent = self.wires[signature].clone();
        self.slot += 1;
        let mut result = Ok(self.slot);
        for (name, accounts) in &sent.instructions {
            if let Err(code) = self.run(name, accounts) {
                result = Err(custom(code));
                self.accounts = before;
                break;
            }
        }
        let fee = 5_000 * sent.signatures as u64;
        if let Some(payer) = self.accounts.get_mut(&sent.fee_payer) {
            payer.lamports -= fee;
        }
        self.results.insert(*signature, result.clone());
        result
    }

    fn run(&mut self, name: &str, accounts: &[Address]) -> Result<(), u32> {
        match name {
            "distribute" => {
                let (service, vault) = (accounts[4], accounts[6]);
                if self.broken.contains(&service) {
                    return Err(112);
                }
                let units = self.units(&vault);
                if units == 0 {
                    return Err(114);
                }
                self.put_units(vault, service, 0);
                // Who gets what is the real program's business; here one recipient gets it all.
                let recipient = accounts[10];
                let had = self.units(&recipient);
                self.put_units(recipient, key(5), had + units);
            }
            "open_nonce" => {
                let (sponsor, payer, source, nonce) =
                    (accounts[0], accounts[1], accounts[4], accounts[5]);
                if self.accounts.contains_key(&nonce) {
                    return Err(181);
                }
                let account = nonce_account(payer, source, sponsor, self.slot, self.now());
                self.accounts.insert(nonce, account);
                self.accounts.get_mut(&sponsor).unwrap().lamports -= RENT;
            }
            "close_nonce" => {
                let (authority, nonce, rent_payer) = (accounts[0], accounts[1], accounts[2]);
                let account = self.nonce(&nonce).ok_or(134u32)?;
                let idle = self.now() - account.last_active > NONCE_IDLE_SECS;
                let payer = account.payer == authority.to_bytes();
                let sponsor = account.rent_payer == authority.to_bytes();
                if !(payer || sponsor && idle) {
                    return Err(126);
                }
                assert_eq!(account.rent_payer, rent_payer.to_bytes());
                let lamports = self.accounts.remove(&nonce).unwrap().lamports;
                self.accounts.get_mut(&rent_payer).unwrap().lamports += lamports;
            }
            _ => {}
        }
        Ok(())
    }
}

impl ChoreChain {
    pub fn new(scene: &Scene, ledger: &str) -> Self {
        let mut accounts: HashMap<Address, RawAccount> = scene.accounts().into_iter().collect();
        for owner in [key(5), key(6), key(9)] {
            accounts.insert(tokens_of(&owner), token_account(owner, 0));
        }
        accounts.insert(vault_of(&service()), token_account(service(), 0));
        Self(Mutex::new(State {
            accounts,
            down: false,
            fate: Fate::Confirmed,
            fates: HashMap::new(),
            holds_sends: false,
            broken: Vec::new(),
            slot: 100,
            height: 1_000,
            blockhashes: 0,
            sent: Vec::new(),
            wires: HashMap::new(),
            results: HashMap::new(),
            reads: 0,
            ledger: ledger.to_owned(),
            not_written_ahead: Vec::new(),
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

/// Whether a ledger holds these bytes.
async fn is_written(url: &str, signature: &Signature, wire: &[u8]) -> bool {
    let mut connection = connect(url).await;
    let row = sqlx::query("SELECT count(*) FROM chores WHERE signature = $1 AND wire = $2")
        .bind(signature.to_string())
        .bind(wire.to_vec())
        .fetch_one(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    row.get::<i64, _>(0) == 1
}

#[async_trait]
impl Chain for ChoreChain {
    async fn genesis_hash(&self) -> Result<Hash, ChainError> {
        Ok(Hash::new_from_array(GENESIS))
    }

    async fn accounts(
        &self,
        keys: &[Address],
        _depth: Depth,
    ) -> Result<Vec<Option<RawAccount>>, ChainError> {
        assert!(keys.len() <= 100);
        let mut state = self.up("getMultipleAccounts")?;
        state.reads += 1;
        let slot = state.slot;
        let look = |key: &Address| {
            let mut account = state.accounts.get(key).cloned()?;
            if *key == CLOCK {
                account.data[..8].copy_from_slice(&slot.to_le_bytes());
            }
            Some(account)
        };
        Ok(keys.iter().map(look).collect())
    }

    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError> {
        let mut state = self.up("getLatestBlockhash")?;
        state.blockhashes += 1;
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&state.blockhashes.to_le_bytes());
        Ok(Blockhash {
            hash: Hash::new_from_array(hash),
            last_valid_block_height: state.height + LIFE,
            slot: 0,
        })
    }

    async fn finalized_block_height(&self) -> Result<u64, ChainError> {
        Ok(self.up("getBlockHeight")?.height)
    }

    async fn send(&self, wire: &[u8]) -> Result<(), ChainError> {
        let (signature, sent) = read(wire);
        let (url, holds) = {
            let state = self.up("sendTransaction")?;
            (state.ledger.clone(), state.holds_sends)
        };
        if holds {
            std::future::pending::<()>().await;
        }
        let written = is_written(&url, &signature, wire).await;
        let mut state = self.state();
        if !written {
            state.not_written_ahead.push(signature);
        }
        state.sent.push(signature);
        state.wires.insert(signature, sent);
        Ok(())
    }

    async fn statuses(
        &self,
        signatures: &[Signature],
        _history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError> {
        let mut state = self.up("getSignatureStatuses")?;
        let mut status = |signature: &Signature| {
            if !state.wires.contains_key(signature) {
                return None;
            }
            let fate = state.fates.get(signature).unwrap_or(&state.fate).clone();
            let failed = |json: Value| Some(TransactionError { json });
            let (slot, confirmed, error) = match fate {
                Fate::Confirmed => match state.execute(signature) {
                    Ok(slot) => (slot, true, None),
                    Err(json) => (state.slot, true, failed(json)),
                },
                Fate::Processed => (state.slot, false, None),
                Fate::Failed(json) => (state.slot, true, failed(json)),
                Fate::Lost => return None,
            };
            Some(Status {
                slot,
                confirmed,
                finalized: false,
                error,
            })
        };
        Ok(signatures.iter().map(&mut status).collect())
    }

    async fn results(&self, _signature: &Signature) -> Result<Option<Vec<u8>>, ChainError> {
        Ok(None)
    }

    async fn is_blockhash_valid(&self, _hash: &Hash) -> Result<bool, ChainError> {
        Ok(true)
    }

    async fn simulate(&self, _wire: &[u8]) -> Result<Option<TransactionError>, ChainError> {
        Ok(None)
    }

    async fn takes(&self, _wire: &[u8]) -> bool {
        true
    }

    async fn program_accounts(&self, query: &AccountQuery) -> Result<Vec<Address>, ChainError> {
        let state = self.up("getProgramAccounts")?;
        let matches = |account: &RawAccount| {
            let key = account.data.get(query.offset..query.offset + 32);
            account.owner == PROGRAM_ID
                && account.data.starts_with(&query.discriminator)
                && key == Some(query.key.as_ref())
        };
        let found = state.accounts.iter().filter(|(_, a)| matches(a));
        Ok(found.map(|(key, _)| *key).collect())
    }

    async fn rent(&self, bytes: usize) -> Result<u64, ChainError> {
        assert_eq!(bytes, NonceAccount::size());
        Ok(RENT)
    }
}

/// A relayer with its HTTP on such a chain. It can die suddenly: everything that it runs on is gone at once.
pub struct World {
    pub chain: Arc<ChoreChain>,
    pub store: Arc<Store>,
    pub scene: Scene,
    runtime: Option<tokio::runtime::Runtime>,
    pub relayer: Option<RunningRelayer>,
}

impl World {
    pub async fn new(store: Store, scene: Scene, extra: &str) -> Self {
        let store = Arc::new(store);
        let chain = Arc::new(ChoreChain::new(&scene, store.url()));
        Self::of(store, chain, scene, extra).await
    }

    pub async fn of(store: Arc<Store>, chain: Arc<ChoreChain>, scene: Scene, extra: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let config = config(store.url(), extra);
        let node: Arc<dyn Chain> = Arc::clone(&chain) as _;
        let start = Relayer::start_with(config, node, vec![FeePayer::new(keypair(1))]);
        let relayer = runtime.spawn(start).await.unwrap().unwrap();
        Self {
            chain,
            store,
            scene,
            runtime: Some(runtime),
            relayer: Some(relayer),
        }
    }

    /// Ends the relayer without a word, as SIGKILL does.
    pub fn die(&mut self) {
        self.relayer = None;
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Ends it without a word, and starts another one.
    pub async fn reborn(mut self, extra: &str) -> Self {
        self.die();
        self.reborn_after_death(extra).await
    }

    /// Starts another one where the first has ended.
    pub async fn reborn_after_death(self, extra: &str) -> Self {
        let (store, chain) = (Arc::clone(&self.store), Arc::clone(&self.chain));
        Self::of(store, chain, self.scene.clone(), extra).await
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.chain.state()
    }

    pub async fn stop(mut self) {
        self.written_ahead();
        self.relayer.take().unwrap().stop().await;
        self.runtime.take().unwrap().shutdown_background();
    }

    #[track_caller]
    pub fn written_ahead(&self) {
        assert_eq!(self.state().not_written_ahead, []);
    }

    pub fn url(&self) -> String {
        self.relayer.as_ref().unwrap().url()
    }

    /// Waits until something holds.
    pub async fn until<F: Future<Output = bool>>(&self, what: &str, holds: impl Fn() -> F) {
        for _ in 0..4_000 {
            if holds().await {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("it never came: {what}");
    }

    /// Waits until the relayer has looked at the chain often enough to have seen whatever there is to see.
    pub async fn until_looked(&self) {
        let before = self.state().reads;
        let looked = || async { self.state().reads > before + 30 };
        self.until("looks at the chain", looked).await;
    }

    /// Waits until it has looked at all.
    pub async fn until_looked_once(&self) {
        let known = "SELECT count(*) FROM chore_targets";
        let looked = || async { self.store.count(known).await > 0 };
        self.until("a look at the chain", looked).await;
    }

    /// Waits until no transaction is open.
    pub async fn until_quiet(&self) {
        let quiet = || async {
            let open = "SELECT count(*) FROM chores WHERE state = 'signed'";
            self.store.count(open).await == 0
        };
        self.until("the end of every chore", quiet).await;
    }

    pub async fn chores(&self, state: &str) -> i64 {
        self.store
            .count(&format!(
                "SELECT count(*) FROM chores WHERE state = '{state}'"
            ))
            .await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // A runtime must not be dropped where others wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

fn config(url: &str, extra: &str) -> Config {
    Config::from_toml(&format!(
        r#"
        listen = "127.0.0.1:0"
        network = "solana-devnet"
        rpc_url = "http://127.0.0.1:9"
        database_url = "{url}"
        facilitator = "{}"
        fee_payer = {{ keypair = "unused" }}
        chain = {{ poll_ms = 10, rebroadcast_ms = 100, cache_ms = 1, blockhash_ms = 50 }}
        {extra}
        "#,
        facilitator()
    ))
    .unwrap()
}

pub fn tokens_of(owner: &Address) -> Address {
    address::token_account(owner, &DEVNET_USDC, &TOKEN_PROGRAM)
}

pub fn vault_of(service: &Address) -> Address {
    tokens_of(service)
}

pub fn token_account(owner: Address, units: u64) -> RawAccount {
    let account = Account {
        mint: DEVNET_USDC,
        owner,
        amount: units,
        state: AccountState::Initialized,
        ..Account::default()
    };
    let mut data = vec![0; Account::LEN];
    account.pack_into_slice(&mut data);
    RawAccount {
        owner: TOKEN_PROGRAM,
        lamports: 2_000_000,
        data,
    }
}

pub fn nonce_account(
    payer: Address,
    source: Address,
    sponsor: Address,
    slot: u64,
    now: i64,
) -> RawAccount {
    let mut nonce = NonceAccount::zeroed();
    nonce.version = VERSION;
    nonce.opened_slot = slot;
    nonce.last_active = now;
    nonce.payer = payer.to_bytes();
    nonce.mint = DEVNET_USDC.to_bytes();
    nonce.source = source.to_bytes();
    nonce.rent_payer = sponsor.to_bytes();
    RawAccount {
        lamports: RENT,
        ..raw(&nonce)
    }
}

/// Another service of the same facilitator, with as many recipients, who are all one wallet's accounts here.
pub fn service_of(scene: &Scene, id: u64, change: impl FnOnce(&mut Service)) -> (Address, Service) {
    let key = address::service(&key(5), id).0;
    let mut service = scene.service;
    service.id = id;
    service.vault = vault_of(&key).to_bytes();
    change(&mut service);
    service.terms_hash = service.compute_terms_hash(&key).unwrap();
    (key, service)
}

/// Puts a service with an empty vault on the chain.
pub fn add_service(world: &World, id: u64, change: impl FnOnce(&mut Service)) -> Address {
    let (key, service) = service_of(&world.scene, id, change);
    let mut state = world.state();
    state.accounts.insert(key, raw(&service));
    state.accounts.insert(vault_of(&key), token_account(key, 0));
    key
}

/// A wallet without lamports that holds units.
pub fn fund(world: &World, owner: Address, units: u64) {
    world.state().put_units(tokens_of(&owner), owner, units);
}

pub fn relayer_lamports(world: &World) -> u64 {
    world.state().lamports(&relayer())
}

/// The clock's second, for accounts that were last active before it.
pub const fn seconds_ago(seconds: i64) -> i64 {
    NOW - seconds
}

/// A body of a request.
pub async fn post(url: &str, body: &Value) -> (u16, Value) {
    let answer = reqwest::Client::new()
        .post(url)
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}

pub async fn get(url: &str) -> (u16, Value) {
    let answer = reqwest::get(url).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap())
}
