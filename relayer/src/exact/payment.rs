//! Reading a payment by transfer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sluice_intent::Digest;
use sluice_sdk::{
    Address,
    transaction::{from_wire, wire},
    x402::{ExactPayload, Version, message_digest},
};
use solana_transaction::versioned::VersionedTransaction;

use super::rules::{self, Order};
use crate::{
    ledger::Binding,
    reason::{ExactReason, Reason, Rejection},
    request::Asked,
};

/// A payment by transfer with the requirement it answers, held against every rule that needs no chain.
#[derive(Clone, Debug, PartialEq)]
pub struct Transfer {
    /// The version of the protocol.
    pub version: Version,
    /// Who is paid: a wallet, or a service of the program.
    pub pay_to: Address,
    /// The mint.
    pub mint: Address,
    /// Atomic units.
    pub amount: u64,
    /// SHA-256 of the message that the payer signed.
    pub digest: Digest,
    /// What the transaction does.
    pub order: Order,
    /// The transaction, the fee payer's signature still missing.
    pub transaction: VersionedTransaction,
    /// The id that the payer gave it ([`crate::identifier::read`]). Left out by [`Transfer::parse`].
    pub identifier: Option<Binding>,
}

impl Transfer {
    /// Reads what was asked, and goes through every instruction of the transaction. `fee_payers` are this relayer's
    /// keys; a transaction may cost at most `max_lamports`.
    pub fn parse(
        asked: &Asked,
        fee_payers: &[Address],
        max_lamports: u64,
    ) -> Result<Self, Rejection> {
        let fee_payer = fee_payer(asked, fee_payers)?;
        let memo = memo(asked)?;
        let payload: ExactPayload = asked.payload()?;
        let transaction = decode(&payload.transaction)?;
        let message = transaction.message.serialize();
        let order = rules::check(
            &transaction,
            &message,
            &rules::Wanted {
                fee_payer,
                fee_payers,
                mint: asked.mint,
                pay_to: asked.pay_to,
                amount: asked.amount,
                memo,
                max_lamports,
            },
        )?;
        Ok(Self {
            version: asked.version,
            pay_to: asked.pay_to,
            mint: asked.mint,
            amount: asked.amount,
            digest: message_digest(&message),
            order,
            transaction,
            identifier: None,
        })
    }
}

/// The fee payer that the server named, which must be one of ours.
fn fee_payer(asked: &Asked, fee_payers: &[Address]) -> Result<Address, Rejection> {
    let missing = || {
        Rejection::new(
            Reason::Exact(ExactReason::MissingFeePayer),
            "extra.feePayer is missing: the server must copy it from this facilitator's /supported",
        )
    };
    let text = asked
        .extra
        .as_ref()
        .and_then(|extra| extra["feePayer"].as_str())
        .ok_or_else(missing)?;
    let stranger = || {
        Rejection::new(
            Reason::Exact(ExactReason::FeePayerNotManaged),
            format!(
                "extra.feePayer {text:?} is none of this facilitator's keys: the server must read /supported anew"
            ),
        )
    };
    let key: Address = text.parse().map_err(|_| stranger())?;
    if fee_payers.contains(&key) {
        Ok(key)
    } else {
        Err(stranger())
    }
}

/// The memo that the server wants.
fn memo(asked: &Asked) -> Result<Option<String>, Rejection> {
    match asked.extra.as_ref().map(|extra| &extra["memo"]) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(memo)) if memo.is_empty() => Ok(None),
        Some(serde_json::Value::String(memo)) => Ok(Some(memo.clone())),
        Some(_) => Err(Rejection::new(
            Reason::Requirements,
            "extra.memo: must be a string",
        )),
    }
}

fn decode(text: &str) -> Result<VersionedTransaction, Rejection> {
    let undecoded = |problem: String| {
        Rejection::new(
            Reason::Exact(ExactReason::NotDecoded),
            format!("payload.transaction: {problem}"),
        )
    };
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| undecoded("is not base64".to_owned()))?;
    let transaction = from_wire(&bytes).map_err(|error| undecoded(error.to_string()))?;
    // Nothing after it, and nothing in it that would be written otherwise.
    if wire(&transaction).is_ok_and(|again| again == bytes) {
        Ok(transaction)
    } else {
        Err(undecoded("is not written the one way there is".to_owned()))
    }
}
