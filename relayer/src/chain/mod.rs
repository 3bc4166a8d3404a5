//! The chain as the relayer sees it: a few questions, each of which may go unanswered.
//!
//! An error here always means "not known". It is never evidence that something did or did not happen.

pub mod blockhash;
pub mod cache;
pub mod notices;
pub mod pool;
pub mod prices;
mod rpc;

use async_trait::async_trait;
use serde_json::Value;
use sluice_intent::Skip;
use sluice_sdk::{Address, accounts::AccountQuery, program_error};
use solana_hash::Hash;
use solana_signature::Signature;

pub use rpc::RpcChain;

/// The sysvar with the chain's clock.
pub const CLOCK: Address = Address::from_str_const("SysvarC1ock11111111111111111111111111111111");

/// Most signatures that one [`Chain::statuses`] asks about.
pub const MAX_STATUSES: usize = 256;

/// The chain did not answer, or answered something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the RPC did not answer {method}: {problem}")]
pub struct ChainError {
    /// The method.
    pub method: &'static str,
    /// What went wrong, without the RPC's address.
    pub problem: String,
}

/// An account's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawAccount {
    /// The program that owns it.
    pub owner: Address,
    /// Its balance.
    pub lamports: u64,
    /// Its data.
    pub data: Vec<u8>,
}

/// A blockhash and how long a transaction may use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blockhash {
    /// The hash.
    pub hash: Hash,
    /// The last block that may hold a transaction with it.
    pub last_valid_block_height: u64,
    /// The slot in which a node gave it: a transaction with it lands in none before.
    pub slot: u64,
}

/// What became of a transaction that a node knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The slot of its block.
    pub slot: u64,
    /// Whether enough of the cluster has voted for that block (confirmed, or more).
    pub confirmed: bool,
    /// Whether the block can no longer be undone.
    pub finalized: bool,
    /// Why it failed, if it did.
    pub error: Option<TransactionError>,
}

/// Which state a question is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What the cluster has voted for.
    Confirmed,
    /// What can no longer change.
    Finalized,
}

/// Why a transaction failed, in simulation or on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransactionError {
    /// The error as the RPC tells it.
    pub json: Value,
}

/// What a [`TransactionError`] means to the relayer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The program refused the entry.
    Skipped(Skip),
    /// The program refused the whole instruction, with this code less Anchor's offset.
    Program(u32),
    /// The fee payer cannot pay.
    FeePayer,
    /// The blockhash is not known, or no longer.
    Blockhash,
    /// Anything else.
    Other,
}

impl TransactionError {
    /// What it means.
    pub fn failure(&self) -> Failure {
        if let Some(name) = self.json.as_str() {
            return match name {
                "InsufficientFundsForFee" | "AccountNotFound" | "InvalidAccountForFee" => {
                    Failure::FeePayer
                }
                "BlockhashNotFound" => Failure::Blockhash,
                _ => Failure::Other,
            };
        }
        let code = self.json["InstructionError"][1]["Custom"].as_u64();
        let Some(code) = code.and_then(|code| code.checked_sub(u64::from(program_error::OFFSET)))
        else {
            return match &self.json["InsufficientFundsForRent"]["account_index"] {
                Value::Number(index) if index.as_u64() == Some(0) => Failure::FeePayer,
                _ => Failure::Other,
            };
        };
        let skip = u8::try_from(code).ok().and_then(Skip::from_code);
        match (skip, u32::try_from(code)) {
            (Some(skip), _) => Failure::Skipped(skip),
            (None, Ok(code)) if (100..1_000).contains(&code) => Failure::Program(code),
            _ => Failure::Other,
        }
    }
}

impl std::fmt::Display for TransactionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.json)
    }
}

/// Access to the chain. The one real implementation is [`RpcChain`]; tests bring their own.
#[async_trait]
pub trait Chain: Send + Sync + 'static {
    /// The cluster's genesis hash.
    async fn genesis_hash(&self) -> Result<Hash, ChainError>;

    /// Accounts, all of one moment, in the order of `keys`.
    async fn accounts(
        &self,
        keys: &[Address],
        depth: Depth,
    ) -> Result<Vec<Option<RawAccount>>, ChainError>;

    /// A blockhash for a new transaction.
    async fn latest_blockhash(&self) -> Result<Blockhash, ChainError>;

    /// The height of the newest finalized block. What is asked with `history` afterwards is answered by a node that has
    /// seen that block, or not at all.
    async fn finalized_block_height(&self) -> Result<u64, ChainError>;

    /// The slot of the first block of which the node still has the transactions. About what landed earlier its "not
    /// known" says nothing.
    async fn first_slot(&self) -> Result<u64, ChainError> {
        Ok(0)
    }

    /// Sends a transaction. An error does not mean that it was not sent.
    async fn send(&self, wire: &[u8]) -> Result<(), ChainError>;

    /// What became of transactions, at most [`MAX_STATUSES`], in their order; `None` for one that the node
    /// does not know. `history` searches beyond the node's recent memory.
    async fn statuses(
        &self,
        signatures: &[Signature],
        history: bool,
    ) -> Result<Vec<Option<Status>>, ChainError>;

    /// The result codes of a settlement that landed: a byte for each entry, 0 for paid. `None` while the node does not
    /// have the transaction.
    async fn results(&self, signature: &Signature) -> Result<Option<Vec<u8>>, ChainError>;

    /// Whether a transaction with this blockhash could land now.
    async fn is_blockhash_valid(&self, hash: &Hash) -> Result<bool, ChainError>;

    /// Why a transaction would fail if it landed now; `None` if it would not. Signatures may be missing.
    async fn simulate(&self, wire: &[u8]) -> Result<Option<TransactionError>, ChainError>;

    /// Whether the cluster takes transactions of version 1: `wire` is one, and only read.
    async fn takes(&self, wire: &[u8]) -> bool;

    /// Addresses of the program's accounts that match, of all that there are: a dear question, to be asked rarely.
    async fn program_accounts(&self, _query: &AccountQuery) -> Result<Vec<Address>, ChainError> {
        Ok(Vec::new())
    }

    /// Lamports that an account of so many bytes must hold.
    async fn rent(&self, _bytes: usize) -> Result<u64, ChainError> {
        Err(ChainError {
            method: "getMinimumBalanceForRentExemption",
            problem: "not asked for here".to_owned(),
        })
    }

    /// Micro-lamports a compute unit that recent transactions paid which locked these accounts, in no order.
    async fn recent_prices(&self, _accounts: &[Address]) -> Result<Vec<u64>, ChainError> {
        Ok(Vec::new())
    }
}

/// What a settle gave back, a byte for each entry, in the log lines of its transaction.
pub fn codes_in_logs<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Vec<u8>> {
    let start = format!("Program return: {} ", sluice_sdk::PROGRAM_ID);
    let text = lines
        .into_iter()
        .filter_map(|line| line.strip_prefix(&start))
        .last()?;
    base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text.trim()).ok()
}

/// The chain's time in the data of the clock sysvar, unix seconds.
pub fn clock_time(account: &RawAccount) -> Option<i64> {
    // slot, epoch_start_timestamp, epoch, leader_schedule_epoch, unix_timestamp: five times 8 bytes.
    let bytes = account.data.get(32..40)?;
    Some(i64::from_le_bytes(bytes.try_into().ok()?))
}

/// The slot in the data of the clock sysvar.
pub fn clock_slot(account: &RawAccount) -> Option<u64> {
    Some(u64::from_le_bytes(*account.data.first_chunk::<8>()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn failure(json: Value) -> Failure {
        TransactionError { json }.failure()
    }

    #[test]
    fn errors_are_told_apart() {
        let custom = |code: u32| json!({"InstructionError": [2, {"Custom": code}]});
        assert_eq!(failure(custom(6_011)), Failure::Skipped(Skip::NonceUsed));
        assert_eq!(failure(custom(6_027)), Failure::Skipped(Skip::SelfPayment));
        assert_eq!(failure(custom(6_100)), Failure::Program(100));
        assert_eq!(failure(custom(1)), Failure::Other);
        assert_eq!(failure(custom(6_000)), Failure::Other);
        assert_eq!(failure(custom(4_000_000_000)), Failure::Other);
        assert_eq!(failure(json!("BlockhashNotFound")), Failure::Blockhash);
        assert_eq!(failure(json!("InsufficientFundsForFee")), Failure::FeePayer);
        let rent = json!({"InsufficientFundsForRent": {"account_index": 0}});
        assert_eq!(failure(rent), Failure::FeePayer);
        assert_eq!(
            failure(json!({"InstructionError": [0, "MissingAccount"]})),
            Failure::Other
        );
    }
}
