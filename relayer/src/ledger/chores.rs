//! What is kept of chores: their transactions, and what is known of services and nonce accounts between two of them.
//!
//! A chore's transaction is written down before it is sent, like a payment's. A partial unique index lets one be open for
//! a subject at a time, on whatever replica; and one that was prepared from what the chain said before the last one
//! landed is refused, so that a second relayer does not repeat what the first has just done.

use std::time::Duration;

use sluice_sdk::Address;
use solana_signature::Signature;
use sqlx::{AnyConnection, Row};

use super::{
    Backend, Ledger, LedgerError, onboardings, placeholders,
    row::{column, from_sql, small, to_sql},
    values,
};

/// The window of every cap that is said to be for a day, in milliseconds.
pub(super) const DAY_MS: i64 = 24 * 3_600 * 1_000;
/// How long a subject is left alone after the first failed transaction; twice as long after each further one.
const REST_MS: i64 = 5_000;
/// Twice as long no more often than this: about an hour and a half.
const MOST_DOUBLINGS: u32 = 10;

/// What a chore is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Dividing what arrived in vaults. Its subjects are services.
    Distribute,
    /// Closing idle nonce accounts whose rent the relayer paid. Its subjects are nonce accounts.
    Reclaim,
    /// Opening a nonce account at the relayer's cost. Its subject is that account.
    Onboard,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Distribute, Self::Reclaim, Self::Onboard];

    /// The word in the database and in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Distribute => "distribute",
            Self::Reclaim => "reclaim",
            Self::Onboard => "onboard",
        }
    }
}

/// A signed transaction of a chore, before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewChore {
    /// What it is for.
    pub kind: Kind,
    /// Its signature.
    pub signature: Signature,
    /// Its bytes.
    pub wire: Vec<u8>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// Who pays for it.
    pub fee_payer: Address,
    /// What it costs in fees, in lamports.
    pub lamports: u64,
    /// What it is about.
    pub subjects: Vec<Address>,
}

/// A chore's transaction whose fate is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenChore {
    /// What it is for.
    pub kind: Kind,
    /// Its signature.
    pub signature: Signature,
    /// Its bytes.
    pub wire: Vec<u8>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
}

/// What became of a chore that was to be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// It is on disk, and may be sent.
    Written,
    /// Another transaction is open for one of its subjects, or has landed since the chain was asked; or this very one was
    /// written down before.
    Taken,
    /// It would cost more than is left of the day's cap. So much was spent.
    OverCap(u64),
}

/// How a chore's transaction ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It landed.
    Landed {
        /// In this slot.
        slot: u64,
    },
    /// It landed and failed: it cost its fee and did nothing.
    Failed {
        /// In this slot.
        slot: u64,
        /// Why.
        error: String,
        /// Somebody else was faster: nothing is wrong with its subjects.
        outrun: bool,
    },
    /// It can never land.
    Dead,
}

/// What is known of a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The service or the nonce account.
    pub subject: Address,
    /// For how long there has been something to do.
    pub age: Option<Duration>,
    /// Transactions that failed since the last one that did not.
    pub failures: u32,
    /// How long it is to be left alone.
    pub rest: Duration,
}

impl Ledger {
    /// Writes a chore's transaction down. Only after [`Claim::Written`] may its first byte leave.
    ///
    /// `seen_slot` is the slot of the chain's state that it was prepared from; `cap` the most lamports that all
    /// transactions of its kind may cost in a day.
    pub async fn write_chore(
        &self,
        chore: NewChore,
        seen_slot: u64,
        cap: Option<u64>,
    ) -> Result<Claim, LedgerError> {
        let (replica, backend) = (self.replica.clone(), self.backend);
        let claim = self
            .write(move |connection| {
                Box::pin(async move {
                    lock(connection, chore.kind).await?;
                    if let Some(cap) = cap {
                        let spent = spent(connection, backend, chore.kind).await?;
                        if spent.saturating_add(chore.lamports) > cap {
                            return Ok(Claim::OverCap(spent));
                        }
                    }
                    if is_taken(connection, &chore, seen_slot).await? {
                        return Ok(Claim::Taken);
                    }
                    insert(connection, backend, &replica, &chore).await?;
                    Ok(Claim::Written)
                })
            })
            .await;
        match claim {
            // The index says it where two commits cross.
            Err(LedgerError::Contended(_)) => Ok(Claim::Taken),
            claim => claim,
        }
    }

    /// This replica's chores whose fate is open.
    pub async fn open_chores(&self) -> Result<Vec<OpenChore>, LedgerError> {
        let rows = sqlx::query(
            "SELECT kind, signature, wire, last_valid_block_height FROM chores \
             WHERE state = 'signed' AND replica = $1 ORDER BY signed_at",
        )
        .bind(&self.replica)
        .fetch_all(&self.reader)
        .await?;
        rows.iter()
            .map(|row| {
                Ok(OpenChore {
                    kind: kind(&row.try_get::<String, _>("kind")?)?,
                    signature: column(row, "signature")?,
                    wire: row.try_get("wire")?,
                    last_valid_block_height: from_sql(
                        row.try_get("last_valid_block_height")?,
                        "last_valid_block_height",
                    )?,
                })
            })
            .collect()
    }

    /// Takes over the open chores of replicas that are not heard of any more. Gives how many.
    pub async fn adopt_chores(&self) -> Result<u64, LedgerError> {
        let orphaned = format!(
            "state = 'signed' AND replica <> $1 AND replica NOT IN \
             (SELECT id FROM replicas WHERE alive_until >= {})",
            self.backend.now()
        );
        // Almost always there is nothing, and then nothing is written.
        let sql = format!("SELECT count(*) AS orphans FROM chores WHERE {orphaned}");
        let row = sqlx::query(&sql)
            .bind(&self.replica)
            .fetch_one(&self.reader)
            .await?;
        if row.try_get::<i64, _>("orphans")? == 0 {
            return Ok(0);
        }
        let replica = self.replica.clone();
        self.write(move |connection| {
            Box::pin(async move {
                let sql = format!("UPDATE chores SET replica = $1 WHERE {orphaned}");
                let taken = sqlx::query(&sql).bind(replica).execute(connection).await?;
                Ok(taken.rows_affected())
            })
        })
        .await
    }

    /// Records how a chore's transaction ended, with everything that hangs on it. False where that was known.
    pub async fn end_chore(&self, signature: Signature, end: End) -> Result<bool, LedgerError> {
        let backend = self.backend;
        self.write(move |connection| {
            Box::pin(async move { end_chore(connection, backend, &signature, &end).await })
        })
        .await
    }

    /// The subjects for which a transaction is open, on whatever replica.
    pub async fn busy(&self, of: Kind) -> Result<Vec<Address>, LedgerError> {
        let rows = sqlx::query("SELECT subject FROM chore_subjects WHERE kind = $1 AND live = 1")
            .bind(of.as_str())
            .fetch_all(&self.reader)
            .await?;
        rows.iter().map(|row| column(row, "subject")).collect()
    }

    /// Everything that is known of a kind's subjects.
    pub async fn targets(&self, of: Kind) -> Result<Vec<Target>, LedgerError> {
        let now = self.backend.now();
        let sql = format!(
            "SELECT subject, {now} - since AS age, failures, rest_until - {now} AS rest FROM chore_targets \
             WHERE kind = $1 ORDER BY subject"
        );
        let rows = sqlx::query(&sql)
            .bind(of.as_str())
            .fetch_all(&self.reader)
            .await?;
        let millis = |ms: i64| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        rows.iter()
            .map(|row| {
                Ok(Target {
                    subject: column(row, "subject")?,
                    age: row.try_get::<Option<i64>, _>("age")?.map(millis),
                    failures: small(row, "failures")?,
                    rest: millis(row.try_get("rest")?),
                })
            })
            .collect()
    }

    /// Remembers subjects for good.
    pub async fn remember(&self, of: Kind, subjects: Vec<Address>) -> Result<(), LedgerError> {
        if subjects.is_empty() {
            return Ok(());
        }
        self.write(move |connection| {
            Box::pin(async move {
                for subject in in_order(&subjects) {
                    sqlx::query(
                        "INSERT INTO chore_targets (kind, subject) VALUES ($1, $2) ON CONFLICT DO NOTHING",
                    )
                    .bind(of.as_str())
                    .bind(subject)
                    .execute(&mut *connection)
                    .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Notes that there is something to do for a subject, or that there is not. The time of the first note counts.
    pub async fn note_pending(
        &self,
        of: Kind,
        subject: Address,
        pending: bool,
    ) -> Result<(), LedgerError> {
        let sql = if pending {
            format!(
                "UPDATE chore_targets SET since = coalesce(since, {}) WHERE kind = $1 AND subject = $2",
                self.backend.now()
            )
        } else {
            "UPDATE chore_targets SET since = NULL WHERE kind = $1 AND subject = $2".to_owned()
        };
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query(&sql)
                    .bind(of.as_str())
                    .bind(subject.to_string())
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// The lamports that a kind's transactions have cost within a day.
    pub async fn spent_on(&self, of: Kind) -> Result<u64, LedgerError> {
        let mut connection = self.reader.acquire().await?;
        spent(&mut connection, self.backend, of).await
    }

    /// Services of payments that were taken on at `from` (unix milliseconds of the record) or later, and the time to ask
    /// from the next time.
    pub async fn services_paid(&self, from: i64) -> Result<(Vec<Address>, i64), LedgerError> {
        let rows = sqlx::query(
            "SELECT service, max(created_at) AS latest FROM payments WHERE created_at >= $1 \
             AND (scheme = 'sluice-split' OR to_vault = 1) GROUP BY service",
        )
        .bind(from)
        .fetch_all(&self.reader)
        .await?;
        let mut latest = from;
        let mut services = Vec::with_capacity(rows.len());
        for row in &rows {
            latest = latest.max(row.try_get("latest")?);
            services.push(column(row, "service")?);
        }
        Ok((services, latest))
    }
}

/// Lets one change at a time look at a kind's budget and use it, across replicas.
pub(super) async fn lock(connection: &mut AnyConnection, of: Kind) -> Result<(), LedgerError> {
    sqlx::query("UPDATE chore_budgets SET touched = touched + 1 WHERE kind = $1")
        .bind(of.as_str())
        .execute(connection)
        .await?;
    Ok(())
}

async fn spent(
    connection: &mut AnyConnection,
    backend: Backend,
    of: Kind,
) -> Result<u64, LedgerError> {
    // One that never landed cost nothing; one that is open may.
    let sql = format!(
        "SELECT CAST(coalesce(sum(lamports), 0) AS BIGINT) AS spent FROM chores \
         WHERE kind = $1 AND state <> 'dead' AND signed_at > {} - {DAY_MS}",
        backend.now()
    );
    let row = sqlx::query(&sql)
        .bind(of.as_str())
        .fetch_one(connection)
        .await?;
    from_sql(row.try_get("spent")?, "spent")
}

async fn is_taken(
    connection: &mut AnyConnection,
    chore: &NewChore,
    seen_slot: u64,
) -> Result<bool, LedgerError> {
    // The same on the same blockhash is the same transaction, and that was sent before.
    let sql = format!(
        "SELECT (SELECT count(*) FROM chores WHERE signature = $3) + (SELECT count(*) FROM chore_subjects WHERE kind = $1 AND live = 1 AND subject IN ({0})) + \
         (SELECT count(*) FROM chore_targets WHERE kind = $1 AND landed_slot > $2 AND subject IN ({0})) AS taken",
        placeholders(4, chore.subjects.len())
    );
    let mut query = sqlx::query(&sql)
        .bind(chore.kind.as_str())
        .bind(to_sql(seen_slot))
        .bind(chore.signature.to_string());
    for subject in &chore.subjects {
        query = query.bind(subject.to_string());
    }
    let row = query.fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>("taken")? > 0)
}

/// Writes a chore and its subjects.
pub(super) async fn insert(
    connection: &mut AnyConnection,
    backend: Backend,
    replica: &str,
    chore: &NewChore,
) -> Result<(), LedgerError> {
    let signature = chore.signature.to_string();
    let sql = format!(
        "INSERT INTO chores (signature, kind, wire, last_valid_block_height, fee_payer, lamports, replica, signed_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, {})",
        backend.now()
    );
    sqlx::query(&sql)
        .bind(&signature)
        .bind(chore.kind.as_str())
        .bind(chore.wire.clone())
        .bind(to_sql(chore.last_valid_block_height))
        .bind(chore.fee_payer.to_string())
        .bind(to_sql(chore.lamports))
        .bind(replica)
        .execute(&mut *connection)
        .await?;
    let sql = format!(
        "INSERT INTO chore_subjects (signature, kind, subject) VALUES {}",
        values(chore.subjects.len(), 3)
    );
    let mut query = sqlx::query(&sql);
    // In one order on every replica, so that two that want the same do not wait for each other.
    for subject in in_order(&chore.subjects) {
        query = query
            .bind(&signature)
            .bind(chore.kind.as_str())
            .bind(subject);
    }
    query.execute(connection).await?;
    Ok(())
}

async fn end_chore(
    connection: &mut AnyConnection,
    backend: Backend,
    signature: &Signature,
    end: &End,
) -> Result<bool, LedgerError> {
    let text = signature.to_string();
    let (state, slot, error) = match end {
        End::Landed { slot } => ("landed", Some(*slot), None),
        End::Failed { slot, error, .. } => ("failed", Some(*slot), Some(error.clone())),
        End::Dead => ("dead", None, None),
    };
    let now = backend.now();
    let sql = format!(
        "UPDATE chores SET state = $1, slot = $2, error = $3, ended_at = {now} \
         WHERE signature = $4 AND state = 'signed' RETURNING kind"
    );
    let row = sqlx::query(&sql)
        .bind(state)
        .bind(slot.map(to_sql))
        .bind(error.clone())
        .bind(&text)
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else {
        return Ok(false);
    };
    let of = kind(&row.try_get::<String, _>("kind")?)?;
    let rows =
        sqlx::query("UPDATE chore_subjects SET live = 0 WHERE signature = $1 RETURNING subject")
            .bind(&text)
            .fetch_all(&mut *connection)
            .await?;
    let mut subjects = Vec::with_capacity(rows.len());
    for row in &rows {
        subjects.push(row.try_get::<String, _>("subject")?);
    }
    subjects.sort();
    if let Some(slot) = slot {
        let outrun = !matches!(end, End::Failed { outrun: false, .. });
        for subject in &subjects {
            touch(connection, now, of, subject, slot, outrun).await?;
        }
    }
    match of {
        Kind::Distribute => {}
        Kind::Reclaim if state == "landed" => {
            onboardings::reclaimed(connection, &subjects).await?;
        }
        Kind::Reclaim => {}
        Kind::Onboard => {
            onboardings::ended(connection, &text, state, slot, error.as_deref()).await?;
        }
    }
    Ok(true)
}

/// Notes a transaction that landed for a subject.
async fn touch(
    connection: &mut AnyConnection,
    now: &str,
    of: Kind,
    subject: &str,
    slot: u64,
    good: bool,
) -> Result<(), LedgerError> {
    let slot = to_sql(slot);
    let row = sqlx::query(
        "INSERT INTO chore_targets (kind, subject, landed_slot) VALUES ($1, $2, $3) \
         ON CONFLICT (kind, subject) DO UPDATE SET landed_slot = CASE \
         WHEN chore_targets.landed_slot > excluded.landed_slot THEN chore_targets.landed_slot \
         ELSE excluded.landed_slot END RETURNING failures",
    )
    .bind(of.as_str())
    .bind(subject)
    .bind(slot)
    .fetch_one(&mut *connection)
    .await?;
    let failures: u32 = small(&row, "failures")?;
    let sql = if good {
        "UPDATE chore_targets SET since = NULL, failures = 0, rest_until = 0 WHERE kind = $1 AND subject = $2"
            .to_owned()
    } else {
        let rest = REST_MS << failures.min(MOST_DOUBLINGS);
        format!(
            "UPDATE chore_targets SET failures = failures + 1, rest_until = {now} + {rest} \
             WHERE kind = $1 AND subject = $2"
        )
    };
    sqlx::query(&sql)
        .bind(of.as_str())
        .bind(subject)
        .execute(connection)
        .await?;
    Ok(())
}

fn in_order(subjects: &[Address]) -> Vec<String> {
    let mut texts: Vec<String> = subjects.iter().map(Address::to_string).collect();
    texts.sort();
    texts
}

fn kind(text: &str) -> Result<Kind, LedgerError> {
    Kind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == text)
        .ok_or_else(|| LedgerError::Row(format!("kind {text:?}")))
}
