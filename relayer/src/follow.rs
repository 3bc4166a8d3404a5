//! Following what was sent to its end: one task for all open payments.
//!
//! A transaction is dead only when its blockhash is, at finalized height, and a node that has searched its
//! history afterwards does not know the signature. Until then it is sent again; after it the intent is
//! signed into a new transaction, which its nonce makes safe, until the intent itself expires.

use std::{collections::HashMap, sync::Arc, time::Duration};

use sluice_intent::Skip;
use sluice_sdk::{
    Address,
    accounts::{AcceptedMint, Facilitator, NonceAccount, Service},
    address,
    instructions::{ServiceAccounts, SettleItem},
};
use solana_signature::Signature;
use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    chain::{CLOCK, Depth, MAX_STATUSES, Status},
    engine::{Engine, Unavailable},
    ledger::{Landing, OpenAttempt, PaymentRow, unix_millis},
    reason::{Reason, Rejection},
    settle::NotMade,
    snapshot::{exists, lookup, time},
};

/// How often an idle follower looks anyway.
const IDLE: Duration = Duration::from_secs(5);
/// Sends at once.
const MAX_SENDS: usize = 32;

/// Follows open payments until `stop`.
pub(crate) async fn follow(engine: Arc<Engine>, stop: CancellationToken) {
    let mut follower = Follower {
        last_sent: HashMap::new(),
        height_due: Instant::now(),
        engine,
    };
    let mut busy = true;
    loop {
        let pause = if busy {
            follower.engine.settings.chain.poll()
        } else {
            IDLE
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
            () = follower.engine.nudge.notified(), if !busy => {}
        }
        match follower.round().await {
            Ok(open) => busy = open,
            Err(error) => {
                // Unknown stays unknown: the next round asks again.
                tracing::warn!(%error, "open payments could not be followed");
                busy = true;
            }
        }
    }
}

struct Follower {
    engine: Arc<Engine>,
    /// When each open transaction was last sent.
    last_sent: HashMap<Signature, Instant>,
    /// When the finalized height is worth asking for again.
    height_due: Instant,
}

impl Follower {
    /// One look at everything that is open. Says whether something was.
    async fn round(&mut self) -> Result<bool, Unavailable> {
        let ledger = &self.engine.ledger;
        let stale = self.engine.settings.chain.rpc_timeout() * 4 + Duration::from_secs(30);
        let before = unix_millis() - i64::try_from(stale.as_millis()).unwrap_or(i64::MAX / 2);
        if ledger.release(before).await? > 0 {
            self.engine.moved();
        }
        let open = ledger.open_attempts().await?;
        self.last_sent
            .retain(|signature, _| open.iter().any(|o| o.attempt.signature == *signature));
        let mut unseen = Vec::new();
        for chunk in open.chunks(MAX_STATUSES) {
            unseen.extend(self.look(chunk, false).await?);
        }
        self.rebroadcast(&unseen).await;
        if self.height_due <= Instant::now() {
            self.height_due = Instant::now() + self.engine.settings.chain.rebroadcast();
            self.bury_dead(&unseen).await?;
            self.revive().await?;
        }
        let unsent = self.engine.ledger.unsent().await?;
        Ok(!open.is_empty() || !unsent.is_empty())
    }

    /// Asks for statuses and records what landed. Gives those that the node does not know.
    async fn look(
        &self,
        open: &[OpenAttempt],
        history: bool,
    ) -> Result<Vec<OpenAttempt>, Unavailable> {
        if open.is_empty() {
            return Ok(Vec::new());
        }
        let signatures: Vec<Signature> = open.iter().map(|o| o.attempt.signature).collect();
        let statuses = self.engine.chain.statuses(&signatures, history).await?;
        let mut unseen = Vec::new();
        for (attempt, status) in open.iter().zip(statuses) {
            match status {
                None => unseen.push(attempt.clone()),
                Some(status) if status.confirmed => self.land(attempt, &status).await?,
                // In a block that the cluster may still drop.
                Some(_) => {}
            }
        }
        Ok(unseen)
    }

    async fn land(&self, open: &OpenAttempt, status: &Status) -> Result<(), Unavailable> {
        let slot = status.slot;
        let landing = match &status.error {
            None => Landing::Confirmed { slot },
            Some(error) => Landing::Failed {
                slot,
                rejection: Rejection::of_failure(error).unwrap_or_else(|| {
                    Rejection::new(
                        Reason::UnexpectedSettle,
                        format!("the transaction failed: {error}"),
                    )
                }),
            },
        };
        let signature = &open.attempt.signature;
        if self
            .engine
            .ledger
            .land(&open.digest, signature, &landing)
            .await?
        {
            let digest = hex::encode(open.digest);
            match &landing {
                Landing::Confirmed { slot } => {
                    tracing::info!(%digest, transaction = %signature, slot, "transaction confirmed");
                }
                Landing::Failed { slot, rejection } => {
                    tracing::warn!(%digest, transaction = %signature, slot, %rejection, "transaction failed");
                }
            }
            self.engine.moved();
        }
        Ok(())
    }

    /// Sends again what no node has seen for a while.
    async fn rebroadcast(&mut self, unseen: &[OpenAttempt]) {
        let pause = self.engine.settings.chain.rebroadcast();
        let now = Instant::now();
        let mut sends = JoinSet::new();
        for open in unseen {
            let signature = open.attempt.signature;
            // The first time it is seen here it has just been sent, or the relayer has just started.
            let last = *self.last_sent.entry(signature).or_insert(now);
            if now.duration_since(last) < pause {
                continue;
            }
            self.last_sent.insert(signature, now);
            if sends.len() >= MAX_SENDS {
                sends.join_next().await;
            }
            let (engine, open) = (Arc::clone(&self.engine), open.clone());
            sends.spawn(async move {
                let digest = hex::encode(open.digest);
                match engine.chain.send(&open.attempt.wire).await {
                    Ok(()) => {
                        tracing::debug!(%digest, transaction = %signature, "sent again");
                        if let Err(error) = engine.ledger.mark_sent(&open.digest, &signature).await
                        {
                            tracing::warn!(%digest, %error, "sent again, but not marked as sent");
                        }
                    }
                    Err(error) => {
                        tracing::debug!(%digest, transaction = %signature, %error, "no word about a repeated send");
                    }
                }
            });
        }
        while sends.join_next().await.is_some() {}
    }

    /// Finds the transactions that can never land.
    async fn bury_dead(&self, unseen: &[OpenAttempt]) -> Result<(), Unavailable> {
        if unseen.is_empty() {
            return Ok(());
        }
        // In this order: the height first, the search after it. The other way round a transaction could
        // land between the two.
        let height = self.engine.chain.finalized_block_height().await?;
        let past: Vec<OpenAttempt> = unseen
            .iter()
            .filter(|open| height > open.attempt.last_valid_block_height)
            .cloned()
            .collect();
        for chunk in past.chunks(MAX_STATUSES) {
            for dead in self.look(chunk, true).await? {
                tracing::info!(
                    digest = %hex::encode(dead.digest), transaction = %dead.attempt.signature, height,
                    "transaction can no longer land"
                );
                self.engine.ledger.bury(&dead.attempt.signature).await?;
            }
        }
        Ok(())
    }

    /// Signs payments again whose every transaction is dead, or closes them if their intent has expired.
    async fn revive(&self) -> Result<(), Unavailable> {
        let unsent = self.engine.ledger.unsent().await?;
        if unsent.is_empty() {
            return Ok(());
        }
        let chain = &self.engine.chain;
        let clock = chain.accounts(&[CLOCK], Depth::Finalized).await?;
        let now = time(clock.into_iter().next().flatten())?;
        for row in unsent {
            let digest = hex::encode(row.digest);
            if now > row.expires_at {
                let rejection = Rejection::skip_because(
                    Skip::Expired,
                    "no transaction of this payment landed before it expired, and none can any more",
                );
                if self.engine.ledger.expire(&row.digest, &rejection).await? {
                    tracing::warn!(%digest, "payment expired without landing");
                    self.engine.moved();
                }
                continue;
            }
            match self.remake(&row).await {
                Ok(()) => tracing::info!(%digest, "signed again with a fresh blockhash"),
                // Not final: what refuses it now may change until it expires, and costs nothing meanwhile.
                Err(NotMade::Refused(rejection)) => {
                    tracing::warn!(%digest, %rejection, "cannot be signed again now");
                }
                Err(NotMade::Unavailable(error)) => return Err(error),
            }
        }
        Ok(())
    }

    async fn remake(&self, row: &PaymentRow) -> Result<(), NotMade> {
        let engine = &self.engine;
        let keys = [
            row.service,
            address::accepted_mint(&row.mint).0,
            engine.settings.facilitator,
            row.nonce_account,
        ];
        let mut accounts = engine
            .chain
            .accounts(&keys, Depth::Confirmed)
            .await?
            .into_iter()
            .map(|account| account.filter(exists));
        let mut next = || accounts.next().flatten();
        let gone = |what: &str| {
            let message = format!("{what} cannot be read any more");
            NotMade::Refused(Rejection::new(Reason::UnexpectedSettle, message))
        };
        let service = lookup::<Service>(next());
        let accepted = lookup::<AcceptedMint>(next());
        let facilitator = lookup::<Facilitator>(next());
        let nonce = lookup::<NonceAccount>(next());
        let service = service.found().ok_or_else(|| gone("the service"))?;
        let accepted = accepted.found().ok_or_else(|| gone("the accepted mint"))?;
        let facilitator = facilitator.found().ok_or_else(|| gone("the facilitator"))?;
        let nonce = nonce.found().ok_or_else(|| gone("the nonce account"))?;
        let wallet = Address::new_from_array(facilitator.wallet);
        let scene = ServiceAccounts::new(row.service, service, accepted, &wallet);
        let item = SettleItem {
            entry: row.entry,
            source: Address::new_from_array(nonce.source),
            nonce_account: row.nonce_account,
        };
        let attempt = engine.make(&scene, &item).await?;
        engine.commit_and_send(&row.digest, &attempt).await?;
        Ok(())
    }
}
