//! The ledger: what the relayer has promised, signed and sent, on disk before it happens.
//!
//! Every change of a payment's state is a compare-and-swap on the state before it, so that of two tasks
//! that act on one payment one wins and the other notices.

use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sluice_intent::{Digest, ENTRY_LEN, Entry};
use sluice_sdk::{
    Address,
    x402::{SplitShares, Version},
};
use solana_signature::Signature;
use sqlx::{
    Row, SqlitePool,
    sqlite::{
        SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use crate::{
    reason::{Reason, Rejection},
    verify::{Admission, InFlight},
};

/// Where a payment stands. `Confirmed`, `Rejected`, `Failed` and `Expired` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Judged good; its nonce and its money are reserved.
    Received,
    /// The simulated transaction went through.
    Admitted,
    /// A transaction is signed and written down.
    Signed,
    /// A node has taken the transaction.
    Sent,
    /// It landed.
    Confirmed,
    /// Refused before anything was signed. The same intent may be tried again.
    Rejected,
    /// It landed with an error; nothing was paid.
    Failed,
    /// It can no longer land: the intent has expired and every transaction of it is dead.
    Expired,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Received,
        Self::Admitted,
        Self::Signed,
        Self::Sent,
        Self::Confirmed,
        Self::Rejected,
        Self::Failed,
        Self::Expired,
    ];

    /// The word in the database and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Admitted => "admitted",
            Self::Signed => "signed",
            Self::Sent => "sent",
            Self::Confirmed => "confirmed",
            Self::Rejected => "rejected",
            Self::Failed => "failed",
            Self::Expired => "expired",
        }
    }

    /// Whether it can still change by itself.
    pub fn is_live(self) -> bool {
        matches!(
            self,
            Self::Received | Self::Admitted | Self::Signed | Self::Sent
        )
    }
}

/// The live states, for SQL.
const LIVE: &str = "('received', 'admitted', 'signed', 'sent')";

/// A payment of the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct PaymentRow {
    /// The intent's digest.
    pub digest: Digest,
    /// Where it stands.
    pub state: State,
    /// Who pays.
    pub payer: Address,
    /// The service.
    pub service: Address,
    /// The mint.
    pub mint: Address,
    /// Atomic units.
    pub amount: u64,
    /// The payer's nonce account.
    pub nonce_account: Address,
    /// Slot in which that was opened.
    pub opened_slot: u64,
    /// The lane.
    pub lane: u8,
    /// The nonce.
    pub nonce: u64,
    /// Unix seconds of the chain's clock.
    pub expires_at: i64,
    /// The entry as it goes on chain.
    pub entry: Entry,
    /// How it is divided.
    pub split: SplitShares,
    /// Why it was rejected, failed or expired: reason and message.
    pub verdict: Option<(String, String)>,
    /// The transaction that landed, with or without an error; else the live one, else the latest.
    pub signature: Option<Signature>,
    /// The slot it landed in.
    pub slot: Option<u64>,
    /// Lamports that the landed transaction cost.
    pub fee_lamports: Option<u64>,
    /// Whether `/settle` has answered success.
    pub answered: bool,
    /// Unix milliseconds of this machine's clock.
    pub created_at: i64,
    /// Unix milliseconds of this machine's clock.
    pub updated_at: i64,
}

/// A transaction, before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its signature.
    pub signature: Signature,
    /// Its bytes.
    pub wire: Vec<u8>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// What it costs, in lamports.
    pub fee_lamports: u64,
}

/// A live transaction of a payment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenAttempt {
    /// The payment.
    pub digest: Digest,
    /// When the intent expires, unix seconds of the chain's clock.
    pub expires_at: i64,
    /// The transaction.
    pub attempt: Attempt,
}

/// What became of an attempt to claim a digest.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// It is the caller's to settle.
    New,
    /// It is known; here is how it stands.
    Known(Box<PaymentRow>),
    /// Another payment holds the nonce.
    NonceConflict,
    /// It does not hold beside what is in flight.
    Refused(Rejection),
    /// Too many payments are open.
    Full,
}

/// What a status query found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It landed and paid.
    Confirmed {
        /// The slot.
        slot: u64,
    },
    /// It landed with an error.
    Failed {
        /// The slot.
        slot: u64,
        /// Why.
        rejection: Rejection,
    },
}

/// The ledger could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The database refused.
    #[error("the ledger did not answer: {0}")]
    Database(#[from] sqlx::Error),
    /// Its schema could not be brought up to date.
    #[error("the ledger's schema could not be applied: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this version does not write.
    #[error("the ledger holds a row that cannot be read: {0}")]
    Row(String),
    /// A payment was not in the state that a change needs: another task was faster.
    #[error("payment {digest} is no longer {expected}")]
    Moved {
        /// Its digest, hex.
        digest: String,
        /// The state that was needed.
        expected: &'static str,
    },
}

/// A SQLite ledger. Reads and writes have connections of their own: one writer, so that no transaction ever
/// waits for a lock that another one of this process holds.
#[derive(Clone, Debug)]
pub struct Ledger {
    writer: SqlitePool,
    reader: SqlitePool,
}

const READERS: u32 = 4;
const COLUMNS: &str = "p.*, coalesce(p.signature, (SELECT a.signature FROM attempts a WHERE a.digest = p.digest \
     ORDER BY a.outcome = 'open' DESC, a.rowid DESC LIMIT 1)) AS current_signature";

impl Ledger {
    /// Opens the ledger at a `sqlite:` URL, creates it if it is missing, and brings its schema up to date.
    pub async fn open(url: &str) -> Result<Self, LedgerError> {
        let options = SqliteConnectOptions::from_str(url)?
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A commit that came back must survive the machine's death: bytes leave right after it.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let pool = |connections: u32| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(10))
        };
        let writer = pool(1).connect_with(options.clone()).await?;
        sqlx::migrate!("./migrations").run(&writer).await?;
        let reader = pool(READERS)
            .connect_with(options.create_if_missing(false))
            .await?;
        Ok(Self { writer, reader })
    }

    /// Closes it; what is open is finished first.
    pub async fn close(&self) {
        self.reader.close().await;
        self.writer.close().await;
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        sqlx::query("SELECT 1").execute(&self.writer).await?;
        Ok(())
    }

    /// Takes a payment on, in one transaction: nobody else has its digest or its nonce, and it holds beside
    /// everything that is in flight (or landed after `since`, unix milliseconds of this machine, which the
    /// snapshot that it was judged by may not show).
    pub async fn claim(
        &self,
        admission: &Admission,
        version: Version,
        since: i64,
        max_in_flight: u32,
    ) -> Result<Claim, LedgerError> {
        let digest = hex::encode(admission.digest);
        let mut tx = self.writer.begin().await?;
        let known = sqlx::query(&format!(
            "SELECT {COLUMNS} FROM payments p WHERE p.digest = ?"
        ))
        .bind(&digest)
        .fetch_optional(&mut *tx)
        .await?
        .map(|row| read_payment(&row))
        .transpose()?;
        if let Some(row) = known.filter(|row| row.state != State::Rejected) {
            return Ok(Claim::Known(Box::new(row)));
        }
        let open: i64 = sqlx::query_scalar(&format!(
            "SELECT count(*) FROM payments WHERE state IN {LIVE}"
        ))
        .fetch_one(&mut *tx)
        .await?;
        if open >= i64::from(max_in_flight) {
            return Ok(Claim::Full);
        }
        let in_flight = read_in_flight(
            sqlx::query(IN_FLIGHT)
                .bind(admission.item.nonce_account.to_string())
                .bind(since)
                .fetch_all(&mut *tx)
                .await?,
        )?;
        if let Err(rejection) = admission.reserve(&in_flight) {
            return Ok(match rejection.reason {
                Reason::NonceConflict => Claim::NonceConflict,
                _ => Claim::Refused(rejection),
            });
        }
        let intent = &admission.signed.intent;
        let split = SplitShares::of_shares(&admission.shares, admission.accounts.recipients.len());
        let split =
            serde_json::to_string(&split).map_err(|error| LedgerError::Row(error.to_string()))?;
        let now = unix_millis();
        let inserted = sqlx::query(
            "INSERT INTO payments (digest, state, payer, service, mint, amount, nonce_account, opened_slot, lane, \
             nonce, expires_at, x402_version, entry, split, created_at, updated_at) \
             VALUES (?, 'received', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) \
             ON CONFLICT (digest) DO UPDATE SET state = 'received', reason = NULL, message = NULL, \
             entry = excluded.entry, updated_at = excluded.updated_at WHERE payments.state = 'rejected'",
        )
        .bind(&digest)
        .bind(admission.payer.to_string())
        .bind(intent.service.to_string())
        .bind(admission.mint.to_string())
        .bind(intent.amount.to_string())
        .bind(intent.nonce_account.to_string())
        .bind(intent.opened_slot.to_string())
        .bind(i64::from(intent.lane))
        .bind(intent.nonce.to_string())
        .bind(i64::from(intent.expires_at))
        .bind(i64::from(version.number()))
        .bind(&admission.item.entry.encode()[..])
        .bind(split)
        .bind(now)
        .bind(now)
        .execute(&mut *tx)
        .await;
        match inserted {
            Ok(_) => {
                tx.commit().await?;
                Ok(Claim::New)
            }
            Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
                Ok(Claim::NonceConflict)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The simulation went through.
    pub async fn admit(&self, digest: &Digest) -> Result<(), LedgerError> {
        let done = sqlx::query(
            "UPDATE payments SET state = 'admitted', updated_at = ? WHERE digest = ? AND state = 'received'",
        )
        .bind(unix_millis())
        .bind(hex::encode(digest))
        .execute(&self.writer)
        .await?;
        moved(done.rows_affected(), digest, "received")
    }

    /// Refuses a payment before anything was signed for it.
    pub async fn reject(&self, digest: &Digest, rejection: &Rejection) -> Result<(), LedgerError> {
        let done = sqlx::query(
            "UPDATE payments SET state = 'rejected', reason = ?, message = ?, updated_at = ? \
             WHERE digest = ? AND state IN ('received', 'admitted')",
        )
        .bind(rejection.reason.as_str().into_owned())
        .bind(&rejection.message)
        .bind(unix_millis())
        .bind(hex::encode(digest))
        .execute(&self.writer)
        .await?;
        moved(done.rows_affected(), digest, "received or admitted")
    }

    /// Writes a signed transaction down. Only after this may its first byte leave.
    ///
    /// `Admitted` for the first one; `Sent` (or `Signed`) for one that replaces a dead one.
    pub async fn sign(&self, digest: &Digest, attempt: &Attempt) -> Result<(), LedgerError> {
        let hex = hex::encode(digest);
        let mut tx = self.writer.begin().await?;
        let done = sqlx::query(
            "UPDATE payments SET state = 'signed', updated_at = ? WHERE digest = ? \
             AND state IN ('admitted', 'signed', 'sent') \
             AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.digest = payments.digest AND a.outcome <> 'dead')",
        )
        .bind(unix_millis())
        .bind(&hex)
        .execute(&mut *tx)
        .await?;
        moved(
            done.rows_affected(),
            digest,
            "admitted, or without a live transaction",
        )?;
        sqlx::query(
            "INSERT INTO attempts (signature, digest, wire, last_valid_block_height, fee_lamports, signed_at) \
             VALUES (?, ?, ?, ?, ?, ?)",
        )
        .bind(attempt.signature.to_string())
        .bind(&hex)
        .bind(&attempt.wire[..])
        .bind(to_sql(attempt.last_valid_block_height))
        .bind(to_sql(attempt.fee_lamports))
        .bind(unix_millis())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(())
    }

    /// A node has taken the transaction.
    pub async fn mark_sent(
        &self,
        digest: &Digest,
        signature: &Signature,
    ) -> Result<(), LedgerError> {
        let now = unix_millis();
        let mut tx = self.writer.begin().await?;
        sqlx::query("UPDATE attempts SET sent_at = coalesce(sent_at, ?) WHERE signature = ?")
            .bind(now)
            .bind(signature.to_string())
            .execute(&mut *tx)
            .await?;
        // It may have been confirmed before this line is reached.
        sqlx::query("UPDATE payments SET state = 'sent', updated_at = ? WHERE digest = ? AND state = 'signed'")
            .bind(now)
            .bind(hex::encode(digest))
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Records where a transaction landed. Says whether this call was the one that changed the payment.
    pub async fn land(
        &self,
        digest: &Digest,
        signature: &Signature,
        landing: &Landing,
    ) -> Result<bool, LedgerError> {
        let (state, outcome, slot, rejection) = match landing {
            Landing::Confirmed { slot } => (State::Confirmed, "landed", *slot, None),
            Landing::Failed { slot, rejection } => {
                (State::Failed, "failed", *slot, Some(rejection))
            }
        };
        let text = signature.to_string();
        let mut tx = self.writer.begin().await?;
        // A transaction that was called dead and landed after all still counts: the chain is right.
        let done = sqlx::query(
            "UPDATE payments SET state = ?, signature = ?, slot = ?, reason = ?, message = ?, updated_at = ?, \
             fee_lamports = (SELECT fee_lamports FROM attempts WHERE signature = ?) \
             WHERE digest = ? AND state IN ('signed', 'sent')",
        )
        .bind(state.as_str())
        .bind(&text)
        .bind(to_sql(slot))
        .bind(rejection.map(|r| r.reason.as_str().into_owned()))
        .bind(rejection.map(|r| r.message.clone()))
        .bind(unix_millis())
        .bind(&text)
        .bind(hex::encode(digest))
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE attempts SET outcome = ? WHERE signature = ?")
            .bind(outcome)
            .bind(&text)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(done.rows_affected() == 1)
    }

    /// Records that a transaction can never land.
    pub async fn bury(&self, signature: &Signature) -> Result<(), LedgerError> {
        sqlx::query(
            "UPDATE attempts SET outcome = 'dead' WHERE signature = ? AND outcome = 'open'",
        )
        .bind(signature.to_string())
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// Closes a payment whose intent has expired and whose every transaction is dead.
    pub async fn expire(
        &self,
        digest: &Digest,
        rejection: &Rejection,
    ) -> Result<bool, LedgerError> {
        let done = sqlx::query(
            "UPDATE payments SET state = 'expired', reason = ?, message = ?, updated_at = ? WHERE digest = ? \
             AND state IN ('signed', 'sent') \
             AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.digest = payments.digest AND a.outcome <> 'dead')",
        )
        .bind(rejection.reason.as_str().into_owned())
        .bind(&rejection.message)
        .bind(unix_millis())
        .bind(hex::encode(digest))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// Takes the one success of a confirmed payment. True for exactly one caller, ever.
    pub async fn take_success(&self, digest: &Digest) -> Result<bool, LedgerError> {
        let done = sqlx::query(
            "UPDATE payments SET answered = 1 WHERE digest = ? AND state = 'confirmed' AND answered = 0",
        )
        .bind(hex::encode(digest))
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected() == 1)
    }

    /// A payment.
    pub async fn payment(&self, digest: &Digest) -> Result<Option<PaymentRow>, LedgerError> {
        sqlx::query(&format!(
            "SELECT {COLUMNS} FROM payments p WHERE p.digest = ?"
        ))
        .bind(hex::encode(digest))
        .fetch_optional(&self.reader)
        .await?
        .map(|row| read_payment(&row))
        .transpose()
    }

    /// The signatures of every transaction ever made for a payment, the first first.
    pub async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, LedgerError> {
        let rows: Vec<String> =
            sqlx::query_scalar("SELECT signature FROM attempts WHERE digest = ? ORDER BY rowid")
                .bind(hex::encode(digest))
                .fetch_all(&self.reader)
                .await?;
        rows.iter().map(|text| parse(text, "signature")).collect()
    }

    /// What a nonce account has in flight, and what landed after `since` (unix milliseconds of this
    /// machine), which a snapshot taken then may not show.
    pub async fn in_flight(
        &self,
        nonce_account: &Address,
        since: i64,
    ) -> Result<Vec<InFlight>, LedgerError> {
        let rows = sqlx::query(IN_FLIGHT)
            .bind(nonce_account.to_string())
            .bind(since)
            .fetch_all(&self.reader)
            .await?;
        read_in_flight(rows)
    }

    /// Every live transaction, the oldest first.
    pub async fn open_attempts(&self) -> Result<Vec<OpenAttempt>, LedgerError> {
        let rows = sqlx::query(
            "SELECT a.*, p.expires_at FROM attempts a JOIN payments p ON p.digest = a.digest \
             WHERE a.outcome = 'open' AND p.state IN ('signed', 'sent') ORDER BY a.rowid",
        )
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OpenAttempt {
                    digest: digest(row)?,
                    expires_at: row.try_get("expires_at")?,
                    attempt: Attempt {
                        signature: parse(row.try_get("signature")?, "signature")?,
                        wire: row.try_get("wire")?,
                        last_valid_block_height: from_sql(row, "last_valid_block_height")?,
                        fee_lamports: from_sql(row, "fee_lamports")?,
                    },
                })
            })
            .collect()
    }

    /// Payments that were sent and have no live transaction left: to be signed again, or expired.
    pub async fn unsent(&self) -> Result<Vec<PaymentRow>, LedgerError> {
        let rows = sqlx::query(&format!(
            "SELECT {COLUMNS} FROM payments p WHERE p.state IN ('signed', 'sent') AND NOT EXISTS \
             (SELECT 1 FROM attempts a WHERE a.digest = p.digest AND a.outcome <> 'dead') ORDER BY p.created_at"
        ))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(read_payment).collect()
    }

    /// Gives up payments for which nothing was signed by `before` (unix milliseconds of this machine): the
    /// task that had them is gone. They may be tried again.
    pub async fn release(&self, before: i64) -> Result<u64, LedgerError> {
        let done = sqlx::query(
            "UPDATE payments SET state = 'rejected', reason = 'unexpected_settle_error', \
             message = 'the settlement was interrupted before anything was signed: try again', updated_at = ? \
             WHERE state IN ('received', 'admitted') AND updated_at < ?",
        )
        .bind(unix_millis())
        .bind(before)
        .execute(&self.writer)
        .await?;
        Ok(done.rows_affected())
    }
}

const IN_FLIGHT: &str = "SELECT digest, lane, nonce, amount, opened_slot FROM payments WHERE nonce_account = ? \
     AND (state IN ('received', 'admitted', 'signed', 'sent') OR (state = 'confirmed' AND updated_at >= ?))";

fn read_in_flight(rows: Vec<SqliteRow>) -> Result<Vec<InFlight>, LedgerError> {
    rows.iter()
        .map(|row| {
            Ok(InFlight {
                digest: digest(row)?,
                lane: lane(row)?,
                nonce: number(row, "nonce")?,
                amount: number(row, "amount")?,
                opened_slot: number(row, "opened_slot")?,
            })
        })
        .collect()
}

fn read_payment(row: &SqliteRow) -> Result<PaymentRow, LedgerError> {
    let state: &str = row.try_get("state")?;
    let state = State::ALL
        .into_iter()
        .find(|known| known.as_str() == state)
        .ok_or_else(|| LedgerError::Row(format!("state {state:?}")))?;
    let entry: Vec<u8> = row.try_get("entry")?;
    let entry: [u8; ENTRY_LEN] = entry
        .try_into()
        .map_err(|_| LedgerError::Row("entry has another length".to_owned()))?;
    let split: &str = row.try_get("split")?;
    let address = |column: &'static str| -> Result<Address, LedgerError> {
        parse(row.try_get::<&str, _>(column)?, column)
    };
    let reason: Option<String> = row.try_get("reason")?;
    let message: Option<String> = row.try_get("message")?;
    let signature: Option<&str> = row.try_get("current_signature")?;
    let optional = |column: &'static str| -> Result<Option<u64>, LedgerError> {
        let value: Option<i64> = row.try_get(column)?;
        value.map(|value| positive(value, column)).transpose()
    };
    Ok(PaymentRow {
        digest: digest(row)?,
        state,
        payer: address("payer")?,
        service: address("service")?,
        mint: address("mint")?,
        amount: number(row, "amount")?,
        nonce_account: address("nonce_account")?,
        opened_slot: number(row, "opened_slot")?,
        lane: lane(row)?,
        nonce: number(row, "nonce")?,
        expires_at: row.try_get("expires_at")?,
        entry: Entry::decode(&entry),
        split: serde_json::from_str(split)
            .map_err(|error| LedgerError::Row(format!("split: {error}")))?,
        verdict: reason.map(|reason| (reason, message.unwrap_or_default())),
        signature: signature.map(|text| parse(text, "signature")).transpose()?,
        slot: optional("slot")?,
        fee_lamports: optional("fee_lamports")?,
        answered: row.try_get::<i64, _>("answered")? != 0,
        created_at: row.try_get("created_at")?,
        updated_at: row.try_get("updated_at")?,
    })
}

fn digest(row: &SqliteRow) -> Result<Digest, LedgerError> {
    let text: &str = row.try_get("digest")?;
    let mut digest = Digest::default();
    hex::decode_to_slice(text, &mut digest)
        .map_err(|error| LedgerError::Row(format!("digest: {error}")))?;
    Ok(digest)
}

fn lane(row: &SqliteRow) -> Result<u8, LedgerError> {
    let lane: i64 = row.try_get("lane")?;
    u8::try_from(lane).map_err(|_| LedgerError::Row(format!("lane {lane}")))
}

fn number(row: &SqliteRow, column: &'static str) -> Result<u64, LedgerError> {
    parse(row.try_get::<&str, _>(column)?, column)
}

fn parse<T: FromStr>(text: &str, column: &'static str) -> Result<T, LedgerError> {
    text.parse()
        .map_err(|_| LedgerError::Row(format!("{column} {text:?}")))
}

fn from_sql(row: &SqliteRow, column: &'static str) -> Result<u64, LedgerError> {
    positive(row.try_get(column)?, column)
}

fn positive(value: i64, column: &'static str) -> Result<u64, LedgerError> {
    u64::try_from(value).map_err(|_| LedgerError::Row(format!("{column} {value}")))
}

/// Slots, heights and lamports: far below 2^63, and a liar's number stays a big one.
fn to_sql(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn moved(rows: u64, digest: &Digest, expected: &'static str) -> Result<(), LedgerError> {
    if rows == 1 {
        return Ok(());
    }
    Err(LedgerError::Moved {
        digest: hex::encode(digest),
        expected,
    })
}

/// This machine's clock, unix milliseconds. For the record, and for comparing with itself; no payment is
/// judged by it.
pub fn unix_millis() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|elapsed| i64::try_from(elapsed.as_millis()).ok())
        .unwrap_or(0)
}
