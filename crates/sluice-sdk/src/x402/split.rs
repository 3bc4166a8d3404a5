use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sluice_intent::{Recipient, Resource, Shares, Terms};

use crate::{Address, PROGRAM_ID, SignedIntent, UnsignedIntent, accounts::Service};

/// The name of the split scheme.
pub const SCHEME: &str = "sluice-split";

/// A field of the split scheme that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct WireError {
    /// The field's name on the wire.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl WireError {
    fn new(field: &'static str, problem: impl ToString) -> Self {
        Self {
            field,
            problem: problem.to_string(),
        }
    }
}

/// `extra` of a requirement: everything that the terms hash covers, so that a client can recompute it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitExtra {
    /// The program.
    pub program: String,
    /// The service; also `payTo`.
    pub service: String,
    /// The facilitator account.
    pub facilitator: String,
    /// The facilitator's proportional share, in basis points.
    pub facilitator_bps: u16,
    /// The facilitator's fixed share, in atomic units.
    pub facilitator_fixed: String,
    /// The treasury's share, in basis points.
    pub treasury_bps: u16,
    /// Who divides the rest.
    pub recipients: Vec<RecipientTerms>,
    /// Hex of the terms hash.
    pub terms_hash: String,
    /// Base58 of the cluster's genesis hash.
    pub genesis_hash: String,
}

/// One recipient in [`SplitExtra`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecipientTerms {
    /// The wallet.
    pub owner: String,
    /// Its token account.
    pub token_account: String,
    /// Share of what treasury and facilitator leave, in basis points.
    pub bps: u16,
}

impl SplitExtra {
    /// What a server shows for a service.
    pub fn of_service(address: &Address, service: &Service, genesis_hash: &[u8; 32]) -> Self {
        let key = |bytes: [u8; 32]| Address::new_from_array(bytes).to_string();
        Self {
            program: PROGRAM_ID.to_string(),
            service: address.to_string(),
            facilitator: key(service.facilitator),
            facilitator_bps: service.facilitator_bps,
            facilitator_fixed: service.facilitator_fixed.to_string(),
            treasury_bps: service.treasury_bps,
            recipients: service
                .terms_recipients()
                .iter()
                .map(|row| RecipientTerms {
                    owner: key(row.owner),
                    token_account: key(row.token_account),
                    bps: row.bps,
                })
                .collect(),
            terms_hash: hex::encode(service.terms_hash),
            genesis_hash: key(*genesis_hash),
        }
    }

    /// The terms hash recomputed from the fields that a person was shown. A client must sign this one, and
    /// refuse when [`SplitExtra::terms_hash`] says another.
    pub fn compute_terms_hash(&self, mint: &Address) -> Result<[u8; 32], WireError> {
        let recipients = self
            .recipients
            .iter()
            .map(|row| {
                Ok(Recipient {
                    owner: address("recipients.owner", &row.owner)?.to_bytes(),
                    token_account: address("recipients.tokenAccount", &row.token_account)?
                        .to_bytes(),
                    bps: row.bps,
                })
            })
            .collect::<Result<Vec<_>, WireError>>()?;
        let terms = Terms {
            service: address("service", &self.service)?.to_bytes(),
            mint: mint.to_bytes(),
            facilitator: address("facilitator", &self.facilitator)?.to_bytes(),
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: number("facilitatorFixed", &self.facilitator_fixed)?,
            treasury_bps: self.treasury_bps,
            recipients: &recipients,
        };
        terms
            .validate()
            .map_err(|error| WireError::new("recipients", error))?;
        terms
            .hash()
            .map_err(|error| WireError::new("recipients", error))
    }

    /// Recomputes the terms hash, compares it with the one shown, and gives it.
    pub fn checked_terms_hash(&self, mint: &Address) -> Result<[u8; 32], WireError> {
        let computed = self.compute_terms_hash(mint)?;
        if hash("termsHash", &self.terms_hash)? != computed {
            let problem = "is not the hash of the terms shown beside it: do not pay this server";
            return Err(WireError::new("termsHash", problem));
        }
        Ok(computed)
    }

    /// The cluster's genesis hash.
    pub fn genesis_hash(&self) -> Result<[u8; 32], WireError> {
        address("genesisHash", &self.genesis_hash).map(|key| key.to_bytes())
    }

    /// How a payment of `amount` would be divided on its own.
    pub fn shares(&self, amount: u64) -> Result<Shares, WireError> {
        let fees = sluice_intent::split::Fees {
            treasury_bps: self.treasury_bps,
            facilitator_bps: self.facilitator_bps,
            facilitator_fixed: number("facilitatorFixed", &self.facilitator_fixed)?,
        };
        let bps: Vec<u16> = self.recipients.iter().map(|row| row.bps).collect();
        sluice_intent::split::split(amount, 1, &fees, &bps)
            .map_err(|_| WireError::new("recipients", "the shares cannot divide a payment"))
    }
}

/// `payload` of a payment: what is signed beyond the requirement, and the signature.
///
/// Numbers that may pass 2^53 are decimal strings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitPayload {
    /// The payer's nonce account.
    pub nonce_account: String,
    /// Slot in which it was opened.
    pub opened_slot: String,
    /// The lane whose key signed.
    pub lane: u8,
    /// Nonce in the lane's window.
    pub nonce: String,
    /// Unix seconds.
    pub expires_at: u32,
    /// Hex of the resource tag.
    pub resource: String,
    /// Base58 of the signature.
    pub signature: String,
}

impl SplitPayload {
    /// The payload of a signed intent.
    pub fn of_intent(signed: &SignedIntent) -> Self {
        Self {
            nonce_account: signed.intent.nonce_account.to_string(),
            opened_slot: signed.intent.opened_slot.to_string(),
            lane: signed.intent.lane,
            nonce: signed.intent.nonce.to_string(),
            expires_at: signed.intent.expires_at,
            resource: hex::encode(signed.intent.resource),
            signature: bs58::encode(signed.signature).into_string(),
        }
    }

    /// The signed intent, with what the requirement and the chain say about the rest.
    pub fn to_intent(
        &self,
        genesis_hash: [u8; 32],
        service: Address,
        terms_hash: [u8; 32],
        amount: u64,
    ) -> Result<SignedIntent, WireError> {
        let resource: Resource = fixed("resource", hex::decode(&self.resource))?;
        let signature: [u8; 64] = fixed("signature", bs58::decode(&self.signature).into_vec())?;
        Ok(SignedIntent {
            intent: UnsignedIntent {
                genesis_hash,
                nonce_account: address("nonceAccount", &self.nonce_account)?,
                opened_slot: number("openedSlot", &self.opened_slot)?,
                lane: self.lane,
                service,
                terms_hash,
                amount,
                nonce: number("nonce", &self.nonce)?,
                expires_at: self.expires_at,
                resource,
            },
            signature,
        })
    }
}

/// The legs of a payment, in atomic units. In a batch they are the payment's part for information; the legs
/// on chain are of the batch's sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SplitShares {
    /// The treasury's leg.
    pub treasury: String,
    /// The facilitator's leg.
    pub facilitator: String,
    /// The recipients' legs, in the order of the terms.
    pub recipients: Vec<String>,
}

impl SplitShares {
    /// The first `count` recipients of `shares`.
    pub fn of_shares(shares: &Shares, count: usize) -> Self {
        Self {
            treasury: shares.treasury.to_string(),
            facilitator: shares.facilitator.to_string(),
            recipients: shares
                .recipients
                .iter()
                .take(count)
                .map(u64::to_string)
                .collect(),
        }
    }
}

/// `extra` of a settle answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SettleExtra {
    /// Hex of the intent's digest. (transaction, index) is the payment's place on chain.
    pub digest: String,
    /// The payment's index in its transaction's `settle`.
    pub index: u32,
    /// How it was divided.
    pub split: SplitShares,
    /// The batch that it was settled in.
    pub batch: Batch,
}

/// The batch in [`SettleExtra`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Batch {
    /// Payments in the transaction.
    pub size: u32,
    /// The transaction's fee divided by them, which the relayer paid.
    pub lamports_per_payment: u64,
}

fn address(field: &'static str, text: &str) -> Result<Address, WireError> {
    Address::from_str(text)
        .map_err(|_| WireError::new(field, format!("{text:?} is not an address")))
}

fn number(field: &'static str, text: &str) -> Result<u64, WireError> {
    // `parse` alone would take "+1".
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parsed = if digits { text.parse().ok() } else { None };
    parsed.ok_or_else(|| WireError::new(field, format!("{text:?} is not a decimal u64")))
}

fn hash(field: &'static str, text: &str) -> Result<[u8; 32], WireError> {
    fixed(field, hex::decode(text))
}

fn fixed<const N: usize, E: ToString>(
    field: &'static str,
    bytes: Result<Vec<u8>, E>,
) -> Result<[u8; N], WireError> {
    let bytes = bytes.map_err(|error| WireError::new(field, error))?;
    let len = bytes.len();
    bytes
        .try_into()
        .map_err(|_| WireError::new(field, format!("{len} bytes instead of {N}")))
}
