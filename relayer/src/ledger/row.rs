//! What is kept: payments and transactions.

use std::{str::FromStr, sync::Arc};

use sluice_intent::{Digest, ENTRY_LEN, Entry};
use sluice_sdk::{
    Address,
    x402::{EXACT, SCHEME, SplitShares, Version},
};
use solana_signature::Signature;
use sqlx::{Row, any::AnyRow};

use super::identifier::Binding;

/// Where a payment stands. The first three are in memory alone; `Finalized`, `Failed` and `Expired` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Being judged.
    Received,
    /// Judged good; its nonce and its money are reserved.
    Admitted,
    /// In a batch that is being signed.
    Batched,
    /// A transaction is signed and written down.
    Signed,
    /// A node has taken the transaction.
    Sent,
    /// It landed, and the cluster has voted for its block.
    Confirmed,
    /// It landed, and can no longer be undone.
    Finalized,
    /// The program refused it in a transaction that landed, or its transaction failed; nothing was paid.
    Failed,
    /// It can no longer land: the intent has expired and every transaction of it is dead.
    Expired,
}

impl State {
    /// Every state, in the order of a payment's life.
    pub const ALL: [Self; 9] = [
        Self::Received,
        Self::Admitted,
        Self::Batched,
        Self::Signed,
        Self::Sent,
        Self::Confirmed,
        Self::Finalized,
        Self::Failed,
        Self::Expired,
    ];

    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Admitted => "admitted",
            Self::Batched => "batched",
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Finalized => "finalized",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Whether nobody knows yet if it will be paid.
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Received | Self::Admitted | Self::Batched | Self::Signed | Self::Sent
        )
    }

    /// Whether it was paid.
    pub fn is_paid(self) -> bool {
        matches!(self, Self::Confirmed | Self::Finalized)
    }
}

/// A payment that a transaction is signed for.
#[derive(Clone, Debug, PartialEq)]
pub struct NewPayment {
    /// Its identity: the intent's digest, or the hash of the payer's message.
    pub digest: Digest,
    /// The version of the protocol in which it was asked for.
    pub version: Version,
    /// Who pays.
    pub payer: Address,
    /// Who is paid: the service, or whoever a transfer's `payTo` names.
    pub service: Address,
    /// The mint.
    pub mint: Address,
    /// Atomic units.
    pub amount: u64,
    /// The token account that they come from.
    pub source: Address,
    /// Unix seconds of the chain's clock after which nobody can have it settled.
    pub expires_at: i64,
    /// How it moves the money.
    pub means: Means,
    /// What was agreed when it was taken on. Not read back.
    pub deal: Deal,
    /// The name of the API key that asked for it.
    pub api_key: Option<Arc<str>>,
}

/// What is agreed about a payment when it is taken on, beside the payment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deal {
    /// The facilitator's share, in atomic units.
    pub share: u64,
    /// What that is worth, in lamports; `None` where a price is not known.
    pub worth: Option<u64>,
    /// The id that its payer gave it.
    pub binding: Option<Binding>,
    /// What the day's subsidy gives for it.
    pub charge: Option<Charge>,
}

/// Lamports out of a day's subsidy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// Days since 1970.
    pub day: i64,
    /// Lamports.
    pub lamports: u64,
    /// The most that may be used on that day.
    pub per_day: u64,
}

/// How a payment moves money.
#[derive(Clone, Debug, PartialEq)]
pub enum Means {
    /// A signed intent (scheme `sluice-split`): any transaction may carry it, alone or with others.
    Intent(Box<IntentMeans>),
    /// A transfer in a transaction that the payer has signed (scheme `exact`): there is that one and no other.
    Transfer {
        /// Whether it goes into a service's vault, from where the program distributes it.
        to_vault: bool,
    },
}

/// What only an intent has.
#[derive(Clone, Debug, PartialEq)]
pub struct IntentMeans {
    /// The nonce that it burns.
    pub nonce: NonceKey,
    /// The entry as it goes on chain.
    pub entry: Entry,
    /// How it is divided, on its own.
    pub split: SplitShares,
}

/// A nonce: two live payments never share one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NonceKey {
    /// The payer's nonce account.
    pub account: Address,
    /// Slot in which that was opened.
    pub opened_slot: u64,
    /// The lane.
    pub lane: u8,
    /// The nonce.
    pub nonce: u64,
}

impl NewPayment {
    /// What only an intent has.
    pub fn intent(&self) -> Option<&IntentMeans> {
        match &self.means {
            Means::Intent(intent) => Some(intent),
            Means::Transfer { .. } => None,
        }
    }

    /// The scheme's name.
    pub fn scheme(&self) -> &'static str {
        match self.means {
            Means::Intent(_) => SCHEME,
            Means::Transfer { .. } => EXACT,
        }
    }
}

/// A payment of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct PaymentRow {
    /// The payment.
    pub payment: NewPayment,
    /// Where it stands.
    pub state: State,
    /// Why it failed or expired: reason and message.
    pub verdict: Option<(String, String)>,
    /// The transaction that landed; else the live one, else the latest.
    pub attempt: Option<Attempt>,
    /// Whether `/settle` has answered success.
    pub answered: bool,
    /// Unix milliseconds of the relayer's clock.
    pub created_at: i64,
    /// Unix milliseconds of the relayer's clock.
    pub updated_at: i64,
}

/// A transaction that carries a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its signature.
    pub signature: Signature,
    /// The payment's place among its entries.
    pub position: u32,
    /// Payments that it carries.
    pub payments: u32,
    /// What it costs in all, in lamports.
    pub fee_lamports: u64,
    /// The slot it landed in.
    pub slot: Option<u64>,
}

/// A transaction whose fate is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenTransaction {
    /// Its signature.
    pub signature: Signature,
    /// Its bytes.
    pub wire: Vec<u8>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// The slot of the block whose hash it was signed with; `None` where an earlier version signed it.
    pub signed_slot: Option<u64>,
    /// The payments that it carries, in the order of its entries.
    pub digests: Vec<Digest>,
}

/// A transaction that landed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LandedTransaction {
    /// It.
    pub transaction: OpenTransaction,
    /// The slot it landed in.
    pub slot: u64,
}

/// The ledger could not be read or written.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LedgerError {
    /// The URL names no database that is known.
    #[error("must begin with sqlite:// or postgres://")]
    Url,
    /// The database refused; nothing was changed.
    #[error("the ledger did not answer: {0}")]
    Database(String),
    /// Another replica changed the same at the same moment; nothing was changed here, and it may be tried again.
    #[error("another relayer was faster: {0}")]
    Contended(String),
    /// A commit did not come back; what it held may be on disk or not.
    #[error("a commit of the ledger did not come back: {0}")]
    Commit(String),
    /// Too many changes wait to be written; nothing was changed.
    #[error("too much waits to be written down: try again shortly")]
    Busy,
    /// This relayer was not heard of for longer than its lease; nothing was changed.
    #[error(
        "this relayer's lease has run out: its transactions are another's to follow until it is heard of again"
    )]
    Lapsed,
    /// The ledger is not to be written now; nothing was changed.
    #[error("the ledger takes no changes now")]
    Closed,
    /// Its schema could not be brought up to date.
    #[error("the ledger's schema could not be applied: {0}")]
    Migrate(String),
    /// A row holds what this version does not write.
    #[error("the ledger holds a row that cannot be read: {0}")]
    Row(String),
}

impl From<sqlx::Error> for LedgerError {
    fn from(error: sqlx::Error) -> Self {
        // Postgres: a row that another commit made meanwhile, a commit that would have to be undone, a deadlock.
        const CONTENDED: [&str; 3] = ["23505", "40001", "40P01"];
        let code = error.as_database_error().and_then(|error| error.code());
        if code.is_some_and(|code| CONTENDED.contains(&code.as_ref())) {
            Self::Contended(error.to_string())
        } else {
            Self::Database(error.to_string())
        }
    }
}

impl From<sqlx::migrate::MigrateError> for LedgerError {
    fn from(error: sqlx::migrate::MigrateError) -> Self {
        Self::Migrate(error.to_string())
    }
}

pub(super) fn read_payment(row: &AnyRow) -> Result<PaymentRow, LedgerError> {
    let state: String = row.try_get("state")?;
    let state = State::ALL
        .into_iter()
        .find(|known| known.as_str() == state)
        .ok_or_else(|| LedgerError::Row(format!("state {state:?}")))?;
    let reason: Option<String> = row.try_get("reason")?;
    let message: Option<String> = row.try_get("message")?;
    Ok(PaymentRow {
        payment: NewPayment {
            digest: digest(&row.try_get::<String, _>("digest")?)?,
            version: match row.try_get::<i64, _>("x402_version")? {
                1 => Version::V1,
                _ => Version::V2,
            },
            payer: column(row, "payer")?,
            service: column(row, "service")?,
            mint: column(row, "mint")?,
            amount: column(row, "amount")?,
            source: column(row, "source")?,
            expires_at: row.try_get("expires_at")?,
            means: read_means(row)?,
            deal: Deal::default(),
            api_key: row.try_get::<Option<String>, _>("api_key")?.map(Arc::from),
        },
        state,
        verdict: reason.map(|reason| (reason, message.unwrap_or_default())),
        attempt: read_attempt(row)?,
        answered: row.try_get::<i64, _>("answered")? != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn read_means(row: &AnyRow) -> Result<Means, LedgerError> {
    let scheme: String = row.try_get("scheme")?;
    match scheme.as_str() {
        EXACT => {
            return Ok(Means::Transfer {
                to_vault: row.try_get::<i64, _>("to_vault")? != 0,
            });
        }
        SCHEME => {}
        other => return Err(LedgerError::Row(format!("scheme {other:?}"))),
    }
    let entry: Vec<u8> = row.try_get("entry")?;
    let entry: [u8; ENTRY_LEN] = entry
        .try_into()
        .map_err(|_| LedgerError::Row("entry has another length".to_owned()))?;
    let split: String = row.try_get("split")?;
    Ok(Means::Intent(Box::new(IntentMeans {
        nonce: NonceKey {
            account: column(row, "nonce_account")?,
            opened_slot: column(row, "opened_slot")?,
            lane: small(row, "lane")?,
            nonce: column(row, "nonce")?,
        },
        entry: Entry::decode(&entry),
        split: serde_json::from_str(&split)
            .map_err(|error| LedgerError::Row(format!("split: {error}")))?,
    })))
}

/// The transaction of a payment's row, if it has one.
pub(super) fn read_attempt(row: &AnyRow) -> Result<Option<Attempt>, LedgerError> {
    let signature: Option<String> = row.try_get("attempt_signature")?;
    let Some(signature) = signature else {
        return Ok(None);
    };
    Ok(Some(Attempt {
        signature: parse(&signature, "signature")?,
        position: small(row, "position")?,
        payments: small(row, "payments")?,
        fee_lamports: from_sql(row.try_get("fee_lamports")?, "fee_lamports")?,
        slot: row
            .try_get::<Option<i64>, _>("slot")?
            .map(|slot| from_sql(slot, "slot"))
            .transpose()?,
    }))
}

pub(super) fn digest(text: &str) -> Result<Digest, LedgerError> {
    let mut digest = Digest::default();
    hex::decode_to_slice(text, &mut digest)
        .map_err(|error| LedgerError::Row(format!("digest: {error}")))?;
    Ok(digest)
}

/// A column whose text is parsed.
pub(super) fn column<T: FromStr>(row: &AnyRow, name: &'static str) -> Result<T, LedgerError> {
    parse(&row.try_get::<String, _>(name)?, name)
}

pub(super) fn parse<T: FromStr>(text: &str, name: &'static str) -> Result<T, LedgerError> {
    text.parse()
        .map_err(|_| LedgerError::Row(format!("{name} {text:?}")))
}

pub(super) fn small<T: TryFrom<i64>>(row: &AnyRow, name: &'static str) -> Result<T, LedgerError> {
    let value: i64 = row.try_get(name)?;
    T::try_from(value).map_err(|_| LedgerError::Row(format!("{name} {value}")))
}

pub(super) fn from_sql(value: i64, name: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(value).map_err(|_| LedgerError::Row(format!("{name} {value}")))
}

/// Slots, heights and lamports: far below 2^63, and a liar's number stays a big one.
pub(super) fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
