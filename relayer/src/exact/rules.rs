//! What a transaction may do that this relayer signs: everything about it that can be judged without the chain.
//!
//! The rules are the specification's of `exact` on Solana, applied to every instruction, and stricter where published
//! facilitators were drained: the fee payer stands in no instruction at all, because whatever is handed to a program
//! is handed to it as a signer that may be debited.

use std::collections::HashSet;

use sluice_intent::signature::verify_bytes;
use sluice_sdk::{
    Address,
    token::is_token_program,
    transaction::MAX_V0_LEN,
    x402::{LIGHTHOUSE_PROGRAM, MEMO_PROGRAM},
};
use solana_hash::Hash;
use solana_message::{VersionedMessage, compiled_instruction::CompiledInstruction};
use solana_transaction::versioned::VersionedTransaction;

use crate::{
    budget::SIGNATURE_LAMPORTS,
    reason::{ExactReason, Reason, Rejection},
};

const COMPUTE_BUDGET: Address =
    Address::from_str_const("ComputeBudget111111111111111111111111111111");
/// Micro-lamports a compute unit, at most: five lamports.
const MAX_UNIT_PRICE: u64 = 5_000_000;
/// The most that any transaction may ask for.
const MAX_UNITS: u32 = 1_400_000;
const INSTRUCTIONS: std::ops::RangeInclusive<usize> = 3..=7;
/// Payer and fee payer.
const SIGNERS: usize = 2;
const TRANSFER_CHECKED: u8 = 12;
/// Lighthouse's instructions that assert. The two below write memory at a signer's cost.
const ASSERTIONS: std::ops::RangeInclusive<u8> = 2..=17;
/// Compute units that a transfer and a short memo never exceed, whichever token program is in place.
const ENOUGH_UNITS: u32 = 20_000;
/// Bytes of memos for which that holds.
const SHORT_MEMO: usize = 40;

/// What the server wants, and whose transaction it may be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// The fee payer that the requirement names.
    pub fee_payer: Address,
    /// Every key of this relayer.
    pub fee_payers: &'a [Address],
    /// The mint.
    pub mint: Address,
    /// Who is to be paid.
    pub pay_to: Address,
    /// Atomic units.
    pub amount: u64,
    /// The memo that must be there.
    pub memo: Option<String>,
    /// The most that the transaction may cost, in lamports.
    pub max_lamports: u64,
}

/// What a transaction that holds by the rules does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Who pays for the transaction: a key of this relayer.
    pub fee_payer: Address,
    /// Who signs for the tokens.
    pub payer: Address,
    /// Where they come from.
    pub source: Address,
    /// Where they go to: the associated token account of whoever is paid, if the judge finds so.
    pub destination: Address,
    /// The token program that is called.
    pub token_program: Address,
    /// The decimals that the payer signed for.
    pub decimals: u8,
    /// The blockhash whose life is the transaction's.
    pub blockhash: Hash,
    /// What it costs in all, in lamports.
    pub fee_lamports: u64,
    /// Whether it is all within what is known to succeed by the accounts alone. Otherwise it is simulated first.
    pub plain: bool,
}

fn reject(reason: ExactReason, message: impl Into<String>) -> Rejection {
    Rejection::new(Reason::Exact(reason), message)
}

/// Goes through a transaction. `message` is its message in bytes.
pub fn check(
    transaction: &VersionedTransaction,
    message: &[u8],
    wanted: &Wanted<'_>,
) -> Result<Order, Rejection> {
    let keys = check_frame(transaction, wanted)?;
    let payer = check_signers(transaction, message, keys, wanted)?;
    let view = View { keys };
    let instructions = transaction.message.instructions();
    if !INSTRUCTIONS.contains(&instructions.len()) {
        return Err(reject(
            ExactReason::InstructionCount,
            format!(
                "the transaction has {} instructions, and 3 to 7 are taken",
                instructions.len()
            ),
        ));
    }
    let [limit, price, transfer, rest @ ..] = instructions else {
        return Err(reject(
            ExactReason::InstructionCount,
            "too few instructions",
        ));
    };
    let units = compute_limit(&view, limit)?;
    let fee_lamports = compute_price(&view, price, units, wanted)?;
    let order = check_transfer(&view, transfer, &payer, wanted)?;
    let memo_bytes = check_rest(&view, rest, wanted)?;
    // Whatever a program is handed with the fee payer in it, it is handed a signature to spend.
    let used = |instruction: &CompiledInstruction| instruction.accounts.contains(&0);
    if instructions.iter().any(used) {
        return Err(reject(
            ExactReason::FeePayerIncluded,
            "the fee payer stands among an instruction's accounts: it pays the fee and does nothing else",
        ));
    }
    let asserts = rest
        .iter()
        .any(|instruction| view.program(instruction) == Some(LIGHTHOUSE_PROGRAM));
    Ok(Order {
        fee_lamports,
        blockhash: *transaction.message.recent_blockhash(),
        plain: !asserts
            && units >= ENOUGH_UNITS
            && memo_bytes <= SHORT_MEMO
            && order.token_program == sluice_sdk::token::TOKEN_PROGRAM,
        ..order
    })
}

/// The frame: version, accounts, signatures' number.
fn check_frame<'a>(
    transaction: &'a VersionedTransaction,
    wanted: &Wanted<'_>,
) -> Result<&'a [Address], Rejection> {
    let broken = |problem: &str| {
        reject(
            ExactReason::NotDecoded,
            format!("payload.transaction: {problem}"),
        )
    };
    let message = &transaction.message;
    match message {
        VersionedMessage::Legacy(_) | VersionedMessage::V0(_) => {}
        VersionedMessage::V1(_) => {
            return Err(broken("is of version 1: sign one of version 0"));
        }
    }
    let len = sluice_sdk::transaction::wire(transaction).map_or(usize::MAX, |wire| wire.len());
    if len > MAX_V0_LEN {
        return Err(broken("is larger than a network packet"));
    }
    if transaction.sanitize().is_err() {
        return Err(broken("names accounts or signatures that it does not have"));
    }
    if message
        .address_table_lookups()
        .is_some_and(|tables| !tables.is_empty())
    {
        return Err(broken("uses lookup tables: name every account in it"));
    }
    let keys = message.static_account_keys();
    // An account twice would be the fee payer under another number.
    if keys.iter().collect::<HashSet<_>>().len() != keys.len() {
        return Err(broken("names an account twice"));
    }
    if keys.first() != Some(&wanted.fee_payer) {
        return Err(reject(
            ExactReason::FeePayerMismatch,
            format!(
                "the transaction's fee payer is not {}, which extra.feePayer names",
                wanted.fee_payer
            ),
        ));
    }
    Ok(keys)
}

/// Payer and fee payer sign and nobody else, and the payer has. Gives the payer.
fn check_signers(
    transaction: &VersionedTransaction,
    message: &[u8],
    keys: &[Address],
    wanted: &Wanted<'_>,
) -> Result<Address, Rejection> {
    let count = usize::from(transaction.message.header().num_required_signatures);
    let (Some(payer), Some(signature)) = (keys.get(1), transaction.signatures.get(1)) else {
        return Err(reject(
            ExactReason::SignatureInvalid,
            "nobody but the fee payer signs the transaction",
        ));
    };
    if count != SIGNERS || transaction.signatures.len() != SIGNERS {
        return Err(reject(
            ExactReason::ExcessiveSigners,
            format!("{count} keys sign the transaction, and payer and fee payer are 2"),
        ));
    }
    if wanted.fee_payers.contains(payer) {
        return Err(reject(
            ExactReason::FeePayerTransfers,
            "a key of this facilitator would sign as the payer",
        ));
    }
    if !verify_bytes(payer.as_array(), message, signature.as_array()) {
        return Err(reject(
            ExactReason::SignatureInvalid,
            format!("the transaction is not signed by {payer}"),
        ));
    }
    Ok(*payer)
}

/// Instructions with their accounts by name.
struct View<'a> {
    keys: &'a [Address],
}

impl View<'_> {
    fn program(&self, instruction: &CompiledInstruction) -> Option<Address> {
        self.key(instruction.program_id_index)
    }

    fn key(&self, index: u8) -> Option<Address> {
        self.keys.get(usize::from(index)).copied()
    }
}

fn compute_limit(view: &View<'_>, instruction: &CompiledInstruction) -> Result<u32, Rejection> {
    let wrong = || {
        reject(
            ExactReason::ComputeLimit,
            "the first instruction must set the compute unit limit",
        )
    };
    let (Some(COMPUTE_BUDGET), [2, units @ ..]) =
        (view.program(instruction), &instruction.data[..])
    else {
        return Err(wrong());
    };
    let units = u32::from_le_bytes(units.try_into().map_err(|_| wrong())?);
    if units > MAX_UNITS {
        return Err(reject(
            ExactReason::ComputeLimitTooHigh,
            format!("{units} compute units are more than a transaction can have"),
        ));
    }
    Ok(units)
}

/// Gives what the transaction costs in all.
fn compute_price(
    view: &View<'_>,
    instruction: &CompiledInstruction,
    units: u32,
    wanted: &Wanted<'_>,
) -> Result<u64, Rejection> {
    let wrong = || {
        reject(
            ExactReason::ComputePrice,
            "the second instruction must set the compute unit price",
        )
    };
    let (Some(COMPUTE_BUDGET), [3, price @ ..]) =
        (view.program(instruction), &instruction.data[..])
    else {
        return Err(wrong());
    };
    let price = u64::from_le_bytes(price.try_into().map_err(|_| wrong())?);
    if price > MAX_UNIT_PRICE {
        return Err(reject(
            ExactReason::ComputePriceTooHigh,
            format!("{price} micro-lamports a compute unit are over {MAX_UNIT_PRICE}"),
        ));
    }
    // Under the price's bound alone 1.4 million units would be 7 million lamports.
    let priority = (u128::from(units) * u128::from(price)).div_ceil(1_000_000);
    let cost = u128::from(SIGNATURE_LAMPORTS) * SIGNERS as u128 + priority;
    match u64::try_from(cost) {
        Ok(cost) if cost <= wanted.max_lamports => Ok(cost),
        _ => Err(reject(
            ExactReason::ComputePriceTooHigh,
            format!(
                "the transaction costs {cost} lamports, and this facilitator pays at most {}: ask for fewer compute \
                 units or offer less for each",
                wanted.max_lamports
            ),
        )),
    }
}

fn check_transfer(
    view: &View<'_>,
    instruction: &CompiledInstruction,
    payer: &Address,
    wanted: &Wanted<'_>,
) -> Result<Order, Rejection> {
    let none = || {
        reject(
            ExactReason::NoTransfer,
            "the third instruction must be a TransferChecked of a token program with its four accounts",
        )
    };
    let token_program = view
        .program(instruction)
        .filter(is_token_program)
        .ok_or_else(none)?;
    let [TRANSFER_CHECKED, amount @ .., decimals] = &instruction.data[..] else {
        return Err(none());
    };
    let amount = u64::from_le_bytes(amount.try_into().map_err(|_| none())?);
    // More than four would be a multisig's signers, or a hook's accounts.
    let &[source, mint, destination, authority] = &instruction.accounts[..] else {
        return Err(none());
    };
    let key = |index: u8| view.key(index).ok_or_else(none);
    let (source, mint, destination, authority) =
        (key(source)?, key(mint)?, key(destination)?, key(authority)?);
    if wanted.fee_payers.contains(&authority) {
        return Err(reject(
            ExactReason::FeePayerTransfers,
            "the transfer is of this facilitator's own money",
        ));
    }
    if authority != *payer {
        return Err(reject(
            ExactReason::SignatureInvalid,
            "the transfer's authority does not sign the transaction",
        ));
    }
    if mint != wanted.mint {
        return Err(reject(
            ExactReason::MintMismatch,
            format!(
                "the transfer is of {mint}, and {} is asked for",
                wanted.mint
            ),
        ));
    }
    if source == destination {
        return Err(reject(
            ExactReason::RecipientMismatch,
            "the transfer leaves the money where it is",
        ));
    }
    if amount != wanted.amount {
        return Err(reject(
            ExactReason::AmountMismatch,
            format!(
                "the transfer is of {amount} units, and {} are asked for",
                wanted.amount
            ),
        ));
    }
    Ok(Order {
        fee_payer: wanted.fee_payer,
        payer: *payer,
        source,
        destination,
        token_program,
        decimals: *decimals,
        blockhash: Hash::default(),
        fee_lamports: 0,
        plain: false,
    })
}

/// What follows the transfer: memos and a wallet's assertions. Gives the memos' bytes.
fn check_rest(
    view: &View<'_>,
    rest: &[CompiledInstruction],
    wanted: &Wanted<'_>,
) -> Result<usize, Rejection> {
    let mut memos = Vec::new();
    for (i, instruction) in rest.iter().enumerate() {
        let known = match view.program(instruction) {
            Some(MEMO_PROGRAM) => {
                memos.push(&instruction.data[..]);
                true
            }
            Some(LIGHTHOUSE_PROGRAM) => {
                let asserts = |kind: &u8| ASSERTIONS.contains(kind);
                instruction.data.first().is_some_and(asserts)
            }
            _ => false,
        };
        if !known {
            let reason = match i {
                0 => ExactReason::UnknownFourth,
                1 => ExactReason::UnknownFifth,
                2 => ExactReason::UnknownSixth,
                _ => ExactReason::UnknownSeventh,
            };
            return Err(reject(
                reason,
                "after the transfer only memos and Lighthouse assertions are taken",
            ));
        }
    }
    if let Some(memo) = &wanted.memo {
        let [given] = memos[..] else {
            return Err(reject(
                ExactReason::MemoCount,
                format!(
                    "the transaction has {} memos, and exactly the one of extra.memo is asked for",
                    memos.len()
                ),
            ));
        };
        if given != memo.as_bytes() {
            return Err(reject(
                ExactReason::MemoMismatch,
                "the memo is not the one of extra.memo",
            ));
        }
    }
    Ok(memos.iter().map(|memo| memo.len()).sum())
}
