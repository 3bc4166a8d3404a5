//! The stock `exact` scheme: one transfer in a transaction that the payer signs first and the facilitator last.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use solana_compute_budget_interface::ComputeBudgetInstruction;
use solana_hash::Hash;
use solana_instruction::{AccountMeta, Instruction};
use solana_message::{VersionedMessage, v0};
use solana_signer::Signer;
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    Address,
    address::token_account,
    transaction::{BuildError, wire},
};

/// The name of the scheme.
pub const EXACT: &str = "exact";
/// The memo program.
pub const MEMO_PROGRAM: Address =
    Address::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
/// The assertions that some wallets add to what they sign.
pub const LIGHTHOUSE_PROGRAM: Address =
    Address::from_str_const("L2TExMFKdjpN9kozasaurPirfHy9P8sbXoAN1qA3S95");
/// Compute units that stock clients ask for.
pub const STOCK_UNITS: u32 = 20_000;
/// Micro-lamports a compute unit that stock clients offer.
pub const STOCK_UNIT_PRICE: u64 = 1;

/// The token programs' instruction that checks mint and decimals.
const TRANSFER_CHECKED: u8 = 12;

/// The payload on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExactPayload {
    /// Base64 of the transaction, the fee payer's signature empty.
    pub transaction: String,
}

/// A transfer to be signed, as stock clients build it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExactTransfer {
    /// The facilitator's fee payer, from the requirement's `extra.feePayer`.
    pub fee_payer: Address,
    /// Who is paid: a wallet or a service.
    pub pay_to: Address,
    /// The mint.
    pub mint: Address,
    /// The program that owns it.
    pub token_program: Address,
    /// Its decimals.
    pub decimals: u8,
    /// Atomic units.
    pub amount: u64,
    /// What makes the transaction one of its kind: the server's `extra.memo`, else something random.
    pub memo: String,
    /// A recent blockhash: the transaction lives as long as it does.
    pub blockhash: Hash,
}

impl ExactTransfer {
    /// Builds the transaction and signs it as the payer.
    pub fn sign(&self, payer: &impl Signer) -> Result<ExactPayload, BuildError> {
        let key = Address::new_from_array(payer.pubkey().to_bytes());
        let instructions = [
            ComputeBudgetInstruction::set_compute_unit_limit(STOCK_UNITS),
            ComputeBudgetInstruction::set_compute_unit_price(STOCK_UNIT_PRICE),
            self.transfer(&key),
            Instruction {
                program_id: MEMO_PROGRAM,
                accounts: Vec::new(),
                data: self.memo.as_bytes().to_vec(),
            },
        ];
        let message = v0::Message::try_compile(&self.fee_payer, &instructions, &[], self.blockhash)
            .map_err(|error| BuildError::Compile(error.to_string()))?;
        partly_signed(VersionedMessage::V0(message), payer)
    }

    /// The instruction that moves the money.
    pub fn transfer(&self, payer: &Address) -> Instruction {
        let account = |owner| token_account(owner, &self.mint, &self.token_program);
        let mut data = vec![TRANSFER_CHECKED];
        data.extend(self.amount.to_le_bytes());
        data.push(self.decimals);
        Instruction {
            program_id: self.token_program,
            accounts: vec![
                AccountMeta::new(account(payer), false),
                AccountMeta::new_readonly(self.mint, false),
                AccountMeta::new(account(&self.pay_to), false),
                AccountMeta::new_readonly(*payer, true),
            ],
            data,
        }
    }
}

/// Signs a message as one of its signers, and leaves the others' places empty.
pub fn partly_signed(
    message: VersionedMessage,
    signer: &impl Signer,
) -> Result<ExactPayload, BuildError> {
    let count = usize::from(message.header().num_required_signatures);
    let mut signatures = vec![Default::default(); count];
    let place = message
        .static_account_keys()
        .iter()
        .take(count)
        .position(|key| key.as_array() == signer.pubkey().as_array())
        .ok_or_else(|| BuildError::Compile("the key signs nothing in it".to_owned()))?;
    signatures[place] = signer.try_sign_message(&message.serialize())?;
    let transaction = VersionedTransaction {
        signatures,
        message,
    };
    Ok(ExactPayload {
        transaction: STANDARD.encode(wire(&transaction)?),
    })
}

/// What a payment by transfer is known by: the hash of what its payer signed. The transaction's own signature is the fee
/// payer's and may be left out, or be anything, in what a client sends.
pub fn message_digest(message: &[u8]) -> [u8; 32] {
    Sha256::digest(message).into()
}
