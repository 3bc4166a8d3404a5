//! Taking payments on and writing their transaction down, in one commit.

use std::collections::HashSet;

use sluice_intent::Digest;
use sluice_sdk::Address;
use solana_signature::Signature;
use sqlx::{AnyConnection, Row};

use super::{
    Backend, Charge, Ledger, LedgerError, Means, NewPayment, PaymentRow,
    identifier::{bind, unbind},
    placeholders,
    query::find,
    row::digest as read_digest,
    row::to_sql,
    unix_millis, values,
};

/// A payment that a transaction is to carry.
#[derive(Clone, Debug, PartialEq)]
pub enum Candidate {
    /// Not in the ledger yet, as far as this relayer knows.
    New(Box<NewPayment>),
    /// In the ledger, with no transaction alive.
    Known(Digest),
}

impl Candidate {
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        match self {
            Self::New(payment) => &payment.digest,
            Self::Known(digest) => digest,
        }
    }

    /// The same with what the day's subsidy gives for it. What is in the ledger was charged when it came there.
    pub fn charged(mut self, charge: Option<Charge>) -> Self {
        if let Self::New(payment) = &mut self {
            payment.deal.charge = charge;
        }
        self
    }

    fn new_payment(&self) -> Option<&NewPayment> {
        match self {
            Self::New(payment) => Some(payment),
            Self::Known(_) => None,
        }
    }
}

/// A signed transaction, before it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transaction {
    /// Its signature.
    pub signature: Signature,
    /// Its bytes.
    pub wire: Vec<u8>,
    /// The last block that may hold it.
    pub last_valid_block_height: u64,
    /// The slot of the block whose hash it was signed with.
    pub signed_slot: u64,
    /// Who pays for it.
    pub fee_payer: Address,
    /// What it costs, in lamports.
    pub fee_lamports: u64,
    /// The service that it settles for.
    pub service: Address,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Claim {
    /// The transaction carries it.
    Sealed,
    /// Somebody else has it; here is how it stands.
    Known(Box<PaymentRow>),
    /// Another payment holds its nonce.
    NonceConflict,
    /// Its id is bound to another payload.
    Bound,
    /// What it is short by is not left of the day's subsidy.
    SubsidySpent,
}

/// The outcome of [`Ledger::seal`].
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed<E> {
    /// What became of each candidate.
    pub claims: Vec<Claim>,
    /// The transaction, on disk; `None` where there was nothing left to carry. An error is the maker's, and then
    /// nothing was written.
    pub transaction: Result<Option<Transaction>, E>,
}

impl Ledger {
    /// Takes candidates on and writes a transaction for them, in one commit. Only after this may its first byte
    /// leave.
    ///
    /// A digest or a nonce that somebody else holds, here or on another replica, is left out; `make` is called with
    /// the places of those that are left, inside the commit, so it must not wait for anything. What it does not give is
    /// not written, and must never leave.
    pub async fn seal<E: Send + 'static>(
        &self,
        candidates: Vec<Candidate>,
        make: impl FnOnce(&[usize]) -> Result<Transaction, E> + Send + 'static,
    ) -> Result<Sealed<E>, LedgerError> {
        let (backend, replica) = (self.backend, self.replica.clone());
        self.write(move |connection| {
            Box::pin(async move { seal(connection, backend, &replica, candidates, make).await })
        })
        .await
    }
}

async fn seal<E>(
    connection: &mut AnyConnection,
    backend: Backend,
    replica: &str,
    candidates: Vec<Candidate>,
    make: impl FnOnce(&[usize]) -> Result<Transaction, E>,
) -> Result<Sealed<E>, LedgerError> {
    let mut new: Vec<&NewPayment> = candidates
        .iter()
        .filter_map(Candidate::new_payment)
        .collect();
    let bindings = bind(connection, &new).await?;
    new.retain(|payment| !bindings.others.contains(&payment.digest));
    let known: Vec<&Digest> = candidates
        .iter()
        .filter_map(|candidate| match candidate {
            Candidate::Known(digest) => Some(digest),
            Candidate::New(_) => None,
        })
        .collect();
    // In one order on every replica: two that insert the same rows the other way round wait for each other.
    let mut in_order = new.clone();
    in_order.sort_by_key(|payment| payment.digest);
    let mut taken = insert(connection, &in_order).await?;
    taken.extend(without_transaction(connection, &known).await?);

    let mut claims = Vec::with_capacity(candidates.len());
    let mut places = Vec::with_capacity(candidates.len());
    for (place, candidate) in candidates.iter().enumerate() {
        let digest = candidate.digest();
        let payment = candidate.new_payment();
        // Taken out, so that the same digest twice is carried once.
        let claim = if bindings.others.contains(digest) {
            Claim::Bound
        } else if taken.remove(digest) {
            match payment {
                Some(payment) if !charge(connection, payment).await? => Claim::SubsidySpent,
                _ => Claim::Sealed,
            }
        } else {
            match find(connection, digest).await? {
                Some(row) => Claim::Known(Box::new(row)),
                None => Claim::NonceConflict,
            }
        };
        if claim == Claim::Sealed {
            places.push(place);
        } else if let Some(payment) = payment {
            if claim == Claim::SubsidySpent {
                delete(connection, &[payment]).await?;
            }
            if bindings.made.contains(digest) {
                unbind(connection, payment).await?;
            }
        }
        claims.push(claim);
    }
    if places.is_empty() {
        return Ok(Sealed {
            claims,
            transaction: Ok(None),
        });
    }
    let transaction = match make(&places) {
        Ok(transaction) => transaction,
        Err(error) => {
            // What was inserted must not stay: take it out again, in the same commit.
            delete(connection, &new).await?;
            let sealed = places.iter().filter_map(|place| candidates.get(*place));
            for payment in sealed.filter_map(Candidate::new_payment) {
                discharge(connection, payment).await?;
                if bindings.made.contains(&payment.digest) {
                    unbind(connection, payment).await?;
                }
            }
            return Ok(Sealed {
                claims,
                transaction: Err(error),
            });
        }
    };
    let digests: Vec<&Digest> = places.iter().map(|i| candidates[*i].digest()).collect();
    write(connection, backend, replica, &transaction, &digests).await?;
    Ok(Sealed {
        claims,
        transaction: Ok(Some(transaction)),
    })
}

/// Inserts what is new, and gives the digests that were.
async fn insert(
    connection: &mut AnyConnection,
    payments: &[&NewPayment],
) -> Result<HashSet<Digest>, LedgerError> {
    const COLUMNS: usize = 22;
    if payments.is_empty() {
        return Ok(HashSet::new());
    }
    let rows: Vec<String> = (0..payments.len())
        .map(|row| {
            let from = row * COLUMNS + 1;
            format!(
                "(${from}, 'signed', {})",
                placeholders(from + 1, COLUMNS - 1)
            )
        })
        .collect();
    let sql = format!(
        "INSERT INTO payments (digest, state, scheme, payer, service, mint, amount, source, nonce_account, opened_slot, \
         lane, nonce, expires_at, x402_version, entry, split, to_vault, api_key, created_at, updated_at, share, worth, \
         subsidy) VALUES {} \
         ON CONFLICT DO NOTHING RETURNING digest",
        rows.join(", ")
    );
    let now = unix_millis();
    let mut query = sqlx::query(&sql);
    for payment in payments {
        let intent = payment.intent();
        let nonce = intent.map(|intent| intent.nonce);
        let split = intent
            .map(|intent| serde_json::to_string(&intent.split))
            .transpose()
            .map_err(|error| LedgerError::Row(error.to_string()))?;
        query = query
            .bind(hex::encode(payment.digest))
            .bind(payment.scheme())
            .bind(payment.payer.to_string())
            .bind(payment.service.to_string())
            .bind(payment.mint.to_string())
            .bind(payment.amount.to_string())
            .bind(payment.source.to_string())
            .bind(nonce.map(|nonce| nonce.account.to_string()))
            .bind(nonce.map(|nonce| nonce.opened_slot.to_string()))
            .bind(nonce.map(|nonce| i64::from(nonce.lane)))
            .bind(nonce.map(|nonce| nonce.nonce.to_string()))
            .bind(payment.expires_at)
            .bind(i64::from(payment.version.number()))
            .bind(intent.map(|intent| intent.entry.encode().to_vec()))
            .bind(split)
            .bind(i64::from(
                payment.means == Means::Transfer { to_vault: true },
            ))
            .bind(payment.api_key.as_deref().map(str::to_owned))
            .bind(now)
            .bind(now)
            .bind(payment.deal.share.to_string())
            .bind(payment.deal.worth.map(to_sql))
            .bind(
                payment
                    .deal
                    .charge
                    .map_or(0, |charge| to_sql(charge.lamports)),
            );
    }
    let rows = query.fetch_all(connection).await?;
    rows.iter()
        .map(|row| read_digest(&row.try_get::<String, _>("digest")?))
        .collect()
}

/// Takes what a payment is short by out of the day's subsidy. False if it is not left.
async fn charge(connection: &mut AnyConnection, payment: &NewPayment) -> Result<bool, LedgerError> {
    let Some(charge) = &payment.deal.charge else {
        return Ok(true);
    };
    if charge.lamports > charge.per_day {
        return Ok(false);
    }
    let done = sqlx::query(
        "INSERT INTO subsidies (day, used) VALUES ($1, $2) ON CONFLICT (day) DO UPDATE \
         SET used = subsidies.used + excluded.used WHERE subsidies.used + excluded.used <= $3",
    )
    .bind(charge.day)
    .bind(to_sql(charge.lamports))
    .bind(to_sql(charge.per_day))
    .execute(connection)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Puts it back.
async fn discharge(
    connection: &mut AnyConnection,
    payment: &NewPayment,
) -> Result<(), LedgerError> {
    if let Some(charge) = &payment.deal.charge {
        sqlx::query("UPDATE subsidies SET used = used - $1 WHERE day = $2")
            .bind(to_sql(charge.lamports))
            .bind(charge.day)
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn delete(
    connection: &mut AnyConnection,
    payments: &[&NewPayment],
) -> Result<(), LedgerError> {
    for payment in payments {
        // Only what has no transaction: a row that was there before has one.
        sqlx::query(
            "DELETE FROM payments WHERE digest = $1 AND NOT EXISTS (SELECT 1 FROM attempts WHERE digest = $1)",
        )
        .bind(hex::encode(payment.digest))
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Of payments in the ledger, those that wait for another transaction.
async fn without_transaction(
    connection: &mut AnyConnection,
    digests: &[&Digest],
) -> Result<HashSet<Digest>, LedgerError> {
    let mut waiting = HashSet::new();
    for digest in digests {
        let done = sqlx::query(
            "UPDATE payments SET state = 'signed', updated_at = $1 WHERE digest = $2 AND state IN ('signed', 'sent') \
             AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.digest = payments.digest AND a.live = 1)",
        )
        .bind(unix_millis())
        .bind(hex::encode(digest))
        .execute(&mut *connection)
        .await?;
        if done.rows_affected() == 1 {
            waiting.insert(**digest);
        }
    }
    Ok(waiting)
}

async fn write(
    connection: &mut AnyConnection,
    backend: Backend,
    replica: &str,
    transaction: &Transaction,
    digests: &[&Digest],
) -> Result<(), LedgerError> {
    let signature = transaction.signature.to_string();
    // A replica whose lease has run out writes nothing: what it would follow is another's by then, or will be.
    let sql = format!(
        "INSERT INTO transactions (signature, wire, last_valid_block_height, fee_payer, fee_lamports, service, payments, \
         replica, signed_at, signed_slot) SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10 \
         WHERE NOT EXISTS (SELECT 1 FROM replicas WHERE id = $11 AND alive_until < {})",
        backend.now()
    );
    let written = sqlx::query(&sql)
        .bind(&signature)
        .bind(transaction.wire.clone())
        .bind(to_sql(transaction.last_valid_block_height))
        .bind(transaction.fee_payer.to_string())
        .bind(to_sql(transaction.fee_lamports))
        .bind(transaction.service.to_string())
        .bind(digests.len() as i64)
        .bind(replica)
        .bind(unix_millis())
        .bind(to_sql(transaction.signed_slot))
        .bind(replica)
        .execute(&mut *connection)
        .await?;
    if written.rows_affected() == 0 {
        return Err(LedgerError::Lapsed);
    }
    let sql = format!(
        "INSERT INTO attempts (digest, signature, position) VALUES {}",
        values(digests.len(), 3)
    );
    let mut query = sqlx::query(&sql);
    for (position, digest) in digests.iter().enumerate() {
        query = query
            .bind(hex::encode(digest))
            .bind(&signature)
            .bind(position as i64);
    }
    query.execute(&mut *connection).await?;
    Ok(())
}
