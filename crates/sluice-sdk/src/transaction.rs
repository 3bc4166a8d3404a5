//! Transactions: version 0 for everything, version 1 for large batches where the cluster takes it.

use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_message::{VersionedMessage, v0, v1};
use solana_signature::Signature;
use solana_signer::{SignerError, signers::Signers};
use solana_transaction::versioned::VersionedTransaction;

use crate::Address;

/// Bytes of the largest version 0 transaction (one network packet).
pub const MAX_V0_LEN: usize = 1_232;
/// Bytes of the largest version 1 transaction.
pub const MAX_V1_LEN: usize = 4_096;

/// The format of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// Version 0, without lookup tables.
    V0,
    /// Version 1.
    V1,
}

impl Version {
    /// Bytes of the largest transaction of this version.
    pub fn max_len(self) -> usize {
        match self {
            Self::V0 => MAX_V0_LEN,
            Self::V1 => MAX_V1_LEN,
        }
    }
}

/// What a transaction may use, and pays on top of the fee for its signatures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Compute units.
    pub compute_units: u32,
    /// Micro-lamports a compute unit.
    pub unit_price: u64,
    /// Bytes of accounts that it may load, programs included.
    pub loaded_bytes: u32,
}

impl Budget {
    /// The priority fee in lamports, rounded up as the network does.
    pub fn priority_fee(&self) -> u64 {
        let micro = u128::from(self.compute_units) * u128::from(self.unit_price);
        u64::try_from(micro.div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }
}

/// Why a transaction could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Too many accounts or instructions.
    #[error("the message could not be compiled: {0}")]
    Compile(String),
    /// A signature is missing or could not be made.
    #[error("the transaction could not be signed: {0}")]
    Sign(#[from] SignerError),
    /// It could not be serialised.
    #[error("the transaction could not be serialised: {0}")]
    Serialize(String),
    /// It does not fit.
    #[error(
        "the transaction has {len} bytes, more than the {max} that its version allows: settle fewer payments in it"
    )]
    TooLarge {
        /// Its bytes.
        len: usize,
        /// The most that its version allows.
        max: usize,
    },
}

/// Compiles a message that `fee_payer` pays for.
pub fn compile(
    version: Version,
    fee_payer: &Address,
    instructions: &[Instruction],
    budget: &Budget,
    blockhash: Hash,
) -> Result<VersionedMessage, BuildError> {
    let fail = |error: String| BuildError::Compile(error);
    match version {
        Version::V0 => {
            let mut all = vec![
                ComputeBudgetInstruction::set_compute_unit_limit(budget.compute_units),
                ComputeBudgetInstruction::set_loaded_accounts_data_size_limit(budget.loaded_bytes),
            ];
            if budget.unit_price > 0 {
                all.push(ComputeBudgetInstruction::set_compute_unit_price(
                    budget.unit_price,
                ));
            }
            all.extend_from_slice(instructions);
            let message = v0::Message::try_compile(fee_payer, &all, &[], blockhash)
                .map_err(|error| fail(error.to_string()))?;
            Ok(VersionedMessage::V0(message))
        }
        Version::V1 => {
            // A limit that is not set counts as zero here, so both always are.
            let mut config = v1::TransactionConfig::empty()
                .with_compute_unit_limit(budget.compute_units)
                .with_loaded_accounts_data_size_limit(budget.loaded_bytes);
            if budget.unit_price > 0 {
                config = config.with_priority_fee(budget.priority_fee());
            }
            let message =
                v1::Message::try_compile_with_config(fee_payer, instructions, blockhash, config)
                    .map_err(|error| fail(error.to_string()))?;
            Ok(VersionedMessage::V1(message))
        }
    }
}

/// Compiles, signs and measures a transaction. The fee payer must be among `signers`.
pub fn build(
    version: Version,
    fee_payer: &Address,
    instructions: &[Instruction],
    budget: &Budget,
    blockhash: Hash,
    signers: &impl Signers,
) -> Result<VersionedTransaction, BuildError> {
    let message = compile(version, fee_payer, instructions, budget, blockhash)?;
    let transaction = VersionedTransaction::try_new(message, signers)?;
    measured(version, transaction)
}

/// Puts the signatures that were made elsewhere under a message, in the order of its signers, and measures it. Whether
/// they are the signers' is for the caller to check.
pub fn signed(
    version: Version,
    message: VersionedMessage,
    signatures: Vec<Signature>,
) -> Result<VersionedTransaction, BuildError> {
    let transaction = VersionedTransaction {
        signatures,
        message,
    };
    measured(version, transaction)
}

fn measured(
    version: Version,
    transaction: VersionedTransaction,
) -> Result<VersionedTransaction, BuildError> {
    let len = wire(&transaction)?.len();
    let max = version.max_len();
    if len > max {
        return Err(BuildError::TooLarge { len, max });
    }
    Ok(transaction)
}

/// A transaction that nobody has signed yet: a zero signature stands for each that is missing.
pub fn unsigned(message: VersionedMessage) -> VersionedTransaction {
    let signatures = usize::from(message.header().num_required_signatures);
    VersionedTransaction {
        signatures: vec![Default::default(); signatures],
        message,
    }
}

/// The bytes that go over the network. Every version is serialised by the same code.
pub fn wire(transaction: &VersionedTransaction) -> Result<Vec<u8>, BuildError> {
    wincode::serialize(transaction).map_err(|error| BuildError::Serialize(error.to_string()))
}

/// Reads what [`wire`] wrote.
pub fn from_wire(bytes: &[u8]) -> Result<VersionedTransaction, BuildError> {
    wincode::deserialize(bytes).map_err(|error| BuildError::Serialize(error.to_string()))
}
