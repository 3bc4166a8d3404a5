//! Looking after what the relayer depends on while it runs: whether its keys sign, and whether its nodes are still of
//! its cluster.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::engine::Engine;

/// How often keys that rest are looked at; each has its own pause between two trials.
const KEYS: Duration = Duration::from_millis(250);

/// Watches until `stop`. Each thing on its own: one that does not answer must not hide the others.
pub(crate) async fn watch(engine: Arc<Engine>, stop: CancellationToken) {
    tokio::select! {
        () = stop.cancelled() => {}
        () = watch_keys(&engine) => {}
        () = watch_cluster(&engine) => {}
    }
}

async fn watch_keys(engine: &Engine) {
    let mut rounds = interval(KEYS);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        // A failure is noted with the key, and told there.
        let _ = engine.signers.probe().await;
    }
}

async fn watch_cluster(engine: &Engine) {
    let mut rounds = interval(engine.settings.chain.rebroadcast());
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        match engine.chain.genesis_hash().await {
            Ok(hash) => engine.note_cluster(&hash.to_bytes()),
            // Not known, and said by whoever needs it.
            Err(error) => tracing::debug!(%error, "which cluster the RPC serves is not known now"),
        }
    }
}
