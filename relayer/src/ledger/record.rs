//! What is written about payments that were signed.

use std::{collections::BTreeMap, time::Duration};

use sluice_intent::Digest;
use solana_signature::Signature;
use sqlx::{AnyConnection, Row};

use super::{
    Ledger, LedgerError, placeholders,
    row::{digest as read_digest, from_sql, to_sql},
    totals::{self, Sums},
    unix_millis,
};
use crate::{proof::Judgement, reason::Rejection};

/// How often the ledger is asked whether a success was taken in a commit that did not come back, and the pause between.
const TAKE_TRIES: u32 = 20;
const TAKE_PAUSE: Duration = Duration::from_millis(250);

/// What a landed transaction did with one of its payments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It was paid.
    Paid {
        /// Whether the one caller who is told so is waiting.
        answered: bool,
    },
    /// It was refused for good.
    Refused(Rejection),
    /// It was not touched, and may be signed into another transaction.
    Untouched,
}

impl Ledger {
    /// A node has taken the transaction. Written down with the next commit, whatever that is for: nothing depends on
    /// it, and a commit of its own would be one more wait for the disk.
    pub fn mark_sent(&self, signature: Signature) {
        self.writer.note_sent(signature, unix_millis());
    }

    /// Has everything written down that waits for a commit.
    pub async fn flush(&self) -> Result<(), LedgerError> {
        self.ping().await
    }

    /// Records where a transaction landed and what became of each of its payments. Gives those whose state this call
    /// changed: another transaction of the same payment may have been faster.
    ///
    /// A transaction that was called dead and landed after all still counts: the chain is right.
    ///
    /// May be repeated after an error: a success that it gave away without anybody hearing of it is given again.
    pub async fn land(
        &self,
        signature: Signature,
        slot: u64,
        failed: bool,
        landings: Vec<(Digest, Landing)>,
    ) -> Result<Vec<Digest>, LedgerError> {
        let replica = self.replica.clone();
        self.write(move |connection| {
            Box::pin(
                async move { land(connection, &replica, &signature, slot, failed, landings).await },
            )
        })
        .await
    }

    /// Records that a transaction can never land: at the finalized block `height` its blockhash was dead, and no node
    /// knew it afterwards.
    pub async fn bury(&self, signature: Signature, height: u64) -> Result<(), LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                let text = signature.to_string();
                sqlx::query(
                    "UPDATE transactions SET dead_height = $1 WHERE signature = $2 AND outcome = 'open'",
                )
                .bind(to_sql(height))
                .bind(&text)
                .execute(&mut *connection)
                .await?;
                close(connection, &text, "dead", None).await?;
                Ok(())
            })
        })
        .await
    }

    /// Closes a payment whose intent has expired and whose every transaction is dead, with what was seen then.
    pub async fn expire(
        &self,
        digest: Digest,
        judgement: Judgement,
        rejection: Rejection,
    ) -> Result<bool, LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE payments SET state = 'expired', judged_at = $1, nonce_witness = $2, reason = $3, \
                     message = $4, updated_at = $5 \
                     WHERE digest = $6 AND state IN ('signed', 'sent') AND NOT EXISTS \
                     (SELECT 1 FROM attempts a WHERE a.digest = payments.digest AND a.live = 1)",
                )
                .bind(judgement.chain_time)
                .bind(judgement.nonce.as_str())
                .bind(rejection.reason.as_str().into_owned())
                .bind(rejection.message)
                .bind(unix_millis())
                .bind(hex::encode(digest))
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }

    /// Records that landed transactions can no longer be undone.
    pub async fn finalize(&self, signatures: Vec<Signature>) -> Result<(), LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                for signature in signatures {
                    let text = signature.to_string();
                    sqlx::query("UPDATE transactions SET finalized = 1 WHERE signature = $1")
                        .bind(&text)
                        .execute(&mut *connection)
                        .await?;
                    sqlx::query(
                        "UPDATE payments SET state = 'finalized' WHERE state = 'confirmed' AND signature = $1 \
                         AND digest IN (SELECT digest FROM attempts WHERE signature = $2)",
                    )
                    .bind(&text)
                    .bind(&text)
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Lets payments go that a landed transaction did not make, while others of it are not known: they may be signed into
    /// another one.
    pub async fn release(
        &self,
        signature: Signature,
        digests: Vec<Digest>,
    ) -> Result<(), LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                for digest in digests {
                    sqlx::query(
                        "UPDATE attempts SET live = 0 WHERE signature = $1 AND digest = $2",
                    )
                    .bind(signature.to_string())
                    .bind(hex::encode(digest))
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Undoes a landing in `slot` that the chain has undone: the transaction is open again, or, where it can land no more,
    /// dead. Gives the payments that are open again by it. That their success was told stays told.
    pub async fn undo(
        &self,
        signature: Signature,
        slot: u64,
        may_land: bool,
    ) -> Result<Vec<Digest>, LedgerError> {
        self.write(move |connection| {
            Box::pin(async move { undo(connection, &signature, slot, may_land).await })
        })
        .await
    }

    /// Takes the one success of a paid payment. True for exactly one caller, ever, on any replica.
    pub async fn take_success(&self, digest: Digest) -> Result<bool, LedgerError> {
        let taker = format!("{:032x}", rand::random::<u128>());
        let mut unheard = false;
        let mut tries = 1;
        loop {
            let taken = self.take_success_as(digest, taker.clone()).await;
            unheard |= matches!(taken, Err(LedgerError::Commit(_)));
            // Perhaps it is taken, and then nobody else can ever have it: the name tells, once the ledger does.
            if taken.is_ok() || !unheard || tries == TAKE_TRIES {
                return taken;
            }
            tries += 1;
            tokio::time::sleep(TAKE_PAUSE).await;
        }
    }

    async fn take_success_as(&self, digest: Digest, taker: String) -> Result<bool, LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                let done = sqlx::query(
                    "UPDATE payments SET answered = 1, answered_by = $1 WHERE digest = $2 \
                     AND (answered = 0 OR answered_by = $3) AND state IN ('confirmed', 'finalized')",
                )
                .bind(taker.clone())
                .bind(hex::encode(digest))
                .bind(taker)
                .execute(connection)
                .await?;
                Ok(done.rows_affected() == 1)
            })
        })
        .await
    }
}

async fn land(
    connection: &mut AnyConnection,
    replica: &str,
    signature: &Signature,
    slot: u64,
    failed: bool,
    landings: Vec<(Digest, Landing)>,
) -> Result<Vec<Digest>, LedgerError> {
    let text = signature.to_string();
    let outcome = if failed { "failed" } else { "landed" };
    let mut sums = Sums::default();
    if let Some(closed) = close(connection, &text, outcome, Some(slot)).await? {
        sums = Sums {
            transactions: 1,
            failed: u64::from(failed),
            carried: closed.payments,
            cost: closed.fee_lamports,
            ..sums
        };
    }
    // Those that fare alike share a statement.
    let mut paid: BTreeMap<bool, Vec<Digest>> = BTreeMap::new();
    let mut changed = Vec::with_capacity(landings.len());
    for (digest, landing) in landings {
        match landing {
            Landing::Paid { answered } => paid.entry(answered).or_default().push(digest),
            Landing::Untouched => {}
            Landing::Refused(rejection) => {
                let done = sqlx::query(
                    "UPDATE payments SET state = 'failed', signature = $1, reason = $2, message = $3, updated_at = $4 \
                     WHERE digest = $5 AND state IN ('signed', 'sent') AND NOT EXISTS \
                     (SELECT 1 FROM attempts a WHERE a.digest = payments.digest AND a.live = 1)",
                )
                .bind(&text)
                .bind(rejection.reason.as_str().into_owned())
                .bind(rejection.message)
                .bind(unix_millis())
                .bind(hex::encode(digest))
                .execute(&mut *connection)
                .await?;
                if done.rows_affected() == 1 {
                    sums.refused += 1;
                    changed.push(digest);
                }
            }
        }
    }
    for (answered, mut digests) in paid {
        // Whatever the ledger thought of it before: the tokens have moved.
        let sql = format!(
            "UPDATE payments SET state = 'confirmed', signature = $1, reason = NULL, message = NULL, updated_at = $2, \
             answered_by = CASE WHEN answered = 1 THEN answered_by WHEN $3 = 1 THEN $4 END, \
             answered = CASE WHEN answered = 1 THEN 1 ELSE $5 END \
             WHERE state IN ('signed', 'sent', 'failed', 'expired') AND digest IN ({}) \
             RETURNING digest, amount, share, worth, subsidy",
            placeholders(6, digests.len())
        );
        let mut query = sqlx::query(&sql)
            .bind(&text)
            .bind(unix_millis())
            .bind(i64::from(answered))
            .bind(replica.to_owned())
            .bind(i64::from(answered));
        for digest in &digests {
            query = query.bind(hex::encode(digest));
        }
        for row in query.fetch_all(&mut *connection).await? {
            changed.push(read_digest(&row.try_get::<String, _>("digest")?)?);
            sums.add(&totals::paid(&row)?);
        }
        if answered {
            digests.retain(|digest| !changed.contains(digest));
            changed.extend(given_before(connection, replica, &text, &digests).await?);
        }
    }
    totals::note(connection, &text, &sums).await?;
    Ok(changed)
}

/// Of payments that landed before, those whose success this replica was given with this very landing: in a commit that it
/// did not hear of, so that it never told.
async fn given_before(
    connection: &mut AnyConnection,
    replica: &str,
    signature: &str,
    digests: &[Digest],
) -> Result<Vec<Digest>, LedgerError> {
    if digests.is_empty() {
        return Ok(Vec::new());
    }
    let sql = format!(
        "SELECT digest FROM payments WHERE state = 'confirmed' AND answered = 1 AND answered_by = $1 \
         AND signature = $2 AND digest IN ({})",
        placeholders(3, digests.len())
    );
    let mut query = sqlx::query(&sql)
        .bind(replica.to_owned())
        .bind(signature.to_owned());
    for digest in digests {
        query = query.bind(hex::encode(digest));
    }
    let rows = query.fetch_all(&mut *connection).await?;
    rows.iter()
        .map(|row| read_digest(&row.try_get::<String, _>("digest")?))
        .collect()
}

async fn undo(
    connection: &mut AnyConnection,
    signature: &Signature,
    slot: u64,
    may_land: bool,
) -> Result<Vec<Digest>, LedgerError> {
    let text = signature.to_string();
    let done = sqlx::query(
        "UPDATE transactions SET outcome = $1, slot = NULL WHERE signature = $2 AND outcome = 'landed' AND finalized = 0 \
         AND slot = $3",
    )
    .bind(if may_land { "open" } else { "dead" })
    .bind(&text)
    .bind(to_sql(slot))
    .execute(&mut *connection)
    .await?;
    // Another replica was faster, or it has landed anew.
    if done.rows_affected() == 0 {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "UPDATE payments SET state = $1, signature = NULL, updated_at = $2 WHERE state = 'confirmed' AND signature = $3 \
         AND digest IN (SELECT digest FROM attempts WHERE signature = $4) RETURNING digest",
    )
    .bind(if may_land { "sent" } else { "signed" })
    .bind(unix_millis())
    .bind(&text)
    .bind(&text)
    .fetch_all(&mut *connection)
    .await?;
    let mut digests = Vec::with_capacity(rows.len());
    for row in rows {
        let digest = row.try_get::<String, _>("digest")?;
        if may_land {
            sqlx::query("UPDATE attempts SET live = 1 WHERE signature = $1 AND digest = $2")
                .bind(&text)
                .bind(&digest)
                .execute(&mut *connection)
                .await?;
        }
        digests.push(read_digest(&digest)?);
    }
    Ok(digests)
}

/// Marks transactions as sent.
pub(super) async fn mark_sent(
    connection: &mut AnyConnection,
    sent: &[(Signature, i64)],
) -> Result<(), LedgerError> {
    for (signature, at) in sent {
        let text = signature.to_string();
        sqlx::query("UPDATE transactions SET sent_at = coalesce(sent_at, $1) WHERE signature = $2")
            .bind(*at)
            .bind(&text)
            .execute(&mut *connection)
            .await?;
        // It may have landed before this line is reached.
        sqlx::query(
            "UPDATE payments SET state = 'sent', updated_at = $1 WHERE state = 'signed' AND digest IN \
             (SELECT digest FROM attempts WHERE signature = $2 AND live = 1)",
        )
        .bind(*at)
        .bind(&text)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// A transaction that ended.
struct Closed {
    fee_lamports: u64,
    payments: u64,
}

/// Ends a transaction. Gives what is to be counted of one that landed, the first time.
async fn close(
    connection: &mut AnyConnection,
    signature: &str,
    outcome: &str,
    slot: Option<u64>,
) -> Result<Option<Closed>, LedgerError> {
    let from = if slot.is_some() {
        "('open', 'dead')"
    } else {
        "('open')"
    };
    let sql = format!(
        "UPDATE transactions SET outcome = $1, slot = $2 WHERE signature = $3 AND outcome IN {from} \
         RETURNING fee_lamports, payments"
    );
    let closed = sqlx::query(&sql)
        .bind(outcome.to_owned())
        .bind(slot.map(to_sql))
        .bind(signature.to_owned())
        .fetch_all(&mut *connection)
        .await?;
    let closed = closed.first();
    if let (None, Some(slot)) = (closed, slot) {
        // Landed before: the chain may have moved it.
        sqlx::query("UPDATE transactions SET outcome = $1, slot = $2 WHERE signature = $3")
            .bind(outcome.to_owned())
            .bind(to_sql(slot))
            .bind(signature.to_owned())
            .execute(&mut *connection)
            .await?;
    }
    sqlx::query("UPDATE attempts SET live = 0 WHERE signature = $1")
        .bind(signature.to_owned())
        .execute(&mut *connection)
        .await?;
    let Some(row) = closed.filter(|_| slot.is_some()) else {
        return Ok(None);
    };
    Ok(Some(Closed {
        fee_lamports: from_sql(row.try_get("fee_lamports")?, "fee_lamports")?,
        payments: from_sql(row.try_get("payments")?, "payments")?,
    }))
}
