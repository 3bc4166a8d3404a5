//! What is read.

use std::sync::Arc;

use sluice_intent::Digest;
use solana_signature::Signature;
use sqlx::{AnyConnection, Row, any::AnyRow};

use super::{
    Attempt, LandedTransaction, Ledger, LedgerError, OpenTransaction, PaymentRow, placeholders,
    row::{column, digest as read_digest, from_sql, read_attempt, read_payment, small},
};
use crate::proof::{Judgement, NonceWitness, Trace};

use crate::{guard::failures::Failure, reason::Rejection};

/// Failures that are read at once.
const MAX_FAILURES: i64 = 50_000;

/// A payment with the transaction that says most about it.
const PAYMENT: &str = "SELECT p.digest, p.state, p.scheme, p.payer, p.service, p.mint, p.amount, p.source, p.nonce_account, \
     p.opened_slot, p.lane, p.nonce, p.expires_at, p.x402_version, p.entry, p.split, p.to_vault, p.api_key, p.reason, p.message, p.answered, p.created_at, p.updated_at, \
     t.signature AS attempt_signature, a.position, t.payments, t.fee_lamports, t.slot \
     FROM payments p LEFT JOIN attempts a ON a.digest = p.digest AND a.signature = coalesce(p.signature, \
     (SELECT b.signature FROM attempts b JOIN transactions u ON u.signature = b.signature WHERE b.digest = p.digest \
     ORDER BY b.live DESC, u.signed_at DESC LIMIT 1)) LEFT JOIN transactions t ON t.signature = a.signature";

/// A transaction with its payments, a row for each.
const TRANSACTION: &str = "SELECT t.signature, t.wire, t.last_valid_block_height, t.signed_slot, t.slot, a.digest \
     FROM transactions t JOIN attempts a ON a.signature = t.signature";

/// Transactions whose rows follow each other.
fn read_transactions(rows: &[AnyRow]) -> Result<Vec<OpenTransaction>, LedgerError> {
    let mut all: Vec<OpenTransaction> = Vec::new();
    for row in rows {
        let signature = column(row, "signature")?;
        let digest = read_digest(&row.try_get::<String, _>("digest")?)?;
        match all.last_mut().filter(|last| last.signature == signature) {
            Some(last) => last.digests.push(digest),
            None => all.push(OpenTransaction {
                signature,
                wire: row.try_get("wire")?,
                last_valid_block_height: from_sql(
                    row.try_get("last_valid_block_height")?,
                    "last_valid_block_height",
                )?,
                signed_slot: row
                    .try_get::<Option<i64>, _>("signed_slot")?
                    .map(|slot| from_sql(slot, "signed_slot"))
                    .transpose()?,
                digests: vec![digest],
            }),
        }
    }
    Ok(all)
}

pub(super) async fn find(
    connection: &mut AnyConnection,
    digest: &Digest,
) -> Result<Option<PaymentRow>, LedgerError> {
    let sql = format!("{PAYMENT} WHERE p.digest = $1");
    let row = sqlx::query(&sql)
        .bind(hex::encode(digest))
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_payment).transpose()
}

impl Ledger {
    /// A payment.
    pub async fn payment(&self, digest: &Digest) -> Result<Option<PaymentRow>, LedgerError> {
        let mut connection = self.reader.acquire().await?;
        find(&mut connection, digest).await
    }

    /// Payments by digest; those that are not there are left out.
    pub async fn payments(&self, digests: &[Digest]) -> Result<Vec<PaymentRow>, LedgerError> {
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "{PAYMENT} WHERE p.digest IN ({})",
            placeholders(1, digests.len())
        );
        let mut query = sqlx::query(&sql);
        for digest in digests {
            query = query.bind(hex::encode(digest));
        }
        let rows = query.fetch_all(&self.reader).await?;
        rows.iter().map(read_payment).collect()
    }

    /// The signatures of every transaction ever made for a payment, the first first.
    pub async fn signatures(&self, digest: &Digest) -> Result<Vec<Signature>, LedgerError> {
        let rows = sqlx::query(
            "SELECT t.signature FROM attempts a JOIN transactions t ON t.signature = a.signature WHERE a.digest = $1 \
             ORDER BY t.signed_at, t.signature",
        )
        .bind(hex::encode(digest))
        .fetch_all(&self.reader)
        .await?;
        rows.iter().map(|row| column(row, "signature")).collect()
    }

    /// Every transaction ever made for a payment, the first first, with what a proof says of it.
    pub async fn traces(&self, digest: &Digest) -> Result<Vec<Trace>, LedgerError> {
        let rows = sqlx::query(
            "SELECT t.signature, a.position, t.outcome, t.slot, t.finalized, t.last_valid_block_height, t.dead_height \
             FROM attempts a JOIN transactions t ON t.signature = a.signature WHERE a.digest = $1 \
             ORDER BY t.signed_at, t.signature",
        )
        .bind(hex::encode(digest))
        .fetch_all(&self.reader)
        .await?;
        let number = |row: &AnyRow, name: &'static str| {
            let value: Option<i64> = row.try_get(name)?;
            value.map(|value| from_sql(value, name)).transpose()
        };
        rows.iter()
            .map(|row| {
                Ok(Trace {
                    signature: column(row, "signature")?,
                    position: small(row, "position")?,
                    outcome: row.try_get("outcome")?,
                    slot: number(row, "slot")?,
                    finalized: row.try_get::<i64, _>("finalized")? != 0,
                    last_valid_block_height: from_sql(
                        row.try_get("last_valid_block_height")?,
                        "last_valid_block_height",
                    )?,
                    dead_height: number(row, "dead_height")?,
                })
            })
            .collect()
    }

    /// What was seen when a payment was found impossible; `None` if it was not, or by an earlier version.
    pub async fn judgement(&self, digest: &Digest) -> Result<Option<Judgement>, LedgerError> {
        let row = sqlx::query(
            "SELECT judged_at, nonce_witness FROM payments WHERE digest = $1 AND state = 'expired'",
        )
        .bind(hex::encode(digest))
        .fetch_optional(&self.reader)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let judged_at: Option<i64> = row.try_get("judged_at")?;
        let witness: Option<String> = row.try_get("nonce_witness")?;
        Ok(judged_at.map(|chain_time| Judgement {
            chain_time,
            nonce: NonceWitness::of_str(witness.as_deref().unwrap_or_default()),
        }))
    }

    /// A transaction of a payment.
    pub async fn attempt(
        &self,
        digest: &Digest,
        signature: &Signature,
    ) -> Result<Option<Attempt>, LedgerError> {
        let row = sqlx::query(
            "SELECT t.signature AS attempt_signature, a.position, t.payments, t.fee_lamports, t.slot FROM attempts a \
             JOIN transactions t ON t.signature = a.signature WHERE a.digest = $1 AND a.signature = $2",
        )
        .bind(hex::encode(digest))
        .bind(signature.to_string())
        .fetch_optional(&self.reader)
        .await?;
        row.as_ref().map_or(Ok(None), read_attempt)
    }

    /// How many transactions of a payment landed and failed as a whole.
    pub async fn failures(&self, digest: &Digest) -> Result<u32, LedgerError> {
        let row = sqlx::query(
            "SELECT count(*) AS failures FROM attempts a JOIN transactions t ON t.signature = a.signature \
             WHERE a.digest = $1 AND t.outcome = 'failed'",
        )
        .bind(hex::encode(digest))
        .fetch_one(&self.reader)
        .await?;
        small(&row, "failures")
    }

    /// This replica's transactions whose fate is open, the oldest first.
    pub async fn open_transactions(&self) -> Result<Vec<OpenTransaction>, LedgerError> {
        let sql = format!(
            "{TRANSACTION} WHERE t.outcome = 'open' AND t.replica = $1 ORDER BY t.signed_at, t.signature, a.position"
        );
        let rows = sqlx::query(&sql)
            .bind(&self.replica)
            .fetch_all(&self.reader)
            .await?;
        read_transactions(&rows)
    }

    /// A transaction that landed and is not final.
    pub async fn landed(
        &self,
        signature: &Signature,
    ) -> Result<Option<LandedTransaction>, LedgerError> {
        let sql = format!(
            "{TRANSACTION} WHERE t.signature = $1 AND t.outcome = 'landed' AND t.finalized = 0 AND t.slot IS NOT NULL \
             ORDER BY a.position"
        );
        let rows = sqlx::query(&sql)
            .bind(signature.to_string())
            .fetch_all(&self.reader)
            .await?;
        let Some(first) = rows.first() else {
            return Ok(None);
        };
        let slot = from_sql(first.try_get("slot")?, "slot")?;
        Ok(read_transactions(&rows)?
            .pop()
            .map(|transaction| LandedTransaction { transaction, slot }))
    }

    /// The payments that a transaction carries and that are open by it.
    pub async fn carried(&self, signature: &Signature) -> Result<Vec<Digest>, LedgerError> {
        let rows = sqlx::query(
            "SELECT a.digest FROM attempts a JOIN payments p ON p.digest = a.digest WHERE a.signature = $1 AND a.live = 1 \
             AND p.state IN ('signed', 'sent') ORDER BY a.position",
        )
        .bind(signature.to_string())
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| read_digest(&row.try_get::<String, _>("digest")?))
            .collect()
    }

    /// Payments that were signed and have no live transaction left, of this replica: to be signed again, or expired.
    pub async fn without_transaction(&self) -> Result<Vec<PaymentRow>, LedgerError> {
        let sql = format!(
            "{PAYMENT} WHERE p.state IN ('signed', 'sent') AND NOT EXISTS \
             (SELECT 1 FROM attempts l WHERE l.digest = p.digest AND l.live = 1) \
             AND EXISTS (SELECT 1 FROM attempts m JOIN transactions n ON n.signature = m.signature \
             WHERE m.digest = p.digest AND n.replica = $1) ORDER BY p.created_at"
        );
        let rows = sqlx::query(&sql)
            .bind(&self.replica)
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read_payment).collect()
    }

    /// Payments whose intents may still be alive: expiring at `from` (unix seconds of the chain's clock) or later.
    pub async fn unexpired(&self, from: i64) -> Result<Vec<PaymentRow>, LedgerError> {
        let sql = format!("{PAYMENT} WHERE p.expires_at >= $1 OR p.state IN ('signed', 'sent')");
        let rows = sqlx::query(&sql).bind(from).fetch_all(&self.reader).await?;
        rows.iter().map(read_payment).collect()
    }

    /// Landed transactions that were not final yet when last looked at, the oldest first, at most `most`.
    pub async fn unfinal(&self, most: u32) -> Result<Vec<(Signature, u64)>, LedgerError> {
        let rows = sqlx::query(
            "SELECT signature, slot FROM transactions WHERE outcome = 'landed' AND finalized = 0 AND slot IS NOT NULL \
             ORDER BY slot LIMIT $1",
        )
        .bind(i64::from(most))
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok((
                    column(row, "signature")?,
                    from_sql(row.try_get("slot")?, "slot")?,
                ))
            })
            .collect()
    }

    /// A page of payments, the newest first, after the one that `cursor` names (its creation and digest).
    pub async fn page(
        &self,
        service: Option<&str>,
        cursor: Option<(i64, &str)>,
        most: u32,
    ) -> Result<Vec<PaymentRow>, LedgerError> {
        let (before, digest) = cursor.unwrap_or((i64::MAX, ""));
        let sql = format!(
            "{PAYMENT} WHERE (p.created_at < $1 OR (p.created_at = $2 AND p.digest < $3)) \
             AND ($4 = '' OR p.service = $5) ORDER BY p.created_at DESC, p.digest DESC LIMIT $6"
        );
        let service = service.unwrap_or_default();
        let rows = sqlx::query(&sql)
            .bind(before)
            .bind(before)
            .bind(digest.to_owned())
            .bind(service.to_owned())
            .bind(service.to_owned())
            .bind(i64::from(most))
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(read_payment).collect()
    }

    /// Payments that failed on chain at `since` (unix milliseconds) or later, the oldest first; of too many, the latest.
    pub async fn failed_since(&self, since: i64) -> Result<Vec<Failure>, LedgerError> {
        let rows = sqlx::query(
            "SELECT digest, payer, service, api_key, reason, updated_at FROM payments \
             WHERE state = 'failed' AND updated_at >= $1 ORDER BY updated_at DESC LIMIT $2",
        )
        .bind(since)
        .bind(MAX_FAILURES)
        .fetch_all(&self.reader)
        .await?;
        let failure = |row: &AnyRow| {
            let reason: Option<String> = row.try_get("reason")?;
            let api_key: Option<String> = row.try_get("api_key")?;
            Ok(Failure {
                digest: read_digest(&row.try_get::<String, _>("digest")?)?,
                payer: column(row, "payer")?,
                service: column(row, "service")?,
                api_key: api_key.map(Arc::from),
                reason: Rejection::recorded(&reason.unwrap_or_default(), "").reason,
                at: row.try_get("updated_at")?,
            })
        };
        rows.iter().rev().map(failure).collect()
    }
}
