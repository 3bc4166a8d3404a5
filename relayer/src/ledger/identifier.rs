//! The ids by which payers name their payments (`payment-identifier`), each bound to the first payload taken on with it.
//!
//! Bound in the commit that writes the payment's transaction down, so that of two payloads with one id one is signed,
//! whichever relayers they came to. A payer's ids at a service are nobody else's: only who can sign for the nonce
//! account can bind one there.

use std::collections::HashSet;

use sluice_intent::Digest;
use sluice_sdk::Address;
use sqlx::{AnyConnection, Row};

use super::{Ledger, LedgerError, NewPayment, row::digest as read_digest, values};

/// An id with the hash of the payload that it came with.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Binding {
    /// Whose it is: an intent's nonce account, or who signed a transfer.
    pub owner: Address,
    /// 16 to 128 characters.
    pub id: String,
    /// The payload's hash.
    pub fingerprint: [u8; 32],
}

/// What an id is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bound {
    /// The payload's hash.
    pub fingerprint: [u8; 32],
    /// The payment.
    pub digest: Digest,
}

impl Ledger {
    /// What an id of an owner is bound to at a service.
    pub async fn bound(
        &self,
        service: &Address,
        owner: &Address,
        id: &str,
    ) -> Result<Option<Bound>, LedgerError> {
        let mut connection = self.reader.acquire().await?;
        find(&mut connection, service, owner, id).await
    }

    /// Forgets ids whose intents expired before `before`, unix seconds of the chain's clock.
    pub async fn forget_identifiers(&self, before: i64) -> Result<u64, LedgerError> {
        self.write(move |connection| {
            Box::pin(async move {
                let gone = sqlx::query("DELETE FROM identifiers WHERE expires_at < $1")
                    .bind(before)
                    .execute(connection)
                    .await?;
                Ok(gone.rows_affected())
            })
        })
        .await
    }
}

async fn find(
    connection: &mut AnyConnection,
    service: &Address,
    owner: &Address,
    id: &str,
) -> Result<Option<Bound>, LedgerError> {
    let row = sqlx::query(
        "SELECT fingerprint, digest FROM identifiers WHERE service = $1 AND owner = $2 AND id = $3",
    )
    .bind(service.to_string())
    .bind(owner.to_string())
    .bind(id.to_owned())
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    Ok(Some(Bound {
        // A hash, written like a digest.
        fingerprint: read_digest(&row.try_get::<String, _>("fingerprint")?)?,
        digest: read_digest(&row.try_get::<String, _>("digest")?)?,
    }))
}

/// What became of ids, by payment.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    /// Bound now.
    pub(super) made: HashSet<Digest>,
    /// Bound before, to another payload.
    pub(super) others: HashSet<Digest>,
}

/// Binds the ids of payments that are about to be taken on.
pub(super) async fn bind(
    connection: &mut AnyConnection,
    payments: &[&NewPayment],
) -> Result<Bindings, LedgerError> {
    const COLUMNS: usize = 6;
    let mut wanted: Vec<(&NewPayment, &Binding)> = payments
        .iter()
        .filter_map(|payment| Some((*payment, payment.deal.binding.as_ref()?)))
        .collect();
    if wanted.is_empty() {
        return Ok(Bindings::default());
    }
    // In one order on every relayer, like the payments.
    wanted.sort_by(|(a, x), (b, y)| {
        (a.service, x.owner, &x.id, a.digest).cmp(&(b.service, y.owner, &y.id, b.digest))
    });
    let sql = format!(
        "INSERT INTO identifiers (service, owner, id, fingerprint, digest, expires_at) VALUES {} \
         ON CONFLICT DO NOTHING RETURNING digest",
        values(wanted.len(), COLUMNS)
    );
    let mut query = sqlx::query(&sql);
    for (payment, binding) in &wanted {
        query = query
            .bind(payment.service.to_string())
            .bind(binding.owner.to_string())
            .bind(binding.id.clone())
            .bind(hex::encode(binding.fingerprint))
            .bind(hex::encode(payment.digest))
            .bind(payment.expires_at);
    }
    let mut bindings = Bindings::default();
    for row in query.fetch_all(&mut *connection).await? {
        let digest = read_digest(&row.try_get::<String, _>("digest")?)?;
        bindings.made.insert(digest);
    }
    for (payment, binding) in wanted {
        if bindings.made.contains(&payment.digest) {
            continue;
        }
        let earlier = find(connection, &payment.service, &binding.owner, &binding.id).await?;
        let same = |bound: &Bound| {
            bound.fingerprint == binding.fingerprint && bound.digest == payment.digest
        };
        if !earlier.as_ref().is_some_and(same) {
            bindings.others.insert(payment.digest);
        }
    }
    Ok(bindings)
}

/// Lets go of the id of a payment that was bound now and is not taken on after all.
pub(super) async fn unbind(
    connection: &mut AnyConnection,
    payment: &NewPayment,
) -> Result<(), LedgerError> {
    let Some(binding) = &payment.deal.binding else {
        return Ok(());
    };
    sqlx::query(
        "DELETE FROM identifiers WHERE service = $1 AND owner = $2 AND id = $3 AND digest = $4",
    )
    .bind(payment.service.to_string())
    .bind(binding.owner.to_string())
    .bind(binding.id.clone())
    .bind(hex::encode(payment.digest))
    .execute(connection)
    .await?;
    Ok(())
}
