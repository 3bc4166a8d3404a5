//! A chain that does what a test tells it, and remembers what it was sent.
//!
//! It keeps the one promise that the relayer builds on: a nonce is used once, whatever is sent.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use serde_json::{Value, json};
use sluice_intent::signature::verify_bytes;
use sluice_intent::{ENTRY_LEN, Entry, Skip};
use sluice_relayer::chain::{
    Blockhash, Chain, ChainError, Depth, RawAccount, Status, TransactionError,
};
use sluice_sdk::{Address, PROGRAM_ID, program_error, transaction, x402::message_digest};
use solana_hash::Hash;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use sqlx::{Connection, Row};

use crate::{
    postgres::connect,
    scene::{GENESIS, Scene},
};

/// What becomes of a transaction that was sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Fate {
    /// It lands; what the program makes of each payment is in [`State::codes`].
    Confirmed,
    /// In a block that is not voted for yet.
    Processed,
    /// It lands, and fails as a whole.
    Failed(Value),
    /// Sent into the void.
    Lost,
}

/// A transaction that was sent.
#[derive(Clone, Debug)]
pub struct Wire {
    pub fee_payer: Address,
    pub strict: bool,
    /// Nonce account and nonce of each entry.
    pub payments: Vec<(Address, u64)>,
    pub blockhash: Hash,
    pub len: usize,
}

impl Wire {
    pub fn nonces(&self) -> Vec<u64> {
        self.payments.iter().map(|(_, nonce)| *nonce).collect()
    }
}

pub struct State {
    pub accounts: HashMap<Address, RawAccount>,
    /// Every call fails.
    pub down: bool,
    /// Sends fail, although the transaction leaves.
    pub send_fails: bool,
    pub fate: Fate,
    /// The fate of transactions that fare otherwise.
    pub fates: HashMap<Signature, Fate>,
    /// The fate of transactions with so many payments or more, where it differs.
    pub large: Option<(usize, Fate)>,
    /// The program's code for a payment with this nonce, instead of 0.
    pub codes: HashMap<u64, u8>,
    /// What landed is final.
    pub finalized: bool,
    /// The slot of what landed elsewhere than in 99.
    pub slots: HashMap<Signature, u64>,
    /// The first slot whose transactions the node can find.
    pub first_slot: u64,
    /// The cluster.
    pub genesis: [u8; 32],
    /// How often each method was called.
    pub calls: HashMap<&'static str, u64>,
    /// The node has no transactions, only their statuses.
    pub no_results: bool,
    /// Every send, in order.
    pub sent: Vec<Signature>,
    pub wires: HashMap<Signature, Wire>,
    /// What landed without an error, with its codes.
    pub landed: HashMap<Signature, Vec<u8>>,
    used: HashMap<(Address, u64), Signature>,
    pub blockhashes: u64,
    pub height: u64,
    /// The slot of new blockhashes and of everything that lands.
    pub slot: u64,
    /// How often the node was asked to search its history, and whether that fails.
    pub searches: u64,
    pub searches_fail: bool,
    /// How long a send takes.
    pub send_takes: Duration,
    /// The ledger, to look into at the moment of a send.
    pub ledger: Option<String>,
    /// Sends of bytes that the ledger did not hold.
    pub not_written_ahead: Vec<Signature>,
    /// Blockhashes of others that are valid.
    pub known_blockhashes: Vec<Hash>,
    /// Why a simulated transaction fails.
    pub simulation: Option<Value>,
    /// How many were simulated.
    pub simulated: u64,
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

    /// How many payments the program made.
    pub fn paid(&self) -> usize {
        self.used.len()
    }

    /// Has a transaction land now, before anything else does.
    pub fn land(&mut self, signature: &Signature) {
        let _ = self.execute(signature);
    }

    /// Drops the block of a transaction: what it did was not done.
    pub fn drop_block(&mut self, signature: &Signature) {
        self.landed.remove(signature);
        self.used.retain(|_, by| by != signature);
        self.fates.insert(*signature, Fate::Lost);
    }

    /// How often a method was called.
    pub fn calls(&self, method: &str) -> u64 {
        self.calls.get(method).copied().unwrap_or(0)
    }

    fn fate(&self, signature: &Signature) -> Fate {
        let count = self.wires[signature].payments.len();
        if let Some(fate) = self.fates.get(signature) {
            return fate.clone();
        }
        let fate = match &self.large {
            Some((least, fate)) if count >= *least => fate,
            _ => &self.fate,
        };
        // What is lost from now on undoes nothing that has landed: that is said by name.
        if *fate == Fate::Lost && self.landed.contains_key(signature) {
            return Fate::Confirmed;
        }
        fate.clone()
    }

    /// Runs a transaction, once: its codes, or why it failed.
    fn execute(&mut self, signature: &Signature) -> Result<Vec<u8>, Value> {
        if let Some(codes) = self.landed.get(signature) {
            return Ok(codes.clone());
        }
        let wire = self.wires[signature].clone();
        let codes: Vec<u8> = wire
            .payments
            .iter()
            .map(|payment| match self.used.get(payment) {
                Some(_) => Skip::NonceUsed.code(),
                None => self.codes.get(&payment.1).copied().unwrap_or(0),
            })
            .collect();
        if let Some(code) = codes.iter().find(|code| wire.strict && **code != 0) {
            return Err(custom(u32::from(*code)));
        }
        for (payment, code) in wire.payments.iter().zip(&codes) {
            if *code == 0 {
                self.used.insert(*payment, *signature);
            }
        }
        self.landed.insert(*signature, codes.clone());
        Ok(codes)
    }
}

/// The error of a program that fails with this code.
pub fn custom(code: u32) -> Value {
    json!({"InstructionError": [2, {"Custom": program_error::OFFSET + code}]})
}

/// The genesis hash and the accounts of [`Scene`], and everything else as [`State`] says.
pub struct FakeChain {
    state: Mutex<State>,
    takes_v1: AtomicBool,
}

impl FakeChain {
    pub fn new(scene: &Scene) -> Self {
        Self {
            state: Mutex::new(State {
                accounts: scene.accounts().into_iter().collect(),
                down: false,
                send_fails: false,
                fate: Fate::Confirmed,
                fates: HashMap::new(),
                large: None,
                codes: HashMap::new(),
                finalized: false,
                slots: HashMap::new(),
                first_slot: 0,
                genesis: GENESIS,
                calls: HashMap::new(),
                no_results: false,
                sent: Vec::new(),
                wires: HashMap::new(),
                landed: HashMap::new(),
                used: HashMap::new(),
                blockhashes: 0,
                height: 1_000,
                slot: SLOT,
                searches: 0,
                searches_fail: false,
                send_takes: Duration::ZERO,
                ledger: None,
                not_written_ahead: Vec::new(),
                known_blockhashes: vec![Hash::new_from_array([5; 32])],
                simulation: None,
                simulated: 0,
            }),
            takes_v1: AtomicBool::new(true),
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// A cluster that knows version 0 alone.
    pub fn knows_no_v1(&self) {
        self.takes_v1.store(false, Ordering::Relaxed);
    }

    fn up(&self, method: &'static str) -> Result<MutexGuard<'_, State>, ChainError> {
        let mut state = self.state();
        *state.calls.entry(method).or_default() += 1;
        if state.down {
            return Err(ChainError {
                method,
                problem: "connection refused".to_owned(),
            });
        }
        Ok(state)
    }
}

/// Where the chain is, if nobody moves it.
pub const SLOT: u64 = 99;
/// Blockhashes of the fake are good for this many blocks.
pub const LIFE: u64 = 150;

/// Bytes before the first entry, after the discriminator: `strict`, and the count.
const BATCH_HEAD_LEN: usize = 5;

pub fn read(wire: &[u8]) -> (Signature, Wire) {
    let transaction = transaction::from_wire(wire).unwrap();
    let keys = transaction.message.static_account_keys();
    let settle = transaction
        .message
        .instructions()
        .iter()
        .find(|instruction| keys[usize::from(instruction.program_id_index)] == PROGRAM_ID);
    let Some(settle) = settle else {
        return read_transfer(&transaction, wire.len());
    };
    let head = &settle.data[8..8 + BATCH_HEAD_LEN];
    let count = usize::try_from(u32::from_le_bytes(head[1..].try_into().unwrap())).unwrap();
    let entries: Vec<Entry> = settle.data[8 + BATCH_HEAD_LEN..]
        .chunks(ENTRY_LEN)
        .map(|bytes| Entry::decode(bytes.try_into().unwrap()))
        .collect();
    assert_eq!(entries.len(), count);
    let accounts = &settle.accounts[settle.accounts.len() - 2 * count..];
    let payments = accounts
        .chunks(2)
        .zip(&entries)
        .map(|(accounts, entry)| (keys[usize::from(accounts[1])], entry.nonce))
        .collect();
    (
        transaction.signatures[0],
        Wire {
            fee_payer: keys[0],
            strict: head[0] == 1,
            payments,
            blockhash: *transaction.message.recent_blockhash(),
            len: wire.len(),
        },
    )
}

/// A payment by transfer counts under its token account and its message.
fn read_transfer(transaction: &VersionedTransaction, len: usize) -> (Signature, Wire) {
    let message = &transaction.message;
    let keys = message.static_account_keys();
    let transfer = &message.instructions()[2];
    let digest = message_digest(&message.serialize());
    let signature = transaction.signatures[0];
    assert!(verify_bytes(
        keys[0].as_array(),
        &message.serialize(),
        signature.as_array()
    ));
    let wire = Wire {
        fee_payer: keys[0],
        strict: false,
        payments: vec![(
            keys[usize::from(transfer.accounts[0])],
            u64::from_le_bytes(digest[..8].try_into().unwrap()),
        )],
        blockhash: *message.recent_blockhash(),
        len,
    };
    (signature, wire)
}

/// Whether a ledger holds these bytes, with all their payments.
async fn is_written(url: &str, signature: &Signature, wire: &[u8], payments: usize) -> bool {
    let mut connection = connect(url).await;
    let row = sqlx::query(
        "SELECT count(*) FROM attempts a JOIN payments p ON p.digest = a.digest \
         JOIN transactions t ON t.signature = a.signature WHERE t.signature = $1 AND t.wire = $2",
    )
    .bind(signature.to_string())
    .bind(wire.to_vec())
    .fetch_one(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    row.get::<i64, _>(0) == i64::try_from(payments).unwrap()
}

#[async_trait]
impl Chain for FakeChain {
    async fn genesis_hash(&self) -> Result<Hash, ChainError> {
        Ok(Hash::new_from_array(self.up("getGenesisHash")?.genesis))
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
        let mut hash = [0; 32];
        hash[..8].copy_from_slice(&state.blockhashes.to_le_bytes());
        Ok(Blockhash {
            hash: Hash::new_from_array(hash),
            last_valid_block_height: state.height + LIFE,
            slot: state.slot,
        })
    }

    async fn first_slot(&self) -> Result<u64, ChainError> {
        Ok(self.up("getFirstAvailableBlock")?.first_slot)
    }

    async fn finalized_block_height(&self) -> Result<u64, ChainError> {
        Ok(self.up("getBlockHeight")?.height)
    }

    async fn send(&self, wire: &[u8]) -> Result<(), ChainError> {
        let (signature, read) = read(wire);
        let (ledger, takes) = {
            let state = self.up("sendTransaction")?;
            (state.ledger.clone(), state.send_takes)
        };
        if let Some(url) = ledger
            && !is_written(&url, &signature, wire, read.payments.len()).await
        {
            self.state().not_written_ahead.push(signature);
        }
        tokio::time::sleep(takes).await;
        // Only now: from here on the follower may see it land.
        let mut state = self.state();
        state.sent.push(signature);
        state.wires.insert(signature, read);
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
        history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError> {
        let mut state = self.up("getSignatureStatuses")?;
        state.searches += u64::from(history);
        if history && state.searches_fail {
            return Err(ChainError {
                method: "getSignatureStatuses",
                problem: "the long-term storage does not answer".to_owned(),
            });
        }
        let mut status = |signature: &Signature| {
            if !state.wires.contains_key(signature) {
                return None;
            }
            let (confirmed, error) = match state.fate(signature) {
                Fate::Confirmed => match state.execute(signature) {
                    Ok(_) => (true, None),
                    Err(json) => (true, Some(TransactionError { json })),
                },
                Fate::Processed => (false, None),
                Fate::Failed(json) => (true, Some(TransactionError { json })),
                Fate::Lost => return None,
            };
            Some(Status {
                slot: state.slots.get(signature).copied().unwrap_or(state.slot),
                confirmed,
                finalized: confirmed && state.finalized,
                error,
            })
        };
        Ok(signatures.iter().map(&mut status).collect())
    }

    async fn results(&self, signature: &Signature) -> Result<Option<Vec<u8>>, ChainError> {
        let state = self.up("getTransaction")?;
        if state.no_results {
            return Ok(None);
        }
        Ok(state.landed.get(signature).cloned())
    }

    async fn is_blockhash_valid(&self, hash: &Hash) -> Result<bool, ChainError> {
        let state = self.up("isBlockhashValid")?;
        Ok(state.known_blockhashes.contains(hash))
    }

    async fn simulate(&self, wire: &[u8]) -> Result<Option<TransactionError>, ChainError> {
        transaction::from_wire(wire).unwrap();
        let mut state = self.up("simulateTransaction")?;
        state.simulated += 1;
        Ok(state
            .simulation
            .clone()
            .map(|json| TransactionError { json }))
    }

    async fn takes(&self, wire: &[u8]) -> bool {
        transaction::from_wire(wire).unwrap();
        self.takes_v1.load(Ordering::Relaxed)
    }
}
