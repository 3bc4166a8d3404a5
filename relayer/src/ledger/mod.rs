//! The ledger: what the relayer has signed, sent and seen land, on disk before it happens.
//!
//! SQLite for one relayer, Postgres for several that share one ledger; the same statements run on both. Every change
//! of a payment's state is a compare-and-swap on the state before it, so that of two tasks or two relayers that act on
//! one payment one wins and the other notices.
//!
//! Reading order: [`row`] (what is kept), [`seal`] and [`record`] (what is written), [`query`] (what is read), [`totals`]
//! (what it adds up to), [`identifier`] (payers' ids), [`chores`] and [`onboardings`] (what is done beside payments),
//! [`replica`] (several relayers), `writer` (many changes, one commit).

pub mod chores;
pub mod identifier;
pub mod onboardings;
pub mod query;
pub mod record;
pub mod replica;
pub mod row;
pub mod seal;
pub mod totals;
mod writer;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use sqlx::{AnyPool, any::AnyPoolOptions, migrate::Migrator};

pub use identifier::Binding;
pub use row::{
    Attempt, Charge, Deal, IntentMeans, LandedTransaction, LedgerError, Means, NewPayment,
    NonceKey, OpenTransaction, PaymentRow, State,
};
pub use seal::{Candidate, Claim, Sealed, Transaction};

use writer::Writer;

static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");
static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");

/// How long a refused change speaks against the ledger.
const REFUSING: Duration = Duration::from_secs(10);
/// Connections for reading.
const READERS: u32 = 4;

/// Which database it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A file, for one relayer.
    Sqlite,
    /// A server, which several relayers may share.
    Postgres,
}

/// A ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    backend: Backend,
    replica: String,
    reader: AnyPool,
    writer: Writer,
    /// When it last refused a change that mattered.
    refused: Arc<Mutex<Option<Instant>>>,
}

impl Backend {
    /// The database that a URL names; `None` for another one.
    pub fn of_url(url: &str) -> Option<Self> {
        match url.split_once(':')?.0 {
            "sqlite" => Some(Self::Sqlite),
            "postgres" | "postgresql" => Some(Self::Postgres),
            _ => None,
        }
    }

    /// What a connection is told before it is used.
    fn greeting(self) -> &'static [&'static str] {
        match self {
            // FULL: a commit that came back must survive the machine's death, because bytes leave right after it.
            Self::Sqlite => &[
                "PRAGMA busy_timeout = 5000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
            ],
            Self::Postgres => &[
                "SET synchronous_commit = on",
                "SET statement_timeout = '10s'",
            ],
        }
    }

    /// The database's clock, unix milliseconds: the one that all replicas share.
    fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "CAST(unixepoch('subsec') * 1000 AS INTEGER)",
            Self::Postgres => "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)",
        }
    }
}

impl Ledger {
    /// Opens the ledger at a `sqlite:` or `postgres:` URL, creates a SQLite file if it is missing, and brings the
    /// schema up to date. `replica` names this relayer among those that share the ledger.
    pub async fn open(url: &str, replica: &str) -> Result<Self, LedgerError> {
        sqlx::any::install_default_drivers();
        let backend = Backend::of_url(url).ok_or(LedgerError::Url)?;
        let in_memory = url.contains(":memory:");
        let url = match backend {
            Backend::Sqlite if !in_memory && !url.contains("mode=") => {
                let separator = if url.contains('?') { '&' } else { '?' };
                format!("{url}{separator}mode=rwc")
            }
            _ => url.to_owned(),
        };
        let options = move |connections: u32| {
            AnyPoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(5))
                .after_connect(move |connection, _| {
                    Box::pin(async move {
                        for line in backend.greeting() {
                            sqlx::query(line).execute(&mut *connection).await?;
                        }
                        Ok(())
                    })
                })
        };
        // A ledger in memory is one connection's: everything shares that.
        let (writers, readers) = if in_memory { (1, 0) } else { (1, READERS) };
        let pool = options(writers).connect(&url).await?;
        match backend {
            Backend::Sqlite => SQLITE.run(&pool).await?,
            Backend::Postgres => POSTGRES.run(&pool).await?,
        }
        let reader = if readers == 0 {
            pool.clone()
        } else {
            options(readers).connect(&url).await?
        };
        Ok(Self {
            backend,
            replica: replica.to_owned(),
            writer: Writer::start(pool, backend),
            reader,
            refused: Arc::default(),
        })
    }

    /// Which database it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// This relayer's name in it.
    pub fn replica(&self) -> &str {
        &self.replica
    }

    /// Whether it answers to writes.
    pub async fn ping(&self) -> Result<(), LedgerError> {
        let replica = self.replica.clone();
        self.quietly(|connection| {
            Box::pin(async move {
                // Changes nothing and is written all the same, which a database that only reads refuses, and most full
                // disks.
                sqlx::query("UPDATE replicas SET alive_until = alive_until WHERE id = $1")
                    .bind(replica)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Whether it has refused a change a moment ago, and taken none since. A server whose disk is full may well have room
    /// for a ping.
    pub fn is_refusing(&self) -> bool {
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.is_some_and(|at| at.elapsed() < REFUSING)
    }

    /// Closes it; what is open is finished first.
    pub async fn close(&self) {
        self.writer.close().await;
        self.reader.close().await;
    }
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

/// `($1, $2), ($3, $4)` for two rows of two columns: one statement for many rows, in both databases' syntax.
fn values(rows: usize, columns: usize) -> String {
    let mut text = String::new();
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        text.push_str(&placeholders(row * columns + 1, columns));
        text.push(')');
    }
    text
}

/// `$3, $4, $5` for three from 3.
fn placeholders(from: usize, count: usize) -> String {
    let names: Vec<String> = (from..from + count).map(|n| format!("${n}")).collect();
    names.join(", ")
}
