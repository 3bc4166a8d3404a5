//! What is done around payments: taking up what an earlier run knew, adding up, and asking for prices.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sluice_sdk::Address;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{price::Feed, subsidy::day_of};
use crate::{
    engine::Engine,
    ledger::{LedgerError, unix_millis},
};

/// Most transactions of before a start that tell what payments cost.
const MAX_HISTORY: u32 = 4_096;
/// Seconds between two looks for what the ledger need not keep any longer.
const PRUNE_SECS: i64 = 600;

impl Engine {
    /// Notes what a transaction of a service cost, for what the next is expected to.
    pub(crate) fn note_cost(&self, service: Address, lamports: u64, paid: usize) {
        let paid = u32::try_from(paid).unwrap_or(u32::MAX);
        let costs = &self.economics.costs;
        costs.note(service, lamports, paid, Duration::ZERO);
    }

    /// Takes up what an earlier run knew: what transactions cost lately, and what of today's subsidy is used.
    pub(crate) async fn open_books(&self) -> Result<(), LedgerError> {
        let economics = &self.economics;
        let now = unix_millis();
        if economics.settings.enforce {
            let window = i64::try_from(economics.settings.cost_window().as_millis());
            let since = now.saturating_sub(window.unwrap_or(i64::MAX));
            for past in self.ledger.recent_costs(since, MAX_HISTORY).await? {
                let ago = u64::try_from(now.saturating_sub(past.at)).unwrap_or(0);
                let ago = Duration::from_millis(ago);
                economics
                    .costs
                    .note(past.service, past.lamports, past.paid, ago);
            }
        }
        if let Ok(now) = self.chain_time().await {
            self.read_purse(now).await?;
        }
        Ok(())
    }

    async fn read_purse(&self, now: i64) -> Result<(), LedgerError> {
        let purse = &self.economics.purse;
        if purse.per_day() > 0 {
            let day = day_of(now);
            purse.note(day, self.ledger.subsidy_used(day).await?);
        }
        Ok(())
    }

    /// What is done now and then: totals are added up, the day's subsidy is read, and what nobody asks for any more is
    /// forgotten. `now` is the chain's clock.
    pub(crate) async fn keep_books(&self, now: i64) -> Result<(), LedgerError> {
        self.ledger.fold_totals().await?;
        self.read_purse(now).await?;
        let pruned = &self.economics.pruned;
        if now.saturating_sub(pruned.load(Ordering::Relaxed)) >= PRUNE_SECS {
            self.ledger.prune_totals(unix_millis() / 1_000).await?;
            let kept = i64::try_from(self.settings.identifier.keep_secs).unwrap_or(i64::MAX);
            let before = now.saturating_sub(kept);
            self.ledger.forget_identifiers(before).await?;
            pruned.store(now, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Asks the feed of prices until `stop`, if there is one. Returns after the first answer.
    pub(crate) async fn start_feed(self: &Arc<Self>, stop: CancellationToken) {
        let settings = &self.economics.settings;
        let Some(url) = settings.price_url.clone() else {
            return;
        };
        let poll = settings.poll();
        let feed = match Feed::new(url) {
            Ok(feed) => feed,
            Err(problem) => {
                tracing::error!(%problem, "the feed of prices cannot be asked: no price of it is known");
                return;
            }
        };
        feed.refresh(&self.economics.prices).await;
        let engine = Arc::clone(self);
        tokio::spawn(async move {
            let mut rounds = interval(poll);
            rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first comes at once, and was asked above.
            rounds.tick().await;
            loop {
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = rounds.tick() => feed.refresh(&engine.economics.prices).await,
                }
            }
        });
    }
}
