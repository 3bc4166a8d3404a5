use serde::{Serialize, Serializer};
use serde_json::Value;
use sluice_sdk::x402::{Batch, Network, SettleResponse, SplitShares};

use super::Sent;

/// Proof of a payment, and what it bought.
///
/// It is the facilitator's word, passed on by the server: it names the intent that was signed, and whoever
/// wants certainty looks the transaction up on chain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Receipt {
    /// The HTTP status of the answer.
    pub status: u16,
    /// Its type, if the server says.
    pub content_type: Option<String>,
    /// What was bought. Not part of the serialised receipt.
    #[serde(skip)]
    pub body: Vec<u8>,
    /// The transaction's signature.
    pub transaction: String,
    /// The payment's index in the transaction.
    pub index: Option<u32>,
    /// Hex of the digest of the intent that was signed.
    pub digest: String,
    /// What was paid, in atomic units.
    #[serde(serialize_with = "text")]
    pub amount: u64,
    /// The mint.
    pub mint: String,
    /// The payer.
    pub payer: String,
    /// The service that was paid.
    pub service: String,
    /// The network.
    pub network: Network,
    /// Who received what; adds up to the amount. In a batch this is the payment's part of the legs.
    pub split: Vec<Leg>,
    /// Whether `split` is the facilitator's account of it. Otherwise it follows from the terms.
    pub split_reported: bool,
    /// Payments that shared the transaction.
    pub batch_size: Option<u32>,
    /// The transaction's fee divided by them, which the relayer paid.
    pub lamports_per_payment: Option<u64>,
}

/// One leg of a payment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Leg {
    /// What the owner is in the terms.
    pub role: Role,
    /// The recipient's wallet, or the facilitator's account. The terms do not name the treasury's wallet.
    pub owner: Option<String>,
    /// The recipient's token account.
    pub token_account: Option<String>,
    /// Atomic units.
    #[serde(serialize_with = "text")]
    pub amount: u64,
}

/// What the owner of a leg is in the terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Role {
    /// The treasury of the program.
    Treasury,
    /// The facilitator.
    Facilitator,
    /// A recipient of the service.
    Recipient,
}

impl Receipt {
    /// Reads the settlement that answers `sent`. What it says must fit what was signed, or it proves nothing.
    pub(super) fn read(
        sent: &Sent,
        status: u16,
        content_type: Option<String>,
        settled: &SettleResponse,
    ) -> Result<Self, String> {
        let offer = &sent.plan().offer;
        let extra = settled.extra.as_ref().unwrap_or(&Value::Null);
        match extra.get("digest").and_then(Value::as_str) {
            Some(digest) if digest.eq_ignore_ascii_case(sent.digest()) => {}
            Some(other) => return Err(format!("the settlement is of another payment, {other}")),
            None => return Err("the settlement does not say of which payment it is".into()),
        }
        if !is_signature(&settled.transaction) {
            return Err(format!(
                "the settlement names no transaction: {:?}",
                settled.transaction
            ));
        }
        if settled.network.parse() != Ok(offer.network) {
            return Err(format!(
                "the settlement is on another network, {:?}",
                settled.network
            ));
        }
        if let Some(amount) = &settled.amount
            && amount.parse() != Ok(offer.amount)
        {
            return Err(format!("the settlement is of another amount, {amount:?}"));
        }
        let payer = sent.payer().to_string();
        if let Some(other) = settled.payer.as_ref().filter(|other| **other != payer) {
            return Err(format!("the settlement is of another payer, {other:?}"));
        }

        let read = |name: &str| extra.get(name).cloned().unwrap_or(Value::Null);
        let reported: Option<SplitShares> = serde_json::from_value(read("split")).ok();
        let reported = reported.and_then(|shares| reported_legs(sent, &shares));
        let batch: Option<Batch> = serde_json::from_value(read("batch")).ok();
        Ok(Self {
            status,
            content_type,
            body: Vec::new(),
            transaction: settled.transaction.clone(),
            index: serde_json::from_value(read("index")).ok(),
            digest: sent.digest().to_owned(),
            amount: offer.amount,
            mint: offer.mint.to_string(),
            payer,
            service: offer.service.to_string(),
            network: offer.network,
            split_reported: reported.is_some(),
            split: reported.unwrap_or_else(|| own_legs(sent)),
            batch_size: batch.as_ref().map(|batch| batch.size),
            lamports_per_payment: batch.as_ref().map(|batch| batch.lamports_per_payment),
        })
    }
}

/// The legs as the facilitator reports them; nothing if they are not a division of the amount.
fn reported_legs(sent: &Sent, shares: &SplitShares) -> Option<Vec<Leg>> {
    let recipients: Option<Vec<u64>> = shares.recipients.iter().map(|s| s.parse().ok()).collect();
    let recipients = recipients?;
    let (treasury, facilitator) = (
        shares.treasury.parse().ok()?,
        shares.facilitator.parse().ok()?,
    );
    let offer = &sent.plan().offer;
    let sum = recipients
        .iter()
        .chain([&treasury, &facilitator])
        .try_fold(0u64, |sum, leg| sum.checked_add(*leg));
    let fits = sum == Some(offer.amount) && recipients.len() == offer.terms.recipients.len();
    fits.then(|| legs(sent, treasury, facilitator, &recipients))
}

fn own_legs(sent: &Sent) -> Vec<Leg> {
    let shares = &sent.plan().offer.shares;
    legs(
        sent,
        shares.treasury,
        shares.facilitator,
        &shares.recipients,
    )
}

fn legs(sent: &Sent, treasury: u64, facilitator: u64, recipients: &[u64]) -> Vec<Leg> {
    let terms = &sent.plan().offer.terms;
    let mut legs = vec![
        Leg {
            role: Role::Treasury,
            owner: None,
            token_account: None,
            amount: treasury,
        },
        Leg {
            role: Role::Facilitator,
            owner: Some(terms.facilitator.clone()),
            token_account: None,
            amount: facilitator,
        },
    ];
    legs.extend(
        terms
            .recipients
            .iter()
            .zip(recipients)
            .map(|(row, amount)| Leg {
                role: Role::Recipient,
                owner: Some(row.owner.clone()),
                token_account: Some(row.token_account.clone()),
                amount: *amount,
            }),
    );
    legs
}

fn is_signature(text: &str) -> bool {
    bs58::decode(text)
        .into_vec()
        .is_ok_and(|bytes| bytes.len() == 64)
}

fn text<S: Serializer>(amount: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(amount)
}
