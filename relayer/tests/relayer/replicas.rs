//! Two relayers on one Postgres.

use std::{sync::Arc, time::Duration};

use sluice_relayer::RunningRelayer;
use sluice_sdk::x402::SettleResponse;

use crate::{
    fake::{FakeChain, Fate, LIFE},
    http::{PATIENT, QUICK, World, invalid, reason, start},
    load::{crowd, settle_all},
    postgres::Store,
    scene::Scene,
};

/// Two relayers, each with its HTTP, on one ledger and one chain.
pub async fn two(scene: Scene, extra: &str) -> Option<(Arc<World>, Arc<World>)> {
    let store = Arc::new(Store::postgres().await?);
    let chain = Arc::new(FakeChain::new(&scene));
    chain.state().ledger = Some(store.url().to_owned());
    let one = World::of(Arc::clone(&store), Arc::clone(&chain), scene.clone(), extra).await;
    let two = World::of(store, chain, scene, extra).await;
    Some((Arc::new(one), Arc::new(two)))
}

/// A relayer whose death is sudden: everything that it runs on is gone at once.
struct Mortal {
    runtime: tokio::runtime::Runtime,
    relayer: RunningRelayer,
}

impl Mortal {
    async fn new(store: &Arc<Store>, chain: &Arc<FakeChain>, scene: &Scene) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let (store, chain, scene) = (Arc::clone(store), Arc::clone(chain), scene.clone());
        let relayer = runtime
            .spawn(async move { start(&store, &chain, &scene, QUICK).await.unwrap() })
            .await
            .unwrap();
        Self { runtime, relayer }
    }

    async fn settle(&self, body: &serde_json::Value) -> SettleResponse {
        let response = reqwest::Client::new()
            .post(format!("{}/settle", self.relayer.url()))
            .body(body.to_string())
            .send()
            .await
            .unwrap();
        response.json().await.unwrap()
    }

    fn dies(self) {
        self.runtime.shutdown_background();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_payment_to_both_at_once_is_one_transaction_and_one_success() {
    let Some((one, two)) = two(Scene::default(), PATIENT).await else {
        return;
    };
    for nonce in 1..20 {
        let body = one.body(nonce);
        let (first, second) = tokio::join!(one.settle(&body), two.settle(&body));
        let successes = [&first, &second].iter().filter(|a| a.success).count();
        assert_eq!(successes, 1, "{first:?} {second:?}");
        let loser = if first.success { &second } else { &first };
        assert_eq!(reason(loser), "duplicate_settlement");
        assert_eq!(first.transaction, second.transaction);
    }
    assert_eq!(one.chain.state().transactions().len(), 19);
    one.written_ahead();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_crowd_to_both_at_once_is_paid_once() {
    let Some((one, two)) = two(crowd(), PATIENT).await else {
        return;
    };
    let (first, second) = tokio::join!(settle_all(&one, 4), settle_all(&two, 4));
    for ((nonce, first), (_, second)) in first.iter().zip(&second) {
        let successes = [first, second].iter().filter(|a| a.success).count();
        assert_eq!(successes, 1, "{nonce}: {first:?} {second:?}");
    }
    let state = one.chain.state();
    assert_eq!(state.paid(), 64);
    let carried: usize = state.wires.values().map(|wire| wire.payments.len()).sum();
    assert_eq!(carried, 64, "a payment was signed twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_one_settles_the_other_knows() {
    let Some((one, two)) = two(Scene::default(), QUICK).await else {
        return;
    };
    one.chain.state().fate = Fate::Processed;
    let body = one.body(1);
    assert_eq!(reason(&one.settle(&body).await), "settlement_pending");
    assert_eq!(invalid(&two.verify(&body).await), "duplicate_settlement");
    let pending = two.settle(&body).await;
    assert_eq!(reason(&pending), "settlement_pending");
    assert!(!pending.transaction.is_empty());
    // Another payment on its nonce.
    let mut other = one.scene.intent(1);
    other.resource = [9; 16];
    let other = one.scene.body(other);
    assert_eq!(
        reason(&two.settle(&other).await),
        "invalid_sluice_split_nonce_conflict"
    );
    one.chain.state().fate = Fate::Confirmed;
    two.until_state(1, "confirmed").await;
    // Whoever asks first, wherever.
    assert!(two.settle(&body).await.success);
    assert_eq!(reason(&one.settle(&body).await), "duplicate_settlement");
    assert_eq!(one.chain.state().transactions().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_dead_relayer_left_open_is_finished_by_another() {
    let Some(store) = Store::postgres().await else {
        return;
    };
    let (store, scene) = (Arc::new(store), Scene::default());
    let chain = Arc::new(FakeChain::new(&scene));
    chain.state().ledger = Some(store.url().to_owned());
    chain.state().fate = Fate::Lost;
    let one = Mortal::new(&store, &chain, &scene).await;
    let body = |nonce| scene.body(scene.intent(nonce));
    for nonce in [1, 2] {
        assert_eq!(
            reason(&one.settle(&body(nonce)).await),
            "settlement_pending"
        );
    }
    let two = World::of(Arc::clone(&store), Arc::clone(&chain), scene.clone(), QUICK).await;
    // While the one lives, the other leaves its transactions alone.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let owners = "SELECT count(DISTINCT replica) FROM transactions WHERE outcome = 'open'";
    assert_eq!(store.count(owners).await, 1);
    one.dies();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let begun = std::time::Instant::now();
    // The lease runs out, and one payment's blockhash dies on top of it.
    chain.state().height += LIFE + 1;
    chain.state().fate = Fate::Confirmed;
    let first = chain.state().transactions()[0];
    chain.state().fates.insert(first, Fate::Lost);
    for _ in 0..60 {
        let states = [two.intent(1).await.state, two.intent(2).await.state];
        if states.iter().all(|state| state == "confirmed") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(5),
        "before the lease was over"
    );
    let redeemed = two.settle(&body(2)).await;
    assert!(redeemed.success, "{redeemed:?}");
    let again = two.settle(&body(1)).await;
    assert!(again.success, "{again:?}");
    assert_ne!(again.transaction, first.to_string());
    assert_eq!(chain.state().paid(), 2);
    two.written_ahead();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relayer_that_stops_hands_over_at_once() {
    let Some((one, two)) = two(Scene::default(), QUICK).await else {
        return;
    };
    let chain = Arc::clone(&one.chain);
    chain.state().fate = Fate::Lost;
    let body = one.body(1);
    assert_eq!(reason(&one.settle(&body).await), "settlement_pending");
    Arc::into_inner(one).unwrap().stop().await;
    chain.state().fate = Fate::Confirmed;
    two.until_state(1, "confirmed").await;
    assert!(two.settle(&body).await.success);
}
