//! Several relayers on one ledger.
//!
//! Each says in time that it lives, by the database's clock. The transactions of one that does not are another's to
//! follow: taking them over is one statement, so exactly one does. One that comes back late finds them gone and leaves
//! them alone; and if both should sign for a payment all the same, its nonce lets one of the two land.

use super::{Ledger, LedgerError};

impl Ledger {
    /// Says that this replica lives for another `millis`, and takes over the transactions of those that do not. Gives
    /// how many.
    pub async fn heartbeat(&self, millis: i64) -> Result<u64, LedgerError> {
        let (replica, now) = (self.replica.clone(), self.backend.now());
        self.quietly(move |connection| {
            Box::pin(async move {
                let sql = format!(
                    "INSERT INTO replicas (id, alive_until) VALUES ($1, {now} + $2) \
                     ON CONFLICT (id) DO UPDATE SET alive_until = excluded.alive_until"
                );
                sqlx::query(&sql)
                    .bind(replica.clone())
                    .bind(millis)
                    .execute(&mut *connection)
                    .await?;
                // What counts as not landed is followed to its end by somebody; so is a payment between two
                // transactions, which hangs on the one that died or failed.
                let sql = format!(
                    "UPDATE transactions SET replica = $1 WHERE replica <> $2 AND (outcome = 'open' OR \
                     (outcome IN ('dead', 'failed') AND EXISTS (SELECT 1 FROM attempts a JOIN payments p ON p.digest = a.digest \
                     WHERE a.signature = transactions.signature AND p.state IN ('signed', 'sent')))) \
                     AND replica NOT IN (SELECT id FROM replicas WHERE alive_until >= {now})"
                );
                let taken = sqlx::query(&sql)
                    .bind(replica.clone())
                    .bind(replica)
                    .execute(&mut *connection)
                    .await?;
                Ok(taken.rows_affected())
            })
        })
        .await
    }

    /// Forgets every replica: their transactions are free to be taken over. For a ledger that only one relayer uses.
    pub async fn forget_replicas(&self) -> Result<(), LedgerError> {
        self.write(|connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM replicas")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Says that this replica stops: another may take over at once.
    pub async fn leave(&self) -> Result<(), LedgerError> {
        let replica = self.replica.clone();
        self.write(move |connection| {
            Box::pin(async move {
                sqlx::query("DELETE FROM replicas WHERE id = $1")
                    .bind(replica)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }
}
