//! Stops a relayer in the middle of a change of its ledger, by means of the database alone.
//!
//! Postgres waits for a lock that the test holds, before a statement or in the very commit; if the relayer dies in its
//! commit, the commit is made all the same. SQLite lives in the relayer's process, so there it computes for ever.

use std::sync::Arc;

use sqlx::{AnyConnection, Connection};

use crate::{
    postgres::{Store, connect},
    process::until,
};

/// Which change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A signed transaction is written down.
    Signing,
    /// What became of a transaction is written down.
    Landing,
    /// The one success of a payment is given away.
    Answer,
}

impl Change {
    fn event(self) -> &'static str {
        match self {
            Self::Signing => "INSERT ON transactions",
            Self::Landing => "UPDATE OF outcome ON transactions",
            Self::Answer => "UPDATE OF answered ON payments",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::Signing | Self::Landing => "transactions",
            Self::Answer => "payments",
        }
    }
}

/// A ledger that stops at a change until it is released.
pub struct Halt {
    store: Arc<Store>,
    change: Change,
    /// Holds what Postgres waits for.
    holder: Option<AnyConnection>,
}

impl Halt {
    /// Stops the ledger after the relayer has made the change and before it commits it.
    pub async fn before(store: &Arc<Store>, change: Change) -> Self {
        if store.is_postgres() {
            return Self::postgres(
                store,
                change,
                &format!("TRIGGER halt BEFORE {}", change.event()),
            )
            .await;
        }
        store
            .execute(&format!(
                "CREATE TABLE halt_rows AS WITH RECURSIVE c(x) AS \
                 (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 3000) SELECT x FROM c; \
                 CREATE TRIGGER halt AFTER {} BEGIN \
                 SELECT count(*) FROM halt_rows a, halt_rows b, halt_rows c, halt_rows d; END",
                change.event()
            ))
            .await;
        Self {
            store: Arc::clone(store),
            change,
            holder: None,
        }
    }

    /// Stops a Postgres in the commit that the relayer has ordered.
    pub async fn in_commit(store: &Arc<Store>, change: Change) -> Self {
        Self::postgres(
            store,
            change,
            &format!(
                "CONSTRAINT TRIGGER halt AFTER {} DEFERRABLE INITIALLY DEFERRED",
                change.event()
            ),
        )
        .await
    }

    async fn postgres(store: &Arc<Store>, change: Change, trigger: &str) -> Self {
        let mut holder = connect(store.url()).await;
        sqlx::raw_sql("SELECT pg_advisory_lock(7)")
            .execute(&mut holder)
            .await
            .unwrap();
        store
            .execute(&format!(
                "CREATE FUNCTION halt() RETURNS trigger LANGUAGE plpgsql AS \
                 $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$; \
                 CREATE {trigger} FOR EACH ROW EXECUTE FUNCTION halt()"
            ))
            .await;
        Self {
            store: Arc::clone(store),
            change,
            holder: Some(holder),
        }
    }

    /// Waits until a relayer has come there.
    pub async fn reached(&self) {
        until("a change that is halted", || async {
            if self.holder.is_some() {
                let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND \
                     database = (SELECT oid FROM pg_database WHERE datname = current_database())";
                return self.store.count(waiting).await > 0;
            }
            // Nothing else holds the file for so long.
            let mut other = connect(self.store.url()).await;
            sqlx::raw_sql("PRAGMA busy_timeout = 1500")
                .execute(&mut other)
                .await
                .unwrap();
            let begun = sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await;
            other.close().await.unwrap();
            begun.is_err()
        })
        .await;
    }

    /// Lets it go on, and the database forget about it. Whatever a dead relayer had begun is done or undone then.
    pub async fn release(mut self) {
        match self.holder.take() {
            Some(holder) => {
                holder.close().await.unwrap();
                // Waits for everybody who has touched the table.
                self.store
                    .execute(&format!(
                        "DROP TRIGGER halt ON {}; DROP FUNCTION halt()",
                        self.change.table()
                    ))
                    .await;
            }
            None => {
                self.store
                    .execute("DROP TRIGGER halt; DROP TABLE halt_rows")
                    .await;
            }
        }
    }
}
