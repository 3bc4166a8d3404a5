//! One writer, many changes a commit.
//!
//! A commit waits for the disk, whatever it holds. Changes that arrive while one is being committed share the next:
//! an idle ledger adds no delay, a busy one commits a few hundred times a second for thousands of changes. Each change
//! is a savepoint of its own, so that one that fails takes nothing else with it.

use std::{
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use sqlx::{AnyConnection, AnyPool};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    task::JoinHandle,
};

use solana_signature::Signature;

use super::{Backend, Ledger, LedgerError, record::mark_sent};

/// Most changes a commit.
const MOST: usize = 64;
/// A database that is silent for longer is given up. More than its own bounds on a statement and on a connection, which
/// say more.
const SILENCE: Duration = Duration::from_secs(20);
/// Most changes that wait. Whoever comes then is sent away: what it waits for would come too late.
const QUEUE: usize = 4_096;

/// A change: it runs inside the transaction, and is told how the commit went.
type Change = Box<dyn for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Answer> + Send>;
/// Whether a change was made, and whom to tell.
type Answer = (bool, Box<dyn FnOnce(Result<(), LedgerError>) + Send>);

#[derive(Clone, Debug)]
pub(super) struct Writer {
    queue: mpsc::Sender<Change>,
    task: Arc<Mutex<Option<JoinHandle<()>>>>,
    pool: AnyPool,
    sent: Sent,
}

/// Transactions that were sent, and when, until a commit takes that along.
type Sent = Arc<std::sync::Mutex<Vec<(Signature, i64)>>>;

impl Writer {
    pub(super) fn start(pool: AnyPool, backend: Backend) -> Self {
        let (queue, changes) = mpsc::channel(QUEUE);
        let sent = Sent::default();
        let task = tokio::spawn(run(pool.clone(), backend, changes, Arc::clone(&sent)));
        Self {
            sent,
            queue,
            task: Arc::new(Mutex::new(Some(task))),
            pool,
        }
    }

    pub(super) fn note_sent(&self, signature: Signature, at: i64) {
        let mut sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner);
        sent.push((signature, at));
    }

    /// Lets what waits be committed, then closes.
    pub(super) async fn close(&self) {
        // The last change in the queue: when it is answered, everything before it is.
        let (done, finished) = oneshot::channel::<()>();
        let last: Change = Box::new(move |_| {
            Box::pin(async move {
                let tell: Box<dyn FnOnce(Result<(), LedgerError>) + Send> = Box::new(move |_| {
                    let _ = done.send(());
                });
                (true, tell)
            })
        });
        if self.queue.send(last).await.is_ok() {
            let _ = finished.await;
        }
        if let Some(task) = self.task.lock().await.take() {
            task.abort();
        }
        self.pool.close().await;
    }
}

impl Ledger {
    /// Runs a change and waits until it is on disk.
    pub(super) async fn write<T, F>(&self, change: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        let written = self.quietly(change).await;
        let refused = match &written {
            Ok(_) => None,
            Err(LedgerError::Database(_) | LedgerError::Commit(_)) => Some(Instant::now()),
            // These say nothing about the database.
            Err(_) => return written,
        };
        *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = refused;
        written
    }

    /// The same for a change that says nothing about whether others would be taken.
    pub(super) async fn quietly<T, F>(&self, change: F) -> Result<T, LedgerError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut AnyConnection) -> BoxFuture<'c, Result<T, LedgerError>>
            + Send
            + 'static,
    {
        let (tell, told) = oneshot::channel();
        let change: Change = Box::new(move |connection| {
            Box::pin(async move {
                let made = change(connection).await;
                let ok = made.is_ok();
                let tell: Box<dyn FnOnce(Result<(), LedgerError>) + Send> =
                    Box::new(move |committed| {
                        let _ = tell.send(made.and_then(|value| committed.map(|()| value)));
                    });
                (ok, tell)
            })
        });
        let queue = &self.writer.queue;
        queue.try_send(change).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => LedgerError::Busy,
            mpsc::error::TrySendError::Closed(_) => LedgerError::Closed,
        })?;
        told.await.map_err(|_| LedgerError::Closed)?
    }
}

async fn run(pool: AnyPool, backend: Backend, mut changes: mpsc::Receiver<Change>, sent: Sent) {
    let mut batch = Vec::with_capacity(MOST);
    while changes.recv_many(&mut batch, MOST).await > 0 {
        let marks = std::mem::take(&mut *sent.lock().unwrap_or_else(PoisonError::into_inner));
        commit(&pool, backend, std::mem::take(&mut batch), &marks).await;
    }
}

async fn commit(pool: &AnyPool, backend: Backend, batch: Vec<Change>, sent: &[(Signature, i64)]) {
    let begin = match backend {
        // The lock is taken at once: a deferred one could fail half way.
        Backend::Sqlite => "BEGIN IMMEDIATE",
        Backend::Postgres => "BEGIN",
    };
    let mut answers = Vec::with_capacity(batch.len());
    let mut committing = false;
    let work = async {
        let mut connection = pool.acquire().await?;
        // Whatever goes wrong below, no open transaction goes back into the pool.
        let mut guard = Open(Some(&mut connection));
        let connection = guard.connection()?;
        sqlx::query(begin).execute(&mut *connection).await?;
        for change in batch {
            sqlx::query("SAVEPOINT change")
                .execute(&mut *connection)
                .await?;
            let (made, answer) = change(connection).await;
            answers.push(answer);
            let end = if made {
                "RELEASE SAVEPOINT change"
            } else {
                "ROLLBACK TO SAVEPOINT change"
            };
            sqlx::query(end).execute(&mut *connection).await?;
        }
        if !sent.is_empty() {
            sqlx::query("SAVEPOINT sent")
                .execute(&mut *connection)
                .await?;
            // A mark that cannot be made is not worth a change.
            let end = match mark_sent(connection, sent).await {
                Ok(()) => "RELEASE SAVEPOINT sent",
                Err(_) => "ROLLBACK TO SAVEPOINT sent",
            };
            sqlx::query(end).execute(&mut *connection).await?;
        }
        committing = true;
        sqlx::query("COMMIT").execute(&mut *connection).await?;
        guard.0 = None;
        Ok::<(), sqlx::Error>(())
    };
    let outcome = match tokio::time::timeout(SILENCE, work).await {
        Ok(outcome) => outcome.map_err(LedgerError::from),
        Err(_) => Err(LedgerError::Database(format!(
            "silent for {} s",
            SILENCE.as_secs()
        ))),
    };
    let outcome = outcome.map_err(|error| {
        tracing::error!(%error, "a commit of the ledger failed");
        // Before the word that commits, nothing can be on disk.
        if committing {
            LedgerError::Commit(error.to_string())
        } else {
            error
        }
    });
    for answer in answers {
        answer(outcome.clone());
    }
}

/// A connection in a transaction.
struct Open<'a>(Option<&'a mut sqlx::pool::PoolConnection<sqlx::Any>>);

impl Open<'_> {
    fn connection(&mut self) -> Result<&mut AnyConnection, sqlx::Error> {
        match &mut self.0 {
            Some(connection) => Ok(&mut **connection),
            None => Err(sqlx::Error::PoolClosed),
        }
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            // Closing it ends the transaction; the pool makes another.
            connection.close_on_drop();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    /// Nobody waits before a queue that is full, and what is in it is still written.
    #[tokio::test]
    async fn a_full_queue_sends_away() {
        let ledger = Ledger::open("sqlite::memory:", "one").await.unwrap();
        let (open, gate) = oneshot::channel::<()>();
        let (entered, inside) = oneshot::channel::<()>();
        let one = ledger.clone();
        let blocking = tokio::spawn(async move {
            one.write(move |_| {
                Box::pin(async move {
                    let _ = entered.send(());
                    let _ = gate.await;
                    Ok(())
                })
            })
            .await
        });
        inside.await.unwrap();
        let mut waiting: Vec<_> = (0..QUEUE).map(|_| Box::pin(ledger.ping())).collect();
        for ping in &mut waiting {
            assert!(futures_util::poll!(ping).is_pending());
        }
        assert!(matches!(ledger.ping().await, Err(LedgerError::Busy)));
        open.send(()).unwrap();
        blocking.await.unwrap().unwrap();
        for ping in waiting {
            ping.await.unwrap();
        }
        ledger.ping().await.unwrap();
    }
}
